//! Starting: each part in its order, so that nothing runs before what it rests on.
//!
//! lock → room → history → link and member (store, certificate) → runner → control socket →
//! metrics. The lock on the data directory is what lets this agent take over the session of the one
//! before: no other process of this node can be it.
//!
//! *Room*: an agent whose disk was full has ended (R6), and its service manager starts it again. On
//! a disk that is still full it would take part for a moment, fail with its next decision, and
//! after some rounds of that not be started any more. So it waits here until there is room.

use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use sd_notify::NotifyState;
use tierce_link::{Ca, Settings, TenantQuota};
use tierce_member::{Host, HostError, HostOptions, MemberOptions, OLDER_STORE, PeerAddress};
use tierce_store::check_room;
use tierce_ticket::configuration::Role;
use tierce_ticket::ids::NameError;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{Agent, Heard, Signals};
use crate::config::{Config, Level, check};
use crate::history::{History, HistoryError};
use crate::limits::{MAX_REQUESTS, ROOM_EVERY, ROOM_PATIENCE};
use crate::runner::{Runner, RunnerError, RunnerOptions};
use crate::shared::Shared;
use crate::{control, metrics};

/// Why the agent did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// Another one runs.
    #[error("another agent uses {}: two of them must never run; stop it first", .0.display())]
    Locked(PathBuf),
    /// The system.
    #[error("{what}: {source}; nothing was started; check the path, its owner and the disk")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Names (checked with the file; a defect if it comes here).
    #[error(transparent)]
    Name(#[from] NameError),
    /// Link, store or member.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The runner.
    #[error(transparent)]
    Runner(#[from] RunnerError),
    /// The history.
    #[error(transparent)]
    History(#[from] HistoryError),
}

impl StartError {
    /// What follows from it, where to look, and the safer way.
    pub(crate) fn advice(&self) -> (String, &'static str, &'static str) {
        let effect = "the agent was not started".to_owned();
        match self {
            Self::Host(HostError::Store(e)) => {
                (format!("{effect}; {}", e.effect()), "the files under `data`/store", e.next_step())
            }
            Self::Host(HostError::Inconsistent(_)) => (
                format!("{effect}; this store is no voter any more (R5)"),
                "the files under `data`/store",
                "keep the directory for a look, then have the member re-admitted with an empty one",
            ),
            Self::Host(HostError::OlderStore { .. }) => {
                let (follows, next) = OLDER_STORE;
                (format!("{effect}; {follows}"), "the files under `data`/store", next)
            }
            _ => (effect, "tierce config check", "remove the cause, then try again"),
        }
    }

    /// The system refused something.
    pub(super) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// The lock on the data directory, held until the process ends.
pub(crate) type Lock = Flock<File>;

/// Makes the data directory and takes its lock: before anything else, for everything else is in it.
pub(crate) fn lock(data: &Path) -> Result<Lock, StartError> {
    let mut dir = DirBuilder::new();
    dir.recursive(true).mode(0o700);
    dir.create(data).map_err(StartError::io(format!("making {}", data.display())))?;
    let path = data.join("agent.lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(StartError::io(format!("opening {}", path.display())))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        Errno::EAGAIN => StartError::Locked(data.to_owned()),
        other => {
            StartError::Io { what: format!("locking {}", path.display()), source: other.into() }
        }
    })
}

/// Waits until the disk has room for the next decisions; false when told to end meanwhile.
pub(super) async fn room(config: &Config, signals: &mut Signals) -> bool {
    let mut said = false;
    while let Err(e) = check_room(&store_dir(config)) {
        if !said {
            let (effect, next) = (e.effect(), e.next_step());
            tracing::error!("{e}; {effect}; inspect: df {}; {next}", config.data.display());
            said = true;
        }
        let status = format!("waiting for room: {e}");
        let more = ROOM_PATIENCE.as_micros() as u32;
        notify(&[NotifyState::ExtendTimeoutUsec(more), NotifyState::Status(&status)]);
        if let Ok(Heard::End) = timeout(ROOM_EVERY, signals.next()).await {
            return false;
        }
    }
    if said {
        tracing::info!("there is room again: the agent begins");
        notify(&[NotifyState::Status("")]);
    }
    true
}

fn store_dir(config: &Config) -> PathBuf {
    config.data.join("store")
}

/// Starts all parts. The caller holds the lock.
pub(super) async fn start(
    config: Config,
    path: PathBuf,
    stop_command: Option<Vec<String>>,
) -> Result<Agent, StartError> {
    for finding in check(&config).iter().filter(|f| f.level == Level::Warning) {
        tracing::warn!("{finding}");
    }
    let name = config.site.parse()?;
    let history = History::open(&config.data.join("index"), &config.tenant)?;

    let timing = config.timing();
    let link = Settings::for_period(timing.renew_every, timing.losses);
    let marks = tierce_trace::default_volatile_dir();
    let host = Host::start_for_one(HostOptions { listen: config.listen, link, marks })?;
    let (member, member_events) = host.add_member(member_options(&config)?)?;
    serve_joins(&host, &config);

    let mut options = RunnerOptions::new(config.clone(), path.clone());
    options.stop_command = stop_command;
    let (runner, runner_events) = Runner::start(options)?;

    let socket = config.control_path();
    let listener =
        control::bind(&socket).map_err(StartError::io(format!("binding {}", socket.display())))?;
    let scraped = match config.metrics {
        Some(at) => {
            let bound = TcpListener::bind(at).await;
            Some(bound.map_err(StartError::io(format!("listening on {at} for metrics")))?)
        }
        None => None,
    };
    let (requests, requested) = mpsc::channel(MAX_REQUESTS);
    let site = config.site.clone();
    let shared = Arc::new(Shared::new(config, path, name, host, member, runner, history, requests));
    tokio::spawn(control::serve(listener, shared.clone()));
    if let Some(listener) = scraped {
        tokio::spawn(metrics::serve(listener, shared.clone()));
    }
    tracing::info!(site, control = %socket.display(), "the agent runs");
    Ok(Agent::new(shared, member_events, runner_events, requested))
}

fn member_options(config: &Config) -> Result<MemberOptions, StartError> {
    let plan = config.plan();
    let peers = plan.members.iter().filter(|m| m.name.as_str() != config.site).map(|m| {
        let (name, addresses) = (m.name.clone(), m.addresses.clone());
        PeerAddress { name, role: m.role, addresses }
    });
    Ok(MemberOptions {
        tenant: config.tenant.clone(),
        name: config.site.parse()?,
        role: Role::Site,
        store_dir: store_dir(config),
        pki_dir: config.pki_dir(),
        digest: config.digest(),
        peers: peers.collect(),
        plan: Some(plan),
        quota: TenantQuota::default(),
    })
}

/// The one site that has the authority's folder serves joins and renewals for the others.
fn serve_joins(host: &Host, config: &Config) {
    let Some(dir) = &config.ca else { return };
    let served = Ca::open(dir).map_err(|e| e.to_string());
    let served = served.and_then(|ca| host.link().serve_joins(ca).map_err(|e| e.to_string()));
    if let Err(e) = served {
        tracing::warn!("joins are not served here: {e}");
    }
}

/// Tells the service manager, if there is one.
pub(super) fn notify(state: &[NotifyState<'_>]) {
    if let Err(e) = sd_notify::notify(state) {
        tracing::debug!("the service manager was not told: {e}");
    }
}
