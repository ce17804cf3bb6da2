//! A scratch appliance with a shelf, models by formula, and one engine as a process.

use std::{
    fs,
    io::Read as _,
    os::unix::{fs::symlink, net::UnixDatagram},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use cloister_bundle::{Cut, FileEntry, IndexEntry, Manifest, Release, Requires};
use cloister_daemon::{Connection, clock::Stopwatch};
use cloister_domain::{Digest, GenerationId, Sensitive, SequenceId, TokenCount, TokenId};
use cloister_model::{Decoder, Options};
use cloister_samples::tokenizer;
use cloister_schedule::{Chunk, Forward as _, Wanted};
use cloister_tokenize::{
    Tokenizer,
    template::{Names, Speaker, Template, Turn},
};
use cloister_wire::engine::{Chat, Event, FinishReason, Message, Request, Role, Sampling, Status};
use serde_json::json;

use crate::parity;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/parity");
/// Everything that happens in these tests is far quicker.
const PATIENCE: Duration = Duration::from_secs(60);
const CONFIG: &str = "[engine]\ndevice = \"cpu\"\nthreads = 2\ncontext_tokens_max = 256\n\
                      sequences_max = 4\n";
const CHATML: &str = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] \
    + '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}\
    {% endif %}";

/// Waits for something that happens soon.
pub(crate) fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let since = Stopwatch::start();
    while !happened() {
        assert!(since.elapsed() < PATIENCE, "not yet: {what}");
        std::thread::yield_now();
    }
}

/// A byte-level tokenizer of 256 bytes and the two control tokens of ChatML.
fn byte_tokenizer() -> String {
    tokenizer::byte_level(&[], &["<|im_start|>", "<|im_end|>"]).to_string()
}

/// A WordPiece tokenizer of single letters between `[CLS]` and `[SEP]`.
fn letter_tokenizer() -> String {
    let mut vocabulary = serde_json::Map::new();
    for (id, token) in ["[PAD]", "[UNK]", "[CLS]", "[SEP]"].iter().enumerate() {
        vocabulary.insert((*token).to_owned(), json!(id));
    }
    for letter in 'a'..='z' {
        vocabulary.insert(letter.to_string(), json!(vocabulary.len()));
        vocabulary.insert(format!("##{letter}"), json!(vocabulary.len()));
    }
    let special = |name: &str, id: u32| json!({"id": name, "ids": [id], "tokens": [name]});
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                       "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}},
                       {"Sequence": {"id": "A", "type_id": 0}},
                       {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
            "pair": [],
            "special_tokens": {"[CLS]": special("[CLS]", 2), "[SEP]": special("[SEP]", 3)},
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": vocabulary},
    })
    .to_string()
}

