//! Generations: a signed manifest and a tree of hard links, built aside and named by one rename.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Component, Path, PathBuf},
};

use cloister_domain::{ByteCount, Digest, GenerationId, Slot};

use crate::{
    MANIFEST_BYTES_MAX, Object, Shelf, ShelfError,
    durable::{make_folder, remove_all_if_there, sync_folder},
};

/// A complete generation on the shelf. Having one proves that its name was found or given there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shelved {
    id: GenerationId,
    directory: PathBuf,
}

impl Shelved {
    /// The generation.
    #[must_use]
    pub const fn id(&self) -> GenerationId {
        self.id
    }

    /// Its folder, with `manifest.json` and `tree/` inside.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The signed manifest, byte for byte as it was shelved.
    ///
    /// # Errors
    /// [`ShelfError::Io`] when it cannot be read, also when it is larger than [`MANIFEST_BYTES_MAX`].
    pub fn manifest(&self) -> Result<Vec<u8>, ShelfError> {
        read_limited(&self.directory.join("manifest.json"), MANIFEST_BYTES_MAX)
            .map_err(ShelfError::io("read a generation's manifest"))
    }

    /// A file of the tree of at most `bytes_max`; `None` when the release has no such file.
    ///
    /// # Errors
    /// [`ShelfError::Path`] when `path` would leave the tree, [`ShelfError::Io`] when it cannot be
    /// read or is larger.
    pub fn read(&self, path: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, ShelfError> {
        let path = self.directory.join("tree").join(inside(path)?);
        match read_limited(&path, bytes_max) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ShelfError::Io { act: "read a file of a generation", source }),
        }
    }
}

/// What a sweep removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Generations whose folders are gone.
    pub generations: Vec<GenerationId>,
    /// Objects that nothing named any more.
    pub objects: u64,
    /// Their size together.
    pub bytes: ByteCount,
}

impl Shelf {
    /// Puts a generation on the shelf: `manifest`; for each path of its tree, an object; and the
    /// evidence that came with it, by digest. The same generation again changes nothing.
    ///
    /// # Errors
    /// [`ShelfError::Path`] when a path would leave the tree, [`ShelfError::Io`] when the disk fails.
    pub fn shelve(
        &self,
        id: GenerationId,
        manifest: &[u8],
        files: &[(&str, Object)],
        evidence: &[Object],
    ) -> Result<Shelved, ShelfError> {
        let failed = || ShelfError::io("build a generation");
        if let Some(there) = self.shelved(id)? {
            // Whoever gave it its name may have been cut off behind that.
            sync_folder(&self.generations_folder()).map_err(failed())?;
            return Ok(there);
        }
        let aside = self.generations_folder().join(format!(".new-{id}"));
        self.build(&aside, manifest, files, evidence)
            .and_then(|()| {
                let named = fs::rename(&aside, self.directory(id));
                named.map_err(ShelfError::io("name a generation"))
            })
            .inspect_err(|_failed| remove_all_if_there(&aside).unwrap_or_default())?;
        sync_folder(&self.generations_folder()).map_err(failed())?;
        self.shelved(id)?.ok_or(ShelfError::Absent { generation: id })
    }

    /// Builds at `aside`, where one that was cut off may lie, what a generation's folder holds.
    fn build(
        &self,
        aside: &Path,
        manifest: &[u8],
        files: &[(&str, Object)],
        evidence: &[Object],
    ) -> Result<(), ShelfError> {
        let failed = || ShelfError::io("build a generation");
        remove_all_if_there(aside).map_err(failed())?;
        let tree = aside.join("tree");
        make_folder(&tree).map_err(failed())?;
        let mut folders = BTreeSet::from([aside.to_path_buf(), tree.clone()]);
        for (path, object) in files {
            let target = tree.join(inside(path)?);
            let folder = target.parent().expect("a path inside the tree has a folder");
            if !folders.contains(folder) {
                make_folder(folder).map_err(failed())?;
            }
            for step in folder.ancestors().take_while(|step| *step != tree) {
                folders.insert(step.to_path_buf());
            }
            fs::hard_link(self.object_path(object.digest()), &target).map_err(failed())?;
        }
        if !evidence.is_empty() {
            let folder = aside.join("attest");
            make_folder(&folder).map_err(failed())?;
            for object in evidence {
                let target = folder.join(object.digest().to_string());
                fs::hard_link(self.object_path(object.digest()), target).map_err(failed())?;
            }
            folders.insert(folder);
        }
        write_manifest(&aside.join("manifest.json"), manifest).map_err(failed())?;
        // Deepest first, so that a folder's name is flushed after what it holds.
        folders.iter().rev().try_for_each(|folder| sync_folder(folder)).map_err(failed())
    }

