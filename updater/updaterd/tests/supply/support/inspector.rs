//! The inspector of these tests: the real validators in a thread, without a cage, which can be told
//! to die over a file.

use std::{
    fs::File,
    io::Read as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use cloister_config::{Config, Role};
use cloister_daemon::{Connection, Daemon, Limits};
use cloister_domain::ByteCount;
use cloister_wire::{
    Problem,
    inspect::{Accepted, Answer, Question, Started},
};

use super::{Running, wait_for_socket};

/// How it fails.
#[derive(Default)]
pub(crate) struct Faults {
    /// It ends over every file, after it has begun.
    pub(crate) crashes: AtomicBool,
    /// It ends before it has begun.
    pub(crate) absent: AtomicBool,
}

pub(crate) fn start(config: &Config, faults: &Arc<Faults>) -> Running {
    let daemon = Daemon::embedded(Role::Inspectd, None, config.clone()).unwrap();
    let faults = Arc::clone(faults);
    let running = Running::start(daemon, move |daemon| {
        let listener = daemon.listener().unwrap();
        let limits = Limits { connections_max: 16 };
        let answer = |connection: Connection| converse(&connection, &faults);
        daemon.serve(listener, limits, answer).unwrap();
    });
    wait_for_socket(&config.paths.socket(Role::Inspectd));
    running
}

fn converse(connection: &Connection, faults: &Faults) {
    if faults.absent.load(Ordering::SeqCst) {
        return;
    }
    let Ok(Some(question)) = connection.read::<Question>() else { return };
    let mut bytes = Vec::new();
    File::from(connection.take().unwrap()).read_to_end(&mut bytes).unwrap();
    connection.write(&Started::Started).unwrap();
    if faults.crashes.load(Ordering::SeqCst) {
        return;
    }
    let verdict = match cloister_inspect::inspect(&question.name, &mut bytes.as_slice()) {
        Ok(found) => Ok(Accepted { kind: found.kind.name().to_owned(), tensors: found.tensors }),
        Err(refusal) => Err(Problem::of(&refusal)),
    };
    let answer = Answer { verdict, microseconds: 1, peak_bytes: ByteCount(1) };
    connection.write(&answer).unwrap();
}
