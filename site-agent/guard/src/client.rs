//! The agent's end of the socket. Never blocks: use it from any event loop through [`AsFd`].
//!
//! Reconnecting is the caller's: a guard that was restarted has forgotten everything, so after
//! every connect the caller sends `hello`, then a stop command per ticket, then `arm`, and lets
//! dependents run only once these are acknowledged. A full socket is an error, not a wait: a guard
//! that does not read is a guard that may be frozen, and the agent should know at once.

use crate::core::{Lease, Term, Ticket};
use crate::limits::{MAX_BATCH, MAX_PACKET};
use crate::wire::{ArmEntry, Frame, Reply, Role, WireError};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, send, socket,
};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;
use thiserror::Error;

/// Why the guard was not reached. In every case the node is not guarded until it is resolved.
#[derive(Debug, Error)]
pub enum ClientError {
    /// No guard listens there, or it does not let this user in.
    #[error("no guard at the socket ({0}): the node is unguarded; start tierce-guard")]
    Connect(Errno),
    /// The connection ended: the guard stopped, or another agent has taken over.
    #[error("the guard closed the connection: reconnect and register every ticket again")]
    Closed,
    /// The guard does not read its socket.
    #[error("the guard does not read its socket: it is stopped or starved")]
    Full,
    /// Another failure of the socket.
    #[error("guard socket: {0}")]
    Socket(Errno),
    /// A message that cannot be sent or was not understood.
    #[error(transparent)]
    Wire(#[from] WireError),
}

/// A connection to the guard.
#[derive(Debug)]
pub struct GuardClient {
    fd: OwnedFd,
    seq: u32,
}

impl AsFd for GuardClient {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl GuardClient {
    /// Connects; sends nothing yet.
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)
            .map_err(ClientError::Connect)?;
        let address = UnixAddr::new(path).map_err(ClientError::Connect)?;
        connect(fd.as_raw_fd(), &address).map_err(ClientError::Connect)?;
        Ok(Self { fd, seq: 0 })
    }

    /// Says who this is and W. Returns the sequence number that the answer will carry; so do all
    /// other requests.
    pub fn hello(&mut self, role: Role, margin: Duration) -> Result<u32, ClientError> {
        let margin_ms = u32::try_from(margin.as_millis()).unwrap_or(u32::MAX);
        self.request(|seq| Ok(Frame::hello(seq, role, margin_ms)))
    }

    /// Registers how the guard stops the dependents of a ticket: absolute path and arguments. Also
    /// set in its environment: `TIERCE_TICKET_ID`, `TIERCE_TERM`. Exit status 0 says: stopped.
    pub fn set_stop(&mut self, ticket: Ticket, words: &[&[u8]]) -> Result<u32, ClientError> {
        self.request(|seq| Frame::set_stop(seq, ticket, words))
    }

    /// Registers the process groups of a ticket's dependents for the last resort `kill`.
    pub fn set_groups(&mut self, ticket: Ticket, groups: &[i32]) -> Result<u32, ClientError> {
        self.request(|seq| Frame::set_groups(seq, ticket, groups))
    }

    /// Guards tickets. Sends one packet per [`MAX_BATCH`]; returns the last sequence number.
    pub fn arm(&mut self, entries: &[ArmEntry]) -> Result<u32, ClientError> {
        for chunk in entries.chunks(MAX_BATCH) {
            self.request(|seq| Frame::arm(seq, chunk))?;
        }
        Ok(self.seq)
    }

    /// Extends everything that is armed: the common path, one small packet per renewal.
    pub fn arm_all(&mut self, lease: Lease) -> Result<u32, ClientError> {
        self.request(|seq| Ok(Frame::arm_all(seq, lease)))
    }

    /// Says that a ticket is being taken back: renewals no longer extend it.
    pub fn pin(&mut self, ticket: Ticket, term: Term) -> Result<u32, ClientError> {
        self.request(|seq| Ok(Frame::pin(seq, ticket, term)))
    }

    /// Says that dependents are stopped, confirmed. Returns the last sequence number.
    pub fn disarm(&mut self, entries: &[(Ticket, Term)]) -> Result<u32, ClientError> {
        for chunk in entries.chunks(MAX_BATCH) {
            self.request(|seq| Frame::disarm(seq, chunk))?;
        }
        Ok(self.seq)
    }

    /// Asks for totals and protection.
    pub fn status(&mut self) -> Result<u32, ClientError> {
        self.request(|seq| Ok(Frame::status(seq)))
    }

    /// Asks for the tickets from this one on.
    pub fn list(&mut self, from: Ticket) -> Result<u32, ClientError> {
        self.request(|seq| Ok(Frame::list(seq, from)))
    }

    fn request(
        &mut self,
        build: impl FnOnce(u32) -> Result<Frame, WireError>,
    ) -> Result<u32, ClientError> {
        let seq = if self.seq == u32::MAX { 1 } else { self.seq + 1 }; // 0 marks events
        let frame = build(seq)?;
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        match send(self.fd.as_raw_fd(), frame.bytes(), flags) {
            Ok(_) => {
                self.seq = seq;
                Ok(seq)
            }
            Err(Errno::EAGAIN | Errno::ENOBUFS) => Err(ClientError::Full),
            Err(Errno::EPIPE | Errno::ECONNRESET | Errno::ENOTCONN) => Err(ClientError::Closed),
            Err(other) => Err(ClientError::Socket(other)),
        }
    }

    /// The next answer or event; `None` when there is none now.
    pub fn recv(&mut self) -> Result<Option<Reply>, ClientError> {
        let mut buffer = [0u8; MAX_PACKET];
        match recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(0) | Err(Errno::ECONNRESET) => Err(ClientError::Closed),
            Ok(len) => Ok(Some(Reply::decode(&buffer[..len])?)),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
            Err(other) => Err(ClientError::Socket(other)),
        }
    }

    /// Waits at most this long for the next answer or event. For start-up code and tools; an event
    /// loop waits for readability itself.
    pub fn wait(&mut self, at_most: Duration) -> Result<Option<Reply>, ClientError> {
        let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(at_most).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => self.recv(),
            Err(other) => Err(ClientError::Socket(other)),
        }
    }
}
