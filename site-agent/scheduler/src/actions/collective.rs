//! Actions of groups and clones: pseudo actions that frame those of their members, and the order in between.

use crate::action::{End, Task, flag};
use crate::arena::RscIx;
use crate::cluster::Cluster;
use crate::model::Kind;

/// No instance of an ordered clone is ordered with more of those before it.
const MANY: usize = 100;

impl Cluster<'_> {
    pub(super) fn create_group_actions(&mut self, group: RscIx) {
        for child in self.rscs[group].children.clone() {
            self.create_actions(child);
        }
        self.pseudo_op(group, Task::Start, true);
        self.pseudo_op(group, Task::Running, true);
        self.pseudo_op(group, Task::Stop, true);
        self.pseudo_op(group, Task::Stopped, true);
        if self.promotable(group) {
            for task in [Task::Demote, Task::Demoted, Task::Promote, Task::Promoted] {
                self.pseudo_op(group, task, true);
            }
        }
    }

    pub(super) fn create_clone_actions(&mut self, clone: RscIx) {
        for child in self.rscs[clone].children.clone() {
            self.create_actions(child);
        }
        let starting = self.tree_has(clone, Task::Start);
        let stop_any = self.tree_has(clone, Task::Stop);
        self.pseudo_op(clone, Task::Start, !starting);
        let running = self.pseudo_op(clone, Task::Running, !starting);
        self.actions[running].priority = 1_000_000;
        let stop = self.pseudo_op(clone, Task::Stop, !stop_any);
        // What depends on it may move live, unless an instance goes down to come up again.
        self.actions[stop].migratable = !self.any_restarts(clone);
        let stopped = self.pseudo_op(clone, Task::Stopped, !stop_any);
        self.actions[stopped].priority = 1_000_000;
        if self.rscs[clone].promotable {
            let promoting = self.tree_has(clone, Task::Promote);
            let demoting = self.tree_has(clone, Task::Demote);
            self.pseudo_op(clone, Task::Promote, !promoting);
            let promoted = self.pseudo_op(clone, Task::Promoted, !promoting);
            self.actions[promoted].priority = 1_000_000;
            self.pseudo_op(clone, Task::Demote, !demoting);
            let demoted = self.pseudo_op(clone, Task::Demoted, !demoting);
            self.actions[demoted].priority = 1_000_000;
        }
        self.create_clone_notifications(clone);
    }

    /// Whether anything inside has such an action required and runnable.
    pub(crate) fn tree_has(&self, rsc: RscIx, task: Task) -> bool {
        let mut parts = Vec::new();
        self.primitives(rsc, &mut parts);
        parts.iter().any(|p| {
            self.find_actions(*p, task, 0)
                .iter()
                .any(|a| !self.actions[*a].optional && self.actions[*a].runnable)
        })
    }

    fn any_restarts(&self, rsc: RscIx) -> bool {
        let mut parts = Vec::new();
        self.primitives(rsc, &mut parts);
        parts.iter().any(|p| {
            let wanted =
                |task| self.find_actions(*p, task, 0).iter().any(|a| !self.actions[*a].optional);
            wanted(Task::Stop) && wanted(Task::Start)
        })
    }

    /// Internal orderings of everything.
    pub(crate) fn order_internally(&mut self) {
        for rsc in self.rscs.keys() {
            match self.rscs[rsc].kind {
                Kind::Primitive => self.order_primitive(rsc),
                Kind::Group => self.order_group(rsc),
                Kind::Clone => self.order_clone(rsc),
                Kind::Bundle => self.order_bundle(rsc),
            }
        }
    }

    fn order_group(&mut self, group: RscIx) {
        let op = |rsc: RscIx, task: Task| End::Op(rsc, task, 0);
        let frame = flag::FIRST_IMPLIES_THEN | flag::UNRUNNABLE_BLOCKS;
        self.order(op(group, Task::Stopped), op(group, Task::Start), flag::ORDERED);
        self.order(op(group, Task::Stop), op(group, Task::Stopped), frame);
        self.order(op(group, Task::Start), op(group, Task::Running), frame);
        let ordered = self.is_ordered_group(group);
        let promotable = self.promotable(group);
        let mut last: Option<RscIx> = None;
        let mut last_active: Option<RscIx> = None;
        for member in self.rscs[group].children.clone() {
            self.order_group_frame(group, member, promotable);
            if let Some(before) = last.filter(|_| ordered) {
                self.order_members(before, member, last_active, promotable);
            }
            last = Some(member);
            if !self.rscs[member].running_on.is_empty() {
                last_active = Some(member);
            }
        }
    }

    /// Whether members start one after another; so they do unless told otherwise.
    pub(crate) fn is_ordered_group(&self, group: RscIx) -> bool {
        let word = self.rscs[group].meta.get("ordered");
        word.is_none_or(|w| tierce_cib::values::boolean(w) != Some(false))
    }

    /// One member after the one before it, and down the other way.
    fn order_members(
        &mut self,
        before: RscIx,
        member: RscIx,
        last_active: Option<RscIx>,
        promotable: bool,
    ) {
        let op = |rsc: RscIx, task: Task| End::Op(rsc, task, 0);
        let firm = flag::ORDERED | flag::FIRST_IMPLIES_THEN | flag::UNRUNNABLE_BLOCKS;
        self.order(op(before, Task::Start), op(member, Task::Start), firm);
        // What cannot be stopped keeps running what it stands on.
        self.order(
            op(member, Task::Stop),
            op(before, Task::Stop),
            flag::ORDERED | flag::THEN_IMPLIES_FIRST | flag::UNRUNNABLE_BLOCKS,
        );
        let runs = |r: RscIx| !self.rscs[r].running_on.is_empty();
        if !runs(before) && runs(member) {
            // What comes up late comes up after the later ones went down.
            self.order(
                op(member, Task::Stop),
                op(before, Task::Start),
                flag::ORDERED | flag::UNRUNNABLE_BLOCKS,
            );
            if let Some(active) = last_active.filter(|a| *a != before) {
                self.order(op(member, Task::Stop), op(active, Task::Stop), flag::ORDERED);
            }
        }
        if promotable {
            self.order(op(before, Task::Promote), op(member, Task::Promote), firm);
            self.order(op(member, Task::Demote), op(before, Task::Demote), flag::ORDERED);
        }
    }

    fn order_group_frame(&mut self, group: RscIx, member: RscIx, promotable: bool) {
        let op = |rsc: RscIx, task: Task| End::Op(rsc, task, 0);
        let open = flag::ORDERED | flag::SHOWS_FIRST | flag::THEN_IMPLIES_FIRST;
        let close_up = flag::FIRST_IMPLIES_THEN | flag::UNRUNNABLE_BLOCKS | flag::SHOWS_THEN;
        let close_down = flag::FIRST_IMPLIES_THEN | flag::SHOWS_THEN;
        self.order(op(group, Task::Start), op(member, Task::Start), open);
        self.order(op(member, Task::Start), op(group, Task::Running), close_up);
        self.order(op(group, Task::Stop), op(member, Task::Stop), open);
        self.order(op(member, Task::Stop), op(group, Task::Stopped), close_down);
        if promotable {
            self.order(op(group, Task::Demote), op(member, Task::Demote), open);
            self.order(op(member, Task::Demote), op(group, Task::Demoted), close_down);
            self.order(op(group, Task::Promote), op(member, Task::Promote), open);
            self.order(op(member, Task::Promote), op(group, Task::Promoted), close_up);
        }
    }

    fn order_clone(&mut self, clone: RscIx) {
        let op = |rsc: RscIx, task: Task| End::Op(rsc, task, 0);
        let ordered = self.rscs[clone].ordered;
        self.order(op(clone, Task::Stopped), op(clone, Task::Start), flag::ORDERED);
        self.order(op(clone, Task::Start), op(clone, Task::Running), flag::UNRUNNABLE_BLOCKS);
        self.order(op(clone, Task::Stop), op(clone, Task::Stopped), flag::UNRUNNABLE_BLOCKS);
        if self.rscs[clone].promotable {
            self.order(op(clone, Task::Demoted), op(clone, Task::Promote), flag::ORDERED);
            self.order(op(clone, Task::Demoted), op(clone, Task::Start), flag::ORDERED);
            self.order(op(clone, Task::Demoted), op(clone, Task::Stop), flag::ORDERED);
            self.order(op(clone, Task::Running), op(clone, Task::Promote), flag::ORDERED);
            self.order(op(clone, Task::Stopped), op(clone, Task::Promote), flag::ORDERED);
            self.order(op(clone, Task::Demote), op(clone, Task::Demoted), flag::UNRUNNABLE_BLOCKS);
            self.order(
                op(clone, Task::Promote),
                op(clone, Task::Promoted),
                flag::UNRUNNABLE_BLOCKS,
            );
        }
        let instances = self.rscs[clone].children.clone();
        for (n, instance) in instances.iter().copied().enumerate() {
            self.order(
                op(clone, Task::Start),
                op(instance, Task::Start),
                flag::UNRUNNABLE_BLOCKS | flag::SHOWS_FIRST,
            );
            self.order(op(instance, Task::Start), op(clone, Task::Running), flag::SHOWS_THEN);
            self.order(op(clone, Task::Stop), op(instance, Task::Stop), flag::SHOWS_FIRST);
            self.order(op(instance, Task::Stop), op(clone, Task::Stopped), flag::SHOWS_THEN);
            if self.rscs[clone].promotable {
                self.order(
                    op(clone, Task::Promote),
                    op(instance, Task::Promote),
                    flag::UNRUNNABLE_BLOCKS | flag::SHOWS_FIRST,
                );
                self.order(
                    op(instance, Task::Promote),
                    op(clone, Task::Promoted),
                    flag::SHOWS_THEN,
                );
                self.order(op(clone, Task::Demote), op(instance, Task::Demote), flag::SHOWS_FIRST);
                self.order(op(instance, Task::Demote), op(clone, Task::Demoted), flag::SHOWS_THEN);
            }
            if ordered {
                self.order_instances(instance, &instances[..n]);
            }
        }
    }

    /// One instance after those before it, and down the other way. One that stays as it is does not part those before it
    /// from those after it; one that has something to do does.
    fn order_instances(&mut self, instance: RscIx, earlier: &[RscIx]) {
        let op = |rsc: RscIx, task: Task| End::Op(rsc, task, 0);
        let Some(last) = earlier.last().copied() else { return };
        for before in self.up_to_busy(earlier, Task::Start) {
            self.order(op(before, Task::Start), op(instance, Task::Start), flag::ORDERED);
        }
        for before in self.up_to_busy(earlier, Task::Stop) {
            self.order(op(instance, Task::Stop), op(before, Task::Stop), flag::ORDERED);
        }
        if self.promotable(instance) {
            self.order(op(last, Task::Promote), op(instance, Task::Promote), flag::ORDERED);
            self.order(op(instance, Task::Demote), op(last, Task::Demote), flag::ORDERED);
        }
    }

    /// The last of some instances, back to the first that has such a thing to do.
    fn up_to_busy(&self, earlier: &[RscIx], task: Task) -> Vec<RscIx> {
        let mut found = Vec::new();
        for before in earlier.iter().rev().copied().take(MANY) {
            found.push(before);
            if self.tree_asks(before, task) {
                break;
            }
        }
        found
    }

    /// Whether anything inside is to do such a thing, possible or not.
    fn tree_asks(&self, rsc: RscIx, task: Task) -> bool {
        let mut parts = Vec::new();
        self.primitives(rsc, &mut parts);
        let asked =
            |p: &RscIx| self.find_actions(*p, task, 0).iter().any(|a| !self.actions[*a].optional);
        parts.iter().any(asked)
    }
}
