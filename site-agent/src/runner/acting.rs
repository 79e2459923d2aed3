//! Carries out what the machines want: actions, doors, names, and what the agent is told.

use std::collections::BTreeMap;
use std::mem::discriminant;
use std::time::Duration;

use tierce_dns::DnsError;
use tierce_executor::{self as executor, Context, Outcome, Status};
use tierce_ticket::ids::Term;
use tierce_ticket::time::HolderTime;
use tokio::sync::oneshot;

use super::doors::Doors;
use super::limits::{DNS_RETRY, DNS_TIMEOUT, MAX_EVENTS, MAX_NOTES};
use super::machine::{Action, Effect, Input, Telling, Verdict};
use super::service::{DnsTrouble, Done, Service};
use super::settings::lock_path;
use super::stop_ticket::lock;
use super::{RunnerEvent, clock};

impl Service {
    /// Effects of every machine that was touched, and of those that these touch.
    pub(super) fn carry_out(&mut self, now: HolderTime) {
        while let Some(index) = self.touched.pop_first() {
            self.exchange(now, index);
            while let Some(effect) = self.full[index].machine.poll_effect() {
                self.effect(now, index, effect);
            }
            self.set_timer(index);
        }
    }

    fn effect(&mut self, now: HolderTime, index: usize, effect: Effect) {
        match effect {
            Effect::Act { part, serial, action, timeout, term } => {
                self.act(index, part, serial, action, timeout, term);
            }
            Effect::Cancel { part } => {
                if let Some(cancel) = self.full[index].cancels.get_mut(part) {
                    *cancel = None; // the task sees its end dropped
                }
            }
            Effect::Open { serial, term } => self.open(now, index, serial, term),
            Effect::Shut { serial } => {
                self.forget_names(index);
                self.full[index].announce.clear();
                let outcome = self.doors.shut(&self.full[index].setting);
                self.step(now, index, Input::Shut { serial, outcome });
            }
            Effect::Withdraw => self.doors.withdraw(&self.full[index].setting),
            Effect::Arm(term) => {
                let full = &self.full[index];
                if let Some(id) = full.id {
                    let words = self.stop_words(&full.setting.name);
                    self.guard.want(id, term, words, full.setting.plan.stop_budget);
                }
            }
            Effect::Disarm(term) => {
                self.full[index].own_deadline = None;
                if let Some(id) = self.full[index].id {
                    self.guard.release(id, term);
                }
            }
            Effect::Tell(telling) => self.telling(index, telling),
        }
    }

    // ---- actions ------------------------------------------------------------------------------

    fn act(
        &mut self,
        index: usize,
        part: usize,
        serial: u64,
        action: Action,
        timeout: Duration,
        term: Term,
    ) {
        let full = &mut self.full[index];
        let Some(spec) = full.setting.specs.get(part).cloned() else { return };
        let name = full.setting.name.clone();
        let mut env = BTreeMap::from([
            ("TIERCE_TICKET".to_owned(), name.clone()),
            ("TIERCE_SITE".to_owned(), self.site.clone()),
        ]);
        if term > Term(0) {
            env.insert("TIERCE_TERM".to_owned(), term.to_string()); // R18
        }
        let probe = action == Action::Probe;
        let context = Context { env, probe, timeout: Some(timeout), ..Context::default() };
        let (cancel, cancelled) = oneshot::channel::<()>();
        full.cancels[part] = Some(cancel);
        let executor = self.executor.clone();
        let stops = self.stops.clone();
        let lock_path = lock_path(&self.data, &name);
        self.tasks.spawn(async move {
            let work = async {
                let _permit = match action {
                    Action::Stop => stops.acquire().await.ok(),
                    _ => None,
                };
                // The guard's stop of the same ticket and ours take turns, within a bound.
                let _lock = match action {
                    Action::Start | Action::Stop => lock(&lock_path).await,
                    Action::Probe | Action::Monitor => None,
                };
                let asked = match action {
                    Action::Probe | Action::Monitor => executor::Action::Monitor,
                    Action::Start => executor::Action::Start,
                    Action::Stop => executor::Action::Stop,
                };
                verdict(action, &executor.run(&spec, asked, &context).await)
            };
            let verdict = tokio::select! {
                biased;
                // Dropping the run ends it; the next one waits for that.
                _ = cancelled => Verdict::Cancelled,
                verdict = work => verdict,
            };
            Done::Acted { ticket: index, part, serial, verdict }
        });
    }

