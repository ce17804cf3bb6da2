//! A question on its way to an engine: evidence for it, a conversation that fits, and what is heard.

use cloister_domain::{GenerationId, TokenCount};
use cloister_wire::{
    corpus::Hit,
    engine::{Chat, Event, FinishReason, Message, Request},
};

use crate::{
    engine::{self, Begun, Hold},
    grounding,
    http_problem::HttpProblem,
    request::ChatRequest,
    routes::Caller,
    shared::Shared,
};

/// Tokens of an answer when the caller names none; fewer are tried when they do not fit.
const ANSWER_TOKENS: u32 = 256;
/// The fewest that are tried.
const ANSWER_TOKENS_MIN: u32 = 48;

/// What is asked, for whom, and the hold on the engine that works on it.
#[derive(Clone, Copy)]
pub(crate) struct Question<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) caller: &'a Caller,
    pub(crate) request: &'a ChatRequest,
    pub(crate) hold: &'a Hold,
}

/// A conversation that an engine took.
pub(crate) struct Taken {
    pub(crate) begun: Begun,
    pub(crate) generation: GenerationId,
    pub(crate) hits: Vec<Hit>,
    pub(crate) evidence: Option<bool>,
}

/// What came of finding evidence and an engine.
pub(crate) enum Found {
    Taken(Box<Taken>),
    /// Nothing was found, so no model is asked.
    NoEvidence(GenerationId),
}

/// The end of an answer.
pub(crate) struct Ended {
    pub(crate) reason: FinishReason,
    pub(crate) tokens: TokenCount,
}

impl Question<'_> {
    /// Evidence and engine for one generation; `None` when no engine holds it. What was found for a
    /// generation is kept in `evidence`, so that waiting for its engine does not search again.
    pub(crate) fn find(
        &self,
        generation: GenerationId,
        evidence: &mut Option<(GenerationId, Vec<Hit>)>,
    ) -> Result<Option<Found>, HttpProblem> {
        let Self { shared, caller, request, .. } = *self;
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
        let request = self.request;
        let mut answer_tokens = request.max_tokens.map_or(ANSWER_TOKENS, |tokens| tokens.0);
        loop {
            let messages: Vec<Message> = if hits.is_empty() {
                request.messages.clone()
            } else {
                grounding::grounded(&request.messages, hits)
            };
            let chat = Chat {
                generation,
                principal: self.caller.principal.clone(),
                messages,
                max_tokens: TokenCount(answer_tokens),
                sampling: request.sampling.clone(),
                stop: request.stop.clone(),
            };
            match engine::begin(self.shared, self.hold, &Request::Chat(chat)) {
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

/// Hears an answer to its end, a piece at a time; `None` when `take` wants no more.
pub(crate) fn hear(
    begun: &Begun,
    hold: &Hold,
    mut take: impl FnMut(&str) -> bool,
) -> Result<Option<Ended>, HttpProblem> {
    loop {
        match begun.connection.read::<Event>() {
            Ok(Some(Event::Delta { text })) => {
                if !take(text.expose()) {
                    return Ok(None);
                }
            }
            Ok(Some(Event::Finished { reason, completion_tokens, .. })) => {
                return Ok(Some(Ended { reason, tokens: completion_tokens }));
            }
            Ok(Some(Event::Problem(problem))) => return Err(HttpProblem::of(&problem)),
            Ok(_) | Err(_) if hold.is_ended() => return Err(HttpProblem::out_of_time()),
            Ok(Some(_) | None) | Err(_) => {
                tracing::error!(code = "gateway.engine.gone", "an engine ended an answer early");
                return Err(HttpProblem::internal());
            }
        }
    }
}
