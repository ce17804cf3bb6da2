//! Judging a step: what was acknowledged is there and stays, nothing is served but what may be, what must never go
//! back has not, and who was refused has changed nothing.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use cloister_stage::facility::RELEASE;
use serde_json::Value;

use super::{depot::Depot, may::May, player::Told, step::Act};
use crate::{
    disk::{Allowed, Facts},
    log::{Entry, begins_with},
};

/// What a walk knows of the appliance.
#[derive(Debug, Default)]
pub(super) struct Judge {
    may: May,
    /// What a step has damaged.
    pub(super) allowed: Allowed,
    /// How long the log was before that.
    pub(super) flipped_at: usize,
    /// Whether nothing went wrong in the last step.
    pub(super) is_calm: bool,
    set_out: usize,
}

impl Judge {
    /// Learns where the walk sets out.
    ///
    /// # Errors
    /// When that may not be.
    pub(super) fn begin(&mut self, depot: &Depot, facts: &Facts) -> Result<()> {
        self.may.read(depot, facts).context("where it sets out")?;
        self.set_out = self.may.promoted.len();
        Ok(())
    }

    /// The promotions of this walk.
    pub(super) fn promotions(&self) -> &[String] {
        &self.may.promoted[self.set_out..]
    }

    /// How many must approve.
    pub(super) const fn needed(&self) -> u64 {
        self.may.needed
    }

    /// Judges what a step led to.
    ///
    /// # Errors
    /// Names the first thing that may not be.
    pub(super) fn judge(
        &mut self,
        depot: &Depot,
        before: &Facts,
        now: &Facts,
        told: &[Told],
    ) -> Result<()> {
        let held: Vec<String> = before.log.iter().map(|entry| entry.digest.clone()).collect();
        begins_with(&now.log, &held)?;
        self.may.read(depot, now)?;
        let (active, may) = (&now.shelf.active, &self.may.active);
        ensure!(active == may, "{active:?} is active, and by the log {may:?}");
        let (was, is) = (numbers(&before.books.vector)?, numbers(&now.books.vector)?);
        for (name, number) in &was {
            let stays = is.get(name).is_some_and(|now| now >= number);
            ensure!(stays, "{name} was {number}, and is {:?}", is.get(name));
        }
        let floor = is.get("floor").copied().unwrap_or(0);
        ensure!(floor == self.may.floor, "the floor is {floor}, by the log {}", self.may.floor);
        for (release, digests) in &now.shelf.releases {
            let (objects, isolated) = (&now.shelf.objects, &now.shelf.isolated);
            let kept = |digest: &&String| objects.contains(*digest) || isolated.contains(*digest);
            let missing = digests.iter().find(|digest| !kept(digest));
            ensure!(missing.is_none(), "{release:.8} names the object {missing:?}, which is gone");
        }
        let alone = told.len() == 1;
        for told in told.iter().filter(|told| told.said.exit == 0) {
            acknowledged(before, now, told, alone).with_context(|| told.act.to_string())?;
        }
        Ok(())
    }
}

/// Every number of what is trusted that never falls.
fn numbers(vector: &str) -> Result<BTreeMap<&'static str, u64>> {
    let vector: Value = serde_json::from_str(vector).context("the vector")?;
    let of_release = |field: &str| vector["releases"][RELEASE][field].as_u64();
    let mut numbers = BTreeMap::new();
    for name in ["root", "timestamp", "snapshot", "targets", "sequence"] {
        numbers.insert(name, vector[name].as_u64().context(name)?);
    }
    for name in ["counter", "floor"] {
        numbers.insert(name, of_release(name).unwrap_or(0));
    }
    Ok(numbers)
}

