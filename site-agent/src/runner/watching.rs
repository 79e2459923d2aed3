//! What is done without an order: timers, checks, renewals, evidence of life, and the views.

use std::collections::BTreeMap;

use tierce_ticket::message::{Readiness, TicketReadiness};
use tierce_ticket::time::HolderTime;
use tierce_wire::control::ResourceView;

use super::machine::Input;
use super::processes::{self, HANDLER_MARK, Process};
use super::service::{Done, Service};
use super::settings::Loss;
use super::{RunnerEvent, RunnerView, TicketRun, clock, handler, readiness};

impl Service {
    // ---- time ---------------------------------------------------------------------------------

    /// Everything whose time has come.
    pub(super) fn tick(&mut self, now: HolderTime) {
        while let Some((at, index)) = self.timers.first().copied()
            && now >= at
        {
            self.timers.pop_first();
            self.full[index].due = None;
            self.due(now, index);
        }
        if now >= self.next_pulse {
            self.next_pulse = now + self.timing.renew_every / 2;
            self.pulse();
        }
        self.scan();
    }

    fn due(&mut self, now: HolderTime, index: usize) {
        let asks = self.full[index].checks.due(now);
        for ask in asks {
            let env = self.handler_env(index);
            let permits = self.handlers.clone();
            self.tasks.spawn(async move {
                let _permit = permits.acquire().await;
                let said = handler::run(ask.words, env, ask.timeout).await;
                Done::Asked { ticket: index, check: ask.check, said }
            });
        }
        let full = &mut self.full[index];
        let before = full.announce.len();
        full.announce.retain(|at| now < *at);
        if full.announce.len() < before && full.machine.open() {
            self.doors.announce(&self.full[index].setting);
        }
        if self.full[index].dns.retry_at.is_some_and(|at| now >= at) {
            self.write_names(index);
        }
        self.step(now, index, Input::Tick);
    }

    pub(super) fn set_timer(&mut self, index: usize) {
        let full = &mut self.full[index];
        let own = [full.machine.poll_deadline(), full.checks.poll_deadline(), full.dns.retry_at];
        let next = own.into_iter().flatten().chain(full.announce.iter().copied()).min();
        if next != full.due {
            if let Some(old) = full.due {
                self.timers.remove(&(old, index));
            }
            full.due = next;
            self.timers.extend(next.map(|at| (at, index)));
        }
    }

    // ---- the lease ----------------------------------------------------------------------------

    /// One renewal: guard, gate and addresses, and the memory of it.
    pub(super) fn renewed(&mut self, deadline: HolderTime) {
        if self.lease == Some(deadline) {
            return;
        }
        self.lease = Some(deadline);
        self.guard.lease(deadline);
        self.renew_doors();
        self.memory.keep(deadline);
    }

    pub(super) fn renew_doors(&mut self) {
        let open: Vec<(usize, HolderTime)> = (0..self.full.len())
            .filter(|index| self.full[*index].setting.address.is_some())
            .filter(|index| self.full[*index].machine.open())
            .filter_map(|index| Some((index, self.door_deadline(index)?)))
            .collect();
        if open.is_empty() {
            return;
        }
        let list: Vec<_> = open.iter().map(|(i, at)| (&self.full[*i].setting, *at)).collect();
        self.doors.renew(&list);
    }

    /// When the kernel shuts a ticket's doors by itself: with the last resort, before D.
    pub(super) fn door_deadline(&self, index: usize) -> Option<HolderTime> {
        let deadline = self.full[index].own_deadline.or(self.lease)?;
        Some(deadline.minus(self.timing.watchdog_stretched()))
    }

    // ---- evidence of life (R15) ---------------------------------------------------------------

    /// Sends a round trip through the runtime and the executor; only its return is evidence.
    fn pulse(&mut self) {
        if self.pulsing || self.mailbox.with(|inbox| inbox.overflowed) {
            return;
        }
        self.pulsing = true;
        let executor = self.executor.clone();
        self.tasks.spawn(async move {
            executor.cancel(""); // no resource has this name: its tables answer, nothing ends
            Done::Pong
        });
    }

    pub(super) fn pong(&mut self) {
        self.pulsing = false;
        // A full channel means that the agent does not listen: it is not able to stop things.
        let _ = self.events.try_send(RunnerEvent::Alive);
    }

    // ---- processes of a ticket, for the last resort `kill` ------------------------------------

    fn scan(&mut self) {
        if self.scanning || self.scan_wanted.is_empty() {
            return;
        }
        self.scanning = true;
        let names = std::mem::take(&mut self.scan_wanted);
        let site = self.site.clone();
        self.tasks.spawn_blocking(move || Done::Processes(processes::of_tickets(&site, &names)));
    }

    pub(super) fn processes(&mut self, found: &BTreeMap<String, Vec<Process>>) {
        self.scanning = false;
        for (name, list) in found {
            let id = self.names.get(name).and_then(|index| self.full[*index].id);
            if let Some(id) = id {
                self.guard.groups(id, processes::groups(list));
            }
        }
    }

    // ---- readiness ----------------------------------------------------------------------------

