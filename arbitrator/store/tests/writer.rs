//! One thread, many stores.

#![allow(clippy::unwrap_used)] // helpers of tests, too

mod common;

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use common::{check_recovered, check_replay, disk_dir, item, memory_dir, owner, state};
use tierce_store::{Completion, Owner, Seq, Store, SubmitError, What, Writer};

/// A writer whose callback reports, and then waits for a word whenever `held` says so.
fn held_writer(bound: usize) -> (Writer, Receiver<Completion>, Sender<()>) {
    let (done, completions) = channel();
    let (go, gate) = channel::<()>();
    let writer = Writer::spawn(bound, move |completion: Completion| {
        let hold = completion.batch_id == u64::MAX;
        done.send(completion).unwrap();
        if hold {
            let _ = gate.recv();
        }
    });
    (writer.unwrap(), completions, go)
}

#[test]
fn batches_of_one_store_complete_in_order_and_share_their_syncs() {
    let dir = memory_dir();
    let path = dir.path().join("store");
    let (writer, completions, go) = held_writer(1_000);
    let key = writer.register(Store::create(&path, &owner()).unwrap());
    // The thread waits in its callback while the rest arrives.
    writer.submit_pulse(key, u64::MAX).unwrap();
    assert_eq!(completions.recv().unwrap().what, What::Pulse);
    let mut next = 1;
    for id in 0..300 {
        let batch: Vec<_> = (0..id % 4).map(|n| item(next + n)).collect();
        next += id % 4;
        writer.submit(key, id, batch).unwrap();
    }
    go.send(()).unwrap();
    let (mut last, mut expected) = (Seq(0), 0);
    for id in 0..300 {
        let completion = completions.recv().unwrap();
        assert_eq!((completion.batch_id, completion.what), (id, What::Append));
        expected += id % 4;
        last = completion.result.unwrap();
        assert_eq!(last, Seq(expected), "batch {id}");
    }
    writer.shutdown();
    let (store, recovered) = Store::open(&path, &owner()).unwrap();
    assert_eq!(check_recovered(&recovered.records), last.0);
    check_replay(&store, last.0);
    // A write of its own would have cost each batch a block of its own.
    let payload: usize = recovered.records.iter().map(|record| record.payload.len() + 24).sum();
    let blocks = store.live_bytes() / 4096;
    assert!(blocks < payload as u64 / 4096 * 11 / 10 + 20, "{blocks} blocks for {payload} bytes");
}

#[test]
fn a_checkpoint_or_pulse_in_between_keeps_its_place() {
    let dir = memory_dir();
    let path = dir.path().join("store");
    let (writer, completions, go) = held_writer(100);
    let key = writer.register(Store::create(&path, &owner()).unwrap());
    writer.submit_pulse(key, u64::MAX).unwrap();
    writer.submit(key, 1, vec![item(1), item(2)]).unwrap();
    writer.submit(key, 2, vec![item(3)]).unwrap();
    writer.submit_checkpoint(key, 3, vec![state(4)]).unwrap();
    writer.submit(key, 4, vec![item(4)]).unwrap();
    writer.submit_pulse(key, 5).unwrap();
    writer.submit_pulse(key, 6).unwrap();
    writer.submit(key, 7, vec![item(5)]).unwrap();
    writer.submit_close(key, 8).unwrap();
    go.send(()).unwrap();
    let mut seen = Vec::new();
    for completion in completions.iter().skip(1).take(8) {
        seen.push((completion.batch_id, completion.result.unwrap().0));
    }
    assert_eq!(seen, [(1, 2), (2, 3), (3, 4), (4, 5), (5, 5), (6, 5), (7, 6), (8, 6)]);
    // Closed: the lock is free although the writer lives, and nothing more is taken for it.
    let (_, recovered) = Store::open(&path, &owner()).unwrap();
    assert_eq!((recovered.records.len(), recovered.records[0].clone()), (3, state(4)));
    writer.submit(key, 9, vec![item(6)]).unwrap();
    assert!(completions.recv().unwrap().result.is_err());
}

#[test]
fn a_full_queue_gives_the_records_back() {
    let dir = memory_dir();
    let (writer, completions, go) = held_writer(4);
    let key = writer.register(Store::create(&dir.path().join("store"), &owner()).unwrap());
    writer.submit_pulse(key, u64::MAX).unwrap();
    completions.recv().unwrap();
    let mut taken = 0;
    let refused = loop {
        match writer.submit(key, taken, vec![item(taken + 1)]) {
            Ok(()) => taken += 1,
            Err(refused) => break refused,
        }
    };
    assert_eq!(taken, 4);
    let SubmitError::QueueFull(records) = refused else { panic!("{refused}") };
    assert_eq!(records, [item(5)]);
    go.send(()).unwrap();
    for id in 0..4 {
        let completion = completions.recv().unwrap();
        assert_eq!((completion.batch_id, completion.result.unwrap()), (id, Seq(id + 1)));
    }
    writer.submit(key, 5, records).unwrap();
    assert_eq!(completions.recv().unwrap().result.unwrap(), Seq(5));
}

#[test]
fn an_orderly_end_commits_everything_that_was_submitted() {
    let dir = memory_dir();
    let (writer, completions, go) = held_writer(10_000);
    let mut keys = BTreeMap::new();
    for n in 0..50 {
        let member = Owner { tenant: format!("tenant-{n}"), ..owner() };
        let path = dir.path().join(&member.tenant);
        let key = writer.register(Store::create(&path, &member).unwrap());
        keys.insert(key, (path, member, 0));
    }
    let first = *keys.keys().next().unwrap();
    writer.submit_pulse(first, u64::MAX).unwrap();
    for number in 1..=40 {
        for key in keys.keys() {
            writer.submit(*key, number, vec![item(number)]).unwrap();
        }
    }
    go.send(()).unwrap();
    writer.shutdown();
    for completion in completions.iter().skip(1) {
        let known = &mut keys.get_mut(&completion.store).unwrap().2;
        assert_eq!(completion.batch_id, *known + 1, "out of order within a store");
        *known = completion.batch_id;
        completion.result.unwrap();
    }
    for (path, member, known) in keys.values() {
        assert_eq!(*known, 40);
        let (_, recovered) = Store::open(path, member).unwrap();
        assert_eq!(check_recovered(&recovered.records), 40);
    }
}

#[test]
fn batches_that_wait_together_cost_less_than_one_by_one() {
    const BATCHES: u64 = 400;
    let dir = disk_dir();
    let (writer, completions, _go) = held_writer(BATCHES as usize);
    let key = writer.register(Store::create(&dir.path().join("store"), &owner()).unwrap());
    let began = Instant::now();
    for id in 0..BATCHES {
        writer.submit(key, id, vec![state(id)]).unwrap();
        completions.recv().unwrap().result.unwrap();
    }
    let alone = began.elapsed();
    let began = Instant::now();
    for id in 0..BATCHES {
        writer.submit(key, id, vec![state(id)]).unwrap();
    }
    for _ in 0..BATCHES {
        completions.recv().unwrap().result.unwrap();
    }
    let together = began.elapsed();
    println!("{BATCHES} batches one by one {alone:?}, together {together:?}");
    assert!(together < alone, "group commit gained nothing");
}
