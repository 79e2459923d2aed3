//! What is wrong with the machine under an agent, as real processes: its clocks and its disk. A
//! clock that is stepped decides nothing, one that runs wrong stops its own site, and a disk that
//! takes no more stops the voter and all that runs behind it. (The list with its tests is in
//! docs/specification.md.)
//!
//! Clocks are set by libfaketime, which stands between a process and the system's clocks.

#[path = "agent/asking.rs"]
mod asking;
#[path = "agent/cluster.rs"]
mod cluster;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use asking::{SOON, grant, holder, move_to, must, quorate, text, ticket, until};
use cluster::{Cluster, SITES, may_run};
use serde_json::{Value, json};

/// The library, where the package puts it; or says why the test cannot run.
fn faketime() -> Option<PathBuf> {
    let places = fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(|e| e.path());
    let library = places.map(|p| p.join("faketime/libfaketimeMT.so.1")).find(|p| p.is_file());
    if library.is_none() {
        let strict = std::env::var("TIERCE_TESTS_STRICT").is_ok_and(|v| v == "1");
        assert!(!strict, "may not be skipped: it needs the package faketime");
        eprintln!("SKIPPED: it needs the package faketime");
    }
    library
}

/// Another wall clock, as a file says; the clocks that count are the system's.
fn wall_by(library: &Path, file: &Path) -> Vec<(&'static str, String)> {
    vec![
        ("LD_PRELOAD", library.display().to_string()),
        ("FAKETIME_TIMESTAMP_FILE", file.display().to_string()),
        ("FAKETIME_CACHE_DURATION", "1".to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
    ]
}

/// Steps the wall clock of whoever reads this file.
fn set(clock: &Path, offset: &str) {
    let new = clock.with_extension("new");
    fs::write(&new, format!("{offset}\n")).expect("written");
    fs::rename(new, clock).expect("set");
}

/// All clocks run at this rate.
fn all_at(library: &Path, rate: &str) -> Vec<(&'static str, String)> {
    vec![
        ("LD_PRELOAD", library.display().to_string()),
        ("FAKETIME", format!("+0 x{rate}")),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "0".to_owned()),
    ]
}

fn alarms(status: &Value) -> Vec<String> {
    let all = status["alarms"].as_array().cloned().unwrap_or_default();
    all.iter().map(|a| text(a, "text").to_owned()).collect()
}

fn status(cluster: &Cluster, site: &str) -> Value {
    cluster.ask(site, &json!({"ask": "status", "linear": false}))
}

/// T = 6 s: a busy machine, and a library between the agent and its clocks, lose no lease.
fn unhurried(text: &str) -> String {
    text.replace("metro-fast", "lan")
}

// --- clocks ---------------------------------------------------------------------------------

#[test]
fn a_wall_clock_that_is_stepped_by_an_hour_moves_nothing_and_keeps_nobody_out() {
    let Some(library) = faketime().filter(|_| may_run()) else { return };
    let [paris, rome] = SITES;
    let mut cluster = Cluster::new(|_, text| unhurried(&text));
    let clock = cluster.path("clock");
    set(&clock, "+0");
    let env = wall_by(&library, &clock);
    cluster.start_with(paris, &env);
    cluster.start(rome);
    for site in SITES {
        until(&cluster, site, "the cluster", quorate);
    }
    let done = must(&cluster, rome, &grant(paris, 20_000), "done");
    let term = &done["term"];
    for offset in ["+3600", "-3600"] {
        set(&clock, offset);
        // More than a lease time: what counts by the wall would have run out.
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(8) {
            assert!(cluster.runs_at(paris), "{offset}: it was stopped\n{}", cluster.logs());
            std::thread::sleep(Duration::from_millis(20));
        }
        let seen = ticket(&cluster, rome);
        assert_eq!((text(&seen, "site"), &seen["term"]), (paris, term), "{offset}: {seen:#}");
        // New handshakes: certificates are backdated by more than an hour.
        assert_eq!(cluster.terminate(rome), Some(0), "{}", cluster.logs());
        cluster.start(rome);
        until(&cluster, rome, "rome is let in again", quorate);
        // A note for whoever reads two logs side by side, and nothing else.
        let noted = until(&cluster, rome, "a note", |s| !alarms(s).is_empty());
        for alarm in alarms(&noted) {
            assert!(alarm.contains("the wall clock of paris differs by"), "{offset}: {alarm}");
        }
    }
    let all = alarms(&status(&cluster, paris));
    assert!(all.iter().all(|a| a.contains("the wall clock of rome differs by")), "{all:?}");
    assert!(cluster.runs_at(paris) && !cluster.log(paris).contains("the guard stops"));
}

