//! What clients were told, and what the members decided: HIST and linearizability.
//!
//! The ledger gives every decision a place. So the history of clients is linearizable when that order
//! keeps to real time: a command that was asked after another had ended has a later place, and a
//! read sees everything that had ended before it was asked.

use std::collections::BTreeMap;

use tierce_ticket::command::{Command, Outcome};
use tierce_ticket::docket::Event;
use tierce_ticket::ids::{LogIndex, RequestId};

/// Everything told and decided.
#[derive(Debug, Default)]
pub struct History {
    /// By index: what the entry did.
    decided: BTreeMap<LogIndex, Vec<u8>>,
    asked: BTreeMap<RequestId, Asked>,
    /// Ended decisions: (when, index), in order of time.
    ended: Vec<(u64, LogIndex)>,
    /// Decisions that a client was told of.
    acknowledged: BTreeMap<LogIndex, RequestId>,
}

#[derive(Debug)]
struct Asked {
    at: u64,
    read: bool,
}

impl History {
    /// A member applied an entry.
    ///
    /// # Panics
    /// When another member applied another one at this place (HIST).
    pub fn decided(&mut self, who: &str, index: LogIndex, events: &[Event]) {
        let bytes = postcard::to_stdvec(events).expect("events are plain data");
        let known = self.decided.entry(index).or_insert_with(|| bytes.clone());
        assert_eq!(*known, bytes, "HIST: {who} applied another entry {index}");
    }

    /// A client asks.
    pub fn asked(&mut self, now: u64, request: RequestId, command: &Command) {
        // An admission or removal that finds its work done decides nothing: it is a read.
        let read =
            matches!(command, Command::Read | Command::Admit { .. } | Command::Remove { .. });
        self.asked.insert(request, Asked { at: now, read });
    }

    /// A client hears.
    ///
    /// # Panics
    /// When that breaks the order of real time.
    pub fn told(&mut self, now: u64, request: RequestId, outcome: &Outcome) {
        let (Some(asked), Outcome::Done { index, .. }) = (self.asked.remove(&request), outcome)
        else {
            return;
        };
        let before = self.ended.partition_point(|(at, _)| *at < asked.at);
        let newest = self.ended[..before].iter().map(|(_, i)| *i).max().unwrap_or_default();
        if asked.read {
            let seen = format!("a read saw {index}, {newest} had ended before it was asked");
            assert!(*index >= newest, "linearizability: {seen}");
        } else {
            let place = format!("a command got place {index}, {newest} had ended before it");
            assert!(*index > newest, "linearizability: {place}");
            self.acknowledged.insert(*index, request);
        }
        self.ended.push((now, *index));
    }

    /// Every acknowledged decision is in the log that all members share, up to `applied`.
    ///
    /// # Panics
    /// When one was lost.
    pub fn nothing_lost(&self, applied: LogIndex) {
        for (index, request) in &self.acknowledged {
            assert!(
                *index <= applied && self.decided.contains_key(index),
                "the decision {index} of request {} was acknowledged and is lost",
                request.0
            );
        }
    }

    /// Decisions that clients were told of.
    pub fn acknowledged(&self) -> usize {
        self.acknowledged.len()
    }
}
