//! A disk that remembers in which order it was written and flushed: one file of a FUSE mount
//! (`include/uapi/linux/fuse.h`, protocol 7.31), with a loop device and ext4 on it. The kernel's file
//! system decides what is written when, and what a flush is.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read as _, Write as _},
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
};

/// Bytes of every image.
pub(crate) const IMAGE_BYTES: usize = 32 << 20;
/// The largest write that the kernel sends at once.
const WRITE_BYTES_MAX: usize = 128 << 10;

/// What reached the disk, in order.
#[derive(Clone, Debug)]
pub(crate) enum Logged {
    /// Bytes at a place.
    Write(usize, Vec<u8>),
    /// Everything before it lasts.
    Flush,
    /// Somebody outside was told.
    Mark,
}

#[derive(Debug)]
struct Disk {
    image: Mutex<Vec<u8>>,
    log: Mutex<Vec<Logged>>,
}

/// The disk, with a file system mounted from it.
#[derive(Debug)]
pub(crate) struct Device {
    disk: Arc<Disk>,
    file: PathBuf,
    mounted: Mounted,
    thread: Option<JoinHandle<()>>,
}

impl Device {
    /// Mounts the file system of `image` at `place`/fs by way of a disk that remembers.
    pub(crate) fn mount(place: &Path, image: Vec<u8>) -> Result<Self> {
        let (file, folder) = (place.join("disk"), place.join("fs"));
        File::create(&file)?;
        fs::create_dir_all(&folder)?;
        let fuse = OpenOptions::new().read(true).write(true).open("/dev/fuse");
        let fuse = fuse.context("opening /dev/fuse")?;
        let options =
            format!("fd={},rootmode=100000,user_id=0,group_id=0,allow_other", fuse.as_raw_fd());
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("crash"), &file, Some("fuse"), flags, Some(options.as_str()))
            .context("mounting a file of our own; this needs root")?;
        let disk = Arc::new(Disk { image: Mutex::new(image), log: Mutex::default() });
        let theirs = Arc::clone(&disk);
        let thread = Some(std::thread::spawn(move || serve(&fuse, &theirs)));
        let mounted = Mounted::at(&file, &folder);
        if mounted.is_err() {
            umount2(&file, MntFlags::MNT_DETACH).unwrap_or_default();
        }
        Ok(Self { disk, file, mounted: mounted?, thread })
    }

    /// Where the file system is.
    pub(crate) fn folder(&self) -> &Path {
        &self.mounted.0
    }

    /// Notes that somebody outside was told.
    pub(crate) fn mark(&self) {
        self.disk.log().push(Logged::Mark);
    }

    /// Forgets what was written until now and begins the log here.
    pub(crate) fn begin(&self) -> Result<Vec<u8>> {
        sync(self.folder())?;
        // In the order in which a write takes them.
        let image = self.disk.image.lock().expect(UNPOISONED);
        self.disk.log().clear();
        Ok(image.clone())
    }

    /// What reached the disk since.
    pub(crate) fn log(&self) -> Vec<Logged> {
        self.disk.log().clone()
    }
}

const UNPOISONED: &str = "the disk's thread does not panic";

impl Disk {
    fn log(&self) -> MutexGuard<'_, Vec<Logged>> {
        self.log.lock().expect(UNPOISONED)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.mounted.leave();
        umount2(&self.file, MntFlags::MNT_DETACH).unwrap_or_default();
        if let Some(thread) = self.thread.take() {
            // It ends with the mount.
            thread.join().unwrap_or_default();
        }
    }
}

/// Held while a loop device is looked for or let go.
static MOUNTING: Mutex<()> = Mutex::new(());