    pub(super) fn acted(
        &mut self,
        now: HolderTime,
        index: usize,
        part: usize,
        serial: u64,
        verdict: Verdict,
    ) {
        let up = self.full[index].machine.wanted_up();
        if verdict == Verdict::Ok && up && self.guard.wants_groups() {
            self.scan_wanted.insert(self.full[index].setting.name.clone());
        }
        self.step(now, index, Input::Acted { part, serial, verdict });
    }

    fn stop_words(&self, name: &str) -> Vec<String> {
        let mut words = self.options.stop_command.clone().unwrap_or_else(own_stop_command);
        let config = self.options.config_path.to_string_lossy().into_owned();
        words.extend(["--config".to_owned(), config, "--ticket".to_owned(), name.to_owned()]);
        words
    }

    // ---- doors and names ----------------------------------------------------------------------

    fn open(&mut self, now: HolderTime, index: usize, serial: u64, term: Term) {
        self.forget_names(index);
        let until = self.door_deadline(index);
        let setting = &self.full[index].setting;
        let names =
            self.doors.open(setting, term, until).and_then(|()| self.doors.dns(setting, term));
        match names {
            Ok(Some(_)) => {
                self.full[index].announce = Doors::announce_times(&self.full[index].setting, now);
                self.full[index].dns.opening = Some(serial);
                self.full[index].dns.term = term;
                self.write_names(index);
            }
            Ok(None) => {
                self.full[index].announce = Doors::announce_times(&self.full[index].setting, now);
                self.step(now, index, Input::Opened { serial, outcome: Ok(()) });
            }
            Err(why) => self.step(now, index, Input::Opened { serial, outcome: Err(why) }),
        }
    }

    pub(super) fn write_names(&mut self, index: usize) {
        let term = self.full[index].dns.term;
        let Ok(Some(update)) = self.doors.dns(&self.full[index].setting, term) else { return };
        let task = self.tasks.spawn(async move {
            let outcome = update.apply(tokio::time::Instant::now() + DNS_TIMEOUT).await;
            let outcome = outcome.map(|_| ()).map_err(|error| DnsTrouble {
                overruled: matches!(
                    error,
                    DnsError::Superseded { .. } | DnsError::TermTaken { .. }
                ),
                why: error.to_string(),
            });
            Done::Named { ticket: index, term, outcome }
        });
        let names = &mut self.full[index].dns;
        names.retry_at = None;
        names.task = Some(task);
    }

    pub(super) fn named(
        &mut self,
        now: HolderTime,
        index: usize,
        term: Term,
        outcome: Result<(), DnsTrouble>,
    ) {
        let names = &mut self.full[index].dns;
        if names.task.is_none() || names.term != term {
            return; // of an opening that is over
        }
        names.task = None;
        let opening = names.opening.take();
        names.trouble = outcome.as_ref().err().map(|t| t.why.clone());
        let what = match &outcome {
            Ok(()) => "names written".to_owned(),
            Err(trouble) => format!("names not written: {}", trouble.why),
        };
        match (outcome, opening) {
            (Err(DnsTrouble { why, overruled: true }), Some(serial)) => {
                self.step(now, index, Input::Opened { serial, outcome: Err(why) });
            }
            (Err(DnsTrouble { why, overruled: true }), None) => {
                self.step(now, index, Input::Hopeless(why));
            }
            (outcome, opening) => {
                // A name server that is away does not keep the service down: it is tried again.
                names.retry_at = outcome.is_err().then(|| now + DNS_RETRY);
                if let Some(serial) = opening {
                    self.step(now, index, Input::Opened { serial, outcome: Ok(()) });
                }
                self.touched.insert(index);
            }
        }
        self.note(index, None, &what);
    }

    fn forget_names(&mut self, index: usize) {
        let names = std::mem::take(&mut self.full[index].dns);
        if let Some(task) = names.task {
            task.abort();
        }
    }

    // ---- telling ------------------------------------------------------------------------------

    fn telling(&mut self, index: usize, telling: Telling) {
        let (telling, what) = match telling {
            Telling::Note { part, what } => return self.note(index, Some(part), &what),
            Telling::Started { took, .. } => (telling, format!("started in {took:?}")),
            Telling::Stopped { took, .. } => (telling, format!("stopped in {took:?}")),
            Telling::StartFailed { ref why, .. } => {
                (telling.clone(), format!("start failed: {why}"))
            }
            Telling::StopFailed { ref why, .. } => (telling.clone(), format!("stop failed: {why}")),
            Telling::Frozen { .. } => (
                telling,
                "the lease ended; by loss-policy freeze everything is left RUNNING".to_owned(),
            ),
        };
        self.note(index, None, &what);
        // What will not stop is looked at anew: right after a start a daemon may not have had the
        // group yet that the last resort must reach.
        let look = matches!(telling, Telling::Started { .. } | Telling::StopFailed { .. });
        if self.guard.wants_groups() && look {
            self.scan_wanted.insert(self.full[index].setting.name.clone());
        }
        let Some(ticket) = self.full[index].id else { return };
        let event = match telling {
            Telling::Started { term, took } => RunnerEvent::Started { ticket, term, took },
            Telling::StartFailed { term, why } => RunnerEvent::StartFailed { ticket, term, why },
            Telling::Stopped { term, took } => RunnerEvent::Stopped { ticket, term, took },
            Telling::StopFailed { term, why } => RunnerEvent::StopFailed { ticket, term, why },
            Telling::Frozen { term } => RunnerEvent::Frozen { ticket, term },
            Telling::Note { .. } => return,
        };
        self.tell(event);
    }

