//! An appliance whose daemons are killed: recordd, updaterd and intaked are the real programs, what is
//! heavy is doubled, and its state folder can be put back to what it was.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use cloister_config::Config;
use cloister_daemon::Connection;
use cloister_stage::{Unit, ask, facility::Outcome, programs};
use cloister_wire::{
    Reply,
    record::{Answer, Request},
};

use crate::{
    doubles::Doubles,
    tracer::{Happening, Order, Session, Strike, Watch},
};

/// The real daemons.
pub(crate) const UNITS: [Unit; 3] = [Unit::Recordd, Unit::Updaterd, Unit::Intaked];
/// How long anything may take on a machine under load.
const PATIENCE: Duration = Duration::from_secs(20);
/// The same for the operator's command, as timeout(1) reads it.
const COMMAND_SECONDS: &str = "30";

/// Daemons that have made no call that counts for so long have nothing left to do.
const QUIET: Duration = Duration::from_millis(150);

/// The code of a command that waited in vain.
pub(crate) const NO_ANSWER: &str = "no-answer";

/// What the facility asks for here: no room for its own records, which every disk has, and two
/// releases kept.
const CONFIG: &str = "[update]\nreserve_bytes = 0\nretained_max = 1\nfull_disk_bytes = 65536\nprobation_s = 0\n[record]\nfull_disk_bytes = 65536\n";

/// How daemons are run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Run {
    /// Keep the bytes that are written.
    pub(crate) bytes: bool,
    /// Keep what happens from the start on, also before calls are counted.
    pub(crate) recorded: bool,
    /// Do not look at calls at all.
    pub(crate) unwatched: bool,
    /// What is looked at when a strike has killed the updater.
    pub(crate) watch: Watch,
}

/// One appliance.
#[derive(Debug)]
pub(crate) struct Appliance {
    root: PathBuf,
    state: PathBuf,
    config: Config,
    doubles: Doubles,
    session: Option<Session>,
}

impl Appliance {
    /// Lays an appliance out below `root`, with its state folder at `state`.
    ///
    /// # Errors
    /// When a folder or a socket cannot be made.
    pub(crate) fn lay_out(root: &Path, state: &Path) -> Result<Self> {
        Self::lay_out_as(root, state, CONFIG)
    }

    /// The same, of which the facility asks for something else.
    ///
    /// # Errors
    /// As [`Appliance::lay_out`].
    pub(crate) fn lay_out_as(root: &Path, state: &Path, asks: &str) -> Result<Self> {
        for folder in [root.join("run"), root.join("log"), state.to_owned()] {
            fs::create_dir_all(folder)?;
        }
        let text = format!("[paths]\nstate = {state:?}\nruntime = {:?}\n{asks}", root.join("run"));
        let config = Config::parse(&text)?;
        fs::write(root.join("config.toml"), text)?;
        let doubles = Doubles::start(&config)?;
        let (root, state) = (root.to_owned(), state.to_owned());
        Ok(Self { root, state, config, doubles, session: None })
    }

    /// From the next start on the facility asks for something else.
    ///
    /// # Errors
    /// When that cannot be written, or is no configuration.
    pub(crate) fn set_up(&mut self, asks: &str) -> Result<()> {
        let (state, run) = (&self.state, self.root.join("run"));
        let text = format!("[paths]\nstate = {state:?}\nruntime = {run:?}\n{asks}");
        self.config = Config::parse(&text)?;
        Ok(fs::write(self.root.join("config.toml"), text)?)
    }

