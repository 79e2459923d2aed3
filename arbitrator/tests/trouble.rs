//! One tenant's trouble is nobody else's: damage, endings, floods, full disks.

#![allow(clippy::unwrap_used)] // helpers of tests, too

mod common;

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{
    BIN, Daemon, Sites, World, aside, eventually, eventually_blocking, is_root, list, me, place,
    tenant_fails,
};
use nix::sys::signal::Signal;
use tierce_link::{Link, LinkEvent, Name, PeerSpec, Role, Settings, Tenant, TenantQuota};
use tierce_ticket::durable::Age;
use tierce_ticket::holder::Holder;
use tierce_ticket::ids::{RenewalSeq, SessionId};
use tierce_ticket::message::{Envelope, Message, Renew};
use tierce_wire::Version;

#[tokio::test]
async fn a_damaged_store_stops_its_tenant_and_leaves_the_others_serving() {
    let place = place();
    let data = place.path().join("arb");
    let (good, bad) = (World::new("good"), World::new("bad"));
    good.add_to(&data);
    bad.add_to(&data);
    // A first start makes the stores.
    aside({
        let data = data.clone();
        move || Daemon::start(&data).terminate()
    })
    .await;
    damage(&data.join("tenants/bad/store"));

    let daemon = Daemon::start(&data);
    let state = daemon.state("bad");
    assert!(state.starts_with("stopped: ") && state.contains("damaged"), "{state}");
    assert!(state.contains("re-admit"), "the next step is missing: {state}");
    assert!(daemon.metric(r#"tierce_arbitrator_tenants{state="stopped"}"#) > 0.0);
    let (code, health) = daemon.get("/healthz");
    assert_eq!(code, 200, "{health}");
    let sites = Sites::form(&good, daemon.listen).await;
    assert_eq!(daemon.state("good"), "serving");
    assert!(fs::read_dir(data.join("dumps")).unwrap().count() > 0, "no recording was kept");

    // Tried again on request, it is still damaged: nothing heals it silently.
    daemon.signal(Signal::SIGHUP);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(daemon.state("bad").starts_with("stopped: "));
    sites.stop().await;
    aside(move || drop(daemon)).await;
}

/// Overwrites the middle of every file of a store.
fn damage(store: &Path) {
    for file in fs::read_dir(store).unwrap() {
        let path = file.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        let end = bytes.len().min(65_536);
        bytes[..end].iter_mut().for_each(|b| *b ^= 0x5a);
        fs::write(&path, bytes).unwrap();
    }
}

#[test]
fn an_ended_certificate_stops_its_tenant_until_there_is_a_new_one() {
    let place = place();
    let data = place.path().join("arb");
    let mut world = World::with_life("brief", Duration::from_secs(2));
    world.add_to(&data);
    std::thread::sleep(Duration::from_millis(2_500));
    let daemon = Daemon::start(&data);
    let state = daemon.state("brief");
    assert!(state.starts_with("stopped: the certificate of tenant brief ended at"), "{state}");
    assert_eq!(daemon.tenant("brief")["certificate"]["state"], "ended");
    let dir = world.path("arb").display().to_string();
    tenant_fails(&place.path().join("other"), &["add", "brief", "--member-dir", &dir], 110);
    world.ca = world.ca.with_certificate_life(Duration::from_hours(24));
    world.ca.rotate(&data.join("tenants/brief/pki")).unwrap();
    eventually_blocking("the new certificate brings it back", || {
        daemon.state("brief").starts_with("waiting: no member has connected yet")
    });
}

#[test]
fn what_cannot_be_served_is_refused_in_four_parts() {
    let place = place();
    let data = place.path().join("arb");
    let world = World::new("acme");
    let site = world.member(Role::Site, "east").display().to_string();
    let err = tenant_fails(&data, &["add", "acme", "--member-dir", &site], 78);
    assert!(err.contains("acme/site/east"), "{err}");
    let arb = world.arbitrator();
    let err = tenant_fails(&data, &["add", "other", "--member-dir", &arb], 78);
    assert!(err.contains("it must be an arbitrator's of tenant other"), "{err}");
    tenant_fails(&data, &["add", "Bad_Name", "--member-dir", &arb], 64);
    tenant_fails(&data, &["add", "acme", "--member-dir", "/nonexistent"], 1);
    tenant_fails(&data, &["remove", "acme", "--yes"], 105);
    tenant_fails(&data, &["quota", "acme", "--max-tickets", "1"], 105);
    assert!(list(&data).is_empty(), "a refused tenant leaves nothing");
    fs::write(world.path("arb").join("key.pem"), "no key").unwrap();
    let err = tenant_fails(&data, &["add", "acme", "--member-dir", &arb], 78);
    assert!(err.contains("holds no key of cert.pem"), "{err}");

    let daemon = Daemon::start(&data);
    let run = |args: &[&str]| {
        let out = Command::new(BIN).arg("run").args(args).args(["--user", &me()]).output().unwrap();
        (out.status.code(), String::from_utf8(out.stderr).unwrap())
    };
    let data = data.to_str().unwrap();
    let (code, err) = run(&["--data", data, "--listen", "127.0.0.1:0"]);
    assert_eq!(code, Some(75), "{err}");
    assert!(err.contains(&format!("in use by process {}", daemon.child.id())), "{err}");
    let other = place.path().join("other");
    let other = other.to_str().unwrap();
    let public = ["--data", other, "--listen", "127.0.0.1:0", "--metrics", "0.0.0.0:0"];
    let (code, err) = run(&public);
    assert_eq!(code, Some(64), "{err}");
    assert!(err.contains("not a loopback address"), "{err}");
    let taken = daemon.listen.to_string();
    let (code, err) = run(&["--data", other, "--listen", &taken]);
    assert_eq!(code, Some(69), "{err}");
    assert_eq!(run(&["--data", other]).0, Some(64), "--listen is missing");
}

// --- floods ---------------------------------------------------------------------------------

#[tokio::test]
async fn garbage_at_the_port_disturbs_nobody() {
    let place = place();
    let daemon = Daemon::start(&place.path().join("arb"));
    let world = World::new("acme");
    world.add_to(&daemon.data);
    let mut sites = Sites::form(&world, daemon.listen).await;
    let before = daemon.tenant("acme")["renewals"].as_u64().unwrap();
    let lease = session(&sites).await;
    assert!(lease.is_some());
    let mut probe = Probe::replacing(&mut sites, &world, daemon.listen).await;
    let quiet = probe.p99(200).await;
    let target = daemon.listen;
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let sending = std::thread::spawn(move || garbage(target, &stopped));
    let under_garbage = probe.p99(300).await;
    stop.store(true, Ordering::Relaxed);
    let sent = aside(move || sending.join().unwrap()).await;
    eprintln!("p99 of an answer: quiet {quiet:?}, under garbage {under_garbage:?}; {sent} sent");
    assert!(sent > 10_000, "only {sent} datagrams of garbage");
    assert!(under_garbage < Duration::from_millis(200), "{under_garbage:?} (quiet: {quiet:?})");
    eventually("renewals went on", async || {
        daemon.tenant("acme")["renewals"].as_u64().unwrap() > before + 2
    })
    .await;
    assert_eq!(session(&sites).await, lease, "the honest site's session was lost");
    assert_eq!(daemon.state("acme"), "serving");
    sites.stop().await;
    let (status, took) = aside(move || daemon.terminate()).await;
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(2), "{took:?}");
}

/// The session of the first site.
async fn session(sites: &Sites) -> Option<SessionId> {
    let read = sites.0[0].handle.read(|m, _| m.holder().and_then(Holder::session));
    read.await.flatten()
}

/// Sends what is no QUIC, or only looks like it, at full rate.
fn garbage(target: std::net::SocketAddr, stop: &AtomicBool) -> u64 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (start, mut sent, mut x) = (Instant::now(), 0, 0x9e37_79b9_7f4a_7c15_u64);
    let mut bytes = vec![0u8; 65_000];
    while !stop.load(Ordering::Relaxed) && start.elapsed() < Duration::from_mins(1) {
        for b in &mut bytes[..1_500] {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            *b = x as u8;
        }
        // Every fourth begins as a long header of QUIC version 1; every 64th is oversized.
        if x.is_multiple_of(4) {
            bytes[..5].copy_from_slice(&[0xc3, 0, 0, 0, 1]);
        }
        let length = if x.is_multiple_of(64) { 65_000 } else { 1 + (x >> 32) as usize % 1_500 };
        sent += u64::from(socket.send_to(&bytes[..length], target).is_ok());
    }
    sent
}

