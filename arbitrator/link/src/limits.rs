//! Every bound of the link, and the settings that a daemon may choose, in one place.
//!
//! An arbitrator carries 2,000 connections of people who do not know each other, in 300 MB. So what
//! one connection may make us hold is small, what one tenant may make us do is metered, and what a
//! stranger may make us do before he has shown a certificate is least of all.

use std::time::Duration;

use crate::error::LinkError;

/// Largest frame on a stream: 4 MiB. Larger states go in parts (snapshots: 256 KiB each).
pub const MAX_FRAME_BYTES: usize = 4 << 20;
/// A datagram up to this size fits every path that QUIC works on (1,200 bytes of UDP payload less
/// the packet's own overhead).
pub const SAFE_DATAGRAM_BYTES: usize = 1_100;
/// Largest first frame (the greeting) that is read from a peer.
pub const MAX_HELLO_BYTES: usize = 256;
/// Largest message of the join protocol: a certificate, an authority and a revocation list.
pub const MAX_JOIN_MESSAGE_BYTES: usize = 256 << 10;
/// Longest join string: eight addresses of the longest DNS name fit.
pub const MAX_JOIN_STRING_BYTES: usize = 4_096;
/// Addresses in one join string or of one peer.
pub const MAX_ADDRESSES: usize = 8;
/// Longest text of one address: a DNS name of 253 and a port.
pub const MAX_ADDRESS_BYTES: usize = 260;
/// Socket addresses that one dial round tries, after names have been resolved.
pub const MAX_DIAL_TARGETS: usize = 16;
/// Joins and renewals served at once; each costs a signature and two syncs of a disk.
pub const MAX_CONCURRENT_JOINS: usize = 8;
/// Time that one join or renewal may take, on either side.
pub const JOIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest file that is read from an authority's or a member's folder.
pub const MAX_PKI_FILE_BYTES: u64 = 16 << 20;
/// Tenants on one socket.
pub const MAX_TENANTS: usize = 10_000;
/// Handshakes under way at once, before anyone has shown a certificate.
pub const MAX_OPEN_HANDSHAKES: usize = 256;
/// Attempts to dial under way at once. A site has a handful of peers and never waits; a process with
/// thousands, started at once, would spend all its time on handshakes that then come too late,
/// abandon them and begin anew (measured: 2,000 at once on half a core never settle).
pub const MAX_CONCURRENT_DIALS: usize = 64;
/// From this many open handshakes on, a client must first prove that it owns its address.
pub const RETRY_FROM_OPEN_HANDSHAKES: usize = 192;

/// Flow control: what a peer may have in flight to us on its one stream.
pub const STREAM_RECEIVE_WINDOW: u32 = 256 << 10;
/// Flow control: what a peer may have in flight to us in all.
pub const CONNECTION_RECEIVE_WINDOW: u32 = 1 << 20;
/// What we keep for retransmission to one peer.
pub const SEND_WINDOW: u64 = 1 << 20;
/// Datagrams waiting in one connection, each way; the oldest go first.
pub const DATAGRAM_BUFFER_BYTES: usize = 64 << 10;
/// Kernel buffers of the shared socket: some 10 ms of a 1 Gbit/s burst.
pub const SOCKET_BUFFER_BYTES: usize = 2 << 20;
/// Bytes that quinn keeps for one connection attempt that we have not looked at yet.
pub const INCOMING_BUFFER_BYTES: u64 = 16 << 10;
/// The same for all attempts together.
pub const INCOMING_BUFFER_TOTAL_BYTES: u64 = 4 << 20;
/// Certificates of members live this long unless told otherwise.
pub const MEMBER_CERTIFICATE_LIFE: Duration = Duration::from_hours(90 * 24);
/// Certificates of authorities live this long: 10 years.
pub const CA_CERTIFICATE_LIFE: Duration = Duration::from_hours(3_650 * 24);
/// Certificates begin this long before they are issued, so that a member whose wall clock is an
/// hour slow still takes part.
pub const CERTIFICATE_BACKDATE: Duration = Duration::from_mins(70);

/// What one tenant may use of a shared socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TenantQuota {
    /// Connections at once.
    pub max_connections: usize,
    /// Datagrams per second that each connection may bring in.
    pub datagrams_per_second: u32,
    /// Datagrams that may come at once after a pause.
    pub datagram_burst: u32,
}

impl Default for TenantQuota {
    fn default() -> Self {
        Self { max_connections: 64, datagrams_per_second: 2_000, datagram_burst: 500 }
    }
}

