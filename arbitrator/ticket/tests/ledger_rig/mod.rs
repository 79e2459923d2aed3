//! A cluster of ledgers on a virtual clock, with journals that lose what was not synced and a
//! network that loses, doubles and reorders; and the oracle that watches all of them.
//!
//! After every event the oracle checks, over the members together:
//! election safety (one leader per ballot), one vote per ballot, log matching, leader completeness,
//! state machine safety (all apply the same entries), commit never back, reads never stale, no
//! alarm between working members. A broken one panics with the invariant's name.
#![allow(dead_code, reason = "each test binary uses its own part of the rig")]
#![allow(clippy::unwrap_used, reason = "a test stops where its own making is wrong")]

mod oracle;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use tierce_ticket::configuration::{Configuration, MemberInfo, Role};
use tierce_ticket::entry::{Entry, Op};
use tierce_ticket::ids::{ClusterId, Generation, LogIndex, MemberId, SessionId, StoreId};
use tierce_ticket::ledger::{
    Ledger, LedgerDurable, LedgerEffect, LedgerMessage, LedgerRecord, LedgerRole, LedgerSettings,
};
use tierce_ticket::time::VoterTime;
use tierce_ticket::timing::Profile;

pub(crate) use self::oracle::{Applied, Oracle};

/// Shortest and longest silence, and the leader's beat, of every member here.
pub(crate) const ELECTION: (Duration, Duration) =
    (Duration::from_millis(100), Duration::from_millis(200));
const HEARTBEAT: Duration = Duration::from_millis(30);
/// R11's T here.
pub(crate) const CHANGE_WAIT: Duration = Duration::from_millis(300);

/// One store with its process, or without.
pub(crate) struct Node {
    pub(crate) ledger: Option<Ledger>,
    /// What survives a crash, encoded.
    journal: Vec<Vec<u8>>,
    /// Handed out, not yet durable.
    unsynced: VecDeque<Vec<u8>>,
    /// Records handed out by this process, and how many of them are durable.
    emitted: u64,
    synced: u64,
    /// Messages that wait for records.
    held: VecDeque<(u64, Envelope)>,
    /// Last entry handed out to the journal.
    written: LogIndex,
    pub(crate) applied: Applied,
    /// Reads asked here: the entries that were final anywhere when they were asked.
    reads: BTreeMap<u64, usize>,
    pub(crate) reads_ready: Vec<u64>,
}

/// A message on its way.
#[derive(Clone, Debug)]
pub(crate) struct Envelope {
    pub(crate) from: MemberId,
    pub(crate) to: MemberId,
    pub(crate) message: LedgerMessage,
}

/// The cluster.
pub(crate) struct Cluster {
    pub(crate) now: VoterTime,
    pub(crate) nodes: BTreeMap<MemberId, Node>,
    pub(crate) wire: Vec<Envelope>,
    cut: BTreeSet<(MemberId, MemberId)>,
    pub(crate) oracle: Oracle,
    pub(crate) trace: Vec<String>,
    seed: u64,
    proposals: u64,
    /// A planted bug of the driver: messages do not wait for the journal.
    pub(crate) sends_before_it_writes: bool,
}

pub(crate) fn info(id: MemberId) -> MemberInfo {
    MemberInfo {
        name: format!("m{id}").parse().unwrap(),
        role: Role::Site,
        store: StoreId([id.0 as u8; 16]),
        addresses: vec![],
    }
}

fn founding(voters: u32) -> Configuration {
    Configuration {
        cluster: ClusterId([1; 16]),
        generation: Generation(1),
        voters: (1..=voters).map(MemberId).map(|id| (id, info(id))).collect(),
        learners: BTreeMap::new(),
        next_member: MemberId(voters + 1),
        timing: Profile::Lan.timing(),
        digest: [0; 16],
    }
}

