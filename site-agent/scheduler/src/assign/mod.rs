//! Assignment: which resource goes to which node.
//!
//! The outermost resources are taken by priority. A resource first asks those that it must be with to be assigned,
//! takes over what they and those that want to be with it think of the nodes, and takes the best node that is left.

pub(crate) mod choose;
pub(crate) mod clone;
pub(crate) mod colocation;
pub(crate) mod group;
pub(crate) mod instances;
pub(crate) mod locks;
pub(crate) mod primitive;
pub(crate) mod promotable;
pub(crate) mod utilization;

use tierce_cib::values::INFINITY;

use crate::arena::{NodeIx, RscIx};
use crate::cluster::Cluster;
use crate::model::{Discover, Kind, Role};
use crate::options::Placement;
use crate::row::Cause;

impl Cluster<'_> {
    /// Gives each resource its own wishes: to stay, and not to be where it failed.
    pub(crate) fn apply_node_criteria(&mut self) {
        self.apply_locations();
        for rsc in self.rscs.keys() {
            if self.rscs[rsc].kind != Kind::Primitive {
                continue;
            }
            self.apply_exclusive_discovery(rsc);
            self.apply_stickiness(rsc);
            self.apply_thresholds(rsc);
        }
    }

    /// Where some nodes are chosen exclusively, all others are out.
    fn apply_exclusive_discovery(&mut self, rsc: RscIx) {
        if !self.rscs[rsc].exclusive_discover && !self.rscs[self.top_of(rsc)].exclusive_discover {
            return;
        }
        for place in &mut self.rscs[rsc].allowed {
            if place.discover != Discover::Exclusive {
                place.score = -INFINITY;
            }
        }
        self.rscs[rsc].allowed.tell(Cause::Discovery);
    }

    fn apply_stickiness(&mut self, rsc: RscIx) {
        let r = &self.rscs[rsc];
        if !r.managed || r.stickiness < 1 || r.running_on.len() != 1 {
            return;
        }
        let node = r.running_on[0];
        let place = &mut self.rscs[rsc].allowed[node.0 as usize];
        if place.listed || self.options.symmetric {
            place.listed = true;
            let stickiness = self.rscs[rsc].stickiness;
            self.rscs[rsc].allowed.add(node, stickiness, Cause::Stickiness);
        }
    }

    fn apply_thresholds(&mut self, rsc: RscIx) {
        for node in self.nodes.keys() {
            let cleared = self.clear_failures.iter().any(|(r, n, _)| *r == rsc && *n == node);
            if !cleared && let Some(banned) = self.threshold_reached(rsc, node) {
                self.forbid(banned, node);
            }
        }
    }

    /// Takes a node away from a resource and all that is in it.
    pub(crate) fn forbid(&mut self, rsc: RscIx, node: NodeIx) {
        if self.rscs[rsc].allowed[node.0 as usize].listed {
            self.rscs[rsc].allowed.add(node, -INFINITY, Cause::Threshold);
        }
        for child in self.rscs[rsc].children.clone() {
            self.forbid(child, node);
        }
    }

    /// Assigns every resource.
    pub(crate) fn assign_all(&mut self) {
        if self.options.placement != Placement::Default {
            self.sort_for_utilization();
        }
        let top = self.top.clone();
        for rsc in top {
            if self.rscs[rsc].remote_node.is_some() {
                // A connection that is on its way goes on.
                let prefer = self.rscs[rsc].partial.map(|p| p.target);
                self.assign(rsc, prefer, true);
            }
        }
        let top = self.top.clone();
        for rsc in top {
            self.assign(rsc, None, true);
        }
    }

    /// Assigns one resource, after those that it depends on.
    pub(crate) fn assign(
        &mut self,
        rsc: RscIx,
        prefer: Option<NodeIx>,
        stop_if_fail: bool,
    ) -> Option<NodeIx> {
        match self.rscs[rsc].kind {
            Kind::Primitive => self.assign_primitive(rsc, prefer, stop_if_fail),
            Kind::Group => self.assign_group(rsc, prefer, stop_if_fail),
            Kind::Clone => {
                self.assign_clone(rsc);
                None
            }
            Kind::Bundle => {
                self.assign_bundle(rsc);
                None
            }
        }
    }

    /// Takes an assignment back.
    pub(crate) fn unassign(&mut self, rsc: RscIx) {
        for child in self.rscs[rsc].children.clone() {
            self.unassign(child);
        }
        let old = self.rscs[rsc].assigned.take();
        self.rscs[rsc].provisional = true;
        self.rscs[rsc].assigned_all.clear();
        if let Some(node) = old {
            if self.rscs[rsc].kind == Kind::Primitive {
                self.nodes[node].assigned = self.nodes[node].assigned.saturating_sub(1);
                self.release_utilization(rsc, node);
            }
            let r = &mut self.rscs[rsc];
            if r.next_role_reason == Some("assigned") || r.next_role == Role::Stopped {
                r.next_role = r.target_role;
                r.next_role_reason = None;
            }
        }
    }
}
