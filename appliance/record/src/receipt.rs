//! Receipts: a record, the proof that it is in the log, and the checkpoint with its cosignatures, in one text
//! that convinces alone; and its parts, each small enough for a code that is printed.
//!
//! A receipt is a C2SP proof whose `extra` line holds the record. Several may stand in one text. A part is a
//! line `cloister-receipt/1 K/N SUM BASE64`, with the first 8 digits of the whole text's SHA-256.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use cloister_domain::Digest;

use crate::{
    LogProof, Policy, Record, RecordError, VerifierKey, Witnessed,
    proof::{VERSION, number},
    succession::keys_of,
};

/// How a part begins.
const PART: &str = "cloister-receipt/1";
/// Bytes of the text in a part: its code has 97 modules a side, which cheap printers and cameras manage.
const PART_BYTES: usize = 600;
/// Digits of the sum.
const SUM: usize = 8;
/// The most parts: a text of 60 KB.
const PARTS_MAX: u64 = 100;

/// One record with its proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt(LogProof);

impl Receipt {
    /// The receipt of a record with its proof.
    #[must_use]
    pub fn new(proof: LogProof, record: &[u8]) -> Self {
        Self(LogProof { extra: Some(record.to_vec()), ..proof })
    }

    /// Its text.
    #[must_use]
    pub fn to_text(&self) -> String {
        self.0.to_text()
    }

    /// The receipts of a text.
    ///
    /// # Errors
    /// [`RecordError::ProofForm`], and [`RecordError::Receipt`] for a proof without its record or for none.
    pub fn parse_all(text: &str) -> Result<Vec<Self>, RecordError> {
        let head = format!("{VERSION}\n");
        let mut receipts = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let inside = rest.strip_prefix(&head).ok_or(RecordError::ProofForm)?;
            let length = inside.find(&head).map_or(rest.len(), |at| head.len() + at);
            let (one, after) = rest.split_at_checked(length).ok_or(RecordError::ProofForm)?;
            let proof = LogProof::parse(one)?;
            if proof.extra.is_none() {
                return Err(RecordError::Receipt);
            }
            receipts.push(Self(proof));
            rest = after;
        }
        if receipts.is_empty() { Err(RecordError::Receipt) } else { Ok(receipts) }
    }

    /// The record's position.
    #[must_use]
    pub const fn index(&self) -> u64 {
        self.0.index
    }

    /// The checkpoint, of which nothing is believed yet.
    #[must_use]
    pub fn checkpoint(&self) -> &str {
        &self.0.checkpoint
    }

    /// Checks that the record is in the log, under a checkpoint that `policy` accepts, and if it is the
    /// host's that the host signed it.
    ///
    /// # Errors
    /// Those of [`LogProof::check`] and of [`Record::check_signed_by`].
    pub fn check(
        &self,
        log: &VerifierKey,
        policy: &Policy,
    ) -> Result<(Record, Witnessed), RecordError> {
        self.check_among(log, &[], policy)
    }

    /// As [`Receipt::check`], where keys that the log had before may have signed the record.
    ///
    /// # Errors
    /// As [`Receipt::check`].
    pub fn check_among(
        &self,
        log: &VerifierKey,
        former: &[FormerKey],
        policy: &Policy,
    ) -> Result<(Record, Witnessed), RecordError> {
        let text = self.0.extra.as_deref().ok_or(RecordError::Receipt)?;
        let witnessed = self.0.check(text, log, policy)?;
        let record = Record::parse(text)?;
        if record.is_by_the_host() {
            let signed = record.check_signed_by(log.key());
            let then = former.iter().filter(|former| self.index() < former.until);
            let by_former =
                || then.into_iter().any(|former| record.check_signed_by(former.key.key()).is_ok());
            signed.or_else(|kind| if by_former() { Ok(()) } else { Err(kind) })?;
        }
        Ok((record, witnessed))
    }

    /// The keys that the log had before, as far as `receipts` of it show the records with which others took
    /// over from them.
    #[must_use]
    pub fn former_keys(receipts: &[Self], log: &VerifierKey, policy: &Policy) -> Vec<FormerKey> {
        let mut found = Vec::new();
        loop {
            let more = receipts.iter().find_map(|receipt| {
                let (record, _) = receipt.check_among(log, &found, policy).ok()?;
                let [key, _] = keys_of(&record).ok()??;
                let former = FormerKey { key, until: receipt.index() };
                (!found.contains(&former)).then_some(former)
            });
            match more {
                Some(former) => found.push(former),
                None => return found,
            }
        }
    }
}

