//! The doors: kernel gate and address in a network namespace of the test's own, DNS and BGP with
//! the embedded authority and collector on loopback.

#![allow(clippy::unwrap_used)] // all of it is test code

#[path = "runner/rig.rs"]
mod rig;

use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::{Duration, Instant};

use rig::{Place, is_root, runtime, until};
use tierce_agent::runner::RunnerEvent;
use tierce_bgp::{Asn, Collector, CollectorConfig, IpNet};
use tierce_dns::{Authority, FencedUpdate, Name, Nonce, RecordType, SiteName, query};
use tierce_ticket::holder::StopReason;
use tokio::time::Instant as TokioInstant;

const ADDRESS: &str = "[[ticket]]\nname = \"web\"\n[ticket.address]\nip = \"192.0.2.10\"\n\
                       interface = \"lo\"\ngate = \"required\"\n";

fn output(words: &[&str]) -> String {
    let out = Command::new(words[0]).args(&words[1..]).output().unwrap();
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// A namespace of this thread's own; what it spawns is in it too.
fn own_network() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
    assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
}

fn has_address() -> bool {
    output(&["ip", "-4", "addr", "show", "dev", "lo"]).contains("192.0.2.10/32")
}

fn gate_open() -> bool {
    let rules = output(&["nft", "list", "table", "inet", "tierce"]);
    rules.contains("192.0.2.10 timeout") || rules.contains("192.0.2.10 expires")
}

#[test]
fn the_address_opens_with_the_ticket_and_the_kernel_shuts_it_when_the_agent_is_frozen() {
    if !is_root() {
        return;
    }
    own_network();
    let place = Place::new("off", ADDRESS); // so that the kernel is the only one left
    runtime().block_on(async {
        let mut site = place.start();
        site.run(7);
        site.started(7).await;
        assert!(has_address() && gate_open(), "{}", output(&["nft", "list", "ruleset"]));
        let run = site.view_until("running", |r| r.phase == "running").await;
        let layers =
            ["L0 agent timer", "L1 kernel gate", "L1 address lifetime", "no L2 guard: it is off"];
        assert_eq!(run.protection, layers);

        site.stop(7, StopReason::Handover);
        site.stopped(7).await;
        assert!(!has_address() && !gate_open());

        site.run(8);
        site.started(8).await;
        site.lease();
        let deadline = rig::now() + Duration::from_millis(2_920);
        tokio::time::sleep(Duration::from_millis(100)).await;
        // From here on the agent is frozen: this thread is all that it has.
        std::thread::sleep(Duration::from_secs(2));
        assert!(gate_open() && has_address(), "the lease runs");
        while rig::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(!gate_open(), "shut at the deadline: {}", output(&["nft", "list", "ruleset"]));
        std::thread::sleep(Duration::from_millis(1_500)); // the kernel counts addresses in seconds
        assert!(!has_address());
    });
}

