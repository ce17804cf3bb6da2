//! `approve`: a person's own signature over exactly what `review` showed.
//!
//! The key file is read here, in the person's own process, and goes nowhere else.

use std::{io::Write, path::Path};

use cloister_attest::{
    approval::{Approval, Decision},
    keyfile::{KEY_FILE_BYTES_MAX, KeyFile},
};
use cloister_config::Config;
use cloister_domain::{Class, ImportId};
use cloister_wire::{
    Problem,
    supply::{Answer, Request},
};

use crate::{Failure, print_json, read, say, supply};

pub(crate) fn approve(
    config: &Config,
    import: ImportId,
    key: &Path,
    reject: bool,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let text = read(key, KEY_FILE_BYTES_MAX, "the approver's key; give its file with --key")?;
    let holder = KeyFile::parse(&text).map_err(|error| Failure::of(&error))?;
    let reviewed = supply::ask_import(config, import)?;
    let (Some(package), Some(summary)) = (reviewed.package, &reviewed.summary) else {
        return Err(Failure::from(Problem::new(
            Class::Refused,
            "import.not-awaiting-approval",
            "this import is not awaiting approval; `cloister review` shows where it stands",
        )));
    };
    let approval = Approval {
        package,
        bundle: summary.generation,
        decision: if reject { Decision::Reject } else { Decision::Approve },
        person: holder.person,
        comment: String::new(),
    };
    let envelope = approval.sign(&holder.key).map_err(|error| Failure::of(&error))?;
    let envelope = String::from_utf8(envelope.to_json()).map_err(|_bytes| Failure::output())?;
    let answer = supply::ask(config, &Request::Approve { envelope })?;
    let Answer::Import(import) = &answer else { return Err(Failure::conversation("updaterd")) };
    if json {
        return print_json(import, out);
    }
    let act = if reject { "rejected" } else { "approved" };
    say!(out, "{} {act} package {package}", approval.person);
    say!(out, "approvals   {} of {}", import.approved_by.len(), import.approvals_needed);
    Ok(())
}
