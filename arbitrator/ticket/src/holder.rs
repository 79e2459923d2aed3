//! The holder: a site's session, its leases, and when dependents may run and must stop (R12 to R18).
//!
//! The holder counts from when it *sent* a renewal, a voter from when it *received* it: so the
//! holder always ends first (I1). For each voter it keeps the end of the newest answered renewal's
//! lease; the deadline D is the largest instant that a majority of those reaches (R12). One answer
//! serves all tickets; a ticket being taken back keeps, for each voter, the lease it had before that
//! voter first named it.
//!
//! It decides, the node obeys: `Run` and `Stop` go to the runner of resources, `Lease` to the guard
//! and the kernel gate, which enforce D without this code (docs/protocol.md, layers L0 to L2).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::audit::{ClockAudit, Finding};
use crate::docket::{Docket, Holding, SessionState};
use crate::entry::{LossPolicy, Mode};
use crate::ids::{
    ConfigIndex, Incarnation, MemberId, MemberName, RenewalSeq, SessionId, Term, TicketId,
};
use crate::limits;
use crate::message::{Answer, Refused, Renew, Verdict};
use crate::quorum;
use crate::time::{HolderTime, earlier};
use crate::timing::Timing;

/// Why dependents are told to stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The lease ends and was not renewed (R14).
    LeaseEnding,
    /// A handover was decided.
    Handover,
    /// The ticket is being taken back.
    TakenBack,
    /// The ledger says that it is not ours any more.
    NotOurs,
    /// This site is leaving.
    Leaving,
    /// The clock audit found that this node's clock cannot be trusted.
    Clock(String),
}

/// What the holder tells its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Dependents of the ticket may run (R13, R18).
    Run {
        /// Which ticket.
        ticket: TicketId,
        /// Its term, for every agent and fence device.
        term: Term,
    },
    /// Dependents must stop; the guard enforces it at `by`.
    Stop {
        /// Which ticket.
        ticket: TicketId,
        /// Term being given up or paused.
        term: Term,
        /// Why.
        why: StopReason,
        /// When the guard steps in.
        by: HolderTime,
    },
    /// The ticket is not this site's any more; forget it.
    Forget {
        /// Which ticket.
        ticket: TicketId,
        /// The term that ended.
        term: Term,
    },
    /// This site is named as successor: prepare, start nothing.
    Prepare {
        /// Which ticket.
        ticket: TicketId,
    },
    /// The session's deadline moved.
    Lease {
        /// D.
        deadline: HolderTime,
    },
    /// A ticket's own deadline: it is being taken back, and `Lease` is not for it any more.
    TicketLease {
        /// Which ticket.
        ticket: TicketId,
        /// Its own D.
        deadline: HolderTime,
    },
}

/// What the holder asks the member to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Open a session, superseding this one of the same site.
    Open(Option<SessionId>),
    /// Close it.
    Close(SessionId),
    /// Release a stopped ticket (R17).
    Release(TicketId, SessionId, Term),
    /// Send a renewal to every voter.
    Renew(Renew),
}

/// What the runner has reported of a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Granted to an earlier session of this site: what that one started may run still (R17).
    Inherited,
    /// Nothing runs.
    Stopped,
    /// Told to run.
    Running,
    /// Told to stop, not confirmed yet.
    Stopping,
}

#[derive(Clone, Debug)]
struct HeldTicket {
    term: Term,
    stop_budget: Duration,
    /// Loss policy freeze: the end of the lease stops nothing (manual tickets only).
    freeze: bool,
    phase: Phase,
    /// Leases as they were when a voter first named the ticket as being taken back.
    frozen: BTreeMap<MemberId, Option<HolderTime>>,
    /// Its deadline when the session was rolled while it was being taken back: final.
    capped: Option<HolderTime>,
    release_asked: Option<HolderTime>,
    told_deadline: Option<HolderTime>,
}

#[derive(Clone, Debug, Default)]
struct VoterLease {
    sent: VecDeque<(RenewalSeq, HolderTime)>,
    until: Option<HolderTime>,
    rtt: Option<Duration>,
    last_refusal: Option<Refused>,
    answered: u64,
}

/// What a voter looks like from here, for status and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VoterView {
    /// Which voter.
    pub voter: MemberId,
    /// End of its lease.
    pub until: Option<HolderTime>,
    /// Round trip of its last answer.
    pub rtt: Option<Duration>,
    /// Its last refusal since the last promise.
    pub refused: Option<Refused>,
    /// Renewals that it has answered.
    pub answered: u64,
}

/// The evidence that this node can stop things (R15), with when it was last seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Able {
    /// A journal write succeeded.
    Journal,
    /// The resource runner answered.
    Runner,
}

