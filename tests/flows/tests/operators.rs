//! Who may ask a daemon what an operator asks may ask nothing more: the kernel says who is there.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::Path,
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use cloister_flows::Scene;
use cloister_stage::{Options, Unit};
use serde_json::{Value, json};

/// Asks as a user who is no daemon's, and gives what is said back.
const ASK: &str = "
import socket, struct, sys
peer = socket.socket(socket.AF_UNIX)
peer.connect(sys.argv[1])
text = sys.argv[2].encode()
peer.sendall(struct.pack('<I', len(text)) + text)
peer.shutdown(socket.SHUT_WR)
said = peer.makefile('rb').read()
sys.stdout.buffer.write(said[4:4 + struct.unpack('<I', said[:4])[0]])";

const NOBODY: u32 = 65_534;

fn ask_as_nobody(socket: &Path, request: &Value) -> Result<Value> {
    let output = Command::new("python3")
        .args(["-c", ASK])
        .arg(socket)
        .arg(request.to_string())
        .uid(NOBODY)
        .gid(NOBODY)
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("an answer")
}

fn code(answer: &Value) -> &str {
    answer
        .pointer("/Err/code")
        .or(answer.pointer("/problem/code"))
        .map_or("", |code| code.as_str().unwrap_or(""))
}

#[test]
fn an_operator_asks_what_operators_ask_and_nothing_that_daemons_do() -> Result<()> {
    // Root may always ask, and only root can become somebody else.
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let operators = ["recordd", "updaterd", "corpusd"].map(|unit| format!("{unit} = [{NOBODY}]\n"));
    let more = format!("\n[operators]\n{}", operators.concat());
    let scene = Scene::new(&Options { extra: more, ..Options::default() })?;
    let digest = "0".repeat(64);
    let entry = json!({"event": "activation-intent", "act": "activation/9/intent",
        "subject": [{"name": "bundle", "sha256": digest}], "predicate": {}});
    let search = json!({"generation": digest, "query": "pumps", "collections": [],
        "labels": [], "hits_max": 1});
    let before = scene.events()?;
    for (unit, allowed, refused) in [
        (Unit::Recordd, json!("head"), json!({"append": entry})),
        (Unit::Updaterd, json!("status"), json!("parked")),
        (Unit::Corpusd, json!("verify"), json!({"search": search})),
    ] {
        let socket = unit.socket(scene.stage().config());
        open_to_all(&socket)?;
        let said = ask_as_nobody(&socket, &allowed)?;
        assert_eq!(code(&said), "", "{said}");
        let said = ask_as_nobody(&socket, &refused)?;
        assert_eq!(code(&said), "daemon.operator", "{said}");
    }
    assert_eq!(scene.events()?, before, "nothing was written");
    Ok(())
}

/// Lets anybody reach a socket: the kernel's rights are not what is tried here.
fn open_to_all(socket: &Path) -> Result<()> {
    for place in socket
        .ancestors()
        .take_while(|place| *place != Path::new("/tmp") && place.parent().is_some())
    {
        let mode = fs::metadata(place)?.permissions().mode();
        fs::set_permissions(place, fs::Permissions::from_mode(mode | 0o777))?;
    }
    Ok(())
}
