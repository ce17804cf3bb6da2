//! `cloister-hostile`: damaged volumes by the thousand.
//!
//! `cloister-hostile write DIR` writes every named case as a file, for `./x hostile`.
//! `cloister-hostile mutants SEED FROM COUNT` offers mutants and prints how they were refused;
//! `cloister-hostile bits SEED FROM COUNT` offers a larger volume with one bit flipped at a time.

use std::{fs, io::Write, path::Path, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use cloister_hostile::{Base, cases, mutants};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to be told when standard error is gone.
            writeln!(std::io::stderr(), "cloister-hostile: {error:#}").unwrap_or_default();
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let out = &mut std::io::stdout().lock();
    match words.as_slice() {
        ["write", folder] => write(Path::new(folder), out),
        ["mutants", seed, from, count] => {
            let counts = mutants::run(seed.parse()?, from.parse()?, count.parse()?)?;
            Ok(writeln!(out, "{}", serde_json::to_string(&counts)?)?)
        }
        ["bits", seed, from, count] => {
            let counts = mutants::bits(seed.parse()?, from.parse()?, count.parse()?)?;
            Ok(writeln!(out, "{}", serde_json::to_string(&counts)?)?)
        }
        _ => bail!("usage: cloister-hostile write DIR | mutants|bits SEED FROM COUNT"),
    }
}

/// One file a case, under its name with `/` as folders, and the trust root beside them.
fn write(folder: &Path, out: &mut dyn Write) -> Result<()> {
    let base = Base::new()?;
    fs::create_dir_all(folder)?;
    fs::write(folder.with_extension("root.json"), &base.root)?;
    let (mut count, mut failed) = (0u64, Ok(()));
    cases::all(&base, &mut |case| {
        let name: String = case
            .name
            .chars()
            .map(|letter| if letter.is_ascii_graphic() && letter != '\\' { letter } else { '_' })
            .collect();
        let path = folder.join(format!("{name}.clb"));
        let written = || -> Result<()> {
            fs::create_dir_all(path.parent().context("below the folder")?)?;
            Ok(fs::write(&path, case.bytes)?)
        };
        count += 1;
        if failed.is_ok() {
            failed = written();
        }
    })?;
    failed?;
    writeln!(out, "{count} cases, root {}", folder.with_extension("root.json").display())?;
    Ok(())
}
