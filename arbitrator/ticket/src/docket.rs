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

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::configuration::{Configuration, Role};
use crate::entry::{
    Entry, FenceTarget, FenceVote, Mode, Note, Op, Payload, Policy, Proof, Regrant, Scope,
    SiteState,
};
use crate::ids::{
    AttributeName, ConfigIndex, Incarnation, LogIndex, MemberName, SessionId, Term, TicketId,
    TicketName,
};
use crate::{limits, quorum};

/// One session of a site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Whose.
    pub site: MemberName,
    /// Which start of the site's agent.
    pub incarnation: Incarnation,
    /// Open, or how it ended.
    pub state: SessionState,
}

/// Whether a session lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionState {
    /// It may hold tickets.
    Open,
    /// It ended by itself or was superseded within its site.
    Closed,
    /// It was expired on this proof.
    Expired(Proof),
}

/// Who has a ticket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Holding {
    /// Nobody.
    Free {
        /// Why it is free.
        because: FreeBecause,
        /// Whether automatic modes should find it a holder: lost or given up, but not revoked.
        wanted: bool,
        /// The successor that an operator named, who gets it in any mode.
        successor: Option<MemberName>,
    },
    /// A site.
    Held {
        /// Session that holds.
        session: SessionId,
        /// Site of that session.
        site: MemberName,
        /// Fencing token of this grant.
        term: Term,
        /// On which proof the grant rests.
        proof: Proof,
        /// A handover under way.
        handover: Option<Handover>,
        /// It is being taken back: no voter extends it any more.
        taking_back: bool,
    },
}

/// A handover under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handover {
    /// The successor; nobody for a revoke.
    pub to: Option<MemberName>,
    /// Who asked and why.
    pub note: Note,
}

/// Why a ticket is free.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FreeBecause {
    /// Never granted.
    New,
    /// Its holder released it.
    Released {
        /// The last holder's site.
        by: MemberName,
    },
    /// Its holder was lost.
    Lost {
        /// The last holder's session.
        session: SessionId,
        /// The last holder's site.
        site: MemberName,
        /// Best proof so far that the old holder runs nothing.
        proof: Proof,
    },
}

/// Why nothing moves by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hold {
    /// An operator said so.
    Operator(Note),
    /// It moved by itself and waits out its window.
    OneMove {
        /// Entry of the move.
        since: LogIndex,
    },
}

/// One line of a ticket's recent history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Ledger index.
    pub index: LogIndex,
    /// The leader's wall clock then, milliseconds since 1970.
    pub wall_ms: u64,
    /// What was decided, in words.
    pub what: String,
}

/// One ticket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// Its number.
    pub id: TicketId,
    /// Its name.
    pub name: TicketName,
    /// Its policy.
    pub policy: Policy,
    /// Who has it.
    pub holding: Holding,
    /// The newest term ever granted.
    pub last_term: Term,
    /// Why nothing moves by itself, if so.
    pub hold: Option<Hold>,
    /// What `observe` or `confirm` proposed since the last change.
    pub proposed: Option<(MemberName, Note)>,
    /// Attributes by site.
    pub attributes: BTreeMap<(MemberName, AttributeName), String>,
    /// When `holding` last changed, wall clock of the leader, for people.
    pub since_ms: u64,
    /// The last few decisions.
    pub history: VecDeque<Decision>,
}

impl Ticket {
    /// The holder, if any: session, site and term.
    pub fn holder(&self) -> Option<(SessionId, &MemberName, Term)> {
        match &self.holding {
            Holding::Held { session, site, term, .. } => Some((*session, site, *term)),
            Holding::Free { .. } => None,
        }
    }

    /// Whether the policy's proof for a new grant is there; else what is missing.
    pub fn proof_missing(&self) -> Option<Regrant> {
        let Holding::Free { because: FreeBecause::Lost { proof, .. }, .. } = &self.holding else {
            return None;
        };
        match (self.policy.regrant, proof) {
            (Regrant::Lapse, _)
            | (Regrant::Fenced, Proof::Fenced | Proof::Operator)
            | (Regrant::Operator, Proof::Operator) => None,
            (missing, _) => Some(missing),
        }
    }

