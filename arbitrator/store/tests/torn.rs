//! Every way in which a write can be torn, and every way in which bytes can be damaged.
//!
//! The rule that all of these test: what a power cut can leave is recovered to exactly the
//! acknowledged batches; whatever else is wrong is refused. Nothing in between.

#![allow(clippy::unwrap_used)] // helpers of tests, too

mod common;

use std::path::Path;

use common::{Dice, Image, check_replay, memory_dir, owner};
use tierce_store::{OwnedRecord, Store, StoreError};

const SECTOR: usize = 512;
const BLOCK: usize = 4096;
const SEGMENT: &str = "segment-000000000001";

/// A store of a few batches, just before and just after its last append.
struct Scene {
    before: Image,
    after: Image,
    batches: Vec<Vec<OwnedRecord>>,
}

fn batch(number: usize, sizes: &[usize]) -> Vec<OwnedRecord> {
    let mut dice = Dice::new(number as u64 + 1);
    let bytes = |size: &usize| (0..*size).map(|_| dice.next() as u8).collect();
    sizes.iter().map(bytes).map(|payload| OwnedRecord { kind: number as u8, payload }).collect()
}

fn append(store: &mut Store, batch: &[OwnedRecord]) {
    let refs: Vec<_> = batch.iter().map(OwnedRecord::borrowed).collect();
    store.append(&refs).unwrap();
}

/// The last batch has the given record sizes; three others stand before it.
fn scene(last: &[usize]) -> Scene {
    let dir = memory_dir();
    let dir = dir.path().join("store");
    let mut store = Store::create(&dir, &owner()).unwrap();
    let mut batches = vec![batch(0, &[40]), batch(1, &[0, 700, 3]), batch(2, &[4500])];
    for batch in &batches {
        append(&mut store, batch);
    }
    let before = Image::of(&dir);
    batches.push(batch(3, last));
    append(&mut store, &batches[3]);
    Scene { before, after: Image::of(&dir), batches }
}

impl Scene {
    fn records(&self, batches: usize) -> Vec<OwnedRecord> {
        self.batches[..batches].concat()
    }

    /// First and last changed byte of the last append.
    fn write(&mut self) -> (usize, usize) {
        let (before, after) = (self.before.file(SEGMENT), self.after.file(SEGMENT));
        let changed: Vec<_> = (0..before.len()).filter(|at| before[*at] != after[*at]).collect();
        let end = changed.last().unwrap() + 1;
        (changed[0] / BLOCK * BLOCK, end.next_multiple_of(SECTOR))
    }
}

/// Lays out an image and opens it.
fn reopen(dir: &Path, image: &Image) -> Result<Vec<OwnedRecord>, StoreError> {
    image.lay_out(dir);
    Store::open(dir, &owner()).map(|(_, recovered)| recovered.records)
}

fn assert_damaged(result: &Result<Vec<OwnedRecord>, StoreError>, what: &str) {
    assert!(matches!(result, Err(StoreError::Damaged { .. })), "{what}: {result:?}");
}

#[test]
fn any_mixture_of_written_and_unwritten_sectors_recovers_the_acknowledged_batches() {
    // Nine sectors of data in two blocks: every one of the 512 mixtures.
    let mut scene = scene(&[1800, 2500]);
    let (from, to) = scene.write();
    let sectors = (to - from) / SECTOR;
    assert_eq!(sectors, 9);
    let dir = memory_dir();
    for mixture in 0..1_u32 << sectors {
        let mut image = scene.before.clone();
        for sector in (0..sectors).filter(|sector| mixture & (1 << sector) != 0) {
            let at = from + sector * SECTOR;
            let new = &scene.after.file(SEGMENT)[at..at + SECTOR];
            image.file(SEGMENT)[at..at + SECTOR].copy_from_slice(new);
        }
        let whole = mixture + 1 == 1 << sectors;
        let expected = scene.records(if whole { 4 } else { 3 });
        assert_eq!(reopen(dir.path(), &image).unwrap(), expected, "mixture {mixture:09b}");
    }
}

