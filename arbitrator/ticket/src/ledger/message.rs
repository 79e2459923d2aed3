//! What ledgers say to each other, and the bounds that every message must keep before it is heard.
//!
//! All of it may be lost, doubled, delayed and reordered without harm. A message is validated as a
//! whole before it touches any state, so that no arithmetic further in can overflow and no
//! assertion further in can be reached from outside.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::configuration::Configuration;
use crate::entry::{Entry, Payload};
use crate::ids::{Ballot, ConfigIndex, LogIndex, Term};
use crate::limits::{MAX_APPEND_ENTRIES, MAX_BATCH_OPS, SNAPSHOT_BYTES, SNAPSHOT_PART_BYTES};

/// A leader's count of the times that it asked everybody whether it still leads.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Round(pub u64);

/// A message between two ledgers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LedgerMessage {
    /// Would you vote for me in this ballot? Nothing changes at the one asked.
    PreVote {
        /// The ballot that would be opened.
        ballot: Ballot,
        /// End of the candidate's log.
        last_index: LogIndex,
        /// Ballot of that entry.
        last_ballot: Ballot,
    },
    /// Answer to `PreVote`.
    PreVoteReply {
        /// Granted: the ballot asked about. Refused: the ballot of the one asked.
        ballot: Ballot,
        /// Whether it would.
        granted: bool,
    },
    /// Vote for me in this ballot.
    Vote {
        /// The ballot.
        ballot: Ballot,
        /// End of the candidate's log.
        last_index: LogIndex,
        /// Ballot of that entry.
        last_ballot: Ballot,
        /// The leader asked for this election: a live leader is no reason to refuse.
        transfer: bool,
    },
    /// Answer to `Vote`.
    VoteReply {
        /// Ballot of the one asked, after the question.
        ballot: Ballot,
        /// Whether it gave its vote.
        granted: bool,
    },
    /// Entries, or none: then a sign of life.
    Append(Append),
    /// Answer to `Append`.
    AppendReply {
        /// Ballot of the one asked.
        ballot: Ballot,
        /// Repeated from the question.
        round: Round,
        /// What became of the entries.
        outcome: AppendOutcome,
    },
    /// A part of a snapshot, for a follower whose next entry is not kept any more.
    SnapshotPart(Box<SnapshotPart>),
    /// Answer to `SnapshotPart` until the last, which is answered like an append.
    SnapshotReply {
        /// Ballot of the one asked.
        ballot: Ballot,
        /// Repeated from the question.
        round: Round,
        /// Which snapshot.
        last_index: LogIndex,
        /// Byte that is wanted next.
        offset: u64,
    },
    /// Campaign now: the leader hands over.
    TimeoutNow {
        /// The leader's ballot.
        ballot: Ballot,
    },
}

/// Entries that follow a known one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Append {
    /// The leader's ballot.
    pub ballot: Ballot,
    /// Entry before the first; 0 before all.
    pub prev_index: LogIndex,
    /// Its ballot.
    pub prev_ballot: Ballot,
    /// Without gaps.
    #[serde(deserialize_with = "crate::bounded::entries")]
    pub entries: Vec<Entry>,
    /// The leader's commit index.
    pub commit: LogIndex,
    /// Repeated in the answer.
    pub round: Round,
}

/// What became of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AppendOutcome {
    /// Both logs are equal up to this index, durably.
    Matched(LogIndex),
    /// The entry before the first is not there, or is another one.
    Missing {
        /// Repeated from the question.
        prev_index: LogIndex,
        /// The logs may be equal up to here.
        hint: LogIndex,
    },
    /// The ballot is over.
    Stale,
}

/// A part of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotPart {
    /// The leader's ballot.
    pub ballot: Ballot,
    /// Repeated in the answer.
    pub round: Round,
    /// Last entry that the snapshot covers.
    pub last_index: LogIndex,
    /// Its ballot.
    pub last_ballot: Ballot,
    /// Configuration at that entry.
    pub configuration: Configuration,
    /// Entry that brought the configuration.
    pub config_index: ConfigIndex,
    /// Where this part begins.
    pub offset: u64,
    /// Length of the whole.
    pub total: u64,
    /// This part.
    pub bytes: Vec<u8>,
}

