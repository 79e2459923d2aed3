//! The ticket protocol under a model checker: the real `Promises`, `Holder`, `Docket` and `Steward`
//! of `tierce-ticket` are in the state, and their real methods are called. Only what lies between
//! them is the model's: network, clocks, log, disks, and the node that obeys.
//!
//! What is explored: every order of every action in [`action`], from every choice of clocks, within
//! the bounds of each [`scope`]. What holds in all states: EXCL, EPOCH, no promise after a vote, no
//! majority of votes against a live deadline ([`check`]). That it is not vacuous: each scope names
//! what it must have seen, and each [`mutant`] must be found.
//!
//! What keeps it finite (and why that hides nothing):
//! - two states are the same when all instants are, relative to each member's clock ([`world`]);
//! - a message that could not bring a lease any more is dropped: that is a loss, which is allowed;
//! - a fence request needs no message, since a voter may be asked at any time;
//! - a renewal and its answer are one step in all scopes but one: the earliest answer gives the
//!   longest lease for the longest time;
//! - the steward is new each time it decides, and has every vote ever given: an older one knows no
//!   more; what it decides on an old view is refused by the docket, or it is not;
//! - a node's question counts no more once it has asked again: what belongs to it is dropped.
//!
//! The ledger has scopes of its own ([`ledger`]), with every message and every write by itself. On
//! top of it (`lapse-on-ledger` and others, [`decisions`]) each member has a real ledger too: an
//! election with one voter, and an exchange with one follower, are one step each, which happens or not
//! ([`ledger::collapsed`]); a leader decides one thing at a time.
#![forbid(unsafe_code)]

pub mod action;
pub mod check;
pub mod clock;
pub mod decisions;
pub mod digest;
pub mod heal;
pub mod ledger;
pub mod log;
pub mod member;
pub mod mutant;
pub mod scope;
pub mod scopes;
pub mod story;
pub mod world;
