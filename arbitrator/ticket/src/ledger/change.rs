//! New entries: proposals, and changes of the configuration (R11).
//!
//! Voters change one at a time, so that any majority before a change and any after it share a
//! voter. For that to hold over several changes, each waits until the last is committed and an
//! entry of the leader's own ballot is committed: else two leaders could each take a step from the
//! same configuration in different directions. The time T after each change of voters is there for
//! the promises: a lease counted over the old voters must have ended before the voters change
//! again. Learners, addresses and timing may change without it.

use std::time::Duration;

use super::durable::LedgerRecord;
use super::{Ledger, State};
use crate::configuration::{Configuration, ConfigurationError};
use crate::entry::{Entry, Op, Payload};
use crate::ids::{ConfigIndex, LogIndex, MemberId};
use crate::limits::MAX_PENDING_COMMANDS;
use crate::planted::{Bug, is_planted};
use crate::time::VoterTime;

/// Nothing can be decided here now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this member takes no decisions now (leader: {leader:?}); nothing was changed; ask the leader, or again when there is one"
)]
pub struct NotLeader {
    /// Whom to ask instead; `None` while there is nobody, while the leadership is being handed
    /// over, and while too many entries wait for a majority.
    pub leader: Option<MemberId>,
}

/// Why a configuration was not proposed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeRefused {
    /// Only a leader changes it.
    #[error(transparent)]
    NotLeader(#[from] NotLeader),
    /// The last change is not final yet.
    #[error(
        "the configuration of entry {0} is not committed yet (R11); nothing was changed; wait for it"
    )]
    Uncommitted(ConfigIndex),
    /// This leader has not committed anything yet.
    #[error(
        "the leader has no committed entry of its own ballot yet (R11); nothing was changed; ask again in a moment"
    )]
    NewLeader,
    /// Promises counted over the former voters may still be running.
    #[error(
        "voters changed less than the promise time ago (R11); nothing was changed; ask again in {wait:?}"
    )]
    TooSoon {
        /// Time left.
        wait: Duration,
    },
    /// It may not follow the present one.
    #[error(transparent)]
    Invalid(#[from] ConfigurationError),
}

impl Ledger {
    /// Appends decisions; `wall_ms` is for people. The index is final once a `Commit` covers it
    /// and the entry there still has this ballot.
    pub fn propose(
        &mut self,
        now: VoterTime,
        wall_ms: u64,
        payload: Vec<Op>,
    ) -> Result<LogIndex, NotLeader> {
        self.begin(now);
        self.takes_decisions()?;
        self.wall_ms = self.wall_ms.max(wall_ms);
        let index = self.append_own(wall_ms, Payload::Batch(payload));
        self.finish();
        Ok(index)
    }

    /// Appends a configuration; it is in force from here on.
    pub fn propose_configuration(
        &mut self,
        now: VoterTime,
        wall_ms: u64,
        next: Configuration,
    ) -> Result<LogIndex, ChangeRefused> {
        self.begin(now);
        self.takes_decisions()?;
        self.change_allowed(&next)?;
        self.wall_ms = self.wall_ms.max(wall_ms);
        let index = self.append_own(wall_ms, Payload::Configuration(Box::new(next)));
        self.attend_members();
        self.replicate();
        self.finish();
        Ok(index)
    }

    /// R11, against the newest configuration in the log.
    fn change_allowed(&self, next: &Configuration) -> Result<(), ChangeRefused> {
        let (present, index) = self.log.configuration();
        if index.0 > self.commit.0 && !is_planted(Bug::TwoChangesOpen) {
            return Err(ChangeRefused::Uncommitted(index));
        }
        if self.log.ballot_at(self.commit) != Some(self.hard.ballot) {
            return Err(ChangeRefused::NewLeader);
        }
        present.check_successor(next)?;
        if present.voter_ids() != next.voter_ids()
            && let Some(changed) = self.voters_changed_at
        {
            let wait = self.settings.change_wait.saturating_sub(self.now.since(changed));
            if !wait.is_zero() && !is_planted(Bug::VotersChangeAtOnce) {
                return Err(ChangeRefused::TooSoon { wait });
            }
        }
        Ok(())
    }

    fn takes_decisions(&self) -> Result<(), NotLeader> {
        let State::Leader(l) = &self.state else { return Err(NotLeader { leader: self.leader }) };
        let waiting = self.log.last_index().0 - self.commit.0;
        if l.transfer.is_some() || waiting >= MAX_PENDING_COMMANDS as u64 {
            return Err(NotLeader { leader: None });
        }
        Ok(())
    }

