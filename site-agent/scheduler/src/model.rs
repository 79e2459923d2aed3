//! What the cluster is: nodes, resources and constraints, with everything named by index.
//!
//! The unpack stage fills these types from the document; the later stages read them and write only the
//! fields that are theirs (`assigned`, `next_role`, the scores). Strings are borrowed from the document wherever
//! they stand there; only names of clone instances are made.

use std::borrow::Cow;
use std::collections::HashMap;

use tierce_cib::nvset::Pairs;
use tierce_cib::xml::Element;

use crate::arena::{ColIx, LocIx, NodeIx, RscIx};
pub(crate) use crate::row::{Choice, Discover, Place, Promotion, Row};

/// What a resource is or will be on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) enum Role {
    /// Nothing is known.
    #[default]
    Unknown,
    /// Not active.
    Stopped,
    /// Active, of a resource that has no further role.
    Started,
    /// Active, not promoted.
    Unpromoted,
    /// Active and promoted.
    Promoted,
}

impl Role {
    /// The role that a word of the CIB names.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        let is = |w: &str| word.eq_ignore_ascii_case(w);
        Some(match () {
            () if is("Stopped") => Self::Stopped,
            () if is("Started") => Self::Started,
            () if is("Unpromoted") || is("Slave") => Self::Unpromoted,
            () if is("Promoted") || is("Master") => Self::Promoted,
            () => return None,
        })
    }

    /// The word that the tools print.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Unknown => "Unknown",
            Self::Stopped => "Stopped",
            Self::Started => "Started",
            Self::Unpromoted => "Unpromoted",
            Self::Promoted => "Promoted",
        }
    }

    /// Whether this is a role in which the resource is active.
    pub(crate) fn active(self) -> bool {
        self > Self::Stopped
    }
}

/// What follows from a failure; of several failures the greatest decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) enum OnFail {
    /// Nothing.
    #[default]
    Ignore,
    /// Demote, and leave it there.
    Demote,
    /// Stop and start again.
    Restart,
    /// Fence or restart the remote connection.
    ResetRemote,
    /// Restart the container.
    RestartContainer,
    /// Move away.
    Ban,
    /// Leave as it is.
    Block,
    /// Stop, everywhere.
    Stop,
    /// Put the node into standby.
    Standby,
    /// Fence the node.
    Fence,
}

/// Kinds of nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NodeKind {
    /// A full member.
    Member,
    /// Reached by a connection resource.
    Remote,
    /// A remote node inside of a resource of the cluster.
    Guest,
}

/// Health of a node by its attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Health {
    /// Red.
    Red,
    /// Yellow.
    Yellow,
    /// Green, or nothing known.
    Green,
}

/// A node.
#[derive(Debug, Clone)]
pub(crate) struct Node<'a> {
    /// The id in the CIB.
    pub id: Cow<'a, str>,
    /// The name.
    pub name: Cow<'a, str>,
    /// What kind.
    pub kind: NodeKind,
    /// Is it a member that can run things now.
    pub online: bool,
    /// Its state is not known, so it must be fenced.
    pub unclean: bool,
    /// The membership has it.
    pub member: bool,
    /// No state was ever seen.
    pub unseen: bool,
    /// It is joining.
    pub pending: bool,
    /// It asked for a shutdown.
    pub shutdown: bool,
    /// It is known to be expected up.
    pub expected_up: bool,
    /// Nothing may run there.
    pub standby: bool,
    /// Standby because of a failure.
    pub standby_on_fail: bool,
    /// Nothing there is managed.
    pub maintenance: bool,
    /// It coordinates.
    pub is_dc: bool,
    /// Its health, and the sum of scores that follow.
    pub health: Health,
    /// Whether probes may run there.
    pub discovery: bool,
    /// A remote node: its connection must be fenced to be used again.
    pub remote_reset: bool,
    /// It is inside a replica of a bundle: only what belongs there may run there.
    pub bundled: bool,
    /// It stands among the nodes of the configuration.
    pub configured: bool,
    /// Its connection is in the history, no longer in the configuration.
    pub removed: bool,
    /// It was fenced, and has not been seen since.
    pub was_fenced: bool,
    /// The connection resource of a remote node.
    pub connection: Option<RscIx>,
    /// Attributes: transient over permanent.
    pub attributes: HashMap<&'a str, Cow<'a, str>>,
    /// Free capacity by name.
    pub utilization: HashMap<&'a str, i64>,
    /// Resources that are active here.
    pub running: Vec<RscIx>,
    /// How many resources were assigned here in this pass.
    pub assigned: u32,
    /// Priority of the resources that are active here.
    pub priority: i32,
    /// Why it must be fenced, first reason.
    pub fence_reason: Option<String>,
    /// The fencing waits `priority-fencing-delay`.
    pub fence_priority_delay: bool,
    /// Fail counts found in the attributes.
    pub fail_counts: Vec<FailCount<'a>>,
}

