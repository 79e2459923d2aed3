//! What the link counts. Nothing is dropped or refused without a counter saying so.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::Refusal;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// The live counters; relaxed, because each stands for itself.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: AtomicU64,)*
            refused: [AtomicU64; Refusal::ALL.len()],
        }

        /// The counters at one moment. All of them only grow.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct CountersSnapshot {
            $($(#[$doc])* pub $name: u64,)*
            /// Refusals by this process, in the order of [`Refusal::ALL`].
            pub refused: [u64; Refusal::ALL.len()],
        }

        impl Counters {
            pub(crate) fn snapshot(&self) -> CountersSnapshot {
                CountersSnapshot {
                    $($name: self.$name.load(Ordering::Relaxed),)*
                    refused: std::array::from_fn(|i| self.refused[i].load(Ordering::Relaxed)),
                }
            }
        }
    };
}

counters! {
    /// Datagrams given to the daemon.
    datagrams_in,
    /// Bytes of them.
    datagram_bytes_in,
    /// Datagrams given to the transport.
    datagrams_out,
    /// Bytes of them.
    datagram_bytes_out,
    /// Frames given to the daemon.
    frames_in,
    /// Bytes of them.
    frame_bytes_in,
    /// Frames given to the transport.
    frames_out,
    /// Bytes of them.
    frame_bytes_out,
    /// Datagrams dropped because their connection was beyond its allowance.
    datagrams_over_quota,
    /// Datagrams dropped because the daemon did not take events fast enough.
    datagrams_queue_full,
    /// Frames that were queued when their connection ended.
    frames_lost,
    /// Refused-events dropped because the daemon did not take events fast enough.
    refusals_unreported,
    /// Connections that came up.
    connections_up,
    /// Connections that went down.
    connections_down,
    /// Attempts to dial that failed.
    dials_failed,
    /// Connections dropped because the peer was silent while we sent.
    silent_drops,
    /// Attempts that had to prove their address first.
    retries_demanded,
    /// Certificates given by joins and renewals.
    joins_granted,
    /// Revocation lists given out.
    crls_served,
    /// Joins and renewals refused.
    joins_refused,
}

impl Counters {
    /// Adds one.
    pub(crate) fn bump(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Adds bytes.
    pub(crate) fn add(counter: &AtomicU64, amount: usize) {
        counter.fetch_add(amount as u64, Ordering::Relaxed);
    }

    pub(crate) fn refuse(&self, refusal: Refusal) {
        Self::bump(&self.refused[refusal as usize]);
    }
}

/// What is counted for one tenant, for as long as it is on the link.
#[derive(Debug, Default)]
pub(crate) struct TenantCounters {
    pub(crate) datagrams_over_quota: AtomicU64,
}

/// A tenant's counters at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TenantCountersSnapshot {
    /// Its datagrams that were dropped because their connection was beyond its allowance.
    pub datagrams_over_quota: u64,
}

impl TenantCounters {
    pub(crate) fn snapshot(&self) -> TenantCountersSnapshot {
        TenantCountersSnapshot {
            datagrams_over_quota: self.datagrams_over_quota.load(Ordering::Relaxed),
        }
    }
}

impl CountersSnapshot {
    /// How often this process refused for this reason.
    pub fn refused(&self, refusal: Refusal) -> u64 {
        self.refused[refusal as usize]
    }
}
