//! Small makings for the unit tests of the ledger.

use super::{Append, AppendOutcome, Ledger, Round};
use super::{LedgerDurable, LedgerEffect, LedgerMessage, LedgerSettings};
use crate::configuration::{Configuration, MemberInfo, Role};
use crate::entry::{Entry, Payload};
use crate::ids::{Ballot, ClusterId, Generation, LogIndex, MemberId, StoreId};
use crate::time::VoterTime;
use crate::timing::Profile;
use std::collections::BTreeMap;
use std::time::Duration;

/// Does the same with each.
pub(super) fn each<T, const N: usize>(of: [T; N], f: impl FnMut(T)) {
    of.into_iter().for_each(f);
}

pub(super) fn ms(t: u64) -> Duration {
    Duration::from_millis(t)
}

pub(super) fn at(t: u64) -> VoterTime {
    VoterTime::from_nanos(t * 1_000_000)
}

pub(super) fn configuration(voters: u32) -> Configuration {
    let info = |id: u32| MemberInfo {
        name: format!("m{id}").parse().unwrap(),
        role: Role::Site,
        store: StoreId([id as u8; 16]),
        addresses: vec![],
    };
    Configuration {
        cluster: ClusterId([1; 16]),
        generation: Generation(1),
        voters: (1..=voters).map(|id| (MemberId(id), info(id))).collect(),
        learners: BTreeMap::new(),
        next_member: MemberId(voters + 1),
        timing: Profile::Lan.timing(),
        digest: [0; 16],
    }
}

pub(super) fn entry(index: u64, ballot: u64) -> Entry {
    let payload = Payload::Noop;
    Entry { index: LogIndex(index), ballot: Ballot(ballot), wall_ms: 0, payload }
}

pub(super) fn settings(me: u32) -> LedgerSettings {
    LedgerSettings {
        me: MemberId(me),
        election_min: ms(100),
        election_max: ms(200),
        heartbeat: ms(30),
        seed: 1,
        change_wait: ms(500),
        may_lead: true,
    }
}

/// Member 1 of a cluster of `voters`, at time 0.
pub(super) fn ledger(voters: u32) -> Ledger {
    Ledger::new(settings(1), LedgerDurable::founding(configuration(voters), 0), at(0))
}

pub(super) fn drain(l: &mut Ledger) -> Vec<LedgerEffect> {
    l.invariants();
    std::iter::from_fn(|| l.poll_effect()).collect()
}

/// Reports everything handed out so far as durable.
pub(super) fn sync(l: &mut Ledger, now: u64) {
    let records = l.durability.emitted;
    l.persisted(at(now), records);
}

pub(super) fn sent(effects: &[LedgerEffect]) -> Vec<String> {
    let line = |e: &LedgerEffect| match e {
        LedgerEffect::Send { to, message, .. } => Some(format!("{to}: {message}")),
        _ => None,
    };
    effects.iter().filter_map(line).collect()
}

/// Member 1 of three as leader of ballot 1, its first entry appended and not yet answered.
pub(super) fn leader_of_three() -> Ledger {
    let mut l = ledger(3);
    l.tick(at(200));
    for from in [2, 3] {
        let reply = LedgerMessage::PreVoteReply { ballot: Ballot(1), granted: true };
        l.receive(at(200), MemberId(from), reply);
    }
    sync(&mut l, 200);
    for from in [2, 3] {
        let reply = LedgerMessage::VoteReply { ballot: Ballot(1), granted: true };
        l.receive(at(200), MemberId(from), reply);
    }
    l
}

pub(super) fn matched(ballot: u64, index: u64, round: u64) -> LedgerMessage {
    LedgerMessage::AppendReply {
        ballot: Ballot(ballot),
        round: Round(round),
        outcome: AppendOutcome::Matched(LogIndex(index)),
    }
}

pub(super) fn append(
    ballot: u64,
    prev: (u64, u64),
    of: &[(u64, u64)],
    commit: u64,
) -> LedgerMessage {
    LedgerMessage::Append(Append {
        ballot: Ballot(ballot),
        prev_index: LogIndex(prev.0),
        prev_ballot: Ballot(prev.1),
        entries: of.iter().map(|(i, b)| entry(*i, *b)).collect(),
        commit: LogIndex(commit),
        round: Round(1),
    })
}
