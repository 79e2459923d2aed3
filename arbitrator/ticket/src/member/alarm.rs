//! What somebody should look at: each says what is, what follows, and what to do.

use crate::durable::Age;
use crate::ids::{MemberName, Term};

/// What somebody should look at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Alarm {
    /// R5: an older copy of this store, or a second running copy.
    #[error(
        "this store is an older copy: it has come to {own}, and {by} has seen {seen}; \
         it refuses to take part; move it away and re-admit this member under a new store"
    )]
    OlderStore {
        /// How far this store has come.
        own: Age,
        /// How far it had come as seen elsewhere.
        seen: Age,
        /// By whom.
        by: MemberName,
    },
    /// R5: the cluster exists and does not know this store.
    #[error(
        "the cluster exists and does not know this store ({by} says so); until it is admitted this \
         member takes no part; next: tierce sites admit NAME at a member in service"
    )]
    NotAdmitted {
        /// Who said so.
        by: MemberName,
    },
    /// Another member presented an older copy of its store.
    #[error(
        "{member} came with an older copy of its store (it comes with {told}, seen was {seen}); \
         refused (R5)"
    )]
    PeerOlder {
        /// Which member.
        member: MemberName,
        /// How far it says that it has come.
        told: Age,
        /// How far it had come.
        seen: Age,
    },
    /// The configuration no longer contains this member.
    #[error("this member was removed from the cluster's configuration; it takes no part any more")]
    Removed,
    /// Another site's file differs in what must be equal.
    #[error(
        "{member} has a different configuration file: digest {theirs}, here {ours}; compare with tierce config diff"
    )]
    DigestDiffers {
        /// Which member.
        member: MemberName,
        /// Its digest.
        theirs: String,
        /// Ours.
        ours: String,
    },
    /// Wall clocks differ; decides nothing, but logs will confuse people.
    #[error(
        "the wall clock of {member} differs by {by_ms} ms; nothing is decided by it, but logs will not line up"
    )]
    WallSkew {
        /// Which member.
        member: MemberName,
        /// Theirs less ours.
        by_ms: i64,
    },
    /// The clock audit found a voter's clock beyond rho.
    #[error(
        "the clock of {member} differs by {excess_us} us over {over_ms} ms beyond the bound rho"
    )]
    ClockBeyondBound {
        /// Which voter.
        member: MemberName,
        /// Excess beyond the bound, microseconds; positive: it went ahead of ours.
        excess_us: i64,
        /// Over which time.
        over_ms: u64,
    },
    /// This node's own clock is at fault: it stops its dependents.
    #[error(
        "this node's clock is not to be trusted: {0}; everything is stopped and no lease is renewed; restart the agent once the cause is known"
    )]
    OwnClock(String),
    /// The ledger refused something that must not happen.
    #[error("the ledger refused an impossible request: {0}")]
    Ledger(String),
    /// Tickets moved by themselves, by one decision: a lost site with 10,000 tickets is one alarm.
    #[error(
        "{} moved to {to} by {} (term {term})",
        named(tickets, *more),
        if tickets.len() + more == 1 { "itself" } else { "themselves" }
    )]
    Moved {
        /// Names of the first of them.
        tickets: Vec<String>,
        /// How many more.
        more: usize,
        /// The new holder.
        to: MemberName,
        /// Their term.
        term: Term,
    },
}

/// Tickets in words.
fn named(tickets: &[String], more: usize) -> String {
    let list = tickets.join(", ");
    match (tickets.len(), more) {
        (1, 0) => format!("ticket {list}"),
        (_, 0) => format!("tickets {list}"),
        _ => format!("tickets {list} and {more} more"),
    }
}
