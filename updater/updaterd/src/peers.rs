//! The daemons that updaterd asks: recordd, the engines, corpusd. Each question has its own
//! connection and a bound on how long its answer may take.

use std::{ops::ControlFlow, path::PathBuf, time::Duration};

use cloister_config::{Paths, Role as Daemon};
use cloister_daemon::{Connection, FrameError, Stop, clock::Stopwatch};
use cloister_domain::{
    Digest, GenerationId, LabelSet, Principal, RecordIndex, Sensitive, Slot, TokenCount,
};
use cloister_shelf::Shelved;
use cloister_wire::{
    Reply, corpus,
    engine::{self, Event, Message, Role, Sampling, Status},
    record,
};

use crate::{error::ActError, exam::Retrieval};

/// An append is one fsync of a small file; the slowest of disks is through with it long before.
const RECORD_TIMEOUT: Duration = Duration::from_secs(15);
const STATUS_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest models are mapped and checked within minutes.
const LOAD_TIMEOUT: Duration = Duration::from_secs(900);
/// Between two events of an answer; a held-out text of megabytes on a CPU.
const ENGINE_TIMEOUT: Duration = Duration::from_secs(900);
/// What an engine says that has no room for one more that waits.
const FULL: &str = "engine.busy";
/// What it is asked to see whether it works.
const WORD: &str = "Hello";
/// All documents of a release and of the facility are embedded.
const STAGE_TIMEOUT: Duration = Duration::from_secs(3600);
const SEARCH_TIMEOUT: Duration = Duration::from_secs(60);

/// Entries that are read at a time.
const PAGE: u32 = 256;

/// The log. What cannot be recorded does not happen.
#[derive(Debug)]
pub(crate) struct Recordd {
    socket: PathBuf,
    timeout: Duration,
}

/// Where the log stands.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    /// How many entries there are.
    pub(crate) size: u64,
    /// Merkle root over them.
    pub(crate) root: Digest,
    /// The log's verifier key.
    pub(crate) log_key: String,
    /// The key that waits to succeed it, which is lost.
    pub(crate) successor: Option<record::Successor>,
    /// Checkpoints that it signed and no longer contains: it was restored from an old copy.
    pub(crate) lacks: Vec<record::Evidence>,
}

impl Recordd {
    pub(crate) fn new(paths: &Paths) -> Self {
        Self { socket: paths.socket(Daemon::Recordd), timeout: RECORD_TIMEOUT }
    }

    /// Appends an entry; durable when it returns. The same act again yields the first entry.
    pub(crate) fn append(&self, entry: &record::Entry) -> Result<RecordIndex, ActError> {
        self.appended(&record::Request::Append(entry.clone()))
    }

    /// Appends a person's own envelope, byte for byte.
    pub(crate) fn deposit(
        &self,
        event: record::Event,
        act: String,
        envelope: String,
    ) -> Result<RecordIndex, ActError> {
        self.appended(&record::Request::Deposit { event, act, envelope })
    }

    /// Hands in what lets the machine's key succeed the log's; durable when it returns.
    pub(crate) fn succeed(&self, envelopes: Vec<String>) -> Result<RecordIndex, ActError> {
        self.appended(&record::Request::Succeed { envelopes })
    }

    /// How many entries there are.
    pub(crate) fn size(&self) -> Result<u64, ActError> {
        Ok(self.head()?.size)
    }

    /// Where it stands.
    pub(crate) fn head(&self) -> Result<Head, ActError> {
        match self.ask(&record::Request::Head)? {
            record::Answer::Head { size, root, log_key, successor, rolled_back: lacks, .. } => {
                Ok(Head { size, root, log_key, successor, lacks })
            }
            _ => Err(ActError::Answer { daemon: "recordd" }),
        }
    }

    /// The first entry's envelope, if the log is not empty.
    pub(crate) fn first(&self) -> Result<Option<String>, ActError> {
        Ok(self.read(RecordIndex(0), 1)?.into_iter().next())
    }

