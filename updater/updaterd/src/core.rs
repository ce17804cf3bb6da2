//! What all acts share: the shelf, the database, the trust state, the log, and the rule that one act
//! happens at a time.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, TryLockError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
};

use cloister_config::Config;
use cloister_daemon::{Stop, reserve::Reserve};
use cloister_domain::{Coded as _, Digest, GenerationId, ImportId, RecordIndex, Slot};
use cloister_shelf::Shelf;
use cloister_state::{Series, State, StateError, TrustFile};
use cloister_verify::{Stored, TrustState, Vector, VerifyError};
use cloister_wire::{
    Problem,
    record::{Entry, Event, Subject},
};
use serde_json::{Value, json};

use crate::{
    anchor, books, catch_up,
    error::ActError,
    peers::{Corpusd, Engine, Recordd},
    quarantine::Holders,
    turn::Turns,
    verdict::Minimums,
};

/// The updater's whole world.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) config: Config,
    pub(crate) shelf: Shelf,
    pub(crate) recordd: Recordd,
    pub(crate) corpusd: Corpusd,
    pub(crate) stop: Stop,
    /// Space for what must be noted when the disk is full.
    pub(crate) reserve: Reserve,
    state: Mutex<State>,
    trust: Mutex<Option<TrustState>>,
    pub(crate) turns: Turns,
    acts: Mutex<()>,
    /// Taken before the right to act, by whoever brings a release from quarantine to the shelf.
    adoptions: Mutex<()>,
    /// Held by the one pass over the shelf.
    pub(crate) reading: Mutex<()>,
    /// Whether the log may hold what the database does not; see [`crate::catch_up`].
    pub(crate) unsure: AtomicBool,
    /// Whether the database was found to be an older copy; only another one ends that.
    pub(crate) older: AtomicBool,
    /// Whether an act may have been cut off between two of its writes; see [`crate::unfinished`].
    pub(crate) unfinished: AtomicBool,
    /// An object that the log calls damaged, and that may lie on the shelf still; see [`crate::scrub`].
    pub(crate) damaged: Mutex<Option<Digest>>,
    pub(crate) holders: Holders,
    /// The releases of the last record of a sweep, while they are on the shelf still.
    pub(crate) going: Mutex<Vec<GenerationId>>,
    /// Whether the active release is measured beside a candidate, and answers nobody else meanwhile.
    pub(crate) examined: AtomicBool,
    /// Wakes the worker; one waiting word is as good as many.
    wake: mpsc::SyncSender<()>,
}

/// The right to act. While one is held no other act begins.
#[derive(Debug)]
pub(crate) struct Act<'a>(#[expect(dead_code, reason = "held, not read")] MutexGuard<'a, ()>);

pub(crate) const UNPOISONED: &str = "a panic ends the process";

impl Core {
    /// The world as the disk holds it.
    pub(crate) fn new(
        config: Config,
        stop: Stop,
        wake: mpsc::SyncSender<()>,
    ) -> Result<Self, crate::UpdaterdError> {
        use crate::UpdaterdError as Error;
        let paths = &config.paths;
        std::fs::create_dir_all(&paths.state).map_err(Error::Folder)?;
        crate::inventory::prepare(paths).map_err(Error::Folder)?;
        let mut state = open_state(&paths.supply_database())?;
        std::fs::create_dir_all(paths.trust()).map_err(Error::Folder)?;
        let reserve = Reserve::new(paths.reserve(), config.update.full_disk_bytes.0);
        let shelf = Shelf::open(&paths.shelf()).map_err(Error::Shelf)?;
        let trust = match state.trust().map_err(Error::State)? {
            None => None,
            Some(held) => {
                let stored = stored(held).map_err(Error::Trust)?;
                let held = TrustState::load(stored).map_err(Error::Trust)?;
                Some(as_high_as_kept(&mut state, &paths.trust(), &held)?)
            }
        };
        Ok(Self {
            shelf,
            recordd: Recordd::new(paths),
            corpusd: Corpusd::new(paths, &stop),
            reserve,
            stop,
            state: Mutex::new(state),
            trust: Mutex::new(trust),
            turns: Turns::default(),
            acts: Mutex::new(()),
            adoptions: Mutex::new(()),
            reading: Mutex::new(()),
            unsure: AtomicBool::new(true),
            older: AtomicBool::new(false),
            unfinished: AtomicBool::new(true),
            damaged: Mutex::default(),
            holders: Holders::default(),
            going: Mutex::default(),
            examined: AtomicBool::new(false),
            wake,
            config,
        })
    }

