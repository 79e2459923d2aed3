//! A plan as steps: what is done, in an order in which it can be done, and why.

use crate::action::Task;
use crate::arena::{ActIx, Key as _};
use crate::plan::Plan;
use crate::reasons::ActionReason;
use crate::simulate::summary::{self, Change};

/// One action of the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its number, from 1, in the order in which it can be done.
    pub number: usize,
    /// In words: `start web on n1`.
    pub what: String,
    /// The task: `start`, `stop`, `monitor`, `stonith`, …
    pub task: String,
    /// The resource.
    pub resource: Option<String>,
    /// The node.
    pub node: Option<String>,
    /// It does nothing but hold an order, or is done by something else (a stop on a node that is fenced).
    pub pseudo: bool,
    /// Numbers of the steps that must be done before.
    pub after: Vec<usize>,
    /// Why.
    pub reason: ActionReason,
}

impl Plan<'_> {
    /// All steps. Each stands after those that it waits for.
    pub fn steps(&self) -> Vec<Step> {
        let order = self.order();
        let mut number = vec![0; self.cluster.actions.len()];
        for (i, synapse) in order.iter().enumerate() {
            number[self.graph.synapses[*synapse].action.position()] = i + 1;
        }
        let step = |(i, synapse): (usize, &usize)| {
            let synapse = &self.graph.synapses[*synapse];
            let mut after: Vec<usize> =
                synapse.inputs.iter().map(|a| number[a.position()]).filter(|n| *n > 0).collect();
            after.sort_unstable();
            self.step(i + 1, synapse.action, after)
        };
        order.iter().enumerate().map(step).collect()
    }

    /// What should be done and can not.
    pub fn blocked(&self) -> Vec<ActionReason> {
        let c = &self.cluster;
        let mut found = Vec::new();
        for ix in c.actions.keys() {
            let a = &c.actions[ix];
            let managed = a.rsc.is_none_or(|r| c.rscs[r].managed || !c.rscs[r].children.is_empty());
            if !a.optional && !a.pseudo && managed && !c.in_graph(ix) {
                found.extend(c.action_reason(ix));
            }
        }
        found
    }

    /// What happens to nodes and resources, in a line each.
    pub fn changes(&self) -> Vec<Change> {
        summary::changes(self)
    }

    /// When to plan again at the latest, seconds since 1970.
    pub fn look_again(&self) -> Option<i64> {
        self.cluster.next_change.get()
    }

    /// Positions of synapses so that each comes after those that it waits for.
    pub(crate) fn order(&self) -> Vec<usize> {
        let synapses = &self.graph.synapses;
        let mut place = vec![usize::MAX; self.cluster.actions.len()];
        for (i, s) in synapses.iter().enumerate() {
            place[s.action.position()] = i;
        }
        let mut waits = vec![0_usize; synapses.len()];
        let mut next: Vec<Vec<usize>> = vec![Vec::new(); synapses.len()];
        for (i, s) in synapses.iter().enumerate() {
            for input in s.inputs.iter().map(|a| place[a.position()]).filter(|p| *p != usize::MAX) {
                waits[i] += 1;
                next[input].push(i);
            }
        }
        let mut ready: std::collections::BTreeSet<usize> =
            (0..synapses.len()).filter(|i| waits[*i] == 0).collect();
        let mut order = Vec::with_capacity(synapses.len());
        while let Some(at) = ready.pop_first() {
            order.push(at);
            for then in &next[at] {
                waits[*then] -= 1;
                if waits[*then] == 0 {
                    ready.insert(*then);
                }
            }
        }
        order
    }

    fn step(&self, number: usize, ix: ActIx, after: Vec<usize>) -> Step {
        let c = &self.cluster;
        let a = &c.actions[ix];
        let node = a.node.map(|n| c.nodes[n].name.to_string());
        let resource = a.rsc.map(|r| c.rscs[r].id.clone());
        let task =
            if a.task == Task::Pseudo { a.key.to_string() } else { a.task.word().to_owned() };
        let reason = c.reason_of(ix);
        Step { number, what: c.in_words(ix), task, resource, node, pseudo: a.pseudo, after, reason }
    }
}

impl crate::cluster::Cluster<'_> {
    /// An action in words.
    pub(crate) fn in_words(&self, ix: ActIx) -> String {
        let a = &self.actions[ix];
        let on = a.node.map_or(String::new(), |n| format!(" on {}", self.nodes[n].name));
        let name = a.rsc.map_or("", |r| self.rscs[r].id.as_str());
        let meta = |name: &str| a.meta.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str());
        match a.task {
            Task::Fence => {
                let node = self.node_name(a.node);
                format!("fence {node} ({})", meta("stonith_action").unwrap_or("reboot"))
            }
            Task::Shutdown => format!("shut {} down", self.node_name(a.node)),
            Task::Pseudo => a.key.to_string(),
            Task::ClearFailcount => format!("forget failures of {name}{on}"),
            Task::Delete => format!("forget history of {name}{on}"),
            Task::Cancel => format!("end recurring operation {}{on}", a.key),
            Task::Monitor if a.interval == 0 => format!("probe {name}{on}"),
            Task::Monitor => format!("monitor {name} every {} ms{on}", a.interval),
            Task::MigrateTo => {
                format!("migrate {name}{on} to {}", meta("migrate_target").unwrap_or("?"))
            }
            Task::MigrateFrom => {
                format!("take {name} over{on} from {}", meta("migrate_source").unwrap_or("?"))
            }
            task => format!("{} {name}{on}", task.word()),
        }
    }
}
