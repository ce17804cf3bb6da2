//! Witnessing by files on a stick: `records request` on the appliance writes `req/LOG.request`,
//! `records witness` on the auditor's machine answers with `resp/LOG.response`, and `records accept`
//! hands that in.
//!
//! A request is the body of an `add-checkpoint` (C2SP tlog-witness), an answer its signature lines, so
//! that any witness can take part. Ours answers a request that it cannot sign with the checkpoint that
//! it saw last: that tells the appliance where to begin, or convicts it.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use clap::Args;
use cloister_attest::{AnyKey, Signer, sign_checked};
use cloister_config::{Config, Role};
use cloister_daemon::{clock, files};
use cloister_domain::counted;
use cloister_record::{
    AddCheckpoint, Checkpoint, Note, Seen, VerifierKey, WitnessError, WitnessKey,
};
use cloister_signer::{Passphrases, Spec};
use cloister_wire::record::{Answer, Request};
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::{Failure, ask_daemon, print_json, records, say};

/// The largest request or answer.
const EXCHANGE_BYTES_MAX: u64 = 256 << 10;
/// The largest state of a witness: thousands of logs.
const STATE_BYTES_MAX: u64 = 64 << 20;

/// A witness's key.
#[derive(Debug, Args)]
pub struct WitnessKeyOf {
    /// The key: PATH, tpm:PATH, credential:NAME or pkcs11:…; of Ed25519.
    #[arg(long, value_name = "KEY")]
    key: Spec,
    /// The name under which it cosigns; default: the name of its holder.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// A file with one passphrase or PIN a line, instead of the terminal.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

/// A request, and what the witness knows.
#[derive(Debug, Args)]
pub struct Witness {
    #[command(flatten)]
    key: WitnessKeyOf,
    /// Where the witness keeps what it signed last of each log.
    #[arg(long, value_name = "FILE")]
    state: PathBuf,
    /// The log's verifier key, noted at enrolment; needed once for each log.
    #[arg(long, value_name = "KEY")]
    log: Option<String>,
    /// The key that took over from the one that this witness knows, as `records verify` shows it or the
    /// paper of the approvers says; what was seen under the old one must be in the log all the same.
    #[arg(long, value_name = "KEY", conflicts_with = "log")]
    successor: Option<String>,
    /// The request.
    request: PathBuf,
    /// Where the answer goes.
    response: PathBuf,
}

/// Answers of witnesses.
#[derive(Debug, Args)]
pub struct Accept {
    /// The answers; a checkpoint of this log that somebody kept is one too.
    #[arg(required = true)]
    responses: Vec<PathBuf>,
    /// The request that was answered; default: ../req/NAME.request beside resp/NAME.response.
    #[arg(long, value_name = "FILE")]
    request: Option<PathBuf>,
}

/// Writes a request for a cosignature of the log as it is now.
pub(crate) fn request(
    config: &Config,
    folder: &Path,
    witness: Option<&str>,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let asked = Request::Cosigning { witness: witness.map(str::to_owned) };
    let Answer::Cosigning { text } = ask_daemon(config, Role::Recordd, &asked)? else {
        return Err(Failure::conversation("recordd"));
    };
    // A log's name holds no plus sign, so two logs never meet.
    let name = config.record.origin.replace('/', "+");
    let file = folder.join("req").join(format!("{name}.request"));
    write(&file, &text)?;
    if json {
        return print_json(&serde_json::json!({ "request": file }), out);
    }
    say!(out, "wrote       {}", file.display());
    Ok(())
}

/// Prints the verifier key of a witness.
pub(crate) fn key(said: &WitnessKeyOf, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let (key, _signer) = said.open()?;
    if json {
        return print_json(&serde_json::json!({ "witness_key": key.to_string() }), out);
    }
    say!(out, "{key}");
    Ok(())
}

impl WitnessKeyOf {
    fn open(&self) -> Result<(WitnessKey, Box<dyn Signer>), Failure> {
        let mut ask = Passphrases::from_file_or_terminal(self.passphrase_file.as_deref())
            .map_err(|error| Failure::of(&error))?;
        let opened =
            cloister_signer::open(&self.key, &mut ask).map_err(|error| Failure::of(&error))?;
        let AnyKey::Ed25519(public) = opened.signer.public() else {
            return Err(Failure::usage("a witness cosigns with a key of Ed25519"));
        };
        let person = opened.person.to_string();
        let name = self.name.as_deref().unwrap_or(&person);
        let key = WitnessKey::new(name, public).map_err(|error| Failure::of(&error))?;
        Ok((key, opened.signer))
    }
}

/// What a witness remembers. Without it a witness is worth nothing: it would sign any past.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    /// The logs by their names.
    logs: BTreeMap<String, Known>,
}

