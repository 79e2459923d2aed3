//! Turns and limits: which action runs when.
//!
//! Per resource one at a time, in the order of asking. Over all resources at most
//! `max_parallel`, except for stops: a site that must be down by a deadline may not wait behind
//! the monitors of others. For the same reason a stop interrupts what only asks about its resource.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Mutex as AsyncMutex, Semaphore, oneshot, watch};

use crate::limits::{MAX_METADATA_BYTES, MAX_OUTPUT_BYTES};
use crate::metadata::Metadata;
use crate::outcome::{Outcome, Status};
use crate::process::{self, Bounds};
use crate::settings::Settings;
use crate::spec::{Action, Class, Context, ResourceSpec};
use crate::systemd::Systemd;
use crate::{Error, Result, command};

/// Runs actions. Clones share turns and limits.
#[derive(Clone)]
pub struct Executor(Arc<Inner>);

struct Inner {
    settings: Settings,
    permits: Semaphore,
    turns: Mutex<HashMap<String, Arc<Turn>>>,
    systemd: Systemd,
}

/// One resource's queue.
struct Turn {
    busy: AsyncMutex<()>,
    interrupts: watch::Sender<Interrupts>,
}

/// A place in the queue of a resource, and what had been told to it before.
struct Place {
    turn: Arc<Turn>,
    interrupts: watch::Receiver<Interrupts>,
    seen: Interrupts,
}

/// How often actions of a resource were told to end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Interrupts {
    cancels: u64,
    stops: u64,
}

impl std::fmt::Debug for Executor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Executor").field("settings", &self.0.settings).finish_non_exhaustive()
    }
}

impl Executor {
    /// Makes the folder for the agents' state, too.
    pub fn new(settings: Settings) -> Result<Self> {
        settings.check()?;
        std::fs::create_dir_all(&settings.rsctmp)
            .map_err(|source| Error::Directory { path: settings.rsctmp.clone(), source })?;
        Ok(Self(Arc::new(Inner {
            permits: Semaphore::new(settings.max_parallel),
            turns: Mutex::new(HashMap::new()),
            systemd: Systemd::new(settings.bus.clone()),
            settings,
        })))
    }

    /// The settings it was made with.
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// Runs an action when its turn comes, in a task of its own. The timeout begins with the
    /// launch. Dropping the future ends the action like `cancel`; the resource's next action waits
    /// until it has ended.
    pub async fn run(&self, spec: &ResourceSpec, action: Action, context: &Context) -> Outcome {
        if let Err(e) = spec.check().and_then(|()| context.check()) {
            return Outcome::told(Status::NotConfigured, e.to_string());
        }
        // Dropped together with this future, which the task sees.
        let (_asker, asker_gone) = oneshot::channel::<()>();
        let (this, spec, context) = (self.clone(), spec.clone(), context.clone());
        // The place in the queue is that of the asking, not of the task's first turn to run.
        let place = this.queue(&spec.id, action);
        let task = tokio::spawn(async move {
            let outcome = this.run_in_turn(&place, asker_gone, &spec, action, &context).await;
            drop(place);
            this.forget_idle(&spec.id);
            tell(&spec, action, &outcome);
            outcome
        });
        // The task fails only with the runtime, or by a defect of ours: the resource's state is
        // then unknown, which is what an error means.
        task.await.unwrap_or_else(|e| Outcome::told(Status::Error, format!("not run: {e}")))
    }

    /// Ends whatever runs or waits for this resource; the outcomes say so.
    pub fn cancel(&self, resource: &str) {
        let turns = self.0.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = turns.get(resource) {
            turn.interrupts.send_modify(|i| i.cancels += 1);
        }
    }

    /// What the agent says about itself. For OCF agents only.
    pub async fn metadata(&self, spec: &ResourceSpec) -> Result<Metadata> {
        let refuse = |why: String| Error::Metadata { agent: spec.agent.to_string(), why };
        let outcome = self.run(spec, Action::MetaData, &Context::default()).await;
        if !outcome.is_ok() {
            return Err(refuse(outcome.to_string()));
        }
        Metadata::parse(&outcome.stdout).map_err(refuse)
    }

