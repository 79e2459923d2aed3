//! Nodes: members from the `nodes` section, remote and guest nodes from the resources that reach them.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use tierce_cib::nvset::Pairs;
use tierce_cib::values;
use tierce_cib::xml::Element;

use crate::Error;
use crate::arena::NodeIx;
use crate::cluster::Cluster;
use crate::implied;
use crate::model::{Health, Node, NodeKind};

impl<'a> Node<'a> {
    /// A node of which nothing is known yet.
    pub(crate) fn new(id: Cow<'a, str>, name: Cow<'a, str>, kind: NodeKind) -> Self {
        Self {
            id,
            name,
            kind,
            online: false,
            unclean: false,
            member: false,
            unseen: true,
            pending: false,
            shutdown: false,
            expected_up: false,
            standby: false,
            standby_on_fail: false,
            maintenance: false,
            is_dc: false,
            health: Health::Green,
            discovery: true,
            remote_reset: false,
            connection: None,
            bundled: false,
            was_fenced: false,
            removed: false,
            configured: false,
            attributes: HashMap::new(),
            utilization: HashMap::new(),
            running: Vec::new(),
            assigned: 0,
            priority: 0,
            fence_reason: None,
            fence_priority_delay: false,
            fail_counts: Vec::new(),
        }
    }

    /// Whether it is reached through a connection resource.
    pub(crate) fn is_remote(&self) -> bool {
        self.kind != NodeKind::Member
    }
}

impl<'a> Cluster<'a> {
    pub(super) fn unpack_nodes(&mut self, configuration: Option<Element<'a>>) -> Result<(), Error> {
        let mut list: Vec<(Node<'a>, Option<Element<'a>>)> = Vec::new();
        let section = configuration.and_then(|c| c.child("nodes"));
        for xml in section.iter().flat_map(|n| n.children_named("node")) {
            let Some(id) = xml.id() else { continue };
            let Some(name) = xml.attr("uname") else {
                return Err(Error::Invalid {
                    what: "a node has no uname".into(),
                    place: format!("node id={id}"),
                });
            };
            let kind = match xml.attr("type") {
                None | Some("member") => NodeKind::Member,
                Some("remote") => NodeKind::Remote,
                Some(_) => continue,
            };
            list.push((Node::new(id.into(), name.into(), kind), Some(xml)));
        }
        if let Some(resources) = configuration.and_then(|c| c.child("resources")) {
            for (name, kind, bundled) in remote_names(resources) {
                if let Some((node, _)) = list.iter_mut().find(|(n, _)| n.name == name) {
                    node.kind = kind;
                    node.bundled = bundled;
                } else {
                    let mut node = Node::new(name.into(), name.into(), kind);
                    node.bundled = bundled;
                    list.push((node, None));
                }
            }
        }
        for (name, kind) in self.removed_names(configuration) {
            if list.iter().all(|(n, _)| n.name != name) {
                let mut node = Node::new(name.into(), name.into(), kind);
                node.removed = true;
                list.push((node, None));
            }
        }
        list.sort_by(|a, b| natural(&a.0.name, &b.0.name));
        for (node, xml) in list {
            self.add_node(node, xml);
        }
        Ok(())
    }

