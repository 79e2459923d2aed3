//! Status: tickets, the state of each node, and then the histories.
//!
//! With fencing a node that can not be trusted is *unclean*: what it ran counts as running until it is fenced. Without fencing an
//! absent node is simply off. Histories of members come before those of remote nodes, for only then it is known whether the
//! connections are up.

use std::borrow::Cow;

use tierce_cib::nvset::{self, Pairs};
use tierce_cib::values;
use tierce_cib::xml::Element;

use crate::Error;
use crate::arena::{NodeIx, RscIx};
use crate::cluster::Cluster;
use crate::model::{NodeKind, Role, Ticket};
use crate::options::NoQuorum;

/// What a node's membership words say.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Join {
    Member,
    Pending,
    Down,
    Banned,
    Other,
}

impl<'a> Cluster<'a> {
    pub(super) fn unpack_status(&mut self, status: Option<Element<'a>>) -> Result<(), Error> {
        let Some(status) = status else { return Ok(()) };
        self.unpack_tickets(status);
        let states: Vec<_> = status.children_named("node_state").collect();
        let mut known = Vec::new();
        for xml in states {
            let by_id = xml.id().and_then(|id| self.node_by_id.get(id).copied());
            let by_name = xml.attr("uname").and_then(|name| self.node_by_name.get(name).copied());
            let Some(node) = by_name.or(by_id) else { continue };
            self.node_attributes(node, xml);
            if self.nodes[node].kind == NodeKind::Member {
                self.judge(node, xml);
            }
            if self.nodes[node].is_remote() && values::is_true(xml.attr("node_in_maintenance")) {
                self.nodes[node].maintenance = true;
            }
            self.nodes[node].was_fenced = values::is_true(xml.attr("node_fenced"));
            known.push((node, xml));
        }
        self.mark_quorum_losers();
        self.judge_health();
        self.read_histories(&known)?;
        self.after_histories();
        Ok(())
    }

    fn unpack_tickets(&mut self, status: Element<'a>) {
        for state in status.children_named("tickets").flat_map(|t| t.children_named("ticket_state"))
        {
            let Some(id) = state.id() else { continue };
            let ticket = Ticket {
                granted: values::is_true(state.attr("granted")),
                standby: values::is_true(state.attr("standby")),
            };
            self.tickets.insert(Cow::Borrowed(id), ticket);
        }
        // The form of configurations before 1.1.9.
        for set in
            status.children_named("tickets").flat_map(|t| t.children_named("instance_attributes"))
        {
            for (name, value) in nvset::pairs_of(set, &self.ids) {
                if let Some(id) = name.strip_prefix("granted-ticket-") {
                    let ticket = self.tickets.entry(Cow::Borrowed(id)).or_default();
                    ticket.granted = values::is_true(Some(value));
                }
            }
        }
    }

    fn node_attributes(&mut self, node: NodeIx, xml: Element<'a>) {
        let mut found = Pairs::default();
        for holder in xml.children_named("transient_attributes") {
            let sets = holder.children_named("instance_attributes");
            found.add(sets, &self.ids, &self.situation());
            // What the node tells of its capacity fills in what is not configured.
            let mut capacity = Pairs::default();
            capacity.add(holder.children_named("utilization"), &self.ids, &self.situation());
            for (name, value) in capacity.iter() {
                let free = values::leading_integer(value).unwrap_or(0);
                self.nodes[node].utilization.entry(name).or_insert(free);
            }
        }
        for (name, value) in found.iter() {
            self.nodes[node].attributes.insert(name, Cow::Borrowed(value));
        }
        let n = &self.nodes[node];
        if n.unseen {
            self.nodes[node].unseen = false;
            self.nodes[node].unclean = false;
        }
        self.index_fail_counts(node);
        if self.node_flag(node, "standby") {
            self.nodes[node].standby = true;
        }
        if self.node_flag(node, "maintenance") {
            self.nodes[node].maintenance = true;
        }
        if let Some(word) = self.node_attribute(node, "resource-discovery-enabled")
            && values::boolean(word) == Some(false)
            && self.nodes[node].is_remote()
        {
            self.nodes[node].discovery = false;
        }
    }

