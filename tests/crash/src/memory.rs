//! A state folder in memory: what lasts after a crash of the model, to be looked at without a disk.

use std::{
    collections::BTreeMap,
    fs,
    hash::{DefaultHasher, Hasher as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    bytes::{Bytes, mixed},
    tree::{Tree, names, read},
};

/// Another process's memory, which a crash empties.
pub(crate) const SHARED: &str = "-shm";

pub(crate) type Id = usize;

#[derive(Clone, Debug)]
enum Node {
    File(Bytes),
    Folder(Arc<BTreeMap<String, Id>>),
    Link(Arc<Path>),
}

/// A state folder; paths begin in it. Copies share what they have in common.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    nodes: Vec<Node>,
    modes: Vec<u32>,
}

impl Memory {
    /// The folder at `root` as it lies there.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let mut memory = Self::default();
        memory.take(root, &mut BTreeMap::new())?;
        Ok(memory)
    }

    /// Reads what is at `path` and all below it.
    fn take(&mut self, path: &Path, seen: &mut BTreeMap<u64, Id>) -> Result<Id> {
        let about = fs::symlink_metadata(path)?;
        if let Some(id) = seen.get(&about.ino()) {
            return Ok(*id);
        }
        let id = self.add_folder(about.permissions().mode());
        seen.insert(about.ino(), id);
        if about.is_dir() {
            for name in names(path)? {
                let child = self.take(&path.join(&name), seen)?;
                self.set_name(id, &name, Some(child));
            }
        } else if about.is_symlink() {
            self.nodes[id] = Node::Link(fs::read_link(path)?.into());
        } else {
            self.nodes[id] = Node::File(Bytes::of(&read(path)?));
        }
        Ok(id)
    }

    fn add(&mut self, node: Node, mode: u32) -> Id {
        self.nodes.push(node);
        self.modes.push(mode);
        self.nodes.len() - 1
    }

    /// A new file, which has no name yet.
    pub(crate) fn add_file(&mut self, mode: u32) -> Id {
        self.add(Node::File(Bytes::default()), mode)
    }

    /// A new folder, which has no name yet.
    pub(crate) fn add_folder(&mut self, mode: u32) -> Id {
        self.add(Node::Folder(Arc::default()), mode)
    }

    /// A new link, which has no name yet.
    pub(crate) fn add_link(&mut self, target: &Path, mode: u32) -> Id {
        self.add(Node::Link(target.into()), mode)
    }

    /// Gives it the permissions of `mode`.
    pub(crate) fn set_mode(&mut self, id: Id, mode: u32) {
        self.modes[id] = self.modes[id] & 0o170_000 | (mode & 0o7777);
    }

    /// Gives a name in a folder another meaning, or takes it away.
    pub(crate) fn set_name(&mut self, folder: Id, name: &str, to: Option<Id>) {
        let Node::Folder(names) = &mut self.nodes[folder] else { return };
        let names = Arc::make_mut(names);
        match to {
            Some(id) => names.insert(name.to_owned(), id),
            None => names.remove(name),
        };
    }

    /// What lies in a folder.
    pub(crate) fn folder(&self, id: Id) -> Option<&BTreeMap<String, Id>> {
        match &self.nodes[id] {
            Node::Folder(names) => Some(names),
            Node::File(_) | Node::Link(_) => None,
        }
    }

    /// Where a link points.
    pub(crate) fn target(&self, id: Id) -> Option<&Path> {
        match &self.nodes[id] {
            Node::Link(target) => Some(target),
            Node::File(_) | Node::Folder(_) => None,
        }
    }

    /// The bytes of a file.
    pub(crate) fn bytes(&self, id: Id) -> Option<&Bytes> {
        match &self.nodes[id] {
            Node::File(bytes) => Some(bytes),
            Node::Folder(_) | Node::Link(_) => None,
        }
    }

    /// The bytes of a file, to be changed.
    pub(crate) fn bytes_mut(&mut self, id: Id) -> Option<&mut Bytes> {
        match &mut self.nodes[id] {
            Node::File(bytes) => Some(bytes),
            Node::Folder(_) | Node::Link(_) => None,
        }
    }

    /// What is at `path`.
    pub(crate) fn find(&self, path: &Path) -> Option<Id> {
        let mut id = 0;
        for part in path.components() {
            let Component::Normal(name) = part else { return None };
            id = *self.folder(id)?.get(name.to_str()?)?;
        }
        Some(id)
    }

    /// The bytes of the file at `path`.
    pub(crate) fn file(&self, path: &Path) -> Option<&Bytes> {
        self.bytes(self.find(path)?)
    }

    /// A number that two folders have in common only where names, links and bytes are the same below `path`,
    /// but for what is `left_out`, as far as a crash leaves it there; 0 where nothing is.
    pub(crate) fn sum(&self, path: &Path, left_out: fn(&str) -> bool) -> u128 {
        self.find(path).map_or(0, |id| self.sum_of(id, left_out))
    }

    fn sum_of(&self, id: Id, left_out: fn(&str) -> bool) -> u128 {
        match &self.nodes[id] {
            Node::File(bytes) => mixed(1, bytes.sum()),
            Node::Link(target) => mixed(2, hashed(&target.to_string_lossy())),
            Node::Folder(names) => {
                let there = names.iter().filter(|(name, _)| !name.ends_with(SHARED));
                let there = there.filter(|(name, _)| !left_out(name));
                let sums = there.map(|(name, id)| mixed(hashed(name), self.sum_of(*id, left_out)));
                mixed(3, sums.fold(0, u128::wrapping_add))
            }
        }
    }

    /// Lays it out in an empty `folder`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn lay_out(&self, folder: &Path) -> Result<()> {
        self.lay(0, folder, &mut BTreeMap::new())
    }

    fn lay(&self, id: Id, path: &Path, there: &mut BTreeMap<Id, PathBuf>) -> Result<()> {
        let mode = fs::Permissions::from_mode(self.modes[id] & 0o7777);
        match &self.nodes[id] {
            Node::Folder(names) => {
                if id != 0 {
                    fs::create_dir(path)?;
                }
                for (name, child) in &**names {
                    self.lay(*child, &path.join(name), there)?;
                }
                fs::set_permissions(path, mode)?;
            }
            Node::Link(target) => symlink(target, path)?,
            Node::File(_) if path.to_string_lossy().ends_with(SHARED) => {}
            Node::File(bytes) => {
                if let Some(first) = there.get(&id) {
                    return Ok(fs::hard_link(first, path)?);
                }
                fs::write(path, bytes.to_vec())?;
                fs::set_permissions(path, mode)?;
                there.insert(id, path.to_owned());
            }
        }
        Ok(())
    }

    /// Puts bytes in place of a file's.
    ///
    /// # Errors
    /// When it is not there.
    pub(crate) fn put(&mut self, path: &Path, bytes: &[u8]) -> Result<()> {
        let id = self.find(path).with_context(|| format!("{} is not there", path.display()))?;
        *self.bytes_mut(id).context("no file")? = Bytes::of(bytes);
        Ok(())
    }

    /// Cuts a file in half.
    ///
    /// # Errors
    /// When it is not there.
    pub(crate) fn tear(&mut self, path: &Path) -> Result<()> {
        let bytes = self.file(path).with_context(|| format!("{} is not there", path.display()))?;
        let bytes = bytes.to_vec();
        self.put(path, &bytes[..bytes.len() / 2])
    }

    /// Puts what `other` has at `path` in place of what is there, or nothing where that has nothing.
    ///
    /// # Errors
    /// When the folder for it is not there.
    pub(crate) fn graft(&mut self, path: &Path, other: &Self) -> Result<()> {
        let folder = self.find(path.parent().context("the root")?).context("no folder")?;
        let name = path.file_name().and_then(|name| name.to_str()).context("no name")?;
        let id = other.find(path).map(|id| self.adopt(other, id));
        self.set_name(folder, name, id);
        Ok(())
    }

    fn adopt(&mut self, other: &Self, id: Id) -> Id {
        let own = self.add(other.nodes[id].clone(), other.modes[id]);
        if let Node::Folder(names) = &other.nodes[id] {
            let names = names.iter().map(|(name, id)| (name.clone(), self.adopt(other, *id)));
            self.nodes[own] = Node::Folder(Arc::new(names.collect()));
        }
        own
    }
}

