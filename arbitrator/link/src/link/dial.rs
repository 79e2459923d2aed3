//! Dialling: addresses become a connection, again and again, for as long as the peer is registered.
//!
//! All addresses of a peer race with a head start for the better ones; the first that finishes its
//! handshake is greeted, and only that one, so that the peer never sees the losers. Attempts begin
//! at least `backoff_min` and at most `backoff_max` apart, the time of an attempt included: while a
//! peer is away there is always an attempt under way or about to be, and one whose process comes
//! back is found within a retransmission.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use bytes::Bytes;
use quinn::crypto::rustls::HandshakeData;
use tokio::net::lookup_host;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout, timeout_at};

use super::accept::peer_certificate;
use super::conn::{self, Conn, Streams, read_hello};
use super::hello::{Claim, DialSeq};
use super::table::Inner;
use super::{LinkEvent, PeerSpec, transport};
use crate::counters::Counters;
use crate::error::{DownReason, Refusal, RefusedBy, refusal_of};
use crate::limits::MAX_DIAL_TARGETS;
use crate::tls::{self, TenantTls, Trust};

/// Starts (or replaces) the dialler of a peer.
pub(super) fn start(inner: &Arc<Inner>, spec: PeerSpec, max_peers: usize) -> Result<(), ()> {
    let identity = spec.identity.clone();
    inner.register(&identity, max_peers, |changed| {
        inner.runtime.spawn(dial_loop(inner.clone(), spec, changed)).abort_handle()
    })
}

/// Ends the connections of silent peers, whoever dialled them: who only accepts must not send into
/// the void either, and makes room for the peer's next dial.
pub(super) async fn watch_loop(inner: Arc<Inner>) {
    let dead_after = inner.settings.dead_after;
    let period = (dead_after / 4).clamp(Duration::from_millis(5), Duration::from_millis(500));
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = std::time::Instant::now();
    loop {
        ticks.tick().await;
        let now = std::time::Instant::now();
        // What we did not wake for lies on our side, and the answers may be waiting unread.
        let overslept = now.saturating_duration_since(last).saturating_sub(period * 2);
        last = now;
        for conn in inner.connections() {
            let stats = conn.quic.stats();
            let (sent, received) = (owing_an_answer(&stats.frame_tx), stats.udp_rx.datagrams);
            let mut watch = crate::sync::lock(&conn.watch);
            watch.forgive(overslept);
            if watch.is_dead(now, sent, received, dead_after) && conn.quic.close_reason().is_none()
            {
                Counters::bump(&inner.counters.silent_drops);
                conn.close(DownReason::Silent, Refusal::Timeout);
            }
        }
    }
}

/// Frames sent that a living peer acknowledges. Acknowledgements themselves are not among them: a
/// peer that pings rarely owes nothing between two pings. Control frames count, since what is sent
/// again after a cut may be nothing else; those that answer the peer's own sending do not matter.
fn owing_an_answer(sent: &quinn::FrameStats) -> u64 {
    let once = u64::from(sent.handshake_done);
    sent.ping + sent.datagram + sent.stream + sent.crypto + sent.new_connection_id + once
}

// --- the loop -------------------------------------------------------------------------------

async fn dial_loop(inner: Arc<Inner>, spec: PeerSpec, changed: Arc<Notify>) {
    let settings = &inner.settings;
    let mut backoff = Backoff::new(settings.backoff_min, settings.backoff_max);
    let mut first = 0;
    loop {
        wait_until_gone(&inner, &spec, &changed).await;
        // Never closed, so always had; waits only in a process with very many peers.
        let permit = inner.dial_permits.acquire().await;
        let began = Instant::now();
        let tried = attempt(&inner, &spec, first).await;
        drop(permit);
        match tried {
            Ok(index) => {
                first = index;
                wait_until_gone(&inner, &spec, &changed).await;
                if began.elapsed() > settings.backoff_max {
                    backoff.reset();
                    continue;
                }
                // Up and gone at once: somebody is unwell; do not help him spin.
            }
            Err(failure) => {
                first = (first + 1) % spec.addresses.len();
                Counters::bump(&inner.counters.dials_failed);
                tell(&inner, &spec, &failure);
            }
        }
        sleep_until(began + backoff.next()).await;
    }
}

