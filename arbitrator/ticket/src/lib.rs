//! The ticket protocol: who may run a service, decided so that no two sites ever may at once.
//!
//! State machines without I/O, clock, thread, randomness or log call: inputs with a local time go in,
//! effects come out. The same code runs in the daemons, the model checker and the simulator. The
//! rules R1 to R18 and the inequalities I1 to I5 that comments cite are in docs/protocol.md.
//!
//! Begin with [`member`]: one member of one cluster, which puts the parts together:
//!
//! | part | what it does |
//! |---|---|
//! | [`ledger`] | the replicated log of decisions (R7, R11); uses no clock for safety |
//! | [`docket`] | what the decisions add up to: sessions, tickets, attributes (R8 to R10) |
//! | [`promise`] | a voter's leases to sessions, and its fence votes (R1 to R4) |
//! | [`steward`] | the leader's duties: expire, grant, take back |
//! | [`holder`] | a site's session: deadline, run and stop (R12 to R18) |
//! | [`audit`] | does this node's clock run like the others' |
//! | [`delegation`] | how the other nodes of a site count the time left (R16) |
//! | [`replay`] | recordings of what happened to members, and living through them again |
//! | [`timing`] | lease times and their inequalities |
#![forbid(unsafe_code)]

pub mod audit;
mod bounded;
pub mod command;
pub mod configuration;
pub mod delegation;
pub mod docket;
pub mod durable;
pub mod entry;
pub mod holder;
pub mod ids;
pub mod ledger;
pub mod limits;
pub mod member;
pub mod message;
pub mod planted;
pub mod promise;
pub mod quorum;
pub mod replay;
pub mod steward;
pub mod time;
pub mod timing;
