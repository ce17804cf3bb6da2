//! Vectors on disk and in memory: for each embedding model one file of rows of `width`
//! little-endian `f32`, each at its slot. A slot is never used for another passage.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use cloister_domain::Digest;

use crate::{
    Space,
    bitmap::Bitmap,
    wiping::{wipe, wipe_and_unlink},
    words::RANKED_MAX,
};

/// How far from 1 the length of a vector may be; f32 sums of a thousand squares stay well inside.
const LENGTH_TOLERANCE: f32 = 1e-3;

/// The vectors of one model: the file and the copy that is scanned.
#[derive(Debug)]
pub(crate) struct Table {
    width: usize,
    file: File,
    /// `[slots, width]`; the rows of removed passages are zero.
    rows: Vec<f32>,
    slot_of: BTreeMap<u64, u64>,
}

/// Where the file of a model lies.
pub(crate) fn path_of(folder: &Path, model: Digest) -> PathBuf {
    folder.join(format!("{model}.f32"))
}

impl Table {
    /// Opens the file of `space`, which has `slots` committed rows; what lies beyond is wiped. None
    /// if the file has fewer rows: its vectors are to be computed again.
    pub(crate) fn open(
        folder: &Path,
        space: Space,
        slots: u64,
        slot_of: BTreeMap<u64, u64>,
    ) -> io::Result<Option<Self>> {
        let width = usize::try_from(space.width).expect("u32 fits");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path_of(folder, space.model))?;
        let committed = slots * row_bytes(width);
        if file.metadata()?.len() < committed {
            return Ok(None);
        }
        cut(&mut file, committed)?;
        file.seek(SeekFrom::Start(0))?;
        let mut bytes = Vec::new();
        (&file).take(committed).read_to_end(&mut bytes)?;
        let (words, _rest) = bytes.as_chunks::<4>();
        let rows = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
        Ok(Some(Self { width, file, rows, slot_of }))
    }

    /// Rows that are committed.
    pub(crate) fn slots(&self) -> u64 {
        (self.rows.len() / self.width) as u64
    }

    pub(crate) fn len(&self) -> usize {
        self.slot_of.len()
    }

    pub(crate) fn has(&self, chunk: u64) -> bool {
        self.slot_of.contains_key(&chunk)
    }

    /// Writes rows beyond the committed ones and makes them last. They count once
    /// [`Table::committed`] is called, after the database has their slots.
    pub(crate) fn append(&mut self, vectors: &[&[f32]]) -> io::Result<()> {
        let end = self.slots() * row_bytes(self.width);
        cut(&mut self.file, end)?;
        let mut bytes = Vec::with_capacity(vectors.len() * self.width * 4);
        for component in vectors.iter().copied().flatten() {
            bytes.extend(component.to_le_bytes());
        }
        self.file.seek(SeekFrom::Start(end))?;
        self.file.write_all(&bytes)?;
        self.file.sync_data()
    }

    /// Takes appended rows into the scanned copy.
    pub(crate) fn committed(&mut self, vectors: &[(u64, &[f32])]) {
        for (chunk, vector) in vectors {
            let slot = self.slots();
            self.rows.extend_from_slice(vector);
            self.slot_of.insert(*chunk, slot);
        }
    }

    /// Overwrites the rows of `chunks` with zeros, on disk first, and makes that last.
    pub(crate) fn erase(&mut self, chunks: &[u64]) -> io::Result<()> {
        let zeros = vec![0; self.width * 4];
        let mut erased = false;
        for chunk in chunks {
            let Some(slot) = self.slot_of.get(chunk).copied() else { continue };
            self.file.write_all_at(&zeros, slot * row_bytes(self.width))?;
            let start = usize::try_from(slot).expect("rows are in memory") * self.width;
            self.rows[start..start + self.width].fill(0.0);
            erased = true;
        }
        if erased {
            self.file.sync_data()?;
        }
        for chunk in chunks {
            self.slot_of.remove(chunk);
        }
        Ok(())
    }

    /// The vector of a passage: `[width]`.
    pub(crate) fn row(&self, chunk: u64) -> Option<&[f32]> {
        let slot = usize::try_from(*self.slot_of.get(&chunk)?).expect("rows are in memory");
        self.rows.get(slot * self.width..(slot + 1) * self.width)
    }

    /// The passages in `allowed` nearest to `question`, best first, equal ones by number.
    pub(crate) fn nearest(&self, allowed: &Bitmap, question: &[f32]) -> Vec<(u64, f32)> {
        let mut scored: Vec<(u64, f32)> = self
            .slot_of
            .keys()
            .filter(|chunk| allowed.contains(**chunk))
            .filter_map(|chunk| self.row(*chunk).map(|row| (*chunk, cosine(row, question))))
            .collect();
        let order = |a: &(u64, f32), b: &(u64, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        if scored.len() > RANKED_MAX {
            scored.select_nth_unstable_by(RANKED_MAX, order);
            scored.truncate(RANKED_MAX);
        }
        scored.sort_by(order);
        scored
    }
}