/// A scratch appliance.
pub(crate) struct Bench {
    root: tempfile::TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("state/shelf/slots")).unwrap();
        fs::create_dir_all(root.path().join("state/shelf/generations")).unwrap();
        Self { root }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    pub(crate) fn directory(&self, generation: GenerationId) -> PathBuf {
        self.path("state/shelf/generations").join(generation.to_string())
    }

    /// Puts a generation on the shelf: `one`, `two` (other weights, no embedding), `broken` (a
    /// weight that is no number) or `plain` (no embedding).
    pub(crate) fn generation(&self, name: &str) -> GenerationId {
        let tree = self.path(name);
        fs::create_dir_all(tree.join("model")).unwrap();
        let case = if name == "two" { "llama-tied" } else { "llama3" };
        fill(case, &tree.join("model"));
        // The byte of the fixture's end token may be drawn; here only the template ends an answer.
        let config = tree.join("model/config.json");
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, text.replace("\"eos_token_id\": 2,", "\"eos_token_id\": 300,")).unwrap();
        if name == "broken" {
            let weights = tree.join("model/model.safetensors");
            let mut bytes = fs::read(&weights).unwrap();
            let half = bytes.len() / 2;
            bytes[half..half + 2048].copy_from_slice(&[0xC0, 0x7F].repeat(1024));
            fs::write(&weights, bytes).unwrap();
        }
        fs::write(tree.join("model/tokenizer.json"), byte_tokenizer()).unwrap();
        let template = Template::from_jinja(CHATML, Names::default()).unwrap();
        fs::write(tree.join("model/template.json"), template.to_json()).unwrap();
        if name == "one" {
            fs::create_dir_all(tree.join("embed")).unwrap();
            fill("bert", &tree.join("embed"));
            fs::write(tree.join("embed/tokenizer.json"), letter_tokenizer()).unwrap();
        }
        let manifest = manifest(name, &tree);
        let directory = self.directory(manifest.generation());
        fs::create_dir_all(&directory).unwrap();
        copy(&tree, &directory.join("tree"));
        fs::write(directory.join("manifest.json"), manifest.envelope().to_json()).unwrap();
        manifest.generation()
    }

    /// The digest of a file of a generation.
    pub(crate) fn digest(&self, name: &str, file: &str) -> Digest {
        Digest::of(&fs::read(self.path(name).join(file)).unwrap())
    }

    pub(crate) fn link_slot(&self, generation: GenerationId) {
        let target = Path::new("../generations").join(generation.to_string());
        symlink(target, self.path("state/shelf/slots/a")).unwrap();
    }

    /// An engine that is ready.
    pub(crate) fn start(&self) -> Engine {
        self.start_with(CONFIG)
    }

    pub(crate) fn start_with(&self, config: &str) -> Engine {
        let (state, runtime) = (self.path("state"), self.path("run"));
        let paths = format!("[paths]\nstate = {state:?}\nruntime = {runtime:?}\n");
        fs::write(self.path("config.toml"), format!("{paths}{config}")).unwrap();
        let notify = self.path("notify");
        if notify.exists() {
            fs::remove_file(&notify).unwrap();
        }
        let ready = UnixDatagram::bind(&notify).unwrap();
        ready.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let log = self.path("log");
        let mut process = Command::new(env!("CARGO_BIN_EXE_cloister-engined"))
            .arg("--config")
            .arg(self.path("config.toml"))
            .args(["--slot", "a"])
            .env("NOTIFY_SOCKET", &notify)
            .env_remove("JOURNAL_STREAM")
            .stdin(Stdio::null())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut buffer = [0; 256];
        until("the engine is ready or ended", || {
            ready.recv(&mut buffer).is_ok() || process.try_wait().unwrap().is_some()
        });
        Engine { process, socket: runtime.join("engined-a.sock"), log }
    }

    /// A greedy conversation of one message.
    pub(crate) fn chat(&self, generation: GenerationId, prompt: &str, max_tokens: u32) -> Request {
        Request::Chat(self.chat_of(generation, prompt, max_tokens))
    }

    #[expect(clippy::unused_self, reason = "reads like the others")]
    pub(crate) fn chat_of(&self, generation: GenerationId, prompt: &str, max_tokens: u32) -> Chat {
        let content = Sensitive::new(prompt.to_owned());
        Chat {
            generation,
            principal: "tester".parse().unwrap(),
            messages: vec![Message { role: Role::User, content }],
            max_tokens: TokenCount(max_tokens),
            sampling: Sampling { temperature: 0.0, top_p: 1.0, top_k: 0, seed: 0 },
            stop: Sensitive::new(Vec::new()),
        }
    }

    #[expect(clippy::unused_self, reason = "reads like the others")]
    fn prompt(&self, text: &str) -> Vec<TokenId> {
        let tokenizer = Tokenizer::from_json(&byte_tokenizer()).unwrap();
        let template = Template::from_jinja(CHATML, Names::default()).unwrap();
        let turns = [Turn { speaker: Speaker::User, content: text }];
        template.tokens(&tokenizer, &turns, true, None).unwrap()
    }

    pub(crate) fn prompt_length(&self, text: &str) -> u32 {
        u32::try_from(self.prompt(text).len()).unwrap()
    }

    fn decoder(&self, name: &str) -> Decoder {
        let options = Options { context_tokens_max: TokenCount(256), ..Options::cpu(1) };
        Decoder::load(&self.path(name).join("model"), &options).unwrap()
    }

    /// What the model of a generation writes when it is run by hand, one token after another.
    pub(crate) fn greedy(&self, name: &str, prompt: &str, tokens: u32) -> String {
        let mut decoder = self.decoder(name);
        let sequence = SequenceId(1);
        decoder.open(sequence, TokenCount(256)).unwrap();
        let mut next = self.prompt(prompt);
        let mut drawn: Vec<TokenId> = Vec::new();
        for _token in 0..tokens {
            let chunk = Chunk { sequence, tokens: &next, wanted: Wanted::Last };
            let logits = decoder.forward(&[chunk]).unwrap();
            let row = logits.rows().next().unwrap();
            let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let best = row.iter().position(|logit| *logit >= most).unwrap();
            let best = TokenId(u32::try_from(best).unwrap());
            if best == TokenId(257) || best == TokenId(300) {
                break;
            }
            drawn.push(best);
            next = vec![best];
        }
        Tokenizer::from_json(&byte_tokenizer()).unwrap().decode(&drawn)
    }

    /// The surprise of a text in nats, window by window of 256 tokens, by hand.
    pub(crate) fn surprise(&self, name: &str, text: &str) -> f64 {
        let mut decoder = self.decoder(name);
        let sequence = SequenceId(1);
        let tokens = Tokenizer::from_json(&byte_tokenizer()).unwrap().encode(text);
        let mut nats = 0.0;
        for window in tokens.chunks(256) {
            decoder.open(sequence, TokenCount(256)).unwrap();
            // The fixture's configuration names token 1 as the beginning of a text.
            let before = std::iter::once(&TokenId(1)).chain(window);
            for (input, target) in before.zip(window) {
                let chunk =
                    Chunk { sequence, tokens: std::slice::from_ref(input), wanted: Wanted::Last };
                let logits = decoder.forward(&[chunk]).unwrap();
                let row = logits.rows().next().unwrap();
                let sum: f64 = row.iter().map(|logit| f64::from(*logit).exp()).sum();
                nats += sum.ln() - f64::from(row[target.0 as usize]);
            }
            decoder.close(sequence);
        }
        nats
    }
}

