//! An import: from a medium's volumes into quarantine, by the plans of updaterd.

use std::{collections::BTreeMap, fs::File, ops::ControlFlow, sync::MutexGuard};

use cloister_bundle::{
    Carried, FileEntry, Table, VolumeHead,
    handover::{
        Answer, Blob, Expected, FILL_CHUNKS_MAX, Offer, Plan, PlannedFile, Purpose, Request, Seen,
    },
};
use cloister_config::Config;
use cloister_daemon::{Connection, Stop, clock::Stopwatch, files::set_aside};
use cloister_domain::{ByteCount, Coded as _, Digest, GenerationId, ImportId};
use cloister_quarantine::{Head, Outcome, Parts, Place, QuarantineError, Source, Task};
use cloister_wire::{
    Problem,
    intake::{Event, ForeignName},
};

use crate::{
    IntakeError,
    medium::Medium,
    pace::Pace,
    reader::{Reader, identities},
    survey::Survey,
    trust,
    updaterd::Updaterd,
};

/// Progress is told once in so many microseconds, or for each hundredth.
const PROGRESS_MICROSECONDS: u64 = 1_000_000;

/// What the one import that runs has to itself.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    pub(crate) config: &'a Config,
    pub(crate) stop: &'a Stop,
    pub(crate) client: &'a Connection,
    /// What lies in quarantine of the release that was read last, hashed.
    pub(crate) parts: MutexGuard<'a, Option<Parts>>,
}

/// Offers the head of a volume that was read. It is given away: its metadata may be large.
pub(crate) fn offer(head: Head, medium: &Medium, purpose: Purpose, client: &Connection) -> Request {
    Request::Offer(Offer {
        purpose,
        head: Blob(head.head),
        meta: Blob(head.meta),
        manifest: Blob(head.manifest),
        filesystem: medium.filesystem.to_owned(),
        read_only: medium.read_only,
        operator: client.peer().uid,
    })
}

/// Sets the index aside, which comes next on the medium: a release may have more chunks than memory
/// should hold.
pub(crate) fn read_index(
    source: &mut Source<Reader<'_>>,
    expected: Expected,
    config: &Config,
) -> Result<File, IntakeError> {
    let aside = set_aside(&config.paths.quarantine());
    let mut aside = aside.map_err(QuarantineError::Write)?;
    source.index(expected, &mut aside)?;
    Ok(aside)
}

/// The index, whose bytes are the signed ones, over the plan's files. Paths decide nothing here, so the
/// files get numbers for names.
pub(crate) fn open_index(
    aside: File,
    expected: Expected,
    files: &[PlannedFile],
) -> Result<Table<File>, IntakeError> {
    let files: Vec<FileEntry> = files
        .iter()
        .enumerate()
        .map(|(number, file)| FileEntry {
            path: format!("f{number}").parse().expect("a letter and digits are a path"),
            size: file.bytes.0,
            sha256: file.sha256,
        })
        .collect();
    let ByteCount(bytes) = expected.bytes;
    Ok(Table::open(aside, bytes, &files).map_err(QuarantineError::from)?)
}

