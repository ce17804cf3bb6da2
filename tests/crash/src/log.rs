//! The log as an outsider reads it off the disk: checkpoint, entries, tiles, signatures and the chain,
//! from the page of the format (`docs/formats/record.md`) and RFC 6962, with no line of recordd or of
//! `cloister-record`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use ed25519_dalek::{Signature, VerifyingKey};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::tree::{Tree, sha256};

/// Entries of a full bundle.
const WIDTH: u64 = 256;
/// Where a round of the journal may begin.
const BLOCK: usize = 4096;

type Hash = [u8; 32];

/// One entry of the log.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// `activation-intent`, …
    pub(crate) event: String,
    /// The act's name; empty for what a person signed.
    pub(crate) act: String,
    /// The facts, or for what a person signed the predicate.
    pub(crate) facts: Value,
    /// SHA-256 by name.
    pub(crate) subjects: BTreeMap<String, String>,
    /// SHA-256 of the text.
    pub(crate) digest: String,
}

/// A log's name and the key that signs it.
#[derive(Clone, Debug)]
pub(crate) struct Signer {
    name: String,
    key: VerifyingKey,
}

impl Signer {
    /// From a verifier key, NAME+ID+KEY.
    ///
    /// # Errors
    /// When it is none.
    pub(crate) fn parse(key: &str) -> Result<Self> {
        let mut parts = key.splitn(3, '+');
        let name = parts.next().context("a key without a name")?.to_owned();
        let bytes = BASE64_STANDARD.decode(parts.nth(1).context("a key without bytes")?)?;
        let key = bytes.strip_prefix(&[1]).context("not an Ed25519 key")?;
        let key = VerifyingKey::from_bytes(key.try_into().context("a key of another length")?)?;
        Ok(Self { name, key })
    }
}

/// The text of each entry.
pub(crate) type Texts = Vec<Vec<u8>>;

/// Reads and verifies the whole log in `folder`, which `key` (NAME+ID+KEY) signs.
///
/// # Errors
/// When anything does not fit.
pub(crate) fn read_log(tree: &dyn Tree, folder: &Path, key: &str) -> Result<Vec<Entry>> {
    let signer = Signer::parse(key)?;
    let texts = settled(tree, folder, &signer)?;
    nothing_beyond(tree, folder, texts.len() as u64)?;
    let texts = journal(tree, folder, texts)?;
    entries(&texts, &signer)
}

/// SHA-256 of each entry of the log in `folder`, which may grow meanwhile: what of it counts, whatever lies
/// beside it.
///
/// # Errors
/// When anything of that does not fit, as it may for a moment while the log grows.
pub(crate) fn digests(tree: &dyn Tree, folder: &Path, signer: &Signer) -> Result<Vec<String>> {
    Ok(texts(tree, folder, signer)?.iter().map(|text| sha256(text)).collect())
}

/// The entries themselves, as [`digests`] finds them.
///
/// # Errors
/// As [`digests`].
pub(crate) fn texts(tree: &dyn Tree, folder: &Path, signer: &Signer) -> Result<Texts> {
    // A log has its journal before its first checkpoint, and that before anything else.
    let texts = if tree.is_there(&folder.join("checkpoint")) {
        settled(tree, folder, signer)?
    } else if tree.is_there(&folder.join("journal")) {
        Texts::new()
    } else {
        return Ok(Texts::new());
    };
    journal(tree, folder, texts)
}

/// Checks that `log` begins with the entries that are known to be in it, by their digests.
///
/// # Errors
/// Names the first that is lost, or is another one now.
pub(crate) fn begins_with(log: &[Entry], held: &[String]) -> Result<()> {
    for (place, digest) in held.iter().enumerate() {
        let entry = log.get(place);
        let entry = entry.with_context(|| format!("record {place} was durable and is lost"))?;
        let is = entry.digest == *digest;
        let (event, act) = (&entry.event, &entry.act);
        ensure!(is, "record {place} was durable and is lost; {event} {act} took its place");
    }
    Ok(())
}

