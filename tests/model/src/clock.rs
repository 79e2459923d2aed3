//! Coarse time: real ticks, and clocks that count whole units at the bound of their rate.
//!
//! The bound is ρ = 1/5, far beyond any real clock, so that few ticks tell fast from slow and all
//! numbers are whole: in one real tick a fast clock counts 3 units, a slow one 2, and
//! (1−ρ)/(1+ρ) = 2/3 is exactly their ratio. T = 6 gives H = 4: a slow holder's lease ends after
//! 4/2 = 2 ticks, a fast voter's promise after 6/3 = 2 ticks. The two meet on the same instant, so
//! that one unit too much anywhere is found.

use std::time::Duration;

use tierce_ticket::time::{HolderTime, VoterTime};
use tierce_ticket::timing::Timing;

/// Units that a clock counts in one real tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate(pub u64);

/// A clock at 1 − ρ.
pub const SLOW: Rate = Rate(2);
/// A clock at 1 + ρ.
pub const FAST: Rate = Rate(3);
/// A clock slower than the bound allows: the canary of the assumption.
pub const BROKEN: Rate = Rate(1);

/// What every clock shows at first: far from zero, where instants saturate.
pub const BEGIN: u64 = 1_000;

/// One unit: whole microseconds, so that nothing is rounded.
const UNIT_NS: u64 = 1_000_000;

/// Units as a duration.
pub fn units(n: u64) -> Duration {
    Duration::from_nanos(n * UNIT_NS)
}
/// Units of a duration.
pub fn in_units(d: Duration) -> u64 {
    d.as_nanos() as u64 / UNIT_NS
}
/// A reading as a voter's instant.
pub fn voter(clock: u64) -> VoterTime {
    VoterTime::from_nanos(clock * UNIT_NS)
}
/// A reading as a holder's instant.
pub fn holder(clock: u64) -> HolderTime {
    HolderTime::from_nanos(clock * UNIT_NS)
}
/// A holder's instant as a reading.
pub fn reading(t: HolderTime) -> u64 {
    t.as_nanos() / UNIT_NS
}

/// Lease times in units. They are outside of what a configuration may say (ρ and g), so they are
/// put together by hand, and I1 and I2 are asserted here for the ρ of the model.
///
/// # Panics
/// When I1 or I2 does not hold.
pub fn timing(promise: u64, stop_budget: u64) -> Timing {
    let t = Timing {
        promise: units(promise),
        watchdog: Duration::ZERO,
        stop_budget: units(stop_budget),
        renew_every: units(1),
        rho_ppm: 200_000,
        slack: Duration::ZERO,
        wake_up: Duration::ZERO,
        rtt_max: Duration::ZERO,
        losses: 3,
        election: units(1),
    };
    let h = t.holder_time().as_nanos();
    assert_eq!(h * u128::from(FAST.0), t.promise.as_nanos() * u128::from(SLOW.0), "I1, exactly");
    assert!(t.stop_budget + t.watchdog_stretched() + t.wake_up <= t.holder_time(), "I2");
    t
}
