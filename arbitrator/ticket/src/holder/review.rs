//! What is due: the order of work of each tick, and what each ticket may do now (R13, R14, R17).

use super::{HeldTicket, Holder, Order, Phase, Request, StopReason};
use crate::docket::{Docket, Holding};
use crate::ids::{Term, TicketId};
use crate::time::{HolderTime, earlier};

impl Holder {
    /// Does what is due: renewals, stops, runs.
    pub fn tick(&mut self, now: HolderTime, docket: &Docket) {
        self.judge_clock();
        self.renew(now, docket);
        if self.deadline != self.told || self.calm_until.is_none() {
            self.tell_leases();
        }
        if self.calm_until.is_none_or(|t| now >= t) {
            let ids: Vec<TicketId> = self.tickets.keys().copied().collect();
            for id in ids {
                self.review(now, id, docket);
            }
            self.calm_until = self.calm_until(now);
        }
        if self.leaving
            && self.tickets.is_empty()
            && let Some(session) = self.session
            && now >= self.next_open
        {
            self.next_open = now + self.timing.renew_every;
            self.requests.push_back(Request::Close(session));
        }
    }

    /// The next instant at which a review could find something new; `None`: look each time.
    fn calm_until(&self, now: HolderTime) -> Option<HolderTime> {
        let mut next = now + self.timing.promise;
        for h in self.tickets.values() {
            if h.phase != Phase::Running || !h.frozen.is_empty() {
                return None;
            }
            if !h.freeze {
                next = next.min(self.stop_at(h, self.deadline));
            }
        }
        Some(next)
    }

    fn judge_clock(&mut self) {
        if self.distrusted.is_none()
            && let Some(why) = self.audit.verdict(&self.voters)
        {
            self.distrusted = Some(why);
            self.calm_until = None;
        }
    }

    /// Tickets being taken back come first: whoever extends all tickets at once must know before
    /// which of them are not meant.
    fn tell_leases(&mut self) {
        let frozen = |(id, h): (&TicketId, &HeldTicket)| {
            let deadline = self.ticket_deadline(h).filter(|_| !h.frozen.is_empty())?;
            (h.told_deadline != Some(deadline)).then_some((*id, deadline))
        };
        let news: Vec<(TicketId, HolderTime)> = self.tickets.iter().filter_map(frozen).collect();
        for (ticket, deadline) in news {
            self.orders.push_back(Order::TicketLease { ticket, deadline });
            if let Some(h) = self.tickets.get_mut(&ticket) {
                h.told_deadline = Some(deadline);
            }
        }
        if self.deadline != self.told
            && let Some(deadline) = self.deadline
        {
            self.orders.push_back(Order::Lease { deadline });
        }
        self.told = self.deadline;
    }

    fn review(&mut self, now: HolderTime, id: TicketId, docket: &Docket) {
        let Some(h) = self.tickets.get(&id) else { return };
        let (term, phase) = (h.term, h.phase);
        let deadline = self.ticket_deadline(h);
        let by = self.stop_at(h, deadline);
        let held = docket.ticket(id).map(|t| &t.holding);
        let kept = h.freeze && phase == Phase::Running;
        let reason =
            self.reason_to_stop(now, by, held).filter(|w| !kept || *w != StopReason::LeaseEnding);
        let release_due =
            h.release_asked.is_none_or(|t| now.since(t) >= self.timing.renew_every * 2);
        let gives_up = matches!(
            reason,
            Some(StopReason::Handover | StopReason::TakenBack | StopReason::Leaving)
        );
        let session = self.session;
        let Some(h) = self.tickets.get_mut(&id) else { return };
        match (phase, reason) {
            (Phase::Stopped | Phase::Inherited, None) => {
                h.phase = Phase::Running;
                self.orders.push_back(Order::Run { ticket: id, term });
            }
            // Until this session has a deadline of its own, the guard keeps the old one's.
            (Phase::Inherited, Some(StopReason::LeaseEnding)) => {}
            (Phase::Inherited, Some(_)) if deadline.is_none() => {}
            (Phase::Running | Phase::Inherited, Some(why)) => {
                h.phase = Phase::Stopping;
                self.orders.push_back(Order::Stop { ticket: id, term, why, by });
            }
            (Phase::Stopped, Some(_)) if gives_up && release_due => {
                if let Some(session) = session {
                    h.release_asked = Some(now);
                    self.requests.push_back(Request::Release(id, session, term));
                }
            }
            _ => {}
        }
    }

    fn reason_to_stop(
        &self,
        now: HolderTime,
        by: HolderTime,
        held: Option<&Holding>,
    ) -> Option<StopReason> {
        if let Some(why) = &self.distrusted {
            return Some(StopReason::Clock(why.clone()));
        }
        match held {
            Some(Holding::Held { taking_back: true, .. }) => return Some(StopReason::TakenBack),
            Some(Holding::Held { handover: Some(_), .. }) => return Some(StopReason::Handover),
            Some(Holding::Held { .. }) => {}
            _ => return Some(StopReason::NotOurs),
        }
        if self.leaving {
            return Some(StopReason::Leaving);
        }
        (now >= by).then_some(StopReason::LeaseEnding) // R13, R14
    }

    /// The runner has confirmed that nothing of the ticket runs (R17).
    pub fn stopped(&mut self, ticket: TicketId, term: Term) {
        if let Some(h) = self.tickets.get_mut(&ticket)
            && h.term == term
            && h.phase == Phase::Stopping
        {
            h.phase = Phase::Stopped;
            self.calm_until = None;
        }
    }

    /// When `tick` has something to do next.
    pub fn deadline(&self) -> Option<HolderTime> {
        let next = if self.left {
            None
        } else if self.session.is_some() {
            Some(self.next_renewal)
        } else {
            Some(self.next_open)
        };
        if self.tickets.is_empty() {
            return next;
        }
        match self.calm_until {
            Some(t) => earlier(next, Some(t)),
            None => self
                .tickets
                .values()
                .filter(|h| h.phase == Phase::Running && !h.freeze)
                .map(|h| self.stop_at(h, self.ticket_deadline(h)))
                .fold(next, |n, t| earlier(n, Some(t))),
        }
    }
}
