//! What an action does.

use std::collections::BTreeSet;
use std::sync::Arc;

use tierce_ticket::delegation::Remaining;
use tierce_ticket::docket::{Docket, Event, Holding};
use tierce_ticket::entry::{FenceTarget, Op, Payload};
use tierce_ticket::ids::{Ballot, MemberName};
use tierce_ticket::message::Readiness;
use tierce_ticket::steward::{Scene, Steward, Wish};

use super::Act;
use super::possible::{leaders, planned};
use crate::clock::{holder, units, voter};
use crate::member::Member;
use crate::mutant::Mutant;
use crate::scope::{Fault, Scope, name};
use crate::world::{Msg, Sign, Signs, TICKET, World};

/// What happens; `None` when it changes nothing.
pub fn happen(scope: &Scope, before: &World, act: &Act, mutant: Option<Mutant>) -> Option<World> {
    let mut w = before.clone();
    w.signs = Signs::default();
    let w_ = &mut w;
    match act {
        Act::Tick => tick(scope, w_, mutant),
        Act::Deliver(n) => arrive(scope, w_, *n, mutant),
        Act::Apply(i) => w_.apply(scope, *i, mutant),
        Act::Vote(i, target, device) => vote(w_, *i, *target, *device, mutant),
        Act::Decide(i) => decide(scope, w_, *i, mutant)?,
        Act::Command(n, leader) => command(scope, w_, *n, *leader, mutant)?,
        Act::Stopped(i) => {
            w_.member(*i).confirm_stopped(TICKET);
            w_.turn(scope, *i, mutant);
        }
        Act::Ask => {
            let node = w_.node.as_mut()?;
            let pull = node.delegated.ask(holder(node.clock), TICKET);
            // The node listens to its newest question alone: what is on its way to or from an
            // older one has no effect any more.
            w_.net.retain(|m| !matches!(m, Msg::Pull { .. } | Msg::Remaining { .. }));
            w_.net.push(Msg::Pull { seq: pull.seq, sent: node.clock });
        }
        Act::Answer(n) => answer_pull(w_, *n)?,
        Act::Handover | Act::CancelHandover | Act::TakeBack => {
            operator(scope, w_, act, mutant)?;
        }
        Act::Grant => {
            let to = w_.log.newest().session_of(&name(1))?;
            let op = Op::Grant { ticket: TICKET, to, automatic: false };
            let by = leaders(scope, w_).next()?;
            w_.decide_at(scope, by, Payload::Batch(vec![op]), mutant)?;
        }
        Act::Elect(..) | Act::Exchange(..) => w_.ledger_acts(scope, act, mutant)?,
        Act::SetTiming => {
            w_.budget[Fault::Timing as usize] -= 1;
            let mut c = w_.log.newest().configuration().clone();
            c.timing = scope.other_timing();
            w_.append(scope, Payload::Configuration(Box::new(c)), mutant);
        }
        Act::Change(_, mask) => change(scope, w_, *mask, mutant)?,
        _ => strike(scope, w_, act, mutant),
    }
    w.purge(scope);
    signs_of_state(scope, &mut w);
    Some(w)
}

fn tick(scope: &Scope, w: &mut World, mutant: Option<Mutant>) {
    w.ran_before = w.runs(0);
    for i in 0..w.members.len() {
        let m = w.member(i);
        m.clock += m.rate.0;
        let by = m.rate.0;
        if m.paused
            && mutant == Some(Mutant::GuardFrozenToo)
            && let Some(s) = &mut m.site
        {
            s.guard.lease += by;
        }
        m.guard_acts();
    }
    if let Some(n) = &mut w.node {
        n.clock += n.rate.0;
    }
    w.purge(scope);
    for i in 0..w.members.len() {
        w.turn(scope, i, mutant);
    }
}

