//! A client of The Update Framework over loopback HTTP, for suites that judge clients from outside.
//!
//! What it trusts is decided by `cloister-verify`, as on an appliance; only the keys of other
//! algorithms, which such suites use, are read here. Its command line is that of `tuf-conformance`
//! (theupdateframework/tuf-conformance, CLIENT-CLI.md). It reads the clock, which no appliance does.

mod client;
mod folder;
mod foreign;
mod http;

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};

use crate::{client::Client, folder::Folder};

#[derive(Debug, Parser)]
#[command(name = "x tuf-client")]
struct Arguments {
    /// The folder that holds what is trusted.
    #[arg(long, global = true, default_value = ".")]
    metadata_dir: PathBuf,
    /// Where the repository's metadata is served; loopback only.
    #[arg(long, global = true)]
    metadata_url: Option<String>,
    /// A path of the targets; several are fetched in their order.
    #[arg(long, global = true)]
    target_name: Vec<String>,
    /// Where the repository's files are served; loopback only.
    #[arg(long, global = true)]
    target_base_url: Option<String>,
    /// The folder for fetched files.
    #[arg(long, global = true, default_value = ".")]
    target_dir: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Trust a root file.
    Init {
        /// The file.
        trusted_root: PathBuf,
    },
    /// Bring the metadata up to date.
    Refresh,
    /// Bring the metadata up to date, then fetch files.
    Download,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to be told when standard error is gone.
            writeln!(std::io::stderr(), "tuf-client: {error:#}").unwrap_or_default();
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let trusted = Folder::at(&arguments.metadata_dir)?;
    if let Verb::Init { trusted_root } = &arguments.verb {
        let root = folder::read_limited(trusted_root).context("reading the root file")?;
        return trusted.write("root", &root);
    }
    let url = arguments.metadata_url.as_deref().context("--metadata-url is needed")?;
    let mut client = Client::refreshed(trusted, url)?;
    if let Verb::Download = arguments.verb {
        let base = arguments.target_base_url.as_deref().context("--target-base-url is needed")?;
        for path in &arguments.target_name {
            client.download(path, base, &arguments.target_dir)?;
        }
    }
    Ok(())
}
