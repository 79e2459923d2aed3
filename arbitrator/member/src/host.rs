//! One process: socket, journal thread, and the members in it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tierce_link::{
    Identity, Link, LinkError, LinkEvent, Name, PeerStatus, Role as LinkRole, Settings, Tenant,
    TenantQuota,
};
use tierce_store::{
    Completion, Owner, Recovered, Store, StoreError, StoreId, StoreKey, Writer, check_room,
};
use tierce_ticket::configuration::Role;
use tierce_ticket::durable::{Age, Durable, Inconsistent, Record};
use tierce_ticket::ids::{ClusterId, Incarnation, MemberName, StoreId as CoreStoreId};
use tierce_ticket::member::{FoundingPlan, Member, MemberSettings};
use tokio::sync::mpsc;

use crate::clocks;
use crate::mark::Mark;
use crate::task::{self, MemberEvent, MemberHandle, Task, TaskInput};

/// Submissions that may wait for the journal thread, all members together. The queue's memory is
/// taken at once, 56 bytes for each.
const JOURNAL_QUEUE: usize = 16_384;
/// The same when there is one member: its outstanding writes, and its pulses.
const JOURNAL_QUEUE_OF_ONE: usize = task::MAX_OUTSTANDING_WRITES + 64;
/// Inputs that may wait for one member.
const INPUT_QUEUE: usize = 2_048;
/// Completions that may wait for one member: its outstanding writes are fewer (see `task`).
const COMPLETION_QUEUE: usize = 2 * task::MAX_OUTSTANDING_WRITES;
/// Kind of the journal records of this crate: postcard of `tierce_ticket::durable::Record`.
pub(crate) const RECORD_KIND: u8 = 1;

/// What follows from an older copy, and what to do.
pub const OLDER_STORE: (&str, &str) = (
    "votes and promises would be forgotten, so this store is no voter any more (R5)",
    "move it away, start with an empty one and have the member re-admitted: tierce sites admit NAME",
);

/// What a process is told.
#[derive(Clone, Debug)]
pub struct HostOptions {
    /// Where QUIC listens.
    pub listen: SocketAddr,
    /// Settings of the link.
    pub link: Settings,
    /// A directory that a reboot empties and a backup does not hold, for marks of how far stores
    /// have come (R5). Without one a member that starts again waits for the word of all others.
    pub marks: Option<PathBuf>,
}

/// Where a member is reached, before the ledger says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddress {
    /// Its name.
    pub name: MemberName,
    /// Its role.
    pub role: Role,
    /// `host:port`, best first.
    pub addresses: Vec<String>,
}

/// What a member is told.
#[derive(Clone, Debug)]
pub struct MemberOptions {
    /// Tenant.
    pub tenant: String,
    /// Own name.
    pub name: MemberName,
    /// Own role.
    pub role: Role,
    /// Directory of its store; made when missing.
    pub store_dir: PathBuf,
    /// Directory of its certificate.
    pub pki_dir: PathBuf,
    /// Digest of the equal part of the sites' files; zero at arbitrators.
    pub digest: [u8; 16],
    /// How the cluster begins; arbitrators have none.
    pub plan: Option<FoundingPlan>,
    /// Whom to dial until the ledger says better; arbitrators dial nobody.
    pub peers: Vec<PeerAddress>,
    /// What the tenant may use of the socket.
    pub quota: TenantQuota,
}

/// Why a process or a member did not start.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The link.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store is sound, its records do not make a member.
    #[error(transparent)]
    Inconsistent(#[from] Inconsistent),
    /// Names.
    #[error("{0}")]
    Name(String),
    /// The certificate is another member's.
    #[error(
        "the certificate in {dir} is {found}; this member is {expected}; give it its own certificate (tierce pki join)"
    )]
    Certificate {
        /// Directory.
        dir: PathBuf,
        /// What it says.
        found: String,
        /// What is needed.
        expected: String,
    },
    /// The store is an older copy: this machine has written more to it since it was booted.
    #[error(
        "the store in {dir} is an older copy: it ends with record {has}, and this machine has written record {written} to it since it was booted"
    )]
    OlderStore {
        /// Directory.
        dir: PathBuf,
        /// Its last record.
        has: u64,
        /// The last record that was written.
        written: u64,
    },
    /// The member is there already.
    #[error("tenant {0} has a member in this process already; remove it first")]
    Twice(String),
    /// The system.
    #[error("{what}: {source}; nothing was started")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
}

