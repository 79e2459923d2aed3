//! Nodes: members from the `nodes` section, remote and guest nodes from the resources that reach them.

use std::borrow::Cow;
use std::collections::HashMap;

use tierce_cib::xml::Element;

use super::rules::{self, Scene};
use crate::Error;
use crate::arena::NodeIx;
use crate::cluster::Cluster;
use crate::model::{Health, Node, NodeKind};
use crate::words;

impl<'a> Node<'a> {
    /// A node of which nothing is known yet.
    pub(crate) fn new(id: Cow<'a, str>, name: Cow<'a, str>, kind: NodeKind) -> Self {
        Self {
            id,
            name,
            kind,
            online: false,
            unclean: false,
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
            for (name, kind) in remote_names(resources, &self.source) {
                if let Some((node, _)) = list.iter_mut().find(|(n, _)| n.name == name) {
                    node.kind = kind;
                } else {
                    list.push((Node::new(name.clone(), name, kind), None));
                }
            }
        }
        list.sort_by(|a, b| words::natural(&a.0.name, &b.0.name));
        for (node, xml) in list {
            self.add_node(node, xml);
        }
        Ok(())
    }

    fn add_node(&mut self, mut node: Node<'a>, xml: Option<Element<'a>>) {
        let unseen_unclean = self.options.fencing_enabled && self.options.startup_fencing;
        node.unclean = unseen_unclean && node.kind == NodeKind::Member;
        node.online = false;
        if self.node_by_name.contains_key(node.name.as_ref()) {
            return;
        }
        let dc = self.doc.root().attr("dc-uuid");
        node.is_dc = dc == Some(node.id.as_ref());
        self.builtin_attributes(&mut node);
        if let Some(xml) = xml {
            let scene = Scene::at(self.now, &self.next_change);
            for set in self.source.sets(xml, "instance_attributes", None) {
                if rules::passes(set, &scene) {
                    self.source.pairs(set, |k, v| {
                        node.attributes.entry(k).or_insert(Cow::Borrowed(v));
                    });
                }
            }
            for set in self.source.sets(xml, "utilization", None) {
                self.source.pairs(set, |k, v| {
                    let amount = words::leading_integer(v).unwrap_or(0);
                    node.utilization.entry(k).or_insert(amount);
                });
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
        words::is_true(self.node_attribute(node, name))
    }
}

/// Names of the nodes that resources bring: remote connections and `remote-node` of containers.
fn remote_names<'a>(
    resources: Element<'a>,
    source: &super::nvset::Source<'a>,
) -> Vec<(Cow<'a, str>, NodeKind)> {
    let mut found = Vec::new();
    for e in resources.descendants().filter(|e| e.name() == "primitive") {
        let Some(id) = e.id() else { continue };
        if e.attr("provider") == Some("pacemaker")
            && e.attr("type") == Some("remote")
            && e.attr("class") == Some("ocf")
        {
            found.push((Cow::Borrowed(id), NodeKind::Remote));
            continue;
        }
        for set in source.sets(e, "meta_attributes", None) {
            source.pairs(set, |k, v| {
                if k == "remote-node" && v != id {
                    found.push((Cow::Borrowed(v), NodeKind::Guest));
                }
            });
        }
    }
    found
}
