//! The names of things: who owns a store, which store, which segment, which record.

use std::fmt;

/// The identity of one store, random, fixed at creation. A voter whose store is lost or refused
/// comes back under a new one (R5).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StoreId(pub [u8; 16]);

impl StoreId {
    /// A new identity from the kernel's random numbers.
    #[allow(unsafe_code)]
    pub fn random() -> std::io::Result<StoreId> {
        let mut bytes = [0_u8; 16];
        // SAFETY: the pointer and the length describe `bytes`, which lives until after the call.
        let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
        if usize::try_from(got) != Ok(bytes.len()) {
            return Err(std::io::Error::last_os_error());
        }
        Ok(StoreId(bytes))
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreId({self})")
    }
}

/// Whose truth a store is. Opening under another name is refused as foreign.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    /// The tenant.
    pub tenant: String,
    /// The voter within the tenant.
    pub member: String,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "member {:?} of tenant {:?}", self.member, self.tenant)
    }
}

/// Position of a record in the life of a store; the first is 1, there are no gaps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Seq(pub u64);

impl Seq {
    /// The position `count` records later.
    pub(crate) fn plus(self, count: u64) -> Seq {
        Seq(self.0.saturating_add(count))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Number of a segment; each checkpoint starts the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SegmentNo(pub(crate) u64);

impl SegmentNo {
    pub(crate) fn following(self) -> SegmentNo {
        SegmentNo(self.0.saturating_add(1))
    }
}

impl fmt::Display for SegmentNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Cluster generation, as it prefixes the terms of tickets. The store only carries it: each segment
/// header says under which generation it was begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Generation(pub u32);
