//! Colocation in numbers: what one resource's place means for another's scores.

use tierce_cib::values::{INFINITY, add_scores};

use crate::arena::{ColIx, NodeIx, RscIx};
use crate::cluster::Cluster;
use crate::model::{Colocation, Kind, Place, Role, Row};
use crate::row::Cause;

/// A node that was wanted and that a wish speaks against: it counts as not available until all are heard, then as the
/// least that is still wanted.
const BARRED: i32 = -100 * INFINITY;

/// How another's wishes are taken over.
#[derive(Clone, Copy, Default)]
pub(crate) struct Select {
    /// Follow what the other is with, instead of what is with it.
    pub this_with: bool,
    /// Only wishes for, not against.
    pub positive: bool,
    /// Not if nothing would be left.
    pub active: bool,
}

/// What a colocation changes at this point.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Affects {
    Nothing,
    Location,
    Role,
}

impl<'a> Cluster<'a> {
    /// The value by which nodes are compared in a colocation; a guest by where its container runs, if asked.
    pub(crate) fn colocation_value(&self, node: NodeIx, col: &Colocation<'a>) -> Option<&str> {
        // Inside of a bundle it is the host that counts.
        let host = self.replica_inside(node).and_then(|(_, r)| self.rscs[r.container].assigned);
        let node = host.unwrap_or(node);
        if col.attribute == "#uname" {
            return Some(self.nodes[node].name.as_ref());
        }
        self.node_attribute(node, col.attribute)
    }

    /// Colocations in which a resource is the dependent, its own and those that it has from its collective.
    pub(crate) fn this_with(&self, rsc: RscIx) -> Vec<ColIx> {
        let mut list = self.rscs[rsc].this_with.clone();
        let mut at = rsc;
        while let Some(parent) = self.rscs[at].parent {
            match self.rscs[parent].kind {
                Kind::Group => {
                    // The first member leads, unless it is itself led by nobody; in a cloned group it leads all the same.
                    let first = self.rscs[parent].children.first().copied();
                    let cloned = self.rscs[parent].parent.is_some();
                    let led = cloned || first.is_none_or(|f| self.rscs[f].managed);
                    if first != Some(at) && led {
                        break;
                    }
                    list.extend(&self.rscs[parent].this_with);
                    // The first member decides for all: what any of them must be with binds it.
                    for other in self.rscs[parent].children.iter().filter(|m| **m != at) {
                        list.extend(self.rscs[*other].this_with.iter().filter(|ix| {
                            let c = &self.colocations[**ix];
                            c.score >= INFINITY && self.rscs[c.primary].parent != Some(parent)
                        }));
                    }
                }
                Kind::Bundle if !self.speaks_for_bundle(parent, rsc) => break,
                _ => list.extend(&self.rscs[parent].this_with),
            }
            at = parent;
        }
        self.sort_colocations(&mut list, true);
        list
    }

    /// Colocations in which a resource is the primary.
    pub(crate) fn with_this(&self, rsc: RscIx) -> Vec<ColIx> {
        let mut list = self.rscs[rsc].with_this.clone();
        let mut at = rsc;
        while let Some(parent) = self.rscs[at].parent {
            match self.rscs[parent].kind {
                Kind::Group => {
                    if self.rscs[parent].children.last() != Some(&at) {
                        break;
                    }
                    list.extend(&self.rscs[parent].with_this);
                }
                Kind::Bundle if !self.speaks_for_bundle(parent, rsc) => break,
                _ => list.extend(&self.rscs[parent].with_this),
            }
            at = parent;
        }
        self.sort_colocations(&mut list, false);
        list
    }

    /// Whether the colocations of a bundle are those of a part of it: its containers have them, and what runs inside once
    /// roles are chosen.
    fn speaks_for_bundle(&self, bundle: RscIx, part: RscIx) -> bool {
        let r = &self.rscs[bundle];
        if r.replicas.iter().any(|replica| replica.container == part) {
            return true;
        }
        let inside = r.inner.is_some_and(|c| c == part || self.rscs[part].parent == Some(c));
        inside && r.promotable && (Some(part) == r.inner || !self.rscs[part].provisional)
    }

