//! The clock audit: does this node's clock run like the voters' clocks?
//!
//! Leases rest on one assumption, that no clock runs wrong by more than ρ. Nobody can prove it
//! beforehand, but every answer carries the voter's clock, so a node that was paused from outside
//! (its clocks stood still, so it saw nothing) or that drifts finds itself out afterwards, stops what
//! it runs and says so.
//!
//! Between two answers the voter's clock advanced by `ec`. The holder's clock, between the same two
//! readings, advanced by something between `sent₁ − received₀` and `received₁ − sent₀`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::ids::MemberId;
use crate::planted::{Bug, is_planted};
use crate::quorum;
use crate::time::{HolderTime, VoterTime};
use crate::timing::{Timing, show};

/// One finding about one voter's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which voter.
    pub voter: MemberId,
    /// By how much its clock went ahead (positive) or fell behind, in microseconds, beyond the bound.
    pub excess_us: i64,
    /// Over which time on the holder's clock.
    pub over: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Base {
    sent: HolderTime,
    received: HolderTime,
    clock: VoterTime,
}

/// The audit of one holder.
#[derive(Clone, Debug)]
pub struct ClockAudit {
    timing: Timing,
    base: BTreeMap<MemberId, Base>,
    ahead: BTreeMap<MemberId, Duration>,
}

impl ClockAudit {
    /// An audit without samples.
    pub fn new(timing: Timing) -> Self {
        Self { timing, base: BTreeMap::new(), ahead: BTreeMap::new() }
    }

    /// New lease times.
    pub fn set_timing(&mut self, timing: Timing) {
        self.timing = timing;
    }

    /// The window over which rates are compared: long enough for ρ to stand out of the round trip.
    fn window(&self) -> Duration {
        self.timing.promise * 10
    }

    /// Takes in one answer; a finding when the voter's clock is beyond the bound.
    pub fn sample(
        &mut self,
        voter: MemberId,
        sent: HolderTime,
        received: HolderTime,
        clock: VoterTime,
    ) -> Option<Finding> {
        if clock == VoterTime::UNKNOWN {
            return None; // an older voter: no audit of it
        }
        let now = Base { sent, received, clock };
        let Some(base) = self.base.get(&voter).copied() else {
            self.base.insert(voter, now);
            return None;
        };
        if clock < base.clock {
            // The voter restarted on another boot: its clock began anew.
            self.base.insert(voter, now);
            return None;
        }
        let theirs = clock.since(base.clock);
        let least = sent.since(base.received);
        let most = received.since(base.sent);
        if most >= self.window() {
            self.base.insert(voter, now);
        }
        let slack = self.timing.slack;
        // Stretch: the most that a good voter's clock can show for `most`, and the least for `least`.
        let limit_fast = self.stretch(most) + slack;
        let limit_slow = self.timing.shrink(least).saturating_sub(slack);
        let excess = if theirs > limit_fast {
            self.ahead.insert(voter, theirs.saturating_sub(most));
            theirs.saturating_sub(limit_fast).as_micros() as i64
        } else if theirs < limit_slow {
            -(limit_slow.saturating_sub(theirs).as_micros() as i64)
        } else {
            return None;
        };
        self.base.insert(voter, now);
        Some(Finding { voter, excess_us: excess, over: most })
    }

    fn stretch(&self, d: Duration) -> Duration {
        let rho = u128::from(self.timing.rho_ppm);
        let us = d.as_micros() * (1_000_000 + rho) / (1_000_000 - rho).max(1);
        Duration::from_micros(us as u64)
    }

    /// Why this node's own clock is not to be trusted: a majority of the voters has gone ahead of it
    /// beyond the bound. (One voter ahead is that voter's fault; clocks behind ours only make leases
    /// longer at the voters.)
    pub fn verdict(&self, voters: &BTreeSet<MemberId>) -> Option<String> {
        if !quorum::has_majority(voters, self.ahead.keys()) || is_planted(Bug::AuditBlind) {
            return None;
        }
        let by = self.ahead.values().min().copied().unwrap_or_default();
        Some(format!(
            "the clocks of {} voters went ahead of this node's by {} or more: it was paused or its \
             clock is slow beyond rho",
            self.ahead.len(),
            show(Duration::from_millis(by.as_millis() as u64))
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timing::Profile;

    fn at(ms: u64) -> HolderTime {
        HolderTime::from_nanos(ms * 1_000_000)
    }
    fn clock(ms: u64) -> VoterTime {
        VoterTime::from_nanos(ms * 1_000_000)
    }
    fn voters() -> BTreeSet<MemberId> {
        [1, 2, 3].map(MemberId).into()
    }

    #[test]
    fn clocks_within_the_bound_are_never_accused() {
        let mut a = ClockAudit::new(Profile::MetroFast.timing());
        for i in 0..1000u64 {
            // 1 % fast, round trip jittering from 1 to 40 ms.
            let (sent, rtt) = (i * 130, 1 + i * 7 % 40);
            let f = a.sample(
                MemberId(1),
                at(sent),
                at(sent + rtt),
                clock(1 + (sent + rtt / 2) * 101 / 100),
            );
            assert_eq!(f, None, "at {i}");
        }
    }

    #[test]
    fn a_pause_seen_by_one_voter_is_a_finding_and_by_a_majority_a_verdict() {
        let mut a = ClockAudit::new(Profile::MetroFast.timing());
        for v in 1..=2 {
            assert_eq!(a.sample(MemberId(v), at(0), at(2), clock(1)), None);
        }
        let f = a.sample(MemberId(1), at(130), at(132), clock(1 + 130 + 700));
        assert!(f.is_some_and(|f| f.excess_us > 600_000));
        assert_eq!(a.verdict(&voters()), None);
        a.sample(MemberId(2), at(130), at(132), clock(1 + 130 + 700));
        assert!(a.verdict(&voters()).is_some_and(|w| w.contains("paused")));
    }

    #[test]
    fn a_slow_voter_is_named_and_our_clock_stays_trusted() {
        let mut a = ClockAudit::new(Profile::MetroFast.timing());
        for v in 1..=3 {
            a.sample(MemberId(v), at(0), at(2), clock(1));
            let f = a.sample(MemberId(v), at(5000), at(5002), clock(4001));
            assert!(f.is_some_and(|f| f.excess_us < 0));
        }
        assert_eq!(a.verdict(&voters()), None);
    }
}
