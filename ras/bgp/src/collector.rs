//! An embedded route collector: a passive peer for several speakers, with the best route to see.
//!
//! For the demo and for tests, where a router would be one more thing to install. It does what a
//! client sees of a router: it keeps what each peer announced, picks the best, and drops a peer's
//! routes the moment its session falls. It forwards nothing.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, broadcast, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep_until, timeout_at};

use crate::error::BgpError;
use crate::limits::{MAX_EVENTS, MAX_PEERS};
use crate::link::{Link, Turn};
use crate::med::Asn;
use crate::rib::{PeerId, Rib, Route, RouteEvent};
use crate::session::{Down, Event, Finding, GracefulRestartPolicy, Session, SessionConfig};
use crate::wire::Notification;

/// A collector's settings.
#[derive(Debug, Clone)]
pub struct CollectorConfig {
    /// Where to listen; loopback only. Port 0 takes any free one.
    pub listen: SocketAddr,
    /// Its number.
    pub local_as: Asn,
    /// Its identifier.
    pub router_id: Ipv4Addr,
    /// Hold time to offer.
    pub hold_time: Duration,
    /// Numbers accepted from peers; empty accepts any.
    pub accept_as: Vec<Asn>,
}

impl CollectorConfig {
    /// A collector on a free port of 127.0.0.1 that accepts any AS.
    pub fn loopback(local_as: Asn, hold_time: Duration) -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            local_as,
            router_id: Ipv4Addr::new(10, 255, 255, 254),
            hold_time,
            accept_as: Vec::new(),
        }
    }
}

/// A bound collector, not serving yet.
#[derive(Debug)]
pub struct Collector {
    config: CollectorConfig,
    listener: TcpListener,
    addr: SocketAddr,
}

/// A running collector; it ends when the handle is dropped.
#[derive(Debug)]
pub struct CollectorHandle {
    addr: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

/// An established peer.
#[derive(Debug, Clone)]
pub struct PeerStatus {
    /// Its identifier.
    pub id: PeerId,
    /// Its number.
    pub asn: Asn,
    /// Its address.
    pub addr: SocketAddr,
    /// When its session came up.
    pub since: Instant,
    /// The hold time agreed.
    pub hold_time: Duration,
    /// What it offered that it should not.
    pub findings: Vec<Finding>,
    /// How many routes it has here.
    pub routes: usize,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<Table>,
    events: broadcast::Sender<RouteEvent>,
}

#[derive(Debug, Default)]
struct Table {
    rib: Rib,
    peers: BTreeMap<PeerId, Present>,
    sessions: u64,
}

/// A session in the table; `number` tells it from an earlier one of the same peer.
#[derive(Debug)]
struct Present {
    number: u64,
    status: PeerStatus,
    _replaced: oneshot::Sender<()>,
}

impl Collector {
    /// Binds the listening socket.
    pub async fn bind(config: CollectorConfig) -> Result<Self, BgpError> {
        let addr = config.listen;
        if !addr.ip().is_loopback() {
            return Err(BgpError::NotLoopback { addr: addr.ip() });
        }
        let listen = |error: std::io::Error| BgpError::Listen { addr, why: error.to_string() };
        let listener = TcpListener::bind(addr).await.map_err(listen)?;
        let addr = listener.local_addr().map_err(listen)?;
        Ok(Self { config, listener, addr })
    }

    /// The address in use.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves on the current runtime until the handle is dropped.
    pub fn spawn(self) -> CollectorHandle {
        let (events, _) = broadcast::channel(MAX_EVENTS);
        let shared = Arc::new(Shared { state: Mutex::default(), events });
        let task = tokio::spawn(accept(self.listener, self.config, Arc::clone(&shared)));
        CollectorHandle { addr: self.addr, shared, task }
    }
}

impl CollectorHandle {
    /// The address in use.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// The best route of a prefix.
    pub fn best(&self, prefix: &IpNet) -> Option<Route> {
        self.shared.table().rib.best(prefix)
    }

    /// All routes of a prefix, by peer.
    pub fn routes(&self, prefix: &IpNet) -> Vec<Route> {
        self.shared.table().rib.routes(prefix).collect()
    }

    /// Established peers, by identifier.
    pub fn peers(&self) -> Vec<PeerStatus> {
        let table = self.shared.table();
        let count = |present: &Present| PeerStatus {
            routes: table.rib.count(present.status.id),
            ..present.status.clone()
        };
        table.peers.values().map(count).collect()
    }

    /// Changes of best routes from now on, each with its time.
    pub fn events(&self) -> broadcast::Receiver<RouteEvent> {
        self.shared.events.subscribe()
    }

    /// Waits until the best route of a prefix is as `wanted`; false when `deadline` came first.
    pub async fn wait_best(
        &self,
        prefix: &IpNet,
        deadline: tokio::time::Instant,
        wanted: impl Fn(Option<Route>) -> bool,
    ) -> bool {
        let mut events = self.events();
        while !wanted(self.best(prefix)) {
            // A reader that lagged has lost events, not the state: look again.
            match timeout_at(deadline, events.recv()).await {
                Ok(Ok(_) | Err(broadcast::error::RecvError::Lagged(_))) => {}
                Ok(Err(broadcast::error::RecvError::Closed)) | Err(_) => {
                    return wanted(self.best(prefix));
                }
            }
        }
        true
    }
}

impl Drop for CollectorHandle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        // Each change of the table is one call that leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells readers; with nobody listening there is nobody to tell.
    fn tell(&self, events: Vec<RouteEvent>) {
        for event in events {
            let _ = self.events.send(event);
        }
    }
}