#[tokio::test]
async fn a_flooding_tenant_does_not_slow_the_answers_to_another() {
    let place = place();
    let daemon = Daemon::start(&place.path().join("arb"));
    let (calm, loud) = (World::new("calm"), World::new("loud"));
    calm.add_to(&daemon.data);
    loud.add_to(&daemon.data);
    let mut sites = Sites::form(&calm, daemon.listen).await;

    let mut probe = Probe::replacing(&mut sites, &calm, daemon.listen).await;
    let quiet = probe.p99(300).await;

    let stop = Arc::new(AtomicBool::new(false));
    let sent = Arc::new(AtomicU64::new(0));
    let flooding = flood(&loud, daemon.listen, stop.clone(), sent.clone());
    eventually("the flood is on", async || sent.load(Ordering::Relaxed) > 5_000).await;
    let under_flood = probe.p99(600).await;
    stop.store(true, Ordering::Relaxed);
    flooding.join().unwrap();
    let dropped = daemon.metric("tierce_link_datagrams_over_quota_total");
    // It is counted for the tenant that did it, where its operator looks.
    let of = |t| format!("tierce_tenant_datagrams_over_quota_total{{tenant=\"{t}\"}}");
    assert!(daemon.metric(&of("loud")) > 1_000.0);
    assert!(daemon.metric(&of("calm")) < 1.0);
    assert!(daemon.tenant("loud")["over_quota"].as_u64() > Some(1_000));
    assert_eq!(daemon.tenant("calm")["over_quota"], 0);
    let sent = sent.load(Ordering::Relaxed);
    eprintln!("p99 quiet {quiet:?}, under flood {under_flood:?}; {sent} sent, {dropped} dropped");
    assert!(dropped > 1_000.0, "the flood was not beyond its quota: {dropped} of {sent}");
    assert!(under_flood < Duration::from_millis(200), "{under_flood:?} (quiet: {quiet:?})");
    sites.stop().await;
    aside(move || drop(daemon)).await;
}

