//! Assigning a group: its members in order.

use crate::arena::{NodeIx, RscIx};
use crate::cluster::Cluster;

impl Cluster<'_> {
    pub(super) fn assign_group(
        &mut self,
        group: RscIx,
        prefer: Option<NodeIx>,
        stop_if_fail: bool,
    ) -> Option<NodeIx> {
        if let Some(parent) = self.rscs[group].parent
            && !self.rscs[parent].assigning
        {
            self.assign(parent, prefer, stop_if_fail);
        }
        if !self.rscs[group].provisional {
            return self.rscs[group].assigned;
        }
        if self.rscs[group].assigning {
            return None;
        }
        self.rscs[group].assigning = true;
        let members = self.rscs[group].children.clone();
        let mut first = None;
        for member in &members {
            let node = self.assign(*member, prefer, stop_if_fail);
            if first.is_none() {
                first = node;
            }
            if let Some(node) = node
                && !self.rscs[group].assigned_all.contains(&node)
            {
                self.rscs[group].assigned_all.push(node);
            }
        }
        let next = members.first().map(|m| self.rscs[*m].next_role);
        let r = &mut self.rscs[group];
        r.next_role = next.unwrap_or(r.next_role);
        r.assigned = first;
        r.assigning = false;
        r.provisional = false;
        first
    }
}
