//! Netlink, as little as is needed: a message builder, a reader of attributes, a socket.
//!
//! A message is a 16-byte head (length, type, flags, sequence, port, native order), a short
//! protocol head, then attributes: length u16, type u16, payload, padded to four bytes. nf_tables
//! writes its numbers in network order inside attributes; rtnetlink in native order. Reading is
//! total: what does not parse is skipped or ends the walk.

use crate::limits::{ANSWER, MAX_PIECES, RECEIVE};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto,
    setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use std::os::fd::{AsRawFd, OwnedFd};

/// This is a request.
pub const REQUEST: u16 = 1;
/// Answer even when all went well.
pub const ACK: u16 = 4;
/// Everything that matches.
pub const DUMP: u16 = 0x300;
/// Put in the place of what exists.
pub const REPLACE: u16 = 0x100;
/// Refuse if it exists.
pub const EXCL: u16 = 0x200;
/// Create if it does not exist.
pub const CREATE: u16 = 0x400;

const HEAD: usize = 16;
const NESTED: u16 = 0x8000;
const TYPE_MASK: u16 = 0x3fff;
const ERROR: u16 = 2;
const DONE: u16 = 3;

/// One or more messages in a row, under construction.
#[derive(Debug, Default)]
pub struct Messages {
    bytes: Vec<u8>,
    open: Option<usize>,
}

impl Messages {
    /// Forgets everything but keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.open = None;
    }

    /// What goes onto the socket.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Begins a message with its protocol head; ends the one before.
    pub fn begin(&mut self, kind: u16, flags: u16, seq: u32, head: &[u8]) {
        self.open = Some(self.bytes.len());
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&seq.to_ne_bytes());
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
        self.bytes.extend_from_slice(head);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        if let Some(start) = self.open {
            let len = (self.bytes.len() - start) as u32;
            self.bytes[start..start + 4].copy_from_slice(&len.to_ne_bytes());
        }
    }

    /// An attribute of these bytes.
    pub fn attr(&mut self, kind: u16, payload: &[u8]) {
        let len = u16::try_from(payload.len() + 4).expect("callers bound their payloads");
        self.bytes.extend_from_slice(&len.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(payload);
        self.pad();
    }

    /// Text, ended by NUL.
    pub fn text(&mut self, kind: u16, text: &str) {
        let mut bytes = [0u8; 32];
        assert!(text.len() < bytes.len(), "names are ours and short");
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        self.attr(kind, &bytes[..=text.len()]);
    }

    /// A number in network order.
    pub fn be32(&mut self, kind: u16, value: u32) {
        self.attr(kind, &value.to_be_bytes());
    }

    /// A number in network order.
    pub fn be64(&mut self, kind: u16, value: u64) {
        self.attr(kind, &value.to_be_bytes());
    }

    /// An attribute that holds what `fill` adds.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.attr(kind | NESTED, &[]);
        fill(self);
        let len = u16::try_from(self.bytes.len() - start).expect("callers bound their elements");
        self.bytes[start..start + 2].copy_from_slice(&len.to_ne_bytes());
    }
}

/// The attributes in these bytes: type and payload.
pub fn attrs(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let [a, b, c, d] = *bytes.first_chunk::<4>()?;
        let len = usize::from(u16::from_ne_bytes([a, b]));
        let payload = bytes.get(4..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or(&[]);
        Some((u16::from_ne_bytes([c, d]) & TYPE_MASK, payload))
    })
}

/// The payload of the first attribute of this type.
pub fn attr(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attrs(bytes).find(|found| found.0 == kind).map(|found| found.1)
}

/// One message that came back.
#[derive(Debug, PartialEq, Eq)]
pub struct Received<'a> {
    /// Its type.
    pub kind: u16,
    /// Of the request that it answers.
    pub seq: u32,
    /// Behind the netlink head.
    pub body: &'a [u8],
}

/// The messages in these bytes.
pub fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Received<'_>> {
    std::iter::from_fn(move || {
        let head = bytes.first_chunk::<HEAD>()?;
        let len = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let kind = u16::from_ne_bytes([head[4], head[5]]);
        let seq = u32::from_ne_bytes([head[8], head[9], head[10], head[11]]);
        let body = bytes.get(HEAD..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or(&[]);
        Some(Received { kind, seq, body })
    })
}

/// Which family of requests a socket carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// nf_tables.
    Netfilter,
    /// Links and addresses.
    Route,
}

/// A netlink socket of the current network namespace, with its buffers.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    seq: u32,
    buffer: Vec<u8>,
    /// Requests under construction.
    pub out: Messages,
}

