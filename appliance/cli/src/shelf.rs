//! `pin`, `unpin`, `sweep` and `scrub`: what stays on the shelf, and whether it is whole.

use std::io::Write;

use cloister_config::Config;
use cloister_domain::{Class, GenerationId, counted};
use cloister_wire::{
    Problem,
    supply::{Answer, Request},
};

use crate::{Failure, print_json, say, supply};

pub(crate) fn pin(
    config: &Config,
    generation: GenerationId,
    pinned: bool,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let answer = supply::ask(config, &Request::Pin { generation, pinned })?;
    let Answer::Status(status) = &answer else { return Err(Failure::conversation("updaterd")) };
    if json {
        return print_json(status, out);
    }
    let short = generation.0.short();
    if pinned {
        say!(out, "pinned      {short}: it stays until it is unpinned");
    } else {
        say!(out, "unpinned    {short}");
    }
    Ok(())
}

pub(crate) fn sweep(
    config: &Config,
    pretend: bool,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let answer = supply::ask(config, &Request::Sweep { pretend })?;
    let Answer::Swept { generations, objects, bytes } = &answer else {
        return Err(Failure::conversation("updaterd"));
    };
    if json {
        return print_json(&answer, out);
    }
    let verb = if pretend { "would go" } else { "removed" };
    for generation in generations {
        say!(out, "{verb:<11} {generation}");
    }
    if generations.is_empty() {
        say!(out, "{verb:<11} no release");
    }
    if !pretend {
        say!(out, "freed       {bytes} in {}", counted(*objects, "file"));
    }
    Ok(())
}

pub(crate) fn scrub(config: &Config, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let answer = supply::ask(config, &Request::Scrub)?;
    let Answer::Scrubbed { objects, bytes, damaged } = &answer else {
        return Err(Failure::conversation("updaterd"));
    };
    if json {
        print_json(&answer, out)?;
    } else {
        say!(out, "read        {} in {}", bytes, counted(*objects, "file"));
        for digest in damaged {
            say!(out, "damaged     {digest}: off the shelf, with what held it");
        }
    }
    if damaged.is_empty() {
        return Ok(());
    }
    let files = counted(u64::try_from(damaged.len()).unwrap_or(u64::MAX), "file");
    Err(Failure::from(Problem::new(
        Class::Corrupt,
        "shelf.damaged",
        format!(
            "{files} of the shelf did not hold what was written; `cloister status` shows what is left, and \
             the runbook `roll-back` says what comes back"
        ),
    )))
}

/// Brings the state database back.
pub(crate) fn rebuild(config: &Config, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let answer = supply::ask(config, &Request::Rebuild)?;
    let Answer::Rebuilt { records, imports, activations, record } = &answer else {
        return Err(Failure::conversation("updaterd"));
    };
    if json {
        return print_json(&answer, out);
    }
    let (records, imports) = (counted(*records, "record"), counted(*imports, "import"));
    let activations = counted(*activations, "activation");
    say!(out, "rebuilt from {records}: {imports}, {activations}; record {record}");
    say!(
        out,
        "Look at `cloister status`; imports that were under way come again from their sticks."
    );
    Ok(())
}
