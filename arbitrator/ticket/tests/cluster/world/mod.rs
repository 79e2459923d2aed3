//! The world of the members; see `main.rs`.

mod physical;
mod story;

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::fmt::Write as _;
use std::time::Duration;

use tierce_ticket::command::Outcome;
use tierce_ticket::configuration::Role;
use tierce_ticket::durable::{Durable, Record};
use tierce_ticket::entry::{LossPolicy, Mode, Policy, Regrant};
use tierce_ticket::holder::{Able, Holder};
use tierce_ticket::ids::{
    ClusterId, Incarnation, MemberName, PersistId, RequestId, StoreId, Term, TicketId, TicketName,
};
use tierce_ticket::ledger::Ledger;
use tierce_ticket::member::{
    Alarm, Effect, FoundingPlan, Input, Member, MemberSettings, PlannedMember,
};
use tierce_ticket::message::{Envelope, Lane, Message, Readiness};
use tierce_ticket::time::{HolderTime, Now, VoterTime};
use tierce_ticket::timing::{Profile, Timing};

pub const MS: u64 = 1_000_000;

/// splitmix64: small, and the same everywhere.
#[derive(Clone, Debug)]
pub struct Lots(pub u64);

impl Lots {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }
    pub fn percent(&mut self, p: u64) -> bool {
        self.below(100) < p
    }
}

#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // few are alive at a time
enum What {
    Deliver { from: usize, to: usize, link: u64, envelope: Envelope },
    Persisted { node: usize, life: u64, id: PersistId, records: Vec<Record>, checkpoint: bool },
    Wake { node: usize, token: u64 },
    Alive { node: usize, life: u64 },
    StopDone { node: usize, life: u64, ticket: TicketId, term: Term },
    Guard { node: usize },
}

#[derive(Clone, Debug)]
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

/// What physically runs at a node, whoever is alive there.
#[derive(Clone, Copy, Debug)]
pub struct Running {
    pub term: Term,
}

#[derive(Debug)]
pub struct Node {
    pub name: MemberName,
    pub role: Role,
    /// Clock rate in parts per million of real time, and offset in ns.
    rate_ppm: u64,
    offset: u64,
    pub member: Option<Member>,
    pub frozen: bool,
    /// Counts starts: events of an earlier life are void.
    pub life: u64,
    store: StoreId,
    opened: u64,
    disk: Vec<Record>,
    acked: PersistId,
    held: Vec<(PersistId, usize, Lane, Envelope)>,
    pub running: BTreeMap<TicketId, Running>,
    /// D as the guard was last told, on the node's own clock.
    guard_d: BTreeMap<TicketId, HolderTime>,
    session_d: HolderTime,
    /// Tickets that `Lease` does not extend: they are being taken back.
    pinned: BTreeSet<TicketId>,
    pub disk_works: bool,
    /// Writes are carried out one after the other.
    disk_busy_until: u64,
    pub slow_stop: bool,
    inbox: Vec<(usize, u64, Envelope)>,
    pub outcomes: BTreeMap<RequestId, Outcome>,
    pub alarms: Vec<Alarm>,
    pub ready: bool,
    /// Its runner has not reported yet.
    pub silent: bool,
    told_ready: Option<tierce_ticket::ids::SessionId>,
    /// Only the newest timer counts.
    timer: u64,
}

pub struct World {
    pub now: u64,
    pub nodes: Vec<Node>,
    pub lots: Lots,
    pub timing: Timing,
    queue: BinaryHeap<Due>,
    seq: u64,
    /// Pairs that cannot hear each other: (from, to).
    pub cut: BTreeSet<(usize, usize)>,
    /// Counts re-connections; frames of an older connection are lost.
    link: u64,
    pub loss_percent: u64,
    pub double_percent: u64,
    pub delay_ms: (u64, u64),
    next_request: u64,
    pub granted: BTreeMap<TicketId, Term>,
    /// Newest term that each life of a node has seen.
    terms: BTreeMap<(usize, u64, TicketId), Term>,
    /// Where each term was granted to.
    homes: BTreeMap<(TicketId, Term), MemberName>,
    pub log: String,
    pub steps: u64,
    pub overlap_checked: u64,
}

