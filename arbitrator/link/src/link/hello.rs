//! The greeting: the first frame each way, by which two members agree on one connection.
//!
//! Both of two sites dial each other, so two connections may come up at once, and each side may
//! hold one that the other has given up. Closing the wrong one would make the pair flap. So each
//! dialler says what it knows: which run of its process this is, which of its dials, and which of
//! the *other's* dials it had last accepted. From that, [`arbitrate`] decides alike at both ends:
//! 1. a peer that has restarted wins with its new connection: the old one is dead;
//! 2. of two dials of one side, the later;
//! 3. of two dials of different sides, the one by the smaller name; unless the other side had
//!    accepted that one before it dialled, which means that it has dropped it since.

use bytes::Bytes;

use crate::frame::frame_header;
use crate::identity::Name;
use crate::limits::MAX_HELLO_BYTES;

const MAGIC: [u8; 4] = *b"TRCE";
const LEN: usize = 4 + 4 * 8;

/// One run of a process: random, so that a restart is told from a reconnection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Incarnation(pub(super) u64);

/// A dial of one run, counted from 1; 0 is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct DialSeq(pub(super) u64);

/// The newest dial of the other side that one has accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Accepted {
    pub(super) run: Incarnation,
    pub(super) dial: DialSeq,
}

/// What stands in the first frame. Only the dialler's last two fields mean anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) run: Incarnation,
    pub(super) dial: DialSeq,
    pub(super) accepted: Accepted,
}

impl Hello {
    /// The whole frame with its header.
    pub(super) fn frame(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(4 + LEN);
        // LEN is far below the bound.
        out.extend(frame_header(LEN, MAX_HELLO_BYTES).unwrap_or_default());
        out.extend(MAGIC);
        for field in [self.run.0, self.dial.0, self.accepted.run.0, self.accepted.dial.0] {
            out.extend(field.to_be_bytes());
        }
        out
    }

    /// Reads a frame's body. Bytes after what we know are a newer version's and are left alone.
    pub(super) fn decode(body: &Bytes) -> Option<Self> {
        let rest = body.strip_prefix(&MAGIC)?;
        let field = |i: usize| -> Option<u64> {
            Some(u64::from_be_bytes(rest.get(i * 8..i * 8 + 8)?.try_into().ok()?))
        };
        Some(Self {
            run: Incarnation(field(0)?),
            dial: DialSeq(field(1)?),
            accepted: Accepted { run: Incarnation(field(2)?), dial: DialSeq(field(3)?) },
        })
    }
}

/// What one side knows of a connection when it decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claim {
    /// Whether this side dialled it.
    pub(super) ours: bool,
    /// The run of the peer's process at the other end.
    pub(super) peer_run: Incarnation,
    /// Which of the dialler's dials it is.
    pub(super) dial: DialSeq,
    /// Of the peer's dials: the newest of *ours*, of this run, that it had accepted before.
    pub(super) peer_had: DialSeq,
}

/// Which of two connections stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    Current,
    New,
}

