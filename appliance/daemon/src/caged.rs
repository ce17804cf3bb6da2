//! Processes that answer one question about one file and end: both ends of the conversation.
//!
//! The asker sends the question and the file; the process says that it has started, with its cage
//! shut, and then answers. The service manager starts a program for one connection, which is its
//! standard input: a [`scanner`] has its conversation there, while over that of a [`program`] come
//! conversations ([`Connection::open_conversation`]), each with a process of its own.

use std::{
    fs::File,
    io::{self, Write as _},
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, RawFd},
        unix::{fs::FileExt as _, net::UnixStream},
    },
    process::ExitCode,
    time::Duration,
};

use cloister_config::{Config, Role};
use cloister_domain::{ByteCount, Class, Coded};
use cloister_wire::{
    Problem,
    inspect::{Ended, Started},
};
use nix::unistd::dup2_stdin;
use serde::{Serialize, de::DeserializeOwned};

pub use crate::cell::Cell;
use crate::{
    Connection, FrameError, StartError, arguments::Arguments, births, clock::Stopwatch, idle, log,
    pen, process, read_config, serve,
};

/// How long a process may take to start, and its peer to send its question.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long the asker waits for the process to start, and beyond the time after which the kernel ends
/// it.
const PATIENCE: Patience = Patience { start: START_LIMIT, grace: Duration::from_secs(5) };
/// More than `/proc/self/status` holds.
const STATUS_BYTES_MAX: usize = 8 << 10;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// The process did not start; nothing is known of the file.
    #[error("the process that inspects files did not start; see that its socket is there")]
    Start(#[source] FrameError),
    /// The process ended over the file.
    #[error(transparent)]
    Ended(Ended),
}

impl Coded for AskError {
    fn class(&self) -> Class {
        match self {
            Self::Start(_) => Class::Fault,
            Self::Ended(ended) => ended.class(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Start(_) => "inspect.unavailable",
            Self::Ended(ended) => ended.code(),
        }
    }
}

/// How long an asker waits.
#[derive(Clone, Copy)]
struct Patience {
    start: Duration,
    grace: Duration,
}

/// Asks the process at the other end of `connection` about `file`, which it may look at for `seconds`.
///
/// # Errors
/// [`AskError::Start`] when it did not begin to look at the file; [`AskError::Ended`] when it began and
/// gave no answer.
pub fn ask<Q: Serialize, A: DeserializeOwned>(
    connection: &Connection,
    question: &Q,
    file: BorrowedFd<'_>,
    seconds: u32,
) -> Result<A, AskError> {
    ask_within(PATIENCE, connection, question, file, seconds)
}

fn ask_within<Q: Serialize, A: DeserializeOwned>(
    patience: Patience,
    connection: &Connection,
    question: &Q,
    file: BorrowedFd<'_>,
    seconds: u32,
) -> Result<A, AskError> {
    connection.set_timeout(Some(patience.start));
    let started = connection
        .write(question)
        .and_then(|()| connection.pass(file))
        .and_then(|()| connection.expect::<Started>());
    started.map_err(AskError::Start)?;
    let limit = Duration::from_secs(seconds.into());
    let since = Stopwatch::start();
    connection.set_timeout(Some(limit.saturating_add(patience.grace)));
    connection.expect().map_err(|error| match error {
        // This daemon ends; nothing is known of the file.
        FrameError::Stopping => AskError::Start(FrameError::Stopping),
        FrameError::TimedOut => AskError::Ended(Ended::TimedOut),
        _ if since.elapsed() >= limit => AskError::Ended(Ended::TimedOut),
        _ => AskError::Ended(Ended::Crashed),
    })
}

/// The whole of the program's `main`: for each conversation that comes, a process takes the question and
/// the file, takes idle weight unless a service manager forbids it, decides with `cell` how small the cage
/// is for a file of that size, shuts it, and sends what `judge` finds, given the file and a way to ask for
/// the largest resident size so far.
pub fn program<Q: DeserializeOwned, A: Serialize>(
    role: Role,
    cell: impl FnOnce(ByteCount) -> Cell,
    judge: impl FnOnce(&Q, &File, &Peak) -> A,
) -> ExitCode {
    ended(
        role,
        begin(role).and_then(|(_config, line)| {
            let Some(conversation) = births::each(line)? else { return Ok(()) };
            let shut = |bytes, socket| {
                idle::enter().unwrap_or_default();
                cell(bytes).shut(socket)
            };
            converse(&conversation, shut, judge)
        }),
    )
}

/// The whole of the `main` of a program that starts the facility's scanner for one file: as [`program`],
/// with a cage in which a foreign program can run.
pub fn scanner<Q: DeserializeOwned, A: Serialize>(
    role: Role,
    judge: impl FnOnce(&Config, &Q, &File) -> A,
) -> ExitCode {
    ended(
        role,
        begin(role).and_then(|(config, conversation)| {
            let update = &config.update;
            let shut = |_bytes, _socket| pen::shut(update.scanner_memory_bytes, update.scanner_s);
            converse(&conversation, shut, |question, file, _peak| judge(&config, question, file))
        }),
    )
}

fn ended(role: Role, outcome: Result<(), ProgramError>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to be told when standard error is gone too.
            writeln!(io::stderr(), "cloister-{}: {error} [{}]", role.name(), error.code())
                .unwrap_or_default();
            ExitCode::FAILURE
        }
    }
}

