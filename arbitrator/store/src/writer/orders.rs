//! The writer and its callers, in many orders of their meeting, on stores that are real files.
//!
//! What completes is compared with what a reader of the directory finds at that moment. That the
//! disk itself has it by then is the business of `tests/power_cut.rs`.

use std::path::{Path, PathBuf};
use std::sync::Mutex as Plain;
use std::sync::atomic::AtomicU64 as Count;
use std::sync::atomic::Ordering::Relaxed;

use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, Runner, thread};

use super::*;
use crate::ids::Owner;
use crate::segment::{self, Reader, Step};

/// Callers of the writer. A caller's number is the tens of its batch numbers.
const CALLERS: u64 = 2;
/// Batches of each caller.
const BATCHES: u64 = 4;
/// So short a queue that callers find it full.
const QUEUE: usize = 3;
/// A thread's stack: a store reads and writes through buffers on it.
const STACK_BYTES: usize = 512 << 10;
/// Deeper than any order that a failure of three threads needs.
const DEPTH: usize = 3;

/// Runs the scenario in `times` orders, half of them at random, half with few switches at unlucky
/// places. On a failure the order is printed, for `shuttle::replay`.
fn orders(times: usize, scenario: impl Fn() + Clone + Send + Sync + 'static) {
    fn run(scheduler: impl Scheduler + 'static, scenario: impl Fn() + Send + Sync + 'static) {
        let mut config = Config::new();
        config.stack_size = STACK_BYTES;
        config.silence_warnings = true; // weaker orders of atomics are not tried; that is known
        Runner::new(scheduler, config).run(scenario);
    }
    run(RandomScheduler::new(times.div_ceil(2)), scenario.clone());
    run(PctScheduler::new(DEPTH, times / 2), scenario);
}

fn owner() -> Owner {
    Owner { tenant: "acme".to_owned(), member: "north".to_owned() }
}

/// What callers were told, in the order in which they were told it.
type Told = Arc<Plain<Vec<Completion>>>;

/// A writer over a directory in memory; every completion goes through `look` first.
struct Scene {
    dir: tempfile::TempDir,
    told: Told,
}