pub fn policy(mode: Mode) -> Policy {
    Policy {
        mode,
        regrant: Regrant::Lapse,
        loss: LossPolicy::Stop,
        prefer: vec![],
        one_move_per: Duration::ZERO,
        require: BTreeMap::new(),
        max_lag: None,
        stop_budget: Profile::MetroFast.timing().stop_budget,
    }
}

pub fn name(s: &str) -> MemberName {
    s.parse().expect("a good name")
}
pub fn ticket(s: &str) -> TicketName {
    s.parse().expect("a good name")
}

impl World {
    /// `sites` sites (a, b, …) and `arbitrators` arbitrators (y, z); clocks at random within ρ.
    pub fn new(seed: u64, sites: usize, arbitrators: usize) -> Self {
        let mut lots = Lots(seed);
        let timing = Profile::MetroFast.timing();
        let mut nodes = Vec::new();
        for i in 0..sites + arbitrators {
            let role = if i < sites { Role::Site } else { Role::Arbitrator };
            let letter = if i < sites { b'a' + i as u8 } else { b"yzx"[i - sites] };
            let rate = match lots.below(3) {
                0 => 1_000_000 - u64::from(timing.rho_ppm),
                1 => 1_000_000 + u64::from(timing.rho_ppm),
                _ => 1_000_000,
            };
            nodes.push(Node {
                name: name(&(letter as char).to_string()),
                role,
                rate_ppm: rate,
                offset: lots.below(1_000_000) * MS,
                member: None,
                frozen: false,
                life: 0,
                store: StoreId([i as u8 + 1; 16]),
                opened: 0,
                disk: Vec::new(),
                acked: PersistId(0),
                held: Vec::new(),
                running: BTreeMap::new(),
                guard_d: BTreeMap::new(),
                session_d: HolderTime::default(),
                pinned: BTreeSet::new(),
                disk_works: true,
                disk_busy_until: 0,
                slow_stop: false,
                inbox: Vec::new(),
                outcomes: BTreeMap::new(),
                alarms: Vec::new(),
                ready: true,
                silent: false,
                told_ready: None,
                timer: 0,
            });
        }
        let mut world = Self {
            now: 1_000 * MS,
            nodes,
            lots,
            timing,
            queue: BinaryHeap::new(),
            seq: 0,
            cut: BTreeSet::new(),
            link: 0,
            loss_percent: 0,
            double_percent: 0,
            delay_ms: (1, 3),
            next_request: 1,
            granted: BTreeMap::new(),
            terms: BTreeMap::new(),
            homes: BTreeMap::new(),
            log: String::new(),
            steps: 0,
            overlap_checked: 0,
        };
        for i in 0..world.nodes.len() {
            world.start(i);
        }
        world
    }

    pub fn index(&self, who: &str) -> usize {
        self.nodes.iter().position(|n| n.name.as_str() == who).expect("a node of this name")
    }

    pub fn clock(&self, i: usize) -> Now {
        let n = &self.nodes[i];
        let ns = (u128::from(self.now) * u128::from(n.rate_ppm) / 1_000_000) as u64 + n.offset;
        Now {
            voter: VoterTime::from_nanos(ns),
            holder: HolderTime::from_nanos(ns),
            wall_ms: self.now / MS,
        }
    }

    /// Real time at which node `i`'s clock shows `at`.
    fn real(&self, i: usize, at: u64) -> u64 {
        let n = &self.nodes[i];
        (u128::from(at.saturating_sub(n.offset)) * 1_000_000).div_ceil(u128::from(n.rate_ppm))
            as u64
    }

    fn push(&mut self, at: u64, what: What) {
        self.seq += 1;
        let at = at.max(self.now);
        self.queue.push(Due { at, seq: self.seq, what });
    }

    fn note(&mut self, line: &str) {
        if self.log.len() < 4_000_000 {
            let _ = writeln!(self.log, "{:>9.3} {line}", self.now as f64 / 1e9);
        }
    }

    // ----- lives -------------------------------------------------------------------------

