//! Where decisions come from: one log that is final at once, or the members' real ledgers.
//!
//! With ledgers, a member that leads proposes; entries become final in its ledger first and in the
//! others' as they hear of it, and each member applies what is final in its own. [`Log`] then only
//! keeps what the entries add up to, once for all: that every member's entries are these is checked
//! entry by entry as they become final (HIST).
//!
//! [`Log`]: crate::log::Log

use std::sync::Arc;

use tierce_ticket::entry::Payload;
use tierce_ticket::ledger::LedgerRole;

use crate::action::Act;
use crate::ledger::state::Cluster;
use crate::mutant::Mutant;
use crate::scope::{Fault, Scope};
use crate::world::World;

impl World {
    /// Entries that are final as far as this member knows: it may have applied fewer.
    pub fn final_at(&self, i: usize) -> usize {
        let known = self.ledgers.as_ref().map(|c| c.nodes[i].applied.0 as usize);
        known.map_or(self.log.len(), |n| n.min(self.log.len()))
    }

    /// Whether this member may decide what its steward wants. A leader waits until its last
    /// decision is final: two that wait are in no other order than two after each other.
    pub fn may_decide(&self, i: usize, max_log: usize) -> bool {
        match &self.ledgers {
            None => self.log.len() < max_log,
            Some(c) => {
                let end = c.nodes[i].ledger.last_index().0 as usize;
                c.in_charge(i) && !c.is_waiting(i) && end < max_log
            }
        }
    }

    /// A decision is made at this member; `None` when it cannot be made there.
    pub fn decide_at(
        &mut self,
        scope: &Scope,
        i: usize,
        payload: Payload,
        mutant: Option<Mutant>,
    ) -> Option<()> {
        let Some(c) = &mut self.ledgers else {
            self.append(scope, payload, mutant);
            return Some(());
        };
        let Payload::Batch(ops) = payload else { return None };
        Arc::make_mut(c).propose(i, ops, mutant)?;
        self.take_finals(scope, mutant);
        Some(())
    }

    /// What has become final is applied by all that know.
    pub fn take_finals(&mut self, scope: &Scope, mutant: Option<Mutant>) {
        let Some(c) = &self.ledgers else { return };
        let finals = Arc::clone(&c.past);
        for f in finals.finals.iter().skip(self.log.len()) {
            self.append(scope, f.entry.payload.clone(), mutant);
        }
        for i in 0..self.members.len() {
            self.catch_up(scope, i, mutant);
        }
    }

    /// The ledger's own part in a step; `None` when it changes nothing.
    pub fn ledger_acts(&mut self, scope: &Scope, act: &Act, mutant: Option<Mutant>) -> Option<()> {
        let c = Arc::make_mut(self.ledgers.as_mut()?);
        c.signs = 0;
        match *act {
            Act::Elect(i, by) => {
                self.budget[Fault::Elect as usize] -= 1;
                c.elect(i, &[by], mutant);
                if c.nodes[i].ledger.role() != LedgerRole::Leader && c.broken.is_none() {
                    return None;
                }
            }
            Act::Exchange(leader, with) => {
                let before = [c.nodes[leader].digest(), c.nodes[with].digest()];
                c.exchange(leader, with, mutant);
                if before == [c.nodes[leader].digest(), c.nodes[with].digest()] {
                    return None;
                }
            }
            _ => return None,
        }
        self.take_finals(scope, mutant);
        Some(())
    }

    /// A member's ledger starts again with it: it knows what its journal says was final.
    pub fn ledger_restarts(&mut self, i: usize, mutant: Option<Mutant>) {
        if let Some(c) = &mut self.ledgers {
            let c = Arc::make_mut(c);
            c.restart(i, mutant);
            let applied = c.nodes[i].applied.0 as usize;
            self.member(i).applied = applied;
        }
    }

    /// How far this member's docket had come is durable, with its vote. Without it a restarted voter
    /// no longer knows of a session that it has fenced, and promises the one that it superseded.
    pub fn commit_durable(&mut self, i: usize) {
        if let Some(c) = &mut self.ledgers {
            let n = Arc::make_mut(c).node(i);
            let commit = n.ledger.commit();
            Arc::make_mut(&mut n.disk).hard.commit = commit;
            n.settle();
        }
    }

    /// Whether nothing can be decided any more: no leader is left, and none may come.
    pub fn is_leaderless(&self) -> bool {
        let leads = |c: &Cluster, i: usize| c.leads(i) && self.members[i].acts();
        self.ledgers.as_ref().is_some_and(|c| {
            let none = !(0..self.members.len()).any(|i| leads(c, i));
            none && self.budget[Fault::Elect as usize] == 0
        })
    }

    /// Whom elections and exchanges may bring together.
    pub fn ledger_possible(&self, scope: &Scope, acts: &mut Vec<Act>) {
        let Some(c) = &self.ledgers else { return };
        let up = |i: &usize| self.members[*i].acts();
        for i in (0..self.members.len()).filter(up) {
            let may_lead = self.budget[Fault::Elect as usize] > 0 && scope.electable.contains(&i);
            for k in (0..self.members.len()).filter(|k| *k != i && up(k)) {
                if c.leads(i) && behind(c, i, k) {
                    acts.push(Act::Exchange(i, k));
                } else if may_lead && !c.leads(i) && !c.leads(k) {
                    acts.push(Act::Elect(i, k));
                }
            }
        }
    }
}

/// Whether an exchange could tell either of them anything.
fn behind(c: &Cluster, leader: usize, other: usize) -> bool {
    let (l, o) = (&c.nodes[leader].ledger, &c.nodes[other].ledger);
    (l.ballot(), l.last_index(), l.commit()) != (o.ballot(), o.last_index(), o.commit())
        || o.leader() != Some(c.nodes[leader].id)
}
