//! Messages of `cloister-inspectd`, the caged process that judges one artefact and ends.
//!
//! The artefact's descriptor follows the question. The process says [`Started::Started`] when it has both and
//! the cage is shut; what ends it from then on, the artefact brought about.

use cloister_domain::{ByteCount, Class, Coded, printable};
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

/// The one answer. A process that was taken over by what it read may say anything here; see
/// [`Answer::believed`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// What was found.
    pub verdict: Result<Accepted, Problem>,
    /// From the question to the answer.
    pub microseconds: u64,
    /// The largest resident size of the process.
    pub peak_bytes: ByteCount,
}

/// Longest code and longest message of a refusal that are passed on, in letters.
const CODE_MAX: usize = 64;
const MESSAGE_MAX: usize = 240;

impl Answer {
    /// The verdict, as far as it may be recorded and shown: a refusal with a code that inspections
    /// have, a class that goes with it, and one bounded line of text; else that of a process that came
    /// to no answer.
    ///
    /// # Errors
    /// The refusal, as a fault only if the process could not read the artefact.
    pub fn believed(self) -> Result<Accepted, Problem> {
        self.verdict.map_err(|told| {
            if !is_code(&told.code) {
                return Problem::of(&Ended::Crashed);
            }
            let class = if told.code == UNREADABLE { Class::Fault } else { Class::Refused };
            let message = printable(told.message.as_bytes());
            Problem::new(class, &told.code, message.chars().take(MESSAGE_MAX).collect::<String>())
        })
    }
}

/// The code of an artefact that could not be read, which says nothing about it.
const UNREADABLE: &str = "inspect.unreadable";

/// Whether `code` is written as the codes of inspections are.
fn is_code(code: &str) -> bool {
    let word = |word: &str| {
        let plain = |letter: u8| matches!(letter, b'a'..=b'z' | b'0'..=b'9' | b'-');
        !word.is_empty() && word.bytes().all(plain)
    };
    let words = code.strip_prefix("inspect.");
    code.len() <= CODE_MAX && words.is_some_and(|words| words.split('.').all(word))
}

/// An artefact that nothing was found against.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// What it is.
    pub kind: Kind,
    /// Tensors that hold weights.
    pub tensors: u64,
}

/// What an artefact is. A closed list: whoever asks records it, and the process that says it has read
/// what nobody vouches for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Weights in GGUF, version 3.
    Gguf,
    /// Weights in safetensors.
    Safetensors,
    /// A `tokenizer.json` that the appliance's own tokenizer takes.
    Tokenizer,
    /// A message format as data, `template.json`.
    Template,
    /// A JSON document.
    Json,
    /// JSON documents, one a line.
    JsonLines,
    /// Plain text.
    Text,
}

impl Kind {
    /// Its name in records and answers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gguf => "gguf",
            Self::Safetensors => "safetensors",
            Self::Tokenizer => "tokenizer",
            Self::Template => "template",
            Self::Json => "json",
            Self::JsonLines => "json-lines",
            Self::Text => "text",
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: &str, class: Class, message: &str) -> Problem {
        let verdict = Err(Problem::new(class, code, message));
        let answer = Answer { verdict, microseconds: 1, peak_bytes: ByteCount(1) };
        answer.believed().expect_err("refused")
    }

    #[test]
    fn a_refusal_is_passed_on_in_bounds() {
        let told = refused("inspect.gguf.bounds", Class::Refused, "a tensor reaches too far");
        let same = Problem::new(Class::Refused, "inspect.gguf.bounds", "a tensor reaches too far");
        assert_eq!(told, same);
        let told = refused("inspect.json", Class::Refused, "a\n\u{1b}[2Jb\u{202e}c");
        assert_eq!(told.message, "a\\n\\u{1b}[2Jb\\u{202e}c");
        let told = refused("inspect.json", Class::Refused, &"é".repeat(10_000));
        assert_eq!(told.message, "é".repeat(MESSAGE_MAX));
    }

    #[test]
    fn a_code_that_no_inspection_has_is_none() {
        let longest = format!("inspect.{}", "a".repeat(CODE_MAX - 8));
        assert_eq!(refused(&longest, Class::Refused, "").code, longest);
        for code in [
            "",
            "inspect.",
            "inspect..a",
            "inspect.a.",
            "bundle.digest",
            "inspect",
            "inspect.A",
            "inspect.a b",
            "inspect.a\n",
            "inspect.\u{1b}[2J",
            "inspect.é",
            &format!("{longest}a"),
        ] {
            let told = refused(code, Class::Refused, "good words");
            assert_eq!(told, Problem::of(&Ended::Crashed), "{code:?}");
        }
    }

    #[test]
    fn only_what_could_not_be_read_is_no_refusal() {
        for class in [Class::Refused, Class::Busy, Class::Fault, Class::Corrupt] {
            assert_eq!(refused("inspect.json", class, "").class, Class::Refused);
            assert_eq!(refused(UNREADABLE, class, "").class, Class::Fault);
        }
    }
}
