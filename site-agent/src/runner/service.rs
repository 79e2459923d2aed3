//! The runner's loop: orders, results and time go into the machines, their effects go outward.
//!
//! One task. Whatever takes time (actions, handlers, name servers, looking through processes) runs
//! beside it and comes back as a [`Done`]; system calls of microseconds (gate, address, guard) are
//! made in place. All waiting orders are taken before anything is carried out, so that a `Stop`
//! followed by a `Run` in one breath stops nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use tierce_executor::Executor;
use tierce_ticket::ids::{SessionId, Term, TicketId};
use tierce_ticket::message::Readiness;
use tierce_ticket::time::HolderTime;
use tierce_ticket::timing::Timing;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};

use super::clock;
use super::doors::Doors;
use super::guard::{GuardLink, News};
use super::limits::{MAX_HANDLERS, MAX_STOPS};
use super::machine::{Input, Machine, Verdict};
use super::memory::Memory;
use super::processes::Process;
use super::readiness::Checks;
use super::settings::Setting;
use super::{Ask, Mailbox, RunnerEvent, RunnerOptions, RunnerOrder};
use crate::config::TicketConfig;

/// A ticket that has something to run here.
pub(super) struct Full {
    pub(super) setting: Setting,
    /// The same as it was read, before the node's own findings were added.
    pub(super) read: Setting,
    /// New settings, for when nothing runs.
    pub(super) next: Option<Setting>,
    pub(super) id: Option<TicketId>,
    pub(super) machine: Machine,
    /// Its own D, while it is being taken back.
    pub(super) own_deadline: Option<HolderTime>,
    pub(super) checks: Checks,
    /// Ends the action of each resource when dropped.
    pub(super) cancels: Vec<Option<oneshot::Sender<()>>>,
    /// When the address is announced again.
    pub(super) announce: Vec<HolderTime>,
    pub(super) dns: Names,
    /// As in the timer queue.
    pub(super) due: Option<HolderTime>,
}

/// Where the update of a ticket's names stands.
#[derive(Default)]
pub(super) struct Names {
    pub(super) task: Option<AbortHandle>,
    pub(super) term: Term,
    /// The opening that waits for the first attempt.
    pub(super) opening: Option<u64>,
    pub(super) retry_at: Option<HolderTime>,
    pub(super) trouble: Option<String>,
}

/// A ticket with nothing to run: held or not.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bare {
    pub(super) term: Term,
    pub(super) up: bool,
}

/// What came back from beside the loop.
pub(super) enum Done {
    Acted { ticket: usize, part: usize, serial: u64, verdict: Verdict },
    Asked { ticket: usize, check: usize, said: Result<String, String> },
    Named { ticket: usize, term: Term, outcome: Result<(), DnsTrouble> },
    Processes(BTreeMap<String, Vec<Process>>),
    Pong,
}

/// What ended a wait.
enum Woken {
    /// A task; none: it was aborted.
    Done(Option<Done>),
    Guard,
    /// The agent takes events; false: it never will again.
    Room(bool),
    Other,
}

/// Why names were not written.
pub(super) struct DnsTrouble {
    pub(super) why: String,
    /// Another holder is in place: this site must not serve.
    pub(super) overruled: bool,
}

/// The runner's task.
pub(super) struct Service {
    pub(super) timing: Timing,
    pub(super) site: String,
    pub(super) data: PathBuf,
    pub(super) options: RunnerOptions,
    pub(super) executor: Executor,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) events: mpsc::Sender<RunnerEvent>,
    pub(super) outbox: VecDeque<RunnerEvent>,
    /// History lines in it.
    pub(super) notes: usize,
    pub(super) tasks: JoinSet<Done>,
    pub(super) stops: Arc<Semaphore>,
    pub(super) handlers: Arc<Semaphore>,
    pub(super) full: Vec<Full>,
    pub(super) names: HashMap<String, usize>,
    pub(super) ids: HashMap<TicketId, usize>,
    pub(super) bare: BTreeMap<TicketId, Bare>,
    pub(super) timers: BTreeSet<(HolderTime, usize)>,
    /// Effects wait to be carried out.
    pub(super) touched: BTreeSet<usize>,
    pub(super) guard: GuardLink,
    pub(super) doors: Doors,
    pub(super) memory: Memory,
    pub(super) lease: Option<HolderTime>,
    pub(super) session: SessionId,
    pub(super) told: Option<Readiness>,
    pub(super) next_pulse: HolderTime,
    pub(super) pulsing: bool,
    pub(super) scanning: bool,
    pub(super) scan_wanted: BTreeSet<String>,
    /// Until then what runs is left alone.
    pub(super) grace: HolderTime,
}

