//! Every command, with every kind of thing that it cannot use: one line that names the file and ends with
//! a code, the documented exit status, and nothing left behind.
#![expect(clippy::unwrap_used, reason = "a test helper fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "the files are the test's own")]

mod common;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

/// A file that nobody may read, root neither, and one whose reading fails.
const CLOSED: &str = "/proc/sys/vm/drop_caches";
const BROKEN: &str = "/proc/self/mem";

/// What every command of a release's making begins with.
const BUILD: &str = "build tree --name demo --version 1.0.0 --counter 1 --licence MIT";
const HOLDERS: &str = "--root @ben.pub --importer @imp.pub --approver @eve.pub --approver @flo.pub";

/// A folder with one good thing of each kind, in which commands run.
struct World(tempfile::TempDir);

impl World {
    fn new() -> Self {
        let world = Self(tempfile::tempdir().unwrap());
        for person in ["ann", "ben", "imp", "vendor", "eve", "flo"] {
            let public = world.done(&format!("key create --person {person} --out {person}.key"));
            world.put(&format!("{person}.pub"), public.as_bytes());
        }
        world.put("words", b"correct horse battery staple\n");
        world.put("wrong-words", b"another horse battery staple\n");
        world.done("key protect ann.key --out locked.key --passphrase-file words");
        world.done(&format!("root draft --out draft.json --root @ann.pub {HOLDERS}"));
        let create = "root create --trust trust --sign ann.key --sign ben.key --root @ann.pub";
        world.done(&format!("{create} {HOLDERS}"));
        world.done("delegate --trust trust --key imp.key --publisher @vendor.pub --path demo/*");
        world.put("tree/NOTICE", b"Words.\n");
        world.done(&format!("{BUILD} --key vendor.key --out out"));
        let volume = fs::read_dir(world.at("out")).unwrap().next().unwrap().unwrap().path();
        fs::rename(volume, world.at("volume.clb")).unwrap();
        fs::remove_dir(world.at("out")).unwrap();
        world.done("admit --trust trust --key imp.key volume.clb");
        world.done("stamp --trust trust --key imp.key --alone alone.clb");
        let recipient = world.done("unsealing --out identity");
        world.put("recipient", recipient.as_bytes());
        fs::copy(world.at("volume.clb"), world.at("sealed.clb")).unwrap();
        world.done(&format!("seal --to {} sealed.clb", recipient.trim()));
        let bytes = fs::read(world.at("volume.clb")).unwrap();
        world.put("cut.clb", &bytes[..1000]);
        let alone = fs::read(world.at("alone.clb")).unwrap();
        world.put("cut-alone.clb", &alone[..1000]);
        world.put("long-alone.clb", &[alone.as_slice(), b"more"].concat());
        common::model(world.0.path());
        fs::create_dir(world.at("folder")).unwrap();
        world.put("empty", b"");
        world.put("text", b"hello, this is a note\n");
        world.put("object", b"{}\n");
        world.put("killed/.partial-x1/model.gguf.partial", b"GGUF");
        world
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file that its owner alone may read, as a key must be.
    fn put(&self, name: &str, bytes: &[u8]) {
        let path = self.at(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Runs the command; `limit` is the largest file that it may write, in blocks of 512 bytes.
    fn run(&self, words: &str, limit: &str, stdout: Stdio) -> Output {
        let recipient = fs::read_to_string(self.at("recipient")).unwrap_or_default();
        Command::new("sh")
            // Beyond the limit writing fails, instead of a signal that ends the process.
            .args(["-c", "trap '' XFSZ; ulimit -f \"$1\"; shift; exec \"$@\"", "sh", limit])
            .arg(env!("CARGO_BIN_EXE_cloister-mint"))
            .args(words.split_whitespace().map(|word| word.replace("AGE", recipient.trim())))
            .current_dir(self.0.path())
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn()
            .and_then(std::process::Child::wait_with_output)
            .unwrap()
    }

    fn done(&self, words: &str) -> String {
        let output = self.run(words, "unlimited", Stdio::piped());
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && told.is_empty(), "{words}: {told}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Everything that lies in the folder.
    fn all(&self) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.0.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let content = path.is_file().then(|| fs::read(&path).unwrap());
                if content.is_none() {
                    folders.push(path.clone());
                }
                found.insert(path, content);
            }
        }
        found
    }

    /// What is wrong with how the command fails, if anything.
    fn fault(&self, words: &str, limit: &str, file: &str, code: &str) -> Option<String> {
        let before = self.all();
        let output = self.run(words, limit, Stdio::piped());
        let told = String::from_utf8(output.stderr).unwrap();
        let status = match code {
            "mint.file.full" | "mint.file.read" | "mint.file.write" => 1,
            "mint.usage" | "sealed.key" => 2,
            _ => 7,
        };
        let line = told.strip_suffix(&format!(" [{code}]\n")).unwrap_or_default();
        let good = output.status.code() == Some(status)
            && line.starts_with("cloister-mint: ")
            && !line.contains('\n')
            && line.contains(file);
        let whole = self.all();
        let changed: Vec<&Path> = whole
            .iter()
            .filter(|(path, content)| before.get(*path) != Some(*content))
            .map(|(path, _)| path.as_path())
            .chain(before.keys().filter(|path| !whole.contains_key(*path)).map(PathBuf::as_path))
            .collect();
        (!good || !changed.is_empty()).then(|| {
            format!(
                "{words}\n  {code}, {status}, {file} wanted\n  {:?} {told:?} {changed:?}",
                output.status.code()
            )
        })
    }

    fn check<'a>(&self, cases: impl IntoIterator<Item = (String, &'a str, &'a str, &'a str)>) {
        let mut count = 0;
        let faults = cases.into_iter().inspect(|_| count += 1);
        let faults =
            faults.filter_map(|(words, limit, file, code)| self.fault(&words, limit, file, code));
        let faults: Vec<String> = faults.collect();
        assert!(faults.is_empty(), "{} of {count}:\n{}", faults.len(), faults.join("\n"));
    }
}

