//! Making a scratch root, starting and stopping its supervisor, and killing daemons on purpose.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use cloister_config::Config;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{Unit, journal};

/// What a scratch root is made for.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the API listens; port 0 takes a free one.
    pub listen: String,
    /// Whether the daemons write to a journal of their own, read back from `journal/`.
    pub journal: bool,
    /// More lines for the configuration file.
    pub extra: String,
    /// The daemons that run.
    pub units: Vec<Unit>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:0".to_owned(),
            journal: false,
            extra: String::new(),
            units: Unit::ALL.to_vec(),
        }
    }
}

impl Options {
    /// For releases that bring no evaluation set, such as a model alone; the record says so.
    #[must_use]
    pub fn no_evaluation_asked() -> Self {
        Self { extra: "\n[update]\nevaluation_required = false\n".to_owned(), ..Self::default() }
    }
}

/// A scratch root with its supervisor.
#[derive(Debug)]
pub struct Stage {
    root: PathBuf,
    config: Config,
    journal: Option<Vec<String>>,
    units: Vec<Unit>,
    /// What the environment of the daemons that are started next has beside ours.
    pub environment: Vec<(String, String)>,
    supervisor: Option<Child>,
}

impl Stage {
    /// Lays out `root` (made if absent; kept afterwards) and its configuration file.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn create(root: &Path, options: &Options) -> Result<Self> {
        for folder in ["state", "run", "log"] {
            fs::create_dir_all(root.join(folder))?;
        }
        let text = format!(
            "[paths]\nstate = {state:?}\nruntime = {run:?}\n\n[gateway]\nlisten = {listen:?}\nkey_characters_min = 1\n\n[log]\nlevel = \"debug\"\n{extra}",
            state = root.join("state"),
            run = root.join("run"),
            listen = options.listen,
            extra = options.extra,
        );
        let config = Config::parse(&text)?;
        fs::write(root.join("config.toml"), text)?;
        let journal = if options.journal { journal::wrapper() } else { None };
        let units = options.units.clone();
        let (root, environment) = (root.to_owned(), Vec::new());
        Ok(Self { root, config, journal, units, environment, supervisor: None })
    }

    /// Starts the supervisor and returns when every daemon has said that it is ready.
    ///
    /// # Errors
    /// When one does not come up.
    pub fn start(&mut self) -> Result<()> {
        for entry in fs::read_dir(self.root.join("run"))? {
            let path = entry?.path();
            if path.is_dir() {
                fs::remove_dir_all(path)?;
            } else {
                fs::remove_file(path)?;
            }
        }
        let program = programs()?.join("cloister-stage");
        let mut words = self.journal.clone().unwrap_or_default();
        let wrapped = !words.is_empty();
        words.push(program.to_str().context("the build folder's path is not UTF-8")?.to_owned());
        let (first, rest) = words.split_first().context("no program")?;
        let mut command = Command::new(first);
        command.args(rest).arg(&self.root).stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(fs::File::create(self.root.join("log/stage.log"))?);
        command.envs(self.environment.iter().cloned());
        if wrapped {
            command.arg("--journal");
        }
        command.args(self.units.iter().map(|unit| unit.name()));
        let mut child = command.spawn().with_context(|| format!("starting {first}"))?;
        let stdout = child.stdout.take().context("no output of the supervisor")?;
        self.supervisor = Some(child);
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        if line.trim() != "ready" {
            let said =
                cloister_daemon::files::read_limited(&self.root.join("log/stage.log"), 1 << 16)?;
            let said = String::from_utf8_lossy(&said);
            bail!("the daemons did not come up: {said}");
        }
        Ok(())
    }

    /// Ends the daemons and the supervisor; the root stays.
    ///
    /// # Errors
    /// When the supervisor does not end within twenty seconds.
    pub fn stop(&mut self) -> Result<()> {
        let Some(mut child) = self.supervisor.take() else { return Ok(()) };
        signal(child.id(), Signal::SIGTERM)?;
        let begun = Instant::now();
        while child.try_wait()?.is_none() {
            if begun.elapsed() > Duration::from_secs(20) {
                child.kill()?;
                bail!("the supervisor did not end in time");
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Ends the daemons and the supervisor at once; what they had stored is of no use any more.
    ///
    /// # Errors
    /// As [`Stage::stop`].
    pub fn abandon(&mut self) -> Result<()> {
        if let Some(supervisor) = &self.supervisor {
            // Asked first, so that it does not start again what is killed next.
            signal(supervisor.id(), Signal::SIGTERM)?;
            self.kill_all()?;
        }
        self.stop()
    }

    /// Whether the daemons write to a private journal.
    #[must_use]
    pub const fn has_journal(&self) -> bool {
        self.journal.is_some()
    }

    /// The scratch root.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Its configuration.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// The path of its configuration file, for `cloister --config`.
    #[must_use]
    pub fn config_path(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    /// The socket of a daemon.
    #[must_use]
    pub fn socket(&self, unit: Unit) -> PathBuf {
        unit.socket(&self.config)
    }

    /// The process id of a daemon as the supervisor last started it.
    ///
    /// # Errors
    /// When it was never started.
    pub fn pid(&self, unit: Unit) -> Result<u32> {
        let path = self.root.join("run").join(format!("{}.pid", unit.name()));
        let text = cloister_daemon::files::read_limited(&path, 32)?;
        Ok(std::str::from_utf8(&text)?.parse()?)
    }

    /// The process id of the supervisor, whose waited-for children are the inspectors that ended.
    ///
    /// # Errors
    /// When it does not run.
    pub fn supervisor_pid(&self) -> Result<u32> {
        self.supervisor.as_ref().map(Child::id).context("the supervisor does not run")
    }

    /// Sends SIGKILL to a daemon; the supervisor starts it again.
    ///
    /// # Errors
    /// When it was never started.
    pub fn kill(&self, unit: Unit) -> Result<()> {
        signal(self.pid(unit)?, Signal::SIGKILL)
    }

    /// Sends SIGKILL to every daemon.
    ///
    /// # Errors
    /// When one was never started.
    pub fn kill_all(&self) -> Result<()> {
        self.units.iter().try_for_each(|unit| self.kill(*unit))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            // Nothing else can be done here, and the supervisor ends with this process anyway.
            drop(error);
        }
    }
}

fn signal(pid: u32, signal: Signal) -> Result<()> {
    match kill(Pid::from_raw(i32::try_from(pid)?), signal) {
        Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
        Err(error) => Err(error).context("sending a signal"),
    }
}

/// The folder of the built programs: beside this one, or above it for test programs. It is looked
/// for once.
///
/// # Errors
/// When they were not built.
pub fn programs() -> Result<PathBuf> {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    if let Some(found) = FOUND.get() {
        return Ok(found.clone());
    }
    let here = std::env::current_exe()?;
    let found = here.ancestors().skip(1).find(|folder| folder.join("cloister-stage").is_file());
    let found = found.context("the daemons are not built; run `cargo build --workspace --bins`")?;
    Ok(FOUND.get_or_init(|| found.to_owned()).clone())
}
