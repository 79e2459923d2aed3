//! Who leads: silence, PreVote, votes, and stepping down.
//!
//! A member that has not heard a leader for a while first asks whether a campaign would succeed
//! (PreVote); only then does it open a new ballot. So a member that was cut off, or removed without
//! its knowledge, cannot unseat a working leader by counting ballots up. A voter refuses both kinds
//! of question while it has heard a leader within the shortest silence, and a leader refuses them
//! for as long as it leads (it steps down by itself when it loses its majority).
//!
//! A vote is written before it is said. The candidate's own vote counts when it is durable.

use std::collections::BTreeSet;
use std::time::Duration;

use super::leader::Leading;
use super::message::LedgerMessage;
use super::{Ledger, LedgerEffect, State};
use crate::ids::{Ballot, LogIndex, MemberId};
use crate::planted::{Bug, is_planted};
use crate::quorum;

/// Who has said yes in a campaign, or would.
#[derive(Clone, Debug, Default)]
pub(super) struct Ballots {
    pub(super) granted: BTreeSet<MemberId>,
    /// Journal record with the candidate's own vote.
    pub(super) own_record: u64,
}

/// A log's end, in the order in which logs are compared: the later ballot wins, then the longer.
type LogEnd = (Ballot, LogIndex);

impl Ledger {
    /// A fresh silence, different for each member, ballot and attempt.
    pub(super) fn restart_election_timer(&mut self) {
        self.attempt += 1;
        let (min, max) = (self.settings.election_min, self.settings.election_max);
        let spread = u64::try_from(max.saturating_sub(min).as_nanos()).unwrap_or(u64::MAX - 1);
        let words = [u64::from(self.settings.me.0), self.hard.ballot.0, self.attempt];
        let mixed = words.iter().fold(self.settings.seed, |h, w| mix(h ^ w));
        let wait = min + Duration::from_nanos(mixed % (spread + 1));
        self.election_at = Some(self.now + wait);
    }

    /// The silence has lasted too long.
    pub(super) fn leader_lost(&mut self) {
        self.leader = None;
        self.state = State::Follower;
        let me = self.settings.me;
        if !self.may_campaign() {
            self.election_at = None;
            return;
        }
        self.restart_election_timer();
        let ballot = self.hard.ballot;
        self.state = State::PreCandidate(Ballots { granted: [me].into(), own_record: 0 });
        if self.elected() || is_planted(Bug::NoPreVote) {
            return self.campaign(false);
        }
        let (last_ballot, last_index) = self.log_end();
        let message =
            LedgerMessage::PreVote { ballot: Ballot(ballot.0 + 1), last_index, last_ballot };
        self.ask_voters(|ledger, to| ledger.send(to, message.clone()));
    }

    /// Opens a ballot and asks for votes.
    pub(super) fn campaign(&mut self, transfer: bool) {
        let me = self.settings.me;
        let ballot = Ballot(self.hard.ballot.0 + 1);
        self.adopt(ballot);
        self.hard.voted_for = Some(me);
        self.save_hard();
        let own_record = self.durability.emitted;
        self.state = State::Candidate(Ballots { granted: BTreeSet::new(), own_record });
        self.restart_election_timer();
        let (last_ballot, last_index) = self.log_end();
        let message = LedgerMessage::Vote { ballot, last_index, last_ballot, transfer };
        // A request is sworn too: were the ballot forgotten in a crash, it could be opened twice.
        self.ask_voters(|ledger, to| ledger.send_sworn(to, message.clone()));
    }

    /// A voter may, and so may one whose removal is in its log but not known to be final: it can be
    /// the only one with that entry, and nobody could be elected without its help.
    pub(super) fn may_campaign(&self) -> bool {
        let me = self.settings.me;
        let voter = self.configuration().0.is_voter(me);
        self.settings.may_lead && (voter || self.committed_configuration().0.is_voter(me))
    }

