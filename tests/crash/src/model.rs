//! A file system that keeps no more than it promised: what was written lasts once its file was synced,
//! and a name once its folder was. Everything else may be there after a crash or not.
//!
//! Under the *ordered* rule names change in one order and every sync takes all names before it along, as
//! ext4 does; under the *loose* rule, which is all that POSIX says, each name goes its own way.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Component, Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use cloister_stage::Dice;

use crate::{
    bytes::Bytes,
    calls::Deed,
    cuts::Spares,
    memory::{Id, Memory, SHARED},
};

type Key = (Id, String);

/// What a file system promises about names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rule {
    /// As ext4: in order, and every sync covers all before it.
    Ordered,
    /// As POSIX: each by itself, and only by a sync of its folder.
    Loose,
    /// As [`Rule::Loose`], but nothing is ever synced: what the judge must notice.
    Deaf,
}

/// When something was done, counted in changes of the whole file system, and what.
#[derive(Clone, Debug)]
struct Dated(u64, Change);

/// What was done to a file's bytes.
#[derive(Clone, Debug)]
enum Change {
    Bytes(usize, Vec<u8>),
    Length(usize),
}

/// Names that got another meaning at once, and when.
#[derive(Clone, Debug)]
struct Renaming(u64, Vec<(Key, Option<Id>)>);

/// A state folder: what lasts, and what is on its way.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    root: PathBuf,
    rule: Rule,
    lasting: Memory,
    /// What was done to the bytes of files since they were synced.
    written: BTreeMap<Id, Vec<Dated>>,
    /// What the names mean now, for those who look.
    now: BTreeMap<Key, Id>,
    open: Vec<Renaming>,
    /// Changes until now.
    changes: u64,
    /// Changes and syncs until now.
    steps: u64,
}

