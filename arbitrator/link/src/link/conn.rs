//! One connection: bytes in, bytes out, until it ends.
//!
//! Two tasks: one takes datagrams (and so hears of the end first), one reads and writes frames.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn::{RecvStream, SendStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::hello::{Claim, Hello};
use super::table::Inner;
use super::watch::Watch;
use super::{ConnId, LinkEvent};
use crate::bucket::Bucket;
use crate::counters::{Counters, TenantCounters};
use crate::error::{DownReason, Refusal};
use crate::frame::{FRAME_HEADER_BYTES, FrameDecoder, frame_header};
use crate::limits::{MAX_FRAME_BYTES, MAX_HELLO_BYTES, STREAM_RECEIVE_WINDOW, TenantQuota};
use crate::pki::CertInfo;
use crate::sync::lock;
use crate::tls::TenantTls;

/// A connection whose peer is known and whose greeting has been read.
pub(super) struct Conn {
    pub(super) id: ConnId,
    pub(super) quic: quinn::Connection,
    pub(super) peer: CertInfo,
    pub(super) alpn: Bytes,
    pub(super) claim: Claim,
    pub(super) frames: mpsc::Sender<Bytes>,
    pub(super) queued_bytes: AtomicUsize,
    pub(super) watch: Mutex<Watch>,
    ended: Mutex<Option<DownReason>>,
}

/// What the tasks of a connection own.
pub(super) struct Streams {
    pub(super) send: SendStream,
    /// What goes out before the first frame: the answer to a greeting.
    pub(super) answer: Option<Hello>,
    pub(super) recv: RecvStream,
    pub(super) decoder: FrameDecoder,
    pub(super) queue: mpsc::Receiver<Bytes>,
}

impl Conn {
    pub(super) fn new(
        inner: &Inner,
        quic: quinn::Connection,
        peer: CertInfo,
        alpn: Bytes,
        claim: Claim,
    ) -> (Arc<Self>, mpsc::Receiver<Bytes>) {
        let (frames, queue) = mpsc::channel(inner.settings.frame_queue);
        let conn = Self {
            id: inner.next_id(),
            quic,
            peer,
            alpn,
            claim,
            frames,
            queued_bytes: AtomicUsize::new(0),
            watch: Mutex::default(),
            ended: Mutex::default(),
        };
        (Arc::new(conn), queue)
    }

    /// Closes a connection that another has replaced, after a while if the peer may still use it.
    pub(super) fn supersede(self: Arc<Self>, linger: Duration) {
        if linger.is_zero() {
            return self.close(DownReason::ClosedByPeer(None), Refusal::Duplicate);
        }
        tokio::spawn(async move {
            let _ = timeout(linger, self.quic.closed()).await;
            self.close(DownReason::ClosedByPeer(None), Refusal::Duplicate);
        });
    }

    /// Closes from our side; the first reason stays.
    pub(super) fn close(&self, reason: DownReason, refusal: Refusal) {
        lock(&self.ended).get_or_insert(reason);
        self.quic.close(refusal.code(), refusal.as_str().as_bytes());
    }
}

/// Reads the peer's greeting; frames that came with it stay in the decoder.
pub(super) async fn read_hello(recv: &mut RecvStream) -> Option<(Hello, FrameDecoder)> {
    let mut decoder = FrameDecoder::new(MAX_HELLO_BYTES);
    loop {
        if let Some(frame) = decoder.next_frame().ok()? {
            decoder.set_limit(MAX_FRAME_BYTES);
            return Some((Hello::decode(&frame)?, decoder));
        }
        decoder.push(&recv.read_chunk(MAX_HELLO_BYTES, true).await.ok()??.bytes);
    }
}

/// Starts the tasks of an adopted connection. Between adoption and this call nothing may wait: a
/// caller that is cancelled there would leave a connection that nobody reads or releases.
pub(super) fn run(inner: &Arc<Inner>, conn: Arc<Conn>, streams: Streams, tls: &TenantTls) {
    let Streams { send, answer, recv, decoder, queue } = streams;
    let (inner_b, conn_b) = (inner.clone(), conn.clone());
    tokio::spawn(async move {
        tokio::join!(
            write_frames(&inner_b, &conn_b, send, answer, queue),
            read_frames(&inner_b, &conn_b, recv, decoder),
        );
    });
    let (inner, quota, counted) = (inner.clone(), tls.quota, tls.counters.clone());
    tokio::spawn(async move {
        let error = read_datagrams(&inner, &conn, quota, &counted).await;
        let reason = lock(&conn.ended).unwrap_or_else(|| DownReason::of(&error));
        inner.release(&conn, reason).await;
    });
}

