//! Instances of a clone: the order in which they are taken, and where each goes.
//!
//! Instances that run where they may stay are kept there first, so that a change elsewhere does not shuffle them.

use std::cmp::Ordering;

use tierce_cib::values::INFINITY;

use crate::arena::{NodeIx, RscIx};
use crate::cluster::Cluster;
use crate::model::{Kind, Role, Row};
use crate::row::Cause;

impl Cluster<'_> {
    /// Assigns up to `max` instances, at most `per_node` on each node.
    pub(crate) fn assign_instances(&mut self, clone: RscIx, max: u32, per_node: u32) {
        for place in &mut self.rscs[clone].allowed {
            place.count = 0;
        }
        let row = self.rscs[clone].allowed.clone();
        let available = self.nodes.keys().filter(|n| self.available(&row, *n)).count() as u32;
        let optimal = (max / available.max(1)).max(1);
        let order = self.sorted_instances(clone);
        let mut assigned = 0;
        for instance in &order {
            if assigned >= max {
                break;
            }
            if let Some(node) = self.keeps(clone, *instance, optimal)
                && self.keep_instance(clone, *instance, node, per_node, max - assigned)
            {
                assigned += 1;
            }
        }
        for instance in order {
            if !self.rscs[instance].provisional {
                continue;
            }
            if assigned >= max || self.rscs[instance].removed {
                self.close_all(instance);
                self.assign(instance, None, true);
                continue;
            }
            if self.assign_instance(clone, instance, per_node) {
                assigned += 1;
            }
        }
    }

    fn close_all(&mut self, rsc: RscIx) {
        self.close(rsc, Cause::Surplus);
        for child in self.rscs[rsc].children.clone() {
            self.close_all(child);
        }
    }

    /// The node on which an instance stays, if it may.
    fn keeps(&self, clone: RscIx, instance: RscIx, optimal: u32) -> Option<NodeIx> {
        let r = &self.rscs[instance];
        if !r.provisional || r.removed || r.blocked || r.failed {
            return None;
        }
        let nodes = self.running_nodes(instance);
        let [node] = nodes.as_slice() else { return None };
        let node = *node;
        if !self.usable(node) {
            return None;
        }
        let place = self.rscs[clone].allowed[node.0 as usize];
        if !place.listed || place.score < 0 || place.count >= optimal {
            return None;
        }
        Some(node)
    }

    /// Keeps an instance where it is. Where it would rather be a place is reserved, for another instance may come there.
    fn keep_instance(
        &mut self,
        clone: RscIx,
        instance: RscIx,
        node: NodeIx,
        per_node: u32,
        left: u32,
    ) -> bool {
        let saved = self.save_rows(instance);
        let counts = self.rscs[clone].allowed.clone();
        let mut kept = false;
        for _ in 0..left {
            self.ban_full(clone, instance, per_node);
            let chosen = self.assign(instance, Some(node), false);
            if chosen == Some(node) {
                kept = true;
                break;
            }
            self.unassign(instance);
            self.restore_rows(&saved);
            let Some(better) = chosen else { break };
            self.rscs[clone].allowed[better.0 as usize].count += 1;
        }
        self.rscs[clone].allowed = counts;
        if !kept {
            self.unassign(instance);
            self.restore_rows(&saved);
            return false;
        }
        self.note_instance(clone, node);
        true
    }

    fn note_instance(&mut self, clone: RscIx, node: NodeIx) {
        self.rscs[clone].allowed[node.0 as usize].count += 1;
        if !self.rscs[clone].assigned_all.contains(&node) {
            self.rscs[clone].assigned_all.push(node);
        }
    }

    /// Assigns one instance to the best node. Whether it got one.
    fn assign_instance(&mut self, clone: RscIx, instance: RscIx, per_node: u32) -> bool {
        if !self.rscs[instance].provisional || self.rscs[instance].assigning {
            return false;
        }
        self.ban_full(clone, instance, per_node);
        let Some(node) = self.assign(instance, None, true) else { return false };
        self.note_instance(clone, node);
        true
    }

    fn save_rows(&self, rsc: RscIx) -> Vec<(RscIx, Row)> {
        let mut rows = vec![(rsc, self.rscs[rsc].allowed.clone())];
        for child in &self.rscs[rsc].children {
            rows.extend(self.save_rows(*child));
        }
        rows
    }

    fn restore_rows(&mut self, rows: &[(RscIx, Row)]) {
        for (rsc, row) in rows {
            self.rscs[*rsc].allowed.clone_from(row);
        }
    }

    /// Bans an instance from nodes that have all the instances they may have, or that the clone may not use.
    fn ban_full(&mut self, clone: RscIx, instance: RscIx, per_node: u32) {
        for node in self.nodes.keys() {
            let place = self.rscs[clone].allowed[node.0 as usize];
            if !place.listed || place.score < 0 || place.count >= per_node {
                self.ban_tree(instance, node);
            }
        }
    }

    fn ban_tree(&mut self, rsc: RscIx, node: NodeIx) {
        let row = &mut self.rscs[rsc].allowed;
        row[node.0 as usize].score = -INFINITY;
        row.tell(Cause::Full);
        for child in self.rscs[rsc].children.clone() {
            self.ban_tree(child, node);
        }
    }

    /// Instances in the order in which they are assigned.
    pub(super) fn sorted_instances(&mut self, clone: RscIx) -> Vec<RscIx> {
        let mut list = self.instances(clone);
        let rows: Vec<(RscIx, Row)> = list.iter().map(|i| (*i, self.row_with_wishes(*i))).collect();
        let row =
            |i: RscIx| &rows.iter().find(|(r, _)| *r == i).expect("each instance has a row").1;
        // What is one too many goes, wherever it runs.
        let surplus = |i: RscIx| self.rscs[i].removed;
        list.sort_by(|a, b| {
            let order = surplus(*a).cmp(&surplus(*b));
            order.then_with(|| self.compare_instances(clone, *a, *b, row(*a), row(*b)))
        });
        list
    }

    /// What an instance and its dependents think of the nodes, for comparing instances.
    fn row_with_wishes(&mut self, instance: RscIx) -> Row {
        let first = self.rscs[instance].children.first().copied().unwrap_or(instance);
        self.rscs[first].allowed.clone()
    }

    fn compare_instances(
        &self,
        clone: RscIx,
        a: RscIx,
        b: RscIx,
        row_a: &Row,
        row_b: &Row,
    ) -> Ordering {
        let nodes_a = self.running_nodes(a);
        let nodes_b = self.running_nodes(b);
        // Those that run on several nodes come first, then those that run.
        if nodes_a.len() > 1 || nodes_b.len() > 1 {
            let order = nodes_b.len().cmp(&nodes_a.len());
            if order != Ordering::Equal {
                return order;
            }
        }
        let first = |nodes: &[NodeIx]| nodes.first().copied();
        let (node_a, node_b) = (first(&nodes_a), first(&nodes_b));
        // One that runs where it must not comes after those that run nowhere, which may take its place.
        let strays = |node: Option<NodeIx>, row: &Row| {
            node.is_some_and(|n| !row[n.0 as usize].listed || row[n.0 as usize].score < 0)
        };
        let order = strays(node_a, row_a)
            .cmp(&strays(node_b, row_b))
            .then_with(|| self.rscs[b].priority.cmp(&self.rscs[a].priority))
            .then_with(|| node_b.is_some().cmp(&node_a.is_some()));
        if order != Ordering::Equal {
            return order;
        }
        let listed = |n: NodeIx| self.rscs[clone].allowed[n.0 as usize].listed;
        let score = |n: NodeIx, row: &Row| row[n.0 as usize].score;
        let failed = |r: RscIx| self.instance_failed(r);
        let (Some(x), Some(y)) = (node_a, node_b) else {
            return self.by_wishes(a, b, row_a, row_b);
        };
        let usable = self.usable(y).cmp(&self.usable(x));
        usable
            .then_with(|| listed(y).cmp(&listed(x)))
            .then_with(|| self.compare_parent_nodes(clone, x, y))
            .then_with(|| failed(a).cmp(&failed(b)))
            .then_with(|| score(y, row_b).cmp(&score(x, row_a)))
            .then_with(|| self.by_wishes(a, b, row_a, row_b))
    }

    fn compare_parent_nodes(&self, clone: RscIx, x: NodeIx, y: NodeIx) -> Ordering {
        if x == y {
            return Ordering::Equal;
        }
        let row = &self.rscs[clone].allowed;
        row[y.0 as usize].score.cmp(&row[x.0 as usize].score)
    }

    fn instance_failed(&self, rsc: RscIx) -> bool {
        let r = &self.rscs[rsc];
        if r.kind == Kind::Primitive {
            return r.failed && r.role != Role::Unknown;
        }
        r.children.iter().any(|c| self.instance_failed(*c))
    }

    /// The one that wants a node most comes first, then the one with the lower number.
    fn by_wishes(&self, a: RscIx, b: RscIx, row_a: &Row, row_b: &Row) -> Ordering {
        let wishes = |row: &Row| {
            let usable = self.nodes.keys().filter(|n| row[n.0 as usize].listed && self.usable(*n));
            let mut scores: Vec<i32> = usable.map(|n| row[n.0 as usize].score).collect();
            scores.sort_unstable_by(|x, y| y.cmp(x));
            scores
        };
        wishes(row_b).cmp(&wishes(row_a)).then_with(|| self.by_number(a, b))
    }

    fn by_number(&self, a: RscIx, b: RscIx) -> Ordering {
        self.rscs[a].instance.cmp(&self.rscs[b].instance)
    }
}