/// Why a node can take nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// Its state is not known.
    Unclean,
    /// It is not there.
    Offline,
    /// It asked for a shutdown.
    ShuttingDown,
    /// It is joining.
    Pending,
    /// Nothing may run there.
    Standby,
    /// Something failed there, and nothing may run there since.
    StandbyOnFail,
    /// Nothing there is managed.
    Maintenance,
}

impl Node<'_> {
    /// Why it can take nothing, if it can not.
    pub(crate) fn unusable(&self) -> Option<Unusable> {
        Some(if self.unclean {
            Unusable::Unclean
        } else if !self.online {
            Unusable::Offline
        } else if self.shutdown {
            Unusable::ShuttingDown
        } else if self.standby && self.pending {
            Unusable::Pending
        } else if self.standby_on_fail {
            Unusable::StandbyOnFail
        } else if self.standby {
            Unusable::Standby
        } else if self.maintenance {
            Unusable::Maintenance
        } else {
            return None;
        })
    }
}

/// One `fail-count-…` attribute.
#[derive(Debug, Clone)]
pub(crate) struct FailCount<'a> {
    /// The resource's name, with an instance number where it has one.
    pub resource: &'a str,
    /// The operation (`monitor_10000`), if the attribute says.
    pub operation: Option<&'a str>,
    /// How many.
    pub count: i32,
}

/// Kinds of resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One resource.
    Primitive,
    /// A group.
    Group,
    /// A clone, promotable or not.
    Clone,
    /// A container bundle.
    Bundle,
}

/// What a resource needs before it may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Requires {
    /// Nothing.
    Nothing,
    /// Quorum.
    Quorum,
    /// Lost nodes are fenced.
    Fencing,
    /// Its node is unfenced.
    Unfencing,
}

/// What to do with a resource that is active more than once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MultipleActive {
    /// Stop all, start one.
    StopStart,
    /// Stop all.
    StopOnly,
    /// Touch none.
    Block,
    /// Stop those that should not be.
    StopUnexpected,
}

/// One configured operation.
#[derive(Debug, Clone)]
pub(crate) struct OpConfig<'a> {
    /// Where it stands.
    pub xml: Element<'a>,
    /// Its name.
    pub name: &'a str,
    /// Its interval in milliseconds.
    pub interval: u64,
    /// Its role, if it says.
    pub role: Option<Role>,
    /// Whether it may run.
    pub enabled: bool,
}

/// A running or failed migration as the history tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Partial {
    /// From where.
    pub source: NodeIx,
    /// To where.
    pub target: NodeIx,
}