impl Socket {
    /// Opens one. Errors are those of `socket` and `bind`.
    pub fn open(family: Family) -> Result<Self, Errno> {
        let protocol = match family {
            Family::Netfilter => SockProtocol::NetlinkNetFilter,
            Family::Route => SockProtocol::NetlinkRoute,
        };
        let flags = SockFlag::SOCK_CLOEXEC;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        let timeout = TimeVal::milliseconds(ANSWER.as_millis().try_into().unwrap_or(1000));
        setsockopt(&fd, sockopt::ReceiveTimeout, &timeout)?;
        Ok(Self { fd, seq: 0, buffer: vec![0; RECEIVE], out: Messages::default() })
    }

    /// A sequence number not used before on this socket.
    pub fn next_seq(&mut self) -> u32 {
        self.seq = self.seq.wrapping_add(1);
        self.seq
    }

    /// Says that a batch has used sequence numbers up to this one.
    pub fn used_up_to(&mut self, seq: u32) {
        self.seq = seq;
    }

    /// Sends what was built and reads answers until every sequence number from `first` to `last`
    /// was acknowledged. An error of any of them, or of `outer` (the envelope of a batch), is the
    /// result; of several, the first.
    pub fn transact(&mut self, outer: u32, first: u32, last: u32) -> Result<(), Errno> {
        self.send()?;
        let mut open = last.wrapping_sub(first) + 1;
        let mut result = Ok(());
        for _ in 0..MAX_PIECES {
            if open == 0 {
                return result;
            }
            let len = self.receive()?;
            for message in messages(&self.buffer[..len]) {
                let Some(code) = error_code(&message) else { continue };
                if message.seq == outer && code != Errno::from_raw(0) {
                    return Err(code);
                }
                if message.seq.wrapping_sub(first) <= last.wrapping_sub(first) {
                    open = open.saturating_sub(1);
                    if code != Errno::from_raw(0) && result.is_ok() {
                        result = Err(code);
                    }
                }
            }
        }
        Err(Errno::EBADMSG)
    }

    /// Sends what was built and gives every message of the answer to `each`.
    pub fn dump(&mut self, seq: u32, mut each: impl FnMut(&Received<'_>)) -> Result<(), Errno> {
        self.send()?;
        for _ in 0..MAX_PIECES {
            let len = self.receive()?;
            for message in messages(&self.buffer[..len]).filter(|message| message.seq == seq) {
                if message.kind == DONE {
                    return Ok(());
                }
                match error_code(&message) {
                    Some(code) if code == Errno::from_raw(0) => return Ok(()),
                    Some(code) => return Err(code),
                    None => each(&message),
                }
            }
        }
        Err(Errno::EBADMSG)
    }

    fn send(&mut self) -> Result<(), Errno> {
        let to = NetlinkAddr::new(0, 0);
        sendto(self.fd.as_raw_fd(), self.out.bytes(), &to, MsgFlags::empty()).map(drop)
    }

    fn receive(&mut self) -> Result<usize, Errno> {
        loop {
            match recv(self.fd.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Err(Errno::ETIMEDOUT),
                other => return other,
            }
        }
    }
}

/// The code of an acknowledgement or error (0: all well); `None` for other messages.
fn error_code(message: &Received<'_>) -> Option<Errno> {
    if message.kind != ERROR {
        return None;
    }
    let code = message.body.first_chunk::<4>().map_or(-libc::EBADMSG, |c| i32::from_ne_bytes(*c));
    Some(Errno::from_raw(code.saturating_neg()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_built_reads_back() {
        let mut out = Messages::default();
        out.begin(7, REQUEST | ACK, 42, &[2, 0, 0, 10]);
        out.text(1, "tierce");
        out.nest(2, |out| {
            out.be32(1, 5);
            out.be64(2, 6);
        });
        out.begin(8, REQUEST, 43, &[]);
        let all: Vec<_> = messages(out.bytes()).collect();
        assert_eq!((all.len(), all[0].kind, all[0].seq, all[1].kind), (2, 7, 42, 8));
        assert_eq!(attr(&all[0].body[4..], 1), Some(&b"tierce\0"[..]));
        let nested = attr(&all[0].body[4..], 2).unwrap();
        assert_eq!(attr(nested, 1), Some(&5u32.to_be_bytes()[..]));
        assert_eq!(attr(nested, 2), Some(&6u64.to_be_bytes()[..]));
        assert_eq!(out.bytes().len() % 4, 0);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_an_end_without_a_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..300)
        ) {
            let read: usize = messages(&bytes).map(|message| attrs(message.body).count()).sum();
            prop_assert!(read <= bytes.len());
            prop_assert!(attrs(&bytes).count() <= bytes.len() / 4);
        }
    }
}
