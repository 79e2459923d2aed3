//! Colocation: pairs, and sets of resources.

use tierce_cib::values;
use tierce_cib::xml::Element;

use super::constraint_id;
use crate::action::{End, Task, flag};
use crate::arena::RscIx;
use crate::cluster::Cluster;
use crate::model::{Colocation, Kind, Role};

impl<'a> Cluster<'a> {
    pub(super) fn unpack_colocation(&mut self, xml: Element<'a>) {
        let influence = xml.attr("influence").and_then(values::boolean);
        let sets: Vec<Element<'a>> =
            xml.children_named("resource_set").filter_map(|s| self.ids.resolve(s)).collect();
        let score = xml.attr("score").and_then(values::score).unwrap_or(0);
        if !sets.is_empty() {
            for set in &sets {
                self.colocate_within(xml, *set, score, influence);
            }
            for pair in sets.windows(2) {
                self.colocate_sets(xml, pair[0], pair[1], score, influence);
            }
            return;
        }
        let (Some(one), Some(other)) = (xml.attr("rsc"), xml.attr("with-rsc")) else { return };
        let dependents = self.constraint_resources(one);
        let primaries = self.constraint_resources(other);
        let role = |name: &str| xml.attr(name).and_then(Role::parse);
        for d in &dependents {
            for p in &primaries {
                self.colocate(
                    xml,
                    *d,
                    *p,
                    role("rsc-role"),
                    role("with-rsc-role"),
                    score,
                    influence,
                );
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "these are the parts of a colocation")]
    pub(crate) fn colocate(
        &mut self,
        xml: Element<'a>,
        dependent: RscIx,
        primary: RscIx,
        dependent_role: Option<Role>,
        primary_role: Option<Role>,
        score: i32,
        influence: Option<bool>,
    ) {
        if score == 0 || dependent == primary {
            return;
        }
        let attribute = xml.attr("node-attribute").unwrap_or("#uname");
        let influence = influence.unwrap_or(self.rscs[dependent].critical);
        let real = |r: Option<Role>| r.filter(|r| *r != Role::Started && *r != Role::Unknown);
        let (dependent_role, primary_role) = (real(dependent_role), real(primary_role));
        let col = Colocation {
            id: constraint_id(xml).into(),
            dependent,
            primary,
            dependent_role,
            primary_role,
            attribute,
            score,
            influence,
        };
        self.push_colocation(col);
    }

    /// Adds a colocation.
    pub(crate) fn push_colocation(&mut self, col: Colocation<'a>) {
        let (dependent, primary) = (col.dependent, col.primary);
        if col.score <= -values::INFINITY {
            // On one node the one must be gone before the other comes.
            self.order_apart((dependent, col.dependent_role), (primary, col.primary_role));
            self.order_apart((primary, col.primary_role), (dependent, col.dependent_role));
        }
        let ix = self.colocations.push(col);
        self.rscs[dependent].this_with.push(ix);
        self.rscs[primary].with_this.push(ix);
    }

    fn order_apart(&mut self, first: (RscIx, Option<Role>), then: (RscIx, Option<Role>)) {
        let leaves: &[Task] = match first.1 {
            Some(Role::Promoted) => &[Task::Demote],
            Some(Role::Unpromoted) => &[Task::Stop, Task::Promote],
            _ => &[Task::Stop],
        };
        let comes: &[Task] = match then.1 {
            Some(Role::Promoted) => &[Task::Promote],
            Some(Role::Unpromoted) => &[Task::Start, Task::Demote],
            _ => &[Task::Start],
        };
        for a in leaves {
            for b in comes {
                self.order(End::Op(first.0, *a, 0), End::Op(then.0, *b, 0), flag::SAME_NODE);
            }
        }
    }

    fn set_members(&self, set: Element<'a>) -> Vec<RscIx> {
        set.children_named("resource_ref")
            .filter_map(tierce_cib::xml::Element::id)
            .flat_map(|id| self.constraint_resources(id))
            .collect()
    }

    fn colocate_within(
        &mut self,
        xml: Element<'a>,
        set: Element<'a>,
        default: i32,
        influence: Option<bool>,
    ) {
        let score = set.attr("score").and_then(values::score).unwrap_or(default);
        if score == 0 {
            return;
        }
        let role = set.attr("role").and_then(Role::parse);
        let members = self.set_members(set);
        let sequential = set.attr("sequential").and_then(values::boolean) != Some(false);
        if !sequential {
            return;
        }
        if score > 0 {
            // Each member goes along with the one before it.
            for pair in members.windows(2) {
                self.colocate(xml, pair[1], pair[0], role, role, score, influence);
            }
            return;
        }
        // Anti-colocation: each stays away from every one before it.
        for (i, dependent) in members.iter().enumerate() {
            for primary in &members[..i] {
                self.colocate(xml, *dependent, *primary, role, role, score, influence);
            }
        }
    }

    /// All of one set go along with the other set.
    fn colocate_sets(
        &mut self,
        xml: Element<'a>,
        one: Element<'a>,
        other: Element<'a>,
        score: i32,
        influence: Option<bool>,
    ) {
        if score == 0 {
            return;
        }
        let sequential =
            |s: Element<'a>| s.attr("sequential").and_then(values::boolean) != Some(false);
        let role = |s: Element<'a>| s.attr("role").and_then(Role::parse);
        let dependents = self.set_members(one);
        let primaries = self.set_members(other);
        let (role1, role2) = (role(one), role(other));
        match (sequential(one), sequential(other)) {
            // The first of the dependent set with the last of the primary set.
            (true, true) => {
                if let (Some(d), Some(p)) = (dependents.first(), primaries.last()) {
                    self.colocate(xml, *d, *p, role1, role2, score, influence);
                }
            }
            (true, false) => {
                if let Some(d) = dependents.first() {
                    for p in &primaries {
                        self.colocate(xml, *d, *p, role1, role2, score, influence);
                    }
                }
            }
            (false, true) => {
                if let Some(p) = primaries.last() {
                    for d in &dependents {
                        self.colocate(xml, *d, *p, role1, role2, score, influence);
                    }
                }
            }
            (false, false) => {
                for d in &dependents {
                    for p in &primaries {
                        self.colocate(xml, *d, *p, role1, role2, score, influence);
                    }
                }
            }
        }
    }

    /// Members of a group run together: each with the one before it.
    pub(crate) fn colocate_group_members(&mut self) {
        for group in self.rscs.keys() {
            if self.rscs[group].kind != Kind::Group {
                continue;
            }
            let children = self.rscs[group].children.clone();
            let colocated = self.rscs[group]
                .meta
                .get("collocated")
                .is_none_or(|w| values::boolean(w) != Some(false));
            if !colocated {
                continue;
            }
            for pair in children.windows(2) {
                let influence = self.rscs[pair[1]].critical;
                let col = Colocation {
                    id: "#group-members".into(),
                    dependent: pair[1],
                    primary: pair[0],
                    dependent_role: None,
                    primary_role: None,
                    attribute: "#uname",
                    score: values::INFINITY,
                    influence,
                };
                self.push_colocation(col);
            }
        }
    }
}