impl Cluster {
    pub(crate) fn new(voters: u32, seed: u64) -> Self {
        let mut cluster = Self {
            now: VoterTime::from_nanos(1_000_000_000),
            nodes: BTreeMap::new(),
            wire: Vec::new(),
            cut: BTreeSet::new(),
            oracle: Oracle::default(),
            trace: Vec::new(),
            seed,
            proposals: 0,
            sends_before_it_writes: false,
        };
        for id in (1..=voters).map(MemberId) {
            let founding = LedgerDurable::founding(founding(voters), 0);
            let journal = founding.records().iter().map(encode).collect();
            cluster.add_store(id, journal);
            cluster.start(id);
        }
        cluster
    }

    fn add_store(&mut self, id: MemberId, journal: Vec<Vec<u8>>) {
        let node = Node {
            ledger: None,
            journal,
            unsynced: VecDeque::new(),
            emitted: 0,
            synced: 0,
            held: VecDeque::new(),
            written: LogIndex(0),
            applied: Applied::default(),
            reads: BTreeMap::new(),
            reads_ready: Vec::new(),
        };
        self.nodes.insert(id, node);
    }

    /// Starts a process on a store.
    pub(crate) fn start(&mut self, id: MemberId) {
        let node = self.nodes.get_mut(&id).unwrap();
        if node.ledger.is_some() {
            return;
        }
        let mut durable = LedgerDurable::default();
        for bytes in &node.journal {
            let record: LedgerRecord = postcard::from_bytes(bytes).unwrap();
            durable.replay(record).unwrap_or_else(|e| panic!("journal of {id}: {e}"));
        }
        durable.check().unwrap_or_else(|e| panic!("journal of {id}: {e}"));
        let settings = LedgerSettings {
            me: id,
            election_min: ELECTION.0,
            election_max: ELECTION.1,
            heartbeat: HEARTBEAT,
            seed: self.seed,
            change_wait: CHANGE_WAIT,
            may_lead: true,
        };
        (node.emitted, node.synced, node.applied) = (0, 0, Applied::default());
        node.written = durable.last_index();
        node.ledger = Some(Ledger::new(settings, durable, self.now));
        self.after(id);
    }

    /// Ends a process; of what was not synced only the first `keep` records survive.
    pub(crate) fn crash(&mut self, id: MemberId, keep: usize) {
        let node = self.nodes.get_mut(&id).unwrap();
        if node.ledger.take().is_some() {
            let lucky = node.unsynced.drain(..).take(keep).collect::<Vec<_>>();
            node.journal.extend(lucky);
            node.held.clear();
            node.reads.clear();
            self.oracle.restarted(id);
        }
    }

    pub(crate) fn up(&self, id: MemberId) -> bool {
        self.nodes.get(&id).is_some_and(|n| n.ledger.is_some())
    }

    pub(crate) fn ledger(&self, id: MemberId) -> &Ledger {
        self.nodes[&id].ledger.as_ref().expect("the process is up")
    }

    pub(crate) fn leader(&self) -> Option<MemberId> {
        let leads = |l: &&Ledger| l.role() == LedgerRole::Leader;
        let ledgers = self.nodes.iter().filter_map(|(id, n)| Some((*id, n.ledger.as_ref()?)));
        ledgers.filter(|(_, l)| leads(l)).max_by_key(|(_, l)| l.ballot()).map(|(id, _)| id)
    }

    /// Lets a member do something, if it is up, and looks at what came of it.
    pub(crate) fn at<T>(
        &mut self,
        id: MemberId,
        f: impl FnOnce(&mut Ledger, VoterTime) -> T,
    ) -> Option<T> {
        let now = self.now;
        let answer = f(self.nodes.get_mut(&id)?.ledger.as_mut()?, now);
        self.after(id);
        Some(answer)
    }

