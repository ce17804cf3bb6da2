//! Verification of a whole export: every file, hash, signature and rule of the log.

use std::collections::{BTreeMap, BTreeSet};

use cloister_attest::{AnyKey, Checker, Speaker, dsse::Envelope};
use cloister_domain::{Digest, Principal};
use cloister_wire::record::Event;

use crate::{
    Checkpoint, Fault, Keys, LogProof, Policy, Promotions, Record, RecordError, SUMMARY, Signer,
    Time, VerifierKey, intent_of,
    tiles::{self, Kind, WIDTH},
    tree::{Tree, leaf_hash},
};

/// Entries for which the host key is worth preparing ([`Checker::for_many`]).
const MANY: usize = 1000;

/// Entries whose signatures are judged side by side.
const TOGETHER: usize = 64;

/// The files of an export by their paths inside it: `checkpoint` and everything below `tile/`. What
/// else lies beside them is no part of the log and is passed over.
pub type Export = BTreeMap<String, Vec<u8>>;

/// Persons who approve, with their keys.
pub type Approvers = BTreeMap<Principal, Speaker>;

/// What an auditor brings along. Nothing of it may come out of the export.
#[derive(Clone, Debug)]
pub struct Trust {
    /// The log's name and first key; those that succeed it are the log's to show. The host key, which
    /// signs the entries, is the same key.
    pub log: VerifierKey,
    /// SHA-256 of the trust root that was enrolled.
    pub root: Digest,
    /// Who may approve under which trust root, by its SHA-256: the enrolled one and its successors, oldest
    /// first.
    pub approvers: Vec<(Digest, Approvers)>,
    /// Which witnesses must have cosigned the checkpoint; without it nobody is asked.
    pub policy: Option<Policy>,
}

impl Trust {
    /// Whether `person` signed `envelope` in every way that the root `root` asks for.
    fn approves(&self, root: Digest, person: &Principal, envelope: &Envelope) -> bool {
        let approvers = self.approvers.iter().find(|(one, _)| *one == root);
        let Some(speaker) = approvers.and_then(|(_, persons)| persons.get(person)) else {
            return false;
        };
        let signed = |keys: &Vec<AnyKey>| keys.iter().any(|key| envelope.is_signed_by(key));
        let ids: BTreeSet<String> = speaker.keys.iter().map(AnyKey::key_id).collect();
        // Who reads the log must not have to guess whose a signature is meant to be.
        let named = envelope.signatures.iter().all(|signature| ids.contains(&signature.keyid));
        !speaker.demanded.is_empty() && named && speaker.demanded.iter().all(signed)
    }
}

/// What an export turned out to be.
#[derive(Clone, Debug)]
pub struct Report {
    /// Number of entries under the checkpoint; 0 if the checkpoint is not the log's.
    pub size: u64,
    /// The signed root, if the checkpoint is the log's.
    pub root: Option<Digest>,
    /// The policy's witnesses that cosigned the checkpoint, each with its time in seconds since 1970.
    pub witnesses: Vec<(String, u64)>,
    /// The entries that could be read, oldest first, each with its position.
    pub records: Vec<(u64, Record)>,
    /// The activation that has an intent and no outcome yet, by its act.
    pub open_intent: Option<String>,
    /// The log's keys: the one that was brought along, and those that rightly succeeded it.
    pub keys: Keys,
    /// What is wrong; empty for a good export.
    pub faults: Vec<Fault>,
}

/// What an entry says alone, before it is compared with those around it.
#[derive(Debug)]
pub struct Checked {
    leaf: Digest,
    digest: Digest,
    record: Result<Record, RecordError>,
    /// Whether the host signed it; of no meaning for a person's.
    by_host: Result<(), RecordError>,
}

/// What can be said of each of some entries alone.
pub type Check<'a> = dyn Fn(&[&[u8]]) -> Vec<Checked> + Sync + 'a;

/// Verifies a whole export and names every fault.
#[must_use]
pub fn verify(export: &Export, trust: &Trust) -> Report {
    verify_spread(export, trust, |entries, check| check(entries))
}

