//! Promotion: which instances of a promotable clone are promoted.
//!
//! Each instance has a promotion score, from the attribute that its agent sets on its node. Location and colocation
//! constraints for the promoted role add to it; the best become promoted.

use tierce_cib::values::{self, INFINITY, add_scores};

use crate::arena::{NodeIx, RscIx};
use crate::cluster::Cluster;
use crate::model::{Colocation, Kind, Role, Row};
use crate::options::NoQuorum;
use crate::row::{Cause, Promotion};

impl<'a> Cluster<'a> {
    /// Adds promotion scores to what instances think of nodes, so that instances go where they could be promoted.
    pub(super) fn add_promotion_scores(&mut self, clone: RscIx) {
        for instance in self.rscs[clone].children.clone() {
            for node in self.nodes.keys() {
                let place = self.rscs[instance].allowed[node.0 as usize];
                if !place.listed || place.score < 0 {
                    continue;
                }
                if let Some(score) = self.promotion_score(instance, node).filter(|s| *s > 0) {
                    self.rscs[instance].allowed.add(node, score, Cause::Promotion);
                    if let Some(first) = self.rscs[instance].children.first().copied() {
                        self.rscs[first].allowed.add(node, score, Cause::Promotion);
                    }
                }
            }
        }
    }

    /// The promotion score of an instance on a node; `None` where there is none.
    pub(crate) fn promotion_score(&self, instance: RscIx, node: NodeIx) -> Option<i32> {
        if self.rscs[instance].kind == Kind::Group {
            let mut sum = None;
            for member in &self.rscs[instance].children {
                if let Some(s) = self.promotion_score(*member, node) {
                    sum = Some(sum.unwrap_or(0) + s);
                }
            }
            return sum;
        }
        // A score counts where the instance runs, or where nothing of it is known to run and it was probed.
        if !self.score_applies(instance, node) {
            return None;
        }
        let r = &self.rscs[instance];
        let node = self.attributes_from(instance, node);
        // The agent sets the attribute under the name by which it knows itself.
        let own = format!("master-{}", r.history_name.unwrap_or(&r.id));
        let word = self.node_attribute(node, &own);
        let word = if word.is_none() && self.anonymous(instance) {
            self.node_attribute(node, &format!("master-{}", r.base))
        } else {
            word
        };
        word.and_then(values::score)
    }

    /// The node whose attributes count for what runs inside of a bundle: its own, or by configuration that of its host.
    fn attributes_from(&self, instance: RscIx, node: NodeIx) -> NodeIx {
        let on_host =
            self.rscs[instance].meta.get("container-attribute-target").is_some_and(|w| w == "host");
        let container = self.replica_of(instance).filter(|_| on_host).map(|r| r.container);
        container
            .and_then(|c| {
                let c = &self.rscs[c];
                c.assigned.or(c.running_on.first().copied())
            })
            .unwrap_or(node)
    }

    /// Whether a node's score is that of this instance: it runs there, or none does and the node was probed.
    fn score_applies(&self, instance: RscIx, node: NodeIx) -> bool {
        if !self.anonymous(instance) {
            return true;
        }
        let Some(clone) = self.clone_above(instance) else { return false };
        let siblings = self.sibling_primitives(clone, instance);
        if let Some(active) = siblings.iter().find(|s| self.rscs[**s].running_on.contains(&node)) {
            return *active == instance;
        }
        true
    }

    /// The same resource in all instances.
    pub(crate) fn sibling_primitives(&self, clone: RscIx, rsc: RscIx) -> Vec<RscIx> {
        let base = self.rscs[rsc].base;
        self.rscs[clone]
            .children
            .iter()
            .filter_map(|i| {
                if self.rscs[*i].base == base {
                    return Some(*i);
                }
                self.rscs[*i].children.iter().copied().find(|m| self.rscs[*m].base == base)
            })
            .collect()
    }

