//! The follower's side: the log comes in.
//!
//! An append is taken only when the entry before it is the leader's; then what differs after it is
//! replaced. That a committed entry would be replaced cannot happen between working members; a
//! message that asks for it is refused and raised as an alarm, for one of the two is broken.

use std::sync::Arc;

use super::durable::{LedgerRecord, Snapshot};
use super::message::{Append, AppendOutcome, LedgerMessage, Round, SnapshotPart};
use super::{Ledger, LedgerEffect, State};
use crate::entry::Entry;
use crate::ids::{Ballot, ConfigIndex, LogIndex, MemberId};
use crate::planted::{Bug, is_planted};

/// A snapshot of which not all parts have come. Bounded by the check of each part.
#[derive(Clone, Debug)]
pub(super) struct Incoming {
    pub(super) identity: (MemberId, Ballot, LogIndex, Ballot, u64),
    pub(super) bytes: Vec<u8>,
}

impl Incoming {
    /// Last entry that it will cover.
    pub(super) fn last_index(&self) -> LogIndex {
        self.identity.2
    }
}

/// Why entries were not taken.
enum Refusal {
    /// The logs meet further back, at the hint or before.
    Missing(LogIndex),
    /// This entry is committed here and another one there.
    Contradiction(LogIndex),
}

impl Ledger {
    /// Whether a message from a leader is to be heard; if so, it is the leader.
    fn hear_leader(&mut self, from: MemberId, ballot: Ballot, round: Round) -> bool {
        if ballot < self.hard.ballot {
            let ballot = self.hard.ballot;
            let outcome = AppendOutcome::Stale;
            self.send_sworn(from, LedgerMessage::AppendReply { ballot, round, outcome });
            return false;
        }
        if ballot > self.hard.ballot {
            self.adopt(ballot);
        }
        if let Some(other) = self.leader.filter(|l| *l != from) {
            self.alarm(format!(
                "members {other} and {from} both lead in ballot {ballot}; the second is refused"
            ));
            return false;
        }
        self.state = State::Follower;
        self.leader = Some(from);
        self.leader_heard = Some(self.now);
        self.restart_election_timer();
        true
    }

    pub(super) fn on_append(&mut self, from: MemberId, append: Append) {
        let Append { prev_index, prev_ballot, entries, commit, round, .. } = append;
        if !self.hear_leader(from, append.ballot, round) {
            return;
        }
        let outcome = match self.take_entries((prev_index, prev_ballot), entries) {
            Ok(upto) => {
                self.commit_to(commit.min(upto).max(self.commit));
                AppendOutcome::Matched(upto)
            }
            Err(Refusal::Missing(hint)) => AppendOutcome::Missing { prev_index, hint },
            Err(Refusal::Contradiction(index)) => {
                return self.alarm(format!(
                    "leader {from} has another entry {index} than the one committed here; \
                     its append was refused"
                ));
            }
        };
        let ballot = self.hard.ballot;
        self.send_sworn(from, LedgerMessage::AppendReply { ballot, round, outcome });
    }

    /// Makes the log agree with the leader's; the index up to which it now does.
    fn take_entries(
        &mut self,
        prev: (LogIndex, Ballot),
        mut entries: Vec<Entry>,
    ) -> Result<LogIndex, Refusal> {
        let last = self.log.last_index();
        if prev.0 > last {
            return Err(Refusal::Missing(last));
        }
        // Before the base everything is committed, so it agrees; what is kept can be compared.
        let differs = self.log.ballot_at(prev.0).is_some_and(|b| b != prev.1);
        if differs && !is_planted(Bug::GapAppended) {
            return Err(if prev.0 <= self.commit {
                Refusal::Contradiction(prev.0)
            } else {
                Refusal::Missing(self.log.hint(prev.0, self.commit))
            });
        }
        let upto = entries.last().map_or(prev.0, |e| e.index);
        let known =
            |e: &Entry| e.index < self.log.base() || self.log.ballot_at(e.index) == Some(e.ballot);
        let Some(first_new) = entries.iter().position(|e| !known(e)) else { return Ok(upto) };
        let fresh = entries.split_off(first_new);
        let from = fresh[0].index;
        if from <= self.commit {
            return Err(Refusal::Contradiction(from));
        }
        if from <= last {
            self.truncate(from);
        }
        for e in &fresh {
            self.wall_ms = self.wall_ms.max(e.wall_ms);
            self.log.append(e.clone());
        }
        self.save_hard();
        self.persist(LedgerRecord::Entries(fresh), upto);
        Ok(upto)
    }

