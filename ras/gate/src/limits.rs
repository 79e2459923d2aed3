//! Every bound of the gate, in one place.

use std::time::Duration;

/// Service addresses of one node.
pub const MAX_ADDRESSES: usize = 1024;
/// Elements of one message: an attribute's length has 16 bits.
pub const MAX_ELEMENTS: usize = 256;
/// Less than this is not opened: the kernel counts in ticks of up to 10 ms, and a timeout of no
/// ticks would be one without end.
pub const MIN_OPEN: Duration = Duration::from_millis(25);
/// More than this is a fault of the caller, not a lease.
pub const MAX_OPEN: Duration = Duration::from_hours(24);
/// How long the kernel may take to answer. It answers within the call; this bounds a broken one.
pub const ANSWER: Duration = Duration::from_secs(1);
/// Clocks that moved against each other by more than this have seen a sleep.
pub const CLOCK_JUMP: Duration = Duration::from_millis(50);
/// Bytes received at a time; the kernel's dumps come in pieces of at most this.
pub const RECEIVE: usize = 32 * 1024;
/// Packets of one answer: bounds a dump of [`MAX_ADDRESSES`] many times over.
pub const MAX_PIECES: usize = 256;
