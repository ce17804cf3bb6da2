//! `enrol`, `status`, `review`, `activate` and `rollback`: what updaterd is asked.

use std::{io::Write, path::Path};

use cloister_config::{Config, Role};
use cloister_daemon::files;
use cloister_domain::{Digest, GenerationId, ImportId, counted, in_line};
use cloister_wire::intake::Trusted;
use cloister_wire::supply::{
    Answer, Figure, Generation, Import, ImportState, Request, RestoredLog, Scan, Status,
};

use crate::{Failure, ask_daemon, fit, print_json, records, say};

/// Words of a digest that officers compare aloud when they enrol a root: 128 bits.
const ROOT_WORDS: usize = 16;
/// Words of a generation that an operator compares on a screen: 64 bits.
const GENERATION_WORDS: usize = 8;
/// The largest root file (updates.md 7.4, as in TUF implementations).
const ROOT_BYTES_MAX: u64 = 1 << 20;

/// Asks updaterd one thing.
pub(crate) fn ask(config: &Config, request: &Request) -> Result<Answer, Failure> {
    ask_daemon(config, Role::Updaterd, request)
}

pub(crate) fn enrol(
    config: &Config,
    root: &Path,
    confirm: Option<&str>,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let bytes = files::read_limited(root, ROOT_BYTES_MAX).map_err(|error| Failure::of(&error))?;
    let digest = Digest::of(&bytes);
    let Some(confirm) = confirm else {
        if json {
            let words = digest.words(ROOT_WORDS);
            return print_json(&serde_json::json!({ "root": digest, "words": words }), out);
        }
        say!(out, "root    {digest}");
        say!(out, "words   {}", digest.words(ROOT_WORDS));
        say!(out, "Compare the words with the paper that came by another way, then run again with");
        say!(out, "  --confirm {digest}");
        return Ok(());
    };
    let confirmed = confirm
        .parse()
        .map_err(|error: cloister_domain::DigestError| Failure::usage(&error.to_string()))?;
    let root = String::from_utf8(bytes)
        .map_err(|_content| Failure::usage("the root file is not UTF-8"))?;
    let answer = ask(config, &Request::Enrol { root, confirmed })?;
    let Answer::Enrolled { root, record } = &answer else {
        return Err(Failure::conversation("updaterd"));
    };
    if json {
        return print_json(&answer, out);
    }
    say!(out, "enrolled root {root} as record {record}");
    say!(out, "words         {}", root.words(ROOT_WORDS));
    say!(out, "log key       {}", records::log_key(config)?);
    say!(
        out,
        "Note root and log key on paper: an auditor needs both, by another way than an export."
    );
    Ok(())
}

/// The state of everything.
pub(crate) fn ask_status(config: &Config) -> Result<Status, Failure> {
    match ask(config, &Request::Status)? {
        Answer::Status(status) => Ok(*status),
        _ => Err(Failure::conversation("updaterd")),
    }
}

/// One import.
pub(crate) fn ask_import(config: &Config, import: ImportId) -> Result<Import, Failure> {
    match ask(config, &Request::Review { import })? {
        Answer::Import(import) => Ok(*import),
        _ => Err(Failure::conversation("updaterd")),
    }
}

/// What the log's state holds up.
fn warn_of_the_log(status: &Status, out: &mut dyn Write) -> Result<(), Failure> {
    if let Some(lost) = &status.lost_key {
        say!(out, "THE LOG'S KEY IS LOST: nothing is done that leaves a record.");
        say!(out, "  log         {}, {}", lost.origin, counted(lost.size, "record"));
        say!(out, "  root        {}", lost.root);
        say!(out, "  lost key    {}", lost.log_key);
        say!(out, "  new key     {}", lost.successor);
        match lost.needed {
            Some(needed) => {
                say!(out, "  {needed} approvers let the new key succeed (`cloister succeed`)");
            }
            None => say!(out, "  approvers let the new key succeed (`cloister succeed`)"),
        }
    }
    if let Some(restored) = &status.restored_log {
        show_restored(restored, out)?;
    }
    Ok(())
}

/// What the database's state holds up.
fn warn_of_the_database(status: &Status, out: &mut dyn Write) -> Result<(), Failure> {
    if status.lost {
        say!(
            out,
            "THE STATE DATABASE IS GONE: `cloister rebuild` brings it back; nothing else is done"
        );
    }
    if status.older {
        say!(
            out,
            "THE STATE DATABASE IS AN OLDER COPY, and nothing is decided by it: stop cloister-updaterd \
             and its socket, move supply.db and the files beside it away, start both, and run `cloister rebuild` \
             (runbook `rebuild`)"
        );
    }
    Ok(())
}

