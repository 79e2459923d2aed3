//! The recorder under threads, in many orders of their meeting.
//!
//! Two readers look: a dump, which takes the lock, and somebody who reads the file, which is what is
//! left after SIGKILL at that very moment. A switch may come at every lock and atomic, and between
//! the two halves of a record.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64 as Count;
use std::sync::atomic::Ordering::Relaxed;

use shuttle::thread;

use super::*;
use crate::sync::tried::orders;
use crate::{Entry, Recording, limits};

const WRITERS: [&str; 2] = ["first", "second"];

/// A recorder of the smallest size, and how far each of its writers has come.
struct Scene {
    recorder: Recorder,
    done: [Count; WRITERS.len()],
    _dir: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() {
            tempfile::tempdir_in(memory).unwrap()
        } else {
            tempfile::tempdir().unwrap()
        };
        let options = RecorderOptions {
            bytes: MIN_RECORDER_BYTES,
            ..RecorderOptions::new("agent@paris", dir.path().join("ring"))
        };
        let recorder = Recorder::create(options).unwrap();
        Self { recorder, done: Default::default(), _dir: dir }
    }

    /// Records number `n` of a writer; its text follows from both, so that a mixture shows.
    fn write(&self, writer: usize, n: u64, size: usize) {
        let text = text(writer, n, size);
        let fields = [("n", n.into()), ("a", text.as_str().into()), ("b", text.as_str().into())];
        self.recorder.record(WRITERS[writer], &fields);
        self.done[writer].store(n, Relaxed);
    }

    fn done(&self) -> [u64; WRITERS.len()] {
        [self.done[0].load(Relaxed), self.done[1].load(Relaxed)]
    }

    /// What a dump would have. Nothing in it is torn.
    fn dump(&self) -> Recording {
        let (bytes, next) = self.recorder.copy(false).unwrap();
        let recording = Recording::parse(&bytes).unwrap();
        assert_eq!(recording.torn, 0, "a dump saw half a record");
        let last = recording.entries.last().map_or(0, |e| e.sequence + 1);
        assert_eq!(last, next, "a dump is named after its last record");
        recording
    }

    /// What the file has at this moment: the record being written may be torn.
    fn file(&self) -> Recording {
        let recording = Recording::read(self.recorder.path()).unwrap();
        assert!(recording.torn <= 1, "{} torn", recording.torn);
        recording
    }
}

fn text(writer: usize, n: u64, size: usize) -> String {
    format!("{}-{n}-", WRITERS[writer]).chars().cycle().take(size).collect()
}

/// Every record whole, in one order by number and by stamp, each writer's without a gap, and none
/// missing that was done (`since`) before the reader came, unless the ring had no room for it.
fn check(recording: &Recording, since: [u64; WRITERS.len()], size: usize) {
    let entries = &recording.entries;
    assert_eq!(recording.missing, 0, "a gap");
    for pair in entries.windows(2) {
        assert!(pair[0].hlc < pair[1].hlc, "the stamps go back: {pair:?}");
        assert!(pair[0].boot_ns <= pair[1].boot_ns, "time goes back");
    }
    let from_the_first = entries.first().is_none_or(|e| e.sequence == 0);
    for (writer, name) in WRITERS.iter().enumerate() {
        let mine: Vec<&Entry> = entries.iter().filter(|e| e.kind == *name).collect();
        let numbers: Vec<u64> =
            mine.iter().map(|e| e.get("n").unwrap().as_u64().unwrap()).collect();
        assert!(numbers.windows(2).all(|w| w[0] + 1 == w[1]), "{name}: {numbers:?}");
        let (first, last) = (numbers.first().copied(), numbers.last().copied().unwrap_or(0));
        assert!(last >= since[writer], "{name} had recorded {}: {numbers:?}", since[writer]);
        assert!(!from_the_first || first.is_none_or(|n| n == 1), "{name}: {numbers:?}");
        for (entry, n) in mine.iter().zip(numbers) {
            let expected = text(writer, n, size);
            for key in ["a", "b"] {
                assert_eq!(entry.get(key).unwrap().as_str(), Some(expected.as_str()));
            }
        }
    }
}

