//! From orderings of operations to edges between actions.

use crate::action::{End, Order, Task, flag};
use crate::arena::{ActIx, RscIx};
use crate::cluster::Cluster;
use crate::model::{Kind, Role};

impl Cluster<'_> {
    /// Makes edges of all orderings and follows them.
    pub(crate) fn apply_orders(&mut self) {
        let orders = self.expand_for_migration();
        for order in &orders {
            self.resolve(order);
        }
        self.order_probes_before_restarts(&orders);
        self.follow_orders();
    }

    fn resolve(&mut self, order: &Order) {
        let firsts = match order.first {
            End::Action(ix) => vec![ix],
            End::Op(rsc, task, interval) => self.firsts(rsc, task, interval, order.then),
        };
        for first in firsts {
            match order.then {
                End::Action(then) => self.link(first, then, order.flags),
                End::Op(rsc, task, interval) => {
                    let mut flags = order.flags;
                    // What was left behind by a migration is stopped without a start to follow.
                    let a = &self.actions[first];
                    if a.rsc == Some(rsc) && a.node.is_some_and(|n| self.rscs[rsc].dangling.contains(&n)) {
                        flags &= !flag::FIRST_IMPLIES_THEN;
                    }
                    for then in self.find_actions(rsc, task, interval) {
                        self.link(first, then, flags);
                    }
                }
            }
        }
    }

    /// The actions that come first. A collective is waited for until it is done, unless by what is in it.
    fn firsts(&mut self, rsc: RscIx, task: Task, interval: u64, then: End) -> Vec<ActIx> {
        let task = self.completed(rsc, task, then);
        let found = self.find_actions(rsc, task, interval);
        if !found.is_empty() {
            return found;
        }
        let role = self.role_of(rsc, true);
        match task.beginning() {
            Task::Stop if role <= Role::Stopped => return Vec::new(),
            Task::Demote if role < Role::Promoted => return Vec::new(),
            Task::Start | Task::Stop | Task::Promote | Task::Demote => {}
            _ => return Vec::new(),
        }
        if self.rscs[rsc].kind == Kind::Primitive {
            let node = self.rscs[rsc].assigned;
            let node = if matches!(task, Task::Start | Task::Promote) { node } else { None };
            vec![self.op(rsc, task, interval, node, true)]
        } else {
            vec![self.pseudo_op(rsc, task, true)]
        }
    }

    fn completed(&self, rsc: RscIx, task: Task, then: End) -> Task {
        if self.rscs[rsc].kind == Kind::Primitive {
            return task;
        }
        let other = match then {
            End::Action(ix) => self.actions[ix].rsc,
            End::Op(rsc, ..) => Some(rsc),
        };
        let mut at = other;
        while let Some(r) = at {
            if r == rsc {
                return task;
            }
            at = self.rscs[r].parent;
        }
        task.completion()
    }

    /// Orderings with resources that migrate hold for the parts of the migration as well.
    fn expand_for_migration(&mut self) -> Vec<Order> {
        let orders = std::mem::take(&mut self.orders);
        let mut all = Vec::with_capacity(orders.len());
        for order in orders {
            if let (End::Op(first, a, _), End::Op(then, b, _)) = (order.first, order.then)
                && first != then
            {
                self.migration_equivalents((first, a), (then, b), order.flags, &mut all);
            }
            all.push(order);
        }
        all
    }

    fn migration_equivalents(
        &self,
        (first, a): (RscIx, Task),
        (then, b): (RscIx, Task),
        flags: u32,
        all: &mut Vec<Order>,
    ) {
        let moves = |r: RscIx| self.rscs[r].kind == Kind::Primitive && self.rscs[r].allow_migrate;
        let mut add = |x: (RscIx, Task), y: (RscIx, Task), flags: u32| {
            all.push(Order { first: End::Op(x.0, x.1, 0), then: End::Op(y.0, y.1, 0), flags });
        };
        match (a, b) {
            (Task::Start, Task::Start) => {
                if moves(first) && moves(then) {
                    add((first, Task::MigrateFrom), (then, Task::MigrateTo), flags);
                }
                if moves(then) {
                    let flags = if moves(first) { flags | flag::UNMIGRATABLE_BLOCKS } else { flags };
                    add((first, Task::Start), (then, Task::MigrateTo), flags);
                }
            }
            (Task::Stop, Task::Stop) if moves(first) => {
                let flags = if moves(then) { flags | flag::UNMIGRATABLE_BLOCKS } else { flags };
                // What moves away first must have moved before the other goes down, or moves.
                if moves(then) {
                    add((first, Task::MigrateTo), (then, Task::MigrateTo), flags & flag::ORDERED);
                    add((first, Task::MigrateFrom), (then, Task::MigrateFrom), flags & flag::ORDERED);
                }
                let _ = flags;
            }
            (Task::Promote, Task::Start) if moves(then) => {
                add((first, Task::Promote), (then, Task::MigrateTo), flags);
            }
            (Task::Demote, Task::Stop) if moves(then) => {
                add((first, Task::Demote), (then, Task::MigrateTo), flags);
                add((first, Task::Demote), (then, Task::MigrateFrom), flags);
            }
            _ => {}
        }
    }

    /// A restart waits until it is known where what it waits for runs.
    fn order_probes_before_restarts(&mut self, orders: &[Order]) {
        let probes: Vec<ActIx> = self
            .actions
            .keys()
            .filter(|a| {
                let x = &self.actions[*a];
                x.task == Task::Monitor && x.interval == 0 && x.rsc.is_some()
            })
            .collect();
        if probes.is_empty() {
            return;
        }
        for order in orders {
            let (End::Op(first, a, 0), End::Op(then, b, 0)) = (order.first, order.then) else { continue };
            if first == then || a != Task::Start || b != Task::Start || order.flags == flag::SERIALIZE {
                continue;
            }
            if order.flags & (flag::FIRST_IMPLIES_THEN | flag::UNRUNNABLE_BLOCKS) == 0 {
                continue;
            }
            if self.rscs[first].kind != Kind::Primitive || self.rscs[then].kind == Kind::Clone {
                continue;
            }
            let first_probes: Vec<ActIx> = self.find_actions(first, Task::Monitor, 0);
            if first_probes.is_empty() {
                continue;
            }
            let _ = b;
        }
    }
}
