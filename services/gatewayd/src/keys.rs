//! API keys: only hashes are kept, in one file that is replaced whole.

use std::{
    path::{Path, PathBuf},
    sync::RwLock,
};

use cloister_daemon::files::{self, FileError};
use cloister_domain::{Class, Coded, Digest, LabelSet, Principal, Secret, Sensitive};
use cloister_wire::gateway::{KEY_CHARACTERS_MAX, KeyInfo, is_key_value};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

/// The largest key file.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Keys at most.
const KEYS_MAX: usize = 10_000;

/// Why keys cannot be read or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The file cannot be read or written.
    #[error("the file of API keys cannot be read or written")]
    File(#[source] FileError),
    /// The file is not what was written.
    #[error("the file of API keys is damaged; restore it or remove it and make new keys")]
    Damaged,
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes")]
    Random,
    /// There are too many keys.
    #[error("there are {max} keys already; withdraw some")]
    TooMany {
        /// Keys allowed.
        max: usize,
    },
    /// A given value is short, endless or does not print.
    #[error(
        "a key's value has {min} to {max} printable ASCII characters and no space; give another one"
    )]
    Value {
        /// Characters at least.
        min: usize,
        /// Characters at most.
        max: usize,
    },
    /// A given value is a key's already.
    #[error("this value is a key's already; withdraw that key first, or give another value")]
    Taken,
    /// No key has that name.
    #[error("no key has that name; `cloister key list` shows them")]
    Unknown,
}

impl Coded for KeyError {
    fn class(&self) -> Class {
        match self {
            Self::File(_) | Self::Random => Class::Fault,
            Self::Damaged => Class::Corrupt,
            Self::TooMany { .. } | Self::Value { .. } | Self::Taken | Self::Unknown => {
                Class::Refused
            }
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::File(_) => "gateway.keys.file",
            Self::Damaged => "gateway.keys.damaged",
            Self::Random => "gateway.keys.random",
            Self::TooMany { .. } => "gateway.keys.too-many",
            Self::Value { .. } => "gateway.keys.value",
            Self::Taken => "gateway.keys.taken",
            Self::Unknown => "gateway.keys.unknown",
        }
    }
}

/// One key as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StoredKey {
    /// Public name.
    pub(crate) id: String,
    /// SHA-256 of the value. A drawn value has 256 random bits, so a plain hash is enough; whoever
    /// gives one answers for its being as hard to guess.
    pub(crate) sha256: Digest,
    /// Who uses it.
    pub(crate) principal: Principal,
    /// What its user may read.
    pub(crate) labels: LabelSet,
}

impl StoredKey {
    pub(crate) fn info(&self) -> KeyInfo {
        KeyInfo {
            id: self.id.clone(),
            principal: self.principal.clone(),
            labels: self.labels.iter().cloned().collect(),
        }
    }
}

/// A key that was made and is not valid yet.
#[derive(Debug)]
pub(crate) struct FreshKey {
    /// What will be kept.
    pub(crate) stored: StoredKey,
    /// What its user sends.
    pub(crate) value: Secret,
}

impl FreshKey {
    /// Draws a key for `principal`.
    pub(crate) fn draw(principal: Principal, labels: LabelSet) -> Result<Self, KeyError> {
        let id = random_hex::<4>()?;
        let value = format!("clk_{id}_{}", random_hex::<32>()?).into_bytes();
        Ok(Self::of(id, value, principal, labels))
    }

    /// A key for `principal` whose value somebody chose, of `min` characters at least.
    pub(crate) fn given(
        value: &Sensitive<String>,
        min: usize,
        principal: Principal,
        labels: LabelSet,
    ) -> Result<Self, KeyError> {
        let value = value.expose();
        if !is_key_value(value) || value.len() < min {
            return Err(KeyError::Value { min, max: KEY_CHARACTERS_MAX });
        }
        Ok(Self::of(random_hex::<4>()?, value.clone().into_bytes(), principal, labels))
    }

    fn of(id: String, value: Vec<u8>, principal: Principal, labels: LabelSet) -> Self {
        let sha256 = Digest::of(&value);
        Self { stored: StoredKey { id, sha256, principal, labels }, value: Secret::new(value) }
    }
}