    pub(super) fn note(&mut self, index: usize, part: Option<usize>, what: &str) {
        let setting = &self.full[index].setting;
        let resource = part.and_then(|p| setting.specs.get(p)).map_or("", |s| &s.id).to_owned();
        tracing::info!(ticket = %setting.name, %resource, %what, "runner");
        let name = setting.name.clone();
        self.tell(RunnerEvent::Resource { name, resource, what: what.to_owned() });
    }

    /// Puts an event where the agent takes it from. Beyond a bound history lines are dropped, and
    /// a newer word on a ticket replaces an older one that nobody has taken.
    pub(super) fn tell(&mut self, event: RunnerEvent) {
        if matches!(event, RunnerEvent::Resource { .. }) {
            if self.notes >= MAX_NOTES {
                return;
            }
            self.notes += 1;
        } else if self.outbox.len() >= MAX_EVENTS {
            match subject(&event) {
                Some(of) => self.outbox.retain(|e| subject(e) != Some(of)),
                None => self.outbox.retain(|e| discriminant(e) != discriminant(&event)),
            }
        }
        self.outbox.push_back(event);
    }

    pub(super) fn take_event(&mut self) -> Option<RunnerEvent> {
        let event = self.outbox.pop_front();
        if matches!(event, Some(RunnerEvent::Resource { .. })) {
            self.notes -= 1;
        }
        event
    }

    // ---- the end ------------------------------------------------------------------------------

    /// Ends in order: what was disarmed is known to the guard, sessions are closed. Resources that
    /// run are left to the guard.
    pub(super) async fn end(&mut self) {
        let until = tokio::time::Instant::now() + super::limits::GUARD_ANSWER;
        while !self.guard.is_quiet() {
            tokio::select! {
                () = self.guard.readable() => self.guard.read(clock::now()),
                () = tokio::time::sleep_until(until) => break,
            }
        }
        self.tasks.abort_all();
        while self.tasks.join_next().await.is_some() {}
        while let Some(event) = self.take_event() {
            if self.events.try_send(event).is_err() {
                break;
            }
        }
        self.doors.shut_down().await;
        self.guard.shut_down();
    }
}

fn subject(event: &RunnerEvent) -> Option<tierce_ticket::ids::TicketId> {
    match event {
        RunnerEvent::Started { ticket, .. }
        | RunnerEvent::StartFailed { ticket, .. }
        | RunnerEvent::Stopped { ticket, .. }
        | RunnerEvent::StopFailed { ticket, .. }
        | RunnerEvent::Frozen { ticket, .. } => Some(*ticket),
        _ => None,
    }
}

fn verdict(action: Action, outcome: &Outcome) -> Verdict {
    let failed = |fatal| Verdict::Failed { why: outcome.to_string(), fatal };
    let monitor = matches!(action, Action::Probe | Action::Monitor);
    match outcome.status {
        _ if outcome.cancelled => Verdict::Cancelled,
        status if monitor && status.is_running() => Verdict::Ok,
        Status::Ok => Verdict::Ok,
        Status::NotRunning => Verdict::NotRunning,
        // What is not installed does not run; a start will say so.
        Status::NotInstalled if action == Action::Probe => Verdict::NotRunning,
        Status::BadArguments
        | Status::Unimplemented
        | Status::InsufficientPermissions
        | Status::NotInstalled
        | Status::NotConfigured => failed(true),
        _ => failed(false),
    }
}

/// This program acting as `stop-ticket`: by its own name, or as one of the multi-call binary's.
fn own_stop_command() -> Vec<String> {
    let exe = std::env::current_exe().unwrap_or_else(|_| "/usr/bin/tierce-agent".into());
    let multi_call = exe.file_name().is_some_and(|name| name == "tierce");
    let mut words = vec![exe.to_string_lossy().into_owned()];
    if multi_call {
        words.push("agent".to_owned());
    }
    words.push("stop-ticket".to_owned());
    words
}
