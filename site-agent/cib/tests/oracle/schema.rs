//! Valid or not: our rules against the installed RELAX NG schemas.

use crate::mutator::{Names, Random, mutate};
use std::collections::HashSet;
use std::path::Path;
use std::process::Command;
use tierce_cib::canonical;
use tierce_cib::schema::{self, Schema};
use tierce_cib::xml::Document;

const SCHEMAS: &str = "/usr/share/pacemaker";

/// The files that a schema accepts.
fn accepted(version: &str, folder: &Path, count: usize) -> HashSet<usize> {
    let mut command = Command::new("xmllint");
    command.arg("--noout").arg("--relaxng").arg(format!("{SCHEMAS}/{version}.rng"));
    for number in 0..count {
        command.arg(folder.join(format!("{number}.xml")));
    }
    let output = command.env("LC_ALL", "C").output().expect("xmllint runs");
    let told = String::from_utf8_lossy(&output.stderr);
    let number = |line: &str| {
        let path = line.strip_suffix(" validates")?;
        Path::new(path).file_stem()?.to_str()?.parse().ok()
    };
    told.lines().filter_map(number).collect()
}

#[test]
fn the_shared_cases_are_valid_by_the_schema_that_they_declare() {
    for (path, text) in crate::documents() {
        let doc = Document::parse(text).unwrap_or_else(|error| panic!("{path}: {error}"));
        let Ok(schema) = Schema::declared(&doc) else {
            continue;
        };
        let problems = schema.check(&doc);
        assert!(problems.is_empty(), "{path}: {problems:#?}");
    }
}

#[test]
fn mutated_documents_are_valid_exactly_if_the_installed_schemas_say_so() {
    if !crate::installed("xmllint") || !Path::new(SCHEMAS).join("pacemaker-3.9.rng").exists() {
        return;
    }
    let mut random = Random::new(crate::setting("CIB_ORACLE_SEED", 1));
    let rounds = crate::setting("CIB_ORACLE_ROUNDS", 400) as usize;
    let folder = tempfile::tempdir().expect("a folder");
    let documents = crate::documents();
    let rich = Document::parse(documents[0].1.clone()).expect("our own document");
    let names = Names::of(&rich);
    let (mut compared, mut valid, mut wrong) = (0, 0, Vec::new());
    while compared < rounds {
        let version = format!("pacemaker-3.{}", random.below(10));
        let mut made = Vec::new();
        for number in 0..100 {
            let from = if random.below(3) == 0 { random.pick(&documents) } else { &documents[0] };
            let Ok(mut doc) = Document::parse(from.1.clone()) else {
                continue;
            };
            let root = doc.root().node_id();
            doc.set(root, "validate-with", &version);
            for _ in 0..random.below(3) {
                mutate(&mut doc, &mut random, &names, false);
            }
            let text = doc.write();
            std::fs::write(folder.path().join(format!("{number}.xml")), &text).expect("written");
            made.push(text);
        }
        let theirs = accepted(&version, folder.path(), made.len());
        let schema = Schema::named(&version).expect("a version that is known");
        for (number, text) in made.iter().enumerate() {
            let doc = Document::parse(text.clone()).expect("what was written is read");
            let problems = schema.check(&doc);
            compared += 1;
            valid += usize::from(theirs.contains(&number));
            if problems.is_empty() != theirs.contains(&number) {
                let verdict = if problems.is_empty() { "we accept" } else { "we refuse" };
                wrong.push(format!("{version}: {verdict}: {problems:?}"));
                if let Some(keep) = std::env::var_os("CIB_ORACLE_KEEP") {
                    let name = format!("{}-{version}.xml", wrong.len());
                    std::fs::write(Path::new(&keep).join(name), text).expect("kept");
                }
            }
        }
    }
    eprintln!("{compared} documents compared, {valid} valid, {} verdicts differ", wrong.len());
    assert!(valid * 20 > compared && valid * 20 < compared * 19, "both verdicts are met often");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_we_upgrade_cibadmin_upgrades_to_the_same() {
    if !crate::installed("cibadmin") {
        return;
    }
    let mut random = Random::new(crate::setting("CIB_ORACLE_SEED", 1));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("cib.xml");
    let documents = crate::documents();
    if documents.len() < 10 {
        eprintln!("SKIPPED: the shared cases are not there (TIERCE_SCHEDULER_CASES)");
        return;
    }
    let rich = Document::parse(documents[0].1.clone()).expect("our own document");
    let names = Names::of(&rich);
    let (mut both, mut wrong) = (0, Vec::new());
    for round in 0..crate::setting("CIB_ORACLE_ROUNDS", 60) {
        let mut doc = Document::parse(random.pick(&documents).1.clone()).expect("a document");
        let root = doc.root().node_id();
        doc.set(root, "validate-with", "pacemaker-2.10");
        doc.set(root, "crm_feature_set", "3.16.1");
        for _ in 0..random.below(3) {
            mutate(&mut doc, &mut random, &names, false);
        }
        let Ok(ours) = schema::upgrade(&doc) else {
            continue;
        };
        std::fs::write(&file, doc.write()).expect("written");
        let output = Command::new("cibadmin")
            .args(["--upgrade", "--force"])
            .env("CIB_file", &file)
            .output()
            .expect("cibadmin runs");
        if !output.status.success() {
            // It is not valid by 2.10, or 2.1.5 does not like the status.
            continue;
        }
        both += 1;
        let theirs = std::fs::read_to_string(&file).expect("it is there");
        let theirs = Document::parse(theirs).expect("it is read");
        let part = |doc: &Document| doc.root().child("configuration").map(canonical::text);
        if part(&ours) != part(&theirs) {
            wrong.push(format!("{round}: {:?} {:?}", part(&ours), part(&theirs)));
        }
    }
    eprintln!("{both} upgraded by both, {} differ", wrong.len());
    assert!(both > 5, "some are upgraded");
    assert!(wrong.is_empty(), "{wrong:#?}");
}