#[test]
fn after_a_torn_batch_the_store_goes_on_as_if_it_had_never_been() {
    let mut scene = scene(&[1800, 2500]);
    let (from, _) = scene.write();
    let torn = scene.after.file(SEGMENT)[from + SECTOR..from + 4 * SECTOR].to_vec();
    scene.before.file(SEGMENT)[from + SECTOR..from + 4 * SECTOR].copy_from_slice(&torn);
    let dir = memory_dir();
    scene.before.lay_out(dir.path());
    let (mut store, recovered) = Store::open(dir.path(), &owner()).unwrap();
    assert_eq!(recovered.torn_tail_bytes, 4 * SECTOR as u64);
    let small = batch(9, &[10]);
    append(&mut store, &small);
    drop(store);
    let (_, recovered) = Store::open(dir.path(), &owner()).unwrap();
    assert_eq!(recovered.torn_tail_bytes, 0);
    assert_eq!(recovered.records, [scene.records(3), small].concat());
}

#[test]
fn every_prefix_of_a_write_in_bytes_recovers_the_acknowledged_batches_or_is_refused() {
    let mut scene = scene(&[300, 1200, 0]);
    let (from, to) = scene.write();
    let dir = memory_dir();
    let (mut recovered, mut refused) = (0, 0);
    for length in 0..=to - from {
        let mut image = scene.before.clone();
        let new = &scene.after.file(SEGMENT)[from..from + length];
        image.file(SEGMENT)[from..from + length].copy_from_slice(new);
        let whole = image.file(SEGMENT) == scene.after.file(SEGMENT);
        match reopen(dir.path(), &image) {
            Ok(records) => {
                assert_eq!(records, scene.records(if whole { 4 } else { 3 }), "prefix {length}");
                recovered += 1;
            }
            Err(StoreError::Damaged { .. }) => {
                // A sector torn within is beyond the assumption, hence refused; a whole never.
                assert!(!length.is_multiple_of(SECTOR) && !whole, "prefix {length} refused");
                refused += 1;
            }
            Err(other) => panic!("prefix {length}: {other}"),
        }
    }
    println!("{recovered} prefixes recovered, {refused} refused");
    assert!(recovered >= (to - from) / SECTOR && refused > 0);
}

#[test]
fn a_flipped_byte_anywhere_in_a_segment_is_refused() {
    let mut scene = scene(&[300, 1200, 0]);
    let (_, used) = scene.write();
    let size = scene.after.file(SEGMENT).len();
    let dir = memory_dir();
    let mut dice = Dice::from_environment("a_flipped_byte_anywhere_in_a_segment_is_refused");
    // Every byte that is in use, and a sample of the zeros after it.
    for at in (0..used).chain((used..size).step_by(61)) {
        let mut image = scene.after.clone();
        image.file(SEGMENT)[at] ^= dice.below(255) as u8 + 1;
        assert_damaged(&reopen(dir.path(), &image), &format!("byte {at}"));
    }
    // The scene itself is sound.
    assert_eq!(reopen(dir.path(), &scene.after).unwrap(), scene.records(4));
}

#[test]
fn a_segment_cut_off_at_any_byte_is_refused() {
    let mut scene = scene(&[300, 1200, 0]);
    let size = scene.after.file(SEGMENT).len();
    let dir = memory_dir();
    for length in 0..size {
        let mut image = scene.after.clone();
        image.file(SEGMENT).truncate(length);
        assert_damaged(&reopen(dir.path(), &image), &format!("cut at {length}"));
    }
}

#[test]
fn a_segment_cut_off_where_segments_may_end_is_refused_when_it_cuts_a_batch() {
    // The last batch reaches over several times 64 KiB.
    let mut scene = scene(&[200_000]);
    let dir = memory_dir();
    let size = scene.after.file(SEGMENT).len();
    assert!(size > 3 * 65536);
    for length in (65536..size).step_by(65536) {
        let mut image = scene.after.clone();
        image.file(SEGMENT).truncate(length);
        if length < 196_608 + 1 {
            assert_damaged(&reopen(dir.path(), &image), &format!("cut at {length}"));
        } else {
            assert_eq!(reopen(dir.path(), &image).unwrap(), scene.records(4));
        }
    }
}

