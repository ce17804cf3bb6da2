//! What may be: a small book of the facility, kept from the log alone by whoever walks, with no line of the updater's
//! rules. Each entry that came is held against everything before it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::depot::{Depot, OPERATORS, RECORDS_MAX, RETAINED, approvers};
use crate::{disk::Facts, log::Entry};

/// Between the look of whoever decides and the record of it other records may come.
const BETWEEN: u64 = 2;

/// What the log told until now.
#[derive(Debug, Default)]
pub(super) struct May {
    read: usize,
    root: u64,
    targets: u64,
    /// What the facility demands now.
    pub(super) needed: u64,
    policy: String,
    imports: BTreeMap<i64, Import>,
    /// Releases that came: counter, and the counter below which nothing may be active.
    releases: BTreeMap<String, (u64, u64)>,
    there: BTreeSet<String>,
    /// What was found damaged while it was served.
    damaged: Option<String>,
    decisions: Vec<Decision>,
    leaves: Vec<Leave>,
    pub(super) active: Option<String>,
    /// What was active before each release was promoted last.
    before: BTreeMap<String, Option<String>>,
    /// Promotions, oldest first.
    pub(super) promoted: Vec<String>,
    pub(super) floor: u64,
    last_switch: u64,
    pins: BTreeSet<String>,
    /// The canary or shadow under way: its number and release.
    trial: Option<(u64, String)>,
    intent: Option<Intent>,
}

#[derive(Clone, Debug, Default)]
struct Import {
    release: Option<String>,
    importers: BTreeSet<String>,
    /// What persons decide about, the policy that judged it, and the place of the record behind which they may.
    package: Option<String>,
    policy: String,
    judged_at: u64,
    accepted: bool,
    refused: bool,
    activated: bool,
}

#[derive(Clone, Debug)]
struct Decision {
    package: String,
    person: String,
    approves: bool,
    /// How many entries the log had when it was shown, and where the decision stands.
    size: u64,
    at: u64,
}

#[derive(Clone, Debug)]
struct Leave {
    to: String,
    from: String,
    person: String,
    size: u64,
}

#[derive(Clone, Debug)]
struct Intent {
    number: u64,
    kind: String,
    to: String,
    from: Option<String>,
    import: Option<i64>,
    at: u64,
}

impl May {
    /// Reads what came to the log since the last time.
    ///
    /// # Errors
    /// Names the first entry that may not be.
    pub(super) fn read(&mut self, depot: &Depot, facts: &Facts) -> Result<()> {
        let (log, isolated) = (&facts.log, &facts.shelf.isolated);
        for (at, entry) in (0u64..).zip(log).skip(self.read) {
            let (event, act) = (&entry.event, &entry.act);
            let taken = self.take(depot, at, entry, isolated);
            taken.with_context(|| format!("record {at}, {event} {act}"))?;
        }
        self.read = log.len();
        Ok(())
    }