    pub fn start(&mut self, i: usize) {
        let clock = self.clock(i);
        let members = self
            .nodes
            .iter()
            .map(|n| PlannedMember {
                name: n.name.clone(),
                role: n.role,
                addresses: vec![format!("{}:1", n.name)],
            })
            .collect();
        let plan = FoundingPlan { members, timing: self.timing };
        let random = self.lots.next();
        let n = &mut self.nodes[i];
        n.life += 1;
        n.opened += 1;
        n.frozen = false;
        n.acked = PersistId(0);
        n.held.clear();
        n.inbox.clear();
        n.told_ready = None;
        let mut boot = [n.life as u8; 16];
        boot[0] = i as u8 + 1;
        boot[8..].copy_from_slice(&random.to_le_bytes());
        let settings = MemberSettings {
            name: n.name.clone(),
            role: n.role,
            store: n.store,
            opened: n.opened,
            boot: Incarnation(boot),
            seed: random,
            digest: if n.role == Role::Site { [7; 16] } else { [0; 16] },
            plan: (n.role == Role::Site).then_some(plan),
            new_cluster: ClusterId([9; 16]),
        };
        let mut durable = Durable::default();
        for r in &n.disk {
            durable.replay(r.clone()).expect("what was written can be read");
        }
        let member = Member::new(settings, durable, clock).expect("a sound journal makes a member");
        n.member = Some(member);
        let life = n.life;
        self.note(&format!("start {}", self.nodes[i].name));
        self.link += 1;
        for j in 0..self.nodes.len() {
            if j != i && self.nodes[j].member.is_some() {
                self.connect(i, j);
            }
        }
        self.push(self.now, What::Alive { node: i, life });
        self.after_step(i);
    }

    fn connect(&mut self, i: usize, j: usize) {
        for (x, y) in [(i, j), (j, i)] {
            if !self.cut.contains(&(x, y)) && !self.cut.contains(&(y, x)) && !self.nodes[x].frozen {
                let peer = self.nodes[y].name.clone();
                self.step(x, Input::PeerUp(peer));
            }
        }
    }

    /// Loses everything that is not durable. What runs keeps running: the guard is another process.
    pub fn crash(&mut self, i: usize) {
        self.note(&format!("crash {}", self.nodes[i].name));
        self.nodes[i].member = None;
        self.nodes[i].frozen = false;
        self.nodes[i].life += 1;
        let gone = self.nodes[i].name.clone();
        for j in 0..self.nodes.len() {
            if j != i && !self.nodes[j].frozen {
                self.step(j, Input::PeerDown(gone.clone()));
            }
        }
    }

    /// The whole node loses power: what runs dies too.
    pub fn power_off(&mut self, i: usize) {
        self.crash(i);
        self.nodes[i].running.clear();
    }

    /// The store is lost: the next start is with an empty one.
    pub fn wipe(&mut self, i: usize) {
        let fresh = self.lots.next().to_le_bytes();
        let n = &mut self.nodes[i];
        n.disk.clear();
        n.opened = 0;
        n.store.0[..8].copy_from_slice(&fresh);
    }

    /// What a backup of the store would contain now.
    pub fn copy_store(&self, i: usize) -> (Vec<Record>, u64) {
        (self.nodes[i].disk.clone(), self.nodes[i].opened)
    }

    /// Puts such a backup back.
    pub fn restore_store(&mut self, i: usize, copy: (Vec<Record>, u64)) {
        (self.nodes[i].disk, self.nodes[i].opened) = copy;
    }

    pub fn freeze(&mut self, i: usize) {
        self.note(&format!("freeze {}", self.nodes[i].name));
        self.nodes[i].frozen = true;
    }

    pub fn thaw(&mut self, i: usize) {
        self.note(&format!("thaw {}", self.nodes[i].name));
        self.nodes[i].frozen = false;
        for (from, link, envelope) in std::mem::take(&mut self.nodes[i].inbox) {
            if link == self.link || self.lots.percent(50) {
                self.deliver(from, i, envelope);
            }
        }
        self.wake(i);
        let life = self.nodes[i].life;
        self.push(self.now, What::Alive { node: i, life });
    }

