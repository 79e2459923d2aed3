//! `stop-ticket`: what the guard runs when the agent cannot stop a ticket itself.
//!
//! The agent is dead, frozen or starved, and may have been in the middle of anything: a start of
//! its may still be going on and bring a service up behind a stop. So the gate shuts first, then
//! everything is stopped in reverse order, then what is left with the ticket in its environment is
//! killed, and then every resource is asked: only if all say that they do not run is the exit
//! code 0, which the guard takes for "stopped". A living agent that is stopping the same ticket is
//! given a moment by a lock.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tierce_executor::{Action, Context, Executor, Status};
use tokio::time::{Instant, sleep};

use super::doors::Doors;
use super::limits::LOCK_WAIT;
use super::processes;
use super::settings::{Setting, executor_settings, lock_path};
use crate::config::Config;

/// Why a ticket is not known to be stopped. The guard tries again until the last resort is due.
#[derive(Debug, thiserror::Error)]
pub enum StopTicketError {
    /// The file has no such ticket.
    #[error("no ticket {0:?} in the configuration: nothing was stopped; check the name")]
    NoSuch(String),
    /// Agents cannot be run.
    #[error("{0}; nothing was stopped; correct it")]
    Executor(#[from] tierce_executor::Error),
    /// The settings are such that nothing can be run.
    #[error("{0}; nothing was stopped; correct the configuration")]
    Setting(String),
    /// Something may still run.
    #[error("{what} of ticket {ticket:?} may still run: {why}; the guard goes on trying")]
    StillRuns {
        /// Which ticket.
        ticket: String,
        /// Which resource, or the address.
        what: String,
        /// What was seen.
        why: String,
    },
}

/// Stops everything of a ticket at this site, without the agent. Returns the time it took.
pub async fn stop_ticket(config: &Config, name: &str) -> Result<Duration, StopTicketError> {
    let begun = Instant::now();
    let ticket = config.ticket(name).ok_or_else(|| StopTicketError::NoSuch(name.to_owned()))?;
    let timing = config.timing();
    let setting = Setting::new(ticket, &timing, true);
    if let Some(why) = &setting.plan.forbidden {
        return Err(StopTicketError::Setting(why.clone()));
    }
    let executor = Executor::new(executor_settings(config))?;
    let still = |what: &str, why: String| StopTicketError::StillRuns {
        ticket: name.to_owned(),
        what: what.to_owned(),
        why,
    };

    let mut doors = Doors::new(&config.site);
    // Only the node's own data plane: sessions and sockets of the agent are not ours to end.
    let local = Setting { bgp: None, dns: None, ..setting.clone() };
    doors.prepare(&local);
    let shut = doors.shut(&local);
    let _lock = lock(&lock_path(&config.data, name)).await;

    let mut env: BTreeMap<String, String> = BTreeMap::from([
        ("TIERCE_TICKET".to_owned(), name.to_owned()),
        ("TIERCE_SITE".to_owned(), config.site.clone()),
    ]);
    env.extend(std::env::var("TIERCE_TERM").ok().map(|term| ("TIERCE_TERM".to_owned(), term)));
    let mut failures = BTreeMap::new();
    for (spec, plan) in setting.specs.iter().zip(&setting.plan.parts).rev() {
        let timeout = Some(plan.stop_timeout.min(setting.plan.stop_budget));
        let context = Context { env: env.clone(), timeout, ..Context::default() };
        let outcome = executor.run(spec, Action::Stop, &context).await;
        if !matches!(outcome.status, Status::Ok | Status::NotRunning) {
            failures.insert(spec.id.clone(), outcome.to_string());
        }
    }
    sweep(&config.site, name);
    for (spec, plan) in setting.specs.iter().zip(&setting.plan.parts).rev() {
        let timeout = Some(plan.monitor_timeout.min(setting.plan.stop_budget));
        let context = Context { env: env.clone(), probe: true, timeout, ..Context::default() };
        let outcome = executor.run(spec, Action::Monitor, &context).await;
        if !matches!(outcome.status, Status::NotRunning | Status::NotInstalled) {
            let why = failures.remove(&spec.id).unwrap_or_else(|| format!("monitor: {outcome}"));
            return Err(still(&spec.id, why));
        }
    }
    shut.map_err(|why| still("the service address", why))?;
    Ok(begun.elapsed())
}

/// Kills what was left behind, an action of the dead agent that is still under way included.
fn sweep(site: &str, name: &str) {
    let own = nix::unistd::getpid().as_raw();
    let found = processes::of_tickets(site, &BTreeSet::from([name.to_owned()]));
    for process in found.values().flatten().filter(|p| p.pid != own) {
        tracing::warn!(ticket = name, pid = process.pid, "left behind: killed");
        let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL); // gone already is as good
    }
}

/// The ticket's lock, for a bounded time: a frozen holder of it must not keep anything running.
pub(crate) async fn lock(path: &Path) -> Option<Flock<File>> {
    let until = Instant::now() + LOCK_WAIT;
    let open = || OpenOptions::new().write(true).create(true).truncate(false).open(path);
    let mut file = open().ok()?;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Some(lock),
            Err(_) if Instant::now() >= until => return None,
            Err((back, _)) => file = back,
        }
        sleep(Duration::from_millis(10)).await; // flock cannot be awaited
    }
}
