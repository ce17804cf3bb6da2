//! What stands where the machine's heavy parts would: two engines, the keeper of documents, and the
//! inspector with the real validators but without its cage. They answer at once and keep nothing; what
//! they hold they learn from the shelf, as the real ones do when they start.

use std::{
    fs::{self, File},
    io::Read as _,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context as _, Result};
use cloister_config::{Config, Role};
use cloister_daemon::{Connection, Daemon, Limits, Stop};
use cloister_domain::{ByteCount, Class, GenerationId, Sensitive, Slot, TokenCount};
use cloister_wire::{
    Problem, Reply, corpus,
    engine::{Event, FinishReason, Request, Status},
    inspect::{Accepted, Answer, Question, Started},
};

/// Connections of updaterd at a time.
const LIMITS: Limits = Limits { connections_max: 16 };

/// The doubles of one appliance.
#[derive(Debug)]
pub(crate) struct Doubles {
    engines: [Arc<Engine>; 2],
    running: Vec<Running>,
}

/// A daemon in a thread of this process.
#[derive(Debug)]
struct Running {
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn start(
        config: &Config,
        role: Role,
        slot: Option<Slot>,
        converse: impl Fn(&Connection) + Send + Sync + 'static,
    ) -> Result<Self> {
        let daemon = Daemon::embedded(role, slot, config.clone())?;
        let listener = daemon.listener().context("a double's socket")?;
        let stop = daemon.stop().clone();
        let thread = std::thread::spawn(move || {
            // A double that cannot be asked is noticed by whoever asks.
            daemon.serve(listener, LIMITS, |connection| converse(&connection)).unwrap_or_default();
        });
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.set();
        if let Some(thread) = self.thread.take() {
            // One that panicked has said so.
            thread.join().unwrap_or_default();
        }
    }
}

impl Doubles {
    /// All of them, at the sockets of `config`.
    pub(crate) fn start(config: &Config) -> Result<Self> {
        let engines = [Arc::<Engine>::default(), Arc::default()];
        let mut running = Vec::new();
        for (slot, engine) in Slot::ALL.into_iter().zip(&engines) {
            let engine = Arc::clone(engine);
            let converse = move |connection: &Connection| engine.converse(connection);
            running.push(Running::start(config, Role::Engined, Some(slot), converse)?);
        }
        running.push(Running::start(config, Role::Corpusd, None, documents)?);
        running.push(Running::start(config, Role::Inspectd, None, |connection| {
            while let Ok(Some(conversation)) = connection.next_conversation() {
                inspect(&conversation);
            }
        })?);
        Ok(Self { engines, running })
    }

    /// The engines begin anew: each loads what its slot of `shelf` names.
    pub(crate) fn restart(&self, shelf: &Path) {
        for (slot, engine) in Slot::ALL.into_iter().zip(&self.engines) {
            let named = fs::read_link(shelf.join("slots").join(slot.name())).ok();
            let named = named.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
            let named = named.filter(|name| shelf.join("generations").join(name).exists());
            engine.hold(named.and_then(|name| name.parse().ok()));
        }
    }

    /// From now on the engines are so.
    pub(crate) fn become_so(&self, mood: Mood) {
        for engine in &self.engines {
            engine.mood.store(mood as u8, Ordering::SeqCst);
        }
    }
}

impl Drop for Doubles {
    fn drop(&mut self) {
        for one in &self.running {
            one.stop.set();
        }
    }
}

/// How engines are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// They answer.
    Well = 0,
    /// They break every connection, as one does that died.
    Gone = 1,
    /// They say nothing.
    Hanging = 2,
}

/// Between two looks of an engine that says nothing.
const PAUSE: Duration = Duration::from_millis(5);

/// An engine that answers every question with the same four words.
#[derive(Debug, Default)]
struct Engine {
    holds: Mutex<Option<GenerationId>>,
    mood: AtomicU8,
}

impl Engine {
    fn hold(&self, generation: Option<GenerationId>) {
        *self.holds.lock().expect("nobody panics while assigning") = generation;
    }

    fn held(&self) -> Option<GenerationId> {
        *self.holds.lock().expect("nobody panics while reading")
    }

    fn is(&self, mood: Mood) -> bool {
        self.mood.load(Ordering::SeqCst) == mood as u8
    }

