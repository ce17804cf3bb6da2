//! A root whose officers sign apart, each on a machine of their own.
//!
//! A draft is a root file that too few have signed. It is made once, carried to each officer, who sees
//! what it says, compares its digest aloud with the others and adds one signature, and carried back;
//! the signatures are joined and the root is written. No machine ever holds two officers' keys.

mod sheet;

use std::{collections::BTreeMap, fmt::Write as _, path::Path};

use anyhow::{Context as _, Result, bail, ensure};
use cloister_attest::{json, sign_checked};
use cloister_domain::Digest;
use cloister_signer::Opened;
use serde_json::{Value, json};

use crate::{error::MintError, files};
use sheet::{Key, Sheet};

pub(crate) use sheet::compared;

/// The largest root file that is read, in bytes.
const ROOT_BYTES_MAX: u64 = 1 << 20;
/// Words of a digest that people compare: 16 bytes.
const WORDS: usize = 16;

/// A root with the signatures that it has so far. It says nothing that [`Draft::describe`] does not
/// show.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    signed: Value,
    sheet: Sheet,
    /// By key id, as lower-case hexadecimal digits.
    signatures: BTreeMap<String, String>,
}

impl Draft {
    /// A root that nobody signed yet.
    ///
    /// # Errors
    /// When it says something that could not be shown, or contradicts itself.
    pub fn new(signed: Value) -> Result<Self> {
        Ok(Self { sheet: Sheet::of(&signed)?, signed, signatures: BTreeMap::new() })
    }

    /// Reads a draft, or a finished root.
    ///
    /// # Errors
    /// When it cannot be read, is no root, or says something that could not be shown.
    pub fn read(path: &Path) -> Result<Self> {
        let text = files::read_limited(path, ROOT_BYTES_MAX)?;
        Self::parse(&text).with_context(|| format!("{} is no root", path.display()))
    }

    pub(crate) fn parse(text: &[u8]) -> Result<Self> {
        let mut file = json::parse_strict(text, json::DEPTH_MAX)?;
        let mut signatures = BTreeMap::new();
        for signature in list(&file["signatures"])? {
            let text = |field: &str| signature[field].as_str().map(str::to_owned);
            let (Some(keyid), Some(sig)) = (text("keyid"), text("sig")) else {
                bail!(MintError::RootForm { what: "a signature has no keyid or sig" });
            };
            let twice = signatures.insert(keyid, sig).is_some();
            ensure!(!twice, MintError::RootForm { what: "a key has signed twice" });
        }
        Ok(Self { signatures, ..Self::new(file["signed"].take())? })
    }

    /// The file's text.
    ///
    /// # Errors
    /// When a number is too large for JSON.
    pub fn text(&self) -> Result<Vec<u8>> {
        let signatures: Vec<Value> = self
            .signatures
            .iter()
            .map(|(keyid, sig)| json!({"keyid": keyid, "sig": sig}))
            .collect();
        Ok(json::canonical(&json!({"signatures": signatures, "signed": self.signed}))?)
    }

    /// The digest of what is signed: the same before and after every signature.
    ///
    /// # Errors
    /// When a number is too large for JSON.
    pub fn digest(&self) -> Result<Digest> {
        Ok(Digest::of(&json::canonical_tuf(&self.signed)?))
    }

    /// The version that the root will have.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.sheet.version
    }

    /// Adds the signature of an officer of this root, or of `previous`, which it replaces.
    ///
    /// # Errors
    /// When the key is no officer's, or does not sign.
    pub fn sign(&mut self, officer: &Opened, previous: Option<&Self>) -> Result<()> {
        let id = officer.signer.public().key_id();
        let of_previous = previous.is_some_and(|root| root.sheet.is_officer(&id));
        let is_officer = self.sheet.is_officer(&id) || of_previous;
        ensure!(is_officer, MintError::RootOfficer { person: officer.person.to_string() });
        let signature = sign_checked(&officer.signer, &json::canonical_tuf(&self.signed)?)?;
        let hex = signature.iter().map(|byte| format!("{byte:02x}")).collect();
        self.signatures.insert(id, hex);
        Ok(())
    }

    /// Joins the signatures that officers added to copies of one draft.
    ///
    /// # Errors
    /// When there are none, or one is a copy of another draft.
    pub fn join(copies: impl IntoIterator<Item = Self>) -> Result<Self> {
        let mut copies = copies.into_iter();
        let mut whole =
            copies.next().ok_or(MintError::Usage { what: "no signed draft was given" })?;
        for copy in copies {
            ensure!(copy.signed == whole.signed, MintError::RootDrafts);
            whole.signatures.extend(copy.signatures);
        }
        Ok(whole)
    }

    /// What the root says, all of it, for people: who holds which role by which key, and the digest.
    ///
    /// # Errors
    /// When a number is too large for JSON.
    pub fn describe(&self) -> Result<String> {
        let mut text = String::new();
        self.sheet.describe(&mut text)?;
        let digest = self.digest()?;
        writeln!(text, "digest      {digest}")?;
        writeln!(text, "in words    {}", digest.words(WORDS))?;
        Ok(text)
    }

    /// Which signatures are good, for people; `previous` is the root that this one replaces. Those of
    /// keys that no appliance counts are named and passed over.
    ///
    /// # Errors
    /// When one is not, or is of a key that is no officer's.
    pub fn check(&self, previous: Option<&Self>) -> Result<String> {
        let message = json::canonical_tuf(&self.signed)?;
        let mut text = String::new();
        for (id, sig) in &self.signatures {
            let mut roots = [Some(self), previous].into_iter().flatten().map(|root| &root.sheet);
            let root = roots.find(|root| root.is_officer(id));
            let root = root.ok_or(MintError::RootSigner)?;
            let key = root.key(id).ok_or(MintError::RootRole)?;
            let Key::Counted(key) = key else {
                writeln!(text, "not counted {}", root.named(id))?;
                continue;
            };
            let bytes = unhex(sig)
                .ok_or(MintError::RootForm { what: "a signature is no hexadecimal digits" })?;
            key.verify(&message, &bytes)
                .with_context(|| format!("the signature of {} is not good", root.named(id)))?;
            writeln!(text, "signed by   {}", root.named(id))?;
        }
        Ok(text)
    }
}

fn list(signatures: &Value) -> Result<&[Value]> {
    let list = signatures.as_array().map(Vec::as_slice);
    Ok(list.ok_or(MintError::RootForm { what: "it has no signatures" })?)
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}
