//! Quorum arithmetic: majorities, and the k-th largest that a majority has reached.

use std::collections::BTreeSet;

use crate::ids::MemberId;

/// Members that make a majority of `voters`.
pub fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

/// Whether `who` holds a majority of `voters`; members outside of `voters` do not count.
pub fn has_majority<'a>(
    voters: &BTreeSet<MemberId>,
    who: impl IntoIterator<Item = &'a MemberId>,
) -> bool {
    let distinct: BTreeSet<_> = who.into_iter().filter(|m| voters.contains(m)).collect();
    distinct.len() >= majority(voters.len())
}

/// The largest value that a majority of `voters` has reached or passed; `None` while fewer than a
/// majority have any value. (`s*` of R12, the commit index of R7.)
pub fn reached_by_majority<T: Ord + Copy>(
    voters: &BTreeSet<MemberId>,
    value: impl Fn(MemberId) -> Option<T>,
) -> Option<T> {
    let mut values: Vec<T> = voters.iter().filter_map(|m| value(*m)).collect();
    let need = majority(voters.len());
    if voters.is_empty() || values.len() < need {
        return None;
    }
    values.sort_unstable_by(|a, b| b.cmp(a));
    Some(values[need - 1])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn voters(n: u32) -> BTreeSet<MemberId> {
        (1..=n).map(MemberId).collect()
    }

    /// The deliberately dumb twin: try every candidate value and count.
    fn dumb(values: &[Option<u8>]) -> Option<u8> {
        (0..=u8::MAX).rev().find(|v| {
            2 * values.iter().filter(|x| x.is_some_and(|x| x >= *v)).count() > values.len()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 8 } else { 20_000 }))]
        #[test]
        fn the_kth_largest_agrees_with_counting(values in prop::collection::vec(prop::option::of(0u8..6), 1..8)) {
            let v = voters(values.len() as u32);
            let ours = reached_by_majority(&v, |m| values[m.0 as usize - 1]);
            prop_assert_eq!(ours, dumb(&values));
        }

        #[test]
        fn any_two_majorities_share_a_member_and_so_do_neighbouring_sizes(
            n in 1u32..7, a in any::<u8>(), b in any::<u8>()
        ) {
            let pick = |bits: u8, n: u32| -> BTreeSet<MemberId> {
                (1..=n).filter(|i| bits >> (i - 1) & 1 == 1).map(MemberId).collect()
            };
            let (small, large) = (voters(n), voters(n + 1));
            for other in [&small, &large] {
                let (x, y) = (pick(a, n), pick(b, other.len() as u32));
                if has_majority(&small, &x) && has_majority(other, &y) {
                    prop_assert!(x.intersection(&y).next().is_some());
                }
            }
        }
    }

    #[test]
    fn strangers_and_doubles_do_not_count() {
        let v = voters(3);
        let who = [MemberId(1), MemberId(1), MemberId(9)];
        assert!(!has_majority(&v, &who));
        assert!(!has_majority(&BTreeSet::new(), &[]));
    }
}
