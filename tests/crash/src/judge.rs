//! A judge of states that nobody has recovered from yet, without a daemon and without a disk: what may not
//! be, whatever a crash has torn. The shelf, the log and the database are each read once for all states that
//! have them in common.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::Arc,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use cloister_stage::Dice;

use crate::{
    books::{Read, read_copy},
    bytes::{Bytes, mixed},
    calls::Deed,
    cuts::Spares,
    disk::{Facts, Shelf, named},
    fixture::Fixture,
    log::{Entry, Signer, Texts, entries, journal, round_end, settled},
    memory::Memory,
    model::{Model, Rule},
    play::acknowledged,
    scene::Look,
    simulate::Script,
    tracer::Happening,
    tree::Tree as _,
    wal::{Counts, WalReader},
};

/// So many files of databases are remembered.
const KNOWN_MAX: usize = 1 << 18;
/// So many databases that count as one are read all the same, and must say the same.
const READ_ANYWAY: usize = 3;

const SHELF: &str = "shelf";
const RECORD: &str = "record";
const QUARANTINE: &str = "quarantine";
/// States of imports whose files lie in quarantine.
const ARRIVING: [&str; 2] = ["receiving", "received"];
const DATABASE: [&str; 3] = ["supply.db", "supply.db-wal", "supply.db-journal"];

/// What must be there after a crash at some moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Due {
    /// Entries of the log that were flushed, which everybody who was answered counts on.
    pub(crate) entries: usize,
    /// How far the database had come in what was flushed of it.
    pub(crate) books: usize,
    /// Whether the operator was told that the act is done.
    pub(crate) told: bool,
}

/// What the states of an act are held against: what an unbroken run of it went through.
#[derive(Debug)]
pub(crate) struct Measure {
    /// The log's entries in the end, and their texts.
    log: Vec<Entry>,
    texts: Texts,
    /// Its entries before the act.
    old: usize,
    /// The key that signs it, as it lies beside it.
    key: Bytes,
    /// What lay on the shelf before.
    shelf: Shelf,
    /// The files that were whole in quarantine before, by digest: those of each import.
    quarantine: Quarantine,
    /// Everything that the database ever held, with the place of its last time.
    books: BTreeMap<String, usize>,
    /// What is due after so many happenings.
    due: Vec<Due>,
}

/// The files that lie in quarantine, by digest: those of each import.
type Quarantine = BTreeMap<i64, BTreeSet<String>>;

/// Something that was judged: its number among its like, and what it is.
type Part<T> = (usize, Judged<Arc<T>>);

/// What was judged, or in words what is wrong with it.
type Judged<T> = std::result::Result<T, Arc<str>>;

/// A judge of the states of one act.
#[derive(Debug)]
pub(crate) struct Judge<'a> {
    fixture: &'a Fixture,
    script: &'a Script,
    measure: &'a Measure,
    look: Look,
    reader: Reader,
    shelves: BTreeMap<u128, Part<Shelf>>,
    logs: BTreeMap<u128, Judged<usize>>,
    quarantines: BTreeMap<u128, Part<Quarantine>>,
    verdicts: BTreeMap<([usize; 4], Due), Judged<()>>,
}

/// Reads logs and databases of states, each as often as it must.
#[derive(Debug)]
struct Reader {
    signer: Signer,
    scratch: tempfile::TempDir,
    settled: BTreeMap<u128, Judged<Arc<Texts>>>,
    wal: WalReader,
    /// By the bytes of all files.
    databases: BTreeMap<[u128; 3], Part<Read>>,
    /// By what of them counts, and how often such a one was read.
    counted: BTreeMap<([u128; 2], Counts), (Part<Read>, usize)>,
}

impl Measure {
    /// What the unbroken run of `script` went through.
    ///
    /// # Errors
    /// When it cannot be read, or the act was already done before it was asked for.
    pub(crate) fn of(script: &Script, fixture: &Fixture, scratch: &Path) -> Result<Self> {
        let mut reader = Reader::new(script, scratch)?;
        let whole = |model: &Model| model.crash(Spares::All, &mut Dice::new(0)).0;
        let before = whole(&script.before);
        let after = whole(&script.model(script.len(), Rule::Loose).0);
        let texts = reader.log(&after)?;
        let log = entries(&texts, &reader.signer)?;
        let old = reader.log(&before)?.len();
        let shelf = named(&before, Path::new(SHELF), &script.scene().allowed(fixture))?;
        let key = after.file(&Path::new(RECORD).join("host.key")).context("no key")?.clone();
        let quarantine = quarantine(&before)?;
        let (books, due) = (BTreeMap::new(), Vec::new());
        let mut measure = Self { log, texts, old, key, shelf, quarantine, books, due };
        measure.follow(script, &mut reader)?;
        Ok(measure)
    }

