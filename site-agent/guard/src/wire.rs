//! Packets between agent and guard: one `SOCK_SEQPACKET` packet is one message.
//!
//! Both run on the same node, so numbers are little-endian and widths fixed. Decoding is total:
//! any bytes give a message or a [`WireError`], never a panic, and allocate nothing. Head of every
//! packet, 16 bytes: magic `TGRD`, version u16, kind u8, count u8, sequence u32, reserved u32.
//! The guard answers each request with the sequence number of it; events carry sequence 0.

use crate::core::{BootTime, Lease, Term, Ticket, Verdict};
use crate::limits::{MAX_BATCH, MAX_COMMAND, MAX_GROUPS, MAX_PACKET, MAX_WORDS};
use std::marker::PhantomData;
use thiserror::Error;

/// The version this build speaks; another one is refused.
pub const VERSION: u16 = 1;
const MAGIC: u32 = 0x4452_4754; // "TGRD" as it lies in memory
const HEAD: usize = 16;

/// Why a packet was not understood. The guard counts and drops such packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum WireError {
    /// No head, or not ours.
    #[error("not a packet of tierce-guard")]
    Foreign,
    /// Another version of the protocol.
    #[error(
        "protocol version {0}, this build speaks {VERSION}: run agent and guard of one release"
    )]
    Version(u16),
    /// A kind that this side does not take.
    #[error("unknown message kind {0}")]
    Kind(u8),
    /// Length and count do not fit, or a field is out of its range.
    #[error("malformed message of kind {0}")]
    Malformed(u8),
    /// Too long or too many to be sent.
    #[error("does not fit a packet: shorten the command or send fewer entries")]
    TooLong,
}

/// Who connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The one agent that may arm; a newer one replaces an older.
    Agent,
    /// Looks only.
    Observer,
}

/// One line of an `Arm` packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArmEntry {
    /// Which ticket.
    pub ticket: Ticket,
    /// Under which grant.
    pub term: Term,
    /// Until when.
    pub lease: Lease,
}

/// What a client asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request<'a> {
    /// First message: role and W.
    Hello {
        /// Who.
        role: Role,
        /// W in milliseconds.
        margin_ms: u32,
    },
    /// Guard or extend these tickets.
    Arm(Entries<'a, ArmEntry>),
    /// Extend everything that is armed and not pinned.
    ArmAll(Lease),
    /// These are stopped, confirmed.
    Disarm(Entries<'a, (Ticket, Term)>),
    /// The stop command of a ticket: words, each ended by NUL.
    SetStop {
        /// Which ticket.
        ticket: Ticket,
        /// At most [`MAX_COMMAND`] bytes, at most [`MAX_WORDS`] words, ending in NUL.
        words: &'a [u8],
    },
    /// This ticket is being taken back: it keeps its lease.
    Pin(Ticket, Term),
    /// Process groups of the ticket's dependents, for the last resort `kill`.
    SetGroups {
        /// Which ticket.
        ticket: Ticket,
        /// Replaces what was registered.
        groups: Entries<'a, i32>,
    },
    /// Totals and protection.
    Status,
    /// Tickets from this one on.
    List(Ticket),
}

/// Fixed-width entries, still in the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entries<'a, T> {
    bytes: &'a [u8],
    of: PhantomData<T>,
}

impl<'a, T: Entry> Entries<'a, T> {
    /// In the order of the packet.
    pub fn iter(&self) -> impl Iterator<Item = T> + use<'a, T> {
        // `chunks_exact` gives exactly the width, so a read cannot come up short.
        self.bytes.chunks_exact(T::WIDTH).filter_map(|bytes| T::read(&mut Reader(bytes)))
    }
}

