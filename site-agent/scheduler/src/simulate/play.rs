//! Playing a graph: in waves, each action as soon as all that it waits for is done.
//!
//! What the actions change is collected and written into the status afterwards, so playing never copies the document.

use std::collections::HashMap;
use std::fmt::Write as _;

use tierce_cib::xml::{Document, NodeId};

use super::options::Request;
use crate::action::Task;
use crate::arena::{ActIx, Key};
use crate::cluster::Cluster;
use crate::model::NodeKind;
use crate::plan::Plan;

/// One result of an operation.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub node: String,
    pub node_id: String,
    pub remote: bool,
    pub rsc: String,
    pub instance: String,
    pub class: String,
    pub provider: String,
    pub agent: String,
    pub container: Option<String>,
    pub task: String,
    pub interval: u64,
    pub rc: i32,
    pub target_rc: i32,
    pub extra: Vec<(String, String)>,
    pub digest: Option<String>,
    pub now: i64,
}

/// One change of the status.
#[derive(Debug, Clone)]
pub(crate) enum Edit {
    Record(Box<Record>),
    Fenced { node: String },
    Unfenced { node: String },
    Forget { node: String, rsc: String, instance: String },
    CountFailure { node: String, rsc: String, op: String, now: i64 },
}

/// What playing gave.
#[derive(Debug, Default)]
pub(crate) struct Played {
    pub text: String,
    pub edits: Vec<Edit>,
    pub failed: bool,
}

/// Plays the graph of a plan.
pub(crate) fn play(plan: &Plan<'_>, request: &Request) -> Played {
    let mut played = Played::default();
    let n = plan.cluster.actions.len();
    let mut done = vec![false; n];
    let mut fired = vec![false; plan.graph.synapses.len()];
    let mut stopped = false;
    loop {
        let mut wave = Vec::new();
        for (i, synapse) in plan.graph.synapses.iter().enumerate() {
            if !fired[i] && synapse.inputs.iter().all(|a| done[a.position()]) {
                wave.push(i);
            }
        }
        if wave.is_empty() || stopped {
            break;
        }
        for i in wave {
            fired[i] = true;
            let action = plan.graph.synapses[i].action;
            if carry_out(&plan.cluster, action, request, &mut played) {
                done[action.position()] = true;
            } else {
                played.failed = true;
                stopped = true;
            }
        }
    }
    played
}

/// Carries one action out. Whether it succeeded.
fn carry_out(c: &Cluster<'_>, ix: ActIx, request: &Request, played: &mut Played) -> bool {
    let a = &c.actions[ix];
    let node = c.node_name(a.node).to_owned();
    if a.pseudo {
        let place = if a.task == Task::Fence { format!(" on {node}") } else { String::new() };
        let _ = writeln!(played.text, "  * Pseudo action:   {}{place}", a.key);
        return true;
    }
    match a.task {
        Task::Fence => {
            let op = a
                .meta
                .iter()
                .find(|(k, _)| k == "stonith_action")
                .map_or("reboot", |(_, v)| v.as_str());
            let _ = writeln!(played.text, "  * Fencing {node} ({op})");
            let edit = if op == "on" { Edit::Unfenced { node } } else { Edit::Fenced { node } };
            played.edits.push(edit);
            true
        }
        Task::Shutdown => {
            let _ = writeln!(played.text, "  * Cluster action:  do_shutdown on {node}");
            true
        }
        Task::ClearFailcount => {
            let rsc = a.rsc.map_or("", |r| c.rscs[r].id.as_str());
            let _ =
                writeln!(played.text, "  * Cluster action:  clear_failcount for {rsc} on {node}");
            true
        }
        Task::ForgetHistory => {
            let Some(rsc) = a.rsc else { return true };
            let _ = writeln!(
                played.text,
                "  * Cluster action:  lrm_delete for {} on {node}",
                c.rscs[rsc].id
            );
            let instance = c.rscs[rsc].id.clone();
            played.edits.push(Edit::Forget { node, rsc: history_id(c, rsc, a.node), instance });
            true
        }
        Task::Delete => {
            let Some(rsc) = a.rsc else { return true };
            let _ = writeln!(
                played.text,
                "  * Resource action: {:<15} delete on {node}",
                history_id(c, rsc, a.node)
            );
            let instance = c.rscs[rsc].id.clone();
            played.edits.push(Edit::Forget { node, rsc: history_id(c, rsc, a.node), instance });
            true
        }
        Task::Cancel => {
            let Some(rsc) = a.rsc else { return true };
            let interval =
                a.meta.iter().find(|(k, _)| k == "interval").map_or("0", |(_, v)| v.as_str());
            let _ = writeln!(
                played.text,
                "  * Resource action: {:<15} cancel={interval} on {node}",
                history_id(c, rsc, a.node)
            );
            true
        }
        _ => carry_out_operation(c, ix, request, played),
    }
}

