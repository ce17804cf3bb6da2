//! The system calls that change what is stored or tell another process: which there are, what one is
//! about, and which errors it may come back with.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf},
};

use nix::{errno::Errno, libc};

/// A system call by what it does to a file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// A new file without bytes.
    Create(PathBuf),
    /// A file was opened and emptied, or set to a length.
    SetLength(PathBuf, u64),
    /// Bytes at a place.
    Write(PathBuf, u64, Vec<u8>),
    /// What was written to the file, or the names in the folder, are on the disk.
    Sync(PathBuf),
    /// That failed: what was written since the flush before may never be there, whatever a later one says.
    Unsynced(PathBuf),
    /// A name took another's place.
    Rename(PathBuf, PathBuf),
    /// One more name for a file: one that it had, and the new one.
    Link(PathBuf, PathBuf),
    /// A name is gone.
    Unlink(PathBuf),
    /// A new folder.
    MakeFolder(PathBuf),
    /// A folder is gone.
    RemoveFolder(PathBuf),
    /// A link: where it points, and its name.
    Symlink(PathBuf, PathBuf),
    /// Another mode.
    Mode(PathBuf, u32),
    /// Bytes to another process, or a new connection.
    Tell,
    /// Something else that counts, and changes nothing stored.
    Other,
}

impl Deed {
    /// What it changes.
    pub(crate) fn paths(&self) -> Vec<&Path> {
        match self {
            Self::Create(path)
            | Self::SetLength(path, _)
            | Self::Write(path, ..)
            | Self::Sync(path)
            | Self::Unsynced(path)
            | Self::Unlink(path)
            | Self::MakeFolder(path)
            | Self::RemoveFolder(path)
            | Self::Symlink(_, path)
            | Self::Mode(path, _) => vec![path],
            Self::Rename(from, to) | Self::Link(from, to) => vec![from, to],
            Self::Tell | Self::Other => Vec::new(),
        }
    }
}

/// What kind of call it is, as far as faults are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A file is opened for writing or made.
    Open,
    /// Bytes go to a file.
    Write,
    /// A file or folder is flushed.
    Sync,
    /// Names change.
    Name,
    /// Lengths and modes change.
    About,
    /// Bytes or a connection to another process.
    Tell,
}

/// A row of the table of calls.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) number: i64,
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) shape: Shape,
}

/// Where a call's arguments lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// `(folder, path, flags, mode)`.
    OpenAt,
    /// `(path, flags, mode)`.
    Open,
    /// `(file, bytes, count)`.
    Write,
    /// `(file, bytes, count, offset)`.
    WriteAt,
    /// `(file, …)`: its bytes are not at one place.
    Gather,
    /// `(into, …)` with the file that is written at this argument.
    Copy(usize),
    /// `(file)`.
    Sync,
    /// `(file, length)`.
    Length,
    /// `(file, how, offset, length)`.
    Allocate,
    /// `(file, mode)`.
    Mode,
    /// `(path, mode)`.
    ModeOf,
    /// `(path, path)`.
    Rename,
    /// `(folder, path, folder, path)`.
    RenameAt,
    /// `(path, path)`.
    Link,
    /// `(folder, path, folder, path, flags)`.
    LinkAt,
    /// `(target, path)`.
    Symlink,
    /// `(target, folder, path)`.
    SymlinkAt,
    /// `(path)`.
    Unlink,
    /// `(folder, path, flags)`.
    UnlinkAt,
    /// `(path)`.
    RemoveFolder,
    /// `(path, mode)`.
    MakeFolder,
    /// `(folder, path, mode)`.
    MakeFolderAt,
    /// `(socket, …)`.
    Socket,
    /// `(family, …)`.
    NewSocket,
    /// `(file, request, …)`; counts where it clones.
    Control,
}

macro_rules! rows {
    ($(($number:ident, $name:literal, $kind:ident, $shape:expr)),* $(,)?) => {
        [$(Row { number: libc::$number, name: $name, kind: Kind::$kind, shape: $shape }),*]
    };
}