    /// Gives up the space that is held for a full disk, if it is full. For what takes a release off or
    /// says no; whoever brings something in does not ask for it.
    pub(crate) fn make_room(&self) {
        if let Err(error) = self.reserve.make_room() {
            tracing::warn!(kind = ?error.kind(), "the space for a full disk could not be given up");
        }
    }

    /// Holds that space again, if there is room.
    pub(crate) fn hold_room(&self) {
        if let Err(error) = self.reserve.fill() {
            tracing::warn!(kind = ?error.kind(), "no space can be held for a full disk");
        }
    }

    /// Waits for the right to act.
    pub(crate) fn act(&self) -> Act<'_> {
        Act(self.acts.lock().expect(UNPOISONED))
    }

    /// Waits for the right to bring a release to the shelf. Two adoptions at once could write the
    /// same object. Who holds it may take the right to act, not the other way round.
    pub(crate) fn adopting(&self) -> MutexGuard<'_, ()> {
        self.adoptions.lock().expect(UNPOISONED)
    }

    /// As [`Core::adopting`], if nobody else has it.
    pub(crate) fn try_adopting(&self) -> Option<MutexGuard<'_, ()>> {
        match self.adoptions.try_lock() {
            Ok(right) => Some(right),
            Err(TryLockError::WouldBlock) => None,
            Err(TryLockError::Poisoned(_)) => panic!("{UNPOISONED}"),
        }
    }

    /// The database, for a moment.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect(UNPOISONED)
    }

    /// The next number of `series`. An older copy of the database gives out none: it would catch up with
    /// the log, number by number.
    pub(crate) fn draw(&self, series: Series) -> Result<u64, ActError> {
        catch_up::may_act(self)?;
        Ok(self.state().next(series)?)
    }

    /// Does what has two writes, a record and then one in the database. Should it break off, the log is
    /// asked before anything else happens.
    pub(crate) fn in_two_writes<T>(
        &self,
        act: impl FnOnce() -> Result<T, ActError>,
    ) -> Result<T, ActError> {
        let done = self.unsure_until(act);
        if done.as_ref().is_err_and(|error| !is_refusal(error)) {
            self.wake();
        }
        done
    }

    /// As [`Core::in_two_writes`], of the worker, who tries again by itself.
    pub(crate) fn unsure_until<T>(
        &self,
        act: impl FnOnce() -> Result<T, ActError>,
    ) -> Result<T, ActError> {
        let before = self.unsure.swap(true, Ordering::SeqCst);
        let done = act();
        // A refusal wrote nothing.
        if done.as_ref().err().is_none_or(is_refusal) {
            self.unsure.store(before, Ordering::SeqCst);
        }
        done
    }

    /// Tells the worker that there is something to do.
    pub(crate) fn wake(&self) {
        match self.wake.try_send(()) {
            // A word waits already, or the worker has ended because the daemon is to stop.
            Ok(()) | Err(mpsc::TrySendError::Full(()) | mpsc::TrySendError::Disconnected(())) => {}
        }
    }

    /// An act was cut off after its first write; the worker finishes it.
    pub(crate) fn leave_unfinished(&self) {
        self.unfinished.store(true, Ordering::SeqCst);
        self.wake();
    }

    pub(crate) fn engine(&self, slot: Slot) -> Engine {
        Engine::new(&self.config.paths, slot, &self.stop)
    }

    /// What the facility demands of every candidate.
    pub(crate) const fn minimums(&self) -> Minimums {
        let update = &self.config.update;
        Minimums {
            evaluation_required: update.evaluation_required,
            heldout_worse_permille_max: update.heldout_worse_permille_max,
            golden_fewer_permille_max: update.golden_fewer_permille_max,
            golden_passed_permille_min: update.golden_passed_permille_min,
            decode_millitokens_per_s_min: update.decode_millitokens_per_s_min,
            decode_slower_permille_max: update.decode_slower_permille_max,
            peak_memory_more_permille_max: update.peak_memory_more_permille_max,
        }
    }

    /// Persons who must approve: the root's number or the facility's, whichever is greater.
    pub(crate) fn approvals_needed(&self) -> u64 {
        // A root that names no approver lets nothing be approved, whatever number stands here.
        let of_root = self.enrolled().and_then(|trust| trust.approvals_needed()).unwrap_or(0);
        of_root.max(u64::from(self.config.update.approvals_needed_min))
    }

    /// The trust state, if a root is enrolled.
    pub(crate) fn enrolled(&self) -> Option<TrustState> {
        self.trust.lock().expect(UNPOISONED).clone()
    }

    /// The trust state.
    pub(crate) fn trust(&self) -> Result<TrustState, ActError> {
        match self.enrolled() {
            Some(trust) => Ok(trust),
            None if self.is_lost()? => Err(ActError::Lost),
            None => Err(StateError::NotEnrolled.into()),
        }
    }

    /// Whether the log knows of more than an enrolment, and the database of none: it was lost.
    pub(crate) fn is_lost(&self) -> Result<bool, ActError> {
        Ok(self.enrolled().is_none() && self.recordd.size()? > 1)
    }

    /// From now on `trust` is what is trusted; the caller has stored it.
    pub(crate) fn take_trust(&self, trust: TrustState) {
        *self.trust.lock().expect(UNPOISONED) = Some(trust);
    }

    /// Keeps newer trust metadata, with a record of what changed.
    pub(crate) fn keep_trust(&self, newer: &TrustState) -> Result<(), ActError> {
        let held = self.trust()?;
        if newer.stored() == held.stored() {
            return Ok(());
        }
        anchor::keep(&self.config.paths.trust(), newer)?;
        let vector = vector_text(newer);
        let versions = &newer.stored().vector;
        let before = held.stored().vector.sequence;
        // A number that was passed over is a stick that never came here, or was kept from coming.
        let passed_over = versions.sequence.saturating_sub(before).saturating_sub(1);
        let passed_over = if before == 0 { 0 } else { passed_over };
        if passed_over > 0 {
            tracing::warn!(sticks = passed_over, "sticks that were written did not come here");
        }
        let entry = Self::entry(
            Event::TrustUpdate,
            format!("trust/{}", Digest::of(vector.as_bytes())),
            &[("trust-root", versions.root_sha256)],
            json!({
                "root_version": versions.root,
                "timestamp_version": versions.timestamp,
                "snapshot_version": versions.snapshot,
                "targets_version": versions.targets,
                "stick": versions.sequence,
                "sticks_passed_over": passed_over,
                "time_floor": versions.time_floor,
            }),
        );
        self.in_two_writes(|| {
            let record = self.recordd.append(&entry)?;
            Ok(self.state().advance_trust(&trust_files(newer), &vector, record)?)
        })?;
        self.take_trust(newer.clone());
        anchor::forget_others(&self.config.paths.trust(), newer);
        // The root says how many persons must approve; what they sign from here on is judged by that.
        books::record_policy(self)?;
        let Some(active) = self.shelf.active()? else { return Ok(()) };
        if let Some(held) = self.shelf.shelved(active.id())?
            && newer.is_revoked(&held.manifest()?)
        {
            tracing::warn!(generation = %active.id(), "the active release was taken back");
        }
        Ok(())
    }

    /// An entry of the log.
    pub(crate) fn entry(
        event: Event,
        act: String,
        subject: &[(&str, Digest)],
        predicate: Value,
    ) -> Entry {
        let Value::Object(predicate) = predicate else {
            unreachable!("a predicate is written as an object");
        };
        let subject = subject
            .iter()
            .map(|(name, sha256)| Subject { name: (*name).to_owned(), sha256: *sha256 })
            .collect();
        Entry { event, act, subject, predicate }
    }

    /// Leaves a record of an act that was asked for and not allowed. Faults are not refusals, and
    /// before the enrolment there is no log to write to.
    pub(crate) fn record_refusal(
        &self,
        asked: &'static str,
        about: &[(&str, Digest)],
        error: ActError,
    ) -> ActError {
        if !is_refusal(&error) || self.enrolled().is_none() {
            return error;
        }
        self.make_room();
        let problem = error.problem();
        let recorded = || -> Result<RecordIndex, ActError> {
            let number = self.draw(Series::Refusal)?;
            self.recordd.append(&Self::entry(
                Event::ActRefused,
                format!("refusal/{number}"),
                about,
                json!({ "asked": asked, "code": problem.code }),
            ))
        };
        recorded().err().unwrap_or(error)
    }

    /// Refuses an import: a record, the state, and nothing of it left in quarantine or on the shelf,
    /// unless somebody still has its quarantine and clears it later.
    pub(crate) fn refuse_import(
        &self,
        import: ImportId,
        generation: GenerationId,
        problem: &Problem,
    ) -> Result<RecordIndex, ActError> {
        match self.try_quarantine(import) {
            Some(quarantine) => quarantine.refuse(generation, problem),
            None => {
                let record = self.record_and_refuse(import, generation, problem)?;
                self.sweep();
                Ok(record)
            }
        }
    }

    /// A record and the state. The caller holds the right to act.
    pub(crate) fn record_and_refuse(
        &self,
        import: ImportId,
        generation: GenerationId,
        problem: &Problem,
    ) -> Result<RecordIndex, ActError> {
        self.in_two_writes(|| {
            let record = self.record_import_refused(import, Some(generation), problem)?;
            self.state().refuse(import, problem, record)?;
            Ok(record)
        })
    }

    pub(crate) fn record_import_refused(
        &self,
        import: ImportId,
        generation: Option<GenerationId>,
        problem: &Problem,
    ) -> Result<RecordIndex, ActError> {
        let subject: Vec<(&str, Digest)> =
            generation.iter().map(|generation| ("bundle", generation.0)).collect();
        self.make_room();
        self.recordd.append(&Self::entry(
            Event::ImportRefused,
            format!("import/{import}/refused"),
            &subject,
            json!({ "import": import, "code": problem.code, "class": problem.class }),
        ))
    }
}

