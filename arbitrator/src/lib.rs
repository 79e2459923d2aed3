//! The third site's daemon: a voter for many tenants that do not know each other.
//!
//! Two sites cannot tell a dead peer from a cut line; a third voter can. It is small work, so one
//! process does it for many tenants, and that is where the danger is: what one tenant does or
//! suffers must not reach another. A damaged store, an expired certificate, a flood, a full quota
//! stop or slow the tenant that has them and nobody else, and the operator reads why in one line.
//!
//! There is no cluster file. An arbitrator never holds tickets, founds nothing and dials nobody: it
//! shows each tenant's certificate on one UDP socket, and learns from the tenant's sites what their
//! cluster is. Its data directory is all its configuration:
//!
//! ```text
//! DIR/lock                   held while the daemon runs; says where it listens for commands
//! DIR/control.sock           commands (JSON lines, `tierce_wire::control`)
//! DIR/dumps/                 flight recordings kept after alarms
//! DIR/removed/NAME-TIME/     tenants that were removed without --purge
//! DIR/tenants/NAME/pki/      the member's certificate and key
//! DIR/tenants/NAME/store/    the voter's journal
//! DIR/tenants/NAME/quota.json
//! ```
//!
//! Invariants:
//! - *one daemon per directory*: commands edit it themselves only while they hold `lock`;
//! - *whole or absent*: a tenant appears in `tenants/` by one rename, with its certificate in it;
//! - *a stopped voter is a safe voter* (R5, R6): every trouble of a tenant ends in its member being
//!   stopped, never in an answer that no disk has;
//! - *nothing but QUIC is open to the world*: commands come over a private unix socket, metrics
//!   are served on a loopback address.
//!
//! Reading order: [`cli`](Cli) (what is asked), `layout` and `admin` (the directory), `daemon` (the
//! order of starting and ending), `entry` and `roster` (tenants in service), `upkeep` (certificates, quotas,
//! second chances), `control`, `metrics`, `http` (what is said), `hardening`, `limits`.

mod admin;
mod cli;
mod client;
mod control;
mod daemon;
mod entry;
mod hardening;
mod http;
mod layout;
mod limits;
mod listing;
mod metrics;
mod notify;
mod roster;
mod survey;
mod times;
mod trouble;
mod upkeep;

pub use cli::{Cli, OutputAs, QuotaArgs, RunArgs, TenantVerb, Verb, execute, run};
pub use daemon::serve;
pub use layout::Quota;
pub use trouble::{Code, Trouble};