fn hashed(name: &str) -> u128 {
    let half = |seed: u8| {
        let mut hasher = DefaultHasher::new();
        hasher.write_u8(seed);
        hasher.write(name.as_bytes());
        u128::from(hasher.finish())
    };
    half(0) << 64 | half(1)
}

impl Tree for Memory {
    fn names(&self, folder: &Path) -> Result<Vec<String>> {
        let Some(id) = self.find(folder) else { return Ok(Vec::new()) };
        let names = self.folder(id).context("no folder")?;
        Ok(names.keys().cloned().collect())
    }

    fn read(&self, file: &Path) -> Result<Arc<[u8]>> {
        let name = || file.file_name().unwrap_or_default().display().to_string();
        Ok(self.file(file).with_context(name)?.to_vec().into())
    }

    fn front(&self, file: &Path) -> Result<(Vec<u8>, usize)> {
        let bytes = self.file(file).context("it is not there")?;
        Ok((bytes.front(), bytes.len()))
    }

    fn link(&self, path: &Path) -> Result<Option<PathBuf>> {
        let Some(id) = self.find(path) else { return Ok(None) };
        let Some(target) = self.target(id) else { bail!("{} is no link", path.display()) };
        Ok(Some(target.to_owned()))
    }

    fn is_folder(&self, path: &Path) -> bool {
        self.find(path).is_some_and(|id| self.folder(id).is_some())
    }

    fn is_there(&self, path: &Path) -> bool {
        self.find(path).is_some()
    }

    fn digest(&self, file: &Path) -> Result<String> {
        let name = || file.file_name().unwrap_or_default().display().to_string();
        Ok(self.file(file).with_context(name)?.sha256().to_owned())
    }
}