impl Scene {
    fn new() -> Scene {
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() {
            tempfile::tempdir_in(memory).unwrap()
        } else {
            tempfile::tempdir().unwrap()
        };
        Scene { dir, told: Arc::default() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn writer(&self, mut look: impl FnMut(&Completion) + Send + 'static) -> Writer {
        let told = Arc::clone(&self.told);
        let writer = Writer::spawn(QUEUE, move |completion| {
            look(&completion);
            told.lock().unwrap().push(completion);
        });
        writer.unwrap()
    }

    fn told(&self) -> Vec<Completion> {
        std::mem::take(&mut self.told.lock().unwrap())
    }
}

/// The records of one batch: as many as its number's remainder says, each with that number.
fn batch(id: u64) -> Vec<OwnedRecord> {
    let record = OwnedRecord { kind: 1, payload: id.to_le_bytes().to_vec() };
    vec![record; 1 + (id % 2) as usize]
}

fn id_of(record: &OwnedRecord) -> u64 {
    u64::from_le_bytes(record.payload[..8].try_into().unwrap())
}

/// Submits until it is taken; what is refused comes back whole.
fn submit(writer: &Writer, key: StoreKey, id: u64) {
    let mut records = batch(id);
    loop {
        match writer.submit(key, id, records) {
            Ok(()) => return,
            Err(SubmitError::QueueFull(back)) => {
                assert_eq!(back, batch(id), "not all came back");
                records = back;
                thread::yield_now();
            }
            Err(SubmitError::Stopped(_)) => panic!("it has ended before its callers"),
        }
    }
}

/// The records that somebody finds who reads the directory now.
fn on_disk(dir: &Path, store: &crate::ids::StoreId) -> Vec<OwnedRecord> {
    let live = *segment::list(dir).unwrap().last().unwrap();
    let (_, mut reader) = Reader::open(dir, live, store).unwrap();
    let mut records = Vec::new();
    while let Step::Batch(batch) = reader.step().unwrap() {
        records.extend(batch.into_iter().map(|stored| stored.record));
    }
    records
}

/// Batches of each caller came in its own order, and their numbers go on without a gap.
fn check_order(told: &[Completion]) -> Vec<u64> {
    let mut last = 0;
    let mut order = Vec::new();
    for completion in told.iter().filter(|c| c.what == What::Append) {
        let Ok(seq) = &completion.result else { continue };
        last += batch(completion.batch_id).len() as u64;
        assert_eq!(*seq, Seq(last), "batch {} after {order:?}", completion.batch_id);
        order.push(completion.batch_id);
    }
    for caller in 0..CALLERS {
        let mine: Vec<u64> = order.iter().copied().filter(|id| id / 10 == caller).collect();
        assert!(mine.is_sorted_by(|a, b| a < b), "caller {caller}: {mine:?}");
    }
    order
}

#[test]
fn what_is_told_is_on_the_disk_in_order_and_nothing_taken_is_left_untold() {
    orders(600, || {
        let scene = &Scene::new();
        let path = scene.path("store");
        let store = Store::create(&path, &owner()).unwrap();
        let (dir, id) = (path.clone(), store.store_id());
        let writer = scene.writer(move |completion| {
            let seq = completion.result.as_ref().unwrap();
            let found = on_disk(&dir, &id);
            assert!(found.len() as u64 >= seq.0, "told of {seq:?}, {} are there", found.len());
            let last = &found[seq.0 as usize - 1];
            assert_eq!(id_of(last), completion.batch_id, "another batch has its number");
        });
        let (writer, key) = {
            let key = writer.register(store);
            (Arc::new(writer), key)
        };
        // Whoever lets go last ends the thread, after it has done everything that it took.
        thread::scope(|s| {
            for caller in 0..CALLERS {
                let writer = Arc::clone(&writer);
                s.spawn(move || (0..BATCHES).for_each(|n| submit(&writer, key, caller * 10 + n)));
            }
            drop(writer);
        });
        let order = check_order(&scene.told());
        assert_eq!(order.len() as u64, CALLERS * BATCHES, "{order:?}");
        let (_, recovered) = Store::open(&path, &owner()).unwrap();
        let expected: Vec<OwnedRecord> = order.into_iter().flat_map(batch).collect();
        assert_eq!(recovered.records, expected);
    });
}

#[test]
fn a_store_is_there_for_whoever_has_its_key_and_its_lock_is_free_when_its_end_is_told() {
    orders(300, || {
        let scene = &Scene::new();
        let dir = scene.dir.path().to_path_buf();
        let writer = scene.writer(move |completion| {
            if completion.what == What::Close {
                let path = dir.join(completion.batch_id.to_string());
                let (_, recovered) = Store::open(&path, &owner()).unwrap();
                assert_eq!(recovered.last_seq, *completion.result.as_ref().unwrap());
            }
        });
        thread::scope(|s| {
            let writer = &writer;
            for caller in 0..CALLERS {
                s.spawn(move || {
                    // The end of a store is known by its caller's number.
                    let path = scene.path(&caller.to_string());
                    let key = writer.register(Store::create(&path, &owner()).unwrap());
                    submit(writer, key, caller * 10);
                    submit(writer, key, caller * 10 + 1);
                    while writer.submit_close(key, caller).is_err() {
                        thread::yield_now();
                    }
                    submit(writer, key, caller * 10 + 2);
                });
            }
        });
        writer.shutdown();
    });
}

#[test]
fn a_failed_store_fails_for_good_and_leaves_the_others_alone() {
    let failures = Arc::new(Count::new(0));
    let seen = Arc::clone(&failures);
    orders(400, move || {
        let scene = &Scene::new();
        let (path, away) = (&scene.path("bad"), &scene.path("away"));
        let writer = scene.writer(|_| {});
        let bad = writer.register(Store::create(path, &owner()).unwrap());
        let good = writer.register(Store::create(&scene.path("good"), &owner()).unwrap());
        thread::scope(|s| {
            let writer = &writer;
            s.spawn(move || {
                for n in 0..BATCHES {
                    submit(writer, bad, n);
                    submit(writer, good, n);
                    // A checkpoint needs the directory, an append only the file that is open.
                    if n == 1 {
                        while writer.submit_checkpoint(bad, 100, batch(0)).is_err() {
                            thread::yield_now();
                        }
                    }
                }
            });
            s.spawn(move || (0..BATCHES).for_each(|n| submit(writer, bad, 10 + n)));
            s.spawn(move || std::fs::rename(path, away).unwrap());
        });
        writer.shutdown();
        let told = scene.told();
        let of = |key| told.iter().filter(move |c| c.store == key);
        assert!(of(good).all(|c| c.result.is_ok()), "another store's failure");
        assert_eq!((of(good).count(), of(bad).count()), (4, 9), "each is told once");
        let after = of(bad).skip_while(|c| c.result.is_ok()).count();
        let failed = of(bad).filter(|c| c.result.is_err()).count();
        assert_eq!(after, failed, "something succeeded after a failure");
        let checkpoint = of(bad).find(|c| c.what == What::Checkpoint).unwrap();
        if checkpoint.result.is_ok() {
            assert_eq!(failed, 0);
            return;
        }
        seen.fetch_add(1, Relaxed);
        // What was told as durable is there when the disk is.
        let acknowledged = check_order(&of(bad).cloned().collect::<Vec<_>>());
        let (_, recovered) = Store::open(away, &owner()).unwrap();
        let expected: Vec<OwnedRecord> = acknowledged.into_iter().flat_map(batch).collect();
        assert_eq!(recovered.records, expected);
    });
    let failures = failures.load(Relaxed);
    assert!((1..400).contains(&failures), "the disk failed in {failures} of 400 orders");
}
