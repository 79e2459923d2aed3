//! Delegation within a site (R16): the other nodes pull the time that is left.
//!
//! A node asks the coordinator and counts from when it *sent* its question, on its own clock,
//! scaled by (1−ρ)/(1+ρ): so it ends before the coordinator does, whatever the network did between.
//! Nothing is ever pushed: a message that lay in a queue cannot bring time with it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{Term, TicketId};
use crate::planted::{Bug, is_planted};
use crate::time::HolderTime;
use crate::timing::Timing;

/// A node's question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pull {
    /// Number of the question at that node.
    pub seq: u64,
    /// Which ticket.
    pub ticket: TicketId,
}

/// The coordinator's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remaining {
    /// The question.
    pub seq: u64,
    /// Term under which dependents may run.
    pub term: Term,
    /// Time left until the ticket's deadline D, by the coordinator's clock; zero: none.
    pub left: Duration,
}

/// One ticket's time as a node counts it.
#[derive(Clone, Debug, Default)]
pub struct Delegated {
    asked: Option<(u64, HolderTime)>,
    next_seq: u64,
    granted: Option<(Term, HolderTime)>,
}

impl Delegated {
    /// A new question; an older one still open counts no more.
    pub fn ask(&mut self, now: HolderTime, ticket: TicketId) -> Pull {
        self.next_seq += 1;
        self.asked = Some((self.next_seq, now));
        Pull { seq: self.next_seq, ticket }
    }

    /// Takes in an answer: counted from the question's own send stamp. An older term never
    /// replaces a newer one, and an answer never shortens what an earlier one of its term allowed.
    pub fn answer(&mut self, timing: &Timing, answer: Remaining) {
        let Some((seq, sent)) = self.asked else { return };
        if seq != answer.seq || answer.left.is_zero() {
            return;
        }
        self.asked = None;
        let mut left = timing.shrink(answer.left);
        if is_planted(Bug::DelegatedUnscaled) {
            left = answer.left;
        }
        let until = sent + left;
        match self.granted {
            Some((term, _)) if term > answer.term => {}
            Some((term, old)) if term == answer.term => self.granted = Some((term, old.max(until))),
            _ => self.granted = Some((answer.term, until)),
        }
    }

    /// Term and deadline D as this node may count them, if any time is left.
    pub fn deadline(&self, now: HolderTime) -> Option<(Term, HolderTime)> {
        self.granted.filter(|(_, until)| now < *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timing::Profile;

    fn at(ms: u64) -> HolderTime {
        HolderTime::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn a_late_answer_brings_no_time_with_it() {
        let timing = Profile::MetroFast.timing();
        let mut d = Delegated::default();
        let pull = d.ask(at(0), TicketId(1));
        // The coordinator had 500 ms left when it answered; the answer lay 400 ms in a queue.
        d.answer(
            &timing,
            Remaining { seq: pull.seq, term: Term(7), left: Duration::from_millis(500) },
        );
        let (term, until) = d.deadline(at(400)).expect("time is left");
        assert_eq!(term, Term(7));
        assert!(until < at(500), "{until:?}");
        assert!(d.deadline(at(500)).is_none());
    }

    #[test]
    fn an_answer_to_an_older_question_or_of_an_older_term_counts_for_nothing() {
        let timing = Profile::MetroFast.timing();
        let mut d = Delegated::default();
        let old = d.ask(at(0), TicketId(1));
        let new = d.ask(at(100), TicketId(1));
        let second = Duration::from_secs(1);
        d.answer(&timing, Remaining { seq: old.seq, term: Term(7), left: second });
        assert!(d.deadline(at(101)).is_none());
        d.answer(&timing, Remaining { seq: new.seq, term: Term(8), left: second });
        let late = d.ask(at(200), TicketId(1));
        d.answer(&timing, Remaining { seq: late.seq, term: Term(7), left: second });
        assert_eq!(d.deadline(at(201)).map(|(t, _)| t), Some(Term(8)));
    }
}
