//! Where things lie under the state and runtime folders.

use std::path::PathBuf;

use cloister_domain::Slot;

use crate::{Paths, Role};

impl Paths {
    /// The socket of a daemon that runs once; the engines' are [`Paths::engine_socket`].
    ///
    /// For `gatewayd` it is the administration socket; the API listens on `gateway.listen`.
    ///
    /// # Panics
    /// If `role` is [`Role::Engined`], which has one socket for each slot.
    #[must_use]
    pub fn socket(&self, role: Role) -> PathBuf {
        assert_ne!(role, Role::Engined, "an engine's socket is named by its slot");
        match role {
            Role::Gatewayd => self.runtime.join("gatewayd-admin.sock"),
            Role::Recordd
            | Role::Intaked
            | Role::Updaterd
            | Role::Inspectd
            | Role::Scand
            | Role::Engined
            | Role::Corpusd => self.runtime.join(format!("{role}.sock")),
        }
    }

    /// The socket of the engine in `slot`.
    #[must_use]
    pub fn engine_socket(&self, slot: Slot) -> PathBuf {
        self.runtime.join(format!("engined-{slot}.sock"))
    }

    /// The log of signed records; recordd's alone.
    #[must_use]
    pub fn record(&self) -> PathBuf {
        self.state.join("record")
    }

    /// Trust metadata as received; updaterd's alone.
    #[must_use]
    pub fn trust(&self) -> PathBuf {
        self.state.join("trust")
    }

    /// Space that updaterd holds for the day on which the disk is full.
    #[must_use]
    pub fn reserve(&self) -> PathBuf {
        self.state.join("reserve")
    }

    /// Files being received, one folder for each import; written by intaked, adopted by updaterd.
    #[must_use]
    pub fn quarantine(&self) -> PathBuf {
        self.state.join("quarantine")
    }

    /// Objects, generations and the `active` link; updaterd writes, all others read.
    #[must_use]
    pub fn shelf(&self) -> PathBuf {
        self.state.join("shelf")
    }

    /// The state machines of imports and activations; updaterd's alone.
    #[must_use]
    pub fn supply_database(&self) -> PathBuf {
        self.state.join("supply.db")
    }

    /// Documents, postings and vectors; corpusd's alone.
    #[must_use]
    pub fn corpus(&self) -> PathBuf {
        self.state.join("corpus")
    }

    /// What a trial came to so far, in counts; gatewayd writes, updaterd reads.
    #[must_use]
    pub fn trial_counts(&self) -> PathBuf {
        self.runtime.join("gatewayd").join("trial.json")
    }

    /// API keys (hashed); gatewayd's alone.
    #[must_use]
    pub fn gateway(&self) -> PathBuf {
        self.state.join("gateway")
    }
}

#[cfg(test)]
mod tests {
    use crate::{Config, Role};

    #[test]
    fn every_socket_lies_in_the_runtime_folder() {
        let paths = Config::parse("[paths]\nruntime = \"/r\"").expect("valid").paths;
        assert_eq!(paths.socket(Role::Recordd).as_os_str(), "/r/recordd.sock");
        assert_eq!(paths.socket(Role::Gatewayd).as_os_str(), "/r/gatewayd-admin.sock");
        assert_eq!(paths.engine_socket(cloister_domain::Slot::B).as_os_str(), "/r/engined-b.sock");
    }
}
