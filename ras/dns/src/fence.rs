//! The fence record: who wrote the name last, and with which term.
//!
//! It lives as one TXT record at `_ticket.<name>` and reads
//! `v=1 term=42 site=berlin nonce=0123456789abcdef0123456789abcdef`. The term orders writers, the
//! nonce tells one attempt from another, so that a writer whose answer was lost can see whether
//! its own message arrived. Without the nonce, a reader could not tell its own success from that
//! of a twin with the same term and site.
//!
//! Invariants: parsing is total and accepts exactly what printing produces (one text per record,
//! so a comparison of bytes is a comparison of values); [`decide`] never lets an older term
//! replace a newer one, nor one site replace another within a term.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use hickory_proto::rr::Name;

use crate::error::DnsError;
use crate::limits::{MAX_FENCE_TEXT, MAX_SITE_NAME};

/// A ticket's fencing token: strictly growing, one holder each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(pub u64);

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<u64> for Term {
    fn from(value: u64) -> Self {
        Self(value)
    }
}

/// A site's name as it stands in a fence: 1 to 63 letters, digits, `-`, `_` or `.`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SiteName(String);

impl SiteName {
    /// Checks and wraps a name.
    pub fn new(name: impl Into<String>) -> Result<Self, FenceError> {
        let name = name.into();
        let fits = (1..=MAX_SITE_NAME).contains(&name.len());
        if fits && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
            Ok(Self(name))
        } else {
            Err(FenceError::BadSite)
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SiteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SiteName {
    type Err = FenceError;
    fn from_str(s: &str) -> Result<Self, FenceError> {
        Self::new(s)
    }
}

/// 128 random bits, fresh for every update (not for every attempt of it).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Nonce(pub [u8; 16]);

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// One fence record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FenceRecord {
    /// The writer's term.
    pub term: Term,
    /// The writer's site.
    pub site: SiteName,
    /// The writer's mark.
    pub nonce: Nonce,
}

/// Why a text is not a fence record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FenceError {
    /// Longer than a DNS character-string.
    #[error("longer than {MAX_FENCE_TEXT} octets")]
    TooLong,
    /// Not `v=1 term=… site=… nonce=…` in this order with single spaces.
    #[error("not of the form `v=1 term=… site=… nonce=…`")]
    BadForm,
    /// Another version of the text; a newer program wrote it.
    #[error("of another version than 1")]
    OtherVersion,
    /// Term is not a decimal number without sign and leading zeros.
    #[error("term is not a plain number")]
    BadTerm,
    /// Site is not 1 to 63 of the allowed characters.
    #[error("site must be 1 to {MAX_SITE_NAME} letters, digits, '-', '_' or '.'")]
    BadSite,
    /// Nonce is not 32 lower-case hexadecimal digits.
    #[error("nonce is not 32 lower-case hexadecimal digits")]
    BadNonce,
}

impl fmt::Display for FenceRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v=1 term={} site={} nonce={}", self.term, self.site, self.nonce)
    }
}

impl FromStr for FenceRecord {
    type Err = FenceError;

    fn from_str(text: &str) -> Result<Self, FenceError> {
        if text.len() > MAX_FENCE_TEXT {
            return Err(FenceError::TooLong);
        }
        let mut parts = text.split(' ');
        let mut field = |key: &str| {
            let (name, value) = parts.next()?.split_once('=')?;
            (name == key).then_some(value)
        };
        if field("v").ok_or(FenceError::BadForm)? != "1" {
            return Err(FenceError::OtherVersion);
        }
        let term = parse_term(field("term").ok_or(FenceError::BadForm)?)?;
        let site = SiteName::new(field("site").ok_or(FenceError::BadForm)?)?;
        let nonce = parse_nonce(field("nonce").ok_or(FenceError::BadForm)?)?;
        if parts.next().is_some() {
            return Err(FenceError::BadForm);
        }
        Ok(Self { term, site, nonce })
    }
}

fn parse_term(text: &str) -> Result<Term, FenceError> {
    let canonical = text == "0" || !text.starts_with('0');
    if !canonical || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(FenceError::BadTerm);
    }
    text.parse().map(Term).map_err(|_| FenceError::BadTerm)
}