    fn queue(&self, resource: &str, action: Action) -> Place {
        let turn = self.turn(resource);
        if action == Action::Stop {
            turn.interrupts.send_modify(|i| i.stops += 1);
        }
        let mut interrupts = turn.interrupts.subscribe();
        let seen = *interrupts.borrow_and_update();
        Place { turn, interrupts, seen }
    }

    async fn run_in_turn(
        &self,
        place: &Place,
        asker_gone: oneshot::Receiver<()>,
        spec: &ResourceSpec,
        action: Action,
        context: &Context,
    ) -> Outcome {
        let turn = &place.turn;
        let mut interrupts = place.interrupts.clone();
        let seen = place.seen;
        let over = move |i: &Interrupts| {
            i.cancels != seen.cancels || (action.only_asks() && i.stops != seen.stops)
        };
        let mut interrupted = std::pin::pin!(async move {
            tokio::select! {
                _ = interrupts.wait_for(over) => {}
                _ = asker_gone => {}
            }
        });
        let inner = &self.0;
        let my_turn = async {
            let turn = turn.busy.lock().await;
            let permit = match action {
                Action::Stop => None,
                _ => inner.permits.acquire().await.ok(),
            };
            (turn, permit)
        };
        tokio::select! {
            biased;
            () = &mut interrupted => Outcome::cancelled(),
            _held = my_turn => self.execute(spec, action, context, interrupted).await,
        }
    }

    async fn execute(
        &self,
        spec: &ResourceSpec,
        action: Action,
        context: &Context,
        interrupted: impl Future<Output = ()>,
    ) -> Outcome {
        let settings = &self.0.settings;
        let timeout = context.timeout.unwrap_or_else(|| spec.timeout(action));
        if self.is_unit(spec) {
            let unit = &spec.agent.agent_type;
            return self.0.systemd.run(unit, action, timeout, interrupted).await;
        }
        let (command, read_code) = match command::build(settings, spec, action, context) {
            Ok(built) => built,
            Err(outcome) => return *outcome,
        };
        let describes = action == Action::MetaData;
        let bounds = Bounds {
            timeout,
            term_grace: settings.term_grace,
            output_bytes: if describes { MAX_METADATA_BYTES } else { MAX_OUTPUT_BYTES },
            leaves_nothing: action.only_asks(),
        };
        process::run(command, &bounds, read_code, interrupted).await
    }

    /// Whether systemd is asked. `service:` means the init script where there is one: that is the
    /// order in which existing clusters resolve it.
    fn is_unit(&self, spec: &ResourceSpec) -> bool {
        match spec.agent.class {
            Class::Systemd => true,
            Class::Service => !self.0.settings.lsb_dir.join(&spec.agent.agent_type).is_file(),
            Class::Ocf { .. } | Class::Lsb => false,
        }
    }

    fn turn(&self, resource: &str) -> Arc<Turn> {
        let mut turns = self.0.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || {
            Arc::new(Turn {
                busy: AsyncMutex::new(()),
                interrupts: watch::Sender::new(Interrupts::default()),
            })
        };
        turns.entry(resource.to_owned()).or_insert_with(fresh).clone()
    }

    /// Queues of resources that nobody runs or waits for need no memory.
    fn forget_idle(&self, resource: &str) {
        let mut turns = self.0.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if turns.get(resource).is_some_and(|t| Arc::strong_count(t) == 1) {
            turns.remove(resource);
        }
    }
}

fn tell(spec: &ResourceSpec, action: Action, outcome: &Outcome) {
    tracing::debug!(
        resource = %spec.id,
        agent = %spec.agent,
        %action,
        status = %outcome.status,
        timed_out = outcome.timed_out,
        cancelled = outcome.cancelled,
        duration_ms = outcome.duration.as_millis() as u64,
        reason = %outcome.reason,
        "action ended"
    );
}