    fn truncate(&mut self, from: LogIndex) {
        assert!(from > self.commit, "a committed entry is never truncated");
        self.log.truncate(from);
        self.durable_at_most(from.prev());
    }

    /// The log after `index` is another one than the journal's records were about.
    fn durable_at_most(&mut self, index: LogIndex) {
        self.durability.index = self.durability.index.min(index);
        self.durability.pending.iter_mut().for_each(|(_, covers)| *covers = (*covers).min(index));
    }

    pub(super) fn on_snapshot_part(&mut self, from: MemberId, part: SnapshotPart) {
        let (ballot, round, last_index) = (part.ballot, part.round, part.last_index);
        if !self.hear_leader(from, ballot, round) {
            return;
        }
        let here = self.log.ballot_at(last_index);
        if here.is_some_and(|b| b != part.last_ballot) && last_index <= self.commit {
            return self.alarm(format!(
                "leader {from} has another entry {last_index} than the one committed here; \
                 its snapshot was refused"
            ));
        }
        // What the snapshot covers is here already: it is committed, and no state is needed.
        if last_index <= self.commit || here == Some(part.last_ballot) {
            self.commit_to(last_index.max(self.commit));
            return self.answer_matched(from, round, last_index);
        }
        let identity = (from, ballot, last_index, part.last_ballot, part.total);
        let mut incoming = match self.incoming.take() {
            Some(i) if i.identity == identity => i,
            _ => Incoming { identity, bytes: Vec::new() },
        };
        let offset = incoming.bytes.len() as u64;
        if part.offset == offset {
            incoming.bytes.extend_from_slice(&part.bytes);
        }
        let offset = incoming.bytes.len() as u64;
        if offset < part.total || part.offset > offset {
            self.incoming = Some(incoming);
            let reply = LedgerMessage::SnapshotReply { ballot, round, last_index, offset };
            return self.send_sworn(from, reply);
        }
        self.install(Snapshot {
            last_index,
            last_ballot: part.last_ballot,
            configuration: part.configuration,
            config_index: part.config_index,
            state: incoming.bytes,
        });
        self.answer_matched(from, round, last_index);
    }

    fn answer_matched(&mut self, to: MemberId, round: Round, index: LogIndex) {
        let (ballot, outcome) = (self.hard.ballot, AppendOutcome::Matched(index));
        self.send_sworn(to, LedgerMessage::AppendReply { ballot, round, outcome });
    }

    fn install(&mut self, snapshot: Snapshot) {
        assert!(snapshot.last_index > self.commit, "a snapshot takes nothing back");
        self.save_hard();
        let covers = snapshot.last_index;
        self.log.install(Arc::new(snapshot.clone()));
        self.durable_at_most(LogIndex(0));
        self.persist(LedgerRecord::Snapshot(snapshot.clone()), covers);
        self.commit = covers;
        if snapshot.config_index > ConfigIndex(1) {
            self.voters_changed_at = Some(self.now);
        }
        self.effects.push_back(LedgerEffect::InstallSnapshot(snapshot));
    }
}

#[cfg(test)]
mod tests {
    use super::super::LedgerDurable;
    use super::super::testing::*;
    use super::*;

