//! What has to be looked at again and again: certificates, quotas, second chances.
//!
//! Certificates are replaced under a running daemon, by an operator or by ourselves. A changed file
//! is taken up within two seconds (or at once by SIGHUP). In the last third of a certificate's life
//! the daemon renews it by itself: the ledger's configuration says where the tenant's sites are,
//! and the one that has the authority answers. Warnings come first in the log, and stay in the
//! metrics and in `tenant list` until it is done.
//!
//! A certificate that ends while its member runs does not stop the member: connections that are up
//! go on, no peer accepts a new one, and stopping would only take those that are left. A member is
//! not *started* on an ended certificate.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tierce_link::pki::{CA_FILE, CERT_FILE, CRL_FILE, KEY_FILE};
use tierce_link::{CertInfo, CountersSnapshot, Refusal, Tenant};
use tierce_store::check_room;
use tierce_ticket::configuration::Role;
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::entry::{Cause, Condition, Entry};
use crate::layout::Quota;
use crate::limits::{
    LOOK_AT_ONCE, LOOK_PAUSE, MAX_RENEWING, MEASURE_EVERY, MEMBER_ANSWER, REFUSALS_EVERY,
    RENEW_WAIT, STORE_STOP_FACTOR, UPKEEP_EVERY,
};
use crate::notify;
use crate::roster::Roster;
use crate::times;

/// Which version of the files of a member's folder is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stamp([Option<(u64, i64, i64, u64)>; 4]);

impl Stamp {
    pub(crate) fn of(pki: &Path) -> Self {
        Self([CA_FILE, CERT_FILE, KEY_FILE, CRL_FILE].map(|file| {
            let m = fs::metadata(pki.join(file)).ok()?;
            Some((m.ino(), m.mtime(), m.mtime_nsec(), m.size()))
        }))
    }
}

/// What was measured of a tenant's folder.
struct Measured {
    name: String,
    files: Stamp,
    store_bytes: Option<u64>,
    /// Whether its disk has room, where it is to be tried again.
    has_room: bool,
}