    fn ask_voters(&mut self, ask: impl Fn(&mut Self, MemberId)) {
        let mut voters = self.log.configuration().0.voter_ids();
        voters.remove(&self.settings.me);
        for v in voters {
            ask(self, v);
        }
    }

    pub(super) fn log_end(&self) -> LogEnd {
        (self.log.last_ballot(), self.log.last_index())
    }

    /// Whether a leader is at work as far as this member can tell.
    fn leader_alive(&self) -> bool {
        let heard =
            self.leader_heard.is_some_and(|t| self.now.since(t) < self.settings.election_min);
        matches!(self.state, State::Leader(_)) || (self.leader.is_some() && heard)
    }

    pub(super) fn on_pre_vote(&mut self, from: MemberId, asked: Ballot, end: LogEnd) {
        let mine = self.hard.ballot;
        let granted = asked > mine && end >= self.log_end() && !self.leader_alive();
        let ballot = if granted { asked } else { mine };
        self.send(from, LedgerMessage::PreVoteReply { ballot, granted });
    }

    pub(super) fn on_pre_vote_reply(&mut self, from: MemberId, ballot: Ballot, granted: bool) {
        let mine = self.hard.ballot;
        match &mut self.state {
            State::PreCandidate(b) if granted && ballot.0 == mine.0 + 1 => {
                b.granted.insert(from);
                if self.elected() {
                    self.campaign(false);
                }
            }
            // Refused by one that is ahead: the next question is asked from its ballot.
            State::PreCandidate(_) if !granted && ballot > mine => self.adopt(ballot),
            _ => {}
        }
    }

    pub(super) fn on_vote(&mut self, from: MemberId, ballot: Ballot, end: LogEnd, transfer: bool) {
        if ballot > self.hard.ballot {
            if self.leader_alive() && !transfer {
                return;
            }
            self.adopt(ballot);
        }
        let free = self.hard.voted_for.is_none_or(|v| v == from)
            || (self.leader.is_none() && is_planted(Bug::TwoVotesInABallot));
        let complete = end >= self.log_end() || is_planted(Bug::ShortLogElected);
        let granted = ballot == self.hard.ballot && free && complete;
        if granted {
            assert!(self.leader != Some(self.settings.me), "a leader has voted for itself");
            self.hard_dirty |= self.hard.voted_for.is_none();
            self.hard.voted_for = Some(from);
            self.restart_election_timer();
        }
        let ballot = self.hard.ballot;
        self.send_sworn(from, LedgerMessage::VoteReply { ballot, granted });
    }

    pub(super) fn on_vote_reply(&mut self, from: MemberId, ballot: Ballot, granted: bool) {
        if ballot > self.hard.ballot {
            return self.adopt(ballot);
        }
        if let State::Candidate(b) = &mut self.state
            && ballot == self.hard.ballot
            && granted
        {
            b.granted.insert(from);
            self.lead_if_elected();
        }
    }

    /// The journal has caught up with the candidate's vote for itself.
    pub(super) fn count_own_vote(&mut self) {
        if let State::Candidate(b) = &mut self.state
            && b.own_record <= self.durability.durable
        {
            b.granted.insert(self.settings.me);
            self.lead_if_elected();
        }
    }

    /// Enough voters have said yes. The founding rule asks for all of them.
    fn elected(&self) -> bool {
        let (State::PreCandidate(b) | State::Candidate(b)) = &self.state else { return false };
        let voters = self.log.configuration().0.voter_ids();
        if self.log.last_index() <= LogIndex(1) && !is_planted(Bug::FoundedByAMajority) {
            return !voters.is_empty() && voters.is_subset(&b.granted);
        }
        quorum::has_majority(&voters, &b.granted)
    }

    fn lead_if_elected(&mut self) {
        if !self.elected() {
            return;
        }
        assert_eq!(self.hard.voted_for, Some(self.settings.me), "a leader has voted for itself");
        let (me, ballot) = (self.settings.me, self.hard.ballot);
        self.leader = Some(me);
        self.incoming = None;
        self.election_at = None;
        self.announced = (Some(me), ballot);
        self.effects.push_back(LedgerEffect::Led { ballot });
        let noop = self.log.last_index().next();
        self.state = State::Leader(Box::new(Leading::new(noop, self.now, self.settings.heartbeat)));
        self.attend_members();
        self.append_noop();
    }

