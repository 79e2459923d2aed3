//! The tickets of the file and those of the ledger.
//!
//! Tickets that the file names and the ledger lacks are made by one site, the first by name, so that
//! two files that differ do not take turns. A policy that differs is an alarm and nothing more: what
//! holds is the ledger's word, and it is changed by a command or by a reload.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tierce_ticket::command::{Command, Outcome, RefusalCode};
use tierce_ticket::docket::Docket;
use tierce_ticket::entry::Policy;
use tierce_ticket::ids::TicketName;
use tierce_ticket::member::{Input, Standing};
use tokio::task::JoinSet;

use super::Agent;
use crate::config::Config;
use crate::limits::OWN_COMMANDS;
use crate::shared::Shared;

/// What the file has and the ledger has not, or has otherwise.
struct Differences {
    missing: Vec<(TicketName, Policy)>,
    differing: Vec<TicketName>,
}

fn compare(docket: &Docket, file: Vec<(TicketName, Policy)>) -> Differences {
    let mut d = Differences { missing: Vec::new(), differing: Vec::new() };
    for (name, policy) in file {
        match docket.ticket_named(&name) {
            None => d.missing.push((name, policy)),
            Some(t) if t.policy != policy => d.differing.push(name),
            Some(_) => {}
        }
    }
    d
}

impl Agent {
    /// Compares file and ledger; makes what is missing, if that falls to this site.
    pub(super) fn sync_tickets(&mut self) {
        if self.syncing.swap(true, Ordering::AcqRel) {
            return;
        }
        self.sync_due = false;
        let (shared, syncing) = (self.shared.clone(), self.syncing.clone());
        let (reported, again) = (self.differing.clone(), self.sync_again.clone());
        tokio::spawn(async move {
            if let Some(d) = differences(&shared).await {
                for name in &d.differing {
                    let new = reported
                        .lock()
                        .unwrap_or_else(std::sync::PoisonError::into_inner)
                        .insert(name.to_string());
                    if new {
                        shared.alarm(format!(
                            "the policy of {name} in the ledger differs from this site's file; \
                             reload after a change, or tierce tickets set {name}"
                        ));
                    }
                }
                if !set_all(&shared, d.missing).await {
                    again.store(true, Ordering::Release);
                }
            }
            syncing.store(false, Ordering::Release);
        });
    }

    /// Reads the file again and takes over what may change.
    pub(super) fn reload(&mut self) -> Result<String, String> {
        let new = Config::load(&self.shared.config_path).map_err(|e| e.to_string())?;
        let old = self.shared.config();
        let refused = old.refused_changes(&new);
        if !refused.is_empty() {
            return Err(refused.join("\n"));
        }
        let told = self.shared.member.input(Input::Digest(new.digest()));
        told.map_err(|_| "the member is busy; nothing was changed, ask again".to_owned())?;
        let mut said = Vec::new();
        let changed = old.changed_tickets(&new);
        if !changed.is_empty() {
            self.shared.runner.reconfigure(new.tickets.clone());
            said.push(format!("settings of {} count from their next start", changed.join(", ")));
        }
        let before = old.policies();
        let mut policies = new.policies();
        policies.retain(|p| before.iter().any(|b| b.0 == p.0) && !before.contains(p));
        if !policies.is_empty() {
            let names: Vec<&str> = policies.iter().map(|(n, _)| n.as_str()).collect();
            said.push(format!("the policy of {} is set in the ledger", names.join(", ")));
        }
        if old.digest() != new.digest() {
            said.push("the other sites' files must say the same: reload them too".to_owned());
        }
        match self.shared.host.link().reload_tenant(&tenant(&new)?) {
            Ok(_) => said.push("the certificate was read again".to_owned()),
            Err(e) => said.push(format!("the certificate in use stays: {e}")),
        }
        self.shared.state().blocked.retain(|_, b| b.stop_failed);
        self.shared.set_config(new);
        self.differing.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clear();
        self.report_readiness();
        self.sync_due = true;
        let shared = self.shared.clone();
        tokio::spawn(async move { set_all(&shared, policies).await });
        Ok(format!("the file was read again; {}", said.join("; ")))
    }
}

pub(super) fn tenant(config: &Config) -> Result<tierce_link::Tenant, String> {
    tierce_link::Tenant::new(&config.tenant).map_err(|e| e.to_string())
}

/// What this site has to make; nothing when it falls to another one, or there is no majority.
async fn differences(shared: &Arc<Shared>) -> Option<Differences> {
    let (file, me) = (shared.config().policies(), shared.name.clone());
    let asked = shared.member.read(move |m, _| {
        let first = m.docket().is_some_and(|d| d.site_names().first() == Some(&me));
        first && *m.standing() == Standing::TakingPart && m.leader().is_some()
    });
    if asked.await != Some(true) {
        return None;
    }
    // An old docket would lack tickets that exist, and their policy would be set back.
    if !matches!(shared.member.command(Command::Read).await, Outcome::Done { .. }) {
        return None;
    }
    shared.member.read(move |m, _| m.docket().map(|d| compare(d, file))).await.flatten()
}

/// Sets policies, a few at a time.
/// False: the outcome of some is unknown, look again.
async fn set_all(shared: &Arc<Shared>, policies: Vec<(TicketName, Policy)>) -> bool {
    let (mut under_way, mut all) = (JoinSet::new(), true);
    for (name, policy) in policies {
        while under_way.len() >= OWN_COMMANDS {
            all &= matches!(under_way.join_next().await, Some(Ok(true)));
        }
        let shared = shared.clone();
        under_way.spawn(async move {
            let command = Command::SetTicket { name: name.clone(), policy };
            match shared.member.command(command).await {
                Outcome::Done { .. } => tracing::info!(ticket = %name, "set as the file says"),
                Outcome::Refused(r) if r.code == RefusalCode::NoQuorum => return false,
                Outcome::Refused(r) => shared.alarm(format!("ticket {name} was not set: {r}")),
                Outcome::Unknown { why } => {
                    tracing::info!(ticket = %name, why, "asked again later");
                    return false;
                }
            }
            true
        });
    }
    while let Some(done) = under_way.join_next().await {
        all &= matches!(done, Ok(true));
    }
    all
}
