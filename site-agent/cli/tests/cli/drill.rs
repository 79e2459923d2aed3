//! Drills with real daemons: there and back, killed in the middle, ended, refused.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::tempdir;

use super::support::{Run, tierce, tierce_at};
use super::world::{Cluster, PATIENCE, text, until};

/// One resource per site: a file that says that it runs. Its stop takes as long as `slow` says.
const TICKET: &str = r#"
[[ticket]]
name = "web"
mode = "manual"
stop-budget = "300ms"

[[ticket.resource]]
id = "flag"
agent = "ocf:test:flag"
monitor-interval = "1s"
params = { state = "{dir}/runs-{site}", slow = "{dir}/slow" }
"#;

const AGENT: &str = r#"#!/bin/sh
case "$1" in
start) touch "$OCF_RESKEY_state" ;;
stop) if [ -f "$OCF_RESKEY_slow" ]; then sleep 0.15; fi; rm -f "$OCF_RESKEY_state" ;;
monitor) [ -f "$OCF_RESKEY_state" ] || exit 7 ;;
validate-all) ;;
meta-data) cat <<'EOF'
<?xml version="1.0"?>
<resource-agent name="flag" version="1.0"><version>1.0</version>
<longdesc lang="en">A file.</longdesc><shortdesc lang="en">a file</shortdesc>
<parameters><parameter name="state"><content type="string"/></parameter>
<parameter name="slow"><content type="string"/></parameter></parameters>
<actions><action name="start" timeout="5s"/><action name="stop" timeout="1s"/>
<action name="monitor" timeout="2s" interval="1s"/><action name="meta-data" timeout="5s"/>
<action name="validate-all" timeout="5s"/></actions></resource-agent>
EOF
;;
*) exit 3 ;;
esac
"#;

/// A cluster in which paris runs web.
fn cluster() -> Cluster {
    let c = Cluster::form(TICKET, |dir| {
        let dir = dir.join("ocf/resource.d/test");
        std::fs::create_dir_all(&dir).unwrap();
        let script = dir.join("flag");
        std::fs::write(&script, AGENT).unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    });
    tierce_at(&c.paris, &["tickets", "grant", "web", "--to", "paris"]).ok();
    assert!(c.at("runs-paris").exists() && !c.at("runs-rome").exists());
    c
}

/// Waits until everybody could lose anybody, by the word of both sites: what was broken before has
/// settled.
fn good_day(c: &Cluster) {
    let check = ["drill", "check", "--ticket", "web", "--observer", text(&c.rome)];
    until("a good day", || tierce_at(&c.paris, &check));
}

