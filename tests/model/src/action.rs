//! What may happen: every action that is possible in a state, and what it does.

use std::collections::BTreeSet;
use std::sync::Arc;

use tierce_ticket::delegation::Remaining;
use tierce_ticket::docket::{Docket, Event, Holding};
use tierce_ticket::entry::{FenceTarget, Op, Payload};
use tierce_ticket::ids::{Ballot, MemberId, MemberName};
use tierce_ticket::message::Readiness;
use tierce_ticket::planted::{Bug, is_planted};
use tierce_ticket::quorum;
use tierce_ticket::steward::{Scene, Steward, Wish};

use crate::clock::{holder, in_units, units, voter};
use crate::member::Member;
use crate::mutant::Mutant;
use crate::scope::{Fault, Scope, Step, name};
use crate::world::{Msg, Sign, Signs, TICKET, World};

/// One thing that happens.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // the words say it
pub enum Act {
    /// Real time moves by one tick.
    Tick,
    /// The message at this place of the net arrives.
    Deliver(usize),
    /// A member applies its next entry.
    Apply(usize),
    /// A voter is asked for its vote, and gives it: durable, and on its way to whoever leads. It
    /// may be asked at any time, so no request is kept and the question needs no message.
    Vote(usize, FenceTarget, bool),
    /// A member that could lead decides what the steward would decide on its log view.
    Decide(usize),
    /// A holder's command is decided by this leader.
    Command(usize, usize),
    /// What was told to stop has stopped, and the holder is told.
    Stopped(usize),
    Pause(usize),
    Resume(usize),
    Crash(usize),
    /// From a snapshot, or from the log.
    Restart(usize, bool),
    Handover,
    CancelHandover,
    TakeBack,
    /// An operator grants the free ticket to the second site.
    Grant,
    /// T and with it H change.
    SetTiming,
    /// All nodes of the site are powered off, and a device says so.
    PowerOff(usize),
    /// A voter's disk is lost.
    Wipe(usize),
    /// A voter comes back with an older copy of its disk.
    OldDisk(usize),
    /// The next step of the plan of voter changes; these have it at once and make it final.
    Change(usize, u8),
    /// The node asks its coordinator.
    Ask,
    /// The coordinator answers the question at this place of the net.
    Answer(usize),
    /// With ledgers: a member campaigns, another hears it.
    Elect(usize, usize),
    /// With ledgers: a leader and a follower talk.
    Exchange(usize, usize),
}

/// All that can happen.
pub fn possible(scope: &Scope, w: &World, mutant: Option<Mutant>, acts: &mut Vec<Act>) {
    if w.broken.is_some() || is_over(scope, w) {
        return;
    }
    for (n, msg) in w.net.iter().enumerate() {
        match msg {
            Msg::Renew { to, .. } if w.members[w.at(*to)].acts() => acts.push(Act::Deliver(n)),
            Msg::Answer { site, .. } if w.members[*site].acts() => acts.push(Act::Deliver(n)),
            Msg::Remaining { .. } => acts.push(Act::Deliver(n)),
            Msg::Pull { .. } if w.members[0].acts() => acts.push(Act::Answer(n)),
            Msg::Command(_) => {
                acts.extend(leaders(scope, w).map(|m| Act::Command(n, m)));
            }
            _ => {}
        }
    }
    for (i, m) in w.members.iter().enumerate() {
        if m.acts() && m.applied < w.final_at(i) {
            acts.push(Act::Apply(i));
        }
        if m.acts() {
            votes(w, m, i, acts);
            if w.may_decide(i, scope.max_log) && has_something_to_decide(w, m, mutant) {
                acts.push(Act::Decide(i));
            }
        }
        let told = m.site.as_ref().is_some_and(|s| s.stopping.contains_key(&TICKET));
        if told && m.up && !m.paused {
            acts.push(Act::Stopped(i));
        }
        faults(scope, w, m, i, acts);
    }
    w.ledger_possible(scope, acts);
    operators(scope, w, acts);
    changes(scope, w, mutant, acts);
    if let Some(n) = &w.node
        && !w.net.iter().any(|m| matches!(m, Msg::Pull { sent, .. } if *sent == n.clock))
    {
        acts.push(Act::Ask);
    }
    acts.push(Act::Tick);
}

/// Whether the steward could decide anything here: votes of a majority, or a ticket that wants a
/// holder. Only spares asking it in vain.
fn has_something_to_decide(w: &World, m: &Member, mutant: Option<Mutant>) -> bool {
    let docket = w.log.docket(m.applied);
    let one = is_planted(Bug::OneVoteExpires);
    let need = if one { 1 } else { quorum::majority(docket.configuration().voters.len()) };
    let voted = |t: FenceTarget| w.votes.iter().filter(|(_, of, _)| *of == t).count() >= need;
    docket.watched().next().is_some()
        || docket.open_sessions().any(|(s, _)| voted(FenceTarget::Session(s)))
        || w.log.taken_back.iter().any(|t| voted(*t))
        || (mutant == Some(Mutant::ForgedVote) && !w.votes.is_empty())
}

/// Nothing more is decided in this scope, and no site but the holder runs or believes that it may:
/// nothing can go wrong any more.
fn is_over(scope: &Scope, w: &World) -> bool {
    let holder = w.held().map(|(s, _)| s);
    (w.log.len() >= scope.max_log || w.is_leaderless())
        && w.members.iter().enumerate().all(|(i, m)| {
            let view = w.log.docket(m.applied).ticket(TICKET).and_then(|t| t.holder());
            let believes = view.is_some_and(|(s, ..)| m.session() == Some(s));
            m.site.is_none() || m.session() == holder || (!believes && !w.runs(i))
        })
}

