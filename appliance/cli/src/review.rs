//! `review`: what an approver must see before signing, as text, as JSON, or as a page that prints.

use std::{io::Write, path::Path};

use cloister_config::Config;
use cloister_domain::{ByteCount, ImportId, counted};
use cloister_wire::{
    fit::Measure,
    review::{Change, Difference, Link, Named, Provenance, WordsChange},
    supply::{Import, Scan},
    trial::{Kind, Shown},
};

use crate::{
    Failure, fit, inventory, print_json, say,
    sheet::{self, Block},
    supply,
};

/// Words of a generation that an approver compares; as in [`supply::show_summary`].
const WORDS: usize = 8;

pub(crate) fn review(
    config: &Config,
    import: ImportId,
    page: Option<&Path>,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let import = supply::ask_import(config, import)?;
    if let Some(file) = page {
        let title = format!("Review of import {}", import.import);
        inventory::write_new(file, sheet::page(&title, &all(&import)).as_bytes())?;
    }
    if json {
        return print_json(&import, out);
    }
    if let Some(file) = page {
        say!(out, "written to {}", file.display());
        return Ok(());
    }
    let mut blocks = all(&import);
    // Pens are for paper.
    blocks.pop();
    sheet::show(&blocks, out)
}

/// Everything, as the page has it.
fn all(import: &Import) -> Vec<Block> {
    let mut blocks = vec![release(import), decisions(import)];
    blocks.extend(beside(import));
    blocks.extend([worksheet(import), inspection(import), figures(import)]);
    blocks.push(trials(&import.trials));
    blocks.extend([to_sign(import), signatures(import)]);
    blocks
}

/// The difference to what is active, and who vouches for it.
fn beside(import: &Import) -> Vec<Block> {
    let Some(review) = &import.review else { return Vec::new() };
    let mut blocks = difference(&review.difference);
    blocks.extend(provenance(&review.provenance));
    blocks
}

fn release(import: &Import) -> Block {
    let mut block = Block::new("Release", &[]);
    block.row(["import", &import.import.to_string()]);
    block.row(["state", &supply::state_words(import)]);
    if let Some(summary) = &import.summary {
        block.row(["name", &summary.name]);
        block.row(["version", &format!("{} (counter {})", summary.version, summary.counter)]);
        block.row(["generation", &summary.generation.to_string()]);
        block.row(["words", &summary.generation.0.words(WORDS)]);
        let signers = summary.signers.join(", ");
        block.row(["published by", &format!("{signers} (root version {})", summary.root_version)]);
        let files = counted(u64::try_from(summary.files.len()).unwrap_or(u64::MAX), "file");
        block.row(["size", &format!("{} in {files}", summary.plain_bytes)]);
    }
    block
}

fn decisions(import: &Import) -> Block {
    let mut block = Block::new("Persons", &[]);
    let names = |names: &[String]| match names {
        [] => "nobody".to_owned(),
        names => names.join(", "),
    };
    block.row(["imported by", &names(&import.imported_by)]);
    block.row(["approved by", &names(&import.approved_by)]);
    block.row(["approvals needed", &import.approvals_needed.to_string()]);
    block
}

fn difference(difference: &Difference) -> Vec<Block> {
    let to = match &difference.active {
        Some(Named { name, version, counter, generation }) => {
            format!("{name} {version} (counter {counter}, {})", generation.0.short())
        }
        None => "nothing: no release is active".to_owned(),
    };
    let mut parts =
        Block::new(format!("Difference to {to}"), &["part", "difference", "active", "candidate"]);
    for part in &difference.parts {
        let size = |bytes: ByteCount| match (part.change, bytes.0) {
            (Change::Absent, _) => String::new(),
            (_, 0) => "-".to_owned(),
            _ => bytes.to_string(),
        };
        let (active, candidate) = (size(part.active_bytes), size(part.candidate_bytes));
        parts.row([part.part.words(), part.change.words(), &active, &candidate]);
    }
    let mut files = Block::new("Files that differ", &["difference", "file", "active", "candidate"]);
    let short = |digest: Option<cloister_domain::Digest>| {
        digest.map_or_else(|| "-".to_owned(), |digest| digest.short())
    };
    for file in &difference.files {
        let (active, candidate) = (short(file.active), short(file.candidate));
        files.row([file.change.words(), &file.path, &active, &candidate]);
    }
    if difference.files_left_out > 0 {
        files.row(["-", &format!("and {} more", difference.files_left_out), "", ""]);
    }
    let mut words = Block::new("Licences and demands", &["what", "both", "ADDED", "REMOVED"]);
    for WordsChange { name, same, added, removed } in &difference.words {
        if !(same.is_empty() && added.is_empty() && removed.is_empty()) {
            words.row([name, &same.join(", "), &added.join(", "), &removed.join(", ")]);
        }
    }
    let mut numbers = Block::new("Numbers", &["what", "active", "candidate", ""]);
    for number in &difference.numbers {
        let text =
            |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
        let same = number.active == number.candidate;
        let mark = if same { "" } else { "differs" };
        numbers.row([&number.name, &text(number.active), &text(number.candidate), mark]);
    }
    vec![parts, files, words, numbers]
}

