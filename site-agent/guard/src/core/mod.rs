//! The deadline keeper as a state machine: no clock, no I/O, no allocation after `new`.
//!
//! What: per ticket it knows the moment at which dependents must begin to stop (`stop_at`, that is
//! D − W − B of tickets.md) and the deadline D itself. Why: the agent promises to stop dependents
//! in time, but an agent can be killed, frozen or starved; then somebody else on this node must
//! keep its promise, or two sites run the same service. The failure prevented is exactly that one.
//!
//! Order of events for one ticket: *armed* → (not renewed, `stop_at` passes) *running* its stop
//! command → (confirmed) *idle*, or (D − W passes unconfirmed) *reset*. A reset is asked for once
//! per ticket; afterwards the watchdog is never petted again unless the last resort reports that
//! the dependents are dead without the node being so.
//!
//! Invariants (the property test below holds a deliberately dumb twin against them):
//! - `never-late`: after a tick at `now`, no ticket with `now ≥ D − W` is armed or running.
//! - `never-early`: no stop command is run while `now < stop_at`; no reset while `now < D − W`.
//! - `pet-in-time` (R14): a pet at `t` implies `t + watchdog timeout ≤ D` for every armed ticket.
//! - `extend-only`: no input brings the deadline of an armed ticket nearer.
//! - `terms-grow`: an input that carries a lower term than one seen changes nothing.
//!
//! One renewal covers all tickets of a site, so [`Input::ArmAll`] costs the same for one ticket
//! and for 10,000: the common lease stands beside the table and each entry says whether it
//! follows it. What is cached (`soonest`) is only ever a lower bound: too early costs one scan,
//! too late cannot happen.

mod table;
#[cfg(test)]
mod tests;

use crate::limits::{
    MAX_EFFECTS, MAX_LEASE, MAX_PARALLEL_STOPS, MAX_PET_SPACING, MIN_PET_SPACING, STOP_RETRY,
};
use std::collections::VecDeque;
use std::time::Duration;
use table::Table;
pub use table::{Phase, Slot, SlotId};

/// A ticket as the agent numbers it; unique within the site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ticket(pub u32);

/// The fencing token of a grant. Strictly growing per ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Term(pub u64);

/// An instant of `CLOCK_BOOTTIME` on this node, in nanoseconds. It counts through suspend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BootTime(pub u64);

impl BootTime {
    /// Later than anything that can be waited for.
    pub const NEVER: Self = Self(u64::MAX);

    /// This instant moved into the future; never wraps.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(nanos(span)))
    }

    /// This instant moved into the past; never wraps.
    #[must_use]
    pub fn before(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(span)))
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// Until when dependents may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lease {
    /// D − W − B: an unrenewed ticket begins to be stopped here.
    pub stop_at: BootTime,
    /// D: nothing may run from here on.
    pub deadline: BootTime,
}

impl Lease {
    fn extended(self, other: Self) -> Self {
        Self {
            stop_at: self.stop_at.max(other.stop_at),
            deadline: self.deadline.max(other.deadline),
        }
    }
}

/// What may happen to the guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// Guard this ticket until these instants, or extend it.
    Arm {
        /// Which ticket.
        ticket: Ticket,
        /// Under which grant.
        term: Term,
        /// Until when.
        lease: Lease,
    },
    /// Extend every armed ticket that is not pinned.
    ArmAll {
        /// Until when.
        lease: Lease,
    },
    /// The ticket is being taken back: it keeps its present lease whatever is renewed.
    Pin {
        /// Which ticket.
        ticket: Ticket,
        /// Under which grant.
        term: Term,
    },
    /// The agent has stopped the dependents and confirmed it.
    Disarm {
        /// Which ticket.
        ticket: Ticket,
        /// Under which grant (this one or a newer).
        term: Term,
    },
    /// The agent's connection ended. Changes no deadline: it may be back within the lease.
    AgentGone,
    /// The agent is connected (again).
    AgentBack,
    /// A stop command ended.
    StopDone {
        /// Which ticket.
        ticket: Ticket,
        /// The term it was run for.
        term: Term,
        /// It said that the dependents are stopped.
        ok: bool,
    },
    /// The last resort killed the dependents of this ticket and the node lives on.
    Killed {
        /// Which ticket.
        ticket: Ticket,
        /// The term of the reset.
        term: Term,
    },
    /// Time passed. Given after all pending input has been given: renewals go before verdicts.
    Tick,
}

