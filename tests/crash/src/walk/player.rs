//! Who plays a walk's steps on one appliance: the operator's command as people run it, and the weather.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use cloister_stage::{Unit, ask, facility::Outcome, programs};
use cloister_wire::{Reply, supply};
use nix::{
    fcntl::{FallocateFlags, fallocate},
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::statvfs::statvfs,
};
use serde_json::Value;

use super::{
    depot::{Depot, asks},
    step::{Act, Step, Weather},
};
use crate::{
    appliance::{Appliance, NO_ANSWER, Run, copy, empty},
    disk::Facts,
    doubles::Mood,
    fixture::text,
    log::{Signer, texts},
    tracer::{self, Errand, Happening, Strike},
    tree::OnDisk,
};

/// A disk that any walk fits on, and that is soon full.
const DISK_BYTES: &str = "size=32m,mode=755";
/// How long a command may take, where everything is well again after two seconds.
const COMMAND_MS: u64 = 60_000;
/// What timeout(1) says when it ended a command.
const TIMED_OUT: i32 = 124;
/// How long a daemon may take to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// What somebody was told.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) act: Act,
    pub(super) said: Outcome,
}

/// A program that is run as this user.
pub(super) fn as_user(program: &Path, user: Option<u32>) -> Command {
    let mut command = Command::new(program);
    if let Some(user) = user {
        command.uid(user).gid(user).current_dir("/");
    }
    command.stdin(Stdio::null());
    command
}

/// One appliance on a disk of its own.
#[derive(Debug)]
pub(super) struct Player {
    pub(super) appliance: Appliance,
    disk: Disk,
    place: PathBuf,
    exports: u32,
}

impl Player {
    /// Lays it out below `place`.
    ///
    /// # Errors
    /// When nothing can be mounted there.
    pub(super) fn lay_out(place: &Path) -> Result<Self> {
        fs::create_dir_all(place)?;
        let disk = Disk::mount(&place.join("disk"))?;
        let appliance = Appliance::lay_out_as(place, &place.join("disk/state"), &asks(2))?;
        Ok(Self { appliance, disk, place: place.to_owned(), exports: 0 })
    }

    /// Begins a walk.
    ///
    /// # Errors
    /// When the daemons do not come up.
    pub(super) fn set_out(&mut self, depot: &Depot) -> Result<()> {
        self.appliance.end()?;
        self.disk.free()?;
        self.appliance.set_up(&asks(2))?;
        empty(self.appliance.state())?;
        copy(&depot.base(), self.appliance.state())?;
        self.appliance.doubles().become_so(Mood::Well);
        // Strikes fall only where they are wished.
        self.appliance.start(&[], Run { unwatched: true, ..Run::default() })
    }

    /// Plays a step; whoever asked for something is told something. Everything is well again when this returns,
    /// and perhaps not yet at rest.
    ///
    /// # Errors
    /// When a command cannot be run, or never ends.
    pub(super) fn play(
        &mut self,
        depot: &Depot,
        facts: &Facts,
        step: &Step,
    ) -> Result<(Vec<Told>, bool)> {
        match step {
            Step::Acts { acts, later_us, weather } => {
                self.acts(depot, acts, Duration::from_micros(*later_us), weather)
            }
            Step::Restart(unit) => {
                let session = self.appliance.session()?;
                match unit {
                    Some(unit) => self.have_ended(*unit)?,
                    None => session.run(Errand::KillAll),
                }
                Ok((Vec::new(), false))
            }
            Step::Flip { object, weather } => {
                self.flip(depot, facts, object)?;
                let scrub = Act::Words(vec!["scrub".to_owned()]);
                self.acts(depot, &[scrub], Duration::ZERO, weather)
            }
            Step::Policy(approvals) => {
                self.appliance.set_up(&asks(*approvals))?;
                self.have_ended(Unit::Updaterd)?;
                Ok((Vec::new(), false))
            }
        }
    }

