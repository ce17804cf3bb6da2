//! A conversation of frames over a Unix socket: a little-endian `u32` length, then one JSON value.

use std::{
    io::{self, Read, Write},
    net::Shutdown,
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::net::UnixStream,
    },
    path::Path,
    sync::Mutex,
    time::Duration,
};

use cloister_domain::{Class, Coded};
use cloister_wire::{FRAME_BYTES_MAX, Problem};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{getsockopt, sockopt},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

use crate::{Stop, clock::Stopwatch, stop::Woken};

/// As much of a frame as is written at a time.
const PIECE_BYTES: usize = 64 << 10;
/// POLLRDHUP (Linux, asm-generic/poll.h), which nix does not name.
const HUNG_UP: PollFlags = PollFlags::from_bits_retain(0x2000);

/// Who is at the other end, as the kernel knows it (SO_PEERCRED): the process that connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its process; 0 if it is in a namespace that this process cannot see.
    pub pid: i32,
}

/// A frame that could not be read or written. Never quotes what it held.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Nobody serves the socket, or not for this user.
    #[error("no daemon answers on its socket; look at `cloister status` and the journal")]
    Connect(#[source] io::Error),
    /// The connection failed.
    #[error("the connection to another process failed")]
    Broken(#[source] io::Error),
    /// This daemon is to stop, and waits no longer.
    #[error("the daemon is stopping; ask again when it is back")]
    Stopping,
    /// The other end did not answer, or did not read, in time.
    #[error("the other process did not go on in time")]
    TimedOut,
    /// A message that a descriptor belongs to came without one.
    #[error("a message came without the file that belongs to it")]
    Descriptor,
    /// The connection ended inside a frame.
    #[error("the connection ended inside a message")]
    CutOff,
    /// A frame is longer than [`FRAME_BYTES_MAX`].
    #[error("a message of {bytes} bytes is longer than {FRAME_BYTES_MAX}")]
    TooLong {
        /// Its length.
        bytes: u64,
    },
    /// A frame is not the message that was expected.
    #[error("a message is not of the expected form, at byte {position}")]
    Form {
        /// Where in the frame.
        position: usize,
    },
    /// The daemon turned the connection away: too many others, or not for this user.
    #[error("{0}")]
    TurnedAway(Problem),
}

impl Coded for FrameError {
    fn class(&self) -> Class {
        match self {
            Self::Connect(_) | Self::Broken(_) | Self::TimedOut | Self::CutOff => Class::Fault,
            Self::Stopping => Class::Busy,
            Self::TooLong { .. } | Self::Form { .. } | Self::Descriptor => Class::Refused,
            Self::TurnedAway(problem) => problem.class,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Connect(_) => "socket.connect",
            Self::Broken(_) => "socket.broken",
            Self::Stopping => "socket.stopping",
            Self::TimedOut => "socket.timeout",
            Self::Descriptor => "socket.descriptor",
            Self::CutOff => "socket.cut-off",
            Self::TooLong { .. } => "socket.frame.too-long",
            Self::Form { .. } => "socket.frame.form",
            Self::TurnedAway(_) => "socket.turned-away",
        }
    }
}

impl FrameError {
    pub(crate) fn broken(source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::TimedOut,
            _ => Self::Broken(source),
        }
    }
}

/// What a daemon says to a connection that it does not take; the shape of a `Reply` and, under
/// another name, of the event streams' last word.
#[derive(Debug, Serialize, Deserialize)]
enum TurnedAway {
    #[serde(rename = "Err", alias = "problem")]
    Problem(Problem),
}

/// One conversation. One thread may read while another writes.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    peer: Peer,
    /// The other end is a person's, who may not ask what only daemons may.
    operator: bool,
    /// Keeps frames of two writers apart.
    writing: Mutex<()>,
    /// The wish that ends waiting for the other end.
    stop: Option<Stop>,
}

impl Connection {
    /// Connects to the daemon that serves `path`.
    ///
    /// # Errors
    /// [`FrameError::Connect`].
    pub fn connect(path: &Path) -> Result<Self, FrameError> {
        let stream = UnixStream::connect(path).map_err(FrameError::Connect)?;
        Self::over(stream).map_err(FrameError::Connect)
    }

    /// A conversation over a socket that is connected already, such as one of a pair.
    ///
    /// # Errors
    /// If the kernel does not tell who is at the other end.
    pub fn over(stream: UnixStream) -> io::Result<Self> {
        let credentials = getsockopt(&stream, sockopt::PeerCredentials)?;
        let peer = Peer { uid: credentials.uid(), gid: credentials.gid(), pid: credentials.pid() };
        Ok(Self { stream, peer, operator: false, writing: Mutex::new(()), stop: None })
    }

