//! The state of one scheduling pass.
//!
//! `Cluster` is filled by `unpack`, given scores by `constraints` and `assign`, and gets its actions from `actions` and
//! `order`. It holds everything by index, so a pass never searches a list by name.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashMap;

use tierce_cib::ids::Ids;
use tierce_cib::time::Moment;
use tierce_cib::xml::{Document, Element};

use crate::action::{Action, Order};
use crate::arena::{ActIx, Arena, ColIx, LocIx, NodeIx, OrdIx, RscIx};
use crate::model::{Colocation, Kind, Location, Node, Resource, Role, Ticket, TicketUse};
use crate::options::Options;

/// One pass over one CIB.
#[derive(Clone)]
pub(crate) struct Cluster<'a> {
    /// The document.
    pub doc: &'a Document,
    /// What its references stand for.
    pub ids: Ids<'a>,
    /// The moment that counts as now.
    pub now: Moment,
    /// When to look again at the latest.
    pub next_change: Cell<Option<i64>>,
    /// Cluster options.
    pub options: Options<'a>,
    /// Whether this partition has quorum.
    pub quorate: bool,
    /// Whether there is a fence device, or a watchdog in its place.
    pub has_fencing: bool,
    /// Nodes in the order of their names.
    pub nodes: Arena<NodeIx, Node<'a>>,
    /// Nodes by name.
    pub node_by_name: HashMap<String, NodeIx>,
    /// Nodes by id.
    pub node_by_id: HashMap<String, NodeIx>,
    /// All resources.
    pub rscs: Arena<RscIx, Resource<'a>>,
    /// The outermost, by priority, else as configured.
    pub top: Vec<RscIx>,
    /// Resources by id.
    pub rsc_by_id: HashMap<String, RscIx>,
    /// The outermost clone by the name of something in it.
    pub clone_of: HashMap<&'a str, RscIx>,
    /// Templates by id, with the resources made of them.
    pub templates: HashMap<&'a str, Vec<&'a str>>,
    /// Tags with what they name.
    pub tags: HashMap<&'a str, Vec<&'a str>>,
    /// Tickets by name.
    pub tickets: HashMap<Cow<'a, str>, Ticket>,
    /// Ticket constraints.
    pub ticket_uses: Vec<TicketUse<'a>>,
    /// Location constraints.
    pub locations: Arena<LocIx, Location<'a>>,
    /// Colocations.
    pub colocations: Arena<ColIx, Colocation<'a>>,
    /// Defaults of resources.
    pub rsc_defaults: Option<Element<'a>>,
    /// Defaults of operations.
    pub op_defaults: Option<Element<'a>>,
    /// Actions.
    pub actions: Arena<ActIx, Action<'a>>,
    /// Actions of each resource.
    pub rsc_actions: Vec<Vec<ActIx>>,
    /// Orderings that are not applied yet.
    pub orders: Vec<Order>,
    /// The ordering constraints.
    pub order_xml: Arena<OrdIx, Element<'a>>,
    /// The constraint that asks for what is being ordered or followed now, if one does.
    pub origin: Option<OrdIx>,
    /// The fencing action of each node.
    pub fence_actions: Vec<Option<ActIx>>,
    /// The actions that let nodes in.
    pub unfence_actions: HashMap<NodeIx, ActIx>,
    /// Whether a device asks for unfencing.
    pub unfencing: bool,
    /// Shutdown locks that are over.
    pub expired_locks: Vec<(RscIx, NodeIx)>,
    /// Pseudo actions of the whole cluster by name.
    pub pseudo_actions: HashMap<String, ActIx>,
    /// Recurring operations in the history that are not configured any more.
    pub stale_recurring: Vec<StaleOp<'a>>,
    /// Fail counts that are to be cleared: resource, node, why.
    pub clear_failures: Vec<(RscIx, NodeIx, &'static str)>,
    /// Failed operations for the display.
    pub failed_ops: Vec<(NodeIx, RscIx, Element<'a>)>,
    /// Where a failure that blocks keeps the failures of a resource from expiring.
    pub blocking_failures: Vec<(RscIx, NodeIx)>,
    /// Recurring operations that failed so long ago that they begin anew.
    pub expired_recurring: Vec<(RscIx, NodeIx, u64, i64)>,
    /// Ends of recurring operations that are in a history and not configured.
    pub unconfigured: Vec<ActIx>,
    /// Notifications around the operations of clones.
    pub notices: Vec<crate::actions::notify::Notices>,
    /// Containers that a failure inside asks to restart.
    pub stop_needed: Vec<RscIx>,
    /// Where the DC runs.
    pub dc: Option<NodeIx>,
}

/// A recurring operation in a history.
#[derive(Debug, Clone)]
pub(crate) struct StaleOp<'a> {
    /// Of what.
    pub rsc: RscIx,
    /// Where.
    pub node: NodeIx,
    /// The task and interval.
    pub task: &'a str,
    /// Milliseconds.
    pub interval: u64,
}