type Routes<K, V> = Arc<Mutex<HashMap<K, mpsc::Sender<V>>>>;

fn held<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One process; see the module. Clones are handles of the same.
#[derive(Clone)]
pub struct Host {
    link: Link,
    writer: Arc<Writer>,
    inputs: Routes<String, TaskInput>,
    completions: Routes<StoreKey, Completion>,
    marks: Option<PathBuf>,
}

impl Host {
    /// Opens the socket and starts the journal thread. Must be called within a tokio runtime.
    pub fn start(options: HostOptions) -> Result<Self, HostError> {
        Self::start_with(options, JOURNAL_QUEUE)
    }

    /// The same for a process that will have one member.
    pub fn start_for_one(options: HostOptions) -> Result<Self, HostError> {
        Self::start_with(options, JOURNAL_QUEUE_OF_ONE)
    }

    fn start_with(options: HostOptions, journal_queue: usize) -> Result<Self, HostError> {
        let (link, events) = Link::bind(options.listen, options.link)?;
        let completions: Routes<StoreKey, Completion> = Arc::default();
        let routes = completions.clone();
        let writer = Writer::spawn(journal_queue, move |c: Completion| {
            if let Some(to) = held(&routes).get(&c.store)
                && to.try_send(c).is_err()
            {
                tracing::error!("a journal completion found no room; its member stops");
            }
        })
        .map_err(|source| HostError::Io {
            what: "starting the journal thread".to_owned(),
            source,
        })?;
        let inputs: Routes<String, TaskInput> = Arc::default();
        tokio::spawn(route(events, inputs.clone()));
        Ok(Self { link, writer: Arc::new(writer), inputs, completions, marks: options.marks })
    }

    /// The address that was bound.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.link.local_addr()
    }

    /// The link, for certificates, joins, counters and round trips.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// Peers that are connected, of one tenant.
    pub fn peers(&self, tenant: &str) -> Vec<PeerStatus> {
        let mut all = self.link.peers();
        all.retain(|p| p.identity.tenant.as_str() == tenant);
        all
    }

    /// Starts a member: opens (or makes) its store, shows its certificate, begins to dial. Refused
    /// where there is no room for its next decisions ([`StoreError::NoRoom`]).
    pub fn add_member(
        &self,
        options: MemberOptions,
    ) -> Result<(MemberHandle, mpsc::Receiver<MemberEvent>), HostError> {
        let link_role = match options.role {
            Role::Site => LinkRole::Site,
            Role::Arbitrator => LinkRole::Arbitrator,
        };
        let identity = Identity::new(&options.tenant, link_role, options.name.as_str())
            .map_err(|e| HostError::Name(e.to_string()))?;
        if held(&self.inputs).contains_key(&options.tenant) {
            return Err(HostError::Twice(options.tenant));
        }
        let (store, recovered) = open_store(&options)?;
        let mark = self.marks.as_ref().and_then(|dir| Mark::open(dir, recovered.store_id));
        let seen = mark.as_ref().and_then(|m| m.seen);
        let (has, written) = (recovered.last_seq.0, seen.unwrap_or(0));
        if written > has {
            return Err(HostError::OlderStore { dir: options.store_dir, has, written });
        }
        let member = make_member(&options, &recovered, seen.is_some())?;
        let shown = self.link.add_tenant(&options.pki_dir, options.quota)?;
        if shown.identity != identity {
            let _ = self.link.remove_tenant(&identity.tenant);
            return Err(HostError::Certificate {
                dir: options.pki_dir,
                found: shown.identity.uri(),
                expected: identity.uri(),
            });
        }
        let (input, inputs) = mpsc::channel(INPUT_QUEUE);
        let (completed, completions) = mpsc::channel(COMPLETION_QUEUE);
        // The lock is held across registering, so that no completion finds no route.
        let mut routes = held(&self.completions);
        let key = self.writer.register(store);
        routes.insert(key, completed);
        drop(routes);
        held(&self.inputs).insert(options.tenant.clone(), input.clone());
        let (task, events, stats) = Task::new(
            member,
            identity,
            self.link.clone(),
            (self.writer.clone(), key, mark),
            &options.peers,
        );
        let (inputs_route, completions_route) = (self.inputs.clone(), self.completions.clone());
        let (tenant, link) = (options.tenant.clone(), self.link.clone());
        tokio::spawn(async move {
            let identity = task.identity().clone();
            task.run(inputs, completions).await;
            held(&inputs_route).remove(&tenant);
            held(&completions_route).remove(&key);
            let _ = link.remove_tenant(&identity.tenant);
        });
        Ok((MemberHandle::new(input, stats), events))
    }

    /// Closes connections and waits, within a bound, until peers know.
    pub async fn shutdown(&self, reason: &str) {
        self.link.shutdown(reason).await;
    }
}