fn arrive(scope: &Scope, w: &mut World, n: usize, mutant: Option<Mutant>) {
    let msg = w.net[n].clone();
    let again = scope.duplicates && matches!(msg, Msg::Renew { .. });
    if !again {
        w.net.remove(n);
    }
    if let Msg::Remaining { mut remaining, .. } = msg {
        let timing = w.members[0].timing(&w.log);
        let Some(node) = &mut w.node else { return };
        if mutant == Some(Mutant::DelegatedFromArrival) {
            remaining.seq = node.delegated.ask(holder(node.clock), TICKET).seq;
        }
        return node.delegated.answer(&timing, remaining);
    }
    w.deliver(scope, msg, mutant);
}

fn vote(w: &mut World, i: usize, target: FenceTarget, device: bool, mutant: Option<Mutant>) {
    let log = Arc::clone(&w.log);
    let m = w.member(i);
    let docket = log.docket(m.applied);
    let promises = Arc::make_mut(&mut m.promises);
    let vote = promises.fence(voter(m.clock), target, device, docket);
    let id = m.id;
    let by_device = vote.basis == tierce_ticket::entry::Proof::Fenced;
    w.votes.insert((id, target, by_device));
    if mutant != Some(Mutant::DocketBehindVote) {
        w.commit_durable(i);
    }
}

/// What the real steward would decide, had it just begun to lead here and gathered every vote that
/// was ever given: votes given stay given, so an older leader knows no more.
pub fn steward_at(w: &World, i: usize) -> (Steward, Vec<Op>) {
    let m = &w.members[i];
    let docket = w.log.docket(m.applied);
    let voters = docket.configuration().voter_ids();
    let timing = docket.configuration().timing;
    let own: BTreeSet<FenceTarget> =
        w.votes.iter().filter(|(v, ..)| *v == m.id).map(|(_, t, _)| *t).collect();
    let scene = Scene {
        me: m.id,
        now: voter(m.clock),
        wall_ms: 0,
        voters: &voters,
        timing: &timing,
        docket,
        promises: &m.promises,
        own_durable: &own,
    };
    let mut steward = Steward::default();
    steward.lead(voter(m.clock), Some(Ballot(1)));
    for (session, s) in docket.open_sessions() {
        steward.readiness(s.site.clone(), Readiness { session, ..Readiness::default() });
    }
    for s in &w.proofs {
        steward.device_proof(*s);
    }
    let mut ops = Vec::new();
    for _ in 0..2 {
        steward.tick(&scene); // first it begins to suspect, then it counts
        while let Some(wish) = steward.poll() {
            if let Wish::Decide(batch) = wish {
                ops = batch;
            }
        }
        for target in steward.suspects().collect::<Vec<_>>() {
            w.votes_on(target).for_each(|v| steward.reply(v.voter, v));
        }
    }
    (steward, ops)
}

fn decide(scope: &Scope, w: &mut World, i: usize, mutant: Option<Mutant>) -> Option<()> {
    let stale = w.ledgers.is_none() && w.members[i].applied < w.log.len();
    if stale && w.budget[Fault::Stale as usize] == 0 {
        return None;
    }
    let (_, mut ops) = steward_at(w, i);
    if mutant == Some(Mutant::ForgedVote) && ops.is_empty() {
        ops = forged(w)?;
    }
    if ops.is_empty() {
        return None;
    }
    if stale {
        w.budget[Fault::Stale as usize] -= 1;
    }
    w.decide_at(scope, i, Payload::Batch(ops), mutant)?;
    let refused = |e: &Event| matches!(e, Event::Skipped { .. });
    let events = w.log.events(w.log.len());
    if stale && events.iter().all(refused) {
        w.sign(Sign::RefusedByDocket);
    }
    Some(())
}

/// One vote is there, the leader makes up another.
fn forged(w: &World) -> Option<Vec<Op>> {
    let (session, _) = w.held()?;
    let target = FenceTarget::Session(session);
    let mut votes: Vec<_> = w.votes_on(target).collect();
    let one = *votes.first()?;
    let other = w.members.iter().map(|m| m.id).find(|id| *id != one.voter)?;
    votes.push(tierce_ticket::entry::FenceVote { voter: other, ..one });
    Some(vec![Op::Expire { session, votes }])
}

