//! One member's task: owns the core, feeds it, carries out what it asks.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tierce_link::{Identity, Link, LinkEvent, Name, PeerSpec, Role as LinkRole, SendError};
use tierce_store::{Completion, OwnedRecord, StoreKey, SubmitError, What, Writer};
use tierce_ticket::command::{Command, Outcome, Refusal, RefusalCode};
use tierce_ticket::configuration::Role;
use tierce_ticket::docket::Event;
use tierce_ticket::durable::Record;
use tierce_ticket::holder::{Able, Order};
use tierce_ticket::ids::{LogIndex, MemberName, PersistId, RequestId};
use tierce_ticket::member::{Alarm, Effect, Input, Member, Standing};
use tierce_ticket::message::{Envelope, Lane, Message};
use tierce_ticket::time::Now;
use tierce_wire::Version;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant as Timer, sleep_until};

use crate::clocks;
use crate::host::{PeerAddress, RECORD_KIND, peer_identity};
use crate::mark::Mark;

/// Writes of one member that may be under way; more means a disk that does not keep up.
pub(crate) const MAX_OUTSTANDING_WRITES: usize = 1_024;
/// Events that may wait for the process: two for each of 16,384 tickets, and room.
const EVENT_QUEUE: usize = 40_960;
/// Messages held back for a write.
const MAX_HELD_MESSAGES: usize = 8_192;
/// Without any deadline the task looks around this often.
const IDLE: Duration = Duration::from_hours(1);
/// The write that closes the store.
const CLOSE: u64 = u64::MAX;

/// What a member tells its process.
#[derive(Debug)]
pub enum MemberEvent {
    /// An order of the holder.
    Order(Order),
    /// An entry was applied.
    Decided {
        /// Its index.
        index: LogIndex,
        /// The leader's wall clock then.
        wall_ms: u64,
        /// What it did.
        events: Vec<Event>,
    },
    /// Somebody should look.
    Alarm(Alarm),
    /// Who leads.
    Leader(Option<MemberName>),
    /// Voters, addresses or lease times changed.
    Reconfigured,
    /// The docket was replaced by a snapshot.
    DocketReplaced,
    /// A peer is connected.
    PeerUp {
        /// Its name.
        name: MemberName,
        /// Round trip of the handshake.
        rtt: Duration,
    },
    /// A peer is gone.
    PeerDown {
        /// Its name.
        name: MemberName,
        /// Why.
        why: String,
    },
    /// The member has stopped for good (R6): go into the safe state and end the process.
    Fatal(String),
}

type Look = Box<dyn FnOnce(&Member, Now) + Send>;

/// What a member's task hears.
pub(crate) enum TaskInput {
    Link(LinkEvent),
    Core(Input),
    Command(Command, oneshot::Sender<Outcome>),
    Look(Look),
    Shutdown(oneshot::Sender<()>),
}

/// The member's queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the member's queue is full or it has ended; nothing was taken in; try again or look at its alarms"
)]
pub struct Busy;

/// Counters of one member.
#[derive(Debug, Default)]
pub struct Stats {
    messages_in: AtomicU64,
    messages_out: AtomicU64,
    malformed: AtomicU64,
    unsent: AtomicU64,
    renewals_answered: AtomicU64,
    persists: AtomicU64,
    persist_us: AtomicU64,
    steps: AtomicU64,
}

/// The counters as read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatsView {
    /// Messages taken in.
    pub messages_in: u64,
    /// Messages sent.
    pub messages_out: u64,
    /// Messages that were none.
    pub malformed: u64,
    /// Messages that could not be sent.
    pub unsent: u64,
    /// Renewals of others that were answered.
    pub renewals_answered: u64,
    /// Journal writes.
    pub persists: u64,
    /// Smoothed time of a journal write, microseconds.
    pub persist_us: u64,
    /// Steps of the core.
    pub steps: u64,
}

