//! Offers files as volumes to the real recordd, updaterd and intaked of a scratch root, one by one,
//! and says what became of each.
//!
//! Every file meets an appliance that has seen nothing but refusals: as soon as a file leaves more
//! than that behind (newer trust metadata, an import, a dead daemon), the next one gets a fresh
//! appliance.

mod listing;

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use cloister_attest::{dsse::Envelope, statement::Statement};
use cloister_domain::{Class, Digest, ImportId, RecordIndex, Sensitive};
use cloister_wire::{
    Problem, Reply, intake,
    record::{self, Answer as Recorded},
    supply::{self, Import, ImportState},
};

use self::listing::Listing;
use crate::{
    Conversation, Options, Stage, Unit, ask,
    newcomers::{self, CLOSELY, peak_bytes},
    release::read_file,
};

/// The daemons that a volume meets.
const UNITS: [Unit; 3] = [Unit::Recordd, Unit::Updaterd, Unit::Intaked];
/// How long a daemon that failed is watched for its death.
const DYING: Duration = Duration::from_millis(300);
/// How long a received release may take until it is a candidate or refused.
const SETTLING: Duration = Duration::from_secs(60);
/// Records that are read at a time.
const PAGE: u32 = 64;

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is a candidate on the shelf now.
    Accepted,
    /// It is not.
    Refused,
    /// A daemon died of it, or never answered.
    Crashed,
}

impl Verdict {
    /// In one word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::Crashed => "crashed",
        }
    }
}

/// What a file came to, and what that took.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// What became of it.
    pub verdict: Verdict,
    /// The problem's code; empty where there is none.
    pub code: String,
    /// From the request to the last answer.
    pub took: Duration,
    /// The peaks of the three daemons together, their programs included, in bytes.
    pub daemons_bytes: u64,
    /// The peaks of the processes that inspected it, and of the scanner's, in bytes: the largest sum of
    /// those that ran at a time.
    pub inspecting_bytes: u64,
    /// Bytes of new and changed files outside quarantine and the appliance's own books.
    pub outside_bytes: u64,
    /// Bytes by which the appliance's own books grew.
    pub books_bytes: u64,
    /// Bytes that it left in quarantine.
    pub left_bytes: u64,
    /// Records that it left in the log.
    pub records: u64,
}

impl Judgement {
    /// The most memory that it took, in bytes: of the daemons, and of whoever they had look at it.
    #[must_use]
    pub const fn peak_bytes(&self) -> u64 {
        self.daemons_bytes + self.inspecting_bytes
    }
}

/// Judges files under one trust root.
#[derive(Debug)]
pub struct Judge {
    scratch: PathBuf,
    root: Vec<u8>,
    made: u64,
    current: Option<Ward>,
}

impl Judge {
    /// Appliances below `scratch` that have enrolled `root`.
    ///
    /// # Errors
    /// When the first one does not come up, or the root is not trusted.
    pub fn new(scratch: &Path, root: Vec<u8>) -> Result<Self> {
        let mut judge = Self { scratch: scratch.to_owned(), root, made: 0, current: None };
        judge.current = Some(judge.fresh()?);
        Ok(judge)
    }

    fn fresh(&mut self) -> Result<Ward> {
        self.made += 1;
        Ward::found(&self.scratch.join(self.made.to_string()), &self.root)
    }

    /// Offers the file, or the folder of volumes, at `path`.
    ///
    /// # Errors
    /// When no appliance can be made or asked; whatever `path` holds is a judgement.
    pub fn offer(&mut self, path: &Path) -> Result<Judgement> {
        let mut ward = match self.current.take() {
            Some(ward) => ward,
            None => self.fresh()?,
        };
        let neutral = self.neutral(path)?;
        let (judgement, clean) = ward.offer(neutral.as_deref().unwrap_or(path))?;
        if clean {
            self.current = Some(ward);
        } else {
            ward.leave()?;
        }
        Ok(judgement)
    }