    /// The same, but whoever waits for a message goes on with [`FrameError::Stopping`] once `stop` is
    /// set: a daemon that ends does not wait for another that has ended before it.
    #[must_use]
    pub fn until(mut self, stop: &Stop) -> Self {
        self.stop = Some(stop.clone());
        self
    }

    /// `other`, waiting no longer than this one.
    pub(crate) fn stopping_with(&self, other: Self) -> Self {
        Self { stop: self.stop.clone(), ..other }
    }

    /// From here on the other end is a person's.
    pub(crate) const fn is_an_operators(&mut self) {
        self.operator = true;
    }

    /// Refuses what only a daemon of this appliance may ask.
    ///
    /// # Errors
    /// `daemon.operator` if the configuration admits the other end as an operator.
    pub fn daemons_only(&self) -> Result<(), Problem> {
        if !self.operator {
            return Ok(());
        }
        let text = "only the appliance's own daemons may ask this; use the command `cloister`";
        Err(Problem::new(Class::Refused, "daemon.operator", text))
    }

    /// Who is at the other end.
    #[must_use]
    pub const fn peer(&self) -> Peer {
        self.peer
    }

    /// The next message, or none if the other end is done.
    ///
    /// # Errors
    /// [`FrameError`]; after any of them the connection is of no more use, except after
    /// [`FrameError::Form`].
    pub fn read<T: DeserializeOwned>(&self) -> Result<Option<T>, FrameError> {
        let Some(frame) = self.frame()? else { return Ok(None) };
        serde_json::from_slice(&frame).map(Some).map_err(|error| {
            match serde_json::from_slice(&frame) {
                Ok(TurnedAway::Problem(problem)) => FrameError::TurnedAway(problem),
                // The text of serde_json's errors quotes the input; the place does not. A frame is
                // written on one line, so the column is the byte.
                Err(_) => FrameError::Form { position: error.column() },
            }
        })
    }

    /// The next message, where the other end owes one.
    ///
    /// # Errors
    /// As [`Connection::read`]; [`FrameError::CutOff`] if the other end is done.
    pub fn expect<T: DeserializeOwned>(&self) -> Result<T, FrameError> {
        self.read()?.ok_or(FrameError::CutOff)
    }

    /// Asks and waits for the one answer.
    ///
    /// # Errors
    /// As [`Connection::write`] and [`Connection::expect`].
    pub fn ask<Q: Serialize, A: DeserializeOwned>(&self, question: &Q) -> Result<A, FrameError> {
        self.write(question)?;
        self.expect()
    }

    /// Waits for the first byte of the next frame, where a wish to stop must be heard meanwhile.
    fn wait(&self) -> Result<(), FrameError> {
        let Some(stop) = &self.stop else { return Ok(()) };
        let since = Stopwatch::start();
        let most = self.stream.read_timeout().map_err(FrameError::Broken)?.unwrap_or(Duration::MAX);
        loop {
            match stop.or_readable(self.stream.as_fd(), most.saturating_sub(since.elapsed())) {
                Woken::Readable => return Ok(()),
                Woken::Stopped => return Err(FrameError::Stopping),
                Woken::TimedOut if since.elapsed() >= most => return Err(FrameError::TimedOut),
                // A signal; the time is not over.
                Woken::TimedOut => {}
            }
        }
    }

    /// The bytes of the next frame; wiped when dropped, since they may be people's words.
    fn frame(&self) -> Result<Option<Zeroizing<Vec<u8>>>, FrameError> {
        self.wait()?;
        let mut stream = &self.stream;
        let mut prefix = [0; 4];
        let mut read = 0;
        while let Some(rest @ [_, ..]) = prefix.get_mut(read..) {
            match stream.read(rest) {
                Ok(0) if read == 0 => return Ok(None),
                Ok(0) => return Err(FrameError::CutOff),
                Ok(count) => read += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if read == 0 && error.kind() == io::ErrorKind::ConnectionReset => {
                    return Ok(None);
                }
                Err(error) => return Err(FrameError::broken(error)),
            }
        }
        let length = u32::from_le_bytes(prefix);
        if length > FRAME_BYTES_MAX {
            return Err(FrameError::TooLong { bytes: length.into() });
        }
        // All at once, so that no copy is left behind by growing; pages that are never written to
        // cost nothing, so a lying prefix costs address space only.
        let length = usize::try_from(length).expect("at most 32 MiB");
        let mut frame = Zeroizing::new(Vec::with_capacity(length));
        let limit = u64::from(u32::from_le_bytes(prefix));
        stream.take(limit).read_to_end(&mut frame).map_err(FrameError::broken)?;
        if frame.len() == length { Ok(Some(frame)) } else { Err(FrameError::CutOff) }
    }

