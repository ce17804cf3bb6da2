//! Messages of `cloister-gatewayd`'s administration socket: API keys.

use cloister_domain::{Label, LabelSet, Principal, Sensitive};
use serde::{Deserialize, Serialize};

/// A request on the administration socket. Each has one answer, a [`crate::Reply`] of [`Answer`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Make an API key.
    CreateKey {
        /// Who will use it.
        principal: Principal,
        /// What its user may read.
        labels: LabelSet,
    },
    /// List the keys, without their values.
    ListKeys,
    /// Withdraw a key.
    RevokeKey {
        /// The key's public name.
        id: String,
    },
    /// Where the API listens.
    Address,
}

/// A key without its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyInfo {
    /// The key's public name.
    pub id: String,
    /// Who uses it.
    pub principal: Principal,
    /// What its user may read.
    pub labels: Vec<Label>,
}

/// An answer on the administration socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// The key; its value is shown this once and only its hash is kept.
    Created {
        /// The key's public name.
        info: KeyInfo,
        /// The value to send as `Authorization: Bearer VALUE`.
        #[serde(serialize_with = "Sensitive::onto_socket")]
        value: Sensitive<String>,
    },
    /// The keys.
    Keys(Vec<KeyInfo>),
    /// The key is withdrawn.
    Revoked,
    /// The API's address, such as `127.0.0.1:8000`.
    Address(String),
}
