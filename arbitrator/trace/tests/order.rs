//! Many processes, one causal order.
#![allow(clippy::unwrap_used)] // a test may

mod common;

use common::{Random, small};
use tierce_trace::{
    Clock, Entry, Hlc, Observed, Recorder, RecorderOptions, Recording, Value, limits, merge, render,
};

fn recorder(process: &str, dir: &std::path::Path, wall_error_seconds: i64) -> Recorder {
    Recorder::create(RecorderOptions {
        bytes: 1 << 20,
        clock: Clock::with_wall_error(wall_error_seconds),
        ..RecorderOptions::new(process, dir)
    })
    .unwrap()
}

fn read(recorder: &Recorder) -> Recording {
    Recording::read(recorder.path()).unwrap()
}

/// Processes that tell each other things in random order; every record says how many records
/// must come before it (its place in the true order).
fn chatter(errors: &[i64], seed: u64, named: bool) -> (Vec<Recording>, u64) {
    let dir = tempfile::tempdir().unwrap();
    let mut random = Random(seed);
    let all: Vec<Recorder> = errors
        .iter()
        .enumerate()
        .map(|(i, e)| recorder(&format!("agent@site{i}"), dir.path(), *e))
        .collect();
    for message in 0..300_u64 {
        let from = random.next() as usize % all.len();
        let to = (from + 1 + random.next() as usize % (all.len() - 1)) % all.len();
        for _ in 0..random.next() % 3 {
            all[from].record("work", &[]);
        }
        all[from].record("send", &[("message", message.into())]);
        let stamp = all[from].hlc_now();
        all[to].hlc_observe_from(stamp, if named { all[from].process() } else { "" });
        all[to].record("receive", &[("message", message.into())]);
    }
    (all.iter().map(read).collect(), 300)
}

fn assert_causal(entries: &[Entry], messages: u64, what: &str) {
    let place = |kind: &str, n: u64| {
        let same = |e: &&Entry| e.get("message").and_then(Value::as_u64) == Some(n);
        entries.iter().position(|e| e.kind == kind && same(&e)).unwrap()
    };
    for n in 0..messages {
        let (sent, received) = (place("send", n), place("receive", n));
        assert!(sent < received, "{what}: message {n} sent at {sent}, received at {received}");
    }
    for process in entries.iter().map(|e| e.process.clone()) {
        let own: Vec<u64> =
            entries.iter().filter(|e| e.process == process).map(|e| e.sequence).collect();
        assert!(own.windows(2).all(|w| w[0] < w[1]), "{what}: {process} out of order");
    }
}

#[test]
fn processes_with_good_clocks_merge_causally() {
    for seed in 1..20 {
        let (recordings, n) = chatter(&[0, 0, 0], seed, true);
        assert_causal(&merge(&recordings), n, &format!("seed {seed}"));
    }
}

#[test]
fn processes_whose_clocks_are_an_hour_apart_merge_causally() {
    for seed in 1..20 {
        for errors in [&[0, 3_600][..], &[0, 0, -3_600], &[-3_600, 0, 3_600, 20]] {
            let (recordings, n) = chatter(errors, seed, true);
            let merged = merge(&recordings);
            assert_causal(&merged, n, &format!("seed {seed} clocks {errors:?}"));
        }
    }
}

#[test]
fn two_processes_an_hour_apart_need_no_names_for_their_messages() {
    for seed in 1..20 {
        let (recordings, n) = chatter(&[0, 3_600], seed, false);
        assert_causal(&merge(&recordings), n, &format!("seed {seed}"));
    }
}

#[test]
fn without_names_a_third_process_and_an_hour_of_error_would_break_the_order() {
    // The canary: were this order right, the tests above would prove nothing.
    let (recordings, n) = chatter(&[0, 3_600, 0], 1, false);
    let merged = merge(&recordings);
    let broken = std::panic::catch_unwind(|| assert_causal(&merged, n, "canary"));
    assert!(broken.is_err());
}

#[test]
fn a_stamp_over_a_minute_ahead_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (here, ahead) = (recorder("here", dir.path(), 0), recorder("ahead", dir.path(), 61));
    let before = here.hlc_now();
    assert_eq!(here.hlc_observe_from(ahead.hlc_now(), "ahead"), Observed::Ahead);
    assert!(here.hlc_now().wall_ms() - before.wall_ms() < 30_000);
    assert_eq!(ahead.hlc_observe_from(here.hlc_now(), "here"), Observed::Behind);
}

#[test]
fn messages_of_more_senders_than_the_table_holds_all_keep_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let late = recorder("late", dir.path(), -7_200);
    let senders: Vec<Recorder> = (0..3 * limits::MAX_HEARD)
        .map(|i| {
            Recorder::create(RecorderOptions {
                bytes: 64 << 10,
                ..RecorderOptions::new(format!("sender{i}"), dir.path())
            })
            .unwrap()
        })
        .collect();
    for sender in &senders {
        sender.record("cause", &[]);
        late.hlc_observe_from(sender.hlc_now(), sender.process());
    }
    late.record("effect", &[]);
    let recordings: Vec<Recording> = senders.iter().chain([&late]).map(read).collect();
    let merged = merge(&recordings);
    let causes_before = merged.iter().take_while(|e| e.kind != "effect");
    assert_eq!(causes_before.filter(|e| e.kind == "cause").count(), senders.len());
}

#[test]
fn recordings_that_wait_for_each_other_do_not_lose_entries() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (small("a", dir.path()), small("b", dir.path()));
    for (own, other) in [(&a, "b"), (&b, "a")] {
        own.hlc_observe_from(Hlc(u64::MAX), other); // no true message has this stamp
        own.record("first", &[]);
        own.record("after", &[]);
    }
    assert_eq!(merge(&[read(&a), read(&b)]).len(), 4);
}

#[test]
fn a_ring_and_its_dump_merge_without_doubles() {
    let dir = tempfile::tempdir().unwrap();
    let a = small("a", dir.path());
    a.record("one", &[]);
    let dump = Recording::read(&a.dump("ticket lost", &dir.path().join("d")).unwrap()).unwrap();
    a.record("two", &[]);
    let kinds: Vec<String> = merge(&[read(&a), dump]).into_iter().map(|e| e.kind).collect();
    assert_eq!(kinds, ["one", "dump", "two"]);
}

#[test]
fn entries_print_as_aligned_lines_and_as_json_and_never_steer_the_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (small("agent@paris", dir.path()), small("guard", dir.path()));
    a.record("grant", &[("ticket", "web".into()), ("term", 7_u64.into())]);
    b.record("evil", &[("from\x07", "\x1b[2Jgone\n".into())]);
    let merged = merge(&[read(&a), read(&b)]);
    let text = render(&merged);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2);
    assert!(lines[0].ends_with(" agent@paris -     grant ticket=web term=7"), "{}", lines[0]);
    assert!(lines[1].contains(" guard       -     evil "), "{}", lines[1]);
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
    let json = serde_json::to_value(&merged[0]).unwrap();
    assert_eq!(json["process"], "agent@paris");
    assert_eq!(json["fields"]["term"], 7);
    assert!(json["time"].as_str().unwrap().ends_with('Z'));
}
