//! Histories: what each resource is, and where, by the results of its operations.
//!
//! The entries of one resource on one node are replayed in the order of their call ids. The last word wins: a success clears most
//! failures before it, and what remains at the end decides whether the resource counts as failed, blocked or banned.

use std::collections::HashMap;

use tierce_cib::values;
use tierce_cib::xml::Element;

use super::entry::Entry;
use super::fail_count::base_name;
use crate::Error;
use crate::arena::{NodeIx, RscIx};
use crate::cluster::{Cluster, StaleOp};
use crate::model::{Kind, NodeKind, OnFail, Requires, Role};

/// Outcome of an operation after its return code was read in its context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Pending,
    Done,
    Cancelled,
    Failed,
    /// It can not work on this node.
    FailedHard,
    /// It can not work anywhere.
    FailedFatal,
    Ignored,
}

/// What the replay of one history adds up to.
pub(super) struct Replay<'a> {
    pub(super) on_fail: OnFail,
    pub(super) last_failure: Option<Entry<'a>>,
    /// A stop failed in a way that another one will as well.
    pub(super) stop_hopeless: bool,
}

impl<'a> Cluster<'a> {
    pub(super) fn unpack_histories(
        &mut self,
        node: NodeIx,
        state: Element<'a>,
    ) -> Result<(), Error> {
        let entries = state.children_named("lrm").flat_map(|l| l.children_named("lrm_resources"));
        for xml in entries.flat_map(|l| l.children_named("lrm_resource")) {
            self.unpack_history(node, xml)?;
        }
        Ok(())
    }

    fn unpack_history(&mut self, node: NodeIx, xml: Element<'a>) -> Result<(), Error> {
        let Some(id) = xml.id() else { return Ok(()) };
        let mut entries: Vec<Entry<'a>> =
            xml.children_named("lrm_rsc_op").filter_map(Entry::read).collect();
        let locked = xml.attr("shutdown-lock").and_then(values::leading_integer);
        if entries.is_empty() && locked.is_none() {
            return Ok(());
        }
        entries.sort_by(Entry::order);
        let found = self.find_for_history(node, id)?;
        let rsc = match found {
            Some(rsc) => rsc,
            None if entries.is_empty() => return Ok(()),
            None => self.removed_resource(id, xml),
        };
        if let Some(since) = locked.filter(|_| self.options.shutdown_lock) {
            self.note_lock(rsc, node, since);
        }
        if self.rscs[rsc].failure_timeout > 0 {
            let blocks = entries.iter().any(|e| {
                let failed = e.status > 1
                    || e.target_rc.is_some_and(|t| t >= 0 && t != e.rc && e.status >= 0);
                failed && self.op_options(rsc, e.task, e.interval).on_fail == OnFail::Block
            });
            if blocks {
                self.blocking_failures.push((rsc, node));
            }
        }
        let saved = self.rscs[rsc].role;
        self.rscs[rsc].role = Role::Unknown;
        // What is in flight on another node is not over because of what happened here.
        let in_flight = self.rscs[rsc].pending.take();
        let starts = std::mem::take(&mut self.rscs[rsc].start_pending);
        let mut replay =
            Replay { on_fail: OnFail::Ignore, last_failure: None, stop_hopeless: false };
        for entry in &entries {
            self.replay(rsc, node, entry, &mut replay);
        }
        let started = entries.iter().rfind(|e| e.task == "start").map_or(-1, |e| e.call);
        self.expired_recurring.retain(|(r, n, _, call)| *r != rsc || *n != node || *call > started);
        self.rscs[rsc].history.push((node, xml));
        self.note_recurring(rsc, node, &entries);
        self.settle(rsc, node, &replay);
        let r = &mut self.rscs[rsc];
        r.pending = r.pending.or(in_flight);
        r.start_pending |= starts;
        if id != r.id {
            // Names with a number stay only with what is active: else a stopped instance would look like another.
            r.history_name = (r.role.active() || !id.contains(':')).then_some(id);
        } else if r.role.active() {
            r.history_name = None;
        }
        let r = &mut self.rscs[rsc];
        if r.target_role != Role::Unknown
            && (r.next_role == Role::Unknown || r.target_role < r.next_role)
        {
            r.next_role = r.target_role;
        }
        if saved > r.role {
            r.role = saved;
        }
        Ok(())
    }

