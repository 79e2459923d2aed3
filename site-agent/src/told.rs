//! What a site tells the others about a grant: whether the resources run.
//!
//! The ledger knows who holds a ticket, not whether what depends on it has started. A client that
//! asked for a move at another site must not hear "done" before the service runs, and must hear it
//! when it failed. So the new holder's agent sets one attribute of the ticket at its site once its
//! runner is through: the term, and what became of it. Only grants that people asked for are told
//! (someone may wait for them): a takeover of 10,000 tickets writes nothing extra.

use std::time::Duration;

use tierce_ticket::ids::Term;

/// The attribute's name.
pub(crate) const ATTRIBUTE: &str = "tierce.run";
/// Longest reason told: with the words around it, it fits an attribute's value.
const REASON_BYTES: usize = 180;

/// What became of the resources under one grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// Under which term.
    pub(crate) term: Term,
    /// Time of the start, or why it failed.
    pub(crate) result: Result<Duration, String>,
}

impl Told {
    /// As the attribute's value.
    pub(crate) fn write(&self) -> String {
        match &self.result {
            Ok(took) => format!("{} running {}ms", self.term, took.as_millis()),
            Err(why) => {
                let mut end = why.len().min(REASON_BYTES);
                while !why.is_char_boundary(end) {
                    end -= 1;
                }
                format!("{} failed {}", self.term, &why[..end])
            }
        }
    }

    /// Reads the value; nothing when it is none (anybody may set attributes).
    pub(crate) fn read(value: &str) -> Option<Self> {
        let (term, rest) = value.split_once(' ')?;
        let term = Term(term.parse().ok()?);
        let (word, rest) = rest.split_once(' ')?;
        let result = match word {
            "running" => Ok(Duration::from_millis(rest.strip_suffix("ms")?.parse().ok()?)),
            "failed" => Err(rest.to_owned()),
            _ => return None,
        };
        Some(Self { term, result })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_read_back() {
        for result in [Ok(Duration::from_millis(123)), Err("web: exit 5".to_owned())] {
            let told = Told { term: Term(7), result };
            assert_eq!(Told::read(&told.write()), Some(told));
        }
    }

    #[test]
    fn a_long_reason_is_cut_to_fit_an_attribute() {
        let told = Told { term: Term(u64::MAX), result: Err("ü".repeat(500)) };
        assert!(told.write().len() <= tierce_ticket::limits::ATTRIBUTE_VALUE_BYTES);
        assert!(Told::read(&told.write()).is_some());
    }

    #[test]
    fn anything_else_is_not_believed() {
        for text in ["", "7", "7 running", "7 running 5", "x running 5ms", "7 walking 5ms"] {
            assert_eq!(Told::read(text), None, "{text}");
        }
    }
}
