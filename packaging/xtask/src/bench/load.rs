//! Load of a promoted model of 0.5 GB, and the way back to the release before.
//!
//! The model has the demo's tokenizer and random weights: what is measured does not depend on what
//! they say. Everything is warm, as it is after an import or a restart of one daemon.

use std::{io::Write, path::Path, time::Instant};

use anyhow::{Context as _, Result, bail, ensure};
use cloister_domain::{GenerationId, Slot};
use cloister_stage::{
    Conversation, Options, Unit,
    facility::{Facility, import_number},
    release::{add_fresh_bytes, read_file},
};
use cloister_wire::{
    Reply,
    engine::{Event, Request},
    supply,
};
use serde_json::json;

use super::{Figure, RUNS, material, peer, tell};
use crate::{http, serve::said};

pub(super) fn measure(scratch: &Path, log: &mut dyn Write) -> Result<Vec<Figure>> {
    for name in ["cat", "sha256sum"] {
        peer(name)?;
    }
    let mut facility = Facility::found(scratch, &Options::no_evaluation_asked())?;
    let first = material::small_tree(&facility, "first")?;
    let bytes = material::enlarge(&first, 1)?;
    writeln!(
        log,
        "importing a model of {bytes} bytes; no evaluation set is asked of random weights"
    )?;
    std::fs::remove_dir_all(first.join("evaluation"))?;
    facility.stage.start()?;
    facility.enrol()?;
    let generation = promote(&facility, &first, 1)?;
    let key = String::from_utf8(read_file(&facility.api_key("bench", &["open"])?)?)?;

    let folder =
        facility.stage.config().paths.shelf().join("generations").join(generation.to_string());
    let weights = folder.join("tree/model/model.gguf");
    let load = |full_check| load(&facility, generation, &folder, full_check);
    let shell = |program: &str| wall_of(program, &weights);
    let (mut quick, mut checked, mut cat, mut hash) = (vec![], vec![], vec![], vec![]);
    // Once for everything that is cold.
    load(true)?;
    shell("cat")?;
    for _run in 0..RUNS {
        cat.push(shell("cat")?);
        quick.push(load(false)?);
        hash.push(shell("sha256sum")?);
        checked.push(load(true)?);
    }

    // The same weights with other documents, as most updates are.
    add_fresh_bytes(&first)?;
    promote(&facility, &first, 2)?;
    let (mut switches, mut answers) = (Vec::new(), Vec::new());
    for _run in 0..RUNS {
        let (switch, answer) = roll_back(&facility, key.trim())?;
        switches.push(switch);
        answers.push(answer);
    }
    facility.stage.stop()?;
    for (name, runs) in [
        ("load.unchecked ours", &quick),
        ("load.unchecked peer", &cat),
        ("load.checked ours", &checked),
        ("load.checked peer", &hash),
        ("rollback.switch ours", &switches),
        ("rollback.answer ours", &answers),
    ] {
        tell(log, name, runs)?;
    }
    Ok(vec![
        Figure::new("load.unchecked", "s", &quick).beside("cat", &cat).aim(0.05),
        Figure::new("load.checked", "s", &checked).beside("sha256sum", &hash).aim(0.35),
        Figure::new("rollback.switch", "s", &switches),
        Figure::new("rollback.answer", "s", &answers),
    ])
}

fn promote(facility: &Facility, tree: &Path, counter: u64) -> Result<GenerationId> {
    let volume = facility.publish(tree, &format!("{counter}.0.0"), counter)?;
    let imported = facility.import(&volume)?;
    let import = import_number(said(&imported)?)?;
    std::fs::remove_file(&volume)?;
    facility.approve(&import)?;
    let switched = facility.cloister(&["activate", &import])?;
    let generation = said(&switched)?["switched"]["generation"].as_str();
    Ok(generation.context("no generation was named")?.parse()?)
}

/// Loads in the idle slot; from the request to the answer that it is ready.
fn load(
    facility: &Facility,
    generation: GenerationId,
    folder: &Path,
    full_check: bool,
) -> Result<f64> {
    let mut conversation = Conversation::open(&facility.stage.socket(Unit::Engined(Slot::B)))?;
    let begun = Instant::now();
    conversation.say(&Request::Load { generation, directory: folder.to_owned(), full_check })?;
    match conversation.hear::<Event>()? {
        Some(Event::Loaded { .. }) => Ok(begun.elapsed().as_secs_f64()),
        Some(Event::Problem(problem)) => bail!("the engine refused: {}", problem.code),
        _ => bail!("the engine did not load"),
    }
}

/// Goes back to the release before and asks it for one token: from the request to the switch, and
/// to the answer.
fn roll_back(facility: &Facility, key: &str) -> Result<(f64, f64)> {
    let address = facility.address()?;
    let question = json!({
        "model": "default",
        "messages": [{"role": "user", "content": "Hello"}],
        "max_tokens": 1,
    });
    let begun = Instant::now();
    let reply: Reply<supply::Answer> = cloister_stage::ask(
        &facility.stage.socket(Unit::Updaterd),
        &supply::Request::Rollback { to: None },
    )?;
    let supply::Answer::Switched { generation, .. } = reply? else { bail!("nothing was switched") };
    let switched = begun.elapsed().as_secs_f64();
    let answer = http::ask(&address, key, "/v1/chat/completions", Some(&question))?;
    let answered = begun.elapsed().as_secs_f64();
    let by = answer["cloister"]["generation"].as_str().unwrap_or_default();
    ensure!(by == generation.to_string(), "the answer is another release's");
    Ok((switched, answered))
}

/// Seconds that `PROGRAM FILE >/dev/null` takes.
fn wall_of(program: &str, file: &Path) -> Result<f64> {
    let begun = Instant::now();
    let status = std::process::Command::new(program)
        .arg(file)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .status()?;
    ensure!(status.success(), "{program} failed");
    Ok(begun.elapsed().as_secs_f64())
}
