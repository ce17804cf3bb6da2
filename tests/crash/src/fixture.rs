//! A facility with four releases, and the states of its appliance from which acts begin. Made once by
//! the real daemons, each act by the operator's command.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use cloister_stage::{
    Dice, Options,
    facility::{Facility, Outcome},
};

use crate::{
    appliance::{Appliance, Run, copy},
    log::{Signer, digests, read_log},
    tree::OnDisk,
};

/// A state from which acts begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Base {
    /// Nothing is there yet.
    Bare,
    /// A trust root is enrolled.
    Enrolled,
    /// The first release is active.
    First,
    /// The first of the second release's two volumes came in.
    Parked,
    /// The second release waits for approvals.
    Awaiting,
    /// One person approved it.
    Half,
    /// One person approved it, and it runs as a shadow.
    Shadow,
    /// It is approved.
    Approved,
    /// It is approved, and answers some people.
    Canary,
    /// It is active.
    Second,
    /// It is active, and a bit of its model was flipped on the disk.
    Damaged,
    /// It is active, and the database is gone.
    Lost,
    /// The third release is active, and the first is pinned.
    Pinned,
    /// The fourth is active, which puts the floor above the third; one person allowed to return to that.
    HalfAllowed,
    /// Two persons did.
    Allowed,
}

impl Base {
    const fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Enrolled => "enrolled",
            Self::First => "first",
            Self::Parked => "parked",
            Self::Awaiting => "awaiting",
            Self::Half => "half",
            Self::Shadow => "shadow",
            Self::Approved => "approved",
            Self::Canary => "canary",
            Self::Second => "second",
            Self::Damaged => "damaged",
            Self::Lost => "lost",
            Self::Pinned => "pinned",
            Self::HalfAllowed => "half-allowed",
            Self::Allowed => "allowed",
        }
    }
}

/// A facility and its states.
#[derive(Debug)]
pub(crate) struct Fixture {
    home: PathBuf,
    facility: Facility,
    /// The digest of the root as officers compare it.
    root: String,
    /// The volumes of each release.
    volumes: Vec<Vec<PathBuf>>,
    /// Each release's name on the shelf.
    generations: Vec<String>,
    /// The object that is damaged in [`Base::Damaged`].
    damaged: String,
    /// A stick that takes something back and brings no release.
    stick: PathBuf,
    /// How often trust was changed when the second release was active.
    updates: usize,
    /// The log of each state, by the digests of its entries.
    logs: BTreeMap<Base, Vec<String>>,
}

impl Fixture {
    /// Makes it below `home`.
    ///
    /// # Errors
    /// When an act fails, which no crash has disturbed.
    pub(crate) fn make(home: &Path) -> Result<Self> {
        let facility = Facility::found(&home.join("facility"), &Options::default())?;
        let mut volumes = Vec::new();
        for number in 1..=4u64 {
            let tree = lay_out(&home.join("trees"), number, 320_000)?;
            let version = format!("{number}.0.0");
            let more: &[&str] = match number {
                2 => &["--volume-bytes", "200000"],
                4 => &["--min-counter", "4"],
                _ => &[],
            };
            volumes.push(facility.publish_with(&tree, &version, number, more)?);
        }
        ensure!(volumes[1].len() == 2, "the second release has {} volumes", volumes[1].len());
        let (home, stick) = (home.to_owned(), home.join("word.clb"));
        let (trust, key) = (text(&facility.trust())?, text(&facility.key("importer"))?);
        let words = ["revoke", "--trust", &trust, "--key", &key, "--alone", &text(&stick)?];
        facility.mint(&[&words[..], &["--below", "cloister-other=3"]].concat())?;
        let (root, generations, damaged) = (String::new(), Vec::new(), String::new());
        let mut fixture = Self {
            home,
            facility,
            root,
            volumes,
            generations,
            damaged,
            stick,
            updates: 0,
            logs: BTreeMap::new(),
        };
        fixture.play()?;
        Ok(fixture)
    }

    /// The folder with the state of `base`.
    pub(crate) fn base(&self, base: Base) -> PathBuf {
        self.home.join("bases").join(base.name())
    }

    /// The log in the state of `base`, by the digests of its entries.
    pub(crate) fn log(&self, base: Base) -> &[String] {
        self.logs.get(&base).map_or(&[], Vec::as_slice)
    }

    /// The file that is enrolled.
    pub(crate) fn root_file(&self) -> PathBuf {
        self.facility.root_file()
    }

    /// Its digest.
    pub(crate) fn root_digest(&self) -> &str {
        &self.root
    }

    /// A volume of a release, both counted from 1.
    pub(crate) fn volume(&self, release: usize, volume: usize) -> &Path {
        &self.volumes[release - 1][volume - 1]
    }

