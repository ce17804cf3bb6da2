//! Mutants without end: structure-aware damage that follows from a seed and a number.
//!
//! Each takes the valid volume, chooses what to damage (the file as it lies on the medium, a file of
//! metadata, the manifest, the table, a chunk), changes it some times, and where the damaged part is
//! signed signs it again every other time, so that what comes behind the signatures is met as well.

use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};
use cloister_stage::Dice;
use serde_json::{Value, json};

use crate::{
    Base, Enclave,
    base::{Chain, Members, pack, path_of, sealed},
};

/// Texts that parsers trip over.
const WORDS: [&[u8]; 16] = [
    b"\0",
    b"\"",
    b"\\",
    b"../",
    b"{",
    b"}",
    b"[",
    b"]",
    b"null",
    b"-1",
    b"1e999",
    b"9007199254740993",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"ustar\x0000",
    b"\x28\xb5\x2f\xfd",
];

/// Offers the mutants `from..from + count` of `seed`; how often each code refused one. A mutant that
/// is the valid volume after all counts as `same`, one that those who may have signed as `accepted`.
pub fn run(seed: u64, from: u64, count: u64) -> Result<BTreeMap<String, u64>> {
    let base = Base::new()?;
    let mut enclave = Enclave::new(&base.root)?;
    enclave.learn(&base.bytes);
    ensure!(enclave.offer(&base.bytes).is_ok(), "the valid volume is accepted");
    let mut counts = BTreeMap::new();
    for number in from..from + count {
        let mutant = Mutant::new(&base, seed, number)?;
        let code = match enclave.offer(&mutant.bytes) {
            Err(refusal) => refusal.code,
            Ok(_) if mutant.bytes == base.bytes => "same",
            // Of the right form, and what lies on the shelf is what was signed.
            Ok(_) if mutant.may_enter => "accepted",
            Ok(_) => bail!("mutant {number} of seed {seed} is accepted ({})", mutant.what),
        };
        *counts.entry(code.to_owned()).or_default() += 1;
    }
    Ok(counts)
}

/// Text in the volume of [`bits`].
const BALLAST_BYTES: usize = 512 << 10;

/// Offers a volume of some 400 KiB `count` times, each time with one bit flipped that follows from `seed` and
/// the number; how often each code refused one.
pub fn bits(seed: u64, from: u64, count: u64) -> Result<BTreeMap<String, u64>> {
    let base = Base::with_ballast(BALLAST_BYTES)?;
    let mut enclave = Enclave::new(&base.root)?;
    enclave.learn(&base.bytes);
    ensure!(enclave.offer(&base.bytes).is_ok(), "the valid volume is accepted");
    let mut damaged = base.bytes;
    let mut counts = BTreeMap::new();
    for number in from..from + count {
        let mut dice = Dice::new(seed ^ number.rotate_left(32));
        let (at, bit) = (dice.below(damaged.len()), dice.below(8));
        damaged[at] ^= 1 << bit;
        match enclave.offer(&damaged) {
            Err(refusal) => *counts.entry(refusal.code.to_owned()).or_default() += 1,
            Ok(_) => bail!("bit {bit} of byte {at} may be flipped"),
        }
        damaged[at] ^= 1 << bit;
    }
    Ok(counts)
}

/// One damaged volume.
#[derive(Debug)]
pub struct Mutant {
    /// The volume.
    pub bytes: Vec<u8>,
    /// Which part was damaged.
    pub what: &'static str,
    /// Whether it may be accepted: the damaged part was signed again by those who may, or is a file of
    /// metadata that nobody asks for.
    pub may_enter: bool,
}

impl Mutant {
    /// The mutant with this number.
    pub fn new(base: &Base, seed: u64, number: u64) -> Result<Self> {
        let mut dice = Dice::new(seed ^ number.rotate_left(32));
        let made = |what, bytes, may_enter| Ok(Self { bytes, what, may_enter });
        match dice.below(8) {
            0 => {
                let mut bytes = base.bytes.clone();
                change(&mut bytes, &mut dice);
                made("volume", bytes, false)
            }
            1 => made("members", pack(&shuffled(&base.members, &mut dice)), false),
            2 => {
                let meta = shuffled(&base.meta, &mut dice);
                // The root is held already, and unknown files are passed over.
                let needed = base.meta.iter().filter(|(name, _)| name != "1.root.json");
                let whole = needed.into_iter().all(|file| meta.contains(file));
                made("meta", base.with_meta(&meta), whole)
            }
            3 => {
                let mut members = base.members.clone();
                let at = dice.below(members.len());
                change(&mut members[at].1, &mut dice);
                made("member", pack(&members), false)
            }
            4 => {
                let mut meta = base.meta.clone();
                let at = dice.below(meta.len());
                change(&mut meta[at].1, &mut dice);
                made("metadata", base.with_meta(&meta), false)
            }
            5 => {
                let mut targets = base.signed("targets.json")?;
                value(&mut targets, &mut dice);
                made("targets, signed", base.with_meta(&base.chain(&Chain::of(targets))?), true)
            }
            6 => manifest(base, &mut dice),
            _ => table(base, &mut dice),
        }
    }
}