/// Waits while the peer is connected, by whichever side's dial.
async fn wait_until_gone(inner: &Inner, spec: &PeerSpec, changed: &Notify) {
    let peer = &spec.identity;
    while inner.current(&peer.tenant, &peer.name).is_some() {
        changed.notified().await;
    }
}

fn tell(inner: &Inner, spec: &PeerSpec, failure: &Failure) {
    let Failure { remote, reason, by } = *failure;
    // The two members are connected already, or will be: nothing that an operator need know.
    if reason == Refusal::Duplicate {
        return;
    }
    if by == RefusedBy::Us {
        inner.counters.refuse(reason);
    }
    inner.report(LinkEvent::Refused { remote, peer: Some(spec.identity.clone()), reason, by });
}

/// Growing, jittered, bounded times between the beginnings of attempts.
struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, next: min }
    }

    fn reset(&mut self) {
        self.next = self.min;
    }

    /// Between half of the step and the whole, so that members that lost the same peer at the
    /// same time do not come back at the same time.
    fn next(&mut self) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(self.max);
        let mut random = [0; 2];
        // Without randomness there is no jitter, which is bearable.
        let _ = rand::fill(&mut random);
        let share = f64::from(u16::from_be_bytes(random)) / f64::from(u16::MAX);
        step.mul_f64(0.5 + share / 2.0).max(self.min)
    }
}

// --- one attempt ----------------------------------------------------------------------------

/// Why an attempt, or one address of it, failed.
#[derive(Debug)]
struct Failure {
    remote: Option<SocketAddr>,
    reason: Refusal,
    by: RefusedBy,
}

impl Failure {
    fn us(reason: Refusal) -> Self {
        Self { remote: None, reason, by: RefusedBy::Us }
    }

    fn of(error: &quinn::ConnectionError, remote: Option<SocketAddr>) -> Self {
        let (reason, by) = refusal_of(error);
        Self { remote, reason, by }
    }

    /// Of several failures the one that says most is told: silence says least.
    fn weight(&self) -> u8 {
        match self.reason {
            Refusal::Timeout => 0,
            Refusal::Other => 1,
            _ => 2,
        }
    }
}

type Dialled = Result<quinn::Connection, Failure>;
type DialFuture = Pin<Box<dyn Future<Output = Dialled> + Send>>;

/// Dials all addresses, greets the first that answers. Gives the index of its address.
async fn attempt(inner: &Arc<Inner>, spec: &PeerSpec, first: usize) -> Result<usize, Failure> {
    let tenant = &spec.identity.tenant;
    let unknown = || Failure::us(Refusal::UnknownTenant);
    let tls = inner.tenants.get(tenant).ok_or_else(unknown)?;
    let count = spec.addresses.len();
    let wait = inner.settings.dial_timeout;
    let deadline = Instant::now() + wait;
    let order: Vec<usize> = (0..count).map(|i| (first + i) % count).collect();
    let dials = order
        .iter()
        .map(|&i| dial_address(inner, &tls, spec, spec.addresses[i].clone(), deadline))
        .collect();
    let (won, quic) = race(dials, inner.settings.dial_stagger, deadline).await?;
    let remote = Some(quic.remote_address());
    // The handshake has taken a round trip of this path; the greeting takes another.
    let greeted = timeout(wait, greet(inner, &tls, spec, &quic)).await;
    let reason = match greeted {
        Ok(Ok(())) => return Ok(order[won]),
        Ok(Err(reason)) => reason,
        Err(_) => Refusal::Timeout,
    };
    // What the peer said when it closed says more than what we were waiting for.
    if let Some(error) = quic.close_reason() {
        return Err(Failure::of(&error, remote));
    }
    quic.close(reason.code(), reason.as_str().as_bytes());
    Err(Failure { remote, reason, by: RefusedBy::Us })
}

/// Runs all, each with a head start over the next; gives the first success, or when time is up the
/// failure that says most.
async fn race(
    futures: Vec<DialFuture>,
    stagger: Duration,
    deadline: Instant,
) -> Result<(usize, quinn::Connection), Failure> {
    let mut running = JoinSet::new();
    for (i, future) in futures.into_iter().enumerate() {
        let head_start = stagger * i as u32;
        running.spawn(async move {
            sleep(head_start).await;
            (i, future.await)
        });
    }
    let mut worst = Failure::us(Refusal::Timeout);
    while let Ok(Some(done)) = timeout_at(deadline, running.join_next()).await {
        match done {
            Ok((i, Ok(quic))) => return Ok((i, quic)),
            Ok((_, Err(failure))) if failure.weight() >= worst.weight() => worst = failure,
            Ok(_) | Err(_) => {}
        }
    }
    Err(worst)
}

