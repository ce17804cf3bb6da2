//! All daemons die by SIGKILL at a random moment of an activation or a rollback, again and again in
//! one appliance. After each: what is active is what was active or what was asked for, the log has
//! one outcome for each intent, and the last outcome says what the shelf says.

use std::{
    collections::BTreeMap,
    io::Write,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use cloister_attest::{dsse::Envelope, statement::Statement};
use cloister_domain::RecordIndex;
use cloister_stage::{
    Dice, Options, Unit, ask,
    facility::{Facility, import_number},
    release::Recipe,
};
use cloister_wire::{
    Reply,
    record::{Answer, Request},
};

use super::{Progress, sources::Sources};
use crate::serve::said;

/// A daemon that dies sooner counts as broken for its supervisor, which gives up after some of them.
const LIFE: Duration = Duration::from_millis(2200);
/// How long a killed appliance may take until it answers and nothing is open.
const RECOVERY: Duration = Duration::from_secs(60);
/// Where the daemons are made, and what plays with them.
const FOLDERS: [&str; 6] =
    ["Cargo.toml", "appliance", "kernels", "packaging", "services", "updater"];
/// Records that are read at a time.
const PAGE: u32 = 64;

pub(super) fn run(progress: &mut Progress, out: &mut dyn Write) -> Result<()> {
    let sources = Sources::tell(progress, &FOLDERS)?;
    let scratch = tempfile::Builder::new().prefix("cloister-prove-").tempdir()?;
    let mut site = Site::found(scratch.path())?;
    writeln!(out, "kills fall in the first {} ms of a command", site.latest.as_millis())?;
    let mut slowest = Duration::ZERO;
    while progress.done < progress.rounds {
        let round = progress.done;
        let mut dice = Dice::new(progress.seed ^ round.rotate_left(32));
        let (what, recovery) = site.round(&mut dice)?;
        slowest = slowest.max(recovery);
        progress.held(&what)?;
        writeln!(out, "round {round}: {}, back in {} ms", what.join(", "), recovery.as_millis())?;
    }
    sources.check()?;
    writeln!(out, "slowest recovery: {} ms", slowest.as_millis())?;
    site.facility.stage.stop()
}

/// An appliance with two promoted releases.
struct Site {
    facility: Facility,
    imports: BTreeMap<PathBuf, String>,
    killed: Instant,
    /// The latest moment of a kill, from the start of a command: one and a half times the longest of
    /// this machine, so that some fall after the switch.
    latest: Duration,
    /// The log's intents and outcomes up to the record after the last one read.
    log: Log,
}

/// What must never stand in the log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Breach {
    #[error("a record is not of its form")]
    Record,
    #[error("an activation has two intents")]
    SecondIntent,
    #[error("an outcome has no intent")]
    NoIntent,
    #[error("an intent has two outcomes")]
    SecondOutcome,
}

/// The switches that the log tells of, each intent with at most one outcome.
#[derive(Debug, Default)]
pub(crate) struct Log {
    next: u64,
    /// By activation: the outcome, once there is one.
    switches: BTreeMap<u64, Option<String>>,
}

impl Site {
    fn found(home: &std::path::Path) -> Result<Self> {
        // A short probation, so that no watcher meets the next round.
        let extra = "\n[update]\nprobation_s = 0\n".to_owned();
        let mut facility = Facility::found(home, &Options { extra, ..Options::default() })?;
        facility.stage.start()?;
        facility.enrol()?;
        let mut imports = BTreeMap::new();
        let mut longest = Duration::ZERO;
        let mut timed = |facility: &Facility, words: &[&str]| -> Result<()> {
            let begun = Instant::now();
            said(&facility.cloister(words)?)?;
            longest = longest.max(begun.elapsed());
            Ok(())
        };
        for (counter, version) in [(1, "v1"), (2, "v2")] {
            let tree = Recipe::demo(version, None).lay_out(&facility, version)?;
            let volume = facility.publish(&tree, &format!("{counter}.0.0"), counter)?;
            let import = import_number(said(&facility.import(&volume)?)?)?;
            facility.approve(&import)?;
            timed(&facility, &["activate", &import])?;
            imports.insert(facility.active()?, import);
        }
        for _back_and_forth in 0..2 {
            timed(&facility, &["rollback"])?;
        }
        let (killed, latest, log) = (Instant::now(), longest * 3 / 2, Log::default());
        let mut site = Self { facility, imports, killed, latest, log };
        site.log.read(&site.facility)?;
        Ok(site)
    }

