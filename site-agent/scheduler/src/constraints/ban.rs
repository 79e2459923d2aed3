//! Scores that no constraint asks for: bans by the status and by tickets.

use tierce_cib::values::INFINITY;

use crate::arena::{NodeIx, RscIx};
use crate::cluster::Cluster;
use crate::model::{Discover, Location, Origin};

impl<'a> Cluster<'a> {
    /// Bans a resource from a node.
    pub(crate) fn ban(&mut self, rsc: RscIx, node: NodeIx, why: &'a str) {
        self.locate(rsc, node, -INFINITY, why);
    }

    /// Bans a resource from all nodes.
    pub(crate) fn ban_everywhere(&mut self, rsc: RscIx, why: &'a str) {
        let nodes = self.nodes.keys().map(|n| (n, -INFINITY)).collect();
        self.add_location(rsc, nodes, why, Origin::Status);
    }

    /// Bans a resource from all nodes, for a ticket is missing or aside: the use of it, by position.
    pub(crate) fn ban_for_ticket(&mut self, rsc: RscIx, used: usize, why: &'a str) {
        let nodes = self.nodes.keys().map(|n| (n, -INFINITY)).collect();
        self.add_location(rsc, nodes, why, Origin::Ticket(used));
    }

    /// Adds a score for one node.
    pub(crate) fn locate(&mut self, rsc: RscIx, node: NodeIx, score: i32, why: &'a str) {
        self.add_location(rsc, vec![(node, score)], why, Origin::Status);
    }

    fn add_location(
        &mut self,
        rsc: RscIx,
        nodes: Vec<(NodeIx, i32)>,
        why: &'a str,
        origin: Origin,
    ) {
        let location =
            Location { id: why.into(), origin, role: None, nodes, discover: Discover::Always };
        let ix = self.locations.push(location);
        self.rscs[rsc].locations.push(ix);
    }
}
