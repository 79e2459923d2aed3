//! The rules of the house that a machine can check: who may use whom, and that every rule of the
//! protocol has code and words. The table is the one of docs/architecture.md.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Crate, kind, crates of ours that it may use.
const TABLE: &[(&str, &str, &[&str])] = &[
    ("tierce-ticket", "core", &[]),
    ("tierce-wire", "core", &["tierce-ticket"]),
    ("tierce-store", "driver", &["tierce-ticket"]),
    ("tierce-link", "driver", &["tierce-wire"]),
    ("tierce-trace", "driver", &[]),
    (
        "tierce-member",
        "driver",
        &["tierce-ticket", "tierce-wire", "tierce-store", "tierce-link", "tierce-trace"],
    ),
    (
        "tierce-arbitrator",
        "bin",
        &[
            "tierce-ticket",
            "tierce-wire",
            "tierce-store",
            "tierce-link",
            "tierce-trace",
            "tierce-member",
        ],
    ),
    ("tierce-model", "bin", &["tierce-ticket"]),
    ("tierce-cib", "core", &[]),
    ("tierce-scheduler", "core", &["tierce-cib"]),
    ("tierce-executor", "driver", &["tierce-trace"]),
    ("tierce-guard", "driver", &[]),
    ("tierce-gate", "driver", &[]),
    ("tierce-dns", "driver", &[]),
    ("tierce-bgp", "driver", &[]),
    (
        "tierce-agent",
        "bin",
        &[
            "tierce-ticket",
            "tierce-wire",
            "tierce-store",
            "tierce-link",
            "tierce-trace",
            "tierce-member",
            "tierce-cib",
            "tierce-executor",
            "tierce-guard",
            "tierce-gate",
            "tierce-dns",
            "tierce-bgp",
        ],
    ),
    (
        "tierce",
        "bin",
        &[
            "tierce-ticket",
            "tierce-wire",
            "tierce-store",
            "tierce-link",
            "tierce-trace",
            "tierce-member",
            "tierce-cib",
            "tierce-scheduler",
            "tierce-executor",
            "tierce-guard",
            "tierce-gate",
            "tierce-dns",
            "tierce-bgp",
            "tierce-agent",
            "tierce-arbitrator",
        ],
    ),
    ("tierce-rig", "driver", &["tierce-wire"]),
    ("tierce-sim", "bin", &["tierce-ticket", "tierce-wire"]),
    ("tierce-mutants", "bin", &["tierce-ticket", "tierce-model", "tierce-sim"]),
    (
        "tierce-bench",
        "bin",
        &[
            "tierce-rig",
            "tierce-ticket",
            "tierce-wire",
            "tierce-link",
            "tierce-cib",
            "tierce-scheduler",
        ],
    ),
    ("tierce-nemesis", "bin", &["tierce-rig"]),
    ("tierce-conformance", "bin", &["tierce-cib"]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the repository").to_owned()
}

fn metadata() -> Value {
    let out = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).expect("cargo metadata is JSON")
}

#[test]
fn every_crate_keeps_to_the_table_and_no_core_uses_a_driver() {
    let table: BTreeMap<_, _> = TABLE.iter().map(|(n, k, may)| (*n, (*k, *may))).collect();
    let meta = metadata();
    let packages = meta["packages"].as_array().expect("packages");
    let ours: BTreeSet<&str> = packages.iter().filter_map(|p| p["name"].as_str()).collect();
    let mut seen = BTreeSet::new();
    for p in packages {
        let name = p["name"].as_str().expect("a name");
        if name == "tierce-tests" {
            continue;
        }
        let (kind, may) = table
            .get(name)
            .unwrap_or_else(|| panic!("{name} is not in the table of tests/tests/house.rs"));
        seen.insert(name);
        let said = p["metadata"]["tierce"]["kind"].as_str();
        assert_eq!(said, Some(*kind), "{name}: package.metadata.tierce.kind");
        for d in p["dependencies"].as_array().expect("dependencies") {
            let used = d["name"].as_str().expect("a name");
            if !ours.contains(used) || d["kind"].as_str() == Some("dev") {
                continue;
            }
            assert!(may.contains(&used), "{name} may not use {used} (docs/architecture.md)");
            if *kind == "core" {
                assert_eq!(table[used].0, "core", "{name} is a core and uses {used}, which is not");
            }
        }
    }
    let missing: Vec<_> = table.keys().filter(|n| !seen.contains(**n)).collect();
    assert!(missing.is_empty(), "in the table but not in the workspace: {missing:?}");
}