/// The entries under the checkpoint of the log in `folder`, held against its root and its tiles.
///
/// # Errors
/// When anything does not fit.
pub(crate) fn settled(tree: &dyn Tree, folder: &Path, signer: &Signer) -> Result<Texts> {
    let (size, root) = checkpoint(tree, folder, signer)?;
    let texts = bundles(tree, folder, size)?;
    let leaves: Vec<Hash> = texts.iter().map(|text| hash(&[&[0], text])).collect();
    ensure!(merkle(&leaves) == root, "the entries do not give the signed root");
    tiles(tree, folder, &leaves)?;
    Ok(texts)
}

/// What entries say; each that the host signed is signed by `signer`, and names its place.
///
/// # Errors
/// Names the first that does not fit.
pub(crate) fn entries(texts: &[Vec<u8>], signer: &Signer) -> Result<Vec<Entry>> {
    let mut log: Vec<Entry> = Vec::new();
    for (seq, text) in (0u64..).zip(texts) {
        let before = log.last().map(|entry| entry.digest.clone());
        let entry = entry(text, seq, before.as_deref(), &signer.key);
        log.push(entry.with_context(|| format!("entry {seq}"))?);
    }
    Ok(log)
}

fn checkpoint(tree: &dyn Tree, folder: &Path, signer: &Signer) -> Result<(u64, Hash)> {
    let Signer { name, key } = signer;
    let note = String::from_utf8(tree.read(&folder.join("checkpoint"))?.to_vec())?;
    let (text, signatures) = note.split_once("\n\n").context("a checkpoint without signatures")?;
    let text = format!("{text}\n");
    let own = signatures.lines().find_map(|line| line.strip_prefix(&format!("— {name} ")));
    let own = BASE64_STANDARD.decode(own.context("the log did not sign its checkpoint")?)?;
    let signature = Signature::from_slice(own.get(4..).context("a short signature")?)?;
    key.verify_strict(text.as_bytes(), &signature).context("the checkpoint's signature")?;
    let mut lines = text.lines();
    ensure!(lines.next() == Some(name), "the checkpoint of another log");
    let size = lines.next().context("no size")?.parse()?;
    let root = BASE64_STANDARD.decode(lines.next().context("no root")?)?;
    Ok((size, root.as_slice().try_into().context("a root of another length")?))
}

/// The file of a bundle or tile: whole, or with so many rows.
fn file(folder: &Path, kind: &str, index: u64, width: u64) -> PathBuf {
    let mut name = format!("{:03}", index % 1000);
    let mut rest = index / 1000;
    while rest > 0 {
        name = format!("x{:03}/{name}", rest % 1000);
        rest /= 1000;
    }
    let whole = format!("tile/{kind}/{name}");
    folder.join(if width == WIDTH { whole } else { format!("{whole}.p/{width}") })
}

/// Index and width of each file that `count` rows take.
fn files(count: u64) -> impl Iterator<Item = (u64, u64)> {
    (0..count.div_ceil(WIDTH)).map(move |index| (index, (count - index * WIDTH).min(WIDTH)))
}

fn bundles(tree: &dyn Tree, folder: &Path, size: u64) -> Result<Texts> {
    let mut texts = Vec::new();
    for (index, width) in files(size) {
        let path = file(folder, "entries", index, width);
        let bytes = tree.read(&path).with_context(|| format!("bundle {index} of {width}"))?;
        let mut rest = &*bytes;
        for _entry in 0..width {
            let (length, behind) = rest.split_first_chunk().context("a bundle is cut short")?;
            let length = usize::from(u16::from_be_bytes(*length));
            let (text, behind) =
                behind.split_at_checked(length).context("an entry is cut short")?;
            texts.push(text.to_vec());
            rest = behind;
        }
        ensure!(rest.is_empty(), "a bundle holds more than its entries");
    }
    Ok(texts)
}

