//! The one thread that owns the models.

use std::sync::{
    Arc,
    atomic::Ordering,
    mpsc::{Receiver, SyncSender, TryRecvError, sync_channel},
};

use cloister_domain::{ByteCount, GenerationId, Principal, TokenCount, TokenId};

use crate::{
    EngineError,
    answer::{Answer, Asker},
    job::Window,
    load::Loaded,
    serving::Serving,
    shared::Shared,
};

/// What a connection asks of the worker; checked and tokenized.
pub(crate) enum Command {
    /// Answer with this generation from now on, or with none; the channel tells when.
    Install(Option<Box<Loaded>>, SyncSender<()>),
    Chat {
        generation: GenerationId,
        principal: Principal,
        max_tokens: TokenCount,
        answer: Box<Answer>,
    },
    Embed {
        generation: GenerationId,
        asker: Asker,
        windows: Vec<Window>,
        texts: usize,
    },
    Score {
        generation: GenerationId,
        asker: Asker,
        tokens: Vec<TokenId>,
        bytes: ByteCount,
    },
}

/// The way to the worker; it holds as many commands as there are connections, each of which waits
/// for its answer.
pub(crate) fn channel(connections_max: usize) -> (SyncSender<Command>, Receiver<Command>) {
    sync_channel(connections_max)
}

/// Runs batches and jobs until nobody can send commands any more.
pub(crate) fn work(shared: &Shared, commands: &Receiver<Command>) {
    let mut worker = Worker { shared, current: None, retired: Vec::new() };
    loop {
        let command = if worker.is_idle() {
            commands.recv().map_err(|_all_gone| TryRecvError::Disconnected)
        } else {
            commands.try_recv()
        };
        match command {
            Ok(command) => {
                worker.take(command);
                while let Ok(command) = commands.try_recv() {
                    worker.take(command);
                }
            }
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => return,
        }
        worker.step();
    }
}

struct Worker<'a> {
    shared: &'a Shared,
    current: Option<Serving>,
    /// Replaced, and still answering those who asked before.
    retired: Vec<Serving>,
}

impl Worker<'_> {
    fn is_idle(&self) -> bool {
        self.current.as_ref().is_none_or(Serving::is_idle) && self.retired.is_empty()
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Install(loaded, done) => {
                let new = loaded.map(|loaded| Serving::new(*loaded, self.shared.sequences_max));
                self.shared.set_current(new.as_ref().map(|new| Arc::clone(&new.front)));
                let old = std::mem::replace(&mut self.current, new);
                self.retired.extend(old.filter(|old| !old.is_idle()));
                self.count();
                if done.send(()).is_err() {
                    tracing::debug!("nobody waits for the new generation");
                }
            }
            Command::Chat { generation, principal, max_tokens, answer } => {
                match self.serving(generation) {
                    Ok(serving) => serving.chat(principal, max_tokens, *answer),
                    Err(error) => answer.asker.fail(&error),
                }
            }
            Command::Embed { generation, asker, windows, texts } => {
                match self.serving(generation) {
                    Ok(serving) => serving.embed(asker, windows, texts),
                    Err(error) => asker.fail(&error),
                }
            }
            Command::Score { generation, asker, tokens, bytes } => match self.serving(generation) {
                Ok(serving) => serving.score(asker, tokens, bytes),
                Err(error) => asker.fail(&error),
            },
        }
    }

    /// The current generation, if it is the one that the request was prepared for.
    fn serving(&mut self, generation: GenerationId) -> Result<&mut Serving, EngineError> {
        let current = self.current.as_mut().filter(|now| now.front.generation == generation);
        current.ok_or(EngineError::Generation)
    }

    fn step(&mut self) {
        for serving in self.retired.iter_mut().chain(&mut self.current) {
            serving.step();
        }
        self.retired.retain(|serving| !serving.is_idle());
        self.count();
    }

    fn count(&self) {
        let all = self.retired.iter().chain(&self.current);
        let running = all.map(Serving::conversations).sum::<usize>();
        let running = u32::try_from(running).unwrap_or(u32::MAX);
        self.shared.running.store(running, Ordering::Relaxed);
        self.shared.is_draining.store(!self.retired.is_empty(), Ordering::Relaxed);
    }
}
