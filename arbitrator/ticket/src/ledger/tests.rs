//! What the ledger promises to its driver as a whole.

use super::testing::*;
use super::{LedgerEffect, LedgerMessage, LedgerRecord, LedgerRole};
use crate::ids::{Ballot, LogIndex, MemberId};

#[test]
fn what_is_to_be_done_is_told_until_it_was_handed_out() {
    let mut l = ledger(3);
    drain(&mut l);
    assert!(!l.has_effects());
    l.tick(at(200));
    assert!(l.has_effects(), "it asks whether a campaign would succeed");
    drain(&mut l);
    assert!(!l.has_effects());
}

#[test]
fn an_answer_from_one_who_is_no_member_unseats_nobody() {
    let mut l = leader_of_three();
    drain(&mut l);
    for answer in [
        LedgerMessage::VoteReply { ballot: Ballot(50), granted: false },
        LedgerMessage::PreVoteReply { ballot: Ballot(50), granted: false },
        matched(50, 2, 0),
    ] {
        l.receive(at(210), MemberId(9), answer);
        assert_eq!((l.role(), l.ballot()), (LedgerRole::Leader, Ballot(1)));
    }
    l.receive(
        at(211),
        MemberId(3),
        LedgerMessage::VoteReply { ballot: Ballot(50), granted: false },
    );
    assert_eq!((l.role(), l.ballot()), (LedgerRole::Follower, Ballot(50)), "a member's counts");
    drain(&mut l);
}

#[test]
fn a_heartbeat_that_would_follow_soon_goes_along_and_an_early_one_does_not() {
    let mut l = leader_of_three();
    sync(&mut l, 200);
    each([2, 3], |m| l.receive(at(200), MemberId(m), matched(1, 2, 0)));
    l.tick(at(230));
    drain(&mut l);
    l.beat_along(at(244));
    assert_eq!(sent(&drain(&mut l)).len(), 0, "it is due at 260, more than half a period away");
    l.beat_along(at(246));
    assert_eq!(sent(&drain(&mut l)).len(), 2);
    l.beat_along(at(247));
    assert_eq!(sent(&drain(&mut l)).len(), 0, "the next one counts from then");
}

#[test]
fn how_much_is_final_is_noted_on_request_once() {
    let mut l = ledger(3);
    l.receive(at(1), MemberId(2), append(1, (1, 0), &[(2, 1)], 2));
    drain(&mut l);
    let noted = |effects: Vec<LedgerEffect>| {
        let commit = |e| match e {
            LedgerEffect::Persist(LedgerRecord::HardState(hard)) => Some(hard.commit),
            _ => None,
        };
        effects.into_iter().filter_map(commit).collect::<Vec<_>>()
    };
    l.note_commit(at(2));
    assert_eq!(noted(drain(&mut l)), [LogIndex(2)]);
    l.note_commit(at(3));
    assert_eq!(noted(drain(&mut l)), [], "it is known already");
    // And what something else is waiting to be written for stays so.
    l.hard_dirty = true;
    l.note_commit(at(4));
    assert_eq!(noted(drain(&mut l)), [LogIndex(2)]);
}

#[test]
#[should_panic(expected = "committed entries are there")]
fn a_ledger_that_contradicts_itself_ends_the_process() {
    let mut l = ledger(3);
    l.commit = LogIndex(9);
    l.invariants();
}
