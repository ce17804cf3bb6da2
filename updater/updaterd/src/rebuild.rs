//! The state database made anew after it was lost: from the trust metadata that is kept beside it, from
//! the shelf, and from the log. What cannot be known for sure is taken for the worse: an import whose
//! bytes nobody vouches for any more is refused, one whose evaluation does not add up is evaluated again.

pub(crate) mod history;

use std::{collections::BTreeMap, ops::ControlFlow};

use cloister_attest::approval::Decision as Said;
use cloister_domain::{ByteCount, Class, GenerationId, ImportId, RecordIndex};
use cloister_promotion::{Act, Candidate, Change, Facility, Package, World, step};
use cloister_state::{
    Activation, Approval, Counted, Decision, Evaluation, Kind, Outcome, Past, PastImport,
    PastTrial, Trust,
};
use cloister_verify::{Accepted, Stored, TrustState};
use cloister_wire::{
    Problem,
    intake::Summary,
    record::Event,
    supply::{Answer, ImportState},
    trial::End,
};
use serde_json::json;

use crate::{
    anchor, books,
    core::{Core, trust_files, vector_text},
    error::ActError,
    intake::manifest,
};
use history::{History, Told};

/// How often an activation that was cut off may still be tried.
const TRIES: u32 = 60;

/// Rebuilds the database. Only where it is empty while the log is not.
pub(crate) fn rebuild(core: &Core) -> Result<Answer, ActError> {
    let _act = core.act();
    if core.enrolled().is_some() || !core.is_lost()? {
        return Err(ActError::NotLost);
    }
    let history = read(core)?;
    let (trust, trusted) = trust_of(core, &history)?;
    let record = core.recordd.append(&Core::entry(
        Event::StateRebuilt,
        format!("state/rebuilt/{}", history.size),
        &[("trust-root", trust.root_digest())],
        json!({
            "records": history.size,
            "imports": history.imports.len(),
            "activations": history.activations.len(),
        }),
    ))?;
    let mut imports = Vec::new();
    for (import, told) in &history.imports {
        imports.push(past_import(core, &trust, *import, told)?);
    }
    let past = Past {
        trust: Trust { vector: vector_text(&trust), files: trust_files(&trust), record: trusted },
        series: history.series(),
        counters: counters(&history),
        promoted: promoted(&history),
        activations: activations(&history),
        trials: trials(&history),
        consents: history.consents.clone(),
        pins: history.pins.iter().map(|(id, record)| (*id, *record)).collect(),
        policies: history.policies.clone(),
        imports,
    };
    anchor::keep(&core.config.paths.trust(), &trust)?;
    core.state().rebuild(&past)?;
    core.take_trust(trust);
    // Nobody has watched over it since, nor knows how long it has lasted.
    let open = core.state().trial()?;
    if let Some(trial) = open {
        crate::trial::end(core, &trial, End::Void)?;
    }
    tracing::warn!(records = history.size, "the state database was rebuilt from the log");
    // Slots, an interrupted activation and evaluations are the worker's.
    core.wake();
    let imports = u64::try_from(past.imports.len()).unwrap_or(u64::MAX);
    let activations = u64::try_from(past.activations.len()).unwrap_or(u64::MAX);
    Ok(Answer::Rebuilt { records: history.size, imports, activations, record })
}

/// The trust state that the log names, for what is decided whatever the database says.
pub(crate) fn trust_that_is_named(core: &Core) -> Result<TrustState, ActError> {
    Ok(trust_of(core, &read(core)?)?.0)
}

/// The whole log.
pub(crate) fn read(core: &Core) -> Result<History, ActError> {
    let mut history = History::default();
    core.recordd.each(RecordIndex(0), |_index, entry| {
        history.take(entry);
        ControlFlow::Continue(())
    })?;
    Ok(history)
}

