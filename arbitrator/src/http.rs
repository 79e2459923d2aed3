//! `/metrics`, `/healthz` and `/readyz`, on a loopback address of their own.
//!
//! `/healthz` answers 200 while the process works and 503 when its main loop does not turn; a
//! tenant's trouble is not the process's: it stands in the body. `/readyz` answers 200 once every
//! tenant of the directory was tried, and 503 again when the end begins.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;
use tierce_wire::control::API_VERSION;
use tokio::net::TcpListener;

use crate::daemon::Shared;
use crate::metrics::{Scene, render};

/// Serves until the process ends.
pub(crate) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let app = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .with_state(shared);
    if let Err(e) = axum::serve(listener, app).await {
        tracing::error!("metrics are served no longer: {e}");
    }
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    // More than a few at once wait here; the semaphore is never closed.
    let Ok(_turn) = shared.http.acquire().await else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let tenants = shared.surveyor.survey(&shared.roster).await;
    let text = render(&Scene {
        tenants: &tenants,
        link: shared.roster.host.link().counters(),
        resident_bytes: shared.status.resident_bytes(),
        hardening: &shared.hardening,
    });
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

async fn healthz(State(shared): State<Arc<Shared>>) -> Response {
    let Ok(_turn) = shared.http.acquire().await else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let tenants = shared.surveyor.survey(&shared.roster).await;
    let turning = shared.beat.is_turning();
    let count = |word| tenants.iter().filter(|t| t.word == word).count();
    let body = json!({
        "apiVersion": API_VERSION,
        "status": if turning { "ok" } else { "stuck" },
        "ready": shared.is_ready(),
        "tenants": {
            "serving": count("serving"), "waiting": count("waiting"), "stopped": count("stopped"),
        },
        "hardening": shared.hardening,
    });
    let code = if turning { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, [(header::CONTENT_TYPE, "application/json")], format!("{body:#}\n")).into_response()
}

async fn readyz(State(shared): State<Arc<Shared>>) -> Response {
    if shared.is_ready() {
        (StatusCode::OK, "ready\n").into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready: tenants are being opened or closed\n")
            .into_response()
    }
}
