//! Actions of one resource: down from what it is, and up to what it will be.

use crate::action::{End, NOWHERE, Task, flag};
use crate::arena::{NodeIx, RscIx};
use crate::cluster::Cluster;
use crate::model::{Kind, Requires, Role};

/// One step between two roles.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Start(Role),
    Stop,
    Promote,
    Demote,
}

/// The next step from a role towards another.
fn step(from: Role, to: Role) -> Option<Step> {
    match (from, to) {
        (Role::Promoted, Role::Promoted) | (Role::Unknown, _) => None,
        (Role::Promoted, _) => Some(Step::Demote),
        (Role::Unpromoted | Role::Started, Role::Promoted) => Some(Step::Promote),
        (Role::Unpromoted | Role::Started, Role::Stopped | Role::Unknown)
        | (Role::Unpromoted, Role::Started) => Some(Step::Stop),
        (Role::Unpromoted | Role::Started, _) | (Role::Stopped, Role::Stopped | Role::Unknown) => {
            None
        }
        (Role::Stopped, Role::Started) => Some(Step::Start(Role::Started)),
        (Role::Stopped, Role::Unpromoted | Role::Promoted) => Some(Step::Start(Role::Unpromoted)),
    }
}

impl Step {
    fn arrives(self) -> Role {
        match self {
            Self::Start(role) => role,
            Self::Stop => Role::Stopped,
            Self::Promote => Role::Promoted,
            Self::Demote => Role::Unpromoted,
        }
    }
}

