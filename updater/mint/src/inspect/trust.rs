//! What a volume of trust metadata alone says: its files, the stick's number and time, who may make
//! releases, which may enter, and what is taken back. Whoever wrote the volume chose all of it.

use std::{io::Write, path::Path};

use anyhow::{Context as _, Result};
use cloister_attest::json;
use cloister_bundle::container;
use cloister_domain::{ByteCount, counted, printable};
use serde_json::Value;

use crate::volume;

/// Characters of a key's id that are shown where a person's name stands beside it.
const ID_CHARS: usize = 12;

/// Writes what the volume at `path` says.
///
/// # Errors
/// When it cannot be read, is not of the accepted form, or a file in it is no JSON of TUF's.
pub(super) fn describe(path: &Path, out: &mut dyn Write) -> Result<()> {
    let meta = volume::trust_alone(path)?;
    writeln!(out, "volume      trust metadata and no release; no signature is checked here")?;
    for (name, text) in container::entries(&meta)? {
        let shown = printable(name.as_bytes());
        let file = json::parse_strict(text, json::DEPTH_MAX).with_context(|| shown.clone())?;
        let (part, bytes) = (&file["signed"], ByteCount(text.len() as u64));
        writeln!(out, "metadata    {shown}, {bytes}")?;
        let version = part["version"].as_u64().map_or("no".to_owned(), |number| number.to_string());
        writeln!(out, "  version   {version}, expires {}", word(&part["expires"]))?;
        let signatures = file["signatures"].as_array().map_or(&[][..], Vec::as_slice);
        for signature in signatures {
            writeln!(out, "  signed by key {} (not checked)", word(&signature["keyid"]))?;
        }
        match part["_type"].as_str() {
            Some("root") => root(part, out)?,
            Some("timestamp") => stick(&part["x-cloister"], out)?,
            Some("targets") => list(part, out)?,
            _ => {}
        }
    }
    writeln!(out, "Whether an appliance trusts it, `cloister import --inspect` says there.")?;
    Ok(())
}

/// Who holds which role.
fn root(part: &Value, out: &mut dyn Write) -> Result<()> {
    let extra = &part["x-cloister"];
    if let Some(issued) = extra.get("issued") {
        writeln!(out, "  time      at least {}", word(issued))?;
    }
    let roles =
        ["root", "targets", "snapshot", "timestamp"].map(|role| (role, &part["roles"][role]));
    for (name, role) in roles.into_iter().chain([("approvers", &extra["approvers"])]) {
        writeln!(out, "  {name:<9} {}", holders(role, &extra["persons"]))?;
    }
    Ok(())
}

/// The stick's number, and the time that it states.
fn stick(extra: &Value, out: &mut dyn Write) -> Result<()> {
    let number = |field: &str| extra[field].as_u64();
    match (number("sequence"), number("sequence_last")) {
        (Some(number), _) => writeln!(out, "  stick     number {number}")?,
        (None, Some(last)) => writeln!(out, "  stick     no number; the last stick had {last}")?,
        (None, None) => writeln!(out, "  stick     no number")?,
    }
    if let Some(issued) = extra.get("issued") {
        writeln!(out, "  time      {}", word(issued))?;
    }
    Ok(())
}

/// The importer's list.
fn list(part: &Value, out: &mut dyn Write) -> Result<()> {
    let delegations = &part["delegations"];
    for role in delegations["roles"].as_array().into_iter().flatten() {
        let paths: Vec<String> = texts(&role["paths"]).collect();
        let makers = holders(role, &delegations["x-persons"]);
        writeln!(out, "  publisher {}: {makers}, for {}", word(&role["name"]), paths.join(", "))?;
    }
    let targets = part["targets"].as_object();
    writeln!(
        out,
        "  lists     {}",
        counted(targets.map_or(0, |some| some.len() as u64), "release")
    )?;
    for (path, listed) in targets.into_iter().flatten() {
        let path = printable(path.as_bytes());
        writeln!(out, "    {path}  {}", short(&word(&listed["hashes"]["sha256"])))?;
    }
    let revoked = &part["x-cloister"]["revoked"];
    for generation in texts(&revoked["bundles"]) {
        writeln!(out, "  taken back  release {generation}")?;
    }
    for (name, least) in revoked["releases"].as_object().into_iter().flatten() {
        let name = printable(name.as_bytes());
        writeln!(out, "  taken back  every release of {name} with a number below {}", word(least))?;
    }
    for id in revoked["keys"].as_object().into_iter().flat_map(|keys| keys.keys()) {
        writeln!(out, "  taken back  key {}", printable(id.as_bytes()))?;
    }
    Ok(())
}

/// How many of whom a role needs.
fn holders(role: &Value, persons: &Value) -> String {
    let names = texts(&role["keyids"]).map(|id| {
        persons[&id].as_str().map_or_else(
            || format!("key {}", short(&id)),
            |name| format!("{} (key {})", printable(name.as_bytes()), short(&id)),
        )
    });
    let names: Vec<String> = names.collect();
    match role["threshold"].as_u64() {
        Some(threshold) => format!("{threshold} of {}", names.join(", ")),
        None => "nobody".to_owned(),
    }
}

fn texts(list: &Value) -> impl Iterator<Item = String> {
    list.as_array().into_iter().flatten().map(word)
}

/// A text or a number as it stands, on one line; a dash for anything else.
fn word(value: &Value) -> String {
    match value {
        Value::String(text) => printable(text.as_bytes()),
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => "-".to_owned(),
    }
}

fn short(id: &str) -> String {
    id.chars().take(ID_CHARS).collect()
}
