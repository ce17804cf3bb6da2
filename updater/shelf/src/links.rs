//! The pointers: what is served, and what each engine slot holds.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use cloister_domain::{GenerationId, Slot};

use crate::{
    Shelf, ShelfError, Shelved,
    durable::{remove_if_there, replace_file, switch_link, sync_folder},
    generations::read_limited,
};

/// The file that says what the trial under way is.
const TRIAL: &str = "trial";

/// The generation that `active` names. Having one proves that the pointer was read or switched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Active(Shelved);

impl Active {
    /// The generation.
    #[must_use]
    pub const fn id(&self) -> GenerationId {
        self.0.id()
    }

    /// As a generation on the shelf.
    #[must_use]
    pub const fn shelved(&self) -> &Shelved {
        &self.0
    }
}

impl Shelf {
    /// What is active; none before the first activation.
    ///
    /// # Errors
    /// [`ShelfError::Pointer`] when the pointer names no generation that is there.
    pub fn active(&self) -> Result<Option<Active>, ShelfError> {
        Ok(self.pointed(&self.root.join("active"), "active")?.map(Active))
    }

    /// Makes `generation` the active one. The single rename(2) inside is the commit point: before
    /// it the old generation is served, after it the new one.
    ///
    /// # Errors
    /// [`ShelfError::Absent`] when it left the shelf, [`ShelfError::Io`] when the disk fails; the pointer is
    /// then the old or the new one.
    pub fn activate(&self, generation: &Shelved) -> Result<Active, ShelfError> {
        self.is_there(generation)?;
        let target = Path::new("generations").join(generation.id().to_string());
        switch_link(&self.root, "active", &target)
            .map_err(ShelfError::io("switch the active generation"))?;
        Ok(Active(generation.clone()))
    }

    /// Takes the pointer away: what a failed first activation returns to.
    ///
    /// # Errors
    /// [`ShelfError::Io`] when the disk fails.
    pub fn deactivate(&self) -> Result<(), ShelfError> {
        remove_if_there(&self.root.join("active"))
            .and_then(|()| sync_folder(&self.root))
            .map_err(ShelfError::io("take the active pointer away"))
    }

    /// What `slot` holds or is about to hold.
    ///
    /// # Errors
    /// [`ShelfError::Pointer`] when the pointer names no generation that is there.
    pub fn slot(&self, slot: Slot) -> Result<Option<Shelved>, ShelfError> {
        self.pointed(&self.root.join("slots").join(slot.name()), slot_pointer(slot))
    }

    /// Says what `slot` is to hold from its next start on; `None` empties it.
    ///
    /// # Errors
    /// [`ShelfError::Absent`] when it left the shelf, [`ShelfError::Io`] when the disk fails.
    pub fn set_slot(&self, slot: Slot, generation: Option<&Shelved>) -> Result<(), ShelfError> {
        let folder = self.root.join("slots");
        let outcome = match generation {
            Some(generation) => {
                self.is_there(generation)?;
                let target = Path::new("../generations").join(generation.id().to_string());
                switch_link(&folder, slot.name(), &target)
            }
            None => remove_if_there(&folder.join(slot.name())).and_then(|()| sync_folder(&folder)),
        };
        outcome.map_err(ShelfError::io("name what a slot holds"))
    }

    /// Nothing points at what left the shelf since it was looked up.
    fn is_there(&self, generation: &Shelved) -> Result<(), ShelfError> {
        let generation = generation.id();
        self.shelved(generation)?.map(drop).ok_or(ShelfError::Absent { generation })
    }

    /// What is written about the trial under way, at most `bytes_max`; none if there is none.
    ///
    /// # Errors
    /// [`ShelfError::Io`] when the disk fails, also when it is larger.
    pub fn trial(&self, bytes_max: u64) -> Result<Option<Vec<u8>>, ShelfError> {
        match read_limited(&self.root.join(TRIAL), bytes_max) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ShelfError::Io { act: "read what the trial is", source }),
        }
    }

    /// Says what the trial under way is, in the place of another; `None`: there is none.
    ///
    /// # Errors
    /// [`ShelfError::Io`] when the disk fails; what is said is then the old or the new.
    pub fn set_trial(&self, text: Option<&[u8]>) -> Result<(), ShelfError> {
        let outcome = match text {
            Some(text) => replace_file(&self.root, TRIAL, text),
            None => remove_if_there(&self.root.join(TRIAL)).and_then(|()| sync_folder(&self.root)),
        };
        outcome.map_err(ShelfError::io("say what the trial is"))
    }

    fn pointed(&self, link: &Path, name: &'static str) -> Result<Option<Shelved>, ShelfError> {
        let target: PathBuf = match fs::read_link(link) {
            Ok(target) => target,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                return Err(ShelfError::Io { act: "read a pointer of the shelf", source });
            }
        };
        let id: GenerationId = target
            .file_name()
            .and_then(|last| last.to_str())
            .and_then(|last| last.parse().ok())
            .ok_or(ShelfError::Pointer { name })?;
        self.shelved(id)?.map(Some).ok_or(ShelfError::Pointer { name })
    }
}

const fn slot_pointer(slot: Slot) -> &'static str {
    match slot {
        Slot::A => "slots/a",
        Slot::B => "slots/b",
    }
}