impl Service {
    pub(super) fn new(
        options: RunnerOptions,
        executor: Executor,
        mailbox: Arc<Mailbox>,
        events: mpsc::Sender<RunnerEvent>,
    ) -> Self {
        let (config, timing) = (&options.config, options.timing);
        let (memory, before) = Memory::open(&config.data);
        let now = clock::now();
        // Never beyond the lease that an earlier agent had (R13).
        let stop_at =
            |d: HolderTime| d.minus(timing.watchdog_stretched()).minus(timing.stop_budget);
        let grace = before.map_or(now + timing.promise, |d| stop_at(d).min(now + timing.promise));
        Self {
            timing,
            site: config.site.clone(),
            data: config.data.clone(),
            guard: GuardLink::new(config, &timing),
            doors: Doors::new(&config.site),
            executor,
            mailbox,
            events,
            outbox: VecDeque::new(),
            notes: 0,
            tasks: JoinSet::new(),
            stops: Arc::new(Semaphore::new(MAX_STOPS)),
            handlers: Arc::new(Semaphore::new(MAX_HANDLERS)),
            full: Vec::new(),
            names: HashMap::new(),
            ids: HashMap::new(),
            bare: BTreeMap::new(),
            timers: BTreeSet::new(),
            touched: BTreeSet::new(),
            memory,
            lease: None,
            session: SessionId(0),
            told: None,
            next_pulse: now,
            pulsing: false,
            scanning: false,
            scan_wanted: BTreeSet::new(),
            grace,
            options,
        }
    }

    pub(super) async fn run(mut self) {
        // What a machine needs of them is in its setting; the rest is not kept.
        let tickets = std::mem::take(&mut self.options.config.tickets);
        self.settle(&tickets);
        drop(tickets);
        loop {
            let now = clock::now();
            let left = self.orders(now);
            self.guard.tick(now);
            self.tick(now);
            self.carry_out(now);
            if let Some(answer) = left {
                self.end().await;
                let _ = answer.send(());
                return;
            }
            self.wait().await;
        }
    }

    /// Waits for anything: in this order, because a stop comes before a renewal comes before news.
    async fn wait(&mut self) {
        let pause = self.pause();
        let woken = tokio::select! {
            biased;
            () = self.mailbox.bell.notified() => Woken::Other,
            Some(done) = self.tasks.join_next(), if !self.tasks.is_empty() => {
                Woken::Done(done.ok())
            }
            () = self.guard.readable() => Woken::Guard,
            room = self.events.reserve(), if !self.outbox.is_empty() => Woken::Room(room.is_ok()),
            () = tokio::time::sleep(pause) => Woken::Other,
        };
        match woken {
            Woken::Done(done) => {
                let mut next = done;
                // Others that are ready too are taken in the same turn.
                loop {
                    if let Some(done) = next {
                        self.done(done);
                    }
                    match self.tasks.try_join_next() {
                        Some(done) => next = done.ok(),
                        None => break,
                    }
                }
            }
            Woken::Guard => self.guard.read(clock::now()),
            Woken::Room(listened) => self.hand_over(listened),
            Woken::Other => {}
        }
        while let Some(news) = self.guard.poll_news() {
            self.guard_news(news);
        }
    }

    /// Hands as many events over as there is room for.
    fn hand_over(&mut self, listened: bool) {
        while self.events.capacity() > 0
            && let Some(event) = self.take_event()
        {
            let _ = self.events.try_send(event); // nobody else fills the channel
        }
        if !listened {
            self.outbox.clear();
            self.notes = 0;
        }
    }