    /// Sites that may hold it by policy, most wanted first, out of `sites`.
    pub fn ranked_sites<'a>(&'a self, sites: &'a [MemberName]) -> Vec<&'a MemberName> {
        if self.policy.prefer.is_empty() {
            sites.iter().collect()
        } else {
            self.policy.prefer.iter().filter(|s| sites.contains(s)).collect()
        }
    }
}

/// What a site is declared to be, and its attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Site {
    /// The operator's word.
    pub state: SiteState,
    /// Why.
    pub note: Note,
    /// Attributes of the site as a whole.
    pub attributes: BTreeMap<AttributeName, String>,
}

/// What applying an entry did; the same on every member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // the fields repeat those of the operations
pub enum Event {
    ConfigurationChanged {
        index: ConfigIndex,
    },
    SessionOpened {
        session: SessionId,
        site: MemberName,
        supersedes: Option<SessionId>,
    },
    SessionClosed {
        session: SessionId,
        site: MemberName,
    },
    SessionExpired {
        session: SessionId,
        site: MemberName,
        proof: Proof,
        tickets: usize,
    },
    Granted {
        ticket: TicketId,
        session: SessionId,
        site: MemberName,
        term: Term,
        proof: Proof,
        automatic: bool,
    },
    Released {
        ticket: TicketId,
        site: MemberName,
        term: Term,
    },
    HandoverBegun {
        ticket: TicketId,
        term: Term,
        from: MemberName,
        to: Option<MemberName>,
    },
    HandoverCancelled {
        ticket: TicketId,
        term: Term,
        note: Note,
    },
    TakeBackBegun {
        ticket: TicketId,
        term: Term,
    },
    TicketLost {
        ticket: TicketId,
        site: MemberName,
        term: Term,
        proof: Proof,
    },
    ProofImproved {
        session: SessionId,
        proof: Proof,
    },
    TicketSet {
        ticket: TicketId,
    },
    TicketRemoved {
        ticket: TicketId,
        name: TicketName,
    },
    HoldChanged {
        ticket: TicketId,
    },
    Proposed {
        ticket: TicketId,
        to: MemberName,
        mode: Mode,
    },
    AttributeSet {
        scope: Scope,
        name: AttributeName,
    },
    SiteDeclared {
        site: MemberName,
        state: SiteState,
    },
    /// An operation that did not hold; nothing changed by it.
    Skipped {
        op: usize,
        why: String,
    },
}

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

