//! The transition graph: which actions are in it, and what each waits for.

pub(crate) mod loops;
pub(crate) mod picture;
pub(crate) mod xml;

use crate::action::{Task, flag};
use crate::arena::{ActIx, Key, NodeIx};
use crate::cluster::Cluster;
use crate::model::NodeKind;

/// One action with what it waits for.
#[derive(Debug, Clone)]
pub(crate) struct Synapse {
    /// The action.
    pub action: ActIx,
    /// What must be done before.
    pub inputs: Vec<ActIx>,
}

/// The graph.
#[derive(Debug, Clone, Default)]
pub(crate) struct Graph {
    /// Synapses, with the first that can run first.
    pub synapses: Vec<Synapse>,
}

impl Cluster<'_> {
    /// Whether an action belongs into the graph.
    pub(crate) fn in_graph(&self, ix: ActIx) -> bool {
        let a = &self.actions[ix];
        if !a.runnable || (a.optional && !a.shown) {
            return false;
        }
        if let Some(rsc) = a.rsc {
            let r = &self.rscs[rsc];
            let watches = matches!(a.task, Task::Monitor | Task::Cancel);
            if !r.managed && r.children.is_empty() && !watches {
                return false;
            }
        }
        if a.pseudo || matches!(a.task, Task::Fence | Task::Shutdown | Task::ForgetHistory) {
            return true;
        }
        let Some(node) = a.node else { return false };
        let n = &self.nodes[node];
        if n.kind == NodeKind::Guest && !n.remote_reset || a.task == Task::ClearFailcount {
            return true;
        }
        n.online
    }

    /// Whether an edge counts in the graph.
    fn edge_counts(&self, first: ActIx, then: ActIx, flags: u32) -> bool {
        if flags == 0 || !self.in_graph(first) {
            return false;
        }
        let (f, t) = (&self.actions[first], &self.actions[then]);
        if flags & flag::SAME_NODE != 0 && f.node.is_some() && t.node.is_some() && f.node != t.node
        {
            return false;
        }
        if flags & flag::FIRST_NOT_MIGRATABLE != 0 && f.migratable {
            return false;
        }
        if flags == flag::ORDERED && f.task == Task::Stop && f.migratable {
            // What moves away without stopping is not waited for.
            return false;
        }
        if flags & flag::LOAD != 0 {
            let wanted = if t.task == Task::MigrateTo {
                t.rsc.and_then(|r| self.rscs[r].assigned)
            } else {
                t.node
            };
            if f.node != wanted || f.optional || wanted.is_none() {
                return false;
            }
        }
        true
    }

    /// Makes the graph.
    pub(crate) fn make_graph(&self) -> Graph {
        let mut graph = Graph::default();
        for ix in self.actions.keys() {
            if !self.in_graph(ix) {
                continue;
            }
            let mut inputs: Vec<ActIx> = self.actions[ix]
                .before
                .iter()
                .filter(|e| self.edge_counts(e.other, ix, e.flags))
                .map(|e| e.other)
                .collect();
            inputs.sort_unstable();
            inputs.dedup();
            graph.synapses.push(Synapse { action: ix, inputs });
        }
        self.break_loops(&mut graph);
        graph
    }

    /// Orders that are only for comfort (capacity that gets free, not two at once) go where they would close a loop: a
    /// loop would never run. The later resource yields: it does not wait for capacity, but others wait for what it frees.
    fn break_loops(&self, graph: &mut Graph) {
        let soft = flag::SERIALIZE | flag::LOAD;
        let serial = |first: ActIx, then: ActIx| {
            self.actions[then].before.iter().any(|e| e.other == first && e.flags & soft != 0)
        };
        let mut place = vec![usize::MAX; self.actions.len()];
        for (i, s) in graph.synapses.iter().enumerate() {
            place[s.action.position()] = i;
        }
        let (own, shared): (Vec<usize>, Vec<usize>) = (0..graph.synapses.len())
            .rev()
            .partition(|i| self.actions[graph.synapses[*i].action].rsc.is_some());
        for i in own.into_iter().chain(shared) {
            let then = graph.synapses[i].action;
            for input in graph.synapses[i].inputs.clone() {
                if !serial(input, then) {
                    continue;
                }
                if reaches(graph, &place, then, input) {
                    graph.synapses[i].inputs.retain(|x| *x != input);
                }
            }
        }
    }

    /// The name of an action's node.
    pub(crate) fn node_name(&self, node: Option<NodeIx>) -> &str {
        node.map_or("", |n| self.nodes[n].name.as_ref())
    }
}

/// Whether `to` waits, at however many steps, for `from`.
fn reaches(graph: &Graph, place: &[usize], from: ActIx, to: ActIx) -> bool {
    let mut stack = vec![to];
    let mut seen = std::collections::HashSet::new();
    while let Some(at) = stack.pop() {
        if at == from {
            return true;
        }
        if seen.insert(at) && place[at.position()] != usize::MAX {
            stack.extend(&graph.synapses[place[at.position()]].inputs);
        }
    }
    false
}
