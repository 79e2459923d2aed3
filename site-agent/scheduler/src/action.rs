//! Actions and orderings: what may be done, and what must come before what.
//!
//! An action is *optional* until something requires it, and *runnable* until something forbids it. Orderings carry
//! flags that say which of the two travels from one end to the other. Names of tasks are Pacemaker's.

use std::borrow::Cow;

use crate::arena::{ActIx, ColIx, NodeIx, OrdIx, RscIx};

/// Why something stops that no node is left for.
pub(crate) const NOWHERE: &str = "node availability";

/// What an action does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Task {
    Start,
    Running,
    Stop,
    Stopped,
    Promote,
    Promoted,
    Demote,
    Demoted,
    Monitor,
    Reload,
    Cancel,
    Delete,
    ClearFailcount,
    MigrateTo,
    MigrateFrom,
    Notify,
    Notified,
    Fence,
    Shutdown,
    /// Forgets what the status says of a resource on a node.
    ForgetHistory,
    /// A pseudo action whose key says all.
    Pseudo,
}

impl Task {
    /// The word in the graph.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Running => "running",
            Self::Stop => "stop",
            Self::Stopped => "stopped",
            Self::Promote => "promote",
            Self::Promoted => "promoted",
            Self::Demote => "demote",
            Self::Demoted => "demoted",
            Self::Monitor => "monitor",
            Self::Reload => "reload-agent",
            Self::Cancel => "cancel",
            Self::Delete => "delete",
            Self::ClearFailcount => "clear_failcount",
            Self::MigrateTo => "migrate_to",
            Self::MigrateFrom => "migrate_from",
            Self::Notify => "notify",
            Self::Notified => "notified",
            Self::Fence => "stonith",
            Self::Shutdown => "do_shutdown",
            Self::ForgetHistory => "lrm_delete",
            Self::Pseudo => "pseudo",
        }
    }

    /// The task that a word of a constraint names.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "start" => Self::Start,
            "stop" => Self::Stop,
            "promote" => Self::Promote,
            "demote" => Self::Demote,
            _ => return None,
        })
    }

    /// What undoes it.
    pub(crate) fn inverse(self) -> Option<Self> {
        Some(match self {
            Self::Start => Self::Stop,
            Self::Stop => Self::Start,
            Self::Promote => Self::Demote,
            Self::Demote => Self::Promote,
            _ => return None,
        })
    }

    /// The end of it, for a collective.
    pub(crate) fn completion(self) -> Self {
        match self {
            Self::Start => Self::Running,
            Self::Stop => Self::Stopped,
            Self::Promote => Self::Promoted,
            Self::Demote => Self::Demoted,
            other => other,
        }
    }

    /// What it is the end of.
    pub(crate) fn beginning(self) -> Self {
        match self {
            Self::Running => Self::Start,
            Self::Stopped => Self::Stop,
            Self::Promoted => Self::Promote,
            Self::Demoted => Self::Demote,
            other => other,
        }
    }
}

