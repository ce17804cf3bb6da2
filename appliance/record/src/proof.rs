//! C2SP proofs (c2sp.org/tlog-proof): one entry is under a checkpoint, for whoever has the entry, the
//! log's key and a policy, and nothing else.
//!
//! ```text
//! c2sp.org/tlog-proof@v1
//! index 73894
//! HASH, from the leaf's sibling up
//!
//! CHECKPOINT
//! ```

use base64::{Engine as _, prelude::BASE64_STANDARD};
use cloister_domain::Digest;

use crate::{
    Policy, RecordError, VerifierKey, Witnessed,
    tree::{check_inclusion, leaf_hash},
};

/// The first line.
pub(crate) const VERSION: &str = "c2sp.org/tlog-proof@v1";

/// The most hashes of a path: one for each bit of a size.
pub(crate) const HASHES_MAX: usize = 63;

/// That an entry is under a checkpoint. Nothing in it is believed before [`LogProof::check`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogProof {
    /// Bytes of the application's that nobody signed. A receipt has its record there, which the proof is of.
    pub extra: Option<Vec<u8>>,
    /// The entry's position, from 0.
    pub index: u64,
    /// Hashes from the leaf's sibling up (RFC 6962, section 2.1.1).
    pub path: Vec<Digest>,
    /// The signed checkpoint, verbatim, with its cosignatures.
    pub checkpoint: String,
}

impl LogProof {
    /// The proof's text, as a file `.tlog-proof` holds it.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!("{VERSION}\n");
        if let Some(extra) = &self.extra {
            text += &format!("extra {}\n", BASE64_STANDARD.encode(extra));
        }
        text += &format!("index {}\n{}\n", self.index, hash_lines(&self.path));
        text + &self.checkpoint
    }

    /// Reads a proof's text.
    ///
    /// # Errors
    /// [`RecordError::ProofForm`].
    pub fn parse(text: &str) -> Result<Self, RecordError> {
        Self::read(text).ok_or(RecordError::ProofForm)
    }

    fn read(text: &str) -> Option<Self> {
        let (head, checkpoint) = text.split_once("\n\n")?;
        let mut lines = head.split('\n').peekable();
        if lines.next()? != VERSION {
            return None;
        }
        let extra = match lines.peek()?.strip_prefix("extra ") {
            Some(extra) => {
                lines.next()?;
                Some(BASE64_STANDARD.decode(extra).ok()?)
            }
            None => None,
        };
        let index = number(lines.next()?.strip_prefix("index ")?)?;
        let path = hashes(lines)?;
        Some(Self { extra, index, path, checkpoint: checkpoint.to_owned() })
    }

    /// Checks that `entry` stands where the proof says, under a checkpoint of `log` that `policy`
    /// accepts.
    ///
    /// # Errors
    /// Those of [`Policy::check`], and [`RecordError::Proof`].
    pub fn check(
        &self,
        entry: &[u8],
        log: &VerifierKey,
        policy: &Policy,
    ) -> Result<Witnessed, RecordError> {
        let witnessed = policy.check(&self.checkpoint, log)?;
        let (size, root) = (witnessed.checkpoint.size, witnessed.checkpoint.root);
        check_inclusion(&leaf_hash(entry), self.index, size, &self.path, &root)?;
        Ok(witnessed)
    }
}

/// Hashes in base64, a line each.
pub(crate) fn hash_lines(hashes: &[Digest]) -> String {
    hashes.iter().map(|hash| BASE64_STANDARD.encode(hash.as_bytes()) + "\n").collect()
}

/// The hashes that lines hold.
pub(crate) fn hashes<'text>(lines: impl Iterator<Item = &'text str>) -> Option<Vec<Digest>> {
    let hash = |line: &str| {
        let bytes: [u8; 32] = BASE64_STANDARD.decode(line).ok()?.try_into().ok()?;
        Some(Digest::from_bytes(bytes))
    };
    let hashes: Vec<Digest> = lines.take(HASHES_MAX + 1).map(hash).collect::<Option<_>>()?;
    (hashes.len() <= HASHES_MAX).then_some(hashes)
}

