//! Random CIBs with a status that fits them: what a cluster could look like.
//!
//! Drawn first as a small model (nodes, resources, where each runs), then written as XML, so that a
//! history agrees with itself: what runs was probed and started, what failed has its fail count.
//! Each feature has its weight; most CIBs have few of them, so that a disagreement points somewhere.
//!
//! The peer is of an older feature set: option names and schema are those that both know
//! (`stonith-*`, pacemaker-3.9).
//!
//! Reading order: `shape` (nodes and resources) → `constraint` → `history` (status) → here.

mod constraint;
mod history;
mod shape;

use std::fmt::Write as _;

use crate::draw::Draw;
use shape::{Cluster, Node, Resource, Variant};

/// Which kinds of feature may be drawn, as the tiers of the cases: 1 primitives, 2 with groups and
/// clones, 3 with promotable clones, sets, templates, tags, rules, maintenance, migration,
/// utilization and health.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tier(pub(crate) u8);

/// A CIB. The same seed and tier make the same.
pub(crate) fn cib(seed: u64, tier: Tier) -> String {
    let mut draw = Draw::new(seed);
    let d = &mut draw;
    let cluster = shape::draw(d, tier);
    let quorum = d.percent(88);
    let mut out = String::new();
    let dc = cluster.nodes.iter().find(|n| n.state.is_member()).map_or("", |n| n.id.as_str());
    let _ = write!(
        out,
        r#"<cib crm_feature_set="3.16.1" validate-with="pacemaker-3.9" admin_epoch="0" epoch="5" num_updates="2" have-quorum="{}" dc-uuid="{dc}" execution-date="1700000000"><configuration>"#,
        u8::from(quorum),
    );
    options(d, tier, &mut out);
    nodes(&cluster, &mut out);
    out.push_str("<resources>");
    for template in &cluster.templates {
        let _ = write!(
            out,
            r#"<template id="{template}" class="ocf" provider="pacemaker" type="Dummy"><operations><op id="{template}-m" name="monitor" interval="10s" timeout="20s"/></operations></template>"#
        );
    }
    for r in &cluster.resources {
        resource(r, &mut out);
    }
    out.push_str("</resources><constraints>");
    let tickets = constraint::draw(d, tier, &cluster, &mut out);
    out.push_str("</constraints>");
    defaults(d, &mut out);
    tags(&cluster, &mut out);
    out.push_str("</configuration><status>");
    history::write(d, &cluster, &mut out);
    if !tickets.is_empty() {
        out.push_str("<tickets>");
        for t in &tickets {
            ticket(d, t, &mut out);
        }
        out.push_str("</tickets>");
    }
    out.push_str("</status></cib>");
    out
}

