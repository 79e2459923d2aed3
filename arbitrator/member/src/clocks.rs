//! The system's clocks, read through libc so that a test may put another clock beneath.

use std::time::{SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
use tierce_ticket::time::{HolderTime, Now, VoterTime};

fn nanos(clock: ClockId) -> u64 {
    // Both clocks exist on every Linux since 2.6.39; without them no lease can be kept.
    let t = clock_gettime(clock).expect("CLOCK_MONOTONIC and CLOCK_BOOTTIME are there");
    let seconds = u64::try_from(t.tv_sec()).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(t.tv_nsec()).unwrap_or(0))
}

/// All clocks, now.
pub fn now() -> Now {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now {
        voter: VoterTime::from_nanos(nanos(ClockId::CLOCK_MONOTONIC)),
        holder: HolderTime::from_nanos(nanos(ClockId::CLOCK_BOOTTIME)),
        wall_ms: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX),
    }
}
