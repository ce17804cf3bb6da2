//! `POST /v1/chat/completions`: evidence, engine, answer; whole or streamed.
//!
//! The conversation with the engine runs on a blocking thread and hands pieces over a bounded
//! channel. A caller that goes away drops the channel, the thread drops the engine's connection,
//! and the engine stops.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, Response, header},
    response::IntoResponse as _,
};
use cloister_domain::{GenerationId, TokenCount};
use cloister_wire::{
    corpus::Hit,
    engine::{Chat, Event, FinishReason, Message, Request},
};
use futures_core::Stream;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::{
    answer::{Closing, Frame},
    engine::{self, Begun},
    grounding,
    http_problem::HttpProblem,
    request::ChatRequest,
    routes::{Asked, Caller},
    shared::{PER_PRINCIPAL_MAX, Shared, Ticket},
};

/// Tokens of an answer when the caller names none; fewer are tried when they do not fit.
const ANSWER_TOKENS: u32 = 256;
/// The fewest that are tried.
const ANSWER_TOKENS_MIN: u32 = 48;
/// Pieces that may wait for a slow reader.
const PIECES_WAITING_MAX: usize = 64;

/// What the blocking thread says.
enum Piece {
    Opened(Frame),
    Text(String),
    Closed(Closing),
    Failed(HttpProblem),
}

/// Answers a conversation.
pub(crate) async fn completions(asked: Asked) -> Result<Response<Body>, HttpProblem> {
    let request = ChatRequest::parse(&asked.body, fresh_seed())?;
    let ticket = asked
        .shared
        .enter(&asked.caller.principal)
        .ok_or_else(|| HttpProblem::concurrency(PER_PRINCIPAL_MAX))?;
    let (stream, include_usage) = (request.stream, request.include_usage);
    let request_id = asked.request_id.clone();
    let (sender, mut pieces) = mpsc::channel(PIECES_WAITING_MAX);
    let work = Work { asked, request, sender };
    tokio::task::spawn_blocking(move || work.run(ticket));
    // Refusals become a status code, so the first piece is awaited before anything is sent.
    let frame = match pieces.recv().await {
        Some(Piece::Opened(frame)) => frame,
        Some(Piece::Failed(problem)) => return Err(problem),
        Some(Piece::Text(_) | Piece::Closed(_)) | None => return Err(HttpProblem::internal()),
    };
    if stream {
        let events =
            Events { frame, pieces, include_usage, request_id, waiting: Vec::new(), opened: false };
        let body = Body::from_stream(events);
        let mut response = body.into_response();
        let kind = HeaderValue::from_static("text/event-stream");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        return Ok(response);
    }
    let mut text = String::new();
    loop {
        match pieces.recv().await {
            Some(Piece::Text(piece)) => text.push_str(&piece),
            Some(Piece::Closed(closing)) => {
                return Ok(axum::Json(frame.completion(&text, &closing)).into_response());
            }
            Some(Piece::Failed(problem)) => return Err(problem),
            Some(Piece::Opened(_)) | None => return Err(HttpProblem::internal()),
        }
    }
}

/// A seed for callers who name none: another one for each answer.
fn fresh_seed() -> u64 {
    let mut bytes = [0; 8];
    // Without random bytes the answer is still a good one; it is only the same each time.
    getrandom::fill(&mut bytes).unwrap_or_default();
    u64::from_le_bytes(bytes)
}

/// One conversation on its blocking thread.
struct Work {
    asked: Asked,
    request: ChatRequest,
    sender: mpsc::Sender<Piece>,
}

/// A conversation that an engine took.
struct Taken {
    begun: Begun,
    generation: GenerationId,
    hits: Vec<Hit>,
    evidence: Option<bool>,
}

/// What came of finding evidence and an engine.
enum Found {
    Taken(Box<Taken>),
    /// Nothing was found, so no model is asked.
    NoEvidence(GenerationId),
}

impl Work {
    fn run(self, ticket: Ticket) {
        if let Err(problem) = self.converse() {
            // A caller that is gone needs no refusal.
            self.sender.blocking_send(Piece::Failed(problem)).unwrap_or_default();
        }
        drop(ticket);
    }

    fn say(&self, piece: Piece) -> bool {
        self.sender.blocking_send(piece).is_ok()
    }

    fn frame(&self, generation: GenerationId) -> Frame {
        Frame {
            request_id: self.asked.request_id.clone(),
            model: "default".to_owned(),
            created: cloister_daemon::clock::unix_seconds(),
            generation,
        }
    }

    fn converse(&self) -> Result<(), HttpProblem> {
        let (shared, request) = (&self.asked.shared, &self.request);
        crate::api::known_model(shared, &request.model)?;
        let found = engine::with_active(shared, |generation| {
            find(shared, &self.asked.caller, request, generation)
        })?;
        match found {
            Found::NoEvidence(generation) => {
                let closing = Closing {
                    reason: FinishReason::Stop,
                    prompt_tokens: TokenCount(0),
                    completion_tokens: TokenCount(0),
                    evidence: Some(false),
                    citations: Value::Array(Vec::new()),
                    ignored: request.ignored.clone(),
                };
                // When the caller is gone there is nothing left to do.
                let _gone = self.say(Piece::Opened(self.frame(generation)))
                    && self.say(Piece::Text(grounding::NO_EVIDENCE.to_owned()))
                    && self.say(Piece::Closed(closing));
                Ok(())
            }
            Found::Taken(taken) => self.relay(&taken),
        }
    }

