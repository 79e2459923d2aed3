//! The ledger: a small Raft-style log among the voters, for decisions only (R7, R11).
//!
//! Why it is here: whoever may hold a ticket is decided rarely, but all members must see the same
//! decisions in the same order, for ever. The failure that it prevents is two members acting on
//! two histories. Time plays no part in that: clocks only say when to try for leadership, so a
//! wrong clock costs a needless election and never a decision. There is no leader lease.
//!
//! It is a state machine without I/O. Each call takes the time, and leaves effects that
//! [`Ledger::poll_effect`] hands out in order. The driver's contract:
//! - drain all effects after every call;
//! - write [`LedgerEffect::Persist`] records to the journal in the order in which they come, and
//!   report with [`Ledger::persisted`] how many of all since the start are durable;
//! - hold a `Send` with `needs_persist` back until every record before it is durable; others may
//!   leave at once; any message may be lost;
//! - call [`Ledger::tick`] when [`Ledger::deadline`] is reached.
//!
//! The parts, in the order in which a decision passes them: `message` (what is said, and bounds),
//! `election` (who leads), `change` (proposals, and who votes), `leader` and `progress` (the log
//! goes out), `follower` (the log comes in), `commit` (what has become final, snapshots), `read`
//! and `transfer`; below them `log` (in memory) and `durable` (what the journal gives back).
//!
//! Differences from the textbook: what Raft calls term is *ballot*, because *term* is the fencing
//! token here. Entry 1 is the founding configuration and the same at all founders. **Founding
//! rule**: while a candidate's log holds nothing but entry 1, it needs the votes of *all* voters, so
//! that a cluster comes to life only when every founding voter has been there once.
//!
//! Invariants, asserted in release builds and by [`Ledger::invariants`]:
//! - *one vote*: no two votes in one ballot, across restarts (the vote is durable before it leaves);
//! - *own durability*: a leader counts itself only for entries that its journal holds;
//! - *commit forward*: the commit index never falls and a committed entry is never truncated. A
//!   message that would make it so is refused and raised as an alarm: one of the two is broken;
//! - *newest configuration*: every count is taken over the newest configuration in the log.
//!
//! Further reading: Ongaro's dissertation on Raft (2014), chapters 3, 4, 6 and 9; his note of 2015
//! on single-server changes, the reason why a change waits for an entry of the leader's own ballot.

mod change;
mod commit;
mod digest;
mod durable;
mod election;
mod follower;
mod leader;
mod log;
mod message;
mod progress;
mod read;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod transfer;

use std::collections::VecDeque;
use std::time::Duration;

use self::follower::Incoming;
use self::leader::Leading;
use self::log::Log;
use crate::configuration::Configuration;
use crate::entry::Entry;
use crate::ids::{Ballot, ConfigIndex, LogIndex, MemberId};
use crate::time::VoterTime;

pub use self::change::{ChangeRefused, NotLeader};
pub use self::durable::{HardState, LedgerDurable, LedgerRecord, ReplayError, Snapshot};
pub use self::message::{Append, AppendOutcome, LedgerMessage, Round, SnapshotPart};

/// Commits that may pass before the commit index is noted durably again; it is a hint only.
const COMMIT_HINT_EVERY: u64 = 64;

/// What a ledger is told once.
#[derive(Clone, Debug)]
pub struct LedgerSettings {
    /// This member.
    pub me: MemberId,
    /// Shortest silence of a leader before a campaign; a leader heard within it is alive.
    pub election_min: Duration,
    /// Longest such silence; a leader that has not heard from a majority for it steps down.
    pub election_max: Duration,
    /// How often a leader speaks.
    pub heartbeat: Duration,
    /// Makes the campaign times of members differ, and those of a test repeat.
    pub seed: u64,
    /// R11: time between the commit of a change of voters and the next change (T).
    pub change_wait: Duration,
    /// Whether this member campaigns at all.
    pub may_lead: bool,
}

/// What a ledger is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LedgerRole {
    /// Follows, or waits for a leader.
    Follower,
    /// Asks whether a campaign would succeed.
    PreCandidate,
    /// Campaigns.
    Candidate,
    /// Leads.
    Leader,
}

