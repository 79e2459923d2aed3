//! Actions of a bundle: probes of its parts, pseudo actions around them, and the order in between.

use crate::action::{End, Task, flag};
use crate::arena::{NodeIx, RscIx};
use crate::cluster::Cluster;
use crate::model::Replica;

impl Cluster<'_> {
    /// Probes the parts of a bundle on a node.
    pub(crate) fn probe_bundle(&mut self, bundle: RscIx, node: NodeIx) -> bool {
        let mut any = false;
        let alone = self.per_host(bundle) == 1;
        let replicas = self.rscs[bundle].replicas.clone();
        for replica in &replicas {
            if let Some(child) = replica.child.filter(|_| replica.node == Some(node)) {
                any |= self.probe(child, node);
            }
            if let Some(ip) = replica.ip {
                any |= self.probe(ip, node);
            }
            if self.probe(replica.container, node) {
                any = true;
                let comes_up = self.rscs[replica.container].assigned.is_some();
                if let (Some(probe), Some(clone)) = (
                    self.probe_on(replica.container, node),
                    self.rscs[bundle].inner.filter(|_| comes_up),
                ) {
                    let start = End::Op(clone, Task::Start, 0);
                    self.order(End::Action(probe), start, flag::ORDERED);
                }
                if alone {
                    self.order_before_others(replica, &replicas, node);
                }
            }
            if let Some(remote) = replica.remote
                && self.probe(remote, node)
            {
                any = true;
                // Where the connection goes is known only when the container runs.
                let probe = self.probe_on(remote, node);
                if let Some(probe) = probe {
                    let start = End::Op(replica.container, Task::Start, 0);
                    self.order(start, End::Action(probe), flag::NESTED_PROBE);
                }
            }
        }
        any
    }

    fn probe_on(&self, rsc: RscIx, node: NodeIx) -> Option<crate::arena::ActIx> {
        self.find_actions(rsc, Task::Monitor, 0)
            .into_iter()
            .find(|a| self.actions[*a].node == Some(node))
    }

    /// Where only one replica may be, none starts before it is known whether another is there.
    fn order_before_others(&mut self, one: &Replica, all: &[Replica], node: NodeIx) {
        let Some(probe) = self.probe_on(one.container, node) else { return };
        for other in all.iter().filter(|r| r.container != one.container) {
            let start = End::Op(other.container, Task::Start, 0);
            self.order(End::Action(probe), start, flag::ORDERED | flag::SAME_NODE);
        }
    }

    pub(crate) fn create_bundle_actions(&mut self, bundle: RscIx) {
        for replica in self.rscs[bundle].replicas.clone() {
            for part in [replica.ip, Some(replica.container), replica.remote].into_iter().flatten()
            {
                self.create_actions(part);
            }
        }
        let containers = self.instances(bundle);
        let starts = containers.iter().any(|c| self.tree_has(*c, Task::Start));
        let stops = containers.iter().any(|c| self.tree_has(*c, Task::Stop));
        for (task, wanted) in [
            (Task::Start, starts),
            (Task::Running, starts),
            (Task::Stop, stops),
            (Task::Stopped, stops),
        ] {
            self.pseudo_op(bundle, task, !wanted);
        }
        let Some(clone) = self.rscs[bundle].inner else { return };
        self.create_actions(clone);
        if self.rscs[clone].promotable {
            for task in [Task::Promote, Task::Promoted, Task::Demote, Task::Demoted] {
                self.pseudo_op(bundle, task, true);
            }
        }
    }

    pub(crate) fn order_bundle(&mut self, bundle: RscIx) {
        let op = |rsc: RscIx, task: Task| End::Op(rsc, task, 0);
        self.order(op(bundle, Task::Start), op(bundle, Task::Running), flag::UNRUNNABLE_BLOCKS);
        self.order(op(bundle, Task::Stop), op(bundle, Task::Stopped), flag::UNRUNNABLE_BLOCKS);
        if let Some(clone) = self.rscs[bundle].inner {
            self.order_inner(bundle, clone);
        }
        let promotable = self.rscs[bundle].promotable;
        for replica in self.rscs[bundle].replicas.clone() {
            let container = replica.container;
            let shows = if promotable { 0 } else { flag::SHOWS_FIRST };
            self.order(
                op(bundle, Task::Start),
                op(container, Task::Start),
                flag::UNRUNNABLE_BLOCKS | shows,
            );
            if let Some(child) = replica.child {
                self.order(op(bundle, Task::Stop), op(child, Task::Stop), flag::SHOWS_FIRST);
            }
            self.order(op(bundle, Task::Stop), op(container, Task::Stop), flag::SHOWS_FIRST);
            self.order(op(container, Task::Start), op(bundle, Task::Running), flag::SHOWS_THEN);
            self.order(op(container, Task::Stop), op(bundle, Task::Stopped), flag::SHOWS_THEN);
            if let Some(ip) = replica.ip {
                let firm = flag::UNRUNNABLE_BLOCKS | flag::PRESERVE;
                self.order(op(ip, Task::Start), op(container, Task::Start), firm);
                let undo = flag::THEN_IMPLIES_FIRST | flag::PRESERVE;
                self.order(op(container, Task::Stop), op(ip, Task::Stop), undo);
            }
        }
    }

    fn order_inner(&mut self, bundle: RscIx, clone: RscIx) {
        let op = |rsc: RscIx, task: Task| End::Op(rsc, task, 0);
        // Of a promotable bundle that only goes down no start is shown.
        let starts = self.find_action(clone, Task::Start, None);
        let quiet = self.rscs[clone].promotable && starts.is_none_or(|s| self.actions[s].optional);
        let shows = if quiet { flag::ORDERED } else { flag::SHOWS_FIRST };
        self.order(op(bundle, Task::Start), op(clone, Task::Start), shows);
        self.order(op(clone, Task::Running), op(bundle, Task::Running), flag::SHOWS_THEN);
        if !self.rscs[bundle].replicas.is_empty() {
            self.order(op(bundle, Task::Stop), op(clone, Task::Stop), flag::SHOWS_FIRST);
            self.order(op(clone, Task::Stopped), op(bundle, Task::Stopped), flag::SHOWS_THEN);
        }
        if !self.rscs[clone].promotable {
            return;
        }
        for (first, then) in [
            (Task::Stopped, Task::Start),
            (Task::Demoted, Task::Start),
            (Task::Stopped, Task::Promote),
            (Task::Demoted, Task::Stop),
            (Task::Demoted, Task::Promote),
            (Task::Running, Task::Promote),
        ] {
            self.order(op(bundle, first), op(bundle, then), flag::ORDERED);
        }
        for (begin, end) in [(Task::Promote, Task::Promoted), (Task::Demote, Task::Demoted)] {
            self.order(op(bundle, begin), op(clone, begin), flag::SHOWS_FIRST);
            self.order(op(clone, end), op(bundle, end), flag::SHOWS_THEN);
            self.order(op(bundle, begin), op(bundle, end), flag::UNRUNNABLE_BLOCKS);
        }
    }

    /// A container comes up before what is in it, and goes down after it.
    pub(crate) fn order_with_container(&mut self, rsc: RscIx) {
        let Some(container) = self.rscs[rsc].container else { return };
        let inside = self.replica_of(rsc).is_some_and(|r| r.child == Some(rsc));
        if inside || self.rscs[rsc].remote_node.is_none() && self.guest_of(container).is_some() {
            // The connection is in between.
            return;
        }
        let op = |rsc: RscIx, task: Task| End::Op(rsc, task, 0);
        self.order(
            op(container, Task::Start),
            op(rsc, Task::Start),
            flag::FIRST_IMPLIES_THEN | flag::UNRUNNABLE_BLOCKS,
        );
        self.order(op(rsc, Task::Stop), op(container, Task::Stop), flag::THEN_IMPLIES_FIRST);
    }
}