/// The entries of the folder with those of the rounds that its journal holds.
///
/// # Errors
/// When the journal is missing or too short, or a round is missing before one that is there.
pub(crate) fn journal(tree: &dyn Tree, folder: &Path, mut texts: Texts) -> Result<Texts> {
    let (bytes, length) = tree.front(&folder.join("journal")).context("the journal")?;
    ensure!(length >= JOURNAL_BYTES, "the journal was cut short");
    let (folder_holds, mut at, mut end) = (texts.len(), 0, None);
    while let Some(round) = round(&bytes[at..])
        && end.is_none_or(|end| end == round.first)
    {
        ensure!(round.first <= texts.len(), "the journal begins beyond the folder");
        let new = round.texts.into_iter().skip(texts.len() - round.first);
        texts.extend(new.map(<[u8]>::to_vec));
        end = Some(round.end);
        at = (at + round.bytes).next_multiple_of(BLOCK).min(bytes.len());
    }
    let end = end.unwrap_or(0).max(folder_holds);
    let mut further = (at..bytes.len()).step_by(BLOCK).filter_map(|at| round(&bytes[at..]));
    ensure!(further.all(|round| round.end <= end), "a round of the journal is missing");
    Ok(texts)
}

/// The shortest journal.
const JOURNAL_BYTES: usize = 4 << 20;

/// A round of the journal.
struct Round<'a> {
    /// The position of its first entry, and the one behind its last.
    first: usize,
    end: usize,
    texts: Vec<&'a [u8]>,
    /// What it takes, without what fills its last block.
    bytes: usize,
}

/// The round at the beginning of `bytes`, if it is whole.
fn round(bytes: &[u8]) -> Option<Round<'_>> {
    let head = bytes.strip_prefix(b"CLROUND1")?;
    let number = |from: usize, to: usize| -> Option<usize> {
        let bytes = head.get(from..to)?;
        Some(bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
    };
    let (first, count, length) = (number(0, 8)?, number(8, 12)?, number(12, 16)?);
    let (whole, sum) = bytes.split_at_checked(24 + length)?;
    if Sha256::digest(whole).as_slice() != sum.get(..32)? {
        return None;
    }
    let (mut rest, mut texts) = (&whole[24..], Vec::new());
    for _entry in 0..count {
        let (length, behind) = rest.split_first_chunk()?;
        let (text, behind) = behind.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        texts.push(text);
        rest = behind;
    }
    let end = first.checked_add(count)?;
    rest.is_empty().then_some(Round { first, end, texts, bytes: 56 + length })
}

/// Where the entries of a round end that somebody writes to a journal; none where no round begins.
pub(crate) fn round_end(written: &[u8]) -> Option<usize> {
    round(written).map(|round| round.end)
}

fn tiles(tree: &dyn Tree, folder: &Path, leaves: &[Hash]) -> Result<()> {
    let mut row = leaves.to_vec();
    let mut level = 0;
    while !row.is_empty() {
        for (index, width) in files(row.len() as u64) {
            let first = usize::try_from(index * WIDTH)?;
            let expected = row[first..first + usize::try_from(width)?].concat();
            let stored = tree.read(&file(folder, &level.to_string(), index, width))?;
            ensure!(*stored == *expected, "tile {index} of level {level} has other hashes");
        }
        row = row.chunks_exact(usize::try_from(WIDTH)?).map(merkle).collect();
        level += 1;
    }
    Ok(())
}

/// No bundle lies there that the checkpoint does not cover, and nothing half written.
fn nothing_beyond(tree: &dyn Tree, folder: &Path, size: u64) -> Result<()> {
    let (index, width) = (size / WIDTH, size % WIDTH);
    let partials = file(folder, "entries", index, 1);
    let partials = partials.parent().context("a bundle lies in a folder")?;
    for name in tree.names(partials)? {
        // What a write that was cut off left is written over by the next, or swept.
        if name.starts_with('.') && name.ends_with(".new") {
            continue;
        }
        let found: u64 = name.parse().with_context(|| format!("the log holds `{name}`"))?;
        ensure!(found <= width, "{found} entries lie where the checkpoint covers {width}");
    }
    let full = file(folder, "entries", index, WIDTH);
    ensure!(!tree.is_there(&full), "a full bundle beyond the checkpoint");
    for name in tree.names(folder)? {
        let strange = name.starts_with('.') && !name.ends_with(".new");
        ensure!(!strange, "the log's folder holds `{name}`");
    }
    Ok(())
}

