//! Another host key for the log, after the machine's own was lost with the part that kept it. Persons sign
//! each alone and hand in together: what is handed in is judged and recorded in one act, so that there is
//! no log which is half on its way.

use std::collections::BTreeMap;

use cloister_attest::consent::Matter;
use cloister_domain::Principal;
use cloister_promotion::Refusal;
use cloister_verify::TrustState;
use cloister_wire::supply::{Answer, LostKey};

use crate::{core::Core, error::ActError, rebuild};

/// Lets the machine's key succeed the log's, if enough approvers say so of this log and this key.
pub(crate) fn succeed(core: &Core, envelopes: &[String]) -> Result<Answer, ActError> {
    let _act = core.act();
    let head = core.recordd.head()?;
    let Some(successor) = head.successor else {
        // Whoever was not told that it is done asks again; recordd knows these words, or refuses them.
        let record = core.recordd.succeed(envelopes.to_vec())?;
        return Ok(Answer::Succeeded { log_key: head.log_key, record });
    };
    // As an auditor does: the database may be lost as well, or behind, and only the log says what is in force.
    let trust = rebuild::trust_that_is_named(core)?;
    let matter = Matter::Succession { checkpoint: successor.checkpoint, key: successor.key };
    let mut words: BTreeMap<Principal, &String> = BTreeMap::new();
    for envelope in envelopes {
        let verified = trust.consent(envelope.as_bytes())?;
        let consent = verified.get();
        if consent.log.origin != core.config.record.origin {
            return Err(ActError::OtherAppliance);
        }
        if consent.matter != matter || consent.log.size != head.size {
            return Err(ActError::OtherSuccession);
        }
        // One person counts once.
        words.entry(consent.person.clone()).or_insert(envelope);
    }
    let have = u64::try_from(words.len()).unwrap_or(u64::MAX);
    let needed = needed(core, &trust);
    if have < needed {
        return Err(Refusal::Threshold { have, needed }.into());
    }
    let record = core.recordd.succeed(words.into_values().cloned().collect())?;
    tracing::warn!(record = record.0, "the log goes on under another host key");
    core.wake();
    Ok(Answer::Succeeded { log_key: successor.log_key, record })
}

/// Persons who must allow it: as many as must approve. recordd asks for as many as the log said last, where
/// that is more.
fn needed(core: &Core, trust: &TrustState) -> u64 {
    let of_root = trust.approvals_needed().unwrap_or(0);
    of_root.max(u64::from(core.config.update.approvals_needed_min))
}

/// What people are shown of a log whose key is lost.
pub(crate) fn lost_key(core: &Core) -> Option<LostKey> {
    // A status is shown although the log does not answer.
    let head = core.recordd.head().ok()?;
    let successor = head.successor?.log_key;
    let needed = core.enrolled().map(|trust| needed(core, &trust));
    Some(LostKey {
        origin: core.config.record.origin.clone(),
        size: head.size,
        root: head.root,
        log_key: head.log_key,
        successor,
        needed: needed.map(|needed| u32::try_from(needed).unwrap_or(u32::MAX)),
    })
}
