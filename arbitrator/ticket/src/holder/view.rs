//! The log view: which tickets the docket shows as this session's (R13), and successions named.

use std::collections::BTreeMap;

use super::{HeldTicket, Holder, Order, Phase, StopReason};
use crate::docket::{Docket, Holding, Ticket, Touched};
use crate::entry::{LossPolicy, Mode};
use crate::ids::TicketId;
use crate::planted::{Bug, is_planted};
use crate::time::HolderTime;

impl Holder {
    /// Takes in the docket after applied entries (R13: only the own log view counts). `touched`: the
    /// tickets that they may have changed.
    pub fn docket_changed(&mut self, now: HolderTime, docket: &Docket, touched: &Touched) {
        self.note_final(docket);
        let other_session = self.find_session(now, docket);
        if !touched.all && !other_session {
            for id in &touched.tickets {
                self.look_at(*id, docket);
            }
            return;
        }
        let known: Vec<TicketId> = self.tickets.keys().copied().collect();
        for id in known {
            self.look_at(id, docket);
        }
        for t in docket.tickets() {
            if !self.tickets.contains_key(&t.id) {
                self.look_at(t.id, docket);
            }
        }
        let gone = |id: &TicketId| docket.ticket(*id).is_some();
        self.prepared.retain(gone);
    }

    /// One ticket, as the log view shows it.
    fn look_at(&mut self, id: TicketId, docket: &Docket) {
        let ticket = docket.ticket(id);
        let ours = ticket.and_then(|t| {
            let (session, _, term) = t.holder()?;
            (Some(session) == self.session).then_some((t, term, session))
        });
        if let Some(h) = self.tickets.get(&id)
            && ours.is_none_or(|(_, term, _)| term != h.term)
        {
            self.lose(id);
        }
        if let Some((t, term, session)) = ours {
            let freeze = t.policy.loss == LossPolicy::Freeze && t.policy.mode == Mode::Manual;
            let inherited = term.index().0 < session.0;
            self.wake(id);
            let held = self.tickets.entry(id).or_insert(HeldTicket {
                term,
                stop_budget: t.policy.stop_budget,
                freeze,
                phase: if inherited { Phase::Inherited } else { Phase::Stopped },
                frozen: BTreeMap::new(),
                capped: None,
                release_asked: None,
                told_deadline: None,
                rests: None,
            });
            (held.stop_budget, held.freeze) = (t.policy.stop_budget, freeze);
            self.restless.insert(id);
        }
        if self.session.is_some() {
            self.note_succession(id, ticket);
        }
    }

    /// The log view does not show it as ours under the known term.
    fn lose(&mut self, ticket: TicketId) {
        self.wake(ticket);
        self.restless.remove(&ticket);
        let Some(h) = self.tickets.remove(&ticket) else { return };
        let term = h.term;
        if h.phase != Phase::Stopped {
            let by = self.stop_at(h.stop_budget, self.ticket_deadline(&h));
            let why = StopReason::NotOurs;
            self.orders.push_back(Order::Stop { ticket, term, why, by });
        }
        self.orders.push_back(Order::Forget { ticket, term });
    }

    fn note_succession(&mut self, id: TicketId, ticket: Option<&Ticket>) {
        let named = ticket.is_some_and(|t| {
            matches!(&t.holding, Holding::Held { handover: Some(h), .. }
                if h.to.as_ref() == Some(&self.site))
        });
        if !named {
            self.prepared.remove(&id);
        } else if self.prepared.insert(id) {
            self.orders.push_back(Order::Prepare { ticket: id });
            if is_planted(Bug::RunsWhenNamed)
                && let Some(t) = ticket
            {
                self.orders.push_back(Order::Run { ticket: id, term: t.last_term });
            }
        }
    }

    /// True when it is another one than before.
    fn find_session(&mut self, now: HolderTime, docket: &Docket) -> bool {
        let ours = docket
            .open_sessions()
            .filter(|(_, s)| s.site == self.site && s.incarnation == self.incarnation)
            .map(|(id, _)| id)
            .last();
        if ours == self.session {
            return false;
        }
        if ours.is_some() {
            // What the old session's promises allow stays allowed: the voters count the new
            // session as promised from its opening, and no voter extends the old one any more.
            let rolled = self.session.is_some() && self.supersede == self.session;
            self.cap_frozen();
            self.inherited = if rolled { self.deadline } else { None };
            self.next_renewal = now;
        } else {
            self.inherited = None;
            self.left |= self.leaving;
        }
        self.supersede = None;
        self.session = ours;
        self.leases.clear();
        self.reckon();
        self.wake_all();
        true
    }

    /// What a new session inherits is not for tickets that are being taken back.
    fn cap_frozen(&mut self) {
        let capped = |(id, h): (&TicketId, &HeldTicket)| {
            let frozen = !h.frozen.is_empty() && h.capped.is_none();
            frozen.then(|| (*id, self.ticket_deadline(h).unwrap_or_default()))
        };
        let caps: Vec<(TicketId, HolderTime)> = self.tickets.iter().filter_map(capped).collect();
        for (id, cap) in caps {
            if let Some(h) = self.tickets.get_mut(&id) {
                h.capped = Some(cap);
            }
        }
    }
}
