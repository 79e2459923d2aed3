//! Our answers against those of the real tools, on many documents that a seeded mutator makes.
//!
//! The tools are `xmllint` with Pacemaker's installed schemas, and `crm_diff` and `cibadmin` of
//! Pacemaker 2.1. A test says so and does nothing where they are not installed. `CIB_ORACLE_SEED` and
//! `CIB_ORACLE_ROUNDS` choose the seed and the number of documents.

mod mutator;
mod patch;
mod rules;
mod schema;

use std::path::PathBuf;
use std::process::Command;

/// Whether a program can be run here; if not, says what is left out.
fn installed(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    if !found {
        let strict = std::env::var_os("TIERCE_TESTS_STRICT").is_some_and(|value| !value.is_empty());
        assert!(!strict, "{program} is not installed");
        eprintln!("{program} is not installed: nothing is compared with it");
    }
    found
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Documents to begin with: our own, and the shared scheduler cases where they are.
fn documents() -> Vec<(String, String)> {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut found = vec![("rich".to_owned(), include_str!("../data/rich.xml").to_owned())];
    let folder = std::env::var_os("TIERCE_SCHEDULER_CASES")
        .map_or_else(|| here.join("../../../shared/scheduler-cases"), PathBuf::from);
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder.join("xml"))
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    paths.sort();
    for path in paths {
        if let Ok(text) = std::fs::read_to_string(&path) {
            found.push((path.display().to_string(), text));
        }
    }
    found
}
