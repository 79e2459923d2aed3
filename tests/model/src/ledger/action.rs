//! What may happen: every action that is possible in a state, and what it does.

use std::sync::Arc;

use tierce_ticket::configuration::Configuration;
use tierce_ticket::entry::Payload;
use tierce_ticket::ids::{LogIndex, MemberId};
use tierce_ticket::ledger::{ChangeRefused, LedgerMessage, LedgerRole};

use super::node::{HEARTBEAT, SILENCE_MAX, SILENCE_MIN};
use super::past::{Breach, Sign};
use super::scope::{CHANGE_WAIT, Fault, Scope};
use super::state::Cluster;
use crate::mutant::Mutant;
use crate::scope::Step;

/// One thing that happens.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // the words say it
pub enum Act {
    /// The message at this place of the net arrives; perhaps after the shortest silence, so that
    /// the one that hears it does not think of its leader as alive.
    Deliver {
        at: usize,
        quiet: bool,
    },
    /// It arrives, and may arrive again.
    Duplicate(usize),
    /// The longest silence passes: one that follows campaigns, one that leads steps down.
    Silence(usize),
    /// A leader speaks.
    Beat(usize),
    /// The oldest record written becomes durable.
    Sync(usize),
    /// It crashes when this many of the records written have landed, and starts again. That it
    /// stays down is the same as that nothing reaches it.
    Crash(usize, usize),
    Propose(usize),
    Read(usize),
    Compact(usize),
    /// A leader takes the next step of the plan, after R11's wait.
    Change(usize),
}

/// All that can happen.
pub fn possible(scope: &Scope, c: &Cluster, acts: &mut Vec<Act>) {
    if c.broken.is_some() {
        return;
    }
    let may = |f: Fault| c.budget[f as usize] > 0;
    for (at, m) in c.net.iter().enumerate() {
        acts.push(Act::Deliver { at, quiet: false });
        let to = &c.nodes[m.to.0 as usize - 1].ledger;
        let asks = matches!(
            m.message,
            LedgerMessage::PreVote { .. } | LedgerMessage::Vote { transfer: false, .. }
        );
        // Only to these questions does it matter when a leader was heard last.
        if asks && to.role() == LedgerRole::Follower && to.leader().is_some() {
            acts.push(Act::Deliver { at, quiet: true });
        }
        if may(Fault::Duplicate) {
            acts.push(Act::Duplicate(at));
        }
    }
    for (i, n) in c.nodes.iter().enumerate() {
        if !n.unsynced.is_empty() {
            acts.push(Act::Sync(i));
        }
        if scope.active.contains(&i) {
            strikes(scope, c, i, acts);
        }
    }
}

fn strikes(scope: &Scope, c: &Cluster, i: usize, acts: &mut Vec<Act>) {
    let n = &c.nodes[i];
    let may = |f: Fault| c.budget[f as usize] > 0;
    if may(Fault::Silence) {
        acts.push(Act::Silence(i));
    }
    if may(Fault::Crash) {
        acts.extend((0..=n.unsynced.len()).map(|landed| Act::Crash(i, landed)));
    }
    let covered = n.ledger.snapshot().map_or(LogIndex(0), |s| s.last_index);
    if may(Fault::Compact) && n.ledger.commit() > covered.max(LogIndex(1)) {
        acts.push(Act::Compact(i));
    }
    if n.ledger.role() != LedgerRole::Leader {
        return;
    }
    if may(Fault::Beat) {
        acts.push(Act::Beat(i));
    }
    if may(Fault::Propose) {
        acts.push(Act::Propose(i));
    }
    if may(Fault::Read) {
        acts.push(Act::Read(i));
    }
    if usize::from(c.changes) <= scope.plan.len() && planned(scope, c, i).is_some() {
        acts.push(Act::Change(i));
    }
}

/// The configuration after the next step of the plan, as this member sees it.
fn planned(scope: &Scope, c: &Cluster, i: usize) -> Option<Configuration> {
    let present = c.nodes[i].ledger.configuration().0;
    let mut at: std::collections::BTreeSet<MemberId> = (1..=3).map(MemberId).collect();
    for step in scope.plan {
        let found = present.voter_ids() == at;
        let mut next = present.clone();
        match *step {
            Step::Add(id) => {
                at.insert(MemberId(id));
                next.voters.insert(MemberId(id), Scope::info(MemberId(id)));
                next.next_member = MemberId(next.next_member.0.max(id + 1));
            }
            Step::Remove(id) => {
                at.remove(&MemberId(id));
                next.voters.remove(&MemberId(id));
            }
        }
        if found {
            return Some(next);
        }
    }
    None
}