/// Weights and configuration of a parity fixture.
fn fill(case: &str, folder: &Path) {
    parity::filled(&Path::new(FIXTURES).join(case), folder).unwrap();
}

fn files(tree: &Path, below: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(tree.join(below)).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{below}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            files(tree, &format!("{path}/"), found);
        } else {
            found.push(path);
        }
    }
}

fn copy(from: &Path, to: &Path) {
    let mut all = Vec::new();
    files(from, "", &mut all);
    for file in all {
        fs::create_dir_all(to.join(&file).parent().unwrap()).unwrap();
        fs::copy(from.join(&file), to.join(&file)).unwrap();
    }
}

fn manifest(name: &str, tree: &Path) -> Manifest {
    let mut paths = Vec::new();
    files(tree, "", &mut paths);
    paths.sort();
    let entry = |path: &String| {
        let bytes = fs::read(tree.join(path)).unwrap();
        FileEntry {
            path: path.parse().unwrap(),
            size: bytes.len() as u64,
            sha256: Digest::of(&bytes),
        }
    };
    let files: Vec<FileEntry> = paths.iter().map(entry).collect();
    let (chunks, bytes) = (files.len() as u64, files.iter().map(|file| file.size).sum());
    let cut = Cut { algorithm: "none".to_owned(), min_bytes: 1, avg_bytes: 1, max_bytes: 1 };
    Manifest::new(Release {
        name: name.to_owned(),
        version: "1".to_owned(),
        release_counter: 1,
        min_release_counter: 1,
        files,
        index: IndexEntry {
            sha256: Digest::of(b"index"),
            length: 32 + 104 * chunks,
            chunks,
            plain_bytes: bytes,
            stored_bytes: bytes,
            cut,
        },
        requires: Requires::default(),
        licences: vec!["CC0-1.0".to_owned()],
        attestations: Vec::new(),
        base: None,
    })
    .unwrap()
}