    /// The resource that a history is of: by name, or the instance of an anonymous clone that fits best.
    fn find_for_history(&mut self, node: NodeIx, id: &'a str) -> Result<Option<RscIx>, Error> {
        let base = base_name(id);
        if let Some(rsc) = self.rsc_by_id.get(id).copied()
            && self.rscs[rsc].kind == Kind::Primitive
            && !self.anonymous(rsc)
        {
            return Ok(Some(rsc));
        }
        if let Some((_, replica)) = self.replica_inside(node)
            && let Some(child) = replica.child.filter(|c| self.rscs[*c].base == base)
        {
            return Ok(self.anonymous(child).then_some(child));
        }
        let Some(top) = self.clone_of.get(base).copied() else { return Ok(None) };
        let clone = if self.rscs[top].kind == Kind::Clone { Some(top) } else { None };
        let Some(clone) = clone.filter(|c| !self.rscs[*c].unique) else { return Ok(None) };
        self.anonymous_instance(node, clone, base).map(Some)
    }

    fn anonymous_instance(
        &mut self,
        node: NodeIx,
        clone: RscIx,
        base: &str,
    ) -> Result<RscIx, Error> {
        let (mut exact, mut free, mut skip_free) = (None, None, false);
        for instance in self.rscs[clone].children.clone() {
            let Some(candidate) = self.in_instance(instance, base) else { continue };
            let nodes = self.running_nodes(instance);
            if nodes.is_empty() {
                let busy = self.rscs[candidate]
                    .history
                    .iter()
                    .any(|(n, _)| *n != node && self.nodes[*n].pending);
                if free.is_none() && !skip_free && !self.rscs[instance].removed && !busy {
                    free = Some(candidate);
                }
            } else if nodes.contains(&node) {
                if self.rscs[candidate].running_on.contains(&node) {
                    skip_free = true;
                } else {
                    exact = Some(candidate);
                    break;
                }
            }
        }
        let found = exact.or(if skip_free { None } else { free });
        if let Some(rsc) = found {
            let n = &self.nodes[node];
            let short = self.rscs[clone].clone_max < self.nodes.len() as u32;
            let wasted = exact.is_none()
                && self.rscs[rsc].requires < Requires::Fencing
                && !n.online
                && n.unclean
                && n.kind != NodeKind::Guest
                && short;
            if !wasted {
                return Ok(rsc);
            }
        }
        // A spare instance that is not in use serves again.
        for instance in self.rscs[clone].children.clone() {
            if self.rscs[instance].removed
                && self.running_nodes(instance).is_empty()
                && let Some(candidate) = self.in_instance(instance, base)
                && !skip_free
            {
                return Ok(candidate);
            }
        }
        let instance = self.extra_instance(clone)?;
        Ok(self.in_instance(instance, base).unwrap_or(instance))
    }

    fn in_instance(&self, instance: RscIx, base: &str) -> Option<RscIx> {
        if self.rscs[instance].base == base && self.rscs[instance].kind == Kind::Primitive {
            return Some(instance);
        }
        self.rscs[instance].children.iter().copied().find(|c| self.rscs[*c].base == base)
    }

    /// A resource that only the history knows.
    fn removed_resource(&mut self, id: &'a str, xml: Element<'a>) -> RscIx {
        let templates = HashMap::new();
        let rsc = self
            .make(xml, None, None, &templates)
            .expect("a primitive without children can be made");
        let stop = self.options.stop_removed;
        let r = &mut self.rscs[rsc];
        id.clone_into(&mut r.id);
        r.removed = true;
        r.managed = stop && r.managed;
        self.top.push(rsc);
        if stop {
            self.ban_everywhere(rsc, "__orphan_do_not_run__");
        }
        rsc
    }