    /// Notes everything that the database came to hold, and what was due from when on.
    fn follow(&mut self, script: &Script, reader: &mut Reader) -> Result<()> {
        let mut model = script.before.clone().with(Rule::Loose);
        let (mut place, mut due) = (0, Due { entries: self.old, ..Due::default() });
        let mut written = self.old;
        let mut held = None;
        let is_database = |path: &Path| {
            path.file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| name.starts_with(DATABASE[0]))
        };
        for at in 0..=script.len() {
            let happening = at.checked_sub(1).map(|at| &script.happenings[at]);
            let mut looks = at == 0;
            match happening {
                Some(Happening::Call(call)) => {
                    model.act(&call.deed);
                    match &call.deed {
                        Deed::Write(path, _, bytes) if path.ends_with("record/journal") => {
                            written = round_end(bytes).unwrap_or(written);
                        }
                        Deed::Sync(path) if path.ends_with("record/journal") => {
                            due.entries = due.entries.max(written);
                        }
                        Deed::Sync(path) if is_database(path) => due.books = place,
                        deed => looks |= deed.paths().into_iter().any(is_database),
                    }
                }
                Some(Happening::Mark) => due.told = true,
                _ => {}
            }
            if looks {
                let now = model.crash(Spares::All, &mut Dice::new(0)).0;
                let rows = reader.books(&now, &self.log).1.map_err(|wrong| anyhow!("{wrong}"))?;
                if held.as_ref() != Some(&rows.rows) {
                    place += usize::from(held.is_some());
                    self.books.insert(rows.rows.clone(), place);
                    held = Some(rows.rows.clone());
                }
            }
            self.due.push(due);
        }
        Ok(())
    }

    /// What must be there after a crash when so much has happened.
    pub(crate) fn due(&self, at: usize) -> Due {
        self.due[at]
    }
}

impl Reader {
    fn new(script: &Script, scratch: &Path) -> Result<Self> {
        Ok(Self {
            signer: Signer::parse(&script.key)?,
            scratch: tempfile::tempdir_in(scratch)?,
            settled: BTreeMap::new(),
            wal: WalReader::default(),
            databases: BTreeMap::new(),
            counted: BTreeMap::new(),
        })
    }

    /// The texts of the log: those under its checkpoint, then its journal's.
    fn log(&mut self, memory: &Memory) -> Result<Texts> {
        let folder = Path::new(RECORD);
        let (checkpoint, tiles) = (folder.join("checkpoint"), folder.join("tile"));
        if memory.find(&checkpoint).is_none() {
            // A log has its journal before its first checkpoint, and that before anything else.
            ensure!(memory.find(&tiles).is_none(), "tiles without a checkpoint");
            if memory.find(&folder.join("journal")).is_none() {
                return Ok(Texts::new());
            }
            return journal(memory, folder, Texts::new());
        }
        let sum = mixed(memory.sum(&checkpoint, none), memory.sum(&tiles, none));
        let signer = &self.signer;
        let read = || settled(memory, folder, signer).map(Arc::new).map_err(|wrong| said(&wrong));
        let settled = self.settled.entry(sum).or_insert_with(read).clone();
        journal(memory, folder, settled.map_err(|wrong| anyhow!("{wrong}"))?.to_vec())
    }

    /// The database, its rows held against the `log` of the unbroken run.
    fn books(&mut self, memory: &Memory, log: &[Entry]) -> Part<Read> {
        let files = DATABASE.map(|name| memory.file(Path::new(name)));
        let [database, wal, journal] = files;
        let sum = |file: Option<&Bytes>| file.map_or(0, Bytes::sum);
        let sums = [sum(database), sum(wal), sum(journal)];
        if let Some(known) = self.databases.get(&sums) {
            return known.clone();
        }
        let counts = wal.map_or_else(Counts::default, |wal| self.wal.read(wal));
        let number = self.counted.len();
        let counted = self.counted.entry(([sums[0], sums[2]], counts));
        let known = match counted {
            std::collections::btree_map::Entry::Vacant(_) => None,
            std::collections::btree_map::Entry::Occupied(ref found) => Some(found.get().clone()),
        };
        let part = match known {
            Some((part, often)) if often >= READ_ANYWAY => part,
            known => {
                let read = read_files(self.scratch.path(), files, log);
                let read = read.map(Arc::new).map_err(|wrong| said(&wrong));
                let (part, often) = known.unwrap_or_else(|| ((number, read.clone()), 0));
                let rows =
                    |read: &Judged<Arc<Read>>| read.as_ref().ok().map(|read| read.rows.clone());
                let part = if rows(&part.1) == rows(&read) {
                    part
                } else {
                    (number, Err("two databases that count as one are not the same".into()))
                };
                counted.insert_entry((part.clone(), often + 1));
                part
            }
        };
        if self.databases.len() >= KNOWN_MAX {
            self.databases.clear();
        }
        self.databases.insert(sums, part.clone());
        part
    }
}

