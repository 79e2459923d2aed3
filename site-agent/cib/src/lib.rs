//! The Cluster Information Base as Pacemaker knows it: document, rules, versions, patches.
//!
//! A site's configuration moves over unchanged: what Pacemaker's tools write is read, checked, changed
//! and written back so that they read it again, and what nobody edited stays byte for byte. All of it
//! is pure: text in, text or answers out; the moment, the node and all else that an answer depends on
//! are arguments. What is stored where is the agent's matter (`site-agent/src/cib`).
//!
//! Where Pacemaker is silent (a constraint on a resource that does not exist, a misspelt option, a date
//! that is none), this crate has words, each with line and nearest name. What is compared with the
//! real tools, and where we differ on purpose, is in docs/evidence/cib.md.
//!
//! | module | what it does |
//! |---|---|
//! | [`xml`] | documents: read, edited in place, written back byte for byte |
//! | [`values`] | scores, booleans, durations as they are written in attributes |
//! | [`time`] | dates, calendar spans, the calendar fields of a moment |
//! | [`ids`] | elements by their id, and what an id-ref stands for |
//! | [`version`] | `admin_epoch.epoch.num_updates` |
//! | [`patch`] | patchsets: made, applied |
//! | [`canonical`] | the digests of Pacemaker |
//! | [`schema`] | whether a document is what its schema says, with all that is wrong |
//! | [`refs`] | whether what a configuration refers to is there |
//! | [`xpath`] | queries |
//! | [`rings`] | orderings that wait for each other |
//! | [`lint`] | values that will not do what was meant |
//! | [`verify`] | all checks together |
//! | [`views`] | options, resources, constraints, tags by what they mean |
//! | [`rules`] | whether a `rule` holds at a moment, on a node, for a resource |
//! | [`nvset`] | attribute sets: which value of a name counts |

#![forbid(unsafe_code)]

pub mod canonical;
pub mod ids;
pub mod lint;
pub mod nvset;
pub mod patch;
pub mod refs;
pub mod rings;
pub mod rules;
pub mod schema;
pub mod time;
pub mod values;
pub mod verify;
pub mod version;
pub mod views;
mod words;
pub mod xml;
pub mod xpath;
