//! Which passages answer a question: the floor that evidence must reach, and the order of what is
//! above it.

/// Share of the vectors in the order; words have the rest (retrieval study, section 1: 0.4 to 0.5 are
/// equally good, min-max sums beat reciprocal ranks by 0.026 MRR).
pub const VECTOR_WEIGHT: f32 = 0.45;

/// Cosine from which a passage is evidence whatever its words. Unrelated sentences of MiniLM lie
/// below 0.2, paraphrases above 0.5.
const COSINE_ALONE: f32 = 0.4;
/// Coverage from which a passage is evidence whatever its vector: half of what was asked.
const COVERAGE_ALONE: f32 = 0.5;
/// What suffices together.
const COSINE_TOGETHER: f32 = 0.25;
/// What suffices together.
const COVERAGE_TOGETHER: f32 = 0.3;

/// What speaks for a passage.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evidence {
    /// Share of what is asked that its words speak of, in [0, 1].
    pub coverage: f32,
    /// Cosine of its vector and the question's, if both have one.
    pub cosine: Option<f32>,
}

impl Evidence {
    /// Whether this is enough to show the passage at all. A question about something else has no
    /// hit rather than the least bad one.
    #[must_use]
    pub fn suffices(&self) -> bool {
        let cosine = self.cosine.unwrap_or(0.0);
        self.coverage >= COVERAGE_ALONE
            || cosine >= COSINE_ALONE
            || (self.coverage >= COVERAGE_TOGETHER && cosine >= COSINE_TOGETHER)
    }
}

/// A passage that one of the two rankings names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// The store's number of the passage.
    pub key: u64,
    /// BM25, if it is in the ranking by words.
    pub words: Option<f32>,
    /// Cosine, if it is in the ranking by vectors.
    pub vector: Option<f32>,
    /// What decides whether it is shown.
    pub evidence: Evidence,
}

/// A passage that answers, and its place in the order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ranked {
    /// The store's number of the passage.
    pub key: u64,
    /// Weighted sum of the two scores, each brought to [0, 1] over the candidates; in [0, 1].
    pub score: f32,
}

/// Orders the candidates with sufficient evidence, best first, equal ones by key.
///
/// `vectors` says whether the question has a vector; without one the words have all the weight. A
/// list with a single score, or with equal ones, counts as 1 for each of its members.
#[must_use]
pub fn fuse(candidates: &[Candidate], vectors: bool) -> Vec<Ranked> {
    let weight = if vectors { VECTOR_WEIGHT } else { 0.0 };
    let by_words = Span::of(candidates.iter().filter_map(|candidate| candidate.words));
    let by_vector = Span::of(candidates.iter().filter_map(|candidate| candidate.vector));
    let mut ranked: Vec<Ranked> = candidates
        .iter()
        .filter(|candidate| candidate.evidence.suffices())
        .map(|candidate| Ranked {
            key: candidate.key,
            score: weight * by_vector.place(candidate.vector)
                + (1.0 - weight) * by_words.place(candidate.words),
        })
        .collect();
    ranked.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.key.cmp(&b.key)));
    ranked
}

/// Least and greatest of a list of scores.
struct Span {
    least: f32,
    greatest: f32,
}

impl Span {
    fn of(scores: impl Iterator<Item = f32>) -> Self {
        scores.fold(Self { least: f32::INFINITY, greatest: f32::NEG_INFINITY }, |span, score| {
            Self { least: span.least.min(score), greatest: span.greatest.max(score) }
        })
    }

    fn place(&self, score: Option<f32>) -> f32 {
        match score {
            None => 0.0,
            Some(_) if self.greatest <= self.least => 1.0,
            Some(score) => ((score - self.least) / (self.greatest - self.least)).clamp(0.0, 1.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidate(key: u64, words: Option<f32>, vector: Option<f32>) -> Candidate {
        let coverage = if words.is_some() { 1.0 } else { 0.0 };
        Candidate { key, words, vector, evidence: Evidence { coverage, cosine: vector } }
    }

    #[test]
    fn both_rankings_count() {
        let found = fuse(
            &[
                candidate(1, Some(9.0), Some(0.1)),
                candidate(2, Some(5.0), Some(0.9)),
                candidate(3, Some(1.0), Some(0.5)),
            ],
            true,
        );
        assert_eq!(found.iter().map(|hit| hit.key).collect::<Vec<_>>(), [2, 1, 3]);
        assert!((found[1].score - 0.55).abs() < 1e-6);
    }

    #[test]
    fn few_candidates_have_defined_scores() {
        assert!(fuse(&[], true).is_empty());
        let one = fuse(&[candidate(1, Some(0.3), None)], false);
        assert!((one[0].score - 1.0).abs() < 1e-6);
        let equal = fuse(&[candidate(2, Some(0.3), None), candidate(1, Some(0.3), None)], false);
        assert_eq!(equal[0].key, 1, "equal scores go by key");
    }

    #[test]
    fn weak_evidence_is_none() {
        let weak = Evidence { coverage: 0.2, cosine: Some(0.2) };
        assert!(!weak.suffices());
        assert!(Evidence { coverage: 0.35, cosine: Some(0.3) }.suffices());
        assert!(!Evidence { coverage: 0.35, cosine: None }.suffices());
    }

    proptest! {
        #[test]
        fn scores_lie_in_the_unit_interval_and_fall(
            scores in prop::collection::vec((any::<Option<u16>>(), any::<Option<u16>>()), 0..50)
        ) {
            let candidates: Vec<Candidate> = (0u64..)
                .zip(scores)
                .map(|(key, (a, b))| candidate(
                    key,
                    a.map(f32::from),
                    b.map(|b| f32::from(b) / 65535.0),
                ))
                .collect();
            for vectors in [false, true] {
                let found = fuse(&candidates, vectors);
                prop_assert!(found.iter().all(|hit| (0.0..=1.0).contains(&hit.score)));
                prop_assert!(found.is_sorted_by(|a, b| a.score >= b.score));
            }
        }
    }
}
