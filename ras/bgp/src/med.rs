//! Terms as metrics: MED = MAX − (term − base), so that the newer term is the better route.
//!
//! A term has 64 bits and MED 32. The base is configured once per ticket, below its first term;
//! from there four billion grants fit. What does not fit is an error: a wrapped metric would make
//! the oldest term the best route, which is the one thing that must not happen.

use std::fmt;

use crate::error::BgpError;

/// A ticket's fencing token: strictly growing, one holder each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(pub u64);

/// An autonomous system's number (four octets, RFC 6793).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Asn(pub u32);

/// A route's multi-exit discriminator: the lower, the better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Med(pub u32);

/// The term that maps to the worst MED. All sites of a ticket must share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MedBase(pub Term);

impl Med {
    /// The worst metric; also what a route without MED counts as.
    pub const WORST: Self = Self(u32::MAX);
}

impl MedBase {
    /// The metric of a term, or an error when the term lies outside the range of the base.
    pub fn med(self, term: Term) -> Result<Med, BgpError> {
        let base = self.0;
        let above = term.0.checked_sub(base.0).ok_or(BgpError::TermBelowBase { term, base })?;
        let above = u32::try_from(above).map_err(|_| BgpError::TermBeyondRange { term, base })?;
        Ok(Med(u32::MAX - above))
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Asn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AS{}", self.0)
    }
}

impl fmt::Display for Med {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_term_always_has_the_lower_metric() {
        let base = MedBase(Term(1_000));
        assert_eq!(base.med(Term(1_000)), Ok(Med(u32::MAX)));
        assert_eq!(base.med(Term(1_007)), Ok(Med(u32::MAX - 7)));
        assert!(base.med(Term(1_008)).unwrap() < base.med(Term(1_007)).unwrap());
        assert_eq!(base.med(Term(1_000 + u64::from(u32::MAX))), Ok(Med(0)));
    }

    #[test]
    fn a_term_outside_the_range_of_the_base_is_refused_and_never_wrapped() {
        let base = MedBase(Term(1_000));
        let below = BgpError::TermBelowBase { term: Term(999), base: base.0 };
        assert_eq!(base.med(Term(999)), Err(below));
        let term = Term(1_001 + u64::from(u32::MAX));
        assert_eq!(base.med(term), Err(BgpError::TermBeyondRange { term, base: base.0 }));
        assert!(base.med(Term(u64::MAX)).is_err());
    }
}
