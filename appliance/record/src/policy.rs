//! C2SP policies (c2sp.org/tlog-policy): which logs are accepted, and which witnesses must have
//! cosigned a checkpoint.
//!
//! ```text
//! log KEY [URL]
//! witness NAME KEY [URL]
//! group NAME any|all|COUNT NAME...
//! quorum NAME|none
//! ```

use std::collections::{BTreeMap, BTreeSet};

use cloister_domain::{Class, Coded};

use crate::{
    Checkpoint, Keys, Note, RecordError, VerifierKey, WitnessKey,
    note::{COSIGNATURE, ED25519, TypedKey},
};

/// The largest policy, in bytes: hundreds of witnesses, some with post-quantum keys.
const BYTES_MAX: usize = 1 << 20;

/// The most logs, and the most witnesses and groups together.
const MEMBERS_MAX: usize = 1024;

/// The name of the quorum that asks for no witness.
const NONE: &[u8] = b"none";

/// Why a text is no policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// It is larger, or names more, than a policy may.
    #[error("the policy is larger than {BYTES_MAX} bytes or names more than {MEMBERS_MAX} keys")]
    TooLong,
    /// A line holds a character that none may, or has no end.
    #[error("line {line} of the policy holds a control character or does not end with a newline")]
    Text {
        /// The line, from 1.
        line: usize,
    },
    /// A line is none of the four.
    #[error("line {line} of the policy is not `log KEY`, `witness NAME KEY`, `group` or `quorum`")]
    Line {
        /// The line, from 1.
        line: usize,
    },
    /// A key is no verifier key, or is of a type that cannot do what the line wants of it.
    #[error("line {line} of the policy has no verifier key, or one of the other kind")]
    Key {
        /// The line, from 1.
        line: usize,
    },
    /// A key is named twice.
    #[error("line {line} of the policy names a key that a line above names too")]
    KeyTwice {
        /// The line, from 1.
        line: usize,
    },
    /// A name is given twice, or is `none`.
    #[error("line {line} of the policy gives a name that is taken; `none` is taken too")]
    Name {
        /// The line, from 1.
        line: usize,
    },
    /// A name that no line above gives.
    #[error("line {line} of the policy uses a name that no line above it gives")]
    Unknown {
        /// The line, from 1.
        line: usize,
    },
    /// A name is a member twice.
    #[error("line {line} of the policy makes a member of what is a group's member already")]
    MemberTwice {
        /// The line, from 1.
        line: usize,
    },
    /// A group's count is none of 1 to the number of its members.
    #[error("line {line} of the policy counts to what its group does not have; 1 to all of them")]
    Count {
        /// The line, from 1.
        line: usize,
    },
    /// No quorum, or a second one.
    #[error("a policy has one line `quorum`")]
    Quorum,
}

impl Coded for PolicyError {
    fn class(&self) -> Class {
        Class::Refused
    }

    fn code(&self) -> &'static str {
        match self {
            Self::TooLong => "record.policy.too-long",
            Self::Text { .. } => "record.policy.text",
            Self::Line { .. } => "record.policy.line",
            Self::Key { .. } => "record.policy.key",
            Self::KeyTwice { .. } => "record.policy.key-twice",
            Self::Name { .. } => "record.policy.name",
            Self::Unknown { .. } => "record.policy.unknown",
            Self::MemberTwice { .. } => "record.policy.member-twice",
            Self::Count { .. } => "record.policy.count",
            Self::Quorum => "record.policy.quorum",
        }
    }
}

/// Who must have signed a checkpoint before it is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The logs that are accepted; if there is none, the one that the reader knows. One whose key is of a
    /// type that we do not know is absent and accepts nothing.
    logs: Vec<Option<VerifierKey>>,
    /// In the order of their lines, so that a group stands behind its members.
    members: Vec<Member>,
    /// The member that must hold; absent for `none`.
    quorum: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Member {
    /// A witness; absent if its key is of a type that we do not know. Such a one never cosigned.
    Witness(Option<WitnessKey>),
    Group {
        needed: usize,
        members: Vec<usize>,
    },
}