/// What a ledger wants done, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LedgerEffect {
    /// Append to the journal.
    Persist(LedgerRecord),
    /// Send to another member.
    Send {
        /// To whom.
        to: MemberId,
        /// What.
        message: LedgerMessage,
        /// Not before every record that came earlier is durable.
        needs_persist: bool,
    },
    /// Entries up to here are final: apply them in order.
    Commit {
        /// The last of them.
        upto: LogIndex,
    },
    /// Replace the applied state by this one.
    InstallSnapshot(Snapshot),
    /// This member leads now.
    Led {
        /// The ballot that it won.
        ballot: Ballot,
    },
    /// This member follows, or knows no leader.
    Followed {
        /// Whom.
        leader: Option<MemberId>,
        /// In which ballot.
        ballot: Ballot,
    },
    /// A read may be answered once entries up to `index` are applied.
    ReadReady {
        /// From the call.
        context: u64,
        /// Everything decided before the call is at or below it.
        index: LogIndex,
    },
    /// A read was lost with the leadership; ask again.
    ReadFailed {
        /// From the call.
        context: u64,
    },
    /// A message contradicts what must hold; it was refused. People must look.
    Alarm(String),
}

#[derive(Clone, Debug)]
enum State {
    Follower,
    PreCandidate(election::Ballots),
    Candidate(election::Ballots),
    Leader(Box<Leading>),
}

/// Which part of the log the journal holds.
#[derive(Clone, Debug)]
struct Durability {
    /// Records handed out since the start.
    emitted: u64,
    /// Records known to be durable.
    durable: u64,
    /// The log as it is now is durable up to here.
    index: LogIndex,
    /// Records not yet durable, each with the index up to which it makes the log durable.
    pending: VecDeque<(u64, LogIndex)>,
}

/// A ledger. See the top of the module.
#[derive(Clone, Debug)]
pub struct Ledger {
    settings: LedgerSettings,
    now: VoterTime,
    hard: HardState,
    hard_dirty: bool,
    log: Log,
    commit: LogIndex,
    durability: Durability,
    state: State,
    leader: Option<MemberId>,
    announced: (Option<MemberId>, Ballot),
    leader_heard: Option<VoterTime>,
    election_at: Option<VoterTime>,
    attempt: u64,
    incoming: Option<Incoming>,
    /// By when the newest committed change of voters was committed for certain.
    voters_changed_at: Option<VoterTime>,
    /// Newest wall clock seen; a new leader's first entry carries it.
    wall_ms: u64,
    effects: VecDeque<LedgerEffect>,
}

impl Ledger {
    /// A ledger that begins as follower with what its journal holds. Its first effects install the
    /// snapshot, if there is one, and commit what is known to be committed.
    pub fn new(settings: LedgerSettings, durable: LedgerDurable, now: VoterTime) -> Self {
        let times = settings.heartbeat < settings.election_min
            && settings.election_min <= settings.election_max;
        assert!(times, "heartbeat, shortest and longest silence in this order: {settings:?}");
        assert_eq!(durable.check(), Ok(()), "the driver checks what it has replayed");
        let mut hard = durable.hard;
        let wall_ms = durable.entries.last().map_or(0, |e| e.wall_ms);
        let log = Log::new(durable);
        let last = log.last_index();
        // A joining member may have been given entries of ballots that it took no part in.
        if log.last_ballot() > hard.ballot {
            hard = HardState { ballot: log.last_ballot(), voted_for: None, ..hard };
        }
        // Entry 1 is the founding configuration: all founders have it, so it is committed.
        let commit = hard.commit.max(log.covered()).max(last.min(LogIndex(1)));
        let known = log.configuration_at(commit).1 > ConfigIndex(1);
        let mut ledger = Self {
            now,
            hard,
            hard_dirty: false,
            commit,
            durability: Durability {
                emitted: 0,
                durable: 0,
                index: last,
                pending: VecDeque::new(),
            },
            state: State::Follower,
            leader: None,
            announced: (None, hard.ballot),
            leader_heard: None,
            election_at: None,
            attempt: 0,
            incoming: None,
            // When it was committed is forgotten; it is certain only that it was before now.
            voters_changed_at: known.then_some(now),
            wall_ms,
            effects: VecDeque::new(),
            log,
            settings,
        };
        if let Some(s) = ledger.log.snapshot() {
            ledger.effects.push_back(LedgerEffect::InstallSnapshot((**s).clone()));
        }
        if commit > ledger.log.covered() {
            ledger.effects.push_back(LedgerEffect::Commit { upto: commit });
        }
        ledger.restart_election_timer();
        ledger
    }

