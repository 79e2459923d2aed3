//! The docket: sessions, tickets, attributes and site declarations, as the ledger decided them.
//!
//! Every member applies the same entries in the same order and so holds the same docket. It reads
//! no clock. An operation that does not hold (a race lost, a leader that was mistaken) changes
//! nothing and is reported as skipped, the same way on every member; nothing here can panic on what
//! a peer sent.
//!
//! Invariants, checked by [`Docket::invariants`]: a ticket has one holder at most; its term only
//! grows; it is granted only when released or expired (R9); an expiry rests on fence votes of a
//! majority of the configuration in force at that place of the log (R8).

mod apply;
mod state;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use state::{
    Decision, Event, FreeBecause, Handover, Hold, Holding, Session, SessionState, Site, Ticket,
    Touched,
};

use crate::configuration::{Configuration, Role};
use crate::entry::{Entry, Payload};
use crate::ids::{ConfigIndex, LogIndex, MemberName, SessionId, Term, TicketId, TicketName};
use crate::limits;

/// The docket; see the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Docket {
    applied: LogIndex,
    configuration: Configuration,
    config_index: ConfigIndex,
    sessions: BTreeMap<SessionId, Session>,
    tickets: BTreeMap<TicketId, Ticket>,
    names: BTreeMap<TicketName, TicketId>,
    next_ticket: TicketId,
    sites: BTreeMap<MemberName, Site>,
    /// Tickets that want a holder or wait out a window: what a leader looks at each time.
    watched: BTreeSet<TicketId>,
    /// Tickets being taken back: what a voter names in each answer.
    revoking: BTreeSet<TicketId>,
}

impl Docket {
    /// The docket after the founding configuration alone.
    pub fn new(configuration: Configuration) -> Self {
        Self {
            applied: LogIndex(1),
            configuration,
            config_index: ConfigIndex(1),
            sessions: BTreeMap::new(),
            tickets: BTreeMap::new(),
            names: BTreeMap::new(),
            next_ticket: TicketId(1),
            sites: BTreeMap::new(),
            watched: BTreeSet::new(),
            revoking: BTreeSet::new(),
        }
    }