/// What a daemon chooses about its link.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Application protocols between members, the preferred first.
    pub alpns: Vec<Vec<u8>>,
    /// QUIC idle time; I4 wants it at most k·P.
    pub idle_timeout: Duration,
    /// The dialler pings after this much silence; P is right.
    pub keep_alive: Duration,
    /// With this much unanswered sending a connection is dropped and dialled anew, without waiting
    /// for the idle time or for quinn's growing retransmission time.
    pub dead_after: Duration,
    /// Assumed round trip before the first measurement; the first retransmission of a handshake
    /// comes after three of these.
    pub initial_rtt: Duration,
    /// One attempt at all addresses of a peer takes at most this long.
    pub dial_timeout: Duration,
    /// Head start of each address over the next.
    pub dial_stagger: Duration,
    /// Least time between the beginnings of two attempts.
    pub backoff_min: Duration,
    /// Largest such time.
    pub backoff_max: Duration,
    /// An incoming handshake and greeting must be done within this time.
    pub handshake_timeout: Duration,
    /// Connections on the socket.
    pub max_connections: usize,
    /// New handshakes that are answered per second; what is beyond is not answered at all, and
    /// honest clients repeat themselves.
    pub handshakes_per_second: u32,
    /// Handshakes that may come at once after a pause.
    pub handshake_burst: u32,
    /// Events waiting for the daemon.
    pub event_queue: usize,
    /// Frames waiting for one peer.
    pub frame_queue: usize,
    /// Bytes waiting for one peer.
    pub frame_queue_bytes: usize,
    /// A clean shutdown waits at most this long for the peers to hear of it.
    pub shutdown_wait: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self::for_period(Duration::from_millis(200), 3)
    }
}

impl Settings {
    /// Settings for a renewal period P when `losses` renewals in a row may be lost (k).
    pub fn for_period(period: Duration, losses: u32) -> Self {
        let k = losses.max(3);
        Self {
            alpns: vec![b"tierce/2".to_vec(), b"tierce/1".to_vec()],
            idle_timeout: period * k,
            keep_alive: period,
            // Two pings unanswered; below the idle time, so that this finds it first.
            dead_after: period * 5 / 2,
            // Handshakes are repeated after 180 and 540 ms: a peer that comes back is found within
            // half a second, and a slow path costs two small packets more.
            initial_rtt: Duration::from_millis(60),
            dial_timeout: Duration::from_secs(1),
            dial_stagger: Duration::from_millis(100),
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(1),
            handshake_timeout: Duration::from_secs(3),
            max_connections: 4_096,
            handshakes_per_second: 500,
            handshake_burst: 2_000,
            event_queue: 1_024,
            // One step of a member may answer all clients of a site (64, and 32 commands of its own)
            // and send as many entries. What finds no room is lost, and its client waits ten seconds
            // to hear that nothing is known: 64 were too few. The queue grows as it is used.
            frame_queue: 1_024,
            frame_queue_bytes: 8 << 20,
            shutdown_wait: Duration::from_secs(1),
        }
    }

    /// Refuses settings that contradict each other.
    pub fn check(&self) -> Result<(), LinkError> {
        let bad = |what: &str| Err(LinkError::Settings(what.to_owned()));
        if self.alpns.is_empty() || self.alpns.iter().any(|a| a.is_empty() || a.len() > 32) {
            return bad("protocol names: at least one, each of 1 to 32 bytes");
        }
        if self.keep_alive.is_zero() || self.dead_after < self.keep_alive * 2 {
            return bad("dead_after must be at least two keep_alive periods");
        }
        if self.idle_timeout <= self.dead_after {
            return bad("idle_timeout must be above dead_after");
        }
        if self.backoff_min.is_zero() || self.backoff_max < self.backoff_min {
            return bad("backoff_min must be above zero and at most backoff_max");
        }
        if self.dial_timeout.is_zero()
            || self.handshake_timeout.is_zero()
            || self.initial_rtt.is_zero()
        {
            return bad("dial_timeout, handshake_timeout and initial_rtt must be above zero");
        }
        if self.event_queue < 16 || self.frame_queue == 0 || self.max_connections == 0 {
            return bad("event_queue needs 16, frame_queue and max_connections need 1 at least");
        }
        if self.frame_queue_bytes < MAX_FRAME_BYTES + 4 {
            return bad("frame_queue_bytes must hold the largest frame");
        }
        if self.handshakes_per_second == 0 || self.handshake_burst == 0 {
            return bad("handshakes_per_second and handshake_burst must be above zero");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profiles_of_all_distances_are_consistent() {
        for period in [100, 200, 1_000, 4_000] {
            for losses in [0, 3, 5] {
                Settings::for_period(Duration::from_millis(period), losses).check().unwrap();
            }
        }
    }

    #[test]
    fn contradicting_settings_are_refused() {
        let mut idle = Settings::default();
        idle.idle_timeout = idle.dead_after;
        assert!(idle.check().is_err());
        assert!(Settings { alpns: vec![], ..Settings::default() }.check().is_err());
        assert!(Settings { backoff_min: Duration::ZERO, ..Settings::default() }.check().is_err());
        assert!(Settings { frame_queue_bytes: 1, ..Settings::default() }.check().is_err());
    }
}
