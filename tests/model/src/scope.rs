//! Named scopes: which ingredients are in the pot, each small enough to be explored completely.
//!
//! Not all at once: a state space is a product. Each scope has the protocol's core (renewals, votes,
//! expiry, grants, two sites and an arbitrator) and one or two things that go wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tierce_ticket::configuration::{Configuration, MemberInfo, Role};
use tierce_ticket::entry::{LossPolicy, Mode, Op, Payload, Policy, Regrant};
use tierce_ticket::ids::{
    ClusterId, Generation, Incarnation, MemberId, MemberName, SessionId, StoreId,
};
use tierce_ticket::timing::Timing;

use crate::clock::{BEGIN, BROKEN, FAST, Rate, SLOW, timing, units};
use crate::ledger::state::Cluster;
use crate::log::Log;
use crate::member::Member;
use crate::mutant::Mutant;
use crate::world::{Node, Sign, Signs, TICKET, World};

/// Kinds of things that a scope allows a number of times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // named as the actions are
pub enum Fault {
    Stale,
    Pause,
    Crash,
    Handover,
    Cancel,
    TakeBack,
    Timing,
    PowerOff,
    Wipe,
    OldDisk,
    /// A member is elected where decisions are made by real ledgers.
    Elect,
}

impl Fault {
    /// How many kinds there are.
    pub const COUNT: usize = 11;
}

/// One step of a plan of voter changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// This spare member becomes a voter.
    Add(u32),
    /// This one votes no more.
    Remove(u32),
}

/// Which clocks are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rates {
    /// Every combination of fast and slow.
    All,
    /// The old holder slow and the others fast, and the reverse.
    Extremes,
    /// The old holder slow and the others fast: its lease is longest and their promises shortest.
    Worst,
    /// The node slow, its coordinator and the voters fast.
    SlowNode,
}

/// One scope.
#[derive(Clone, Debug)]
pub struct Scope {
    /// Its name.
    pub name: &'static str,
    /// What it is for.
    pub words: &'static str,
    /// Founding arbitrators, besides the sites a and b.
    pub arbitrators: u32,
    /// Members that are no voters at first.
    pub spare: u32,
    /// T in units.
    pub promise: u64,
    /// B in units.
    pub stop_budget: u64,
    /// The other T, where T changes.
    pub other_promise: u64,
    /// Which clocks.
    pub rates: Rates,
    /// The successor's network loses too.
    pub both_lossy: bool,
    /// A renewal may arrive in a later tick. Where not, it arrives in its own or never: a later one
    /// only moves the voter's timer away, which the scopes that have it show.
    pub late: bool,
    /// Answers are messages of their own, not collapsed with their renewals.
    pub answers_travel: bool,
    /// A renewal that arrived may arrive again.
    pub duplicates: bool,
    /// Members that may lag behind the log, as places; the others apply at once.
    pub lag: &'static [usize],
    /// A restart may also read the log entry by entry, not only a snapshot.
    pub replays: bool,
    /// What must be proven before a lost ticket is granted again.
    pub regrant: Regrant,
    /// Each member has its own real ledger: decisions are proposed at the one that leads.
    pub on_ledger: bool,
    /// Who may be elected there, as places.
    pub electable: &'static [usize],
    /// A second node of the first site runs under delegation.
    pub node: bool,
    /// What may happen how often.
    pub budget: &'static [(Fault, u8)],
    /// To whom, as places.
    pub hit: &'static [usize],
    /// Voter changes, in order.
    pub plan: &'static [Step],
    /// The plan waits for a wiped disk.
    pub plan_after_wipe: bool,
    /// Decisions after which nothing more is decided.
    pub max_log: usize,
    /// What it must have seen.
    pub sometimes: &'static [Sign],
    /// Whether from every state the ticket finds a holder once nothing goes wrong any more.
    pub live: bool,
}

const NAMES: [&str; 7] = ["a", "b", "c", "d", "e", "f", "g"];
/// Entries of the beginning: founding, two sessions, the ticket, its grant.
pub const FIRST_ENTRIES: usize = 5;

impl Scope {
    /// The core alone: loss, delay, lapse, expiry and grant.
    pub const CORE: Self = Self {
        name: "lapse",
        words: "renewals lost or late, lapse, expiry and grant in one batch, all clocks",
        arbitrators: 1,
        spare: 0,
        promise: 6,
        stop_budget: 0,
        other_promise: 6,
        rates: Rates::All,
        both_lossy: false,
        late: false,
        answers_travel: false,
        duplicates: false,
        lag: &[],
        replays: false,
        regrant: Regrant::Lapse,
        on_ledger: false,
        electable: &[],
        node: false,
        budget: &[],
        hit: &[],
        plan: &[],
        plan_after_wipe: false,
        max_log: FIRST_ENTRIES + 1,
        sometimes: &[Sign::GrantedAfterLapse, Sign::RanUntilJustBefore],
        live: true,
    };

    /// The scope of this name, in its small size.
    pub fn named(name: &str) -> Option<Self> {
        let mut all = crate::scopes::small().into_iter();
        all.find(|s| s.name == name)
    }

