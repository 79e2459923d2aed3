//! Resources as text: one line each, and short lists for the instances of clones that are like each other.

mod bundle;

use std::fmt::Write as _;

use tierce_cib::values;

use crate::arena::{NodeIx, RscIx};
use crate::cluster::Cluster;
use crate::model::{Kind, Role};
use crate::unpack::nodes::natural;

/// Whether `target-role` keeps a resource from its full role.
pub(crate) fn disabled(c: &Cluster<'_>, rsc: RscIx) -> bool {
    let r = &c.rscs[rsc];
    match r.meta.get("target-role").and_then(Role::parse) {
        Some(Role::Stopped) => true,
        Some(Role::Unpromoted) => c.promotable(rsc),
        _ => false,
    }
}

/// Writes a resource, indented.
pub(crate) fn render(c: &Cluster<'_>, rsc: RscIx, depth: usize, out: &mut String) {
    let r = &c.rscs[rsc];
    match r.kind {
        Kind::Primitive => {
            let gone = r.removed && r.running_on.is_empty() && r.role <= Role::Stopped;
            if gone || crate::implied::is_implied(r.xml) && !r.removed {
                return;
            }
            line(c, rsc, depth, out);
        }
        Kind::Group => {
            let words = flags(&[
                (disabled(c, rsc), "disabled"),
                (!r.managed && !r.maintenance, "unmanaged"),
                (r.maintenance, "maintenance"),
            ]);
            let _ = writeln!(out, "{}* Resource Group: {}{words}:", indent(depth), r.id);
            // All of it is shown, what was removed and is stopped as well.
            for child in &r.children {
                line(c, *child, depth + 1, out);
            }
        }
        Kind::Clone => clone(c, rsc, depth, out),
        Kind::Bundle => bundle::render(c, rsc, depth, out),
    }
}

fn indent(depth: usize) -> String {
    "  ".repeat(depth)
}

fn flags(list: &[(bool, &str)]) -> String {
    let on: Vec<&str> = list.iter().filter(|(set, _)| *set).map(|(_, w)| *w).collect();
    if on.is_empty() { String::new() } else { format!(" ({})", on.join(", ")) }
}

fn agent(c: &Cluster<'_>, rsc: RscIx) -> String {
    let r = &c.rscs[rsc];
    if r.provider.is_empty() {
        format!("{}:{}", r.class, r.agent)
    } else {
        format!("{}:{}:{}", r.class, r.provider, r.agent)
    }
}

