//! The signed records: `records export`, `records verify`, and the way to the other verbs.

use std::{
    error::Error as _,
    fs::{self, OpenOptions},
    io::Write,
    num::NonZero,
    path::{Component, Path, PathBuf},
    thread,
};

use base64::Engine as _;
use clap::{Args, Subcommand};
use cloister_config::{Config, Role};
use cloister_daemon::{Connection, files};
use cloister_domain::{Digest, counted};
use cloister_record::{
    Check, Checked, Checkpoint, Export, Fault, Keys, Note, Policy, RecordError, Trust, VerifierKey,
};
use cloister_wire::{
    Reply,
    record::{Answer, Evidence, Request},
};

use crate::{
    About, Accept, Changes, Failure, Prove, ReceiptOf, VerifyProof, VerifyReceipt, Witness,
    WitnessKeyOf, ask_daemon, new_folder, print_json, proof, queries, read_config, receipt, say,
    witness,
};

/// What to do with records.
#[derive(Debug, Subcommand)]
pub enum RecordsVerb {
    /// Write the log, its checkpoint and the second verifier to a new folder.
    Export {
        /// The folder.
        folder: PathBuf,
        /// The log as it was when a witness cosigned it last, with the cosignatures.
        #[arg(long)]
        witnessed: bool,
    },
    /// Check an export: every signature, leaf, root, checkpoint and cosignature.
    Verify(Verify),
    /// Write a request for a witness's cosignature to req/ in a folder, such as a stick's.
    Request {
        /// The folder.
        folder: PathBuf,
        /// The name of the witness's key; may be left out where there is one witness.
        #[arg(long, value_name = "NAME")]
        witness: Option<String>,
    },
    /// On the auditor's machine: cosign a request, unless the log shows another past than before.
    Witness(Witness),
    /// Print the verifier key of a witness, for the appliance's configuration and for policies.
    WitnessKey(WitnessKeyOf),
    /// Hand in what witnesses answered.
    Accept(Accept),
    /// Write a record of an export with its proof, which convinces without the rest of the log.
    Prove(Prove),
    /// Check a record and its proof with a policy.
    VerifyProof(VerifyProof),
    /// Write receipts of an export's records, each of which convinces alone: as text, or as QR codes
    /// that leave on paper.
    Receipt(ReceiptOf),
    /// Check receipts, or the lines that were read off their codes, with a policy.
    VerifyReceipt(VerifyReceipt),
    /// Tell what changed since a record or a date.
    Changes(Changes),
    /// Tell everything about a thing, such as the generation that an answer names.
    About(About),
}

/// What an auditor brought along, by another way than the export.
#[derive(Debug, Args)]
pub struct Verify {
    /// The folder of an export.
    folder: PathBuf,
    /// The log's first verifier key, noted at enrolment; the log itself shows those that succeeded it.
    #[arg(long, value_name = "KEY")]
    log_key: String,
    /// The enrolled root file, known from elsewhere; then each later root, in order.
    #[arg(long, value_name = "FILE", required = true)]
    root: Vec<PathBuf>,
    /// The checkpoint of an earlier visit, which the log must contain.
    #[arg(long, value_name = "FILE")]
    since: Option<PathBuf>,
    /// Which witnesses must have cosigned the checkpoint (C2SP tlog-policy).
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
}

pub(crate) fn records(
    verb: &RecordsVerb,
    config: &Path,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    match verb {
        RecordsVerb::Export { folder, witnessed } => {
            let request = if *witnessed { Request::ExportWitnessed } else { Request::Export };
            export(&read_config(config)?, folder, &request, json, out)
        }
        RecordsVerb::Verify(brought) => verify(brought, json, out),
        RecordsVerb::Request { folder, witness: name } => {
            witness::request(&read_config(config)?, folder, name.as_deref(), json, out)
        }
        RecordsVerb::Witness(said) => witness::witness(said, json, out),
        RecordsVerb::WitnessKey(said) => witness::key(said, json, out),
        RecordsVerb::Accept(said) => witness::accept(&read_config(config)?, said, json, out),
        RecordsVerb::Prove(said) => proof::prove(said, json, out),
        RecordsVerb::VerifyProof(said) => proof::verify(said, json, out),
        RecordsVerb::Receipt(said) => receipt::receipt(said, json, out),
        RecordsVerb::VerifyReceipt(said) => receipt::verify(said, json, out),
        RecordsVerb::Changes(said) => queries::changes(said, config, json, out),
        RecordsVerb::About(said) => queries::about(said, config, json, out),
    }
}

