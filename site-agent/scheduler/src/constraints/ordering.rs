//! Orderings from the configuration: pairs, in both directions where they are symmetrical.

use tierce_cib::values;
use tierce_cib::xml::Element;

use super::constraint_id;
use crate::action::{End, Order, Task, flag};
use crate::arena::RscIx;
use crate::cluster::Cluster;
use crate::model::Kind;

/// How strict an ordering is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strictness {
    Optional,
    Mandatory,
    Serialize,
}

/// In which directions an ordering holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Symmetry {
    OneWay,
    Forward,
    Backward,
}

/// The flags of an ordering from the configuration.
pub(crate) fn flags(kind: Strictness, first: Task, symmetry: Symmetry) -> u32 {
    let up = matches!(first, Task::Start | Task::Promote);
    match (kind, symmetry) {
        (Strictness::Optional, _) => flag::ORDERED,
        (Strictness::Serialize, _) => flag::SERIALIZE,
        (Strictness::Mandatory, Symmetry::OneWay) => flag::ORDERED | flag::ASYMMETRIC,
        (Strictness::Mandatory, Symmetry::Forward) if up => {
            flag::ORDERED | flag::FIRST_IMPLIES_THEN | flag::UNRUNNABLE_BLOCKS
        }
        (Strictness::Mandatory, Symmetry::Forward) => flag::ORDERED | flag::FIRST_IMPLIES_THEN,
        (Strictness::Mandatory, Symmetry::Backward) => flag::ORDERED | flag::THEN_IMPLIES_FIRST,
    }
}

pub(crate) fn strictness(xml: Element<'_>) -> Strictness {
    match xml.attr("kind") {
        Some(k) if k.eq_ignore_ascii_case("optional") => Strictness::Optional,
        Some(k) if k.eq_ignore_ascii_case("serialize") => Strictness::Serialize,
        Some(_) => Strictness::Mandatory,
        None => match xml.attr("score").and_then(values::score) {
            Some(0) => Strictness::Optional,
            _ => Strictness::Mandatory,
        },
    }
}

impl<'a> Cluster<'a> {
    pub(super) fn unpack_order(&mut self, xml: Element<'a>) {
        let kind = strictness(xml);
        let symmetrical = match xml.attr("symmetrical").and_then(values::boolean) {
            Some(word) => word && kind != Strictness::Serialize,
            None => kind != Strictness::Serialize,
        };
        let sets: Vec<Element<'a>> =
            xml.children_named("resource_set").filter_map(|s| self.ids.resolve(s)).collect();
        if !sets.is_empty() {
            self.unpack_order_sets(xml, &sets, kind, symmetrical);
            return;
        }
        let (Some(first), Some(then)) = (xml.attr("first"), xml.attr("then")) else { return };
        let first_task = xml.attr("first-action").and_then(Task::parse).unwrap_or(Task::Start);
        let then_task = xml.attr("then-action").and_then(Task::parse).unwrap_or(first_task);
        let require_all = xml.attr("require-all").and_then(values::boolean) != Some(false);
        for f in self.constraint_resources(first) {
            for t in self.constraint_resources(then) {
                self.order_pair(
                    xml,
                    (f, first_task),
                    (t, then_task),
                    kind,
                    symmetrical,
                    require_all,
                );
            }
        }
    }

    fn order_pair(
        &mut self,
        xml: Element<'a>,
        (first, first_task): (RscIx, Task),
        (then, then_task): (RscIx, Task),
        kind: Strictness,
        symmetrical: bool,
        require_all: bool,
    ) {
        let symmetry = if symmetrical { Symmetry::Forward } else { Symmetry::OneWay };
        let forward = flags(kind, first_task, symmetry);
        let r = &self.rscs[first];
        let minimum = if r.kind != Kind::Clone {
            0
        } else if r.clone_min > 0 {
            r.clone_min
        } else {
            u32::from(!require_all)
        };
        if minimum > 0 && matches!(first_task, Task::Start | Task::Promote) {
            self.order_enough(
                constraint_id(xml),
                (first, first_task),
                (then, then_task),
                forward,
                minimum,
            );
        } else {
            self.order(End::Op(first, first_task, 0), End::Op(then, then_task, 0), forward);
        }
        if !symmetrical {
            return;
        }
        if let (Some(undo_first), Some(undo_then)) = (first_task.inverse(), then_task.inverse()) {
            let mut backward = flags(kind, undo_then, Symmetry::Backward);
            let up = matches!(undo_first, Task::Start | Task::Promote);
            if minimum > 0 || up {
                // While enough instances run, none of those that follow has to go down for one of them; and
                // what comes up asks nothing to go down for it.
                backward &= flag::ORDERED;
            }
            self.order(End::Op(then, undo_then, 0), End::Op(first, undo_first, 0), backward);
        }
    }

    /// Then waits until enough instances of first can run: a pseudo action stands between.
    fn order_enough(
        &mut self,
        id: &str,
        (first, first_task): (RscIx, Task),
        (then, then_task): (RscIx, Task),
        forward: u32,
        minimum: u32,
    ) {
        let gate = self.pseudo_action(&format!("clone-one-or-more:{id}"));
        self.actions[gate].requires_any = true;
        self.actions[gate].required_before = minimum;
        for instance in self.rscs[first].children.clone() {
            self.order(
                End::Op(instance, first_task, 0),
                End::Action(gate),
                flag::MIN_RUNNABLE | flag::FIRST_IMPLIES_THEN & forward,
            );
        }
        self.order(
            End::Action(gate),
            End::Op(then, then_task, 0),
            flag::ORDERED | flag::UNRUNNABLE_BLOCKS,
        );
    }

    /// Adds an ordering.
    pub(crate) fn order(&mut self, first: End, then: End, flags: u32) {
        self.orders.push(Order { first, then, flags, origin: self.origin });
    }
}
