//! Every bound of the daemon, in one place.
//!
//! The link has its own (`tierce_link::limits`), the protocol too (`tierce_ticket::limits`).

use std::time::Duration;

/// Connections on the socket: 5,000 tenants of three sites.
pub(crate) const MAX_CONNECTIONS: usize = 16_384;
/// Link events that may wait for the members' tasks.
pub(crate) const EVENT_QUEUE: usize = 4_096;
/// Renewal period that the link's idle time is made for. Both sides of a connection announce an
/// idle time and the shorter one counts, so that of the site decides; this one must be longer than
/// that of the slowest profile (cautious: P = 8 s).
pub(crate) const LONGEST_PERIOD: Duration = Duration::from_secs(10);
/// Renewals of that period that may be missing.
pub(crate) const LOSSES: u32 = 6;

/// Commands under way at once on the control socket.
pub(crate) const MAX_CONTROL_CLIENTS: usize = 16;
/// Longest request line: the longest request names a tenant.
pub(crate) const MAX_REQUEST_BYTES: u64 = 64 * 1024;
/// A control client has this long to send its request.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// A command waits this long for the daemon: taking a tenant out waits for its last write.
pub(crate) const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);
/// Metric and health requests under way at once; more wait in the listener's backlog.
pub(crate) const MAX_HTTP_REQUESTS: usize = 8;
/// Tenants with metric series of their own, the first by name; the rest is added up under the
/// label `_others`. 2,000 tenants make some 20,000 series.
pub(crate) const MAX_LABELLED_TENANTS: usize = 2_000;
/// A survey of all tenants is used again for this long.
pub(crate) const SURVEY_LIFE: Duration = Duration::from_millis(500);
/// One member's task has this long to answer a question of the daemon.
pub(crate) const MEMBER_ANSWER: Duration = Duration::from_secs(2);
/// Alarms kept per tenant.
pub(crate) const MAX_ALARMS: usize = 8;
/// Longest text of a reason that is shown in lists.
pub(crate) const MAX_REASON_BYTES: usize = 600;

/// How often files, quotas and certificates are looked at.
pub(crate) const UPKEEP_EVERY: Duration = Duration::from_secs(2);
/// Folders that are looked at in a row, and the pause after them.
pub(crate) const LOOK_AT_ONCE: usize = 16;
pub(crate) const LOOK_PAUSE: Duration = Duration::from_millis(5);
/// How often the size of stores is measured, in looks.
pub(crate) const MEASURE_EVERY: u32 = 5;
/// How often a sum of refused connections is logged, in looks: once a minute.
pub(crate) const REFUSALS_EVERY: u32 = 30;
/// A tenant that its disk stopped is tried again after this time, then after twice as long; and not
/// before there is room.
pub(crate) const RETRY_FIRST: Duration = Duration::from_secs(2);
/// The longest such wait: a disk that is well again is not to wait for its operator.
pub(crate) const RETRY_LONGEST: Duration = Duration::from_mins(5);
/// A tenant that was served for so long has recovered: its next trouble is a new one. (Were its disk
/// not well, it would have been stopped by its first decisions.)
pub(crate) const RETRY_AFRESH: Duration = Duration::from_secs(10);
/// Waits between attempts to renew a certificate, at least and at most.
pub(crate) const RENEW_WAIT: (Duration, Duration) =
    (Duration::from_secs(5), Duration::from_hours(1));
/// Certificates renewed at once.
pub(crate) const MAX_RENEWING: usize = 4;
/// Share of a tenant's store quota at which its member is stopped: the disk is everybody's.
pub(crate) const STORE_STOP_FACTOR: u64 = 2;

/// A member that was told to end is waited for this long.
pub(crate) const MEMBER_END: Duration = Duration::from_secs(5);
/// The same at the end of the process: all of it has to fit into two seconds.
pub(crate) const MEMBERS_END: Duration = Duration::from_secs(1);
/// Waits for peers to hear that the socket closes.
pub(crate) const LINK_END: Duration = Duration::from_millis(500);
/// Threads that may still be busy (name resolution) are left behind after this time.
pub(crate) const RUNTIME_END: Duration = Duration::from_millis(200);
/// A tenant's old task is gone this long after it ended at most; attempts and the wait between.
pub(crate) const TAKEOVER_TRIES: (u32, Duration) = (100, Duration::from_millis(20));
/// Attempts to get the directory's lock, and the wait between: commands hold it for a moment.
pub(crate) const LOCK_TRIES: (u32, Duration) = (40, Duration::from_millis(50));
/// Beat of the main loop, by which the watchdog sees that it runs.
pub(crate) const BEAT: Duration = Duration::from_millis(250);
/// Threads for blocking work: opening stores, resolving names.
pub(crate) const BLOCKING_THREADS: usize = 8;
