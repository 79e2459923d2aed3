//! Why a resource is where it is, and why not elsewhere: what the pass itself noted, put into words.
//!
//! Nothing is worked out anew here. Scores come with the parts that they were made of (`row.rs`), the choice of a node with what put it
//! before the others, an action with the action and the constraint that asked for it or held it. The parts of a node add up to the score
//! by which it was compared.

use std::fmt;

use crate::action::{Bond, NOWHERE, Task};
use crate::arena::{ActIx, LocIx, NodeIx, RscIx};
use crate::cluster::Cluster;
use crate::model::{Origin, Place, Promotion, Unusable};
use crate::plan::Plan;
use crate::row::{Cause, Choice, Criterion, Verdict};

/// All that decided about one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Its id, with the number of the instance for one of a clone.
    pub resource: String,
    /// The nodes on which it is active now.
    pub active_on: Vec<String>,
    /// What it is now: `Stopped`, `Started`, `Unpromoted`, `Promoted`.
    pub role: &'static str,
    /// What it will be.
    pub next_role: &'static str,
    /// The node that it was assigned to.
    pub assigned: Option<String>,
    /// Why it was assigned there, or nowhere, in a sentence.
    pub verdict: &'static str,
    /// Of an instance of a promotable clone: its promotion score, and whether it is promoted or why not, in a sentence.
    pub promotion: Option<(i32, &'static str)>,
    /// Every node, in the order of their names.
    pub nodes: Vec<NodeReason>,
    /// Its actions that happen, or should and can not.
    pub actions: Vec<ActionReason>,
}

/// What a resource thinks of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeReason {
    /// The node's name.
    pub node: String,
    /// Whether the resource may use it at all: in a cluster that is not symmetrical only where a constraint says so.
    pub listed: bool,
    /// The score that decided; a million is INFINITY.
    pub score: i32,
    /// What it is the sum of.
    pub parts: Vec<Part>,
    /// What became of it.
    pub fate: Fate,
}

/// What became of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The resource was assigned to it.
    Chosen,
    /// Another came before it, because of this.
    Lost(&'static str),
    /// A score below zero.
    Banned,
    /// The node can take nothing, because of this.
    Unusable(&'static str),
    /// No constraint lists it.
    NotListed,
    /// It was not asked: the resource stays as it is, or all are stopped.
    NotAsked,
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chosen => f.write_str("chosen"),
            Self::Lost(why) => write!(f, "not chosen: {why}"),
            Self::Banned => f.write_str("can not be used: its score is below zero"),
            Self::Unusable(why) => write!(f, "can not be used: {why}"),
            Self::NotListed => f.write_str("can not be used: no constraint allows it"),
            Self::NotAsked => f.write_str("was not asked"),
        }
    }
}

/// One part of a score.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// How much.
    pub score: i32,
    /// What the score was then: the sum so far. Two kinds set it instead: a wish of another never takes a node away that is wanted
    /// (it leaves 1), and what is inside of a container has no choice.
    pub after: i32,
    /// Why.
    pub why: Why,
}

/// What a part of a score comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// A location constraint.
    Location {
        /// The constraint's id.
        id: String,
    },
    /// A ticket that is missing or aside.
    Ticket {
        /// The constraint's id.
        id: String,
        /// The ticket.
        ticket: String,
        /// Whether this site has it, though it is put aside.
        standby: bool,
    },
    /// Something in the status: an earlier failure, its node's health.
    Status(&'static str),
    /// It runs there and prefers to stay.
    Stickiness,
    /// It failed there as often as it may.
    Threshold,
    /// It must be, or would like to be, with another (or without it), which was assigned.
    With {
        /// The colocation's id; of members of a group `#group-members`.
        id: String,
        /// The other.
        resource: String,
    },
    /// Another wants to be with it (or without it).
    Wanted {
        /// The colocation's id; of members of a group `#group-members`.
        id: String,
        /// The other.
        resource: String,
    },
    /// The promotion score of the instance there.
    Promotion,
    /// As many instances are on the node as may be.
    Full,
    /// Enough other instances have a place.
    Surplus,
    /// The node has too little free capacity.
    Capacity,
    /// It is to be stopped.
    Stopped,
    /// Probes and runs are only where a constraint says so.
    Discovery,
    /// What a container brings runs inside of it, and nothing else does.
    Inside,
}

