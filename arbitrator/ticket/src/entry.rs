//! What the ledger is made of: entries, and the decisions in them.
//!
//! A batch is applied whole: R10 puts the expiry of a dead site's session and all grants that
//! follow from it into one, so the death of a site with 10,000 tickets costs one round.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::configuration::Configuration;
use crate::ids::{
    AttributeName, Ballot, Incarnation, LogIndex, MemberId, MemberName, SessionId, Term, TicketId,
    TicketName,
};

/// One entry of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Position, from 1 (the founding configuration).
    pub index: LogIndex,
    /// Ballot under which a leader appended it.
    pub ballot: Ballot,
    /// The leader's wall clock when it appended, for people.
    pub wall_ms: u64,
    /// What it decides.
    pub payload: Payload,
}

/// What an entry decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Payload {
    /// A new leader's first entry (R7).
    Noop,
    /// A new configuration; in force from its append on.
    Configuration(Box<Configuration>),
    /// Decisions on sessions and tickets, applied in order and whole.
    Batch(
        #[serde(
            deserialize_with = "crate::bounded::list::<_, _, { crate::limits::MAX_BATCH_OPS }>"
        )]
        Vec<Op>,
    ),
}

/// What must hold before a ticket of a lost holder is granted again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Regrant {
    /// The promises have run out.
    #[default]
    Lapse,
    /// A fence device confirmed the power-off of every node that could run dependents.
    Fenced,
    /// An operator confirmed that the old holder is down.
    Operator,
}

/// Who starts a takeover.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// People only.
    #[default]
    Manual,
    /// Records what it would have done.
    Observe,
    /// Asks; silence means no.
    Confirm,
    /// By itself.
    Auto,
}

/// What a site's dependents do when the ticket is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LossPolicy {
    /// They are stopped.
    #[default]
    Stop,
    /// The node is fenced.
    Fence,
    /// They keep running unguarded: allowed for manual tickets only, and said in every status line.
    Freeze,
}

/// The policy of one ticket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Who starts a takeover.
    pub mode: Mode,
    /// Proof needed before the ticket of a lost holder is granted again.
    pub regrant: Regrant,
    /// What dependents do on loss.
    pub loss: LossPolicy,
    /// Sites that may hold it, most wanted first; empty: all sites, by name.
    pub prefer: Vec<MemberName>,
    /// After one automatic move it holds for this long; zero: no such window.
    pub one_move_per: Duration,
    /// Attributes that a site must have, with the value, to be granted the ticket.
    pub require: BTreeMap<AttributeName, String>,
    /// Greatest replication lag of a site that may take over; `None`: not asked.
    pub max_lag: Option<Duration>,
    /// Stop budget B of this ticket; at most the B of the timing.
    pub stop_budget: Duration,
}

/// On which proof a grant rests; goes into the audit history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proof {
    /// Nobody held it before.
    New,
    /// Stopped, confirmed and released by the last holder (R17).
    Released,
    /// A majority's promises had run out (R8).
    Lapsed,
    /// Power-off of every node, confirmed by a device.
    Fenced,
    /// Power-off confirmed by an operator.
    Operator,
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Proof::New => "new",
            Proof::Released => "released",
            Proof::Lapsed => "lapsed",
            Proof::Fenced => "fenced",
            Proof::Operator => "operator",
        })
    }
}

/// What a fence vote covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum FenceTarget {
    /// A whole session.
    Session(SessionId),
    /// One ticket, with the term being taken back, of a session that lives on.
    Ticket(TicketId, Term),
}

/// A voter's durable word never to promise the target again (R2, R3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FenceVote {
    /// Who votes.
    pub voter: MemberId,
    /// What is fenced.
    pub target: FenceTarget,
    /// Why it may: `Lapsed`, or `Fenced`/`Operator` where a proof stood in for the timer.
    pub basis: Proof,
}

/// Where an attribute belongs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Scope {
    /// To a site as a whole.
    Site(MemberName),
    /// To a ticket at a site.
    TicketAt(TicketId, MemberName),
}

/// What an operator declares a site to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SiteState {
    /// In normal service.
    #[default]
    Normal,
    /// Planned outage: nothing is granted to it.
    Outage,
    /// Lost: nothing is granted to it, and the operator answers for its being down.
    Disaster,
    /// Cut off by decision: nothing is granted to it.
    Disconnect,
}

/// Why a move stands still, or who asked for it: goes into the history.
pub type Note = String;

/// One decision.
#[allow(missing_docs)] // the fields are the protocol's own words; each variant says what they do
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// A site's agent begins a session. With `supersedes`, the tickets of that session (which must be
    /// open and of the same site) are handed over within the site, terms unchanged.
    OpenSession { site: MemberName, incarnation: Incarnation, supersedes: Option<SessionId> },
    /// A session ends by itself: it holds nothing any more.
    CloseSession { session: SessionId },
    /// A session is over; the votes are the evidence (R8).
    Expire { session: SessionId, votes: Vec<FenceVote> },
    /// The ticket goes to this session; its term is this entry's index (R9).
    Grant { ticket: TicketId, to: SessionId, automatic: bool },
    /// Its holder gives the ticket up; stopped and confirmed (R17).
    Release { ticket: TicketId, session: SessionId, term: Term },
    /// The holder is asked to stop and release; the successor is named, or nobody for a revoke.
    Handover { ticket: TicketId, term: Term, to: Option<MemberName>, note: Note },
    /// A handover that has not ended is called off: the holder keeps the ticket.
    CancelHandover { ticket: TicketId, term: Term, note: Note },
    /// The ticket is taken back from its live holder: from here on no voter extends it.
    TakeBack { ticket: TicketId, term: Term, note: Note },
    /// It has been taken back; the votes are the evidence.
    ExpireTicket { ticket: TicketId, term: Term, votes: Vec<FenceVote> },
    /// Proof that every node of an ended session is down, for tickets that wait for one.
    ConfirmDown { session: SessionId, proof: Proof, note: Note },
    /// A ticket is made, or its policy changed.
    SetTicket { name: TicketName, policy: Policy },
    /// A free ticket is removed.
    RemoveTicket { ticket: TicketId },
    /// No automatic move of this ticket until `Resume`.
    Hold { ticket: TicketId, note: Note },
    /// Ends a hold or a one-move window.
    Resume { ticket: TicketId },
    /// Records what `auto` would have done (mode `observe`), or asks for a word (mode `confirm`).
    Propose { ticket: TicketId, to: MemberName, note: Note },
    /// Sets an attribute; `None` removes it.
    SetAttribute { scope: Scope, name: AttributeName, value: Option<String> },
    /// An operator's word on a site.
    DeclareSite { site: MemberName, state: SiteState, note: Note },
}
