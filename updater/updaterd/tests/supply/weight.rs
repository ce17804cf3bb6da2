//! Hashing a release takes no processor time from whoever wants it: the thread that brings files to the
//! shelf is scheduled when no other is (SCHED_IDLE), and no thread besides.

use std::{fs, io::Read as _, path::PathBuf, thread};

use cloister_wire::supply::ImportState;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    kill::{Killer, Updaterd},
    support::{World, bundle::Bundle, wait_until},
};

/// As proc_pid_stat(5) and sched(7) number it.
const SCHED_IDLE: &str = "5";

/// A process that goes on when a test ends, however it ends.
struct Stopped(Pid);

impl Drop for Stopped {
    fn drop(&mut self) {
        kill(self.0, Signal::SIGCONT).unwrap();
    }
}

/// Threads that run when no other wants to.
fn idle(pid: u32) -> usize {
    let tasks = fs::read_dir(PathBuf::from(format!("/proc/{pid}/task"))).unwrap();
    let policy = |task: fs::DirEntry| {
        let mut text = String::new();
        fs::File::open(task.path().join("stat")).ok()?.read_to_string(&mut text).ok()?;
        // The 41st word; the second, in brackets, may hold spaces.
        text.rsplit_once(')')?.1.split_whitespace().nth(38).map(str::to_owned)
    };
    tasks.filter_map(|task| policy(task.ok()?)).filter(|policy| policy == SCHED_IDLE).count()
}

#[test]
fn the_thread_that_hashes_a_release_is_idle_and_no_other_is() {
    let mut world = World::enrolled();
    world.stop_updaterd();
    let updaterd = Updaterd::start(&world);
    let pid = updaterd.pid();
    assert_eq!(idle(pid), 0, "before");
    let bundle = Bundle::new(1, "0.5");
    thread::scope(|scope| {
        // It stops where the first file is named on the shelf, having been hashed.
        let tracer = Killer::signal(&updaterd, "linkat", "STOP", 1);
        let stopped = Stopped(Pid::from_raw(pid.try_into().unwrap()));
        let import = scope.spawn(|| world.import(&bundle, 1));
        wait_until(|| idle(pid) > 0).expect("what hashes is idle");
        assert_eq!(idle(pid), 1);
        // The tracer first: it would stop the thread that makes the tree of links too.
        drop(tracer);
        drop(stopped);
        let import = import.join().unwrap().unwrap();
        world.until(import, ImportState::AwaitingApproval);
    });
    assert_eq!(idle(pid), 0, "after");
}