/// Asks recordd for everything and writes it to a folder that did not exist.
fn export(
    config: &Config,
    folder: &Path,
    request: &Request,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let socket = config.paths.socket(Role::Recordd);
    let connection = Connection::connect(&socket).map_err(|error| Failure::of(&error))?;
    let (files, receipts, (key, lacks)) = new_folder::whole(folder, |aside| {
        let files = write_log(&connection, aside, request)?;
        fs::write(aside.join("audit.py"), cloister_record::AUDITOR)
            .map_err(|_detail| Failure::output())?;
        let Head { log_key: key, former_keys, lacks } = head(config)?;
        let written = read_export(aside)?;
        let keys = former_keys.iter().chain([&key]).map(|key| verifier_key(key));
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        let receipts = receipt::write_beside(aside, &written, signer_of(&written, &keys)?)?;
        Ok((files, receipts, (key, lacks)))
    })?;
    if json {
        let lacks: Vec<Digest> = lacks.iter().map(|one| one.checkpoint).collect();
        let body = serde_json::json!({
            "files": files, "receipts": receipts, "log_key": key, "lacks": lacks,
        });
        return print_json(&body, out);
    }
    say!(out, "exported {} to {}", counted(files, "file"), folder.display());
    say!(out, "receipts    {} of promotions", counted(receipts, "receipt"));
    say!(out, "log key     {key}");
    if !lacks.is_empty() {
        say!(
            out,
            "THE LOG LACKS RECORDS that it had: it was restored from an old copy, which no export shows."
        );
    }
    for lacking in &lacks {
        say!(out, "lacks       {} of {}", lacking.checkpoint, counted(lacking.size, "record"));
    }
    say!(
        out,
        "An auditor compares the key with the one noted at enrolment, and brings root.json along."
    );
    Ok(())
}

/// Writes what recordd sends below `folder`; how many files these are.
fn write_log(connection: &Connection, folder: &Path, request: &Request) -> Result<u64, Failure> {
    connection.write(request).map_err(|error| Failure::of(&error))?;
    let mut files = 0u64;
    loop {
        let reply: Option<Reply<Answer>> =
            connection.read().map_err(|error| Failure::of(&error))?;
        match reply.ok_or_else(|| Failure::conversation("recordd"))?? {
            Answer::File { path, base64 } => {
                write_file(folder, &path, &base64)?;
                files += 1;
            }
            Answer::Done => return Ok(files),
            Answer::Appended { .. }
            | Answer::Head { .. }
            | Answer::Cosigning { .. }
            | Answer::Cosigned { .. }
            | Answer::Entries(_) => {
                return Err(Failure::conversation("recordd"));
            }
        }
    }
}

/// The log's verifier key: what an auditor notes at enrolment and brings along ever after.
pub(crate) fn log_key(config: &Config) -> Result<String, Failure> {
    head(config).map(|head| head.log_key)
}

/// What recordd says of the log as it is now.
struct Head {
    /// Its verifier key, and those that it had before, oldest first.
    log_key: String,
    former_keys: Vec<String>,
    /// What it lacks.
    lacks: Vec<Evidence>,
}

fn head(config: &Config) -> Result<Head, Failure> {
    match ask_daemon(config, Role::Recordd, &Request::Head)? {
        Answer::Head { log_key, former_keys, rolled_back: lacks, .. } => {
            Ok(Head { log_key, former_keys, lacks })
        }
        Answer::Appended { .. }
        | Answer::Cosigning { .. }
        | Answer::Cosigned { .. }
        | Answer::Entries(_)
        | Answer::File { .. }
        | Answer::Done => Err(Failure::conversation("recordd")),
    }
}

