//! `records prove` and `records verify-proof`: one record with a proof, for whoever has no export.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use clap::Args;
use cloister_daemon::files;
use cloister_record::{ENVELOPE_BYTES_MAX, LogProof};

use crate::{Failure, print_json, records, say};

/// The largest proof: a path and a checkpoint with many cosignatures.
const PROOF_BYTES_MAX: u64 = 256 << 10;

/// Which record.
#[derive(Debug, Args)]
pub struct Prove {
    /// The folder of an export.
    export: PathBuf,
    /// The record's position, from 0.
    index: u64,
    /// The folder for INDEX.json, the record, and INDEX.tlog-proof.
    out: PathBuf,
    /// The log's verifier key, known from elsewhere.
    #[arg(long, value_name = "KEY")]
    log_key: String,
}

/// A record, its proof, and what an auditor brought along.
#[derive(Debug, Args)]
pub struct VerifyProof {
    /// The record.
    record: PathBuf,
    /// Its proof (C2SP tlog-proof).
    proof: PathBuf,
    /// The logs that are believed, and which witnesses must have cosigned (C2SP tlog-policy).
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// The log's verifier key, where the policy names no log.
    #[arg(long, value_name = "KEY")]
    log_key: Option<String>,
}

pub(crate) fn prove(said: &Prove, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let log = records::verifier_key(&said.log_key)?;
    let export = records::read_export(&said.export)?;
    let proved = cloister_record::prove(&export, &log, said.index);
    let (proof, record) = proved.map_err(|fault| Failure::of(&fault))?;
    fs::create_dir_all(&said.out).map_err(|_detail| Failure::output())?;
    let record_file = said.out.join(format!("{}.json", said.index));
    let proof_file = said.out.join(format!("{}.tlog-proof", said.index));
    write(&record_file, record)?;
    write(&proof_file, proof.to_text().as_bytes())?;
    if json {
        return print_json(&serde_json::json!({ "record": record_file, "proof": proof_file }), out);
    }
    say!(out, "wrote {} and {}", record_file.display(), proof_file.display());
    Ok(())
}

pub(crate) fn verify(said: &VerifyProof, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let policy = records::policy(&said.policy)?;
    let bytes_max = u64::try_from(ENVELOPE_BYTES_MAX).expect("a bound below 2^64");
    let record = crate::read(&said.record, bytes_max, "the record")?;
    let proof = crate::read(&said.proof, PROOF_BYTES_MAX, "the proof")?;
    let proof = String::from_utf8(proof).map_err(|_bytes| Failure::usage("a proof is text"))?;
    let proof = LogProof::parse(&proof).map_err(|error| Failure::of(&error))?;
    let log = records::log_of(&proof.checkpoint, &policy, said.log_key.as_deref())?;
    let checked = proof.check(&record, &log, &policy);
    let witnessed =
        checked.map_err(|error| Failure::verification(format!("do not believe it: {error}")))?;
    let (size, by) = (witnessed.checkpoint.size, witnessed.by);
    let names: Vec<&String> = by.iter().map(|(name, _)| name).collect();
    if json {
        let body = serde_json::json!({ "index": proof.index, "size": size, "witnesses": names });
        return print_json(&body, out);
    }
    say!(out, "good        record {} of {size} of {}", proof.index, log.name());
    for (name, time_s) in by {
        say!(out, "witness     {name}, by its clock at {time_s} s since 1970");
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    files::write_atomic(path, bytes, 0o644).map_err(|error| Failure::of(&error))
}