/// Members that could lead and have applied all: what they decide is the same, so the first of each
/// kind stands for all. (Those that lag decide by `Decide` alone.)
fn leaders<'a>(scope: &'a Scope, w: &'a World) -> impl Iterator<Item = usize> + 'a {
    let current = |i: usize| w.ledgers.is_some() || w.members[i].applied == w.log.len();
    (0..w.members.len())
        .filter(move |i| w.members[*i].acts() && current(*i) && w.may_decide(*i, scope.max_log))
}

fn votes(w: &World, m: &Member, i: usize, acts: &mut Vec<Act>) {
    let docket = w.log.docket(m.applied);
    if !docket.configuration().is_voter(m.id) {
        return;
    }
    let mut ask = |target: FenceTarget, device: bool| {
        if m.promises.vote_on(target).is_none()
            && m.promises.may_fence(voter(m.clock), target, device, docket)
        {
            acts.push(Act::Vote(i, target, device));
        }
    };
    for (s, _) in docket.open_sessions() {
        let target = FenceTarget::Session(s);
        ask(target, false);
        if w.proofs.contains(&s) {
            ask(target, true);
        }
    }
    for t in &w.log.taken_back {
        ask(*t, false);
    }
}

fn faults(scope: &Scope, w: &World, m: &Member, i: usize, acts: &mut Vec<Act>) {
    let may = |f: Fault| w.budget[f as usize] > 0 && scope.hits(f, i);
    if m.paused {
        acts.push(Act::Resume(i));
    }
    if !m.up && m.admitted {
        if w.ledgers.is_none() {
            acts.push(Act::Restart(i, true));
        }
        if scope.replays {
            acts.push(Act::Restart(i, false));
        }
    }
    if m.acts() {
        if may(Fault::Pause) {
            acts.push(Act::Pause(i));
        }
        if may(Fault::Crash) {
            acts.push(Act::Crash(i));
        }
        if may(Fault::Wipe) {
            acts.push(Act::Wipe(i));
        }
        if may(Fault::OldDisk) {
            acts.push(Act::OldDisk(i));
        }
        if may(Fault::PowerOff) {
            acts.push(Act::PowerOff(i));
        }
    }
}

fn operators(scope: &Scope, w: &World, acts: &mut Vec<Act>) {
    if leaders(scope, w).next().is_none() {
        return;
    }
    let Some(ticket) = w.log.newest().ticket(TICKET) else { return };
    if let Holding::Free { wanted: false, .. } = &ticket.holding
        && ticket.proof_missing().is_none()
        && w.log.newest().session_of(&name(1)).is_some()
    {
        acts.push(Act::Grant);
    }
    let Holding::Held { handover, taking_back, .. } = &ticket.holding else { return };
    let may = |f: Fault| w.budget[f as usize] > 0;
    if may(Fault::Handover) && handover.is_none() {
        acts.push(Act::Handover);
    }
    if may(Fault::Cancel) && handover.is_some() && !taking_back {
        acts.push(Act::CancelHandover);
    }
    if may(Fault::TakeBack) && !taking_back {
        acts.push(Act::TakeBack);
    }
    if may(Fault::Timing) {
        acts.push(Act::SetTiming);
    }
}

/// R11 as the ledger keeps it: the last change is final (all is, here), and T has passed on the
/// leader's clock since it saw that. Final means that a majority of the new voters has it: which
/// majority is chosen here, without any voter to spare, the others hear of it later.
fn changes(scope: &Scope, w: &World, mutant: Option<Mutant>, acts: &mut Vec<Act>) {
    let Some(next) = planned(scope, w, mutant) else { return };
    if w.log.len() >= scope.max_log || (scope.plan_after_wipe && w.budget[Fault::Wipe as usize] > 0)
    {
        return;
    }
    for (i, m) in w.members.iter().enumerate() {
        let wait = in_units(scope.longest().promise);
        let waited = m.changed_at.is_none_or(|t| m.clock - t >= wait);
        let may = waited || mutant == Some(Mutant::ChangeAtOnce);
        if !m.acts() || m.applied < w.log.len() || !may || !next.contains(&m.id) {
            continue;
        }
        let need = quorum::majority(next.len());
        for mask in 0..1_u8 << w.members.len() {
            let in_it = |k: usize| mask & (1 << k) != 0;
            let fits = (0..w.members.len())
                .filter(|k| in_it(*k))
                .all(|k| next.contains(&w.members[k].id) && (w.members[k].acts() || is_new(w, k)));
            if in_it(i) && mask.count_ones() as usize == need && fits {
                acts.push(Act::Change(i, mask));
            }
        }
    }
}

fn is_new(w: &World, k: usize) -> bool {
    !w.members[k].admitted && w.members[k].applied == 1
}

/// The voters after the next step of the plan.
fn planned(scope: &Scope, w: &World, mutant: Option<Mutant>) -> Option<BTreeSet<MemberId>> {
    let done = w.changes as usize;
    let take = if mutant == Some(Mutant::TwoAtOnce) { 2 } else { 1 };
    let steps = scope.plan.get(done..)?;
    if steps.is_empty() {
        return None;
    }
    let mut voters = w.log.newest().configuration().voter_ids();
    for s in steps.iter().take(take) {
        match s {
            Step::Add(id) => voters.insert(MemberId(*id)),
            Step::Remove(id) => voters.remove(&MemberId(*id)),
        };
    }
    Some(voters)
}

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
