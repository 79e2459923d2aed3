//! The world: nodes, their network, and the order of events.

use std::collections::{BTreeMap, BinaryHeap};
use std::fmt::Write as _;

use tierce_ticket::configuration::Role;
use tierce_ticket::durable::Record;
use tierce_ticket::holder::{Able, Holder};
use tierce_ticket::ids::{MemberName, PersistId, RequestId, StoreId, Term, TicketId};
use tierce_ticket::ledger::Ledger;
use tierce_ticket::member::{Effect, Input, Member, Standing};
use tierce_ticket::message::{Envelope, Lane, Message, Readiness};
use tierce_ticket::planted::{Bug, is_planted};
use tierce_ticket::replay::{Event, What as Happened, fingerprint};
use tierce_ticket::time::{HolderTime, Now, VoterTime};
use tierce_ticket::timing::{Profile, Timing};

use crate::MS;
use crate::clock::Clock;
use crate::disk::Health;
use crate::history::History;
use crate::lots::Lots;
use crate::node::Node;
use crate::said::{Said, order_is_granted};
use crate::story::name;
use crate::weather::Weather;

/// Steps of members in one virtual second: the busiest second of a healthy cluster has some
/// hundreds. Far more is a storm of messages or timers.
const STORM: u64 = 50_000;

/// Something that happens.
#[derive(Debug)]
pub(crate) enum What {
    Deliver { from: usize, to: usize, link: u64, bytes: Vec<u8> },
    Persisted { node: usize, life: u64, id: PersistId },
    Wake { node: usize, token: u64 },
    Alive { node: usize, life: u64 },
    StopDone { node: usize, life: u64, ticket: TicketId, term: Term },
    Guard { node: usize },
}

#[derive(Debug)]
struct Due {
    at: u64,
    seq: u64,
    what: What,
}
impl PartialEq for Due {
    fn eq(&self, o: &Self) -> bool {
        (self.at, self.seq) == (o.at, o.seq)
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, o: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(o))
    }
}
impl Ord for Due {
    fn cmp(&self, o: &Self) -> std::cmp::Ordering {
        (o.at, o.seq).cmp(&(self.at, self.seq)) // earliest first out of a max-heap
    }
}

/// Writes a line of the log, when there is one; costs nothing otherwise.
macro_rules! note {
    ($world:expr, $($line:tt)*) => {
        if $world.logging {
            let line = format!($($line)*);
            $world.write(&line);
        }
    };
}
pub(crate) use note;

/// The world.
#[derive(Debug)]
pub struct World {
    /// Real time, nanoseconds.
    pub now: u64,
    /// Sites first (a, b, …), then arbitrators (y, z, x).
    pub nodes: Vec<Node>,
    /// Chance.
    pub lots: Lots,
    /// Lease times at the founding.
    pub timing: Timing,
    /// How late timers wake at most, nanoseconds.
    pub lateness: u64,
    /// The network.
    pub weather: Weather,
    /// What clients were told.
    pub history: History,
    /// What voters have said.
    pub said: Said,
    /// Newest term of each ticket.
    pub granted: BTreeMap<TicketId, Term>,
    /// What happened to members, for `tierce trace replay`; kept when there is a list.
    pub events: Option<Vec<Event>>,
    /// Whether lines are kept.
    pub logging: bool,
    /// One line for each transition.
    pub log: String,
    /// Steps of members so far.
    pub steps: u64,
    queue: BinaryHeap<Due>,
    seq: u64,
    /// Counts re-connections; frames of an older connection are lost.
    pub(crate) link: u64,
    pub(crate) next_request: u64,
    /// Newest term that each life of a node has seen.
    pub(crate) terms: BTreeMap<(usize, u64, TicketId), Term>,
    /// Where each term was granted to.
    pub(crate) homes: BTreeMap<(TicketId, Term), MemberName>,
    /// Steps in the present virtual second, and which that is.
    second: (u64, u64),
}

impl World {
    /// `sites` sites (a, b, …) and `arbitrators` arbitrators (y, z), near each other; clocks at
    /// random within ρ.
    pub fn new(seed: u64, sites: usize, arbitrators: usize) -> Self {
        let fair = Weather::fair((1, 3));
        let mut world = Self::build(seed, sites, arbitrators, Profile::MetroFast.timing(), fair);
        world.logging = true;
        world.start_all();
        world
    }

