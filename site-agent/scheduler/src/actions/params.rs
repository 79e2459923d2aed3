//! Parameters of a resource on a node, and the digests by which a change of them is noticed.
//!
//! A digest is the MD5 of one element with the parameters in the order of their names. For a recurring operation its timeout
//! counts as well.

use std::collections::BTreeMap;

use tierce_cib::canonical::parameters_digest;
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
    parameters_digest(params.iter().map(|(name, value)| (name.as_str(), value.as_str())))
}