/// Hands what the link brings to the member concerned. What finds no room is dropped: every
/// message of the protocol may be lost.
async fn route(mut events: mpsc::Receiver<LinkEvent>, inputs: Routes<String, TaskInput>) {
    while let Some(event) = events.recv().await {
        let tenant = match &event {
            LinkEvent::Up { peer, .. }
            | LinkEvent::Down { peer, .. }
            | LinkEvent::Datagram { peer, .. }
            | LinkEvent::Frame { peer, .. } => peer.tenant.as_str().to_owned(),
            LinkEvent::Refused { remote, peer, reason, by } => {
                tracing::warn!(
                    ?remote, peer = ?peer.as_ref().map(Identity::uri), ?by,
                    "connection refused: {}; {}", reason.as_str(), reason.hint()
                );
                continue;
            }
        };
        let to = held(&inputs).get(&tenant).cloned();
        let Some(to) = to else { continue };
        let changes_peers = matches!(event, LinkEvent::Up { .. } | LinkEvent::Down { .. });
        let input = TaskInput::Link(event);
        if changes_peers {
            // These must not be lost; the member takes them within one step.
            let _ = to.send(input).await;
        } else if to.try_send(input).is_err() {
            tracing::debug!(tenant, "a message found no room");
        }
    }
}

fn open_store(options: &MemberOptions) -> Result<(Store, Recovered), HostError> {
    let owner = Owner { tenant: options.tenant.clone(), member: options.name.to_string() };
    let dir = &options.store_dir;
    check_room(dir)?;
    if is_empty(dir)? {
        drop(Store::create(dir, &owner)?);
    }
    Ok(Store::open(dir, &owner)?)
}

fn is_empty(dir: &Path) -> Result<bool, HostError> {
    match std::fs::read_dir(dir) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            std::fs::create_dir_all(dir).map_err(|source| HostError::Io {
                what: format!("making {}", dir.display()),
                source,
            })?;
            Ok(true)
        }
        Err(source) => Err(HostError::Io { what: format!("reading {}", dir.display()), source }),
    }
}

fn random() -> Result<[u8; 16], HostError> {
    StoreId::random()
        .map(|id| id.0)
        .map_err(|source| HostError::Io { what: "drawing a random number".to_owned(), source })
}

fn make_member(
    options: &MemberOptions,
    recovered: &Recovered,
    continued: bool,
) -> Result<Member, HostError> {
    let mut durable = Durable::default();
    for r in &recovered.records {
        let unreadable = || Inconsistent(format!("a record of kind {} is unreadable", r.kind));
        if r.kind != RECORD_KIND {
            return Err(unreadable().into());
        }
        let record: Record = postcard::from_bytes(&r.payload).map_err(|_| unreadable())?;
        durable.replay(record)?;
    }
    let boot = random()?;
    let mut seed = [0; 8];
    seed.copy_from_slice(&boot[..8]);
    let settings = MemberSettings {
        name: options.name.clone(),
        role: options.role,
        store: CoreStoreId(recovered.store_id.0),
        age: Age { opened: recovered.incarnation, written: recovered.last_seq.0 },
        continued,
        boot: Incarnation(boot),
        seed: u64::from_le_bytes(seed),
        digest: options.digest,
        plan: options.plan.clone(),
        new_cluster: ClusterId(random()?),
    };
    Ok(Member::new(settings, durable, clocks::now())?)
}

/// Identity of a peer on the link.
pub(crate) fn peer_identity(tenant: &Tenant, role: Role, name: &MemberName) -> Option<Identity> {
    let role = match role {
        Role::Site => LinkRole::Site,
        Role::Arbitrator => LinkRole::Arbitrator,
    };
    Some(Identity { tenant: tenant.clone(), role, name: Name::new(name.as_str()).ok()? })
}