    /// The folder that holds all volumes of a release.
    pub(crate) fn volumes(&self, release: usize) -> &Path {
        let volume = self.volume(release, 1);
        volume.parent().unwrap_or(volume)
    }

    /// What a release is called on the shelf.
    pub(crate) fn generation(&self, release: usize) -> &str {
        &self.generations[release - 1]
    }

    /// The object that is damaged in [`Base::Damaged`].
    pub(crate) fn damaged(&self) -> &str {
        &self.damaged
    }

    /// A stick that takes something back and brings no release.
    pub(crate) fn stick(&self) -> &Path {
        &self.stick
    }

    /// How often trust was changed when the second release was active.
    pub(crate) const fn updates(&self) -> usize {
        self.updates
    }

    /// The key of a person.
    pub(crate) fn key(&self, person: &str) -> PathBuf {
        self.facility.key(person)
    }

    fn play(&mut self) -> Result<()> {
        let place = self.home.join("making");
        let mut appliance = Appliance::lay_out(&place, &place.join("state"))?;
        self.keep(Base::Bare, &mut appliance)?;
        let root = text(&self.root_file())?;
        let shown = appliance.cloister(&["enrol", &root])?;
        self.root = shown.done()?["root"].as_str().context("no digest")?.to_owned();
        done(appliance.cloister(&["enrol", &root, "--confirm", &self.root]))?;
        self.keep(Base::Enrolled, &mut appliance)?;
        self.promote(&appliance, 1)?;
        self.keep(Base::First, &mut appliance)?;
        let half = appliance.cloister(&["import", &text(self.volume(2, 1))?])?;
        ensure!(half.code() == "intake.volume.more", "{}", half.code());
        self.keep(Base::Parked, &mut appliance)?;
        done(appliance.cloister(&["import", &text(self.volume(2, 2))?]))?;
        self.keep(Base::Awaiting, &mut appliance)?;
        self.approve(&appliance, "ada", 2)?;
        self.keep(Base::Half, &mut appliance)?;
        done(appliance.cloister(&SHADOW))?;
        self.keep(Base::Shadow, &mut appliance)?;
        self.go_back(Base::Half, &mut appliance)?;
        self.approve(&appliance, "bob", 2)?;
        self.keep(Base::Approved, &mut appliance)?;
        done(appliance.cloister(&CANARY))?;
        self.keep(Base::Canary, &mut appliance)?;
        self.go_back(Base::Approved, &mut appliance)?;
        done(appliance.cloister(&["activate", "2"]))?;
        self.note_active(&appliance)?;
        self.keep(Base::Second, &mut appliance)?;
        let (folder, key) = (appliance.config().paths.record(), appliance.log_key()?);
        let log = read_log(&OnDisk, &folder, &key)?;
        self.updates = log.iter().filter(|entry| entry.event == "trust-update").count();
        self.damage()?;
        self.lose()?;
        done(appliance.cloister(&["pin", self.generation(1)]))?;
        self.promote(&appliance, 3)?;
        self.keep(Base::Pinned, &mut appliance)?;
        self.promote(&appliance, 4)?;
        self.allow(&appliance, "ada")?;
        self.keep(Base::HalfAllowed, &mut appliance)?;
        self.allow(&appliance, "bob")?;
        self.keep(Base::Allowed, &mut appliance)?;
        appliance.end()?;
        Ok(())
    }

    /// Has the appliance begin again from `base`.
    fn go_back(&self, base: Base, appliance: &mut Appliance) -> Result<()> {
        appliance.put_back(&self.base(base))?;
        appliance.start(&[], Run { recorded: true, ..Run::default() })
    }

    /// `person` allows to return to the third release.
    fn allow(&self, appliance: &Appliance, person: &str) -> Result<()> {
        let key = text(&self.key(person))?;
        done(appliance.cloister(&["authorise", self.generation(3), "--key", &key]))
    }

    /// Ends the daemons when they rest, keeps their state, and starts them again.
    fn keep(&mut self, base: Base, appliance: &mut Appliance) -> Result<()> {
        let key = if base == Base::Bare {
            None
        } else {
            appliance.quiet()?;
            Some(appliance.log_key()?)
        };
        appliance.end()?;
        if let Some(key) = key {
            let log = digests(&OnDisk, &appliance.config().paths.record(), &Signer::parse(&key)?)?;
            ensure!(!log.is_empty(), "the log of {} is empty", base.name());
            self.logs.insert(base, log);
        }
        let folder = self.base(base);
        fs::create_dir_all(&folder)?;
        copy(appliance.state(), &folder)?;
        appliance.start(&[], Run { recorded: true, ..Run::default() })
    }