/// A key that a log had until another took over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormerKey {
    /// The key.
    pub key: VerifierKey,
    /// Position of the record with which the next one took over.
    pub until: u64,
}

/// The printed parts of a text, a line each.
#[must_use]
pub fn parts(text: &str) -> Vec<String> {
    let sum = sum(text);
    let pieces: Vec<&[u8]> = text.as_bytes().chunks(PART_BYTES).collect();
    let line = |(number, piece): (usize, &&[u8])| {
        let base64 = BASE64_STANDARD.encode(piece);
        format!("{PART} {}/{} {sum} {base64}", number + 1, pieces.len())
    };
    pieces.iter().enumerate().map(line).collect()
}

/// The text of printed parts, in whatever order and however often they were read.
///
/// # Errors
/// [`RecordError::Receipt`].
pub fn join_parts(lines: &str) -> Result<String, RecordError> {
    join(lines).ok_or(RecordError::Receipt)
}

fn join(lines: &str) -> Option<String> {
    let mut pieces = std::collections::BTreeMap::new();
    let mut whole = None;
    for line in lines.lines().filter(|line| !line.is_empty()) {
        let mut words = line.strip_prefix(PART)?.strip_prefix(' ')?.split(' ');
        let (place, sum, base64) = (words.next()?, words.next()?, words.next()?);
        let (place, count) = place.split_once('/')?;
        let (place, count) = (number(place)?, number(count)?);
        let possible = (1..=count).contains(&place) && count <= PARTS_MAX && words.next().is_none();
        if !possible || *whole.get_or_insert((count, sum)) != (count, sum) {
            return None;
        }
        pieces.insert(place, BASE64_STANDARD.decode(base64).ok()?);
    }
    let (count, expected) = whole?;
    let bytes: Vec<u8> = pieces.values().flatten().copied().collect();
    let text = String::from_utf8(bytes).ok()?;
    (pieces.len() as u64 == count && sum(&text) == expected).then_some(text)
}

fn sum(text: &str) -> String {
    let mut digits = Digest::of(text.as_bytes()).to_string();
    digits.truncate(SUM);
    digits
}

#[cfg(test)]
mod tests {
    use cloister_attest::SigningKey;
    use cloister_domain::Secret;
    use cloister_wire::record::{Entry, Event};
    use serde_json::Map;

