//! `./x serve`: one model, minted, verified and promoted in a scratch root, and served from there.
//!
//! The model goes the whole way of a release: signed, imported, judged by loading, finite numbers
//! and one completion (the record says that no evaluation set was given), approved by two persons
//! made up for the occasion, activated. Nothing of it stays when the command ends.

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Write},
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use cloister_domain::Sensitive;
use cloister_stage::{
    Options, Unit, ask,
    facility::{APPROVERS, Facility, Outcome, import_number},
    release::read_file,
};
use cloister_wire::{
    Reply,
    gateway::{Answer, KEY_CHARACTERS_MAX, Request, is_key_value},
};

use crate::{http, interrupt::Interrupts};

/// What is to be served, and how it is reached.
#[derive(Debug, clap::Args)]
pub(crate) struct Wish {
    /// A language model: a Hugging Face folder, or a GGUF file.
    #[arg(long)]
    model: PathBuf,
    /// A sentence embedding model: a Hugging Face folder.
    #[arg(long, alias = "embedding")]
    embed: Option<PathBuf>,
    /// The message format, where the model brings none: template.json, or a Jinja file.
    #[arg(long)]
    template: Option<PathBuf>,
    /// The port on loopback; without one, a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// The file with the API key; one that does not exist is written with a fresh key.
    #[arg(long)]
    key_file: Option<PathBuf>,
    /// The API key itself; others on this machine can read it in the list of processes.
    #[arg(long, conflicts_with = "key_file")]
    key: Option<String>,
}

/// Serves until interrupted. `out` hears the address, `log` what happens on the way.
///
/// # Errors
/// When the model is refused; the refusal says what to change.
pub(crate) fn run(wish: &Wish, out: &mut dyn Write, log: &mut dyn Write) -> Result<()> {
    let interrupts = Interrupts::hear()?;
    let given = given_key(wish)?;
    check_wish(wish)?;
    let scratch = tempfile::Builder::new().prefix("cloister-serve-").tempdir()?;
    let served = serve(wish, given, scratch.path(), &interrupts, out, log);
    scratch.close().context("removing the scratch root")?;
    match served {
        Err(_broken_off) if interrupts.was_asked() => Ok(()),
        served => served,
    }
}

fn serve(
    wish: &Wish,
    given: Option<Sensitive<String>>,
    home: &Path,
    interrupts: &Interrupts,
    out: &mut dyn Write,
    log: &mut dyn Write,
) -> Result<()> {
    let listen = format!("127.0.0.1:{}", wish.port);
    let mut facility =
        Facility::found(home, &Options { listen, ..Options::no_evaluation_asked() })?;
    interrupts.go_on()?;
    writeln!(log, "minting {}", wish.model.display())?;
    let volume = mint(&facility, wish, interrupts, log)?;
    facility.stage.start().map_err(|error| one_line(&error))?;
    facility.enrol()?;
    interrupts.go_on()?;
    writeln!(log, "importing and judging; no evaluation set is given")?;
    let import = import_number(said(&facility.import(&volume)?)?)?;
    interrupts.go_on()?;
    for person in APPROVERS {
        said(&facility.approve_as(person, &import)?)?;
    }
    said(&facility.cloister(&["activate", &import])?)?;
    // What is served lies on the shelf.
    for made in ["tree", "volumes"] {
        fs::remove_dir_all(home.join(made))?;
    }
    interrupts.go_on()?;
    let key = make_key(&facility, given)?;
    let address = facility.address()?;
    http::ask(&address, key.expose(), "/v1/models", None)?;
    if wish.key.is_none() {
        let file = wish.key_file.clone().unwrap_or_else(|| home.join("serve.key"));
        if !file.exists() {
            write_key(&file, &key)?;
        }
        writeln!(out, "key file {}", file.display())?;
    }
    writeln!(out, "ready http://{address}/v1")?;
    out.flush()?;
    interrupts.wait();
    facility.stage.stop()
}