    fn shape(l: &Ledger) -> Vec<(u64, u64)> {
        l.entries_between(LogIndex(1), l.last_index()).map(|e| (e.index.0, e.ballot.0)).collect()
    }

    #[test]
    fn what_differs_is_replaced_and_what_agrees_stays() {
        let mut l = ledger(3);
        l.receive(at(1), MemberId(2), append(1, (1, 0), &[(2, 1), (3, 1), (4, 1)], 2));
        l.receive(at(2), MemberId(3), append(2, (2, 1), &[(3, 2)], 2));
        assert_eq!(shape(&l), [(1, 0), (2, 1), (3, 2)]);
        // The same and an older message once more: nothing changes, nothing is written.
        drain(&mut l);
        l.receive(at(3), MemberId(3), append(2, (2, 1), &[(3, 2)], 2));
        l.receive(at(3), MemberId(3), append(2, (1, 0), &[(2, 1)], 2));
        let effects = drain(&mut l);
        assert!(!effects.iter().any(|e| matches!(e, LedgerEffect::Persist(_))), "{effects:?}");
        assert_eq!(shape(&l), [(1, 0), (2, 1), (3, 2)]);
        let answers = ["3: matched 3 ballot 2 round 1", "3: matched 2 ballot 2 round 1"];
        assert_eq!(sent(&effects), answers);
    }

    #[test]
    fn entries_that_were_truncated_before_their_write_do_not_count_as_durable() {
        let mut l = ledger(3);
        l.receive(at(1), MemberId(2), append(1, (1, 0), &[(2, 1), (3, 1), (4, 1)], 1));
        let first = l.durability.emitted;
        l.receive(at(2), MemberId(3), append(2, (2, 1), &[(3, 2), (4, 2)], 1));
        l.persisted(at(3), first);
        assert_eq!(l.durability.index, LogIndex(2));
        sync(&mut l, 4);
        assert_eq!(l.durability.index, LogIndex(4));
        drain(&mut l);
    }

    #[test]
    fn a_gap_is_refused_with_a_hint() {
        let mut l = ledger(3);
        l.receive(at(1), MemberId(2), append(1, (7, 1), &[(8, 1)], 8));
        assert_eq!(sent(&drain(&mut l)), ["2: missing 7 try 1 ballot 1 round 1"]);
        assert_eq!(l.commit(), LogIndex(1), "a commit index beyond what agrees is not taken");
    }

    #[test]
    fn only_what_agrees_with_the_leader_is_committed() {
        let mut l = ledger(3);
        l.receive(at(1), MemberId(2), append(1, (1, 0), &[(2, 1), (3, 1)], 1));
        l.receive(at(2), MemberId(3), append(2, (2, 1), &[], 3));
        assert_eq!(l.commit(), LogIndex(2), "entry 3 here is not the leader's entry 3");
        drain(&mut l);
    }

    #[test]
    fn a_message_that_would_replace_a_committed_entry_is_an_alarm() {
        for bad in [
            append(2, (1, 0), &[(2, 2)], 1),
            append(2, (2, 2), &[], 1),
            append(2, (0, 0), &[(1, 1), (2, 2)], 1),
        ] {
            let mut l = ledger(3);
            l.receive(at(1), MemberId(2), append(1, (1, 0), &[(2, 1)], 2));
            drain(&mut l);
            l.receive(at(2), MemberId(3), bad);
            let effects = drain(&mut l);
            assert!(effects.iter().any(|e| matches!(e, LedgerEffect::Alarm(_))), "{effects:?}");
            assert!(sent(&effects).is_empty());
            assert_eq!(shape(&l), [(1, 0), (2, 1)]);
        }
    }

