//! One resource of a ticket: what is known of it, and what is being done to it.

use std::fmt;
use std::time::Duration;

use tierce_ticket::time::HolderTime;

use crate::runner::limits::FORGIVE_AFTER;

/// Settings of one resource, with defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PartPlan {
    /// Its name.
    pub(crate) name: String,
    /// Time for a start.
    pub(crate) start_timeout: Duration,
    /// Time for a stop; the ticket's remaining budget may be less.
    pub(crate) stop_timeout: Duration,
    /// Time for a monitor or probe.
    pub(crate) monitor_timeout: Duration,
    /// Spacing of monitors; none: not monitored.
    pub(crate) monitor_interval: Option<Duration>,
    /// Failures that are answered by a restart.
    pub(crate) restarts: u32,
}

/// What is done to a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// A monitor of interval zero: is it running at all?
    Probe,
    /// Start.
    Start,
    /// Stop.
    Stop,
    /// Recurring monitor.
    Monitor,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Action::Probe => "probe",
            Action::Start => "start",
            Action::Stop => "stop",
            Action::Monitor => "monitor",
        })
    }
}

/// How an action ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Success; of a monitor: it runs.
    Ok,
    /// It does not run, cleanly.
    NotRunning,
    /// Anything else, a timeout too. `fatal`: trying again cannot help (not installed, not
    /// configured, not permitted).
    Failed { why: String, fatal: bool },
    /// It was killed on request, and nothing is known.
    Cancelled,
}

impl Verdict {
    pub(crate) fn words(&self, action: Action) -> String {
        match self {
            Verdict::Ok => format!("{action}: ok"),
            Verdict::NotRunning => format!("{action}: not running"),
            Verdict::Failed { why, .. } => format!("{action}: {why}"),
            Verdict::Cancelled => format!("{action}: cancelled"),
        }
    }
}

/// What is known of a resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum PartState {
    /// Nothing, or not any more.
    #[default]
    Unknown,
    /// Confirmed not running.
    Stopped,
    /// It answered as running.
    Running,
    /// It answered otherwise: it may run.
    Failed,
}

/// The action under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Busy {
    pub(crate) action: Action,
    pub(crate) serial: u64,
    pub(crate) cancelled: bool,
}

/// A resource at run time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Part {
    pub(crate) state: PartState,
    pub(crate) busy: Option<Busy>,
    /// Restarts used since it was last well for long.
    pub(crate) restarts: u32,
    /// Failures since the last success.
    pub(crate) failures: u32,
    pub(crate) failed_at: Option<HolderTime>,
    /// When the state was last seen.
    pub(crate) seen_at: HolderTime,
    /// To be stopped before anything else is started.
    pub(crate) redo: bool,
    /// A stop failed; whether it runs is asked before the stop is repeated.
    pub(crate) stop_verify: bool,
    /// A stop failed and was verified: others need not wait for it.
    pub(crate) stop_failed: bool,
    /// What the last failed stop said.
    pub(crate) stop_words: String,
    pub(crate) retry_at: Option<HolderTime>,
    /// The last result in words.
    pub(crate) last: String,
}

impl Part {
    pub(crate) fn seen_running(&mut self, now: HolderTime) {
        self.state = PartState::Running;
        self.seen_at = now;
        self.failures = 0;
        self.stop_verify = false;
        if self.failed_at.is_some_and(|at| now.since(at) >= FORGIVE_AFTER) {
            self.failed_at = None;
            self.restarts = 0;
        }
    }

    pub(crate) fn seen_stopped(&mut self, now: HolderTime) {
        self.state = PartState::Stopped;
        self.seen_at = now;
        self.redo = false;
        self.stop_verify = false;
        self.stop_failed = false;
    }

    /// A new order to run: old failures do not count, and what was seen long ago is seen anew.
    pub(crate) fn begin(&mut self, now: HolderTime, fresh: Duration) {
        self.restarts = 0;
        self.failed_at = None;
        self.redo = false;
        self.stop_verify = false;
        self.stop_failed = false;
        self.retry_at = None;
        if self.state == PartState::Stopped && now.since(self.seen_at) >= fresh {
            self.state = PartState::Unknown;
        }
    }

    /// Somebody else has acted on it.
    pub(crate) fn forget(&mut self) {
        self.state = PartState::Unknown;
    }

    /// When its next monitor is due; none while something else is done to it.
    pub(crate) fn monitor_due(&self, plan: &PartPlan) -> Option<HolderTime> {
        let interval = plan.monitor_interval?;
        let idle = self.state == PartState::Running && self.busy.is_none() && !self.redo;
        idle.then(|| self.seen_at + interval)
    }

    /// A word for status.
    pub(crate) fn word(&self) -> &'static str {
        match (&self.busy, self.state) {
            (Some(Busy { action: Action::Start, .. }), _) => "starting",
            (Some(Busy { action: Action::Stop, .. }), _) => "stopping",
            (_, PartState::Running) => "running",
            (_, PartState::Stopped) => "stopped",
            (_, PartState::Failed) => "failed",
            (_, PartState::Unknown) => "unknown",
        }
    }
}
