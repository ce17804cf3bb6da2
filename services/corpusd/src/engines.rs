//! Asking the engines for vectors. An engine that is not there, holds another generation or fails is
//! no error: the corpus then works with words alone.

use std::{path::PathBuf, time::Duration};

use cloister_config::Paths;
use cloister_corpus_store::Space;
use cloister_daemon::{Connection, FrameError};
use cloister_domain::{Coded as _, GenerationId, Sensitive, Slot};
use cloister_wire::engine::{Event, Request};

/// Most texts in one request, so that an engine's worker is soon free for others.
pub(crate) const BATCH: u32 = 32;

/// How long an engine may take to say what it holds.
const STATUS_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a batch may take: 32 passages of 256 tokens on one slow core.
const EMBED_TIMEOUT: Duration = Duration::from_secs(120);

/// How long a reader waits for the vector of a question before words alone decide.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(10);

/// The sockets of both slots.
#[derive(Debug)]
pub(crate) struct Engines {
    sockets: [PathBuf; 2],
}

/// An engine that holds the generation asked for, and its vector space.
#[derive(Debug)]
pub(crate) struct Engine {
    connection: Connection,
    generation: GenerationId,
    /// The space of its embedding model; none if the generation has no such model.
    pub(crate) space: Option<Space>,
}

impl Engines {
    pub(crate) fn new(paths: &Paths) -> Self {
        Self { sockets: Slot::ALL.map(|slot| paths.engine_socket(slot)) }
    }

    /// The engine that holds `generation`, slot a first.
    pub(crate) fn holding(&self, generation: GenerationId) -> Option<Engine> {
        self.sockets.iter().find_map(|socket| {
            let connection = Connection::connect(socket).ok()?;
            connection.set_timeout(Some(STATUS_TIMEOUT));
            let Ok(Event::Status(status)) = connection.ask(&Request::Status) else {
                tracing::debug!("an engine did not say what it holds");
                return None;
            };
            if status.generation != Some(generation) {
                return None;
            }
            let model = status.embedding_model.zip(status.embedding_width);
            let space = model.map(|(model, width)| Space { model, width });
            Some(Engine { connection, generation, space })
        })
    }
}

impl Engine {
    /// The vectors of passages, in order.
    pub(crate) fn passages(&self, texts: Vec<String>) -> Option<Vec<Vec<f32>>> {
        self.connection.set_timeout(Some(EMBED_TIMEOUT));
        self.embed(texts)
    }

    /// The vector of a question.
    pub(crate) fn question(&self, text: &Sensitive<String>) -> Option<Vec<f32>> {
        self.connection.set_timeout(Some(QUESTION_TIMEOUT));
        self.embed(vec![text.expose().clone()])?.pop()
    }

    fn embed(&self, texts: Vec<String>) -> Option<Vec<Vec<f32>>> {
        let count = texts.len();
        let request = Request::Embed { generation: self.generation, texts: Sensitive::new(texts) };
        let answer: Result<Event, FrameError> = self.connection.ask(&request);
        match answer {
            Ok(Event::Embeddings { vectors, tokens: _ }) if vectors.len() == count => Some(vectors),
            Ok(Event::Problem(problem)) => {
                tracing::warn!(
                    code = problem.code,
                    "an engine made no vectors; words alone decide"
                );
                None
            }
            Ok(_) => {
                tracing::warn!("an engine answered something else; words alone decide");
                None
            }
            Err(error) => {
                tracing::warn!(code = error.code(), "an engine did not answer; words alone decide");
                None
            }
        }
    }
}
