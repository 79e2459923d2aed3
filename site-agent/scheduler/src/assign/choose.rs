//! Choosing a node: the order of nodes for a resource, and making it so.

use std::cmp::Ordering;

use tierce_cib::values::INFINITY;

use crate::arena::{NodeIx, RscIx};
use crate::cluster::Cluster;
use crate::model::Role;
use crate::options::Placement;

impl Cluster<'_> {
    /// Whether a node that a row lists can take something.
    pub(crate) fn available(&self, row: &[crate::model::Place], node: NodeIx) -> bool {
        let place = row[node.0 as usize];
        place.listed && place.score >= 0 && self.usable(node)
    }

    /// Whether any node of a row can take something.
    pub(crate) fn any_available(&self, row: &[crate::model::Place]) -> bool {
        self.nodes.keys().any(|n| self.available(row, n))
    }

    /// Nodes that a resource lists, best first.
    pub(crate) fn sorted_nodes(
        &self,
        rsc: RscIx,
        row: &[crate::model::Place],
        active: Option<NodeIx>,
    ) -> Vec<NodeIx> {
        let mut nodes: Vec<NodeIx> =
            self.nodes.keys().filter(|n| row[n.0 as usize].listed).collect();
        nodes.sort_by(|a, b| self.compare_nodes(rsc, row, active, *a, *b));
        nodes
    }

    fn compare_nodes(
        &self,
        _rsc: RscIx,
        row: &[crate::model::Place],
        active: Option<NodeIx>,
        a: NodeIx,
        b: NodeIx,
    ) -> Ordering {
        let weight = |n: NodeIx| if self.usable(n) { row[n.0 as usize].score } else { -INFINITY };
        let by_weight = weight(b).cmp(&weight(a));
        if by_weight != Ordering::Equal {
            return by_weight;
        }
        if self.options.placement != Placement::Minimal {
            if self.options.placement == Placement::Balanced {
                let order = self.compare_capacity(a, b);
                if order != Ordering::Equal {
                    return order;
                }
            }
            let by_count = self.nodes[a].assigned.cmp(&self.nodes[b].assigned);
            if by_count != Ordering::Equal {
                return by_count;
            }
        }
        match active {
            Some(node) if node == a => return Ordering::Less,
            Some(node) if node == b => return Ordering::Greater,
            _ => {}
        }
        self.nodes[a].name.cmp(&self.nodes[b].name)
    }

    /// Chooses the best node and assigns it. Whether there is one.
    pub(crate) fn choose_node(&mut self, rsc: RscIx, prefer: Option<NodeIx>) -> Option<NodeIx> {
        let mut row = self.rscs[rsc].allowed.clone();
        let roomiest = self.ban_insufficient(rsc, &mut row);
        let prefer = prefer.or(roomiest);
        let active = self.rscs[rsc].running_on.first().copied();
        let nodes = self.sorted_nodes(rsc, &row, active);
        let score = |n: NodeIx| row[n.0 as usize].score;
        if let (Some(wish), Some(best)) = (prefer, nodes.first().copied()) {
            let listed = row[wish.0 as usize].listed;
            if listed && score(wish) >= 0 && score(wish) >= score(best) && self.usable(wish) {
                self.set_assignment(rsc, Some(wish), false, true);
                return self.rscs[rsc].assigned;
            }
        }
        let mut chosen = nodes.first().copied();
        if let (Some(best), Some(running)) = (chosen, active) {
            // Of equals, all better than nothing, the present one wins; distinct instances spread instead.
            let spread = self.rscs[rsc].parent.is_some_and(|p| self.rscs[p].unique);
            if !spread
                && score(best) > 0
                && self.usable(best)
                && self.usable(running)
                && row[running.0 as usize].listed
                && score(running) == score(best)
                && self.rscs[rsc].running_on.len() == 1
            {
                chosen = Some(running);
            }
        }
        self.set_assignment(rsc, chosen, false, true);
        self.rscs[rsc].assigned
    }

    /// Makes an assignment. A node that can not take it counts as none, unless forced.
    pub(crate) fn set_assignment(
        &mut self,
        rsc: RscIx,
        node: Option<NodeIx>,
        force: bool,
        stop_if_fail: bool,
    ) {
        let fit = node.filter(|n| {
            let place = self.rscs[rsc].allowed[n.0 as usize];
            force || (self.usable(*n) && place.listed && place.score >= 0)
        });
        if fit.is_none() && !stop_if_fail {
            return;
        }
        self.unassign_quietly(rsc);
        let r = &mut self.rscs[rsc];
        r.provisional = false;
        let Some(node) = fit else {
            r.next_role = Role::Stopped;
            r.next_role_reason = Some("unable to assign");
            return;
        };
        r.assigned = Some(node);
        if r.next_role == Role::Unknown {
            r.next_role = Role::Started;
            r.next_role_reason = Some("assigned");
        }
        self.nodes[node].assigned += 1;
        self.take_utilization(rsc, node);
    }

    fn unassign_quietly(&mut self, rsc: RscIx) {
        if self.rscs[rsc].assigned.is_some() {
            let role = self.rscs[rsc].next_role;
            self.unassign(rsc);
            self.rscs[rsc].next_role = role;
        }
    }
}
