//! Every bound of the guard, in one place. Tables are laid out once, at start, from these.

use std::time::Duration;

/// Tickets that one site may hold (tickets.md: 10,000 and some head room, a power of two).
pub const MAX_TICKETS: usize = 16_384;
/// Stop commands that run at the same time. More would only fight for the same disks and locks.
pub const MAX_PARALLEL_STOPS: usize = 64;
/// Entries of one `Arm`, `Disarm` or `List` packet: keeps every packet within one page.
pub const MAX_BATCH: usize = 64;
/// Bytes of one stop command: path and arguments, each ended by NUL.
pub const MAX_COMMAND: usize = 512;
/// Words of one stop command, path included.
pub const MAX_WORDS: usize = 16;
/// Process groups that may be named per ticket for the last resort `kill`.
pub const MAX_GROUPS: usize = 8;
/// Clients at a time: the agent, its successor while it reconnects, and two observers.
pub const MAX_CLIENTS: usize = 4;
/// Longest packet in either direction.
pub const MAX_PACKET: usize = 2_560;
/// Packets read from one client before the clock is looked at again: a flood cannot starve it.
pub const MAX_PACKETS_PER_TURN: usize = 256;
/// A failed stop command is run again after this long, until the reset is due.
pub const STOP_RETRY: Duration = Duration::from_millis(200);
/// No lease reaches further than this: a later deadline is a fault of the agent, not a lease.
pub const MAX_LEASE: Duration = Duration::from_hours(24);
/// Longest spacing of watchdog pets; shorter timeouts are petted four times within them.
pub const MAX_PET_SPACING: Duration = Duration::from_secs(1);
/// Shortest spacing of watchdog pets: more would only burn power.
pub const MIN_PET_SPACING: Duration = Duration::from_millis(50);
/// Effects that may wait inside the core between two polls.
pub const MAX_EFFECTS: usize = 128;
