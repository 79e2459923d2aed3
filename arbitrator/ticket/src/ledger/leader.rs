//! The leader's side: the log goes out, answers come in, a silent majority ends the leadership.
//!
//! A heartbeat to a member that keeps up is an append without entries behind the last one sent, so
//! a lost append shows at once as a refusal. Each answer, whatever it says, is a sign of life
//! (CheckQuorum) and repeats the round of its question (`read`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::message::{Append, AppendOutcome, LedgerMessage, Round, SnapshotPart};
use super::progress::{Mode, Progress};
use super::read::PendingRead;
use super::transfer::Transfer;
use super::{Ledger, LedgerEffect, State};
use crate::ids::{Ballot, LogIndex, MemberId};
use crate::limits::SNAPSHOT_PART_BYTES;
use crate::planted::{Bug, is_planted};
use crate::quorum;
use crate::time::VoterTime;

/// What only a leader knows; gone with its leadership.
#[derive(Clone, Debug)]
pub(super) struct Leading {
    pub(super) progress: BTreeMap<MemberId, Progress>,
    /// The first entry of this ballot: once it is committed, so is everything before it.
    pub(super) noop: LogIndex,
    pub(super) round: Round,
    pub(super) reads: VecDeque<PendingRead>,
    pub(super) heartbeat_at: VoterTime,
    pub(super) transfer: Option<Transfer>,
}

impl Leading {
    pub(super) fn new(noop: LogIndex, now: VoterTime, heartbeat: Duration) -> Self {
        Self {
            progress: BTreeMap::new(),
            noop,
            round: Round(0),
            reads: VecDeque::new(),
            heartbeat_at: now + heartbeat,
            transfer: None,
        }
    }
}

impl Ledger {
    /// Whom a leader speaks to and listens to: all members of the newest configuration, and those
    /// that it removes until their removal is final.
    pub(super) fn others(&self) -> BTreeSet<MemberId> {
        let (newest, committed) = (self.configuration().0, self.committed_configuration().0);
        let members = newest.members().chain(committed.members()).map(|(m, _)| m);
        members.filter(|m| *m != self.settings.me).collect()
    }

    /// Follows the configurations: new members are probed from the log's end, those that are gone
    /// are forgotten.
    pub(super) fn attend_members(&mut self) {
        let others = self.others();
        let next = self.log.last_index().next();
        let State::Leader(l) = &mut self.state else { return };
        l.progress.retain(|m, _| others.contains(m));
        for m in others {
            l.progress.entry(m).or_insert_with(|| Progress::new(next, self.now));
        }
    }

    /// By when a majority must be heard again: CheckQuorum.
    fn quorum_until(&self, l: &Leading) -> VoterTime {
        let voters = self.log.configuration().0.voter_ids();
        let heard = quorum::reached_by_majority(&voters, |m| {
            let own = (m == self.settings.me).then_some(self.now);
            own.or_else(|| l.progress.get(&m).map(|p| p.last_heard))
        });
        heard.unwrap_or_default() + self.settings.election_max
    }

    pub(super) fn leader_deadline(&self, l: &Leading) -> VoterTime {
        let transfer = l.transfer.as_ref().map_or(l.heartbeat_at, |t| t.until);
        self.quorum_until(l).min(l.heartbeat_at).min(transfer)
    }

    pub(super) fn tick_leader(&mut self) {
        let State::Leader(l) = &mut self.state else { return };
        l.transfer.take_if(|t| t.until <= self.now);
        let heartbeat = l.heartbeat_at <= self.now;
        if heartbeat {
            l.heartbeat_at = self.now + self.settings.heartbeat;
        }
        let State::Leader(l) = &self.state else { return };
        if self.quorum_until(l) <= self.now && !is_planted(Bug::DeafLeaderStays) {
            return self.follow_nobody();
        }
        if heartbeat {
            self.beat();
        }
    }

    fn beat(&mut self) {
        for to in self.attended() {
            self.repeat(to);
            self.send_heartbeat(to);
        }
    }

    pub(super) fn ride(&mut self) {
        let every = self.settings.heartbeat;
        let State::Leader(l) = &mut self.state else { return };
        if l.heartbeat_at.since(self.now) <= every / 2 {
            l.heartbeat_at = self.now + every;
            self.beat();
        }
    }

    pub(super) fn attended(&self) -> Vec<MemberId> {
        let State::Leader(l) = &self.state else { return Vec::new() };
        l.progress.keys().copied().collect()
    }

    fn progress(&mut self, of: MemberId) -> Option<&mut Progress> {
        let State::Leader(l) = &mut self.state else { return None };
        l.progress.get_mut(&of)
    }

    /// Repeats what has had no answer for too long.
    fn repeat(&mut self, to: MemberId) {
        let (now, patience) = (self.now, self.settings.election_min);
        let Some(p) = self.progress(to) else { return };
        match &mut p.mode {
            Mode::Probe { asked } => {
                *asked = false;
                self.send_log(to);
            }
            Mode::Snapshot { sent, .. } if now.since(*sent) >= patience => self.send_part(to),
            Mode::Snapshot { .. } | Mode::Stream { .. } => {}
        }
    }

