//! The inspector of these tests: the real validators in a thread, without a cage, which can be told
//! to fail; and a scanner that says what it is told.

use std::{
    fs::File,
    io::Read as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use cloister_config::{Config, Role};
use cloister_daemon::{Connection, Daemon, Limits, Stop};
use cloister_domain::ByteCount;
use cloister_inspect::Refusal;
use cloister_wire::{
    Problem,
    inspect::{Accepted, Answer, Kind, Question, Started},
    supply::Scan,
};

use serde_json::Value;

use super::{Running, wait_for_socket};

/// How often one that stalls looks whether it still should.
const TICK: Duration = Duration::from_millis(5);

/// How it fails.
#[derive(Default)]
pub(crate) struct Faults {
    /// It ends over every file, after it has begun.
    pub(crate) crashes: AtomicBool,
    /// It ends before it has begun.
    pub(crate) absent: AtomicBool,
    /// It says something that is no answer.
    pub(crate) babbles: AtomicBool,
    /// It answers before it says that it has begun, as if it knew the file.
    pub(crate) hasty: AtomicBool,
    /// It begins and says nothing more for as long as this holds.
    pub(crate) stalls: AtomicBool,
    /// It says this, whatever it reads.
    pub(crate) lie: Mutex<Option<Value>>,
    /// Files over which it stalled.
    pub(crate) stalled: AtomicUsize,
    /// It says that it cannot read.
    pub(crate) faulty: AtomicBool,
    /// The scanner ends before it has begun.
    pub(crate) scan_absent: AtomicBool,
    /// What the scanner says; `None`: it dies.
    pub(crate) scan: Mutex<Option<Scan>>,
    /// Files that the scanner was asked about.
    pub(crate) scanned: AtomicUsize,
}

pub(crate) fn start(config: &Config, faults: &Arc<Faults>) -> Running {
    let daemon = Daemon::embedded(Role::Inspectd, None, config.clone()).unwrap();
    let faults = Arc::clone(faults);
    let running = Running::start(daemon, move |daemon| {
        let listener = daemon.listener().unwrap();
        let limits = Limits { connections_max: 16 };
        let answer = |connection: Connection| {
            while let Ok(Some(conversation)) = connection.next_conversation() {
                converse(&conversation, &faults, daemon.stop());
            }
        };
        daemon.serve(listener, limits, answer).unwrap();
    });
    wait_for_socket(&config.paths.socket(Role::Inspectd));
    running
}

/// Whoever asked may have gone: a failed file ends the questions about the others.
fn converse(connection: &Connection, faults: &Faults, stop: &Stop) {
    let is = |fault: &AtomicBool| fault.load(Ordering::SeqCst);
    if is(&faults.absent) {
        return;
    }
    let Ok(Some(question)) = connection.read::<Question>() else { return };
    let mut bytes = Vec::new();
    File::from(connection.take().unwrap()).read_to_end(&mut bytes).unwrap();
    let answer = |verdict| Answer { verdict, microseconds: 1, peak_bytes: ByteCount(1) };
    if is(&faults.hasty) {
        let good = Ok(Accepted { kind: Kind::Text, tensors: 0 });
        return connection.write(&answer(good)).unwrap_or_default();
    }
    if connection.write(&Started::Started).is_err() || is(&faults.crashes) {
        return;
    }
    if is(&faults.stalls) {
        faults.stalled.fetch_add(1, Ordering::SeqCst);
    }
    while is(&faults.stalls) && !stop.is_set() {
        thread::park_timeout(TICK);
    }
    if is(&faults.babbles) {
        return connection.write("all is well").unwrap_or_default();
    }
    if is(&faults.faulty) {
        return connection
            .write(&answer(Err(Problem::of(&Refusal::Unreadable))))
            .unwrap_or_default();
    }
    if let Some(lie) = &*faults.lie.lock().unwrap() {
        return connection.write(lie).unwrap_or_default();
    }
    let verdict = match cloister_inspect::inspect(&question.name, &mut bytes.as_slice()) {
        Ok(found) => {
            // Both lists have the same names.
            let kind = serde_json::from_value(found.kind.name().into()).unwrap();
            Ok(Accepted { kind, tensors: found.tensors })
        }
        Err(refusal) => Err(Problem::of(&refusal)),
    };
    connection.write(&answer(verdict)).unwrap_or_default();
}

pub(crate) fn start_scanner(config: &Config, faults: &Arc<Faults>) -> Running {
    let daemon = Daemon::embedded(Role::Scand, None, config.clone()).unwrap();
    let faults = Arc::clone(faults);
    let running = Running::start(daemon, move |daemon| {
        let listener = daemon.listener().unwrap();
        let limits = Limits { connections_max: 16 };
        let answer = |connection: Connection| {
            let Ok(Some(_question)) = connection.read::<Question>() else { return };
            drop(connection.take().unwrap());
            if faults.scan_absent.load(Ordering::SeqCst) {
                return;
            }
            faults.scanned.fetch_add(1, Ordering::SeqCst);
            if connection.write(&Started::Started).is_err() {
                return;
            }
            if let Some(scan) = *faults.scan.lock().unwrap() {
                connection.write(&scan).unwrap_or_default();
            }
        };
        daemon.serve(listener, limits, answer).unwrap();
    });
    wait_for_socket(&config.paths.socket(Role::Scand));
    running
}