/// The name by which a resource goes in the history of a node.
fn history_id(
    c: &Cluster<'_>,
    rsc: crate::arena::RscIx,
    node: Option<crate::arena::NodeIx>,
) -> String {
    if let Some(id) = c.rscs[rsc].history_name {
        return id.to_owned();
    }
    if c.rscs[rsc].running_on.iter().any(|n| Some(*n) == node)
        && c.rscs[rsc]
            .history
            .iter()
            .any(|(n, x)| Some(*n) == node && x.id() == Some(&c.rscs[rsc].id))
    {
        return c.rscs[rsc].id.clone();
    }
    if c.anonymous(rsc) { c.rscs[rsc].base.to_owned() } else { c.rscs[rsc].id.clone() }
}

fn carry_out_operation(c: &Cluster<'_>, ix: ActIx, request: &Request, played: &mut Played) -> bool {
    let a = &c.actions[ix];
    let Some(rsc) = a.rsc else { return true };
    let r = &c.rscs[rsc];
    let node = c.node_name(a.node);
    let word = a.task.word();
    let name = history_id(c, rsc, a.node);
    if a.interval > 0 {
        let _ = writeln!(
            played.text,
            "  * Resource action: {name:<15} {word}={} on {node}",
            a.interval
        );
    } else {
        let _ = writeln!(played.text, "  * Resource action: {name:<15} {word} on {node}");
    }
    if a.task == Task::Notify {
        return true;
    }
    let target = a.target_rc.unwrap_or(0);
    let mut record = make_record(c, ix, target);
    let wanted = [
        format!("{}_{word}_{}@{node}=", r.id, a.interval),
        format!("{}_{word}_{}@{node}=", r.base, a.interval),
    ];
    let failure = request.op_fail.iter().find_map(|spec| {
        wanted
            .iter()
            .find_map(|w| spec.strip_prefix(w.as_str()))
            .and_then(|rc| rc.parse::<i32>().ok())
    });
    if let Some(rc) = failure {
        record.rc = rc;
        let _ = writeln!(
            played.text,
            "    Pretending action {} failed with rc={rc}",
            ix.position() + 1
        );
        played.edits.push(Edit::CountFailure {
            node: node.to_owned(),
            rsc: record.rsc.clone(),
            op: format!("{word}_{}", a.interval),
            now: c.now.epoch(),
        });
    }
    played.edits.push(Edit::Record(Box::new(record)));
    failure.is_none()
}

