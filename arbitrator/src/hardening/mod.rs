//! What the process gives up once it has what it needs.
//!
//! The daemon faces the world with one UDP socket and parses what strangers send. Should that ever
//! go wrong, the intruder is to find a process that owns one directory, can start no program and
//! can become nobody else. Each step is taken where the kernel has it, and each says whether it was:
//! in the log, and in `/healthz`. A step that is unavailable does not stop the daemon (an arbitrator
//! that does not run protects nobody), but it is never silently missing.
//!
//! Order: the local listener and the control socket are bound, then `landlock` before any thread
//! exists (threads inherit it), then the UDP socket, then `user` (all threads), then `seccomp` (all
//! threads).

mod landlock;
mod seccomp;
mod user;

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use serde::Serialize;

pub(crate) use landlock::{Places, restrict_files};
pub(crate) use seccomp::deny_calls;
pub(crate) use user::{Target, become_user, default_user, no_new_privileges};

/// One step and what came of it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Step {
    /// Which step.
    pub(crate) step: &'static str,
    /// Whether it holds in full.
    pub(crate) applied: bool,
    /// What holds, or why not.
    pub(crate) detail: String,
}

impl Step {
    pub(crate) fn applied(step: &'static str, detail: impl Into<String>) -> Self {
        Self { step, applied: true, detail: detail.into() }
    }

    pub(crate) fn missing(step: &'static str, detail: impl Into<String>) -> Self {
        Self { step, applied: false, detail: detail.into() }
    }

    /// Says it in the log.
    pub(crate) fn log(&self) {
        if self.applied {
            tracing::info!(step = self.step, "hardening applied: {}", self.detail);
        } else {
            tracing::warn!(step = self.step, "hardening unavailable: {}", self.detail);
        }
    }
}

/// `/proc/self/status`, opened while it still can be; it is made anew for each reading.
#[derive(Debug)]
pub(crate) struct OwnStatus(Option<File>);

impl OwnStatus {
    pub(crate) fn open() -> Self {
        Self(File::open("/proc/self/status").ok())
    }

    fn field(&self, name: &str) -> Option<String> {
        let mut bytes = [0; 8_192];
        let n = self.0.as_ref()?.read_at(&mut bytes, 0).ok()?;
        let text = String::from_utf8_lossy(bytes.get(..n)?);
        let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))?;
        Some(line.trim().to_owned())
    }

    /// Resident memory in bytes.
    pub(crate) fn resident_bytes(&self) -> Option<u64> {
        self.field("VmRSS")?.strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kb| kb * 1024)
    }

    /// Whether the process is without capabilities.
    pub(crate) fn capabilities(&self) -> Step {
        match self.field("CapEff").and_then(|hex| u64::from_str_radix(&hex, 16).ok()) {
            Some(0) => Step::applied("capabilities", "none"),
            Some(set) => Step::missing("capabilities", format!("effective set {set:#x}")),
            None => Step::missing("capabilities", "the kernel does not say"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_memory_and_capabilities_are_read_again_and_again() {
        let status = OwnStatus::open();
        let first = status.resident_bytes().unwrap();
        assert!(first > 100_000);
        // Hidden from the optimiser, or it would not be written at all.
        let ballast = std::hint::black_box(vec![1u8; 32 << 20]);
        assert!(status.resident_bytes().unwrap() > first + (16 << 20), "{}", ballast.len());
        assert!(!status.capabilities().detail.contains("does not say"));
    }
}
