//! What has become final, and what may be forgotten.
//!
//! An entry is committed when a majority of the newest configuration holds it durably and it is of
//! the leader's own ballot; everything before it is committed with it. Followers learn it at once.

use std::sync::Arc;

use super::durable::{LedgerRecord, Snapshot};
use super::message::LedgerMessage;
use super::progress::Mode;
use super::{Ledger, LedgerEffect, State};
use crate::ids::{LogIndex, MemberId};
use crate::planted::{Bug, is_planted};
use crate::quorum;
use crate::time::VoterTime;

impl Ledger {
    /// The leader looks whether more has become final.
    pub(super) fn advance_commit(&mut self) {
        let State::Leader(l) = &self.state else { return };
        let voters = self.log.configuration().0.voter_ids();
        let reached = quorum::reached_by_majority(&voters, |m| {
            let own = (m == self.settings.me).then_some(self.durability.index);
            own.or_else(|| l.progress.get(&m).map(|p| p.matched))
        });
        let alone = is_planted(Bug::LeaderAloneCommits).then_some(self.durability.index);
        let Some(upto) = reached.max(alone).filter(|i| *i > self.commit) else { return };
        let counted = is_planted(Bug::OlderBallotCounted);
        if self.log.ballot_at(upto) != Some(self.hard.ballot) && !counted {
            return; // Of an older ballot: it becomes final with one of this ballot, not by count.
        }
        self.commit_to(upto);
        for to in self.attended() {
            self.send_log(to);
            self.tell_commit(to);
        }
        self.attend_members();
        self.settle_reads();
        self.leave_if_removed();
    }

    /// Has the journal remember how much is final, and not only as a hint: something else that is
    /// written now rests on it.
    pub fn note_commit(&mut self, now: VoterTime) {
        self.begin(now);
        self.hard_dirty |= self.hard.commit < self.commit;
        self.finish();
    }

    pub(super) fn commit_to(&mut self, upto: LogIndex) {
        assert!(upto >= self.commit, "the commit index never falls");
        assert!(upto <= self.log.last_index(), "committed entries are there");
        if upto == self.commit {
            return;
        }
        let mut changes = self.log.configurations_between(self.commit, upto);
        if changes.any(|(old, new)| !old.voters.is_empty() && old.voter_ids() != new.voter_ids()) {
            self.voters_changed_at = Some(self.now);
        }
        self.commit = upto;
        self.incoming.take_if(|i| i.last_index() <= upto);
        self.effects.push_back(LedgerEffect::Commit { upto });
    }

    /// A follower that keeps up learns the commit index now, not with the next heartbeat.
    pub(super) fn tell_commit(&mut self, to: MemberId) {
        let State::Leader(l) = &self.state else { return };
        let Some(p) = l.progress.get(&to) else { return };
        if p.commit_told < self.commit && matches!(p.mode, Mode::Stream { .. }) {
            self.send_heartbeat(to);
        }
    }

    /// A leader that has been removed leads until its removal is final, then asks the voter that
    /// has most of the log to campaign.
    fn leave_if_removed(&mut self) {
        let (configuration, index) = self.log.configuration();
        if index.0 > self.commit.0 || configuration.is_voter(self.settings.me) {
            return;
        }
        let State::Leader(l) = &self.state else { return };
        let voters = l.progress.iter().filter(|(m, _)| configuration.is_voter(**m));
        let heir: Option<MemberId> = voters.max_by_key(|(_, p)| p.matched).map(|(m, _)| *m);
        if let Some(heir) = heir {
            let ballot = self.hard.ballot;
            self.send(heir, LedgerMessage::TimeoutNow { ballot });
        }
        self.follow_nobody();
    }

