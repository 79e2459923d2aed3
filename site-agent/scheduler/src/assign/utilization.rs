//! Utilization: capacity of nodes, and what resources take of it.

use std::cmp::{Ordering, Reverse};
use std::collections::HashMap;

use tierce_cib::values::INFINITY;

use crate::arena::{NodeIx, RscIx};
use crate::cluster::Cluster;
use crate::model::{Kind, Place};
use crate::options::Placement;

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

    /// Takes away the nodes that have too little free for a resource and what must be with it.
    pub(super) fn ban_insufficient(&mut self, rsc: RscIx, row: &mut [Place]) {
        if self.options.placement == Placement::Default {
            return;
        }
        let together = self.together(rsc);
        let needs = self.unassigned_needs(&together);
        let alone = self.rscs[rsc].utilization.clone();
        let mut fits_all = false;
        for node in self.nodes.keys() {
            let place = row[node.0 as usize];
            if place.listed && place.score >= 0 && self.usable(node) && self.has_room(node, &needs)
            {
                fits_all = true;
            }
        }
        // If no node takes all that belong together, at least this one must fit.
        let wanted = if fits_all { needs } else { alone };
        for node in self.nodes.keys() {
            if row[node.0 as usize].listed && !self.has_room(node, &wanted) {
                row[node.0 as usize].score = -INFINITY;
                if !fits_all || self.usable(node) {
                    self.rscs[rsc].allowed[node.0 as usize].score = -INFINITY;
                }
            }
        }
    }

    fn has_room(&self, node: NodeIx, needs: &HashMap<&'a str, i64>) -> bool {
        needs.iter().all(|(name, need)| {
            // What a node does not count it does not limit.
            *need <= 0 || self.nodes[node].utilization.get(name).is_none_or(|free| free >= need)
        })
    }

    /// A resource and all that must be with it.
    fn together(&self, rsc: RscIx) -> Vec<RscIx> {
        let mut found = vec![rsc];
        let mut i = 0;
        while i < found.len() {
            let at = found[i];
            i += 1;
            let mut more = Vec::new();
            for ix in self.this_with(at) {
                let c = &self.colocations[ix];
                if c.score >= INFINITY && self.rscs[c.primary].kind != Kind::Clone {
                    more.push(c.primary);
                }
            }
            for ix in self.with_this(at) {
                let c = &self.colocations[ix];
                if c.score >= INFINITY && self.rscs[c.dependent].kind != Kind::Clone {
                    more.push(c.dependent);
                }
            }
            for r in more {
                let mut parts = Vec::new();
                self.primitives(r, &mut parts);
                for p in parts {
                    if !found.contains(&p) {
                        found.push(p);
                    }
                }
            }
        }
        found
    }

    fn unassigned_needs(&self, list: &[RscIx]) -> HashMap<&'a str, i64> {
        let mut sum = HashMap::new();
        for rsc in list {
            if self.rscs[*rsc].provisional || *rsc == list[0] {
                for (name, need) in &self.rscs[*rsc].utilization {
                    *sum.entry(*name).or_insert(0) += need;
                }
            }
        }
        sum
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
        nodes.sort_by(|a, b| {
            let usable = self.usable(*b).cmp(&self.usable(*a));
            usable
                .then_with(|| self.compare_capacity(*a, *b))
                .then_with(|| self.nodes[*a].name.cmp(&self.nodes[*b].name))
        });
        for rsc in self.top.clone() {
            let row = self.wishes_of(rsc);
            let at = |n: NodeIx| {
                let place = row[n.0 as usize];
                if place.listed { place.score } else { -INFINITY }
            };
            let current = self.running_nodes(rsc);
            let here = match current.as_slice() {
                [one] if self.usable(*one) => at(*one),
                _ => -INFINITY,
            };
            let everywhere = nodes.iter().map(|n| Reverse(at(*n))).collect();
            keyed.push(((Reverse(self.rscs[rsc].priority), Reverse(here), everywhere), rsc));
        }
        keyed.sort_by(|a, b| a.0.cmp(&b.0));
        self.top = keyed.into_iter().map(|k| k.1).collect();
    }

    fn wishes_of(&mut self, rsc: RscIx) -> Vec<Place> {
        let mut row = vec![
            Place {
                score: 0,
                ..self.empty_row().first().copied().unwrap_or(Place {
                    listed: true,
                    score: 0,
                    discover: crate::model::Discover::Always,
                    count: 0,
                })
            };
            self.nodes.len()
        ];
        for place in &mut row {
            place.listed = true;
        }
        let select = super::colocation::Select::default();
        self.add_wishes(
            rsc,
            rsc,
            &mut row,
            None,
            1.0,
            super::colocation::Select { positive: false, ..select },
        );
        if self.rscs[rsc].kind == Kind::Primitive {
            for (i, place) in row.iter_mut().enumerate() {
                let own = self.rscs[rsc].allowed[i];
                place.score = tierce_cib::values::add_scores(
                    place.score,
                    if own.listed { own.score } else { -INFINITY },
                );
            }
        }
        row
    }
}
