//! A scratch root with the daemon in it, and scripted neighbours: an engine whose vectors are made of
//! digests, and a keeper of records that keeps the names of acts.
#![expect(clippy::unwrap_used, reason = "a test helper fails by panicking")]

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    os::unix::net::{UnixDatagram, UnixListener, UnixStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use cloister_daemon::Connection;
use cloister_domain::{
    ByteCount, CitationId, Class, Digest, GenerationId, RecordIndex, Sensitive, TokenCount,
};
use cloister_wire::{
    Problem, Reply,
    corpus::{Answer, Hit, Listed, Request, Search},
    engine, record,
};
use tempfile::TempDir;

pub(crate) const PUMP: &str = "# Coolant pump\n\n## Start\n\nOpen valve V-12 before the coolant \
    pump starts.\n\n## Stop\n\nClose the inlet last.\n";
pub(crate) const REACTOR: &str = "The reactor scram key hangs behind the zirconia panel";

pub(crate) const fn canaries() -> [&'static str; 3] {
    ["xylocanaryone", "quezalcanarytwo", "vrombcanarythree"]
}

pub(crate) struct House {
    root: TempDir,
    daemon: Child,
}

impl Drop for House {
    fn drop(&mut self) {
        let gone = self.daemon.kill().and_then(|()| self.daemon.wait());
        assert!(gone.is_ok() || thread::panicking(), "the daemon is gone");
    }
}

impl House {
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("state/shelf/generations")).unwrap();
        fs::create_dir_all(root.path().join("run")).unwrap();
        let path = |name: &str| root.path().join(name).to_str().unwrap().to_owned();
        let config = format!(
            "[paths]\nstate = \"{}\"\nruntime = \"{}\"\n[log]\nlevel = \"debug\"\n",
            path("state"),
            path("run")
        );
        fs::write(root.path().join("config.toml"), config).unwrap();
        let daemon = start(root.path());
        Self { root, daemon }
    }

    pub(crate) fn restart(&mut self) {
        self.daemon = start(self.root.path());
    }

    fn socket(&self, name: &str) -> PathBuf {
        self.root.path().join("run").join(name)
    }

    pub(crate) fn ask(&self, request: &Request) -> Reply<Answer> {
        let connection = Connection::connect(&self.socket("corpusd.sock")).unwrap();
        connection.ask(request).unwrap()
    }

    /// Sends one frame as it is.
    pub(crate) fn raw(&self, frame: &[u8]) {
        let mut stream = UnixStream::connect(self.socket("corpusd.sock")).unwrap();
        stream.write_all(&u32::try_from(frame.len()).unwrap().to_le_bytes()).unwrap();
        stream.write_all(frame).unwrap();
        let reply: Reply<Answer> = Connection::over(stream).unwrap().expect().unwrap();
        assert_eq!(reply.unwrap_err().code, "corpus.request.form");
    }

    pub(crate) fn generation_folder(&self, generation: GenerationId) -> PathBuf {
        self.root.path().join("state/shelf/generations").join(generation.to_string())
    }

    /// Lays a release of three documents on the shelf.
    pub(crate) fn release(&self, version: u8, pump: &str) -> GenerationId {
        let generation = GenerationId(Digest::of(&[version]));
        let documents = self.generation_folder(generation).join("tree/documents");
        fs::create_dir_all(documents.join("handbook")).unwrap();
        fs::write(documents.join("handbook/pump.md"), pump).unwrap();
        fs::write(documents.join("handbook/canteen.md"), "The canteen opens at noon.").unwrap();
        fs::write(documents.join("scram.md"), REACTOR).unwrap();
        let listing = serde_json::json!({"collections": [
            {"name": "handbook", "label": "open", "documents": [
                {"path": "documents/handbook/pump.md", "name": "Pump"},
                {"path": "documents/handbook/canteen.md", "name": "Canteen"}]},
            {"name": "core", "label": "reactor", "documents": [
                {"path": "documents/scram.md", "name": "Scram"}]}]});
        fs::write(documents.join("collections.json"), listing.to_string()).unwrap();
        generation
    }

    pub(crate) fn activate(&self, generation: GenerationId) {
        let link = self.root.path().join("state/shelf/active");
        std::os::unix::fs::symlink(format!("generations/{generation}"), link).unwrap();
    }

    pub(crate) fn stage(&self, generation: GenerationId) -> Answer {
        let directory = self.generation_folder(generation);
        self.ask(&Request::Stage { generation, directory }).unwrap()
    }

    pub(crate) fn add(&self, name: &str, label: &str, text: &str) -> Reply<Answer> {
        self.ask(&Request::Add {
            collection: "facility".to_owned(),
            label: label.parse().unwrap(),
            owner: "keeper".parse().unwrap(),
            name: Sensitive::new(name.to_owned()),
            text: Sensitive::new(text.to_owned()),
        })
    }

    pub(crate) fn list(&self, generation: Option<GenerationId>, labels: &[&str]) -> Vec<Listed> {
        let labels = labels.iter().map(|label| label.parse().unwrap()).collect();
        match self.ask(&Request::List { generation, labels }) {
            Ok(Answer::Documents(documents)) => documents,
            _ => panic!("a list"),
        }
    }

    pub(crate) fn search(
        &self,
        generation: GenerationId,
        query: &str,
        labels: &[&str],
    ) -> Vec<Hit> {
        let search = Search {
            generation,
            query: Sensitive::new(query.to_owned()),
            collections: Vec::new(),
            labels: labels.iter().map(|label| label.parse().unwrap()).collect(),
            hits_max: 10,
        };
        match self.ask(&Request::Search(search)) {
            Ok(Answer::Hits(hits)) => hits,
            _ => panic!("hits"),
        }
    }

    pub(crate) fn open(
        &self,
        citation: CitationId,
        generation: GenerationId,
        labels: &[&str],
    ) -> Reply<Answer> {
        let labels = labels.iter().map(|label| label.parse().unwrap()).collect();
        self.ask(&Request::Open { citation, generation, labels })
    }

    /// Puts a scripted engine on a slot's socket.
    pub(crate) fn engine(&self, slot: &str, holds: Option<GenerationId>) {
        let listener = UnixListener::bind(self.socket(&format!("engined-{slot}.sock"))).unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let connection = Connection::over(stream.unwrap()).unwrap();
                thread::spawn(move || engine(&connection, holds));
            }
        });
    }

    /// Puts a scripted keeper of records on its socket; the acts it was told.
    pub(crate) fn recordd(&self) -> Arc<Mutex<Vec<String>>> {
        let acts = Arc::new(Mutex::new(Vec::new()));
        let listener = UnixListener::bind(self.socket("recordd.sock")).unwrap();
        let kept = Arc::clone(&acts);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let connection = Connection::over(stream.unwrap()).unwrap();
                while let Ok(Some(record::Request::Append(entry))) = connection.read() {
                    let mut acts = kept.lock().unwrap();
                    acts.push(entry.act);
                    let index = RecordIndex(acts.len() as u64);
                    let answer = record::Answer::Appended { index, leaf: Digest::of(b"leaf") };
                    if connection.write(&Ok::<_, Problem>(answer)).is_err() {
                        break;
                    }
                }
            }
        });
        acts
    }

    /// Sends changes and kills the daemon while it works on them.
    pub(crate) fn killed_while(&mut self, round: u32, generation: GenerationId) {
        let connection = Connection::connect(&self.socket("corpusd.sock")).unwrap();
        let directory = self.generation_folder(generation);
        connection.write(&Request::Stage { generation, directory }).unwrap();
        for number in 0..4 {
            let name = format!("M{round}x{number}");
            let text = format!("Cabinet {name} holds the gasket of {name}.");
            let request = Request::Add {
                collection: "facility".to_owned(),
                label: "open".parse().unwrap(),
                owner: "keeper".parse().unwrap(),
                name: Sensitive::new(name),
                text: Sensitive::new(text),
            };
            connection.write(&request).unwrap();
        }
        // Another number of answers each time; the next request is then being worked on.
        for _ in 0..round % 5 {
            let answer: Reply<Answer> = connection.expect().unwrap();
            assert!(answer.is_ok());
        }
        self.daemon.kill().unwrap();
        self.daemon.wait().unwrap();
    }

    /// Kills the daemon and reads what it logged.
    pub(crate) fn stop_and_log(&mut self) -> String {
        self.daemon.kill().unwrap();
        self.daemon.wait().unwrap();
        let mut log = String::new();
        File::open(self.root.path().join("log")).unwrap().read_to_string(&mut log).unwrap();
        log
    }
}

