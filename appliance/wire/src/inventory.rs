//! What an appliance holds, as its connected side is told: asked of updaterd, over the socket that
//! also takes [`crate::supply`].

use serde::{Deserialize, Serialize};

/// Content ids of one page.
pub const PAGE_IDS: usize = 65_536;

/// A request. Each has one answer, a [`crate::Reply`] of [`Page`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// A page of the inventory.
    Inventory {
        /// Its first id, counted from 0.
        from: u64,
    },
}

/// A page of the inventory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// The record that names the whole list by its digest, signed by the host key.
    pub envelope: String,
    /// Ids of the whole list.
    pub count: u64,
    /// Content ids, ascending, 32 bytes each, as base64.
    pub base64: String,
}
