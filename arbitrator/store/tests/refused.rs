//! Stores that are refused, each with its error.

#![allow(clippy::unwrap_used)] // helpers of tests, too

mod common;

use std::path::Path;

use common::{Image, Worker, child_dir, memory_dir, owner, say};
use tierce_store::{Generation, Owner, RecordRef, Retention, Store, StoreError, limits};

fn record(payload: &[u8]) -> RecordRef<'_> {
    RecordRef { kind: 1, payload }
}

fn refusal(dir: &Path) -> StoreError {
    Store::open(dir, &owner()).map(|_| "opened").unwrap_err()
}

/// A store with two segments, closed.
fn sample(dir: &Path) -> Image {
    let mut store = Store::create(dir, &owner()).unwrap();
    store.append(&[record(b"one")]).unwrap();
    store.checkpoint(&[record(b"state")]).unwrap();
    store.append(&[record(b"two")]).unwrap();
    drop(store);
    Image::of(dir)
}

#[test]
fn a_store_that_was_never_there_or_never_finished_is_empty() {
    let dir = memory_dir();
    assert!(matches!(refusal(&dir.path().join("missing")), StoreError::Empty { .. }));
    assert!(matches!(refusal(dir.path()), StoreError::Empty { .. }));
    // Creation was interrupted at its last step: it was never reported, so it may begin again.
    let mut image = sample(dir.path()).with("creating", Vec::new());
    image.lay_out(dir.path());
    assert!(matches!(refusal(dir.path()), StoreError::Empty { .. }));
    drop(Store::create(dir.path(), &owner()).unwrap());
    let (_, recovered) = Store::open(dir.path(), &owner()).unwrap();
    assert_eq!((recovered.incarnation, recovered.records.len()), (2, 0));
    // The same, interrupted at its first step.
    image = Image(vec![("creating".to_owned(), Vec::new())]);
    image.lay_out(dir.path());
    drop(Store::create(dir.path(), &owner()).unwrap());
    assert!(Store::open(dir.path(), &owner()).is_ok());
}

