//! The daemons' supervisor in these tests, and their tracer: starts them, starts again what died, sees
//! every call that counts in one order over all threads of all daemons, and strikes at the one that it
//! was told to strike at.
//!
//! strace(1) counts calls for each thread by itself and cannot cut a write short; a point here is one
//! number for the whole appliance.

mod errands;
mod memory;

use std::{
    collections::{BTreeMap, VecDeque},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use cloister_stage::Unit;
use nix::{
    errno::Errno,
    libc,
    sys::{
        ptrace::{self, Options},
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

use crate::{
    calls::{Deed, Kind, number_of, site},
    scene::Look,
    tree::OnDisk,
};
use memory::Entered;

/// A daemon that dies so often in one run, or since an errand, is not started again.
const DEATHS_MAX: u32 = 12;

/// What becomes of the call that is struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Its daemon dies before the call is made.
    Kill,
    /// All daemons die before the call is made.
    KillAll,
    /// The call is not made and comes back with an error.
    Fail(Errno),
    /// Every call of that kind comes back with the error from then on.
    FailFrom(Errno),
    /// Half of the bytes are written.
    Short,
}

/// Strikes at the call that is `after` calls behind the strike before it, or behind the arming; an error at
/// the first from there on that can come back with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Strike {
    /// How many calls that count are let through first.
    pub(crate) after: u64,
    /// What happens then.
    pub(crate) act: Act,
    /// Which calls alone are counted and struck, by the number of their [`site`].
    pub(crate) site: Option<u64>,
}

impl Strike {
    /// At the call behind so many, whichever they are.
    pub(crate) const fn after(after: u64, act: Act) -> Self {
        Self { after, act, site: None }
    }

    /// Whether the call goes on and fails.
    pub(crate) const fn is_failing(&self) -> bool {
        !matches!(self.act, Act::Kill | Act::KillAll)
    }
}

/// A call that counted.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// What kind.
    pub(crate) kind: Kind,
    /// Its name.
    pub(crate) name: &'static str,
    /// What it did.
    pub(crate) deed: Deed,
    /// Which daemon made it, and about what, in words.
    pub(crate) words: String,
}

/// What happened in a run, in order.
#[derive(Clone, Debug)]
pub(crate) enum Happening {
    /// A call that counted, when it came back; one at which its process died came not back.
    Call(Call),
    /// A strike hit: which call of which daemon, about what.
    Struck(String),
    /// Somebody outside was told.
    Mark,
    /// A daemon ended by itself, with this exit code or signal; not by a strike.
    Ended(Unit, String),
    /// When a strike had killed the updater, the shelf was as it may never be.
    Wrong(String),
}

/// What is done to the shelf, in this folder, and to what lies beside it.
pub(crate) type Harm = fn(&Path) -> Result<()>;

/// What happens when a strike has killed the updater, which alone writes the shelf, before it is started
/// again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watch {
    /// What must hold then.
    pub(crate) look: Option<Look>,
    /// Of this shelf.
    pub(crate) shelf: PathBuf,
    /// What is done first, that a judge must notice.
    pub(crate) harm: Option<Harm>,
}

/// What the tracer is told while daemons run.
#[derive(Clone, Debug)]
pub(crate) enum Errand {
    /// From now on calls are looked at and counted, and these strikes fall; with none they are not any more.
    Strike(Vec<Strike>),
    /// This daemon stands still until [`Errand::Thaw`].
    Freeze(Unit),
    /// What stood still goes on.
    Thaw,
    /// This daemon is killed and stays away until [`Errand::Release`].
    Hold(Unit),
    /// What stayed away is started again.
    Release,
    /// Every daemon is killed, and started again.
    KillAll,
}

/// Everything about one run of the daemons.
#[derive(Debug)]
pub(crate) struct Session {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
}

#[derive(Debug)]
struct Shared {
    armed: AtomicBool,
    stopping: AtomicBool,
    /// Errands that wait, and how many are done.
    errands: Mutex<Vec<Errand>>,
    run: AtomicU64,
    pids: Mutex<BTreeMap<&'static str, Pid>>,
    happenings: Mutex<Vec<Happening>>,
}

/// What is started and how it is watched.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    /// The daemons.
    pub(crate) units: Vec<Unit>,
    /// Their programs' folder.
    pub(crate) programs: PathBuf,
    /// Their configuration.
    pub(crate) config: PathBuf,
    /// Calls about files below it count.
    pub(crate) state: PathBuf,
    /// Where what they say goes.
    pub(crate) logs: PathBuf,
    /// The strikes, one after the other.
    pub(crate) strikes: Vec<Strike>,
    /// Whether bytes that are written are kept.
    pub(crate) bytes: bool,
    /// Whether calls are kept before they are counted.
    pub(crate) recorded: bool,
    /// Whether their calls are looked at.
    pub(crate) watched: bool,
    /// What is looked at when a strike has killed the updater.
    pub(crate) watch: Watch,
}