    /// Sends a message.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] before a byte is sent; [`FrameError::TimedOut`] and
    /// [`FrameError::Broken`] if the other end does not read or is gone.
    pub fn write<T: Serialize + ?Sized>(&self, message: &T) -> Result<(), FrameError> {
        let mut counter = Counter(0);
        let serialisable = "messages serialise: their maps have text keys and no value fails";
        serde_json::to_writer(&mut counter, message).expect(serialisable);
        let length = u32::try_from(counter.0)
            .ok()
            .filter(|length| *length <= FRAME_BYTES_MAX)
            .ok_or(FrameError::TooLong { bytes: counter.0 })?;
        let _one_frame_at_a_time = self.writing.lock().expect("no holder of this lock panics");
        let mut frame = Outgoing::to(&self.stream, length);
        let written = serde_json::to_writer(&mut frame, message).map_err(io::Error::from);
        written.and_then(|()| frame.flush()).map_err(FrameError::broken)
    }

    /// Whether the other end has closed the connection, or this daemon is stopping: nobody will
    /// read the answer, so work on it can end. A peer that closed its sending half counts as gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        let mut set = [PollFd::new(self.stream.as_fd(), HUNG_UP)];
        match poll(&mut set, PollTimeout::ZERO) {
            Ok(count) => count > 0,
            Err(_interrupted) => false,
        }
    }

    /// Waits until the other end has closed the connection, or `other` is readable or at its end; says
    /// whether it was the connection.
    pub(crate) fn closes_before(&self, other: BorrowedFd<'_>) -> bool {
        let waited =
            [PollFd::new(self.stream.as_fd(), HUNG_UP), PollFd::new(other, PollFlags::POLLIN)];
        loop {
            let mut set = waited.clone();
            match poll(&mut set, PollTimeout::NONE) {
                // A flag that nix does not name is none that it says no to.
                Ok(_) => return set.first().is_some_and(|line| line.any() != Some(false)),
                Err(Errno::EINTR) => {}
                Err(errno) => panic!("poll of own descriptors: {errno}"),
            }
        }
    }

    /// Ends the conversation from another thread: whoever reads or writes here sees the end, and so
    /// does the peer.
    pub fn shut(&self) {
        // It fails only if the peer is gone, which is what it is to bring about.
        if let Err(error) = self.stream.shutdown(Shutdown::Both) {
            tracing::debug!(kind = ?error.kind(), "a connection was gone already");
        }
    }

    /// Bounds how long one read and one write may wait; none is for ever.
    ///
    /// # Panics
    /// If `timeout` is zero, which the system has no meaning for.
    pub fn set_timeout(&self, timeout: Option<Duration>) {
        self.set_timeouts(timeout, timeout);
    }

    pub(crate) fn set_timeouts(&self, read: Option<Duration>, write: Option<Duration>) {
        let valid = "an open socket takes any timeout but zero";
        self.stream.set_read_timeout(read).expect(valid);
        self.stream.set_write_timeout(write).expect(valid);
    }

    /// Answers a connection that is not taken.
    pub(crate) fn turn_away(&self, problem: Problem) {
        if let Err(error) = self.write(&TurnedAway::Problem(problem)) {
            tracing::debug!(
                code = error.code(),
                "a connection that was turned away did not hear why"
            );
        }
    }

    /// The socket itself, for what frames do not carry.
    pub(crate) const fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// The same socket, to be shut from another thread.
    pub(crate) fn socket(&self) -> io::Result<UnixStream> {
        self.stream.try_clone()
    }
}

/// A frame on its way, of which never more than a piece is in memory. Wiped when dropped, since it may be
/// people's words.
struct Outgoing<'a> {
    stream: &'a UnixStream,
    piece: Zeroizing<Vec<u8>>,
}

impl<'a> Outgoing<'a> {
    /// One of so many bytes behind its prefix.
    fn to(stream: &'a UnixStream, length: u32) -> Self {
        let bytes = usize::try_from(length).expect("at most 32 MiB").saturating_add(4);
        let mut piece = Zeroizing::new(Vec::with_capacity(bytes.min(PIECE_BYTES)));
        piece.extend_from_slice(&length.to_le_bytes());
        Self { stream, piece }
    }
}

impl Write for Outgoing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.piece.len() == self.piece.capacity() {
            self.flush()?;
        }
        // Never more than it has room for: growing would leave a copy behind.
        let count = bytes.len().min(self.piece.capacity() - self.piece.len());
        self.piece.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.piece)?;
        self.piece.clear();
        Ok(())
    }
}