fn make_record(c: &Cluster<'_>, ix: ActIx, rc: i32) -> Record {
    let a = &c.actions[ix];
    let rsc = a.rsc.expect("an operation has a resource");
    let r = &c.rscs[rsc];
    let node = a.node.expect("an operation runs on a node");
    let n = &c.nodes[node];
    let mut extra = Vec::new();
    for (k, v) in &a.meta {
        if k == "migrate_source" || k == "migrate_target" {
            extra.push((k.to_string(), v.clone()));
        }
    }
    let params = c.digest_parameters(rsc, node, a.task.word(), a.interval);
    Record {
        node: n.name.to_string(),
        node_id: n.id.to_string(),
        remote: n.kind != NodeKind::Member,
        rsc: history_id(c, rsc, a.node),
        instance: history_id(c, rsc, a.node),
        class: r.class.to_owned(),
        provider: r.provider.to_owned(),
        agent: r.agent.to_owned(),
        container: r.container.map(|x| c.rscs[x].id.clone()),
        // A reload stands in the history as the start that it makes up for.
        task: if a.task == Task::Reload { "start" } else { a.task.word() }.to_owned(),
        interval: a.interval,
        rc,
        target_rc: a.target_rc.unwrap_or(0),
        extra,
        digest: Some(crate::actions::params::digest(&params)),
        now: c.now.epoch(),
    }
}

/// Where things stand in the status of a document, found once.
#[derive(Default)]
struct Places {
    states: HashMap<String, NodeId>,
    resources: HashMap<(String, String), NodeId>,
    lists: HashMap<String, NodeId>,
    calls: HashMap<String, i64>,
}

impl Played {
    /// Writes what was played into the status.
    pub(crate) fn write_into(&self, doc: &mut Document) {
        write_edits(doc, &self.edits);
    }
}

/// Writes changes into the status.
pub(crate) fn write_edits(doc: &mut Document, edits: &[Edit]) {
    let status = if let Some(s) = doc.root().child("status") {
        s.node_id()
    } else {
        let root = doc.root().node_id();
        doc.create(root, "status")
    };
    let mut places = Places::default();
    for edit in edits {
        match edit {
            Edit::Record(record) => write_record(doc, status, &mut places, record),
            Edit::Fenced { node } => write_fenced(doc, status, &mut places, node),
            Edit::Unfenced { node } => {
                if let Some(state) = find_state(doc, status, &mut places, node) {
                    let set = attribute_set(doc, state);
                    set_attribute(doc, set, "#node-unfenced", "1");
                }
            }
            Edit::Forget { node, rsc, instance } => {
                if let Some(found) = find_resource(doc, status, &mut places, node, (rsc, instance))
                {
                    doc.remove(found);
                    places.resources.retain(|_, r| *r != found);
                }
            }
            Edit::CountFailure { node, rsc, op, now } => {
                if let Some(state) = find_state(doc, status, &mut places, node) {
                    let set = attribute_set(doc, state);
                    let value = if op.starts_with("start") || op.starts_with("stop") {
                        "INFINITY"
                    } else {
                        "1"
                    };
                    set_attribute(doc, set, &format!("fail-count-{rsc}#{op}"), value);
                    set_attribute(doc, set, &format!("last-failure-{rsc}#{op}"), &now.to_string());
                }
            }
        }
    }
}

fn find_state(doc: &Document, status: NodeId, places: &mut Places, node: &str) -> Option<NodeId> {
    if let Some(found) = places.states.get(node) {
        return Some(*found);
    }
    let found = doc
        .element(status)
        .children_named("node_state")
        .find(|s| match s.attr("uname") {
            Some(name) => name == node,
            None => s.id() == Some(&node_id_of(doc, node)),
        })
        .map(tierce_cib::xml::Element::node_id)?;
    places.states.insert(node.to_owned(), found);
    Some(found)
}

