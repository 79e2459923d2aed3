//! What the loss of a ticket comes to: the steps that end what it allowed, and what they leave running.
//!
//! A ticket may be given back, or counts as lost without harm, only when nothing remains active under it. Whoever carries a plan out does
//! these steps before all others and waits for nothing else meanwhile: docs/scheduler.md, "When a ticket is lost".

use crate::action::Task;
use crate::arena::{ActIx, Key as _, NodeIx, RscIx};
use crate::cluster::Cluster;
use crate::model::Role;
use crate::plan::Plan;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Release {
    /// Numbers of the steps ([`Plan::steps`]) that end it, with all that must be done before them.
    pub steps: Vec<usize>,
    /// What is active under the ticket and stays so when these steps are done.
    pub remains: Vec<Remains>,
}

/// Something that no step ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remains {
    /// The resource.
    pub resource: String,
    /// Where.
    pub node: String,
    /// Why no step ends it.
    pub why: String,
}

impl Plan<'_> {
    /// What a ticket's loss comes to by this plan.
    pub fn release(&self, ticket: &str) -> Release {
        let c = &self.cluster;
        let mut ends = Vec::new();
        let mut release = Release::default();
        for rsc in c.rscs.keys() {
            for position in &c.rscs[rsc].tickets {
                let used = &c.ticket_uses[*position];
                if used.ticket == ticket {
                    let promoted = used.role == Some(Role::Promoted);
                    self.end_all(rsc, promoted, &mut ends, &mut release.remains);
                }
            }
        }
        release.remains.sort_by(|a, b| (&a.resource, &a.node).cmp(&(&b.resource, &b.node)));
        release.remains.dedup();
        let mut wanted = vec![false; c.actions.len()];
        while let Some(at) = ends.pop() {
            if !std::mem::replace(&mut wanted[at.position()], true) {
                ends.extend(self.inputs(at));
            }
        }
        for (i, synapse) in self.order().into_iter().enumerate() {
            if wanted[self.graph.synapses[synapse].action.position()] {
                release.steps.push(i + 1);
            }
        }
        release
    }

    /// What an action of the graph waits for.
    pub(crate) fn inputs(&self, ix: ActIx) -> &[ActIx] {
        let found = self.graph.synapses.binary_search_by_key(&ix, |s| s.action);
        found.map_or(&[], |at| &self.graph.synapses[at].inputs)
    }

    /// Everything in a resource that is active, or only what is promoted.
    fn end_all(
        &self,
        rsc: RscIx,
        promoted: bool,
        ends: &mut Vec<ActIx>,
        remains: &mut Vec<Remains>,
    ) {
        let c = &self.cluster;
        let mut parts = Vec::new();
        c.primitives(rsc, &mut parts);
        for part in parts {
            let r = &c.rscs[part];
            if promoted && r.role != Role::Promoted {
                continue;
            }
            for node in &r.running_on {
                match c.end(part, *node, promoted) {
                    Ok(ix) => ends.push(ix),
                    Err(why) => remains.push(Remains {
                        resource: r.id.clone(),
                        node: c.nodes[*node].name.to_string(),
                        why,
                    }),
                }
            }
        }
    }
}

impl Cluster<'_> {
    /// The action of the graph that ends a resource (or its promotion) on a node; else why there is none.
    fn end(&self, rsc: RscIx, node: NodeIx, promoted: bool) -> Result<ActIx, String> {
        let task = if promoted { Task::Demote } else { Task::Stop };
        let action = self.find_action(rsc, task, Some(node));
        if let Some(ix) = action.filter(|ix| self.in_graph(*ix)) {
            return Ok(ix);
        }
        if let Some(fence) = self.fence_actions.get(node.0 as usize).copied().flatten()
            && self.in_graph(fence)
        {
            return Ok(fence);
        }
        let r = &self.rscs[rsc];
        let wanted = action.filter(|ix| !self.actions[*ix].optional);
        Err(if r.stop_failed && r.blocked {
            "its stop failed, and it is blocked".to_owned()
        } else if r.maintenance || self.nodes[node].maintenance {
            "it is in maintenance".to_owned()
        } else if r.blocked {
            "it is blocked, or frozen by its loss-policy".to_owned()
        } else if !r.managed {
            "it is not managed".to_owned()
        } else if let Some(ix) = wanted {
            let why = self.actions[ix].reason.as_deref().unwrap_or("its node can not be reached");
            format!("it can not be stopped: {why}")
        } else {
            "it is not to be stopped".to_owned()
        })
    }
}
