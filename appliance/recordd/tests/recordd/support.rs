//! A real recordd in a process of its own, over a real socket.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, Stdio},
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use cloister_attest::{
    SigningKey, Speaker,
    approval::{Approval, Decision},
    consent::Consent,
    dsse::Envelope,
};
use cloister_daemon::{Connection, clock::Stopwatch};
use cloister_domain::{Digest, GenerationId, LogHead, RecordIndex, Secret};
use cloister_record::{Checkpoint, Export, Report, Trust, VerifierKey, succession, verify};
use cloister_wire::{
    Reply,
    record::{Answer, Entry, Event, Request, Subject},
};
use serde_json::{Value, json};

pub(crate) const ORIGIN: &str = "enclave/test";

pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&Secret::new(vec![seed; 32])).unwrap()
}

/// A trust root as mint writes it, with two approvers: `ada`, whose key has seed 9, and `bob`, 10.
pub(crate) fn root() -> Vec<u8> {
    root_of(1, |_signed| {})
}

/// Such a root of another version, changed before it is signed.
pub(crate) fn root_of(version: u64, change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let (root, ada, bob) = (key(8).public(), key(9).public(), key(10).public());
    let mut signed = json!({
        "_type": "root",
        "keys": {
            root.key_id(): root.to_object(),
            ada.key_id(): ada.to_object(),
            bob.key_id(): bob.to_object(),
        },
        "roles": {"root": {"keyids": [root.key_id()], "threshold": 1}},
        "version": version,
        "x-cloister": {
            "approvers": {"keyids": [ada.key_id(), bob.key_id()], "threshold": 2},
            "persons": {ada.key_id(): "ada", bob.key_id(): "bob", root.key_id(): "ada"},
        },
    });
    change(&mut signed);
    let message = cloister_attest::json::canonical_tuf(&signed).unwrap();
    let sig: String = key(8).sign(&message).iter().map(|byte| format!("{byte:02x}")).collect();
    let signatures = json!([{"keyid": root.key_id(), "sig": sig}]);
    json!({"signatures": signatures, "signed": signed}).to_string().into_bytes()
}

pub(crate) fn entry(event: Event, act: &str) -> Entry {
    let enrolment = event == Event::AnchorEnrolment;
    let name = if enrolment { "trust-root" } else { "bundle" };
    let sha256 = if enrolment { Digest::of(&root()) } else { Digest::of(b"bundle") };
    let facts = match event {
        Event::ActivationIntent => {
            json!({"kind": "activate", "because": {"import": 1, "package": package()}})
        }
        Event::ActivationOutcome => json!({"outcome": "promoted"}),
        _ => json!({"bytes": 7}),
    };
    let subject = vec![Subject { name: name.to_owned(), sha256 }];
    let predicate = facts.as_object().unwrap().clone();
    Entry { event, act: act.to_owned(), subject, predicate }
}

/// What persons approve: SHA-256 over evidence, manifest and policy.
pub(crate) fn package() -> Digest {
    let [evidence, manifest, policy] =
        ["evidence", "bundle", "policy"].map(|name| Digest::of(name.as_bytes()));
    let text = json!({"evidence": evidence, "manifest": manifest, "policy": policy}).to_string();
    Digest::of(text.as_bytes())
}

/// Import 1 brought release `bundle`, which was judged good: what persons approve.
pub(crate) fn judged() -> [Entry; 2] {
    let seen = json!({"import": 1, "name": "demo", "version": "1.0.0", "operator": "oskar"});
    let (policy, evidence) = (Digest::of(b"policy"), Digest::of(b"evidence"));
    let found = json!({"import": 1, "verdict": "passed", "policy": policy, "evidence": evidence});
    let mut evaluation = entry(Event::Evaluation, "import/1/evaluation/1");
    let package = Subject { name: "package".to_owned(), sha256: package() };
    evaluation.subject.push(package);
    let with = |entry: Entry, facts: Value| Entry {
        predicate: facts.as_object().unwrap().clone(),
        ..entry
    };
    [with(entry(Event::MediaSeen, "import/1/seen"), seen), with(evaluation, found)]
}

