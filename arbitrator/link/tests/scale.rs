//! What 2,000 connections cost an arbitrator. Not part of every run: it takes minutes and measures.
//!
//! `cargo nextest run --release -p tierce-link --run-ignored all -E 'test(two_thousand)'
//! --no-capture`. The arbitrator is this process; the sites are a second one (this test binary
//! again), so that the memory measured is the arbitrator's own.

#![allow(clippy::unwrap_used)] // a test that cannot go on says where

mod common;

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::*;
use tierce_link::{
    Ca, DownReason, Identity, Link, LinkEvent, PeerSpec, Role, Settings, Tenant, TenantQuota,
};
use tokio::time::sleep;

const TENANTS: usize = 1_000;
const DIR: &str = "TIERCE_LINK_SCALE_DIR";
const ADDR: &str = "TIERCE_LINK_SCALE_ADDR";

fn settings() -> Settings {
    // Two renewals per second, k = 6: what the figure in the specification is about.
    Settings { event_queue: 8_192, ..Settings::for_period(Duration::from_millis(500), 6) }
}

fn rss_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn cpu_ms() -> u64 {
    // Fields 14 and 15: user and system time in ticks of 10 ms.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after = stat.rsplit_once(')').unwrap().1;
    let fields: Vec<u64> =
        after.split_whitespace().skip(11).take(2).map(|f| f.parse().unwrap()).collect();
    (fields[0] + fields[1]) * 10
}

fn tenant(i: usize) -> String {
    format!("tenant-{i}")
}

/// Ends the second process however the test ends.
struct Sites(Child);

impl Drop for Sites {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The second process: two sites of each tenant, which renew twice a second for ever.
async fn be_the_sites(dir: &Path, addr: &str) {
    let mut links = Vec::new();
    for site in ["north", "south"] {
        let (link, mut events) = Link::bind(loopback(), settings()).unwrap();
        tokio::spawn(async move { while events.recv().await.is_some() {} });
        for i in 0..TENANTS {
            let member = dir.join(tenant(i)).join(site);
            link.add_tenant(&member, TenantQuota::default()).unwrap();
            let identity = Identity::new(&tenant(i), Role::Arbitrator, "arb").unwrap();
            link.add_peer(PeerSpec { identity, addresses: vec![addr.into()] }).unwrap();
            sleep(Duration::from_millis(4)).await;
        }
        links.push(link);
    }
    let arb = name("arb");
    let tenants: Vec<_> = (0..TENANTS).map(|i| Tenant::new(&tenant(i)).unwrap()).collect();
    loop {
        for chunk in tenants.chunks(20) {
            for link in &links {
                for tenant in chunk {
                    let _ = link.send_datagram(tenant, &arb, Bytes::from_static(&[0; 64]));
                }
            }
            sleep(Duration::from_millis(9)).await;
        }
    }
}

#[tokio::test]
#[ignore = "measures; takes minutes"]
async fn two_thousand_connections_fit_into_three_hundred_megabytes() {
    if let (Ok(dir), Ok(addr)) = (std::env::var(DIR), std::env::var(ADDR)) {
        return be_the_sites(Path::new(&dir), &addr).await;
    }
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    for i in 0..TENANTS {
        let home = dir.path().join(tenant(i));
        let ca = Ca::init(&home.join("ca"), &Tenant::new(&tenant(i)).unwrap()).unwrap();
        ca.issue_to(Role::Arbitrator, &name("arb"), &home.join("arb")).unwrap();
        ca.issue_to(Role::Site, &name("north"), &home.join("north")).unwrap();
        ca.issue_to(Role::Site, &name("south"), &home.join("south")).unwrap();
    }
    let link = arbitrator(dir.path(), loopback());
    let addr = link.local_addr().unwrap();
    let empty = rss_kib();
    let sites = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "two_thousand_connections_fit_into_three_hundred_megabytes"])
        .env(DIR, dir.path())
        .env(ADDR, addr.to_string())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let _sites = Sites(sites);
    let took = until_all_up(&link).await;
    eprintln!("{} connections after {took:?}, dialled one after the other", 2 * TENANTS);
    sleep(Duration::from_secs(5)).await;
    let (before, cpu, then) = (link.counters(), cpu_ms(), Instant::now());
    sleep(Duration::from_secs(20)).await;
    let (after, cpu, span) = (link.counters(), cpu_ms() - cpu, then.elapsed());
    let full = rss_kib();
    let rate = (after.datagrams_in - before.datagrams_in) as f64 / span.as_secs_f64();
    eprintln!(
        "rss {} MiB with tenants only, {} MiB with {} connections; \
         {rate:.0} datagrams/s answered at {:.1} % of a core",
        empty / 1024,
        full / 1024,
        2 * TENANTS,
        cpu as f64 / span.as_millis() as f64 * 100.0,
    );
    assert_eq!(after.connections_down, before.connections_down);
    assert!(rate > 3_000.0, "{rate} datagrams/s came through");
    assert!(full < 300 * 1024, "{full} KiB");
    // The arbitrator goes and comes back: everybody dials at once.
    link.shutdown("restart").await;
    drop(link);
    sleep(Duration::from_secs(3)).await;
    let link = arbitrator(dir.path(), addr);
    let took = until_all_up(&link).await;
    eprintln!("all back {took:?} after a restart; {:?}", link.counters());
    eprintln!("rss {} MiB", rss_kib() / 1024);
}

/// Serves all tenants and answers every datagram.
fn arbitrator(dir: &Path, addr: SocketAddr) -> Link {
    let (link, mut events) = Link::bind(addr, settings()).unwrap();
    for i in 0..TENANTS {
        link.add_tenant(&dir.join(tenant(i)).join("arb"), TenantQuota::default()).unwrap();
    }
    let answering = link.clone();
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            match event {
                LinkEvent::Datagram { peer, bytes } => {
                    let _ = answering.send_datagram(&peer.tenant, &peer.name, bytes);
                }
                // Lets go of the handle, and with it of the port.
                LinkEvent::Down { reason: DownReason::Shutdown, .. } => break,
                _ => {}
            }
        }
    });
    link
}

async fn until_all_up(link: &Link) -> Duration {
    let (start, mut said) = (Instant::now(), Instant::now());
    while link.peers().len() < 2 * TENANTS {
        if said.elapsed() > Duration::from_secs(5) {
            said = Instant::now();
            eprintln!("{:?}: {} are up", start.elapsed(), link.peers().len());
        }
        assert!(start.elapsed() < Duration::from_mins(4), "{} are up", link.peers().len());
        sleep(Duration::from_millis(100)).await;
    }
    start.elapsed()
}
