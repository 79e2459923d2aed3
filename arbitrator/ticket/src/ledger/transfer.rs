//! Handing the leadership over, so that a planned stop costs no election silence.
//!
//! The leader stops taking decisions, brings the heir's log to its own end and asks it to campaign
//! at once. It is an effort, not a promise: after one longest silence the leader goes on as before.

use super::message::LedgerMessage;
use super::{Ledger, State};
use crate::ids::{Ballot, MemberId};
use crate::time::VoterTime;

#[derive(Clone, Debug)]
pub(super) struct Transfer {
    pub(super) to: MemberId,
    pub(super) until: VoterTime,
    pub(super) asked: bool,
}

impl Ledger {
    /// Hands the leadership to a voter; does nothing at a member that does not lead.
    pub fn transfer_to(&mut self, now: VoterTime, to: MemberId) {
        self.begin(now);
        let fit = to != self.settings.me && self.log.configuration().0.is_voter(to);
        let until = self.now + self.settings.election_max;
        if let State::Leader(l) = &mut self.state
            && fit
        {
            l.transfer = Some(Transfer { to, until, asked: false });
            self.send_log(to);
            self.try_transfer();
        }
        self.finish();
    }

    /// Asks the heir once its log is complete.
    pub(super) fn try_transfer(&mut self) {
        let (ballot, last) = (self.hard.ballot, self.log.last_index());
        let State::Leader(l) = &mut self.state else { return };
        let Some(t) = l.transfer.as_mut().filter(|t| !t.asked) else { return };
        if l.progress.get(&t.to).is_some_and(|p| p.matched == last) {
            t.asked = true;
            let to = t.to;
            self.send(to, LedgerMessage::TimeoutNow { ballot });
        }
    }

    pub(super) fn on_timeout_now(&mut self, from: MemberId, ballot: Ballot) {
        let asked_by_leader = ballot == self.hard.ballot && self.leader == Some(from);
        if asked_by_leader && self.may_campaign() {
            self.campaign(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::LedgerRole;
    use super::super::testing::*;
    use super::*;

    #[test]
    fn the_heir_is_asked_once_its_log_is_complete() {
        let mut l = leader_of_three();
        sync(&mut l, 200);
        each([2, 3], |m| l.receive(at(201), MemberId(m), matched(1, 2, 0)));
        l.propose(at(202), 0, vec![]).unwrap();
        l.transfer_to(at(203), MemberId(3));
        assert!(!sent(&drain(&mut l)).iter().any(|s| s.contains("campaign now")));
        assert!(l.propose(at(204), 0, vec![]).is_err(), "no decisions while handing over");
        l.receive(at(205), MemberId(3), matched(1, 3, 0));
        assert!(sent(&drain(&mut l)).contains(&"3: campaign now, ballot is 1".to_owned()));
        l.receive(at(206), MemberId(2), matched(1, 3, 0));
        l.receive(at(300), MemberId(2), matched(1, 3, 0));
        l.tick(at(403));
        assert!(l.propose(at(403), 0, vec![]).is_ok(), "the heir did not come: on as before");
        drain(&mut l);
    }

    #[test]
    fn one_that_is_asked_by_its_leader_campaigns_at_once_and_no_one_else_may_ask() {
        let mut l = ledger(3);
        l.receive(at(1), MemberId(2), append(1, (1, 0), &[(2, 1)], 2));
        l.receive(at(2), MemberId(3), LedgerMessage::TimeoutNow { ballot: Ballot(1) });
        assert_eq!(l.role(), LedgerRole::Follower);
        drain(&mut l);
        l.receive(at(3), MemberId(2), LedgerMessage::TimeoutNow { ballot: Ballot(1) });
        assert_eq!(l.role(), LedgerRole::Candidate);
        let ask = [2, 3].map(|to| format!("{to}: vote? ballot 2 log 2@1 transfer"));
        assert_eq!(sent(&drain(&mut l)), ask);
    }
}