/// Waits until the ticket is as it should be; its view.
fn ticket(c: &Cluster, what: &str, good: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let seen = c.json(&["tickets", "show", "web"]);
        if good(&seen) {
            return seen;
        }
        assert!(begun.elapsed() < PATIENCE, "{what} did not come: {seen:#}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn is_at(seen: &Value, site: &str) -> bool {
    seen["site"] == site && seen["state"] == "held"
}

/// The service runs there, or will in a moment: a ticket is held from the decision on, before its
/// service has started.
fn runs_at(c: &Cluster, site: &str, and_not_at: &str) {
    let begun = Instant::now();
    loop {
        let other = c.at(&format!("runs-{and_not_at}")).exists();
        let there = c.at(&format!("runs-{site}")).exists();
        if there && !other {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "at {site}: {there}, at {and_not_at}: {other}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Nothing is left that somebody would have to find.
fn is_clean(seen: &Value) {
    assert_eq!(seen["state"], "held", "{seen:#}");
    assert!(seen["hold"].is_null(), "a hold is left: {seen:#}");
}

/// A drill under way; ended if the test fails.
struct Drill(Child);

impl Drill {
    fn begin(c: &Cluster, args: &[&str]) -> Self {
        Self::alone(c, &[&["--observer", text(&c.rome)], args].concat())
    }

    /// Only paris is asked.
    fn alone(c: &Cluster, args: &[&str]) -> Self {
        let line = ["--socket", text(&c.paris), "--yes", "-o", "json", "drill", "run"];
        // Other tests and builds share the machine: the times are shown, not held to, here.
        let scope =
            ["switch-over", "--ticket", "web", "--baseline", "500ms", "--allowance", "20000"];
        let child = Command::new(env!("CARGO_BIN_EXE_tierce"))
            .args([&line[..], &scope, args].concat())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self(child)
    }

    /// Waits until the ticket is as it should be; a drill that ends before shows why.
    fn until(mut self, c: &Cluster, what: &str, good: impl Fn(&Value) -> bool) -> Self {
        let begun = Instant::now();
        loop {
            let seen = c.json(&["tickets", "show", "web"]);
            if good(&seen) {
                return self;
            }
            let ended = self.0.try_wait().unwrap().is_some();
            assert!(!ended, "{what} did not come: {:#?}", self.end());
            assert!(begun.elapsed() < PATIENCE, "{what} did not come: {seen:#}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id().cast_signed()), signal).unwrap();
    }

    fn end(mut self) -> Run {
        let (stdout, stderr) = (self.0.stdout.take().unwrap(), self.0.stderr.take().unwrap());
        let read = |mut from: Box<dyn std::io::Read + Send>| {
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                from.read_to_end(&mut bytes).unwrap();
                bytes
            })
        };
        let (out, err) = (read(Box::new(stdout)), read(Box::new(stderr)));
        let status = self.0.wait().unwrap();
        let (stdout, stderr) = (out.join().unwrap(), err.join().unwrap());
        Run::of(&std::process::Output { status, stdout, stderr }, &["drill", "run"])
    }
}

impl Drop for Drill {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Takes connections for as long as it is told to.
struct Service {
    url: String,
    open: Arc<AtomicBool>,
}

impl Service {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let open = Arc::new(AtomicBool::new(true));
        let answers = open.clone();
        // Ends with the test's process.
        std::thread::spawn(move || {
            use std::io::{Read as _, Write as _};
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut question = [0; 512];
                let _ = stream.read(&mut question);
                let good = answers.load(Ordering::SeqCst);
                let status = if good { "200 OK" } else { "503 Service Unavailable" };
                let _ = stream.write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes());
            }
        });
        Self { url, open }
    }
}

#[test]
fn a_switch_over_goes_there_and_back_proves_it_and_is_refused_on_a_bad_day() {
    let c = cluster();
    let rome = text(&c.rome);
    let (service, dir) = (Service::start(), tempdir().unwrap());
    let report = text(dir.path());
    good_day(&c);
    let check = ["drill", "check", "--ticket", "web", "--observer", rome];
    let checked = c.json(&check);
    assert_eq!((&checked["passed"], &checked["to"]), (&true.into(), &"rome".into()));

    let before = c.json(&["tickets", "show", "web"]);
    let args = ["--to", "rome", "--hold", "1s", "--probe", &service.url, "--report", report];
    let run = Drill::begin(&c, &args).end().ok();
    let r = run.json();
    assert_eq!((&r["verdict"], &r["overlap_ms"]), (&"passed".into(), &0.0.into()), "{run:#?}");
    let phases = r["phases"].as_array().unwrap();
    let names: Vec<&str> = phases.iter().filter_map(|p| p["name"].as_str()).collect();
    assert_eq!(names, ["baseline", "move to rome", "hold at rome", "switch back to paris"]);
    assert!(phases.iter().all(|p| p["passed"] == true && p["rto_ms"].is_f64()), "{r:#}");
    assert!(phases[1]["predicted_ms"].as_f64().unwrap() > 0.0, "{r:#}");
    let all = |list: &str| r[list].as_array().unwrap().iter().all(|c| c["passed"] == true);
    assert!(all("preflight") && all("validation"), "{r:#}");
    assert!(r["score"]["total"].as_u64().unwrap() >= 90, "{:#}", r["score"]);
    assert!(r["lanes"].as_array().unwrap().len() >= 3, "paris, rome, paris: {:#}", r["lanes"]);
    assert!(!r["operator"].as_str().unwrap().is_empty() && !r["digest"].is_null());
    let after = c.json(&["tickets", "show", "web"]);
    is_clean(&after);
    assert!(is_at(&after, "paris") && after["term"].as_u64() > before["term"].as_u64());
    assert_eq!(before["policy"], after["policy"]);
    assert!(c.at("runs-paris").exists() && !c.at("runs-rome").exists());

    // With nobody at rome to ask: the ledger's word, and a lower score.
    good_day(&c);
    let run = Drill::alone(&c, &["--to", "rome", "--hold", "500ms"]).end().ok();
    let alone = run.json();
    assert_eq!(alone["verdict"], "passed", "{run:#?}");
    assert!(alone["score"]["total"].as_u64() < r["score"]["total"].as_u64(), "{run:#?}");
    assert!(alone["score"].to_string().contains("not looked from: rome's own agent"), "{run:#?}");

    // The report is read back in all its forms.
    let page = tierce(&["drill", "report", report]).ok().out;
    assert!(page.contains("drill switch-over (L4): passed") && page.contains("score: "), "{page}");
    let junit = tierce(&["drill", "report", report, "-o", "junit"]).ok().out;
    assert_eq!(junit, std::fs::read_to_string(dir.path().join("junit.xml")).unwrap());
    assert!(junit.contains("failures=\"0\""), "{junit}");
    let html = tierce(&["drill", "report", report, "-o", "html"]).ok().out;
    assert_eq!(html, std::fs::read_to_string(dir.path().join("report.html")).unwrap());
    let again = tierce(&["drill", "report", report, "-o", "json"]).ok().json();
    assert_eq!(again["phases"], r["phases"]);

    // What a loss would do: it is a person's ticket, so nothing is promised.
    let plan = c.json(&["drill", "run", "plan", "--site", "paris"]);
    assert_eq!(
        (&plan["verdict"], &plan["losses"][0]["unattended"]),
        (&"passed".into(), &false.into())
    );
    tierce_at(&c.paris, &["tickets", "set", "web", "--mode", "auto"]).ok();
    let plan = c.json(&["drill", "run", "plan", "--site", "paris"]);
    let loss = &plan["losses"][0];
    assert_eq!((&loss["unattended"], &loss["to"]), (&true.into(), &"rome".into()), "{plan:#}");
    assert!(loss["predicted_ms"].as_u64().unwrap() >= 1_000, "T is a second: {loss:#}");

    // A bad day: held in place.
    tierce_at(&c.paris, &["tickets", "hold", "web", "--note", "backup"]).ok();
    let term = c.json(&["tickets", "show", "web"])["term"].clone();
    let run = Drill::begin(&c, &["--report", report]).end().failed(113);
    assert!(run.err.contains("backup"), "{run:#?}");
    assert_eq!(run.json()["verdict"], "refused");
    tierce_at(&c.paris, &check).failed(113);
    assert_eq!(c.json(&["tickets", "show", "web"])["term"], term, "it was touched");
    let page = tierce(&["drill", "report", report]).ok().out;
    assert!(page.contains("drill switch-over (L4): refused"), "{page}");
    tierce_at(&c.paris, &["tickets", "resume", "web"]).ok();
    // Another one: there is no such site, and no such ticket.
    Drill::begin(&c, &["--to", "oslo"]).end().failed(113);
    tierce_at(&c.paris, &["drill", "check", "--ticket", "none"]).failed(105);
}

#[test]
fn a_conductor_that_is_killed_leaves_nothing_but_a_ticket_at_one_site() {
    let c = cluster();
    // While it holds at rome.
    good_day(&c);
    let drill = Drill::begin(&c, &["--hold", "1h"]);
    let drill = drill.until(&c, "the move to rome", |t| is_at(t, "rome"));
    drill.signal(Signal::SIGKILL);
    assert_eq!(drill.end().code, -1, "it was killed");
    let after = ticket(&c, "rome", |t| is_at(t, "rome"));
    is_clean(&after);
    runs_at(&c, "rome", "paris");
    tierce_at(&c.paris, &["drill", "check", "--ticket", "web"]).ok();
    tierce_at(&c.paris, &["tickets", "move", "web", "--to", "paris"]).ok();

    // While it moves: the stop is slow, so the handover is seen.
    std::fs::write(c.at("slow"), "").unwrap();
    good_day(&c);
    let drill = Drill::begin(&c, &["--hold", "1h"]);
    let moving = |t: &Value| t["state"] == "handover" || is_at(t, "rome");
    let drill = drill.until(&c, "the handover", moving);
    drill.signal(Signal::SIGKILL);
    assert_eq!(drill.end().code, -1, "it was killed");
    let after = ticket(&c, "an end of the move", |t| is_at(t, "rome"));
    is_clean(&after);
    std::fs::remove_file(c.at("slow")).unwrap();
    tierce_at(&c.paris, &["drill", "check", "--ticket", "web", "--to", "paris"]).ok();
    tierce_at(&c.paris, &["tickets", "move", "web", "--to", "paris"]).ok();
    assert!(c.at("runs-paris").exists() && !c.at("runs-rome").exists());
}

#[test]
fn a_drill_that_is_ended_goes_back_says_what_is_left_and_is_no_success() {
    let mut c = cluster();
    let home = |c: &Cluster, run: &Run| {
        let r = run.json();
        assert_eq!(r["verdict"], "aborted", "{run:#?}");
        let left = r["left"].as_str().unwrap();
        assert!(left.starts_with("nothing: "), "{left}");
        let after = c.json(&["tickets", "show", "web"]);
        is_clean(&after);
        assert!(is_at(&after, "paris"), "{after:#}");
        assert!(c.at("runs-paris").exists() && !c.at("runs-rome").exists());
        r
    };
    // The operator's key, at the other site.
    good_day(&c);
    let drill = Drill::begin(&c, &["--hold", "1h"]);
    let drill = drill.until(&c, "the move to rome", |t| is_at(t, "rome"));
    drill.signal(Signal::SIGINT);
    let run = drill.end();
    assert_eq!(run.code, 130, "{run:#?}");
    let r = home(&c, &run);
    assert!(r["stopped_early"].as_str().unwrap().contains("SIGINT"), "{r:#}");

    // The operator's key, in the middle of the move.
    std::fs::write(c.at("slow"), "").unwrap();
    good_day(&c);
    let drill = Drill::begin(&c, &["--hold", "1h"]);
    let moving = |t: &Value| t["state"] == "handover" || is_at(t, "rome");
    let drill = drill.until(&c, "the handover", moving);
    drill.signal(Signal::SIGTERM);
    let run = drill.end();
    assert_eq!(run.code, 130, "{run:#?}");
    home(&c, &run);
    std::fs::remove_file(c.at("slow")).unwrap();

    // The service answers no more.
    let service = Service::start();
    let drill = Drill::begin(&c, &["--hold", "1h", "--budget", "6s", "--probe", &service.url]);
    let drill = drill.until(&c, "the move to rome", |t| is_at(t, "rome"));
    service.open.store(false, Ordering::SeqCst);
    let run = drill.end();
    assert_eq!(run.code, 1, "{run:#?}");
    let r = home(&c, &run);
    assert!(r["stopped_early"].as_str().unwrap().contains("no answer"), "{r:#}");
    assert!(r["score"]["total"].as_u64().unwrap() < 100);

    // A second fault: the arbitrator is lost.
    good_day(&c);
    let drill = Drill::begin(&c, &["--hold", "1h"]);
    let drill = drill.until(&c, "the move to rome", |t| is_at(t, "rome"));
    c.arbitrator = None;
    let run = drill.end();
    assert_eq!(run.code, 1, "{run:#?}");
    let r = home(&c, &run);
    assert!(r["stopped_early"].as_str().unwrap().contains("zurich"), "{r:#}");
    // And with it lost no drill is begun.
    Drill::begin(&c, &[]).end().failed(113);
    c.start_arbitrator();

    // Its home is lost: there is no safe way back, so it stays, and that is said.
    good_day(&c);
    let drill = Drill::begin(&c, &["--hold", "1h"]);
    let drill = drill.until(&c, "the move to rome", |t| is_at(t, "rome"));
    c.sites[0] = None;
    let run = drill.end();
    assert_eq!(run.code, 1, "{run:#?}");
    let r = run.json();
    let left = r["left"].as_str().unwrap();
    assert!(left.starts_with("the ticket is not at paris: it is at rome"), "{left}");
    let after = tierce_at(&c.rome, &["tickets", "show", "web", "-o", "json"]).ok().json();
    assert!(is_at(&after, "rome"), "{after:#}");
    is_clean(&after);
}

#[test]
fn a_drill_that_is_none_and_a_report_that_is_none_say_what_there_is() {
    let list = tierce(&["drill", "list"]).ok().out;
    for word in ["plan", "lab", "switch-over", "L0", "L1", "L4", "not built yet"] {
        assert!(list.contains(word), "{word}: {list}");
    }
    let json = tierce(&["drill", "list", "-o", "json"]).ok().json();
    assert_eq!(json["drills"].as_array().unwrap().len(), 3);
    for name in ["L2", "L3", "L5", "canary", "nonsense"] {
        let run = tierce(&["drill", "run", name, "--ticket", "web"]).failed(105);
        assert!(run.err.contains("switch-over (L4)"), "{run:#?}");
    }
    tierce(&["drill", "run", "switch-over"]).failed(64);
    let probe = ["drill", "run", "switch-over", "--ticket", "web", "--probe", "web:80"];
    assert!(tierce(&probe).failed(64).err.contains("tcp://HOST:PORT"));
    tierce(&["status", "-o", "junit"]).failed(64);
    let dir = tempdir().unwrap();
    tierce(&["drill", "report", text(dir.path())]).failed(105);
    let file = dir.path().join("report.json");
    for bad in ["", "{", "{}", "[]", "\u{1b}[31m", "{\"apiVersion\":\"tierce/v1\"}"] {
        std::fs::write(&file, bad).unwrap();
        let run = tierce(&["drill", "report", text(dir.path())]).failed(78);
        assert!(!run.err.contains('\u{1b}') && run.out.is_empty(), "{run:#?}");
    }
}