/// A log that a witness knows.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    /// Its verifier key.
    key: String,
    /// The checkpoint that was cosigned last, as the log signed it.
    checkpoint: Option<String>,
    /// The keys that the log had before, oldest first; none of them comes back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    former: Vec<String>,
}

impl State {
    fn read(path: &Path) -> Result<Self, Failure> {
        let bytes = match files::read_limited(path, STATE_BYTES_MAX) {
            Err(error) if error.is_not_found() => return Ok(Self::default()),
            bytes => bytes.map_err(|error| Failure::of(&error))?,
        };
        serde_json::from_slice(&bytes).map_err(|_detail| {
            Failure::usage("the state is not one of a witness; do not begin a new one")
        })
    }

    fn write(&self, path: &Path) -> Result<(), Failure> {
        let bytes = serde_json::to_vec_pretty(self).map_err(|_detail| Failure::output())?;
        files::write_atomic(path, &bytes, 0o600).map_err(|error| Failure::of(&error))
    }
}

/// Cosigns a request, if the log shows the past that it showed before.
pub(crate) fn witness(said: &Witness, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let (key, signer) = said.key.open()?;
    let text = text(&said.request, "the request")?;
    let request = AddCheckpoint::parse(&text).map_err(|error| Failure::of(&error))?;
    let origin = request.origin().map_err(|error| Failure::of(&error))?;
    // From reading what was signed to writing what will be, nobody else may.
    let _held = lock(&said.state)?;
    let mut state = State::read(&said.state)?;
    let log = known_log(state.logs.get(origin), said, origin)?;
    let (last, mut former) = match state.logs.get(origin) {
        None => (None, Vec::new()),
        Some(known) => (known.checkpoint.clone(), known.former.clone()),
    };
    let seen = match (&last, state.logs.get(origin)) {
        (Some(note), Some(known)) => {
            // By the key that the log had then, whatever it has now.
            let key = records::verifier_key(&known.key)?;
            former.extend((key != log).then(|| known.key.clone()));
            let seen = Checkpoint::open(note, &key).map_err(|error| Failure::of(&error))?;
            Seen { size: seen.size, root: seen.root }
        }
        _ => Seen::nothing(),
    };
    let next = match request.judge(&log, seen) {
        Ok(next) => next,
        Err(error) => {
            let shown = matches!(
                error,
                WitnessError::Conflict { .. }
                    | WitnessError::Smaller { .. }
                    | WitnessError::Past { .. }
            );
            if let (true, Some(note)) = (shown, &last) {
                let line = cosign(&key, &*signer, note)?;
                write(&said.response, &format!("{note}{line}"))?;
            }
            return Err(put_back(&error, &former, &request.checkpoint)
                .unwrap_or_else(|| Failure::of(&error)));
        }
    };
    // Durable before there is a signature: a witness that forgets could sign two pasts.
    let note = request.checkpoint.clone();
    let known = Known { key: log.to_string(), checkpoint: Some(note), former };
    state.logs.insert(origin.to_owned(), known);
    state.write(&said.state)?;
    write(&said.response, &cosign(&key, &*signer, &request.checkpoint)?)?;
    if json {
        let body = serde_json::json!({ "log": origin, "from": seen.size, "size": next.size });
        return print_json(&body, out);
    }
    say!(out, "cosigned    {} of {origin}, {} before", counted(next.size, "record"), seen.size);
    say!(out, "wrote       {}", said.response.display());
    Ok(())
}

