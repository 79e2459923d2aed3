//! What became of an action.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// The result of an action in the words of the OCF resource agent API 1.1. Scripts and units of
/// other families are mapped to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// 0: done, or running.
    Ok,
    /// 1: failed; also every code without a meaning of its own.
    Error,
    /// 2: the parameters make no sense.
    BadArguments,
    /// 3: the agent does not know the action.
    Unimplemented,
    /// 4: not allowed.
    InsufficientPermissions,
    /// 5: the agent, or what it manages, is not on this node.
    NotInstalled,
    /// 6: the configuration is wrong on every node.
    NotConfigured,
    /// 7: cleanly stopped.
    NotRunning,
    /// 8: running, promoted.
    RunningPromoted,
    /// 9: promoted and failed.
    FailedPromoted,
    /// 190: running, but not as well as it should.
    Degraded,
    /// 191: as 190, promoted.
    DegradedPromoted,
}

impl Status {
    /// By the exit code of an OCF agent.
    pub const fn from_ocf(code: i32) -> Self {
        match code {
            0 => Self::Ok,
            2 => Self::BadArguments,
            3 => Self::Unimplemented,
            4 => Self::InsufficientPermissions,
            5 => Self::NotInstalled,
            6 => Self::NotConfigured,
            7 => Self::NotRunning,
            8 => Self::RunningPromoted,
            9 => Self::FailedPromoted,
            190 => Self::Degraded,
            191 => Self::DegradedPromoted,
            _ => Self::Error,
        }
    }

    /// By the exit code of an init script's `status` (LSB 3.1, "Init Script Actions"): 1 and 2
    /// are "dead, and left a file behind", which is not running all the same.
    pub const fn from_lsb_status(code: i32) -> Self {
        match code {
            0 => Self::Ok,
            1..=3 => Self::NotRunning,
            _ => Self::Error,
        }
    }

    /// By the exit code of an init script's other actions: LSB and OCF agree from 0 to 7.
    pub const fn from_lsb_action(code: i32) -> Self {
        match code {
            0..=7 => Self::from_ocf(code),
            _ => Self::Error,
        }
    }

    /// The OCF code.
    pub const fn code(self) -> i32 {
        match self {
            Self::Ok => 0,
            Self::Error => 1,
            Self::BadArguments => 2,
            Self::Unimplemented => 3,
            Self::InsufficientPermissions => 4,
            Self::NotInstalled => 5,
            Self::NotConfigured => 6,
            Self::NotRunning => 7,
            Self::RunningPromoted => 8,
            Self::FailedPromoted => 9,
            Self::Degraded => 190,
            Self::DegradedPromoted => 191,
        }
    }

    /// As a monitor's answer: the resource runs (well enough).
    pub const fn is_running(self) -> bool {
        matches!(self, Self::Ok | Self::RunningPromoted | Self::Degraded | Self::DegradedPromoted)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::BadArguments => "bad arguments",
            Self::Unimplemented => "unimplemented",
            Self::InsufficientPermissions => "insufficient permissions",
            Self::NotInstalled => "not installed",
            Self::NotConfigured => "not configured",
            Self::NotRunning => "not running",
            Self::RunningPromoted => "running, promoted",
            Self::FailedPromoted => "failed, promoted",
            Self::Degraded => "degraded",
            Self::DegradedPromoted => "degraded, promoted",
        })
    }
}

/// What became of an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The result. After a timeout or a cancellation it is `Error`: what the resource does now is
    /// not known, whatever the agent's last words were.
    pub status: Status,
    /// Ended because its time was up.
    pub timed_out: bool,
    /// Ended because somebody asked for it, or because a stop had precedence.
    pub cancelled: bool,
    /// Processes remained that did not die of SIGKILL within `limits::KILL_WAIT`.
    pub unkillable: bool,
    /// Exit code of the agent, if it ran and exited.
    pub exit_code: Option<i32>,
    /// Signal that ended the agent, if one did.
    pub signal: Option<i32>,
    /// From the launch to the end; waiting for a turn is not counted.
    pub duration: Duration,
    /// End of what it wrote to stdout, at most `limits::MAX_OUTPUT_BYTES`.
    pub stdout: String,
    /// End of what it wrote to stderr, likewise.
    pub stderr: String,
    /// Something it started still held its output when it ended; it writes to nobody now.
    pub output_held: bool,
    /// One sentence where the result is not the agent's own; empty otherwise.
    pub reason: String,
}

impl Outcome {
    /// A result that did not come from an agent's exit code.
    pub(crate) fn told(status: Status, reason: impl Into<String>) -> Self {
        Self {
            status,
            timed_out: false,
            cancelled: false,
            unkillable: false,
            exit_code: None,
            signal: None,
            duration: Duration::ZERO,
            stdout: String::new(),
            stderr: String::new(),
            output_held: false,
            reason: reason.into(),
        }
    }

    pub(crate) fn timed_out(timeout: Duration) -> Self {
        Self {
            timed_out: true,
            ..Self::told(Status::Error, format!("not finished after {timeout:?}"))
        }
    }

    pub(crate) fn cancelled() -> Self {
        Self { cancelled: true, ..Self::told(Status::Error, "cancelled") }
    }

    /// The action did what it should, or the resource runs.
    pub fn is_ok(&self) -> bool {
        self.status == Status::Ok
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status)?;
        if !self.reason.is_empty() {
            write!(f, ": {}", self.reason)?;
        } else if let Some(signal) = self.signal {
            write!(f, ": killed by signal {signal}")?;
        } else if let Some(last) = self.stderr.lines().last() {
            write!(f, ": {last}")?;
        }
        write!(f, " ({:?})", self.duration)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_means_itself_and_unknown_ones_are_errors() {
        for code in (0..=9).chain([190, 191]) {
            assert_eq!(Status::from_ocf(code).code(), code);
        }
        for code in [10, 127, 189, 192, 255, -1] {
            assert_eq!(Status::from_ocf(code), Status::Error);
        }
    }

    #[test]
    fn an_init_script_that_says_dead_is_not_running() {
        assert_eq!(Status::from_lsb_status(0), Status::Ok);
        for code in 1..=3 {
            assert_eq!(Status::from_lsb_status(code), Status::NotRunning);
        }
        assert_eq!(Status::from_lsb_status(4), Status::Error);
        assert_eq!(Status::from_lsb_action(5), Status::NotInstalled);
        assert_eq!(Status::from_lsb_action(190), Status::Error);
    }
}