/// The role to show.
fn shown_role(c: &Cluster<'_>, rsc: RscIx) -> &'static str {
    let r = &c.rscs[rsc];
    match r.role {
        Role::Started if c.promotable(rsc) => "Unpromoted",
        Role::Unknown => "Stopped",
        other => other.word(),
    }
}

fn line(c: &Cluster<'_>, rsc: RscIx, depth: usize, out: &mut String) {
    let r = &c.rscs[rsc];
    let name = if c.anonymous(rsc) { r.base } else { r.id.as_str() };
    let place = match r.running_on.as_slice() {
        [] => r.lock.map(|(n, _)| n),
        [one] => Some(*one),
        _ => None,
    };
    line_at(c, rsc, name, place, depth, out);
}

/// The line of a resource under a name and at a node.
fn line_at(
    c: &Cluster<'_>,
    rsc: RscIx,
    name: &str,
    place: Option<NodeIx>,
    depth: usize,
    out: &mut String,
) {
    let r = &c.rscs[rsc];
    let _ = write!(out, "{}* {name}\t({}):\t ", indent(depth), agent(c, rsc));
    let mut words = String::new();
    if r.removed {
        words.push_str("ORPHANED ");
    }
    if r.failed && r.role > Role::Unpromoted {
        let _ = write!(words, "FAILED {}", shown_role(c, rsc));
    } else if r.failed {
        words.push_str("FAILED");
    } else if let Some(pending) = shown_pending(c, rsc) {
        if pending == "Monitoring" {
            words.push_str(shown_role(c, rsc));
        } else {
            words.push_str(pending);
        }
    } else {
        words.push_str(shown_role(c, rsc));
        if r.role <= Role::Stopped
            && let Some(rc) = failed_probe(c, rsc)
        {
            let _ = write!(words, " ({rc}) ");
        }
    }
    if let Some(node) = place {
        let _ = write!(words, " {}", c.nodes[node].name);
    }
    out.push_str(&words);
    let unclean = place.is_some_and(|n| !c.nodes[n].online && c.nodes[n].unclean);
    let monitoring = shown_pending(c, rsc) == Some("Monitoring") && !r.failed;
    let limited = disabled(c, rsc);
    let list = flags(&[
        (unclean, "UNCLEAN"),
        (monitoring, "Monitoring"),
        (r.lock.is_some() && r.running_on.is_empty(), "LOCKED"),
        (limited, "disabled"),
        (r.blocked, "blocked"),
        (!r.managed && !r.blocked && !r.maintenance, "unmanaged"),
        (r.maintenance && !r.blocked, "maintenance"),
        (r.failure_ignored && !r.failed, "failure ignored"),
    ]);
    out.push_str(&list);
    if r.running_on.len() > 1 {
        let names: Vec<&str> = r.running_on.iter().map(|n| c.nodes[*n].name.as_ref()).collect();
        let _ = write!(out, " [ {} ]", names.join(" "));
    }
    out.push('\n');
}

/// Why a probe of a resource failed.
fn failed_probe(c: &Cluster<'_>, rsc: RscIx) -> Option<&'static str> {
    let (_, _, op) = c.failed_ops.iter().rfind(|(_, r, op)| {
        *r == rsc
            && op.attr("operation") == Some("monitor")
            && matches!(op.attr("interval"), None | Some("0"))
    })?;
    Some(match op.attr("rc-code").and_then(values::leading_integer)? {
        1 => "Error",
        2 => "Invalid parameter",
        3 => "Unimplemented",
        4 => "Insufficient privileges",
        5 => "Not installed",
        6 => "Not configured",
        9 => "Promoted failed",
        _ => return None,
    })
}

/// An operation in flight is shown only where the configuration asks that it is recorded.
fn shown_pending(c: &Cluster<'_>, rsc: RscIx) -> Option<&'static str> {
    c.rscs[rsc].pending.filter(|p| *p != "Checking")
}

/// Whether an instance is plain enough to go into a list.
fn plain(c: &Cluster<'_>, rsc: RscIx) -> bool {
    let r = &c.rscs[rsc];
    if r.kind != Kind::Primitive {
        let nodes = c.running_nodes(rsc);
        return nodes.len() <= 1
            && r.children.iter().all(|m| plain(c, *m))
            && (r.children.iter().all(|m| c.rscs[*m].role.active())
                || r.children.iter().all(|m| !c.rscs[*m].role.active()));
    }
    let pending = shown_pending(c, rsc).is_some();
    let away = r.running_on.iter().any(|n| !c.nodes[*n].online);
    !r.failed && !r.removed && !pending && !away && r.running_on.len() <= 1
}

fn blocked_or_unmanaged(c: &Cluster<'_>, rsc: RscIx) -> bool {
    let r = &c.rscs[rsc];
    if r.kind == Kind::Primitive {
        return r.blocked || !r.managed;
    }
    r.children.iter().any(|m| blocked_or_unmanaged(c, *m))
}

fn clone(c: &Cluster<'_>, rsc: RscIx, depth: usize, out: &mut String) {
    let r = &c.rscs[rsc];
    let inner = r.children.first().map_or("", |i| c.rscs[*i].base);
    let words = flags(&[
        (r.promotable, "promotable"),
        (r.unique, "unique"),
        (disabled(c, rsc), "disabled"),
        (!r.managed && !r.maintenance, "unmanaged"),
        (r.maintenance, "maintenance"),
    ]);
    let _ = writeln!(out, "{}* Clone Set: {} [{inner}]{words}:", indent(depth), r.id);
    let (mut promoted, mut started): (Vec<NodeIx>, Vec<NodeIx>) = (Vec::new(), Vec::new());
    for instance in &r.children {
        let i = &c.rscs[*instance];
        let nodes = c.running_nodes(*instance);
        let active = !nodes.is_empty();
        let full = r.unique || !plain(c, *instance) && (active || part_failed(c, *instance));
        if i.removed && !active {
            continue;
        }
        if full || (active && blocked_or_unmanaged(c, *instance)) {
            render_instance(c, *instance, depth + 1, out);
        } else if let Some(node) = nodes.first() {
            if c.role_of(*instance, true) == Role::Promoted {
                promoted.push(*node);
            } else {
                started.push(*node);
            }
        }
    }
    let list = |word: &str, mut nodes: Vec<NodeIx>, out: &mut String| {
        if nodes.is_empty() {
            return;
        }
        nodes.sort_by(|a, b| natural(&c.nodes[*a].name, &c.nodes[*b].name));
        nodes.dedup();
        let names: Vec<&str> = nodes.iter().map(|n| c.nodes[*n].name.as_ref()).collect();
        let _ = writeln!(out, "{}* {word}: [ {} ]", indent(depth + 1), names.join(" "));
    };
    let listed = promoted.len() + started.len();
    list("Promoted", promoted, out);
    let active = if r.promotable { "Unpromoted" } else { "Started" };
    list(active, started, out);
    if !r.unique {
        let mut running = Vec::new();
        certain(c, rsc, &mut running);
        // Where nothing may run unless it is said so, a node counts once it was heard of it.
        let counts = |n: NodeIx| c.options.symmetric || heard(c, rsc, n);
        let stopped: Vec<NodeIx> = c
            .nodes
            .keys()
            .filter(|n| !running.contains(n) && !c.nodes[*n].removed)
            // The nodes inside of a bundle come with the bundle, if nobody named them before.
            .filter(|n| !c.nodes[*n].bundled || c.nodes[*n].configured)
            .filter(|n| counts(*n))
            .collect();
        // What the clone says itself counts before what is in it.
        let says = r.meta.get("target-role").and_then(Role::parse).is_some();
        let off =
            disabled(c, rsc) || !says && r.children.iter().any(|instance| disabled(c, *instance));
        let word = if off { "Stopped (disabled)" } else { "Stopped" };
        if r.clone_max as usize > listed {
            list(word, stopped, out);
        }
    }
}

/// Nodes where a clone runs; of what nobody manages nothing is certain on a node that is away.
fn certain(c: &Cluster<'_>, rsc: RscIx, nodes: &mut Vec<NodeIx>) {
    let r = &c.rscs[rsc];
    let told = r.managed || r.blocked;
    let there = |n: &NodeIx| c.nodes[*n].online || c.nodes[*n].member;
    nodes.extend(r.running_on.iter().filter(|n| told || there(n)));
    for child in &r.children {
        certain(c, *child, nodes);
    }
}

/// Whether a node's history tells of a resource or something in it.
fn heard(c: &Cluster<'_>, rsc: RscIx, node: NodeIx) -> bool {
    let r = &c.rscs[rsc];
    r.known_on.contains(&node) || r.children.iter().any(|i| heard(c, *i, node))
}

fn part_failed(c: &Cluster<'_>, rsc: RscIx) -> bool {
    let r = &c.rscs[rsc];
    if r.kind == Kind::Primitive {
        return r.failed;
    }
    r.children.iter().any(|m| part_failed(c, *m))
}

fn render_instance(c: &Cluster<'_>, rsc: RscIx, depth: usize, out: &mut String) {
    render(c, rsc, depth, out);
}
