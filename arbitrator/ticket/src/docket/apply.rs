//! Each operation of a batch: what must hold for it, and what it changes.
//!
//! Each returns the event that it caused, or why it does not hold; then it has changed nothing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::Docket;
use super::state::{Event, FreeBecause, Handover, Hold, Holding, Session, SessionState, Ticket};
use crate::entry::{Entry, FenceTarget, FenceVote, Note, Op, Policy, Proof, Scope};
use crate::ids::{AttributeName, Incarnation, MemberName, SessionId, Term, TicketId, TicketName};
use crate::planted::{Bug, is_planted};
use crate::{limits, quorum};

type Skip = String;

impl Docket {
    pub(super) fn apply_op(&mut self, entry: &Entry, op: &Op) -> Result<Event, Skip> {
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
            s.end(SessionState::Closed);
            handed = Some(old);
            for t in self.tickets.values_mut() {
                if let Holding::Held { session, .. } = &mut t.holding
                    && *session == old
                {
                    *session = id;
                }
            }
        }
        let session = Session {
            site: site.clone(),
            incarnation,
            state: SessionState::Open,
            taken: BTreeSet::new(),
        };
        self.sessions.insert(id, session);
        Ok(Event::SessionOpened { session: id, site: site.clone(), supersedes: handed })
    }

    fn close_session(&mut self, session: SessionId) -> Result<Event, Skip> {
        if self.held_by(session).next().is_some() {
            return Err("it still holds tickets".to_owned());
        }
        let s = self.open(session)?;
        s.end(SessionState::Closed);
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
        let enough = quorum::has_majority(&self.configuration.voter_ids(), &who)
            || (!who.is_empty() && is_planted(Bug::OneVoteExpires));
        if !enough {
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
        s.end(SessionState::Expired(proof));
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
        let because = match &t.holding {
            Holding::Free { because, .. } => because,
            Holding::Held { .. } if is_planted(Bug::GrantedWhileHeld) => &FreeBecause::New,
            Holding::Held { .. } => return Err(format!("{} has a holder (R9)", t.name)), // R9
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
        if session.is_some_and(|s| self.not_extended(s).len() >= limits::MAX_REVOKING) {
            return Err("too many tickets are being taken back from one session".to_owned());
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
        if let Ok(s) = self.open(session)
            && !is_planted(Bug::TakenForgotten)
        {
            s.taken.insert((ticket, term));
        }
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
            // It lost a ticket by take-back and was superseded later: that ticket still waits.
            Some(SessionState::Closed) => {}
            _ => return Err(format!("session {session} has not ended")),
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
