//! The chapters in which a release is tried out before it serves, and one that fails is returned from.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use cloister_attest::dsse::Envelope;
use cloister_domain::{RecordIndex, Slot};
use cloister_stage::{Unit, ask, facility::Facility};
use cloister_wire::{
    Reply,
    record::{Answer, Request},
};
use serde_json::Value;

use super::{Demo, QUESTION, head, text};
use crate::story::Story;

/// Answers of the shadow that the story waits for.
const COMPARED: u64 = 3;

/// While the old release answers, the candidate is asked the same.
pub(super) fn shadow(facility: &Facility, import: &str, story: &mut Story<'_>) -> Result<()> {
    let words = ["trial", "shadow", import, "--share", "100", "--for", "10m"];
    facility.cloister(&words)?.done()?;
    wait(story, || {
        let shown = facility.cloister(&["trial", "show"])?;
        Ok(count(shown.done()?, "/report/candidate/answered") >= COMPARED)
    })?;
    let ended = facility.cloister(&["trial", "end"])?;
    let ended = ended.done()?;
    story.tell(&format!(
        "shadow: {} questions were put to the candidate too, its answers compared and discarded; {} were the same, {} failed",
        count(ended, "/report/candidate/answered"),
        count(ended, "/report/same"),
        count(ended, "/report/candidate/failed"),
    ))
}

/// Once it is approved, one person is answered by it.
pub(super) fn canary(
    demo: &Demo,
    reader: &Path,
    import: &str,
    story: &mut Story<'_>,
) -> Result<()> {
    let facility = &demo.facility;
    let pilot = facility.api_key("pilot", &["open"])?;
    let words = ["trial", "canary", import, "--principal", "pilot", "--for", "10m"];
    let begun = facility.cloister(&words)?;
    let candidate = text(begun.done()?, "/generation").to_owned();
    let tried = demo.client(&pilot, &["ask", QUESTION])?;
    let others = demo.client(reader, &["ask", QUESTION])?;
    ensure!(text(&tried, "/generation") == candidate, "the canary did not answer the pilot");
    ensure!(text(&others, "/generation") != candidate, "the canary answered everybody");
    story.tell(&format!(
        "canary: the pilot is told {}, everybody else {}",
        tried["answer"], others["answer"]
    ))
}

/// The active release loses its weights; the one before takes over by itself.
pub(super) fn failing_release(demo: &Demo, key: &Path, story: &mut Story<'_>) -> Result<()> {
    story.chapter("A release that stops answering is returned from, without anybody's word")?;
    let facility = &demo.facility;
    let broken = facility.active()?;
    let status = facility.cloister(&["status"])?;
    let slot = serving(status.done()?)?;
    let tree = facility.stage.config().paths.shelf().join(&broken).join("tree");
    let aside = tree.with_file_name("lost");
    fs::rename(&tree, &aside)?;
    facility.stage.kill(slot)?;
    story.tell("its weights are gone, and its engine starts again without them")?;
    wait(story, || Ok(facility.active()? != broken))?;
    fs::rename(&aside, &tree)?;
    let said = demo.client(key, &["ask", QUESTION])?;
    story.tell(&format!("the release before is active again: {}", said["answer"]))?;
    // A wish, an intent and an outcome.
    let from = RecordIndex(head(facility)?.size.saturating_sub(3));
    let read = Request::Read { from, count: 3 };
    let reply: Reply<Answer> = ask(&facility.stage.socket(Unit::Recordd), &read)?;
    let Answer::Entries(entries) = reply? else { bail!("recordd gave no entries") };
    let says = |entry: &String| -> Result<bool> {
        let payload = Envelope::parse(entry.as_bytes())?.payload;
        Ok(String::from_utf8(payload)?.contains("\"reason\":\"probation\""))
    };
    let why = entries.iter().map(says).collect::<Result<Vec<bool>>>()?;
    ensure!(why.contains(&true), "the log does not say why");
    story.tell("the log has the return with its reason, an intent and an outcome")
}

/// The engine that holds the active release.
fn serving(status: &Value) -> Result<Unit> {
    let generations = status["generations"].as_array().context("no generations")?;
    let active = generations.iter().find(|generation| generation["active"] == true);
    match active.and_then(|active| active["slot"].as_str()) {
        Some("a") => Ok(Unit::Engined(Slot::A)),
        Some("b") => Ok(Unit::Engined(Slot::B)),
        _ => bail!("no engine holds the active release"),
    }
}

/// Looks again and again, for two minutes.
fn wait(story: &Story<'_>, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    for _look in 0..1200 {
        story.interrupts().go_on()?;
        if done()? {
            return Ok(());
        }
        std::thread::park_timeout(Duration::from_millis(100));
    }
    bail!("it did not come to that in two minutes")
}

fn count(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or_default()
}
