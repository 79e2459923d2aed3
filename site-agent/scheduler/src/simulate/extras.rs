//! What is shown only when it is asked for: attributes of nodes, failures, capacity.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use tierce_cib::values;

use super::options::Request;
use crate::arena::NodeIx;
use crate::cluster::Cluster;
use crate::model::Kind;

/// The blocks that a request asks for, behind the resources.
pub(super) fn render(c: &Cluster<'_>, request: &Request, out: &mut String) {
    if request.attributes {
        attributes(c, out);
    }
    if request.fail_counts {
        failures(c, out);
    }
}

/// Whether people look for an attribute there: the others are shown as what they mean.
fn shown(name: &str) -> bool {
    !matches!(name, "shutdown" | "standby" | "terminate" | "maintenance")
        && !name.starts_with('#')
        && !name.starts_with("fail-count-")
        && !name.starts_with("last-failure-")
}

fn attributes(c: &Cluster<'_>, out: &mut String) {
    out.push_str("\n  * Node Attributes:\n");
    for node in c.nodes.keys() {
        let n = &c.nodes[node];
        let named: BTreeMap<&str, &str> = n
            .attributes
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .filter(|(name, _)| shown(name))
            .collect();
        if !n.online || named.is_empty() {
            continue;
        }
        // Writing to a String can not fail.
        let _ = writeln!(out, "    * Node: {}:", n.name);
        for (name, value) in named {
            let _ = writeln!(out, "      * {name:<32}\t: {value:<10}");
        }
    }
}

fn failures(c: &Cluster<'_>, out: &mut String) {
    out.push_str("\n  * Migration Summary:\n");
    for node in c.nodes.keys() {
        let mut lines = String::new();
        for rsc in c.rscs.keys() {
            let r = &c.rscs[rsc];
            let count = c.raw_fail_count(rsc, node);
            if r.kind != Kind::Primitive || count == 0 {
                continue;
            }
            let (threshold, count) = (r.migration_threshold, values::show_score(count));
            let _ = write!(
                lines,
                "      * {}: migration-threshold={threshold} fail-count={count}",
                r.id
            );
            let last = c.last_failure(rsc, node);
            if last > 0 {
                let _ = write!(lines, " last-failure='{}'", date(c, last));
            }
            lines.push('\n');
        }
        if !lines.is_empty() {
            let _ = write!(out, "    * Node: {}:\n{lines}", c.nodes[node].name);
        }
    }
}

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A moment as C's `ctime` writes it.
fn date(c: &Cluster<'_>, seconds: i64) -> String {
    let Some(at) = c.now.at(seconds) else { return seconds.to_string() };
    let f = at.fields();
    let word = |list: &[&'static str], n: i64| {
        usize::try_from(n - 1).ok().and_then(|n| list.get(n)).copied().unwrap_or("?")
    };
    let (day, month) = (word(&DAYS, f.week_day), word(&MONTHS, f.month));
    let (hour, minute, second) = (f.hour, f.minute, f.second);
    format!("{day} {month} {:>2} {hour:02}:{minute:02}:{second:02} {}", f.month_day, f.year)
}

/// The capacity of each node under a heading: all of it before resources are assigned, and what is left after.
pub(super) fn capacity(c: &Cluster<'_>, heading: &str) -> String {
    let mut out = String::new();
    let mut line = |node: NodeIx| {
        let n = &c.nodes[node];
        let kinds: BTreeMap<&str, i64> =
            n.utilization.iter().map(|(name, free)| (*name, *free)).collect();
        let _ = write!(out, "{heading}: {} capacity:", n.name);
        for (name, free) in kinds {
            let _ = write!(out, " {name}={free}");
        }
        out.push('\n');
    };
    c.nodes.keys().for_each(&mut line);
    out
}
