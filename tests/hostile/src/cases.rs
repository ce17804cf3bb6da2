//! Damage with a name, class by class.

pub mod container;
pub mod frames;
pub mod index;
pub mod manifest;
pub mod members;
pub mod metadata;

use std::collections::BTreeSet;

use anyhow::Result;

use crate::{Base, base::digest_of};

/// One damaged volume.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// Class and value: `container/size/clb-40-index/one-more`.
    pub name: &'a str,
    /// The volume.
    pub bytes: &'a [u8],
    /// The codes that it may be refused with; one that ends in a dot stands for all below it.
    pub codes: &'a [&'a str],
}

impl Case<'_> {
    /// Whether a refusal with `code` is the right one.
    #[must_use]
    pub fn allows(&self, code: &str) -> bool {
        self.codes.iter().any(|allowed| {
            if allowed.ends_with('.') { code.starts_with(allowed) } else { code == *allowed }
        })
    }
}

/// Takes the cases one by one, so that never more than one is in memory. A volume that came before,
/// or that is not damaged, is left out.
pub struct Sink<'a> {
    base: &'a [u8],
    seen: BTreeSet<cloister_domain::Digest>,
    names: BTreeSet<String>,
    take: &'a mut dyn FnMut(Case<'_>),
}

impl std::fmt::Debug for Sink<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sink").field("cases", &self.seen.len()).finish_non_exhaustive()
    }
}

impl<'a> Sink<'a> {
    fn new(base: &'a Base, take: &'a mut dyn FnMut(Case<'_>)) -> Self {
        Self { base: &base.bytes, seen: BTreeSet::new(), names: BTreeSet::new(), take }
    }

    /// Offers one case.
    ///
    /// # Panics
    /// If two different volumes have one name.
    pub fn give(&mut self, name: &str, bytes: &[u8], codes: &[&str]) {
        if bytes == self.base || !self.seen.insert(digest_of(&[bytes])) {
            return;
        }
        assert!(self.names.insert(name.to_owned()), "two cases are called {name}");
        (self.take)(Case { name, bytes, codes });
    }
}

/// Every case of every class, in a fixed order.
pub fn all(base: &Base, take: &mut dyn FnMut(Case<'_>)) -> Result<()> {
    let sink = &mut Sink::new(base, take);
    container::cases(base, sink)?;
    members::cases(base, sink)?;
    metadata::cases(base, sink)?;
    manifest::cases(base, sink)?;
    index::cases(base, sink)?;
    frames::cases(base, sink)
}

/// The cases in which whole members are out of place or of other kinds.
pub fn of_members(base: &Base, take: &mut dyn FnMut(Case<'_>)) -> Result<()> {
    members::cases(base, &mut Sink::new(base, take))
}

/// A member's name as part of a case's.
fn label(member: &str) -> String {
    let short: String = member.chars().take(22).collect();
    short.replace('/', "-")
}