/// Greatest index: the part of a term that is an index has 48 bits, one is left as a margin.
const INDEX_MAX: LogIndex = LogIndex(1 << (Term::INDEX_BITS - 1));
/// A ballot further ahead than this is damage: at one election a millisecond it takes 49 days.
const MAX_BALLOT_STEP: u64 = 1 << 32;
/// Last ballot: room above it, so that counting on never overflows.
const BALLOT_MAX: Ballot = Ballot(1 << 62);

impl LedgerMessage {
    /// The ballot named in the message.
    pub fn ballot(&self) -> Ballot {
        match self {
            Self::PreVote { ballot, .. }
            | Self::PreVoteReply { ballot, .. }
            | Self::Vote { ballot, .. }
            | Self::VoteReply { ballot, .. }
            | Self::AppendReply { ballot, .. }
            | Self::SnapshotReply { ballot, .. }
            | Self::TimeoutNow { ballot } => *ballot,
            Self::Append(a) => a.ballot,
            Self::SnapshotPart(p) => p.ballot,
        }
    }

    /// The bounds, for a member that is at ballot `mine`; the error says which one is broken.
    pub(super) fn check(&self, mine: Ballot) -> Result<(), &'static str> {
        let ballot = self.ballot();
        if ballot > BALLOT_MAX || ballot.0 > mine.0.saturating_add(MAX_BALLOT_STEP) {
            return Err("a ballot too far ahead");
        }
        match self {
            Self::PreVote { last_index, .. } | Self::Vote { last_index, .. } => {
                in_range(*last_index)
            }
            Self::Append(a) => a.check(),
            Self::AppendReply { outcome, .. } => match outcome {
                AppendOutcome::Matched(i) => in_range(*i),
                AppendOutcome::Missing { prev_index, hint } if hint < prev_index => {
                    in_range(*prev_index)
                }
                AppendOutcome::Missing { .. } => Err("a hint that does not go back"),
                AppendOutcome::Stale => Ok(()),
            },
            Self::SnapshotPart(p) => p.check(),
            _ => Ok(()),
        }
    }
}

impl Append {
    fn check(&self) -> Result<(), &'static str> {
        in_range(self.prev_index)?;
        if self.entries.len() > MAX_APPEND_ENTRIES {
            return Err("too many entries");
        }
        let mut previous = (self.prev_index, self.prev_ballot);
        for e in &self.entries {
            if e.index != previous.0.next() {
                return Err("entries with a gap");
            }
            if e.ballot < previous.1 || e.ballot > self.ballot {
                return Err("entries whose ballots are out of order");
            }
            if matches!(&e.payload, Payload::Batch(ops) if ops.len() > MAX_BATCH_OPS) {
                return Err("too many operations in an entry");
            }
            previous = (e.index, e.ballot);
        }
        Ok(())
    }
}

impl SnapshotPart {
    /// The bounds of a part by itself.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        in_range(self.last_index)?;
        let end = self.offset.saturating_add(self.bytes.len() as u64);
        if self.last_index == LogIndex(0) || self.last_ballot > self.ballot {
            return Err("a snapshot of nothing, or from the future");
        }
        if self.config_index.0 > self.last_index.0 {
            return Err("a snapshot whose configuration comes after it");
        }
        if self.total > SNAPSHOT_BYTES as u64 || end > self.total {
            return Err("a snapshot beyond its bounds");
        }
        if self.bytes.len() > SNAPSHOT_PART_BYTES || (self.bytes.is_empty() && end < self.total) {
            return Err("a snapshot part that is too long, or empty");
        }
        Ok(())
    }
}

fn in_range(index: LogIndex) -> Result<(), &'static str> {
    if index > INDEX_MAX { Err("an index beyond all bounds") } else { Ok(()) }
}