fn command(
    scope: &Scope,
    w: &mut World,
    n: usize,
    leader: usize,
    mutant: Option<Mutant>,
) -> Option<()> {
    let Msg::Command(op) = w.net.remove(n) else { return None };
    let mut ops = vec![op];
    // R10 for one ticket, as `Member::successor` does it.
    if let Op::Release { ticket, term, .. } = ops[0] {
        let m = &w.members[leader];
        let docket = w.log.docket(m.applied);
        ops.extend(successor(w, m, docket, leader, ticket, term));
    }
    w.decide_at(scope, leader, Payload::Batch(ops), mutant)
}

fn successor(
    w: &World,
    m: &Member,
    docket: &Docket,
    leader: usize,
    ticket: tierce_ticket::ids::TicketId,
    term: tierce_ticket::ids::Term,
) -> Option<Op> {
    let t = docket.ticket(ticket)?;
    let Holding::Held { term: held, handover: Some(h), .. } = &t.holding else { return None };
    let to: &MemberName = h.to.as_ref().filter(|_| *held == term)?;
    let voters = docket.configuration().voter_ids();
    let timing = docket.configuration().timing;
    let scene = Scene {
        me: m.id,
        now: voter(m.clock),
        wall_ms: 0,
        voters: &voters,
        timing: &timing,
        docket,
        promises: &m.promises,
        own_durable: &BTreeSet::new(),
    };
    let session = steward_at(w, leader).0.eligible(&scene, docket, t, to).ok()?;
    Some(Op::Grant { ticket, to: session, automatic: false })
}

fn answer_pull(w: &mut World, n: usize) -> Option<()> {
    let Msg::Pull { seq, sent } = w.net.remove(n) else { return None };
    let m = &w.members[0];
    let guard = &m.site.as_ref()?.guard;
    let term = *guard.running.get(&TICKET)?;
    let left = guard.deadline(TICKET).saturating_sub(m.clock);
    let remaining = Remaining { seq, term, left: units(left) };
    w.net.push(Msg::Remaining { remaining, sent });
    Some(())
}

fn operator(scope: &Scope, w: &mut World, act: &Act, mutant: Option<Mutant>) -> Option<()> {
    let (session, term) = w.held()?;
    let note = String::new();
    let ticket = TICKET;
    let (fault, op) = match act {
        Act::Handover => {
            let site = w.log.newest().session(session)?.site.clone();
            let to = scope.other_site(&site);
            (Fault::Handover, Op::Handover { ticket, term, to: Some(to), note })
        }
        Act::CancelHandover => (Fault::Cancel, Op::CancelHandover { ticket, term, note }),
        _ => (Fault::TakeBack, Op::TakeBack { ticket, term, note }),
    };
    w.budget[fault as usize] -= 1;
    let by = leaders(scope, w).next()?;
    w.decide_at(scope, by, Payload::Batch(vec![op]), mutant)
}

fn change(scope: &Scope, w: &mut World, mask: u8, mutant: Option<Mutant>) -> Option<()> {
    let next = planned(scope, w, mutant)?;
    let mut c = w.log.newest().configuration().clone();
    w.changes += if mutant == Some(Mutant::TwoAtOnce) { 2 } else { 1 };
    let log = Arc::clone(&w.log);
    for i in 0..w.members.len() {
        let m = w.member(i);
        let info = scope.info(m.id);
        if next.contains(&m.id) && !c.is_voter(m.id) {
            // It was a learner for long: it knows all, promised nothing, and its start is past.
            (m.admitted, m.applied) = (true, log.len());
            let promise = m.timing(&log).promise;
            Arc::make_mut(&mut m.promises).max_promise_durable(promise);
            c.voters.insert(m.id, info);
        }
    }
    c.voters.retain(|id, _| next.contains(id));
    w.append(scope, Payload::Configuration(Box::new(c)), mutant);
    for i in (0..w.members.len()).filter(|i| mask & (1 << i) != 0) {
        w.catch_up(scope, i, mutant);
    }
    if w.changes >= 2 {
        w.sign(Sign::VotersChangedTwice);
    }
    Some(())
}

