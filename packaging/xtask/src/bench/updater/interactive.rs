//! What an import takes from the persons who work meanwhile: the 99th percentile of short requests to
//! the API, alone and beside an import of 1 GiB.

use std::{
    io::Write,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use cloister_stage::{facility::Facility, release::read_file};
use serde_json::{Value, json};

use super::{
    super::{Figure, RUNS, material, tell},
    Room,
};
use crate::http;

/// How long requests are sent with nothing beside them.
const ALONE: Duration = Duration::from_secs(6);

/// The release that serves; published before the one that is imported, since no metadata may be
/// older than what an appliance has seen.
pub(super) fn release(room: &Room<'_>) -> Result<PathBuf> {
    let tree = material::small_tree(&room.facility, "small")?;
    std::fs::remove_dir_all(tree.join("evaluation"))?;
    room.facility.publish(&tree, "1.0.0", 1)
}

pub(super) fn measure(
    room: &mut Room<'_>,
    small: &Path,
    volume: &Path,
    log: &mut dyn Write,
) -> Result<Vec<Figure>> {
    let (mut alone, mut beside, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _run in 0..RUNS {
        room.fresh()?;
        room.facility.promote(small)?;
        let asker = Asker::new(&room.facility)?;
        // Once for everything that is cold.
        asker.ask()?;
        let begun = Instant::now();
        let quiet = asker.until(|| Ok(begun.elapsed() > ALONE))?;
        let mut import =
            room.facility.begin(&["import", volume.to_str().context("a path is not UTF-8")?])?;
        let busy = asker.until(|| Ok(import.try_wait()?.is_some()))?;
        ensure!(import.wait()?.success(), "the import was refused");
        writeln!(log, "{} requests alone, {} beside the import", quiet.len(), busy.len())?;
        alone.push(p99_ms(quiet)?);
        beside.push(p99_ms(busy)?);
        ratios.push(beside[beside.len() - 1] / alone[alone.len() - 1]);
    }
    room.facility.stage.stop()?;
    for (name, runs) in [
        ("interactive.p99 alone", &alone),
        ("interactive.p99 beside an import", &beside),
        ("interactive.slower", &ratios),
    ] {
        tell(log, name, runs)?;
    }
    Ok(vec![
        Figure::new("interactive.p99", "ms", &beside).beside("no import", &alone),
        Figure::new("interactive.slower", "times", &ratios).must(1.5),
    ])
}

/// A person who asks again as soon as the answer is there.
pub(super) struct Asker {
    address: String,
    key: String,
}

impl Asker {
    /// With a key of a running appliance.
    pub(super) fn new(facility: &Facility) -> Result<Self> {
        let api = facility.home().join("keys/bench.api");
        if api.exists() {
            std::fs::remove_file(&api)?;
        }
        let key = String::from_utf8(read_file(&facility.api_key("bench", &["open"])?)?)?;
        Ok(Self { address: facility.address()?, key: key.trim().to_owned() })
    }

    fn answer(&self, tokens: u32) -> Result<Value> {
        let question = json!({
            "model": "default",
            "messages": [{"role": "user", "content": "Hello"}],
            "max_tokens": tokens,
        });
        http::ask(&self.address, &self.key, "/v1/chat/completions", Some(&question))
    }

    /// Milliseconds of one request.
    pub(super) fn ask(&self) -> Result<f64> {
        let begun = Instant::now();
        self.answer(8)?;
        Ok(begun.elapsed().as_secs_f64() * 1e3)
    }

    /// The generation that answers now.
    pub(super) fn answered_by(&self) -> Result<String> {
        let answer = self.answer(1)?;
        let by = answer["cloister"]["generation"].as_str();
        Ok(by.context("an answer names no generation")?.to_owned())
    }

    /// Milliseconds of each request until `done`.
    pub(super) fn until(&self, mut done: impl FnMut() -> Result<bool>) -> Result<Vec<f64>> {
        let mut took = Vec::new();
        while !done()? {
            took.push(self.ask()?);
        }
        Ok(took)
    }
}

fn p99_ms(mut took: Vec<f64>) -> Result<f64> {
    took.sort_by(f64::total_cmp);
    took.get(took.len() * 99 / 100).copied().context("no request was answered")
}
