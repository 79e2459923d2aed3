//! The process as the system sees it: signals, the service manager, what it has given up.

#![allow(clippy::unwrap_used)] // helpers of tests, too

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::time::{Duration, Instant};

use common::{Daemon, SOON, Sites, World, aside, eventually_blocking, is_root, place};
use nix::sys::signal::Signal;
use serde_json::Value;

#[test]
fn the_service_manager_hears_ready_alive_reloading_and_stopping() {
    let place = place();
    let socket = place.path().join("notify.sock");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(SOON)).unwrap();
    let env = [("NOTIFY_SOCKET", socket.to_str().unwrap()), ("WATCHDOG_USEC", "1000000")];
    let data = place.path().join("arb");
    World::new("acme").add_to(&data);
    let daemon = Daemon::start_with(&data, "127.0.0.1:0", &[], &env);
    let next = |wanted: &str| {
        let start = Instant::now();
        loop {
            let mut bytes = [0; 4_096];
            let n = manager.recv(&mut bytes).unwrap_or_else(|e| panic!("no {wanted}: {e}"));
            let text = String::from_utf8_lossy(&bytes[..n]).into_owned();
            if text.lines().any(|l| l == wanted) {
                return text;
            }
            assert!(start.elapsed() < SOON, "no {wanted}");
        }
    };
    let ready = next("READY=1");
    assert!(ready.contains("STATUS=1 tenants: 1 served, 0 stopped"), "{ready}");
    for _ in 0..3 {
        next("WATCHDOG=1");
    }
    daemon.signal(Signal::SIGHUP);
    let reloading = next("RELOADING=1");
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    next("READY=1");
    assert_eq!(daemon.get("/readyz").0, 200);
    let (status, took) = daemon.terminate();
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(2), "{took:?}");
    next("STOPPING=1");
}

#[test]
fn a_frozen_process_gives_no_sign_of_life() {
    let place = place();
    let socket = place.path().join("notify.sock");
    let manager = UnixDatagram::bind(&socket).unwrap();
    let env = [("NOTIFY_SOCKET", socket.to_str().unwrap()), ("WATCHDOG_USEC", "400000")];
    let daemon = Daemon::start_with(&place.path().join("arb"), "127.0.0.1:0", &[], &env);
    daemon.signal(Signal::SIGSTOP);
    manager.set_nonblocking(true).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let mut bytes = [0; 4_096];
    while manager.recv(&mut bytes).is_ok() {}
    std::thread::sleep(Duration::from_secs(1));
    assert!(manager.recv(&mut bytes).is_err(), "a stopped process spoke");
    daemon.signal(Signal::SIGCONT);
    manager.set_nonblocking(false).unwrap();
    manager.set_read_timeout(Some(SOON)).unwrap();
    let n = manager.recv(&mut bytes).unwrap();
    assert!(n > 0);
}

#[tokio::test]
async fn two_signals_in_a_row_end_it_at_once_whichever_it_takes_first() {
    let place = place();
    let daemon = Daemon::start(&place.path().join("one"));
    let start = Instant::now();
    daemon.signal(Signal::SIGINT);
    let (status, _) = daemon.terminate();
    // The two signals may be taken as one when both come before the first is looked at.
    assert!(matches!(status.code(), Some(0 | 1)), "{status:?}");
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn privileges_are_dropped_and_every_step_is_shown() {
    if !is_root("dropping privileges") {
        return;
    }
    let place = place();
    let data = place.path().join("arb");
    let daemon = Daemon::start_with(&data, "127.0.0.1:0", &["--user", "nobody"], &[]);
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.child.id())).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_default().trim().to_owned()
    };
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap().uid.to_string();
    assert_eq!(field("Uid"), [nobody.as_str(); 4].join("\t"));
    assert_eq!(field("Groups"), "");
    for set in ["CapEff", "CapPrm", "CapAmb"] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
    assert_eq!((field("NoNewPrivs"), field("Seccomp")), ("1".to_owned(), "2".to_owned()));
    let (_, health) = daemon.get("/healthz");
    let health: Value = serde_json::from_str(&health).unwrap();
    let steps = health["hardening"].as_array().unwrap();
    for name in ["no-new-privileges", "landlock", "user", "seccomp", "capabilities"] {
        let step = steps.iter().find(|s| s["step"] == name).unwrap_or_else(|| panic!("no {name}"));
        // Landlock is the kernel's to have or not; it must say which.
        assert!(step["applied"] == true || name == "landlock", "{step}");
        assert!(!step["detail"].as_str().unwrap().is_empty());
    }

    // What root adds, the unprivileged daemon reads and serves.
    let world = World::new("acme");
    world.add_to(&data);
    let sites = Sites::form(&world, daemon.listen).await;
    let daemon = aside(move || {
        eventually_blocking("it is served", || daemon.state("acme") == "serving");
        daemon
    })
    .await;
    sites.stop().await;
    let (status, took) = aside(move || daemon.terminate()).await;
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(2), "{took:?}");
    // A directory of somebody else's is not taken over silently.
    let out = std::process::Command::new(common::BIN)
        .args(["run", "--listen", "127.0.0.1:0", "--user", "daemon", "--data"])
        .arg(&data)
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&out.stderr).contains("belongs to user"));
}

#[test]
fn the_control_socket_answers_what_it_knows_and_survives_nonsense() {
    let place = place();
    let daemon = Daemon::start(&place.path().join("arb"));
    let socket = daemon.data.join("control.sock");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&socket).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let ask = |line: &[u8]| -> Value {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let _ = stream.write_all(line);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut text = String::new();
        let _ = BufReader::new(stream).read_line(&mut text);
        serde_json::from_str(&text).unwrap_or(Value::Null)
    };
    let v1 = |rest: &str| format!("{{\"apiVersion\":\"tierce/v1\",{rest}}}\n");
    let status = ask(v1(r#""ask":"status","linear":false"#).as_bytes());
    assert_eq!((&status["reply"], &status["role"]), (&"status".into(), &"arbitrator".into()));
    let dump = ask(v1(r#""ask":"dump","reason":"asked""#).as_bytes());
    let path = dump["text"].as_str().unwrap();
    assert!(fs::metadata(path).unwrap().len() > 1_000, "{dump}");
    let grant = ask(v1(r#""ask":"grant","name":"web","to":"east","wait_ms":1"#).as_bytes());
    assert_eq!((&grant["reply"], &grant["code"]), (&"error".into(), &64.into()));
    assert!(grant["error"].as_str().unwrap().contains("holds no tickets"));
    for tenant in ["../../etc", "..", "", "a/b"] {
        let remove = v1(&format!(r#""ask":"tenant-remove","tenant":"{tenant}","purge":true"#));
        assert_eq!(ask(remove.as_bytes())["reply"], "error", "{tenant}");
        let add = v1(&format!(r#""ask":"tenant-add","tenant":"{tenant}""#));
        assert_eq!(ask(add.as_bytes())["reply"], "error", "{tenant}");
    }
    let long = vec![b'x'; 200_000];
    for nonsense in [&b"\n"[..], b"{}\n", b"\xff\xfe\n", &long] {
        let reply = ask(nonsense);
        assert!(reply.is_null() || reply["reply"] == "error", "{reply}");
    }
    assert_eq!(ask(v1(r#""ask":"tenant-list""#).as_bytes())["reply"], "tenants");
    let stop = ask(v1(r#""ask":"stop","release":false"#).as_bytes());
    assert_eq!(stop["reply"], "done");
    let mut daemon = daemon;
    assert_eq!(daemon.child.wait().unwrap().code(), Some(0));
}