/// A resource.
#[derive(Debug, Clone)]
pub(crate) struct Resource<'a> {
    /// Its name, with the instance number for an instance of a clone.
    pub id: String,
    /// Its name in the CIB, by which histories of anonymous instances go.
    pub base: &'a str,
    /// Where it stands.
    pub xml: Element<'a>,
    /// Its template, if it has one.
    pub template: Option<Element<'a>>,
    /// What kind.
    pub kind: Kind,
    /// The collective that it is in.
    pub parent: Option<RscIx>,
    /// Its members or instances.
    pub children: Vec<RscIx>,
    /// Number of the instance that it is, or is in.
    pub instance: Option<u32>,
    /// Standard, such as `ocf`.
    pub class: &'a str,
    /// Provider, such as `pacemaker`, or empty.
    pub provider: &'a str,
    /// Name of the agent.
    pub agent: &'a str,
    /// Meta-attributes after precedence.
    pub meta: Pairs<'a>,
    /// Configured operations.
    pub ops: Vec<OpConfig<'a>>,

    /// Whether the cluster starts and stops it.
    pub managed: bool,
    /// It is in the history, no longer in the configuration.
    pub removed: bool,
    /// A failure or a rule forbids to touch it.
    pub blocked: bool,
    /// Its node or itself is in maintenance.
    pub maintenance: bool,
    /// A failure asks for recovery.
    pub failed: bool,
    /// A demotion is all that recovery takes.
    pub demote_only: bool,
    /// A failure is ignored.
    pub failure_ignored: bool,
    /// A stop failed.
    pub stop_failed: bool,
    /// A start or other operation is in flight.
    pub start_pending: bool,
    /// Name of the operation in flight, for the display.
    pub pending: Option<&'static str>,
    /// Something changed so that it must be reloaded.
    pub reload: bool,
    /// Its definition changed so that it must be restarted.
    pub restart: Option<&'static str>,
    /// Where it is to be reloaded.
    pub reload_on: Option<NodeIx>,
    /// It must stop where it should not be, only.
    pub stop_unexpected: bool,
    /// It detects whether a reset is needed.
    pub critical: bool,
    /// It may migrate live.
    pub allow_migrate: bool,
    /// Instances are distinct.
    pub unique: bool,
    /// Instances are told of each other's changes.
    pub notify: bool,
    /// Instances start one after another.
    pub ordered: bool,
    /// Orders with other clones go by node.
    pub interleave: bool,
    /// Instances can be promoted.
    pub promotable: bool,
    /// It is a fence device.
    pub fence_device: bool,
    /// What must hold before it starts.
    pub requires: Requires,
    /// Priority.
    pub priority: i32,
    /// Score for staying.
    pub stickiness: i32,
    /// Failures until it moves.
    pub migration_threshold: i32,
    /// Seconds until failures are forgotten; 0 is never.
    pub failure_timeout: i64,
    /// When it is active more than once.
    pub multiple_active: MultipleActive,
    /// Clone: how many instances.
    pub clone_max: u32,
    /// Clone: how many instances on one node.
    pub clone_node_max: u32,
    /// Clone: how many make it useful.
    pub clone_min: u32,
    /// Clone: how many are promoted.
    pub promoted_max: u32,
    /// Clone: how many are promoted on one node.
    pub promoted_node_max: u32,
    /// What it needs of a node.
    pub utilization: HashMap<&'a str, i64>,
    /// The resource in which it runs, for nodes inside of resources.
    pub container: Option<RscIx>,
    /// Resources that run inside.
    pub fillers: Vec<RscIx>,
    /// It is the connection of a remote or guest node.
    pub remote_node: Option<NodeIx>,
    /// Probes are made only where a rule says so.
    pub exclusive_discover: bool,
    /// A bundle: its replicas.
    pub replicas: Vec<Replica>,
    /// A bundle: the clone of what runs inside.
    pub inner: Option<RscIx>,
    /// Shutdown lock: node and since when.
    pub lock: Option<(NodeIx, i64)>,

    /// What it is now.
    pub role: Role,
    /// What it will be.
    pub next_role: Role,
    /// The role that `target-role` limits it to; `Unknown` if it does not.
    pub target_role: Role,
    /// Why `next_role` is what it is.
    pub next_role_reason: Option<&'static str>,
    /// Where it is active.
    pub running_on: Vec<NodeIx>,
    /// Where its state is known.
    pub known_on: Vec<NodeIx>,
    /// A migration that is under way.
    pub partial: Option<Partial>,
    /// Sources of migrations that left something behind.
    pub dangling: Vec<NodeIx>,
    /// History entries by node that matter later.
    pub history: Vec<(NodeIx, Element<'a>)>,

    /// The name by which it goes in the history, where that is not its own.
    pub history_name: Option<&'a str>,
    /// What it thinks of each node.
    pub allowed: Row,
    /// Why it was assigned as it was.
    pub choice: Option<Choice>,
    /// An instance of a promotable clone: whether it is promoted, or why not.
    pub promotion: Option<Promotion>,
    /// Not assigned yet in this pass.
    pub provisional: bool,
    /// Assignment is under way.
    pub assigning: bool,
    /// A chain of colocations is being followed through it.
    pub merging: bool,
    /// Where it was assigned.
    pub assigned: Option<NodeIx>,
    /// A collective: where its members were assigned.
    pub assigned_all: Vec<NodeIx>,
    /// Promotion: what instances are sorted by.
    pub sort_weight: i32,
    /// Whether anything was found that stops a live migration.
    pub migrating: bool,

    /// Location constraints on it.
    pub locations: Vec<LocIx>,
    /// Colocations in which it is the dependent.
    pub this_with: Vec<ColIx>,
    /// Colocations in which it is the primary.
    pub with_this: Vec<ColIx>,
    /// Its tickets, by position.
    pub tickets: Vec<usize>,
}

