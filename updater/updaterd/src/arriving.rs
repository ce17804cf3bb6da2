//! The index of a release on its way in: told part by part, set aside, and believed when it is whole.

use std::{fs::File, io::Write as _};

use cloister_bundle::{BundleError, Release, Table, TableError};
use cloister_daemon::files::set_aside;
use cloister_domain::Hasher;

use crate::{core::Core, error::ActError, inventory};

/// The parts that came so far.
#[derive(Debug, Default)]
pub(crate) struct Arriving {
    /// Where they lie; none before the first.
    aside: Option<File>,
    bytes: u64,
    hasher: Hasher,
}

impl Arriving {
    /// Takes the next part; the index once it is whole and the one that `release` names.
    ///
    /// # Errors
    /// [`ActError::Order`] for more than was announced, and after the last part.
    pub(crate) fn take(
        &mut self,
        core: &Core,
        part: &[u8],
        release: &Release,
    ) -> Result<Option<Table<File>>, ActError> {
        let expected = &release.index;
        let count = u64::try_from(part.len()).expect("a length fits 64 bits");
        if self.bytes.saturating_add(count) > expected.length {
            return Err(ActError::Order);
        }
        let set_aside = |source| ActError::Quarantine { act: "written", source };
        let mut aside = match self.aside.take() {
            Some(aside) => aside,
            None if self.bytes == 0 => {
                self::set_aside(&inventory::folder(core)).map_err(set_aside)?
            }
            None => return Err(ActError::Order),
        };
        aside.write_all(part).map_err(set_aside)?;
        self.hasher.update(part);
        self.bytes = self.bytes.saturating_add(count);
        if self.bytes < expected.length {
            self.aside = Some(aside);
            return Ok(None);
        }
        if self.hasher.clone().finish() != expected.sha256 {
            return Err(BundleError::Digest { chunk: expected.chunks }.into());
        }
        let index = open(aside, expected.length, release)?;
        let sums = (index.plain_bytes(), index.stored_bytes());
        if sums == (expected.plain_bytes, expected.stored_bytes) {
            Ok(Some(index))
        } else {
            Err(BundleError::Index { chunk: expected.chunks }.into())
        }
    }
}

/// The index of `release` in a file of `bytes` bytes.
pub(crate) fn open(file: File, bytes: u64, release: &Release) -> Result<Table<File>, ActError> {
    Table::open(file, bytes, &release.files).map_err(of_table)
}

/// An index that cannot be read.
pub(crate) fn of_table(error: TableError) -> ActError {
    match error {
        TableError::Form(error) => error.into(),
        TableError::Read(source) => ActError::Quarantine { act: "read", source },
    }
}
