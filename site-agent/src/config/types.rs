//! The agent's file as types. Unknown keys are refused where the file is read (`mod.rs`).
//!
//! Durations are written with units ("300ms", "10s", "1h"). What must be equal at all sites (tenant,
//! timing, members, tickets' names and policies) goes into the digest; the rest is each site's own.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A duration as written in the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub std::time::Duration);

/// The whole file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// Name of the tenant (cluster).
    pub tenant: String,
    /// This member's name.
    pub site: String,
    /// Directory of store, index, locks.
    pub data: PathBuf,
    /// Directory of ca.pem, cert.pem, key.pem; default: `data`/pki.
    pub pki: Option<PathBuf>,
    /// Directory of the tenant's CA, at the one site that issues certificates.
    pub ca: Option<PathBuf>,
    /// Where QUIC listens.
    pub listen: SocketAddr,
    /// Control socket; default: `data`/control.sock.
    pub control: Option<PathBuf>,
    /// Where metrics and health listen; local addresses only.
    pub metrics: Option<SocketAddr>,
    /// Named lease times: metro-fast, lan, wan, cautious.
    pub profile: Option<String>,
    /// Lease times that differ from the profile.
    #[serde(default)]
    pub timing: TimingConfig,
    /// All members.
    #[serde(rename = "member")]
    pub members: Vec<MemberConfig>,
    /// Tickets.
    #[serde(default, rename = "ticket")]
    pub tickets: Vec<TicketConfig>,
    /// The node guard.
    #[serde(default)]
    pub guard: GuardConfig,
    /// Where OCF resource agents are; default `/usr/lib/ocf`.
    pub ocf_root: Option<PathBuf>,
    /// Directory of the flight recorder, on tmpfs if it can be; default chosen by the trace crate.
    pub recorder: Option<PathBuf>,
}

/// Lease times; each absent one comes from the profile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TimingConfig {
    /// T.
    pub promise: Option<Span>,
    /// W.
    pub watchdog: Option<Span>,
    /// B.
    pub stop_budget: Option<Span>,
    /// P.
    pub renew_every: Option<Span>,
    /// ρ in parts per million.
    pub rho_ppm: Option<u32>,
    /// g.
    pub slack: Option<Span>,
    /// Wake-up time.
    pub wake_up: Option<Span>,
    /// Longest round trip.
    pub rtt_max: Option<Span>,
    /// k.
    pub losses: Option<u32>,
    /// Election time.
    pub election: Option<Span>,
}

/// A member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MemberConfig {
    /// Name.
    pub name: String,
    /// "site" or "arbitrator".
    pub role: String,
    /// `host:port`, best first.
    pub addresses: Vec<String>,
}

/// A ticket with its policy (equal at all sites) and what runs under it here (each site's own).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TicketConfig {
    /// Name.
    pub name: String,
    /// manual, observe, confirm, auto; default manual.
    pub mode: Option<String>,
    /// lapse, fenced, operator; default lapse.
    pub regrant: Option<String>,
    /// stop, fence, freeze; default stop.
    pub loss_policy: Option<String>,
    /// Sites, most wanted first; default: all.
    #[serde(default)]
    pub prefer: Vec<String>,
    /// Default 1h.
    pub one_move_per: Option<Span>,
    /// Attributes that a site must have.
    #[serde(default)]
    pub require: BTreeMap<String, String>,
    /// Greatest replication lag.
    pub max_lag: Option<Span>,
    /// Stop budget; default: B of the timing.
    pub stop_budget: Option<Span>,
    /// What runs, in order of start.
    #[serde(default, rename = "resource")]
    pub resources: Vec<ResourceConfig>,
    /// What is asked before this site may hold.
    #[serde(default, rename = "gate")]
    pub gates: Vec<GateConfig>,
    /// Command that prints the replication lag as a duration.
    pub lag_command: Option<Vec<String>>,
    /// The service address.
    pub address: Option<AddressConfig>,
    /// DNS records that follow the ticket.
    pub dns: Option<DnsConfig>,
    /// Route that follows the ticket.
    pub bgp: Option<BgpConfig>,
}

/// A resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ResourceConfig {
    /// Name, unique at this site.
    pub id: String,
    /// `ocf:heartbeat:Dummy`, `lsb:name`, `systemd:unit`, `service:name`.
    pub agent: String,
    /// Parameters.
    #[serde(default)]
    pub params: BTreeMap<String, String>,
    /// Default 20s.
    pub start_timeout: Option<Span>,
    /// Default: the ticket's stop budget.
    pub stop_timeout: Option<Span>,
    /// Default 20s.
    pub monitor_timeout: Option<Span>,
    /// Default 10s; "0s": none.
    pub monitor_interval: Option<Span>,
    /// Failures that are answered by a restart before the ticket is given up; default 3.
    pub restarts: Option<u32>,
}

/// A handler that must succeed before this site may hold (booth's before-acquire-handler).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct GateConfig {
    /// Program and arguments.
    pub handler: Vec<String>,
    /// Default 5s.
    pub timeout: Option<Span>,
    /// How often it is asked; default 10s.
    pub interval: Option<Span>,
}

/// The service address, guarded by the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AddressConfig {
    /// The address.
    pub ip: IpAddr,
    /// Prefix length; default 32 or 128.
    pub prefix: Option<u8>,
    /// Interface to add it to; absent: only gated, something else adds it.
    pub interface: Option<String>,
    /// The kernel gate (nftables): "required", "preferred" (default), "off".
    pub gate: Option<String>,
}

/// DNS records that follow the ticket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DnsConfig {
    /// Primary server.
    pub server: SocketAddr,
    /// Zone.
    pub zone: String,
    /// Name.
    pub name: String,
    /// Addresses while this site holds.
    pub addresses: Vec<IpAddr>,
    /// Seconds; default 5.
    pub ttl: Option<u32>,
}

/// A route that follows the ticket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct BgpConfig {
    /// Own AS.
    pub local_as: u32,
    /// Own router id.
    pub router_id: std::net::Ipv4Addr,
    /// Peer.
    pub peer: SocketAddr,
    /// Peer's AS.
    pub peer_as: u32,
    /// Prefix announced, e.g. 192.0.2.10/32.
    pub prefix: String,
    /// Next hop.
    pub next_hop: IpAddr,
    /// Term that maps to the greatest MED; default 0.
    pub base_term: Option<u64>,
    /// Hold time; default 9s.
    pub hold_time: Option<Span>,
}

/// The node guard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct GuardConfig {
    /// Its socket; default `data`/guard.sock.
    pub socket: Option<PathBuf>,
    /// Last resort: watchdog, sysrq, kill, record:PATH, or off (no guard: said in every status line).
    pub last_resort: Option<String>,
    /// Start it from the agent (default); else it runs as a service of its own.
    pub spawn: Option<bool>,
    /// Program to start as the guard; default: this program's sibling `tierce-guard`.
    pub program: Option<Vec<String>>,
}
