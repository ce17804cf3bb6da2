//! `records export` and `records verify`.

use std::{
    error::Error as _,
    fs::{self, OpenOptions},
    io::Write,
    path::{Component, Path, PathBuf},
};

use base64::Engine as _;
use cloister_config::{Config, Role};
use cloister_daemon::{Connection, files};
use cloister_domain::counted;
use cloister_record::{Export, Fault, Trust};
use cloister_wire::{
    Reply,
    record::{Answer, Request},
};

use crate::{Failure, ask_daemon, print_json, say};

/// Asks recordd for everything and writes it to a folder that did not exist.
pub(crate) fn export(
    config: &Config,
    folder: &Path,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let socket = config.paths.socket(Role::Recordd);
    let connection = Connection::connect(&socket).map_err(|error| Failure::of(&error))?;
    fs::create_dir(folder).map_err(|_detail| {
        Failure::usage("the folder of an export must be new, inside one that exists")
    })?;
    connection.write(&Request::Export).map_err(|error| Failure::of(&error))?;
    let mut files = 0u64;
    loop {
        let reply: Option<Reply<Answer>> =
            connection.read().map_err(|error| Failure::of(&error))?;
        match reply.ok_or_else(|| Failure::conversation("recordd"))?? {
            Answer::File { path, base64 } => {
                write_file(folder, &path, &base64)?;
                files += 1;
            }
            Answer::Done => break,
            Answer::Appended { .. } | Answer::Head { .. } | Answer::Entries(_) => {
                return Err(Failure::conversation("recordd"));
            }
        }
    }
    fs::write(folder.join("audit.py"), cloister_record::AUDITOR)
        .map_err(|_detail| Failure::output())?;
    let key = log_key(config)?;
    if json {
        return print_json(&serde_json::json!({ "files": files, "log_key": key }), out);
    }
    say!(out, "exported {} to {}", counted(files, "file"), folder.display());
    say!(out, "log key     {key}");
    say!(
        out,
        "An auditor compares the key with the one noted at enrolment, and brings root.json along."
    );
    Ok(())
}

/// The log's verifier key: what an auditor notes at enrolment and brings along ever after.
pub(crate) fn log_key(config: &Config) -> Result<String, Failure> {
    match ask_daemon(config, Role::Recordd, &Request::Head)? {
        Answer::Head { log_key, .. } => Ok(log_key),
        Answer::Appended { .. } | Answer::Entries(_) | Answer::File { .. } | Answer::Done => {
            Err(Failure::conversation("recordd"))
        }
    }
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

/// What an auditor brought along, by another way than the export.
pub(crate) struct Brought<'a> {
    /// The log's verifier key.
    pub(crate) log_key: &'a str,
    /// The enrolled root file, then each later one.
    pub(crate) roots: &'a [PathBuf],
    /// The checkpoint of an earlier visit.
    pub(crate) since: Option<&'a Path>,
}

impl Brought<'_> {
    fn trust(&self) -> Result<Trust, Failure> {
        let log: Result<_, cloister_record::RecordError> = self.log_key.parse();
        let log = log.map_err(|error| Failure::of(&error))?;
        let read = |path: &PathBuf| {
            files::read_limited(path, ROOT_BYTES_MAX).map_err(|error| Failure::of(&error))
        };
        let texts = self.roots.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let texts: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
        let (root, approvers) =
            cloister_verify::auditors_view(&texts).map_err(|error| Failure::of(&error))?;
        Ok(Trust { log, root, approvers })
    }

    /// Whether the log contains what it was at an earlier visit.
    fn check_past(&self, export: &Export, trust: &Trust) -> Result<Option<Fault>, Failure> {
        let Some(path) = self.since else { return Ok(None) };
        let since = files::read_limited(path, CHECKPOINT_BYTES_MAX);
        let since = since.map_err(|error| Failure::of(&error))?;
        Ok(cloister_record::check_past(export, trust, &since).err())
    }
}

/// Checks an export against what came by another way.
pub(crate) fn verify(
    folder: &Path,
    brought: &Brought<'_>,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let trust = brought.trust()?;
    let mut export = Export::new();
    read_export(folder, folder, &mut export)?;
    let mut report = cloister_record::verify(&export, &trust);
    report.faults.extend(brought.check_past(&export, &trust)?);
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
            "open_intent": report.open_intent,
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

/// Reads the log's files of an export: the checkpoint and everything below `tile/`.
fn read_export(top: &Path, folder: &Path, export: &mut Export) -> Result<(), Failure> {
    let failed = |_detail| Failure::usage("the export cannot be read");
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let kind = fs::symlink_metadata(&path).map_err(failed)?.file_type();
        let inside =
            path.strip_prefix(top).ok().and_then(Path::to_str).unwrap_or_default().to_owned();
        if kind.is_dir() {
            read_export(top, &path, export)?;
        } else if inside == "checkpoint" || inside.starts_with("tile/") {
            let bytes = files::read_limited(&path, EXPORT_FILE_BYTES_MAX)
                .map_err(|error| Failure::of(&error))?;
            export.insert(inside, bytes);
        }
    }
    Ok(())
}