/// As [`verify`]; `spread` calls its function for all entries, some at a time, and returns the results in the
/// entries' order, so that a program can do it in several threads. Each signature is judged alone.
///
/// # Panics
/// If `spread` returns another number of results.
#[must_use]
pub fn verify_spread(
    export: &Export,
    trust: &Trust,
    spread: impl Fn(&[&[u8]], &Check<'_>) -> Vec<Checked>,
) -> Report {
    let mut report = Report {
        size: 0,
        root: None,
        witnesses: Vec::new(),
        records: Vec::new(),
        open_intent: None,
        keys: Keys::new(trust.log.clone()),
        faults: Vec::new(),
    };
    let checkpoint = match claimed(export, trust) {
        Ok(checkpoint) => checkpoint,
        Err(fault) => {
            report.faults.push(fault);
            return report;
        }
    };
    // A size that the files cannot hold must not be iterated over: each file holds 256 at most.
    if checkpoint.size.div_ceil(WIDTH) > export.len() as u64 {
        judge_checkpoint(export, trust, &checkpoint, &mut report);
        let path = "tile/entries".to_owned();
        report.faults.push(Fault::Missing { path });
        return report;
    }
    if checkpoint.size == 0 {
        // No record enrols the trust root.
        report.faults.push(Fault::Anchor { seq: 0 });
    }
    let entries = entries(export, checkpoint.size, &mut report.faults);
    read_all(&entries, &checkpoint, export, trust, &spread, &mut report);
    judge_checkpoint(export, trust, &checkpoint, &mut report);
    report
}

/// Reads every entry, under the key that is in force where it stands.
fn read_all(
    entries: &[Option<&[u8]>],
    checkpoint: &Checkpoint,
    export: &Export,
    trust: &Trust,
    spread: &impl Fn(&[&[u8]], &Check<'_>) -> Vec<Checked>,
    report: &mut Report,
) {
    let readable: Vec<&[u8]> = entries.iter().flatten().copied().collect();
    let checked_by = |key: &VerifierKey, from: usize| {
        let some = readable.get(from..).unwrap_or_default();
        let host = key.key().checker();
        let host = if some.len() < MANY { host } else { host.for_many() };
        let checked = spread(some, &|entries| check(entries, &host));
        assert_eq!(checked.len(), some.len(), "a result for each entry");
        checked
    };
    let checked = checked_by(&trust.log, 0);
    let mut tree = Tree::new();
    checked.iter().for_each(|entry| tree.push(entry.leaf));
    files(export, checkpoint, &tree, &mut report.faults);
    let mut rules = Rules::new(trust, tree);
    let (mut checked, mut read) = (checked.into_iter(), 0);
    for (seq, entry) in (0..).zip(entries) {
        rules.prev = match entry.and_then(|_readable| checked.next()) {
            None => {
                rules.unread(&mut report.faults);
                None
            }
            Some(Checked { digest, record, by_host, .. }) => {
                read += 1;
                match record {
                    Ok(record) => {
                        let key = rules.keys.now().clone();
                        rules.check(seq, digest, &record, by_host, &mut report.faults);
                        report.records.push((seq, record));
                        if *rules.keys.now() != key {
                            // What the key before signed is none from here on.
                            checked = checked_by(rules.keys.now(), read).into_iter();
                        }
                    }
                    Err(cause) => {
                        report.faults.push(Fault::Entry { seq, cause });
                        rules.unread(&mut report.faults);
                    }
                }
                Some(digest)
            }
        };
    }
    rules.end(&mut report.faults);
    report.open_intent = rules.open;
    report.keys = rules.keys;
}

/// The checkpoint as the export has it: by the key that was brought along, or, where the log says that
/// another took over, by that one, which is judged once the log is read.
fn claimed(export: &Export, trust: &Trust) -> Result<Checkpoint, Fault> {
    let bytes = checkpoint_bytes(export)?;
    let opened = open_checkpoint(bytes, &trust.log);
    let unknown = matches!(opened, Err(Fault::Checkpoint(RecordError::NoteSignature)));
    let said = Checkpoint::unsigned(checkpoint_text(bytes)?, trust.log.name());
    match said {
        Ok(said) if unknown && says_succession(export, said.size) => Ok(said),
        _ => opened,
    }
}

fn says_succession(export: &Export, size: u64) -> bool {
    let says =
        |text: &[u8]| Record::parse(text).is_ok_and(|record| record.event == Event::KeySuccession);
    size.div_ceil(WIDTH) <= export.len() as u64
        && entries(export, size, &mut Vec::new()).into_iter().flatten().any(says)
}

/// That the key in force at the end of the log signed the checkpoint, and that the policy accepts it.
fn judge_checkpoint(export: &Export, trust: &Trust, claimed: &Checkpoint, report: &mut Report) {
    let text = checkpoint_bytes(export).and_then(checkpoint_text);
    let key = report.keys.at(claimed.size);
    let judged = text.and_then(|text| {
        let checkpoint = Checkpoint::open(text, key).map_err(Fault::Checkpoint)?;
        (report.size, report.root) = (checkpoint.size, Some(checkpoint.root));
        let Some(policy) = &trust.policy else { return Ok(Vec::new()) };
        Ok(policy.check_among(text, key, &report.keys).map_err(Fault::Policy)?.by)
    });
    match judged {
        Ok(witnesses) => report.witnesses = witnesses,
        // What it says of the rest comes after it.
        Err(fault) => report.faults.insert(0, fault),
    }
}

/// What can be said of each of `entries` alone.
fn check(entries: &[&[u8]], host: &Checker) -> Vec<Checked> {
    entries.chunks(TOGETHER).flat_map(|some| check_some(some, host)).collect()
}

fn check_some(entries: &[&[u8]], host: &Checker) -> Vec<Checked> {
    let records: Vec<_> = entries.iter().map(|entry| Record::parse(entry)).collect();
    let by_host = |record: &&Record| record.is_by_the_host();
    let hosts: Vec<&Record> = records.iter().flatten().filter(by_host).collect();
    let mut verdicts = Record::check_all_by(&hosts, host).into_iter();
    let checked = entries.iter().zip(records).map(|(entry, record)| {
        let signed = record.as_ref().is_ok_and(|record| by_host(&record));
        let by_host = if signed { verdicts.next().expect("a verdict for each") } else { Ok(()) };
        Checked { leaf: leaf_hash(entry), digest: Digest::of(entry), record, by_host }
    });
    checked.collect()
}

/// Whether the log of `export`, which [`verify`] found to be whole and to have these keys, begins with the
/// entries of `earlier`: the checkpoint that an auditor kept from an earlier visit.
///
/// # Errors
/// [`Fault::Checkpoint`] for one that this log did not sign, [`Fault::Past`] for another past.
pub fn check_past(export: &Export, keys: &Keys, earlier: &[u8]) -> Result<(), Fault> {
    let note = checkpoint_text(earlier)?;
    let earlier = keys.open(note).map_err(Fault::Checkpoint)?;
    let now = checkpoint_text(checkpoint_bytes(export)?)?;
    let now = keys.open(now).map_err(Fault::Checkpoint)?;
    let past = Fault::Past { size: earlier.size };
    let short = now.size.div_ceil(WIDTH) > export.len() as u64;
    if earlier.size > now.size || short {
        return Err(past);
    }
    let mut tree = Tree::new();
    for entry in entries(export, now.size, &mut Vec::new()).into_iter().flatten() {
        tree.push(leaf_hash(entry));
    }
    let same = tree.size() == now.size && tree.root_of(earlier.size) == earlier.root;
    if !same {
        return Err(past);
    }
    // A key that was given up signs no more, whoever has it.
    Checkpoint::open(note, keys.at(earlier.size)).map(drop).map_err(Fault::Checkpoint)
}

/// That entry `index` of `export`, which [`verify`] found to be whole, is under its checkpoint, and the
/// entry itself.
///
/// # Errors
/// [`Fault::NoEntry`], and what [`verify`] would say of the checkpoint and the bundles.
pub fn prove<'export>(
    export: &'export Export,
    log: &VerifierKey,
    index: u64,
) -> Result<(LogProof, &'export [u8]), Fault> {
    let mut size = 0;
    let chosen = prove_chosen(export, log, |of, _entries| {
        size = of;
        vec![index]
    });
    chosen?.pop().ok_or(Fault::NoEntry { size })
}

/// As [`prove`], of those entries whose positions `choose` answers, given the log's size and its entries.
///
/// # Errors
/// As [`prove`].
pub fn prove_chosen<'export>(
    export: &'export Export,
    log: &VerifierKey,
    choose: impl FnOnce(u64, &[&'export [u8]]) -> Vec<u64>,
) -> Result<Vec<(LogProof, &'export [u8])>, Fault> {
    let Checkpoint { size, .. } = open_checkpoint(checkpoint_bytes(export)?, log)?;
    let mut faults = Vec::new();
    if size.div_ceil(WIDTH) > export.len() as u64 {
        return Err(Fault::NoEntry { size });
    }
    let entries: Vec<&[u8]> = entries(export, size, &mut faults).into_iter().flatten().collect();
    if let Some(fault) = faults.into_iter().next() {
        return Err(fault);
    }
    let mut tree = Tree::new();
    entries.iter().for_each(|entry| tree.push(leaf_hash(entry)));
    let checkpoint = checkpoint_text(checkpoint_bytes(export)?)?;
    let prove = |index: u64| {
        let entry = usize::try_from(index).ok().and_then(|index| entries.get(index));
        let entry = entry.ok_or(Fault::NoEntry { size })?;
        let (path, checkpoint) = (tree.inclusion(index, size), checkpoint.to_owned());
        Ok((LogProof { extra: None, index, path, checkpoint }, *entry))
    };
    choose(size, &entries).into_iter().map(prove).collect()
}

fn checkpoint_bytes(export: &Export) -> Result<&[u8], Fault> {
    let path = "checkpoint";
    let bytes = export.get(path).map(Vec::as_slice);
    bytes.ok_or_else(|| Fault::Missing { path: path.to_owned() })
}

fn checkpoint_text(bytes: &[u8]) -> Result<&str, Fault> {
    std::str::from_utf8(bytes).map_err(|_bytes| Fault::Checkpoint(RecordError::Note))
}

fn open_checkpoint(bytes: &[u8], log: &VerifierKey) -> Result<Checkpoint, Fault> {
    Checkpoint::open(checkpoint_text(bytes)?, log).map_err(Fault::Checkpoint)
}

/// The entries by position; those of a bundle that cannot be read are absent.
fn entries<'export>(
    export: &'export Export,
    size: u64,
    faults: &mut Vec<Fault>,
) -> Vec<Option<&'export [u8]>> {
    let mut entries = Vec::new();
    for bundle in tiles::all(size).filter(|tile| tile.kind == Kind::Entries) {
        let path = bundle.path();
        let read = match export.get(&path) {
            None => Err(Fault::Missing { path }),
            Some(bytes) => {
                tiles::entries(bytes, bundle.width).map_err(|cause| Fault::Bundle { path, cause })
            }
        };
        match read {
            Ok(read) => entries.extend(read.into_iter().map(Some)),
            Err(fault) => {
                faults.push(fault);
                entries.extend((0..bundle.width).map(|_| None));
            }
        }
    }
    entries
}

