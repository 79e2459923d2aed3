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

mod facts;
mod lease;
mod review;
mod view;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::audit::{ClockAudit, Finding};
use crate::docket::{Docket, SessionState};
use crate::ids::{
    ConfigIndex, Incarnation, LogIndex, MemberId, MemberName, RenewalSeq, SessionId, Term, TicketId,
};
use crate::message::{Refused, Renew};
use crate::time::HolderTime;
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
    /// At rest, as counted in `Holder::resting`.
    rests: Option<Rest>,
}

/// What could end the rest of a ticket besides an input that concerns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    /// The lease: it runs, with this stop budget.
    Lease(Duration),
    /// This instant: its release has been asked for, and is asked for again then.
    Release(HolderTime),
    /// Nothing: it is being stopped, or runs whatever becomes of the lease.
    Nothing,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Able {
    /// A journal write succeeded.
    Journal,
    /// The resource runner answered.
    Runner,
}

/// The holder's half; see the module.
#[derive(Clone, Debug)]
pub struct Holder {
    site: MemberName,
    incarnation: Incarnation,
    timing: Timing,
    voters: BTreeSet<MemberId>,
    config_index: ConfigIndex,
    /// The newest that an answer named or this member's log held, and that may yet become final.
    newest_named: ConfigIndex,
    /// Up to here entries are final: what stands here is what is final here.
    settled: LogIndex,
    /// The newest configuration that is final.
    settled_config: ConfigIndex,
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
    /// Tickets that each tick looks at. All others are at rest: nothing about them changes before
    /// the lease ends, unless an input says so. Ten thousand that run cost what one costs.
    restless: BTreeSet<TicketId>,
    /// How many rest until the lease ends, by stop budget: the longest is due first.
    resting: BTreeMap<Duration, usize>,
    /// When releases are asked for again.
    releases: BTreeSet<(HolderTime, TicketId)>,
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
            settled: LogIndex(0),
            settled_config: ConfigIndex(0),
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
            restless: BTreeSet::new(),
            resting: BTreeMap::new(),
            releases: BTreeSet::new(),
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
        self.name_configuration(index);
        self.leases.retain(|v, _| voters.contains(v));
        self.voters = voters;
        self.timing = timing;
        self.audit.set_timing(timing);
        self.reckon();
        self.wake_all();
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
        self.wake_all();
    }

    /// The site gives everything up and closes its session.
    pub fn leave(&mut self) {
        self.leaving = true;
        self.wake_all();
    }

    /// Asserts what must hold after every step.
    ///
    /// # Panics
    /// When an invariant is broken.
    pub fn invariants(&self, now: HolderTime, docket: &Docket) {
        self.rest_is_known();
        for (id, h) in &self.tickets {
            if h.phase == Phase::Running {
                let within = now < self.stop_at(h.stop_budget, self.ticket_deadline(h));
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
