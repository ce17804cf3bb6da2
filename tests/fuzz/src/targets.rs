//! The parsers.

use cloister_attest::{
    approval::Approval, consent::Consent, dsse::Envelope, json, keyfile::KeyFile,
    statement::Statement,
};
use cloister_bundle::{
    FileEntry, Index, Manifest, VolumeHead, container,
    handover::{self, Answer},
};
use cloister_config::Config;
use cloister_domain::Digest;
use cloister_hostile::base::key;
use cloister_record::{
    AddCheckpoint, Checkpoint, LogProof, Policy, Receipt, Record, Seen, VerifierKey, join_parts,
    parts,
};
use cloister_tokenize::{Tokenizer, template::Template};
use cloister_verify::{TrustState, enrol};
use cloister_wire::{intake, record, supply, trial};

/// A parser with its name.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The folder of its corpus.
    pub name: &'static str,
    /// Reads the bytes.
    pub run: fn(&[u8]),
}

/// Every parser of foreign bytes that is a library's.
pub const TARGETS: [Target; 24] = [
    Target { name: "checkpoint", run: checkpoint },
    Target { name: "config", run: config },
    Target { name: "container", run: container },
    Target { name: "document", run: document },
    Target { name: "envelope", run: envelope },
    Target { name: "frames", run: frames },
    Target { name: "gguf", run: gguf },
    Target { name: "handover", run: handover },
    Target { name: "head", run: head },
    Target { name: "index", run: index },
    Target { name: "json", run: strict_json },
    Target { name: "keyfile", run: keyfile },
    Target { name: "manifest", run: manifest },
    Target { name: "metadata", run: metadata },
    Target { name: "policy", run: policy },
    Target { name: "proof", run: proof },
    Target { name: "receipt", run: receipt },
    Target { name: "record", run: record_entry },
    Target { name: "request", run: request },
    Target { name: "safetensors", run: safetensors },
    Target { name: "template", run: template },
    Target { name: "tokenizer", run: tokenizer },
    Target { name: "trial", run: trial_files },
    Target { name: "word", run: word },
];

fn checkpoint(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(opened) = Checkpoint::open(text, &log()) {
        assert!(!opened.origin.is_empty(), "a checkpoint names its log");
    }
}

/// The log that the seeds are of.
fn log() -> VerifierKey {
    VerifierKey::new("enclave/one", key("ada").public()).expect("a good name")
}

fn config(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        drop(Config::parse(text));
    }
}

fn container(bytes: &[u8]) {
    if let Ok(entries) = container::entries(bytes) {
        let again = container::archive(entries).expect("what was read has names");
        assert_eq!(again, bytes, "a container has one spelling");
    }
}

fn document(bytes: &[u8]) {
    for name in ["documents/handbook/a.md", "documents/collections.json", "licences/a.txt"] {
        drop(cloister_inspect::inspect(name, &mut { bytes }));
    }
}

fn envelope(bytes: &[u8]) {
    if let Ok(envelope) = Envelope::parse(bytes) {
        assert_eq!(Envelope::parse(&envelope.to_json()), Ok(envelope), "an envelope returns");
    }
}

/// What a stranger on a socket could write.
fn frames(bytes: &[u8]) {
    drop(serde_json::from_slice::<intake::Request>(bytes));
    drop(serde_json::from_slice::<supply::Request>(bytes));
    drop(serde_json::from_slice::<record::Request>(bytes));
    drop(serde_json::from_slice::<cloister_wire::engine::Request>(bytes));
    drop(serde_json::from_slice::<cloister_wire::corpus::Request>(bytes));
}

fn gguf(bytes: &[u8]) {
    weights("model/model.gguf", bytes);
}

fn safetensors(bytes: &[u8]) {
    weights("model/model.safetensors", bytes);
}

fn weights(name: &str, bytes: &[u8]) {
    drop(cloister_inspect::inspect(name, &mut { bytes }));
    if let Ok(file) = cloister_weights::File::from_bytes(bytes.to_vec().into()) {
        for (_, tensor) in file.tensors().filter(|(_, tensor)| tensor.elements() < 1 << 16) {
            assert_eq!(tensor.to_f32().len(), tensor.elements(), "a tensor has its elements");
        }
    }
}

fn handover(bytes: &[u8]) {
    if let Ok(request) = serde_json::from_slice::<handover::Request>(bytes) {
        let text = serde_json::to_vec(&request).expect("it came as text");
        assert_eq!(serde_json::from_slice::<handover::Request>(&text).ok(), Some(request));
    }
    drop(serde_json::from_slice::<Answer>(bytes));
}

fn head(bytes: &[u8]) {
    if let Ok(head) = VolumeHead::parse(bytes) {
        assert_eq!(VolumeHead::parse(&head.encode()), Ok(head), "a head returns");
    }
}