/// The holder's half; see the module.
#[derive(Debug)]
pub struct Holder {
    site: MemberName,
    incarnation: Incarnation,
    timing: Timing,
    voters: BTreeSet<MemberId>,
    config_index: ConfigIndex,
    newest_named: ConfigIndex,
    session: Option<SessionId>,
    supersede: Option<SessionId>,
    inherited: Option<HolderTime>,
    deadline: Option<HolderTime>,
    told: Option<HolderTime>,
    leases: BTreeMap<MemberId, VoterLease>,
    tickets: BTreeMap<TicketId, HeldTicket>,
    prepared: BTreeSet<TicketId>,
    next_seq: RenewalSeq,
    next_renewal: HolderTime,
    next_open: HolderTime,
    able: BTreeMap<Able, HolderTime>,
    audit: ClockAudit,
    distrusted: Option<String>,
    leaving: bool,
    left: bool,
    /// Nothing about any ticket changes before this instant unless an input says so.
    calm_until: Option<HolderTime>,
    orders: VecDeque<Order>,
    requests: VecDeque<Request>,
    findings: VecDeque<Finding>,
}

impl Holder {
    /// A holder without a session. `now` starts its able-to-stop evidence as absent.
    pub fn new(site: MemberName, incarnation: Incarnation, timing: Timing) -> Self {
        Self {
            site,
            incarnation,
            timing,
            voters: BTreeSet::new(),
            config_index: ConfigIndex(0),
            newest_named: ConfigIndex(0),
            session: None,
            supersede: None,
            inherited: None,
            deadline: None,
            told: None,
            leases: BTreeMap::new(),
            tickets: BTreeMap::new(),
            prepared: BTreeSet::new(),
            next_seq: RenewalSeq(1),
            next_renewal: HolderTime::default(),
            next_open: HolderTime::default(),
            able: BTreeMap::new(),
            audit: ClockAudit::new(timing),
            distrusted: None,
            leaving: false,
            left: false,
            calm_until: None,
            orders: VecDeque::new(),
            requests: VecDeque::new(),
            findings: VecDeque::new(),
        }
    }