/// What ends the program without an answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProgramError {
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("this user may not ask")]
    Peer,
}

impl ProgramError {
    fn code(&self) -> &'static str {
        match self {
            Self::Start(error) => error.code(),
            Self::Frame(error) => error.code(),
            Self::Peer => "daemon.peer",
        }
    }
}

/// Reads the configuration and takes the connection, if its other end may ask.
fn begin(role: Role) -> Result<(Config, Connection), ProgramError> {
    let arguments = Arguments::parse(role, std::env::args_os().skip(1))?;
    let config = read_config(&arguments)?;
    log::install(config.log.level)?;
    process::no_core_dumps()?;
    process::panics_name_the_place_only();
    let connection = standard_input().map_err(system("take the connection"))?;
    connection.set_timeout(Some(START_LIMIT));
    admit(role, &config, &connection)?;
    Ok((config, connection))
}

fn converse<Q: DeserializeOwned, A: Serialize>(
    connection: &Connection,
    shut: impl FnOnce(ByteCount, RawFd) -> Result<&'static str, StartError>,
    judge: impl FnOnce(&Q, &File, &Peak) -> A,
) -> Result<(), ProgramError> {
    connection.set_timeout(Some(START_LIMIT));
    let peak = Peak::open().map_err(system("look at its own memory"))?;
    let question: Q = connection.expect()?;
    let file = File::from(connection.take()?);
    let bytes = file.metadata().map_err(system("examine the file"))?.len();
    shut(ByteCount(bytes), connection.stream().as_raw_fd())?;
    connection.write(&Started::Started)?;
    connection.write(&judge(&question, &file, &peak))?;
    Ok(())
}

fn system(act: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::System { act, source }
}

/// The connection that the service manager accepted; nothing else is left where it was.
fn standard_input() -> io::Result<Connection> {
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    dup2_stdin(File::open("/dev/null")?)?;
    Connection::over(UnixStream::from(socket))
}

fn admit(role: Role, config: &Config, connection: &Connection) -> Result<(), ProgramError> {
    let peers = serve::users(config.peers.of(role))?;
    let own = nix::unistd::geteuid().as_raw();
    if serve::admits(&peers, own, connection.peer()) {
        return Ok(());
    }
    connection.turn_away(Problem::new(
        Class::Refused,
        "daemon.peer",
        "this user may not connect here; the configuration's [peers] and [operators] say who may",
    ));
    Err(ProgramError::Peer)
}

/// The process's own memory, looked up through a file that was opened before the cage was shut.
#[derive(Debug)]
pub struct Peak(File);

impl Peak {
    fn open() -> io::Result<Self> {
        File::open("/proc/self/status").map(Self)
    }

