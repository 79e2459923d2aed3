//! Guest nodes: a resource with the meta-attribute `remote-node` is a machine in which resources can run.

use tierce_cib::xml::{Document, Element, NodeId};

use super::{Implied, own_meta};

/// A guest node that a configuration asks for.
pub(super) struct Guest {
    node: String,
    container: String,
    /// Where to connect to, as parameters.
    parameters: Vec<(&'static str, String)>,
    /// What the connection has from the resource.
    meta: Vec<(&'static str, String)>,
    connect_timeout: Option<String>,
}

/// All guest nodes, in the order of the configuration. One that has the name of a resource is none.
pub(super) fn find(resources: Element<'_>) -> Vec<Guest> {
    let ids: std::collections::HashSet<&str> =
        resources.descendants().filter(|e| is_resource(*e)).filter_map(Element::id).collect();
    let mut found: Vec<Guest> = Vec::new();
    for e in resources.descendants().filter(|e| e.name() == "primitive") {
        let (Some(node), Some(container)) = (own_meta(e, "remote-node"), e.id()) else { continue };
        if ids.contains(node) || found.iter().any(|g| g.node == node) {
            continue;
        }
        let word = |name: &str| own_meta(e, name).map(str::to_owned);
        let mut guest = Guest {
            node: node.to_owned(),
            container: container.to_owned(),
            parameters: Vec::new(),
            meta: Vec::new(),
            connect_timeout: word("remote-connect-timeout"),
        };
        guest.parameters.extend(word("remote-addr").map(|v| ("addr", v)));
        guest.parameters.extend(word("remote-port").map(|v| ("port", v)));
        guest.meta.extend(word("remote-allow-migrate").map(|v| ("allow-migrate", v)));
        guest.meta.extend(word("is-managed").map(|v| ("is-managed", v)));
        found.push(guest);
    }
    found
}

fn is_resource(e: Element<'_>) -> bool {
    matches!(e.name(), "primitive" | "group" | "clone" | "master" | "bundle" | "template")
}

impl Guest {
    /// The connection, as the last of the resources.
    pub(super) fn write(&self, doc: &mut Document, resources: NodeId) {
        let mut connection = Implied::connection(&self.node, &self.container);
        connection.parameters.clone_from(&self.parameters);
        connection.meta.extend(self.meta.iter().cloned());
        if let Some(timeout) = &self.connect_timeout {
            connection.operations.push(("start", "0".to_owned(), Some(timeout.clone())));
        }
        connection.write(doc, resources);
    }
}
