//! A token bucket: how one tenant's flood is kept from being everybody's.
//!
//! It counts in whole tokens and nanoseconds, so that it neither drifts nor needs a timer: tokens
//! that came due are added when the next one is asked for. The caller passes the time.

use std::time::{Duration, Instant};

/// Allows `rate` things per second and `burst` at once.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    interval_ns: u64,
    burst: u32,
    tokens: u32,
    filled_to: Instant,
}

impl Bucket {
    /// A full bucket. A rate of zero is taken as one per second.
    pub(crate) fn new(now: Instant, rate: u32, burst: u32) -> Self {
        let burst = burst.max(1);
        Self {
            interval_ns: 1_000_000_000 / u64::from(rate.clamp(1, 1_000_000_000)),
            burst,
            tokens: burst,
            filled_to: now,
        }
    }

    /// Takes one token; `false` means that the thing is beyond the allowance.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        self.fill(now);
        match self.tokens.checked_sub(1) {
            Some(left) => {
                self.tokens = left;
                true
            }
            None => false,
        }
    }

    fn fill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.filled_to).as_nanos();
        let due = elapsed / u128::from(self.interval_ns);
        if due == 0 {
            return;
        }
        if due >= u128::from(self.burst - self.tokens) {
            self.tokens = self.burst;
            self.filled_to = now;
        } else {
            // Below `burst`, so both casts hold.
            self.tokens += due as u32;
            self.filled_to += Duration::from_nanos(self.interval_ns * due as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_long_run_is_the_rate_and_the_start_is_the_burst() {
        let start = Instant::now();
        let mut bucket = Bucket::new(start, 1_000, 100);
        let allowed =
            (0..100_000u64).filter(|i| bucket.take(start + Duration::from_micros(i * 100))).count();
        // 10 s at 1,000/s and the burst of 100.
        assert!((10_098..=10_101).contains(&allowed), "{allowed}");
    }

    #[test]
    fn a_pause_gives_no_more_than_the_burst() {
        let start = Instant::now();
        let mut bucket = Bucket::new(start, 10, 5);
        let later = start + Duration::from_hours(1);
        assert_eq!((0..100).filter(|_| bucket.take(later)).count(), 5);
    }

    #[test]
    fn a_clock_that_does_not_move_gives_nothing_new() {
        let start = Instant::now();
        let mut bucket = Bucket::new(start, 1_000_000, 1);
        assert!(bucket.take(start));
        assert!(!bucket.take(start));
    }
}
