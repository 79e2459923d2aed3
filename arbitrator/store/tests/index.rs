//! The index answers, and whatever happens to it, it can be had again.

#![allow(clippy::unwrap_used)] // helpers of tests, too

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use common::{Dice, disk_dir};
use tierce_store::{
    AppliedMark, HistoryKey, Index, IndexBatch, IndexError, OpenedIndex, Table, limits,
};

fn key(log_index: u64, sub: u32) -> HistoryKey {
    HistoryKey { log_index, sub }
}

/// Waits for the lock: the database gives it up a moment after its last handle is gone.
fn open(dir: &Path) -> OpenedIndex {
    let by = Instant::now() + Duration::from_secs(10);
    loop {
        match Index::open(dir) {
            Err(e) if e.to_string().contains("lock") && Instant::now() < by => {
                std::thread::sleep(Duration::from_millis(5));
            }
            other => return other.unwrap(),
        }
    }
}

/// Rows for one tenant, with its mark at 300.
fn fill(index: &Index, tenant: &str) {
    let mut batch = IndexBatch::default();
    for log_index in 1..=300 {
        for sub in 0..2 {
            batch.history(key(log_index, sub), format!("{tenant} {log_index}.{sub}").into_bytes());
        }
    }
    batch.put(Table::Attributes, b"site/north/lag", b"3".to_vec());
    batch.put(Table::Attributes, b"site/south/lag", b"5".to_vec());
    batch.put(Table::Status, b"ticket/db", b"north".to_vec());
    index.apply(tenant, &batch, Some(AppliedMark(300))).unwrap();
}

fn newest(index: &Index, tenant: &str, limit: usize) -> Vec<HistoryKey> {
    index.newest(tenant, None, limit).unwrap().into_iter().map(|(key, _)| key).collect()
}

#[test]
fn history_comes_newest_first_within_its_tenant_and_page() {
    let dir = disk_dir();
    let OpenedIndex { index, needs_rebuild, set_aside } = open(dir.path());
    assert!(needs_rebuild && set_aside.is_none(), "a new index has everything to learn");
    for tenant in ["a", "ab", "b"] {
        fill(&index, tenant);
    }
    assert_eq!(newest(&index, "ab", 3), [key(300, 1), key(300, 0), key(299, 1)]);
    let page = index.newest("ab", Some(key(256, 0)), 2).unwrap();
    assert_eq!(page[0], (key(255, 1), b"ab 255.1".to_vec()));
    assert_eq!(page[1].0, key(255, 0));
    assert_eq!(newest(&index, "a", 10_000).len(), 600);
    assert_eq!(newest(&index, "c", 10), []);
    assert_eq!(index.newest("a", Some(key(0, 0)), 10).unwrap(), []);

    let rows = index.with_prefix(Table::Attributes, "a", b"site/n", 10).unwrap();
    assert_eq!(rows, [(b"site/north/lag".to_vec(), b"3".to_vec())]);
    assert_eq!(index.with_prefix(Table::Attributes, "a", b"", 1).unwrap().len(), 1);
    let mut batch = IndexBatch::default();
    batch.remove(Table::Attributes, b"site/north/lag");
    index.apply("a", &batch, None).unwrap();
    assert_eq!(index.get(Table::Attributes, "a", b"site/north/lag").unwrap(), None);
    assert_eq!(index.get(Table::Attributes, "ab", b"site/north/lag").unwrap().unwrap(), b"3");

    index.forget("a").unwrap();
    assert_eq!(newest(&index, "a", 10), []);
    assert_eq!(index.applied_mark("a").unwrap(), AppliedMark(0));
    assert_eq!(newest(&index, "ab", 10_000).len(), 600);
    assert_eq!(index.applied_mark("ab").unwrap(), AppliedMark(300));
}

#[test]
fn an_index_that_was_closed_is_trusted_and_one_from_before_a_power_cut_is_not() {
    let dir = disk_dir();
    let opened = open(dir.path());
    fill(&opened.index, "a");
    opened.index.close().unwrap();

    let opened = open(dir.path());
    assert!(!opened.needs_rebuild);
    assert_eq!(opened.index.applied_mark("a").unwrap(), AppliedMark(300));
    opened.index.sync().unwrap();
    drop(opened);
    // Not closed, but the machine has run on: a killed process.
    let opened = open(dir.path());
    assert!(!opened.needs_rebuild);
    opened.index.sync().unwrap();
    drop(opened);
    // Not closed, and the machine was started since.
    let session = dir.path().join("session");
    let text = std::fs::read_to_string(&session).unwrap();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    assert!(text.contains(boot.trim()));
    std::fs::write(&session, text.replace(boot.trim(), &"0".repeat(36))).unwrap();
    let opened = open(dir.path());
    assert!(opened.needs_rebuild && opened.set_aside.is_none());
    assert_eq!(opened.index.applied_mark("a").unwrap(), AppliedMark(0));
    assert_eq!(opened.index.get(Table::Status, "a", b"ticket/db").unwrap(), None);
    assert_eq!(newest(&opened.index, "a", 10_000).len(), 600, "history is not thrown away");
    fill(&opened.index, "a");
    assert_eq!(newest(&opened.index, "a", 10_000).len(), 600, "writing it again changes nothing");
    // Two of the same process: the second is told.
    assert!(matches!(Index::open(dir.path()), Err(IndexError::Locked { .. })));
}