    /// Its configuration's file.
    pub(crate) fn config_file(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    /// What stands where the heavy parts would.
    pub(crate) const fn doubles(&self) -> &Doubles {
        &self.doubles
    }

    /// Its state folder.
    pub(crate) fn state(&self) -> &Path {
        &self.state
    }

    /// The daemons' journals.
    pub(crate) fn logs(&self) -> PathBuf {
        self.root.join("log")
    }

    /// Its configuration.
    pub(crate) const fn config(&self) -> &Config {
        &self.config
    }

    /// Puts the state folder back to `base`. Nothing runs meanwhile.
    ///
    /// # Errors
    /// When it cannot be copied.
    pub(crate) fn put_back(&mut self, base: &Path) -> Result<()> {
        self.end()?;
        empty(&self.state)?;
        copy(base, &self.state)
    }

    /// Starts the engines anew and the daemons under the tracer, and returns when they answer.
    ///
    /// # Errors
    /// When one does not come up.
    pub(crate) fn start(&mut self, strikes: &[Strike], run: Run) -> Result<()> {
        self.begin(strikes, run)?;
        self.wait_for_sockets()
    }

    /// The same; they may not come up.
    ///
    /// # Errors
    /// When the daemons before cannot be ended.
    pub(crate) fn begin(&mut self, strikes: &[Strike], run: Run) -> Result<()> {
        self.end()?;
        self.doubles.restart(&self.config.paths.shelf());
        self.session = Some(Session::start(Order {
            units: UNITS.to_vec(),
            programs: programs()?,
            config: self.root.join("config.toml"),
            state: self.state.clone(),
            logs: self.root.join("log"),
            strikes: strikes.to_vec(),
            bytes: run.bytes,
            recorded: run.recorded,
            watched: !run.unwatched,
            watch: run.watch,
        }));
        Ok(())
    }

    /// Starts engines and daemons; nobody looks at their calls.
    ///
    /// # Errors
    /// When the daemons before cannot be ended.
    pub(crate) fn begin_unwatched(&mut self) -> Result<()> {
        self.begin(&[], Run { unwatched: true, ..Run::default() })
    }

    /// Waits until the daemons, whose calls are recorded, have made none that counts for a while.
    ///
    /// # Errors
    /// When they never rest.
    pub(crate) fn quiet(&self) -> Result<()> {
        let begun = Instant::now();
        let (mut seen, mut since) = (self.session()?.count(), Instant::now());
        while since.elapsed() < QUIET {
            ensure!(begun.elapsed() < PATIENCE, "the daemons never rest");
            std::thread::park_timeout(Duration::from_millis(5));
            let now = self.session()?.count();
            if now != seen {
                (seen, since) = (now, Instant::now());
            }
        }
        Ok(())
    }

    /// Waits until every daemon takes connections.
    ///
    /// # Errors
    /// When one does not within a minute, or keeps dying.
    pub(crate) fn wait_for_sockets(&self) -> Result<()> {
        let begun = Instant::now();
        for unit in UNITS {
            let socket = unit.socket(&self.config);
            while Connection::connect(&socket).is_err() {
                let over = self.session.as_ref().is_none_or(Session::is_over);
                ensure!(!over, "{} keeps dying", unit.name());
                ensure!(begun.elapsed() < PATIENCE, "{} does not come up", unit.name());
                std::thread::park_timeout(Duration::from_millis(2));
            }
        }
        Ok(())
    }

    /// The run that is under way.
    ///
    /// # Errors
    /// When nothing runs.
    pub(crate) fn session(&self) -> Result<&Session> {
        self.session.as_ref().context("nothing runs")
    }

    /// Kills every daemon; what happened since they were started.
    ///
    /// # Errors
    /// When the tracer failed.
    pub(crate) fn end(&mut self) -> Result<Vec<Happening>> {
        self.session.take().map_or_else(|| Ok(Vec::new()), Session::end)
    }

    /// Runs the operator's command.
    ///
    /// # Errors
    /// When it cannot be started, never ends, or prints something that is no JSON.
    pub(crate) fn cloister(&self, words: &[&str]) -> Result<Outcome> {
        let output = Command::new("timeout")
            .arg(COMMAND_SECONDS)
            .arg(programs()?.join("cloister"))
            .arg("--config")
            .arg(self.root.join("config.toml"))
            .arg("--json")
            .args(words)
            .stdin(Stdio::null())
            .output()
            .context("starting cloister")?;
        let exit = output.status.code().unwrap_or(-1);
        if exit == 124 {
            // What timeout(1) says when it ended the command.
            let problem = serde_json::json!({ "problem": { "code": NO_ANSWER } });
            return Ok(Outcome { exit, said: vec![problem] });
        }
        let said = String::from_utf8(output.stdout)?
            .lines()
            .map(|line| serde_json::from_str(line).context("cloister --json printed no JSON"))
            .collect::<Result<_>>()?;
        Ok(Outcome { exit, said })
    }

    /// How many entries recordd answers for.
    ///
    /// # Errors
    /// When it does not answer.
    pub(crate) fn log_size(&self) -> Result<usize> {
        let reply: Reply<Answer> = ask(&Unit::Recordd.socket(&self.config), &Request::Head)?;
        match reply? {
            Answer::Head { size, .. } => Ok(usize::try_from(size)?),
            other => bail!("recordd answered with something else: {other:?}"),
        }
    }

    /// The log's verifier key, as recordd tells it.
    ///
    /// # Errors
    /// When recordd does not answer.
    pub(crate) fn log_key(&self) -> Result<String> {
        let socket = Unit::Recordd.socket(&self.config);
        let reply: Reply<Answer> = ask(&socket, &Request::Head)?;
        match reply? {
            Answer::Head { log_key, .. } => Ok(log_key),
            other => bail!("recordd answered with something else: {other:?}"),
        }
    }
}

/// Removes what lies in `folder`, not the folder.
///
/// # Errors
/// When something cannot be removed.
pub(crate) fn empty(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Copies what lies in `from` into `to`, with modes, links and hard links as they are.
///
/// # Errors
/// When cp(1) fails.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status()?;
    ensure!(status.success(), "cp failed");
    Ok(())
}