    /// A sign of life that needs an answer: an append without entries.
    pub(super) fn send_heartbeat(&mut self, to: MemberId) {
        let (ballot, commit) = (self.hard.ballot, self.commit);
        let State::Leader(l) = &mut self.state else { return };
        let round = l.round;
        let Some(p) = l.progress.get_mut(&to) else { return };
        let (prev_index, prev_ballot) = match p.mode {
            // The beginning of all logs is the same: it is asked about while a snapshot is sent.
            Mode::Snapshot { .. } => (LogIndex(0), Ballot(0)),
            Mode::Probe { .. } | Mode::Stream { .. } => {
                let prev = p.next.prev();
                let Some(ballot) = self.log.ballot_at(prev) else {
                    return self.begin_snapshot(to);
                };
                p.commit_told = commit;
                (prev, ballot)
            }
        };
        let append = Append { ballot, prev_index, prev_ballot, entries: Vec::new(), commit, round };
        self.send(to, LedgerMessage::Append(append));
    }

    /// Sends all entries that may be on their way to this member now.
    pub(super) fn send_log(&mut self, to: MemberId) {
        let (ballot, commit, last) = (self.hard.ballot, self.commit, self.log.last_index());
        let State::Leader(l) = &mut self.state else { return };
        let round = l.round;
        let Some(p) = l.progress.get_mut(&to) else { return };
        while p.ready(last) {
            let prev_index = p.next.prev();
            let Some(prev_ballot) = self.log.ballot_at(prev_index) else {
                return self.begin_snapshot(to);
            };
            let entries = self.log.chunk(p.next);
            p.sent(entries.last().map_or(prev_index, |e| e.index));
            p.commit_told = commit;
            let append = Append { ballot, prev_index, prev_ballot, entries, commit, round };
            let message = LedgerMessage::Append(append);
            self.effects.push_back(LedgerEffect::Send { to, message, needs_persist: false });
        }
    }

    fn begin_snapshot(&mut self, to: MemberId) {
        let snapshot = self.log.snapshot().map(Arc::clone);
        let (Some(snapshot), now) = (snapshot, self.now) else { return };
        if let Some(p) = self.progress(to) {
            p.mode = Mode::Snapshot { snapshot, offset: 0, sent: now };
            self.send_part(to);
        }
    }

    fn send_part(&mut self, to: MemberId) {
        let (ballot, now) = (self.hard.ballot, self.now);
        let State::Leader(l) = &mut self.state else { return };
        let round = l.round;
        let Some(Mode::Snapshot { snapshot, offset, sent }) =
            l.progress.get_mut(&to).map(|p| &mut p.mode)
        else {
            return;
        };
        *sent = now;
        let begin = (*offset as usize).min(snapshot.state.len());
        let end = (begin + SNAPSHOT_PART_BYTES).min(snapshot.state.len());
        let part = SnapshotPart {
            ballot,
            round,
            last_index: snapshot.last_index,
            last_ballot: snapshot.last_ballot,
            configuration: snapshot.configuration.clone(),
            config_index: snapshot.config_index,
            offset: begin as u64,
            total: snapshot.state.len() as u64,
            bytes: snapshot.state[begin..end].to_vec(),
        };
        self.send(to, LedgerMessage::SnapshotPart(Box::new(part)));
    }

    /// Takes an answer as a sign of life; `None` when it is none to this leadership.
    fn hear_answer(
        &mut self,
        from: MemberId,
        ballot: Ballot,
        round: Round,
    ) -> Option<&mut Progress> {
        if ballot > self.hard.ballot {
            self.adopt(ballot);
            return None;
        }
        let (mine, now) = (self.hard.ballot, self.now);
        let State::Leader(l) = &mut self.state else { return None };
        if ballot < mine || round > l.round {
            return None;
        }
        let p = l.progress.get_mut(&from)?;
        p.last_heard = now;
        p.round = p.round.max(Some(round));
        Some(p)
    }

    pub(super) fn on_append_reply(
        &mut self,
        from: MemberId,
        ballot: Ballot,
        round: Round,
        outcome: AppendOutcome,
    ) {
        let last = self.log.last_index();
        let Some(p) = self.hear_answer(from, ballot, round) else { return };
        match outcome {
            AppendOutcome::Matched(index) if index > last => {
                let what = format!(
                    "member {from} claims to hold entry {index} of a log that ends at {last}; \
                     its answer was refused"
                );
                return self.alarm(what);
            }
            AppendOutcome::Matched(index) => {
                p.matched(index);
                self.advance_commit();
            }
            AppendOutcome::Missing { prev_index, hint } => {
                p.missing(prev_index, hint);
            }
            AppendOutcome::Stale => {}
        }
        self.send_log(from);
        self.tell_commit(from);
        self.settle_reads();
        self.try_transfer();
    }

