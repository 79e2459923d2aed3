//! The gate in real network namespaces, with probes every millisecond.
#![allow(clippy::unwrap_used)] // all of it is test code

mod lab;

use lab::{Lab, OTHER, Prober, V4, V6, addr, last_answer, may_run, now, settle, sh};
use std::net::IpAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tierce_gate::vip::Vip;
use tierce_gate::{Deadline, Gate, GateError, Options, Renewal, Scope};

const MS: i64 = 1_000_000;

fn open(options: Options, addresses: &[&str]) -> Gate {
    let mut gate = Gate::open(options).unwrap();
    for address in addresses {
        gate.protect(addr(address)).unwrap();
    }
    gate
}

/// Milliseconds from b to a, with sign and fraction.
fn ms(a: u64, b: u64) -> f64 {
    (a.cast_signed() - b.cast_signed()) as f64 / MS as f64
}

fn shuts_when_not_renewed(address: &'static str) {
    let lab = Lab::new();
    let mut offsets = vec![];
    lab.at_holder(|| {
        let mut gate = open(Options::default(), &[address]);
        for lease in [400u64, 413, 450, 477, 503] {
            gate.renew_for(addr(address), Duration::from_secs(5)).unwrap();
            let prober = Prober::start(&lab, address);
            settle();
            let deadline = Deadline::after(Duration::from_millis(lease));
            gate.renew(addr(address), deadline).unwrap();
            std::thread::sleep(Duration::from_millis(lease + 150));
            let probes = prober.stop();
            let answered = probes.iter().filter(|p| p.answered.is_some()).count();
            assert!(answered > 100, "only {answered} answers while open");
            offsets.push(ms(last_answer(&probes), deadline.0));
            let late = |p: &&lab::Probe| p.sent.cast_signed() > deadline.0.cast_signed() + 20 * MS;
            assert!(probes.iter().filter(late).count() > 50, "probes went on");
        }
    });
    println!("{address}: last answer against the end of the lease, ms: {offsets:.2?}");
    for offset in offsets {
        assert!(offset <= 20.0, "open {offset} ms past the lease");
        assert!(offset >= -150.0, "shut {offset} ms before the end");
    }
}

#[test]
fn an_ipv4_address_shuts_at_the_end_of_its_lease_by_itself() {
    if may_run() {
        shuts_when_not_renewed(V4);
    }
}

#[test]
fn an_ipv6_address_shuts_at_the_end_of_its_lease_by_itself() {
    if may_run() {
        shuts_when_not_renewed(V6);
    }
}

fn renewals_lose_nothing(renewal: Renewal) {
    let lab = Lab::new();
    lab.at_holder(|| {
        let mut gate = open(Options { renewal, ..Options::default() }, &[V4, V6]);
        let both = [addr(V4), addr(V6)];
        gate.renew_many(&both, Deadline::after(Duration::from_secs(1))).unwrap();
        settle();
        let probers = [Prober::start(&lab, V4), Prober::start(&lab, V6)];
        settle();
        let begun = now();
        let start = Instant::now();
        let mut longest = Duration::ZERO;
        while start.elapsed() < Duration::from_secs(5) {
            let call = Instant::now();
            gate.renew_many(&both, Deadline::after(Duration::from_secs(1))).unwrap();
            longest = longest.max(call.elapsed());
            std::thread::sleep(Duration::from_millis(50));
        }
        for prober in probers {
            let probes: Vec<_> = prober.stop().into_iter().filter(|p| p.sent > begun).collect();
            let lost = probes.iter().filter(|probe| probe.answered.is_none()).count();
            println!("{renewal:?}: {} probes, {lost} lost, longest call {longest:?}", probes.len());
            assert!(probes.len() > 1000, "the prober ran");
            assert_eq!(lost, 0);
        }
    });
}

#[test]
fn renewals_by_update_lose_no_probe() {
    if may_run() {
        renewals_lose_nothing(Renewal::Auto);
    }
}

#[test]
fn renewals_by_replacement_lose_no_probe() {
    if may_run() {
        renewals_lose_nothing(Renewal::Replace);
    }
}

const ROLE: &str = "TIERCE_GATE_TEST_NETNS";