/// Starts the daemon and waits until it says that it is ready.
fn start(root: &std::path::Path) -> Child {
    let notify = root.join("notify");
    if notify.exists() {
        fs::remove_file(&notify).unwrap();
    }
    let ready = UnixDatagram::bind(&notify).unwrap();
    ready.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
    let log = File::options().create(true).append(true).open(root.join("log")).unwrap();
    let daemon = Command::new(env!("CARGO_BIN_EXE_cloister-corpusd"))
        .arg("--config")
        .arg(root.join("config.toml"))
        .env("NOTIFY_SOCKET", &notify)
        .stdin(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    let mut message = [0; 256];
    let length = ready.recv(&mut message).unwrap();
    assert!(message[..length].starts_with(b"READY=1"));
    daemon
}

fn engine(connection: &Connection, holds: Option<GenerationId>) {
    while let Ok(Some(request)) = connection.read::<engine::Request>() {
        let event = match request {
            engine::Request::Status => engine::Event::Status(engine::Status {
                generation: holds,
                model: None,
                embedding_width: Some(64),
                embedding_model: Some(Digest::of(b"a model")),
                context: TokenCount(256),
                device: "cpu".to_owned(),
                peak_memory: ByteCount(0),
                running: 0,
            }),
            engine::Request::Embed { generation, texts } if Some(generation) == holds => {
                assert!(texts.expose().len() <= 32);
                let vectors = texts.expose().iter().map(|text| embed(text)).collect();
                engine::Event::Embeddings { vectors, tokens: TokenCount(0) }
            }
            _ => engine::Event::Problem(Problem::new(
                Class::Refused,
                "engine.generation.mismatch",
                "another generation",
            )),
        };
        if connection.write(&event).is_err() {
            return;
        }
    }
}

/// A unit vector that texts with the same words share.
fn embed(text: &str) -> Vec<f32> {
    let mut vector = vec![0.0f32; 64];
    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| word.len() > 3) {
        let digest = Digest::of(word.to_lowercase().as_bytes());
        let nibbles = digest.as_bytes().iter().flat_map(|byte| [byte >> 4, byte & 15]);
        for (component, nibble) in vector.iter_mut().zip(nibbles) {
            *component += f32::from(nibble) - 7.5;
        }
    }
    vector[0] += 0.125;
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    vector.iter().map(|x| x / length).collect()
}