/// What would fail after minutes of minting is refused before it.
fn check_wish(wish: &Wish) -> Result<()> {
    let model = "give a Hugging Face folder or a GGUF file";
    check_model("the model", &wish.model, model)?;
    if let Some(embed) = &wish.embed {
        let way = "give a Hugging Face folder";
        check_model("the embedding model", embed, way)?;
        ensure!(embed.is_dir(), "the embedding model {} is no folder; {way}", embed.display());
    }
    if let Some(template) = &wish.template {
        let shown = template.display();
        ensure!(
            template.is_file(),
            "the template {shown} is missing; give template.json or a Jinja file"
        );
    }
    if let Some(file) = wish.key_file.as_ref().filter(|file| !file.exists()) {
        // Only making it tells whether it can be made.
        drop(create_key(file)?);
        fs::remove_file(file)?;
    }
    match TcpListener::bind((Ipv4Addr::LOCALHOST, wish.port)) {
        Ok(_free) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AddrInUse => bail!(
            "port {} is in use; give another with --port, or no --port for a free one",
            wish.port
        ),
        Err(error) => bail!(
            "port {} cannot be had ({error}); give another with --port, or no --port for a free one",
            wish.port
        ),
    }
}

fn check_model(what: &str, path: &Path, way: &str) -> Result<()> {
    let inside = ["config.json", "tokenizer.json", "model.safetensors"].map(|name| path.join(name));
    let alone = [path.to_owned()];
    let needed = if path.is_dir() { inside.as_slice() } else { alone.as_slice() };
    if let Some(absent) = needed.iter().find(|file| !file.exists()) {
        bail!("{what} cannot be used: {} is missing; {way}", absent.display());
    }
    Ok(())
}

/// An error of another program, whose words may end with an end of line.
fn one_line(error: &anyhow::Error) -> anyhow::Error {
    anyhow!("{}", format!("{error:#}").trim_end())
}

/// The key that the person brings, checked before anything is done.
fn given_key(wish: &Wish) -> Result<Option<Sensitive<String>>> {
    let text = match (&wish.key, &wish.key_file) {
        (Some(key), _) => key.clone(),
        (None, Some(file)) if file.exists() => {
            let shown = file.display();
            ensure!(!file.is_dir(), "the key file {shown} is a folder; name a file in it");
            let bytes = read_file(file).with_context(|| {
                format!("the key file {shown} cannot be read; name one that you may read")
            })?;
            let text = String::from_utf8(bytes).context("the key is not ASCII")?;
            text.trim().to_owned()
        }
        (None, _) => return Ok(None),
    };
    ensure!(
        is_key_value(&text),
        "a key has 1 to {KEY_CHARACTERS_MAX} printable ASCII characters and no space"
    );
    Ok(Some(Sensitive::new(text)))
}

fn make_key(facility: &Facility, value: Option<Sensitive<String>>) -> Result<Sensitive<String>> {
    let request =
        Request::CreateKey { principal: "local".parse()?, labels: ["open".parse()?].into(), value };
    let reply: Reply<Answer> = ask(&facility.stage.socket(Unit::Gatewayd), &request)?;
    let Answer::Created { value, .. } = reply? else { bail!("gatewayd made no key") };
    Ok(value)
}

fn write_key(file: &Path, key: &Sensitive<String>) -> Result<()> {
    Ok(writeln!(create_key(file)?, "{}", key.expose())?)
}

/// A new file that only its owner may read.
fn create_key(file: &Path) -> Result<File> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    made.with_context(|| {
        format!(
            "the key file {} cannot be written; name one in a folder that you may write to",
            file.display()
        )
    })
}

