//! What a walk finds at the facility: persons with keys, sticks of several releases, good and bad, and the state
//! from which it sets out.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use cloister_stage::{
    Dice, Options,
    facility::{Facility, Holders, RELEASE},
};

use crate::{
    appliance::{Appliance, Run, copy},
    fixture::{lay_out, text},
    tree::{read, sha256},
};

/// Releases, counted from 1. The last one is kept for the end of each walk.
pub(super) const RELEASES: usize = 9;
/// So many were active when walks set out.
const SET_OUT: usize = 2;
/// The release whose files come in two volumes.
const PARTED: usize = 3;
/// Releases that forbid what is older than a counter.
const FLOORS: [(usize, u64); 3] = [(3, 3), (5, 4), (7, 7)];
/// The root that every stick brings, and the first release with the root that knows one approver less.
pub(super) const ROOTS: u64 = 3;
/// Behind so many releases all below a counter are taken back.
const TAKEN_BACK: [(usize, u64); 2] = [(4, 2), (6, 4)];
/// Behind so many an approver leaves.
const LEAVES_BEHIND: usize = 6;

/// Who may approve by the second root; the third has no `eve`.
const APPROVERS: [&str; 6] = ["ada", "ada-2", "bob", "cyd", "dan", "eve"];

/// Whose keys decide, as often as they stand here: `ada-2` is another key of ada's, `cyd` and `dan` bring sticks,
/// `eve` leaves, and nobody knows the stranger.
pub(super) const KEYS: [&str; 13] = [
    "ada", "ada", "ada", "bob", "bob", "bob", "cyd", "dan", "dan", "ada-2", "eve", "eve",
    "stranger",
];

/// The user that brings sticks beside root, and who it is.
pub(super) const PORTER: u32 = 1;
/// The persons behind users of the machine.
pub(super) const OPERATORS: [(&str, &str); 3] = [("root", "cyd"), ("daemon", "dan"), ("1", "dan")];

/// Former releases that stay.
pub(super) const RETAINED: usize = 2;
/// Records after which an approval has expired.
pub(super) const RECORDS_MAX: u64 = 30;

/// Something that is put in.
#[derive(Clone, Debug)]
pub(super) struct Stick {
    /// In words.
    pub(super) name: String,
    /// What is named to the importer.
    pub(super) path: PathBuf,
}

/// Everything that walks have in common.
#[derive(Debug)]
pub(super) struct Depot {
    home: PathBuf,
    facility: Facility,
    /// The volumes of each release.
    volumes: Vec<Vec<PathBuf>>,
    /// Sticks that bring no release, or none that anybody may make.
    others: Vec<Stick>,
    /// Spoilt sticks of each release.
    spoilt: Vec<Vec<Stick>>,
    /// The first version of the importer's list by which all below a counter are taken back.
    taken_back: Vec<(u64, u64)>,
    /// The log's key.
    pub(super) log_key: String,
    /// The one file of each release that no other has, by digest.
    own: BTreeMap<String, PathBuf>,
    /// Whether another user may run the operator's command here.
    pub(super) has_porter: bool,
}

/// What the facility asks for, with so many approvals.
pub(super) fn asks(approvals: u64) -> String {
    let operators = OPERATORS.map(|(user, person)| format!("\"{user}={person}\"")).join(", ");
    format!(
        "[update]\nreserve_bytes = 0\nretained_max = {RETAINED}\nfull_disk_bytes = 65536\n\
         probation_s = 0\nprobe_s = 1\nengine_away_s = 1\nscrub_hours = 0\n\
         approvals_needed_min = {approvals}\napproval_records_max = {RECORDS_MAX}\n\
         operators = [{operators}]\n[record]\nfull_disk_bytes = 65536\n\
         [peers]\nintaked = [{PORTER}]\n[operators]\nupdaterd = [{PORTER}]\nrecordd = [{PORTER}]\n"
    )
}

