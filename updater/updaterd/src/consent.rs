//! What only several persons together may allow: a return below the floor, and going on with a log
//! that was restored from an old copy. Each signs alone; the next act counts who did.

use std::collections::BTreeSet;

use cloister_attest::consent::{Consent, Matter};
use cloister_domain::{Digest, GenerationId, Principal};
use cloister_promotion::{Act, Change, Kind, Leave, Refusal, step};
use cloister_wire::{
    record::{EVIDENCE_MAX, Event, Evidence},
    supply::{Answer, Lacking, RestoredLog},
};

use crate::{books, catch_up::catch_up, core::Core, error::ActError};

/// Takes a person's signed consent: into the log byte for byte, then into the state.
pub(crate) fn consent(core: &Core, envelope: &str) -> Result<Answer, ActError> {
    let _act = core.act();
    catch_up(core)?;
    take(core, envelope).map_err(|error| {
        let subject = [("envelope", Digest::of(envelope.as_bytes()))];
        core.record_refusal("consent", &subject, error)
    })
}

fn take(core: &Core, envelope: &str) -> Result<Answer, ActError> {
    let verified = core.trust()?.consent(envelope.as_bytes())?;
    let consent = verified.get();
    if consent.log.origin != core.config.record.origin {
        return Err(ActError::OtherAppliance);
    }
    let event = match consent.matter {
        Matter::Downgrade { to, from } => {
            whole_log(core)?;
            may_lead_down(core, &leave(consent, to, from))?;
            Event::Downgrade
        }
        Matter::Acknowledgement { checkpoint } => {
            let head = core.recordd.head()?;
            if !head.lacks.iter().any(|lacking| lacking.checkpoint == checkpoint) {
                return Err(ActError::NothingLacks);
            }
            if consent.log.size > head.size {
                return Err(Refusal::Future { signed: consent.log.size, now: head.size }.into());
            }
            Event::Acknowledgement
        }
        // All of these are handed in together, while nothing else can be.
        Matter::Succession { .. } => return Err(ActError::OtherSuccession),
    };
    let digest = Digest::of(envelope.as_bytes());
    let act = format!("{}/{}/{digest}", consent.matter.name(), consent.person);
    core.in_two_writes(|| {
        let record = core.recordd.deposit(event, act, envelope.to_owned())?;
        let (matter, person) = (&consent.matter, &consent.person);
        Ok(core.state().consent(matter, person, envelope.as_bytes(), record)?)
    })?;
    let persons = match consent.matter {
        Matter::Downgrade { to, .. } => {
            leaves(core, to)?.into_iter().map(|leave| leave.person).collect()
        }
        Matter::Acknowledgement { checkpoint } => acknowledged_by(core, checkpoint)?,
        Matter::Succession { .. } => BTreeSet::new(),
    };
    Ok(Answer::Consented {
        persons: persons.iter().map(ToString::to_string).collect(),
        needed: needed(core),
    })
}

fn needed(core: &Core) -> u32 {
    u32::try_from(core.approvals_needed()).unwrap_or(u32::MAX)
}

fn leave(consent: &Consent, to: GenerationId, from: GenerationId) -> Leave {
    Leave { person: consent.person.clone(), to, from, log_size: consent.log.size }
}

/// Refuses a leave that could never be used, so that nobody waits for a second one in vain.
fn may_lead_down(core: &Core, leave: &Leave) -> Result<(), ActError> {
    let world = books::world(core, None, Some(leave.to))?;
    match step(&world, &Act::Rollback { to: leave.to, leaves: vec![leave.clone()] }) {
        Ok(Change::Switched { kind: Kind::Rollback, .. }) => Err(ActError::NotBelowFloor),
        Ok(_) | Err(Refusal::Threshold { .. }) => Ok(()),
        Err(refusal) => Err(refusal.into()),
    }
}

/// The leaves to return to `to` from what is active now that count or could.
pub(crate) fn leaves(core: &Core, to: GenerationId) -> Result<Vec<Leave>, ActError> {
    let Some(active) = core.shelf.active()? else { return Ok(Vec::new()) };
    let last_switch = core.state().last_switch()?;
    let consents = standing(core, &Matter::Downgrade { to, from: active.id() })?;
    let leaves = consents.iter().filter(|consent| consent.log.size >= last_switch);
    Ok(leaves.map(|consent| leave(consent, to, active.id())).collect())
}

/// The stored consents to exactly `matter` whose signatures hold under the root of now.
fn standing(core: &Core, matter: &Matter) -> Result<Vec<Consent>, ActError> {
    let trust = core.trust()?;
    let envelopes = core.state().consents(matter)?;
    let consents = envelopes.iter().filter_map(|envelope| trust.consent(envelope).ok());
    let consents = consents.map(|verified| verified.get().clone());
    Ok(consents.filter(|consent| consent.matter == *matter).collect())
}

fn acknowledged_by(core: &Core, checkpoint: Digest) -> Result<BTreeSet<Principal>, ActError> {
    let consents = standing(core, &Matter::Acknowledgement { checkpoint })?;
    Ok(consents.into_iter().map(|consent| consent.person).collect())
}

/// Refuses while the log lacks records that it had, unless enough persons allow to go on without each of
/// the checkpoints that show it. Returns to former releases are not asked this: what is served may always
/// get safer.
pub(crate) fn whole_log(core: &Core) -> Result<(), ActError> {
    let lacks = core.recordd.head()?.lacks;
    let needed = core.approvals_needed();
    // Of so many nobody knows what else there is.
    let mut allowed = lacks.len() < EVIDENCE_MAX;
    for lacking in &lacks {
        let have = acknowledged_by(core, lacking.checkpoint)?.len();
        allowed &= u64::try_from(have).is_ok_and(|have| have >= needed);
    }
    if allowed { Ok(()) } else { Err(ActError::RestoredLog { needed }) }
}

/// What people are shown of a log that lacks records.
pub(crate) fn restored(core: &Core) -> Result<Option<RestoredLog>, ActError> {
    if core.enrolled().is_none() {
        return Ok(None);
    }
    // A status is shown although the log does not answer.
    let Ok(head) = core.recordd.head() else { return Ok(None) };
    if head.lacks.is_empty() {
        return Ok(None);
    }
    let mut lacks = Vec::new();
    for Evidence { checkpoint, size, note: _ } in head.lacks {
        let persons = acknowledged_by(core, checkpoint)?;
        let acknowledged_by = persons.iter().map(ToString::to_string).collect();
        lacks.push(Lacking { checkpoint, size, acknowledged_by });
    }
    Ok(Some(RestoredLog { lacks, needed: needed(core) }))
}
