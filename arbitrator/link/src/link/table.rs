//! Who is connected: the state that all tasks of a link share, and every change of it.
//!
//! Each change that the daemon must hear of is made together with its event: room in the queue is
//! had first, then the table is changed and the event put in under one lock. So events come in the
//! order of the changes, and a `Down` is never about a connection that another has replaced.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quinn::TransportConfig;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::AbortHandle;

use super::conn::Conn;
use super::hello::{Accepted, DialSeq, Hello, Incarnation, Keep, arbitrate};
use super::{ConnId, LinkEvent, transport};
use crate::counters::Counters;
use crate::error::{DownReason, Refusal};
use crate::identity::{Identity, Name, Tenant};
use crate::limits::{MAX_CONCURRENT_DIALS, MAX_CONCURRENT_JOINS, Settings};
use crate::pki::Ca;
use crate::sync::lock;
use crate::tls::{TenantTable, TenantTls};

/// All that a link is.
pub(super) struct Inner {
    pub(super) endpoint: quinn::Endpoint,
    pub(super) settings: Settings,
    pub(super) tenants: Arc<TenantTable>,
    pub(super) events: mpsc::Sender<LinkEvent>,
    pub(super) counters: Arc<Counters>,
    pub(super) run: Incarnation,
    pub(super) joins: Mutex<HashMap<Tenant, Arc<Ca>>>,
    pub(super) join_permits: Arc<Semaphore>,
    pub(super) dial_permits: Semaphore,
    pub(super) open_handshakes: Arc<AtomicUsize>,
    pub(super) dial_transport: Arc<TransportConfig>,
    pub(super) tasks: Mutex<Vec<AbortHandle>>,
    /// The runtime that the link was bound in; diallers run there, whoever registers them.
    pub(super) runtime: Handle,
    peers: Mutex<HashMap<Tenant, HashMap<Name, Slot>>>,
    next_conn: AtomicU64,
    stopped: AtomicBool,
}

/// One peer: its connection, and its dialler if it is registered.
struct Slot {
    identity: Identity,
    dialler: Option<AbortHandle>,
    current: Option<Arc<Conn>>,
    last_dial: DialSeq,
    accepted: Accepted,
    changed: Arc<Notify>,
}

impl Slot {
    fn new(identity: Identity) -> Self {
        Self {
            identity,
            dialler: None,
            current: None,
            last_dial: DialSeq(0),
            accepted: Accepted { run: Incarnation(0), dial: DialSeq(0) },
            changed: Arc::new(Notify::new()),
        }
    }

    fn end(self, reason: DownReason, refusal: Refusal) {
        if let Some(dialler) = self.dialler {
            dialler.abort();
        }
        if let Some(conn) = self.current {
            conn.close(reason, refusal);
        }
    }
}

impl Inner {
    pub(super) fn new(
        endpoint: quinn::Endpoint,
        settings: Settings,
        tenants: Arc<TenantTable>,
        events: mpsc::Sender<LinkEvent>,
        run: [u8; 8],
    ) -> Self {
        Self {
            endpoint,
            dial_transport: transport::transport(&settings, true),
            settings,
            tenants,
            events,
            counters: Arc::default(),
            // Zero means "none" in greetings.
            run: Incarnation(u64::from_be_bytes(run).max(1)),
            joins: Mutex::default(),
            join_permits: Arc::new(Semaphore::new(MAX_CONCURRENT_JOINS)),
            dial_permits: Semaphore::new(MAX_CONCURRENT_DIALS),
            open_handshakes: Arc::default(),
            tasks: Mutex::default(),
            runtime: Handle::current(),
            peers: Mutex::default(),
            next_conn: AtomicU64::new(1),
            stopped: AtomicBool::new(false),
        }
    }

    pub(super) fn next_id(&self) -> ConnId {
        ConnId(self.next_conn.fetch_add(1, Ordering::Relaxed))
    }

    /// Puts a refusal into the queue if there is room to spare, and counts it if it is ours.
    pub(super) fn report(&self, event: LinkEvent) {
        if self.is_nearly_full() || self.events.try_send(event).is_err() {
            Counters::bump(&self.counters.refusals_unreported);
        }
    }