impl Why {
    /// What kind of reason it is, in one word.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Location { .. } => "location",
            Self::Ticket { .. } => "ticket",
            Self::Status(_) => "status",
            Self::Stickiness => "stickiness",
            Self::Threshold => "failures",
            Self::With { .. } => "colocation",
            Self::Wanted { .. } => "wanted",
            Self::Promotion => "promotion",
            Self::Full => "instances",
            Self::Surplus => "surplus",
            Self::Capacity => "capacity",
            Self::Stopped => "target-role",
            Self::Discovery => "discovery",
            Self::Inside => "container",
        }
    }

    /// The constraint that it comes from.
    pub fn constraint(&self) -> Option<&str> {
        match self {
            Self::Location { id }
            | Self::Ticket { id, .. }
            | Self::With { id, .. }
            | Self::Wanted { id, .. } => Some(id),
            _ => None,
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Location { id } => write!(f, "location constraint {id}"),
            Self::Ticket { id, ticket, standby: true } => {
                write!(f, "ticket {ticket} is on standby (constraint {id})")
            }
            Self::Ticket { id, ticket, standby: false } => {
                write!(f, "ticket {ticket} is not granted to this site (constraint {id})")
            }
            Self::Status(what) => f.write_str(what),
            Self::Stickiness => f.write_str("resource-stickiness: it runs there"),
            Self::Threshold => {
                f.write_str("it failed there as often as migration-threshold allows")
            }
            Self::With { id, resource } if id == GROUP => {
                write!(f, "it goes where the member {resource} of its group is")
            }
            Self::With { id, resource } => {
                write!(f, "colocation {id}: where {resource} is decides")
            }
            Self::Wanted { id, resource } if id == GROUP => {
                write!(f, "what the member {resource} of its group thinks of the node")
            }
            Self::Wanted { id, resource } => {
                write!(f, "colocation {id}: what {resource} thinks of the node")
            }
            Self::Promotion => f.write_str("promotion score"),
            Self::Full => f.write_str("the node has as many instances as it may have"),
            Self::Surplus => f.write_str("enough other instances have a place"),
            Self::Capacity => f.write_str("the node has too little free capacity"),
            Self::Discovery => f.write_str("resource-discovery is exclusive, and not there"),
            Self::Inside => {
                f.write_str("what a container brings runs inside of it, and nothing else does")
            }
            Self::Stopped => {
                f.write_str("it is to be stopped: target-role, or a failure that stops it")
            }
        }
    }
}

/// The name of colocations between members of a group.
const GROUP: &str = "#group-members";

/// One action of a resource, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionReason {
    /// The operation's key.
    pub key: String,
    /// Where it runs.
    pub node: Option<String>,
    /// Whether it happens; else it should and can not.
    pub happens: bool,
    /// Why, in words.
    pub why: Option<String>,
    /// The action that asked for it or holds it.
    pub by: Option<String>,
    /// The constraint that ties the two.
    pub constraint: Option<String>,
}

impl Plan<'_> {
    /// Why a resource is where it is. `None` if there is no such resource. Of a clone, group or bundle the parts tell: see [`Plan::parts`].
    pub fn explain(&self, resource: &str) -> Option<Explanation> {
        let c = &self.cluster;
        let rsc = c.rsc_by_id.get(resource).copied()?;
        let r = &c.rscs[rsc];
        let name = |n: &NodeIx| c.nodes[*n].name.to_string();
        let verdict = r.choice.as_ref().map_or(NOT_CHOSEN, |choice| sentence(choice.verdict));
        let assigned = r.assigned.filter(|_| r.next_role.active());
        Some(Explanation {
            resource: r.id.clone(),
            active_on: c.running_nodes(rsc).iter().map(name).collect(),
            role: c.role_of(rsc, true).word(),
            next_role: c.role_of(rsc, false).word(),
            assigned: assigned.as_ref().map(name),
            verdict,
            promotion: c.promotion_of(rsc),
            nodes: c.nodes.keys().map(|n| c.node_reason(rsc, n, assigned)).collect(),
            actions: c.rsc_actions[rsc.0 as usize]
                .iter()
                .filter_map(|ix| c.action_reason(*ix))
                .collect(),
        })
    }

    /// The resources that a name stands for: itself if it is a primitive, else what is in it; of what is in a clone each instance.
    pub fn parts(&self, resource: &str) -> Vec<String> {
        let c = &self.cluster;
        let mut found = Vec::new();
        if let Some(rsc) = c.rsc_by_id.get(resource) {
            c.primitives(*rsc, &mut found);
        } else if let Some(clone) = c.clone_of.get(resource) {
            c.primitives(*clone, &mut found);
            found.retain(|p| c.rscs[*p].base == resource);
        }
        found.iter().map(|p| c.rscs[*p].id.clone()).collect()
    }

    /// All resources: primitives, groups, clones, instances.
    pub fn resources(&self) -> impl Iterator<Item = &str> {
        self.cluster.rscs.keys().map(|r| self.cluster.rscs[r].id.as_str())
    }
}

