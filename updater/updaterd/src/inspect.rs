//! The inspection of a release: each file through a process of its own, before the release becomes a
//! candidate. What they say is recorded whether it is good or bad; one bad file refuses the release.

use std::{
    os::fd::AsFd as _,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use cloister_config::Role;
use cloister_daemon::{
    Connection, FrameError,
    caged::{self, AskError},
};
use cloister_domain::{Class, GenerationId, ImportId};
use cloister_shelf::Object;
use cloister_wire::{
    Problem,
    inspect::{Answer, Question, Scanned, clock_seconds_max},
    record::Event,
    supply::{Inspected, Inspection, Scan},
};
use serde_json::json;

use crate::{books, core::Core, error::ActError};

/// The program, as records name it: it comes with this one.
const TOOL: &str = concat!("cloister-inspectd ", env!("CARGO_PKG_VERSION"));
/// Files that are inspected at a time; fewer than connections that the socket takes.
const WORKERS: usize = 2;

/// A file of the release and what was found.
struct Finding {
    inspected: Inspected,
    problem: Option<Problem>,
}

/// What the inspection of a release came to.
pub(crate) struct Findings(Vec<Finding>);

/// Inspects every file and every piece of evidence of a release; `None` if that went well before.
///
/// # Errors
/// [`ActError::Inspector`] when inspectd cannot be had, which says nothing about the release.
pub(crate) fn look(
    core: &Core,
    import: ImportId,
    files: &[(&str, Object)],
    evidence: &[Object],
) -> Result<Option<Findings>, ActError> {
    if core.state().inspection(import)?.is_some_and(|done| done.refused == 0) {
        return Ok(None);
    }
    // Evidence is named by its digest, which promises text.
    let evidence = evidence.iter().map(|object| ("evidence", *object));
    let all: Vec<(&str, Object)> = files.iter().copied().chain(evidence).collect();
    look_at_all(core, &all).map(Findings).map(Some)
}

/// Records what was found, good or bad.
///
/// # Errors
/// [`ActError::Told`] with the first refusal, after the record of all.
pub(crate) fn record(
    core: &Core,
    import: ImportId,
    generation: GenerationId,
    findings: Option<Findings>,
) -> Result<(), ActError> {
    let Some(Findings(findings)) = findings else { return Ok(()) };
    let problem = refusal(&findings);
    let inspection = summed(findings);
    // A crash before the database took it, or the refusal, leads to another look, which may find something
    // else: that has a record of its own.
    let before = core.state().inspection(import)?;
    let named = books::digest(&json!({ "found": inspection, "after": before }));
    let record = core.recordd.append(&Core::entry(
        Event::Inspection,
        format!("import/{import}/inspected/{named}"),
        &[("bundle", generation.0)],
        json!({
            "import": import,
            "tool": inspection.tool,
            "accepted": inspection.accepted,
            "refused": inspection.refused,
            "not_scanned": inspection.not_scanned,
            "files": inspection.files,
        }),
    ))?;
    core.state().inspected(import, &inspection, record)?;
    problem.map_or(Ok(()), |problem| Err(ActError::Told(problem)))
}

/// The findings in the order of the files.
fn look_at_all(core: &Core, all: &[(&str, Object)]) -> Result<Vec<Finding>, ActError> {
    let next = AtomicUsize::new(0);
    let mut found = thread::scope(|scope| {
        let start = |_number| scope.spawn(|| look_at_some(core, &next, all));
        let workers: Vec<_> = (0..WORKERS.min(all.len())).map(start).collect();
        let mut found = Vec::with_capacity(all.len());
        for worker in workers {
            found.append(&mut worker.join().expect("a panic ends the process")?);
        }
        Ok::<_, ActError>(found)
    })?;
    found.sort_by_key(|finding| finding.inspected.file);
    Ok(found)
}

/// Looks at one file after another, as long as there is a `next` one: each in a process of its own, which
/// the same inspector starts for all of them.
fn look_at_some(
    core: &Core,
    next: &AtomicUsize,
    all: &[(&str, Object)],
) -> Result<Vec<Finding>, ActError> {
    let inspector = connected(core, Role::Inspectd)?;
    let mut found = Vec::new();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let Some((name, object)) = all.get(number) else { return Ok(found) };
        found.push(look_at(core, &inspector, number, name, object)?);
    }
}

