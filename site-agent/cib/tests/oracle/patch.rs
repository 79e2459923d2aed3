//! Patches and digests: ours against those of `crm_diff` and `cibadmin`.

use crate::mutator::{Names, Random, mutate};
use std::path::{Path, PathBuf};
use std::process::Command;
use tierce_cib::version::{Change, Version};
use tierce_cib::xml::Document;
use tierce_cib::{canonical, patch};

struct Tools {
    folder: tempfile::TempDir,
}

impl Tools {
    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    }

    fn run(program: &str, arguments: &[&str], files: &[(&str, &Path)]) -> Option<String> {
        let mut command = Command::new(program);
        command.args(arguments);
        for (option, path) in files {
            command.arg(option).arg(path);
        }
        let output = command.output().expect("the tool runs");
        let text = String::from_utf8(output.stdout).expect("the tool writes UTF-8");
        (!text.trim().is_empty()).then_some(text)
    }
}

fn canonical(text: &str) -> String {
    let doc = Document::parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    canonical::text(doc.root())
}

/// Two CIBs of which the second is a mutation of the first, one configuration later.
fn pair(random: &mut Random, documents: &[(String, String)]) -> (Document, Document) {
    let from = if random.below(2) == 0 { random.pick(documents) } else { &documents[0] };
    let mut old = Document::parse(from.1.clone()).expect("a document to begin with");
    let root = old.root().node_id();
    old.set(root, "validate-with", "pacemaker-3.9");
    // Newer ones are refused by the tool.
    old.set(root, "crm_feature_set", "3.16.1");
    let names = Names::of(&old);
    let mut new = old.clone();
    for _ in 0..=random.below(6) {
        mutate(&mut new, random, &names, true);
    }
    let version = Version::of(old.root()).unwrap_or_default();
    version.set(&mut old);
    version.bumped(Change::Configuration).set(&mut new);
    (old, new)
}

#[test]
fn the_real_tools_apply_our_patches_and_we_theirs() {
    if !crate::installed("crm_diff") || !crate::installed("cibadmin") {
        return;
    }
    let mut random = Random::new(crate::setting("CIB_ORACLE_SEED", 1));
    let rounds = crate::setting("CIB_ORACLE_ROUNDS", 60);
    let documents = crate::documents();
    let tools = Tools { folder: tempfile::tempdir().expect("a folder") };
    let (mut nameless, mut theirs_made, mut refused, mut wrong) = (0, 0, 0, Vec::new());
    for round in 0..rounds {
        let (old, new) = pair(&mut random, &documents);
        let old_file = tools.file("old.xml", &old.write());
        let new_file = tools.file("new.xml", &new.write());
        let digest = Tools::run("cibadmin", &["--md5-sum-versioned"], &[("-x", &new_file)]);
        if digest.as_deref().map(str::trim) != Some(&canonical::patch_digest(new.root())) {
            wrong.push(format!("{round}: patch digest {digest:?}"));
        }
        let digest = Tools::run("cibadmin", &["--md5-sum"], &[("-x", &new_file)]);
        if digest.as_deref().map(str::trim) != Some(&canonical::disk_digest(new.root())) {
            wrong.push(format!("{round}: disk digest {digest:?}"));
        }
        match patch::make(&old, &new) {
            Err(patch::MakeError::Nameless(_)) => nameless += 1,
            Err(error) => wrong.push(format!("{round}: {error}")),
            Ok(ours) => {
                let result = patch::apply(&old, &ours).map(|doc| canonical::text(doc.root()));
                if result.as_ref() != Ok(&canonical::text(new.root())) {
                    wrong.push(format!("{round}: we do not apply our own: {result:?}"));
                }
                let file = tools.file("ours.xml", &ours.write());
                let files = [("-o", old_file.as_path()), ("-p", file.as_path())];
                let result = Tools::run("crm_diff", &[], &files);
                let result = result.map(|text| canonical(&text));
                if result != Some(canonical::text(new.root())) {
                    wrong.push(format!("{round}: crm_diff makes another result of ours"));
                    keep(&tools, round, "ours");
                }
            }
        }
        // Of twins, 2.1.5 makes patches that do not give the new from the old.
        if has_twins(&old) || has_twins(&new) {
            continue;
        }
        let files = [("-o", old_file.as_path()), ("-n", new_file.as_path())];
        let Some(theirs) = Tools::run("crm_diff", &[], &files) else {
            continue;
        };
        theirs_made += 1;
        let file = tools.file("theirs.xml", &theirs);
        let files = [("-o", old_file.as_path()), ("-p", file.as_path())];
        // Where an id was taken away, 2.1.5 makes patches that it does not apply itself.
        let Some(want) = Tools::run("crm_diff", &[], &files).map(|text| canonical(&text)) else {
            refused += 1;
            continue;
        };
        let read = Document::parse(theirs).expect("their patch is read");
        let got = patch::apply(&old, &read).map(|doc| canonical::text(doc.root()));
        if got.as_ref() != Ok(&want) {
            wrong.push(format!("{round}: we make another result of theirs: {:?}", got.err()));
            keep(&tools, round, "theirs");
        }
    }
    eprintln!(
        "{rounds} pairs: {nameless} without a patch, {theirs_made} patches of crm_diff of which it \
         refuses {refused} itself, {} differ",
        wrong.len()
    );
    assert!(nameless * 10 < rounds && theirs_made * 2 > rounds, "most pairs have patches");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Whether a path can not tell two children of one element apart.
fn has_twins(doc: &Document) -> bool {
    std::iter::once(doc.root()).chain(doc.root().descendants()).any(|parent| {
        let mut seen = std::collections::HashSet::new();
        parent.children().any(|child| !seen.insert((child.name(), child.id())))
    })
}

/// Keeps the files of a round that went wrong, where `CIB_ORACLE_KEEP` says.
fn keep(tools: &Tools, round: u64, what: &str) {
    let Some(folder) = std::env::var_os("CIB_ORACLE_KEEP") else {
        return;
    };
    for name in ["old.xml", "new.xml", &format!("{what}.xml")] {
        let to = Path::new(&folder).join(format!("{round}-{what}-{name}"));
        std::fs::copy(tools.folder.path().join(name), to).expect("kept");
    }
}
