//! One member of one cluster: ledger, promises, docket, steward and holder put together.
//!
//! Inputs come in with the clocks as read by the driver; effects go out in order. The driver's duty:
//! carry out `Persist` and `Checkpoint` in order and report them with `Persisted`; let no `Send`
//! leave whose `after` is not yet reported; stop the process when a persist fails (R6).
//!
//! Where to look: this file has the state and the order of work in a step; `join.rs` how a member
//! finds its place (founding, admission, older stores); `commands.rs` what operators and agents ask.

mod commands;
mod join;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::audit::Finding;
use crate::command::{Command, Outcome};
use crate::configuration::{Configuration, Role};
use crate::docket::{Docket, Event};
use crate::durable::{Durable, Inconsistent, Record};
use crate::entry::{FenceTarget, Payload};
use crate::holder::{Able, Holder, Order, Request};
use crate::ids::{
    ClusterId, Incarnation, LogIndex, MemberId, MemberName, PersistId, RequestId, SessionId,
    StoreId, Term, TicketId,
};
use crate::ledger::{Ledger, LedgerEffect, LedgerRecord, LedgerSettings, Snapshot};
use crate::limits;
use crate::message::{Answer, Envelope, Hello, Lane, Message, Readiness, Refused, Renew, Verdict};
use crate::promise::Promises;
use crate::steward::{Scene, Steward, Wish};
use crate::time::{Now, VoterTime, Wake, earlier};
use crate::timing::Timing;

/// Rounds of work that one input may cause before the rest waits for the next: a bound, not a
/// tuning value; the longest chain seen in tests is six.
const MAX_ROUNDS: usize = 64;

/// A member that the founder expects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedMember {
    /// Its name.
    pub name: MemberName,
    /// Its role.
    pub role: Role,
    /// Where it is reached.
    pub addresses: Vec<String>,
}

/// How the cluster begins, from the sites' files, which must agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundingPlan {
    /// All members.
    pub members: Vec<PlannedMember>,
    /// Lease times.
    pub timing: Timing,
}

/// What a member is told of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberSettings {
    /// Its name, as in its certificate.
    pub name: MemberName,
    /// Its role.
    pub role: Role,
    /// Its store.
    pub store: StoreId,
    /// How often that store was opened, this time included.
    pub opened: u64,
    /// Random number of this start.
    pub boot: Incarnation,
    /// Seed for election jitter.
    pub seed: u64,
    /// Digest of the equal part of the sites' files; zero at arbitrators.
    pub digest: [u8; 16],
    /// How the cluster begins; arbitrators have none.
    pub plan: Option<FoundingPlan>,
    /// Random identity for a cluster that this member founds.
    pub new_cluster: ClusterId,
}

/// What happens to a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A deadline of `poll_deadline` came, or might have.
    Tick,
    /// A connection to this member is up.
    PeerUp(MemberName),
    /// It is gone.
    PeerDown(MemberName),
    /// A message from the member of this (authenticated) name.
    Received {
        /// The sender by its certificate.
        from: MemberName,
        /// Its message.
        envelope: Envelope,
    },
    /// All persists up to this one are durable.
    Persisted(PersistId),
    /// A local client's command.
    Command {
        /// The client's number.
        request: RequestId,
        /// The command.
        command: Command,
    },
    /// Evidence that this node can stop things (R15).
    Able(Able),
    /// The runner confirms that nothing of the ticket runs (R17).
    Stopped {
        /// Which ticket.
        ticket: TicketId,
        /// Term that it ran under.
        term: Term,
    },
    /// What this site reports of its readiness.
    Readiness(Readiness),
    /// A fence device has confirmed power-off of all nodes of a session.
    DeviceProof(SessionId),
    /// Give up all tickets and close the session.
    Leave,
}

/// What the driver has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Make these durable, then report.
    Persist {
        /// Number of the write.
        id: PersistId,
        /// Records in order.
        records: Vec<Record>,
    },
    /// The same, and recovery may begin here: everything before is contained.
    Checkpoint {
        /// Number of the write.
        id: PersistId,
        /// The whole durable state.
        records: Vec<Record>,
    },
    /// Send, not before `after` is durable.
    Send {
        /// To whom.
        to: MemberName,
        /// How.
        lane: Lane,
        /// What.
        envelope: Envelope,
        /// The persist that must be durable first.
        after: Option<PersistId>,
    },
    /// An order of the holder for this node.
    Order(Order),
    /// What became of a local client's command.
    Outcome {
        /// The client's number.
        request: RequestId,
        /// The outcome.
        outcome: Outcome,
    },
    /// An entry was applied.
    Decided {
        /// Its index.
        index: LogIndex,
        /// The leader's wall clock when it was appended.
        wall_ms: u64,
        /// What it did.
        events: Vec<Event>,
    },
    /// The docket was replaced as a whole by a snapshot.
    DocketReplaced,
    /// The configuration in force in the log changed: addresses, voters, timing.
    Reconfigured,
    /// Who leads, as far as is known here.
    Leader(Option<MemberName>),
    /// Somebody should look.
    Alarm(Alarm),
}

