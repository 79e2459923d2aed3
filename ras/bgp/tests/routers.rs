//! Speakers against real routers, BIRD 2 and FRR, each in a network namespace of its own.
//!
//! A namespace keeps the routers' fixed ports and their kernel routes away from the host. All
//! sockets of a test are made on one thread that lives in the namespace.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use common::{established, prefix, site};
use tierce_bgp::{GracefulRestartPolicy, IpNet, Speaker, SpeakerHandle, State, Term};

const ROUTER: &str = "198.51.100.254";

/// A namespace with one link (a veth pair) that carries the addresses of both sites and the router.
struct Lab {
    name: String,
    dir: tempfile::TempDir,
}

/// A process of ours; it ends with the test.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).status();
    }
}

impl Lab {
    /// `None` where the test cannot run, and may be left out.
    fn new(program: &str, package: &str) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let strict = std::env::var("TIERCE_TESTS_STRICT").as_deref() == Ok("1");
        let skip = |why: &str| {
            assert!(!strict, "{why}");
            eprintln!("SKIPPED: {why}");
            None
        };
        if !nix::unistd::Uid::effective().is_root() {
            return skip("network namespaces need root");
        }
        if !Path::new(program).exists() {
            return skip(&format!("{program} is not installed (Debian package {package})"));
        }
        let name =
            format!("tierce-bgp-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let lab = Self { name, dir: tempfile::tempdir().unwrap() };
        let ip = |args: &str| {
            let output = Command::new("ip").args(args.split(' ')).output().unwrap();
            assert!(output.status.success(), "ip {args}: {output:?}");
        };
        let ns = &lab.name;
        ip(&format!("netns add {ns}"));
        ip(&format!("-n {ns} link set lo up"));
        ip(&format!("-n {ns} link add lab0 type veth peer name lab1"));
        for host in [1, 2, 254] {
            ip(&format!("-n {ns} address add 198.51.100.{host}/24 dev lab0"));
        }
        for end in ["lab0", "lab1"] {
            ip(&format!("-n {ns} link set {end} up"));
        }
        Some(lab)
    }

    fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    fn write(&self, file: &str, text: &str) -> String {
        std::fs::write(self.path(file), text).unwrap();
        self.path(file).display().to_string()
    }

