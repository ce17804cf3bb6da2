//! `pin`, `unpin` and `sweep`: what stays on the shelf.

use std::io::Write;

use cloister_config::Config;
use cloister_domain::{GenerationId, counted};
use cloister_wire::supply::{Answer, Request};

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