#[test]
fn a_holder_whose_clocks_run_slow_beyond_rho_finds_out_and_stops_before_another_site_runs() {
    let Some(library) = faketime().filter(|_| may_run()) else { return };
    let [paris, rome] = SITES;
    let mut cluster = Cluster::new(|_, text| text);
    // 2.5 % where 1 % is allowed: it stands out of the slack after some four seconds.
    cluster.start_with(paris, &all_at(&library, "0.975"));
    cluster.start(rome);
    until(&cluster, rome, "the cluster", quorate);
    must(&cluster, rome, &grant(paris, 20_000), "done");
    let found = until(&cluster, paris, "it finds out", |s| {
        alarms(s).iter().any(|a| a.contains("this node's clock is not to be trusted"))
    });
    let all = alarms(&found).join("\n");
    for words in [
        "the clocks of 2 voters went ahead of this node's",
        "everything is stopped and no lease is renewed",
        "the clock of rome differs by",
        "the clock of zurich differs by",
    ] {
        assert!(all.contains(words), "{words} is not in {all}");
    }
    // `until` looks at every turn that the resource never runs at both sites.
    until(&cluster, rome, "it runs elsewhere", |s| {
        holder(s) == Some(rome) && cluster.runs_at(rome)
    });
    assert!(!cluster.runs_at(paris));
    // Restarted with a good clock, it is trusted again.
    assert_eq!(cluster.terminate(paris), Some(0), "{}", cluster.logs());
    cluster.start(paris);
    until(&cluster, paris, "paris is back", quorate);
    must(&cluster, rome, &move_to(paris), "done");
    assert!(cluster.runs_at(paris));
}

#[test]
fn a_voter_whose_clocks_run_fast_beyond_rho_is_named_and_moves_nothing() {
    let Some(library) = faketime().filter(|_| may_run()) else { return };
    let [paris, rome] = SITES;
    let mut cluster = Cluster::new(|_, text| unhurried(&text));
    cluster.start(paris);
    cluster.start_with(rome, &all_at(&library, "1.05"));
    until(&cluster, paris, "the cluster", quorate);
    let done = must(&cluster, paris, &grant(paris, 20_000), "done");
    let named = "the clock of rome differs by";
    until(&cluster, paris, "it is named", |s| alarms(s).iter().any(|a| a.contains(named)));
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(4) {
        assert!(cluster.runs_at(paris) && !cluster.runs_at(rome), "{}", cluster.logs());
        std::thread::sleep(Duration::from_millis(20));
    }
    let seen = ticket(&cluster, paris);
    assert_eq!((text(&seen, "site"), &seen["term"]), (paris, &done["term"]), "{seen:#}");
    // One voter that is wrong is that voter's fault: nobody distrusts himself for it.
    for site in SITES {
        let all = alarms(&status(&cluster, site)).join("\n");
        assert!(!all.contains("is not to be trusted"), "{site}: {all}");
        assert!(!all.contains("the clock of zurich differs by") || site == rome, "{site}: {all}");
    }
}

// --- the disk -------------------------------------------------------------------------------

/// Namespaces of this thread's own, for network and mounts; what it spawns is in them too.
fn own_namespaces() {
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("root may");
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).expect("root may");
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
    assert!(up.is_ok_and(|s| s.success()), "ip is there");
}