    /// Passes the engine's events on until the answer is complete or nobody listens.
    fn relay(&self, taken: &Taken) -> Result<(), HttpProblem> {
        let Event::Started { prompt_tokens } = taken.begun.first else {
            return Err(HttpProblem::internal());
        };
        if !self.say(Piece::Opened(self.frame(taken.generation))) {
            return Ok(());
        }
        let mut answer = String::new();
        loop {
            match taken.begun.connection.read::<Event>() {
                Ok(Some(Event::Delta { text })) => {
                    answer.push_str(text.expose());
                    if !self.say(Piece::Text(text.expose().clone())) {
                        return Ok(());
                    }
                }
                Ok(Some(Event::Finished { reason, completion_tokens, .. })) => {
                    let closing = Closing {
                        reason,
                        prompt_tokens,
                        completion_tokens,
                        evidence: taken.evidence,
                        citations: grounding::citations(&taken.hits, &answer),
                        ignored: self.request.ignored.clone(),
                    };
                    self.say(Piece::Closed(closing));
                    return Ok(());
                }
                Ok(Some(Event::Problem(problem))) => return Err(HttpProblem::of(&problem)),
                Ok(Some(_) | None) | Err(_) => {
                    tracing::error!(
                        code = "gateway.engine.gone",
                        "an engine ended an answer early"
                    );
                    return Err(HttpProblem::internal());
                }
            }
        }
    }
}

/// Evidence and engine for one generation; `None` when no engine holds it.
fn find(
    shared: &Arc<Shared>,
    caller: &Caller,
    request: &ChatRequest,
    generation: GenerationId,
) -> Result<Option<Found>, HttpProblem> {
    let Some(grounding) = &request.grounding else {
        let begun = fit(shared, caller, request, generation, &mut Vec::new())?;
        return Ok(begun.map(|begun| {
            Found::Taken(Box::new(Taken { begun, generation, hits: Vec::new(), evidence: None }))
        }));
    };
    let mut hits = grounding::evidence(shared, caller, generation, &request.messages, grounding)?;
    if hits.is_empty() {
        return Ok(Some(Found::NoEvidence(generation)));
    }
    let begun = fit(shared, caller, request, generation, &mut hits)?;
    Ok(begun.map(|begun| {
        Found::Taken(Box::new(Taken { begun, generation, hits, evidence: Some(true) }))
    }))
}

/// Begins the conversation, with a shorter answer or fewer passages when the context is too small.
///
/// What the caller asked for by number is never shortened.
fn fit(
    shared: &Shared,
    caller: &Caller,
    request: &ChatRequest,
    generation: GenerationId,
    hits: &mut Vec<Hit>,
) -> Result<Option<Begun>, HttpProblem> {
    let mut answer_tokens = request.max_tokens.map_or(ANSWER_TOKENS, |tokens| tokens.0);
    loop {
        let messages: Vec<Message> = if hits.is_empty() {
            request.messages.clone()
        } else {
            grounding::grounded(&request.messages, hits)
        };
        let chat = Chat {
            generation,
            principal: caller.principal.clone(),
            messages,
            max_tokens: TokenCount(answer_tokens),
            sampling: request.sampling.clone(),
            stop: request.stop.clone(),
        };
        match engine::begin(shared, &Request::Chat(chat)) {
            Err(problem) if problem.is_context_exceeded() => {
                if request.max_tokens.is_none() && answer_tokens > ANSWER_TOKENS_MIN {
                    answer_tokens = (answer_tokens / 2).max(ANSWER_TOKENS_MIN);
                } else if hits.len() > 1 {
                    hits.pop();
                } else {
                    return Err(problem);
                }
            }
            other => return other,
        }
    }
}

/// Server-sent events of a streamed answer (WHATWG HTML, section 9.2).
struct Events {
    frame: Frame,
    pieces: mpsc::Receiver<Piece>,
    include_usage: bool,
    request_id: String,
    /// Events that are ready, last first.
    waiting: Vec<String>,
    opened: bool,
}

impl Events {
    fn queue(&mut self, values: &[String]) {
        self.waiting.extend(values.iter().rev().cloned());
    }
}

impl Stream for Events {
    type Item = Result<Bytes, std::convert::Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let event = |value: &Value| format!("data: {value}\n\n");
        if !self.opened {
            self.opened = true;
            let opening = event(&self.frame.opening());
            self.queue(&[opening]);
        }
        loop {
            if let Some(ready) = self.waiting.pop() {
                return Poll::Ready(Some(Ok(Bytes::from(ready))));
            }
            match self.pieces.poll_recv(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None | Some(Piece::Opened(_))) => return Poll::Ready(None),
                Poll::Ready(Some(Piece::Text(text))) => {
                    let piece = event(&self.frame.piece(&text));
                    self.queue(&[piece]);
                }
                Poll::Ready(Some(Piece::Closed(closing))) => {
                    let mut last = vec![event(&self.frame.ending(&closing))];
                    if self.include_usage {
                        last.push(event(&self.frame.usage(&closing)));
                    }
                    last.push("data: [DONE]\n\n".to_owned());
                    self.queue(&last);
                }
                Poll::Ready(Some(Piece::Failed(problem))) => {
                    // The status is sent already; official clients raise on this event, and the
                    // stream ends without [DONE].
                    let failed = event(&problem.body(&self.request_id));
                    self.queue(&[failed]);
                }
            }
        }
    }
}
