//! A facility for the demo and the tests: persons with keys, a connected side that mints, and an
//! appliance in a scratch root, driven by the real programs as people would.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{Options, Stage, programs};

/// Name of the demo's releases.
pub const RELEASE: &str = "cloister-demo";
/// The persons whose signatures approve.
pub const APPROVERS: [&str; 2] = ["ada", "bob"];

/// What a command of the operator came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The exit code.
    pub exit: i32,
    /// The JSON objects that it printed, one a line.
    pub said: Vec<Value>,
}

impl Outcome {
    /// The last object, where the command did what it was asked.
    ///
    /// # Errors
    /// Names the problem's code otherwise.
    pub fn done(&self) -> Result<&Value> {
        if self.exit != 0 {
            bail!(
                "refused: {} ({})",
                self.code(),
                self.said.last().map_or("", |_| "see its message")
            );
        }
        self.said.last().context("the command said nothing")
    }

    /// What a verified head said of its release.
    ///
    /// # Errors
    /// When no head was verified.
    pub fn seen(&self) -> Result<&Value> {
        self.said.iter().find_map(|value| value.get("seen")).context("no head was verified")
    }

    /// The code of the problem; empty where there is none.
    #[must_use]
    pub fn code(&self) -> &str {
        self.said
            .iter()
            .find_map(|value| {
                let direct = value.pointer("/problem/code");
                direct.and_then(Value::as_str)
            })
            .unwrap_or("")
    }

    /// Whether it was refused with this code.
    #[must_use]
    pub fn is_refused_with(&self, code: &str) -> bool {
        self.exit != 0 && self.code() == code
    }
}

/// Who holds the roles of a root, each by the name of their key file.
#[derive(Clone, Debug)]
pub struct Holders {
    /// The officers.
    pub officers: Vec<String>,
    /// How many of them must sign.
    pub threshold: u64,
    /// Who makes releases.
    pub publisher: String,
    /// Who approve them.
    pub approvers: Vec<String>,
}

impl Holders {
    /// `officer-1` to `officer-COUNT`, of whom `threshold` must sign, and `publisher`.
    #[must_use]
    pub fn officers(count: u64, threshold: u64) -> Self {
        let officers = (1..=count).map(|number| format!("officer-{number}")).collect();
        let approvers = APPROVERS.map(str::to_owned).to_vec();
        Self { officers, threshold, publisher: "publisher".to_owned(), approvers }
    }
}

/// A facility with its appliance.
#[derive(Debug)]
pub struct Facility {
    home: PathBuf,
    /// The appliance.
    pub stage: Stage,
}

impl Facility {
    /// Makes persons' keys, the trust root (two of three officers) and the publisher's delegation under
    /// `home`, and lays out an appliance beside them. Nothing runs yet.
    ///
    /// # Errors
    /// When a program fails; its words are in the error.
    pub fn found(home: &Path, options: &Options) -> Result<Self> {
        Self::found_by(home, options, &Holders::officers(3, 2))
    }

    /// As [`Facility::found`], with other officers.
    ///
    /// # Errors
    /// When a program fails; its words are in the error.
    pub fn found_by(home: &Path, options: &Options, holders: &Holders) -> Result<Self> {
        fs::create_dir_all(home.join("keys"))?;
        let stage = Stage::create(&home.join("appliance"), options)?;
        let facility = Self { home: home.to_owned(), stage };
        let officers = holders.officers.iter().map(String::as_str);
        let others = ["importer", holders.publisher.as_str(), "stranger"];
        for person in officers.chain(others).chain(APPROVERS) {
            facility.make_key(person, person)?;
        }
        let signers = holders.officers.iter().take(usize::try_from(holders.threshold)?);
        let mut words = facility.root_words("create", holders)?;
        words.extend(["--trust".to_owned(), text(&facility.trust())?]);
        for officer in signers {
            words.extend(["--sign".to_owned(), text(&facility.key(officer))?]);
        }
        facility.mint(&words.iter().map(String::as_str).collect::<Vec<_>>())?;
        facility.delegate(&holders.publisher)?;
        Ok(facility)
    }

