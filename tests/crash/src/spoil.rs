//! What the judge of states must notice: good states of acts, each with one thing in it that may not be.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use cloister_stage::Dice;
use rusqlite::Connection;

use crate::{
    books::all,
    cuts::Spares,
    fixture::Fixture,
    judge::{Due, Judge, Measure},
    memory::Memory,
    model::Rule,
    simulate::Script,
    tree::{Tree as _, read},
};

/// A page of the database, and a block of the journal.
const PAGE: usize = 4096;

/// What became of a state that may not be.
#[derive(Clone, Debug)]
pub struct Spoilt {
    /// What was done to it.
    pub what: String,
    /// Words that whoever notices it must say.
    pub sign: &'static str,
    /// What the judge said; none where it noticed nothing.
    pub said: Option<String>,
}

/// A control: the act from whose states it is made, what is done, and what must be said.
struct Control {
    act: &'static str,
    what: &'static str,
    sign: &'static str,
    spoil: fn(&Act<'_>) -> Result<(Memory, Due)>,
}

/// An act's states that controls are made of.
struct Act<'a> {
    fixture: &'a Fixture,
    /// Before it.
    old: Memory,
    /// After it.
    new: Memory,
    /// After a file system that never synced.
    deaf: Memory,
    /// What another act that begins in the same state comes to.
    other: Memory,
    /// What is due when it is done.
    due: Due,
}

/// Nothing is due.
const NOTHING: Due = Due { entries: 0, books: 0, told: false };

const CONTROLS: [Control; 24] = [
    Control {
        act: "activate",
        what: "a file system that never synced",
        sign: "were flushed",
        spoil: |act| Ok((act.deaf.clone(), act.due)),
    },
    Control {
        act: "activate",
        what: "a file of a release is torn",
        sign: "MIT.txt is torn",
        spoil: |act| act.torn(&act.release(1).join("tree/licences/MIT.txt")),
    },
    Control {
        act: "activate",
        what: "a manifest is torn",
        sign: "the manifest is torn",
        spoil: |act| act.torn(&act.release(2).join("manifest.json")),
    },
    Control {
        act: "activate",
        what: "an object is torn, and its release is not",
        sign: "object ",
        spoil: |act| {
            let object = act.object()?;
            let (torn, due) = act.torn(&object)?;
            let mut state = act.new.clone();
            state.graft(&object, &torn)?;
            Ok((state, due))
        },
    },
    Control {
        act: "activate",
        what: "an object is gone, and its release is not",
        sign: "which is gone",
        spoil: |act| act.without(&act.object()?),
    },
    Control {
        act: "import",
        what: "a release is served that nobody activated",
        sign: "neither old nor new",
        spoil: |act| act.pointing("active", &format!("generations/{}", act.fixture.generation(2))),
    },
    Control {
        act: "activate",
        what: "what is served is not there",
        sign: "a pointer to",
        spoil: |act| act.pointing("active", "generations/nothing"),
    },
    Control {
        act: "activate",
        what: "a slot holds what is not there",
        sign: "a pointer to",
        spoil: |act| act.pointing("slots/a", "../generations/nothing"),
    },
    Control {
        act: "canary",
        what: "the trial is torn",
        sign: "the trial is torn",
        spoil: |act| act.torn(Path::new("shelf/trial")),
    },
    Control {
        act: "activate",
        what: "a release is served before its intent is recorded",
        sign: "without an intent",
        spoil: |act| act.with_old(&["record", "supply.db", "supply.db-wal"], NOTHING),
    },
    Control {
        act: "unpin-sweep",
        what: "a release has left the shelf before that is recorded",
        sign: "left without a record",
        spoil: |act| act.with_old(&["record", "supply.db", "supply.db-wal"], NOTHING),
    },
    Control {
        act: "activate",
        what: "the database is ahead of the log",
        sign: "the database names the record",
        spoil: |act| act.with_old(&["record"], NOTHING),
    },
    Control {
        act: "activate",
        what: "the database is an older one",
        sign: "has lost what was flushed",
        spoil: |act| act.with_old(&["supply.db", "supply.db-wal"], act.due),
    },
    Control {
        act: "activate",
        what: "the log is another act's",
        sign: "no unbroken run says",
        spoil: |act| {
            let mut state = act.new.clone();
            state.graft(Path::new("record"), &act.other)?;
            Ok((state, NOTHING))
        },
    },
    Control {
        act: "activate",
        what: "the checkpoint is torn",
        sign: "the log",
        spoil: |act| act.torn(Path::new("record/checkpoint")),
    },
    Control {
        act: "activate",
        what: "the checkpoint is signed by nobody",
        sign: "the checkpoint's signature",
        spoil: |act| {
            let (path, mut state) = (Path::new("record/checkpoint"), act.new.clone());
            let mut bytes = state.read(path)?.to_vec();
            // Within the signature, behind what names the key.
            let at = bytes.len().checked_sub(40).context("a short checkpoint")?;
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            state.put(path, &bytes)?;
            Ok((state, NOTHING))
        },
    },
    Control {
        act: "activate",
        what: "a bundle of entries is torn",
        sign: "cut short",
        spoil: |act| act.torn(&act.below("record/tile/entries/000.p")?),
    },
    Control {
        act: "activate",
        what: "a tile is torn",
        sign: "other hashes",
        spoil: |act| act.torn(&act.below("record/tile/0/000.p")?),
    },
    Control {
        act: "import",
        what: "an import is gone that the operator was told of",
        sign: "was named and is lost",
        spoil: |act| {
            let due = Due { told: true, ..NOTHING };
            act.with_old(&["supply.db", "supply.db-wal"], due)
        },
    },
    Control {
        act: "activate",
        what: "the checkpoint is gone",
        sign: "without a checkpoint",
        spoil: |act| act.without(Path::new("record/checkpoint")),
    },
    Control {
        act: "activate",
        what: "the journal was cut short",
        sign: "cut short",
        spoil: |act| act.torn(Path::new("record/journal")),
    },
    Control {
        act: "activate",
        what: "the journal's first round is gone",
        sign: "a round of the journal is missing",
        spoil: |act| {
            let (path, mut state) = (Path::new("record/journal"), act.new.clone());
            let mut bytes = state.read(path)?.to_vec();
            bytes[..PAGE].fill(0);
            state.put(path, &bytes)?;
            Ok((state, NOTHING))
        },
    },
    Control {
        act: "activate",
        what: "the key that signs the log is gone",
        sign: "the key that signs it",
        spoil: |act| act.without(Path::new("record/host.key")),
    },
    Control {
        act: "pin",
        what: "the operator was told, and it is not done",
        sign: "what was acknowledged is lost",
        spoil: |act| Ok((act.old.clone(), Due { told: true, ..NOTHING })),
    },
];

