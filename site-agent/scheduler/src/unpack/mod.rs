//! From the document to a typed cluster.
//!
//! Order matters: options decide how nodes are judged, nodes must be known before clones (their number is
//! the default of `clone-max`), resources before the status that tells where they run.

mod activity;
pub(crate) mod fail_count;
pub(crate) mod history;
mod migration;
pub(crate) mod nodes;
pub(crate) mod nvset;
pub(crate) mod operation;
mod refuse;
pub(crate) mod resources;
pub(crate) mod rules;
pub(crate) mod status;
pub(crate) mod time;

use std::cell::Cell;
use std::collections::HashMap;

use tierce_cib::xml::{Document, Element};

use crate::Error;
use crate::arena::Arena;
use crate::cluster::Cluster;
use crate::options::Options;
use crate::words;
use nvset::Source;
use rules::Scene;

/// Reads everything but the constraints.
pub(crate) fn unpack(doc: &Document, now: i64) -> Result<Cluster<'_>, Error> {
    let root = doc.root();
    if root.name() != "cib" {
        return Err(Error::NotACib(root.name().to_owned()));
    }
    let configuration = root.child("configuration");
    let source = Source::new(doc);
    let next = Cell::new(None);
    let raw = options(configuration, &source, now, &next);
    let mut cluster = Cluster {
        doc,
        source,
        now,
        next_change: next,
        options: Options::new(raw),
        quorate: root.attr("have-quorum").is_some_and(|w| words::boolean(w) == Some(true)),
        has_fencing: false,
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
        fence_actions: Vec::new(),
        pseudo_actions: HashMap::new(),
        stale_recurring: Vec::new(),
        clear_failures: Vec::new(),
        failed_ops: Vec::new(),
        blocking_failures: Vec::new(),
        expired_recurring: Vec::new(),
        notices: Vec::new(),
        dc: None,
    };
    cluster.unpack_nodes(configuration)?;
    cluster.unpack_tags(configuration);
    cluster.unpack_resources(configuration)?;
    cluster.unpack_status(root.child("status"))?;
    Ok(cluster)
}

fn options<'a>(
    configuration: Option<Element<'a>>,
    source: &Source<'a>,
    now: i64,
    next: &Cell<Option<i64>>,
) -> HashMap<&'a str, &'a str> {
    let mut raw = HashMap::new();
    let Some(config) = configuration.and_then(|c| c.child("crm_config")) else { return raw };
    for set in source.sets(config, "cluster_property_set", Some("cib-bootstrap-options")) {
        if rules::passes(set, &Scene::at(now, next)) {
            source.pairs(set, |name, value| {
                raw.entry(name).or_insert(value);
            });
        }
    }
    raw
}

impl<'a> Cluster<'a> {
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
