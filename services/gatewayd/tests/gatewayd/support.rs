//! A real gatewayd in a process of its own, between scripted daemons and a plain HTTP client.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::unix::{fs::symlink, net::UnixListener},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use cloister_daemon::{Connection, clock::Stopwatch};
use cloister_domain::{
    ByteCount, CitationId, Digest, DocumentId, GenerationId, RecordIndex, Sensitive, TokenCount,
};
use cloister_wire::{
    Problem, Reply,
    corpus::{self, Hit},
    engine::{Event, FinishReason, Request, Status},
    gateway, record,
};
use serde_json::Value;

/// How long anything may take before a test fails.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

pub(crate) fn generation(name: &str) -> GenerationId {
    GenerationId(Digest::of(name.as_bytes()))
}

/// Appliance around one gatewayd.
pub(crate) struct Stage {
    folder: tempfile::TempDir,
    gateway: Child,
    pub(crate) address: SocketAddr,
}

impl Stage {
    /// Starts gatewayd with recordd answering `recorded` and nobody else there.
    pub(crate) fn new(more: &str, recorded: fn() -> Reply<record::Answer>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["run", "state/shelf/generations"] {
            fs::create_dir_all(at(name)).unwrap();
        }
        let text = format!(
            "[paths]\nstate = \"{}\"\nruntime = \"{}\"\n[log]\nlevel = \"debug\"\n[gateway]\nlisten = \"127.0.0.1:0\"\n{more}",
            at("state").display(),
            at("run").display()
        );
        fs::write(at("cloister.toml"), text).unwrap();
        let said = fs::File::create(at("said")).unwrap();
        let mut gateway = Command::new(env!("CARGO_BIN_EXE_cloister-gatewayd"))
            .arg("--config")
            .arg(at("cloister.toml"))
            .stderr(Stdio::from(said))
            .spawn()
            .unwrap();
        let clock = Stopwatch::start();
        let address = loop {
            if let Ok(admin) = Connection::connect(&at("run/gatewayd-admin.sock")) {
                match admin.ask::<_, Reply<gateway::Answer>>(&gateway::Request::Address).unwrap() {
                    Ok(gateway::Answer::Address(address)) => break address.parse().unwrap(),
                    other => panic!("no address: {other:?}"),
                }
            }
            assert!(gateway.try_wait().unwrap().is_none(), "gatewayd ended");
            assert!(clock.elapsed() < LIMIT, "gatewayd does not answer");
            std::thread::yield_now();
        };
        let stage = Self { folder, gateway, address };
        stage.serve("recordd.sock", move |connection| {
            while let Ok(Some(_)) = connection.read::<record::Request>() {
                connection.write(&recorded()).unwrap();
            }
        });
        stage
    }

    /// A stage whose record takes everything, with `name` active.
    pub(crate) fn ready(name: &str) -> Self {
        let stage = Self::new("", recorded);
        stage.activate(name);
        stage
    }

    /// Says what the trial under way is, as updaterd does.
    pub(crate) fn try_out(&self, text: &[u8]) {
        let shelf = self.folder.path().join("state/shelf");
        fs::write(shelf.join(".trial.new"), text).unwrap();
        fs::rename(shelf.join(".trial.new"), shelf.join("trial")).unwrap();
    }

    /// Keeps gatewayd from writing its counts until the answer is dropped.
    pub(crate) fn keep_no_counts(&self) -> tempfile::TempDir {
        let folder = self.folder.path().join("run/gatewayd");
        fs::create_dir_all(&folder).unwrap();
        // A folder where the file would be written.
        tempfile::Builder::new().prefix("trial.new").rand_bytes(0).tempdir_in(folder).unwrap()
    }

    /// What gatewayd counted, as updaterd finds it.
    pub(crate) fn counted(&self) -> Option<String> {
        fs::read_to_string(self.folder.path().join("run/gatewayd/trial.json")).ok()
    }

