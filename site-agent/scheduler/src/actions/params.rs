//! Parameters of a resource on a node, and the digests by which a change of them is noticed.
//!
//! A digest is the MD5 of one element with the parameters in the order of their names. For a recurring operation its timeout
//! counts as well.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use md5::{Digest, Md5};
use tierce_cib::nvset::Pairs;
use tierce_cib::rules::Situation;
use tierce_cib::xml::Element;

use crate::arena::{NodeIx, RscIx};
use crate::cluster::Cluster;

/// Parameters by name.
pub(crate) type Params = BTreeMap<String, String>;

impl<'a> Cluster<'a> {
    /// The parameters that an agent gets.
    pub(crate) fn parameters(&self, rsc: RscIx, node: Option<NodeIx>) -> Params {
        let mut all = owned(&self.parameter_pairs(rsc, node));
        if let Some(container) = self.rscs[rsc].container
            && all.get("addr").is_some_and(|a| a == "#uname")
        {
            // The connection to a container without an address goes to where that runs.
            let c = &self.rscs[container];
            if let Some(host) = c.assigned.or(c.running_on.first().copied()) {
                all.insert("addr".to_owned(), self.nodes[host].name.to_string());
            }
        }
        all
    }

    fn parameter_pairs(&self, rsc: RscIx, node: Option<NodeIx>) -> Pairs<'a> {
        let r = &self.rscs[rsc];
        let lookup = |name: &str| node.and_then(|n| self.node_attribute(n, name));
        let at = Situation { node: Some(&lookup), agent: Some(r.agent()), ..self.situation() };
        let mut pairs = Pairs::default();
        let mut add = |holder: Element<'a>| {
            pairs.add(holder.children_named("instance_attributes"), &self.ids, &at);
        };
        add(r.xml);
        r.template.into_iter().for_each(&mut add);
        let mut above = r.parent;
        while let Some(parent) = above {
            add(self.rscs[parent].xml);
            above = self.rscs[parent].parent;
        }
        pairs
    }

    /// One parameter, for rules.
    pub(crate) fn parameter(&self, rsc: RscIx, node: NodeIx, name: &str) -> Option<&'a str> {
        self.parameter_pairs(rsc, Some(node)).get(name)
    }

    /// Parameters that an operation brings itself.
    pub(crate) fn op_parameters(&self, rsc: RscIx, task: &str, interval: u64) -> Params {
        let op = self.op_config(rsc, task, interval, true);
        op.map_or_else(Params::new, |op| {
            owned(&Pairs::of(op.xml, "instance_attributes", &self.ids, &self.situation()))
        })
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

fn owned(pairs: &Pairs<'_>) -> Params {
    pairs.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
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
