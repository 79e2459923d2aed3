//! How a member comes to a tenant, and how it keeps its certificate fresh.
//!
//! An operator invites a member by name and hands over one string. The string says where to go
//! (addresses), whom to trust (the authority's fingerprint), until when, and carries a secret that
//! works once. The new member makes its own key; the key never travels. Who serves joins is any
//! member that has the authority's folder at hand: it must show a certificate of that very
//! authority before the secret is sent to it.
//!
//! Renewal goes the same way without a string: the member shows the certificate that it has. So a
//! certificate rolls while the daemon runs: [`renew`], then reload the tenant.
//!
//! Reading order: `string`, `message` (what travels), `client`, `server`.

mod client;
mod message;
pub(crate) mod server;
mod string;

pub use client::{JoinError, fetch_crl, join, renew};
pub use message::{JoinRefusal, JoinRequest, JoinResponse};
pub(crate) use string::check_addresses;
pub use string::{JoinString, JoinStringError, Secret};

/// The application protocol of joins and renewals.
pub const JOIN_ALPN: &[u8] = b"tierce-join/1";
