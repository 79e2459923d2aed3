//! What callers of this crate can be refused, and why.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::med::Term;

/// Errors of this crate. Each says what happened, its effect, and the next step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BgpError {
    /// The term is older than the configured base.
    #[error(
        "term {term} is below the base {base} of the metric; nothing was announced; \
         configure a lower base at every site"
    )]
    TermBelowBase {
        /// Term asked for.
        term: Term,
        /// Base configured.
        base: Term,
    },
    /// The term is too far above the base for 32 bits.
    #[error(
        "term {term} is more than 4294967295 above the base {base} of the metric; nothing was \
         announced; configure a higher base at every site while the ticket is free"
    )]
    TermBeyondRange {
        /// Term asked for.
        term: Term,
        /// Base configured.
        base: Term,
    },
    /// The prefix cannot be announced.
    #[error("{prefix} cannot be announced ({why}); nothing was sent; correct the prefix")]
    BadPrefix {
        /// Prefix asked for.
        prefix: IpNet,
        /// What is wrong with it.
        why: &'static str,
    },
    /// No next hop of the prefix's family is configured.
    #[error("no next hop is configured for the family of {prefix}; nothing was announced; set one")]
    NoNextHop {
        /// Prefix asked for.
        prefix: IpNet,
    },
    /// The configuration cannot work.
    #[error("{what}; the speaker was not started; correct the configuration")]
    Invalid {
        /// What is wrong.
        what: String,
    },
    /// The speaker's task has ended.
    #[error("the speaker has ended; nothing was announced; start it again")]
    Ended,
    /// Too many commands wait for the speaker's task.
    #[error("the speaker is busy; nothing was announced; repeat")]
    Busy,
    /// The collector has no authentication and serves its own host only.
    #[error("{addr} is not a loopback address; the collector was not started; use 127.0.0.1")]
    NotLoopback {
        /// Address asked for.
        addr: IpAddr,
    },
    /// The collector could not open its socket.
    #[error("cannot listen on {addr} ({why}); the collector was not started; use another port")]
    Listen {
        /// Address asked for.
        addr: SocketAddr,
        /// The system's words.
        why: String,
    },
}
