//! Every bound of this crate, in one place.

use std::time::Duration;

/// Ring size when nothing else is asked: about 30,000 typical events, minutes of a busy agent.
pub const DEFAULT_RECORDER_BYTES: usize = 4 << 20;
/// Smallest ring: sixteen of the largest records, so that a single one never evicts everything.
pub const MIN_RECORDER_BYTES: usize = 64 << 10;
/// Largest ring that is written or read: tmpfs is memory, and a reader holds it all at once.
pub const MAX_RECORDER_BYTES: usize = 256 << 20;
/// Largest record with its header; longer values are cut and the record says so.
pub const MAX_RECORD_BYTES: usize = 4096;
/// Longest record kind, in bytes.
pub const MAX_KIND_BYTES: usize = 32;
/// Longest field name, in bytes.
pub const MAX_KEY_BYTES: usize = 64;
/// Longest single text or byte value; one long value must not push out its neighbours.
pub const MAX_VALUE_BYTES: usize = 2048;
/// Longest process name ("agent@paris"), in bytes.
pub const MAX_PROCESS_BYTES: usize = 64;
/// Encoded fields kept per span; further ones are left out of the events inside it.
pub const MAX_SPAN_BYTES: usize = 1024;
/// Dumps kept per process and directory; the oldest goes when one more is written.
pub const MAX_DUMPS: usize = 16;
/// Dumps that may follow one another without pause.
pub const DUMP_BURST: u32 = 4;
/// Time after which one more dump is allowed, once the burst is used up.
pub const DUMP_REFILL: Duration = Duration::from_secs(10);
/// How far a received hybrid stamp may lead the local wall clock and still be taken over. Clocks
/// kept by any time service agree much better; a wild stamp must not drag all others with it.
pub const HLC_MAX_LEAD: Duration = Duration::from_mins(1);
/// Senders whose messages wait to be noted in the next record; more make a record of their own.
pub const MAX_HEARD: usize = 16;
/// How long a reading of the wall clock serves for further records.
pub const WALL_REUSE: Duration = Duration::from_micros(500);
/// Attempts to get the ring's lock from a panic or a safety violation, where the holder may be
/// the very thread that failed.
pub const URGENT_LOCK_ATTEMPTS: u32 = 10_000;
