//! Accepting: a thread for each connection, at most so many, from known peers only.

use std::{
    collections::BTreeMap,
    io,
    net::Shutdown,
    os::{
        fd::AsFd as _,
        unix::net::{UnixListener, UnixStream},
    },
    sync::Mutex,
    thread,
    time::Duration,
};

use cloister_config::User;
use cloister_domain::Class;
use cloister_wire::Problem;
use nix::unistd::geteuid;

use crate::{Connection, Daemon, Peer, ServeError, StartError, stop::Woken};

/// How much a daemon takes on at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections that are served at a time, one thread each; more are told to come back.
    pub connections_max: usize,
}

/// How often the accepting loop shows that it is alive; well below any watchdog interval.
const BEAT: Duration = Duration::from_secs(1);

/// How long a peer may leave an answer unread before its connection is given up.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// Pause after the system had no descriptor or memory for a new connection.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(100);

impl Daemon {
    /// Accepts connections until the daemon is to stop, and gives each its own thread with
    /// `handler`. A peer that the configuration does not admit, or that comes when
    /// `limits.connections_max` are open, is told so and closed.
    ///
    /// When the daemon is to stop, open connections are shut for reading: a handler that waits for
    /// the next request sees the end, one that is working can still write its answer, and
    /// [`Connection::is_closed`] becomes true. Returns when all handlers have.
    ///
    /// # Errors
    /// [`ServeError::System`] if the listener fails for good.
    pub fn serve<H>(
        &self,
        listener: UnixListener,
        limits: Limits,
        handler: H,
    ) -> Result<(), ServeError>
    where
        H: Fn(Connection) + Send + Sync,
    {
        let open = Open::default();
        listener
            .set_nonblocking(true)
            .map_err(|source| ServeError::System { act: "poll the socket", source })?;
        thread::scope(|scope| {
            let result = self.accept_all(&listener, |connection| {
                let connection = self.admitted(connection, &open, limits)?;
                let (open, handler) = (&open, &handler);
                let (id, connection) = connection;
                let work = move || {
                    let _closed_at_the_end = Ticket { open, id };
                    handler(connection);
                };
                let spawned = thread::Builder::new().name("connection".to_owned());
                if spawned.spawn_scoped(scope, work).is_err() {
                    tracing::warn!("no thread for a connection; it was dropped");
                }
                Some(())
            });
            drop(listener);
            self.pulse.rest();
            open.shut_for_reading();
            result
        })
    }

    fn accept_all(
        &self,
        listener: &UnixListener,
        mut take: impl FnMut(UnixStream) -> Option<()>,
    ) -> Result<(), ServeError> {
        loop {
            self.pulse.beat();
            match self.stop.or_readable(listener.as_fd(), BEAT) {
                Woken::Stopped => return Ok(()),
                Woken::TimedOut => continue,
                Woken::Readable => {}
            }
            match listener.accept() {
                Ok((stream, _unnamed)) => {
                    if take(stream).is_none() {
                        tracing::debug!("a connection was not taken");
                    }
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock
                    | io::ErrorKind::Interrupted
                    | io::ErrorKind::ConnectionAborted => {}
                    io::ErrorKind::InvalidInput => {
                        return Err(ServeError::System { act: "accept", source: error });
                    }
                    kind => {
                        tracing::warn!(?kind, "no new connection for a moment");
                        if self.stop.wait_timeout(SHORTAGE_PAUSE) {
                            return Ok(());
                        }
                    }
                },
            }
        }
    }

    /// The connection, if its peer may connect and there is room.
    fn admitted(
        &self,
        stream: UnixStream,
        open: &Open,
        limits: Limits,
    ) -> Option<(u64, Connection)> {
        let mut connection = Connection::over(stream).ok()?;
        connection.set_timeouts(None, Some(WRITE_TIMEOUT));
        let peer = connection.peer();
        if !admits(&self.peers, geteuid().as_raw(), peer) {
            connection.is_an_operators();
        }
        if connection.daemons_only().is_err() && !self.operators.contains(&peer.uid) {
            tracing::warn!(code = "daemon.peer", uid = peer.uid, "a peer was turned away");
            connection.turn_away(Problem::new(
                Class::Refused,
                "daemon.peer",
                "this user may not connect here; the configuration's [peers] and [operators] say who may",
            ));
            return None;
        }
        let socket = connection.socket().ok()?;
        let Some(id) = open.insert(socket, limits.connections_max) else {
            tracing::warn!(code = "daemon.busy", max = limits.connections_max, "turned away");
            connection.turn_away(Problem::new(
                Class::Busy,
                "daemon.busy",
                "as many connections are open as may be; try again in a few seconds",
            ));
            return None;
        };
        Some((id, connection))
    }
}

/// Whether `peer` may ask a daemon of user `own` anything: root always, else those configured, and
/// without configuration the daemon's own user.
pub(crate) fn admits(configured: &[u32], own: u32, peer: Peer) -> bool {
    peer.uid == 0
        || if configured.is_empty() { peer.uid == own } else { configured.contains(&peer.uid) }
}

/// The user ids of `users`, looked up once.
pub(crate) fn users(users: &[User]) -> Result<Vec<u32>, StartError> {
    users
        .iter()
        .map(|user| match user {
            User::Id(uid) => Ok(*uid),
            User::Name(name) => match nix::unistd::User::from_name(name) {
                Ok(Some(user)) => Ok(user.uid.as_raw()),
                Ok(None) | Err(_) => Err(StartError::User { name: name.clone() }),
            },
        })
        .collect()
}

