//! What the future of a ledger depends on, for a model that compares states.
//!
//! Instants are said only as far as they change what a call does, and only by whether their time
//! is up: a leader heard lately, R11's wait, a snapshot's part that is overdue. The instants at which
//! a member would speak by itself are left out: a model lets that happen at any moment. Counts of
//! records are said from the last durable one.

use std::hash::{Hash, Hasher};

use super::follower::Incoming;
use super::leader::Leading;
use super::progress::{Mode, Progress};
use super::{Durability, Ledger, State};
use crate::entry::{Entry, Payload};
use crate::ids::LogIndex;
use crate::time::VoterTime;

impl Ledger {
    /// Everything on which its future depends.
    ///
    /// # Panics
    /// When effects are left: the driver's contract is to drain them after each call.
    pub fn digest(&self, now: VoterTime, into: &mut impl Hasher) {
        let Self {
            settings,
            now: _,
            hard,
            hard_dirty,
            log,
            commit,
            durability,
            state,
            leader,
            announced,
            leader_heard,
            election_at,
            attempt: _, // only makes silences differ
            incoming,
            voters_changed_at,
            wall_ms,
            effects,
        } = self;
        assert!(effects.is_empty(), "effects are drained after each call");
        (settings.me, settings.may_lead, hard_dirty, commit, leader, announced, wall_ms).hash(into);
        (hard.ballot, hard.voted_for, hard.commit).hash(into);
        let heard = |t: VoterTime| now.since(t) < settings.election_min;
        (leader_heard.is_some_and(heard), election_at.is_some()).hash(into);
        let waits = |t: VoterTime| now.since(t) < settings.change_wait;
        voters_changed_at.is_some_and(waits).hash(into);
        (log.covered(), log.base(), log.ballot_at(log.base())).hash(into);
        log.between(LogIndex(0), log.last_index()).for_each(|e| digest_of_entry(e, into));
        durability.digest(into);
        if let Some(Incoming { identity, bytes }) = incoming {
            (identity, bytes).hash(into);
        }
        match state {
            State::Follower => 0_u8.hash(into),
            State::PreCandidate(b) => (1_u8, &b.granted).hash(into),
            State::Candidate(b) => {
                let own = b.own_record.saturating_sub(durability.durable);
                (2_u8, &b.granted, own).hash(into);
            }
            State::Leader(l) => {
                3_u8.hash(into);
                self.digest_of_leading(l, now, into);
            }
        }
    }

    fn digest_of_leading(&self, leading: &Leading, now: VoterTime, into: &mut impl Hasher) {
        let Leading { progress, noop, round, reads, heartbeat_at: _, transfer } = leading;
        (noop, round).hash(into);
        for r in reads {
            (r.context, r.round, r.index).hash(into);
        }
        if let Some(t) = transfer {
            (t.to, t.asked, t.until <= now).hash(into);
        }
        for (id, p) in progress {
            // Whether it was heard lately only says when a leader steps down: at any moment.
            let Progress { matched, next, mode, last_heard: _, round, commit_told } = p;
            (id, matched, next, round, commit_told).hash(into);
            match mode {
                Mode::Probe { asked } => (0_u8, asked).hash(into),
                Mode::Stream { inflight } => (1_u8, inflight).hash(into),
                Mode::Snapshot { snapshot, offset, sent } => {
                    let overdue = now.since(*sent) >= self.settings.election_min;
                    (2_u8, snapshot.last_index, offset, overdue).hash(into);
                }
            }
        }
    }
}

impl Durability {
    fn digest(&self, into: &mut impl Hasher) {
        let Self { emitted, durable, index, pending } = self;
        (emitted - durable, index).hash(into);
        for (n, covers) in pending {
            (n.saturating_sub(*durable), covers).hash(into);
        }
    }
}

/// An entry as bytes: payloads are nested too deep to hash them by hand.
fn digest_of_entry(entry: &Entry, into: &mut impl Hasher) {
    let Entry { index, ballot, wall_ms, payload } = entry;
    (index, ballot, wall_ms).hash(into);
    match payload {
        Payload::Noop => 0_u8.hash(into),
        Payload::Batch(ops) if ops.is_empty() => 1_u8.hash(into),
        other => postcard::to_allocvec(other).unwrap_or_default().hash(into),
    }
}

#[cfg(test)]
mod tests {
    use std::hash::DefaultHasher;

    use super::super::testing::*;
    use super::super::{LedgerDurable, LedgerSettings};
    use super::*;

    fn digest(l: &Ledger, now: u64) -> u64 {
        let mut h = DefaultHasher::new();
        l.digest(at(now), &mut h);
        h.finish()
    }

    #[test]
    fn only_what_changes_the_future_changes_the_digest() {
        let mut l = ledger(3);
        drain(&mut l);
        let other = LedgerSettings { seed: 99, ..settings(1) };
        let mut same = Ledger::new(other, LedgerDurable::founding(configuration(3), 0), at(5_000));
        drain(&mut same);
        assert_eq!(digest(&l, 0), digest(&same, 5_000), "other clocks, other silences");
        l.receive(at(1), crate::ids::MemberId(2), append(1, (1, 0), &[], 1));
        drain(&mut l);
        let heard = digest(&l, 2);
        assert_eq!(heard, digest(&l, 100));
        assert_ne!(heard, digest(&l, 101), "a leader heard lately is a reason to refuse votes");
    }
}