    /// Hands out effects, then asks the oracle.
    fn after(&mut self, id: MemberId) {
        let node = self.nodes.get_mut(&id).unwrap();
        let mut log_changed = false;
        let starting = node.emitted == 0;
        while let Some(effect) = node.ledger.as_mut().unwrap().poll_effect() {
            match effect {
                LedgerEffect::Persist(record) => {
                    let bytes = encode(&record);
                    assert_eq!(postcard::from_bytes(&bytes).as_ref(), Ok(&record));
                    self.trace.push(format!("{id}: {}", oracle::show_record(&record)));
                    log_changed |= !matches!(record, LedgerRecord::HardState(_));
                    if let LedgerRecord::Entries(e) = &record {
                        let first = e[0].index;
                        self.oracle.truncated += usize::from(first <= node.written);
                        node.written = e[e.len() - 1].index;
                    }
                    node.emitted += 1;
                    node.unsynced.push_back(bytes);
                }
                LedgerEffect::Send { to, message, needs_persist } => {
                    let bytes = postcard::to_stdvec(&message).unwrap();
                    assert_eq!(postcard::from_bytes(&bytes).as_ref(), Ok(&message));
                    let wait = needs_persist && !self.sends_before_it_writes;
                    let needed = if wait { node.emitted } else { 0 };
                    let envelope = Envelope { from: id, to, message };
                    if needed > node.synced {
                        node.held.push_back((needed, envelope));
                    } else {
                        self.oracle.leaves(&envelope);
                        self.wire.push(envelope);
                    }
                }
                LedgerEffect::Commit { upto } => {
                    let l = node.ledger.as_ref().unwrap();
                    let from = node.applied.last().next();
                    let entries: Vec<Entry> = l.entries_between(from, upto).cloned().collect();
                    assert_eq!(l.commit().max(upto), l.commit());
                    for e in &entries {
                        node.applied.apply(e);
                    }
                    assert_eq!(node.applied.last(), upto, "{id}: all entries to apply are kept");
                    self.trace.push(format!("{id}: commit {upto}"));
                    self.oracle.applied(id, &node.applied);
                }
                LedgerEffect::InstallSnapshot(s) => {
                    self.oracle.installed += usize::from(!starting);
                    node.applied = postcard::from_bytes(&s.state).unwrap();
                    assert_eq!(node.applied.last(), s.last_index);
                    self.trace.push(format!("{id}: install snapshot {}", s.last_index));
                    self.oracle.applied(id, &node.applied);
                }
                LedgerEffect::Led { ballot } => {
                    self.trace.push(format!("{id}: LEADS ballot {ballot}"));
                    self.oracle.led(id, node.ledger.as_ref().unwrap());
                }
                LedgerEffect::Followed { leader, ballot } => {
                    let whom = leader.map_or("nobody".to_owned(), |l| l.to_string());
                    self.trace.push(format!("{id}: follows {whom} ballot {ballot}"));
                }
                LedgerEffect::ReadReady { context, index } => {
                    self.trace.push(format!("{id}: read {context} at {index}"));
                    let final_then = node.reads.remove(&context).expect("a read was asked");
                    assert!(index.0 >= final_then as u64, "read {context} at {id} is stale");
                    node.reads_ready.push(context);
                }
                LedgerEffect::ReadFailed { context } => {
                    self.trace.push(format!("{id}: read {context} failed"));
                    node.reads.remove(&context).expect("a read was asked");
                }
                LedgerEffect::Alarm(what) => panic!("alarm between working members: {what}"),
            }
        }
        self.oracle.check(id, log_changed, &self.nodes);
    }

    // ---- journal ----

    /// Makes records durable, oldest first, and lets go what waited for them.
    pub(crate) fn sync(&mut self, id: MemberId, records: usize) {
        if !self.up(id) {
            return;
        }
        let node = self.nodes.get_mut(&id).unwrap();
        let count = records.min(node.unsynced.len());
        node.journal.extend(node.unsynced.drain(..count));
        node.synced += count as u64;
        let synced = node.synced;
        while let Some((_, envelope)) = node.held.pop_front_if(|(needed, _)| *needed <= synced) {
            self.oracle.leaves(&envelope);
            self.wire.push(envelope);
        }
        self.at(id, |l, now| l.persisted(now, synced));
    }

    pub(crate) fn sync_all(&mut self) {
        for id in self.ids() {
            self.sync(id, usize::MAX);
        }
    }

    /// Starts a fresh journal from what the ledger says it holds.
    pub(crate) fn checkpoint(&mut self, id: MemberId) {
        self.sync(id, usize::MAX);
        let node = self.nodes.get_mut(&id).unwrap();
        if let Some(l) = &node.ledger {
            node.journal = l.durable().records().iter().map(encode).collect();
        }
    }

