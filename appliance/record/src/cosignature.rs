//! C2SP cosignatures of Ed25519 (c2sp.org/tlog-cosignature, type 4): a witness says that, at a time,
//! a checkpoint was the largest one of its log that it had seen, and that it contains all before it.

use crate::{
    Note, RecordError, WitnessKey,
    note::{signature_line, signatures},
};

/// The latest time that a cosignature can bear, in seconds since 1970.
const TIME_MAX: u64 = i64::MAX as u64;

impl WitnessKey {
    /// What the witness signs: header, time, and the checkpoint's text with its last newline.
    #[must_use]
    pub fn message(text: &str, time_s: u64) -> String {
        format!("cosignature/v1\ntime {time_s}\n{text}")
    }

    /// The signature line of `signature` over [`WitnessKey::message`].
    #[must_use]
    pub fn line(&self, time_s: u64, signature: &[u8]) -> String {
        let timed = [time_s.to_be_bytes().as_slice(), signature].concat();
        signature_line(self.name(), self.id(), &timed)
    }

    /// When the witness cosigned `note`, in seconds since 1970 by its own clock; absent if it did not.
    /// The latest of several. Signatures by others, and of other types, are passed over.
    ///
    /// # Errors
    /// [`RecordError::Cosignature`] if one that is called by the witness's name and id does not fit.
    pub fn cosigned(&self, note: &Note<'_>) -> Result<Option<u64>, RecordError> {
        Ok(self.latest(note)?.map(|(time_s, _line)| time_s))
    }

    /// As [`WitnessKey::cosigned`], with the signature line.
    ///
    /// # Errors
    /// As [`WitnessKey::cosigned`].
    pub fn latest(&self, note: &Note<'_>) -> Result<Option<(u64, String)>, RecordError> {
        let mut latest = None;
        for timed in note.signatures_by(self.name(), self.id()) {
            let time_s = self.check(note.text(), timed).ok_or(RecordError::Cosignature)?;
            latest = latest.max(Some((time_s, signature_line(self.name(), self.id(), timed))));
        }
        Ok(latest)
    }

    /// The time of a timestamped signature over `text`, if it is this witness's.
    fn check(&self, text: &str, timed: &[u8]) -> Option<u64> {
        let (time, signature) = timed.split_first_chunk::<8>()?;
        let time_s = u64::from_be_bytes(*time);
        let message = Self::message(text, time_s);
        let signed = self.key().verify(message.as_bytes(), signature).is_ok();
        (signed && (1..=TIME_MAX).contains(&time_s)).then_some(time_s)
    }
}

/// `note` with the signature lines of `more` behind its own.
///
/// # Errors
/// [`RecordError::Note`] if `note` is no note or `more` are not signature lines.
pub fn with_signatures(note: &str, more: &str) -> Result<String, RecordError> {
    signatures(more)?;
    let both = format!("{note}{more}");
    let (before, after) = (Note::parse(note)?, Note::parse(&both)?);
    if before.text() == after.text() { Ok(both) } else { Err(RecordError::Note) }
}

#[cfg(test)]
mod tests {
    use cloister_attest::SigningKey;
    use cloister_domain::Secret;

    use super::*;
    use crate::{Checkpoint, VerifierKey, open_note, sign_note};

    /// A checkpoint of a public log with cosignatures of public witnesses, of May 2026; the first line is
    /// of a type that we do not know.
    const ARCHE: &str = "arche2025h1.staging.ct.transparency.dev\n\
        1432088532\n\
        U7WM79jrzyhGZ5/GUBTpM7NzwdyfFx61t3RovgcC4Ro=\n\
        \n\
        \u{2014} arche2025h1.staging.ct.transparency.dev zTM8sQAAAZ5W0WdjBAMARjBEAiBjW5IQf9pvsYLfQFX6hoGREPMHbdQ3urbllzalApkptQIgIpwtEroeW2BXaHAI4kJXFbon5Ch9MNL5zRNZ55lvGt0=\n\
        \u{2014} arche2025h1.staging.ct.transparency.dev ui8GwCF1+kWqZrxGdhj4aX3gcw7XUlXQQabg/27lefwhUkzbC3NygNI75MdhL1bfTW9g8Ei59RA23oHP7Ry1k3ZFWwQ=\n\
        \u{2014} transparency.dev/DEV:witness-little-garden 2AQqhwAAAABqEiEgzgFIqqhbUoDwjMWE6UP8nd8/KYTzwZ2rhIgcqoXHAwVkjZr4AscylP3v7sEodkRAErumC2q44vdgJY096st5BQ==\n\
        \u{2014} witness1.smartit.nu/witness1 pIyCDwAAAABqEiEghIp82KWebrw7/oHQwlTAm3g2RKS4+eebl8eO0WH+/iEcxZ75W3u5hNI7TOQtmJbqmNWVuE0tgh0XwzdZsDsUAQ==\n\
        \u{2014} remora.n621.de 2net5wAAAABqEiEgPlfF3V06o0Y+fHM+J5J9s27wgxxcOVSpZ/2g/KSiXCg9DEZI+aVCIobWX9sXTynk5XeU/zZ0WBxtqB0DrAWfBw==\n\
        \u{2014} witness.stagemole.eu Z/euoAAAAABqEiEgw0i+7g2ENfDAWHmtRzCfKTHSDwYDJA2NmKeGi9Y8FtEyOUvVr+AJmIY/2TUFucgKi7lI7cUiOvKFYe/TmN9DAg==\n";
    const ARCHE_KEY: &str = "arche2025h1.staging.ct.transparency.dev+ba2f06c0+AU0vHmlGCS/PdN8b2OaGmKprLI8HKM+dJ472xgFYh15f";
    const WITNESSES: [&str; 4] = [
        "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2",
        "witness.stagemole.eu+67f7aea0+BEqSG3yu9YrmcM3BHvQYTxwFj3uSWakQepafafpUqklv",
        "transparency.dev/DEV:witness-little-garden+d8042a87+BCtusOxINQNUTN5Oj8HObRkh2yHf/MwYaGX4CPdiVEPM",
        "witness1.smartit.nu/witness1+a48c820f+BPSFWg9G6KPiO7QPryYO5Xq4oYJJ+kAvLKLSimDhoxMO",
    ];
    /// A witness that did not sign it.
    const ABSENT: &str =
        "rgdd.se/poc-witness+db03732e+BCjJKlo6BU0xfIb8LutqerIFTWIXEA0L5n3tW3QyPFgG";

