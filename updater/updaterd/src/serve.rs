//! One connection: an operator's question, or an import that intaked hands over.

use cloister_bundle::handover;
use cloister_daemon::{Connection, FrameError};
use cloister_domain::Coded as _;
use cloister_verify::TrustState;
use cloister_wire::{
    Problem, Reply, inventory,
    supply::{self, Answer},
};
use serde::Deserialize;

use crate::{
    approve,
    catch_up::may_act,
    consent,
    core::Core,
    error::ActError,
    intake::{self, Talk},
    parked, rebuild, review, scrub, status, succession, sweep, switch, trial, trusted,
    turn::Turn,
};

/// All kinds of questions; their tags are disjoint.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Question {
    Supply(supply::Request),
    Inventory(inventory::Request),
    Handover(handover::Request),
}

/// Answers until the other end is done.
pub(crate) fn converse(core: &Core, connection: &Connection) {
    let mut talk = Conversation::default();
    loop {
        let told = match connection.read::<Question>() {
            Ok(None) => return,
            Ok(Some(Question::Supply(request))) => {
                let reply: Reply<Answer> = supply(core, &request).map_err(|error| tell(&error));
                connection.write(&reply)
            }
            Ok(Some(Question::Inventory(inventory::Request::Inventory { from }))) => {
                let page: Reply<inventory::Page> =
                    crate::inventory::page(core, from).map_err(|error| tell(&error));
                connection.write(&page)
            }
            // Who imports is what intaked saw at the other end of its own socket.
            Ok(Some(Question::Handover(_))) if let Err(problem) = connection.daemons_only() => {
                tracing::warn!(code = problem.code, uid = connection.peer().uid, "refused");
                connection.write(&handover::Answer::Problem(problem))
            }
            Ok(Some(Question::Handover(request))) => match handover(core, &mut talk, &request) {
                Ok(None) => Ok(()),
                Ok(Some(answer)) => connection.write(&answer),
                Err(error) => {
                    report(connection.write(&handover::Answer::Problem(tell(&error))));
                    return;
                }
            },
            Err(error @ FrameError::Form { .. }) => {
                connection.write(&Reply::<Answer>::Err(Problem::of(&error)))
            }
            Err(error) => {
                report(Err(error));
                return;
            }
        };
        if told.is_err() {
            report(told);
            return;
        }
    }
}

/// A connection that broke is the other end's loss; what was done is done.
fn report(told: Result<(), FrameError>) {
    if let Err(error) = told {
        tracing::debug!(code = error.code(), "a connection broke off");
    }
}

/// The problem for the other end; a fault is also the operator's to see.
fn tell(error: &ActError) -> Problem {
    use cloister_domain::Class;
    let problem = error.problem();
    let cause: &dyn std::error::Error = error;
    match problem.class {
        Class::Refused | Class::Busy => tracing::info!(code = problem.code, "refused"),
        Class::Fault => tracing::warn!(code = problem.code, error = cause, "an act failed"),
        Class::Corrupt => {
            tracing::error!(code = problem.code, error = cause, "stored bytes are wrong")
        }
    }
    problem
}

fn supply(core: &Core, request: &supply::Request) -> Result<Answer, ActError> {
    // Without a log nothing is done either way, and what is asked says so itself.
    let asks = !matches!(
        request,
        supply::Request::Status
            | supply::Request::Rebuild
            | supply::Request::Succeed { .. }
            | supply::Request::Enrol { .. }
    );
    if asks && core.is_lost().unwrap_or(false) {
        return Err(ActError::Lost);
    }
    if asks && !matches!(request, supply::Request::Review { .. }) {
        match may_act(core) {
            // What is given up is, and the log hears of it later.
            Err(ActError::Recordd(_)) if matches!(request, supply::Request::Discard { .. }) => {}
            other => other?,
        }
    }
    match request {
        supply::Request::Rebuild => rebuild::rebuild(core),
        supply::Request::Enrol { root, confirmed } => {
            let (root, record) = intake::enrol(core, root, *confirmed)?;
            Ok(Answer::Enrolled { root, record })
        }
        supply::Request::Status => Ok(Answer::Status(Box::new(status::status(core)?))),
        supply::Request::Review { import } => {
            Ok(Answer::Import(Box::new(review::review(core, *import)?)))
        }
        supply::Request::Discard { import } => {
            parked::discard(core, *import)?;
            Ok(Answer::Import(Box::new(status::import(core, *import)?)))
        }
        supply::Request::Approve { envelope } => {
            let import = approve::approve(core, envelope)?;
            Ok(Answer::Import(Box::new(status::import(core, import)?)))
        }
        supply::Request::Evaluate { import } => {
            approve::evaluate_again(core, *import)?;
            Ok(Answer::Import(Box::new(status::import(core, *import)?)))
        }
        supply::Request::Consent { envelope } => consent::consent(core, envelope),
        supply::Request::Succeed { envelopes } => succession::succeed(core, envelopes),
        supply::Request::StartTrial { kind, import, scope, seconds } => {
            trial::start(core, *kind, *import, scope, *seconds)
        }
        supply::Request::EndTrial => trial::end_by_word(core),
        supply::Request::Activate { import } => switch::activate(core, *import),
        supply::Request::Pin { generation, pinned } => {
            sweep::pin(core, *generation, *pinned)?;
            Ok(Answer::Status(Box::new(status::status(core)?)))
        }
        supply::Request::Scrub => scrub::by_word(core),
        supply::Request::Sweep { pretend } => sweep::by_word(core, *pretend),
        supply::Request::Rollback { to } => switch::rollback(core, *to),
    }
}

