//! The daemons of an appliance, in the order in which they are started.

use std::path::PathBuf;

use cloister_config::{Config, Role};
use cloister_domain::Slot;

/// One supervised process: a daemon, and for engines its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Keeper of the log.
    Recordd,
    /// Keeper of trust, quarantine and shelf.
    Updaterd,
    /// Reader of media.
    Intaked,
    /// An engine.
    Engined(Slot),
    /// Keeper of the documents.
    Corpusd,
    /// The HTTP edge.
    Gatewayd,
}

impl Unit {
    /// Every unit, in starting order.
    pub const ALL: [Self; 7] = [
        Self::Recordd,
        Self::Updaterd,
        Self::Intaked,
        Self::Engined(Slot::A),
        Self::Engined(Slot::B),
        Self::Corpusd,
        Self::Gatewayd,
    ];

    /// Its name in paths: `recordd`, `engined-a`, …
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Recordd => "recordd",
            Self::Updaterd => "updaterd",
            Self::Intaked => "intaked",
            Self::Engined(Slot::A) => "engined-a",
            Self::Engined(Slot::B) => "engined-b",
            Self::Corpusd => "corpusd",
            Self::Gatewayd => "gatewayd",
        }
    }

    /// The program that it runs.
    #[must_use]
    pub const fn program(self) -> &'static str {
        match self {
            Self::Recordd => "cloister-recordd",
            Self::Updaterd => "cloister-updaterd",
            Self::Intaked => "cloister-intaked",
            Self::Engined(_) => "cloister-engined",
            Self::Corpusd => "cloister-corpusd",
            Self::Gatewayd => "cloister-gatewayd",
        }
    }

    /// The slot, if it is an engine.
    #[must_use]
    pub const fn slot(self) -> Option<Slot> {
        match self {
            Self::Engined(slot) => Some(slot),
            Self::Recordd | Self::Updaterd | Self::Intaked | Self::Corpusd | Self::Gatewayd => None,
        }
    }

    /// The Unix socket that it owns.
    #[must_use]
    pub fn socket(self, config: &Config) -> PathBuf {
        match self {
            Self::Recordd => config.paths.socket(Role::Recordd),
            Self::Updaterd => config.paths.socket(Role::Updaterd),
            Self::Intaked => config.paths.socket(Role::Intaked),
            Self::Engined(slot) => config.paths.engine_socket(slot),
            Self::Corpusd => config.paths.socket(Role::Corpusd),
            Self::Gatewayd => config.paths.socket(Role::Gatewayd),
        }
    }
}
