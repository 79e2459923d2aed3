//! What a member must never forget, as records of its journal.
//!
//! The rest (promises, leases, readiness) is forgotten on purpose: R4's quarantine replaces it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::entry::{FenceTarget, FenceVote};
use crate::ids::{ClusterId, Incarnation, MemberId, StoreId};
use crate::ledger::{LedgerDurable, LedgerRecord};

/// One record of the journal.
#[allow(clippy::large_enum_variant)] // few are alive at a time, and all pass through once
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// The member has a place in a cluster.
    Identity {
        /// Which cluster.
        cluster: ClusterId,
        /// Its number there.
        me: MemberId,
    },
    /// Ledger state.
    Ledger(LedgerRecord),
    /// A fence vote (R2, R3): durable before anybody hears of it.
    Fence(FenceVote),
    /// The largest T ever promised (R1, R2).
    MaxPromise(Duration),
    /// How far another member's store had come when it was last heard of (R5). This store's own: it was
    /// found to be a copy of what had come so far, and is not used any more.
    Seen {
        /// Whose.
        store: StoreId,
        /// How far.
        age: Age,
        /// Which start it belonged to.
        boot: Incarnation,
    },
}

/// How far a store has come (R5). It only grows; a store that comes back with less is a copy that
/// was made earlier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Age {
    /// How often it was opened.
    pub opened: u64,
    /// How many records were written to it, durably; 0: not told.
    pub written: u64,
}

impl Age {
    /// Whether a store that was once of this age may be of that age at a later opening.
    pub fn may_become(self, later: Age) -> bool {
        self.opened < later.opened && (later.written == 0 || self.written <= later.written)
    }
}

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "opening {}, record {}", self.opened, self.written)
    }
}

/// Why a journal does not make a member.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the journal's records do not fit together: {0}; this store must be re-admitted (R5)")]
pub struct Inconsistent(pub String);

/// Everything durable, rebuilt from the records in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Durable {
    /// Cluster and number, once there is one.
    pub identity: Option<(ClusterId, MemberId)>,
    /// The ledger.
    pub ledger: LedgerDurable,
    /// Fence votes given.
    pub fences: BTreeMap<FenceTarget, FenceVote>,
    /// Largest T ever promised.
    pub max_promise: Duration,
    /// How far other stores had come, and in which start; this one itself if it was found out.
    pub seen: BTreeMap<StoreId, (Age, Incarnation)>,
}

impl Durable {
    /// Takes in the next record.
    pub fn replay(&mut self, record: Record) -> Result<(), Inconsistent> {
        match record {
            Record::Identity { cluster, me } => {
                if self.identity.is_some_and(|i| i != (cluster, me)) {
                    return Err(Inconsistent("two identities".to_owned()));
                }
                self.identity = Some((cluster, me));
            }
            Record::Ledger(r) => {
                self.ledger.replay(r).map_err(|e| Inconsistent(e.to_string()))?;
            }
            Record::Fence(vote) => {
                self.fences.insert(vote.target, vote);
            }
            Record::MaxPromise(t) => self.max_promise = self.max_promise.max(t),
            Record::Seen { store, age, boot } => {
                self.seen.insert(store, (age, boot));
            }
        }
        Ok(())
    }
}
