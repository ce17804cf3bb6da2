//! A real updaterd and a real recordd over their sockets; engines and corpusd are scripts that can
//! be told to fail.

pub(crate) mod bundle;
pub(crate) mod engine;
pub(crate) mod inspector;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bundle::Bundle;
use cloister_attest::approval::Decision;
use cloister_bundle::handover::{self, Blob, Complete, Plan};
use cloister_config::{Config, Role};
use cloister_daemon::{Connection, Daemon, Limits, Stop, clock::Stopwatch};
use cloister_domain::{ByteCount, Digest, GenerationId, ImportId, RecordIndex, Sensitive, Slot};
use cloister_record::Export;
use cloister_wire::{
    Problem, Reply, corpus, record,
    supply::{self, Answer, Import, ImportState},
};
use engine::Script;
use serde_json::Value;

/// Longest wait for anything in a test; a machine under load is slow, not wrong.
const PATIENCE: Duration = Duration::from_secs(60);

/// A daemon in threads of this process.
pub(crate) struct Running {
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    pub(crate) fn start(daemon: Daemon, run: impl FnOnce(&Daemon) + Send + 'static) -> Self {
        let stop = daemon.stop().clone();
        let thread = std::thread::spawn(move || run(&daemon));
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.set();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "a daemon panicked");
        }
    }
}

/// An import on its way, as intaked has it.
pub(crate) struct Receiving {
    connection: Connection,
    pub(crate) import: ImportId,
    plan: Plan,
    /// Its quarantine.
    pub(crate) folder: PathBuf,
}

impl Receiving {
    pub(crate) fn copy(&self, bundle: &Bundle) {
        for (number, (planned, (_, content))) in
            self.plan.files.iter().zip(&bundle.files).enumerate()
        {
            if !planned.present {
                fs::write(self.folder.join(Plan::part_name(number)), content).unwrap();
            }
        }
    }

    /// Has chunks looked for on the shelf.
    pub(crate) fn fill(&self, chunks: &[u64]) -> handover::Answer {
        self.connection.ask(&handover::Request::Fill { chunks: chunks.to_vec() }).unwrap()
    }

    pub(crate) fn complete(&self, bundle: &Bundle) -> Result<ImportId, Problem> {
        let complete = handover::Request::Complete(Complete {
            volume: Digest::of(b"volume"),
            read_bytes: ByteCount(1),
            resumed_chunks: 0,
        });
        match self.connection.ask(&complete).unwrap() {
            handover::Answer::Adopted { generation } => {
                assert_eq!(generation, bundle.generation());
                Ok(self.import)
            }
            handover::Answer::Problem(problem) => Err(problem),
            other => panic!("{other:?}"),
        }
    }
}