    /// One kill; what happened, and how long it took until everything was settled.
    fn round(&mut self, dice: &mut Dice) -> Result<(Vec<&'static str>, Duration)> {
        while self.killed.elapsed() < LIFE {
            std::thread::park_timeout(LIFE.saturating_sub(self.killed.elapsed()));
        }
        let old = self.facility.active()?;
        let other = self.imports.iter().find(|(generation, _)| **generation != old);
        let (new, import) = other.context("there is no other release")?;
        let (asked, mut child) = if dice.roll().is_multiple_of(2) {
            ("activate", self.facility.begin(&["activate", import])?)
        } else {
            ("rollback", self.facility.begin(&["rollback"])?)
        };
        let latest = u64::try_from(self.latest.as_micros())?;
        std::thread::park_timeout(Duration::from_micros(dice.roll() % latest));
        self.facility.stage.kill_all()?;
        self.killed = Instant::now();
        child.wait()?;
        let (new, outcomes) = (new.clone(), self.settled()?);
        let recovery = self.killed.elapsed();
        let now = self.facility.active()?;
        ensure!(now == old || now == new, "neither the old nor the new release is active");
        let ended = match outcomes.as_slice() {
            [] => "before the intent",
            [one] => match one.as_str() {
                "promoted" => "promoted",
                "aborted" => "aborted",
                "returned" => "returned",
                other => bail!("an outcome of another kind: {other}"),
            },
            more => bail!("{} switches by one request", more.len()),
        };
        let moved = now == new;
        ensure!(
            moved == (ended == "promoted"),
            "the log says {ended}, and the shelf says {}",
            if moved { "new" } else { "old" }
        );
        Ok((vec![asked, ended], recovery))
    }

    /// Waits until the appliance answers and no intent is open; the outcomes that are new.
    fn settled(&mut self) -> Result<Vec<String>> {
        let known: Vec<u64> = self.log.switches.keys().copied().collect();
        let known = known.last().copied();
        loop {
            let answers = self.facility.cloister(&["status"]).is_ok_and(|status| status.exit == 0);
            let read = match self.log.read(&self.facility) {
                Err(breach) if breach.is::<Breach>() => return Err(breach),
                read => read.is_ok(),
            };
            if answers && read && !self.log.is_open() {
                let fresh = self.log.switches.iter().filter(|(number, _)| Some(**number) > known);
                return Ok(fresh.filter_map(|(_, outcome)| outcome.clone()).collect());
            }
            ensure!(self.killed.elapsed() < RECOVERY, "the appliance did not come back");
            std::thread::park_timeout(Duration::from_millis(100));
        }
    }
}

impl Log {
    /// Takes the records since the last time. A [`Breach`] is an error that no waiting cures; others
    /// come from a daemon that is not there yet.
    ///
    /// # Errors
    /// When recordd does not answer, or on a breach.
    pub(crate) fn read(&mut self, facility: &Facility) -> Result<()> {
        let socket = facility.stage.socket(Unit::Recordd);
        loop {
            let request = Request::Read { from: RecordIndex(self.next), count: PAGE };
            let reply: Reply<Answer> = ask(&socket, &request)?;
            let Answer::Entries(entries) = reply? else { bail!("recordd gave no entries") };
            if entries.is_empty() {
                return Ok(());
            }
            for entry in &entries {
                self.take(entry)?;
            }
        }
    }

    /// Whether an intent has no outcome yet.
    pub(crate) fn is_open(&self) -> bool {
        self.switches.values().any(Option::is_none)
    }

    /// How many intents there are.
    pub(crate) fn intents(&self) -> usize {
        self.switches.len()
    }

    /// The newest outcome, unless the newest intent is open.
    pub(crate) fn last_outcome(&self) -> Option<&str> {
        self.switches.values().next_back()?.as_deref()
    }

    fn take(&mut self, entry: &str) -> Result<(), Breach> {
        let envelope = Envelope::parse(entry.as_bytes()).map_err(|_cause| Breach::Record)?;
        let statement = Statement::of(&envelope).map_err(|_cause| Breach::Record)?;
        let predicate = statement.predicate;
        let act = predicate["act"].as_str().unwrap_or_default();
        self.next += 1;
        let Some(rest) = act.strip_prefix("activation/") else { return Ok(()) };
        let (activation, step) = rest.split_once('/').ok_or(Breach::Record)?;
        let activation: u64 = activation.parse().map_err(|_cause| Breach::Record)?;
        match (step, self.switches.get_mut(&activation)) {
            ("intent", None) => {
                self.switches.insert(activation, None);
                Ok(())
            }
            ("intent", Some(_)) => Err(Breach::SecondIntent),
            ("outcome", None) => Err(Breach::NoIntent),
            ("outcome", Some(Some(_))) => Err(Breach::SecondOutcome),
            ("outcome", Some(open)) => {
                let outcome = predicate["facts"]["outcome"].as_str().ok_or(Breach::Record)?;
                *open = Some(outcome.to_owned());
                Ok(())
            }
            _ => Err(Breach::Record),
        }
    }
}
