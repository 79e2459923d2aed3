//! What physically happens at a node: orders obeyed, the guard's deadline, and the invariants that
//! are asserted about it after every event.

use std::collections::{BTreeMap, BTreeSet};

use tierce_ticket::holder::Order;
use tierce_ticket::ids::{MemberName, TicketId};
use tierce_ticket::member::Member;
use tierce_ticket::time::HolderTime;

use crate::node::{Running, Stopping};
use crate::story::tail;
use crate::world::{What, World, note};

impl World {
    pub(crate) fn obey(&mut self, i: usize, life: u64, order: &Order) {
        if !matches!(order, Order::Lease { .. }) {
            note!(self, "{:<6} {order:?}", self.nodes[i].name);
        }
        match order {
            Order::Run { ticket, term } => {
                let n = &mut self.nodes[i];
                n.running.insert(*ticket, Running { term: *term });
                n.guard_d.insert(*ticket, n.session_d);
                n.pinned.remove(ticket);
            }
            Order::Stop { ticket, term, .. } => {
                let budget = self.timing.stop_budget.as_nanos() as u64;
                let took = match self.nodes[i].stopping {
                    Stopping::Within => self.lots.below(budget),
                    Stopping::AtBudget => budget,
                    Stopping::Beyond => 10 * budget,
                };
                self.push(
                    self.now + took,
                    What::StopDone { node: i, life, ticket: *ticket, term: *term },
                );
            }
            Order::Forget { .. } | Order::Prepare { .. } => {}
            Order::Lease { deadline } => {
                let n = &mut self.nodes[i];
                n.session_d = *deadline;
                for (ticket, d) in &mut n.guard_d {
                    if !n.pinned.contains(ticket) {
                        *d = *deadline;
                    }
                }
                self.arm_guard(i, *deadline);
            }
            Order::TicketLease { ticket, deadline } => {
                let d = self.nodes[i].guard_d.entry(*ticket).or_default();
                *d = (*d).max(*deadline); // a guard only extends
                self.nodes[i].pinned.insert(*ticket);
                self.arm_guard(i, *deadline);
            }
        }
        if let Order::Run { .. } = order {
            let d = self.nodes[i].session_d;
            self.arm_guard(i, d);
        }
    }

    /// The guard looks at D − W, on the node's own clock: whatever still runs then is killed.
    pub(crate) fn arm_guard(&mut self, i: usize, deadline: HolderTime) {
        let at = self.nodes[i].clock.when(deadline.minus(self.timing.watchdog).as_nanos());
        self.push(at, What::Guard { node: i });
    }

    /// After a jump of the clock: timers were set for another rate.
    pub(crate) fn rearm_guard(&mut self, i: usize) {
        let deadlines: BTreeSet<HolderTime> = self.nodes[i].guard_d.values().copied().collect();
        for d in deadlines {
            self.arm_guard(i, d);
        }
    }

    pub(crate) fn guard(&mut self, i: usize) {
        if self.nodes[i].paused {
            return; // it looks when the guest goes on
        }
        let now = self.clock(i).holder;
        let due: Vec<TicketId> = self.nodes[i]
            .running
            .keys()
            .copied()
            .filter(|t| {
                let d = self.nodes[i].guard_d.get(t).copied().unwrap_or_default();
                now >= d.minus(self.timing.watchdog)
            })
            .collect();
        for t in due {
            note!(self, "{:<6} guard kills ticket {t}", self.nodes[i].name);
            self.nodes[i].running.remove(&t);
        }
    }

    /// EXCL: at most one site runs anything under one ticket.
    pub(crate) fn check_exclusive(&mut self) {
        let mut homes: BTreeMap<TicketId, &MemberName> = BTreeMap::new();
        // What is paused from outside does nothing to anybody, until it goes on.
        for n in self.nodes.iter().filter(|n| !n.paused) {
            for t in n.running.keys() {
                if let Some(other) = homes.insert(*t, &n.name) {
                    panic!(
                        "EXCL: ticket {t} runs at {other} and at {}\n{}",
                        n.name,
                        tail(&self.log)
                    );
                }
            }
        }
    }

    /// EPOCH: at each member the term of a ticket only grows, and a term has one home everywhere.
    pub(crate) fn watch_terms(&mut self, i: usize) {
        let n = &self.nodes[i];
        let Some(d) = n.member.as_ref().and_then(Member::docket) else { return };
        for t in d.tickets() {
            let seen = self.terms.entry((i, n.life, t.id)).or_default();
            assert!(*seen <= t.last_term, "EPOCH: ticket {} went back at {}", t.id, n.name);
            *seen = t.last_term;
            let newest = self.granted.entry(t.id).or_default();
            *newest = (*newest).max(t.last_term);
            if let Some((_, site, term)) = t.holder() {
                let home = self.homes.entry((t.id, term)).or_insert_with(|| site.clone());
                assert_eq!(home, site, "EPOCH: term {term} of ticket {} has two homes", t.id);
            }
        }
    }
}
