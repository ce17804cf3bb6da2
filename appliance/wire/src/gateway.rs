//! Messages of `cloister-gatewayd`'s administration socket: API keys.

use cloister_domain::{Label, LabelSet, Principal, Sensitive};
use serde::{Deserialize, Serialize, Serializer};

/// The most characters of a key's value.
pub const KEY_CHARACTERS_MAX: usize = 512;

/// Whether a given value may be a key's: printable ASCII without spaces, neither empty nor endless.
/// How long one must be is a setting of the gateway's.
#[must_use]
pub fn is_key_value(value: &str) -> bool {
    (1..=KEY_CHARACTERS_MAX).contains(&value.len())
        && value.bytes().all(|byte| byte.is_ascii_graphic())
}

fn given_onto_socket<S: Serializer>(
    value: &Option<Sensitive<String>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => Sensitive::onto_socket(value, serializer),
        None => serializer.serialize_none(),
    }
}

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
        /// The value, where it is not to be drawn; see [`is_key_value`].
        #[serde(default, serialize_with = "given_onto_socket")]
        value: Option<Sensitive<String>>,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_given_value_arrives_and_an_old_request_has_none() {
        let request = |value: Option<&str>| Request::CreateKey {
            principal: "ada".parse().unwrap(),
            labels: LabelSet::new(),
            value: value.map(|value| Sensitive::new(value.to_owned())),
        };
        for value in [None, Some("sixteen-or-more!")] {
            let text = serde_json::to_string(&request(value)).unwrap();
            assert_eq!(serde_json::from_str::<Request>(&text).unwrap(), request(value));
        }
        let old = r#"{"create-key":{"principal":"ada","labels":[]}}"#;
        assert_eq!(serde_json::from_str::<Request>(old).unwrap(), request(None));
    }

    #[test]
    fn a_value_is_neither_empty_nor_endless_and_prints() {
        assert!(is_key_value("k"));
        assert!(is_key_value(&"k".repeat(KEY_CHARACTERS_MAX)));
        for bad in [
            String::new(),
            "k".repeat(KEY_CHARACTERS_MAX + 1),
            "with a space in it".to_owned(),
            "with\na line break".to_owned(),
            "schlüssel-mit-umlaut".to_owned(),
        ] {
            assert!(!is_key_value(&bad));
        }
    }
}
