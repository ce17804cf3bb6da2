//! The acts that are interrupted: from which state, by which words, and how the old outcome and the new
//! one are told apart.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::{
    disk::{Allowed, Facts, standing},
    fixture::{Base, CANARY, Fixture, SHADOW, text},
    log::Entry,
    sight::Expected,
    tree::Tree,
};

/// An act.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scene {
    /// Its name.
    pub(crate) name: &'static str,
    /// Where it begins.
    pub(crate) base: Base,
    words: fn(&Fixture) -> Result<Vec<String>>,
    /// Whether the log says that it has happened.
    is_new: fn(&Fixture, &Facts) -> bool,
    /// The release that is served before, and the one after, counted from 1; 0 for none.
    served: (usize, usize),
    /// Aspects that may be as after the act while it is not done, because a record of their own says so.
    early: &'static [&'static str],
    /// What has to be done before an act that was cut off is asked for again.
    again: fn(&Fixture) -> Result<Vec<Vec<String>>>,
    /// Whether a record that the operator is told of is this act's; none for an act that tells of none.
    record: Option<fn(&Fixture, &Entry) -> bool>,
}

/// Every act that writes.
pub(crate) const SCENES: [Scene; 21] = [
    Scene {
        name: "enrol",
        base: Base::Bare,
        words: |fixture| {
            words(&["enrol", &text(&fixture.root_file())?, "--confirm", fixture.root_digest()])
        },
        is_new: |_, facts| facts.count("anchor-enrolment") > 0,
        served: (0, 0),
        // Behind its record it goes on when it is asked for again, and nothing else is recorded before.
        early: &["the act"],
        again: nothing,
        record: Some(|fixture, entry| {
            is_about(entry, "anchor-enrolment", "trust-root", fixture.root_digest())
        }),
    },
    Scene {
        name: "import-first",
        base: Base::Enrolled,
        words: |fixture| words(&["import", &text(fixture.volume(1, 1))?]),
        is_new: |fixture, facts| facts.accepted(fixture.generation(1)),
        served: (0, 0),
        early: &["the trust"],
        again: nothing,
        record: None,
    },
    Scene {
        name: "import",
        base: Base::First,
        words: |fixture| words(&["import", &text(fixture.volumes(2))?]),
        is_new: |fixture, facts| facts.accepted(fixture.generation(2)),
        served: (1, 1),
        early: &["the trust"],
        again: nothing,
        record: None,
    },
    Scene {
        name: "import-rest",
        base: Base::Parked,
        words: |fixture| words(&["import", &text(fixture.volume(2, 2))?]),
        is_new: |fixture, facts| facts.accepted(fixture.generation(2)),
        served: (1, 1),
        early: &[],
        again: nothing,
        record: None,
    },
    Scene {
        name: "discard",
        base: Base::Parked,
        words: |_| words(&["discard", "2"]),
        is_new: |_, facts| facts.has_act("import/2/refused"),
        served: (1, 1),
        early: &[],
        again: nothing,
        record: None,
    },
    Scene {
        name: "evaluate",
        base: Base::Half,
        words: |_| words(&["evaluate", "2"]),
        is_new: |_, facts| facts.count("evaluation-asked") > 0,
        served: (1, 1),
        early: &[],
        again: nothing,
        record: None,
    },
    Scene {
        name: "approve",
        base: Base::Half,
        words: |fixture| words(&["approve", "2", "--key", &text(&fixture.key("bob"))?]),
        is_new: |_, facts| facts.decided("bob", "approve"),
        served: (1, 1),
        early: &[],
        again: nothing,
        record: None,
    },
    Scene {
        name: "reject",
        base: Base::Half,
        words: |fixture| words(&["approve", "2", "--reject", "--key", &text(&fixture.key("bob"))?]),
        is_new: |_, facts| facts.has_act("import/2/refused"),
        served: (1, 1),
        early: &[],
        again: nothing,
        record: None,
    },
    Scene {
        name: "activate",
        base: Base::Approved,
        words: |_| words(&["activate", "2"]),
        is_new: |fixture, facts| facts.last_promoted() == Some(fixture.generation(2)),
        served: (1, 2),
        early: &[],
        again: nothing,
        record: Some(|fixture, entry| is_promotion(entry, fixture.generation(2))),
    },
    Scene {
        name: "rollback",
        base: Base::Second,
        words: |_| words(&["rollback"]),
        is_new: |fixture, facts| facts.last_promoted() == Some(fixture.generation(1)),
        served: (2, 1),
        early: &[],
        again: nothing,
        record: Some(|fixture, entry| is_promotion(entry, fixture.generation(1))),
    },
    Scene {
        name: "pin",
        base: Base::Second,
        words: |fixture| words(&["pin", fixture.generation(1)]),
        is_new: |_, facts| facts.last_pin() == Some(true),
        served: (2, 2),
        early: &[],
        again: nothing,
        record: None,
    },
    Scene {
        name: "unpin-sweep",
        base: Base::Pinned,
        words: |fixture| words(&["unpin", fixture.generation(1)]),
        is_new: |_, facts| facts.last_pin() == Some(false),
        served: (3, 3),
        early: &[],
        again: nothing,
        record: None,
    },
    Scene {
        name: "scrub",
        base: Base::Damaged,
        words: |_| words(&["scrub"]),
        // A pass that was cut off between the record and the object finds it again.
        is_new: |fixture, facts| {
            facts.count("damage") > 0 && facts.shelf.isolated.contains(fixture.damaged())
        },
        served: (2, 1),
        early: &[],
        again: nothing,
        record: None,
    },
    Scene {
        name: "canary",
        base: Base::Approved,
        words: |_| words(&CANARY),
        is_new: |_, facts| facts.has_outcome("begun"),
        served: (1, 1),
        early: &[],
        again: nothing,
        record: None,
    },
    Scene {
        name: "canary-end",
        base: Base::Canary,
        words: |_| words(&["trial", "end"]),
        is_new: |_, facts| facts.count("trial-ended") > 0,
        served: (1, 1),
        early: &[],
        again: nothing,
        record: None,
    },
    Scene {
        name: "shadow",
        base: Base::Half,
        words: |_| words(&SHADOW),
        is_new: |_, facts| facts.count("shadow-started") > 0,
        served: (1, 1),
        early: &[],
        again: nothing,
        record: None,
    },
    Scene {
        name: "shadow-end",
        base: Base::Shadow,
        words: |_| words(&["trial", "end"]),
        is_new: |_, facts| facts.count("trial-ended") > 0,
        served: (1, 1),
        early: &[],
        again: nothing,
        record: None,
    },
    Scene {
        name: "authorise",
        base: Base::HalfAllowed,
        words: |fixture| {
            words(&["authorise", fixture.generation(3), "--key", &text(&fixture.key("bob"))?])
        },
        is_new: |_, facts| facts.count("downgrade") > 1,
        served: (4, 4),
        early: &[],
        again: nothing,
        record: None,
    },
    Scene {
        name: "downgrade",
        base: Base::Allowed,
        words: |fixture| words(&["rollback", "--to", fixture.generation(3)]),
        is_new: |fixture, facts| facts.last_promoted() == Some(fixture.generation(3)),
        served: (4, 3),
        early: &[],
        again: leaves,
        record: Some(|fixture, entry| is_promotion(entry, fixture.generation(3))),
    },
    Scene {
        name: "rebuild",
        base: Base::Lost,
        words: |_| words(&["rebuild"]),
        is_new: |_, facts| facts.count("state-rebuilt") > 0,
        served: (2, 2),
        // Behind its record it is asked for again, and everything else is refused until then.
        early: &["the act"],
        again: nothing,
        record: Some(|_, entry| entry.event == "state-rebuilt"),
    },
    Scene {
        name: "trust",
        base: Base::Second,
        words: |fixture| words(&["import", &text(fixture.stick())?]),
        is_new: |fixture, facts| facts.count("trust-update") > fixture.updates(),
        served: (2, 2),
        early: &[],
        again: nothing,
        record: None,
    },
];