pub(crate) fn approval(person: &str, seed: u8) -> Envelope {
    Approval {
        package: package(),
        bundle: GenerationId(Digest::of(b"bundle")),
        policy: Digest::of(b"policy"),
        evidence: Digest::of(b"evidence"),
        log: LogHead { origin: ORIGIN.to_owned(), size: 1 },
        decision: Decision::Approve,
        person: person.parse().unwrap(),
        comment: String::new(),
    }
    .sign(&key(seed))
    .unwrap()
}

/// A log whose key is lost.
pub(crate) struct Waiting {
    pub(crate) head: Checkpoint,
    pub(crate) former: VerifierKey,
    pub(crate) key: VerifierKey,
}

impl Waiting {
    /// What `person` signs with the key of this seed, changed before that.
    pub(crate) fn word(
        &self,
        person: &str,
        seed: u8,
        change: impl FnOnce(&mut Consent),
    ) -> Envelope {
        let Checkpoint { origin, size, .. } = self.head.clone();
        let mut consent = Consent {
            matter: succession::matter(&self.head, &self.key),
            log: LogHead { origin, size },
            person: person.parse().unwrap(),
        };
        change(&mut consent);
        consent.unsigned().unwrap().sign_with(&key(seed))
    }

    /// What ada and bob sign.
    pub(crate) fn words(&self) -> Vec<Vec<u8>> {
        let words =
            [("ada", 9), ("bob", 10)].map(|(name, seed)| self.word(name, seed, |_as_is| {}));
        words.iter().map(Envelope::to_json).collect()
    }
}

/// The request that hands in persons' words.
pub(crate) fn succeed(words: &[Vec<u8>]) -> Request {
    let text = |word: &Vec<u8>| String::from_utf8(word.clone()).unwrap();
    Request::Succeed { envelopes: words.iter().map(text).collect() }
}

/// A scratch root whose daemon can be started again and again.
pub(crate) struct Root {
    pub(crate) folder: tempfile::TempDir,
    /// The folder that systemd would pass credentials in.
    pub(crate) credentials: Option<PathBuf>,
}

impl Root {
    pub(crate) fn new() -> Self {
        Self::with("")
    }

    /// With more keys of the section `record`.
    pub(crate) fn with(more: &str) -> Self {
        let this = Self { folder: tempfile::tempdir().unwrap(), credentials: None };
        let at = |name: &str| this.folder.path().join(name).display().to_string();
        let text = format!(
            "[paths]\nstate = \"{}\"\nruntime = \"{}\"\n[record]\norigin = \"{ORIGIN}\"\n{more}\n",
            at("state"),
            at("run")
        );
        fs::write(this.folder.path().join("cloister.toml"), text).unwrap();
        this
    }

    pub(crate) fn record(&self) -> PathBuf {
        self.folder.path().join("state/record")
    }