/// Lets `damage` loose on the closed (or just dropped) database, and opens it again.
fn damage_and_open(dir: &Path, close: bool, damage: impl FnOnce(&mut Vec<u8>)) -> OpenedIndex {
    let opened = open(dir);
    for tenant in 0..30 {
        fill(&opened.index, &format!("tenant-{tenant}"));
    }
    if close {
        opened.index.close().unwrap();
    } else {
        opened.index.sync().unwrap();
        drop(opened);
    }
    let file = dir.join("index").join("db");
    let mut bytes = std::fs::read(&file).unwrap();
    damage(&mut bytes);
    std::fs::write(&file, bytes).unwrap();
    open(dir)
}

#[test]
fn a_damaged_index_is_set_aside_and_only_a_few_are_kept() {
    let dir = disk_dir();
    let mut dice = Dice::from_environment("a_damaged_index_is_set_aside_and_only_a_few_are_kept");
    for round in 1..=6 {
        // Garbage throughout, emptied, cut in half; after an orderly end and after none.
        let opened = damage_and_open(dir.path(), round % 2 == 0, |bytes| match round % 3 {
            0 => bytes.iter_mut().for_each(|byte| *byte = dice.next() as u8),
            1 => bytes.clear(),
            _ => bytes.truncate(bytes.len() / 2),
        });
        assert!(opened.needs_rebuild, "round {round}");
        assert!(opened.set_aside.unwrap().ends_with(format!("index.damaged-{round}")));
        assert_eq!(opened.index.applied_mark("tenant-1").unwrap(), AppliedMark(0));
        fill(&opened.index, "tenant-1");
        assert_eq!(newest(&opened.index, "tenant-1", 1), [key(300, 1)]);
        opened.index.close().unwrap();
    }
    let kept = std::fs::read_dir(dir.path())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_str().unwrap().contains("damaged"));
    assert_eq!(kept.count(), limits::INDEX_DAMAGED_KEPT);
}

#[test]
fn any_flipped_byte_after_an_orderly_end_sets_the_index_aside() {
    let mut dice =
        Dice::from_environment("any_flipped_byte_after_an_orderly_end_sets_the_index_aside");
    let dir = disk_dir();
    for _ in 0..5 {
        let opened = damage_and_open(dir.path(), true, |bytes| {
            let at = dice.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1;
        });
        assert!(opened.set_aside.is_some() && opened.needs_rebuild);
        opened.index.close().unwrap();
    }
}

#[test]
fn after_a_disorderly_end_damage_never_yields_a_row_that_was_not_written() {
    let name = "after_a_disorderly_end_damage_never_yields_a_row_that_was_not_written";
    let mut dice = Dice::from_environment(name);
    let mut set_aside = 0;
    for _ in 0..6 {
        let dir = disk_dir();
        let opened = damage_and_open(dir.path(), false, |bytes| {
            let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64;
            for _ in 0..20 {
                bytes[dice.below(used) as usize] ^= 0x55;
            }
        });
        set_aside += u32::from(opened.set_aside.is_some());
        for tenant in 0..30 {
            let tenant = format!("tenant-{tenant}");
            for (key, value) in opened.index.newest(&tenant, None, 10_000).unwrap() {
                let written = format!("{tenant} {}.{}", key.log_index, key.sub);
                assert_eq!(value, written.into_bytes());
            }
        }
    }
    println!("{set_aside} of 6 set aside");
}

#[test]
fn an_index_on_which_the_process_died_twice_is_set_aside() {
    let dir = disk_dir();
    let opened = open(dir.path());
    fill(&opened.index, "a");
    opened.index.close().unwrap();
    let session = dir.path().join("session");
    std::fs::write(&session, "opening 1 -").unwrap();
    let opened = open(dir.path());
    assert!(opened.set_aside.is_none(), "one death may be an accident");
    opened.index.close().unwrap();
    std::fs::write(&session, "opening 2 -").unwrap();
    let opened = open(dir.path());
    assert!(opened.set_aside.is_some() && opened.needs_rebuild);
    opened.index.close().unwrap();
    assert!(!open(dir.path()).needs_rebuild);
}

#[test]
fn rows_and_names_over_their_bounds_are_refused() {
    let dir = disk_dir();
    let index = open(dir.path()).index;
    let mut batch = IndexBatch::default();
    batch.put(Table::Status, b"k", vec![0; limits::INDEX_VALUE_MAX_BYTES + 1]);
    let refused = index.apply("a", &batch, Some(AppliedMark(1))).unwrap_err();
    assert!(matches!(refused, IndexError::TooLarge { .. }));
    assert_eq!(index.applied_mark("a").unwrap(), AppliedMark(0), "half of it was applied");
    assert!(matches!(index.applied_mark("a\0b"), Err(IndexError::BadTenant)));
    assert!(index.applied_mark(&"t".repeat(201)).is_err());
}
