//! What is due: the order of work of each tick, and what each ticket may do now (R13, R14, R17).

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Holder, Order, Phase, Request, Rest, StopReason};
use crate::docket::{Docket, Holding};
use crate::ids::{Term, TicketId};
use crate::planted::{Bug, is_planted};
use crate::time::{HolderTime, earlier};

impl Holder {
    /// Does what is due: renewals, stops, runs.
    pub fn tick(&mut self, now: HolderTime, docket: &Docket) {
        self.judge_clock();
        self.renew(now, docket);
        self.tell_leases();
        if self.first_stop().is_some_and(|t| now >= t) {
            self.wake_all();
        }
        while self.releases.first().is_some_and(|(at, _)| now >= *at) {
            let Some((_, id)) = self.releases.pop_first() else { break };
            self.wake(id);
        }
        let ids: Vec<TicketId> = self.restless.iter().copied().collect();
        for id in ids {
            let given_up = self.review(now, id, docket);
            self.settle(id, given_up);
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

    // ----- rest ----------------------------------------------------------------------------

    /// When the first of the tickets at rest has to begin to stop (R14).
    fn first_stop(&self) -> Option<HolderTime> {
        let (longest, _) = self.resting.last_key_value()?;
        Some(self.stop_at(*longest, self.deadline))
    }

    /// Something about this ticket may have changed: the next tick looks at it.
    pub(super) fn wake(&mut self, id: TicketId) {
        let Some(h) = self.tickets.get_mut(&id) else { return };
        self.restless.insert(id);
        match h.rests.take() {
            Some(Rest::Lease(budget)) => {
                if let Some(count) = self.resting.get_mut(&budget) {
                    *count -= 1;
                }
                self.resting.retain(|_, count| *count > 0);
            }
            Some(Rest::Release(at)) => {
                self.releases.remove(&(at, id));
            }
            Some(Rest::Nothing) | None => {}
        }
    }

    /// Something about all of them may have changed.
    pub(super) fn wake_all(&mut self) {
        self.resting.clear();
        self.releases.clear();
        for (id, h) in &mut self.tickets {
            h.rests = None;
            self.restless.insert(*id);
        }
    }

    /// Lets a ticket rest if only the instant that it waits for could change what it may do.
    /// `given_up`: it is stopped, and only to be released.
    fn settle(&mut self, id: TicketId, given_up: bool) {
        let again = self.timing.renew_every * 2;
        let Some(h) = self.tickets.get_mut(&id) else { return };
        let rest = match (h.phase, h.release_asked) {
            _ if !h.frozen.is_empty() => return,
            (Phase::Stopped, Some(asked)) if given_up => Rest::Release(asked + again),
            (Phase::Stopped | Phase::Inherited, _) => return,
            (Phase::Running, _) if !h.freeze => Rest::Lease(h.stop_budget),
            (Phase::Running | Phase::Stopping, _) => Rest::Nothing,
        };
        h.rests = Some(rest);
        self.restless.remove(&id);
        match rest {
            Rest::Lease(budget) => *self.resting.entry(budget).or_default() += 1,
            Rest::Release(at) => {
                self.releases.insert((at, id));
            }
            Rest::Nothing => {}
        }
    }

    /// Asserts that no ticket is forgotten: what does not rest is looked at, what rests may.
    pub(super) fn rest_is_known(&self) {
        let mut count = BTreeMap::new();
        for (id, h) in &self.tickets {
            assert_eq!(h.rests.is_none(), self.restless.contains(id), "rests or is looked at");
            let Some(rest) = h.rests else { continue };
            assert!(h.frozen.is_empty(), "what is taken back has no rest");
            match rest {
                Rest::Lease(budget) => {
                    assert_eq!((h.phase, h.freeze), (Phase::Running, false));
                    assert_eq!(budget, h.stop_budget);
                    *count.entry(budget).or_default() += 1;
                }
                Rest::Release(at) => {
                    assert_eq!(h.phase, Phase::Stopped);
                    assert!(self.releases.contains(&(at, *id)), "its release is asked for again");
                }
                Rest::Nothing => {
                    assert!(h.phase == Phase::Stopping || (h.phase == Phase::Running && h.freeze));
                }
            }
        }
        assert_eq!(count, self.resting, "each that waits for the lease is counted");
        assert!(self.restless.iter().all(|id| self.tickets.contains_key(id)));
        let waits = |(at, id): &(HolderTime, TicketId)| {
            self.tickets.get(id).is_some_and(|h| h.rests == Some(Rest::Release(*at)))
        };
        assert!(self.releases.iter().all(waits), "no release is asked for in vain");
    }

    fn judge_clock(&mut self) {
        if self.distrusted.is_none()
            && let Some(why) = self.audit.verdict(&self.voters)
        {
            self.distrusted = Some(why);
            self.wake_all();
        }
    }

    /// Tickets being taken back come first: whoever extends all tickets at once must know before
    /// which of them are not meant.
    fn tell_leases(&mut self) {
        let frozen = |id: &TicketId| {
            let h = self.tickets.get(id).filter(|h| !h.frozen.is_empty())?;
            let deadline = self.ticket_deadline(h)?;
            (h.told_deadline != Some(deadline)).then_some((*id, deadline))
        };
        let news: Vec<(TicketId, HolderTime)> = self.restless.iter().filter_map(frozen).collect();
        for (ticket, deadline) in news {
            self.orders.push_back(Order::TicketLease { ticket, deadline });
            if let Some(h) = self.tickets.get_mut(&ticket) {
                h.told_deadline = Some(deadline);
            }
        }
        if self.deadline != self.told
            && let Some(deadline) = self.deadline
        {
            let late = if is_planted(Bug::GuardToldLate) {
                self.timing.renew_every
            } else {
                Duration::ZERO
            };
            self.orders.push_back(Order::Lease { deadline: deadline + late });
        }
        self.told = self.deadline;
    }

    /// What one ticket may do now. True: it is stopped, and only to be released.
    fn review(&mut self, now: HolderTime, id: TicketId, docket: &Docket) -> bool {
        let Some(h) = self.tickets.get(&id) else { return false };
        let (term, phase) = (h.term, h.phase);
        let deadline = self.ticket_deadline(h);
        let by = self.stop_at(h.stop_budget, deadline);
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
        let Some(h) = self.tickets.get_mut(&id) else { return false };
        // R17: a release that was asked for may come at any time, even after the handover was called
        // off. So this term never runs again: it is released, and granted anew.
        let asked = h.release_asked.is_some() && !is_planted(Bug::ReleasedRunsAgain);
        let going = !h.frozen.is_empty();
        match (phase, reason) {
            (Phase::Stopped, _) if asked && release_due => {
                if let Some(session) = session {
                    h.release_asked = Some(now);
                    self.requests.push_back(Request::Release(id, session, term));
                }
            }
            (Phase::Stopped, _) if asked => {}
            // It is being taken back, which this member's own log may not show yet. Started anew it
            // would run under the session's deadline where its own has been forgotten with the stop.
            (Phase::Stopped | Phase::Inherited, None)
                if going && !is_planted(Bug::TakenStarted) => {}
            (Phase::Stopped | Phase::Inherited, None) => {
                h.phase = Phase::Running;
                let other = u64::from(is_planted(Bug::OtherTermTold));
                self.orders.push_back(Order::Run { ticket: id, term: Term(term.0 + other) });
            }
            // Until this session has a deadline of its own, the guard keeps the old one's.
            (Phase::Inherited, Some(StopReason::LeaseEnding)) => {}
            (Phase::Inherited, Some(_)) if deadline.is_none() => {}
            (Phase::Running | Phase::Inherited, Some(why)) => {
                h.phase = Phase::Stopping;
                if gives_up
                    && is_planted(Bug::ReleasedRunning)
                    && let Some(session) = session
                {
                    self.requests.push_back(Request::Release(id, session, term));
                }
                self.orders.push_back(Order::Stop { ticket: id, term, why, by });
            }
            (Phase::Stopped, Some(_)) if gives_up => {
                if let Some(session) = session {
                    h.release_asked = Some(now);
                    self.requests.push_back(Request::Release(id, session, term));
                }
            }
            _ => {}
        }
        phase == Phase::Stopped && gives_up
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
        let ends = now >= by && !is_planted(Bug::RunsOn);
        ends.then_some(StopReason::LeaseEnding) // R13, R14
    }

    /// The runner has confirmed that nothing of the ticket runs (R17).
    pub fn stopped(&mut self, ticket: TicketId, term: Term) {
        if let Some(h) = self.tickets.get_mut(&ticket)
            && h.term == term
            && h.phase == Phase::Stopping
        {
            h.phase = Phase::Stopped;
            self.wake(ticket);
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
        let named = self.restless.iter().filter_map(|id| self.tickets.get(id));
        named
            .filter(|h| h.phase == Phase::Running && !h.freeze)
            .map(|h| self.stop_at(h.stop_budget, self.ticket_deadline(h)))
            .chain(self.first_stop())
            .chain(self.releases.first().map(|(at, _)| *at))
            .fold(next, |n, t| earlier(n, Some(t)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::super::HeldTicket;
    use super::*;
    use crate::ids::Incarnation;
    use crate::timing::Profile;

    const TICKETS: usize = if cfg!(miri) { 30 } else { 1_000 };

    fn running(budget: Duration) -> HeldTicket {
        HeldTicket {
            term: Term(1),
            stop_budget: budget,
            freeze: false,
            phase: Phase::Running,
            frozen: BTreeMap::new(),
            capped: None,
            release_asked: None,
            told_deadline: None,
            rests: None,
        }
    }

    /// A holder of many running tickets; the first of them takes longest to stop.
    fn holder() -> Holder {
        let timing = Profile::MetroFast.timing();
        let site = "paris".parse().unwrap();
        let mut h = Holder::new(site, Incarnation::default(), timing);
        h.deadline = Some(HolderTime::from_nanos(5_000_000_000));
        for n in 1..=TICKETS as u32 {
            let budget = Duration::from_millis(if n == 1 { 300 } else { 100 });
            h.tickets.insert(TicketId(n), running(budget));
            h.wake(TicketId(n));
            h.settle(TicketId(n), false);
        }
        h.rest_is_known();
        h
    }

    #[test]
    fn tickets_that_run_are_at_rest_until_the_slowest_of_them_has_to_begin_to_stop() {
        let mut h = holder();
        assert_eq!((h.restless.len(), h.resting.len()), (0, 2), "no tick looks at any of them");
        let stretched = h.timing.watchdog_stretched();
        let first = h.deadline.unwrap().minus(stretched).minus(Duration::from_millis(300));
        assert_eq!(h.first_stop(), Some(first), "R14, for the longest budget");
        // A renewal moves that instant, and still nobody is looked at.
        h.deadline = h.deadline.map(|d| d + Duration::from_secs(1));
        assert_eq!(h.first_stop(), Some(first + Duration::from_secs(1)));
        assert!(h.restless.is_empty());
    }

    #[test]
    fn only_the_ticket_that_changes_loses_its_rest() {
        let mut h = holder();
        h.wake(TicketId(1));
        h.rest_is_known();
        assert_eq!(h.restless, BTreeSet::from([TicketId(1)]));
        assert_eq!(h.resting, BTreeMap::from([(Duration::from_millis(100), TICKETS - 1)]));
        h.wake(TicketId(1));
        h.rest_is_known(); // twice is once
        h.wake_all();
        h.rest_is_known();
        assert_eq!((h.restless.len(), h.resting.len()), (TICKETS, 0));
    }

    #[test]
    fn what_waits_for_its_release_rests_until_it_is_asked_for_again() {
        let mut h = holder();
        let asked = HolderTime::from_nanos(1_000_000_000);
        let t = h.tickets.get_mut(&TicketId(7)).unwrap();
        (t.phase, t.release_asked) = (Phase::Stopped, Some(asked));
        h.wake(TicketId(7));
        h.settle(TicketId(7), true);
        let again = asked + h.timing.renew_every * 2;
        assert_eq!(h.releases, BTreeSet::from([(again, TicketId(7))]));
        h.rest_is_known();
        h.wake(TicketId(7));
        h.rest_is_known();
        assert!(h.releases.is_empty());
        h.settle(TicketId(7), false);
        assert!(h.restless.contains(&TicketId(7)), "one that may run again is looked at each time");
    }

    #[test]
    fn a_ticket_that_is_taken_back_has_no_rest() {
        let mut h = holder();
        h.tickets.get_mut(&TicketId(3)).unwrap().frozen.insert(crate::ids::MemberId(1), None);
        h.wake(TicketId(3));
        h.settle(TicketId(3), false);
        assert!(h.restless.contains(&TicketId(3)));
        h.rest_is_known();
    }
}
