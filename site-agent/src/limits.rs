//! Every bound of the agent in one place, each with the reason for its number. The runner's are in
//! `runner::limits`, the protocol's in `tierce_ticket::limits`.

use std::time::Duration;

/// Clients of the control socket at once; a client that waits for a move keeps its place.
pub const MAX_CLIENTS: usize = 64;
/// Longest request line: a policy with 64 required attributes at their longest stays below.
pub const MAX_REQUEST_BYTES: u64 = 256 * 1024;
/// A client must send its request within this time.
pub const REQUEST_WAIT: Duration = Duration::from_secs(10);
/// A client must take its answer within this time.
pub const ANSWER_WAIT: Duration = Duration::from_secs(30);
/// Longest wait that a client may ask for: a day.
pub const MAX_WAIT: Duration = Duration::from_hours(24);
/// A client that waits hears what for after this long, and again this often.
pub const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// Events of one decision that are logged one by one: the loss of a site is one decision on all of
/// its tickets, and their resources wait while lines are written. The history has all.
pub const LOGGED_EVENTS: usize = 64;
/// Copies of the flight recorder that may wait: as many as may be made in a row.
pub const DUMPS_WAITING: usize = 4;
/// Blocks of memory from this size on are returned to the system when freed: glibc's own first value.
pub const LARGE_BLOCK_BYTES: i32 = 128 * 1024;
/// Heaps of the allocator: one for the thread that does the work, one for all others.
pub const MAX_HEAPS: i32 = 2;
/// Decisions in one answer.
pub const MAX_HISTORY: u32 = 10_000;

/// An agent whose disk is full looks this often whether there is room again.
pub const ROOM_EVERY: Duration = Duration::from_secs(1);
/// What it asks of its service manager each time, so that it is not taken for one that hangs.
pub const ROOM_PATIENCE: Duration = Duration::from_secs(30);

/// Alarms kept for status.
pub const MAX_ALARMS: usize = 64;
/// Requests of clients to the main loop that may wait (reload, stop).
pub const MAX_REQUESTS: usize = 16;
/// Rows that may wait for the history's thread: a batch of a dead site with every ticket, twice.
pub const HISTORY_QUEUE: usize = 1_024;
/// The history's file is synced this often: what a power cut may make us rebuild.
pub const HISTORY_SYNC: Duration = Duration::from_mins(1);

/// Tickets for which status says what stands against each site; beyond, `tickets show` does. Each
/// is some microseconds on the member's own task, which has leases to renew.
pub const MAX_ELIGIBILITY: usize = 256;
/// Commands of the agent itself that are under way at once (making tickets, telling results).
pub const OWN_COMMANDS: usize = 32;
/// Attempts to tell the cluster that a granted ticket runs.
pub const TELL_ATTEMPTS: u32 = 5;
/// What changed in the docket is gathered for this long before the runner hears of it.
pub const GATHER: Duration = Duration::from_millis(20);
/// The main loop looks around this often: missing tickets, tickets to be handed over.
pub const LOOK_AROUND: Duration = Duration::from_secs(1);
/// A ticket whose resources did not start is offered to another site this often.
pub const HAND_OVER_AGAIN: Duration = Duration::from_secs(5);
/// After a failed start this site asks for the ticket again only after this long, so that a ticket
/// does not go round in circles; `tierce tickets resume` and a reload end it.
pub const START_FAILED_KEEPS: Duration = Duration::from_mins(10);
/// Leaving in order takes at most the longest stop budget and this long.
pub const LEAVE_GRACE: Duration = Duration::from_secs(5);
/// The member must answer a look within this time, or the service manager's watchdog is not fed.
pub const MEMBER_ANSWERS: Duration = Duration::from_secs(2);
/// A disk write when none was measured yet.
pub const ASSUMED_FSYNC: Duration = Duration::from_millis(2);