/// A checkpoint that a policy accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witnessed {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// The policy's witnesses that cosigned it, by their keys' names, each with its time in seconds since
    /// 1970. More than the quorum needs, perhaps.
    pub by: Vec<(String, u64)>,
}

impl Policy {
    /// Reads a policy.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub fn parse(text: &[u8]) -> Result<Self, PolicyError> {
        if text.len() > BYTES_MAX {
            return Err(PolicyError::TooLong);
        }
        let mut reader = Reader::default();
        for (line, text) in (1..).zip(text.split_inclusive(|byte| *byte == b'\n')) {
            let text = text.strip_suffix(b"\n").ok_or(PolicyError::Text { line })?;
            if text.iter().any(|byte| *byte != b'\t' && byte.is_ascii_control()) {
                return Err(PolicyError::Text { line });
            }
            let mut items = text.split(|byte| matches!(byte, b' ' | b'\t'));
            let items: Vec<&[u8]> = items.by_ref().filter(|item| !item.is_empty()).collect();
            if items.first().is_some_and(|first| !first.starts_with(b"#")) {
                reader.line(line, &items)?;
            }
        }
        reader.finish()
    }

    /// The accepted keys of the log of this name, as the policy lists them.
    pub fn logs(&self, name: &str) -> impl Iterator<Item = &VerifierKey> {
        self.logs.iter().flatten().filter(move |log| log.name() == name)
    }

    /// Checks that `note` is a checkpoint of `log` which the policy accepts.
    ///
    /// # Errors
    /// Those of [`Checkpoint::open`]; [`RecordError::PolicyLog`] for a log that the policy does not name;
    /// [`RecordError::Cosignature`] for a wrong signature in a witness's name; [`RecordError::Quorum`].
    pub fn check(&self, note: &str, log: &VerifierKey) -> Result<Witnessed, RecordError> {
        self.check_among(note, log, &Keys::new(log.clone()))
    }

    /// As [`Policy::check`], of a log with these keys of which the policy names any, and `log` signed.
    ///
    /// # Errors
    /// As [`Policy::check`].
    pub fn check_among(
        &self,
        note: &str,
        log: &VerifierKey,
        keys: &Keys,
    ) -> Result<Witnessed, RecordError> {
        if !self.logs.is_empty() && !self.logs.iter().flatten().any(|known| keys.contain(known)) {
            return Err(RecordError::PolicyLog);
        }
        let checkpoint = Checkpoint::open(note, log)?;
        let note = Note::parse(note)?;
        let mut by = Vec::new();
        let mut holds: Vec<bool> = Vec::new();
        for member in &self.members {
            holds.push(match member {
                Member::Witness(None) => false,
                Member::Witness(Some(witness)) => match witness.cosigned(&note)? {
                    Some(time_s) => {
                        by.push((witness.name().to_owned(), time_s));
                        true
                    }
                    None => false,
                },
                Member::Group { needed, members } => {
                    members.iter().filter(|one| holds.get(**one) == Some(&true)).count() >= *needed
                }
            });
        }
        match self.quorum {
            Some(quorum) if holds.get(quorum) != Some(&true) => Err(RecordError::Quorum),
            _ => Ok(Witnessed { checkpoint, by }),
        }
    }
}

/// What the lines so far said.
#[derive(Default)]
struct Reader {
    logs: Vec<Option<VerifierKey>>,
    log_keys: BTreeSet<Vec<u8>>,
    members: Vec<Member>,
    witness_keys: BTreeSet<Vec<u8>>,
    names: BTreeMap<Vec<u8>, usize>,
    /// Members of a group.
    grouped: BTreeSet<usize>,
    quorum: Option<Option<usize>>,
}