async fn read_datagrams(
    inner: &Inner,
    conn: &Conn,
    quota: TenantQuota,
    counted: &TenantCounters,
) -> quinn::ConnectionError {
    let counters = &inner.counters;
    let mut bucket = Bucket::new(Instant::now(), quota.datagrams_per_second, quota.datagram_burst);
    loop {
        let bytes = match conn.quic.read_datagram().await {
            Ok(bytes) => bytes,
            Err(error) => return error,
        };
        if !bucket.take(Instant::now()) {
            Counters::bump(&counters.datagrams_over_quota);
            Counters::bump(&counted.datagrams_over_quota);
            continue;
        }
        let len = bytes.len();
        let event = LinkEvent::Datagram { peer: conn.peer.identity.clone(), bytes };
        if inner.is_nearly_full() || inner.events.try_send(event).is_err() {
            Counters::bump(&counters.datagrams_queue_full);
            continue;
        }
        Counters::bump(&counters.datagrams_in);
        Counters::add(&counters.datagram_bytes_in, len);
    }
}

async fn write_frames(
    inner: &Inner,
    conn: &Conn,
    mut send: SendStream,
    answer: Option<Hello>,
    mut queue: mpsc::Receiver<Bytes>,
) {
    let counters = &inner.counters;
    if let Some(hello) = answer {
        // If the connection has ended, the loop finds it so.
        let _ = send.write_all(&hello.frame()).await;
    }
    loop {
        let next = tokio::select! {
            next = queue.recv() => next,
            // An idle writer must not keep an ended connection's memory.
            _ = conn.quic.closed() => None,
        };
        let Some(frame) = next else { break };
        let len = frame.len();
        let sent = write_frame(&mut send, frame).await;
        conn.queued_bytes.fetch_sub(len + FRAME_HEADER_BYTES, Ordering::Relaxed);
        if sent.is_none() {
            Counters::bump(&counters.frames_lost);
            // The peer stopped our stream, which no member does; or the connection has ended.
            conn.close(DownReason::Garbage, Refusal::Garbage);
            break;
        }
        Counters::bump(&counters.frames_out);
        Counters::add(&counters.frame_bytes_out, len);
    }
    queue.close();
    while queue.try_recv().is_ok() {
        Counters::bump(&counters.frames_lost);
    }
}

async fn write_frame(send: &mut SendStream, frame: Bytes) -> Option<()> {
    let header = frame_header(frame.len(), MAX_FRAME_BYTES).ok()?;
    let mut parts = [Bytes::copy_from_slice(&header), frame];
    send.write_all_chunks(&mut parts).await.ok()
}

async fn read_frames(inner: &Inner, conn: &Conn, mut recv: RecvStream, mut decoder: FrameDecoder) {
    let counters = &inner.counters;
    loop {
        loop {
            let frame = match decoder.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(peer = %conn.peer.identity, %error, "bad frame");
                    return conn.close(DownReason::Garbage, Refusal::Garbage);
                }
            };
            let len = frame.len();
            let event = LinkEvent::Frame { peer: conn.peer.identity.clone(), bytes: frame };
            if inner.events.send(event).await.is_err() {
                return conn.close(DownReason::Shutdown, Refusal::Shutdown);
            }
            Counters::bump(&counters.frames_in);
            Counters::add(&counters.frame_bytes_in, len);
        }
        match recv.read_chunk(STREAM_RECEIVE_WINDOW as usize, true).await {
            Ok(Some(chunk)) => decoder.push(&chunk.bytes),
            // The connection has ended; the other task says why.
            Err(quinn::ReadError::ConnectionLost(_)) => return,
            // The stream lives as long as the connection; a member neither ends nor resets it.
            Ok(None) | Err(_) => return conn.close(DownReason::Garbage, Refusal::Garbage),
        }
    }
}
