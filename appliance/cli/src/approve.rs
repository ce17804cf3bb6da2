//! `approve`: a person's own signature over exactly what `review` showed.
//!
//! The key is opened here, in the person's own process, and goes nowhere else.

use std::{io::Write, path::PathBuf};

use clap::Args;
use cloister_attest::approval::{Approval, Decision};
use cloister_config::Config;
use cloister_domain::{Class, ImportId};
use cloister_signer::{Passphrases, Spec};
use cloister_wire::{
    Problem,
    supply::{Answer, Request},
};

use crate::{Failure, print_json, say, supply};

/// What an approver says.
#[derive(Debug, Args)]
pub struct Approve {
    /// The import.
    id: u64,
    /// Your key: PATH, tpm:PATH, credential:NAME or pkcs11:…; once for each half.
    #[arg(long, value_name = "KEY", required = true)]
    key: Vec<Spec>,
    /// A file with one passphrase or PIN a line, instead of the terminal.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Reject instead: a veto.
    #[arg(long)]
    reject: bool,
}

pub(crate) fn approve(
    config: &Config,
    said: &Approve,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let mut ask = Passphrases::from_file_or_terminal(said.passphrase_file.as_deref())
        .map_err(|error| Failure::of(&error))?;
    let keys = said.key.iter().map(|spec| cloister_signer::open(spec, &mut ask));
    let keys: Vec<_> = keys.collect::<Result<_, _>>().map_err(|error| Failure::of(&error))?;
    let holder = keys.first().ok_or_else(|| Failure::usage("give your key with --key"))?;
    if keys.iter().any(|key| key.person != holder.person) {
        return Err(Failure::usage("the keys are of different persons; each approves alone"));
    }
    let import = ImportId(said.id);
    let reviewed = supply::ask_import(config, import)?;
    let (Some(package), Some(summary)) = (&reviewed.package, &reviewed.summary) else {
        return Err(Failure::from(Problem::new(
            Class::Refused,
            "import.not-awaiting-approval",
            "this import is not awaiting approval; `cloister review` shows where it stands",
        )));
    };
    let approval = Approval {
        package: package.digest,
        bundle: summary.generation,
        policy: package.policy,
        evidence: package.evidence,
        log: package.log.clone(),
        decision: if said.reject { Decision::Reject } else { Decision::Approve },
        person: holder.person.clone(),
        comment: String::new(),
    };
    let mut envelope = approval.unsigned().map_err(|error| Failure::of(&error))?;
    for key in &keys {
        envelope = envelope.sign_by(&key.signer).map_err(|error| Failure::of(&error))?;
    }
    let envelope = String::from_utf8(envelope.to_json()).map_err(|_bytes| Failure::output())?;
    let answer = supply::ask(config, &Request::Approve { envelope })?;
    let Answer::Import(import) = &answer else { return Err(Failure::conversation("updaterd")) };
    if json {
        return print_json(import, out);
    }
    let act = if said.reject { "rejected" } else { "approved" };
    say!(out, "{} {act} package {}", approval.person, package.digest);
    say!(out, "approvals   {} of {}", import.approved_by.len(), import.approvals_needed);
    Ok(())
}