/// What to say of a checkpoint that the log's key did not sign and one of its `former` keys did.
fn put_back(error: &WitnessError, former: &[String], checkpoint: &str) -> Option<Failure> {
    let signed = |key: &String| {
        let key = records::verifier_key(key).ok()?;
        Checkpoint::open(checkpoint, &key).ok()
    };
    let by_another = matches!(error, WitnessError::Checkpoint(_));
    let known = by_another && former.iter().any(|key| signed(key).is_some());
    known.then(|| {
        Failure::verification(
            "the request is signed with a key that the log had before another took over: the log was \
             put back to before that, disk and board; nothing was signed"
                .to_owned(),
        )
    })
}

/// The key of the log: the one that is remembered, the one that took over from it, or for a log that is new
/// to this witness the one on the line.
fn known_log(known: Option<&Known>, said: &Witness, origin: &str) -> Result<VerifierKey, Failure> {
    let key = |text: &Option<String>| text.as_deref().map(records::verifier_key).transpose();
    let (log, successor) = (key(&said.log)?, key(&said.successor)?);
    let found = match (known, log, successor) {
        (Some(known), None, Some(successor)) => {
            let former = known.former.iter().map(|key| records::verifier_key(key));
            let former = former.collect::<Result<Vec<_>, _>>()?;
            // Whoever found it could show a log of their own.
            if former.contains(&successor) {
                return Err(Failure::usage(
                    "the log had this key before another took over; nothing was signed",
                ));
            }
            successor
        }
        (Some(known), log, _) => {
            let known = records::verifier_key(&known.key)?;
            if log.is_some_and(|log| log != known) {
                return Err(Failure::usage(
                    "this witness knows the log by another key; nothing was signed. If another took \
                     over from it, give that with --successor",
                ));
            }
            known
        }
        (None, Some(log), _) => log,
        (None, None, _) => {
            return Err(Failure::usage("the log is new to this witness; give its key with --log"));
        }
    };
    if found.name() == origin {
        Ok(found)
    } else {
        Err(Failure::usage("the request is of another log than the one of that key"))
    }
}

/// The signature line below `note`.
fn cosign(key: &WitnessKey, signer: &dyn Signer, note: &str) -> Result<String, Failure> {
    let text = Note::parse(note).map_err(|error| Failure::of(&error))?.text();
    let time_s = clock::unix_seconds();
    let message = WitnessKey::message(text, time_s);
    let signature =
        sign_checked(signer, message.as_bytes()).map_err(|error| Failure::of(&error))?;
    Ok(key.line(time_s, &signature))
}

fn lock(state: &Path) -> Result<Flock<fs::File>, Failure> {
    let mut name = state.as_os_str().to_owned();
    name.push(".lock");
    let file = fs::File::create(name).map_err(|_detail| Failure::output())?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_file, _errno)| Failure::output())
}

/// Hands in what witnesses answered.
pub(crate) fn accept(
    config: &Config,
    said: &Accept,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    for path in &said.responses {
        let answer = text(path, "the answer")?;
        let (checkpoint, signatures) = if answer.contains("\n\n") {
            (answer, String::new())
        } else {
            let request = text(&said.request_of(path)?, "the request that was answered")?;
            let request = AddCheckpoint::parse(&request).map_err(|error| Failure::of(&error))?;
            (request.checkpoint, answer)
        };
        let request = Request::Accept { checkpoint, signatures };
        let Answer::Cosigned { size, witnesses } = ask_daemon(config, Role::Recordd, &request)?
        else {
            return Err(Failure::conversation("recordd"));
        };
        if json {
            print_json(&serde_json::json!({ "size": size, "witnesses": witnesses }), out)?;
        } else {
            say!(
                out,
                "kept        {}, cosigned by {}",
                counted(size, "record"),
                witnesses.join(", ")
            );
        }
    }
    Ok(())
}

