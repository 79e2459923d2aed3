//! The tenants in service: each one member, each with its own fate.
//!
//! A tenant is taken in (its folder read, its store opened, its member started), watched (the
//! member's events), and taken out. Whatever goes wrong with one of them becomes a word in its own
//! entry. Changes go one at a time; looking never waits for a change.
//!
//! A member that was stopped by its own trouble is told from one that we stopped by its
//! *generation*: what an older generation still says is not heard.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tierce_link::{CertInfo, LinkError, PkiError};
use tierce_member::{Host, HostError, MemberEvent, MemberHandle, MemberOptions, OLDER_STORE};
use tierce_store::StoreError;
use tierce_ticket::configuration::Role;
use tierce_ticket::member::Alarm;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::admin::removed;
use crate::entry::{Cause, Condition, Entry, STILL_HELD};
use crate::layout::{DataDir, Quota, TenantDir};
use crate::limits::{MEMBER_END, MEMBERS_END, TAKEOVER_TRIES};
use crate::times;
use crate::trouble::Trouble;
use crate::upkeep::Stamp;

/// All tenants of the process.
pub(crate) struct Roster {
    pub(crate) host: Host,
    pub(crate) data: DataDir,
    entries: Mutex<BTreeMap<String, Entry>>,
    /// Held while tenants come, go or change.
    change: tokio::sync::Mutex<()>,
    generations: AtomicU64,
    ending: AtomicBool,
}

// --- looking --------------------------------------------------------------------------------

impl Roster {
    pub(crate) fn new(host: Host, data: DataDir) -> Arc<Self> {
        Arc::new(Self {
            host,
            data,
            entries: Mutex::default(),
            change: tokio::sync::Mutex::default(),
            generations: AtomicU64::new(1),
            ending: AtomicBool::new(false),
        })
    }

    pub(crate) fn entries(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with one entry.
    pub(crate) fn with<T>(&self, name: &str, f: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        self.entries().get_mut(name).map(f)
    }

    /// One line for the service manager.
    pub(crate) fn summary(&self) -> String {
        let entries = self.entries();
        let serving =
            entries.values().filter(|e| matches!(e.condition, Condition::Serving)).count();
        let stopped = entries.len() - serving;
        format!("{} tenants: {serving} served, {stopped} stopped", entries.len())
    }

    /// Some member that runs, another one each time.
    pub(crate) fn some_member(&self, turn: usize) -> Option<MemberHandle> {
        let entries = self.entries();
        let running: Vec<_> = entries.values().filter_map(|e| e.member.as_ref()).collect();
        running.get(turn % running.len().max(1)).map(|m| (*m).clone())
    }
}

// --- taking in ------------------------------------------------------------------------------

/// What starting a member gave.
struct Started {
    member: MemberHandle,
    events: mpsc::Receiver<MemberEvent>,
    certificate: CertInfo,
}

impl Roster {
    /// Reads the directory: takes in what is new, takes out what is gone, tries again what is
    /// stopped, and gives new quotas. Every tenant's failure is its own.
    pub(crate) async fn read_directory(self: &Arc<Self>) -> Result<(), Trouble> {
        let (names, strange) = self.data.names()?;
        for name in strange {
            tracing::warn!(name, "tenants/ holds something that is no tenant's name; left alone");
        }
        let known: Vec<String> = self.entries().keys().cloned().collect();
        for gone in known.iter().filter(|k| !names.contains(k)) {
            let _one = self.change.lock().await;
            self.stop(gone, MEMBER_END).await;
            self.entries().remove(gone);
            tracing::info!(tenant = gone, "no longer in the directory; taken out");
        }
        for name in names {
            if self.ending.load(Ordering::Relaxed) {
                break;
            }
            let _one = self.change.lock().await;
            self.refresh(&name).await;
        }
        Ok(())
    }

