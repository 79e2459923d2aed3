//! Live migration: where a move can be done without a stop, the stop and start become its parts.

use crate::action::{Task, flag};
use crate::arena::{ActIx, NodeIx, RscIx};
use crate::cluster::Cluster;
use crate::model::Kind;

impl Cluster<'_> {
    /// Whether a resource could migrate live from where it is.
    fn can_migrate(&self, rsc: RscIx, current: NodeIx) -> bool {
        let r = &self.rscs[rsc];
        if !r.allow_migrate
            || !r.managed
            || r.failed
            || r.start_pending
            // An end of an earlier migration is still to be stopped.
            || !r.dangling.is_empty()
            || self.nodes[current].unclean
        {
            return false;
        }
        if !r.next_role.active() || !r.role.active() || r.kind != Kind::Primitive {
            return false;
        }
        let expected = if r.partial.is_some() { 2 } else { 1 };
        r.running_on.len() == expected && self.nodes[current].online
    }

    /// Replaces a move by a migration if nothing forbids it. What forbids it may come out later, so the parts stay apart.
    pub(super) fn plan_migration(&mut self, rsc: RscIx, current: Option<NodeIx>) {
        let Some(source) = current else { return };
        let Some(target) = self.rscs[rsc].assigned else { return };
        if source == target || !self.can_migrate(rsc, source) {
            return;
        }
        let stop = self.find_action(rsc, Task::Stop, Some(source));
        let start = self.find_action(rsc, Task::Start, Some(target));
        let (Some(stop), Some(start)) = (stop, start) else { return };
        if !self.actions[start].runnable
            || !self.actions[stop].runnable && self.rscs[rsc].partial.is_none()
        {
            return;
        }
        for a in [stop, start] {
            self.actions[a].migratable = true;
            self.actions[a].migration = true;
        }
        self.rscs[rsc].migrating = true;
        let partial = self.rscs[rsc].partial;
        let from = self.op(rsc, Task::MigrateFrom, 0, Some(target), false);
        self.describe_migration(from, source, target);
        let to = if partial.is_some() {
            None
        } else {
            let to = self.op(rsc, Task::MigrateTo, 0, Some(source), false);
            self.describe_migration(to, source, target);
            Some(to)
        };
        self.order_migration(rsc, (stop, start), (to, from));
    }

    fn describe_migration(&mut self, action: ActIx, source: NodeIx, target: NodeIx) {
        let (source, target) =
            (self.nodes[source].name.to_string(), self.nodes[target].name.to_string());
        let a = &mut self.actions[action];
        a.migratable = true;
        a.migration = true;
        a.meta.push(("migrate_source".into(), source));
        a.meta.push(("migrate_target".into(), target));
    }

    fn order_migration(
        &mut self,
        rsc: RscIx,
        (stop, start): (ActIx, ActIx),
        (to, from): (Option<ActIx>, ActIx),
    ) {
        // It may run anywhere where it was not looked for.
        for probe in self.find_actions(rsc, Task::Monitor, 0) {
            self.link(probe, to.unwrap_or(from), flag::ORDERED);
        }
        let blocks = flag::ORDERED | flag::UNMIGRATABLE_BLOCKS;
        if let Some(to) = to {
            self.link(to, from, blocks);
        }
        self.link(from, stop, blocks);
        self.actions[start].pseudo = true;
        self.link(from, start, blocks | flag::PSEUDO_LEFT);
    }
}
