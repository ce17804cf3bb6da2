//! Judging a candidate: loaded in the idle slot, asked what its evaluation set asks, beside the
//! active generation. The verdict itself is [`crate::verdict`]'s.

use std::sync::atomic::{AtomicBool, Ordering};

use cloister_bundle::Manifest;
use cloister_daemon::FrameError;
use cloister_domain::{Class, GenerationId, ImportId, RecordIndex, Sensitive, Slot, TokenCount};
use cloister_shelf::Shelved;
use cloister_state::{Judgement, StateError};
use cloister_wire::{
    Problem,
    engine::{Message, Role},
    record::Event,
    supply::{Figure, ImportState},
};
use serde_json::json;

use crate::{
    books,
    catch_up::catch_up,
    core::Core,
    error::ActError,
    exam::{Exam, ExamError, Golden, ReadError},
    peers::{Completion, Engine},
    slots,
    verdict::{self, Measured},
};

/// How often the speed is measured on each generation, in turns; the best counts, because whatever
/// else the machine does can only slow it down.
const SPEED_ROUNDS: usize = 3;
/// Golden questions that are asked again for their speed.
const SPEED_QUESTIONS: usize = 4;
/// Length of the completion that every candidate must write.
const COMPLETION_TOKENS: u32 = 16;
/// A text that any language model can score; its words do not matter.
const PROBE_TEXT: &str = "The quick brown fox jumps over the lazy dog.";

/// The code of a verdict that refuses.
pub(crate) const WORSE: &str = "evaluation.worse";

/// How an evaluation was left.
#[derive(Debug)]
pub(crate) enum Left {
    /// It has a verdict.
    Judged,
    /// Something that is needed does not answer, or another generation took the slot; soon again.
    Waiting(ActError),
    /// The active release broke off, maybe because of the candidate's questions; each time later again.
    Beside(ActError),
    /// The engine broke off, maybe because of the candidate; again, a few times.
    Struck(ActError),
}

/// Evaluates an import that stands in `Evaluating`.
pub(crate) fn evaluate(core: &Core, import: ImportId) -> Result<Left, ActError> {
    let held = core.state().import(import)?;
    let (ImportState::Evaluating, Some(generation), Some(envelope)) =
        (held.state, held.generation, held.manifest)
    else {
        return Ok(Left::Judged);
    };
    if let Some(trial) = core.state().trial()? {
        // The slot is taken.
        return Ok(Left::Waiting(ActError::TrialUnderWay { trial: trial.trial }));
    }
    let absent = cloister_shelf::ShelfError::Absent { generation };
    let candidate = core.shelf.shelved(generation)?.ok_or(absent)?;
    let manifest = crate::intake::manifest(&envelope)?;
    match examine(core, import, &candidate) {
        Ok(None) => Ok(Left::Judged),
        Ok(Some((exam, measured, active, slot))) => {
            let beside = active.as_ref().map(|(_, measured)| measured);
            let mut figures = verdict::judge(&measured, beside, &exam.policy, &core.minimums());
            for figure in figures.iter_mut().filter(|figure| figure.active.is_some()) {
                figure.beside = active.as_ref().map(|(generation, _)| *generation);
            }
            conclude(core, import, &manifest, &exam, figures, slot)?;
            Ok(Left::Judged)
        }
        Err(error) => sort(core, import, generation, error),
    }
}

/// What a failed examination means.
fn sort(
    core: &Core,
    import: ImportId,
    generation: GenerationId,
    error: ActError,
) -> Result<Left, ActError> {
    match error {
        ActError::Told(problem) if problem.code == "engine.generation.mismatch" => {
            Ok(Left::Waiting(ActError::Told(problem)))
        }
        ActError::Told(problem) if matches!(problem.class, Class::Refused | Class::Corrupt) => {
            refuse(core, import, generation, &problem)?;
            Ok(Left::Judged)
        }
        ActError::Exam(error) => {
            refuse(core, import, generation, &Problem::of(&error))?;
            Ok(Left::Judged)
        }
        ActError::Told(problem) if problem.class == Class::Fault => {
            Ok(Left::Struck(ActError::Told(problem)))
        }
        ActError::Peer { daemon, cause: FrameError::Connect(cause) } => {
            Ok(Left::Waiting(ActError::Peer { daemon, cause: FrameError::Connect(cause) }))
        }
        error @ (ActError::Peer { .. } | ActError::Answer { .. }) => Ok(Left::Struck(error)),
        // An engine that is away is asked again soon; one that breaks off, or cannot load, is not put to it every
        // two seconds.
        ActError::Beside(cause) => {
            let is_away = matches!(&*cause, ActError::Peer { cause: FrameError::Connect(_), .. });
            let error = ActError::Beside(cause);
            Ok(if is_away { Left::Waiting(error) } else { Left::Beside(error) })
        }
        error => Ok(Left::Waiting(error)),
    }
}

