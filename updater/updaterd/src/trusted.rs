//! Trust metadata that comes without a release: a stick that brings nothing but newer roots, a newer
//! list, or what the importer took back.

use cloister_bundle::{BundleError, container};
use cloister_domain::Digest;
use cloister_verify::{TrustState, VerifyError};
use cloister_wire::intake::Trusted;

use crate::{catch_up::catch_up, core::Core, error::ActError, parked};

/// Judges `meta` by what is held and keeps what is newer. A refusal leaves a record.
pub(crate) fn take(core: &Core, meta: &[u8]) -> Result<Trusted, ActError> {
    let _act = core.act();
    // What persons said before is judged by the roots of then.
    catch_up(core)?;
    let held = core.trust_of_turn()?;
    let newer = refreshed(&held, meta).map_err(|error| {
        core.record_refusal("trust-update", &[("metadata", Digest::of(meta))], error.into())
    })?;
    core.keep_trust(&newer)?;
    parked::end_revoked(core)?;
    trusted(core, &held, &newer, true)
}

/// Judges `meta` by `held` and keeps nothing; gives what would be trusted then.
pub(crate) fn suppose(
    core: &Core,
    held: &TrustState,
    meta: &[u8],
) -> Result<(Trusted, TrustState), ActError> {
    let newer = refreshed(held, meta)?;
    Ok((trusted(core, held, &newer, false)?, newer))
}

fn refreshed(held: &TrustState, meta: &[u8]) -> Result<TrustState, VerifyError> {
    if container::entries(meta)?.is_empty() {
        return Err(BundleError::Meta.into());
    }
    held.refresh(meta)
}

fn trusted(
    core: &Core,
    held: &TrustState,
    newer: &TrustState,
    kept: bool,
) -> Result<Trusted, ActError> {
    let mut revoked = Vec::new();
    for shelved in core.shelf.list()? {
        if newer.is_revoked(&shelved.manifest()?) {
            revoked.push(shelved.id());
        }
    }
    let vector = &newer.stored().vector;
    Ok(Trusted {
        newer: newer != held,
        kept,
        root_version: vector.root,
        targets_version: vector.targets,
        stick: vector.sequence,
        revoked,
    })
}
