//! The corpus of every target, as it is and mutated a little.

use cloister_fuzz::{TARGETS, corpus, drive, mutant};

/// Mutants of each target in the ordinary tests; `./x prove fuzz` goes on.
const SHARE: u64 = 300;

#[test]
fn every_corpus_is_read_without_a_failure() {
    for target in &TARGETS {
        let corpus = corpus(target).unwrap();
        assert!(!corpus.is_empty(), "{} has no input", target.name);
        corpus.iter().for_each(|input| (target.run)(input));
        assert_eq!(
            mutant(&corpus, 1, 2),
            mutant(&corpus, 1, 2),
            "a mutant follows from its number"
        );
    }
}

#[test]
fn some_mutants_of_every_corpus_are_read_without_a_failure() {
    for target in &TARGETS {
        drive(target, 1, 0, SHARE).unwrap();
    }
}
