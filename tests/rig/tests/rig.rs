//! The rig keeps its word: the switch does as told, machines come and go, nothing stays.

#![allow(clippy::unwrap_used)] // a test that cannot go on says where

use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use tierce_rig::net::{Look, Net, Rule};
use tierce_rig::tierce::{Cluster, Options, THIRD, other};
use tierce_rig::{Disk, Machine, Mono, Programs, Stop, Witness, own_mounts, until};

const SOON: Duration = Duration::from_secs(10);

/// Whether this machine can run the test; says so when not.
fn may_run() -> bool {
    let why = if !nix::unistd::geteuid().is_root() {
        "it needs root: namespaces"
    } else if !std::path::Path::new("/dev/net/tun").exists() {
        "it needs /dev/net/tun"
    } else {
        return true;
    };
    let strict = std::env::var("TIERCE_TESTS_STRICT").is_ok_and(|v| v == "1");
    assert!(!strict, "may not be skipped: {why}");
    eprintln!("SKIPPED: {why}");
    false
}

fn tool() -> PathBuf {
    env!("CARGO_BIN_EXE_tierce-rig-tool").into()
}

/// A socket of a machine.
fn socket(net: &Net, machine: usize) -> UdpSocket {
    let bound = net.space(machine).with(|| UdpSocket::bind((Net::address(machine), 7)).unwrap());
    let socket = bound.unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    socket
}

fn send(from: &UdpSocket, to: usize, words: impl IntoIterator<Item = u32>) {
    for word in words {
        from.send_to(&word.to_be_bytes(), (Net::address(to), 7)).unwrap();
    }
}

/// Everything that arrives until nothing more does.
fn heard(at: &UdpSocket) -> Vec<u32> {
    let mut all = Vec::new();
    let mut bytes = [0; 4];
    while at.recv_from(&mut bytes).is_ok() {
        all.push(u32::from_be_bytes(bytes));
    }
    all
}

#[test]
fn the_switch_delays_by_a_tenth_of_a_millisecond_more_at_most_half_of_the_time() {
    if !may_run() {
        return;
    }
    let net = Net::new(2, &Rule::delayed(Duration::from_millis(1)), 1).unwrap();
    let mut trips = net.round_trips(0, 1, 200).unwrap();
    trips.sort_unstable();
    eprintln!("2 ms round trip: {:?} .. {:?} .. {:?}", trips[0], trips[100], trips[199]);
    assert!(trips[0] >= Duration::from_millis(2), "{:?}", trips[0]);
    // Two ways, two programs that have to wake up: a busy machine may be slower, not faster.
    assert!(trips[100] < Duration::from_millis(4), "{:?}", trips[100]);
}

#[test]
fn the_switch_cuts_one_way_or_both_loses_repeats_and_reorders_as_told() {
    if !may_run() {
        return;
    }
    let net = Net::new(3, &Rule::default(), 2).unwrap();
    let [a, b] = [socket(&net, 0), socket(&net, 1)];
    let set = |rule: Rule| net.switch().set(0, 1, rule);

    send(&a, 1, 0..50);
    assert_eq!(heard(&b), (0..50).collect::<Vec<_>>(), "in order, once");

    set(Rule { cut: true, ..Rule::default() });
    send(&a, 1, 0..5);
    send(&b, 0, 0..5);
    assert_eq!((heard(&b).len(), heard(&a).len()), (0, 5), "cut one way");
    net.isolate(1);
    send(&b, 0, 0..5);
    assert_eq!(heard(&a).len(), 0, "cut both ways");
    net.rejoin(1);

    let before = net.switch().count(0, 1);
    set(Rule { loss: 0.3, ..Rule::default() });
    let hundred = |n: u32| {
        send(&a, 1, n * 100..n * 100 + 100); // a socket holds some 200 of them
        heard(&b).len()
    };
    let arrived: usize = (0..10).map(hundred).sum();
    let counted = net.switch().count(0, 1) - before;
    assert!((600..800).contains(&arrived), "{arrived} of 1000 at 30 % loss");
    assert_eq!((counted.packets, counted.bytes), (1_000, 32_000));
    assert_eq!(counted.dropped as usize, 1_000 - arrived);

    set(Rule { duplicate: 1.0, ..Rule::default() });
    send(&a, 1, 0..20);
    assert_eq!(heard(&b).len(), 40, "all of them twice");

    let by = Duration::from_millis(20);
    set(Rule { reorder: 0.5, reorder_by: by, ..Rule::default() });
    send(&a, 1, 0..100);
    let got = heard(&b);
    assert!(got.len() == 100 && !got.is_sorted(), "{got:?}");

    let jitter = Duration::from_millis(5);
    set(Rule { jitter, ..Rule::default() });
    send(&a, 1, 0..100);
    assert!(heard(&b).is_sorted(), "jitter alone reordered");

    set(Rule { drop_if: Some(Look { at: 3, bytes: vec![7] }), ..Rule::default() });
    send(&a, 1, 0..10);
    assert_eq!(heard(&b).len(), 9, "the one that looks so is lost");
}

