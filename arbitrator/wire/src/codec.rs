//! The envelope of every message between members.
//!
//! One message is: version (1 byte), hybrid logical time (8 bytes, little endian), then the envelope
//! in postcard. The version is agreed by ALPN when a connection begins and repeated in each message,
//! so that a recording can be read without its connection. A member speaks this version and the one
//! before it: a rolling upgrade never splits a cluster.
//!
//! Decoding is total: any bytes give a message within its bounds or an error, never a panic, and
//! never more memory than a small multiple of the input.

use serde::{Deserialize, Serialize};
use tierce_ticket::command::Command;
use tierce_ticket::entry::{Op, Payload};
use tierce_ticket::ledger::LedgerMessage;
use tierce_ticket::limits;
use tierce_ticket::message::{Envelope, Message, Verdict};

use crate::v1;

/// ALPN of version 1.
pub const ALPN_V1: &[u8] = b"tierce/1";
/// ALPN of version 2.
pub const ALPN_V2: &[u8] = b"tierce/2";
/// Largest encoded message: the link's largest frame.
pub const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;
const HEADER_BYTES: usize = 9;

/// A version of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Version {
    /// Answers carry no clock, so a holder talking to such voters has no clock audit.
    V1 = 1,
    /// This one.
    V2 = 2,
}

impl Version {
    /// The version behind an agreed ALPN.
    pub fn from_alpn(alpn: &[u8]) -> Option<Self> {
        match alpn {
            ALPN_V1 => Some(Self::V1),
            ALPN_V2 => Some(Self::V2),
            _ => None,
        }
    }
}

/// Why bytes are no message, or a message cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Shorter than its header.
    #[error("a message of {0} bytes is shorter than its header; it is dropped")]
    Short(usize),
    /// Too large.
    #[error("a message of {0} bytes is larger than {MAX_MESSAGE_BYTES}; it is dropped")]
    Large(usize),
    /// A version that this member does not speak.
    #[error("version {0} is not spoken here (1 and 2 are); upgrade the older member first")]
    Version(u8),
    /// Not a message.
    #[error("the bytes are no message; it is dropped")]
    Malformed,
    /// Bytes follow the message.
    #[error("{0} bytes follow the message; it is dropped")]
    Trailing(usize),
    /// A bound is broken.
    #[error("{0} is out of bounds; the message is dropped")]
    Bounds(&'static str),
}

/// A decoded message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Its version.
    pub version: Version,
    /// The sender's hybrid logical time.
    pub hlc: u64,
    /// The message.
    pub envelope: Envelope,
}

/// Encodes for a peer that speaks `version`.
pub fn encode(version: Version, hlc: u64, envelope: &Envelope) -> Result<Vec<u8>, WireError> {
    let mut out = Vec::with_capacity(128);
    out.push(version as u8);
    out.extend_from_slice(&hlc.to_le_bytes());
    let out = match version {
        Version::V2 => postcard::to_extend(envelope, out),
        Version::V1 => postcard::to_extend(&v1::Envelope::from(envelope.clone()), out),
    };
    let out = out.map_err(|_| WireError::Malformed)?;
    if out.len() > MAX_MESSAGE_BYTES { Err(WireError::Large(out.len())) } else { Ok(out) }
}

/// Decodes and checks bounds.
pub fn decode(bytes: &[u8]) -> Result<Decoded, WireError> {
    if bytes.len() > MAX_MESSAGE_BYTES {
        return Err(WireError::Large(bytes.len()));
    }
    let Some((header, body)) = bytes.split_at_checked(HEADER_BYTES) else {
        return Err(WireError::Short(bytes.len()));
    };
    let mut hlc = [0; 8];
    hlc.copy_from_slice(&header[1..]);
    let (version, (envelope, rest)) = match header[0] {
        1 => {
            let (e, rest) = postcard::take_from_bytes::<v1::Envelope>(body)
                .map_err(|_| WireError::Malformed)?;
            (Version::V1, (Envelope::from(e), rest))
        }
        2 => (Version::V2, postcard::take_from_bytes(body).map_err(|_| WireError::Malformed)?),
        other => return Err(WireError::Version(other)),
    };
    if !rest.is_empty() {
        return Err(WireError::Trailing(rest.len()));
    }
    check(&envelope)?;
    Ok(Decoded { version, hlc: u64::from_le_bytes(hlc), envelope })
}

