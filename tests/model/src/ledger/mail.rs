//! Messages on their way, what stands for them in comparisons, and which of them still matter.

use std::hash::{Hash, Hasher};

use tierce_ticket::entry::{Entry, Payload};
use tierce_ticket::ids::MemberId;
use tierce_ticket::ledger::{AppendOutcome, LedgerMessage, LedgerRole, Round};

use super::node::Node;
use crate::digest::digester;
use crate::mutant::Mutant;

/// A message on its way. It may arrive at any later moment, or never.
#[derive(Clone, Debug)]
pub struct Mail {
    /// From.
    pub from: MemberId,
    /// To.
    pub to: MemberId,
    /// What.
    pub message: LedgerMessage,
    pub(super) digest: u64,
}

/// Whether a message could still change anything: at the one that it is for, or, by the answer, at
/// the one that it is from. A ballot that is not durable may be forgotten: the durable one counts.
pub(super) fn is_useful(m: &Mail, from: &Node, to: &Node) -> bool {
    let (durable, mine) = (to.disk.hard.ballot, to.ledger.ballot());
    let teaches = from.ledger.ballot() < mine;
    let (asked, role) = (m.message.ballot(), to.ledger.role());
    match &m.message {
        LedgerMessage::PreVote { ballot, .. } => {
            let asks = from.ledger.role() == LedgerRole::PreCandidate;
            asks && (from.ledger.ballot().0 + 1 == ballot.0 || teaches)
        }
        LedgerMessage::PreVoteReply { ballot, granted } => {
            let hears = role == LedgerRole::PreCandidate;
            hears && if *granted { ballot.0 == mine.0 + 1 } else { *ballot > mine }
        }
        LedgerMessage::VoteReply { ballot, granted } => {
            *ballot > mine || (*granted && asked == mine && role == LedgerRole::Candidate)
        }
        LedgerMessage::AppendReply { .. } | LedgerMessage::SnapshotReply { .. } => {
            asked > mine || (asked == mine && role == LedgerRole::Leader)
        }
        LedgerMessage::Vote { .. }
        | LedgerMessage::Append(_)
        | LedgerMessage::SnapshotPart(_)
        | LedgerMessage::TimeoutNow { .. } => asked >= durable || teaches,
    }
}

/// A part of a snapshot as it would be, were parts one byte long.
pub(super) fn in_small_parts(message: LedgerMessage) -> LedgerMessage {
    match message {
        LedgerMessage::SnapshotPart(mut part) => {
            part.bytes.truncate(1);
            LedgerMessage::SnapshotPart(part)
        }
        other => other,
    }
}

impl Mail {
    pub(super) fn new(from: MemberId, to: MemberId, message: LedgerMessage) -> Self {
        let mut h = digester();
        (from, to, digest_of_message(&message)).hash(&mut h);
        Self { from, to, message, digest: h.finish() }
    }

    /// Whether the other, on the same way, says nothing that this one does not.
    pub(super) fn says_all_of(&self, old: &Mail) -> bool {
        if (self.from, self.to) != (old.from, old.to) {
            return false;
        }
        match (&self.message, &old.message) {
            (LedgerMessage::Append(new), LedgerMessage::Append(old)) => {
                let known = old.prev_index <= new.prev_index && old.commit <= new.commit;
                old.entries.is_empty() && new.ballot == old.ballot && known
            }
            (
                LedgerMessage::AppendReply { ballot, outcome: AppendOutcome::Matched(new), .. },
                LedgerMessage::AppendReply {
                    ballot: b, outcome: AppendOutcome::Matched(old), ..
                },
            ) => ballot == b && old <= new,
            _ => false,
        }
    }

    /// As the planted bugs want it to arrive.
    pub fn arriving(&self, to: &Node, mutant: Option<Mutant>) -> LedgerMessage {
        let mut m = self.message.clone();
        if mutant == Some(Mutant::AnswerPairedWrong)
            && let LedgerMessage::AppendReply { round, .. } = &mut m
        {
            *round = Round(to.rounds);
        }
        m
    }
}

/// What stands for a message in comparisons.
pub(super) fn digest_of_message(message: &LedgerMessage) -> u64 {
    let mut h = digester();
    std::mem::discriminant(message).hash(&mut h);
    message.ballot().hash(&mut h);
    match message {
        LedgerMessage::PreVote { last_index, last_ballot, .. } => {
            (last_index, last_ballot).hash(&mut h);
        }
        LedgerMessage::Vote { last_index, last_ballot, transfer, .. } => {
            (last_index, last_ballot, transfer).hash(&mut h);
        }
        LedgerMessage::PreVoteReply { granted, .. } | LedgerMessage::VoteReply { granted, .. } => {
            granted.hash(&mut h);
        }
        LedgerMessage::Append(a) => {
            (a.prev_index, a.prev_ballot, a.commit, a.round).hash(&mut h);
            a.entries.iter().for_each(|e| digest_of_entry(e, &mut h));
        }
        LedgerMessage::AppendReply { round, outcome, .. } => {
            round.hash(&mut h);
            match outcome {
                AppendOutcome::Matched(i) => (0_u8, i).hash(&mut h),
                AppendOutcome::Missing { prev_index, hint } => {
                    (1_u8, prev_index, hint).hash(&mut h);
                }
                AppendOutcome::Stale => 2_u8.hash(&mut h),
            }
        }
        LedgerMessage::SnapshotPart(p) => {
            (p.round, p.last_index, p.last_ballot, p.offset, &p.bytes).hash(&mut h);
        }
        LedgerMessage::SnapshotReply { round, last_index, offset, .. } => {
            (round, last_index, offset).hash(&mut h);
        }
        LedgerMessage::TimeoutNow { .. } => {}
    }
    h.finish()
}

pub(super) fn digest_of_entry(entry: &Entry, h: &mut impl Hasher) {
    (entry.index, entry.ballot, entry.wall_ms).hash(h);
    match &entry.payload {
        Payload::Noop => 0_u8.hash(h),
        Payload::Configuration(c) => c.voters.keys().for_each(|v| v.hash(h)),
        Payload::Batch(ops) => format!("{ops:?}").hash(h),
    }
}
