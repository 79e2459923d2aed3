//! Changes of the configuration: operations whose parameters are not those that they ran with.
//!
//! A changed parameter restarts a resource, or reloads it if the agent said that it can. Recurring operations that
//! are not configured any more are cancelled; those whose own definition changed are begun anew.

use tierce_cib::xml::Element;

use super::params::{Params, digest};
use crate::action::{End, Task, flag};
use crate::arena::{ActIx, NodeIx, RscIx};
use crate::cluster::Cluster;
use crate::model::{Kind, Role};
use crate::unpack::entry::Entry;

/// Whether all that differs may be secrets, which a copy of a CIB often has blotted out.
fn only_secrets_differ(entry: &Entry<'_>, params: &Params) -> bool {
    let (Some(words), Some(was)) =
        (entry.xml.attr("op-secure-params"), entry.xml.attr("op-secure-digest"))
    else {
        return false;
    };
    let names: Vec<&str> = words.split_whitespace().collect();
    let mut open = params.clone();
    // Words to the fencer itself are not the agent's.
    open.retain(|name, _| {
        !names.contains(&name.as_str()) && name != "CRM_meta_timeout" && !name.starts_with("pcmk_")
    });
    digest(&open) == was
}

impl<'a> Cluster<'a> {
    /// Compares histories with the configuration. Recurring operations that run are made known as optional actions.
    pub(crate) fn check_changes(&mut self) {
        for op in std::mem::take(&mut self.stale_recurring) {
            if op.task == "monitor" {
                self.op(op.rsc, Task::Monitor, op.interval, Some(op.node), true);
            }
        }
        for (rsc, node, interval, _) in std::mem::take(&mut self.expired_recurring) {
            for a in self.find_actions(rsc, Task::Monitor, interval) {
                if self.actions[a].node == Some(node) {
                    self.actions[a].reschedule = true;
                }
            }
        }
        for rsc in self.rscs.keys() {
            if self.rscs[rsc].kind != Kind::Primitive {
                continue;
            }
            // What can run nothing is not looked at.
            for (node, xml) in self.rscs[rsc].history.clone() {
                if self.nodes[node].maintenance || self.usable(node) {
                    self.check_history(rsc, node, xml);
                }
            }
        }
        for (rsc, node, reason) in std::mem::take(&mut self.clear_failures) {
            self.clear_failures_on(rsc, node, reason);
        }
    }

    fn check_history(&mut self, rsc: RscIx, node: NodeIx, xml: Element<'a>) {
        let r = &self.rscs[rsc];
        if r.removed {
            // A name with a number means that instance, whichever the history was given to.
            let named = xml.id().and_then(|id| self.rsc_by_id.get(id).copied());
            if let Some(named) = named.filter(|n| *n != rsc && !self.rscs[*n].removed)
                && self.agent_changed(named, xml)
            {
                self.forget_resource(named, node, false);
            }
            return;
        }
        if !r.running_on.contains(&node) {
            if self.agent_changed(rsc, xml) {
                self.forget_resource(rsc, node, false);
            }
            return;
        }
        if self.agent_changed(rsc, xml) {
            self.forget_resource(rsc, node, false);
            self.unfence_again(rsc, Some(node), "Device definition changed");
            for n in self.rscs[rsc].running_on.clone() {
                self.op(rsc, Task::Stop, 0, Some(n), false);
            }
            return;
        }
        let resting = self.nodes[node].maintenance;
        if !resting && !self.nodes[node].online && !self.fencing() {
            return;
        }
        let r = &self.rscs[rsc];
        let unwatched = resting || r.maintenance || !r.managed && self.options.maintenance;
        let mut entries: Vec<Entry<'a>> =
            xml.children_named("lrm_rsc_op").filter_map(Entry::read).collect();
        entries.sort_by(Entry::order);
        let start = entries.iter().rposition(|e| matches!(e.task, "start" | "migrate_from"));
        let stop = entries.iter().rposition(|e| e.task == "stop");
        for (i, entry) in entries.iter().enumerate() {
            if start.is_some_and(|s| i < s) || (stop.is_some() && stop > start && start.is_some()) {
                continue;
            }
            if unwatched && entry.interval > 0 {
                // In maintenance nothing is watched.
                self.cancel_recorded(rsc, node, entry);
                continue;
            }
            if resting {
                continue;
            }
            if entry.interval > 0 {
                let configured = self.op_config(rsc, entry.task, entry.interval, false).is_some();
                if !configured {
                    if self.options.cancel_removed {
                        self.cancel_removed(rsc, node, entry);
                    }
                    continue;
                }
                self.check_definition(rsc, node, entry);
            } else if entry.probe() || matches!(entry.task, "start" | "promote" | "migrate_from") {
                self.check_definition(rsc, node, entry);
            }
        }
    }

