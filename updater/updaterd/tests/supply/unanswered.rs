//! A log that takes a record and whose answer is lost: what it holds is done all the same, though another
//! try would end otherwise.

use std::{
    fs,
    os::unix::fs::symlink,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use cloister_attest::approval::Decision;
use cloister_config::Role;
use cloister_daemon::{Connection, Daemon, Limits};
use cloister_domain::ImportId;
use cloister_wire::{
    Reply,
    record::{Answer, Request},
    supply::ImportState,
};

use crate::{
    decisions::OPERATOR,
    refused,
    support::{
        Running, World,
        bundle::{Bundle, EVE, FLO},
        engine::Script,
        wait_until,
    },
};

/// How often the updater asks for one record.
const TRIES: u32 = 2;

/// Stands between the updater and the log, and loses the answer to a record whose act is named so,
/// and to the one more time that it is asked for.
struct Lossy {
    _between: Running,
    lost: Arc<AtomicU32>,
}

impl Lossy {
    /// `when_lost` happens before the updater hears that there is no answer.
    fn new(
        world: &World,
        named: &'static str,
        when_lost: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        let socket = world.config.paths.socket(Role::Recordd);
        let behind = socket.with_extension("behind");
        fs::rename(&socket, &behind).unwrap();
        let lost = Arc::new(AtomicU32::new(0));
        let loses = Arc::clone(&lost);
        let mut config = world.config.clone();
        config.paths.runtime = config.paths.runtime.join("between");
        symlink(config.paths.socket(Role::Recordd), &socket).unwrap();
        let daemon = Daemon::embedded(Role::Recordd, None, config).unwrap();
        let between = Running::start(daemon, move |daemon| {
            let listener = daemon.listener().unwrap();
            let pass_on = |connection: Connection| {
                while let Ok(Some(request)) = connection.read::<Request>() {
                    let log = Connection::connect(&behind).unwrap();
                    let reply: Reply<Answer> = log.ask(&request).unwrap();
                    let ours = match &request {
                        Request::Append(entry) => entry.act.contains(named),
                        Request::Deposit { act, .. } => act.contains(named),
                        _ => false,
                    };
                    if ours && loses.load(Ordering::SeqCst) < TRIES {
                        when_lost();
                        loses.fetch_add(1, Ordering::SeqCst);
                        return;
                    }
                    if connection.write(&reply).is_err() {
                        return;
                    }
                }
            };
            daemon.serve(listener, Limits { connections_max: 16 }, pass_on).unwrap();
        });
        wait_until(|| Connection::connect(&socket).is_ok()).expect("it serves");
        Self { _between: between, lost }
    }

    fn until_lost(&self) {
        wait_until(|| self.lost.load(Ordering::SeqCst) == TRIES).expect("there is such a record");
    }
}

#[test]
fn who_operated_an_import_does_not_approve_it_though_only_the_log_knows() {
    let world = World::with(&format!("operators = [\"{OPERATOR}=eve\"]"));
    world.enrol();
    let bundle = Bundle::new(1, "0.5");
    drop(world.begin(&bundle, 1).unwrap());
    let lossy = Lossy::new(&world, "/operator/", || {});
    assert!(world.begin(&Bundle::new(1, "0.5").imported_by(OPERATOR), 1).is_err());
    lossy.until_lost();
    let import = world.import(&bundle, 1).unwrap();
    world.until(import, ImportState::AwaitingApproval);
    refused(world.decide(import, EVE, Decision::Approve), "approval.importer");
    assert!(world.review(import).imported_by.contains(&OPERATOR.to_string()));
}

#[test]
fn a_veto_that_only_the_log_took_holds_though_the_next_root_forgets_who_gave_it() {
    let world = World::enrolled();
    let one = Bundle::new(1, "0.5");
    world.promoted(&one, 1);
    let import = world.import(&Bundle::new(2, "0.5"), 2).unwrap();
    world.until(import, ImportState::AwaitingApproval);
    // The worker is busy with another one.
    let engine = world.script(world.slot_of(one.generation()).unwrap());
    engine.slow.store(true, Ordering::SeqCst);
    world.import(&Bundle::new(3, "0.5"), 3).unwrap();
    wait_until(|| engine.scoring.load(Ordering::SeqCst)).expect("it is measured");
    let lossy = Lossy::new(&world, "/approval/flo/", || {});
    assert!(world.decide(import, FLO, Decision::Reject).is_err());
    lossy.until_lost();
    world.import(&Bundle::new(4, "0.5").without_flo(), 4).unwrap();
    let shown = world.review(import);
    engine.slow.store(false, Ordering::SeqCst);
    assert_eq!(shown.problem.unwrap().code, "approval.rejected");
}

/// The second release is refused for what its engine does, which `better` puts an end to.
fn refused_once(worse: fn(&Script), better: fn(&Script)) -> (World, ImportId) {
    let world = World::enrolled();
    world.promoted(&Bundle::new(1, "0.5"), 1);
    let scripts = world.engines.clone();
    scripts.iter().for_each(|script| worse(script));
    let lossy = Lossy::new(&world, "/refused", move || {
        scripts.iter().for_each(|script| better(script));
    });
    let import = world.import(&Bundle::new(2, "0.4"), 2).unwrap();
    lossy.until_lost();
    world.until(import, ImportState::Refused);
    assert_eq!(world.records().iter().filter(|(event, _)| event == "import-refused").count(), 1);
    (world, import)
}

#[test]
fn what_an_engine_refused_stays_refused_though_it_would_load_it_now() {
    let (world, import) = refused_once(
        |script| script.refuses.store(true, Ordering::SeqCst),
        |script| script.refuses.store(false, Ordering::SeqCst),
    );
    assert_eq!(world.review(import).problem.unwrap().code, "weights.family");
}

#[test]
fn a_verdict_stays_what_it_was_though_the_candidate_would_pass_now() {
    let (world, import) = refused_once(
        |script| script.wrong.store(true, Ordering::SeqCst),
        |script| script.wrong.store(false, Ordering::SeqCst),
    );
    let shown = world.review(import);
    let problem = shown.problem.unwrap();
    assert_eq!(problem.code, "evaluation.worse");
    assert!(problem.message.contains("golden"), "{problem}");
    assert!(shown.figures.iter().any(|figure| !figure.passed), "what it was refused for is shown");
}