    /// Index of the last entry applied.
    pub fn applied(&self) -> LogIndex {
        self.applied
    }
    /// The configuration as committed.
    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }
    /// Index of that configuration.
    pub fn config_index(&self) -> ConfigIndex {
        self.config_index
    }
    /// All tickets by number.
    pub fn tickets(&self) -> impl Iterator<Item = &Ticket> {
        self.tickets.values()
    }
    /// One ticket.
    pub fn ticket(&self, id: TicketId) -> Option<&Ticket> {
        self.tickets.get(&id)
    }
    /// One ticket by name.
    pub fn ticket_named(&self, name: &TicketName) -> Option<&Ticket> {
        self.names.get(name).and_then(|id| self.tickets.get(id))
    }
    /// A session that is open, or ended and still of interest.
    pub fn session(&self, id: SessionId) -> Option<&Session> {
        self.sessions.get(&id)
    }
    /// Sessions that are open.
    pub fn open_sessions(&self) -> impl Iterator<Item = (SessionId, &Session)> {
        self.sessions.iter().filter(|(_, s)| s.state == SessionState::Open).map(|(id, s)| (*id, s))
    }
    /// The newest open session of a site.
    pub fn session_of(&self, site: &MemberName) -> Option<SessionId> {
        self.open_sessions().filter(|(_, s)| s.site == *site).map(|(id, _)| id).last()
    }
    /// What is known of a site beyond its membership.
    pub fn site(&self, name: &MemberName) -> Option<&Site> {
        self.sites.get(name)
    }
    /// Names of the sites in the configuration, in order.
    pub fn site_names(&self) -> Vec<MemberName> {
        let sites = self.configuration.voters.values().filter(|m| m.role == Role::Site);
        let mut names: Vec<_> = sites.map(|m| m.name.clone()).collect();
        names.sort();
        names
    }
    /// Tickets that a session holds.
    pub fn held_by(&self, session: SessionId) -> impl Iterator<Item = &Ticket> {
        self.tickets.values().filter(move |t| t.holder().is_some_and(|h| h.0 == session))
    }
    /// Tickets of `session` that are being taken back, with their terms.
    pub fn taking_back(&self, session: SessionId) -> Vec<(TicketId, Term)> {
        let back = |t: &Ticket| match &t.holding {
            Holding::Held { session: s, term, taking_back: true, .. } if *s == session => {
                Some((t.id, *term))
            }
            _ => None,
        };
        self.revoking.iter().filter_map(|id| self.tickets.get(id)).filter_map(back).collect()
    }
    /// Tickets and terms that an answer to `session` names as not extended: those that are being taken
    /// back, and those that were, which its site may not know yet.
    pub fn not_extended(&self, session: SessionId) -> BTreeSet<(TicketId, Term)> {
        let mut all: BTreeSet<_> = self.taking_back(session).into_iter().collect();
        all.extend(self.session(session).into_iter().flat_map(|s| &s.taken));
        all
    }
    /// Tickets that want a holder or wait out a one-move window.
    pub fn watched(&self) -> impl Iterator<Item = &Ticket> {
        self.watched.iter().filter_map(|id| self.tickets.get(id))
    }

    /// Bytes for a snapshot.
    pub fn to_bytes(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("a docket has only plain data")
    }
    /// A docket from a snapshot's bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, postcard::Error> {
        postcard::from_bytes(bytes)
    }

    /// Applies the next entry. Entries must come in order, without gaps.
    ///
    /// # Panics
    /// When the entry is not the next one: the ledger is broken and nothing may follow.
    pub fn apply(&mut self, entry: &Entry) -> Vec<Event> {
        assert_eq!(entry.index, self.applied.next(), "entries are applied in order (R7)");
        self.applied = entry.index;
        let mut events = Vec::new();
        match &entry.payload {
            Payload::Noop => {}
            Payload::Configuration(c) => {
                self.configuration = (**c).clone();
                self.config_index = ConfigIndex(entry.index.0);
                events.push(Event::ConfigurationChanged { index: self.config_index });
            }
            Payload::Batch(ops) => {
                for (n, op) in ops.iter().enumerate() {
                    match self.apply_op(entry, op) {
                        Ok(event) => events.push(event),
                        Err(why) => events.push(Event::Skipped { op: n, why }),
                    }
                }
                self.forget_ended_sessions();
                self.note_unsettled(&Touched::by(&events));
            }
        }
        events
    }

    /// Keeps `watched` and `revoking` true. Only tickets that were touched can have changed: an
    /// entry on one of 10,000 tickets costs no walk over the others.
    fn note_unsettled(&mut self, touched: &Touched) {
        if touched.all {
            self.watched.clear();
            self.revoking.clear();
        }
        let ids: Vec<TicketId> = if touched.all {
            self.tickets.keys().copied().collect()
        } else {
            touched.tickets.iter().copied().collect()
        };
        for id in ids {
            let t = self.tickets.get(&id);
            put(&mut self.watched, id, t.is_some_and(Ticket::is_watched));
            put(&mut self.revoking, id, t.is_some_and(Ticket::is_taken_back));
        }
    }

    /// Ended sessions are kept only while a lost ticket points at them.
    fn forget_ended_sessions(&mut self) {
        if self.sessions.values().all(|s| s.state == SessionState::Open) {
            return;
        }
        let wanted: BTreeSet<SessionId> = self
            .tickets
            .values()
            .filter_map(|t| match &t.holding {
                Holding::Free { because: FreeBecause::Lost { session, .. }, .. } => Some(*session),
                _ => None,
            })
            .collect();
        self.sessions.retain(|id, s| s.state == SessionState::Open || wanted.contains(id));
    }

    /// Asserts what must hold after every entry.
    ///
    /// # Panics
    /// When an invariant is broken.
    pub fn invariants(&self) {
        for t in self.tickets.values() {
            assert_eq!(self.names.get(&t.name), Some(&t.id), "names and tickets agree");
            assert!(t.history.len() <= limits::HISTORY_PER_TICKET);
            if let Holding::Held { session, site, term, .. } = &t.holding {
                let s = self.sessions.get(session).expect("a holder's session is known");
                assert_eq!(s.state, SessionState::Open, "only open sessions hold (R8)");
                assert_eq!(s.site, *site, "a ticket is held by its session's site");
                assert_eq!(*term, t.last_term, "the holder has the newest term (R9)");
                assert!(term.index() <= self.applied);
            }
        }
        let of = |which: fn(&Ticket) -> bool| -> BTreeSet<TicketId> {
            self.tickets.values().filter(|t| which(t)).map(|t| t.id).collect()
        };
        assert_eq!(self.watched, of(Ticket::is_watched), "none is watched but those");
        assert_eq!(self.revoking, of(Ticket::is_taken_back), "none is named but those");
        assert_eq!(self.names.len(), self.tickets.len());
        assert!(self.tickets.keys().all(|id| *id < self.next_ticket));
    }
}

fn put(set: &mut BTreeSet<TicketId>, id: TicketId, belongs: bool) {
    if belongs {
        set.insert(id);
    } else {
        set.remove(&id);
    }
}
