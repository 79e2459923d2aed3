//! Every bound of the demo in one place.

use std::time::Duration;

/// The client writes a record this often, and the witness asks both sites.
pub(super) const PERIOD: Duration = Duration::from_millis(10);
/// One question to the name server. A late answer is a record that was not sent.
pub(super) const RESOLVE: Duration = Duration::from_millis(200);
/// No answer for this long is said on the timeline.
pub(super) const SILENT: Duration = Duration::from_millis(100);
/// Answers kept: ten minutes of both clients. More are counted, not kept.
pub(super) const MAX_ANSWERS: usize = 200_000;
/// How many milliseconds later than predicted a phase may be by default: the processes share one
/// machine with whatever else runs on it.
pub(crate) const ALLOWANCE_MS: u64 = 500;
/// For the first start of everything, and for everybody being back after a fault, on top of the
/// lease times.
pub(super) const SETTLE: Duration = Duration::from_secs(20);
/// A question to a daemon that is no change.
pub(super) const ASK: Duration = Duration::from_secs(2);
/// How often a daemon is asked while something is waited for.
pub(super) const ASK_EVERY: Duration = Duration::from_millis(40);
/// The daemons get this long to end in order.
pub(super) const END: Duration = Duration::from_secs(4);
/// A datagram through the relay.
pub(super) const DATAGRAM: usize = 65_536;
/// The demo's service: how long its start may wait until it answers.
pub(super) const SERVICE_START: Duration = Duration::from_secs(5);
/// And its end, before SIGKILL.
pub(super) const SERVICE_STOP: Duration = Duration::from_millis(150);
/// And its monitor.
pub(super) const SERVICE_MONITOR: Duration = Duration::from_millis(500);
/// Service and caretaker look this often whether the demo is still there.
pub(super) const OWNER_LOOK: Duration = Duration::from_millis(500);
