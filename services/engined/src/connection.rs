//! One connection: requests are checked and tokenized here, and events go back.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    time::Duration,
};

use cloister_daemon::{Connection, FrameError, clock::Stopwatch};
use cloister_domain::{ByteCount, Coded as _, GenerationId, Sensitive};
use cloister_sample::{Sampler, Settings, StopMatcher};
use cloister_tokenize::template::{Speaker, Turn};
use cloister_wire::{
    Problem,
    engine::{Chat, Event, Message, Request, Role},
};

use crate::{
    EngineError,
    answer::{Answer, Asker},
    error::{STOP_BYTES_MAX, STOPS_MAX, TEXTS_MAX},
    job::Window,
    load, memory,
    shared::{EmbeddingFront, Shared},
    worker::Command,
};

/// How long a connection may be gone before its answer is cancelled, about.
const GONE_CHECK: Duration = Duration::from_millis(50);

/// Answers the requests of `connection` until it ends.
pub(crate) fn serve(shared: &Shared, connection: &Connection) {
    loop {
        let request = match connection.read::<Request>() {
            Ok(Some(request)) => request,
            Ok(None) => return,
            Err(error) => {
                tracing::debug!(code = error.code(), "a request could not be read");
                if let FrameError::Form { .. } = error {
                    told(connection, &Event::Problem(Problem::of(&error)));
                }
                return;
            }
        };
        let goes_on = match answer(shared, connection, request) {
            Ok(goes_on) => goes_on,
            Err(error) => {
                tracing::debug!(code = error.code(), "a request was refused");
                told(connection, &Event::Problem(error.problem()))
            }
        };
        if !goes_on {
            return;
        }
    }
}

/// Writes an event; whether the other end is still there.
fn told(connection: &Connection, event: &Event) -> bool {
    match connection.write(event) {
        Ok(()) => true,
        Err(error) => {
            tracing::debug!(code = error.code(), "an event could not be sent");
            false
        }
    }
}

/// Answers one request; whether the connection goes on.
fn answer(shared: &Shared, connection: &Connection, request: Request) -> Result<bool, EngineError> {
    match request {
        Request::Status => Ok(told(connection, &Event::Status(shared.status()))),
        Request::Load { generation, directory, full_check } => {
            let event = load_now(shared, generation, &directory, full_check)?;
            Ok(told(connection, &event))
        }
        Request::Unload => {
            shared.install(None)?;
            tracing::info!("unloaded");
            Ok(told(connection, &Event::Status(shared.status())))
        }
        Request::Chat(request) => {
            let (asker, relay) = ask(connection);
            shared.send(chat(shared, &request, asker)?)?;
            Ok(relay.run())
        }
        Request::Embed { generation, texts } => {
            let front = shared.front(generation)?;
            let embedding = front.embedding.as_ref().ok_or(EngineError::NoEmbedding)?;
            let windows = windows(embedding, &texts)?;
            let texts = texts.expose().len();
            if texts == 0 {
                let tokens = cloister_domain::TokenCount(0);
                return Ok(told(connection, &Event::Embeddings { vectors: Vec::new(), tokens }));
            }
            let (asker, relay) = ask(connection);
            shared.send(Command::Embed { generation, asker, windows, texts })?;
            Ok(relay.run())
        }
        Request::Score { generation, text } => {
            let front = shared.front(generation)?;
            let bytes = u64::try_from(text.expose().len()).expect("a length fits 64 bits");
            let tokens = front.tokenizer.encode(text.expose());
            let (asker, relay) = ask(connection);
            shared.send(Command::Score { generation, asker, tokens, bytes: ByteCount(bytes) })?;
            Ok(relay.run())
        }
    }
}

fn load_now(
    shared: &Shared,
    generation: GenerationId,
    directory: &Path,
    full_check: bool,
) -> Result<Event, EngineError> {
    let since = Stopwatch::start();
    let _one_at_a_time = shared.loading.lock().expect("no holder of this lock panics");
    if shared.is_draining.load(Ordering::Relaxed) {
        return Err(EngineError::Draining);
    }
    let loaded = load::load(shared, generation, directory, full_check)
        .and_then(|loaded| shared.install(Some(loaded)));
    if let Err(error) = &loaded {
        error.log("a generation was not loaded");
    }
    loaded?;
    // What was here before is gone now.
    memory::forget();
    let microseconds = since.microseconds();
    tracing::info!(%generation, microseconds, full_check, "loaded");
    Ok(Event::Loaded { status: shared.status(), microseconds })
}

