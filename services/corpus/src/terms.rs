//! What passages and questions consist of, and how much a word tells.

use std::collections::{BTreeMap, BTreeSet};

pub use crate::fold::TERM_BYTES_MAX;
use crate::{
    fold::{raw_words, words},
    stem::stem,
    stop::is_stop,
};

/// Most words, and most pairs, of a question that are looked up.
pub const QUERY_TERMS_MAX: usize = 64;

/// Weight of a pair of neighbouring words beside that of a word (retrieval study, section 1: pairs at
/// 0.3 of their own BM25 add 0.025 MRR).
pub const PAIR_WEIGHT: f32 = 0.3;

/// Documents that every reader is imagined to see beside the real ones, none of which holds the
/// words asked for. In a collection of ten passages a word would otherwise tell almost nothing, and
/// whether a question is answered would hang on the collection's size.
const BACKGROUND: u32 = 1000;

/// What a passage consists of for ranking by words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bag {
    /// Its words in order, those of its headings first.
    pub words: Vec<String>,
    /// Its pairs of neighbouring words, each with a space between.
    pub pairs: Vec<String>,
}

/// The bag of a passage that stands under `headings`.
#[must_use]
pub fn bag(text: &str, headings: &[&str]) -> Bag {
    let own = words(text);
    let pairs = neighbours(&own);
    let mut all: Vec<String> = headings.iter().flat_map(|heading| words(heading)).collect();
    all.extend(own);
    Bag { words: all, pairs }
}

fn neighbours(words: &[String]) -> Vec<String> {
    words
        .windows(2)
        .filter_map(|pair| match pair {
            [first, second] => Some(format!("{first} {second}")),
            _ => None,
        })
        .collect()
}

/// A word of a question.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct QueryTerm(pub String);

/// A question, taken apart. Holds people's words: it is not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Query {
    /// The words that say what it is about, each once.
    pub terms: BTreeSet<QueryTerm>,
    /// Neighbouring words of which at least one is in `terms`.
    pub pairs: BTreeSet<String>,
}

impl std::fmt::Debug for Query {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Query of {} words", self.terms.len())
    }
}

/// Takes a question apart. There is no query language: every character is a word or parts words.
#[must_use]
pub fn query(text: &str) -> Query {
    let mut terms = BTreeSet::new();
    let mut pairs = BTreeSet::new();
    let mut before: Option<(String, bool)> = None;
    for raw in raw_words(&crate::normalise(text)) {
        let (stop, word) = (is_stop(&raw), stem(&raw));
        if let Some((first, first_stop)) = &before
            && !(stop && *first_stop)
            && pairs.len() < QUERY_TERMS_MAX
        {
            pairs.insert(format!("{first} {word}"));
        }
        if !stop && terms.len() < QUERY_TERMS_MAX {
            terms.insert(QueryTerm(word.clone()));
        }
        before = Some((word, stop));
    }
    Query { terms, pairs }
}

/// How often the words of one question occur in the passages that its reader may see.
///
/// Counted over those passages alone: over all, a reader could learn which words stand in documents
/// that are hidden from him (Wang et al., "Side-channel attacks on shared search indexes", IEEE S&P
/// 2017).
#[derive(Clone, Debug, Default)]
pub struct Statistics {
    /// Passages seen.
    pub passages: u32,
    /// Passages that hold each word of the question.
    pub holding: BTreeMap<QueryTerm, u32>,
}

impl Statistics {
    /// How much a word tells: the logarithm of how rare it is, the background counted in.
    fn weight(&self, term: &QueryTerm) -> f32 {
        let all = as_f32(self.passages.saturating_add(BACKGROUND));
        let holding = as_f32(self.holding.get(term).copied().unwrap_or(0));
        (1.0 + (all - holding + 0.5) / (holding + 0.5)).ln()
    }

    /// The share of what `query` asks that a passage with these words speaks of, in [0, 1]: the sum
    /// of the weights of the words it holds over that of all. 0 for a question without a word that
    /// says what it is about.
    #[must_use]
    pub fn coverage(&self, query: &Query, bag: &Bag) -> f32 {
        let held: BTreeSet<&str> = bag.words.iter().map(String::as_str).collect();
        let (mut found, mut asked) = (0.0, 0.0);
        for term in &query.terms {
            let weight = self.weight(term);
            asked += weight;
            if held.contains(term.0.as_str()) {
                found += weight;
            }
        }
        if asked > 0.0 { found / asked } else { 0.0 }
    }
}

/// Exact up to 2^24, which is more passages than a scan without codes serves.
#[expect(clippy::cast_precision_loss, reason = "counts; beyond 2^24 an error of 1e-7 in a weight")]
const fn as_f32(count: u32) -> f32 {
    count as f32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(passages: u32, holding: &[(&str, u32)]) -> Statistics {
        let holding =
            holding.iter().map(|(word, count)| (QueryTerm((*word).to_owned()), *count)).collect();
        Statistics { passages, holding }
    }

    #[test]
    fn questions_lose_the_words_they_are_put_with() {
        let asked = query("What should I do when the pumps are leaking?");
        let terms: Vec<&str> = asked.terms.iter().map(|term| term.0.as_str()).collect();
        assert_eq!(terms, ["leak", "pump"]);
        assert!(asked.pairs.contains("the pump"));
        assert!(!asked.pairs.contains("should i"));
        assert!(query("What is it? \u{2026}").terms.is_empty());
        assert_eq!(format!("{asked:?}"), "Query of 2 words");
    }

    #[test]
    fn coverage_is_the_share_of_what_is_asked() {
        let asked = query("leaking pump");
        let statistics = one(10, &[("leak", 1), ("pump", 1)]);
        let held = |text: &str| statistics.coverage(&asked, &bag(text, &[]));
        assert!((held("pumps leak") - 1.0).abs() < 1e-6);
        assert!((held("a pump") - 0.5).abs() < 1e-6);
        assert!(held("a kettle").abs() < 1e-6);
        let unknown = one(10, &[("pump", 1)]);
        assert!(unknown.coverage(&asked, &bag("a pump", &[])) < 0.5, "the unknown word tells more");
    }

    proptest! {
        #[test]
        fn any_text_is_a_bounded_question(text in any::<String>(), other in any::<String>()) {
            let asked = query(&text);
            prop_assert!(asked.terms.len() <= QUERY_TERMS_MAX);
            prop_assert!(asked.pairs.len() <= QUERY_TERMS_MAX);
            let share = one(3, &[]).coverage(&asked, &bag(&other, &[]));
            prop_assert!((0.0..=1.0).contains(&share));
        }

        #[test]
        fn a_passage_answers_itself(text in "([b-z]{3,9} ){1,30}") {
            let asked = query(&text);
            let share = one(3, &[]).coverage(&asked, &bag(&text, &[]));
            prop_assert!(asked.terms.is_empty() || (share - 1.0).abs() < 1e-5);
        }
    }
}
