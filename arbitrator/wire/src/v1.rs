//! Version 1 of the format: as version 2, but a voter's answer carries no clock, and nobody tells
//! how many records its store has (R5).
//!
//! Only what differs is written again; the order of the variants is the format.

use serde::{Deserialize, Serialize};
use tierce_ticket::command::{Command, Outcome};
use tierce_ticket::configuration::Configuration;
use tierce_ticket::durable::Age;
use tierce_ticket::entry::{FenceTarget, FenceVote};
use tierce_ticket::ids::{ClusterId, MemberId, RenewalSeq, RequestId, SessionId};
use tierce_ticket::ledger::{LedgerMessage, Snapshot};
use tierce_ticket::message::{self as v2, Hello, Readiness, Renew, Verdict};
use tierce_ticket::time::VoterTime;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Envelope {
    cluster: ClusterId,
    from: MemberId,
    message: Message,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Answer {
    session: SessionId,
    seq: RenewalSeq,
    verdict: Verdict,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Message {
    Hello(Hello),
    Founding(Configuration),
    Admitted { you: MemberId, snapshot: Snapshot },
    Ledger(LedgerMessage),
    Renew(Renew),
    Answer(Answer),
    FenceRequest { target: FenceTarget, device_proof: bool },
    FenceReply { target: FenceTarget, vote: Option<FenceVote>, wait: Option<std::time::Duration> },
    Command { request: RequestId, command: Command },
    CommandDone { request: RequestId, outcome: Outcome },
    Readiness(Readiness),
}

impl From<v2::Envelope> for Envelope {
    fn from(e: v2::Envelope) -> Self {
        let message = match e.message {
            v2::Message::Hello(h) => Message::Hello(h),
            v2::Message::Founding(c) => Message::Founding(c),
            v2::Message::Admitted { you, snapshot } => Message::Admitted { you, snapshot },
            v2::Message::Ledger(m) => Message::Ledger(m),
            v2::Message::Renew(r) => Message::Renew(r),
            v2::Message::Answer(a) => {
                Message::Answer(Answer { session: a.session, seq: a.seq, verdict: a.verdict })
            }
            v2::Message::FenceRequest { target, device_proof } => {
                Message::FenceRequest { target, device_proof }
            }
            v2::Message::FenceReply { target, vote, wait } => {
                Message::FenceReply { target, vote, wait }
            }
            v2::Message::Command { request, command } => Message::Command { request, command },
            v2::Message::CommandDone { request, outcome } => {
                Message::CommandDone { request, outcome }
            }
            v2::Message::Readiness(r) => Message::Readiness(r),
        };
        Self { cluster: e.cluster, from: e.from, message }
    }
}

impl From<Envelope> for v2::Envelope {
    fn from(e: Envelope) -> Self {
        let message = match e.message {
            Message::Hello(h) => v2::Message::Hello(h),
            Message::Founding(c) => v2::Message::Founding(c),
            Message::Admitted { you, snapshot } => v2::Message::Admitted { you, snapshot },
            Message::Ledger(m) => v2::Message::Ledger(m),
            Message::Renew(r) => v2::Message::Renew(r),
            Message::Answer(a) => v2::Message::Answer(v2::Answer {
                session: a.session,
                seq: a.seq,
                clock: VoterTime::UNKNOWN,
                verdict: a.verdict,
            }),
            Message::FenceRequest { target, device_proof } => {
                v2::Message::FenceRequest { target, device_proof }
            }
            Message::FenceReply { target, vote, wait } => {
                v2::Message::FenceReply { target, vote, wait }
            }
            Message::Command { request, command } => v2::Message::Command { request, command },
            Message::CommandDone { request, outcome } => {
                v2::Message::CommandDone { request, outcome }
            }
            Message::Readiness(r) => v2::Message::Readiness(r),
        };
        Self { cluster: e.cluster, from: e.from, age: Age::default(), message }
    }
}
