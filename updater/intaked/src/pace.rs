//! How fast a copy goes, and how long it still takes, over the last seconds.

use std::{collections::VecDeque, time::Duration};

use cloister_domain::ByteCount;

/// The rate is that of so much time past: long enough to be steady, short enough to notice that a
/// stick became slow.
const WINDOW: Duration = Duration::from_secs(10);
/// Nothing is told of a shorter time: the first chunks come out of a cache.
const SHORTEST: Duration = Duration::from_millis(500);
/// Looks that are kept; they come once a second and for each hundredth.
const LOOKS_MAX: usize = 128;

/// What has been done when.
#[derive(Debug, Default)]
pub(crate) struct Pace(VecDeque<(Duration, u64)>);

impl Pace {
    /// Notes that after `elapsed` since the start `done` bytes are done.
    pub(crate) fn note(&mut self, elapsed: Duration, ByteCount(done): ByteCount) {
        while self.0.len() >= LOOKS_MAX
            || self.0.get(1).is_some_and(|(at, _)| elapsed.saturating_sub(*at) >= WINDOW)
        {
            self.0.pop_front();
        }
        self.0.push_back((elapsed, done));
    }

    /// Bytes a second between the first and the last look.
    pub(crate) fn bytes_per_s(&self) -> Option<ByteCount> {
        let ((from, before), (to, after)) = (self.0.front()?, self.0.back()?);
        let took = to.saturating_sub(*from);
        if took < SHORTEST {
            return None;
        }
        let done = u128::from(after.saturating_sub(*before));
        u64::try_from(done * 1000 / took.as_millis()).ok().map(ByteCount)
    }

    /// Seconds for `left` bytes more; none while nothing moves.
    pub(crate) fn left_s(&self, left: u64) -> Option<u64> {
        let ByteCount(rate) = self.bytes_per_s()?;
        (rate > 0).then(|| left.div_ceil(rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let mut pace = Pace::default();
        assert_eq!(pace.left_s(1), None);
        // Half of the release was there already: that is no speed.
        pace.note(Duration::ZERO, ByteCount(1 << 40));
        assert_eq!(pace.bytes_per_s(), None);
        for second in 1..=20u64 {
            // 100 MB a second at first, then 10.
            let done = second.min(5) * 100_000_000 + second.saturating_sub(5) * 10_000_000;
            pace.note(Duration::from_secs(second), ByteCount((1 << 40) + done));
            if second == 5 {
                assert_eq!(pace.bytes_per_s(), Some(ByteCount(100_000_000)));
                assert_eq!(pace.left_s(250_000_000), Some(3));
            }
        }
        assert_eq!(pace.bytes_per_s(), Some(ByteCount(10_000_000)));
        pace.note(Duration::from_secs(40), ByteCount((1 << 40) + 650_000_000));
        assert_eq!(pace.left_s(1), None, "nothing moves");
    }
}