/// The switches that break rules are for `tests/mutants`, and there only on request.
#[test]
fn no_program_is_built_with_planted_bugs() {
    for p in metadata()["packages"].as_array().expect("packages") {
        let name = p["name"].as_str().expect("a name");
        let on = |f: &Value| f.as_str().is_some_and(|f| f.contains("planted"));
        for d in p["dependencies"].as_array().expect("dependencies") {
            let asked = d["features"].as_array().is_some_and(|f| f.iter().any(on));
            assert!(!asked, "{name} turns the feature planted on");
        }
        let default = p["features"]["default"].as_array();
        assert!(!default.is_some_and(|f| f.iter().any(on)), "{name} has it on by default");
        let passes_on = p["features"].get("planted").is_some();
        let may = ["tierce-ticket", "tierce-mutants"].contains(&name);
        assert!(!passes_on || may, "{name} passes the feature planted on");
    }
}

#[test]
fn cores_do_no_io_and_read_no_clock() {
    let meta = metadata();
    for p in meta["packages"].as_array().expect("packages") {
        if p["metadata"]["tierce"]["kind"].as_str() != Some("core") {
            continue;
        }
        let dir = Path::new(p["manifest_path"].as_str().expect("a path"))
            .parent()
            .expect("a folder")
            .join("src");
        for file in rust_files(&dir) {
            let text = std::fs::read_to_string(&file).expect("readable");
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            for word in [
                "std::net",
                "std::fs",
                "std::thread",
                "SystemTime",
                "Instant::now",
                "tokio",
                "tracing::",
                "println!",
            ] {
                assert!(!code.contains(word), "{} uses {word}", file.display());
            }
        }
        let lib = std::fs::read_to_string(dir.join("lib.rs")).expect("readable");
        assert!(lib.contains("#![forbid(unsafe_code)]"), "{} allows unsafe code", dir.display());
    }
}

#[test]
fn every_rule_and_inequality_has_words_and_code() {
    let protocol =
        std::fs::read_to_string(root().join("docs/protocol.md")).expect("docs/protocol.md");
    let mut code = String::new();
    for file in rust_files(&root().join("arbitrator"))
        .into_iter()
        .chain(rust_files(&root().join("site-agent")))
    {
        code.push_str(&std::fs::read_to_string(file).expect("readable"));
    }
    let names = (1..=18).map(|n| format!("R{n}")).chain((1..=5).map(|n| format!("I{n}")));
    for name in names {
        assert!(has_word(&protocol, &name), "docs/protocol.md says nothing of {name}");
        assert!(has_word(&code, &name), "no code cites {name}");
    }
}

#[test]
fn documents_name_only_files_that_exist() {
    for doc in [
        "README.md",
        "docs/architecture.md",
        "docs/protocol.md",
        "docs/safety.md",
        "docs/specification.md",
    ] {
        let text =
            std::fs::read_to_string(root().join(doc)).unwrap_or_else(|e| panic!("{doc}: {e}"));
        for word in text.split(|c: char| c.is_whitespace() || "`()[],;".contains(c)) {
            let word = word.trim_end_matches(['.', ':']);
            let is_path = word.contains('/')
                && ["arbitrator/", "site-agent/", "ras/", "tests/", "deploy/", "docs/"]
                    .iter()
                    .any(|p| word.starts_with(p))
                && !word.contains(['*', '<', '{']);
            if is_path {
                assert!(root().join(word).exists(), "{doc} names {word}, which is not there");
            }
        }
    }
}

fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
    })
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(d) = dirs.pop() {
        for e in std::fs::read_dir(&d).into_iter().flatten().flatten() {
            let path = e.path();
            if path.is_dir() && !path.ends_with("target") {
                dirs.push(path);
            } else if path.extension().is_some_and(|x| x == "rs") {
                files.push(path);
            }
        }
    }
    files
}
