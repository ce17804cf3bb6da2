//! All daemons die by SIGKILL at a random moment of an activation or a rollback, again and again in
//! one appliance. After each: what is active is what was active or what was asked for, the log has
//! one outcome for each intent, and the last outcome says what the shelf says.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use cloister_attest::{dsse::Envelope, statement::Statement};
use cloister_domain::RecordIndex;
use cloister_stage::{
    Options, Unit, ask,
    facility::{Facility, import_number},
    programs,
    release::Recipe,
};
use cloister_wire::{
    Reply,
    record::{Answer, Request},
};

use super::Progress;
use crate::{bench::Dice, serve::said};

/// A daemon that dies sooner counts as broken for its supervisor, which gives up after some of them.
const LIFE: Duration = Duration::from_millis(2200);
/// The latest moment of a kill: what a switch takes, and half as much again.
const LATEST_MICROSECONDS: u64 = 80_000;
/// How long a killed appliance may take until it answers and nothing is open.
const RECOVERY: Duration = Duration::from_secs(60);
/// Records that are read at a time.
const PAGE: u32 = 64;

pub(super) fn run(progress: &mut Progress, out: &mut dyn Write) -> Result<()> {
    let scratch = tempfile::Builder::new().prefix("cloister-prove-").tempdir()?;
    let mut site = Site::found(scratch.path())?;
    let mut slowest = Duration::ZERO;
    while progress.done < progress.rounds {
        let round = progress.done;
        let mut dice = Dice::new(progress.seed ^ round.rotate_left(32));
        let (what, recovery) = site.round(&mut dice)?;
        slowest = slowest.max(recovery);
        progress.held(&what)?;
        writeln!(out, "round {round}: {}, back in {} ms", what.join(", "), recovery.as_millis())?;
    }
    writeln!(out, "slowest recovery: {} ms", slowest.as_millis())?;
    site.facility.stage.stop()
}

/// An appliance with two promoted releases.
struct Site {
    facility: Facility,
    imports: BTreeMap<PathBuf, String>,
    killed: Instant,
    /// The log's intents and outcomes up to the record after the last one read.
    log: Log,
}

/// What must never stand in the log.
#[derive(Debug, thiserror::Error)]
enum Breach {
    #[error("a record is not of its form")]
    Record,
    #[error("an activation has two intents")]
    SecondIntent,
    #[error("an outcome has no intent")]
    NoIntent,
    #[error("an intent has two outcomes")]
    SecondOutcome,
}

#[derive(Default)]
struct Log {
    next: u64,
    /// By activation: the generation asked for, and the outcome once there is one.
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
        for (counter, version) in [(1, "v1"), (2, "v2")] {
            let tree = Recipe::demo(version, None).lay_out(&facility, version)?;
            let volume = facility.publish(&tree, &format!("{counter}.0.0"), counter)?;
            let import = import_number(said(&facility.import(&volume)?)?)?;
            facility.approve(&import)?;
            said(&facility.cloister(&["activate", &import])?)?;
            imports.insert(active(&facility)?, import);
        }
        let mut site = Self { facility, imports, killed: Instant::now(), log: Log::default() };
        site.read()?;
        Ok(site)
    }

    /// One kill; what happened, and how long it took until everything was settled.
    fn round(&mut self, dice: &mut Dice) -> Result<(Vec<&'static str>, Duration)> {
        while self.killed.elapsed() < LIFE {
            std::thread::park_timeout(LIFE.saturating_sub(self.killed.elapsed()));
        }
        let old = active(&self.facility)?;
        let other = self.imports.iter().find(|(generation, _)| **generation != old);
        let (new, import) = other.context("there is no other release")?;
        let (asked, mut child) = if dice.roll().is_multiple_of(2) {
            ("activate", self.start(&["activate", import])?)
        } else {
            ("rollback", self.start(&["rollback"])?)
        };
        std::thread::park_timeout(Duration::from_micros(dice.roll() % LATEST_MICROSECONDS));
        self.facility.stage.kill_all()?;
        self.killed = Instant::now();
        child.wait()?;
        let (new, outcomes) = (new.clone(), self.settled()?);
        let recovery = self.killed.elapsed();
        let now = active(&self.facility)?;
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

    fn start(&self, words: &[&str]) -> Result<Child> {
        Command::new(programs()?.join("cloister"))
            .arg("--config")
            .arg(self.facility.stage.config_path())
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting cloister")
    }

    /// Waits until the appliance answers and no intent is open; the outcomes that are new.
    fn settled(&mut self) -> Result<Vec<String>> {
        let known: Vec<u64> = self.log.switches.keys().copied().collect();
        let known = known.last().copied();
        loop {
            let answers = self.facility.cloister(&["status"]).is_ok_and(|status| status.exit == 0);
            let read = match self.read() {
                Err(breach) if breach.is::<Breach>() => return Err(breach),
                read => read.is_ok(),
            };
            if answers && read && self.log.switches.values().all(Option::is_some) {
                let fresh = self.log.switches.iter().filter(|(number, _)| Some(**number) > known);
                return Ok(fresh.filter_map(|(_, outcome)| outcome.clone()).collect());
            }
            ensure!(self.killed.elapsed() < RECOVERY, "the appliance did not come back");
            std::thread::park_timeout(Duration::from_millis(100));
        }
    }

    /// Takes the records since the last time. A [`Breach`] is an error that no waiting cures; others
    /// come from a daemon that is not there yet.
    fn read(&mut self) -> Result<()> {
        loop {
            let request = Request::Read { from: RecordIndex(self.log.next), count: PAGE };
            let reply: Reply<Answer> = ask(&self.facility.stage.socket(Unit::Recordd), &request)?;
            let Answer::Entries(entries) = reply? else { bail!("recordd gave no entries") };
            if entries.is_empty() {
                return Ok(());
            }
            for entry in &entries {
                self.log.take(entry)?;
            }
        }
    }
}

impl Log {
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

fn active(facility: &Facility) -> Result<PathBuf> {
    Ok(fs::read_link(facility.stage.config().paths.shelf().join("active"))?)
}