/// Something of fixed width that stands several times in a packet.
pub trait Entry: Sized {
    /// Bytes of one.
    const WIDTH: usize;
    /// Reads one; `None` only where the bytes end too soon.
    fn read(reader: &mut Reader<'_>) -> Option<Self>;
}

/// Answer to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// Of the request.
    pub seq: u32,
    /// Of the first entry that was not taken, else `Done`.
    pub code: Code,
    /// Index of that entry.
    pub index: u16,
    /// Tickets armed now.
    pub armed: u32,
    /// Tickets being stopped by the guard now.
    pub stopping: u32,
}

/// Outcome on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Code {
    /// Taken.
    Done = 0,
    /// See [`Verdict::StaleTerm`].
    StaleTerm = 1,
    /// See [`Verdict::Stopping`].
    Stopping = 2,
    /// See [`Verdict::Busy`].
    Busy = 3,
    /// See [`Verdict::NoStopCommand`].
    NoStopCommand = 4,
    /// See [`Verdict::BadTimes`].
    BadTimes = 5,
    /// Observers may look only, and Hello comes first.
    NotAllowed = 6,
    /// No place left in the table.
    Full = 7,
    /// W is shorter than the watchdog's timeout, so the watchdog could fire after the deadline.
    MarginTooShort = 8,
    /// The last resort in use has no process groups.
    NoGroups = 9,
}

impl From<Verdict> for Code {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Done => Self::Done,
            Verdict::StaleTerm => Self::StaleTerm,
            Verdict::Stopping => Self::Stopping,
            Verdict::Busy => Self::Busy,
            Verdict::NoStopCommand => Self::NoStopCommand,
            Verdict::BadTimes => Self::BadTimes,
        }
    }
}

impl Code {
    const ALL: [Self; 10] = [
        Self::Done,
        Self::StaleTerm,
        Self::Stopping,
        Self::Busy,
        Self::NoStopCommand,
        Self::BadTimes,
        Self::NotAllowed,
        Self::Full,
        Self::MarginTooShort,
        Self::NoGroups,
    ];
}

/// What the guard protects and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Status {
    /// Of the request.
    pub seq: u32,
    /// Process id of the guard.
    pub pid: u32,
    /// Tickets armed.
    pub armed: u32,
    /// Tickets being stopped by the guard.
    pub stopping: u32,
    /// Tickets for which the last resort was taken and which are not known dead.
    pub reset: u32,
    /// W in milliseconds.
    pub margin_ms: u32,
    /// Timeout of the hardware watchdog in milliseconds; 0 is none.
    pub watchdog_ms: u32,
    /// Which last resort: 1 watchdog, 2 sysrq, 3 kill, 4 record.
    pub last_resort: u8,
    /// Memory is locked.
    pub locked: bool,
    /// Scheduled in real time.
    pub realtime: bool,
    /// Lower bound of the next action.
    pub soonest: Lease,
    /// Packets dropped as not understood or not allowed since start.
    pub dropped: u64,
}

/// One ticket of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// Which ticket.
    pub ticket: Ticket,
    /// Newest term seen.
    pub term: Term,
    /// Lease in force.
    pub lease: Lease,
    /// 0 idle, 1 armed, 2 stopping, 3 stop failed, 4 reset.
    pub phase: u8,
}

/// What the guard tells without being asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum EventKind {
    /// The guard runs the stop command.
    StopBegun = 1,
    /// The stop command said: stopped.
    Stopped = 2,
    /// The stop command failed.
    StopFailed = 3,
    /// The last resort was taken.
    Reset = 4,
}

/// From guard to client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Answer to a request.
    Ack(Ack),
    /// Answer to `Status`.
    Status(Status),
    /// Answer to `List`.
    List {
        /// Of the request.
        seq: u32,
        /// At most [`MAX_BATCH`]; ask again from behind the last.
        entries: Vec<Listed>,
    },
    /// Something happened.
    Event {
        /// What.
        kind: EventKind,
        /// To which ticket.
        ticket: Ticket,
        /// Under which grant.
        term: Term,
    },
}

// ---- bytes ------------------------------------------------------------------------------------

/// A packet under construction. Lives on the stack or in a place made at start.
pub struct Frame {
    bytes: [u8; MAX_PACKET],
    len: usize,
}

