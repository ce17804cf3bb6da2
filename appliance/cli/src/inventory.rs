//! `inventory`: what the shelf holds, and what an import needs, for the connected side.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::Path,
};

use base64::Engine as _;
use cloister_config::{Config, Role};
use cloister_daemon::Connection;
use cloister_domain::{Digest, ImportId, counted};
use cloister_record::VerifierKey;
use cloister_wire::{
    intake,
    inventory::{Page, Request},
};

use crate::{Failure, ask_daemon, print_json, records, say};

/// Bytes of a content id.
const ID_BYTES: usize = 32;

/// Writes a receipt: the signed record on a line of its own, then the content ids.
pub(crate) fn inventory(
    config: &Config,
    file: &Path,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let mut first: Option<Page> = None;
    let mut ids = Vec::new();
    loop {
        let from = u64::try_from(ids.len() / ID_BYTES).map_err(|_large| Failure::output())?;
        let page: Page = ask_daemon(config, Role::Updaterd, &Request::Inventory { from })?;
        let some = decoded(&page.base64, "updaterd")?;
        let (count, ended) = (page.count, some.is_empty());
        let begun = first.get_or_insert(page);
        if begun.count != count {
            return Err(Failure::conversation("updaterd"));
        }
        ids.extend(some);
        if ended || u64::try_from(ids.len() / ID_BYTES) == Ok(count) {
            break;
        }
    }
    let first = first.ok_or_else(|| Failure::conversation("updaterd"))?;
    let mut receipt = first.envelope.into_bytes();
    receipt.push(b'\n');
    receipt.extend_from_slice(&ids);
    write_new(file, &receipt)?;
    let log_key = records::log_key(config)?;
    let host: VerifierKey = log_key.parse().map_err(|_kind| Failure::conversation("recordd"))?;
    let (chunks, digest, key) = (first.count, Digest::of(&ids), host.key().to_hex());
    if json {
        let said = serde_json::json!({ "chunks": chunks, "inventory": digest, "host_key": key });
        return print_json(&said, out);
    }
    say!(out, "{}, inventory {digest}", counted(chunks, "chunk"));
    say!(out, "host key    {key}");
    say!(out, "The connected side compares the key with the one it was given by another way.");
    Ok(())
}

/// Writes a request: the content ids that an import lacks because thin bundles left them out.
pub(crate) fn needs(
    config: &Config,
    import: ImportId,
    file: &Path,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let connection = Connection::connect(&config.paths.socket(Role::Intaked))
        .map_err(|error| Failure::of(&error))?;
    let event: intake::Event =
        connection.ask(&intake::Request::Needs { import }).map_err(|error| Failure::of(&error))?;
    let intake::Event::Needs { base64 } = event else {
        return Err(Failure::conversation("intaked"));
    };
    let ids = decoded(&base64, "intaked")?;
    write_new(file, &ids)?;
    let chunks = ids.len() / ID_BYTES;
    if json {
        return print_json(&serde_json::json!({ "chunks": chunks }), out);
    }
    let chunks = counted(u64::try_from(chunks).unwrap_or(u64::MAX), "chunk");
    say!(out, "import {import} needs {chunks} that thin volumes left out");
    Ok(())
}

fn decoded(base64: &str, daemon: &str) -> Result<Vec<u8>, Failure> {
    let bytes = base64::prelude::BASE64_STANDARD.decode(base64).ok();
    let whole = bytes.filter(|bytes| bytes.len() % ID_BYTES == 0);
    whole.ok_or_else(|| Failure::conversation(daemon))
}

pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let mut file =
        OpenOptions::new().write(true).create_new(true).open(path).map_err(|_detail| {
            Failure::usage("the file must be new, inside a folder that exists")
        })?;
    // Half a list would be taken for a whole one.
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|_detail| {
        fs::remove_file(path).unwrap_or_default();
        Failure::output()
    })
}
