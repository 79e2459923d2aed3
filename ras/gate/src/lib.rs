//! The kernel gate: an nftables set element whose timeout is the lease (layer L1).
//!
//! Routes, caches and neighbour tables may point at a former holder for a long time. What decides
//! is the holder's own data plane: traffic to and from a service address passes only while the
//! address is in a set of the kernel, and the kernel itself takes it out when the lease ends. So
//! the gate shuts when the agent is killed, frozen or starved, without anybody doing anything.
//!
//! - [`Gate`]: protect, renew, shut, state. One system call out and one in per renewal, no fork.
//! - [`vip`]: the service address on an interface, with a lifetime in the kernel, and the
//!   announcements (gratuitous ARP, unsolicited neighbour advertisement) that follow a move.
//! - [`nl`]: the few netlink messages that are needed, encoded by hand.
//!
//! Invariants:
//! - `fail-shut`: a protected address that nobody renews is shut; the table outlives the process.
//! - `never-longer`: an element's timeout is what is left of the lease, rounded down; a timeout of
//!   zero, which the kernel would read as "for ever", is never sent.
//! - `jump-shuts`: when `CLOCK_BOOTTIME` has jumped against `CLOCK_MONOTONIC` (the machine slept),
//!   everything is shut before anything is renewed, because the kernel's timeouts slept too.
//!
//! What it does not stop: another tool that deletes the table (`nft flush ruleset`). The next
//! renewal then fails with [`GateError::TableGone`], within one renewal period.

#[forbid(unsafe_code)]
mod clock;
#[forbid(unsafe_code)]
mod gate;
pub mod limits;
#[forbid(unsafe_code)]
pub mod nl;
#[forbid(unsafe_code)]
mod ruleset;
pub mod vip;

pub use clock::Deadline;
pub use gate::{Gate, GateError, Guarded, Options, Renewal, Scope, SelfTest};