    /// At most `count` envelopes from `from` on.
    pub(crate) fn read(&self, from: RecordIndex, count: u32) -> Result<Vec<String>, ActError> {
        match self.ask(&record::Request::Read { from, count })? {
            record::Answer::Entries(entries) => Ok(entries),
            _ => Err(ActError::Answer { daemon: "recordd" }),
        }
    }

    /// Shows `visit` every envelope from `from` on, oldest first, until it breaks.
    pub(crate) fn each(
        &self,
        mut from: RecordIndex,
        mut visit: impl FnMut(RecordIndex, &str) -> ControlFlow<()>,
    ) -> Result<(), ActError> {
        loop {
            let page = self.read(from, PAGE)?;
            if page.is_empty() {
                return Ok(());
            }
            for entry in page {
                if visit(from, &entry).is_break() {
                    return Ok(());
                }
                from.0 = from.0.saturating_add(1);
            }
        }
    }

    fn appended(&self, request: &record::Request) -> Result<RecordIndex, ActError> {
        // Acts are idempotent, so a connection that broke after the entry was durable, such as by a
        // restart of recordd, is repaired by asking once more. One that does not answer would not then.
        let answer = match self.ask(request) {
            Err(ActError::Recordd(error)) if !matches!(error, FrameError::TimedOut) => {
                self.ask(request)?
            }
            other => other?,
        };
        match answer {
            record::Answer::Appended { index, .. } => Ok(index),
            _ => Err(ActError::Answer { daemon: "recordd" }),
        }
    }

    fn ask(&self, request: &record::Request) -> Result<record::Answer, ActError> {
        let connection = Connection::connect(&self.socket).map_err(ActError::Recordd)?;
        connection.set_timeout(Some(self.timeout));
        let reply: Reply<record::Answer> = connection.ask(request).map_err(ActError::Recordd)?;
        reply.map_err(ActError::Told)
    }
}

/// What one completion took.
#[derive(Clone, Debug)]
pub(crate) struct Completion {
    pub(crate) text: Sensitive<String>,
    pub(crate) tokens: TokenCount,
    pub(crate) decode_microseconds: u64,
}

/// The engine in one slot. Nobody waits for it once the daemon is to stop: by then it may be gone,
/// while its socket is held for the next one.
#[derive(Debug)]
pub(crate) struct Engine {
    socket: PathBuf,
    stop: Stop,
}

impl Engine {
    pub(crate) fn new(paths: &Paths, slot: Slot, stop: &Stop) -> Self {
        Self { socket: paths.engine_socket(slot), stop: stop.clone() }
    }

    /// What it holds.
    pub(crate) fn status(&self) -> Result<Status, ActError> {
        match self.ask(&engine::Request::Status, STATUS_TIMEOUT)? {
            Event::Status(status) => Ok(status),
            other => Err(unexpected(other)),
        }
    }

    /// Loads a generation in place of what is there; how long it took, in microseconds.
    pub(crate) fn load(&self, generation: &Shelved) -> Result<u64, ActError> {
        let request = engine::Request::Load {
            generation: generation.id(),
            directory: generation.directory().to_path_buf(),
            // Every byte was hashed when it was shelved.
            full_check: false,
        };
        match self.ask(&request, LOAD_TIMEOUT)? {
            Event::Loaded { microseconds, .. } => Ok(microseconds),
            other => Err(unexpected(other)),
        }
    }

