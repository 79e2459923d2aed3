//! BGP switch-over: the holder of a ticket announces the service's route, and the newest wins.
//!
//! Waiting for a dead site's route to be withdrawn takes a hold time, and a site that was cut off
//! cannot withdraw at all. So nothing here waits: every announcement carries the ticket's term as
//! its MED ([`med`]), a newer term is always the better route, and a stale one is overruled by the
//! routers themselves within milliseconds. The session is without graceful restart, always: with
//! it, a router keeps a dead site's route alive for seconds, on purpose.
//!
//! - [`med`] (core): terms, and the mapping to MED that refuses to wrap.
//! - [`wire`] (core): framing, OPEN, UPDATE, NOTIFICATION over the netgauze codec.
//! - [`session`] (core): one TCP connection's life, from OPEN to its end, for either side.
//! - [`config`], [`speaker`] (core): the announce-only speaker; [`driver`] gives it a socket and a clock.
//! - [`rib`] (core) and [`collector`]: a passive peer that keeps routes and picks the best.
//!
//! Invariants: our OPEN never offers graceful restart; a term outside the configured range is an
//! error and never a wrapped number; a prefix is never announced with an older term than before;
//! no route outlives its session; nothing a peer sends can make this crate panic.

#![forbid(unsafe_code)]

pub mod collector;
pub mod config;
pub mod driver;
pub mod error;
pub mod limits;
mod link;
pub mod med;
pub mod rib;
pub mod session;
pub mod speaker;
pub mod wire;

pub use collector::{Collector, CollectorConfig, CollectorHandle, PeerStatus};
pub use config::SpeakerConfig;
pub use driver::{SpeakerHandle, SpeakerStatus};
pub use error::BgpError;
pub use ipnet::{IpNet, Ipv4Net, Ipv6Net};
pub use med::{Asn, Med, MedBase, Term};
pub use rib::{PeerId, Route, RouteEvent};
pub use session::{Down, Finding, GracefulRestartPolicy, PeerOpen};
pub use speaker::{Speaker, State};