impl Cluster<'_> {
    /// The outermost resource that a resource is in.
    pub(crate) fn top_of(&self, mut rsc: RscIx) -> RscIx {
        while let Some(parent) = self.rscs[rsc].parent {
            if self.rscs[parent].kind == Kind::Bundle {
                break;
            }
            rsc = parent;
        }
        rsc
    }

    /// Whether a resource is, or is in, an anonymous clone.
    pub(crate) fn anonymous(&self, rsc: RscIx) -> bool {
        let mut at = Some(rsc);
        while let Some(ix) = at {
            let r = &self.rscs[ix];
            if r.kind == Kind::Clone {
                return !r.unique;
            }
            at = r.parent;
        }
        false
    }

    /// The clone that a resource is in, or is.
    pub(crate) fn clone_above(&self, rsc: RscIx) -> Option<RscIx> {
        let mut at = Some(rsc);
        while let Some(ix) = at {
            if self.rscs[ix].kind == Kind::Clone {
                return Some(ix);
            }
            at = self.rscs[ix].parent;
        }
        None
    }

    /// Whether a resource is in a promotable clone, or is one.
    pub(crate) fn promotable(&self, rsc: RscIx) -> bool {
        self.clone_above(rsc).is_some_and(|c| self.rscs[c].promotable)
    }

    /// Whether a node can take resources now.
    pub(crate) fn usable(&self, node: NodeIx) -> bool {
        self.nodes[node].unusable().is_none()
    }

    /// Notes a moment at which things may be seen otherwise.
    pub(crate) fn look_again(&self, at: i64) {
        if at > self.now.epoch() && self.next_change.get().is_none_or(|next| at < next) {
            self.next_change.set(Some(at));
        }
    }

    /// Whether fencing is on.
    pub(crate) fn fencing(&self) -> bool {
        self.options.fencing_enabled
    }

    /// A node attribute, with the built-in ones.
    pub(crate) fn node_attribute(&self, node: NodeIx, name: &str) -> Option<&str> {
        self.nodes[node].attributes.get(name).map(AsRef::as_ref)
    }

    /// All primitives beneath a resource, itself included.
    pub(crate) fn primitives(&self, rsc: RscIx, into: &mut Vec<RscIx>) {
        if self.rscs[rsc].kind == Kind::Primitive {
            into.push(rsc);
        }
        for i in 0..self.rscs[rsc].children.len() {
            self.primitives(self.rscs[rsc].children[i], into);
        }
    }

    /// The role of a resource; a collective has the greatest of its members.
    pub(crate) fn role_of(&self, rsc: RscIx, current: bool) -> Role {
        let r = &self.rscs[rsc];
        if r.kind == Kind::Primitive {
            return if current { r.role } else { r.next_role };
        }
        r.children.iter().map(|c| self.role_of(*c, current)).max().unwrap_or_default()
    }

    /// Where a resource runs; a collective where any member runs.
    pub(crate) fn running_nodes(&self, rsc: RscIx) -> Vec<NodeIx> {
        let r = &self.rscs[rsc];
        if r.kind == Kind::Primitive {
            return r.running_on.clone();
        }
        let mut all = Vec::new();
        for c in &r.children {
            for n in self.running_nodes(*c) {
                if !all.contains(&n) {
                    all.push(n);
                }
            }
        }
        all
    }
}
