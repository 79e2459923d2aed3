//! A voter's process is killed at any moment, hundreds of times, on the same store.

#![allow(clippy::unwrap_used)] // helpers of tests, too

mod common;

use std::time::{Duration, Instant};

use common::{Dice, Worker, check_recovered, check_replay, child_dir, disk_dir, owner, run_child};
use tierce_store::Store;

const KILLS: u64 = 220;

#[test]
fn nothing_acknowledged_is_lost_when_the_process_is_killed() {
    if let Some(dir) = child_dir() {
        run_child(&dir);
    }
    let test = "nothing_acknowledged_is_lost_when_the_process_is_killed";
    let mut dice = Dice::from_environment(test);
    let dir = disk_dir();
    let dir = dir.path().join("store");
    drop(Store::create(&dir, &owner()).unwrap());
    let (mut known, mut incarnation, mut torn, mut working) = (0, 1, 0, 0);
    let began = Instant::now();

    for round in 0..KILLS {
        let mut worker = Worker::start(test, &dir);
        // A quarter of the kills hits the start and the opening, the rest the work.
        if dice.below(4) > 0 {
            worker.wait_for("open");
        }
        std::thread::sleep(Duration::from_micros(dice.below(40_000)));
        let said = worker.kill();
        assert_eq!(said.ended, None, "round {round}");
        working += u64::from(said.acknowledged > 0);
        known = known.max(said.acknowledged);

        let (store, recovered) = Store::open(&dir, &owner()).unwrap();
        let last = check_recovered(&recovered.records);
        assert!(last >= known, "round {round}: {known} was acknowledged, {last} is there");
        let opened = said.opened.unwrap_or(incarnation);
        assert!(opened >= incarnation && recovered.incarnation > opened, "round {round}");
        if round % 10 == 0 {
            check_replay(&store, last);
        }
        (known, incarnation) = (last, recovered.incarnation);
        torn += u64::from(recovered.torn_tail_bytes > 0);
    }
    println!(
        "{KILLS} kills, {working} of them at work, in {:.1} s: {known} items, {torn} torn ends, \
         incarnation {incarnation}, 0 lost",
        began.elapsed().as_secs_f64()
    );
    assert!(working > KILLS / 3, "too few kills hit a working child");
}
