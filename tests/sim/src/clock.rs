//! A node's clock: its own rate and offset, and it stops with a guest that is paused from outside.

use crate::MS;

/// What a node's clocks show, as a function of real (virtual) time in nanoseconds.
#[derive(Clone, Debug)]
pub struct Clock {
    /// Real time of the last change.
    real: u64,
    /// What it showed then.
    shown: u64,
    /// Own nanoseconds in a million real ones.
    rate_ppm: u64,
    stopped: bool,
}

impl Clock {
    /// A clock that shows `offset` at real time zero.
    pub fn new(rate_ppm: u64, offset: u64) -> Self {
        Self { real: 0, shown: offset, rate_ppm, stopped: false }
    }

    /// What it shows at real time `now`.
    pub fn at(&self, now: u64) -> u64 {
        if self.stopped {
            return self.shown;
        }
        let gone = u128::from(now - self.real) * u128::from(self.rate_ppm) / 1_000_000;
        self.shown + gone as u64
    }

    /// Real time at which it will show `at`; far away while it is stopped.
    pub fn when(&self, at: u64) -> u64 {
        if self.stopped {
            return self.real + 1_000_000_000 * MS;
        }
        let left = u128::from(at.saturating_sub(self.shown)) * 1_000_000;
        self.real + left.div_ceil(u128::from(self.rate_ppm)) as u64
    }

    /// From `now` on it runs at this rate.
    pub fn set_rate(&mut self, now: u64, rate_ppm: u64) {
        self.rebase(now);
        self.rate_ppm = rate_ppm;
    }

    /// It stops: nothing in the guest sees the time that passes.
    pub fn stop(&mut self, now: u64) {
        self.rebase(now);
        self.stopped = true;
    }

    /// It runs on from where it stopped.
    pub fn go(&mut self, now: u64) {
        self.rebase(now);
        self.stopped = false;
    }

    fn rebase(&mut self, now: u64) {
        self.shown = self.at(now);
        self.real = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_keeps_its_rate_stops_and_goes_on_without_a_gap() {
        let mut c = Clock::new(1_010_000, 500);
        assert_eq!(c.at(1_000_000), 1_010_500);
        assert_eq!(c.when(1_010_500), 1_000_000);
        c.stop(1_000_000);
        assert_eq!(c.at(9_000_000), 1_010_500);
        c.go(9_000_000);
        assert_eq!(c.at(9_000_000), 1_010_500);
        c.set_rate(9_000_000, 990_000);
        assert_eq!(c.at(10_000_000), 2_000_500);
    }
}
