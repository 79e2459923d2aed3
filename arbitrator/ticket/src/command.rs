//! What operators and agents ask of the ledger, and what becomes of it.

use serde::{Deserialize, Serialize};

use crate::configuration::Role;
use crate::entry::{Note, Policy, Proof, Scope, SiteState};
use crate::ids::{
    AttributeName, Incarnation, LogIndex, MemberName, SessionId, StoreId, Term, TicketId,
    TicketName,
};
use crate::timing::Timing;

/// A command. Each is decided by one ledger entry at most.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // fields repeat those of the operations
pub enum Command {
    /// Makes a ticket or changes its policy.
    SetTicket { name: TicketName, policy: Policy },
    /// Removes a free ticket.
    RemoveTicket { name: TicketName },
    /// Grants a free ticket to a site.
    Grant { name: TicketName, to: MemberName },
    /// Asks the holder to stop and give the ticket up.
    Revoke { name: TicketName, note: Note },
    /// Takes the ticket from a holder that lives but does not give it up.
    TakeBack { name: TicketName, note: Note },
    /// Hands the ticket over to another site.
    Move { name: TicketName, to: MemberName, note: Note },
    /// Calls a handover off.
    CancelMove { name: TicketName, note: Note },
    /// No automatic move until `Resume`.
    Hold { name: TicketName, note: Note },
    /// Ends a hold.
    Resume { name: TicketName },
    /// Sets or removes an attribute.
    SetAttribute { scope: AttributeScope, name: AttributeName, value: Option<String> },
    /// Declares what a site is.
    DeclareSite { site: MemberName, state: SiteState, note: Note },
    /// An operator's or a device's word that an ended session's nodes are down.
    ConfirmDown { site: MemberName, proof: Proof, note: Note },
    /// Admits a member that lost its store, or a new one (R5, R11).
    Admit { name: MemberName, role: Role, store: StoreId, addresses: Vec<String> },
    /// Removes a voter (R11).
    Remove { name: MemberName },
    /// Changes the lease times.
    SetTiming(Timing),
    /// Reads: answered when this member's docket is as new as the ledger was when asked (ReadIndex).
    Read,
    /// An agent opens its session.
    OpenSession { site: MemberName, incarnation: Incarnation, supersedes: Option<SessionId> },
    /// An agent ends its session.
    CloseSession { session: SessionId },
    /// A holder has stopped what depends on the ticket and gives it up (R17).
    Released { ticket: TicketId, session: SessionId, term: Term },
}

/// Scope of an attribute, by names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AttributeScope {
    /// A site as a whole.
    Site(MemberName),
    /// A ticket at a site.
    TicketAt(TicketName, MemberName),
}

impl AttributeScope {
    /// With the ticket's number, once it is known.
    pub(crate) fn resolve(&self, id: impl Fn(&TicketName) -> Option<TicketId>) -> Option<Scope> {
        match self {
            AttributeScope::Site(s) => Some(Scope::Site(s.clone())),
            AttributeScope::TicketAt(t, s) => id(t).map(|t| Scope::TicketAt(t, s.clone())),
        }
    }
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Decided at this index. For a grant: with this term. For a move, revoke or take-back: begun;
    /// its end shows in the docket.
    Done {
        /// Ledger index of the decision (for reads: as new as this).
        index: LogIndex,
        /// Term of a grant.
        term: Option<Term>,
    },
    /// Not done, and nothing has changed.
    Refused(Refusal),
    /// It may or may not be decided: the leader was lost, or the wait ended.
    Unknown {
        /// Why.
        why: String,
    },
}

/// Why a command was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{what}; next: {next}")]
pub struct Refusal {
    /// Which kind.
    pub code: RefusalCode,
    /// What stands against it.
    pub what: String,
    /// What to do.
    pub next: String,
}

/// Kinds of refusals; exit codes follow from them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalCode {
    /// No leader, so no majority.
    NoQuorum,
    /// No such ticket, site or session.
    NoSuch,
    /// Not in this state.
    NotNow,
    /// Would be unsafe.
    Unsafe,
    /// Malformed or out of bounds.
    Invalid,
    /// A bound of the member is reached; later it may work.
    Busy,
}

impl Refusal {
    pub(crate) fn new(code: RefusalCode, what: impl Into<String>, next: impl Into<String>) -> Self {
        Self { code, what: what.into(), next: next.into() }
    }
}
