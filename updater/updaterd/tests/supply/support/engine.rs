//! An engine that is a script: it holds what it was told to load, and fails as it is told.

use std::{
    fs,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use cloister_daemon::Connection;
use cloister_domain::{ByteCount, Class, GenerationId, Sensitive, TokenCount};
use cloister_wire::{
    Problem,
    engine::{Event, FinishReason, Request, Status},
};

/// What a scripted engine holds and how it fails.
#[derive(Default)]
pub(crate) struct Script {
    pub(super) held: Mutex<Option<GenerationId>>,
    nats: Mutex<f64>,
    /// Answers chats with a fault.
    pub(crate) faulty: AtomicBool,
    /// How many chats it answered so.
    pub(crate) faults: AtomicUsize,
    /// Refuses to load.
    pub(crate) refuses: AtomicBool,
    /// Takes no question: as one that is too long for it.
    pub(crate) declines: AtomicBool,
    /// Says nothing to chats.
    pub(crate) full: AtomicBool,
    /// Says nothing but what it holds.
    pub(crate) hangs: AtomicBool,
    /// Takes its time for a score, and answers nobody meanwhile.
    pub(crate) slow: AtomicBool,
    /// Whether it was asked for a score while it was slow.
    pub(crate) scoring: AtomicBool,
    /// Chats to which it said nothing.
    pub(crate) unanswered: AtomicUsize,
    /// Chats are answered by a problem of class busy with this code.
    pub(crate) busy: Mutex<Option<&'static str>>,
    /// Answers chats with something else than what is right.
    pub(crate) wrong: AtomicBool,
}

impl Script {
    /// Holds nothing any more.
    pub(crate) fn forget(&self) {
        *self.held.lock().unwrap() = None;
    }

    pub(super) fn load(&self, generation: GenerationId, directory: &Path) {
        #[expect(clippy::disallowed_methods, reason = "a test reads the small files that it wrote")]
        let text = fs::read_to_string(directory.join("tree/model/weights.txt")).unwrap();
        *self.nats.lock().unwrap() = text.parse().unwrap();
        *self.held.lock().unwrap() = Some(generation);
    }

    pub(super) fn converse(&self, connection: &Connection) {
        while let Ok(Some(request)) = connection.read::<Request>() {
            let silent = matches!(request, Request::Chat(_)) && self.is_silent_to(&request);
            self.unanswered.fetch_add(silent.into(), Ordering::SeqCst);
            while self.is_silent_to(&request) {
                if connection.is_closed() {
                    return;
                }
                std::thread::park_timeout(Duration::from_millis(5));
            }
            for event in self.answer(request) {
                if connection.write(&event).is_err() {
                    return;
                }
            }
        }
    }

    fn is_silent_to(&self, request: &Request) -> bool {
        let is = |fault: &AtomicBool| fault.load(Ordering::SeqCst);
        let chat = matches!(request, Request::Chat(_));
        let score = matches!(request, Request::Score { .. });
        if is(&self.slow) {
            self.scoring.fetch_or(score, Ordering::SeqCst);
            return score || (chat && is(&self.scoring));
        }
        (chat && is(&self.full)) || ((chat || score) && is(&self.hangs))
    }

    fn words(&self) -> String {
        let wrong = self.wrong.load(Ordering::SeqCst);
        String::from(if wrong { "It is five." } else { "It is four." })
    }

    fn status(&self) -> Status {
        let generation = *self.held.lock().unwrap();
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

    fn answer(&self, request: Request) -> Vec<Event> {
        let fault = |class, code| vec![Event::Problem(Problem::new(class, code, "scripted"))];
        match request {
            Request::Status => vec![Event::Status(self.status())],
            Request::Unload => {
                *self.held.lock().unwrap() = None;
                vec![Event::Status(self.status())]
            }
            Request::Load { .. } if self.refuses.load(Ordering::SeqCst) => {
                fault(Class::Refused, "weights.family")
            }
            Request::Load { generation, directory, .. } => {
                self.load(generation, &directory);
                vec![Event::Loaded { status: self.status(), microseconds: 1000 }]
            }
            Request::Chat(chat) if *self.held.lock().unwrap() != Some(chat.generation) => {
                fault(Class::Refused, "engine.generation.mismatch")
            }
            Request::Chat(_) if self.declines.load(Ordering::SeqCst) => {
                fault(Class::Refused, "engine.context.exceeded")
            }
            Request::Chat(_) if self.busy.lock().unwrap().is_some() => {
                fault(Class::Busy, self.busy.lock().unwrap().unwrap())
            }
            Request::Chat(_) if self.faulty.load(Ordering::SeqCst) => {
                self.faults.fetch_add(1, Ordering::SeqCst);
                fault(Class::Fault, "engine.scripted")
            }
            Request::Chat(_) => vec![
                Event::Started { prompt_tokens: TokenCount(3) },
                Event::Delta { text: Sensitive::new(self.words()) },
                Event::Finished {
                    reason: FinishReason::Stop,
                    completion_tokens: TokenCount(4),
                    prefill_microseconds: 10,
                    decode_microseconds: 1000,
                },
            ],
            Request::Score { generation, .. } if *self.held.lock().unwrap() != Some(generation) => {
                fault(Class::Refused, "engine.generation.mismatch")
            }
            Request::Score { text, .. } => {
                let bytes = text.expose().len() as u64;
                #[expect(clippy::cast_precision_loss, reason = "a short text")]
                let nats = *self.nats.lock().unwrap() * bytes as f64;
                vec![Event::Scored { nats, tokens: TokenCount(9), bytes: ByteCount(bytes) }]
            }
            Request::Embed { .. } => fault(Class::Refused, "engine.no-embedding"),
        }
    }
}
