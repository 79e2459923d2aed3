//! Utilization: capacity of nodes, and what resources take of it.

use std::cmp::{Ordering, Reverse};
use std::collections::HashMap;

use tierce_cib::values::INFINITY;

use crate::arena::{NodeIx, RscIx};
use crate::cluster::Cluster;
use crate::model::{Kind, Place, Row};
use crate::options::Placement;
use crate::row::Cause;

/// How much a resource is wanted first: priority, score where it is, scores everywhere.
type Wanted = (Reverse<i32>, Reverse<i32>, Vec<Reverse<i32>>);

impl<'a> Cluster<'a> {
    /// Which node has more free: the one with more kinds in which it has more comes first.
    pub(super) fn compare_capacity(&self, a: NodeIx, b: NodeIx) -> Ordering {
        let (x, y) = (&self.nodes[a].utilization, &self.nodes[b].utilization);
        let mut result = 0_i32;
        for (name, have) in x {
            match have.cmp(&y.get(name).copied().unwrap_or(0)) {
                Ordering::Greater => result -= 1,
                Ordering::Less => result += 1,
                Ordering::Equal => {}
            }
        }
        for (name, have) in y {
            if !x.contains_key(name) && *have > 0 {
                result += 1;
            }
        }
        result.cmp(&0)
    }

    /// Takes away the nodes that have too little free for a resource and what must be with it. Where no node has room
    /// for all of them, those with room for the resource alone are left, and the one that has the most free is to be
    /// preferred among equals: it takes as many of the others as can be.
    pub(super) fn ban_insufficient(&mut self, rsc: RscIx, row: &mut [Place]) -> Option<NodeIx> {
        if self.options.placement == Placement::Default {
            return None;
        }
        let needs = self.needs_together(rsc);
        let mut roomiest: Option<NodeIx> = None;
        let mut fits_all = false;
        for node in self.nodes.keys().filter(|n| self.available(row, *n)) {
            fits_all |= self.has_room(node, &needs);
            if roomiest.is_none_or(|r| self.compare_capacity(node, r) == Ordering::Less) {
                roomiest = Some(node);
            }
        }
        let wanted = if fits_all { needs } else { self.rscs[rsc].utilization.clone() };
        for node in self.nodes.keys() {
            if row[node.0 as usize].listed && !self.has_room(node, &wanted) {
                row[node.0 as usize].score = -INFINITY;
                if !fits_all || self.usable(node) {
                    self.rscs[rsc].allowed[node.0 as usize].score = -INFINITY;
                    self.rscs[rsc].allowed.tell(Cause::Capacity);
                }
            }
        }
        roomiest.filter(|n| !fits_all && self.available(row, *n))
    }

    /// What a node does not count it does not have.
    fn has_room(&self, node: NodeIx, needs: &HashMap<&'a str, i64>) -> bool {
        let free = |name: &str| self.nodes[node].utilization.get(name).copied().unwrap_or(0);
        needs.iter().all(|(name, need)| *need <= 0 || free(name) >= *need)
    }

    /// What a resource needs with all that must be with it and has no node yet.
    fn needs_together(&self, rsc: RscIx) -> HashMap<&'a str, i64> {
        let mut sum = self.rscs[rsc].utilization.clone();
        let mut open = vec![rsc];
        let mut seen = vec![rsc];
        while let Some(at) = open.pop() {
            let primaries = self.this_with(at).into_iter().map(|ix| (ix, true));
            let dependents = self.with_this(at).into_iter().map(|ix| (ix, false));
            for (ix, dependent) in primaries.chain(dependents) {
                let c = &self.colocations[ix];
                let other = if dependent { c.primary } else { c.dependent };
                if c.score >= INFINITY && !seen.contains(&other) {
                    self.need_along(other, &mut sum, &mut open, &mut seen);
                }
            }
        }
        sum
    }

    /// Adds what a resource needs that must go along. Of a clone one instance does, and others may go with its other
    /// instances: it is not followed any further.
    fn need_along(
        &self,
        rsc: RscIx,
        sum: &mut HashMap<&'a str, i64>,
        open: &mut Vec<RscIx>,
        seen: &mut Vec<RscIx>,
    ) {
        seen.push(rsc);
        let r = &self.rscs[rsc];
        let clone = matches!(r.kind, Kind::Clone | Kind::Bundle);
        let mut parts = Vec::new();
        if !clone {
            self.primitives(rsc, &mut parts);
        } else if let Some(first) =
            self.instances(rsc).first().filter(|c| self.rscs[**c].provisional)
        {
            self.primitives(*first, &mut parts);
        }
        for part in parts {
            if part != rsc && seen.contains(&part) {
                continue;
            }
            if self.rscs[part].provisional {
                for (name, need) in &self.rscs[part].utilization {
                    *sum.entry(*name).or_insert(0) += need;
                }
            }
            if !clone {
                seen.push(part);
                open.push(part);
            }
        }
    }

    pub(super) fn take_utilization(&mut self, rsc: RscIx, node: NodeIx) {
        self.shift_utilization(rsc, node, -1);
    }

    pub(super) fn release_utilization(&mut self, rsc: RscIx, node: NodeIx) {
        self.shift_utilization(rsc, node, 1);
    }

    fn shift_utilization(&mut self, rsc: RscIx, node: NodeIx, sign: i64) {
        if self.rscs[rsc].utilization.is_empty() {
            return;
        }
        let needs = self.rscs[rsc].utilization.clone();
        for (name, need) in needs {
            if let Some(free) = self.nodes[node].utilization.get_mut(name) {
                *free += sign * need;
            }
        }
    }

    /// With capacity in play, resources are taken by priority and then by how much they want to be where they are.
    pub(super) fn sort_for_utilization(&mut self) {
        let mut keyed: Vec<(Wanted, RscIx)> = Vec::new();
        let mut nodes: Vec<NodeIx> = self.nodes.keys().collect();
        nodes.sort_by(|a, b| self.compare_unscored(*a, *b));
        for rsc in self.top.clone() {
            let row = self.wishes_of(rsc);
            let at = |n: NodeIx| {
                let place = row[n.0 as usize];
                if place.listed { place.score } else { -INFINITY }
            };
            let current = self.running_nodes(rsc);
            let here = current.first().filter(|n| self.usable(**n)).map_or(-INFINITY, |n| at(*n));
            let everywhere = nodes.iter().map(|n| Reverse(at(*n))).collect();
            keyed.push(((Reverse(self.rscs[rsc].priority), Reverse(here), everywhere), rsc));
        }
        keyed.sort_by(|a, b| a.0.cmp(&b.0));
        self.top = keyed.into_iter().map(|k| k.1).collect();
    }

    /// The order of nodes for nothing in particular.
    fn compare_unscored(&self, a: NodeIx, b: NodeIx) -> Ordering {
        let usable = self.usable(b).cmp(&self.usable(a));
        let capacity = || match self.options.placement {
            Placement::Balanced => self.compare_capacity(a, b),
            _ => Ordering::Equal,
        };
        usable.then_with(capacity).then_with(|| self.nodes[a].name.cmp(&self.nodes[b].name))
    }

    /// What a resource thinks of the nodes, and what it must or would like to be with.
    fn wishes_of(&mut self, rsc: RscIx) -> Row {
        let mut row = self.rscs[rsc].allowed.clone();
        if self.rscs[rsc].kind == Kind::Group {
            // What is in it has what it was given.
            for place in &mut row {
                place.score = 0;
            }
        }
        let select = super::colocation::Select { this_with: true, ..Default::default() };
        self.add_wishes(rsc, rsc, &mut row, None, 1.0, select);
        row
    }
}