impl Turn<'_> {
    /// Brings the medium's volumes into quarantine and waits until updaterd has taken over.
    pub(crate) fn import(
        &mut self,
        medium: &Medium,
        into: Option<ImportId>,
    ) -> Result<Event, IntakeError> {
        let turn = Updaterd::connect(self.config)?;
        let parked = turn.begin()?;
        let identities = identities(self.config)?;
        let survey = Survey::of(medium, &identities);
        let chosen = survey.choose(&parked, into);
        let trust_alone = survey.is_trust_alone() && into.is_none();
        let told = survey.told(parked.clone(), chosen.as_ref().ok().copied());
        if !told.volumes.is_empty() {
            self.tell(&Event::Medium(told))?;
        }
        self.record_what_is_no_volume(&survey)?;
        if let Err(error) = survey.check_crowd() {
            Updaterd::connect(self.config)?.abort(&error, false);
            return Err(error);
        }
        // What was taken back counts before any release beside it is judged.
        let distrusted = trust::take(self.config, &survey, self.client)?;
        if trust_alone {
            return distrusted.map_or(Ok(Event::Inspected), Err);
        }
        let chosen = match chosen {
            Ok(chosen) => chosen,
            // The operator meant another medium; this one was not tried.
            Err(error @ (IntakeError::NotParked { .. } | IntakeError::OtherRelease { .. })) => {
                return Err(error);
            }
            // Each of the files has its record.
            Err(error @ IntakeError::Unreadable(_)) => return Err(error),
            Err(error) => {
                // Refused before updaterd saw anything; it records that something was.
                Updaterd::connect(self.config)?.abort(&error, false);
                return Err(error);
            }
        };
        let mut keep = parked.iter().any(|parked| parked.generation == chosen);
        let (mut more, mut shown) = (IntakeError::NoVolume, false);
        let (mut damaged, mut refused) = (None, BTreeMap::new());
        let several = survey.count(chosen) > 1;
        let mut volumes = of_release(survey, chosen).peekable();
        while let Some((name, source, place)) = volumes.next() {
            let number = place.volume.volume;
            let updaterd = Updaterd::connect(self.config)?;
            let mut by_its_head = false;
            let mut volume = Volume {
                turn: self,
                updaterd: &updaterd,
                tell_seen: !shown,
                refused: &mut refused,
                by_its_head: &mut by_its_head,
            };
            match volume.read(medium, source, place) {
                Ok(Copied::Whole(event)) => return Ok(event),
                Ok(Copied::Parted(missing)) => {
                    more = IntakeError::of(missing);
                    (shown, keep) = (true, true);
                }
                Err(error) => {
                    // What is wrong with one volume says nothing about the others, and one of them may
                    // be a good copy of it.
                    let alone = by_its_head || error.is_of_the_volume();
                    let others = alone && volumes.peek().is_some();
                    updaterd.abort(&error, keep || others);
                    let problem = error.problem();
                    let error = if several { error.in_volume(number) } else { error };
                    if !others {
                        return Err(damaged.unwrap_or(error));
                    }
                    self.tell(&Event::Refused { name, problem })?;
                    damaged = damaged.or(Some(error));
                }
            }
        }
        Err(damaged.unwrap_or(more))
    }

    /// Files that claim to be volumes and are none leave a record, one for all that are refused alike; the
    /// others are still read.
    fn record_what_is_no_volume(&self, survey: &Survey<'_>) -> Result<(), IntakeError> {
        let mut refused: BTreeMap<(&str, bool), (Problem, u64)> = BTreeMap::new();
        for error in survey.found.iter().filter_map(|found| found.opened.as_ref().err()) {
            let alike = refused.entry((error.code(), error.is_resumable()));
            alike.or_insert_with(|| (Problem::of(error), 0)).1 += 1;
        }
        for ((_code, resumable), (mut problem, files)) in refused {
            if files > 1 {
                let more = files - 1;
                problem.message.push_str(&format!("; {more} more on this medium refused alike"));
            }
            Updaterd::connect(self.config)?.refused(problem, resumable);
        }
        Ok(())
    }

    fn tell(&self, event: &Event) -> Result<(), IntakeError> {
        self.client.write(event).map_err(IntakeError::Client)
    }
}

/// The volumes that say they belong to `release`.
fn of_release(
    survey: Survey<'_>,
    release: GenerationId,
) -> impl Iterator<Item = (Option<ForeignName>, Source<Reader<'_>>, Place)> {
    survey.found.into_iter().filter_map(move |found| {
        let (source, place) = found.opened.ok()?;
        (place.volume.bundle == release).then_some((found.name, source, place))
    })
}

