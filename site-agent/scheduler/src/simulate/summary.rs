//! The transition in a few lines: fencing first, then what happens to each resource and why.

use std::fmt::Write as _;

use tierce_cib::values;

use crate::action::{NOWHERE, Task};
use crate::arena::{ActIx, NodeIx, RscIx};
use crate::cluster::Cluster;
use crate::model::{Kind, Role};
use crate::plan::Plan;

/// What happens to one resource or node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// `Fence (reboot)`, `Start`, `Stop`, `Move`, `Recover`, …
    pub verb: String,
    /// The resource, or the node that is fenced.
    pub what: String,
    /// From where, with a role where there is one; empty where there is nothing to say.
    pub from: String,
    /// To where, or where.
    pub to: String,
    /// Why; empty where there is nothing to say.
    pub why: String,
}

type Row = Change;

/// Nodes that are fenced.
fn fences(plan: &Plan<'_>) -> Vec<Change> {
    let c = &plan.cluster;
    let mut found = Vec::new();
    let fences = c.nodes.keys().map(|n| c.fence_actions.get(n.0 as usize).copied().flatten());
    let unfences = c.nodes.keys().map(|n| c.unfence_actions.get(&n).copied());
    for ix in fences.chain(unfences).flatten().filter(|ix| c.in_graph(*ix)) {
        let a = &c.actions[ix];
        let Some(node) = a.node else { continue };
        let op = a.meta.iter().find(|(k, _)| k == "stonith_action").map_or("reboot", |(_, v)| v);
        let container = c.nodes[node].connection.and_then(|x| c.rscs[x].container);
        found.push(Change {
            verb: format!("Fence ({op})"),
            what: c.nodes[node].name.to_string(),
            from: container.map_or(String::new(), |x| format!("resource: {}", c.rscs[x].id)),
            to: String::new(),
            why: a.reason.as_deref().unwrap_or("node is unclean").to_owned(),
        });
    }
    found
}

/// What happens to resources.
fn moves(plan: &Plan<'_>) -> Vec<(RscIx, Change)> {
    let mut rows = Vec::new();
    for rsc in &plan.cluster.top {
        collect(&plan.cluster, *rsc, &mut rows);
    }
    rows
}

/// All that happens: fencing first. Where crm_simulate says that no node is available, a ticket that is missing is named.
pub(crate) fn changes(plan: &Plan<'_>) -> Vec<Change> {
    let mut all = fences(plan);
    for (rsc, mut row) in moves(plan) {
        if row.why.contains(NOWHERE)
            && let Some(ticket) = plan.cluster.lacks_ticket(rsc)
        {
            row.why = row.why.replace(NOWHERE, &ticket.to_string());
        }
        all.push(row);
    }
    all
}

/// The block `Transition Summary`.
pub(crate) fn render(plan: &Plan<'_>) -> String {
    let mut out = String::from("\nTransition Summary:\n");
    for fence in fences(plan) {
        let _ = write!(out, "  * {} {}", fence.verb, fence.what);
        if !fence.from.is_empty() {
            let _ = write!(out, " ({})", fence.from);
        }
        let _ = writeln!(out, " '{}'", fence.why);
    }
    let rows: Vec<Row> = moves(plan).into_iter().map(|(_, row)| row).collect();
    let name_width = rows.iter().map(|r| r.what.len()).max().unwrap_or(0).max(5);
    let width = rows.iter().map(|r| r.to.len() + r.from.len()).max().unwrap_or(0);
    for row in rows {
        let place = format!("{}{}", row.from, row.to);
        let _ = write!(out, "  * {:<10} {:<name_width$}   ( {place:>width$} )", row.verb, row.what);
        if !row.why.is_empty() {
            let _ = write!(out, "  {}", row.why);
        }
        out.push('\n');
    }
    out
}

