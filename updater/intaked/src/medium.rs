//! Opens what an operator named: one volume file, one device, or the volumes in a folder. Nothing
//! else on the medium is touched, links are not followed, and everything is opened for reading.

use std::{
    ffi::{CStr, CString},
    fs::File,
    os::{fd::OwnedFd, unix::fs::FileTypeExt as _},
    path::Path,
};

use cloister_bundle::limits::VOLUMES_MAX;
use cloister_domain::Sensitive;
use cloister_quarantine::Ending;
use nix::{
    dir::Dir,
    fcntl::{OFlag, open as open_path, openat},
    sys::{
        stat::Mode,
        statfs::{self, FsType, fstatfs},
        statvfs::{FsFlags, fstatvfs},
    },
};

use crate::IntakeError;

/// Entries of a folder that are looked at: volumes, and what else a stick holds.
const ENTRIES_MAX: usize = 2 * VOLUMES_MAX as usize;

/// The volumes that an operator named, and where they lie.
#[derive(Debug)]
pub(crate) struct Medium {
    /// By file name; the order decides nothing.
    pub(crate) volumes: Vec<(File, Ending)>,
    /// What the kernel calls the file system.
    pub(crate) filesystem: &'static str,
    /// Whether it is mounted read-only.
    pub(crate) read_only: bool,
}

/// Opens the medium at `path`.
pub(crate) fn open(path: &Sensitive<String>) -> Result<Medium, IntakeError> {
    let path = Path::new(path.expose());
    if !path.is_absolute() {
        return Err(IntakeError::Relative);
    }
    let opened = File::from(open_path(path, flags(), Mode::empty()).map_err(refused)?);
    let kind = opened.metadata().map_err(IntakeError::Open)?.file_type();
    let (filesystem, read_only) = surroundings(&opened)?;
    let volumes = if kind.is_file() {
        vec![(opened, Ending::File)]
    } else if kind.is_block_device() {
        let volumes = vec![(opened, Ending::Device)];
        return Ok(Medium { volumes, filesystem: "none (raw device)", read_only: true });
    } else if kind.is_dir() {
        in_folder(opened.into())?
    } else {
        return Err(IntakeError::Kind);
    };
    Ok(Medium { volumes, filesystem, read_only })
}

/// Links are not followed, a pipe does not block, and no terminal becomes ours.
fn flags() -> OFlag {
    OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY
}

fn refused(errno: nix::Error) -> IntakeError {
    match errno {
        // What open(2) says to a link under O_NOFOLLOW.
        nix::Error::ELOOP => IntakeError::Kind,
        other => IntakeError::Open(other.into()),
    }
}

/// The regular files called `*.clb` in a folder, by name.
fn in_folder(folder: OwnedFd) -> Result<Vec<(File, Ending)>, IntakeError> {
    let mut folder = Dir::from_fd(folder).map_err(refused)?;
    let mut names: Vec<CString> = Vec::new();
    for (count, entry) in folder.iter().enumerate() {
        if count >= ENTRIES_MAX {
            return Err(IntakeError::Crowded { max: ENTRIES_MAX });
        }
        let name = entry.map_err(refused)?.file_name().to_owned();
        if is_volume_name(&name) {
            names.push(name);
        }
    }
    names.sort();
    let mut volumes = Vec::new();
    for name in names {
        let file = openat(&folder, name.as_c_str(), flags(), Mode::empty()).map(File::from);
        let file = file.map_err(refused)?;
        if !file.metadata().map_err(IntakeError::Open)?.is_file() {
            return Err(IntakeError::Kind);
        }
        volumes.push((file, Ending::File));
    }
    if volumes.is_empty() { Err(IntakeError::NoVolume) } else { Ok(volumes) }
}

/// Whether a name ends in `.clb`. Sidecars such as `._x.clb`, which some systems leave, do not count.
fn is_volume_name(name: &CStr) -> bool {
    let name = name.to_bytes();
    !name.starts_with(b".") && name.ends_with(b".clb")
}

/// The kernel's name of the file system, and whether it is mounted read-only.
fn surroundings(file: &File) -> Result<(&'static str, bool), IntakeError> {
    let kind = fstatfs(file).map_err(refused)?.filesystem_type();
    let flags = fstatvfs(file).map_err(refused)?.flags();
    Ok((filesystem_name(kind), flags.contains(FsFlags::ST_RDONLY)))
}

/// Names as in `stat -f`; exFAT's number is in no header that nix has (linux/magic.h).
fn filesystem_name(kind: FsType) -> &'static str {
    const EXFAT: FsType = FsType(0x2011_BAB0);
    match kind {
        statfs::EXT4_SUPER_MAGIC => "ext2/ext3",
        statfs::MSDOS_SUPER_MAGIC => "msdos",
        EXFAT => "exfat",
        statfs::ISOFS_SUPER_MAGIC => "isofs",
        statfs::UDF_SUPER_MAGIC => "udf",
        statfs::TMPFS_MAGIC => "tmpfs",
        statfs::OVERLAYFS_SUPER_MAGIC => "overlayfs",
        statfs::BTRFS_SUPER_MAGIC => "btrfs",
        statfs::XFS_SUPER_MAGIC => "xfs",
        statfs::FUSE_SUPER_MAGIC => "fuseblk",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use cloister_domain::Coded as _;

    use super::*;

    fn at(path: &Path) -> Result<Medium, IntakeError> {
        open(&Sensitive::new(path.to_str().expect("plain").to_owned()))
    }

    #[test]
    fn a_volume_and_a_folder_of_volumes_are_opened_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        assert_eq!(at(folder.path()).expect_err("empty").code(), "intake.volume.none");
        for name in ["b.clb", "a.clb", "._a.clb", "readme.txt"] {
            std::fs::write(path(name), name).expect("written");
        }
        assert_eq!(at(folder.path()).expect("two volumes").volumes.len(), 2);
        assert_eq!(at(&path("a.clb")).expect("a volume").volumes.len(), 1);
        assert_eq!(at(Path::new("a.clb")).expect_err("relative").code(), "intake.path.relative");
        assert_eq!(at(&path("none")).expect_err("none").code(), "intake.open");
    }

    #[test]
    fn links_pipes_and_devices_of_other_kinds_are_refused_without_waiting() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("a.clb"), "x").expect("written");
        symlink(path("a.clb"), path("link")).expect("linked");
        assert_eq!(at(&path("link")).expect_err("a link").code(), "intake.path.kind");
        nix::unistd::mkfifo(&path("pipe"), Mode::S_IRWXU).expect("made");
        assert_eq!(at(&path("pipe")).expect_err("a pipe").code(), "intake.path.kind");
        assert_eq!(at(Path::new("/dev/null")).expect_err("no disk").code(), "intake.path.kind");
        symlink("/etc/passwd", path("b.clb")).expect("linked");
        assert_eq!(at(folder.path()).expect_err("a link inside").code(), "intake.path.kind");
    }
}