/// Renders and tokenizes a conversation.
fn chat(shared: &Shared, request: &Chat, asker: Asker) -> Result<Command, EngineError> {
    let front = shared.front(request.generation)?;
    let wishes = &request.sampling;
    let settings = Settings::new(wishes.temperature, wishes.top_k, wishes.top_p)?;
    let stops = request.stop.expose();
    if stops.len() > STOPS_MAX || stops.iter().any(|stop| stop.len() > STOP_BYTES_MAX) {
        return Err(EngineError::Stops);
    }
    let turns: Vec<Turn<'_>> = request.messages.iter().map(turn).collect();
    let prompt = front
        .template
        .tokens(&front.tokenizer, &turns, true, None)
        .map_err(EngineError::Template)?;
    let sampler = Sampler::new(settings, wishes.seed);
    let (generation, max_tokens) = (request.generation, request.max_tokens);
    let answer = Answer::new(asker, prompt, max_tokens, sampler, StopMatcher::new(stops));
    let principal = request.principal.clone();
    Ok(Command::Chat { generation, principal, max_tokens, answer: Box::new(answer) })
}

fn turn(message: &Message) -> Turn<'_> {
    let speaker = match message.role {
        Role::System => Speaker::System,
        Role::User => Speaker::User,
        Role::Assistant => Speaker::Assistant,
    };
    Turn { speaker, content: message.content.expose() }
}

/// Cuts texts into stretches that fit the embedding model, each in its frame.
fn windows(
    embedding: &EmbeddingFront,
    texts: &Sensitive<Vec<String>>,
) -> Result<Vec<Window>, EngineError> {
    let texts = texts.expose();
    if texts.len() > TEXTS_MAX {
        return Err(EngineError::Texts { texts: texts.len() });
    }
    let (before, after) = embedding.tokenizer.frame();
    let room = (embedding.context.0 as usize).saturating_sub(before.len() + after.len()).max(1);
    let mut windows = Vec::new();
    for (text, words) in texts.iter().enumerate() {
        let tokens = embedding.tokenizer.encode(words);
        let mut stretches: Vec<&[cloister_domain::TokenId]> = tokens.chunks(room).collect();
        if stretches.is_empty() {
            stretches.push(&[]);
        }
        windows.extend(stretches.into_iter().map(|own| Window {
            text,
            tokens: [before, own, after].concat(),
            own: u32::try_from(own.len()).expect("shorter than a context"),
        }));
    }
    Ok(windows)
}

/// An asker for the worker, and the relay that brings its events to `connection`.
fn ask(connection: &Connection) -> (Asker, Relay<'_>) {
    let (events, received) = channel();
    let is_gone = Arc::new(AtomicBool::new(false));
    let relay = Relay { connection, events: received, is_gone: Arc::clone(&is_gone) };
    (Asker::new(events, is_gone), relay)
}

struct Relay<'a> {
    connection: &'a Connection,
    events: Receiver<Event>,
    is_gone: Arc<AtomicBool>,
}

impl Relay<'_> {
    /// Brings events over until the last one; whether the connection goes on. When the other end
    /// goes away the worker is told to stop.
    fn run(self) -> bool {
        loop {
            let event = match self.events.recv_timeout(GONE_CHECK) {
                Ok(event) => event,
                Err(RecvTimeoutError::Timeout) if self.connection.is_closed() => break,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => {
                    Event::Problem(EngineError::Stopping.problem())
                }
            };
            let is_last = !matches!(event, Event::Started { .. } | Event::Delta { .. });
            if self.connection.is_closed() || !told(self.connection, &event) {
                break;
            }
            if is_last {
                return true;
            }
        }
        self.is_gone.store(true, Ordering::Relaxed);
        false
    }
}
