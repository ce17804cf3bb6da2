//! What a thin volume leaves out, found on the shelf.
//!
//! The index that is kept beside a generation says where in which object a content id lies; nothing is
//! believed of it but the place: bytes are hashed again wherever they go.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{File, OpenOptions},
    io,
    ops::Range,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use cloister_bundle::{
    Chunk, Table,
    handover::{FILL_CHUNKS_MAX, Plan},
};
use cloister_domain::{ByteCount, Digest};
use cloister_shelf::Object;
use nix::fcntl::OFlag;

use crate::{arriving::of_table, core::Core, error::ActError, inventory::indexed};

/// Chunks of a release that are looked for at a time: what is known of them takes 3 MiB, and a release
/// has many times as many at most. Every index on the shelf is read anew for each so many.
const WINDOW_CHUNKS: u64 = 1 << 14;

/// Where on the shelf bytes lie.
#[derive(Clone, Copy, Debug)]
struct Place {
    object: Digest,
    object_bytes: ByteCount,
    offset: u64,
    bytes: u64,
}

/// Where the chunks of a release lie on the shelf already.
#[derive(Debug)]
pub(crate) struct Found {
    index: Table<File>,
    /// The chunks that were looked for last, by number.
    window: Range<u64>,
    /// Those of them that are there, by content.
    places: BTreeMap<Digest, Place>,
}

impl Found {
    /// Those of `index`; each is looked for when it is asked for.
    pub(crate) const fn of(index: Table<File>) -> Self {
        Self { index, window: 0..0, places: BTreeMap::new() }
    }

    /// Looks for chunk `number` and those behind it.
    fn look_for(&mut self, core: &Core, number: u64) -> Result<(), ActError> {
        let window = number..number.saturating_add(WINDOW_CHUNKS);
        let content = |chunk: Result<Chunk, _>| chunk.map(|chunk| chunk.content);
        let wanted = self.index.chunks_in(window.clone()).map(content);
        let wanted: BTreeSet<Digest> = wanted.collect::<Result<_, _>>().map_err(of_table)?;
        let mut places = BTreeMap::new();
        for shelved in core.shelf.list()? {
            let Some((manifest, theirs)) = indexed(core, &shelved)? else { continue };
            for chunk in theirs.chunks() {
                let chunk = chunk.map_err(of_table)?;
                if !wanted.contains(&chunk.content) {
                    continue;
                }
                let file = usize::try_from(chunk.file).ok();
                let file = file.and_then(|file| manifest.release().files.get(file));
                let Some(file) = file else { continue };
                places.insert(
                    chunk.content,
                    Place {
                        object: file.sha256,
                        object_bytes: ByteCount(file.size),
                        offset: chunk.offset,
                        bytes: chunk.plain_bytes,
                    },
                );
            }
        }
        (self.window, self.places) = (window, places);
        Ok(())
    }

    /// Those of `chunks` that lie on the shelf, as far as their objects' sizes tell; nothing is hashed.
    pub(crate) fn there(&mut self, core: &Core, chunks: &[u64]) -> Result<Vec<u64>, ActError> {
        let mut there = Vec::new();
        for (number, chunk) in self.named(chunks)? {
            if self.place(core, number, &chunk)?.is_some() {
                there.push(number);
            }
        }
        Ok(there)
    }

    /// The chunks of these numbers.
    fn named(&self, chunks: &[u64]) -> Result<Vec<(u64, Chunk)>, ActError> {
        if chunks.len() > FILL_CHUNKS_MAX {
            return Err(ActError::Order);
        }
        let named = |number: &u64| {
            let chunk = self.index.chunk(*number).map_err(of_table)?;
            chunk.map(|chunk| (*number, chunk)).ok_or(ActError::Order)
        };
        chunks.iter().map(named).collect()
    }

    /// Where a chunk lies, and in which object.
    fn place(
        &mut self,
        core: &Core,
        number: u64,
        chunk: &Chunk,
    ) -> Result<Option<(Place, Object)>, ActError> {
        if !self.window.contains(&number) {
            self.look_for(core, number)?;
        }
        let Some(place) = self.places.get(&chunk.content) else { return Ok(None) };
        let object = core.shelf.object(place.object, place.object_bytes)?;
        let object = object.filter(|_object| place.bytes == chunk.plain_bytes);
        Ok(object.map(|object| (*place, object)))
    }
}

/// Finds on the shelf what a thin volume leaves out, for one session.
#[derive(Debug)]
pub(crate) struct Filler {
    found: Found,
    quarantine: PathBuf,
}

impl Filler {
    /// For the release of `index`, whose import lies in `quarantine`.
    pub(crate) fn new(index: Table<File>, quarantine: &Path) -> Self {
        Self { found: Found::of(index), quarantine: quarantine.to_owned() }
    }

    /// Writes those of `chunks` that the shelf has to their places in quarantine; says which.
    pub(crate) fn fill(&mut self, core: &Core, chunks: &[u64]) -> Result<Vec<u64>, ActError> {
        let mut buffer = Vec::new();
        let mut filled = Vec::new();
        for (number, chunk) in self.found.named(chunks)? {
            if self.read(core, number, &chunk, &mut buffer)? {
                self.write(&chunk, &buffer)
                    .map_err(|source| ActError::Quarantine { act: "filled", source })?;
                filled.push(number);
            }
        }
        Ok(filled)
    }

    /// Reads a chunk off the shelf and hashes it; false where it is not there as it should be.
    fn read(
        &mut self,
        core: &Core,
        number: u64,
        chunk: &Chunk,
        buffer: &mut Vec<u8>,
    ) -> Result<bool, ActError> {
        let Some((place, object)) = self.found.place(core, number, chunk)? else {
            return Ok(false);
        };
        let Ok(bytes) = usize::try_from(place.bytes) else { return Ok(false) };
        buffer.resize(bytes, 0);
        let file = core.shelf.open_object(&object)?;
        let read = file.read_exact_at(buffer, place.offset);
        Ok(read.is_ok() && Digest::of(buffer) == chunk.content)
    }

    /// Into a file that intaked made: it stays intaked's, so that the shelf will copy it and not take
    /// a file over that another may hold open.
    fn write(&self, chunk: &Chunk, plain: &[u8]) -> io::Result<()> {
        let number = usize::try_from(chunk.file).map_err(io::Error::other)?;
        let part: File = OpenOptions::new()
            .write(true)
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits())
            .open(self.quarantine.join(Plan::part_name(number)))?;
        part.write_all_at(plain, chunk.offset)?;
        // What is in memory only would be taken for whole.
        part.sync_data().inspect_err(|_lost| part.set_len(0).unwrap_or_default())
    }
}