/// The connections that are being served.
#[derive(Debug, Default)]
struct Open(Mutex<Sockets>);

#[derive(Debug, Default)]
struct Sockets {
    next: u64,
    sockets: BTreeMap<u64, UnixStream>,
}

impl Open {
    fn sockets(&self) -> std::sync::MutexGuard<'_, Sockets> {
        self.0.lock().expect("no holder of this lock panics")
    }

    fn insert(&self, socket: UnixStream, max: usize) -> Option<u64> {
        let mut open = self.sockets();
        if open.sockets.len() >= max {
            return None;
        }
        let id = open.next;
        open.next += 1;
        open.sockets.insert(id, socket);
        Some(id)
    }

    fn shut_for_reading(&self) {
        for socket in self.sockets().sockets.values() {
            // It fails only if the peer is gone, which is what it is to bring about.
            if let Err(error) = socket.shutdown(Shutdown::Read) {
                tracing::debug!(kind = ?error.kind(), "a connection was gone already");
            }
        }
    }
}

/// Gives a connection's place free when its handler ends, however it ends.
struct Ticket<'a> {
    open: &'a Open,
    id: u64,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.open.sockets().sockets.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Barrier, mpsc};

    use cloister_config::{Config, Role};
    use cloister_domain::Coded as _;

    use super::*;
    use crate::FrameError;

    fn daemon(folder: &tempfile::TempDir, more: &str) -> Daemon {
        let text = format!("[paths]\nruntime = \"{}\"\n{more}", folder.path().display());
        let config = Config::parse(&text).expect("valid");
        Daemon::embedded(Role::Recordd, None, config).expect("assembled")
    }

    #[test]
    fn root_the_own_user_and_the_configured_are_admitted() {
        let peer = |uid| Peer { uid, gid: 0, pid: 1 };
        for (configured, uid, expected) in [
            (&[][..], 0, true),
            (&[], 7, true),
            (&[], 8, false),
            (&[8], 0, true),
            (&[8], 8, true),
            (&[8], 7, false),
        ] {
            assert_eq!(admits(configured, 7, peer(uid)), expected, "{configured:?} {uid}");
        }
    }

    #[test]
    fn a_peer_that_is_no_user_is_named() {
        let unknown = [User::Name("no-such-user-here".to_owned())];
        assert_eq!(users(&unknown).expect_err("unknown").code(), "daemon.peers.user");
        let root = [User::Name("root".to_owned()), User::Id(5)];
        assert_eq!(users(&root).expect("known"), [0, 5]);
    }

    #[test]
    fn one_more_than_the_limit_is_told_to_come_back_and_stopping_ends_all() {
        let folder = tempfile::tempdir().expect("a folder");
        let daemon = daemon(&folder, "");
        let listener = daemon.listener().expect("bound");
        let served = Barrier::new(2);
        thread::scope(|scope| {
            let serving = scope.spawn(|| {
                daemon.serve(listener, Limits { connections_max: 1 }, |connection| {
                    served.wait();
                    while let Ok(Some(number)) = connection.read::<u32>() {
                        connection.write(&(number + 1)).expect("written");
                    }
                    // Shut for reading, the connection still takes an answer.
                    connection.write("goodbye").expect("written");
                })
            });
            let first = Connection::connect(&daemon.socket_path()).expect("connected");
            served.wait();
            assert_eq!(first.ask::<_, u32>(&1).expect("answered"), 2);

            let second = Connection::connect(&daemon.socket_path()).expect("connected");
            match second.read::<u32>() {
                Err(FrameError::TurnedAway(problem)) => assert_eq!(problem.code, "daemon.busy"),
                other => panic!("not turned away: {other:?}"),
            }
            daemon.stop().set();
            assert_eq!(first.expect::<String>().expect("a last word"), "goodbye");
            serving.join().expect("no panic").expect("served to the end");
        });
    }

    #[test]
    fn a_socket_that_is_served_is_not_taken_and_a_stale_one_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = daemon(&folder, "");
        drop(UnixListener::bind(first.socket_path()).expect("left by a dead process"));
        let listener = first.listener().expect("the stale one is replaced");
        let second = daemon(&folder, "");
        assert_eq!(second.listener().expect_err("held").code(), "daemon.listen.held");
        drop((listener, first));
        assert!(second.listener().is_ok());
    }

    #[test]
    fn a_handler_sees_that_its_client_went_away() {
        let folder = tempfile::tempdir().expect("a folder");
        let daemon = daemon(&folder, "");
        let listener = daemon.listener().expect("bound");
        let (gone, told) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| {
                daemon.serve(listener, Limits { connections_max: 4 }, |connection| {
                    assert!(connection.read::<u32>().expect("a frame").is_some());
                    while !connection.is_closed() {
                        thread::yield_now();
                    }
                    gone.send(()).expect("somebody waits");
                })
            });
            let client = Connection::connect(&daemon.socket_path()).expect("connected");
            client.write(&1).expect("written");
            drop(client);
            told.recv_timeout(Duration::from_secs(30)).expect("seen");
            daemon.stop().set();
        });
    }
}
