//! One connection: an operator's question, or an import that intaked hands over.

use cloister_bundle::handover;
use cloister_daemon::{Connection, FrameError};
use cloister_domain::Coded as _;
use cloister_wire::{
    Problem, Reply, inventory,
    supply::{self, Answer},
};
use serde::Deserialize;

use crate::{
    approve,
    core::Core,
    error::ActError,
    intake::{self, Talk},
    parked, status, switch, trusted,
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
    let mut talk = None;
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
    match request {
        supply::Request::Enrol { root, confirmed } => {
            let (root, record) = intake::enrol(core, root, *confirmed)?;
            Ok(Answer::Enrolled { root, record })
        }
        supply::Request::Status => Ok(Answer::Status(status::status(core)?)),
        supply::Request::Review { import } => {
            Ok(Answer::Import(Box::new(status::import(core, *import)?)))
        }
        supply::Request::Discard { import } => {
            parked::discard(core, *import)?;
            Ok(Answer::Import(Box::new(status::import(core, *import)?)))
        }
        supply::Request::Approve { envelope } => {
            let import = approve::approve(core, envelope)?;
            Ok(Answer::Import(Box::new(status::import(core, import)?)))
        }
        supply::Request::Activate { import } => switch::activate(core, *import),
        supply::Request::Rollback { to } => switch::rollback(core, *to),
    }
}

fn handover<'a>(
    core: &'a Core,
    talk: &mut Option<Talk<'a>>,
    request: &handover::Request,
) -> Result<Option<handover::Answer>, ActError> {
    use handover::{Answer, Request};
    if let Request::Offer(offer) = request {
        if talk.is_some() {
            return Err(ActError::Order);
        }
        let (seen, begun) = intake::offer(core, offer)?;
        *talk = begun;
        return Ok(Some(Answer::Seen(Box::new(seen))));
    }
    if let Request::Trust { meta, keep } = request {
        return Ok(Some(Answer::Trusted(trusted::judge(core, &meta.0, *keep)?)));
    }
    if matches!(request, Request::Parked) {
        return Ok(Some(Answer::Parked(parked::parked(core)?)));
    }
    if let (None, Request::Abort { problem, resumable }) = (&talk, request) {
        intake::abort_unseen(core, problem, *resumable)?;
        return Ok(Some(Answer::Aborted));
    }
    let session = match talk.as_mut().ok_or(ActError::Order)? {
        Talk::Import(session) => session,
        Talk::Look(look) => return look.answer(core, request).map(Some),
    };
    match request {
        Request::Offer(_) | Request::Parked | Request::Trust { .. } => Err(ActError::Order),
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