    fn start(&self, program: &str, args: &[&str]) -> Daemon {
        let log = File::create(self.path("log")).unwrap();
        let child = Command::new("ip")
            .args(["netns", "exec", &self.name, program])
            .args(args)
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Daemon(child)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Runs `test` on a thread whose sockets are all in the namespace.
    fn within(&self, test: impl AsyncFnOnce() + Send) {
        let ns = File::open(format!("/run/netns/{}", self.name)).unwrap();
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                nix::sched::setns(ns, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
                let runtime = tokio::runtime::Builder::new_current_thread();
                { runtime }.enable_all().build().unwrap().block_on(test());
            });
            if let Err(panic) = thread.join() {
                eprintln!("the router's log:\n{}", self.log());
                std::panic::resume_unwind(panic);
            }
        });
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Looks until the router says what is wanted; its command line has no events to wait on.
async fn until(show: impl Fn() -> String, wanted: impl Fn(&str) -> bool) -> (String, Duration) {
    let begun = Instant::now();
    loop {
        let said = show();
        if wanted(&said) {
            return (said, begun.elapsed());
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "the router still says:\n{said}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A speaker of a site, with the site's own address as its source.
fn speaker(number: u8, port: u16) -> SpeakerHandle {
    let router = SocketAddr::new(ROUTER.parse().unwrap(), port);
    let mut config = site(number, router);
    config.local_addr = Some(common::next_hop(number).into());
    config.communities = vec![(65_001 << 16) | 7];
    config.large_communities = vec![(65_001, 1, 2)];
    // Both routers' defaults promise nothing, and the strict policy must be able to live with it.
    config.graceful_restart = GracefulRestartPolicy::Refuse;
    Speaker::spawn(config).unwrap()
}

async fn up(speaker: &SpeakerHandle) {
    // The router may need a moment before it listens: connecting again is the speaker's job.
    assert_eq!(established(speaker).await.state, State::Established);
}

fn birdc(socket: &str, command: &str) -> String {
    let args = ["-s", socket, "-r"].into_iter().chain(command.split(' '));
    text(&Command::new("/usr/sbin/birdc").args(args).output().unwrap())
}

/// The line of the route that BIRD has chosen, marked with a star.
fn chosen_in_bird(said: &str) -> Option<&str> {
    said.lines().find(|line| line.contains('*'))
}

#[test]
fn bird_takes_the_route_with_its_metric_and_prefers_the_newer_term_at_once() {
    let Some(lab) = Lab::new("/usr/sbin/bird", "bird2") else { return };
    let neighbour = |number: u8| {
        format!(
            r"
protocol bgp site{number} {{
    local {ROUTER} port 1790 as 65000;
    neighbor 198.51.100.{number} as 6500{number};
    passive on; multihop 2; med metric on;
    ipv4 {{ import all; export none; }};
    ipv6 {{ import all; export none; }};
}}"
        )
    };
    let config = format!(
        "router id 10.0.0.254;\nprotocol device {{ }}\nprotocol direct {{ ipv4; ipv6; }}\n{}{}\n",
        neighbour(1),
        neighbour(2)
    );
    let config = lab.write("bird.conf", &config);
    let socket = lab.path("bird.ctl").display().to_string();
    let _bird = lab.start("/usr/sbin/bird", &["-f", "-c", &config, "-s", &socket]);

    lab.within(async || {
        let (a, b) = (speaker(1, 1790), speaker(2, 1790));
        up(&a).await;
        up(&b).await;
        let show = || birdc(&socket, "show route 192.0.2.10/32 all");

        a.announce(prefix(), Term(1_007)).unwrap();
        let six: IpNet = "2001:db8::10/128".parse().unwrap();
        a.announce(six, Term(1_007)).unwrap();
        let (said, _) = until(show, |said| said.contains("BGP.med: 4294967288")).await;
        assert!(said.contains("BGP.community: (65001,7)"), "{said}");
        assert!(said.contains("BGP.large_community: (65001, 1, 2)"), "{said}");
        assert!(said.contains("BGP.next_hop: 198.51.100.1"), "{said}");
        let show_six = || birdc(&socket, "show route 2001:db8::10/128 all");
        until(show_six, |said| said.contains("BGP.med: 4294967288")).await;

        // The stale route stays announced, and is overruled all the same.
        let mut times = Vec::new();
        for step in 0..20_u8 {
            let (site, name) = if step % 2 == 0 { (&b, "site2") } else { (&a, "site1") };
            site.announce(prefix(), Term(1_008 + u64::from(step))).unwrap();
            let chosen = |said: &str| chosen_in_bird(said).is_some_and(|l| l.contains(name));
            let (said, took) = until(show, chosen).await;
            assert!(said.contains("site1") && said.contains("site2"), "{said}");
            times.push(took);
        }
        times.sort();
        println!(
            "BIRD, newer term chosen, with the time of birdc: median {:?}, worst {:?}",
            times[10], times[19]
        );

        // Neither side offers graceful restart that could keep a dead site's route.
        let status = a.status().borrow().clone();
        println!("BIRD's OPEN: {:?}", status.findings);
        a.kill();
        let (_, took) = until(show, |said| !said.contains("site1")).await;
        println!("BIRD, route of a killed speaker gone after {took:?}");
        assert!(took < Duration::from_secs(2), "{took:?}");
        assert!(show().contains("site2"));
    });
}

#[test]
fn frr_takes_the_route_with_its_metric_and_prefers_the_newer_term() {
    let Some(lab) = Lab::new("/usr/lib/frr/bgpd", "frr") else { return };
    let neighbour = |number: u8| {
        format!(
            " neighbor 198.51.100.{number} remote-as 6500{number}\n \
             neighbor 198.51.100.{number} passive\n \
             neighbor 198.51.100.{number} disable-connected-check\n"
        )
    };
    let config = format!(
        "router bgp 65000\n bgp router-id 10.0.0.254\n no bgp ebgp-requires-policy\n \
         no bgp network import-check\n bgp always-compare-med\n{}{}",
        neighbour(1),
        neighbour(2)
    );
    let config = lab.write("bgpd.conf", &config);
    let dir = lab.dir.path().display().to_string();
    let pid = lab.path("bgpd.pid").display().to_string();
    let args = ["--skip_runas", "--no_kernel", "--no_zebra", "-p", "1791", "-l", ROUTER, "-f"];
    let rest = [config.as_str(), "-i", &pid, "--vty_socket", &dir, "-P", "0"];
    let _frr = lab.start("/usr/lib/frr/bgpd", &[&args[..], &rest[..]].concat());

    lab.within(async || {
        let (a, b) = (speaker(1, 1791), speaker(2, 1791));
        up(&a).await;
        up(&b).await;
        let show = || {
            let command = ["-c", "show bgp ipv4 unicast 192.0.2.10/32"];
            let output = Command::new("vtysh").args(["--vty_socket", &dir]).args(command).output();
            text(&output.unwrap())
        };
        a.announce(prefix(), Term(1_007)).unwrap();
        let (said, _) = until(show, |said| said.contains("metric 4294967288")).await;
        assert!(said.contains("Community: 65001:7"), "{said}");
        assert!(said.contains("Large Community: 65001:1:2"), "{said}");

        b.announce(prefix(), Term(1_008)).unwrap();
        let best = |said: &str, metric: &str| {
            said.lines().any(|line| line.contains(metric) && line.contains("best"))
        };
        let (_, took) = until(show, |said| best(said, "metric 4294967287")).await;
        println!("FRR, newer term chosen, with the time of vtysh: {took:?}");
        println!("FRR's OPEN: {:?}", a.status().borrow().findings);
        b.kill();
        let (_, took) = until(show, |said| !said.contains("metric 4294967287")).await;
        println!("FRR, route of a killed speaker gone after {took:?}");
        assert!(took < Duration::from_secs(5), "{took:?}");
    });
}