    fn take(
        &mut self,
        depot: &Depot,
        at: u64,
        entry: &Entry,
        isolated: &BTreeSet<String>,
    ) -> Result<()> {
        let number = |fact: &str| entry.facts[fact].as_u64().unwrap_or(0);
        match entry.event.as_str() {
            "anchor-enrolment" => self.root = number("root_version"),
            "trust-update" => {
                let (root, targets) = (number("root_version"), number("targets_version"));
                ensure!(root >= self.root && targets >= self.targets, "trust went back");
                (self.root, self.targets) = (root, targets);
            }
            "policy-change" => {
                self.needed = number("approvals_needed");
                self.policy = subject(entry, "policy")?;
            }
            "approval" => self.decisions.push(Decision {
                package: subject(entry, "package")?,
                person: word(&entry.facts, "person"),
                approves: entry.facts["decision"] == "approve",
                size: entry.facts["log"]["size"].as_u64().context("no size")?,
                at,
            }),
            "downgrade" => self.leaves.push(Leave {
                to: subject(entry, "bundle")?,
                from: subject(entry, "from")?,
                person: word(&entry.facts, "person"),
                size: entry.facts["log"]["size"].as_u64().context("no size")?,
            }),
            "activation-intent" => self.intent(depot, at, entry)?,
            "activation-outcome" => self.outcome(depot, entry)?,
            "shadow-started" => self.shadow(depot, entry)?,
            "trial-ended" => {
                self.trial = None;
                self.judged(at, entry);
            }
            "evaluation" | "evaluation-asked" => self.judged(at, entry),
            "pin" => {
                let release = subject(entry, "bundle")?;
                if entry.facts["pinned"] == true {
                    ensure!(self.there.contains(&release), "what is not there is pinned");
                    self.pins.insert(release);
                } else {
                    self.pins.remove(&release);
                }
            }
            "sweep" => self.sweep(depot, entry)?,
            "damage" => {
                // One that was cut off before its object was isolated is found again by the next pass.
                let object = subject(entry, "object")?;
                let releases = named(entry);
                let releases = if isolated.contains(&object) { releases } else { Vec::new() };
                for release in releases {
                    // What is served stays until something else is.
                    if self.active.as_ref() == Some(&release) {
                        self.damaged = Some(release);
                    } else {
                        self.there.remove(&release);
                    }
                }
            }
            _ => self.import(entry)?,
        }
        Ok(())
    }

    /// Whatever is recorded of an import: who brought it, whether it came in or was refused.
    fn import(&mut self, entry: &Entry) -> Result<()> {
        let Some(rest) = entry.act.strip_prefix("import/") else { return Ok(()) };
        let import = rest.split('/').next().unwrap_or_default().parse()?;
        let import = self.imports.entry(import).or_default();
        if let Some(operator) = entry.facts["operator"].as_str() {
            let is = |(user, _): &&(&str, &str)| *user == operator;
            let person = OPERATORS.iter().find(is).context("a stranger brought it")?.1;
            import.importers.insert(person.to_owned());
        }
        let bundle = entry.subjects.get("bundle").cloned();
        match entry.event.as_str() {
            "media-seen" => import.release = bundle.or(import.release.take()),
            "import-refused" => {
                ensure!(!import.activated, "what was activated is refused");
                import.refused = true;
            }
            "import-accepted" => {
                let release = bundle.context("no release")?;
                ensure!(!import.refused, "what was refused is accepted");
                let number = |fact: &str| entry.facts[fact].as_u64().context("a number");
                let (counter, floor) = (number("counter")?, number("floor").unwrap_or(0));
                self.releases.insert(release.clone(), (counter, floor));
                self.there.insert(release.clone());
                self.damaged.take_if(|damaged| *damaged == release);
                (import.accepted, import.release) = (true, Some(release));
            }
            _ => {}
        }
        Ok(())
    }

    /// From here on other decisions count.
    fn judged(&mut self, at: u64, entry: &Entry) {
        let Some(import) = entry.facts["import"].as_i64() else { return };
        let package = entry.subjects.get("package");
        if entry.event == "trial-ended" && package.is_none() {
            return;
        }
        let passed = entry.facts["verdict"].as_str().is_none_or(|verdict| verdict == "passed");
        let held = self.imports.entry(import).or_default();
        held.judged_at = at + 1;
        if entry.event != "evaluation-asked" {
            held.package = package.filter(|_| passed).cloned();
        } else {
            held.package = None;
        }
        if entry.event == "evaluation" {
            held.policy.clone_from(&self.policy);
        }
    }

