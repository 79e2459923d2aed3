//! Synthetic events: quorum, watchdog, tickets, nodes and results that are put into the document before scheduling.

use std::fmt::Write as _;

use tierce_cib::xml::{Document, NodeId};

use super::options::Request;
use super::play::{self, Edit, Record};
use crate::Error;

/// Applies the events of a request. The text names each.
pub(crate) fn apply(doc: &mut Document, request: &Request) -> Result<String, Error> {
    let mut text = String::new();
    let root = doc.root().node_id();
    if let Some(quorum) = &request.quorum {
        let _ = writeln!(text, "  * Setting quorum: {quorum}");
        doc.set(root, "have-quorum", quorum);
    }
    if let Some(watchdog) = &request.watchdog {
        let _ = writeln!(text, "  * Setting watchdog: {watchdog}");
        set_option(doc, "have-watchdog", watchdog);
    }
    for node in &request.up {
        let _ = writeln!(text, "  * Bringing node {node} online");
        let state = node_state(doc, node)?;
        for (k, v) in
            [("in_ccm", "true"), ("crmd", "online"), ("join", "member"), ("expected", "member")]
        {
            doc.set(state, k, v);
        }
    }
    for node in &request.down {
        let _ = writeln!(text, "  * Taking node {node} offline");
        let state = node_state(doc, node)?;
        play::set_down(doc, state);
        let lrm: Vec<NodeId> = doc
            .element(state)
            .children_named("lrm")
            .map(tierce_cib::xml::Element::node_id)
            .collect();
        for l in lrm {
            doc.remove(l);
        }
    }
    for node in &request.fail {
        let _ = writeln!(text, "  * Failing node {node}");
        let state = node_state(doc, node)?;
        doc.set(state, "in_ccm", "false");
    }
    for (list, verb, attribute, value) in [
        (&request.grant, "Granting ticket", "granted", "true"),
        (&request.revoke, "Revoking ticket", "granted", "false"),
        (&request.standby, "Making ticket standby:", "standby", "true"),
        (&request.activate, "Activating ticket", "standby", "false"),
    ] {
        for ticket in list {
            let _ = writeln!(text, "  * {verb} {ticket}");
            set_ticket(doc, ticket, attribute, value);
        }
    }
    for spec in &request.inject {
        inject_result(doc, spec, &mut text)?;
    }
    Ok(text)
}

fn set_option(doc: &mut Document, name: &str, value: &str) {
    let root = doc.root().node_id();
    let configuration = child(doc, root, "configuration");
    let config = child(doc, configuration, "crm_config");
    let set = child(doc, config, "cluster_property_set");
    play::set_attribute(doc, set, name, value);
}

fn child(doc: &mut Document, parent: NodeId, name: &str) -> NodeId {
    match doc.element(parent).child(name).map(tierce_cib::xml::Element::node_id) {
        Some(c) => c,
        None => doc.create(parent, name),
    }
}

fn set_ticket(doc: &mut Document, ticket: &str, attribute: &str, value: &str) {
    let root = doc.root().node_id();
    let status = child(doc, root, "status");
    let tickets = child(doc, status, "tickets");
    let found = doc
        .element(tickets)
        .children_named("ticket_state")
        .find(|t| t.id() == Some(ticket))
        .map(tierce_cib::xml::Element::node_id);
    let state = found.unwrap_or_else(|| {
        let t = doc.create(tickets, "ticket_state");
        doc.set(t, "id", ticket);
        t
    });
    doc.set(state, attribute, value);
}

fn node_state(doc: &mut Document, node: &str) -> Result<NodeId, Error> {
    let root = doc.root().node_id();
    let status = child(doc, root, "status");
    let found = doc
        .element(status)
        .children_named("node_state")
        .find(|s| s.attr("uname") == Some(node) || s.id() == Some(node))
        .map(tierce_cib::xml::Element::node_id);
    if let Some(state) = found {
        return Ok(state);
    }
    let nodes = doc.root().child("configuration").and_then(|c| c.child("nodes"));
    let known = nodes
        .iter()
        .flat_map(|n| n.children_named("node"))
        .find(|n| n.attr("uname") == Some(node))
        .and_then(tierce_cib::xml::Element::id)
        .map(str::to_owned);
    let Some(id) = known else {
        return Err(Error::Invalid { what: "no such node".into(), place: format!("node {node}") });
    };
    let state = doc.create(status, "node_state");
    doc.set(state, "id", &id);
    doc.set(state, "uname", node);
    Ok(state)
}

/// `RSC_TASK_INTERVAL@NODE=RC`.
fn inject_result(doc: &mut Document, spec: &str, text: &mut String) -> Result<(), Error> {
    let bad = || Error::Invalid {
        what: "not of the form RSC_TASK_INTERVAL@NODE=RC".into(),
        place: format!("op-inject {spec}"),
    };
    let (key, rest) = spec.split_once('@').ok_or_else(bad)?;
    let (node, rc) = rest.split_once('=').ok_or_else(bad)?;
    let rc: i32 = rc.parse().map_err(|_| bad())?;
    let (head, interval) = key.rsplit_once('_').ok_or_else(bad)?;
    let interval: u64 = interval.parse().map_err(|_| bad())?;
    let tasks =
        ["_migrate_to", "_migrate_from", "_start", "_stop", "_monitor", "_promote", "_demote"];
    let (rsc, task) = tasks
        .iter()
        .find_map(|t| head.strip_suffix(t).map(|r| (r, t.trim_start_matches('_'))))
        .ok_or_else(bad)?;
    node_state(doc, node)?;
    let base = crate::unpack::fail_count::base_name(rsc);
    let found =
        doc.root().child("configuration").and_then(|c| c.child("resources")).and_then(|r| {
            r.descendants()
                .find(|e| e.name() == "primitive" && (e.id() == Some(rsc) || e.id() == Some(base)))
        });
    let Some(primitive) = found else {
        return Err(Error::Invalid {
            what: "no such resource".into(),
            place: format!("op-inject {spec}"),
        });
    };
    let word = |name: &str| primitive.attr(name).unwrap_or("").to_owned();
    let record = Record {
        node: node.to_owned(),
        node_id: node.to_owned(),
        remote: false,
        rsc: primitive.id().unwrap_or(rsc).to_owned(),
        instance: rsc.to_owned(),
        class: word("class"),
        provider: word("provider"),
        agent: word("type"),
        container: None,
        task: task.to_owned(),
        interval,
        rc,
        target_rc: 0,
        extra: Vec::new(),
        digest: None,
        now: 0,
    };
    let _ = writeln!(text, "  * Injecting {key}@{node}={rc} into the configuration");
    let fail = Edit::CountFailure {
        node: node.to_owned(),
        rsc: record.rsc.clone(),
        op: format!("{task}_{interval}"),
        now: 0,
    };
    let mut edits = vec![Edit::Record(Box::new(record))];
    if rc != 0 && !(task == "monitor" && interval == 0 && rc == 7) {
        edits.push(fail);
    }
    play::write_edits(doc, &edits);
    Ok(())
}
