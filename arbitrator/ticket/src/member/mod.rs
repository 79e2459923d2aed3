//! One member of one cluster: ledger, promises, docket, steward and holder put together.
//!
//! Inputs come in with the clocks as read by the driver; effects go out in order. The driver's duty:
//! carry out `Persist` and `Checkpoint` in order and report them with `Persisted`; let no `Send`
//! leave whose `after` is not yet reported; stop the process when a persist fails (R6).
//!
//! Where to look: this file has the state and what comes in and goes out; `work.rs` the order of work
//! in a step; `join.rs` how a member finds its place (founding, admission); `stores.rs` older copies of
//! stores; `commands.rs` what operators and agents ask.

mod alarm;
mod bring_up;
mod commands;
mod flush;
mod join;
mod operations;
mod receive;
mod stores;
mod work;

pub use self::alarm::Alarm;
use self::stores::Stores;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::command::{Command, Outcome};
use crate::configuration::{Configuration, Role};
use crate::docket::{Docket, Event};
use crate::durable::{Age, Durable, Inconsistent, Record};
use crate::entry::{FenceTarget, Payload};
use crate::holder::{Able, Holder, Order};
use crate::ids::{
    ClusterId, ConfigIndex, Incarnation, LogIndex, MemberId, MemberName, PersistId, RequestId,
    SessionId, StoreId, Term, TicketId,
};
use crate::ledger::{Ledger, LedgerSettings};
use crate::message::{Envelope, Hello, Lane, Message, Readiness};
use crate::promise::Promises;
use crate::steward::{Scene, Steward};
use crate::time::{Now, VoterTime, Wake, earlier};
use crate::timing::Timing;

/// A member that the founder expects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedMember {
    /// Its name.
    pub name: MemberName,
    /// Its role.
    pub role: Role,
    /// Where it is reached.
    pub addresses: Vec<String>,
}

/// How the cluster begins, from the sites' files, which must agree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundingPlan {
    /// All members.
    pub members: Vec<PlannedMember>,
    /// Lease times.
    pub timing: Timing,
}

/// What a member is told of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberSettings {
    /// Its name, as in its certificate.
    pub name: MemberName,
    /// Its role.
    pub role: Role,
    /// Its store.
    pub store: StoreId,
    /// How far that store has come, this opening included.
    pub age: Age,
    /// Whether this machine itself knows that nothing written is missing from the store: a mark
    /// outside of it has survived since the process before (R5).
    pub continued: bool,
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// The configuration file was read again: its digest, for comparison with the peers'.
    Digest([u8; 16]),
    /// Give up all tickets and close the session.
    Leave,
}

/// What the driver has to do.
#[allow(clippy::large_enum_variant)] // few are alive at a time, and all pass through once
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

/// Whether this member takes part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has no cluster yet.
    Unformed,
    /// It has one and waits until peers confirm that its store is no older copy (R5).
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
    config_index: ConfigIndex,
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
    /// Records in all when it is durable, and how many of them may be told.
    records: u64,
    written: u64,
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
    stores: Stores,
    commands: commands::Pending,
    /// The state that an admitted store is being given.
    arriving: Option<bring_up::Arriving>,
    readiness: Option<Readiness>,
    records: Vec<Record>,
    checkpoint: bool,
    outbox: Vec<Outgoing>,
    effects: VecDeque<Effect>,
    /// What entries did, for people; behind the orders that follow from it.
    news: Vec<Effect>,
    batches: VecDeque<Batch>,
    ledger_records: u64,
    last_persist: PersistId,
    acked: PersistId,
    /// Records handed to the disk in all, and how many of them are durable.
    writing: u64,
    durable: u64,
    /// How many of each the others are told of (`flush`).
    telling: u64,
    written: u64,
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
            stores: Stores::new(&durable, now.voter),
            commands: commands::Pending::default(),
            arriving: None,
            readiness: None,
            records: Vec::new(),
            checkpoint: false,
            outbox: Vec::new(),
            effects: VecDeque::new(),
            news: Vec::new(),
            batches: VecDeque::new(),
            ledger_records: 0,
            last_persist: PersistId(0),
            acked: PersistId(0),
            writing: settings.age.written,
            durable: settings.age.written,
            telling: settings.age.written,
            written: settings.age.written,
            leader: None,
            alarms_given: BTreeSet::new(),
            wall_ms: now.wall_ms,
            leaving: false,
            next_report: now.voter,
            settings,
        };
        let found_out = durable.seen.get(&member.settings.store).map(|(age, _)| *age);
        if durable.identity.is_some() {
            member.form(durable, now)?;
            let alone = member
                .formed
                .as_ref()
                .is_some_and(|f| f.ledger.configuration().0.voters.len() == 1);
            member.standing = if alone { Standing::TakingPart } else { Standing::Confirming };
            if let Some(seen) = found_out {
                let (own, by) = (member.settings.age, member.settings.name.clone());
                member.out(Alarm::OlderStore { own, seen, by });
            }
            member.pump(now);
        }
        Ok(member)
    }

    // ----- what others may look at -------------------------------------------------------

    /// Its settings.
    pub fn settings(&self) -> &MemberSettings {
        &self.settings
    }
    /// Records in its store that are known to be durable, all that were ever written counted.
    pub fn durable_records(&self) -> u64 {
        self.durable
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
            Input::Tick => {
                self.confirm(now);
                if self.stores.note_at.is_some_and(|at| at <= now.voter) {
                    self.note_sightings();
                }
            }
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
            Input::Digest(digest) => self.file_changed(now, digest),
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
        let mut wake = Wake { voter: self.commands.deadline(now.voter), holder: None };
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
        wake.voter = earlier(wake.voter, self.stores.note_at);
        if self.standing == Standing::Confirming {
            wake.voter = earlier(wake.voter, self.stores.enough_from());
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
                Some(Payload::Configuration(c)) => Docket::new((**c).clone()),
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
            config_index: index,
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
            // Two thirds of the shortest silence of a site. A heartbeat costs an arbitrator as much
            // as a renewal, and nothing of a takeover waits for one.
            heartbeat: timing.election / 3,
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
            (self.durable, self.written) = (b.records, b.written);
            if let Some(f) = &mut self.formed {
                f.ledger.persisted(now.voter, b.ledger_records);
                f.own_durable.extend(b.fences);
                if let Some(p) = b.max_promise {
                    f.promises.max_promise_durable(p);
                }
            }
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