    #[test]
    fn two_leaders_of_one_ballot_are_an_alarm() {
        let mut l = ledger(3);
        l.receive(at(1), MemberId(2), append(1, (1, 0), &[(2, 1)], 1));
        drain(&mut l);
        l.receive(at(2), MemberId(3), append(1, (1, 0), &[], 1));
        assert!(matches!(drain(&mut l)[..], [LedgerEffect::Alarm(_)]));
        let mut l = leader_of_three();
        drain(&mut l);
        l.receive(at(201), MemberId(3), append(1, (1, 0), &[], 1));
        assert!(matches!(drain(&mut l)[..], [LedgerEffect::Alarm(_)]));
    }

    #[test]
    fn a_configuration_is_in_force_when_appended_and_gone_when_truncated() {
        let mut l = ledger(3);
        let LedgerMessage::Append(mut a) = append(1, (1, 0), &[(2, 1)], 1) else { unreachable!() };
        a.entries[0].payload = crate::entry::Payload::Configuration(Box::new(configuration(4)));
        l.receive(at(1), MemberId(2), LedgerMessage::Append(a));
        assert_eq!(l.configuration().1, ConfigIndex(2));
        assert_eq!(l.committed_configuration().1, ConfigIndex(1));
        l.receive(at(2), MemberId(3), append(2, (1, 0), &[(2, 2)], 1));
        assert_eq!(l.configuration(), (&configuration(3), ConfigIndex(1)));
        drain(&mut l);
    }

    fn part(offset: u64, bytes: &[u8]) -> LedgerMessage {
        LedgerMessage::SnapshotPart(Box::new(SnapshotPart {
            ballot: Ballot(4),
            round: Round(9),
            last_index: LogIndex(50),
            last_ballot: Ballot(3),
            configuration: configuration(5),
            config_index: ConfigIndex(20),
            offset,
            total: 6,
            bytes: bytes.to_vec(),
        }))
    }

    #[test]
    fn a_snapshot_is_put_together_from_parts_in_any_order_of_arrival() {
        let mut l = Ledger::new(settings(1), LedgerDurable::default(), at(0));
        assert!(l.configuration().0.voters.is_empty());
        l.receive(at(1), MemberId(2), part(3, &[3, 4, 5]));
        l.receive(at(1), MemberId(2), part(0, &[0, 1, 2]));
        l.receive(at(1), MemberId(2), part(0, &[0, 1, 2]));
        let wants = ["2: snapshot 50 wants byte 0", "2: snapshot 50 wants byte 3"];
        let effects = drain(&mut l);
        assert_eq!(sent(&effects), [wants[0], wants[1], wants[1]]);
        l.receive(at(2), MemberId(2), part(3, &[3, 4, 5]));
        let effects = drain(&mut l);
        assert_eq!(sent(&effects), ["2: matched 50 ballot 4 round 9"]);
        let installed = effects.iter().find_map(|e| match e {
            LedgerEffect::InstallSnapshot(s) => Some(s.state.clone()),
            _ => None,
        });
        assert_eq!(installed, Some(vec![0, 1, 2, 3, 4, 5]));
        assert_eq!((l.commit(), l.configuration().1), (LogIndex(50), ConfigIndex(20)));
        l.receive(at(3), MemberId(2), part(0, &[0, 1, 2]));
        assert_eq!(sent(&drain(&mut l)), ["2: matched 50 ballot 4 round 9"], "already there");
    }

    #[test]
    fn a_snapshot_that_the_log_has_overtaken_is_not_waited_for() {
        let mut l = ledger(3);
        let of: Vec<_> = (2..=60).map(|i| (i, 1)).collect();
        l.receive(at(1), MemberId(2), append(1, (1, 0), &of, 1));
        l.receive(at(2), MemberId(2), part(0, &[0, 1, 2]));
        assert!(l.incoming.is_some());
        l.receive(at(3), MemberId(2), append(4, (60, 1), &[], 49));
        assert!(l.incoming.is_some(), "it ends at 50");
        l.receive(at(4), MemberId(2), append(4, (60, 1), &[], 50));
        assert!(l.incoming.is_none());
        drain(&mut l);
    }
}
