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
        if !shaped || !ranged {
            return Err(InstantError);
        }
        let instant = Self(text.to_owned());
        // A day that its month lacks would be the same as another, which is written otherwise.
        let noon =
            instant.days().checked_mul(86_400).and_then(|seconds| seconds.checked_add(43_200));
        let same_day =
            noon.and_then(of_unix_seconds).is_some_and(|day| day.get(..10) == text.get(..10));
        if same_day { Ok(instant) } else { Err(InstantError) }
    }
}

impl Instant {
    /// The time that is so many seconds after 1970-01-01T00:00:00Z; `None` beyond the years 0 to 9999.
    #[must_use]
    pub fn from_unix_seconds(seconds: i64) -> Option<Self> {
        of_unix_seconds(seconds)?.parse().ok()
    }

    /// Days since 1970-01-01, by the calendar of RFC 3339; a day that a month lacks runs over.
    #[must_use]
    pub fn days(&self) -> i64 {
        let field = |from: usize, to: usize| {
            self.0.get(from..to).and_then(|digits| digits.parse::<i64>().ok()).unwrap_or(0)
        };
        let (year, month, day) = (field(0, 4), field(5, 7), field(8, 10));
        // Years begin in March, so that the day that some of them lack is their last.
        let (year, month) = if month > 2 {
            (year, month.saturating_sub(3))
        } else {
            (year.saturating_sub(1), month.saturating_add(9))
        };
        let leap_days = year
            .div_euclid(4)
            .saturating_sub(year.div_euclid(100))
            .saturating_add(year.div_euclid(400));
        let of_months = month.saturating_mul(153).saturating_add(2).div_euclid(5);
        // From 0000-03-01 to 1970-01-01 are 719 468 days, counted with the first of a month as 1.
        year.saturating_mul(365)
            .saturating_add(leap_days)
            .saturating_add(of_months)
            .saturating_add(day)
            .saturating_sub(719_469)
    }
}

/// The text of the time that is so many seconds after 1970; `None` beyond the years 0 to 9999.
fn of_unix_seconds(seconds: i64) -> Option<String> {
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Years begin in March, so that the day that some of them lack is their last; four hundred
    // years have 146 097 days (the inverse of `days`).
    let days = days.checked_add(719_468)?;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let leap_days = |day: i64| {
        day.div_euclid(1460)
            .saturating_sub(day.div_euclid(36_524))
            .saturating_add(day.div_euclid(146_096))
    };
    let year = day.saturating_sub(leap_days(day)).div_euclid(365);
    let before = year
        .saturating_mul(365)
        .saturating_add(year.div_euclid(4))
        .saturating_sub(year.div_euclid(100));
    let day = day.saturating_sub(before);
    let month = day.saturating_mul(5).saturating_add(2).div_euclid(153);
    let day = day
        .saturating_sub(month.saturating_mul(153).saturating_add(2).div_euclid(5))
        .saturating_add(1);
    let (month, next) =
        if month < 10 { (month.saturating_add(3), 0) } else { (month.saturating_sub(9), 1) };
    let year = era.checked_mul(400)?.checked_add(year)?.checked_add(next)?;
    let (hour, minute) = (second.div_euclid(3600), second.rem_euclid(3600).div_euclid(60));
    let second = second.rem_euclid(60);
    (0..=9999)
        .contains(&year)
        .then(|| format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"))
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
    fn days_are_those_of_the_calendar() {
        for (text, days) in [
            ("1970-01-01", 0),
            ("1969-12-31", -1),
            ("1970-03-01", 59),
            ("2000-02-29", 11_016),
            ("2000-03-01", 11_017),
            ("2026-11-21", 20_778),
            ("2100-03-01", 47_541),
            ("0000-03-01", -719_468),
            ("1999-12-31", 10_956),
            ("2024-02-29", 19_782),
            ("9999-12-31", 2_932_896),
        ] {
            let at: Instant = format!("{text}T12:00:00Z").parse().expect("a time");
            assert_eq!(at.days(), days, "{text}");
            assert_eq!(Instant::from_unix_seconds(days * 86_400 + 43_200), Some(at), "{text}");
        }
    }

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
            "2030-01-31T00:00:00",
            "2030-01-31 00:00:00Z",
            "203x-01-31T00:00:00Z",
            "2030-13-01T00:00:00Z",
            "2030-00-01T00:00:00Z",
            "2030-01-32T00:00:00Z",
            "2030-01-00T00:00:00Z",
            "2030-01-01T24:00:00Z",
            "2030-01-01T00:60:00Z",
            "2030-01-01T00:00:61Z",
            "20300-1-01T00:00:00Z",
            "2099-02-29T00:00:00Z",
            "2030-04-31T00:00:00Z",
        ] {
            assert_eq!(at(bad), Err(InstantError), "{bad}");
        }
        assert!(at("2016-12-31T23:59:60Z").is_ok());
    }

    #[test]
    fn seconds_beyond_four_digits_of_a_year_are_no_time() {
        let at = |seconds: i64| Instant::from_unix_seconds(seconds).map(String::from);
        assert_eq!(at(-62_167_219_200).as_deref(), Some("0000-01-01T00:00:00Z"));
        assert_eq!(at(253_402_300_799).as_deref(), Some("9999-12-31T23:59:59Z"));
        for beyond in [-62_167_219_201, 253_402_300_800, i64::MIN, i64::MAX] {
            assert_eq!(at(beyond), None, "{beyond}");
        }
    }
}