    /// Brings one tenant to what its folder says.
    async fn refresh(self: &Arc<Self>, name: &str) {
        let serving = self.with(name, |e| matches!(e.condition, Condition::Serving));
        if serving == Some(true) {
            match self.data.tenant(name).quota() {
                Ok(quota) if self.with(name, |e| e.quota) == Some(quota) => return,
                Ok(quota) => {
                    let link_part = self.with(name, |e| e.quota.link() == quota.link());
                    if link_part == Some(true) {
                        self.with(name, |e| e.quota = quota);
                        return;
                    }
                    tracing::info!(tenant = name, "new quotas; its member starts anew");
                }
                Err(e) => {
                    tracing::error!(tenant = name, "{e}; the old quotas stay");
                    return;
                }
            }
        }
        let _ = self.start(name).await;
    }

    /// Takes in a tenant whose folder is in its place; for commands.
    pub(crate) async fn add(self: &Arc<Self>, name: &str) -> Result<(), Trouble> {
        if !self.data.tenant(name).exists() {
            return Err(Trouble::NoSuch(name.to_owned()));
        }
        let _one = self.change.lock().await;
        if self.with(name, |e| matches!(e.condition, Condition::Serving)) == Some(true) {
            return Err(Trouble::Exists(name.to_owned()));
        }
        self.start(name).await
    }

    /// Tries a stopped tenant again.
    pub(crate) async fn retry(self: &Arc<Self>, name: &str) {
        let _one = self.change.lock().await;
        if self.with(name, |e| matches!(e.condition, Condition::Stopped { .. })) == Some(true) {
            let _ = self.start(name).await;
        }
    }

    /// Starts a tenant's member, after ending the one that may run. The caller holds `change`.
    async fn start(self: &Arc<Self>, name: &str) -> Result<(), Trouble> {
        self.entries().entry(name.to_owned()).or_insert_with(Entry::new);
        self.stop(name, MEMBER_END).await;
        if self.ending.load(Ordering::Relaxed) {
            return Err(Trouble::NoSuch(name.to_owned()));
        }
        let dir = self.data.tenant(name);
        let files = Stamp::of(&dir.pki());
        let started = match dir.quota() {
            Ok(quota) => {
                self.with(name, |e| e.quota = quota);
                self.start_member(name, &dir, quota).await
            }
            Err(e) => Err(e),
        };
        let generation = self.generations.fetch_add(1, Ordering::Relaxed);
        let result = match started {
            Ok(started) => {
                let events = started.events;
                self.with(name, |e| {
                    e.generation = generation;
                    e.condition = Condition::Serving;
                    e.member = Some(started.member);
                    e.stranger = None;
                    e.certificate = Some(started.certificate);
                    e.retry_at = None;
                    e.served_since = Some(Instant::now());
                });
                tracing::info!(tenant = name, "served");
                tierce_trace::record("tenant-served", &[("tenant", name.into())]);
                tokio::spawn(pump(self.clone(), name.to_owned(), generation, events));
                Ok(())
            }
            Err(trouble) => {
                let certificate = dir.certificate(name).ok();
                self.with(name, |e| e.certificate = certificate);
                if held_by_ourselves(&trouble) {
                    self.with(name, Entry::still_held);
                    tracing::error!(tenant = name, "not opened again: {STILL_HELD}");
                    return Err(trouble);
                }
                let why = in_full(&trouble);
                self.with(name, |e| e.stopped(cause_of(&trouble), &why));
                self.report_stop(name, &why);
                Err(trouble)
            }
        };
        self.with(name, |e| {
            e.files = files;
            e.renew_at = None;
        });
        result
    }

    /// Opens the store and starts the member, away from the other members' thread. The old
    /// member's task may still be putting its things away, so a place that is taken is tried again.
    async fn start_member(
        &self,
        name: &str,
        dir: &TenantDir,
        quota: Quota,
    ) -> Result<Started, Trouble> {
        let (tries, wait) = TAKEOVER_TRIES;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let (host, dir, tenant) = (self.host.clone(), dir.clone(), name.to_owned());
            let work = move || start_blocking(&host, &dir, &tenant, quota);
            let result = match tokio::task::spawn_blocking(work).await {
                Ok(result) => result,
                Err(e) => Err(Trouble::Host(HostError::Name(format!("starting failed: {e}")))),
            };
            let taken = matches!(
                &result,
                Err(Trouble::Host(
                    HostError::Twice(_)
                        | HostError::Link(LinkError::TenantExists(_))
                        | HostError::Store(StoreError::Locked { .. })
                ))
            );
            if !taken || attempt >= tries {
                return result;
            }
            tokio::time::sleep(wait).await;
        }
    }

