//! One member in the model: the real promises and the real holder, and the glue that
//! `arbitrator/ticket/src/member/work.rs` is in the product: order of work, votes durable before
//! anybody hears of them, entries applied in order.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use tierce_ticket::docket::{Docket, Event, Touched};
use tierce_ticket::entry::FenceTarget;
use tierce_ticket::holder::{Able, Holder, Order, Request};
use tierce_ticket::ids::{
    ConfigIndex, Incarnation, MemberId, MemberName, SessionId, Term, TicketId,
};
use tierce_ticket::promise::Promises;
use tierce_ticket::timing::Timing;

use crate::clock::{Rate, holder, reading, units, voter};
use crate::log::Log;
use crate::mutant::Mutant;

/// The node's guard and what it guards: it obeys orders and enforces D on the node's own clock,
/// whatever becomes of the agent. Deadlines only move away (`extend-only`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guard {
    /// D of the session.
    pub lease: u64,
    /// Tickets pinned to a D of their own.
    pub pinned: BTreeMap<TicketId, u64>,
    /// What was started and not confirmed stopped.
    pub running: BTreeMap<TicketId, Term>,
    /// What an earlier agent, or another node of the site, started: it runs until this D.
    pub orphans: BTreeMap<TicketId, u64>,
}

impl Guard {
    /// D of a ticket.
    pub fn deadline(&self, ticket: TicketId) -> u64 {
        self.pinned.get(&ticket).copied().unwrap_or(self.lease)
    }

    /// Whether anything runs under the ticket now. Being told to run is running: starting takes no
    /// time. Stopping takes until D at the worst.
    pub fn runs(&self, clock: u64, ticket: TicketId) -> bool {
        let own = self.running.contains_key(&ticket) && clock < self.deadline(ticket);
        own || self.orphans.get(&ticket).is_some_and(|d| clock < *d)
    }

    fn obey(&mut self, order: &Order, mutant: Option<Mutant>) {
        match order {
            Order::Run { ticket, term } => {
                self.pinned.remove(ticket);
                self.running.insert(*ticket, *term);
            }
            Order::Lease { deadline } => self.lease = self.lease.max(reading(*deadline)),
            Order::TicketLease { ticket, deadline } => {
                if mutant != Some(Mutant::PinIgnored) {
                    let d = self.pinned.entry(*ticket).or_default();
                    *d = (*d).max(reading(*deadline));
                }
            }
            Order::Stop { .. } | Order::Forget { .. } | Order::Prepare { .. } => {}
        }
    }

    /// The agent is gone; what it started runs on until its D.
    fn orphan_all(&mut self) {
        for ticket in std::mem::take(&mut self.running).into_keys() {
            let d = self.deadline(ticket);
            let o = self.orphans.entry(ticket).or_default();
            *o = (*o).max(d);
        }
        self.pinned.clear();
        self.lease = 0;
    }

    fn digest(&self, clock: u64, h: &mut impl Hasher) {
        let left = |d: u64| d.saturating_sub(clock);
        left(self.lease).hash(h);
        for (t, r) in &self.running {
            (t, r, self.pinned.get(t).map(|d| left(*d))).hash(h);
        }
        for (t, d) in self.orphans.iter().filter(|(_, d)| **d > clock) {
            (t, left(*d)).hash(h);
        }
    }
}

/// The holder's half of a site.
#[derive(Clone, Debug)]
pub struct Site {
    /// Its name.
    pub name: MemberName,
    /// The real holder.
    pub holder: Arc<Holder>,
    /// Which start of the agent.
    pub incarnation: u8,
    /// Guard and dependents.
    pub guard: Guard,
    /// What the runner has been told to stop, and has not confirmed.
    pub stopping: BTreeMap<TicketId, Term>,
}

/// One member.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its number.
    pub id: MemberId,
    /// Rate of its clock.
    pub rate: Rate,
    /// What its clock shows.
    pub clock: u64,
    /// Its process runs.
    pub up: bool,
    /// Its process is frozen: its clock and its guard go on.
    pub paused: bool,
    /// Its store is the one that the others know (R5); else it takes no part.
    pub admitted: bool,
    /// How many entries it has applied.
    pub applied: usize,
    /// The real promises.
    pub promises: Arc<Promises>,
    /// When it saw the voters change last (R11).
    pub changed_at: Option<u64>,
    /// At sites.
    pub site: Option<Site>,
}

