//! What a reader finds after a kill, a wrap, a torn write, damage, a restart.
#![allow(clippy::unwrap_used)] // a test may

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;
use std::time::Duration;

use common::{Random, child, child_dir, small};
use tierce_trace::{Error, Recorder, RecorderOptions, Recording, Value, limits};

/// The child: writes numbered records for ever, from two threads, telling now and then how far
/// it got.
#[test]
fn child_that_writes_until_it_is_killed() {
    let Some(dir) = child_dir() else { return };
    let recorder = small("writer@paris", &dir);
    let noise = "n".repeat(300);
    std::thread::scope(|s| {
        s.spawn(|| {
            loop {
                recorder.record("noise", &[("noise", noise.as_str().into())]);
            }
        });
        for n in 0_u64.. {
            recorder.record("count", &[("n", n.into()), ("site", "paris".into())]);
            if n % 5_000 == 4_999 {
                println!("reached {n}");
            }
        }
    });
}

#[test]
fn a_process_killed_in_mid_writing_leaves_a_gapless_suffix() {
    for round in 0..12 {
        let dir = tempfile::tempdir().unwrap();
        let mut process = child("child_that_writes_until_it_is_killed", dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let reached: u64 = lines
            .find_map(|l| l.unwrap().strip_prefix("reached ").map(|n| n.parse().unwrap()))
            .unwrap();
        std::thread::sleep(Duration::from_micros(137 * round));
        process.kill().unwrap();
        assert_eq!(process.wait().unwrap().signal(), Some(9));

        let recording = Recording::read(&dir.path().join("writer@paris.tfr")).unwrap();
        assert!(recording.entries.len() > 100, "{} entries", recording.entries.len());
        assert_eq!(recording.missing, 0, "round {round}");
        assert!(recording.torn <= 2, "round {round}: {} torn", recording.torn);
        let counts: Vec<u64> =
            recording.entries.iter().filter_map(|e| e.get("n")?.as_u64()).collect();
        assert!(counts.windows(2).all(|w| w[0] + 1 == w[1]), "round {round}: {counts:?}");
        let last = recording.entries.last().unwrap().sequence;
        assert!(last >= reached, "record {reached} was finished before the kill, last is {last}");
        assert!(recording.entries.windows(2).all(|w| w[0].hlc < w[1].hlc));
    }
}

#[test]
fn a_ring_that_wrapped_many_times_holds_the_newest_records_without_gap() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = small("agent@paris", dir.path());
    let mut random = Random(0x7e1e_ce5e_ed01);
    let filler = "x".repeat(limits::MAX_VALUE_BYTES);
    for n in 0..20_000_u64 {
        let length = (random.next() % 1_500) as usize;
        recorder.record("fill", &[("n", n.into()), ("filler", filler[..length].into())]);
        if n % 997 == 0 {
            let read = Recording::read(recorder.path()).unwrap();
            assert_eq!((read.missing, read.torn <= 1), (0, true), "at {n}: {} torn", read.torn);
            assert_eq!(read.entries.last().unwrap().sequence, n);
            let bytes: usize = read.entries.iter().map(|e| 96 + text(e.get("filler"))).sum();
            assert!(n < 997 || bytes > 50 << 10, "only {bytes} bytes of 64 KiB are in use");
        }
    }
}

fn text(value: Option<&Value>) -> usize {
    value.and_then(Value::as_str).map_or(0, str::len)
}