    /// Until the next timer, and never longer than a renewal period: the sleep counts by another
    /// clock than the deadlines do.
    fn pause(&self) -> std::time::Duration {
        let now = clock::now();
        let timer = self.timers.first().map(|(at, _)| *at);
        let next = [timer, self.guard.poll_deadline(), Some(self.next_pulse)];
        let next = next.into_iter().flatten().min().unwrap_or(self.next_pulse);
        next.since(now).min(self.timing.renew_every)
    }

    // ---- orders -------------------------------------------------------------------------------

    fn orders(&mut self, now: HolderTime) -> Option<oneshot::Sender<()>> {
        let (orders, asks) = self
            .mailbox
            .with(|inbox| (std::mem::take(&mut inbox.orders), std::mem::take(&mut inbox.asks)));
        // A ticket that is being taken back keeps its own deadline before the others' moves.
        let (own, rest): (Vec<_>, Vec<_>) =
            orders.into_iter().partition(|o| matches!(o, RunnerOrder::TicketLease { .. }));
        for order in own.into_iter().chain(rest) {
            self.order(now, order);
        }
        let mut end = None;
        for ask in asks {
            match ask {
                Ask::View(answer) => {
                    let _ = answer.send(self.view()); // a client that left needs none
                }
                Ask::Reconfigure(tickets) => self.settle(&tickets),
                Ask::Shutdown(answer) => end = Some(answer),
            }
        }
        end
    }

    fn order(&mut self, now: HolderTime, order: RunnerOrder) {
        match order {
            RunnerOrder::Run { ticket, name, term } => match self.find(ticket, &name) {
                Some(index) => self.step(now, index, Input::Run(term)),
                None => self.run_bare(ticket, term),
            },
            RunnerOrder::Stop { ticket, name, term, why, by } => match self.find(ticket, &name) {
                Some(index) => self.step(now, index, Input::Stop { term, why, by }),
                None => self.stop_bare(ticket, term),
            },
            RunnerOrder::Forget { ticket, name, term } => match self.find(ticket, &name) {
                Some(index) => {
                    self.full[index].own_deadline = None;
                    self.step(now, index, Input::Forget(term));
                }
                None => {
                    self.bare.remove(&ticket);
                }
            },
            RunnerOrder::Prepare { ticket, name } => {
                if let Some(index) = self.find(ticket, &name) {
                    self.full[index].checks.hurry(now);
                    self.step(now, index, Input::Prepare);
                }
            }
            RunnerOrder::Lease { deadline } => self.renewed(deadline),
            RunnerOrder::TicketLease { ticket, name, deadline } => {
                if let Some(index) = self.find(ticket, &name) {
                    self.full[index].own_deadline = Some(deadline);
                    self.guard.pin(ticket, deadline);
                    self.renew_doors();
                }
            }
            RunnerOrder::Session(session) => {
                self.session = session;
                self.told = None;
                self.tell_readiness();
            }
            RunnerOrder::KnownTickets(tickets) => {
                for (ticket, name) in &tickets {
                    self.find(*ticket, name);
                }
                let known: BTreeSet<TicketId> = tickets.into_iter().map(|(id, _)| id).collect();
                self.bare.retain(|id, b| b.up || known.contains(id));
                self.tell_readiness();
            }
        }
    }

    /// The ticket of this name, which from now on has this number.
    fn find(&mut self, id: TicketId, name: &str) -> Option<usize> {
        if let Some(index) = self.ids.get(&id) {
            return Some(*index);
        }
        let index = *self.names.get(name)?;
        if let Some(old) = self.full[index].id.replace(id) {
            self.ids.remove(&old); // made anew under the same name
        }
        self.ids.insert(id, index);
        Some(index)
    }

    fn run_bare(&mut self, ticket: TicketId, term: Term) {
        let bare = self.bare.entry(ticket).or_default();
        if term < bare.term || (bare.up && term == bare.term) {
            return;
        }
        *bare = Bare { term, up: true };
        self.tell(RunnerEvent::Started { ticket, term, took: std::time::Duration::ZERO });
    }

    fn stop_bare(&mut self, ticket: TicketId, term: Term) {
        let bare = self.bare.entry(ticket).or_default();
        if term < bare.term {
            return;
        }
        *bare = Bare { term, up: false };
        self.tell(RunnerEvent::Stopped { ticket, term, took: std::time::Duration::ZERO });
    }

    // ---- machines -----------------------------------------------------------------------------