/// What became of an input; travels back to the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Taken.
    Done,
    /// A lower term than one already seen: nothing changed.
    StaleTerm,
    /// The lease was extended, but the guard has already begun to stop this ticket.
    Stopping,
    /// A newer grant cannot be armed before the stop of the older one is confirmed.
    Busy,
    /// No stop command is registered for the ticket: it is not guarded.
    NoStopCommand,
    /// `stop_at` after D − W, or a deadline beyond the longest lease: nothing changed.
    BadTimes,
}

/// Why a reset is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The stop command was still running at D − W.
    StopHung,
    /// The stop command ended with an error and time is up.
    StopFailed,
    /// D − W had passed before a stop could begin: the guard itself was held up.
    Overslept,
}

impl Reason {
    /// The word for logs and recordings.
    pub fn word(self) -> &'static str {
        match self {
            Self::StopHung => "stop-hung",
            Self::StopFailed => "stop-failed",
            Self::Overslept => "overslept",
        }
    }
}

/// What the driver tells agent, log and event file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// The guard stopped the dependents itself.
    Stopped {
        /// Which ticket.
        ticket: Ticket,
        /// Under which grant.
        term: Term,
    },
    /// A stop command failed; it will be run again until the reset is due.
    StopFailed {
        /// Which ticket.
        ticket: Ticket,
        /// Under which grant.
        term: Term,
    },
    /// The agent's connection ended while this many tickets are guarded.
    AgentGone {
        /// Tickets armed or being stopped.
        guarded: u32,
    },
    /// The agent is connected again.
    AgentBack {
        /// Tickets armed or being stopped.
        guarded: u32,
    },
}

/// What the driver has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Run the stop command of this ticket.
    RunStop {
        /// Which ticket.
        ticket: Ticket,
        /// Under which grant.
        term: Term,
    },
    /// The last resort, now.
    Reset {
        /// Which ticket.
        ticket: Ticket,
        /// Under which grant.
        term: Term,
        /// Why.
        reason: Reason,
    },
    /// Tell the watchdog that the node is in order.
    PetWatchdog,
    /// Tell people.
    Report(Report),
}

/// Totals for status lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Tickets armed and quiet.
    pub armed: u32,
    /// Tickets whose stop was begun by the guard and is not confirmed.
    pub stopping: u32,
    /// Tickets for which a reset was asked.
    pub reset: u32,
}

/// The state machine. See the module text.
#[derive(Debug)]
pub struct Guard {
    table: Table,
    /// W: how long before the deadline the last resort is taken.
    margin: Duration,
    watchdog: Option<Duration>,
    common: Lease,
    /// Counts `ArmAll`: an entry follows only those that came after its own arming.
    renewals: u64,
    counts: Counts,
    /// Stop commands running, and failed ones waiting to run again.
    unsettled: u32,
    running: usize,
    /// Lower bounds over all guarded entries, and over the pinned ones alone.
    soonest: Lease,
    soonest_pinned: Lease,
    next_pet: BootTime,
    effects: VecDeque<Effect>,
}

const NEVER: Lease = Lease { stop_at: BootTime::NEVER, deadline: BootTime::NEVER };

impl Guard {
    /// A guard for at most `max_tickets`; `watchdog` is the timeout of the device that is petted.
    pub fn new(max_tickets: usize, watchdog: Option<Duration>) -> Self {
        Self {
            table: Table::new(max_tickets),
            margin: Duration::ZERO,
            watchdog,
            common: Lease::default(),
            renewals: 0,
            counts: Counts::default(),
            unsettled: 0,
            running: 0,
            soonest: NEVER,
            soonest_pinned: NEVER,
            next_pet: BootTime(0),
            effects: VecDeque::with_capacity(MAX_EFFECTS),
        }
    }