    fn status(&self) -> Status {
        let generation = self.held();
        Status {
            generation,
            model: generation.map(|_| String::from("demo")),
            embedding_width: None,
            embedding_model: None,
            context: TokenCount(64),
            device: String::from("cpu"),
            peak_memory: ByteCount(1 << 20),
            running: 0,
        }
    }

    fn converse(&self, connection: &Connection) {
        while let Ok(Some(request)) = connection.read::<Request>() {
            while self.is(Mood::Hanging) && !connection.is_closed() {
                std::thread::park_timeout(PAUSE);
            }
            if self.is(Mood::Gone) {
                return;
            }
            for event in self.answer(request) {
                if connection.write(&event).is_err() {
                    return;
                }
            }
        }
    }

    fn answer(&self, request: Request) -> Vec<Event> {
        let refused = |code| vec![Event::Problem(Problem::new(Class::Refused, code, "a double"))];
        match request {
            Request::Status => vec![Event::Status(self.status())],
            Request::Unload => {
                self.hold(None);
                vec![Event::Status(self.status())]
            }
            Request::Load { directory, .. } if !directory.join("manifest.json").exists() => {
                refused("engine.load")
            }
            Request::Load { generation, .. } => {
                self.hold(Some(generation));
                vec![Event::Loaded { status: self.status(), microseconds: 1000 }]
            }
            Request::Chat(chat) if self.held() != Some(chat.generation) => {
                refused("engine.generation.mismatch")
            }
            Request::Chat(_) => vec![
                Event::Started { prompt_tokens: TokenCount(3) },
                Event::Delta { text: Sensitive::new(String::from("It is four.")) },
                Event::Finished {
                    reason: FinishReason::Stop,
                    completion_tokens: TokenCount(4),
                    prefill_microseconds: 10,
                    decode_microseconds: 1000,
                },
            ],
            Request::Score { generation, .. } if self.held() != Some(generation) => {
                refused("engine.generation.mismatch")
            }
            Request::Score { text, .. } => {
                let bytes = ByteCount(text.expose().len() as u64);
                vec![Event::Scored { nats: 12.5, tokens: TokenCount(9), bytes }]
            }
            Request::Embed { .. } => refused("engine.no-embedding"),
        }
    }
}

/// Finds the same document whatever is asked.
fn documents(connection: &Connection) {
    use corpus::{Answer, Hit, Request};
    while let Ok(Some(request)) = connection.read::<Request>() {
        let answer = match &request {
            Request::Stage { .. } => Answer::Staged { documents: 1, chunks: 1, vectors: 0 },
            Request::Drop { .. } => Answer::Dropped,
            Request::Search(search) => Answer::Hits(vec![Hit {
                citation: format!("{}:0-6", search.generation).parse().expect("a citation"),
                chunk: search.generation.0,
                collection: String::from("handbook"),
                label: "open".parse().expect("a label"),
                name: Sensitive::new(String::from("Pumps")),
                text: Sensitive::new(String::from("Pump 1.")),
                score: 1.0,
                words_only: true,
            }]),
            _ => Answer::Verified { documents: 0, chunks: 0, vectors: 0 },
        };
        let reply: Reply<Answer> = Ok(answer);
        if connection.write(&reply).is_err() {
            return;
        }
    }
}

/// Judges one file as the caged process would.
fn inspect(connection: &Connection) {
    let Ok(Some(question)) = connection.read::<Question>() else { return };
    let Ok(file) = connection.take() else { return };
    let mut bytes = Vec::new();
    if connection.write(&Started::Started).is_err()
        || File::from(file).read_to_end(&mut bytes).is_err()
    {
        return;
    }
    let verdict = cloister_inspect::inspect(&question.name, &mut bytes.as_slice());
    let verdict = verdict.map_err(|refusal| Problem::of(&refusal)).and_then(|found| {
        let kind = serde_json::from_value(found.kind.name().into());
        let kind = kind.map_err(|_text| Problem::new(Class::Fault, "double.kind", "a double"))?;
        Ok(Accepted { kind, tensors: found.tensors })
    });
    let answer = Answer { verdict, microseconds: 1, peak_bytes: ByteCount(1) };
    // Whoever asked may have gone.
    connection.write(&answer).unwrap_or_default();
}
