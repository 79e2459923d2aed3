//! The real ledger under the model checker: three or four real `Ledger`s in the state, each with its
//! journal, and messages between them. Only network, journals and clocks are the model's.
//!
//! What is explored: every order of every action in [`action`], within the budgets of each
//! [`scope`]. What holds in all states: what is final stays final and is the same everywhere, across
//! crashes; one leader in a ballot, and it has all that earlier ballots made final; no read is older
//! than its question; nothing that a journal holds fails to replay; no alarm; and what
//! `Ledger::invariants` asserts.
//!
//! What keeps it finite (and why that hides nothing):
//! - time is not in the state but as what a call would see of it: whether a leader was heard lately,
//!   R11's wait, an overdue part of a snapshot. Silences end whenever they like (`Silence`, within
//!   a budget), so CheckQuorum may end any leadership at any moment, and a campaign begin;
//! - that the shortest silence has passed matters to a voter only when it is asked for its vote: it
//!   passes then, or not (`Deliver`, `quiet`);
//! - messages are a set: a second copy is a message that arrives twice, which has a budget;
//! - one that can have no effect any more, by ballots and roles, is dropped; one whose arrival would
//!   change nothing at this moment does not arrive: all that can happen without it can happen with it;
//! - a crash and the start after it are one step: one that is down is one that nothing reaches;
//! - in some scopes records are durable at once (nobody crashes there: slow writes are slow
//!   messages), and a campaign's `PreVote`s are asked and answered in the step that begins it;
//! - where voters change, a sign of life or an answer that says no more than a newer one on the same
//!   way is lost: what old ones do when they come late, the other scopes show;
//! - members that stand alike at the beginning do not all campaign.
pub mod action;
pub mod check;
pub mod collapsed;
pub mod effects;
pub mod heal;
pub mod mail;
pub mod node;
pub mod past;
pub mod scope;
pub mod state;
pub mod story;
