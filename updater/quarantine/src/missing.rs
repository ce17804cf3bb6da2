//! What of a release is not there yet, and on which volumes it must be.
//!
//! Volumes are known by their heads, which nobody signed: numbers for people. What decides whether a
//! release is whole is the index alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::Path,
};

use cloister_bundle::{
    Table, TableError, VolumeHead,
    handover::Missing,
    limits::{HEAD_BYTES_MAX, INDEX_BYTES_MAX, VOLUMES_MAX},
    receipt::ContentIds,
};
use cloister_domain::{ByteCount, Digest};

/// The file of an import's folder that remembers the heads of its volumes, one a line.
const FILE: &str = "volumes";
const ASIDE: &str = "volumes.next";

/// The volumes of one import that were read at least in part.
#[derive(Debug, Default)]
pub(crate) struct Volumes(BTreeMap<(u32, u32), VolumeHead>);

impl Volumes {
    /// Those that `folder` remembers. A damaged line is a volume that was not seen.
    pub(crate) fn load(folder: &Path) -> Self {
        let bytes_max = u64::from(VOLUMES_MAX).saturating_mul(HEAD_BYTES_MAX);
        let mut text = Vec::new();
        let read = File::open(folder.join(FILE))
            .and_then(|file| file.take(bytes_max).read_to_end(&mut text));
        let mut volumes = Self::default();
        if read.is_ok() {
            let lines = text.split(|byte| *byte == b'\n');
            lines.flat_map(VolumeHead::parse).for_each(|head| volumes.suppose(&head));
        }
        volumes
    }

    /// Counts one more volume as seen, not on the disk.
    pub(crate) fn suppose(&mut self, head: &VolumeHead) {
        self.0.insert((head.volumes, head.volume), head.clone());
    }

    /// Remembers one more volume, on the disk too.
    pub(crate) fn remember(&mut self, folder: &Path, head: &VolumeHead) -> io::Result<()> {
        if self.0.get(&(head.volumes, head.volume)) == Some(head) {
            return Ok(());
        }
        self.suppose(head);
        let aside = folder.join(ASIDE);
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).open(&aside)?;
        for head in self.0.values() {
            file.write_all(&head.encode())?;
            file.write_all(b"\n")?;
        }
        file.sync_all()?;
        fs::rename(aside, folder.join(FILE))
    }

    /// What `held` lacks, and which volumes of a set of `of` must bring it.
    ///
    /// A volume that was seen is missing while one of its chunks is; one that was never seen, while
    /// chunks are missing that no seen one has.
    pub(crate) fn missing(
        &self,
        index: &Table<File>,
        held: &[bool],
        of: u32,
        left: &Needs,
    ) -> Result<Missing, TableError> {
        let (mut chunks, mut bytes, mut needs) = (0u64, 0u64, 0u64);
        // What no volume brings counts for none.
        let mut awaited = vec![false; held.len()];
        for ((chunk, _), awaited) in
            index.chunks().zip(held).zip(&mut awaited).filter(|((_, held), _)| !**held)
        {
            let chunk = chunk?;
            *awaited = !left.0.contains(&chunk.content);
            needs = needs.saturating_add(u64::from(!*awaited));
            chunks = chunks.saturating_add(1);
            // Below the sum of all, which the index has checked.
            bytes = bytes.saturating_add(chunk.stored_bytes);
        }
        let mut elsewhere = chunks.saturating_sub(needs);
        let mut lacking = BTreeMap::new();
        for ((_, number), head) in self.0.range((of, 0)..=(of, u32::MAX)) {
            let first = usize::try_from(head.first_chunk).unwrap_or(usize::MAX);
            let count = usize::try_from(head.chunks).unwrap_or(usize::MAX);
            let lacks = awaited.iter().skip(first).take(count).filter(|awaited| **awaited).count();
            let lacks = u64::try_from(lacks).expect("a count fits 64 bits");
            elsewhere = elsewhere.saturating_sub(lacks);
            lacking.insert(*number, lacks);
        }
        let is_missing = |number: &u32| match lacking.get(number) {
            Some(lacks) => *lacks > 0,
            None => elsewhere > 0,
        };
        let volumes = (1..=of).filter(is_missing).collect();
        Ok(Missing { volumes, of, chunks, stored_bytes: ByteCount(bytes), needs })
    }
}

/// The file of an import's folder with the chunks that thin volumes left out and nobody has.
const NEEDS: &str = "needs";
const NEEDS_ASIDE: &str = "needs.next";

/// Chunks, by content, that thin volumes left out and that the shelf did not have.
#[derive(Debug, Default)]
pub(crate) struct Needs(BTreeSet<Digest>);

impl Needs {
    pub(crate) fn load(folder: &Path) -> Self {
        let mut bytes = Vec::new();
        let read = File::open(folder.join(NEEDS))
            .and_then(|file| file.take(INDEX_BYTES_MAX).read_to_end(&mut bytes));
        let ids = read.ok().and_then(|_count| ContentIds::parse(&bytes).ok()).unwrap_or_default();
        Self(ids.as_slice().iter().copied().collect())
    }

    /// Counts more of them, not on the disk.
    pub(crate) fn suppose(&mut self, more: Vec<Digest>) {
        self.0.extend(more);
    }

    /// Remembers more of them, on the disk too.
    pub(crate) fn note(&mut self, folder: &Path, more: Vec<Digest>) -> io::Result<()> {
        let before = self.0.len();
        self.0.extend(more);
        if self.0.len() == before {
            return Ok(());
        }
        let aside = folder.join(NEEDS_ASIDE);
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).open(&aside)?;
        file.write_all(&ContentIds::new(self.0.iter().copied().collect()).encode())?;
        file.sync_all()?;
        fs::rename(aside, folder.join(NEEDS))
    }
}

/// The chunks, by content, that the import in `folder` of `quarantine` lacks because thin volumes
/// left them out. Some of them may have come since by other volumes.
#[must_use]
pub fn needs(quarantine: &Path, folder: &str) -> Vec<Digest> {
    Needs::load(&quarantine.join(folder)).0.into_iter().collect()
}