/// What somebody should look at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Alarm {
    /// R5: an older copy of this store, or a second running copy.
    #[error(
        "this store is an older copy: it was opened {opened} times, and {by} has seen opening {seen}; \
         it refuses to take part; move it away and re-admit this member under a new store"
    )]
    OlderStore {
        /// Openings of this store.
        opened: u64,
        /// Openings seen elsewhere.
        seen: u64,
        /// By whom.
        by: MemberName,
    },
    /// R5: the cluster exists and does not know this store.
    #[error(
        "the cluster exists and does not know this store ({by} says so); until it is admitted this \
         member takes no part; next: tierce sites admit NAME at a member in service"
    )]
    NotAdmitted {
        /// Who said so.
        by: MemberName,
    },
    /// Another member presented an older copy of its store.
    #[error(
        "{member} came with an older copy of its store (opened {opened}, seen {seen}); refused (R5)"
    )]
    PeerOlder {
        /// Which member.
        member: MemberName,
        /// Openings it claims.
        opened: u64,
        /// Openings seen.
        seen: u64,
    },
    /// The configuration no longer contains this member.
    #[error("this member was removed from the cluster's configuration; it takes no part any more")]
    Removed,
    /// Another site's file differs in what must be equal.
    #[error(
        "{member} has a different configuration file: digest {theirs}, here {ours}; compare with tierce config diff"
    )]
    DigestDiffers {
        /// Which member.
        member: MemberName,
        /// Its digest.
        theirs: String,
        /// Ours.
        ours: String,
    },
    /// Wall clocks differ; decides nothing, but logs will confuse people.
    #[error(
        "the wall clock of {member} differs by {by_ms} ms; nothing is decided by it, but logs will not line up"
    )]
    WallSkew {
        /// Which member.
        member: MemberName,
        /// Theirs less ours.
        by_ms: i64,
    },
    /// The clock audit found a voter's clock beyond rho.
    #[error(
        "the clock of {member} differs by {excess_us} us over {over_ms} ms beyond the bound rho"
    )]
    ClockBeyondBound {
        /// Which voter.
        member: MemberName,
        /// Excess beyond the bound, microseconds; positive: it went ahead of ours.
        excess_us: i64,
        /// Over which time.
        over_ms: u64,
    },
    /// This node's own clock is at fault: it stops its dependents.
    #[error(
        "this node's clock is not to be trusted: {0}; everything is stopped and no lease is renewed; restart the agent once the cause is known"
    )]
    OwnClock(String),
    /// The ledger refused something that must not happen.
    #[error("the ledger refused an impossible request: {0}")]
    Ledger(String),
    /// A ticket moved by itself.
    #[error("ticket {ticket} moved to {to} by itself (term {term})")]
    Moved {
        /// Which ticket.
        ticket: String,
        /// The new holder.
        to: MemberName,
        /// Its term.
        term: Term,
    },
}

/// Whether this member takes part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has no cluster yet.
    Unformed,
    /// It has one and waits until a peer confirms that its store is no older copy (R5).
    Confirming,
    /// It votes, promises and may hold.
    TakingPart,
    /// It does not.
    Out(Alarm),
}

/// The parts of a member that has a cluster.
#[derive(Debug)]
struct Formed {
    cluster: ClusterId,
    me: MemberId,
    ledger: Ledger,
    docket: Docket,
    promises: Promises,
    steward: Steward,
    holder: Option<Holder>,
    own_durable: BTreeSet<FenceTarget>,
    /// While leading: the no-op of this ballot; decisions wait until it is applied.
    led_from: Option<LogIndex>,
    config_seen: Configuration,
    snapshot_at: LogIndex,
}

#[derive(Debug, Default)]
struct Peer {
    up: bool,
    hello: Option<Hello>,
    cluster: ClusterId,
}

#[derive(Debug)]
struct Batch {
    id: PersistId,
    ledger_records: u64,
    fences: Vec<FenceTarget>,
    max_promise: Option<Duration>,
}

#[derive(Debug)]
struct Outgoing {
    to: MemberName,
    lane: Lane,
    message: Message,
    needs_persist: bool,
}

/// One member; see the module.
#[derive(Debug)]
pub struct Member {
    settings: MemberSettings,
    standing: Standing,
    formed: Option<Formed>,
    peers: BTreeMap<MemberName, Peer>,
    names: BTreeMap<MemberId, MemberName>,
    seen: BTreeMap<StoreId, (u64, Incarnation)>,
    commands: commands::Pending,
    readiness: Option<Readiness>,
    records: Vec<Record>,
    checkpoint: bool,
    outbox: Vec<Outgoing>,
    effects: VecDeque<Effect>,
    batches: VecDeque<Batch>,
    ledger_records: u64,
    last_persist: PersistId,
    acked: PersistId,
    leader: Option<MemberName>,
    alarms_given: BTreeSet<String>,
    wall_ms: u64,
    leaving: bool,
    next_report: VoterTime,
}

