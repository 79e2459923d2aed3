//! One clock for all of the demo: `CLOCK_MONOTONIC`, which the demo's service stamps its answers
//! with too. All processes run on one machine, so their times can be compared.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// A moment, in nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct At(pub(crate) u64);

impl At {
    /// Now.
    pub(crate) fn now() -> Self {
        // The clock exists on every Linux; a zero would show at once as an empty timeline.
        let ns = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |t| {
            t.tv_sec().cast_unsigned() * 1_000_000_000 + t.tv_nsec().cast_unsigned()
        });
        Self(ns)
    }

    /// Time since an earlier moment; zero if it is later.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Milliseconds with a fraction.
pub(crate) fn ms(d: Duration) -> f64 {
    (d.as_secs_f64() * 1e6).round() / 1e3
}