    /// Makes a key file called `name` for `person`.
    ///
    /// # Errors
    /// When it is there already.
    pub fn make_key(&self, name: &str, person: &str) -> Result<()> {
        let out = self.key(name);
        self.mint(&["key", "create", "--person", person, "--out", path_text(&out)?])?;
        Ok(())
    }

    fn root_words(&self, verb: &str, holders: &Holders) -> Result<Vec<String>> {
        let mut words = vec!["root".to_owned(), verb.to_owned()];
        let mut add = |flag: &str, value: String| words.extend([flag.to_owned(), value]);
        for officer in &holders.officers {
            add("--root", self.holder(officer)?);
        }
        add("--threshold", holders.threshold.to_string());
        add("--importer", self.holder("importer")?);
        for approver in &holders.approvers {
            add("--approver", self.holder(approver)?);
        }
        add("--publisher", self.holder(&holders.publisher)?);
        Ok(words)
    }

    /// Drafts the root that follows, and has each of `signers` sign a copy alone; the copies.
    ///
    /// # Errors
    /// When mint fails.
    pub fn sign_apart(&self, holders: &Holders, signers: &[&str]) -> Result<Vec<PathBuf>> {
        let (trust, room) = (self.trust(), self.home.join("ceremony"));
        fs::create_dir_all(&room)?;
        let draft = text(&room.join("draft.json"))?;
        let mut words = self.root_words("draft", holders)?;
        words.extend(["--trust".to_owned(), text(&trust)?, "--out".to_owned(), draft.clone()]);
        let said = self.mint(&words.iter().map(String::as_str).collect::<Vec<_>>())?;
        let digest = said.lines().find_map(|line| line.strip_prefix("digest"));
        let digest = digest.context("mint told no digest")?.trim();
        let newest = (1..).map(|version| trust.join(format!("{version}.root.json")));
        let newest = newest.take_while(|path| path.exists()).last().context("no root yet")?;
        let sign = |signer: &&str| {
            let out = room.join(format!("{signer}.json"));
            let (key, out_text, newest) = (text(&self.key(signer))?, text(&out)?, text(&newest)?);
            self.mint(&[
                "root",
                "sign",
                &draft,
                "--confirm",
                digest,
                "--key",
                &key,
                "--out",
                &out_text,
                "--previous",
                &newest,
            ])?;
            Ok(out)
        };
        signers.iter().map(sign).collect()
    }

    /// Joins what officers signed apart and writes the root that follows.
    ///
    /// # Errors
    /// When too few have signed.
    pub fn finish_root(&self, copies: &[PathBuf]) -> Result<()> {
        let transcript = text(&self.home.join("ceremony/transcript.txt"))?;
        let trust = text(&self.trust())?;
        let mut words = vec!["root", "finish", "--trust", &trust, "--transcript", &transcript];
        words.extend(copies.iter().map(|copy| path_text(copy)).collect::<Result<Vec<_>>>()?);
        self.mint(&words)?;
        Ok(())
    }

    /// As the importer: lets the key called `publisher`, and no other, make the demo's releases.
    ///
    /// # Errors
    /// When mint fails.
    pub fn delegate(&self, publisher: &str) -> Result<()> {
        self.mint(&[
            "delegate",
            "--trust",
            path_text(&self.trust())?,
            "--key",
            path_text(&self.key("importer"))?,
            "--publisher",
            &self.holder(publisher)?,
            "--path",
            &format!("{RELEASE}/*"),
        ])?;
        Ok(())
    }

    /// As the importer: takes back the key called `publisher` and everything that it signed.
    ///
    /// # Errors
    /// When mint fails.
    pub fn revoke_publisher(&self, publisher: &str) -> Result<()> {
        self.mint(&[
            "revoke",
            "--trust",
            path_text(&self.trust())?,
            "--key",
            path_text(&self.key("importer"))?,
            "--publisher",
            &self.holder(publisher)?,
        ])?;
        Ok(())
    }

    /// The key file of a person.
    #[must_use]
    pub fn key(&self, person: &str) -> PathBuf {
        self.home.join("keys").join(format!("{person}.key"))
    }

    /// The trust folder of the connected side.
    #[must_use]
    pub fn trust(&self) -> PathBuf {
        self.home.join("trust")
    }