/// The trust state that the log names, with every ratchet at least where the log says it was.
pub(crate) fn trust_of(
    core: &Core,
    history: &History,
) -> Result<(TrustState, RecordIndex), ActError> {
    let told = history.trusted.as_ref().ok_or(ActError::TrustNotKept)?;
    let is_told = |trust: &TrustState| {
        let vector = &trust.stored().vector;
        let versions =
            [vector.root, vector.timestamp, vector.snapshot, vector.targets, vector.sequence];
        let floor = vector.time_floor.clone().map(String::from);
        Some(vector.root_sha256) == told.root
            && told.versions.map_or(vector.timestamp == 0, |told| told == versions)
            && told.time_floor.as_ref().is_none_or(|told| Some(told) == floor.as_ref())
    };
    let kept = anchor::all(&core.config.paths.trust())?;
    let mut found: Option<TrustState> = None;
    for trust in kept.into_iter().filter(is_told) {
        let Stored { files, mut vector } = trust.stored().clone();
        // Two that the log cannot tell apart differ in what was promoted; the higher counts.
        if let Some(other) = &found {
            anchor::merge(&mut vector.releases, &other.stored().vector.releases);
        }
        found = Some(TrustState::load(Stored { files, vector })?);
    }
    let Stored { files, mut vector } = found.ok_or(ActError::TrustNotKept)?.stored().clone();
    merge_promotions(core, history, &mut vector.releases)?;
    Ok((TrustState::load(Stored { files, vector })?, told.record))
}

/// Every promotion of the log raises counter and floor of its name, as it did then.
fn merge_promotions(
    core: &Core,
    history: &History,
    releases: &mut BTreeMap<String, Accepted>,
) -> Result<(), ActError> {
    for (generation, record) in &history.promotions {
        if history.fallen.contains(record) {
            continue;
        }
        let generation = *generation;
        let on_shelf = on_shelf(core, generation)?;
        // One that was refused at its head says nothing of its counter.
        let of = |told: &&Told| told.generation == Some(generation) && told.counter.is_some();
        let told = history.imports.values().rev().find(of);
        let accepted = match (&on_shelf, told) {
            (Some((_, manifest)), _) => {
                let release = manifest.release();
                Some((release.name.clone(), release.release_counter, release.min_release_counter))
            }
            // Where nobody says how far back its publisher let one go, not at all.
            (None, Some(told)) => told
                .name
                .clone()
                .zip(told.counter)
                .map(|(name, counter)| (name, counter, told.floor.unwrap_or(counter))),
            (None, None) => None,
        };
        if let Some((name, counter, floor)) = accepted {
            let accepted = Accepted { counter, generation, floor };
            anchor::merge(releases, &BTreeMap::from([(name, accepted)]));
        }
    }
    Ok(())
}

/// A release that is on the shelf, with its envelope, if its manifest is its own.
fn on_shelf(
    core: &Core,
    generation: GenerationId,
) -> Result<Option<(Vec<u8>, cloister_bundle::Manifest)>, ActError> {
    let Some(shelved) = core.shelf.shelved(generation)? else { return Ok(None) };
    let envelope = shelved.manifest()?;
    let known = manifest(&envelope).ok().filter(|manifest| manifest.generation() == generation);
    Ok(known.map(|manifest| (envelope, manifest)))
}

fn counters(history: &History) -> Vec<Counted> {
    let passed = history.imports.values().filter_map(|told| {
        let reached = |(state, record): &(ImportState, RecordIndex)| {
            (*state == ImportState::AwaitingApproval).then_some(*record)
        };
        Some(Counted {
            name: told.name.clone()?,
            counter: told.counter?,
            generation: told.generation?,
            record: told.steps.iter().find_map(reached)?,
        })
    });
    passed.collect()
}

fn promoted(history: &History) -> Vec<(GenerationId, ImportId, RecordIndex)> {
    let mut promoted = BTreeMap::new();
    for (generation, record) in &history.promotions {
        let brought = |(_, told): &(&ImportId, &Told)| told.generation == Some(*generation);
        if let Some((import, _)) = history.imports.iter().rev().find(brought) {
            promoted.entry(*generation).or_insert((*import, *record));
        }
    }
    promoted.into_iter().map(|(id, (import, record))| (id, import, record)).collect()
}

/// Of those without an outcome only the last can be open; it may be tried as often as a new one. What is not
/// known to have fallen stood its probation: its floor is raised too, so that the way back may be closed.
fn activations(history: &History) -> Vec<Activation> {
    let last = history.activations.keys().next_back().copied();
    let known = history.activations.values().filter(|one| {
        // A canary that was cut off has not begun; its intent is closed as one that nobody knows of.
        one.outcome.is_some() || (Some(one.activation) == last && one.kind != Kind::Canary)
    });
    let stood = |one: &Activation| matches!(one.outcome, Some((Outcome::Promoted, record)) if !history.fallen.contains(&record));
    known.map(|one| Activation { tries_left: TRIES, stood: stood(one), ..*one }).collect()
}

