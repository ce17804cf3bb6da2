//! Trials: a release that answers some people before all (canary), or is asked what others are asked
//! while nobody sees its answers (shadow).
//!
//! The shelf names the one trial under way in its file `trial`, which updaterd writes and gatewayd
//! reads. What it comes to goes the other way: gatewayd counts, updaterd reads the counts. Neither file
//! holds a prompt, an answer or a document.

use std::{collections::BTreeSet, fmt};

use cloister_domain::{Digest, GenerationId, ImportId, Principal};
use serde::{Deserialize, Serialize};

/// The largest of either file, in bytes; a scope of the most principals fits.
pub const FILE_BYTES_MAX: u64 = 64 << 10;
/// The most principals that a scope names.
pub const PRINCIPALS_MAX: usize = 256;

/// What kind of trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// It answers whom its scope covers.
    Canary,
    /// It is asked what they ask; its answers are discarded.
    Shadow,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Canary => "canary",
            Self::Shadow => "shadow",
        })
    }
}

/// Whose questions a trial is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// These principals'.
    Principals(BTreeSet<Principal>),
    /// Those of so many of a thousand principals, chosen by a digest of their names and the release's,
    /// so that a principal stays with one release during a trial and is not chosen in each.
    Share {
        /// 1 to 1000.
        permille: u16,
    },
}

impl Scope {
    /// Whether it names anybody, and not more than it may.
    #[must_use]
    pub fn is_possible(&self) -> bool {
        match self {
            Self::Principals(names) => (1..=PRINCIPALS_MAX).contains(&names.len()),
            Self::Share { permille } => (1..=1000).contains(permille),
        }
    }

    /// Whether the questions of `principal` belong to a trial of `generation`.
    #[must_use]
    pub fn covers(&self, generation: GenerationId, principal: &Principal) -> bool {
        match self {
            Self::Principals(names) => names.contains(principal),
            Self::Share { permille } => {
                let drawn = Digest::of(format!("{generation}/{principal}").as_bytes());
                let [first, second, ..] = *drawn.as_bytes();
                // 65 536 is no multiple of 1 000: some are chosen by 1.5 % more often than others.
                u16::from_be_bytes([first, second]) % 1000 < *permille
            }
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Principals(names) => {
                let names: Vec<&str> = names.iter().map(Principal::as_str).collect();
                f.write_str(&names.join(", "))
            }
            Self::Share { permille } => {
                write!(f, "{}.{} % of the principals", permille / 10, permille % 10)
            }
        }
    }
}

/// The trial under way, as the shelf names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trial {
    /// Its number.
    pub trial: u64,
    /// What kind.
    pub kind: Kind,
    /// The release.
    pub generation: GenerationId,
    /// Whose questions.
    pub scope: Scope,
    /// How long at most: whoever reads this ends it by its own clock, should updaterd not.
    pub seconds: u32,
}

/// What the answers of one release came to. Times are sums, so that means can be had of any number of
/// tallies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tally {
    /// Answers that were written to their end.
    pub answered: u64,
    /// Answers that a fault of the appliance ended or kept from beginning; what callers asked wrongly,
    /// or gave up, is not counted at all.
    pub failed: u64,
    /// Tokens of the answers.
    pub tokens: u64,
    /// From the request to the first piece of the answer, together.
    pub first_piece_microseconds: u64,
    /// From the request to the end of the answer, together.
    pub answer_microseconds: u64,
}

impl Tally {
    /// Both together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self {
            answered: self.answered.saturating_add(other.answered),
            failed: self.failed.saturating_add(other.failed),
            tokens: self.tokens.saturating_add(other.tokens),
            first_piece_microseconds: self
                .first_piece_microseconds
                .saturating_add(other.first_piece_microseconds),
            answer_microseconds: self.answer_microseconds.saturating_add(other.answer_microseconds),
        }
    }

    /// Mean time to the first piece, in microseconds.
    #[must_use]
    pub const fn mean_first_piece(&self) -> Option<u64> {
        self.first_piece_microseconds.checked_div(self.answered)
    }

    /// Mean tokens an answer.
    #[must_use]
    pub const fn mean_tokens(&self) -> Option<u64> {
        self.tokens.checked_div(self.answered)
    }
}

/// What a trial came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// The release on trial.
    pub candidate: Tally,
    /// The active release, meanwhile: in a canary for everybody else, in a shadow for the same questions.
    pub active: Tally,
    /// In a shadow: answers that were the same, character by character.
    pub same: u64,
    /// In a shadow: questions that were not asked a second time because one was being asked still.
    pub passed_over: u64,
}