type Skip = String;

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
                self.configuration = c.clone();
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
                self.note_unsettled();
            }
        }
        events
    }

    fn apply_op(&mut self, entry: &Entry, op: &Op) -> Result<Event, Skip> {
        match op {
            Op::OpenSession { site, incarnation, supersedes } => {
                self.open_session(entry, site, *incarnation, *supersedes)
            }
            Op::CloseSession { session } => self.close_session(*session),
            Op::Expire { session, votes } => self.expire(entry, *session, votes),
            Op::Grant { ticket, to, automatic } => self.grant(entry, *ticket, *to, *automatic),
            Op::Release { ticket, session, term } => self.release(entry, *ticket, *session, *term),
            Op::Handover { ticket, term, to, note } => {
                self.handover(entry, *ticket, *term, to.as_ref(), note)
            }
            Op::CancelHandover { ticket, term, note } => {
                self.cancel_handover(entry, *ticket, *term, note)
            }
            Op::TakeBack { ticket, term, note } => self.take_back(entry, *ticket, *term, note),
            Op::ExpireTicket { ticket, term, votes } => {
                self.expire_ticket(entry, *ticket, *term, votes)
            }
            Op::ConfirmDown { session, proof, note } => {
                self.confirm_down(entry, *session, *proof, note)
            }
            Op::SetTicket { name, policy } => self.set_ticket(entry, name, policy),
            Op::RemoveTicket { ticket } => self.remove_ticket(*ticket),
            Op::Hold { ticket, note } => {
                let t = self.known(*ticket)?;
                t.hold = Some(Hold::Operator(note.clone()));
                t.remember(entry, format!("held in place: {note}"));
                Ok(Event::HoldChanged { ticket: *ticket })
            }
            Op::Resume { ticket } => {
                let t = self.known(*ticket)?;
                t.hold.take().ok_or("nothing holds it in place")?;
                t.remember(entry, "may move again".to_owned());
                Ok(Event::HoldChanged { ticket: *ticket })
            }
            Op::Propose { ticket, to, note } => {
                let t = self.known(*ticket)?;
                t.proposed = Some((to.clone(), note.clone()));
                t.remember(entry, format!("proposed: grant to {to}: {note}"));
                Ok(Event::Proposed { ticket: *ticket, to: to.clone(), mode: t.policy.mode })
            }
            Op::SetAttribute { scope, name, value } => {
                self.set_attribute(scope, name, value.as_ref())
            }
            Op::DeclareSite { site, state, note } => {
                if !self.site_names().contains(site) {
                    return Err(format!("{site} is not a site of this cluster"));
                }
                let s = self.sites.entry(site.clone()).or_default();
                s.state = *state;
                s.note.clone_from(note);
                Ok(Event::SiteDeclared { site: site.clone(), state: *state })
            }
        }
    }

    fn known(&mut self, ticket: TicketId) -> Result<&mut Ticket, Skip> {
        self.tickets.get_mut(&ticket).ok_or_else(|| format!("there is no ticket number {ticket}"))
    }

    fn open_session(
        &mut self,
        entry: &Entry,
        site: &MemberName,
        incarnation: Incarnation,
        supersedes: Option<SessionId>,
    ) -> Result<Event, Skip> {
        if !self.site_names().contains(site) {
            return Err(format!("{site} is not a site of this cluster"));
        }
        let ours = |s: &Session| s.site == *site && s.incarnation == incarnation;
        let open = self.open_sessions().find(|(_, s)| ours(s)).map(|(id, _)| id);
        if open.is_some() && open != supersedes {
            return Err("this incarnation has a session already".to_owned());
        }
        let id = SessionId(entry.index.0);
        if self.sessions.contains_key(&id) {
            return Err("one session for each entry".to_owned());
        }
        let mut handed = None;
        if let Some(old) = supersedes
            && let Some(s) = self.sessions.get_mut(&old)
            && s.state == SessionState::Open
            && s.site == *site
        {
            s.state = SessionState::Closed;
            handed = Some(old);
            for t in self.tickets.values_mut() {
                if let Holding::Held { session, .. } = &mut t.holding
                    && *session == old
                {
                    *session = id;
                }
            }
        }
        let session = Session { site: site.clone(), incarnation, state: SessionState::Open };
        self.sessions.insert(id, session);
        Ok(Event::SessionOpened { session: id, site: site.clone(), supersedes: handed })
    }

    fn close_session(&mut self, session: SessionId) -> Result<Event, Skip> {
        if self.held_by(session).next().is_some() {
            return Err("it still holds tickets".to_owned());
        }
        let s = self.open(session)?;
        s.state = SessionState::Closed;
        Ok(Event::SessionClosed { session, site: s.site.clone() })
    }

    fn open(&mut self, session: SessionId) -> Result<&mut Session, Skip> {
        match self.sessions.get_mut(&session) {
            Some(s) if s.state == SessionState::Open => Ok(s),
            _ => Err(format!("session {session} is not open")),
        }
    }

    /// R8: votes for exactly this target from a majority of the configuration in force here.
    fn evidence(&self, target: FenceTarget, votes: &[FenceVote]) -> Result<Proof, Skip> {
        if votes.len() > limits::MAX_VOTERS || votes.iter().any(|v| v.target != target) {
            return Err("the votes are for something else (R8)".to_owned());
        }
        let who: BTreeSet<_> = votes.iter().map(|v| v.voter).collect();
        if !quorum::has_majority(&self.configuration.voter_ids(), &who) {
            return Err("no majority of fence votes (R8)".to_owned());
        }
        let device = votes.iter().any(|v| v.basis == Proof::Fenced);
        Ok(if device { Proof::Fenced } else { Proof::Lapsed })
    }

    fn expire(
        &mut self,
        entry: &Entry,
        session: SessionId,
        votes: &[FenceVote],
    ) -> Result<Event, Skip> {
        let proof = self.evidence(FenceTarget::Session(session), votes)?;
        let s = self.open(session)?;
        s.state = SessionState::Expired(proof);
        let site = s.site.clone();
        let mut tickets = 0;
        for t in self.tickets.values_mut() {
            if t.holder().is_some_and(|h| h.0 == session) {
                tickets += 1;
                t.lose(entry, session, &site, proof);
            }
        }
        Ok(Event::SessionExpired { session, site, proof, tickets })
    }

    fn grant(
        &mut self,
        entry: &Entry,
        ticket: TicketId,
        to: SessionId,
        automatic: bool,
    ) -> Result<Event, Skip> {
        let site = self.open(to)?.site.clone();
        let term = Term::new(self.configuration.generation, entry.index);
        let t = self.known(ticket)?;
        let Holding::Free { because, .. } = &t.holding else {
            return Err(format!("{} has a holder (R9)", t.name)); // R9
        };
        if let Some(missing) = t.proof_missing() {
            return Err(format!("{} waits for proof ({missing:?})", t.name));
        }
        if term <= t.last_term {
            return Err("one grant of a ticket in each entry".to_owned());
        }
        let (proof, moved) = match because {
            FreeBecause::New => (Proof::New, false),
            FreeBecause::Released { by } => (Proof::Released, *by != site),
            FreeBecause::Lost { proof, site: from, .. } => (*proof, *from != site),
        };
        if automatic && moved && !t.policy.one_move_per.is_zero() {
            t.hold = Some(Hold::OneMove { since: entry.index });
        }
        t.last_term = term;
        t.proposed = None;
        t.holding = Holding::Held {
            session: to,
            site: site.clone(),
            term,
            proof,
            handover: None,
            taking_back: false,
        };
        t.since_ms = entry.wall_ms;
        t.remember(entry, format!("granted to {site}, term {term}, proof {proof}"));
        Ok(Event::Granted { ticket, session: to, site, term, proof, automatic })
    }

    /// The ticket, when it is held under exactly this term.
    fn held(&mut self, ticket: TicketId, term: Term) -> Result<&mut Ticket, Skip> {
        let t = self.known(ticket)?;
        match t.holder() {
            Some((_, _, now)) if now == term => Ok(t),
            Some((_, _, now)) => Err(format!("{} is held under term {now}, not {term}", t.name)),
            None => Err(format!("{} is not held", t.name)),
        }
    }

    fn release(
        &mut self,
        entry: &Entry,
        ticket: TicketId,
        session: SessionId,
        term: Term,
    ) -> Result<Event, Skip> {
        let t = self.held(ticket, term)?;
        let Holding::Held { session: holder, site, handover, .. } = &t.holding else {
            return Err("it is not held".to_owned());
        };
        if *holder != session {
            return Err(format!("session {holder} holds {}, not {session}", t.name));
        }
        let by = site.clone();
        let wanted = handover.as_ref().is_none_or(|h| h.to.is_some());
        let successor = handover.as_ref().and_then(|h| h.to.clone());
        t.holding =
            Holding::Free { because: FreeBecause::Released { by: by.clone() }, wanted, successor };
        t.since_ms = entry.wall_ms;
        t.remember(entry, format!("released by {by}, term {term}"));
        Ok(Event::Released { ticket, site: by, term })
    }

    fn handover(
        &mut self,
        entry: &Entry,
        ticket: TicketId,
        term: Term,
        to: Option<&MemberName>,
        note: &Note,
    ) -> Result<Event, Skip> {
        let t = self.held(ticket, term)?;
        let Holding::Held { site, handover, .. } = &mut t.holding else {
            return Err("it is not held".to_owned());
        };
        if Some(&*site) == to {
            return Err(format!("{site} holds it already"));
        }
        if let Some(h) = handover {
            let to = h.to.as_ref().map_or("nobody", MemberName::as_str);
            return Err(format!("a handover to {to} is under way"));
        }
        *handover = Some(Handover { to: to.cloned(), note: note.clone() });
        let from = site.clone();
        let goal = to.map_or("nobody (revoke)".to_owned(), ToString::to_string);
        t.remember(entry, format!("handover from {from} to {goal} begun: {note}"));
        Ok(Event::HandoverBegun { ticket, term, from, to: to.cloned() })
    }

    fn cancel_handover(
        &mut self,
        entry: &Entry,
        ticket: TicketId,
        term: Term,
        note: &Note,
    ) -> Result<Event, Skip> {
        let t = self.held(ticket, term)?;
        let Holding::Held { handover, taking_back: false, .. } = &mut t.holding else {
            return Err("it is being taken back".to_owned());
        };
        handover.take().ok_or("no handover is under way")?;
        t.remember(entry, format!("handover called off: {note}"));
        Ok(Event::HandoverCancelled { ticket, term, note: note.clone() })
    }

    fn take_back(
        &mut self,
        entry: &Entry,
        ticket: TicketId,
        term: Term,
        note: &Note,
    ) -> Result<Event, Skip> {
        let session = self.held(ticket, term)?.holder().map(|h| h.0);
        if session.is_some_and(|s| self.taking_back(s).len() >= limits::MAX_REVOKING) {
            return Err("too many tickets are being taken back at once".to_owned());
        }
        let t = self.held(ticket, term)?;
        let Holding::Held { taking_back, handover, .. } = &mut t.holding else {
            return Err("it is not held".to_owned());
        };
        if *taking_back {
            return Err("it is being taken back already".to_owned());
        }
        *taking_back = true;
        if handover.is_none() {
            *handover = Some(Handover { to: None, note: note.clone() });
        }
        t.remember(entry, format!("being taken back: {note}"));
        Ok(Event::TakeBackBegun { ticket, term })
    }

    fn expire_ticket(
        &mut self,
        entry: &Entry,
        ticket: TicketId,
        term: Term,
        votes: &[FenceVote],
    ) -> Result<Event, Skip> {
        let proof = self.evidence(FenceTarget::Ticket(ticket, term), votes)?;
        let t = self.held(ticket, term)?;
        let Holding::Held { session, site, taking_back: true, .. } = &t.holding else {
            return Err("it is not being taken back".to_owned());
        };
        let (session, site) = (*session, site.clone());
        t.lose(entry, session, &site, proof);
        Ok(Event::TicketLost { ticket, site, term, proof })
    }

    fn confirm_down(
        &mut self,
        entry: &Entry,
        session: SessionId,
        new: Proof,
        note: &Note,
    ) -> Result<Event, Skip> {
        if !matches!(new, Proof::Fenced | Proof::Operator) {
            return Err(format!("{new} is no proof of power-off"));
        }
        match self.sessions.get_mut(&session).map(|s| &mut s.state) {
            Some(SessionState::Expired(p)) => *p = new,
            _ => return Err(format!("session {session} has not been expired")),
        }
        for t in self.tickets.values_mut() {
            if let Holding::Free { because: FreeBecause::Lost { session: s, proof, .. }, .. } =
                &mut t.holding
                && *s == session
            {
                *proof = new;
                t.remember(entry, format!("the old holder is down, proof {new}: {note}"));
            }
        }
        Ok(Event::ProofImproved { session, proof: new })
    }

    fn set_ticket(
        &mut self,
        entry: &Entry,
        name: &TicketName,
        policy: &Policy,
    ) -> Result<Event, Skip> {
        if let Some(id) = self.names.get(name).copied() {
            let t = self.known(id)?;
            t.policy = policy.clone();
            t.remember(entry, "policy changed".to_owned());
            return Ok(Event::TicketSet { ticket: id });
        }
        if self.tickets.len() >= limits::MAX_TICKETS {
            return Err(format!("there are {} tickets, the most allowed", limits::MAX_TICKETS));
        }
        let id = self.next_ticket;
        self.next_ticket = TicketId(id.0 + 1);
        let mut t = Ticket {
            id,
            name: name.clone(),
            policy: policy.clone(),
            holding: Holding::Free { because: FreeBecause::New, wanted: false, successor: None },
            last_term: Term(0),
            hold: None,
            proposed: None,
            attributes: BTreeMap::new(),
            since_ms: entry.wall_ms,
            history: VecDeque::new(),
        };
        t.remember(entry, "made".to_owned());
        self.tickets.insert(id, t);
        self.names.insert(name.clone(), id);
        Ok(Event::TicketSet { ticket: id })
    }

    fn remove_ticket(&mut self, ticket: TicketId) -> Result<Event, Skip> {
        let t = self.known(ticket)?;
        if t.holder().is_some() {
            return Err(format!("{} has a holder", t.name));
        }
        if let Some(missing) = t.proof_missing() {
            return Err(format!(
                "{} waits for proof ({missing:?}) that its old holder is down",
                t.name
            ));
        }
        let name = t.name.clone();
        self.tickets.remove(&ticket);
        self.names.remove(&name);
        Ok(Event::TicketRemoved { ticket, name })
    }

    fn set_attribute(
        &mut self,
        scope: &Scope,
        name: &AttributeName,
        value: Option<&String>,
    ) -> Result<Event, Skip> {
        if value.is_some_and(|v| v.len() > limits::ATTRIBUTE_VALUE_BYTES) {
            return Err("the value is too long".to_owned());
        }
        let sites = self.site_names();
        let full = || format!("there are {} attributes, the most allowed", limits::MAX_ATTRIBUTES);
        match scope {
            Scope::Site(site) => {
                if !sites.contains(site) {
                    return Err(format!("{site} is not a site of this cluster"));
                }
                let a = &mut self.sites.entry(site.clone()).or_default().attributes;
                set_bounded(a, name.clone(), value).ok_or_else(full)?;
            }
            Scope::TicketAt(ticket, site) => {
                if !sites.contains(site) {
                    return Err(format!("{site} is not a site of this cluster"));
                }
                let a = &mut self.known(*ticket)?.attributes;
                set_bounded(a, (site.clone(), name.clone()), value).ok_or_else(full)?;
            }
        }
        Ok(Event::AttributeSet { scope: scope.clone(), name: name.clone() })
    }

    fn note_unsettled(&mut self) {
        let watched = |t: &&Ticket| {
            matches!(t.holding, Holding::Free { wanted: true, .. })
                || matches!(t.hold, Some(Hold::OneMove { .. }))
        };
        let revoking = |t: &&Ticket| matches!(t.holding, Holding::Held { taking_back: true, .. });
        self.watched = self.tickets.values().filter(watched).map(|t| t.id).collect();
        self.revoking = self.tickets.values().filter(revoking).map(|t| t.id).collect();
    }

    /// Ended sessions are kept only while a lost ticket points at them.
    fn forget_ended_sessions(&mut self) {
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
        let mut twin = self.clone();
        twin.note_unsettled();
        assert_eq!((&twin.watched, &twin.revoking), (&self.watched, &self.revoking));
        assert_eq!(self.names.len(), self.tickets.len());
        assert!(self.tickets.keys().all(|id| *id < self.next_ticket));
    }
}

