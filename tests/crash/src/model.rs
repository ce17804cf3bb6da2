//! A file system that keeps no more than it promised: what was written lasts once its file was synced,
//! and a name once its folder was. Everything else may be there after a crash or not.
//!
//! Under the *ordered* rule names change in one order and every sync takes all names before it along, as
//! ext4 does; under the *loose* rule, which is all that POSIX says, each name goes its own way.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Component, Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use cloister_stage::Dice;

use crate::{calls::Deed, cuts::Spares};

/// Bytes that a disk writes whole.
const SECTOR: usize = 512;

type Id = usize;
type Key = (Id, String);

/// What a file system promises about names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// As ext4: in order, and every sync covers all before it.
    Ordered,
    /// As POSIX: each by itself, and only by a sync of its folder.
    Loose,
    /// As [`Rule::Loose`], but nothing is ever synced: what the judge must notice.
    Deaf,
}

#[derive(Clone, Debug)]
enum Node {
    File(Content),
    Folder(BTreeMap<String, Id>),
    Link(PathBuf),
}

/// A file's bytes that last, and what was done since.
#[derive(Clone, Debug, Default)]
struct Content {
    lasting: Vec<u8>,
    open: Vec<Dated>,
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
    nodes: Vec<Node>,
    modes: Vec<u32>,
    /// What the names mean now, for those who look.
    now: BTreeMap<Key, Id>,
    open: Vec<Renaming>,
    /// Changes until now.
    changes: u64,
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
        let (nodes, modes) = (Vec::new(), Vec::new());
        let (now, open) = (BTreeMap::new(), Vec::new());
        let root_folder = root.to_owned();
        let mut model = Self { root: root_folder, rule, nodes, modes, now, open, changes: 0 };
        model.take(from, &mut BTreeMap::new())?;
        Ok(model)
    }

    /// The same under another rule.
    pub(crate) const fn with(mut self, rule: Rule) -> Self {
        self.rule = rule;
        self
    }

    /// Reads what is at `path` and all below it.
    fn take(&mut self, path: &Path, seen: &mut BTreeMap<u64, Id>) -> Result<Id> {
        use std::os::unix::fs::MetadataExt as _;
        let about = fs::symlink_metadata(path)?;
        if let Some(id) = seen.get(&about.ino()) {
            return Ok(*id);
        }
        let id = self.add(Node::Folder(BTreeMap::new()), about.permissions().mode());
        seen.insert(about.ino(), id);
        if about.is_dir() {
            for name in crate::tree::names(path)? {
                let child = self.take(&path.join(&name), seen)?;
                self.now.insert((id, name.clone()), child);
                if let Some(Node::Folder(names)) = self.nodes.get_mut(id) {
                    names.insert(name, child);
                }
            }
        } else if about.is_symlink() {
            self.nodes[id] = Node::Link(fs::read_link(path)?);
        } else {
            let content = Content { lasting: crate::tree::read(path)?, open: Vec::new() };
            self.nodes[id] = Node::File(content);
        }
        Ok(id)
    }

    fn add(&mut self, node: Node, mode: u32) -> Id {
        self.nodes.push(node);
        self.modes.push(mode);
        self.nodes.len() - 1
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
        let change = Dated(self.changes, change);
        self.content(path)?.open.push(change);
        Some(())
    }

    /// Takes a call that came back well. What lies outside the folder, or has no name any more, does not
    /// matter.
    pub(crate) fn act(&mut self, deed: &Deed) {
        // A call about what has no name changes nothing that a crash could spare.
        self.try_act(deed).unwrap_or_default();
    }

    fn try_act(&mut self, deed: &Deed) -> Option<()> {
        match deed {
            Deed::Create(path) => {
                let (key, id) =
                    (self.key(path)?, self.add(Node::File(Content::default()), 0o100_600));
                self.rename(vec![(key, Some(id))]);
            }
            Deed::MakeFolder(path) => {
                let folder = Node::Folder(BTreeMap::new());
                let (key, id) = (self.key(path)?, self.add(folder, 0o040_755));
                self.rename(vec![(key, Some(id))]);
            }
            Deed::Symlink(target, path) => {
                let (key, id) = (self.key(path)?, self.add(Node::Link(target.clone()), 0o120_777));
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
                let kind = self.modes[id] & 0o170_000;
                self.modes[id] = kind | (mode & 0o7777);
            }
            Deed::Sync(path) => {
                let id = self.find(path)?;
                self.sync(id);
            }
            Deed::Unsynced(path) => {
                // The kernel gives the error once and takes the pages for clean (fsync(2), NOTES).
                self.content(path)?.open.clear();
            }
            Deed::Tell | Deed::Other => {}
        }
        Some(())
    }

    fn content(&mut self, path: &Path) -> Option<&mut Content> {
        let id = self.find(path)?;
        match self.nodes.get_mut(id)? {
            Node::File(content) => Some(content),
            Node::Folder(_) | Node::Link(_) => None,
        }
    }

    fn sync(&mut self, id: Id) {
        if self.rule == Rule::Deaf {
            return;
        }
        if let Some(Node::File(content)) = self.nodes.get_mut(id) {
            for Dated(_, change) in std::mem::take(&mut content.open) {
                change.apply(&mut content.lasting, |_sector| true);
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
            if lasts { self.last(&renaming) } else { left.push(renaming) }
        }
        self.open = left;
    }

    fn last(&mut self, Renaming(_, changes): &Renaming) {
        for ((folder, name), to) in changes {
            let Some(Node::Folder(names)) = self.nodes.get_mut(*folder) else { continue };
            match to {
                Some(id) => names.insert(name.clone(), *id),
                None => names.remove(name),
            };
        }
    }

    /// The folder as it may be after a crash now: what lasts, and what is spared of the rest. Says how many
    /// changes were on their way, and how many of them are gone or torn.
    pub(crate) fn crash(&self, spares: Spares, dice: &mut Dice) -> (Self, usize, usize) {
        let mut after = self.clone();
        let (mut open, mut lost) = (self.open.len(), 0);
        let (spared, since) = (dice.below(self.open.len() + 1), self.since(dice));
        let mut stuck: BTreeSet<&Key> = BTreeSet::new();
        for (place, renaming) in self.open.iter().enumerate() {
            let keys = || renaming.1.iter().map(|(key, _)| key);
            let gone = match (spares, self.rule) {
                (Spares::All, _) => false,
                (Spares::Nothing, _) => true,
                (Spares::First, _) => renaming.0 >= since,
                (Spares::Some, Rule::Ordered) => place >= spared,
                (Spares::Some, Rule::Loose | Rule::Deaf) => {
                    dice.below(2) == 0 || keys().any(|key| stuck.contains(key))
                }
            };
            if gone {
                stuck.extend(keys());
                lost += 1;
            } else {
                after.last(renaming);
            }
        }
        after.open.clear();
        for node in &mut after.nodes {
            let Node::File(content) = node else { continue };
            open += content.open.len();
            for Dated(when, change) in std::mem::take(&mut content.open) {
                let kind = match spares {
                    Spares::All => 0,
                    Spares::Nothing => 2,
                    Spares::First => usize::from(when >= since) * 2,
                    Spares::Some => dice.below(3),
                };
                lost += usize::from(kind != 0);
                match (&change, kind) {
                    (_, 0) => change.apply(&mut content.lasting, |_sector| true),
                    (Change::Bytes(..), 1) => {
                        change.apply(&mut content.lasting, |_sector| dice.below(2) == 0);
                    }
                    _ => {}
                }
            }
        }
        after.now.clear();
        (after, open, lost)
    }

    /// A moment among the changes that are on their way, at which they may have stopped.
    fn since(&self, dice: &mut Dice) -> u64 {
        let bytes = self.nodes.iter().filter_map(|node| match node {
            Node::File(content) => Some(content.open.iter().map(|Dated(when, _)| *when)),
            Node::Folder(_) | Node::Link(_) => None,
        });
        let names = self.open.iter().map(|Renaming(when, _)| *when);
        let mut all: Vec<u64> = bytes.flatten().chain(names).collect();
        all.sort_unstable();
        all.get(dice.below(all.len().max(1))).copied().unwrap_or(0)
    }

    /// Cuts a file of the folder in half, after a crash.
    ///
    /// # Errors
    /// When it is not there.
    pub(crate) fn tear(&mut self, path: &Path) -> Result<()> {
        let mut id = 0;
        for part in path.components() {
            let Node::Folder(names) = &self.nodes[id] else { bail!("no folder") };
            let name = part.as_os_str().to_str().context("a name that is not UTF-8")?;
            id = *names.get(name).with_context(|| format!("{name} is not there"))?;
        }
        let Node::File(content) = &mut self.nodes[id] else { bail!("no file") };
        content.lasting.truncate(content.lasting.len() / 2);
        Ok(())
    }

    /// Lays out what lasts in an empty `folder`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn lay_out(&self, folder: &Path) -> Result<()> {
        let mut there = BTreeMap::new();
        self.lay(0, folder, &mut there)
    }

    fn lay(&self, id: Id, path: &Path, there: &mut BTreeMap<Id, PathBuf>) -> Result<()> {
        let mode = fs::Permissions::from_mode(self.modes[id] & 0o7777);
        match &self.nodes[id] {
            Node::Folder(names) => {
                if id != 0 {
                    fs::create_dir(path)?;
                }
                for (name, child) in names {
                    self.lay(*child, &path.join(name), there)?;
                }
                fs::set_permissions(path, mode)?;
            }
            Node::Link(target) => symlink(target, path)?,
            // Another process's memory, which a crash empties.
            Node::File(_) if path.to_string_lossy().ends_with("-shm") => {}
            Node::File(content) => {
                if let Some(first) = there.get(&id) {
                    return Ok(fs::hard_link(first, path)?);
                }
                fs::write(path, &content.lasting)?;
                fs::set_permissions(path, mode)?;
                there.insert(id, path.to_owned());
            }
        }
        Ok(())
    }

    /// Whether the names and bytes of now are those of the folder on the disk: that no call was missed.
    ///
    /// # Errors
    /// Names the first difference.
    pub(crate) fn compare(&self) -> Result<()> {
        self.compare_at(0, &self.root)
    }

    fn compare_at(&self, id: Id, path: &Path) -> Result<()> {
        match &self.nodes[id] {
            Node::Folder(_) => {
                let own = self.now.range((id, String::new())..(id + 1, String::new()));
                let own: Vec<&str> = own.map(|((_, name), _)| name.as_str()).collect();
                let there = crate::tree::names(path)?;
                ensure!(own == there, "{}: {own:?}, and {there:?} is there", path.display());
                for name in there {
                    let child = self.now.get(&(id, name.clone())).context("a name")?;
                    self.compare_at(*child, &path.join(name))?;
                }
            }
            Node::Link(target) => {
                ensure!(fs::read_link(path)? == *target, "{} points elsewhere", path.display());
            }
            Node::File(_) if path.to_string_lossy().ends_with("-shm") => {}
            Node::File(content) => {
                let mut bytes = content.lasting.clone();
                for Dated(_, change) in &content.open {
                    change.apply(&mut bytes, |_sector| true);
                }
                ensure!(bytes == crate::tree::read(path)?, "{} has other bytes", path.display());
            }
        }
        Ok(())
    }
}

impl Change {
    /// Does it to `bytes`, as far as `spared` says of each sector.
    fn apply(&self, bytes: &mut Vec<u8>, mut spared: impl FnMut(usize) -> bool) {
        match self {
            Self::Length(length) => bytes.resize(*length, 0),
            Self::Bytes(at, new) => {
                let end = at + new.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                for (number, sector) in new.chunks(SECTOR).enumerate() {
                    if spared(number) {
                        let from = at + number * SECTOR;
                        bytes[from..from + sector.len()].copy_from_slice(sector);
                    }
                }
            }
        }
    }
}