/// What happens; `None` when it changes nothing.
pub fn happen(
    scope: &Scope,
    before: &Cluster,
    act: &Act,
    mutant: Option<Mutant>,
) -> Option<Cluster> {
    let mut c = before.clone();
    c.signs = 0;
    match *act {
        Act::Deliver { at, quiet } => return deliver(scope, &c, at, quiet, mutant),
        Act::Duplicate(at) => {
            c.budget[Fault::Duplicate as usize] -= 1;
            let mail = Arc::clone(&c.net[at]);
            return deliver(scope, &c, at, false, mutant).map(|mut c| {
                c.net.push(mail);
                c
            });
        }
        Act::Sync(i) => {
            // Once the ledger is told, what waits for the record leaves in the same step.
            c.sync(i);
            c.act(scope, i, mutant, |_| {});
        }
        Act::Silence(i) => {
            c.budget[Fault::Silence as usize] -= 1;
            c.act(scope, i, mutant, |n| {
                n.pass(SILENCE_MAX * 2);
                n.ledger.tick(n.clock);
            });
        }
        Act::Beat(i) => {
            c.budget[Fault::Beat as usize] -= 1;
            c.act(scope, i, mutant, |n| {
                n.pass(HEARTBEAT);
                n.ledger.tick(n.clock);
            });
        }
        Act::Crash(i, landed) => crash(scope, &mut c, i, landed, mutant),
        Act::Propose(i) => {
            let mark = u64::from(c.budget[Fault::Propose as usize]);
            c.budget[Fault::Propose as usize] -= 1;
            let mut taken = false;
            c.act(scope, i, mutant, |n| {
                taken = n.ledger.propose(n.clock, mark, vec![]).is_ok();
            });
            taken.then_some(())?;
        }
        Act::Read(i) => {
            let context = u64::from(c.budget[Fault::Read as usize]);
            c.budget[Fault::Read as usize] -= 1;
            let floor = LogIndex(c.past.finals.len() as u64);
            Arc::make_mut(&mut c.past).reads.insert(context, floor);
            c.act(scope, i, mutant, |n| {
                n.rounds += 1;
                let asked = n.ledger.read(n.clock, context);
                debug_assert!(asked.is_ok(), "only leaders are asked");
            });
        }
        Act::Compact(i) => compact(scope, &mut c, i, mutant)?,
        Act::Change(i) => change(scope, &mut c, i, mutant)?,
    }
    overwritten(before, &mut c);
    if finals_of_voters(&c) >= 3 {
        c.sign(Sign::VotersChangedTwice);
    }
    Some(c)
}

/// `None` when it has no effect: then that it is lost is what the state without it would show, and
/// all that can happen without a message can happen with it on its way.
fn deliver(
    scope: &Scope,
    before: &Cluster,
    at: usize,
    quiet: bool,
    mutant: Option<Mutant>,
) -> Option<Cluster> {
    let mut c = before.clone();
    let mail = c.net.swap_remove(at);
    let to = mail.to.0 as usize - 1;
    c.act(scope, to, mutant, |n| {
        if quiet {
            n.pass(SILENCE_MIN);
        }
        let message = mail.arriving(n, mutant);
        n.ledger.receive(n.clock, mail.from, message);
    });
    let same = c.nodes[to].digest() == before.nodes[to].digest()
        && c.broken == before.broken
        && c.net.len() < before.net.len()
        && c.net.iter().all(|m| before.net.iter().any(|b| Arc::ptr_eq(m, b)));
    if same {
        return None;
    }
    overwritten(before, &mut c);
    if finals_of_voters(&c) >= 3 {
        c.sign(Sign::VotersChangedTwice);
    }
    Some(c)
}

fn crash(scope: &Scope, c: &mut Cluster, i: usize, landed: usize, mutant: Option<Mutant>) {
    c.budget[Fault::Crash as usize] -= 1;
    if landed < c.nodes[i].unsynced.len() {
        c.sign(Sign::LostUnsynced);
    }
    match c.nodes[i].restarted(landed, mutant) {
        Some(n) => {
            c.act(scope, i, mutant, |old| *old = n);
            // After the last crash nothing is lost any more: the others' records land now.
            for k in 0..c.nodes.len() {
                if !c.may_crash(scope, k) && !c.nodes[k].unsynced.is_empty() && c.broken.is_none() {
                    c.act(scope, k, mutant, |_| {});
                }
            }
        }
        None => c.broken = Some(Breach::NoReplay),
    }
}

fn compact(scope: &Scope, c: &mut Cluster, i: usize, mutant: Option<Mutant>) -> Option<()> {
    c.budget[Fault::Compact as usize] -= 1;
    let upto = c.nodes[i].applied;
    let mut of = upto;
    if mutant == Some(Mutant::SnapshotOfLess) {
        of = of.prev();
    }
    let state = c.past.finals.get(of.0 as usize - 1)?.state();
    c.act(scope, i, mutant, |n| n.ledger.compact(upto, state));
    c.sign(Sign::Compacted);
    Some(())
}

fn change(scope: &Scope, c: &mut Cluster, i: usize, mutant: Option<Mutant>) -> Option<()> {
    let next = planned(scope, c, i)?;
    c.changes += 1;
    let wall = u64::from(c.changes);
    let (mut taken, mut held) = (false, false);
    c.act(scope, i, mutant, |n| {
        let first = n.ledger.propose_configuration(n.clock, wall, next.clone());
        held = matches!(first, Err(ChangeRefused::TooSoon { .. }));
        taken = first.is_ok();
        if held {
            n.pass(CHANGE_WAIT);
            taken = n.ledger.propose_configuration(n.clock, wall, next).is_ok();
        }
    });
    if held {
        c.sign(Sign::HeldByWait);
    }
    taken.then_some(())
}

/// Whether an entry that a member had is another one now.
fn overwritten(before: &Cluster, c: &mut Cluster) {
    let replaced = before.nodes.iter().zip(&c.nodes).any(|(b, n)| {
        let (was, is) = (&b.ledger, &n.ledger);
        !Arc::ptr_eq(b, n)
            && (1..=was.last_index().0.min(is.last_index().0))
                .map(LogIndex)
                .any(|x| was.ballot_at(x).zip(is.ballot_at(x)).is_some_and(|(old, new)| old < new))
    });
    if replaced {
        c.sign(Sign::Overwritten);
    }
}

/// Configurations that are final.
fn finals_of_voters(c: &Cluster) -> usize {
    let is = |p: &Payload| matches!(p, Payload::Configuration(_));
    c.past.finals.iter().filter(|f| is(&f.entry.payload)).count()
}