    /// A world in which nobody has been started yet.
    pub fn build(
        seed: u64,
        sites: usize,
        arbitrators: usize,
        timing: Timing,
        weather: Weather,
    ) -> Self {
        let mut lots = Lots(seed);
        let mut nodes = Vec::new();
        for i in 0..sites + arbitrators {
            let role = if i < sites { Role::Site } else { Role::Arbitrator };
            let letter = if i < sites { b'a' + i as u8 } else { b"yzx"[i - sites] };
            let rate = match lots.below(3) {
                0 => 1_000_000 - u64::from(timing.rho_ppm),
                1 => 1_000_000 + u64::from(timing.rho_ppm),
                _ => 1_000_000,
            };
            let clock = Clock::new(rate, lots.below(1_000_000) * MS);
            let own = name(&(letter as char).to_string());
            nodes.push(Node::new(own, role, clock, StoreId([i as u8 + 1; 16])));
        }
        Self {
            now: 1_000 * MS,
            nodes,
            lots,
            timing,
            lateness: 3 * MS,
            weather,
            history: History::default(),
            said: Said::default(),
            granted: BTreeMap::new(),
            events: None,
            logging: false,
            log: String::new(),
            steps: 0,
            queue: BinaryHeap::new(),
            seq: 0,
            link: 0,
            next_request: 1,
            terms: BTreeMap::new(),
            homes: BTreeMap::new(),
            second: (0, 0),
        }
    }

    /// Starts every node.
    pub fn start_all(&mut self) {
        for i in 0..self.nodes.len() {
            self.start(i);
        }
    }

    /// The node of this name.
    pub fn index(&self, who: &str) -> usize {
        self.nodes.iter().position(|n| n.name.as_str() == who).expect("a node of this name")
    }

    /// What the clocks of node `i` show.
    pub fn clock(&self, i: usize) -> Now {
        let ns = self.nodes[i].clock.at(self.now);
        Now {
            voter: VoterTime::from_nanos(ns),
            holder: HolderTime::from_nanos(ns),
            wall_ms: self.now / MS,
        }
    }

    pub(crate) fn push(&mut self, at: u64, what: What) {
        self.seq += 1;
        let at = at.max(self.now);
        self.queue.push(Due { at, seq: self.seq, what });
    }

    pub(crate) fn write(&mut self, line: &str) {
        let _ = writeln!(self.log, "{:>10.3} {line}", self.now as f64 / 1e9);
    }

    // ----- steps -------------------------------------------------------------------------

    /// One input to the member of node `i`, and all that follows from it at once.
    pub fn step(&mut self, i: usize, input: Input) {
        let clock = self.clock(i);
        let Some(m) = &mut self.nodes[i].member else { return };
        self.steps += 1;
        let second = self.now / (1_000 * MS);
        self.second =
            if self.second.0 == second { (second, self.second.1 + 1) } else { (second, 1) };
        assert!(
            self.second.1 < STORM,
            "a storm of messages or timers: {clock:?} {:?} {:?} {:?}",
            m.poll_deadline(clock),
            m.ledger().and_then(Ledger::deadline),
            m.holder().and_then(Holder::deadline),
        );
        let event = self.events.as_ref().map(|_| Happened::Input(input.clone()));
        m.step(clock, input);
        self.happened(i, clock, event);
        let Some(m) = &self.nodes[i].member else { return };
        m.invariants(clock);
        self.after_step(i);
    }

    /// Records what has just happened to node `i`, with the effects that wait to be carried out.
    pub(crate) fn happened(&mut self, i: usize, now: Now, what: Option<Happened>) {
        let (Some(events), Some(what)) = (&mut self.events, what) else { return };
        let n = &mut self.nodes[i];
        let new = n.member.as_mut().map(|m| std::iter::from_fn(|| m.poll_effect()).collect());
        let new: Vec<Effect> = new.unwrap_or_default();
        let effects = fingerprint(&new);
        n.effects.extend(new);
        events.push(Event { at_ns: self.now, member: n.name.clone(), now, what, effects });
    }

    fn deliver(&mut self, from: usize, to: usize, envelope: Envelope) {
        let from = self.nodes[from].name.clone();
        if let Message::Hello(h) = &envelope.message {
            note!(
                self,
                "{:<6} hello from {from} {:?} {} written {}",
                self.nodes[to].name,
                h.reply,
                h.opened,
                envelope.age.written
            );
        }
        self.step(to, Input::Received { from, envelope });
    }

    pub(crate) fn deliver_late(&mut self, from: usize, to: usize, link: u64, envelope: Envelope) {
        if link == self.link || self.lots.percent(50) {
            self.deliver(from, to, envelope);
        }
    }