fn resource_list(
    doc: &mut Document,
    status: NodeId,
    places: &mut Places,
    record: &Record,
) -> NodeId {
    if let Some(list) = places.lists.get(&record.node) {
        return *list;
    }
    let state = find_state(doc, status, places, &record.node).unwrap_or_else(|| {
        let state = doc.create(status, "node_state");
        doc.set(state, "id", &record.node_id);
        doc.set(state, "uname", &record.node);
        if record.remote {
            doc.set(state, "remote_node", "true");
        }
        places.states.insert(record.node.clone(), state);
        state
    });
    let lrm =
        if let Some(l) = doc.element(state).child("lrm").map(tierce_cib::xml::Element::node_id) {
            l
        } else {
            let l = doc.create(state, "lrm");
            doc.set(l, "id", &record.node_id);
            l
        };
    let list = match doc.element(lrm).child("lrm_resources").map(tierce_cib::xml::Element::node_id)
    {
        Some(l) => l,
        None => doc.create(lrm, "lrm_resources"),
    };
    places.lists.insert(record.node.clone(), list);
    let entries: Vec<(String, NodeId)> = doc
        .element(list)
        .children_named("lrm_resource")
        .filter_map(|r| r.id().map(|id| (id.to_owned(), r.node_id())))
        .collect();
    for (id, found) in entries {
        places.resources.entry((record.node.clone(), id)).or_insert(found);
    }
    list
}

/// The history of a resource on a node: old ones go by the name of the instance, newer ones without its number.
fn find_resource(
    doc: &Document,
    status: NodeId,
    places: &mut Places,
    node: &str,
    (rsc, instance): (&str, &str),
) -> Option<NodeId> {
    for name in [instance, rsc] {
        if let Some(found) = places.resources.get(&(node.to_owned(), name.to_owned())) {
            return Some(*found);
        }
    }
    let state = find_state(doc, status, places, node)?;
    let find = |name: &str| {
        doc.element(state)
            .children_named("lrm")
            .flat_map(|l| l.children_named("lrm_resources"))
            .flat_map(|l| l.children_named("lrm_resource"))
            // Of several by one name the last is the one that is written to.
            .filter(|r| r.id() == Some(name))
            .last()
            .map(tierce_cib::xml::Element::node_id)
    };
    find(instance).or_else(|| find(rsc))
}

fn write_record(doc: &mut Document, status: NodeId, places: &mut Places, record: &Record) {
    let list = resource_list(doc, status, places, record);
    let found = find_resource(doc, status, places, &record.node, (&record.rsc, &record.instance));
    let entry = found.unwrap_or_else(|| {
        let entry = doc.create(list, "lrm_resource");
        doc.set(entry, "id", &record.rsc);
        doc.set(entry, "class", &record.class);
        if !record.provider.is_empty() {
            doc.set(entry, "provider", &record.provider);
        }
        doc.set(entry, "type", &record.agent);
        if let Some(container) = &record.container {
            doc.set(entry, "container", container);
        }
        entry
    });
    if found.is_none() {
        places.resources.insert((record.node.clone(), record.rsc.clone()), entry);
    }
    let key = format!("{}_{}_{}", record.rsc, record.task, record.interval);
    let failed = record.rc != record.target_rc;
    let id = if failed && record.task != "stop" && record.interval > 0
        || failed && record.task == "monitor"
    {
        format!("{}_last_failure_0", record.rsc)
    } else if record.interval == 0 && record.task != "monitor" {
        format!("{}_last_0", record.rsc)
    } else {
        key.clone()
    };
    let last = doc
        .element(entry)
        .children()
        .filter_map(|o| o.attr("call-id").and_then(tierce_cib::values::leading_integer))
        .max()
        .unwrap_or(0);
    let call = places.calls.entry(record.node.clone()).or_insert(0);
    *call = (*call).max(last) + 1;
    let call = *call;
    // An older entry of the same name gives way.
    let old: Vec<NodeId> = doc
        .element(entry)
        .children_named("lrm_rsc_op")
        .filter(|o| {
            o.id() == Some(&id)
                || (o.attr("operation") == Some(&record.task)
                    && !o.id().is_some_and(|id| id.ends_with("_last_failure_0"))
                    && o.attr("interval").and_then(tierce_cib::values::leading_integer)
                        == Some(record.interval.cast_signed()))
        })
        .map(tierce_cib::xml::Element::node_id)
        .collect();
    for o in old {
        doc.remove(o);
    }
    let op = doc.create(entry, "lrm_rsc_op");
    doc.set(op, "id", &id);
    doc.set(op, "operation_key", &key);
    doc.set(op, "operation", &record.task);
    let key = format!("-1:0:{}:xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx", record.target_rc);
    let status_word =
        if failed && !(record.task == "monitor" && record.interval == 0) { "4" } else { "0" };
    doc.set(op, "transition-key", &key);
    doc.set(op, "transition-magic", &format!("{status_word}:{};{key}", record.rc));
    doc.set(op, "call-id", &call.to_string());
    doc.set(op, "rc-code", &record.rc.to_string());
    doc.set(op, "op-status", status_word);
    doc.set(op, "interval", &record.interval.to_string());
    doc.set(op, "last-rc-change", &record.now.to_string());
    if let Some(digest) = &record.digest {
        doc.set(op, "op-digest", digest);
    }
    doc.set(op, "on_node", &record.node);
    for (k, v) in &record.extra {
        doc.set(op, k, v);
    }
}

