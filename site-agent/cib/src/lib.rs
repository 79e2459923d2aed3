//! The Cluster Information Base as Pacemaker knows it: document, rules, versions, patches.

#![forbid(unsafe_code)]

pub mod xml;
