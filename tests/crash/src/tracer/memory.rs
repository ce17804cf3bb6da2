//! What a thread that stands at a system call is about to do, read from its registers and memory.

use std::{
    fs::{self, File},
    io::IoSliceMut,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use cloister_stage::Unit;
use nix::{
    errno::Errno,
    libc::{self, user_regs_struct},
    sys::uio::{RemoteIoVec, process_vm_readv},
    unistd::Pid,
};

use super::{Act, Call, HERE, is_below};
use crate::calls::{Deed, Kind, OPENS, Row, Shape, errors, is_socket, row};

/// The longest path, and the page size up to which a text is read at a time.
const PAGE: usize = 4096;

/// A call that counts, between its beginning and its end.
#[derive(Debug)]
pub(super) struct Entered {
    pub(super) row: &'static Row,
    pub(super) struck: bool,
    pub(super) fails_with: Option<Errno>,
    /// Its first argument.
    pub(super) first: u64,
    about: PathBuf,
    deed: Deed,
    /// The file whose bytes the kernel copies from another file, to be read when it has.
    copied: Option<PathBuf>,
}

impl Entered {
    /// The call that `pid` stands at, if it counts.
    pub(super) fn of(
        pid: Pid,
        registers: &user_regs_struct,
        state: &Path,
        bytes: bool,
    ) -> Option<Self> {
        let row = row(registers.orig_rax)?;
        let at = Arguments { pid, registers, state, bytes };
        let (about, deed) = at.deed(row)?;
        let copied = match (row.shape, &deed) {
            (Shape::Copy(place), Deed::Write(..)) if bytes => Some(at.link_of(place)),
            _ => None,
        };
        let first = registers.rdi;
        Some(Self { row, struck: false, fails_with: None, first, about, deed, copied })
    }

    /// What kind of call it is, also where a socket is written like a file.
    pub(super) fn kind(&self) -> Kind {
        if self.deed == Deed::Tell { Kind::Tell } else { self.row.kind }
    }

    /// Whether this can become of it. A message to a process that is there is never refused.
    pub(super) fn takes(&self, act: Act) -> bool {
        match act {
            Act::Kill | Act::KillAll => true,
            Act::Short => matches!(self.deed, Deed::Write(..)),
            Act::Fail(errno) | Act::FailFrom(errno) => {
                let opens = OPENS.contains(&self.row.name);
                (self.kind() != Kind::Tell || opens) && errors(self.kind()).contains(&errno)
            }
        }
    }

    /// Which daemon makes it, and what it is about, in a line.
    pub(super) fn words(&self, unit: Unit) -> String {
        let about = match &self.deed {
            Deed::Rename(from, to) => format!("{} -> {}", from.display(), to.display()),
            Deed::Symlink(target, name) => format!("{} -> {}", name.display(), target.display()),
            _ => self.about.display().to_string(),
        };
        format!("{} {} {about}", unit.name(), self.row.name)
    }

    /// Makes the call write half of what it was to write.
    pub(super) fn shorten(&mut self, registers: &mut user_regs_struct) {
        let count = match self.row.shape {
            Shape::Write | Shape::WriteAt => &mut registers.rdx,
            Shape::Copy(0) => &mut registers.r10,
            Shape::Copy(_) => &mut registers.r8,
            _ => return,
        };
        if *count > 1 {
            *count /= 2;
        }
    }

    /// The call with its result.
    pub(super) fn done(self, unit: Unit, result: i64) -> Call {
        let (kind, words) = (self.kind(), self.words(unit));
        let mut deed = self.deed;
        if let Deed::Write(_, at, bytes) = &mut deed {
            let count = usize::try_from(result).unwrap_or(0);
            if let Some(file) = &self.copied {
                bytes.resize(count, 0);
                let read = File::open(file).and_then(|file| file.read_exact_at(bytes, *at));
                // A copy that cannot be read is noticed when the model is compared with the disk.
                read.unwrap_or_default();
            }
            bytes.truncate(count);
        }
        let deed = match deed {
            Deed::Sync(path) if result < 0 => Deed::Unsynced(path),
            _ if result < 0 => Deed::Other,
            deed => deed,
        };
        Call { kind, name: self.row.name, deed, words }
    }
}

/// The arguments of a call that is about to be made.
struct Arguments<'a> {
    pid: Pid,
    registers: &'a user_regs_struct,
    state: &'a Path,
    bytes: bool,
}