fn parse_nonce(text: &str) -> Result<Nonce, FenceError> {
    let digits = text.as_bytes();
    if digits.len() != 32 {
        return Err(FenceError::BadNonce);
    }
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(FenceError::BadNonce),
    };
    let mut nonce = [0; 16];
    for (byte, pair) in nonce.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Ok(Nonce(nonce))
}

/// The owner name of a name's fence: `_ticket.<name>`.
pub fn fence_name(name: &Name) -> Result<Name, DnsError> {
    name.prepend_label("_ticket").map_err(|_| DnsError::Invalid {
        what: format!("the name {name} is too long to carry a fence record"),
    })
}

/// What the fence found at the authority means for a writer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Write, provided that the fence is still what was read (or still absent).
    Write,
    /// Our own message is already in place.
    AlreadyMine,
    /// A newer term is there.
    Superseded,
    /// Another site wrote with our term.
    TermTaken,
}

/// The one rule: a newer term wins; within a term the first site wins; the holder itself may
/// write again (an agent that was restarted does not know its old nonce).
pub fn decide(found: Option<&FenceRecord>, mine: &FenceRecord) -> Decision {
    let Some(found) = found else { return Decision::Write };
    match found.term.cmp(&mine.term) {
        Ordering::Greater => Decision::Superseded,
        Ordering::Equal if found.site != mine.site => Decision::TermTaken,
        Ordering::Equal if found.nonce == mine.nonce => Decision::AlreadyMine,
        Ordering::Less | Ordering::Equal => Decision::Write,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fence(term: u64, site: &str, mark: u8) -> FenceRecord {
        FenceRecord {
            term: Term(term),
            site: SiteName::new(site).unwrap(),
            nonce: Nonce([mark; 16]),
        }
    }

    #[test]
    fn a_printed_fence_is_read_back_as_the_same_record() {
        for record in [fence(0, "a", 0), fence(u64::MAX, "berlin-2.eu", 0xfe), fence(7, "x_y", 9)] {
            assert_eq!(record.to_string().parse(), Ok(record));
        }
    }

    #[test]
    fn every_other_text_is_refused_with_its_reason() {
        let nonce = "0123456789abcdef0123456789abcdef";
        let cases = [
            (String::new(), FenceError::BadForm),
            (format!("v=2 term=1 site=a nonce={nonce}"), FenceError::OtherVersion),
            (format!("v=1 term=01 site=a nonce={nonce}"), FenceError::BadTerm),
            (format!("v=1 term=+1 site=a nonce={nonce}"), FenceError::BadTerm),
            (format!("v=1 term= site=a nonce={nonce}"), FenceError::BadTerm),
            (format!("v=1 term=18446744073709551616 site=a nonce={nonce}"), FenceError::BadTerm),
            (format!("v=1 term=1 site= nonce={nonce}"), FenceError::BadSite),
            (format!("v=1 term=1 site=a/b nonce={nonce}"), FenceError::BadSite),
            (format!("v=1 term=1 site=a nonce={}", nonce.to_uppercase()), FenceError::BadNonce),
            (format!("v=1 term=1 site=a nonce={}", &nonce[1..]), FenceError::BadNonce),
            (format!("v=1  term=1 site=a nonce={nonce}"), FenceError::BadForm),
            (format!("v=1 site=a term=1 nonce={nonce}"), FenceError::BadForm),
            (format!("v=1 term=1 site=a nonce={nonce} more=1"), FenceError::BadForm),
            ("v".repeat(256), FenceError::TooLong),
        ];
        for (text, why) in cases {
            assert_eq!(text.parse::<FenceRecord>(), Err(why), "{text}");
        }
    }

    #[test]
    fn the_newer_term_wins_and_a_term_belongs_to_the_site_that_came_first() {
        let mine = fence(5, "a", 1);
        assert_eq!(decide(None, &mine), Decision::Write);
        assert_eq!(decide(Some(&fence(4, "b", 2)), &mine), Decision::Write);
        assert_eq!(decide(Some(&fence(5, "a", 2)), &mine), Decision::Write);
        assert_eq!(decide(Some(&fence(5, "a", 1)), &mine), Decision::AlreadyMine);
        assert_eq!(decide(Some(&fence(5, "b", 1)), &mine), Decision::TermTaken);
        assert_eq!(decide(Some(&fence(6, "a", 1)), &mine), Decision::Superseded);
    }
}
