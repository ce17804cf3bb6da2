//! What passes between a log and its witness (c2sp.org/tlog-witness, `add-checkpoint`), and what the
//! witness says to it.
//!
//! ```text
//! old 20852014
//! HASH, of the consistency proof
//!
//! CHECKPOINT
//! ```

use cloister_domain::{Class, Coded, Digest};

use crate::{
    Checkpoint, Note, RecordError, VerifierKey,
    proof::{hash_lines, hashes, number},
    tree::check_consistency,
};

/// A request for a cosignature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// Size of the checkpoint that the witness cosigned last, as far as the log knows; 0 for none.
    pub old: u64,
    /// From that size to the checkpoint's (RFC 6962, section 2.1.2).
    pub proof: Vec<Digest>,
    /// The checkpoint, signed by the log.
    pub checkpoint: String,
}

/// What a witness saw of a log last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Number of entries.
    pub size: u64,
    /// Merkle root over them.
    pub root: Digest,
}

impl Seen {
    /// A log that was never seen.
    #[must_use]
    pub fn nothing() -> Self {
        Self { size: 0, root: Digest::of(b"") }
    }
}

/// Why a witness does not sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WitnessError {
    /// The request is not in the form of one.
    #[error("the file is not a request for a cosignature as `records request` writes it")]
    Form,
    /// The checkpoint is not the log's.
    #[error(
        "the checkpoint is not one of the log that the witness knows by this name; if another key took \
         over, give that with --successor"
    )]
    Checkpoint(#[source] RecordError),
    /// The request begins at another size than the one that the witness cosigned last.
    #[error(
        "the request begins at {old} records, and this witness cosigned {seen} last; bring what it \
         answers to the log, and then a new request"
    )]
    Conflict {
        /// Where the request begins.
        old: u64,
        /// What was cosigned last.
        seen: u64,
    },
    /// The checkpoint is smaller than one that was cosigned.
    #[error(
        "the log shows {size} records, and this witness cosigned {seen}: it lost some, or the \
         request is an old one; do not trust the appliance before that is explained"
    )]
    Smaller {
        /// Size of the checkpoint.
        size: u64,
        /// What was cosigned last.
        seen: u64,
    },
    /// The checkpoint does not contain what was cosigned.
    #[error(
        "the log does not contain the {seen} records that this witness cosigned; keep the request, \
         it is signed evidence of two pasts"
    )]
    Past {
        /// What was cosigned last.
        seen: u64,
    },
}

impl Coded for WitnessError {
    fn class(&self) -> Class {
        Class::Refused
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Form => "record.witness.form",
            Self::Checkpoint(_) => "record.witness.checkpoint",
            Self::Conflict { .. } => "record.witness.conflict",
            Self::Smaller { .. } => "record.witness.smaller",
            Self::Past { .. } => "record.witness.past",
        }
    }
}

impl AddCheckpoint {
    /// The request's text: the body of an `add-checkpoint`.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!("old {}\n{}\n{}", self.old, hash_lines(&self.proof), self.checkpoint)
    }

    /// Reads a request's text.
    ///
    /// # Errors
    /// [`WitnessError::Form`].
    pub fn parse(text: &str) -> Result<Self, WitnessError> {
        Self::read(text).ok_or(WitnessError::Form)
    }

    fn read(text: &str) -> Option<Self> {
        let (head, checkpoint) = text.split_once("\n\n")?;
        let mut lines = head.split('\n');
        let old = number(lines.next()?.strip_prefix("old ")?)?;
        Some(Self { old, proof: hashes(lines)?, checkpoint: checkpoint.to_owned() })
    }

    /// The name of the log, by the checkpoint's own word.
    ///
    /// # Errors
    /// [`WitnessError::Form`] if it is no note with a first line.
    pub fn origin(&self) -> Result<&str, WitnessError> {
        let note = Note::parse(&self.checkpoint).map_err(|_form| WitnessError::Form)?;
        note.text().split('\n').next().ok_or(WitnessError::Form)
    }

    /// What a witness that saw `seen` of `log` may cosign: the checkpoint, if it contains `seen`. The
    /// caller must make the new one durable before it signs.
    ///
    /// # Errors
    /// [`WitnessError`].
    pub fn judge(&self, log: &VerifierKey, seen: Seen) -> Result<Checkpoint, WitnessError> {
        let next = Checkpoint::open(&self.checkpoint, log).map_err(WitnessError::Checkpoint)?;
        if next.size < seen.size {
            return Err(WitnessError::Smaller { size: next.size, seen: seen.size });
        }
        if self.old != seen.size {
            return Err(WitnessError::Conflict { old: self.old, seen: seen.size });
        }
        let (old, new) = ((seen.size, &seen.root), (next.size, &next.root));
        let empty = Seen::nothing();
        let fits = check_consistency(old, new, &self.proof).is_ok()
            && (next.size > 0 || next.root == empty.root);
        if fits { Ok(next) } else { Err(WitnessError::Past { seen: seen.size }) }
    }
}

#[cfg(test)]
mod tests {
    use cloister_attest::SigningKey;
    use cloister_domain::Secret;