    /// Lets `state`, the applied state after `upto`, stand for everything up to there. Does nothing
    /// when a newer snapshot is there already.
    pub fn compact(&mut self, upto: LogIndex, state: Vec<u8>) {
        assert!(upto <= self.commit, "only what is final is applied");
        if upto <= self.log.covered() {
            return;
        }
        let (configuration, config_index) = self.log.configuration_at(upto);
        let snapshot = Snapshot {
            last_index: upto,
            last_ballot: self.log.ballot_at(upto).unwrap_or_default(),
            configuration: configuration.clone(),
            config_index,
            state,
        };
        self.save_hard();
        self.log.compact(Arc::new(snapshot.clone()));
        self.persist(LedgerRecord::Snapshot(snapshot), upto);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::super::{LedgerDurable, LedgerRole};
    use super::*;
    use crate::ids::Ballot;

    #[test]
    fn an_entry_of_an_older_ballot_is_final_only_with_one_of_the_new() {
        let mut l = ledger(3);
        l.receive(at(1), MemberId(2), append(1, (1, 0), &[(2, 1), (3, 1)], 1));
        sync(&mut l, 1);
        l.tick(at(400));
        let reply = LedgerMessage::PreVoteReply { ballot: Ballot(2), granted: true };
        l.receive(at(400), MemberId(3), reply);
        sync(&mut l, 400);
        let reply = LedgerMessage::VoteReply { ballot: Ballot(2), granted: true };
        l.receive(at(400), MemberId(3), reply);
        assert_eq!((l.role(), l.last_index()), (LedgerRole::Leader, LogIndex(4)));
        sync(&mut l, 401);
        l.receive(at(402), MemberId(3), matched(2, 3, 0));
        assert_eq!(l.commit(), LogIndex(1), "a majority holds entry 3, but it is of ballot 1");
        l.receive(at(403), MemberId(3), matched(2, 4, 0));
        assert_eq!(l.commit(), LogIndex(4));
        drain(&mut l);
    }

    #[test]
    fn followers_learn_the_commit_at_once() {
        let mut l = leader_of_three();
        sync(&mut l, 201);
        l.receive(at(202), MemberId(3), matched(1, 1, 0));
        drain(&mut l);
        l.receive(at(203), MemberId(2), matched(1, 2, 0));
        let effects = drain(&mut l);
        assert_eq!(effects[0], LedgerEffect::Commit { upto: LogIndex(2) });
        let lines = [2, 3].map(|to| format!("{to}: append ballot 1 after 2@1 commit 2 round 0"));
        assert_eq!(sent(&effects), lines);
    }

    #[test]
    fn a_snapshot_keeps_a_tail_and_survives_a_restart() {
        let mut l = ledger(3);
        for i in 0..30 {
            let of: Vec<_> = (0..50).map(|k| (2 + 50 * i + k, 1)).collect();
            let prev = (1 + 50 * i, u64::from(i > 0));
            l.receive(at(1), MemberId(2), append(1, prev, &of, 1 + 50 * i));
        }
        let mut durable = LedgerDurable::founding(configuration(3), 0);
        l.compact(LogIndex(1_400), vec![1, 2, 3]);
        for e in drain(&mut l) {
            if let LedgerEffect::Persist(r) = e {
                durable.replay(r).unwrap();
            }
        }
        assert!(l.entry(LogIndex(376)).is_none() && l.entry(LogIndex(377)).is_some());
        let mut again = Ledger::new(settings(1), durable, at(9));
        assert_eq!((again.last_index(), again.snapshot()), (l.last_index(), l.snapshot()));
        let LedgerEffect::InstallSnapshot(s) = drain(&mut again).remove(0) else { panic!() };
        assert_eq!(s.state, [1, 2, 3]);
        let fresh = Ledger::new(settings(1), l.durable(), at(9));
        assert_eq!(fresh.last_index(), l.last_index());
        fresh.invariants();
    }

    #[test]
    fn a_removed_leader_leads_until_its_removal_is_final_and_names_an_heir() {
        let mut l = leader_of_three();
        sync(&mut l, 201);
        each([2, 3], |m| l.receive(at(202), MemberId(m), matched(1, 2, 0)));
        let mut next = l.configuration().0.clone();
        next.voters.remove(&MemberId(1));
        assert_eq!(l.propose_configuration(at(203), 0, next), Ok(LogIndex(3)));
        sync(&mut l, 203);
        l.receive(at(204), MemberId(2), matched(1, 3, 0));
        assert_eq!(
            (l.commit(), l.role()),
            (LogIndex(2), LedgerRole::Leader),
            "two of two are needed"
        );
        drain(&mut l);
        l.receive(at(205), MemberId(3), matched(1, 3, 0));
        assert_eq!((l.commit(), l.role()), (LogIndex(3), LedgerRole::Follower));
        assert!(sent(&drain(&mut l)).contains(&"3: campaign now, ballot is 1".to_owned()));
    }
}