    fn replay(&mut self, rsc: RscIx, node: NodeIx, entry: &Entry<'a>, replay: &mut Replay<'a>) {
        if entry.task == "notify" || entry.task == "meta-data" {
            return;
        }
        let mut entry = *entry;
        let mut outcome = self.outcome(rsc, &mut entry);
        let failed =
            matches!(outcome, Outcome::Failed | Outcome::FailedHard | Outcome::FailedFatal);
        if outcome != Outcome::Pending && self.expired(rsc, node, &entry, failed) && failed {
            outcome = Outcome::Ignored;
            if entry.interval > 0 && self.nodes[node].online {
                self.expired_recurring.push((rsc, node, entry.interval, entry.call));
            }
        }
        if outcome != Outcome::Pending
            && self.rscs[rsc].kind == Kind::Primitive
            && !self.rscs[rsc].removed
            && self.outdated(rsc, node, &entry)
        {
            self.clear_failures.push((rsc, node, "resource parameters have changed"));
        }
        match outcome {
            Outcome::Ignored | Outcome::Cancelled => {}
            Outcome::Pending => self.pending(rsc, node, &entry),
            Outcome::Done => self.success(rsc, node, &entry, replay),
            Outcome::Failed | Outcome::FailedHard | Outcome::FailedFatal => {
                self.failure(rsc, node, &entry, outcome, replay);
            }
        }
    }

    pub(super) fn known(&mut self, rsc: RscIx, node: NodeIx) {
        if !self.rscs[rsc].known_on.contains(&node) {
            self.rscs[rsc].known_on.push(node);
        }
    }

    /// Reads a return code in its context; some set the role at once.
    fn outcome(&mut self, rsc: RscIx, entry: &mut Entry<'a>) -> Outcome {
        match entry.status {
            -1 => {
                return Outcome::Pending;
            }
            1 => return Outcome::Cancelled,
            9 => return Outcome::Ignored,
            _ => {}
        }
        match entry.rc {
            190 => entry.rc = 0,
            191 => entry.rc = 8,
            _ => {}
        }
        let probe = entry.probe();
        let target = entry.target_rc;
        let mut failed = match target {
            Some(expected) if expected >= 0 => expected != entry.rc || entry.status == 2,
            _ => entry.status > 1,
        };
        if entry.status == 0 && probe && entry.rc == 0 {
            failed = false;
        }
        if entry.status == 7 {
            // The agent is not there.
            return Outcome::FailedHard;
        }
        match entry.rc {
            0 if target.is_none_or(|t| t == 0 || probe) => {
                if entry.status != 2 || probe {
                    Outcome::Done
                } else {
                    Outcome::Failed
                }
            }
            7 => {
                if probe || target == Some(7) || !self.rscs[rsc].managed {
                    self.rscs[rsc].role = Role::Stopped;
                    self.rscs[rsc].next_role = Role::Unknown;
                    Outcome::Done
                } else {
                    Outcome::Failed
                }
            }
            8 => {
                if probe && failed {
                    self.rscs[rsc].role = Role::Promoted;
                    Outcome::Done
                } else if failed {
                    Outcome::Failed
                } else {
                    if entry.task == "monitor" {
                        self.rscs[rsc].role = Role::Promoted;
                    }
                    Outcome::Done
                }
            }
            9 => {
                self.rscs[rsc].role = Role::Promoted;
                if target == Some(9) && entry.status == 0 { Outcome::Done } else { Outcome::Failed }
            }
            6 => Outcome::FailedFatal,
            3 if entry.interval > 0 => Outcome::Failed,
            2..=5 => Outcome::FailedHard,
            _ if failed || entry.status > 1 => Outcome::Failed,
            _ => Outcome::Failed,
        }
    }

    /// Whether a failed operation ran with parameters that are not those of now. Then its count is to be cleared.
    fn outdated(&self, rsc: RscIx, node: NodeIx, entry: &Entry<'a>) -> bool {
        let last = entry.xml.id().is_some_and(|id| id.ends_with("_last_failure_0"));
        let task = matches!(entry.task, "start" | "monitor");
        if !last || !task {
            return false;
        }
        let Some(was) = entry.xml.attr("op-digest") else { return false };
        let params = self.digest_parameters(rsc, node, entry.task, entry.interval);
        if params.get("addr").is_some_and(|a| a == "#uname") {
            // It is not known yet where its container runs.
            return false;
        }
        crate::actions::params::digest(&params) != was
    }

