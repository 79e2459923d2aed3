//! The graph as XML, as the controller reads it.

use std::fmt::Write as _;

use tierce_cib::xml::{escaped, is_name};

use super::Graph;
use crate::action::{Action, Task};
use crate::arena::{ActIx, Key};
use crate::cluster::Cluster;
use crate::model::{Kind, NodeKind};

impl<'a> Cluster<'a> {
    /// The whole graph.
    pub(crate) fn graph_xml(&self, graph: &Graph) -> String {
        let mut out = String::new();
        let delay = self.options.raw.get("cluster-delay").unwrap_or("60s");
        let fencing = self
            .options
            .raw
            .get("fencing-timeout")
            .or_else(|| self.options.raw.get("stonith-timeout"))
            .unwrap_or("60s");
        let start = if self.options.start_failure_fatal { "INFINITY" } else { "1" };
        let _ = write!(
            out,
            "<transition_graph cluster-delay=\"{}\" fencing-timeout=\"{}\" failed-stop-offset=\"INFINITY\" \
             failed-start-offset=\"{start}\" transition_id=\"1\"",
            escaped(delay),
            escaped(fencing)
        );
        if let Some(next) = self.next_change.get() {
            let _ = write!(out, " recheck-by=\"{next}\"");
        }
        out.push_str(">\n");
        for (i, synapse) in graph.synapses.iter().enumerate() {
            let _ = writeln!(out, "  <synapse id=\"{i}\">\n    <action_set>");
            self.write_action(&mut out, synapse.action, true);
            out.push_str("    </action_set>\n");
            if synapse.inputs.is_empty() {
                out.push_str("    <inputs/>\n");
            } else {
                out.push_str("    <inputs>\n");
                for input in &synapse.inputs {
                    out.push_str("      <trigger>\n");
                    self.write_action(&mut out, *input, false);
                    out.push_str("      </trigger>\n");
                }
                out.push_str("    </inputs>\n");
            }
            out.push_str("  </synapse>\n");
        }
        out.push_str("</transition_graph>\n");
        out
    }

