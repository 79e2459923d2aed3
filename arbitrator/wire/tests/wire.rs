//! The format: golden bytes that must not change, both versions, and hostile input.

use std::time::Duration;

use proptest::prelude::*;
use tierce_ticket::command::{Command, Outcome};
use tierce_ticket::entry::{FenceTarget, FenceVote, Proof};
use tierce_ticket::ids::{
    ClusterId, ConfigIndex, LogIndex, MemberId, RenewalSeq, RequestId, SessionId, Term, TicketId,
};
use tierce_ticket::ledger::LedgerMessage;
use tierce_ticket::message::{Answer, Envelope, Message, Refused, Renew, Verdict};
use tierce_ticket::time::VoterTime;
use tierce_wire::{MAX_MESSAGE_BYTES, Version, WireError, decode, encode};

fn envelope(message: Message) -> Envelope {
    Envelope { cluster: ClusterId([0xC1; 16]), from: MemberId(2), message }
}

fn answer() -> Message {
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

fn samples() -> Vec<Message> {
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

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, b| {
        write!(text, "{b:02x}").expect("a string takes everything");
        text
    })
}

/// These bytes are the format. If this test fails, the change needs a new version.
#[test]
fn golden_bytes_of_both_versions() {
    let renew = envelope(Message::Renew(Renew { session: SessionId(300), seq: RenewalSeq(7) }));
    let cluster = "c1".repeat(16);
    let golden = format!("020807060504030201{cluster}0204ac0207");
    assert_eq!(hex(&encode(Version::V2, 0x0102_0304_0506_0708, &renew).expect("encodes")), golden);
    let v1 = golden.replacen("02", "01", 1);
    assert_eq!(hex(&encode(Version::V1, 0x0102_0304_0506_0708, &renew).expect("encodes")), v1);
    let answer = envelope(answer());
    let golden =
        format!("020000000000000000{cluster}0205ac0207c0843d000100010109 2c").replace(' ', "");
    assert_eq!(hex(&encode(Version::V2, 0, &answer).expect("encodes")), golden);
    let golden = format!("010000000000000000{cluster}0205ac0207000100010109 2c").replace(' ', "");
    assert_eq!(hex(&encode(Version::V1, 0, &answer).expect("encodes")), golden);
}

#[test]
fn every_message_survives_this_version() {
    for m in samples() {
        let bytes = encode(Version::V2, 77, &envelope(m.clone())).expect("encodes");
        let back = decode(&bytes).expect("decodes");
        assert_eq!((back.version, back.hlc, back.envelope.message), (Version::V2, 77, m));
    }
}

#[test]
fn the_version_before_loses_only_the_voters_clock() {
    for m in samples() {
        let bytes = encode(Version::V1, 77, &envelope(m.clone())).expect("encodes");
        let back = decode(&bytes).expect("decodes").envelope.message;
        match (back, m) {
            (Message::Answer(back), Message::Answer(sent)) => {
                assert_eq!(back.clock, VoterTime::UNKNOWN);
                assert_eq!(
                    (back.session, back.seq, back.verdict),
                    (sent.session, sent.seq, sent.verdict)
                );
            }
            (back, sent) => assert_eq!(back, sent),
        }
    }
}

#[test]
fn what_is_no_message_is_named() {
    let good = encode(Version::V2, 1, &envelope(answer())).expect("encodes");
    assert_eq!(decode(&[]), Err(WireError::Short(0)));
    assert_eq!(decode(&good[..8]), Err(WireError::Short(8)));
    let mut other = good.clone();
    other[0] = 9;
    assert_eq!(decode(&other), Err(WireError::Version(9)));
    let mut long = good.clone();
    long.push(0);
    assert_eq!(decode(&long), Err(WireError::Trailing(1)));
    assert_eq!(
        decode(&vec![2; MAX_MESSAGE_BYTES + 1]),
        Err(WireError::Large(MAX_MESSAGE_BYTES + 1))
    );
    for cut in 9..good.len() {
        assert_eq!(decode(&good[..cut]), Err(WireError::Malformed), "cut at {cut}");
    }
}

#[test]
fn a_promise_longer_than_any_configuration_allows_is_refused() {
    let message = Message::Answer(Answer {
        session: SessionId(1),
        seq: RenewalSeq(1),
        clock: VoterTime::from_nanos(1),
        verdict: Verdict::Promised {
            promise: Duration::from_hours(24),
            config_index: ConfigIndex(1),
            revoking: vec![],
        },
    });
    let bytes = encode(Version::V2, 1, &envelope(message)).expect("encodes");
    assert_eq!(decode(&bytes), Err(WireError::Bounds("a promise")));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    /// The fuzz target as a property: total on any bytes, and what decodes encodes again.
    #[test]
    fn any_bytes_decode_to_a_message_or_an_error(mut bytes in prop::collection::vec(any::<u8>(), 0..400), valid in any::<bool>()) {
        if valid && !bytes.is_empty() {
            bytes[0] = 1 + bytes[0] % 2;
        }
        if let Ok(d) = decode(&bytes) {
            prop_assert!(encode(d.version, d.hlc, &d.envelope).is_ok());
        }
    }

    #[test]
    fn a_message_with_flipped_bytes_never_panics(which in 0usize..9, at in any::<prop::sample::Index>(), xor in 1u8..) {
        let mut bytes = encode(Version::V2, 3, &envelope(samples()[which].clone())).expect("encodes");
        let at = at.index(bytes.len());
        bytes[at] ^= xor;
        let _ = decode(&bytes);
    }
}
