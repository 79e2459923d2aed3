//! Serving joins and renewals: one request, one answer, then the connection ends.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::time::timeout;

use super::{JoinRefusal, JoinRequest, JoinResponse};
use crate::counters::Counters;
use crate::error::Refusal;
use crate::limits::{JOIN_TIMEOUT, MAX_JOIN_MESSAGE_BYTES};
use crate::pki::{Ca, CertInfo, Granted};

/// The answer may take this long to arrive after it was written.
const LINGER: Duration = Duration::from_secs(2);

/// Serves one connection. `shown` is the client's certificate, already checked by the handshake
/// and of the same tenant.
pub(crate) async fn serve(
    conn: quinn::Connection,
    ca: Arc<Ca>,
    shown: Option<CertInfo>,
    counters: Arc<Counters>,
) {
    let served = timeout(JOIN_TIMEOUT, answer_one(&conn, ca, shown, &counters)).await;
    if let Ok(Some(())) = served {
        // The client closes when it has the answer.
        let _ = timeout(LINGER, conn.closed()).await;
    }
    conn.close(Refusal::Garbage.code(), b"a join connection carries one request");
}

async fn answer_one(
    conn: &quinn::Connection,
    ca: Arc<Ca>,
    shown: Option<CertInfo>,
    counters: &Counters,
) -> Option<()> {
    let (mut send, mut recv) = conn.accept_bi().await.ok()?;
    let bytes = recv.read_to_end(MAX_JOIN_MESSAGE_BYTES).await.ok()?;
    // The authority blocks on its disk; the daemon's one thread must not.
    let response = tokio::task::spawn_blocking(move || decide(&ca, shown.as_ref(), &bytes))
        .await
        .unwrap_or(JoinResponse::Refused(JoinRefusal::Internal));
    Counters::bump(outcome(&response, counters));
    if let JoinResponse::Refused(refusal) = &response {
        tracing::warn!(remote = %conn.remote_address(), %refusal, "join refused");
    }
    send.write_all(&response.encode()?).await.ok()?;
    send.finish().ok()
}

fn decide(ca: &Ca, shown: Option<&CertInfo>, bytes: &[u8]) -> JoinResponse {
    let granted = match (JoinRequest::decode(bytes), shown) {
        (None, _) => Err(JoinRefusal::BadRequest),
        (Some(JoinRequest::Join { identity, secret, csr }), _) => {
            ca.redeem(&secret, &identity, &csr)
        }
        (Some(_), None) => Err(JoinRefusal::NoCertificate),
        (Some(JoinRequest::Renew { csr }), Some(shown)) => ca.renew(shown, &csr),
        (Some(JoinRequest::Crl), Some(_)) => match ca.crl() {
            Ok(crl) => return JoinResponse::Crl(crl),
            Err(_) => Err(JoinRefusal::Internal),
        },
    };
    match granted {
        Ok(Granted { cert, ca, crl }) => JoinResponse::Granted { cert, ca, crl },
        Err(refusal) => JoinResponse::Refused(refusal),
    }
}

fn outcome<'a>(response: &JoinResponse, counters: &'a Counters) -> &'a AtomicU64 {
    match response {
        JoinResponse::Granted { .. } => &counters.joins_granted,
        JoinResponse::Crl(_) => &counters.crls_served,
        JoinResponse::Refused(_) => &counters.joins_refused,
    }
}
