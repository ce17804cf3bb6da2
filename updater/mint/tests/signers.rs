//! Keys where persons keep them, through the real program: passphrases, a token (SoftHSM), a TPM
//! (swtpm). The last two are passed over with a line where their Debian packages are missing.
#![expect(clippy::unwrap_used, reason = "a test helper fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "the files are the test's own")]

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
const PASSPHRASE: &str = "five words chosen by dice";
const PIN: &str = "648219";

/// A folder of one person, with a key from the seed 07…07 in `ada.key`.
struct Desk {
    folder: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        let desk = Self { folder: tempfile::tempdir().unwrap() };
        fs::write(desk.path("seed"), [7; 32]).unwrap();
        let words = ["key", "create", "--out", "ada.key", "--person", "ada", "--seed-file", "seed"];
        assert!(desk.mint(&words).status.success());
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.folder.path())
            .env("SOFTHSM2_CONF", self.path("softhsm.conf"))
            .stdin(Stdio::null());
        command
    }

    fn mint(&self, words: &[&str]) -> Output {
        self.command(env!("CARGO_BIN_EXE_cloister-mint")).args(words).output().unwrap()
    }

    /// What `key show` says, with `line` as the passphrase or PIN.
    fn show(&self, key: &str, line: &str) -> Result<String, String> {
        fs::write(self.path("lines"), format!("{line}\n")).unwrap();
        let output = self.mint(&["key", "show", key, "--passphrase-file", "lines"]);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }
}

#[expect(clippy::print_stderr, reason = "whoever runs the tests must see what was not tried")]
fn is_there(path: &str, package: &str) -> bool {
    let there = Path::new(path).exists();
    if !there {
        eprintln!("passed over: {path} is missing (Debian package {package})");
    }
    there
}

#[test]
fn a_passphrase_guards_a_key_and_is_asked_for_each_time() {
    let desk = Desk::new();
    let plain = desk.show("ada.key", "").unwrap();
    fs::write(desk.path("new"), format!("{PASSPHRASE}\n")).unwrap();
    let words = ["key", "protect", "ada.key", "--out", "sealed", "--passphrase-file", "new"];
    assert!(desk.mint(&words).status.success());
    assert_eq!(desk.show("sealed", PASSPHRASE).unwrap(), plain);
    assert!(desk.show("sealed", "five words chosen by hand").unwrap_err().contains("passphrase"));
    let text = fs::read_to_string(desk.path("sealed")).unwrap();
    assert!(!text.contains(&"07".repeat(8)), "the seed is not in the clear");
    // Without a terminal and without a file nobody can be asked.
    let mut nobody = desk.command("setsid");
    nobody.args(["--wait", env!("CARGO_BIN_EXE_cloister-mint"), "key", "show", "sealed"]);
    let output = nobody.output().unwrap();
    assert!(String::from_utf8(output.stderr).unwrap().contains("nobody can be asked"));
    // A short one guards nothing, and never overwrites.
    fs::write(desk.path("new"), "short\n").unwrap();
    assert!(
        !desk
            .mint(&["key", "protect", "ada.key", "--out", "s2", "--passphrase-file", "new"])
            .status
            .success()
    );
    assert!(!desk.path("s2").exists());
}

#[test]
fn a_key_in_the_clear_that_others_may_read_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let desk = Desk::new();
    fs::set_permissions(desk.path("ada.key"), fs::Permissions::from_mode(0o640)).unwrap();
    assert!(desk.show("ada.key", "").unwrap_err().contains("chmod 600"));
}

#[test]
fn a_credential_of_systemd_is_a_key() {
    let desk = Desk::new();
    let plain = desk.show("ada.key", "").unwrap();
    let mut command = desk.command(env!("CARGO_BIN_EXE_cloister-mint"));
    command.args(["key", "show", "credential:ada.key"]);
    assert!(!command.output().unwrap().status.success());
    let output = command.env("CREDENTIALS_DIRECTORY", desk.folder.path()).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), plain);
}

