//! Every bound of this crate, in one place, with its reason.

use std::time::Duration;

/// Longest DNS message: the two-octet length of RFC 1035 section 4.2.2.
pub const MAX_MESSAGE: usize = 65_535;

/// Largest answer sent over UDP; 1,232 octets pass every usual path unfragmented.
pub const MAX_UDP_ANSWER: u16 = 1_232;

/// UDP answer size when the question carries no EDNS (RFC 1035 section 4.2.1).
pub const PLAIN_UDP_ANSWER: u16 = 512;

/// Receive buffer for UDP: a whole datagram, so that nothing is cut unseen.
pub const UDP_BUFFER: usize = 65_535;

/// Longest wait for one TCP exchange inside an update. A lost answer is read back after this
/// time, so it must be well under the deadlines callers use (seconds) and above a slow journal.
pub const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(2);

/// Attempts of one update. Each lost race means that another writer won; four sites racing lose
/// at most three times each, the rest is for answers lost on the way.
pub const UPDATE_ATTEMPTS: u8 = 12;

/// Addresses in one update; more than a few under a failover name is a mistake in configuration.
pub const MAX_ADDRESSES: usize = 32;

/// Datagrams that do not match the question and are skipped before giving up.
pub const MAX_FORGED_ANSWERS: u16 = 64;

/// TCP connections that the embedded authority serves at once; more wait in the listen queue.
pub const MAX_TCP_CONNECTIONS: usize = 128;

/// An idle TCP connection is closed after this time (RFC 7766 asks for a few seconds).
pub const TCP_IDLE: Duration = Duration::from_secs(10);

/// Records in the embedded zone; an update that would exceed it is refused whole.
pub const MAX_ZONE_RECORDS: usize = 4_096;

/// Attempts to find a port that is free for UDP and TCP alike when any port will do.
pub const PORT_ATTEMPTS: u8 = 16;

/// Allowed clock difference for TSIG, seconds (RFC 8945 section 10 recommends 300).
pub const TSIG_FUDGE_SECS: u16 = 300;

/// Longest site name: one DNS label.
pub const MAX_SITE_NAME: usize = 63;

/// Longest fence text: one DNS character-string.
pub const MAX_FENCE_TEXT: usize = 255;