/// How the copy of one volume ended well.
enum Copied {
    Whole(Event),
    Parted(cloister_bundle::handover::Missing),
}

/// A volume of which everything before the chunks was read and judged good.
#[derive(Clone, Copy)]
struct Opened<'a> {
    plan: &'a Plan,
    index: &'a Table<File>,
    volume: &'a VolumeHead,
    carried: Option<&'a Carried>,
    attestations: &'a [Vec<u8>],
}

/// One volume on its way into quarantine.
struct Volume<'a, 'b> {
    turn: &'a mut Turn<'b>,
    updaterd: &'a Updaterd,
    /// Whether the client has not yet heard what the release is.
    tell_seen: bool,
    /// What updaterd said of the heads that it refused, by their bytes: volumes of one release have the
    /// same, but for a damaged one, and none is offered twice.
    refused: &'a mut BTreeMap<Digest, Problem>,
    /// Becomes true if it is refused for its head.
    by_its_head: &'a mut bool,
}

impl Volume<'_, '_> {
    fn read(
        &mut self,
        medium: &Medium,
        mut source: Source<Reader<'_>>,
        place: Place,
    ) -> Result<Copied, IntakeError> {
        let head = source.head(place)?;
        // Only where the chunks are is still needed when the head is handed over.
        let place = head.volume.clone();
        let seen = self.offered(head, medium)?;
        if self.tell_seen {
            self.tell(&Event::Seen(seen.summary.clone()))?;
        }
        let attestations: Vec<Vec<u8>> = seen
            .attestations
            .iter()
            .map(|expected| source.attestation(*expected))
            .collect::<Result<_, _>>()?;
        let aside = read_index(&mut source, seen.index, self.turn.config)?;
        let plan = self.updaterd.index(&aside, seen.index.bytes)?;
        if seen.import != Some(plan.import) {
            return Err(IntakeError::OutOfTurn);
        }
        let index = open_index(aside, seen.index, &plan.files)?;
        let carried = source.carried(place.chunks)?;
        tracing::info!(import = plan.import.0, volume = place.volume, "copying");
        let attestations = &attestations;
        let carried = carried.as_ref();
        let found = Opened { plan: &plan, index: &index, volume: &place, carried, attestations };
        self.copy(&mut source, &found)
    }

    /// Has updaterd judge the head.
    fn offered(&mut self, head: Head, medium: &Medium) -> Result<Seen, IntakeError> {
        let digest = head.signed();
        let known = self.refused.get(&digest).cloned();
        let seen = match known {
            Some(problem) => Err(IntakeError::Refused(problem)),
            None => self.updaterd.offer(offer(head, medium, Purpose::Import, self.turn.client)),
        };
        if let Err(IntakeError::Refused(problem)) = &seen {
            *self.by_its_head = true;
            self.refused.insert(digest, problem.clone());
        }
        seen
    }