    /// Decides the next role of each instance.
    pub(super) fn choose_promoted(&mut self, clone: RscIx) {
        for instance in self.rscs[clone].children.clone() {
            self.rate(clone, instance);
        }
        let order = self.sorted_for_promotion(clone);
        let mut max = self.rscs[clone].promoted_max;
        if !self.quorate && self.options.no_quorum == NoQuorum::Demote {
            max = 0;
        }
        for place in &mut self.rscs[clone].allowed {
            place.count = 0;
        }
        let mut promoted = 0;
        for instance in order {
            let node = if promoted < max {
                self.may_promote(clone, instance)
            } else {
                Err(if max == 0 { Promotion::NoneAllowed } else { Promotion::Enough })
            };
            self.rscs[instance].promotion = Some(node.err().unwrap_or(Promotion::Chosen));
            if let Ok(node) = node {
                self.rscs[clone].allowed[node.0 as usize].count += 1;
                self.set_role(instance, Role::Promoted);
                promoted += 1;
            } else {
                self.set_role(instance, Role::Unpromoted);
            }
        }
    }

    fn set_role(&mut self, instance: RscIx, role: Role) {
        for child in self.rscs[instance].children.clone() {
            self.set_role(child, role);
        }
        let r = &self.rscs[instance];
        let role = if r.assigned.is_none() { Role::Stopped } else { role };
        if role == Role::Promoted || r.next_role != Role::Stopped {
            let unmanaged = r.kind == Kind::Primitive && !r.managed;
            if !unmanaged {
                self.rscs[instance].next_role = role;
            }
        }
    }

    /// The priority with which an instance is promoted.
    fn rate(&mut self, clone: RscIx, instance: RscIx) {
        let node = self.rscs[instance].assigned;
        let mut score = -1;
        if let Some(node) = node {
            score = self.promotion_score(instance, node).unwrap_or(-1);
            if self.rscs[instance].kind == Kind::Group
                && self.promotion_score(instance, node).is_none()
            {
                score = -1;
            }
        }
        self.rscs[instance].priority = score;
        let promoted_target = self.role_of(instance, false);
        match promoted_target {
            Role::Stopped => {
                self.rscs[instance].sort_weight = -INFINITY;
            }
            Role::Unpromoted => {
                // `target-role=Unpromoted`: never.
                self.rscs[instance].priority = -INFINITY;
            }
            _ => {}
        }
        if let Some(node) = node {
            let shift = self.promoted_location(clone, instance, node);
            let r = &mut self.rscs[instance];
            r.priority = add_scores(r.priority, shift);
        }
        for ix in self.this_with(instance) {
            let col = self.colocations[ix].clone();
            if col.dependent_role.is_some() {
                self.assign(col.primary, None, true);
                self.apply_colocation(instance, col.primary, ix);
            }
        }
        self.rscs[instance].sort_weight = self.rscs[instance].priority;
    }

    /// Scores of location constraints for the promoted role.
    fn promoted_location(&self, clone: RscIx, instance: RscIx, node: NodeIx) -> i32 {
        let mut sum = 0;
        let bundle = self.rscs[clone].parent;
        for rsc in [bundle, Some(clone), Some(instance)].into_iter().flatten() {
            for ix in &self.rscs[rsc].locations {
                let location = &self.locations[*ix];
                if location.role == Some(Role::Promoted) {
                    for (n, score) in &location.nodes {
                        if *n == node {
                            sum = add_scores(sum, *score);
                        }
                    }
                }
            }
        }
        sum
    }

    fn sorted_for_promotion(&mut self, clone: RscIx) -> Vec<RscIx> {
        let mut row: Row = self.rscs[clone].allowed.clone();
        for place in &mut row {
            place.score = 0;
            place.listed = true;
        }
        for instance in self.rscs[clone].children.clone() {
            if let Some(node) = self.rscs[instance].assigned {
                let weight = self.rscs[instance].sort_weight;
                if weight >= 0 {
                    let at = &mut row[node.0 as usize];
                    at.score = add_scores(at.score, weight);
                }
            }
        }
        self.hear_promoted_dependents(clone, &mut row);
        for instance in self.rscs[clone].children.clone() {
            if let Some(node) = self.rscs[instance].assigned {
                let stopped = self.role_of(instance, false) == Role::Stopped;
                let own = self.rscs[instance].sort_weight;
                let weight = if stopped {
                    -INFINITY
                } else if own < 0 {
                    own
                } else {
                    row[node.0 as usize].score
                };
                self.rscs[instance].sort_weight = weight;
            } else {
                self.rscs[instance].sort_weight = -INFINITY;
            }
        }
        let mut list = self.rscs[clone].children.clone();
        let mut order = self.sorted_instances(clone);
        order.retain(|i| list.contains(i));
        list = order;
        list.sort_by(|a, b| {
            let (x, y) = (&self.rscs[*a], &self.rscs[*b]);
            y.sort_weight
                .cmp(&x.sort_weight)
                .then_with(|| self.role_of(*b, true).cmp(&self.role_of(*a, true)))
        });
        list
    }