fn options(d: &mut Draw, tier: Tier, out: &mut String) {
    out.push_str(r#"<crm_config><cluster_property_set id="opts">"#);
    let mut set = |name: &str, value: &str| pair(out, "opts", name, value);
    set("stonith-enabled", if d.percent(75) { "true" } else { "false" });
    // The default of newer releases; the peer's is to fence one after the other.
    set("concurrent-fencing", "true");
    let policies = [(40, "ignore"), (30, "stop"), (10, "freeze"), (5, "demote"), (15, "")];
    let policy = d.weighted(&policies);
    if !policy.is_empty() {
        set("no-quorum-policy", policy);
    }
    let rare: &[(u64, &str, &[&str])] = &[
        (10, "symmetric-cluster", &["false"]),
        (3, "stop-all-resources", &["true"]),
        (8, "start-failure-is-fatal", &["false"]),
        (5, "startup-fencing", &["false"]),
        (5, "stonith-action", &["off", "reboot"]),
        (4, "enable-startup-probes", &["false"]),
        (3, "stop-orphan-resources", &["false"]),
        (3, "stop-orphan-actions", &["false"]),
        (3, "priority-fencing-delay", &["5s"]),
    ];
    for (percent, name, values) in rare {
        if d.percent(*percent) {
            set(name, d.one(values));
        }
    }
    if tier.0 >= 3 {
        let rare: &[(u64, &str, &[&str])] = &[
            (5, "maintenance-mode", &["true"]),
            (10, "placement-strategy", &["utilization", "balanced", "minimal"]),
            (6, "node-health-strategy", &["only-green", "migrate-on-red", "progressive", "custom"]),
        ];
        for (percent, name, values) in rare {
            if d.percent(*percent) {
                set(name, d.one(values));
            }
        }
    }
    out.push_str("</cluster_property_set></crm_config>");
}

fn nodes(cluster: &Cluster, out: &mut String) {
    out.push_str("<nodes>");
    for Node { id, name, attributes, capacity, .. } in &cluster.nodes {
        let _ = write!(out, r#"<node id="{id}" uname="{name}">"#);
        if !attributes.is_empty() {
            let set = format!("{name}-a");
            let _ = write!(out, r#"<instance_attributes id="{set}">"#);
            for (n, v) in attributes {
                pair(out, &set, n, v);
            }
            out.push_str("</instance_attributes>");
        }
        if let Some(capacity) = capacity {
            let set = format!("{name}-u");
            let _ = write!(out, r#"<utilization id="{set}">"#);
            pair(out, &set, "cpu", &capacity.to_string());
            out.push_str("</utilization>");
        }
        out.push_str("</node>");
    }
    out.push_str("</nodes>");
}

fn resource(r: &Resource, out: &mut String) {
    let Resource { id, meta, .. } = r;
    match &r.variant {
        Variant::Primitive(p) => {
            if let Some(template) = &p.template {
                let _ = write!(out, r#"<primitive id="{id}" template="{template}">"#);
            } else if p.fencing {
                let _ = write!(out, r#"<primitive id="{id}" class="stonith" type="fence_xvm">"#);
            } else {
                let kind = if p.stateful { "Stateful" } else { "Dummy" };
                let _ = write!(
                    out,
                    r#"<primitive id="{id}" class="ocf" provider="pacemaker" type="{kind}">"#
                );
            }
            metas(id, meta, out);
            if let Some(cpu) = p.cpu {
                let set = format!("{id}-u");
                let _ = write!(out, r#"<utilization id="{set}">"#);
                pair(out, &set, "cpu", &cpu.to_string());
                out.push_str("</utilization>");
            }
            if !p.operations.is_empty() {
                out.push_str("<operations>");
                for o in &p.operations {
                    let _ = write!(
                        out,
                        r#"<op id="{id}-{}-{}" name="{}" interval="{}""#,
                        o.name,
                        o.seconds,
                        o.name,
                        o.interval()
                    );
                    o.others.iter().for_each(|(n, v)| {
                        let _ = write!(out, r#" {n}="{v}""#);
                    });
                    out.push_str("/>");
                }
                out.push_str("</operations>");
            }
            out.push_str("</primitive>");
        }
        Variant::Group(members) => {
            let _ = write!(out, r#"<group id="{id}">"#);
            metas(id, meta, out);
            for m in members {
                resource(m, out);
            }
            out.push_str("</group>");
        }
        Variant::Clone(inner) => {
            let _ = write!(out, r#"<clone id="{id}">"#);
            metas(id, meta, out);
            resource(inner, out);
            out.push_str("</clone>");
        }
    }
}

fn metas(id: &str, meta: &[(&str, String)], out: &mut String) {
    if !meta.is_empty() {
        let set = format!("{id}-meta");
        let _ = write!(out, r#"<meta_attributes id="{set}">"#);
        for (n, v) in meta {
            pair(out, &set, n, v);
        }
        out.push_str("</meta_attributes>");
    }
}

fn defaults(d: &mut Draw, out: &mut String) {
    if d.percent(25) {
        out.push_str(r#"<rsc_defaults><meta_attributes id="rd">"#);
        pair(out, "rd", "resource-stickiness", d.one(&["1", "100", "INFINITY"]));
        if d.percent(30) {
            pair(out, "rd", "migration-threshold", d.one(&["1", "3"]));
        }
        out.push_str("</meta_attributes></rsc_defaults>");
    }
}

fn tags(cluster: &Cluster, out: &mut String) {
    if cluster.tags.is_empty() {
        return;
    }
    out.push_str("<tags>");
    for (tag, of) in &cluster.tags {
        let _ = write!(out, r#"<tag id="{tag}">"#);
        for r in of {
            let _ = write!(out, r#"<obj_ref id="{r}"/>"#);
        }
        out.push_str("</tag>");
    }
    out.push_str("</tags>");
}

fn ticket(d: &mut Draw, name: &str, out: &mut String) {
    if d.percent(15) {
        return; // never heard of: not granted
    }
    let granted = d.percent(50);
    let _ = write!(out, r#"<ticket_state id="{name}" granted="{granted}""#);
    if granted || d.percent(50) {
        out.push_str(r#" last-granted="1699990000""#);
    }
    if d.percent(20) {
        out.push_str(r#" standby="true""#);
    }
    out.push_str("/>");
}

/// A name and a value in a set.
fn pair(out: &mut String, set: &str, name: &str, value: &str) {
    let id = name.trim_start_matches('#');
    let _ = write!(out, r#"<nvpair id="{set}-{id}" name="{name}" value="{value}"/>"#);
}

#[cfg(test)]
mod tests {
    use super::*;
    use tierce_cib::xml::Document;

    #[test]
    fn every_seed_makes_a_document_with_unique_ids_and_the_same_one_again() {
        for seed in 0..300 {
            let tier = Tier((seed % 3 + 1) as u8);
            let text = cib(seed, tier);
            let document = Document::parse(text.clone()).unwrap_or_else(|e| panic!("{seed}: {e}"));
            let configuration = document.root().child("configuration").expect("it has one");
            let mut ids: Vec<_> = configuration
                .descendants()
                .filter(|e| e.name() != "obj_ref" && e.name() != "resource_ref")
                .filter_map(tierce_cib::xml::Element::id)
                .collect();
            let before = ids.len();
            ids.sort_unstable();
            ids.dedup();
            assert_eq!(ids.len(), before, "seed {seed}: an id stands twice\n{text}");
            assert_eq!(cib(seed, tier), text);
        }
    }

    #[test]
    fn members_are_there_to_decide() {
        for seed in 0..100 {
            let c = shape::draw(&mut Draw::new(seed), Tier(3));
            assert!(c.nodes.iter().any(|n| n.state == shape::State::Online), "seed {seed}");
        }
    }
}
