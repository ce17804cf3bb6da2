//! What the flow tests share: a facility in a temporary folder, brought to a known point.
#![expect(clippy::missing_errors_doc, reason = "a test helper fails with what the programs said")]

mod verifiers;

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result};
use cloister_stage::{
    Options, Stage, Unit, ask,
    facility::{Facility, Outcome, import_number},
    outside,
    release::{Recipe, add_fresh_bytes, checkout},
};
use cloister_wire::{
    Reply,
    record::{Answer, Request},
};
use serde_json::Value;

/// A facility that is gone when the test ends.
#[derive(Debug)]
pub struct Scene {
    /// The persons, the connected side and the appliance.
    pub facility: Facility,
    folder: tempfile::TempDir,
}

impl Scene {
    /// An appliance that runs and has enrolled the root.
    pub fn enrolled() -> Result<Self> {
        Self::with(&Options::default())
    }

    /// As [`Scene::enrolled`], with options.
    pub fn with(options: &Options) -> Result<Self> {
        let scene = Self::new(options)?;
        scene.facility.enrol()?;
        Ok(scene)
    }

    /// An appliance that runs and trusts nobody yet.
    pub fn new(options: &Options) -> Result<Self> {
        // The path of a Unix socket has 107 bytes at most, so the folder is short.
        let folder = tempfile::Builder::new().prefix("cl-").tempdir_in("/tmp")?;
        let mut facility = Facility::found(folder.path(), options)?;
        facility.stage.start()?;
        Ok(Self { facility, folder })
    }

    /// As [`Scene::enrolled`], with the demo's first release active.
    pub fn serving() -> Result<Self> {
        let scene = Self::enrolled()?;
        scene.promote("v1", "1.0.0", 1)?;
        Ok(scene)
    }

    /// The temporary folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The release tree of the demo with the documents of `documents`, words alone.
    pub fn tree(&self, documents: &str) -> Result<PathBuf> {
        Recipe::demo(documents, None).lay_out(&self.facility, documents)
    }

    /// A volume of that tree.
    pub fn volume(&self, documents: &str, version: &str, counter: u64) -> Result<PathBuf> {
        self.facility.publish(&self.tree(documents)?, version, counter)
    }

    /// As [`Scene::volume`] of `v2`, with bytes at its end that no other volume holds.
    pub fn fresh_volume(&self, version: &str, counter: u64) -> Result<PathBuf> {
        let tree = Recipe::demo("v2", None).lay_out(&self.facility, "fresh")?;
        add_fresh_bytes(&tree)?;
        self.facility.publish(&tree, version, counter)
    }

    /// Brings a volume of the demo all the way to active.
    pub fn promote(&self, documents: &str, version: &str, counter: u64) -> Result<String> {
        self.facility.promote(&self.volume(documents, version, counter)?)
    }

    /// Imports a volume that must pass; its import number.
    pub fn import(&self, volume: &Path) -> Result<String> {
        import_number(self.facility.import(volume)?.done()?)
    }

    /// The generation that is active, if any.
    pub fn active(&self) -> Option<String> {
        let link = self.stage().config().paths.shelf().join("active");
        Some(std::fs::read_link(link).ok()?.file_name()?.to_str()?.to_owned())
    }

    /// The appliance.
    pub fn stage(&self) -> &Stage {
        &self.facility.stage
    }

    /// The statements of every record, oldest first.
    pub fn records(&self) -> Result<Vec<Value>> {
        use base64::Engine as _;
        let socket = self.stage().socket(Unit::Recordd);
        let mut statements: Vec<Value> = Vec::new();
        loop {
            let from = cloister_domain::RecordIndex(statements.len() as u64);
            let reply: Reply<Answer> = ask(&socket, &Request::Read { from, count: 100 })?;
            let Answer::Entries(entries) = reply? else { anyhow::bail!("not entries") };
            if entries.is_empty() {
                return Ok(statements);
            }
            for envelope in entries {
                let envelope: Value = serde_json::from_str(&envelope)?;
                let payload = envelope["payload"].as_str().context("no payload")?;
                let payload = base64::prelude::BASE64_STANDARD.decode(payload)?;
                statements.push(serde_json::from_slice(&payload)?);
            }
        }
    }

