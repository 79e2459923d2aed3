//! DNS switch-over: the holder of a ticket writes its addresses under a name, and only it can.
//!
//! Agents that set a DNS record after a failover share one fault: nothing in the record says who
//! wrote it, so a site that was cut off, paused or merely slow writes its old address over the new
//! holder's. Here every write carries the ticket's term in a *fence record* beside the name, and
//! the name server itself compares it: one RFC 2136 message holds the expected fence as a
//! prerequisite and fence plus addresses as the change, so a stale write is refused by the
//! authority and not by the good will of the writer.
//!
//! - [`fence`] (core): the fence record's text and the one rule, *the newer term wins*.
//! - [`client`]: [`FencedUpdate`], read, decide, compare-and-set, read back when in doubt.
//! - [`probe`]: one question with checks against forged answers, for probes and pre-flight.
//! - [`zone`], [`server`] (core): a small zone whose check and change are one step.
//! - [`authority`]: the sockets around it, for demo and tests.
//!
//! Invariants: a name is never emptied (there is no call that deletes one); a fence is never
//! replaced by an older term; an answer that did not arrive is never taken for a refusal.

#![forbid(unsafe_code)]

pub mod authority;
pub mod client;
pub mod error;
pub mod fence;
pub mod key;
pub mod limits;
pub mod probe;
pub mod server;
mod transport;
pub mod zone;

pub use authority::{Authority, AuthorityHandle, AuthorityStats};
pub use client::{Applied, FencedUpdate};
pub use error::DnsError;
pub use fence::{FenceRecord, Nonce, SiteName, Term};
pub use hickory_proto::op::ResponseCode;
pub use hickory_proto::rr::{Name, RData, Record, RecordType};
pub use key::Key;
pub use probe::{Answer, query};
