//! Watches all members at once and knows every entry that was ever final.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tierce_ticket::entry::{Entry, Payload};
use tierce_ticket::ids::{Ballot, LogIndex, MemberId};
use tierce_ticket::ledger::{Ledger, LedgerMessage, LedgerRecord};

use super::{Envelope, Node};

/// The state machine of the rig: all entries applied, each as ballot and fingerprint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Applied(Vec<(u64, u64)>);

impl Applied {
    pub(crate) fn last(&self) -> LogIndex {
        LogIndex(self.0.len() as u64)
    }

    pub(crate) fn apply(&mut self, e: &Entry) {
        assert_eq!(e.index, self.last().next(), "entries are applied in order");
        self.0.push(fingerprint(e));
    }
}

fn fingerprint(e: &Entry) -> (u64, u64) {
    let bytes = postcard::to_stdvec(e).unwrap();
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h: u64, b| {
        (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3)
    });
    (e.ballot.0, hash)
}

/// What was ever true of the whole.
#[derive(Default)]
pub(crate) struct Oracle {
    /// Every entry that was ever final, anywhere.
    finals: Vec<(u64, u64)>,
    leaders: BTreeMap<Ballot, MemberId>,
    votes: BTreeMap<(MemberId, Ballot), MemberId>,
    commits: BTreeMap<MemberId, LogIndex>,
    /// Snapshots that came from a leader, and times that a log's end was replaced.
    pub(crate) installed: usize,
    pub(crate) truncated: usize,
}

impl Oracle {
    pub(crate) fn final_entries(&self) -> usize {
        self.finals.len()
    }

    pub(crate) fn elections(&self) -> usize {
        self.leaders.len()
    }

    pub(crate) fn restarted(&mut self, id: MemberId) {
        self.commits.remove(&id);
    }

    /// One vote per ballot, counted when the vote leaves.
    pub(crate) fn leaves(&mut self, e: &Envelope) {
        if let LedgerMessage::VoteReply { ballot, granted: true } = e.message {
            let to = *self.votes.entry((e.from, ballot)).or_insert(e.to);
            assert_eq!(to, e.to, "one vote: {} voted twice in ballot {ballot}", e.from);
        }
    }

    /// Election safety and leader completeness.
    pub(crate) fn led(&mut self, id: MemberId, l: &Ledger) {
        let first = *self.leaders.entry(l.ballot()).or_insert(id);
        assert_eq!(first, id, "election safety: two leaders in ballot {}", l.ballot());
        let covered = l.snapshot().map_or(0, |s| s.last_index.0);
        for (index, of) in (1..).map(LogIndex).zip(&self.finals) {
            let here = l.entry(index).map(fingerprint);
            let has = here == Some(*of) || (here.is_none() && index.0 <= covered);
            assert!(has, "leader completeness: leader {id} lacks final entry {index}");
        }
    }

    /// State machine safety: whoever applies, applies the same.
    pub(crate) fn applied(&mut self, id: MemberId, applied: &Applied) {
        let both = applied.0.len().min(self.finals.len());
        let same = applied.0[..both] == self.finals[..both];
        assert!(same, "state machine safety: {id} applied something else");
        self.finals.extend_from_slice(&applied.0[both..]);
    }

    /// What must hold after every event at `id`.
    pub(crate) fn check(
        &mut self,
        id: MemberId,
        log_changed: bool,
        nodes: &BTreeMap<MemberId, Node>,
    ) {
        let node = &nodes[&id];
        let l = node.ledger.as_ref().unwrap();
        l.invariants();
        let commit = self.commits.entry(id).or_default();
        assert!(l.commit() >= *commit, "commit never back: {id}");
        *commit = l.commit();
        assert_eq!(node.applied.last(), l.commit(), "{id}: commits are announced");
        if log_changed {
            let others = nodes.iter().filter(|(other, _)| **other != id);
            for (other, o) in others.filter_map(|(other, n)| Some((other, n.ledger.as_ref()?))) {
                log_matching((id, l), (*other, o));
            }
        }
    }
}

/// Two logs that agree on ballot at one index are equal in everything before.
fn log_matching(a: (MemberId, &Ledger), b: (MemberId, &Ledger)) {
    let mut index = a.1.last_index().min(b.1.last_index());
    let mut met = false;
    while let (Some(x), Some(y)) = (a.1.entry(index), b.1.entry(index)) {
        met |= x.ballot == y.ballot;
        assert!(!met || x == y, "log matching: {} and {} differ at {index}", a.0, b.0);
        index = index.prev();
    }
}

pub(crate) fn show_record(r: &LedgerRecord) -> String {
    match r {
        LedgerRecord::HardState(h) => {
            let vote = h.voted_for.map_or("nobody".to_owned(), |v| v.to_string());
            format!("write ballot {} vote {vote}", h.ballot)
        }
        LedgerRecord::Entries(e) => {
            let show = |e: &Entry| {
                let what = match &e.payload {
                    Payload::Noop => "noop".to_owned(),
                    Payload::Batch(_) => "batch".to_owned(),
                    Payload::Configuration(c) => {
                        let list = |m: Vec<&MemberId>| {
                            m.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
                        };
                        let learners = match list(c.learners.keys().collect()) {
                            none if none.is_empty() => none,
                            some => format!(" learners {some}"),
                        };
                        format!("voters {}{learners}", list(c.voters.keys().collect()))
                    }
                };
                format!("[{}@{} {what}]", e.index, e.ballot)
            };
            format!("write {}", e.iter().map(show).collect::<Vec<_>>().join(" "))
        }
        LedgerRecord::Snapshot(s) => format!("write snapshot {}@{}", s.last_index, s.last_ballot),
    }
}
