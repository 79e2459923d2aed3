//! What members say to each other. Encoding and versions are the wire crate's.
//!
//! The sender's name comes from its certificate, never from the message; `from` is checked against
//! it. A message of another cluster, or of a member number that is not that name's, is refused
//! before any state is touched.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::command::{Command, Outcome};
use crate::configuration::{Configuration, Role};
use crate::durable::Age;
use crate::entry::{FenceTarget, FenceVote};
use crate::ids::{
    ClusterId, ConfigIndex, Incarnation, MemberId, RenewalSeq, RequestId, SessionId, StoreId, Term,
    TicketId,
};
use crate::ledger::{LedgerMessage, Snapshot};
use crate::limits;
use crate::time::VoterTime;

/// One message with its address of origin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The sender's cluster; all zero before it has one.
    pub cluster: ClusterId,
    /// The sender's number there; 0 before it has one.
    pub from: MemberId,
    /// How far the sender's store has come when this leaves (R5): what is on its disk, and in which
    /// opening, for this may come late. All zero: not told.
    pub age: Age,
    /// What it says.
    pub message: Message,
}

/// How a message travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// May be lost: renewals and their answers.
    Datagram,
    /// In order, once, while the connection lives.
    Stream,
}

/// All messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// First on every connection, and again when something in it has changed.
    Hello(Hello),
    /// The founder brings the founding configuration.
    Founding(Configuration),
    /// The leader admits a member that was not in the cluster (R5): its number and a state to begin with.
    Admitted {
        /// The receiver's number.
        you: MemberId,
        /// State to begin with.
        snapshot: Snapshot,
    },
    /// Ledger traffic.
    Ledger(LedgerMessage),
    /// A session renews its promises.
    Renew(Renew),
    /// A voter answers.
    Answer(Answer),
    /// The leader asks for a fence vote (R2).
    FenceRequest {
        /// What to fence.
        target: FenceTarget,
        /// A fence device has confirmed power-off of every node of the session.
        device_proof: bool,
    },
    /// A voter's answer: its durable vote, or how long its timer still runs.
    FenceReply {
        /// What was asked.
        target: FenceTarget,
        /// The vote, if it may be given.
        vote: Option<FenceVote>,
        /// Else the time left on the voter's timers.
        wait: Option<Duration>,
    },
    /// A command on its way to the leader.
    Command {
        /// Number at the member that took it in.
        request: RequestId,
        /// The command.
        command: Command,
    },
    /// What became of it.
    CommandDone {
        /// The same number.
        request: RequestId,
        /// The outcome.
        outcome: Outcome,
    },
    /// A site's readiness to hold tickets; replaces the one before.
    Readiness(Readiness),
}

/// Who speaks, with which store and which file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Site or arbitrator.
    pub role: Role,
    /// Identity of the sender's store.
    pub store: StoreId,
    /// How often that store was opened: a store that comes back with less is an older copy (R5).
    pub opened: u64,
    /// Which start of the process.
    pub boot: Incarnation,
    /// Digest of the part of the sender's file that must be equal; zero for arbitrators.
    pub digest: [u8; 16],
    /// Newest configuration that it knows to be final.
    pub config_index: ConfigIndex,
    /// The sender's wall clock, milliseconds since 1970, to tell people of skew.
    pub wall_ms: u64,
    /// Answer to the receiver's own hello, when this is one, and which start of the receiver had
    /// sent that: an answer to its hello before a restart says nothing of it as it is now.
    pub reply: Option<(Incarnation, HelloReply)>,
}

/// What a member says to another's hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HelloReply {
    /// Its store is the one that the cluster knows, and no older copy as far as is seen here.
    Known,
    /// Its store was seen to have come further: this one is an older copy, or a second one (R5).
    Older {
        /// How far.
        seen: Age,
    },
    /// Its store is none of the cluster's: it must be admitted (R5).
    Stranger,
}

/// A renewal: one for all tickets of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renew {
    /// Which session.
    pub session: SessionId,
    /// Number of this renewal.
    pub seq: RenewalSeq,
}

/// The answer to a renewal (R1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Which session.
    pub session: SessionId,
    /// Which renewal.
    pub seq: RenewalSeq,
    /// The voter's clock when it answered, for the clock audit.
    pub clock: VoterTime,
    /// Promise or refusal.
    pub verdict: Verdict,
}

/// What a voter says to a renewal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// R1: promised for `promise` from receipt.
    Promised {
        /// T.
        promise: Duration,
        /// Newest configuration in the voter's log.
        config_index: ConfigIndex,
        /// Tickets of this session that this answer does not extend.
        #[serde(deserialize_with = "crate::bounded::list::<_, _, { limits::MAX_REVOKING }>")]
        revoking: Vec<(TicketId, Term)>,
    },
    /// No promise.
    Refused(Refused),
}

/// Why a voter makes no promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refused {
    /// It has not seen the session opened; it may be behind.
    UnknownSession,
    /// It has fenced the session (R3).
    Fenced,
    /// The session has ended.
    Ended,
    /// It may not promise yet: its store is not confirmed, or a durable write is due first.
    NotReady,
}

/// Whether a site could run tickets now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// The session that would hold.
    pub session: SessionId,
    /// Why the site as a whole is not ready, if so.
    pub not_ready: Option<String>,
    /// Tickets with a finding of their own; all others are ready.
    #[serde(deserialize_with = "crate::bounded::list::<_, _, { limits::MAX_TICKETS }>")]
    pub tickets: Vec<(TicketId, TicketReadiness)>,
}

/// One ticket's readiness at a site.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketReadiness {
    /// A gate's refusal, in words.
    pub blocked: Option<String>,
    /// Replication lag as measured there.
    pub lag: Option<Duration>,
}