impl Member {
    /// A new member with an empty store.
    pub fn new(id: u32, rate: Rate, begin: u64, max_promise: u64) -> Self {
        let max = units(max_promise);
        let promises = Promises::new(MemberId(id), voter(begin), max, BTreeMap::new());
        Self {
            id: MemberId(id),
            rate,
            clock: begin,
            up: true,
            paused: false,
            admitted: true,
            applied: 1,
            promises: Arc::new(promises),
            changed_at: None,
            site: None,
        }
    }

    /// Whether it takes part at this instant.
    pub fn acts(&self) -> bool {
        self.up && !self.paused && self.admitted
    }

    /// Starts a site's holder.
    pub fn start_holder(
        &mut self,
        name: &MemberName,
        incarnation: u8,
        log: &Log,
        m: Option<Mutant>,
    ) {
        let timing = log.docket(self.applied).configuration().timing;
        let mut h = Holder::new(name.clone(), Incarnation([incarnation; 16]), timing);
        configure(&mut h, log.docket(self.applied), m);
        h.docket_changed(holder(self.clock), log.docket(self.applied), &Touched::everything());
        let mut guard = self.site.take().map(|s| s.guard).unwrap_or_default();
        guard.orphan_all();
        let (name, holder, stopping) = (name.clone(), Arc::new(h), BTreeMap::new());
        self.site = Some(Site { name, holder, incarnation, guard, stopping });
    }

    /// Applies the next entry, as `Member::apply_committed` does.
    pub fn apply_next(&mut self, log: &Log, mutant: Option<Mutant>) {
        self.applied += 1;
        let docket = log.docket(self.applied);
        let promise = docket.configuration().timing.promise;
        let (now, mut touched) = (voter(self.clock), Touched::default());
        let promises = Arc::make_mut(&mut self.promises);
        // R1: the larger T is durable before it is promised; nothing hangs on the time between.
        promises.max_promise_durable(promise);
        let mut reconfigured = false;
        for event in log.events(self.applied) {
            touched.add(event);
            match event {
                Event::SessionOpened { .. } if mutant == Some(Mutant::OpeningNotPromised) => {}
                Event::SessionOpened { session, .. } => {
                    promises.session_opened(now, *session, promise);
                }
                Event::TakeBackBegun { ticket, term } => {
                    let early = mutant == Some(Mutant::NamedTooShortly);
                    let since = if early { voter(self.clock - 100) } else { now };
                    promises.take_back_begun(since, *ticket, *term);
                }
                Event::ConfigurationChanged { .. } => {
                    let before = log.docket(self.applied - 1).configuration().voter_ids();
                    if before != docket.configuration().voter_ids() {
                        self.changed_at = Some(self.clock);
                    }
                    reconfigured = true;
                }
                _ => {}
            }
        }
        if let Some(s) = &mut self.site {
            let h = Arc::make_mut(&mut s.holder);
            if reconfigured {
                configure(h, docket, mutant);
            }
            h.docket_changed(holder(self.clock), docket, &touched);
        }
    }

    /// The holder's turn: it does what is due, its node obeys; what it asks of others is returned.
    pub fn run_holder(&mut self, log: &Log, mutant: Option<Mutant>) -> Vec<Request> {
        let Some(s) = self.site.as_mut().filter(|_| self.up && !self.paused) else {
            return Vec::new();
        };
        let (now, docket) = (holder(self.clock), log.docket(self.applied));
        let h = Arc::make_mut(&mut s.holder);
        h.able(now, Able::Journal);
        h.able(now, Able::Runner);
        h.tick(now, docket);
        while let Some(order) = h.poll_order() {
            s.guard.obey(&order, mutant);
            match order {
                Order::Stop { ticket, term, .. } if mutant == Some(Mutant::ConfirmedTooEarly) => {
                    h.stopped(ticket, term);
                }
                Order::Stop { ticket, term, .. } => {
                    s.stopping.insert(ticket, term);
                }
                Order::Run { ticket, .. } => {
                    s.stopping.remove(&ticket);
                }
                _ => {}
            }
        }
        if mutant.is_none() {
            h.invariants(now, docket);
        }
        std::iter::from_fn(|| h.poll_request()).collect()
    }

    /// The runner confirms that nothing of the ticket runs any more (R17).
    pub fn confirm_stopped(&mut self, ticket: TicketId) {
        if let Some(s) = &mut self.site {
            s.guard.running.remove(&ticket);
            if let Some(term) = s.stopping.remove(&ticket) {
                Arc::make_mut(&mut s.holder).stopped(ticket, term);
            }
        }
    }