    /// The open session, once the ledger has it.
    pub fn session(&self) -> Option<SessionId> {
        self.session
    }
    /// D, as far as known.
    pub fn deadline_d(&self) -> Option<HolderTime> {
        self.deadline
    }
    /// Whether the session has been closed after `leave`.
    pub fn has_left(&self) -> bool {
        self.left
    }
    /// Why this node's clock is not trusted, if so.
    pub fn distrusted(&self) -> Option<&str> {
        self.distrusted.as_deref()
    }
    /// The voters as seen from here.
    pub fn voters(&self) -> impl Iterator<Item = VoterView> + '_ {
        self.voters.iter().map(|v| {
            let l = self.leases.get(v).cloned().unwrap_or_default();
            VoterView {
                voter: *v,
                until: l.until,
                rtt: l.rtt,
                refused: l.last_refusal,
                answered: l.answered,
            }
        })
    }
    /// Next order for the node.
    pub fn poll_order(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }
    /// Next request to the member.
    pub fn poll_request(&mut self) -> Option<Request> {
        self.requests.pop_front()
    }
    /// Next finding of the clock audit.
    pub fn poll_finding(&mut self) -> Option<Finding> {
        self.findings.pop_front()
    }

    /// The newest configuration in this member's log, and the lease times in it.
    pub fn configuration(
        &mut self,
        index: ConfigIndex,
        voters: BTreeSet<MemberId>,
        timing: Timing,
    ) {
        self.config_index = index;
        self.newest_named = self.newest_named.max(index);
        self.leases.retain(|v, _| voters.contains(v));
        self.voters = voters;
        self.timing = timing;
        self.audit.set_timing(timing);
        self.reckon();
    }

    /// R15: evidence that this node can stop things.
    pub fn able(&mut self, now: HolderTime, what: Able) {
        self.able.insert(what, now);
    }

    /// R15: whether all evidence is fresh: within two renewal periods, one second at least, so that
    /// one late write does not cost a lease, and always well within the lease itself.
    pub fn is_able(&self, now: HolderTime) -> bool {
        let floor = Duration::from_secs(1).min(self.timing.holder_time() / 2);
        let fresh = (self.timing.renew_every * 2).max(floor);
        [Able::Journal, Able::Runner]
            .iter()
            .all(|a| self.able.get(a).is_some_and(|t| now.since(*t) <= fresh))
    }

    /// This member may not hold any more: everything is stopped and nothing is renewed.
    pub fn distrust(&mut self, why: &str) {
        self.distrusted.get_or_insert_with(|| why.to_owned());
        self.calm_until = None;
    }

    /// The site gives everything up and closes its session.
    pub fn leave(&mut self) {
        self.calm_until = None;
        self.leaving = true;
    }

    // ----- the log view ------------------------------------------------------------------

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

    // ----- renewals ----------------------------------------------------------------------

    /// A voter's answer. Answers to renewals that are not open, or of another session, are ignored.
    pub fn answered(&mut self, now: HolderTime, voter: MemberId, answer: &Answer) {
        if Some(answer.session) != self.session || !self.voters.contains(&voter) {
            return;
        }
        let Some(lease) = self.leases.get_mut(&voter) else { return };
        let Some(at) = lease.sent.iter().position(|(seq, _)| *seq == answer.seq) else { return };
        let (_, sent) = lease.sent[at];
        lease.sent.drain(..=at);
        lease.rtt = Some(now.since(sent));
        if let Some(finding) = self.audit.sample(voter, sent, now, answer.clock) {
            self.findings.push_back(finding);
        }
        match &answer.verdict {
            Verdict::Promised { promise, config_index, revoking } => {
                let end = sent + self.timing.holder_time_of(*promise);
                self.newest_named = self.newest_named.max(*config_index);
                for (ticket, term) in revoking.iter().take(limits::MAX_REVOKING) {
                    if let Some(h) = self.tickets.get_mut(ticket)
                        && h.term == *term
                    {
                        h.frozen.entry(voter).or_insert(lease.until);
                        self.calm_until = None;
                    }
                }
                lease.until = lease.until.max(Some(end));
                lease.last_refusal = None;
                lease.answered += 1;
            }
            Verdict::Refused(why) => lease.last_refusal = Some(*why),
        }
        self.reckon();
    }

    /// R12: D from the leases, by the newest configuration that any answer named. While that is one
    /// this member does not have, D stays where it is.
    fn reckon(&mut self) {
        if self.newest_named > self.config_index {
            return;
        }
        let own = quorum::reached_by_majority(&self.voters, |v| {
            self.leases.get(&v).and_then(|l| l.until)
        });
        let deadline = own.max(self.inherited);
        if deadline < self.deadline {
            self.calm_until = None;
        }
        self.deadline = deadline;
    }

    fn ticket_deadline(&self, h: &HeldTicket) -> Option<HolderTime> {
        if h.frozen.is_empty() {
            return self.deadline;
        }
        if h.capped.is_some() {
            return h.capped;
        }
        let own = quorum::reached_by_majority(&self.voters, |v| match h.frozen.get(&v) {
            Some(frozen) => *frozen,
            None => self.leases.get(&v).and_then(|l| l.until),
        });
        own.max(self.inherited).min(self.deadline)
    }

    /// D − W − B of one ticket (R14).
    fn stop_at(&self, h: &HeldTicket, deadline: Option<HolderTime>) -> HolderTime {
        let budget = h.stop_budget.min(self.timing.stop_budget);
        deadline.map_or(HolderTime::default(), |d| {
            d.minus(self.timing.watchdog_stretched()).minus(budget)
        })
    }

    // ----- time --------------------------------------------------------------------------

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

    fn renew(&mut self, now: HolderTime, docket: &Docket) {
        let Some(session) = self.session else {
            if now >= self.next_open {
                self.next_open = now + self.timing.renew_every;
                if !self.leaving && self.is_able(now) && self.distrusted.is_none() {
                    // An earlier session of this site belongs to a process that is gone: the site
                    // vouches for it (one node: by the lock on its data directory).
                    self.requests.push_back(Request::Open(docket.session_of(&self.site)));
                }
            }
            return;
        };
        if now < self.next_renewal {
            return;
        }
        self.next_renewal = now + self.timing.renew_every;
        if !self.is_able(now) || self.distrusted.is_some() {
            return; // R15
        }
        let fenced = self.leases.values().any(|l| l.last_refusal == Some(Refused::Fenced));
        if fenced && now >= self.next_open && !self.leaving {
            // A minority fenced this session: without a new one it would be lost for good there.
            self.next_open = now + self.timing.renew_every * 2;
            self.supersede = Some(session);
            self.requests.push_back(Request::Open(Some(session)));
        }
        let renew = Renew { session, seq: self.next_seq };
        self.next_seq = RenewalSeq(self.next_seq.0 + 1);
        for v in &self.voters {
            let lease = self.leases.entry(*v).or_default();
            if lease.sent.len() >= limits::MAX_OPEN_RENEWALS {
                lease.sent.pop_front();
            }
            lease.sent.push_back((renew.seq, now));
        }
        self.requests.push_back(Request::Renew(renew));
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

    /// Asserts what must hold after every step.
    ///
    /// # Panics
    /// When an invariant is broken.
    pub fn invariants(&self, now: HolderTime, docket: &Docket) {
        for (id, h) in &self.tickets {
            if h.phase == Phase::Running {
                let within = now < self.stop_at(h, self.ticket_deadline(h));
                assert!(within || h.freeze, "runs_within_lease (R13)");
                let holder = docket.ticket(*id).and_then(|t| t.holder());
                assert!(
                    holder.is_some_and(|(s, _, t)| Some(s) == self.session && t == h.term),
                    "runs_only_what_the_log_shows (R13)"
                );
                let open = self.session.and_then(|s| docket.session(s));
                assert!(open.is_some_and(|s| s.state == SessionState::Open));
            }
        }
    }
}
