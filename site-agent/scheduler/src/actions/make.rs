//! Making actions.

use std::borrow::Cow;

use crate::action::{Action, Task};
use crate::arena::{ActIx, NodeIx, RscIx};
use crate::cluster::Cluster;
use crate::model::{Kind, NodeKind, Requires};
use crate::options::NoQuorum;
use crate::unpack::operation::OpOptions;

/// The key of an operation.
pub(crate) fn op_key(id: &str, task: Task, interval: u64) -> String {
    format!("{id}_{}_{interval}", task.word())
}

/// Whether a task makes something active.
fn begins(task: Task) -> bool {
    matches!(task, Task::Start | Task::Promote | Task::MigrateTo)
}

impl<'a> Cluster<'a> {
    /// An action with no flags against it.
    pub(crate) fn blank(key: impl Into<Cow<'a, str>>, task: Task) -> Action<'a> {
        Action {
            rsc: None,
            node: None,
            task,
            interval: 0,
            key: key.into(),
            optional: false,
            runnable: true,
            pseudo: false,
            migratable: false,
            shown: false,
            requires_any: false,
            required_before: 0,
            target_rc: None,
            meta: Vec::new(),
            priority: 0,
            reason: None,
            because: None,
            reschedule: false,
            by_fencing: false,
            migration: false,
            phantom: false,
            before: Vec::new(),
            after: Vec::new(),
        }
    }

    /// A pseudo action of the whole cluster, made once.
    pub(crate) fn pseudo_action(&mut self, name: &str) -> ActIx {
        if let Some(ix) = self.pseudo_actions.get(name) {
            return *ix;
        }
        let mut action = Self::blank(name.to_owned(), Task::Pseudo);
        action.pseudo = true;
        let ix = self.actions.push(action);
        self.pseudo_actions.insert(name.to_owned(), ix);
        ix
    }

    /// The actions of a resource with a task and an interval.
    pub(crate) fn find_actions(&self, rsc: RscIx, task: Task, interval: u64) -> Vec<ActIx> {
        self.rsc_actions[rsc.0 as usize]
            .iter()
            .copied()
            .filter(|a| {
                let action = &self.actions[*a];
                action.task == task && action.interval == interval
            })
            .collect()
    }

    /// The first action of a resource with a task, on a node if one is given.
    pub(crate) fn find_action(
        &self,
        rsc: RscIx,
        task: Task,
        node: Option<NodeIx>,
    ) -> Option<ActIx> {
        self.rsc_actions[rsc.0 as usize].iter().copied().find(|a| {
            let action = &self.actions[*a];
            action.task == task && action.interval == 0 && (node.is_none() || action.node == node)
        })
    }

    /// An operation of a resource on a node. One that exists becomes required if it is wanted so.
    pub(crate) fn op(
        &mut self,
        rsc: RscIx,
        task: Task,
        interval: u64,
        node: Option<NodeIx>,
        optional: bool,
    ) -> ActIx {
        let found = self.rsc_actions[rsc.0 as usize].iter().copied().find(|a| {
            let action = &self.actions[*a];
            action.task == task && action.interval == interval && action.node == node
        });
        let ix = match found {
            Some(ix) => ix,
            None => self.new_op(rsc, task, interval, node),
        };
        if !optional {
            self.actions[ix].optional = false;
        }
        ix
    }

    fn new_op(&mut self, rsc: RscIx, task: Task, interval: u64, node: Option<NodeIx>) -> ActIx {
        let mut action = Self::blank(op_key(&self.rscs[rsc].id, task, interval), task);
        action.rsc = Some(rsc);
        action.node = node;
        action.interval = interval;
        action.optional = true;
        action.priority = 0;
        self.judge_runnable(&mut action, rsc);
        let ix = self.actions.push(action);
        self.rsc_actions[rsc.0 as usize].push(ix);
        ix
    }

    /// A pseudo operation of a collective.
    pub(crate) fn pseudo_op(&mut self, rsc: RscIx, task: Task, optional: bool) -> ActIx {
        if let Some(ix) = self.find_action(rsc, task, None) {
            if !optional {
                self.actions[ix].optional = false;
            }
            return ix;
        }
        let mut action = Self::blank(op_key(&self.rscs[rsc].id, task, 0), task);
        action.rsc = Some(rsc);
        action.pseudo = true;
        action.optional = optional;
        let ix = self.actions.push(action);
        self.rsc_actions[rsc.0 as usize].push(ix);
        ix
    }

    /// Decides whether an operation can run where it is to run.
    fn judge_runnable(&mut self, action: &mut Action<'a>, rsc: RscIx) {
        let Some(node) = action.node else {
            action.runnable = false;
            return;
        };
        let n = &self.nodes[node];
        let on_controller =
            matches!(action.task, Task::Delete | Task::ClearFailcount | Task::Cancel)
                && n.kind == NodeKind::Member
                && action.task == Task::ClearFailcount;
        let guest_ok = n.kind == NodeKind::Guest && !n.remote_reset;
        if !on_controller && !n.online && !guest_ok {
            action.runnable = false;
            if action.task == Task::Stop
                && self.rscs[rsc].managed
                && !n.unclean
                && self.rscs[rsc].kind == Kind::Primitive
            {
                self.doom(node, "stop is unrunnable");
            }
            return;
        }
        if !on_controller && n.pending {
            action.runnable = false;
            return;
        }
        if self.start_disabled() && self.rscs[rsc].managed && begins(action.task) {
            action.runnable = false;
            return;
        }
        if self.needs(rsc, action.task) == Requires::Nothing {
            if self.nodes[node].kind == NodeKind::Guest && !self.can_fence(node) {
                // Its host can neither be asked nor fenced.
                action.runnable = false;
            }
            return;
        }
        if self.quorate {
            return;
        }
        match self.options.no_quorum {
            NoQuorum::Ignore => {}
            NoQuorum::Demote if !self.promotable(rsc) => {
                action.runnable = false;
                action.reason = Some("no quorum".into());
            }
            NoQuorum::Freeze | NoQuorum::Demote => {
                let r = &self.rscs[rsc];
                let demote = self.options.no_quorum == NoQuorum::Demote;
                // A new definition is carried out only as far as it stops what has the old one.
                if r.running_on.is_empty()
                    || r.restart.is_some()
                    || (action.task != Task::Start && r.next_role > r.role)
                    || (demote && action.task == Task::Promote)
                {
                    action.runnable = false;
                    action.reason = Some("no quorum".into());
                }
            }
            NoQuorum::Stop | NoQuorum::Fence => {
                action.runnable = false;
                action.reason = Some("no quorum".into());
            }
        }
    }

    /// What an operation needs before it may run.
    pub(crate) fn needs(&self, rsc: RscIx, task: Task) -> Requires {
        if begins(task) { self.rscs[rsc].requires } else { Requires::Nothing }
    }

    /// Options of the operation that an action is.
    pub(crate) fn options_of(&self, action: &Action<'a>) -> Option<OpOptions<'a>> {
        let rsc = action.rsc?;
        let task = match action.task {
            Task::Running => "running",
            other => other.word(),
        };
        Some(self.op_options(rsc, task, action.interval))
    }

    /// Orders two actions.
    pub(crate) fn link(&mut self, first: ActIx, then: ActIx, flags: u32) {
        if first == then {
            return;
        }
        if let Some(edge) =
            self.actions[then].before.iter_mut().find(|e| e.other == first && e.flags == flags)
        {
            edge.flags |= flags;
            edge.origin = edge.origin.or(self.origin);
            return;
        }
        let edge = crate::action::Edge { other: first, flags, origin: self.origin };
        self.actions[then].before.push(edge);
        self.actions[first].after.push(then);
    }
}