    /// Hears a message.
    pub fn receive(&mut self, now: VoterTime, from: MemberId, message: LedgerMessage) {
        self.begin(now);
        if from == self.settings.me {
            return;
        }
        if let Err(why) = message.check(self.hard.ballot) {
            self.alarm(format!("member {from} sent {why}; the message was refused"));
            return;
        }
        let newest = self.configuration().0.member(from);
        let known = newest.or_else(|| self.committed_configuration().0.member(from)).is_some();
        match message {
            LedgerMessage::PreVote { ballot, last_index, last_ballot } => {
                self.on_pre_vote(from, ballot, (last_ballot, last_index));
            }
            LedgerMessage::Vote { ballot, last_index, last_ballot, transfer } => {
                self.on_vote(from, ballot, (last_ballot, last_index), transfer);
            }
            LedgerMessage::Append(append) => self.on_append(from, append),
            LedgerMessage::SnapshotPart(part) => self.on_snapshot_part(from, *part),
            LedgerMessage::TimeoutNow { ballot } => self.on_timeout_now(from, ballot),
            // Answers count only from members: one that was removed is not listened to any more.
            _ if !known => {}
            LedgerMessage::PreVoteReply { ballot, granted } => {
                self.on_pre_vote_reply(from, ballot, granted);
            }
            LedgerMessage::VoteReply { ballot, granted } => {
                self.on_vote_reply(from, ballot, granted);
            }
            LedgerMessage::AppendReply { ballot, round, outcome } => {
                self.on_append_reply(from, ballot, round, outcome);
            }
            LedgerMessage::SnapshotReply { ballot, round, last_index, offset } => {
                self.on_snapshot_reply(from, ballot, round, last_index, offset);
            }
        }
        self.finish();
    }

    /// Does what is due.
    pub fn tick(&mut self, now: VoterTime) {
        self.begin(now);
        if matches!(self.state, State::Leader(_)) {
            self.tick_leader();
        } else if self.election_at.is_some_and(|t| t <= self.now) {
            self.leader_lost();
        }
        self.finish();
    }

    /// Whether `poll_effect` has something.
    pub fn has_effects(&self) -> bool {
        !self.effects.is_empty()
    }

    /// Something else goes to everybody now: a leader's heartbeat that would follow soon goes along,
    /// in the same packets.
    pub fn beat_along(&mut self, now: VoterTime) {
        self.begin(now);
        self.ride();
        self.finish();
    }

    /// When `tick` wants to be called; `None`: not before the next message.
    pub fn deadline(&self) -> Option<VoterTime> {
        match &self.state {
            State::Leader(l) => Some(self.leader_deadline(l)),
            _ => self.election_at,
        }
    }

    /// The first `records` of all `Persist` effects since the start are durable now.
    pub fn persisted(&mut self, now: VoterTime, records: u64) {
        self.begin(now);
        assert!(records <= self.durability.emitted, "durable without having been written");
        self.durability.durable = self.durability.durable.max(records);
        while let Some((_, index)) =
            self.durability.pending.pop_front_if(|(n, _)| *n <= self.durability.durable)
        {
            self.durability.index = self.durability.index.max(index);
        }
        match &self.state {
            State::Leader(_) => self.advance_commit(),
            State::Candidate(_) => self.count_own_vote(),
            State::Follower | State::PreCandidate(_) => {}
        }
        self.finish();
    }

    /// The next effect.
    pub fn poll_effect(&mut self) -> Option<LedgerEffect> {
        self.effects.pop_front()
    }

    // ---- looking at it ----

    /// The entry of this index, if it is kept.
    pub fn entry(&self, index: LogIndex) -> Option<&Entry> {
        self.log.entry(index)
    }

    /// The kept entries of `from ..= to`.
    pub fn entries_between(&self, from: LogIndex, to: LogIndex) -> impl Iterator<Item = &Entry> {
        self.log.between(from, to)
    }

    /// End of the log.
    pub fn last_index(&self) -> LogIndex {
        self.log.last_index()
    }

    /// Last entry that is known to be final.
    pub fn commit(&self) -> LogIndex {
        self.commit
    }

    /// The newest snapshot.
    pub fn snapshot(&self) -> Option<&Snapshot> {
        self.log.snapshot().map(|s| &**s)
    }

    /// What this member is doing.
    pub fn role(&self) -> LedgerRole {
        match self.state {
            State::Follower => LedgerRole::Follower,
            State::PreCandidate(_) => LedgerRole::PreCandidate,
            State::Candidate(_) => LedgerRole::Candidate,
            State::Leader(_) => LedgerRole::Leader,
        }
    }

    /// Who leads, as far as this member knows.
    pub fn leader(&self) -> Option<MemberId> {
        self.leader
    }

    /// Newest ballot.
    pub fn ballot(&self) -> Ballot {
        self.hard.ballot
    }

    /// The newest configuration in the log, committed or not: the one that counts (R11). A member
    /// that knows nothing yet has one without voters, of index 0.
    pub fn configuration(&self) -> (&Configuration, ConfigIndex) {
        self.log.configuration()
    }