    /// The first root file, which reaches the appliance by another way than the stick.
    #[must_use]
    pub fn root_file(&self) -> PathBuf {
        self.trust().join("1.root.json")
    }

    /// The folder of everything.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// `PERSON=PUBLICKEY`, as mint prints it.
    fn holder(&self, person: &str) -> Result<String> {
        Ok(self.mint(&["key", "show", path_text(&self.key(person))?])?.trim().to_owned())
    }

    /// Runs `cloister-mint`.
    ///
    /// # Errors
    /// Its own words, when it fails.
    pub fn mint(&self, words: &[&str]) -> Result<String> {
        let output = Command::new(programs()?.join("cloister-mint"))
            .args(words)
            .stdin(Stdio::null())
            .output()
            .context("starting cloister-mint")?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr).trim_end());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Signs `tree` as the publisher and admits the volume as the importer.
    ///
    /// # Errors
    /// When mint fails.
    pub fn publish(&self, tree: &Path, version: &str, counter: u64) -> Result<PathBuf> {
        self.publish_as("publisher", tree, version, counter)
    }

    /// As [`Facility::publish`], with the publisher's key called `key`.
    ///
    /// # Errors
    /// When mint fails.
    pub fn publish_as(
        &self,
        key: &str,
        tree: &Path,
        version: &str,
        counter: u64,
    ) -> Result<PathBuf> {
        let volume = self.sign(key, tree, version, counter)?;
        self.mint(&[
            "admit",
            "--trust",
            path_text(&self.trust())?,
            "--key",
            path_text(&self.key("importer"))?,
            path_text(&volume)?,
        ])?;
        Ok(volume)
    }

    /// As [`Facility::publish`], with more words for `cloister-mint build`.
    ///
    /// # Errors
    /// When mint fails.
    pub fn publish_with(
        &self,
        tree: &Path,
        version: &str,
        counter: u64,
        more: &[&str],
    ) -> Result<Vec<PathBuf>> {
        let volumes = self.sign_with("publisher", tree, version, counter, more)?;
        let (trust, key) = (self.trust(), self.key("importer"));
        let mut words = vec!["admit", "--trust", path_text(&trust)?, "--key", path_text(&key)?];
        for volume in &volumes {
            words.push(path_text(volume)?);
        }
        self.mint(&words)?;
        Ok(volumes)
    }

    /// Signs `tree` as `person`; nobody has admitted the volume yet.
    ///
    /// # Errors
    /// When mint fails or makes no volume.
    pub fn sign(&self, person: &str, tree: &Path, version: &str, counter: u64) -> Result<PathBuf> {
        let volumes = self.sign_with(person, tree, version, counter, &[])?;
        volumes.into_iter().next().context("mint named no volume")
    }

    fn sign_with(
        &self,
        person: &str,
        tree: &Path,
        version: &str,
        counter: u64,
        more: &[&str],
    ) -> Result<Vec<PathBuf>> {
        let out = self.home.join("volumes").join(format!("{version}-{person}"));
        let number = counter.to_string();
        let key = self.key(person);
        let mut words = vec![
            "build",
            path_text(tree)?,
            "--name",
            RELEASE,
            "--version",
            version,
            "--counter",
            &number,
            "--licence",
            "Apache-2.0 OR MIT",
            "--key",
            path_text(&key)?,
            "--out",
            path_text(&out)?,
        ];
        words.extend_from_slice(more);
        let said = self.mint(&words)?;
        let lines = said.lines().filter_map(|line| line.strip_prefix("volume"));
        Ok(lines.map(|line| PathBuf::from(line.trim())).collect())
    }

    /// Runs `cloister --json` with `words`.
    ///
    /// # Errors
    /// When it cannot be started or prints something that is no JSON.
    pub fn cloister(&self, words: &[&str]) -> Result<Outcome> {
        let output = Command::new(programs()?.join("cloister"))
            .arg("--config")
            .arg(self.stage.config_path())
            .arg("--json")
            .args(words)
            .stdin(Stdio::null())
            .output()
            .context("starting cloister")?;
        let said = String::from_utf8(output.stdout)?
            .lines()
            .map(|line| serde_json::from_str(line).context("cloister --json printed no JSON"))
            .collect::<Result<Vec<Value>>>()?;
        Ok(Outcome { exit: output.status.code().unwrap_or(-1), said })
    }

    /// Starts `cloister` with `words` and does not wait for it; nobody reads what it says.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn begin(&self, words: &[&str]) -> Result<Child> {
        Command::new(programs()?.join("cloister"))
            .arg("--config")
            .arg(self.stage.config_path())
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting cloister")
    }

    /// What the shelf's pointer to the active generation says.
    ///
    /// # Errors
    /// When nothing is active.
    pub fn active(&self) -> Result<PathBuf> {
        let pointer = self.stage.config().paths.shelf().join("active");
        fs::read_link(pointer).context("nothing is active")
    }

    /// Enrols the trust root with its digest confirmed; the answer with the digest's words.
    ///
    /// # Errors
    /// When it is refused.
    pub fn enrol(&self) -> Result<Value> {
        let file = self.root_file();
        let shown = self.cloister(&["enrol", path_text(&file)?])?;
        let shown = shown.done()?;
        let digest = shown["root"].as_str().context("no digest")?;
        let enrolled = self.cloister(&["enrol", path_text(&file)?, "--confirm", digest])?;
        let mut enrolled = enrolled.done()?.clone();
        let fields = enrolled.as_object_mut().context("the answer is no object")?;
        fields.insert("words".to_owned(), shown["words"].clone());
        Ok(enrolled)
    }

    /// Imports a volume or stick; the last object is the import.
    ///
    /// # Errors
    /// When the program cannot be run; a refusal is an outcome.
    pub fn import(&self, path: &Path) -> Result<Outcome> {
        self.cloister(&["import", path_text(path)?])
    }

    /// Both approvers sign.
    ///
    /// # Errors
    /// When one is refused.
    pub fn approve(&self, import: &str) -> Result<()> {
        for person in APPROVERS {
            self.approve_as(person, import)?.done()?;
        }
        Ok(())
    }

    /// One person signs.
    ///
    /// # Errors
    /// When the program cannot be run; a refusal is an outcome.
    pub fn approve_as(&self, person: &str, import: &str) -> Result<Outcome> {
        self.cloister(&["approve", import, "--key", path_text(&self.key(person))?])
    }

    /// Imports, approves and activates; returns the import's number.
    ///
    /// # Errors
    /// When any step is refused.
    pub fn promote(&self, volume: &Path) -> Result<String> {
        let import = import_number(self.import(volume)?.done()?)?;
        self.approve(&import)?;
        self.cloister(&["activate", &import])?.done()?;
        Ok(import)
    }

    /// Makes an API key and returns the file that holds it.
    ///
    /// # Errors
    /// When it is refused.
    pub fn api_key(&self, principal: &str, labels: &[&str]) -> Result<PathBuf> {
        let file = self.home.join("keys").join(format!("{principal}.api"));
        let mut words = vec!["key", "create", "--principal", principal, "--out", path_text(&file)?];
        for label in labels {
            words.extend(["--label", label]);
        }
        self.cloister(&words)?.done()?;
        Ok(file)
    }

    /// The API's address, as the gateway tells it.
    ///
    /// # Errors
    /// When the gateway does not answer.
    pub fn address(&self) -> Result<String> {
        use cloister_wire::gateway::{Answer, Request};
        let socket = self.stage.socket(crate::Unit::Gatewayd);
        let reply: cloister_wire::Reply<Answer> = crate::ask(&socket, &Request::Address)?;
        match reply? {
            Answer::Address(address) => Ok(address),
            other => bail!("gatewayd answered with something else: {other:?}"),
        }
    }
}

/// The number of an import in what `cloister import --json` printed last.
///
/// # Errors
/// When there is none.
pub fn import_number(said: &Value) -> Result<String> {
    Ok(said["import"].as_u64().context("no import number")?.to_string())
}

fn path_text(path: &Path) -> Result<&str> {
    path.to_str().context("a path is not UTF-8")
}

fn text(path: &Path) -> Result<String> {
    Ok(path_text(path)?.to_owned())
}
