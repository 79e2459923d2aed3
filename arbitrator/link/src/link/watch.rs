//! Is the peer still there? Told from the transport's counters, without a timer per connection.
//!
//! quinn notices a dead path by its idle time, and until then it retransmits at doubling intervals
//! (up to 2^16 times the first): after a cut heals, the next probe may be long in coming. A new
//! connection is there in one round trip. So silence that is not explained by our own silence ends
//! the connection early.

use std::time::{Duration, Instant};

/// What was seen of one connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Watch {
    received: u64,
    sent: u64,
    unanswered_since: Option<Instant>,
}

impl Watch {
    /// Does not hold against the peer the time that this process was not running.
    pub(super) fn forgive(&mut self, overslept: Duration) {
        self.unanswered_since = self.unanswered_since.map(|since| since + overslept);
    }

    /// Takes a reading of what was sent and owes an answer, and of packets received; `true` when the peer is taken for dead.
    pub(super) fn is_dead(
        &mut self,
        now: Instant,
        sent: u64,
        received: u64,
        dead_after: Duration,
    ) -> bool {
        if received != self.received {
            *self = Self { received, sent, unanswered_since: None };
            return false;
        }
        if sent > self.sent && self.unanswered_since.is_none() {
            self.unanswered_since = Some(now);
        }
        self.unanswered_since
            .is_some_and(|since| now.saturating_duration_since(since) >= dead_after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEAD: Duration = Duration::from_millis(500);

    fn at(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn silence_counts_only_from_the_first_unanswered_sending() {
        let start = Instant::now();
        let mut watch = Watch::default();
        assert!(!watch.is_dead(start, 5, 5, DEAD));
        // Long silence on both sides: nobody owes anybody anything.
        assert!(!watch.is_dead(at(start, 60_000), 5, 5, DEAD));
        // We send; from now on the peer owes an answer.
        assert!(!watch.is_dead(at(start, 60_100), 6, 5, DEAD));
        assert!(!watch.is_dead(at(start, 60_599), 9, 5, DEAD));
        assert!(watch.is_dead(at(start, 60_600), 9, 5, DEAD));
    }

    #[test]
    fn a_process_that_was_stopped_does_not_blame_its_peer() {
        let start = Instant::now();
        let mut watch = Watch::default();
        assert!(!watch.is_dead(start, 1, 0, DEAD));
        watch.forgive(Duration::from_mins(1));
        assert!(!watch.is_dead(at(start, 60_400), 2, 0, DEAD));
        assert!(watch.is_dead(at(start, 60_500), 2, 0, DEAD));
    }

    #[test]
    fn anything_received_clears_the_debt() {
        let start = Instant::now();
        let mut watch = Watch::default();
        assert!(!watch.is_dead(start, 1, 0, DEAD));
        assert!(!watch.is_dead(at(start, 499), 2, 1, DEAD));
        assert!(!watch.is_dead(at(start, 998), 2, 1, DEAD));
    }
}
