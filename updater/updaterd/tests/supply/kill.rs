//! The updater is killed at every system call of a switch that lasts; after a restart the pointer is
//! old or new, every intent has exactly one outcome, and the outcome says where the pointer is.

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, ChildStderr, Command, Stdio},
};

use cloister_config::Role;
use cloister_daemon::Connection;
use cloister_domain::GenerationId;
use cloister_wire::{
    Reply,
    supply::{Answer, Request},
};

use super::support::{World, bundle::Bundle, wait_until};

/// What makes something last, or tells another process of it.
const CALLS: [&str; 6] = ["fsync", "fdatasync", "rename", "symlink", "connect", "sendto"];

/// The updater as a process of its own.
pub(crate) struct Updaterd(Child);

impl Updaterd {
    pub(crate) fn start(world: &World) -> Self {
        Self::run(world, Command::new(env!("CARGO_BIN_EXE_cloister-updaterd")))
    }

    /// As [`Updaterd::start`]; its calls of kind `call` are listed in `log`, each with what it is about.
    pub(crate) fn traced(world: &World, call: &str, log: &Path) -> Self {
        let mut traced = Command::new("strace");
        // The tracer is nobody's parent, so that what is ended at the end is the updater.
        traced.args(["-D", "-f", "-y", "-e"]).arg(format!("trace={call}")).arg("-o").arg(log);
        traced.arg(env!("CARGO_BIN_EXE_cloister-updaterd"));
        Self::run(world, traced)
    }

    fn run(world: &World, mut program: Command) -> Self {
        let state = &world.config.paths.state;
        let text = format!(
            "[paths]\nstate = {state:?}\nruntime = {:?}\n[update]\nreserve_bytes = 0\n",
            world.config.paths.runtime
        );
        let config = state.with_extension("toml");
        fs::write(&config, text).unwrap();
        let child = program.arg("--config").arg(&config).stderr(Stdio::null()).spawn().unwrap();
        let socket = world.config.paths.socket(Role::Updaterd);
        wait_until(|| Connection::connect(&socket).is_ok()).expect("updaterd serves");
        Self(child)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Updaterd {
    fn drop(&mut self) {
        // It may have been killed already; either way it is gone afterwards.
        if self.0.kill().is_ok() {
            self.0.wait().unwrap();
        }
    }
}

/// A tracer that meddles with calls of any of the updater's threads.
pub(crate) struct Killer {
    child: Child,
    _stderr: BufReader<ChildStderr>,
}

impl Killer {
    /// Kills the updater at call number `at` of kind `call`.
    fn attach(updaterd: &Updaterd, call: &str, at: u32) -> Self {
        Self::signal(updaterd, call, "KILL", at)
    }

    /// With another signal than that which kills.
    pub(crate) fn signal(updaterd: &Updaterd, call: &str, signal: &str, at: u32) -> Self {
        Self::inject(updaterd, call, &format!("signal={signal}:when={at}"), &[])
    }

    /// The first `call` that is about `path` fails as a disk does that lost what it was to write.
    pub(crate) fn failing(updaterd: &Updaterd, call: &str, path: &Path) -> Self {
        Self::inject(updaterd, call, "error=EIO:when=1", &["-P".as_ref(), path.as_os_str()])
    }

    fn inject(updaterd: &Updaterd, call: &str, what: &str, only: &[&OsStr]) -> Self {
        let mut child = Command::new("strace")
            .args(["-f", "-o", "/dev/null", "-e"])
            .arg(format!("trace={call}"))
            .arg("-e")
            .arg(format!("inject={call}:{what}"))
            .args(only)
            .arg("-p")
            .arg(updaterd.pid().to_string())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        // What it says of paths comes first.
        while !line.contains("attached") {
            line.clear();
            assert!(stderr.read_line(&mut line).unwrap() > 0, "strace ends");
        }
        Self { child, _stderr: stderr }
    }
}

impl Drop for Killer {
    fn drop(&mut self) {
        if self.child.kill().is_ok() {
            self.child.wait().unwrap();
        }
    }
}

/// Asks for a switch; whether an answer came.
fn switch(world: &World, to: GenerationId) -> bool {
    let connection = Connection::connect(&world.config.paths.socket(Role::Updaterd)).unwrap();
    let reply: Result<Reply<Answer>, _> = connection.ask(&Request::Rollback { to: Some(to) });
    match reply {
        Ok(answer) => {
            answer.unwrap();
            true
        }
        Err(_killed) => false,
    }
}

#[test]
fn an_updater_killed_at_any_call_of_a_switch_ends_old_or_new_with_one_outcome_each() {
    let strace = Command::new("strace").arg("-V").stdout(Stdio::null()).status();
    assert!(
        strace.is_ok_and(|status| status.success()),
        "strace is needed: apt-get install strace"
    );
    let mut world = World::enrolled();
    let both = [Bundle::new(1, "0.5"), Bundle::new(2, "0.5")];
    for (version, bundle) in (1..).zip(&both) {
        world.promoted(bundle, version);
    }
    world.stop_updaterd();
    let [one, two] = both.map(|bundle| bundle.generation());
    let (mut kills, mut stayed, mut moved) = (0, 0, 0);
    for call in CALLS {
        for at in 1.. {
            assert!(at < 60, "{call} is never exhausted");
            let from = world.active().unwrap();
            let to = if from == one { two } else { one };
            let updaterd = Updaterd::start(&world);
            let killer = Killer::attach(&updaterd, call, at);
            let answered = switch(&world, to);
            drop(killer);
            drop(updaterd);

            let again = Updaterd::start(&world);
            let settled = || {
                let (intents, outcomes) = world.activations();
                intents == outcomes
            };
            wait_until(settled).expect("the open intent gets its outcome");
            drop(again);
            let active = world.active().unwrap();
            assert!(active == from || active == to, "{call} {at}");
            let records = world.records();
            let mut outcomes = records.iter().filter(|(event, _)| event == "activation-outcome");
            let last = outcomes.next_back().unwrap().1["outcome"].clone();
            let promoted = last == "promoted";
            if answered {
                assert_eq!((active, promoted), (to, true), "{call} {at}");
                break;
            }
            kills += 1;
            if active == to {
                assert!(promoted, "{call} {at}: {last}");
                moved += 1;
            } else {
                // Killed before the intent, the last outcome is that of the switch before.
                stayed += 1;
            }
        }
    }
    assert!(kills >= 20, "only {kills} kills");
    assert!(stayed > 0 && moved > 0, "kills before ({stayed}) and after ({moved}) the rename");
    world.start_updaterd();
    assert!(world.active().is_some());
}