impl Arguments<'_> {
    fn number(&self, place: usize) -> u64 {
        let r = self.registers;
        [r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9].get(place).copied().unwrap_or(0)
    }

    /// An argument that is an `int`: the upper half of the register says nothing.
    #[expect(clippy::cast_possible_truncation, reason = "the kernel reads the lower half, too")]
    fn int(&self, place: usize) -> i32 {
        (self.number(place) as u32).cast_signed()
    }

    /// What the call does, and to what; `None` where it does not count.
    fn deed(&self, row: &Row) -> Option<(PathBuf, Deed)> {
        match row.shape {
            Shape::OpenAt => self.open(&self.path_at(0, 1)?, self.int(2)),
            Shape::Open => self.open(&self.path(0)?, self.int(1)),
            Shape::Write => self.write(None),
            Shape::WriteAt => self.write(Some(self.number(3))),
            Shape::Gather => self.gather(0),
            Shape::Copy(place) => {
                let (file, at) = (self.file(place)?, self.position(place)?);
                Some((file.clone(), Deed::Write(file, at, Vec::new())))
            }
            Shape::Control => {
                // FICLONE and FICLONERANGE (ioctl_ficlone(2)).
                matches!(self.number(1), 0x4004_9409 | 0x4020_940d).then(|| self.gather(0))?
            }
            Shape::Sync => self.file(0).map(|file| (file.clone(), Deed::Sync(file))),
            Shape::Length => {
                let length = self.number(1);
                self.file(0).map(|file| (file.clone(), Deed::SetLength(file, length)))
            }
            Shape::Allocate => {
                let (file, now) = (self.file(0)?, fs::metadata(self.link_of(0)).ok()?.len());
                let end = self.number(2).saturating_add(self.number(3));
                // With any flag the length stays (fallocate(2)).
                let length = if self.int(1) == 0 { now.max(end) } else { now };
                Some((file.clone(), Deed::SetLength(file, length)))
            }
            Shape::Mode => {
                let mode = self.int(1).cast_unsigned();
                self.file(0).map(|file| (file.clone(), Deed::Mode(file, mode)))
            }
            Shape::ModeOf => {
                let (path, mode) = (self.counted(self.path(0)?)?, self.int(1).cast_unsigned());
                Some((path.clone(), Deed::Mode(path, mode)))
            }
            Shape::Socket => self.tell(),
            Shape::NewSocket => Some((PathBuf::from("socket"), Deed::Tell)),
            Shape::Rename => self.rename(self.path(0)?, self.path(1)?),
            Shape::RenameAt => self.rename(self.path_at(0, 1)?, self.path_at(2, 3)?),
            Shape::Link => self.link(&self.path(0)?, self.path(1)?),
            Shape::LinkAt => self.link(&self.path_at(0, 1)?, self.path_at(2, 3)?),
            Shape::Symlink => self.symlink(self.path(1)?),
            Shape::SymlinkAt => self.symlink(self.path_at(1, 2)?),
            Shape::Unlink => self.named(self.path(0)?, Deed::Unlink),
            Shape::UnlinkAt if self.int(2) & libc::AT_REMOVEDIR != 0 => {
                self.named(self.path_at(0, 1)?, Deed::RemoveFolder)
            }
            Shape::UnlinkAt => self.named(self.path_at(0, 1)?, Deed::Unlink),
            Shape::RemoveFolder => self.named(self.path(0)?, Deed::RemoveFolder),
            Shape::MakeFolder => self.named(self.path(0)?, Deed::MakeFolder),
            Shape::MakeFolderAt => self.named(self.path_at(0, 1)?, Deed::MakeFolder),
        }
    }

    /// `path`, if calls about it count.
    fn counted(&self, path: PathBuf) -> Option<PathBuf> {
        is_below(&path, self.state).then_some(path)
    }

    fn named(&self, path: PathBuf, deed: impl FnOnce(PathBuf) -> Deed) -> Option<(PathBuf, Deed)> {
        let path = self.counted(path)?;
        Some((path.clone(), deed(path)))
    }

    /// An opening counts where it makes or empties a file.
    fn open(&self, path: &Path, flags: i32) -> Option<(PathBuf, Deed)> {
        let path = self.counted(path.to_owned())?;
        let there = fs::symlink_metadata(&path);
        let deed = if flags & libc::O_TMPFILE == libc::O_TMPFILE {
            Deed::Other
        } else if flags & libc::O_CREAT != 0 && there.is_err() {
            Deed::Create(path.clone())
        } else if flags & libc::O_TRUNC != 0 {
            Deed::SetLength(path.clone(), 0)
        } else if flags & libc::O_ACCMODE != libc::O_RDONLY {
            Deed::Other
        } else {
            return None;
        };
        Some((path, deed))
    }

    fn write(&self, at: Option<u64>) -> Option<(PathBuf, Deed)> {
        let name = self.descriptor(0)?;
        if is_socket(&name) {
            return Some((name, Deed::Tell));
        }
        let file = self.file(0)?;
        let at = at.or_else(|| self.position(0))?;
        let count = usize::try_from(self.number(2)).ok()?;
        let bytes = if self.bytes { self.read(self.number(1), count)? } else { vec![0; count] };
        Some((file.clone(), Deed::Write(file, at, bytes)))
    }

    fn gather(&self, place: usize) -> Option<(PathBuf, Deed)> {
        let name = self.descriptor(place)?;
        if is_socket(&name) {
            return Some((name, Deed::Tell));
        }
        self.file(place).map(|file| (file, Deed::Other))
    }

    fn tell(&self) -> Option<(PathBuf, Deed)> {
        Some((self.descriptor(0)?, Deed::Tell))
    }

    fn rename(&self, from: PathBuf, to: PathBuf) -> Option<(PathBuf, Deed)> {
        let to = self.counted(to)?;
        Some((from.clone(), Deed::Rename(from, to)))
    }

    fn link(&self, from: &Path, to: PathBuf) -> Option<(PathBuf, Deed)> {
        let to = self.counted(to)?;
        // A name below /proc/self/fd stands for the open file.
        let own = from.strip_prefix("/proc/self").ok();
        let own = own.map(|rest| PathBuf::from(format!("/proc/{}", self.pid)).join(rest));
        let from = own.map_or_else(|| Some(from.to_owned()), |link| fs::read_link(link).ok())?;
        Some((to.clone(), Deed::Link(from, to)))
    }

    fn symlink(&self, name: PathBuf) -> Option<(PathBuf, Deed)> {
        let (name, target) = (self.counted(name)?, PathBuf::from(self.text(0)?));
        Some((name.clone(), Deed::Symlink(target, name)))
    }

    /// The open file of an argument, if calls about it count.
    fn file(&self, place: usize) -> Option<PathBuf> {
        self.counted(self.descriptor(place)?)
    }

    fn link_of(&self, place: usize) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", self.pid, self.int(place)))
    }

    /// What the kernel calls the descriptor of an argument.
    fn descriptor(&self, place: usize) -> Option<PathBuf> {
        fs::read_link(self.link_of(place)).ok()
    }

    /// Where the next byte goes.
    fn position(&self, place: usize) -> Option<u64> {
        let path = format!("/proc/{}/fdinfo/{}", self.pid, self.int(place));
        let text = cloister_daemon::files::read_limited(Path::new(&path), 4096).ok()?;
        let text = String::from_utf8(text).ok()?;
        text.lines().find_map(|line| line.strip_prefix("pos:"))?.trim().parse().ok()
    }

    fn path(&self, place: usize) -> Option<PathBuf> {
        let path = PathBuf::from(self.text(place)?);
        if path.is_absolute() {
            return Some(path);
        }
        Some(fs::read_link(format!("/proc/{}/cwd", self.pid)).ok()?.join(path))
    }

    fn path_at(&self, folder: usize, place: usize) -> Option<PathBuf> {
        let path = PathBuf::from(self.text(place)?);
        if path.is_absolute() || self.int(folder) == HERE {
            return self.path(place);
        }
        Some(self.descriptor(folder)?.join(path))
    }

    /// A text that ends with a zero byte.
    fn text(&self, place: usize) -> Option<String> {
        let (mut at, mut text) = (self.number(place), Vec::new());
        loop {
            // Not beyond a page, which may be the last that is mapped.
            let left = PAGE - usize::try_from(at % PAGE as u64).ok()?;
            let piece = self.read(at, left)?;
            if let Some(end) = piece.iter().position(|byte| *byte == 0) {
                text.extend_from_slice(&piece[..end]);
                return String::from_utf8(text).ok();
            }
            text.extend_from_slice(&piece);
            at += left as u64;
            if text.len() > PAGE {
                return None;
            }
        }
    }

    fn read(&self, address: u64, count: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; count];
        if count == 0 {
            return Some(bytes);
        }
        let base = usize::try_from(address).ok()?;
        let into = &mut [IoSliceMut::new(&mut bytes)];
        let read = process_vm_readv(self.pid, into, &[RemoteIoVec { base, len: count }]).ok()?;
        (read == count).then_some(bytes)
    }
}