    /// Whether a failure is too old to count. Then its count is to be cleared as well.
    fn expired(&mut self, rsc: RscIx, node: NodeIx, entry: &Entry<'a>, failed: bool) -> bool {
        let timeout = self.rscs[rsc].failure_timeout;
        if timeout <= 0 {
            return false;
        }
        let block = self.blocking_failures.contains(&(rsc, node));
        let mut expired =
            entry.changed > 0 && self.now.epoch() >= entry.changed + timeout && !block;
        let counted = self.fail_count(rsc, node, true);
        let raw = self.fail_count(rsc, node, false);
        if expired && raw > 0 {
            if counted == 0 {
                let why = if entry.probe() || entry.interval > 0 || self.fail_expired_clear(rsc) {
                    "it expired"
                } else {
                    "reconnect interval is set"
                };
                self.clear_failures.push((rsc, node, why));
            } else {
                // A newer failure keeps the count alive.
                expired = false;
            }
        }
        if !expired && failed && entry.changed > 0 {
            let due = entry.changed + timeout + 1;
            self.look_again(due);
        }
        if expired && entry.interval == 0 && entry.task == "stop" {
            return false;
        }
        expired
    }

    fn fail_expired_clear(&self, rsc: RscIx) -> bool {
        self.rscs[rsc].remote_node.is_none()
    }

    fn pending(&mut self, rsc: RscIx, node: NodeIx, entry: &Entry<'a>) {
        let unclean = self.nodes[node].unclean;
        let promotable = self.promotable(rsc);
        let r = &mut self.rscs[rsc];
        match entry.task {
            "start" => {
                r.start_pending = true;
                r.role = if promotable { Role::Unpromoted } else { Role::Started };
            }
            "promote" => r.role = Role::Promoted,
            "migrate_to" if unclean => {
                // Where it is now can not be known; fencing will tell.
                r.failed = true;
                r.role = Role::Started;
                r.allow_migrate = false;
            }
            "migrate_to" | "migrate_from" => {
                r.role = Role::Started;
            }
            _ => {}
        }
        r.pending = Some(match (entry.task, entry.interval) {
            ("start", _) => "Starting",
            ("stop", _) => "Stopping",
            ("promote", _) => "Promoting",
            ("demote", _) => "Demoting",
            ("migrate_to" | "migrate_from", _) => "Migrating",
            ("monitor", 0) => "Checking",
            ("monitor", _) => "Monitoring",
            _ => return,
        });
        if entry.task == "migrate_to" {
            self.pending_migrate_to(rsc, node, entry);
        }
    }

    fn set_active(&mut self, rsc: RscIx) {
        self.rscs[rsc].role = if self.promotable(rsc) { Role::Unpromoted } else { Role::Started };
    }

    fn success(&mut self, rsc: RscIx, node: NodeIx, entry: &Entry<'a>, replay: &mut Replay<'a>) {
        self.rscs[rsc].pending = None;
        let mut clear = false;
        if entry.rc == 7 || (entry.rc == 5 && entry.probe()) {
            self.rscs[rsc].role = Role::Stopped;
            clear = true;
        } else {
            match entry.task {
                "monitor" => {
                    if let Some(last) = &replay.last_failure {
                        clear = last.task == entry.task && last.interval == entry.interval;
                    }
                    if !self.rscs[rsc].role.active() {
                        self.set_active(rsc);
                    }
                }
                "start" => {
                    self.rscs[rsc].role = Role::Started;
                    if self.promotable(rsc) {
                        self.rscs[rsc].role = Role::Unpromoted;
                    }
                    clear = true;
                    self.rscs[rsc].start_pending = false;
                }
                "stop" => {
                    self.rscs[rsc].role = Role::Stopped;
                    clear = true;
                }
                "promote" => {
                    self.rscs[rsc].role = Role::Promoted;
                    clear = true;
                }
                "demote" => {
                    self.rscs[rsc].role = Role::Unpromoted;
                    clear = replay.on_fail == OnFail::Demote;
                }
                "migrate_from" => {
                    self.rscs[rsc].role = Role::Started;
                    clear = true;
                }
                "migrate_to" => {
                    self.migrate_to_succeeded(rsc, node, entry);
                }
                _ => {
                    if !self.rscs[rsc].role.active() {
                        self.set_active(rsc);
                    }
                }
            }
        }
        if clear {
            match replay.on_fail {
                OnFail::Stop | OnFail::Ban | OnFail::Standby | OnFail::Fence => {}
                _ => {
                    replay.on_fail = OnFail::Ignore;
                    self.rscs[rsc].next_role = Role::Unknown;
                }
            }
        }
    }

