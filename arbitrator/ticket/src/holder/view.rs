//! The log view: which tickets the docket shows as this session's (R13), and successions named.

use std::collections::{BTreeMap, BTreeSet};

use super::{HeldTicket, Holder, Order, Phase, StopReason};
use crate::docket::{Docket, Holding};
use crate::entry::{LossPolicy, Mode};
use crate::ids::{Term, TicketId};
use crate::time::HolderTime;

impl Holder {
    /// Takes in the docket after every applied entry (R13: only the own log view counts).
    pub fn docket_changed(&mut self, now: HolderTime, docket: &Docket) {
        self.calm_until = None;
        self.find_session(now, docket);
        self.drop_lost(docket);
        let Some(session) = self.session else { return };
        for t in docket.held_by(session) {
            if let Some((_, _, term)) = t.holder() {
                let freeze = t.policy.loss == LossPolicy::Freeze && t.policy.mode == Mode::Manual;
                let held = self.tickets.entry(t.id).or_insert(HeldTicket {
                    term,
                    stop_budget: t.policy.stop_budget,
                    freeze,
                    phase: if term.index().0 < session.0 {
                        Phase::Inherited
                    } else {
                        Phase::Stopped
                    },
                    frozen: BTreeMap::new(),
                    capped: None,
                    release_asked: None,
                    told_deadline: None,
                });
                (held.stop_budget, held.freeze) = (t.policy.stop_budget, freeze);
            }
        }
        self.note_successions(docket);
    }

    fn find_session(&mut self, now: HolderTime, docket: &Docket) {
        let ours = docket
            .open_sessions()
            .filter(|(_, s)| s.site == self.site && s.incarnation == self.incarnation)
            .map(|(id, _)| id)
            .last();
        if ours == self.session {
            return;
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

    /// Tickets that the log view does not show as ours under the known term.
    fn drop_lost(&mut self, docket: &Docket) {
        let session = self.session;
        let lost: Vec<(TicketId, Term)> = self
            .tickets
            .iter()
            .filter(|(id, h)| {
                let holder = docket.ticket(**id).and_then(|t| t.holder());
                !holder.is_some_and(|(s, _, term)| Some(s) == session && term == h.term)
            })
            .map(|(id, h)| (*id, h.term))
            .collect();
        for (ticket, term) in lost {
            if let Some(h) = self.tickets.remove(&ticket) {
                if h.phase != Phase::Stopped {
                    let by = self.stop_at(&h, self.ticket_deadline(&h));
                    let why = StopReason::NotOurs;
                    self.orders.push_back(Order::Stop { ticket, term, why, by });
                }
                self.orders.push_back(Order::Forget { ticket, term });
            }
        }
    }

    fn note_successions(&mut self, docket: &Docket) {
        let mut named = BTreeSet::new();
        for t in docket.tickets() {
            if let Holding::Held { handover: Some(h), .. } = &t.holding
                && h.to.as_ref() == Some(&self.site)
            {
                named.insert(t.id);
            }
        }
        for ticket in named.difference(&self.prepared) {
            self.orders.push_back(Order::Prepare { ticket: *ticket });
        }
        self.prepared = named;
    }
}