    fn sort_colocations(&self, list: &mut [ColIx], primary: bool) {
        let other = |c: ColIx| {
            let col = &self.colocations[c];
            if primary { col.primary } else { col.dependent }
        };
        let kind_rank = |r: RscIx| match self.rscs[r].kind {
            Kind::Clone => 0,
            Kind::Bundle => 1,
            Kind::Group => 2,
            Kind::Primitive => 3,
        };
        list.sort_by(|a, b| {
            let (x, y) = (other(*a), other(*b));
            let (p, q) = (&self.rscs[x], &self.rscs[y]);
            q.priority
                .cmp(&p.priority)
                .then_with(|| kind_rank(x).cmp(&kind_rank(y)))
                .then_with(|| q.promotable.cmp(&p.promotable))
                .then_with(|| p.id.cmp(&q.id))
        });
    }

    fn is_promotable_instance(&self, rsc: RscIx) -> bool {
        self.rscs[rsc]
            .parent
            .is_some_and(|p| self.rscs[p].kind == Kind::Clone && self.rscs[p].promotable)
    }

    /// What a colocation means for a dependent now.
    pub(crate) fn affects(
        &self,
        dependent: RscIx,
        primary: RscIx,
        col: &Colocation<'a>,
        preview: bool,
    ) -> Affects {
        if !preview && self.rscs[primary].provisional {
            return Affects::Nothing;
        }
        let promotable_instance = self.is_promotable_instance(dependent);
        if col.dependent_role >= Some(Role::Unpromoted)
            && promotable_instance
            && !self.rscs[dependent].provisional
        {
            return Affects::Role;
        }
        if !preview && !self.rscs[dependent].provisional {
            return Affects::Nothing;
        }
        if let Some(role) = col.dependent_role
            && role != self.role_of(dependent, false)
        {
            return Affects::Nothing;
        }
        if let Some(role) = col.primary_role
            && role != self.role_of(primary, false)
        {
            return Affects::Nothing;
        }
        Affects::Location
    }

    /// Gives a dependent the scores that follow from where its primary is.
    pub(crate) fn apply_colocation(&mut self, dependent: RscIx, primary: RscIx, ix: ColIx) {
        let kind = self.rscs[dependent].kind;
        match kind {
            Kind::Primitive => {}
            Kind::Group
                if self.is_promotable_instance(dependent) && !self.rscs[dependent].provisional => {}
            Kind::Group => {
                // Members follow the first, so it alone is told.
                if let Some(first) = self.rscs[dependent].children.first().copied() {
                    self.apply_colocation(first, primary, ix);
                }
                return;
            }
            Kind::Clone | Kind::Bundle => return,
        }
        match self.rscs[primary].kind {
            Kind::Primitive => self.apply_to_primitive(dependent, primary, ix),
            Kind::Group => self.apply_with_group(dependent, primary, ix),
            Kind::Clone | Kind::Bundle => self.apply_with_clone(dependent, primary, ix),
        }
        self.rscs[dependent].allowed.tell(Cause::With(ix));
    }

    fn apply_with_group(&mut self, dependent: RscIx, group: RscIx, ix: ColIx) {
        if self.rscs[group].provisional {
            return;
        }
        let children = &self.rscs[group].children;
        let member = if self.colocations[ix].score >= INFINITY {
            // All of it must be up: the last member that is configured tells.
            children.last().copied()
        } else {
            children.first().copied()
        };
        if let Some(member) = member {
            self.apply_colocation(dependent, member, ix);
        }
    }

    fn apply_to_primitive(&mut self, dependent: RscIx, primary: RscIx, ix: ColIx) {
        let col = self.colocations[ix].clone();
        match self.affects(dependent, primary, &col, false) {
            Affects::Location => self.shift_scores(dependent, primary, &col),
            Affects::Role => self.shift_priority(dependent, primary, &col),
            Affects::Nothing => {}
        }
    }

