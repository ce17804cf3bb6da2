//! A person's decision about a candidate.

use cloister_attest::approval::Decision;
use cloister_domain::{Class, Digest, ImportId};
use cloister_state::{self as state, Judgement, StateError};
use cloister_verify::VerifyError;
use cloister_wire::{Problem, record::Event, supply::ImportState};

use crate::{core::Core, error::ActError, slots};

/// Takes a person's signed decision: into the log byte for byte, then into the state.
pub(crate) fn approve(core: &Core, envelope: &str) -> Result<ImportId, ActError> {
    let _act = core.act();
    decide(core, envelope).map_err(|error| {
        let subject = [("envelope", Digest::of(envelope.as_bytes()))];
        core.record_refusal("approve", &subject, error)
    })
}

fn decide(core: &Core, envelope: &str) -> Result<ImportId, ActError> {
    let trust = core.trust()?;
    let verified = trust.approval(envelope.as_bytes())?;
    let approval = verified.get();
    let import =
        core.state().import_of_package(approval.package)?.ok_or(ActError::UnknownPackage)?;
    let held = core.state().import(import)?;
    if held.generation != Some(approval.bundle) {
        return Err(VerifyError::OtherPackage.into());
    }
    if !matches!(held.state, ImportState::AwaitingApproval | ImportState::Approved) {
        return Err(ActError::NotOpen { import, state: held.state });
    }
    let before = core.state().decisions(import)?;
    if before.iter().any(|decision| decision.person == approval.person) {
        return Err(StateError::Decided { import }.into());
    }
    let act =
        format!("import/{import}/approval/{}/{}", approval.person, Digest::of(envelope.as_bytes()));
    let record = core.recordd.deposit(Event::Approval, act, envelope.to_owned())?;
    let rejected = approval.decision == Decision::Reject;
    let to = if rejected {
        let problem = Problem::new(
            Class::Refused,
            "approval.rejected",
            format!("{} rejected the release; its record says why", approval.person),
        );
        core.record_import_refused(import, held.generation, &problem)?;
        Some(Judgement::Refused(problem))
    } else {
        let mut all: Vec<&[u8]> =
            before.iter().map(|decision| decision.envelope.as_slice()).collect();
        all.push(envelope.as_bytes());
        let enough =
            trust.approved(&all, approval.package, approval.bundle, core.approvals_needed());
        match (held.state, enough) {
            (ImportState::AwaitingApproval, Ok(_approved)) => Some(Judgement::Passed),
            _ => None,
        }
    };
    let stored = state::Approval {
        person: approval.person.clone(),
        decision: if rejected { state::Decision::Reject } else { state::Decision::Approve },
        envelope: envelope.as_bytes().to_vec(),
        record,
    };
    core.state().decided(import, &stored, to.as_ref())?;
    if rejected {
        slots::give_up(core, approval.bundle)?;
        core.sweep();
    }
    Ok(import)
}
