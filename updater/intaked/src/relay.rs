//! The conversation between client, medium and updaterd.

use std::{fs::File, ops::ControlFlow};

use cloister_bundle::{
    BundleError, FileEntry, Index, VolumeHead,
    handover::{Answer, Blob, INDEX_PART_BYTES_MAX, Offer, Plan, Request, Seen},
};
use cloister_config::{Config, Role};
use cloister_daemon::{Connection, FrameError, Stop, clock::Stopwatch};
use cloister_domain::{ByteCount, GenerationId, ImportId};
use cloister_quarantine::{Ending, Head, Outcome, QuarantineError, Source, Task};
use cloister_wire::{Problem, intake::Event};

use crate::{IntakeError, medium::Medium};

/// Progress is told once in so many microseconds, or for each hundredth.
const PROGRESS_MICROSECONDS: u64 = 1_000_000;

/// A volume whose head was read.
struct Volume<'a> {
    source: Source<&'a File>,
    head: Head,
}

impl<'a> Volume<'a> {
    fn read((file, ending): &'a (File, Ending)) -> Result<Self, QuarantineError> {
        let mut source = Source::new(file, *ending);
        let head = source.head()?;
        Ok(Self { source, head })
    }

    fn offer(&self, medium: &Medium, inspect: bool) -> Request {
        Request::Offer(Offer {
            inspect,
            head: Blob(self.head.head.clone()),
            meta: Blob(self.head.meta.clone()),
            manifest: Blob(self.head.manifest.clone()),
            filesystem: medium.filesystem.to_owned(),
            read_only: medium.read_only,
        })
    }
}

/// Shows the client what the medium's release is; nothing is recorded or kept.
pub(crate) fn inspect(
    config: &Config,
    medium: &Medium,
    client: &Connection,
) -> Result<(), IntakeError> {
    let volumes = read_heads(medium)?;
    let volume = volumes.first().ok_or(IntakeError::NoVolume)?;
    let updaterd = Updaterd::connect(config)?;
    let seen = updaterd.offer(&volume.offer(medium, true))?;
    client.write(&Event::Seen(seen.summary)).map_err(IntakeError::Client)
}

/// Brings the medium's volumes into quarantine and waits until updaterd has taken over.
pub(crate) fn import(
    config: &Config,
    stop: &Stop,
    medium: &Medium,
    client: &Connection,
) -> Result<Event, IntakeError> {
    let volumes = match read_heads(medium) {
        Ok(volumes) => volumes,
        Err(error) => {
            // Refused before updaterd saw anything; it records that something was.
            Updaterd::connect(config)?.abort(&error);
            return Err(error);
        }
    };
    let (mut more, mut shown) = (IntakeError::NoVolume, false);
    for volume in volumes {
        let updaterd = Updaterd::connect(config)?;
        let import = Import { config, stop, client, updaterd: &updaterd, tell_seen: !shown };
        let of_release = volume.head.volume.volumes;
        match import.volume(medium, volume) {
            Ok(Copied::Whole(event)) => return Ok(event),
            Ok(Copied::Parted { missing_chunks }) => {
                more = IntakeError::MoreVolumes { volumes: of_release, missing_chunks };
                shown = true;
            }
            Err(error) => {
                updaterd.abort(&error);
                return Err(error);
            }
        }
    }
    Err(more)
}

/// The heads of all volumes, which must be of one release.
fn read_heads(medium: &Medium) -> Result<Vec<Volume<'_>>, IntakeError> {
    let volumes: Vec<Volume<'_>> =
        medium.volumes.iter().map(Volume::read).collect::<Result<_, _>>()?;
    let mut releases: Vec<GenerationId> =
        volumes.iter().map(|volume| volume.head.volume.bundle).collect();
    releases.sort_unstable();
    releases.dedup();
    match releases.len() {
        0 => Err(IntakeError::NoVolume),
        1 => Ok(volumes),
        releases => Err(IntakeError::Several { releases }),
    }
}

/// One connection to updaterd: one volume.
struct Updaterd(Connection);

impl Updaterd {
    fn connect(config: &Config) -> Result<Self, IntakeError> {
        let socket = config.paths.socket(Role::Updaterd);
        Connection::connect(&socket).map(Self).map_err(IntakeError::Updaterd)
    }

    fn tell(&self, request: &Request) -> Result<(), IntakeError> {
        match self.0.write(request) {
            Ok(()) => Ok(()),
            // updaterd may have said why before it hung up.
            Err(error @ FrameError::Broken(_)) => match self.0.read::<Answer>() {
                Ok(Some(Answer::Problem(problem))) => Err(IntakeError::Refused(problem)),
                _ => Err(IntakeError::Updaterd(error)),
            },
            Err(error) => Err(IntakeError::Updaterd(error)),
        }
    }

    fn ask(&self, request: &Request) -> Result<Answer, IntakeError> {
        self.tell(request)?;
        match self.0.expect().map_err(IntakeError::Updaterd)? {
            Answer::Problem(problem) => Err(IntakeError::Refused(problem)),
            answer => Ok(answer),
        }
    }

    fn offer(&self, offer: &Request) -> Result<Seen, IntakeError> {
        match self.ask(offer)? {
            Answer::Seen(seen) => Ok(seen),
            _ => Err(IntakeError::OutOfTurn),
        }
    }

