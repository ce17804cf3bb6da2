//! The key ceremony as its page tells it: the commands of docs/runbooks/ceremony.md, run as they
//! stand, each person on a machine (here a folder) of their own, passphrases typed at a terminal.
#![expect(clippy::unwrap_used, reason = "a test helper fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "the files are the test's own")]

use std::{
    fs,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use cloister_domain::Digest;
use cloister_verify::enrol;

const PASSPHRASE: &str = "five words chosen by dice";
const OFFICERS: [&str; 5] = ["officer-1", "officer-2", "officer-3", "officer-4", "officer-5"];
const OTHERS: [&str; 4] = ["importer", "publisher", "ada", "bob"];

/// The page's blocks of commands with the word that says who runs each.
fn blocks() -> Vec<(String, String)> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/runbooks/ceremony.md");
    let page = fs::read_to_string(page).unwrap();
    let blocks = page.split("\n```sh ").skip(1).map(|rest| {
        let (who, rest) = rest.split_once('\n').unwrap();
        (who.to_owned(), rest.split_once("\n```").unwrap().0.to_owned())
    });
    blocks.collect()
}

/// All machines, and the stick between them.
struct Room(tempfile::TempDir);

impl Room {
    fn new() -> Self {
        let room = Self(tempfile::tempdir().unwrap());
        for name in OFFICERS.iter().chain(&OTHERS).chain(&["table", "stick"]) {
            fs::create_dir(room.path(name)).unwrap();
        }
        room
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs a block at the machine `name`, typing the passphrase whenever it is asked for. The
    /// terminal's text, and whether the block succeeded.
    fn run(&self, name: &str, block: &str, digest: &str) -> (String, bool) {
        let programs = Path::new(env!("CARGO_BIN_EXE_cloister-mint")).parent().unwrap();
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
        fs::write(self.path(name).join("block.sh"), block).unwrap();
        let mut child = Command::new("script")
            .args(["-qefc", "bash -euo pipefail block.sh", "/dev/null"])
            .current_dir(self.path(name))
            .env("PATH", path)
            .env("NAME", name)
            .env("STICK", self.path("stick"))
            .env("DIGEST", digest)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut hands = child.stdin.take().unwrap();
        let mut screen = child.stdout.take().unwrap();
        let (mut text, mut byte) = (Vec::new(), [0]);
        while screen.read(&mut byte).unwrap() > 0 {
            text.push(byte[0]);
            let asked = text.rsplit(|byte| *byte == b'\n').next().unwrap();
            let asks = asked.starts_with(b"Passphrase of ")
                || asked.starts_with(b"New passphrase for ")
                || asked.starts_with(b"The same again");
            if asks && asked.ends_with(b": ") {
                hands.write_all(format!("{PASSPHRASE}\n").as_bytes()).unwrap();
            }
        }
        let text = String::from_utf8(text).unwrap();
        assert!(!text.contains(PASSPHRASE), "the passphrase was shown");
        (text, child.wait().unwrap().success())
    }

    fn must(&self, name: &str, block: &str, digest: &str) -> String {
        let (text, done) = self.run(name, block, digest);
        assert!(done, "{name}: {text}");
        text
    }
}

/// The value after a label that starts a line.
fn told(text: &str, label: &str) -> String {
    let line = text.lines().rev().find_map(|line| line.strip_prefix(label));
    line.unwrap_or_else(|| panic!("no {label} in {text}")).trim().to_owned()
}

#[test]
fn the_page_makes_a_root_that_no_machine_could_make_alone() {
    let room = Room::new();
    let blocks = blocks();
    let [everyone, draft, show, sign, finish] = blocks.as_slice() else {
        panic!("the page has {} blocks", blocks.len())
    };
    let who = [everyone, draft, show, sign, finish].map(|(who, _)| who.as_str());
    assert_eq!(who, ["everyone", "table", "signer", "signer", "table"]);
    std::thread::scope(|scope| {
        for name in OFFICERS.into_iter().chain(OTHERS) {
            let room = &room;
            scope.spawn(move || room.must(name, &everyone.1, ""));
        }
    });
    let drafted = room.must("table", &draft.1, "");
    let digest = told(&drafted, "digest");
    let words = told(&drafted, "in words");

    // Two officers are not enough for the table, whatever it does.
    for name in ["officer-1", "officer-4"] {
        let shown = room.must(name, &show.1, "");
        assert_eq!(told(&shown, "digest"), digest);
        assert!(shown.contains(&words) && shown.contains("3 of"), "{shown}");
        room.must(name, &sign.1, &digest);
    }
    let (early, done) = room.run("table", &finish.1, "");
    assert!(!done && early.contains("would not be trusted"), "{early}");
    assert!(!room.path("table/trust/1.root.json").exists());

    // An officer who confirms another digest, and a person who is no officer, sign nothing.
    let (other, done) = room.run("officer-5", &sign.1, &Digest::of(b"other").to_string());
    assert!(!done && other.contains("not the draft that was compared"), "{other}");
    let (other, done) = room.run("importer", &sign.1, &digest);
    assert!(!done && other.contains("no officer"), "{other}");

    room.must("officer-5", &sign.1, &digest);
    let finished = room.must("table", &finish.1, "");
    let root = fs::read(room.path("table/trust/1.root.json")).unwrap();
    assert_eq!(told(&finished, "root file"), Digest::of(&root).to_string());
    enrol(&root, Digest::of(&root)).unwrap();
    let transcript = fs::read_to_string(room.path("table/transcript.txt")).unwrap();
    assert_eq!(transcript.matches("signed by ").count(), 3);
    assert_eq!(told(&transcript, "digest"), digest);
    for officer in ["officer-1", "officer-4", "officer-5"] {
        assert!(transcript.contains(&format!("signed by   {officer} (ed25519, ")), "{transcript}");
    }
    // Each key is on one machine only, and under its passphrase.
    for name in OFFICERS {
        let text = fs::read_to_string(room.path(name).join(format!("{name}.key"))).unwrap();
        assert!(text.starts_with("cloister-key-v1 sealed ed25519 "));
        assert!(!room.path("stick").join(format!("{name}.key")).exists());
    }
}

#[test]
fn signatures_of_another_draft_do_not_join() {
    let room = Room::new();
    let mint = |name: &str, line: &str| room.run(name, line, "");
    for name in ["officer-1", "officer-2", "importer", "ada"] {
        let line = format!(
            "cloister-mint key create --person {name} --out {name}.key > $STICK/{name}.pub"
        );
        assert!(mint(name, &line).1);
    }
    for (draft, importer) in [("a", "importer"), ("b", "ada")] {
        let approver = if importer == "ada" { "importer" } else { "ada" };
        let line = format!(
            "cloister-mint root draft --out $STICK/{draft}.json --root @$STICK/officer-1.pub \
             --root @$STICK/officer-2.pub --importer @$STICK/{importer}.pub \
             --approver @$STICK/{approver}.pub --approvals 1"
        );
        let (text, done) = mint("table", &line);
        assert!(done, "{text}");
        let digest = told(&text, "digest");
        let officer = if draft == "a" { "officer-1" } else { "officer-2" };
        let line = format!(
            "cloister-mint root sign $STICK/{draft}.json --key {officer}.key --confirm {digest} \
             --out $STICK/{draft}.signed.json"
        );
        let (text, done) = mint(officer, &line);
        assert!(done, "{text}");
    }
    let line = "cloister-mint root finish --trust t --transcript t.txt $STICK/?.signed.json";
    let (text, done) = mint("table", line);
    assert!(!done && text.contains("different drafts"), "{text}");
}
