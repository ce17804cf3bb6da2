//! The few file operations that must survive a power cut, each in one place.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

/// Everybody on the appliance may walk the shelf; only its owner may change it.
const FOLDER_MODE: u32 = 0o755;

/// Flushes the names in `folder`.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    // The parent of a bare name is the empty path, which means here.
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    File::open(folder)?.sync_all()
}

/// Makes `folder` and what leads to it, and flushes the names, also where whoever made them was cut off
/// before. Modes do not depend on the umask.
pub(crate) fn make_folder(folder: &Path) -> io::Result<()> {
    match fs::metadata(folder) {
        Ok(about) if about.permissions().mode() & 0o777 == FOLDER_MODE => {
            return match folder.parent().map_or(Ok(()), sync_folder) {
                // Who may not read a folder has made nothing in it.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
                flushed => flushed,
            };
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(parent) = folder.parent().filter(|parent| !parent.is_dir()) {
                make_folder(parent)?;
            }
            fs::create_dir(folder)?;
            folder.parent().map_or(Ok(()), sync_folder)?;
        }
        Err(error) => return Err(error),
    }
    fs::set_permissions(folder, Permissions::from_mode(FOLDER_MODE))
}

/// Points `folder/name` at `target`.
///
/// # Errors
/// As [`put`].
pub(crate) fn switch_link(folder: &Path, name: &str, target: &Path) -> io::Result<()> {
    put(folder, name, |prepared| symlink(target, prepared))
}

/// Gives `folder/name` the content `bytes`, readable by everybody on the appliance.
///
/// # Errors
/// As [`put`].
pub(crate) fn replace_file(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    put(folder, name, |prepared| {
        let mut file = OpenOptions::new().write(true).create_new(true).open(prepared)?;
        file.write_all(bytes)?;
        file.set_permissions(Permissions::from_mode(0o444))?;
        file.sync_all()
    })
}

/// Lets what `prepare` makes take the place of `folder/name` by one rename(2): before that call the old one
/// stands, after it the new one.
///
/// # Errors
/// The disk's; nothing is left beside the name, as far as the disk lets it be removed.
fn put(folder: &Path, name: &str, prepare: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let prepared = folder.join(format!(".{name}.new"));
    remove_if_there(&prepared)?;
    prepare(&prepared)
        .and_then(|()| fs::rename(&prepared, folder.join(name)))
        .inspect_err(|_failed| remove_if_there(&prepared).unwrap_or_default())?;
    sync_folder(folder)
}

/// Removes a file or a link; one that is not there is as good as removed.
pub(crate) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes a folder and what is in it; one that is not there is as good as removed.
pub(crate) fn remove_all_if_there(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