#[test]
fn nothing_is_created_in_a_directory_that_holds_something() {
    let dir = memory_dir();
    std::fs::write(dir.path().join("letter"), "mine").unwrap();
    let refused = Store::create(dir.path(), &owner()).unwrap_err();
    assert!(matches!(refused, StoreError::NotEmpty { .. }), "{refused}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_store_of_another_tenant_or_member_is_foreign() {
    let dir = memory_dir();
    sample(dir.path());
    for other in [
        Owner { tenant: "beta".to_owned(), ..owner() },
        Owner { member: "south".to_owned(), ..owner() },
    ] {
        let refused = Store::open(dir.path(), &other).map(|_| ()).unwrap_err();
        let StoreError::Foreign { expected, found } = refused else { panic!("{refused}") };
        assert_eq!((expected, found), (other, owner()));
    }
}

/// Seals a control sector of another format version, with nothing but what all formats share.
fn control_of_version(version: u32) -> Vec<u8> {
    let mut sector = b"TIERCEct".to_vec();
    sector.extend_from_slice(&version.to_le_bytes());
    sector.resize(500, 0x33);
    sector.extend_from_slice(&7_u64.to_le_bytes());
    let mut covered = b"control\0".to_vec();
    covered.extend_from_slice(&[0; 16 + 8 + 8]);
    covered.extend_from_slice(&sector);
    sector.extend_from_slice(&crc32c::crc32c(&covered).to_le_bytes());
    sector
}

#[test]
fn another_format_is_refused_as_older_or_newer_and_left_alone() {
    let dir = memory_dir();
    let image = sample(dir.path());
    let of = |version| {
        let image = image.clone().with("control.0", control_of_version(version));
        image.with("control.1", control_of_version(version))
    };
    of(limits::FORMAT_VERSION - 1).lay_out(dir.path());
    let older = refusal(dir.path());
    assert!(matches!(older, StoreError::OlderFormat { found: 0, oldest: 1 }), "{older}");
    of(limits::FORMAT_VERSION + 1).lay_out(dir.path());
    let newer = refusal(dir.path());
    assert!(matches!(newer, StoreError::NewerFormat { found: 2, newest: 1 }), "{newer}");
    // A newer release has begun to take over: one file is enough.
    image.clone().with("control.1", control_of_version(2)).lay_out(dir.path());
    assert!(matches!(refusal(dir.path()), StoreError::NewerFormat { .. }));
    image.lay_out(dir.path());
    assert!(Store::open(dir.path(), &owner()).is_ok());
}

#[test]
fn a_store_with_a_missing_or_exchanged_file_is_damaged() {
    let (dir, other) = (memory_dir(), memory_dir());
    let (image, foreign) = (sample(dir.path()), sample(other.path()));
    let theirs = |name: &str| foreign.clone().file(name).clone();
    let (first, second) = ("segment-000000000001", "segment-000000000002");
    for (what, damaged) in [
        ("no pulse", image.clone().without("pulse")),
        ("no control files", image.clone().without("control.0").without("control.1")),
        ("live segment missing", image.clone().without(second)),
        ("audit segment missing", image.clone().without(first)),
        ("foreign pulse", image.clone().with("pulse", theirs("pulse"))),
        ("foreign live segment", image.clone().with(second, theirs(second))),
        ("foreign audit segment", image.clone().with(first, theirs(first))),
        ("segments exchanged", image.clone().with(second, image.clone().file(first).clone())),
        ("a segment too many", image.clone().with("segment-000000000004", vec![0; 65536])),
        ("empty control files", image.clone().with("control.0", vec![]).with("control.1", vec![])),
        ("empty pulse", image.clone().with("pulse", vec![])),
    ] {
        damaged.lay_out(dir.path());
        let refused = refusal(dir.path());
        assert!(matches!(refused, StoreError::Damaged { .. }), "{what}: {refused}");
        assert!(refused.must_stop() && refused.next_step().contains("re-admit"));
    }
    image.without("control.1").lay_out(dir.path());
    assert!(Store::open(dir.path(), &owner()).is_ok(), "one lost control file costs nothing");
}

#[test]
fn control_files_from_before_the_last_opening_are_damage_beside_a_newer_pulse() {
    let dir = memory_dir();
    let older = sample(dir.path());
    drop(Store::open(dir.path(), &owner()).unwrap());
    let mut mixed = Image::of(dir.path());
    for name in ["control.0", "control.1"] {
        mixed = mixed.with(name, older.clone().file(name).clone());
    }
    mixed.lay_out(dir.path());
    let refused = refusal(dir.path());
    assert!(matches!(refused, StoreError::Damaged { .. }), "an incarnation repeats: {refused}");
}

#[test]
fn damage_in_an_audit_segment_is_found_by_the_replay() {
    let dir = memory_dir();
    let mut image = sample(dir.path());
    image.file("segment-000000000001")[4096 + 30] ^= 1;
    image.lay_out(dir.path());
    let (store, recovered) = Store::open(dir.path(), &owner()).unwrap();
    assert_eq!(recovered.records.len(), 2);
    let mut replay = store.replay_retained().unwrap();
    assert!(matches!(replay.next(), Some(Err(StoreError::Damaged { .. }))));
    assert!(replay.next().is_none(), "the replay went on after damage");
}

#[test]
fn a_store_in_use_names_the_process_that_holds_it() {
    if let Some(dir) = child_dir() {
        let opened = Store::open(&dir, &owner()).unwrap();
        say("open 1");
        std::thread::sleep(std::time::Duration::from_mins(1));
        drop(opened);
        return;
    }
    let dir = memory_dir();
    sample(dir.path());
    let mut worker = Worker::start("a_store_in_use_names_the_process_that_holds_it", dir.path());
    worker.wait_for("open");
    let refused = refusal(dir.path());
    assert!(matches!(refused, StoreError::Locked { pid: Some(pid) } if pid == worker.id()));
    worker.kill();
    let (held, _) = Store::open(dir.path(), &owner()).unwrap();
    assert!(matches!(refusal(dir.path()), StoreError::Locked { .. }), "open twice in one process");
    drop(held);
    assert!(Store::open(dir.path(), &owner()).is_ok());
}

#[test]
fn an_older_copy_opens_and_only_its_incarnation_gives_it_away() {
    let dir = memory_dir();
    let copy = sample(dir.path());
    let (mut store, first) = Store::open(dir.path(), &owner()).unwrap();
    store.append(&[record(b"three")]).unwrap();
    drop(store);
    copy.lay_out(dir.path());
    let (_, second) = Store::open(dir.path(), &owner()).unwrap();
    assert_eq!((first.store_id, first.incarnation), (second.store_id, second.incarnation));
    let (_, third) = Store::open(dir.path(), &owner()).unwrap();
    assert_eq!(third.incarnation, second.incarnation + 1);
}

#[test]
fn a_request_over_a_bound_is_refused_and_the_store_goes_on() {
    let dir = memory_dir();
    let mut store = Store::create(&dir.path().join("store"), &owner()).unwrap();
    let large = vec![3; limits::RECORD_MAX_BYTES + 1];
    let refused = store.append(&[record(&large)]).unwrap_err();
    assert!(matches!(refused, StoreError::TooLarge { .. }) && !refused.must_stop());
    store.append(&[record(&large[1..])]).unwrap();
    store.append(&[record(b"small")]).unwrap();
    // A segment has an end, too; a checkpoint makes room again.
    let full = loop {
        match store.append(&[record(&large[1..]); 3]) {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(full, StoreError::TooLarge { what: "the live segment", .. }), "{full}");
    store.checkpoint(&[record(b"state")]).unwrap();
    let last = store.append(&[record(b"more")]).unwrap();
    drop(store);
    let (_, recovered) = Store::open(&dir.path().join("store"), &owner()).unwrap();
    assert_eq!(recovered.last_seq, last);
    assert_eq!(recovered.records.len(), 2);

    let long = Owner { tenant: "t".repeat(201), ..owner() };
    assert!(Store::create(&dir.path().join("other"), &long).is_err());
    let odd = Owner { tenant: "a\nb".to_owned(), ..owner() };
    assert!(matches!(
        Store::create(&dir.path().join("other"), &odd),
        Err(StoreError::BadName { .. })
    ));
}

#[test]
fn the_past_is_kept_within_its_bounds_and_the_live_segment_always_stays() {
    let dir = memory_dir();
    let path = dir.path().join("store");
    let bounds = Retention { max_bytes: 1024 * 1024, max_segments: 5 };
    let mut store = Store::create_with(&path, &owner(), bounds).unwrap();
    store.set_generation(Generation(3));
    let segments = || Image::of(&path).0.iter().filter(|(name, _)| name.contains("seg")).count();
    for _ in 0..20 {
        store.append(&[record(b"something")]).unwrap();
        store.checkpoint(&[record(b"state")]).unwrap();
        assert!(segments() <= 5);
    }
    assert_eq!(segments(), 5);
    let replayed: Vec<_> = store.replay_retained().unwrap().map(Result::unwrap).collect();
    assert_eq!(replayed.len(), 9);
    assert_eq!(replayed.last().unwrap().seq, store.last_seq());
    assert!(replayed.last().unwrap().checkpoint);

    let large = vec![1; 3 * 1024 * 1024];
    store.checkpoint(&[record(&large)]).unwrap();
    assert_eq!(segments(), 1, "one segment over the bound of all of them");
    drop(store);
    let (_, recovered) = Store::open(&path, &owner()).unwrap();
    assert_eq!(recovered.generation, Generation(3));
    assert_eq!(recovered.checkpoint_records, 1);
    assert_eq!(recovered.records[0].payload, large);
}