    /// Sets W. Refused (`false`) where the watchdog could not fire between its last pet and D.
    pub fn set_margin(&mut self, margin: Duration) -> bool {
        if self.watchdog.is_some_and(|timeout| timeout > margin) {
            return false; // I2: W covers the watchdog
        }
        self.margin = margin;
        if self.guarded() > 0 {
            self.soonest.stop_at = BootTime(0); // every reset moved: look again
        }
        true
    }

    /// Makes room for a ticket whose stop command is being registered. `None`: the table is full
    /// of guarded tickets. The flag says that the place held another ticket or none before.
    pub fn admit(&mut self, ticket: Ticket) -> Option<(SlotId, bool)> {
        self.table.admit(ticket)
    }

    /// Where a ticket's side data lies.
    pub fn slot_of(&self, ticket: Ticket) -> Option<SlotId> {
        self.table.find(ticket)
    }

    /// Totals.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Tickets that are armed or being stopped.
    pub fn guarded(&self) -> u32 {
        self.counts.armed + self.counts.stopping
    }

    /// The soonest instants over all guarded tickets: lower bounds, for status lines.
    pub fn soonest(&self) -> Lease {
        self.soonest
    }

    /// Known tickets at or after `from`, in ascending order, with lease and state word.
    pub fn list(&self, from: Ticket) -> impl Iterator<Item = (&Slot, Lease)> + '_ {
        self.table.from(from).map(|slot| (slot, self.lease(slot)))
    }

    /// When [`Input::Tick`] is wanted at the latest.
    pub fn poll_deadline(&self) -> BootTime {
        let pet = if self.watchdog.is_some() { self.next_pet } else { BootTime::NEVER };
        self.soonest.stop_at.min(pet)
    }

    /// The next thing to do, oldest first.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Hands one input over. Effects are drained by [`Self::poll_effect`] after every step.
    pub fn step(&mut self, now: BootTime, input: Input) -> Verdict {
        match input {
            Input::Arm { ticket, term, lease } => return self.arm(now, ticket, term, lease),
            Input::ArmAll { lease } => return self.arm_all(now, lease),
            Input::Pin { ticket, term } => return self.pin(ticket, term),
            Input::Disarm { ticket, term } => return self.disarm(ticket, term),
            Input::StopDone { ticket, term, ok } => self.stop_done(now, ticket, term, ok),
            Input::Killed { ticket, term } => self.killed(ticket, term),
            Input::AgentGone => self.report(Report::AgentGone { guarded: self.guarded() }),
            Input::AgentBack => self.report(Report::AgentBack { guarded: self.guarded() }),
            Input::Tick => self.tick(now),
        }
        Verdict::Done
    }

    // ---- arming -------------------------------------------------------------------------------

    fn sane(&self, now: BootTime, lease: Lease) -> bool {
        lease.stop_at <= lease.deadline.before(self.margin)
            && lease.deadline <= now.after(MAX_LEASE)
    }

    fn arm(&mut self, now: BootTime, ticket: Ticket, term: Term, lease: Lease) -> Verdict {
        let Some(id) = self.table.find(ticket) else { return Verdict::NoStopCommand };
        if !self.sane(now, lease) {
            return Verdict::BadTimes;
        }
        let old = self.lease(self.table.get(id));
        let slot = self.table.get_mut(id);
        if term < slot.term {
            return Verdict::StaleTerm;
        }
        let stopping = matches!(slot.phase, Phase::Running | Phase::Failed { .. });
        if slot.phase == Phase::Reset || (stopping && term > slot.term) {
            return Verdict::Busy;
        }
        if slot.phase == Phase::Idle {
            slot.own = lease;
            slot.follows = true;
            slot.since = self.renewals;
            slot.phase = Phase::Armed;
            self.counts.armed += 1;
        } else {
            slot.own = old.extended(lease); // extend-only
            if term > slot.term {
                slot.follows = true; // a new grant is not the one that was being taken back
                slot.since = self.renewals;
            }
        }
        slot.term = term;
        let (own, pinned) = (slot.own, !slot.follows);
        lower(&mut self.soonest, own);
        if pinned {
            lower(&mut self.soonest_pinned, own);
        }
        if stopping { Verdict::Stopping } else { Verdict::Done }
    }

    fn arm_all(&mut self, now: BootTime, lease: Lease) -> Verdict {
        if !self.sane(now, lease) {
            return Verdict::BadTimes;
        }
        if self.common.extended(lease) != lease {
            self.leave_common();
        }
        self.common = lease;
        self.renewals += 1;
        // Every follower now reaches at least the common lease, so it is their lower bound.
        self.soonest = self.soonest_pinned;
        if self.guarded() > 0 {
            lower(&mut self.soonest, self.common);
        }
        if self.unsettled > 0 {
            self.soonest.stop_at = BootTime(0); // retries have instants of their own: look again
        }
        Verdict::Done
    }

    /// The rare renewal that reaches less far than one before: every follower takes with it what it
    /// has, so that those armed in between are given no more than they were ever told.
    fn leave_common(&mut self) {
        for id in self.table.ids() {
            let lease = self.lease(self.table.get(id));
            let since = self.renewals;
            let slot = self.table.get_mut(id);
            slot.own = lease;
            slot.since = since;
        }
    }

    fn pin(&mut self, ticket: Ticket, term: Term) -> Verdict {
        let Some(id) = self.table.find(ticket) else { return Verdict::NoStopCommand };
        let lease = self.lease(self.table.get(id));
        let slot = self.table.get_mut(id);
        if term < slot.term {
            return Verdict::StaleTerm;
        }
        slot.own = lease;
        slot.follows = false;
        if slot.phase.guarded() {
            lower(&mut self.soonest_pinned, lease);
            lower(&mut self.soonest, lease);
        }
        Verdict::Done
    }

    fn disarm(&mut self, ticket: Ticket, term: Term) -> Verdict {
        let Some(id) = self.table.find(ticket) else { return Verdict::Done };
        let slot = self.table.get(id);
        if term < slot.term {
            return Verdict::StaleTerm;
        }
        if slot.phase == Phase::Reset {
            return Verdict::Busy; // asked for already; it cannot be taken back
        }
        self.settle(id, Phase::Idle);
        self.table.get_mut(id).term = term;
        Verdict::Done
    }

    // ---- answers of the driver ----------------------------------------------------------------

    fn stop_done(&mut self, now: BootTime, ticket: Ticket, term: Term, ok: bool) {
        let Some(id) = self.table.find(ticket) else { return };
        let slot = self.table.get(id);
        if slot.phase != Phase::Running || slot.term != term {
            return; // disarmed or reset meanwhile
        }
        if ok {
            self.settle(id, Phase::Idle);
            self.report(Report::Stopped { ticket, term });
        } else {
            self.settle(id, Phase::Failed { retry_at: now.after(STOP_RETRY) });
            self.report(Report::StopFailed { ticket, term });
        }
        self.soonest.stop_at = BootTime(0); // a runner is free, or a retry is to be timed
    }

    fn killed(&mut self, ticket: Ticket, term: Term) {
        let Some(id) = self.table.find(ticket) else { return };
        let slot = self.table.get(id);
        if slot.phase == Phase::Reset && slot.term == term {
            self.settle(id, Phase::Idle);
        }
    }

    // ---- time ---------------------------------------------------------------------------------

    fn tick(&mut self, now: BootTime) {
        if now >= self.soonest.stop_at {
            self.scan(now);
        }
        let Some(timeout) = self.watchdog else { return };
        if now < self.next_pet {
            return;
        }
        self.next_pet = now.after((timeout / 4).clamp(MIN_PET_SPACING, MAX_PET_SPACING));
        if now.after(timeout) > self.soonest.deadline {
            self.scan(now); // the bound may be stale: look before withholding
        }
        // R14: the last pet is such that the hardware fires before the soonest deadline.
        if self.counts.reset == 0 && now.after(timeout) <= self.soonest.deadline {
            self.push(Effect::PetWatchdog);
        }
    }

    /// Looks at every ticket: stops what is due, resets what is overdue, computes exact bounds.
    fn scan(&mut self, now: BootTime) {
        let mut soonest = NEVER;
        let mut pinned = NEVER;
        for id in self.table.ids() {
            let slot = *self.table.get(id);
            if !slot.phase.guarded() {
                continue;
            }
            let lease = self.lease(&slot);
            let reset_at = lease.deadline.before(self.margin);
            let room = self.effects.len() + 4 < MAX_EFFECTS;
            let wake = if now >= reset_at {
                if room {
                    self.reset(id, &slot);
                    continue;
                }
                now
            } else {
                match slot.phase {
                    Phase::Armed if now < lease.stop_at => lease.stop_at,
                    // A lease that was renewed meanwhile is valid: no second try before its end.
                    Phase::Failed { retry_at } if now < retry_at.max(lease.stop_at) => {
                        retry_at.max(lease.stop_at).min(reset_at)
                    }
                    Phase::Running => reset_at,
                    _ if !room => now,
                    _ if self.running >= MAX_PARALLEL_STOPS => reset_at, // woken by StopDone
                    _ => {
                        self.settle(id, Phase::Running);
                        self.push(Effect::RunStop { ticket: slot.ticket, term: slot.term });
                        reset_at
                    }
                }
            };
            let bound = Lease { stop_at: wake, deadline: lease.deadline };
            lower(&mut soonest, bound);
            if !slot.follows {
                lower(&mut pinned, bound);
            }
        }
        self.soonest = soonest;
        self.soonest_pinned = pinned;
    }

    fn reset(&mut self, id: SlotId, slot: &Slot) {
        let reason = match slot.phase {
            Phase::Running => Reason::StopHung,
            Phase::Failed { .. } => Reason::StopFailed,
            _ => Reason::Overslept,
        };
        self.settle(id, Phase::Reset);
        self.push(Effect::Reset { ticket: slot.ticket, term: slot.term, reason });
    }

    // ---- bookkeeping --------------------------------------------------------------------------

    /// The lease in force: the entry's own, or the common one where it follows and is later.
    fn lease(&self, slot: &Slot) -> Lease {
        if slot.follows && self.renewals > slot.since {
            slot.own.extended(self.common)
        } else {
            slot.own
        }
    }

    /// Moves an entry to another phase and keeps every count true.
    fn settle(&mut self, id: SlotId, next: Phase) {
        let slot = self.table.get_mut(id);
        let old = std::mem::replace(&mut slot.phase, next);
        for (phase, add) in [(old, false), (next, true)] {
            let (armed, stopping, reset) = match phase {
                Phase::Idle => (0, 0, 0),
                Phase::Armed => (1, 0, 0),
                Phase::Running | Phase::Failed { .. } => (0, 1, 0),
                Phase::Reset => (0, 0, 1),
            };
            let running = usize::from(phase == Phase::Running);
            if add {
                self.counts.armed += armed;
                self.counts.stopping += stopping;
                self.counts.reset += reset;
                self.unsettled += stopping;
                self.running += running;
            } else {
                assert!(self.counts.armed >= armed && self.counts.stopping >= stopping);
                assert!(self.counts.reset >= reset && self.running >= running);
                self.counts.armed -= armed;
                self.counts.stopping -= stopping;
                self.counts.reset -= reset;
                self.unsettled -= stopping;
                self.running -= running;
            }
        }
    }

    fn report(&mut self, report: Report) {
        self.push(Effect::Report(report));
    }

    fn push(&mut self, effect: Effect) {
        // The driver drains after every step, and a scan leaves room: growth would be a fault.
        assert!(self.effects.len() < MAX_EFFECTS, "effects are drained after every step");
        self.effects.push_back(effect);
    }
}

fn lower(bound: &mut Lease, by: Lease) {
    bound.stop_at = bound.stop_at.min(by.stop_at);
    bound.deadline = bound.deadline.min(by.deadline);
}
