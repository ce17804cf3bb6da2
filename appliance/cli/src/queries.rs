//! `records changes` and `records about`: what happened since a moment, and everything that the log says of one
//! thing, such as the release that gave an answer.
//!
//! Nothing is verified here; an auditor runs `records verify` on the same export first.

use std::{
    collections::BTreeSet,
    io::Write,
    path::{Path, PathBuf},
};

use clap::Args;
use cloister_attest::approval::Decision;
use cloister_config::Role;
use cloister_domain::{Digest, RecordIndex, counted};
use cloister_record::{Record, Said, Signer, event_name, tiles};
use cloister_wire::record::{Answer, Event, Request};
use serde_json::{Map, Value, json};

use crate::{Failure, ask_daemon, print_json, read_config, records, say};

/// Records that are read at a time.
const PAGE: u32 = 1024;
/// Digits of a digest that name one thing well enough.
const DIGITS_MIN: usize = 8;

/// Since when.
#[derive(Debug, Args)]
pub struct Changes {
    /// A record's position, or a date such as 2026-11-15 by the machine's clock.
    #[arg(long, value_name = "N|DATE")]
    since: String,
    /// An export; default: the log of this appliance.
    #[arg(long, value_name = "FOLDER")]
    export: Option<PathBuf>,
}

/// Of what.
#[derive(Debug, Args)]
pub struct About {
    /// The digest, or its first digits: the generation that an answer names, a package, a policy.
    digest: String,
    /// An export; default: the log of this appliance.
    #[arg(long, value_name = "FOLDER")]
    export: Option<PathBuf>,
}

/// A record as it is told.
struct Told {
    seq: u64,
    record: Record,
}

/// Tells what changed what the appliance serves, trusts or holds.
pub(crate) fn changes(
    said: &Changes,
    config: &Path,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let since = Since::parse(&said.since)
        .ok_or_else(|| Failure::usage("--since takes a position or a date such as 2026-11-15"))?;
    let all = read(said.export.as_deref(), config)?;
    let mut begun = false;
    let chosen = all.into_iter().filter(|told| {
        begun = begun || since.is_reached(told);
        begun && is_change(told.record.event)
    });
    tell(&chosen.collect::<Vec<_>>(), json, out)
}

/// Tells every record about a thing, and what those records name: a release's import, verdict, approvals,
/// switches, and so what it was served by and until when.
pub(crate) fn about(
    said: &About,
    config: &Path,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let digits = said.digest.as_str();
    let good = digits.len() >= DIGITS_MIN && digits.bytes().all(|c| c.is_ascii_hexdigit());
    if !good {
        return Err(Failure::usage("name a digest by eight of its digits at least"));
    }
    let all = read(said.export.as_deref(), config)?;
    let named = |told: &Told| {
        told.record.subject.iter().any(|(_, digest)| digest.to_string().starts_with(digits))
    };
    // Of an import's records some name the release and others only the import.
    let imports: BTreeSet<u64> =
        all.iter().filter(|told| named(told)).filter_map(|told| import_of(&told.record)).collect();
    let of_them = |told: &Told| import_of(&told.record).is_some_and(|one| imports.contains(&one));
    let chosen: Vec<Told> = all.into_iter().filter(|told| named(told) || of_them(told)).collect();
    if chosen.is_empty() {
        return Err(Failure::usage("no record is about this; the log of another appliance may be"));
    }
    tell(&chosen, json, out)
}

fn import_of(record: &Record) -> Option<u64> {
    match &record.signer {
        Signer::Host { facts, .. } => facts.get("import").and_then(Value::as_u64),
        Signer::Person(_) | Signer::Summary(_) => None,
    }
}

/// Whether something is another than before an event. Attempts and looks are not.
fn is_change(event: Event) -> bool {
    !matches!(
        event,
        Event::MediaSeen
            | Event::Inspection
            | Event::Evaluation
            | Event::ActivationIntent
            | Event::Scrub
            | Event::Inventory
            | Event::VerificationSummary
    )
}

/// A position, or a moment by the machine's clock.
enum Since {
    Position(u64),
    Seconds(u64),
}

impl Since {
    fn parse(text: &str) -> Option<Self> {
        if let Ok(position) = text.parse() {
            return Some(Self::Position(position));
        }
        let mut parts = text.splitn(3, '-').map(str::parse::<u64>);
        let (year, month, day) = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
        seconds(year, month, day).map(Self::Seconds)
    }

    /// Whether a record is at this moment or after it. Persons' entries have no time; those before them do.
    fn is_reached(&self, told: &Told) -> bool {
        match (self, &told.record.signer) {
            (Self::Position(position), _) => told.seq >= *position,
            (Self::Seconds(seconds), Signer::Host { time, .. }) => time.rtc_s >= *seconds,
            (Self::Seconds(_), _) => false,
        }
    }
}