    fn agent_changed(&self, rsc: RscIx, xml: Element<'a>) -> bool {
        let r = &self.rscs[rsc];
        let differs = |name: &str, now: &str| xml.attr(name).is_some_and(|was| was != now);
        differs("class", r.class) || differs("type", r.agent) || differs("provider", r.provider)
    }

    fn cancel_removed(&mut self, rsc: RscIx, node: NodeIx, entry: &Entry<'a>) {
        if self.fail_count(rsc, node, true) > 0 {
            self.clear_failures_on(rsc, node, "action definition changed");
        }
        let cancel = self.cancel_recorded(rsc, node, entry);
        self.actions[cancel].reason = Some("orphan".into());
        self.unconfigured.push(cancel);
        self.order(End::Op(rsc, Task::Stop, 0), End::Action(cancel), flag::ORDERED);
    }

    /// What gets no place any more takes operations that are not configured along when it stops. Members of a cloned group that
    /// are told to stop end them first.
    pub(crate) fn leave_to_stops(&mut self) {
        for cancel in std::mem::take(&mut self.unconfigured) {
            let Some(rsc) = self.actions[cancel].rsc else { continue };
            let r = &self.rscs[rsc];
            let group = r.parent.filter(|g| self.rscs[*g].kind == Kind::Group);
            let cloned = group.is_some_and(|g| self.rscs[g].parent.is_some());
            let told = self.options.stop_all || r.target_role == Role::Stopped;
            if r.managed && r.assigned.is_none() && !(cloned && told) {
                self.actions[cancel].optional = true;
            }
        }
    }

    /// Ends a recurring operation that a history tells of.
    fn cancel_recorded(&mut self, rsc: RscIx, node: NodeIx, entry: &Entry<'a>) -> ActIx {
        let cancel = self.cancel(rsc, node, entry.task, entry.interval, None);
        self.actions[cancel].meta.push(("call_id".into(), entry.call.to_string()));
        let ix = self.find_actions(rsc, Task::Monitor, entry.interval);
        for a in ix {
            if self.actions[a].node == Some(node) && self.actions[a].optional {
                self.actions[a].reschedule = true;
            }
        }
        cancel
    }

    fn check_definition(&mut self, rsc: RscIx, node: NodeIx, entry: &Entry<'a>) {
        let Some(was) = entry.xml.attr("op-digest") else { return };
        let task = if entry.interval == 0 && (entry.task == "migrate_from" || entry.probe()) {
            "start"
        } else {
            entry.task
        };
        let all = self.digest_parameters(rsc, node, task, entry.interval);
        let restart_words = entry
            .xml
            .attr("op-force-restart")
            .or_else(|| entry.xml.attr("op-restart-digest").map(|_| ""));
        if digest(&all) == was || only_secrets_differ(entry, &all) {
            return;
        }
        if let (Some(words), Some(restart_was)) =
            (restart_words, entry.xml.attr("op-restart-digest"))
        {
            let names: Vec<&str> = words.split_whitespace().collect();
            let mut restart = all.clone();
            let all_restart = entry.xml.attr("op-force-restart").is_some();
            if all_restart {
                // What an operation brings itself can not be taken in by a reload.
                let own = self.op_parameters(rsc, task, entry.interval);
                restart.retain(|name, _| names.contains(&name.as_str()) || own.contains_key(name));
            }
            restart.remove("CRM_meta_timeout");
            if digest(&restart) != restart_was {
                return self.changed(rsc, node, entry, false);
            }
            return self.changed(rsc, node, entry, true);
        }
        self.changed(rsc, node, entry, false);
    }