    fn report_stop(&self, name: &str, why: &str) {
        tracing::error!(tenant = name, "the tenant is stopped, the others go on: {why}");
        self.alarm(name, &format!("stopped: {why}"));
    }

    /// Notes an alarm, records it and keeps a copy of the recording.
    pub(crate) fn alarm(&self, name: &str, text: &str) {
        self.with(name, |e| e.note(text));
        tierce_trace::record("alarm", &[("tenant", name.into()), ("text", text.into())]);
        let (reason, dir) = (format!("alarm-{name}"), self.data.dumps());
        tokio::task::spawn_blocking(move || match tierce_trace::dump(&reason, &dir) {
            Ok(path) => tracing::info!(path = %path.display(), "recording kept"),
            Err(e) => tracing::debug!("no recording kept: {e}"),
        });
    }
}

fn start_blocking(
    host: &Host,
    dir: &TenantDir,
    tenant: &str,
    quota: Quota,
) -> Result<Started, Trouble> {
    let certificate = dir.certificate(tenant)?;
    if certificate.not_after <= SystemTime::now() {
        let at = times::utc(certificate.not_after);
        return Err(Trouble::CertificateEnded { tenant: tenant.to_owned(), at });
    }
    let name = certificate.identity.name.as_str();
    let name =
        name.parse().map_err(|_| HostError::Name(format!("{name} is not a member's name")))?;
    let (member, events) = host.add_member(MemberOptions {
        tenant: tenant.to_owned(),
        name,
        role: Role::Arbitrator,
        store_dir: dir.store(),
        pki_dir: dir.pki(),
        digest: [0; 16],
        plan: None,
        peers: Vec::new(),
        quota: quota.link(),
    })?;
    Ok(Started { member, events, certificate })
}

/// The store is open in this very process.
fn held_by_ourselves(trouble: &Trouble) -> bool {
    let us = Some(std::process::id());
    matches!(trouble, Trouble::Host(HostError::Store(StoreError::Locked { pid })) if *pid == us)
}

fn cause_of(trouble: &Trouble) -> Cause {
    match trouble {
        Trouble::Host(
            HostError::Store(
                StoreError::Full { .. } | StoreError::NoRoom { .. } | StoreError::Io { .. },
            )
            | HostError::Io { .. },
        ) => Cause::Disk,
        Trouble::Certificate { .. }
        | Trouble::CertificateEnded { .. }
        | Trouble::Pki(PkiError::File { .. } | PkiError::Damaged { .. })
        | Trouble::Host(HostError::Certificate { .. } | HostError::Link(_)) => Cause::Files,
        _ => Cause::Other,
    }
}

/// A store's trouble says effect and next step apart from what happened.
fn in_full(trouble: &Trouble) -> String {
    match trouble {
        Trouble::Host(HostError::Store(e)) => format!("{e}; {}; {}", e.effect(), e.next_step()),
        Trouble::Host(HostError::Inconsistent(e)) => {
            format!(
                "{e}; this store is no voter any more (R5); set it aside and re-admit the member"
            )
        }
        Trouble::Host(e @ HostError::OlderStore { .. }) => {
            let (follows, next) = OLDER_STORE;
            format!("{e}; {follows}; {next}")
        }
        other => other.to_string(),
    }
}

// --- watching -------------------------------------------------------------------------------

