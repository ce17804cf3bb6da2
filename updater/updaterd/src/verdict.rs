//! Whether a candidate is good enough: its figures, the active generation's, the publisher's bounds
//! and the facility's. Pure arithmetic in integers, so that the same figures give the same verdict
//! anywhere.

use cloister_wire::supply::Figure;
use serde::Serialize;

use crate::exam::Policy;

/// A figure that could not be measured and had to be.
const NOT_MEASURED: i64 = -1;

/// What the facility demands of every candidate, whatever its publisher says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Minimums {
    /// Whether a candidate without an evaluation set is refused.
    pub(crate) evaluation_required: bool,
    /// How much worse than the active generation on held-out text, in thousandths.
    pub(crate) heldout_worse_permille_max: u32,
    /// How many fewer golden questions than the active generation, in thousandths.
    pub(crate) golden_fewer_permille_max: u32,
    /// Golden questions, in thousandths, that must be answered as expected.
    pub(crate) golden_passed_permille_min: u32,
    /// Least speed of writing, in thousandths of a token a second; 0 asks for nothing.
    pub(crate) decode_millitokens_per_s_min: u32,
    /// How much slower than the active generation, in thousandths of its speed.
    pub(crate) decode_slower_permille_max: u32,
    /// How much more memory than the active generation, in thousandths of its.
    pub(crate) peak_memory_more_permille_max: u32,
}

/// What was measured of one generation; an absent figure was not asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Measured {
    /// Whether the release brought an evaluation set; of a candidate only.
    pub(crate) set_given: bool,
    /// From the request to load until the engine was ready; of a candidate only.
    pub(crate) load_microseconds: Option<u64>,
    /// Whether a short text has a finite score.
    pub(crate) finite: bool,
    /// Tokens of one completion.
    pub(crate) completion_tokens: u32,
    /// Bits for a byte of the held-out text, in thousandths.
    pub(crate) heldout_millibits_per_byte: Option<u64>,
    /// Golden questions asked and answered as expected.
    pub(crate) golden: Option<(u32, u32)>,
    /// Questions whose document was among the first three hits, in thousandths.
    pub(crate) retrieval_hit3_permille: Option<u32>,
    /// Speed of writing.
    pub(crate) decode_millitokens_per_s: Option<u64>,
    /// Largest resident size of the engine.
    pub(crate) peak_memory_bytes: Option<u64>,
}

/// Which side of a bound is good.
#[derive(Clone, Copy)]
enum Good {
    AtMost,
    AtLeast,
}

/// The figures with their bounds; the candidate is good if all have passed.
pub(crate) fn judge(
    candidate: &Measured,
    active: Option<&Measured>,
    policy: &Policy,
    minimums: &Minimums,
) -> Vec<Figure> {
    let of_active = |figure: fn(&Measured) -> Option<u64>| active.and_then(figure);
    let mut figures = vec![
        required("evaluation-set", u64::from(candidate.set_given), minimums.evaluation_required),
        required("finite-logits", u64::from(candidate.finite), true),
        required("completion-tokens", u64::from(candidate.completion_tokens), true),
    ];
    figures.extend(compared(
        "load-microseconds",
        candidate.load_microseconds,
        None,
        None,
        Good::AtMost,
    ));

    let before = of_active(|measured| measured.heldout_millibits_per_byte);
    let permille = policy.heldout_worse_permille_max.unwrap_or(u32::MAX);
    let permille = 1000 + u64::from(permille.min(minimums.heldout_worse_permille_max));
    let worse = before.map(|before| parts(before, permille));
    let bound = least(policy.heldout_millibits_per_byte_max.map(u64::from), worse);
    figures.extend(compared(
        "heldout-millibits-per-byte",
        candidate.heldout_millibits_per_byte,
        before,
        bound,
        Good::AtMost,
    ));

    figures.extend(golden(candidate, active, policy, minimums));
    figures.extend(compared(
        "retrieval-hit3-permille",
        candidate.retrieval_hit3_permille.map(u64::from),
        of_active(|measured| measured.retrieval_hit3_permille.map(u64::from)),
        policy.retrieval_hit3_permille_min.map(u64::from),
        Good::AtLeast,
    ));

    figures.extend(speed(candidate, active, policy, minimums));
    figures.extend(memory(candidate, active, policy, minimums));
    figures
}