    /// booth's names, so that its handlers run unchanged, and ours.
    fn handler_env(&self, index: usize) -> BTreeMap<String, String> {
        let full = &self.full[index];
        let held = full.machine.wanted_up();
        let deadline = full.own_deadline.or(self.lease).filter(|_| held);
        let expires = deadline.map_or(0, clock::wall_seconds);
        let config = self.options.config_path.to_string_lossy().into_owned();
        let name = full.setting.name.clone();
        [
            ("PATH", self.options.executor.path.clone()),
            ("BOOTH_TICKET", name.clone()),
            ("BOOTH_LOCAL", self.site.clone()),
            ("BOOTH_CONF_PATH", config),
            ("BOOTH_CONF_NAME", self.options.config.tenant.clone()),
            ("BOOTH_TICKET_EXPIRES", expires.to_string()),
            ("TIERCE_TICKET", name),
            ("TIERCE_SITE", self.site.clone()),
            ("TIERCE_TERM", full.machine.term().to_string()),
            (HANDLER_MARK, "1".to_owned()),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
    }

    /// Reports readiness if it differs from what was told.
    pub(super) fn tell_readiness(&mut self) {
        let mut tickets = Vec::new();
        for full in &self.full {
            let Some(id) = full.id else { continue };
            let mut found = full.checks.readiness();
            if let Some(why) = &full.setting.plan.forbidden {
                found.get_or_insert_with(TicketReadiness::default).blocked = Some(why.clone());
            }
            tickets.extend(found.map(|found| (id, found)));
        }
        tickets.sort_by_key(|(id, _)| *id);
        let guarded = self.full.iter().any(|f| f.setting.plan.guarded);
        let missing = self.guard.missing().filter(|_| guarded && self.guard.is_on());
        let not_ready = missing.map(|why| format!("no node guard: {why}"));
        let session = self.session;
        let now = Readiness { session, not_ready, tickets };
        if self.told.as_ref().is_none_or(|told| changed(told, &now)) {
            self.told = Some(now.clone());
            self.tell(RunnerEvent::Readiness(now));
        }
    }

    // ---- views --------------------------------------------------------------------------------

    pub(super) fn view(&self) -> RunnerView {
        let ticket = |index: &usize| {
            let full = &self.full[*index];
            let resource =
                |(part, spec): (&super::machine::Part, &tierce_executor::ResourceSpec)| {
                    ResourceView {
                        id: spec.id.clone(),
                        agent: spec.agent.to_string(),
                        state: part.word().to_owned(),
                        last: part.last.clone(),
                        failures: part.failures,
                    }
                };
            let why = full.machine.gave_up().or(full.setting.plan.forbidden.as_deref());
            TicketRun {
                phase: full.machine.phase().to_owned(),
                why: why.map(str::to_owned),
                term: full.machine.term(),
                resources: full
                    .machine
                    .parts()
                    .iter()
                    .zip(&full.setting.specs)
                    .map(resource)
                    .collect(),
                protection: self.protection(*index),
            }
        };
        RunnerView {
            tickets: self.names.iter().map(|(name, i)| (name.clone(), ticket(i))).collect(),
            bare: self.bare.values().filter(|b| b.up).count() as u32,
            no_guard: self.guard.missing().map(str::to_owned),
        }
    }

    /// The layers that protect a ticket now, as really active, and those that are missing.
    fn protection(&self, index: usize) -> Vec<String> {
        let full = &self.full[index];
        if !full.machine.wanted_up() {
            return Vec::new();
        }
        let mut lines = Vec::new();
        if full.machine.frozen() {
            lines.push("FROZEN: it RUNS WITHOUT A TICKET; nothing stops it by itself".to_owned());
        } else if full.setting.loss == Loss::Freeze {
            let line = "FREEZE: when the lease ends it keeps running without a ticket";
            lines.push(line.to_owned());
        } else {
            lines.push("L0 agent timer".to_owned());
        }
        lines.extend(self.doors.lines(&full.setting, full.machine.open()));
        let resort = self.guard.resort();
        if full.setting.plan.guarded {
            match self.guard.missing() {
                _ if full.machine.armed() => lines.push(format!("L2 guard ({resort})")),
                Some(why) => lines.push(format!("no L2 guard: {why}")),
                None => lines.push("no L2 guard: not armed yet".to_owned()),
            }
        } else if !self.guard.is_on() {
            lines.push("no L2 guard: it is off".to_owned());
        }
        lines.extend(full.dns.trouble.as_ref().map(|why| format!("no L4 (DNS): {why}")));
        lines
    }
}

fn changed(told: &Readiness, now: &Readiness) -> bool {
    if told.session != now.session || told.not_ready != now.not_ready {
        return true;
    }
    let of = |r: &Readiness, id| r.tickets.iter().find(|(t, _)| *t == id).map(|(_, r)| r.clone());
    let all = told.tickets.iter().chain(&now.tickets).map(|(id, _)| *id);
    all.into_iter().any(|id| readiness::differs(of(told, id).as_ref(), of(now, id).as_ref()))
}