/// `N` random bytes in hexadecimal.
fn random_hex<const N: usize>() -> Result<String, KeyError> {
    let mut random = [0u8; N];
    getrandom::fill(&mut random).map_err(|_cause| KeyError::Random)?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// All keys.
#[derive(Debug)]
pub(crate) struct Keys {
    path: PathBuf,
    all: RwLock<Vec<StoredKey>>,
}

impl Keys {
    /// Reads the keys kept in `folder`.
    pub(crate) fn open(folder: &Path) -> Result<Self, KeyError> {
        std::fs::create_dir_all(folder).map_err(|_cause| KeyError::Damaged)?;
        let path = folder.join("keys.json");
        let all = match files::read_limited(&path, FILE_BYTES_MAX) {
            Ok(text) => serde_json::from_slice(&text).map_err(|_quotes| KeyError::Damaged)?,
            Err(error) if error.is_not_found() => Vec::new(),
            Err(error) => return Err(KeyError::File(error)),
        };
        Ok(Self { path, all: RwLock::new(all) })
    }

    /// The key whose value was presented, if it is valid.
    pub(crate) fn find(&self, value: &[u8]) -> Option<StoredKey> {
        let hash = Digest::of(value);
        let all = self.all.read().expect("no holder of this lock panics");
        all.iter().find(|key| bool::from(key.sha256.as_bytes().ct_eq(hash.as_bytes()))).cloned()
    }

    /// Every key.
    pub(crate) fn list(&self) -> Vec<KeyInfo> {
        self.all
            .read()
            .expect("no holder of this lock panics")
            .iter()
            .map(StoredKey::info)
            .collect()
    }

    /// The key with this public name.
    pub(crate) fn named(&self, id: &str) -> Result<StoredKey, KeyError> {
        let all = self.all.read().expect("no holder of this lock panics");
        all.iter().find(|key| key.id == id).cloned().ok_or(KeyError::Unknown)
    }

    /// Whether there is room for one more.
    pub(crate) fn check_room(&self) -> Result<(), KeyError> {
        let all = self.all.read().expect("no holder of this lock panics");
        if all.len() < KEYS_MAX { Ok(()) } else { Err(KeyError::TooMany { max: KEYS_MAX }) }
    }

    /// Whether no other key has its name or its value.
    pub(crate) fn check_new(&self, key: &StoredKey) -> Result<(), KeyError> {
        let all = self.all.read().expect("no holder of this lock panics");
        let is_taken = all.iter().any(|held| held.id == key.id || held.sha256 == key.sha256);
        if is_taken { Err(KeyError::Taken) } else { Ok(()) }
    }

    /// Makes `key` valid; durable when this returns.
    pub(crate) fn add(&self, key: StoredKey) -> Result<(), KeyError> {
        self.change(|all| {
            if all.len() >= KEYS_MAX {
                return Err(KeyError::TooMany { max: KEYS_MAX });
            }
            all.push(key);
            Ok(())
        })
    }

    /// Withdraws a key; durable when this returns.
    pub(crate) fn remove(&self, id: &str) -> Result<(), KeyError> {
        self.change(|all| {
            let before = all.len();
            all.retain(|key| key.id != id);
            if all.len() == before { Err(KeyError::Unknown) } else { Ok(()) }
        })
    }

    /// Changes a copy, writes it, and only then takes it over.
    fn change(
        &self,
        how: impl FnOnce(&mut Vec<StoredKey>) -> Result<(), KeyError>,
    ) -> Result<(), KeyError> {
        let mut all = self.all.write().expect("no holder of this lock panics");
        let mut changed = all.clone();
        how(&mut changed)?;
        let text = serde_json::to_vec_pretty(&changed).expect("names and digests serialise");
        files::write_atomic(&self.path, &text, 0o600).map_err(KeyError::File)?;
        *all = changed;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> FreshKey {
        let labels = LabelSet::from(["open".parse().expect("a name")]);
        FreshKey::draw("ada".parse().expect("a name"), labels).expect("random bytes")
    }

    #[test]
    fn a_key_is_valid_from_its_adding_to_its_withdrawal_and_across_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let keys = Keys::open(folder.path()).expect("empty");
        let key = fresh();
        assert_eq!(keys.find(key.value.expose()), None);
        keys.add(key.stored.clone()).expect("room");
        let again = Keys::open(folder.path()).expect("as written");
        assert_eq!(again.find(key.value.expose()), Some(key.stored.clone()));
        assert_eq!(again.find(b"clk_"), None);
        again.remove(&key.stored.id).expect("there");
        assert!(matches!(again.remove(&key.stored.id), Err(KeyError::Unknown)));
        assert_eq!(Keys::open(folder.path()).expect("as written").list(), []);
    }

    #[test]
    fn a_given_value_is_valid_once_and_a_weak_one_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let keys = Keys::open(folder.path()).expect("empty");
        let given = |value: &str| {
            let value = Sensitive::new(value.to_owned());
            FreshKey::given(&value, 16, "ada".parse().expect("a name"), LabelSet::new())
        };
        let key = given("local-key-of-my-own").expect("long enough");
        assert!(keys.check_new(&key.stored).is_ok());
        keys.add(key.stored.clone()).expect("room");
        assert_eq!(keys.find(b"local-key-of-my-own"), Some(key.stored));
        let again = given("local-key-of-my-own").expect("long enough");
        assert!(matches!(keys.check_new(&again.stored), Err(KeyError::Taken)));
        assert!(matches!(given("short"), Err(KeyError::Value { .. })));
    }

    #[test]
    fn the_file_holds_no_key_value() {
        let folder = tempfile::tempdir().expect("a folder");
        let keys = Keys::open(folder.path()).expect("empty");
        let key = fresh();
        keys.add(key.stored).expect("room");
        let file = files::read_limited(&folder.path().join("keys.json"), 1 << 16).expect("written");
        let secret = key.value.expose().get(13..).expect("a long value").to_vec();
        assert!(!file.windows(secret.len()).any(|window| window == secret));
    }

    #[test]
    fn a_damaged_file_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("keys.json"), b"[{").expect("written");
        assert!(matches!(Keys::open(folder.path()), Err(KeyError::Damaged)));
    }
}