/// A file system in a file, mounted by a loop device.
#[derive(Debug)]
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    /// Mounts the file system in `image` at `folder`.
    pub(crate) fn at(image: &Path, folder: &Path) -> Result<Self> {
        /// Two that look for a free loop device at once may find the same one.
        const TRIES: u32 = 20;
        let mut said = String::new();
        let _one_at_a_time = MOUNTING.lock().unwrap_or_else(PoisonError::into_inner);
        for _try in 0..TRIES {
            match loop_mount(image, folder) {
                Ok(()) => return Ok(Self(folder.to_owned())),
                Err(error) => said = format!("{error:#}"),
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        bail!("{said}")
    }

    fn leave(&self) {
        let _one_at_a_time = MOUNTING.lock().unwrap_or_else(PoisonError::into_inner);
        // Busy only if a daemon is left, which its session kills first.
        Command::new("umount").arg("-d").arg(&self.0).output().map(drop).unwrap_or_default();
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.leave();
    }
}

fn loop_mount(image: &Path, folder: &Path) -> Result<()> {
    let program = |name: &str, words: &[&Path]| {
        let output = Command::new(name).args(words).output().context("starting a program")?;
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        ensure!(output.status.success(), "{name}: {said}");
        Ok(String::from_utf8(output.stdout)?)
    };
    let device = program("losetup", &[Path::new("--find"), Path::new("--show"), image])?;
    let device = Path::new(device.trim());
    // Whoever had it last may have made it read-only, and it stays so.
    let mounted = program("blockdev", &[Path::new("--setrw"), device]).and_then(|_nothing| {
        let how = ["-t", "ext4", "-o", "noatime"].map(Path::new);
        program("mount", &[&how[..], &[device, folder]].concat())
    });
    if mounted.is_err() {
        program("losetup", &[Path::new("--detach"), device])?;
    }
    mounted.map(drop)
}

/// An image with an ext4 file system that holds `base` as `state`.
pub(crate) fn image_of(base: &Path, place: &Path) -> Result<Vec<u8>> {
    fs::create_dir_all(place.join("made"))?;
    let file = place.join("image");
    File::create(&file)?.set_len(IMAGE_BYTES as u64)?;
    let words = ["-q", "-F", "-b", "4096", "-J", "size=4", "-E", "lazy_itable_init=0"];
    let made = Command::new("mkfs.ext4").args(words).arg(&file).output();
    let made = made.context("starting mkfs.ext4")?;
    ensure!(made.status.success(), "mkfs.ext4: {}", String::from_utf8_lossy(&made.stderr).trim());
    {
        let mounted = Mounted::at(&file, &place.join("made"))?;
        let state = mounted.0.join("state");
        fs::create_dir(&state)?;
        crate::appliance::copy(base, &state)?;
        sync(&mounted.0)?;
    }
    Ok(cloister_daemon::files::read_limited(&file, IMAGE_BYTES as u64)?)
}

/// Flushes the whole file system that `folder` lies on.
fn sync(folder: &Path) -> Result<()> {
    let status = Command::new("sync").arg("-f").arg(folder).status()?;
    ensure!(status.success(), "sync failed");
    Ok(())
}

/// Answers the kernel until the file is unmounted.
fn serve(mut fuse: &File, disk: &Disk) {
    let mut request = vec![0; WRITE_BYTES_MAX + 4096];
    loop {
        let count = match fuse.read(&mut request) {
            Ok(count) => count,
            Err(error) if error.raw_os_error() == Some(Errno::EINTR as i32) => continue,
            Err(error) if error.raw_os_error() == Some(Errno::ENOENT as i32) => continue,
            // Unmounted.
            Err(_ended) => return,
        };
        let Some(request) = request.get(..count).and_then(Request::of) else { return };
        let Some(answer) = disk.answer(&request) else { continue };
        let (error, body) = match answer {
            Ok(body) => (0, body),
            Err(errno) => (-(errno as i32), Vec::new()),
        };
        let mut reply = u32::try_from(16 + body.len()).unwrap_or(0).to_ne_bytes().to_vec();
        reply.extend(error.to_ne_bytes());
        reply.extend(request.unique.to_ne_bytes());
        reply.extend(body);
        // One that was interrupted is no longer waited for.
        fuse.write_all(&reply).unwrap_or_default();
    }
}

/// `struct fuse_in_header` with what follows it.
struct Request<'a> {
    opcode: u32,
    unique: u64,
    body: &'a [u8],
}

