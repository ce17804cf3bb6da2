//! `approve`: a person's own signature over what `review` shows.

use std::io::Write;

use clap::Args;
use cloister_attest::approval::{Approval, Decision};
use cloister_config::Config;
use cloister_domain::{Class, ImportId};
use cloister_wire::{
    Problem,
    supply::{Answer, Request},
};

use crate::{Failure, print_json, say, sign::Signing, supply};

/// What an approver says.
#[derive(Debug, Args)]
pub struct Approve {
    /// The import.
    id: u64,
    /// Whose signature.
    #[command(flatten)]
    by: Signing,
    /// Only if its package is this one: the digest that `review` showed, or its first digits, 8 at least.
    #[arg(long, value_name = "DIGEST")]
    package: Option<String>,
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
    let keys = said.by.open()?;
    let import = ImportId(said.id);
    let reviewed = supply::ask_import(config, import)?;
    let (Some(package), Some(summary)) = (&reviewed.package, &reviewed.summary) else {
        return Err(Failure::from(Problem::new(
            Class::Refused,
            "import.not-awaiting-approval",
            "this import is not awaiting approval; `cloister review` shows where it stands",
        )));
    };
    let read = said.package.as_ref();
    if read.is_some_and(|read| read.len() < 8 || !package.digest.to_string().starts_with(read)) {
        return Err(Failure::from(Problem::new(
            Class::Refused,
            "approval.package",
            "the import has another package by now; run `cloister review` again and sign what it shows",
        )));
    }
    let approval = Approval {
        package: package.digest,
        bundle: summary.generation,
        policy: package.policy,
        evidence: package.evidence,
        log: package.log.clone(),
        decision: if said.reject { Decision::Reject } else { Decision::Approve },
        person: keys.person.clone(),
        comment: String::new(),
    };
    let unsigned = approval.unsigned().map_err(|error| Failure::of(&error))?;
    let envelope = keys.sign(unsigned)?;
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
