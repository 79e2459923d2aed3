//! The holder's clock, read through libc (so that a test can lead it astray).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
use tierce_ticket::time::HolderTime;

/// `CLOCK_BOOTTIME`: it counts through suspend. A clock that cannot be read counts as infinitely
/// late, so that everything is due.
pub(crate) fn now() -> HolderTime {
    let nanos = clock_gettime(ClockId::CLOCK_BOOTTIME)
        .map_or(u64::MAX, |t| t.tv_sec() as u64 * 1_000_000_000 + t.tv_nsec() as u64);
    HolderTime::from_nanos(nanos)
}

/// Wall-clock seconds since 1970 of an instant; for people and for booth's environment only.
pub(crate) fn wall_seconds(at: HolderTime) -> u64 {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    (wall + at.since(now())).as_secs()
}

/// Which boot of the machine this is: instants of another one mean nothing.
pub(crate) fn boot_id() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}