impl fmt::Display for LedgerMessage {
    /// One line, for traces.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let yes = |granted: &bool| if *granted { "yes" } else { "no" };
        match self {
            Self::PreVote { ballot, last_index, last_ballot } => {
                write!(f, "pre-vote? ballot {ballot} log {last_index}@{last_ballot}")
            }
            Self::PreVoteReply { ballot, granted } => {
                write!(f, "pre-vote {} ballot {ballot}", yes(granted))
            }
            Self::Vote { ballot, last_index, last_ballot, transfer } => {
                let by = if *transfer { " transfer" } else { "" };
                write!(f, "vote? ballot {ballot} log {last_index}@{last_ballot}{by}")
            }
            Self::VoteReply { ballot, granted } => {
                write!(f, "vote {} ballot {ballot}", yes(granted))
            }
            Self::Append(a) => {
                write!(f, "append ballot {} after {}@{}", a.ballot, a.prev_index, a.prev_ballot)?;
                for e in &a.entries {
                    let what = match &e.payload {
                        Payload::Noop => "noop",
                        Payload::Configuration(_) => "configuration",
                        Payload::Batch(_) => "batch",
                    };
                    write!(f, " [{}@{} {what}]", e.index, e.ballot)?;
                }
                write!(f, " commit {} round {}", a.commit, a.round.0)
            }
            Self::AppendReply { ballot, round, outcome } => {
                let round = round.0;
                match outcome {
                    AppendOutcome::Matched(i) => {
                        write!(f, "matched {i} ballot {ballot} round {round}")
                    }
                    AppendOutcome::Missing { prev_index, hint } => {
                        write!(f, "missing {prev_index} try {hint} ballot {ballot} round {round}")
                    }
                    AppendOutcome::Stale => write!(f, "stale, ballot is {ballot}"),
                }
            }
            Self::SnapshotPart(p) => {
                let end = p.offset + p.bytes.len() as u64;
                let (index, ballot) = (p.last_index, p.last_ballot);
                write!(f, "snapshot {index}@{ballot} bytes {}..{end} of {}", p.offset, p.total)
            }
            Self::SnapshotReply { last_index, offset, .. } => {
                write!(f, "snapshot {last_index} wants byte {offset}")
            }
            Self::TimeoutNow { ballot } => write!(f, "campaign now, ballot is {ballot}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{configuration, entry};
    use super::*;

    fn append(prev: u64, entries: Vec<Entry>) -> Append {
        Append {
            ballot: Ballot(5),
            prev_index: LogIndex(prev),
            prev_ballot: Ballot(1),
            entries,
            commit: LogIndex(u64::MAX),
            round: Round(u64::MAX),
        }
    }

    #[test]
    fn messages_out_of_bounds_are_named_before_they_touch_anything() {
        let part = SnapshotPart {
            ballot: Ballot(5),
            round: Round(0),
            last_index: LogIndex(9),
            last_ballot: Ballot(5),
            configuration: configuration(3),
            config_index: ConfigIndex(1),
            offset: 0,
            total: 4,
            bytes: vec![1; 4],
        };
        let boxed = |p: SnapshotPart| LedgerMessage::SnapshotPart(Box::new(p));
        assert_eq!(boxed(part.clone()).check(Ballot(5)), Ok(()));
        assert_eq!(LedgerMessage::Append(append(1, vec![entry(2, 1)])).check(Ballot(5)), Ok(()));
        let reply =
            |outcome| LedgerMessage::AppendReply { ballot: Ballot(5), round: Round(1), outcome };
        let bad = [
            LedgerMessage::TimeoutNow { ballot: Ballot(u64::MAX) },
            LedgerMessage::Append(append(u64::MAX, vec![])),
            LedgerMessage::Append(append(1, vec![entry(3, 1)])),
            LedgerMessage::Append(append(1, vec![entry(2, 6)])),
            LedgerMessage::Append(append(1, vec![entry(2, 3), entry(3, 2)])),
            LedgerMessage::Append(append(0, (1..=65).map(|i| entry(i, 1)).collect())),
            reply(AppendOutcome::Matched(LogIndex(u64::MAX))),
            reply(AppendOutcome::Missing { prev_index: LogIndex(3), hint: LogIndex(3) }),
            boxed(SnapshotPart { total: u64::MAX, ..part.clone() }),
            boxed(SnapshotPart { offset: u64::MAX, ..part.clone() }),
            boxed(SnapshotPart { bytes: vec![], ..part.clone() }),
            boxed(SnapshotPart { last_ballot: Ballot(6), ..part.clone() }),
            boxed(SnapshotPart { config_index: ConfigIndex(10), ..part }),
        ];
        for message in bad {
            assert!(message.check(Ballot(5)).is_err(), "{message} was accepted");
        }
    }
}