fn collect(c: &Cluster<'_>, rsc: RscIx, rows: &mut Vec<(RscIx, Row)>) {
    let r = &c.rscs[rsc];
    if r.kind == Kind::Primitive {
        if let Some(row) = row(c, rsc) {
            rows.push((rsc, row));
        }
        return;
    }
    for replica in &r.replicas {
        let parts = [replica.ip, Some(replica.container), replica.remote, replica.child];
        for part in parts.into_iter().flatten() {
            collect(c, part, rows);
        }
    }
    if r.kind != Kind::Bundle {
        for child in &r.children {
            collect(c, *child, rows);
        }
    }
}

fn wanted(c: &Cluster<'_>, rsc: RscIx, task: Task) -> Option<ActIx> {
    c.find_actions(rsc, task, 0).into_iter().find(|a| !c.actions[*a].optional)
}

fn reason_of(c: &Cluster<'_>, ix: Option<ActIx>) -> String {
    let Some(ix) = ix else { return String::new() };
    let a = &c.actions[ix];
    let blocked = !a.runnable;
    match (&a.reason, blocked) {
        (Some(reason), true) => format!("due to {reason} (blocked)"),
        (Some(reason), false) => format!("due to {reason}"),
        (None, true) => "blocked".to_owned(),
        (None, false) => String::new(),
    }
}

