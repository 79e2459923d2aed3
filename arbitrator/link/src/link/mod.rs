//! Connections between members: one socket, many tenants, one connection per pair.
//!
//! A daemon binds a [`Link`], adds tenants (each a member's folder), registers the peers that it
//! dials, and reads one bounded queue of [`LinkEvent`]s. A site dials its arbitrators and the other
//! sites; an arbitrator dials nobody. The link dials and re-dials by itself, whether or not there is
//! anything to say: a connection that is first missed when a renewal is due is missed too late.
//!
//! Flow: `transport` (quinn's settings) → `accept` (strangers become members or go) and `dial`
//! (addresses become a connection) → `hello` (which connection stays) → `table` (who is connected)
//! → `conn` (bytes in, bytes out) → `watch` (is the peer still there).
//!
//! Rules for the reader of events:
//! - an `Up` for a peer that is up already replaces its connection; no `Down` comes for the old one;
//! - a `Down` always names the connection of the last `Up`;
//! - frames come in order and once within one connection; a frame sent before a `Down` may be lost;
//! - a certificate that ends while its connection is up does not end the connection (that would be
//!   an outage by calendar); the next handshake is refused. Revocation does end it, at reload;
//! - datagrams may be lost, and are dropped here (counted) when the queue is three quarters full;
//!   frames wait for the reader, and through flow control make the peer wait.

mod accept;
mod conn;
mod dial;
mod hello;
mod table;
mod transport;
mod watch;

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aws_lc_rs::rand;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::counters::{Counters, CountersSnapshot, TenantCountersSnapshot};
use crate::error::{DownReason, LinkError, Refusal, RefusedBy, SendError};
use crate::frame::FRAME_HEADER_BYTES;
use crate::identity::{Identity, Name, Tenant};
use crate::join::{JoinError, check_addresses, renew};
use crate::limits::{MAX_FRAME_BYTES, MAX_TENANTS, Settings, TenantQuota};
use crate::pki::{Ca, CertInfo};
use crate::sync::lock;
use crate::tls::{self, TenantTable, TenantTls};

use table::Inner;

/// Names one connection for as long as the process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub u64);

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}", self.0)
    }
}

/// What happens on a link. The tenant stands in the peer's identity.
#[derive(Debug, Clone)]
pub enum LinkEvent {
    /// A peer is connected, or connected anew.
    Up {
        /// Who, as its certificate says.
        peer: Identity,
        /// The connection.
        conn: ConnId,
        /// Round trip as measured by the handshake.
        rtt: Duration,
        /// The protocol agreed on.
        alpn: Bytes,
        /// Where the peer is.
        remote: SocketAddr,
    },
    /// A peer is no longer connected; if it is registered it is being dialled.
    Down {
        /// Who.
        peer: Identity,
        /// The connection that ended.
        conn: ConnId,
        /// Why.
        reason: DownReason,
    },
    /// A datagram came.
    Datagram {
        /// From whom.
        peer: Identity,
        /// What.
        bytes: Bytes,
    },
    /// A frame came.
    Frame {
        /// From whom.
        peer: Identity,
        /// What.
        bytes: Bytes,
    },
    /// A connection was refused, by us or to us. Reported if there is room in the queue.
    Refused {
        /// From or to where.
        remote: Option<SocketAddr>,
        /// Whom we dialled, or who showed a certificate.
        peer: Option<Identity>,
        /// Why.
        reason: Refusal,
        /// Who refused.
        by: RefusedBy,
    },
}

/// A peer to dial.
#[derive(Debug, Clone)]
pub struct PeerSpec {
    /// Who must answer.
    pub identity: Identity,
    /// Where: `host:port`, the best first.
    pub addresses: Vec<String>,
}

/// A connected peer.
#[derive(Debug, Clone)]
pub struct PeerStatus {
    /// Who.
    pub identity: Identity,
    /// Over which connection.
    pub conn: ConnId,
    /// The smoothed round trip.
    pub rtt: Duration,
    /// The protocol agreed on.
    pub alpn: Bytes,
    /// Where.
    pub remote: SocketAddr,
    /// The certificate that it has shown on this connection.
    pub certificate: CertInfo,
}

/// A running link. Clones are handles of the same; when the last is dropped, everything is closed.
#[derive(Clone)]
pub struct Link {
    inner: Arc<Inner>,
    _owner: Arc<Owner>,
}

struct Owner(Arc<Inner>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.stop("the process ends");
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("addr", &self.local_addr()).finish_non_exhaustive()
    }
}