    /// The newest configuration that is final.
    pub fn committed_configuration(&self) -> (&Configuration, ConfigIndex) {
        self.log.configuration_at(self.commit)
    }

    /// While leading: how far a member's log is known to agree, and when it was last heard.
    pub fn follower_progress(&self, member: MemberId) -> Option<(LogIndex, VoterTime)> {
        let State::Leader(l) = &self.state else { return None };
        l.progress.get(&member).map(|p| (p.matched, p.last_heard))
    }

    /// The ballot of an entry that is kept, or of the last one that is not.
    pub fn ballot_at(&self, index: LogIndex) -> Option<Ballot> {
        self.log.ballot_at(index)
    }

    /// What the journal holds once all effects are drained and written, for a fresh journal. The
    /// tail before the snapshot's end is left out: it only spares slow followers a snapshot.
    pub fn durable(&self) -> LedgerDurable {
        let after = self.log.covered().next();
        LedgerDurable {
            hard: self.hard,
            snapshot: self.snapshot().cloned(),
            entries: self.log.between(after, self.last_index()).cloned().collect(),
        }
    }

    /// R11: takes the newest T.
    pub fn set_change_wait(&mut self, wait: Duration) {
        self.settings.change_wait = wait;
    }

    /// Asserts the invariants of the whole.
    pub fn invariants(&self) {
        self.log.invariants();
        let last = self.last_index();
        assert!(self.commit <= last, "committed entries are there");
        assert!(self.log.covered() <= self.commit, "snapshots cover committed entries only");
        assert!(self.durability.index <= last, "the journal holds no more than the log");
        assert!(self.durability.durable <= self.durability.emitted);
        assert!(self.log.last_ballot() <= self.hard.ballot, "no entry is from a later ballot");
        assert!(self.hard.commit <= self.commit, "the durable commit index lags");
        assert!(!self.hard_dirty, "no call leaves a vote unwritten");
        let me = self.settings.me;
        match &self.state {
            State::Follower => assert_ne!(self.leader, Some(me)),
            State::PreCandidate(_) => assert_eq!(self.leader, None),
            State::Candidate(_) => {
                assert_eq!((self.leader, self.hard.voted_for), (None, Some(me)));
            }
            State::Leader(l) => {
                assert_eq!((self.leader, self.hard.voted_for), (Some(me), Some(me)));
                let ballot = self.log.ballot_at(l.noop);
                assert!(ballot.is_none_or(|b| b == self.hard.ballot), "its first entry is its own");
                assert!(l.progress.keys().eq(&self.others()), "all members are attended to");
                l.progress.values().for_each(|p| p.invariants(last));
                assert!(
                    l.reads.iter().is_sorted_by(|a, b| a.round < b.round && a.index <= b.index)
                );
            }
        }
    }

    // ---- what every part uses ----

    fn begin(&mut self, now: VoterTime) {
        self.now = self.now.max(now);
    }

    /// Ends a call: nothing that was sworn stays unwritten, nothing that changed stays unsaid.
    fn finish(&mut self) {
        self.save_hard();
        let view = (self.leader, self.hard.ballot);
        if view != self.announced {
            self.announced = view;
            let (leader, ballot) = view;
            self.effects.push_back(LedgerEffect::Followed { leader, ballot });
        }
    }

    fn save_hard(&mut self) {
        let lag = self.commit.0.saturating_sub(self.hard.commit.0);
        if self.hard_dirty || lag >= COMMIT_HINT_EVERY {
            self.hard_dirty = false;
            self.hard.commit = self.commit;
            self.persist(LedgerRecord::HardState(self.hard), LogIndex(0));
        }
    }

    /// Hands a record out; once it is durable, so is the log up to `covers`.
    fn persist(&mut self, record: LedgerRecord, covers: LogIndex) {
        self.durability.emitted += 1;
        self.durability.pending.push_back((self.durability.emitted, covers));
        self.effects.push_back(LedgerEffect::Persist(record));
    }

    /// Sends what may leave at once.
    fn send(&mut self, to: MemberId, message: LedgerMessage) {
        self.effects.push_back(LedgerEffect::Send { to, message, needs_persist: false });
    }

    /// Sends what speaks for the journal: not before all that was sworn is durable.
    fn send_sworn(&mut self, to: MemberId, message: LedgerMessage) {
        self.save_hard();
        self.effects.push_back(LedgerEffect::Send { to, message, needs_persist: true });
    }

    fn alarm(&mut self, what: String) {
        self.effects.push_back(LedgerEffect::Alarm(what));
    }
}
