//! Two chapters about media: a thin bundle, and a release that spans two sticks.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use cloister_domain::{Digest, counted};
use cloister_stage::{
    facility::{Facility, Outcome},
    release::Recipe,
    stick::Stick,
};
use serde_json::Value;

use super::{text, utf8};
use crate::story::Story;

/// The largest volume of the release that spans two sticks, in bytes.
const VOLUME_BYTES: &str = "1500000";

/// Plays both chapters.
pub(super) fn play(
    facility: &Facility,
    embedding: Option<&Path>,
    story: &mut Story<'_>,
) -> Result<()> {
    thin(facility, embedding, story)?;
    spanning(facility, embedding, story)
}

fn thin(facility: &Facility, embedding: Option<&Path>, story: &mut Story<'_>) -> Result<()> {
    story.chapter("A thin bundle carries only what the enclave does not hold")?;
    let receipt = facility.home().join("receipt");
    let said = facility.cloister(&["inventory", utf8(&receipt)?])?;
    let said = said.done()?;
    story.tell(&format!(
        "the enclave's receipt, signed by its host key: it holds {}",
        counted(said["chunks"].as_u64().unwrap_or_default(), "chunk")
    ))?;
    let tree = with_ledger(facility, embedding, "thin", 1 << 20)?;
    let words = ["--thin", utf8(&receipt)?, "--host-key", text(said, "/host_key")];
    let planned = facility.mint(&[&["plan", utf8(&tree)?][..], &words].concat())?;
    story.tell("on the connected side `cloister-mint plan` counts what a volume must carry:")?;
    for line in planned.lines() {
        story.tell(&format!("  {line}"))?;
    }
    let volumes = facility.publish_with(&tree, "6.0.0", 6, &words)?;
    let stick = Stick::plug_in(facility.home(), "stick-thin", &volumes)?;
    let outcome = facility.import(stick.folder())?;
    outcome.done()?;
    story.tell("imported: the other chunks were read off the shelf and hashed again, and the whole was judged")
}

fn spanning(facility: &Facility, embedding: Option<&Path>, story: &mut Story<'_>) -> Result<()> {
    story.chapter("A release spans two sticks, and the second comes first")?;
    let tree = with_ledger(facility, embedding, "sticks", 6 << 20)?;
    let mut volumes =
        facility.publish_with(&tree, "7.0.0", 7, &["--volume-bytes", VOLUME_BYTES])?;
    let second = volumes.pop().context("no volume")?;
    ensure!(!volumes.is_empty(), "one volume spans no sticks");
    let first = volumes.len();
    story.tell(&format!(
        "{} small volumes: one stick has the last of them, the other the first {first}",
        first + 1
    ))?;
    let stick = Stick::plug_in(facility.home(), "stick-b", &[second])?;
    let outcome = facility.import(stick.folder())?;
    ensure!(outcome.is_refused_with("intake.volume.more"), "{:?}", outcome.code());
    story.tell(
        "the stick with the last volume; what the shelf has already is not asked for again:",
    )?;
    story.tell(&format!("  {}", text(problem(&outcome)?, "/message")))?;
    let stick = Stick::plug_in(facility.home(), "stick-a", &volumes)?;
    let outcome = facility.import(stick.folder())?;
    let import = outcome.done()?;
    story.tell(&format!(
        "the other stick: the release is whole, generation {}",
        text(import, "/summary/generation")
    ))
}

fn problem(outcome: &Outcome) -> Result<&Value> {
    outcome.said.iter().find_map(|said| said.get("problem")).context("no problem was named")
}

/// A release tree with a file of `bytes` bytes that no other release holds.
fn with_ledger(
    facility: &Facility,
    embedding: Option<&Path>,
    name: &str,
    bytes: usize,
) -> Result<std::path::PathBuf> {
    let embedding = embedding.map(Path::to_path_buf);
    let tree = Recipe::demo("v2", embedding).lay_out(facility, name)?;
    let (mut ledger, mut line) = (String::new(), Digest::of(name.as_bytes()));
    while ledger.len() < bytes {
        ledger.push_str(&line.to_string());
        line = Digest::of(line.as_bytes());
    }
    let folder = tree.join("provenance");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("ledger.txt"), ledger)?;
    Ok(tree)
}