    /// Whether the network of this site loses.
    pub fn is_lossy(&self, site: usize) -> bool {
        site == 0 || self.both_lossy
    }
    /// Whether this member may lag.
    pub fn may_lag(&self, i: usize) -> bool {
        self.lag.contains(&i)
    }
    /// Whether a fault may hit this member.
    pub fn hits(&self, fault: Fault, i: usize) -> bool {
        let site_only = matches!(fault, Fault::PowerOff);
        let voter_only = matches!(fault, Fault::Wipe | Fault::OldDisk);
        self.hit.contains(&i) && !(site_only && i > 1) && !(voter_only && i < 2)
    }
    /// The longer of the scope's lease times.
    pub fn longest(&self) -> Timing {
        timing(self.promise.max(self.other_promise), self.stop_budget)
    }
    /// What T is changed to.
    pub fn other_timing(&self) -> Timing {
        timing(self.other_promise, self.stop_budget)
    }
    /// The other site.
    pub fn other_site(&self, than: &MemberName) -> MemberName {
        name(usize::from(than.as_str() == "a"))
    }
    /// What a configuration says of a member.
    pub fn info(&self, id: MemberId) -> MemberInfo {
        let place = id.0 as usize - 1;
        MemberInfo {
            name: name(place),
            role: if place < 2 { Role::Site } else { Role::Arbitrator },
            store: StoreId([id.0 as u8; 16]),
            addresses: vec![],
        }
    }

    fn voters(&self) -> u32 {
        2 + self.arbitrators
    }

    fn founding(&self) -> Configuration {
        let ids = (1..=self.voters()).map(MemberId);
        Configuration {
            cluster: ClusterId([1; 16]),
            generation: Generation(0),
            voters: ids.map(|id| (id, self.info(id))).collect(),
            learners: BTreeMap::new(),
            next_member: MemberId(self.voters() + self.spare + 1),
            timing: timing(self.promise, self.stop_budget),
            digest: [0; 16],
        }
    }

    fn first_entries(&self) -> Log {
        let mut log = Log::new(self.founding());
        let policy = Policy {
            mode: Mode::Auto,
            regrant: self.regrant,
            loss: LossPolicy::Stop,
            prefer: vec![],
            one_move_per: Duration::ZERO,
            require: BTreeMap::new(),
            max_lag: None,
            stop_budget: units(self.stop_budget),
        };
        let open = |place: usize| Op::OpenSession {
            site: name(place),
            incarnation: Incarnation([1; 16]),
            supersedes: None,
        };
        let ticket = "t".parse().expect("a ticket's name");
        for op in [
            open(0),
            open(1),
            Op::SetTicket { name: ticket, policy },
            Op::Grant { ticket: TICKET, to: SessionId(2), automatic: false },
        ] {
            log.append(Payload::Batch(vec![op]));
        }
        assert_eq!(log.len(), FIRST_ENTRIES);
        log
    }

    /// The states to begin with: one for each choice of clocks.
    pub fn beginnings(&self, mutant: Option<Mutant>) -> Vec<World> {
        self.beginnings_at(BEGIN, mutant)
    }

    /// The same with clocks that show another number at first.
    pub fn beginnings_at(&self, clock: u64, mutant: Option<Mutant>) -> Vec<World> {
        let n = self.voters() as usize + usize::from(self.node);
        let all = 0..1_u32 << n;
        let pick = |bits: u32| -> Vec<Rate> {
            (0..n).map(|i| if bits & (1 << i) == 0 { SLOW } else { FAST }).collect()
        };
        let top = (1_u32 << n) - 1;
        let chosen: Vec<u32> = match self.rates {
            Rates::All => all.collect(),
            Rates::Extremes => vec![top & !1, 1],
            Rates::Worst => vec![top & !1],
            Rates::SlowNode => vec![top & !8],
        };
        chosen.into_iter().map(|bits| self.begin(clock, &pick(bits), mutant)).collect()
    }

    fn begin(&self, clock: u64, rates: &[Rate], mutant: Option<Mutant>) -> World {
        let log = self.first_entries();
        let mut members = Vec::new();
        for id in 1..=self.voters() + self.spare {
            let voter = id <= self.voters();
            let place = id as usize - 1;
            let mut rate = if voter { rates[place] } else { FAST };
            if mutant == Some(Mutant::ClockBeyondBound) && id == 1 {
                rate = BROKEN;
            }
            // They have been up for long: no quarantine runs.
            let mut m = Member::new(id, rate, clock - 100, if voter { self.promise } else { 0 });
            m.clock = clock;
            m.admitted = voter;
            while voter && m.applied < log.len() {
                m.apply_next(&log, mutant);
            }
            if place < 2 {
                m.start_holder(&name(place), 1, &log, mutant);
            }
            members.push(Arc::new(m));
        }
        let mut budget = [0; Fault::COUNT];
        for (fault, times) in self.budget {
            budget[*fault as usize] = *times;
        }
        let node = self.node.then(|| Node {
            rate: rates[rates.len() - 1],
            clock,
            delegated: tierce_ticket::delegation::Delegated::default(),
        });
        let ledgers = self.on_ledger.then(|| {
            // The arbitrator leads at first: it lives on when the holder does not.
            let leader = self.voters() as usize - 1;
            Arc::new(Cluster::founded(log.entries(), members.len(), leader))
        });
        let mut w = World {
            members,
            log: Arc::new(log),
            ledgers,
            net: Vec::new(),
            votes: BTreeSet::new(),
            budget,
            changes: 0,
            proofs: BTreeSet::new(),
            node,
            signs: Signs::default(),
            ran_before: false,
            broken: None,
        };
        w.take_finals(self, mutant);
        for i in 0..2 {
            w.turn(self, i, mutant);
        }
        w
    }
}

/// The name of the member in this place.
pub fn name(place: usize) -> MemberName {
    NAMES[place].parse().expect("a member's name")
}