fn row_bytes(width: usize) -> u64 {
    (width * 4) as u64
}

/// Wipes and cuts what lies beyond `end`.
fn cut(file: &mut File, end: u64) -> io::Result<()> {
    if file.metadata()?.len() > end {
        wipe(file, end)?;
        file.set_len(end)?;
        file.sync_data()?;
    }
    Ok(())
}

/// The inner product of two unit vectors, summed in eight lanes whose order is fixed.
pub(crate) fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 8];
    for (a, b) in a.chunks(8).zip(b.chunks(8)) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += a * b;
        }
    }
    lanes.iter().sum()
}

/// Whether `vector` has `width` finite components and length 1.
pub(crate) fn is_unit(vector: &[f32], width: u32) -> bool {
    vector.len() == usize::try_from(width).expect("u32 fits")
        && (cosine(vector, vector).sqrt() - 1.0).abs() <= LENGTH_TOLERANCE
}

/// Wipes and unlinks the files in `folder` that belong to no model in `known`.
pub(crate) fn sweep(folder: &Path, known: &[Space]) -> io::Result<()> {
    let kept: Vec<PathBuf> = known.iter().map(|space| path_of(folder, space.model)).collect();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if !kept.contains(&path) {
            wipe_and_unlink(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_scanned_and_erased() {
        let folder = tempfile::tempdir().expect("a folder");
        let space = Space { model: Digest::of(b"m"), width: 2 };
        let open = |slots, slot_of| Table::open(folder.path(), space, slots, slot_of);
        let mut table = open(0, BTreeMap::new()).expect("opened").expect("empty");
        let rows: [&[f32]; 2] = [&[1.0, 0.0], &[0.6, 0.8]];
        table.append(&rows).expect("written");
        table.committed(&[(7, rows[0]), (9, rows[1])]);
        let mut allowed = Bitmap::default();
        allowed.insert(7);
        assert_eq!(table.nearest(&allowed, &[0.6, 0.8]), [(7, 0.6)]);
        allowed.insert(9);
        assert_eq!(table.nearest(&allowed, &[0.6, 0.8])[0].0, 9);
        table.erase(&[9]).expect("erased");
        assert_eq!(table.nearest(&allowed, &[0.6, 0.8]).len(), 1);
        drop(table);
        let bytes = fs::metadata(path_of(folder.path(), space.model)).expect("there").len();
        assert_eq!(bytes, 16);
        assert!(open(3, BTreeMap::new()).expect("opened").is_none(), "too short");
        let again = open(1, BTreeMap::from([(7, 0)])).expect("opened").expect("cut");
        assert_eq!(again.row(7), Some([1.0, 0.0].as_slice()));
        assert!(is_unit(&[0.6, 0.8], 2) && !is_unit(&[0.0, 0.0], 2));
        assert!(!is_unit(&[f32::NAN, 0.0], 2) && !is_unit(&[1.0], 2));
    }
}