impl<'a> Request<'a> {
    fn of(bytes: &'a [u8]) -> Option<Self> {
        let opcode = u32::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
        let unique = u64::from_ne_bytes(*bytes.get(8..)?.first_chunk()?);
        Some(Self { opcode, unique, body: bytes.get(40..)? })
    }

    fn u32(&self, at: usize) -> usize {
        let bytes = self.body.get(at..).and_then(<[u8]>::first_chunk);
        bytes.map_or(0, |bytes| u32::from_ne_bytes(*bytes) as usize)
    }

    fn u64(&self, at: usize) -> usize {
        let bytes = self.body.get(at..).and_then(<[u8]>::first_chunk);
        bytes.map_or(0, |bytes| usize::try_from(u64::from_ne_bytes(*bytes)).unwrap_or(0))
    }
}

impl Disk {
    /// The answer; `None` where the kernel waits for none.
    fn answer(&self, request: &Request<'_>) -> Option<Result<Vec<u8>, Errno>> {
        Some(match request.opcode {
            // FUSE_FORGET, FUSE_INTERRUPT, FUSE_BATCH_FORGET
            2 | 36 | 42 => return None,
            // FUSE_GETATTR, FUSE_SETATTR: the length never changes.
            3 | 4 => Ok(attributes()),
            // FUSE_OPEN
            14 => Ok(vec![0; 16]),
            // FUSE_READ
            15 => {
                let (from, count) = (request.u64(8), request.u32(16));
                let image = self.image.lock().expect(UNPOISONED);
                let to = from.saturating_add(count).min(image.len());
                image.get(from..to).map(<[u8]>::to_vec).ok_or(Errno::EIO)
            }
            // FUSE_WRITE
            16 => self.write(request),
            // FUSE_RELEASE, FUSE_FLUSH: closing flushes nothing.
            18 | 25 => Ok(Vec::new()),
            // FUSE_FSYNC
            20 => {
                self.log().push(Logged::Flush);
                Ok(Vec::new())
            }
            // FUSE_INIT
            26 => Ok(greeting()),
            _ => Err(Errno::ENOSYS),
        })
    }

    fn write(&self, request: &Request<'_>) -> Result<Vec<u8>, Errno> {
        let (from, count) = (request.u64(8), request.u32(16));
        let bytes = request.body.get(40..40 + count).ok_or(Errno::EIO)?;
        let mut image = self.image.lock().expect(UNPOISONED);
        let place = image.get_mut(from..from.saturating_add(count)).ok_or(Errno::ENOSPC)?;
        place.copy_from_slice(bytes);
        self.log().push(Logged::Write(from, bytes.to_vec()));
        let count = u32::try_from(count).map_err(|_too_many| Errno::EIO)?;
        Ok([count.to_ne_bytes(), [0; 4]].concat())
    }
}

/// `struct fuse_attr_out` of a plain file.
fn attributes() -> Vec<u8> {
    let mut out = vec![0; 104];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &3600u64.to_ne_bytes());
    put(16, &1u64.to_ne_bytes());
    put(24, &(IMAGE_BYTES as u64).to_ne_bytes());
    put(32, &(IMAGE_BYTES as u64 / 512).to_ne_bytes());
    put(76, &0o100_600u32.to_ne_bytes());
    put(80, &1u32.to_ne_bytes());
    put(96, &4096u32.to_ne_bytes());
    out
}

/// `struct fuse_init_out`: writes of up to 128 KiB.
fn greeting() -> Vec<u8> {
    /// `FUSE_BIG_WRITES` and `FUSE_MAX_PAGES`.
    const FLAGS: u32 = 1 << 5 | 1 << 22;
    let mut out = vec![0; 64];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &7u32.to_ne_bytes());
    put(4, &31u32.to_ne_bytes());
    put(8, &(128u32 << 10).to_ne_bytes());
    put(12, &FLAGS.to_ne_bytes());
    put(16, &16u16.to_ne_bytes());
    put(18, &12u16.to_ne_bytes());
    put(20, &(128u32 << 10).to_ne_bytes());
    put(24, &1u32.to_ne_bytes());
    put(28, &32u16.to_ne_bytes());
    out
}
