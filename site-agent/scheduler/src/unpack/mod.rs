//! From the document to a typed cluster.
//!
//! Order matters: options decide how nodes are judged, nodes must be known before clones (their number is
//! the default of `clone-max`), resources before the status that tells where they run.

mod activity;
mod connection;
pub(crate) mod entry;
pub(crate) mod fail_count;
pub(crate) mod history;
mod migration;
pub(crate) mod nodes;
pub(crate) mod operation;
pub(crate) mod resources;
pub(crate) mod status;

use std::cell::Cell;
use std::collections::HashMap;

use tierce_cib::ids::Ids;
use tierce_cib::nvset::Pairs;
use tierce_cib::rules::Situation;
use tierce_cib::time::Moment;
use tierce_cib::values;
use tierce_cib::xml::{Document, Element};

use crate::Error;
use crate::arena::Arena;
use crate::cluster::Cluster;
use crate::options::Options;

/// Reads everything but the constraints.
pub(crate) fn unpack(doc: &Document, now: Moment) -> Result<Cluster<'_>, Error> {
    let root = doc.root();
    if root.name() != "cib" {
        return Err(Error::NotACib(root.name().to_owned()));
    }
    let configuration = root.child("configuration");
    let ids = Ids::of(doc);
    let next = Cell::new(None);
    let at = Situation { now: Some(now), next_change: Some(&next), ..Situation::default() };
    let raw = configuration
        .and_then(|c| c.child("crm_config"))
        .map_or_else(Pairs::default, |config| Pairs::of(config, "cluster_property_set", &ids, &at));
    let options = Options::new(raw);
    let mut cluster = Cluster {
        doc,
        ids,
        now,
        next_change: next,
        has_fencing: options.have_watchdog,
        options,
        quorate: values::is_true(root.attr("have-quorum")),
        nodes: Arena::default(),
        node_by_name: HashMap::new(),
        node_by_id: HashMap::new(),
        rscs: Arena::default(),
        top: Vec::new(),
        rsc_by_id: HashMap::new(),
        clone_of: HashMap::new(),
        templates: HashMap::new(),
        tags: HashMap::new(),
        tickets: HashMap::new(),
        ticket_uses: Vec::new(),
        locations: Arena::default(),
        colocations: Arena::default(),
        rsc_defaults: configuration.and_then(|c| c.child("rsc_defaults")),
        op_defaults: configuration.and_then(|c| c.child("op_defaults")),
        actions: Arena::default(),
        rsc_actions: Vec::new(),
        orders: Vec::new(),
        order_xml: Arena::default(),
        origin: None,
        fence_actions: Vec::new(),
        unfence_actions: HashMap::new(),
        unfencing: false,
        expired_locks: Vec::new(),
        pseudo_actions: HashMap::new(),
        stale_recurring: Vec::new(),
        clear_failures: Vec::new(),
        failed_ops: Vec::new(),
        blocking_failures: Vec::new(),
        expired_recurring: Vec::new(),
        unconfigured: Vec::new(),
        notices: Vec::new(),
        stop_needed: Vec::new(),
        dc: None,
    };
    cluster.unpack_nodes(configuration)?;
    cluster.unpack_tags(configuration);
    cluster.unpack_resources(configuration)?;
    cluster.unpack_status(root.child("status"))?;
    Ok(cluster)
}

impl<'a> Cluster<'a> {
    /// What a rule is asked about where no node, resource or operation is meant.
    pub(crate) fn situation(&self) -> Situation<'_> {
        Situation {
            now: Some(self.now),
            next_change: Some(&self.next_change),
            ..Situation::default()
        }
    }

    fn unpack_tags(&mut self, configuration: Option<Element<'a>>) {
        for tag in
            configuration.and_then(|c| c.child("tags")).iter().flat_map(|t| t.children_named("tag"))
        {
            let Some(id) = tag.id() else { continue };
            let names = tag.children_named("obj_ref").filter_map(|o| o.attr("id")).collect();
            self.tags.insert(id, names);
        }
    }
}