    fn failure(
        &mut self,
        rsc: RscIx,
        node: NodeIx,
        entry: &Entry<'a>,
        outcome: Outcome,
        replay: &mut Replay<'a>,
    ) {
        self.rscs[rsc].pending = None;
        let mut on_fail = self.op_options(rsc, entry.task, entry.interval).on_fail;
        let not_there = entry.probe() && (entry.rc == 5 || entry.status == 7);
        let missing = entry.status == 5 || entry.status == 7;
        if on_fail == OnFail::Ignore && missing && !entry.probe() {
            // That the agent is not there can not be ignored.
            on_fail = OnFail::Ban;
        }
        let stopped_with_container = on_fail == OnFail::RestartContainer && entry.task == "stop";
        if on_fail == OnFail::Ignore && !not_there || stopped_with_container {
            let mut pretend = *entry;
            pretend.rc = entry.target_rc.filter(|t| *t >= 0).unwrap_or(0);
            replay.last_failure = Some(*entry);
            self.success(rsc, node, &pretend, replay);
            self.rscs[rsc].failure_ignored = true;
            self.failed_ops.push((node, rsc, entry.xml));
            if stopped_with_container {
                // The end of the container is the end of what is in it.
                replay.on_fail = replay.on_fail.max(on_fail);
            }
            return;
        }
        replay.last_failure = Some(*entry);
        self.failed_ops.push((node, rsc, entry.xml));
        replay.on_fail = replay.on_fail.max(on_fail);
        replay.stop_hopeless |= entry.task == "stop" && outcome == Outcome::FailedHard;
        match entry.task {
            "stop" => self.ban(rsc, node, "__stop_fail__"),
            "migrate_to" => self.migrate_to_failed(rsc, node, entry),
            "migrate_from" => self.migrate_from_failed(rsc, node, entry),
            "promote" => self.rscs[rsc].role = Role::Promoted,
            "demote" => {
                let r = &mut self.rscs[rsc];
                if on_fail == OnFail::Block {
                    r.role = Role::Promoted;
                    r.next_role = Role::Stopped;
                } else if entry.rc == 7 {
                    r.role = Role::Stopped;
                } else {
                    r.role = Role::Unpromoted;
                }
            }
            _ => {}
        }
        if entry.task == "stop" {
            self.rscs[rsc].stop_failed = true;
        }
        if not_there {
            self.rscs[rsc].role = Role::Stopped;
        } else if !self.rscs[rsc].role.active() {
            self.set_active(rsc);
        }
        if on_fail == OnFail::Stop {
            self.rscs[rsc].next_role = Role::Stopped;
            let target = if self.anonymous(rsc) { self.top_of(rsc) } else { rsc };
            self.ban_everywhere(target, "on-fail");
        }
        let above = if self.anonymous(rsc) { self.top_of(rsc) } else { rsc };
        match outcome {
            Outcome::FailedHard => self.ban(above, node, "hard-error"),
            Outcome::FailedFatal => self.ban_everywhere(above, "fatal-error"),
            _ => {}
        }
    }

    /// Recurring operations that run now, for cancelling what is not configured any more.
    fn note_recurring(&mut self, rsc: RscIx, node: NodeIx, entries: &[Entry<'a>]) {
        if !self.nodes[node].online {
            return;
        }
        let (mut start, mut stop, mut implied) = (None, None, None);
        for (i, e) in entries.iter().enumerate() {
            match e.task {
                "stop" if e.status == 0 => stop = Some(i),
                "start" | "migrate_from" => start = Some(i),
                "monitor" if start <= stop && implied <= stop && (e.rc == 0 || e.rc == 8) => {
                    implied = Some(i);
                }
                "promote" | "demote" => implied = Some(i),
                _ => {}
            }
        }
        let start = start.or(implied);
        if stop.is_some() && stop > start {
            return;
        }
        for (i, e) in entries.iter().enumerate() {
            if e.interval == 0 || e.status == -1 || start.is_some_and(|s| i < s && s != i) {
                continue;
            }
            self.stale_recurring.push(StaleOp { rsc, node, task: e.task, interval: e.interval });
        }
    }
}
