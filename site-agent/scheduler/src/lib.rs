//! From a CIB to what is to be done: a pure function.
//!
//! `schedule` reads a document and a moment and gives a `Plan`: the transition graph, and for every decision the
//! reason. It does no I/O and reads no clock, so the same document and moment give the same plan on every node, and a
//! recorded CIB can be asked again later.
//!
//! What a configuration implies (the connection of a guest node, the parts of a bundle) is first written out in the document
//! (`implied`). Then the data flows through stages, each a module that writes only its own fields:
//! 1. `unpack`: options, nodes, resources, then status. Result: a typed `Cluster`, everything by index.
//! 2. `constraints`: locations, colocations, orderings, tickets.
//! 3. `assign`: which resource goes to which node, which instances are promoted.
//! 4. `actions`: what each resource and node needs, optional actions too.
//! 5. `order`: orderings resolved to edges, and followed until nothing changes.
//! 6. `graph`: what is left as synapses; as XML and dot.
//!
//! What a bundle does in these stages is in a room of its own, `bundle`.
//!
//! `simulate` plays a graph against a copy of the document and renders what Pacemaker's `crm_simulate` shows.
//!
//! Where to begin: `plan.rs` has the stages in their order, `cluster.rs` what they hand on, `action.rs` the flags of orderings, and
//! `order/update.rs` what these flags mean. `reasons.rs` tells why a resource is where it is.
//!
//! Invariants:
//! - the same document and moment give the same bytes, whatever the machine;
//! - a graph has no loop: orders of comfort yield (`graph`), the others can not contradict each other;
//! - a stop on a node that is fenced stands after the fencing, and a start that needs it, too (`actions/fencing.rs`);
//! - nothing that the configuration or the status says makes a panic or an endless loop.
//!
//! What is not supported is refused by name ([`Error::Unsupported`]), never scheduled by guess.

#![forbid(unsafe_code)]

mod action;
mod actions;
mod arena;
mod assign;
mod bundle;
mod cluster;
mod constraints;
mod error;
mod graph;
mod implied;
mod model;
mod options;
mod order;
mod plan;
mod prepared;
mod raise;
mod reasons;
mod release;
mod row;
pub mod simulate;
mod steps;
mod unpack;

pub use error::Error;
pub use plan::{Plan, schedule};
pub use prepared::Prepared;
pub use reasons::{ActionReason, Explanation, Fate, NodeReason, Part, Why};
pub use release::{Release, Remains};
pub use steps::Step;
