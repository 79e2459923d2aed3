//! QUIC between members: identities, join strings, datagrams and streams.
//!
//! The protocol core decides what members say to each other; this crate carries it, and makes sure
//! that whoever speaks is who it claims to be. It knows nothing of tickets: it moves opaque bytes
//! between members of one tenant, for many tenants on one socket.
//!
//! Why so: a promise is worth what the identity behind it is worth. A stranger who could renew, or
//! a member of one tenant who could vote in another, would break exclusivity without any clock or
//! disk failing. And a promise that comes late is no promise: a connection that has died must be
//! replaced within a renewal period or two, whatever the transport's own retransmission thinks.
//!
//! Reading order: [`identity`] (who), [`pki`] (certificates), [`join`] (becoming a member), `tls`
//! (handshakes), [`link`] (connections), [`limits`] (every bound).
//!
//! Invariants:
//! - *one tenant*: the two ends of a connection have certificates of one and the same authority;
//! - *one connection* per pair of members carries traffic; which one is decided alike at both ends;
//! - *bounded*: every queue, buffer, retry and wait is bounded in [`limits`]; what is dropped is
//!   counted;
//! - *datagrams never wait, frames keep order*: a renewal that cannot go out now is worthless, a
//!   ledger entry is not.

mod bucket;
mod counters;
mod error;
mod files;
pub mod frame;
pub mod identity;
pub mod join;
pub mod limits;
pub mod link;
pub mod pki;
mod sync;
mod tls;

pub use counters::{CountersSnapshot, TenantCountersSnapshot};
pub use error::{DownReason, LinkError, Refusal, RefusedBy, SendError};
pub use identity::{Identity, IdentityError, Name, Role, Tenant};
pub use join::{JoinError, JoinRefusal, JoinString};
pub use limits::{Settings, TenantQuota};
pub use link::{ConnId, Link, LinkEvent, PeerSpec, PeerStatus};
pub use pki::{Ca, CertInfo, PkiError};