    /// Those that want to be with the promoted instance say where.
    fn hear_promoted_dependents(&mut self, clone: RscIx, row: &mut Row) {
        for ix in self.with_this(clone) {
            let col = self.colocations[ix].clone();
            if col.primary_role != Some(Role::Promoted) || !self.has_influence(&col) {
                continue;
            }
            let factor = f64::from(col.score) / f64::from(INFINITY);
            let select =
                super::colocation::Select { active: true, positive: true, ..Default::default() };
            self.add_wishes(col.dependent, clone, row, Some(ix), factor, select);
        }
    }

    /// The node on which an instance may be promoted.
    fn may_promote(&self, clone: RscIx, instance: RscIx) -> Result<NodeIx, Promotion> {
        let r = &self.rscs[instance];
        let node = r.assigned.ok_or(Promotion::NoNode)?;
        if r.kind == Kind::Group {
            let blocked = r.children.iter().any(|c| self.rscs[*c].assigned.is_none());
            if blocked {
                return Err(Promotion::NoNode);
            }
        }
        let mut parts = Vec::new();
        self.primitives(instance, &mut parts);
        let managed = parts.iter().all(|p| self.rscs[*p].managed);
        if !managed {
            let promoted = self.role_of(instance, true) == Role::Promoted;
            return if promoted { Ok(node) } else { Err(Promotion::Unmanaged) };
        }
        if r.priority < 0 {
            return Err(Promotion::Score);
        }
        if self.ticket_denies(instance) {
            return Err(Promotion::Ticket);
        }
        let container = self.nodes[node].connection.and_then(|c| self.rscs[c].container);
        if !self.usable(node) || container.is_some_and(|c| self.rscs[c].assigned.is_none()) {
            return Err(Promotion::Node);
        }
        let place = self.rscs[clone].allowed[node.0 as usize];
        if place.count >= self.rscs[clone].promoted_node_max {
            return Err(Promotion::Full);
        }
        Ok(node)
    }

    /// Colocation of something with a clone: with the instance on the same node, or with the nodes of all.
    pub(super) fn apply_with_clone(
        &mut self,
        dependent: RscIx,
        clone: RscIx,
        ix: crate::arena::ColIx,
    ) {
        if self.rscs[clone].provisional {
            return;
        }
        let col = self.colocations[ix].clone();
        if self.rscs[clone].promotable
            && col.primary_role.is_some()
            && self.rscs[dependent].parent.is_some_and(|p| self.rscs[p].promotable)
            && col.dependent_role == Some(Role::Promoted)
            && !self.rscs[dependent].provisional
        {
            self.promoted_with_promoted(dependent, clone, &col);
            return;
        }
        let dependent_clone =
            self.rscs[dependent].parent.filter(|p| self.rscs[*p].kind == Kind::Clone);
        let interleave = dependent_clone.is_some_and(|p| {
            self.rscs[p].interleave
                && self.rscs[clone].clone_node_max == self.rscs[p].clone_node_max
        });
        if interleave && col.score >= INFINITY && self.rscs[dependent].provisional {
            let instances: Vec<(RscIx, NodeIx)> = self
                .instances(clone)
                .into_iter()
                .filter_map(|i| self.rscs[i].assigned.map(|n| (i, n)))
                .filter(|(i, _)| self.role_fits(*i, col.primary_role))
                .collect();
            // It goes along with one of them: that on the node which is best as things stand.
            let row = &self.rscs[dependent].allowed;
            let along = self
                .sorted_nodes(row, None)
                .into_iter()
                .find(|node| instances.iter().any(|(_, at)| at == node));
            for node in self.nodes.keys().filter(|node| Some(*node) != along) {
                let place = &mut self.rscs[dependent].allowed[node.0 as usize];
                if place.listed {
                    place.score = -INFINITY;
                }
            }
            return;
        }
        if !self.rscs[dependent].provisional {
            self.promoted_with_instances(dependent, clone, &col);
            return;
        }
        if let Some(role) = col.dependent_role
            && role != self.role_of(dependent, false)
        {
            return;
        }
        let mut hosts: Vec<NodeIx> = Vec::new();
        for instance in self.instances(clone) {
            if let Some(node) = self.rscs[instance].assigned
                && self.role_fits(instance, col.primary_role)
                && !self.out_of_reach(instance, col.score)
            {
                hosts.push(node);
            }
        }
        if col.score >= INFINITY {
            self.only_with(dependent, &hosts, &col);
        } else {
            // One after the other: what would leave no place at all is not counted.
            for host in hosts {
                self.with_one_instance(dependent, host, &col);
            }
        }
    }

