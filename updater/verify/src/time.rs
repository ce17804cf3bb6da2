//! Points in time as TUF writes them; compared, never read from a clock.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A time in UTC to the second, in TUF's one spelling: `2030-01-31T00:00:00Z`.
///
/// The spelling has a fixed width, so the order of the text is the order of time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Instant(String);

/// A text that is not such a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a time is written like 2030-01-31T00:00:00Z")]
pub struct InstantError;

impl FromStr for Instant {
    type Err = InstantError;

    fn from_str(text: &str) -> Result<Self, InstantError> {
        const SHAPE: &[u8; 20] = b"0000-00-00T00:00:00Z";
        let fits = |(given, shape): (u8, &u8)| match shape {
            b'0' => given.is_ascii_digit(),
            fixed => given == *fixed,
        };
        let shaped = text.len() == SHAPE.len() && text.bytes().zip(SHAPE).all(fits);
        let field = |from: usize, to: usize, low: u8, high: u8| {
            text.get(from..to)
                .and_then(|digits| digits.parse::<u8>().ok())
                .is_some_and(|value| (low..=high).contains(&value))
        };
        let ranged = field(5, 7, 1, 12)
            && field(8, 10, 1, 31)
            && field(11, 13, 0, 23)
            && field(14, 16, 0, 59)
            && field(17, 19, 0, 60);
        if shaped && ranged { Ok(Self(text.to_owned())) } else { Err(InstantError) }
    }
}

impl TryFrom<String> for Instant {
    type Error = InstantError;

    fn try_from(text: String) -> Result<Self, InstantError> {
        text.parse()
    }
}

impl From<Instant> for String {
    fn from(instant: Instant) -> Self {
        instant.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_one_spelling_and_an_order() {
        let at = |text: &str| text.parse::<Instant>();
        assert!(
            at("2030-01-31T00:00:00Z").expect("good") < at("2030-02-01T00:00:00Z").expect("good")
        );
        for bad in [
            "",
            "2030-01-31",
            "2030-01-31T00:00:00+00:00",
            "2030-01-31T00:00:00.0Z",
            "2030-13-01T00:00:00Z",
            "2030-00-01T00:00:00Z",
            "2030-01-01T24:00:00Z",
            "20300-1-01T00:00:00Z",
        ] {
            assert_eq!(at(bad), Err(InstantError), "{bad}");
        }
    }
}
