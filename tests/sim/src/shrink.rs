//! Making a failing plan smaller: what is left are the faults that it takes.

use crate::plan::Plan;
use crate::seed::{Failure, run};

/// Runs that shrinking may take.
const MOST_RUNS: usize = 400;

/// A plan with the same kind of failure and as few faults as could be found.
pub fn shrink(seed: u64, plan: &Plan, failure: &Failure) -> (Plan, Failure) {
    let mut best = (plan.clone(), failure.clone());
    let mut runs = 0;
    let mut piece = plan.len().div_ceil(2);
    while piece > 0 {
        let mut begin = 0;
        while begin < best.0.len() && runs < MOST_RUNS {
            runs += 1;
            let mut fewer = best.0.clone();
            fewer.drain(begin..(begin + piece).min(fewer.len()));
            match run(seed, &fewer, false) {
                Err(f) if kind(&f.what) == kind(&failure.what) => best = (fewer, f),
                _ => begin += piece,
            }
        }
        piece /= 2;
    }
    best
}

/// The invariant that broke: the words before the first colon.
fn kind(what: &str) -> &str {
    what.split(':').next().unwrap_or_default()
}
