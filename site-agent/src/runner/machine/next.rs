//! What is next: one look at what is and what should be, after every input.

use tierce_ticket::ids::Term;
use tierce_ticket::time::HolderTime;

use super::{Action, Door, Effect, Goal, Machine, Part, PartState, Telling, Watch};

impl Machine {
    pub(super) fn reconcile(&mut self, now: HolderTime) {
        match self.goal.clone() {
            Goal::Unknown { until } => self.reconcile_unknown(now, until),
            Goal::Up => self.reconcile_up(now),
            Goal::Frozen => self.monitor(now),
            Goal::Down { reset_at, ordered } => self.reconcile_down(now, reset_at, ordered),
        }
    }

    fn reconcile_unknown(&mut self, now: HolderTime, until: HolderTime) {
        self.probe_unknown(now);
        let stopped = |p: &Part| p.state == PartState::Stopped && p.busy.is_none();
        if now >= until {
            self.go_down(now, now, false);
            self.reconcile(now);
        } else if self.door == Door::Shut && self.parts.iter().all(stopped) {
            self.goal = Goal::Down { reset_at: now, ordered: false };
            self.told = true;
        }
    }

    fn reconcile_up(&mut self, now: HolderTime) {
        if self.gave_up.is_some() {
            return;
        }
        if let Some(why) = self.plan.forbidden.clone() {
            return self.give_up(why);
        }
        let term = self.term;
        if self.plan.guarded && self.watch != Watch::Asked(term) && !self.armed() {
            self.watch = Watch::Asked(term);
            self.effects.push_back(Effect::Arm(term));
        }
        self.monitor(now);
        if !self.all_running(now) || !self.opened_under(term) || self.told {
            return;
        }
        self.told = true;
        self.tell(Telling::Started { term, took: now.since(self.since) });
    }

    /// Brings the resources up, one after the other; `true` when all run.
    fn all_running(&mut self, now: HolderTime) -> bool {
        // First what a failure has left to be stopped, last first.
        if let Some(index) = (0..self.parts.len()).rev().find(|i| self.parts[*i].redo) {
            match self.parts[index].busy.as_ref().map(|busy| busy.action) {
                Some(Action::Stop) => {}
                Some(_) => self.cancel(index),
                None => self.act(now, index, Action::Stop),
            }
            return false;
        }
        self.probe_unknown(now);
        let may_start = !self.plan.guarded || self.armed();
        for index in 0..self.parts.len() {
            let part = &self.parts[index];
            match part.state {
                PartState::Running => {}
                _ if part.busy.is_some() => return false,
                PartState::Stopped if may_start => {
                    self.act(now, index, Action::Start);
                    return false;
                }
                PartState::Failed => {
                    // Left behind by an earlier order: stopped before it is started.
                    self.parts[index].redo = true;
                    return self.all_running(now);
                }
                PartState::Stopped | PartState::Unknown => return false,
            }
        }
        // What runs without the guard's knowledge may go on, but its doors are not opened anew.
        may_start || matches!(self.door, Door::Open { .. })
    }

    fn opened_under(&mut self, term: Term) -> bool {
        match self.door {
            _ if !self.plan.doors => true,
            Door::Open { term: under } if under == term => true,
            Door::Opening { .. } | Door::Shutting { .. } => false,
            Door::Open { .. } | Door::Unknown | Door::Shut | Door::ShutFailed { .. } => {
                let serial = self.next_serial();
                self.door = Door::Opening { serial, term };
                self.effects.push_back(Effect::Open { serial, term });
                false
            }
        }
    }

    fn reconcile_down(&mut self, now: HolderTime, reset_at: HolderTime, ordered: bool) {
        if self.told {
            return;
        }
        // What is under way upwards ends now.
        for index in 0..self.parts.len() {
            let upwards = self.parts[index].busy.as_ref().is_some_and(|busy| {
                matches!(busy.action, Action::Start | Action::Monitor)
                    || (busy.action == Action::Probe && !self.parts[index].stop_verify)
            });
            if upwards {
                self.cancel(index);
            }
        }
        self.shut_door(now);
        if matches!(self.door, Door::Shutting { .. }) && self.stop_failures_told == 0 {
            return; // the gate shuts first; a gate that does not is no reason to wait twice
        }
        for index in (0..self.parts.len()).rev() {
            let part = &self.parts[index];
            if part.busy.is_none() && part.state != PartState::Stopped {
                if part.stop_verify {
                    self.act(now, index, Action::Probe);
                } else if part.retry_at.is_none_or(|at| now >= at) {
                    self.act(now, index, Action::Stop);
                }
            }
            let part = &self.parts[index];
            let settled = part.state == PartState::Stopped && part.busy.is_none();
            if !settled && !part.stop_failed {
                break; // in reverse order, except past one that has shown that it does not stop
            }
        }
        let stopped = |p: &Part| p.state == PartState::Stopped && p.busy.is_none();
        if self.door == Door::Shut && self.parts.iter().all(stopped) {
            self.settled_down(now, ordered);
        } else if now >= reset_at && self.stop_failures_told == 1 {
            self.stop_failures_told = 2;
            let why = "the last resort is due and something may still run".to_owned();
            self.tell(Telling::StopFailed { term: self.term, why });
        }
    }

    fn settled_down(&mut self, now: HolderTime, ordered: bool) {
        let term = self.term;
        self.told = true;
        if self.plan.doors {
            self.effects.push_back(Effect::Withdraw);
        }
        if self.plan.guarded {
            self.watch = Watch::Off;
            self.effects.push_back(Effect::Disarm(term));
        }
        if ordered {
            self.tell(Telling::Stopped { term, took: now.since(self.since) });
        }
    }

    fn shut_door(&mut self, now: HolderTime) {
        let due = match self.door {
            Door::Shut | Door::Shutting { .. } => false,
            Door::ShutFailed { retry_at } => now >= retry_at,
            Door::Unknown | Door::Opening { .. } | Door::Open { .. } => true,
        };
        if due {
            let serial = self.next_serial();
            self.door = Door::Shutting { serial };
            self.effects.push_back(Effect::Shut { serial });
        }
    }

    fn probe_unknown(&mut self, now: HolderTime) {
        for index in 0..self.parts.len() {
            if self.parts[index].state == PartState::Unknown {
                self.act(now, index, Action::Probe);
            }
        }
    }

    fn monitor(&mut self, now: HolderTime) {
        for index in 0..self.parts.len() {
            let due = self.parts[index].monitor_due(&self.plan.parts[index]);
            if due.is_some_and(|at| now >= at) {
                self.act(now, index, Action::Monitor);
            }
        }
    }
}