impl Member {
    /// A member with what it must not have forgotten.
    pub fn new(settings: MemberSettings, durable: Durable, now: Now) -> Result<Self, Inconsistent> {
        let mut member = Self {
            standing: Standing::Unformed,
            formed: None,
            peers: BTreeMap::new(),
            names: BTreeMap::new(),
            seen: durable.seen.clone(),
            commands: commands::Pending::default(),
            readiness: None,
            records: Vec::new(),
            checkpoint: false,
            outbox: Vec::new(),
            effects: VecDeque::new(),
            batches: VecDeque::new(),
            ledger_records: 0,
            last_persist: PersistId(0),
            acked: PersistId(0),
            leader: None,
            alarms_given: BTreeSet::new(),
            wall_ms: now.wall_ms,
            leaving: false,
            next_report: now.voter,
            settings,
        };
        if durable.identity.is_some() {
            member.form(durable, now)?;
            let alone = member
                .formed
                .as_ref()
                .is_some_and(|f| f.ledger.configuration().0.voters.len() == 1);
            member.standing = if alone { Standing::TakingPart } else { Standing::Confirming };
            member.pump(now);
        }
        Ok(member)
    }

    // ----- what others may look at -------------------------------------------------------

    /// Its settings.
    pub fn settings(&self) -> &MemberSettings {
        &self.settings
    }
    /// Whether it takes part.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }
    /// The docket, once there is a cluster.
    pub fn docket(&self) -> Option<&Docket> {
        self.formed.as_ref().map(|f| &f.docket)
    }
    /// The ledger, once there is a cluster.
    pub fn ledger(&self) -> Option<&Ledger> {
        self.formed.as_ref().map(|f| &f.ledger)
    }
    /// The holder, at sites.
    pub fn holder(&self) -> Option<&Holder> {
        self.formed.as_ref().and_then(|f| f.holder.as_ref())
    }
    /// The voter's promises.
    pub fn promises(&self) -> Option<&Promises> {
        self.formed.as_ref().map(|f| &f.promises)
    }
    /// The steward (active only at the leader).
    pub fn steward(&self) -> Option<&Steward> {
        self.formed.as_ref().map(|f| &f.steward)
    }
    /// Cluster and own number.
    pub fn identity(&self) -> Option<(ClusterId, MemberId)> {
        self.formed.as_ref().map(|f| (f.cluster, f.me))
    }
    /// Who leads, as far as is known here.
    pub fn leader(&self) -> Option<&MemberName> {
        self.leader.as_ref()
    }
    /// Whether this member leads and its docket is as new as its ballot.
    pub fn leads(&self) -> bool {
        self.formed.as_ref().is_some_and(Formed::in_charge)
    }
    /// The last hello of a peer that is up.
    pub fn peer_hello(&self, name: &MemberName) -> Option<&Hello> {
        self.peers.get(name).filter(|p| p.up).and_then(|p| p.hello.as_ref())
    }
    /// Why a site may not be granted a ticket now, as this member sees it; `Ok` if it may.
    pub fn eligibility(
        &self,
        now: Now,
        ticket: TicketId,
        site: &MemberName,
    ) -> Result<SessionId, String> {
        let f = self.formed.as_ref().ok_or("there is no cluster yet")?;
        let t = f.docket.ticket(ticket).ok_or("there is no such ticket")?;
        let voters = f.ledger.configuration().0.voter_ids();
        let scene = f.scene(now, &voters);
        f.steward.eligible(&scene, &f.docket, t, site).map_err(|n| n.why)
    }

    // ----- step --------------------------------------------------------------------------

    /// Takes in one input.
    pub fn step(&mut self, now: Now, input: Input) {
        self.wall_ms = now.wall_ms;
        match input {
            Input::Tick => {}
            Input::PeerUp(name) => self.peer_up(&name),
            Input::PeerDown(name) => self.peer_down(&name),
            Input::Received { from, envelope } => self.receive(now, &from, envelope),
            Input::Persisted(id) => self.persisted(now, id),
            Input::Command { request, command } => self.local_command(now, request, command),
            Input::Able(what) => {
                if let Some(h) = self.holder_mut() {
                    h.able(now.holder, what);
                }
            }
            Input::Stopped { ticket, term } => {
                if let Some(h) = self.holder_mut() {
                    h.stopped(ticket, term);
                }
            }
            Input::Readiness(report) => {
                if !self.leaving {
                    self.readiness = Some(report);
                    self.tell_readiness(None);
                }
            }
            Input::DeviceProof(session) => {
                if let Some(f) = &mut self.formed {
                    f.steward.device_proof(session);
                }
            }
            Input::Leave => {
                // First of all nobody shall choose this site again.
                let session = self.holder().and_then(Holder::session).unwrap_or_default();
                let not_ready = Some("it is leaving".to_owned());
                self.readiness = Some(Readiness { session, not_ready, tickets: Vec::new() });
                self.leaving = true;
                self.tell_readiness(None);
                if let Some(h) = self.holder_mut() {
                    h.leave();
                }
            }
        }
        self.pump(now);
    }

