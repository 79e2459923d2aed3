//! Strangers at the door: what is answered, who is let in, and as whom.
//!
//! Before a certificate is shown, a stranger costs one token of a bucket and one of a bounded
//! number of open handshakes; beyond that he is not answered, and from a lower mark on he must
//! first prove that he receives at his address. After the handshake the last lock is tried (same
//! tenant in server name and certificate), then the greeting is read.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;
use quinn::crypto::rustls::HandshakeData;
use rustls::pki_types::CertificateDer;
use tokio::time::timeout;

use super::LinkEvent;
use super::conn::{self, Conn, Streams, read_hello};
use super::hello::{Accepted, Claim, DialSeq, Hello, Incarnation};
use super::table::Inner;
use crate::bucket::Bucket;
use crate::counters::Counters;
use crate::error::{Refusal, RefusedBy, refusal_of};
use crate::identity::{Identity, Tenant};
use crate::join::{JOIN_ALPN, server};
use crate::limits::{MAX_OPEN_HANDSHAKES, RETRY_FROM_OPEN_HANDSHAKES};
use crate::pki::CertInfo;
use crate::sync::lock;
use crate::tls::TenantTls;

/// One open handshake; counted until it is dropped.
struct OpenHandshake(Arc<AtomicUsize>);

impl Drop for OpenHandshake {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A refusal with whoever showed a certificate before it.
struct Turned {
    reason: Refusal,
    by: RefusedBy,
    peer: Option<Identity>,
}

impl Turned {
    fn us(reason: Refusal) -> Self {
        Self { reason, by: RefusedBy::Us, peer: None }
    }
}

pub(super) async fn accept_loop(inner: Arc<Inner>) {
    let settings = &inner.settings;
    let mut bucket =
        Bucket::new(Instant::now(), settings.handshakes_per_second, settings.handshake_burst);
    while let Some(incoming) = inner.endpoint.accept().await {
        let open = inner.open_handshakes.load(Ordering::Relaxed);
        if inner.endpoint.open_connections() >= settings.max_connections {
            inner.counters.refuse(Refusal::TooManyConnections);
            incoming.refuse();
        } else if open >= MAX_OPEN_HANDSHAKES || !bucket.take(Instant::now()) {
            // No answer at all: an honest client repeats itself, a forged one gets no echo.
            inner.counters.refuse(Refusal::TooManyHandshakes);
            incoming.ignore();
        } else if open >= RETRY_FROM_OPEN_HANDSHAKES && incoming.may_retry() {
            Counters::bump(&inner.counters.retries_demanded);
            // It may be retried, so this cannot fail; if it did, the client would try again.
            let _ = incoming.retry();
        } else {
            inner.open_handshakes.fetch_add(1, Ordering::Relaxed);
            let guard = OpenHandshake(inner.open_handshakes.clone());
            tokio::spawn(handle(inner.clone(), incoming, guard));
        }
    }
}

async fn handle(inner: Arc<Inner>, incoming: quinn::Incoming, guard: OpenHandshake) {
    let remote = incoming.remote_address();
    if let Err(turned) = welcome(&inner, incoming, guard).await {
        if turned.by == RefusedBy::Us {
            inner.counters.refuse(turned.reason);
        }
        if turned.reason != Refusal::Duplicate {
            report(&inner, remote, turned);
        }
    }
}

fn report(inner: &Inner, remote: SocketAddr, turned: Turned) {
    let Turned { reason, by, peer } = turned;
    inner.report(LinkEvent::Refused { remote: Some(remote), peer, reason, by });
}

async fn welcome(
    inner: &Arc<Inner>,
    incoming: quinn::Incoming,
    guard: OpenHandshake,
) -> Result<(), Turned> {
    let failed = |error: quinn::ConnectionError| {
        let (reason, by) = refusal_of(&error);
        Turned { reason, by, peer: None }
    };
    let wait = inner.settings.handshake_timeout;
    let connecting = incoming.accept().map_err(failed)?;
    let quic = timeout(wait, connecting)
        .await
        .map_err(|_| Turned::us(Refusal::Timeout))?
        .map_err(failed)?;
    let turn = |reason: Refusal, peer: Option<Identity>| {
        quic.close(reason.code(), reason.as_str().as_bytes());
        Turned { reason, by: RefusedBy::Us, peer }
    };
    let admitted = admit(inner, &quic).map_err(|(reason, peer)| turn(reason, peer))?;
    match admitted {
        Admitted::Member { tls, peer, alpn } => {
            let greeted = timeout(wait, greet(inner, &quic, &tls, peer.clone(), alpn)).await;
            // The greeting may have failed because the peer refused *us*: then it has said so.
            match (greeted, quic.close_reason()) {
                (Ok(Ok(())), _) => Ok(()),
                (_, Some(error)) => Err(Turned { peer: Some(peer.identity), ..failed(error) }),
                (Ok(Err(reason)), None) => Err(turn(reason, Some(peer.identity))),
                (Err(_), None) => Err(turn(Refusal::Timeout, Some(peer.identity))),
            }
        }
        Admitted::Joiner { tenant, shown } => {
            let ca = lock(&inner.joins).get(&tenant).cloned();
            let ca = ca.ok_or_else(|| turn(Refusal::JoinNotServed, None))?;
            let permit = inner.join_permits.clone().try_acquire_owned();
            let _permit = permit.map_err(|_| turn(Refusal::TooManyHandshakes, None))?;
            drop(guard);
            server::serve(quic, ca, shown, inner.counters.clone()).await;
            Ok(())
        }
    }
}

enum Admitted {
    Member { tls: Arc<TenantTls>, peer: CertInfo, alpn: Bytes },
    Joiner { tenant: Tenant, shown: Option<CertInfo> },
}

/// The checks between handshake and greeting.
fn admit(inner: &Inner, quic: &quinn::Connection) -> Result<Admitted, (Refusal, Option<Identity>)> {
    let data = quic.handshake_data().and_then(|d| d.downcast::<HandshakeData>().ok());
    let (sni, alpn) = data.map_or((None, None), |d| (d.server_name, d.protocol));
    let tenant = sni.as_deref().and_then(Tenant::from_sni);
    let tenant = tenant.ok_or((Refusal::UnknownTenant, None))?;
    // It may have been removed since the handshake began.
    let tls = inner.tenants.get(&tenant).ok_or((Refusal::UnknownTenant, None))?;
    let shown = peer_certificate(quic);
    if let Some(info) = &shown
        && info.identity.tenant != tenant
    {
        return Err((Refusal::TenantMismatch, Some(info.identity.clone())));
    }
    match (alpn, shown) {
        (None, _) => Err((Refusal::NoCommonVersion, None)),
        (Some(alpn), shown) if alpn == JOIN_ALPN => Ok(Admitted::Joiner { tenant, shown }),
        (Some(_), None) => Err((Refusal::NoCertificate, None)),
        (Some(_), Some(info)) if info.identity.name == tls.info.identity.name => {
            Err((Refusal::NameMismatch, Some(info.identity)))
        }
        // Checked in the handshake; the list may have been reloaded since.
        (Some(_), Some(info)) if tls.revokes(&info) => Err((Refusal::Revoked, Some(info.identity))),
        (Some(alpn), Some(peer)) => Ok(Admitted::Member { tls, peer, alpn: alpn.into() }),
    }
}

/// What the peer's certificate says. The handshake has checked it.
pub(super) fn peer_certificate(quic: &quinn::Connection) -> Option<CertInfo> {
    let chain = quic.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    CertInfo::from_der(chain.first()?)
}

/// Reads the dialler's greeting, decides, answers.
async fn greet(
    inner: &Arc<Inner>,
    quic: &quinn::Connection,
    tls: &TenantTls,
    peer: CertInfo,
    alpn: Bytes,
) -> Result<(), Refusal> {
    let mut recv = quic.accept_uni().await.map_err(|_| Refusal::Garbage)?;
    let (hello, decoder) = read_hello(&mut recv).await.ok_or(Refusal::Garbage)?;
    let send = quic.open_uni().await.map_err(|_| Refusal::Garbage)?;
    let known = hello.accepted.run == inner.run;
    let claim = Claim {
        ours: false,
        peer_run: hello.run,
        dial: hello.dial,
        peer_had: if known { hello.accepted.dial } else { DialSeq(0) },
    };
    let (conn, queue) = Conn::new(inner, quic.clone(), peer, alpn, claim);
    let answer = Hello {
        run: inner.run,
        dial: DialSeq(0),
        accepted: Accepted { run: Incarnation(0), dial: DialSeq(0) },
    };
    inner.adopt(&tls.info.identity.name, &conn).await?;
    let streams = Streams { send, answer: Some(answer), recv, decoder, queue };
    conn::run(inner, conn, streams, tls);
    Ok(())
}
