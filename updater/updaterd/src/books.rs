//! The books as the rules of promotion ask for them, and the policy in force. The caller holds the
//! right to act until what the rules answer is done.

use std::collections::{BTreeMap, BTreeSet};

use cloister_attest::{
    approval::{Approval, Decision as Said},
    json as canonical,
};
use cloister_bundle::Manifest;
use cloister_domain::{Digest, GenerationId, ImportId, Principal};
use cloister_promotion::{
    Canary, Candidate, Decision, Facility, Generation, Package, Verdict, World,
};
use cloister_shelf::Shelved;
use cloister_state::{Evaluation, Import, StateError};
use cloister_verify::VerifyError;
use cloister_wire::{
    record::Event,
    supply::{Figure, Inspection},
    trial,
};
use serde_json::{Value, json};

use crate::{core::Core, error::ActError, exam::Exam};

/// The books, as far as an act on `import` or a switch to `generation` asks for them.
pub(crate) fn world(
    core: &Core,
    import: Option<ImportId>,
    generation: Option<GenerationId>,
) -> Result<World, ActError> {
    let mut candidates = BTreeMap::new();
    let mut generations = BTreeMap::new();
    if let Some(import) = import {
        let held = core.state().import(import)?;
        if let Some(of) = held.generation {
            let candidate = candidate(core, &held, of)?;
            candidates.insert(import, candidate);
            generations.insert(of, facts(core, of, held.manifest.as_deref())?);
        }
    }
    if let Some(generation) = generation {
        generations.insert(generation, facts(core, generation, None)?);
    }
    let trial = core.state().trial()?.filter(|trial| trial.kind == trial::Kind::Canary);
    let last_switch = core.state().last_switch()?;
    Ok(World {
        facility: facility(core),
        log_size: core.recordd.size()?,
        last_switch,
        active: core.shelf.active()?.map(|active| active.id()),
        canary: trial.map(|trial| Canary {
            import: trial.import,
            generation: trial.generation,
            scope: trial.scope,
        }),
        candidates,
        generations,
    })
}

fn facility(core: &Core) -> Facility {
    Facility {
        approvals_needed: core.approvals_needed(),
        approval_records_max: core.config.update.approval_records_max.into(),
    }
}

/// An import with the decisions about it whose signatures hold under the root of now.
fn candidate(core: &Core, held: &Import, generation: GenerationId) -> Result<Candidate, ActError> {
    let evaluation = core.state().evaluation(held.import)?;
    let package = evaluation.as_ref().map(package_of);
    let trust = core.trust()?;
    let mut decisions = Vec::new();
    for stored in core.state().decisions(held.import)? {
        // Who is no approver any more, or signed in a form of before, does not count.
        if let Ok(verified) = trust.approval(&stored.envelope) {
            decisions.push(decision(verified.get()));
        }
    }
    let nothing = Digest::of(b"");
    // What is not on the shelf is not served whatever its policy says.
    let judged_by = package.map_or(nothing, |package| package.policy);
    let policy = match core.shelf.shelved(generation)?.map(|it| crate::evaluate::read_exam(&it)) {
        Some(Ok(exam)) => policy(core, &exam),
        // A set that was taken once and is taken no more: judged again it is refused.
        Some(Err(ActError::Exam(_))) => nothing,
        Some(Err(error)) => return Err(error),
        None => judged_by,
    };
    Ok(Candidate {
        generation,
        state: held.state,
        importers: importers(core, held.import)?,
        package,
        policy,
        judged_at: core.state().judged_at(held.import)?.map_or(0, |record| record.0 + 1),
        decisions,
    })
}

/// The persons who operated the import of any volume of `import`.
pub(crate) fn importers(core: &Core, import: ImportId) -> Result<BTreeSet<Principal>, ActError> {
    let users = core.state().operators(import)?;
    Ok(persons(core, &users))
}

/// The persons behind users of this machine.
pub(crate) fn persons(core: &Core, users: &[String]) -> BTreeSet<Principal> {
    let mut persons = BTreeSet::new();
    for user in users {
        let listed = core.config.update.operators.iter().filter(|one| one.user == *user);
        persons.extend(listed.map(|one| one.person.clone()));
        // A name that no person can have is nobody's.
        persons.extend(user.parse::<Principal>().ok());
    }
    persons
}

/// A user of this machine who operates an import, and the persons behind that name: what the configuration
/// says of it later makes nobody an approver of what he brought in.
pub(crate) fn operated_by(core: &Core, user: &str) -> BTreeSet<String> {
    let persons = persons(core, &[user.to_owned()]);
    persons.iter().map(ToString::to_string).chain([user.to_owned()]).collect()
}

/// A verified approval as the rules count it.
pub(crate) fn decision(said: &Approval) -> Decision {
    Decision {
        person: said.person.clone(),
        verdict: match said.decision {
            Said::Approve => Verdict::Approve,
            Said::Reject => Verdict::Reject,
        },
        generation: said.bundle,
        package: Package { digest: said.package, policy: said.policy, evidence: said.evidence },
        log_size: said.log.size,
    }
}

