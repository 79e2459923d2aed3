//! What a configuration implies: resources that it asks for without writing them down.
//!
//! A guest node has a connection, a bundle has containers, addresses, connections and a clone of what runs inside. They are
//! written out in the document before it is read, marked as implied, so that everything after knows resources of one kind only; and
//! they are taken out again before the document leaves the house.

mod bundle;
mod container;
mod guest;

use tierce_cib::xml::{Document, Element, NodeId};

use crate::Error;

/// The attribute of what is implied.
const MARK: &str = "implied";

/// The element with the resources of one replica of a bundle.
pub(crate) const REPLICA: &str = "replica";

/// Whether an element was written by this module.
pub(crate) fn is_implied(e: Element<'_>) -> bool {
    e.attr(MARK).is_some()
}

/// Writes out what is implied. Doing it twice changes nothing.
pub(crate) fn write_out(doc: &mut Document) -> Result<(), Error> {
    if doc.root().attr(MARK).is_some() {
        return Ok(());
    }
    let Some(resources) = resources(doc) else { return Ok(()) };
    let found = guest::find(doc.element(resources));
    let bundles = bundle::find(doc.element(resources))?;
    if found.is_empty() && bundles.is_empty() {
        return Ok(());
    }
    for one in &found {
        one.write(doc, resources);
    }
    for one in &bundles {
        one.write(doc);
    }
    let root = doc.root().node_id();
    doc.set(root, MARK, "true");
    Ok(())
}

/// Takes out what is implied.
pub(crate) fn take_out(doc: &mut Document) {
    let root = doc.root().node_id();
    if !doc.unset(root, MARK) {
        return;
    }
    let Some(resources) = resources(doc) else { return };
    let marked: Vec<NodeId> = doc
        .element(resources)
        .children()
        .flat_map(|e| std::iter::once(e).chain(e.children()))
        .filter(|e| is_implied(*e))
        .map(Element::node_id)
        .collect();
    for id in marked {
        doc.remove(id);
    }
}

fn resources(doc: &Document) -> Option<NodeId> {
    Some(doc.root().child("configuration")?.child("resources")?.node_id())
}

/// A primitive that is going to be written.
struct Implied {
    id: String,
    provider: &'static str,
    agent: String,
    parameters: Vec<(&'static str, String)>,
    meta: Vec<(&'static str, String)>,
    /// Name, interval, timeout.
    operations: Vec<(&'static str, String, Option<String>)>,
}

impl Implied {
    fn write(&self, doc: &mut Document, parent: NodeId) -> NodeId {
        let e = doc.create(parent, "primitive");
        doc.set(e, "id", &self.id);
        doc.set(e, "class", "ocf");
        doc.set(e, "provider", self.provider);
        doc.set(e, "type", &self.agent);
        doc.set(e, MARK, "true");
        write_pairs(doc, e, "meta_attributes", &self.id, &self.meta);
        write_pairs(doc, e, "instance_attributes", &self.id, &self.parameters);
        let list = doc.create(e, "operations");
        for (name, interval, timeout) in &self.operations {
            let op = doc.create(list, "op");
            doc.set(op, "id", &format!("{}-{name}-interval-{interval}", self.id));
            doc.set(op, "name", name);
            doc.set(op, "interval", interval);
            if let Some(timeout) = timeout {
                doc.set(op, "timeout", timeout);
            }
        }
        e
    }

    /// A connection to a remote executor in a container.
    fn connection(node: &str, container: &str) -> Self {
        Self {
            id: node.to_owned(),
            provider: "pacemaker",
            agent: "remote".to_owned(),
            parameters: Vec::new(),
            meta: vec![("container", container.to_owned())],
            operations: vec![("monitor", "30s".to_owned(), Some("30s".to_owned()))],
        }
    }
}

fn write_pairs(
    doc: &mut Document,
    parent: NodeId,
    element: &str,
    id: &str,
    pairs: &[(&'static str, String)],
) {
    if pairs.is_empty() {
        return;
    }
    let set = doc.create(parent, element);
    doc.set(set, "id", &format!("{id}-{element}"));
    for (name, value) in pairs {
        let pair = doc.create(set, "nvpair");
        doc.set(pair, "id", &format!("{id}-{element}-{name}"));
        doc.set(pair, "name", name);
        doc.set(pair, "value", value);
    }
}

/// A word of the meta-attributes that an element has itself.
pub(crate) fn own_meta<'a>(e: Element<'a>, name: &str) -> Option<&'a str> {
    e.children_named("meta_attributes")
        .flat_map(|set| set.children_named("nvpair"))
        .find(|pair| pair.attr("name") == Some(name))
        .and_then(|pair| pair.attr("value"))
}
