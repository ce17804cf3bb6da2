//! What the importer took back: `x-cloister.revoked` of the targets.
//!
//! ```json
//! {"bundles": ["ab12…"], "keys": {"<key id>": {"keytype": "ed25519", …}}, "releases": {"demo": 4}}
//! ```
//!
//! `releases` gives the least release counter that is left valid under a name.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use cloister_attest::{dsse::Envelope, json};
use cloister_bundle::Manifest;
use cloister_domain::{Digest, GenerationId};
use serde_json::Value;

use crate::{
    VerifyError,
    tuf::{Algorithms, KEYS_MAX, Strict, Verifies},
};

/// Releases that one list may revoke.
const BUNDLES_MAX: usize = 4096;

/// The importer's list of what is no longer valid.
#[derive(Clone, Debug, Default)]
pub(crate) struct Revoked {
    bundles: BTreeSet<GenerationId>,
    releases: BTreeMap<String, u64>,
    keys: Vec<Arc<dyn Verifies>>,
}

impl Revoked {
    /// Reads the list; `None` if it is malformed, or names a kind of entry that is not known here
    /// and that somebody relies on.
    pub(crate) fn parse(value: &Value, algorithms: &dyn Algorithms) -> Option<Self> {
        let mut revoked = Self::default();
        for (kind, entries) in value.as_object()? {
            match kind.as_str() {
                "bundles" => {
                    let list = entries.as_array().filter(|list| list.len() <= BUNDLES_MAX)?;
                    let bundles = list.iter().map(|id| id.as_str()?.parse().ok().map(GenerationId));
                    revoked.bundles = bundles.collect::<Option<_>>()?;
                }
                "releases" => {
                    let list = entries.as_object().filter(|list| list.len() <= BUNDLES_MAX)?;
                    let least =
                        list.iter().map(|(name, least)| Some((name.clone(), least.as_u64()?)));
                    revoked.releases = least.collect::<Option<_>>()?;
                }
                "keys" => {
                    let list = entries.as_object().filter(|list| list.len() <= KEYS_MAX)?;
                    for object in list.values() {
                        revoked.keys.extend(algorithms.key(object).ok()?);
                    }
                }
                _ => return None,
            }
        }
        Some(revoked)
    }

    /// Reads a list that was kept as text.
    pub(crate) fn of_text(text: &[u8]) -> Option<Self> {
        let value = json::parse_strict(text, json::DEPTH_MAX).ok()?;
        Self::parse(&value, &Strict)
    }

    /// Refuses a release that is named, or older than what was left valid.
    pub(crate) fn check(&self, manifest: &Manifest) -> Result<(), VerifyError> {
        let release = manifest.release();
        let least = self.releases.get(&release.name).copied().unwrap_or(0);
        if self.bundles.contains(&manifest.generation()) || release.release_counter < least {
            return Err(VerifyError::Revoked);
        }
        Ok(())
    }

    /// The revoked keys, each by its content.
    pub(crate) fn keys(&self) -> BTreeSet<Digest> {
        self.keys.iter().map(|key| key.identity()).collect()
    }

    /// Whether a revoked key signed `envelope`.
    pub(crate) fn signed(&self, envelope: &Envelope) -> bool {
        let message = envelope.pae();
        let good = |key: &Arc<dyn Verifies>| {
            envelope.signatures.iter().any(|one| key.verifies(&message, &one.sig))
        };
        self.keys.iter().any(good)
    }
}
