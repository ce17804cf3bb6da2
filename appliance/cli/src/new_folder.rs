//! A folder that is there whole, on the disk, or not at all.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use cloister_daemon::files::sync_folder;

use crate::Failure;

/// Has `fill` write to a folder beside `folder`, which takes that name when everything in it is flushed. What
/// an earlier call left that was cut off is removed first.
///
/// # Errors
/// When `folder` is there already, when nothing can be written, and those of `fill`.
pub(crate) fn whole<T>(
    folder: &Path,
    fill: impl FnOnce(&Path) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let usage = || Failure::usage("the folder of an export must be new, inside one that exists");
    let name = folder.file_name().ok_or_else(usage)?;
    if fs::symlink_metadata(folder).is_ok() {
        return Err(usage());
    }
    let aside = folder.with_file_name(format!(".{}.unfinished", name.to_string_lossy()));
    remove_if_there(&aside).and_then(|()| fs::create_dir(&aside)).map_err(|_detail| usage())?;
    let filled = fill(&aside).and_then(|filled| {
        flush(&aside)
            .and_then(|()| fs::rename(&aside, folder))
            .and_then(|()| folder.parent().map_or(Ok(()), sync_folder))
            .map_err(|_detail| Failure::output())?;
        Ok(filled)
    });
    if filled.is_err() {
        // What stays is removed by the next call.
        remove_if_there(&aside).unwrap_or_default();
    }
    filled
}

/// Flushes every file below `folder`, and the names.
fn flush(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            flush(&entry.path())?;
        } else {
            File::open(entry.path())?.sync_all()?;
        }
    }
    sync_folder(folder)
}

fn remove_if_there(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_there_whole_or_not_at_all_and_can_be_made_again() {
        let place = tempfile::tempdir().expect("a folder");
        let folder = place.path().join("export");
        let cut_off = whole(&folder, |aside| {
            fs::write(aside.join("half"), "of it").expect("written");
            Err::<(), _>(Failure::output())
        });
        assert!(cut_off.is_err() && !folder.exists());
        // As a process leaves it that is killed over it.
        let left = place.path().join(".export.unfinished");
        fs::create_dir_all(left.join("deep")).expect("made");
        let filled = whole(&folder, |aside| {
            assert!(!folder.exists(), "it has no name yet");
            fs::create_dir_all(aside.join("deep")).expect("made");
            fs::write(aside.join("deep/file"), "whole").expect("written");
            Ok(7)
        });
        assert!(filled.is_ok_and(|filled| filled == 7));
        assert!(folder.join("deep/file").exists() && !left.exists());
        assert!(whole(&folder, |_aside| Ok(())).is_err(), "what is there is not written over");
        assert_eq!(fs::read_dir(place.path()).expect("listed").count(), 1);
    }
}
