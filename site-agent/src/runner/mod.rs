//! The runner: carries out the holder's orders on this node.
//!
//! The protocol decides who may run a service; this module makes it so, here: it starts and stops
//! the resources of each ticket, opens and shuts the service address, keeps the node guard and the
//! kernel gate in step with the lease, asks the handlers whether this site could hold, and says
//! what came of it. It never decides by itself that something may run (R13), and it never says
//! `Stopped` of something that it has not seen stopped (R17).
//!
//! | part | what it does |
//! |---|---|
//! | `machine` | one ticket as a state machine: what is next (core, no I/O) |
//! | `readiness` | what handlers and the lag command add up to (core, no I/O) |
//! | `service` | the loop: orders, results and time into the machines, their effects outward |
//! | `acting` | carries the machines' effects out: actions, doors, names, what is told |
//! | `watching` | checks, renewals, evidence of life: what is done without an order |
//! | `guard` | the link to the node guard (L2) |
//! | `doors` | kernel gate and address (L1), BGP and DNS (L3, L4) |
//! | `handler` | runs a handler |
//! | `stop_ticket` | what the guard runs when this process cannot |
//! | `settings` | a ticket's settings with defaults filled in |
//!
//! Tickets of which this site has nothing to run are plain entries: 10,000 of them cost a map, no
//! task and no timer.

mod acting;
mod clock;
mod doors;
mod guard;
mod handler;
pub mod limits;
mod machine;
mod memory;
mod processes;
mod readiness;
mod service;
mod settings;
mod stop_ticket;
mod watching;

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tierce_ticket::holder::StopReason;
use tierce_ticket::ids::{SessionId, Term, TicketId};
use tierce_ticket::message::Readiness;
use tierce_ticket::time::HolderTime;
use tierce_ticket::timing::Timing;
use tierce_wire::control::ResourceView;
use tokio::sync::{Notify, mpsc, oneshot};

pub use settings::executor_settings;
pub use stop_ticket::{StopTicketError, stop_ticket};

use crate::config::{Config, TicketConfig};

/// What the agent tells the runner. Orders of one ticket are carried out in the order given; a
/// newer one supersedes an older one that is still under way; a lower term changes nothing (R18).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunnerOrder {
    /// Dependents may run.
    Run {
        /// Which ticket.
        ticket: TicketId,
        /// Its name.
        name: String,
        /// Its term.
        term: Term,
    },
    /// Dependents must stop.
    Stop {
        /// Which ticket.
        ticket: TicketId,
        /// Its name.
        name: String,
        /// Its term.
        term: Term,
        /// Why.
        why: StopReason,
        /// When the guard steps in.
        by: HolderTime,
    },
    /// The ticket is not this site's any more.
    Forget {
        /// Which ticket.
        ticket: TicketId,
        /// Its name.
        name: String,
        /// The term that ended.
        term: Term,
    },
    /// This site is named as successor: prepare, start nothing.
    Prepare {
        /// Which ticket.
        ticket: TicketId,
        /// Its name.
        name: String,
    },
    /// The session's deadline moved.
    Lease {
        /// D.
        deadline: HolderTime,
    },
    /// A ticket's own deadline: it is being taken back.
    TicketLease {
        /// Which ticket.
        ticket: TicketId,
        /// Its name.
        name: String,
        /// Its own D.
        deadline: HolderTime,
    },
    /// The session that readiness is reported for; it is reported at once.
    Session(SessionId),
    /// The tickets of the ledger, by number and name; replaces the list before.
    KnownTickets(Vec<(TicketId, String)>),
}

/// What the runner tells the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunnerEvent {
    /// Everything of the ticket runs and its doors are open.
    Started {
        /// Which ticket.
        ticket: TicketId,
        /// Under which term.
        term: Term,
        /// Since the order.
        took: Duration,
    },
    /// It does not run, and will not without a new order: the ticket is better given up.
    StartFailed {
        /// Which ticket.
        ticket: TicketId,
        /// Under which term.
        term: Term,
        /// Why.
        why: String,
    },
    /// Nothing of the ticket runs, confirmed (R17).
    Stopped {
        /// Which ticket.
        ticket: TicketId,
        /// Under which term.
        term: Term,
        /// Since the order.
        took: Duration,
    },
    /// Something of it may still run. It is tried further; the guard enforces the deadline.
    StopFailed {
        /// Which ticket.
        ticket: TicketId,
        /// Under which term.
        term: Term,
        /// Why.
        why: String,
    },
    /// loss-policy freeze: the lease ended and everything was left running. It is not stopped, so
    /// the ticket may not be released; `Run` or any other `Stop` ends this state.
    Frozen {
        /// Which ticket.
        ticket: TicketId,
        /// Under which term.
        term: Term,
    },
    /// Whether this site could hold tickets; told on change and for each `Session` order.
    Readiness(Readiness),
    /// R15: the loop and the executor answer.
    Alive,
    /// The node guard is lost: nothing new is started.
    GuardLost(String),
    /// It is back, and knows every ticket again.
    GuardBack,
    /// A line for the history.
    Resource {
        /// Which ticket, by name.
        name: String,
        /// Which resource; empty: the ticket as a whole.
        resource: String,
        /// What happened.
        what: String,
    },
}

/// What runs on this node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunnerView {
    /// Tickets that have something to run here, by name.
    pub tickets: BTreeMap<String, TicketRun>,
    /// Tickets held here that have nothing to run.
    pub bare: u32,
    /// Why there is no node guard, if so.
    pub no_guard: Option<String>,
}

