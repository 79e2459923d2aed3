//! Notifications: instances of a clone are told before and after others of it start, stop, are promoted or demoted.
//!
//! Around each operation of the clone stand four pseudo actions: before, before confirmed, after, after confirmed. They are made
//! with the clone's actions and take part in the orderings. Who is told is known only when all is decided; these actions
//! are added at the end and change nothing else.

use crate::action::{Task, flag};
use crate::arena::{ActIx, NodeIx, RscIx};
use crate::cluster::Cluster;
use crate::model::{Kind, Role};

/// The pseudo actions around one operation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Notices {
    /// Of which clone (or instance, after fencing).
    pub rsc: RscIx,
    /// Around what.
    pub task: Task,
    /// Before.
    pub pre: Option<ActIx>,
    /// Before, confirmed.
    pub pre_done: Option<ActIx>,
    /// After.
    pub post: ActIx,
    /// After, confirmed.
    pub post_done: ActIx,
}

impl Cluster<'_> {
    /// Makes the pseudo actions for all operations of a clone.
    pub(super) fn create_clone_notifications(&mut self, clone: RscIx) {
        if !self.rscs[clone].notify {
            return;
        }
        let start = self.notices_around(clone, Task::Start);
        let stop = self.notices_around(clone, Task::Stop);
        if let (Some(start), Some(stop)) = (start, stop) {
            self.after_notices(stop, start);
        }
        if !self.rscs[clone].promotable {
            return;
        }
        let promote = self.notices_around(clone, Task::Promote);
        let demote = self.notices_around(clone, Task::Demote);
        for (first, then) in
            [(start, promote), (stop, promote), (demote, promote), (demote, start), (demote, stop)]
        {
            if let (Some(first), Some(then)) = (first, then) {
                self.after_notices(first, then);
            }
        }
    }

    fn after_notices(&mut self, first: Notices, then: Notices) {
        if let Some(pre) = then.pre {
            self.link(first.post_done, pre, flag::ORDERED);
        }
    }

    fn notices_around(&mut self, clone: RscIx, task: Task) -> Option<Notices> {
        let action = self.find_action(clone, task, None)?;
        let complete = self.find_action(clone, task.completion(), None)?;
        let pre = self.notice(clone, action, "pre", Task::Notify);
        let pre_done = self.notice(clone, action, "confirmed-pre", Task::Notified);
        let post = self.notice(clone, complete, "post", Task::Notify);
        let post_done = self.notice(clone, complete, "confirmed-post", Task::Notified);
        self.describe(pre, "pre", task);
        self.describe(post, "post", task);
        // An operation that becomes required later is announced, too.
        let announce = flag::ORDERED | flag::THEN_IMPLIES_FIRST;
        self.link(pre, pre_done, announce);
        self.link(pre_done, action, announce);
        let report = flag::FIRST_IMPLIES_THEN | flag::UNRUNNABLE_BLOCKS;
        self.link(complete, post, report);
        self.link(post, post_done, report);
        self.link(pre_done, post, flag::ORDERED);
        let notices =
            Notices { rsc: clone, task, pre: Some(pre), pre_done: Some(pre_done), post, post_done };
        self.notices.push(notices);
        Some(notices)
    }

    fn notice(&mut self, rsc: RscIx, around: ActIx, kind: &str, task: Task) -> ActIx {
        let word = self.actions[around].task.word();
        let key = format!("{}_{kind}_notify_{word}_0", self.rscs[rsc].id);
        let mut action = Self::blank(key, task);
        action.rsc = Some(rsc);
        action.pseudo = true;
        action.optional = self.actions[around].optional;
        action.meta.push(("notify_key_type".into(), kind.to_owned()));
        action.meta.push(("notify_key_operation".into(), word.to_owned()));
        let ix = self.actions.push(action);
        self.rsc_actions[rsc.0 as usize].push(ix);
        ix
    }

    fn describe(&mut self, ix: ActIx, kind: &str, task: Task) {
        let meta = &mut self.actions[ix].meta;
        meta.push(("notify_type".into(), kind.to_owned()));
        meta.push(("notify_operation".into(), task.word().to_owned()));
    }

    /// The confirmation that all were told of an operation's end.
    pub(crate) fn told_after(&self, clone: RscIx, task: Task) -> Option<ActIx> {
        self.notices
            .iter()
            .find(|n| n.rsc == clone && n.task == task && n.pre.is_some())
            .map(|n| n.post_done)
    }

    /// A stop that fencing did: the others are told after the fencing.
    pub(super) fn notify_of_fenced_stop(&mut self, rsc: RscIx, fence: ActIx) {
        let post = self.notice(rsc, fence, "post", Task::Notify);
        let post_done = self.notice(rsc, fence, "confirmed-post", Task::Notified);
        self.describe(post, "post", Task::Stop);
        self.link(fence, post, flag::FIRST_IMPLIES_THEN);
        self.link(post, post_done, flag::FIRST_IMPLIES_THEN);
        let notices = Notices { rsc, task: Task::Stop, pre: None, pre_done: None, post, post_done };
        let top = self.top_of(rsc);
        self.tell_all(top, &notices);
    }

    /// Adds the actions that tell the instances.
    pub(crate) fn create_notifications(&mut self) {
        for notices in self.notices.clone() {
            let mut parts = Vec::new();
            self.primitives(notices.rsc, &mut parts);
            let happens = parts.iter().any(|p| {
                self.find_actions(*p, notices.task, 0)
                    .iter()
                    .map(|a| &self.actions[*a])
                    .any(|a| !a.optional && a.runnable && a.node.is_some())
            });
            if notices.task != Task::Stop && !happens {
                continue;
            }
            self.tell_all(notices.rsc, &notices);
        }
    }

    fn tell_all(&mut self, rsc: RscIx, notices: &Notices) {
        if self.rscs[rsc].kind != Kind::Primitive {
            for child in self.rscs[rsc].children.clone() {
                self.tell_all(child, notices);
            }
            return;
        }
        match notices.task {
            Task::Stop | Task::Demote => self.tell_down(rsc, notices),
            _ => self.tell_up(rsc, notices),
        }
    }

    fn tell_down(&mut self, rsc: RscIx, notices: &Notices) {
        if self.rscs[rsc].role <= Role::Stopped {
            return;
        }
        let stop = self.find_action(rsc, Task::Stop, None);
        for node in self.rscs[rsc].running_on.clone() {
            let n = &self.nodes[node];
            let ended =
                stop.is_some_and(|s| self.actions[s].pseudo) && (n.unclean || n.remote_reset);
            if ended || self.host_lost(node) {
                continue;
            }
            self.tell(rsc, node, notices.pre, notices.pre_done, notices);
            if notices.task == Task::Demote || stop.is_none_or(|s| self.actions[s].optional) {
                self.tell_after(rsc, node, notices);
            }
        }
    }

    fn tell_up(&mut self, rsc: RscIx, notices: &Notices) {
        if self.rscs[rsc].next_role <= Role::Stopped {
            return;
        }
        let Some(node) = self.rscs[rsc].assigned.filter(|n| self.stays_up(*n)) else { return };
        let start = self.find_action(rsc, Task::Start, None);
        if notices.task != Task::Start || start.is_none_or(|s| self.actions[s].optional) {
            self.tell(rsc, node, notices.pre, notices.pre_done, notices);
        }
        self.tell_after(rsc, node, notices);
    }

    fn tell_after(&mut self, rsc: RscIx, node: NodeIx, notices: &Notices) {
        self.tell(rsc, node, Some(notices.post), Some(notices.post_done), notices);
        for ix in self.rsc_actions[rsc.0 as usize].clone() {
            let a = &self.actions[ix];
            if a.interval > 0 && a.task != Task::Cancel {
                self.link(notices.post_done, ix, flag::ORDERED);
            }
        }
    }

    /// Whether what hosts a guest is lost.
    fn host_lost(&self, node: NodeIx) -> bool {
        let container = self.nodes[node].connection.and_then(|c| self.rscs[c].container);
        let hosts = container.map(|c| self.rscs[c].running_on.as_slice()).unwrap_or_default();
        hosts.iter().any(|h| self.nodes[*h].unclean || !self.nodes[*h].online)
    }

    /// Whether a guest is not about to lose its container.
    fn stays_up(&self, node: NodeIx) -> bool {
        let container = self.nodes[node].connection.and_then(|c| self.rscs[c].container);
        container.is_none_or(|c| self.rscs[c].assigned.is_some())
    }

    /// One instance is told.
    fn tell(
        &mut self,
        rsc: RscIx,
        node: NodeIx,
        head: Option<ActIx>,
        done: Option<ActIx>,
        notices: &Notices,
    ) {
        let (Some(head), Some(done)) = (head, done) else { return };
        if !self.nodes[node].online || !self.actions[head].runnable {
            return;
        }
        let kind = if Some(head) == notices.pre { "pre" } else { "post" };
        let key = format!("{}_{kind}_notify_{}_0", self.rscs[rsc].id, notices.task.word());
        let found = self.rsc_actions[rsc.0 as usize].iter().copied().find(|a| {
            let x = &self.actions[*a];
            x.task == Task::Notify && x.node == Some(node) && x.key == key
        });
        let ix = if let Some(ix) = found {
            ix
        } else {
            let mut action = Self::blank(key, Task::Notify);
            action.rsc = Some(rsc);
            action.node = Some(node);
            action.optional = true;
            action.runnable = !self.nodes[node].pending;
            let ix = self.actions.push(action);
            self.rsc_actions[rsc.0 as usize].push(ix);
            self.describe(ix, kind, notices.task);
            ix
        };
        if !self.actions[head].optional {
            self.actions[ix].optional = false;
        }
        self.link(head, ix, flag::ORDERED);
        self.link(ix, done, flag::ORDERED);
    }
}