    pub(crate) fn unload(&self) -> Result<(), ActError> {
        match self.ask(&engine::Request::Unload, STATUS_TIMEOUT)? {
            Event::Status(_) => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    /// Nats, and bytes, of a text.
    pub(crate) fn score(
        &self,
        generation: GenerationId,
        text: &Sensitive<String>,
    ) -> Result<(f64, u64), ActError> {
        let request = engine::Request::Score { generation, text: text.clone() };
        match self.ask(&request, ENGINE_TIMEOUT)? {
            Event::Scored { nats, bytes, .. } => Ok((nats, bytes.0)),
            other => Err(unexpected(other)),
        }
    }

    /// The whole greedy answer to `messages`.
    pub(crate) fn complete(
        &self,
        generation: GenerationId,
        messages: &[Message],
        max_tokens: TokenCount,
    ) -> Result<Completion, ActError> {
        let connection = self.begin(generation, messages, max_tokens, ENGINE_TIMEOUT)?;
        let mut answer = String::new();
        loop {
            match connection.expect().map_err(lost)? {
                Event::Started { .. } => {}
                Event::Delta { text } => answer.push_str(text.expose()),
                Event::Finished { completion_tokens, decode_microseconds, .. } => {
                    return Ok(Completion {
                        text: Sensitive::new(answer),
                        tokens: completion_tokens,
                        decode_microseconds,
                    });
                }
                other => return Err(unexpected(other)),
            }
        }
    }

    /// Whether it answers for `generation` within `limit`, all together: with a token, or, while others have
    /// every place, with the score of a word, for which no place is needed.
    pub(crate) fn serves(&self, generation: GenerationId, limit: Duration) -> Result<(), ActError> {
        let half = limit / 2;
        let answered = match self.token(generation, half, limit) {
            Ok(Token::Drawn) => return Ok(()),
            Ok(Token::Waits) => {
                let text = Sensitive::new(String::from(WORD));
                self.ask(&engine::Request::Score { generation, text }, half)?
            }
            Err(error) => return unless_full(error),
        };
        match answered {
            Event::Scored { .. } => Ok(()),
            other => unless_full(unexpected(other)),
        }
    }

    /// One token, for which there may be no place within `wait`.
    fn token(
        &self,
        generation: GenerationId,
        wait: Duration,
        limit: Duration,
    ) -> Result<Token, ActError> {
        let since = Stopwatch::start();
        let message = Message { role: Role::User, content: Sensitive::new(String::from(WORD)) };
        let connection = self.begin(generation, &[message], TokenCount(1), wait)?;
        let mut waits = true;
        loop {
            match connection.expect() {
                Ok(Event::Started { .. } | Event::Delta { .. }) => waits = false,
                Ok(Event::Finished { .. }) => return Ok(Token::Drawn),
                Ok(other) => return Err(unexpected(other)),
                Err(FrameError::TimedOut) if waits => return Ok(Token::Waits),
                Err(cause) => return Err(lost(cause)),
            }
            let left = limit.checked_sub(since.elapsed()).filter(|left| !left.is_zero());
            connection.set_timeout(Some(left.ok_or_else(|| lost(FrameError::TimedOut))?));
        }
    }

    /// Asks for the greedy answer to `messages`, event by event.
    fn begin(
        &self,
        generation: GenerationId,
        messages: &[Message],
        max_tokens: TokenCount,
        timeout: Duration,
    ) -> Result<Connection, ActError> {
        let principal: Principal = "updater".parse().expect("a plain name");
        let chat = engine::Chat {
            generation,
            principal,
            messages: messages.to_vec(),
            max_tokens,
            sampling: Sampling { temperature: 0.0, top_p: 1.0, top_k: 0, seed: 0 },
            stop: Sensitive::new(Vec::new()),
        };
        let connection = self.connect(timeout)?;
        connection.write(&engine::Request::Chat(chat)).map_err(lost)?;
        Ok(connection)
    }

    fn ask(&self, request: &engine::Request, timeout: Duration) -> Result<Event, ActError> {
        self.connect(timeout)?.ask(request).map_err(lost)
    }

    fn connect(&self, timeout: Duration) -> Result<Connection, ActError> {
        let connection = Connection::connect(&self.socket).map_err(lost)?.until(&self.stop);
        connection.set_timeout(Some(timeout));
        Ok(connection)
    }
}

/// What an engine said to whoever asked for a token.
#[derive(Clone, Copy, Debug)]
enum Token {
    Drawn,
    /// Others have every place, or it does not work.
    Waits,
}

/// Readers may have taken every place, even those to wait in: an engine that is full serves. One that is
/// busy with its own end does not.
fn unless_full(error: ActError) -> Result<(), ActError> {
    match error {
        ActError::Told(problem) if problem.code == FULL => Ok(()),
        other => Err(other),
    }
}

fn lost(cause: FrameError) -> ActError {
    ActError::Peer { daemon: "engined", cause }
}

fn unexpected(event: Event) -> ActError {
    match event {
        Event::Problem(problem) => ActError::Told(problem),
        _ => ActError::Answer { daemon: "engined" },
    }
}

/// The keeper of the documents; see [`Engine`].
#[derive(Debug)]
pub(crate) struct Corpusd {
    socket: PathBuf,
    stop: Stop,
}

impl Corpusd {
    pub(crate) fn new(paths: &Paths, stop: &Stop) -> Self {
        Self { socket: paths.socket(Daemon::Corpusd), stop: stop.clone() }
    }

    /// Takes a generation's documents in; idempotent.
    pub(crate) fn stage(&self, generation: &Shelved) -> Result<(), ActError> {
        let request = corpus::Request::Stage {
            generation: generation.id(),
            directory: generation.directory().to_path_buf(),
        };
        match self.ask(&request, STAGE_TIMEOUT)? {
            corpus::Answer::Staged { .. } => Ok(()),
            _ => Err(ActError::Answer { daemon: "corpusd" }),
        }
    }

    /// Forgets a generation's documents.
    pub(crate) fn forget(&self, generation: GenerationId) -> Result<(), ActError> {
        match self.ask(&corpus::Request::Drop { generation }, SEARCH_TIMEOUT)? {
            corpus::Answer::Dropped => Ok(()),
            _ => Err(ActError::Answer { daemon: "corpusd" }),
        }
    }

    /// Whether the expected document is among the first three hits.
    pub(crate) fn finds(
        &self,
        generation: GenerationId,
        labels: &LabelSet,
        question: &Retrieval,
    ) -> Result<bool, ActError> {
        let request = corpus::Request::Search(corpus::Search {
            generation,
            query: question.query.clone(),
            collections: question.collections.clone(),
            labels: labels.clone(),
            hits_max: 3,
        });
        let corpus::Answer::Hits(hits) = self.ask(&request, SEARCH_TIMEOUT)? else {
            return Err(ActError::Answer { daemon: "corpusd" });
        };
        let (collection, name) = &question.expected;
        Ok(hits.iter().take(3).any(|hit| hit.collection == *collection && hit.name == *name))
    }

    fn ask(
        &self,
        request: &corpus::Request,
        timeout: Duration,
    ) -> Result<corpus::Answer, ActError> {
        let failed = |cause| ActError::Peer { daemon: "corpusd", cause };
        let connection = Connection::connect(&self.socket).map_err(failed)?.until(&self.stop);
        connection.set_timeout(Some(timeout));
        let reply: Reply<corpus::Answer> = connection.ask(request).map_err(failed)?;
        reply.map_err(ActError::Told)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_log_that_does_not_answer_is_waited_for_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("recordd.sock");
        let silent = UnixListener::bind(&socket).expect("a socket");
        let recordd = Recordd { socket, timeout: Duration::from_millis(20) };
        let request = record::Request::Read { from: RecordIndex(0), count: 1 };
        let error = recordd.appended(&request).expect_err("nobody answers");
        assert!(matches!(error, ActError::Recordd(FrameError::TimedOut)), "{error:?}");
        silent.set_nonblocking(true).expect("set");
        assert!(silent.accept().is_ok(), "asked");
        assert!(silent.accept().is_err(), "and not again");
    }
}
