//! The ring itself: a mapped file and the place of the next record.
//!
//! The file is allocated in full before it is mapped: a full tmpfs is then an error at start, not
//! a SIGBUS in the middle of a failover. All pages are touched at start for the same reason.
//!
//! Invariants: the next record's place is a slot's start; a record lies whole between it and the
//! ring's end; slots left over at the end hold no record that a reader could take for a recent one.

use std::ffi::c_void;
use std::fs::File;
use std::num::NonZeroUsize;
use std::ptr::NonNull;

use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use crate::clock::Clock;
use crate::layout::{self, HEADER_BYTES, HEADER_COPIES, Header, Heard, SLOT, Sender, Stamp};
use crate::limits::{MAX_HEARD, WALL_REUSE};
use crate::sync::between;

const WALL_REUSE_NS: u64 = WALL_REUSE.as_nanos() as u64;

/// A file mapped for writing, whole.
struct Mapping {
    start: NonNull<c_void>,
    length: NonZeroUsize,
}

// SAFETY: the mapping is plain memory owned by this value alone; no thread-bound state.
unsafe impl Send for Mapping {}

impl Mapping {
    fn new(file: &File, length: NonZeroUsize) -> nix::Result<Self> {
        let start = {
            // SAFETY: a fresh mapping chosen by the kernel, so it aliases no memory of ours. The
            // file was allocated to `length`, so every page of it exists.
            unsafe {
                mmap(
                    None,
                    length,
                    ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                    MapFlags::MAP_SHARED | MapFlags::MAP_POPULATE,
                    file,
                    0,
                )?
            }
        };
        Ok(Self { start, length })
    }

    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: `start` maps `length` readable and writable bytes for as long as self lives;
        // `&mut self` makes this the only reference in this process. Other processes only read
        // the file: it is created new, with mode 0600, under an exclusive lock.
        unsafe { std::slice::from_raw_parts_mut(self.start.cast().as_ptr(), self.length.get()) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: unmaps exactly what `new` mapped; no reference outlives self.
        let _ = unsafe { munmap(self.start, self.length.get()) };
    }
}

/// The writer's side of a recording.
pub(crate) struct Ring {
    map: Mapping,
    seed: u32,
    next: usize,
    sequence: u64,
    heard: HeardTable,
    wall: WallReading,
}

impl Ring {
    /// Makes `file`, which is empty, a ring with this header.
    pub(crate) fn create(file: &File, header: &Header) -> std::io::Result<Self> {
        let capacity = header.capacity as usize;
        assert!(capacity.is_multiple_of(SLOT) && capacity > 0, "the recorder rounds the size");
        let length = HEADER_BYTES + capacity;
        fallocate(file, FallocateFlags::empty(), 0, length.cast_signed() as i64)?;
        let length = NonZeroUsize::new(length).ok_or(std::io::ErrorKind::InvalidInput)?;
        let mut map = Mapping::new(file, length)?;
        let encoded = header.encode();
        for copy in HEADER_COPIES {
            map.bytes()[copy..copy + encoded.len()].copy_from_slice(&encoded);
        }
        Ok(Self {
            map,
            seed: header.seed(),
            next: 0,
            sequence: 0,
            heard: HeardTable::default(),
            wall: WallReading::default(),
        })
    }

    /// The number that the next record will get.
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Notes a received message: the next record will say that it comes after. False when the
    /// table is full and a record has to be made first.
    pub(crate) fn hear(&mut self, heard: Heard) -> bool {
        self.heard.add(heard)
    }

    /// Whether more messages wait to be noted than the next record can carry.
    pub(crate) fn heard_more_than_one(&self) -> bool {
        self.heard.used > 1
    }

    /// The wall time at that time since boot.
    pub(crate) fn wall_at(&mut self, boot_ns: u64, clock: Clock) -> u64 {
        self.wall.at(boot_ns, clock)
    }

    /// Stores a record over the oldest ones.
    pub(crate) fn append(&mut self, times: Times, payload: Payload<'_>) {
        let size = layout::slotted(payload.bytes.len());
        let ring = &mut self.map.bytes()[HEADER_BYTES..];
        if self.next + size > ring.len() {
            for slot in ring[self.next..].chunks_mut(SLOT) {
                layout::clear_slot(slot);
                between();
            }
            self.next = 0;
        }
        let stamp = Stamp {
            sequence: self.sequence,
            boot_ns: times.boot_ns,
            wall_ns: times.wall_ns,
            hlc: times.hlc,
            heard: self.heard.take(),
            cut: payload.cut,
        };
        layout::write_record(&mut ring[self.next..], self.seed, &stamp, payload.bytes);
        self.next += size;
        self.sequence += 1;
        assert!(self.next.is_multiple_of(SLOT) && self.next <= ring.len());
    }

    /// The whole recording, header included, into `out`.
    pub(crate) fn copy_to(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.map.bytes());
    }
}

/// When a record was made, by all three clocks.
#[derive(Clone, Copy)]
pub(crate) struct Times {
    pub(crate) boot_ns: u64,
    pub(crate) wall_ns: u64,
    pub(crate) hlc: u64,
}

/// The last reading of the wall clock. Within a burst of records it is carried on by the time
/// since boot, which saves a quarter of a record's cost; a step of the wall clock shows after at
/// most `WALL_REUSE`.
#[derive(Default)]
struct WallReading {
    boot_ns: u64,
    wall_ns: u64,
}

impl WallReading {
    fn at(&mut self, boot_ns: u64, clock: Clock) -> u64 {
        let since = boot_ns.wrapping_sub(self.boot_ns);
        if since < WALL_REUSE_NS {
            return self.wall_ns + since;
        }
        *self = Self { boot_ns, wall_ns: clock.wall_ns() };
        self.wall_ns
    }
}

/// Messages received since the last record, the latest of each sender.
struct HeardTable {
    entries: [Heard; MAX_HEARD],
    used: usize,
}

impl Default for HeardTable {
    fn default() -> Self {
        Self { entries: [Heard { sender: Sender::UNKNOWN, stamp: 0 }; MAX_HEARD], used: 0 }
    }
}

impl HeardTable {
    fn add(&mut self, heard: Heard) -> bool {
        let known = self.entries[..self.used].iter_mut().find(|h| h.sender == heard.sender);
        if let Some(known) = known {
            known.stamp = known.stamp.max(heard.stamp);
            return true;
        }
        let Some(free) = self.entries.get_mut(self.used) else { return false };
        *free = heard;
        self.used += 1;
        true
    }

    fn take(&mut self) -> Option<Heard> {
        self.used = self.used.checked_sub(1)?;
        Some(self.entries[self.used])
    }
}

/// An encoded payload.
#[derive(Clone, Copy)]
pub(crate) struct Payload<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) cut: bool,
}
