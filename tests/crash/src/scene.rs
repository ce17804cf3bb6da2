//! The acts that are interrupted: from which state, by which words, and how the old outcome and the new
//! one are told apart.

use anyhow::{Result, ensure};

use crate::{
    disk::{Allowed, Facts},
    fixture::{Base, Fixture, text},
};

/// An act.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scene {
    /// Its name.
    pub(crate) name: &'static str,
    /// Where it begins.
    pub(crate) base: Base,
    words: fn(&Fixture) -> Result<Vec<String>>,
    /// Whether it has happened.
    is_new: fn(&Fixture, &Facts) -> bool,
    /// The release that is served before, and the one after, counted from 1; 0 for none.
    served: (usize, usize),
}

/// Every act that writes.
pub(crate) const SCENES: [Scene; 13] = [
    Scene {
        name: "enrol",
        base: Base::Bare,
        words: |fixture| {
            words(&["enrol", &text(&fixture.root_file())?, "--confirm", fixture.root_digest()])
        },
        is_new: |_, facts| facts.enrolled,
        served: (0, 0),
    },
    Scene {
        name: "import-first",
        base: Base::Enrolled,
        words: |fixture| words(&["import", &text(fixture.volume(1, 1))?]),
        is_new: |fixture, facts| facts.accepted(fixture.generation(1)),
        served: (0, 0),
    },
    Scene {
        name: "import",
        base: Base::First,
        words: |fixture| words(&["import", &text(fixture.volumes(2))?]),
        is_new: |fixture, facts| facts.accepted(fixture.generation(2)),
        served: (1, 1),
    },
    Scene {
        name: "import-rest",
        base: Base::Parked,
        words: |fixture| words(&["import", &text(fixture.volume(2, 2))?]),
        is_new: |fixture, facts| facts.accepted(fixture.generation(2)),
        served: (1, 1),
    },
    Scene {
        name: "discard",
        base: Base::Parked,
        words: |_| words(&["discard", "2"]),
        is_new: |_, facts| facts.has_act("import/2/refused"),
        served: (1, 1),
    },
    Scene {
        name: "evaluate",
        base: Base::Half,
        words: |_| words(&["evaluate", "2"]),
        is_new: |_, facts| facts.count("evaluation-asked") > 0,
        served: (1, 1),
    },
    Scene {
        name: "approve",
        base: Base::Half,
        words: |fixture| words(&["approve", "2", "--key", &text(&fixture.key("bob"))?]),
        is_new: |_, facts| facts.approvals.contains(&(2, "bob".to_owned())),
        served: (1, 1),
    },
    Scene {
        name: "reject",
        base: Base::Half,
        words: |fixture| words(&["approve", "2", "--reject", "--key", &text(&fixture.key("bob"))?]),
        is_new: |_, facts| facts.has_act("import/2/refused"),
        served: (1, 1),
    },
    Scene {
        name: "activate",
        base: Base::Approved,
        words: |_| words(&["activate", "2"]),
        is_new: |fixture, facts| facts.active.as_deref() == Some(fixture.generation(2)),
        served: (1, 2),
    },
    Scene {
        name: "rollback",
        base: Base::Second,
        words: |_| words(&["rollback"]),
        is_new: |fixture, facts| facts.active.as_deref() == Some(fixture.generation(1)),
        served: (2, 1),
    },
    Scene {
        name: "pin",
        base: Base::Second,
        words: |fixture| words(&["pin", fixture.generation(1)]),
        is_new: |fixture, facts| facts.pins.contains(fixture.generation(1)),
        served: (2, 2),
    },
    Scene {
        name: "unpin-sweep",
        base: Base::Pinned,
        words: |fixture| words(&["unpin", fixture.generation(1)]),
        is_new: |fixture, facts| !facts.pins.contains(fixture.generation(1)),
        served: (3, 3),
    },
    Scene {
        name: "scrub",
        base: Base::Damaged,
        words: |_| words(&["scrub"]),
        is_new: |fixture, facts| {
            let left = !facts.releases.contains(fixture.generation(2));
            left && facts.isolated.contains(fixture.damaged())
        },
        served: (2, 1),
    },
];

fn words(words: &[&str]) -> Result<Vec<String>> {
    Ok(words.iter().map(|word| (*word).to_owned()).collect())
}

/// Which of the two outcomes there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// As before the act.
    Old,
    /// The act has happened.
    New,
}

impl Outcome {
    /// In one word.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Old => "old",
            Self::New => "new",
        }
    }
}

impl Scene {
    /// The operator's words.
    ///
    /// # Errors
    /// When a path is not UTF-8.
    pub(crate) fn words(&self, fixture: &Fixture) -> Result<Vec<String>> {
        (self.words)(fixture)
    }

    /// Whether the act is done when its command ends with this code: a scrub that found damage says so.
    pub(crate) fn ends_with(&self, code: &str) -> bool {
        self.base == Base::Damaged && code == "shelf.damaged"
    }

    /// What may be wrong on the disk because the scene begins so.
    pub(crate) fn allowed(&self, fixture: &Fixture) -> Allowed {
        let damaged = (self.base == Base::Damaged).then(|| fixture.damaged().to_owned());
        Allowed { damaged }
    }

    /// What became of the act; an error where it is neither.
    ///
    /// # Errors
    /// When a release is served that is neither the old one nor the new one.
    pub(crate) fn outcome(&self, fixture: &Fixture, facts: &Facts) -> Result<Outcome> {
        let name = |release| (release > 0).then(|| fixture.generation(release));
        let served = [name(self.served.0), name(self.served.1)];
        let active = facts.active.as_deref();
        ensure!(served.contains(&active), "{active:?} is served, which is neither old nor new");
        let new = (self.is_new)(fixture, facts);
        let serves = active == if new { served[1] } else { served[0] };
        ensure!(
            serves,
            "{active:?} is served, and the act is {}",
            if new { "done" } else { "not" }
        );
        Ok(if new { Outcome::New } else { Outcome::Old })
    }
}