    /// The same bytes under a name that a request can hold, where the path is not UTF-8: a request is
    /// text, and it is the file that is judged.
    fn neutral(&self, path: &Path) -> Result<Option<PathBuf>> {
        if path.to_str().is_some() {
            return Ok(None);
        }
        let place = self.scratch.join("offered");
        if place.is_dir() {
            fs::remove_dir_all(&place)?;
        } else if place.exists() {
            fs::remove_file(&place)?;
        }
        if path.is_dir() {
            fs::create_dir(&place)?;
            for entry in fs::read_dir(path)? {
                let entry = entry?;
                link_or_copy(&entry.path(), &place.join(entry.file_name()))?;
            }
        } else {
            link_or_copy(path, &place)?;
        }
        Ok(Some(place))
    }
}

/// Puts a file in another place, without its bytes where both lie on one file system.
fn link_or_copy(from: &Path, to: &Path) -> Result<()> {
    if fs::hard_link(from, to).is_err() {
        anyhow::ensure!(fs::symlink_metadata(from)?.is_file(), "only a plain file can be copied");
        fs::copy(from, to)?;
    }
    Ok(())
}

/// An appliance with a folder around it.
#[derive(Debug)]
struct Ward {
    folder: PathBuf,
    stage: Stage,
    records: u64,
}

impl Ward {
    fn found(folder: &Path, root: &[u8]) -> Result<Self> {
        let options = Options { units: UNITS.to_vec(), ..Options::no_evaluation_asked() };
        let mut stage = Stage::create(&folder.join("appliance"), &options)?;
        stage.start()?;
        let enrol = supply::Request::Enrol {
            root: String::from_utf8(root.to_vec()).context("the root is not UTF-8")?,
            confirmed: Digest::of(root),
        };
        let reply: Reply<supply::Answer> = ask(&stage.socket(Unit::Updaterd), &enrol)?;
        if let Err(problem) = reply {
            bail!("the trust root is refused: {} ({})", problem.message, problem.code);
        }
        let mut ward = Self { folder: folder.to_owned(), stage, records: 0 };
        ward.news()?;
        Ok(ward)
    }

    /// Ends the daemons and removes what they had.
    fn leave(mut self) -> Result<()> {
        self.stage.abandon()?;
        Ok(fs::remove_dir_all(&self.folder)?)
    }

    /// The judgement, and whether the appliance has seen nothing but a refusal.
    fn offer(&mut self, path: &Path) -> Result<(Judgement, bool)> {
        let pids = self.pids()?;
        for pid in &pids {
            // Sets the peak back to what is resident now (proc_pid_clear_refs(5)).
            fs::write(format!("/proc/{pid}/clear_refs"), "5").context("resetting a peak")?;
        }
        let before = Listing::of(&self.folder)?;
        let begun = Instant::now();
        let inspectors = self.stage.supervisor_pid()?;
        let (inspecting_bytes, said) =
            newcomers::measure(inspectors, CLOSELY, || self.import(path));
        let took = begun.elapsed();
        let alive = pids.iter().all(|pid| is_alive(*pid));
        let (verdict, code) = match said {
            // The socket outlives the daemon, so the one that was started again may have answered.
            Ok(problem) if !alive => {
                (Verdict::Crashed, problem.map_or_else(String::new, |problem| problem.code))
            }
            Ok(None) => (Verdict::Accepted, String::new()),
            Ok(Some(problem)) if problem.class == Class::Fault && self.died(&pids) => {
                (Verdict::Crashed, problem.code)
            }
            Ok(Some(problem)) => (Verdict::Refused, problem.code),
            Err(_no_answer) => (Verdict::Crashed, "no-answer".to_owned()),
        };
        let peaks = pids.iter().map(|pid| peak_bytes(*pid));
        let daemons_bytes = peaks.sum::<Result<u64>>().unwrap_or_default();
        let after = Listing::of(&self.folder)?;
        let changed = before.changes(&after);
        let mut judgement = Judgement {
            verdict,
            code,
            took,
            daemons_bytes,
            inspecting_bytes,
            outside_bytes: changed.outside_bytes,
            books_bytes: changed.books_bytes,
            left_bytes: after.quarantined_bytes(),
            records: 0,
        };
        if verdict == Verdict::Crashed {
            return Ok((judgement, false));
        }
        let news = self.news()?;
        judgement.records = u64::try_from(news.len())?;
        let refusals_only = news.iter().all(|act| is_refusal(act));
        let clean = refusals_only && changed.outside_bytes == 0 && judgement.left_bytes == 0;
        Ok((judgement, clean && verdict == Verdict::Refused))
    }

