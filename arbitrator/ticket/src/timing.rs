//! Lease times and the inequalities that make them safe (I1 to I5).
//!
//! Names as in docs/protocol.md: T promise time, H what the holder makes of it, W watchdog time, B
//! stop budget, P renewal period, ρ bound on the rate error of any clock, g granularity and slack.
//! A configuration that breaks an inequality is refused with the numbers of the one that fails.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::planted::{Bug, is_planted};

/// Lease times of a cluster. All durations are real durations, whole microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// T: for how long a voter promises, from receipt, on its own clock.
    pub promise: Duration,
    /// W: time that the node guard needs for its last resort, within the holder's lease.
    pub watchdog: Duration,
    /// B: time that dependents get to stop before the last resort.
    pub stop_budget: Duration,
    /// P: how often a session renews.
    pub renew_every: Duration,
    /// ρ in parts per million: no clock runs faster or slower than real time by more.
    pub rho_ppm: u32,
    /// g: granularity of timers and slack of the holder.
    pub slack: Duration,
    /// Time that a woken process may take until it runs, within the stop budget's end.
    pub wake_up: Duration,
    /// Longest round trip between a site and a voter that still counts as working.
    pub rtt_max: Duration,
    /// k: renewals that may be lost in a row without effect.
    pub losses: u32,
    /// Longest time from the loss of the ledger's leader to the next campaign.
    pub election: Duration,
}

/// One inequality that does not hold, in words and numbers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{rule}: {words}: {left} = {left_value} is not {relation} {right} = {right_value}; {hint}")]
pub struct Unsafe {
    /// "I1" to "I5", or the bound of a single value.
    pub rule: String,
    /// What the rule protects.
    pub words: String,
    /// Left side, as a formula.
    pub left: String,
    /// Left side, as a number.
    pub left_value: String,
    /// "at most", "below".
    pub relation: String,
    /// Right side, as a formula.
    pub right: String,
    /// Right side, as a number.
    pub right_value: String,
    /// What to change.
    pub hint: String,
}

/// Named sets of lease times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// T = 1 s: metropolitan networks, 1 to 5 ms.
    MetroFast,
    /// T = 6 s: one campus, ordinary hosts.
    Lan,
    /// T = 20 s: wide area, 20 to 200 ms.
    Wan,
    /// T = 60 s: paused guests, bad lines.
    Cautious,
}

impl Profile {
    /// All profiles, fastest first.
    pub const ALL: [Profile; 4] =
        [Profile::MetroFast, Profile::Lan, Profile::Wan, Profile::Cautious];