#[test]
fn a_token_shows_and_signs_with_the_key_that_it_holds() {
    if !is_there(MODULE, "softhsm2") {
        return;
    }
    let desk = Desk::new();
    let plain = desk.show("ada.key", "").unwrap();
    fs::create_dir(desk.path("tokens")).unwrap();
    let conf = format!("directories.tokendir = {}\n", desk.path("tokens").display());
    fs::write(desk.path("softhsm.conf"), conf).unwrap();
    let softhsm = |words: &[&str]| {
        let output = desk.command("softhsm2-util").args(words).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    softhsm(&["--init-token", "--free", "--label", "officers", "--so-pin", PIN, "--pin", PIN]);
    // The same key as PKCS #8 (RFC 8410): the seed behind a fixed head.
    let mut der = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    der.extend([7; 32]);
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    let pem = format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        BASE64_STANDARD.encode(der)
    );
    fs::write(desk.path("ada.pem"), pem).unwrap();
    let token = ["--token", "officers", "--pin", PIN];
    let import = ["--import", "ada.pem", "--label", "ada", "--id", "a1"];
    softhsm(&[import.as_slice(), &token].concat());

    let uri = format!("pkcs11:token=officers;object=ada?module-path={MODULE}");
    assert_eq!(desk.show(&uri, PIN).unwrap(), plain);
    assert!(desk.show(&uri, "000000").unwrap_err().contains("PIN"));
    let other = format!("pkcs11:token=officers;object=bob?module-path={MODULE}");
    assert!(desk.show(&other, PIN).unwrap_err().contains("no inserted token"));
    let named = format!("pkcs11:id=%a1?module-path={MODULE}&x-person=eve");
    assert!(desk.show(&named, PIN).unwrap().starts_with("eve="));

    // A root that the token signs is the root that the file signs: Ed25519 is deterministic.
    let holder = plain.trim();
    let other = |person: &str| {
        let made = desk.mint(&["key", "create", "--out", person, "--person", person]);
        String::from_utf8(made.stdout).unwrap().trim().to_owned()
    };
    let (importer, approver) = (other("imp"), other("eve"));
    let create = |key: &str, trust: &str| {
        fs::write(desk.path("lines"), format!("{PIN}\n")).unwrap();
        let output = desk.mint(&[
            "root",
            "create",
            "--trust",
            trust,
            "--root",
            holder,
            "--threshold",
            "1",
            "--importer",
            &importer,
            "--approver",
            &approver,
            "--approvals",
            "1",
            "--sign",
            key,
            "--passphrase-file",
            "lines",
        ]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::read(desk.path(trust).join("1.root.json")).unwrap()
    };
    assert_eq!(create(&uri, "by-token"), create("ada.key", "by-file"));

    let twin = ["--import", "ada.pem", "--label", "ada", "--id", "a2"];
    softhsm(&[twin.as_slice(), &token].concat());
    assert!(desk.show(&uri, PIN).unwrap_err().contains("2 keys fit"));
}

/// A TPM in software that ends with the test.
struct Tpm(Child);

impl Tpm {
    /// Starts it on two neighbouring ports and returns its name for systemd-creds.
    fn start(state: &Path) -> (Self, String) {
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let port = (0..50).map(|_| free()).find(|port| {
            port.checked_add(1).is_some_and(|next| TcpListener::bind(("127.0.0.1", next)).is_ok())
        });
        let port = port.unwrap();
        fs::create_dir(state).unwrap();
        let child = Command::new("swtpm")
            .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
            .args(["--tpmstate", &format!("dir={}", state.display())])
            .args(["--server", &format!("type=tcp,port={port},bindaddr=127.0.0.1")])
            .args(["--ctrl", &format!("type=tcp,port={},bindaddr=127.0.0.1", port + 1)])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // The control port opens last; looking at it disturbs nothing.
        while TcpStream::connect(("127.0.0.1", port + 1)).is_err() {
            std::thread::yield_now();
        }
        (Self(child), format!("swtpm:host=127.0.0.1,port={port}"))
    }
}

impl Drop for Tpm {
    fn drop(&mut self) {
        self.0.kill().unwrap_or_default();
        self.0.wait().map(drop).unwrap_or_default();
    }
}

#[test]
fn a_tpm_opens_what_it_sealed_and_another_does_not() {
    let tcti = "/usr/lib/x86_64-linux-gnu/libtss2-tcti-swtpm.so.0";
    if !is_there("/usr/bin/swtpm", "swtpm") || !is_there(tcti, "libtss2-tcti-swtpm0") {
        return;
    }
    let desk = Desk::new();
    let plain = desk.show("ada.key", "").unwrap();
    let (first, device) = Tpm::start(&desk.path("tpm-1"));
    let words = ["key", "protect", "ada.key", "--out", "sealed", "--protect", "tpm"];
    let output = desk.mint(&[words.as_slice(), &["--tpm-device", &device]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(desk.show(&format!("tpm:sealed?device={device}"), "").unwrap(), plain);
    drop(first);
    let (_second, device) = Tpm::start(&desk.path("tpm-2"));
    let other = desk.show(&format!("tpm:sealed?device={device}"), "").unwrap_err();
    assert!(other.contains("TPM would not"), "{other}");
}

/// The block of the ceremony's page that begins with `start`.
fn block(start: &str) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/runbooks/ceremony.md");
    let page = fs::read_to_string(page).unwrap();
    let found = page.split("\n```sh\n").find(|rest| rest.starts_with(start)).unwrap();
    found.split_once("\n```").unwrap().0.to_owned()
}

impl Desk {
    /// Runs a block of the page and returns what it laid on the stick.
    fn run_block(&self, block: &str, names: &[(&str, &str)]) -> String {
        let mint = Path::new(env!("CARGO_BIN_EXE_cloister-mint")).parent().unwrap();
        let path = format!("{}:{}", mint.display(), std::env::var("PATH").unwrap());
        let mut command = self.command("sh");
        command.args(["-euc", block]).env("PATH", path).env("STICK", self.folder.path());
        let output = command.envs(names.iter().copied()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::read_to_string(self.path("eve.pub")).unwrap()
    }
}

#[test]
fn a_token_makes_its_key_as_the_ceremonys_page_says() {
    if !is_there(MODULE, "softhsm2") || !is_there("/usr/bin/pkcs11-tool", "opensc") {
        return;
    }
    let desk = Desk::new();
    fs::create_dir(desk.path("tokens")).unwrap();
    let conf = format!("directories.tokendir = {}\n", desk.path("tokens").display());
    fs::write(desk.path("softhsm.conf"), conf).unwrap();
    fs::write(desk.path("lines"), format!("{PIN}\n")).unwrap();
    let made = desk
        .command("softhsm2-util")
        .args(["--init-token", "--free", "--label", "officers", "--so-pin", PIN, "--pin", PIN])
        .output();
    assert!(made.unwrap().status.success());
    // The page lets both ask for the PIN; here nobody could be asked.
    let block = block("pkcs11-tool ")
        .replace("--login", &format!("--login --pin {PIN}"))
        .replace("key show", "key show --passphrase-file lines");
    let names = [("MODULE", MODULE), ("TOKEN", "officers"), ("NAME", "eve")];
    let shown = desk.run_block(&block, &names);
    let uri = format!("pkcs11:token=officers;object=eve?module-path={MODULE}");
    assert!(shown.starts_with("eve="));
    assert_eq!(desk.show(&uri, PIN).unwrap(), shown, "the same key each time");
}

#[test]
fn a_tpm_seals_a_key_as_the_ceremonys_page_says() {
    let tcti = "/usr/lib/x86_64-linux-gnu/libtss2-tcti-swtpm.so.0";
    if !is_there("/usr/bin/swtpm", "swtpm") || !is_there(tcti, "libtss2-tcti-swtpm0") {
        return;
    }
    let desk = Desk::new();
    let (_tpm, device) = Tpm::start(&desk.path("tpm"));
    // The page's machine has one TPM; here it is named as the page says for others.
    let block = block("cloister-mint key create --person \"$NAME\" --protect tpm")
        .replace("--protect tpm", &format!("--protect tpm --tpm-device {device}"))
        .replace("tpm:$NAME.key", &format!("tpm:$NAME.key?device={device}"));
    let shown = desk.run_block(&block, &[("NAME", "eve")]);
    assert!(shown.starts_with("eve="));
    assert_eq!(desk.show(&format!("tpm:eve.key?device={device}"), "").unwrap(), shown);
}
