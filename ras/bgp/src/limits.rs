//! Every bound of this crate, in one place, with its reason.

use std::time::Duration;

/// Longest BGP message (RFC 4271 section 4; extended messages are never negotiated).
pub const MAX_MESSAGE: usize = 4_096;

/// Shortest hold time that RFC 4271 section 4.2 allows. Zero (no hold timer) is refused: the hold
/// time is the router-side dead man.
pub const MIN_HOLD: Duration = Duration::from_secs(3);

/// Longest hold time: two octets of seconds.
pub const MAX_HOLD: Duration = Duration::from_secs(65_535);

/// Wait for the peer's OPEN and first KEEPALIVE. RFC 4271 suggests 4 minutes; a peer that takes
/// over 10 s will not become a way to move a service.
pub const OPEN_WAIT: Duration = Duration::from_secs(10);

/// Wait for a TCP connection.
pub const CONNECT_WAIT: Duration = Duration::from_secs(3);

/// First pause before connecting again; doubled until [`RETRY_MAX`], reset by a session that
/// came up.
pub const RETRY_MIN: Duration = Duration::from_millis(100);

/// Longest pause before connecting again.
pub const RETRY_MAX: Duration = Duration::from_secs(5);

/// Answers to ROUTE-REFRESH are at least this far apart, so that a peer cannot make us flood it.
pub const REFRESH_GAP: Duration = Duration::from_secs(1);

/// Prefixes that one speaker announces; a ticket has a few.
pub const MAX_PREFIXES: usize = 4_096;

/// Prefixes in one UPDATE: 150 IPv6 prefixes of 17 octets and attributes stay under 4,096.
pub const PREFIXES_PER_UPDATE: usize = 150;

/// Communities of either kind on a route; keeps attributes within one UPDATE.
pub const MAX_COMMUNITIES: usize = 32;

/// Longest AS path prepending.
pub const MAX_PREPEND: u8 = 16;

/// Octets waiting to be sent before the peer counts as stalled.
pub const MAX_BACKLOG: usize = 1 << 20;

/// Octets read at a time.
pub const READ_CHUNK: usize = 16 * 1_024;

/// Time to get a last NOTIFICATION out before closing.
pub const FLUSH_WAIT: Duration = Duration::from_millis(100);

/// Commands waiting for a speaker's task.
pub const MAX_COMMANDS: usize = 256;

/// Findings kept per speaker; later ones replace none of the first.
pub const MAX_FINDINGS: usize = 32;

/// Peers that a collector serves at once.
pub const MAX_PEERS: usize = 64;

/// Routes that a collector takes from one peer.
pub const MAX_ROUTES_PER_PEER: usize = 10_000;

/// Route events kept for a slow reader; a reader that lags is told so.
pub const MAX_EVENTS: usize = 4_096;
