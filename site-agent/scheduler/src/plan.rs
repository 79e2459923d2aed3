//! The stages, one after the other.

use tierce_cib::time::Moment;
use tierce_cib::xml::Document;

use crate::Error;
use crate::cluster::Cluster;
use crate::graph::Graph;
use crate::implied;
use crate::raise;
use crate::unpack;

/// What is to be done, with everything that led to it.
pub struct Plan<'a> {
    pub(crate) cluster: Cluster<'a>,
    pub(crate) graph: Graph,
}

/// Schedules: what is to be done for a CIB at a moment, in whose local time dates without an offset are. What the configuration
/// only implies is written into the document.
pub fn schedule(doc: &mut Document, now: Moment) -> Result<Plan<'_>, Error> {
    make_ready(doc)?;
    decide(unpack::unpack(doc, now)?)
}

/// Raises an old schema, and writes out what the configuration only implies.
pub(crate) fn make_ready(doc: &mut Document) -> Result<(), Error> {
    raise::raise(doc)?;
    implied::write_out(doc)
}

/// All that comes after the document has been read.
pub(crate) fn decide(mut cluster: Cluster<'_>) -> Result<Plan<'_>, Error> {
    cluster.apply_health();
    cluster.unpack_constraints();
    cluster.hold_without_fencing();
    cluster.colocate_group_members();
    cluster.apply_locks();
    cluster.apply_node_criteria();
    cluster.relate_containers();
    cluster.check_changes();
    cluster.forget_removed();
    cluster.assign_all();
    cluster.leave_to_stops();
    cluster.create_probes();
    let top = cluster.top.clone();
    for rsc in top {
        cluster.create_actions(rsc);
    }
    cluster.create_reloads();
    cluster.order_internally();
    cluster.order_connections();
    cluster.create_node_actions();
    cluster.apply_orders()?;
    cluster.create_notifications();
    let graph = cluster.make_graph();
    let plan = Plan { cluster, graph };
    plan.refuse_loops()?;
    Ok(plan)
}

impl Plan<'_> {
    /// The graph as the controller reads it.
    pub fn graph_xml(&self) -> String {
        self.cluster.graph_xml(&self.graph)
    }

    /// The graph as `dot` reads it; with `all`, what is optional as well.
    pub fn graph_dot(&self, all: bool) -> String {
        self.cluster.graph_dot(all)
    }

    /// The graph drawn as SVG.
    pub fn graph_svg(&self) -> String {
        self.cluster.graph_svg()
    }

    /// Scores by resource and node.
    pub fn scores(&self) -> String {
        self.cluster.scores()
    }

    /// How many actions there are in the graph.
    pub fn actions(&self) -> usize {
        self.graph.synapses.len()
    }
}