    pub(super) fn on_snapshot_reply(
        &mut self,
        from: MemberId,
        ballot: Ballot,
        round: Round,
        of: LogIndex,
        wanted: u64,
    ) {
        let Some(p) = self.hear_answer(from, ballot, round) else { return };
        if let Mode::Snapshot { snapshot, offset, .. } = &mut p.mode
            && snapshot.last_index == of
            && *offset != wanted
            && wanted <= snapshot.state.len() as u64
        {
            *offset = wanted;
            self.send_part(from);
        }
        self.settle_reads();
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::super::{Ledger, LedgerEffect, LedgerRole};
    use super::*;

    #[test]
    fn a_leader_that_hears_no_majority_steps_down() {
        let mut l = leader_of_three();
        drain(&mut l);
        l.receive(at(250), MemberId(2), matched(1, 1, 0));
        l.tick(at(449));
        assert_eq!(l.role(), LedgerRole::Leader, "one follower was heard 199 ms ago");
        drain(&mut l);
        l.tick(at(450));
        assert_eq!(l.role(), LedgerRole::Follower);
        let followed = LedgerEffect::Followed { leader: None, ballot: Ballot(1) };
        assert_eq!(drain(&mut l), [followed]);
    }

    #[test]
    fn the_deadline_is_the_earlier_of_heartbeat_and_silence() {
        let mut l = leader_of_three();
        drain(&mut l);
        assert_eq!(l.deadline(), Some(at(230)));
        l.tick(at(230));
        assert_eq!(l.deadline(), Some(at(260)));
        l.tick(at(390));
        assert_eq!(l.deadline(), Some(at(400)), "the majority was last heard at 200");
        drain(&mut l);
    }

    #[test]
    fn a_refusal_walks_back_to_where_the_logs_meet_and_then_sends_everything() {
        let mut l = leader_of_three();
        drain(&mut l);
        let missing = LedgerMessage::AppendReply {
            ballot: Ballot(1),
            round: Round(0),
            outcome: AppendOutcome::Missing { prev_index: LogIndex(1), hint: LogIndex(0) },
        };
        l.receive(at(210), MemberId(3), missing.clone());
        let line = "3: append ballot 1 after 0@0 [1@0 configuration] [2@1 noop] commit 1 round 0";
        assert_eq!(sent(&drain(&mut l)), [line]);
        l.receive(at(211), MemberId(3), missing);
        assert!(sent(&drain(&mut l)).is_empty(), "a doubled refusal is old news");
    }

    #[test]
    fn an_answer_beyond_the_end_is_an_alarm_and_not_believed() {
        let mut l = leader_of_three();
        drain(&mut l);
        l.receive(at(210), MemberId(2), matched(1, 9, 0));
        assert!(matches!(drain(&mut l)[..], [LedgerEffect::Alarm(_)]));
        assert_eq!(l.commit(), LogIndex(1));
    }

    #[test]
    #[cfg_attr(miri, ignore = "a follower must be a thousand entries behind")]
    fn a_snapshot_goes_out_part_by_part_as_it_is_asked_for() {
        let mut l = leader_of_three();
        l.receive(at(205), MemberId(2), matched(1, 2, 0));
        for i in 3..=1_030 {
            l.propose(at(210), 0, vec![]).unwrap();
            sync(&mut l, 210);
            l.receive(at(210), MemberId(2), matched(1, i, 0));
        }
        l.compact(LogIndex(1_030), vec![5; SNAPSHOT_PART_BYTES + 3]);
        drain(&mut l);
        l.receive(
            at(211),
            MemberId(3),
            LedgerMessage::AppendReply {
                ballot: Ballot(1),
                round: Round(0),
                outcome: AppendOutcome::Missing { prev_index: LogIndex(1), hint: LogIndex(0) },
            },
        );
        assert_eq!(sent(&drain(&mut l)), ["3: snapshot 1030@1 bytes 0..262144 of 262147"]);
        let wants = |offset| LedgerMessage::SnapshotReply {
            ballot: Ballot(1),
            round: Round(0),
            last_index: LogIndex(1_030),
            offset,
        };
        l.receive(at(212), MemberId(3), wants(262_144));
        assert_eq!(sent(&drain(&mut l)), ["3: snapshot 1030@1 bytes 262144..262147 of 262147"]);
        l.receive(at(212), MemberId(3), wants(262_144));
        assert!(sent(&drain(&mut l)).is_empty(), "a doubled wish is not granted twice");
        l.receive(at(213), MemberId(3), matched(1, 1_030, 0));
        assert_eq!(l.follower_progress(MemberId(3)), Some((LogIndex(1_030), at(213))));
        drain(&mut l);
    }

    #[test]
    fn an_entry_counts_for_the_leader_only_once_its_journal_holds_it() {
        let mut l: Ledger = leader_of_three();
        l.receive(at(205), MemberId(2), matched(1, 2, 0));
        assert_eq!(l.commit(), LogIndex(1), "one of three, and an unwritten one");
        sync(&mut l, 206);
        assert_eq!(l.commit(), LogIndex(2));
        drain(&mut l);
    }
}