#[test]
fn renewals_keep_the_address_open_and_the_guard_stops_it_when_the_agent_is_gone() {
    if !is_root() {
        return;
    }
    own_network();
    let place = Place::new("record", ADDRESS);
    let first = runtime();
    first.block_on(async {
        let mut site = place.start();
        site.keep_lease();
        site.run(7);
        site.started(7).await;
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(4) {
            assert!(gate_open() && has_address(), "after {:?}", begun.elapsed());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    drop(first);
    runtime().block_on(until("the guard's stop", || !gate_open() && !has_address()));
    runtime().block_on(until("its word", || place.guard_events().contains("stopped ticket=4")));
    assert_eq!(place.text("record"), "");
}

#[test]
fn a_required_gate_without_permission_refuses_and_a_preferred_one_says_so() {
    if !is_root() {
        return;
    }
    own_network();
    // Without CAP_NET_ADMIN in this namespace: the capability leaves this thread only.
    drop_net_admin();
    let gate_only = ADDRESS.replace("interface = \"lo\"\n", "");
    let place = Place::new("off", &gate_only);
    runtime().block_on(async {
        let mut site = place.start();
        site.run(7);
        let event = site.until("no", |e| matches!(e, RunnerEvent::StartFailed { .. })).await;
        let RunnerEvent::StartFailed { why, .. } = event else { unreachable!("asked for") };
        assert!(why.contains("required") && why.contains("CAP_NET_ADMIN"), "{why}");
    });
    let place = Place::new("off", &gate_only.replace("required", "preferred"));
    runtime().block_on(async {
        let mut site = place.start();
        site.run(7);
        site.started(7).await;
        let run = site.view_until("running", |r| r.phase == "running").await;
        assert!(
            run.protection.iter().any(|l| l.starts_with("no L1 kernel gate: not permitted")),
            "{run:?}"
        );
    });
}

fn drop_net_admin() {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    let mut header = Header { version: 0x2008_0522, pid: 0 }; // _LINUX_CAPABILITY_VERSION_3
    let mut sets = [[0u32; 3]; 2]; // effective, permitted, inheritable, twice 32 bits
    // SAFETY: header and sets have the layout of version 3 and live through both calls.
    unsafe {
        assert_eq!(libc::syscall(libc::SYS_capget, &raw mut header, sets.as_mut_ptr()), 0);
        sets[0][0] &= !(1 << 12); // CAP_NET_ADMIN
        assert_eq!(libc::syscall(libc::SYS_capset, &raw mut header, sets.as_ptr()), 0);
    }
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn soon() -> TokioInstant {
    TokioInstant::now() + Duration::from_secs(20)
}

async fn addresses(server: SocketAddr) -> Vec<IpAddr> {
    let answer = query(server, &name("www.demo.test."), RecordType::A, soon()).await.unwrap();
    answer.addresses()
}

fn dns_and_bgp(dns: SocketAddr, bgp: SocketAddr) -> String {
    format!(
        "[[ticket]]\nname = \"web\"\n\
         [ticket.dns]\nserver = \"{dns}\"\nzone = \"demo.test\"\nname = \"www.demo.test\"\n\
         addresses = [\"192.0.2.10\"]\n\
         [ticket.bgp]\nlocal-as = 65001\nrouter-id = \"10.0.0.1\"\npeer = \"{bgp}\"\n\
         peer-as = 65000\nprefix = \"192.0.2.10/32\"\nnext-hop = \"192.0.2.1\"\n"
    )
}

#[test]
fn route_and_names_follow_the_ticket_and_a_name_is_never_emptied() {
    runtime().block_on(async {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let authority = Authority::bind(any, &name("demo.test."), &[]).await.unwrap();
        let config = CollectorConfig::loopback(Asn(65_000), Duration::from_secs(9));
        let collector = Collector::bind(config).await.unwrap().spawn();
        let server = authority.local_addr();
        tokio::spawn(authority.serve(std::future::pending()));
        let place = Place::new("off", &dns_and_bgp(server, collector.local_addr()));
        let prefix: IpNet = "192.0.2.10/32".parse().unwrap();

        let mut site = place.start();
        until("the session", || !collector.peers().is_empty()).await;
        let begun = Instant::now();
        site.run(7);
        site.started(7).await;
        println!("started in {:?}", begun.elapsed());
        assert_eq!(addresses(server).await, ["192.0.2.10".parse::<IpAddr>().unwrap()]);
        until("the route", || collector.best(&prefix).is_some()).await;
        assert_eq!(collector.best(&prefix).unwrap().med.0, u32::MAX - 7);

        site.stop(7, StopReason::Handover);
        site.stopped(7).await;
        until("the withdrawal", || collector.best(&prefix).is_none()).await;
        assert_eq!(addresses(server).await.len(), 1, "records stay until the next holder's");

        // A newer holder has written meanwhile: what we hold is stale, and nothing is served.
        let newer = FencedUpdate {
            server,
            zone: name("demo.test."),
            name: name("www.demo.test."),
            addrs: vec!["192.0.2.20".parse().unwrap()],
            ttl: 1,
            term: tierce_dns::Term(9),
            site: SiteName::new("rome").unwrap(),
            nonce: Nonce::random().unwrap(),
            tsig: None,
        };
        newer.apply(soon()).await.unwrap();
        site.run(8);
        let event = site.until("no", |e| matches!(e, RunnerEvent::StartFailed { .. })).await;
        let RunnerEvent::StartFailed { why, .. } = event else { unreachable!("asked for") };
        assert!(why.contains("newer term 9"), "{why}");
        assert_eq!(addresses(server).await, ["192.0.2.20".parse::<IpAddr>().unwrap()]);
    });
}

#[test]
fn a_name_server_that_is_away_does_not_keep_the_service_down_and_is_tried_again() {
    runtime().block_on(async {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let first = Authority::bind(any, &name("demo.test."), &[]).await.unwrap();
        let server = first.local_addr();
        drop(first);
        let ticket = dns_and_bgp(server, "127.0.0.1:9".parse().unwrap());
        let place = Place::new("off", ticket.split("[ticket.bgp]").next().unwrap());
        let mut site = place.start();
        site.run(7);
        site.started(7).await;
        let run = site
            .view_until("the trouble", |r| {
                r.protection.iter().any(|l| l.starts_with("no L4 (DNS)"))
            })
            .await;
        assert_eq!(run.phase, "running");
        let authority = Authority::bind(server, &name("demo.test."), &[]).await.unwrap();
        tokio::spawn(authority.serve(std::future::pending()));
        site.view_until("no trouble", |r| !r.protection.iter().any(|l| l.starts_with("no L4")))
            .await;
        assert_eq!(addresses(server).await.len(), 1);
    });
}