    /// Next effect, in order.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When to call `step(Tick)` at the latest.
    pub fn poll_deadline(&self, now: Now) -> Wake {
        let mut wake = Wake { voter: self.commands.deadline(), holder: None };
        if let Some(f) = &self.formed
            && self.standing == Standing::TakingPart
        {
            wake.voter = earlier(wake.voter, f.ledger.deadline());
            wake.voter = earlier(wake.voter, f.promises.deadline());
            if f.in_charge() {
                let voters = f.ledger.configuration().0.voter_ids();
                wake.voter = earlier(wake.voter, f.steward.deadline(&f.scene(now, &voters)));
            }
            wake.holder = f.holder.as_ref().and_then(Holder::deadline);
        }
        wake
    }

    fn holder_mut(&mut self) -> Option<&mut Holder> {
        self.formed.as_mut().and_then(|f| f.holder.as_mut())
    }

    /// Sets up the parts of a member that has a cluster.
    fn form(&mut self, durable: Durable, now: Now) -> Result<(), Inconsistent> {
        let bad = |what: &str| Inconsistent(what.to_owned());
        let (cluster, me) = durable.identity.ok_or_else(|| bad("no identity"))?;
        let docket = match &durable.ledger.snapshot {
            Some(s) => {
                Docket::from_bytes(&s.state).map_err(|_| bad("the snapshot is unreadable"))?
            }
            None => match durable.ledger.entries.first().map(|e| &e.payload) {
                Some(Payload::Configuration(c)) => Docket::new(c.clone()),
                _ => return Err(bad("the ledger does not begin with a configuration")),
            },
        };
        let timing = docket.configuration().timing;
        let settings = self.ledger_settings(me, &timing);
        let own_durable = durable.fences.keys().copied().collect();
        let promises = Promises::new(me, now.voter, durable.max_promise, durable.fences);
        let snapshot_at = docket.applied();
        let ledger = Ledger::new(settings, durable.ledger, now.voter);
        let (configuration, index) = ledger.configuration();
        let configuration = configuration.clone();
        let mut holder = (self.settings.role == Role::Site).then(|| {
            Holder::new(self.settings.name.clone(), self.settings.boot, configuration.timing)
        });
        if let Some(h) = &mut holder {
            h.configuration(index, configuration.voter_ids(), configuration.timing);
        }
        let config_seen = configuration.clone();
        self.formed = Some(Formed {
            cluster,
            me,
            ledger,
            docket,
            promises,
            steward: Steward::default(),
            holder,
            own_durable,
            led_from: None,
            config_seen,
            snapshot_at,
        });
        self.require_promise(configuration.timing.promise);
        self.effects.push_back(Effect::Reconfigured);
        Ok(())
    }

    fn ledger_settings(&self, me: MemberId, timing: &Timing) -> LedgerSettings {
        // Arbitrators campaign last: a leader at a site saves half a round trip at a takeover.
        let (min, max) = match self.settings.role {
            Role::Site => (timing.election / 2, timing.election * 3 / 4),
            Role::Arbitrator => (timing.election * 3 / 4, timing.election),
        };
        LedgerSettings {
            me,
            election_min: min,
            election_max: max,
            heartbeat: timing.election / 8,
            seed: self.settings.seed,
            change_wait: timing.promise,
            may_lead: true,
        }
    }

    /// R1: the largest T is durable before it is promised.
    fn require_promise(&mut self, promise: Duration) {
        let due = self.formed.as_ref().is_some_and(|f| promise > f.promises.max_promise());
        let asked =
            self.records.iter().any(|r| matches!(r, Record::MaxPromise(p) if *p >= promise))
                || self.batches.iter().any(|b| b.max_promise.is_some_and(|p| p >= promise));
        if due && !asked {
            self.records.push(Record::MaxPromise(promise));
        }
    }

    fn persisted(&mut self, now: Now, id: PersistId) {
        assert!(id <= self.last_persist && id > self.acked, "persists are reported once, in order");
        self.acked = id;
        while self.batches.front().is_some_and(|b| b.id <= id) {
            let Some(b) = self.batches.pop_front() else { break };
            if let Some(f) = &mut self.formed {
                f.ledger.persisted(now.voter, b.ledger_records);
                f.own_durable.extend(b.fences);
                if let Some(p) = b.max_promise {
                    f.promises.max_promise_durable(p);
                }
            }
        }
    }

    // ----- messages ----------------------------------------------------------------------