fn provenance(provenance: &Provenance) -> Vec<Block> {
    let heads = ["text", "version", "SHA-256", "role", "needed", "good signatures"];
    let mut chain = Block::new("Who vouches for it", &heads);
    for Link { text, version, sha256, role, needed, signers } in &provenance.chain {
        let signers: Vec<String> = signers
            .iter()
            .map(|signer| {
                let key: String = signer.key.chars().take(12).collect();
                signer.person.as_ref().map_or_else(|| key.clone(), |who| format!("{who} ({key})"))
            })
            .collect();
        let (version, needed) = (version.to_string(), needed.to_string());
        chain.row([text, &version, &sha256.short(), role, &needed, &signers.join(", ")]);
    }
    let mut came = Block::new("How it came here", &["step", "record"]);
    for step in &provenance.steps {
        came.row([&step.state.to_string(), &step.record.to_string()]);
    }
    let time = provenance.time_floor.as_deref().unwrap_or("nothing proves a time");
    came.row(["time proven by trust metadata", time]);
    let stick = match provenance.stick {
        0 => "no numbered stick yet".to_owned(),
        number => number.to_string(),
    };
    came.row(["last stick", &stick]);
    let mut statements =
        Block::new("Statements that came with it", &["claims", "SHA-256", "bytes"]);
    for one in &provenance.attestations {
        statements.row([&one.predicate_type, &one.sha256.to_string(), &one.bytes.to_string()]);
    }
    vec![chain, came, statements]
}

fn worksheet(import: &Import) -> Block {
    let mut block = Block::new("Worksheet", &["what", "needed", "there", "verdict"]);
    for term in import.summary.iter().flat_map(|summary| &summary.fit) {
        let verdict = if term.holds() { "good" } else { "NOT GOOD" };
        let (needed, there) = match &term.measure {
            Measure::Amount { unit, needed, reserve, there, .. } => (
                fit::amount(unit, needed.saturating_add(*reserve)),
                there.map_or_else(|| "not known".to_owned(), |there| fit::amount(unit, there)),
            ),
            Measure::Words { needed, missing } if missing.is_empty() => {
                (needed.join(", "), String::new())
            }
            Measure::Words { needed, missing } => {
                (needed.join(", "), format!("missing: {}", missing.join(", ")))
            }
        };
        block.row([fit::plain_name(&term.name), &needed, &there, verdict]);
    }
    block
}

fn inspection(import: &Import) -> Block {
    let mut block = Block::new("Inspection", &["file", "kind", "found"]);
    let Some(inspection) = &import.inspection else { return block };
    let files = import.summary.as_ref().map(|summary| summary.files.as_slice()).unwrap_or_default();
    let (accepted, refused) = (inspection.accepted, inspection.refused);
    block.row([
        &format!("{accepted} accepted, {refused} refused, {} not scanned", inspection.not_scanned),
        "",
        &inspection.tool,
    ]);
    for file in &inspection.files {
        let name = usize::try_from(file.file).ok().and_then(|number| files.get(number));
        let name = name.map_or("evidence", |(path, _bytes)| path.as_str());
        let found = match (&file.code, file.scan) {
            (Some(code), _) => format!("REFUSED [{code}]"),
            (None, Scan::Off) => "nothing".to_owned(),
            (None, scan) => scan.words().to_owned(),
        };
        block.row([name, file.kind.as_deref().unwrap_or("unknown"), &found]);
    }
    block
}

fn figures(import: &Import) -> Block {
    let figures = &import.figures;
    let heads = ["figure", "candidate", "beside", "bound", "verdict"];
    let beside = figures.iter().find_map(|figure| figure.beside);
    let active = import.review.as_ref().and_then(|review| review.difference.active.as_ref());
    let title = match beside {
        None => "Evaluation on this machine".to_owned(),
        Some(beside) if active.is_some_and(|active| active.generation == beside) => {
            format!("Evaluation on this machine, beside what is active, {}", beside.0.short())
        }
        Some(beside) => format!(
            "Evaluation on this machine, beside {}, which IS NOT ACTIVE: `cloister evaluate {}` judges anew",
            beside.0.short(),
            import.import
        ),
    };
    let mut block = Block::new(title, &heads);
    let text = |value: Option<i64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    for figure in figures {
        let (active, bound) = (text(figure.active), text(figure.bound));
        let verdict = supply::verdict_words(figure);
        block.row([&figure.name, &figure.candidate.to_string(), &active, &bound, verdict]);
    }
    block
}

/// What its shadows and canaries came to; `status` shows the one under way in full.
fn trials(trials: &[Shown]) -> Block {
    let heads = ["trial", "whose questions", "lasted", "answered", "failed", "same", "state"];
    let mut block = Block::new("Trials", &heads);
    for trial in trials {
        let state = match trial.ended {
            Some(end) => format!("ended: {end}"),
            None => "under way".to_owned(),
        };
        let same = match trial.kind {
            Kind::Canary => "-".to_owned(),
            Kind::Shadow => trial.report.same.to_string(),
        };
        block.row([
            &format!("{} {}", trial.kind, trial.trial),
            &trial.scope.to_string(),
            &format!("{} of {} s", trial.lasted_s, trial.seconds),
            &trial.report.candidate.answered.to_string(),
            &trial.report.candidate.failed.to_string(),
            &same,
            &state,
        ]);
    }
    block
}

fn to_sign(import: &Import) -> Block {
    let mut block = Block::new("To sign", &[]);
    if let Some(package) = &import.package {
        block.row(["package", &package.digest.to_string()]);
        block.row(["policy", &package.policy.to_string()]);
        block.row(["evidence", &package.evidence.to_string()]);
        block.row(["log", &format!("{}, {} records", package.log.origin, package.log.size)]);
        let package = package.digest.short();
        let command = format!("cloister approve {} --package {package} --key KEY", import.import);
        block.row(["by", &command]);
        block.row(["", "--reject says no"]);
    }
    block
}

/// Room for pens.
fn signatures(import: &Import) -> Block {
    let mut block = Block::new("Seen by", &["name", "date", "signature"]);
    for _person in 0..import.approvals_needed.clamp(1, 8) {
        block.row(["", "", ""]);
    }
    block
}

#[cfg(test)]
mod tests;