impl Session {
    /// Starts the daemons under the tracer.
    pub(crate) fn start(order: Order) -> Self {
        let shared = Arc::new(Shared {
            armed: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            errands: Mutex::default(),
            run: AtomicU64::new(0),
            pids: Mutex::default(),
            happenings: Mutex::default(),
        });
        let theirs = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let run = Tracer::new(order, Arc::clone(&theirs)).run();
            // Whoever waits for a socket learns that nobody will open it.
            theirs.stopping.store(true, Ordering::SeqCst);
            run
        });
        Self { shared, thread: Some(thread) }
    }

    /// From now on calls are counted.
    pub(crate) fn arm(&self) {
        self.shared.armed.store(true, Ordering::SeqCst);
    }

    /// Forgets what happened until now.
    pub(crate) fn forget(&self) {
        self.shared.happenings().clear();
    }

    /// What happened until now, which is forgotten.
    pub(crate) fn take(&self) -> Vec<Happening> {
        std::mem::take(&mut self.shared.happenings())
    }

    /// Has the tracer run an errand, and returns when it has.
    pub(crate) fn run(&self, errand: Errand) {
        self.shared.armed.store(matches!(errand, Errand::Strike(_)), Ordering::SeqCst);
        let before = self.shared.run.load(Ordering::SeqCst);
        self.shared.errands.lock().expect("nobody panics while adding an errand").push(errand);
        while self.shared.run.load(Ordering::SeqCst) == before && !self.is_over() {
            // Whichever of its threads is stopped for this, the tracer sees that and lets it go on.
            self.shared.signal_all(Signal::SIGSTOP);
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// How many daemons ended by themselves, of what happened since it was taken last.
    pub(crate) fn endings(&self) -> usize {
        let ended = |happening: &&Happening| matches!(happening, Happening::Ended(..));
        self.shared.happenings().iter().filter(ended).count()
    }

    /// Asks a daemon to end; it is started again.
    pub(crate) fn terminate(&self, unit: Unit) {
        let pids = self.shared.pids.lock().expect("nobody panics while adding a number");
        if let Some(pid) = pids.get(unit.name()) {
            // One that has just died is started again in any case.
            kill(*pid, Signal::SIGTERM).unwrap_or_default();
        }
    }

    /// How much happened until now.
    pub(crate) fn count(&self) -> usize {
        self.shared.happenings().len()
    }

    /// Notes that somebody outside was told.
    pub(crate) fn mark(&self) {
        self.shared.say(Happening::Mark);
    }

    /// Whether the tracer gave up.
    pub(crate) fn is_over(&self) -> bool {
        self.shared.stopping.load(Ordering::SeqCst)
    }

    /// The strikes that hit until now.
    pub(crate) fn struck(&self) -> Vec<String> {
        let hit = |happening: &Happening| match happening {
            Happening::Struck(what) => Some(what.clone()),
            _ => None,
        };
        self.shared.happenings().iter().filter_map(hit).collect()
    }

    /// Kills every daemon and tells what happened.
    ///
    /// # Errors
    /// When the tracer failed, not when a daemon did.
    pub(crate) fn end(mut self) -> Result<Vec<Happening>> {
        self.shut()?;
        Ok(std::mem::take(&mut self.shared.happenings()))
    }

    fn shut(&mut self) -> Result<()> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.shared.kill_all();
        match thread.join() {
            Ok(ended) => ended,
            Err(_panic) => bail!("the tracer panicked"),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Whoever wanted to know what happened called `end`.
        self.shut().unwrap_or_default();
    }
}

impl Shared {
    fn happenings(&self) -> MutexGuard<'_, Vec<Happening>> {
        self.happenings.lock().expect("nobody panics while adding a line")
    }

    fn say(&self, what: Happening) {
        self.happenings().push(what);
    }

    fn kill_all(&self) {
        self.signal_all(Signal::SIGKILL);
    }

    fn signal_all(&self, signal: Signal) {
        for pid in self.pids.lock().expect("nobody panics while adding a number").values() {
            // One that has just died needs no signal.
            kill(*pid, signal).unwrap_or_default();
        }
    }
}

/// One thread of a daemon.
struct Thread {
    unit: Unit,
    entered: Option<Entered>,
}

struct Tracer {
    order: Order,
    shared: Arc<Shared>,
    strikes: VecDeque<Strike>,
    /// Calls that counted since the last strike.
    count: u64,
    /// The strike that goes on: the kind of call, and the error.
    failing: Option<(Kind, Errno)>,
    threads: BTreeMap<Pid, Thread>,
    leaders: BTreeMap<Pid, Unit>,
    /// Those that a strike killed.
    struck: Vec<Pid>,
    deaths: u32,
    errands: errands::State,
}

