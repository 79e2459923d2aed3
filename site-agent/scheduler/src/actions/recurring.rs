//! Recurring operations: those that begin, and those that end because a role or the configuration changed.

use crate::action::{End, Task, flag};
use crate::arena::{ActIx, NodeIx, RscIx};
use crate::cluster::Cluster;
use crate::model::{OpConfig, Role};

impl<'a> Cluster<'a> {
    pub(super) fn create_recurring(&mut self, rsc: RscIx) {
        let ops: Vec<OpConfig<'a>> = self.rscs[rsc]
            .ops
            .iter()
            .filter(|o| {
                o.interval > 0
                    && o.enabled
                    && !matches!(o.name, "start" | "stop" | "promote" | "demote")
            })
            .cloned()
            .collect();
        // The same name and interval twice means neither.
        let twice = |o: &OpConfig<'a>| {
            ops.iter().filter(|p| p.name == o.name && p.interval == o.interval).count() > 1
        };
        let ops: Vec<OpConfig<'a>> = ops.iter().filter(|o| !twice(o)).cloned().collect();
        if ops.is_empty() {
            return;
        }
        let r = &self.rscs[rsc];
        let blocked = r.blocked;
        let maintained = r.maintenance || (!r.managed && self.options.maintenance);
        let node = r.assigned;
        let in_maintenance = node.is_some_and(|n| self.nodes[n].maintenance);
        if blocked {
            return;
        }
        for op in &ops {
            if op.role == Some(Role::Stopped) {
                if !maintained && !in_maintenance {
                    self.recurring_stopped(rsc, op);
                }
            } else if !maintained && !in_maintenance && self.rscs[rsc].next_role != Role::Stopped {
                self.recurring_active(rsc, op);
            }
        }
    }

    fn running_op(&self, rsc: RscIx, node: NodeIx, op: &OpConfig<'a>) -> bool {
        self.rsc_actions[rsc.0 as usize].iter().any(|a| {
            let action = &self.actions[*a];
            action.interval == op.interval
                && action.node == Some(node)
                && action.task == Task::Monitor
                && !action.reschedule
        })
    }

    fn recurring_active(&mut self, rsc: RscIx, op: &OpConfig<'a>) {
        let r = &self.rscs[rsc];
        let (node, next, role) = (r.assigned, r.next_role, r.role);
        let runs = node.is_some_and(|n| self.running_op(rsc, n, op));
        let fits = match op.role {
            None => next != Role::Promoted,
            Some(wanted) => wanted == next,
        };
        if !fits {
            if runs {
                let then = match role {
                    Role::Promoted => Some(Task::Demote),
                    Role::Unpromoted | Role::Started if next == Role::Promoted => {
                        Some(Task::Promote)
                    }
                    Role::Unpromoted | Role::Started if next == Role::Stopped => Some(Task::Stop),
                    _ => None,
                };
                if let Some(node) = node {
                    self.cancel(rsc, node, "monitor", op.interval, then);
                }
            }
            return;
        }
        let start = node.and_then(|n| self.find_action(rsc, Task::Start, Some(n)));
        let mon = self.op(rsc, Task::Monitor, op.interval, node, runs);
        if start.is_some_and(|s| !self.actions[s].runnable)
            || node.is_none_or(|n| !self.nodes[n].online || self.nodes[n].unclean)
        {
            self.actions[mon].runnable = false;
        }
        if next == Role::Promoted {
            self.actions[mon].target_rc = Some(8);
        }
        self.order_recurring(rsc, mon);
    }

    fn order_recurring(&mut self, rsc: RscIx, mon: ActIx) {
        if !self.rscs[rsc].managed {
            return;
        }
        let (next, role) = (self.rscs[rsc].next_role, self.rscs[rsc].role);
        let firm = flag::FIRST_IMPLIES_THEN | flag::UNRUNNABLE_BLOCKS;
        self.order(End::Op(rsc, Task::Start, 0), End::Action(mon), firm);
        self.order(End::Op(rsc, Task::Reload, 0), End::Action(mon), firm);
        if next == Role::Promoted {
            self.order(
                End::Op(rsc, Task::Promote, 0),
                End::Action(mon),
                flag::ORDERED | flag::UNRUNNABLE_BLOCKS,
            );
        } else if role == Role::Promoted {
            self.order(
                End::Op(rsc, Task::Demote, 0),
                End::Action(mon),
                flag::ORDERED | flag::UNRUNNABLE_BLOCKS,
            );
        }
    }

    /// Ends a recurring operation.
    pub(crate) fn cancel(
        &mut self,
        rsc: RscIx,
        node: NodeIx,
        task: &str,
        interval: u64,
        then: Option<Task>,
    ) -> ActIx {
        let key = format!("{}_{task}_{interval}", self.rscs[rsc].id);
        let found = self.rsc_actions[rsc.0 as usize].iter().copied().find(|a| {
            let x = &self.actions[*a];
            x.task == Task::Cancel && x.node == Some(node) && x.key == key
        });
        let ix = if let Some(ix) = found {
            ix
        } else {
            let mut action = Self::blank(key, Task::Cancel);
            action.rsc = Some(rsc);
            action.node = Some(node);
            action.runnable = self.nodes[node].online && !self.nodes[node].unclean;
            action.meta.push(("interval".into(), interval.to_string()));
            action.meta.push(("operation".into(), task.to_owned()));
            let ix = self.actions.push(action);
            self.rsc_actions[rsc.0 as usize].push(ix);
            ix
        };
        if let Some(then) = then {
            self.order(
                End::Action(ix),
                End::Op(rsc, then, 0),
                flag::ORDERED | flag::UNRUNNABLE_BLOCKS,
            );
        }
        ix
    }

    /// Operations with `role=Stopped` run where the resource does not.
    fn recurring_stopped(&mut self, rsc: RscIx, op: &OpConfig<'a>) {
        let unique = !self.anonymous(rsc);
        if !unique {
            return;
        }
        let next = self.rscs[rsc].assigned.filter(|_| self.rscs[rsc].next_role != Role::Stopped);
        if let Some(node) = next
            && self.running_op(rsc, node, op)
        {
            let then = self.rscs[rsc].next_role.active().then_some(Task::Start);
            self.cancel(rsc, node, "monitor", op.interval, then);
        }
        for node in self.nodes.keys() {
            if Some(node) == next {
                continue;
            }
            let n = &self.nodes[node];
            let rests = n.maintenance && self.rscs[rsc].running_on.contains(&node);
            if (!n.online || n.unclean || rests || n.pending) && !self.running_op(rsc, node, op) {
                continue;
            }
            let runs = self.running_op(rsc, node, op);
            let mon = self.op(rsc, Task::Monitor, op.interval, Some(node), runs);
            self.actions[mon].target_rc = Some(7);
            self.actions[mon].meta.push(("role".into(), "Stopped".into()));
            let stops = self.find_actions(rsc, Task::Stop, 0);
            let probes: Vec<ActIx> = self
                .find_actions(rsc, Task::Monitor, 0)
                .into_iter()
                .filter(|a| self.actions[*a].node == Some(node))
                .collect();
            let managed = self.rscs[rsc].managed;
            for probe in probes.into_iter().filter(|_| managed) {
                self.order(
                    End::Action(probe),
                    End::Action(mon),
                    flag::UNRUNNABLE_BLOCKS | flag::ORDERED,
                );
            }
            for stop in stops {
                if !self.actions[stop].runnable && self.actions[stop].node == Some(node) {
                    self.actions[mon].runnable = false;
                }
                if self.actions[stop].node == Some(node) && self.rscs[rsc].managed {
                    let firm = flag::FIRST_IMPLIES_THEN | flag::UNRUNNABLE_BLOCKS;
                    self.order(End::Action(stop), End::Action(mon), firm);
                }
            }
            if !self.nodes[node].online || self.nodes[node].unclean {
                self.actions[mon].runnable = false;
            }
        }
    }
}
