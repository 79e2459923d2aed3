//! What a voter must not forget, and how it is read back.
//!
//! The journal holds [`LedgerRecord`]s in the order in which the ledger asked for them. Reading
//! them back in that order gives [`LedgerDurable`], from which a ledger starts. A journal that was
//! written by this code replays without an error; one that does not replay is not this voter's
//! memory any more (R5), so every broken order is refused with its numbers instead of repaired.
//!
//! Invariants of the result: entries are without gaps and begin at most [`LOG_KEEP_ENTRIES`] before
//! the snapshot's end; ballots never fall along the log; hard state never goes back; nothing that
//! was known to be committed is ever replaced.

use serde::{Deserialize, Serialize};

use crate::configuration::Configuration;
use crate::entry::{Entry, Payload};
use crate::ids::{Ballot, ConfigIndex, LogIndex, MemberId};
use crate::limits::LOG_KEEP_ENTRIES;

/// What a voter has sworn: one vote per ballot, and no going back to an older ballot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HardState {
    /// Newest ballot taken part in.
    pub ballot: Ballot,
    /// Who got the vote of that ballot.
    pub voted_for: Option<MemberId>,
    /// Entries known to be committed when this was written. A hint that may lag: it only spares a
    /// restarted member the wait for a leader's word on old entries.
    pub commit: LogIndex,
}

/// The state of everything up to an entry, in place of the entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Last entry that it covers.
    pub last_index: LogIndex,
    /// Ballot of that entry.
    pub last_ballot: Ballot,
    /// Newest configuration at that entry.
    pub configuration: Configuration,
    /// Entry that brought it.
    pub config_index: ConfigIndex,
    /// The docket's bytes; the ledger does not look inside.
    pub state: Vec<u8>,
}

/// One record of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::large_enum_variant, reason = "records are moved once, into the journal")]
pub enum LedgerRecord {
    /// Replaces the hard state.
    HardState(HardState),
    /// Entries without gaps. When the first lies inside the log, the log ends before it.
    Entries(Vec<Entry>),
    /// Replaces the entries that it covers but for a tail kept for followers; replaces all of
    /// them when the log does not contain its last entry.
    Snapshot(Snapshot),
}

/// Why a journal is not the memory of a ledger.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// Ballot, vote or commit fell.
    #[error(
        "hard state goes back from {old:?} to {new:?}; the journal is not this voter's memory; re-admit the member under a new store (R5)"
    )]
    HardStateBack {
        /// Before.
        old: HardState,
        /// In the record.
        new: HardState,
    },
    /// Entries leave a gap, are empty, overlap a snapshot, or their ballots fall.
    #[error(
        "entries from {first} do not follow a log that ends at {last} ({why}); the journal is damaged; re-admit the member under a new store (R5)"
    )]
    Entries {
        /// First index in the record; 0 for an empty record.
        first: LogIndex,
        /// End of the log before.
        last: LogIndex,
        /// The rule broken.
        why: &'static str,
    },
    /// A snapshot older than the present one, or at odds with committed entries.
    #[error(
        "a snapshot at {index} does not follow ({why}); the journal is damaged; re-admit the member under a new store (R5)"
    )]
    Snapshot {
        /// Its last entry.
        index: LogIndex,
        /// The rule broken.
        why: &'static str,
    },
}

/// A ledger's memory, as read from the journal. The default is that of a member that joins: it
/// knows nothing and learns everything from a leader.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LedgerDurable {
    /// Votes.
    pub hard: HardState,
    /// Newest snapshot.
    pub snapshot: Option<Snapshot>,
    /// Entries after it, and a tail before its end.
    pub entries: Vec<Entry>,
}

impl LedgerDurable {
    /// The memory of a founding voter: entry 1, the same at all of them.
    pub fn founding(configuration: Configuration, wall_ms: u64) -> Self {
        let payload = Payload::Configuration(Box::new(configuration));
        let entry = Entry { index: LogIndex(1), ballot: Ballot(0), wall_ms, payload };
        Self { entries: vec![entry], ..Self::default() }
    }

    /// Index of the last entry, or of the snapshot when none follow.
    pub fn last_index(&self) -> LogIndex {
        self.last().0
    }

    fn last(&self) -> (LogIndex, Ballot) {
        let of_snapshot = self.snapshot.as_ref().map(|s| (s.last_index, s.last_ballot));
        self.entries.last().map(|e| (e.index, e.ballot)).or(of_snapshot).unwrap_or_default()
    }

    fn at(&self, index: LogIndex) -> Option<&Entry> {
        let first = self.entries.first()?.index;
        self.entries.get(usize::try_from(index.0.checked_sub(first.0)?).ok()?)
    }

