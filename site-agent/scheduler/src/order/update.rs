//! Following the edges: the fix-point.

use std::collections::VecDeque;

use super::collective::Seen;
use crate::Error;
use crate::action::{Because, Bond, Edge, Task, flag};
use crate::arena::{ActIx, Key, NodeIx, RscIx};
use crate::cluster::Cluster;
use crate::model::{Kind, Role};

/// Which of the two ends changed.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Changed {
    pub first: bool,
    pub then: bool,
}

impl Changed {
    pub(super) fn add(&mut self, other: Self) {
        self.first |= other.first;
        self.then |= other.then;
    }
}

/// Which flags an update may touch.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Filter {
    Optional,
    Runnable,
    Both,
}

impl Filter {
    pub(super) fn optional(self) -> bool {
        self != Self::Runnable
    }
    pub(super) fn runnable(self) -> bool {
        self != Self::Optional
    }
}

/// How often an action may be looked at, on average, before this is taken for a mistake.
const LOOKS_PER_ACTION: usize = 800;

/// Actions that are to be looked at again.
pub(super) struct Work {
    queue: VecDeque<ActIx>,
    queued: Vec<bool>,
}

impl Work {
    pub(super) fn push(&mut self, ix: ActIx) {
        if self.queued.len() <= ix.position() {
            self.queued.resize(ix.position() + 1, false);
        }
        if !self.queued[ix.position()] {
            self.queued[ix.position()] = true;
            self.queue.push_back(ix);
        }
    }

    fn pop(&mut self) -> Option<ActIx> {
        let ix = self.queue.pop_front()?;
        self.queued[ix.position()] = false;
        Some(ix)
    }
}