/// Not a test by itself: a process that keeps the gate open until something ends it.
#[test]
fn role_of_a_holder() {
    let Ok(namespace) = std::env::var(ROLE) else { return };
    lab::enter(&namespace);
    let mut gate = open(Options::default(), &[V4]);
    loop {
        gate.renew_for(addr(V4), Duration::from_millis(300)).unwrap();
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn shuts_after(signal: nix::sys::signal::Signal) {
    let lab = Lab::new();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "role_of_a_holder"]).env(ROLE, &lab.holder).stdout(Stdio::null());
    let mut holder: Child = command.spawn().unwrap();
    let prober = Prober::start(&lab, V4);
    std::thread::sleep(Duration::from_millis(800));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(holder.id().cast_signed()), signal).unwrap();
    let gone = now();
    std::thread::sleep(Duration::from_millis(600));
    let probes = prober.stop();
    let _ = holder.kill();
    holder.wait().unwrap();
    let after = ms(last_answer(&probes), gone);
    println!("{signal}: last answer {after:.2} ms after it, lease 300 ms, renewed every 50 ms");
    assert!(after > 0.0, "it was open when the signal came");
    assert!(after <= 320.0, "lease + 20 ms");
}

#[test]
fn the_gate_shuts_by_itself_when_its_process_is_killed() {
    if may_run() {
        shuts_after(nix::sys::signal::Signal::SIGKILL);
    }
}

#[test]
fn the_gate_shuts_by_itself_when_its_process_is_frozen() {
    if may_run() {
        shuts_after(nix::sys::signal::Signal::SIGSTOP);
    }
}

#[test]
fn shut_works_at_once_and_other_addresses_are_left_alone() {
    if !may_run() {
        return;
    }
    let lab = Lab::new();
    let (guarded, other) = (Prober::start(&lab, V4), Prober::start(&lab, OTHER));
    let (opened, shut) = lab.at_holder(|| {
        let mut gate = open(Options::default(), &[V4, V6]);
        gate.renew_for(addr(V4), Duration::from_mins(1)).unwrap();
        settle();
        let opened = now();
        settle();
        gate.shut(addr(V4)).unwrap();
        let shut = now();
        assert!(gate.state().unwrap().iter().all(|guarded| guarded.remaining.is_none()));
        gate.shut(addr(V4)).unwrap(); // again is as good
        settle();
        (opened, shut)
    });
    let (guarded, other) = (guarded.stop(), other.stop());
    let answered = |probes: &[lab::Probe], from: u64, to: u64| {
        let within = probes.iter().filter(|p| p.sent > from && p.sent < to);
        (within.clone().filter(|p| p.answered.is_some()).count(), within.count())
    };
    let (open_answers, open_probes) = answered(&guarded, opened, shut - 5_000_000);
    assert!(open_probes > 50 && open_answers == open_probes, "{open_answers} of {open_probes}");
    let (late, probes) = answered(&guarded, shut, u64::MAX);
    assert!(probes > 50, "probes went on");
    assert_eq!(late, 0, "a probe sent after shut() returned was answered");
    let (answers, probes) = answered(&other, opened, u64::MAX);
    assert!(probes > 50 && answers == probes, "unguarded: {answers} of {probes}");
}

#[test]
fn a_shut_address_does_not_answer_arp_and_an_open_one_does() {
    if !may_run() {
        return;
    }
    let lab = Lab::new();
    let neighbour = || {
        let c = &lab.client;
        sh(&format!("ip -n {c} neigh flush dev veth0"));
        let prober = Prober::start(&lab, V4);
        settle();
        let answered = prober.stop().iter().filter(|probe| probe.answered.is_some()).count();
        (sh(&format!("ip -n {c} neigh show {V4}")), answered)
    };
    let mut gate = lab.at_holder(|| open(Options::default(), &[V4]));
    assert!(gate.gates_arp());
    let (state, answered) = neighbour();
    assert!(!state.contains("lladdr") && answered == 0, "{state}");
    // The socket belongs to the holder's namespace wherever the calling thread is.
    gate.renew_for(addr(V4), Duration::from_mins(1)).unwrap();
    let (state, answered) = neighbour();
    assert!(state.contains("lladdr") && answered > 0, "{state}");
}

#[test]
fn a_later_process_adopts_what_is_guarded_and_what_is_open() {
    if !may_run() {
        return;
    }
    let lab = Lab::new();
    lab.at_holder(|| {
        let mut first = open(Options::default(), &[V4, V6]);
        first.renew_for(addr(V4), Duration::from_mins(1)).unwrap();
        drop(first);
        let mut second = Gate::open(Options::default()).unwrap();
        let state = second.state().unwrap();
        assert_eq!(state.iter().map(|g| g.address).collect::<Vec<_>>(), [addr(V4), addr(V6)]);
        assert!(state[0].remaining.is_some_and(|left| left > Duration::from_secs(50)));
        assert_eq!(state[1].remaining, None);
        second.renew_for(addr(V4), Duration::from_secs(30)).unwrap();
        assert!(second.state().unwrap()[0].remaining.unwrap() <= Duration::from_secs(30));
        // Another layout: everything stays guarded, and shut.
        let host = Options { scope: Scope::HostOnly, ..Options::default() };
        let mut third = Gate::open(host).unwrap();
        let state = third.state().unwrap();
        assert_eq!(state.len(), 2);
        assert!(state.iter().all(|guarded| guarded.remaining.is_none()));
        assert!(third.self_test().unwrap().rules);
        third.unprotect(addr(V6)).unwrap();
        assert_eq!(third.state().unwrap().len(), 1);
        third.remove().unwrap();
    });
    assert_eq!(lab.nft("list tables"), "", "cleaned up");
}