    fn receive(&mut self, now: Now, from: &MemberName, envelope: Envelope) {
        let Envelope { cluster, from: id, message } = envelope;
        match message {
            Message::Hello(hello) => return self.hello(now, from, cluster, id, hello),
            Message::Founding(c) => return self.founding(now, from, c),
            Message::Admitted { you, snapshot } => {
                return self.admitted(now, cluster, you, snapshot);
            }
            _ => {}
        }
        let Some(f) = &mut self.formed else { return };
        if cluster != f.cluster || self.standing != Standing::TakingPart {
            if let Message::Renew(renew) = message {
                self.refuse(now, from, renew);
            }
            return;
        }
        let known = f.ledger.configuration().0.member(id);
        match known {
            Some(m) if m.name != *from => return,
            // A leader may be newer than this member's configuration; its ledger messages count.
            None if !matches!(message, Message::Ledger(_)) => return,
            _ => {}
        }
        if self.names.len() < 4 * limits::MAX_VOTERS {
            self.names.insert(id, from.clone());
        }
        match message {
            Message::Ledger(m) => f.ledger.receive(now.voter, id, m),
            Message::Renew(renew) => {
                let answer = self.answer(now, from, renew);
                self.send(from, Lane::Datagram, Message::Answer(answer), false);
            }
            Message::Answer(answer) => {
                if let Some(h) = &mut f.holder {
                    h.answered(now.holder, id, &answer);
                }
            }
            Message::FenceRequest { target, device_proof } => {
                self.fence_request(now, from, id, target, device_proof);
            }
            Message::FenceReply { vote, .. } => {
                if let Some(vote) = vote {
                    f.steward.reply(id, vote);
                }
            }
            Message::Command { request, command } => self.peer_command(now, from, request, command),
            Message::CommandDone { request, outcome } => self.command_done(request, outcome),
            Message::Readiness(report) => f.steward.readiness(from.clone(), report),
            Message::Hello(_) | Message::Founding(_) | Message::Admitted { .. } => {}
        }
    }

    /// R1, with the checks that are not the promises' own: only the session's own site may renew.
    fn answer(&mut self, now: Now, from: &MemberName, renew: Renew) -> Answer {
        let refuse = |why| Answer {
            session: renew.session,
            seq: renew.seq,
            clock: now.voter,
            verdict: Verdict::Refused(why),
        };
        let Some(f) = &mut self.formed else { return refuse(Refused::NotReady) };
        if f.docket.session(renew.session).is_some_and(|s| s.site != *from) {
            return refuse(Refused::UnknownSession);
        }
        let (configuration, index) = f.ledger.configuration();
        let promise = configuration.timing.promise;
        f.promises.renew(now.voter, renew, &f.docket, index, promise)
    }

    fn refuse(&mut self, now: Now, from: &MemberName, renew: Renew) {
        let answer = Answer {
            session: renew.session,
            seq: renew.seq,
            clock: now.voter,
            verdict: Verdict::Refused(Refused::NotReady),
        };
        self.send(from, Lane::Datagram, Message::Answer(answer), false);
    }

    fn fence_request(
        &mut self,
        now: Now,
        from: &MemberName,
        id: MemberId,
        target: FenceTarget,
        device_proof: bool,
    ) {
        let Some(f) = &mut self.formed else { return };
        let vote = match f.promises.vote_on(target) {
            Some(vote) => Some(vote),
            None if f.promises.may_fence(now.voter, target, device_proof, &f.docket) => {
                let vote = f.promises.fence(now.voter, target, device_proof, &f.docket);
                self.records.push(Record::Fence(vote));
                Some(vote)
            }
            None => {
                f.promises.remember_request(target, id, device_proof);
                None
            }
        };
        let wait = vote.is_none().then(|| f.promises.free_at(target).since(now.voter));
        self.send(from, Lane::Stream, Message::FenceReply { target, vote, wait }, true);
    }

    /// Puts a message into the outbox; `needs_persist`: it tells of something that must be durable.
    fn send(&mut self, to: &MemberName, lane: Lane, message: Message, needs_persist: bool) {
        self.outbox.push(Outgoing { to: to.clone(), lane, message, needs_persist });
    }

    fn name_of(&self, id: MemberId) -> Option<MemberName> {
        let f = self.formed.as_ref()?;
        let known = f.ledger.configuration().0.member(id).map(|m| m.name.clone());
        known.or_else(|| self.names.get(&id).cloned())
    }

    /// Tells every voter (or the one named) how ready this site is.
    fn tell_readiness(&mut self, only: Option<&MemberName>) {
        let Some(report) = self.readiness.clone() else { return };
        let Some(f) = &mut self.formed else { return };
        f.steward.readiness(self.settings.name.clone(), report.clone());
        let others: Vec<MemberName> = f
            .ledger
            .configuration()
            .0
            .voters
            .values()
            .map(|m| m.name.clone())
            .filter(|n| *n != self.settings.name && only.is_none_or(|o| o == n))
            .collect();
        for to in others {
            self.send(&to, Lane::Stream, Message::Readiness(report.clone()), false);
        }
    }

    // ----- the order of work -------------------------------------------------------------

    fn pump(&mut self, now: Now) {
        for _ in 0..MAX_ROUNDS {
            let mut busy = false;
            if self.formed.is_some() {
                busy |= self.run_ledger(now);
                busy |= self.apply_committed(now);
                if matches!(self.standing, Standing::Out(_)) {
                    self.run_holder(now); // it stops what runs
                }
                if self.standing == Standing::TakingPart {
                    self.run_promises(now);
                    self.run_reports(now);
                    busy |= self.run_steward(now);
                    busy |= self.run_holder(now);
                    busy |= self.run_admission(now);
                }
            }
            self.run_commands(now);
            self.flush();
            if !busy {
                break;
            }
        }
        #[cfg(debug_assertions)]
        self.invariants(now);
    }