impl Depot {
    /// Makes it below `home`.
    ///
    /// # Errors
    /// When an act fails, which nothing has disturbed.
    pub(super) fn make(home: &Path) -> Result<Self> {
        // Whoever brings a stick is not always root.
        fs::set_permissions(home, fs::Permissions::from_mode(0o755))?;
        let facility = Facility::found(&home.join("facility"), &Options::default())?;
        let mut depot = Self {
            home: home.to_owned(),
            facility,
            volumes: Vec::new(),
            others: Vec::new(),
            spoilt: Vec::new(),
            taken_back: Vec::new(),
            log_key: String::new(),
            own: BTreeMap::new(),
            has_porter: false,
        };
        for name in APPROVERS {
            if !depot.key(name).exists() {
                depot.facility.make_key(name, name.trim_end_matches("-2"))?;
            }
        }
        depot.follow(&APPROVERS)?;
        for number in 1..=RELEASES {
            depot.publish(number)?;
            for (_, below) in TAKEN_BACK.iter().filter(|(behind, _)| *behind == number) {
                depot.take_back(*below)?;
            }
            if number == LEAVES_BEHIND {
                depot.follow(&APPROVERS[..5])?;
            }
        }
        depot.spoil()?;
        depot.set_out()?;
        Ok(depot)
    }

    /// The next root, with these approvers.
    fn follow(&self, approvers: &[&str]) -> Result<()> {
        let approvers = approvers.iter().map(|name| (*name).to_owned()).collect();
        let next = Holders { approvers, ..Holders::officers(3, 2) };
        let copies = self.facility.sign_apart(&next, &["officer-1", "officer-2"])?;
        self.facility.finish_root(&copies)?;
        // A ceremony's folder is one ceremony's.
        Ok(fs::remove_dir_all(self.facility.home().join("ceremony"))?)
    }

    fn publish(&mut self, number: usize) -> Result<()> {
        let bytes = if number == PARTED { 320_000 } else { 600 };
        let counter = number as u64;
        let tree = lay_out(&self.home.join("trees"), counter, bytes)?;
        let version = format!("{number}.0.0");
        let floor = FLOORS.iter().find(|(release, _)| *release == number);
        let floor = floor.map(|(_, floor)| floor.to_string());
        let mut more = vec![];
        if let Some(floor) = &floor {
            more.extend(["--min-counter", floor]);
        }
        if number == PARTED {
            more.extend(["--volume-bytes", "200000"]);
        }
        self.volumes.push(self.facility.publish_with(&tree, &version, counter, &more)?);
        let own = PathBuf::from("tree/model/weights.txt");
        self.own.insert(sha256(&read(&tree.join("model/weights.txt"))?), own);
        Ok(())
    }

    /// A stick that takes back all releases below a counter, and brings none.
    fn take_back(&mut self, below: u64) -> Result<()> {
        let path = self.home.join(format!("word-{below}.clb"));
        let (trust, key) = (text(&self.facility.trust())?, text(&self.key("importer"))?);
        let below_text = format!("{RELEASE}={below}");
        let words = ["revoke", "--trust", &trust, "--key", &key, "--alone", &text(&path)?];
        let said = self.facility.mint(&[&words[..], &["--below", &below_text]].concat())?;
        let version = said.lines().find_map(|line| line.strip_prefix("list "));
        let version = version.and_then(|line| line.split_whitespace().nth(1));
        let version = version.context("mint told no version")?.parse()?;
        self.taken_back.push((version, below));
        self.others.push(Stick { name: format!("word below {below}"), path });
        Ok(())
    }

    /// Sticks that are no good: cut off, with a flipped byte, of no form, and of somebody whom nobody admitted.
    fn spoil(&mut self) -> Result<()> {
        ensure!(self.volumes[PARTED - 1].len() == 2, "release {PARTED} does not come in two");
        let folder = self.home.join("bad");
        fs::create_dir_all(&folder)?;
        let mut dice = Dice::new(9);
        for number in 1..RELEASES {
            let whole = read(self.volume(number, 1))?;
            let mut sticks = Vec::new();
            let mut add = |what: &str, bytes: &[u8]| -> Result<()> {
                let name = format!("{what} {number}");
                let path = folder.join(format!("{what}-{number}.clb"));
                fs::write(&path, bytes)?;
                sticks.push(Stick { name, path });
                Ok(())
            };
            for part in [4, 2] {
                // Pulled early, and late.
                let end = whole.len() - whole.len() / part + dice.below(64);
                add(&format!("pulled-{part}"), &whole[..end.min(whole.len() - 1)])?;
            }
            let mut flipped = whole.clone();
            let at = dice.below(flipped.len());
            flipped[at] ^= 1;
            add("flipped", &flipped)?;
            self.spoilt.push(sticks);
        }
        fs::write(folder.join("noise.clb"), dice.bytes(5000))?;
        self.others.push(Stick { name: "noise".to_owned(), path: folder.join("noise.clb") });
        let tree = self.home.join("trees/4");
        let path = self.facility.sign("stranger", &tree, "4.0.1", 4)?;
        self.others.push(Stick { name: "stranger's".to_owned(), path });
        Ok(())
    }