    /// Records that rebuild this memory from nothing, for the start of a fresh journal. The tail
    /// before the snapshot's end is left out: it only spares slow followers a snapshot.
    pub fn records(&self) -> Vec<LedgerRecord> {
        let mut records = vec![LedgerRecord::HardState(self.hard)];
        let covered = self.snapshot.as_ref().map_or(LogIndex(0), |s| s.last_index);
        records.extend(self.snapshot.clone().map(LedgerRecord::Snapshot));
        let rest: Vec<_> = self.entries.iter().filter(|e| e.index > covered).cloned().collect();
        if !rest.is_empty() {
            records.push(LedgerRecord::Entries(rest));
        }
        records
    }

    /// Takes the next record of the journal. Total: whatever the record holds, the answer is a
    /// memory that keeps the invariants, or an error and the memory as it was.
    pub fn replay(&mut self, record: LedgerRecord) -> Result<(), ReplayError> {
        match record {
            LedgerRecord::HardState(new) => self.replay_hard(new),
            LedgerRecord::Entries(new) => self.replay_entries(new),
            LedgerRecord::Snapshot(new) => self.replay_snapshot(new),
        }
    }

    /// Checks at the end of a replay, which single records cannot carry.
    pub fn check(&self) -> Result<(), ReplayError> {
        let last = self.last_index();
        if self.hard.commit > last {
            let why = "entries known to be committed are missing";
            return Err(ReplayError::Entries { first: self.hard.commit, last, why });
        }
        Ok(())
    }

    fn replay_hard(&mut self, new: HardState) -> Result<(), ReplayError> {
        let old = self.hard;
        let vote_kept = old.voted_for.is_none() || old.voted_for == new.voted_for;
        let forward = new.ballot > old.ballot || (new.ballot == old.ballot && vote_kept);
        if !forward || new.commit < old.commit {
            return Err(ReplayError::HardStateBack { old, new });
        }
        self.hard = new;
        Ok(())
    }

    fn replay_entries(&mut self, new: Vec<Entry>) -> Result<(), ReplayError> {
        let last = self.last_index();
        let first = new.first().map_or(LogIndex(0), |e| e.index);
        let refuse = |why| Err(ReplayError::Entries { first, last, why });
        let covered = self.snapshot.as_ref().map_or(LogIndex(0), |s| s.last_index);
        if first == LogIndex(0) {
            return refuse("there is no first entry");
        }
        if first.prev() > last {
            return refuse("there is a gap");
        }
        if first <= covered {
            return refuse("a snapshot covers them");
        }
        let before = match self.at(first.prev()) {
            Some(e) => e.ballot,
            // The snapshot ends right before them.
            None => self.snapshot.as_ref().map_or(Ballot(0), |s| s.last_ballot),
        };
        let mut previous = (first.prev(), before);
        for e in &new {
            if e.index.prev() != previous.0 || e.index == LogIndex(0) {
                return refuse("there is a gap within");
            }
            if e.ballot < previous.1 {
                return refuse("their ballots are out of order");
            }
            previous = (e.index, e.ballot);
        }
        let committed = self.entries.iter().filter(|e| e.index >= first);
        let mut committed = committed.take_while(|e| e.index <= self.hard.commit).zip(0..);
        let same = committed.all(|(e, i): (_, usize)| new.get(i) == Some(e));
        if !same {
            return refuse("they replace committed entries");
        }
        self.entries.retain(|e| e.index < first);
        self.entries.extend(new);
        Ok(())
    }

    fn replay_snapshot(&mut self, new: Snapshot) -> Result<(), ReplayError> {
        let index = new.last_index;
        let refuse = |why| Err(ReplayError::Snapshot { index, why });
        if let Some(old) = &self.snapshot {
            if index < old.last_index {
                return refuse("a newer one is there");
            }
            if index == old.last_index && new != *old {
                return refuse("another one of the same index is there");
            }
        }
        let here = self.at(index).map(|e| e.ballot).or_else(|| {
            let s = self.snapshot.as_ref().filter(|s| s.last_index == index);
            s.map(|s| s.last_ballot)
        });
        if here == Some(new.last_ballot) {
            let keep = kept_from(index);
            self.entries.retain(|e| e.index >= keep);
        } else {
            if here.is_some() && index <= self.hard.commit {
                return refuse("it contradicts committed entries");
            }
            self.entries.clear();
        }
        self.snapshot = Some(new);
        Ok(())
    }
}

