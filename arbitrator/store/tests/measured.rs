//! What a durable append costs on the disk that holds the build.

#![allow(clippy::unwrap_used)] // helpers of tests, too

mod common;

use std::time::{Duration, Instant};

use common::{disk_dir, owner};
use tierce_store::{RecordRef, Store};

fn percentile(sorted: &[Duration], percent: usize) -> u128 {
    sorted[(sorted.len() - 1) * percent / 100].as_micros()
}

fn measure(count: usize, mut work: impl FnMut()) -> Vec<Duration> {
    let mut times: Vec<_> = (0..count)
        .map(|_| {
            let began = Instant::now();
            work();
            began.elapsed()
        })
        .collect();
    times.sort_unstable();
    times
}

#[test]
fn a_durable_append_stays_well_below_a_renewal_period() {
    let dir = disk_dir();
    let path = dir.path().join("store");
    let mut store = Store::create(&path, &owner()).unwrap();
    let payload = [7; 200];
    let record = RecordRef { kind: 1, payload: &payload };
    let appends = measure(2_000, || assert!(store.append(&[record]).is_ok()));
    let pulses = measure(500, || store.pulse().unwrap());
    let checkpoints = measure(30, || assert!(store.checkpoint(&[record]).is_ok()));
    drop(store);
    let openings = measure(30, || drop(Store::open(&path, &owner()).unwrap()));
    for (what, times) in [
        ("append of 200 bytes + fdatasync", &appends),
        ("pulse", &pulses),
        ("checkpoint", &checkpoints),
        ("opening", &openings),
    ] {
        let (p50, p99) = (percentile(times, 50), percentile(times, 99));
        println!("{what}: p50 {p50} us, p99 {p99} us, {} times", times.len());
    }
    // The shortest period of any profile is 100 ms; a loaded test machine gets half of that.
    assert!(percentile(&appends, 50) < 50_000);
    assert!(percentile(&pulses, 50) < 50_000);
}