    /// The leader hears this site's readiness again every T: a report may be lost on its way, and a
    /// leader may be new.
    fn run_reports(&mut self, now: Now) {
        let Some(f) = &self.formed else { return };
        if self.readiness.is_none() || now.voter < self.next_report {
            return;
        }
        self.next_report = now.voter + f.config_seen.timing.promise;
        let leader = self.leader.clone();
        if let Some(leader) = leader.filter(|l| *l != self.settings.name) {
            self.tell_readiness(Some(&leader));
        }
    }

    fn run_ledger(&mut self, now: Now) -> bool {
        let Some(f) = &mut self.formed else { return false };
        if self.standing == Standing::TakingPart
            && f.ledger.deadline().is_some_and(|d| d <= now.voter)
        {
            f.ledger.tick(now.voter);
        }
        let mut any = false;
        while let Some(effect) = self.formed.as_mut().and_then(|f| f.ledger.poll_effect()) {
            any = true;
            self.ledger_effect(now, effect);
        }
        self.note_configuration();
        any
    }

    fn ledger_effect(&mut self, now: Now, effect: LedgerEffect) {
        match effect {
            LedgerEffect::Persist(record) => {
                self.ledger_records += 1;
                self.records.push(Record::Ledger(record));
            }
            LedgerEffect::Send { to, message, needs_persist } => {
                if let Some(name) = self.name_of(to) {
                    self.send(&name, Lane::Stream, Message::Ledger(message), needs_persist);
                }
            }
            LedgerEffect::Commit { .. } => {}
            LedgerEffect::InstallSnapshot(snapshot) => self.install(now, &snapshot),
            LedgerEffect::Led { ballot } => {
                if let Some(f) = &mut self.formed {
                    f.led_from = Some(f.ledger.last_index());
                    f.steward.lead(now.voter, Some(ballot));
                }
                self.set_leader(Some(self.settings.name.clone()));
            }
            LedgerEffect::Followed { leader, .. } => {
                if let Some(f) = &mut self.formed
                    && f.led_from.take().is_some()
                {
                    f.steward.lead(now.voter, None);
                }
                let name = leader.and_then(|id| self.name_of(id));
                self.set_leader(name);
            }
            LedgerEffect::ReadReady { context, index } => self.read_ready(context, index),
            LedgerEffect::ReadFailed { context } => self.read_failed(context),
            LedgerEffect::Alarm(what) => self.alarm(Alarm::Ledger(what)),
        }
    }

    fn set_leader(&mut self, leader: Option<MemberName>) {
        if self.leader != leader {
            self.leader.clone_from(&leader);
            self.next_report = VoterTime::default();
            self.effects.push_back(Effect::Leader(leader));
        }
    }

    /// Follows the newest configuration in the log, committed or not (R8, R11, R12).
    fn note_configuration(&mut self) {
        let Some(f) = &mut self.formed else { return };
        let (newest, index) = f.ledger.configuration();
        if *newest == f.config_seen {
            return;
        }
        let wait = newest.timing.promise.max(f.config_seen.timing.promise);
        f.config_seen = newest.clone();
        if let Some(h) = &mut f.holder {
            h.configuration(index, newest.voter_ids(), newest.timing);
        }
        let promise = newest.timing.promise;
        f.ledger.set_change_wait(wait); // R11, by the larger T
        self.effects.push_back(Effect::Reconfigured);
        self.require_promise(promise);
    }

    fn install(&mut self, now: Now, snapshot: &Snapshot) {
        let Some(f) = &mut self.formed else { return };
        match Docket::from_bytes(&snapshot.state) {
            Ok(docket) => {
                f.docket = docket;
                f.snapshot_at = f.docket.applied();
                let promise = f.config_seen.timing.promise;
                f.promises.docket_replaced(now.voter, &f.docket, promise);
                if let Some(h) = &mut f.holder {
                    h.docket_changed(now.holder, &f.docket);
                }
                self.effects.push_back(Effect::DocketReplaced);
            }
            Err(e) => self.out(Alarm::Ledger(format!("the leader's snapshot is unreadable: {e}"))),
        }
    }

    fn apply_committed(&mut self, now: Now) -> bool {
        let mut any = false;
        loop {
            let Some(f) = &mut self.formed else { return any };
            let next = f.docket.applied().next();
            if next > f.ledger.commit() {
                break;
            }
            let Some(entry) = f.ledger.entry(next).cloned() else { break };
            let events = f.docket.apply(&entry);
            let promise = f.config_seen.timing.promise;
            for event in &events {
                match event {
                    Event::SessionOpened { session, .. } => {
                        f.promises.session_opened(now.voter, *session, promise);
                    }
                    Event::TakeBackBegun { ticket, term } => {
                        f.promises.take_back_begun(now.voter, *ticket, *term);
                    }
                    _ => {}
                }
            }
            any = true;
            self.after_entry(&entry, &events);
            self.effects.push_back(Effect::Decided {
                index: entry.index,
                wall_ms: entry.wall_ms,
                events,
            });
        }
        if any {
            if let Some(f) = &mut self.formed {
                if let Some(h) = &mut f.holder {
                    h.docket_changed(now.holder, &f.docket);
                }
                if f.docket.applied().0 - f.snapshot_at.0 >= limits::SNAPSHOT_EVERY_ENTRIES {
                    f.snapshot_at = f.docket.applied();
                    f.promises.prune(&f.docket);
                    f.ledger.compact(f.docket.applied(), f.docket.to_bytes());
                    self.checkpoint = true;
                }
            }
            self.check_membership();
        }
        any
    }

