//! How long a CIB takes to read, check, write, compare and patch, and how much memory it takes.
//!
//! `cargo run --release -p tierce-cib --example parse-speed -- FILE`

use std::time::{Duration, Instant};
use tierce_cib::version::{Change, Version};
use tierce_cib::xml::{Document, Element};
use tierce_cib::{canonical, patch, verify};

fn timed<T>(what: &str, call: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = call();
    println!("{what:>8} {:8.1} ms", duration_ms(start.elapsed()));
    result
}

fn duration_ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// Peak and present memory of this process, as the kernel tells them.
fn memory(what: &str) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let of = |key: &str| {
        let line = status.lines().find(|line| line.starts_with(key));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).unwrap_or(0)
    };
    println!(
        "{what:>8} {:8.1} MiB now, {:.1} MiB at most",
        of("VmRSS") as f64 / 1024.0,
        of("VmHWM") as f64 / 1024.0
    );
}

fn main() {
    let path = std::env::args_os().nth(1).expect("usage: parse-speed FILE");
    let text = std::fs::read_to_string(path).expect("the file is read");
    let size = text.len();
    memory("text");
    let doc = timed("parse", || Document::parse(text)).unwrap_or_else(|error| panic!("{error}"));
    memory("parsed");
    let elements = timed("walk", || doc.root().descendants().count()) + 1;
    let index = doc.index_bytes();
    println!("{size} bytes, {elements} elements, index {:.2} x text", index as f64 / size as f64);
    timed("write", || doc.write().len());
    timed("digest", || canonical::patch_digest(doc.root()));
    if let Ok(report) = timed("verify", || verify::verify(&doc)) {
        println!("{} problems", report.problems.len());
    }
    let mut new = doc.clone();
    let last = doc.root().descendants().last().map(Element::node_id);
    new.set(last.expect("an element"), "changed", "1");
    Version::of(doc.root()).expect("a version").bumped(Change::Status).set(&mut new);
    let patch = timed("make", || patch::make(&doc, &new)).expect("a patch");
    let result = timed("apply", || patch::apply(&doc, &patch)).expect("it is applied");
    assert_eq!(result.root().descendants().count() + 1, elements);
    timed("rewrite", || new.write().len());
    memory("end");
}