/// What somebody was told is done has its record, since the step began.
fn acknowledged(before: &Facts, now: &Facts, told: &Told, alone: bool) -> Result<()> {
    let new = &now.log[before.log.len()..];
    let has = |event: &str, is: &dyn Fn(&Entry) -> bool| {
        let found = new.iter().any(|entry| entry.event == event && is(entry));
        ensure!(found, "it was told done, and no record of {event} came");
        Ok(())
    };
    let any = |_: &Entry| true;
    let last = told.said.said.last();
    match &told.act {
        Act::Import { .. } => {
            let Some(import) = last.and_then(|last| last["import"].as_i64()) else {
                // A stick that brings trust alone tells of no import.
                return Ok(());
            };
            let held = now.books.imports.get(&import).context("the import is lost")?;
            let came = now.log.iter().any(|entry| entry.act == format!("import/{import}/accepted"));
            ensure!(came, "import {import} was told, and is {}", held.state);
        }
        Act::Decide { rejects, key, .. } => {
            let person = key.trim_end_matches("-2");
            let decision = if *rejects { "reject" } else { "approve" };
            has("approval", &|entry| {
                entry.facts["person"] == person && entry.facts["decision"] == decision
            })?;
        }
        Act::Authorise { release, key } => {
            let person = key.trim_end_matches("-2");
            has("downgrade", &|entry| {
                entry.facts["person"] == person && entry.subjects.get("bundle") == Some(release)
            })?;
        }
        Act::Again { .. } | Act::Export => {}
        Act::Words(words) => match words[0].as_str() {
            "activate" | "rollback" => {
                let record = last.and_then(|last| {
                    last["record"].as_u64().or(last["switched"]["record"].as_u64())
                });
                let record = record.with_context(|| format!("no record in {last:?}"))?;
                let entry = now.log.get(usize::try_from(record)?).context("its record is lost")?;
                let is = entry.event == "activation-outcome";
                ensure!(is, "record {record} is {} {}", entry.event, entry.act);
            }
            "pin" | "unpin" if alone => {
                let pinned = now.books.pins.contains(&words[1]);
                ensure!(pinned == (words[0] == "pin"), "it is not so");
            }
            "evaluate" => has("evaluation-asked", &any)?,
            "trial" => match words[1].as_str() {
                "canary" => has("activation-outcome", &|entry| entry.facts["outcome"] == "begun")?,
                "shadow" => has("shadow-started", &any)?,
                _ => has("trial-ended", &any)?,
            },
            "discard" => has("import-refused", &any)?,
            _ => {}
        },
    }
    Ok(())
}

/// What the worker does by itself at any time.
const BY_ITSELF: [&str; 4] = ["sweep", "trial-ended", "configuration", "policy-change"];
/// What an import that is refused may leave: what is newer of trust, and what was seen of it.
const OF_IMPORTS: [&str; 4] = ["media-seen", "import-refused", "trust-update", "inspection"];

/// Who was refused, alone and in fair weather, has changed nothing, and there is a record of it at most.
///
/// # Errors
/// Names what has changed.
pub(super) fn refused_changed_nothing(before: &Facts, now: &Facts, told: &Told) -> Result<()> {
    let class = told.said.said.last().map(|last| &last["problem"]["class"]);
    if told.said.exit == 0 || class.is_none_or(|class| class != "refused") {
        return Ok(());
    }
    let new = &now.log[before.log.len()..];
    if new.iter().any(|entry| BY_ITSELF.contains(&entry.event.as_str())) {
        return Ok(());
    }
    let is_import = matches!(told.act, Act::Import { .. });
    let may = |entry: &Entry| {
        entry.event == "act-refused" || (is_import && OF_IMPORTS.contains(&entry.event.as_str()))
    };
    let (code, act) = (told.said.code(), &told.act);
    let strange = new.iter().find(|entry| !may(entry)).map(|entry| &entry.event);
    // Evaluations come to figures behind the record that the release came in.
    if is_import && new.iter().any(|entry| entry.event == "import-accepted") {
        return Ok(());
    }
    ensure!(strange.is_none(), "{act} was refused ({code}), and left {strange:?}");
    let (was, is) = (&before.shelf, &now.shelf);
    let shelf = was.active == is.active && was.releases == is.releases && was.trial == is.trial;
    ensure!(shelf, "{act} was refused ({code}), and changed the shelf");
    let (was, is) = (&before.books, &now.books);
    let same = was.approvals == is.approvals
        && was.evaluations == is.evaluations
        && was.pins == is.pins
        && was.promoted == is.promoted
        && was.consents == is.consents
        && was.trials == is.trials
        && was.counters == is.counters;
    ensure!(same, "{act} was refused ({code}), and changed the database");
    if !is_import {
        let imports = was.imports == is.imports && was.importers == is.importers;
        ensure!(
            imports && was.vector == is.vector,
            "{act} was refused ({code}), and changed imports"
        );
    }
    Ok(())
}
