//! The drills of key loss (docs/runbooks/key-loss.md), played with the real programs and daemons in a
//! scratch root: somebody loses a key or a clock, the facility acts as its runbook says, and the log
//! must hold the records that an auditor would look for.

mod board;
mod evidence;

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use cloister_attest::{dsse::Envelope, statement::Statement};
use cloister_domain::RecordIndex;
use cloister_mint::{trust::Folder, volume::replace_meta};
use cloister_stage::{
    Options, Unit, ask,
    facility::{Facility, Holders, Outcome, import_number},
    release::Recipe,
};
use cloister_wire::{
    Reply,
    record::{Answer, Request},
};
use serde_json::Value;

pub(super) use board::drill_5;
pub(super) use evidence::{drill_6, drill_7, drill_8};

use super::Progress;

/// The clock in software (Debian package faketime).
const CLOCK: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

/// A facility whose appliance serves the first release, and how far its log was read.
struct Site<'a> {
    facility: Facility,
    holders: Holders,
    read: u64,
    told: &'a mut dyn Write,
    _home: tempfile::TempDir,
}

/// A record, as far as a drill looks at it.
struct Record {
    event: String,
    predicate: Value,
}

impl<'a> Site<'a> {
    fn found(holders: Holders, told: &'a mut dyn Write) -> Result<Self> {
        // The path of a Unix socket has 107 bytes at most, so the folder is short.
        let home = tempfile::Builder::new().prefix("cl-").tempdir_in("/tmp")?;
        let mut facility = Facility::found_by(home.path(), &Options::default(), &holders)?;
        facility.stage.start()?;
        facility.enrol()?;
        let mut site = Self { facility, holders, read: 0, told, _home: home };
        let first = site.release("publisher", 1)?;
        site.facility.promote(&first)?;
        site.expect(&["anchor-enrolment", "import-accepted", "activation-outcome"], &[])?;
        site.tell("release 1 is active")?;
        Ok(site)
    }

    fn tell(&mut self, what: &str) -> Result<()> {
        Ok(writeln!(self.told, "  {what}")?)
    }

    fn tree(&self, counter: u64) -> Result<PathBuf> {
        let documents = if counter.is_multiple_of(2) { "v2" } else { "v1" };
        Recipe::demo(documents, None).lay_out(&self.facility, &format!("tree-{counter}"))
    }

    /// The release of a number, signed with the key called `key` and admitted by the importer.
    fn release(&self, key: &str, counter: u64) -> Result<PathBuf> {
        self.facility.publish_as(key, &self.tree(counter)?, &format!("{counter}.0.0"), counter)
    }

    /// The records since the last look.
    fn new_records(&mut self) -> Result<Vec<Record>> {
        let socket = self.facility.stage.socket(Unit::Recordd);
        let mut found = Vec::new();
        loop {
            let request = Request::Read { from: RecordIndex(self.read), count: 100 };
            let reply: Reply<Answer> = ask(&socket, &request)?;
            let Answer::Entries(entries) = reply? else { bail!("recordd gave no entries") };
            if entries.is_empty() {
                return Ok(found);
            }
            for entry in &entries {
                let statement = Statement::of(&Envelope::parse(entry.as_bytes())?)?;
                let kind = statement.predicate_type.trim_end_matches("/v1").rsplit('/').next();
                let event = kind.unwrap_or_default().to_owned();
                found.push(Record { event, predicate: statement.predicate });
                self.read += 1;
            }
        }
    }

    /// The new records hold these events in this order, among others, and none of `never`.
    fn expect(&mut self, events: &[&str], never: &[&str]) -> Result<Vec<Record>> {
        let records = self.new_records()?;
        let names: Vec<&str> = records.iter().map(|record| record.event.as_str()).collect();
        let mut rest = names.iter();
        for event in events {
            ensure!(rest.any(|name| name == event), "no record {event} in its place: {names:?}");
        }
        for event in never {
            ensure!(!names.contains(event), "a record {event} that must not be: {names:?}");
        }
        Ok(records)
    }

    /// The facility brings release `counter` in, signed with the key called `key`.
    fn goes_on(&mut self, key: &str, counter: u64) -> Result<Vec<Record>> {
        let before = self.facility.active()?;
        let volume = self.release(key, counter)?;
        let import = import_number(self.facility.import(&volume)?.done()?)?;
        for approver in &self.holders.approvers {
            self.facility.approve_as(approver, &import)?.done()?;
        }
        self.facility.cloister(&["activate", &import])?.done()?;
        ensure!(self.facility.active()? != before, "the switch did not happen");
        let records = self.expect(
            &["media-seen", "import-accepted", "approval", "approval", "activation-outcome"],
            &["import-refused"],
        )?;
        self.tell(&format!("release {counter} is active"))?;
        Ok(records)
    }

    /// The appliance refuses a volume with `code`: one record says so, nothing was switched.
    fn refuses(&mut self, volume: &Path, code: &str, why: &str) -> Result<()> {
        let before = self.facility.active()?;
        let outcome = self.facility.import(volume)?;
        self.refused(&outcome, code, why)?;
        ensure!(self.facility.active()? == before, "a refused release became active");
        Ok(())
    }

