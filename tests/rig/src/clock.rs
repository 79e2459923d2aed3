//! The one clock of a rig.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A moment by `CLOCK_MONOTONIC`, nanoseconds; the same on all machines of this host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(pub u64);

fn nanos(clock: ClockId) -> u64 {
    clock_gettime(clock).map_or(0, |t| {
        let seconds = u64::try_from(t.tv_sec()).unwrap_or(0);
        seconds * 1_000_000_000 + u64::try_from(t.tv_nsec()).unwrap_or(0)
    })
}

impl Mono {
    /// Now.
    pub fn now() -> Self {
        Self(nanos(ClockId::CLOCK_MONOTONIC))
    }

    /// Time from an earlier moment to this one; zero when it is none.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Milliseconds from `other` to this moment, negative when it is later.
    pub fn ms_since(self, other: Self) -> f64 {
        (i128::from(self.0) - i128::from(other.0)) as f64 / 1e6
    }
}

impl Add<Duration> for Mono {
    type Output = Self;

    fn add(self, d: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Mono {
    type Output = Self;

    fn sub(self, d: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Display for Mono {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6}", self.0 as f64 / 1e9)
    }
}

/// The moment of a log line (RFC 3339, microseconds). Both clocks are this host's and run alike but
/// for slewing of the wall clock, which is some microseconds a second at most.
pub fn mono_of_utc(text: &str) -> Option<Mono> {
    let at = OffsetDateTime::parse(text, &Rfc3339).ok()?.unix_timestamp_nanos();
    let apart =
        i128::from(nanos(ClockId::CLOCK_REALTIME)) - i128::from(nanos(ClockId::CLOCK_MONOTONIC));
    u64::try_from(at - apart).ok().map(Mono)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_clock_stamp_becomes_the_same_moment_of_the_one_clock() {
        let wall = OffsetDateTime::from_unix_timestamp_nanos(nanos(ClockId::CLOCK_REALTIME).into());
        let text = wall.unwrap().format(&Rfc3339).unwrap();
        let off = mono_of_utc(&text).unwrap().ms_since(Mono::now());
        assert!(off.abs() < 50.0, "{off} ms");
        assert_eq!(mono_of_utc("yesterday"), None);
    }
}