    /// The last part of each record's predicate type: `import-accepted`, `approval`, …
    pub fn events(&self) -> Result<Vec<String>> {
        let kind = |record: &Value| {
            let uri = record["predicateType"].as_str().unwrap_or_default();
            uri.trim_end_matches("/v1").rsplit('/').next().unwrap_or_default().to_owned()
        };
        Ok(self.records()?.iter().map(kind).collect())
    }

    /// The newest record of an event.
    pub fn last_record(&self, event: &str) -> Result<Value> {
        let events = self.events()?;
        let place = events
            .iter()
            .rposition(|found| found == event)
            .with_context(|| format!("no {event} in {events:?}"))?;
        Ok(self.records()?.swap_remove(place))
    }

    /// A client with a key of `principal` for `labels`.
    pub fn client(&self, principal: &str, labels: &[&str]) -> Result<Client> {
        let key = self.facility.api_key(principal, labels)?;
        let base = format!("http://{}/v1", self.facility.address()?);
        Ok(Client { python: outside::python()?, base, key })
    }

    /// Waits until the appliance answers again after its daemons were killed.
    pub fn settle(&self) -> Result<Value> {
        for _try in 0..300 {
            let status = self.facility.cloister(&["status"])?;
            if let Ok(said) = status.done() {
                return Ok(said.clone());
            }
            std::thread::park_timeout(std::time::Duration::from_millis(100));
        }
        anyhow::bail!("the appliance did not come back")
    }
}

/// Refused with this code, and not otherwise.
pub fn assert_refused(outcome: &Outcome, code: &str) {
    assert!(outcome.is_refused_with(code), "expected {code}, got {outcome:?}");
}

/// The official `openai` package with one key.
#[derive(Debug)]
pub struct Client {
    python: PathBuf,
    base: String,
    key: PathBuf,
}

/// A client that asks without pause.
#[derive(Debug)]
pub struct Asking {
    child: Child,
}

impl Client {
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.python);
        command
            .arg(checkout().join("tests/clients/openai_client.py"))
            .arg(&self.base)
            .arg(&self.key)
            .args(words);
        command
    }

    /// One action; its JSON object, whether it was answered or refused.
    pub fn act(&self, words: &[&str]) -> Result<Value> {
        let output = self.command(words).stdin(Stdio::null()).output()?;
        let text = String::from_utf8(output.stdout)?;
        let line = text.lines().last().with_context(|| {
            format!("the client said nothing: {}", String::from_utf8_lossy(&output.stderr))
        })?;
        Ok(serde_json::from_str(line)?)
    }

    /// A grounded question.
    pub fn ask(&self, question: &str) -> Result<Value> {
        self.act(&["ask", question])
    }

    /// Begins to ask the same question without pause; returns after the first answer.
    pub fn keep_asking(&self, question: &str) -> Result<Asking> {
        let child = self
            .command(&["loop", question])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        Ok(Asking { child })
    }
}

impl Asking {
    /// Stops asking and gives every answer.
    pub fn answers(mut self) -> Result<Vec<Value>> {
        let mut stdin = self.child.stdin.take().expect("piped");
        stdin.flush()?;
        drop(stdin);
        let stdout = self.child.stdout.take().expect("piped");
        let lines = BufReader::new(stdout).lines().collect::<std::io::Result<Vec<String>>>()?;
        let output = self.child.wait_with_output()?;
        anyhow::ensure!(
            output.status.success(),
            "a request failed: {} {}",
            lines.last().map_or("", String::as_str),
            String::from_utf8_lossy(&output.stderr)
        );
        lines.iter().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }
}
