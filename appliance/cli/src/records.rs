//! `records export` and `records verify`.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::{Component, Path},
};

use base64::Engine as _;
use cloister_config::{Config, Role};
use cloister_daemon::Connection;
use cloister_wire::{
    Reply,
    record::{Answer, Request},
};

use crate::{Failure, print_json, say};

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
    if json {
        return print_json(&serde_json::json!({ "files": files }), out);
    }
    say!(out, "exported {files} files to {}", folder.display());
    Ok(())
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
