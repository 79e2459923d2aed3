//! What a history adds up to: whether a resource is active on a node, and what its failures ask for.

use tierce_cib::values::INFINITY;

use super::history::Replay;
use crate::arena::{NodeIx, RscIx};
use crate::cluster::Cluster;
use crate::model::{Kind, MultipleActive, NodeKind, OnFail, Role};

impl<'a> Cluster<'a> {
    /// What follows once all of a history was replayed.
    pub(super) fn settle(&mut self, rsc: RscIx, node: NodeIx, replay: &Replay<'a>) {
        let mut on_fail = replay.on_fail;
        if self.rscs[rsc].role == Role::Unknown {
            self.rscs[rsc].role = Role::Stopped;
        } else {
            self.known(rsc, node);
        }
        let n = &self.nodes[node];
        let r = &self.rscs[rsc];
        if r.role.active() && !n.online && !n.maintenance && r.managed {
            let should_fence = match n.kind {
                NodeKind::Guest => {
                    self.nodes[node].remote_reset = true;
                    self.rscs[rsc].failed = true;
                    true
                }
                NodeKind::Remote if self.fencing() => {
                    if n.connection.is_some_and(|c| !self.rscs[c].failed) {
                        self.nodes[node].unseen = true;
                    }
                    true
                }
                _ => self.fencing(),
            };
            if should_fence {
                let reason = format!("{} is thought to be active there", self.rscs[rsc].id);
                self.doom(node, &reason);
            }
        }
        if on_fail == OnFail::Fence
            && replay.stop_hopeless
            && !self.nodes[node].is_remote()
            && !self.can_fence(node)
        {
            // Nothing can be done about it.
            on_fail = OnFail::Block;
        } else if self.nodes[node].unclean {
            on_fail = OnFail::Ignore;
        }
        let name = self.rscs[rsc].id.clone();
        match on_fail {
            OnFail::Ignore => {}
            OnFail::Demote => {
                self.rscs[rsc].failed = true;
                self.rscs[rsc].demote_only = true;
            }
            OnFail::Fence => self.doom(node, &format!("{name} failed there")),
            OnFail::Standby => {
                self.nodes[node].standby = true;
                self.nodes[node].standby_on_fail = true;
            }
            OnFail::Block => {
                self.rscs[rsc].managed = false;
                self.rscs[rsc].blocked = true;
            }
            OnFail::Ban => self.ban(rsc, node, "__action_migration_auto__"),
            OnFail::Stop => {
                self.rscs[rsc].next_role = Role::Stopped;
            }
            OnFail::Restart => {
                if self.rscs[rsc].role.active() {
                    self.rscs[rsc].failed = true;
                }
            }
            OnFail::RestartContainer => self.restart_container_of(rsc),
            OnFail::ResetRemote => self.reset_remote(rsc),
        }
        if self.rscs[rsc].role.active() {
            self.add_running(rsc, node);
            if on_fail != OnFail::Ignore {
                self.rscs[rsc].failed = true;
            }
        } else if let Some(partial) = self.rscs[rsc].partial
            && partial.source == node
            && self.rscs[rsc].running_on.contains(&partial.target)
        {
            self.rscs[rsc].role = Role::Started;
        }
    }

    /// A remote connection that failed: the node behind it must be fenced, if it can be.
    fn reset_remote(&mut self, rsc: RscIx) {
        self.rscs[rsc].failed = true;
        if !self.fencing() {
            return;
        }
        let Some(node) = self.rscs[rsc].remote_node else { return };
        if self.nodes[node].maintenance || self.nodes[node].kind != NodeKind::Remote {
            return;
        }
        let reason = "remote connection is unrecoverable";
        self.doom(node, reason);
    }

    /// Notes that a resource is active on a node, and what follows if it is active on several.
    pub(super) fn add_running(&mut self, rsc: RscIx, node: NodeIx) {
        if self.rscs[rsc].running_on.contains(&node) {
            return;
        }
        self.rscs[rsc].running_on.push(node);
        self.nodes[node].running.push(rsc);
        if self.nodes[node].maintenance {
            self.rscs[rsc].managed = false;
            self.rscs[rsc].maintenance = true;
        }
        if !self.rscs[rsc].managed {
            self.locate(rsc, node, INFINITY, "not_managed_default");
            return;
        }
        if self.rscs[rsc].running_on.len() > 1 {
            match self.rscs[rsc].multiple_active {
                MultipleActive::StopOnly => self.ban_everywhere(rsc, "multiple-active"),
                MultipleActive::Block => {
                    let mut block = vec![rsc];
                    if let Some(p) = self.rscs[rsc].parent
                        && self.rscs[p].kind == Kind::Group
                        && self.rscs[p].multiple_active == MultipleActive::Block
                    {
                        block.clone_from(&self.rscs[p].children);
                    }
                    for r in block {
                        self.rscs[r].managed = false;
                        self.rscs[r].blocked = true;
                    }
                }
                MultipleActive::StopStart | MultipleActive::StopUnexpected => {}
            }
        }
    }
}
