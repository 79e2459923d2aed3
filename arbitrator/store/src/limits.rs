//! Every bound of this crate, in one place, with where its number comes from.

/// Version of everything on disk. Version 0 was never released; it stands for "older" in tests.
pub const FORMAT_VERSION: u32 = 1;

/// The unit that a disk writes whole or not at all: the smallest sector in use.
pub const SECTOR_BYTES: usize = 512;

/// Bytes of a sector that carry data; the rest is its tag (8) and its checksum (4).
pub const SECTOR_DATA_BYTES: usize = SECTOR_BYTES - 12;

/// Page of the kernel and physical sector of current disks: batches never share one.
pub const BLOCK_BYTES: u64 = 4096;

/// Segments are sized in multiples of this, so that any other size is a truncation.
pub const SEGMENT_ALIGN_BYTES: u64 = 64 * 1024;

/// The largest step by which a segment grows: bounds both the pause and the waste.
pub const SEGMENT_GROWTH_MAX_BYTES: u64 = 1024 * 1024;

/// A store is opened on a disk with this much room: the largest growth, and as much for whatever
/// else is written there. (A snapshot that needs more stops the member once more, which is safe.)
pub const ROOM_BYTES: u64 = 2 * SEGMENT_GROWTH_MAX_BYTES;

/// A segment larger than this needs a checkpoint first: bounds recovery to about a second.
pub const SEGMENT_MAX_BYTES: u64 = 256 * 1024 * 1024;

/// A caller does well to checkpoint when the live segment has passed this size.
pub const CHECKPOINT_HINT_BYTES: u64 = 4 * 1024 * 1024;

/// One record; a snapshot of 10,000 tickets is about 2 MiB, so this is eight of those.
pub const RECORD_MAX_BYTES: usize = 16 * 1024 * 1024;

/// One batch with its headers: bounds the buffer of a write and of a recovery.
pub const BATCH_MAX_BYTES: usize = 64 * 1024 * 1024;

/// Default bound on all segments together, the live one included.
pub const RETAIN_MAX_BYTES: u64 = 64 * 1024 * 1024;

/// Default bound on the number of segments, the live one included.
pub const RETAIN_MAX_SEGMENTS: usize = 16;

/// Tenant and member names: both must fit into the one sector of a control file.
pub const NAME_MAX_BYTES: usize = 200;

/// Commands that the writer takes from its queue at once.
pub const GROUP_MAX_COMMANDS: usize = 1024;

/// Payload bytes that the writer merges into one write: beyond this, waiting costs more than syncs.
pub const GROUP_MAX_BYTES: usize = 4 * 1024 * 1024;

/// Damaged indexes that are kept for a look; the oldest beyond this is deleted.
pub const INDEX_DAMAGED_KEPT: usize = 3;

/// Attempts to open an index that may die half-way before it is set aside.
pub const INDEX_OPEN_ATTEMPTS: u32 = 2;

/// Page cache of the index: it answers operators, not machines.
pub const INDEX_CACHE_BYTES: u64 = 1024 * 1024;

/// One value in the index; larger ones would land in files that our own sync does not reach.
pub const INDEX_VALUE_MAX_BYTES: usize = 64 * 1024;

/// One key in the index, without its tenant.
pub const INDEX_KEY_MAX_BYTES: usize = 1024;

/// Rows that one question to the index may return.
pub const INDEX_ROWS_MAX: usize = 10_000;