/// Lays the database out and has SQLite read it, as whoever recovers does.
fn read_files(scratch: &Path, files: [Option<&Bytes>; 3], log: &[Entry]) -> Result<Read> {
    if files[0].is_none() {
        return Ok(Read::default());
    }
    let folder = tempfile::tempdir_in(scratch)?;
    let path = folder.path().join(DATABASE[0]);
    for (name, bytes) in DATABASE.iter().zip(files) {
        if let Some(bytes) = bytes {
            fs::write(folder.path().join(name), bytes.to_vec())?;
        }
    }
    read_copy(&path, log)
}

impl<'a> Judge<'a> {
    /// One for the states of `script`; it reads databases below `scratch`.
    ///
    /// # Errors
    /// When nothing can be written there.
    pub(crate) fn new(
        script: &'a Script,
        measure: &'a Measure,
        fixture: &'a Fixture,
        scratch: &Path,
    ) -> Result<Self> {
        Ok(Self {
            fixture,
            script,
            measure,
            look: script.scene().look(fixture),
            reader: Reader::new(script, scratch)?,
            shelves: BTreeMap::new(),
            logs: BTreeMap::new(),
            quarantines: BTreeMap::new(),
            verdicts: BTreeMap::new(),
        })
    }

    /// Judges a state of which so much is `due`.
    ///
    /// # Errors
    /// Names the first thing that may not be.
    pub(crate) fn judge(&mut self, state: &Memory, due: Due) -> Result<()> {
        let part = |what: &'static str| move |wrong: Arc<str>| anyhow!("{what}: {wrong}");
        let (shelf_number, shelf) = self.shelf(state);
        let shelf = shelf.map_err(part("the shelf"))?;
        let entries = self.log(state).map_err(part("the log"))?;
        let (books_number, books) = self.books(state);
        let books = books.map_err(part("the database"))?;
        let (quarantine_number, quarantine) = self.quarantine(state, &books);
        let quarantine = quarantine.map_err(part("quarantine"))?;
        let key = ([shelf_number, entries, books_number, quarantine_number], due);
        if let Some(known) = self.verdicts.get(&key) {
            return known.clone().map_err(|wrong| anyhow!("{wrong}"));
        }
        let judged = self
            .arriving(&shelf, &books, &quarantine)
            .and_then(|()| self.together(&shelf, entries, &books, due));
        self.verdicts.insert(key, judged.as_ref().map(|_good| ()).map_err(said));
        judged
    }

    /// How many shelves, logs and databases the states had that were different to those who read them.
    pub(crate) fn parts(&self) -> [usize; 3] {
        [self.shelves.len(), self.logs.len(), self.reader.counted.len()]
    }

    /// Everything on the shelf that has a name is whole, and what is served is the old release or the new one.
    fn shelf(&mut self, state: &Memory) -> Part<Shelf> {
        let (path, number) = (Path::new(SHELF), self.shelves.len());
        let sum = state.sum(path, |name| name.starts_with('.'));
        let (look, allowed) = (&self.look, self.script.scene().allowed(self.fixture));
        let read = || -> Result<Shelf> {
            look.at(state, path)?;
            let shelf = named(state, path, &allowed)?;
            for (release, digests) in &shelf.releases {
                let kept = |digest: &&String| {
                    shelf.objects.contains(*digest) || shelf.isolated.contains(*digest)
                };
                let missing = digests.iter().find(|digest| !kept(digest));
                ensure!(missing.is_none(), "{release} names the object {missing:?}, which is gone");
            }
            Ok(shelf)
        };
        let part = || (number, read().map(Arc::new).map_err(|wrong| said(&wrong)));
        self.shelves.entry(sum).or_insert_with(part).clone()
    }

    /// The log verifies and is the unbroken run's as far as it goes; the key that signs it is there. How far.
    fn log(&mut self, state: &Memory) -> Judged<usize> {
        let sum = state.sum(Path::new(RECORD), |name| name.starts_with('.'));
        let (reader, measure) = (&mut self.reader, self.measure);
        let mut read = || -> Result<usize> {
            let texts = reader.log(state)?;
            ensure!(measure.texts.starts_with(&texts), "it says what no unbroken run says");
            let key = state.file(&Path::new(RECORD).join("host.key"));
            let has_key = key.is_some_and(|key| key.sum() == measure.key.sum());
            // Until anything is recorded it may be made again.
            ensure!(has_key || texts.is_empty(), "the key that signs it is not there");
            Ok(texts.len())
        };
        let read = || read().map_err(|wrong| said(&wrong));
        self.logs.entry(sum).or_insert_with(read).clone()
    }