    fn shift_scores(&mut self, dependent: RscIx, primary: RscIx, col: &Colocation<'a>) {
        let place = self.rscs[primary].assigned;
        if place.is_none() && col.score < 0 {
            return;
        }
        let value = place.and_then(|n| self.colocation_value(n, col)).map(str::to_owned);
        let mut row = self.rscs[dependent].allowed.clone();
        for node in self.nodes.keys() {
            let at = &mut row[node.0 as usize];
            if !at.listed {
                continue;
            }
            if place.is_none() {
                at.score = add_scores(at.score, -col.score);
            } else if self.colocation_value(node, col).map(str::to_owned) == value {
                if col.score < INFINITY {
                    at.score = add_scores(at.score, col.score);
                }
            } else if col.score >= INFINITY {
                at.score = add_scores(at.score, -col.score);
            }
        }
        if col.score <= -INFINITY || col.score >= INFINITY || self.any_available(&row) {
            self.rscs[dependent].allowed = row;
        }
    }

    /// A colocation with a promoted role changes how much an instance wants to be promoted.
    fn shift_priority(&mut self, dependent: RscIx, primary: RscIx, col: &Colocation<'a>) {
        let (Some(dependent_node), true) = (self.rscs[dependent].assigned, true) else { return };
        let mut score = col.score;
        let Some(primary_node) = self.rscs[primary].assigned else {
            if col.primary_role.is_some() || col.score > 0 {
                let r = &mut self.rscs[dependent];
                if col.score >= 0 {
                    r.priority = add_scores(r.priority, -col.score);
                }
            }
            return;
        };
        let same =
            self.colocation_value(primary_node, col) == self.colocation_value(dependent_node, col);
        if !same {
            if score >= INFINITY && col.dependent_role == Some(Role::Promoted) {
                self.rscs[dependent].priority = -INFINITY;
            }
            return;
        }
        if let Some(role) = col.primary_role
            && role != self.rscs[primary].next_role
        {
            return;
        }
        if col.dependent_role == Some(Role::Unpromoted) {
            score = -score;
        }
        let r = &mut self.rscs[dependent];
        r.priority = add_scores(r.priority, score);
    }

    /// The best score that a row has on nodes with a value.
    fn best_matching(&self, row: &Row, col: &Colocation<'a>, value: Option<&str>) -> i32 {
        let mut best = -INFINITY;
        for node in self.nodes.keys() {
            let place = row[node.0 as usize];
            if place.listed
                && place.score > best
                && self.usable(node)
                && self.colocation_value(node, col) == value
            {
                best = place.score;
            }
        }
        best
    }

    fn add_matching(
        &self,
        source: RscIx,
        target: &mut Row,
        col: &Colocation<'a>,
        factor: f64,
        positive: bool,
    ) {
        // A group has one place if the group says so, whatever is the matter with its first member.
        let group = self.rscs[source].parent.filter(|g| {
            self.rscs[*g].kind == Kind::Group && self.rscs[*g].children.first() == Some(&source)
        });
        let own = &self.rscs[group.unwrap_or(source)].allowed;
        let lone = own.iter().filter(|place| place.listed && place.score >= 0).count() == 1;
        let source = &self.rscs[source].allowed;
        for node in self.nodes.keys() {
            if !target[node.0 as usize].listed {
                continue;
            }
            let score = if col.attribute == "#uname" {
                let place = source[node.0 as usize];
                if place.listed && self.usable(node) { place.score } else { -INFINITY }
            } else {
                self.best_matching(source, col, self.colocation_value(node, col))
            };
            if factor < 0.0 && score < 0 && !lone {
                // A wish against, turned around, is no wish for; but who has one place is to have it alone.
                continue;
            }
            let at: &mut Place = &mut target[node.0 as usize];
            if at.score == BARRED {
                continue;
            }
            let shifted = f64::from(score) * factor;
            let mut delta = (if shifted < 0.0 { shifted - 0.5 } else { shifted + 0.5 }) as i64;
            if delta == 0 && score != 0 {
                if factor > 0.0 {
                    delta = 1;
                } else if factor < 0.0 {
                    delta = -1;
                }
            }
            let delta = delta.clamp(i64::from(-INFINITY), i64::from(INFINITY)) as i32;
            let new = add_scores(delta, at.score);
            if positive && new < 0 && at.score > 0 {
                at.score = BARRED;
                continue;
            }
            if positive && new < 0 && at.score == 0 {
                continue;
            }
            at.score = new;
        }
    }