/// Counts the bytes of a message before any is sent.
struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += u64::try_from(bytes.len()).expect("a length fits 64 bits");
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Connection, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        (Connection::over(ours).expect("credentials"), theirs)
    }

    #[test]
    fn messages_pass_in_order_and_the_end_is_seen() {
        let (ours, theirs) = pair();
        let theirs = Connection::over(theirs).expect("credentials");
        ours.write("one").expect("written");
        ours.write("two").expect("written");
        assert_eq!(theirs.read::<String>().expect("read").as_deref(), Some("one"));
        assert!(!theirs.is_closed());
        drop(ours);
        assert!(theirs.is_closed());
        assert_eq!(theirs.read::<String>().expect("read").as_deref(), Some("two"));
        assert_eq!(theirs.read::<String>().expect("the end"), None);
    }

    #[test]
    fn the_peer_of_a_pair_is_this_process() {
        let (ours, _theirs) = pair();
        assert_eq!(ours.peer().uid, nix::unistd::geteuid().as_raw());
        assert_eq!(ours.peer().pid.unsigned_abs(), std::process::id());
    }

    #[test]
    fn a_frame_beyond_the_bound_is_refused_by_its_prefix() {
        let (ours, mut theirs) = pair();
        theirs.write_all(&(FRAME_BYTES_MAX + 1).to_le_bytes()).expect("written");
        let error = ours.read::<String>().expect_err("too long");
        assert_eq!(error.code(), "socket.frame.too-long");
    }

    #[test]
    fn a_frame_beyond_the_bound_is_not_sent() {
        let (ours, _theirs) = pair();
        // Two quotes make it one byte too long.
        let text = "x".repeat(usize::try_from(FRAME_BYTES_MAX).expect("fits") - 1);
        assert_eq!(ours.write(&text).expect_err("too long").code(), "socket.frame.too-long");
    }

    #[test]
    fn a_frame_of_many_pieces_arrives_whole() {
        // With its prefix and its quotes, up to one piece and a little beyond, and far beyond.
        for letters in [PIECE_BYTES - 7, PIECE_BYTES - 6, PIECE_BYTES - 5, 5 * PIECE_BYTES, 3 << 20]
        {
            let (ours, theirs) = pair();
            let theirs = Connection::over(theirs).expect("credentials");
            let text: String = ('a'..='z').cycle().take(letters).collect();
            let read = std::thread::scope(|scope| {
                scope.spawn(|| ours.write(&text).and_then(|()| ours.write("next")).expect("sent"));
                let read: String = theirs.expect().expect("read");
                assert_eq!(theirs.expect::<String>().expect("read"), "next");
                read
            });
            assert!(read == text, "{letters} letters");
        }
    }

    #[test]
    fn a_connection_that_ends_inside_a_frame_is_an_error() {
        for part in [&[9, 0][..], &[9, 0, 0, 0], &[9, 0, 0, 0, b'"']] {
            let (ours, mut theirs) = pair();
            theirs.write_all(part).expect("written");
            theirs.shutdown(Shutdown::Both).expect("shut");
            assert_eq!(ours.read::<String>().expect_err("cut").code(), "socket.cut-off");
        }
    }

    #[test]
    fn a_message_of_another_form_is_named_by_place_only() {
        let (ours, theirs) = pair();
        let theirs = Connection::over(theirs).expect("credentials");
        theirs.write("patient Jane Doe").expect("written");
        let error = ours.read::<u32>().expect_err("no number");
        assert_eq!(error.to_string(), "a message is not of the expected form, at byte 18");
        theirs.write(&7).expect("written");
        assert_eq!(ours.read::<u32>().expect("the next is good"), Some(7));
    }

    #[test]
    fn being_turned_away_is_told_whatever_answer_was_awaited() {
        let (ours, theirs) = pair();
        let problem = Problem::new(Class::Busy, "daemon.busy", "later");
        Connection::over(theirs).expect("credentials").turn_away(problem.clone());
        match ours.read::<cloister_wire::intake::Event>() {
            Err(FrameError::TurnedAway(told)) => assert_eq!(told, problem),
            other => panic!("not turned away: {other:?}"),
        }
    }

    #[test]
    fn a_conversation_is_ended_from_another_thread() {
        let (ours, theirs) = pair();
        let theirs = Connection::over(theirs).expect("credentials");
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| ours.read::<u32>());
            ours.shut();
            assert_eq!(reader.join().expect("no panic").expect("the end"), None);
        });
        assert!(theirs.is_closed());
    }

    #[test]
    fn a_peer_that_says_nothing_is_given_up() {
        let (ours, _theirs) = pair();
        ours.set_timeout(Some(Duration::from_millis(1)));
        assert_eq!(ours.read::<u32>().expect_err("silence").code(), "socket.timeout");
    }
}
