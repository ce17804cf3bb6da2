//! `key create`, `key list` and `key revoke`: API keys of the gateway.

use std::{fs::OpenOptions, io::Write, os::unix::fs::OpenOptionsExt as _, path::Path};

use cloister_config::{Config, Role};
use cloister_domain::{LabelSet, NameError};
use cloister_wire::gateway::{Answer, Request};

use crate::{Failure, KeyVerb, ask_daemon, print_json, say};

/// Asks the gateway's administration socket one thing.
pub(crate) fn ask(config: &Config, request: &Request) -> Result<Answer, Failure> {
    ask_daemon(config, Role::Gatewayd, request)
}

pub(crate) fn keys(
    config: &Config,
    verb: KeyVerb,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let name = |error: NameError| Failure::usage(&error.to_string());
    match verb {
        KeyVerb::Create { principal, label, out: file } => {
            let principal = principal.parse().map_err(name)?;
            let labels: LabelSet =
                label.iter().map(|label| label.parse()).collect::<Result<_, _>>().map_err(name)?;
            let answer = ask(config, &Request::CreateKey { principal, labels, value: None })?;
            let Answer::Created { info, value } = &answer else {
                return Err(Failure::conversation("gatewayd"));
            };
            if let Some(file) = file {
                write_new(&file, value.expose())?;
                if json {
                    return print_json(info, out);
                }
                say!(out, "key {} for {} written to {}", info.id, info.principal, file.display());
            } else if json {
                print_json(&answer, out)?;
            } else {
                say!(out, "key {} for {}; shown this once:", info.id, info.principal);
                say!(out, "{}", value.expose());
            }
        }
        KeyVerb::List => {
            let answer = ask(config, &Request::ListKeys)?;
            let Answer::Keys(keys) = &answer else { return Err(Failure::conversation("gatewayd")) };
            if json {
                return print_json(keys, out);
            }
            for key in keys {
                let labels: Vec<&str> = key.labels.iter().map(|label| label.as_str()).collect();
                say!(out, "{}  {}  {}", key.id, key.principal, labels.join(","));
            }
        }
        KeyVerb::Revoke { id } => {
            let answer = ask(config, &Request::RevokeKey { id: id.clone() })?;
            if json {
                return print_json(&answer, out);
            }
            say!(out, "key {id} is withdrawn");
        }
    }
    Ok(())
}

/// Writes a secret to a file that did not exist, readable by its owner only.
fn write_new(path: &Path, value: &str) -> Result<(), Failure> {
    let failed = |_detail| Failure::usage("the key file cannot be written, or exists already");
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    writeln!(file, "{value}").and_then(|()| file.sync_all()).map_err(failed)
}
