//! Who is answered by what while a release is tried out, and what that comes to: in counts, never in
//! words.
//!
//! The shelf's file says what the trial is; it is read for each request, so a trial begins and ends
//! without anybody telling the gateway. The counts go to a file that updaterd reads.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use cloister_config::Paths;
use cloister_daemon::files::read_limited;
use cloister_domain::{GenerationId, Principal};
use cloister_wire::trial::{Counted, FILE_BYTES_MAX, Kind, Report, Tally, Trial};

/// The trial as requests see it.
#[derive(Debug)]
pub(crate) struct Trials {
    pointer: PathBuf,
    counts: PathBuf,
    run: u64,
    counted: Mutex<Option<Counted>>,
    /// The last counts could not be kept.
    blind: AtomicBool,
    shadowing: AtomicBool,
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
            blind: AtomicBool::new(false),
            shadowing: AtomicBool::new(false),
        }
    }

    /// The trial under way, if there is one.
    pub(crate) fn current(&self) -> Option<Trial> {
        let text = read_limited(&self.pointer, FILE_BYTES_MAX).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Counts something of `trial`, unless another has begun since.
    pub(crate) fn count(&self, trial: u64, add: impl FnOnce(&mut Report)) {
        if self.current().is_none_or(|current| current.trial != trial) {
            return;
        }
        let mut counted = self.counted.lock().expect("no holder of this lock panics");
        let now = match &mut *counted {
            Some(now) if now.trial == trial => now,
            other => other.insert(Counted { trial, run: self.run, report: Report::default() }),
        };
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
