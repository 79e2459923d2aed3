//! One ticket on this node, as a state machine without clock, I/O or log call.
//!
//! What: it is given the holder's orders and the results of actions, and says what is to be done
//! next. It works towards a *goal* and not through a script: every input is followed by one look
//! at what is and what should be (`reconcile`), so a newer order supersedes an older one at any
//! point, and an order given twice does nothing twice. The failure prevented: a `Stopped` that is
//! said while something still runs, or a start that slips in behind a stop.
//!
//! Up: guard armed, resources in listed order, then the doors (address, route, names), then
//! `Started`. Down: doors shut, resources in reverse order, route withdrawn, guard disarmed,
//! `Stopped`; what was under way upwards is cancelled first.
//!
//! Invariants (tests below hold them after every step):
//! - `one-action`: a resource has at most one action at a time (so no monitor beside a stop).
//! - `stopped-means-stopped` (R17): `Stopped` only when every resource was confirmed not running
//!   and the doors were confirmed shut.
//! - `no-start-without-order` (R13): a start only while the goal is up, and only once the guard
//!   has acknowledged the ticket's term, where there is a guard.
//! - `terms-grow` (R18): an order with a lower term than one seen changes nothing.

mod next;
mod part;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use tierce_ticket::holder::StopReason;
use tierce_ticket::ids::Term;
use tierce_ticket::time::HolderTime;

pub(crate) use part::{Action, Part, PartPlan, PartState, Verdict};

use super::limits::{MIN_STOP, PROBE_FRESH, STOP_RETRY, STOP_RETRY_LATE};

/// What the machine has to know of the ticket's settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Resources in order of start.
    pub(crate) parts: Vec<PartPlan>,
    /// Whether there is an address, a route or a name to open.
    pub(crate) doors: bool,
    /// Whether the node guard has to know the ticket before anything starts.
    pub(crate) guarded: bool,
    /// loss-policy freeze: the end of the lease stops nothing.
    pub(crate) freeze: bool,
    /// Why nothing may be started with these settings, if so.
    pub(crate) forbidden: Option<String>,
    /// B of this ticket: from `by` until the last resort.
    pub(crate) stop_budget: Duration,
}

/// What may happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// Dependents may run.
    Run(Term),
    /// Dependents must stop; the guard steps in at `by`.
    Stop { term: Term, why: StopReason, by: HolderTime },
    /// The ticket is not this site's any more.
    Forget(Term),
    /// This site is named as successor.
    Prepare,
    /// An action ended.
    Acted { part: usize, serial: u64, verdict: Verdict },
    /// The doors are open, or why not.
    Opened { serial: u64, outcome: Result<(), String> },
    /// It cannot be held here: open doors turned out to be another's, the guard does not take it.
    Hopeless(String),
    /// The doors are shut, or why that is not known.
    Shut { serial: u64, outcome: Result<(), String> },
    /// The guard has acknowledged this term.
    Armed(Term),
    /// There is no guard at present.
    GuardLost,
    /// The guard has begun to stop this ticket by itself, or has ended doing so.
    GuardActed,
    /// Time passed.
    Tick,
}

/// What the driver has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Begin an action; its end comes back as [`Input::Acted`] with this serial, always.
    Act { part: usize, serial: u64, action: Action, timeout: Duration, term: Term },
    /// Kill the action that is under way; its end still comes back.
    Cancel { part: usize },
    /// Open the doors under this term.
    Open { serial: u64, term: Term },
    /// Shut them; an opening under way is cancelled first.
    Shut { serial: u64 },
    /// Withdraw the route.
    Withdraw,
    /// Have the guard know the ticket under this term.
    Arm(Term),
    /// Have it forget it.
    Disarm(Term),
    /// Tell the agent.
    Tell(Telling),
}

/// What the agent is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Telling {
    /// Everything runs and the doors are open.
    Started { term: Term, took: Duration },
    /// It does not, and will not without a new order.
    StartFailed { term: Term, why: String },
    /// Nothing runs, confirmed.
    Stopped { term: Term, took: Duration },
    /// Something may still run; it is being tried further.
    StopFailed { term: Term, why: String },
    /// The lease ended and, by policy, everything was left running.
    Frozen { term: Term },
    /// A line for the history.
    Note { part: usize, what: String },
}