/// Looks after all tenants for as long as the process runs.
pub(crate) async fn keep(roster: Arc<Roster>) {
    let renewing = Arc::new(Semaphore::new(MAX_RENEWING));
    let mut ticks = interval(UPKEEP_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut round: u32 = 0;
    let mut said = String::new();
    let mut refused = roster.host.link().counters();
    loop {
        ticks.tick().await;
        look(&roster, round.is_multiple_of(MEASURE_EVERY)).await;
        renew_due(&roster, &renewing);
        if round.is_multiple_of(REFUSALS_EVERY) {
            refused = say_refused(&roster, &refused);
        }
        round = round.wrapping_add(1);
        let summary = roster.summary();
        if summary != said {
            notify::status(&summary);
            said = summary;
        }
    }
}

/// Says in one line what was refused since the last time.
fn say_refused(roster: &Roster, before: &CountersSnapshot) -> CountersSnapshot {
    let now = roster.host.link().counters();
    let grown = Refusal::ALL.into_iter().filter_map(|reason| {
        let more = now.refused(reason).saturating_sub(before.refused(reason));
        (more > 0).then(|| format!("{} {more}", reason.as_str()))
    });
    let grown: Vec<String> = grown.collect();
    if !grown.is_empty() {
        tracing::warn!("connections refused within a minute: {}", grown.join(", "));
    }
    now
}

/// One look at all folders; `measure`: at the stores, too.
pub(crate) async fn look(roster: &Arc<Roster>, measure: bool) {
    let now = Instant::now();
    let due = |e: &Entry| e.retry_at.is_some_and(|at| at <= now);
    let names: Vec<(String, bool)> =
        roster.entries().iter().map(|(name, e)| (name.clone(), due(e))).collect();
    let data = roster.data.clone();
    let measuring = tokio::task::spawn_blocking(move || {
        let of = |(name, due): (String, bool)| {
            let dir = data.tenant(&name);
            let store_bytes = measure.then(|| dir.store_bytes());
            let has_room = due && check_room(&dir.store()).is_ok();
            Measured { files: Stamp::of(&dir.pki()), store_bytes, has_room, name }
        };
        let mut measured = Vec::with_capacity(names.len());
        for (n, name) in names.into_iter().enumerate() {
            if n % LOOK_AT_ONCE == LOOK_AT_ONCE - 1 {
                // On one core this thread and the protocol's share it.
                std::thread::sleep(LOOK_PAUSE);
            }
            measured.push(of(name));
        }
        measured
    });
    let Ok(measured) = measuring.await else { return };
    for (n, m) in measured.into_iter().enumerate() {
        if n % LOOK_AT_ONCE == 0 {
            tokio::task::yield_now().await;
        }
        certificate_files(roster, &m).await;
        if m.has_room {
            second_chance(roster, &m.name).await;
        }
        if measure {
            quotas(roster, &m).await;
        }
    }
}

// --- certificates ---------------------------------------------------------------------------

/// Takes up changed files: reloads a tenant that runs, tries one that its files had stopped.
async fn certificate_files(roster: &Arc<Roster>, m: &Measured) {
    let seen = roster.with(&m.name, |e| {
        let changed = e.files != m.files;
        e.files = m.files.clone();
        (changed, e.condition.clone())
    });
    match seen {
        Some((true, Condition::Serving)) => reload(roster, &m.name).await,
        Some((true, Condition::Stopped { cause: Cause::Files, .. })) => roster.retry(&m.name).await,
        _ => {}
    }
}

/// Reads the folder of a running tenant again.
async fn reload(roster: &Arc<Roster>, name: &str) {
    let Ok(tenant) = Tenant::new(name) else { return };
    let link = roster.host.link().clone();
    let reloading = tokio::task::spawn_blocking(move || link.reload_tenant(&tenant)).await;
    match reloading {
        Ok(Ok(info)) => taken_up(roster, name, info),
        Ok(Err(e)) => {
            tracing::error!(tenant = name, "its changed certificate is not taken up: {e}");
            roster.alarm(name, &format!("its changed certificate is not taken up: {e}"));
        }
        Err(e) => tracing::error!(tenant = name, "reading its certificate failed: {e}"),
    }
}

fn taken_up(roster: &Arc<Roster>, name: &str, info: CertInfo) {
    let ends = times::utc(info.not_after);
    tracing::info!(tenant = name, ends, "certificate taken up");
    tierce_trace::record("certificate", &[("tenant", name.into()), ("ends", ends.as_str().into())]);
    roster.with(name, |e| {
        e.certificate = Some(info);
        e.renew_at = None;
    });
}

/// Starts renewals that are due, and warns.
fn renew_due(roster: &Arc<Roster>, renewing: &Arc<Semaphore>) {
    let (now, wall) = (Instant::now(), SystemTime::now());
    let due: Vec<(String, CertInfo)> = roster
        .entries()
        .iter_mut()
        .filter(|(_, e)| e.member.is_some() && e.renew_at.is_none_or(|at| at <= now))
        .filter_map(|(name, e)| {
            let info = e.certificate.clone().filter(|c| c.is_expiring(wall))?;
            e.renew_at = Some(now + renew_wait(info.left(wall)));
            Some((name.clone(), info))
        })
        .collect();
    for (name, info) in due {
        let left = info.left(wall);
        let ends = times::utc(info.not_after);
        if left.is_zero() {
            tracing::error!(
                tenant = name,
                ends,
                "its certificate has ended: peers refuse new connections"
            );
        } else {
            tracing::warn!(
                tenant = name,
                ends,
                "its certificate ends in {}; renewing",
                times::span(left)
            );
        }
        let (roster, renewing) = (roster.clone(), renewing.clone());
        tokio::spawn(async move {
            // A closed semaphore cannot be: nobody closes it.
            let Ok(_turn) = renewing.acquire().await else { return };
            renew(&roster, &name).await;
        });
    }
}

/// Time until the next attempt: a twentieth of what is left, within bounds.
fn renew_wait(left: Duration) -> Duration {
    (left / 20).clamp(RENEW_WAIT.0, RENEW_WAIT.1)
}

/// Asks the tenant's sites, by the addresses that the ledger has of them.
async fn renew(roster: &Arc<Roster>, name: &str) {
    let Ok(tenant) = Tenant::new(name) else { return };
    let Some(member) = roster.with(name, |e| e.member.clone()).flatten() else { return };
    let asked = member.read(|m, _| {
        let sites = m.ledger().map(|l| l.configuration().0.clone());
        let addresses = |c: tierce_ticket::configuration::Configuration| {
            let of_sites = c.members().filter(|(_, m)| m.role == Role::Site);
            of_sites.flat_map(|(_, m)| m.addresses.clone()).collect::<Vec<_>>()
        };
        sites.map(addresses).unwrap_or_default()
    });
    let mut addresses = timeout(MEMBER_ANSWER, asked).await.ok().flatten().unwrap_or_default();
    addresses.truncate(tierce_link::limits::MAX_ADDRESSES);
    if addresses.is_empty() {
        tracing::warn!(
            tenant = name,
            "no address of a site is known yet; rotate the certificate by hand"
        );
        return;
    }
    match roster.host.link().renew_tenant(&tenant, &addresses).await {
        Ok(info) => {
            let files = Stamp::of(&roster.data.tenant(name).pki());
            taken_up(roster, name, info);
            roster.with(name, |e| e.files = files);
        }
        Err(e) => tracing::warn!(tenant = name, "its certificate was not renewed: {e}"),
    }
}

// --- second chances -------------------------------------------------------------------------

/// A tenant that its disk stopped is opened again, from what is on the disk, as soon as that has
/// room: a restart of its voter, with all that follows from one (R2, R4, R5). On a full disk it is
/// not even tried: it would come, fail with its next decision, and go.
async fn second_chance(roster: &Arc<Roster>, name: &str) {
    let due = roster.with(name, |e| e.retry_at.is_some_and(|at| at <= Instant::now()));
    if due == Some(true) {
        tracing::info!(tenant = name, "trying again");
        roster.retry(name).await;
    }
}

// --- quotas ---------------------------------------------------------------------------------

async fn quotas(roster: &Arc<Roster>, m: &Measured) {
    let Some((member, quota, before)) =
        roster.with(&m.name, |e| (e.member.clone(), e.quota, e.over_quota.is_some()))
    else {
        return;
    };
    let store_bytes = m.store_bytes.unwrap_or(0);
    roster.with(&m.name, |e| e.store_bytes = store_bytes);
    let Some(member) = member else { return };
    let counted = member.read(|member, _| member.docket().map_or(0, |d| d.tickets().count()));
    let tickets = timeout(MEMBER_ANSWER, counted).await.ok().flatten().unwrap_or(0);
    let tickets = u32::try_from(tickets).unwrap_or(u32::MAX);
    let over = over(&quota, tickets, store_bytes);
    roster.with(&m.name, |e| e.over_quota.clone_from(&over));
    let Some(over) = over else { return };
    if store_bytes / STORE_STOP_FACTOR > quota.store_bytes {
        let why = format!(
            "{over}, twice what it may: its vote is withdrawn so that the disk stays everybody's; \
             give it more (tenant quota) or remove it"
        );
        roster.stop_for(&m.name, Cause::Quota, &why).await;
    } else if !before {
        tracing::warn!(tenant = m.name, "over quota: {over}");
        roster.alarm(&m.name, &format!("over quota: {over}"));
    }
}

/// What is beyond the quota, in words.
fn over(quota: &Quota, tickets: u32, store_bytes: u64) -> Option<String> {
    let mut parts = Vec::new();
    if tickets > quota.max_tickets {
        parts.push(format!("{tickets} tickets of {}", quota.max_tickets));
    }
    if store_bytes > quota.store_bytes {
        parts.push(format!("{store_bytes} bytes of store of {}", quota.store_bytes));
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_is_seen_even_when_size_and_second_are_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let put = |text: &str| {
            let temp = dir.path().join("temp");
            fs::write(&temp, text).unwrap();
            fs::rename(&temp, dir.path().join(CERT_FILE)).unwrap();
            Stamp::of(dir.path())
        };
        let first = put("aaaa");
        assert_eq!(first, Stamp::of(dir.path()));
        assert_ne!(first, put("bbbb"));
        assert_ne!(Stamp::of(dir.path()), Stamp::default());
    }

    #[test]
    fn renewal_is_tried_more_often_as_the_end_comes_near() {
        assert_eq!(renew_wait(Duration::from_hours(30 * 24)), RENEW_WAIT.1);
        assert_eq!(renew_wait(Duration::from_mins(20)), Duration::from_mins(1));
        assert_eq!(renew_wait(Duration::ZERO), RENEW_WAIT.0);
    }

    #[test]
    fn what_is_over_quota_is_named_with_its_numbers() {
        let quota = Quota { max_tickets: 10, store_bytes: 1 << 20, ..Quota::default() };
        assert_eq!(over(&quota, 10, 1 << 20), None);
        assert_eq!(over(&quota, 12, 0).unwrap(), "12 tickets of 10");
        assert!(over(&quota, 12, 1 << 21).unwrap().contains(", 2097152 bytes"));
    }
}