    /// The first entry of a ballot: it makes everything before it final (R7).
    pub(super) fn append_noop(&mut self) {
        self.append_own(self.wall_ms, Payload::Noop);
    }

    fn append_own(&mut self, wall_ms: u64, payload: Payload) -> LogIndex {
        let index = self.log.last_index().next();
        let entry = Entry { index, ballot: self.hard.ballot, wall_ms, payload };
        self.log.append(entry.clone());
        self.save_hard();
        self.persist(LedgerRecord::Entries(vec![entry]), index);
        self.replicate();
        index
    }

    fn replicate(&mut self) {
        self.attended().into_iter().for_each(|to| self.send_log(to));
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::configuration::{MemberInfo, Role};
    use crate::ids::StoreId;

    fn with_voter(c: &Configuration, id: u32) -> Configuration {
        let mut next = c.clone();
        let info = MemberInfo {
            name: format!("m{id}").parse().unwrap(),
            role: Role::Arbitrator,
            store: StoreId([id as u8; 16]),
            addresses: vec![],
        };
        next.voters.insert(MemberId(id), info);
        next.next_member = MemberId(next.next_member.0.max(id + 1));
        next
    }

    #[test]
    fn only_a_leader_takes_decisions_and_others_name_it() {
        let mut l = ledger(3);
        assert_eq!(l.propose(at(1), 0, vec![]), Err(NotLeader { leader: None }));
        l.receive(at(2), MemberId(2), append(1, (1, 0), &[], 1));
        let named = NotLeader { leader: Some(MemberId(2)) };
        assert_eq!(l.propose(at(2), 0, vec![]), Err(named));
        let c = l.configuration().0.clone();
        let refused = l.propose_configuration(at(2), 0, c);
        assert_eq!(refused, Err(ChangeRefused::NotLeader(named)));
        drain(&mut l);
    }

    #[test]
    fn voters_change_one_at_a_time_each_after_its_wait() {
        let mut l = leader_of_three();
        sync(&mut l, 200);
        let three = l.configuration().0.clone();
        let (four, five) = (with_voter(&three, 4), with_voter(&with_voter(&three, 4), 5));
        let early = l.propose_configuration(at(201), 0, four.clone());
        assert_eq!(early, Err(ChangeRefused::NewLeader));
        each([2, 3], |m| l.receive(at(202), MemberId(m), matched(1, 2, 0)));
        let two = l.propose_configuration(at(203), 0, five.clone());
        assert!(matches!(two, Err(ChangeRefused::Invalid(ConfigurationError::MoreThanOne(2)))));
        assert_eq!(l.propose_configuration(at(203), 0, four), Ok(LogIndex(3)));
        assert_eq!(l.configuration().0.voters.len(), 4, "in force from the append on");
        let open = l.propose_configuration(at(204), 0, five.clone());
        assert_eq!(open, Err(ChangeRefused::Uncommitted(ConfigIndex(3))));
        sync(&mut l, 204);
        each([2, 3], |m| l.receive(at(205), MemberId(m), matched(1, 3, 0)));
        assert_eq!(l.commit(), LogIndex(3));
        let soon = l.propose_configuration(at(305), 0, five.clone());
        assert_eq!(soon, Err(ChangeRefused::TooSoon { wait: ms(400) }));
        let mut timing = l.configuration().0.clone();
        timing.digest = [9; 16];
        assert_eq!(l.propose_configuration(at(306), 0, timing.clone()), Ok(LogIndex(4)));
        sync(&mut l, 306);
        each([2, 3], |m| l.receive(at(307), MemberId(m), matched(1, 4, 0)));
        let five = Configuration { digest: timing.digest, ..five };
        l.set_change_wait(ms(600)); // a longer T is waited for, too
        let soon = l.propose_configuration(at(705), 0, five.clone());
        assert_eq!(soon, Err(ChangeRefused::TooSoon { wait: ms(100) }));
        assert_eq!(l.propose_configuration(at(805), 0, five), Ok(LogIndex(5)));
        drain(&mut l);
    }

    #[test]
    #[cfg_attr(miri, ignore = "the bound is thousands of decisions, each with its invariants")]
    fn a_leader_without_answers_stops_taking_decisions_at_the_bound() {
        let mut l = leader_of_three();
        let taken = (0..5_000).take_while(|_| l.propose(at(201), 0, vec![]).is_ok()).count();
        assert_eq!(taken, MAX_PENDING_COMMANDS - 1, "and the first entry of the ballot");
        drain(&mut l);
    }
}