    /// A quarter of the queue is kept for what must not be lost.
    pub(super) fn is_nearly_full(&self) -> bool {
        self.events.capacity() * 4 < self.events.max_capacity()
    }
}

// --- connections come and go ----------------------------------------------------------------

impl Inner {
    /// Makes a greeted connection the peer's connection, or says why not.
    pub(super) async fn adopt(&self, us: &Name, conn: &Arc<Conn>) -> Result<(), Refusal> {
        let room = self.events.reserve().await.map_err(|_| Refusal::Shutdown)?;
        let peer = &conn.peer.identity;
        let quota = self.tenants.get(&peer.tenant).ok_or(Refusal::UnknownTenant)?.quota;
        let mut peers = lock(&self.peers);
        if self.stopped.load(Ordering::Relaxed) {
            return Err(Refusal::Shutdown);
        }
        let tenant = peers.entry(peer.tenant.clone()).or_default();
        if !tenant.contains_key(&peer.name) && tenant.len() >= quota.max_connections {
            return Err(Refusal::TooManyConnections);
        }
        let slot = tenant.entry(peer.name.clone()).or_insert_with(|| Slot::new(peer.clone()));
        if slot.identity != *peer {
            return Err(Refusal::NameMismatch);
        }
        if let Some(current) = &slot.current
            && arbitrate(us, &peer.name, &current.claim, &conn.claim) == Keep::Current
        {
            return Err(Refusal::Duplicate);
        }
        if !conn.claim.ours {
            slot.accepted = Accepted { run: conn.claim.peer_run, dial: conn.claim.dial };
        }
        if let Some(old) = slot.current.replace(conn.clone()) {
            // When two dials have crossed, the peer still uses the old one until it has our answer
            // on the new: closing it now would show it a moment without any.
            let crossed =
                !conn.claim.ours && old.claim.ours && old.claim.peer_run == conn.claim.peer_run;
            old.supersede(if crossed { self.settings.dial_timeout } else { Duration::ZERO });
        }
        slot.changed.notify_one();
        Counters::bump(&self.counters.connections_up);
        room.send(LinkEvent::Up {
            peer: peer.clone(),
            conn: conn.id,
            rtt: conn.quic.rtt(),
            alpn: conn.alpn.clone(),
            remote: conn.quic.remote_address(),
        });
        Ok(())
    }

    /// Takes an ended connection out. Says so only if it was the peer's connection.
    pub(super) async fn release(&self, conn: &Conn, reason: DownReason) {
        // Without a reader there is nobody to tell; the table is still put right.
        let room = self.events.reserve().await.ok();
        let peer = &conn.peer.identity;
        let mut peers = lock(&self.peers);
        let Some(tenant) = peers.get_mut(&peer.tenant) else { return };
        let Some(slot) = tenant.get_mut(&peer.name) else { return };
        if slot.current.as_ref().is_none_or(|current| current.id != conn.id) {
            return;
        }
        slot.current = None;
        slot.changed.notify_one();
        if slot.dialler.is_none() {
            tenant.remove(&peer.name);
            if tenant.is_empty() {
                peers.remove(&peer.tenant);
            }
        }
        Counters::bump(&self.counters.connections_down);
        if let Some(room) = room {
            room.send(LinkEvent::Down { peer: peer.clone(), conn: conn.id, reason });
        }
    }

    pub(super) fn current(&self, tenant: &Tenant, name: &Name) -> Option<Arc<Conn>> {
        lock(&self.peers).get(tenant)?.get(name)?.current.clone()
    }

    /// All connections in use.
    pub(super) fn connections(&self) -> Vec<Arc<Conn>> {
        let peers = lock(&self.peers);
        peers.values().flat_map(HashMap::values).filter_map(|slot| slot.current.clone()).collect()
    }
}

// --- diallers -------------------------------------------------------------------------------