#[test]
fn garbage_or_a_stray_block_after_the_end_is_refused() {
    let mut scene = scene(&[300, 1200, 0]);
    let (_, used) = scene.write();
    let end = used.next_multiple_of(BLOCK);
    let dir = memory_dir();
    let mut dice = Dice::from_environment("garbage_or_a_stray_block_after_the_end_is_refused");
    for round in 0..500 {
        let mut image = scene.after.clone();
        let file = image.file(SEGMENT);
        let at = end + dice.below((file.len() - end - 600) as u64) as usize;
        for offset in 0..=dice.below(599) as usize {
            file[at + offset] = dice.next() as u8;
        }
        // One garbage byte may be a zero by chance; then nothing has changed.
        if image.file(SEGMENT) != scene.after.file(SEGMENT) {
            assert_damaged(&reopen(dir.path(), &image), &format!("round {round}"));
        }
    }
    for block in 0..end / BLOCK {
        let mut image = scene.after.clone();
        let file = image.file(SEGMENT);
        file.copy_within(block * BLOCK..(block + 1) * BLOCK, end);
        assert_damaged(&reopen(dir.path(), &image), &format!("a copy of block {block}"));
    }
}

#[test]
fn a_lost_batch_in_the_middle_is_a_gap_and_refused() {
    let scene = scene(&[100]);
    let dir = memory_dir();
    // Blocks: header, batch 0, batch 1, batch 2 (two blocks), batch 3.
    for blocks in [1..2, 2..3, 3..4, 4..5, 3..5, 1..5] {
        let mut image = scene.after.clone();
        image.file(SEGMENT)[blocks.start * BLOCK..blocks.end * BLOCK].fill(0);
        assert_damaged(&reopen(dir.path(), &image), &format!("blocks {blocks:?} lost"));
    }
}

#[test]
fn a_lost_end_is_refused_once_the_pulse_or_an_opening_has_seen_it() {
    let scene = scene(&[100]);
    let dir = memory_dir();
    let lost = |image: &Image| {
        let mut image = image.clone();
        image.file(SEGMENT)[5 * BLOCK..].fill(0);
        image
    };
    // Nothing else has seen the last batch yet: it looks like one that never reached the disk.
    assert_eq!(reopen(dir.path(), &lost(&scene.after)).unwrap(), scene.records(3));

    scene.after.lay_out(dir.path());
    let (mut store, _) = Store::open(dir.path(), &owner()).unwrap();
    let opened = Image::of(dir.path());
    assert_damaged(
        &{
            drop(store);
            reopen(dir.path(), &lost(&opened))
        },
        "seen by an opening",
    );

    opened.lay_out(dir.path());
    (store, _) = Store::open(dir.path(), &owner()).unwrap();
    append(&mut store, &batch(4, &[10]));
    store.pulse().unwrap();
    drop(store);
    let mut image = Image::of(dir.path());
    image.file(SEGMENT)[6 * BLOCK..].fill(0);
    assert_damaged(&reopen(dir.path(), &image), "seen by the pulse");
    // Refused means untouched: it can still be looked at.
    let found = Image::of(dir.path());
    assert!(
        found.0 == {
            image.0.sort();
            image.0
        },
        "a refused store was changed"
    );
}

#[test]
fn a_flipped_byte_in_one_control_file_or_pulse_block_costs_nothing() {
    let mut scene = scene(&[100]);
    let dir = memory_dir();
    for name in ["control.0", "control.1"] {
        for at in 0..SECTOR {
            let mut image = scene.after.clone();
            image.file(name)[at] ^= 0x41;
            assert_eq!(reopen(dir.path(), &image).unwrap(), scene.records(4), "{name} byte {at}");
        }
    }
    for at in (0..SECTOR).chain(BLOCK..BLOCK + SECTOR) {
        let mut image = scene.after.clone();
        image.file("pulse")[at] ^= 0x41;
        // A fresh store has one pulse only; without any the store is refused.
        match reopen(dir.path(), &image) {
            Ok(records) => assert_eq!(records, scene.records(4), "pulse byte {at}"),
            Err(StoreError::Damaged { .. }) => assert!(at >= BLOCK, "pulse byte {at}"),
            Err(other) => panic!("{other}"),
        }
    }
    for (first, second) in [(0, 0), (17, 300), (511, 511)] {
        let mut image = scene.after.clone();
        image.file("control.0")[first] ^= 0x10;
        image.file("control.1")[second] ^= 0x10;
        assert_damaged(&reopen(dir.path(), &image), "both control files");
    }
    assert_eq!(scene.after.file("pulse").len(), 2 * BLOCK);
}