fn set_bounded<K: Ord>(
    map: &mut BTreeMap<K, String>,
    key: K,
    value: Option<&String>,
) -> Option<()> {
    match value {
        None => {
            map.remove(&key);
        }
        Some(v) => {
            if !map.contains_key(&key) && map.len() >= limits::MAX_ATTRIBUTES {
                return None;
            }
            map.insert(key, v.clone());
        }
    }
    Some(())
}

impl Ticket {
    fn lose(&mut self, entry: &Entry, session: SessionId, site: &MemberName, proof: Proof) {
        let because = FreeBecause::Lost { session, site: site.clone(), proof };
        let handover = match &self.holding {
            Holding::Held { handover, .. } => handover.as_ref(),
            Holding::Free { .. } => None,
        };
        let wanted = handover.is_none_or(|h| h.to.is_some());
        let successor = handover.and_then(|h| h.to.clone());
        self.holding = Holding::Free { because, wanted, successor };
        self.since_ms = entry.wall_ms;
        self.remember(entry, format!("lost by {site}, proof {proof}"));
    }

    fn remember(&mut self, entry: &Entry, what: String) {
        if self.history.len() >= limits::HISTORY_PER_TICKET {
            self.history.pop_front();
        }
        self.history.push_back(Decision { index: entry.index, wall_ms: entry.wall_ms, what });
    }
}
