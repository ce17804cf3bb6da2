//! What lies on the disk, read by nobody's recovery: the pointer, the releases, the objects, quarantine,
//! the log and the database. Whatever is torn, strange, or does not fit the rest is an error.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use cloister_config::Paths;
use serde_json::Value;

use crate::{
    books::{Books, read_books},
    log::{Entry, acts, read_log},
    rows::trusted_beside,
    tree::{OnDisk, Tree, sha256},
};

/// Everything that is judged.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// The shelf.
    pub(crate) shelf: Shelf,
    /// The log; it verifies.
    pub(crate) log: Vec<Entry>,
    /// The database.
    pub(crate) books: Books,
}

/// What lies on the shelf.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shelf {
    /// The release that is served.
    pub(crate) active: Option<String>,
    /// The releases; each is whole. The files that each names, by digest.
    pub(crate) releases: BTreeMap<String, BTreeSet<String>>,
    /// Every object.
    pub(crate) objects: BTreeSet<String>,
    /// Objects that were taken off because they were damaged.
    pub(crate) isolated: BTreeSet<String>,
    /// Of which kind the trial is that gatewayd is told of, and of which release.
    pub(crate) trial: Option<(String, String)>,
}

impl Facts {
    /// Whether the log holds this act.
    pub(crate) fn has_act(&self, act: &str) -> bool {
        self.log.iter().any(|entry| entry.act == act)
    }

    /// Whether a release was accepted.
    pub(crate) fn accepted(&self, release: &str) -> bool {
        let accepted = |entry: &Entry| entry.event == "import-accepted";
        let of = |entry: &Entry| entry.subjects.get("bundle").is_some_and(|name| name == release);
        self.log.iter().any(|entry| accepted(entry) && of(entry))
    }

    /// Whether the log holds a decision of this person.
    pub(crate) fn decided(&self, person: &str, decision: &str) -> bool {
        let is =
            |entry: &Entry| entry.facts["person"] == person && entry.facts["decision"] == decision;
        self.log.iter().any(|entry| entry.event == "approval" && is(entry))
    }

    /// The release that was promoted last, by the log.
    pub(crate) fn last_promoted(&self) -> Option<&str> {
        let outcomes = self.log.iter().filter(|entry| entry.event == "activation-outcome");
        let last = outcomes.rev().find(|entry| entry.facts["outcome"] == "promoted");
        last.and_then(|entry| entry.subjects.get("bundle")).map(String::as_str)
    }

    /// Whether an activation ended so, by the log.
    pub(crate) fn has_outcome(&self, outcome: &str) -> bool {
        let is = |entry: &Entry| entry.event == "activation-outcome";
        self.log.iter().any(|entry| is(entry) && entry.facts["outcome"] == outcome)
    }

    /// Whether a release was pinned or unpinned last, by the log.
    pub(crate) fn last_pin(&self) -> Option<bool> {
        let last = self.log.iter().rev().find(|entry| entry.event == "pin");
        last.and_then(|entry| entry.facts["pinned"].as_bool())
    }

    /// How many entries are of this event.
    pub(crate) fn count(&self, event: &str) -> usize {
        self.log.iter().filter(|entry| entry.event == event).count()
    }
}

/// What may be wrong, because a test made it so.
#[derive(Clone, Debug, Default)]
pub(crate) struct Allowed {
    /// An object whose bytes were changed on purpose.
    pub(crate) damaged: Option<String>,
    /// The database is gone.
    pub(crate) lost: bool,
}

/// Reads and checks the state of an appliance whose daemons have come to rest.
///
/// # Errors
/// Names the first thing that is not as it must be.
pub(crate) fn facts(paths: &Paths, log_key: &str, allowed: &Allowed) -> Result<Facts> {
    let log = read_log(&OnDisk, &paths.record(), log_key).context("the log")?;
    acts(&log).context("the log")?;
    let shelf = read_shelf(&paths.shelf(), allowed).context("the shelf")?;
    let books = read_books(&paths.supply_database(), &log, allowed.lost).context("the database")?;
    trusted_beside(&paths.trust(), &books).context("what is trusted, beside the database")?;
    let facts = Facts { shelf, log, books };
    quarantine(&paths.quarantine(), &facts.books).context("quarantine")?;
    promoted(&facts).context("what is served and what is recorded")?;
    swept(&facts).context("what left the shelf and what is recorded")?;
    Ok(facts)
}

/// What of the shelf holds at every moment, also before anybody recovers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// The release that is served.
    pub(crate) active: Option<String>,
    /// The releases that have their names; each is whole.
    pub(crate) releases: BTreeMap<String, BTreeSet<String>>,
}

