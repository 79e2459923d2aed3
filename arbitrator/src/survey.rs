//! One look at all tenants, for lists and metrics alike.
//!
//! Each member is asked on its own task; a survey is used again for half a second, so that nobody
//! who asks often makes the members work.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use tierce_link::Tenant;
use tierce_member::{MemberHandle, StatsView};
use tierce_ticket::member::Standing;
use tierce_wire::control::{AlarmView, TenantView};
use tokio::time::timeout;

use crate::entry::{Condition, Entry, Noted};
use crate::limits::{MEMBER_ANSWER, SURVEY_LIFE};
use crate::roster::Roster;
use crate::times;

/// What is known of one tenant.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) name: String,
    /// "serving", "waiting", "stopped".
    pub(crate) word: &'static str,
    /// What there is to say beside the word.
    pub(crate) because: String,
    pub(crate) connected: u32,
    pub(crate) tickets: u32,
    pub(crate) applied: u64,
    pub(crate) stats: StatsView,
    pub(crate) store_bytes: u64,
    pub(crate) over_quota: bool,
    pub(crate) stranger: Option<String>,
    pub(crate) datagrams_over_quota: u64,
    pub(crate) certificate_ends: Option<SystemTime>,
    pub(crate) certificate_expiring: bool,
    pub(crate) alarms: Vec<AlarmView>,
    pub(crate) alarms_total: u64,
}

impl Seen {
    pub(crate) fn view(&self) -> TenantView {
        let state = match self.because.as_str() {
            "" => self.word.to_owned(),
            because => format!("{}: {because}", self.word),
        };
        TenantView {
            name: self.name.clone(),
            state,
            connected: self.connected,
            tickets: self.tickets,
            renewals: self.stats.renewals_answered,
            over_quota: self.datagrams_over_quota,
            store_bytes: self.store_bytes,
        }
    }
}

/// Takes surveys, and keeps the last one for a moment.
#[derive(Default)]
pub(crate) struct Surveyor {
    last: Mutex<Option<(Instant, Arc<Vec<Seen>>)>>,
    taking: tokio::sync::Mutex<()>,
}

impl Surveyor {
    /// A survey that is at most half a second old.
    pub(crate) async fn survey(&self, roster: &Roster) -> Arc<Vec<Seen>> {
        let _one = self.taking.lock().await;
        let fresh = |(at, _): &&(Instant, Arc<Vec<Seen>>)| at.elapsed() < SURVEY_LIFE;
        if let Some((_, last)) =
            self.last.lock().unwrap_or_else(PoisonError::into_inner).as_ref().filter(fresh)
        {
            return last.clone();
        }
        let taken = Arc::new(take(roster).await);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some((Instant::now(), taken.clone()));
        taken
    }

    /// A survey of this moment: for whoever has just changed something.
    pub(crate) async fn anew(&self, roster: &Roster) -> Arc<Vec<Seen>> {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.survey(roster).await
    }
}

/// What a member says of itself.
struct Said {
    standing: Standing,
    tickets: u32,
    applied: u64,
}

async fn ask(member: &MemberHandle) -> Option<Said> {
    let asked = member.read(|m, _| Said {
        standing: m.standing().clone(),
        tickets: m.docket().map_or(0, |d| u32::try_from(d.tickets().count()).unwrap_or(u32::MAX)),
        applied: m.docket().map_or(0, |d| d.applied().0),
    });
    timeout(MEMBER_ANSWER, asked).await.ok().flatten()
}

async fn take(roster: &Roster) -> Vec<Seen> {
    let mut connected = std::collections::HashMap::<String, u32>::new();
    let link = roster.host.link();
    for peer in link.peers() {
        *connected.entry(peer.identity.tenant.to_string()).or_default() += 1;
    }
    let now = SystemTime::now();
    let entries: Vec<(Seen, Option<MemberHandle>)> = roster
        .entries()
        .iter()
        .map(|(name, entry)| {
            let up = connected.get(name).copied().unwrap_or(0);
            (outside(name, entry, up, now), entry.member.clone())
        })
        .collect();
    let mut all = Vec::with_capacity(entries.len());
    for (mut seen, member) in entries {
        let counted = Tenant::new(&seen.name).ok().and_then(|t| link.tenant_counters(&t));
        seen.datagrams_over_quota = counted.unwrap_or_default().datagrams_over_quota;
        if let Some(member) = member {
            inside(&mut seen, ask(&member).await, now);
        }
        all.push(seen);
    }
    all
}

/// What is known without asking the member.
fn outside(name: &str, entry: &Entry, connected: u32, now: SystemTime) -> Seen {
    let (word, because) = match &entry.condition {
        Condition::Serving => (
            "serving",
            entry.over_quota.clone().map_or(String::new(), |o| format!("over quota: {o}")),
        ),
        Condition::Stopped { why, .. } => ("stopped", why.clone()),
    };
    let alarm = |n: &Noted| AlarmView { at: times::utc(n.at), text: n.text.clone() };
    Seen {
        name: name.to_owned(),
        word,
        because,
        connected,
        tickets: 0,
        applied: 0,
        stats: entry.stats(),
        store_bytes: entry.store_bytes,
        over_quota: entry.over_quota.is_some(),
        stranger: entry.stranger.clone(),
        datagrams_over_quota: 0,
        certificate_ends: entry.certificate.as_ref().map(|c| c.not_after),
        certificate_expiring: entry.certificate.as_ref().is_some_and(|c| c.is_expiring(now)),
        alarms: entry.alarms.iter().map(alarm).collect(),
        alarms_total: entry.alarms_total,
    }
}

/// What the member itself adds.
fn inside(seen: &mut Seen, said: Option<Said>, now: SystemTime) {
    let Some(said) = said else {
        seen.word = "waiting";
        seen.because = String::from("its member does not answer");
        return;
    };
    (seen.tickets, seen.applied) = (said.tickets, said.applied);
    let mut parts: Vec<String> = Vec::new();
    match said.standing {
        Standing::TakingPart => {}
        Standing::Unformed if seen.connected == 0 => {
            seen.word = "waiting";
            parts.push("no member has connected yet; next: start the tenant's agents".to_owned());
        }
        Standing::Unformed | Standing::Confirming if seen.stranger.is_some() => {
            seen.word = "waiting";
            parts.extend(seen.stranger.take());
        }
        Standing::Unformed => {
            seen.word = "waiting";
            parts.push("the cluster is not founded yet: all planned members must be up".to_owned());
        }
        Standing::Confirming => {
            seen.word = "waiting";
            parts.push("a peer must confirm that this store is no older copy (R5)".to_owned());
        }
        Standing::Out(alarm) => {
            seen.word = "stopped";
            parts.push(alarm.to_string());
        }
    }
    if !seen.because.is_empty() {
        parts.push(std::mem::take(&mut seen.because));
    }
    if let Some(ends) = seen.certificate_ends.filter(|_| seen.certificate_expiring) {
        parts.push(match ends.duration_since(now) {
            Ok(left) if !left.is_zero() => format!("certificate ends in {}", times::span(left)),
            _ => "certificate has ended: peers refuse new connections".to_owned(),
        });
    }
    seen.because = parts.join("; ");
}