    fn refused(&mut self, outcome: &Outcome, code: &str, why: &str) -> Result<()> {
        ensure!(outcome.is_refused_with(code), "not refused with {code}: {outcome:?}");
        let never = ["import-accepted", "activation-intent", "trust-update"];
        let records = self.expect(&["import-refused"], &never)?;
        let said = records.iter().any(|record| record.predicate.to_string().contains(code));
        ensure!(said, "no record names {code}");
        self.tell(&format!("refused ({code}): {why}"))
    }

    /// The officers called `signers` sign the root that follows, each alone; the table writes it.
    fn rotate(&mut self, next: Holders, signers: &[&str]) -> Result<()> {
        let copies = self.facility.sign_apart(&next, signers)?;
        self.facility.finish_root(&copies)?;
        self.holders = next;
        self.tell(&format!("{} signed the root that follows", signers.join(", ")))
    }

    /// What `signers` alone could make: mint refuses to finish it, and the appliance refuses a stick
    /// that carries it all the same.
    fn cannot_rotate(&mut self, next: &Holders, signers: &[&str], why: &str) -> Result<()> {
        let copies = self.facility.sign_apart(next, signers)?;
        ensure!(
            self.facility.finish_root(&copies).is_err(),
            "mint wrote a root that is not trusted"
        );
        let copies = copies.iter().map(|path| cloister_mint::ceremony::Draft::read(path));
        let draft = cloister_mint::ceremony::Draft::join(copies.collect::<Result<Vec<_>>>()?)?;
        let folder = self.facility.home().join("forged");
        cloister_stage::release::copy_folder(&self.facility.trust(), &folder)?;
        fs::write(folder.join(format!("{}.root.json", draft.version())), draft.text()?)?;
        let volume = self.facility.sign("publisher", &self.tree(90)?, "90.0.0", 90)?;
        replace_meta(&volume, &Folder::at(&folder)?.meta()?)?;
        fs::remove_dir_all(folder)?;
        self.refuses(&volume, "bundle.signature.threshold", why)
    }

    /// The appliance trusts the root of `version`, says its log.
    fn root_is(records: &[Record], version: u64) -> Result<()> {
        let update = records.iter().rfind(|record| record.event == "trust-update");
        let update = update.context("no record trust-update")?;
        let found = &update.predicate["facts"]["root_version"];
        ensure!(*found == version, "the record says root {found} instead of {version}");
        Ok(())
    }

    fn end(mut self) -> Result<()> {
        self.facility.stage.stop()
    }
}

/// Plays a drill once, whatever the rounds.
fn once(
    progress: &mut Progress,
    out: &mut dyn Write,
    drill: fn(&mut dyn Write) -> Result<()>,
) -> Result<()> {
    if progress.done > 0 {
        return Ok(());
    }
    drill(out)?;
    progress.held(&["played"])
}

/// One publisher's token is lost.
pub(super) fn drill_1(progress: &mut Progress, out: &mut dyn Write) -> Result<()> {
    once(progress, out, |out| {
        let mut site = Site::found(Holders::officers(3, 2), out)?;
        site.tell("the publisher's token is lost; the publisher makes a new key")?;
        site.facility.make_key("publisher-new", "publisher")?;
        let next = Holders { publisher: "publisher-new".to_owned(), ..site.holders.clone() };
        site.rotate(next, &["officer-1", "officer-3"])?;
        site.facility.delegate("publisher-new")?;
        let records = site.goes_on("publisher-new", 2)?;
        Site::root_is(&records, 2)?;
        let found = site.release("publisher", 3);
        ensure!(found.is_err(), "the importer could admit what the lost token signed");
        let volume = site.facility.sign("publisher", &site.tree(3)?, "3.0.0", 3)?;
        replace_meta(&volume, &Folder::at(&site.facility.trust())?.meta()?)?;
        site.refuses(
            &volume,
            "bundle.signature.unknown-signer",
            "a release that a finder of the token signed",
        )?;
        site.goes_on("publisher-new", 4)?;
        site.end()
    })
}

/// A publisher's key is stolen, and the thief's release is active before anybody knows.
pub(super) fn drill_2(progress: &mut Progress, out: &mut dyn Write) -> Result<()> {
    once(progress, out, |out| {
        let mut site = Site::found(Holders::officers(3, 2), out)?;
        site.goes_on("publisher", 2)?;
        site.tell("release 2 was the thief's; the publisher makes a new key")?;
        let thiefs = site.facility.home().join("volumes/2.0.0-publisher");
        let thiefs = fs::read_dir(thiefs)?.next().context("release 2 is gone")??.path();
        site.facility.make_key("publisher-new", "publisher")?;
        let next = Holders { publisher: "publisher-new".to_owned(), ..site.holders.clone() };
        site.rotate(next, &["officer-1", "officer-2"])?;
        site.facility.delegate("publisher-new")?;
        site.facility.revoke_publisher("publisher")?;
        // The good content again, under the new key: it carries the word to the appliance.
        let records = site.goes_on("publisher-new", 3)?;
        Site::root_is(&records, 2)?;
        site.refuses(&thiefs, "bundle.revoked.key", "the thief's release again")?;
        let another = site.facility.sign("publisher", &site.tree(4)?, "4.0.0", 4)?;
        replace_meta(&another, &Folder::at(&site.facility.trust())?.meta()?)?;
        site.refuses(&another, "bundle.revoked.key", "another release that the thief signed")?;
        site.goes_on("publisher-new", 5)?;
        site.end()
    })
}