    pub fn cut_off(&mut self, i: usize) {
        for j in 0..self.nodes.len() {
            if j != i {
                self.cut.insert((i, j));
                self.cut.insert((j, i));
            }
        }
        self.note(&format!("cut {}", self.nodes[i].name));
    }

    pub fn heal(&mut self) {
        self.note("heal");
        self.cut.clear();
        self.link += 1;
        for i in 0..self.nodes.len() {
            for j in i + 1..self.nodes.len() {
                if self.nodes[i].member.is_some() && self.nodes[j].member.is_some() {
                    self.connect(i, j);
                }
            }
        }
    }

    // ----- steps -------------------------------------------------------------------------

    pub fn step(&mut self, i: usize, input: Input) {
        let clock = self.clock(i);
        let Some(m) = &mut self.nodes[i].member else { return };
        self.steps += 1;
        // A second of virtual time is some hundreds of steps: far more is a storm.
        assert!(
            self.steps < 2_000_000,
            "a storm of messages or timers: {clock:?} {:?} {:?} {:?}\n{}",
            m.poll_deadline(clock),
            m.ledger().and_then(Ledger::deadline),
            m.holder().and_then(Holder::deadline),
            tail(&self.log)
        );
        m.step(clock, input);
        m.invariants(clock);
        self.after_step(i);
    }

    fn wake(&mut self, i: usize) {
        self.step(i, Input::Tick);
    }

    fn deliver(&mut self, from: usize, to: usize, envelope: Envelope) {
        if std::env::var_os("TIERCE_MESSAGES").is_some() {
            let line = format!("{:?}", envelope.message);
            let line = format!(
                "{}->{} {}",
                self.nodes[from].name,
                self.nodes[to].name,
                &line[..line.len().min(160)]
            );
            self.note(&line);
        }
        let from = self.nodes[from].name.clone();
        self.step(to, Input::Received { from, envelope });
    }

