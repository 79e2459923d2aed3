//! Unfencing: a node must be let in again (say, to a shared disk) before anything that needs it may run there.
//!
//! A device with `provides=unfencing` turns it on for the whole cluster. A node that was let in says so in the attribute
//! `#node-unfenced`, and with which definitions of devices in `#digests-all`. Where it never was, or a device has changed since, it
//! is let in (again), and what runs there is stopped before and started after.

use std::fmt::Write as _;

use super::params::{Params, digest};
use crate::action::{End, Task, flag};
use crate::arena::{ActIx, NodeIx, RscIx};
use crate::cluster::Cluster;
use crate::model::{Kind, Requires};

impl Cluster<'_> {
    /// The action that lets a node in. It is optional until something requires it.
    fn unfence_action(&mut self, node: NodeIx) -> ActIx {
        if let Some(ix) = self.unfence_actions.get(&node) {
            return *ix;
        }
        let mut action = Self::blank(format!("stonith-{}-on", self.nodes[node].name), Task::Fence);
        action.node = Some(node);
        action.optional = true;
        action.meta.push(("stonith_action".into(), "on".to_owned()));
        let (all, changed) = self.device_digests(node);
        if let Some(device) = changed {
            action.optional = false;
            action.reason = Some(format!("definition of {device} changed"));
        }
        action.meta.push(("digests_all".into(), all));
        let ix = self.actions.push(action);
        self.unfence_actions.insert(node, ix);
        ix
    }

    /// The digests of the devices that let a node in, and the first of them that is not what it was when it did so.
    fn device_digests(&self, node: NodeIx) -> (String, Option<String>) {
        let known = self.node_attribute(node, "#digests-all");
        let open = self.node_attribute(node, "#digests-secure");
        let (mut all, mut changed) = (String::new(), None);
        for rsc in self.rscs.keys() {
            let r = &self.rscs[rsc];
            if !self.unfences(rsc) || r.removed {
                continue;
            }
            let now = digest(&self.digest_parameters(rsc, node, "monitor", 0));
            let entry = format!("{}:{}:{now}", r.id, r.agent);
            let _ = write!(all, "{entry},");
            let secure =
                format!("{}:{}:{}", r.id, r.agent, digest(&self.open_parameters(rsc, node)));
            let lists = |list: Option<&str>, entry: &str| {
                list.is_some_and(|l| l.split(',').any(|e| e == entry))
            };
            // A copy of a CIB often has its secrets blotted out.
            if known.is_some() && !lists(known, &entry) && !lists(open, &secure) {
                changed.get_or_insert_with(|| r.id.clone());
            }
        }
        (all, changed)
    }

    /// What is no secret of a device: neither what its agent calls so in a history, nor words to the fencer itself.
    fn open_parameters(&self, device: RscIx, node: NodeIx) -> Params {
        let secret: Vec<&str> = self.rscs[device]
            .history
            .iter()
            .flat_map(|(_, xml)| xml.children_named("lrm_rsc_op"))
            .filter_map(|op| op.attr("op-secure-params"))
            .flat_map(str::split_whitespace)
            .collect();
        let mut open = self.digest_parameters(device, node, "monitor", 0);
        open.retain(|name, _| !secret.contains(&name.as_str()) && !name.starts_with("pcmk_"));
        open
    }

    /// Whether a resource is a device that lets nodes in.
    fn unfences(&self, rsc: RscIx) -> bool {
        let r = &self.rscs[rsc];
        r.fence_device && r.meta.get("provides").is_some_and(|w| w == "unfencing")
    }

    fn unfenced(&self, node: NodeIx) -> bool {
        self.node_attribute(node, "#node-unfenced").is_some_and(|w| !w.is_empty() && w != "0")
    }

    /// A start or probe of what needs its node unfenced waits for that. The devices need it, too: many know nothing of a disk that
    /// they have no access to.
    pub(crate) fn after_unfencing(&mut self, action: ActIx, flags: u32) {
        let (Some(rsc), Some(node)) = (self.actions[action].rsc, self.actions[action].node) else {
            return;
        };
        if self.rscs[rsc].requires != Requires::Unfencing && !self.unfences(rsc) {
            return;
        }
        let unfence = self.unfence_action(node);
        self.link(unfence, action, flags);
        if self.unfenced(node) {
            return;
        }
        // What stays as it is was there before; whatever yet asks for it to start anew asks for this as well.
        self.link(unfence, action, flag::THEN_IMPLIES_FIRST);
        if !self.actions[action].optional {
            let reason =
                format!("required by {} {}", self.rscs[rsc].id, self.actions[action].task.word());
            let a = &mut self.actions[unfence];
            a.optional = false;
            a.reason.get_or_insert(reason);
        }
    }

    /// Unfencing stops what needs it.
    pub(super) fn stop_before_unfencing(&mut self, stop: ActIx) {
        let (Some(rsc), Some(node)) = (self.actions[stop].rsc, self.actions[stop].node) else {
            return;
        };
        if self.rscs[rsc].requires == Requires::Unfencing {
            let unfence = self.unfence_action(node);
            self.link(stop, unfence, flag::THEN_IMPLIES_FIRST);
        }
    }

    /// Orders what needs unfencing around it, wherever it may go.
    pub(super) fn order_with_unfencing(&mut self, rsc: RscIx) {
        if self.rscs[rsc].requires != Requires::Unfencing || self.rscs[rsc].kind != Kind::Primitive
        {
            return;
        }
        for node in self.nodes.keys() {
            if !self.rscs[rsc].allowed[node.0 as usize].listed {
                continue;
            }
            let unfence = self.unfence_action(node);
            self.order(
                End::Op(rsc, Task::Stop, 0),
                End::Action(unfence),
                flag::ORDERED | flag::SAME_NODE,
            );
            self.order(
                End::Action(unfence),
                End::Op(rsc, Task::Start, 0),
                flag::FIRST_IMPLIES_SAME_NODE_THEN | flag::SAME_NODE,
            );
        }
    }

    /// A device that changed lets nodes in again: the one where it ran, or all.
    pub(super) fn unfence_again(&mut self, device: RscIx, node: Option<NodeIx>, why: &str) {
        if !self.unfencing || !self.rscs[device].fence_device {
            return;
        }
        for at in self.nodes.keys() {
            let n = &self.nodes[at];
            let listed = self.rscs[device].allowed[at.0 as usize].listed;
            let meant = node.map_or(listed, |only| only == at);
            if !meant || !n.online || n.unclean || n.shutdown {
                continue;
            }
            let unfence = self.unfence_action(at);
            let a = &mut self.actions[unfence];
            a.optional = false;
            a.reason.get_or_insert_with(|| why.to_owned());
        }
    }
}
