//! The real command with the real daemons: two sites and an arbitrator on loopback, all of them
//! this very program.

use std::fmt::Write as _;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::tempdir;

use super::support::{Run, tierce, tierce_at};

const PATIENCE: Duration = Duration::from_mins(1);

/// A daemon that ends with the test.
struct Daemon(Child);

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

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A file for a site. There is no guard and there are no resources: the words are tested here.
fn site(dir: &Path, name: &str, ports: [u16; 3]) -> PathBuf {
    let port = if name == "paris" { ports[0] } else { ports[1] };
    let root = dir.display();
    let mut file = format!(
        "tenant = \"shop\"\nsite = \"{name}\"\ndata = \"{root}/{name}\"\nca = \"{root}/ca\"\n\
         listen = \"127.0.0.1:{port}\"\nprofile = \"metro-fast\"\nrecorder = \"{root}/rec\"\n\
         guard = {{ last-resort = \"off\" }}\n"
    );
    for (port, member) in ports.into_iter().zip(["paris", "rome", "zurich"]) {
        let role = if member == "zurich" { "arbitrator" } else { "site" };
        let _ = write!(
            file,
            "[[member]]\nname = \"{member}\"\nrole = \"{role}\"\naddresses = [\"127.0.0.1:{port}\"]\n"
        );
    }
    file += "[[ticket]]\nname = \"web\"\nmode = \"manual\"\nstop-budget = \"300ms\"\n";
    let path = dir.join(format!("{name}.toml"));
    std::fs::write(&path, file).unwrap();
    path
}

fn until(what: &str, mut run: impl FnMut() -> Run) -> Run {
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

#[test]
fn a_ticket_is_granted_moved_and_revoked_in_a_real_cluster_that_a_member_joins() {
    let dir = tempdir().unwrap();
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
    let listen = format!("127.0.0.1:{}", ports[2]);
    let run = ["arbitrator", "run", "--data", text(&z), "--listen", &listen, "--user", "root"];
    let without_user = if is_root() { &run[..] } else { &run[..6] };
    let arbitrator = Daemon::start(without_user, &at("z.log"));
    let sites = ["paris", "rome"].map(|name| {
        let file = site(dir.path(), name, ports);
        Daemon::start(&["agent", "run", "--config", text(&file)], &at(&format!("{name}.log")))
    });

    let paris = at("paris/control.sock");
    until("the cluster", || tierce_at(&paris, &["status", "--check"]));
    until("the ticket", || tierce_at(&paris, &["tickets", "show", "web"]));
    let json = |args: &[&str]| tierce_at(&paris, &[&["-o", "json"], args].concat()).ok().json();
    let first = json(&["tickets", "grant", "web", "--to", "paris"])["term"].as_u64().unwrap();
    let moved = json(&["tickets", "move", "web", "--to", "rome"])["term"].as_u64().unwrap();
    assert!(moved > first, "terms only grow: {first}, {moved}");
    let ticket = json(&["tickets", "show", "web"]);
    assert_eq!((&ticket["site"], ticket["term"].as_u64()), (&"rome".into(), Some(moved)));
    let plan = json(&["tickets", "plan", "web", "--to", "paris"]);
    assert_eq!((&plan["from"], &plan["to"]), (&"rome".into(), &"paris".into()));
    tierce_at(&paris, &["tickets", "grant", "web", "--to", "oslo"]).failed(105);
    let history = json(&["tickets", "history", "web"]);
    assert!(history["decisions"].as_array().unwrap().len() >= 3, "{history}");

    // Over the network: a new member's certificate, once, and a renewal.
    let address = format!("127.0.0.1:{}", ports[0]);
    let invite = ["pki", "invite", "--ca", text(&ca), "--role", "site", "--name", "oslo"];
    let string = tierce(&[&invite[..], &["--address", &address]].concat()).ok().out;
    let (oslo, again) = (at("oslo"), at("again"));
    tierce(&["pki", "join", string.trim(), "--dir", text(&oslo)]).ok();
    tierce(&["pki", "join", string.trim(), "--dir", text(&again)]).failed(1);
    tierce(&["pki", "rotate", "--dir", text(&oslo), "--address", &address]).ok();

    tierce_at(&paris, &["tickets", "revoke", "web"]).ok();
    drop(sites);
    drop(arbitrator);
    tierce_at(&paris, &["status"]).failed(102);
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0)
}