    /// Nodes whose connections are only in the histories.
    fn removed_names(&self, configuration: Option<Element<'a>>) -> Vec<(&'a str, NodeKind)> {
        let status = self.doc.root().child("status");
        let resources = configuration.and_then(|c| c.child("resources"));
        let configured: HashSet<&str> =
            resources.iter().flat_map(|r| r.descendants()).filter_map(Element::id).collect();
        let mut found: Vec<(&'a str, NodeKind)> = Vec::new();
        for e in status
            .iter()
            .flat_map(|s| s.children_named("node_state"))
            .flat_map(|s| s.children_named("lrm"))
            .flat_map(|l| l.children_named("lrm_resources"))
            .flat_map(|l| l.children_named("lrm_resource"))
        {
            let is = |name: &str, word: &str| e.attr(name) == Some(word);
            let remote = is("class", "ocf") && is("provider", "pacemaker") && is("type", "remote");
            let Some(id) = e.id().filter(|id| remote && !configured.contains(id)) else { continue };
            let kind =
                if e.attr("container").is_some() { NodeKind::Guest } else { NodeKind::Remote };
            if found.iter().all(|(name, _)| *name != id) {
                found.push((id, kind));
            }
        }
        found
    }

    fn add_node(&mut self, mut node: Node<'a>, xml: Option<Element<'a>>) {
        let unseen_unclean = self.options.fencing_enabled && self.options.startup_fencing;
        node.unclean = unseen_unclean && node.kind == NodeKind::Member;
        node.online = false;
        if self.node_by_name.contains_key(node.name.as_ref()) {
            return;
        }
        let dc = self.doc.root().attr("dc-uuid");
        node.configured = xml.is_some();
        node.is_dc = dc == Some(node.id.as_ref());
        self.builtin_attributes(&mut node);
        if let Some(xml) = xml {
            let at = self.situation();
            for (name, value) in Pairs::of(xml, "instance_attributes", &self.ids, &at).iter() {
                node.attributes.entry(name).or_insert(Cow::Borrowed(value));
            }
            for (name, value) in Pairs::of(xml, "utilization", &self.ids, &at).iter() {
                node.utilization.insert(name, values::leading_integer(value).unwrap_or(0));
            }
        }
        let (name, id) = (node.name.to_string(), node.id.to_string());
        let ix = self.nodes.push(node);
        if self.nodes[ix].is_dc {
            self.dc = Some(ix);
        }
        self.node_by_name.insert(name, ix);
        self.node_by_id.insert(id, ix);
    }

    fn builtin_attributes(&self, node: &mut Node<'a>) {
        let kind = match node.kind {
            NodeKind::Member => "cluster",
            NodeKind::Remote => "remote",
            NodeKind::Guest => "container",
        };
        let mut set = |k: &'a str, v: Cow<'a, str>| node.attributes.insert(k, v);
        set("#uname", node.name.clone());
        set("#id", node.id.clone());
        set("#kind", kind.into());
        set("#is_dc", if node.is_dc { "true" } else { "false" }.into());
        if let Some(name) = self.options.raw.get("cluster-name") {
            set("#cluster-name", Cow::Borrowed(name));
        }
        let site = node.attributes.get("site-name").cloned();
        if let Some(site) = site {
            node.attributes.insert("#site-name", site);
        }
    }

    /// A node by the name in a constraint, or by its id.
    pub(crate) fn find_node(&self, name: &str) -> Option<NodeIx> {
        self.node_by_name
            .get(name)
            .or_else(|| self.node_by_id.get(name))
            .copied()
            .or_else(|| self.nodes.keys().find(|n| self.nodes[*n].name.eq_ignore_ascii_case(name)))
    }

    /// The word of an attribute of a node that the administrator sets (`standby`, `maintenance`…).
    pub(super) fn node_flag(&self, node: NodeIx, name: &str) -> bool {
        values::is_true(self.node_attribute(node, name))
    }
}

/// Names of the nodes that resources bring, what kind they are, and whether they are inside of a bundle.
fn remote_names(resources: Element<'_>) -> Vec<(&str, NodeKind, bool)> {
    let templates: HashMap<&str, Element<'_>> =
        resources.children_named("template").filter_map(|t| Some((t.id()?, t))).collect();
    let mut found = Vec::new();
    for e in resources.descendants().filter(|e| e.name() == "primitive") {
        let Some(id) = e.id() else { continue };
        let template = e.attr("template").and_then(|t| templates.get(t).copied());
        let is = |name: &str, word: &str| {
            e.attr(name).or_else(|| template.and_then(|t| t.attr(name))) == Some(word)
        };
        if !(is("class", "ocf") && is("provider", "pacemaker") && is("type", "remote")) {
            continue;
        }
        let guest = implied::own_meta(e, "container").is_some();
        let kind = if guest { NodeKind::Guest } else { NodeKind::Remote };
        let bundled = e.parent().is_some_and(|p| p.name() == implied::REPLICA);
        found.push((id, kind, bundled));
    }
    found
}

/// Compares names so that numbers inside of them count as numbers, letters without case.
pub(crate) fn natural(left: &str, right: &str) -> Ordering {
    let (mut left, mut right) = (left.as_bytes(), right.as_bytes());
    loop {
        let order = match (left.first(), right.first()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(one), Some(other)) if one.is_ascii_digit() && other.is_ascii_digit() => {
                let (number, rest) = split_number(left);
                let (number2, rest2) = split_number(right);
                (left, right) = (rest, rest2);
                number.len().cmp(&number2.len()).then_with(|| number.cmp(number2))
            }
            (Some(one), Some(other)) => {
                let order = one.to_ascii_lowercase().cmp(&other.to_ascii_lowercase());
                (left, right) = (&left[1..], &right[1..]);
                order
            }
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// The digits at the start without leading zeros, and what follows them.
fn split_number(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
    let start = text[..end].iter().position(|b| *b != b'0').unwrap_or(end);
    (&text[start..end], &text[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_with_their_numbers() {
        let mut names = vec!["node10", "node2", "Node1"];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(names, ["Node1", "node2", "node10"]);
    }
}
