//! What a leader knows of one member's log, and how much it may have on the way to it.
//!
//! A member is probed with one append at a time until the logs are known to meet; then entries
//! stream, at most [`MAX_INFLIGHT_APPENDS`] messages ahead of the answers; one whose next entry is
//! not kept any more gets the snapshot in parts, each asked for by the answer to the last.

use std::collections::VecDeque;
use std::sync::Arc;

use super::durable::Snapshot;
use super::message::Round;
use crate::ids::LogIndex;
use crate::limits::MAX_INFLIGHT_APPENDS;
use crate::time::VoterTime;

#[derive(Clone, Debug)]
pub(super) enum Mode {
    /// Looking for the place where the logs meet.
    Probe {
        /// One question is on its way; the next waits for the answer or the next heartbeat.
        asked: bool,
    },
    /// The logs met: entries are sent as they come.
    Stream {
        /// Last index of each append on its way.
        inflight: VecDeque<LogIndex>,
    },
    /// Too far behind for entries.
    Snapshot {
        /// The one being sent; a newer one does not replace it on the way.
        snapshot: Arc<Snapshot>,
        /// Byte that the member asked for last.
        offset: u64,
        /// When that part was sent.
        sent: VoterTime,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Progress {
    /// The logs agree, durably, up to here.
    pub(super) matched: LogIndex,
    /// Next entry to send.
    pub(super) next: LogIndex,
    pub(super) mode: Mode,
    /// Last answer.
    pub(super) last_heard: VoterTime,
    /// Newest round answered.
    pub(super) round: Option<Round>,
    /// Commit index that was sent last.
    pub(super) commit_told: LogIndex,
}

impl Progress {
    pub(super) fn new(next: LogIndex, now: VoterTime) -> Self {
        Self {
            matched: LogIndex(0),
            next,
            mode: Mode::Probe { asked: false },
            last_heard: now,
            round: None,
            commit_told: LogIndex(0),
        }
    }

    /// Whether an append may be sent now, given the log's end.
    pub(super) fn ready(&self, last: LogIndex) -> bool {
        match &self.mode {
            Mode::Probe { asked } => !asked,
            Mode::Stream { inflight } => inflight.len() < MAX_INFLIGHT_APPENDS && self.next <= last,
            Mode::Snapshot { .. } => false,
        }
    }

    /// An append with entries up to `upto` was sent.
    pub(super) fn sent(&mut self, upto: LogIndex) {
        match &mut self.mode {
            Mode::Probe { asked } => *asked = true,
            Mode::Stream { inflight } => {
                inflight.push_back(upto);
                self.next = upto.next();
            }
            Mode::Snapshot { .. } => {}
        }
    }

    /// The member's log agrees up to `index`.
    pub(super) fn matched(&mut self, index: LogIndex) {
        let met = match &mut self.mode {
            Mode::Probe { .. } => index.next() >= self.next,
            Mode::Stream { inflight } => {
                inflight.retain(|upto| *upto > index);
                false
            }
            Mode::Snapshot { snapshot, .. } => index >= snapshot.last_index,
        };
        if met {
            self.mode = Mode::Stream { inflight: VecDeque::new() };
            self.next = index.next();
        }
        self.matched = self.matched.max(index);
        self.next = self.next.max(self.matched.next());
    }

    /// The member has not what an append was to follow. False when that is old news.
    pub(super) fn missing(&mut self, prev: LogIndex, hint: LogIndex) -> bool {
        let news = match &self.mode {
            Mode::Probe { .. } => prev.next() == self.next,
            Mode::Stream { .. } => prev < self.next,
            Mode::Snapshot { .. } => false,
        };
        if !news || prev <= self.matched {
            return false;
        }
        self.next = hint.next().min(prev).max(self.matched.next());
        self.mode = Mode::Probe { asked: false };
        true
    }

    pub(super) fn invariants(&self, last: LogIndex) {
        assert!(self.matched < self.next, "what agrees is not sent again");
        assert!(self.matched <= last, "nobody agrees beyond the end");
        assert!(self.next <= last.next(), "nothing is sent beyond the end");
        if let Mode::Stream { inflight } = &self.mode {
            assert!(inflight.len() <= MAX_INFLIGHT_APPENDS, "the window is bounded");
            assert!(inflight.iter().is_sorted(), "in the order of the log");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn streaming(next: u64) -> Progress {
        let mut p = Progress::new(LogIndex(next), VoterTime::default());
        p.sent(LogIndex(next - 1));
        p.matched(LogIndex(next - 1));
        p
    }

    #[test]
    fn a_probe_asks_once_until_the_answer_comes() {
        let mut p = Progress::new(LogIndex(5), VoterTime::default());
        assert!(p.ready(LogIndex(9)));
        p.sent(LogIndex(9));
        assert!(!p.ready(LogIndex(9)));
        assert!(!p.missing(LogIndex(7), LogIndex(2)), "an answer to another question");
        assert!(p.missing(LogIndex(4), LogIndex(2)));
        assert_eq!(p.next, LogIndex(3));
        p.matched(LogIndex(2));
        assert!(matches!(p.mode, Mode::Stream { .. }));
    }

    #[test]
    fn the_window_closes_when_full_and_opens_with_answers() {
        let mut p = streaming(1);
        let mut sent = 0;
        while p.ready(LogIndex(1_000)) {
            sent += 1;
            p.sent(LogIndex(sent));
        }
        assert_eq!(sent as usize, MAX_INFLIGHT_APPENDS);
        p.matched(LogIndex(3));
        assert!(p.ready(LogIndex(1_000)));
        p.invariants(LogIndex(1_000));
    }

    #[test]
    fn a_late_refusal_does_not_go_back_behind_what_agrees() {
        let mut p = streaming(4);
        p.sent(LogIndex(8));
        p.matched(LogIndex(8));
        assert!(!p.missing(LogIndex(5), LogIndex(1)));
        assert_eq!(p.next, LogIndex(9));
    }
}