    /// Whether an import's release may be served to anybody: judged, approved by enough, and not taken back.
    fn approved(&self, depot: &Depot, import: i64, at: u64) -> Result<()> {
        let held = self.imports.get(&import).context("an import that nobody saw")?;
        ensure!(held.accepted, "it never came in");
        ensure!(!held.refused, "it was refused");
        let package = held.package.as_ref().context("nothing was judged good")?;
        ensure!(held.policy == self.policy, "it was judged by another policy");
        let about = self.decisions.iter().filter(|decision| decision.package == *package);
        let rejected = about.clone().any(|one| !one.approves && one.at >= held.judged_at);
        ensure!(!rejected, "somebody rejected it");
        let known = approvers(self.root);
        let counts = |one: &&Decision| {
            one.approves
                && one.size >= held.judged_at
                && self.is_fresh(one.size, at)
                && known.contains(&one.person.as_str())
                && !held.importers.contains(&one.person)
        };
        let persons: BTreeSet<&str> = about.filter(counts).map(|one| one.person.as_str()).collect();
        ensure!(
            persons.len() as u64 >= self.needed.max(2),
            "{persons:?} approved it, and {} are needed; {:?} brought it",
            self.needed,
            held.importers
        );
        let release = held.release.as_ref().context("no release")?;
        self.servable(depot, release)?;
        ensure!(self.counter(release)? >= self.floor, "it is below the floor {}", self.floor);
        Ok(())
    }

    fn is_fresh(&self, size: u64, at: u64) -> bool {
        size <= at && at - size <= RECORDS_MAX + BETWEEN
    }

    fn counter(&self, release: &str) -> Result<u64> {
        Ok(self.releases.get(release).context("a release that never came")?.0)
    }

    fn servable(&self, depot: &Depot, release: &str) -> Result<()> {
        ensure!(self.there.contains(release), "it is not on the shelf");
        let counter = self.counter(release)?;
        ensure!(!depot.is_taken_back(self.targets, counter), "it was taken back");
        Ok(())
    }

    fn intent(&mut self, depot: &Depot, at: u64, entry: &Entry) -> Result<()> {
        let (kind, to) = (word(&entry.facts, "kind"), subject(entry, "bundle")?);
        let from = entry.subjects.get("from").cloned();
        ensure!(from == self.active, "it leads from {from:?}, and {:?} is active", self.active);
        let import = entry.facts["because"]["import"].as_i64();
        match kind.as_str() {
            "activate" | "canary" => {
                let import = import.context("no import")?;
                self.approved(depot, import, at)?;
                let of = self.imports[&import].release.as_ref();
                ensure!(of == Some(&to), "another release than the import's");
            }
            "rollback" | "downgrade" => {
                ensure!(self.promoted.contains(&to), "a return to what was never active");
                self.servable(depot, &to)?;
                let below = self.counter(&to)? < self.floor;
                ensure!(below == (kind == "downgrade"), "{kind}, and the floor is {}", self.floor);
                if below {
                    self.leave(&to, at)?;
                }
            }
            other => bail!("nobody knows what {other} is"),
        }
        if kind != "canary" {
            self.last_switch = at + 1;
        }
        let number = entry.facts["activation"].as_u64().context("no number")?;
        self.intent = Some(Intent { number, kind, to, from, import, at });
        Ok(())
    }

    /// Enough persons gave a leave to go there, from here, since the last switch.
    fn leave(&self, to: &str, at: u64) -> Result<()> {
        let known = approvers(self.root);
        let counts = |one: &&Leave| {
            one.to == to
                && Some(&one.from) == self.active.as_ref()
                && one.size >= self.last_switch
                && self.is_fresh(one.size, at)
                && known.contains(&one.person.as_str())
        };
        let persons: BTreeSet<&str> =
            self.leaves.iter().filter(counts).map(|one| one.person.as_str()).collect();
        ensure!(persons.len() as u64 >= self.needed.max(2), "{persons:?} gave leave");
        Ok(())
    }