fn strike(scope: &Scope, w: &mut World, act: &Act, mutant: Option<Mutant>) {
    let log = Arc::clone(&w.log);
    let mut spend = |f: Fault| w.budget[f as usize] -= 1;
    match *act {
        Act::Pause(i) => {
            spend(Fault::Pause);
            w.member(i).paused = true;
        }
        Act::Resume(i) => {
            w.member(i).paused = false;
            w.turn(scope, i, mutant);
            if !scope.may_lag(i) {
                w.catch_up(scope, i, mutant);
            }
        }
        Act::Crash(i) => {
            spend(Fault::Crash);
            w.member(i).crash();
        }
        Act::Restart(i, from_snapshot) => {
            w.ledger_restarts(i, mutant);
            w.member(i).restart(&log, from_snapshot, mutant);
            if !scope.may_lag(i) {
                w.catch_up(scope, i, mutant);
            }
            w.turn(scope, i, mutant);
        }
        Act::PowerOff(i) => {
            spend(Fault::PowerOff);
            let m = w.member(i);
            m.crash();
            let Some(s) = &mut m.site else { return };
            if mutant != Some(Mutant::FalseProof) {
                s.guard.orphans.clear();
            }
            let site = s.name.clone();
            let its = log.newest().open_sessions().filter(|(_, s)| s.site == site);
            w.proofs.extend(its.map(|(id, _)| id));
        }
        Act::Wipe(i) => {
            spend(Fault::Wipe);
            let m = w.member(i);
            m.crash();
            m.admitted = false;
            if mutant == Some(Mutant::WipedKeepsNumber) {
                let fresh = Member::new(m.id.0, m.rate, m.clock, 0);
                *m = Member { applied: m.applied, ..fresh };
                let promise = m.timing(&log).promise;
                Arc::make_mut(&mut m.promises).max_promise_durable(promise);
            }
        }
        Act::OldDisk(i) => {
            spend(Fault::OldDisk);
            let m = w.member(i);
            m.crash();
            if mutant == Some(Mutant::OldDiskTakesPart) {
                m.restart(&log, true, Some(Mutant::VotesForgotten));
            } else {
                // R5: a peer that has seen a newer opening says so, and it takes no part.
                m.admitted = false;
                w.sign(Sign::OldDiskRefused);
            }
        }
        _ => {}
    }
}

fn signs_of_state(scope: &Scope, w: &mut World) {
    let mut seen = Vec::new();
    for m in &w.members {
        let now = voter(m.clock);
        for s in &w.log.sessions {
            let target = FenceTarget::Session(*s);
            let lapsed = m.promises.remaining(now, *s).is_zero();
            if m.acts() && lapsed && m.promises.free_at(target) > now {
                seen.push(Sign::QuarantineHeldAVoteBack);
            }
        }
        let ended =
            |s: &crate::member::Site| s.holder.deadline_d().is_some_and(|d| d <= holder(m.clock));
        if m.paused && m.site.as_ref().is_some_and(ended) {
            seen.push(Sign::GuardStoppedWhatWasFrozen);
        }
    }
    if w.node_runs() && !w.members[0].up {
        seen.push(Sign::NodeRanByItself);
    }
    if scope.plan_after_wipe && w.changes == 2 && w.votes.iter().any(|(v, ..)| v.0 > 3) {
        seen.push(Sign::Readmitted);
    }
    if scope.plan.len() > 1 {
        let c = w.log.newest().config_index();
        let m = &w.members[0];
        let lags = m.applied < c.0 as usize;
        let named = |n: &Arc<Member>| n.id != m.id && n.applied >= c.0 as usize;
        if lags && w.members.iter().any(named) && w.runs(0) {
            seen.push(Sign::DeadlineHeldByNewerConfiguration);
        }
    }
    if w.ledgers.as_ref().is_some_and(|c| c.has(crate::ledger::past::Sign::TwoLead)) {
        seen.push(Sign::LedByTwo);
    }
    for s in seen {
        w.sign(s);
    }
}