/// What is worked for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Goal {
    /// After a start of the agent: what runs is left alone until then, so that an order finds it.
    Unknown { until: HolderTime },
    /// Everything runs.
    Up,
    /// What runs is left running, nothing is started.
    Frozen,
    /// Nothing runs. `ordered`: the holder waits to hear it.
    Down { reset_at: HolderTime, ordered: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    Unknown,
    Shut,
    Opening { serial: u64, term: Term },
    Open { term: Term },
    Shutting { serial: u64 },
    ShutFailed { retry_at: HolderTime },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watch {
    Off,
    Asked(Term),
    Armed(Term),
}

/// The state machine. See the module text.
#[derive(Debug)]
pub(crate) struct Machine {
    plan: Plan,
    parts: Vec<Part>,
    goal: Goal,
    term: Term,
    door: Door,
    watch: Watch,
    /// When the order in force came.
    since: HolderTime,
    /// The goal was reached and told.
    told: bool,
    /// Up was given up; only a new order changes that.
    gave_up: Option<String>,
    /// A failed stop was told; and again when the last resort was due.
    stop_failures_told: u8,
    serial: u64,
    effects: VecDeque<Effect>,
}

impl Machine {
    /// A ticket of which nothing is known; what runs is stopped at `until` unless an order comes.
    pub(crate) fn new(plan: Plan, now: HolderTime, until: HolderTime) -> Self {
        let parts = plan.parts.iter().map(|_| Part::default()).collect();
        let door = if plan.doors { Door::Unknown } else { Door::Shut };
        let mut machine = Self {
            plan,
            parts,
            goal: Goal::Unknown { until },
            term: Term(0),
            door,
            watch: Watch::Off,
            since: now,
            told: false,
            gave_up: None,
            stop_failures_told: 0,
            serial: 0,
            effects: VecDeque::new(),
        };
        machine.reconcile(now);
        machine
    }

    /// The newest term seen.
    pub(crate) fn term(&self) -> Term {
        self.term
    }

    /// The resources, in order of start.
    pub(crate) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Whether nothing runs and nothing is under way: settings may be exchanged.
    pub(crate) fn at_rest(&self) -> bool {
        let idle = |p: &Part| p.busy.is_none();
        matches!(self.goal, Goal::Down { .. }) && self.told && self.parts.iter().all(idle)
    }

    /// Whether the ticket is wanted up, so that its lease and doors are kept.
    pub(crate) fn wanted_up(&self) -> bool {
        matches!(self.goal, Goal::Up | Goal::Frozen)
    }

    /// Whether the end of the lease has left it running.
    pub(crate) fn frozen(&self) -> bool {
        self.goal == Goal::Frozen
    }

    /// Whether the guard has acknowledged the term in force.
    pub(crate) fn armed(&self) -> bool {
        self.watch == Watch::Armed(self.term)
    }

    /// Whether the doors are open.
    pub(crate) fn open(&self) -> bool {
        matches!(self.door, Door::Open { .. })
    }

    /// A word for status.
    pub(crate) fn phase(&self) -> &'static str {
        match (&self.goal, self.told, &self.gave_up) {
            (Goal::Unknown { .. }, ..) => "looking",
            (Goal::Up, _, Some(_)) => "failed",
            (Goal::Up, true, None) => "running",
            (Goal::Up, false, None) => "starting",
            (Goal::Frozen, ..) => "frozen",
            (Goal::Down { .. }, true, _) => "stopped",
            (Goal::Down { .. }, false, _) if self.stop_failures_told > 0 => "stop-failed",
            (Goal::Down { .. }, false, _) => "stopping",
        }
    }

    /// Why it was given up, if so.
    pub(crate) fn gave_up(&self) -> Option<&str> {
        self.gave_up.as_deref()
    }

    /// Exchanges the settings of a ticket at rest.
    pub(crate) fn replace(&mut self, plan: Plan) {
        assert!(self.at_rest(), "settings are exchanged only while nothing runs");
        self.parts = plan.parts.iter().map(|_| Part::default()).collect();
        self.door = if plan.doors { Door::Unknown } else { Door::Shut };
        self.plan = plan;
    }

    /// The next thing to do, oldest first.
    pub(crate) fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When [`Input::Tick`] is wanted at the latest.
    pub(crate) fn poll_deadline(&self) -> Option<HolderTime> {
        let retries = self.parts.iter().filter(|p| p.busy.is_none()).filter_map(|p| p.retry_at);
        match &self.goal {
            Goal::Unknown { until } => Some(*until),
            Goal::Up if self.gave_up.is_some() => None,
            Goal::Up | Goal::Frozen => {
                let due = |(p, plan): (&Part, &PartPlan)| p.monitor_due(plan);
                self.parts.iter().zip(&self.plan.parts).filter_map(due).chain(retries).min()
            }
            Goal::Down { .. } if self.told => None,
            Goal::Down { reset_at, .. } => {
                let door = match self.door {
                    Door::ShutFailed { retry_at } => Some(retry_at),
                    _ => None,
                };
                let late = (self.stop_failures_told < 2).then_some(*reset_at);
                retries.chain(door).chain(late).min()
            }
        }
    }

    /// Hands one input over. Effects are drained by [`Self::poll_effect`] after every step.
    pub(crate) fn step(&mut self, now: HolderTime, input: Input) {
        match input {
            Input::Run(term) => self.run(now, term),
            Input::Stop { term, why, by } => self.stop(now, term, &why, by),
            Input::Forget(term) => {
                if term >= self.term && self.wanted_up() {
                    self.go_down(now, now, true); // a ticket that is not ours has no lease
                }
            }
            Input::Prepare => self.prepare(now),
            Input::Acted { part, serial, verdict } => self.acted(now, part, serial, verdict),
            Input::Opened { serial, outcome } => self.opened(serial, outcome),
            Input::Hopeless(why) => {
                if self.goal == Goal::Up {
                    self.give_up(why);
                }
            }
            Input::Shut { serial, outcome } => self.shut(now, serial, outcome),
            Input::Armed(term) => {
                if self.watch == Watch::Asked(term) {
                    self.watch = Watch::Armed(term);
                }
            }
            Input::GuardLost => self.watch = Watch::Off,
            Input::GuardActed => {
                self.watch = Watch::Off;
                for part in &mut self.parts {
                    part.forget();
                }
                if self.plan.doors && matches!(self.door, Door::Open { .. } | Door::Shut) {
                    self.door = Door::Unknown;
                }
                self.told &= !self.wanted_up(); // up has to be reached, and told, again
            }
            Input::Tick => {}
        }
        self.reconcile(now);
    }

    // ---- orders -------------------------------------------------------------------------------

    fn run(&mut self, now: HolderTime, term: Term) {
        let same = term == self.term && self.gave_up.is_none();
        if term < self.term || (same && self.goal == Goal::Up) {
            return;
        }
        if !self.wanted_up() {
            for part in &mut self.parts {
                part.begin(now, PROBE_FRESH);
            }
        }
        let resumed = self.goal == Goal::Frozen && same;
        self.goal = Goal::Up;
        self.term = term;
        self.gave_up = None;
        self.told = false;
        if !resumed {
            self.since = now;
        }
    }

    fn stop(&mut self, now: HolderTime, term: Term, why: &StopReason, by: HolderTime) {
        if term < self.term {
            return;
        }
        let up = self.wanted_up() || matches!(self.goal, Goal::Unknown { .. });
        self.term = term;
        if up && self.plan.freeze && *why == StopReason::LeaseEnding {
            if self.goal != Goal::Frozen {
                self.goal = Goal::Frozen;
                self.tell(Telling::Frozen { term });
            }
            return;
        }
        let reset_at = by + self.plan.stop_budget;
        let known = self.parts.iter().all(|p| p.state == PartState::Stopped);
        let (at_rest, shut) = (self.at_rest(), self.door == Door::Shut);
        match &mut self.goal {
            Goal::Down { reset_at: at, ordered } if !self.told => {
                (*at, *ordered) = (reset_at, true);
            }
            Goal::Down { .. } if at_rest && known && shut => {
                self.tell(Telling::Stopped { term, took: Duration::ZERO });
            }
            _ => self.go_down(now, reset_at, true),
        }
    }

    fn go_down(&mut self, now: HolderTime, reset_at: HolderTime, ordered: bool) {
        self.goal = Goal::Down { reset_at, ordered };
        self.since = now;
        self.told = false;
        self.gave_up = None;
        self.stop_failures_told = 0;
        for part in &mut self.parts {
            part.retry_at = None;
            part.stop_failed = false;
            part.redo = false;
        }
    }

    /// Probes ahead of the grant, so that the start need not.
    fn prepare(&mut self, now: HolderTime) {
        if !self.at_rest() {
            return;
        }
        for index in 0..self.parts.len() {
            self.act(now, index, Action::Probe);
        }
    }

    // ---- results ------------------------------------------------------------------------------

    fn acted(&mut self, now: HolderTime, index: usize, serial: u64, verdict: Verdict) {
        let Some(part) = self.parts.get_mut(index) else { return };
        let Some(busy) = part.busy.take_if(|busy| busy.serial == serial) else { return };
        part.retry_at = None;
        part.last = verdict.words(busy.action);
        let mut failure = None;
        match (busy.action, verdict) {
            (Action::Probe, Verdict::Ok) if part.stop_verify => {
                part.state = PartState::Running;
                failure = Some(("it still runs after a stop".to_owned(), false));
            }
            (Action::Probe | Action::Monitor, Verdict::Ok) => part.seen_running(now),
            (Action::Probe, Verdict::NotRunning) => part.seen_stopped(now),
            (Action::Start, Verdict::Ok) => {
                part.seen_running(now);
                self.note(index, "started");
            }
            (Action::Stop, Verdict::Ok | Verdict::NotRunning) => {
                part.seen_stopped(now);
                self.note(index, "stopped");
            }
            (Action::Probe, Verdict::Failed { why, .. }) => {
                // A failed stop is followed by a probe; any other probe may be repaired by a stop.
                part.state = PartState::Failed;
                failure = Some((why, false));
            }
            (Action::Monitor, Verdict::NotRunning) => {
                part.state = PartState::Failed;
                failure = Some(("monitor: it is not running".to_owned(), false));
            }
            (Action::Start, Verdict::NotRunning) => {
                part.state = PartState::Failed;
                failure = Some(("start ended without it running".to_owned(), false));
            }
            (Action::Monitor | Action::Start, Verdict::Failed { why, fatal }) => {
                part.state = PartState::Failed;
                failure = Some((why, fatal));
            }
            (Action::Stop, Verdict::Failed { why, .. }) => {
                part.state = PartState::Failed;
                part.stop_verify = true;
                failure = Some((why, true));
            }
            (Action::Monitor, Verdict::Cancelled) => {}
            (_, Verdict::Cancelled) => part.state = PartState::Unknown,
        }
        if let Some((why, fatal)) = failure {
            self.part_failed(now, index, busy.action, &why, fatal);
        }
        let runs = matches!(self.parts[index].state, PartState::Running | PartState::Failed);
        if runs && self.told && matches!(self.goal, Goal::Down { .. }) {
            self.note(index, "runs without a ticket: it is stopped");
            self.go_down(now, now, false);
        }
    }

    fn part_failed(
        &mut self,
        now: HolderTime,
        index: usize,
        action: Action,
        why: &str,
        fatal: bool,
    ) {
        let plan = &self.plan.parts[index];
        let (name, restarts) = (plan.name.clone(), plan.restarts);
        let part = &mut self.parts[index];
        part.failures += 1;
        self.note(index, &format!("{action} failed: {why}"));
        match (&self.goal, action) {
            // Down: a failed stop is verified first, then repeated.
            (Goal::Down { .. }, Action::Stop) => {}
            (Goal::Down { reset_at, .. }, _) => {
                let pause = if now < *reset_at { STOP_RETRY } else { STOP_RETRY_LATE };
                let part = &mut self.parts[index];
                if part.stop_verify {
                    part.stop_verify = false;
                    part.stop_failed = true;
                    part.retry_at = Some(now + pause);
                    let last = part.stop_words.clone();
                    self.stop_failed(&format!("{name} does not stop: {last}"));
                }
            }
            (Goal::Up, Action::Stop) => {
                self.parts[index].stop_verify = false;
                self.give_up(format!("{name} failed and does not stop: {why}"));
            }
            (Goal::Up, Action::Probe | Action::Start | Action::Monitor) => {
                let part = &mut self.parts[index];
                part.restarts += 1;
                part.failed_at = Some(now);
                if fatal || part.restarts > restarts {
                    let times = part.restarts;
                    self.give_up(format!("{name}: {action} failed ({why}), failure {times}"));
                } else {
                    // What came after it depends on it: all of that is stopped first.
                    for part in &mut self.parts[index..] {
                        part.redo |= part.state != PartState::Stopped;
                    }
                }
            }
            _ => {}
        }
        if action == Action::Stop {
            why.clone_into(&mut self.parts[index].stop_words);
        }
    }

    fn opened(&mut self, serial: u64, outcome: Result<(), String>) {
        let Door::Opening { serial: asked, term } = self.door else { return };
        if asked != serial {
            return;
        }
        match outcome {
            Ok(()) => self.door = Door::Open { term },
            Err(why) => {
                self.door = Door::Unknown; // half open is not shut
                if self.goal == Goal::Up {
                    self.give_up(format!("the service address did not open: {why}"));
                }
            }
        }
    }

    fn shut(&mut self, now: HolderTime, serial: u64, outcome: Result<(), String>) {
        if self.door != (Door::Shutting { serial }) {
            return;
        }
        match outcome {
            Ok(()) => self.door = Door::Shut,
            Err(why) => {
                self.door = Door::ShutFailed { retry_at: now + STOP_RETRY };
                if matches!(self.goal, Goal::Down { .. }) {
                    self.stop_failed(&format!(
                        "the service address is not known to be shut: {why}"
                    ));
                }
            }
        }
    }

    // ---- small steps --------------------------------------------------------------------------

    /// Begins an action, unless one is under way (`one-action`).
    fn act(&mut self, now: HolderTime, index: usize, action: Action) {
        if self.parts[index].busy.is_some() {
            return;
        }
        if action == Action::Start {
            assert_eq!(self.goal, Goal::Up, "no-start-without-order (R13)");
            assert!(!self.plan.guarded || self.armed(), "no-start-without-order: guard");
        }
        let plan = &self.plan.parts[index];
        let timeout = match (action, &self.goal) {
            (Action::Start, _) => plan.start_timeout,
            (Action::Stop, Goal::Down { reset_at, .. }) if now < *reset_at => {
                plan.stop_timeout.min(reset_at.since(now)).max(MIN_STOP)
            }
            (Action::Stop, _) => plan.stop_timeout,
            (Action::Probe, Goal::Down { .. }) => plan.monitor_timeout.min(plan.stop_timeout),
            (Action::Probe | Action::Monitor, _) => plan.monitor_timeout,
        };
        let serial = self.next_serial();
        let part = &mut self.parts[index];
        part.busy = Some(part::Busy { action, serial, cancelled: false });
        if matches!(action, Action::Start | Action::Stop) {
            part.state = PartState::Unknown; // from here on it may be either
        }
        let term = self.term;
        self.effects.push_back(Effect::Act { part: index, serial, action, timeout, term });
    }

    fn cancel(&mut self, index: usize) {
        if let Some(busy) = &mut self.parts[index].busy
            && !busy.cancelled
        {
            busy.cancelled = true;
            self.effects.push_back(Effect::Cancel { part: index });
        }
    }

    fn give_up(&mut self, why: String) {
        let term = self.term;
        self.gave_up = Some(why.clone());
        self.tell(Telling::StartFailed { term, why });
    }

    fn stop_failed(&mut self, why: &str) {
        if self.stop_failures_told == 0 {
            self.stop_failures_told = 1;
            self.tell(Telling::StopFailed { term: self.term, why: why.to_owned() });
        }
    }

    fn note(&mut self, part: usize, what: &str) {
        self.tell(Telling::Note { part, what: what.to_owned() });
    }

    fn tell(&mut self, telling: Telling) {
        self.effects.push_back(Effect::Tell(telling));
    }

    fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }
}