/// Whether every figure has passed.
pub(crate) fn passed(figures: &[Figure]) -> bool {
    figures.iter().all(|figure| figure.passed)
}

fn golden(
    candidate: &Measured,
    active: Option<&Measured>,
    policy: &Policy,
    minimums: &Minimums,
) -> Option<Figure> {
    let before = active.and_then(|active| active.golden).map(|(_, right)| u64::from(right));
    let asked = candidate.golden.map(|(asked, _)| u64::from(asked));
    let fewer = before.map(|before| {
        let of_site = before * u64::from(minimums.golden_fewer_permille_max) / 1000;
        let of_publisher = policy.golden_fewer_max.map_or(u64::MAX, u64::from);
        before.saturating_sub(of_publisher.min(of_site))
    });
    // Rounded up: 667 thousandths of three questions are three.
    // Whoever asks nothing passes none of it.
    let judged = candidate.set_given || minimums.evaluation_required;
    let of_site = Some(u64::from(minimums.golden_passed_permille_min))
        .filter(|permille| *permille > 0 && judged)
        .map(|permille| asked.map_or(1, |asked| (asked * permille).div_ceil(1000)));
    let bound = policy.golden_passed_min.map(u64::from).max(fewer).max(of_site);
    let right = candidate.golden.map(|(_, right)| u64::from(right));
    compared("golden-passed", right, before, bound, Good::AtLeast)
}

fn speed(
    candidate: &Measured,
    active: Option<&Measured>,
    policy: &Policy,
    minimums: &Minimums,
) -> Option<Figure> {
    let before = active.and_then(|active| active.decode_millitokens_per_s);
    let of_publisher = policy.decode_tokens_per_s_permille_of_active_min.unwrap_or(0);
    let of_site = 1000u32.saturating_sub(minimums.decode_slower_permille_max);
    let relative = before.map(|before| parts(before, of_publisher.max(of_site).into()));
    let absolute = u64::from(minimums.decode_millitokens_per_s_min);
    let bound = relative.max(Some(absolute)).filter(|bound| *bound > 0);
    let speed = candidate.decode_millitokens_per_s;
    compared("decode-millitokens-per-s", speed, before, bound, Good::AtLeast)
}

fn memory(
    candidate: &Measured,
    active: Option<&Measured>,
    policy: &Policy,
    minimums: &Minimums,
) -> Option<Figure> {
    let before = active.and_then(|active| active.peak_memory_bytes);
    let of_publisher = policy.peak_memory_permille_of_active_max.map_or(u64::MAX, u64::from);
    let of_site = 1000 + u64::from(minimums.peak_memory_more_permille_max);
    let relative = before.map(|before| parts(before, of_publisher.min(of_site)));
    let bound = least(policy.peak_memory_bytes_max, relative);
    compared("peak-memory-bytes", candidate.peak_memory_bytes, before, bound, Good::AtMost)
}

/// A figure that must be at least 1, if it decides.
fn required(name: &str, candidate: u64, decides: bool) -> Figure {
    Figure {
        name: name.to_owned(),
        candidate: signed(candidate),
        active: None,
        beside: None,
        bound: decides.then_some(1),
        passed: !decides || candidate >= 1,
    }
}

/// A figure beside the active generation's. One that was not measured and has a bound has failed;
/// one without either is left out.
fn compared(
    name: &str,
    candidate: Option<u64>,
    active: Option<u64>,
    bound: Option<u64>,
    good: Good,
) -> Option<Figure> {
    if candidate.is_none() && bound.is_none() {
        return None;
    }
    let passed = match (candidate, bound, good) {
        (_, None, _) => true,
        (None, Some(_), _) => false,
        (Some(figure), Some(bound), Good::AtMost) => figure <= bound,
        (Some(figure), Some(bound), Good::AtLeast) => figure >= bound,
    };
    Some(Figure {
        name: name.to_owned(),
        candidate: candidate.map_or(NOT_MEASURED, signed),
        active: active.map(signed),
        beside: None,
        bound: bound.map(signed),
        passed,
    })
}

