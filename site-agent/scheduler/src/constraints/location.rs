//! Location: scores of nodes, given or by rule, and where probes are made.

use tierce_cib::rules::Situation;
use tierce_cib::values::{self, INFINITY};
use tierce_cib::xml::Element;

use super::constraint_id;
use crate::arena::{LocIx, NodeIx, RscIx};
use crate::cluster::Cluster;
use crate::model::{Discover, Kind, Location, Origin, Role};
use crate::row::Cause;

impl<'a> Cluster<'a> {
    pub(super) fn unpack_location(&mut self, xml: Element<'a>) {
        let role = xml.attr("role").and_then(Role::parse);
        if let Some(pattern) = xml.attr("rsc-pattern") {
            return self.location_by_pattern(xml, pattern, role);
        }
        if let Some(id) = xml.attr("rsc") {
            for rsc in self.constraint_resources(id) {
                self.location_of(xml, rsc, role, &[]);
            }
            return;
        }
        for set in xml.children_named("resource_set") {
            let Some(set) = self.ids.resolve(set) else { continue };
            let set_role = set.attr("role").and_then(Role::parse).or(role);
            for reference in set.children_named("resource_ref") {
                for rsc in
                    reference.id().map(|id| self.constraint_resources(id)).unwrap_or_default()
                {
                    self.location_of(xml, rsc, set_role, &[]);
                }
            }
        }
    }

    fn location_by_pattern(&mut self, xml: Element<'a>, pattern: &str, role: Option<Role>) {
        let (negative, pattern) = pattern.strip_prefix('!').map_or((false, pattern), |p| (true, p));
        let Ok(regex) = regex_lite::Regex::new(pattern) else { return };
        let mut all: Vec<RscIx> = self.top.clone();
        let mut i = 0;
        while i < all.len() {
            if self.rscs[all[i]].kind == Kind::Group {
                let members = self.rscs[all[i]].children.clone();
                all.splice((i + 1)..=i, members);
            }
            i += 1;
        }
        for rsc in all {
            let id = self.rscs[rsc].id.clone();
            match regex.captures(&id) {
                Some(found) if !negative => {
                    let groups: Vec<&str> =
                        (0..found.len()).map(|g| found.get(g).map_or("", |m| m.as_str())).collect();
                    self.location_of(xml, rsc, role, &groups);
                }
                None if negative => self.location_of(xml, rsc, role, &[]),
                _ => {}
            }
        }
    }

    fn location_of(&mut self, xml: Element<'a>, rsc: RscIx, role: Option<Role>, captures: &[&str]) {
        let discover = match xml.attr("resource-discovery") {
            Some("never") => Discover::Never,
            Some("exclusive") => Discover::Exclusive,
            _ => Discover::Always,
        };
        if let Some(name) = xml.attr("node") {
            let Some(node) = self.find_node(name) else { return };
            let score = xml.attr("score").map_or(INFINITY, |w| values::score(w).unwrap_or(0));
            self.push_location(xml, rsc, role, vec![(node, score)], discover);
            return;
        }
        for rule in xml.children_named("rule") {
            let Some(rule) = self.ids.resolve(rule) else { continue };
            let nodes = self.rule_scores(rule, rsc, captures);
            let role = rule.attr("role").and_then(Role::parse).or(role);
            self.push_location(xml, rsc, role, nodes, discover);
        }
    }

    fn push_location(
        &mut self,
        xml: Element<'a>,
        rsc: RscIx,
        role: Option<Role>,
        nodes: Vec<(NodeIx, i32)>,
        discover: Discover,
    ) {
        if nodes.is_empty() {
            return;
        }
        if discover == Discover::Exclusive {
            self.rscs[rsc].exclusive_discover = true;
        }
        let role = role.filter(|r| *r != Role::Started && *r != Role::Unknown);
        let id = constraint_id(xml).into();
        let location = Location { id, origin: Origin::Constraint, role, nodes, discover };
        let ix = self.locations.push(location);
        self.rscs[rsc].locations.push(ix);
    }

    /// Which nodes a rule chooses, with what score.
    fn rule_scores(&self, rule: Element<'a>, rsc: RscIx, captures: &[&str]) -> Vec<(NodeIx, i32)> {
        let fixed = match (rule.attr("score"), rule.attr("score-attribute")) {
            (Some(word), _) => Some(values::score(word).unwrap_or(0)),
            (None, Some(_)) => None,
            (None, None) => Some(INFINITY),
        };
        let mut found = Vec::new();
        for node in self.nodes.keys() {
            let lookup = |name: &str| self.node_attribute(node, name);
            let parameter = |name: &str| self.parameter(rsc, node, name);
            let meta = |name: &str| self.rscs[rsc].meta.get(name);
            let at = Situation {
                node: Some(&lookup),
                parameter: Some(&parameter),
                meta: Some(&meta),
                captures,
                ..self.situation()
            };
            if !at.holds(rule, &self.ids) {
                continue;
            }
            let score = fixed.or_else(|| {
                let name = rule.attr("score-attribute")?;
                self.node_attribute(node, name).and_then(values::score)
            });
            if let Some(score) = score {
                found.push((node, score));
            }
        }
        found
    }

    /// Gives a resource, and what is in it, the scores of a location constraint.
    pub(crate) fn apply_location(&mut self, rsc: RscIx, ix: LocIx, reset: bool) {
        let location = &self.locations[ix];
        let exclusive = location.discover == Discover::Exclusive;
        for (node, score) in &location.nodes {
            let score = if reset { 0 } else { *score };
            self.rscs[rsc].allowed.add(*node, score, Cause::Location(ix));
            let place = &mut self.rscs[rsc].allowed[node.0 as usize];
            place.listed = true;
            if location.discover > place.discover {
                place.discover = location.discover;
            }
        }
        let children = self.rscs[rsc].children.clone();
        match self.rscs[rsc].kind {
            Kind::Group => {
                for (i, child) in children.into_iter().enumerate() {
                    self.apply_location(child, ix, reset || i > 0);
                }
            }
            Kind::Clone => {
                for child in children {
                    self.apply_location(child, ix, reset);
                }
            }
            Kind::Bundle => {
                // What runs inside is where its container is.
                let inner = self.rscs[rsc].inner;
                for part in children.into_iter().filter(|c| Some(*c) != inner) {
                    if exclusive && !self.rscs[part].is_connection() {
                        self.rscs[part].exclusive_discover = true;
                    }
                    self.apply_location(part, ix, reset);
                }
            }
            Kind::Primitive => {}
        }
    }

    /// Gives every resource the scores of its location constraints; those for a promoted role come later.
    pub(crate) fn apply_locations(&mut self) {
        for rsc in self.rscs.keys() {
            for ix in self.rscs[rsc].locations.clone() {
                let location = self.locations[ix].clone();
                if location.role == Some(Role::Promoted) {
                    self.apply_discovery(rsc, &location);
                } else {
                    self.apply_location(rsc, ix, false);
                }
            }
        }
    }

    fn apply_discovery(&mut self, rsc: RscIx, location: &Location<'a>) {
        if location.discover == Discover::Always {
            return;
        }
        for (node, _) in &location.nodes {
            self.rscs[rsc].allowed[node.0 as usize].discover = location.discover;
        }
    }
}
