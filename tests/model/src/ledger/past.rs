//! What is judged: what has become final, who led, what a read may say; and what must be seen.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use tierce_ticket::entry::Entry;
use tierce_ticket::ids::{Ballot, LogIndex, MemberId};
use tierce_ticket::ledger::Snapshot;

use crate::digest::digester;

use super::mail::digest_of_entry;
use super::state::Cluster;

/// Things that a scope must have seen at least once, or it is vacuous.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[allow(missing_docs)] // `words` says each
pub enum Sign {
    SecondLeader,
    TwoLead,
    Overwritten,
    LostUnsynced,
    ReadAnswered,
    ReadFailed,
    Compacted,
    SnapshotInstalled,
    VotersChangedTwice,
    HeldByWait,
}

impl Sign {
    /// As a property's name.
    pub fn words(self) -> &'static str {
        match self {
            Sign::SecondLeader => "sometimes: a second leader is elected",
            Sign::TwoLead => "sometimes: a leader does not know yet that another leads",
            Sign::Overwritten => "sometimes: an entry of an older leader is overwritten",
            Sign::LostUnsynced => "sometimes: a crash loses records that were not durable",
            Sign::ReadAnswered => "sometimes: a read is answered",
            Sign::ReadFailed => "sometimes: a read fails with its leader",
            Sign::Compacted => "sometimes: a log with entries is compacted",
            Sign::SnapshotInstalled => "sometimes: a snapshot is installed",
            Sign::VotersChangedTwice => "sometimes: the voters change twice, both final",
            Sign::HeldByWait => "sometimes: only R11's wait holds a change back",
        }
    }
}

/// A rule that was seen broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // `words` says each
pub enum Breach {
    History,
    TwoLeaders,
    Incomplete,
    Backward,
    OldRead,
    Alarm,
    NoReplay,
}

impl Breach {
    /// All of them.
    pub const ALL: [Breach; 7] = [
        Breach::History,
        Breach::TwoLeaders,
        Breach::Incomplete,
        Breach::Backward,
        Breach::OldRead,
        Breach::Alarm,
        Breach::NoReplay,
    ];

    /// As a property's name.
    pub fn words(self) -> &'static str {
        match self {
            Breach::History => "HIST: what is final is final, and the same everywhere",
            Breach::TwoLeaders => "BALLOT: at most one leader in each",
            Breach::Incomplete => "COMPLETE: a leader has all that earlier ballots made final",
            Breach::Backward => "FORWARD: no commit index falls within a life",
            Breach::OldRead => "READ: none is answered from before what was final when asked",
            Breach::Alarm => "ALARM: none is raised",
            Breach::NoReplay => "R6: what a journal holds replays",
        }
    }
}

/// A final entry.
#[derive(Clone, Debug)]
pub struct Final {
    /// The entry.
    pub entry: Entry,
    /// In which ballot it became final.
    pub ballot: Ballot,
    /// Stands for it and all before it.
    pub prefix: u64,
}

impl Final {
    /// The next after these, final in this ballot.
    pub fn after(last: Option<&Final>, entry: &Entry, ballot: Ballot) -> Self {
        let mut h = digester();
        last.map(|f| f.prefix).hash(&mut h);
        digest_of_entry(entry, &mut h);
        Self { entry: entry.clone(), ballot, prefix: h.finish() }
    }
    /// The state that everything up to here adds up to: two bytes, so that it goes in two parts.
    pub fn state(&self) -> Vec<u8> {
        (self.prefix as u16).to_le_bytes().to_vec()
    }
}

/// What has been seen: nothing that members know, only what they are judged by.
#[derive(Clone, Debug, Default)]
pub struct Past {
    /// All that is final, from entry 1.
    pub finals: Vec<Final>,
    /// Who led when.
    pub leaders: BTreeMap<Ballot, MemberId>,
    /// Reads that wait: what was final when each was asked.
    pub reads: BTreeMap<u64, LogIndex>,
}

impl Cluster {
    /// Entries up to here are final: HIST.
    pub(super) fn committed(&mut self, i: usize, upto: LogIndex) {
        if upto < self.nodes[i].applied {
            self.broken = Some(Breach::Backward);
            return;
        }
        for index in self.nodes[i].applied.0 + 1..=upto.0 {
            let (n, past) = (Arc::clone(&self.nodes[i]), Arc::make_mut(&mut self.past));
            let Some(entry) = n.ledger.entry(LogIndex(index)) else {
                self.broken = Some(Breach::History);
                return;
            };
            match past.finals.get(index as usize - 1) {
                Some(f) if f.entry == *entry => {}
                None if past.finals.len() as u64 + 1 == index => {
                    let next = Final::after(past.finals.last(), entry, n.ledger.ballot());
                    past.finals.push(next);
                }
                _ => {
                    self.broken = Some(Breach::History);
                    return;
                }
            }
        }
        self.node(i).applied = upto;
    }

    pub(super) fn installed(&mut self, i: usize, snapshot: &Snapshot) {
        let index = snapshot.last_index;
        let known = self.past.finals.get(index.0 as usize - 1);
        let same = known
            .is_some_and(|f| f.entry.ballot == snapshot.last_ballot && f.state() == snapshot.state);
        if !same {
            self.broken = Some(Breach::History);
        }
        if index < self.nodes[i].applied {
            self.broken = Some(Breach::Backward);
        }
        if self.nodes[i].applied > LogIndex(0) {
            self.sign(Sign::SnapshotInstalled);
        }
        self.node(i).applied = index;
    }

    /// COMPLETE, of all that lead.
    pub(super) fn judge_leaders(&mut self) {
        let leading: Vec<usize> = (0..self.nodes.len()).filter(|i| self.leads(*i)).collect();
        for i in &leading {
            let l = &self.nodes[*i].ledger;
            let lacks = |f: &&Final| {
                let here = l.ballot_at(f.entry.index);
                let compacted = l.snapshot().is_some_and(|s| s.last_index >= f.entry.index);
                f.ballot < l.ballot() && !compacted && here != Some(f.entry.ballot)
            };
            if self.past.finals.iter().any(|f| lacks(&f)) {
                self.broken.get_or_insert(Breach::Incomplete);
            }
        }
        if leading.len() > 1 {
            self.sign(Sign::TwoLead);
        }
    }
}