impl Frame {
    fn new(kind: u8, count: u8, seq: u32) -> Self {
        let mut frame = Self { bytes: [0; MAX_PACKET], len: 0 };
        frame.u32(MAGIC);
        frame.put(&VERSION.to_le_bytes());
        frame.put(&[kind, count]);
        frame.u32(seq);
        frame.u32(0);
        frame
    }

    fn put(&mut self, bytes: &[u8]) {
        // Callers bound their entries first; MAX_PACKET holds the longest message.
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn u32(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }

    fn lease(&mut self, lease: Lease) {
        self.u64(lease.stop_at.0);
        self.u64(lease.deadline.0);
    }

    /// What goes onto the socket.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// `Hello`.
    pub fn hello(seq: u32, role: Role, margin_ms: u32) -> Self {
        let mut frame = Self::new(1, u8::from(role == Role::Observer), seq);
        frame.u32(margin_ms);
        frame
    }

    /// `Arm`, at most [`MAX_BATCH`] entries.
    pub fn arm(seq: u32, entries: &[ArmEntry]) -> Result<Self, WireError> {
        let mut frame = Self::new(2, batch(entries.len(), MAX_BATCH)?, seq);
        for entry in entries {
            frame.u32(entry.ticket.0);
            frame.u64(entry.term.0);
            frame.lease(entry.lease);
        }
        Ok(frame)
    }

    /// `ArmAll`.
    pub fn arm_all(seq: u32, lease: Lease) -> Self {
        let mut frame = Self::new(3, 0, seq);
        frame.lease(lease);
        frame
    }

    /// `Disarm`, at most [`MAX_BATCH`] entries.
    pub fn disarm(seq: u32, entries: &[(Ticket, Term)]) -> Result<Self, WireError> {
        let mut frame = Self::new(4, batch(entries.len(), MAX_BATCH)?, seq);
        for (ticket, term) in entries {
            frame.u32(ticket.0);
            frame.u64(term.0);
        }
        Ok(frame)
    }

    /// `SetStop`. Words may not contain NUL; the first is an absolute path.
    pub fn set_stop(seq: u32, ticket: Ticket, words: &[&[u8]]) -> Result<Self, WireError> {
        let total: usize = words.iter().map(|word| word.len() + 1).sum();
        if total > MAX_COMMAND || words.len() > MAX_WORDS {
            return Err(WireError::TooLong);
        }
        let absolute = words.first().is_some_and(|path| path.first() == Some(&b'/'));
        if !absolute || words.iter().any(|word| word.contains(&0)) {
            return Err(WireError::Malformed(5));
        }
        let mut frame = Self::new(5, 0, seq);
        frame.u32(ticket.0);
        for word in words {
            frame.put(word);
            frame.put(&[0]);
        }
        Ok(frame)
    }

    /// `Pin`.
    pub fn pin(seq: u32, ticket: Ticket, term: Term) -> Self {
        let mut frame = Self::new(6, 0, seq);
        frame.u32(ticket.0);
        frame.u64(term.0);
        frame
    }

    /// `SetGroups`, at most [`MAX_GROUPS`].
    pub fn set_groups(seq: u32, ticket: Ticket, groups: &[i32]) -> Result<Self, WireError> {
        let mut frame = Self::new(7, batch(groups.len(), MAX_GROUPS)?, seq);
        frame.u32(ticket.0);
        for group in groups {
            frame.put(&group.to_le_bytes());
        }
        Ok(frame)
    }

    /// `Status`.
    pub fn status(seq: u32) -> Self {
        Self::new(8, 0, seq)
    }

    /// `List`.
    pub fn list(seq: u32, from: Ticket) -> Self {
        let mut frame = Self::new(9, 0, seq);
        frame.u32(from.0);
        frame
    }

    /// Answer to a request.
    pub fn ack(ack: Ack) -> Self {
        let mut frame = Self::new(128, 0, ack.seq);
        frame.put(&(ack.code as u16).to_le_bytes());
        frame.put(&ack.index.to_le_bytes());
        frame.u32(ack.armed);
        frame.u32(ack.stopping);
        frame
    }

    /// Answer to `Status`.
    pub fn status_reply(status: &Status) -> Self {
        let mut frame = Self::new(129, 0, status.seq);
        for value in [
            status.pid,
            status.armed,
            status.stopping,
            status.reset,
            status.margin_ms,
            status.watchdog_ms,
        ] {
            frame.u32(value);
        }
        frame.put(&[status.last_resort, u8::from(status.locked), u8::from(status.realtime), 0]);
        frame.lease(status.soonest);
        frame.u64(status.dropped);
        frame
    }

    /// An event.
    pub fn event(kind: EventKind, ticket: Ticket, term: Term) -> Self {
        let mut frame = Self::new(130, 0, 0);
        frame.u32(kind as u32);
        frame.u32(ticket.0);
        frame.u64(term.0);
        frame
    }

    /// Answer to `List`; takes at most [`MAX_BATCH`] of what it is given.
    pub fn list_reply(seq: u32, entries: impl Iterator<Item = Listed>) -> Self {
        let mut frame = Self::new(131, 0, seq);
        let mut count = 0u8;
        for entry in entries.take(MAX_BATCH) {
            frame.u32(entry.ticket.0);
            frame.u32(u32::from(entry.phase));
            frame.u64(entry.term.0);
            frame.lease(entry.lease);
            count += 1;
        }
        frame.bytes[7] = count;
        frame
    }
}

fn batch(len: usize, max: usize) -> Result<u8, WireError> {
    if len > max { Err(WireError::TooLong) } else { Ok(len as u8) }
}

/// Reads forward through a body; `None` when it ends too soon.
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn lease(&mut self) -> Option<Lease> {
        Some(Lease { stop_at: BootTime(self.u64()?), deadline: BootTime(self.u64()?) })
    }

