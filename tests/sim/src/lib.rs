//! Whole members on virtual time: what a rig of real machines would show in years, in minutes.
//!
//! One seed, one thread, one order of events: a seed that fails replays exactly. The members are
//! the ones of the daemons ([`tierce_ticket::member::Member`]), and every message passes the real
//! codec. Around them the world is made of [`clock`]s that run wrong within ρ (or beyond it, for
//! the audit to find), a network ([`weather`]) that delays, loses, doubles, reorders and cuts, [`disk`]s that
//! forget what was not synced, fill up, fail and rot, nodes that crash, freeze, lose power or are
//! paused from outside together with their clocks, and guards that stop dependents at D − W.
//!
//! After every event the world asserts what must never break:
//! - EXCL: at most one site physically runs anything under one ticket ([`physical`]);
//! - EPOCH: a ticket's term only grows, and a term has one home everywhere;
//! - HIST: all members apply the same entries ([`history`]);
//! - no voter takes back by a promise what it has voted, in whatever life ([`said`]);
//! - the members' own invariants.
//!
//! A [`plan`] of faults is drawn from the seed; then everything heals and life must go on within
//! bounded virtual time, with every acknowledged decision still there ([`seed`]). A plan that fails
//! is made smaller before it is printed ([`shrink`]).

pub mod clock;
pub mod disk;
pub mod duties;
pub mod history;
mod lives;
pub mod lots;
pub mod node;
pub mod physical;
pub mod plan;
pub mod said;
pub mod seed;
pub mod shrink;
mod story;
pub mod weather;
pub mod world;

pub use story::{name, policy, tail, ticket};
pub use world::World;

/// Nanoseconds in a millisecond of virtual time.
pub const MS: u64 = 1_000_000;