const NOT_CHOSEN: &str = "what is in it is assigned by itself";

fn sentence(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Best => "the node with the best score",
        Verdict::Stays => "it runs there, and no node is better",
        Verdict::Kept => "the instance runs there and is kept",
        Verdict::Unmanaged => "it is not managed: it is left as it is",
        Verdict::StopAll => "stop-all-resources is set",
        Verdict::NoNode => "no node can take it",
    }
}

fn lost_by(criterion: Criterion) -> &'static str {
    match criterion {
        Criterion::Score => "a lower score",
        Criterion::Capacity => "less free capacity",
        Criterion::Fewer => "more resources are there already",
        Criterion::Runs => "it runs on the other",
        Criterion::Name => "the order of names, all else being equal",
    }
}

fn promoted_for(why: Promotion) -> &'static str {
    match why {
        Promotion::Chosen => "it is promoted",
        Promotion::Enough => "not promoted: others come first, and they are enough",
        Promotion::NoneAllowed => {
            "not promoted: none may be, by promoted-max or for want of quorum"
        }
        Promotion::NoNode => "not promoted: it has no node, or something in it has none",
        Promotion::Unmanaged => "not promoted: it is not managed",
        Promotion::Score => "not promoted: its promotion score is below zero",
        Promotion::Ticket => "not promoted: its ticket is not granted, or on standby",
        Promotion::Node => "not promoted: its node can take nothing",
        Promotion::Full => "not promoted: its node has as many as it may have",
    }
}

fn unusable_for(why: Unusable) -> &'static str {
    match why {
        Unusable::Unclean => "the node's state is not known, it is to be fenced",
        Unusable::Offline => "the node is offline",
        Unusable::ShuttingDown => "the node is shutting down",
        Unusable::Pending => "the node is still joining",
        Unusable::Standby => "the node is on standby",
        Unusable::StandbyOnFail => "the node is on standby since something failed there",
        Unusable::Maintenance => "the node is in maintenance",
    }
}

/// The words for what the status asks for.
fn status_words(id: &str) -> &'static str {
    match id {
        "node-health" => "health of the node",
        "not_managed_default" => "it is not managed, and is there",
        "multiple-active" => "it is active on several nodes, and is to be stopped on all",
        "__orphan_do_not_run__" => "it is not in the configuration any more",
        "on-fail" => "an operation failed whose on-fail is stop",
        "hard-error" => "it can not work on this node: an operation said so",
        "fatal-error" => "it can not work anywhere: an operation said so",
        "__no_fencing__" => "there is nothing to fence with, so it begins nowhere",
        "__stop_fail__" => "a stop failed there",
        "__action_migration_auto__" => "an operation failed there whose on-fail is migrate",
        _ => "an earlier result",
    }
}