/// A connection to who looks at files.
fn connected(core: &Core, role: Role) -> Result<Connection, ActError> {
    let connection = Connection::connect(&core.config.paths.socket(role));
    connection.map_err(unavailable).map(|connection| connection.until(&core.stop))
}

const fn unavailable(cause: FrameError) -> ActError {
    ActError::Inspector(AskError::Start(cause))
}

fn look_at(
    core: &Core,
    inspector: &Connection,
    number: usize,
    name: &str,
    object: &Object,
) -> Result<Finding, ActError> {
    let question = Question { name: name.to_owned() };
    let judged = judged(core, inspector, &question, object)?;
    let (kind, problem) = match judged {
        Ok(accepted) => (Some(accepted.kind.name().to_owned()), None),
        Err(problem) if problem.class == Class::Fault => return Err(ActError::Told(problem)),
        Err(problem) => (None, Some(problem)),
    };
    let (scan, problem) = match problem {
        None => scanned(core, &question, object)?,
        Some(problem) => (Scan::Off, Some(problem)),
    };
    let file = u64::try_from(number).unwrap_or(u64::MAX);
    let code = problem.as_ref().map(|problem: &Problem| problem.code.clone());
    let inspected = Inspected { file, sha256: object.digest(), kind, code, scan };
    Ok(Finding { inspected, problem })
}

/// Asks a process of its own.
fn judged(
    core: &Core,
    inspector: &Connection,
    question: &Question,
    object: &Object,
) -> Result<Result<cloister_wire::inspect::Accepted, Problem>, ActError> {
    let file = core.shelf.open_object(object)?;
    let connection = inspector.open_conversation().map_err(unavailable)?;
    let seconds = clock_seconds_max(object.bytes());
    match caged::ask::<_, Answer>(&connection, question, file.as_fd(), seconds) {
        Ok(answer) => Ok(answer.believed()),
        Err(AskError::Ended(ended)) => Ok(Err(Problem::of(&ended))),
        Err(other) => Err(ActError::Inspector(other)),
    }
}

/// What the facility's scanner says, and the refusal that follows from it.
fn scanned(
    core: &Core,
    question: &Question,
    object: &Object,
) -> Result<(Scan, Option<Problem>), ActError> {
    let update = &core.config.update;
    if update.scanner.is_empty() {
        return Ok((Scan::Off, None));
    }
    if object.bytes() > update.scanner_bytes_max {
        return Ok((Scan::TooLarge, None));
    }
    let file = core.shelf.open_object(object)?;
    let connection = connected(core, Role::Scand)?;
    let scan = match caged::ask(&connection, question, file.as_fd(), update.scanner_s) {
        Ok(scan) => scan,
        Err(AskError::Ended(_)) => Scan::Failed,
        Err(other) => return Err(ActError::Inspector(other)),
    };
    let refusal = match scan {
        Scan::Infected => Some(Problem::of(&Scanned::Infected)),
        Scan::Failed => Some(Problem::of(&Scanned::Failed)),
        Scan::Off | Scan::Clean | Scan::TooLarge => None,
    };
    Ok((scan, refusal))
}

/// What the release is refused for: the first file that was refused, by its number.
fn refusal(findings: &[Finding]) -> Option<Problem> {
    let mut refused = findings
        .iter()
        .filter_map(|finding| Some((finding.inspected.file, finding.problem.as_ref()?)));
    let (file, first) = refused.next()?;
    let others = match refused.count() {
        0 => String::new(),
        more => format!(" ({more} more)"),
    };
    let message = format!("file {file} of the release is refused{others}: {}", first.message);
    Some(Problem { message, ..first.clone() })
}

fn summed(findings: Vec<Finding>) -> Inspection {
    let count = |wanted: fn(&Inspected) -> bool| {
        let found = findings.iter().filter(|finding| wanted(&finding.inspected)).count();
        u64::try_from(found).unwrap_or(u64::MAX)
    };
    let accepted = count(|file| file.code.is_none());
    let refused = count(|file| file.code.is_some());
    let not_scanned = count(|file| matches!(file.scan, Scan::TooLarge | Scan::Failed));
    let mut files: Vec<Inspected> = findings.into_iter().map(|finding| finding.inspected).collect();
    files.sort_by_key(|file| (file.code.is_none(), file.file));
    files.truncate(Inspection::LISTED_MAX);
    Inspection { tool: TOOL.to_owned(), accepted, refused, not_scanned, files }
}