impl Cluster<'_> {
    /// Follows all edges until nothing changes. What does not come to rest would be a mistake in here, and no plan.
    pub(super) fn follow_orders(&mut self) -> Result<(), Error> {
        let mut work = Work { queue: VecDeque::new(), queued: vec![false; self.actions.len()] };
        for ix in self.actions.keys() {
            work.push(ix);
        }
        for ix in self.actions.keys() {
            // Some could never run, and nothing changes that.
            if !self.actions[ix].optional {
                self.block_dependents(ix, &mut work);
            }
        }
        self.block_with_held(&mut work);
        // Flags change at most a few times each.
        let mut budget = LOOKS_PER_ACTION * (self.actions.len() + 10);
        while let Some(then) = work.pop() {
            self.update_then(then, &mut work);
            budget -= 1;
            if budget == 0 {
                return Err(Error::Unsettled { action: self.actions[then].key.to_string() });
            }
        }
        Ok(())
    }

    fn update_then(&mut self, then: ActIx, work: &mut Work) {
        let before = (self.actions[then].optional, self.actions[then].runnable);
        let any = self.actions[then].requires_any;
        let mut changed_then = false;
        let edges: Vec<Edge> = self.actions[then].before.clone();
        if any {
            let enough = self.enough_before(then, &edges);
            if self.actions[then].runnable != enough {
                self.actions[then].runnable = enough;
            }
        }
        for (i, edge) in edges.into_iter().enumerate() {
            let first = edge.other;
            self.origin = edge.origin;
            // The start of a group has no node of its own: what must be away first is waited for on all nodes.
            let apart = self.actions[first].node.zip(self.actions[then].node);
            if edge.flags & flag::SAME_NODE != 0 && apart.is_some_and(|(a, b)| a != b) {
                self.actions[then].before[i].flags = 0;
                continue;
            }
            if edge.flags & flag::THEN_CANCELS_FIRST != 0 && !self.actions[then].optional {
                self.actions[first].optional = true;
            }
            let old_first = (self.actions[first].optional, self.actions[first].runnable);
            let seen = self.seen_by(first, self.place_of(then));
            let mut changed = self.update_pair(first, then, seen, edge.flags, work);
            if (self.actions[first].optional, self.actions[first].runnable) != old_first {
                changed.first = true;
            }
            if changed.first {
                for after in self.actions[first].after.clone() {
                    work.push(after);
                }
                work.push(first);
            }
            changed_then |= changed.then;
        }
        self.origin = None;
        let now = (self.actions[then].optional, self.actions[then].runnable);
        if changed_then || now != before {
            if before.1 && !now.1 {
                self.block_dependents(then, work);
            }
            self.push_after(then, work);
            work.push(then);
        }
    }

    pub(super) fn push_after(&self, ix: ActIx, work: &mut Work) {
        for after in &self.actions[ix].after {
            work.push(*after);
        }
        // What it is inside of sums it up.
        let mut at = self.actions[ix].rsc.and_then(|r| self.rscs[r].parent);
        let task = self.actions[ix].task;
        while let Some(parent) = at {
            for t in [task.beginning(), task.beginning().completion()] {
                if let Some(above) = self.find_action(parent, t, None) {
                    work.push(above);
                    for after in &self.actions[above].after {
                        work.push(*after);
                    }
                }
            }
            at = self.rscs[parent].parent;
        }
    }

    fn enough_before(&mut self, then: ActIx, edges: &[Edge]) -> bool {
        let mut count = 0;
        for edge in edges {
            if edge.flags & flag::MIN_RUNNABLE != 0 {
                let seen = self.seen(edge.other, None);
                count += u32::from(seen.runnable);
            }
        }
        count >= self.actions[then].required_before.max(1)
    }

    /// Where an action happens; a group's start where the group goes.
    fn place_of(&self, ix: ActIx) -> Option<NodeIx> {
        let a = &self.actions[ix];
        let group = a.rsc.filter(|r| self.rscs[*r].kind == Kind::Group);
        let begins = matches!(a.task, Task::Start | Task::Running);
        a.node.or_else(|| group.filter(|_| begins).and_then(|g| self.rscs[g].assigned))
    }

    /// One edge, flag by flag.
    fn update_pair(
        &mut self,
        first: ActIx,
        then: ActIx,
        seen: Seen,
        flags: u32,
        work: &mut Work,
    ) -> Changed {
        let mut changed = Changed::default();
        let mut node = self.actions[then].node;
        let mut flags = flags;
        if flags & flag::FIRST_IMPLIES_SAME_NODE_THEN != 0 {
            flags |= flag::FIRST_IMPLIES_THEN;
            if self.actions[first].node.is_some() {
                node = self.actions[first].node;
            }
        }
        for (bit, filter) in [
            (flag::FIRST_IMPLIES_THEN, Filter::Optional),
            (flag::RESTART, Filter::Both),
            (flag::THEN_IMPLIES_FIRST, Filter::Optional),
            (flag::PROMOTED_IMPLIES_FIRST, Filter::Optional),
            (flag::UNRUNNABLE_BLOCKS, Filter::Runnable),
            (flag::NESTED_PROBE, Filter::Runnable),
            (flag::UNMIGRATABLE_BLOCKS, Filter::Both),
            (flag::PSEUDO_LEFT, Filter::Both),
            (flag::ASYMMETRIC, Filter::Runnable),
        ] {
            if flags & bit == 0 {
                continue;
            }
            if bit == flag::NESTED_PROBE {
                let running =
                    self.actions[first].rsc.is_some_and(|r| !self.rscs[r].running_on.is_empty());
                if running {
                    continue;
                }
            }
            if bit == flag::THEN_IMPLIES_FIRST && self.is_clone_action(then) {
                // Of a clone only what it does on the node of the first counts.
                let place = self.actions[first].node;
                if place.is_some() && self.seen_by(then, place).optional {
                    continue;
                }
            }
            if bit == flag::THEN_IMPLIES_FIRST && self.is_down_already(first) {
                continue;
            }
            if bit == flag::THEN_IMPLIES_FIRST
                && self.is_primitive_action(first)
                && self.actions[then].rsc.is_some()
            {
                changed.add(self.update_primitive(first, then, seen, filter, bit, work));
                continue;
            }
            let owner = if bit == flag::THEN_IMPLIES_FIRST { first } else { then };
            if self.actions[owner].rsc.is_none() {
                changed.add(self.update_plain(first, then, seen, bit));
            } else {
                let bit = if bit == flag::NESTED_PROBE { flag::UNRUNNABLE_BLOCKS } else { bit };
                changed.add(self.update_ordered(first, then, node, seen, filter, bit, work));
            }
        }
        if flags & flag::ORDERED != 0 && self.interleaves(first, then) {
            changed.add(self.update_ordered(
                first,
                then,
                node,
                seen,
                Filter::Runnable,
                flag::ORDERED,
                work,
            ));
        }
        changed.add(self.hold_after_stop(first, then, flags));
        if flags & flag::SHOWS_THEN != 0 && !seen.optional {
            self.actions[then].shown = true;
        }
        if flags & flag::SHOWS_FIRST != 0 && !self.actions[then].optional {
            self.actions[first].shown = true;
        }
        changed
    }

    /// What must be down first and can not go down holds what would go down, or come up, after it.
    fn hold_after_stop(&mut self, first: ActIx, then: ActIx, flags: u32) -> Changed {
        let firm = flags & (flag::FIRST_IMPLIES_THEN | flag::THEN_IMPLIES_FIRST) != 0;
        let (f, t) = (&self.actions[first], &self.actions[then]);
        let apart =
            f.rsc.zip(t.rsc).is_some_and(|(a, b)| !self.is_within(b, a) && !self.is_within(a, b));
        let waits =
            t.task == Task::Stop || t.task == Task::Start && flags & flag::FIRST_IMPLIES_THEN != 0;
        let both = f.task == Task::Stop && waits && apart;
        let mut changed = Changed::default();
        // What fencing ends is held by nothing, and what nobody manages holds nothing.
        let unmanaged = f.rsc.is_some_and(|r| !self.rscs[r].managed && !self.rscs[r].blocked);
        let held = t.runnable && !t.by_fencing && !unmanaged;
        if firm && both && !f.optional && !f.runnable && !t.optional && held {
            let reason = format!("unrunnable {}", self.name_for_reason(first));
            let because = self.because(first);
            let t = &mut self.actions[then];
            t.runnable = false;
            if t.reason.is_none() {
                t.reason = Some(reason);
                t.because = Some(because);
            }
            changed.then = true;
        }
        changed
    }

    fn is_clone_action(&self, ix: ActIx) -> bool {
        self.actions[ix].rsc.is_some_and(|r| self.rscs[r].kind == Kind::Clone)
    }

    /// Whether it is the end of a group's stop, and nothing of the group has to stop.
    fn is_down_already(&self, ix: ActIx) -> bool {
        let a = &self.actions[ix];
        let Some(group) = a.rsc.filter(|r| self.rscs[*r].kind == Kind::Group) else { return false };
        a.task == Task::Stopped
            && !self.rscs[group].children.iter().any(|m| self.any_required(*m, Task::Stop))
    }

    fn any_required(&self, rsc: RscIx, task: Task) -> bool {
        self.find_actions(rsc, task, 0).iter().any(|a| !self.actions[*a].optional)
    }

    fn is_primitive_action(&self, ix: ActIx) -> bool {
        self.actions[ix].rsc.is_some_and(|r| self.rscs[r].kind == Kind::Primitive)
    }

    fn update_plain(&mut self, first: ActIx, then: ActIx, seen: Seen, bit: u32) -> Changed {
        let mut changed = Changed::default();
        match bit {
            flag::FIRST_IMPLIES_THEN if !seen.optional && self.actions[then].optional => {
                self.actions[then].optional = false;
                changed.then = true;
            }
            flag::UNRUNNABLE_BLOCKS if !seen.runnable && self.actions[then].runnable => {
                self.actions[then].runnable = false;
                changed.then = true;
            }
            flag::THEN_IMPLIES_FIRST
                if !self.actions[then].optional && self.actions[first].optional =>
            {
                self.actions[first].optional = false;
                changed.first = true;
            }
            _ => {}
        }
        changed
    }

    /// One flag of an edge, for whatever `then` is an action of.
    #[expect(clippy::too_many_arguments, reason = "an edge has this many parts")]
    pub(super) fn update_ordered(
        &mut self,
        first: ActIx,
        then: ActIx,
        node: Option<NodeIx>,
        seen: Seen,
        filter: Filter,
        bit: u32,
        work: &mut Work,
    ) -> Changed {
        let Some(rsc) = self.actions[then].rsc else {
            return self.update_plain(first, then, seen, bit);
        };
        match self.rscs[rsc].kind {
            Kind::Primitive => self.update_primitive(first, then, seen, filter, bit, work),
            Kind::Group => {
                let mut changed = self.update_primitive(first, then, seen, filter, bit, work);
                let task = self.actions[then].task;
                for member in self.rscs[rsc].children.clone() {
                    if let Some(action) = self.find_action(member, task, node) {
                        let c = self.update_ordered(first, action, node, seen, filter, bit, work);
                        self.queue_changes(first, action, c, work);
                        changed.add(c);
                    }
                }
                changed
            }
            Kind::Clone | Kind::Bundle => {
                if self.interleaves(first, then) {
                    return self.update_interleaved(first, then, node, filter, bit, work);
                }
                let mut changed = self.update_primitive(first, then, seen, filter, bit, work);
                let task = self.actions[then].task;
                for instance in self.actors(rsc, task) {
                    let at = if self.rscs[instance].kind == Kind::Primitive { node } else { None };
                    let Some(action) = self.find_action(instance, task, at) else { continue };
                    if !self.seen(action, node).runnable {
                        continue;
                    }
                    let c = self.update_ordered(first, action, node, seen, filter, bit, work);
                    self.queue_changes(first, action, c, work);
                    changed.add(c);
                }
                changed
            }
        }
    }

    pub(super) fn queue_changes(
        &self,
        first: ActIx,
        then: ActIx,
        changed: Changed,
        work: &mut Work,
    ) {
        if changed.then {
            work.push(then);
            self.push_after(then, work);
        }
        if changed.first {
            work.push(first);
            self.push_after(first, work);
        }
    }

    fn update_primitive(
        &mut self,
        first: ActIx,
        then: ActIx,
        seen: Seen,
        filter: Filter,
        bit: u32,
        work: &mut Work,
    ) -> Changed {
        let old_first = self.flags_of(first);
        let old_then = self.flags_of(then);
        match bit {
            flag::ASYMMETRIC => self.update_asymmetric(first, then),
            flag::THEN_IMPLIES_FIRST => {
                let moves_live = self.actions[then].migration && self.actions[then].migratable;
                if !self.actions[then].optional && !moves_live {
                    self.actions[first].optional = false;
                    if self.actions[first].migratable && !self.actions[then].migratable {
                        self.actions[first].migratable = false;
                    }
                }
            }
            flag::PROMOTED_IMPLIES_FIRST => {
                let promoted =
                    self.actions[then].rsc.is_some_and(|r| self.rscs[r].role == Role::Promoted);
                if promoted && !self.actions[then].optional {
                    self.actions[first].optional = false;
                }
            }
            flag::UNMIGRATABLE_BLOCKS => {
                let t = &self.actions[then];
                if !(t.migratable && t.runnable) {
                    self.actions[first].runnable = false;
                }
            }
            flag::PSEUDO_LEFT if !self.actions[first].runnable => {
                self.actions[then].migratable = false;
                self.actions[then].pseudo = false;
            }
            flag::UNRUNNABLE_BLOCKS
                if filter.runnable() && self.actions[then].runnable && !seen.runnable =>
            {
                self.actions[then].runnable = false;
                self.actions[then].migratable = false;
            }
            flag::FIRST_IMPLIES_THEN
                if filter.optional() && !seen.optional && !self.actions[first].migratable =>
            {
                self.actions[then].optional = false;
            }
            flag::RESTART => self.update_restart(first, then),
            _ => {}
        }
        let changed = Changed {
            first: old_first != self.flags_of(first),
            then: old_then != self.flags_of(then),
        };
        if changed.then {
            self.explain(first, then, bit);
            self.push_after(then, work);
        }
        if changed.first {
            self.explain_first(first, then, bit);
            self.push_after(first, work);
        }
        changed
    }

    fn flags_of(&self, ix: ActIx) -> (bool, bool, bool) {
        let a = &self.actions[ix];
        (a.optional, a.runnable, a.migratable)
    }

    fn update_asymmetric(&mut self, first: ActIx, then: ActIx) {
        if self.actions[first].runnable {
            return;
        }
        let Some(rsc) = self.actions[then].rsc else { return };
        if self.actions[then].optional {
            let role = self.role_of(rsc, true);
            let task = self.actions[then].task;
            if role == Role::Stopped && task == Task::Stop {
                return;
            }
            if role >= Role::Started && task == Task::Start {
                let here = self.actions[then].node;
                let running = &self.rscs[rsc].running_on;
                if self.rscs[rsc].kind != Kind::Primitive
                    || running.len() == 1 && running.first().copied() == here
                {
                    return;
                }
            }
        }
        self.actions[then].optional = false;
        self.actions[then].runnable = false;
    }

    /// A stop and the start after it: what asks for one asks for the other.
    fn update_restart(&mut self, stop: ActIx, start: ActIx) {
        let s = &self.actions[start];
        let same = s.rsc.is_some() && s.rsc == self.actions[stop].rsc;
        let managed = s.rsc.is_some_and(|r| self.rscs[r].managed);
        let needed = !s.optional;
        let impossible = !s.runnable && managed && same;
        if !needed && !impossible {
            return;
        }
        if self.actions[stop].runnable {
            self.actions[stop].optional = false;
        }
        if needed {
            self.actions[stop].optional = false;
        }
        if !self.actions[start].migratable {
            self.actions[stop].migratable = false;
        }
        if !self.actions[stop].optional && !self.actions[stop].runnable {
            self.actions[start].runnable = false;
        }
    }

    fn explain(&mut self, first: ActIx, then: ActIx, bit: u32) {
        let text = match bit {
            flag::UNRUNNABLE_BLOCKS => format!("unrunnable {}", self.name_for_reason(first)),
            flag::FIRST_IMPLIES_THEN => format!("required {}", self.name_for_reason(first)),
            _ => return,
        };
        let same = self.actions[first].rsc == self.actions[then].rsc;
        if !same && self.actions[then].reason.is_none() {
            self.actions[then].reason = Some(text);
            self.actions[then].because = Some(self.because(first));
        }
    }

    fn explain_first(&mut self, first: ActIx, then: ActIx, bit: u32) {
        if bit == flag::THEN_IMPLIES_FIRST && self.actions[first].reason.is_none() {
            let text = format!("required {}", self.name_for_reason(then));
            if self.actions[first].rsc != self.actions[then].rsc {
                self.actions[first].reason = Some(text);
                self.actions[first].because = Some(self.because(then));
            }
        }
    }

    fn because(&self, by: ActIx) -> Because {
        Because { by, constraint: self.origin.map(Bond::Order) }
    }

    pub(super) fn name_for_reason(&self, ix: ActIx) -> String {
        let a = &self.actions[ix];
        match a.rsc {
            Some(rsc) => format!("{} {}", self.rscs[rsc].id, a.task.word()),
            None => a.key.to_string(),
        }
    }
}