/// Decides between the connection in use and a new one.
pub(super) fn arbitrate(us: &Name, peer: &Name, current: &Claim, new: &Claim) -> Keep {
    if new.peer_run != current.peer_run {
        return Keep::New;
    }
    if new.ours == current.ours {
        return if new.dial > current.dial { Keep::New } else { Keep::Current };
    }
    let new_is_preferred = new.ours == (us < peer);
    let peer_dropped_current = !new.ours && new.peer_had >= current.dial;
    if new_is_preferred || peer_dropped_current { Keep::New } else { Keep::Current }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{FRAME_HEADER_BYTES, FrameDecoder};
    use proptest::prelude::*;
    use tierce_tests::fuzz;

    fn claim(ours: bool, run: u64, dial: u64, had: u64) -> Claim {
        let (peer_run, dial, peer_had) = (Incarnation(run), DialSeq(dial), DialSeq(had));
        Claim { ours, peer_run, dial, peer_had }
    }

    fn names() -> (Name, Name) {
        (Name::new("a").unwrap(), Name::new("b").unwrap())
    }

    #[test]
    fn two_simultaneous_dials_leave_the_same_one_at_both_ends_in_every_order() {
        let (a, b) = names();
        // By a: C1 is ours. By b: C1 is the peer's. Neither had accepted anything.
        let (c1_at_a, c2_at_a) = (claim(true, 7, 1, 0), claim(false, 7, 1, 0));
        let (c1_at_b, c2_at_b) = (claim(false, 8, 1, 0), claim(true, 8, 1, 0));
        assert_eq!(arbitrate(&a, &b, &c1_at_a, &c2_at_a), Keep::Current);
        assert_eq!(arbitrate(&a, &b, &c2_at_a, &c1_at_a), Keep::New);
        assert_eq!(arbitrate(&b, &a, &c1_at_b, &c2_at_b), Keep::Current);
        assert_eq!(arbitrate(&b, &a, &c2_at_b, &c1_at_b), Keep::New);
    }

    #[test]
    fn a_peer_that_dropped_the_preferred_connection_is_heard() {
        let (a, b) = names();
        let current = claim(true, 7, 3, 0);
        assert_eq!(arbitrate(&a, &b, &current, &claim(false, 7, 2, 3)), Keep::New);
        assert_eq!(arbitrate(&a, &b, &current, &claim(false, 7, 2, 2)), Keep::Current);
    }

    #[test]
    fn a_restarted_peer_and_a_later_dial_win() {
        let (a, b) = names();
        assert_eq!(arbitrate(&a, &b, &claim(true, 7, 3, 0), &claim(false, 9, 1, 0)), Keep::New);
        assert_eq!(arbitrate(&a, &b, &claim(false, 7, 3, 0), &claim(false, 7, 4, 0)), Keep::New);
        assert_eq!(
            arbitrate(&a, &b, &claim(false, 7, 4, 0), &claim(false, 7, 3, 0)),
            Keep::Current
        );
    }

    proptest! {
        #[test]
        fn hellos_survive_the_wire(run: u64, dial: u64, had_run: u64, had: u64) {
            let hello = Hello {
                run: Incarnation(run),
                dial: DialSeq(dial),
                accepted: Accepted { run: Incarnation(had_run), dial: DialSeq(had) },
            };
            let frame = hello.frame();
            prop_assert_eq!(&frame[..4], &(LEN as u32).to_be_bytes());
            prop_assert_eq!(Hello::decode(&Bytes::from(frame[4..].to_vec())), Some(hello));
        }
    }

    /// A stream from its first byte on, in pieces as the transport may bring them: the greeting,
    /// then frames.
    #[test]
    fn any_stream_is_a_greeting_and_frames_or_an_error_and_holds_no_more_than_its_bound() {
        const FRAME: usize = 1_000;
        let hello = Hello {
            run: Incarnation(1),
            dial: DialSeq(2),
            accepted: Accepted { run: Incarnation(3), dial: DialSeq(4) },
        };
        let frame = |len: usize| [&frame_header(len, FRAME).unwrap()[..], &vec![7; len]].concat();
        let mut stream = hello.frame();
        stream.extend([frame(0), frame(3), frame(600)].concat());
        let samples = vec![hello.frame(), stream];
        bolero::check!().for_each(|bytes: &[u8]| {
            let piece = usize::from(bytes.first().copied().unwrap_or(0)) + 1;
            for input in fuzz::inputs(&samples, bytes) {
                let mut decoder = FrameDecoder::new(MAX_HELLO_BYTES);
                let (mut limit, mut greeted) = (MAX_HELLO_BYTES, None);
                'pieces: for chunk in input.chunks(piece) {
                    decoder.push(chunk);
                    loop {
                        let Ok(next) = decoder.next_frame() else { break 'pieces };
                        let Some(frame) = next else { break };
                        assert!(frame.len() <= limit, "{} bytes", frame.len());
                        if greeted.is_none() {
                            let has_magic = frame.starts_with(&MAGIC) && frame.len() >= LEN;
                            greeted = Hello::decode(&frame);
                            assert_eq!(greeted.is_some(), has_magic);
                            if greeted.is_none() {
                                break 'pieces;
                            }
                            limit = FRAME;
                            decoder.set_limit(FRAME);
                        }
                    }
                    assert!(decoder.buffered() <= limit + FRAME_HEADER_BYTES + piece);
                }
                if let Some(hello) = greeted {
                    let again = Bytes::from(hello.frame()[FRAME_HEADER_BYTES..].to_vec());
                    assert_eq!(Hello::decode(&again), Some(hello));
                }
            }
        });
    }
}