    /// Asks a daemon to end and waits until it has.
    fn have_ended(&self, unit: Unit) -> Result<()> {
        let (session, begun) = (self.appliance.session()?, Instant::now());
        let ended = session.endings();
        session.terminate(unit);
        while session.endings() == ended {
            ensure!(begun.elapsed() < PATIENCE, "{} does not end when it is asked to", unit.name());
            thread::park_timeout(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Somebody acts, perhaps two at once, and something goes wrong meanwhile; whether a strike hit.
    fn acts(
        &mut self,
        depot: &Depot,
        acts: &[Act],
        later: Duration,
        weather: &Weather,
    ) -> Result<(Vec<Told>, bool)> {
        self.exports += 1;
        let lasts = self.turn_bad(weather)?;
        let this: &Self = self;
        let told = thread::scope(|scope| {
            let mut actors = Vec::new();
            for act in acts {
                if !actors.is_empty() {
                    thread::park_timeout(later);
                }
                actors.push(scope.spawn(move || this.ask(depot, act)));
            }
            let begun = Instant::now();
            while begun.elapsed() < lasts
                && !actors.iter().all(thread::ScopedJoinHandle::is_finished)
            {
                thread::park_timeout(Duration::from_millis(2));
            }
            this.turn_well(weather)?;
            let told =
                actors.into_iter().map(|actor| actor.join().expect("nobody panics in asking"));
            told.collect::<Result<Vec<Told>>>()
        })?;
        let hit = !self.appliance.session()?.struck().is_empty();
        if matches!(weather, Weather::Kill { .. }) {
            self.appliance.session()?.run(Errand::Strike(Vec::new()));
        }
        Ok((told, hit))
    }

    fn turn_bad(&self, weather: &Weather) -> Result<Duration> {
        let session = self.appliance.session()?;
        let doubles = self.appliance.doubles();
        let ms = match weather {
            Weather::Fair => 0,
            Weather::Kill { after, all } => {
                let act = if *all { tracer::Act::KillAll } else { tracer::Act::Kill };
                session.run(Errand::Strike(vec![Strike::after(*after, act)]));
                0
            }
            Weather::EnginesGone(ms) => {
                doubles.become_so(Mood::Gone);
                *ms
            }
            Weather::EnginesHang(ms) => {
                doubles.become_so(Mood::Hanging);
                *ms
            }
            Weather::DiskFull(ms) => {
                self.disk.fill()?;
                *ms
            }
            Weather::Silent(unit, ms) => {
                session.run(Errand::Freeze(*unit));
                *ms
            }
            Weather::Away(unit, ms) => {
                session.run(Errand::Hold(*unit));
                *ms
            }
        };
        Ok(Duration::from_millis(ms))
    }

    fn turn_well(&self, weather: &Weather) -> Result<()> {
        let session = self.appliance.session()?;
        match weather {
            Weather::Fair | Weather::Kill { .. } => {}
            Weather::EnginesGone(_) => {
                // They come again, and load what their slots name.
                self.appliance.doubles().restart(&self.appliance.config().paths.shelf());
                self.appliance.doubles().become_so(Mood::Well);
            }
            Weather::EnginesHang(_) => self.appliance.doubles().become_so(Mood::Well),
            Weather::DiskFull(_) => self.disk.free()?,
            Weather::Silent(..) => session.run(Errand::Thaw),
            Weather::Away(..) => session.run(Errand::Release),
        }
        Ok(())
    }

    /// Changes one byte of an object, which is one file with those of releases.
    fn flip(&self, depot: &Depot, facts: &Facts, object: &str) -> Result<()> {
        let shelf = self.appliance.config().paths.shelf();
        let holds = facts.shelf.releases.iter().find(|(_, digests)| digests.contains(object));
        let (Some((release, _)), Some(path)) = (holds, depot.own(object)) else { return Ok(()) };
        let file = shelf.join("generations").join(release).join(path);
        let mut bytes = crate::tree::read(&file)?;
        *bytes.last_mut().context("an empty file")? ^= 1;
        let permissions = fs::metadata(&file)?.permissions();
        Ok(fs::write(&file, bytes).and_then(|()| fs::set_permissions(&file, permissions))?)
    }

    /// Asks for one thing as whoever would.
    fn ask(&self, depot: &Depot, act: &Act) -> Result<Told> {
        let said = match act {
            Act::Import { stick, user, leaves_ms } => {
                self.command(&["import", &text(&stick.path)?], *user, *leaves_ms)
            }
            Act::Decide { import, key, rejects } => {
                let (import, key) = (import.to_string(), text(&depot.key(key))?);
                let mut words = vec!["approve", &import, "--key", &key];
                words.extend(rejects.then_some("--reject"));
                self.command(&words, None, None)
            }
            Act::Authorise { release, key } => {
                let key = text(&depot.key(key))?;
                self.command(&["authorise", release, "--key", &key], None, None)
            }
            Act::Words(words) => {
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                self.command(&words, None, None)
            }
            Act::Export => {
                let out = self.place.join(format!("export-{}", self.exports));
                let said = self.command(&["records", "export", &text(&out)?], None, None);
                if out.exists() {
                    fs::remove_dir_all(out)?;
                }
                said
            }
            Act::Again { record } => self.again(depot, *record),
        };
        Ok(Told { act: act.clone(), said: said.with_context(|| act.to_string())? })
    }

    /// Hands in once more what the log holds.
    fn again(&self, depot: &Depot, record: usize) -> Result<Outcome> {
        let signer = Signer::parse(&depot.log_key)?;
        let folder = self.appliance.config().paths.record();
        let texts = texts(&OnDisk, &folder, &signer);
        let no_answer = || Outcome { exit: 1, said: vec![problem(NO_ANSWER)] };
        // While the log grows, or is torn by what is killed, it may not be read.
        let Some(text) = texts.ok().and_then(|texts| texts.into_iter().nth(record)) else {
            return Ok(no_answer());
        };
        let envelope = String::from_utf8(text)?;
        let is_consent = envelope_is(&envelope, "downgrade")?;
        let request = if is_consent {
            supply::Request::Consent { envelope }
        } else {
            supply::Request::Approve { envelope }
        };
        let socket = Unit::Updaterd.socket(self.appliance.config());
        let reply: Result<Reply<supply::Answer>> = ask(&socket, &request);
        Ok(match reply {
            Ok(Ok(answer)) => Outcome { exit: 0, said: vec![serde_json::to_value(answer)?] },
            Ok(Err(told)) => {
                let said = serde_json::json!({ "problem": told });
                Outcome { exit: 1, said: vec![said] }
            }
            Err(_nobody_answers) => no_answer(),
        })
    }

    fn command(&self, words: &[&str], user: Option<u32>, leaves: Option<u64>) -> Result<Outcome> {
        let mut command = as_user(Path::new("timeout"), user);
        let ms = leaves.unwrap_or(COMMAND_MS);
        command
            .args(leaves.map(|_| "--signal=KILL"))
            .arg(format!("{}.{:03}", ms / 1000, ms % 1000))
            .arg(programs()?.join("cloister"))
            .arg("--config")
            .arg(self.appliance.config_file())
            .arg("--json")
            .args(words)
            .stderr(Stdio::null());
        let output = command.output().context("starting cloister")?;
        let exit = output.status.code().unwrap_or(-1);
        if leaves.is_some() && (exit == TIMED_OUT || exit == -1 || exit == 137) {
            return Ok(Outcome { exit: 1, said: vec![problem("operator.left")] });
        }
        ensure!(exit != TIMED_OUT, "it never ends");
        let said: Vec<Value> = String::from_utf8(output.stdout)?
            .lines()
            .map(|line| serde_json::from_str(line).context("cloister --json printed no JSON"))
            .collect::<Result<_>>()?;
        Ok(Outcome { exit, said })
    }

    /// What daemons did by themselves since the last time: none may end but as it was asked to.
    ///
    /// # Errors
    /// When one did.
    pub(super) fn died(&self, asked: bool, full: bool) -> Result<()> {
        for happening in self.appliance.session()?.take() {
            let Happening::Ended(unit, how) = happening else { continue };
            let may = (asked && how == "exit code 0") || (full && how.starts_with("exit code"));
            ensure!(may, "{} ended by itself: {how}", unit.name());
        }
        Ok(())
    }
}

fn problem(code: &str) -> Value {
    serde_json::json!({ "problem": { "code": code } })
}

/// Whether an envelope's statement is of this event.
fn envelope_is(envelope: &str, event: &str) -> Result<bool> {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    let envelope: Value = serde_json::from_str(envelope)?;
    let payload = BASE64_STANDARD.decode(envelope["payload"].as_str().context("no payload")?)?;
    let statement: Value = serde_json::from_slice(&payload)?;
    let kind = statement["predicateType"].as_str().context("no predicate type")?;
    Ok(kind.split('/').nth(3) == Some(event))
}

/// A small disk in memory.
#[derive(Debug)]
struct Disk(PathBuf);

impl Disk {
    fn mount(place: &Path) -> Result<Self> {
        fs::create_dir_all(place)?;
        let mounted = mount(
            Some("tmpfs"),
            place,
            Some("tmpfs"),
            MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
            Some(DISK_BYTES),
        );
        mounted.context("mounting a small disk; this needs root")?;
        Ok(Self(place.to_owned()))
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }

    fn fill(&self) -> Result<()> {
        let about = statvfs(&self.0)?;
        let bytes = about.blocks_available() * about.fragment_size();
        let file = fs::File::create(self.filler())?;
        if bytes > 0 {
            // What somebody took meanwhile is full, too.
            fallocate(file, FallocateFlags::empty(), 0, i64::try_from(bytes)?).unwrap_or_default();
        }
        Ok(())
    }

    fn free(&self) -> Result<()> {
        match fs::remove_file(self.filler()) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => Ok(other?),
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Nothing runs there any more, or it goes with the last that does.
        umount2(&self.0, MntFlags::MNT_DETACH).unwrap_or_default();
    }
}