impl Stats {
    fn bump(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// The counters now.
    pub fn view(&self) -> StatsView {
        let read = |c: &AtomicU64| c.load(Ordering::Relaxed);
        StatsView {
            messages_in: read(&self.messages_in),
            messages_out: read(&self.messages_out),
            malformed: read(&self.malformed),
            unsent: read(&self.unsent),
            renewals_answered: read(&self.renewals_answered),
            persists: read(&self.persists),
            persist_us: read(&self.persist_us),
            steps: read(&self.steps),
        }
    }
}

/// Talks to a member. Clones talk to the same.
#[derive(Clone, Debug)]
pub struct MemberHandle {
    input: mpsc::Sender<TaskInput>,
    stats: Arc<Stats>,
}

impl std::fmt::Debug for TaskInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            TaskInput::Link(_) => "Link",
            TaskInput::Core(_) => "Core",
            TaskInput::Command(..) => "Command",
            TaskInput::Look(_) => "Look",
            TaskInput::Shutdown(_) => "Shutdown",
        })
    }
}

impl MemberHandle {
    pub(crate) fn new(input: mpsc::Sender<TaskInput>, stats: Arc<Stats>) -> Self {
        Self { input, stats }
    }

    /// Gives a command and waits for its outcome (bounded by the protocol).
    pub async fn command(&self, command: Command) -> Outcome {
        let ended = || Outcome::Unknown { why: "the member has ended".to_owned() };
        let (reply, outcome) = oneshot::channel();
        if self.input.send(TaskInput::Command(command, reply)).await.is_err() {
            return Outcome::Refused(Refusal {
                code: RefusalCode::NoQuorum,
                what: "the member has ended".to_owned(),
                next: "look at its log".to_owned(),
            });
        }
        outcome.await.unwrap_or_else(|_| ended())
    }

    /// Looks at the member; `None` when it has ended. Do not call it from where the member's events
    /// are taken without spawning: the member never waits, but this does.
    pub async fn read<R: Send + 'static>(
        &self,
        look: impl FnOnce(&Member, Now) -> R + Send + 'static,
    ) -> Option<R> {
        let (reply, result) = oneshot::channel();
        let look: Look = Box::new(move |member, now| {
            let _ = reply.send(look(member, now));
        });
        self.input.send(TaskInput::Look(look)).await.ok()?;
        result.await.ok()
    }

    /// Gives an input without waiting.
    pub fn input(&self, input: Input) -> Result<(), Busy> {
        self.input.try_send(TaskInput::Core(input)).map_err(|_| Busy)
    }

    /// The counters.
    pub fn stats(&self) -> StatsView {
        self.stats.view()
    }

    /// Ends the member's task after its last write; leases run out by themselves.
    pub async fn shutdown(&self) {
        let (done, ended) = oneshot::channel();
        if self.input.send(TaskInput::Shutdown(done)).await.is_ok() {
            let _ = ended.await;
        }
    }
}

/// A write that found no room in the journal's queue.
struct Unsubmitted {
    id: u64,
    checkpoint: bool,
    records: Vec<OwnedRecord>,
}

pub(crate) struct Task {
    member: Member,
    identity: Identity,
    link: Link,
    writer: Arc<Writer>,
    key: StoreKey,
    mark: Option<Mark>,
    events: mpsc::Sender<MemberEvent>,
    stats: Arc<Stats>,
    versions: BTreeMap<MemberName, Version>,
    dialled: BTreeMap<MemberName, Vec<String>>,
    requests: HashMap<RequestId, oneshot::Sender<Outcome>>,
    next_request: RequestId,
    acked: PersistId,
    submitted: VecDeque<(u64, Instant)>,
    unsubmitted: VecDeque<Unsubmitted>,
    held: VecDeque<(PersistId, MemberName, Lane, Envelope)>,
    pulse_out: bool,
    next_pulse: Option<Timer>,
    fatal: Option<String>,
}

