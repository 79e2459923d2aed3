//! Names and numbers of the protocol, each its own type so that none can stand in for another.
//!
//! All of them travel on the wire and lie in the journal: widths are fixed here and nowhere else.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::limits;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} name {name:?} is refused: {why}; allowed: 1 to {max} of {allowed}")]
pub struct NameError {
    /// "member", "ticket" or "attribute".
    pub kind: &'static str,
    /// The name as given, cut to a printable length.
    pub name: String,
    /// The first rule that it breaks.
    pub why: &'static str,
    /// Longest allowed length in bytes.
    pub max: usize,
    /// The allowed characters in words.
    pub allowed: &'static str,
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $max:expr, $allowed:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(s: &str) -> Result<Self, NameError> {
                let check: fn(&str) -> Option<&'static str> = $check;
                let why = if s.is_empty() {
                    Some("it is empty")
                } else if s.len() > $max {
                    Some("it is too long")
                } else {
                    check(s)
                };
                match why {
                    None => Ok(Self(Arc::from(s))),
                    Some(why) => Err(NameError {
                        kind: $kind,
                        name: s.chars().take(80).collect(),
                        why,
                        max: $max,
                        allowed: $allowed,
                    }),
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(s: String) -> Result<Self, NameError> {
                s.parse()
            }
        }

        impl From<$name> for String {
            fn from(n: $name) -> String {
                n.0.as_ref().to_owned()
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name_type!(
    /// A member's name: a site or an arbitrator, unique within its tenant. It is a DNS label, so
    /// that it can stand in certificates and records.
    MemberName,
    "member",
    limits::MEMBER_NAME_BYTES,
    "a-z, 0-9 and - (not first or last)",
    |s| {
        if !s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
            Some("it has a character outside the allowed ones")
        } else if s.starts_with('-') || s.ends_with('-') {
            Some("it begins or ends with -")
        } else {
            None
        }
    }
);

name_type!(
    /// A ticket's name, unique within its tenant. booth's names are all valid here.
    TicketName,
    "ticket",
    limits::TICKET_NAME_BYTES,
    "A-Z, a-z, 0-9 and - _ . / (a letter or digit first)",
    |s| {
        if !s.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/')) {
            Some("it has a character outside the allowed ones")
        } else if !s.as_bytes()[0].is_ascii_alphanumeric() {
            Some("it does not begin with a letter or digit")
        } else {
            None
        }
    }
);

name_type!(
    /// The name of an attribute of a ticket or of a site.
    AttributeName,
    "attribute",
    limits::ATTRIBUTE_NAME_BYTES,
    "A-Z, a-z, 0-9 and - _ .",
    |s| {
        if s.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
            None
        } else {
            Some("it has a character outside the allowed ones")
        }
    }
);

macro_rules! number_type {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}{}", stringify!($name), self.0)
            }
        }
    };
}

number_type!(
    /// A voter as the ledger knows it: one store of one member. A member that lost its store comes
    /// back under a new number (R5), so a number never speaks with two memories. 0 is nobody.
    MemberId(u32)
);
number_type!(
    /// A position in the ledger, from 1. 0 is "before the first entry".
    LogIndex(u64)
);
number_type!(
    /// An election number of the ledger (what Raft calls term; *term* is the fencing token here).
    Ballot(u64)
);
number_type!(
    /// One incarnation of a site's agent as holder: the index of the entry that opened it.
    SessionId(u64)
);
number_type!(
    /// A ticket's short number, given by the ledger when the ticket is made; never used again.
    TicketId(u32)
);
number_type!(
    /// Which configuration: the index of the entry that brought it.
    ConfigIndex(u64)
);
number_type!(
    /// How often this cluster was founded anew over older data (disaster recovery); prefix of terms.
    Generation(u16)
);
number_type!(
    /// One command of a client, unique at the member that took it in.
    RequestId(u64)
);
number_type!(
    /// One journal write of a member; counts up from 1 within a process.
    PersistId(u64)
);
number_type!(
    /// Number of a renewal within its session.
    RenewalSeq(u64)
);

impl LogIndex {
    /// The index after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
    /// The index before this one; 0 stays 0.
    #[must_use]
    pub fn prev(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

/// The fencing token of a grant: the ledger index of the grant, prefixed by the generation.
/// Strictly growing for each ticket. Upper 16 bits generation, lower 48 bits index.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Term(pub u64);

impl Term {
    /// Bits of the index part.
    pub const INDEX_BITS: u32 = 48;

    /// The term of a grant at `index`.
    ///
    /// # Panics
    /// When the index does not fit into 48 bits: at a million decisions a second that is nine years away.
    pub fn new(generation: Generation, index: LogIndex) -> Self {
        assert!(index.0 < 1 << Self::INDEX_BITS, "ledger index beyond 48 bits");
        Self(u64::from(generation.0) << Self::INDEX_BITS | index.0)
    }
    /// The ledger index of the grant.
    pub fn index(self) -> LogIndex {
        LogIndex(self.0 & ((1 << Self::INDEX_BITS) - 1))
    }
    /// The generation of the cluster that granted.
    pub fn generation(self) -> Generation {
        Generation((self.0 >> Self::INDEX_BITS) as u16)
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Term{}", self.0)
    }
}

/// Random identity of a store, made with it.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StoreId(pub [u8; 16]);

/// Identity of a cluster (a tenant's ledger), fixed when it is formed.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClusterId(pub [u8; 16]);

/// Random number of one start of an agent; tells its session from any earlier one.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Incarnation(pub [u8; 16]);

macro_rules! hex_format {
    ($($t:ty),*) => {$(
        impl fmt::Display for $t {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
            }
        }
        impl fmt::Debug for $t {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().take(4).try_for_each(|b| write!(f, "{b:02x}"))
            }
        }
    )*};
}
hex_format!(StoreId, ClusterId, Incarnation);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_orders_by_generation_before_index() {
        let old = Term::new(Generation(1), LogIndex(900));
        let new = Term::new(Generation(2), LogIndex(3));
        assert!(new > old);
        assert_eq!((new.generation(), new.index()), (Generation(2), LogIndex(3)));
    }

    #[test]
    fn names_are_checked_where_they_enter() {
        assert!("paris".parse::<MemberName>().is_ok());
        for bad in ["", "-a", "a-", "A", "a b", "a.b", &"x".repeat(33)] {
            assert!(bad.parse::<MemberName>().is_err(), "{bad:?} was accepted");
        }
        assert!("web/db-1_x.y".parse::<TicketName>().is_ok());
        for bad in ["", ".a", "a b", &"x".repeat(64)] {
            assert!(bad.parse::<TicketName>().is_err(), "{bad:?} was accepted");
        }
    }
}