/// What a connection of intaked has come to.
#[derive(Debug, Default)]
struct Conversation<'a> {
    talk: Option<Talk<'a>>,
    /// Trust metadata that was shown, and counts for what is looked at afterwards.
    supposed: Option<TrustState>,
    turn: Option<Turn<'a>>,
}

/// What needs no volume to have been offered; `None` for every other request.
fn before_a_volume<'a>(
    core: &'a Core,
    conversation: &mut Conversation<'a>,
    request: &handover::Request,
) -> Result<Option<handover::Answer>, ActError> {
    use handover::{Answer, Request};
    match request {
        Request::Offer(offer) => {
            if conversation.talk.is_some() {
                return Err(ActError::Order);
            }
            if offer.purpose == handover::Purpose::Import {
                may_act(core)?;
            }
            let supposed = conversation.supposed.as_ref();
            let (seen, begun) = intake::offer(core, offer, supposed)?;
            conversation.talk = begun;
            Ok(Some(Answer::Seen(Box::new(seen))))
        }
        Request::Trust { meta, keep } => {
            let judged = if *keep {
                may_act(core)?;
                trusted::take(core, &meta.0)
            } else {
                let held = conversation.supposed.take().map_or_else(|| core.trust_of_turn(), Ok)?;
                let judged = trusted::suppose(core, &held, &meta.0);
                let (trusted, newer) = match judged {
                    Ok((trusted, newer)) => (Ok(trusted), newer),
                    Err(error) => (Err(error), held),
                };
                conversation.supposed = Some(newer);
                trusted
            };
            Ok(Some(judged.map_or_else(|error| Answer::Problem(tell(&error)), Answer::Trusted)))
        }
        Request::Parked => Ok(Some(Answer::Parked(parked::parked(core)?))),
        Request::Begin => {
            conversation.turn = Some(core.begin_turn());
            Ok(Some(Answer::Parked(parked::parked(core)?)))
        }
        Request::Abort { problem, resumable } if conversation.talk.is_none() => {
            intake::abort_unseen(core, problem, *resumable)?;
            Ok(Some(Answer::Aborted))
        }
        _ => Ok(None),
    }
}

fn handover<'a>(
    core: &'a Core,
    conversation: &mut Conversation<'a>,
    request: &handover::Request,
) -> Result<Option<handover::Answer>, ActError> {
    use handover::{Answer, Request};
    if let Some(answer) = before_a_volume(core, conversation, request)? {
        return Ok(Some(answer));
    }
    let session = match conversation.talk.as_mut().ok_or(ActError::Order)? {
        Talk::Import(session) => session,
        Talk::Look(look) => return look.answer(core, request).map(Some),
    };
    match request {
        Request::Offer(_) | Request::Parked | Request::Begin | Request::Trust { .. } => {
            Err(ActError::Order)
        }
        Request::Parted { .. } => {
            parked::parted(core, session, request)?;
            Ok(Some(Answer::Kept))
        }
        Request::Index { part } => Ok(Some(match session.index(core, &part.0)? {
            None => Answer::More,
            Some(plan) => Answer::Plan(plan),
        })),
        Request::Fill { chunks } => {
            let chunks = session.fill(core, chunks)?;
            Ok(Some(Answer::Filled { chunks }))
        }
        Request::Progress { done_bytes } => {
            tracing::debug!(import = session.import().0, bytes = done_bytes.0, "received");
            Ok(None)
        }
        Request::Complete(complete) => {
            let generation = session.complete(core, complete)?;
            Ok(Some(Answer::Adopted { generation }))
        }
        Request::Abort { problem, resumable } => {
            session.abort(core, problem, *resumable)?;
            Ok(Some(Answer::Aborted))
        }
    }
}