/// Two writers, somebody who dumps and somebody who reads the file; counts what that one found torn.
fn written_and_read(records: u64, size: usize, torn: &Count) {
    let scene = &Scene::new();
    thread::scope(|s| {
        for writer in 0..WRITERS.len() {
            s.spawn(move || (1..=records).for_each(|n| scene.write(writer, n, size)));
        }
        s.spawn(|| {
            for _ in 0..2 {
                let since = scene.done();
                check(&scene.dump(), since, size);
            }
        });
        s.spawn(|| {
            for _ in 0..3 {
                let since = scene.done();
                let file = scene.file();
                torn.fetch_add(file.torn, Relaxed);
                check(&file, since, size);
                thread::yield_now();
            }
        });
    });
    let all = scene.file();
    assert_eq!(all.torn, 0);
    check(&all, [records; WRITERS.len()], size);
    assert_eq!(scene.recorder.lost(), 0, "both had a buffer of their own");
}

#[test]
fn a_reader_among_writers_sees_whole_records_in_order_and_all_that_were_done() {
    let torn = Arc::new(Count::new(0));
    let seen = Arc::clone(&torn);
    orders(1_000, move || written_and_read(4, 40, &seen));
    assert_ne!(torn.load(Relaxed), 0, "nobody came in the middle of a record");
}

#[test]
fn so_it_is_when_the_ring_is_full_and_the_oldest_are_written_over() {
    // Sixteen of these fill the ring, and each writer has twelve.
    let torn = Arc::new(Count::new(0));
    let seen = Arc::clone(&torn);
    orders(300, move || written_and_read(12, limits::MAX_VALUE_BYTES - 100, &seen));
    assert_ne!(torn.load(Relaxed), 0, "nobody came in the middle of a record");
}

#[test]
fn every_message_heard_is_noted_and_what_follows_it_sorts_after_it() {
    orders(400, || {
        let scene = &Scene::new();
        let now = scene.recorder.hlc_now();
        thread::scope(|s| {
            for listener in 0..2_u64 {
                s.spawn(move || {
                    // Together more senders than the table of those not yet noted takes.
                    for n in 0..MAX_HEARD_HALF + 2 {
                        let stamp = Hlc(now.0 + 1000 * (n + 1) + listener);
                        let sender = format!("agent@{listener}.{n}");
                        scene.recorder.hlc_observe_from(stamp, &sender);
                        assert!(scene.recorder.hlc_now() > stamp, "an answer before its question");
                    }
                });
            }
            s.spawn(|| (1..=2).for_each(|n| scene.write(0, n, 10)));
        });
        scene.write(1, 1, 10);
        let recording = scene.dump();
        check(&recording, [2, 1], 10);
        let mut noted = BTreeMap::new();
        for heard in recording.entries.iter().filter_map(|e| e.heard) {
            assert_eq!(noted.insert(heard.sender.0, heard.stamp), None, "noted twice");
        }
        for listener in 0..2 {
            for n in 0..MAX_HEARD_HALF + 2 {
                let sender = Sender::of(&format!("agent@{listener}.{n}"));
                let stamp = now.0 + 1000 * (n + 1) + listener;
                assert_eq!(noted.get(&sender.0), Some(&stamp), "agent@{listener}.{n}");
            }
        }
    });
}

/// Half of the table of messages that wait to be noted.
const MAX_HEARD_HALF: u64 = limits::MAX_HEARD as u64 / 2;

#[test]
fn a_process_that_dies_with_the_lock_still_leaves_what_is_in_the_ring() {
    orders(20, || {
        let scene = &Scene::new();
        scene.write(0, 1, 40);
        thread::scope(|s| {
            s.spawn(|| {
                let lock = scene.recorder.ring.lock().unwrap();
                // Its last words, without its lock: they are left out, and nobody waits for ever.
                scene.recorder.record_urgent("panic", &[]);
                let (bytes, _) = scene.recorder.copy(true).unwrap();
                check(&Recording::parse(&bytes).unwrap(), [1, 0], 40);
                drop(lock);
            });
            s.spawn(|| scene.write(1, 1, 40));
        });
        check(&scene.dump(), [1, 1], 40);
    });
}

#[test]
fn last_words_among_writers_are_recorded_once_the_lock_is_free() {
    orders(200, || {
        let scene = &Scene::new();
        thread::scope(|s| {
            s.spawn(|| (1..=3).for_each(|n| scene.write(0, n, 40)));
            s.spawn(|| {
                scene.recorder.record_urgent("panic", &[("message", "it broke".into())]);
                let (bytes, _) = scene.recorder.copy(true).unwrap();
                let recording = Recording::parse(&bytes).unwrap();
                assert_eq!(recording.torn, 0);
                assert!(recording.entries.iter().any(|e| e.kind == "panic"), "nobody died");
            });
        });
        check(&scene.dump(), [3, 0], 40);
    });
}
