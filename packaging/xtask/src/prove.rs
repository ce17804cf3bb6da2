//! `./x prove [NAME]`: proofs that are too long for CI. Each is seeded and goes on where it was
//! interrupted; a proof that holds leaves one line in `docs/proofs.jsonl`.

mod crash;
mod damage;
mod drills;
pub(crate) mod kills;
mod large;
mod mutants;
mod mutations;
mod pairs;
mod sanitizers;
mod sources;
mod tuf;
mod verifiers;
mod walks;

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};
use cloister_domain::Digest;
use cloister_stage::{
    programs,
    release::{checkout, read_file},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// What is proven, and how far.
#[derive(Debug, clap::Args)]
pub(crate) struct Order {
    /// The proof; without a name, all are listed.
    name: Option<String>,
    /// Rounds in all; a run that was interrupted counts.
    #[arg(long, default_value_t = 1000)]
    rounds: u64,
    /// Everything that is left to chance follows from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// One proof: its name, what it shows, and its rounds.
struct Proof {
    name: &'static str,
    shows: &'static str,
    run: fn(&mut Progress, &mut dyn Write) -> Result<()>,
}

const PROOFS: [Proof; 25] = [
    Proof {
        name: "bits",
        shows: "no bit of a volume of 400 KiB may be flipped: each such volume is refused",
        run: damage::bits,
    },
    Proof {
        name: "crash",
        shows: "killed at every call of every act, with every call failing in every way, killed again in recovery, and without power at any moment, an act is done or not, and what was told is there; millions of states after a crash are such as may be",
        run: crash::run,
    },
    Proof {
        name: "drill-1",
        shows: "one publisher's token is lost: a new key, the old one signs nothing more",
        run: drills::drill_1,
    },
    Proof {
        name: "drill-2",
        shows: "a publisher's key is stolen: revoked, what the thief signed comes in no more",
        run: drills::drill_2,
    },
    Proof {
        name: "drill-3",
        shows: "one root officer's token is lost: a new root, the old key helps nobody",
        run: drills::drill_3,
    },
    Proof {
        name: "drill-4",
        shows: "two of five root officers cannot be reached: three still change the root, two cannot",
        run: drills::drill_4,
    },
    Proof {
        name: "drill-5",
        shows: "a machine whose host key is lost records nothing until two persons let another key succeed",
        run: drills::drill_5,
    },
    Proof {
        name: "drill-6",
        shows: "a state that was put back is found by the witness, and goes on only by two persons",
        run: drills::drill_6,
    },
    Proof {
        name: "drill-7",
        shows: "approvers with new cards approve, and what the old ones signed counts no more",
        run: drills::drill_7,
    },
    Proof {
        name: "drill-8",
        shows: "another witness takes the place of one whose laptop is lost",
        run: drills::drill_8,
    },
    Proof {
        name: "drill-9",
        shows: "the clock says 1970, then 2076, then 1970: every decision is the same",
        run: drills::drill_9,
    },
    Proof {
        name: "fuzz",
        shows: "no mutant of its corpus makes a parser of foreign bytes fail",
        run: damage::fuzz,
    },
    Proof {
        name: "guards",
        shows: "each check and each fence of the updater's rooms, taken away on purpose, makes a test of that room fail",
        run: mutations::guards,
    },
    Proof {
        name: "hostile",
        shows: "no mutant of a valid volume, its metadata, manifest, index or chunks is accepted unless those who may have signed it",
        run: damage::hostile,
    },
    Proof {
        name: "huge",
        shows: "a release of 12 GiB with a file of 9 comes in with the memory of a small one, and a flipped bit is found",
        run: large::huge,
    },
    Proof {
        name: "kills",
        shows: "SIGKILL of all daemons at any moment of an activation or rollback leaves the old or the new release active, and one outcome for each intent",
        run: kills::run,
    },
    Proof {
        name: "large",
        shows: "files of 2.2 and 4.1 GiB come in with the memory of small ones, and a flipped bit is found",
        run: large::large,
    },
    Proof {
        name: "mutants",
        shows: "every small change of the code of bundle, verifier, promotion and record is noticed by that crate's own tests, or argued",
        run: mutants::run,
    },
    Proof {
        name: "mutations",
        shows: "each step of the story, broken on purpose, makes the flow test of that step fail",
        run: mutations::story,
    },
    Proof {
        name: "package",
        shows: "the Debian package installs in a clean root, begins no log before that has a name, upgrades, is removed and is purged",
        run: package,
    },
    Proof {
        name: "pairs",
        shows: "every pair of import, approve, promote, roll back, sweep, scrub and export, started together, comes to what one after the other comes to",
        run: pairs::run,
    },
    Proof {
        name: "sanitizers",
        shows: "no test of code that is unsafe or reads foreign bytes, and no mutant of a parser's corpus, makes AddressSanitizer or valgrind see an error",
        run: sanitizers::run,
    },
    Proof {
        name: "tuf",
        shows: "our TUF client and python-tuf's agree on every one of thousands of repositories, honest and hostile",
        run: tuf::run,
    },
    Proof {
        name: "verifiers",
        shows: "two verifiers that share no code agree on logs that were changed in every part of a record, and both find each flipped byte",
        run: verifiers::run,
    },
    Proof {
        name: "walks",
        shows: "whatever several persons do one after the other and at once, while everything else goes wrong, nothing is served but what may be, nothing that was told is lost, and an honest release comes in at the end",
        run: walks::run,
    },
];

/// How far a proof has come. Kept in a file after every round.
#[derive(Debug, Serialize, Deserialize)]
struct Progress {
    seed: u64,
    rounds: u64,
    done: u64,
    /// How often each thing happened.
    counts: BTreeMap<String, u64>,
    /// What it is proven of, where a change of that makes earlier rounds say nothing.
    #[serde(default)]
    of: Option<Digest>,
    #[serde(skip)]
    file: PathBuf,
}

impl Progress {
    /// Goes on with an interrupted run of the same seed, or begins.
    fn open(name: &str, order: &Order) -> Result<Self> {
        let folder = programs()?.parent().context("no build folder")?.join("proofs");
        fs::create_dir_all(&folder)?;
        let file = folder.join(format!("{name}-{}.json", order.seed));
        let mut progress = if file.exists() {
            serde_json::from_slice(&read_file(&file)?).context("the progress is damaged")?
        } else {
            let (counts, file) = (BTreeMap::new(), PathBuf::new());
            Self { seed: order.seed, rounds: 0, done: 0, counts, of: None, file }
        };
        progress.rounds = order.rounds;
        progress.file = file;
        Ok(progress)
    }

    /// Says what is proven; if it was another thing until now, the proof begins again.
    fn about(&mut self, what: Digest) {
        if self.of != Some(what) {
            (self.of, self.done) = (Some(what), 0);
            self.counts.clear();
        }
    }

    /// One round more held; `what` are the things that happened in it.
    fn held(&mut self, what: &[&str]) -> Result<()> {
        self.held_often(&what.iter().map(|what| ((*what).to_owned(), 1)).collect())
    }

    /// One round more held, in which things happened so often.
    fn held_often(&mut self, what: &BTreeMap<String, u64>) -> Result<()> {
        self.done += 1;
        for (what, often) in what {
            *self.counts.entry(what.clone()).or_default() += often;
        }
        let next = self.file.with_extension("next");
        fs::write(&next, serde_json::to_vec(self)?)?;
        Ok(fs::rename(next, &self.file)?)
    }
}

/// Lists the proofs, or runs one.
///
/// # Errors
/// When a round does not hold; the seed and the round are named.
pub(crate) fn run(order: &Order, out: &mut dyn Write) -> Result<()> {
    let Some(name) = &order.name else {
        for proof in &PROOFS {
            writeln!(out, "{:<10} {}", proof.name, proof.shows)?;
        }
        return Ok(());
    };
    let proof = PROOFS.iter().find(|proof| proof.name == name);
    let proof =
        proof.with_context(|| format!("no proof is called {name}; ./x prove lists them"))?;
    let mut progress = Progress::open(proof.name, order)?;
    if progress.done > 0 {
        writeln!(out, "goes on after round {}", progress.done)?;
    }
    (proof.run)(&mut progress, out)
        .with_context(|| format!("seed {}, round {}", progress.seed, progress.done))?;
    let line = result(proof.name, &progress)?;
    writeln!(out, "{line}")?;
    append(&checkout().join("docs/proofs.jsonl"), &line)?;
    Ok(fs::remove_file(&progress.file)?)
}

/// The line that a finished proof leaves.
fn result(name: &str, progress: &Progress) -> Result<Value> {
    let git = |words: &[&str]| said(Command::new("git").arg("-C").arg(checkout()).args(words));
    let mut line = Map::new();
    line.insert("proof".to_owned(), json!(name));
    line.insert("holds".to_owned(), json!(true));
    line.insert("commit".to_owned(), json!(git(&["rev-parse", "HEAD"])?));
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
    line.insert("changed_files".to_owned(), json!(changed.lines().count()));
    line.insert("date".to_owned(), json!(said(Command::new("date").args(["-u", "+%F"]))?));
    line.insert("seed".to_owned(), json!(progress.seed));
    line.insert("rounds".to_owned(), json!(progress.done));
    line.insert("counts".to_owned(), json!(progress.counts));
    Ok(Value::Object(line))
}

/// Builds the package and puts it through its life in a clean root, once whatever the rounds.
fn package(progress: &mut Progress, out: &mut dyn Write) -> Result<()> {
    if progress.done > 0 {
        return Ok(());
    }
    let scratch = tempfile::Builder::new().prefix("cloister-prove-").tempdir()?;
    crate::deb::run(scratch.path())?;
    let mut made = fs::read_dir(scratch.path())?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<PathBuf>>>()?;
    made.retain(|path| path.extension().is_some_and(|ending| ending == "deb"));
    let [package] = made.as_slice() else { bail!("not one package was made, but {}", made.len()) };
    let checked = Command::new(checkout().join("packaging/check-deb.sh")).arg(package).output()?;
    let words = String::from_utf8_lossy(&checked.stdout);
    ensure!(
        checked.status.success(),
        "{} {}",
        words.trim_end(),
        String::from_utf8_lossy(&checked.stderr).trim_end()
    );
    writeln!(out, "{}", words.trim_end())?;
    progress.held(&["installed", "upgraded", "removed", "purged"])
}

/// What a program writes, without the line's end; it must end well.
pub(crate) fn said(command: &mut Command) -> Result<String> {
    let output = command.output().context("starting a program")?;
    ensure!(
        output.status.success(),
        "{:?} failed: {}",
        command.get_program(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn append(file: &Path, line: &Value) -> Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(file)?;
    Ok(writeln!(file, "{line}")?)
}
