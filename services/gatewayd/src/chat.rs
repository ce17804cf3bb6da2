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
use cloister_daemon::clock::Stopwatch;
use cloister_domain::{GenerationId, TokenCount};
use cloister_wire::{
    engine::{Event, FinishReason},
    trial::Tally,
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
    engine::{self, Hold},
    grounding,
    http_problem::HttpProblem,
    question::{self, Ended, Found, Question, Taken},
    request::ChatRequest,
    routes::Asked,
    shadow::Shadow,
    shared::Ticket,
    trial::Part,
};

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
    let deadline = Instant::now() + asked.shared.answer_limit;
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
        () = sleep_until(deadline) => hold.end_in_time(),
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

/// What the caller was told.
struct Told {
    answer: String,
    closing: Closing,
}

/// One conversation on its blocking thread.
pub(crate) struct Work {
    pub(crate) asked: Asked,
    pub(crate) request: ChatRequest,
    sender: mpsc::Sender<Piece>,
    hold: Arc<Hold>,
    deadline: Instant,
    pub(crate) runtime: Handle,
    /// Tells the watch that the work is over, by being dropped.
    _working: oneshot::Sender<()>,
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
            configuration: self.asked.shared.configuration,
            figures_follow: self.request.include_usage,
        }
    }

    fn question(&self) -> Question<'_> {
        Question {
            shared: &self.asked.shared,
            caller: &self.asked.caller,
            request: &self.request,
            hold: &self.hold,
        }
    }

    fn converse(&self) -> Result<(), HttpProblem> {
        let clock = Stopwatch::start();
        let (shared, request) = (&self.asked.shared, &self.request);
        let part = Part::of(&shared.trials, &self.asked.caller.principal);
        crate::api::known_model(shared, part.as_ref(), &request.model)?;
        let mut evidence = None;
        let found = engine::with_serving(shared, &self.hold, part.as_ref(), |generation| {
            self.question().find(generation, &mut evidence)
        })?;
        let taken = match found {
            Found::NoEvidence(generation) => {
                self.say_nothing_found(generation);
                return Ok(());
            }
            Found::Taken(taken) => taken,
        };
        let told = self.relay(&taken, &clock);
        // Counted before the caller has the last of it, so that who has an answer finds it counted.
        if let Some(part) = &part {
            match &told {
                Ok(Some((_, tally))) => part.count(&shared.trials, taken.generation, *tally),
                // An engine that says no more is at fault; a caller who leaves is not one.
                _ if self.hold.is_out_of_time() => {
                    part.count_failure(&shared.trials, taken.generation);
                }
                Err(problem) if problem.is_fault() => {
                    part.count_failure(&shared.trials, taken.generation);
                }
                _ => {}
            }
        }
        let Some((told, tally)) = told? else { return Ok(()) };
        self.say(Piece::Closed(told.closing));
        if let Some(part) = part {
            Shadow::begin(self, &part, told.answer, tally);
        }
        Ok(())
    }

    fn say_nothing_found(&self, generation: GenerationId) {
        let closing = Closing {
            reason: FinishReason::Stop,
            prompt_tokens: TokenCount(0),
            completion_tokens: TokenCount(0),
            evidence: Some(false),
            citations: Value::Array(Vec::new()),
            ignored: self.request.ignored.clone(),
        };
        // When the caller is gone there is nothing left to do.
        let _heard = self.say(Piece::Opened(self.frame(generation)))
            && self.say(Piece::Text(grounding::NO_EVIDENCE.to_owned()))
            && self.say(Piece::Closed(closing));
    }

    /// Passes the engine's events on until the answer is complete, which it then yields with its figures,
    /// or nobody listens. The closing is left to be said.
    fn relay(
        &self,
        taken: &Taken,
        clock: &Stopwatch,
    ) -> Result<Option<(Told, Tally)>, HttpProblem> {
        let Event::Started { prompt_tokens } = taken.begun.first else {
            return Err(HttpProblem::internal());
        };
        if !self.say(Piece::Opened(self.frame(taken.generation))) {
            return Ok(None);
        }
        let mut answer = String::new();
        let mut first_piece_microseconds = None;
        let ended = question::hear(&taken.begun, &self.hold, |text| {
            first_piece_microseconds.get_or_insert_with(|| clock.microseconds());
            answer.push_str(text);
            self.say(Piece::Text(text.to_owned()))
        })?;
        let Some(Ended { reason, tokens }) = ended else { return Ok(None) };
        let answer_microseconds = clock.microseconds();
        let closing = Closing {
            reason,
            prompt_tokens,
            completion_tokens: tokens,
            evidence: taken.evidence,
            citations: grounding::citations(&taken.hits, &answer),
            ignored: self.request.ignored.clone(),
        };
        let tally = Tally {
            answered: 1,
            tokens: tokens.0.into(),
            first_piece_microseconds: first_piece_microseconds.unwrap_or(answer_microseconds),
            answer_microseconds,
            ..Tally::default()
        };
        Ok(Some((Told { answer, closing }, tally)))
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
