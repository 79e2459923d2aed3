//! A machine: network, process numbers, mounts and `/run` of its own, which can lose its power.
//!
//! Its first process (`tierce-rig-tool init`) mounts `/proc` and a fresh `/run` and then only reaps.
//! Power-off is SIGKILL to that process: the kernel ends every other process of the machine with
//! it, at once, whatever they have made of themselves. That is also how a rig that is killed takes
//! its machines along, for the kernel tells the first process to die with the rig.
//!
//! Processes are started by a thread of the machine's own, since the choice of process numbers is
//! a property of the thread that forks.

use std::fs::{self, File, OpenOptions};
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::Pid;

use crate::error::{Result, RigError};
use crate::files::until;
use crate::limits::GONE;
use crate::net::Namespace;
use crate::proc::{Cpu, Proc, cpu_of};

type Started = std::io::Result<Child>;
type Job = (Command, mpsc::Sender<Started>);

/// One machine; see the module. Its power goes off when dropped.
#[derive(Debug)]
pub struct Machine {
    name: String,
    tool: PathBuf,
    space: Arc<Namespace>,
    power: Option<Power>,
}

/// What there is while the power is on.
#[derive(Debug)]
struct Power {
    first: Proc,
    mounts: Arc<OwnedFd>,
    pids: u64,
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Machine {
    /// A machine with this network, powered on.
    pub fn new(name: &str, tool: &Path, space: &Arc<Namespace>) -> Result<Self> {
        let mut machine = Self {
            name: name.to_owned(),
            tool: tool.to_owned(),
            space: Arc::clone(space),
            power: None,
        };
        machine.power_on()?;
        Ok(machine)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Boots it: nothing runs, `/run` is empty.
    pub fn power_on(&mut self) -> Result<()> {
        if self.power.is_some() {
            return Ok(());
        }
        let (jobs, queue) = mpsc::channel::<Job>();
        let (ready, booted) = mpsc::channel();
        let thread = std::thread::Builder::new().name(format!("machine {}", self.name));
        let thread = thread.spawn(move || {
            let _ = ready.send(unshare(CloneFlags::CLONE_NEWPID));
            while let Ok((mut command, answer)) = queue.recv() {
                let _ = answer.send(command.spawn());
            }
        });
        let what = || RigError::system(format!("powering on {}", self.name));
        let thread = thread.map_err(what())?;
        let booted = booted.recv().unwrap_or(Err(nix::errno::Errno::EAGAIN));
        booted.map_err(RigError::system(format!("powering on {}", self.name)))?;
        let mut init = Command::new(&self.tool);
        init.arg("init").stdin(Stdio::null()).stdout(Stdio::piped());
        self.space.place(&mut init)?;
        die_with_us(&mut init);
        let mut child = ask(&jobs, init).map_err(what())?;
        let mut word = [0; 6];
        let said = child.stdout.take().map(|mut s| s.read_exact(&mut word));
        let first = Proc::new(format!("the first process of {}", self.name), child);
        if !matches!(said, Some(Ok(()))) || word != *b"ready\n" {
            let said = "it could not mount /proc and /run".to_owned();
            return Err(RigError::Answer { what: format!("powering on {}", self.name), said });
        }
        let of = |what: &str| format!("/proc/{}/ns/{what}", first.pid());
        let mounts = File::open(of("mnt")).map_err(what())?;
        let pids = fs::metadata(of("pid")).map_err(what())?.ino();
        let mounts = Arc::new(OwnedFd::from(mounts));
        self.power = Some(Power { first, mounts, pids, jobs: Some(jobs), thread: Some(thread) });
        Ok(())
    }

    /// Power off: every process of it is gone when this returns.
    pub fn power_off(&mut self) {
        let Some(mut power) = self.power.take() else { return };
        let _ = power.first.signal(Signal::SIGKILL);
        // The first process stays until all others were reaped; it does nothing any more.
        let first = power.first.pid();
        let gone = |pid: &Pid| *pid == first || !alive(*pid);
        until(GONE, || of_space(power.pids).iter().all(gone).then_some(()));
        power.jobs = None;
        if let Some(thread) = power.thread.take() {
            let _ = thread.join();
        }
        // Some of the others are ours to reap, so nobody waits for the first one here.
        let mut first = power.first;
        std::thread::spawn(move || first.kill());
    }

    /// Whether the power is on.
    pub fn is_on(&self) -> bool {
        self.power.is_some()
    }

    /// Starts a program on it; its output goes to the end of `log`.
    pub fn start(&self, name: &str, mut command: Command, log: &Path) -> Result<Proc> {
        let what = || RigError::system(format!("starting {name} on {}", self.name));
        let log = OpenOptions::new().create(true).append(true).open(log).map_err(what())?;
        let second = log.try_clone().map_err(what())?;
        command.stdin(Stdio::null()).stdout(second).stderr(log);
        let child = self.spawn(command)?.map_err(what())?;
        Ok(Proc::new(format!("{name} on {}", self.name), child))
    }

    /// Runs a program on it to its end, which must be a success.
    pub fn run(&self, mut command: Command) -> Result<Output> {
        let what = format!("{} on {}", command.get_program().display(), self.name);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = self.spawn(command)?.map_err(RigError::system(what.clone()))?;
        let out = child.wait_with_output().map_err(RigError::system(what.clone()))?;
        if out.status.success() {
            return Ok(out);
        }
        let said = String::from_utf8_lossy(&out.stderr).trim().to_owned();
        Err(RigError::Program { what, code: out.status.code(), said })
    }

    fn spawn(&self, mut command: Command) -> Result<Started> {
        let off = || RigError::Off(self.name.clone());
        let power = self.power.as_ref().ok_or_else(off)?;
        let jobs = power.jobs.as_ref().ok_or_else(off)?;
        for variable in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"] {
            command.env_remove(variable);
        }
        self.space.place(&mut command)?;
        let mounts = Arc::clone(&power.mounts);
        // SAFETY: runs in the child between fork and exec; system calls on what is at hand.
        unsafe {
            command.pre_exec(move || {
                // Signals that the rig keeps for itself must reach the machine's programs.
                SigSet::empty().thread_set_mask()?;
                Ok(setns(&*mounts, CloneFlags::CLONE_NEWNS)?)
            });
        }
        Ok(ask(jobs, command))
    }

    /// The processes on it but for the first, with their names.
    pub fn processes(&self) -> Vec<(Pid, String)> {
        let Some(power) = &self.power else { return Vec::new() };
        let named = |pid: Pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            (pid, name.trim().to_owned())
        };
        let all = of_space(power.pids).into_iter();
        all.filter(|pid| *pid != power.first.pid()).map(named).collect()
    }

    /// CPU time of all processes on it.
    pub fn cpu(&self) -> Cpu {
        let each = self.processes().into_iter().filter_map(|(pid, _)| cpu_of(pid));
        each.fold(Cpu::default(), |a, b| a + b)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.power_off();
    }
}

/// The processes of a space of process numbers.
fn of_space(pids: u64) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let all = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    let of_it =
        |pid: &i32| fs::metadata(format!("/proc/{pid}/ns/pid")).is_ok_and(|m| m.ino() == pids);
    all.filter(of_it).map(Pid::from_raw).collect()
}

/// Whether a process may still do something: it is there and no zombie.
fn alive(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

fn ask(jobs: &mpsc::Sender<Job>, command: Command) -> Started {
    let ended = || std::io::Error::other("the machine's thread has ended");
    let (answer, started) = mpsc::channel();
    jobs.send((command, answer)).map_err(|_| ended())?;
    started.recv().unwrap_or_else(|_| Err(ended()))
}

/// The kernel ends the child when the thread ends that started it, and so with this process.
fn die_with_us(command: &mut Command) {
    // SAFETY: runs in the child between fork and exec; one system call.
    unsafe {
        command.pre_exec(|| Ok(nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?));
    }
}