#[test]
fn damage_anywhere_never_stops_the_reader_and_spares_the_other_records() {
    let seed = 0x00d0_0d1e_u64;
    let mut random = Random(seed);
    let dir = tempfile::tempdir().unwrap();
    let recorder = small("agent@paris", dir.path());
    for n in 0..1_500_u64 {
        recorder.record("count", &[("n", n.into()), ("site", "rome".into())]);
    }
    let whole = fs::read(recorder.path()).unwrap();
    let before = Recording::read(recorder.path()).unwrap().entries;
    let path = dir.path().join("damaged.tfr");
    let mut refused = 0;
    for round in 0..400 {
        let mut bytes = whole.clone();
        let hits = 1 + random.next() as usize % 20;
        for _ in 0..hits {
            let at = random.next() as usize % bytes.len();
            let length = 1 + random.next() as usize % 100;
            for byte in bytes.iter_mut().skip(at).take(length) {
                *byte = random.next() as u8;
            }
        }
        if round % 4 == 0 {
            bytes.truncate(random.next() as usize % bytes.len());
        }
        fs::write(&path, &bytes).unwrap();
        let Ok(read) = Recording::read(&path) else {
            refused += 1;
            continue;
        };
        // 100 damaged bytes touch at most three records.
        let (left, all) = (read.entries.len(), before.len());
        assert!(
            round % 4 == 0 || left + 3 * hits >= all,
            "seed {seed:#x} round {round}: {left} of {all} left after {hits} hits"
        );
        for entry in &read.entries {
            let old = &before[(entry.sequence - before[0].sequence) as usize];
            assert_eq!(entry, old, "seed {seed:#x} round {round}: a damaged record was believed");
        }
    }
    assert!(refused < 100, "the second copy of the header serves: {refused} of 400 refused");
}

#[test]
fn a_file_that_is_no_recording_is_refused_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.tfr");
    for bytes in [&b""[..], b"TIERCEFR", &[0; 9000]] {
        fs::write(&path, bytes).unwrap();
        let error = Recording::read(&path).unwrap_err();
        assert!(matches!(error, Error::NotARecording { .. }), "{error}");
    }
    assert!(matches!(Recording::read(&dir.path().join("none")), Err(Error::Io { .. })));
}

#[test]
fn a_peer_cannot_plant_records_through_text_it_sends() {
    let dir = tempfile::tempdir().unwrap();
    let forger = small("forger", dir.path());
    forger.record("forged", &[("ticket", "granted".into())]);
    let slot = fs::read(forger.path()).unwrap()[4096..4096 + 128].to_vec();
    let recorder = small("agent@paris", dir.path());
    // A whole record of another run, at every offset, so that it also falls on a slot's start.
    for shift in 0..64_usize {
        let mut bytes = vec![b' '; shift];
        bytes.extend_from_slice(&slot);
        recorder.record("received", &[("bytes", bytes.as_slice().into())]);
    }
    // Overwrite the front of the ring so that the reader meets the planted ones in the open.
    let read = Recording::read(recorder.path()).unwrap();
    assert_eq!(read.entries.len(), 64);
    let mut bytes = fs::read(recorder.path()).unwrap();
    for at in (4096..bytes.len()).step_by(64) {
        if bytes[at + 4..at + 8] == slot[4..8] && bytes[at + 64..at + 73] != *b"\x08received" {
            continue; // a planted one: leave it
        }
        bytes[at] ^= 1;
    }
    let path = dir.path().join("open.tfr");
    fs::write(&path, &bytes).unwrap();
    let read = Recording::read(&path).unwrap();
    assert!(read.torn > 0, "planted records were met");
    assert!(read.entries.is_empty(), "a planted record was believed: {:?}", read.entries);
}

#[test]
fn a_restart_keeps_the_recording_of_the_run_before() {
    let dir = tempfile::tempdir().unwrap();
    let first = small("agent@paris", dir.path());
    first.record("last words", &[]);
    let busy = Recorder::create(RecorderOptions::new("agent@paris", dir.path()));
    assert!(matches!(busy, Err(Error::Busy { .. })), "two writers would mix their records");
    drop(first);
    let second = small("agent@paris", dir.path());
    let previous = Recording::read(&dir.path().join("agent@paris.previous.tfr")).unwrap();
    assert_eq!(previous.entries[0].kind, "last words");
    assert!(Recording::read(second.path()).unwrap().entries.is_empty());
}

#[test]
fn settings_out_of_bounds_are_refused_before_anything_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("recorder");
    let with = |process: &str, bytes| {
        Recorder::create(RecorderOptions { bytes, ..RecorderOptions::new(process, &place) })
    };
    for (process, bytes) in [("", 1 << 20), ("../x", 1 << 20), ("a", 1), ("a", usize::MAX)] {
        assert!(matches!(with(process, bytes), Err(Error::Setting { .. })), "{process} {bytes}");
    }
    assert!(!place.exists());
}

#[test]
fn a_directory_open_to_everybody_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let made = Recorder::create(RecorderOptions::new("agent", dir.path()));
    assert!(matches!(made, Err(Error::Io { .. })));
}