impl Inner {
    /// Registers a peer; `spawn` starts its dialler, which is told of changes by the notification.
    pub(super) fn register(
        &self,
        identity: &Identity,
        max_peers: usize,
        spawn: impl FnOnce(Arc<Notify>) -> AbortHandle,
    ) -> Result<(), ()> {
        let mut peers = lock(&self.peers);
        if self.stopped.load(Ordering::Relaxed) {
            return Err(());
        }
        let tenant = peers.entry(identity.tenant.clone()).or_default();
        if !tenant.contains_key(&identity.name) && tenant.len() >= max_peers {
            return Err(());
        }
        let slot =
            tenant.entry(identity.name.clone()).or_insert_with(|| Slot::new(identity.clone()));
        if slot.identity != *identity {
            // The name has changed its role: the old one is somebody else.
            let old = std::mem::replace(slot, Slot::new(identity.clone()));
            old.end(DownReason::Removed, Refusal::NameMismatch);
        }
        if let Some(old) = slot.dialler.take() {
            old.abort();
        }
        // A notification of its own: the old dialler may have been waiting on the other.
        slot.changed = Arc::new(Notify::new());
        slot.dialler = Some(spawn(slot.changed.clone()));
        Ok(())
    }

    /// What to say in the greeting of the next dial to this peer. Nothing if it is connected by
    /// now: whoever greets thereby says that it has dropped all that it had accepted before.
    pub(super) fn greeting(&self, peer: &Identity) -> Result<Hello, Refusal> {
        let mut peers = lock(&self.peers);
        let slot = peers.get_mut(&peer.tenant).and_then(|slots| slots.get_mut(&peer.name));
        let slot = slot.ok_or(Refusal::Shutdown)?;
        if slot.current.is_some() {
            return Err(Refusal::Duplicate);
        }
        slot.last_dial = DialSeq(slot.last_dial.0 + 1);
        Ok(Hello { run: self.run, dial: slot.last_dial, accepted: slot.accepted })
    }
}

// --- ending ---------------------------------------------------------------------------------

impl Inner {
    pub(super) fn drop_tenant(&self, tenant: &Tenant) {
        // The slots stay until `release` takes them out with their Down; only their diallers go.
        let mut peers = lock(&self.peers);
        let Some(slots) = peers.get_mut(tenant) else { return };
        slots.retain(|_, slot| slot.retire(DownReason::Removed, Refusal::UnknownTenant));
        if slots.is_empty() {
            peers.remove(tenant);
        }
    }

    pub(super) fn drop_peer(&self, tenant: &Tenant, name: &Name) {
        let mut peers = lock(&self.peers);
        let Some(slots) = peers.get_mut(tenant) else { return };
        if slots.get_mut(name).is_some_and(|s| !s.retire(DownReason::Removed, Refusal::Shutdown)) {
            slots.remove(name);
        }
        if slots.is_empty() {
            peers.remove(tenant);
        }
    }

    pub(super) fn drop_revoked(&self, tls: &TenantTls) {
        let peers = lock(&self.peers);
        let Some(slots) = peers.get(&tls.info.identity.tenant) else { return };
        for conn in slots.values().filter_map(|slot| slot.current.as_ref()) {
            if tls.revokes(&conn.peer) {
                conn.close(DownReason::Revoked, Refusal::Revoked);
            }
        }
    }

    pub(super) fn stop(&self, reason: &str) {
        if self.stopped.swap(true, Ordering::Relaxed) {
            return;
        }
        for task in lock(&self.tasks).drain(..) {
            task.abort();
        }
        let mut peers = lock(&self.peers);
        for slot in peers.values_mut().flat_map(HashMap::values_mut) {
            slot.retire(DownReason::Shutdown, Refusal::Shutdown);
        }
        drop(peers);
        // A closing endpoint would answer newcomers as one whose connections are all in use does.
        // Unanswered, they repeat themselves until whoever has the port next answers.
        self.endpoint.set_server_config(None);
        self.endpoint.close(Refusal::Shutdown.code(), reason.as_bytes());
    }
}

impl Slot {
    /// Ends dialler and connection; gives whether a connection is left to be released.
    fn retire(&mut self, reason: DownReason, refusal: Refusal) -> bool {
        if let Some(dialler) = self.dialler.take() {
            dialler.abort();
        }
        if let Some(conn) = &self.current {
            conn.close(reason, refusal);
        }
        self.current.is_some()
    }
}