#[test]
fn what_nft_shows_is_what_was_meant() {
    if !may_run() {
        return;
    }
    let lab = Lab::new();
    lab.at_holder(|| {
        let mut gate = open(Options::default(), &[V4, V6]);
        gate.renew_many(&[addr(V4), addr(V6)], Deadline::after(Duration::from_secs(9))).unwrap();
    });
    let text = lab.nft("list ruleset");
    println!("{text}");
    for rule in [
        "ip daddr @guarded4 ip daddr != @open4 counter packets 0 bytes 0 drop",
        "ip6 saddr @guarded6 ip6 saddr != @open6 counter packets 0 bytes 0 drop",
        "type filter hook prerouting priority raw; policy accept;",
        "elements = { 10.99.0.100 timeout ",
        "elements = { fd99::100 timeout ",
        "arp daddr ip @guarded4",
    ] {
        assert!(text.contains(rule), "missing: {rule}");
    }
}

#[test]
fn a_table_that_somebody_flushed_is_noticed_by_the_next_renewal() {
    if !may_run() {
        return;
    }
    let lab = Lab::new();
    let mut gate = lab.at_holder(|| open(Options::default(), &[V4]));
    gate.renew_for(addr(V4), Duration::from_mins(1)).unwrap();
    lab.nft("flush chain inet tierce prerouting");
    assert!(!gate.self_test().unwrap().rules, "missing rules are seen by the self-test");
    lab.nft("flush ruleset");
    let result = gate.renew_for(addr(V4), Duration::from_mins(1));
    assert!(matches!(result, Err(GateError::TableGone)), "{result:?}");
}

#[test]
fn leases_that_cannot_be_kept_and_strangers_are_refused() {
    if !may_run() {
        return;
    }
    let lab = Lab::new();
    lab.at_holder(|| {
        let mut gate = open(Options::default(), &[V4]);
        let result = gate.renew_for(addr(V4), Duration::from_millis(4));
        assert!(matches!(result, Err(GateError::TooLate(_))), "{result:?}");
        let result = gate.renew(addr(V4), Deadline(1));
        assert!(matches!(result, Err(GateError::TooLate(_))), "{result:?}");
        let result = gate.renew_for(addr(V4), Duration::from_hours(25));
        assert!(matches!(result, Err(GateError::TooLong(_))), "{result:?}");
        let result = gate.renew_for(addr(V6), Duration::from_secs(1));
        assert!(matches!(result, Err(GateError::NotGuarded(_))), "{result:?}");
        assert!(gate.state().unwrap().iter().all(|guarded| guarded.remaining.is_none()));
    });
}

#[test]
fn without_permission_the_missing_protection_is_named() {
    if !may_run() {
        return;
    }
    let lab = Lab::new();
    let error = lab.at_holder(|| {
        // SAFETY: the raw call changes the credentials of this thread alone, which ends here.
        let result = unsafe { libc::syscall(libc::SYS_setresuid, 65_534, 65_534, 65_534) };
        assert_eq!(result, 0);
        Gate::open(Options::default()).unwrap_err()
    });
    assert!(matches!(error, GateError::NotPermitted), "{error}");
    assert!(error.to_string().contains("layer L1 is missing"));
}