/// Flags of an ordering.
pub(crate) mod flag {
    /// If both happen, in this order.
    pub(crate) const ORDERED: u32 = 1;
    /// A required first requires the then.
    pub(crate) const FIRST_IMPLIES_THEN: u32 = 1 << 1;
    /// A required then requires the first.
    pub(crate) const THEN_IMPLIES_FIRST: u32 = 1 << 2;
    /// A first that can not run blocks the then.
    pub(crate) const UNRUNNABLE_BLOCKS: u32 = 1 << 3;
    /// As `THEN_IMPLIES_FIRST`, if the resource of then is promoted now.
    pub(crate) const PROMOTED_IMPLIES_FIRST: u32 = 1 << 4;
    /// A restart: a start that is needed or can not run asks for the stop.
    pub(crate) const RESTART: u32 = 1 << 5;
    /// One direction only.
    pub(crate) const ASYMMETRIC: u32 = 1 << 6;
    /// Only if both are on one node.
    pub(crate) const SAME_NODE: u32 = 1 << 7;
    /// One of several that the then waits for: enough of them must be able to run.
    pub(crate) const MIN_RUNNABLE: u32 = 1 << 8;
    /// A required first shows the then.
    pub(crate) const SHOWS_THEN: u32 = 1 << 9;
    /// A required then shows the first.
    pub(crate) const SHOWS_FIRST: u32 = 1 << 10;
    /// A then that is required takes the place of the first.
    pub(crate) const THEN_CANCELS_FIRST: u32 = 1 << 11;
    /// Only if both are in the graph on one node, and the first is no migration (free capacity).
    pub(crate) const LOAD: u32 = 1 << 12;
    /// Not both at once.
    pub(crate) const SERIALIZE: u32 = 1 << 13;
    /// A required first requires the then on the same node.
    pub(crate) const FIRST_IMPLIES_SAME_NODE_THEN: u32 = 1 << 14;
    /// A migration that became impossible blocks what comes first.
    pub(crate) const UNMIGRATABLE_BLOCKS: u32 = 1 << 15;
    /// A probe on a node that a resource brings.
    pub(crate) const NESTED_PROBE: u32 = 1 << 16;
    /// The edge stays, whatever becomes of the ends.
    pub(crate) const PRESERVE: u32 = 1 << 17;
    /// The then is a pseudo action only while the first can run: the start of a live migration.
    pub(crate) const PSEUDO_LEFT: u32 = 1 << 18;
    /// Only if the first is not a part of a live migration.
    pub(crate) const FIRST_NOT_MIGRATABLE: u32 = 1 << 19;
}

/// One end of an ordering that is not resolved yet.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    /// This action.
    Action(ActIx),
    /// The operations of a resource.
    Op(RscIx, Task, u64),
}

/// An ordering before actions are known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order {
    /// What comes first.
    pub first: End,
    /// What comes then.
    pub then: End,
    /// How they hang together.
    pub flags: u32,
    /// The constraint that asks for it, if one does.
    pub origin: Option<OrdIx>,
}

/// An edge between actions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Edge {
    /// The other end.
    pub other: ActIx,
    /// Flags.
    pub flags: u32,
    /// The constraint that asks for it, if one does.
    pub origin: Option<OrdIx>,
}

/// What made an action required, or kept it from running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Because {
    /// The other action.
    pub by: ActIx,
    /// The ordering or colocation between the two; without one they belong together by themselves.
    pub constraint: Option<Bond>,
}

/// A constraint between two resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bond {
    /// An ordering.
    Order(OrdIx),
    /// A colocation.
    Colocation(ColIx),
}

/// An action.
#[derive(Debug, Clone)]
pub(crate) struct Action<'a> {
    /// Of which resource.
    pub rsc: Option<RscIx>,
    /// On which node.
    pub node: Option<NodeIx>,
    /// What.
    pub task: Task,
    /// Milliseconds.
    pub interval: u64,
    /// The key in the graph.
    pub key: Cow<'a, str>,
    /// Nothing requires it.
    pub optional: bool,
    /// Nothing forbids it.
    pub runnable: bool,
    /// It does nothing but order others.
    pub pseudo: bool,
    /// It may stand for a part of a live migration.
    pub migratable: bool,
    /// It is shown though optional.
    pub shown: bool,
    /// It could be run by fewer than all of its firsts.
    pub requires_any: bool,
    /// How many firsts must be runnable.
    pub required_before: u32,
    /// The expected return code, for probes.
    pub target_rc: Option<i32>,
    /// Further attributes in the graph.
    pub meta: Vec<(Cow<'static, str>, String)>,
    /// Priority of its synapse.
    pub priority: i32,
    /// Why, for the summary.
    pub reason: Option<String>,
    /// The action that the reason speaks of.
    pub because: Option<Because>,
    /// It must be repeated (a recurring operation whose definition changed).
    pub reschedule: bool,
    /// Whether fencing is what makes it a pseudo action.
    pub by_fencing: bool,
    /// It only stands for something that is not going to happen, so that others do not wait for it in vain.
    pub phantom: bool,
    /// Whether it is a part of a migration.
    pub migration: bool,
    /// What comes before.
    pub before: Vec<Edge>,
    /// What comes after.
    pub after: Vec<ActIx>,
}