/// Bounds that the types do not carry. What is semantic is checked where it is used.
fn check(envelope: &Envelope) -> Result<(), WireError> {
    let bound = |ok: bool, what| if ok { Ok(()) } else { Err(WireError::Bounds(what)) };
    match &envelope.message {
        Message::Answer(a) => match &a.verdict {
            Verdict::Promised { revoking, promise, .. } => {
                bound(revoking.len() <= limits::MAX_REVOKING, "the list of revoked tickets")?;
                bound(*promise <= tierce_ticket::timing::Timing::MAX_PROMISE, "a promise")
            }
            Verdict::Refused(_) => Ok(()),
        },
        Message::Readiness(r) => {
            bound(r.tickets.len() <= limits::MAX_TICKETS, "a readiness report")?;
            let reasons = r.tickets.iter().filter_map(|(_, t)| t.blocked.as_ref());
            let long = reasons.chain(&r.not_ready).any(|w| w.len() > limits::NOTE_BYTES);
            bound(!long, "a reason in a readiness report")
        }
        Message::Founding(c) => bound(c.check().is_ok(), "a configuration"),
        Message::Admitted { snapshot, .. } => {
            bound(snapshot.configuration.check().is_ok(), "a configuration")?;
            bound(snapshot.state.len() <= limits::SNAPSHOT_BYTES, "a snapshot")
        }
        Message::Ledger(LedgerMessage::Append(a)) => {
            bound(a.entries.len() <= limits::MAX_APPEND_ENTRIES, "an append")?;
            for e in &a.entries {
                match &e.payload {
                    Payload::Batch(ops) => {
                        bound(ops.len() <= limits::MAX_BATCH_OPS, "a batch")?;
                        bound(ops.iter().all(op_within_bounds), "an operation")?;
                    }
                    Payload::Configuration(c) => bound(c.check().is_ok(), "a configuration")?,
                    Payload::Noop => {}
                }
            }
            Ok(())
        }
        Message::Command { command, .. } => bound(command_within_bounds(command), "a command"),
        _ => Ok(()),
    }
}

fn op_within_bounds(op: &Op) -> bool {
    match op {
        Op::Expire { votes, .. } | Op::ExpireTicket { votes, .. } => {
            votes.len() <= limits::MAX_VOTERS
        }
        Op::Handover { note, .. }
        | Op::CancelHandover { note, .. }
        | Op::TakeBack { note, .. }
        | Op::ConfirmDown { note, .. }
        | Op::Hold { note, .. }
        | Op::Propose { note, .. }
        | Op::DeclareSite { note, .. } => note.len() <= limits::NOTE_BYTES,
        Op::SetAttribute { value, .. } => {
            value.as_ref().is_none_or(|v| v.len() <= limits::ATTRIBUTE_VALUE_BYTES)
        }
        Op::SetTicket { policy, .. } => {
            policy.prefer.len() <= limits::MAX_VOTERS
                && policy.require.len() <= limits::MAX_ATTRIBUTES
                && policy.require.values().all(|v| v.len() <= limits::ATTRIBUTE_VALUE_BYTES)
        }
        _ => true,
    }
}

fn command_within_bounds(command: &Command) -> bool {
    match command {
        Command::SetTicket { policy, .. } => {
            policy.prefer.len() <= limits::MAX_VOTERS
                && policy.require.len() <= limits::MAX_ATTRIBUTES
        }
        Command::SetAttribute { value, .. } => {
            value.as_ref().is_none_or(|v| v.len() <= limits::ATTRIBUTE_VALUE_BYTES)
        }
        Command::Admit { addresses, .. } => {
            addresses.len() <= limits::MAX_ADDRESSES
                && addresses.iter().all(|a| a.len() <= limits::ADDRESS_BYTES)
        }
        _ => true,
    }
}
