//! A stick's file system, opened with the least that the kernel can be asked for: the device is made
//! read-only, its kind is read from its first blocks, and the one driver of that kind mounts it
//! read-only, without set-user-id, devices, programs and symbolic links.
//!
//! Only root may. A volume that was written straight to a device needs none of this.

use std::{
    ffi::OsStr,
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt as _, FileExt as _, FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use cloister_config::Config;
use cloister_domain::Class;
use cloister_wire::Problem;
use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::stat::{major, minor},
};

use crate::Failure;

mod held;

use held::Hold;
pub(crate) use held::Mounted;

/// MS_NOSYMFOLLOW of linux/mount.h, since Linux 5.10.
const NO_SYMBOLIC_LINKS: MsFlags = MsFlags::from_bits_retain(256);

/// Where the marks of the known kinds lie, in bytes from the start (`file`'s magic(5), and the
/// specifications: ECMA-119 8.1, ECMA-167 2/9.1, exFAT 3.1, FAT 3.1; ext4's s_magic).
const MARKS: [(usize, &[u8], &str, Option<&str>); 7] = [
    (3, b"EXFAT   ", "exfat", None),
    (82, b"FAT32   ", "vfat", None),
    (54, b"FAT1", "vfat", None),
    // Without its journal, which is not read: what the stick holds is checked by digest anyway.
    (1080, b"\x53\xef", "ext4", Some("noload")),
    (38_913, b"NSR02", "udf", None),
    (38_913, b"NSR03", "udf", None),
    (32_769, b"CD001", "iso9660", None),
];
/// As much of a device as holds all marks.
const MARKS_BYTES: usize = 40 << 10;
/// What a volume begins with, and a sealed one (docs/formats/bundle.md).
const VOLUMES: [&[u8]; 2] = [b"clb/00-head\0", b"age-encryption.org/v1\n"];

/// Whether `path` is a block device, such as a stick or one of its partitions.
pub(crate) fn is_device(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.file_type().is_block_device())
}

/// Mounts `device` for as long as the result lives, if this user may and it holds a file system and
/// no volume.
pub(crate) fn for_now(config: &Config, device: &Path) -> Result<Option<Mounted>, Failure> {
    if !nix::unistd::geteuid().is_root() || begins_with_a_volume(device)? {
        return Ok(None);
    }
    Mounted::new(folder_of(config, device)?, device).map(Some)
}

/// Mounts `device` until it is closed, and says where.
pub(crate) fn open(config: &Config, device: &Path) -> Result<PathBuf, Failure> {
    let folder = folder_of(config, device)?;
    let _held_until_mounted = Hold::take_unmounted(&folder, device)?;
    mount_at(&folder, device)?;
    Ok(folder)
}

/// Unmounts what [`open`] mounted, or what a killed command left. The device stays read-only until it
/// is plugged in again.
pub(crate) fn close(config: &Config, device: &Path) -> Result<(), Failure> {
    let folder = folder_of(config, device)?;
    let hold = Hold::take(&folder)?;
    if hold.had_leftover() {
        return Ok(());
    }
    let unmounted = umount2(&folder, MntFlags::UMOUNT_NOFOLLOW).map_err(io::Error::from);
    unmounted.and_then(|()| fs::remove_dir(&folder)).map_err(|error| failure("unmounted", &error))
}

/// Makes `device` read-only and mounts it at `folder`, whose device is held.
fn mount_at(folder: &Path, device: &Path) -> Result<(), Failure> {
    let failed = |act| move |error: io::Error| failure(act, &error);
    make_read_only(device)?;
    let start = read_start(device).map_err(failed("read"))?;
    let (kind, data) = kind_of(&start).ok_or_else(|| {
        refusal("medium.filesystem", "the device holds no volume and no file system that is known here (ext4, FAT, exFAT, ISO 9660, UDF)")
    })?;
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(folder)
        .map_err(failed("prepared a folder for"))?;
    let flags = MsFlags::MS_RDONLY
        | MsFlags::MS_NOSUID
        | MsFlags::MS_NODEV
        | MsFlags::MS_NOEXEC
        | NO_SYMBOLIC_LINKS;
    mount(Some(device), folder, Some(kind), flags, data).map_err(|errno| match errno {
        Errno::ENODEV => Failure::from(Problem::new(
            Class::Fault,
            "medium.driver",
            format!("the running kernel has no driver for {kind}: load it (`modprobe {kind}`), or bring a stick with a file system that /proc/filesystems names"),
        )),
        Errno::EBUSY => mounted_already(device),
        other => failure("mounted", &other.into()),
    })
}

