//! What connections and the worker both see: the generation that answers now, and the way in.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicU32, Ordering},
    mpsc::{SyncSender, sync_channel},
};

use cloister_domain::{ByteCount, Digest, GenerationId, TokenCount, TokenId};
use cloister_model::{Device, Options};
use cloister_tokenize::{Tokenizer, template::Template};
use cloister_wire::engine::Status;

use crate::{EngineError, load::Loaded, memory, worker::Command};

/// The immutable side of a loaded generation: what is needed to check and tokenize a request.
#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) generation: GenerationId,
    /// The release's name.
    pub(crate) name: String,
    pub(crate) context: TokenCount,
    pub(crate) device: Device,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) template: Template,
    /// Tokens that end an answer.
    pub(crate) ends: Vec<TokenId>,
    pub(crate) embedding: Option<EmbeddingFront>,
}

/// The immutable side of an embedding model.
#[derive(Debug)]
pub(crate) struct EmbeddingFront {
    pub(crate) tokenizer: Tokenizer,
    pub(crate) width: u32,
    /// Longest text with its frame.
    pub(crate) context: TokenCount,
    /// SHA-256 of the weights file.
    pub(crate) weights: Digest,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) sequences_max: u32,
    /// Conversations being answered or waiting for their turn.
    pub(crate) running: AtomicU32,
    /// Whether a replaced generation still answers.
    pub(crate) is_draining: AtomicBool,
    current: Mutex<Option<Arc<Front>>>,
    /// Held while a generation loads, so that two do not load at a time.
    pub(crate) loading: Mutex<()>,
    commands: Mutex<Option<SyncSender<Command>>>,
}

impl Shared {
    pub(crate) fn new(options: Options, sequences_max: u32, commands: SyncSender<Command>) -> Self {
        Self {
            options,
            sequences_max,
            running: AtomicU32::new(0),
            is_draining: AtomicBool::new(false),
            current: Mutex::new(None),
            loading: Mutex::new(()),
            commands: Mutex::new(Some(commands)),
        }
    }

    /// The generation that answers now, if it is the one asked for.
    pub(crate) fn front(&self, generation: GenerationId) -> Result<Arc<Front>, EngineError> {
        let current = self.current().filter(|front| front.generation == generation);
        current.ok_or(EngineError::Generation)
    }

    fn current(&self) -> Option<Arc<Front>> {
        self.current.lock().expect("no holder of this lock panics").clone()
    }

    /// The worker alone changes what answers.
    pub(crate) fn set_current(&self, front: Option<Arc<Front>>) {
        *self.current.lock().expect("no holder of this lock panics") = front;
    }

    /// Hands a command to the worker.
    pub(crate) fn send(&self, command: Command) -> Result<(), EngineError> {
        let commands = self.commands.lock().expect("no holder of this lock panics").clone();
        let sent = commands.map(|commands| commands.send(command));
        sent.and_then(Result::ok).ok_or(EngineError::Stopping)
    }

    /// Replaces what is loaded and waits until it answers.
    pub(crate) fn install(&self, loaded: Option<Loaded>) -> Result<(), EngineError> {
        let (done, when_done) = sync_channel(1);
        self.send(Command::Install(loaded.map(Box::new), done))?;
        when_done.recv().map_err(|_worker_stopped| EngineError::Stopping)
    }

    /// No more commands: the worker ends when it has done what it has.
    pub(crate) fn stop(&self) {
        *self.commands.lock().expect("no holder of this lock panics") = None;
    }

    /// What is loaded and used.
    pub(crate) fn status(&self) -> Status {
        let current = self.current();
        let front = current.as_deref();
        let embedding = front.and_then(|front| front.embedding.as_ref());
        let peak_memory: ByteCount = memory::peak();
        Status {
            generation: front.map(|front| front.generation),
            model: front.map(|front| front.name.clone()),
            embedding_width: embedding.map(|embedding| embedding.width),
            embedding_model: embedding.map(|embedding| embedding.weights),
            context: front.map_or(self.options.context_tokens_max, |front| front.context),
            device: front.map_or(self.options.device, |front| front.device).to_string(),
            peak_memory,
            running: self.running.load(Ordering::Relaxed),
        }
    }
}