    /// Hands the index over in parts; the plan comes after the last.
    fn index(&self, bytes: &[u8]) -> Result<Plan, IntakeError> {
        let mut parts = bytes.chunks(INDEX_PART_BYTES_MAX);
        loop {
            let part = Blob(parts.next().ok_or(IntakeError::OutOfTurn)?.to_vec());
            match self.ask(&Request::Index { part })? {
                Answer::More => {}
                Answer::Plan(plan) if parts.len() == 0 => return Ok(plan),
                _ => return Err(IntakeError::OutOfTurn),
            }
        }
    }

    /// Has `error` recorded, unless updaterd named it itself or cannot be reached.
    fn abort(&self, error: &IntakeError) {
        let (problem, resumable) = match error {
            IntakeError::Copy(error) => (Problem::of(error), error.is_resumable()),
            IntakeError::Client(_) => (Problem::of(&QuarantineError::Interrupted), true),
            IntakeError::Refused(_) | IntakeError::Updaterd(_) | IntakeError::OutOfTurn => return,
            other => (Problem::of(other), false),
        };
        match self.ask(&Request::Abort { problem, resumable }) {
            Ok(Answer::Aborted) => {}
            Ok(_) | Err(_) => tracing::warn!("updaterd did not confirm that an import was aborted"),
        }
    }
}

/// How the copy of one volume ended well.
enum Copied {
    Whole(Event),
    Parted { missing_chunks: u64 },
}

/// One volume on its way into quarantine.
struct Import<'a> {
    config: &'a Config,
    stop: &'a Stop,
    client: &'a Connection,
    updaterd: &'a Updaterd,
    /// Whether the client has not yet heard what the release is.
    tell_seen: bool,
}

impl Import<'_> {
    fn volume(&self, medium: &Medium, volume: Volume<'_>) -> Result<Copied, IntakeError> {
        let seen = self.updaterd.offer(&volume.offer(medium, false))?;
        if self.tell_seen {
            let summary = Event::Seen(seen.summary.clone());
            self.client.write(&summary).map_err(IntakeError::Client)?;
        }
        let Volume { mut source, head } = volume;
        // The head was handed over; only where the chunks are is still needed.
        let Head { volume: place, .. } = head;
        let attestations: Vec<Vec<u8>> = seen
            .attestations
            .iter()
            .map(|expected| source.attestation(*expected))
            .collect::<Result<_, _>>()?;
        let index = source.index(seen.index)?;
        let plan = self.updaterd.index(&index)?;
        if seen.import != Some(plan.import) {
            return Err(IntakeError::OutOfTurn);
        }
        let index = read_index(&index, &plan)?;
        tracing::info!(import = plan.import.0, volume = place.volume, "copying");
        self.copy(&mut source, &plan, &index, &place, &attestations)
    }

    fn copy(
        &self,
        source: &mut Source<&File>,
        plan: &Plan,
        index: &Index,
        volume: &VolumeHead,
        attestations: &[Vec<u8>],
    ) -> Result<Copied, IntakeError> {
        let quarantine = self.config.paths.quarantine();
        let reserve = self.config.update.reserve_bytes;
        let task = Task { quarantine: &quarantine, plan, index, volume, attestations, reserve };
        let mut telling = Telling::new(plan.import, ByteCount(index.plain_bytes()));
        let mut failed = None;
        let outcome = task.copy(source, |done| match self.progress(&mut telling, done) {
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
            Outcome::Parted { missing_chunks } => Ok(Copied::Parted { missing_chunks }),
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

    fn progress(&self, telling: &mut Telling, done: ByteCount) -> Result<(), IntakeError> {
        if self.stop.is_set() || self.client.is_closed() {
            return Err(QuarantineError::Interrupted.into());
        }
        if telling.is_due(done) {
            self.updaterd.tell(&Request::Progress { done_bytes: done })?;
            let event = Event::Progress {
                import: telling.import,
                done_bytes: done,
                total_bytes: telling.total,
            };
            self.client.write(&event).map_err(IntakeError::Client)?;
        }
        Ok(())
    }
}

/// When to tell how far the copy is.
struct Telling {
    import: ImportId,
    total: ByteCount,
    last: Option<(ByteCount, Stopwatch)>,
}

impl Telling {
    const fn new(import: ImportId, total: ByteCount) -> Self {
        Self { import, total, last: None }
    }

    fn is_due(&mut self, done: ByteCount) -> bool {
        let due = self.last.is_none_or(|(before, since)| {
            done == self.total
                || done.0.saturating_sub(before.0) >= self.total.0 / 100
                || since.microseconds() >= PROGRESS_MICROSECONDS
        });
        if due {
            self.last = Some((done, Stopwatch::start()));
        }
        due
    }
}

/// The index, which updaterd has verified, over the plan's files. Paths decide nothing here, so the
/// files get numbers for names.
fn read_index(bytes: &[u8], plan: &Plan) -> Result<Index, IntakeError> {
    let files: Vec<FileEntry> = plan
        .files
        .iter()
        .enumerate()
        .map(|(number, file)| FileEntry {
            path: format!("f{number}").parse().expect("a letter and digits are a path"),
            size: file.bytes.0,
            sha256: file.sha256,
        })
        .collect();
    Index::parse(bytes, &files).map_err(|error: BundleError| QuarantineError::from(error).into())
}
