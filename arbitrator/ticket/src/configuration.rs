//! Who votes: the configuration of a cluster, brought by ledger entries and changed one voter at a
//! time (R11).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{ClusterId, Generation, MemberId, MemberName, StoreId};
use crate::limits;
use crate::timing::Timing;

/// What a member may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Votes, and may hold tickets.
    Site,
    /// Votes, and never holds.
    Arbitrator,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Role::Site => "site",
            Role::Arbitrator => "arbitrator",
        })
    }
}

/// One member as the ledger knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberInfo {
    /// Name, the same as in its certificate.
    pub name: MemberName,
    /// Site or arbitrator.
    pub role: Role,
    /// The store that this member number stands for (R5).
    pub store: StoreId,
    /// Where it is reached, `host:port`, best first; empty for one that only dials.
    pub addresses: Vec<String>,
}

/// A configuration: voters, learners and the timing that all of them keep.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    /// Identity of the cluster; never changes.
    pub cluster: ClusterId,
    /// Prefix of all terms; grows only by disaster recovery.
    pub generation: Generation,
    /// Those whose promises and votes count.
    pub voters: BTreeMap<MemberId, MemberInfo>,
    /// Those that receive the ledger and do not count yet.
    pub learners: BTreeMap<MemberId, MemberInfo>,
    /// The number that the next admitted member gets; numbers are never used again.
    pub next_member: MemberId,
    /// Lease times; the inequalities hold for them.
    pub timing: Timing,
    /// SHA-256 (first 16 bytes) of the part of the members' files that must be equal.
    pub digest: [u8; 16],
}

/// Why a configuration or a change of it was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum ConfigurationError {
    /// More than one voter differs.
    #[error("voters change one at a time (R11); this change touches {0}")]
    MoreThanOne(usize),
    /// Too many or too few voters.
    #[error("{0} voters; allowed are 1 to {max}", max = limits::MAX_VOTERS)]
    VoterCount(usize),
    /// Two members of the same name or number.
    #[error("member {0} appears twice")]
    Twice(MemberName),
    /// Not known.
    #[error("there is no member {0}")]
    NoSuchMember(MemberName),
    /// Identity of the cluster or a used number would change.
    #[error("a change may not alter {0}")]
    Fixed(String),
}

impl Configuration {
    /// Numbers of the voters.
    pub fn voter_ids(&self) -> BTreeSet<MemberId> {
        self.voters.keys().copied().collect()
    }

    /// All members, voters first.
    pub fn members(&self) -> impl Iterator<Item = (MemberId, &MemberInfo)> {
        self.voters.iter().chain(&self.learners).map(|(id, m)| (*id, m))
    }

    /// The member of this number.
    pub fn member(&self, id: MemberId) -> Option<&MemberInfo> {
        self.voters.get(&id).or_else(|| self.learners.get(&id))
    }

    /// The number of the member of this name.
    pub fn id_of(&self, name: &MemberName) -> Option<MemberId> {
        self.members().find(|(_, m)| m.name == *name).map(|(id, _)| id)
    }

    /// Whether `id` votes.
    pub fn is_voter(&self, id: MemberId) -> bool {
        self.voters.contains_key(&id)
    }

    /// Checks that hold for every configuration by itself.
    pub fn check(&self) -> Result<(), ConfigurationError> {
        if self.voters.is_empty() || self.voters.len() > limits::MAX_VOTERS {
            return Err(ConfigurationError::VoterCount(self.voters.len()));
        }
        let mut names = BTreeSet::new();
        for (id, m) in self.members() {
            if !names.insert(&m.name) {
                return Err(ConfigurationError::Twice(m.name.clone()));
            }
            if id >= self.next_member || id == MemberId(0) {
                return Err(ConfigurationError::Fixed(format!("the order of numbers ({id})")));
            }
            let long = |a: &String| a.is_empty() || a.len() > limits::ADDRESS_BYTES;
            if m.addresses.len() > limits::MAX_ADDRESSES || m.addresses.iter().any(long) {
                return Err(ConfigurationError::Fixed(format!(
                    "bounds of addresses of {}",
                    m.name
                )));
            }
        }
        Ok(())
    }

    /// R11: whether `next` may follow this configuration.
    pub fn check_successor(&self, next: &Self) -> Result<(), ConfigurationError> {
        next.check()?;
        let fixed = |what: &str| Err(ConfigurationError::Fixed(what.to_owned()));
        if self.cluster != next.cluster {
            return fixed("the cluster's identity");
        }
        if self.generation != next.generation {
            return fixed("the generation (that is disaster recovery)");
        }
        if next.next_member < self.next_member {
            return fixed("the next member number");
        }
        let (old, new) = (self.voter_ids(), next.voter_ids());
        let touched = old.symmetric_difference(&new).count();
        if touched > 1 {
            return Err(ConfigurationError::MoreThanOne(touched));
        }
        for (id, m) in next.members() {
            if id < self.next_member && self.member(id).is_none_or(|o| o.store != m.store) {
                return fixed("the store behind a member number (R5)");
            }
        }
        Ok(())
    }
}