    pub(crate) fn after_step(&mut self, i: usize) {
        while let Some(effect) = self.next_effect(i) {
            self.carry_out(i, effect);
        }
        self.tell_ready(i);
        let clock = self.clock(i);
        let n = &mut self.nodes[i];
        if let Some(m) = n.member.as_ref().filter(|m| *m.standing() == Standing::TakingPart) {
            n.disk.mark = Some(m.durable_records());
        }
        if let Some(m) = &self.nodes[i].member {
            let wake = m.poll_deadline(clock);
            let v = wake.voter.map(VoterTime::as_nanos);
            let h = wake.holder.map(HolderTime::as_nanos);
            if let Some(at) = v.into_iter().chain(h).min() {
                // A timer only wakes, and late.
                let late = self.lots.below(self.lateness) + 1;
                let at = self.nodes[i].clock.when(at) + late;
                self.nodes[i].timer += 1;
                let token = self.nodes[i].timer;
                self.push(at, What::Wake { node: i, token });
            }
        }
        self.check_exclusive();
    }

    fn next_effect(&mut self, i: usize) -> Option<Effect> {
        let n = &mut self.nodes[i];
        let waiting = n.effects.pop_front();
        waiting.or_else(|| n.member.as_mut().and_then(Member::poll_effect))
    }

    fn tell_ready(&mut self, i: usize) {
        let n = &mut self.nodes[i];
        let session = n.member.as_ref().and_then(Member::holder).and_then(Holder::session);
        if session.is_some() && session != n.told_ready && !n.silent {
            n.told_ready = session;
            let not_ready = (!n.ready).then(|| "the test says so".to_owned());
            let report =
                Readiness { session: session.unwrap_or_default(), not_ready, tickets: vec![] };
            self.step(i, Input::Readiness(report));
        }
    }

    fn carry_out(&mut self, i: usize, effect: Effect) {
        let life = self.nodes[i].life;
        match effect {
            Effect::Persist { id, records } => self.persist(i, id, records, false),
            Effect::Checkpoint { id, records } => self.persist(i, id, records, true),
            Effect::Send { to, lane, envelope, after } => {
                let to = self.index(to.as_str());
                match after {
                    Some(a) if a > self.nodes[i].disk.acked => {
                        self.nodes[i].held.push((a, to, lane, envelope));
                    }
                    _ => self.post(i, to, lane, &envelope),
                }
            }
            Effect::Order(order) => {
                let n = &self.nodes[i];
                if let Some(docket) = n.member.as_ref().and_then(Member::docket) {
                    order_is_granted(n.name.as_str(), &order, docket);
                }
                self.obey(i, life, &order);
            }
            Effect::Outcome { request, outcome } => {
                note!(self, "{:<6} outcome {} {outcome:?}", self.nodes[i].name, request.0);
                self.history.told(self.now, request, &outcome);
                self.nodes[i].outcomes.insert(request, outcome);
            }
            Effect::Alarm(a) => {
                note!(self, "{:<6} alarm   {a}", self.nodes[i].name);
                self.nodes[i].alarms.push(a);
            }
            Effect::Decided { index, events, .. } => {
                note!(self, "{:<6} applies {index}: {events:?}", self.nodes[i].name);
                self.history.decided(self.nodes[i].name.as_str(), index, &events);
                self.watch_terms(i);
            }
            Effect::Leader(l) => {
                note!(
                    self,
                    "{:<6} follows {}",
                    self.nodes[i].name,
                    l.as_ref().map_or("nobody", MemberName::as_str)
                );
            }
            Effect::Reconfigured | Effect::DocketReplaced => {}
        }
    }

    fn persist(&mut self, i: usize, id: PersistId, records: Vec<Record>, checkpoint: bool) {
        let now = self.now;
        let took = MS / 5 + self.lots.below(self.nodes[i].disk.slowest);
        let n = &mut self.nodes[i];
        let fails = n.disk.health == Health::Fails;
        if fails && !is_planted(Bug::WriteErrorIgnored) {
            return self.crash(i); // R6
        }
        n.disk.begin(id, if fails { Vec::new() } else { records }, checkpoint && !fails);
        let done = n.disk.busy_until.max(now) + took;
        n.disk.busy_until = done;
        let life = n.life;
        self.push(done, What::Persisted { node: i, life, id });
    }

    fn post(&mut self, from: usize, to: usize, lane: Lane, envelope: &Envelope) {
        if let Message::Admitted { snapshot, .. } = &envelope.message {
            let fits = snapshot.state.len() <= tierce_ticket::limits::SNAPSHOT_PART_BYTES;
            assert!(fits, "a state larger than a part goes in parts");
        }
        self.said.leaves(self.nodes[from].disk.store, &envelope.message);
        let datagram = lane == Lane::Datagram;
        let arrivals = self.weather.send(&mut self.lots, from, to, datagram);
        let version = self.nodes[from].speaks.min(self.nodes[to].speaks);
        for after in arrivals {
            let bytes = tierce_wire::encode(version, 0, envelope).expect("it can be encoded");
            let what = What::Deliver { from, to, link: self.link, bytes };
            self.push(self.now + after, what);
        }
    }

