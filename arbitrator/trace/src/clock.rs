//! The two clocks of a record: time since boot, which never steps, and the wall clock.
//!
//! Both are read through libc, so that tools which shift a process's time work on them.

use nix::time::{ClockId, clock_gettime};

/// Source of time for a recorder.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clock {
    wall_offset_ns: i64,
}

impl Clock {
    /// The machine's clocks.
    pub const fn system() -> Self {
        Self { wall_offset_ns: 0 }
    }

    /// The machine's clocks with the wall clock wrong by so many seconds: labs and tests use it
    /// to show that order survives it.
    pub const fn with_wall_error(seconds: i64) -> Self {
        Self { wall_offset_ns: seconds.saturating_mul(1_000_000_000) }
    }

    /// Nanoseconds since boot, suspended time included.
    pub(crate) fn boot_ns() -> u64 {
        read_ns(ClockId::CLOCK_BOOTTIME)
    }

    /// Nanoseconds since 1970, UTC.
    pub(crate) fn wall_ns(self) -> u64 {
        read_ns(ClockId::CLOCK_REALTIME).saturating_add_signed(self.wall_offset_ns)
    }
}

/// A clock that cannot be read (an old kernel, a sandbox) reads zero: a recorder must go on.
fn read_ns(id: ClockId) -> u64 {
    clock_gettime(id).map_or(0, |t| {
        (t.tv_sec() as u64).wrapping_mul(1_000_000_000).wrapping_add(t.tv_nsec() as u64)
    })
}
