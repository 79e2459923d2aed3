//! Parts of the real-QUIC tests: authorities, members, a wire that can be cut.

#![allow(clippy::unwrap_used, dead_code, unreachable_pub)] // each test binary uses its own share

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use quinn::crypto::rustls::QuicClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;
use tierce_link::{
    Ca, Identity, Link, LinkEvent, Name, PeerSpec, Refusal, RefusedBy, Role, Settings, Tenant,
    TenantQuota,
};
use tokio::net::UdpSocket;
use tokio::sync::mpsc::Receiver;
use tokio::time::{sleep, timeout};

/// Generous: what takes milliseconds on an idle machine.
pub const SOON: Duration = Duration::from_secs(10);

pub fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// An authority with its members' folders beside it.
pub struct World {
    pub dir: TempDir,
    pub ca: Ca,
    pub tenant: Tenant,
}

impl World {
    pub fn new(tenant: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tenant = Tenant::new(tenant).unwrap();
        let ca = Ca::init(&dir.path().join("ca"), &tenant).unwrap();
        Self { dir, ca, tenant }
    }

    pub fn ca_dir(&self) -> PathBuf {
        self.dir.path().join("ca")
    }

    pub fn path(&self, member: &str) -> PathBuf {
        self.dir.path().join(member)
    }

    pub fn id(&self, role: Role, member: &str) -> Identity {
        Identity { tenant: self.tenant.clone(), role, name: name(member) }
    }

    /// A member's folder, issued by the authority.
    pub fn member(&self, role: Role, member: &str) -> PathBuf {
        let path = self.path(member);
        self.ca.issue_to(role, &name(member), &path).unwrap();
        path
    }

    pub fn site(&self, member: &str) -> Node {
        Node::start(&self.member(Role::Site, member), fast())
    }

    pub fn arbitrator(&self, member: &str) -> Node {
        Node::start(&self.member(Role::Arbitrator, member), fast())
    }
}

/// P = 200 ms, and losses tolerated as a loaded test machine needs it.
pub fn fast() -> Settings {
    Settings::for_period(Duration::from_millis(200), 6)
}

/// A link with one tenant to begin with.
pub struct Node {
    pub link: Link,
    pub events: Receiver<LinkEvent>,
    pub id: Identity,
}

impl Node {
    pub fn start(dir: &Path, settings: Settings) -> Self {
        Self::start_at(dir, settings, loopback())
    }

    pub fn start_at(dir: &Path, settings: Settings, addr: SocketAddr) -> Self {
        let (link, events) = Link::bind(addr, settings).unwrap();
        let info = link.add_tenant(dir, TenantQuota::default()).unwrap();
        Self { link, events, id: info.identity }
    }

    pub fn addr(&self) -> SocketAddr {
        self.link.local_addr().unwrap()
    }

    pub fn dial(&self, peer: &Identity, addresses: &[SocketAddr]) {
        let addresses = addresses.iter().map(ToString::to_string).collect();
        self.link.add_peer(PeerSpec { identity: peer.clone(), addresses }).unwrap();
    }

    /// Reads events until one fits; the others are gone.
    pub async fn until<T>(
        &mut self,
        what: &str,
        mut pick: impl FnMut(LinkEvent) -> Option<T>,
    ) -> T {
        let wait = async {
            loop {
                let event = self.events.recv().await.expect("the link is running");
                if let Some(found) = pick(event) {
                    return found;
                }
            }
        };
        timeout(SOON, wait).await.unwrap_or_else(|_| panic!("{}: no {what} in time", self.id))
    }

    pub async fn until_up(&mut self, peer: &Identity) {
        self.until("Up", |e| match e {
            LinkEvent::Up { peer: p, .. } if p == *peer => Some(()),
            _ => None,
        })
        .await;
    }

    pub async fn until_refused(&mut self, reason: Refusal, by: RefusedBy) {
        self.until(&format!("refusal {reason:?} by {by:?}"), |e| match e {
            LinkEvent::Refused { reason: r, by: b, .. } if r == reason && b == by => Some(()),
            LinkEvent::Up { peer, .. } => panic!("{peer} came up"),
            _ => None,
        })
        .await;
    }

