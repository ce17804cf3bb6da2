//! One function for each parser of foreign bytes, with the signature that fuzzers drive: `fn(&[u8])`.
//! Whatever the bytes, it returns; what it accepts, it must be able to say again.
//!
//! The corpus under `corpus/TARGET/` is replayed by an ordinary test, mutated a little; the program
//! `cloister-fuzz` mutates it for as long as one likes (`./x prove fuzz`). A file that made a target
//! fail joins the corpus.

mod seeds;
mod targets;

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use cloister_stage::{Dice, release::read_file};

pub use targets::{TARGETS, Target};

/// What a target begins with: the files of its corpus, and good input made by the code itself.
///
/// # Errors
/// When the corpus cannot be read.
pub fn corpus(target: &Target) -> Result<Vec<Vec<u8>>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
    let mut inputs = seeds::of(target.name)?;
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("no {}", folder.display()))? {
        files.push(entry?.path());
    }
    files.sort();
    for file in files {
        inputs.push(read_file(&file)?);
    }
    Ok(inputs)
}

/// Drives `target` with the mutants `from..from + count` of its corpus.
///
/// # Errors
/// When the corpus cannot be read. A target that fails panics; the number before it was good.
pub fn drive(target: &Target, seed: u64, from: u64, count: u64) -> Result<()> {
    let corpus = corpus(target)?;
    for number in from..from.saturating_add(count) {
        (target.run)(&mutant(&corpus, seed, number));
    }
    Ok(())
}

/// The mutant with this number.
#[must_use]
pub fn mutant(corpus: &[Vec<u8>], seed: u64, number: u64) -> Vec<u8> {
    let mut dice = Dice::new(seed ^ number.rotate_left(32));
    let mut bytes = corpus[dice.below(corpus.len())].clone();
    cloister_hostile::mutants::change(&mut bytes, &mut dice);
    bytes
}
