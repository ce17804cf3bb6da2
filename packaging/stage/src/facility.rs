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

/// A facility with its appliance.
#[derive(Debug)]
pub struct Facility {
    home: PathBuf,
    /// The appliance.
    pub stage: Stage,
}

impl Facility {
    /// Makes persons' keys, the trust root and the publisher's delegation under `home`, and lays
    /// out an appliance beside them. Nothing runs yet.
    ///
    /// # Errors
    /// When a program fails; its words are in the error.
    pub fn found(home: &Path, options: &Options) -> Result<Self> {
        fs::create_dir_all(home.join("keys"))?;
        let stage = Stage::create(&home.join("appliance"), options)?;
        let facility = Self { home: home.to_owned(), stage };
        let persons = ["officer-1", "officer-2", "officer-3", "importer", "publisher", "stranger"];
        for person in persons.into_iter().chain(APPROVERS) {
            let out = facility.key(person);
            facility.mint(&["key", "create", "--person", person, "--out", path_text(&out)?])?;
        }
        facility.make_root()?;
        Ok(facility)
    }

    fn make_root(&self) -> Result<()> {
        let trust = self.trust();
        let mut words =
            vec!["root".to_owned(), "create".to_owned(), "--trust".to_owned(), text(&trust)?];
        let mut add = |flag: &str, value: String| words.extend([flag.to_owned(), value]);
        for officer in ["officer-1", "officer-2", "officer-3"] {
            add("--root", self.holder(officer)?);
        }
        add("--importer", self.holder("importer")?);
        for approver in APPROVERS {
            add("--approver", self.holder(approver)?);
        }
        add("--publisher", self.holder("publisher")?);
        for officer in ["officer-1", "officer-2"] {
            add("--sign", text(&self.key(officer))?);
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.mint(&words)?;
        let covered = format!("{RELEASE}/*");
        self.mint(&[
            "delegate",
            "--trust",
            path_text(&trust)?,
            "--key",
            path_text(&self.key("importer"))?,
            "--publisher",
            &self.holder("publisher")?,
            "--path",
            &covered,
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
        let volume = self.sign("publisher", tree, version, counter)?;
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

    /// Signs `tree` as `person`; nobody has admitted the volume yet.
    ///
    /// # Errors
    /// When mint fails or makes no volume.
    pub fn sign(&self, person: &str, tree: &Path, version: &str, counter: u64) -> Result<PathBuf> {
        let out = self.home.join("volumes").join(format!("{version}-{person}"));
        let said = self.mint(&[
            "build",
            path_text(tree)?,
            "--name",
            RELEASE,
            "--version",
            version,
            "--counter",
            &counter.to_string(),
            "--licence",
            "Apache-2.0 OR MIT",
            "--key",
            path_text(&self.key(person))?,
            "--out",
            path_text(&out)?,
        ])?;
        let line = said.lines().find_map(|line| line.strip_prefix("volume"));
        Ok(PathBuf::from(line.context("mint named no volume")?.trim()))
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