/// Lays the model out as it is, signs it as a release of its own name, and admits it.
fn mint(
    facility: &Facility,
    wish: &Wish,
    interrupts: &Interrupts,
    log: &mut dyn Write,
) -> Result<PathBuf> {
    let path = |path: &Path| path.to_str().map(str::to_owned).context("a path is not UTF-8");
    let (tree, out) =
        (path(&facility.home().join("tree"))?, path(&facility.home().join("volumes"))?);
    let mut words = vec!["prepare".to_owned(), "--tree".to_owned(), tree.clone()];
    let inputs = [
        ("--model", Some(&wish.model)),
        ("--embedding", wish.embed.as_ref()),
        ("--template", wish.template.as_ref()),
    ];
    for (flag, given) in inputs {
        if let Some(given) = given {
            words.extend([flag.to_owned(), path(given)?]);
        }
    }
    let mint = |words: &[String]| {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let said = facility.mint(&words);
        interrupts.go_on().and(said)
    };
    let prepared = mint(&words).map_err(|error| {
        // The program's name says nothing to whoever gave the model.
        let said = format!("{error:#}");
        anyhow!(
            "no release can be made of the model, which must be a Hugging Face folder or a GGUF file: {}",
            said.trim_start_matches("cloister-mint: ")
        )
    })?;
    write!(log, "{prepared}")?;
    let name = release_name(&wish.model);
    let trust = path(&facility.trust())?;
    let key = |person: &str| path(&facility.key(person));
    let holder = mint(&["key", "show", &key("publisher")?].map(str::to_owned))?.trim().to_owned();
    mint(
        &["delegate", "--trust", &trust, "--key", &key("importer")?, "--name", "served"]
            .into_iter()
            .chain(["--publisher", &holder, "--path", &format!("{name}/*")])
            .map(str::to_owned)
            .collect::<Vec<_>>(),
    )?;
    let said = mint(
        &["build", &tree, "--name", &name, "--version", "1.0.0", "--counter", "1"]
            .into_iter()
            .chain(["--licence", "NOASSERTION", "--key", &key("publisher")?, "--out", &out])
            .map(str::to_owned)
            .collect::<Vec<_>>(),
    )?;
    let line = said.lines().find_map(|line| line.strip_prefix("volume"));
    let volume = line.context("mint named no volume")?.trim().to_owned();
    mint(&["admit", "--trust", &trust, "--key", &key("importer")?, &volume].map(str::to_owned))?;
    Ok(PathBuf::from(volume))
}

/// A release's name after the model's file or folder, in the letters that names may have.
fn release_name(model: &Path) -> String {
    let absolute = fs::canonicalize(model).unwrap_or_else(|_absent| model.to_owned());
    let stem = if absolute.is_dir() { absolute.file_name() } else { absolute.file_stem() };
    let text = stem.and_then(|name| name.to_str()).unwrap_or_default().to_ascii_lowercase();
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let name: String = text.chars().map(plain).skip_while(|c| !c.is_ascii_alphanumeric()).collect();
    let name: String = name.chars().take(64).collect();
    if name.is_empty() { "model".to_owned() } else { name }
}

/// What a command of the operator said, or the refusal with its words.
pub(crate) fn said(outcome: &Outcome) -> Result<&serde_json::Value> {
    if outcome.exit != 0 {
        let message = outcome
            .said
            .iter()
            .find_map(|value| value.pointer("/problem/message")?.as_str())
            .unwrap_or("the daemons' logs say why");
        bail!("refused, {}: {message}", outcome.code());
    }
    outcome.done()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_named_after_its_model_in_letters_that_names_may_have() {
        let name = |path: &str| release_name(Path::new(path));
        assert_eq!(name("/m/Qwen2.5-0.5B Instruct.Q8_0.gguf"), "qwen2.5-0.5b-instruct.q8_0");
        assert_eq!(name("/m/_x.gguf"), "x");
        assert_eq!(name("/m/模型.gguf"), "model");
        assert_eq!(name(&format!("/m/{}.gguf", "a".repeat(99))).len(), 64);
    }
}