    #[test]
    fn a_checkpoint_that_public_witnesses_cosigned_is_read() {
        let log: VerifierKey = ARCHE_KEY.parse().expect("a log's key");
        assert_eq!(Checkpoint::open(ARCHE, &log).expect("signed").size, 1_432_088_532);
        let note = Note::parse(ARCHE).expect("a note");
        for text in WITNESSES {
            let witness: WitnessKey = text.parse().expect("a witness's key");
            assert_eq!(witness.to_string(), text);
            assert_eq!(witness.cosigned(&note), Ok(Some(1_779_573_024)), "{text}");
        }
        let absent: WitnessKey = ABSENT.parse().expect("a witness's key");
        assert_eq!(absent.cosigned(&note), Ok(None));
        let other = ARCHE.replace("\n1432088532\n", "\n1432088533\n");
        let witness: WitnessKey = WITNESSES[0].parse().expect("a witness's key");
        let changed = Note::parse(&other).expect("a note");
        assert_eq!(witness.cosigned(&changed), Err(RecordError::Cosignature));
        // A log's key is no witness's, nor the other way round.
        assert!(ARCHE_KEY.parse::<WitnessKey>().is_err());
        assert!(WITNESSES[0].parse::<VerifierKey>().is_err());
    }

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(&Secret::new(vec![seed; 32])).expect("32 bytes")
    }

    fn cosigned(note: &str, time_s: u64) -> String {
        let witness = WitnessKey::new("auditor", key(2).public()).expect("a name");
        let text = Note::parse(note).expect("a note").text();
        let signature = key(2).sign(WitnessKey::message(text, time_s).as_bytes());
        with_signatures(note, &witness.line(time_s, &signature)).expect("lines")
    }

    #[test]
    fn each_changed_byte_of_a_cosignature_is_found() {
        let witness = WitnessKey::new("auditor", key(2).public()).expect("a name");
        let log = VerifierKey::new("log", key(1).public()).expect("a name");
        let note = sign_note("log\n1\nroot\n", "log", &key(1)).expect("a note");
        let both = cosigned(&note, 7);
        assert_eq!(open_note(&both, &log), Ok("log\n1\nroot\n"));
        assert_eq!(witness.cosigned(&Note::parse(&both).expect("a note")), Ok(Some(7)));
        for place in note.len()..both.len() {
            let mut bytes = both.clone().into_bytes();
            bytes[place] ^= 1;
            let Ok(changed) = String::from_utf8(bytes) else { continue };
            let read = Note::parse(&changed).and_then(|note| witness.cosigned(&note));
            // Its name or id makes it another's, which counts for nothing.
            assert!(matches!(read, Err(_) | Ok(None)), "byte {place}: {read:?}");
        }
        let twice = cosigned(&both, 9);
        assert_eq!(witness.cosigned(&Note::parse(&twice).expect("a note")), Ok(Some(9)));
    }

    #[test]
    fn a_cosignature_without_a_time_or_with_one_that_no_clock_has_is_refused() {
        let witness = WitnessKey::new("auditor", key(2).public()).expect("a name");
        let note = sign_note("log\n1\nroot\n", "log", &key(1)).expect("a note");
        for (time_s, good) in [(0, false), (1, true), (TIME_MAX, true), (TIME_MAX + 1, false)] {
            let both = cosigned(&note, time_s);
            let read = witness.cosigned(&Note::parse(&both).expect("a note"));
            assert_eq!(read.is_ok(), good, "{time_s}");
        }
    }

    #[test]
    fn only_signature_lines_are_added_to_a_note() {
        let note = sign_note("log\n1\nroot\n", "log", &key(1)).expect("a note");
        for more in ["", "\n", "text\n", "\nother\n\n\u{2014} a AAAAAAA=\n", "\u{2014} a AAAAAAA="]
        {
            assert_eq!(with_signatures(&note, more), Err(RecordError::Note), "{more:?}");
        }
    }
}