/// Which of the log's keys, oldest first, signed the checkpoint of an export: one of a while ago may be by a
/// key that another succeeded since.
fn signer_of<'keys>(
    export: &Export,
    keys: &'keys [VerifierKey],
) -> Result<&'keys VerifierKey, Failure> {
    let note = export.get("checkpoint").and_then(|note| std::str::from_utf8(note).ok());
    let note = note.ok_or_else(|| Failure::conversation("recordd"))?;
    let mut newest_first = keys.iter().rev();
    let signed = newest_first.find(|key| Checkpoint::open(note, key).is_ok());
    signed.ok_or_else(|| Failure::of(&RecordError::NoteSignature))
}

/// Writes one file of an export below `folder`; its path comes over a socket, so it is checked.
fn write_file(folder: &Path, path: &str, base64: &str) -> Result<(), Failure> {
    let inside = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    let bytes = base64::prelude::BASE64_STANDARD.decode(base64).ok();
    let (true, Some(bytes)) = (inside, bytes) else {
        return Err(Failure::conversation("recordd"));
    };
    let failed = |_detail| Failure::output();
    let target = folder.join(path);
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).open(target).map_err(failed)?;
    file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(failed)
}

/// The largest file of an export: an entry bundle of 256 entries of 64 KiB.
const EXPORT_FILE_BYTES_MAX: u64 = 256 * (64 << 10) + 1024;
/// The largest root file, as at enrolment.
const ROOT_BYTES_MAX: u64 = 1 << 20;
/// The largest checkpoint, with the signatures of many witnesses.
const CHECKPOINT_BYTES_MAX: u64 = 1 << 20;

impl Verify {
    fn trust(&self) -> Result<Trust, Failure> {
        let log = verifier_key(&self.log_key)?;
        let read = |path: &PathBuf| {
            files::read_limited(path, ROOT_BYTES_MAX).map_err(|error| Failure::of(&error))
        };
        let texts = self.root.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let texts: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
        let (root, approvers) =
            cloister_verify::auditors_view(&texts).map_err(|error| Failure::of(&error))?;
        let policy = self.policy.as_deref().map(policy).transpose()?;
        Ok(Trust { log, root, approvers, policy })
    }

    /// Whether the log contains what it was at an earlier visit.
    fn check_past(&self, export: &Export, keys: &Keys) -> Result<Option<Fault>, Failure> {
        let Some(path) = &self.since else { return Ok(None) };
        let since = files::read_limited(path, CHECKPOINT_BYTES_MAX);
        let since = since.map_err(|error| Failure::of(&error))?;
        Ok(cloister_record::check_past(export, keys, &since).err())
    }
}

/// Checks an export against what came by another way.
fn verify(brought: &Verify, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let trust = brought.trust()?;
    let export = read_export(&brought.folder)?;
    let mut report = cloister_record::verify_spread(&export, &trust, in_threads);
    report.faults.extend(brought.check_past(&export, &report.keys)?);
    if report.faults.is_empty() {
        let beside = receipt::check_beside(&brought.folder, &export, report.keys.now())?;
        report.faults.extend(beside);
    }
    let faults: Vec<String> = report
        .faults
        .iter()
        .map(|fault| match fault.source() {
            Some(cause) => format!("{fault}: {cause}"),
            None => fault.to_string(),
        })
        .collect();
    if json {
        let body = serde_json::json!({
            "size": report.size,
            "root": report.root,
            "witnesses": report.witnesses.iter().map(|(name, _)| name).collect::<Vec<_>>(),
            "open_intent": report.open_intent,
            "log_key": report.keys.now().to_string(),
            "faults": faults,
        });
        print_json(&body, out)?;
    } else {
        say!(
            out,
            "{} under root {}",
            counted(report.size, "record"),
            report.root.map_or_else(String::new, |root| root.short())
        );
        for (name, time_s) in &report.witnesses {
            say!(out, "witness     {name}, by its clock at {time_s} s since 1970");
        }
        for (first, key) in report.keys.all().skip(1) {
            say!(out, "succeeded   from record {first} on {key} signs");
        }
        if let Some(intent) = &report.open_intent {
            say!(out, "open        {intent}");
        }
        for fault in &faults {
            say!(out, "FAULT       {fault}");
        }
    }
    match faults.len() {
        0 if json => Ok(()),
        0 => {
            say!(out, "good        every signature, leaf, root and checkpoint holds");
            Ok(())
        }
        count => {
            let faults = counted(u64::try_from(count).unwrap_or(u64::MAX), "fault");
            Err(Failure::verification(format!("the export has {faults}; do not trust it")))
        }
    }
}