impl Report {
    /// Both together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self {
            candidate: self.candidate.with(other.candidate),
            active: self.active.with(other.active),
            same: self.same.saturating_add(other.same),
            passed_over: self.passed_over.saturating_add(other.passed_over),
        }
    }
}

/// The counts of one run of gatewayd for one trial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counted {
    /// The trial.
    pub trial: u64,
    /// A number that this run of gatewayd drew.
    pub run: u64,
    /// How long the trial has lasted, as far as gatewayd saw it, in this run and those before; not in files of
    /// before that was told.
    #[serde(default)]
    pub lasted_s: u32,
    /// The counts since the run or the trial began, whichever was later.
    pub report: Report,
}

/// Why a trial ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// It could not begin.
    NotBegun,
    /// An operator ended it.
    Asked,
    /// Its time was over.
    Time,
    /// Too many of its answers failed.
    Failures,
    /// Its engine did not answer for long.
    Engine,
    /// Another release than the one on trial was switched to.
    Switched,
    /// The release on trial became the active one.
    Promoted,
    /// Somebody rejected the release, or had it judged anew.
    Void,
    /// The importer took the release back.
    TakenBack,
    /// The release left the shelf.
    Gone,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotBegun => "could not begin",
            Self::Asked => "an operator ended it",
            Self::Time => "its time was over",
            Self::Failures => "too many of its answers failed",
            Self::Engine => "its engine did not answer",
            Self::Switched => "another release was switched to",
            Self::Promoted => "the release became active",
            Self::Void => "the release was rejected or is judged anew",
            Self::TakenBack => "the importer took the release back",
            Self::Gone => "the release left the shelf",
        })
    }
}

/// A trial as people see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// Its number.
    pub trial: u64,
    /// What kind.
    pub kind: Kind,
    /// The import that brought the release.
    pub import: ImportId,
    /// The release.
    pub generation: GenerationId,
    /// Whose questions.
    pub scope: Scope,
    /// How long it may last.
    pub seconds: u32,
    /// How long it has lasted while the appliance was up.
    pub lasted_s: u32,
    /// What it came to so far, or in the end.
    pub report: Report,
    /// Why it ended; absent while it is under way.
    pub ended: Option<End>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_covers_about_so_many_and_others_in_the_next_trial() {
        let people: Vec<Principal> =
            (0..2000).map(|number| format!("user-{number}").parse().unwrap()).collect();
        let chosen = |release: &[u8], permille| -> Vec<bool> {
            let generation = GenerationId(Digest::of(release));
            let scope = Scope::Share { permille };
            people.iter().map(|person| scope.covers(generation, person)).collect()
        };
        let count = |chosen: &[bool]| chosen.iter().filter(|is| **is).count();
        let first = chosen(b"one", 100);
        assert!((140..=260).contains(&count(&first)), "{} of 2000", count(&first));
        assert_eq!(first, chosen(b"one", 100), "the same people each time");
        assert_ne!(first, chosen(b"two", 100), "others for another release");
        assert_eq!(count(&chosen(b"one", 1000)), 2000, "everybody");
        let wider = chosen(b"one", 200);
        assert!(first.iter().zip(&wider).all(|(was, is)| is >= was), "a wider one takes in all");
    }

    #[test]
    fn a_scope_names_somebody_and_not_too_many() {
        let names = |count: usize| {
            Scope::Principals((0..count).map(|n| format!("p{n}").parse().unwrap()).collect())
        };
        assert!(!names(0).is_possible());
        assert!(names(1).is_possible());
        assert!(names(PRINCIPALS_MAX).is_possible());
        assert!(!names(PRINCIPALS_MAX + 1).is_possible());
        for (permille, possible) in [(0, false), (1, true), (1000, true), (1001, false)] {
            assert_eq!(Scope::Share { permille }.is_possible(), possible);
        }
        let longest = Trial {
            trial: u64::MAX,
            kind: Kind::Canary,
            generation: GenerationId(Digest::of(b"")),
            scope: Scope::Principals(
                (0..PRINCIPALS_MAX).map(|n| format!("{n:0>64}").parse().unwrap()).collect(),
            ),
            seconds: u32::MAX,
        };
        let text = serde_json::to_vec(&longest).unwrap();
        assert!((text.len() as u64) < FILE_BYTES_MAX, "{} bytes", text.len());
    }
}