    /// The guard's turn, before anything else at this instant: what has reached its D is ended for
    /// good. A lease that comes later does not bring it back.
    pub fn guard_acts(&mut self) {
        let clock = self.clock;
        if let Some(s) = &mut self.site {
            let Guard { lease, pinned, running, orphans } = &mut s.guard;
            running.retain(|t, _| clock < pinned.get(t).copied().unwrap_or(*lease));
            orphans.retain(|_, d| clock < *d);
        }
    }

    /// The process ends: what is volatile is forgotten. What the site runs goes on until its D.
    pub fn crash(&mut self) {
        (self.up, self.paused) = (false, false);
        if let Some(s) = &mut self.site {
            s.guard.orphan_all();
        }
    }

    /// It starts again with what its disk holds: votes, the largest T, and the docket, either from
    /// a snapshot at `applied` or from the log, entry by entry.
    pub fn restart(&mut self, log: &Log, from_snapshot: bool, mutant: Option<Mutant>) {
        let applied = self.applied;
        let mut disk = (*self.promises).clone();
        if from_snapshot {
            disk.prune(log.docket(applied));
        }
        let mut fences = disk.votes().map(|v| (v.target, v)).collect();
        let mut started = self.clock;
        let mut max_promise = disk.max_promise();
        match mutant {
            Some(Mutant::VotesForgotten) => fences = BTreeMap::new(),
            Some(Mutant::NoQuarantine) => started -= 100,
            Some(Mutant::PresentQuarantine) => {
                max_promise = log.docket(applied).configuration().timing.promise;
            }
            _ => {}
        }
        let promises = Promises::new(self.id, voter(started), max_promise, fences);
        self.promises = Arc::new(promises);
        self.up = true;
        self.changed_at = Some(self.clock);
        let site = self.site.as_ref().map(|s| (s.name.clone(), s.incarnation + 1));
        if !from_snapshot {
            self.applied = 1;
        }
        if let Some((name, incarnation)) = site {
            self.start_holder(&name, incarnation, log, mutant);
        }
        while self.applied < applied {
            self.apply_next(log, mutant);
        }
    }

    /// Lease times that this member's configuration says.
    pub fn timing(&self, log: &Log) -> Timing {
        log.docket(self.applied).configuration().timing
    }

    /// Its session, at sites.
    pub fn session(&self) -> Option<SessionId> {
        self.site.as_ref().and_then(|s| s.holder.session())
    }

    /// Everything on which its future depends, less what is said once for the whole world.
    pub fn digest(&self, log: &Log, sites: &[(u64, &Holder)], h: &mut impl Hasher) {
        (self.rate, self.up, self.paused, self.admitted, self.applied).hash(h);
        let wait = 2 * crate::clock::in_units(self.promises.max_promise());
        self.changed_at.map(|t| (self.clock - t).min(wait)).hash(h);
        if self.up || self.paused {
            let now = voter(self.clock);
            let left = |t| self.promises.free_at(t).since(now);
            let any = FenceTarget::Session(SessionId(u64::MAX));
            (self.promises.max_promise(), left(any)).hash(h);
            for s in &log.sessions {
                let target = FenceTarget::Session(*s);
                self.promises.remaining(now, *s).hash(h);
                self.promises.vote_on(target).map(|v| v.basis as u8).hash(h);
            }
            for t in &log.taken_back {
                (left(*t), self.promises.vote_on(*t).is_some()).hash(h);
            }
        } else {
            self.promises.max_promise().hash(h);
            self.promises.votes().for_each(|v| (v.target, v.basis as u8).hash(h));
        }
        for (clock, of) in sites {
            of.digest_of_voter(holder(*clock), self.id, h);
        }
        if let Some(s) = &self.site {
            s.incarnation.hash(h);
            if self.up {
                s.holder.digest(holder(self.clock), h);
            }
            s.guard.digest(self.clock, h);
            s.stopping.hash(h);
        }
    }
}

/// Tells a holder of a configuration.
fn configure(h: &mut Holder, docket: &Docket, mutant: Option<Mutant>) {
    let c = docket.configuration();
    let mut timing = c.timing;
    if mutant == Some(Mutant::HolderTimeUnscaled) {
        timing.rho_ppm = 0;
    }
    let index = ConfigIndex(docket.config_index().0);
    h.configuration(index, c.voter_ids(), timing);
}