/// Every call that counts.
pub(crate) const ROWS: [Row; 35] = rows![
    (SYS_openat, "openat", Open, Shape::OpenAt),
    (SYS_open, "open", Open, Shape::Open),
    (SYS_write, "write", Write, Shape::Write),
    (SYS_pwrite64, "pwrite64", Write, Shape::WriteAt),
    (SYS_writev, "writev", Write, Shape::Gather),
    (SYS_pwritev, "pwritev", Write, Shape::Gather),
    (SYS_copy_file_range, "copy_file_range", Write, Shape::Copy(2)),
    (SYS_sendfile, "sendfile", Write, Shape::Copy(0)),
    (SYS_splice, "splice", Write, Shape::Copy(2)),
    (SYS_ioctl, "ioctl", Write, Shape::Control),
    (SYS_fsync, "fsync", Sync, Shape::Sync),
    (SYS_fdatasync, "fdatasync", Sync, Shape::Sync),
    (SYS_rename, "rename", Name, Shape::Rename),
    (SYS_renameat, "renameat", Name, Shape::RenameAt),
    (SYS_renameat2, "renameat2", Name, Shape::RenameAt),
    (SYS_link, "link", Name, Shape::Link),
    (SYS_linkat, "linkat", Name, Shape::LinkAt),
    (SYS_symlink, "symlink", Name, Shape::Symlink),
    (SYS_symlinkat, "symlinkat", Name, Shape::SymlinkAt),
    (SYS_unlink, "unlink", Name, Shape::Unlink),
    (SYS_unlinkat, "unlinkat", Name, Shape::UnlinkAt),
    (SYS_rmdir, "rmdir", Name, Shape::RemoveFolder),
    (SYS_mkdir, "mkdir", Name, Shape::MakeFolder),
    (SYS_mkdirat, "mkdirat", Name, Shape::MakeFolderAt),
    (SYS_ftruncate, "ftruncate", About, Shape::Length),
    (SYS_fallocate, "fallocate", About, Shape::Allocate),
    (SYS_fchmod, "fchmod", About, Shape::Mode),
    (SYS_chmod, "chmod", About, Shape::ModeOf),
    (SYS_fchown, "fchown", About, Shape::Gather),
    (SYS_socket, "socket", Tell, Shape::NewSocket),
    (SYS_sendto, "sendto", Tell, Shape::Socket),
    (SYS_sendmsg, "sendmsg", Tell, Shape::Socket),
    (SYS_connect, "connect", Tell, Shape::Socket),
    (SYS_accept4, "accept4", Tell, Shape::Socket),
    (SYS_shutdown, "shutdown", Tell, Shape::Socket),
];

/// The row of a call's number.
pub(crate) fn row(number: u64) -> Option<&'static Row> {
    ROWS.iter().find(|row| u64::try_from(row.number).is_ok_and(|known| known == number))
}

/// The errors that a call of this kind is made to come back with.
pub(crate) const fn errors(kind: Kind) -> &'static [Errno] {
    match kind {
        Kind::Open => &[Errno::EIO, Errno::ENOSPC, Errno::EROFS, Errno::EMFILE, Errno::ENOMEM],
        Kind::Write | Kind::Sync => &[Errno::EIO, Errno::ENOSPC],
        Kind::Name => &[Errno::EIO, Errno::ENOSPC, Errno::EROFS, Errno::ENOMEM],
        Kind::About => &[Errno::EIO, Errno::ENOSPC, Errno::EROFS],
        Kind::Tell => &[Errno::EMFILE, Errno::ENOMEM],
    }
}

/// The calls between processes that may fail; a message to a process that is there is never refused.
pub(crate) const OPENS: [&str; 3] = ["socket", "connect", "accept4"];

/// Whether the descriptor's name, as the kernel gives it, is a socket.
pub(crate) fn is_socket(name: &Path) -> bool {
    name.to_str().is_some_and(|name| name.starts_with("socket:"))
}

/// A call in words without what no two runs have in common: the place of the state folder, digests, numbers.
pub(crate) fn site(words: &str) -> String {
    const STATE: &str = "/state";
    let ends = |at: &usize| {
        let behind = words.as_bytes().get(at + STATE.len());
        behind.is_none_or(|byte| matches!(byte, b'/' | b' '))
    };
    let state = words.match_indices(STATE).map(|(at, _)| at).filter(ends).last();
    let (before, about) = words.split_at(state.map_or(0, |at| at + STATE.len()));
    let hides = |run: &str| {
        let is_number = run.bytes().all(|byte| byte.is_ascii_digit());
        run.len() >= if is_number { 3 } else { 16 }
    };
    // The daemon and the call's name.
    let mut site = before.split('/').next().unwrap_or_default().to_owned();
    for part in about.split_inclusive(|letter: char| !letter.is_ascii_hexdigit()) {
        let run = part.trim_end_matches(|end: char| !end.is_ascii_hexdigit());
        let end = part.trim_start_matches(|run: char| run.is_ascii_hexdigit());
        let is_fan = run.len() == 2 && end == "/" && site.ends_with('/');
        site.push_str(if is_fan || hides(run) { "#" } else { run });
        site.push_str(end);
    }
    site
}

/// A number for a [`site`].
pub(crate) fn number_of(site: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    site.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_named_alike_in_every_run() {
        let digest = "0123456789abcdef0123456789abcdef";
        let named = |words: &str| site(&words.replace("DIGEST", digest));
        let words = "updaterd openat /dev/shm/a/state/b1/state/shelf/objects/01/DIGEST";
        assert_eq!(named(words), "updaterd openat /shelf/objects/#/#");
        assert_eq!(named("recordd sendto socket:[48151]"), "recordd sendto socket:[#]");
        let words = "updaterd fsync /x/state/quarantine/2/ad";
        assert_eq!(named(words), "updaterd fsync /quarantine/2/ad");
        assert_eq!(named("updaterd fsync /x/survey/state"), "updaterd fsync ");
    }
}