/// The database; a damaged one is set aside, and an empty one takes its place until it is rebuilt.
fn open_state(path: &Path) -> Result<State, crate::UpdaterdError> {
    use crate::UpdaterdError as Error;
    match State::open(path) {
        Err(error) if error.is_damage() => {
            tracing::error!(code = error.code(), "the state database is damaged and set aside");
            set_aside(path).map_err(Error::Folder)?;
            State::open(path).map_err(Error::State)
        }
        other => other.map_err(Error::State),
    }
}

/// Renames a damaged database and what SQLite keeps beside it; nothing of it is deleted. The database goes
/// first: without the newest that is beside it, it may open, and be of before.
fn set_aside(path: &Path) -> std::io::Result<()> {
    let named = |ending: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        PathBuf::from(name)
    };
    let free = (1u32..).map(|number| format!(".damaged-{number}"));
    let mut free = free.filter(|ending| !named(ending).exists());
    let Some(ending) = free.next() else { return Ok(()) };
    for beside in ["", "-wal", "-shm"] {
        match std::fs::rename(named(beside), named(&format!("{ending}{beside}"))) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    path.parent().map_or(Ok(()), cloister_daemon::files::sync_folder)
}

/// `held`, with every floor as high as one that was ever kept beside the database, which may be a copy of
/// before the floor was raised: nothing in the log says so.
fn as_high_as_kept(
    state: &mut State,
    folder: &Path,
    held: &TrustState,
) -> Result<TrustState, crate::UpdaterdError> {
    use crate::UpdaterdError as Error;
    let Stored { files, mut vector } = held.stored().clone();
    for kept in anchor::all(folder).map_err(Error::Anchor)? {
        anchor::merge(&mut vector.releases, &kept.stored().vector.releases);
    }
    let trust = TrustState::load(Stored { files, vector }).map_err(Error::Trust)?;
    anchor::keep(folder, &trust).map_err(Error::Anchor)?;
    if trust != *held {
        state.ratchet(&vector_text(&trust)).map_err(Error::State)?;
    }
    Ok(trust)
}