/// A member of the cluster that only asks for renewals.
struct Probe {
    link: Link,
    events: tokio::sync::mpsc::Receiver<LinkEvent>,
    tenant: Tenant,
    ids: (tierce_ticket::ids::ClusterId, tierce_ticket::ids::MemberId),
    seq: u64,
}

impl Probe {
    /// One site of the tenant is replaced by a bare link that counts milliseconds.
    async fn replacing(sites: &mut Sites, world: &World, to: std::net::SocketAddr) -> Self {
        let ids = sites.0[1].handle.read(|m, _| m.identity()).await.flatten().unwrap();
        let west = sites.0.pop().unwrap();
        west.handle.shutdown().await;
        west.host.shutdown("replaced").await;
        Self::connect(world, "west", to, ids).await
    }

    async fn connect(
        world: &World,
        name: &str,
        to: std::net::SocketAddr,
        ids: (tierce_ticket::ids::ClusterId, tierce_ticket::ids::MemberId),
    ) -> Self {
        let settings = Settings::for_period(Duration::from_millis(500), 6);
        let (link, mut events) = Link::bind("127.0.0.1:0".parse().unwrap(), settings).unwrap();
        link.add_tenant(&world.path(name), TenantQuota::default()).unwrap();
        let tenant = Tenant::new(&world.tenant).unwrap();
        let identity = format!("tierce://{tenant}/arbitrator/arb").parse().unwrap();
        link.add_peer(PeerSpec { identity, addresses: vec![to.to_string()] }).unwrap();
        while !matches!(events.recv().await.unwrap(), LinkEvent::Up { .. }) {}
        Self { link, events, tenant, ids, seq: 0 }
    }

    /// Time from a renewal to its answer.
    async fn answer_time(&mut self) -> Duration {
        self.seq += 1;
        let seq = RenewalSeq(self.seq);
        let renew = Message::Renew(Renew { session: SessionId(1), seq });
        let (cluster, from) = self.ids;
        let envelope = Envelope { cluster, from, age: Age::default(), message: renew };
        let bytes = Bytes::from(tierce_wire::encode(Version::V2, 0, &envelope).unwrap());
        let start = Instant::now();
        self.link.send_datagram(&self.tenant, &Name::new("arb").unwrap(), bytes).unwrap();
        while start.elapsed() < Duration::from_secs(2) {
            let event = tokio::time::timeout(Duration::from_secs(2), self.events.recv()).await;
            let Ok(Some(LinkEvent::Datagram { bytes, .. })) = event else { continue };
            let decoded = tierce_wire::decode(&bytes).unwrap();
            if matches!(&decoded.envelope.message, Message::Answer(a) if a.seq == seq) {
                return start.elapsed();
            }
        }
        Duration::from_secs(2)
    }

