//! What can go wrong on a link, in words: what happened, what it means, what to do next.
//!
//! Refusals are data, not prose: the same [`Refusal`] is counted, put into events and carried to
//! the peer as a TLS alert or a close code, so that both sides' operators read the same word.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use quinn::{ConnectionError, VarInt};
use thiserror::Error;

use crate::identity::{Identity, IdentityError, Tenant};
use crate::pki::PkiError;

/// Why the link could not do what the daemon asked.
#[derive(Debug, Error)]
pub enum LinkError {
    /// The settings contradict each other.
    #[error("link settings refused: {0}; nothing was started; correct them and start again")]
    Settings(String),
    /// The socket could not be had.
    #[error(
        "cannot listen on {addr}: {source}; no member can reach this process; \
         check that the address is local and the port is free"
    )]
    Bind {
        /// The address asked for.
        addr: std::net::SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The credentials of a tenant are unusable.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The tenant is already served.
    #[error("tenant {0} is already on this link; nothing changed; reload it instead")]
    TenantExists(Tenant),
    /// The tenant is not served.
    #[error("tenant {0} is not on this link; nothing changed; add its credentials first")]
    UnknownTenant(Tenant),
    /// A reload would change who we are.
    #[error(
        "the folder now holds a certificate of {found}, but this link runs as {running}; \
         the old certificate stays in use; restart to change identity"
    )]
    IdentityChanged {
        /// Who the link runs as.
        running: Box<Identity>,
        /// What the folder holds.
        found: Box<Identity>,
    },
    /// The bound on tenants is reached.
    #[error("{limit} tenants are on this link, which is its bound; the tenant was not added")]
    TooManyTenants {
        /// The bound.
        limit: usize,
    },
    /// The peer cannot be registered.
    #[error("peer {peer} refused: {why}; it is not dialled; correct its entry")]
    Peer {
        /// Who was to be dialled.
        peer: Identity,
        /// What is wrong with the entry.
        why: &'static str,
    },
    /// TLS could not be set up.
    #[error("TLS could not be set up: {0}; nothing was started; report this as a defect")]
    Tls(String),
}

/// Why bytes were not sent. Nothing was queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SendError {
    /// There is no connection to the peer now; the link is dialling if the peer is registered.
    #[error("not connected to the peer; wait for its Up event")]
    NotConnected,
    /// The bytes do not fit a datagram on this path, or a frame.
    #[error("{len} bytes are beyond the bound of {limit}; split the message")]
    TooLarge {
        /// What was asked for.
        len: usize,
        /// What is possible now.
        limit: usize,
    },
    /// The queue to this peer is full: it reads more slowly than we write.
    #[error("the queue to the peer is full; drop the message or try after the next event")]
    Full,
}

/// Why a connection, ours or a stranger's, was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Refusal {
    /// The server name asked for is not a tenant of this socket.
    UnknownTenant,
    /// The certificate does not come from the tenant's authority.
    WrongCa,
    /// The certificate has ended, or has not begun (check the wall clocks).
    Expired,
    /// The certificate is on the tenant's revocation list.
    Revoked,
    /// The certificate is malformed, unfit for members, or its key did not sign.
    BadCertificate,
    /// The certificate is good, but it is somebody else's.
    NameMismatch,
    /// The certificate's tenant is not the tenant that was asked for.
    TenantMismatch,
    /// A member protocol without a client certificate.
    NoCertificate,
    /// No application protocol in common: versions too far apart.
    NoCommonVersion,
    /// The socket's or the tenant's connections are all in use.
    TooManyConnections,
    /// More handshakes than are answered.
    TooManyHandshakes,
    /// The handshake did not finish in time.
    Timeout,
    /// The peer does not speak our protocol after the handshake.
    Garbage,
    /// The two members have a better connection already.
    Duplicate,
    /// Joins are not served here for this tenant.
    JoinNotServed,
    /// The socket is being closed.
    Shutdown,
    /// Anything else that ended a handshake.
    Other,
}

impl Refusal {
    /// All refusals, in the order of their counters.
    pub const ALL: [Self; 17] = [
        Self::UnknownTenant,
        Self::WrongCa,
        Self::Expired,
        Self::Revoked,
        Self::BadCertificate,
        Self::NameMismatch,
        Self::TenantMismatch,
        Self::NoCertificate,
        Self::NoCommonVersion,
        Self::TooManyConnections,
        Self::TooManyHandshakes,
        Self::Timeout,
        Self::Garbage,
        Self::Duplicate,
        Self::JoinNotServed,
        Self::Shutdown,
        Self::Other,
    ];