impl Model {
    /// The folder as it lies there; all of it lasts.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn read(root: &Path, rule: Rule) -> Result<Self> {
        Self::read_as(root, root, rule)
    }

    /// The same, for calls that are about the folder `root`, of which `from` is a copy.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn read_as(from: &Path, root: &Path, rule: Rule) -> Result<Self> {
        let lasting = Memory::read(from)?;
        let mut now = BTreeMap::new();
        let mut folders = vec![0];
        while let Some(folder) = folders.pop() {
            for (name, id) in lasting.folder(folder).into_iter().flatten() {
                now.insert((folder, name.clone()), *id);
                folders.push(*id);
            }
        }
        let (root, written, open) = (root.to_owned(), BTreeMap::new(), Vec::new());
        Ok(Self { root, rule, lasting, written, now, open, changes: 0, steps: 0 })
    }

    /// The same under another rule.
    pub(crate) const fn with(mut self, rule: Rule) -> Self {
        self.rule = rule;
        self
    }

    /// What `path` means now.
    fn find(&self, path: &Path) -> Option<Id> {
        let mut id = 0;
        for part in path.strip_prefix(&self.root).ok()?.components() {
            let Component::Normal(name) = part else { return None };
            id = *self.now.get(&(id, name.to_str()?.to_owned()))?;
        }
        Some(id)
    }

    fn key(&self, path: &Path) -> Option<Key> {
        let name = path.file_name()?.to_str()?.to_owned();
        Some((self.find(path.parent()?)?, name))
    }

    /// Gives names their new meaning, for now.
    fn rename(&mut self, changes: Vec<(Key, Option<Id>)>) {
        for (key, to) in &changes {
            match to {
                Some(id) => self.now.insert(key.clone(), *id),
                None => self.now.remove(key),
            };
        }
        self.changes += 1;
        self.open.push(Renaming(self.changes, changes));
    }

    /// Changes the bytes of a file, for now.
    fn change(&mut self, path: &Path, change: Change) -> Option<()> {
        self.changes += 1;
        let id = self.file(path)?;
        self.written.entry(id).or_default().push(Dated(self.changes, change));
        Some(())
    }

    /// Takes a call that came back well. What lies outside the folder, or has no name any more, does not
    /// matter.
    pub(crate) fn act(&mut self, deed: &Deed) {
        // A call about what has no name changes nothing that a crash could spare.
        if self.try_act(deed).is_some() {
            self.steps += u64::from(!deed.paths().is_empty());
        }
    }

    /// Moments at which a crash leaves something else than before, until now.
    pub(crate) const fn steps(&self) -> u64 {
        self.steps
    }

    fn try_act(&mut self, deed: &Deed) -> Option<()> {
        match deed {
            Deed::Create(path) => {
                let (key, id) = (self.key(path)?, self.lasting.add_file(0o100_600));
                self.rename(vec![(key, Some(id))]);
            }
            Deed::MakeFolder(path) => {
                let (key, id) = (self.key(path)?, self.lasting.add_folder(0o040_755));
                self.rename(vec![(key, Some(id))]);
            }
            Deed::Symlink(target, path) => {
                let (key, id) = (self.key(path)?, self.lasting.add_link(target, 0o120_777));
                self.rename(vec![(key, Some(id))]);
            }
            Deed::Link(from, to) => {
                let (id, key) = (self.find(from)?, self.key(to)?);
                self.rename(vec![(key, Some(id))]);
            }
            Deed::Rename(from, to) => {
                let (id, old, new) = (self.find(from)?, self.key(from)?, self.key(to)?);
                self.rename(vec![(old, None), (new, Some(id))]);
            }
            Deed::Unlink(path) | Deed::RemoveFolder(path) => {
                let key = self.key(path)?;
                self.rename(vec![(key, None)]);
            }
            Deed::Write(path, at, bytes) => {
                let change = Change::Bytes(usize::try_from(*at).ok()?, bytes.clone());
                self.change(path, change)?;
            }
            Deed::SetLength(path, length) => {
                let change = Change::Length(usize::try_from(*length).ok()?);
                self.change(path, change)?;
            }
            Deed::Mode(path, mode) => {
                let id = self.find(path)?;
                self.lasting.set_mode(id, *mode);
            }
            Deed::Sync(path) => {
                let id = self.find(path)?;
                self.sync(id);
            }
            Deed::Unsynced(path) => {
                // The kernel gives the error once and takes the pages for clean (fsync(2), NOTES).
                let id = self.file(path)?;
                self.written.remove(&id);
            }
            Deed::Tell | Deed::Other => {}
        }
        Some(())
    }

    /// The file that `path` means now.
    fn file(&self, path: &Path) -> Option<Id> {
        self.find(path).filter(|id| self.lasting.bytes(*id).is_some())
    }

    fn sync(&mut self, id: Id) {
        if self.rule == Rule::Deaf {
            return;
        }
        if let Some(bytes) = self.lasting.bytes_mut(id) {
            for Dated(_, change) in self.written.remove(&id).unwrap_or_default() {
                change.apply(bytes);
            }
        }
        // What a name meant before goes along with what it means now.
        let mut wanted: BTreeSet<Key> = BTreeSet::new();
        let mut lasting = vec![self.rule == Rule::Ordered; self.open.len()];
        for (place, Renaming(_, changes)) in self.open.iter().enumerate().rev() {
            let touches = changes.iter().any(|(key, _)| key.0 == id || wanted.contains(key));
            if touches || lasting[place] {
                lasting[place] = true;
                wanted.extend(changes.iter().map(|(key, _)| key.clone()));
            }
        }
        let mut left = Vec::new();
        for (renaming, lasts) in std::mem::take(&mut self.open).into_iter().zip(lasting) {
            if lasts { renaming.last(&mut self.lasting) } else { left.push(renaming) }
        }
        self.open = left;
    }

    /// The folder as it may be after a crash now: what lasts, and what is spared of the rest. Says how many
    /// changes were on their way, and how many of them are gone or torn.
    pub(crate) fn crash(&self, spares: Spares, dice: &mut Dice) -> (Memory, usize, usize) {
        let mut after = self.lasting.clone();
        let (mut open, mut lost) = (self.open.len(), 0);
        let (spared, since) = (dice.below(self.open.len() + 1), self.since(dice));
        let mut stuck: BTreeSet<&Key> = BTreeSet::new();
        for (place, renaming) in self.open.iter().enumerate() {
            let keys = || renaming.1.iter().map(|(key, _)| key);
            let gone = match (spares, self.rule) {
                (Spares::All, _) => false,
                (Spares::Nothing, _) => true,
                (Spares::First, _) => renaming.0 >= since,
                (_, Rule::Ordered) => place >= spared,
                (_, Rule::Loose | Rule::Deaf) => {
                    dice.below(2) == 0 || keys().any(|key| stuck.contains(key))
                }
            };
            if gone {
                stuck.extend(keys());
                lost += 1;
            } else {
                renaming.last(&mut after);
            }
        }
        for (id, changes) in &self.written {
            let Some(bytes) = after.bytes_mut(*id) else { continue };
            open += changes.len();
            for Dated(when, change) in changes {
                let whole = match spares {
                    Spares::All => true,
                    Spares::Nothing => false,
                    Spares::First => *when < since,
                    Spares::Any => dice.below(2) == 0,
                    Spares::Sectors | Spares::Blocks => match dice.below(3) {
                        0 => true,
                        1 => change.tear(bytes, spares.unit(), |_piece| dice.below(2) == 0),
                        _ => false,
                    },
                };
                if whole {
                    change.apply(bytes);
                }
                lost += usize::from(!whole);
            }
        }
        (after, open, lost)
    }

    /// Changes that are on their way.
    pub(crate) fn on_their_way(&self) -> usize {
        self.open.len() + self.written.values().map(Vec::len).sum::<usize>()
    }

    /// A moment among the changes that are on their way, at which they may have stopped.
    fn since(&self, dice: &mut Dice) -> u64 {
        let bytes = self.written.values().flatten().map(|Dated(when, _)| *when);
        let names = self.open.iter().map(|Renaming(when, _)| *when);
        let mut all: Vec<u64> = bytes.chain(names).collect();
        all.sort_unstable();
        all.get(dice.below(all.len().max(1))).copied().unwrap_or(0)
    }

    /// Whether the names and bytes of now are those of the folder on the disk: that no call was missed.
    ///
    /// # Errors
    /// Names the first difference.
    pub(crate) fn compare(&self) -> Result<()> {
        self.compare_at(0, &self.root)
    }

    fn compare_at(&self, id: Id, path: &Path) -> Result<()> {
        if path.to_string_lossy().ends_with(SHARED) {
            return Ok(());
        }
        if let Some(target) = self.lasting.target(id) {
            ensure!(fs::read_link(path)? == target, "{} points elsewhere", path.display());
        } else if let Some(bytes) = self.lasting.bytes(id) {
            let mut bytes = bytes.clone();
            for Dated(_, change) in self.written.get(&id).into_iter().flatten() {
                change.apply(&mut bytes);
            }
            let same = bytes.to_vec() == crate::tree::read(path)?;
            ensure!(same, "{} has other bytes", path.display());
        } else {
            let own = self.now.range((id, String::new())..(id + 1, String::new()));
            let own: Vec<&str> = own.map(|((_, name), _)| name.as_str()).collect();
            let there = crate::tree::names(path)?;
            ensure!(own == there, "{}: {own:?}, and {there:?} is there", path.display());
            for name in there {
                let child = self.now.get(&(id, name.clone())).context("a name")?;
                self.compare_at(*child, &path.join(name))?;
            }
        }
        Ok(())
    }
}

impl Renaming {
    /// Makes it last.
    fn last(&self, lasting: &mut Memory) {
        for ((folder, name), to) in &self.1 {
            lasting.set_name(*folder, name, *to);
        }
    }
}

impl Change {
    /// Does it to `bytes`.
    fn apply(&self, bytes: &mut Bytes) {
        match self {
            Self::Length(length) => bytes.set_length(*length),
            Self::Bytes(at, new) => bytes.write(*at, new),
        }
    }

    /// Does it to `bytes` in pieces as a disk writes them, each of `unit` bytes of the file, as far as `spared`
    /// says. A length has no pieces. Whether it is there whole, which is never said.
    fn tear(&self, bytes: &mut Bytes, unit: usize, mut spared: impl FnMut(usize) -> bool) -> bool {
        let Self::Bytes(at, new) = self else { return false };
        bytes.set_length(bytes.len().max(at + new.len()));
        let mut from = 0;
        while from < new.len() {
            let end = (from + unit - (at + from) % unit).min(new.len());
            if spared(from) {
                bytes.write(at + from, &new[from..end]);
            }
            from = end;
        }
        false
    }
}
