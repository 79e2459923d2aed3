//! The embedded authority: UDP and TCP on one port around [`Server`].
//!
//! For the demo and for tests, where a real primary would be one more thing to install. It keeps
//! its zone in memory, forgets it at the end and is no replacement for BIND or Knot. What it does
//! share with them is the property that the fence rests on: prerequisites and change are one step.
//!
//! Unsigned updates are accepted from the same host only: without a key, [`Authority::bind`]
//! refuses any address that is not loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hickory_proto::rr::{Name, Record};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::error::DnsError;
use crate::key::Key;
use crate::limits::{MAX_TCP_CONNECTIONS, PORT_ATTEMPTS, TCP_IDLE, UDP_BUFFER};
use crate::server::{Kind, Server, Transport};
use crate::transport::unix_secs;
use crate::zone::Zone;

/// A bound authority, not serving yet.
#[derive(Debug)]
pub struct Authority {
    udp: UdpSocket,
    tcp: TcpListener,
    addr: SocketAddr,
    shared: Arc<Shared>,
}

/// A view of a running authority; cheap to clone.
#[derive(Debug, Clone)]
pub struct AuthorityHandle {
    addr: SocketAddr,
    shared: Arc<Shared>,
}

/// Counters since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AuthorityStats {
    /// Questions answered, refusals included.
    pub queries: u64,
    /// Updates carried out.
    pub updates: u64,
    /// Updates refused: lost races, wrong zone, no permission.
    pub updates_refused: u64,
    /// Requests that got an error: malformed, unsupported, badly signed.
    pub malformed: u64,
    /// Packets that got no answer at all.
    pub dropped: u64,
}

#[derive(Debug)]
struct Shared {
    server: Server,
    queries: AtomicU64,
    updates: AtomicU64,
    updates_refused: AtomicU64,
    malformed: AtomicU64,
    dropped: AtomicU64,
}

impl Authority {
    /// Binds UDP and TCP on a loopback address; port 0 takes any that is free for both.
    /// SOA and NS of the zone are made up unless `records` brings them.
    pub async fn bind(addr: SocketAddr, zone: &Name, records: &[Record]) -> Result<Self, DnsError> {
        if !addr.ip().is_loopback() {
            return Err(DnsError::NotLoopback { addr: addr.ip() });
        }
        Self::open(addr, Zone::new(zone, records)?, None).await
    }

    /// Like [`Authority::bind`], on any address; updates must be signed with `key`.
    pub async fn bind_signed(
        addr: SocketAddr,
        zone: &Name,
        records: &[Record],
        key: Key,
    ) -> Result<Self, DnsError> {
        Self::open(addr, Zone::new(zone, records)?, Some(key)).await
    }

    async fn open(addr: SocketAddr, zone: Zone, key: Option<Key>) -> Result<Self, DnsError> {
        let listen = |error: std::io::Error| DnsError::Listen { addr, why: error.to_string() };
        let mut attempts = if addr.port() == 0 { PORT_ATTEMPTS } else { 1 };
        let (udp, tcp, bound) = loop {
            let tcp = TcpListener::bind(addr).await.map_err(listen)?;
            let bound = tcp.local_addr().map_err(listen)?;
            attempts -= 1;
            match UdpSocket::bind(bound).await {
                Ok(udp) => break (udp, tcp, bound),
                Err(error) if attempts == 0 => return Err(listen(error)),
                Err(_) => {} // The port is free for TCP only: take another one.
            }
        };
        let shared = Arc::new(Shared {
            server: Server::new(zone, key),
            queries: AtomicU64::new(0),
            updates: AtomicU64::new(0),
            updates_refused: AtomicU64::new(0),
            malformed: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        });
        Ok(Self { udp, tcp, addr: bound, shared })
    }

    /// The address in use.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// A view that stays valid while (and after) the authority serves.
    pub fn handle(&self) -> AuthorityHandle {
        AuthorityHandle { addr: self.addr, shared: Arc::clone(&self.shared) }
    }

    /// Serves until `shutdown` ends; open connections are closed then.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) {
        let udp = serve_udp(&self.udp, &self.shared);
        let tcp = serve_tcp(&self.tcp, &self.shared);
        tokio::select! {
            () = shutdown => {}
            () = udp => {}
            () = tcp => {}
        }
    }
}

impl AuthorityHandle {
    /// The address in use.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// All records as of now, SOA first.
    pub fn snapshot(&self) -> Vec<Record> {
        self.shared.server.with_zone(|zone| zone.records())
    }

    /// Counters as of now.
    pub fn stats(&self) -> AuthorityStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        AuthorityStats {
            queries: read(&self.shared.queries),
            updates: read(&self.shared.updates),
            updates_refused: read(&self.shared.updates_refused),
            malformed: read(&self.shared.malformed),
            dropped: read(&self.shared.dropped),
        }
    }
}

impl Shared {
    fn respond(&self, request: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let (kind, answer) = self.server.respond(request, transport, unix_secs());
        let counter = match kind {
            Kind::Query => &self.queries,
            Kind::Updated => &self.updates,
            Kind::UpdateRefused => &self.updates_refused,
            Kind::Malformed => &self.malformed,
            Kind::Dropped => &self.dropped,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        answer
    }
}

async fn serve_udp(socket: &UdpSocket, shared: &Shared) {
    let mut buffer = vec![0; UDP_BUFFER];
    loop {
        // Errors here are late ICMP messages about clients that went away.
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else { continue };
        if let Some(answer) = shared.respond(&buffer[..length], Transport::Udp)
            && let Err(error) = socket.send_to(&answer, from).await
        {
            tracing::debug!(%from, %error, "dns answer not sent");
        }
    }
}

async fn serve_tcp(listener: &TcpListener, shared: &Arc<Shared>) {
    let slots = Arc::new(Semaphore::new(MAX_TCP_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let shared = Arc::clone(shared);
                connections.spawn(async move {
                    let _slot = slot;
                    serve_connection(stream, &shared).await;
                });
            }
            Err(error) => {
                // Out of descriptors, most likely: a short wait lets connections end.
                tracing::warn!(%error, "dns accept failed");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

/// Serves requests of one connection in order until it is idle, closed or broken.
async fn serve_connection(mut stream: TcpStream, shared: &Shared) {
    let _ = stream.set_nodelay(true);
    let mut buffer = Vec::new();
    loop {
        let read = async {
            let length = stream.read_u16().await?;
            buffer.resize(usize::from(length), 0);
            stream.read_exact(&mut buffer).await
        };
        let Ok(Ok(_)) = timeout(TCP_IDLE, read).await else { return };
        let Some(answer) = shared.respond(&buffer, Transport::Tcp) else { return };
        let Ok(length) = u16::try_from(answer.len()) else { return };
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend_from_slice(&answer);
        let Ok(Ok(())) = timeout(TCP_IDLE, stream.write_all(&framed)).await else { return };
    }
}