/// Whether an error says that something was asked for that is not allowed.
pub(crate) fn is_refusal(error: &ActError) -> bool {
    use cloister_domain::Class;
    matches!(error.problem().class, Class::Refused | Class::Corrupt)
}

/// The verifier's ratchets as text.
pub(crate) fn vector_text(trust: &TrustState) -> String {
    serde_json::to_string(&trust.stored().vector).expect("numbers and digests")
}

/// The files of a trust state, as the database keeps them.
pub(crate) fn trust_files(trust: &TrustState) -> Vec<TrustFile> {
    let files = trust.stored().files.iter();
    files.map(|(name, bytes)| TrustFile { name: name.clone(), bytes: Arc::clone(bytes) }).collect()
}

fn stored(held: cloister_state::Trust) -> Result<Stored, VerifyError> {
    let vector: Vector =
        serde_json::from_str(&held.vector).map_err(|_quotes| VerifyError::Corrupt)?;
    let files: BTreeMap<String, Arc<[u8]>> =
        held.files.into_iter().map(|file| (file.name, file.bytes)).collect();
    Ok(Stored { files, vector })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_is_set_aside_half_is_not_opened_without_what_was_beside_it() {
        let place = tempfile::tempdir().expect("a folder");
        let named = |name: &str| place.path().join(name);
        for name in ["db", "db-wal"] {
            std::fs::write(named(name), name).expect("written");
        }
        // As if the daemon died here.
        std::fs::create_dir(named("db.damaged-1-wal")).expect("made");
        assert!(set_aside(&named("db")).is_err());
        assert!(!named("db").exists() && named("db.damaged-1").exists());
    }
}