/// Reads what is served and every release, and nothing that is built aside.
///
/// # Errors
/// When the pointer names nothing that is there, or a release is not whole.
pub(crate) fn standing(tree: &dyn Tree, shelf: &Path, allowed: &Allowed) -> Result<Standing> {
    let mut releases = BTreeMap::new();
    let folder = shelf.join("generations");
    for name in tree.names(&folder)?.into_iter().filter(|name| !name.starts_with('.')) {
        let whole = whole(tree, &folder.join(&name), &name, allowed);
        releases.insert(name.clone(), whole.with_context(|| format!("release {name}"))?);
    }
    let active = pointer(tree, &shelf.join("active"), "generations", &releases)?;
    Ok(Standing { active, releases })
}

fn read_shelf(shelf: &Path, allowed: &Allowed) -> Result<Shelf> {
    let tree = &OnDisk;
    for folder in ["", "objects", "generations", "slots"] {
        let hidden = tree.names(&shelf.join(folder))?;
        let mut hidden = hidden.into_iter().filter(|name| name.starts_with('.') && name != ".lock");
        ensure!(hidden.next().is_none(), "something is half built, or half gone");
    }
    named(tree, shelf, allowed)
}

/// Everything on the shelf that has its name. What begins with a dot was never finished, or is half gone, and
/// nobody counts on it; all else is whole at every moment, also before anybody recovers.
///
/// # Errors
/// When something is not whole, or a pointer names nothing that is there.
pub(crate) fn named(tree: &dyn Tree, shelf: &Path, allowed: &Allowed) -> Result<Shelf> {
    let known = ["objects", "generations", "slots", "active", "isolated", "trial"];
    for name in tree.names(shelf)?.iter().filter(|name| !name.starts_with('.')) {
        ensure!(known.contains(&name.as_str()), "`{name}` is left over");
    }
    let isolated: BTreeSet<String> = tree.names(&shelf.join("isolated"))?.into_iter().collect();
    let damaged = |name: &str| allowed.damaged.as_deref() == Some(name);
    let mut objects = BTreeSet::new();
    for fan in tree.names(&shelf.join("objects"))?.iter().filter(|name| !name.starts_with('.')) {
        for name in tree.names(&shelf.join("objects").join(fan))? {
            ensure!(name.starts_with(fan), "`{fan}/{name}` is no object");
            let is = tree.digest(&shelf.join("objects").join(fan).join(&name))?;
            ensure!(is == name || damaged(&name), "object {name} is torn");
            objects.insert(name);
        }
    }
    let Standing { active, releases } = standing(tree, shelf, allowed)?;
    for name in tree.names(&shelf.join("slots"))?.iter().filter(|name| !name.starts_with('.')) {
        ensure!(name == "a" || name == "b", "the slot `{name}`");
        pointer(tree, &shelf.join("slots").join(name), "../generations", &releases)?;
    }
    Ok(Shelf { active, releases, objects, isolated, trial: trial(tree, shelf)? })
}

/// What gatewayd is told to try.
fn trial(tree: &dyn Tree, shelf: &Path) -> Result<Option<(String, String)>> {
    let file = shelf.join("trial");
    if !tree.is_there(&file) {
        return Ok(None);
    }
    let told: Value = serde_json::from_slice(&tree.read(&file)?).context("the trial is torn")?;
    let text = |field: &str| told[field].as_str().map(str::to_owned).context("a trial's field");
    Ok(Some((text("kind")?, text("generation")?)))
}

fn pointer(
    tree: &dyn Tree,
    link: &Path,
    folder: &str,
    releases: &BTreeMap<String, BTreeSet<String>>,
) -> Result<Option<String>> {
    let Some(target) = tree.link(link)? else { return Ok(None) };
    let name = target.to_str().and_then(|target| target.strip_prefix(folder)?.strip_prefix('/'));
    let name = name.with_context(|| format!("a pointer to {}", target.display()))?;
    ensure!(releases.contains_key(name), "a pointer to {name}, which is not there");
    Ok(Some(name.to_owned()))
}

