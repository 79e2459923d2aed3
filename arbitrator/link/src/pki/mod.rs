//! One certificate authority per tenant: who belongs to it, until when, and who no longer does.
//!
//! A tenant's authority is a folder on a machine of its operator. It signs members' certificates,
//! keeps a ledger of what it signed and whom it invited, and publishes a list of what it revoked.
//! An arbitrator that serves a thousand tenants holds a thousand member certificates and not one
//! authority: it cannot make members, and one tenant's authority counts for nothing in another.
//!
//! Reading order: [`cert`](self) (what a certificate says), `crl` (what is revoked), `ledger` (what
//! the authority remembers), `ca` (issue, invite, redeem, revoke), `member` (a member's own folder).
//!
//! Invariants:
//! - *one use*: an invitation is marked used, durably, before the certificate that it buys exists;
//! - *whole or absent*: no crash leaves half a key, or a certificate without its key;
//! - *narrow*: what a signing request asks for is ignored but for its key; the identity comes from
//!   the invitation, or from the certificate that is renewed.

mod ca;
mod cert;
mod crl;
mod ledger;
mod member;

use std::io;
use std::path::PathBuf;

use thiserror::Error;

pub use ca::{Ca, Granted, InviteInfo, InviteState, Issued, IssuedInfo, Listing, Revoke};
pub(crate) use cert::identity_of;
pub use cert::{CertInfo, Fingerprint, Serial};
pub(crate) use crl::{Crl, certificate_pem};
pub use member::MemberDir;
pub(crate) use member::{write_crl, write_member};

use crate::identity::{Identity, IdentityError, Tenant};

/// Name of the authority's certificate in both kinds of folder.
pub const CA_FILE: &str = "ca.pem";
/// Name of a member's certificate.
pub const CERT_FILE: &str = "cert.pem";
/// Name of a member's key.
pub const KEY_FILE: &str = "key.pem";
/// Name of the revocation list in both kinds of folder.
pub const CRL_FILE: &str = "crl.pem";

/// What can go wrong with certificates and their folders.
#[derive(Debug, Error)]
pub enum PkiError {
    /// A file could not be read or written.
    #[error("{}: {source}; nothing was changed; check the path, its owner and the disk", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{}: {what}; it is not used; restore it from a copy or issue it again", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The folder holds an authority already.
    #[error(
        "{} holds a certificate authority already; it was not touched; \
         choose another folder for the new tenant", .0.display()
    )]
    CaExists(PathBuf),
    /// A name is not a name.
    #[error(transparent)]
    Identity(IdentityError),
    /// The member is not of this authority's tenant.
    #[error(
        "{found} does not belong to tenant {tenant}; nothing was signed; use its own authority"
    )]
    OtherTenant {
        /// The authority's tenant.
        tenant: Tenant,
        /// The member.
        found: Identity,
    },
    /// The name is taken by a member with the other role.
    #[error(
        "the name `{}` belongs to {taken} already; nothing was signed; \
         names are unique within a tenant: choose another", taken.name
    )]
    NameTaken {
        /// Who has the name.
        taken: Identity,
    },
    /// Nothing matches what is to be revoked.
    #[error("no certificate of this authority matches `{0}`; nothing was revoked; see pki list")]
    NothingToRevoke(String),
    /// An invitation that cannot be written.
    #[error("invitation refused: {0}; none was made")]
    BadInvite(String),
    /// The certificate library refused.
    #[error("{what}: {why}; nothing was changed; report this as a defect")]
    Crypto {
        /// What was being done.
        what: &'static str,
        /// What the library said.
        why: String,
    },
}

impl PkiError {
    pub(crate) fn crypto<E: std::fmt::Display>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |e| Self::Crypto { what, why: e.to_string() }
    }
}