    /// Puts there what an earlier run of gatewayd counted.
    pub(crate) fn keep_counts(&self, text: &[u8]) {
        let folder = self.folder.path().join("run/gatewayd");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("trial.json"), text).unwrap();
    }

    /// Points `active` at a generation, by one rename.
    pub(crate) fn activate(&self, name: &str) {
        let shelf = self.folder.path().join("state/shelf");
        let link = format!("generations/{}", generation(name));
        symlink(link, shelf.join("next")).unwrap();
        fs::rename(shelf.join("next"), shelf.join("active")).unwrap();
    }

    /// Serves a socket with `script`, a thread for each connection.
    pub(crate) fn serve(&self, socket: &str, script: impl Fn(Connection) + Send + Sync + 'static) {
        let listener = UnixListener::bind(self.folder.path().join("run").join(socket)).unwrap();
        let script = Arc::new(script);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (connection, script) = (Connection::over(stream.unwrap()), script.clone());
                std::thread::spawn(move || script(connection.unwrap()));
            }
        });
    }

    /// An engine in a slot that holds `name` and answers chats with `chat`.
    pub(crate) fn engine(
        &self,
        slot: &str,
        name: &str,
        chat: impl Fn(&Connection) + Send + Sync + 'static,
    ) {
        let holds = generation(name);
        self.serve(&format!("engined-{slot}.sock"), move |connection| {
            while let Ok(Some(request)) = connection.read::<Request>() {
                match request {
                    Request::Status => connection.write(&status(holds)).unwrap(),
                    Request::Chat(asked) if asked.generation == holds => chat(&connection),
                    Request::Embed { generation, texts } if generation == holds => {
                        let vectors = vec![vec![0.25, -1.0]; texts.expose().len()];
                        let tokens = TokenCount(3);
                        connection.write(&Event::Embeddings { vectors, tokens }).unwrap();
                    }
                    _ => connection.write(&Event::Problem(mismatch())).unwrap(),
                }
            }
        });
    }

    pub(crate) fn corpus(
        &self,
        answer: impl Fn(&corpus::Request) -> Reply<corpus::Answer> + Send + Sync + 'static,
    ) {
        self.serve("corpusd.sock", move |connection| {
            while let Ok(Some(request)) = connection.read::<corpus::Request>() {
                connection.write(&answer(&request)).unwrap();
            }
        });
    }

    pub(crate) fn admin(&self, request: &gateway::Request) -> Reply<gateway::Answer> {
        let socket = self.folder.path().join("run/gatewayd-admin.sock");
        Connection::connect(&socket).unwrap().ask(request).unwrap()
    }

    /// A key of `ada`, who may read what is open.
    pub(crate) fn key(&self) -> String {
        self.key_of("ada")
    }

    pub(crate) fn key_of(&self, principal: &str) -> String {
        let labels = ["open".parse().unwrap()].into();
        let principal = principal.parse().unwrap();
        let request = gateway::Request::CreateKey { principal, labels, value: None };
        match self.admin(&request).unwrap() {
            gateway::Answer::Created { value, .. } => value.expose().clone(),
            other => panic!("no key: {other:?}"),
        }
    }

    /// Sends a request and leaves the answer to be read.
    pub(crate) fn send(&self, key: &str, method: &str, path: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        // HTTP/1.0, so that the answer ends with the connection and is not chunked.
        let head = format!(
            "{method} {path} HTTP/1.0\r\nAuthorization: Bearer {key}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        // A refusal may come before the body is read.
        stream.write_all(body.as_bytes()).unwrap_or_default();
        stream
    }

    pub(crate) fn ask(&self, key: &str, method: &str, path: &str, body: &str) -> Answer {
        Answer::read(self.send(key, method, path, body))
    }

    pub(crate) fn chat(&self, key: &str, body: &Value) -> Answer {
        self.ask(key, "POST", "/v1/chat/completions", &body.to_string())
    }

    /// Everything that the daemon logged so far.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(self.folder.path().join("said")).unwrap()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.gateway.kill().unwrap_or_default();
        self.gateway.wait().unwrap();
    }
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn read(mut stream: TcpStream) -> Self {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap();
        let headers = lines.filter_map(|line| line.split_once(": "));
        Self {
            status: status.parse().unwrap(),
            headers: headers.map(|(k, v)| (k.to_lowercase(), v.to_owned())).collect(),
            body: body.to_owned(),
        }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub(crate) fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap().to_owned()
    }

    /// The events of a stream.
    pub(crate) fn events(&self) -> Vec<&str> {
        self.body.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).collect()
    }
}

pub(crate) fn recorded() -> Reply<record::Answer> {
    Ok(record::Answer::Appended { index: RecordIndex(1), leaf: Digest::of(b"leaf") })
}

pub(crate) fn mismatch() -> Problem {
    Problem::new(cloister_domain::Class::Refused, "engine.generation.mismatch", "another")
}

fn status(generation: GenerationId) -> Event {
    Event::Status(Status {
        generation: Some(generation),
        model: Some("demo".to_owned()),
        embedding_width: Some(2),
        embedding_model: None,
        context: TokenCount(64),
        device: "cpu".to_owned(),
        peak_memory: ByteCount(1),
        running: 0,
    })
}

/// Says a short answer in two pieces.
pub(crate) fn two_words(connection: &Connection) {
    say(connection, ["Good ", "day."]);
}

pub(crate) fn say(connection: &Connection, words: [&str; 2]) {
    connection.write(&Event::Started { prompt_tokens: TokenCount(5) }).unwrap();
    for word in words {
        let text = Sensitive::new(word.to_owned());
        connection.write(&Event::Delta { text }).unwrap();
    }
    connection
        .write(&Event::Finished {
            reason: FinishReason::Stop,
            completion_tokens: TokenCount(2),
            prefill_microseconds: 1,
            decode_microseconds: 1,
        })
        .unwrap();
}

pub(crate) fn hit(text: &str) -> Hit {
    let document = DocumentId(Digest::of(b"document"));
    Hit {
        citation: CitationId { document, start: 3, end: 9 },
        chunk: Digest::of(text.as_bytes()),
        collection: "handbook".to_owned(),
        label: "open".parse().unwrap(),
        name: Sensitive::new("canary-name.md".to_owned()),
        text: Sensitive::new(text.to_owned()),
        score: 0.5,
        words_only: false,
    }
}
