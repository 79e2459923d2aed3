//! One node: a member, its disk and clock, and what physically runs beside it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tierce_ticket::command::Outcome;
use tierce_ticket::configuration::Role;
use tierce_ticket::ids::{MemberName, PersistId, RequestId, SessionId, StoreId, Term, TicketId};
use tierce_ticket::member::{Alarm, Effect, Member};
use tierce_ticket::message::{Envelope, Lane};
use tierce_ticket::time::HolderTime;
use tierce_wire::Version;

use crate::clock::Clock;
use crate::disk::Disk;

/// What physically runs at a node, whoever is alive there.
#[derive(Clone, Copy, Debug)]
pub struct Running {
    /// Term that it was started under.
    pub term: Term,
}

/// How long resources take to stop, of their stop budget.
#[derive(Clone, Copy, Debug)]
pub enum Stopping {
    /// Less than it.
    Within,
    /// All of it.
    AtBudget,
    /// Ten times as long.
    Beyond,
}

/// One node of one site, or an arbitrator's.
#[derive(Debug)]
pub struct Node {
    /// The member's name.
    pub name: MemberName,
    /// Its role.
    pub role: Role,
    /// Its clock.
    pub clock: Clock,
    /// The process; none while it is down.
    pub member: Option<Member>,
    /// The process does not run, the node does (SIGSTOP).
    pub frozen: bool,
    /// The whole guest is paused from outside: processes, guard, resources and clocks.
    pub paused: bool,
    /// Counts starts: events of an earlier life are void.
    pub life: u64,
    /// Its disk.
    pub disk: Disk,
    /// Wire version that it speaks at most.
    pub speaks: Version,
    /// Effects of its member that are not carried out yet.
    pub effects: VecDeque<Effect>,
    /// Messages that wait for a write.
    pub held: Vec<(PersistId, usize, Lane, Envelope)>,
    /// What runs.
    pub running: BTreeMap<TicketId, Running>,
    /// D as the guard was last told, on the node's own clock.
    pub guard_d: BTreeMap<TicketId, HolderTime>,
    /// D of the session.
    pub session_d: HolderTime,
    /// Tickets that `Lease` does not extend: they are being taken back.
    pub pinned: BTreeSet<TicketId>,
    /// How long its resources take to stop.
    pub stopping: Stopping,
    /// Its runner of resources answers nothing and stops nothing.
    pub hung: bool,
    /// What came while the process was frozen.
    pub inbox: Vec<(usize, u64, Envelope)>,
    /// Whose connection ended or was made anew while it could not be told.
    pub missed: BTreeSet<usize>,
    /// Outcomes of commands asked here.
    pub outcomes: BTreeMap<RequestId, Outcome>,
    /// Alarms raised.
    pub alarms: Vec<Alarm>,
    /// Whether its gates let tickets in.
    pub ready: bool,
    /// Its runner has not reported yet.
    pub silent: bool,
    /// Session of the last report.
    pub told_ready: Option<SessionId>,
    /// Only the newest timer counts.
    pub timer: u64,
}

impl Node {
    /// A node that is down and has an empty disk.
    pub fn new(name: MemberName, role: Role, clock: Clock, store: StoreId) -> Self {
        Self {
            name,
            role,
            clock,
            member: None,
            frozen: false,
            paused: false,
            life: 0,
            disk: Disk::new(store),
            speaks: Version::V2,
            effects: VecDeque::new(),
            held: Vec::new(),
            running: BTreeMap::new(),
            guard_d: BTreeMap::new(),
            session_d: HolderTime::default(),
            pinned: BTreeSet::new(),
            stopping: Stopping::Within,
            hung: false,
            inbox: Vec::new(),
            missed: BTreeSet::new(),
            outcomes: BTreeMap::new(),
            alarms: Vec::new(),
            ready: true,
            silent: false,
            told_ready: None,
            timer: 0,
        }
    }

    /// Whether its process runs now.
    pub fn acts(&self) -> bool {
        self.member.is_some() && !self.frozen && !self.paused
    }
}