/// Resolves one address and races what it stands for.
fn dial_address(
    inner: &Arc<Inner>,
    tls: &Arc<TenantTls>,
    spec: &PeerSpec,
    address: String,
    deadline: Instant,
) -> DialFuture {
    let (inner, tls, spec) = (inner.clone(), tls.clone(), spec.clone());
    Box::pin(async move {
        let targets: Vec<SocketAddr> = match address.parse() {
            Ok(literal) => vec![literal],
            Err(_) => match lookup_host(&address).await {
                Ok(found) => found.take(MAX_DIAL_TARGETS).collect(),
                Err(_) => return Err(Failure::us(Refusal::Other)),
            },
        };
        let stagger = inner.settings.dial_stagger;
        let dials = targets
            .into_iter()
            .map(|target| dial_target(inner.clone(), tls.clone(), spec.clone(), target))
            .collect();
        Ok(race(dials, stagger, deadline).await?.1)
    })
}

fn dial_target(
    inner: Arc<Inner>,
    tls: Arc<TenantTls>,
    spec: PeerSpec,
    target: SocketAddr,
) -> DialFuture {
    Box::pin(async move {
        let failed = |reason| Failure { remote: Some(target), reason, by: RefusedBy::Us };
        let trust = Trust::Tenant { tls: tls.clone(), peer: Some(spec.identity.clone()) };
        let alpns = inner.settings.alpns.clone();
        let (config, verdict) =
            tls::client_config(trust, Some(&tls), alpns).map_err(|_| failed(Refusal::Other))?;
        let config = transport::client(config, inner.dial_transport.clone())
            .map_err(|_| failed(Refusal::Other))?;
        let sni = spec.identity.tenant.sni();
        let connecting = inner
            .endpoint
            .connect_with(config, target, &sni)
            .map_err(|_| failed(Refusal::Other))?;
        connecting.await.map_err(|error| match verdict.get() {
            Some(reason) => failed(reason),
            None => Failure::of(&error, Some(target)),
        })
    })
}

/// Sends our greeting, reads the answer, decides.
async fn greet(
    inner: &Arc<Inner>,
    tls: &TenantTls,
    spec: &PeerSpec,
    quic: &quinn::Connection,
) -> Result<(), Refusal> {
    let peer = peer_certificate(quic).ok_or(Refusal::BadCertificate)?;
    // The handshake has checked it; a second look costs nothing.
    if peer.identity != spec.identity {
        return Err(Refusal::NameMismatch);
    }
    let alpn = quic.handshake_data().and_then(|d| d.downcast::<HandshakeData>().ok());
    let alpn = alpn.and_then(|d| d.protocol).ok_or(Refusal::NoCommonVersion)?;
    let ours = inner.greeting(&spec.identity)?;
    let mut send = quic.open_uni().await.map_err(|_| Refusal::Other)?;
    send.write_all(&ours.frame()).await.map_err(|_| Refusal::Other)?;
    let mut recv = quic.accept_uni().await.map_err(|_| Refusal::Other)?;
    let (theirs, decoder) = read_hello(&mut recv).await.ok_or(Refusal::Garbage)?;
    let claim = Claim { ours: true, peer_run: theirs.run, dial: ours.dial, peer_had: DialSeq(0) };
    let (conn, queue) = Conn::new(inner, quic.clone(), peer, Bytes::from(alpn), claim);
    inner.adopt(&tls.info.identity.name, &conn).await?;
    let streams = Streams { send, answer: None, recv, decoder, queue };
    conn::run(inner, conn, streams, tls);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_between_attempts_grows_to_its_bound_and_stays_above_its_floor() {
        let (min, max) = (Duration::from_millis(50), Duration::from_secs(1));
        let mut backoff = Backoff::new(min, max);
        for _ in 0..100 {
            let next = backoff.next();
            assert!(next >= min && next <= max, "{next:?}");
        }
        assert!(backoff.next() >= max / 2);
        backoff.reset();
        assert_eq!(backoff.next(), min);
    }
}
