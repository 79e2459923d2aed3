//! Prometheus' view of the daemon, made anew for every scrape from one survey.
//!
//! Series per tenant are bounded: the first 2,000 tenants by name have their own, the others are
//! added up under `tenant="_others"` (for the end of a certificate: the earliest). A tenant's name
//! is 32 characters of `[a-z0-9-]`, so no label needs escaping. No label carries a peer's name or
//! address: strangers choose those.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use tierce_link::{CountersSnapshot, Refusal};

use crate::limits::MAX_LABELLED_TENANTS;
use crate::survey::Seen;

/// The tenant label of those beyond the bound.
const OTHERS: &str = "_others";

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfTenant {
    tenant: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct InState {
    state: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ForReason {
    reason: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfStep {
    step: String,
}

/// What a scrape is made of.
pub(crate) struct Scene<'a> {
    pub(crate) tenants: &'a [Seen],
    pub(crate) link: CountersSnapshot,
    pub(crate) resident_bytes: Option<u64>,
    pub(crate) hardening: &'a [crate::hardening::Step],
}

/// The text that Prometheus reads.
pub(crate) fn render(scene: &Scene<'_>) -> String {
    let mut registry = Registry::with_prefix("tierce");
    tenants(&mut registry, scene.tenants);
    each_tenant(&mut registry, scene.tenants);
    link(&mut registry, &scene.link);
    process(&mut registry, scene);
    let mut out = String::new();
    match text::encode(&mut out, &registry) {
        Ok(()) => out,
        // Writing to a string does not fail; a partial exposition would be believed.
        Err(_) => String::new(),
    }
}

fn counter(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let metric: Counter = Counter::default();
    metric.inc_by(value);
    registry.register(name, help, metric);
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let metric: Gauge = Gauge::default();
    metric.set(i64::try_from(value).unwrap_or(i64::MAX));
    registry.register(name, help, metric);
}

fn tenants(registry: &mut Registry, all: &[Seen]) {
    let states = Family::<InState, Gauge>::default();
    for state in ["serving", "waiting", "stopped"] {
        let count = all.iter().filter(|t| t.word == state).count();
        let label = InState { state: state.to_owned() };
        states.get_or_create(&label).set(i64::try_from(count).unwrap_or(i64::MAX));
    }
    registry.register("arbitrator_tenants", "Tenants by state", states);
    let expiring = all.iter().filter(|t| t.certificate_expiring).count() as u64;
    let help = "Tenants whose certificate is in its last third or has ended";
    gauge(registry, "arbitrator_certificates_expiring", help, expiring);
}

/// Adds one number per tenant, within the bound of labels.
fn sums(registry: &mut Registry, name: &str, help: &str, all: &[Seen], of: impl Fn(&Seen) -> u64) {
    let family = Family::<OfTenant, Counter>::default();
    for (i, t) in all.iter().enumerate() {
        family.get_or_create(&label(i, t)).inc_by(of(t));
    }
    registry.register(name, help, family);
}

/// The same for numbers that go down, too.
fn levels(
    registry: &mut Registry,
    name: &str,
    help: &str,
    all: &[Seen],
    of: impl Fn(&Seen) -> u64,
) {
    let family = Family::<OfTenant, Gauge>::default();
    for (i, t) in all.iter().enumerate() {
        family.get_or_create(&label(i, t)).inc_by(i64::try_from(of(t)).unwrap_or(i64::MAX));
    }
    registry.register(name, help, family);
}

fn label(index: usize, t: &Seen) -> OfTenant {
    let tenant = if index < MAX_LABELLED_TENANTS { t.name.as_str() } else { OTHERS };
    OfTenant { tenant: tenant.to_owned() }
}

fn each_tenant(registry: &mut Registry, all: &[Seen]) {
    let r = registry;
    levels(r, "tenant_up", "1 while the tenant is served", all, |t| u64::from(t.word == "serving"));
    levels(r, "tenant_connections", "Members connected", all, |t| t.connected.into());
    levels(r, "tenant_tickets", "Tickets in the ledger", all, |t| t.tickets.into());
    levels(r, "tenant_store_bytes", "Bytes of the store", all, |t| t.store_bytes);
    levels(r, "tenant_ledger_applied", "Newest ledger index applied", all, |t| t.applied);
    let help = "1 while tickets or store are over the tenant's quota";
    levels(r, "tenant_over_quota", help, all, |t| t.over_quota.into());
    let help = "Smoothed time of a durable write, microseconds";
    levels(r, "tenant_persist_microseconds", help, all, |t| t.stats.persist_us);
    let help = "Renewals of sites that were answered";
    sums(r, "renewals", help, all, |t| t.stats.renewals_answered);
    let help = "Datagrams dropped because their connection was beyond the tenant's quota";
    sums(r, "tenant_datagrams_over_quota", help, all, |t| t.datagrams_over_quota);
    sums(r, "tenant_persists", "Durable writes", all, |t| t.stats.persists);
    sums(r, "tenant_malformed", "Messages that were none", all, |t| t.stats.malformed);
    sums(r, "tenant_alarms", "Alarms", all, |t| t.alarms_total);

    let ends = Family::<OfTenant, Gauge>::default();
    for (i, t) in all.iter().enumerate() {
        let Some(at) = t.certificate_ends else { continue };
        let metric = ends.get_or_create_owned(&label(i, t));
        let at = unix(at);
        if metric.get() == 0 || at < metric.get() {
            metric.set(at);
        }
    }
    let help = "When the arbitrator's certificate for the tenant ends, Unix time";
    r.register("cert_expiry_timestamp_seconds", help, ends);
}

fn unix(at: SystemTime) -> i64 {
    let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

fn link(registry: &mut Registry, c: &CountersSnapshot) {
    let r = registry;
    counter(r, "link_datagrams_in", "Datagrams taken in", c.datagrams_in);
    counter(r, "link_datagrams_out", "Datagrams sent", c.datagrams_out);
    counter(
        r,
        "link_bytes_in",
        "Bytes of messages taken in",
        c.datagram_bytes_in + c.frame_bytes_in,
    );
    counter(
        r,
        "link_bytes_out",
        "Bytes of messages sent",
        c.datagram_bytes_out + c.frame_bytes_out,
    );
    counter(r, "link_frames_in", "Frames taken in", c.frames_in);
    counter(r, "link_frames_out", "Frames sent", c.frames_out);
    let help = "Datagrams dropped because their connection was beyond its quota";
    counter(r, "link_datagrams_over_quota", help, c.datagrams_over_quota);
    let help = "Datagrams dropped because the process was behind";
    counter(r, "link_datagrams_queue_full", help, c.datagrams_queue_full);
    counter(r, "link_connections_up", "Connections that came up", c.connections_up);
    counter(r, "link_connections_down", "Connections that went down", c.connections_down);
    let refused = Family::<ForReason, Counter>::default();
    for reason in Refusal::ALL {
        let label = ForReason { reason: reason.as_str().to_owned() };
        refused.get_or_create(&label).inc_by(c.refused(reason));
    }
    r.register("link_refusals", "Connections refused, by reason", refused);
}

fn process(registry: &mut Registry, scene: &Scene<'_>) {
    if let Some(bytes) = scene.resident_bytes {
        let metric: Gauge = Gauge::default();
        metric.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        registry.register_with_unit(
            "process_resident_memory",
            "Resident memory",
            Unit::Bytes,
            metric,
        );
    }
    let steps = Family::<OfStep, Gauge>::default();
    for s in scene.hardening {
        let label = OfStep { step: s.step.to_owned() };
        steps.get_or_create(&label).set(i64::from(s.applied));
    }
    registry.register("hardening_applied", "1 where the step was applied", steps);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tierce_member::StatsView;

    fn tenant(name: &str, renewals: u64, ends: u64) -> Seen {
        Seen {
            name: name.to_owned(),
            word: "serving",
            because: String::new(),
            connected: 2,
            tickets: 3,
            applied: 4,
            stats: StatsView { renewals_answered: renewals, ..StatsView::default() },
            store_bytes: 5,
            over_quota: false,
            stranger: None,
            datagrams_over_quota: 11,
            certificate_ends: Some(UNIX_EPOCH + Duration::from_secs(ends)),
            certificate_expiring: false,
            alarms: vec![],
            alarms_total: 0,
        }
    }

    fn text_of(tenants: &[Seen]) -> String {
        let link = CountersSnapshot::default();
        render(&Scene { tenants, link, resident_bytes: Some(1024), hardening: &[] })
    }

    #[test]
    fn a_tenant_has_its_series_and_every_refusal_has_a_number() {
        let text = text_of(&[tenant("acme", 7, 99)]);
        for line in [
            r#"tierce_renewals_total{tenant="acme"} 7"#,
            r#"tierce_tenant_datagrams_over_quota_total{tenant="acme"} 11"#,
            r#"tierce_cert_expiry_timestamp_seconds{tenant="acme"} 99"#,
            r#"tierce_arbitrator_tenants{state="serving"} 1"#,
            r#"tierce_link_refusals_total{reason="wrong-ca"} 0"#,
            "tierce_process_resident_memory_bytes 1024",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn labels_are_bounded_and_the_rest_is_added_up() {
        let many: Vec<_> = (0..MAX_LABELLED_TENANTS + 3)
            .map(|n| tenant(&format!("t{n:05}"), 1, 50_000 - n as u64))
            .collect();
        let text = text_of(&many);
        let series = text.lines().filter(|l| l.starts_with("tierce_renewals_total{")).count();
        assert_eq!(series, MAX_LABELLED_TENANTS + 1);
        assert!(text.contains(r#"tierce_renewals_total{tenant="_others"} 3"#));
        let earliest = 50_000 - (MAX_LABELLED_TENANTS + 2);
        let line =
            format!(r#"tierce_cert_expiry_timestamp_seconds{{tenant="_others"}} {earliest}"#);
        assert!(text.contains(&line));
    }
}