impl Task {
    pub(crate) fn new(
        member: Member,
        identity: Identity,
        link: Link,
        (writer, key, mark): (Arc<Writer>, StoreKey, Option<Mark>),
        peers: &[PeerAddress],
    ) -> (Self, mpsc::Receiver<MemberEvent>, Arc<Stats>) {
        let (events, receiver) = mpsc::channel(EVENT_QUEUE);
        let stats = Arc::new(Stats::default());
        let site = identity.role == LinkRole::Site;
        let mut task = Self {
            member,
            identity,
            link,
            writer,
            key,
            mark,
            events,
            stats: stats.clone(),
            versions: BTreeMap::new(),
            dialled: BTreeMap::new(),
            requests: HashMap::new(),
            next_request: RequestId(1),
            acked: PersistId(0),
            submitted: VecDeque::new(),
            unsubmitted: VecDeque::new(),
            held: VecDeque::new(),
            pulse_out: false,
            next_pulse: site.then(Timer::now),
            fatal: None,
        };
        for p in peers {
            task.dial(&p.name, p.role, &p.addresses);
        }
        (task, receiver, stats)
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(crate) async fn run(
        mut self,
        mut inputs: mpsc::Receiver<TaskInput>,
        mut completions: mpsc::Receiver<Completion>,
    ) {
        self.carry_out();
        let mut ending: Option<oneshot::Sender<()>> = None;
        loop {
            if let Some(why) = self.fatal.take() {
                tracing::error!(tenant = %self.identity.tenant, "the member stops (R6): {why}");
                let _ = self.events.try_send(MemberEvent::Fatal(why));
                // The store's lock is given up, so that a tenant can be started again.
                let _ = self.writer.submit_close(self.key, CLOSE);
                break;
            }
            let now = clocks::now();
            let wait = self.member.poll_deadline(now).after(now).unwrap_or(IDLE).min(IDLE);
            let mut wake = Timer::now() + wait;
            if let Some(pulse) = self.next_pulse {
                wake = wake.min(pulse);
            }
            tokio::select! {
                biased;
                done = completions.recv() => match done {
                    Some(c) if c.what == What::Close => break,
                    Some(c) => self.completed(c),
                    None => break,
                },
                input = inputs.recv(), if ending.is_none() => match input {
                    Some(TaskInput::Shutdown(done)) => {
                        ending = Some(done);
                        if self.writer.submit_close(self.key, CLOSE).is_err() {
                            break;
                        }
                        continue;
                    }
                    Some(input) => self.input(input),
                    None => break,
                },
                () = sleep_until(wake) => self.step(Input::Tick),
            }
            self.pulse();
            self.carry_out();
        }
        drop(ending);
    }

    fn step(&mut self, input: Input) {
        Stats::bump(&self.stats.steps);
        self.member.step(clocks::now(), input);
        self.note();
    }

    /// Notes how far the store has come, before anything leaves that says so. One that nobody has
    /// confirmed yet may be an older copy: what is written to it proves nothing.
    fn note(&mut self) {
        let Some(mark) = &mut self.mark else { return };
        if *self.member.standing() != Standing::TakingPart {
            return;
        }
        if let Err(e) = mark.note(self.member.durable_records()) {
            tracing::warn!("how far the store has come is noted no more: {e}");
            self.mark = None;
        }
    }

    // ----- in ----------------------------------------------------------------------------

    fn input(&mut self, input: TaskInput) {
        match input {
            TaskInput::Link(event) => self.link_event(event),
            TaskInput::Core(input) => self.step(input),
            TaskInput::Command(command, reply) => {
                let request = self.next_request;
                self.next_request = RequestId(request.0 + 1);
                self.requests.insert(request, reply);
                self.step(Input::Command { request, command });
            }
            TaskInput::Look(look) => look(&self.member, clocks::now()),
            TaskInput::Shutdown(_) => {}
        }
    }

    fn link_event(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Up { peer, rtt, alpn, .. } => {
                let (Some(name), Some(version)) = (name_of(&peer), Version::from_alpn(&alpn))
                else {
                    return;
                };
                self.versions.insert(name.clone(), version);
                tracing::info!(peer = %name, ?rtt, ?version, "connected");
                self.tell(MemberEvent::PeerUp { name: name.clone(), rtt });
                self.step(Input::PeerUp(name));
            }
            LinkEvent::Down { peer, reason, .. } => {
                let Some(name) = name_of(&peer) else { return };
                self.versions.remove(&name);
                let why = reason.as_str().to_owned();
                tracing::info!(peer = %name, why, "connection lost");
                self.tell(MemberEvent::PeerDown { name: name.clone(), why });
                self.step(Input::PeerDown(name));
            }
            LinkEvent::Datagram { peer, bytes } | LinkEvent::Frame { peer, bytes } => {
                self.message(&peer, &bytes);
            }
            LinkEvent::Refused { .. } => {}
        }
    }