    /// Decides whether a member is online, pending, off or unclean.
    fn judge(&mut self, node: NodeIx, xml: Element<'a>) {
        let since = |word: Option<&str>, yes: &str| {
            word.is_some_and(|w| {
                w.eq_ignore_ascii_case(yes)
                    || values::boolean(w) == Some(true)
                    || values::leading_integer(w).is_some_and(|n| n > 0)
            })
        };
        let seen = xml.attr("in_ccm");
        let in_cluster = since(seen, "true");
        let process = since(xml.attr("crmd"), "online");
        let join = match xml.attr("join") {
            Some("member") => Join::Member,
            Some("pending") => Join::Pending,
            Some("down") | None => Join::Down,
            Some("banned") => Join::Banned,
            Some(_) => Join::Other,
        };
        let expected_up = xml.attr("expected") == Some("member");
        let terminate = self.node_attribute(node, "terminate").is_some_and(|w| {
            values::boolean(w).unwrap_or_else(|| values::leading_integer(w).is_some_and(|n| n > 0))
        });
        let shutdown = self.asked_to_shut_down(node);
        let n = &mut self.nodes[node];
        n.member = in_cluster;
        n.expected_up = expected_up;
        n.shutdown = shutdown;
        if !self.options.fencing_enabled {
            n.online = in_cluster && process && join == Join::Member;
            if in_cluster && !process && expected_up && !shutdown {
                self.doom(node, "peer is unexpectedly down");
            }
            let n = &mut self.nodes[node];
            if shutdown {
                n.expected_up = false;
            }
            return;
        }
        n.online = in_cluster;
        let pending_too_long = self.options.node_pending_timeout > 0 && in_cluster && !process && {
            let joined = seen.and_then(values::leading_integer).unwrap_or(0);
            joined > 1
                && self.now.epoch() - joined
                    >= (self.options.node_pending_timeout / 1000).cast_signed()
        };
        let reason = if shutdown {
            n.online = process;
            n.expected_up = false;
            None
        } else if seen.is_none() {
            Some("peer has not been seen by the cluster")
        } else if join == Join::Banned {
            Some("peer failed Pacemaker membership criteria")
        } else if !terminate && !expected_up && pending_too_long {
            Some("peer pending timed out on joining the process group")
        } else if !terminate && !expected_up {
            if in_cluster || process {
                n.standby = true;
                n.pending = true;
            }
            None
        } else if terminate && join == Join::Down && !in_cluster && !process {
            n.online = false;
            None
        } else if !in_cluster {
            n.fence_priority_delay = true;
            Some("peer is no longer part of the cluster")
        } else if !process {
            Some("peer process is no longer available")
        } else if terminate {
            Some("fencing was requested")
        } else if join == Join::Member {
            None
        } else if matches!(join, Join::Pending | Join::Down) {
            n.standby = true;
            n.pending = true;
            None
        } else {
            Some("peer was in an unknown state")
        };
        if let Some(reason) = reason {
            self.doom(node, reason);
        }
    }

    /// Whether a node is asked to shut down.
    pub(super) fn asked_to_shut_down(&self, node: NodeIx) -> bool {
        self.node_attribute(node, "shutdown").is_some_and(|w| {
            values::leading_integer(w).map_or(values::boolean(w) == Some(true), |n| n != 0)
        })
    }

    /// Marks a node for fencing; the first reason stays.
    pub(crate) fn doom(&mut self, node: NodeIx, reason: &str) {
        if self.nodes[node].kind == NodeKind::Guest {
            return self.doom_guest(node);
        }
        let unmanaged = self.nodes[node].connection.is_some_and(|c| !self.rscs[c].managed);
        if unmanaged {
            // What nobody manages is not fenced.
            return;
        }
        let n = &mut self.nodes[node];
        n.remote_reset |= n.kind == NodeKind::Remote;
        n.unclean = true;
        if n.fence_reason.is_none() {
            n.fence_reason = Some(reason.to_owned());
        }
    }

    /// `no-quorum-policy=fence`: all members of this partition are to be fenced, if there ever was quorum.
    fn mark_quorum_losers(&mut self) {
        if self.quorate || self.options.no_quorum != NoQuorum::Fence {
            return;
        }
        let panic = values::is_true(self.doc.root().attr("no-quorum-panic"));
        if !panic || !self.has_fencing {
            return;
        }
        for node in self.nodes.keys() {
            if self.nodes[node].online && !self.nodes[node].unclean {
                self.doom(node, "cluster does not have quorum");
            }
        }
    }

    fn after_histories(&mut self) {
        let all: Vec<RscIx> = self.rscs.keys().collect();
        for rsc in all {
            let r = &self.rscs[rsc];
            if r.blocked && r.next_role != Role::Stopped {
                self.rscs[rsc].managed = false;
            }
        }
    }
}