/// A number in its one spelling.
pub(crate) fn number(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

#[cfg(test)]
mod tests {
    use cloister_attest::SigningKey;
    use cloister_domain::Secret;

    use super::*;
    use crate::{Checkpoint, tree::Tree};

    fn key() -> SigningKey {
        SigningKey::from_seed(&Secret::new(vec![1; 32])).expect("32 bytes")
    }

    fn log() -> VerifierKey {
        VerifierKey::new("log", key().public()).expect("a name")
    }

    fn none() -> Policy {
        Policy::parse(b"quorum none\n").expect("a policy")
    }

    /// The proof of entry `index` in a log of the first `size` numbers.
    fn proof(index: u64, size: u64) -> LogProof {
        let mut tree = Tree::new();
        for number in 0..size {
            tree.push(leaf_hash(number.to_string().as_bytes()));
        }
        let checkpoint = Checkpoint { origin: "log".to_owned(), size, root: tree.root() };
        LogProof {
            extra: None,
            index,
            path: tree.inclusion(index, size),
            checkpoint: checkpoint.sign(&key()).expect("a good origin"),
        }
    }

    #[test]
    fn a_proof_returns_from_its_text_and_convinces() {
        for (index, size) in [(0, 1), (0, 2), (6, 7), (299, 300), (17, 300)] {
            let proof = proof(index, size);
            let text = proof.to_text();
            assert!(text.starts_with(&format!("c2sp.org/tlog-proof@v1\nindex {index}\n")));
            assert_eq!(LogProof::parse(&text), Ok(proof.clone()));
            let entry = index.to_string();
            let found = proof.check(entry.as_bytes(), &log(), &none());
            assert_eq!(found.map(|good| good.checkpoint.size), Ok(size));
            let other = proof.check(b"another entry", &log(), &none());
            assert_eq!(other, Err(RecordError::Proof));
            let moved = LogProof { index: index + 1, ..proof };
            assert_eq!(moved.check(entry.as_bytes(), &log(), &none()), Err(RecordError::Proof));
        }
        let extra = LogProof { extra: Some(b"context".to_vec()), ..proof(3, 9) };
        assert!(extra.to_text().contains("\nextra Y29udGV4dA==\nindex 3\n"));
        assert_eq!(LogProof::parse(&extra.to_text()), Ok(extra));
    }

    #[test]
    fn each_changed_byte_of_a_proof_is_found() {
        let text = proof(5, 12).to_text();
        for place in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[place] ^= 1;
            let Ok(changed) = String::from_utf8(bytes) else { continue };
            let read = LogProof::parse(&changed);
            let found = read.and_then(|proof| proof.check(b"5", &log(), &none()));
            assert!(found.is_err(), "byte {place}");
        }
    }

    #[test]
    fn a_policy_is_asked() {
        let witness = crate::WitnessKey::new("w", key().public()).expect("a name");
        let policy = format!("witness w {witness}\nquorum w\n");
        let policy = Policy::parse(policy.as_bytes()).expect("a policy");
        assert_eq!(proof(5, 12).check(b"5", &log(), &policy), Err(RecordError::Quorum));
    }

    #[test]
    fn other_spellings_are_refused() {
        let good = proof(5, 12).to_text();
        let first = good.split('\n').nth(2).expect("a hash").to_owned();
        for (from, to) in [
            ("@v1", "@v2"),
            ("index 5", "index 05"),
            ("index 5", "index +5"),
            ("index 5", "index"),
            ("index 5\n", ""),
            ("index 5", "index 5\nextra AA=="),
            ("index 5", "extra A\nindex 5"),
            (first.as_str(), "AAAA"),
            ("\n\n", "\n"),
        ] {
            let text = good.replacen(from, to, 1);
            assert_eq!(LogProof::parse(&text), Err(RecordError::ProofForm), "{from} to {to}");
        }
        let long = good.replacen(&first, &vec![first.as_str(); 64].join("\n"), 1);
        assert_eq!(LogProof::parse(&long), Err(RecordError::ProofForm));
    }
}