    fn entries<T: Entry>(&mut self, count: u8) -> Option<Entries<'a, T>> {
        let (bytes, rest) = self.0.split_at_checked(usize::from(count) * T::WIDTH)?;
        self.0 = rest;
        Some(Entries { bytes, of: PhantomData })
    }
}

impl Entry for ArmEntry {
    const WIDTH: usize = 28;
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let (ticket, term) = (Ticket(reader.u32()?), Term(reader.u64()?));
        Some(Self { ticket, term, lease: reader.lease()? })
    }
}

impl Entry for (Ticket, Term) {
    const WIDTH: usize = 12;
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        Some((Ticket(reader.u32()?), Term(reader.u64()?)))
    }
}

impl Entry for i32 {
    const WIDTH: usize = 4;
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        reader.take().map(i32::from_le_bytes)
    }
}

impl Entry for Listed {
    const WIDTH: usize = 32;
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let (ticket, phase) = (Ticket(reader.u32()?), reader.u32()? as u8);
        let term = Term(reader.u64()?);
        Some(Self { ticket, term, phase, lease: reader.lease()? })
    }
}

fn head(packet: &[u8]) -> Result<(u8, u8, u32, Reader<'_>), WireError> {
    let mut reader = Reader(packet);
    let mut parse = || {
        let magic = reader.u32()?;
        let version = u16::from_le_bytes(reader.take()?);
        let [kind, count] = reader.take()?;
        let seq = reader.u32()?;
        reader.u32()?;
        (magic == MAGIC).then_some((version, kind, count, seq))
    };
    let (version, kind, count, seq) = parse().ok_or(WireError::Foreign)?;
    assert!(packet.len() >= HEAD);
    if version != VERSION {
        return Err(WireError::Version(version));
    }
    Ok((kind, count, seq, reader))
}

