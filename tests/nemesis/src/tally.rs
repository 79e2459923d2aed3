//! What a run has come to: which kind was done how often, and the sums.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::fault::Kind;
use crate::verdict::Verdict;

/// What a kind was good for.
#[derive(Clone, Copy, Debug)]
struct Coverage {
    kind: Kind,
    /// How often it had its turn as a round's first.
    turns: usize,
    fired: usize,
    while_held: usize,
}

/// The count of a run.
#[derive(Debug)]
pub(crate) struct Tally {
    coverage: Vec<Coverage>,
    /// How often each kind is to be done while the ticket is held.
    due: usize,
    rounds: usize,
    failed: usize,
    moved: usize,
    slowest: Duration,
    after_thaw: Option<Duration>,
}

impl Tally {
    pub(crate) fn new(kinds: &[Kind], due: usize) -> Self {
        let new = |kind: &Kind| Coverage { kind: *kind, turns: 0, fired: 0, while_held: 0 };
        let coverage = kinds.iter().map(new).collect();
        Self {
            coverage,
            due,
            rounds: 0,
            failed: 0,
            moved: 0,
            slowest: Duration::ZERO,
            after_thaw: None,
        }
    }

    /// The kind whose turn it is. Every other turn is of the one that lags most behind what is due;
    /// not every one, for it may be one that cannot be done here.
    pub(crate) fn turn(&mut self) -> Kind {
        let lagging = self.rounds % 2 == 1;
        let key =
            |c: &&mut Coverage| (if lagging { c.while_held.min(self.due) } else { 0 }, c.turns);
        let next = self.coverage.iter_mut().min_by_key(key).expect("there is a kind");
        next.turns += 1;
        next.kind
    }

    pub(crate) fn add(&mut self, verdict: &Verdict) {
        for (kind, held) in &verdict.fired {
            // A kind that was left out may come as a part of another one.
            if let Some(c) = self.coverage.iter_mut().find(|c| c.kind == *kind) {
                c.fired += 1;
                c.while_held += usize::from(*held);
            }
        }
        self.rounds += 1;
        self.failed += usize::from(!verdict.passed());
        self.moved += usize::from(verdict.moved);
        self.slowest = self.slowest.max(verdict.healed_in);
        self.after_thaw = self.after_thaw.max(verdict.found.after_thaw);
    }

    /// A round that had no end: order did not come back.
    pub(crate) fn add_endless(&mut self) {
        self.rounds += 1;
        self.failed += 1;
    }

    pub(crate) fn rounds(&self) -> usize {
        self.rounds
    }

    pub(crate) fn failed(&self) -> usize {
        self.failed
    }

    /// Kinds that were done too seldom while the ticket was held.
    pub(crate) fn missed(&self) -> Vec<String> {
        let missed = self.coverage.iter().filter(|c| c.while_held < self.due);
        missed.map(|c| c.kind.word()).collect()
    }

    pub(crate) fn sums(&self) -> Value {
        json!({
            "rounds": self.rounds, "failed": self.failed, "moved": self.moved, "due": self.due,
            "healed_in_at_most_ms": self.slowest.as_millis() as u64,
        })
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<22} {:>6} {:>12}", "fault", "fired", "while held")?;
        for c in &self.coverage {
            writeln!(f, "{:<22} {:>6} {:>12}", c.kind.word(), c.fired, c.while_held)?;
        }
        let (rounds, failed, moved) = (self.rounds, self.failed, self.moved);
        let fired: usize = self.coverage.iter().map(|c| c.fired).sum();
        write!(
            f,
            "{rounds} rounds with {fired} faults, {failed} failed; {moved} times the ticket ended \
             elsewhere; in order again after at most {:.1} s",
            self.slowest.as_secs_f64(),
        )?;
        self.after_thaw.map_or(Ok(()), |d| {
            let ms = d.as_secs_f64() * 1e3;
            write!(f, "; a machine that thawed was refused for at most {ms:.1} ms")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::Found;

    fn held(kinds: &[Kind]) -> Verdict {
        let fired = kinds.iter().map(|k| (*k, true)).collect();
        Verdict { fired, found: Found::default(), moved: false, healed_in: Duration::ZERO }
    }

    #[test]
    fn a_kind_that_lags_is_drawn_first_and_does_not_keep_the_others_from_their_turns() {
        let mut tally = Tally::new(&[Kind::Cut, Kind::KillGuard, Kind::Loss], 2);
        let mut turns = Vec::new();
        for _ in 0..12 {
            let turn = tally.turn();
            turns.push(turn);
            let done = (turn != Kind::KillGuard).then_some(turn);
            tally.add(&held(done.as_slice()));
        }
        let count = |kind| turns.iter().filter(|k| **k == kind).count();
        assert!(count(Kind::KillGuard) >= 5, "{turns:?}");
        assert!(count(Kind::Cut) >= 2 && count(Kind::Loss) >= 2, "{turns:?}");
        assert_eq!(tally.missed(), ["kill-guard"]);
    }
}