    // ---- network and time ----

    pub(crate) fn ids(&self) -> Vec<MemberId> {
        self.nodes.keys().copied().collect()
    }

    /// Hands the message at this place to its receiver.
    pub(crate) fn deliver(&mut self, place: usize) {
        let Envelope { from, to, message } = self.wire.remove(place);
        if self.cut.contains(&(from, to)) || !self.up(to) {
            return;
        }
        self.trace.push(format!("{from} -> {to} {message}"));
        self.at(to, |l, now| l.receive(now, from, message));
    }

    /// Syncs and delivers until nothing is left to deliver.
    pub(crate) fn settle(&mut self) {
        for _ in 0..100_000 {
            self.sync_all();
            if self.wire.is_empty() {
                return;
            }
            self.deliver(0);
        }
        panic!("the network does not come to rest");
    }

    pub(crate) fn cut_between(&mut self, a: &[MemberId], b: &[MemberId]) {
        for (x, y) in a.iter().flat_map(|x| b.iter().map(move |y| (*x, *y))) {
            self.cut.extend([(x, y), (y, x)]);
        }
    }

    pub(crate) fn cut_one_way(&mut self, from: MemberId, to: MemberId) {
        self.cut.insert((from, to));
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }

    /// Lets time pass, and those that are due act.
    pub(crate) fn advance(&mut self, by: Duration) {
        self.now = self.now + by;
        for id in self.ids() {
            self.tick_if_due(id);
        }
    }

    pub(crate) fn tick_if_due(&mut self, id: MemberId) {
        let due = |l: &Ledger| l.deadline().is_some_and(|d| d <= self.now);
        if self.nodes[&id].ledger.as_ref().is_some_and(due) {
            self.at(id, Ledger::tick);
        }
    }

    /// Lets time pass in small steps on a network without faults.
    pub(crate) fn run(&mut self, total: Duration) {
        let end = self.now + total;
        while self.now < end {
            self.settle();
            self.advance(Duration::from_millis(5).min(end - self.now));
        }
        self.settle();
    }

    // ---- what members are asked to do ----

    /// A decision that differs from every other.
    pub(crate) fn propose(&mut self, id: MemberId) -> Option<LogIndex> {
        self.proposals += 1;
        let (n, wall) = (self.proposals, self.now.as_nanos() / 1_000_000);
        let ops = vec![Op::CloseSession { session: SessionId(n) }];
        self.at(id, |l, now| l.propose(now, wall, ops).ok()).flatten()
    }

    pub(crate) fn read(&mut self, id: MemberId, context: u64) -> bool {
        let known = self.oracle.final_entries();
        let Some(node) = self.nodes.get_mut(&id) else { return false };
        node.reads.insert(context, known);
        let asked = self.at(id, |l, now| l.read(now, context).is_ok()).unwrap_or(false);
        if !asked {
            self.nodes.get_mut(&id).unwrap().reads.remove(&context);
        }
        asked
    }

    /// Proposes a configuration; stores for members that are new come up, empty.
    pub(crate) fn change(
        &mut self,
        id: MemberId,
        edit: impl FnOnce(&mut Configuration),
    ) -> Result<LogIndex, String> {
        if !self.up(id) {
            return Err("down".to_owned());
        }
        let mut next = self.ledger(id).configuration().0.clone();
        edit(&mut next);
        let members: Vec<_> = next.members().map(|(m, _)| m).collect();
        let answer = self.at(id, |l, now| l.propose_configuration(now, 0, next));
        let index = answer.expect("it is up").map_err(|e| e.to_string())?;
        for m in members {
            if !self.nodes.contains_key(&m) {
                self.add_store(m, Vec::new());
                self.start(m);
            }
        }
        Ok(index)
    }

    pub(crate) fn compact(&mut self, id: MemberId) {
        let Some(node) = self.nodes.get(&id) else { return };
        let (upto, state) = (node.applied.last(), postcard::to_stdvec(&node.applied).unwrap());
        self.at(id, |l, _| l.compact(upto, state));
    }
}

fn encode(record: &LedgerRecord) -> Vec<u8> {
    postcard::to_stdvec(record).unwrap()
}