    fn after_entry(&mut self, entry: &crate::entry::Entry, events: &[Event]) {
        for event in events {
            if let Event::Granted { ticket, site, term, automatic: true, .. } = event {
                let name =
                    self.docket().and_then(|d| d.ticket(*ticket)).map(|t| t.name.to_string());
                self.effects.push_back(Effect::Alarm(Alarm::Moved {
                    ticket: name.unwrap_or_else(|| ticket.to_string()),
                    to: site.clone(),
                    term: *term,
                }));
            }
        }
        self.entry_applied(entry, events);
    }

    /// A member that the committed configuration does not contain takes no part.
    fn check_membership(&mut self) {
        let removed = self.formed.as_ref().is_some_and(|f| {
            f.docket.configuration().member(f.me).is_none() && f.config_seen.member(f.me).is_none()
        });
        if removed && self.standing == Standing::TakingPart {
            self.out(Alarm::Removed);
        }
    }

    fn run_promises(&mut self, now: Now) {
        let Some(f) = &mut self.formed else { return };
        let due = f.promises.due(now.voter, &f.docket);
        let new = due.iter().map(|(_, vote)| *vote).filter(|v| !f.own_durable.contains(&v.target));
        self.records.extend(new.map(Record::Fence));
        for (asked_by, vote) in due {
            if let Some(name) = self.name_of(asked_by) {
                let reply =
                    Message::FenceReply { target: vote.target, vote: Some(vote), wait: None };
                self.send(&name, Lane::Stream, reply, true);
            }
        }
    }

    fn run_steward(&mut self, now: Now) -> bool {
        let Some(f) = &mut self.formed else { return false };
        if !f.in_charge() {
            return false;
        }
        let voters = f.ledger.configuration().0.voter_ids();
        let mut steward = std::mem::take(&mut f.steward);
        steward.tick(&f.scene(now, &voters));
        let mut wishes = Vec::new();
        while let Some(w) = steward.poll() {
            wishes.push(w);
        }
        f.steward = steward;
        let mut busy = false;
        for wish in wishes {
            match wish {
                Wish::Ask { voter, target, device_proof } => {
                    if let Some(name) = self.name_of(voter) {
                        let ask = Message::FenceRequest { target, device_proof };
                        self.send(&name, Lane::Stream, ask, false);
                    }
                }
                Wish::VoteHere { target, device_proof } => {
                    if let Some(f) = &mut self.formed {
                        let vote = f.promises.fence(now.voter, target, device_proof, &f.docket);
                        self.records.push(Record::Fence(vote));
                    }
                }
                Wish::Decide(ops) => {
                    if let Some(f) = &mut self.formed
                        && let Ok(index) = f.ledger.propose(now.voter, now.wall_ms, ops)
                    {
                        f.steward.decided(index);
                        busy = true;
                    }
                }
            }
        }
        busy
    }

    fn run_holder(&mut self, now: Now) -> bool {
        let Some(f) = &mut self.formed else { return false };
        let Some(h) = &mut f.holder else { return false };
        h.tick(now.holder, &f.docket);
        let (mut requests, mut findings) = (Vec::new(), Vec::new());
        while let Some(order) = h.poll_order() {
            self.effects.push_back(Effect::Order(order));
        }
        while let Some(r) = h.poll_request() {
            requests.push(r);
        }
        while let Some(finding) = h.poll_finding() {
            findings.push(finding);
        }
        let distrusted = h.distrusted().map(ToOwned::to_owned);
        let busy = !requests.is_empty();
        for r in requests {
            self.holder_request(now, r);
        }
        for finding in findings {
            self.report_finding(&finding);
        }
        if let Some(why) = distrusted {
            self.alarm_once("own-clock", Alarm::OwnClock(why));
        }
        busy
    }

    fn holder_request(&mut self, now: Now, request: Request) {
        match request {
            Request::Renew(renew) => self.renew_everywhere(now, renew),
            Request::Open(supersedes) => {
                let (site, incarnation) = (self.settings.name.clone(), self.settings.boot);
                self.internal_command(now, Command::OpenSession { site, incarnation, supersedes });
            }
            Request::Close(session) => {
                self.internal_command(now, Command::CloseSession { session })
            }
            Request::Release(ticket, session, term) => {
                self.internal_command(now, Command::Released { ticket, session, term });
            }
        }
    }

    fn renew_everywhere(&mut self, now: Now, renew: Renew) {
        let Some(f) = &self.formed else { return };
        let me = f.me;
        let voters: Vec<(MemberId, MemberName)> =
            f.ledger.configuration().0.voters.iter().map(|(id, m)| (*id, m.name.clone())).collect();
        for (id, name) in voters {
            if id == me {
                let answer = self.answer(now, &name, renew);
                if let Some(h) = self.holder_mut() {
                    h.answered(now.holder, me, &answer);
                }
            } else {
                self.send(&name, Lane::Datagram, Message::Renew(renew), false);
            }
        }
    }

