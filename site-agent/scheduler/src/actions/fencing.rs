//! Fencing and shutdown of nodes, and what of a resource must wait for them.

use crate::action::{Task, flag};
use crate::arena::{ActIx, NodeIx, RscIx};
use crate::cluster::Cluster;
use crate::model::{Kind, NodeKind, Requires};
use crate::options::NoQuorum;

impl Cluster<'_> {
    /// Whether a node may be fenced by this partition.
    pub(crate) fn can_fence(&self, node: NodeIx) -> bool {
        let n = &self.nodes[node];
        if n.kind == NodeKind::Guest {
            return n.connection.and_then(|c| self.rscs[c].container).is_none_or(|container| {
                self.rscs[container]
                    .running_on
                    .iter()
                    .all(|h| self.nodes[*h].online || self.can_fence(*h))
            });
        }
        if !self.fencing() || !self.has_fencing {
            return false;
        }
        if self.quorate || self.options.no_quorum == NoQuorum::Ignore {
            return true;
        }
        if n.kind == NodeKind::Remote && self.options.fence_remote_without_quorum {
            return true;
        }
        n.online
    }

    /// Fences and shuts down what must be.
    pub(crate) fn create_node_actions(&mut self) {
        self.fence_actions = vec![None; self.nodes.len()];
        let mut fences: Vec<ActIx> = Vec::new();
        let (mut dc_fence, mut dc_shutdown) = (None, None);
        let mut shutdowns = Vec::new();
        let mut previous: Option<ActIx> = None;
        let managed = self.anything_managed();
        for node in self.nodes.keys() {
            let n = &self.nodes[node];
            if n.kind == NodeKind::Guest {
                if n.remote_reset && self.can_fence(node) {
                    self.fence_guest(node);
                }
                continue;
            }
            if n.unclean && managed && self.can_fence(node) {
                let fence = self.fence_action(node);
                self.order_fence(fence, node);
                if n_is_dc(self, node) {
                    dc_fence = Some(fence);
                } else {
                    if !self.options.concurrent_fencing
                        && let Some(before) = previous
                    {
                        self.link(before, fence, flag::ORDERED);
                    }
                    previous = Some(fence);
                    fences.push(fence);
                }
            } else if n.online && n.shutdown && !n.is_remote() {
                let down = self.shutdown_action(node);
                if n_is_dc(self, node) {
                    dc_shutdown = Some(down);
                } else {
                    shutdowns.push(down);
                }
            }
        }
        if let Some(down) = dc_shutdown {
            for other in &shutdowns {
                self.link(*other, down, flag::ORDERED);
            }
            for fence in &fences {
                self.link(*fence, down, flag::ORDERED);
            }
        }
        if let Some(fence) = dc_fence {
            // Whoever coordinates goes last.
            if self.options.concurrent_fencing {
                for other in &fences {
                    self.link(*other, fence, flag::ORDERED);
                }
            } else if let Some(last) = fences.last() {
                self.link(*last, fence, flag::ORDERED);
            }
            if let Some(down) = dc_shutdown {
                self.link(fence, down, flag::ORDERED);
            }
        }
    }

    /// While nobody's resources are managed no node is fenced for them: whoever maintains them may be at work there.
    fn anything_managed(&self) -> bool {
        // What is blocked is managed, and in trouble.
        let managed = |r: RscIx| self.rscs[r].managed || self.rscs[r].blocked;
        self.rscs.keys().any(|r| self.rscs[r].kind == Kind::Primitive && managed(r))
    }

    fn fence_action(&mut self, node: NodeIx) -> ActIx {
        if let Some(ix) = self.fence_actions[node.0 as usize] {
            return ix;
        }
        let op = if self.options.fencing_action == "off" { "off" } else { "reboot" };
        let mut action =
            Self::blank(format!("stonith-{}-{op}", self.nodes[node].name), Task::Fence);
        action.node = Some(node);
        action.meta.push(("stonith_action".into(), op.to_owned()));
        let reason =
            self.nodes[node].fence_reason.clone().unwrap_or_else(|| "node is unclean".into());
        action.reason = Some(reason);
        if self.options.priority_fencing_delay > 0 && self.nodes[node].fence_priority_delay {
            let delay = self.priority_delay(node);
            if delay > 0 {
                action.meta.push(("priority_fencing_delay".into(), delay.to_string()));
            }
        }
        let ix = self.actions.push(action);
        self.fence_actions[node.0 as usize] = Some(ix);
        ix
    }

    /// Seconds that fencing of the more important half waits.
    fn priority_delay(&self, node: NodeIx) -> u64 {
        let members: Vec<NodeIx> =
            self.nodes.keys().filter(|n| self.nodes[*n].kind == NodeKind::Member).collect();
        let online = members.iter().filter(|n| self.nodes[**n].online).count();
        if online * 2 > members.len() && members.len() > 2 || online * 2 < members.len() {
            return 0;
        }
        let priorities: Vec<i32> = members.iter().map(|n| self.nodes[*n].priority).collect();
        let (low, high) = (
            priorities.iter().min().copied().unwrap_or(0),
            priorities.iter().max().copied().unwrap_or(0),
        );
        if low == high || self.nodes[node].priority < high {
            return 0;
        }
        self.options.priority_fencing_delay / 1000
    }

    fn fence_guest(&mut self, node: NodeIx) {
        let mut action = Self::blank(format!("stonith-{}-off", self.nodes[node].name), Task::Fence);
        action.node = Some(node);
        action.pseudo = true;
        let connection = self.nodes[node].connection;
        let container = connection.and_then(|c| self.rscs[c].container);
        let stop = container.and_then(|c| {
            self.find_actions(c, Task::Stop, 0).into_iter().find(|a| !self.actions[*a].optional)
        });
        let comes_up = container.is_some_and(|c| {
            self.find_actions(c, Task::Start, 0).iter().any(|a| self.actions[*a].node.is_some())
        });
        let op = if comes_up { "reboot" } else { "off" };
        action.key = format!("stonith-{}-{op}", self.nodes[node].name).into();
        action.meta.push(("stonith_action".into(), op.to_owned()));
        action.reason = Some("guest is unclean".into());
        let ix = self.actions.push(action);
        self.fence_actions[node.0 as usize] = Some(ix);
        let host = container.and_then(|c| self.rscs[c].running_on.first().copied());
        let host = host.filter(|h| self.nodes[*h].unclean && self.can_fence(*h));
        if let Some(host) = host {
            // The end of the host is the end of the guest.
            let fence = self.fence_action(host);
            self.link(fence, ix, flag::FIRST_IMPLIES_THEN | flag::UNRUNNABLE_BLOCKS);
        } else if let Some(stop) = stop {
            self.link(stop, ix, flag::FIRST_IMPLIES_THEN | flag::UNRUNNABLE_BLOCKS);
        } else if let Some(stop) = connection.and_then(|c| self.find_action(c, Task::Stop, None)) {
            self.link(stop, ix, flag::ORDERED);
        }
        self.order_fence(ix, node);
    }

    fn shutdown_action(&mut self, node: NodeIx) -> ActIx {
        let mut action =
            Self::blank(format!("do_shutdown-{}", self.nodes[node].name), Task::Shutdown);
        action.node = Some(node);
        let down = self.actions.push(action);
        for ix in self.actions.keys() {
            let a = &self.actions[ix];
            let Some(rsc) = a.rsc else { continue };
            if a.task != Task::Stop || a.node != Some(node) {
                continue;
            }
            let r = &self.rscs[rsc];
            if r.maintenance || self.nodes[node].maintenance {
                continue;
            }
            if !r.managed && !r.blocked {
                // The shutdown does not wait for what nobody is going to stop.
                continue;
            }
            self.link(ix, down, flag::ORDERED | flag::UNRUNNABLE_BLOCKS);
        }
        down
    }

    fn order_fence(&mut self, fence: ActIx, target: NodeIx) {
        for rsc in self.rscs.keys() {
            let r = &self.rscs[rsc];
            if r.kind != Kind::Primitive || !r.managed {
                continue;
            }
            self.order_starts_after(rsc, fence, target);
            self.order_stops_after(rsc, fence, target);
        }
    }

    fn order_starts_after(&mut self, rsc: RscIx, fence: ActIx, target: NodeIx) {
        let actions: Vec<ActIx> = self.rsc_actions[rsc.0 as usize].clone();
        for ix in actions {
            let task = self.actions[ix].task;
            match self.needs(rsc, task) {
                Requires::Nothing => {}
                Requires::Fencing | Requires::Unfencing => self.link(fence, ix, flag::ORDERED),
                Requires::Quorum => {
                    let holds = self.nodes[target]
                        .connection
                        .is_some_and(|c| self.rscs[c].container == Some(rsc));
                    let listed = !holds
                        && !self.nodes[target].bundled
                        && self.rscs[rsc].allowed[target.0 as usize].listed;
                    if task == Task::Start && listed && !self.known_enough(rsc, target) {
                        self.link(fence, ix, flag::ORDERED | flag::UNRUNNABLE_BLOCKS);
                    }
                }
            }
        }
    }

    /// Whether it is known if a resource runs on a node. Of a cloned one any instance tells, of a member of a cloned
    /// group each has to tell itself.
    fn known_enough(&self, rsc: RscIx, node: NodeIx) -> bool {
        let parent = self.rscs[rsc].parent;
        let cloned = parent.is_some_and(|p| self.rscs[p].kind == Kind::Clone);
        self.rscs[rsc].known_on.contains(&node) || cloned && self.known_on_node(rsc, node)
    }

    fn order_stops_after(&mut self, rsc: RscIx, fence: ActIx, target: NodeIx) {
        let r = &self.rscs[rsc];
        let guest = self.nodes[target].kind == NodeKind::Guest;
        let implicit = r.requires >= Requires::Fencing || guest;
        let on_target = |c: &Self, task: Task| -> Vec<ActIx> {
            c.rsc_actions[rsc.0 as usize]
                .iter()
                .copied()
                .filter(|a| c.actions[*a].task == task && c.actions[*a].node == Some(target))
                .collect()
        };
        for stop in on_target(self, Task::Stop) {
            let a = &mut self.actions[stop];
            a.pseudo = true;
            a.runnable = true;
            if implicit {
                a.by_fencing = true;
                if self.replica_of(rsc).is_none_or(|r| r.child != Some(rsc)) {
                    // Inside of a bundle the stop of the clone is what waits.
                    self.link(fence, stop, flag::ORDERED | flag::PRESERVE);
                }
                // The whole is down only after the fencing. Of a resource that is in nothing the last of its stops
                // is taken for that.
                let top = self.top_of(rsc);
                let whole = self.rsc_actions[top.0 as usize].iter().rev().copied().find(|a| {
                    self.actions[*a].task == Task::Stop
                        && (top == rsc || self.actions[*a].node.is_none())
                });
                if let Some(whole) = whole {
                    self.link(fence, whole, flag::PRESERVE);
                }
            }
            if self.rscs[rsc].notify {
                self.notify_of_fenced_stop(rsc, fence);
            }
        }
        let failed = self.rscs[rsc].failed;
        for demote in on_target(self, Task::Demote) {
            let n = &self.nodes[target];
            if !n.online || n.unclean || failed {
                let a = &mut self.actions[demote];
                a.pseudo = true;
                a.runnable = true;
                if implicit && self.replica_of(rsc).is_none_or(|r| r.child != Some(rsc)) {
                    self.link(fence, demote, flag::ORDERED | flag::PRESERVE);
                }
            }
        }
    }
}

fn n_is_dc(cluster: &Cluster<'_>, node: NodeIx) -> bool {
    cluster.nodes[node].is_dc
}
