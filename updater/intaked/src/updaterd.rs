//! What intaked says to updaterd.

use std::{fs::File, os::unix::fs::FileExt as _};

use cloister_bundle::handover::{Answer, Blob, INDEX_PART_BYTES_MAX, Plan, Request, Seen};
use cloister_config::{Config, Role};
use cloister_daemon::{Connection, FrameError};
use cloister_domain::ByteCount;
use cloister_quarantine::{Parted, QuarantineError};
use cloister_wire::{
    Problem,
    intake::{Parked, Trusted},
};

use crate::IntakeError;

/// The first `bytes` bytes of a file, in parts of an index.
fn parts(aside: &File, bytes: ByteCount) -> impl Iterator<Item = Result<Blob, QuarantineError>> {
    let starts = (0..bytes.0).step_by(INDEX_PART_BYTES_MAX);
    starts.map(move |at| {
        let count = bytes.0.saturating_sub(at).min(INDEX_PART_BYTES_MAX as u64);
        let mut part = vec![0; usize::try_from(count).unwrap_or(INDEX_PART_BYTES_MAX)];
        aside.read_exact_at(&mut part, at).map_err(QuarantineError::Aside)?;
        Ok(Blob(part))
    })
}

/// One connection to updaterd: one volume.
pub(crate) struct Updaterd(Connection);

impl Updaterd {
    pub(crate) fn connect(config: &Config) -> Result<Self, IntakeError> {
        let socket = config.paths.socket(Role::Updaterd);
        Connection::connect(&socket).map(Self).map_err(IntakeError::Updaterd)
    }

    pub(crate) fn tell(&self, request: &Request) -> Result<(), IntakeError> {
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

    pub(crate) fn ask(&self, request: &Request) -> Result<Answer, IntakeError> {
        self.tell(request)?;
        self.answer()
    }

    fn answer(&self) -> Result<Answer, IntakeError> {
        match self.0.expect().map_err(IntakeError::Updaterd)? {
            Answer::Problem(problem) => Err(IntakeError::Refused(problem)),
            answer => Ok(answer),
        }
    }

    /// Has trust metadata judged and, with `keep`, kept.
    pub(crate) fn trust(&self, meta: Vec<u8>, keep: bool) -> Result<Trusted, IntakeError> {
        match self.ask(&Request::Trust { meta: Blob(meta), keep })? {
            Answer::Trusted(trusted) => Ok(trusted),
            _ => Err(IntakeError::OutOfTurn),
        }
    }

    pub(crate) fn offer(&self, offer: Request) -> Result<Seen, IntakeError> {
        self.tell(&offer)?;
        // Whoever judges it may need the memory.
        drop(offer);
        match self.answer()? {
            Answer::Seen(seen) => Ok(*seen),
            _ => Err(IntakeError::OutOfTurn),
        }
    }

    /// Hands the index over in parts; the plan comes after the last.
    pub(crate) fn index(&self, aside: &File, bytes: ByteCount) -> Result<Plan, IntakeError> {
        let mut parts = parts(aside, bytes);
        while let Some(part) = parts.next() {
            match self.ask(&Request::Index { part: part? })? {
                Answer::More => {}
                Answer::Plan(plan) if parts.next().is_none() => return Ok(plan),
                _ => break,
            }
        }
        Err(IntakeError::OutOfTurn)
    }

    /// Hands the index of a volume over that is only looked at.
    pub(crate) fn show_index(&self, aside: &File, bytes: ByteCount) -> Result<(), IntakeError> {
        for part in parts(aside, bytes) {
            match self.ask(&Request::Index { part: part? })? {
                Answer::More => {}
                _ => return Err(IntakeError::OutOfTurn),
            }
        }
        Ok(())
    }

    /// The imports that wait for volumes.
    pub(crate) fn parked(&self) -> Result<Vec<Parked>, IntakeError> {
        self.waiting(&Request::Parked)
    }

    /// Begins the import of a medium, which lasts as long as this conversation; the imports that wait for
    /// volumes.
    pub(crate) fn begin(&self) -> Result<Vec<Parked>, IntakeError> {
        self.waiting(&Request::Begin)
    }

    fn waiting(&self, request: &Request) -> Result<Vec<Parked>, IntakeError> {
        match self.ask(request)? {
            Answer::Parked(parked) => Ok(parked),
            _ => Err(IntakeError::OutOfTurn),
        }
    }

    /// Has chunks written into quarantine from the shelf; says which were. After
    /// [`Updaterd::show_index`] nothing is written, and it says which the shelf has.
    pub(crate) fn fill(&self, chunks: &[u64]) -> Result<Vec<u64>, IntakeError> {
        match self.ask(&Request::Fill { chunks: chunks.to_vec() })? {
            Answer::Filled { chunks } => Ok(chunks),
            _ => Err(IntakeError::OutOfTurn),
        }
    }

    /// Has it recorded that a volume is copied and others hold the rest.
    pub(crate) fn parted(&self, parted: &Parted) -> Result<(), IntakeError> {
        let Parted { volume, read_bytes, missing, .. } = parted.clone();
        let problem = Problem::of(&IntakeError::of(missing.clone()));
        match self.ask(&Request::Parted { volume, read_bytes, missing, problem })? {
            Answer::Kept => Ok(()),
            _ => Err(IntakeError::OutOfTurn),
        }
    }

    /// Has `error` recorded, unless it is already, updaterd named it itself, or it cannot be reached. With `keep`, what
    /// other volumes brought stays, however wrong this one is.
    pub(crate) fn abort(&self, error: &IntakeError, keep: bool) {
        let (problem, resumable) = match error {
            IntakeError::Copy(error) => (Problem::of(error), keep || error.is_resumable()),
            IntakeError::Client(_) => (Problem::of(&QuarantineError::Interrupted), true),
            IntakeError::Refused(_)
            | IntakeError::Unreadable(_)
            | IntakeError::Updaterd(_)
            | IntakeError::OutOfTurn => return,
            other => (Problem::of(other), false),
        };
        self.refused(problem, resumable);
    }

    /// Has it recorded that a volume was refused, or could not be read.
    pub(crate) fn refused(&self, problem: Problem, resumable: bool) {
        match self.ask(&Request::Abort { problem, resumable }) {
            Ok(Answer::Aborted) => {}
            Ok(_) | Err(_) => tracing::warn!("updaterd did not confirm that an import was aborted"),
        }
    }
}