/// `media/sdb1` in the folder of the sockets.
fn folder_of(config: &Config, device: &Path) -> Result<PathBuf, Failure> {
    let name = device.file_name().filter(|_| is_device(device));
    let name = name.ok_or_else(|| refusal("medium.device", "that is no block device"))?;
    Ok(config.paths.runtime.join("media").join(name))
}

fn begins_with_a_volume(device: &Path) -> Result<bool, Failure> {
    let start = read_start(device).map_err(|error| failure("read", &error))?;
    Ok(VOLUMES.iter().any(|mark| start.starts_with(mark)))
}

fn read_start(device: &Path) -> io::Result<Vec<u8>> {
    let mut start = vec![0; MARKS_BYTES];
    let read = File::open(device)?.read_at(&mut start, 0)?;
    start.truncate(read);
    Ok(start)
}

/// The kernel's name of the file system that begins with `start`, and its options.
fn kind_of(start: &[u8]) -> Option<(&'static str, Option<&'static str>)> {
    let stands =
        |at: usize, mark: &[u8]| start.get(at..).is_some_and(|rest| rest.starts_with(mark));
    let found = MARKS.iter().find(|(at, mark, ..)| stands(*at, mark));
    found.map(|(_, _, kind, data)| (*kind, *data))
}

/// `device`, and the disk that it is a part of by what sysfs says `about` it.
fn to_protect(device: &Path, about: &Path) -> Vec<PathBuf> {
    let mut devices = vec![device.to_path_buf()];
    if about.join("partition").exists()
        && let Some(disk) = about.parent().and_then(Path::file_name)
    {
        devices.push(Path::new("/dev").join(disk));
    }
    devices
}

/// Tells the kernel to refuse every write to the device, and to the disk that it is a part of
/// (BLKROSET), and sees that it took.
fn make_read_only(device: &Path) -> Result<(), Failure> {
    let number = fs::metadata(device).map_err(|error| failure("looked at", &error))?.rdev();
    let about = PathBuf::from(format!("/sys/dev/block/{}:{}", major(number), minor(number)));
    let about = fs::canonicalize(about).map_err(|error| failure("looked at", &error))?;
    let devices = to_protect(device, &about);
    let set = Command::new("/sbin/blockdev")
        .arg("--setro")
        .args(devices.iter().map(|device| -> &OsStr { device.as_os_str() }))
        .stdin(Stdio::null())
        .status()
        .map_err(|error| failure("made read-only", &error))?;
    let read_only = cloister_daemon::files::read_limited(&about.join("ro"), 16);
    if set.success() && read_only.is_ok_and(|text| text.trim_ascii() == b"1") {
        return Ok(());
    }
    Err(refusal("medium.writable", "the device could not be made read-only, so it is not mounted"))
}

fn failure(act: &str, error: &io::Error) -> Failure {
    // The kernel's fixed words for the number; they quote nothing.
    let why = Errno::from_raw(error.raw_os_error().unwrap_or(0)).desc();
    let message = format!("the device could not be {act} ({why})");
    Failure::from(Problem::new(Class::Fault, "medium.device", message))
}

fn mounted_already(device: &Path) -> Failure {
    let message = format!(
        "the device is mounted already; let it go with `cloister medium close {}`, or unmount it where else it is mounted, and import again",
        device.display()
    );
    Failure::from(Problem::new(Class::Fault, "medium.device", message))
}

fn refusal(code: &str, message: &str) -> Failure {
    Failure::from(Problem::new(Class::Refused, code, message))
}

#[cfg(test)]
mod tests;