    async fn p99(&mut self, rounds: usize) -> Duration {
        let mut times = Vec::new();
        for _ in 0..rounds {
            times.push(self.answer_time().await);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        times.sort();
        times[rounds * 99 / 100]
    }
}

/// A member of another tenant that sends as fast as it can, on a thread of its own.
fn flood(
    world: &World,
    to: std::net::SocketAddr,
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
) -> std::thread::JoinHandle<()> {
    let dir = world.member(Role::Site, "east");
    let tenant = Tenant::new(&world.tenant).unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let settings = Settings::for_period(Duration::from_millis(500), 6);
            let (link, mut events) = Link::bind("127.0.0.1:0".parse().unwrap(), settings).unwrap();
            link.add_tenant(&dir, TenantQuota::default()).unwrap();
            let identity = format!("tierce://{tenant}/arbitrator/arb").parse().unwrap();
            link.add_peer(PeerSpec { identity, addresses: vec![to.to_string()] }).unwrap();
            while !matches!(events.recv().await.unwrap(), LinkEvent::Up { .. }) {}
            let name = Name::new("arb").unwrap();
            while !stop.load(Ordering::Relaxed) {
                for _ in 0..32 {
                    let bytes = Bytes::from_static(&[0x55; 900]);
                    let ok = link.send_datagram(&tenant, &name, bytes).is_ok();
                    sent.fetch_add(u64::from(ok), Ordering::Relaxed);
                }
                while events.try_recv().is_ok() {}
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
    })
}

// --- the disk -------------------------------------------------------------------------------

#[test]
fn a_full_disk_stops_the_tenant_that_has_it_and_it_says_so() {
    if !is_root("a disk of its own") {
        return;
    }
    let place = place();
    let data = place.path().join("arb");
    let world = World::new("full");
    world.add_to(&data);
    let other = World::new("roomy");
    other.add_to(&data);
    let disk = Disk::over(&place.path().join("image"), &data.join("tenants/full"), 8);
    // One runtime for the whole test: the disk is seen by this thread and its children only.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let daemon = Daemon::start(&data);
        let sites = Sites::form(&world, daemon.listen).await;
        let others = Sites::form(&other, daemon.listen).await;
        disk.fill();
        let padding = "x".repeat(200);
        let mut stopped = String::new();
        for n in 0..4_000 {
            let _ = sites.set_ticket(&format!("t{}", n % 50), &padding).await;
            if n % 20 == 0 && daemon.state("full").starts_with("stopped") {
                stopped = daemon.state("full");
                break;
            }
        }
        assert!(stopped.contains("no space left"), "`{stopped}`");
        assert!(stopped.contains("free space"), "the next step is missing: {stopped}");
        assert_eq!(daemon.state("roomy"), "serving");
        // The two sites are a majority and go on without this vote.
        sites.have_sessions().await;
        others.have_sessions().await;

        // Asked again while there is no room it stays where it is and says why, and so does a new
        // start.
        daemon.signal(Signal::SIGHUP);
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert!(daemon.state("full").contains("no space left"), "{}", daemon.state("full"));
        let listen = daemon.listen.to_string();
        assert_eq!(daemon.terminate().0.code(), Some(0));
        let daemon = Daemon::start_with(&data, &listen, &[], &[]);
        let waits = daemon.state("full");
        assert!(waits.contains("2048 KiB are needed to begin"), "{waits}");
        assert!(waits.contains("it begins again by itself"), "the next step is missing: {waits}");

        // With room it goes on by itself from what it had answered, also when it was full before.
        for again in 0..3 {
            disk.empty();
            let emptied = Instant::now();
            eventually("it is served again", async || daemon.state("full") == "serving").await;
            let within = emptied.elapsed();
            assert!(within < Duration::from_secs(15), "{again}: it took {within:?}");
            sites.have_sessions().await;
            disk.fill();
            for n in 0.. {
                let _ = sites.set_ticket(&format!("t{}", n % 50), &padding).await;
                if n % 20 == 0 && daemon.state("full").starts_with("stopped") {
                    break;
                }
                assert!(n < 4_000, "a full disk took everything");
            }
        }
        disk.empty();
        eventually("it is served again", async || daemon.state("full") == "serving").await;
        sites.stop().await;
        others.stop().await;
        let (status, _) = daemon.terminate();
        assert_eq!(status.code(), Some(0));
    });
}

/// A small ext4 in a file, mounted where only this thread and its children see it.
struct Disk(std::path::PathBuf);

impl Disk {
    /// Puts the disk over a folder; what is in the folder is copied onto it.
    fn over(image: &Path, folder: &Path, mebibytes: u64) -> Self {
        use nix::mount::{MsFlags, mount};
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        fs::File::create(image).unwrap().set_len(mebibytes << 20).unwrap();
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(image));
        let copy = image.with_extension("copy");
        run(Command::new("cp").arg("-a").arg(folder).arg(&copy));
        run(Command::new("mount").args(["-o", "loop"]).arg(image).arg(folder));
        run(Command::new("cp").arg("-a").arg(copy.join(".")).arg(folder));
        Self(folder.to_owned())
    }

    fn fill(&self) {
        use std::io::Write as _;
        let mut file = fs::File::create(self.0.join("filler")).unwrap();
        let piece = vec![0x5a; 4_096];
        while file.write_all(&piece).is_ok() && file.sync_data().is_ok() {}
    }

    fn empty(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The namespace ends with this thread in any case.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
