//! Verification summaries (SLSA VSA, `https://slsa.dev/verification_summary/v1`): for each new release that is
//! promoted, what was verified of it, by whom and by which policy, in a form that other tools read.
//!
//! A summary is a record of its own, signed by the host key, right before the outcome that it is for and
//! which names it. Nothing in it is new: whoever has the log can write it word by word.

use cloister_attest::{
    SigningKey,
    dsse::Envelope,
    statement::{Statement, Subject},
};
use cloister_domain::Digest;
use serde_json::{Value, json};

use crate::{RecordError, Time};

/// The predicate type.
pub const SUMMARY_TYPE: &str = "https://slsa.dev/verification_summary/v1";

/// The subject of an outcome that names its summary.
pub const SUMMARY: &str = "verification-summary";

/// What was found of the levels: nothing of how the release was built was judged, and a word of our own each
/// for the verdict of this machine and the approvals.
const LEVELS: [&str; 3] =
    ["SLSA_BUILD_LEVEL_UNEVALUATED", "CLOISTER_EVALUATED", "CLOISTER_APPROVED"];

/// The last second of the year 9999, beyond which a time has no four digits for its year.
const TIME_MAX_S: u64 = 253_402_300_799;

/// What was verified of a release that is to be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The release's manifest.
    pub bundle: Digest,
    /// Its name and version.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The policy that judged it.
    pub policy: Digest,
    /// The records that speak for it, by position and SHA-256: the verdict, then the approvals.
    pub inputs: Vec<(u64, Digest)>,
}

impl Verified {
    /// The summary of a log called `origin`.
    #[must_use]
    pub fn statement(&self, origin: &str, time: &Time) -> Statement {
        let input = |(seq, digest): &(u64, Digest)| {
            json!({
                "digest": {"sha256": digest},
                "uri": format!("https://cloister.invalid/log/{origin}/{seq}"),
            })
        };
        Statement {
            subject: vec![Subject { name: "bundle".to_owned(), sha256: self.bundle }],
            predicate_type: SUMMARY_TYPE.to_owned(),
            predicate: json!({
                "inputAttestations": self.inputs.iter().map(input).collect::<Value>(),
                "policy": {
                    "digest": {"sha256": self.policy},
                    "uri": format!("https://cloister.invalid/log/{origin}/policy"),
                },
                "resourceUri": format!("pkg:generic/{}@{}", self.name, self.version),
                "timeVerified": date(time.rtc_s),
                "verificationResult": "PASSED",
                "verifiedLevels": LEVELS,
                "verifier": {"id": format!("https://cloister.invalid/log/{origin}")},
            }),
        }
    }

    /// The summary's envelope text, signed by the host key.
    ///
    /// # Errors
    /// [`RecordError::Number`], which no summary causes.
    pub fn sign(
        &self,
        origin: &str,
        time: &Time,
        key: &SigningKey,
    ) -> Result<Vec<u8>, RecordError> {
        let envelope: Envelope =
            self.statement(origin, time).envelope().map_err(|_number| RecordError::Number)?;
        Ok(envelope.sign_with(key).to_json())
    }
}

/// The date and time (UTC) so many seconds after 1970 began, as RFC 3339 writes them.
fn date(seconds: u64) -> String {
    let seconds = seconds.min(TIME_MAX_S);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Hinnant 2021, "chrono-Compatible Low-Level Date Algorithms", civil_from_days: years begin in March,
    // and 400 of them, an era, have 146 097 days.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + later;
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_795_262_400, "2026-11-21T12:00:00Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (TIME_MAX_S, "9999-12-31T23:59:59Z"),
            (u64::MAX, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(date(seconds), text);
        }
    }
}