/// A manifest damaged as text or as a value, signed and listed.
fn manifest(base: &Base, dice: &mut Dice) -> Result<Mutant> {
    let bytes = if dice.below(2) == 0 {
        let mut payload = base.statement.to_string().into_bytes();
        change(&mut payload, dice);
        pack(&base.with_envelope(&path_of(&base.statement), &sealed(payload))?)
    } else {
        let mut statement = base.statement.clone();
        value(&mut statement, dice);
        pack(&base.with_statement(&statement)?)
    };
    Ok(Mutant { bytes, what: "manifest, signed", may_enter: true })
}

/// A table or a chunk damaged, its digests made right and signed.
fn table(base: &Base, dice: &mut Dice) -> Result<Mutant> {
    let mut table = base.member("clb/40-index")?.to_vec();
    let all = base.members.iter().filter(|(name, _)| name.starts_with("c/"));
    let mut chunks: Vec<Vec<u8>> = all.map(|(_, content)| content.clone()).collect();
    let what = if dice.below(2) == 0 {
        change(&mut table, dice);
        "table, signed"
    } else {
        let at = dice.below(chunks.len());
        change(&mut chunks[at], dice);
        let entry = 32 + 104 * at;
        let digest = cloister_domain::Digest::of(&chunks[at]);
        table[entry..entry + 32].copy_from_slice(digest.as_bytes());
        let length = (chunks[at].len() as u64).to_le_bytes();
        table[entry + 32..entry + 40].copy_from_slice(&length);
        let stored: u64 = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        table[24..32].copy_from_slice(&stored.to_le_bytes());
        "chunk, signed"
    };
    Ok(Mutant { bytes: base.with_index(&table, &chunks)?, what, may_enter: true })
}

/// Members dropped, doubled, swapped, renamed.
fn shuffled(members: &Members, dice: &mut Dice) -> Members {
    let mut members = members.clone();
    for _ in 0..=dice.below(3) {
        let at = dice.below(members.len());
        match dice.below(4) {
            0 if members.len() > 1 => drop(members.remove(at)),
            1 => {
                let copy = members[at].clone();
                members.insert(dice.below(members.len() + 1), copy);
            }
            2 => {
                let other = dice.below(members.len());
                members.swap(at, other);
            }
            _ => {
                let name = &mut members[at].0;
                let letter = char::from(b'!' + u8::try_from(dice.below(94)).unwrap_or_default());
                if dice.below(2) == 0 || name.len() > 90 {
                    name.pop();
                }
                name.push(letter);
            }
        }
    }
    members
}

/// A few changes of bytes: bits, interesting numbers, words, cuts, copies.
pub fn change(bytes: &mut Vec<u8>, dice: &mut Dice) {
    for _ in 0..=dice.below(4) {
        let at = dice.below(bytes.len() + 1);
        match dice.below(8) {
            0..=2 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << dice.below(8);
                }
            }
            3 => {
                let number = [0u64, 1, u64::MAX, 1 << 31, 1 << 32, 1 << 63, 4 << 20, dice.roll()];
                let number = number[dice.below(number.len())].to_le_bytes();
                for (byte, new) in bytes.iter_mut().skip(at & !7).zip(number) {
                    *byte = new;
                }
            }
            4 => {
                let word = WORDS[dice.below(WORDS.len())];
                bytes.splice(at..at, word.iter().copied());
            }
            5 => {
                let end = (at + dice.below(600)).min(bytes.len());
                bytes.drain(at..end);
            }
            6 => {
                let end = (at + dice.below(600)).min(bytes.len());
                let copy = bytes[at..end].to_vec();
                let to = dice.below(bytes.len() + 1);
                bytes.splice(to..to, copy);
            }
            _ => bytes.truncate(at),
        }
    }
}

/// One place in a JSON value gets another value, is doubled or taken away.
fn value(whole: &mut Value, dice: &mut Dice) {
    let mut at = whole;
    // Down to a random depth.
    loop {
        let inside = match at {
            Value::Object(fields) => fields.len(),
            Value::Array(items) => items.len(),
            _ => 0,
        };
        if inside == 0 || dice.below(5) == 0 {
            break;
        }
        let chosen = dice.below(inside);
        at = match at {
            Value::Object(fields) => fields.values_mut().nth(chosen).expect("it is inside"),
            Value::Array(items) => items.get_mut(chosen).expect("it is inside"),
            _ => return,
        };
    }
    let text = String::from_utf8_lossy(WORDS[dice.below(WORDS.len())]).into_owned();
    let now = at.as_u64().unwrap_or_default();
    let others = [
        Value::Null,
        json!(false),
        json!(-1),
        json!(0),
        json!(now.wrapping_add(1)),
        json!(now.saturating_sub(1)),
        json!((1u64 << 53) - 1),
        json!(dice.roll()),
        json!(text),
        json!([at.clone(), at.clone()]),
        json!({ text: at.clone() }),
        json!([]),
    ];
    *at = others[dice.below(others.len())].clone();
}

/// Whether a seed gives the same mutant twice; for the tests.
pub fn is_repeatable(base: &Base, seed: u64, number: u64) -> Result<bool> {
    let first = Mutant::new(base, seed, number)?;
    let second = Mutant::new(base, seed, number)?;
    ensure!(!first.what.is_empty(), "a mutant says what it is");
    Ok(first.bytes == second.bytes)
}
