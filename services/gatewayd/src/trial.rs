//! Who is answered by what while a release is tried out, and what that comes to: in counts, never in
//! words.
//!
//! The shelf's file says what the trial is; it is read for each request, so a trial begins and ends
//! without anybody telling the gateway. The counts go to a file that updaterd reads. When its time is over a
//! trial has no part in anything, whether updaterd ends it or not.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use cloister_config::Paths;
use cloister_daemon::{clock::Stopwatch, files::read_limited};
use cloister_domain::{GenerationId, Principal};
use cloister_wire::trial::{Counted, FILE_BYTES_MAX, Kind, Report, Tally, Trial};

/// The trial as requests see it.
#[derive(Debug)]
pub(crate) struct Trials {
    pointer: PathBuf,
    counts: PathBuf,
    run: u64,
    counted: Mutex<Option<Counted>>,
    begun: Mutex<Option<Begun>>,
    /// The last counts could not be kept.
    blind: AtomicBool,
    shadowing: AtomicBool,
}

/// When a trial was seen first.
#[derive(Debug)]
struct Begun {
    trial: u64,
    since: Stopwatch,
    /// How long it had lasted in the runs of gatewayd before.
    before_s: u32,
}

/// The one place of a shadow's question, until it is dropped.
#[derive(Debug)]
pub(crate) struct ShadowPlace(Arc<Trials>);

impl Drop for ShadowPlace {
    fn drop(&mut self) {
        self.0.shadowing.store(false, Ordering::SeqCst);
    }
}

impl Trials {
    pub(crate) fn new(paths: &Paths) -> Self {
        let mut run = [0; 8];
        // Without random bytes two runs may look like one, and the counts of one of them be lost.
        getrandom::fill(&mut run).unwrap_or_default();
        Self {
            pointer: paths.shelf().join("trial"),
            counts: paths.trial_counts(),
            run: u64::from_le_bytes(run),
            counted: Mutex::default(),
            begun: Mutex::default(),
            blind: AtomicBool::new(false),
            shadowing: AtomicBool::new(false),
        }
    }

    /// The trial under way, if there is one whose time is not over.
    pub(crate) fn current(&self) -> Option<Trial> {
        self.named().filter(|trial| self.lasted_s(trial.trial) < trial.seconds)
    }

    /// The trial that the shelf names.
    fn named(&self) -> Option<Trial> {
        let text = read_limited(&self.pointer, FILE_BYTES_MAX).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// How long a trial has lasted since anybody asked something. What an earlier run measured is in the counts,
    /// which are kept with each answer: what a killed one measured since then was about no answer.
    fn lasted_s(&self, trial: u64) -> u32 {
        let mut begun = self.begun.lock().expect("no holder of this lock panics");
        let begun = match &mut *begun {
            Some(begun) if begun.trial == trial => begun,
            other => {
                let kept = read_limited(&self.counts, FILE_BYTES_MAX).ok();
                let kept = kept.and_then(|text| serde_json::from_slice::<Counted>(&text).ok());
                let before_s =
                    kept.map_or(0, |kept| if kept.trial == trial { kept.lasted_s } else { 0 });
                other.insert(Begun { trial, since: Stopwatch::start(), before_s })
            }
        };
        let seconds = u32::try_from(begun.since.elapsed().as_secs()).unwrap_or(u32::MAX);
        begun.before_s.saturating_add(seconds)
    }

    /// Counts something of `trial`, unless another has begun since.
    pub(crate) fn count(&self, trial: u64, add: impl FnOnce(&mut Report)) {
        // One that was begun in time counts.
        if self.named().is_none_or(|named| named.trial != trial) {
            return;
        }
        let lasted_s = self.lasted_s(trial);
        let mut counted = self.counted.lock().expect("no holder of this lock panics");
        let now = match &mut *counted {
            Some(now) if now.trial == trial => now,
            other => {
                let report = Report::default();
                other.insert(Counted { trial, run: self.run, lasted_s, report })
            }
        };
        now.lasted_s = lasted_s;
        add(&mut now.report);
        let text = serde_json::to_vec(now).expect("numbers");
        let kept = replace(&self.counts, &text);
        self.blind.store(kept.is_err(), Ordering::SeqCst);
        if let Err(error) = kept {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(code = "gateway.trial.counts", error, "a trial's counts were not kept");
        }
    }

    /// The place of a shadow's question, if none is being asked.
    pub(crate) fn shadow_place(self: &Arc<Self>) -> Option<ShadowPlace> {
        let taken = self.shadowing.swap(true, Ordering::SeqCst);
        (!taken).then(|| ShadowPlace(Arc::clone(self)))
    }
}

/// A reader finds the old counts or the new; after a power cut none are needed.
fn replace(path: &Path, text: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let aside = path.with_extension("new");
    fs::write(&aside, text)?;
    fs::rename(aside, path)
}

/// The part that a request has in the trial.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    trial: Trial,
    covered: bool,
}

impl Part {
    /// What the trial under way means for a principal; `None` if there is none.
    ///
    /// A canary whose failures could not be counted would not end by them, so it answers nobody until
    /// the counts of the active release's answers are kept again.
    pub(crate) fn of(trials: &Trials, principal: &Principal) -> Option<Self> {
        let trial = trials.current()?;
        let blind = trial.kind == Kind::Canary && trials.blind.load(Ordering::SeqCst);
        let covered = !blind && trial.scope.covers(trial.generation, principal);
        Some(Self { trial, covered })
    }

    /// The trial's number.
    pub(crate) const fn trial(&self) -> u64 {
        self.trial.trial
    }

    /// The release that is to answer before the active one.
    pub(crate) fn canary(&self) -> Option<GenerationId> {
        (self.covered && self.trial.kind == Kind::Canary).then_some(self.trial.generation)
    }

    /// The release that is to be asked the same, unseen.
    pub(crate) fn shadow(&self) -> Option<GenerationId> {
        (self.covered && self.trial.kind == Kind::Shadow).then_some(self.trial.generation)
    }

    /// Counts an answer of a canary's time by the release that gave it.
    pub(crate) fn count(&self, trials: &Trials, by: GenerationId, tally: Tally) {
        if self.trial.kind == Kind::Canary {
            let own = by == self.trial.generation;
            trials.count(self.trial.trial, |report| {
                let side = if own { &mut report.candidate } else { &mut report.active };
                *side = side.with(tally);
            });
        }
    }

    /// Counts an answer of a canary's time that failed through the appliance's own fault.
    pub(crate) fn count_failure(&self, trials: &Trials, by: GenerationId) {
        self.count(trials, by, Tally { failed: 1, ..Tally::default() });
    }
}
