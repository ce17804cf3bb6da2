//! Keys, who holds them, and how many persons must speak for a role.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use cloister_attest::{Algorithm, AnyKey, AttestError, Speaker, dsse::Envelope, json};
use cloister_domain::{Digest, Principal};
use serde_json::Value;

use crate::{RoleName, VerifyError};

/// Keys that one file may name.
pub(crate) const KEYS_MAX: usize = 256;
/// The longest key id, in bytes. Ids are opaque (TAP 12).
pub(crate) const KEY_ID_BYTES_MAX: usize = 256;

/// Something that signatures can be checked with.
pub trait Verifies: fmt::Debug + Send + Sync {
    /// What a role that demands an algorithm calls this one's.
    fn algorithm(&self) -> &'static str;

    /// Whether `signature` is this key's on `message`.
    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool;

    /// What tells this key from every other one, however its object is written: SHA-256 of its bytes.
    fn identity(&self) -> Digest;

    /// The key itself, if it is of a kind that an appliance accepts.
    fn known(&self) -> Option<AnyKey> {
        None
    }
}

impl Verifies for AnyKey {
    fn algorithm(&self) -> &'static str {
        Self::algorithm(self).word()
    }

    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.verify(message, signature).is_ok()
    }

    fn identity(&self) -> Digest {
        Digest::of(self.to_hex().as_bytes())
    }

    fn known(&self) -> Option<AnyKey> {
        Some(self.clone())
    }
}

/// Which kinds of keys count.
pub trait Algorithms: fmt::Debug + Send + Sync {
    /// Reads a TUF key object (section 4.2); `None` for a kind that does not count.
    ///
    /// # Errors
    /// [`AttestError`] for a key of a kind that counts and is malformed or weak.
    fn key(&self, object: &Value) -> Result<Option<Arc<dyn Verifies>>, AttestError>;
}

/// What an appliance accepts: Ed25519 and ML-DSA, checked before they are used.
#[derive(Clone, Copy, Debug)]
pub struct Strict;