impl Accept {
    fn request_of(&self, response: &Path) -> Result<PathBuf, Failure> {
        if let Some(request) = &self.request {
            return Ok(request.clone());
        }
        let beside = || {
            let folder = response.parent()?.parent()?;
            let mut name = response.file_stem()?.to_owned();
            name.push(".request");
            Some(folder.join("req").join(name))
        };
        beside().ok_or_else(|| Failure::usage("name the request that was answered: --request"))
    }
}

fn text(path: &Path, what: &str) -> Result<String, Failure> {
    let bytes = crate::read(path, EXCHANGE_BYTES_MAX, what)?;
    String::from_utf8(bytes).map_err(|_content| Failure::usage(&format!("{what} is not text")))
}

/// Writes a file whole, and the folder above it where there is none.
fn write(path: &Path, text: &str) -> Result<(), Failure> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|_detail| Failure::output())?;
    }
    files::write_atomic(path, text.as_bytes(), 0o644).map_err(|error| Failure::of(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str =
        "hospital-north/appliance-1+5ee03e60+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c";

    fn key(seed: u8, name: &str) -> String {
        let seed = cloister_domain::Secret::new(vec![seed; 32]);
        let key = cloister_attest::SigningKey::from_seed(&seed).expect("32 bytes");
        VerifierKey::new(name, key.public()).expect("a name").to_string()
    }

    #[test]
    fn a_request_by_a_former_key_is_told_from_one_by_a_stranger() {
        let signing = |seed: u8| {
            let seed = cloister_domain::Secret::new(vec![seed; 32]);
            cloister_attest::SigningKey::from_seed(&seed).expect("32 bytes")
        };
        let (name, root) = ("enclave/one", cloister_domain::Digest::of(b"root"));
        let note = |seed: u8| {
            let log = Checkpoint { origin: name.to_owned(), size: 2, root };
            log.sign(&signing(seed)).expect("a name")
        };
        let former = [key(1, name), key(2, name)];
        let refused = |seed: u8| {
            let request = AddCheckpoint { old: 0, proof: Vec::new(), checkpoint: note(seed) };
            let log = records::verifier_key(&key(3, name)).expect("a key");
            let error = request.judge(&log, Seen::nothing()).expect_err("by another key");
            put_back(&error, &former, &request.checkpoint).is_some()
        };
        assert!(refused(1) && refused(2) && !refused(4));
        let smaller = WitnessError::Smaller { size: 1, seen: 2 };
        assert!(put_back(&smaller, &former, &note(1)).is_none());
    }

    #[test]
    fn a_witness_takes_a_successor_when_told_and_no_former_key_back() {
        let name = "hospital-north/appliance-1";
        let (next, third) = (key(2, name), key(3, name));
        let known = Known { key: next.clone(), checkpoint: None, former: vec![FIRST.to_owned()] };
        let found = |known: Option<&Known>, log: Option<&str>, successor: Option<&str>| {
            let said = Witness {
                key: WitnessKeyOf {
                    key: "key".parse().expect("a path"),
                    name: None,
                    passphrase_file: None,
                },
                state: PathBuf::new(),
                log: log.map(str::to_owned),
                successor: successor.map(str::to_owned),
                request: PathBuf::new(),
                response: PathBuf::new(),
            };
            known_log(known, &said, name).ok().map(|key| key.to_string())
        };
        assert_eq!(found(Some(&known), None, None), Some(next.clone()));
        assert_eq!(found(Some(&known), Some(&next), None), Some(next.clone()));
        assert_eq!(found(Some(&known), None, Some(&third)), Some(third.clone()));
        // Another key by the option for a new log, a former key, another log's, and nothing at all.
        assert_eq!(found(Some(&known), Some(&third), None), None);
        assert_eq!(found(Some(&known), None, Some(FIRST)), None);
        assert_eq!(found(Some(&known), None, Some(&key(3, "another"))), None);
        assert_eq!(found(None, Some(FIRST), None), Some(FIRST.to_owned()));
        assert_eq!(found(None, None, Some(FIRST)), None);
        assert_eq!(found(None, None, None), None);
    }
}