    fn element_name(a: &Action<'a>) -> &'static str {
        if a.pseudo {
            "pseudo_event"
        } else {
            match a.task {
                Task::Fence | Task::Shutdown | Task::ClearFailcount | Task::ForgetHistory => {
                    "crm_event"
                }
                _ => "rsc_op",
            }
        }
    }

    fn write_action(&self, out: &mut String, ix: ActIx, full: bool) {
        let a = &self.actions[ix];
        let name = Self::element_name(a);
        let key = self.history_key(a);
        let task = match a.task {
            Task::Pseudo => a.key.as_ref(),
            other => other.word(),
        };
        let _ = write!(
            out,
            "        <{name} id=\"{}\" operation=\"{}\" operation_key=\"{}\"",
            ix.position() + 1,
            escaped(task),
            escaped(&key)
        );
        if a.task == Task::ForgetHistory {
            out.push_str(" mode=\"cib\"");
        }
        if let Some((home, since)) = a.rsc.and_then(|r| self.rscs[r].lock)
            && a.task == Task::Stop
            && a.node == Some(home)
        {
            let _ = write!(out, " shutdown-lock=\"{since}\"");
        }
        if key != a.key {
            let _ = write!(out, " internal_operation_key=\"{}\"", escaped(&a.key));
        }
        let place = !a.pseudo || a.task == Task::Fence;
        if place && let Some(node) = a.node {
            let n = &self.nodes[node];
            let _ = write!(
                out,
                " on_node=\"{}\" on_node_uuid=\"{}\"",
                escaped(&n.name),
                escaped(&n.id)
            );
            if n.is_remote()
                && let Some(router) = self.router(ix)
            {
                let _ = write!(out, " router_node=\"{}\"", escaped(&self.nodes[router].name));
            }
        }
        if !full {
            out.push_str("/>\n");
            return;
        }
        out.push_str(">\n");
        self.write_primitive(out, a);
        self.write_attributes(out, a);
        self.write_downed(out, a);
        let _ = writeln!(out, "        </{name}>");
    }

    /// The key by which an operation goes into the history: without the number of an anonymous instance.
    fn history_key(&self, a: &Action<'a>) -> String {
        let Some(rsc) = a.rsc else { return a.key.to_string() };
        let r = &self.rscs[rsc];
        if a.pseudo || r.kind != Kind::Primitive || !self.anonymous(rsc) || a.task == Task::Notify {
            return a.key.to_string();
        }
        match a.key.strip_prefix(r.id.as_str()) {
            Some(rest) => format!("{}{rest}", r.base),
            None => a.key.to_string(),
        }
    }

    /// Through which member an action on a remote node goes.
    fn router(&self, ix: ActIx) -> Option<crate::arena::NodeIx> {
        let connection = self.nodes[self.actions[ix].node?].connection?;
        let c = &self.rscs[connection];
        c.assigned.or(c.running_on.first().copied())
    }

    fn write_primitive(&self, out: &mut String, a: &Action<'a>) {
        let Some(rsc) = a.rsc else { return };
        let r = &self.rscs[rsc];
        if a.pseudo || r.kind != Kind::Primitive {
            return;
        }
        let _ = write!(out, "          <primitive");
        if self.anonymous(rsc) {
            let _ = write!(out, " id=\"{}\" long-id=\"{}\"", escaped(r.base), escaped(&r.id));
        } else {
            let _ = write!(out, " id=\"{}\"", escaped(&r.id));
        }
        let _ = write!(out, " class=\"{}\"", escaped(r.class));
        if !r.provider.is_empty() {
            let _ = write!(out, " provider=\"{}\"", escaped(r.provider));
        }
        let _ = writeln!(out, " type=\"{}\"/>", escaped(r.agent));
    }

    fn write_attributes(&self, out: &mut String, a: &Action<'a>) {
        let mut list: Vec<(String, String)> = Vec::new();
        let mut add = |k: &str, v: String| list.push((format!("CRM_meta_{k}"), v));
        if (!a.pseudo || a.task == Task::Fence)
            && let Some(node) = a.node
        {
            add("on_node", self.nodes[node].name.to_string());
            add("on_node_uuid", self.nodes[node].id.to_string());
        }
        for (k, v) in &a.meta {
            add(k, v.clone());
        }
        if let Some(rc) = a.target_rc {
            add("op_target_rc", rc.to_string());
        }
        if let Some(rsc) = a.rsc {
            if a.interval > 0 {
                add("interval", a.interval.to_string());
            }
            if let Some(clone) =
                self.clone_above(rsc).filter(|_| self.rscs[rsc].kind != Kind::Group)
            {
                let c = &self.rscs[clone];
                if let Some(n) = self.rscs[rsc].instance {
                    add("clone", n.to_string());
                }
                add("clone_max", c.clone_max.to_string());
                add("clone_node_max", c.clone_node_max.to_string());
                add("globally_unique", c.unique.to_string());
                add("notify", c.notify.to_string());
                if c.promotable {
                    for word in ["promoted", "master"] {
                        add(&format!("{word}_max"), c.promoted_max.to_string());
                        add(&format!("{word}_node_max"), c.promoted_node_max.to_string());
                    }
                }
            }
            if let Some(options) = self.options_of(a) {
                add("timeout", options.timeout.to_string());
                if options.xml.is_some() {
                    add("name", a.task.word().to_owned());
                }
            }
        }
        if let Some(rsc) = a.rsc
            && !a.pseudo
            && self.rscs[rsc].kind == Kind::Primitive
            && !matches!(a.task, Task::ClearFailcount | Task::ForgetHistory)
        {
            list.extend(self.parameters(rsc, a.node));
            list.extend(self.op_parameters(rsc, a.task.word(), a.interval));
        }
        // A parameter whose name can not stand in XML can not be handed on.
        list.retain(|(name, _)| is_name(name));
        list.sort();
        list.dedup_by(|x, y| x.0 == y.0);
        out.push_str("          <attributes");
        for (k, v) in list {
            let _ = write!(out, " {k}=\"{}\"", escaped(&v));
        }
        out.push_str("/>\n");
    }

    fn write_downed(&self, out: &mut String, a: &Action<'a>) {
        let Some(node) = a.node else { return };
        let n = &self.nodes[node];
        let off = a.task == Task::Fence
            && !a.meta.iter().any(|(k, v)| k == "stonith_action" && v == "on");
        let stops_remote = a.task == Task::Stop
            && a.rsc.is_some_and(|r| self.rscs[r].remote_node.is_some())
            && !a.pseudo;
        if off && n.kind != NodeKind::Guest || a.task == Task::Shutdown {
            let _ = writeln!(
                out,
                "          <downed>\n            <node id=\"{}\"/>\n          </downed>",
                escaped(&n.id)
            );
        } else if stops_remote && let Some(remote) = a.rsc.and_then(|r| self.rscs[r].remote_node) {
            let _ = writeln!(
                out,
                "          <downed>\n            <node id=\"{}\"/>\n          </downed>",
                escaped(&self.nodes[remote].id)
            );
        }
    }
}