// --- the link and its tenants ---------------------------------------------------------------

impl Link {
    /// Opens the socket and begins to accept. Must be called within a tokio runtime.
    pub fn bind(
        addr: SocketAddr,
        settings: Settings,
    ) -> Result<(Self, mpsc::Receiver<LinkEvent>), LinkError> {
        settings.check()?;
        let tenants = Arc::new(TenantTable::default());
        let tls = tls::server_config(&tenants, &settings.alpns)?;
        let endpoint = transport::endpoint(addr, transport::server(tls, &settings)?)?;
        let mut run = [0; 8];
        rand::fill(&mut run).map_err(|e| LinkError::Tls(e.to_string()))?;
        let (events, queue) = mpsc::channel(settings.event_queue);
        let inner = Arc::new(Inner::new(endpoint, settings, tenants, events, run));
        let accepting = tokio::spawn(accept::accept_loop(inner.clone()));
        let watching = tokio::spawn(dial::watch_loop(inner.clone()));
        lock(&inner.tasks).extend([accepting.abort_handle(), watching.abort_handle()]);
        let owner = Arc::new(Owner(inner.clone()));
        Ok((Self { inner, _owner: owner }, queue))
    }

    /// The address that was bound.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.inner.endpoint.local_addr().ok()
    }

    /// Serves a tenant as the member whose folder this is.
    pub fn add_tenant(&self, dir: &Path, quota: TenantQuota) -> Result<CertInfo, LinkError> {
        let tls = TenantTls::load(dir, quota)?;
        let info = tls.info.clone();
        let tenants = &self.inner.tenants;
        if tenants.get(&info.identity.tenant).is_some() {
            return Err(LinkError::TenantExists(info.identity.tenant));
        }
        if tenants.all().len() >= MAX_TENANTS {
            return Err(LinkError::TooManyTenants { limit: MAX_TENANTS });
        }
        tenants.insert(Arc::new(tls));
        Ok(info)
    }

    /// Ends a tenant: its connections close and its certificate is no longer shown.
    pub fn remove_tenant(&self, tenant: &Tenant) -> Result<(), LinkError> {
        let unknown = || LinkError::UnknownTenant(tenant.clone());
        self.inner.tenants.remove(tenant).ok_or_else(unknown)?;
        lock(&self.inner.joins).remove(tenant);
        self.inner.drop_tenant(tenant);
        Ok(())
    }

    /// Reads a tenant's folder again. New connections use what it holds now; existing ones go on,
    /// except with peers that the revocation list names now.
    pub fn reload_tenant(&self, tenant: &Tenant) -> Result<CertInfo, LinkError> {
        let unknown = || LinkError::UnknownTenant(tenant.clone());
        let old = self.inner.tenants.get(tenant).ok_or_else(unknown)?;
        let new = old.reload()?;
        if new.info.identity != old.info.identity {
            let (running, found) = (old.info.identity.clone(), new.info.identity);
            return Err(LinkError::IdentityChanged {
                running: Box::new(running),
                found: Box::new(found),
            });
        }
        let new = Arc::new(new);
        self.inner.tenants.insert(new.clone());
        self.inner.drop_revoked(&new);
        Ok(new.info.clone())
    }

    /// Renews a tenant's certificate at one of these addresses and takes it up.
    pub async fn renew_tenant(
        &self,
        tenant: &Tenant,
        addresses: &[String],
    ) -> Result<CertInfo, JoinError> {
        let unknown = || LinkError::UnknownTenant(tenant.clone());
        let dir = self.inner.tenants.get(tenant).ok_or_else(unknown)?.dir.clone();
        renew(&dir, addresses).await?;
        Ok(self.reload_tenant(tenant)?)
    }

    /// What our own certificates say, for status and warnings.
    pub fn tenants(&self) -> Vec<CertInfo> {
        self.inner.tenants.all().iter().map(|tls| tls.info.clone()).collect()
    }

    /// Serves joins and renewals for the authority's tenant, which must be on this link.
    pub fn serve_joins(&self, ca: Ca) -> Result<(), LinkError> {
        let tenant = ca.tenant().clone();
        let unknown = || LinkError::UnknownTenant(tenant.clone());
        self.inner.tenants.get(&tenant).ok_or_else(unknown)?;
        lock(&self.inner.joins).insert(tenant, Arc::new(ca));
        Ok(())
    }

    /// No longer serves joins for the tenant.
    pub fn stop_joins(&self, tenant: &Tenant) {
        lock(&self.inner.joins).remove(tenant);
    }
}

