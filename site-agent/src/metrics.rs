//! Prometheus metrics and health, on a local address of their own.
//!
//! Everything is made from one look at the agent for each scrape: no counter is kept twice.
//! `/healthz` says that the process works; `/readyz` that this member reaches a majority and could
//! hold tickets, so that a deployment waits for it.

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::{EncodeLabelSet, text::encode};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use std::sync::atomic::AtomicU64;
use tierce_ticket::docket::Docket;
use tokio::net::TcpListener;

use crate::facts::Eligibility;
use crate::shared::Shared;
use crate::view::Scene;

/// States of a ticket, for a label each.
const STATES: [&str; 9] = [
    "free",
    "held",
    "handover",
    "suspect",
    "stopping",
    "waiting-proof",
    "hold",
    "blocked",
    "unknown",
];

type Float = Gauge<f64, AtomicU64>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TicketLabels {
    tenant: String,
    ticket: String,
    site: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    tenant: String,
    ticket: String,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MemberLabels {
    tenant: String,
    member: String,
}

/// Serves until the runtime ends.
pub(crate) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let app = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(health))
        .route("/readyz", get(ready))
        .with_state(shared);
    if let Err(e) = axum::serve(listener, app).await {
        tracing::warn!("metrics are not served any more: {e}");
    }
}

async fn health(State(shared): State<Arc<Shared>>) -> Response {
    match shared.member.read(|_, _| ()).await {
        Some(()) => (StatusCode::OK, "ok\n").into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "the member has ended\n").into_response(),
    }
}

