//! Trust metadata that comes without a release: a stick that brings nothing but newer roots, a newer
//! list, or what the importer took back.

use cloister_domain::Digest;
use cloister_wire::intake::Trusted;

use crate::{core::Core, error::ActError, parked};

/// Judges `meta` and, with `keep`, keeps what is newer. A refusal leaves a record.
pub(crate) fn judge(core: &Core, meta: &[u8], keep: bool) -> Result<Trusted, ActError> {
    let _act = core.act();
    let held = core.trust()?;
    let newer = match held.refresh(meta) {
        Ok(newer) => newer,
        Err(error) if keep => {
            let subject = [("metadata", Digest::of(meta))];
            return Err(core.record_refusal("trust-update", &subject, error.into()));
        }
        Err(error) => return Err(error.into()),
    };
    if keep {
        core.keep_trust(&newer)?;
        parked::end_revoked(core)?;
    }
    let mut revoked = Vec::new();
    for shelved in core.shelf.list()? {
        if newer.is_revoked(&shelved.manifest()?) {
            revoked.push(shelved.id());
        }
    }
    let vector = &newer.stored().vector;
    Ok(Trusted {
        newer: newer != held,
        kept: keep,
        root_version: vector.root,
        targets_version: vector.targets,
        stick: vector.sequence,
        revoked,
    })
}
