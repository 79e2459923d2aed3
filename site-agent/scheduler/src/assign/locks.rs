//! Shutdown locks: what ran on a node that was shut down in good order waits for it to come back, for a while.

use crate::action::Task;
use crate::arena::{NodeIx, RscIx};
use crate::cluster::Cluster;
use crate::model::Kind;

impl Cluster<'_> {
    /// Notes a lock that a history tells of, unless it has expired. Then what the node knows of the resource is forgotten.
    pub(crate) fn note_lock(&mut self, rsc: RscIx, node: NodeIx, since: i64) {
        let limit = self.options.shutdown_lock_limit;
        if limit > 0 && self.now.epoch() > since + limit {
            self.expired_locks.push((rsc, node));
        } else {
            self.rscs[rsc].lock = Some((node, since));
        }
    }

    /// Keeps locked resources where they are.
    pub(crate) fn apply_locks(&mut self) {
        if !self.options.shutdown_lock {
            return;
        }
        for rsc in self.top.clone() {
            self.apply_lock(rsc);
        }
        for (rsc, node) in std::mem::take(&mut self.expired_locks) {
            self.forget_history(rsc, node);
        }
    }

    fn apply_lock(&mut self, rsc: RscIx) {
        let r = &self.rscs[rsc];
        match r.kind {
            Kind::Group => {
                for member in r.children.clone() {
                    self.apply_lock(member);
                }
                return;
            }
            Kind::Primitive if !r.fence_device && !r.is_connection() => {}
            _ => {
                self.rscs[rsc].lock = None;
                return;
            }
        }
        if r.lock.is_some() {
            if !r.running_on.is_empty() {
                // It was started elsewhere after all, and stays.
                self.rscs[rsc].lock = None;
            }
        } else if let [node] = r.running_on.as_slice() {
            let node = *node;
            if self.nodes[node].shutdown && !self.nodes[node].unclean {
                let since = self.node_attribute(node, "shutdown");
                let since = since.and_then(tierce_cib::values::leading_integer).filter(|t| *t > 1);
                self.rscs[rsc].lock = Some((node, since.unwrap_or_else(|| self.now.epoch())));
            }
        }
        let Some((home, since)) = self.rscs[rsc].lock else { return };
        if self.options.shutdown_lock_limit > 0 {
            let end = since + self.options.shutdown_lock_limit + 1;
            self.look_again(end);
        }
        for node in self.nodes.keys() {
            if node != home {
                self.ban(rsc, node, "shutdown-lock");
            }
        }
    }

    /// Clears what the status says of a resource on a node, whether or not that is up.
    fn forget_history(&mut self, rsc: RscIx, node: NodeIx) {
        let key = format!("{}_lrm_delete_0", self.rscs[rsc].id);
        let mut action = Self::blank(key, Task::ForgetHistory);
        action.rsc = Some(rsc);
        action.node = Some(node);
        let ix = self.actions.push(action);
        self.rsc_actions[rsc.0 as usize].push(ix);
    }
}
