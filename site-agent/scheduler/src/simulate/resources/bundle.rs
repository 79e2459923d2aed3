//! A bundle as text: one line for each replica, of what runs inside and where its container is.

use std::fmt::Write as _;

use super::{flags, indent, line_at};
use crate::arena::RscIx;
use crate::cluster::Cluster;

pub(super) fn render(c: &Cluster<'_>, bundle: RscIx, depth: usize, out: &mut String) {
    let r = &c.rscs[bundle];
    let image = r.xml.children().find_map(|e| e.attr("image")).unwrap_or("");
    let set = if r.replicas.len() > 1 { " set" } else { "" };
    let words = flags(&[
        (c.per_host(bundle) > 1, "unique"),
        (r.maintenance, "maintenance"),
        (!r.managed && !r.maintenance, "unmanaged"),
    ]);
    let _ = writeln!(out, "{}* Container bundle{set}: {} [{image}]{words}:", indent(depth), r.id);
    for replica in &r.replicas {
        let shown = replica.child.unwrap_or(replica.container);
        let mut name = c.rscs[replica.remote.unwrap_or(replica.container)].id.clone();
        if let Some(ip) = replica.ip
            && let Some(address) = c.parameters(ip, None).get("ip")
        {
            let _ = write!(name, " ({address})");
        }
        let host = c.rscs[replica.container].running_on.first().copied();
        line_at(c, shown, &name, host, depth + 1, out);
    }
}