/// The trials that began; of those without an end only the last can be under way.
fn trials(history: &History) -> Vec<PastTrial> {
    let last = history.trials.keys().next_back().copied();
    // Nobody knows how long an open one has lasted: its whole time, so that it is over if its end is cut off.
    let over = |trial: &PastTrial| {
        let mut trial = trial.clone();
        if trial.end.is_none() {
            trial.shown.lasted_s = trial.shown.seconds;
        }
        trial
    };
    let began = history.trials.values().filter(|trial| {
        let number = trial.shown.trial;
        let outcome = history.activations.get(&number).map(|one| one.outcome);
        let begun = matches!(outcome, None | Some(Some((Outcome::Begun, _))));
        trial.end.is_some() || (begun && Some(number) == last)
    });
    began.map(over).collect()
}

fn past_import(
    core: &Core,
    trust: &TrustState,
    import: ImportId,
    told: &Told,
) -> Result<PastImport, ActError> {
    let shelved = match told.generation {
        Some(generation) => on_shelf(core, generation)?,
        None => None,
    };
    // What the log saw shelved is these bytes and no others.
    let shelved = shelved.filter(|(envelope, _)| {
        told.envelope.is_none_or(|told| told == cloister_domain::Digest::of(envelope))
    });
    let summary = summary(core, told, shelved.as_ref().map(|(_, manifest)| manifest))?;
    let mut past = PastImport {
        import,
        steps: told.steps.clone(),
        generation: told.generation,
        summary,
        manifest: shelved.map(|(envelope, _)| envelope),
        problem: None,
        operators: told.operators.iter().cloned().collect(),
        inspection: told.inspection.clone(),
        evaluation: told.evaluation.clone(),
        approvals: Vec::new(),
    };
    past.approvals = approvals(told);
    if let (Some(generation), Some((recorded, record))) = (told.generation, &told.evaluation)
        && let Some(whole) = added_up(generation, recorded, told)
    {
        past.evaluation = Some((whole, *record));
    }
    let state = told.state();
    match state {
        Some(ImportState::Refused) => past.problem = Some(refused_as(told)),
        Some(ImportState::Activated) => {}
        Some(ImportState::AwaitingApproval) if past.manifest.is_some() => {
            weigh(core, trust, told, &mut past)?;
        }
        Some(ImportState::Evaluating) if past.manifest.is_some() => {}
        // Nothing vouches for what lies in quarantine, or nothing is left of it.
        _ => refuse(core, &mut past, lost())?,
    }
    Ok(past)
}

fn lost() -> Problem {
    Problem::new(
        Class::Refused,
        "import.lost",
        "the state database was lost while this import was under way; import the release again",
    )
}

/// The refusal of which the log tells; the words of then are not in it.
pub(crate) fn refused_as(told: &Told) -> Problem {
    let (code, class) = told.refused.clone().unwrap_or_default();
    let class = serde_json::from_value(class.into()).unwrap_or(Class::Refused);
    Problem::new(
        class,
        &code,
        "refused before the state database caught up with the log; the record says when",
    )
}

/// Refuses an import, the record first.
fn refuse(core: &Core, past: &mut PastImport, problem: Problem) -> Result<(), ActError> {
    let record = core.record_import_refused(past.import, past.generation, &problem)?;
    past.steps.push((ImportState::Refused, record));
    past.problem = Some(problem);
    Ok(())
}

