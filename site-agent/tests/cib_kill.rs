//! The CIB's store under real kills: what was told to be written is there, and what is there is whole.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tierce_agent::cib::{Rule, Store};
use tierce_cib::version::Version;
use tierce_cib::xml::Document;

const FOLDER: &str = "TIERCE_CIB_KILL_FOLDER";
const KILLS: u64 = 40;

fn stored(store: &Store) -> Option<Version> {
    let doc = store.read().unwrap_or_else(|error| panic!("after a kill: {error}"))?;
    // The marker at the end repeats the version: a mixture of two CIBs would show.
    let version = Version::of(doc.root()).expect("it has a version");
    let marker = doc.root().child("configuration").and_then(|part| part.attr("marker"));
    assert_eq!(marker, Some(version.epoch.to_string().as_str()));
    Some(version)
}

/// Writes version after version, and tells each once it is written.
fn write_for_ever(folder: &Path) {
    let store = Store::open(folder).expect("the store opens");
    let mut epoch = stored(&store).map_or(0, |version| version.epoch);
    let filler = "<!-- the same again and again -->".repeat(300);
    loop {
        epoch += 1;
        let text = format!(
            "<cib admin_epoch='0' epoch='{epoch}' num_updates='0'>{filler}<configuration \
             marker='{epoch}'/><status/></cib>"
        );
        let doc = Document::parse(text).expect("it is well formed");
        store.write(&doc, Rule::Newer).expect("it is written");
        println!("written {epoch}");
    }
}

#[test]
fn a_kill_at_any_moment_leaves_a_whole_cib_and_loses_none_that_was_told() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        write_for_ever(Path::new(&folder));
    }
    let folder = tempfile::tempdir().expect("a folder");
    let mut told = 0;
    for kill in 0..KILLS {
        let name = "a_kill_at_any_moment_leaves_a_whole_cib_and_loses_none_that_was_told";
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", name, "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the writer starts");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let written = |line: &str| line.rsplit_once("written ").and_then(|(_, n)| n.parse().ok());
        // At least one write, then some moment of a later one.
        let first = lines.by_ref().map_while(Result::ok).find_map(|line| written(&line));
        told = first.expect("the writer writes");
        std::thread::sleep(Duration::from_micros(kill * 977 % 20_000));
        child.kill().expect("it is killed");
        child.wait().expect("it is gone");
        for line in lines.map_while(Result::ok) {
            told = written(&line).unwrap_or(told);
        }
        let store = Store::open(folder.path()).expect("the store opens after a kill");
        let found = stored(&store).expect("there is a CIB").epoch;
        assert!((told..=told + 1).contains(&found), "{told} was told, {found} is there");
    }
    assert!(told >= KILLS, "{told}");
}