    pub(super) fn step(&mut self, now: HolderTime, index: usize, input: Input) {
        self.full[index].machine.step(now, input);
        self.touched.insert(index);
    }

    fn done(&mut self, done: Done) {
        let now = clock::now();
        match done {
            Done::Acted { ticket, part, serial, verdict } => {
                self.acted(now, ticket, part, serial, verdict);
            }
            Done::Asked { ticket, check, said } => {
                self.full[ticket].checks.answered(now, check, said);
                self.touched.insert(ticket);
                self.tell_readiness();
            }
            Done::Named { ticket, term, outcome } => self.named(now, ticket, term, outcome),
            Done::Processes(found) => self.processes(&found),
            Done::Pong => self.pong(),
        }
    }

    fn guard_news(&mut self, news: News) {
        let now = clock::now();
        match news {
            News::Armed { ticket, term } => {
                if let Some(index) = self.ids.get(&ticket) {
                    self.step(now, *index, Input::Armed(term));
                }
            }
            News::Refused { ticket, why } => {
                if let Some(index) = self.ids.get(&ticket) {
                    self.step(now, *index, Input::Hopeless(why));
                }
            }
            News::Acted { ticket, what } => {
                if let Some(index) = self.ids.get(&ticket).copied() {
                    self.note(index, None, what);
                    self.step(now, index, Input::GuardActed);
                }
            }
            News::Lost(why) => {
                self.tell(RunnerEvent::GuardLost(why));
                for index in 0..self.full.len() {
                    self.step(now, index, Input::GuardLost);
                }
                self.tell_readiness();
            }
            News::Back => {
                self.tell(RunnerEvent::GuardBack);
                self.tell_readiness();
            }
        }
    }

    // ---- settings -----------------------------------------------------------------------------

    /// Takes settings in: new tickets are looked at, others change when nothing of them runs.
    fn settle(&mut self, tickets: &[TicketConfig]) {
        let now = clock::now();
        let guard = self.guard.is_on();
        let mut seen = BTreeSet::new();
        for ticket in tickets.iter().filter(|t| Setting::has_work(t)) {
            let setting = Setting::new(ticket, &self.timing, guard);
            seen.insert(setting.name.clone());
            match self.names.get(&setting.name).copied() {
                Some(index) => {
                    let same = setting == self.full[index].read;
                    self.full[index].next = (!same).then_some(setting);
                    self.touched.insert(index);
                }
                None => self.add(now, setting),
            }
        }
        for index in 0..self.full.len() {
            if !seen.contains(&self.full[index].setting.name) {
                let nothing = Setting::nothing(&self.full[index].setting.name);
                self.full[index].next = Some(nothing); // it left the file
                self.touched.insert(index);
            }
        }
    }

    fn add(&mut self, now: HolderTime, mut setting: Setting) {
        let read = setting.clone();
        let forbidden = self.doors.prepare(&setting);
        setting.plan.forbidden = setting.plan.forbidden.take().or(forbidden);
        let index = self.full.len();
        let grace = self.grace.max(now);
        self.full.push(Full {
            machine: Machine::new(setting.plan.clone(), now, grace),
            checks: Checks::new(&setting, now),
            cancels: setting.specs.iter().map(|_| None).collect(),
            next: None,
            id: None,
            own_deadline: None,
            announce: Vec::new(),
            dns: Names::default(),
            due: None,
            setting,
            read,
        });
        self.names.insert(self.full[index].setting.name.clone(), index);
        self.touched.insert(index);
    }

    /// New settings come into force where nothing runs.
    pub(super) fn exchange(&mut self, now: HolderTime, index: usize) {
        let full = &mut self.full[index];
        if !full.machine.at_rest() {
            return;
        }
        let Some(mut setting) = full.next.take() else { return };
        full.read = setting.clone();
        let forbidden = self.doors.prepare(&setting);
        setting.plan.forbidden = setting.plan.forbidden.take().or(forbidden);
        let full = &mut self.full[index];
        full.machine.replace(setting.plan.clone());
        full.checks = Checks::new(&setting, now);
        full.cancels = setting.specs.iter().map(|_| None).collect();
        full.setting = setting;
        self.note(index, None, "new settings are in force");
        self.tell_readiness();
    }
}