/// Refuses a candidate without a verdict on figures.
pub(crate) fn refuse(
    core: &Core,
    import: ImportId,
    generation: GenerationId,
    problem: &Problem,
) -> Result<(), ActError> {
    let _act = core.act();
    catch_up(core)?;
    if core.state().import(import)?.state != ImportState::Evaluating {
        return Ok(());
    }
    give_up(core, import, generation, problem)
}

/// Ends an evaluation without a verdict. The caller holds the right to act.
pub(crate) fn give_up(
    core: &Core,
    import: ImportId,
    generation: GenerationId,
    problem: &Problem,
) -> Result<(), ActError> {
    slots::give_up(core, generation)?;
    core.refuse_import(import, generation, problem).map(drop)
}

/// The set, what was measured of the candidate and of the active generation, and the candidate's slot.
type Examined = (Exam, Measured, Option<(GenerationId, Measured)>, Slot);

/// Examines a candidate; nothing where its import has come to an end meanwhile.
fn examine(
    core: &Core,
    import: ImportId,
    candidate: &Shelved,
) -> Result<Option<Examined>, ActError> {
    let exam = read_exam(candidate)?;
    let (active, slot, load_microseconds) = {
        // Loading moves a slot, so no activation may be under way.
        let _act = core.act();
        // One may have begun since.
        if let Some(trial) = core.state().trial()? {
            return Err(ActError::TrialUnderWay { trial: trial.trial });
        }
        // Somebody may have given it up since.
        if core.state().import(import)?.state != ImportState::Evaluating {
            return Ok(None);
        }
        // Asked first: without it nothing that follows comes to an end.
        let active = comparable(core, candidate.id()).map_err(beside_it)?;
        let (slot, microseconds) = slots::load_idle(core, candidate)?;
        (active, slot, microseconds)
    };
    core.corpusd.stage(candidate)?;
    let ours = Examinee::new(core.engine(slot), candidate.id(), false);
    let mut measured = measure(core, &ours, &exam)?;
    measured.set_given = exam.given;
    measured.load_microseconds = Some(load_microseconds);

    let Some(active) = active else {
        measured.decode_millitokens_per_s = best_speed(&[&ours], &exam)?[0];
        measured.peak_memory_bytes = Some(ours.engine.status()?.peak_memory.0);
        return Ok(Some((exam, measured, None, slot)));
    };
    let theirs = Examinee::new(core.engine(slot.other()), active.id(), true);
    let _asked = Asked::of(core);
    let staged = core.corpusd.stage(&active).map_err(beside_it);
    let mut beside = staged.and_then(|_staged| measure(core, &theirs, &exam))?;
    let speeds = best_speed(&[&ours, &theirs], &exam)?;
    (measured.decode_millitokens_per_s, beside.decode_millitokens_per_s) = (speeds[0], speeds[1]);
    measured.peak_memory_bytes = Some(ours.engine.status()?.peak_memory.0);
    let status = theirs.engine.status().map_err(beside_it)?;
    beside.peak_memory_bytes = Some(status.peak_memory.0);
    Ok(Some((exam, measured, Some((active.id(), beside)), slot)))
}

