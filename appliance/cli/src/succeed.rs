//! `succeed`: the machine's host key takes the place of the log's, which is lost. Each approver signs alone,
//! to a file; the files are handed in together.

use std::{
    fs::OpenOptions,
    io::Write,
    path::{Path, PathBuf},
};

use clap::Args;
use cloister_attest::consent::Consent;
use cloister_config::{Config, Role};
use cloister_domain::{Class, LogHead};
use cloister_record::{Checkpoint, ENVELOPE_BYTES_MAX, succession};
use cloister_signer::Spec;
use cloister_wire::{
    Problem, record,
    supply::{Answer, Request},
};

use crate::{Failure, ask_daemon, print_json, records, say, sign::Signing, supply};

/// What an approver says about another host key, or what all of them said.
#[derive(Debug, Args)]
pub struct Succeed {
    /// Sign what is shown, and write it to this new file; nothing is handed in.
    #[arg(long, value_name = "FILE", requires = "key", conflicts_with = "words")]
    sign: Option<PathBuf>,
    /// Your key: PATH, tpm:PATH, credential:NAME or pkcs11:…; once for each half.
    #[arg(long, value_name = "KEY", requires = "sign")]
    key: Vec<Spec>,
    /// A file with one passphrase or PIN a line, instead of the terminal.
    #[arg(long, value_name = "FILE", requires = "sign")]
    passphrase_file: Option<PathBuf>,
    /// The files that the approvers signed, of all together.
    #[arg(value_name = "FILE", required_unless_present = "sign")]
    words: Vec<PathBuf>,
}

/// Signs, or hands in.
pub(crate) fn succeed(
    config: &Config,
    said: &Succeed,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let Some(file) = &said.sign else { return hand_in(config, &said.words, json, out) };
    let (key, passphrase_file) = (said.key.clone(), said.passphrase_file.clone());
    sign(config, file, &Signing { key, passphrase_file }, json, out)
}

/// Shows the log and both keys, signs that the new one may succeed, and writes that to `file`.
fn sign(
    config: &Config,
    file: &Path,
    by: &Signing,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let keys = by.open()?;
    let head = ask_daemon(config, Role::Recordd, &record::Request::Head)?;
    let record::Answer::Head { origin, size, root, log_key, successor, .. } = head else {
        return Err(Failure::conversation("recordd"));
    };
    let Some(successor) = successor else {
        return Err(Failure::from(Problem::new(
            Class::Refused,
            "record.key.stands",
            "the machine has the log's key; there is nothing to succeed",
        )));
    };
    let new = records::verifier_key(&successor.log_key)?;
    let head = Checkpoint { origin: origin.clone(), size, root };
    if !json {
        say!(out, "log         {origin}, {size} records");
        say!(out, "root        {root}");
        say!(out, "lost key    {log_key}");
        say!(out, "new key     {new}");
        say!(
            out,
            "Compare the lost key with the paper of the enrolment, and size and root with the last"
        );
        say!(
            out,
            "export or the witness: what the log lacks is lost to it once the new key signs."
        );
    }
    // What is signed is made of what is shown, whatever else was answered.
    let matter = succession::matter(&head, &new);
    let log = LogHead { origin, size };
    let consent = Consent { matter, log, person: keys.person.clone() };
    let envelope = keys.sign(consent.unsigned().map_err(|error| Failure::of(&error))?)?;
    write_new(file, &envelope)?;
    if json {
        let body = serde_json::json!({
            "person": keys.person, "file": file, "size": size, "root": root,
            "log_key": log_key, "successor": new.to_string(),
        });
        return print_json(&body, out);
    }
    say!(out, "{} signed   {}", keys.person, file.display());
    say!(out, "When enough have signed: cloister succeed FILE FILE…");
    Ok(())
}

/// Hands in what the approvers signed.
fn hand_in(
    config: &Config,
    files: &[PathBuf],
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let bytes_max = u64::try_from(ENVELOPE_BYTES_MAX).expect("a bound below 2^64");
    let read = |file: &PathBuf| {
        let bytes = crate::read(file, bytes_max, "what an approver signed")?;
        String::from_utf8(bytes).map_err(|_content| Failure::usage("what is signed is text"))
    };
    let envelopes = files.iter().map(read).collect::<Result<_, _>>()?;
    let answer = supply::ask(config, &Request::Succeed { envelopes })?;
    let Answer::Succeeded { log_key, record } = &answer else {
        return Err(Failure::conversation("updaterd"));
    };
    if json {
        return print_json(&answer, out);
    }
    say!(out, "succeeded   as record {record}");
    say!(out, "log key     {log_key}");
    say!(
        out,
        "Note the new key on paper, below the first one: witnesses and receipts need it, and an"
    );
    say!(out, "auditor still brings the first.");
    Ok(())
}

fn write_new(path: &Path, text: &str) -> Result<(), Failure> {
    let opened = OpenOptions::new().write(true).create_new(true).open(path);
    let mut file = opened.map_err(|_detail| {
        Failure::usage("the file of --sign must be new, in a folder that exists")
    })?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(|_detail| Failure::output())
}
