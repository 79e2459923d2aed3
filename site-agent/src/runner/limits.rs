//! Every bound of the runner, in one place, with its reason.

use std::time::Duration;

/// Orders that may wait for the runner's loop. Four for each of the 16,384 tickets that a site may
/// hold; more means that the loop is stuck, and then it says so by not being alive (R15).
pub const MAX_ORDERS: usize = 65_536;
/// Events that may wait in the channel to the agent.
pub const EVENT_CHANNEL: usize = 256;
/// Events that wait for room there, before a newer word on a ticket replaces an older one. With
/// one word per ticket it cannot grow far beyond.
pub const MAX_EVENTS: usize = 32_768;
/// History lines among them; more are dropped.
pub const MAX_NOTES: usize = 4_096;
/// Stops at a time. They never wait behind starts and monitors.
pub const MAX_STOPS: usize = 256;
/// Handlers and lag commands at a time.
pub const MAX_HANDLERS: usize = 32;

/// Default time for a start.
pub const START_TIMEOUT: Duration = Duration::from_secs(20);
/// Default time for a monitor or probe.
pub const MONITOR_TIMEOUT: Duration = Duration::from_secs(20);
/// Default spacing of monitors.
pub const MONITOR_INTERVAL: Duration = Duration::from_secs(10);
/// Default number of failures that are answered by a restart.
pub const RESTARTS: u32 = 3;
/// A resource that was well for this long has its failures forgiven.
pub const FORGIVE_AFTER: Duration = Duration::from_mins(10);
/// A result of a probe is good for a start within this time.
pub const PROBE_FRESH: Duration = Duration::from_secs(10);
/// A failed stop is repeated after this long, until the last resort is due.
pub const STOP_RETRY: Duration = Duration::from_millis(200);
/// And after that, for as long as it fails.
pub const STOP_RETRY_LATE: Duration = Duration::from_secs(5);
/// A stop gets at least this long, however little is left: less would only kill it half way.
pub const MIN_STOP: Duration = Duration::from_millis(50);

/// Default time for a handler.
pub const HANDLER_TIMEOUT: Duration = Duration::from_secs(5);
/// Default spacing of a handler's runs, and of the lag command's.
pub const HANDLER_INTERVAL: Duration = Duration::from_secs(10);
/// Bytes of a handler's output that are kept, for the reason shown and the lag read.
pub const MAX_HANDLER_OUTPUT: usize = 4_096;
/// Programs run from a handler that is a directory.
pub const MAX_HANDLER_PARTS: usize = 64;
/// A lag is told again when it moved by more than this, or by a tenth.
pub const LAG_STEP: Duration = Duration::from_millis(100);

/// Time for one attempt to write the DNS records; the start does not wait longer for it.
pub const DNS_TIMEOUT: Duration = Duration::from_secs(2);
/// A failed DNS update is repeated after this long, for as long as the ticket is held.
pub const DNS_RETRY: Duration = Duration::from_secs(2);
/// Default TTL of DNS records, seconds.
pub const DNS_TTL: u32 = 5;
/// Default hold time of BGP.
pub const BGP_HOLD: Duration = Duration::from_secs(9);

/// First pause before the guard is started or connected to again; doubled up to the next one.
pub const GUARD_RETRY_MIN: Duration = Duration::from_millis(10);
/// Longest such pause.
pub const GUARD_RETRY_MAX: Duration = Duration::from_secs(2);
/// A guard that does not answer for this long counts as lost, renewal period notwithstanding.
pub const GUARD_ANSWER: Duration = Duration::from_secs(1);
/// An arming that the guard would not take yet is repeated after this long.
pub const GUARD_REARM: Duration = Duration::from_millis(100);
/// After so many of these in a row the ticket is given up: the guard took the last resort for it.
pub const GUARD_REFUSALS: u32 = 50;
/// Requests to the guard that may be unanswered: well within its socket's buffer.
pub const GUARD_WINDOW: usize = 64;

/// How long a stop by the guard waits for the agent's own stop of the same ticket.
pub const LOCK_WAIT: Duration = Duration::from_millis(500);
/// Processes looked at when the groups of a ticket are gathered.
pub const MAX_PROCESSES: usize = 65_536;