    // ----- time --------------------------------------------------------------------------

    /// Runs the next event; false when there is none before `until`.
    pub fn next(&mut self, until: u64) -> bool {
        if self.queue.peek().is_none_or(|d| d.at > until) {
            self.now = until;
            return false;
        }
        let Some(due) = self.queue.pop() else { return false };
        self.now = due.at;
        match due.what {
            What::Deliver { from, to, link, bytes } => self.arrive(from, to, link, &bytes),
            What::Persisted { node, life, id } => self.persisted(node, life, id),
            What::Wake { node, token } => {
                if self.nodes[node].timer == token && self.nodes[node].acts() {
                    self.step(node, Input::Tick);
                }
            }
            What::Alive { node, life } => {
                let n = &self.nodes[node];
                if n.life == life && n.acts() && n.role == Role::Site {
                    self.step(node, Input::Able(Able::Journal));
                    if !self.nodes[node].hung {
                        self.step(node, Input::Able(Able::Runner));
                    }
                    let again = self.now + self.timing.renew_every.as_nanos() as u64;
                    self.push(again, What::Alive { node, life });
                }
            }
            What::StopDone { node, life, ticket, term } => {
                let n = &mut self.nodes[node];
                if n.life == life && n.acts() && !n.hung {
                    if n.running.get(&ticket).is_some_and(|r| r.term == term) {
                        n.running.remove(&ticket);
                    }
                    self.step(node, Input::Stopped { ticket, term });
                } else if n.life == life && n.member.is_some() {
                    let again = self.now + 5 * MS;
                    self.push(again, What::StopDone { node, life, ticket, term });
                }
            }
            What::Guard { node } => self.guard(node),
        }
        true
    }

    fn arrive(&mut self, from: usize, to: usize, link: u64, bytes: &[u8]) {
        if self.weather.cut.contains(&(from, to)) || self.nodes[to].member.is_none() {
            return;
        }
        let envelope = tierce_wire::decode(bytes).expect("what was encoded can be read").envelope;
        if self.nodes[to].acts() {
            self.deliver(from, to, envelope);
        } else {
            self.nodes[to].inbox.push((from, link, envelope));
        }
    }

    fn persisted(&mut self, node: usize, life: u64, id: PersistId) {
        if self.nodes[node].life != life {
            return;
        }
        if !self.nodes[node].acts() {
            // The write is done; the process hears of it when it runs again.
            let again = self.now + 5 * MS;
            return self.push(again, What::Persisted { node, life, id });
        }
        let n = &mut self.nodes[node];
        if id <= n.disk.acked {
            return; // a later one, told while this one waited, has covered it
        }
        n.disk.done(id);
        let held = std::mem::take(&mut n.held);
        let (go, stay): (Vec<_>, Vec<_>) = held.into_iter().partition(|(a, ..)| *a <= id);
        n.held = stay;
        for (_, to, lane, envelope) in go {
            self.post(node, to, lane, &envelope);
        }
        self.step(node, Input::Persisted(id));
    }

    /// Takes what is on its way between two and fits off the network: to be lost, or to come late.
    pub fn take(
        &mut self,
        between: (usize, usize),
        fits: impl Fn(&Message) -> bool,
    ) -> Vec<Envelope> {
        let mut taken = Vec::new();
        self.queue.retain(|due| match &due.what {
            What::Deliver { from, to, bytes, .. } if (*from, *to) == between => {
                let read = tierce_wire::decode(bytes).expect("what was encoded can be read");
                let stays = !fits(&read.envelope.message);
                if !stays {
                    taken.push(read.envelope);
                }
                stays
            }
            _ => true,
        });
        taken
    }

    /// Runs for so many milliseconds.
    pub fn run_for(&mut self, ms: u64) {
        let until = self.now + ms * MS;
        while self.next(until) {}
    }

    /// Runs until `done`, at most so many milliseconds; whether it came.
    pub fn run_until(&mut self, ms: u64, mut done: impl FnMut(&World) -> bool) -> bool {
        let until = self.now + ms * MS;
        loop {
            if done(self) {
                return true;
            }
            if !self.next(until) {
                return done(self);
            }
        }
    }

    /// A new request number.
    pub(crate) fn request(&mut self) -> RequestId {
        self.next_request += 1;
        RequestId(self.next_request - 1)
    }
}
