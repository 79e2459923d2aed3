//! Duties of the ledger alone, one member against what the others say: the situations in which they
//! matter need two changes of leadership in the right places.

use std::collections::BTreeMap;
use std::time::Duration;

use tierce_ticket::configuration::{Configuration, MemberInfo, Role};
use tierce_ticket::entry::{Entry, Payload};
use tierce_ticket::ids::{Ballot, ClusterId, Generation, LogIndex, MemberId, StoreId};
use tierce_ticket::ledger::{
    Append, AppendOutcome, Ledger, LedgerDurable, LedgerEffect, LedgerMessage, LedgerRole,
    LedgerSettings, Round,
};
use tierce_ticket::time::VoterTime;
use tierce_ticket::timing::Profile;

use crate::{MS, name};

fn at(ms: u64) -> VoterTime {
    VoterTime::from_nanos(ms * MS)
}

fn configuration(voters: u32) -> Configuration {
    let info = |id: u32| MemberInfo {
        name: name(&format!("m{id}")),
        role: Role::Site,
        store: StoreId([id as u8; 16]),
        addresses: vec![],
    };
    Configuration {
        cluster: ClusterId([1; 16]),
        generation: Generation(1),
        voters: (1..=voters).map(|id| (MemberId(id), info(id))).collect(),
        learners: (voters + 1..=voters + 2).map(|id| (MemberId(id), info(id))).collect(),
        next_member: MemberId(voters + 3),
        timing: Profile::Lan.timing(),
        digest: [0; 16],
    }
}

/// Member 1 of three, and how many records it has been told to be durable.
struct Alone {
    ledger: Ledger,
    written: u64,
}

impl Alone {
    /// All that it wanted to write is written.
    fn sync(&mut self, ms: u64) {
        while let Some(e) = self.ledger.poll_effect() {
            self.written += u64::from(matches!(e, LedgerEffect::Persist(_)));
        }
        self.ledger.persisted(at(ms), self.written);
    }

    fn hears(&mut self, ms: u64, from: u32, message: LedgerMessage) {
        self.ledger.receive(at(ms), MemberId(from), message);
    }

    fn matched(&mut self, index: u64) {
        let (ballot, round) = (Ballot(2), Round(0));
        let outcome = AppendOutcome::Matched(LogIndex(index));
        self.hears(402, 3, LedgerMessage::AppendReply { ballot, round, outcome });
    }
}

/// Member 1 of three, with entries 2 and 3 of ballot 1 that member 2 sent; all else it hears from
/// whoever tells the story.
fn follower() -> Alone {
    let settings = LedgerSettings {
        me: MemberId(1),
        election_min: Duration::from_millis(100),
        election_max: Duration::from_millis(200),
        heartbeat: Duration::from_millis(30),
        seed: 1,
        change_wait: Duration::from_millis(500),
        may_lead: true,
    };
    let ledger = Ledger::new(settings, LedgerDurable::founding(configuration(3), 0), at(0));
    let mut member = Alone { ledger, written: 0 };
    let entry = |index| Entry {
        index: LogIndex(index),
        ballot: Ballot(1),
        wall_ms: 0,
        payload: Payload::Noop,
    };
    let append = Append {
        ballot: Ballot(1),
        prev_index: LogIndex(1),
        prev_ballot: Ballot(0),
        entries: vec![entry(2), entry(3)],
        commit: LogIndex(1),
        round: Round(0),
    };
    member.hears(1, 2, LedgerMessage::Append(append));
    member.sync(1);
    member
}

/// The same as leader of ballot 2, elected by member 3.
fn leader() -> Alone {
    let mut member = follower();
    member.ledger.tick(at(400));
    let ballot = Ballot(2);
    member.hears(400, 3, LedgerMessage::PreVoteReply { ballot, granted: true });
    member.sync(400);
    member.hears(400, 3, LedgerMessage::VoteReply { ballot, granted: true });
    let (role, last) = (member.ledger.role(), member.ledger.last_index());
    assert_eq!((role, last), (LedgerRole::Leader, LogIndex(4)));
    member.sync(401);
    member
}

/// Ongaro 2014, figure 3.7: a majority has entry 3, which is of an older ballot. Another leader might
/// still overwrite it, until an entry of this ballot is there, too.
pub(super) fn older_ballot() {
    let mut member = leader();
    member.matched(3);
    let commit = member.ledger.commit();
    assert_eq!(commit, LogIndex(1), "an entry of an older ballot is not final by count");
    member.matched(4);
    assert_eq!(member.ledger.commit(), LogIndex(4));
}

/// Two changes of the voters under way at once could have majorities that share nobody.
pub(super) fn second_change() {
    let mut member = leader();
    member.matched(4);
    let with = |voters: u32| {
        let mut c = configuration(3);
        let learners = std::mem::take(&mut c.learners);
        let (up, rest): (BTreeMap<_, _>, BTreeMap<_, _>) =
            learners.into_iter().partition(|(id, _)| id.0 <= voters);
        c.voters.extend(up);
        c.learners = rest;
        c
    };
    let l = &mut member.ledger;
    assert!(l.propose_configuration(at(1_000), 0, with(4)).is_ok());
    let second = l.propose_configuration(at(2_000), 0, with(5));
    assert!(second.is_err(), "the first change is not final");
}
