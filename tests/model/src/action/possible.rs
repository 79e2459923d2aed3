//! Every action that is possible in a state.

use std::collections::BTreeSet;

use tierce_ticket::docket::Holding;
use tierce_ticket::entry::FenceTarget;
use tierce_ticket::ids::MemberId;
use tierce_ticket::planted::{Bug, is_planted};
use tierce_ticket::quorum;

use super::Act;
use crate::clock::{in_units, voter};
use crate::member::Member;
use crate::mutant::Mutant;
use crate::scope::{Fault, Scope, Step, name};
use crate::world::{Msg, TICKET, World};

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
pub(super) fn leaders<'a>(scope: &'a Scope, w: &'a World) -> impl Iterator<Item = usize> + 'a {
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
pub(super) fn planned(
    scope: &Scope,
    w: &World,
    mutant: Option<Mutant>,
) -> Option<BTreeSet<MemberId>> {
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