fn write_fenced(doc: &mut Document, status: NodeId, places: &mut Places, node: &str) {
    let Some(state) = find_state(doc, status, places, node) else {
        let state = doc.create(status, "node_state");
        let id = node_id_of(doc, node);
        doc.set(state, "id", &id);
        doc.set(state, "uname", node);
        set_down(doc, state);
        return;
    };
    let gone: Vec<NodeId> = doc
        .element(state)
        .children()
        .filter(|c| matches!(c.name(), "lrm" | "transient_attributes"))
        .map(tierce_cib::xml::Element::node_id)
        .collect();
    for g in gone {
        doc.remove(g);
    }
    places.lists.remove(node);
    places.resources.retain(|(n, _), _| n != node);
    set_down(doc, state);
}

fn node_id_of(doc: &Document, name: &str) -> String {
    let nodes = doc.root().child("configuration").and_then(|c| c.child("nodes"));
    nodes
        .iter()
        .flat_map(|n| n.children_named("node"))
        .find(|n| n.attr("uname") == Some(name))
        .and_then(tierce_cib::xml::Element::id)
        .unwrap_or(name)
        .to_owned()
}

pub(crate) fn set_down(doc: &mut Document, state: NodeId) {
    let remote = doc.element(state).attr("remote_node").is_some();
    doc.set(state, "in_ccm", "false");
    doc.set(state, "crmd", "offline");
    doc.set(state, "join", "down");
    doc.set(state, "expected", "down");
    if remote {
        doc.set(state, "node_fenced", "1");
    }
}

/// The set of transient attributes of a node, made if it is not there.
pub(crate) fn attribute_set(doc: &mut Document, state: NodeId) -> NodeId {
    let holder = if let Some(h) =
        doc.element(state).child("transient_attributes").map(tierce_cib::xml::Element::node_id)
    {
        h
    } else {
        let id = doc.element(state).id().unwrap_or("").to_owned();
        let h = doc.create(state, "transient_attributes");
        doc.set(h, "id", &id);
        h
    };
    if let Some(s) =
        doc.element(holder).child("instance_attributes").map(tierce_cib::xml::Element::node_id)
    {
        s
    } else {
        let id = format!("status-{}", doc.element(holder).id().unwrap_or(""));
        let s = doc.create(holder, "instance_attributes");
        doc.set(s, "id", &id);
        s
    }
}

/// Sets one attribute in a set.
pub(crate) fn set_attribute(doc: &mut Document, set: NodeId, name: &str, value: &str) {
    let found = doc
        .element(set)
        .children_named("nvpair")
        .find(|p| p.attr("name") == Some(name))
        .map(tierce_cib::xml::Element::node_id);
    let pair = found.unwrap_or_else(|| {
        let id = format!("{}-{name}", doc.element(set).id().unwrap_or(""));
        let p = doc.create(set, "nvpair");
        doc.set(p, "id", &id);
        doc.set(p, "name", name);
        p
    });
    doc.set(pair, "value", value);
}
