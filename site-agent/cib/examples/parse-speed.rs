//! How long a CIB takes to read and to write back, and how much memory its index takes.
//!
//! `cargo run --release -p tierce-cib --example parse-speed -- FILE`

use std::time::Instant;
use tierce_cib::xml::Document;

fn main() {
    let path = std::env::args_os().nth(1).expect("usage: parse-speed FILE");
    let text = std::fs::read_to_string(path).expect("the file is read");
    let size = text.len();
    let start = Instant::now();
    let doc = Document::parse(text).unwrap_or_else(|error| panic!("{error}"));
    let parsed = start.elapsed();
    let start = Instant::now();
    let elements = doc.root().descendants().count() + 1;
    let walked = start.elapsed();
    let start = Instant::now();
    let written = doc.write();
    let wrote = start.elapsed();
    let index = doc.index_bytes();
    println!(
        "{size} bytes, {elements} elements: parsed {parsed:?}, walked {walked:?}, written {wrote:?}, \
         index {index} bytes = {:.2} x text",
        index as f64 / size as f64
    );
    assert_eq!(written.len(), size);
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().filter(|line| line.starts_with("VmHWM")).for_each(|line| println!("{line}"));
}
