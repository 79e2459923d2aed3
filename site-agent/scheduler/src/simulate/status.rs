//! The status as text: nodes, then resources.

use std::fmt::Write as _;

use super::options::Request;
use super::{extras, resources};
use crate::arena::NodeIx;
use crate::cluster::Cluster;
use crate::model::{Health, Kind, NodeKind};

/// The whole block under a heading.
pub(crate) fn render(c: &Cluster<'_>, title: &str, request: &Request) -> String {
    let mut out = String::new();
    let (total, disabled, blocked) = counts(c);
    if !title.starts_with('\n') && (disabled > 0 || blocked > 0) {
        let _ = writeln!(
            out,
            "{disabled} of {total} resource instances DISABLED and {blocked} BLOCKED from further action due to failure\n"
        );
    }
    let _ = writeln!(out, "{title}\n  * Node List:");
    nodes(c, &mut out);
    out.push_str("\n  * Full List of Resources:\n");
    for rsc in &c.top {
        resources::render(c, *rsc, 2, &mut out);
    }
    extras::render(c, request, &mut out);
    out
}

fn counts(c: &Cluster<'_>) -> (usize, usize, usize) {
    let (mut total, mut disabled, mut blocked) = (0, 0, 0);
    for rsc in c.rscs.keys() {
        let r = &c.rscs[rsc];
        if r.kind != Kind::Primitive {
            continue;
        }
        total += 1;
        if resources::disabled(c, rsc) {
            disabled += 1;
        }
        if r.blocked {
            blocked += 1;
        }
    }
    (total, disabled, blocked)
}

fn nodes(c: &Cluster<'_>, out: &mut String) {
    let (mut online, mut offline) = (Vec::new(), Vec::new());
    let (mut remote_on, mut remote_off, mut guest_on) = (Vec::new(), Vec::new(), Vec::new());
    let mut special = String::new();
    for node in c.nodes.keys() {
        let n = &c.nodes[node];
        let word = state(c, node);
        let name = n.name.as_ref();
        match (word.as_str(), n.kind) {
            ("online", NodeKind::Member) => online.push(name),
            ("online", NodeKind::Remote) => remote_on.push(name),
            ("online", NodeKind::Guest) => guest_on.push(name),
            ("OFFLINE", NodeKind::Member) => offline.push(name),
            ("OFFLINE", NodeKind::Remote) => remote_off.push(name),
            (_, NodeKind::Guest) if !n.online && !n.unclean => {}
            (word, NodeKind::Member) => {
                let _ = writeln!(special, "    * Node {name}: {word}");
            }
            (word, NodeKind::Remote) => {
                let _ = writeln!(special, "    * RemoteNode {name}: {word}");
            }
            (word, NodeKind::Guest) => {
                let _ = writeln!(special, "    * GuestNode {name}: {word}");
            }
        }
    }
    out.push_str(&special);
    for (word, list) in [
        ("Online", online),
        ("OFFLINE", offline),
        ("RemoteOnline", remote_on),
        ("RemoteOFFLINE", remote_off),
        ("GuestOnline", guest_on),
    ] {
        if !list.is_empty() {
            let _ = writeln!(out, "    * {word}: [ {} ]", list.join(" "));
        }
    }
}

pub(super) fn state(c: &Cluster<'_>, node: NodeIx) -> String {
    let n = &c.nodes[node];
    let active = !n.running.is_empty();
    let base = if n.unclean {
        if n.online {
            "UNCLEAN (online)"
        } else if n.pending {
            "UNCLEAN (pending)"
        } else {
            "UNCLEAN (offline)"
        }
    } else if n.pending {
        "pending"
    } else if n.standby_on_fail && n.online {
        "standby (on-fail)"
    } else if n.standby {
        match (n.online, active) {
            (true, true) => "standby (with active resources)",
            (true, false) => "standby",
            (false, _) => "OFFLINE (standby)",
        }
    } else if n.maintenance {
        if n.online { "maintenance" } else { "OFFLINE (maintenance)" }
    } else if n.online {
        "online"
    } else {
        "OFFLINE"
    };
    match n.health {
        Health::Red => format!("{base} (health is RED)"),
        Health::Yellow => format!("{base} (health is YELLOW)"),
        Health::Green => base.to_owned(),
    }
}
