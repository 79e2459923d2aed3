//! The control socket: what a local client asks of a daemon and what it hears.
//!
//! One JSON object a line, both ways, over a unix socket. A client sends one [`Request`]; the daemon
//! answers with any number of [`Reply::Progress`] lines and one final line. Fields are only ever
//! added; `apiVersion` names the format. The same views are what `tierce ... -o json` prints.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The format's name.
pub const API_VERSION: &str = "tierce/v1";
/// Longest line either side accepts: a status with 16,384 tickets stays below.
pub const MAX_LINE_BYTES: usize = 32 * 1024 * 1024;

/// One request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// [`API_VERSION`].
    #[serde(rename = "apiVersion")]
    pub api_version: String,
    /// What is asked.
    #[serde(flatten)]
    pub ask: Ask,
}

/// What a client may ask. Names are checked by the daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case", deny_unknown_fields)]
#[allow(missing_docs)] // the fields are the words of the command line
pub enum Ask {
    /// A [`StatusView`]; `linear`: as new as the ledger, else refused without a majority.
    Status { linear: bool },
    /// One [`TicketView`] with everything known.
    Ticket { name: String },
    /// Makes a ticket or changes its policy (fields left out keep their value or default).
    SetTicket { name: String, policy: PolicyView },
    /// Removes a free ticket.
    RemoveTicket { name: String },
    /// Grants; ends when the resources run at the site, or at the deadline.
    Grant { name: String, to: String, wait_ms: u64 },
    /// Revokes; ends when stopped and released.
    Revoke { name: String, note: String, wait_ms: u64 },
    /// Takes back from a holder that does not give up.
    TakeBack { name: String, note: String, wait_ms: u64 },
    /// Moves; ends when the resources run at the successor.
    Move { name: String, to: String, note: String, wait_ms: u64 },
    /// Calls a handover off.
    CancelMove { name: String, note: String },
    /// Holds in place.
    Hold { name: String, note: String },
    /// Ends a hold.
    Resume { name: String },
    /// A [`PlanView`] of a move, grant or revoke; changes nothing.
    Plan { name: String, to: Option<String> },
    /// Decisions, newest first.
    History { name: Option<String>, limit: u32 },
    /// Sets or removes an attribute of a site, or of a ticket at a site.
    SetAttribute { site: String, ticket: Option<String>, name: String, value: Option<String> },
    /// Declares a site: normal, outage, disaster, disconnect.
    DeclareSite { site: String, state: String, note: String },
    /// An operator's word that a lost site is down.
    ConfirmDown { site: String, note: String },
    /// Admits a member with a new store (R5).
    Admit { member: String },
    /// Removes a voter.
    RemoveMember { member: String },
    /// Copies the flight recorder; answers with the path.
    Dump { reason: String },
    /// Reads the configuration file again.
    Reload,
    /// Ends the daemon: gives up tickets first when `release`.
    Stop { release: bool },
    /// Tenants of an arbitrator.
    TenantList,
    /// Takes in a tenant (its member directory is in the data directory already).
    TenantAdd { tenant: String },
    /// Ends service for a tenant; its data is kept unless `purge`.
    TenantRemove { tenant: String, purge: bool },
}

/// One line of answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum Reply {
    /// Not final: what it waits for, and until when.
    Progress {
        /// In words.
        text: String,
    },
    /// Final: done. `text` says what was done.
    Done {
        /// In words.
        text: String,
        /// Term of a grant.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        term: Option<u64>,
        /// Ledger index of the decision.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        index: Option<u64>,
        /// Milliseconds that it took.
        #[serde(default)]
        took_ms: u64,
    },
    /// Final: a status.
    Status(Box<StatusView>),
    /// Final: one ticket.
    Ticket(Box<TicketView>),
    /// Final: a plan.
    Plan(Box<PlanView>),
    /// Final: history.
    History {
        /// Newest first.
        decisions: Vec<DecisionView>,
    },
    /// Final: tenants.
    Tenants {
        /// All of them.
        tenants: Vec<TenantView>,
    },
    /// Final: not done.
    Error(ErrorView),
}

/// An error in its four parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorView {
    /// Exit code of the command (operator's list: 1, 64, 69, 75, 78, 102, 105, 106, 107, 110, 112, 113, 124).
    pub code: u8,
    /// What happened.
    pub error: String,
    /// What follows from it.
    pub effect: String,
    /// How to look into it.
    pub inspect: String,
    /// The safer way.
    pub safer: String,
}

/// The state of a member and of the cluster as it sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StatusView {
    /// [`API_VERSION`].
    #[serde(rename = "apiVersion")]
    pub api_version: String,
    /// "ok", "degraded", "critical", "unknown".
    pub verdict: String,
    /// One sentence: verdict, reason.
    pub summary: String,
    /// The next command.
    pub next: String,
    /// Tenant.
    pub tenant: String,
    /// Member that answers.
    pub member: String,
    /// "site" or "arbitrator".
    pub role: String,
    /// "unformed", "confirming", "taking-part", "out".
    pub standing: String,
    /// Leader of the ledger, if known.
    pub leader: Option<String>,
    /// Whether this member reaches a majority.
    pub quorate: bool,
    /// Last applied ledger index.
    pub applied: u64,
    /// Cluster identity.
    pub cluster: String,
    /// Digest of the equal part of the configuration.
    pub digest: String,
    /// Lease times.
    pub timing: BTreeMap<String, String>,
    /// Worst-case takeover, milliseconds, from the timing and the measured round trips.
    pub worst_takeover_ms: u64,
    /// Members.
    pub members: Vec<MemberView>,
    /// Tickets.
    pub tickets: Vec<TicketView>,
    /// What somebody should look at, newest first.
    pub alarms: Vec<AlarmView>,
    /// Days until this member's certificate ends.
    pub certificate_days: Option<f64>,
    /// Why this site's clock is not to be trusted, if the clock audit found it out.
    #[serde(default)]
    pub distrusted: Option<String>,
    /// Version of the daemon that answers.
    #[serde(default)]
    pub version: String,
}