impl<'a> Request<'a> {
    /// Sequence number and request of a packet.
    pub fn decode(packet: &'a [u8]) -> Result<(u32, Self), WireError> {
        let (kind, count, seq, mut reader) = head(packet)?;
        if !(1..=9).contains(&kind) {
            return Err(WireError::Kind(kind));
        }
        let request = Self::body(kind, count, &mut reader).ok_or(WireError::Malformed(kind))?;
        if reader.0.is_empty() { Ok((seq, request)) } else { Err(WireError::Malformed(kind)) }
    }

    fn body(kind: u8, count: u8, reader: &mut Reader<'a>) -> Option<Self> {
        let within = |max: usize| usize::from(count) <= max;
        Some(match kind {
            1 => {
                let role = match count {
                    0 => Role::Agent,
                    1 => Role::Observer,
                    _ => return None,
                };
                Self::Hello { role, margin_ms: reader.u32()? }
            }
            2 if within(MAX_BATCH) => Self::Arm(reader.entries(count)?),
            3 => Self::ArmAll(reader.lease()?),
            4 if within(MAX_BATCH) => Self::Disarm(reader.entries(count)?),
            5 => {
                let ticket = Ticket(reader.u32()?);
                let words = std::mem::take(&mut reader.0);
                let ends = words.split_inclusive(|byte| *byte == 0).count();
                let fits = words.len() <= MAX_COMMAND && ends <= MAX_WORDS;
                if !fits || words.last() != Some(&0) || words.first() != Some(&b'/') {
                    return None;
                }
                Self::SetStop { ticket, words }
            }
            6 => Self::Pin(Ticket(reader.u32()?), Term(reader.u64()?)),
            7 if within(MAX_GROUPS) => {
                let ticket = Ticket(reader.u32()?);
                Self::SetGroups { ticket, groups: reader.entries(count)? }
            }
            8 => Self::Status,
            9 => Self::List(Ticket(reader.u32()?)),
            _ => return None,
        })
    }
}

impl Reply {
    /// A packet of the guard.
    pub fn decode(packet: &[u8]) -> Result<Self, WireError> {
        let (kind, count, seq, mut reader) = head(packet)?;
        if !(128..=131).contains(&kind) {
            return Err(WireError::Kind(kind));
        }
        let reply = Self::body(kind, count, seq, &mut reader).ok_or(WireError::Malformed(kind))?;
        if reader.0.is_empty() { Ok(reply) } else { Err(WireError::Malformed(kind)) }
    }

    fn body(kind: u8, count: u8, seq: u32, reader: &mut Reader<'_>) -> Option<Self> {
        Some(match kind {
            128 => {
                let code = u16::from_le_bytes(reader.take()?);
                Self::Ack(Ack {
                    seq,
                    code: *Code::ALL.get(usize::from(code))?,
                    index: u16::from_le_bytes(reader.take()?),
                    armed: reader.u32()?,
                    stopping: reader.u32()?,
                })
            }
            129 => {
                let mut status = Status { seq, ..Status::default() };
                for field in [
                    &mut status.pid,
                    &mut status.armed,
                    &mut status.stopping,
                    &mut status.reset,
                    &mut status.margin_ms,
                    &mut status.watchdog_ms,
                ] {
                    *field = reader.u32()?;
                }
                let [last_resort, locked, realtime, _] = reader.take()?;
                status.last_resort = last_resort;
                status.locked = locked != 0;
                status.realtime = realtime != 0;
                status.soonest = reader.lease()?;
                status.dropped = reader.u64()?;
                Self::Status(status)
            }
            130 => {
                let kind = match reader.u32()? {
                    1 => EventKind::StopBegun,
                    2 => EventKind::Stopped,
                    3 => EventKind::StopFailed,
                    4 => EventKind::Reset,
                    _ => return None,
                };
                Self::Event { kind, ticket: Ticket(reader.u32()?), term: Term(reader.u64()?) }
            }
            _ => {
                let count = (usize::from(count) <= MAX_BATCH).then_some(count)?;
                let entries: Entries<'_, Listed> = reader.entries(count)?;
                Self::List { seq, entries: entries.iter().collect() }
            }
        })
    }
}

#[cfg(test)]
mod tests;