impl Algorithms for Strict {
    fn key(&self, object: &Value) -> Result<Option<Arc<dyn Verifies>>, AttestError> {
        match AnyKey::from_object(object) {
            Ok(key) => Ok(Some(Arc::new(key))),
            Err(AttestError::KeyScheme) if object.get("keytype").is_some_and(Value::is_string) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// A key in somebody's hand.
#[derive(Clone, Debug)]
pub(crate) struct Holder {
    /// The key.
    key: Arc<dyn Verifies>,
    /// See [`Verifies::identity`].
    identity: Digest,
    /// What DSSE signers call it: SHA-256 of its object.
    computed_id: String,
    /// The person who holds it.
    pub(crate) person: Principal,
}

impl PartialEq for Holder {
    fn eq(&self, other: &Self) -> bool {
        (self.identity, &self.person) == (other.identity, &other.person)
    }
}

impl Eq for Holder {}

/// The usable keys of a file, by key id. Keys of kinds that do not count are passed over.
pub(crate) type Keys = BTreeMap<String, Holder>;

/// Who holds which key. A key that is known by its content is not somebody else's under another id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Persons {
    by_content: BTreeMap<Digest, Principal>,
    by_id: BTreeMap<String, Principal>,
}

impl Persons {
    /// What a file says of its own keys.
    pub(crate) const fn named(by_id: BTreeMap<String, Principal>) -> Self {
        Self { by_content: BTreeMap::new(), by_id }
    }

    /// What a file that named `keys` says of the keys of others: those that it holds itself are known by
    /// their content, and their ids stand for no other key.
    pub(crate) fn of_others(mut self, keys: &Keys) -> Self {
        self.by_id.retain(|keyid, _| !keys.contains_key(keyid));
        let known = keys.values().map(|holder| (holder.identity, holder.person.clone()));
        self.by_content.extend(known);
        self
    }

    /// Adds what somebody else says, whose word counts where nothing was said before.
    pub(crate) fn or(mut self, others: BTreeMap<String, Principal>) -> Self {
        for (keyid, person) in others {
            self.by_id.entry(keyid).or_insert(person);
        }
        self
    }

    fn holder(&self, identity: Digest, ids: [&str; 2]) -> Option<&Principal> {
        let by_id = || ids.into_iter().find_map(|keyid| self.by_id.get(keyid));
        self.by_content.get(&identity).or_else(by_id)
    }
}

/// Reads a `keys` object; `persons` says who holds which, a key without an entry is its own person.
pub(crate) fn keys(
    value: &Value,
    persons: &Persons,
    algorithms: &dyn Algorithms,
    wrong: VerifyError,
) -> Result<Keys, VerifyError> {
    let objects = value.as_object().filter(|keys| keys.len() <= KEYS_MAX).ok_or(wrong)?;
    let mut holders = Keys::new();
    let mut seen = BTreeSet::new();
    for (keyid, object) in objects {
        if keyid.len() > KEY_ID_BYTES_MAX {
            return Err(wrong);
        }
        let Some(key) = algorithms.key(object).map_err(|_cause| wrong)? else { continue };
        let identity = key.identity();
        // One key under two ids could be counted as two.
        if !seen.insert(identity) {
            return Err(wrong);
        }
        let computed_id = json::canonical_tuf(object).map_err(|_cause| wrong)?;
        let computed_id = Digest::of(&computed_id).to_string();
        let itself = || computed_id.parse().map_err(|_cause| wrong);
        let person = persons.holder(identity, [keyid, &computed_id]).cloned();
        let person = person.map_or_else(itself, Ok)?;
        holders.insert(keyid.clone(), Holder { key, identity, computed_id, person });
    }
    Ok(holders)
}

/// Who may speak for a role. The keys of which each person must sign with one are all that the person
/// holds where the role demands no algorithm, else a set for each algorithm.
pub type Speakers = BTreeMap<Principal, Speaker>;

/// Who may speak for a role, and how many persons must.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Authority {
    holders: Keys,
    threshold: u64,
    /// Algorithms of which each person must bring a signature; any one will do if there are none.
    demanded: BTreeSet<String>,
}

impl Authority {
    /// Reads `keyids`, `threshold` and, where they are, `x-algorithms`.
    pub(crate) fn parse(value: &Value, keys: &Keys, role: RoleName) -> Result<Self, VerifyError> {
        let wrong = |field| VerifyError::Field { role, field };
        let threshold = value.get("threshold").and_then(Value::as_u64).ok_or(wrong("threshold"))?;
        if threshold == 0 {
            return Err(VerifyError::Impossible { role, threshold, persons: 0 });
        }
        let names = |field: &'static str, value: &Value| -> Result<BTreeSet<String>, VerifyError> {
            let list = value.as_array().filter(|list| list.len() <= KEYS_MAX);
            let list = list.ok_or(wrong(field))?;
            let names: Option<BTreeSet<String>> =
                list.iter().map(|name| name.as_str().map(str::to_owned)).collect();
            // A name that stands twice counts once, so whoever wrote it meant something else.
            names.filter(|names| names.len() == list.len()).ok_or(wrong(field))
        };
        let keyids = names("keyids", value.get("keyids").ok_or(wrong("keyids"))?)?;
        let demanded = match value.get("x-algorithms") {
            None => BTreeSet::new(),
            Some(list) => {
                // An empty list demands nothing, and a word that is not known what nobody can bring.
                let known = |word: &String| Algorithm::of_word(word).is_some();
                let words = names("x-algorithms", list)?;
                if words.is_empty() || !words.iter().all(known) {
                    return Err(wrong("x-algorithms"));
                }
                words
            }
        };
        let holders = keyids
            .into_iter()
            .filter_map(|keyid| keys.get(&keyid).cloned().map(|holder| (keyid, holder)))
            .collect();
        Ok(Self { holders, threshold, demanded })
    }

    /// The same role, which demands this algorithm if it demands none.
    pub(crate) fn or_demanding(mut self, algorithm: Algorithm) -> Self {
        if self.demanded.is_empty() {
            self.demanded.insert(algorithm.word().to_owned());
        }
        self
    }

    /// Refuses a threshold that no number of persons can meet.
    pub(crate) fn possible(&self, role: RoleName) -> Result<(), VerifyError> {
        let all = self.holders.values().collect();
        let persons = u64::try_from(self.complete(&all).len()).unwrap_or(u64::MAX);
        if self.threshold > persons {
            return Err(VerifyError::Impossible { role, threshold: self.threshold, persons });
        }
        Ok(())
    }

