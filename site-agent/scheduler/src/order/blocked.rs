//! What can not begin for want of what it must be with.

use tierce_cib::values::INFINITY;

use super::update::Work;
use crate::action::{Because, Bond, Task};
use crate::arena::{ActIx, NodeIx, RscIx};
use crate::cluster::Cluster;
use crate::model::{Kind, Role};

impl Cluster<'_> {
    /// What is held where it is within a collective keeps that from being whole: what must be with the collective does
    /// not begin beside it.
    pub(super) fn block_with_held(&mut self, work: &mut Work) {
        for rsc in self.rscs.keys() {
            let held = self.rscs[rsc].kind == Kind::Primitive && self.rscs[rsc].blocked;
            let Some(node) = self.rscs[rsc].running_on.first().copied().filter(|_| held) else {
                continue;
            };
            let mut above = self.rscs[rsc].parent;
            while let Some(collective) = above {
                for col in self.rscs[collective].with_this.clone() {
                    let c = &self.colocations[col];
                    if c.score >= INFINITY && c.primary_role.is_none() {
                        let dependent = c.dependent;
                        let by = self.op(rsc, Task::Start, 0, Some(node), true);
                        let why = Because { by, constraint: Some(Bond::Colocation(col)) };
                        self.block_tree(dependent, Task::Start, Some(node), why, work);
                    }
                }
                above = self.rscs[collective].parent;
            }
        }
    }

    /// A start that became impossible: those that must be with its resource can not start either.
    pub(super) fn block_dependents(&mut self, ix: ActIx, work: &mut Work) {
        let a = &self.actions[ix];
        let Some(rsc) = a.rsc else { return };
        let promote = match a.task {
            Task::Start => false,
            Task::Promote => true,
            _ => return,
        };
        if a.runnable {
            return;
        }
        let mut top = rsc;
        // A member of a group stands for the group only if it is not an instance.
        if let Some(parent) = self.rscs[rsc].parent
            && self.rscs[parent].kind == Kind::Group
        {
            top = parent;
        }
        for source in [Some(rsc), Some(top).filter(|t| *t != rsc)].into_iter().flatten() {
            for col in self.rscs[source].with_this.clone() {
                let c = &self.colocations[col];
                if c.score < INFINITY {
                    continue;
                }
                if promote != (c.primary_role == Some(Role::Promoted)) {
                    continue;
                }
                let wanted = if c.dependent_role == Some(Role::Promoted) {
                    Task::Promote
                } else {
                    Task::Start
                };
                let dependent = c.dependent;
                let because = Because { by: ix, constraint: Some(Bond::Colocation(col)) };
                self.block_tree(dependent, wanted, None, because, work);
            }
        }
    }

    /// Keeps all that is in a resource from beginning, on one node or anywhere.
    fn block_tree(
        &mut self,
        rsc: RscIx,
        task: Task,
        node: Option<NodeIx>,
        why: Because,
        work: &mut Work,
    ) {
        if self.rscs[rsc].kind != Kind::Primitive {
            for child in self.rscs[rsc].children.clone() {
                self.block_tree(child, task, node, why, work);
            }
            return;
        }
        for action in self.find_actions(rsc, task, 0) {
            let here = node.is_none() || self.actions[action].node == node;
            if self.actions[action].runnable && here {
                let reason = self.name_for_reason(why.by);
                let a = &mut self.actions[action];
                a.runnable = false;
                if a.reason.is_none() {
                    a.reason = Some(format!("colocation with {reason}"));
                    a.because = Some(why);
                }
                work.push(action);
                self.push_after(action, work);
                self.block_dependents(action, work);
            }
        }
    }
}
