//! Live migrations in histories: a resource that is on its way is told of by two nodes.
//!
//! A whole migration is a `migrate_to` on the source, a `migrate_from` on the target and a stop on the source. Where it
//! broke off decides where the resource may be; what either node has seen since counts for more.

use std::cmp::Ordering;

use super::entry::Entry;
use crate::arena::{NodeIx, RscIx};
use crate::cluster::Cluster;
use crate::model::{Partial, Role};

impl<'a> Cluster<'a> {
    fn entries_on(&self, rsc: RscIx, node: NodeIx) -> Vec<Entry<'a>> {
        let base = self.rscs[rsc].base;
        let name = self.nodes[node].name.as_ref();
        let status = self.doc.root().child("status");
        let mut entries: Vec<Entry<'a>> = status
            .iter()
            .flat_map(|s| s.children_named("node_state"))
            .filter(|s| s.attr("uname") == Some(name))
            .flat_map(|s| s.children_named("lrm"))
            .flat_map(|l| l.children_named("lrm_resources"))
            .flat_map(|l| l.children_named("lrm_resource"))
            .filter(|r| r.id() == Some(base))
            .flat_map(|r| r.children_named("lrm_rsc_op"))
            .filter_map(Entry::read)
            .collect();
        entries.sort_by(Entry::order);
        entries
    }

    /// Whether something newer than an operation happened on the node itself (`same`) or another.
    fn newer_state(&self, rsc: RscIx, node: NodeIx, than: &Entry<'a>, same: bool) -> bool {
        self.entries_on(rsc, node).iter().any(|e| {
            if e.xml == than.xml {
                return false;
            }
            let newer = if same { e.order(than) == Ordering::Greater } else { e.newer_than(than) };
            let tells = match e.task {
                "start" | "stop" | "migrate_to" | "migrate_from" => e.task != than.task || same,
                "monitor" => !same && e.interval == 0,
                _ => false,
            };
            newer && tells
        })
    }

    fn migrate_nodes(&self, entry: &Entry<'a>) -> (Option<NodeIx>, Option<NodeIx>) {
        let find = |name: &str| entry.xml.attr(name).and_then(|n| self.find_node(n));
        (find("migrate_source"), find("migrate_target"))
    }

    pub(super) fn migrate_to_succeeded(&mut self, rsc: RscIx, node: NodeIx, entry: &Entry<'a>) {
        let (source, target) = self.migrate_nodes(entry);
        let Some(target) = target else {
            self.rscs[rsc].role = Role::Started;
            return;
        };
        let source = source.unwrap_or(node);
        let from = self.entries_on(rsc, target).into_iter().rfind(|e| {
            e.task == "migrate_from"
                && e.xml.attr("migrate_source").is_none_or(|s| s == self.nodes[source].name)
        });
        let source_newer = self.newer_state(rsc, node, entry, true);
        let target_newer = self.stopped_or_started_since(rsc, target, entry);
        if source_newer && target_newer {
            return;
        }
        if from.as_ref().is_some_and(|f| f.status == 0 && f.rc == 0) && !source_newer {
            self.rscs[rsc].role = Role::Stopped;
            if !self.rscs[rsc].dangling.contains(&node) {
                self.rscs[rsc].dangling.push(node);
            }
            return;
        }
        self.rscs[rsc].role = Role::Started;
        let on_target = !target_newer && self.nodes[target].online;
        if from.as_ref().is_some_and(|f| f.status != -1) {
            if on_target {
                self.add_running(rsc, target);
            } else {
                self.rscs[rsc].failed = true;
                self.rscs[rsc].allow_migrate = false;
            }
            return;
        }
        if on_target {
            if self.entries_on(rsc, target).is_empty() {
                return;
            }
            self.add_running(rsc, target);
            if self.nodes[source].online {
                self.rscs[rsc].partial = Some(Partial { source, target });
            }
        } else if !source_newer {
            self.rscs[rsc].failed = true;
            self.rscs[rsc].allow_migrate = false;
        }
    }

    /// Whether the other node has a later word than a migration.
    fn stopped_or_started_since(&self, rsc: RscIx, node: NodeIx, entry: &Entry<'a>) -> bool {
        self.entries_on(rsc, node).iter().any(|e| {
            let tells =
                matches!(e.task, "start" | "stop") || (e.task == "monitor" && e.interval == 0);
            tells && e.newer_than(entry)
        })
    }

    pub(super) fn pending_migrate_to(&mut self, rsc: RscIx, node: NodeIx, entry: &Entry<'a>) {
        let (_, target) = self.migrate_nodes(entry);
        if let Some(target) = target
            && self.nodes[node].unclean
            && self.nodes[target].online
            && !self.entries_on(rsc, target).is_empty()
            && !self.stopped_or_started_since(rsc, target, entry)
        {
            // Whatever the unclean source did, the target may have begun.
            self.rscs[rsc].dangling.push(target);
        }
    }

    pub(super) fn migrate_to_failed(&mut self, rsc: RscIx, node: NodeIx, entry: &Entry<'a>) {
        self.rscs[rsc].role = Role::Started;
        let (_, target) = self.migrate_nodes(entry);
        let Some(target) = target else { return };
        let target_newer = self.stopped_or_started_since(rsc, target, entry);
        if !target_newer {
            if self.nodes[target].online && !self.entries_on(rsc, target).is_empty() {
                self.add_running(rsc, target);
            }
        } else if !self.newer_state(rsc, node, entry, true)
            && !self.rscs[rsc].dangling.contains(&node)
        {
            self.rscs[rsc].dangling.push(node);
        }
    }

    pub(super) fn migrate_from_failed(&mut self, rsc: RscIx, _node: NodeIx, entry: &Entry<'a>) {
        self.rscs[rsc].role = Role::Started;
        let (source, _) = self.migrate_nodes(entry);
        let Some(source) = source else { return };
        if self.nodes[source].online && !self.stopped_or_started_since(rsc, source, entry) {
            self.add_running(rsc, source);
        }
    }
}
