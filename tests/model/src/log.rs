//! The abstract log: one global list of decisions, each final as soon as it is in it.
//!
//! Every member has applied a prefix of it, perhaps an old one. The docket after each entry is
//! computed once, by the real code; that all members reach the same one is what the scope with the
//! real ledger proves.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use tierce_ticket::configuration::Configuration;
use tierce_ticket::docket::{Docket, Event};
use tierce_ticket::entry::{Entry, FenceTarget, Payload};
use tierce_ticket::ids::{Ballot, LogIndex, SessionId, Term, TicketId};

use crate::digest::digester;

/// Decisions in order, with what each led to.
#[derive(Clone, Debug)]
pub struct Log {
    dockets: Vec<Arc<Docket>>,
    events: Vec<Arc<[Event]>>,
    entries: Vec<Entry>,
    digest: u64,
    /// Sessions ever opened.
    pub sessions: Vec<SessionId>,
    /// Tickets ever taken back, with the term.
    pub taken_back: Vec<FenceTarget>,
    newest_term: BTreeMap<TicketId, Term>,
    /// EPOCH: a term did not grow.
    pub term_fell: bool,
}

impl Log {
    /// The founding configuration alone.
    pub fn new(founding: Configuration) -> Self {
        Self {
            dockets: vec![Arc::new(Docket::new(founding.clone()))],
            entries: vec![Entry {
                index: LogIndex(1),
                ballot: Ballot(0),
                wall_ms: 0,
                payload: Payload::Configuration(Box::new(founding)),
            }],
            events: vec![Arc::from([])],
            digest: 0,
            sessions: Vec::new(),
            taken_back: Vec::new(),
            newest_term: BTreeMap::new(),
            term_fell: false,
        }
    }

    /// Entries in it.
    pub fn len(&self) -> usize {
        self.dockets.len()
    }
    /// Never: the founding configuration is there.
    pub fn is_empty(&self) -> bool {
        self.dockets.is_empty()
    }
    /// The docket after the first `applied` entries.
    pub fn docket(&self, applied: usize) -> &Docket {
        &self.dockets[applied - 1]
    }
    /// The entries: what members begin with where each has its own ledger.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }
    /// The docket after all.
    pub fn newest(&self) -> &Docket {
        self.docket(self.len())
    }
    /// What the entry of this number (from 1) did.
    pub fn events(&self, number: usize) -> &[Event] {
        &self.events[number - 1]
    }
    /// Stands for all that the entries did; votes in them are evidence and have no effect later.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// Appends; returns what it does.
    pub fn append(&mut self, payload: Payload) -> Arc<[Event]> {
        let entry = Entry {
            index: LogIndex(self.len() as u64 + 1),
            ballot: Ballot(1),
            wall_ms: 0,
            payload,
        };
        let mut docket = self.newest().clone();
        let events: Arc<[Event]> = docket.apply(&entry).into();
        docket.invariants();
        let mut h = digester();
        (self.digest, self.len()).hash(&mut h);
        for e in &*events {
            self.note(e);
            format!("{e:?}").hash(&mut h);
        }
        if let Payload::Configuration(c) = &entry.payload {
            format!("{:?} {:?}", c.voter_ids(), c.timing).hash(&mut h);
        }
        self.digest = h.finish();
        self.entries.push(entry);
        self.dockets.push(Arc::new(docket));
        self.events.push(Arc::clone(&events));
        events
    }

    fn note(&mut self, event: &Event) {
        match event {
            Event::SessionOpened { session, .. } => self.sessions.push(*session),
            Event::TakeBackBegun { ticket, term } => {
                self.taken_back.push(FenceTarget::Ticket(*ticket, *term));
            }
            Event::Granted { ticket, term, .. } => {
                let before = self.newest_term.insert(*ticket, *term);
                self.term_fell |= before.is_some_and(|t| t >= *term);
            }
            _ => {}
        }
    }
}
