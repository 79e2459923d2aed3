//! `tenant list`: what the daemon says, completed by what the files say.

use std::fmt::Write as _;
use std::time::SystemTime;

use serde::Serialize;
use tierce_wire::control::{API_VERSION, TenantView};

use crate::layout::{Quota, TenantDir};
use crate::times;

/// One line of the list. What only a running daemon knows is absent without one.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Listed {
    name: String,
    state: String,
    connected: Option<u32>,
    tickets: Option<u32>,
    renewals: Option<u64>,
    /// Datagrams dropped because they were beyond its quota.
    over_quota: Option<u64>,
    store_bytes: u64,
    certificate: Option<Certificate>,
    quota: Option<Quota>,
}

#[derive(Clone, Debug, Serialize)]
struct Certificate {
    member: String,
    not_after: String,
    days_left: f64,
    /// "good", "renew" (in its last third), "ended".
    state: &'static str,
}

/// What the daemon says of a tenant.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Live<'a> {
    /// There is no daemon.
    NoDaemon,
    /// It does not know the tenant.
    Unknown,
    /// This.
    Is(&'a TenantView),
}

impl Listed {
    pub(crate) fn of(name: &str, dir: &TenantDir, live: Live<'_>, now: SystemTime) -> Self {
        let certificate = dir.certificate(name).ok().map(|info| Certificate {
            member: info.identity.name.to_string(),
            not_after: times::utc(info.not_after),
            days_left: info.left(now).as_secs_f64() / 86_400.0,
            state: match (info.not_after <= now, info.is_expiring(now)) {
                (true, _) => "ended",
                (_, true) => "renew",
                _ => "good",
            },
        });
        let (view, state) = match live {
            Live::NoDaemon => (None, "stopped: the daemon is not running".to_owned()),
            Live::Unknown => {
                (None, "stopped: the daemon has not read it yet (reload it)".to_owned())
            }
            Live::Is(view) => (Some(view), view.state.clone()),
        };
        Self {
            name: name.to_owned(),
            state,
            connected: view.map(|v| v.connected),
            tickets: view.map(|v| v.tickets),
            renewals: view.map(|v| v.renewals),
            over_quota: view.map(|v| v.over_quota),
            store_bytes: dir.store_bytes(),
            certificate,
            quota: dir.quota().ok(),
        }
    }

    fn certificate_words(&self) -> String {
        match &self.certificate {
            None => "unreadable".to_owned(),
            Some(c) if c.state == "ended" => format!("ended {}", c.not_after),
            Some(c) if c.state == "renew" => format!("{:.1} d left: renew", c.days_left),
            Some(c) => format!("{:.0} d left", c.days_left),
        }
    }
}

/// JSON of the list.
pub(crate) fn json(tenants: &[Listed]) -> String {
    let value = serde_json::json!({ "apiVersion": API_VERSION, "tenants": tenants });
    format!("{value:#}")
}

/// The list as a table.
pub(crate) fn table(tenants: &[Listed]) -> String {
    if tenants.is_empty() {
        return "no tenants; next: tierce-arbitrator tenant add NAME --join STRING\n".to_owned();
    }
    let count = |n: Option<u64>| n.map_or("-".to_owned(), |n| n.to_string());
    let head =
        ["NAME", "CONNECTED", "TICKETS", "RENEWALS", "DROPPED", "STORE", "CERTIFICATE", "STATE"]
            .map(str::to_owned);
    let mut rows = vec![head];
    rows.extend(tenants.iter().map(|t| {
        [
            t.name.clone(),
            count(t.connected.map(u64::from)),
            count(t.tickets.map(u64::from)),
            count(t.renewals),
            count(t.over_quota),
            format!("{} KiB", t.store_bytes / 1024),
            t.certificate_words(),
            t.state.clone(),
        ]
    }));
    let widths: Vec<usize> =
        (0..8).map(|i| rows.iter().map(|r| r[i].chars().count()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        for (i, cell) in row.iter().enumerate() {
            // The last column is as long as it is.
            let width = if i == 7 { 0 } else { widths[i] + 2 };
            let _ = write!(text, "{cell:<width$}");
        }
        text.push('\n');
    }
    text
}