    /// The persons who hold at least one of `keys` of each algorithm that is demanded.
    fn complete<'a>(&self, keys: &Vec<&'a Holder>) -> BTreeSet<&'a Principal> {
        let mut brought: BTreeMap<&Principal, BTreeSet<&str>> = BTreeMap::new();
        for holder in keys {
            brought.entry(&holder.person).or_default().insert(holder.key.algorithm());
        }
        let whole = |algorithms: &BTreeSet<&str>| {
            self.demanded.iter().all(|demanded| algorithms.contains(demanded.as_str()))
        };
        brought
            .into_iter()
            .filter_map(|(person, algorithms)| whole(&algorithms).then_some(person))
            .collect()
    }

    /// The persons whose good signatures, made under these key ids on `message`, are enough.
    pub(crate) fn signed<'a>(
        &self,
        message: &[u8],
        signatures: impl Iterator<Item = (&'a str, &'a [u8])>,
        role: RoleName,
    ) -> Result<BTreeSet<Principal>, VerifyError> {
        let mut known = false;
        let mut good = Vec::new();
        for (keyid, signature) in signatures {
            for (own_id, holder) in &self.holders {
                // An empty id names no key, as DSSE allows: every key is tried.
                if keyid.is_empty() || keyid == own_id || keyid == holder.computed_id {
                    known = true;
                    if holder.key.verifies(message, signature) {
                        good.push(holder);
                    }
                }
            }
        }
        let persons = self.complete(&good);
        let count = u64::try_from(persons.len()).unwrap_or(u64::MAX);
        let needed = self.threshold;
        match (known, count >= needed) {
            (_, true) => Ok(persons.into_iter().cloned().collect()),
            (true, false) => Err(VerifyError::Threshold { role, good: count, needed }),
            (false, false) => Err(VerifyError::UnknownSigner { role }),
        }
    }

    /// The persons of this role with a good signature on `envelope`, if they are enough.
    pub(crate) fn signers(
        &self,
        envelope: &Envelope,
        role: RoleName,
    ) -> Result<BTreeSet<Principal>, VerifyError> {
        let signatures = envelope.signatures.iter();
        let signatures = signatures.map(|one| (one.keyid.as_str(), one.sig.as_slice()));
        self.signed(&envelope.pae(), signatures, role)
    }

    /// What DSSE signers call the keys of `person`: the SHA-256 of each one's object.
    pub(crate) fn key_ids(&self, person: &Principal) -> BTreeSet<String> {
        let own = self.holders.values().filter(|holder| holder.person == *person);
        own.filter_map(|holder| Some(holder.key.known()?.key_id())).collect()
    }

    /// Who may speak, each with the sets of keys, one of each of which must sign.
    pub(crate) fn speakers(&self) -> Speakers {
        let mut words: Vec<Option<&str>> = self.demanded.iter().map(|word| Some(&**word)).collect();
        if words.is_empty() {
            words.push(None);
        }
        let mut speakers = Speakers::new();
        for holder in self.holders.values() {
            let Some(key) = holder.key.known() else { continue };
            let own = speakers.entry(holder.person.clone()).or_default();
            own.demanded.resize(words.len(), Vec::new());
            for (set, word) in own.demanded.iter_mut().zip(&words) {
                if word.is_none_or(|word| word == holder.key.algorithm()) {
                    set.push(key.clone());
                }
            }
            own.keys.insert(key);
        }
        speakers
    }

    /// The keys, each by its content.
    pub(crate) fn keys(&self) -> BTreeSet<Digest> {
        self.holders.values().map(|holder| holder.identity).collect()
    }

    /// Refuses two roles that one key or one person could fill alone.
    pub(crate) fn apart_from(&self, other: &Self) -> Result<(), VerifyError> {
        let persons = |authority: &Self| -> BTreeSet<Principal> {
            authority.holders.values().map(|holder| holder.person.clone()).collect()
        };
        if !self.keys().is_disjoint(&other.keys()) {
            return Err(VerifyError::SharedKey);
        }
        if !persons(self).is_disjoint(&persons(other)) {
            return Err(VerifyError::SharedPerson);
        }
        Ok(())
    }

    /// How many persons must speak.
    pub(crate) const fn threshold(&self) -> u64 {
        self.threshold
    }

    /// The same role, of which any one person may speak.
    pub(crate) fn any_one(&self) -> Self {
        Self { threshold: 1, ..self.clone() }
    }

    /// The keys of this role whose signatures on `envelope` are good, by their ids, with who holds them; and how
    /// many persons must sign.
    pub(crate) fn good_keys(&self, envelope: &Envelope) -> (Vec<(String, Principal)>, u64) {
        let message = envelope.pae();
        let signed = |holder: &Holder| {
            let good = |sig: &[u8]| holder.key.verifies(&message, sig);
            envelope.signatures.iter().any(|signature| good(&signature.sig))
        };
        let good = self.holders.iter().filter(|(_, holder)| signed(holder));
        (good.map(|(id, holder)| (id.clone(), holder.person.clone())).collect(), self.threshold)
    }

    /// The same role without the keys in `revoked`.
    pub(crate) fn without(&self, revoked: &BTreeSet<Digest>) -> Self {
        let mut rest = self.clone();
        rest.holders.retain(|_, holder| !revoked.contains(&holder.identity));
        rest
    }
}