/// Root and tiles against the entries, and the set of files against the size.
fn files(export: &Export, checkpoint: &Checkpoint, tree: &Tree, faults: &mut Vec<Fault>) {
    let whole = tree.size() == checkpoint.size;
    if whole && tree.root() != checkpoint.root {
        faults.push(Fault::Root);
    }
    let mut known = BTreeSet::new();
    for tile in tiles::all(checkpoint.size) {
        let path = tile.path();
        if matches!(tile.kind, Kind::Hashes { .. }) {
            match export.get(&path) {
                None => faults.push(Fault::Missing { path: path.clone() }),
                Some(bytes) if whole && *bytes != tile.hashes(tree) => {
                    faults.push(Fault::Tile { path: path.clone() });
                }
                Some(_) => {}
            }
        }
        known.insert(path);
    }
    let extra = |path: &&String| path.starts_with("tile/") && !known.contains(*path);
    faults.extend(export.keys().filter(extra).map(|_| Fault::Extra));
}

/// The rules between entries, as far as the entries so far go.
struct Rules<'trust> {
    trust: &'trust Trust,
    /// The trust root in force, by the log's own word, and the place of the newest that ever was.
    root: Digest,
    newest: usize,
    /// Digest of the entry before, if it could be read.
    prev: Option<Digest>,
    acts: BTreeSet<String>,
    /// Act of the intent that has no outcome yet.
    open: Option<String>,
    promotions: Promotions,
    /// The summary that is the entry before.
    summary: Option<Summary>,
    /// The keys so far, and the tree that persons sign to give another one.
    keys: Keys,
    tree: Tree,
}

