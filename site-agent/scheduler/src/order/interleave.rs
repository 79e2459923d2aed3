//! Interleaving: orderings between two clones that hold instance by instance, on the same node.

use super::update::{Changed, Filter, Work};
use crate::action::{Task, flag};
use crate::arena::{ActIx, NodeIx, RscIx};
use crate::cluster::Cluster;
use crate::model::{Kind, Role};

impl Cluster<'_> {
    /// Whether an edge between two clones goes by instances.
    pub(super) fn interleaves(&self, first: ActIx, then: ActIx) -> bool {
        let (Some(a), Some(b)) = (self.actions[first].rsc, self.actions[then].rsc) else {
            return false;
        };
        let several = |r: RscIx| matches!(self.rscs[r].kind, Kind::Clone | Kind::Bundle);
        if a == b || !several(a) || !several(b) {
            return false;
        }
        // Going down it is the one that goes first that says so.
        let down = matches!(self.base_task(first), Task::Stop | Task::Demote);
        if down { self.rscs[a].interleave } else { self.rscs[b].interleave }
    }

    /// What an action is about: a confirmation that all were told of a start is about the start.
    fn base_task(&self, ix: ActIx) -> Task {
        let task = self.actions[ix].task;
        if !matches!(task, Task::Notify | Task::Notified) {
            return task.beginning();
        }
        self.notices.iter().find(|n| n.post_done == ix || n.post == ix).map_or(task, |n| n.task)
    }

    pub(super) fn update_interleaved(
        &mut self,
        first: ActIx,
        then: ActIx,
        node: Option<NodeIx>,
        filter: Filter,
        bit: u32,
        work: &mut Work,
    ) -> Changed {
        let mut changed = Changed::default();
        let (Some(a), Some(b)) = (self.actions[first].rsc, self.actions[then].rsc) else {
            return changed;
        };
        let first_task = self.base_task(first);
        let then_task = self.actions[then].task;
        let current = matches!(first_task, Task::Stop | Task::Demote);
        for instance in self.instances(b) {
            let Some(partner) = self.compatible(instance, a, current) else {
                let blocks = bit == flag::UNRUNNABLE_BLOCKS || bit == flag::THEN_IMPLIES_FIRST;
                if !current
                    && blocks
                    && !self.rscs[instance].assigned_all.is_empty()
                        | self.rscs[instance].assigned.is_some()
                {
                    self.give_up(instance, work);
                    changed.then = true;
                }
                continue;
            };
            let (partner, instance) = self.stand_ins(partner, first_task, instance, then_task);
            let inside = |r: RscIx| self.replica_of(r).is_some_and(|x| x.child == Some(r));
            let (first_node, then_node) =
                (node.filter(|_| !inside(partner)), node.filter(|_| !inside(instance)));
            let one = self
                .find_action(
                    partner,
                    first_task.for_instance(self.rscs[partner].kind, true),
                    first_node,
                )
                .or_else(|| self.find_action(partner, first_task, first_node));
            let other = self.find_action(instance, then_task, then_node);
            let (Some(one), Some(other)) = (one, other) else { continue };
            self.link_new(one, other, bit, work);
            let seen = self.seen(one, node);
            let c = self.update_ordered(one, other, node, seen, filter, bit, work);
            self.queue_changes(one, other, c, work);
            changed.add(Changed { first: c.first, then: c.then });
        }
        changed
    }

    /// Of a bundle it is what runs inside that is waited for, and that is promoted; all else is up to the container.
    fn stand_ins(&self, first: RscIx, a: Task, then: RscIx, b: Task) -> (RscIx, RscIx) {
        let inside =
            |rsc: RscIx| self.replica_of(rsc).filter(|r| r.container == rsc).and_then(|r| r.child);
        let first_in = inside(first).filter(|_| a.beginning() != Task::Stop);
        let then_in =
            inside(then).filter(|_| matches!(b.beginning(), Task::Promote | Task::Demote));
        (first_in.unwrap_or(first), then_in.unwrap_or(then))
    }

    fn link_new(&mut self, first: ActIx, then: ActIx, flags: u32, work: &mut Work) {
        let present =
            self.actions[then].before.iter().any(|e| e.other == first && e.flags == flags);
        if !present {
            self.link(first, then, flags);
            work.push(then);
        }
    }

    /// An instance without a partner can not come up.
    fn give_up(&mut self, instance: RscIx, work: &mut Work) {
        let mut parts = Vec::new();
        self.primitives(instance, &mut parts);
        for part in parts {
            if self.rscs[part].assigned.is_none() {
                continue;
            }
            self.unassign(part);
            self.rscs[part].provisional = false;
            self.rscs[part].next_role = Role::Stopped;
            for ix in self.rsc_actions[part.0 as usize].clone() {
                let a = &mut self.actions[ix];
                match a.task {
                    Task::Start | Task::Promote | Task::Monitor
                        if a.interval > 0 || a.task != Task::Monitor =>
                    {
                        a.runnable = false;
                        work.push(ix);
                        for after in self.actions[ix].after.clone() {
                            work.push(after);
                        }
                    }
                    Task::Stop => {
                        a.optional = false;
                        work.push(ix);
                    }
                    _ => {}
                }
            }
        }
        self.rscs[instance].assigned = None;
        self.rscs[instance].assigned_all.clear();
    }

    /// The instance of another clone that is on the same node.
    fn compatible(&self, instance: RscIx, clone: RscIx, current: bool) -> Option<RscIx> {
        let place = |rsc: RscIx| -> Option<NodeIx> {
            if current {
                return self.running_nodes(rsc).first().copied();
            }
            self.rscs[rsc].assigned
        };
        let matches = |node: NodeIx| {
            self.instances(clone).into_iter().find(|c| {
                let role = self.role_of(*c, current);
                place(*c) == Some(node) && role.active()
            })
        };
        if let Some(node) = place(instance) {
            return matches(node);
        }
        let row = &self.rscs[instance].allowed;
        self.sorted_nodes(row, None).into_iter().find_map(matches)
    }
}

impl Task {
    /// An instance that is itself a group is waited for until it is done.
    fn for_instance(self, kind: Kind, wait: bool) -> Self {
        if wait && kind != Kind::Primitive { self.completion() } else { self }
    }
}