pub(crate) fn status(config: &Config, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let status = ask_status(config)?;
    if json {
        return print_json(&status, out);
    }
    warn_of_the_database(&status, out)?;
    match status.trust_root {
        None if status.lost => {}
        Some(root) => say!(out, "trust root  {}", root.short()),
        None => say!(out, "trust root  none; enrol one with `cloister enrol FILE`"),
    }
    if let Some(configuration) = status.configuration {
        say!(out, "configured  {}", configuration.short());
    }
    if let Some(trust) = &status.trust {
        let stick = last_stick(trust.stick);
        let time = trust.time_floor.as_ref().map(|time| format!("  at least {time}"));
        say!(
            out,
            "trust       root v{}  list v{}  {stick}{}",
            trust.root_version,
            trust.targets_version,
            time.unwrap_or_default()
        );
    }
    warn_of_the_log(&status, out)?;
    if let Some(trial) = &status.trial {
        say!(
            out,
            "trial {:>4}  {} of import {}, {}, {} of {} s",
            trial.trial,
            trial.kind,
            trial.import,
            trial.scope,
            trial.lasted_s,
            trial.seconds
        );
    }
    for generation in &status.generations {
        let mark = match (generation.active, generation.revoked) {
            (true, false) => "active  ",
            (false, false) => "retained",
            (true, true) => "active, TAKEN BACK",
            (false, true) => "taken back",
        };
        let slot = generation.slot.map_or_else(String::new, |slot| format!("  slot {slot}"));
        say!(
            out,
            "{mark}    {}  {} {}{slot}",
            generation.generation.0.short(),
            generation.name,
            generation.version
        );
        say!(out, "            {}  {}", generation.generation, why(generation));
    }
    for import in &status.imports {
        say!(out, "import {:>4}  {}", import.import, state_words(import));
    }
    Ok(())
}

/// What the log lacks that too few persons acknowledged.
fn show_restored(restored: &RestoredLog, out: &mut dyn Write) -> Result<(), Failure> {
    say!(out, "THE LOG LACKS RECORDS that it had: it was restored from an old copy.");
    for lacking in restored.open() {
        let count = lacking.acknowledged_by.len();
        say!(out, "  checkpoint  {} of {}", lacking.checkpoint, counted(lacking.size, "record"));
        say!(
            out,
            "  {count} of {} approvers allow to go on (`cloister acknowledge`)",
            restored.needed
        );
    }
    if restored.open().next().is_none() {
        say!(out, "  enough approvers allow to go on");
    }
    Ok(())
}

/// What speaks for a release.
fn why(generation: &Generation) -> String {
    if generation.kept.is_empty() {
        return "nothing speaks for it; `cloister sweep` removes it".to_owned();
    }
    let reasons: Vec<String> = generation.kept.iter().map(ToString::to_string).collect();
    format!("kept: {}", reasons.join(", "))
}

/// What trust metadata that came without a release came to.
pub(crate) fn show_trusted(trusted: &Trusted, out: &mut dyn Write) -> Result<(), Failure> {
    let Trusted { newer, kept, root_version, targets_version, stick, revoked } = trusted;
    let what = match (newer, kept) {
        (true, true) => "is newer and was taken",
        (true, false) => "is newer; nothing was taken",
        (false, _) => "is no newer than what is held",
    };
    let stick = last_stick(*stick);
    say!(out, "trust       root v{root_version}  list v{targets_version}  {stick}: {what}");
    for generation in revoked {
        say!(out, "taken back  {}", generation.0.short());
    }
    Ok(())
}

/// Sticks are numbered from 1; 0 says that none that was read had a number.
fn last_stick(number: u64) -> String {
    match number {
        0 => "no numbered stick yet".to_owned(),
        number => format!("last stick {number}"),
    }
}

pub(crate) fn state_words(import: &Import) -> String {
    match (import.state, &import.problem) {
        (ImportState::Refused, Some(problem)) => in_line(&format!("refused: {problem}")),
        (ImportState::AwaitingApproval, _) => format!(
            "awaiting approval ({} of {})",
            import.approved_by.len(),
            import.approvals_needed
        ),
        (ImportState::Receiving, Some(problem)) => in_line(&format!("receiving: {problem}")),
        (state, _) => state.to_string(),
    }
}