/// The whole appliance, as far as supply goes.
pub(crate) struct World {
    pub(crate) config: Config,
    /// The releases whose documents corpusd was told to forget.
    pub(crate) dropped: Arc<Mutex<Vec<GenerationId>>>,
    pub(crate) engines: [Arc<Script>; 2],
    pub(crate) inspector: Arc<inspector::Faults>,
    updaterd: Option<Running>,
    recordd: Option<Running>,
    slots: [Option<Running>; 2],
    _corpusd: Running,
    _inspectd: Running,
    scand: Option<Running>,
    _place: tempfile::TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with("")
    }

    /// With further configuration.
    pub(crate) fn with(update: &str) -> Self {
        Self::at(tempfile::tempdir().unwrap(), update)
    }

    /// As [`World::with`], in a folder of its own.
    pub(crate) fn at(place: tempfile::TempDir, update: &str) -> Self {
        // A promotion stands at once, but where a test is about that.
        let probation = if update.contains("probation_s") { "" } else { "probation_s = 0\n" };
        let text = format!(
            "[paths]\nstate = {:?}\nruntime = {:?}\n[update]\nreserve_bytes = 0\n{probation}{update}\n",
            place.path().join("state"),
            place.path().join("run"),
        );
        let config = Config::parse(&text).unwrap();
        let dropped = Arc::default();
        let corpusd = start_corpusd(&config, &dropped);
        let inspector = Arc::new(inspector::Faults::default());
        let inspectd = inspector::start(&config, &inspector);
        let scand = inspector::start_scanner(&config, &inspector);
        let engines = [Arc::new(Script::default()), Arc::new(Script::default())];
        let mut world = Self {
            slots: [None, None],
            engines,
            updaterd: None,
            recordd: None,
            inspector,
            _inspectd: inspectd,
            scand: Some(scand),
            _corpusd: corpusd,
            _place: place,
            config,
            dropped,
        };
        world.start_recordd();
        world.start_engine(Slot::A);
        world.start_engine(Slot::B);
        world.start_updaterd();
        world
    }

    /// One that is enrolled.
    pub(crate) fn enrolled() -> Self {
        let world = Self::new();
        world.enrol();
        world
    }

    pub(crate) fn enrol(&self) {
        let root = bundle::root();
        let confirmed = Digest::of(root.as_bytes());
        match self.ask(&supply::Request::Enrol { root, confirmed }).unwrap() {
            Answer::Enrolled { record, .. } => assert_eq!(record, RecordIndex(0)),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn start_updaterd(&mut self) {
        self.stop_updaterd();
        let daemon = Daemon::embedded(Role::Updaterd, None, self.config.clone()).unwrap();
        self.updaterd =
            Some(Running::start(daemon, |daemon| cloister_updaterd::run(daemon).unwrap()));
        wait_for_socket(&self.config.paths.socket(Role::Updaterd));
    }

    pub(crate) fn stop_updaterd(&mut self) {
        self.updaterd = None;
    }

    pub(crate) fn stop_scanner(&mut self) {
        self.scand = None;
    }

    pub(crate) fn start_recordd(&mut self) {
        let daemon = Daemon::embedded(Role::Recordd, None, self.config.clone()).unwrap();
        self.recordd =
            Some(Running::start(daemon, |daemon| cloister_recordd::run(daemon).unwrap()));
        wait_for_socket(&self.config.paths.socket(Role::Recordd));
    }

    pub(crate) fn stop_recordd(&mut self) {
        self.recordd = None;
    }

    /// A scripted engine, which like the real one loads what its slot names when it starts.
    pub(crate) fn start_engine(&mut self, slot: Slot) {
        let daemon = Daemon::embedded(Role::Engined, Some(slot), self.config.clone()).unwrap();
        let script = self.script(slot);
        let named = self.config.paths.shelf().join("slots").join(slot.name());
        if let Ok(target) = fs::read_link(&named) {
            let id = target.file_name().unwrap().to_str().unwrap().parse().unwrap();
            script.load(id, &named);
        }
        self.slots[slot as usize] = Some(Running::start(daemon, move |daemon| {
            let listener = daemon.listener().unwrap();
            let limits = Limits { connections_max: 16 };
            daemon.serve(listener, limits, |connection| script.converse(&connection)).unwrap();
        }));
        wait_for_socket(&self.config.paths.engine_socket(slot));
    }

    pub(crate) fn stop_engine(&mut self, slot: Slot) {
        self.slots[slot as usize] = None;
        *self.script(slot).held.lock().unwrap() = None;
    }

    pub(crate) fn script(&self, slot: Slot) -> Arc<Script> {
        Arc::clone(&self.engines[slot as usize])
    }

    pub(crate) fn ask(&self, request: &supply::Request) -> Reply<Answer> {
        let connection = Connection::connect(&self.config.paths.socket(Role::Updaterd)).unwrap();
        connection.set_timeout(Some(PATIENCE));
        connection.ask(request).unwrap()
    }

    pub(crate) fn ask_recordd(&self, request: &record::Request) -> Reply<record::Answer> {
        let connection = Connection::connect(&self.config.paths.socket(Role::Recordd)).unwrap();
        connection.set_timeout(Some(PATIENCE));
        connection.ask(request).unwrap()
    }

    /// Plays intaked as far as the plan.
    pub(crate) fn begin(&self, bundle: &Bundle, version: u64) -> Result<Receiving, Problem> {
        let connection = Connection::connect(&self.config.paths.socket(Role::Updaterd)).unwrap();
        connection.set_timeout(Some(PATIENCE));
        let offer = handover::Request::Offer(bundle.offer(version, false));
        let seen = match connection.ask(&offer).unwrap() {
            handover::Answer::Seen(seen) => *seen,
            handover::Answer::Problem(problem) => return Err(problem),
            other => panic!("{other:?}"),
        };
        let index = handover::Request::Index { part: Blob(bundle.index.clone()) };
        let plan = match connection.ask(&index).unwrap() {
            handover::Answer::Plan(plan) => plan,
            handover::Answer::Problem(problem) => return Err(problem),
            other => panic!("{other:?}"),
        };
        let folder = self.config.paths.quarantine().join(&plan.folder);
        Ok(Receiving { connection, import: seen.import.unwrap(), plan, folder })
    }

    /// Plays intaked: offers, plans, copies and completes. `spoil` may change what was copied.
    pub(crate) fn import_spoilt(
        &self,
        bundle: &Bundle,
        version: u64,
        spoil: impl FnOnce(&Path),
    ) -> Result<ImportId, Problem> {
        let receiving = self.begin(bundle, version)?;
        receiving.copy(bundle);
        spoil(&receiving.folder);
        receiving.complete(bundle)
    }

    pub(crate) fn import(&self, bundle: &Bundle, version: u64) -> Result<ImportId, Problem> {
        self.import_spoilt(bundle, version, |_folder| {})
    }

    pub(crate) fn review(&self, import: ImportId) -> Import {
        match self.ask(&supply::Request::Review { import }).unwrap() {
            Answer::Import(import) => *import,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until an import stands in `state`.
    pub(crate) fn until(&self, import: ImportId, state: ImportState) -> Import {
        let mut seen = None;
        wait_until(|| {
            seen = Some(self.review(import));
            seen.as_ref().is_some_and(|seen| seen.state == state)
        })
        .unwrap_or_else(|()| panic!("{state:?} is never reached: {seen:?}"));
        seen.unwrap()
    }

    /// Signs and hands in a decision about an import's package.
    pub(crate) fn decide(
        &self,
        import: ImportId,
        person: (u8, &str),
        decision: Decision,
    ) -> Reply<Answer> {
        let shown = self.review(import);
        let bundle = shown.summary.unwrap().generation;
        let envelope = bundle::decision(person, &shown.package.unwrap(), bundle, decision);
        self.ask(&supply::Request::Approve { envelope })
    }

    /// Imports, waits for the evaluation, has it approved by both approvers.
    pub(crate) fn approved(&self, bundle: &Bundle, version: u64) -> ImportId {
        let import = self.import(bundle, version).unwrap();
        self.until(import, ImportState::AwaitingApproval);
        for person in [bundle::EVE, bundle::FLO] {
            self.decide(import, person, Decision::Approve).unwrap();
        }
        assert_eq!(self.review(import).state, ImportState::Approved);
        import
    }

    /// Has what awaits approval approved by both approvers, and switches to it.
    pub(crate) fn promoted_again(&self, import: ImportId) {
        for person in [bundle::EVE, bundle::FLO] {
            self.decide(import, person, Decision::Approve).unwrap();
        }
        self.activate(import).unwrap();
    }

    pub(crate) fn activate(&self, import: ImportId) -> Reply<Answer> {
        self.ask(&supply::Request::Activate { import })
    }

    /// Brings a release all the way to active.
    pub(crate) fn promoted(&self, bundle: &Bundle, version: u64) -> ImportId {
        let import = self.approved(bundle, version);
        self.activate(import).unwrap();
        assert_eq!(self.active(), Some(bundle.generation()));
        import
    }

    /// What the pointer on the shelf names.
    pub(crate) fn active(&self) -> Option<GenerationId> {
        let target = fs::read_link(self.config.paths.shelf().join("active")).ok()?;
        target.file_name()?.to_str()?.parse().ok()
    }

    /// The slot whose engine holds `generation`.
    pub(crate) fn slot_of(&self, generation: GenerationId) -> Option<Slot> {
        Slot::ALL
            .into_iter()
            .find(|slot| *self.script(*slot).held.lock().unwrap() == Some(generation))
    }

    /// Every record: event and facts.
    pub(crate) fn records(&self) -> Vec<(String, Value)> {
        let connection = Connection::connect(&self.config.paths.socket(Role::Recordd)).unwrap();
        let request = record::Request::Read { from: RecordIndex(0), count: 1000 };
        let reply: Reply<record::Answer> = connection.ask(&request).unwrap();
        let record::Answer::Entries(entries) = reply.unwrap() else { panic!("not entries") };
        entries
            .iter()
            .map(|entry| {
                let envelope = cloister_attest::dsse::Envelope::parse(entry.as_bytes()).unwrap();
                let statement = cloister_attest::statement::Statement::of(&envelope).unwrap();
                let kind = statement.predicate_type.split('/').nth(3).unwrap().to_owned();
                let facts = statement.predicate.get("facts").cloned();
                (kind, facts.unwrap_or(statement.predicate))
            })
            .collect()
    }

    /// Writes the intent of an activation as an updater does that dies behind it.
    pub(crate) fn intend(
        &self,
        activation: u64,
        generation: GenerationId,
        from: Option<GenerationId>,
    ) {
        let facts = serde_json::json!({ "activation": activation, "kind": "activate" });
        let mut subject = vec![("bundle", generation.0)];
        subject.extend(from.map(|from| ("from", from.0)));
        let act = format!("activation/{activation}/intent");
        self.append(record::Event::ActivationIntent, &act, &subject, &facts);
    }

    /// Writes a record that no updater wrote.
    pub(crate) fn append(
        &self,
        event: record::Event,
        act: &str,
        subject: &[(&str, Digest)],
        facts: &Value,
    ) {
        let subject = subject
            .iter()
            .map(|(name, sha256)| record::Subject { name: (*name).to_owned(), sha256: *sha256 })
            .collect();
        let predicate = facts.as_object().unwrap().clone();
        let entry = record::Entry { event, act: act.to_owned(), subject, predicate };
        let connection = Connection::connect(&self.config.paths.socket(Role::Recordd)).unwrap();
        let reply: Reply<record::Answer> = connection.ask(&record::Request::Append(entry)).unwrap();
        assert!(matches!(reply, Ok(record::Answer::Appended { .. })), "{reply:?}");
    }

    /// How many intents and how many outcomes the log holds.
    pub(crate) fn activations(&self) -> (usize, usize) {
        let records = self.records();
        let count = |event: &str| records.iter().filter(|(kind, _)| kind == event).count();
        (count("activation-intent"), count("activation-outcome"))
    }

    /// How many records of `event` have `field` equal to `value`.
    pub(crate) fn count(&self, event: &str, field: &str, value: &str) -> usize {
        let records = self.records();
        let matching = records
            .iter()
            .filter(|(kind, facts)| kind == event && facts.get(field) == Some(&value.into()));
        matching.count()
    }
}

/// The whole log, as an auditor gets it.
pub(crate) fn export(config: &Config) -> Export {
    let connection = Connection::connect(&config.paths.socket(Role::Recordd)).unwrap();
    connection.write(&record::Request::Export).unwrap();
    let mut export = Export::new();
    while let record::Answer::File { path, base64 } =
        connection.expect::<Reply<record::Answer>>().unwrap().unwrap()
    {
        export.insert(path, BASE64_STANDARD.decode(base64).unwrap());
    }
    export
}

fn wait_for_socket(path: &Path) {
    wait_until(|| Connection::connect(path).is_ok()).expect("the daemon serves its socket");
}

/// Looks again and again until `done` says yes, with the patience of a test.
pub(crate) fn wait_until(mut done: impl FnMut() -> bool) -> Result<(), ()> {
    let watch = Stopwatch::start();
    while !done() {
        if watch.elapsed() > PATIENCE {
            return Err(());
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    Ok(())
}

fn start_corpusd(config: &Config, dropped: &Arc<Mutex<Vec<GenerationId>>>) -> Running {
    let dropped = Arc::clone(dropped);
    let daemon = Daemon::embedded(Role::Corpusd, None, config.clone()).unwrap();
    let running = Running::start(daemon, move |daemon| {
        let listener = daemon.listener().unwrap();
        let limits = Limits { connections_max: 16 };
        let serve = |connection: Connection| {
            while let Ok(Some(request)) = connection.read::<corpus::Request>() {
                if let corpus::Request::Drop { generation } = &request {
                    dropped.lock().unwrap().push(*generation);
                }
                let reply: Reply<corpus::Answer> = Ok(corpus_answer(&request));
                if connection.write(&reply).is_err() {
                    return;
                }
            }
        };
        daemon.serve(listener, limits, serve).unwrap();
    });
    wait_for_socket(&config.paths.socket(Role::Corpusd));
    running
}

fn corpus_answer(request: &corpus::Request) -> corpus::Answer {
    use corpus::{Answer, Hit, Request};
    match request {
        Request::Stage { .. } => Answer::Staged { documents: 1, chunks: 1, vectors: 0 },
        Request::Drop { .. } => Answer::Dropped,
        Request::Search(search) => Answer::Hits(vec![Hit {
            citation: format!("{}:0-6", search.generation).parse().unwrap(),
            chunk: search.generation.0,
            collection: String::from("handbook"),
            label: "open".parse().unwrap(),
            name: Sensitive::new(String::from("Pumps")),
            text: Sensitive::new(String::from("Pump 1.")),
            score: 1.0,
            words_only: true,
        }]),
        _ => Answer::Verified { documents: 0, chunks: 0, vectors: 0 },
    }
}