/// One ticket on this node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TicketRun {
    /// looking, starting, running, failed, frozen, stopping, stop-failed, stopped.
    pub phase: String,
    /// Why it is so, where there is something to say.
    pub why: Option<String>,
    /// Newest term seen.
    pub term: Term,
    /// Its resources, in order of start.
    pub resources: Vec<ResourceView>,
    /// The layers that protect it now, and those that are missing ("no L2 …").
    pub protection: Vec<String>,
}

impl RunnerView {
    /// The layers that protect a ticket that is held here, also of one with nothing to run.
    pub fn protection(&self, name: &str) -> Vec<String> {
        match self.tickets.get(name) {
            Some(run) => run.protection.clone(),
            None => vec!["L0 agent timer".to_owned()],
        }
    }
}

/// What a runner is made from.
#[derive(Clone, Debug)]
pub struct RunnerOptions {
    /// The whole file.
    pub config: Config,
    /// Its path: handlers and the guard's stop command are told.
    pub config_path: PathBuf,
    /// Lease times in force.
    pub timing: Timing,
    /// How agents are run.
    pub executor: tierce_executor::Settings,
    /// Program and words before `--config PATH --ticket NAME` of the guard's stop command; none:
    /// this program's own `stop-ticket`.
    pub stop_command: Option<Vec<String>>,
}

impl RunnerOptions {
    /// As the file says.
    pub fn new(config: Config, config_path: PathBuf) -> Self {
        let (timing, executor) = (config.timing(), executor_settings(&config));
        Self { config, config_path, timing, executor, stop_command: None }
    }
}

/// Why a runner does not start.
#[derive(Debug, thiserror::Error)]
pub enum RunnerError {
    /// The executor cannot be set up.
    #[error("{0}; this site can run nothing; correct it and start the agent again")]
    Executor(#[from] tierce_executor::Error),
    /// The data directory cannot be used.
    #[error("{}: {source}; this site can run nothing; check the directory", path.display())]
    Data {
        /// What was to be made.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// The runner itself is a task; this is how it begins.
#[derive(Debug)]
pub struct Runner;

impl Runner {
    /// Starts it on the current runtime. At first nothing is known to run: every resource is
    /// probed, and what runs without an order for the promise time T, or beyond the last lease
    /// that an earlier agent had, is stopped.
    pub fn start(
        options: RunnerOptions,
    ) -> Result<(RunnerHandle, mpsc::Receiver<RunnerEvent>), RunnerError> {
        let locks = options.config.data.join("locks");
        std::fs::create_dir_all(&locks)
            .map_err(|source| RunnerError::Data { path: locks, source })?;
        let executor = tierce_executor::Executor::new(options.executor.clone())?;
        let (events, receiver) = mpsc::channel(limits::EVENT_CHANNEL);
        let handle = RunnerHandle { mailbox: Arc::new(Mailbox::default()) };
        let service = service::Service::new(options, executor, Arc::clone(&handle.mailbox), events);
        tokio::spawn(service.run());
        Ok((handle, receiver))
    }
}

/// What a client waits for.
pub(crate) enum Ask {
    View(oneshot::Sender<RunnerView>),
    Reconfigure(Vec<TicketConfig>),
    Shutdown(oneshot::Sender<()>),
}

#[derive(Default)]
pub(crate) struct Inbox {
    pub(crate) orders: VecDeque<RunnerOrder>,
    pub(crate) asks: VecDeque<Ask>,
    /// Orders were dropped because the loop is stuck: it is not alive any more (R15), so that the
    /// lease ends and the guard stops everything.
    pub(crate) overflowed: bool,
}

#[derive(Default)]
pub(crate) struct Mailbox {
    inbox: Mutex<Inbox>,
    pub(crate) bell: Notify,
}

impl Mailbox {
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut Inbox) -> R) -> R {
        f(&mut self.inbox.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// How the agent speaks to its runner.
#[derive(Clone)]
pub struct RunnerHandle {
    mailbox: Arc<Mailbox>,
}

impl std::fmt::Debug for RunnerHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunnerHandle").finish_non_exhaustive()
    }
}

impl RunnerHandle {
    /// Gives an order. Never waits.
    pub fn order(&self, order: RunnerOrder) {
        self.mailbox.with(|inbox| {
            if matches!(order, RunnerOrder::Lease { .. })
                && let Some(last @ RunnerOrder::Lease { .. }) = inbox.orders.back_mut()
            {
                *last = order; // only the newest counts
            } else if inbox.orders.len() < limits::MAX_ORDERS {
                inbox.orders.push_back(order);
            } else {
                inbox.overflowed = true;
            }
        });
        self.mailbox.bell.notify_one();
    }

    /// What runs here now; empty when the runner has ended.
    pub async fn view(&self) -> RunnerView {
        let (answer, wait) = oneshot::channel();
        self.ask(Ask::View(answer));
        wait.await.unwrap_or_default()
    }

    /// New settings of tickets. Of one that runs, they count from its next start on.
    pub fn reconfigure(&self, tickets: Vec<TicketConfig>) {
        self.ask(Ask::Reconfigure(tickets));
    }

    /// Ends the runner. What still runs is left to the guard, which stops it when the lease ends;
    /// a guard with nothing left to guard ends too.
    pub async fn shutdown(&self) {
        let (answer, wait) = oneshot::channel();
        self.ask(Ask::Shutdown(answer));
        let _ = wait.await; // an error says that it has ended already
    }

    fn ask(&self, ask: Ask) {
        self.mailbox.with(|inbox| inbox.asks.push_back(ask));
        self.mailbox.bell.notify_one();
    }
}