impl Cluster<'_> {
    /// Makes the actions of a resource and all that is in it.
    pub(crate) fn create_actions(&mut self, rsc: RscIx) {
        match self.rscs[rsc].kind {
            Kind::Primitive => self.create_primitive_actions(rsc),
            Kind::Group => self.create_group_actions(rsc),
            Kind::Clone => self.create_clone_actions(rsc),
            Kind::Bundle => self.create_bundle_actions(rsc),
        }
    }

    fn create_primitive_actions(&mut self, rsc: RscIx) {
        self.settle_next_role(rsc);
        let next = self.rscs[rsc].assigned;
        for node in self.rscs[rsc].dangling.clone() {
            let stop = self.op(rsc, Task::Stop, 0, Some(node), false);
            self.actions[stop].reason.get_or_insert_with(|| "dangling migration".into());
        }
        let running = self.rscs[rsc].running_on.clone();
        let current = self.current_node(rsc);
        let (mut need_stop, mut need_promote) = (false, false);
        let partial = self.rscs[rsc].partial;
        if let Some(p) = partial {
            let continues = self.rscs[rsc].allow_migrate
                && next == Some(p.target)
                && running.len() == 2
                && running.contains(&p.source)
                && running.contains(&p.target);
            if !continues {
                self.rscs[rsc].partial = None;
                self.rscs[rsc].allow_migrate = false;
                need_stop = true;
            }
        } else if self.counted_active(rsc) > 1 {
            let r = &self.rscs[rsc];
            if r.managed {
                let expected = r.stop_unexpected && next.is_some_and(|n| running.contains(&n));
                if !expected {
                    need_stop = true;
                }
                self.rscs[rsc].allow_migrate = false;
            }
        }
        let r = &self.rscs[rsc];
        let stays = current.is_some() && current == next && r.next_role > Role::Stopped;
        if r.start_pending && stays && r.managed {
            // It is in flight: to ask for it again does no harm, and others may wait for it.
            let start = self.op(rsc, Task::Start, 0, current, true);
            self.actions[start].shown = true;
        }
        let r = &self.rscs[rsc];
        if let (Some(c), Some(n)) = (current, next)
            && c != n
            && r.next_role > Role::Stopped
        {
            need_stop = true;
        } else if r.failed {
            if r.stop_failed || self.demote_is_enough(rsc).is_none() {
                need_stop = true;
            }
            if r.next_role == Role::Promoted {
                need_promote = true;
            }
            if !need_stop && next.is_some() {
                // It stays up, so what follows a start may go on.
                self.op(rsc, Task::Start, 0, next, true);
            }
        } else if r.blocked || (r.restart.is_some() && current.is_some() && r.managed) {
            need_stop = true;
            need_promote = r.next_role == Role::Promoted;
        } else if r.role > Role::Started && current.is_some() && next.is_some() {
            let start = self.op(rsc, Task::Start, 0, next, true);
            if !self.actions[start].optional {
                need_promote = true;
            }
        }
        self.bring_down_and_up(rsc, current, need_stop, need_promote);
        self.steps_to_next_role(rsc);
        self.create_recurring(rsc);
        self.plan_migration(rsc, current);
    }

    /// A failed promoted monitor with `on-fail=demote` needs no stop.
    fn demote_is_enough(&self, rsc: RscIx) -> Option<()> {
        let r = &self.rscs[rsc];
        (r.failed && r.role == Role::Promoted && r.demote_only).then_some(())
    }

    fn settle_next_role(&mut self, rsc: RscIx) {
        let r = &mut self.rscs[rsc];
        if r.next_role == Role::Unknown {
            r.next_role = if r.assigned.is_some() { Role::Started } else { Role::Stopped };
        }
    }

    /// The node that counts as the present one.
    pub(crate) fn current_node(&self, rsc: RscIx) -> Option<NodeIx> {
        let r = &self.rscs[rsc];
        if let Some(p) = r.partial {
            return Some(p.source);
        }
        if r.stop_unexpected
            && r.running_on.len() > 1
            && let Some(n) = r.assigned.filter(|n| r.running_on.contains(n))
        {
            return Some(n);
        }
        // Of several, one that can be reached comes first.
        if r.running_on.len() > 1 && r.requires <= Requires::Quorum {
            return r.running_on.iter().find(|n| self.sound(**n)).or(r.running_on.first()).copied();
        }
        r.running_on.first().copied()
    }

    fn sound(&self, node: NodeIx) -> bool {
        self.nodes[node].online && !self.nodes[node].unclean
    }

    /// On how many nodes it counts as active. What does not wait for fencing does not mind where a node
    /// that is to be fenced has it.
    fn counted_active(&self, rsc: RscIx) -> usize {
        let r = &self.rscs[rsc];
        if r.requires > Requires::Quorum {
            return r.running_on.len();
        }
        r.running_on.iter().filter(|n| self.sound(**n)).count()
    }

    fn bring_down_and_up(
        &mut self,
        rsc: RscIx,
        current: Option<NodeIx>,
        need_stop: bool,
        need_promote: bool,
    ) {
        let Some(current) = current else { return };
        let here = self.rscs[rsc].role;
        let mut role = here;
        while role != Role::Stopped {
            let Some(s) = step(role, Role::Stopped) else { break };
            role = s.arrives();
            // `on-fail=demote` is a demotion, whatever follows.
            let demote = s == Step::Demote && need_promote && self.rscs[rsc].demote_only;
            self.take(rsc, s, Some(current), !need_stop && !demote);
        }
        let target = here;
        // What ends below where it is now comes up no further than needed.
        while role < self.rscs[rsc].next_role && role != target && !self.rscs[rsc].blocked {
            let Some(s) = step(role, target) else { break };
            role = s.arrives();
            let mut required = need_stop;
            if s == Step::Promote && need_promote {
                required = true;
            }
            let next = self.rscs[rsc].assigned;
            self.take(rsc, s, next, !required);
        }
        self.rscs[rsc].migrating = false;
    }

    fn steps_to_next_role(&mut self, rsc: RscIx) {
        let mut role = self.rscs[rsc].role;
        let target = self.rscs[rsc].next_role;
        let next = self.rscs[rsc].assigned;
        for _ in 0..4 {
            let Some(s) = step(role, target) else { break };
            role = s.arrives();
            self.take(rsc, s, next, false);
        }
    }

    fn take(&mut self, rsc: RscIx, s: Step, node: Option<NodeIx>, optional: bool) {
        match s {
            Step::Stop => self.take_stop(rsc, optional),
            Step::Start(_) => {
                let start = self.op(rsc, Task::Start, 0, node, optional);
                self.after_unfencing(start, flag::FIRST_IMPLIES_THEN);
                let r = &self.rscs[rsc];
                if r.stop_unexpected
                    && r.running_on.len() > 1
                    && node.is_some_and(|n| r.running_on.contains(&n))
                {
                    // It runs there and may stay.
                    self.actions[start].pseudo = true;
                }
            }
            Step::Promote => self.take_promote(rsc, node, optional),
            Step::Demote => {
                for n in self.rscs[rsc].running_on.clone() {
                    self.op(rsc, Task::Demote, 0, Some(n), optional);
                }
            }
        }
    }

    fn take_stop(&mut self, rsc: RscIx, optional: bool) {
        let r = &self.rscs[rsc];
        let (partial, assigned, unexpected, managed) =
            (r.partial, r.assigned, r.stop_unexpected, r.managed);
        for node in r.running_on.clone() {
            if let Some(p) = partial
                && p.target == node
                && assigned == Some(node)
            {
                // It stays where the migration takes it.
                continue;
            }
            if unexpected && assigned == Some(node) && self.rscs[rsc].running_on.len() > 1 {
                // This one may stay; only the others are stopped.
                continue;
            }
            let stop = self.op(rsc, Task::Stop, 0, Some(node), optional);
            if assigned.is_none() {
                self.actions[stop].reason.get_or_insert_with(|| NOWHERE.into());
            }
            if !managed {
                self.actions[stop].runnable = false;
            }
            self.stop_before_unfencing(stop);
            if self.options.remove_after_stop {
                self.forget_resource(rsc, node, false);
            }
        }
    }

    fn take_promote(&mut self, rsc: RscIx, node: Option<NodeIx>, optional: bool) {
        let starts = self.find_actions(rsc, Task::Start, 0);
        let ready = starts.iter().all(|a| self.actions[*a].runnable);
        if ready {
            self.op(rsc, Task::Promote, 0, node, optional);
            return;
        }
        let promote = self.op(rsc, Task::Promote, 0, node, optional);
        self.actions[promote].runnable = false;
    }

    /// Clears the history of a resource from a node.
    pub(crate) fn forget_resource(&mut self, rsc: RscIx, node: NodeIx, optional: bool) {
        if self.rscs[rsc].failed || self.nodes[node].unclean || !self.nodes[node].online {
            return;
        }
        let delete = self.op(rsc, Task::Delete, 0, Some(node), optional);
        self.order(
            End::Op(rsc, Task::Stop, 0),
            End::Action(delete),
            flag::ORDERED | flag::FIRST_IMPLIES_THEN,
        );
        self.order(
            End::Action(delete),
            End::Op(rsc, Task::Start, 0),
            flag::ORDERED | flag::FIRST_IMPLIES_THEN,
        );
    }

    /// Orderings between the operations of one resource.
    pub(crate) fn order_primitive(&mut self, rsc: RscIx) {
        self.order_with_container(rsc);
        let op = |task| End::Op(rsc, task, 0);
        let restart = flag::ORDERED | flag::FIRST_IMPLIES_THEN | flag::RESTART;
        if !self.rscs[rsc].managed {
            return;
        }
        self.order(op(Task::Stop), op(Task::Start), restart);
        if self.promotable(rsc) || self.rscs[rsc].role > Role::Unpromoted {
            self.order(
                op(Task::Demote),
                op(Task::Stop),
                flag::ORDERED | flag::PROMOTED_IMPLIES_FIRST,
            );
            self.order(op(Task::Start), op(Task::Promote), flag::ORDERED | flag::UNRUNNABLE_BLOCKS);
            self.order(op(Task::Demote), op(Task::Promote), flag::ORDERED);
        }
        self.order_with_load(rsc);
        self.order_with_unfencing(rsc);
    }

    /// Where capacity counts, starts on a node wait for what leaves it.
    fn order_with_load(&mut self, rsc: RscIx) {
        if self.options.placement == crate::options::Placement::Default
            || self.rscs[rsc].utilization.is_empty()
        {
            return;
        }
        let (running, next) = (self.rscs[rsc].running_on.clone(), self.rscs[rsc].assigned);
        for node in running {
            let name = format!("load_stopped_{}", self.nodes[node].name);
            let gate = self.pseudo_action(&name);
            self.actions[gate].node = Some(node);
            self.order(End::Op(rsc, Task::Stop, 0), End::Action(gate), flag::LOAD);
        }
        if let Some(node) = next {
            let name = format!("load_stopped_{}", self.nodes[node].name);
            let gate = self.pseudo_action(&name);
            self.actions[gate].node = Some(node);
            self.order(End::Action(gate), End::Op(rsc, Task::Start, 0), flag::LOAD);
            self.order(End::Action(gate), End::Op(rsc, Task::MigrateTo, 0), flag::LOAD);
        }
    }
}