// --- peers ----------------------------------------------------------------------------------

impl Link {
    /// Dials a peer from now on, and again whenever it is lost. Registering again replaces the
    /// addresses; a connection that is up stays.
    pub fn add_peer(&self, spec: PeerSpec) -> Result<(), LinkError> {
        let bad = |why| LinkError::Peer { peer: spec.identity.clone(), why };
        let tenant = &spec.identity.tenant;
        let tls = self.inner.tenants.get(tenant);
        let tls = tls.ok_or_else(|| LinkError::UnknownTenant(tenant.clone()))?;
        if tls.info.identity.name == spec.identity.name {
            return Err(bad("it has our own name"));
        }
        check_addresses(&spec.addresses)
            .map_err(|_| bad("it needs 1 to 8 addresses of the form HOST:PORT"))?;
        let identity = spec.identity.clone();
        dial::start(&self.inner, spec, tls.quota.max_connections).map_err(|()| LinkError::Peer {
            peer: identity,
            why: "the tenant's connections are all in use, or the link is closing",
        })
    }

    /// Dials a peer no longer and closes the connection with it.
    pub fn remove_peer(&self, tenant: &Tenant, name: &Name) {
        self.inner.drop_peer(tenant, name);
    }

    /// The peers that are connected now.
    pub fn peers(&self) -> Vec<PeerStatus> {
        let status = |conn: &Arc<conn::Conn>| PeerStatus {
            identity: conn.peer.identity.clone(),
            conn: conn.id,
            rtt: conn.quic.rtt(),
            alpn: conn.alpn.clone(),
            remote: conn.quic.remote_address(),
            certificate: conn.peer.clone(),
        };
        self.inner.connections().iter().map(status).collect()
    }

    /// The smoothed round trip to a peer.
    pub fn rtt(&self, tenant: &Tenant, name: &Name) -> Option<Duration> {
        Some(self.inner.current(tenant, name)?.quic.rtt())
    }

    /// Sends a datagram now or not at all. The oldest waiting ones give way to it.
    pub fn send_datagram(
        &self,
        tenant: &Tenant,
        name: &Name,
        bytes: Bytes,
    ) -> Result<(), SendError> {
        let conn = self.inner.current(tenant, name).ok_or(SendError::NotConnected)?;
        let len = bytes.len();
        match conn.quic.send_datagram(bytes) {
            Ok(()) => {
                let counters = &self.inner.counters;
                Counters::bump(&counters.datagrams_out);
                Counters::add(&counters.datagram_bytes_out, len);
                Ok(())
            }
            Err(quinn::SendDatagramError::TooLarge) => {
                let limit = conn.quic.max_datagram_size().unwrap_or(0);
                Err(SendError::TooLarge { len, limit })
            }
            Err(_) => Err(SendError::NotConnected),
        }
    }

    /// Queues a frame for a peer.
    pub fn send_frame(&self, tenant: &Tenant, name: &Name, bytes: Bytes) -> Result<(), SendError> {
        let len = bytes.len();
        if len > MAX_FRAME_BYTES {
            return Err(SendError::TooLarge { len, limit: MAX_FRAME_BYTES });
        }
        let conn = self.inner.current(tenant, name).ok_or(SendError::NotConnected)?;
        let cost = len + FRAME_HEADER_BYTES;
        let before = conn.queued_bytes.fetch_add(cost, Ordering::Relaxed);
        let sent = if before + cost > self.inner.settings.frame_queue_bytes {
            Err(SendError::Full)
        } else {
            conn.frames.try_send(bytes).map_err(|e| match e {
                mpsc::error::TrySendError::Full(_) => SendError::Full,
                mpsc::error::TrySendError::Closed(_) => SendError::NotConnected,
            })
        };
        if sent.is_err() {
            conn.queued_bytes.fetch_sub(cost, Ordering::Relaxed);
        }
        sent
    }

    /// What is counted for one tenant, if it is on this link.
    pub fn tenant_counters(&self, tenant: &Tenant) -> Option<TenantCountersSnapshot> {
        Some(self.inner.tenants.get(tenant)?.counters.snapshot())
    }

    /// The counters now.
    pub fn counters(&self) -> CountersSnapshot {
        self.inner.counters.snapshot()
    }

    /// Closes everything and waits, within the bound of the settings, until the peers know.
    pub async fn shutdown(&self, reason: &str) {
        self.inner.stop(reason);
        let _ = timeout(self.inner.settings.shutdown_wait, self.inner.endpoint.wait_idle()).await;
    }
}
