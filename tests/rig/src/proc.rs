//! Processes that the rig started, and what they cost.

use std::fs;
use std::ops::{Add, Sub};
use std::process::{Child, ExitStatus};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, SysconfVar, sysconf};

use crate::error::{Result, RigError};

/// CPU time, user and system together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cpu {
    /// Of the process itself, all threads.
    pub own: Duration,
    /// Of its children that have ended.
    pub children: Duration,
}

impl Add for Cpu {
    type Output = Self;

    fn add(self, more: Self) -> Self {
        Self { own: self.own + more.own, children: self.children + more.children }
    }
}

impl Sub for Cpu {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            own: self.own.saturating_sub(before.own),
            children: self.children.saturating_sub(before.children),
        }
    }
}

impl Cpu {
    /// Both.
    pub fn all(self) -> Duration {
        self.own + self.children
    }
}

/// CPU time of a process by its number; nothing when it is gone.
pub fn cpu_of(pid: Pid) -> Option<Cpu> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the name: utime, stime, cutime, cstime are fields 14 to 17 of the line, in ticks.
    let fields: Vec<u64> = stat
        .rsplit_once(')')?
        .1
        .split_whitespace()
        .skip(11)
        .take(4)
        .filter_map(|f| f.parse().ok())
        .collect();
    let [user, system, child_user, child_system] = fields[..] else { return None };
    let hz = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
    let time = |ticks: u64| Duration::from_secs_f64(ticks as f64 / hz as f64);
    Some(Cpu { own: time(user + system), children: time(child_user + child_system) })
}

/// Resident memory in KiB by process number; nothing when it is gone.
pub fn rss_kib_of(pid: Pid) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

/// The calling thread at real-time priority, where that is allowed.
pub(crate) fn real_time(priority: i32) {
    // SAFETY: all-zero bytes are a valid `sched_param`, which is plain numbers.
    let mut param: libc::sched_param = unsafe { std::mem::zeroed() };
    param.sched_priority = priority;
    // SAFETY: 0 is the calling thread, and the parameter lives through the call.
    let _ = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const param) };
}

/// A process of the rig. It is killed and reaped when dropped.
#[derive(Debug)]
pub struct Proc {
    name: String,
    child: Child,
}

impl Proc {
    pub(crate) fn new(name: impl Into<String>, child: Child) -> Self {
        Self { name: name.into(), child }
    }

    /// Its number as seen from here.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// What it is.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sends a signal to this process and to nothing else.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.pid(), signal).map_err(RigError::system(format!("{signal} to {}", self.name)))
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// SIGKILL, and gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// CPU time.
    pub fn cpu(&self) -> Cpu {
        cpu_of(self.pid()).unwrap_or_default()
    }

    /// Resident memory, KiB.
    pub fn rss_kib(&self) -> u64 {
        rss_kib_of(self.pid()).unwrap_or(0)
    }
}

impl Drop for Proc {
    fn drop(&mut self) {
        self.kill();
    }
}