    /// The machine has the host key of this seed, whatever it had.
    pub(crate) fn give_key(&self, seed: u8) {
        fs::create_dir_all(self.record()).unwrap();
        let path = self.record().join("host.key");
        fs::write(&path, [seed; 32]).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    pub(crate) fn spawn(&self) -> Child {
        self.spawn_by(Command::new("env"))
    }

    /// With a bound on the files that it writes: as on a disk that failed.
    pub(crate) fn spawn_with_files_of(&self, bytes: u64) -> Child {
        let mut limited = Command::new("prlimit");
        limited.arg(format!("--fsize={bytes}:unlimited")).arg("env");
        self.spawn_by(limited)
    }

    /// With each call of these kinds written to `log`, with the paths that it is about.
    pub(crate) fn start_traced(&self, calls: &str, log: &Path) -> Running {
        let mut traced = Command::new("strace");
        // The tracer is the daemon's child and not the other way round.
        traced.args(["-D", "-f", "-y", "-o"]).arg(log).args(["-e", calls, "env"]);
        self.started(self.spawn_by(traced))
    }

    fn spawn_by(&self, mut env: Command) -> Child {
        // A write beyond a limit is then refused, and ends nobody.
        env.arg("--ignore-signal=XFSZ")
            .arg(env!("CARGO_BIN_EXE_cloister-recordd"))
            .arg("--config")
            .arg(self.folder.path().join("cloister.toml"))
            .envs(self.credentials.iter().map(|folder| ("CREDENTIALS_DIRECTORY", folder)))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    pub(crate) fn start(&self) -> Running {
        self.started(self.spawn())
    }

    fn started(&self, mut child: Child) -> Running {
        let socket = self.folder.path().join("run/recordd.sock");
        let clock = Stopwatch::start();
        loop {
            if let Ok(connection) = Connection::connect(&socket) {
                return Running { child, connection };
            }
            assert!(child.try_wait().unwrap().is_none(), "recordd ended");
            assert!(clock.elapsed() < Duration::from_secs(60), "recordd does not answer");
            std::thread::yield_now();
        }
    }
}

/// The daemon and a connection to it.
pub(crate) struct Running {
    child: Child,
    pub(crate) connection: Connection,
}

impl Running {
    pub(crate) fn ask(&self, request: &Request) -> Reply<Answer> {
        self.connection.ask(request).unwrap()
    }

    pub(crate) fn append(&self, event: Event, act: &str) -> u64 {
        appended(self.ask(&Request::Append(entry(event, act))))
    }

    /// Four records after which release `bundle` may be activated.
    pub(crate) fn approve(&self) {
        for entry in judged() {
            appended(self.ask(&Request::Append(entry)));
        }
        for (person, seed) in [("ada", 9), ("bob", 10)] {
            appended(self.deposit(&approval(person, seed).to_json()));
        }
    }

    /// The log takes up a newer trust root.
    pub(crate) fn update(&self, root: &[u8]) {
        let subject = Subject { name: "trust-root".to_owned(), sha256: Digest::of(root) };
        let entry = Entry { subject: vec![subject], ..entry(Event::TrustUpdate, "trust/2") };
        appended(self.ask(&Request::Append(entry)));
    }

    pub(crate) fn deposit(&self, envelope: &[u8]) -> Reply<Answer> {
        self.ask(&Request::Deposit {
            event: Event::Approval,
            act: "approval/1".to_owned(),
            envelope: String::from_utf8(envelope.to_vec()).unwrap(),
        })
    }

    pub(crate) fn refusal(&self, request: &Request) -> String {
        self.ask(request).unwrap_err().code
    }

    /// What waits for a successor: the head, and the keys before and after.
    pub(crate) fn waiting(&self) -> Option<Waiting> {
        let Answer::Head { origin, size, root, log_key, successor, .. } =
            self.ask(&Request::Head).unwrap()
        else {
            panic!("no head")
        };
        let (successor, former) = (successor?, log_key.parse().unwrap());
        let (head, key) = (Checkpoint { origin, size, root }, successor.log_key.parse().unwrap());
        assert_eq!(successor.checkpoint, head.digest());
        assert_eq!(successor.key, succession::id(&key));
        Some(Waiting { head, former, key })
    }

    /// Size, checkpoint and verifier key.
    pub(crate) fn head(&self) -> (u64, String, String) {
        match self.ask(&Request::Head).unwrap() {
            Answer::Head { size, checkpoint, log_key, .. } => (size, checkpoint, log_key),
            other => panic!("no head: {other:?}"),
        }
    }

    pub(crate) fn entries(&self, from: u64, count: u32) -> Vec<String> {
        match self.ask(&Request::Read { from: RecordIndex(from), count }).unwrap() {
            Answer::Entries(entries) => entries,
            other => panic!("no entries: {other:?}"),
        }
    }

    pub(crate) fn export(&self) -> Export {
        self.export_by(&Request::Export).unwrap()
    }

    /// The export that `request` asks for, or the code of the refusal.
    pub(crate) fn export_by(&self, request: &Request) -> Result<Export, String> {
        self.connection.write(request).unwrap();
        let mut export = Export::new();
        loop {
            match self.connection.expect::<Reply<Answer>>().unwrap() {
                Ok(Answer::File { path, base64 }) => {
                    export.insert(path, BASE64_STANDARD.decode(base64).unwrap());
                }
                Ok(Answer::Done) => return Ok(export),
                Ok(other) => panic!("no file: {other:?}"),
                Err(problem) => return Err(problem.code),
            }
        }
    }

    pub(crate) fn report(&self) -> Report {
        verify(&self.export(), &self.trust())
    }

    /// What an auditor of this log brings along.
    pub(crate) fn trust(&self) -> Trust {
        self.trust_from(self.head().2.parse().unwrap())
    }

    /// The same, of a log whose first key is this one.
    pub(crate) fn trust_from(&self, log: VerifierKey) -> Trust {
        let root = Digest::of(&root());
        let keys = |seed: u8| Speaker::with(vec![vec![key(seed).public().into()]]);
        let persons = [("ada", keys(9)), ("bob", keys(10))];
        let persons = persons.map(|(name, keys)| (name.parse().unwrap(), keys)).into();
        Trust { log, root, approvers: vec![(root, persons)], policy: None }
    }

    /// The answer, or none if the daemon died before it gave one.
    pub(crate) fn tell(&self, request: &Request) -> Option<Reply<Answer>> {
        self.connection.ask(request).ok()
    }

    /// Has the daemon killed at call number `at` of kind `call` of any of its threads.
    pub(crate) fn killer(&self, call: &str, at: u32) -> Tracer {
        self.tracer(call, &format!("signal=KILL:when={at}"), Path::new("/dev/null"))
    }

    /// Writes each call of kind `call` to `log` from now on, with the path that it is about, and does `how` to
    /// those of them that it names.
    pub(crate) fn tracer(&self, call: &str, how: &str, log: &Path) -> Tracer {
        let mut child = Command::new("strace")
            .args(["-f", "-y", "-o"])
            .arg(log)
            .args(["-e", &format!("trace={call}"), "-e", &format!("inject={call}:{how}")])
            .args(["-p", &self.child.id().to_string()])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        assert!(line.contains("attached"), "{line}");
        Tracer { child, _stderr: stderr }
    }

    /// Lets the daemon write no file beyond so many bytes; a write that would is refused.
    pub(crate) fn limit_file_bytes(&self, bytes: u64) {
        let pid = self.child.id().to_string();
        let limit = format!("--fsize={bytes}:unlimited");
        let set = Command::new("prlimit").args(["--pid", &pid, &limit]).status().unwrap();
        assert!(set.success(), "prlimit");
    }

    /// Ends the daemon as a power cut would.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// A tracer that strikes.
pub(crate) struct Tracer {
    child: Child,
    _stderr: BufReader<ChildStderr>,
}

impl Drop for Tracer {
    fn drop(&mut self) {
        if self.child.kill().is_ok() {
            self.child.wait().unwrap();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may be dead already; then there is nothing to end.
        self.child.kill().unwrap_or_default();
        self.child.wait().unwrap();
    }
}

pub(crate) fn appended(reply: Reply<Answer>) -> u64 {
    match reply.unwrap() {
        Answer::Appended { index, .. } => index.0,
        other => panic!("not appended: {other:?}"),
    }
}

/// Writes the files of an export below `folder`.
pub(crate) fn lay(folder: &Path, export: &Export) {
    for (path, bytes) in export {
        let target = folder.join(path);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::write(target, bytes).unwrap();
    }
}

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for found in fs::read_dir(from).unwrap() {
        let found = found.unwrap();
        let target = to.join(found.file_name());
        if found.file_type().unwrap().is_dir() {
            copy(&found.path(), &target);
        } else {
            fs::copy(found.path(), target).unwrap();
        }
    }
}