/// The first 16 bytes are the sizes of two files, the rest is the table over them.
fn index(bytes: &[u8]) {
    let Some((sizes, table)) = bytes.split_first_chunk::<16>() else { return };
    let (sizes, _) = sizes.as_chunks::<8>();
    let file = |size: &[u8; 8]| FileEntry {
        path: "a".parse().expect("a letter is a path"),
        size: u64::from_le_bytes(*size),
        sha256: Digest::of(b""),
    };
    let files: Vec<FileEntry> = sizes.iter().map(file).collect();
    if let Ok(index) = Index::parse(table, &files) {
        assert_eq!(index.encode(), table, "a table has one spelling");
        let total = files.iter().try_fold(0u64, |sum, file| sum.checked_add(file.size));
        assert_eq!(Some(index.plain_bytes()), total, "a table covers its files");
    }
}

fn strict_json(bytes: &[u8]) {
    if let Ok(value) = json::parse_strict(bytes, json::DEPTH_MAX) {
        let text = json::canonical(&value).expect("what was read has a form");
        assert_eq!(json::parse_strict(&text, json::DEPTH_MAX), Ok(value), "a value returns");
    }
}

fn keyfile(bytes: &[u8]) {
    drop(KeyFile::parse(bytes));
}

fn manifest(bytes: &[u8]) {
    drop(Statement::parse(bytes));
    let envelope = Envelope::unsigned(cloister_attest::dsse::PAYLOAD_TYPE, bytes.to_vec());
    if let Ok(manifest) = Manifest::of(&envelope) {
        let again = Manifest::new(manifest.release().clone()).expect("its rules were checked");
        assert_eq!(again.tree(), manifest.tree(), "a release has one tree");
    }
}

/// As a stick's metadata for an appliance that has enrolled a root, and as a root.
fn metadata(bytes: &[u8]) {
    thread_local! {
        static HELD: TrustState = {
            let root = crate::seeds::base().expect("a sample can be made").root;
            enrol(&root, Digest::of(&root)).expect("a sample's root is good")
        };
    }
    HELD.with(|held| {
        if let Ok(newer) = held.refresh(bytes) {
            assert_eq!(TrustState::load(newer.stored().clone()).ok().as_ref(), Some(&newer));
        }
    });
    drop(enrol(bytes, Digest::of(bytes)));
}

fn policy(bytes: &[u8]) {
    if let Ok(policy) = Policy::parse(bytes) {
        let note = crate::seeds::checkpoint().expect("a sample can be made");
        if let Ok(witnessed) = policy.check(&note, &log()) {
            assert_eq!(witnessed.checkpoint.size, 1, "what is accepted is the checkpoint");
        }
    }
}

fn proof(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(proof) = LogProof::parse(text)
    {
        assert_eq!(LogProof::parse(&proof.to_text()), Ok(proof), "a proof returns");
    }
}

/// A receipt, and as the printed parts of one.
fn receipt(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(receipts) = Receipt::parse_all(text) {
        let again: String = receipts.iter().map(Receipt::to_text).collect();
        assert_eq!(Receipt::parse_all(&again).as_ref(), Ok(&receipts), "receipts return");
        let policy = Policy::parse(b"quorum none\n").expect("a policy");
        for receipt in receipts {
            drop(receipt.check(&log(), &policy));
        }
    }
    if let Ok(joined) = join_parts(text) {
        assert_eq!(join_parts(&parts(&joined).join("\n")), Ok(joined), "parts return");
    }
}

/// What a witness is asked.
fn request(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(asked) = AddCheckpoint::parse(text) {
        assert_eq!(AddCheckpoint::parse(&asked.to_text()).as_ref(), Ok(&asked), "it returns");
        let signed = asked.judge(&log(), Seen::nothing()).is_ok();
        assert!(!signed || asked.origin() == Ok("enclave/one"), "a witness signs what it knows");
    }
}

/// The two files of a trial, each read by the other side's daemon.
fn trial_files(bytes: &[u8]) {
    if let Ok(trial) = serde_json::from_slice::<trial::Trial>(bytes) {
        let text = serde_json::to_vec(&trial).expect("it came as text");
        assert_eq!(serde_json::from_slice::<trial::Trial>(&text).ok().as_ref(), Some(&trial));
        let covered = trial.scope.covers(trial.generation, &"ada".parse().expect("a name"));
        let nobody = matches!(trial.scope, trial::Scope::Share { permille: 0 });
        assert!(!(covered && nobody), "nobody is covered by no share");
    }
    drop(serde_json::from_slice::<trial::Counted>(bytes));
}

/// What persons sign: what is read from it says the same when it is written.
fn word(bytes: &[u8]) {
    let envelope = Envelope::unsigned(cloister_attest::dsse::PAYLOAD_TYPE, bytes.to_vec());
    if let Ok(approval) = Approval::of(&envelope) {
        let again = approval.unsigned().expect("what was read can be written");
        assert_eq!(Approval::of(&again), Ok(approval), "an approval returns");
    }
    if let Ok(consent) = Consent::of(&envelope) {
        let again = consent.unsigned().expect("what was read can be written");
        assert_eq!(Consent::of(&again), Ok(consent), "a consent returns");
    }
}

fn record_entry(bytes: &[u8]) {
    drop(Record::parse(bytes));
}

fn template(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(template) = Template::from_json(text)
    {
        let again = template.to_json();
        assert_eq!(Template::from_json(&again).map(|again| again.to_json()).ok(), Some(again));
    }
}

fn tokenizer(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        drop(Tokenizer::from_json(text));
    }
}