#[test]
fn a_crash_at_any_step_of_a_checkpoint_recovers_the_state_before_or_after() {
    let next = "segment-000000000002";
    let mut scene = scene(&[100]);
    let dir = memory_dir();
    scene.after.lay_out(dir.path());
    let (mut store, _) = Store::open(dir.path(), &owner()).unwrap();
    let before = Image::of(dir.path());
    let state = batch(7, &[900, 20]);
    let refs: Vec<_> = state.iter().map(OwnedRecord::borrowed).collect();
    store.checkpoint(&refs).unwrap();
    let done = Image::of(dir.path());
    drop(store);
    let after = |name: &str| done.clone().file(name).clone();

    // The new segment exists in any state, nothing names it yet.
    let whole = after(next);
    for length in [0, 1, 511, 4096, 4097, 5000, 65535, 65536] {
        let image = before.clone().with(next, whole[..length].to_vec());
        assert_eq!(reopen(dir.path(), &image).unwrap(), scene.records(4), "segment of {length}");
        assert!(!dir.path().join(next).exists(), "the leftover stayed");
    }
    // One control file names it, then both, then the pulse knows.
    let mut image = before.clone().with(next, whole);
    for name in ["control.0", "control.1", "pulse"] {
        image = image.with(name, after(name));
        assert_eq!(reopen(dir.path(), &image).unwrap(), state, "with the new {name}");
    }
    // The older of the two written first or second: both orders are crash states in turn.
    for name in ["control.0", "control.1"] {
        let image = before.clone().with(next, after(next)).with(name, after(name));
        assert_eq!(reopen(dir.path(), &image).unwrap(), state, "{name} alone");
    }
    // Once acknowledged, its loss is damage.
    assert_damaged(&reopen(dir.path(), &done.clone().without(next)), "checkpoint lost");
    let stale = done.clone().with("control.0", before.clone().file("control.0").clone());
    let stale = stale.with("control.1", before.clone().file("control.1").clone());
    assert_damaged(&reopen(dir.path(), &stale), "older control files");
    assert_eq!(scene.after.file(SEGMENT).len(), 65536);
}

#[test]
fn a_random_life_with_torn_ends_never_loses_or_changes_a_record() {
    let mut dice =
        Dice::from_environment("a_random_life_with_torn_ends_never_loses_or_changes_a_record");
    let dir = memory_dir();
    let dir = dir.path().join("store");
    drop(Store::create(&dir, &owner()).unwrap());
    let mut last = 0;
    for _ in 0..60 {
        let (mut store, recovered) = Store::open(&dir, &owner()).unwrap();
        assert_eq!(common::check_recovered(&recovered.records), last);
        for _ in 0..dice.below(30) {
            if dice.below(12) == 0 {
                store.checkpoint(&[common::state(last + 1).borrowed()]).unwrap();
            } else {
                let items: Vec<_> =
                    (0..=dice.below(5)).map(|n| common::item(last + 1 + n)).collect();
                append(&mut store, &items);
                last += items.len() as u64;
            }
        }
        check_replay(&store, last);
        // The power fails during one more append: a random mixture of its sectors arrives.
        let before = Image::of(&dir);
        append(&mut store, &[common::item(last + 1), common::item(last + 2)]);
        drop(store);
        let mut torn = Image::of(&dir);
        let name = torn.0.iter().map(|(name, _)| name).filter(|name| name.starts_with("seg")).max();
        let name = name.unwrap().clone();
        let mut old = before.clone().file(&name).clone();
        let new = torn.file(&name);
        old.resize(new.len(), 0);
        let mut kept_back = false;
        for (old, new) in old.chunks(SECTOR).zip(new.chunks_mut(SECTOR)) {
            if old != new && dice.below(2) == 0 {
                new.copy_from_slice(old);
                kept_back = true;
            }
        }
        torn.lay_out(&dir);
        last += if kept_back { 0 } else { 2 };
    }
    println!("{last} items");
}
