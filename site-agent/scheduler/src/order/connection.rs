//! What happens on a remote or guest node goes over a connection: it waits for the connection to come up, and is done before
//! the connection goes down. Where the connection can not be recovered, what runs behind it can only be stopped by fencing.

use crate::action::{End, Task, flag};
use crate::arena::{ActIx, NodeIx, RscIx};
use crate::cluster::Cluster;
use crate::model::{NodeKind, Role};

/// What can be said of a remote node now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Nothing, but the connection is going to be tried.
    Unknown,
    /// The connection is up and stays.
    Alive,
    /// The connection is on its way to another member.
    Resting,
    /// The connection goes down in good order, or is down.
    Stopped,
    /// The connection is lost and does not come back.
    Failed,
}

impl Cluster<'_> {
    /// Orders all that happens behind connections. It may find nodes that have to be fenced.
    pub(crate) fn order_connections(&mut self) {
        for ix in self.actions.keys() {
            let a = &self.actions[ix];
            let (Some(rsc), Some(node)) = (a.rsc, a.node) else { continue };
            if a.task == Task::ClearFailcount && self.rscs[rsc].remote_node.is_some() {
                // Failures of a connection are forgotten before it is tried again.
                self.order(End::Action(ix), End::Op(rsc, Task::Start, 0), flag::ORDERED);
                continue;
            }
            let Some(connection) = self.nodes[node].connection.filter(|c| *c != rsc) else {
                continue;
            };
            if a.pseudo && a.task != Task::Stop && a.task != Task::Start && a.task != Task::Demote {
                continue;
            }
            if a.interval > 0 && (self.rscs[rsc].removed || self.is_cancelled(rsc, ix)) {
                // It is not begun again.
                continue;
            }
            if a.task == Task::Start {
                self.stay_until_connected(rsc, node, connection);
            }
            if self.nodes[node].kind == NodeKind::Guest {
                self.order_on_guest(ix, connection);
            } else {
                self.order_on_remote(ix, connection);
            }
        }
    }

    /// Whether a recurring operation is ended.
    fn is_cancelled(&self, rsc: RscIx, recurring: ActIx) -> bool {
        let r = &self.actions[recurring];
        self.rsc_actions[rsc.0 as usize].iter().any(|a| {
            let a = &self.actions[*a];
            a.task == Task::Cancel && a.node == r.node && a.key == r.key
        })
    }

    /// What moves to a remote node stays where it is until that can be reached.
    fn stay_until_connected(&mut self, rsc: RscIx, target: NodeIx, connection: RscIx) {
        for stop in self.find_actions(rsc, Task::Stop, 0) {
            if self.actions[stop].node.is_some_and(|n| n != target) {
                self.order(End::Op(connection, Task::Start, 0), End::Action(stop), flag::ORDERED);
            }
        }
    }

    fn after_start(&mut self, of: RscIx, action: ActIx, flags: u32) {
        let flags = flags | flag::PRESERVE | flag::UNRUNNABLE_BLOCKS;
        self.order(End::Op(of, Task::Start, 0), End::Action(action), flags);
    }

    fn before_stop(&mut self, action: ActIx, of: RscIx, flags: u32) {
        self.order(End::Action(action), End::Op(of, Task::Stop, 0), flags | flag::PRESERVE);
    }

    fn order_on_guest(&mut self, ix: ActIx, connection: RscIx) {
        let Some(container) = self.rscs[connection].container else { return };
        let failed = self.rscs[container].failed;
        if failed && let Some(node) = self.actions[ix].node {
            self.doom(node, "container failed");
        }
        let recurring = self.actions[ix].interval > 0;
        match self.actions[ix].task {
            Task::Start | Task::Promote => {
                // What runs in a container that is recovered is recovered with it.
                self.after_start(container, ix, flag::FIRST_IMPLIES_THEN);
                self.after_start(connection, ix, 0);
            }
            // The stop of a failed container does it all.
            Task::Stop | Task::Demote if failed => {}
            // What goes down has its watch ended first, over the connection that there is.
            Task::Cancel => {}
            Task::Stop | Task::Demote => self.before_stop(ix, connection, 0),
            _ if recurring => self.after_start(connection, ix, flag::FIRST_IMPLIES_THEN),
            _ => self.after_start(connection, ix, 0),
        }
    }

    fn order_on_remote(&mut self, ix: ActIx, connection: RscIx) {
        let Some(node) = self.actions[ix].node else { return };
        let state = self.remote_state(node, connection);
        let recurring = self.actions[ix].interval > 0;
        match self.actions[ix].task {
            Task::Start | Task::Promote => {
                let must = if state == State::Failed { flag::FIRST_IMPLIES_THEN } else { 0 };
                self.after_start(connection, ix, must);
            }
            Task::Stop if state == State::Failed => {
                self.doom(node, "resources are active but connection is unrecoverable");
            }
            Task::Stop
                if state == State::Alive || self.rscs[connection].next_role == Role::Stopped =>
            {
                self.before_stop(ix, connection, flag::THEN_IMPLIES_FIRST);
            }
            // What leaves is out before the connection is closed.
            Task::MigrateTo if state == State::Alive => self.before_stop(ix, connection, 0),
            // While the connection goes down it can not be waited for.
            Task::Demote if !matches!(state, State::Resting | State::Unknown) => {}
            Task::Stop | Task::Demote => self.after_start(connection, ix, 0),
            _ if recurring => self.after_start(connection, ix, flag::FIRST_IMPLIES_THEN),
            task => {
                if task == Task::Monitor && state == State::Failed {
                    self.doom(
                        node,
                        "resources are in unknown state and connection is unrecoverable",
                    );
                }
                let up = !self.rscs[connection].running_on.is_empty();
                if up && state == State::Stopped {
                    // It is asked before the connection goes.
                    self.before_stop(ix, connection, flag::UNRUNNABLE_BLOCKS);
                } else {
                    self.after_start(connection, ix, 0);
                }
            }
        }
    }

    /// Whether a remote node is lost for good unless it is fenced.
    pub(crate) fn unrecoverable(&self, node: NodeIx) -> bool {
        let n = &self.nodes[node];
        n.kind == NodeKind::Remote
            && n.connection.is_some_and(|c| self.remote_state(node, c) == State::Failed)
    }

    fn remote_state(&self, node: NodeIx, connection: RscIx) -> State {
        let c = &self.rscs[connection];
        let member = c.running_on.first().copied();
        let lost = |n: NodeIx| self.nodes[n].unclean || !self.nodes[n].online;
        if c.next_role == Role::Stopped || c.assigned.is_none() {
            if member.is_some_and(|m| self.nodes[m].unclean) {
                return State::Failed;
            }
            if !c.failed {
                return State::Stopped;
            }
            let reconnects = c.next_role == Role::Stopped
                && self.nodes[node].was_fenced
                && self.parameters(connection, None).contains_key("reconnect_interval");
            return if reconnects { State::Unknown } else { State::Failed };
        }
        match member {
            None => State::Unknown,
            Some(member) if lost(member) => State::Resting,
            Some(_) if c.running_on.len() > 1 && c.partial.is_some() => State::Resting,
            Some(_) => State::Alive,
        }
    }
}