    /// All events that are there now.
    pub fn drain(&mut self) -> Vec<LinkEvent> {
        std::iter::from_fn(|| self.events.try_recv().ok()).collect()
    }
}

/// A client that is not ours: any server name, any certificate or none.
pub async fn stranger(
    server: SocketAddr,
    sni: &str,
    trusts: &Path,
    shows: Option<&Path>,
    alpn: &[u8],
) -> (quinn::Endpoint, Result<quinn::Connection, quinn::ConnectionError>) {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(trusts.join("ca.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots);
    let mut tls = match shows {
        None => builder.with_no_client_auth(),
        Some(dir) => {
            let cert = CertificateDer::from_pem_file(dir.join("cert.pem")).unwrap();
            let key = PrivateKeyDer::from_pem_file(dir.join("key.pem")).unwrap();
            builder.with_client_auth_cert(vec![cert], key).unwrap()
        }
    };
    tls.alpn_protocols = vec![alpn.to_vec()];
    let endpoint = quinn::Endpoint::client(loopback()).unwrap();
    let crypto = Arc::new(QuicClientConfig::try_from(tls).unwrap());
    let config = quinn::ClientConfig::new(crypto);
    let conn = endpoint.connect_with(config, server, sni).unwrap().await;
    (endpoint, conn)
}

/// Waits until something holds.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < SOON, "not in time: {what}");
        sleep(Duration::from_millis(2)).await;
    }
    start.elapsed()
}

/// A node on a thread and runtime of its own, which can be killed like a process: nothing more is
/// sent, not even a close.
pub struct Victim {
    pub link: Link,
    pub id: Identity,
    kill: tokio::sync::oneshot::Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

impl Victim {
    pub fn start(dir: &Path, addr: SocketAddr) -> Self {
        let (tell, told) = std::sync::mpsc::channel();
        let (kill, killed) = tokio::sync::oneshot::channel();
        let dir = dir.to_path_buf();
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let node = runtime.block_on(async { Node::start_at(&dir, fast(), addr) });
            tell.send((node.link.clone(), node.id.clone())).unwrap();
            let _ = runtime.block_on(killed);
            // The tasks first, so that nothing is left to send what the link says on its way out.
            drop(runtime);
            drop(node);
        });
        let (link, id) = told.recv().unwrap();
        Self { link, id, kill, thread }
    }

    pub fn addr(&self) -> SocketAddr {
        self.link.local_addr().unwrap()
    }

    pub fn dial(&self, peer: &Identity, address: SocketAddr) {
        let addresses = vec![address.to_string()];
        self.link.add_peer(PeerSpec { identity: peer.clone(), addresses }).unwrap();
    }

    /// Returns when the port is free again.
    pub fn kill(self) {
        drop(self.link);
        self.kill.send(()).unwrap();
        self.thread.join().unwrap();
    }
}

/// A wire between a dialler and a listener, which can be cut without either being told.
pub struct Wire {
    pub addr: SocketAddr,
    cut: Arc<AtomicBool>,
}

impl Wire {
    pub async fn to(target: SocketAddr) -> Self {
        let front = Arc::new(UdpSocket::bind(loopback()).await.unwrap());
        let addr = front.local_addr().unwrap();
        let cut = Arc::new(AtomicBool::new(false));
        let cut_here = cut.clone();
        tokio::spawn(async move {
            let back = Arc::new(UdpSocket::bind(loopback()).await.unwrap());
            let mut client: Option<SocketAddr> = None;
            let (mut a, mut b) = ([0u8; 2048], [0u8; 2048]);
            loop {
                tokio::select! {
                    Ok((n, from)) = front.recv_from(&mut a) => {
                        client = Some(from);
                        if !cut_here.load(Ordering::Relaxed) {
                            let _ = back.send_to(&a[..n], target).await;
                        }
                    }
                    Ok((n, _)) = back.recv_from(&mut b) => {
                        if let (Some(to), false) = (client, cut_here.load(Ordering::Relaxed)) {
                            let _ = front.send_to(&b[..n], to).await;
                        }
                    }
                }
            }
        });
        Self { addr, cut }
    }

    pub fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
    }

    pub fn heal(&self) {
        self.cut.store(false, Ordering::Relaxed);
    }
}