impl Tracer {
    fn new(order: Order, shared: Arc<Shared>) -> Self {
        Self {
            strikes: order.strikes.iter().copied().collect(),
            order,
            shared,
            count: 0,
            failing: None,
            threads: BTreeMap::new(),
            leaders: BTreeMap::new(),
            struck: Vec::new(),
            deaths: 0,
            errands: errands::State::default(),
        }
    }

    fn run(mut self) -> Result<()> {
        for unit in self.order.units.clone() {
            self.spawn(unit)?;
        }
        while !self.leaders.is_empty() {
            let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
            match waitpid(None, Some(flags)) {
                Ok(status) => self.on(status)?,
                Err(Errno::EINTR) => {}
                Err(Errno::ECHILD) => break,
                Err(error) => return Err(error).context("waiting for a daemon"),
            }
            self.run_errands()?;
        }
        Ok(())
    }

    /// Starts a daemon by a shell that waits until it is traced.
    fn spawn(&mut self, unit: Unit) -> Result<()> {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.order.logs.join(format!("{}.log", unit.name())))?;
        let mut child = Command::new("/bin/sh")
            .args(["-c", "read -r go; exec \"$0\" \"$@\" </dev/null"])
            .arg(self.order.programs.join(unit.program()))
            .arg("--config")
            .arg(&self.order.config)
            .env_remove("RUST_LOG")
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting a daemon")?;
        let pid = Pid::from_raw(i32::try_from(child.id())?);
        let options = Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEEXEC
            | Options::PTRACE_O_EXITKILL;
        ptrace::seize(pid, options).context("tracing a daemon; this needs root")?;
        ptrace::interrupt(pid)?;
        let mut go = child.stdin.take().context("the shell has no input")?;
        go.write_all(b"go\n")?;
        self.leaders.insert(pid, unit);
        self.threads.insert(pid, Thread { unit, entered: None });
        let mut pids = self.shared.pids.lock().expect("nobody panics while adding a number");
        pids.insert(unit.name(), pid);
        drop(pids);
        if self.shared.stopping.load(Ordering::SeqCst) {
            // `end` may have looked before this one was there.
            self.shared.kill_all();
        }
        Ok(())
    }

    fn on(&mut self, status: WaitStatus) -> Result<()> {
        match status {
            WaitStatus::PtraceSyscall(pid) => {
                self.stopped(pid)?;
                self.go_on(pid, None)
            }
            WaitStatus::PtraceEvent(pid, _signal, _event) => self.go_on(pid, None),
            // What calls the tracer is not for the daemon.
            WaitStatus::Stopped(pid, Signal::SIGSTOP) => self.go_on(pid, None),
            WaitStatus::Stopped(pid, signal) => self.go_on(pid, Some(signal)),
            WaitStatus::Exited(pid, code) => self.ended(pid, &format!("exit code {code}")),
            WaitStatus::Signaled(pid, signal, _) => self.ended(pid, signal.as_str()),
            WaitStatus::Continued(_) | WaitStatus::StillAlive => Ok(()),
        }
    }

    fn ended(&mut self, pid: Pid, how: &str) -> Result<()> {
        self.threads.remove(&pid);
        let Some(unit) = self.leaders.remove(&pid) else { return Ok(()) };
        let stopping = self.shared.stopping.load(Ordering::SeqCst);
        if let Some(place) = self.struck.iter().position(|struck| *struck == pid) {
            self.struck.swap_remove(place);
            if unit == Unit::Updaterd {
                self.look()?;
            }
        } else if !stopping {
            self.shared.say(Happening::Ended(unit, how.to_owned()));
        }
        self.deaths += 1;
        if stopping || self.deaths > DEATHS_MAX || self.errands.stays_away(unit) {
            return Ok(());
        }
        self.spawn(unit)
    }

    /// Looks at what the updater left when it was killed.
    fn look(&self) -> Result<()> {
        let Watch { look, shelf, harm } = &self.order.watch;
        if let Some(harm) = harm {
            harm(shelf)?;
        }
        if let Some(Err(wrong)) = look.as_ref().map(|look| look.at(&OnDisk, shelf)) {
            self.shared.say(Happening::Wrong(format!("{wrong:#}")));
        }
        Ok(())
    }

    /// A thread is about to make a call, or has made it.
    fn stopped(&mut self, pid: Pid) -> Result<()> {
        /// What `op` says in `struct ptrace_syscall_info` (ptrace(2)).
        const ENTRY: u8 = 1;
        // A thread that is being killed answers nothing any more.
        let Ok(info) = ptrace::syscall_info(pid) else { return Ok(()) };
        if !self.threads.contains_key(&pid) {
            let Some(unit) = self.owner(pid) else { return Ok(()) };
            self.threads.insert(pid, Thread { unit, entered: None });
        }
        if info.op == ENTRY { self.enters(pid) } else { self.returns(pid) }
    }

    /// The daemon of a new thread.
    fn owner(&self, pid: Pid) -> Option<Unit> {
        let mut folders = self.leaders.iter();
        let task = |leader: &Pid| PathBuf::from(format!("/proc/{leader}/task/{pid}"));
        folders.find(|(leader, _)| task(leader).exists()).map(|(_, unit)| *unit)
    }

    fn enters(&mut self, pid: Pid) -> Result<()> {
        let armed = self.shared.armed.load(Ordering::SeqCst);
        if !(armed || self.order.recorded) || self.shared.stopping.load(Ordering::SeqCst) {
            return Ok(());
        }
        let Ok(mut registers) = ptrace::getregs(pid) else { return Ok(()) };
        let entered = Entered::of(pid, &registers, &self.order.state, self.order.bytes);
        let Some(mut entered) = entered else { return Ok(()) };
        let counts = self.strikes.front().is_none_or(|strike| {
            let words =
                || entered.words(self.threads.get(&pid).map_or(Unit::Updaterd, |one| one.unit));
            strike.site.is_none_or(|wanted| wanted == number_of(&site(&words())))
        });
        let strike = match (self.strikes.front(), self.failing) {
            (Some(strike), _)
                if armed && counts && strike.after <= self.count && entered.takes(strike.act) =>
            {
                self.strikes.pop_front()
            }
            (_, Some((kind, errno))) if kind == entered.kind() => {
                entered.fails_with = Some(errno);
                None
            }
            _ => None,
        };
        self.count += u64::from(armed && counts);
        let thread = self.threads.get_mut(&pid).context("a thread that was never seen")?;
        let unit = thread.unit;
        if let Some(Strike { act, .. }) = strike {
            self.count = 0;
            entered.struck = true;
            self.shared.say(Happening::Struck(entered.words(unit)));
            match act {
                Act::Kill => return self.kill(unit),
                Act::KillAll => return self.kill_everything(),
                Act::Fail(errno) => entered.fails_with = Some(errno),
                Act::FailFrom(errno) => {
                    entered.fails_with = Some(errno);
                    self.failing = Some((entered.kind(), errno));
                }
                Act::Short => entered.shorten(&mut registers),
            }
        }
        if entered.fails_with.is_some() {
            // Instead, a file that is not open is closed, which changes nothing, and which every cage allows.
            registers.orig_rax = libc::SYS_close.cast_unsigned();
            registers.rdi = u64::MAX;
        }
        if entered.struck || entered.fails_with.is_some() {
            ptrace::setregs(pid, registers).context("changing a call")?;
        }
        thread.entered = Some(entered);
        Ok(())
    }

    fn returns(&mut self, pid: Pid) -> Result<()> {
        let Some(thread) = self.threads.get_mut(&pid) else { return Ok(()) };
        let Some(entered) = thread.entered.take() else { return Ok(()) };
        let Ok(mut registers) = ptrace::getregs(pid) else { return Ok(()) };
        if let Some(errno) = entered.fails_with {
            registers.rax = (-i64::from(errno as i32)).cast_unsigned();
            registers.rdi = entered.first;
            ptrace::setregs(pid, registers).context("failing a call")?;
        }
        let call = entered.done(thread.unit, registers.rax.cast_signed());
        self.shared.say(Happening::Call(call));
        Ok(())
    }

    fn kill(&mut self, unit: Unit) -> Result<()> {
        let pid = self.leaders.iter().find(|(_, of)| **of == unit).map(|(pid, _)| *pid);
        let pid = pid.context("a daemon without a process")?;
        self.struck.push(pid);
        kill(pid, Signal::SIGKILL).context("killing a daemon")
    }

    /// Lets a thread run, to its next call if that is looked at.
    fn go_on(&mut self, pid: Pid, signal: Option<Signal>) -> Result<()> {
        if self.stands_still(pid, signal) {
            return Ok(());
        }
        let gone_on = if self.order.watched {
            ptrace::syscall(pid, signal)
        } else {
            ptrace::cont(pid, signal)
        };
        match gone_on {
            // Killed in the meantime.
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(error) => Err(error).context("letting a daemon go on"),
        }
    }

    fn kill_everything(&mut self) -> Result<()> {
        for unit in self.leaders.values().copied().collect::<Vec<_>>() {
            self.kill(unit)?;
        }
        Ok(())
    }
}

/// Whether `path` lies in `folder`.
pub(crate) fn is_below(path: &Path, folder: &Path) -> bool {
    path.starts_with(folder)
}

/// The number that stands for the folder a process is in.
pub(crate) const HERE: i32 = libc::AT_FDCWD;