impl Reader {
    fn line(&mut self, line: usize, items: &[&[u8]]) -> Result<(), PolicyError> {
        if self.logs.len() >= MEMBERS_MAX || self.members.len() >= MEMBERS_MAX {
            return Err(PolicyError::TooLong);
        }
        match items {
            [b"log", key] | [b"log", key, _] => self.log(line, key),
            [b"witness", name, key] | [b"witness", name, key, _] => self.witness(line, name, key),
            [b"group", name, count, members @ ..] => self.group(line, name, count, members),
            [b"quorum", name] => self.quorum(line, name),
            _ => Err(PolicyError::Line { line }),
        }
    }

    fn log(&mut self, line: usize, key: &[u8]) -> Result<(), PolicyError> {
        let (text, typed) = typed(line, key, COSIGNATURE)?;
        let log = (typed.kind == ED25519).then(|| text.parse());
        let log = log.transpose().map_err(|_form| PolicyError::Key { line })?;
        if !self.log_keys.insert(typed.material) {
            return Err(PolicyError::KeyTwice { line });
        }
        self.logs.push(log);
        Ok(())
    }

    fn witness(&mut self, line: usize, name: &[u8], key: &[u8]) -> Result<(), PolicyError> {
        let (text, typed) = typed(line, key, ED25519)?;
        let witness = (typed.kind == COSIGNATURE).then(|| text.parse());
        let witness = witness.transpose().map_err(|_form| PolicyError::Key { line })?;
        if !self.witness_keys.insert(typed.material) {
            return Err(PolicyError::KeyTwice { line });
        }
        self.name(line, name, Member::Witness(witness))
    }

    fn group(
        &mut self,
        line: usize,
        name: &[u8],
        count: &[u8],
        names: &[&[u8]],
    ) -> Result<(), PolicyError> {
        let mut members = Vec::new();
        for name in names {
            let member = *self.names.get(*name).ok_or(PolicyError::Unknown { line })?;
            if !self.grouped.insert(member) {
                return Err(PolicyError::MemberTwice { line });
            }
            members.push(member);
        }
        let needed = match count {
            b"any" => Some(1),
            b"all" => Some(members.len()),
            _ => decimal(count),
        };
        let needed = needed.filter(|needed| (1..=members.len()).contains(needed));
        let needed = needed.ok_or(PolicyError::Count { line })?;
        self.name(line, name, Member::Group { needed, members })
    }

    fn name(&mut self, line: usize, name: &[u8], member: Member) -> Result<(), PolicyError> {
        let taken = self.names.insert(name.to_vec(), self.members.len()).is_some();
        if taken || name == NONE {
            return Err(PolicyError::Name { line });
        }
        self.members.push(member);
        Ok(())
    }

    fn quorum(&mut self, line: usize, name: &[u8]) -> Result<(), PolicyError> {
        let quorum = match self.names.get(name) {
            Some(member) => Some(*member),
            None if name == NONE => None,
            None => return Err(PolicyError::Unknown { line }),
        };
        if self.quorum.replace(quorum).is_some() { Err(PolicyError::Quorum) } else { Ok(()) }
    }

    fn finish(self) -> Result<Policy, PolicyError> {
        let quorum = self.quorum.ok_or(PolicyError::Quorum)?;
        Ok(Policy { logs: self.logs, members: self.members, quorum })
    }
}

/// A key's text, and what it says; `unfit` is a type that the line's kind of key cannot have.
fn typed(line: usize, key: &[u8], unfit: u8) -> Result<(&str, TypedKey<'_>), PolicyError> {
    let wrong = PolicyError::Key { line };
    let text = std::str::from_utf8(key).map_err(|_bytes| wrong)?;
    let typed = TypedKey::parse(text).filter(|typed| typed.kind != unfit).ok_or(wrong)?;
    Ok((text, typed))
}

/// A number in its one spelling.
fn decimal(text: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(text).ok()?;
    let number: usize = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

#[cfg(test)]
mod tests;
