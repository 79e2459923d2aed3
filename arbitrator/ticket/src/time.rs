//! Local instants. Two clocks exist and they are two types, so that they cannot be mixed.
//!
//! A holder reads `CLOCK_BOOTTIME` (it counts suspend, so a holder that slept finds itself late); a
//! voter reads `CLOCK_MONOTONIC` (it does not, so a voter that slept waits longer): each errs on
//! its safe side. Wall-clock time decides nothing and is carried for people only.

use core::fmt;
use core::ops::{Add, Sub};
use core::time::Duration;

use serde::{Deserialize, Serialize};

macro_rules! instant_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(u64);

        impl $name {
            /// From nanoseconds of the clock.
            pub const fn from_nanos(ns: u64) -> Self {
                Self(ns)
            }
            /// Nanoseconds of the clock.
            pub const fn as_nanos(self) -> u64 {
                self.0
            }
            /// Time since `earlier`; zero when that lies ahead.
            pub fn since(self, earlier: Self) -> Duration {
                Duration::from_nanos(self.0.saturating_sub(earlier.0))
            }
            /// This instant less `d`; the clock's zero when that lies before it.
            #[must_use]
            pub fn minus(self, d: Duration) -> Self {
                Self(self.0.saturating_sub(nanos(d)))
            }
        }

        impl Add<Duration> for $name {
            type Output = Self;
            fn add(self, d: Duration) -> Self {
                Self(self.0.saturating_add(nanos(d)))
            }
        }

        impl Sub for $name {
            type Output = Duration;
            fn sub(self, earlier: Self) -> Duration {
                self.since(earlier)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}.{:06}s", self.0 / 1_000_000_000, self.0 / 1000 % 1_000_000)
            }
        }
    };
}

instant_type!(
    /// An instant of a voter: `CLOCK_MONOTONIC`.
    VoterTime
);
instant_type!(
    /// An instant of a holder: `CLOCK_BOOTTIME`.
    HolderTime
);

impl VoterTime {
    /// A clock reading that an older member did not send.
    pub const UNKNOWN: Self = Self(0);
}

fn nanos(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}

/// The clocks as read for one step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Now {
    /// `CLOCK_MONOTONIC`.
    pub voter: VoterTime,
    /// `CLOCK_BOOTTIME`.
    pub holder: HolderTime,
    /// Wall-clock milliseconds since 1970, for people; nothing is decided by it.
    pub wall_ms: u64,
}

/// When a core wants to be woken; either clock may come first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wake {
    /// Next deadline on the voter's clock.
    pub voter: Option<VoterTime>,
    /// Next deadline on the holder's clock.
    pub holder: Option<HolderTime>,
}

impl Wake {
    /// Time from `now` to the earlier of the two; `None`: nothing to wait for.
    pub fn after(&self, now: Now) -> Option<Duration> {
        let v = self.voter.map(|t| t.since(now.voter));
        let h = self.holder.map(|t| t.since(now.holder));
        match (v, h) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }
}

/// The earlier of two optional instants.
pub(crate) fn earlier<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
