//! The cage of a process that starts a foreign scanner: wider than a cell, since nobody here knows what
//! the scanner needs. It writes nothing but temporary files, connects to no TCP port, signals nobody
//! outside, and has a bound on memory and processor time. The unit fences the rest.

use std::{io, path::Path};

use cloister_domain::ByteCount;
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, PathBeneath, PathFd, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope,
};
use nix::sys::resource::Resource;

use crate::{StartError, cage::limit};

/// What Landlock is asked for: the version of Linux 6.12. An older kernel gives what it has.
const LANDLOCK: ABI = ABI::V6;

/// Shuts this process, and what it starts, in.
pub(crate) fn shut(memory_bytes: ByteCount, seconds: u32) -> Result<&'static str, StartError> {
    limit(Resource::RLIMIT_AS, memory_bytes.0)?;
    limit(Resource::RLIMIT_CPU, u64::from(seconds))?;
    let failed =
        |error| StartError::System { act: "shut the scanner in", source: io::Error::other(error) };
    Ok(match landlock().map_err(failed)? {
        RulesetStatus::FullyEnforced => "full",
        RulesetStatus::PartiallyEnforced => "part",
        RulesetStatus::NotEnforced => "none",
    })
}

fn landlock() -> Result<RulesetStatus, RulesetError> {
    let writing = AccessFs::from_write(LANDLOCK);
    let mut rules = Ruleset::default()
        .handle_access(writing)?
        .handle_access(AccessNet::from_all(LANDLOCK))?
        .scope(Scope::Signal)?
        .create()?;
    if let Ok(folder) = PathFd::new(std::env::temp_dir()) {
        rules = rules.add_rule(PathBeneath::new(folder, writing))?;
    }
    if let Ok(null) = PathFd::new(Path::new("/dev/null")) {
        rules = rules.add_rule(PathBeneath::new(null, AccessFs::WriteFile))?;
    }
    Ok(rules.restrict_self()?.ruleset)
}
