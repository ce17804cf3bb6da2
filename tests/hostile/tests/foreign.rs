//! Other projects' hostile archives, fetched by package name, through the code that reads volumes.
//!
//! They lie in the user's cache folder once they were fetched; a set that cannot be had is skipped, and
//! the test says so.
#![expect(clippy::unwrap_used, reason = "a test helper fails by panicking")]

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use cloister_hostile::{Base, Enclave};
use cloister_stage::release::read_file;

const TIME_MAX: Duration = Duration::from_secs(1);

/// `$XDG_CACHE_HOME/cloister/archives`, filled by `fetch/archives.sh`.
fn archives() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
        let folder = cache.unwrap_or_else(std::env::temp_dir).join("cloister/archives");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("fetch/archives.sh");
        let status = Command::new("bash").arg(script).arg(&folder).stdin(Stdio::null()).status();
        assert!(status.unwrap().success(), "fetching archives");
        folder
    })
}

/// Offers every archive of a set as a volume and as trust metadata; none is accepted.
fn refused(set: &str, least: usize) {
    let folder = archives().join(set);
    let Ok(listing) = fs::read_dir(&folder) else {
        // Nobody is left to be told when standard error is gone.
        writeln!(std::io::stderr(), "skipped: the archives of {set} cannot be had here")
            .unwrap_or_default();
        return;
    };
    let base = Base::new().unwrap();
    let enclave = Enclave::new(&base.root).unwrap();
    let mut count = 0;
    for entry in listing {
        let path = entry.unwrap().path();
        if !path.is_file() {
            continue;
        }
        let bytes = read_file(&path).unwrap();
        let begun = Instant::now();
        assert!(enclave.offer(&bytes).is_err(), "{} as a volume", path.display());
        let meta = base.with("clb/10-meta", bytes.get(..4 << 20).unwrap_or(&bytes));
        assert!(enclave.offer(&meta).is_err(), "{} as metadata", path.display());
        assert!(begun.elapsed() < TIME_MAX, "{} took {:?}", path.display(), begun.elapsed());
        count += 1;
    }
    assert!(count >= least, "{set} has {count} archives");
}

#[test]
fn archives_of_astral_tokio_tar() {
    refused("astral", 20);
}

#[test]
fn archives_of_go() {
    refused("go", 30);
}

#[test]
fn archives_of_cpython() {
    refused("cpython", 10);
}

#[test]
fn archives_of_libarchive() {
    refused("libarchive", 200);
}