#[test]
fn what_was_sent_can_be_played_again_past_every_rule() {
    if !may_run() {
        return;
    }
    let net = Net::new(3, &Rule::default(), 8).unwrap();
    let [a, b] = [socket(&net, 0), socket(&net, 1)];
    net.switch().record();
    send(&a, 1, 0..3);
    assert_eq!(heard(&b), [0, 1, 2]);
    let tape = net.switch().recorded();
    let of_it: Vec<_> = tape.iter().filter(|p| (p.from, p.to) == (0, 1)).collect();
    assert_eq!(of_it.len(), 3, "{tape:?}");
    net.isolate(1);
    assert!(of_it.iter().all(|p| net.switch().inject(1, &p.bytes)));
    assert_eq!(heard(&b), [0, 1, 2], "once more, though it is cut off");
    assert!(net.switch().recorded().is_empty(), "the recording has ended");
}

#[test]
fn a_machine_has_its_own_processes_and_loses_all_of_them_with_its_power() {
    if !may_run() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let net = Net::new(2, &Rule::default(), 3).unwrap();
    let mut machine = Machine::new("paris", &tool(), net.space(0)).unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-c", "setsid sleep 100 & echo $$ $(ls /proc | grep -c '^[0-9]'); ip addr; wait"]);
    let log = dir.path().join("log");
    let _running = machine.start("a shell", shell, &log).unwrap();
    let said = until(SOON, || {
        let text = std::fs::read_to_string(&log).unwrap();
        text.contains("10.77.0.1/24").then_some(text)
    });
    let numbers: Vec<u32> =
        said.unwrap().lines().next().unwrap().split(' ').map(|n| n.parse().unwrap()).collect();
    assert!(numbers.iter().all(|n| *n < 20), "process numbers are its own: {numbers:?}");
    until(SOON, || machine.processes().iter().any(|(_, n)| n == "sleep").then_some(())).unwrap();
    let sleeper = machine.processes().into_iter().find(|(_, n)| n == "sleep").unwrap().0;
    machine.power_off();
    let state = std::fs::read_to_string(format!("/proc/{sleeper}/stat")).unwrap_or_default();
    assert!(state.is_empty() || state.contains(") Z"), "it outlived the machine: {state}");
    assert!(!machine.is_on() && machine.processes().is_empty());
    machine.power_on().unwrap();
    assert!(machine.run(Command::new("true")).is_ok());
    assert!(machine.run(Command::new("false")).is_err());
}

#[test]
fn the_witness_tells_when_it_was_killed_and_when_it_was_stopped() {
    if !may_run() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let net = Net::new(1, &Rule::default(), 4).unwrap();
    let mut machine = Machine::new("paris", &tool(), net.space(0)).unwrap();
    let agent = dir.path().join("witness");
    std::os::unix::fs::symlink(tool(), &agent).unwrap();
    let witness = Witness::of(dir.path().join("w.log"));
    let act = |machine: &Machine, action: &str| {
        let mut command = Command::new(&agent);
        command.arg(action).env("OCF_RESKEY_log", witness.log());
        machine.run(command).is_ok()
    };
    assert!(!act(&machine, "monitor"), "it runs before it was started");
    let begun = Mono::now();
    assert!(act(&machine, "start") && act(&machine, "start") && act(&machine, "monitor"));
    assert!(witness.runs());
    let asked = Instant::now();
    assert!(act(&machine, "stop") && !act(&machine, "monitor"));
    let stopped = Mono::now();
    eprintln!("a stop takes {:?}", asked.elapsed());
    assert!(act(&machine, "start"));
    std::thread::sleep(Duration::from_millis(50));
    let off = Mono::now();
    machine.power_off();
    let lives = witness.lives();
    assert_eq!(lives.len(), 2, "{lives:?}");
    assert!(begun < lives[0].from && lives[0].to < stopped, "{lives:?}");
    let late = lives[1].to.ms_since(off);
    assert!((-50.0..50.0).contains(&late), "killed at {off}, said to have lived {late} ms more");
    assert_eq!(witness.actions().iter().filter(|a| a.start).count(), 2, "the second found it up");
}

#[test]
fn a_full_disk_that_was_emptied_stays_so_when_its_power_is_cut() {
    if !may_run() {
        return;
    }
    own_mounts().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (at, megabyte) = (dir.path().join("disk"), vec![1; 1 << 20]);
    let disk = Disk::new(&at).unwrap();
    disk.fill().unwrap();
    assert!(std::fs::write(at.join("one"), &megabyte).is_err());
    disk.empty().unwrap();
    disk.cut().unwrap();
    disk.again().unwrap();
    std::fs::write(at.join("two"), &megabyte).unwrap();
}

