//! Probes: finding out what runs where, before anything is started.

use crate::action::{End, Task, flag};
use crate::arena::{ActIx, NodeIx, RscIx};
use crate::cluster::Cluster;
use crate::model::{Discover, Kind, NodeKind, Role};

impl Cluster<'_> {
    /// Makes probes for what is not known.
    pub(crate) fn create_probes(&mut self) {
        if !self.options.startup_probes {
            return;
        }
        let top = self.top.clone();
        for node in self.nodes.keys() {
            if !self.nodes[node].online && self.unrecoverable(node) {
                self.doom(node, "the connection is unrecoverable");
            }
            let n = &self.nodes[node];
            if !n.online || n.unclean || !n.discovery {
                continue;
            }
            for rsc in &top {
                self.probe(*rsc, node);
            }
        }
    }

    pub(crate) fn probe(&mut self, rsc: RscIx, node: NodeIx) -> bool {
        let r = &self.rscs[rsc];
        match r.kind {
            Kind::Group => {
                let mut any = false;
                for child in r.children.clone() {
                    any |= self.probe(child, node);
                }
                any
            }
            Kind::Clone => self.probe_clone(rsc, node),
            Kind::Bundle => self.probe_bundle(rsc, node),
            Kind::Primitive => self.probe_primitive(rsc, node),
        }
    }

    fn probe_clone(&mut self, clone: RscIx, node: NodeIx) -> bool {
        let r = &self.rscs[clone];
        if r.exclusive_discover && r.allowed[node.0 as usize].discover != Discover::Exclusive {
            for instance in r.children.clone() {
                self.rscs[instance].allowed[node.0 as usize].listed = false;
            }
            return false;
        }
        let children = r.children.clone();
        if r.unique {
            let mut any = false;
            for child in children {
                any |= self.probe(child, node);
            }
            return any;
        }
        // Where an instance runs, was looked for before or is going to run, that one probes; else the first.
        let here = children.iter().copied().find(|c| self.running_nodes(*c).contains(&node));
        let here = here.or_else(|| children.iter().copied().find(|c| self.partly_known(*c, node)));
        let planned = children.iter().copied().find(|c| self.rscs[*c].assigned == Some(node));
        let chosen = here.or(planned).or_else(|| children.first().copied());
        chosen.is_some_and(|c| self.probe(c, node))
    }

    fn partly_known(&self, instance: RscIx, node: NodeIx) -> bool {
        let r = &self.rscs[instance];
        r.known_on.contains(&node) || r.children.iter().any(|m| self.partly_known(*m, node))
    }

    /// Whether it is known of a resource, or of another instance of it, whether it runs on a node.
    pub(super) fn known_on_node(&self, rsc: RscIx, node: NodeIx) -> bool {
        if self.rscs[rsc].known_on.contains(&node) {
            return true;
        }
        if self.anonymous(rsc)
            && let Some(clone) = self.clone_above(rsc)
        {
            return self
                .sibling_primitives(clone, rsc)
                .iter()
                .any(|s| self.rscs[*s].known_on.contains(&node));
        }
        false
    }

    fn may_probe(&self, rsc: RscIx, node: NodeIx) -> bool {
        let r = &self.rscs[rsc];
        let n = &self.nodes[node];
        if r.removed && r.instance.is_none() {
            return false;
        }
        if n.is_remote() && (r.fence_device || r.remote_node.is_some()) {
            return false;
        }
        if r.container.is_some() && r.remote_node.is_none() {
            // It can be where its container is, and nowhere else.
            return false;
        }
        let holds_node = self.replica_of(rsc).is_some_and(|x| x.remote.is_some());
        if n.kind == NodeKind::Guest && holds_node {
            let child = self.replica_of(rsc).and_then(|x| x.child);
            if child != Some(rsc) {
                return false;
            }
        }
        if n.is_remote() && self.guest_of(rsc).is_some() {
            // Guests are not nested.
            return false;
        }
        if n.kind == NodeKind::Guest && self.starts_blank(node) {
            return false;
        }
        if self.known_on_node(rsc, node) {
            return false;
        }
        let discover = r.allowed[node.0 as usize].discover;
        let exclusive = r.exclusive_discover || self.rscs[self.top_of(rsc)].exclusive_discover;
        if exclusive && discover != Discover::Exclusive {
            return false;
        }
        discover != Discover::Never
    }

    /// Whether a guest comes up anew, so that nothing can run there.
    fn starts_blank(&self, guest: NodeIx) -> bool {
        let container = self.nodes[guest].connection.and_then(|c| self.rscs[c].container);
        container.is_none_or(|c| {
            let c = &self.rscs[c];
            let stays = c.assigned.is_some_and(|n| c.running_on.contains(&n));
            c.role == Role::Stopped || c.next_role == Role::Stopped || c.failed || !stays
        })
    }

    fn probe_primitive(&mut self, rsc: RscIx, node: NodeIx) -> bool {
        if !self.may_probe(rsc, node) {
            return false;
        }
        let probe = self.op(rsc, Task::Monitor, 0, Some(node), false);
        let r = &self.rscs[rsc];
        let target = if !r.running_on.contains(&node) {
            Some(7)
        } else if r.role == Role::Promoted {
            Some(8)
        } else {
            None
        };
        self.actions[probe].target_rc = target;
        self.after_unfencing(probe, flag::ORDERED);
        self.order_probe(rsc, probe);
        true
    }

    /// A start waits for all probes of the resource; those of a clone for all probes of all instances.
    fn order_probe(&mut self, rsc: RscIx, probe: ActIx) {
        let top = self.clone_above(rsc).unwrap_or(rsc);
        let mut flags = flag::ORDERED;
        if !self.actions[probe].runnable {
            // What does not run must not start before it is known; what runs is left alone.
            let blocks = flag::ORDERED | flag::UNRUNNABLE_BLOCKS;
            if top == rsc {
                if self.rscs[rsc].running_on.is_empty() {
                    flags = blocks;
                }
            } else {
                for instance in self.rscs[top].children.clone() {
                    if !self.running_nodes(instance).is_empty() {
                        continue;
                    }
                    self.order(End::Action(probe), End::Op(instance, Task::Start, 0), blocks);
                }
            }
        }
        self.order(End::Action(probe), End::Op(top, Task::Start, 0), flags);
        self.order(End::Action(probe), End::Op(rsc, Task::Reload, 0), flag::ORDERED);
    }
}
