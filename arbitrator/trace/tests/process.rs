//! Whole processes: their log, their panic, their safety violation, their dumps.
#![allow(clippy::unwrap_used)] // a test may

mod common;

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Output;

use common::{child, child_dir, small};
use tierce_trace::{
    Entry, Error, Options, RecorderAt, Recording, Value, default_recorder_dir, dump, hlc_now,
    hlc_observe, init, limits, record, safety_violation,
};

fn options(dir: &Path) -> Options {
    Options { recorder: RecorderAt::Dir(dir.to_owned()), ..Options::daemon("agent@paris") }
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn ring(dir: &Path) -> Vec<Entry> {
    Recording::read(&dir.join("agent@paris.tfr")).unwrap().entries
}

#[test]
fn child_that_logs() {
    let Some(dir) = child_dir() else { return };
    let guard = init(options(&dir)).unwrap();
    let span = tracing::warn_span!(target: "tierce_test", "grant", ticket = "web", term = 7);
    span.in_scope(|| {
        tracing::debug!(target: "tierce_test", rtt_ms = 1.5, "below the filter");
        tracing::warn!(target: "tierce_test", site = "rome", "lease \"late\"\n");
        tracing::warn!(target: "quinn", "of another crate");
    });
    tracing::trace!(target: "tierce_test", "too fine");
    record("moved", &[("outage_ms", 120_u64.into())]);
    assert!(matches!(init(options(&dir)), Err(Error::AlreadyStarted)));
    drop(guard);
}

#[test]
fn the_recorder_takes_our_debug_events_whatever_the_log_filter_says() {
    let dir = tempfile::tempdir().unwrap();
    let output = child("child_that_logs", dir.path()).env("TIERCE_LOG", "warn").output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));

    let log: Vec<serde_json::Value> = stderr(&output)
        .lines()
        .map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}")))
        .collect();
    assert_eq!(log.len(), 2, "two warnings pass the filter: {log:?}");
    assert_eq!(log[0]["process"], "agent@paris");
    assert_eq!(log[0]["fields"]["message"], "lease \"late\"\n");
    assert_eq!(log[0]["spans"][0]["fields"]["term"], 7);
    assert!(log[0]["time"].as_str().unwrap().ends_with('Z'));

    let entries = ring(dir.path());
    let seen: Vec<String> = entries
        .iter()
        .map(|e| e.get("message").and_then(Value::as_str).unwrap_or(&e.kind).to_owned())
        .collect();
    assert_eq!(seen, ["start", "below the filter", "lease \"late\"\n", "moved", "stop"]);
    let debug = &entries[1];
    assert_eq!(debug.get("rtt_ms"), Some(&Value::F64(1.5)));
    assert_eq!(debug.get("grant.ticket"), Some(&Value::Str("web".into())));
    assert_eq!(debug.get("grant.term"), Some(&Value::I64(7)));
    assert_eq!(debug.get("span"), Some(&Value::Str("grant".into())));
}

#[test]
fn text_logs_have_no_colour_away_from_a_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let output = child("child_that_logs_text", dir.path()).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stderr(&output);
    assert!(text.contains("WARN") && text.contains("lease late"), "{text}");
    assert!(!text.contains('\x1b'), "{text:?}");
}

#[test]
fn child_that_logs_text() {
    let Some(dir) = child_dir() else { return };
    let _guard = init(Options { json: Some(false), ..options(&dir) }).unwrap();
    tracing::warn!(target: "tierce_test", "lease late");
}

#[test]
fn child_that_panics() {
    let Some(dir) = child_dir() else { return };
    let _guard = init(options(&dir)).unwrap();
    record("before", &[]);
    panic!("term went backwards");
}

#[test]
fn a_panic_is_recorded_and_dumped() {
    let dir = tempfile::tempdir().unwrap();
    let output = child("child_that_panics", dir.path()).output().unwrap();
    assert!(!output.status.success());
    assert!(stderr(&output).contains("term went backwards"));
    let entries = only_dump(&dir.path().join("dumps"), "panic");
    assert_eq!(entries[1].kind, "before");
    assert_eq!(entries[2].get("message"), Some(&Value::Str("term went backwards".into())));
}

#[test]
fn child_that_breaks_an_invariant_while_formatting() {
    struct Breaks;
    impl std::fmt::Debug for Breaks {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            record("nested", &[]);
            safety_violation("two holders of ticket web")
        }
    }
    let Some(dir) = child_dir() else { return };
    let _guard = init(options(&dir)).unwrap();
    // In the middle of making a record: the worst moment.
    tracing::info!(target: "tierce_test", broken = ?Breaks, "never finished");
}

#[test]
fn a_safety_violation_is_recorded_dumped_told_and_ends_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let output =
        child("child_that_breaks_an_invariant_while_formatting", dir.path()).output().unwrap();
    assert_eq!(output.status.signal(), Some(6), "{}", stderr(&output));
    let text = stderr(&output);
    for part in ["error: safety violation: two holders", "effect:", "inspect:", "safer:"] {
        assert!(text.contains(part), "{part} missing in {text}");
    }
    let entries = only_dump(&dir.path().join("dumps"), "safety-violation");
    let last = entries.last().unwrap();
    assert_eq!(last.get("what"), Some(&Value::Str("two holders of ticket web".into())));
}

fn only_dump(dir: &Path, reason: &str) -> Vec<Entry> {
    let files: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    let name = files[0].file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with("agent@paris-2") && name.ends_with(&format!("-{reason}.tfr")));
    Recording::read(&files[0]).unwrap().entries
}

#[test]
fn dumps_are_limited_in_rate_and_in_number() {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("dumps");
    // Each recorder has its own budget: restart it to make more dumps than are kept.
    for round in 0..=limits::MAX_DUMPS as u32 / limits::DUMP_BURST {
        let recorder = small("agent@paris", dir.path());
        for n in 0..limits::DUMP_BURST {
            recorder.dump(&format!("ticket lost: web {round}/{n}"), &to).unwrap();
        }
        let refused = recorder.dump("one too many", &to);
        assert!(matches!(refused, Err(Error::TooManyDumps { .. })));
    }
    let mut names: Vec<_> =
        fs::read_dir(&to).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names.len(), limits::MAX_DUMPS);
    assert!(names[0].ends_with("ticket-lost--web-1-0.tfr"), "the oldest went: {names:?}");
    assert!(names.iter().all(|n| Recording::read(&to.join(n)).is_ok()));
}

#[test]
fn a_bad_filter_is_told_with_its_text() {
    let error = init(Options { filter: Some("tierce=loud".into()), ..Options::command("x") });
    assert!(error.unwrap_err().to_string().contains("tierce=loud"));
}

#[test]
fn without_a_recorder_everything_still_answers() {
    record("nothing", &[]);
    assert!(matches!(dump("x", Path::new("/nonexistent")), Err(Error::NoRecorder)));
    let stamp = hlc_now() + (5 << 16);
    hlc_observe(stamp);
    assert!(hlc_now() > stamp);
}

#[test]
fn the_usual_place_is_writable_and_private() {
    use std::os::unix::fs::MetadataExt as _;
    let dir = default_recorder_dir().unwrap();
    assert_eq!(fs::metadata(&dir).unwrap().mode() & 0o002, 0, "{}", dir.display());
}