    /// The word for metrics and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownTenant => "unknown-tenant",
            Self::WrongCa => "wrong-ca",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::BadCertificate => "bad-certificate",
            Self::NameMismatch => "name-mismatch",
            Self::TenantMismatch => "tenant-mismatch",
            Self::NoCertificate => "no-certificate",
            Self::NoCommonVersion => "no-common-version",
            Self::TooManyConnections => "too-many-connections",
            Self::TooManyHandshakes => "too-many-handshakes",
            Self::Timeout => "timeout",
            Self::Garbage => "garbage",
            Self::Duplicate => "duplicate",
            Self::JoinNotServed => "join-not-served",
            Self::Shutdown => "shutdown",
            Self::Other => "other",
        }
    }

    /// The next step for whoever reads the refusal.
    pub fn hint(self) -> &'static str {
        match self {
            Self::UnknownTenant => "add the tenant on that member, or correct the address",
            Self::WrongCa => "join this member to the tenant's own authority (tierce pki join)",
            Self::Expired => "check the wall clocks, then rotate the certificate",
            Self::Revoked => "invite the member anew if it is to come back",
            Self::BadCertificate => "issue the certificate again (tierce pki rotate)",
            Self::NameMismatch => "correct the name or the address of the peer",
            Self::TenantMismatch => "check which tenant's folder this member uses",
            Self::NoCertificate => "join the member first (tierce pki join)",
            Self::NoCommonVersion => "upgrade the older member; neighbouring versions talk",
            Self::TooManyConnections => "raise the quota, or find who dials so often",
            Self::TooManyHandshakes => "find who dials so often; members retry by themselves",
            Self::Timeout => "check the path for loss of UDP packets",
            Self::Garbage => "check what sends to this port",
            Self::Duplicate => "nothing: the two members are connected",
            Self::JoinNotServed => "use an address of a member that serves the authority",
            Self::Shutdown => "nothing: members dial again by themselves",
            Self::Other => "see the reason that the transport gives in the trace",
        }
    }

    /// The code by which we close a connection for this reason; stable across versions.
    pub(crate) fn code(self) -> VarInt {
        VarInt::from_u32(0x5400 + self as u32)
    }

    fn from_code(code: VarInt) -> Option<Self> {
        let index = code.into_inner().checked_sub(0x5400)?;
        Self::ALL.get(usize::try_from(index).ok()?).copied()
    }

    /// What a TLS alert says about a certificate. The numbers are those of RFC 8446, section 6;
    /// which error gives which alert is rustls' choice and is held by our tests.
    fn from_alert(alert: u64) -> Self {
        match alert {
            48 => Self::WrongCa,
            45 => Self::Expired,
            44 => Self::Revoked,
            42 | 43 | 46 | 51 => Self::BadCertificate,
            49 => Self::UnknownTenant,
            112 => Self::NameMismatch,
            116 => Self::NoCertificate,
            120 => Self::NoCommonVersion,
            _ => Self::Other,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.as_str(), self.hint())
    }
}

/// Which side said no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusedBy {
    /// This process.
    Us,
    /// The other side.
    Peer,
}

/// Reads what ended a handshake.
pub(crate) fn refusal_of(error: &ConnectionError) -> (Refusal, RefusedBy) {
    let crypto =
        |code: u64| (0x100..0x200).contains(&code).then(|| Refusal::from_alert(code - 0x100));
    match error {
        ConnectionError::TransportError(e) => {
            (crypto(u64::from(e.code)).unwrap_or(Refusal::Other), RefusedBy::Us)
        }
        ConnectionError::ConnectionClosed(c) => {
            let code = u64::from(c.error_code);
            let refusal = match code {
                // CONNECTION_REFUSED: our own sockets say it when their connections are in use.
                0x2 => Some(Refusal::TooManyConnections),
                // APPLICATION_ERROR: it closed with a reason that a handshake cannot carry.
                0xc => Some(Refusal::Shutdown),
                _ => crypto(code),
            };
            (refusal.unwrap_or(Refusal::Other), RefusedBy::Peer)
        }
        // 0 is what quinn says when a connection is dropped: the dialler took another address.
        ConnectionError::ApplicationClosed(c) if c.error_code.into_inner() == 0 => {
            (Refusal::Duplicate, RefusedBy::Peer)
        }
        ConnectionError::ApplicationClosed(c) => {
            (Refusal::from_code(c.error_code).unwrap_or(Refusal::Other), RefusedBy::Peer)
        }
        ConnectionError::TimedOut => (Refusal::Timeout, RefusedBy::Us),
        _ => (Refusal::Other, RefusedBy::Us),
    }
}

/// Why a connection that was up has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DownReason {
    /// Nothing came from the peer although we sent; it is dialled anew at once.
    Silent,
    /// The idle time ran out.
    Idle,
    /// The peer closed it, for this reason if it is one of ours.
    ClosedByPeer(Option<Refusal>),
    /// The peer has restarted and does not know the connection.
    Reset,
    /// The peer broke the protocol.
    Garbage,
    /// The peer's certificate was revoked.
    Revoked,
    /// The tenant or the peer was removed here.
    Removed,
    /// This process is shutting down.
    Shutdown,
    /// The transport gave up.
    Transport,
}

impl DownReason {
    pub(crate) fn of(error: &ConnectionError) -> Self {
        match error {
            ConnectionError::TimedOut => Self::Idle,
            ConnectionError::Reset => Self::Reset,
            ConnectionError::ApplicationClosed(c) => {
                Self::ClosedByPeer(Refusal::from_code(c.error_code))
            }
            ConnectionError::ConnectionClosed(_) => Self::ClosedByPeer(None),
            _ => Self::Transport,
        }
    }

    /// The word for traces and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Idle => "idle",
            Self::ClosedByPeer(_) => "closed-by-peer",
            Self::Reset => "reset",
            Self::Garbage => "garbage",
            Self::Revoked => "revoked",
            Self::Removed => "removed",
            Self::Shutdown => "shutdown",
            Self::Transport => "transport",
        }
    }
}

/// Puts the file into an error of the file system.
pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> PkiError {
    let path = PathBuf::from(path);
    move |source| PkiError::File { path, source }
}

impl From<IdentityError> for PkiError {
    fn from(error: IdentityError) -> Self {
        Self::Identity(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_survives_its_close_code_and_its_place_in_the_counters() {
        for (index, refusal) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal as usize, index);
            assert_eq!(Refusal::from_code(refusal.code()), Some(refusal));
        }
        assert_eq!(Refusal::from_code(VarInt::from_u32(0)), None);
        assert_eq!(Refusal::from_code(VarInt::from_u32(0x5400 + 17)), None);
        assert_eq!(Refusal::from_code(VarInt::MAX), None);
    }
}