/// Takes a member's events until it ends. Never waits for the member, so that the member never
/// waits for us.
async fn pump(
    roster: Arc<Roster>,
    name: String,
    generation: u64,
    mut events: mpsc::Receiver<MemberEvent>,
) {
    let mut fatal = None;
    while let Some(event) = events.recv().await {
        match event {
            MemberEvent::Alarm(alarm) => {
                let text = alarm.to_string();
                if matches!(alarm, Alarm::NotAdmitted { .. }) {
                    roster.with(&name, |e| e.stranger = Some(text.clone()));
                }
                roster.alarm(&name, &text);
            }
            MemberEvent::Fatal(why) => fatal = Some(why),
            MemberEvent::Decided { index, events, .. } => {
                for event in events {
                    let text = format!("{event:?}");
                    tracing::debug!(tenant = name, index = index.0, "decided: {text}");
                }
            }
            // An arbitrator's holder does not exist; an order would be a defect of the core.
            MemberEvent::Order(order) => {
                roster.alarm(&name, &format!("an arbitrator was given an order: {order:?}"));
            }
            MemberEvent::Leader(leader) => {
                let leader = leader.map_or("none".to_owned(), |l| l.to_string());
                tracing::debug!(tenant = name, leader, "leader");
            }
            MemberEvent::PeerUp { name: peer, .. } => {
                tracing::debug!(tenant = name, %peer, "peer up");
            }
            MemberEvent::PeerDown { name: peer, why } => {
                tracing::debug!(tenant = name, %peer, why, "peer down");
            }
            MemberEvent::Reconfigured | MemberEvent::DocketReplaced => {}
        }
    }
    roster.ended(&name, generation, fatal);
}

impl Roster {
    /// A member has ended. If it is still the one in service, it ended by its own trouble.
    fn ended(&self, name: &str, generation: u64, fatal: Option<String>) {
        let why =
            fatal.unwrap_or_else(|| "its member ended without a reason: see the log".to_owned());
        let current = self.with(name, |e| {
            let current = e.generation == generation;
            if current {
                e.forget_member();
                e.stopped(Cause::Disk, &why);
            }
            current
        });
        if current == Some(true) {
            self.report_stop(name, &why);
        }
    }
}

// --- taking out -----------------------------------------------------------------------------

impl Roster {
    /// Ends a tenant's member; waits for its last write.
    async fn stop(&self, name: &str, within: Duration) {
        let member = self.with(name, Entry::forget_member).flatten();
        if let Some(member) = member
            && timeout(within, member.shutdown()).await.is_err()
        {
            tracing::error!(tenant = name, "its member did not end within {within:?}");
        }
    }

    /// Stops a tenant's member for a reason of ours.
    pub(crate) async fn stop_for(&self, name: &str, cause: Cause, why: &str) {
        let _one = self.change.lock().await;
        self.stop(name, MEMBER_END).await;
        self.with(name, |e| e.stopped(cause, why));
        self.report_stop(name, why);
    }

    /// Takes a tenant out of service and its data away; for commands. Gives what was done.
    pub(crate) async fn remove(&self, name: &str, purge: bool) -> Result<String, Trouble> {
        let _one = self.change.lock().await;
        if !self.data.tenant(name).exists() && self.with(name, |_| ()).is_none() {
            return Err(Trouble::NoSuch(name.to_owned()));
        }
        self.stop(name, MEMBER_END).await;
        self.entries().remove(name);
        let (data, tenant) = (self.data.clone(), name.to_owned());
        let taking = tokio::task::spawn_blocking(move || data.take_away(&tenant, purge)).await;
        let kept = taking.map_err(|e| {
            Trouble::Host(HostError::Name(format!("taking {name} away failed: {e}")))
        })??;
        tracing::info!(tenant = name, purge, "removed");
        Ok(removed(name, kept.as_deref()))
    }

    /// Ends all members at once, within a bound.
    pub(crate) async fn stop_all(self: &Arc<Self>) {
        self.ending.store(true, Ordering::Relaxed);
        let mut members: Vec<MemberHandle> = Vec::new();
        for entry in self.entries().values_mut() {
            members.extend(entry.forget_member());
        }
        let all = async {
            let ends: Vec<_> = members
                .into_iter()
                .map(|m| tokio::spawn(async move { m.shutdown().await }))
                .collect();
            for end in ends {
                let _ = end.await;
            }
        };
        if timeout(MEMBERS_END, all).await.is_err() {
            tracing::warn!("not every member wrote its last in time; what was answered is safe");
        }
    }
}