impl Cluster<'_> {
    fn node_reason(&self, rsc: RscIx, node: NodeIx, assigned: Option<NodeIx>) -> NodeReason {
        let r = &self.rscs[rsc];
        let place = r.allowed[node.0 as usize];
        let parts = r.allowed.parts.iter().filter(|p| p.node == node);
        NodeReason {
            node: self.nodes[node].name.to_string(),
            listed: place.listed,
            score: place.score,
            parts: parts
                .map(|p| Part { score: p.score, after: p.after, why: self.why(p.cause) })
                .collect(),
            fate: self.fate(node, place, r.choice.as_ref(), assigned),
        }
    }

    fn fate(
        &self,
        node: NodeIx,
        place: Place,
        choice: Option<&Choice>,
        assigned: Option<NodeIx>,
    ) -> Fate {
        if assigned == Some(node) {
            return Fate::Chosen;
        }
        if let Some(why) = self.nodes[node].unusable() {
            return Fate::Unusable(unusable_for(why));
        }
        if !place.listed {
            return Fate::NotListed;
        }
        if place.score < 0 {
            return Fate::Banned;
        }
        let lost = choice.and_then(|c| c.lost.iter().find(|(n, _)| *n == node));
        lost.map_or(Fate::NotAsked, |(_, criterion)| Fate::Lost(lost_by(*criterion)))
    }

    /// Whether an instance (or what is in it) is promoted, and with what score.
    fn promotion_of(&self, rsc: RscIx) -> Option<(i32, &'static str)> {
        std::iter::successors(Some(rsc), |at| self.rscs[*at].parent).find_map(|at| {
            let r = &self.rscs[at];
            r.promotion.map(|why| (r.sort_weight, promoted_for(why)))
        })
    }

    fn why(&self, cause: Cause) -> Why {
        match cause {
            Cause::Location(ix) => self.why_location(ix),
            Cause::Stickiness => Why::Stickiness,
            Cause::Threshold => Why::Threshold,
            Cause::With(ix) => {
                let col = &self.colocations[ix];
                let resource = self.rscs[col.primary].id.clone();
                Why::With { id: col.id.to_string(), resource }
            }
            Cause::Wanted(ix) => {
                let col = &self.colocations[ix];
                let resource = self.rscs[col.dependent].id.clone();
                Why::Wanted { id: col.id.to_string(), resource }
            }
            Cause::Promotion => Why::Promotion,
            Cause::Full => Why::Full,
            Cause::Surplus => Why::Surplus,
            Cause::Capacity => Why::Capacity,
            Cause::Stopped => Why::Stopped,
            Cause::Discovery => Why::Discovery,
            Cause::Inside => Why::Inside,
        }
    }

    fn why_location(&self, ix: LocIx) -> Why {
        let location = &self.locations[ix];
        match location.origin {
            Origin::Constraint => Why::Location { id: location.id.to_string() },
            Origin::Status => Why::Status(status_words(&location.id)),
            Origin::Ticket(position) => {
                let used = &self.ticket_uses[position];
                let (id, ticket) = (used.id.to_owned(), used.ticket.to_owned());
                let standby = self.tickets.get(used.ticket).is_some_and(|t| t.granted);
                Why::Ticket { id, ticket, standby }
            }
        }
    }

    /// Why an action happens, or should and can not; `None` for what nothing asks for.
    pub(crate) fn action_reason(&self, ix: ActIx) -> Option<ActionReason> {
        let a = &self.actions[ix];
        let happens = self.in_graph(ix);
        if !happens && (a.optional || a.phantom) {
            return None;
        }
        // A monitor that goes on as it is was asked for by nobody.
        if a.task == Task::Monitor && a.optional {
            return None;
        }
        Some(self.reason_of(ix))
    }

    /// The ticket, if it is for that that a resource, or what it is in, may be nowhere.
    pub(crate) fn lacks_ticket(&self, rsc: RscIx) -> Option<Why> {
        let mut around = std::iter::successors(Some(rsc), |r| self.rscs[*r].parent);
        around.find_map(|r| {
            let of_ticket = |ix: &&LocIx| matches!(self.locations[**ix].origin, Origin::Ticket(_));
            self.rscs[r].locations.iter().find(of_ticket).map(|ix| self.why_location(*ix))
        })
    }

    /// What was noted of an action.
    pub(crate) fn reason_of(&self, ix: ActIx) -> ActionReason {
        let a = &self.actions[ix];
        let nowhere = a.reason.as_deref() == Some(NOWHERE);
        let ticket = a.rsc.filter(|_| nowhere).and_then(|r| self.lacks_ticket(r));
        ActionReason {
            key: a.key.to_string(),
            node: a.node.map(|n| self.nodes[n].name.to_string()),
            happens: self.in_graph(ix),
            why: ticket.map(|t| t.to_string()).or_else(|| a.reason.clone()),
            by: a.because.map(|b| self.actions[b.by].key.to_string()),
            constraint: a.because.and_then(|b| b.constraint).map(|bond| match bond {
                Bond::Order(ix) => self.order_xml[ix].id().unwrap_or("").to_owned(),
                Bond::Colocation(ix) => self.colocations[ix].id.to_string(),
            }),
        }
    }
}