    /// The largest resident size so far (`VmHWM`); zero if the kernel does not say.
    #[must_use]
    pub fn bytes(&self) -> ByteCount {
        let mut status = [0; STATUS_BYTES_MAX];
        let length = self.0.read_at(&mut status, 0).unwrap_or(0);
        let text = status.get(..length).and_then(|text| std::str::from_utf8(text).ok());
        let line = text.and_then(|text| text.lines().find_map(|line| line.strip_prefix("VmHWM:")));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        ByteCount(kib.unwrap_or(0).saturating_mul(1024))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the asker gets from a process that does `act` with its end of the connection.
    fn asked(seconds: u32, act: impl FnOnce(Connection) + Send) -> Result<String, AskError> {
        let (here, there) = UnixStream::pair().expect("a pair");
        let (here, there) = (Connection::over(here), Connection::over(there));
        let (here, there) = (here.expect("credentials"), there.expect("credentials"));
        let file = tempfile::tempfile().expect("a file");
        std::thread::scope(|scope| {
            scope.spawn(|| act(there));
            ask_within(SHORT, &here, &"question", file.as_fd(), seconds)
        })
    }

    /// No test waits as long as an asker.
    const SHORT: Patience =
        Patience { start: Duration::from_secs(1), grace: Duration::from_millis(500) };

    fn taken(connection: &Connection) {
        assert_eq!(connection.expect::<String>().expect("a question"), "question");
        connection.take().map(drop).expect("a file");
        connection.write(&Started::Started).expect("told");
    }

    #[test]
    fn an_answer_is_given_and_every_other_end_is_told_apart() {
        let answered = asked(9, |connection| {
            taken(&connection);
            connection.write("answer").expect("written");
        });
        assert_eq!(answered.expect("answered"), "answer");
        let code = |outcome: Result<String, AskError>| outcome.expect_err("no answer").code();
        assert_eq!(code(asked(9, |connection| taken(&connection))), "inspect.crashed");
        assert_eq!(code(asked(0, |connection| taken(&connection))), "inspect.timeout");
        assert_eq!(code(asked(9, drop)), "inspect.unavailable");
        let early = |connection: Connection| {
            connection.expect::<String>().expect("a question");
        };
        assert_eq!(code(asked(9, early)), "inspect.unavailable");
    }

    /// What [`asked`] gets from a process that does `act` and then neither speaks nor ends.
    fn asked_in_vain(act: impl FnOnce(&Connection) + Send) -> &'static str {
        let (done, is_done) = std::sync::mpsc::channel();
        let silent = move |connection: Connection| {
            act(&connection);
            // Until nobody waits any more, or far beyond what anybody should.
            let _either: Result<(), _> = is_done.recv_timeout(Duration::from_secs(20));
        };
        let since = Stopwatch::start();
        let (here, there) = UnixStream::pair().expect("a pair");
        let (here, there) = (Connection::over(here), Connection::over(there));
        let (here, there) = (here.expect("credentials"), there.expect("credentials"));
        let file = tempfile::tempfile().expect("a file");
        let outcome: Result<String, _> = std::thread::scope(|scope| {
            scope.spawn(move || silent(there));
            let outcome = ask_within(SHORT, &here, &"question", file.as_fd(), 0);
            drop(done);
            outcome
        });
        assert!(since.elapsed() < Duration::from_secs(10), "nobody waits that long");
        outcome.expect_err("no answer").code()
    }

    #[test]
    fn a_process_that_says_nothing_is_waited_for_as_long_as_it_may_take_and_no_longer() {
        assert_eq!(asked_in_vain(|_connection| {}), "inspect.unavailable");
        assert_eq!(asked_in_vain(taken), "inspect.timeout");
    }

    #[test]
    fn an_answer_that_is_none_and_one_before_its_time_are_no_answers() {
        let code = |outcome: Result<String, AskError>| outcome.expect_err("no answer").code();
        let babbles = |connection: Connection| {
            taken(&connection);
            connection.write(&["no", "answer"]).expect("written");
        };
        assert_eq!(code(asked(9, babbles)), "inspect.crashed");
        let hasty = |connection: Connection| connection.write("answer").expect("written");
        assert_eq!(code(asked(9, hasty)), "inspect.unavailable");
    }

    #[test]
    fn the_largest_size_is_known() {
        let peak = Peak::open().expect("opened");
        assert!(peak.bytes().0 > 1 << 20, "a test has more than a MiB");
    }
}