async fn ready(State(shared): State<Arc<Shared>>) -> Response {
    let Some(scene) = Scene::look(&shared, Eligibility::None).await else {
        return (StatusCode::SERVICE_UNAVAILABLE, "the member has ended\n").into_response();
    };
    if !scene.facts.quorate() {
        let why = format!("no majority is reached: {}\n", scene.facts.why_not_quorate());
        return (StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    }
    if scene.facts.session.is_none() {
        return (StatusCode::SERVICE_UNAVAILABLE, "no session is open\n").into_response();
    }
    (StatusCode::OK, "ready\n").into_response()
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let Some(scene) = Scene::look(&shared, Eligibility::None).await else {
        return (StatusCode::SERVICE_UNAVAILABLE, "the member has ended\n").into_response();
    };
    let text = tokio::task::spawn_blocking(move || text(&scene, &shared)).await;
    match text {
        Ok(Ok(text)) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        _ => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn text(scene: &Scene, shared: &Shared) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("tierce");
    tickets(&mut registry, scene);
    members(&mut registry, scene);
    own(&mut registry, scene, shared);
    let mut out = String::new();
    encode(&mut out, &registry)?;
    Ok(out)
}

fn tickets(registry: &mut Registry, scene: &Scene) {
    let held = Family::<TicketLabels, Gauge>::default();
    let term = Family::<TicketLabels, Gauge>::default();
    let state = Family::<StateLabels, Gauge>::default();
    let lease = Family::<TicketLabels, Float>::default();
    let tenant = &scene.config.tenant;
    let site = scene.facts.me.to_string();
    let left = scene.facts.deadline.map(|d| d.since(scene.facts.now.holder).as_secs_f64());
    for t in scene.facts.docket.iter().flat_map(Docket::tickets) {
        let view = scene.ticket_view(t);
        let labels =
            TicketLabels { tenant: tenant.clone(), ticket: view.name.clone(), site: site.clone() };
        let here = view.site.as_deref() == Some(&site);
        held.get_or_create(&labels).set(i64::from(here));
        let number = view.term.map_or(0, |t| i64::try_from(t).unwrap_or(i64::MAX));
        term.get_or_create(&labels).set(number);
        if here {
            lease.get_or_create(&labels).set(left.unwrap_or(0.0));
        }
        for word in STATES {
            let labels =
                StateLabels { tenant: tenant.clone(), ticket: view.name.clone(), state: word };
            state.get_or_create(&labels).set(i64::from(view.state == word));
        }
    }
    registry.register("ticket_held", "1 if this site holds the ticket", held);
    registry.register(
        "ticket_term",
        "Fencing token of the present grant, 0 if none is known",
        term,
    );
    registry.register("ticket_state", "1 for the state that the ticket is in", state);
    registry.register_with_unit(
        "ticket_lease_remaining",
        "Time left until the deadline of what is held here",
        Unit::Seconds,
        lease,
    );
}

fn members(registry: &mut Registry, scene: &Scene) {
    let rtt = Family::<MemberLabels, Float>::default();
    let up = Family::<MemberLabels, Gauge>::default();
    let duration = Family::<MemberLabels, Float>::default();
    let answered = Family::<MemberLabels, prometheus_client::metrics::counter::Counter>::default();
    for m in scene.members() {
        let labels = MemberLabels { tenant: scene.config.tenant.clone(), member: m.name.clone() };
        up.get_or_create(&labels).set(i64::from(m.connected));
        if let Some(ms) = m.rtt_ms {
            rtt.get_or_create(&labels).set(ms / 1_000.0);
        }
        let voter = m.name.parse().ok().and_then(|n| scene.facts.voter(&n));
        if let Some(v) = voter {
            answered.get_or_create(&labels).inc_by(v.answered);
            if let Some(d) = v.rtt {
                duration.get_or_create(&labels).set(d.as_secs_f64());
            }
        }
    }
    registry.register("member_connected", "1 if a connection to the member is up", up);
    registry.register_with_unit("link_rtt", "Smoothed round trip", Unit::Seconds, rtt);
    registry.register_with_unit(
        "renewal_duration",
        "Time from sending the last answered renewal to its answer",
        Unit::Seconds,
        duration,
    );
    registry.register("renewals", "Renewals of this session that the voter has answered", answered);
}

fn own(registry: &mut Registry, scene: &Scene, shared: &Shared) {
    let facts = &scene.facts;
    let whole = |n: i64| {
        let g = Gauge::<i64>::default();
        g.set(n);
        g
    };
    let real = |n: f64| {
        let g = Float::default();
        g.set(n);
        g
    };
    registry.register(
        "quorum",
        "1 if this member reaches a majority",
        whole(facts.quorate().into()),
    );
    registry.register("leader", "1 if this member leads the ledger", whole(facts.leads.into()));
    registry.register_with_unit(
        "worst_case_rto",
        "Worst-case takeover after a crash, from the lease times and measured round trips",
        Unit::Seconds,
        real(scene.worst_takeover().as_secs_f64()),
    );
    if let Some(left) = scene.local.certificate_left {
        let now = std::time::SystemTime::now();
        let end = now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default() + left;
        registry.register(
            "cert_expiry_timestamp_seconds",
            "When this member's certificate ends",
            real(end.as_secs_f64()),
        );
    }
    registry.register(
        "fence_votes",
        "Fence votes of this voter that are in force",
        whole(facts.fence_votes.cast_signed()),
    );
    let applied = facts.docket.as_ref().map_or(0, |d| d.applied().0);
    registry.register(
        "ledger_applied",
        "Index of the last entry applied",
        whole(applied.cast_signed()),
    );
    let stats = shared.member.stats();
    registry.register_with_unit(
        "journal_write",
        "Smoothed time of a durable journal write",
        Unit::Seconds,
        real(stats.persist_us as f64 / 1e6),
    );
    let state = shared.state();
    for (name, help, n) in [
        ("messages_in", "Messages taken in", stats.messages_in),
        ("messages_out", "Messages sent", stats.messages_out),
        ("messages_malformed", "Messages that were none", stats.malformed),
        (
            "renewals_answered",
            "Renewals of other sites that this voter answered",
            stats.renewals_answered,
        ),
        ("journal_writes", "Journal writes", stats.persists),
        ("starts", "Tickets whose resources were started here", state.started),
        ("start_failures", "Tickets whose resources did not start here", state.start_failures),
        ("stop_failures", "Tickets whose resources did not stop here", state.stop_failures),
        ("lease_losses", "Stops because a lease ended or was lost", state.lease_losses),
        ("history_rows_lost", "Rows of history that found no room", shared.history.lost()),
    ] {
        registry.register(name, help, ConstCounter::new(n));
    }
}