    /// Adds to a row what a resource, and what hangs on it, thinks of the nodes.
    pub(crate) fn add_wishes(
        &mut self,
        source: RscIx,
        target: RscIx,
        row: &mut Row,
        col: Option<ColIx>,
        factor: f64,
        select: Select,
    ) {
        if self.rscs[source].merging {
            return;
        }
        match self.rscs[source].kind {
            // A clone has wishes of its own; where its instances happen to be is none.
            Kind::Primitive | Kind::Clone => {}
            Kind::Group => return self.add_group_wishes(source, target, row, col, factor, select),
            Kind::Bundle => {
                if let Some(first) = self.instances(source).first().copied() {
                    self.add_wishes(first, target, row, col, factor, select);
                }
                return;
            }
        }
        self.rscs[source].merging = true;
        let mut work = row.clone();
        let plain;
        let constraint = if let Some(ix) = col {
            &self.colocations[ix]
        } else {
            plain = Colocation {
                id: "".into(),
                dependent: source,
                primary: target,
                dependent_role: None,
                primary_role: None,
                attribute: "#uname",
                score: 0,
                influence: true,
            };
            &plain
        };
        let skip_plain = col.is_none() && source == target;
        if !skip_plain {
            self.add_matching(source, &mut work, constraint, factor, select.positive);
        }
        if select.active && !self.any_available(&work) {
            self.rscs[source].merging = false;
            return;
        }
        if self.any_available(&work) {
            let list =
                if select.this_with { self.this_with(source) } else { self.with_this(source) };
            for ix in list {
                let c = self.colocations[ix].clone();
                let (other, next_factor) = if select.this_with {
                    (c.primary, factor * f64::from(c.score) / f64::from(INFINITY))
                } else {
                    if !self.has_influence(&c) {
                        continue;
                    }
                    (c.dependent, factor * f64::from(c.score) / f64::from(INFINITY))
                };
                if select.this_with && c.primary_role == Some(Role::Promoted) {
                    continue;
                }
                self.add_wishes(
                    other,
                    target,
                    &mut work,
                    Some(ix),
                    next_factor,
                    Select { active: true, ..select },
                );
            }
        }
        if select.positive {
            for place in &mut work {
                if place.score == BARRED {
                    place.score = 1;
                }
            }
        }
        *row = work;
        self.rscs[source].merging = false;
    }

    /// Whether the wishes of a dependent count for its primary. One without influence never makes a primary
    /// move; where a primary is to begin it has a say.
    pub(crate) fn has_influence(&self, col: &Colocation<'a>) -> bool {
        col.influence || self.running_nodes(col.primary).is_empty()
    }

    fn add_group_wishes(
        &mut self,
        group: RscIx,
        target: RscIx,
        row: &mut Row,
        col: Option<ColIx>,
        factor: f64,
        select: Select,
    ) {
        let children = self.rscs[group].children.clone();
        // The first member's scores stand for the group; its colocations are those of first and last.
        let (Some(first), Some(last)) = (children.first().copied(), children.last().copied())
        else {
            return;
        };
        self.rscs[group].merging = true;
        if select.this_with {
            self.add_wishes(last, target, row, col, factor, select);
        } else {
            self.add_wishes(first, target, row, col, factor, select);
        }
        self.rscs[group].merging = false;
    }
}