fn row(c: &Cluster<'_>, rsc: RscIx) -> Option<Row> {
    let r = &c.rscs[rsc];
    if !r.managed && r.next_role == r.role {
        return None;
    }
    let name = |n: Option<NodeIx>| n.map_or(String::new(), |n| c.nodes[n].name.to_string());
    let current = c.current_node(rsc);
    let next = r.assigned.filter(|_| r.next_role.active());
    let (start, stop) = (wanted(c, rsc, Task::Start), wanted(c, rsc, Task::Stop));
    let (promote, demote) = (wanted(c, rsc, Task::Promote), wanted(c, rsc, Task::Demote));
    let migrate = wanted(c, rsc, Task::MigrateFrom).filter(|m| c.actions[*m].runnable);
    let role = |role: Role| {
        if c.promotable(rsc) {
            if role == Role::Started {
                "Unpromoted ".to_owned()
            } else {
                format!("{} ", role.word())
            }
        } else {
            String::new()
        }
    };
    let make = |verb: &str, from: String, to: String, why: String| {
        Some(Row { verb: verb.to_owned(), what: r.id.clone(), from, to, why })
    };
    let (now, then) = (r.role, r.next_role);
    let stop_reason =
        c.find_actions(rsc, Task::Stop, 0).into_iter().find(|a| !c.actions[*a].optional);
    if !now.active() && then.active() && next.is_some() {
        start?;
        if then == Role::Promoted {
            return make(
                "Promote",
                "Stopped -> ".into(),
                format!("Promoted {}", name(next)),
                reason_of(c, start),
            );
        }
        return make("Start", String::new(), name(next), reason_of(c, start));
    }
    if now.active() && next.is_none() {
        if stop.is_none() && r.managed {
            return None;
        }
        let stop_ix = stop?;
        let mut tail = reason_of(c, Some(stop_ix));
        if tail.is_empty() {
            tail = format!("due to {NOWHERE}");
        }
        return make("Stop", String::new(), format!("{}{}", role(now), name(current)), tail);
    }
    if let (Some(from), Some(to)) = (current, next)
        && from != to
    {
        let start_reason = start.filter(|s| !c.actions[*s].runnable);
        if let Some(s) = start_reason {
            return make(
                "Stop",
                String::new(),
                format!("{}{}", role(now), name(current)),
                reason_of(c, Some(s)).replace(" (blocked)", ""),
            );
        }
        let verb = if migrate.is_some() {
            "Migrate"
        } else if r.failed {
            "Recover"
        } else {
            "Move"
        };
        let (a, b) = if now == then || !c.promotable(rsc) {
            (format!("{} -> ", name(current)), format!("{}{}", name(next), ""))
        } else {
            (format!("{}{} -> ", role(now), name(current)), format!("{}{}", role(then), name(next)))
        };
        let a = if c.promotable(rsc) && now == then { format!("{}{a}", role(now)) } else { a };
        return make(verb, a, b, reason_of(c, start.filter(|s| c.actions[*s].reason.is_some())));
    }
    if let Some(reload) = wanted(c, rsc, Task::Reload).filter(|x| c.actions[*x].runnable)
        && stop.is_none()
    {
        return make(
            "Reload",
            String::new(),
            format!("{}{}", role(now), name(next)),
            reason_of(c, Some(reload)),
        );
    }
    if let Some(ix) = stop.or(stop_reason) {
        let start_blocked = start.is_none_or(|s| !c.actions[s].runnable) || next.is_none();
        if start_blocked {
            let why = start.or_else(|| {
                c.find_actions(rsc, Task::Start, 0).into_iter().find(|s| !c.actions[*s].runnable)
            });
            let mut tail = reason_of(c, why).replace(" (blocked)", "");
            if tail == "blocked" {
                tail = String::new();
            }
            if !c.actions[ix].runnable {
                tail.push_str(" (blocked)");
            }
            return make("Stop", String::new(), format!("{}{}", role(now), name(current)), tail);
        }
        let verb = if r.failed { "Recover" } else { "Restart" };
        let place = if now == then || !c.promotable(rsc) {
            (String::new(), format!("{}{}", role(then), name(next)))
        } else {
            (format!("{}-> ", role(now)), format!("{}{}", role(then), name(next)))
        };
        let tail = if r.failed {
            String::new()
        } else if let Some(why) = r.restart {
            if why.is_empty() { String::new() } else { format!("due to {why}") }
        } else {
            reason_of(c, start.or(Some(ix)))
        };
        return make(verb, place.0, place.1, tail);
    }
    if demote.is_some() && promote.is_some() && now == Role::Promoted {
        return make(
            "Re-promote",
            String::new(),
            format!("{}{}", role(then), name(next)),
            String::new(),
        );
    }
    if demote.is_some() && now == Role::Promoted && then != Role::Promoted {
        return make(
            "Demote",
            format!("{}-> ", role(now)),
            format!("{}{}", role(then), name(next)),
            reason_of(c, demote).replace(&format!("due to {NOWHERE}"), ""),
        );
    }
    if promote.is_some() && then == Role::Promoted {
        return make(
            "Promote",
            format!("{}-> ", role(now)),
            format!("{}{}", role(then), name(next)),
            reason_of(c, promote),
        );
    }
    None
}

impl Cluster<'_> {
    /// Scores by resource and node.
    pub(crate) fn scores(&self) -> String {
        let mut out = String::new();
        for rsc in self.rscs.keys() {
            let r = &self.rscs[rsc];
            if r.removed {
                continue;
            }
            let stage = match r.kind {
                Kind::Primitive => "pcmk__primitive_assign",
                Kind::Group => "pcmk__group_assign",
                _ => "pcmk__clone_assign",
            };
            for node in self.nodes.keys() {
                let place = r.allowed[node.0 as usize];
                if place.listed {
                    let score = values::show_score(place.score);
                    let _ = writeln!(
                        out,
                        "{stage}: {} allocation score on {}: {score}",
                        r.id, self.nodes[node].name
                    );
                }
            }
        }
        for rsc in self.rscs.keys() {
            let r = &self.rscs[rsc];
            if r.kind == Kind::Clone && r.promotable {
                for instance in &r.children {
                    let i = &self.rscs[*instance];
                    let at = i.assigned.map_or("none", |n| self.nodes[n].name.as_ref());
                    let score = values::show_score(i.sort_weight);
                    let _ = writeln!(out, "{} promotion score on {at}: {score}", i.id);
                }
            }
        }
        out
    }
}
