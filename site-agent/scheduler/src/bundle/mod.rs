//! Bundles: replicas of a container, and a clone of what runs inside of them.
//!
//! `implied` has written the parts of a bundle into the document. Here they become one resource: its children are the addresses,
//! containers and connections of all replicas and then the clone; the instance of the clone with a replica's number runs on the node
//! inside of that replica, and nowhere else.

mod actions;
mod assign;
mod unpack;

use crate::arena::{NodeIx, RscIx};
use crate::cluster::Cluster;
use crate::model::{Kind, Replica};

impl Cluster<'_> {
    /// The bundle and replica that a node is inside of.
    pub(crate) fn replica_inside(&self, node: NodeIx) -> Option<(RscIx, Replica)> {
        if !self.nodes[node].bundled {
            return None;
        }
        let bundle = self.rscs[self.nodes[node].connection?].parent?;
        let replica = self.rscs[bundle].replicas.iter().find(|r| r.node == Some(node))?;
        Some((bundle, *replica))
    }

    /// The replica of a bundle that a resource is a part of.
    pub(crate) fn replica_of(&self, rsc: RscIx) -> Option<Replica> {
        let mut at = self.rscs[rsc].parent;
        while let Some(above) = at {
            if self.rscs[above].kind == Kind::Bundle {
                return self.rscs[above].replicas.iter().copied().find(|r| {
                    r.container == rsc
                        || [r.ip, r.remote, r.child].into_iter().flatten().any(|part| part == rsc)
                });
            }
            at = self.rscs[above].parent;
        }
        None
    }

    /// Whether what runs inside of a bundle is told of changes.
    pub(crate) fn notifies_inside(&self, bundle: RscIx) -> bool {
        self.rscs[bundle].inner.is_some_and(|c| self.rscs[c].notify)
    }

    /// What a collective has several of: instances of a clone, containers of a bundle.
    pub(crate) fn instances(&self, rsc: RscIx) -> Vec<RscIx> {
        match self.rscs[rsc].kind {
            Kind::Bundle => self.rscs[rsc].replicas.iter().map(|r| r.container).collect(),
            _ => self.rscs[rsc].children.clone(),
        }
    }
}
