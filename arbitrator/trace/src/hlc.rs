//! The hybrid logical clock: wall time where it suffices, a counter where it does not.
//!
//! 48 bits of wall milliseconds and 16 bits of counter. A stamp taken is greater than all stamps
//! taken or received before it, so comparing stamps orders cause before effect. It prevents the
//! merged recording in which an answer precedes its question because two clocks differ by 3 ms.
//!
//! A received stamp far ahead of the local wall clock is *not* taken over: one member with a wild
//! clock would drag all others into the future for good. The order is not lost, because the
//! recorder then notes the message itself and `merge` follows that note.
//!
//! Invariants: stamps of one clock strictly increase; no received stamp moves the clock more than
//! `HLC_MAX_LEAD` ahead of the wall.

use std::fmt;
use std::sync::atomic::Ordering;

use crate::limits::HLC_MAX_LEAD;
use crate::sync::AtomicU64;

const COUNTER_BITS: u32 = 16;
const MAX_LEAD_MS: u64 = HLC_MAX_LEAD.as_millis() as u64;

/// A hybrid logical time stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Hlc(pub u64);

impl Hlc {
    /// The wall part, in milliseconds since 1970.
    pub const fn wall_ms(self) -> u64 {
        self.0 >> COUNTER_BITS
    }

    /// The counter part.
    pub const fn counter(self) -> u16 {
        (self.0 & 0xffff) as u16
    }

    const fn at(wall_ms: u64) -> Self {
        Self((wall_ms & ((1 << 48) - 1)) << COUNTER_BITS)
    }
}

impl fmt::Display for Hlc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.wall_ms(), self.counter())
    }
}

/// What became of a received stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observed {
    /// Taken over: everything recorded from now on sorts after it.
    Merged,
    /// Taken over, but the sender's wall clock is more than a minute behind ours.
    Behind,
    /// Refused: the sender's clock is more than a minute ahead of our wall clock.
    Ahead,
}

/// The clock itself; lock-free.
#[derive(Debug, Default)]
pub(crate) struct HlcClock(AtomicU64);

impl HlcClock {
    pub(crate) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// The last stamp given or taken.
    pub(crate) fn last(&self) -> Hlc {
        Hlc(self.0.load(Ordering::Acquire))
    }

    /// Never gives a stamp at or below `floor` from now on.
    pub(crate) fn raise(&self, floor: Hlc) {
        self.0.fetch_max(floor.0, Ordering::AcqRel);
    }

    /// A fresh stamp, greater than every one before.
    pub(crate) fn tick(&self, wall_ms: u64) -> Hlc {
        let wall = Hlc::at(wall_ms).0;
        let mut last = self.0.load(Ordering::Relaxed);
        loop {
            // Saturation is out of reach: stamps lead the wall by at most a minute.
            let next = wall.max(last.saturating_add(1));
            match self.0.compare_exchange_weak(last, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return Hlc(next),
                Err(seen) => last = seen,
            }
        }
    }

    /// Takes a received stamp over, within bounds.
    pub(crate) fn observe(&self, remote: Hlc, wall_ms: u64) -> Observed {
        if remote.wall_ms() > wall_ms.saturating_add(MAX_LEAD_MS) {
            return Observed::Ahead;
        }
        self.raise(remote);
        if remote.wall_ms().saturating_add(MAX_LEAD_MS) < wall_ms {
            Observed::Behind
        } else {
            Observed::Merged
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::tried::alone;

    #[test]
    fn stamps_increase_even_when_the_wall_clock_steps_back_an_hour() {
        alone(|| {
            let clock = HlcClock::new();
            let mut last = Hlc(0);
            for wall in [10_000_000, 10_000_000, 6_400_000, 6_400_001, 10_000_001] {
                let next = clock.tick(wall);
                assert!(next > last, "{next} after {last}");
                last = next;
            }
            assert_eq!(last.wall_ms(), 10_000_001, "the wall takes over again once it caught up");
        });
    }

    #[test]
    fn a_received_stamp_is_exceeded_by_the_next_one() {
        alone(|| {
            let clock = HlcClock::new();
            clock.tick(1_000);
            let remote = Hlc::at(1_500);
            assert_eq!(clock.observe(remote, 1_000), Observed::Merged);
            assert!(clock.tick(1_000) > remote);
        });
    }

    #[test]
    fn a_wild_stamp_never_moves_the_clock_however_often_it_comes() {
        alone(|| {
            let clock = HlcClock::new();
            let before = clock.tick(1_000_000);
            for _ in 0..1_000 {
                let next = Hlc::at(clock.last().wall_ms() + MAX_LEAD_MS + 1);
                assert_eq!(clock.observe(next, 1_000_000), Observed::Ahead);
                assert_eq!(clock.observe(Hlc(u64::MAX), 1_000_000), Observed::Ahead);
            }
            assert_eq!(clock.last(), before);
            // Creeping forward just inside the bound ends at the bound.
            for _ in 0..1_000 {
                clock.observe(Hlc::at(clock.last().wall_ms() + 59_000), 1_000_000);
            }
            assert!(clock.last().wall_ms() <= 1_000_000 + MAX_LEAD_MS);
        });
    }

    #[test]
    fn a_sender_that_is_behind_is_told_apart() {
        alone(|| {
            let clock = HlcClock::new();
            assert_eq!(clock.observe(Hlc::at(1_000), 3_600_000), Observed::Behind);
        });
    }
}