/// Checks `entries` with a thread for each processor.
fn in_threads(entries: &[&[u8]], check: &Check<'_>) -> Vec<Checked> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let each = entries.len().div_ceil(threads).max(1);
    thread::scope(|scope| {
        let checks: Vec<_> =
            entries.chunks(each).map(|some| scope.spawn(move || check(some))).collect();
        checks.into_iter().flat_map(|done| done.join().expect("a check does not panic")).collect()
    })
}

/// A verifier key of the line.
pub(crate) fn verifier_key(text: &str) -> Result<VerifierKey, Failure> {
    text.parse().map_err(|error: RecordError| Failure::of(&error))
}

/// The key that signed a checkpoint: the one of the line, or one that the policy gives its log.
pub(crate) fn log_of(
    checkpoint: &str,
    policy: &Policy,
    said: Option<&str>,
) -> Result<VerifierKey, Failure> {
    if let Some(key) = said {
        return verifier_key(key);
    }
    let note = Note::parse(checkpoint).map_err(|error| Failure::of(&error))?;
    let origin = note.text().split('\n').next().unwrap_or_default();
    let signed = |key: &&VerifierKey| Checkpoint::open(checkpoint, key).is_ok();
    // Of a log with several keys the one that signed; of none that did, one that says so.
    let known = policy.logs(origin).find(signed).or_else(|| policy.logs(origin).next());
    let missing = "the policy names no such log; give its key with --log-key";
    known.cloned().ok_or_else(|| Failure::usage(missing))
}

/// The largest policy.
const POLICY_BYTES_MAX: u64 = 2 << 20;

/// The policy in a file.
pub(crate) fn policy(path: &Path) -> Result<Policy, Failure> {
    let text = crate::read(path, POLICY_BYTES_MAX, "the policy")?;
    Policy::parse(&text).map_err(|error| Failure::of(&error))
}

/// The log's files of an export: the checkpoint and everything below `tile/`.
pub(crate) fn read_export(folder: &Path) -> Result<Export, Failure> {
    let mut export = Export::new();
    read_files(folder, folder, &mut export)?;
    Ok(export)
}

fn read_files(top: &Path, folder: &Path, export: &mut Export) -> Result<(), Failure> {
    let failed = |_detail| Failure::usage("the export cannot be read");
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let kind = fs::symlink_metadata(&path).map_err(failed)?.file_type();
        // A name that is no text is one that no file of a log has.
        let inside = path.strip_prefix(top).map(Path::to_string_lossy).unwrap_or_default();
        let inside = inside.into_owned();
        if kind.is_dir() {
            read_files(top, &path, export)?;
        } else if inside == "checkpoint" || inside.starts_with("tile/") {
            // A link is no file of a log, whatever lies behind it: it is one that holds nothing.
            let bytes = if kind.is_file() {
                files::read_limited(&path, EXPORT_FILE_BYTES_MAX)
            } else {
                Ok(Vec::new())
            };
            export.insert(inside, bytes.map_err(|error| Failure::of(&error))?);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An export of what a witness saw before another key took over is by the key of then.
    #[test]
    fn a_checkpoint_of_a_while_ago_is_by_the_key_of_then() {
        let key = |seed: u8| {
            let seed = cloister_domain::Secret::new(vec![seed; 32]);
            cloister_attest::SigningKey::from_seed(&seed).expect("32 bytes")
        };
        let named = |seed| VerifierKey::new("enclave/one", key(seed).public()).expect("a name");
        let keys = [1, 2, 3].map(named);
        let root = Digest::of(b"root");
        let signed = |seed: u8| {
            let log = Checkpoint { origin: "enclave/one".to_owned(), size: 2, root };
            let note = log.sign(&key(seed)).expect("a name").into_bytes();
            Export::from([("checkpoint".to_owned(), note)])
        };
        for (seed, known) in (1..).zip(&keys) {
            assert_eq!(signer_of(&signed(seed), &keys).ok(), Some(known));
        }
        assert!(signer_of(&signed(4), &keys).is_err());
        assert!(signer_of(&Export::new(), &keys).is_err());
    }
}
