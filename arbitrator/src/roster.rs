//! The tenants in service: each one member, each with its own fate.
//!
//! A tenant is taken in (its folder read, its store opened, its member started), watched (the
//! member's events), and taken out. Whatever goes wrong with one of them becomes a word in its own
//! entry. Changes go one at a time; looking never waits for a change.
//!
//! A member that was stopped by its own trouble is told from one that we stopped by its
//! *generation*: what an older generation still says is not heard.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tierce_link::{CertInfo, LinkError, PkiError};
use tierce_member::{Host, HostError, MemberEvent, MemberHandle, MemberOptions, StatsView};
use tierce_store::StoreError;
use tierce_ticket::configuration::Role;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::admin::removed;
use crate::layout::{DataDir, Quota, TenantDir};
use crate::limits::{
    MAX_ALARMS, MAX_REASON_BYTES, MEMBER_END, MEMBERS_END, RETRY_FIRST, RETRY_LONGEST,
    TAKEOVER_TRIES,
};
use crate::times;
use crate::trouble::Trouble;
use crate::upkeep::Stamp;

/// What an alarm leaves behind.
#[derive(Clone, Debug)]
pub(crate) struct Noted {
    pub(crate) at: SystemTime,
    pub(crate) text: String,
}

/// Why a tenant is not served, and what could change that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The disk failed under it: tried again by itself after a while.
    Disk,
    /// Its certificate or folder: tried again when the files change.
    Files,
    /// Its store is over twice its quota: until the operator gives it more.
    Quota,
    /// Anything else: until the operator asks for it.
    Other,
}

/// A tenant's condition.
#[derive(Clone, Debug)]
pub(crate) enum Condition {
    /// Its member runs.
    Serving,
    /// It does not, for this reason.
    Stopped { cause: Cause, why: String },
}

/// One tenant.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) generation: u64,
    pub(crate) condition: Condition,
    pub(crate) member: Option<MemberHandle>,
    pub(crate) certificate: Option<CertInfo>,
    pub(crate) quota: Quota,
    /// The files as they were when last read.
    pub(crate) files: Stamp,
    pub(crate) store_bytes: u64,
    pub(crate) over_quota: Option<String>,
    pub(crate) alarms: VecDeque<Noted>,
    pub(crate) alarms_total: u64,
    /// Counters of earlier members of this process, so that sums only grow.
    pub(crate) before: StatsView,
    pub(crate) retry_at: Option<Instant>,
    pub(crate) retry_wait: Duration,
    pub(crate) renew_at: Option<Instant>,
}

impl Entry {
    fn new() -> Self {
        Self {
            generation: 0,
            condition: Condition::Stopped { cause: Cause::Other, why: "starting".to_owned() },
            member: None,
            certificate: None,
            quota: Quota::default(),
            files: Stamp::default(),
            store_bytes: 0,
            over_quota: None,
            alarms: VecDeque::new(),
            alarms_total: 0,
            before: StatsView::default(),
            retry_at: None,
            retry_wait: RETRY_FIRST,
            renew_at: None,
        }
    }

    /// Counters of this and earlier members.
    pub(crate) fn stats(&self) -> StatsView {
        let now = self.member.as_ref().map(MemberHandle::stats).unwrap_or_default();
        let b = self.before;
        StatsView {
            messages_in: b.messages_in + now.messages_in,
            messages_out: b.messages_out + now.messages_out,
            malformed: b.malformed + now.malformed,
            unsent: b.unsent + now.unsent,
            renewals_answered: b.renewals_answered + now.renewals_answered,
            persists: b.persists + now.persists,
            persist_us: now.persist_us,
            steps: b.steps + now.steps,
        }
    }

    /// The member is gone; what it counted stays.
    fn forget_member(&mut self) -> Option<MemberHandle> {
        self.before = self.stats();
        self.generation += 1;
        self.member.take()
    }

    fn stopped(&mut self, cause: Cause, why: &str) {
        if cause == Cause::Disk {
            self.retry_at = Some(Instant::now() + self.retry_wait);
            self.retry_wait = (self.retry_wait * 2).min(RETRY_LONGEST);
        } else {
            self.retry_at = None;
        }
        self.condition = Condition::Stopped { cause, why: short(why) };
    }

    fn note(&mut self, text: &str) {
        self.alarms_total += 1;
        self.alarms.push_front(Noted { at: SystemTime::now(), text: short(text) });
        self.alarms.truncate(MAX_ALARMS);
    }
}

/// One line of bounded length.
fn short(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let cut = line.char_indices().map(|(i, c)| i + c.len_utf8()).take_while(|end| *end <= MAX_REASON_BYTES);
    let end = cut.last().unwrap_or(0);
    line[..end].to_owned()
}

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
                    e.certificate = Some(started.certificate);
                    e.retry_at = None;
                });
                tracing::info!(tenant = name, "served");
                tierce_trace::record("tenant-served", &[("tenant", name.into())]);
                tokio::spawn(pump(self.clone(), name.to_owned(), generation, events));
                Ok(())
            }
            Err(trouble) => {
                let certificate = dir.certificate(name).ok();
                self.with(name, |e| {
                    e.certificate = certificate;
                    e.stopped(cause_of(&trouble), &in_full(&trouble));
                });
                self.report_stop(name, &in_full(&trouble));
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
    let name = name.parse().map_err(|_| HostError::Name(format!("{name} is not a member's name")))?;
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

fn cause_of(trouble: &Trouble) -> Cause {
    match trouble {
        Trouble::Host(HostError::Store(StoreError::Full { .. } | StoreError::Io { .. }))
        | Trouble::Host(HostError::Io { .. }) => Cause::Disk,
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
            format!("{e}; this store is no voter any more (R5); set it aside and re-admit the member")
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
            MemberEvent::Alarm(alarm) => roster.alarm(&name, &alarm.to_string()),
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
        let why = fatal.unwrap_or_else(|| "its member ended without a reason: see the log".to_owned());
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
            let ends: Vec<_> =
                members.into_iter().map(|m| tokio::spawn(async move { m.shutdown().await })).collect();
            for end in ends {
                let _ = end.await;
            }
        };
        if timeout(MEMBERS_END, all).await.is_err() {
            tracing::warn!("not every member wrote its last in time; what was answered is safe");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_one_line_and_bounded() {
        assert_eq!(short("a\nb\tc"), "a b c");
        let long = "ä".repeat(MAX_REASON_BYTES);
        assert_eq!(short(&long).len(), MAX_REASON_BYTES);
    }

    #[test]
    fn a_failing_disk_is_tried_again_ever_later_and_a_damaged_store_is_not() {
        let mut entry = Entry::new();
        let mut waits = Vec::new();
        for _ in 0..8 {
            waits.push(entry.retry_wait);
            entry.stopped(Cause::Disk, "full");
            assert!(entry.retry_at.is_some());
        }
        assert_eq!(waits[0], RETRY_FIRST);
        assert!(waits.windows(2).all(|w| w[1] >= w[0]));
        assert_eq!(entry.retry_wait, RETRY_LONGEST);
        entry.stopped(Cause::Other, "damaged");
        assert!(entry.retry_at.is_none());
    }

    #[test]
    fn alarms_are_counted_and_only_the_newest_are_kept() {
        let mut entry = Entry::new();
        for n in 0..20 {
            entry.note(&format!("alarm {n}"));
        }
        assert_eq!(entry.alarms.len(), MAX_ALARMS);
        assert_eq!(entry.alarms[0].text, "alarm 19");
        assert_eq!(entry.alarms_total, 20);
    }
}
