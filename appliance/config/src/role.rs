//! The daemons by name.

use std::fmt;

/// One of the appliance's daemons. `engined` runs once for each slot, `inspectd` and
/// `scand` once for each artefact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The keeper of the log.
    Recordd,
    /// The only opener of media.
    Intaked,
    /// The keeper of trust, quarantine and shelf.
    Updaterd,
    /// The judge of one artefact; a process for each.
    Inspectd,
    /// The one that starts the facility's scanner; a process for each artefact.
    Scand,
    /// The language model.
    Engined,
    /// The keeper of the documents.
    Corpusd,
    /// The HTTP edge.
    Gatewayd,
}

impl Role {
    /// All daemons, in the order in which they start.
    pub const ALL: [Self; 8] = [
        Self::Recordd,
        Self::Updaterd,
        Self::Intaked,
        Self::Inspectd,
        Self::Scand,
        Self::Engined,
        Self::Corpusd,
        Self::Gatewayd,
    ];

    /// The daemon's name without prefix, such as `recordd`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Recordd => "recordd",
            Self::Intaked => "intaked",
            Self::Updaterd => "updaterd",
            Self::Inspectd => "inspectd",
            Self::Scand => "scand",
            Self::Engined => "engined",
            Self::Corpusd => "corpusd",
            Self::Gatewayd => "gatewayd",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