    fn pids(&self) -> Result<Vec<u32>> {
        UNITS.iter().map(|unit| self.stage.pid(*unit)).collect()
    }

    /// Whether one of the daemons died, or dies within a moment.
    fn died(&self, pids: &[u32]) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < DYING {
            if self.pids().map_or(true, |now| now != pids) {
                return true;
            }
            thread::park_timeout(Duration::from_millis(10));
        }
        false
    }

    /// Imports what is at `path`: nothing once it is a candidate, else the problem.
    fn import(&self, path: &Path) -> Result<Option<Problem>> {
        let path = path.to_str().context("the path is not UTF-8")?;
        let mut intaked = Conversation::open(&self.stage.socket(Unit::Intaked))?;
        intaked
            .say(&intake::Request::Import { path: Sensitive::new(path.to_owned()), into: None })?;
        loop {
            match intaked.hear()?.context("intaked ended the conversation")? {
                intake::Event::Problem(problem) => return Ok(Some(problem)),
                intake::Event::Received { import, .. } => return self.settled(import),
                intake::Event::Medium(_)
                | intake::Event::Parted { .. }
                | intake::Event::Says(_)
                | intake::Event::Trusted(_)
                | intake::Event::Refused { .. }
                | intake::Event::Seen(_)
                | intake::Event::Progress { .. }
                | intake::Event::Repeated { .. }
                | intake::Event::Forecast(_)
                | intake::Event::Checked { .. }
                | intake::Event::Needs { .. } => {}
                // Trust metadata alone: taken, and there is nothing to settle.
                intake::Event::Inspected => return Ok(None),
            }
        }
    }

    /// Waits until a received import is a candidate or refused.
    fn settled(&self, import: ImportId) -> Result<Option<Problem>> {
        let begun = Instant::now();
        while begun.elapsed() < SETTLING {
            let held = self.held(import)?;
            match held.state {
                ImportState::Receiving | ImportState::Received => {
                    thread::park_timeout(Duration::from_millis(5));
                }
                ImportState::Refused => return Ok(held.problem),
                ImportState::Evaluating
                | ImportState::AwaitingApproval
                | ImportState::Approved
                | ImportState::Activated => return Ok(None),
            }
        }
        bail!("a received import was not settled in time")
    }

    fn held(&self, import: ImportId) -> Result<Import> {
        let reply: Reply<supply::Answer> =
            ask(&self.stage.socket(Unit::Updaterd), &supply::Request::Review { import })?;
        match reply? {
            supply::Answer::Import(held) => Ok(*held),
            _ => bail!("updaterd answered with something else"),
        }
    }

    /// The acts of the records since the last time.
    fn news(&mut self) -> Result<Vec<String>> {
        let socket = self.stage.socket(Unit::Recordd);
        let mut acts = Vec::new();
        loop {
            let request = record::Request::Read { from: RecordIndex(self.records), count: PAGE };
            let reply: Reply<Recorded> = ask(&socket, &request)?;
            let Recorded::Entries(entries) = reply? else { bail!("recordd gave no entries") };
            if entries.is_empty() {
                return Ok(acts);
            }
            for entry in entries {
                let statement = Statement::of(&Envelope::parse(entry.as_bytes())?)?;
                acts.push(statement.predicate["act"].as_str().unwrap_or_default().to_owned());
                self.records += 1;
            }
        }
    }
}

/// Whether an act is the refusal of an import.
fn is_refusal(act: &str) -> bool {
    act.starts_with("import/") && act.ends_with("/refused")
}

/// Whether a process is there and has not ended.
fn is_alive(pid: u32) -> bool {
    let said = read_file(Path::new(&format!("/proc/{pid}/stat"))).unwrap_or_default();
    // The state stands behind the name in brackets (proc_pid_stat(5)).
    let state = said.iter().rposition(|byte| *byte == b')').and_then(|at| said.get(at + 2));
    state.is_some_and(|state| !matches!(state, b'Z' | b'X'))
}
