//! Assigning a bundle: its containers like instances of a clone, then all that goes with each, and last the roles of what runs
//! inside.

use crate::arena::RscIx;
use crate::cluster::Cluster;
use crate::model::{Colocation, Kind, Replica};
use crate::row::Cause;
use tierce_cib::values::INFINITY;

impl Cluster<'_> {
    pub(crate) fn assign_bundle(&mut self, bundle: RscIx) {
        if !self.rscs[bundle].provisional || self.rscs[bundle].assigning {
            return;
        }
        self.rscs[bundle].assigning = true;
        let replicas = self.rscs[bundle].replicas.clone();
        let per_host = self.per_host(bundle);
        self.assign_instances(bundle, replicas.len() as u32, per_host);
        if let Some(clone) = self.rscs[bundle].inner {
            self.rscs[clone].assigning = true;
        }
        for replica in &replicas {
            self.assign_replica(replica);
        }
        if let Some(clone) = self.rscs[bundle].inner {
            self.rscs[clone].assigning = false;
            self.assign(clone, None, true);
        }
        self.rscs[bundle].provisional = false;
        self.rscs[bundle].assigning = false;
    }

    /// How many replicas one node may have.
    pub(crate) fn per_host(&self, bundle: RscIx) -> u32 {
        self.rscs[bundle].inner.map_or_else(
            || {
                let engine = self.rscs[bundle].xml.children().find(|c| c.attr("image").is_some());
                let word = engine.and_then(|e| e.attr("replicas-per-host"));
                word.and_then(|w| w.parse().ok()).unwrap_or(1)
            },
            |clone| self.rscs[clone].clone_node_max.max(1),
        )
    }

    fn assign_replica(&mut self, replica: &Replica) {
        let host = self.rscs[replica.container].assigned;
        if let Some(ip) = replica.ip {
            self.assign(ip, host, true);
        }
        if let Some(remote) = replica.remote {
            if let Some(outer) = host.and_then(|h| self.nodes[h].connection) {
                // A connection through a remote node goes from where that is connected.
                self.push_colocation(Colocation {
                    id: "#replica-remote-with-host-remote".into(),
                    dependent: remote,
                    primary: outer,
                    dependent_role: None,
                    primary_role: None,
                    attribute: "#uname",
                    score: INFINITY,
                    influence: true,
                });
            }
            self.assign(remote, None, true);
        }
        if let Some(child) = replica.child {
            for node in self.nodes.keys() {
                let at_home = replica.node == Some(node);
                let over = at_home && self.threshold_reached(child, node).is_some();
                let place = &mut self.rscs[child].allowed[node.0 as usize];
                if !at_home {
                    place.score = -INFINITY;
                } else if !over {
                    place.score = INFINITY;
                }
            }
            self.rscs[child].allowed.tell(Cause::Inside);
            self.assign(child, replica.node, true);
        }
    }

    /// What is in a container, or is its connection, goes where the container goes; and nodes do not nest.
    pub(crate) fn relate_containers(&mut self) {
        for rsc in self.rscs.keys() {
            if self.rscs[rsc].kind != Kind::Primitive {
                continue;
            }
            let connection = self.rscs[rsc].is_connection();
            if connection || self.rscs[rsc].fence_device {
                self.avoid_remote_nodes(rsc);
            }
            if let Some(replica) = self.replica_of(rsc).filter(|r| r.ip == Some(rsc)) {
                // The address of a replica is where its container is.
                self.push_colocation(Colocation {
                    id: "#address-with-container".into(),
                    dependent: rsc,
                    primary: replica.container,
                    dependent_role: None,
                    primary_role: None,
                    attribute: "#uname",
                    score: INFINITY,
                    influence: true,
                });
            }
            let Some(container) = self.rscs[rsc].container else { continue };
            if self.replica_of(rsc).is_some_and(|r| r.child == Some(rsc)) {
                continue;
            }
            let bundled = self.replica_of(rsc).is_some();
            if connection && !self.options.symmetric {
                self.follow_container(rsc, container);
            }
            if connection && !bundled {
                self.avoid_remote_nodes(container);
            }
            let guest = self.guest_of(container).filter(|_| !connection);
            if let Some(node) = guest {
                // It runs on the node that the container is.
                for (n, place) in self.rscs[rsc].allowed.iter_mut().enumerate() {
                    if n != node.0 as usize {
                        place.score = -INFINITY;
                    }
                }
                self.rscs[rsc].allowed.tell(Cause::Inside);
                continue;
            }
            self.push_colocation(Colocation {
                id: "#resource-with-container".into(),
                dependent: rsc,
                primary: container,
                dependent_role: None,
                primary_role: None,
                attribute: "#uname",
                score: if bundled { 10_000 } else { INFINITY },
                influence: true,
            });
        }
    }

    /// Where every node must be asked for, a connection may go where its container may.
    fn follow_container(&mut self, rsc: RscIx, container: RscIx) {
        for node in self.nodes.keys() {
            let listed = self.rscs[container].allowed[node.0 as usize].listed;
            let place = &mut self.rscs[rsc].allowed[node.0 as usize];
            if listed && !place.listed {
                place.listed = true;
                place.score = if self.nodes[node].is_remote() { -INFINITY } else { 0 };
            }
        }
        self.rscs[rsc].allowed.tell(Cause::Inside);
    }

    /// The node that a container is.
    pub(crate) fn guest_of(&self, container: RscIx) -> Option<crate::arena::NodeIx> {
        self.rscs[container]
            .fillers
            .iter()
            .filter(|f| self.replica_of(**f).is_none())
            .find_map(|f| self.rscs[*f].remote_node)
    }

    fn avoid_remote_nodes(&mut self, rsc: RscIx) {
        for node in self.nodes.keys() {
            if self.nodes[node].is_remote() {
                self.rscs[rsc].allowed[node.0 as usize].score = -INFINITY;
            }
        }
        self.rscs[rsc].allowed.tell(Cause::Inside);
    }
}
