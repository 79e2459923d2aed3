//! From orderings of operations to edges between actions.

use crate::Error;
use crate::action::{End, Order, Task, flag};
use crate::arena::{ActIx, RscIx};
use crate::cluster::Cluster;
use crate::model::{Kind, Role};

impl Cluster<'_> {
    /// Makes edges of all orderings and follows them.
    pub(crate) fn apply_orders(&mut self) -> Result<(), Error> {
        let orders = self.expand_for_migration();
        for order in &orders {
            self.resolve(order);
        }
        self.origin = None;
        self.order_probes_as_stops(&orders);
        self.follow_orders()?;
        self.order_probes_before_restarts();
        Ok(())
    }

    fn resolve(&mut self, order: &Order) {
        self.origin = order.origin;
        let firsts = match order.first {
            End::Action(ix) => vec![ix],
            End::Op(rsc, Task::Stop, _)
                if order.flags == flag::ORDERED
                    && self.rscs[rsc].kind == Kind::Bundle
                    && self.notifies_inside(rsc)
                    && self.outside(rsc, order.then) =>
            {
                // That is no order for a bundle, see `completed`.
                return;
            }
            End::Op(rsc, task, interval) => self.firsts(rsc, task, interval, order.then),
        };
        for first in firsts {
            match order.then {
                End::Action(then) => self.link_unless_nested(first, then, order.flags),
                End::Op(rsc, task, interval) => {
                    let mut flags = order.flags;
                    // What was left behind by a migration is stopped without a start to follow.
                    let a = &self.actions[first];
                    if a.rsc == Some(rsc)
                        && a.node.is_some_and(|n| self.rscs[rsc].dangling.contains(&n))
                    {
                        flags &= !flag::FIRST_IMPLIES_THEN;
                    }
                    for then in self.find_actions(rsc, task, interval) {
                        if !self.actions[then].phantom {
                            self.link_unless_nested(first, then, flags);
                        }
                    }
                }
            }
        }
    }

    /// What is inside of a guest is not ordered before the guest's own container, unless we do it: the end of the container
    /// is the end of it all.
    fn link_unless_nested(&mut self, first: ActIx, then: ActIx, flags: u32) {
        let guest = self.actions[first].node.and_then(|n| self.nodes[n].connection);
        let container = guest.and_then(|c| self.rscs[c].container);
        let nested = container.is_some() && container == self.actions[then].rsc;
        if !nested || flags & flag::PRESERVE != 0 {
            self.link(first, then, flags);
        }
    }

    /// The actions that come first. A collective is waited for until it is done, unless by what is in it.
    fn firsts(&mut self, rsc: RscIx, task: Task, interval: u64, then: End) -> Vec<ActIx> {
        let task = self.completed(rsc, task, then);
        if task.beginning() != task
            && self.outside(rsc, then)
            && let Some(told) = self.told_after(rsc, task.beginning())
        {
            return vec![told];
        }
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
            // It is not going to happen, so nothing can wait for it to be done.
            let ix = self.op(rsc, task, interval, None, true);
            self.actions[ix].phantom = true;
            vec![ix]
        } else {
            vec![self.pseudo_op(rsc, task, true)]
        }
    }

    fn completed(&self, rsc: RscIx, task: Task, then: End) -> Task {
        let r = &self.rscs[rsc];
        if r.kind == Kind::Primitive || r.kind == Kind::Bundle && self.notifies_inside(rsc) {
            // That all inside were told is known to the clone inside, not to the bundle.
            return task;
        }
        if self.outside(rsc, then) { task.completion() } else { task }
    }

    /// Whether an end is about something that is not inside of a resource.
    fn outside(&self, rsc: RscIx, end: End) -> bool {
        let other = match end {
            End::Action(ix) => self.actions[ix].rsc,
            End::Op(rsc, ..) => Some(rsc),
        };
        other.is_none_or(|o| !self.is_within(o, rsc))
    }

    /// Orderings with resources that migrate hold for the parts of the migration as well.
    fn expand_for_migration(&mut self) -> Vec<Order> {
        let orders = std::mem::take(&mut self.orders);
        let mut all = Vec::with_capacity(orders.len());
        for order in orders {
            if let (End::Op(first, a, _), End::Op(then, b, _)) = (order.first, order.then)
                && !self.is_within(first, then)
                && !self.is_within(then, first)
            {
                self.migration_equivalents((first, a), (then, b), &order, &mut all);
            }
            all.push(order);
        }
        all
    }

    fn migration_equivalents(
        &self,
        (first, a): (RscIx, Task),
        (then, b): (RscIx, Task),
        order: &Order,
        all: &mut Vec<Order>,
    ) {
        let (flags, origin) = (order.flags, order.origin);
        let moves = |r: RscIx| self.rscs[r].kind == Kind::Primitive && self.rscs[r].allow_migrate;
        let mut add = |x: (RscIx, Task), y: (RscIx, Task), flags: u32| {
            let (first, then) = (End::Op(x.0, x.1, 0), End::Op(y.0, y.1, 0));
            all.push(Order { first, then, flags, origin });
        };
        match (a, b) {
            (Task::Start, Task::Start) => {
                if moves(first) && moves(then) {
                    add((first, Task::MigrateFrom), (then, Task::MigrateTo), flags);
                }
                if moves(then) {
                    let flags =
                        if moves(first) { flags | flag::FIRST_NOT_MIGRATABLE } else { flags };
                    add((first, Task::Start), (then, Task::MigrateTo), flags);
                }
            }
            (Task::Stop, Task::Start) if moves(then) => {
                let flags = if moves(first) { flags | flag::FIRST_NOT_MIGRATABLE } else { flags };
                add((first, Task::Stop), (then, Task::MigrateTo), flags);
            }
            (Task::Stop, Task::Stop) if moves(then) => {
                let flags = if moves(first) { flags | flag::FIRST_NOT_MIGRATABLE } else { flags };
                add((first, Task::Stop), (then, Task::MigrateTo), flags);
                add((first, Task::Stop), (then, Task::MigrateFrom), flags);
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

    /// A probe may find what a stop would stop: what waits for the stop waits for the probe.
    fn order_probes_as_stops(&mut self, orders: &[Order]) {
        let kept = flag::SAME_NODE | flag::LOAD;
        for order in orders {
            let first = match order.first {
                End::Op(first, Task::Stop, 0) => first,
                End::Action(ix) if self.actions[ix].task == Task::Stop => {
                    let Some(first) = self.actions[ix].rsc else { continue };
                    first
                }
                _ => continue,
            };
            if self.rscs[first].kind != Kind::Primitive {
                continue;
            }
            let then_rsc = match order.then {
                End::Op(rsc, ..) => Some(rsc),
                End::Action(ix) => self.actions[ix].rsc,
            };
            let down = matches!(order.then, End::Op(_, Task::Stop, _));
            let around = down && then_rsc.is_some() && then_rsc == self.rscs[first].container;
            let unfences =
                matches!(order.then, End::Action(ix) if self.actions[ix].task == Task::Fence);
            if then_rsc == Some(first) || around || unfences {
                continue;
            }
            let probes = self.find_actions(first, Task::Monitor, 0);
            if probes.is_empty() {
                continue;
            }
            let thens = match order.then {
                End::Action(ix) => vec![ix],
                End::Op(rsc, task, interval) => self.find_actions(rsc, task, interval),
            };
            for probe in &probes {
                for then in &thens {
                    self.link(*probe, *then, flag::ORDERED | order.flags & kept);
                }
            }
        }
    }

    /// A restart waits until it is known where what it follows runs: all that a probed resource's start leads to,
    /// by orderings that make it restart, stops only after the probe. So does what follows it in its group, restart or not.
    fn order_probes_before_restarts(&mut self) {
        for rsc in self.rscs.keys() {
            if self.rscs[rsc].kind != Kind::Primitive {
                continue;
            }
            let probes: Vec<ActIx> = self.find_actions(rsc, Task::Monitor, 0);
            if probes.is_empty() {
                continue;
            }
            let mut firsts = self.actions[probes[0]].after.clone();
            firsts.retain(|a| self.actions[*a].rsc.is_some_and(|r| self.is_within(rsc, r)));
            firsts.extend(self.find_actions(rsc, Task::Start, 0));
            let mut stops = self.stops_that_follow(rsc, &firsts);
            for later in self.later_in_group(rsc) {
                stops.extend(self.find_actions(later, Task::Stop, 0));
            }
            stops.extend(self.stops_in_other_instances(rsc));
            for stop in stops {
                for probe in &probes {
                    self.link(*probe, stop, flag::ORDERED);
                }
            }
        }
    }

    /// Of a group that is cloned, and whose instances wait for each other, what is to stop in other instances that have a
    /// place: their clone begins only when it is known of each member where it runs.
    fn stops_in_other_instances(&self, member: RscIx) -> Vec<ActIx> {
        let group = self.rscs[member].parent.filter(|g| self.rscs[*g].kind == Kind::Group);
        let clone = group.and_then(|g| self.rscs[g].parent);
        let Some(clone) = clone.filter(|c| !self.rscs[*c].interleave) else { return Vec::new() };
        let mut found = Vec::new();
        for instance in self.rscs[clone].children.iter().filter(|i| Some(**i) != group) {
            let members = &self.rscs[*instance].children;
            if members.iter().any(|m| self.rscs[*m].assigned.is_some()) {
                found.extend(members.iter().flat_map(|m| self.find_actions(*m, Task::Stop, 0)));
            }
        }
        found.retain(|stop| !self.actions[*stop].optional);
        found
    }

    /// The members after one in an ordered group that is no instance of a clone.
    fn later_in_group(&self, rsc: RscIx) -> Vec<RscIx> {
        let group = self.rscs[rsc].parent.filter(|g| self.rscs[*g].kind == Kind::Group);
        let group = group.filter(|g| self.rscs[*g].parent.is_none() && self.is_ordered_group(*g));
        let Some(group) = group else { return Vec::new() };
        let members = self.rscs[group].children.iter().copied();
        members.skip_while(|m| *m != rsc).skip(1).collect()
    }

    /// Whether a resource is, or is in, another.
    pub(super) fn is_within(&self, rsc: RscIx, other: RscIx) -> bool {
        let mut at = Some(rsc);
        while let Some(r) = at {
            if r == other {
                return true;
            }
            at = self.rscs[r].parent;
        }
        false
    }

    fn stops_that_follow(&self, own: RscIx, firsts: &[ActIx]) -> Vec<ActIx> {
        let mut seen: Vec<ActIx> = Vec::new();
        let mut stack: Vec<ActIx> = firsts
            .iter()
            .copied()
            .filter(|a| matches!(self.actions[*a].task, Task::Start | Task::Promote))
            .collect();
        let mut found = Vec::new();
        while let Some(at) = stack.pop() {
            if seen.contains(&at) {
                continue;
            }
            seen.push(at);
            let a = &self.actions[at];
            let Some(rsc) = a.rsc else { continue };
            let begins = matches!(a.task, Task::Start | Task::Promote);
            if begins && a.optional && !self.is_within(own, rsc) {
                continue; // nothing of it restarts
            }
            if begins && self.rscs[rsc].kind != Kind::Primitive {
                stack.extend(self.find_action(rsc, a.task.completion(), None));
                if !self.is_within(own, rsc) {
                    for child in &self.rscs[rsc].children {
                        let begin = self.find_actions(*child, a.task, 0).into_iter();
                        stack.extend(begin.filter(|b| !self.actions[*b].phantom));
                    }
                }
            }
            let down = match a.task {
                Task::Start => Some(Task::Stop),
                Task::Promote => Some(Task::Demote),
                _ => None,
            };
            // Siblings wait by themselves, or not at all: see above.
            if let Some(down) = down.filter(|_| self.top_of(own) != self.top_of(rsc)) {
                let stopping = std::iter::once(rsc).chain(self.later_in_group(rsc));
                for stop in stopping.flat_map(|r| self.find_actions(r, down, 0)) {
                    let a = &self.actions[stop];
                    if !a.optional && !a.pseudo && !found.contains(&stop) {
                        found.push(stop);
                    }
                }
            }
            for after in &a.after {
                let implied = self.actions[*after]
                    .before
                    .iter()
                    .any(|e| e.other == at && e.flags & flag::FIRST_IMPLIES_THEN != 0);
                let target = self.actions[*after].rsc;
                let own_group = target.is_some_and(|r| {
                    let group = &self.rscs[r];
                    group.kind == Kind::Group && group.parent.is_none() && self.is_within(own, r)
                });
                if implied && !own_group && !self.interleaves(at, *after) {
                    stack.push(*after);
                }
            }
        }
        // Of an interleaved clone only what is beside the beginning of what it follows waits for it.
        let place = self.rscs[own].assigned.filter(|_| self.rscs[own].parent.is_none());
        found.retain(|stop| {
            let stop = &self.actions[*stop];
            let interleaved = stop.rsc.is_some_and(|r| self.rscs[self.top_of(r)].interleave);
            !interleaved || place.is_none() || stop.node == place
        });
        found
    }
}