/// Has a release judged again.
pub(crate) fn evaluate(
    config: &Config,
    import: ImportId,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    show_standing(&ask(config, &Request::Evaluate { import })?, json, out)
}

/// Gives up an import that waits for volumes.
pub(crate) fn discard(
    config: &Config,
    import: ImportId,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    show_standing(&ask(config, &Request::Discard { import })?, json, out)
}

/// Where an import stands after an act.
fn show_standing(answer: &Answer, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let Answer::Import(import) = answer else { return Err(Failure::conversation("updaterd")) };
    if json {
        return print_json(import, out);
    }
    say!(out, "import {:>4}  {}", import.import, state_words(import));
    Ok(())
}

/// Signers, versions and sizes of a volume.
pub(crate) fn show_summary(
    summary: &cloister_wire::intake::Summary,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let generation = summary.generation;
    say!(out, "release     {} {} (counter {})", summary.name, summary.version, summary.counter);
    say!(out, "generation  {generation}");
    say!(out, "words       {}", generation.0.words(GENERATION_WORDS));
    say!(out, "signed by   {} (root version {})", summary.signers.join(", "), summary.root_version);
    say!(
        out,
        "size        {} in {}, {} packed, {} already here",
        summary.plain_bytes,
        counted(u64::try_from(summary.files.len()).unwrap_or(u64::MAX), "file"),
        summary.stored_bytes,
        summary.present_bytes
    );
    fit::show(&summary.fit, out)
}

/// What the inspection said: one line, and one for each file that was refused or not scanned.
pub(crate) fn show_inspection(import: &Import, out: &mut dyn Write) -> Result<(), Failure> {
    let Some(inspection) = &import.inspection else { return Ok(()) };
    say!(
        out,
        "inspected   {} accepted, {} refused, {} not scanned, by {}",
        inspection.accepted,
        inspection.refused,
        inspection.not_scanned,
        inspection.tool
    );
    let files = import.summary.as_ref().map(|summary| summary.files.as_slice()).unwrap_or_default();
    for file in &inspection.files {
        let name = usize::try_from(file.file).ok().and_then(|number| files.get(number));
        let name = name.map_or("evidence", |(path, _bytes)| path.as_str());
        if let Some(code) = &file.code {
            say!(out, "  refused   {name}  [{code}]");
        } else if matches!(file.scan, Scan::TooLarge | Scan::Failed) {
            say!(out, "  {}   {name}", file.scan.words());
        }
    }
    Ok(())
}

/// A table of figures: candidate, active, bound, verdict.
pub(crate) fn show_figures(figures: &[Figure], out: &mut dyn Write) -> Result<(), Failure> {
    if figures.is_empty() {
        return Ok(());
    }
    say!(out, "{:<36} {:>12} {:>12} {:>12}  verdict", "figure", "candidate", "active", "bound");
    let text = |value: Option<i64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    for figure in figures {
        let verdict = verdict_words(figure);
        say!(
            out,
            "{:<36} {:>12} {:>12} {:>12}  {verdict}",
            figure.name,
            figure.candidate,
            text(figure.active),
            text(figure.bound)
        );
    }
    Ok(())
}

/// What came of a figure.
pub(crate) const fn verdict_words(figure: &Figure) -> &'static str {
    match (figure.passed, figure.bound) {
        (true, None) => "reported",
        (true, Some(_)) => "good",
        (false, _) => "NOT GOOD",
    }
}

pub(crate) fn activate(
    config: &Config,
    import: ImportId,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    switched(&ask(config, &Request::Activate { import })?, json, out)
}

pub(crate) fn rollback(
    config: &Config,
    to: Option<GenerationId>,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    switched(&ask(config, &Request::Rollback { to })?, json, out)
}

fn switched(answer: &Answer, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let Answer::Switched { generation, from, microseconds, record } = answer else {
        return Err(Failure::conversation("updaterd"));
    };
    if json {
        return print_json(answer, out);
    }
    let before = from.map_or_else(|| "nothing".to_owned(), |from| from.0.short());
    say!(
        out,
        "active is now {} (was {before}), {} ms, record {record}",
        generation.0.short(),
        microseconds / 1000
    );
    Ok(())
}