#[test]
fn a_disk_is_back_as_soon_as_who_has_it_open_lets_go() {
    if !may_run() {
        return;
    }
    own_mounts().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("disk");
    let disk = Disk::new(&at).unwrap();
    let held = std::fs::File::open(&at).unwrap();
    let dying = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        drop(held);
    });
    disk.cut().unwrap();
    disk.again().unwrap();
    dying.join().unwrap();
    std::fs::write(at.join("one"), "back").unwrap();
}

/// The programs of the workspace: built here and now if they are not there yet.
fn programs() {
    for name in ["tierce", "tierce-agent", "tierce-guard", "tierce-arbitrator"] {
        let folder = Programs::folder().unwrap();
        if folder.path(name).is_ok() {
            continue;
        }
        let mut build = Command::new(std::env::var("CARGO").unwrap_or("cargo".into()));
        build.args(["build", "-q", "-p", name]);
        if tool().parent().is_some_and(|p| p.ends_with("release")) {
            build.arg("--release");
        }
        assert!(build.status().is_ok_and(|s| s.success()), "{name} is not built");
    }
}

#[test]
fn a_cut_holder_is_followed_by_the_other_site_and_the_witness_never_ran_twice() {
    if !may_run() {
        return;
    }
    programs();
    let seed = 5;
    let cluster = Cluster::start(Options::one_ticket("web", seed)).unwrap();
    let begun = Mono::now();
    cluster.grant("web", 0).unwrap();
    let holder = cluster.calm("web").unwrap();
    let mut grants = cluster.watch_grants(other(holder));
    let cut = Mono::now();
    cluster.net().isolate(holder);
    let granted = grants.first(SOON).unwrap_or_else(|| panic!("none\n{}", cluster.tails()));
    eprintln!("cut -> granted: {:.1} ms", granted.ms_since(cut));
    until(SOON, || cluster.witness(other(holder), "web").runs().then_some(())).unwrap();
    cluster.net().rejoin(holder);
    cluster.calm("web").unwrap();
    assert_eq!(cluster.overlap("web", begun), Duration::ZERO, "{:?}", cluster.lives("web"));
    assert!(cluster.lives("web").iter().all(|lives| !lives.is_empty()), "it ran at both sites");
}

#[test]
fn a_member_that_was_given_another_build_speaks_what_that_one_can() {
    if !may_run() {
        return;
    }
    programs();
    let dir = tempfile::tempdir().unwrap();
    let these = Programs::find().unwrap();
    let builds = vec![these.clone(), these.held_back(dir.path().join("previous")).unwrap()];
    let mut cluster = Cluster::start(Options { builds, ..Options::one_ticket("web", 8) }).unwrap();
    assert!(cluster.versions().into_keys().eq(["V2".to_owned()]), "{:?}", cluster.versions());
    cluster.upgrade(THIRD).unwrap();
    // Two connections, told by both of their ends.
    let spoken = || cluster.versions().get("V1").is_some_and(|n| *n >= 4).then_some(());
    until(SOON, spoken).unwrap_or_else(|| panic!("{:?}", cluster.versions()));
    cluster.formed().unwrap();
    cluster.grant("web", 0).unwrap();
    cluster.calm("web").unwrap();
}

#[test]
fn a_witness_does_with_its_stop_as_it_was_told() {
    if !may_run() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let net = Net::new(1, &Rule::default(), 9).unwrap();
    let machine = Machine::new("paris", &tool(), net.space(0)).unwrap();
    let agent = dir.path().join("witness");
    std::os::unix::fs::symlink(tool(), &agent).unwrap();
    let witness = Witness::of(dir.path().join("w.log"));
    let act = |action: &str| {
        let mut command = Command::new(&agent);
        command.arg(action).env("OCF_RESKEY_log", witness.log());
        machine.run(command).is_ok()
    };
    assert!(act("start"));
    witness.set_stop(Stop::Fails).unwrap();
    assert!(!act("stop") && act("monitor"), "a stop that fails leaves it running");
    witness.set_stop(Stop::Takes(Duration::from_millis(80))).unwrap();
    let asked = Instant::now();
    assert!(act("stop") && !act("monitor"));
    assert!(asked.elapsed() >= Duration::from_millis(80));
    assert_eq!(witness.odd_stops(), 2);
}

#[test]
fn the_witness_sees_two_sites_run_at_once_when_there_is_no_guard() {
    if !may_run() {
        return;
    }
    programs();
    let options = Options { guarded: false, ..Options::one_ticket("web", 6) };
    let mut cluster = Cluster::start(options).unwrap();
    let begun = Mono::now();
    cluster.grant("web", 0).unwrap();
    let holder = cluster.calm("web").unwrap();
    cluster.kill_daemon(holder);
    let follows = || cluster.witness(other(holder), "web").runs().then_some(());
    until(SOON, follows).unwrap_or_else(|| panic!("no takeover\n{}", cluster.tails()));
    std::thread::sleep(Duration::from_millis(100));
    let overlap = cluster.overlap("web", begun);
    eprintln!("without a guard: {overlap:?} so far");
    assert!(overlap > Duration::from_millis(50), "a rig that sees nothing proves nothing");
}