    fn message(&mut self, peer: &Identity, bytes: &Bytes) {
        let Some(from) = name_of(peer) else { return };
        let decoded = match tierce_wire::decode(bytes) {
            Ok(d) => d,
            Err(e) => {
                Stats::bump(&self.stats.malformed);
                tracing::warn!(peer = %from, "{e}");
                return;
            }
        };
        tierce_trace::hlc_observe_from(decoded.hlc, from.as_str());
        Stats::bump(&self.stats.messages_in);
        if let Message::Hello(h) = &decoded.envelope.message {
            let certified = match peer.role {
                LinkRole::Site => Role::Site,
                LinkRole::Arbitrator => Role::Arbitrator,
            };
            if h.role != certified {
                tracing::warn!(peer = %from, "says it is a {}, its certificate says {certified}", h.role);
                return;
            }
        }
        if matches!(decoded.envelope.message, Message::Renew(_)) {
            Stats::bump(&self.stats.renewals_answered);
        }
        self.step(Input::Received { from, envelope: decoded.envelope });
    }

    fn completed(&mut self, done: Completion) {
        let last = match done.result {
            Ok(last) => last.0,
            Err(e) => {
                self.fatal = Some(format!("{e}; {}; next: {}", e.effect(), e.next_step()));
                return;
            }
        };
        self.step(Input::Able(Able::Journal));
        if done.what == What::Pulse {
            self.pulse_out = false;
        } else {
            self.acknowledge(done.batch_id, last);
        }
    }

    fn acknowledge(&mut self, id: u64, last: u64) {
        while let Some((first, at)) = self.submitted.front().copied() {
            if first > id {
                break;
            }
            self.submitted.pop_front();
            Stats::bump(&self.stats.persists);
            let us = u64::try_from(at.elapsed().as_micros()).unwrap_or(u64::MAX);
            let old = self.stats.persist_us.load(Ordering::Relaxed);
            let smooth = if old == 0 { us } else { (old * 7 + us) / 8 };
            self.stats.persist_us.store(smooth, Ordering::Relaxed);
        }
        self.acked = PersistId(id);
        self.step(Input::Persisted(PersistId(id)));
        if self.member.durable_records() != last {
            let counted = self.member.durable_records();
            self.fatal = Some(format!("the journal is at record {last}, its member at {counted}"));
            return;
        }
        while let Some((after, ..)) = self.held.front() {
            if *after > self.acked {
                break;
            }
            if let Some((_, to, lane, envelope)) = self.held.pop_front() {
                self.send(&to, lane, &envelope);
            }
        }
        self.submit_waiting();
    }

    /// R15: proves every renewal period that the disk takes durable writes.
    fn pulse(&mut self) {
        let Some(due) = self.next_pulse else { return };
        if Timer::now() < due {
            return;
        }
        let configuration = self.member.ledger().map(|l| l.configuration().0.timing.renew_every);
        let every = configuration.unwrap_or(Duration::from_secs(1));
        self.next_pulse = Some(Timer::now() + every);
        if !self.pulse_out {
            match self.writer.submit_pulse(self.key, 0) {
                Ok(()) => self.pulse_out = true,
                Err(e) => tracing::warn!("{e}"),
            }
        }
    }

    // ----- out ---------------------------------------------------------------------------

    fn carry_out(&mut self) {
        while let Some(effect) = self.member.poll_effect() {
            match effect {
                Effect::Persist { id, records } => self.persist(id, false, &records),
                Effect::Checkpoint { id, records } => self.persist(id, true, &records),
                Effect::Send { to, lane, envelope, after } => match after {
                    Some(after) if after > self.acked => {
                        if self.held.len() < MAX_HELD_MESSAGES {
                            self.held.push_back((after, to, lane, envelope));
                        }
                    }
                    _ => self.send(&to, lane, &envelope),
                },
                Effect::Order(order) => self.tell(MemberEvent::Order(order)),
                Effect::Outcome { request, outcome } => {
                    if let Some(reply) = self.requests.remove(&request) {
                        let _ = reply.send(outcome);
                    }
                }
                Effect::Decided { index, wall_ms, events } => {
                    self.tell(MemberEvent::Decided { index, wall_ms, events });
                }
                Effect::DocketReplaced => self.tell(MemberEvent::DocketReplaced),
                Effect::Reconfigured => {
                    self.dial_members();
                    self.tell(MemberEvent::Reconfigured);
                }
                Effect::Leader(leader) => {
                    tracing::info!(leader = ?leader, "leader");
                    self.tell(MemberEvent::Leader(leader));
                }
                Effect::Alarm(alarm) => {
                    tracing::warn!("{alarm}");
                    self.tell(MemberEvent::Alarm(alarm));
                }
            }
        }
    }

