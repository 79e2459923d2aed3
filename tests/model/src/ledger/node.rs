//! One member: the real ledger, and its journal as the driver's contract has it.
//!
//! A record is first written, then durable; what speaks for it waits until then. A crash loses what
//! is not durable, but for any number of first records that landed all the same.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use tierce_ticket::ids::{LogIndex, MemberId};
use tierce_ticket::ledger::{Ledger, LedgerDurable, LedgerMessage, LedgerRecord, LedgerSettings};
use tierce_ticket::time::VoterTime;

use super::mail::digest_of_message;
use super::scope::CHANGE_WAIT;
use crate::digest::digester;
use crate::mutant::Mutant;

/// A leader heard within this is alive.
pub const SILENCE_MIN: Duration = Duration::from_secs(1);
/// After this every silence has lasted too long. So far apart that steps of the others between
/// them never add up to it.
pub const SILENCE_MAX: Duration = Duration::from_secs(100_000);
/// How often a leader speaks: too short to count against the others.
pub const HEARTBEAT: Duration = Duration::from_micros(1);

/// One member.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its number.
    pub id: MemberId,
    /// What its clock shows.
    pub clock: VoterTime,
    /// The real ledger.
    pub ledger: Ledger,
    /// What the journal holds durably.
    pub disk: Arc<LedgerDurable>,
    /// Records written and not yet durable, in order.
    pub unsynced: VecDeque<LedgerRecord>,
    /// Records durable since the start.
    pub synced: u64,
    /// Messages that wait for so many records.
    pub held: VecDeque<(u64, MemberId, LedgerMessage)>,
    /// Entries applied.
    pub applied: LogIndex,
    /// Reads asked in this life: the newest round of a leader.
    pub rounds: u64,
    /// See `digest`.
    known: u64,
}

fn settings(id: MemberId) -> LedgerSettings {
    LedgerSettings {
        me: id,
        election_min: SILENCE_MIN,
        election_max: SILENCE_MAX,
        heartbeat: HEARTBEAT,
        seed: 1,
        change_wait: CHANGE_WAIT,
        may_lead: true,
    }
}

impl Node {
    /// A member that starts with this journal. Its effects are still to be drained.
    pub fn new(id: MemberId, clock: VoterTime, disk: Arc<LedgerDurable>) -> Self {
        Self {
            id,
            clock,
            ledger: Ledger::new(settings(id), (*disk).clone(), clock),
            disk,
            unsynced: VecDeque::new(),
            synced: 0,
            held: VecDeque::new(),
            applied: LogIndex(0),
            rounds: 0,
            known: 0,
        }
    }

    /// Its clock goes on.
    pub fn pass(&mut self, time: Duration) {
        self.clock = self.clock + time;
    }

    /// Records handed out since the start.
    pub fn written(&self) -> u64 {
        self.synced + self.unsynced.len() as u64
    }

    /// The oldest record that is not durable becomes so; false when the journal does not replay.
    pub fn land(&mut self) -> bool {
        let Some(record) = self.unsynced.pop_front() else { return true };
        self.synced += 1;
        land_on(&mut self.disk, record)
    }

    /// It crashes when the first `landed` of the records written are on the disk, and starts again.
    /// `None`: the journal does not replay.
    #[must_use]
    pub fn restarted(&self, landed: usize, mutant: Option<Mutant>) -> Option<Self> {
        let mut disk = Arc::clone(&self.disk);
        let records: Vec<&LedgerRecord> = match mutant {
            Some(Mutant::JournalReordered) => self.unsynced.iter().rev().take(landed).collect(),
            _ => self.unsynced.iter().take(landed).collect(),
        };
        if !records.into_iter().all(|r| land_on(&mut disk, r.clone())) || disk.check().is_err() {
            return None;
        }
        if mutant == Some(Mutant::BallotVoteForgotten) {
            Arc::make_mut(&mut disk).hard.voted_for = None;
        }
        Some(Self::new(self.id, self.clock, disk))
    }

    /// Remembers what stands for it in comparisons; to be called when it has changed.
    pub fn settle(&mut self) {
        let mut h = digester();
        self.ledger.digest(self.clock, &mut h);
        (self.applied, self.unsynced.len(), self.rounds).hash(&mut h);
        for r in &self.unsynced {
            digest_of_record(r, &mut h);
        }
        for (n, to, m) in &self.held {
            (n - self.synced, to, digest_of_message(m)).hash(&mut h);
        }
        if !self.unsynced.is_empty() {
            // With all records durable the disk says what the ledger says.
            let hard = self.disk.hard;
            (hard.ballot, hard.voted_for, hard.commit).hash(&mut h);
            self.disk.snapshot.as_ref().map(|s| s.last_index).hash(&mut h);
            self.disk.entries.iter().for_each(|e| (e.index, e.ballot, e.wall_ms).hash(&mut h));
        }
        // A fresh journal has no tail before the snapshot: what a restart will have kept.
        self.disk.entries.first().map(|e| e.index).hash(&mut h);
        self.disk.hard.commit.hash(&mut h);
        self.known = h.finish();
    }

    /// Stands for everything on which its future depends.
    pub fn digest(&self) -> u64 {
        self.known
    }
}

fn land_on(disk: &mut Arc<LedgerDurable>, record: LedgerRecord) -> bool {
    let fresh = matches!(record, LedgerRecord::Snapshot(_));
    let d = Arc::make_mut(disk);
    if d.replay(record).is_err() {
        return false;
    }
    if fresh {
        // The journal begins anew with the snapshot.
        let records = d.records();
        *d = LedgerDurable::default();
        return records.into_iter().all(|r| d.replay(r).is_ok());
    }
    true
}

fn digest_of_record(record: &LedgerRecord, h: &mut impl Hasher) {
    match record {
        LedgerRecord::HardState(s) => (0_u8, s.ballot, s.voted_for, s.commit).hash(h),
        LedgerRecord::Entries(all) => {
            for e in all {
                (1_u8, e.index, e.ballot, e.wall_ms).hash(h);
            }
        }
        LedgerRecord::Snapshot(s) => (2_u8, s.last_index, s.last_ballot).hash(h),
    }
}
