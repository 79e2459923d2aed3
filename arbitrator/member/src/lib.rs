//! Runs members of the ticket protocol on store, link and the system's clocks.
//!
//! The protocol core (`tierce-ticket`) decides, this crate carries out. One [`Host`] is one process:
//! one socket, one journal thread, any number of members (an arbitrator has one for each tenant).
//! Each member is one task that owns its core; everybody else talks to it through a
//! [`MemberHandle`] and hears of it through [`MemberEvent`]s.
//!
//! Duties of the driver, asserted here: writes are carried out in order; no message leaves before the
//! write that it rests on is durable; a failed write ends the member for good (R6); the clocks are
//! read anew for every step, so a timer only wakes.
//!
//! Nothing here decides about tickets, and nothing waits: a full queue drops what may be lost
//! (messages), and ends the member where nothing may be lost (orders, writes).

mod clocks;
mod host;
mod mark;
mod task;

pub use clocks::now;
pub use host::{Host, HostError, HostOptions, MemberOptions, OLDER_STORE, PeerAddress};
pub use task::{Busy, MemberEvent, MemberHandle, Stats, StatsView};
