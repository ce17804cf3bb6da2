//! Listening sockets: the service manager's if it passed one, else bound here.

use std::{
    fs::{self, File, OpenOptions},
    io,
    net::{SocketAddr, TcpListener},
    os::{
        fd::OwnedFd,
        unix::{
            fs::{OpenOptionsExt as _, PermissionsExt as _},
            net::UnixListener,
        },
    },
    path::{Path, PathBuf},
};

use cloister_config::Role;
use nix::fcntl::{Flock, FlockArg, OFlag};

use crate::{Daemon, ListenError};

/// Held while this process serves a socket that it bound; the kernel lets go of it when it dies.
pub(crate) type SocketLock = Flock<File>;

impl Daemon {
    /// Where this daemon's own socket lies when no service manager passes one.
    #[must_use]
    pub fn socket_path(&self) -> PathBuf {
        match self.slot {
            Some(slot) => self.config.paths.engine_socket(slot),
            None => self.config.paths.socket(self.role),
        }
    }

    /// This daemon's Unix socket: the one inherited under the name `admin` (gatewayd) or the only
    /// one inherited, else bound at [`Daemon::socket_path`] in place of one that nobody serves.
    ///
    /// # Errors
    /// [`ListenError::Held`] if another process serves it.
    pub fn listener(&self) -> Result<UnixListener, ListenError> {
        let name = if self.role == Role::Gatewayd { "admin" } else { "" };
        match self.inherited(name) {
            Some(fd) => Ok(fd.into()),
            None => self.bind(&self.socket_path()),
        }
    }

    /// The TCP socket inherited under `name` (`FileDescriptorName=`), else bound at `address`.
    ///
    /// # Errors
    /// [`ListenError::System`] if the address cannot be bound.
    pub fn tcp_listener_named(
        &self,
        name: &str,
        address: SocketAddr,
    ) -> Result<TcpListener, ListenError> {
        match self.inherited(name) {
            Some(fd) => Ok(fd.into()),
            None => TcpListener::bind(address).map_err(ListenError::system("bind the address")),
        }
    }

    /// The descriptor inherited under `name`, if there is one; the empty name takes the first.
    #[must_use]
    pub fn listener_named(&self, name: &str) -> Option<OwnedFd> {
        self.inherited(name)
    }

    fn inherited(&self, name: &str) -> Option<OwnedFd> {
        let mut inherited = self.inherited.lock().expect("no holder of this lock panics");
        let place = inherited.iter().position(|one| name.is_empty() || one.name == name)?;
        Some(inherited.remove(place).fd)
    }

    fn bind(&self, path: &Path) -> Result<UnixListener, ListenError> {
        let folder = path.parent().expect("a socket path is made by joining");
        fs::create_dir_all(folder).map_err(ListenError::system("make the folder of sockets"))?;
        let lock = lock(&path.with_extension("lock"))?;
        // Holding the lock, a socket that is there was left by a process that died.
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(ListenError::system("remove an old socket")(error));
            }
            _ => {}
        }
        let listener = UnixListener::bind(path).map_err(ListenError::system("bind the socket"))?;
        // Who may connect is decided by SO_PEERCRED; other users need write permission to ask.
        fs::set_permissions(path, fs::Permissions::from_mode(0o666))
            .map_err(ListenError::system("open the socket to its peers"))?;
        self.locks.lock().expect("no holder of this lock panics").push(lock);
        Ok(listener)
    }
}

fn lock(path: &Path) -> Result<SocketLock, ListenError> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(path)
        .map_err(ListenError::system("open the lock of a socket"))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_file, errno)| match errno {
        nix::errno::Errno::EWOULDBLOCK => ListenError::Held,
        other => ListenError::system("lock a socket")(other.into()),
    })
}
