//! Freezing every process of a machine at once, as a hypervisor does with a guest: no process of it
//! sees anything, the clocks go on.
//!
//! The kernel's freezer (cgroup version 1) where it can be had. It differs from SIGSTOP to each in
//! that nobody on the machine can undo it, not even by SIGKILL.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Result, RigError};
use crate::files::until;
use crate::machine::Machine;

const PLACE: &str = "/sys/fs/cgroup/freezer";
const SETTLES: Duration = Duration::from_secs(2);

/// A machine that is frozen; it goes on when this is dropped.
#[derive(Debug)]
pub struct Frozen {
    group: PathBuf,
}

impl Frozen {
    /// Whether this kernel and this place can freeze.
    pub fn possible() -> bool {
        let probe = Path::new(PLACE).join(format!("tierce-rig-{}-probe", std::process::id()));
        fs::create_dir(&probe).is_ok() && fs::remove_dir(&probe).is_ok()
    }

    /// Freezes everything that runs on the machine now.
    pub fn freeze(machine: &Machine) -> Result<Self> {
        let name = format!("tierce-rig-{}-{}", std::process::id(), machine.name());
        let frozen = Self { group: Path::new(PLACE).join(name) };
        let what = || RigError::system(format!("freezing {}", machine.name()));
        fs::create_dir(&frozen.group).map_err(what())?;
        for (pid, _) in machine.processes() {
            // One that has just ended cannot be frozen and need not be.
            let _ = fs::write(frozen.group.join("cgroup.procs"), pid.to_string());
        }
        frozen.set("FROZEN").map_err(what())?;
        let state = || fs::read_to_string(frozen.group.join("freezer.state")).ok();
        let done = until(SETTLES, || state().filter(|s| s.trim() == "FROZEN"));
        done.map(drop).ok_or_else(|| what()(std::io::ErrorKind::TimedOut.into()))?;
        Ok(frozen)
    }

    fn set(&self, state: &str) -> std::io::Result<()> {
        fs::write(self.group.join("freezer.state"), state)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = self.set("THAWED");
        let Ok(pids) = fs::read_to_string(self.group.join("cgroup.procs")) else { return };
        for pid in pids.lines() {
            let _ = fs::write(Path::new(PLACE).join("cgroup.procs"), pid);
        }
        until(SETTLES, || fs::remove_dir(&self.group).ok());
    }
}
