//! `authorise` and `acknowledge`: what only several persons together may allow, each by an own
//! signature.

use std::io::Write;

use clap::Args;
use cloister_attest::consent::{Consent, Matter};
use cloister_config::{Config, Role};
use cloister_domain::{Class, Digest, GenerationId, LogHead};
use cloister_wire::{
    Problem, record,
    supply::{Answer, Lacking, Request, RestoredLog},
};

use crate::{Failure, ask_daemon, print_json, say, sign::Signing, supply};

/// What an approver says about a return below the floor.
#[derive(Debug, Args)]
pub struct Authorise {
    /// The release to return to, which is older than what its successors allow.
    generation: GenerationId,
    /// Whose signature.
    #[command(flatten)]
    by: Signing,
}

/// What an approver says about a log that was restored from an old copy.
#[derive(Debug, Args)]
pub struct Acknowledge {
    /// The checkpoint that the log lacks, as `cloister status` shows it; needed where there are several.
    #[arg(long, value_name = "DIGEST")]
    checkpoint: Option<Digest>,
    /// Whose signature.
    #[command(flatten)]
    by: Signing,
}

/// Signs a leave to return below the floor, once.
pub(crate) fn authorise(
    config: &Config,
    said: &Authorise,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let status = supply::ask_status(config)?;
    let active = status.generations.iter().find(|generation| generation.active);
    let Some(active) = active else {
        return Err(Failure::from(Problem::new(
            Class::Refused,
            "downgrade.nothing-active",
            "nothing is active, so there is nothing to return from",
        )));
    };
    let matter = Matter::Downgrade { to: said.generation, from: active.generation };
    let signed = give(config, &said.by, matter, json, out)?;
    if signed {
        say!(out, "When enough have signed: cloister rollback --to {}", said.generation);
    }
    Ok(())
}

/// Signs that the appliance may go on with a log that lacks records.
pub(crate) fn acknowledge(
    config: &Config,
    said: &Acknowledge,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let restored = supply::ask_status(config)?.restored_log;
    let open: Vec<Digest> = restored.iter().flat_map(RestoredLog::open).map(named).collect();
    let checkpoint = match (said.checkpoint, open.as_slice()) {
        (Some(checkpoint), _) => checkpoint,
        (None, [only]) => *only,
        (None, []) => {
            return Err(Failure::from(Problem::new(
                Class::Refused,
                "record.whole",
                "the log lacks nothing that anybody showed it and that too few acknowledged; there is \
                 nothing to acknowledge",
            )));
        }
        // What came to light since the person looked is nothing that the person looked at.
        (None, _several) => {
            return Err(Failure::from(Problem::new(
                Class::Refused,
                "record.restored.which",
                "the log lacks several checkpoints; acknowledge each with --checkpoint, as `cloister \
                 status` shows them",
            )));
        }
    };
    give(config, &said.by, Matter::Acknowledgement { checkpoint }, json, out).map(drop)
}

const fn named(lacking: &Lacking) -> Digest {
    lacking.checkpoint
}

/// Signs and hands in; whether it was told in words.
fn give(
    config: &Config,
    by: &Signing,
    matter: Matter,
    json: bool,
    out: &mut dyn Write,
) -> Result<bool, Failure> {
    let keys = by.open()?;
    let log = match ask_daemon(config, Role::Recordd, &record::Request::Head)? {
        record::Answer::Head { origin, size, .. } => LogHead { origin, size },
        _ => return Err(Failure::conversation("recordd")),
    };
    let consent = Consent { matter, log, person: keys.person.clone() };
    let unsigned = consent.unsigned().map_err(|error| Failure::of(&error))?;
    let answer = supply::ask(config, &Request::Consent { envelope: keys.sign(unsigned)? })?;
    let Answer::Consented { persons, needed } = &answer else {
        return Err(Failure::conversation("updaterd"));
    };
    if json {
        return print_json(&answer, out).map(|()| false);
    }
    say!(out, "{} signed; {} of {needed}: {}", keys.person, persons.len(), persons.join(", "));
    Ok(true)
}