/// The release is named by its manifest, and holds the files that the manifest names, and no others. The
/// digests of these.
fn whole(
    tree: &dyn Tree,
    folder: &Path,
    name: &str,
    allowed: &Allowed,
) -> Result<BTreeSet<String>> {
    for name in tree.names(folder)? {
        let known = ["manifest.json", "tree", "attest"];
        ensure!(known.contains(&name.as_str()), "`{name}` is no part of it");
    }
    let (named, expected) = manifest(&tree.read(&folder.join("manifest.json"))?)?;
    ensure!(named == name, "its manifest is another's");
    let mut found = BTreeSet::new();
    walk(tree, &folder.join("tree"), "", &mut found)?;
    ensure!(found.iter().eq(expected.keys()), "its tree holds other files: {found:?}");
    for (path, digest) in &expected {
        let is = tree.digest(&folder.join("tree").join(path))?;
        ensure!(is == *digest || allowed.damaged.as_ref() == Some(digest), "{path} is torn");
    }
    let mut digests: BTreeSet<String> = expected.into_values().collect();
    for attached in tree.names(&folder.join("attest"))? {
        ensure!(
            tree.digest(&folder.join("attest").join(&attached))? == attached,
            "{attached} is torn"
        );
        digests.insert(attached);
    }
    Ok(digests)
}

/// The name that a manifest gives its release, and the digest of each path that it names.
///
/// # Errors
/// When it is not of its form.
pub(crate) fn manifest(envelope: &[u8]) -> Result<(String, BTreeMap<String, String>)> {
    let envelope: Value = serde_json::from_slice(envelope).context("the manifest is torn")?;
    let payload = BASE64_STANDARD.decode(envelope["payload"].as_str().context("no payload")?)?;
    let statement: Value = serde_json::from_slice(&payload)?;
    let mut files = BTreeMap::new();
    for file in statement["predicate"]["files"].as_array().context("no files")? {
        let (path, sha256) = (file["path"].as_str(), file["sha256"].as_str());
        files.insert(path.context("no path")?.to_owned(), sha256.context("no digest")?.to_owned());
    }
    Ok((sha256(&payload), files))
}

fn walk(tree: &dyn Tree, folder: &Path, prefix: &str, found: &mut BTreeSet<String>) -> Result<()> {
    for name in tree.names(folder)? {
        let (path, below) = (folder.join(&name), format!("{prefix}{name}"));
        if tree.is_folder(&path) {
            walk(tree, &path, &format!("{below}/"), found)?;
        } else {
            found.insert(below);
        }
    }
    Ok(())
}

/// Only what is being received or waits for its adoption lies there.
fn quarantine(folder: &Path, books: &Books) -> Result<()> {
    for name in OnDisk.names(folder)? {
        let import: i64 = name.parse().with_context(|| format!("`{name}` is left over"))?;
        let state = books.imports.get(&import).map_or("unknown", |import| import.state.as_str());
        ensure!(matches!(state, "receiving" | "received"), "import {import} is over: {state}");
    }
    Ok(())
}

/// The last promotion that was recorded is what is served.
fn promoted(facts: &Facts) -> Result<()> {
    let (active, last) = (facts.shelf.active.as_deref(), facts.last_promoted());
    ensure!(active == last, "{active:?} is served, and {last:?} was recorded");
    Ok(())
}

/// A release that came to the shelf and is not there any more left it by a record, and what a record says
/// has left is not there, but for what was found damaged while it was served, which stays until another is. No
/// object lies there that neither a release nor an import under way names.
fn swept(facts: &Facts) -> Result<()> {
    let mut there: BTreeSet<&str> = BTreeSet::new();
    let mut stays: BTreeSet<&str> = BTreeSet::new();
    let active = facts.shelf.active.as_deref();
    for entry in &facts.log {
        match entry.event.as_str() {
            "import-accepted" => {
                there.extend(entry.subjects.get("bundle").map(String::as_str));
            }
            // What was found damaged leaves the shelf with its object.
            "damage" if !entry.subjects.values().any(|one| facts.shelf.isolated.contains(one)) => {}
            "sweep" | "damage" => {
                let named = entry.facts["releases"].as_array().into_iter().flatten();
                for release in named.filter_map(Value::as_str) {
                    there.remove(release);
                    if entry.facts["active"] == true && active == Some(release) {
                        stays.insert(release);
                    }
                }
            }
            _ => {}
        }
    }
    let shelf = &facts.shelf;
    let found: BTreeSet<&str> = shelf.releases.keys().map(String::as_str).collect();
    let fits = found.is_superset(&there) && found.difference(&there).all(|one| stays.contains(one));
    ensure!(fits, "{found:?} is there, and by the log {there:?}");
    let mut named: BTreeSet<&String> = shelf.releases.values().flatten().collect();
    named.extend(facts.books.imports.values().flat_map(|import| &import.needs));
    let loose = shelf.objects.iter().find(|object| !named.contains(object));
    ensure!(loose.is_none(), "nothing names the object {loose:?}");
    Ok(())
}