/// First entry that stays when a snapshot covers everything up to `covered`.
pub(super) fn kept_from(covered: LogIndex) -> LogIndex {
    LogIndex(covered.0.saturating_sub(LOG_KEEP_ENTRIES))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{configuration, entry};
    use super::*;

    fn hard(ballot: u64, vote: Option<u32>, commit: u64) -> LedgerRecord {
        LedgerRecord::HardState(HardState {
            ballot: Ballot(ballot),
            voted_for: vote.map(MemberId),
            commit: LogIndex(commit),
        })
    }

    fn entries(of: &[(u64, u64)]) -> LedgerRecord {
        LedgerRecord::Entries(of.iter().map(|(i, b)| entry(*i, *b)).collect())
    }

    fn snapshot(index: u64, ballot: u64) -> LedgerRecord {
        LedgerRecord::Snapshot(Snapshot {
            last_index: LogIndex(index),
            last_ballot: Ballot(ballot),
            configuration: configuration(3),
            config_index: ConfigIndex(1),
            state: vec![7],
        })
    }

    fn replayed(records: &[LedgerRecord]) -> Result<LedgerDurable, ReplayError> {
        let mut d = LedgerDurable::founding(configuration(3), 0);
        records.iter().try_for_each(|r| d.replay(r.clone()))?;
        d.check().map(|()| d)
    }

    #[test]
    fn a_journal_replays_to_its_last_word() {
        let d = replayed(&[
            hard(1, Some(1), 1),
            entries(&[(2, 1), (3, 1), (4, 1)]),
            hard(2, None, 2),
            entries(&[(3, 2)]),
        ])
        .unwrap();
        let shape: Vec<_> = d.entries.iter().map(|e| (e.index.0, e.ballot.0)).collect();
        assert_eq!(shape, [(1, 0), (2, 1), (3, 2)]);
        assert_eq!(d.hard.ballot, Ballot(2));
    }

    #[test]
    fn its_own_records_rebuild_it_wherever_they_are_repeated() {
        let d =
            replayed(&[hard(3, Some(2), 3), entries(&[(2, 1), (3, 1), (4, 3)]), snapshot(3, 1)])
                .unwrap();
        let mut fresh = LedgerDurable::default();
        d.records().into_iter().for_each(|r| fresh.replay(r).unwrap());
        assert_eq!(fresh.last_index(), LogIndex(4));
        assert_eq!(fresh.hard, d.hard);
        let mut again = d.clone();
        d.records().into_iter().for_each(|r| again.replay(r).unwrap());
        assert_eq!(again, d);
    }

    #[test]
    fn a_snapshot_that_the_log_does_not_contain_replaces_the_log() {
        let d = replayed(&[hard(3, None, 1), entries(&[(2, 1), (3, 1)]), snapshot(3, 2)]).unwrap();
        assert_eq!((d.entries.len(), d.last_index()), (0, LogIndex(3)));
    }

    fn shape(d: &LedgerDurable) -> Vec<(u64, u64)> {
        d.entries.iter().map(|e| (e.index.0, e.ballot.0)).collect()
    }

    #[test]
    fn what_follows_a_snapshot_may_be_replaced_by_what_an_earlier_leader_wrote() {
        let begin = [hard(7, None, 1), snapshot(3, 2), entries(&[(4, 5)])];
        let d = replayed(&[&begin[..], &[entries(&[(4, 3), (5, 7)])]].concat()).unwrap();
        assert_eq!(shape(&d), [(4, 3), (5, 7)]);
        let older = replayed(&[&begin[..], &[entries(&[(4, 1)])]].concat());
        assert!(older.is_err(), "nothing after a snapshot is from before it");
    }

    #[test]
    fn a_snapshot_told_twice_changes_nothing_and_a_later_one_replaces_it() {
        let begin = [hard(2, None, 1), snapshot(3, 2), entries(&[(4, 2)])];
        let again = replayed(&[&begin[..], &[snapshot(3, 2)]].concat()).unwrap();
        assert_eq!(shape(&again), [(4, 2)]);
        let later = replayed(&[&begin[..], &[snapshot(6, 2)]].concat()).unwrap();
        assert_eq!((shape(&later), later.last_index()), (vec![], LogIndex(6)));
        let LedgerRecord::Snapshot(mut other) = snapshot(3, 2) else { unreachable!() };
        other.state = vec![8];
        let other = LedgerRecord::Snapshot(other);
        assert!(replayed(&[&begin[..], &[other]].concat()).is_err(), "two of one index");
    }

    #[test]
    fn every_broken_order_is_refused() {
        let bad: [(&str, Vec<LedgerRecord>); 11] = [
            ("ballot back", vec![hard(2, None, 1), hard(1, None, 1)]),
            ("second vote", vec![hard(2, Some(1), 1), hard(2, Some(2), 1)]),
            ("vote withdrawn", vec![hard(2, Some(1), 1), hard(2, None, 1)]),
            ("commit back", vec![hard(2, None, 1), hard(2, None, 0)]),
            ("commit beyond the end", vec![hard(2, None, 9)]),
            ("no entries", vec![LedgerRecord::Entries(vec![])]),
            ("gap", vec![hard(1, None, 1), entries(&[(3, 1)])]),
            ("gap within", vec![hard(1, None, 1), entries(&[(2, 1), (4, 1)])]),
            ("ballot falls", vec![hard(2, None, 1), entries(&[(2, 2), (3, 1)])]),
            ("committed replaced", vec![hard(2, None, 2), entries(&[(2, 1)]), entries(&[(2, 2)])]),
            ("snapshot back", vec![hard(1, None, 1), snapshot(5, 1), snapshot(4, 1)]),
        ];
        for (what, records) in bad {
            assert!(replayed(&records).is_err(), "{what} was accepted");
        }
    }
}