/// One root officer's token is lost.
pub(super) fn drill_3(progress: &mut Progress, out: &mut dyn Write) -> Result<()> {
    once(progress, out, |out| {
        let mut site = Site::found(Holders::officers(3, 2), out)?;
        site.tell("officer-1's token is lost; officer-1 makes a new key")?;
        site.facility.make_key("officer-1-new", "officer-1")?;
        let mut next = site.holders.clone();
        next.officers = ["officer-1-new", "officer-2", "officer-3"].map(str::to_owned).to_vec();
        site.rotate(next, &["officer-2", "officer-3"])?;
        // Any metadata of the importer carries the root; here it comes with a release.
        let records = site.goes_on("publisher", 2)?;
        Site::root_is(&records, 2)?;
        // The finder has officer-1's old key and wins one officer over: two keys, one of them worthless.
        let mut stolen = site.holders.clone();
        stolen.officers = ["officer-1", "officer-2", "stranger"].map(str::to_owned).to_vec();
        let why = "a root by the lost key and one officer";
        site.cannot_rotate(&stolen, &["officer-1", "officer-2"], why)?;
        site.goes_on("publisher", 3)?;
        site.end()
    })
}

/// Two root officers are unavailable; three of five still act.
pub(super) fn drill_4(progress: &mut Progress, out: &mut dyn Write) -> Result<()> {
    once(progress, out, |out| {
        let mut site = Site::found(Holders::officers(5, 3), out)?;
        site.tell("officer-4 and officer-5 cannot be reached; two others take their place")?;
        for new in ["officer-6", "officer-7"] {
            site.facility.make_key(new, new)?;
        }
        let mut next = site.holders.clone();
        next.officers.truncate(3);
        next.officers.extend(["officer-6", "officer-7"].map(str::to_owned));
        let why = "a root by two of five officers";
        site.cannot_rotate(&next, &["officer-1", "officer-2"], why)?;
        site.rotate(next.clone(), &["officer-1", "officer-2", "officer-3"])?;
        let records = site.goes_on("publisher", 2)?;
        Site::root_is(&records, 2)?;
        site.tell("the new officers act: three others of the five sign")?;
        site.rotate(next, &["officer-1", "officer-6", "officer-7"])?;
        let records = site.goes_on("publisher", 3)?;
        Site::root_is(&records, 3)?;
        site.end()
    })
}

/// The clock's battery is dead: the machine starts in 1970, later far in the future, and back.
pub(super) fn drill_9(progress: &mut Progress, out: &mut dyn Write) -> Result<()> {
    ensure!(Path::new(CLOCK).exists(), "{CLOCK} is missing (Debian package faketime)");
    once(progress, out, |out| {
        let mut site = Site::found(Holders::officers(3, 2), out)?;
        let old = site.facility.home().join("volumes/1.0.0-publisher");
        let old = fs::read_dir(old)?.next().context("release 1 is gone")??.path();
        for (counter, clock, seconds) in [
            (2, "1970-01-01 00:00:10", 0..86_400),
            // Forty years after all metadata says that it expires.
            (3, "2076-11-21 00:00:00", 3_373_142_400..3_373_228_800),
            (4, "1970-01-01 00:00:10", 0..86_400),
        ] {
            site.facility.stage.stop()?;
            site.facility.stage.environment = wrong_clock(clock);
            site.facility.stage.start()?;
            site.tell(&format!("the machine starts and believes that it is {clock}"))?;
            let records = site.goes_on("publisher", counter)?;
            for time in records.iter().filter_map(|record| record.predicate.get("time")) {
                let clock_s = time["rtc_s"].as_i64().context("a record without its clock")?;
                ensure!(seconds.contains(&clock_s), "a record of {clock_s} s: {time}");
                ensure!(time["trusted"] == false, "a record trusts the clock");
            }
            site.refuses(&old, "bundle.rollback", "release 1 again")?;
        }
        site.end()
    })
}

/// The environment of a process whose clock is wrong. Intervals stay right, as on a real machine.
fn wrong_clock(start: &str) -> Vec<(String, String)> {
    let pairs = [
        ("LD_PRELOAD", CLOCK.to_owned()),
        ("FAKETIME", format!("@{start}")),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("NO_FAKE_STAT", "1".to_owned()),
        ("TZ", "UTC".to_owned()),
    ];
    pairs.map(|(name, value)| (name.to_owned(), value)).to_vec()
}
