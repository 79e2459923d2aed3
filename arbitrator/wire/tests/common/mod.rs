//! One message of each kind.

use std::time::Duration;

use tierce_ticket::command::{Command, Outcome};
use tierce_ticket::durable::Age;
use tierce_ticket::entry::{FenceTarget, FenceVote, Proof};
use tierce_ticket::ids::{
    ClusterId, ConfigIndex, LogIndex, MemberId, RenewalSeq, RequestId, SessionId, Term, TicketId,
};
use tierce_ticket::ledger::LedgerMessage;
use tierce_ticket::message::{Answer, Envelope, Message, Refused, Renew, Verdict};
use tierce_ticket::time::VoterTime;

pub(crate) fn envelope(message: Message) -> Envelope {
    Envelope {
        cluster: ClusterId([0xC1; 16]),
        from: MemberId(2),
        age: Age { opened: 3, written: 77 },
        message,
    }
}

pub(crate) fn answer() -> Message {
    Message::Answer(Answer {
        session: SessionId(300),
        seq: RenewalSeq(7),
        clock: VoterTime::from_nanos(1_000_000),
        verdict: Verdict::Promised {
            promise: Duration::from_secs(1),
            config_index: ConfigIndex(1),
            revoking: vec![(TicketId(9), Term(44))],
        },
    })
}

pub(crate) fn samples() -> Vec<Message> {
    let target = FenceTarget::Session(SessionId(300));
    let vote = FenceVote { voter: MemberId(2), target, basis: Proof::Lapsed };
    vec![
        Message::Renew(Renew { session: SessionId(300), seq: RenewalSeq(7) }),
        answer(),
        Message::Answer(Answer {
            session: SessionId(300),
            seq: RenewalSeq(8),
            clock: VoterTime::from_nanos(5),
            verdict: Verdict::Refused(Refused::Fenced),
        }),
        Message::FenceRequest { target, device_proof: true },
        Message::FenceReply { target, vote: Some(vote), wait: None },
        Message::FenceReply { target, vote: None, wait: Some(Duration::from_millis(300)) },
        Message::Ledger(LedgerMessage::TimeoutNow { ballot: tierce_ticket::ids::Ballot(5) }),
        Message::Command {
            request: RequestId(4),
            command: Command::Resume { name: "web".parse().expect("a name") },
        },
        Message::CommandDone {
            request: RequestId(4),
            outcome: Outcome::Done { index: LogIndex(12), term: Some(Term(12)) },
        },
    ]
}
