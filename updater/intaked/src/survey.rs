//! What lies on a medium and which of its volumes are read: decided by their first members alone,
//! which nobody signed, and told to the person who put the medium in.

use cloister_domain::{ByteCount, GenerationId, ImportId};
use cloister_quarantine::{Opening, Place, Source};
use cloister_sealed::Identity;
use cloister_wire::{
    Problem,
    intake::{Fate, ForeignName, Medium as Told, Parked, Piece, Place as Claimed},
};

use crate::{
    IntakeError,
    medium::{Medium, Unopened, Volume},
    reader::Reader,
};

/// Volumes of trust metadata that one medium may bring: one says everything, and each takes time to judge.
pub(crate) const TRUST_VOLUMES_MAX: usize = 16;

/// A volume whose first member was read.
#[derive(Debug)]
pub(crate) struct Found<'a> {
    pub(crate) name: Option<ForeignName>,
    bytes: Option<ByteCount>,
    pub(crate) opened: Result<(Source<Reader<'a>>, Place), IntakeError>,
}

/// A volume that brings trust metadata and no part of a release.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Alone<'a>(&'a Volume);

impl Alone<'_> {
    /// Its file.
    pub(crate) fn name(self) -> Option<ForeignName> {
        self.0.name.clone()
    }

    /// Reads it: it may have 4 MiB, and one at a time is in memory.
    pub(crate) fn meta(self, identities: &[Identity]) -> Result<Vec<u8>, IntakeError> {
        match begun(self.0, identities)? {
            (_read_to_its_end, Opening::Trust(meta)) => Ok(meta),
            (_source, Opening::Place(_)) => Err(IntakeError::Changed),
        }
    }
}

impl Found<'_> {
    /// The release that it says it belongs to.
    pub(crate) fn claims(&self) -> Option<GenerationId> {
        self.opened.as_ref().ok().map(|(_, place)| place.volume.bundle)
    }
}

/// Reads a volume's first member.
fn begun<'a>(
    volume: &'a Volume,
    identities: &[Identity],
) -> Result<(Source<Reader<'a>>, Opening), IntakeError> {
    let file = volume.file.as_ref().map_err(|Unopened| IntakeError::Entry)?;
    let mut source = Source::new(Reader::open(file, volume.ending, identities)?, volume.ending);
    let opening = source.opening()?;
    Ok((source, opening))
}

/// The first members of all volumes of a medium.
#[derive(Debug)]
pub(crate) struct Survey<'a> {
    medium: &'a Medium,
    pub(crate) found: Vec<Found<'a>>,
    pub(crate) alone: Vec<Alone<'a>>,
    pub(crate) identities: &'a [Identity],
}

impl<'a> Survey<'a> {
    pub(crate) fn of(medium: &'a Medium, identities: &'a [Identity]) -> Self {
        let mut survey = Self { medium, found: Vec::new(), alone: Vec::new(), identities };
        for volume in &medium.volumes {
            let (name, bytes) = (volume.name.clone(), volume.bytes);
            let opened = match begun(volume, identities) {
                Ok((_read_to_its_end, Opening::Trust(_meta))) => {
                    survey.alone.push(Alone(volume));
                    continue;
                }
                Ok((source, Opening::Place(place))) => Ok((source, place)),
                Err(error) => Err(error),
            };
            survey.found.push(Found { name, bytes, opened });
        }
        survey
    }

    /// Whether nothing but trust metadata lies here.
    pub(crate) const fn is_trust_alone(&self) -> bool {
        self.found.is_empty() && !self.alone.is_empty()
    }

    /// Refuses a medium with more trust metadata than is read: what it takes back may be in any of it.
    pub(crate) const fn check_crowd(&self) -> Result<(), IntakeError> {
        match self.alone.len() {
            ..=TRUST_VOLUMES_MAX => Ok(()),
            _ => Err(IntakeError::ManyTrust { max: TRUST_VOLUMES_MAX }),
        }
    }

    /// Whether one volume, and nothing beside it, claims to be one.
    pub(crate) const fn is_single(&self) -> bool {
        self.found.len().saturating_add(self.alone.len()) == 1
    }

    /// The volumes, to be read on.
    pub(crate) fn take_found(&mut self) -> Vec<Found<'a>> {
        std::mem::take(&mut self.found)
    }

    /// How many volumes say that they belong to `release`.
    pub(crate) fn count(&self, release: GenerationId) -> usize {
        self.found.iter().filter(|found| found.claims() == Some(release)).count()
    }

    /// The releases that volumes say they belong to, each once.
    pub(crate) fn releases(&self) -> Vec<GenerationId> {
        let mut releases: Vec<GenerationId> = self.found.iter().filter_map(Found::claims).collect();
        releases.sort_unstable();
        releases.dedup();
        releases
    }

    /// The one release to read: that of the import `into`; else the only one here; else the only
    /// one here that an import waits for.
    ///
    /// # Errors
    /// [`IntakeError::NotParked`], [`IntakeError::OtherRelease`], [`IntakeError::Several`], and for
    /// a medium without any volume of a release the first problem of those that are none.
    pub(crate) fn choose(
        &self,
        parked: &[Parked],
        into: Option<ImportId>,
    ) -> Result<GenerationId, IntakeError> {
        let releases = self.releases();
        if releases.is_empty() {
            let first = self.found.iter().find_map(|found| found.opened.as_ref().err());
            return Err(first
                .map_or(IntakeError::NoVolume, |error| IntakeError::Unreadable(error.problem())));
        }
        if let Some(import) = into {
            let waiting = parked.iter().find(|parked| parked.import == import);
            let generation = waiting.ok_or(IntakeError::NotParked { import })?.generation;
            return match releases.contains(&generation) {
                true => Ok(generation),
                false => Err(IntakeError::OtherRelease { import }),
            };
        }
        if let [only] = releases.as_slice() {
            return Ok(*only);
        }
        let waits = |release: &&GenerationId| parked.iter().any(|p| p.generation == **release);
        let mut waited_for = releases.iter().filter(waits);
        match (waited_for.next(), waited_for.next()) {
            (Some(only), None) => Ok(*only),
            _ => Err(IntakeError::Several { releases: releases.len() }),
        }
    }

    /// What the person is told; `chosen` is the release that is read, if one is.
    pub(crate) fn told(&self, parked: Vec<Parked>, chosen: Option<GenerationId>) -> Told {
        let fate = |found: &Found<'_>| match &found.opened {
            Err(error) => Fate::Refused(Problem::of(error)),
            Ok((_, place)) => {
                let head = &place.volume;
                let claimed = Claimed {
                    generation: head.bundle,
                    volume: head.volume,
                    volumes: head.volumes,
                    chunks: head.chunks,
                };
                if chosen.is_none_or(|chosen| chosen == head.bundle) {
                    Fate::Read(claimed)
                } else {
                    Fate::OtherRelease(claimed)
                }
            }
        };
        let piece = |found: &Found<'_>| Piece {
            name: found.name.clone(),
            bytes: found.bytes,
            fate: fate(found),
        };
        let alone = |alone: &Alone<'_>| Piece {
            name: alone.name(),
            bytes: alone.0.bytes,
            fate: Fate::Trust,
        };
        Told {
            filesystem: self.medium.filesystem.to_owned(),
            read_only: self.medium.read_only,
            volumes: self.alone.iter().map(alone).chain(self.found.iter().map(piece)).collect(),
            ignored: self.medium.ignored.clone(),
            ignored_count: self.medium.ignored_count,
            parked,
        }
    }
}
