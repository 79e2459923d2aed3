//! What is where, as data.

use crate::cluster::Cluster;
use crate::model::Kind;

/// Nodes and resources as they are.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Situation {
    /// Each node with its state in words.
    pub nodes: Vec<(String, String)>,
    /// Each primitive; of a clone each instance that is active, or one if none is.
    pub resources: Vec<Located>,
}

/// Where a resource is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// Its id, with the number of the instance for one of a clone.
    pub id: String,
    /// What it is: `Stopped`, `Started`, `Unpromoted`, `Promoted`.
    pub role: &'static str,
    /// On which nodes it is active.
    pub nodes: Vec<String>,
}

/// What is where in a cluster.
pub(super) fn of(c: &Cluster<'_>) -> Situation {
    let mut found = Situation::default();
    for node in c.nodes.keys() {
        let state = super::status::state(c, node);
        found.nodes.push((c.nodes[node].name.to_string(), state.to_lowercase()));
    }
    for rsc in c.rscs.keys() {
        let r = &c.rscs[rsc];
        let idle = r.running_on.is_empty();
        if r.kind != Kind::Primitive || idle && (r.removed || r.instance.is_some_and(|n| n > 0)) {
            continue;
        }
        found.resources.push(Located {
            id: r.id.clone(),
            role: if idle { "Stopped" } else { r.role.word() },
            nodes: r.running_on.iter().map(|n| c.nodes[*n].name.to_string()).collect(),
        });
    }
    found
}