    /// Takes part in a later ballot: the vote is free again, and nobody leads yet.
    pub(super) fn adopt(&mut self, ballot: Ballot) {
        assert!(ballot > self.hard.ballot, "ballots go forward");
        self.follow_nobody();
        self.hard.ballot = ballot;
        self.hard.voted_for = None;
        self.hard_dirty = true;
    }

    /// Leads or campaigns no longer.
    pub(super) fn follow_nobody(&mut self) {
        self.leader = None;
        self.leader_heard = None;
        self.incoming = None;
        let was = std::mem::replace(&mut self.state, State::Follower);
        if let State::Leader(l) = was {
            let lost = l.reads.iter().map(|r| LedgerEffect::ReadFailed { context: r.context });
            self.effects.extend(lost);
        }
        if self.election_at.is_none() {
            self.restart_election_timer();
        }
    }
}

/// One step of the splitmix generator: spreads neighbouring numbers over the whole range.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::super::{LedgerDurable, LedgerRecord, LedgerRole, LedgerSettings};
    use super::*;

    fn yes(ballot: u64) -> LedgerMessage {
        LedgerMessage::VoteReply { ballot: Ballot(ballot), granted: true }
    }

    fn vote(ballot: u64, last: (u64, u64), transfer: bool) -> LedgerMessage {
        let (last_index, last_ballot) = (LogIndex(last.0), Ballot(last.1));
        LedgerMessage::Vote { ballot: Ballot(ballot), last_index, last_ballot, transfer }
    }

    #[test]
    fn a_candidate_counts_its_own_vote_only_when_it_is_durable() {
        let mut l = ledger(1);
        l.tick(at(200));
        assert_eq!(l.role(), LedgerRole::Candidate);
        drain(&mut l);
        sync(&mut l, 200);
        assert_eq!(l.role(), LedgerRole::Leader);
    }

    #[test]
    fn a_write_that_came_before_the_vote_does_not_make_it_durable() {
        let mut l = ledger(5);
        l.receive(at(1), MemberId(2), append(1, (1, 0), &[(2, 1)], 2));
        l.tick(at(400));
        for from in [3, 4] {
            let reply = LedgerMessage::PreVoteReply { ballot: Ballot(2), granted: true };
            l.receive(at(401), MemberId(from), reply);
        }
        let before = l.durability.emitted - 1;
        l.receive(at(402), MemberId(3), yes(2));
        l.receive(at(402), MemberId(3), yes(2));
        l.persisted(at(403), before);
        assert_eq!(l.role(), LedgerRole::Candidate, "two of five, however often one says it");
        l.receive(at(404), MemberId(4), yes(2));
        assert_eq!(l.role(), LedgerRole::Candidate, "its own vote is not durable");
        sync(&mut l, 405);
        assert_eq!(l.role(), LedgerRole::Leader);
        drain(&mut l);
    }

    #[test]
    fn a_pre_vote_is_for_a_later_ballot_only() {
        let mut l = ledger(3);
        l.receive(at(1), MemberId(2), vote(4, (1, 0), false));
        drain(&mut l);
        for (asked, answer) in [(3, "no ballot 4"), (4, "no ballot 4"), (5, "yes ballot 5")] {
            let (last_index, last_ballot) = (LogIndex(1), Ballot(0));
            let ballot = Ballot(asked);
            let message = LedgerMessage::PreVote { ballot, last_index, last_ballot };
            l.receive(at(300), MemberId(3), message);
            assert_eq!(sent(&drain(&mut l)), [format!("3: pre-vote {answer}")]);
        }
    }

    #[test]
    fn only_answers_to_what_was_asked_count_and_who_is_ahead_is_followed_up() {
        let pre = |ballot, granted| LedgerMessage::PreVoteReply { ballot: Ballot(ballot), granted };
        let mut l = ledger(5);
        l.receive(at(1), MemberId(2), append(3, (1, 0), &[(2, 3)], 2));
        l.tick(at(400));
        assert_eq!((l.role(), l.ballot()), (LedgerRole::PreCandidate, Ballot(3)));
        for (from, answer) in [(2, pre(9, true)), (3, pre(3, true)), (4, pre(2, false))] {
            l.receive(at(401), MemberId(from), answer);
            assert_eq!((l.role(), l.ballot()), (LedgerRole::PreCandidate, Ballot(3)));
        }
        l.receive(at(402), MemberId(5), pre(7, false));
        assert_eq!(l.ballot(), Ballot(7), "the next question is asked from there");
        // A refusal with the number that was asked for is no vote either.
        l.tick(at(900));
        assert_eq!((l.role(), l.ballot()), (LedgerRole::PreCandidate, Ballot(7)));
        each([2, 3, 4], |from| l.receive(at(901), MemberId(from), pre(7, false)));
        assert_eq!(l.role(), LedgerRole::PreCandidate);
        each([2, 3], |from| l.receive(at(902), MemberId(from), pre(8, true)));
        assert_eq!((l.role(), l.ballot()), (LedgerRole::Candidate, Ballot(8)));
        drain(&mut l);
    }

    #[test]
    fn a_vote_in_a_ballot_that_is_known_already_is_written_too() {
        let mut l = ledger(3);
        l.receive(at(1), MemberId(2), vote(1, (0, 0), false));
        drain(&mut l);
        l.receive(at(2), MemberId(3), vote(1, (1, 0), false));
        let effects = drain(&mut l);
        let voted = |e: &LedgerEffect| match e {
            LedgerEffect::Persist(LedgerRecord::HardState(h)) => h.voted_for == Some(MemberId(3)),
            _ => false,
        };
        assert!(voted(&effects[0]), "{effects:?}");
        assert_eq!(sent(&effects), ["3: vote yes ballot 1"]);
    }

    #[test]
    fn a_founding_candidate_needs_every_voter() {
        let mut l = ledger(5);
        l.tick(at(200));
        for from in 2..=4 {
            let reply = LedgerMessage::PreVoteReply { ballot: Ballot(1), granted: true };
            l.receive(at(201), MemberId(from), reply);
        }
        assert_eq!(l.role(), LedgerRole::PreCandidate, "four of five are not all");
        let reply = LedgerMessage::PreVoteReply { ballot: Ballot(1), granted: true };
        l.receive(at(201), MemberId(5), reply);
        sync(&mut l, 201);
        (2..=4).for_each(|from| l.receive(at(202), MemberId(from), yes(1)));
        assert_eq!(l.role(), LedgerRole::Candidate, "four of five are not all");
        l.receive(at(202), MemberId(5), yes(1));
        assert_eq!(l.role(), LedgerRole::Leader);
        drain(&mut l);
    }

    #[test]
    fn after_the_founding_a_majority_is_enough() {
        let mut l = ledger(5);
        l.receive(at(1), MemberId(2), append(1, (1, 0), &[(2, 1)], 2));
        sync(&mut l, 1);
        l.tick(at(400));
        for from in [3, 4] {
            let reply = LedgerMessage::PreVoteReply { ballot: Ballot(2), granted: true };
            l.receive(at(401), MemberId(from), reply);
        }
        sync(&mut l, 402);
        each([3, 4], |from| l.receive(at(403), MemberId(from), yes(2)));
        assert_eq!(l.role(), LedgerRole::Leader);
        drain(&mut l);
    }

    #[test]
    fn one_vote_per_ballot_also_across_a_restart() {
        let mut l = ledger(3);
        drain(&mut l);
        l.receive(at(1), MemberId(2), vote(1, (1, 0), false));
        let effects = drain(&mut l);
        assert!(matches!(effects[0], LedgerEffect::Persist(LedgerRecord::HardState(_))));
        assert_eq!(sent(&effects), ["2: vote yes ballot 1"]);
        let sworn = |e: &LedgerEffect| matches!(e, LedgerEffect::Send { needs_persist: true, .. });
        assert!(sworn(&effects[1]), "a vote leaves only after it is durable");
        let mut durable = LedgerDurable::founding(configuration(3), 0);
        for e in effects {
            if let LedgerEffect::Persist(r) = e {
                durable.replay(r).unwrap();
            }
        }
        let mut l = Ledger::new(settings(1), durable, at(2));
        l.receive(at(2), MemberId(3), vote(1, (1, 0), false));
        l.receive(at(2), MemberId(2), vote(1, (1, 0), false));
        assert_eq!(sent(&drain(&mut l)), ["3: vote no ballot 1", "2: vote yes ballot 1"]);
    }

    #[test]
    fn a_shorter_log_gets_no_vote() {
        let mut l = ledger(3);
        l.receive(at(1), MemberId(2), append(1, (1, 0), &[(2, 1), (3, 1)], 1));
        drain(&mut l);
        l.receive(at(300), MemberId(3), vote(2, (2, 1), false));
        l.receive(at(300), MemberId(3), vote(3, (9, 0), false));
        l.receive(at(300), MemberId(3), vote(4, (3, 1), false));
        let expected = ["3: vote no ballot 2", "3: vote no ballot 3", "3: vote yes ballot 4"];
        assert_eq!(sent(&drain(&mut l)), expected);
    }

    #[test]
    fn a_live_leader_is_not_unseated_but_may_ask_for_it_itself() {
        let mut l = ledger(3);
        l.receive(at(100), MemberId(2), append(1, (1, 0), &[], 1));
        drain(&mut l);
        let end = (LogIndex(1), Ballot(0));
        let ask =
            LedgerMessage::PreVote { ballot: Ballot(2), last_index: end.0, last_ballot: end.1 };
        l.receive(at(199), MemberId(3), ask.clone());
        l.receive(at(199), MemberId(3), vote(2, (1, 0), false));
        assert_eq!(sent(&drain(&mut l)), ["3: pre-vote no ballot 1"]);
        assert_eq!(l.ballot(), Ballot(1), "a vote request does not even move the ballot");
        l.receive(at(200), MemberId(3), ask);
        assert_eq!(sent(&drain(&mut l)), ["3: pre-vote yes ballot 2"]);
        l.receive(at(201), MemberId(2), append(1, (1, 0), &[], 1));
        drain(&mut l);
        l.receive(at(202), MemberId(3), vote(2, (1, 0), true));
        assert_eq!(sent(&drain(&mut l)), ["3: vote yes ballot 2"]);
    }

    #[test]
    fn one_that_may_not_lead_says_that_the_leader_is_lost_and_does_not_campaign() {
        let quiet = LedgerSettings { may_lead: false, ..settings(1) };
        let mut l = Ledger::new(quiet, LedgerDurable::founding(configuration(3), 0), at(0));
        l.receive(at(1), MemberId(2), append(1, (1, 0), &[], 1));
        drain(&mut l);
        l.tick(l.deadline().unwrap());
        let followed = LedgerEffect::Followed { leader: None, ballot: Ballot(1) };
        assert_eq!(drain(&mut l), [followed]);
        assert_eq!(l.deadline(), None);
    }

    #[test]
    fn campaign_times_differ_between_members_and_repeat_for_a_seed() {
        let of = |me| {
            let d = LedgerDurable::founding(configuration(5), 0);
            Ledger::new(settings(me), d, at(0)).deadline().unwrap()
        };
        let times: BTreeSet<_> = (1..=5).map(of).collect();
        assert_eq!(times.len(), 5);
        assert!(times.iter().all(|t| (at(100)..=at(200)).contains(t)));
        assert_eq!(of(3), of(3));
    }
}
