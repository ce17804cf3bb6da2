//! The cage of a daemon that reads what strangers wrote: what it gives up for good before the first
//! foreign byte, so that a flaw in a parser has nothing to reach for.
//!
//! Two fences of the kernel, neither of which needs a privilege. Landlock (landlock(7)): nothing is
//! written outside the daemon's own folders, nothing is executed, no TCP port is bound or connected
//! to, no process outside is signalled. Seccomp (seccomp(2)): system calls that the daemon has no use
//! for end the process. The unit files fence the same things from outside; the cage holds wherever
//! the daemon runs, in tests too.

use std::{collections::BTreeMap, fs, io, path::PathBuf};

use cloister_config::{Config, Role};
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, PathBeneath, PathFd, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope,
};
use nix::{
    libc,
    sys::resource::{Resource, getrlimit, setrlimit},
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

use crate::StartError;

/// What Landlock is asked for: the version of Linux 6.12. An older kernel gives what it has.
const LANDLOCK: ABI = ABI::V6;

/// Files, folders and sockets that one process may have open.
const DESCRIPTORS_MAX: u64 = 4096;

/// System calls of a daemon that takes connections on a Unix socket and reads and writes files.
const CALLS: [i64; 99] = [
    // Reading and writing, of files and connections.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_close_range,
    // Finding and describing files.
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_access,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlink,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_fadvise64,
    // Making files, making them last, and taking them away: quarantine.
    libc::SYS_mkdir,
    libc::SYS_mkdirat,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    libc::SYS_rmdir,
    libc::SYS_chmod,
    libc::SYS_fchmod,
    libc::SYS_flock,
    libc::SYS_umask,
    // Descriptors.
    libc::SYS_fcntl,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_pipe2,
    libc::SYS_eventfd2,
    libc::SYS_poll,
    libc::SYS_ppoll,
    // A terminal's size and kind; a device's are Landlock's to refuse.
    libc::SYS_ioctl,
    // A long line of the journal travels as a sealed file in memory.
    libc::SYS_memfd_create,
    // Connections; `socket` has a rule of its own below.
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_shutdown,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    // Memory and threads.
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_prctl,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // Signals, and the end of a process that panicked.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sigaltstack,
    libc::SYS_tgkill,
    libc::SYS_restart_syscall,
    // Time, users, chance.
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getrandom,
    libc::SYS_prlimit64,
];

/// What a daemon keeps.
#[derive(Clone, Debug)]
pub(crate) struct Cage {
    /// Folders below which it writes.
    writes: Vec<PathBuf>,
    /// The largest address space, in bytes.
    memory_bytes: u64,
}

impl Cage {
    /// The cage of `role`, for those daemons that have one.
    pub(crate) fn of(role: Role, config: &Config) -> Option<Self> {
        let paths = &config.paths;
        match role {
            Role::Intaked => Some(Self {
                writes: vec![paths.quarantine(), paths.runtime.clone()],
                // The largest index is 256 MiB, once as bytes and once as a table, and threads have
                // address space that they do not use.
                memory_bytes: 4 << 30,
            }),
            // That of inspectd is stricter, and is shut when it has its question.
            Role::Inspectd
            | Role::Scand
            | Role::Recordd
            | Role::Updaterd
            | Role::Engined
            | Role::Corpusd
            | Role::Gatewayd => None,
        }
    }

    /// Shuts this process in; there is no way out. Must be called before threads are started. Gives
    /// how far the kernel knows Landlock; without it seccomp and the unit's own fences remain.
    pub(crate) fn enter(&self) -> Result<&'static str, StartError> {
        let failed = |source| StartError::System { act: "shut the process in", source };
        for folder in &self.writes {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        limit(Resource::RLIMIT_AS, self.memory_bytes)?;
        limit(Resource::RLIMIT_NOFILE, DESCRIPTORS_MAX)?;
        let status = self.landlock().map_err(|error| failed(io::Error::other(error)))?;
        seccompiler::apply_filter_all_threads(&filter().map_err(failed)?)
            .map_err(|error| failed(io::Error::other(error)))?;
        Ok(match status {
            RulesetStatus::FullyEnforced => "full",
            RulesetStatus::PartiallyEnforced => "part",
            RulesetStatus::NotEnforced => "none",
        })
    }

    fn landlock(&self) -> Result<RulesetStatus, RulesetError> {
        let writing = AccessFs::from_write(LANDLOCK);
        let mut rules = Ruleset::default()
            .handle_access(writing | AccessFs::Execute)?
            .handle_access(AccessNet::from_all(LANDLOCK))?
            .scope(Scope::Signal)?
            .create()?;
        for folder in &self.writes {
            // It was made above; a folder that is gone again is one that nothing is written to.
            if let Ok(folder) = PathFd::new(folder) {
                rules = rules.add_rule(PathBeneath::new(folder, writing))?;
            }
        }
        Ok(rules.restrict_self()?.ruleset)
    }
}

/// Lowers a limit to `most`; one that is lower already stays.
pub(crate) fn limit(resource: Resource, most: u64) -> Result<(), StartError> {
    let failed = StartError::system("limit the process");
    let set = getrlimit(resource)
        .and_then(|(soft, hard)| setrlimit(resource, soft.min(most), hard.min(most)));
    set.map_err(failed)
}

fn filter() -> io::Result<BpfProgram> {
    let domain = libc::AF_UNIX.unsigned_abs().into();
    let unix = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, domain);
    let unix = unix.and_then(|unix| SeccompRule::new(vec![unix])).map_err(io::Error::other)?;
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        CALLS.into_iter().map(|call| (call, Vec::new())).collect();
    rules.insert(libc::SYS_socket, vec![unix]);
    let here = std::env::consts::ARCH.try_into().map_err(io::Error::other)?;
    SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, here)
        .and_then(TryInto::try_into)
        .map_err(io::Error::other)
}

#[cfg(test)]
mod tests;