    /// The generation `id`, if it is on the shelf.
    ///
    /// # Errors
    /// [`ShelfError::Io`] when the disk fails.
    pub fn shelved(&self, id: GenerationId) -> Result<Option<Shelved>, ShelfError> {
        let directory = self.directory(id);
        match fs::symlink_metadata(directory.join("manifest.json")) {
            Ok(_) => Ok(Some(Shelved { id, directory })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ShelfError::Io { act: "look for a generation", source }),
        }
    }

    /// All generations on the shelf, by name.
    ///
    /// # Errors
    /// [`ShelfError::Io`] when the disk fails.
    pub fn list(&self) -> Result<Vec<Shelved>, ShelfError> {
        let failed = || ShelfError::io("list the generations");
        let mut ids = BTreeSet::new();
        for entry in fs::read_dir(self.generations_folder()).map_err(failed())? {
            let name = entry.map_err(failed())?.file_name();
            if let Some(id) = name.to_str().and_then(|name| name.parse::<GenerationId>().ok()) {
                ids.insert(id);
            }
        }
        ids.into_iter().filter_map(|id| self.shelved(id).transpose()).collect()
    }

    /// Removes every generation that is neither in `keep`, nor active, nor in a slot; then every
    /// object that no tree names and that is not in `pinned` (files of imports that are under way).
    ///
    /// # Errors
    /// [`ShelfError::Io`] when the disk fails; sweeping again goes on where it stopped.
    pub fn sweep(
        &self,
        keep: &BTreeSet<GenerationId>,
        pinned: &BTreeSet<Digest>,
    ) -> Result<Swept, ShelfError> {
        let mut marked = keep.clone();
        marked.extend(self.active()?.map(|active| active.id()));
        for slot in Slot::ALL {
            marked.extend(self.slot(slot)?.map(|held| held.id()));
        }
        // What cannot be removed keeps its objects, and holds up nothing else.
        let cleared = self.clear_taken_down();
        let mut swept = Swept::default();
        for generation in self.list()? {
            if marked.contains(&generation.id) {
                continue;
            }
            self.take_down(&generation)?;
            swept.generations.push(generation.id);
        }
        self.sweep_objects(pinned, &mut swept)?;
        cleared.map(|()| swept)
    }

    /// An object's link count is the number of trees that name it, plus its own name.
    fn sweep_objects(
        &self,
        pinned: &BTreeSet<Digest>,
        swept: &mut Swept,
    ) -> Result<(), ShelfError> {
        let failed = || ShelfError::io("sweep an object");
        for fan in fs::read_dir(self.root.join("objects")).map_err(failed())? {
            let fan = fan.map_err(failed())?.path();
            if !fan.is_dir() {
                continue;
            }
            for entry in fs::read_dir(&fan).map_err(failed())? {
                let entry = entry.map_err(failed())?;
                let about = entry.metadata().map_err(failed())?;
                let digest = entry.file_name().to_str().and_then(|name| name.parse().ok());
                if about.nlink() == 1 && digest.is_none_or(|digest| !pinned.contains(&digest)) {
                    fs::remove_file(entry.path()).map_err(failed())?;
                    swept.objects += 1;
                    swept.bytes.0 += about.len();
                }
            }
            // Only one that is empty goes.
            match fs::remove_dir(&fan) {
                Err(error) if error.kind() != io::ErrorKind::DirectoryNotEmpty => {
                    return Err(failed()(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn directory(&self, id: GenerationId) -> PathBuf {
        self.generations_folder().join(id.to_string())
    }
}

/// `path` as a relative path of plain names, or a refusal.
fn inside(path: &str) -> Result<&Path, ShelfError> {
    let path = Path::new(path);
    let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    if plain && path.components().next().is_some() { Ok(path) } else { Err(ShelfError::Path) }
}

fn write_manifest(path: &Path, manifest: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(manifest)?;
    file.set_permissions(Permissions::from_mode(0o444))?;
    file.sync_all()
}

pub(crate) fn read_limited(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}
