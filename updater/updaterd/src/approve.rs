//! A person's decision about a candidate.

use std::{collections::BTreeMap, ops::ControlFlow};

use cloister_attest::{approval::Approval, dsse::Envelope};
use cloister_domain::{Class, Digest, ImportId, RecordIndex};
use cloister_promotion::{Act, Change, Refusal, Verdict, step};
use cloister_state::{self as state, Judgement, Series};
use cloister_wire::{
    Problem,
    record::Event,
    supply::ImportState,
    trial::{End, Kind},
};

use crate::{
    books,
    catch_up::catch_up,
    consent,
    core::{Core, is_refusal},
    error::ActError,
    slots, trial,
};

/// Takes a person's signed decision: into the log byte for byte, then into the state.
pub(crate) fn approve(core: &Core, envelope: &str) -> Result<ImportId, ActError> {
    let _act = core.act();
    catch_up(core)?;
    core.in_two_writes(|| decide(core, envelope, None)).map_err(|error| {
        let subject = [("envelope", Digest::of(envelope.as_bytes()))];
        core.record_refusal("approve", &subject, error)
    })
}

/// Judges a decision now, or as it was when it was `recorded`: what counted then counts, however much was
/// recorded since.
fn decide(
    core: &Core,
    envelope: &str,
    recorded: Option<RecordIndex>,
) -> Result<ImportId, ActError> {
    let verified = core.trust()?.approval(envelope.as_bytes())?;
    let approval = verified.get();
    if approval.log.origin != core.config.record.origin {
        return Err(ActError::OtherAppliance);
    }
    let import = core.state().import_of_package(approval.package)?.ok_or(Refusal::Package)?;
    let mut world = books::world(core, Some(import), None)?;
    world.log_size = recorded.map_or(world.log_size, |record| record.0);
    let decision = books::decision(approval);
    if decision.verdict == Verdict::Approve {
        consent::whole_log(core)?;
        let shadow = core.state().trial()?;
        if let Some(shadow) =
            shadow.filter(|trial| trial.kind == Kind::Shadow && trial.import == import)
        {
            return Err(ActError::Shadowed { trial: shadow.trial });
        }
    }
    let act = Act::Decide { import, decision };
    let Change::Decided { decision, to, .. } = step(&world, &act)? else {
        unreachable!("a decision is answered by one");
    };
    let act =
        format!("import/{import}/approval/{}/{}", decision.person, Digest::of(envelope.as_bytes()));
    let record = core.recordd.deposit(Event::Approval, act, envelope.to_owned())?;
    let rejected = to == Some(ImportState::Refused);
    let to = if rejected {
        let problem = Problem::new(
            Class::Refused,
            "approval.rejected",
            format!("{} rejected the release; its record says why", decision.person),
        );
        core.record_import_refused(import, Some(decision.generation), &problem)?;
        Some(Judgement::Refused(problem))
    } else {
        to.map(|_approved| Judgement::Passed)
    };
    let stored = state::Approval {
        person: decision.person,
        decision: match decision.verdict {
            Verdict::Approve => state::Decision::Approve,
            Verdict::Reject => state::Decision::Reject,
        },
        envelope: envelope.as_bytes().to_vec(),
        record,
    };
    core.state().decided(import, &stored, to.as_ref())?;
    if rejected {
        let ended = trial::end_of(core, decision.generation, End::Void);
        let given_up = ended.and_then(|()| slots::give_up(core, decision.generation));
        given_up.inspect_err(|_error| core.leave_unfinished())?;
        core.sweep();
    }
    Ok(import)
}

/// Takes in what persons decided and only the log holds. An approval of before the last judgement is void; the
/// rules say so.
///
/// The caller holds the right to act.
pub(crate) fn take_in(core: &Core) -> Result<(), ActError> {
    if core.enrolled().is_none() {
        return Ok(());
    }
    for Deposited { approval, text, record } in newest(core)? {
        let Some(import) = core.state().import_of_package(approval.package)? else { continue };
        let held = core.state().import(import)?.state;
        let known = core.state().decisions(import)?;
        let known = known.iter().any(|decision| decision.envelope == text.as_bytes());
        if known || !matches!(held, ImportState::AwaitingApproval | ImportState::Approved) {
            continue;
        }
        match decide(core, &text, Some(record)) {
            Err(error) if is_refusal(&error) => {
                tracing::info!(code = error.problem().code, "a decision of the log does not count");
            }
            decided => {
                let import = decided?.0;
                tracing::info!(import, "a decision that was cut off counts");
            }
        }
    }
    Ok(())
}

/// A decision that the log holds.
struct Deposited {
    approval: Approval,
    text: String,
    record: RecordIndex,
}

impl Deposited {
    fn is_rejection(&self) -> bool {
        books::decision(&self.approval).verdict == Verdict::Reject
    }
}

/// The newest decision of each person about each package. No later word takes a rejection back.
fn newest(core: &Core) -> Result<Vec<Deposited>, ActError> {
    let mut newest = BTreeMap::new();
    core.recordd.each(RecordIndex(0), |record, text| {
        let Ok(envelope) = Envelope::parse(text.as_bytes()) else {
            return ControlFlow::Continue(());
        };
        if let Ok(approval) = Approval::of(&envelope) {
            let about = (approval.package, approval.person.clone());
            let is_final = newest.get(&about).is_some_and(Deposited::is_rejection);
            if !is_final {
                newest.insert(about, Deposited { approval, text: text.to_owned(), record });
            }
        }
        ControlFlow::Continue(())
    })?;
    Ok(newest.into_values().collect())
}

/// Has a release judged again that waits for approvals, or has them; what was decided is void.
pub(crate) fn evaluate_again(core: &Core, import: ImportId) -> Result<(), ActError> {
    let _act = core.act();
    catch_up(core)?;
    let world = books::world(core, Some(import), None)?;
    let about = core.state().import(import)?.generation;
    let subject: Vec<(&str, Digest)> = about.iter().map(|id| ("bundle", id.0)).collect();
    let asked = step(&world, &Act::Evaluate { import });
    asked.map_err(|refusal| core.record_refusal("evaluate", &subject, refusal.into()))?;
    if let Some(generation) = about {
        trial::end_of(core, generation, End::Void)?;
    }
    let number = core.draw(Series::Refusal)?;
    core.in_two_writes(|| {
        let record = core.recordd.append(&Core::entry(
            Event::EvaluationAsked,
            format!("import/{import}/evaluate/{number}"),
            &subject,
            serde_json::json!({ "import": import }),
        ))?;
        Ok(core.state().evaluate_again(import, record)?)
    })?;
    core.wake();
    Ok(())
}