    /// Whether an instance is held where its end failed, so that nothing can count on being with it. To keep away from it
    /// is another matter.
    fn out_of_reach(&self, rsc: RscIx, score: i32) -> bool {
        let r = &self.rscs[rsc];
        let inside = score >= INFINITY && r.children.iter().any(|c| self.out_of_reach(*c, score));
        score > -INFINITY && (r.blocked && r.failed || inside)
    }

    /// A mandatory colocation leaves the places of the instances and no others.
    fn only_with(&mut self, dependent: RscIx, hosts: &[NodeIx], col: &Colocation<'a>) {
        let values: Vec<Option<String>> =
            hosts.iter().map(|n| self.colocation_value(*n, col).map(str::to_owned)).collect();
        for node in self.nodes.keys() {
            let with = values.contains(&self.colocation_value(node, col).map(str::to_owned));
            let at = &mut self.rscs[dependent].allowed[node.0 as usize];
            if at.listed && !with {
                at.score = -INFINITY;
            }
        }
    }

    fn with_one_instance(&mut self, dependent: RscIx, host: NodeIx, col: &Colocation<'a>) {
        let mut row = self.rscs[dependent].allowed.clone();
        for node in self.nodes.keys() {
            let with = self.colocation_value(node, col) == self.colocation_value(host, col);
            let at = &mut row[node.0 as usize];
            if at.listed && with {
                at.score = add_scores(at.score, col.score);
            }
        }
        if col.score <= -INFINITY || self.any_available(&row) {
            self.rscs[dependent].allowed = row;
        }
    }

    fn role_fits(&self, instance: RscIx, role: Option<Role>) -> bool {
        // A container has the role of what is inside.
        let inside = self.replica_of(instance).and_then(|r| r.child);
        role.is_none_or(|r| self.role_of(inside.unwrap_or(instance), false) == r)
    }

    /// What is placed already and wants to be promoted where a clone is gains by each instance that is there.
    fn promoted_with_instances(&mut self, dependent: RscIx, clone: RscIx, col: &Colocation<'a>) {
        let Some(node) = self.rscs[dependent].assigned else { return };
        if col.dependent_role != Some(Role::Promoted) || col.score >= INFINITY {
            return;
        }
        for instance in self.instances(clone) {
            let there = self.rscs[instance]
                .assigned
                .is_some_and(|n| self.colocation_value(n, col) == self.colocation_value(node, col));
            if there && self.role_fits(instance, col.primary_role) {
                let r = &mut self.rscs[dependent];
                r.priority = add_scores(r.priority, col.score);
            }
        }
    }

    fn promoted_with_promoted(&mut self, dependent: RscIx, clone: RscIx, col: &Colocation<'a>) {
        let Some(node) = self.rscs[dependent].assigned else { return };
        let with = self.instances(clone).iter().any(|i| {
            self.role_fits(*i, col.primary_role)
                && self.rscs[*i].assigned.is_some_and(|n| {
                    self.colocation_value(n, col) == self.colocation_value(node, col)
                })
        });
        let r = &mut self.rscs[dependent];
        if with {
            r.priority = add_scores(r.priority, col.score);
        } else if col.score >= INFINITY {
            r.priority = -INFINITY;
        }
    }
}
