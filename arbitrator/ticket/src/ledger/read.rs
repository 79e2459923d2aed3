//! Reads that see everything decided before they were asked (ReadIndex), without a leader lease.
//!
//! The leader notes the commit index, asks everybody in a new round whether it still leads, and
//! answers when a majority has answered that round or a later one. Had another leader been elected
//! before the read was asked, a majority would have left this ballot, and this one would not find
//! a majority still in it. No clock takes part.

use super::message::Round;
use super::{Ledger, LedgerEffect, NotLeader, State};
use crate::ids::LogIndex;
use crate::limits::MAX_PENDING_COMMANDS;
use crate::planted::{Bug, is_planted};
use crate::quorum;
use crate::time::VoterTime;

#[derive(Clone, Debug)]
pub(super) struct PendingRead {
    pub(super) context: u64,
    pub(super) round: Round,
    pub(super) index: LogIndex,
}

impl Ledger {
    /// Asks for a read; `ReadReady` or `ReadFailed` with the same context follows.
    pub fn read(&mut self, now: VoterTime, context: u64) -> Result<(), NotLeader> {
        self.begin(now);
        let State::Leader(l) = &mut self.state else {
            return Err(NotLeader { leader: self.leader });
        };
        if l.reads.len() >= MAX_PENDING_COMMANDS {
            self.effects.push_back(LedgerEffect::ReadFailed { context });
            return Ok(());
        }
        l.round = Round(l.round.0 + 1);
        // Before the first entry of its ballot is final a leader does not know what else is.
        let index = self.commit.max(l.noop);
        l.reads.push_back(PendingRead { context, round: l.round, index });
        self.attended().into_iter().for_each(|to| self.send_heartbeat(to));
        self.settle_reads();
        self.finish();
        Ok(())
    }

    /// Answers the reads whose round a majority has answered.
    pub(super) fn settle_reads(&mut self) {
        let State::Leader(l) = &mut self.state else { return };
        if l.reads.is_empty() {
            return;
        }
        let voters = self.log.configuration().0.voter_ids();
        let confirmed = quorum::reached_by_majority(&voters, |m| {
            let own = (m == self.settings.me).then_some(l.round);
            own.or_else(|| l.progress.get(&m).and_then(|p| p.round))
        });
        let alone = is_planted(Bug::ReadAtOnce).then_some(l.round);
        let confirmed = confirmed.max(alone);
        let Some(confirmed) = confirmed else { return };
        let commit = self.commit;
        while let Some(r) = l.reads.pop_front_if(|r| r.round <= confirmed && r.index <= commit) {
            let PendingRead { context, index, .. } = r;
            self.effects.push_back(LedgerEffect::ReadReady { context, index });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::ids::MemberId;

    fn reads(effects: &[LedgerEffect]) -> Vec<LedgerEffect> {
        let read = |e: &&LedgerEffect| {
            matches!(e, LedgerEffect::ReadReady { .. } | LedgerEffect::ReadFailed { .. })
        };
        effects.iter().filter(read).cloned().collect()
    }

    #[test]
    fn a_read_waits_for_a_majority_that_answered_after_it() {
        let mut l = leader_of_three();
        sync(&mut l, 201);
        l.receive(at(202), MemberId(2), matched(1, 2, 0));
        l.read(at(203), 77).unwrap();
        assert_eq!(reads(&drain(&mut l)), []);
        l.receive(at(204), MemberId(3), matched(1, 2, 0));
        assert_eq!(reads(&drain(&mut l)), [], "an answer to what was asked before the read");
        l.receive(at(205), MemberId(3), matched(1, 2, 1));
        let ready = LedgerEffect::ReadReady { context: 77, index: LogIndex(2) };
        assert_eq!(reads(&drain(&mut l)), [ready]);
    }

    #[test]
    fn a_new_leader_does_not_answer_before_its_first_entry_is_final() {
        let mut l = leader_of_three();
        l.read(at(201), 1).unwrap();
        l.receive(at(202), MemberId(2), matched(1, 1, 1));
        assert_eq!(reads(&drain(&mut l)), []);
        sync(&mut l, 203);
        l.receive(at(204), MemberId(2), matched(1, 2, 1));
        let ready = LedgerEffect::ReadReady { context: 1, index: LogIndex(2) };
        assert_eq!(reads(&drain(&mut l)), [ready]);
    }

    #[test]
    fn reads_fail_with_the_leadership() {
        let mut l = leader_of_three();
        l.read(at(201), 1).unwrap();
        drain(&mut l);
        l.receive(at(202), MemberId(2), append(2, (1, 0), &[], 1));
        assert_eq!(reads(&drain(&mut l)), [LedgerEffect::ReadFailed { context: 1 }]);
        assert_eq!(l.read(at(203), 2), Err(NotLeader { leader: Some(MemberId(2)) }));
    }
}