    fn tell(&mut self, event: MemberEvent) {
        let order = matches!(event, MemberEvent::Order(_));
        if self.events.try_send(event).is_err() && order {
            self.fatal = Some("the process does not take its orders".to_owned());
        }
    }

    fn persist(&mut self, id: PersistId, checkpoint: bool, records: &[Record]) {
        let encode = |r: &Record| {
            let payload = postcard::to_stdvec(r).map_err(|e| e.to_string())?;
            Ok::<_, String>(OwnedRecord { kind: RECORD_KIND, payload })
        };
        match records.iter().map(encode).collect::<Result<Vec<_>, _>>() {
            Ok(records) => {
                self.unsubmitted.push_back(Unsubmitted { id: id.0, checkpoint, records });
                self.submit_waiting();
            }
            Err(e) => self.fatal = Some(format!("a record cannot be encoded: {e}")),
        }
    }

    fn submit_waiting(&mut self) {
        while let Some(w) = self.unsubmitted.pop_front() {
            let Unsubmitted { id, checkpoint, records } = w;
            let result = if self.submitted.len() >= MAX_OUTSTANDING_WRITES {
                Err(SubmitError::QueueFull(records))
            } else if checkpoint {
                self.writer.submit_checkpoint(self.key, id, records)
            } else {
                self.writer.submit(self.key, id, records)
            };
            match result {
                Ok(()) => self.submitted.push_back((id, Instant::now())),
                Err(SubmitError::QueueFull(records)) => {
                    self.unsubmitted.push_front(Unsubmitted { id, checkpoint, records });
                    if self.unsubmitted.len() > MAX_OUTSTANDING_WRITES {
                        self.fatal = Some("the disk does not keep up with the journal".to_owned());
                    }
                    return;
                }
                Err(e @ SubmitError::Stopped(_)) => {
                    self.fatal = Some(e.to_string());
                    return;
                }
            }
        }
    }

    fn send(&mut self, to: &MemberName, lane: Lane, envelope: &Envelope) {
        let (Some(version), Ok(name)) = (self.versions.get(to), Name::new(to.as_str())) else {
            return; // not connected: the protocol sends again
        };
        let bytes = match tierce_wire::encode(*version, tierce_trace::hlc_now(), envelope) {
            Ok(bytes) => Bytes::from(bytes),
            Err(e) => return tracing::error!(peer = %to, "{e}"),
        };
        let tenant = &self.identity.tenant;
        let sent = match lane {
            Lane::Datagram => match self.link.send_datagram(tenant, &name, bytes.clone()) {
                // An answer that names very many tickets may not fit: the stream takes it.
                Err(SendError::TooLarge { .. }) => self.link.send_frame(tenant, &name, bytes),
                other => other,
            },
            Lane::Stream => self.link.send_frame(tenant, &name, bytes),
        };
        Stats::bump(if sent.is_ok() { &self.stats.messages_out } else { &self.stats.unsent });
    }

    // ----- dialling ----------------------------------------------------------------------

    /// Dials whom the newest configuration names. Arbitrators dial nobody.
    fn dial_members(&mut self) {
        let Some(ledger) = self.member.ledger() else { return };
        let members: Vec<(MemberName, Role, Vec<String>)> = ledger
            .configuration()
            .0
            .members()
            .map(|(_, m)| (m.name.clone(), m.role, m.addresses.clone()))
            .collect();
        for (name, role, addresses) in members {
            self.dial(&name, role, &addresses);
        }
    }

    fn dial(&mut self, name: &MemberName, role: Role, addresses: &[String]) {
        let ourselves = name.as_str() == self.identity.name.as_str();
        if self.identity.role == LinkRole::Arbitrator || ourselves || addresses.is_empty() {
            return;
        }
        if self.dialled.get(name).is_some_and(|known| known == addresses) {
            return;
        }
        let Some(identity) = peer_identity(&self.identity.tenant, role, name) else { return };
        match self.link.add_peer(PeerSpec { identity, addresses: addresses.to_vec() }) {
            Ok(()) => {
                self.dialled.insert(name.clone(), addresses.to_vec());
            }
            Err(e) => tracing::error!(peer = %name, "{e}"),
        }
    }
}

fn name_of(peer: &Identity) -> Option<MemberName> {
    peer.name.as_str().parse().ok()
}
