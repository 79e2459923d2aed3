//! Flags of collectives: what the members' actions add up to.

use crate::action::Task;
use crate::arena::{ActIx, NodeIx, RscIx};
use crate::cluster::Cluster;
use crate::model::Kind;

/// What an ordering sees of an action.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Seen {
    pub optional: bool,
    pub runnable: bool,
    pub migratable: bool,
}

impl Cluster<'_> {
    /// The flags of an action; for a collective those of all members, on one node if one is given.
    pub(super) fn seen(&mut self, ix: ActIx, node: Option<NodeIx>) -> Seen {
        let a = &self.actions[ix];
        let own = Seen { optional: a.optional, runnable: a.runnable, migratable: a.migratable };
        let Some(rsc) = a.rsc else { return own };
        if matches!(a.task, Task::Notify | Task::Notified) && self.rscs[rsc].kind == Kind::Clone {
            let around = self.notices.iter().find(|n| {
                n.post_done == ix || n.post == ix || n.pre == Some(ix) || n.pre_done == Some(ix)
            });
            let Some(task) = around.map(|n| n.task) else { return own };
            let seen = self.seen_instances(ix, rsc, task, node);
            return Seen { runnable: seen.runnable && own.runnable, ..seen };
        }
        if !matches!(a.task.beginning(), Task::Start | Task::Stop | Task::Promote | Task::Demote) {
            return own;
        }
        match self.rscs[rsc].kind {
            Kind::Primitive => own,
            Kind::Group => self.seen_group(ix, rsc, node),
            Kind::Clone | Kind::Bundle => {
                let task = self.actions[ix].task;
                self.seen_instances(ix, rsc, task, node)
            }
        }
    }

    fn seen_group(&mut self, ix: ActIx, group: RscIx, node: Option<NodeIx>) -> Seen {
        let task = self.actions[ix].task.beginning();
        // A group has begun with its first member; it is done only with all of them.
        let begins = self.actions[ix].task == Task::Start;
        let mut any = false;
        let mut sum = Seen { optional: true, runnable: true, migratable: false };
        for member in self.rscs[group].children.clone() {
            if let Some(action) = self.find_action(member, task, node) {
                let seen = self.seen(action, node);
                if !seen.optional {
                    sum.optional = false;
                    self.actions[ix].optional = false;
                }
                any |= seen.runnable;
                if !seen.runnable && !begins && self.actions[ix].task != Task::Stop {
                    sum.runnable = false;
                    self.actions[ix].runnable = false;
                }
            } else if !begins && task != Task::Stop && task != Task::Demote {
                sum.runnable = false;
            }
        }
        if begins && !any {
            sum.runnable = false;
            if node.is_none() {
                self.actions[ix].runnable = false;
            }
        }
        sum
    }

    /// Those in a collective that do a task: of a bundle its containers, and what runs inside where they can not.
    pub(super) fn actors(&self, rsc: RscIx, task: Task) -> Vec<RscIx> {
        let inside = !matches!(task.beginning(), Task::Start | Task::Stop);
        match self.rscs[rsc].inner.filter(|_| inside) {
            Some(clone) => self.rscs[clone].children.clone(),
            None => self.instances(rsc),
        }
    }

    fn seen_instances(&mut self, ix: ActIx, clone: RscIx, own: Task, node: Option<NodeIx>) -> Seen {
        let mut sum = Seen { optional: true, runnable: true, migratable: false };
        let mut any = false;
        for instance in self.actors(clone, own) {
            let plain = self.rscs[instance].kind == Kind::Primitive;
            let (at, task) = if plain { (node, own.beginning()) } else { (None, own) };
            let Some(action) = self.find_action(instance, task, at) else { continue };
            let seen = self.seen(action, node);
            if !seen.optional {
                sum.optional = false;
                self.actions[ix].optional = false;
            }
            any |= seen.runnable;
        }
        if !any {
            sum.runnable = false;
            if node.is_none() {
                self.actions[ix].runnable = false;
            }
        }
        sum
    }

    /// What a `then` on a node sees of a first: of a clone, what happens on that node.
    pub(super) fn seen_by(&mut self, ix: ActIx, node: Option<NodeIx>) -> Seen {
        let all = self.seen(ix, None);
        let clone = self.actions[ix].rsc.is_some_and(|r| self.rscs[r].kind == Kind::Clone);
        if node.is_none() || !clone {
            return all;
        }
        let mut here = self.seen(ix, node);
        if all.runnable {
            here.runnable = true;
        }
        here
    }
}
