//! The format: golden bytes that must not change, both versions; hostile input is in `fuzz.rs`.

mod common;

use std::time::Duration;

use common::{answer, envelope, samples};
use tierce_ticket::ids::{ConfigIndex, RenewalSeq, SessionId};
use tierce_ticket::message::{Answer, Message, Renew, Verdict};
use tierce_ticket::time::VoterTime;
use tierce_wire::{MAX_MESSAGE_BYTES, Version, WireError, decode, encode};

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
    let golden = format!("020807060504030201{cluster}02034d04ac0207");
    assert_eq!(hex(&encode(Version::V2, 0x0102_0304_0506_0708, &renew).expect("encodes")), golden);
    let v1 = format!("010807060504030201{cluster}0204ac0207");
    assert_eq!(hex(&encode(Version::V1, 0x0102_0304_0506_0708, &renew).expect("encodes")), v1);
    let answer = envelope(answer());
    let golden =
        format!("020000000000000000{cluster}02034d05ac0207c0843d000100010109 2c").replace(' ', "");
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