#[test]
fn traffic_through_the_node_is_gated_unless_only_the_host_is() {
    if !may_run() {
        return;
    }
    let lab = Lab::new();
    let inner = Lab::new(); // its client namespace stands behind the holder of `lab`
    let (h, c, far) = (&lab.holder, &lab.client, &inner.client);
    sh(&format!(
        "ip -n {h} link add inner type veth peer name inner netns {far}
         ip -n {h} link set inner up && ip -n {h} addr add 10.98.0.1/24 dev inner
         ip -n {far} link set inner up && ip -n {far} addr add 10.98.0.2/24 dev inner
         ip -n {far} addr del 10.99.0.2/24 dev veth0
         ip -n {far} route add 10.99.0.0/24 via 10.98.0.1
         ip -n {c} route add 10.98.0.0/24 via 10.99.0.1
         ip netns exec {h} sh -c \"echo 1 > /proc/sys/net/ipv4/ip_forward\""
    ));
    let service = "10.98.0.2";
    let answers = || {
        let prober = Prober::between(far, c, service);
        settle();
        prober.stop().iter().filter(|probe| probe.answered.is_some()).count()
    };
    assert!(answers() > 0, "the path works");
    let mut gate = lab.at_holder(|| open(Options::default(), &[service]));
    assert_eq!(answers(), 0);
    gate.renew_for(addr(service), Duration::from_mins(1)).unwrap();
    assert!(answers() > 0);
    let host = Options { scope: Scope::HostOnly, ..Options::default() };
    lab.at_holder(|| drop(Gate::open(host).unwrap()));
    assert!(answers() > 0, "shut for the host, but traffic through it passes");
}

#[test]
fn one_renewal_is_cheap_for_one_address_and_for_many() {
    if !may_run() {
        return;
    }
    let lab = Lab::new();
    lab.at_holder(|| {
        let mut gate = open(Options::default(), &[]);
        let many: Vec<IpAddr> = (0..600u32)
            .map(|n| IpAddr::V4((u32::from_be_bytes([10, 97, 0, 0]) + n).into()))
            .collect();
        for address in &many {
            gate.protect(*address).unwrap();
        }
        for count in [1, 256, 600] {
            let mut times: Vec<Duration> = (0..100)
                .map(|_| {
                    let start = Instant::now();
                    let deadline = Deadline::after(Duration::from_mins(1));
                    gate.renew_many(&many[..count], deadline).unwrap();
                    start.elapsed()
                })
                .collect();
            times.sort_unstable();
            println!("{count} addresses: median {:?}, worst {:?}", times[50], times[99]);
            assert!(times[50] < Duration::from_millis(50));
        }
        let state = gate.state().unwrap();
        assert_eq!(state.len(), 600);
        assert!(state.iter().all(|guarded| guarded.remaining.is_some()));
    });
}

#[test]
fn an_address_gets_a_lifetime_and_goes_by_itself() {
    if !may_run() {
        return;
    }
    let lab = Lab::new();
    let show = || sh(&format!("ip -n {} addr show dev veth0", lab.holder));
    lab.at_holder(|| {
        let mut vip = Vip::open().unwrap();
        let link = vip.link("veth0").unwrap();
        let (four, six) = (addr("10.99.0.200"), addr("fd99::200"));
        for _ in 0..2 {
            vip.add(link, four, 32, Duration::from_millis(1500)).unwrap(); // set, then renewed
            vip.add(link, six, 128, Duration::from_millis(1500)).unwrap();
        }
        let text = show();
        assert!(text.contains("10.99.0.200/32") && text.contains("fd99::200/128"), "{text}");
        assert!(text.contains("valid_lft 2sec"), "rounded up: {text}");
        let start = Instant::now();
        while show().contains("200/") {
            assert!(start.elapsed() < Duration::from_secs(10), "they are still there");
            std::thread::sleep(Duration::from_millis(20));
        }
        println!("both addresses gone {:?} after a lifetime of 2 s was set", start.elapsed());
        vip.delete(link, four, 32).unwrap(); // gone already is as good
        vip.add(link, four, 32, Duration::from_mins(1)).unwrap();
        vip.delete(link, four, 32).unwrap();
        assert!(!show().contains("10.99.0.200"));
        assert!(matches!(vip.link("nosuch0"), Err(tierce_gate::vip::VipError::NoInterface(_))));
    });
}

#[test]
fn an_announcement_moves_the_neighbours_to_this_node() {
    if !may_run() {
        return;
    }
    let lab = Lab::new();
    let c = &lab.client;
    let mac = lab.at_holder(|| {
        let mut vip = Vip::open().unwrap();
        let link = vip.link("veth0").unwrap();
        for address in [V4, V6] {
            sh(&format!(
                "ip -n {c} neigh replace {address} lladdr 02:00:00:00:00:99 nud stale dev veth0"
            ));
        }
        // The kernel takes no second change of an entry within its lock time (1 s).
        std::thread::sleep(Duration::from_millis(1200));
        vip.announce(link, addr(V4)).unwrap();
        vip.announce(link, addr(V6)).unwrap();
        link.mac().unwrap()
    });
    let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
    let start = Instant::now();
    loop {
        let text = sh(&format!("ip -n {c} neigh show"));
        let moved = |address: &str| {
            text.lines().any(|line| line.starts_with(&format!("{address} ")) && line.contains(&mac))
        };
        if moved(V4) && moved(V6) {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(5), "{text}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
