//! `POST /v1/chat/completions`: evidence, engine, answer; whole or streamed.
//!
//! The conversation with the engine runs on a blocking thread and hands pieces over a bounded
//! channel. A caller that goes away drops the channel; whoever watches it closes the engine's
//! connection, and the engine stops, in whatever it is doing. So does the end of the time allowed.

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
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until, timeout_at},
};

use crate::{
    answer::{Closing, Frame},
    engine::{self, Begun, Hold},
    grounding,
    http_problem::HttpProblem,
    request::ChatRequest,
    routes::Asked,
    shared::{ANSWER_LIMIT, Ticket},
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
    let ticket = asked.shared.enter(&asked.caller.principal)?;
    let (stream, include_usage) = (request.stream, request.include_usage);
    let request_id = asked.request_id.clone();
    let (sender, mut pieces) = mpsc::channel(PIECES_WAITING_MAX);
    let hold = Arc::new(Hold::default());
    let deadline = Instant::now() + ANSWER_LIMIT;
    let (working, done) = oneshot::channel();
    tokio::spawn(watch(sender.clone(), Arc::clone(&hold), deadline, done));
    let runtime = Handle::current();
    let work = Work { asked, request, sender, hold, deadline, runtime, _working: working };
    tokio::task::spawn_blocking(move || work.run(ticket));
    // Refusals become a status code, so the first piece is awaited before anything is sent.
    let frame = match pieces.recv().await {
        Some(Piece::Opened(frame)) => frame,
        Some(Piece::Failed(problem)) => return Err(problem),
        Some(Piece::Text(_) | Piece::Closed(_)) | None => return Err(HttpProblem::internal()),
    };
    if stream {
        let events = Events {
            frame,
            pieces,
            include_usage,
            request_id,
            waiting: Vec::new(),
            stage: Stage::New,
        };
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

/// Waits until nobody reads the answer any more or its time is over, and ends the work on it then.
async fn watch(
    reader: mpsc::Sender<Piece>,
    hold: Arc<Hold>,
    deadline: Instant,
    done: oneshot::Receiver<()>,
) {
    tokio::select! {
        () = reader.closed() => hold.end(),
        () = sleep_until(deadline) => hold.end(),
        _ended = done => {}
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
    hold: Arc<Hold>,
    deadline: Instant,
    runtime: Handle,
    /// Tells the watch that the work is over, by being dropped.
    _working: oneshot::Sender<()>,
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
            self.say(Piece::Failed(problem));
        }
        drop(ticket);
    }

    /// Hands a piece over; false if nobody takes it in the time that is left.
    fn say(&self, piece: Piece) -> bool {
        let sent = self.runtime.block_on(timeout_at(self.deadline, self.sender.send(piece)));
        matches!(sent, Ok(Ok(())))
    }

    fn frame(&self, generation: GenerationId) -> Frame {
        Frame {
            request_id: self.asked.request_id.clone(),
            model: "default".to_owned(),
            created: cloister_daemon::clock::unix_seconds(),
            generation,
            figures_follow: self.request.include_usage,
        }
    }

    fn converse(&self) -> Result<(), HttpProblem> {
        let (shared, request) = (&self.asked.shared, &self.request);
        crate::api::known_model(shared, &request.model)?;
        let mut evidence = None;
        let found = engine::with_active(shared, &self.hold, |generation| {
            self.find(generation, &mut evidence)
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
                let _heard = self.say(Piece::Opened(self.frame(generation)))
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
                Ok(_) | Err(_) if self.hold.is_ended() => return Err(HttpProblem::out_of_time()),
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

    /// Evidence and engine for one generation; `None` when no engine holds it. What was found for a
    /// generation is kept in `evidence`, so that waiting for its engine does not search again.
    fn find(
        &self,
        generation: GenerationId,
        evidence: &mut Option<(GenerationId, Vec<Hit>)>,
    ) -> Result<Option<Found>, HttpProblem> {
        let (shared, caller, request) = (&self.asked.shared, &self.asked.caller, &self.request);
        let taken = |begun, hits, evidence| {
            Found::Taken(Box::new(Taken { begun, generation, hits, evidence }))
        };
        let Some(grounding) = &request.grounding else {
            let begun = self.fit(generation, &mut Vec::new())?;
            return Ok(begun.map(|begun| taken(begun, Vec::new(), None)));
        };
        let mut hits = match evidence {
            Some((of, hits)) if *of == generation => hits.clone(),
            _ => {
                let hits =
                    grounding::evidence(shared, caller, generation, &request.messages, grounding)?;
                *evidence = Some((generation, hits.clone()));
                hits
            }
        };
        if hits.is_empty() {
            return Ok(Some(Found::NoEvidence(generation)));
        }
        let begun = self.fit(generation, &mut hits)?;
        Ok(begun.map(|begun| taken(begun, hits, Some(true))))
    }

    /// Begins the conversation, with a shorter answer or fewer passages when the context is too
    /// small.
    ///
    /// What the caller asked for by number is never shortened.
    fn fit(
        &self,
        generation: GenerationId,
        hits: &mut Vec<Hit>,
    ) -> Result<Option<Begun>, HttpProblem> {
        let request = &self.request;
        let mut answer_tokens = request.max_tokens.map_or(ANSWER_TOKENS, |tokens| tokens.0);
        loop {
            let messages: Vec<Message> = if hits.is_empty() {
                request.messages.clone()
            } else {
                grounding::grounded(&request.messages, hits)
            };
            let chat = Chat {
                generation,
                principal: self.asked.caller.principal.clone(),
                messages,
                max_tokens: TokenCount(answer_tokens),
                sampling: request.sampling.clone(),
                stop: request.stop.clone(),
            };
            match engine::begin(&self.asked.shared, &self.hold, &Request::Chat(chat)) {
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
}

/// Server-sent events of a streamed answer (WHATWG HTML, section 9.2).
struct Events {
    frame: Frame,
    pieces: mpsc::Receiver<Piece>,
    include_usage: bool,
    request_id: String,
    /// Events that are ready, last first.
    waiting: Vec<String>,
    stage: Stage,
}

/// How far a stream is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    New,
    Open,
    /// The last event is queued.
    Ended,
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
        if self.stage == Stage::New {
            self.stage = Stage::Open;
            let opening = event(&self.frame.opening());
            self.queue(&[opening]);
        }
        loop {
            if let Some(ready) = self.waiting.pop() {
                return Poll::Ready(Some(Ok(Bytes::from(ready))));
            }
            if self.stage == Stage::Ended {
                return Poll::Ready(None);
            }
            match self.pieces.poll_recv(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None | Some(Piece::Opened(_))) => {
                    self.stage = Stage::Ended;
                    let failed = event(&HttpProblem::out_of_time().body(&self.request_id));
                    self.queue(&[failed]);
                }
                Poll::Ready(Some(Piece::Text(text))) => {
                    let piece = event(&self.frame.piece(&text));
                    self.queue(&[piece]);
                }
                Poll::Ready(Some(Piece::Closed(closing))) => {
                    self.stage = Stage::Ended;
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
                    self.stage = Stage::Ended;
                    let failed = event(&problem.body(&self.request_id));
                    self.queue(&[failed]);
                }
            }
        }
    }
}