/// Seconds from 1970 to the beginning of a day (UTC).
fn seconds(year: u64, month: u64, day: u64) -> Option<u64> {
    const BEFORE: [u64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    if !(1970..=9999).contains(&year) || !(1..=31).contains(&day) {
        return None;
    }
    let before = BEFORE.get(usize::try_from(month.checked_sub(1)?).ok()?)?;
    let leaps = |years: u64| years / 4 - years / 100 + years / 400;
    let is_leap = leaps(year) > leaps(year - 1);
    let leap_day = u64::from(is_leap && month > 2);
    let days = (year - 1970) * 365 + leaps(year - 1) - leaps(1969) + before + leap_day + day - 1;
    Some(days * 86_400)
}

/// The log's records, oldest first, from an export or from the appliance.
fn read(export: Option<&Path>, config: &Path) -> Result<Vec<Told>, Failure> {
    let texts = match export {
        Some(folder) => of_export(folder)?,
        None => of_appliance(config)?,
    };
    (0..)
        .zip(texts)
        .map(|(seq, text)| {
            let record = Record::parse(&text).map_err(|error| Failure::of(&error))?;
            Ok(Told { seq, record })
        })
        .collect()
}

fn of_export(folder: &Path) -> Result<Vec<Vec<u8>>, Failure> {
    let export = records::read_export(folder)?;
    let unreadable =
        || Failure::usage("the export is not whole; `records verify` says what is wrong");
    let note = export.get("checkpoint").and_then(|note| std::str::from_utf8(note).ok());
    let size = note.and_then(|note| note.lines().nth(1)?.parse().ok()).ok_or_else(unreadable)?;
    if export.len() as u64 <= size / tiles::WIDTH {
        return Err(unreadable());
    }
    let mut texts = Vec::new();
    for tile in tiles::all(size).filter(|tile| tile.kind == tiles::Kind::Entries) {
        let bundle = export.get(&tile.path()).ok_or_else(unreadable)?;
        let entries = tiles::entries(bundle, tile.width).map_err(|error| Failure::of(&error))?;
        texts.extend(entries.into_iter().map(<[u8]>::to_vec));
    }
    Ok(texts)
}

fn of_appliance(config: &Path) -> Result<Vec<Vec<u8>>, Failure> {
    let config = read_config(config)?;
    let mut texts: Vec<Vec<u8>> = Vec::new();
    loop {
        let from = RecordIndex(texts.len() as u64);
        let asked = Request::Read { from, count: PAGE };
        let Answer::Entries(entries) = ask_daemon(&config, Role::Recordd, &asked)? else {
            return Err(Failure::conversation("recordd"));
        };
        if entries.is_empty() {
            return Ok(texts);
        }
        texts.extend(entries.into_iter().map(String::into_bytes));
    }
}

fn tell(chosen: &[Told], json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    if json {
        let body: Vec<Value> = chosen.iter().map(Told::to_json).collect();
        return print_json(&json!({ "records": body }), out);
    }
    for told in chosen {
        say!(out, "{}", told.line());
    }
    say!(out, "{}", counted(chosen.len() as u64, "record"));
    Ok(())
}

impl Told {
    /// What a record says beside its subjects.
    fn facts(&self) -> Map<String, Value> {
        match &self.record.signer {
            Signer::Host { facts, .. } => facts.clone(),
            Signer::Summary(summary) => summary.predicate.as_object().cloned().unwrap_or_default(),
            Signer::Person(said) => {
                let decision = match said.as_ref() {
                    Said::Decision(approval) if approval.decision == Decision::Reject => "reject",
                    Said::Decision(_) => "approve",
                    Said::Consent(_) => "consent",
                };
                let person = Value::from(said.person().as_str());
                [("person", person), ("decision", decision.into())]
                    .map(|(name, value)| (name.to_owned(), value))
                    .into_iter()
                    .collect()
            }
        }
    }

    fn to_json(&self) -> Value {
        let about: Map<String, Value> = self
            .record
            .subject
            .iter()
            .map(|(name, digest)| (name.clone(), digest.to_string().into()))
            .collect();
        let rtc_s = match &self.record.signer {
            Signer::Host { time, .. } => Value::from(time.rtc_s),
            Signer::Person(_) | Signer::Summary(_) => Value::Null,
        };
        json!({
            "seq": self.seq,
            "event": event_name(self.record.event),
            "about": about,
            "rtc_s": rtc_s,
            "facts": self.facts(),
        })
    }

    fn line(&self) -> String {
        let about = |(name, digest): &(String, Digest)| format!("{name} {}", digest.short());
        let about: Vec<String> = self.record.subject.iter().map(about).collect();
        let facts = Value::Object(self.facts());
        format!(
            "{:>6}  {:<20} {}  {facts}",
            self.seq,
            event_name(self.record.event),
            about.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_begins_so_many_seconds_after_1970() {
        for ((year, month, day), expected) in [
            ((1970, 1, 1), Some(0)),
            ((2000, 2, 29), Some(951_782_400)),
            ((2000, 3, 1), Some(951_868_800)),
            ((2026, 11, 21), Some(1_795_219_200)),
            ((2100, 3, 1), Some(4_107_542_400)),
            ((1969, 1, 1), None),
            ((2026, 13, 1), None),
            ((2026, 0, 1), None),
            ((2026, 1, 32), None),
        ] {
            assert_eq!(seconds(year, month, day), expected, "{year}-{month}-{day}");
        }
    }

    #[test]
    fn since_is_a_position_or_a_date() {
        assert!(matches!(Since::parse("66"), Some(Since::Position(66))));
        assert!(matches!(Since::parse("1970-01-02"), Some(Since::Seconds(86_400))));
        for text in ["", "x", "2026-11", "2026-11-15T00", "-1"] {
            assert!(Since::parse(text).is_none(), "{text}");
        }
    }
}
