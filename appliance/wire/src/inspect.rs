//! Messages of `cloister-inspectd`, the caged process that judges one artefact and ends.
//!
//! The artefact's descriptor follows the question. The process says [`Started::Started`] when it has both and
//! the cage is shut; what ends it from then on, the artefact brought about.

use cloister_domain::{ByteCount, Class, Coded};
use serde::{Deserialize, Serialize};

use crate::Problem;

/// The one question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// The artefact's path inside the release: its ending must agree with its content.
    pub name: String,
}

/// The cage is shut and the artefact is about to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Started {
    /// Nothing else is said before the answer.
    Started,
}

/// The one answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// What was found.
    pub verdict: Result<Accepted, Problem>,
    /// From the question to the answer.
    pub microseconds: u64,
    /// The largest resident size of the process.
    pub peak_bytes: ByteCount,
}

/// An artefact that nothing was found against.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// What it is: `gguf`, `tokenizer`, `text`, …
    pub kind: String,
    /// Tensors that hold weights.
    pub tensors: u64,
}

/// How the process ended when it gave no answer. The artefact is refused for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// It died: a system call that the cage forbids, too much memory, a panic.
    #[error("the file brought the process down that inspected it, so it is refused")]
    Crashed,
    /// It took too long.
    #[error("the inspection of the file took too long, so it is refused")]
    TimedOut,
}

impl Coded for Ended {
    fn class(&self) -> Class {
        Class::Refused
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Crashed => "inspect.crashed",
            Self::TimedOut => "inspect.timeout",
        }
    }
}

/// Why a file is refused for what a scanner said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Scanned {
    /// It found something.
    #[error("the facility's scanner found something in the file")]
    Infected,
    /// It was asked and gave no verdict.
    #[error("the facility's scanner came to no verdict about the file; see scand in the journal")]
    Failed,
}

impl Coded for Scanned {
    fn class(&self) -> Class {
        Class::Refused
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Infected => "inspect.scan.infected",
            Self::Failed => "inspect.scan.failed",
        }
    }
}

/// Processor seconds that the inspection of so many bytes may take: half a minute, and one for each
/// 32 MiB.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "bounded the line before")]
pub const fn seconds_max(bytes: ByteCount) -> u32 {
    let reading = bytes.0 >> 25;
    // Below the longest time that a timer of the kernel takes.
    if reading > 100_000 { 100_000 } else { 30 + reading as u32 }
}

/// Seconds by the clock that the inspection of so many bytes may take. It runs at idle weight, and a
/// machine that answers questions all the while must not make a good file look bad.
#[must_use]
pub const fn clock_seconds_max(bytes: ByteCount) -> u32 {
    seconds_max(bytes) * 20
}