/// One replica of a bundle.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Replica {
    /// Its address.
    pub ip: Option<RscIx>,
    /// The container.
    pub container: RscIx,
    /// The connection to what is inside.
    pub remote: Option<RscIx>,
    /// What runs inside.
    pub child: Option<RscIx>,
    /// The node that is inside.
    pub node: Option<NodeIx>,
}

/// Where a score for nodes comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A constraint of the configuration; the id is its own.
    Constraint,
    /// A ticket that is missing or aside: the use of it, by position.
    Ticket(usize),
    /// The status: the id says what of it.
    Status,
}

/// A location constraint, evaluated.
#[derive(Debug, Clone)]
pub(crate) struct Location<'a> {
    /// Its id, for reasons.
    pub id: Cow<'a, str>,
    /// Where it comes from.
    pub origin: Origin,
    /// For which role only.
    pub role: Option<Role>,
    /// Scores by node.
    pub nodes: Vec<(NodeIx, i32)>,
    /// Whether probes are made there.
    pub discover: Discover,
}

/// A colocation constraint.
#[derive(Debug, Clone)]
pub(crate) struct Colocation<'a> {
    /// Its id.
    pub id: Cow<'a, str>,
    /// Who goes along.
    pub dependent: RscIx,
    /// With whom.
    pub primary: RscIx,
    /// Role of the dependent.
    pub dependent_role: Option<Role>,
    /// Role of the primary.
    pub primary_role: Option<Role>,
    /// The attribute that must be equal.
    pub attribute: &'a str,
    /// How much.
    pub score: i32,
    /// Whether the dependent's wishes count for the primary.
    pub influence: bool,
}

/// What losing a ticket means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LossPolicy {
    /// Stop.
    Stop,
    /// Demote.
    Demote,
    /// Fence.
    Fence,
    /// Leave as it is.
    Freeze,
}

/// A ticket as the status tells.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ticket {
    /// Whether this site has it.
    pub granted: bool,
    /// Whether it is put aside.
    pub standby: bool,
}

/// A ticket constraint.
#[derive(Debug, Clone)]
pub(crate) struct TicketUse<'a> {
    /// The constraint's id.
    pub id: &'a str,
    /// The ticket's name.
    pub ticket: &'a str,
    /// In which role.
    pub role: Option<Role>,
    /// What its loss means.
    pub policy: LossPolicy,
}
