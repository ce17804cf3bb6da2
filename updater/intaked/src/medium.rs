//! Opens what an operator named: one volume file, one device, or the volumes in a folder. Nothing
//! else on the medium is touched, links are not followed, and everything is opened for reading.

use std::{
    ffi::{CStr, CString},
    fs::File,
    os::{
        fd::OwnedFd,
        unix::{
            ffi::OsStrExt as _,
            fs::{FileExt as _, FileTypeExt as _},
        },
    },
    path::Path,
};

use cloister_bundle::{container::Member, limits::VOLUMES_MAX};
use cloister_domain::{ByteCount, Sensitive, printable};
use cloister_quarantine::Ending;
use cloister_sealed::INTRO;
use cloister_wire::intake::{ForeignName, Medium as Told};
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

/// Volumes of one folder: each is an open file.
const FILES_MAX: usize = 1024;

/// One volume that an operator named.
#[derive(Debug)]
pub(crate) struct Volume {
    /// The file, or why it was not opened.
    pub(crate) file: Result<File, Unopened>,
    pub(crate) ending: Ending,
    /// The file's name; none for a device.
    pub(crate) name: Option<ForeignName>,
    /// The file's length; none for a device.
    pub(crate) bytes: Option<ByteCount>,
}

/// Why an entry of a folder that is called like a volume is none. Links are not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unopened;

/// The volumes that an operator named, and where they lie.
#[derive(Debug)]
pub(crate) struct Medium {
    /// By file name; the order decides nothing.
    pub(crate) volumes: Vec<Volume>,
    /// What lies beside them, by name, as far as it is listed.
    pub(crate) ignored: Vec<ForeignName>,
    /// How much lies beside them.
    pub(crate) ignored_count: u64,
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
    let only = |volume| Medium {
        volumes: vec![volume],
        ignored: Vec::new(),
        ignored_count: 0,
        filesystem,
        read_only,
    };
    if kind.is_file() {
        let name = path.file_name().map(|name| shown(name.as_bytes()));
        Ok(only(Volume::file(opened, name)?))
    } else if kind.is_block_device() {
        if !begins_with_a_volume(&opened) {
            return Err(IntakeError::NotRaw);
        }
        let volume = Volume { file: Ok(opened), ending: Ending::Device, name: None, bytes: None };
        Ok(Medium { filesystem: "none (raw device)", read_only: true, ..only(volume) })
    } else if kind.is_dir() {
        in_folder(opened.into(), filesystem, read_only)
    } else {
        Err(IntakeError::Kind)
    }
}

impl Volume {
    fn file(file: File, name: Option<ForeignName>) -> Result<Self, IntakeError> {
        let bytes = Some(ByteCount(file.metadata().map_err(IntakeError::Open)?.len()));
        Ok(Self { file: Ok(file), ending: Ending::File, name, bytes })
    }

    /// An entry of `folder` that is called like a volume.
    fn entry(folder: &Dir, name: &CStr) -> Result<Self, IntakeError> {
        let shown = Some(shown(name.to_bytes()));
        let file = match openat(folder, name, flags(), Mode::empty()).map(File::from) {
            Ok(file) if file.metadata().map_err(IntakeError::Open)?.is_file() => file,
            // A link, under O_NOFOLLOW; a socket, or a device that is not there.
            Ok(_) | Err(nix::Error::ELOOP | nix::Error::ENXIO | nix::Error::ENODEV) => {
                let file = Err(Unopened);
                return Ok(Self { file, ending: Ending::File, name: shown, bytes: None });
            }
            Err(other) => return Err(refused(other)),
        };
        Self::file(file, shown)
    }
}

fn shown(name: &[u8]) -> ForeignName {
    ForeignName { name: Sensitive::new(printable(name)) }
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

/// Whether a device's first bytes are the name of a volume's first member, or how a seal begins: one hint
/// between a volume that was written to the device and a file system.
fn begins_with_a_volume(device: &File) -> bool {
    [Member::Head.name().as_bytes(), INTRO].iter().any(|mark| {
        let mut start = vec![0; mark.len()];
        device.read_exact_at(&mut start, 0).is_ok() && start == *mark
    })
}

/// What is called `*.clb` in a folder, by name, and the names of what else is there.
fn in_folder(
    folder: OwnedFd,
    filesystem: &'static str,
    read_only: bool,
) -> Result<Medium, IntakeError> {
    let mut folder = Dir::from_fd(folder).map_err(refused)?;
    let (mut names, mut others): (Vec<CString>, Vec<CString>) = (Vec::new(), Vec::new());
    for (count, entry) in folder.iter().enumerate() {
        if count >= ENTRIES_MAX {
            return Err(IntakeError::Crowded { max: ENTRIES_MAX });
        }
        let name = entry.map_err(refused)?.file_name().to_owned();
        if is_volume_name(&name) {
            names.push(name);
        } else if name.to_bytes() != b"." && name.to_bytes() != b".." {
            others.push(name);
        }
    }
    if names.len() > FILES_MAX {
        return Err(IntakeError::Crowded { max: FILES_MAX });
    }
    names.sort();
    others.sort();
    let volumes = names.iter().map(|name| Volume::entry(&folder, name));
    let volumes = volumes.collect::<Result<Vec<Volume>, IntakeError>>()?;
    if volumes.is_empty() {
        return Err(IntakeError::NoVolume);
    }
    let ignored_count = u64::try_from(others.len()).expect("a count fits 64 bits");
    others.truncate(Told::IGNORED_MAX);
    let ignored = others.iter().map(|name| shown(name.to_bytes())).collect();
    Ok(Medium { volumes, ignored, ignored_count, filesystem, read_only })
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
        let medium = at(folder.path()).expect("two volumes");
        assert_eq!(medium.volumes.len(), 2);
        let ignored: Vec<&String> =
            medium.ignored.iter().map(|other| other.name.expose()).collect();
        assert_eq!(ignored, ["._a.clb", "readme.txt"]);
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
        std::fs::create_dir(path("c.clb")).expect("made");
        nix::unistd::mkfifo(&path("d.clb"), Mode::S_IRWXU).expect("made");
        // What is no file hides nothing of what is.
        let opened: Vec<bool> = at(folder.path())
            .expect("a folder")
            .volumes
            .iter()
            .map(|volume| volume.file.is_ok())
            .collect();
        assert_eq!(opened, [true, false, false, false]);
    }
}
