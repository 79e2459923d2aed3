//! Two sites and an arbitrator on loopback, all of them this very program.

use std::fmt::Write as _;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::support::{Run, tierce, tierce_at};

pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// A daemon that ends with the test.
pub(crate) struct Daemon(Child);

impl Daemon {
    fn start(args: &[&str], log: &Path) -> Self {
        let log = std::fs::File::create(log).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_tierce"))
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The cluster; its daemons end with it.
pub(crate) struct Cluster {
    /// Of paris, rome and zurich.
    pub(crate) ports: [u16; 3],
    /// Control sockets.
    pub(crate) paris: PathBuf,
    pub(crate) rome: PathBuf,
    /// Paris and rome.
    pub(crate) sites: [Option<Daemon>; 2],
    pub(crate) arbitrator: Option<Daemon>,
    /// The last to go.
    dir: TempDir,
}

impl Cluster {
    /// Forms it, with these lines on tickets in both files; `{site}` and `{dir}` are filled in.
    /// `prepare` puts into the directory what they need.
    pub(crate) fn form(tickets: &str, prepare: impl FnOnce(&Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path());
        let at = |name: &str| dir.path().join(name);
        let ca = at("ca");
        tierce(&["pki", "init", "--tenant", "shop", "--dir", text(&ca)]).ok();
        for (role, name, to) in [
            ("site", "paris", "paris/pki"),
            ("site", "rome", "rome/pki"),
            ("arbitrator", "zurich", "zm"),
        ] {
            let to = at(to);
            let args = ["--role", role, "--name", name, "--dir", text(&to)];
            tierce(&[&["pki", "issue", "--ca", text(&ca)][..], &args].concat()).ok();
        }
        // Free at this moment, and too short a time for another to draw the same three.
        let held = [(); 3].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        let ports = held.each_ref().map(|s| s.local_addr().unwrap().port());
        drop(held);
        let (z, zm) = (at("z"), at("zm"));
        let add = ["arbitrator", "tenant", "add", "shop", "--data", text(&z)];
        tierce(&[&add[..], &["--member-dir", text(&zm)]].concat()).ok();
        let (paris, rome) = (at("paris/control.sock"), at("rome/control.sock"));
        let sites = ["paris", "rome"].map(|name| {
            let file = site(dir.path(), name, ports, tickets);
            let log = at(&format!("{name}.log"));
            Some(Daemon::start(&["agent", "run", "--config", text(&file)], &log))
        });
        let mut cluster = Self { ports, paris, rome, sites, arbitrator: None, dir };
        cluster.start_arbitrator();
        until("the cluster", || tierce_at(&cluster.paris, &["status", "--check"]));
        until("the ticket", || tierce_at(&cluster.paris, &["tickets", "show", "web"]));
        cluster
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn start_arbitrator(&mut self) {
        let (z, log) = (self.at("z"), self.at("z.log"));
        let listen = format!("127.0.0.1:{}", self.ports[2]);
        let run = ["arbitrator", "run", "--data", text(&z), "--listen", &listen, "--user", "root"];
        let words = if is_root() { &run[..] } else { &run[..6] };
        self.arbitrator = Some(Daemon::start(words, &log));
    }

    /// What paris says.
    pub(crate) fn json(&self, args: &[&str]) -> serde_json::Value {
        tierce_at(&self.paris, &[&["-o", "json"], args].concat()).ok().json()
    }
}

/// A file for a site. There is no guard: the words are tested here.
fn site(dir: &Path, name: &str, ports: [u16; 3], tickets: &str) -> PathBuf {
    let port = if name == "paris" { ports[0] } else { ports[1] };
    let root = dir.display();
    let mut file = format!(
        "tenant = \"shop\"\nsite = \"{name}\"\ndata = \"{root}/{name}\"\nca = \"{root}/ca\"\n\
         listen = \"127.0.0.1:{port}\"\nprofile = \"metro-fast\"\nrecorder = \"{root}/rec\"\n\
         ocf-root = \"{root}/ocf\"\nguard = {{ last-resort = \"off\" }}\n"
    );
    for (port, member) in ports.into_iter().zip(["paris", "rome", "zurich"]) {
        let role = if member == "zurich" { "arbitrator" } else { "site" };
        let _ = write!(
            file,
            "[[member]]\nname = \"{member}\"\nrole = \"{role}\"\naddresses = [\"127.0.0.1:{port}\"]\n"
        );
    }
    file += &tickets.replace("{site}", name).replace("{dir}", &root.to_string());
    let path = dir.join(format!("{name}.toml"));
    std::fs::write(&path, file).unwrap();
    path
}

/// Runs it until it ends with zero.
pub(crate) fn until(what: &str, mut run: impl FnMut() -> Run) -> Run {
    let begun = Instant::now();
    loop {
        let run = run();
        if run.code == 0 {
            return run;
        }
        assert!(begun.elapsed() < PATIENCE, "{what} did not come: {run:#?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0)
}
