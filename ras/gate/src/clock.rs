//! Deadlines by `CLOCK_BOOTTIME`, and the jump that a sleep leaves between the clocks.

use crate::limits::CLOCK_JUMP;
use nix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// An instant of `CLOCK_BOOTTIME` on this node, in nanoseconds: the end of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Deadline(pub u64);

impl Deadline {
    /// So long from now.
    #[must_use]
    pub fn after(span: Duration) -> Self {
        Self(read(ClockId::CLOCK_BOOTTIME).saturating_add(span.as_nanos() as u64))
    }

    /// What is left now, rounded down to whole milliseconds; zero when it has passed.
    #[must_use]
    pub fn remaining(self) -> Duration {
        let nanos = self.0.saturating_sub(read(ClockId::CLOCK_BOOTTIME));
        Duration::from_millis(nanos / 1_000_000)
    }
}

/// A clock that cannot be read counts as infinitely late: nothing is left of any lease.
fn read(clock: ClockId) -> u64 {
    clock_gettime(clock)
        .map_or(u64::MAX, |now| now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64)
}

/// Remembers how far `CLOCK_BOOTTIME` is ahead of `CLOCK_MONOTONIC`: exactly the time slept.
#[derive(Debug)]
pub(crate) struct JumpDetector {
    offset: Option<u64>,
}

impl JumpDetector {
    pub(crate) fn new() -> Self {
        Self { offset: offset() }
    }

    /// By how much the clocks jumped since the last call, if they did.
    pub(crate) fn jumped(&mut self) -> Option<Duration> {
        let now = offset()?;
        self.judge(now)
    }

    fn judge(&mut self, now: u64) -> Option<Duration> {
        let before = self.offset.unwrap_or(now);
        let by = Duration::from_nanos(now.abs_diff(before));
        if by > CLOCK_JUMP {
            self.offset = Some(now);
            return Some(by);
        }
        // Small steps are not absorbed: they add up until they count as a jump.
        self.offset = Some(before);
        None
    }
}

/// Reads both clocks close together; `None` when this thread was held up in between each time.
fn offset() -> Option<u64> {
    for _ in 0..5 {
        let first = read(ClockId::CLOCK_MONOTONIC);
        let boot = read(ClockId::CLOCK_BOOTTIME);
        let second = read(ClockId::CLOCK_MONOTONIC);
        if second.saturating_sub(first) < 5_000_000 {
            return Some(boot.saturating_sub(first));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_rounded_down_and_never_negative() {
        let left = Deadline::after(Duration::from_millis(500)).remaining();
        assert!(left < Duration::from_millis(500) && left > Duration::from_millis(300), "{left:?}");
        assert_eq!(left.subsec_nanos() % 1_000_000, 0);
        assert_eq!(Deadline(1).remaining(), Duration::ZERO);
    }

    #[test]
    fn a_sleep_is_seen_once_and_slow_steps_add_up() {
        let ms = 1_000_000;
        let mut detector = JumpDetector { offset: Some(1000 * ms) };
        assert_eq!(detector.judge(1000 * ms), None);
        assert_eq!(detector.judge(1030 * ms), None);
        assert_eq!(detector.judge(1060 * ms), Some(Duration::from_millis(60)));
        assert_eq!(detector.judge(1060 * ms), None);
        assert_eq!(JumpDetector::new().jumped(), None, "no sleep in a test");
    }
}
