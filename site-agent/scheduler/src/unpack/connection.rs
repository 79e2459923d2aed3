//! Remote and guest nodes in the status: a remote node is up while its connection is, a guest while its container is, too.
//!
//! So histories have an order: those of members tell which connections are up, then those of the nodes behind them can be read, and
//! so on for what runs inside of those.

use tierce_cib::xml::Element;

use crate::Error;
use crate::arena::{NodeIx, RscIx};
use crate::cluster::Cluster;
use crate::model::{NodeKind, Role};

impl<'a> Cluster<'a> {
    /// Reads the histories of all nodes.
    pub(super) fn read_histories(&mut self, known: &[(NodeIx, Element<'a>)]) -> Result<(), Error> {
        let mut left: Vec<(NodeIx, Element<'a>)> = known.to_vec();
        let mut judged = Vec::new();
        loop {
            self.link_removed();
            let Some(next) = left.iter().position(|(node, _)| self.readable(*node)) else { break };
            let (node, xml) = left.remove(next);
            if self.nodes[node].is_remote() {
                self.judge_remote(node);
                judged.push(node);
                self.nodes[node].shutdown |= self.asked_to_shut_down(node);
            }
            self.unpack_histories(node, xml)?;
        }
        if self.fencing() {
            // What cannot be asked may still run things.
            for (node, xml) in left {
                if self.nodes[node].is_remote() {
                    self.judge_remote(node);
                    judged.push(node);
                }
                self.unpack_histories(node, xml)?;
            }
        }
        self.stop_containers_of_failed();
        for node in self.nodes.keys() {
            let n = &self.nodes[node];
            if !n.is_remote() {
                continue;
            }
            if n.shutdown
                && let Some(connection) = n.connection
            {
                self.rscs[connection].next_role = Role::Stopped;
            }
            if !judged.contains(&node) {
                self.judge_remote(node);
            }
        }
        Ok(())
    }

    /// Whether it is known by now what a node's history is worth.
    fn readable(&self, node: NodeIx) -> bool {
        let n = &self.nodes[node];
        let connected = n.connection.is_some_and(|c| self.rscs[c].role == Role::Started);
        match n.kind {
            NodeKind::Member => n.online || self.fencing() || self.options.shutdown_lock,
            NodeKind::Remote => connected || self.options.shutdown_lock && n.connection.is_some(),
            NodeKind::Guest => {
                let container = n.connection.and_then(|c| self.rscs[c].container);
                connected && container.is_some_and(|x| self.rscs[x].role == Role::Started)
            }
        }
    }

    /// Ties connections that only the history knows to their nodes and containers.
    fn link_removed(&mut self) {
        for node in self.nodes.keys() {
            if !self.nodes[node].removed {
                continue;
            }
            let name = self.nodes[node].name.as_ref();
            let Some(rsc) = self.rsc_by_id.get(name).copied() else { continue };
            self.nodes[node].connection = Some(rsc);
            self.rscs[rsc].remote_node = Some(node);
            let container = self.rscs[rsc].xml.attr("container");
            let container = container.and_then(|c| self.rsc_by_id.get(c).copied());
            if let Some(container) = container.filter(|_| self.rscs[rsc].container.is_none()) {
                self.rscs[rsc].container = Some(container);
                self.rscs[container].fillers.push(rsc);
            }
        }
    }

    /// Decides whether a remote or guest node is online.
    fn judge_remote(&mut self, node: NodeIx) {
        let Some(connection) = self.nodes[node].connection else {
            self.nodes[node].online = false;
            return;
        };
        let c = &self.rscs[connection];
        let container = c.container;
        if c.role == Role::Started && c.next_role == Role::Stopped {
            self.nodes[node].shutdown = true;
        }
        let host = container.and_then(|x| match self.rscs[x].running_on.as_slice() {
            [one] => Some(*one),
            _ => None,
        });
        let container_is = |role: Role| container.is_some_and(|x| self.rscs[x].role == role);
        let lost = host.is_some_and(|h| !self.nodes[h].online && self.nodes[h].unclean);
        let c = &self.rscs[connection];
        let (online, reset) = if container.is_some_and(|x| self.rscs[x].failed) {
            (false, Some(true))
        } else if c.failed {
            (false, None)
        } else if c.role == Role::Stopped || container_is(Role::Stopped) {
            (false, Some(false))
        } else if lost {
            (false, Some(true))
        } else {
            (c.role == Role::Started, None)
        };
        let n = &mut self.nodes[node];
        n.online = online;
        n.remote_reset = reset.unwrap_or(n.remote_reset);
    }

    /// A guest is fenced by recovering its container.
    pub(super) fn doom_guest(&mut self, node: NodeIx) {
        let Some(container) = self.nodes[node].connection.and_then(|c| self.rscs[c].container)
        else {
            return;
        };
        if self.rscs[container].failed || !self.rscs[container].managed {
            return;
        }
        self.rscs[container].failed = true;
        self.nodes[node].remote_reset = true;
    }

    /// A failure inside of a container restarts it, wherever it turned out to run.
    fn stop_containers_of_failed(&mut self) {
        for container in std::mem::take(&mut self.stop_needed) {
            self.rscs[container].restart.get_or_insert("");
        }
    }

    /// Notes what a failure inside of a container asks for.
    pub(super) fn restart_container_of(&mut self, rsc: RscIx) {
        self.rscs[rsc].failed = true;
        if let Some(container) = self.rscs[rsc].container {
            self.stop_needed.push(container);
        }
    }

    /// What follows for the nodes from where connections were assigned: they are going to be up, or to be shut down.
    pub(crate) fn connection_assigned(&mut self, rsc: RscIx) {
        let Some(node) = self.rscs[rsc].remote_node else { return };
        let up = self.rscs[rsc].assigned.is_some() && self.rscs[rsc].next_role != Role::Stopped;
        let n = &mut self.nodes[node];
        if up {
            n.online = true;
            if n.unseen {
                n.unclean = false;
            }
        } else {
            // What runs inside of a bundle stays assigned to it; that it can not run comes out later.
            n.shutdown |= !n.bundled;
        }
    }
}