fn entry(text: &[u8], seq: u64, before: Option<&str>, key: &VerifyingKey) -> Result<Entry> {
    let envelope: Value = serde_json::from_slice(text)?;
    let payload = BASE64_STANDARD.decode(envelope["payload"].as_str().context("no payload")?)?;
    let statement: Value = serde_json::from_slice(&payload)?;
    let predicate = &statement["predicate"];
    let kind = statement["predicateType"].as_str().context("no predicate type")?;
    let event = kind.split('/').nth(3).context("no event")?.to_owned();
    let mut subjects = BTreeMap::new();
    for subject in statement["subject"].as_array().context("no subjects")? {
        let (name, digest) = (subject["name"].as_str(), subject["digest"]["sha256"].as_str());
        subjects
            .insert(name.context("no name")?.to_owned(), digest.context("no digest")?.to_owned());
    }
    let digest = sha256(text);
    // What persons sign, and summaries, hold no position and no act; the entry after them names them.
    let (persons, summary) = (["approval", "downgrade", "acknowledgement"], "verification_summary");
    if !persons.contains(&event.as_str()) {
        signed(&envelope, &payload, key)?;
    }
    if persons.contains(&event.as_str()) || event == summary {
        let facts = predicate.clone();
        return Ok(Entry { event, act: String::new(), facts, subjects, digest });
    }
    ensure!(predicate["seq"].as_u64() == Some(seq), "it names another place");
    ensure!(predicate["prev"].as_str() == before, "it names another entry before it");
    let act = predicate["act"].as_str().context("no act")?.to_owned();
    Ok(Entry { event, act, facts: predicate["facts"].clone(), subjects, digest })
}

/// The host key signed the envelope (DSSE).
fn signed(envelope: &Value, payload: &[u8], key: &VerifyingKey) -> Result<()> {
    let signed = &envelope["signatures"][0]["sig"];
    let signature = BASE64_STANDARD.decode(signed.as_str().context("no signature")?)?;
    let payload_type = envelope["payloadType"].as_str().context("no payload type")?;
    let mut message =
        format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    message.extend_from_slice(payload);
    key.verify_strict(&message, &Signature::from_slice(&signature)?).context("its signature")
}

/// Every intent has exactly one outcome after it, before the next intent, and no act stands twice.
///
/// # Errors
/// When that is not so.
pub(crate) fn acts(log: &[Entry]) -> Result<()> {
    let mut open: Option<&str> = None;
    let mut seen = std::collections::BTreeSet::new();
    for entry in log.iter().filter(|entry| !entry.act.is_empty()) {
        ensure!(seen.insert(entry.act.as_str()), "the act {} stands twice", entry.act);
        match (entry.event.as_str(), open) {
            ("activation-intent", None) => open = entry.act.strip_suffix("/intent"),
            ("activation-intent", Some(open)) => bail!("{} while {open} is open", entry.act),
            ("activation-outcome", open_act) => {
                let of = entry.act.strip_suffix("/outcome");
                ensure!(of.is_some() && of == open_act, "{} without its intent", entry.act);
                open = None;
            }
            _ => {}
        }
    }
    ensure!(open.is_none(), "{open:?} has no outcome");
    let last = log.last().map(|entry| entry.event.as_str());
    ensure!(last != Some("verification_summary"), "a summary of nothing");
    Ok(())
}

fn hash(parts: &[&[u8]]) -> Hash {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// The root of a tree (RFC 6962, section 2.1).
fn merkle(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => hash(&[]),
        [leaf] => *leaf,
        more => {
            let split = more.len().next_power_of_two() / 2;
            let (left, right) = more.split_at(split);
            hash(&[&[1], &merkle(left), &merkle(right)])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_is_gone_or_made_anew_is_missed() {
        let entry = |digest: &str| Entry {
            event: "pin".to_owned(),
            act: digest.to_owned(),
            facts: Value::Null,
            subjects: BTreeMap::new(),
            digest: digest.to_owned(),
        };
        let log = ["a", "b", "c"].map(entry);
        let begins = |held: &[&str]| {
            let held: Vec<String> = held.iter().map(|digest| (*digest).to_owned()).collect();
            begins_with(&log, &held).map_err(|wrong| wrong.to_string())
        };
        begins(&[]).unwrap();
        begins(&["a", "b", "c"]).unwrap();
        assert!(
            begins(&["a", "b", "c", "d"]).unwrap_err().contains("record 3 was durable and is lost")
        );
        assert!(
            begins(&["a", "x"]).unwrap_err().contains("record 1 was durable and is lost; pin b")
        );
    }
}