async fn accept(listener: TcpListener, config: CollectorConfig, shared: Arc<Shared>) {
    let slots = Arc::new(Semaphore::new(MAX_PEERS));
    let mut peers = JoinSet::new();
    loop {
        while peers.try_join_next().is_some() {}
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, addr)) => {
                let peer = Peer::new(&config, stream, addr, Arc::clone(&shared));
                peers.spawn(async move {
                    let _slot = slot;
                    peer.run().await;
                });
            }
            Err(error) => {
                // Out of descriptors, most likely: a short wait lets sessions end.
                tracing::warn!(%error, "bgp accept failed");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

/// One connection's task.
struct Peer {
    addr: SocketAddr,
    link: Link,
    session: Session,
    shared: Arc<Shared>,
    findings: Vec<Finding>,
    /// Our entry in the table, while the session is up.
    entry: Option<(PeerId, u64)>,
    /// Ends when another connection of the same peer took over.
    replaced: Option<oneshot::Receiver<()>>,
}

impl Peer {
    fn new(
        config: &CollectorConfig,
        stream: TcpStream,
        addr: SocketAddr,
        shared: Arc<Shared>,
    ) -> Self {
        let session = SessionConfig {
            local_as: config.local_as,
            router_id: config.router_id,
            hold_time: config.hold_time,
            peer_as: config.accept_as.clone(),
            graceful_restart: GracefulRestartPolicy::Report,
            wants_routes: true,
        };
        Self {
            addr,
            link: Link::new(stream, config.hold_time),
            session: Session::new(session, Instant::now()),
            shared,
            findings: Vec::new(),
            entry: None,
            replaced: None,
        }
    }

    async fn run(mut self) {
        loop {
            if self.carry_out() {
                break;
            }
            let deadline = self.session.deadline();
            let time = async {
                match deadline {
                    Some(at) => sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            let replaced = async {
                match &mut self.replaced {
                    Some(replaced) => drop(replaced.await),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                turn = self.link.turn() => match turn {
                    Turn::Received(length) => {
                        self.session.received(Instant::now(), self.link.inbox(length));
                    }
                    Turn::Closed => self.session.lost(),
                    Turn::Stalled => self.session.stalled(),
                },
                () = time => self.session.tick(Instant::now()),
                () = replaced => {
                    self.replaced = None;
                    self.session.cease(&Notification::new(Notification::COLLISION, []));
                }
            }
        }
        self.link.close().await;
    }

    /// Carries out the session's events; true when the connection is to be closed.
    fn carry_out(&mut self) -> bool {
        while let Some(event) = self.session.poll() {
            match event {
                Event::Send(octets) => {
                    if !self.link.queue(&octets) {
                        self.session.stalled();
                    }
                }
                Event::Up(peer) => self.enter(&peer),
                Event::Update(update) => {
                    let Some((id, number)) = self.entry else { continue };
                    let mut table = self.shared.table();
                    if table.peers.get(&id).is_none_or(|present| present.number != number) {
                        continue; // Replaced: this session's routes no longer count.
                    }
                    let outcome = table.rib.update(id, &update, Instant::now());
                    match outcome {
                        Ok(events) => self.shared.tell(events),
                        Err(notice) => self.session.refuse(notice),
                    }
                }
                Event::Finding(finding) => self.findings.push(finding),
                Event::Refresh => {} // We announce nothing.
                Event::Down(why) => self.leave(&why),
                Event::Close => return true,
            }
        }
        false
    }

    /// The session is up. An older session of the same peer gives way: a speaker that came back
    /// must not wait for the hold time of the connection that it lost.
    fn enter(&mut self, peer: &crate::session::PeerOpen) {
        let id = PeerId(peer.router_id);
        let now = Instant::now();
        let (sender, receiver) = oneshot::channel();
        let mut table = self.shared.table();
        table.sessions += 1;
        let number = table.sessions;
        let status = PeerStatus {
            id,
            asn: peer.asn,
            addr: self.addr,
            since: now,
            hold_time: peer.hold_time,
            findings: self.findings.clone(),
            routes: 0,
        };
        // Dropping the older entry's sender tells its task.
        table.peers.insert(id, Present { number, status, _replaced: sender });
        let events = table.rib.drop_peer(id, now);
        self.shared.tell(events);
        drop(table);
        self.entry = Some((id, number));
        self.replaced = Some(receiver);
        tracing::info!(peer = %id, addr = %self.addr, asn = %peer.asn, "bgp peer up");
    }

    /// The session fell: its routes go in the same step.
    fn leave(&mut self, why: &Down) {
        let Some((id, number)) = self.entry.take() else { return };
        tracing::info!(peer = %id, addr = %self.addr, %why, "bgp peer down");
        let mut table = self.shared.table();
        if table.peers.get(&id).is_some_and(|present| present.number == number) {
            table.peers.remove(&id);
            let events = table.rib.drop_peer(id, Instant::now());
            self.shared.tell(events);
        }
    }
}