impl<'a> Act<'a> {
    fn of(script: &Script, other: &Script, measure: &Measure, fixture: &'a Fixture) -> Self {
        let crashed = |script: &Script, at, rule, spares| {
            script.model(at, rule).0.crash(spares, &mut Dice::new(0)).0
        };
        let end = script.len();
        Self {
            fixture,
            old: crashed(script, 0, Rule::Loose, Spares::All),
            new: crashed(script, end, Rule::Loose, Spares::All),
            deaf: crashed(script, end, Rule::Deaf, Spares::Nothing),
            other: crashed(other, other.len(), Rule::Loose, Spares::All),
            due: measure.due(end),
        }
    }

    fn release(&self, number: usize) -> PathBuf {
        Path::new("shelf/generations").join(self.fixture.generation(number))
    }

    /// An object that the first release has.
    fn object(&self) -> Result<PathBuf> {
        let digest = self.new.digest(&self.release(1).join("tree/licences/MIT.txt"))?;
        let fan = digest.get(..2).context("a digest")?;
        Ok(Path::new("shelf/objects").join(fan).join(&digest))
    }

    /// The only file in a folder.
    fn below(&self, folder: &str) -> Result<PathBuf> {
        let names = self.new.names(Path::new(folder))?;
        ensure!(names.len() == 1, "{folder} holds {names:?}");
        Ok(Path::new(folder).join(&names[0]))
    }

    fn torn(&self, path: &Path) -> Result<(Memory, Due)> {
        let mut state = self.new.clone();
        state.tear(path)?;
        Ok((state, self.due))
    }

    fn without(&self, path: &Path) -> Result<(Memory, Due)> {
        let mut state = self.new.clone();
        ensure!(state.is_there(path), "{} is not there", path.display());
        let folder = state.find(path.parent().context("a folder")?).context("no folder")?;
        let name = path.file_name().and_then(|name| name.to_str()).context("a name")?;
        state.set_name(folder, name, None);
        Ok((state, NOTHING))
    }

    fn pointing(&self, name: &str, target: &str) -> Result<(Memory, Due)> {
        let mut state = self.new.clone();
        let path = Path::new("shelf").join(name);
        let folder = state.find(path.parent().context("a folder")?).context("no folder")?;
        let name = path.file_name().and_then(|name| name.to_str()).context("a name")?;
        let link = state.add_link(Path::new(target), 0o120_777);
        state.set_name(folder, name, Some(link));
        Ok((state, self.due))
    }

    /// The state after the act, but for these, which are as before it.
    fn with_old(&self, names: &[&str], due: Due) -> Result<(Memory, Due)> {
        let mut state = self.new.clone();
        for name in names {
            state.graft(Path::new(name), &self.old)?;
        }
        Ok((state, due))
    }
}

