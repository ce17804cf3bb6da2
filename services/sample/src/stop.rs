//! Stop texts in an answer that comes in pieces.

use zeroize::Zeroize as _;

/// Lets an answer through up to the first stop text; holds back what may be the beginning of one.
///
/// Of several stop texts the one that begins first wins, whatever the pieces are.
pub struct StopMatcher {
    stops: Vec<String>,
    held: String,
    is_stopped: bool,
}

impl std::fmt::Debug for StopMatcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StopMatcher").field("is_stopped", &self.is_stopped).finish_non_exhaustive()
    }
}

impl Drop for StopMatcher {
    fn drop(&mut self) {
        self.stops.zeroize();
        self.held.zeroize();
    }
}

impl StopMatcher {
    /// A matcher for `stops`; empty ones are left out.
    #[must_use]
    pub fn new(stops: &[String]) -> Self {
        let stops = stops.iter().filter(|stop| !stop.is_empty()).cloned().collect();
        Self { stops, held: String::new(), is_stopped: false }
    }

    /// Takes the next piece and gives what is certainly not part of a stop text.
    pub fn push(&mut self, piece: &str) -> String {
        if self.is_stopped {
            return String::new();
        }
        self.held.push_str(piece);
        let found = self.stops.iter().filter_map(|stop| self.held.find(stop)).min();
        // A stop text that began earlier may still be on its way, so the end of what is certain is
        // the first place where any stop text could begin.
        let safe = (0..self.held.len())
            .filter(|at| self.held.is_char_boundary(*at))
            .find(|at| {
                let tail = self.held.split_at(*at).1;
                self.stops.iter().any(|stop| stop.starts_with(tail))
            })
            .unwrap_or(self.held.len());
        match found {
            Some(at) if at <= safe => {
                self.is_stopped = true;
                self.held.truncate(at);
                std::mem::take(&mut self.held)
            }
            _ => {
                let rest = self.held.split_off(safe);
                std::mem::replace(&mut self.held, rest)
            }
        }
    }

    /// Whether a stop text was met; nothing more comes.
    #[must_use]
    pub const fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    /// What was held back, at the end of an answer in which no stop text was completed there.
    #[must_use]
    pub fn finish(mut self) -> String {
        let Some(at) = self.stops.iter().filter_map(|stop| self.held.find(stop)).min() else {
            return std::mem::take(&mut self.held);
        };
        self.held.truncate(at);
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(stops: &[&str], pieces: &[&str], given: &[&str], is_stopped: bool) {
        let stops: Vec<String> = stops.iter().map(|stop| (*stop).to_owned()).collect();
        let mut matcher = StopMatcher::new(&stops);
        let texts: Vec<String> = pieces.iter().map(|piece| matcher.push(piece)).collect();
        assert_eq!(
            (texts.as_slice(), matcher.is_stopped()),
            (given.map_owned().as_slice(), is_stopped)
        );
    }

    trait Owned {
        fn map_owned(&self) -> Vec<String>;
    }

    impl Owned for [&str] {
        fn map_owned(&self) -> Vec<String> {
            self.iter().map(|text| (*text).to_owned()).collect()
        }
    }

    #[test]
    fn possible_beginnings_are_held_back() {
        check(&["END"], &["abE", "N", "x", "END", "more"], &["ab", "", "ENx", "", ""], true);
        check(&["\n\n"], &["a\n", "b\n", "\nc"], &["a", "\nb", ""], true);
        check(&[], &["a", ""], &["a", ""], false);
        check(&["é!"], &["caf\u{e9}", "s"], &["caf", "és"], false);
        // The longer text began earlier: it wins if it comes, else the shorter one does.
        check(&["abcd", "bc"], &["xabc", "d"], &["x", ""], true);
    }

    #[test]
    fn what_was_held_comes_at_the_end() {
        let stops = vec!["abcd".to_owned(), "bc".to_owned()];
        let mut matcher = StopMatcher::new(&stops);
        assert_eq!(matcher.push("xabc"), "x");
        assert_eq!(matcher.finish(), "a");
        let mut matcher = StopMatcher::new(&stops);
        assert_eq!(matcher.push("xab"), "x");
        assert_eq!(matcher.finish(), "ab");
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(text in "[ab]{0,40}", stops in prop::collection::vec("[ab]{1,4}", 0..3),
                                cut in 1usize..5) {
            let stops: Vec<String> = stops;
            let mut matcher = StopMatcher::new(&stops);
            let mut given = String::new();
            for piece in text.as_bytes().chunks(cut) {
                given.push_str(&matcher.push(std::str::from_utf8(piece).expect("ASCII")));
            }
            given.push_str(&matcher.finish());
            let end = stops.iter().filter_map(|stop| text.find(stop)).min().unwrap_or(text.len());
            prop_assert_eq!(given, text.split_at(end).0);
        }
    }
}