/// A summary, until the outcome after it is read.
struct Summary {
    seq: u64,
    digest: Digest,
    /// What was signed, byte for byte.
    payload: Vec<u8>,
}

impl<'trust> Rules<'trust> {
    fn new(trust: &'trust Trust, tree: Tree) -> Self {
        Self {
            trust,
            root: trust.root,
            newest: 0,
            prev: None,
            acts: BTreeSet::new(),
            open: None,
            promotions: Promotions::new(trust.log.name()),
            summary: None,
            keys: Keys::new(trust.log.clone()),
            tree,
        }
    }

    /// What the log must not end with: a crash leaves both or none.
    fn end(&mut self, faults: &mut Vec<Fault>) {
        faults.extend(self.summary.take().map(|summary| Fault::Summary { seq: summary.seq }));
        self.unread(faults);
    }

    /// An entry that cannot be read stands between those around it.
    fn unread(&mut self, faults: &mut Vec<Fault>) {
        // Whether the summary before it was due is not to be said.
        self.summary = None;
        faults.extend(self.keys.finish().err().into_iter().flatten());
    }

    fn check(
        &mut self,
        seq: u64,
        digest: Digest,
        record: &Record,
        by_host: Result<(), RecordError>,
        faults: &mut Vec<Fault>,
    ) {
        let before = faults.len();
        let summary = self.summary.take();
        let mut is_believed = true;
        match &record.signer {
            Signer::Person(said) => {
                is_believed = self.trust.approves(self.root, said.person(), &record.envelope);
                if !is_believed {
                    faults.push(Fault::Person { seq });
                }
            }
            Signer::Summary(_) => {
                let payload = record.envelope.payload.clone();
                self.summary = Some(Summary { seq, digest, payload });
            }
            Signer::Host { act, place, host, .. } => {
                let here = place.seq == seq && place.prev == self.prev;
                if !here || host.origin != self.trust.log.name() {
                    faults.push(Fault::Chain { seq });
                }
                if !self.acts.insert(act.clone()) {
                    faults.push(Fault::ActTwice { seq });
                }
                if !self.activation(record.event, act) {
                    faults.push(Fault::Activation { seq });
                }
            }
        }
        match by_host {
            // It is the first of the key that it names, which its own rule asks for.
            Err(_kind) if record.event == Event::KeySuccession => {}
            Err(cause) => faults.push(Fault::Entry { seq, cause }),
            Ok(()) => {}
        }
        let needed = self.promotions.needed();
        let read = self.keys.read(seq, record, is_believed, needed, &self.tree);
        faults.extend(read.err().into_iter().flatten());
        faults.extend(self.summarised(seq, record, summary));
        // Who is not known to have signed something did not decide anything.
        if faults.len() == before || record.is_by_the_host() {
            faults.extend(self.promotions.read(seq, digest, record));
        }
        if record.event == Event::TrustUpdate
            && let Some(root) = record.about("trust-root")
        {
            faults.extend(self.goes_on_under(seq, root));
        }
        let enrolment = record.event == Event::AnchorEnrolment;
        let root = ("trust-root".to_owned(), self.trust.root);
        if enrolment != (seq == 0) || (enrolment && !record.subject.contains(&root)) {
            faults.push(Fault::Anchor { seq });
        }
    }