    /// The database; see [`read_copy`].
    pub(crate) fn books(&mut self, state: &Memory) -> Part<Read> {
        self.reader.books(state, &self.measure.log)
    }

    /// What lies in quarantine, where the database says that an import counts on it.
    fn quarantine(&mut self, state: &Memory, books: &Read) -> Part<Quarantine> {
        let mut imports = books.books.imports.values();
        if !imports.any(|import| ARRIVING.contains(&import.state.as_str())) {
            return (usize::MAX, Ok(Arc::default()));
        }
        let (number, sum) = (self.quarantines.len(), state.sum(Path::new(QUARANTINE), none));
        let part = || (number, quarantine(state).map(Arc::new).map_err(|wrong| said(&wrong)));
        self.quarantines.entry(sum).or_insert_with(part).clone()
    }

    /// An import that is received has its files, in quarantine or on the shelf; one that waits for further
    /// volumes has what earlier ones brought.
    fn arriving(&self, shelf: &Shelf, books: &Read, found: &Quarantine) -> Result<()> {
        let imports = books.books.imports.iter();
        for (number, import) in imports.filter(|(_, one)| ARRIVING.contains(&one.state.as_str())) {
            let (empty, is_received) = (BTreeSet::new(), import.state == ARRIVING[1]);
            let before = self.measure.quarantine.get(number).unwrap_or(&empty);
            let found = found.get(number).unwrap_or(&empty);
            let due = |file: &&String| is_received || before.contains(*file);
            let gone = |file: &&String| {
                let taken = shelf.objects.contains(*file) || shelf.isolated.contains(*file);
                !taken && !found.contains(*file)
            };
            let missing = import.needs.iter().filter(due).find(gone);
            ensure!(missing.is_none(), "import {number} is {} without {missing:?}", import.state);
        }
        Ok(())
    }

    /// What the parts say of each other, and what is due.
    fn together(&self, shelf: &Shelf, entries: usize, books: &Read, due: Due) -> Result<()> {
        let measure = self.measure;
        ensure!(
            entries >= due.entries,
            "{} entries were flushed, {entries} are there: lost",
            due.entries
        );
        let ahead = books.last.filter(|last| *last >= entries);
        ensure!(ahead.is_none(), "the database names the record {ahead:?}, of {entries}");
        let place = measure.books.get(&books.rows);
        let place = place.context("the database holds what it never held")?;
        ensure!(*place >= due.books, "the database has lost what was flushed");
        let new = measure.log.get(measure.old..entries).unwrap_or_default();
        if shelf.active != measure.shelf.active {
            let its = |entry: &&Entry| entry.subjects.get("bundle") == shelf.active.as_ref();
            let intents = new.iter().filter(|entry| entry.event == "activation-intent");
            ensure!(
                intents.filter(its).count() > 0,
                "{:?} is served without an intent",
                shelf.active
            );
        }
        for release in measure.shelf.releases.keys() {
            let left = |entry: &&Entry| {
                let mut named = entry.facts["releases"].as_array().into_iter().flatten();
                ["sweep", "damage"].contains(&entry.event.as_str())
                    && named.any(|name| name.as_str() == Some(release))
            };
            let there = shelf.releases.contains_key(release);
            ensure!(
                there || new.iter().any(|entry| left(&entry)),
                "{release} left without a record"
            );
        }
        if !due.told {
            return Ok(());
        }
        let log = measure.log.get(..entries).unwrap_or_default().to_vec();
        let facts = Facts { shelf: shelf.clone(), log, books: books.books.clone() };
        let scene = self.script.scene();
        ensure!(scene.is_done(self.fixture, &facts), "what was acknowledged is lost");
        acknowledged(self.fixture, scene, &self.script.said, &facts)
    }
}

/// Every file in quarantine.
fn quarantine(state: &Memory) -> Result<Quarantine> {
    fn below(state: &Memory, path: &Path, files: &mut BTreeSet<String>) -> Result<()> {
        for name in state.names(path)? {
            let path = path.join(name);
            if state.is_folder(&path) {
                below(state, &path, files)?;
            } else {
                files.insert(state.digest(&path)?);
            }
        }
        Ok(())
    }
    let mut quarantine = Quarantine::new();
    for name in state.names(Path::new(QUARANTINE))? {
        let import = name.parse().with_context(|| format!("`{name}` in quarantine"))?;
        below(state, &Path::new(QUARANTINE).join(name), quarantine.entry(import).or_default())?;
    }
    Ok(quarantine)
}

const fn none(_name: &str) -> bool {
    false
}

fn said(wrong: &anyhow::Error) -> Arc<str> {
    format!("{wrong:#}").into()
}