    fn promote(&mut self, appliance: &Appliance, number: usize) -> Result<()> {
        let folder = text(self.volumes(number))?;
        done(appliance.cloister(&["import", &folder]))?;
        for person in ["ada", "bob"] {
            self.approve(appliance, person, number)?;
        }
        done(appliance.cloister(&["activate", &number.to_string()]))?;
        self.note_active(appliance)
    }

    fn approve(&self, appliance: &Appliance, person: &str, import: usize) -> Result<()> {
        let key = text(&self.key(person))?;
        done(appliance.cloister(&["approve", &import.to_string(), "--key", &key]))
    }

    fn note_active(&mut self, appliance: &Appliance) -> Result<()> {
        let active = fs::read_link(appliance.config().paths.shelf().join("active"))?;
        let name = active.file_name().and_then(|name| name.to_str()).context("nothing active")?;
        self.generations.push(name.to_owned());
        Ok(())
    }

    /// The state of the second release without its database.
    fn lose(&mut self) -> Result<()> {
        let folder = self.base(Base::Lost);
        self.logs.insert(Base::Lost, self.log(Base::Second).to_vec());
        fs::create_dir_all(&folder)?;
        copy(&self.base(Base::Second), &folder)?;
        for name in ["supply.db", "supply.db-wal", "supply.db-shm"] {
            fs::remove_file(folder.join(name)).or_else(|error| match error.kind() {
                std::io::ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            })?;
        }
        Ok(())
    }

    /// The state of the second release with one bit of its model flipped, in the object and in the tree,
    /// which are one file.
    fn damage(&mut self) -> Result<()> {
        let folder = self.base(Base::Damaged);
        self.logs.insert(Base::Damaged, self.log(Base::Second).to_vec());
        fs::create_dir_all(&folder)?;
        copy(&self.base(Base::Second), &folder)?;
        let tree = folder.join("shelf/generations").join(self.generation(2)).join("tree");
        let model = tree.join("model/weights.txt");
        let mut bytes = crate::tree::read(&model)?;
        self.damaged = crate::tree::sha256(&bytes);
        let last = bytes.last_mut().context("an empty model")?;
        *last ^= 1;
        let permissions = fs::metadata(&model)?.permissions();
        Ok(fs::write(&model, bytes).and_then(|()| fs::set_permissions(&model, permissions))?)
    }
}

/// A shadow of the second release, of everybody.
pub(crate) const SHADOW: [&str; 7] = ["trial", "shadow", "2", "--share", "100", "--for", "10m"];
/// A canary of the second release.
pub(crate) const CANARY: [&str; 7] =
    ["trial", "canary", "2", "--principal", "pilot", "--for", "10m"];

/// A release tree: a model, one document, an evaluation set, and so many bytes that make it worth volumes.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn lay_out(trees: &Path, number: u64, bytes: usize) -> Result<PathBuf> {
    let tree = trees.join(number.to_string());
    let exam = serde_json::json!({
        "schema": 1, "heldout": "evaluation/heldout.txt",
        "golden": [{
            "messages": [{"role": "user", "content": "2+2?"}],
            "expect_any": ["four"], "max_tokens": 8,
        }],
        "retrieval": [{
            "query": "pump", "collections": ["handbook"],
            "expect_document": "documents/handbook/pump.md",
        }],
        "policy": {
            "heldout_worse_permille_max": 100, "golden_passed_min": 1, "golden_fewer_max": 0,
            "retrieval_hit3_permille_min": 1000,
        },
    });
    let collections = serde_json::json!({"collections": [{
        "name": "handbook", "label": "open",
        "documents": [{"path": "documents/handbook/pump.md", "name": "Pumps"}],
    }]});
    let files = [
        ("documents/collections.json", collections.to_string()),
        ("documents/handbook/pump.md", format!("Pump {number}.")),
        ("evaluation/evaluation.json", exam.to_string()),
        ("evaluation/heldout.txt", "It was the best of times.".to_owned()),
        ("licences/MIT.txt", "MIT".to_owned()),
        ("model/weights.txt", format!("0.{number}")),
        ("provenance/serials.txt", Dice::new(number).text(bytes)),
    ];
    for (path, content) in files {
        let path = tree.join(path);
        fs::create_dir_all(path.parent().context("a file in a folder")?)?;
        fs::write(path, content)?;
    }
    Ok(tree)
}

fn done(outcome: Result<Outcome>) -> Result<()> {
    outcome?.done().map(drop)
}

/// A path as the command's word.
///
/// # Errors
/// When it is not UTF-8.
pub(crate) fn text(path: &Path) -> Result<String> {
    Ok(path.to_str().context("a path is not UTF-8")?.to_owned())
}