/// A member as seen from the one that answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MemberView {
    /// Name.
    pub name: String,
    /// Role.
    pub role: String,
    /// Member number; 0 before founding.
    pub number: u32,
    /// "voter", "learner", "planned".
    pub standing: String,
    /// Whether a connection is up.
    pub connected: bool,
    /// Round trip in milliseconds.
    pub rtt_ms: Option<f64>,
    /// Site only: its session, if open.
    pub session: Option<u64>,
    /// Site only: "normal", "outage", "disaster", "disconnect".
    pub declared: Option<String>,
    /// Time left on its promise to this site's session, milliseconds.
    pub promise_left_ms: Option<u64>,
    /// Why it does not promise, if so.
    pub refused: Option<String>,
    /// Addresses.
    pub addresses: Vec<String>,
    /// Whether its configuration digest equals ours; unknown for arbitrators.
    pub same_config: Option<bool>,
}

/// A ticket.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TicketView {
    /// Name.
    pub name: String,
    /// free, held, handover, suspect, stopping, waiting-proof, hold, blocked, unknown.
    pub state: String,
    /// Holder's site, as far as known.
    pub site: Option<String>,
    /// Term.
    pub term: Option<u64>,
    /// Since when, RFC 3339 UTC.
    pub since: String,
    /// Until when the state holds by itself (lease, window, wait), in words; empty: no bound.
    pub until: String,
    /// Why it is so.
    pub because: String,
    /// What comes next.
    pub next: String,
    /// Policy.
    pub policy: PolicyView,
    /// Layers that protect it at the member that answers: "L0 agent timer", "L1 kernel gate", ….
    pub protection: Vec<String>,
    /// Longest cut that never moves it, milliseconds.
    pub blip_budget_ms: u64,
    /// Sites with what stands against a grant there; empty: nothing.
    pub sites: BTreeMap<String, String>,
    /// Attributes as "site/name" or "name".
    pub attributes: BTreeMap<String, String>,
    /// Resources at the member that answers.
    pub resources: Vec<ResourceView>,
    /// Proof on which the present grant rests.
    pub proof: Option<String>,
    /// What keeps it from moving by itself: "operator" (held in place), "one-move" (it moved by
    /// itself lately).
    #[serde(default)]
    pub hold: Option<String>,
    /// The last start that each site told of.
    #[serde(default)]
    pub starts: BTreeMap<String, StartView>,
}

/// What a site told of a start that somebody had asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartView {
    /// Term of the grant.
    pub term: u64,
    /// How long it took, milliseconds; none: it failed.
    pub took_ms: Option<u64>,
}

/// A resource at this site.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ResourceView {
    /// Name.
    pub id: String,
    /// Agent, as written.
    pub agent: String,
    /// stopped, starting, running, stopping, failed, unknown.
    pub state: String,
    /// Last result in words.
    pub last: String,
    /// Failures since the last success.
    pub failures: u32,
}

/// A ticket's policy in the words of the file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PolicyView {
    /// manual, observe, confirm, auto.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// lapse, fenced, operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regrant: Option<String>,
    /// stop, fence, freeze.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<String>,
    /// Sites, most wanted first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefer: Option<Vec<String>>,
    /// "1h".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub one_move_per: Option<String>,
    /// Required attributes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require: Option<BTreeMap<String, String>>,
    /// "5s".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_lag: Option<String>,
    /// "300ms".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_budget: Option<String>,
}

/// What a move, grant or revoke would do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PlanView {
    /// Ticket.
    pub ticket: String,
    /// From.
    pub from: Option<String>,
    /// To.
    pub to: Option<String>,
    /// Whether it may be done now; else why not.
    pub refused: Option<String>,
    /// Steps in order.
    pub steps: Vec<PlanStep>,
    /// Predicted outage, milliseconds.
    pub outage_ms: u64,
    /// What could be lost.
    pub loss_window: String,
    /// How to go back.
    pub undo: String,
}

/// One step of a plan.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PlanStep {
    /// Where.
    pub site: String,
    /// What.
    pub what: String,
    /// Predicted time, milliseconds.
    pub predicted_ms: u64,
    /// From what the prediction was made.
    pub basis: String,
}

/// One decision of the ledger.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DecisionView {
    /// Ledger index.
    pub index: u64,
    /// When, RFC 3339 UTC, by the leader's wall clock.
    pub at: String,
    /// Ticket, if it concerns one.
    pub ticket: Option<String>,
    /// What.
    pub what: String,
}

/// An alarm.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AlarmView {
    /// When, RFC 3339 UTC.
    pub at: String,
    /// What.
    pub text: String,
}

/// A tenant of an arbitrator.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TenantView {
    /// Name.
    pub name: String,
    /// "serving", "waiting", "stopped", with why.
    pub state: String,
    /// Connections that are up.
    pub connected: u32,
    /// Tickets.
    pub tickets: u32,
    /// Renewals answered.
    pub renewals: u64,
    /// Datagrams dropped by its quota.
    pub over_quota: u64,
    /// Bytes in its store.
    pub store_bytes: u64,
}
