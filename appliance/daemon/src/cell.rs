//! The strictest cage: that of a process which has all that it will ever have.
//!
//! It holds one file to read and one connection to answer on. From here on it opens nothing, makes no
//! socket, thread or process, changes no file, and ends by itself when its memory, its processor time
//! or its time is used up. Three fences of the kernel, none of which needs a privilege: Landlock
//! without a single rule, a short list of system calls, and limits.

use std::{collections::BTreeMap, io, os::fd::RawFd};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, Ruleset, RulesetAttr as _, RulesetError, RulesetStatus,
    Scope,
};
use nix::{libc, sys::resource::Resource, unistd::alarm};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

use crate::{StartError, cage::limit};

/// What Landlock is asked for: the version of Linux 6.12. An older kernel gives what it has.
const LANDLOCK: ABI = ABI::V6;

/// System calls of a process that reads a file, computes, answers and ends. `write`, `fcntl`, `mmap`
/// and `mprotect` have rules of their own below.
const CALLS: [i64; 24] = [
    libc::SYS_read,
    libc::SYS_pread64,
    libc::SYS_lseek,
    libc::SYS_close,
    // Memory.
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    // The answer; it can only go to sockets that are open.
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    // Locks of the standard library, and the seeds of its hash tables.
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    // The end, also of a process that panicked.
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_tgkill,
    libc::SYS_sched_yield,
];

/// What the process may use from now on.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    /// Address space, in bytes, program included.
    pub memory_bytes: u64,
    /// Processor seconds after which the kernel ends it.
    pub seconds: u32,
    /// Seconds by the clock after which it ends, for one that waits.
    pub clock_seconds: u32,
}

impl Cell {
    /// Shuts this process in; there is no way out. Writes only to `connection` and to standard error.
    /// Must be called while there is one thread. Gives how far the kernel knows Landlock.
    pub(crate) fn shut(self, connection: RawFd) -> Result<&'static str, StartError> {
        let failed = |source| StartError::System { act: "shut the process in", source };
        limit(Resource::RLIMIT_AS, self.memory_bytes)?;
        limit(Resource::RLIMIT_CPU, u64::from(self.seconds))?;
        limit(Resource::RLIMIT_NPROC, 0)?;
        let status = landlock().map_err(|error| failed(io::Error::other(error)))?;
        // Nobody catches the signal, so it ends the process; the list below has no call that stops it.
        alarm::set(self.clock_seconds);
        let filter = filter(connection).map_err(failed)?;
        seccompiler::apply_filter_all_threads(&filter)
            .map_err(|error| failed(io::Error::other(error)))?;
        Ok(match status {
            RulesetStatus::FullyEnforced => "full",
            RulesetStatus::PartiallyEnforced => "part",
            RulesetStatus::NotEnforced => "none",
        })
    }
}

fn landlock() -> Result<RulesetStatus, RulesetError> {
    let rules = Ruleset::default()
        .handle_access(AccessFs::from_all(LANDLOCK))?
        .handle_access(AccessNet::from_all(LANDLOCK))?
        .scope(Scope::Signal)?
        .scope(Scope::AbstractUnixSocket)?
        .create()?;
    Ok(rules.restrict_self()?.ruleset)
}

fn filter(connection: RawFd) -> io::Result<BpfProgram> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        CALLS.into_iter().map(|call| (call, Vec::new())).collect();
    let to = |descriptor: RawFd| {
        let number = u64::from(descriptor.unsigned_abs());
        rule(&[(0, SeccompCmpOp::Eq, number)])
    };
    rules.insert(libc::SYS_write, vec![to(connection)?, to(libc::STDERR_FILENO)?]);
    rules.insert(libc::SYS_writev, vec![to(libc::STDERR_FILENO)?]);
    // The standard library asks whether a descriptor is open before it closes it.
    let asked = u64::from(libc::F_GETFD.unsigned_abs());
    rules.insert(libc::SYS_fcntl, vec![rule(&[(1, SeccompCmpOp::Eq, asked)])?]);
    let bits = |flags: i32| u64::from(flags.unsigned_abs());
    let executable = bits(libc::PROT_EXEC);
    // Memory of its own only: no file is mapped, and nothing that was written is run.
    let anonymous = bits(libc::MAP_ANONYMOUS);
    rules.insert(
        libc::SYS_mmap,
        vec![rule(&[
            (2, SeccompCmpOp::MaskedEq(executable), 0),
            (3, SeccompCmpOp::MaskedEq(anonymous), anonymous),
        ])?],
    );
    rules.insert(libc::SYS_mprotect, vec![rule(&[(2, SeccompCmpOp::MaskedEq(executable), 0)])?]);
    let here = std::env::consts::ARCH.try_into().map_err(io::Error::other)?;
    SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, here)
        .and_then(TryInto::try_into)
        .map_err(io::Error::other)
}

/// A call whose arguments, by number, all compare as said.
fn rule(conditions: &[(u8, SeccompCmpOp, u64)]) -> io::Result<SeccompRule> {
    let conditions = conditions.iter().map(|(argument, operator, value)| {
        SeccompCondition::new(*argument, SeccompCmpArgLen::Qword, operator.clone(), *value)
    });
    let conditions = conditions.collect::<Result<_, _>>().map_err(io::Error::other)?;
    SeccompRule::new(conditions).map_err(io::Error::other)
}

#[cfg(test)]
mod tests;
