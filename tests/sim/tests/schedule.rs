//! Seeds that every run of the tests plays; more of them by `tests/run sim`.

use tierce_sim::plan::{Setting, draw};
use tierce_sim::seed::run;
use tierce_sim::shrink::shrink;

/// Faults in a plan; recoveries come on top.
const FAULTS: usize = 80;

/// `TIERCE_SEEDS` sets how many seeds are played.
#[test]
fn whatever_happens_no_ticket_has_two_homes_nothing_acknowledged_is_lost_and_life_goes_on() {
    let many = std::env::var("TIERCE_SEEDS").ok().and_then(|s| s.parse().ok());
    let many = many.unwrap_or(if cfg!(debug_assertions) { 20 } else { 200 });
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    let failures: Vec<String> = std::thread::scope(|s| {
        let jobs: Vec<_> = (0..cores)
            .map(|j| {
                s.spawn(move || {
                    (1..=many).filter(|n| n % cores == j).find_map(|n| fails(n, FAULTS))
                })
            })
            .collect();
        jobs.into_iter().filter_map(|j| j.join().expect("runs catch their panics")).collect()
    });
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// A member whose admission was not final yet, and one whose removal stood in the log of a member that
/// was down, were taken for voters that are back, and another store was spoilt: nobody could decide any
/// more, which was the plans' fault.
#[test]
fn plans_never_take_the_majority_of_the_final_configuration() {
    for seed in [10_028_776, 10_058_142] {
        assert_eq!(fails(seed, 160), None);
    }
}

fn fails(seed: u64, faults: usize) -> Option<String> {
    let plan = draw(seed, &Setting::of(seed), faults);
    let failure = run(seed, &plan, false).err()?;
    let (plan, failure) = shrink(seed, &plan, &failure);
    let lines = plan.iter().map(|(at, fault)| format!("  {at:>8} ms {fault:?}"));
    let lines: Vec<String> = lines.collect();
    Some(format!(
        "seed {seed}: {}\nreproduce: tests/run sim --seed {seed} --faults {faults}\n{}",
        failure.what,
        lines.join("\n")
    ))
}