    use super::*;
    use crate::{
        Checkpoint, Host, Place, Time, sign,
        tree::{Tree, leaf_hash},
    };

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(&Secret::new(vec![seed; 32])).expect("32 bytes")
    }

    fn log() -> VerifierKey {
        VerifierKey::new("log", key(1).public()).expect("a name")
    }

    fn none() -> Policy {
        Policy::parse(b"quorum none\n").expect("a policy")
    }

    /// Two receipts of a log with five records, of which the last is by another key.
    fn receipts() -> [Receipt; 2] {
        let host = Host { origin: "log".to_owned(), peers_are_separate: true };
        let record = |seq: u64| {
            let act = format!("media/{seq}");
            let entry =
                Entry { event: Event::MediaSeen, act, subject: Vec::new(), predicate: Map::new() };
            let by = key(if seq == 4 { 2 } else { 1 });
            let time = Time { rtc_s: 1, boot_id: None };
            sign(&entry, Place { seq, prev: None }, &host, &time, &by).expect("good")
        };
        let records: Vec<Vec<u8>> = (0..5).map(record).collect();
        let mut tree = Tree::new();
        records.iter().for_each(|record| tree.push(leaf_hash(record)));
        let checkpoint = Checkpoint { origin: "log".to_owned(), size: 5, root: tree.root() };
        let checkpoint = checkpoint.sign(&key(1)).expect("a name");
        [3u64, 4].map(|index| {
            let path = tree.inclusion(index, 5);
            let proof = LogProof { extra: None, index, path, checkpoint: checkpoint.clone() };
            Receipt::new(proof, &records[usize::try_from(index).expect("small")])
        })
    }

    #[test]
    fn a_receipt_convinces_alone_of_what_the_host_signed() {
        let [good, forged] = receipts();
        let text = good.to_text() + &forged.to_text();
        assert_eq!(Receipt::parse_all(&text), Ok(vec![good.clone(), forged.clone()]));
        let (record, witnessed) = good.check(&log(), &none()).expect("good");
        assert_eq!((record.event, witnessed.checkpoint.size), (Event::MediaSeen, 5));
        assert!(forged.check(&log(), &none()).is_err(), "in the log, and not the host's");
        // The record of one with the proof of the other.
        let mut mixed = good.clone();
        mixed.0.extra = forged.0.extra;
        assert_eq!(mixed.check(&log(), &none()).map(drop), Err(RecordError::Proof));
        let mut bare = good;
        bare.0.extra = None;
        assert_eq!(Receipt::parse_all(&bare.to_text()), Err(RecordError::Receipt));
        assert_eq!(Receipt::parse_all(""), Err(RecordError::Receipt));
        assert_eq!(Receipt::parse_all("x"), Err(RecordError::ProofForm));
    }

    /// A log whose keys follow each other, one record each: what the first signed convinces him who knows the
    /// last, if the receipts of each change are there.
    #[test]
    fn what_a_former_key_signed_convinces_with_the_records_of_its_successors() {
        let host = Host { origin: "log".to_owned(), peers_are_separate: true };
        let named = |seed: u8| VerifierKey::new("log", key(seed).public()).expect("a name");
        let mut records: Vec<Vec<u8>> = Vec::new();
        let mut add = |entry: &Entry, seed: u8| {
            let place = Place { seq: records.len() as u64, prev: None };
            let time = Time { rtc_s: 1, boot_id: None };
            records.push(sign(entry, place, &host, &time, &key(seed)).expect("good"));
        };
        let plain = |act: &str| Entry {
            event: Event::MediaSeen,
            act: act.to_owned(),
            subject: Vec::new(),
            predicate: Map::new(),
        };
        add(&plain("media/0"), 1);
        add(&crate::succession::entry(&named(1), &named(2), 1), 2);
        // Whoever found the first key signs on.
        add(&plain("media/2"), 1);
        add(&crate::succession::entry(&named(2), &named(3), 3), 3);
        let mut tree = Tree::new();
        records.iter().for_each(|record| tree.push(leaf_hash(record)));
        let head = Checkpoint { origin: "log".to_owned(), size: 4, root: tree.root() };
        let checkpoint = head.sign(&key(3)).expect("a name");
        let receipt = |index: u64| {
            let path = tree.inclusion(index, 4);
            let proof = LogProof { extra: None, index, path, checkpoint: checkpoint.clone() };
            Receipt::new(proof, &records[usize::try_from(index).expect("small")])
        };
        let all: Vec<Receipt> = (0..4).map(receipt).collect();
        let former = |of: &[usize]| {
            let some: Vec<Receipt> = of.iter().map(|one| all[*one].clone()).collect();
            Receipt::former_keys(&some, &named(3), &none())
        };
        let good = |former: &[FormerKey], index: usize| {
            all[index].check_among(&named(3), former, &none()).is_ok()
        };
        let both = former(&[0, 1, 3]);
        assert_eq!(both.iter().map(|one| one.until).collect::<Vec<_>>(), [3, 1]);
        let judged: Vec<bool> = (0..4).map(|index| good(&both, index)).collect();
        assert_eq!(judged, [true, true, false, true]);
        // Without the change between, nobody says whose key the first was.
        assert_eq!(former(&[0, 1]), []);
        assert!(!good(&former(&[0, 3]), 0) && all[0].check(&named(3), &none()).is_err());
        // Nor does a former key vouch for a checkpoint.
        assert!(all[0].check_among(&named(1), &both, &none()).is_err());
    }

    #[test]
    fn printed_parts_make_the_text_again_in_any_order() {
        let [one, other] = receipts();
        let text = one.to_text() + &other.to_text();
        let mut lines = parts(&text);
        assert!(lines.len() > 3 && lines.iter().all(|line| line.len() < 900));
        let joined = |lines: &[String]| join_parts(&lines.join("\n"));
        assert_eq!(joined(&lines).as_ref(), Ok(&text));
        lines.reverse();
        lines.push(lines[0].clone());
        assert_eq!(joined(&lines).as_ref(), Ok(&text));
        let refused = |lines: &[String]| assert_eq!(joined(lines), Err(RecordError::Receipt));
        refused(&lines[1..lines.len() - 1]);
        refused(&[]);
        let foreign = parts("another text");
        refused(&[lines.as_slice(), &foreign].concat());
        for (from, to) in [("/1 1/", "/1 01/"), ("/1 1/", "/1 0/"), ("receipt/1", "receipt/2")] {
            let mut wrong = lines.clone();
            wrong.iter_mut().for_each(|line| *line = line.replacen(from, to, 1));
            refused(&wrong);
        }
        // Another letter in one part, which the sum finds.
        let mut wrong = lines.clone();
        let letter = wrong[1].pop().expect("not empty");
        let place = wrong[1].len() - 9;
        let before = wrong[1].remove(place);
        wrong[1].insert(place, if before == 'A' { 'B' } else { 'A' });
        wrong[1].push(letter);
        refused(&wrong);
    }
}