    fn after_step(&mut self, i: usize) {
        while let Some(effect) = self.nodes[i].member.as_mut().and_then(Member::poll_effect) {
            self.carry_out(i, effect);
        }
        self.tell_ready(i);
        let clock = self.clock(i);
        if let Some(m) = &self.nodes[i].member {
            let wake = m.poll_deadline(clock);
            let v = wake.voter.map(VoterTime::as_nanos);
            let h = wake.holder.map(HolderTime::as_nanos);
            if let Some(at) = v.into_iter().chain(h).min() {
                // A timer only wakes, and late: up to 3 ms.
                let late = self.lots.below(3 * MS) + 1;
                let at = self.real(i, at) + late;
                self.nodes[i].timer += 1;
                let token = self.nodes[i].timer;
                self.push(at, What::Wake { node: i, token });
            }
        }
        self.check_exclusive();
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
            Effect::Persist { id, records } => self.write(i, id, records, false),
            Effect::Checkpoint { id, records } => self.write(i, id, records, true),
            Effect::Send { to, lane, envelope, after } => {
                let to = self.index(to.as_str());
                match after {
                    Some(a) if a > self.nodes[i].acked => {
                        self.nodes[i].held.push((a, to, lane, envelope));
                    }
                    _ => self.post(i, to, lane, &envelope),
                }
            }
            Effect::Order(order) => self.obey(i, life, &order),
            Effect::Outcome { request, outcome } => {
                self.note(&format!("outcome at {}: {outcome:?}", self.nodes[i].name));
                self.nodes[i].outcomes.insert(request, outcome);
            }
            Effect::Alarm(a) => {
                self.note(&format!("alarm at {}: {a}", self.nodes[i].name));
                self.nodes[i].alarms.push(a);
            }
            Effect::Decided { index, events, .. } => {
                self.note(&format!("{} applies {index}: {events:?}", self.nodes[i].name));
                self.watch_terms(i);
            }
            Effect::Leader(l) => self.note(&format!("{} follows {l:?}", self.nodes[i].name)),
            Effect::Reconfigured | Effect::DocketReplaced => {}
        }
    }

    fn write(&mut self, i: usize, id: PersistId, records: Vec<Record>, checkpoint: bool) {
        if self.nodes[i].disk_works {
            let took = MS / 5 + self.lots.below(MS);
            let life = self.nodes[i].life;
            let done = self.nodes[i].disk_busy_until.max(self.now) + took;
            self.nodes[i].disk_busy_until = done;
            self.push(done, What::Persisted { node: i, life, id, records, checkpoint });
        } else {
            self.crash(i); // R6
        }
    }

    fn post(&mut self, from: usize, to: usize, lane: Lane, envelope: &Envelope) {
        if let Message::Admitted { snapshot, .. } = &envelope.message {
            let fits = snapshot.state.len() <= tierce_ticket::limits::SNAPSHOT_PART_BYTES;
            assert!(fits, "a state larger than a part goes in parts");
        }
        if self.cut.contains(&(from, to)) {
            return;
        }
        let lossy = lane == Lane::Datagram || self.lots.percent(10);
        if lossy && self.lots.percent(self.loss_percent) {
            return;
        }
        let copies = if self.lots.percent(self.double_percent) { 2 } else { 1 };
        for _ in 0..copies {
            let span = self.delay_ms.1 - self.delay_ms.0;
            let delay = self.delay_ms.0 * MS + self.lots.below(span * MS + 1);
            let what = What::Deliver { from, to, link: self.link, envelope: envelope.clone() };
            self.push(self.now + delay, what);
        }
    }

    /// Runs the next event; false when there is none before `until`.
    pub fn next(&mut self, until: u64) -> bool {
        if self.queue.peek().is_none_or(|d| d.at > until) {
            self.now = until;
            return false;
        }
        let Some(due) = self.queue.pop() else { return false };
        self.now = due.at;
        match due.what {
            What::Deliver { from, to, link, envelope } => {
                if self.cut.contains(&(from, to)) || self.nodes[to].member.is_none() {
                    // lost
                } else if self.nodes[to].frozen {
                    self.nodes[to].inbox.push((from, link, envelope));
                } else {
                    self.deliver(from, to, envelope);
                }
            }
            What::Persisted { node, life, id, records, checkpoint } => {
                if self.nodes[node].life == life {
                    let n = &mut self.nodes[node];
                    if checkpoint {
                        n.disk.clear();
                    }
                    n.disk.extend(records);
                    n.acked = id;
                    let held = std::mem::take(&mut n.held);
                    let (go, stay) = held.into_iter().partition(|(a, ..)| *a <= id);
                    self.nodes[node].held = stay;
                    let go: Vec<(PersistId, usize, Lane, Envelope)> = go;
                    for (_, to, lane, envelope) in go {
                        self.post(node, to, lane, &envelope);
                    }
                    if self.nodes[node].frozen {
                        // The write is done; the process hears of it when it thaws.
                        let (at, frozen) = (
                            self.now + 5 * MS,
                            What::Persisted { node, life, id, records: vec![], checkpoint: false },
                        );
                        self.push(at, frozen);
                    } else {
                        self.step(node, Input::Persisted(id));
                    }
                }
            }
            What::Wake { node, token } => {
                if self.nodes[node].timer == token && !self.nodes[node].frozen {
                    self.wake(node);
                }
            }
            What::Alive { node, life } => {
                let n = &self.nodes[node];
                if n.life == life && !n.frozen && n.role == Role::Site {
                    self.step(node, Input::Able(Able::Journal));
                    self.step(node, Input::Able(Able::Runner));
                    let again = self.now + self.timing.renew_every.as_nanos() as u64;
                    self.push(again, What::Alive { node, life });
                }
            }
            What::StopDone { node, life, ticket, term } => {
                let n = &mut self.nodes[node];
                if n.life == life && !n.frozen {
                    if n.running.get(&ticket).is_some_and(|r| r.term == term) {
                        n.running.remove(&ticket);
                    }
                    self.step(node, Input::Stopped { ticket, term });
                } else if n.life == life {
                    let again = self.now + 5 * MS;
                    self.push(again, What::StopDone { node, life, ticket, term });
                }
            }
            What::Guard { node } => self.guard(node),
        }
        true
    }

    pub fn run_for(&mut self, ms: u64) {
        let until = self.now + ms * MS;
        while self.next(until) {}
    }

    /// Runs until `done`, at most `ms`; whether it came.
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
}

pub fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(80)..].join("\n")
}