fn output(words: &[&str]) -> String {
    let out = Command::new(words[0]).args(&words[1..]).output().expect("it runs");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// Whether the service address is there, and the kernel lets traffic to it.
fn open_to_the_world() -> (bool, bool) {
    let rules = output(&["nft", "list", "table", "inet", "tierce"]);
    let address = output(&["ip", "-4", "addr", "show", "dev", "lo"]).contains("192.0.2.10/32");
    (address, rules.contains("192.0.2.10 timeout") || rules.contains("192.0.2.10 expires"))
}

#[test]
fn a_full_disk_ends_the_voter_behind_a_shut_gate_with_a_recording_and_its_code() {
    use std::io::Write as _;
    if !may_run() {
        return;
    }
    own_namespaces();
    let [paris, rome] = SITES;
    let mut cluster = Cluster::new(|site, text| match site {
        "rome" => {
            text + "[ticket.address]\nip = \"192.0.2.10\"\ninterface = \"lo\"\ngate = \"required\"\n"
        }
        _ => text,
    });
    let store = cluster.path("rome/store");
    fs::create_dir_all(&store).expect("made");
    nix::mount::mount(
        Some("tmpfs"),
        &store,
        Some("tmpfs"),
        nix::mount::MsFlags::empty(),
        Some("size=8m,mode=0700"),
    )
    .expect("mounted");
    for site in SITES {
        cluster.start(site);
    }
    until(&cluster, paris, "the cluster", quorate);
    must(&cluster, paris, &grant(rome, 20_000), "done");
    assert!(cluster.runs_at(rome));
    assert_eq!(open_to_the_world(), (true, true));

    let mut filler = fs::File::create(store.join("filler")).expect("made");
    while filler.write_all(&[0x5a; 4_096]).is_ok() {}
    // Decisions go on, and each must be in rome's journal before rome says so.
    let by = Instant::now() + SOON * 3;
    let padding = "x".repeat(200);
    let mut n = 0;
    while cluster.lives(rome) {
        assert!(Instant::now() < by, "it goes on without a disk\n{}", cluster.logs());
        n += 1;
        let set = json!({
            "ask": "set-attribute", "site": rome, "ticket": null,
            "name": format!("a{}", n % 40), "value": format!("{padding}{n}"),
        });
        let _ = cluster.ask(paris, &set);
        cluster.never_both();
    }
    let (address, gate) = open_to_the_world();
    assert_eq!((address, gate), (false, false), "after its end\n{}", cluster.logs());
    assert!(!cluster.runs_at(rome), "it still runs\n{}", cluster.logs());
    assert_eq!(cluster.ended(rome), Some(1), "{}", cluster.logs());
    let log = cluster.log(rome);
    for words in [
        "the member stops (R6): no space left",
        "free space: it begins again by itself",
        "the member cannot go on",
        "what runs here is stopped",
    ] {
        assert!(log.contains(words), "{words:?} was not said\n{log}");
    }
    let dumps = fs::read_dir(cluster.path("rome/dumps")).expect("dumps").flatten();
    let names: Vec<_> = dumps.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    assert!(names.iter().any(|n| n.contains("fatal")), "{names:?}");
    until(&cluster, paris, "it runs elsewhere", |s| holder(s) == Some(paris));
    until(&cluster, paris, "it runs elsewhere", |_| cluster.runs_at(paris));

    // Started again, as its service manager does, it waits, says for what, and can be told to end.
    // With room it goes on from what it had answered.
    for starts in 1..=2 {
        cluster.start(rome);
        let by = Instant::now() + SOON;
        while cluster.log(rome).matches("KiB are needed to begin").count() < starts {
            assert!(Instant::now() < by, "it does not say what it waits for\n{}", cluster.logs());
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(cluster.lives(rome), "it does not wait\n{}", cluster.logs());
        if starts == 1 {
            assert_eq!(cluster.terminate(rome), Some(0), "{}", cluster.logs());
        }
    }
    drop(filler);
    fs::remove_file(store.join("filler")).expect("removed");
    until(&cluster, rome, "rome is back", quorate);
    assert_eq!(status(&cluster, rome)["standing"], "taking-part");
}