fn package_of(evaluation: &Evaluation) -> Package {
    Package { digest: evaluation.package, policy: evaluation.policy, evidence: evaluation.evidence }
}

/// What the shelf, the log of promotions and the trust metadata say of a release.
fn facts(
    core: &Core,
    generation: GenerationId,
    manifest: Option<&[u8]>,
) -> Result<Generation, ActError> {
    let shelved = core.shelf.shelved(generation)?;
    let on_shelf = shelved.as_ref().map(Shelved::manifest).transpose()?;
    let verdict = match manifest.or(on_shelf.as_deref()) {
        Some(manifest) => core.trust()?.may_activate(manifest),
        None => Ok(()),
    };
    let (revoked, below_floor) = match verdict {
        Ok(()) => (false, false),
        Err(VerifyError::Revoked | VerifyError::RevokedKey) => (true, false),
        Err(VerifyError::Rollback { .. }) => (false, true),
        Err(error) => return Err(error.into()),
    };
    let promoted = core.state().promoted()?;
    Ok(Generation {
        retained: shelved.is_some(),
        promoted: promoted.iter().any(|promoted| promoted.generation == generation),
        revoked,
        below_floor,
    })
}

/// Binds manifest, policy and what was found to the one digest that an approval names.
pub(crate) fn package(
    core: &Core,
    import: ImportId,
    manifest: &Manifest,
    exam: &Exam,
    figures: Vec<Figure>,
) -> Result<Evaluation, ActError> {
    let policy = policy(core, exam);
    // A release that is judged anew has its shadows anew.
    Ok(bound(core, import, manifest.generation(), policy, figures, &[])?)
}

/// The evaluation of a release that has run as a shadow too: the report is evidence from now on.
pub(crate) fn package_with(
    core: &Core,
    shadow: &trial::Shown,
) -> Result<Option<Evaluation>, ActError> {
    let Some(judged) = core.state().evaluation(shadow.import)? else { return Ok(None) };
    let mut shadows = core.state().trials_of(shadow.import)?;
    shadows.retain(|trial| trial.kind == trial::Kind::Shadow);
    Ok(Some(with_shadows(core, shadow, &judged, &shadows)?))
}

/// `judged` with the reports of `shadows`, which the one that ended last closes.
pub(crate) fn with_shadows(
    core: &Core,
    last: &trial::Shown,
    judged: &Evaluation,
    shadows: &[trial::Shown],
) -> Result<Evaluation, StateError> {
    let (import, generation) = (last.import, last.generation);
    bound(core, import, generation, judged.policy, judged.figures.clone(), shadows)
}

fn bound(
    core: &Core,
    import: ImportId,
    generation: GenerationId,
    policy: Digest,
    figures: Vec<Figure>,
    shadows: &[trial::Shown],
) -> Result<Evaluation, StateError> {
    let inspection = core.state().inspection(import)?;
    let evidence = evidence(&figures, inspection.as_ref(), shadows);
    let package = package_digest(generation, policy, evidence);
    Ok(Evaluation { figures, policy, evidence, package })
}

/// Binds what was found.
pub(crate) fn evidence(
    figures: &[Figure],
    inspection: Option<&Inspection>,
    shadows: &[trial::Shown],
) -> Digest {
    let mut found = json!({ "figures": figures, "inspection": inspection });
    if !shadows.is_empty() {
        let reports =
            shadows.iter().map(|shadow| json!({ "trial": shadow.trial, "report": shadow.report }));
        found["shadows"] = reports.collect();
    }
    digest(&found)
}

/// Binds a release to what judged it and what was found.
pub(crate) fn package_digest(manifest: GenerationId, policy: Digest, evidence: Digest) -> Digest {
    digest(&json!({ "manifest": manifest, "policy": policy, "evidence": evidence }))
}

/// What judges a release: its publisher's policy and the facility's.
pub(crate) fn bounds(core: &Core, exam: &Exam) -> Value {
    json!({ "publisher": exam.policy, "facility": facility_policy(core) })
}

fn policy(core: &Core, exam: &Exam) -> Digest {
    digest(&bounds(core, exam))
}

fn facility_policy(core: &Core) -> Value {
    let Facility { approvals_needed, approval_records_max } = facility(core);
    json!({
        "minimums": core.minimums(),
        "approvals_needed": approvals_needed,
        "approval_records_max": approval_records_max,
    })
}

/// Records the facility's policy if it is another than the one that was recorded last. The caller
/// holds the right to act.
pub(crate) fn record_policy(core: &Core) -> Result<(), ActError> {
    if core.enrolled().is_none() {
        return Ok(());
    }
    let policy = facility_policy(core);
    let digest = digest(&policy);
    if core.state().policy()? == Some(digest) {
        return Ok(());
    }
    let size = core.recordd.size()?;
    core.unsure_until(|| {
        let record = core.recordd.append(&Core::entry(
            Event::PolicyChange,
            format!("policy/{size}/{digest}"),
            &[("policy", digest)],
            policy,
        ))?;
        Ok(core.state().keep_policy(digest, record)?)
    })
}

pub(crate) fn digest(value: &Value) -> Digest {
    Digest::of(&canonical::canonical(value).expect("integers below 2^53, texts and digests"))
}