/// An engine's process; killed when dropped.
pub(crate) struct Engine {
    process: Child,
    socket: PathBuf,
    log: PathBuf,
}

/// How a process ended and what it logged.
pub(crate) struct Ended {
    pub(crate) success: bool,
    pub(crate) log: String,
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Both fail when it has ended already, which is the aim.
        self.process.kill().unwrap_or_default();
        self.process.wait().map(drop).unwrap_or_default();
    }
}

impl Engine {
    pub(crate) fn connect(&self) -> Connection {
        let connection = Connection::connect(&self.socket).unwrap();
        connection.set_timeout(Some(PATIENCE));
        connection
    }

    /// All events up to the last one.
    pub(crate) fn rest(connection: &Connection) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            let event: Event = match connection.read() {
                Ok(event) => event.unwrap(),
                Err(cloister_daemon::FrameError::TurnedAway(problem)) => Event::Problem(problem),
                Err(error) => panic!("no event: {error}"),
            };
            let goes_on = matches!(event, Event::Started { .. } | Event::Delta { .. });
            events.push(event);
            if !goes_on {
                return events;
            }
        }
    }

    /// Asks on a connection of its own.
    pub(crate) fn ask(&self, request: &Request) -> Vec<Event> {
        let connection = self.connect();
        connection.write(request).unwrap();
        Self::rest(&connection)
    }

    pub(crate) fn status(&self) -> Status {
        match self.ask(&Request::Status).remove(0) {
            Event::Status(status) => status,
            other => panic!("no status: {other:?}"),
        }
    }

    /// Loads a generation of the bench's shelf, or gives the code of the refusal.
    pub(crate) fn load(
        &self,
        generation: GenerationId,
        full_check: bool,
    ) -> Result<Status, String> {
        let shelf = self.socket.parent().unwrap().parent().unwrap().join("state/shelf/generations");
        let directory = shelf.join(generation.to_string());
        match self.ask(&Request::Load { generation, directory, full_check }).remove(0) {
            Event::Loaded { status, .. } => Ok(status),
            Event::Problem(problem) => Err(problem.code),
            other => panic!("neither loaded nor refused: {other:?}"),
        }
    }

    /// Asks the process to stop (SIGTERM) and waits for it.
    pub(crate) fn stop(self) -> Ended {
        // The shell's own `kill`: the program is not on every machine.
        let kill = format!("kill {}", self.process.id());
        assert!(Command::new("/bin/sh").args(["-c", &kill]).status().unwrap().success());
        self.wait()
    }

    /// Waits until the process ends by itself.
    pub(crate) fn wait(mut self) -> Ended {
        let mut status = None;
        until("the engine ended", || {
            status = self.process.try_wait().unwrap();
            status.is_some()
        });
        let mut log = String::new();
        fs::File::open(&self.log).unwrap().read_to_string(&mut log).unwrap();
        Ended { success: status.unwrap().success(), log }
    }
}

/// A complete answer.
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) prompt_tokens: u32,
    pub(crate) tokens: u32,
    pub(crate) reason: FinishReason,
}

/// The answer that a stream of events tells.
pub(crate) fn answer(events: &[Event]) -> Answer {
    let [
        Event::Started { prompt_tokens },
        deltas @ ..,
        Event::Finished { reason, completion_tokens, .. },
    ] = events
    else {
        panic!("no complete answer: {events:?}")
    };
    let delta = |event: &Event| match event {
        Event::Delta { text } => text.expose().clone(),
        other => panic!("not in the middle: {other:?}"),
    };
    let text = deltas.iter().map(delta).collect();
    let (prompt_tokens, tokens) = (prompt_tokens.0, completion_tokens.0);
    Answer { text, prompt_tokens, tokens, reason: *reason }
}

/// The code of the problem that ends a stream of events.
pub(crate) fn problem(events: &[Event]) -> String {
    match events.last() {
        Some(Event::Problem(problem)) => problem.code.clone(),
        other => panic!("no problem: {other:?}"),
    }
}
