//! A journal of one's own, for machines where systemd is not process 1.
//!
//! In a mount namespace of its own a tmpfs covers `/run`, and `systemd-journald` started by hand
//! takes entries on the usual socket and writes them to a folder of the scratch root.

use std::{
    ffi::CString,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use systemd::journal::OpenDirectoryOptions;

use crate::{programs, release::read_file};

const JOURNALD: &str = "/lib/systemd/systemd-journald";
const SOCKET: &str = "/run/systemd/journal/socket";

/// Starts journald in this mount namespace (entered by `unshare -m` or `unshare -Urm`), writing
/// its files to `folder`.
///
/// # Errors
/// When the mounts are not permitted or journald does not come up within ten seconds.
pub fn start(folder: &Path) -> Result<Child> {
    fs::create_dir_all(folder)?;
    let nothing: Option<&Path> = None;
    // What is mounted here must not travel back to the machine; a stick that is plugged in there
    // must be seen here.
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_SLAVE, nothing)
        .context("making mounts one-way")?;
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), nothing)
        .context("covering /run")?;
    for made in ["/run/log/journal", "/run/systemd/journal"] {
        fs::create_dir_all(made)?;
    }
    mount(Some(folder), "/run/log/journal", nothing, MsFlags::MS_BIND, nothing)
        .context("placing the journal's files")?;
    let settings = folder.with_extension("conf");
    fs::write(
        &settings,
        "[Journal]\nStorage=volatile\nRateLimitBurst=0\nForwardToSyslog=no\nForwardToKMsg=no\nForwardToConsole=no\nForwardToWall=no\nReadKMsg=no\nAudit=no\nMaxLevelStore=debug\n",
    )?;
    fs::create_dir_all("/run/systemd/journald.conf.d")?;
    fs::copy(&settings, "/run/systemd/journald.conf.d/stage.conf")?;
    fs::remove_file(&settings)?;
    let child = Command::new(JOURNALD)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("starting systemd-journald")?;
    let begun = Instant::now();
    while !Path::new(SOCKET).exists() {
        if begun.elapsed() > Duration::from_secs(10) {
            bail!("systemd-journald made no socket");
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
    Ok(child)
}

/// Mounts below a folder that nobody else sees; they end with this.
#[derive(Debug)]
pub struct OwnMounts {
    folder: Option<PathBuf>,
}

impl OwnMounts {
    /// Moves this process to a mount namespace of its own. What is then mounted below `folder` reaches
    /// the daemons that it starts, and not the machine. Does nothing where that is not permitted;
    /// then nothing can be mounted either.
    #[must_use]
    pub fn enter(folder: &Path) -> Self {
        // Asked once, before the move: in a changed root the kernel cannot say it afterwards.
        let known = programs().is_ok();
        if !known || nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).is_err() {
            return Self { folder: None };
        }
        let nothing: Option<&Path> = None;
        let propagate = |place: &Path, how| mount(nothing, place, nothing, how, nothing);
        // Refused where the root is no mount of its own (chroot(1)); the folder's own mount is enough.
        propagate(Path::new("/"), MsFlags::MS_REC | MsFlags::MS_PRIVATE).unwrap_or_default();
        let bound = mount(Some(folder), folder, nothing, MsFlags::MS_BIND, nothing)
            .and_then(|()| propagate(folder, MsFlags::MS_PRIVATE))
            .and_then(|()| propagate(folder, MsFlags::MS_SHARED));
        Self { folder: bound.is_ok().then(|| folder.to_owned()) }
    }
}

impl Drop for OwnMounts {
    fn drop(&mut self) {
        if let Some(folder) = &self.folder {
            // What is still read stays until its reader ends.
            umount2(folder, MntFlags::MNT_DETACH).unwrap_or_default();
        }
    }
}

/// Everything that the daemons of the scratch root `root` logged, one field of a journal entry or one
/// JSON line a line. Their supervisor must have ended.
///
/// # Errors
/// When a file cannot be read, or a journal was kept and has no entry.
pub fn logged(root: &Path) -> Result<String> {
    let mut text = String::new();
    for file in files(&root.join("log"))? {
        text.push_str(&String::from_utf8_lossy(&read_file(&file)?));
    }
    let Some(first) = files(&root.join("journal"))?.pop() else { return Ok(text) };
    let folder = first.parent().and_then(Path::to_str).context("a path is not UTF-8")?;
    let mut journal =
        OpenDirectoryOptions::default().open_directory(&CString::new(folder.to_owned())?)?;
    let mut entries = 0;
    while let Some(entry) = journal.next_entry()? {
        entries += 1;
        for (name, value) in entry {
            text.push_str(&format!("{name}={value}\n"));
        }
    }
    ensure!(entries > 0, "the journal is empty, so a search in it would prove nothing");
    Ok(text)
}

/// Every file below `folder`; none if there is no such folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(folder) = waiting.pop().filter(|folder| folder.exists()) {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() { waiting.push(path) } else { found.push(path) }
        }
    }
    Ok(found)
}

/// Whether a private journal can be had here: the words that put a command into a namespace where
/// [`start`] works, or `None`.
#[must_use]
pub fn wrapper() -> Option<Vec<String>> {
    if !Path::new(JOURNALD).exists() {
        return None;
    }
    let words = |flags: &str| {
        ["unshare", flags, "--propagation", "slave", "--"].map(str::to_owned).to_vec()
    };
    [words("-m"), words("-Urm")].into_iter().find(|wrapper| {
        let (program, arguments) = wrapper.split_at(1);
        program.first().is_some_and(|program| {
            Command::new(program)
                .args(arguments)
                .args(["mount", "-t", "tmpfs", "tmpfs", "/run"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
        })
    })
}