    /// What is wrong with `root`, which is in force from now on: it is no older one than any before it.
    fn goes_on_under(&mut self, seq: u64, root: Digest) -> Option<Fault> {
        self.root = root;
        let place = self.trust.approvers.iter().position(|(one, _)| *one == root);
        let known = (root == self.trust.root).then_some(0);
        match place.or(known) {
            // Nobody can say whether it follows the one before.
            None => Some(Fault::UnknownRoot { seq }),
            Some(place) if place < self.newest => Some(Fault::OlderRoot { seq }),
            Some(place) => {
                self.newest = place;
                None
            }
        }
    }

    /// A summary stands before the outcome that promotes a new release and nowhere else, and says what the
    /// log says.
    fn summarised(&self, seq: u64, record: &Record, summary: Option<Summary>) -> Option<Fault> {
        let fits = match (&record.signer, summary) {
            (Signer::Host { time, facts, .. }, summary)
                if record.event == Event::ActivationOutcome
                    && facts.get("outcome").is_some_and(|outcome| outcome == "promoted") =>
            {
                self.is_as_expected(record, time, summary)
            }
            (_, summary) => summary.is_none() && record.about(SUMMARY).is_none(),
        };
        if fits { None } else { Some(Fault::Summary { seq }) }
    }

    fn is_as_expected(&self, outcome: &Record, time: &Time, summary: Option<Summary>) -> bool {
        let named = outcome.about(SUMMARY);
        match (self.promotions.under_way(), summary) {
            (Some(verified), Some(summary)) => {
                let due = verified.statement(self.trust.log.name(), time).to_json();
                named == Some(summary.digest) && due.as_deref() == Ok(summary.payload.as_slice())
            }
            (None, None) => named.is_none(),
            _ => false,
        }
    }

    /// One intent at a time, each ended by its own outcome.
    fn activation(&mut self, event: Event, act: &str) -> bool {
        if event == Event::ActivationIntent {
            return self.open.replace(act.to_owned()).is_none();
        }
        event != Event::ActivationOutcome || self.open.take() == intent_of(act)
    }
}

#[cfg(test)]
mod tests;
