//! Choosing a node: the order of nodes for a resource, and making it so.

use std::cmp::Ordering;

use tierce_cib::values::INFINITY;

use crate::arena::{NodeIx, RscIx};
use crate::cluster::Cluster;
use crate::model::{Role, Row};
use crate::options::Placement;
use crate::row::{Choice, Criterion, Verdict};

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
        row: &[crate::model::Place],
        active: Option<NodeIx>,
    ) -> Vec<NodeIx> {
        let mut nodes: Vec<NodeIx> =
            self.nodes.keys().filter(|n| row[n.0 as usize].listed).collect();
        nodes.sort_by(|a, b| self.compare_nodes(row, active, *a, *b).0);
        nodes
    }

    /// Which of two nodes comes first, and what told.
    fn compare_nodes(
        &self,
        row: &[crate::model::Place],
        active: Option<NodeIx>,
        a: NodeIx,
        b: NodeIx,
    ) -> (Ordering, Criterion) {
        let weight = |n: NodeIx| if self.usable(n) { row[n.0 as usize].score } else { -INFINITY };
        let by_weight = weight(b).cmp(&weight(a));
        if by_weight != Ordering::Equal {
            return (by_weight, Criterion::Score);
        }
        let by_name = (self.nodes[a].name.cmp(&self.nodes[b].name), Criterion::Name);
        // On few nodes means on the same ones: not even where it runs counts.
        if self.options.placement == Placement::Minimal {
            return by_name;
        }
        if self.options.placement == Placement::Balanced {
            let order = self.compare_capacity(a, b);
            if order != Ordering::Equal {
                return (order, Criterion::Capacity);
            }
        }
        let by_count = self.nodes[a].assigned.cmp(&self.nodes[b].assigned);
        if by_count != Ordering::Equal {
            return (by_count, Criterion::Fewer);
        }
        match active {
            Some(node) if node == a => (Ordering::Less, Criterion::Runs),
            Some(node) if node == b => (Ordering::Greater, Criterion::Runs),
            _ => by_name,
        }
    }

    /// Chooses the best node and assigns it. Whether there is one.
    pub(crate) fn choose_node(&mut self, rsc: RscIx, prefer: Option<NodeIx>) -> Option<NodeIx> {
        let mut row = self.rscs[rsc].allowed.clone();
        let roomiest = self.ban_insufficient(rsc, &mut row);
        let prefer = prefer.or(roomiest);
        let active = self.current_node(rsc);
        let nodes = self.sorted_nodes(&row, active);
        let score = |n: NodeIx| row[n.0 as usize].score;
        if let (Some(wish), Some(best)) = (prefer, nodes.first().copied()) {
            let listed = row[wish.0 as usize].listed;
            if listed && score(wish) >= 0 && score(wish) >= score(best) && self.usable(wish) {
                self.note_choice(rsc, &row, active, &nodes, Verdict::Kept);
                self.set_assignment(rsc, Some(wish), false, true);
                return self.rscs[rsc].assigned;
            }
        }
        let mut chosen = nodes.first().copied();
        let mut verdict = Verdict::Best;
        if let (Some(best), Some(running)) = (chosen, active) {
            // Of equals, all better than nothing, the present one wins; distinct instances spread instead.
            let spread = self.rscs[rsc].parent.is_some_and(|p| self.rscs[p].unique);
            if !spread
                && score(best) > 0
                && self.usable(best)
                && self.usable(running)
                && row[running.0 as usize].listed
                && score(running) == score(best)
            {
                chosen = Some(running);
                verdict = Verdict::Stays;
            }
        }
        self.note_choice(rsc, &row, active, &nodes, verdict);
        self.set_assignment(rsc, chosen, false, true);
        self.rscs[rsc].assigned
    }

    /// Notes why a node comes before the others, or that none can be taken. The rest of the pass changes what nodes are compared by.
    fn note_choice(
        &mut self,
        rsc: RscIx,
        row: &Row,
        active: Option<NodeIx>,
        nodes: &[NodeIx],
        verdict: Verdict,
    ) {
        let Some((best, others)) = nodes.split_first() else {
            self.rscs[rsc].choice = Some(Choice { verdict: Verdict::NoNode, lost: Vec::new() });
            return;
        };
        let lost = others
            .iter()
            .map(|other| (*other, self.compare_nodes(row, active, *best, *other).1))
            .collect();
        let verdict = if self.available(row, *best) { verdict } else { Verdict::NoNode };
        self.rscs[rsc].choice = Some(Choice { verdict, lost });
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