    fn report_finding(&mut self, finding: &Finding) {
        let Some(member) = self.name_of(finding.voter) else { return };
        self.alarm(Alarm::ClockBeyondBound {
            member,
            excess_us: finding.excess_us,
            over_ms: finding.over.as_millis() as u64,
        });
    }

    // ----- effects -----------------------------------------------------------------------

    fn alarm(&mut self, alarm: Alarm) {
        self.effects.push_back(Effect::Alarm(alarm));
    }

    fn alarm_once(&mut self, key: &str, alarm: Alarm) {
        if self.alarms_given.len() < 1_000 && self.alarms_given.insert(key.to_owned()) {
            self.alarm(alarm);
        }
    }

    /// Takes no part from here on; what depends on the tickets is stopped.
    fn out(&mut self, why: Alarm) {
        if self.standing != Standing::Out(why.clone()) {
            self.standing = Standing::Out(why.clone());
            if let Some(h) = self.holder_mut() {
                h.distrust(&why.to_string());
            }
            self.alarm(why);
            self.set_leader(None);
        }
    }

    /// Turns collected records and messages into effects: one write, then what may leave after it.
    fn flush(&mut self) {
        if self.checkpoint {
            self.checkpoint = false;
            self.flush_checkpoint();
        } else if !self.records.is_empty() {
            let records = std::mem::take(&mut self.records);
            let id = self.new_batch(&records);
            self.effects.push_back(Effect::Persist { id, records });
        }
        let Some((cluster, me)) = self.identity().or(Some((ClusterId::default(), MemberId(0))))
        else {
            return;
        };
        let pending = (self.last_persist > self.acked).then_some(self.last_persist);
        for o in std::mem::take(&mut self.outbox) {
            self.effects.push_back(Effect::Send {
                to: o.to,
                lane: o.lane,
                envelope: Envelope { cluster, from: me, message: o.message },
                after: if o.needs_persist { pending } else { None },
            });
        }
    }

    fn new_batch(&mut self, records: &[Record]) -> PersistId {
        self.last_persist = PersistId(self.last_persist.0 + 1);
        let fences = records.iter().filter_map(|r| match r {
            Record::Fence(v) => Some(v.target),
            _ => None,
        });
        let max_promise = records.iter().filter_map(|r| match r {
            Record::MaxPromise(p) => Some(*p),
            _ => None,
        });
        self.batches.push_back(Batch {
            id: self.last_persist,
            ledger_records: self.ledger_records,
            fences: fences.collect(),
            max_promise: max_promise.max(),
        });
        self.last_persist
    }

    /// Everything durable in one write, from which recovery begins.
    fn flush_checkpoint(&mut self) {
        let pending = std::mem::take(&mut self.records);
        let Some(f) = &self.formed else { return };
        let mut max_promise = f.promises.max_promise();
        for r in &pending {
            if let Record::MaxPromise(p) = r {
                max_promise = max_promise.max(*p);
            }
        }
        let mut records = vec![
            Record::Identity { cluster: f.cluster, me: f.me },
            Record::MaxPromise(max_promise),
        ];
        let seen = |(store, (opened, boot)): (&StoreId, &(u64, Incarnation))| Record::Seen {
            store: *store,
            opened: *opened,
            boot: *boot,
        };
        records.extend(self.seen.iter().map(seen));
        records.extend(f.promises.votes().map(Record::Fence));
        let durable = f.ledger.durable();
        records.extend(durable.snapshot.map(LedgerRecord::Snapshot).map(Record::Ledger));
        if !durable.entries.is_empty() {
            records.push(Record::Ledger(LedgerRecord::Entries(durable.entries)));
        }
        records.push(Record::Ledger(LedgerRecord::HardState(durable.hard)));
        let id = self.new_batch(&records);
        self.effects.push_back(Effect::Checkpoint { id, records });
    }

    /// Asserts what must hold between steps.
    ///
    /// # Panics
    /// When an invariant is broken.
    pub fn invariants(&self, now: Now) {
        if let Some(f) = &self.formed {
            f.ledger.invariants();
            f.docket.invariants();
            if let Some(h) = &f.holder
                && self.standing == Standing::TakingPart
            {
                h.invariants(now.holder, &f.docket);
            }
            assert!(f.docket.applied() <= f.ledger.commit(), "applied_is_committed (R7)");
        }
    }
}

impl Formed {
    fn in_charge(&self) -> bool {
        self.led_from.is_some_and(|i| self.docket.applied() >= i)
    }

    fn scene<'a>(&'a self, now: Now, voters: &'a BTreeSet<MemberId>) -> Scene<'a> {
        Scene {
            me: self.me,
            now: now.voter,
            wall_ms: now.wall_ms,
            voters,
            timing: &self.config_seen.timing,
            docket: &self.docket,
            promises: &self.promises,
            own_durable: &self.own_durable,
        }
    }
}