fn nothing(_fixture: &Fixture) -> Result<Vec<Vec<String>>> {
    Ok(Vec::new())
}

/// An intent uses up the leaves that it rests on, whatever comes of it.
fn leaves(fixture: &Fixture) -> Result<Vec<Vec<String>>> {
    let leave = |person| {
        words(&["authorise", fixture.generation(3), "--key", &text(&fixture.key(person))?])
    };
    ["ada", "bob"].into_iter().map(leave).collect()
}

fn is_about(entry: &Entry, event: &str, name: &str, digest: &str) -> bool {
    entry.event == event && entry.subjects.get(name).is_some_and(|about| about == digest)
}

fn is_promotion(entry: &Entry, release: &str) -> bool {
    entry.facts["outcome"] == "promoted" && is_about(entry, "activation-outcome", "bundle", release)
}

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

    /// The words of what has to be done before an act that was cut off is asked for again.
    ///
    /// # Errors
    /// When a path is not UTF-8.
    pub(crate) fn again(&self, fixture: &Fixture) -> Result<Vec<Vec<String>>> {
        (self.again)(fixture)
    }

    /// Whether the act is done when its command ends with this code: a scrub that found damage says so.
    pub(crate) fn ends_with(&self, code: &str) -> bool {
        self.base == Base::Damaged && code == "shelf.damaged"
    }

    /// What may be wrong on the disk because the scene begins so.
    pub(crate) fn allowed(&self, fixture: &Fixture) -> Allowed {
        let damaged = (self.base == Base::Damaged).then(|| fixture.damaged().to_owned());
        Allowed { damaged, lost: self.base == Base::Lost }
    }

    /// What may be served at any moment of the act.
    pub(crate) fn look(&self, fixture: &Fixture) -> Look {
        let name = |release| (release > 0).then(|| fixture.generation(release).to_owned());
        Look { served: [name(self.served.0), name(self.served.1)], allowed: self.allowed(fixture) }
    }

    /// What became of the act; an error where it is neither.
    ///
    /// # Errors
    /// When an aspect of the state is neither as before the act nor as after it, or some are as before and
    /// others as after.
    pub(crate) fn outcome(
        &self,
        fixture: &Fixture,
        expected: &Expected,
        facts: &Facts,
    ) -> Result<Outcome> {
        expected.outcome(facts, self.early, |facts| (self.is_new)(fixture, facts))
    }

    /// Whether the act has happened.
    pub(crate) fn is_done(&self, fixture: &Fixture, facts: &Facts) -> bool {
        (self.is_new)(fixture, facts)
    }

    /// Whether a release is served all the time.
    pub(crate) const fn serves(&self) -> bool {
        self.served.0 > 0 && self.served.1 > 0
    }

    /// Whether the operator is told which record the act has.
    pub(crate) const fn tells_of_a_record(&self) -> bool {
        self.record.is_some()
    }

    /// Whether `entry` may be the record that the operator is told of.
    pub(crate) fn is_record(&self, fixture: &Fixture, entry: &Entry) -> bool {
        self.record.is_none_or(|is| is(fixture, entry))
    }
}

/// What may be served while an act goes on.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    served: [Option<String>; 2],
    allowed: Allowed,
}

impl Look {
    /// Looks at the shelf as it is now, whoever is at work there or was cut off.
    ///
    /// # Errors
    /// When what is served is neither the old release nor the new one, or a release is not whole.
    pub(crate) fn at(&self, tree: &dyn Tree, shelf: &Path) -> Result<()> {
        let active = standing(tree, shelf, &self.allowed)?.active;
        ensure!(
            self.served.contains(&active),
            "{active:?} is served, which is neither old nor new"
        );
        Ok(())
    }

    /// As [`Look::at`], of the pointer alone.
    ///
    /// # Errors
    /// When it points to neither.
    pub(crate) fn at_pointer(&self, tree: &dyn Tree, shelf: &Path) -> Result<()> {
        let target = tree.link(&shelf.join("active"))?;
        let name = target.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
        let known = self.served.iter().any(|served| served.as_deref() == name);
        ensure!(known, "{target:?} is served, which is neither old nor new");
        Ok(())
    }
}