/// `permille` thousandths of `of`, rounded down.
fn parts(of: u64, permille: u64) -> u64 {
    let product = u128::from(of) * u128::from(permille) / 1000;
    u64::try_from(product).unwrap_or(u64::MAX)
}

/// The smaller of two bounds, where there are two.
fn least(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Figures go to the record, whose numbers end at 2^53.
fn signed(figure: u64) -> i64 {
    const MOST: u64 = 1 << 53;
    i64::try_from(figure.min(MOST)).expect("2^53 fits")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Measured {
        Measured {
            set_given: true,
            load_microseconds: Some(1000),
            finite: true,
            completion_tokens: 8,
            heldout_millibits_per_byte: Some(2000),
            golden: Some((4, 3)),
            retrieval_hit3_permille: Some(900),
            decode_millitokens_per_s: Some(50_000),
            peak_memory_bytes: Some(1 << 30),
        }
    }

    fn strict() -> Policy {
        Policy {
            heldout_millibits_per_byte_max: Some(2500),
            heldout_worse_permille_max: Some(50),
            golden_passed_min: Some(2),
            golden_fewer_max: Some(1),
            retrieval_hit3_permille_min: Some(800),
            decode_tokens_per_s_permille_of_active_min: Some(800),
            peak_memory_bytes_max: Some(2 << 30),
            peak_memory_permille_of_active_max: Some(2500),
        }
    }

    /// A facility that leaves everything to the publisher.
    fn lax() -> Minimums {
        Minimums {
            heldout_worse_permille_max: 1_000_000,
            golden_fewer_permille_max: 1000,
            decode_slower_permille_max: 1000,
            peak_memory_more_permille_max: 1_000_000,
            ..Minimums::default()
        }
    }

    /// The names of the figures that failed.
    fn failed(candidate: &Measured, active: Option<&Measured>, policy: &Policy) -> Vec<String> {
        judge(candidate, active, policy, &lax())
            .into_iter()
            .filter(|figure| !figure.passed)
            .map(|figure| figure.name)
            .collect()
    }

    #[test]
    fn as_good_as_the_active_one_is_good() {
        assert!(failed(&good(), Some(&good()), &strict()).is_empty());
        assert!(failed(&good(), None, &strict()).is_empty());
    }

    #[test]
    fn whoever_asks_nothing_does_not_pass_what_the_facility_asks() {
        let minimums = Minimums { golden_passed_permille_min: 900, ..lax() };
        let judged = |candidate: &Measured, minimums: &Minimums| {
            passed(&judge(candidate, None, &Policy::default(), minimums))
        };
        let silent = Measured { golden: None, ..good() };
        assert!(!judged(&silent, &minimums));
        assert!(judged(&Measured { golden: Some((10, 9)), ..good() }, &minimums));
        // Without a set nothing is asked where the facility lets that be.
        let bare = Measured { set_given: false, ..silent };
        assert!(judged(&bare, &minimums));
        assert!(!judged(&bare, &Minimums { evaluation_required: true, ..minimums }));
    }

    #[test]
    fn each_bound_decides_at_its_edge() {
        let edges: [(&str, Measured, Measured); 8] = [
            ("finite-logits", good(), Measured { finite: false, ..good() }),
            ("completion-tokens", good(), Measured { completion_tokens: 0, ..good() }),
            (
                "heldout-millibits-per-byte",
                Measured { heldout_millibits_per_byte: Some(2100), ..good() },
                Measured { heldout_millibits_per_byte: Some(2101), ..good() },
            ),
            (
                "golden-passed",
                Measured { golden: Some((4, 2)), ..good() },
                Measured { golden: Some((4, 1)), ..good() },
            ),
            (
                "retrieval-hit3-permille",
                Measured { retrieval_hit3_permille: Some(800), ..good() },
                Measured { retrieval_hit3_permille: Some(799), ..good() },
            ),
            (
                "decode-millitokens-per-s",
                Measured { decode_millitokens_per_s: Some(40_000), ..good() },
                Measured { decode_millitokens_per_s: Some(39_999), ..good() },
            ),
            (
                "peak-memory-bytes",
                Measured { peak_memory_bytes: Some(2 << 30), ..good() },
                Measured { peak_memory_bytes: Some((2 << 30) + 1), ..good() },
            ),
            (
                "heldout-millibits-per-byte",
                good(),
                Measured { heldout_millibits_per_byte: None, ..good() },
            ),
        ];
        for (name, at, beyond) in edges {
            assert!(failed(&at, Some(&good()), &strict()).is_empty(), "{name} at its bound");
            assert_eq!(failed(&beyond, Some(&good()), &strict()), [name]);
        }
    }

    #[test]
    fn without_an_active_generation_only_absolute_bounds_decide() {
        let slow = Measured { decode_millitokens_per_s: Some(1), ..good() };
        assert!(failed(&slow, None, &strict()).is_empty());
        let worse = Measured { heldout_millibits_per_byte: Some(2501), ..good() };
        assert_eq!(failed(&worse, None, &strict()), ["heldout-millibits-per-byte"]);
    }

    #[test]
    fn the_facility_may_demand_more_than_the_publisher() {
        let minimums = Minimums {
            evaluation_required: true,
            golden_passed_permille_min: 751,
            decode_millitokens_per_s_min: 60_000,
            ..lax()
        };
        let bare = Measured { set_given: false, ..good() };
        let figures = judge(&bare, None, &Policy::default(), &minimums);
        let failed: Vec<&str> = figures
            .iter()
            .filter(|figure| !figure.passed)
            .map(|figure| figure.name.as_str())
            .collect();
        assert_eq!(failed, ["evaluation-set", "golden-passed", "decode-millitokens-per-s"]);
        assert!(!passed(&figures));
    }

    #[test]
    fn a_publisher_who_asks_for_nothing_is_still_held_to_the_active_release() {
        let facility = Minimums {
            heldout_worse_permille_max: 100,
            golden_fewer_permille_max: 200,
            decode_slower_permille_max: 400,
            peak_memory_more_permille_max: 500,
            ..Minimums::default()
        };
        let active = Measured { golden: Some((20, 10)), ..good() };
        let failed = |candidate: &Measured| -> Vec<String> {
            let figures = judge(candidate, Some(&active), &Policy::default(), &facility);
            figures.into_iter().filter(|f| !f.passed).map(|f| f.name).collect()
        };
        let at = Measured {
            heldout_millibits_per_byte: Some(2200),
            golden: Some((20, 8)),
            decode_millitokens_per_s: Some(30_000),
            peak_memory_bytes: Some(3 << 29),
            ..good()
        };
        assert!(failed(&at).is_empty());
        let beyond = Measured {
            heldout_millibits_per_byte: Some(2201),
            golden: Some((20, 7)),
            decode_millitokens_per_s: Some(29_999),
            peak_memory_bytes: Some((3 << 29) + 1),
            ..good()
        };
        let all = [
            "heldout-millibits-per-byte",
            "golden-passed",
            "decode-millitokens-per-s",
            "peak-memory-bytes",
        ];
        assert_eq!(failed(&beyond), all);
        // What its publisher says of memory beside the active release decides as well.
        let policy = Policy { peak_memory_permille_of_active_max: Some(1200), ..Policy::default() };
        let more = Measured { peak_memory_bytes: Some(1_288_490_189), ..good() };
        let figures = judge(&more, Some(&active), &policy, &lax());
        assert_eq!(figures.iter().filter(|figure| !figure.passed).count(), 1);
    }

    #[test]
    fn without_a_set_loading_and_answering_decide() {
        let bare = Measured { finite: true, completion_tokens: 1, ..Measured::default() };
        let figures = judge(&bare, None, &Policy::default(), &lax());
        assert!(passed(&figures));
        assert_eq!(figures[0].name, "evaluation-set");
        assert_eq!((figures[0].candidate, figures[0].bound), (0, None));
    }
}
