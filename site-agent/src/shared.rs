//! What the main loop, the control socket and the metrics all look at.
//!
//! The main loop writes, the others read and wait for changes. Nothing here decides anything.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tierce_member::{Host, MemberHandle};
use tierce_ticket::docket::Docket;
use tierce_ticket::ids::{MemberName, SessionId, Term, TicketId};
use tierce_ticket::message::Readiness;
use tierce_wire::control::AlarmView;
use tokio::sync::{mpsc, oneshot, watch};

use crate::config::Config;
use crate::history::History;
use crate::limits::{MAX_ALARMS, START_FAILED_KEEPS};
use crate::runner::RunnerHandle;
use crate::told::Told;
use crate::view::words::utc;

/// What a client asks of the main loop.
#[derive(Debug)]
pub(crate) enum LoopRequest {
    /// Reads the file again.
    Reload(oneshot::Sender<Result<String, String>>),
    /// Ends the agent.
    Stop {
        /// Gives up tickets first.
        release: bool,
        /// Answered when the end begins.
        reply: oneshot::Sender<()>,
    },
}

/// Why a ticket is blocked at this site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Blocked {
    /// Under which term it happened.
    pub(crate) term: Term,
    /// In words.
    pub(crate) why: String,
    /// Something may still run.
    pub(crate) stop_failed: bool,
    /// Since when.
    pub(crate) at: Instant,
    /// When another site was last asked to take it.
    pub(crate) offered: Option<Instant>,
}

impl Blocked {
    /// Whether a failed start still speaks against a grant here.
    pub(crate) fn counts(&self) -> bool {
        self.stop_failed || self.at.elapsed() < START_FAILED_KEEPS
    }
}

/// How long starts and stops of a ticket took here the last time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Measured {
    pub(crate) start: Option<Duration>,
    pub(crate) stop: Option<Duration>,
}

/// What changes while the agent runs.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) alarms: VecDeque<AlarmView>,
    pub(crate) names: BTreeMap<TicketId, String>,
    /// Some of them came with an event, and the runner has not heard of them.
    names_untold: bool,
    pub(crate) blocked: BTreeMap<TicketId, Blocked>,
    pub(crate) measured: BTreeMap<TicketId, Measured>,
    /// What became of the newest grant to this site.
    pub(crate) told: BTreeMap<TicketId, Told>,
    pub(crate) readiness: Option<Readiness>,
    pub(crate) session: Option<SessionId>,
    pub(crate) leaving: bool,
    pub(crate) started: u64,
    pub(crate) start_failures: u64,
    pub(crate) stop_failures: u64,
    pub(crate) lease_losses: u64,
}

/// The parts of a running agent; see the module.
pub(crate) struct Shared {
    pub(crate) config: Mutex<Arc<Config>>,
    pub(crate) config_path: PathBuf,
    pub(crate) name: MemberName,
    pub(crate) host: Host,
    pub(crate) member: MemberHandle,
    pub(crate) runner: RunnerHandle,
    pub(crate) history: History,
    pub(crate) requests: mpsc::Sender<LoopRequest>,
    pub(crate) changed: watch::Sender<u64>,
    state: Mutex<State>,
}

impl Shared {
    #[allow(clippy::too_many_arguments)] // the parts of an agent, each once
    pub(crate) fn new(
        config: Config,
        config_path: PathBuf,
        name: MemberName,
        host: Host,
        member: MemberHandle,
        runner: RunnerHandle,
        history: History,
        requests: mpsc::Sender<LoopRequest>,
    ) -> Self {
        Self {
            config: Mutex::new(Arc::new(config)),
            config_path,
            name,
            host,
            member,
            runner,
            history,
            requests,
            changed: watch::Sender::new(0),
            state: Mutex::default(),
        }
    }

    /// The file as it is in force.
    pub(crate) fn config(&self) -> Arc<Config> {
        self.config.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_config(&self, config: Config) {
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }

    /// The state; held for as long as a copy takes, never across a wait.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whoever waits looks again.
    pub(crate) fn tell_changed(&self) {
        self.changed.send_modify(|n| *n += 1);
    }

    /// Somebody should look.
    pub(crate) fn alarm(&self, text: impl Into<String>) {
        let text = text.into();
        tracing::warn!(alarm = %text, "alarm");
        let at = utc(tierce_member::now().wall_ms);
        let mut state = self.state();
        if state.alarms.front().is_some_and(|a| a.text == text) {
            state.alarms.pop_front();
        }
        state.alarms.push_front(AlarmView { at, text });
        state.alarms.truncate(MAX_ALARMS);
        drop(state);
        self.tell_changed();
    }

    /// Name of a ticket as last seen; its number when it was never seen.
    pub(crate) fn ticket_name(&self, id: TicketId) -> String {
        self.state().names.get(&id).cloned().unwrap_or_else(|| format!("number {id}"))
    }

    /// Forgets a failed start or stop of the ticket of this name; true when there was one.
    pub(crate) fn unblock(&self, name: &str) -> bool {
        let mut state = self.state();
        let id = state.names.iter().find(|(_, n)| *n == name).map(|(id, _)| *id);
        id.is_some_and(|id| state.blocked.remove(&id).is_some())
    }

    /// Takes over the names in the docket; true when they changed.
    pub(crate) fn learn_names(&self, names: BTreeMap<TicketId, String>) -> bool {
        let mut state = self.state();
        let changed = std::mem::take(&mut state.names_untold) || state.names != names;
        if changed {
            state.names = names;
        }
        changed
    }

    /// One name, as soon as an event needs it. The runner has not heard of it yet: without its
    /// number it would never report what its handlers refuse.
    pub(crate) fn learn_name(&self, ticket: TicketId, name: String) {
        let mut state = self.state();
        state.names_untold |= state.names.insert(ticket, name).is_none();
    }

    /// The member's readiness with what this agent knows of failed starts and stops.
    pub(crate) fn merged_readiness(&self) -> Option<Readiness> {
        let state = self.state();
        let mut merged = state.readiness.clone()?;
        if state.leaving {
            merged.not_ready = Some("the site's agent is leaving".to_owned());
        }
        for (id, blocked) in state.blocked.iter().filter(|(_, b)| b.counts()) {
            let why = if blocked.stop_failed {
                format!("its resources did not stop here: {}", blocked.why)
            } else {
                format!("its resources did not start here: {}", blocked.why)
            };
            match merged.tickets.iter_mut().find(|(t, _)| t == id) {
                Some((_, own)) => own.blocked = Some(why),
                None => merged.tickets.push((
                    *id,
                    tierce_ticket::message::TicketReadiness { blocked: Some(why), lag: None },
                )),
            }
        }
        Some(merged)
    }
}

/// Names of all tickets.
pub(crate) fn names_of(docket: &Docket) -> BTreeMap<TicketId, String> {
    docket.tickets().map(|t| (t.id, t.name.to_string())).collect()
}