/// What was decided about an import that awaits approval, judged by the rules as it was then.
fn weigh(
    core: &Core,
    trust: &TrustState,
    told: &Told,
    past: &mut PastImport,
) -> Result<(), ActError> {
    let (Some(generation), Some((recorded, judged))) = (past.generation, &told.evaluation) else {
        return Ok(());
    };
    let Some(evaluation) = added_up(generation, recorded, told) else {
        past.steps.push((ImportState::Evaluating, *judged));
        return Ok(());
    };
    let package = Package {
        digest: evaluation.package,
        policy: evaluation.policy,
        evidence: evaluation.evidence,
    };
    let candidate = Candidate {
        generation,
        state: ImportState::AwaitingApproval,
        importers: books::persons(core, &past.operators),
        package: Some(package),
        policy: package.policy,
        judged_at: judged.0 + 1,
        decisions: Vec::new(),
    };
    let import = past.import;
    let mut world = World {
        facility: facility(core, trust),
        log_size: 0,
        last_switch: 0,
        active: None,
        canary: None,
        candidates: BTreeMap::from([(import, candidate)]),
        generations: BTreeMap::new(),
    };
    for (text, record) in &told.approvals {
        let Ok(verified) = trust.approval(text.as_bytes()) else { continue };
        world.log_size = record.0;
        let decision = books::decision(verified.get());
        let Ok(change) = step(&world, &Act::Decide { import, decision }) else { continue };
        world.apply(&change);
        match change {
            Change::Decided { to: Some(ImportState::Refused), .. } => {
                let problem = Problem::new(
                    Class::Refused,
                    "approval.rejected",
                    "an approver rejected the release; its record says why",
                );
                return refuse(core, past, problem);
            }
            Change::Decided { to: Some(state), .. } => past.steps.push((state, *record)),
            _ => {}
        }
    }
    Ok(())
}

/// Persons who must approve: the root's number or the facility's, whichever is greater.
fn facility(core: &Core, trust: &TrustState) -> Facility {
    let update = &core.config.update;
    let of_root = trust.approvals_needed().unwrap_or(0);
    Facility {
        approvals_needed: of_root.max(u64::from(update.approvals_needed_min)),
        approval_records_max: update.approval_records_max.into(),
    }
}

/// The evaluation, if the digests that were recorded are those of what was recorded with them.
fn added_up(generation: GenerationId, recorded: &Evaluation, told: &Told) -> Option<Evaluation> {
    let inspection = told.inspection.as_ref().map(|(found, _)| found);
    let evidence = books::evidence(&recorded.figures, inspection, &told.shadows);
    // The record of an evaluation tells its evidence; a shadow's end only the package that it leads to.
    let same = evidence == recorded.evidence || !told.shadows.is_empty();
    let package = books::package_digest(generation, recorded.policy, evidence);
    (same && package == recorded.package).then(|| Evaluation { evidence, ..recorded.clone() })
}

/// What persons decided, as it is stored. Whose word still counts is judged by each act.
fn approvals(told: &Told) -> Vec<Approval> {
    let read = told.approvals.iter().filter_map(|(text, record)| {
        let envelope = cloister_attest::dsse::Envelope::parse(text.as_bytes()).ok()?;
        let said = cloister_attest::approval::Approval::of(&envelope).ok()?;
        let decision = match said.decision {
            Said::Approve => Decision::Approve,
            Said::Reject => Decision::Reject,
        };
        let envelope = text.clone().into_bytes();
        Some(Approval { person: said.person, decision, envelope, record: *record })
    });
    read.collect()
}

/// What an import holds: by its manifest where that is on the shelf, else as far as the log says.
fn summary(
    core: &Core,
    told: &Told,
    manifest: Option<&cloister_bundle::Manifest>,
) -> Result<Option<Summary>, ActError> {
    let (Some(generation), Some(name), Some(version), Some(counter)) =
        (told.generation, &told.name, &told.version, told.counter)
    else {
        return Ok(None);
    };
    let release = manifest.map(cloister_bundle::Manifest::release);
    let files = release.map(|release| release.files.as_slice()).unwrap_or_default();
    let plain_bytes = release.map_or(told.plain_bytes, |release| release.index.plain_bytes);
    let fit = match release {
        Some(release) => crate::preflight::worksheet(core, release, plain_bytes)?,
        None => Vec::new(),
    };
    Ok(Some(Summary {
        generation,
        name: name.clone(),
        version: version.clone(),
        counter,
        signers: told.signers.clone(),
        root_version: told.root_version,
        plain_bytes: ByteCount(plain_bytes),
        stored_bytes: ByteCount(release.map_or(0, |release| release.index.stored_bytes)),
        present_bytes: ByteCount(0),
        files: files
            .iter()
            .map(|file| (file.path.as_str().to_owned(), ByteCount(file.size)))
            .collect(),
        fit,
    }))
}
