//! What the answers prove. Pure: answers in, findings out.
//!
//! Every answer says when its instance began and when it answered, both on the machine's one
//! clock. From that follows when each instance certainly ran: from its beginning to its last
//! answer. Two instances at different sites whose times meet are an *overlap*; an answer under a
//! term lower than that of an instance that had begun before is *stale*. Both must be zero.
//!
//! The end is known to the witness's period; so is the beginning where the instance does not say
//! it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::clock::At;

/// An answer that was heard: the service ran at this site under this term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    /// Number of the question.
    pub(crate) n: u64,
    /// Which site answered, by its place.
    pub(crate) site: usize,
    /// Under which term.
    pub(crate) term: u64,
    /// Since when the answering instance certainly ran.
    pub(crate) began: At,
    /// When it answered, or when it was asked: it certainly ran then.
    pub(crate) at: At,
    /// When the answer was here.
    pub(crate) got: At,
}

/// One instance of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lane {
    pub(crate) site: usize,
    pub(crate) term: u64,
    pub(crate) from: At,
    pub(crate) to: At,
}

/// All instances, in order of their beginnings.
pub(crate) fn lanes<'a>(answers: impl IntoIterator<Item = &'a Heard>) -> Vec<Lane> {
    let mut found: BTreeMap<(At, usize, u64), At> = BTreeMap::new();
    for a in answers {
        let last = found.entry((a.began, a.site, a.term)).or_insert(a.at);
        *last = (*last).max(a.at);
    }
    found.into_iter().map(|((from, site, term), to)| Lane { site, term, from, to }).collect()
}

/// For how long the service ran at two sites.
pub(crate) fn overlap(lanes: &[Lane]) -> Duration {
    let mut sum = Duration::ZERO;
    for (i, a) in lanes.iter().enumerate() {
        for b in lanes[i + 1..].iter().filter(|b| b.site != a.site) {
            sum += a.to.min(b.to).since(a.from.max(b.from));
        }
    }
    sum
}

/// Answers under a term that was overruled when they were given.
pub(crate) fn stale<'a>(lanes: &[Lane], answers: impl IntoIterator<Item = &'a Heard>) -> usize {
    let overruled = |a: &&Heard| lanes.iter().any(|l| l.term > a.term && l.from < a.at);
    answers.into_iter().filter(overruled).count()
}

/// The longest time without an answer that ended within the window, or still lasts at its end.
/// `answers` in order of arrival.
pub(crate) fn longest_gap(answers: &[Heard], from: At, to: At) -> Duration {
    let first = answers.partition_point(|a| a.got < from);
    let mut last = first.checked_sub(1).map_or(from, |i| answers[i].got);
    let mut longest = Duration::ZERO;
    for a in answers[first..].iter().take_while(|a| a.got <= to) {
        longest = longest.max(a.got.since(last));
        last = a.got;
    }
    longest.max(to.since(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn heard(site: usize, term: u64, began: u64, at: u64) -> Heard {
        let (began, at) = (At(began * MS), At(at * MS));
        Heard { n: 0, site, term, began, at, got: at }
    }

    #[test]
    fn instances_one_after_the_other_do_not_overlap() {
        let answers = [heard(0, 1, 0, 10), heard(0, 1, 0, 90), heard(1, 2, 91, 95)];
        let lanes = lanes(&answers);
        assert_eq!(lanes.len(), 2);
        assert_eq!((overlap(&lanes), stale(&lanes, &answers)), (Duration::ZERO, 0));
    }

    #[test]
    fn an_old_holder_that_serves_on_is_seen_even_when_its_answer_comes_late() {
        let mut late = heard(0, 1, 0, 120);
        late.got = At(900 * MS);
        let answers = [heard(0, 1, 0, 10), heard(1, 2, 100, 300), late];
        let lanes = lanes(&answers);
        assert_eq!(overlap(&lanes), Duration::from_millis(20));
        assert_eq!(stale(&lanes, &answers), 1);
    }

    #[test]
    fn an_answer_that_was_only_slow_to_arrive_is_no_overlap() {
        let mut late = heard(0, 1, 0, 90);
        late.got = At(900 * MS);
        let answers = [heard(1, 2, 100, 300), late];
        let lanes = lanes(&answers);
        assert_eq!((overlap(&lanes), stale(&lanes, &answers)), (Duration::ZERO, 0));
    }

    #[test]
    fn a_gap_counts_where_it_ends_and_while_it_lasts() {
        let answers = [heard(0, 1, 0, 10), heard(0, 1, 0, 20), heard(0, 1, 0, 500)];
        let gap =
            |from: u64, to: u64| longest_gap(&answers, At(from * MS), At(to * MS)).as_millis();
        assert_eq!(gap(0, 20), 10);
        assert_eq!(gap(100, 600), 480, "it began before the window");
        assert_eq!(gap(15, 400), 380, "it has not ended");
        assert_eq!(longest_gap(&[], At(0), At(7 * MS)).as_millis(), 7);
    }
}