    fn copy(
        &mut self,
        source: &mut Source<Reader<'_>>,
        found: &Opened<'_>,
    ) -> Result<Copied, IntakeError> {
        let Opened { plan, index, volume, carried, attestations } = *found;
        let quarantine = self.turn.config.paths.quarantine();
        // What was read a moment ago needs no hashing, if nobody has touched it.
        let mut parts = match self.turn.parts.take() {
            Some(parts) if parts.is_of(plan) => parts,
            _ => Parts::open(&quarantine, plan, index)?,
        };
        let import = plan.import;
        let wanted = parts.wanted(index, volume, carried)?;
        let left_out = carried.map_or_else(Vec::new, |bits| parts.left_out(volume, bits));
        if wanted.chunks == 0 && left_out.is_empty() {
            self.tell(&Event::Repeated { import, volume: volume.volume })?;
        }
        let reserve = self.turn.config.update.reserve_bytes;
        let task = Task { plan, index, volume, carried, attestations, reserve };
        self.fill(&mut parts, index, &left_out)?;
        let goal = parts.held_bytes(index)?.saturating_add(wanted.plain_bytes.0);
        let mut telling = Telling::new(import, index, volume.volume, goal);
        let mut failed = None;
        let outcome =
            task.copy(&mut parts, source, |done| match self.progress(&mut telling, done) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            });
        if let Some(error) = failed {
            return Err(error);
        }
        match outcome? {
            Outcome::Parted(parted) => {
                if parted.copied_chunks > 0 {
                    self.updaterd.parted(&parted)?;
                }
                let missing = parted.missing;
                self.tell(&Event::Parted { import, missing: missing.clone() })?;
                *self.turn.parts = Some(parts);
                Ok(Copied::Parted(missing))
            }
            Outcome::Whole(quarantined) => {
                let complete = quarantined.complete().clone();
                let volume = complete.volume;
                match self.updaterd.ask(&Request::Complete(complete))? {
                    Answer::Adopted { generation } if generation == quarantined.generation() => {
                        let import = quarantined.import();
                        tracing::info!(import = import.0, %volume, "received");
                        Ok(Copied::Whole(Event::Received { import, volume }))
                    }
                    _ => Err(IntakeError::OutOfTurn),
                }
            }
        }
    }

    /// Has chunks that a thin volume leaves out written into quarantine from the shelf. What the
    /// shelf does not have stays missing, and is remembered.
    fn fill(
        &self,
        parts: &mut Parts,
        index: &Table<File>,
        left_out: &[u64],
    ) -> Result<(), IntakeError> {
        let mut needs = Vec::new();
        for some in left_out.chunks(FILL_CHUNKS_MAX) {
            if self.turn.stop.is_set() || self.turn.client.is_closed() {
                return Err(QuarantineError::Interrupted.into());
            }
            let filled = self.updaterd.fill(some)?;
            parts.take_filled(index, &filled)?;
            needs.extend(some.iter().filter(|number| !filled.contains(number)));
        }
        Ok(parts.note_needs(index, &needs)?)
    }

    fn tell(&self, event: &Event) -> Result<(), IntakeError> {
        self.turn.tell(event)
    }

    fn progress(&self, telling: &mut Telling, done: ByteCount) -> Result<(), IntakeError> {
        if self.turn.stop.is_set() || self.turn.client.is_closed() {
            return Err(QuarantineError::Interrupted.into());
        }
        if let Some(event) = telling.event(done) {
            self.updaterd.tell(&Request::Progress { done_bytes: done })?;
            self.tell(&event)?;
        }
        Ok(())
    }
}

/// When to tell how far the copy is, and what.
struct Telling {
    import: ImportId,
    total: ByteCount,
    volume: u32,
    /// What will be done when this volume is read.
    goal: u64,
    begun: Stopwatch,
    pace: Pace,
    last: Option<(ByteCount, Stopwatch)>,
}

impl Telling {
    fn new(import: ImportId, index: &Table<File>, volume: u32, goal: u64) -> Self {
        let total = ByteCount(index.plain_bytes());
        let (begun, pace) = (Stopwatch::start(), Pace::default());
        Self { import, total, volume, goal, begun, pace, last: None }
    }

    fn event(&mut self, done: ByteCount) -> Option<Event> {
        let due = self.last.is_none_or(|(before, since)| {
            done == self.total
                || done.0.saturating_sub(before.0) >= self.total.0 / 100
                || since.microseconds() >= PROGRESS_MICROSECONDS
        });
        if !due {
            return None;
        }
        self.last = Some((done, Stopwatch::start()));
        self.pace.note(self.begun.elapsed(), done);
        Some(Event::Progress {
            import: self.import,
            done_bytes: done,
            total_bytes: self.total,
            volume: self.volume,
            bytes_per_s: self.pace.bytes_per_s(),
            left_s: self.pace.left_s(self.goal.saturating_sub(done.0)),
        })
    }
}
