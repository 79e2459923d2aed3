//! The end of a process that can no longer be trusted, and of one that panicked.
//!
//! A dead voter is safe, a confused one is not: a broken invariant ends the process at once, but
//! not before the evidence is kept.

use std::io::Write as _;
use std::panic::PanicHookInfo;

use crate::recorder::{Recorder, recorder};

/// Records a broken safety invariant, dumps the recorder, says so on stderr and aborts.
pub fn safety_violation(what: &str) -> ! {
    let backtrace = std::backtrace::Backtrace::force_capture().to_string();
    let dump = match recorder() {
        Some(recorder) => {
            recorder.record_urgent(
                "safety-violation",
                &[("what", what.into()), ("backtrace", backtrace.as_str().into())],
            );
            dump_note(recorder, "safety-violation")
        }
        None => "this process has no flight recorder".to_owned(),
    };
    // Standard error may be gone; that must not keep the process alive.
    let _ = writeln!(
        std::io::stderr(),
        "error: safety violation: {what}\n\
         effect: this process stops at once; what it held runs out by its lease\n\
         inspect: {dump}\n\
         safer: keep the dump, report it, and start again only after reading it"
    );
    std::process::abort();
}

/// From now on a panic is recorded and dumped before the usual message is printed.
pub(crate) fn install_panic_hook() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if let Some(recorder) = recorder() {
            record_panic(recorder, info);
        }
        usual(info);
    }));
}

fn record_panic(recorder: &Recorder, info: &PanicHookInfo<'_>) {
    let message = info.payload_as_str().unwrap_or("(no text)");
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    recorder
        .record_urgent("panic", &[("message", message.into()), ("place", place.as_str().into())]);
    let note = dump_note(recorder, "panic");
    let _ = writeln!(std::io::stderr(), "panic: {note}");
}

fn dump_note(recorder: &Recorder, reason: &str) -> String {
    match recorder.dump_urgent(reason) {
        Ok(path) => format!("flight recorder kept in {}", path.display()),
        Err(e) => format!("flight recorder stays in {} ({e})", recorder.path().display()),
    }
}