/// Commands with `{}` where a file stands that they read; the codes for an empty file, one of text, and
/// `{}`.
fn inputs() -> Vec<(String, [&'static str; 3])> {
    let key = ["signer.key-file"; 3];
    let holders = ["mint.holder.none", "mint.holder.line", "mint.holder.line"];
    let root = ["attest.json.syntax", "attest.json.syntax", "mint.root.form"];
    let volume = ["bundle.container.foreign"; 3];
    let receipt = ["bundle.receipt"; 3];
    let request = ["mint.request.empty", "bundle.receipt", "bundle.receipt"];
    let delegate = "delegate --trust trust --path demo/* --name other";
    let found = format!("{HOLDERS} --root @ann.pub");
    let build = format!("{BUILD} --out new --key vendor.key");
    [
        ("key show {}".to_owned(), key),
        ("key protect {} --out new --passphrase-file words".to_owned(), key),
        ("key create --person x --out new --seed-file {}".to_owned(), ["mint.seed"; 3]),
        ("key id @{}".to_owned(), holders),
        ("root show {}".to_owned(), root),
        ("root sign {} --key ann.key --out new".to_owned(), root),
        ("root sign draft.json --key ann.key --out new --previous {}".to_owned(), root),
        ("root finish --trust new --transcript note {}".to_owned(), root),
        (format!("root draft --out new {HOLDERS} --root @{{}}"), holders),
        (format!("root create --trust new {found} --sign {{}}"), key),
        (format!("root rotate --trust trust {found} --sign ann.key --sign {{}}"), key),
        (format!("{delegate} --publisher @vendor.pub --key {{}}"), key),
        (format!("{delegate} --key imp.key --publisher @{{}}"), holders),
        ("admit --trust trust --key {} volume.clb".to_owned(), key),
        ("admit --trust trust --key imp.key volume.clb {}".to_owned(), volume),
        ("revoke --trust trust --key imp.key --below demo=2 volume.clb {}".to_owned(), volume),
        ("stamp --trust trust --key imp.key volume.clb {}".to_owned(), volume),
        ("inspect {}".to_owned(), volume),
        ("seal --to AGE volume.clb {}".to_owned(), volume),
        (format!("{BUILD} --out new --key {{}}"), key),
        (format!("{build} --request {{}}"), request),
        (format!("{build} --host-key {} --thin {{}}", "1".repeat(64)), receipt),
        ("plan tree --request {}".to_owned(), request),
        (
            "prepare --tree new --model model-in --template {}".to_owned(),
            ["template.shape", "template.shape", "template.shape"],
        ),
    ]
    .into()
}

#[test]
fn what_cannot_be_read_is_named_with_its_code() {
    let world = World::new();
    let mut cases = Vec::new();
    for (words, [empty, text, object]) in inputs() {
        for (file, code) in [
            ("absent", "mint.file.absent"),
            ("text/below", "mint.file.no-folder"),
            ("folder", "mint.file.folder"),
            (CLOSED, "mint.file.denied"),
            (BROKEN, "mint.file.read"),
            ("empty", empty),
            ("text", text),
            ("object", object),
        ] {
            cases.push((words.replace("{}", file), "unlimited", file, code));
        }
    }
    assert!(cases.len() > 150);
    world.check(cases);
}

#[test]
fn what_cannot_be_written_is_named_and_leaves_nothing() {
    let world = World::new();
    let found = format!("{HOLDERS} --root @ann.pub");
    let sign = "root sign draft.json --key ann.key --confirm";
    let digest = world.done("root show draft.json");
    let digest =
        digest.lines().find_map(|line| line.strip_prefix("digest")).unwrap().trim().to_owned();
    world.done(&format!("{sign} {digest} --out one.json"));
    world.done(&format!("{sign} {digest} --out two.json").replace("ann.key", "ben.key"));
    // In the place of a file: its name, and whether one that is there is written over.
    let files = [
        ("key create --person x --out {}".to_owned(), false),
        (
            "key create --person x --protect passphrase --passphrase-file words --out {}"
                .to_owned(),
            false,
        ),
        ("key protect ann.key --protect mode --out {}".to_owned(), false),
        ("unsealing --out {}".to_owned(), false),
        (format!("root draft {found} --out {{}}"), true),
        (format!("{sign} {digest} --out {{}}"), true),
        ("root finish --trust new --transcript {} one.json two.json".to_owned(), true),
        ("stamp --trust trust --key imp.key --alone {}".to_owned(), true),
        ("revoke --trust trust --key imp.key --below demo=2 --alone {}".to_owned(), true),
    ];
    let mut cases = Vec::new();
    for (words, written_over) in files {
        let to = |file: &str| words.replace("{}", file);
        let folder = if written_over { "mint.file.folder" } else { "mint.file.exists" };
        cases.push((to("folder"), "unlimited", "folder", folder));
        cases.push((to("absent/new"), "unlimited", "absent", "mint.file.absent"));
        cases.push((to("text/new"), "unlimited", "text", "mint.file.no-folder"));
        if !written_over {
            cases.push((to("text"), "unlimited", "text", "mint.file.exists"));
        }
        let trust = words.contains("--trust trust");
        cases.push((to("new"), "0", if trust { "trust" } else { "new" }, "mint.file.full"));
    }
    // In the place of a folder.
    for words in [
        format!("root create --sign ann.key --sign ben.key {found} --trust {{}}"),
        "root finish --transcript note one.json two.json --trust {}".to_owned(),
        format!("{BUILD} --key vendor.key --out {{}}"),
        "prepare --model model-in --tree {}".to_owned(),
        "prepare --quantise q8_0 --model model-in --tree {}".to_owned(),
    ] {
        cases.push((words.replace("{}", "text"), "unlimited", "text", "mint.file.no-folder"));
        let file = if words.contains("note") { "note" } else { "new" };
        cases.push((words.replace("{}", "new/deep"), "0", file, "mint.file.full"));
    }
    cases.extend([
        // Room for some of the files, and not for all.
        ("prepare --model model-in --tree new".to_owned(), "8", "new", "mint.file.full"),
        (format!("{BUILD} --key vendor.key --out new"), "2", "new", "mint.file.full"),
        ("seal --to AGE volume.clb".to_owned(), "0", "volume.clb", "mint.file.full"),
        (
            "admit --trust trust --key imp.key alone.clb".to_owned(),
            "0",
            "alone.clb",
            "mint.volume.trust-alone",
        ),
        (
            "delegate --trust trust --key imp.key --publisher @ben.pub --path x/* --name x"
                .to_owned(),
            "0",
            "trust",
            "mint.file.full",
        ),
        (
            "delegate --trust trust --key imp.key --publisher @ben.pub --path x/* --name x"
                .to_owned(),
            "1",
            "trust",
            "mint.file.full",
        ),
    ]);
    world.check(cases);
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = world.run("key show ann.key", "unlimited", full.into());
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(told.ends_with(" [mint.output]\n") && told.lines().count() == 1, "{told}");
}

#[test]
fn what_does_not_fit_is_refused_with_its_code() {
    let world = World::new();
    let build = format!("{BUILD} --out new --key vendor.key");
    let cases = [
        ("key show locked.key --passphrase-file wrong-words", "locked.key", "signer.passphrase"),
        ("key show locked.key --passphrase-file absent", "absent", "mint.file.absent"),
        ("key show ann.pub", "ann.pub", "signer.key-file"),
        ("key show volume.clb", "volume.clb", "signer.too-long"),
        ("root show ann.pub", "ann.pub", "attest.json.syntax"),
        ("root show trust/targets.json", "trust/targets.json", "mint.root.form"),
        (
            "root sign draft.json --key imp.key --out new --confirm AB",
            "draft.json",
            "mint.root.compared",
        ),
        ("root finish --trust trust --transcript new draft.json", "trust", "mint.root.version"),
        (
            "root finish --trust new --transcript note draft.json",
            "1.root.json",
            "bundle.signature.unknown-signer",
        ),
        ("stamp --trust trust --key vendor.key", "trust", "mint.role"),
        ("admit --trust new --key imp.key volume.clb", "new", "mint.root.absent"),
        ("stamp --trust new --key imp.key", "new", "mint.root.absent"),
        ("stamp --trust text --key imp.key", "text", "mint.file.no-folder"),
        ("revoke --trust trust --key imp.key", "--generation", "mint.usage"),
        ("revoke --trust trust --key imp.key --below demo", "--below", "mint.usage"),
        ("inspect sealed.clb", "sealed.clb", "mint.volume.sealed"),
        ("inspect cut-alone.clb", "cut-alone.clb", "bundle.container.truncated"),
        ("inspect long-alone.clb", "long-alone.clb", "bundle.container.end"),
        ("inspect --chunks cut.clb", "cut.clb", "bundle.container.truncated"),
        ("seal --to AGE volume.clb sealed.clb", "sealed.clb", "mint.volume.sealed-already"),
        ("seal --to age1nobody volume.clb", "--to", "sealed.key"),
        ("plan absent", "absent", "mint.file.absent"),
        ("plan text", "text", "mint.file.no-folder"),
        ("prepare --tree new --model absent", "absent", "mint.file.absent"),
        ("prepare --tree new --model empty", "empty", "weights.truncated"),
        ("prepare --tree new --model text", "text", "weights.header.size"),
        ("prepare --tree new --model folder", "folder/config.json", "mint.file.absent"),
        ("prepare --tree new --model tree", "tree/config.json", "mint.file.absent"),
        (
            "prepare --tree new --model model-in --embedding folder",
            "folder/config.json",
            "mint.file.absent",
        ),
        ("prepare --tree new --model trust", "trust/1.root.json", "mint.model.file"),
        ("key", "--help", "mint.usage"),
        ("key create --out new", "--person", "mint.usage"),
        ("inspect volume.clb --loudly", "--loudly", "mint.usage"),
        ("conjure", "conjure", "mint.usage"),
        ("stamp --trust trust --key imp.key --issued soon", "--issued", "mint.usage"),
        ("stamp --trust trust --key imp.key --expires soon", "--expires", "mint.usage"),
        ("plan killed", "killed/.partial-x1", "mint.file.unfinished"),
        (
            "plan killed/.partial-x1",
            "killed/.partial-x1/model.gguf.partial",
            "mint.file.unfinished",
        ),
    ];
    let digest = "ab".repeat(32);
    let cases =
        cases.map(|(words, file, code)| (words.replace("AB", &digest), "unlimited", file, code));
    let built = [
        (format!("{build} --attest https://example.org"), "--attest", "mint.usage"),
        (format!("{build} --attest https://example.org=absent"), "absent", "mint.file.absent"),
        (format!("{build} --licence nobody's"), "licence", "bundle.manifest.licence"),
        (build.replace("build tree", "build absent"), "absent", "mint.file.absent"),
        (build.replace("build tree", "build text"), "text", "mint.file.no-folder"),
    ];
    let built = built.map(|(words, file, code)| (words, "unlimited", file, code));
    world.check(cases.into_iter().chain(built));
}

#[test]
fn what_an_appliance_would_refuse_is_listed_below_the_line() {
    let world = World::new();
    let build = format!("{BUILD} --out new --key vendor.key");
    world.put("tree/model/model.gguf", b"\x80\x02cposix\nsystem\n.");
    let output = world.run(&build, "unlimited", Stdio::piped());
    let told = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<&str> = told.lines().collect();
    let [line, file] = lines.as_slice() else { panic!("{told}") };
    assert!(line.contains("tree") && line.ends_with(" [mint.inspection]"), "{told}");
    assert!(
        file.starts_with("  model/model.gguf: ") && file.ends_with(" [inspect.pickle]"),
        "{told}"
    );
    assert!(output.status.code() == Some(7) && !world.at("new").exists());
}

#[test]
fn the_name_of_a_file_steers_no_terminal() {
    let world = World::new();
    let output = Command::new(env!("CARGO_BIN_EXE_cloister-mint"))
        .args(["inspect", "no\nsuch\u{1b}[2Jfile"])
        .current_dir(world.0.path())
        .output()
        .unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("no\\nsuch\\u{1b}[2Jfile") && told.lines().count() == 1, "{told:?}");
}

#[test]
fn help_says_what_the_exit_status_means() {
    let world = World::new();
    for words in ["--help", "build --help", "root sign --help"] {
        let told = world.done(words);
        assert!(words != "--help" || told.contains("Exit status: 0 done"), "{told}");
        assert!(told.contains("Usage: cloister-mint"), "{told}");
    }
}