/// The active release, which a candidate is compared with, once an engine holds it. One that no engine can
/// serve, because its files are damaged, is none: or nothing could take its place. The caller holds the right to
/// act.
fn comparable(core: &Core, candidate: GenerationId) -> Result<Option<Shelved>, ActError> {
    let active = core.shelf.active()?.filter(|active| active.id() != candidate);
    let Some(active) = active.map(|active| active.shelved().clone()) else { return Ok(None) };
    match slots::ensure(core, &active) {
        Ok(_slot) => Ok(Some(active)),
        Err(ActError::Told(problem)) if cannot_be_loaded(&problem) => {
            tracing::warn!(code = problem.code, "the active release cannot be loaded");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Whether a release that an engine answers so about will not be loaded by another try.
fn cannot_be_loaded(problem: &Problem) -> bool {
    matches!(problem.class, Class::Refused | Class::Corrupt) || problem.code == "engine.file"
}

/// While it is held, the active release answers an examination and nobody else's probe.
struct Asked<'a>(&'a AtomicBool);

impl<'a> Asked<'a> {
    fn of(core: &'a Core) -> Self {
        core.examined.store(true, Ordering::SeqCst);
        Self(&core.examined)
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

pub(crate) fn read_exam(candidate: &Shelved) -> Result<Exam, ActError> {
    let reader = |path: &str, max: u64| candidate.read(path, max);
    Exam::read(&reader).map_err(|error| match error {
        ReadError::Exam(error) => error.into(),
        // A path of the set that leads out of the tree is the set's fault.
        ReadError::Reader(cloister_shelf::ShelfError::Path) => ExamError::Heldout.into(),
        ReadError::Reader(error) => error.into(),
    })
}

/// A generation in its slot.
struct Examinee {
    engine: Engine,
    generation: GenerationId,
    /// It is what is active: the candidate's questions need not be ones that it can take, and what goes wrong
    /// with it is not the candidate's fault.
    active: bool,
}

impl Examinee {
    const fn new(engine: Engine, generation: GenerationId, active: bool) -> Self {
        Self { engine, generation, active }
    }

    /// The answer; `None` where the active generation does not take the question.
    fn complete(
        &self,
        messages: &[Message],
        max_tokens: TokenCount,
    ) -> Result<Option<Completion>, ActError> {
        self.lenient(self.engine.complete(self.generation, messages, max_tokens))
    }

    /// Nats and bytes of `text`; `None` where the active generation does not take it.
    fn score(&self, text: &Sensitive<String>) -> Result<Option<(f64, u64)>, ActError> {
        self.lenient(self.engine.score(self.generation, text))
    }

    fn lenient<T>(&self, asked: Result<T, ActError>) -> Result<Option<T>, ActError> {
        match asked {
            Ok(answer) => Ok(Some(answer)),
            Err(ActError::Told(problem)) if self.active && is_of_the_question(&problem) => Ok(None),
            Err(error) if self.active => Err(beside_it(error)),
            Err(error) => Err(error),
        }
    }
}

/// Whether a question is refused for itself, and not for what holds the slot now.
fn is_of_the_question(problem: &Problem) -> bool {
    problem.class == Class::Refused && problem.code != "engine.generation.mismatch"
}

/// What went wrong with the active generation; another that took the slot is not its fault.
fn beside_it(error: ActError) -> ActError {
    match error {
        ActError::Told(problem) if problem.code == "engine.generation.mismatch" => {
            ActError::Told(problem)
        }
        ActError::Stopping => ActError::Stopping,
        error => ActError::Beside(Box::new(error)),
    }
}

/// Everything but the speed and the memory.
fn measure(core: &Core, examinee: &Examinee, exam: &Exam) -> Result<Measured, ActError> {
    let scored = examinee.score(&Sensitive::new(PROBE_TEXT.to_owned()))?;
    let completion = examinee.complete(&[probe()], TokenCount(COMPLETION_TOKENS))?;
    let mut measured = Measured {
        finite: scored.is_some_and(|(nats, _bytes)| nats.is_finite() && nats > 0.0),
        completion_tokens: completion.map_or(0, |completion| completion.tokens.0),
        ..Measured::default()
    };
    if let Some(text) = &exam.heldout {
        let scored = examinee.score(text)?;
        measured.heldout_millibits_per_byte =
            scored.and_then(|(nats, bytes)| millibits(nats, bytes));
    }
    if !exam.golden.is_empty() {
        let mut right = 0;
        for question in &exam.golden {
            go_on(core)?;
            let answer = examinee.complete(&question.messages, question.max_tokens)?;
            right += u32::from(answer.is_some_and(|answer| answers(question, &answer)));
        }
        let asked = u32::try_from(exam.golden.len()).expect("a set holds few questions");
        measured.golden = Some((asked, right));
    }
    if !exam.retrieval.is_empty() {
        let mut found = 0usize;
        for question in &exam.retrieval {
            go_on(core)?;
            let finds = core.corpusd.finds(examinee.generation, &exam.labels, question);
            found += usize::from(examinee.lenient(finds)?.unwrap_or(false));
        }
        let permille = found * 1000 / exam.retrieval.len();
        measured.retrieval_hit3_permille =
            Some(u32::try_from(permille).expect("at most a thousand"));
    }
    Ok(measured)
}

/// A daemon that is to stop does not finish an examination; it is begun again.
fn go_on(core: &Core) -> Result<(), ActError> {
    if core.stop.is_set() { Err(ActError::Stopping) } else { Ok(()) }
}

fn probe() -> Message {
    Message { role: Role::User, content: Sensitive::new(PROBE_TEXT.to_owned()) }
}

fn answers(question: &Golden, answer: &Completion) -> bool {
    let text = answer.text.expose();
    question.expect_any.expose().iter().any(|expected| text.contains(expected.as_str()))
}

/// Bits for a byte in thousandths, rounded up, so that rounding never flatters. A number that is
/// not finite is none.
fn millibits(nats: f64, bytes: u64) -> Option<u64> {
    #[expect(clippy::cast_precision_loss, reason = "a text has fewer than 2^53 bytes")]
    let per_byte = nats / std::f64::consts::LN_2 * 1000.0 / bytes as f64;
    if !per_byte.is_finite() || !(0.0..1e9).contains(&per_byte) {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and 1e9, as checked"
    )]
    let whole = per_byte.ceil() as u64;
    Some(whole)
}

/// The best speed of each examinee over some rounds, taken in turns, so that whatever else the
/// machine does meanwhile meets both.
fn best_speed(examinees: &[&Examinee], exam: &Exam) -> Result<Vec<Option<u64>>, ActError> {
    let mut best = vec![None; examinees.len()];
    for _round in 0..SPEED_ROUNDS {
        for (examinee, best) in examinees.iter().zip(&mut best) {
            *best = (*best).max(speed(examinee, exam)?);
        }
    }
    Ok(best)
}

/// Thousandths of a token a second, over some answers; none if nothing was written.
fn speed(examinee: &Examinee, exam: &Exam) -> Result<Option<u64>, ActError> {
    let (mut tokens, mut microseconds) = (0u64, 0u64);
    let mut count = |answer: Option<Completion>| {
        let Some(answer) = answer else { return };
        tokens += u64::from(answer.tokens.0);
        microseconds += answer.decode_microseconds;
    };
    count(examinee.complete(&[probe()], TokenCount(COMPLETION_TOKENS))?);
    for question in exam.golden.iter().take(SPEED_QUESTIONS) {
        count(examinee.complete(&question.messages, question.max_tokens)?);
    }
    let scaled = u128::from(tokens) * 1_000_000_000;
    Ok(scaled
        .checked_div(u128::from(microseconds))
        .filter(|speed| *speed > 0)
        .and_then(|speed| u64::try_from(speed).ok()))
}

/// The verdict: a record of the figures, then the state; a refused candidate is swept.
fn conclude(
    core: &Core,
    import: ImportId,
    manifest: &Manifest,
    exam: &Exam,
    figures: Vec<Figure>,
    slot: Slot,
) -> Result<(), ActError> {
    let _act = core.act();
    catch_up(core)?;
    if core.state().import(import)?.state != ImportState::Evaluating {
        return Ok(());
    }
    let since = core.state().steps(import)?.last().map_or(RecordIndex(0), |(_, record)| *record);
    let generation = manifest.generation();
    let passed = verdict::passed(&figures);
    let stored = books::package(core, import, manifest, exam, figures)?;
    core.recordd
        .append(&Core::entry(
            Event::Evaluation,
            // A crash before the database took the verdict leads to new figures and a new record.
            // One that was asked for again has a record of its own, also where it finds the same.
            format!("import/{import}/evaluation/{}/{}", stored.package, since.0),
            &[("bundle", generation.0), ("package", stored.package)],
            json!({
                "import": import,
                "evaluation_set": if exam.given { "given" } else { "none" },
                "figures": stored.figures,
                // Whoever reads the log is to see what the persons' `policy` is the digest of.
                "bounds": books::bounds(core, exam),
                "policy": stored.policy,
                "evidence": stored.evidence,
                "slot": slot,
                "verdict": if passed { "passed" } else { "refused" },
            }),
        ))
        .and_then(|record| {
            if passed {
                core.state().evaluated(import, &stored, &Judgement::Passed, record)?;
                return Ok(());
            }
            let problem = failed(&stored.figures);
            slots::give_up(core, generation)?;
            core.in_two_writes(|| {
                let record = core.record_import_refused(import, Some(generation), &problem)?;
                let refused = Judgement::Refused(problem);
                Ok(core.state().evaluated(import, &stored, &refused, record)?)
            })?;
            core.sweep();
            Ok(())
        })
}

/// The refusal that a verdict on these figures is.
pub(crate) fn failed(figures: &[Figure]) -> Problem {
    let text = figures
        .iter()
        .filter(|figure| !figure.passed)
        .map(|figure| {
            let bound = figure.bound.unwrap_or_default();
            format!("{} is {} where {bound} is the bound", figure.name, figure.candidate)
        })
        .collect::<Vec<_>>()
        .join("; ");
    Problem::new(
        Class::Refused,
        WORSE,
        format!("the candidate is not good enough on this machine: {text}"),
    )
}

/// The import is refused because the engine breaks off over it again and again.
pub(crate) fn strike_out(core: &Core, import: ImportId) -> Result<(), ActError> {
    let held = core.state().import(import)?;
    let generation = held.generation.ok_or(StateError::Row { table: "imports" })?;
    let problem = Problem::new(
        Class::Refused,
        "evaluation.engine-lost",
        "the engine broke off each time it worked with the candidate; its journal says where",
    );
    refuse(core, import, generation, &problem)
}
