//! Parameters of a resource on a node, and the digests by which a change of them is noticed.
//!
//! A digest is the MD5 of one element with the parameters in the order of their names. For a recurring operation its timeout
//! counts as well.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use md5::{Digest, Md5};

use crate::arena::{NodeIx, RscIx};
use crate::cluster::Cluster;
use crate::unpack::nvset::Values;
use crate::unpack::rules::Scene;

/// Parameters by name.
pub(crate) type Params = BTreeMap<String, String>;

impl Cluster<'_> {
    /// The parameters that an agent gets.
    pub(crate) fn parameters(&self, rsc: RscIx, node: Option<NodeIx>) -> Params {
        let r = &self.rscs[rsc];
        let lookup = |name: &str| node.and_then(|n| self.node_attribute(n, name));
        let scene = Scene {
            attribute: Some(&lookup),
            agent: Some((r.class, r.provider, r.agent)),
            ..Scene::at(self.now, &self.next_change)
        };
        let mut values = Values::new();
        self.source.merge(r.xml, "instance_attributes", &scene, &mut values);
        if let Some(template) = r.template {
            self.source.merge(template, "instance_attributes", &scene, &mut values);
        }
        let mut at = r.parent;
        while let Some(parent) = at {
            self.source.merge(self.rscs[parent].xml, "instance_attributes", &scene, &mut values);
            at = self.rscs[parent].parent;
        }
        values.into_iter().map(|(k, v)| (k.into_owned(), v.into_owned())).collect()
    }

    /// One parameter, for rules.
    pub(crate) fn parameter(&self, rsc: RscIx, node: NodeIx, name: &str) -> Option<String> {
        self.parameters(rsc, Some(node)).remove(name)
    }

    /// Parameters that an operation brings itself.
    pub(crate) fn op_parameters(&self, rsc: RscIx, task: &str, interval: u64) -> Params {
        let mut values = Values::new();
        let scene = Scene::at(self.now, &self.next_change);
        if let Some(op) = self.op_config(rsc, task, interval, true) {
            self.source.merge(op.xml, "instance_attributes", &scene, &mut values);
        }
        values.into_iter().map(|(k, v)| (k.into_owned(), v.into_owned())).collect()
    }

    /// What the digest of an operation is made of.
    pub(crate) fn digest_parameters(
        &self,
        rsc: RscIx,
        node: NodeIx,
        task: &str,
        interval: u64,
    ) -> Params {
        let mut all = self.parameters(rsc, Some(node));
        all.extend(self.op_parameters(rsc, task, interval));
        all.retain(|name, _| visible(name));
        if interval > 0 {
            let timeout = self.op_options(rsc, task, interval).timeout;
            all.insert("CRM_meta_timeout".to_owned(), timeout.to_string());
        }
        all
    }
}

/// Whether an agent sees a parameter of that name.
fn visible(name: &str) -> bool {
    !name.starts_with("CRM_meta_")
        && !matches!(name, "id" | "crm_feature_set" | "op-digest" | "on_node")
}

/// The digest of parameters.
pub(crate) fn digest(params: &Params) -> String {
    let mut text = String::from(" <parameters");
    for (name, value) in params {
        let _ = write!(text, " {name}=\"");
        for c in value.chars() {
            match c {
                '&' => text.push_str("&amp;"),
                '<' => text.push_str("&lt;"),
                '>' => text.push_str("&gt;"),
                '"' => text.push_str("&quot;"),
                '\n' => text.push_str("&#10;"),
                '\r' => text.push_str("&#13;"),
                '\t' => text.push_str("&#9;"),
                other => text.push(other),
            }
        }
        text.push('"');
    }
    text.push_str("/>\n");
    let mut out = String::with_capacity(32);
    for byte in Md5::digest(text.as_bytes()) {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_that_pacemaker_writes() {
        assert_eq!(digest(&Params::new()), "f2317cad3d54cec5d7d7aa7d0bf35cf8");
        let timeout = Params::from([("CRM_meta_timeout".to_owned(), "20000".to_owned())]);
        assert_eq!(digest(&timeout), "4811cef7f7f94e3a35a70be7916cb2fd");
    }
}
