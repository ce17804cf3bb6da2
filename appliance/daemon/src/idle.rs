//! The weight of work that nobody waits for: it runs when nothing else wants the processor or the
//! disk.
#![expect(unsafe_code, reason = "no safe wrapper of sched_setscheduler is at hand")]

use std::{io, thread};

use nix::libc;

/// Gives this thread, and all that it starts from now on, the policy SCHED_IDLE (sched(7)). Its reads
/// and writes are of the idle class then too, since none was set (ioprio_set(2)).
///
/// A service manager that forbids the call has set its own weights.
pub(crate) fn enter() -> io::Result<()> {
    let none = libc::sched_param { sched_priority: 0 };
    // SAFETY: 0 is this thread, SCHED_IDLE takes priority 0, and `none` lives through the call.
    let done = unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const none) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Does `work` at idle weight and waits for it. In a thread of its own, since a thread cannot take its
/// weight back; so `work` takes no lock for which others wait.
pub fn at_idle_weight<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let work = || {
        let idle = enter().is_ok();
        tracing::debug!(idle, "weight");
        work()
    };
    thread::scope(|scope| scope.spawn(work).join().expect("a panic ends the process"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> i32 {
        // SAFETY: 0 is this thread, and nothing is written.
        unsafe { libc::sched_getscheduler(0) }
    }

    /// What the kernel schedules a thread by that `work` starts.
    fn policy_of_a_thread() -> i32 {
        thread::scope(|scope| scope.spawn(policy).join().expect("no panic"))
    }

    #[test]
    fn the_work_is_idle_and_who_waits_for_it_is_not() {
        assert_eq!(at_idle_weight(policy), libc::SCHED_IDLE);
        assert_eq!(at_idle_weight(policy_of_a_thread), libc::SCHED_IDLE, "and what it starts");
        assert_eq!((policy(), policy_of_a_thread()), (libc::SCHED_OTHER, libc::SCHED_OTHER));
    }

    #[test]
    fn who_waits_keeps_its_weight_when_the_work_fails_or_panics() {
        let failed: Result<(), i32> = at_idle_weight(|| Err(policy()));
        assert_eq!((failed, policy()), (Err(libc::SCHED_IDLE), libc::SCHED_OTHER));
        let panics = || at_idle_weight(|| panic!("the work"));
        std::panic::catch_unwind(panics).expect_err("the panic comes through");
        assert_eq!((policy(), policy_of_a_thread()), (libc::SCHED_OTHER, libc::SCHED_OTHER));
    }
}
