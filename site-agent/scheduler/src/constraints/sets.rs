//! Orderings of sets: within a set one after the other, and set after set.

use tierce_cib::values;
use tierce_cib::xml::Element;

use super::constraint_id;
use super::ordering::{Strictness, Symmetry, flags};
use crate::action::{End, Task, flag};
use crate::arena::RscIx;
use crate::cluster::Cluster;

/// A set as an ordering sees it.
struct Set {
    members: Vec<RscIx>,
    task: Task,
    sequential: bool,
    require_all: bool,
}

impl Set {
    /// The members that others wait for or that wait: all, or only the one at the edge.
    fn edge(&self, last: bool) -> Vec<RscIx> {
        if !self.sequential {
            return self.members.clone();
        }
        let one = if last { self.members.last() } else { self.members.first() };
        one.copied().into_iter().collect()
    }
}

impl<'a> Cluster<'a> {
    pub(super) fn unpack_order_sets(
        &mut self,
        xml: Element<'a>,
        sets: &[Element<'a>],
        kind: Strictness,
        symmetrical: bool,
    ) {
        let mut previous: Option<Set> = None;
        for element in sets {
            let set = self.read_set(*element);
            let set_kind =
                element.attr("kind").map_or(kind, |_| super::ordering::strictness(*element));
            let set_symmetrical =
                element.attr("symmetrical").and_then(values::boolean).unwrap_or(symmetrical);
            self.order_within(&set, set_kind, set_symmetrical && kind != Strictness::Serialize);
            if let Some(before) = &previous {
                self.order_between(constraint_id(xml), before, &set, kind, symmetrical);
            }
            previous = Some(set);
        }
    }

    fn read_set(&self, set: Element<'a>) -> Set {
        let members = set
            .children_named("resource_ref")
            .filter_map(tierce_cib::xml::Element::id)
            .flat_map(|id| self.constraint_resources(id))
            .collect();
        let flag = |name: &str| set.attr(name).and_then(values::boolean) != Some(false);
        Set {
            members,
            task: set.attr("action").and_then(Task::parse).unwrap_or(Task::Start),
            sequential: flag("sequential"),
            require_all: flag("require-all"),
        }
    }

    fn order_within(&mut self, set: &Set, kind: Strictness, symmetrical: bool) {
        let symmetry = if symmetrical { Symmetry::Forward } else { Symmetry::OneWay };
        if kind == Strictness::Serialize {
            let f = flags(kind, set.task, symmetry);
            for (i, one) in set.members.iter().enumerate() {
                for other in set.members.iter().skip(i + 1) {
                    self.order(End::Op(*one, set.task, 0), End::Op(*other, set.task, 0), f);
                }
            }
            return;
        }
        if !set.sequential {
            return;
        }
        for pair in set.members.windows(2) {
            let f = flags(kind, set.task, symmetry);
            self.order(End::Op(pair[0], set.task, 0), End::Op(pair[1], set.task, 0), f);
            if symmetrical && let Some(undo) = set.task.inverse() {
                let f = flags(kind, undo, Symmetry::Backward);
                self.order(End::Op(pair[1], undo, 0), End::Op(pair[0], undo, 0), f);
            }
        }
    }

    fn order_between(
        &mut self,
        id: &str,
        one: &Set,
        other: &Set,
        kind: Strictness,
        symmetrical: bool,
    ) {
        let symmetry = if symmetrical { Symmetry::Forward } else { Symmetry::OneWay };
        let forward = flags(kind, one.task, symmetry);
        if one.require_all {
            for a in one.edge(true) {
                for b in other.edge(false) {
                    self.order(End::Op(a, one.task, 0), End::Op(b, other.task, 0), forward);
                }
            }
        } else {
            let gate =
                self.pseudo_action(&format!("one-or-more:{id}:{}", self.pseudo_actions.len()));
            self.actions[gate].requires_any = true;
            self.actions[gate].required_before = 1;
            for member in &one.members {
                self.order(
                    End::Op(*member, one.task, 0),
                    End::Action(gate),
                    flag::MIN_RUNNABLE | flag::FIRST_IMPLIES_THEN & forward,
                );
            }
            for member in &other.members {
                self.order(
                    End::Action(gate),
                    End::Op(*member, other.task, 0),
                    flag::ORDERED | flag::UNRUNNABLE_BLOCKS,
                );
            }
        }
        if symmetrical
            && let (Some(undo_one), Some(undo_other)) = (one.task.inverse(), other.task.inverse())
        {
            let backward = flags(kind, undo_other, Symmetry::Backward);
            let (mut firsts, mut thens) = (other.edge(false), one.edge(true));
            if !one.require_all {
                (firsts, thens) = (other.members.clone(), one.members.clone());
            }
            for b in &firsts {
                for a in &thens {
                    self.order(End::Op(*b, undo_other, 0), End::Op(*a, undo_one, 0), backward);
                }
            }
        }
    }
}