    fn outcome(&mut self, depot: &Depot, entry: &Entry) -> Result<()> {
        let intent = self.intent.take().context("an outcome of nothing")?;
        let outcome = word(&entry.facts, "outcome");
        if !matches!(outcome.as_str(), "promoted" | "begun") {
            return Ok(());
        }
        ensure!((outcome == "begun") == (intent.kind == "canary"), "{outcome} by {}", intent.kind);
        // What came between may forbid it.
        self.servable(depot, &intent.to)?;
        if let Some(import) = intent.import {
            self.approved(depot, import, intent.at).context("when it was done")?;
        }
        if outcome == "begun" {
            self.trial = Some((intent.number, intent.to));
            return Ok(());
        }
        if let Some(import) = intent.import {
            let import = self.imports.get_mut(&import).context("an import")?;
            import.activated = true;
        }
        self.floor = self.floor.max(self.releases[&intent.to].1);
        if let Some(damaged) = self.damaged.take_if(|damaged| *damaged != intent.to) {
            self.there.remove(&damaged);
        }
        self.before.insert(intent.to.clone(), intent.from);
        self.active = Some(intent.to.clone());
        self.promoted.push(intent.to);
        Ok(())
    }

    fn shadow(&mut self, depot: &Depot, entry: &Entry) -> Result<()> {
        ensure!(self.trial.is_none(), "a second trial");
        let import = entry.facts["import"].as_i64().context("no import")?;
        let held = self.imports.get(&import).context("an import that nobody saw")?;
        ensure!(held.package.is_some() && !held.refused, "a shadow of what awaits no approval");
        let release = subject(entry, "bundle")?;
        self.servable(depot, &release)?;
        let number = entry.facts["trial"].as_u64().context("no number")?;
        self.trial = Some((number, release));
        Ok(())
    }

    /// What speaks for a release keeps it.
    fn sweep(&mut self, depot: &Depot, entry: &Entry) -> Result<()> {
        for release in named(entry) {
            // A sweep that was cut off behind its record names it again.
            if let Some(why) = self.kept(depot, &release) {
                bail!("{release} is swept, and {why} keeps it");
            }
            self.there.remove(&release);
        }
        Ok(())
    }

    /// Why a release stays.
    fn kept(&self, depot: &Depot, release: &str) -> Option<&'static str> {
        let is = |other: Option<&String>| other.is_some_and(|other| other == release);
        let active = self.active.as_ref();
        let before = active.and_then(|active| self.before.get(active)?.as_ref());
        let under_way = |import: &&Import| {
            let over = import.refused || import.activated || !import.accepted;
            !over && is(import.release.as_ref())
        };
        let mut former: Vec<&String> = Vec::new();
        for one in self.promoted.iter().rev() {
            let counter = self.releases.get(one).map_or(0, |(counter, _)| *counter);
            let stays = self.there.contains(one) && !depot.is_taken_back(self.targets, counter);
            if stays && Some(one) != active && !former.contains(&one) {
                former.push(one);
            }
        }
        former.truncate(RETAINED);
        if is(active) {
            Some("that it is active")
        } else if is(before) && self.there.contains(release) {
            Some("that it was active before")
        } else if self.pins.contains(release) {
            Some("its pin")
        } else if is(self.trial.as_ref().map(|(_, release)| release)) {
            Some("its trial")
        } else if self.imports.values().any(|import| under_way(&import)) {
            Some("its import")
        } else if former.iter().any(|one| *one == release) {
            Some("that it was active once")
        } else {
            None
        }
    }
}

/// A subject's digest.
fn subject(entry: &Entry, name: &str) -> Result<String> {
    entry.subjects.get(name).cloned().with_context(|| format!("no {name}"))
}

fn word(facts: &Value, name: &str) -> String {
    facts[name].as_str().unwrap_or_default().to_owned()
}

/// The releases that an entry names.
fn named(entry: &Entry) -> Vec<String> {
    let listed = entry.facts["releases"].as_array().into_iter().flatten();
    listed.filter_map(Value::as_str).map(str::to_owned).collect()
}
