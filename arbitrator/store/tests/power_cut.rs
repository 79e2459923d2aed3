//! The power fails at any moment. A killed process cannot find a missing sync, because the kernel
//! lives on and writes everything in the end; this can.

#![allow(clippy::unwrap_used)] // helpers of tests, too

mod common;

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{
    Dice, Disk, Worker, check_recovered, check_replay, child_dir, may_mount, owner, run_child, say,
};
use tierce_store::Store;

const CUTS: u64 = 30;

#[test]
fn nothing_acknowledged_is_lost_when_the_power_fails() {
    if let Some(dir) = child_dir() {
        run_child(&dir);
    }
    if !may_mount() {
        return;
    }
    let test = "nothing_acknowledged_is_lost_when_the_power_fails";
    let mut dice = Dice::from_environment(test);
    let disk = Disk::new(256);
    let dir = disk.path().join("store");
    drop(Store::create(&dir, &owner()).unwrap());
    let (mut known, mut incarnation, mut torn, mut working) = (0, 1, 0, 0);
    let began = Instant::now();

    for cut in 0..CUTS {
        let mut worker = Worker::start(test, &dir);
        if dice.below(6) > 0 {
            worker.wait_for("open");
        }
        std::thread::sleep(Duration::from_micros(dice.below(150_000)));
        disk.cut();
        let said = worker.kill();
        working += u64::from(said.acknowledged > 0);
        known = known.max(said.acknowledged);
        disk.unmount();
        disk.mount();

        let (store, recovered) = Store::open(&dir, &owner()).unwrap();
        let last = check_recovered(&recovered.records);
        assert!(last >= known, "cut {cut}: {known} was acknowledged, {last} is there");
        let opened = said.opened.unwrap_or(incarnation);
        assert!(opened >= incarnation && recovered.incarnation > opened, "cut {cut}");
        check_replay(&store, last);
        (known, incarnation) = (last, recovered.incarnation);
        torn += u64::from(recovered.torn_tail_bytes > 0);
    }
    println!(
        "{CUTS} power cuts, {working} of them at work, in {:.1} s: {known} items, {torn} torn \
         ends, incarnation {incarnation}, 0 lost",
        began.elapsed().as_secs_f64()
    );
    assert!(working > CUTS / 2, "too few cuts hit a working child");
}

#[test]
fn a_journal_that_forgets_to_sync_is_caught_by_a_power_cut() {
    if let Some(file) = child_dir() {
        append_without_sync(&file);
    }
    if !may_mount() {
        return;
    }
    let test = "a_journal_that_forgets_to_sync_is_caught_by_a_power_cut";
    let disk = Disk::new(64);
    let file = disk.path().join("journal");
    let mut worker = Worker::start(test, &file);
    worker.wait_for("ack");
    std::thread::sleep(Duration::from_millis(50));
    disk.cut();
    let said = worker.kill();
    disk.unmount();
    disk.mount();
    let kept = std::fs::metadata(&file).map_or(0, |meta| meta.len() / 8);
    assert!(said.acknowledged > 0);
    assert!(kept < said.acknowledged, "the cut lost nothing: it proves nothing about the store");
}

/// The planted bug.
fn append_without_sync(file: &Path) -> ! {
    let mut journal = std::fs::File::create(file).unwrap();
    for number in 1_u64.. {
        if journal.write_all(&number.to_le_bytes()).is_err() {
            break;
        }
        say(&format!("ack {number}"));
        std::thread::sleep(Duration::from_micros(200));
    }
    std::process::exit(3);
}