    /// The word that an operator writes.
    pub fn word(self) -> &'static str {
        match self {
            Profile::MetroFast => "metro-fast",
            Profile::Lan => "lan",
            Profile::Wan => "wan",
            Profile::Cautious => "cautious",
        }
    }

    /// The lease times of this profile. Shares of T are the same in all: a sixth for the last
    /// resort at most, a third for stopping, the rest is the blip budget.
    pub fn timing(self) -> Timing {
        let ms = Duration::from_millis;
        let base = |promise, watchdog, stop_budget, renew_every, rtt_max, election| Timing {
            promise: ms(promise),
            watchdog: ms(watchdog),
            stop_budget: ms(stop_budget),
            renew_every: ms(renew_every),
            rho_ppm: 10_000,
            slack: ms(20),
            wake_up: ms(20),
            rtt_max: ms(rtt_max),
            losses: 3,
            election: ms(election),
        };
        match self {
            Profile::MetroFast => base(1_000, 150, 350, 130, 50, 400),
            Profile::Lan => base(6_000, 1_000, 2_000, 750, 250, 1_500),
            Profile::Wan => base(20_000, 2_000, 8_000, 2_500, 1_000, 4_000),
            Profile::Cautious => base(60_000, 5_000, 25_000, 8_000, 2_000, 10_000),
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// A duration as people write it: the largest unit that keeps it whole.
pub fn show(d: Duration) -> String {
    let us = d.as_micros();
    match us {
        0 => "0 s".to_owned(),
        _ if us.is_multiple_of(1_000_000) => format!("{} s", us / 1_000_000),
        _ if us.is_multiple_of(1_000) => format!("{} ms", us / 1_000),
        _ => format!("{:.3} ms", us as f64 / 1_000.0),
    }
}

const MILLION: u128 = 1_000_000;

impl Timing {
    /// Longest T: a quarantine of more than ten minutes after each restart helps nobody.
    pub const MAX_PROMISE: Duration = Duration::from_mins(10);
    /// Smallest g (I1): timer granularity of a busy host, measured 4 to 15 ms.
    pub const MIN_SLACK: Duration = Duration::from_millis(20);
    /// Greatest ρ: a clock worse than 10 % is broken.
    pub const MAX_RHO_PPM: u32 = 100_000;

    /// H of a promise of `promise`: I1 taken as an equation, rounded down to the microsecond.
    pub fn holder_time_of(&self, promise: Duration) -> Duration {
        if is_planted(Bug::HolderTimeUnscaled) {
            return promise.saturating_sub(self.slack);
        }
        self.shrink(promise).saturating_sub(self.slack)
    }

    /// H: how long after *sending* a renewal the holder may rely on its answer.
    pub fn holder_time(&self) -> Duration {
        self.holder_time_of(self.promise)
    }

    /// A duration measured on one clock, made safe for another: × (1−ρ)/(1+ρ) (R16, I1).
    pub fn shrink(&self, d: Duration) -> Duration {
        let rho = u128::from(self.rho_ppm);
        let us = d.as_micros() * (MILLION - rho) / (MILLION + rho);
        Duration::from_micros(us as u64)
    }

    /// W stretched for a watchdog whose clock is slow: W (1+ρ), rounded up.
    pub fn watchdog_stretched(&self) -> Duration {
        let us =
            (self.watchdog.as_micros() * (MILLION + u128::from(self.rho_ppm))).div_ceil(MILLION);
        Duration::from_micros(us as u64)
    }

    /// How long a cut may last without any effect on a ticket with stop budget `stop_budget`:
    /// the right side of I3 less one renewal period, for the worst phase.
    pub fn blip_budget(&self, stop_budget: Duration) -> Duration {
        self.holder_time()
            .saturating_sub(self.watchdog)
            .saturating_sub(stop_budget)
            .saturating_sub(self.renew_every)
            .saturating_sub(self.rtt_max)
    }

    /// Worst-case time from a crash to the grant elsewhere: T + 2 RTT + 2 fsync (φ = 0), with
    /// `rtt` and `fsync` as measured.
    pub fn worst_takeover(&self, rtt: Duration, fsync: Duration) -> Duration {
        self.promise + 2 * rtt + 2 * fsync
    }

    /// Checks I1 to I5 and single bounds; all findings, worst first.
    pub fn check(&self) -> Result<(), Vec<Unsafe>> {
        let mut found = Vec::new();
        let mut must = |ok: bool,
                        rule: &str,
                        words: &str,
                        left: (&str, Duration),
                        relation: &str,
                        right: (&str, Duration),
                        hint: &str| {
            if !ok {
                found.push(Unsafe {
                    rule: rule.to_owned(),
                    words: words.to_owned(),
                    left: left.0.to_owned(),
                    left_value: show(left.1),
                    relation: relation.to_owned(),
                    right: right.0.to_owned(),
                    right_value: show(right.1),
                    hint: hint.to_owned(),
                });
            }
        };
        let ppm = |n: u32| Duration::from_micros(u64::from(n));
        must(
            self.rho_ppm <= Self::MAX_RHO_PPM,
            "bound",
            "a clock may be wrong only by a little",
            ("rho (as µs per s)", ppm(self.rho_ppm)),
            "at most",
            ("10 %", ppm(Self::MAX_RHO_PPM)),
            "repair the clock, do not allow for it",
        );
        must(
            self.promise <= Self::MAX_PROMISE,
            "bound",
            "a voter waits T after each restart",
            ("T", self.promise),
            "at most",
            ("ten minutes", Self::MAX_PROMISE),
            "choose a smaller T",
        );
        must(
            self.slack >= Self::MIN_SLACK,
            "I1",
            "the holder ends before any voter does",
            ("20 ms", Self::MIN_SLACK),
            "at most",
            ("g", self.slack),
            "raise the slack",
        );
        let h = self.holder_time();
        let end = self.stop_budget + self.watchdog_stretched() + self.wake_up;
        must(
            end <= h || is_planted(Bug::StopDoesNotFit),
            "I2",
            "dependents are stopped, or the node reset, before the lease ends",
            ("B + W(1+ρ) + wake-up", end),
            "at most",
            ("H = T(1−ρ)/(1+ρ) − g", h),
            "raise the promise time T, or lower the stop budget B",
        );
        let need = self.renew_every * self.losses + self.rtt_max;
        let budget = h.saturating_sub(self.watchdog).saturating_sub(self.stop_budget);
        must(
            need <= budget || is_planted(Bug::LossesDoNotFit),
            "I3",
            "lost renewals in a row do not stop anything",
            ("k·P + RTT_max", need),
            "at most",
            ("H − W − B", budget),
            "raise T, or renew more often (smaller P)",
        );
        must(
            self.losses >= 3,
            "I3",
            "at least three losses are tolerated",
            ("3", Duration::from_secs(3)),
            "at most",
            ("k", Duration::from_secs(self.losses.into())),
            "set losses to 3 or more",
        );
        must(
            !self.renew_every.is_zero(),
            "I3",
            "renewals have a period",
            ("0", Duration::ZERO),
            "below",
            ("P", self.renew_every),
            "set a renewal period",
        );
        must(
            self.election + 2 * self.rtt_max < self.promise || is_planted(Bug::ElectionDoesNotFit),
            "I5",
            "the ledger has a leader again before a dead session's promises end",
            ("election + 2 RTT_max", self.election + 2 * self.rtt_max),
            "below",
            ("T", self.promise),
            "lower the election time, or raise T",
        );
        must(
            self.election > 2 * self.rtt_max,
            "I5",
            "an election outlasts a round trip",
            ("2 RTT_max", 2 * self.rtt_max),
            "below",
            ("election", self.election),
            "raise the election time",
        );
        if found.is_empty() { Ok(()) } else { Err(found) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_is_safe() {
        for p in Profile::ALL {
            assert_eq!(p.timing().check(), Ok(()), "{p}");
        }
    }

    #[test]
    fn each_inequality_names_itself_and_its_numbers() {
        let good = Profile::MetroFast.timing();
        let ms = Duration::from_millis;
        let cases = [
            ("I1", Timing { slack: ms(5), ..good }),
            ("I2", Timing { stop_budget: ms(900), ..good }),
            ("I3", Timing { renew_every: ms(400), ..good }),
            ("I3", Timing { losses: 1, ..good }),
            ("I5", Timing { election: ms(950), ..good }),
            ("bound", Timing { rho_ppm: 200_000, ..good }),
        ];
        for (rule, t) in cases {
            let found = t.check().expect_err(rule);
            assert!(found.iter().any(|u| u.rule == rule), "{rule}: {found:?}");
            assert!(found.iter().all(|u| u.to_string().contains("is not")), "{found:?}");
        }
    }

    #[test]
    fn the_holder_ends_before_the_voter_at_the_worst_clock_rates() {
        // Holder's clock slow by ρ (it measures less than passes), voter's fast by ρ.
        for p in Profile::ALL {
            let t = p.timing();
            let rho = f64::from(t.rho_ppm) / 1e6;
            let holder_real = t.holder_time().as_secs_f64() / (1.0 - rho);
            let voter_real = t.promise.as_secs_f64() / (1.0 + rho);
            assert!(holder_real < voter_real, "{p}: {holder_real} >= {voter_real}");
        }
    }
}