    /// Plays the state from which walks set out: the second release is active, and the first was.
    fn set_out(&mut self) -> Result<()> {
        let place = self.home.join("making");
        let mut appliance = Appliance::lay_out_as(&place, &place.join("state"), &asks(2))?;
        let run = || Run { recorded: true, ..Run::default() };
        appliance.start(&[], run())?;
        let root = text(&self.facility.root_file())?;
        let shown = appliance.cloister(&["enrol", &root])?;
        let digest = shown.done()?["root"].as_str().context("no digest")?.to_owned();
        appliance.cloister(&["enrol", &root, "--confirm", &digest])?.done()?;
        for number in 1..=SET_OUT {
            appliance.cloister(&["import", &text(self.volume(number, 1))?])?.done()?;
            let import = number.to_string();
            for person in ["ada", "bob"] {
                let key = text(&self.key(person))?;
                appliance.cloister(&["approve", &import, "--key", &key])?.done()?;
            }
            appliance.cloister(&["activate", &import])?.done()?;
        }
        appliance.quiet()?;
        self.log_key = appliance.log_key()?;
        self.has_porter = self.try_porter(&appliance)?;
        appliance.end()?;
        fs::create_dir_all(self.base())?;
        copy(appliance.state(), &self.base())
    }

    fn try_porter(&self, appliance: &Appliance) -> Result<bool> {
        let program = cloister_stage::programs()?.join("cloister");
        let mut command = super::player::as_user(&program, Some(PORTER));
        command.arg("--config").arg(appliance.config_file()).args(["--json", "status"]);
        Ok(command.output().is_ok_and(|output| output.status.success()))
    }

    /// The state from which walks set out.
    pub(super) fn base(&self) -> PathBuf {
        self.home.join("base")
    }

    /// The key file called `name`.
    pub(super) fn key(&self, name: &str) -> PathBuf {
        self.facility.key(name)
    }

    /// A volume of a release, both counted from 1.
    fn volume(&self, release: usize, volume: usize) -> &Path {
        &self.volumes[release - 1][volume - 1]
    }

    /// The stick with all volumes of a release.
    pub(super) fn stick(&self, release: usize) -> Stick {
        let volume = self.volume(release, 1);
        let path = volume.parent().unwrap_or(volume).to_owned();
        Stick { name: format!("release {release}"), path }
    }

    /// A stick with one of a release's volumes; the same where there is only one.
    pub(super) fn part(&self, release: usize, dice: &mut Dice) -> Stick {
        let volumes = &self.volumes[release - 1];
        let volume = dice.below(volumes.len());
        let name = format!("volume {} of release {release}", volume + 1);
        Stick { name, path: volumes[volume].clone() }
    }

    /// A release's stick that was pulled, or is not what was written.
    pub(super) fn spoilt(&self, release: usize, dice: &mut Dice) -> Stick {
        let sticks = &self.spoilt[release - 1];
        sticks[dice.below(sticks.len())].clone()
    }

    /// One of those that bring no release, or a bad one.
    pub(super) fn other(&self, dice: &mut Dice) -> Stick {
        self.others[dice.below(self.others.len())].clone()
    }

    /// A stick that says what the importer takes back.
    pub(super) fn word(&self, dice: &mut Dice) -> Stick {
        self.others[dice.below(TAKEN_BACK.len())].clone()
    }

    /// Whether the list of this version takes a release of this counter back.
    pub(super) fn is_taken_back(&self, targets_version: u64, counter: u64) -> bool {
        self.taken_back.iter().any(|(from, below)| targets_version >= *from && counter < *below)
    }

    /// Whether the file of this digest is one release's alone, and where it lies in its release.
    pub(super) fn own(&self, digest: &str) -> Option<&Path> {
        self.own.get(digest).map(PathBuf::as_path)
    }
}

/// Who may approve by a root of this version.
pub(super) fn approvers(root: u64) -> &'static [&'static str] {
    match root {
        1 => &["ada", "bob"],
        ROOTS => &["ada", "bob", "cyd", "dan"],
        _ => &["ada", "bob", "cyd", "dan", "eve"],
    }
}