/// Judges each control, and the state that it was made of, which must be good.
///
/// # Errors
/// When one cannot be made, or the state that it was made of is judged wrong.
pub(crate) fn judge_spoilt(
    scripts: &[(&Script, &Measure)],
    fixture: &Fixture,
    scratch: &Path,
) -> Result<Vec<Spoilt>> {
    let find = |name: &str| {
        let found = scripts.iter().find(|(script, _)| script.scene().name == name);
        found.copied().with_context(|| format!("the act {name}"))
    };
    let (other, _) = find("canary")?;
    let mut spoilt = Vec::new();
    for control in &CONTROLS {
        let (script, measure) = find(control.act)?;
        let act = Act::of(script, other, measure, fixture);
        let mut judge = Judge::new(script, measure, fixture, scratch)?;
        judge.judge(&act.new, act.due).with_context(|| format!("{}, unspoilt", control.act))?;
        let (state, due) = (control.spoil)(&act).context(control.what)?;
        let said = judge.judge(&state, due).err().map(|wrong| format!("{wrong:#}"));
        let what = format!("{}: {}", control.act, control.what);
        spoilt.push(Spoilt { what, sign: control.sign, said });
    }
    for (name, state_of) in [("import-rest", "receiving"), ("import", "received")] {
        let (script, measure) = find(name)?;
        let mut judge = Judge::new(script, measure, fixture, scratch)?;
        let (state, file) = arriving(script, &mut judge, state_of)?;
        judge.judge(&state, NOTHING).with_context(|| format!("{name}, unspoilt"))?;
        let mut torn = state.clone();
        torn.tear(&file)?;
        let said = judge.judge(&torn, NOTHING).err().map(|wrong| format!("{wrong:#}"));
        let what = format!("{name}: a file in quarantine is torn of what is {state_of}");
        spoilt.push(Spoilt { what, sign: "without Some", said });
    }
    let (script, measure) = find("activate")?;
    let act = Act::of(script, other, measure, fixture);
    let mut judge = Judge::new(script, measure, fixture, scratch)?;
    for (what, state) in databases(&act, scratch)? {
        let said = judge.judge(&state, act.due).err().map(|wrong| format!("{wrong:#}"));
        spoilt.push(Spoilt { what: format!("activate: {what}"), sign: "the database", said });
    }
    Ok(spoilt)
}

/// The first state of the act in which the database says so of the second import, and a file of that.
fn arriving(script: &Script, judge: &mut Judge<'_>, state_of: &str) -> Result<(Memory, PathBuf)> {
    for at in 0..script.len() {
        let state = script.model(at, Rule::Loose).0.crash(Spares::All, &mut Dice::new(0)).0;
        let Ok(read) = judge.books(&state).1 else { continue };
        let found = read.books.imports.get(&2).filter(|import| import.state == state_of);
        let mut needs = found.iter().flat_map(|import| &import.needs);
        let file = needs.find_map(|file| holding(&state, Path::new("quarantine/2"), file));
        if let Some(file) = file {
            return Ok((state, file));
        }
    }
    bail!("no import was {state_of} with a file")
}

/// The file below `folder` that has this digest.
fn holding(state: &Memory, folder: &Path, digest: &str) -> Option<PathBuf> {
    state.names(folder).ok()?.into_iter().find_map(|name| {
        let path = folder.join(name);
        if state.is_folder(&path) {
            return holding(state, &path, digest);
        }
        (state.digest(&path).ok()? == digest).then_some(path)
    })
}

/// The state after the act with the database in one file, which is damaged, or of which one page is as before
/// the act: each page that differs, once. The first is left out, which counts changes and may be older, and
/// those that differ where nothing is stored.
fn databases(act: &Act<'_>, scratch: &Path) -> Result<Vec<(String, Memory)>> {
    let (old, new) = (folded(&act.old, scratch)?, folded(&act.new, scratch)?);
    let with = |bytes: &[u8]| -> Result<Memory> {
        let (mut state, _due) = act.without(Path::new("supply.db-wal"))?;
        state.put(Path::new("supply.db"), bytes)?;
        Ok(state)
    };
    let mut damaged = new.clone();
    damaged[PAGE..].fill(0xA5);
    let mut states = vec![("the database is damaged".to_owned(), with(&damaged)?)];
    let stored = said(&new, scratch)?;
    for at in 1..old.len().min(new.len()) / PAGE {
        let page = at * PAGE..(at + 1) * PAGE;
        let mut bytes = new.clone();
        bytes[page.clone()].copy_from_slice(&old[page]);
        if bytes != new && said(&bytes, scratch)? != stored {
            states.push((format!("page {} of the database went back", at + 1), with(&bytes)?));
        }
    }
    Ok(states)
}

/// What a database in one file says of itself: whether it is sound, and all that it holds.
fn said(bytes: &[u8], scratch: &Path) -> Result<(String, String)> {
    let folder = tempfile::tempdir_in(scratch)?;
    let path = folder.path().join("db");
    std::fs::write(&path, bytes)?;
    let database = Connection::open(&path)?;
    let sound = database.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    Ok((sound, all(&database)?))
}

/// The database as one file.
fn folded(state: &Memory, scratch: &Path) -> Result<Vec<u8>> {
    let folder = tempfile::tempdir_in(scratch)?;
    for name in ["supply.db", "supply.db-wal"] {
        if let Some(bytes) = state.file(Path::new(name)) {
            std::fs::write(folder.path().join(name), bytes.to_vec())?;
        }
    }
    let path = folder.path().join("supply.db");
    let database = Connection::open(&path)?;
    database.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_row| Ok(()))?;
    drop(database);
    read(&path)
}
