//! The disk is full: the voter stops and says so, and nothing that it answered is gone.

#![allow(clippy::unwrap_used)] // helpers of tests, too

mod common;

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::mpsc::channel;

use common::{Disk, check_recovered, check_replay, disk_dir, item, may_mount, owner};
use tierce_store::{Owner, Store, StoreError, Writer, check_room};

/// Fills the disk until about `leave` bytes are free.
fn fill(path: &Path, leave: usize) {
    let mut file = File::create(path).unwrap();
    let piece = vec![0x5A; 16 * 1024];
    let mut size: u64 = 0;
    while file.write_all(&piece).is_ok() && file.sync_data().is_ok() {
        size += piece.len() as u64;
    }
    file.set_len(size - leave as u64).unwrap();
    file.sync_all().unwrap();
}

#[test]
fn a_full_disk_stops_the_store_and_loses_nothing_acknowledged() {
    if !may_mount() {
        return;
    }
    let disk = Disk::new(16);
    let (dir, filler) = (disk.path().join("store"), disk.path().join("filler"));
    let mut store = Store::create(&dir, &owner()).unwrap();
    fill(&filler, 512 * 1024);

    let mut last = 0;
    let error = loop {
        match store.append(&[item(last + 1).borrowed()]) {
            Ok(_) => last += 1,
            Err(error) => break error,
        }
    };
    assert!(last > 10, "only {last} items fitted");
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    assert!(error.must_stop());
    assert!(matches!(store.append(&[item(1).borrowed()]), Err(StoreError::Poisoned { .. })));
    assert!(matches!(store.checkpoint(&[]), Err(StoreError::Poisoned { .. })));
    assert!(matches!(store.pulse(), Err(StoreError::Poisoned { .. })));
    assert!(matches!(store.replay_retained(), Err(StoreError::Poisoned { .. })));
    drop(store);

    // Opening writes in place and needs no space; the pulse goes on, appending stops again.
    let (mut store, recovered) = Store::open(&dir, &owner()).unwrap();
    assert_eq!(check_recovered(&recovered.records), last);
    store.pulse().unwrap();
    let error = loop {
        match store.append(&[item(last + 1).borrowed()]) {
            Ok(_) => last += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::Full { .. } | StoreError::Io { .. }), "{error}");
    drop(store);

    // The checkpoint that does not fit leaves the store as it was.
    let (mut store, recovered) = Store::open(&dir, &owner()).unwrap();
    assert_eq!(check_recovered(&recovered.records), last);
    let error = store.checkpoint(&[item(1).borrowed(); 40]).unwrap_err();
    assert!(matches!(error, StoreError::Full { .. } | StoreError::Io { .. }), "{error}");
    drop(store);

    // Whoever asks first is told with numbers, for a store that is there and for one that is not.
    for dir in [&dir, &disk.path().join("not/yet")] {
        let error = check_room(dir).unwrap_err();
        assert!(matches!(error, StoreError::NoRoom { free, .. } if free < 2 << 20), "{error}");
        assert!(error.to_string().contains(" KiB are free, and 2048 KiB are needed"), "{error}");
    }

    std::fs::remove_file(&filler).unwrap();
    check_room(&dir).unwrap();
    check_room(&disk.path().join("not/yet")).unwrap();
    let (mut store, recovered) = Store::open(&dir, &owner()).unwrap();
    assert_eq!(check_recovered(&recovered.records), last);
    store.append(&[item(last + 1).borrowed()]).unwrap();
    check_replay(&store, last + 1);
}

#[test]
fn one_failed_store_leaves_the_other_stores_of_its_writer_alone() {
    if !may_mount() {
        return;
    }
    let disk = Disk::new(16);
    let elsewhere = disk_dir();
    let doomed = Store::create(&disk.path().join("store"), &owner()).unwrap();
    let other = Owner { tenant: "beta".to_owned(), ..owner() };
    let healthy = Store::create(&elsewhere.path().join("store"), &other).unwrap();
    fill(&disk.path().join("filler"), 0);

    let (done, completions) = channel();
    let writer = Writer::spawn(64, move |completion| done.send(completion).unwrap()).unwrap();
    let (doomed, healthy) = (writer.register(doomed), writer.register(healthy));
    let mut failed = false;
    for batch in 0..100 {
        writer.submit(doomed, batch, vec![item(batch + 1)]).unwrap();
        writer.submit(healthy, batch, vec![item(batch + 1)]).unwrap();
        for _ in 0..2 {
            let completion = completions.recv().unwrap();
            assert_eq!(completion.batch_id, batch);
            if completion.store == healthy {
                completion.result.unwrap();
            } else {
                assert!(completion.result.is_err() || !failed, "a failed store went on");
                failed |= completion.result.is_err();
            }
        }
    }
    assert!(failed, "the full disk took everything");
    writer.shutdown();
}