    fn changed(&mut self, rsc: RscIx, node: NodeIx, entry: &Entry<'a>, reloadable: bool) {
        if self.fail_count(rsc, node, true) > 0 {
            self.clear_failures_on(rsc, node, "action definition changed");
        }
        let managed = self.rscs[rsc].managed;
        if entry.interval > 0 {
            for a in self.find_actions(rsc, Task::Monitor, entry.interval) {
                if self.actions[a].node == Some(node) {
                    self.actions[a].reschedule = true;
                }
            }
            if !reloadable {
                // The same change is seen at the start, if it matters there.
            }
            return;
        }
        if !managed {
            return;
        }
        if entry.status == -1 {
            self.rscs[rsc].restart = Some("");
            return;
        }
        self.unfence_again(rsc, None, "Device parameters changed");
        if reloadable && !self.rscs[rsc].fence_device {
            self.rscs[rsc].reload = true;
            self.reload(rsc, node);
            return;
        }
        self.op_required_start(rsc);
    }

    fn op_required_start(&mut self, rsc: RscIx) {
        self.rscs[rsc].restart = Some("resource definition change");
    }

    fn reload(&mut self, rsc: RscIx, node: NodeIx) {
        self.rscs[rsc].reload_on = Some(node);
    }

    /// Reloads are made once all resources have their nodes.
    pub(crate) fn create_reloads(&mut self) {
        for rsc in self.rscs.keys() {
            let Some(node) = self.rscs[rsc].reload_on else { continue };
            let r = &self.rscs[rsc];
            let elsewhere =
                r.assigned != Some(node) || r.failed || r.restart.is_some() || !r.managed;
            if elsewhere
                || self.find_actions(rsc, Task::Start, 0).iter().any(|a| !self.actions[*a].optional)
            {
                continue;
            }
            let reload = self.op(rsc, Task::Reload, 0, Some(node), false);
            let cancels = flag::ORDERED | flag::THEN_CANCELS_FIRST;
            self.order(End::Action(reload), End::Op(rsc, Task::Stop, 0), cancels);
            self.order(End::Action(reload), End::Op(rsc, Task::Demote, 0), cancels);
        }
    }

    /// Clears the fail count of a resource on a node.
    pub(crate) fn clear_failures_on(&mut self, rsc: RscIx, node: NodeIx, reason: &'static str) {
        let name = &self.rscs[rsc].id;
        let key = format!("{name}_clear_failcount_0");
        if self.find_action(rsc, Task::ClearFailcount, Some(node)).is_some() {
            return;
        }
        let mut action = Self::blank(key, Task::ClearFailcount);
        action.rsc = Some(rsc);
        action.node = Some(node);
        action.reason = Some(reason.to_owned());
        action.meta.push(("op_no_wait".into(), "true".into()));
        action.runnable = self.nodes[node].online || !self.nodes[node].is_remote();
        let ix = self.actions.push(action);
        self.rsc_actions[rsc.0 as usize].push(ix);
        if self.rscs[rsc].removed {
            self.order(End::Action(ix), End::Op(rsc, Task::Stop, 0), flag::ORDERED);
        }
    }

    /// What only the history knows is stopped and forgotten, with its fail counts.
    pub(crate) fn forget_removed(&mut self) {
        for rsc in self.rscs.keys() {
            let r = &self.rscs[rsc];
            if !r.removed || r.kind != Kind::Primitive || r.instance.is_some() {
                continue;
            }
            for node in self.nodes.keys() {
                if !self.rscs[rsc].running_on.is_empty()
                    && self.nodes[node]
                        .fail_counts
                        .iter()
                        .any(|f| f.resource == self.rscs[rsc].id && f.count != 0)
                    && self.rscs[rsc].managed
                {
                    self.clear_failures_on(rsc, node, "it is orphaned");
                }
            }
            if !self.rscs[rsc].managed {
                continue;
            }
            for (node, _) in self.rscs[rsc].history.clone() {
                if self.nodes[node].maintenance || self.usable(node) {
                    self.forget_resource(rsc, node, false);
                }
            }
        }
    }
}