    use super::*;
    use crate::tree::{Tree, leaf_hash};

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(&Secret::new(vec![seed; 32])).expect("32 bytes")
    }

    fn log() -> VerifierKey {
        VerifierKey::new("log", key(1).public()).expect("a name")
    }

    /// A log of numbers from `first`.
    fn tree(first: u64, size: u64) -> Tree {
        let mut tree = Tree::new();
        (first..first + size).for_each(|number| tree.push(leaf_hash(&number.to_be_bytes())));
        tree
    }

    fn request(tree: &Tree, old: u64) -> AddCheckpoint {
        let checkpoint =
            Checkpoint { origin: "log".to_owned(), size: tree.size(), root: tree.root() };
        let proof = if old == 0 { Vec::new() } else { tree.consistency(old, tree.size()) };
        AddCheckpoint { old, proof, checkpoint: checkpoint.sign(&key(1)).expect("an origin") }
    }

    fn seen(tree: &Tree, size: u64) -> Seen {
        Seen { size, root: tree.root_of(size) }
    }

    #[test]
    fn a_log_that_grew_is_signed() {
        let tree = tree(0, 300);
        for old in [0, 1, 7, 256, 300] {
            let request = request(&tree, old);
            let text = request.to_text();
            assert!(text.starts_with(&format!("old {old}\n")) && text.contains("\n\nlog\n300\n"));
            assert_eq!(AddCheckpoint::parse(&text), Ok(request.clone()));
            assert_eq!(request.origin(), Ok("log"));
            let judged = request.judge(&log(), seen(&tree, old));
            assert_eq!(judged.map(|next| next.size), Ok(300));
        }
        let empty = Tree::new();
        let judged = request(&empty, 0).judge(&log(), Seen::nothing());
        assert_eq!(judged.map(|next| next.size), Ok(0));
    }

    #[test]
    fn another_past_is_refused_whatever_the_request_says() {
        let (ours, other) = (tree(0, 300), tree(1, 300));
        let last = seen(&ours, 256);
        let past = Err(WitnessError::Past { seen: 256 });
        assert_eq!(request(&other, 256).judge(&log(), last), past);
        // The proof of one, the checkpoint of the other.
        let mixed =
            AddCheckpoint { checkpoint: request(&other, 256).checkpoint, ..request(&ours, 256) };
        assert_eq!(mixed.judge(&log(), last), past);
        // The same size with another root.
        let same = Err(WitnessError::Past { seen: 300 });
        assert_eq!(request(&other, 300).judge(&log(), seen(&ours, 300)), same);
        let without = AddCheckpoint { proof: Vec::new(), ..request(&ours, 256) };
        assert_eq!(without.judge(&log(), last), past);
        let more = AddCheckpoint { proof: vec![last.root], ..request(&ours, 0) };
        let first = Err(WitnessError::Past { seen: 0 });
        assert_eq!(more.judge(&log(), Seen::nothing()), first);
        let root = Digest::of(b"x");
        let wrong = Checkpoint { origin: "log".to_owned(), size: 0, root };
        let checkpoint = wrong.sign(&key(1)).expect("an origin");
        let empty = AddCheckpoint { old: 0, proof: Vec::new(), checkpoint };
        assert_eq!(empty.judge(&log(), Seen::nothing()), first);
    }

    #[test]
    fn another_size_and_a_smaller_log_are_told_apart() {
        let tree = tree(0, 300);
        let judge = |old, size| request(&tree, old).judge(&log(), seen(&tree, size));
        assert_eq!(judge(5, 7), Err(WitnessError::Conflict { old: 5, seen: 7 }));
        assert_eq!(judge(0, 7), Err(WitnessError::Conflict { old: 0, seen: 7 }));
        let larger = Seen { size: 301, root: tree.root() };
        let smaller = WitnessError::Smaller { size: 300, seen: 301 };
        assert_eq!(request(&tree, 300).judge(&log(), larger), Err(smaller));
    }

    #[test]
    fn another_key_and_another_form_are_refused() {
        let tree = tree(0, 9);
        let stranger = VerifierKey::new("log", key(2).public()).expect("a name");
        let refused = request(&tree, 0).judge(&stranger, Seen::nothing());
        assert_eq!(refused, Err(WitnessError::Checkpoint(RecordError::NoteSignature)));
        let good = request(&tree, 4).to_text();
        let first = good.split('\n').nth(1).expect("a hash").to_owned();
        for (from, to) in [
            ("old 4", "old 04"),
            ("old 4", "new 4"),
            (&first, "AAAA"),
            ("old 4\n", ""),
            ("\n\n", "\n"),
        ] {
            let text = good.replacen(from, to, 1);
            assert_eq!(AddCheckpoint::parse(&text), Err(WitnessError::Form), "{from} to {to}");
        }
        let hashes = vec![first.as_str(); 64].join("\n");
        let long = good.replacen(&first, &hashes, 1);
        assert_eq!(AddCheckpoint::parse(&long), Err(WitnessError::Form));
    }
}
