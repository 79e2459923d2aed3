//! A node to run agents on, agents written for the test, and a look at the process table.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)] // each test program uses a part

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tierce_executor::{Context, Executor, ResourceSpec, Settings};

pub struct Node {
    pub executor: Executor,
    pub dir: tempfile::TempDir,
}

/// A node whose agents are our own scripts.
pub fn node() -> Node {
    node_with(|_| {})
}

pub fn node_with(change: impl FnOnce(&mut Settings)) -> Node {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = Settings::new("node1");
    settings.ocf_root = dir.path().join("ocf");
    settings.lsb_dir = dir.path().join("init.d");
    settings.rsctmp = dir.path().join("rsctmp");
    fs::create_dir_all(settings.ocf_root.join("resource.d/test")).unwrap();
    fs::create_dir_all(&settings.lsb_dir).unwrap();
    change(&mut settings);
    Node { executor: Executor::new(settings).unwrap(), dir }
}

impl Node {
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// An OCF agent of provider "test"; `$dir` in the script is the node's folder.
    pub fn agent(&self, name: &str, script: &str) -> ResourceSpec {
        let path = self.path("ocf/resource.d/test").join(name);
        write_script(&path, self.dir.path(), script);
        ResourceSpec::new(name.to_lowercase(), &format!("ocf:test:{name}")).unwrap()
    }

    pub fn init_script(&self, name: &str, script: &str) {
        write_script(&self.path("init.d").join(name), self.dir.path(), script);
    }

    /// Numbers that scripts wrote into a file, one a line.
    pub fn pids(&self, file: &str) -> Vec<i32> {
        let text = fs::read_to_string(self.path(file)).unwrap_or_default();
        text.lines().map(|l| l.trim().parse().unwrap()).collect()
    }
}

fn write_script(path: &Path, dir: &Path, script: &str) {
    fs::write(path, format!("#!/bin/sh\ndir='{}'\n{script}\n", dir.display())).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// State letter of a process; None when there is none.
pub fn state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Whether it runs; a zombie that its own parent has not fetched yet does not.
pub fn alive(pid: i32) -> bool {
    state(pid).is_some_and(|s| !matches!(s, 'Z' | 'X'))
}

/// Our own children that nobody fetched.
pub fn zombies() -> Vec<i32> {
    let me = std::process::id();
    let processes = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|e| e.ok()?.file_name().to_str()?.parse::<i32>().ok());
    processes
        .filter(|pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let rest = stat.rsplit_once(") ").map(|(_, r)| r).unwrap_or_default();
            let mut fields = rest.split(' ');
            fields.next() == Some("Z") && fields.next() == Some(&me.to_string())
        })
        .collect()
}

/// Waits, with a generous bound, for what happens elsewhere.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(20), "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub fn within(timeout: Duration) -> Context {
    Context { timeout: Some(timeout), ..Context::default() }
}

/// Skips visibly, or fails where nothing may be skipped.
pub fn skip(why: &str) {
    assert!(std::env::var_os("TIERCE_TESTS_STRICT").is_none_or(|v| v != "1"), "cannot run: {why}");
    eprintln!("SKIPPED: {why}");
}

/// Whether Debian's agents are here.
pub fn real_agents() -> bool {
    let there = Path::new("/usr/lib/ocf/resource.d/heartbeat/Dummy").exists();
    if !there {
        skip("package resource-agents is not installed");
    }
    there
}
