//! Members of one tenant on real QUIC over loopback: bytes, order, bounds, and coming back.

#![allow(clippy::unwrap_used)] // a test that cannot go on says where

mod common;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::*;
use tierce_link::{DownReason, Link, LinkEvent, Refusal, Role, SendError, Settings, TenantQuota};
use tokio::net::UdpSocket;
use tokio::time::{sleep, timeout};

fn frame_from(event: LinkEvent) -> Option<(String, Bytes)> {
    match event {
        LinkEvent::Frame { peer, bytes } => Some((peer.name.to_string(), bytes)),
        _ => None,
    }
}

fn datagram_from(event: LinkEvent) -> Option<(String, Bytes)> {
    match event {
        LinkEvent::Datagram { peer, bytes } => Some((peer.name.to_string(), bytes)),
        _ => None,
    }
}

#[tokio::test]
async fn two_sites_and_an_arbitrator_exchange_datagrams_and_frames() {
    let world = World::new("acme");
    let arb = world.arbitrator("arb");
    let (north, south) = (world.site("north"), world.site("south"));
    north.dial(&arb.id, &[arb.addr()]);
    south.dial(&arb.id, &[arb.addr()]);
    // One of the two: when dials cross, what was sent on the connection that goes may be lost.
    north.dial(&south.id, &[south.addr()]);
    let mut nodes = [arb, north, south];
    eventually("everybody sees two peers", || nodes.iter().all(|n| n.link.peers().len() == 2))
        .await;
    for from in &nodes {
        for to in &nodes {
            if from.id != to.id {
                let (tenant, to) = (&to.id.tenant, &to.id.name);
                let say = |what: &str| Bytes::from(format!("{what} {}", from.id.name));
                from.link.send_datagram(tenant, to, say("datagram of")).unwrap();
                for i in 0..50 {
                    from.link.send_frame(tenant, to, say(&format!("frame {i} of"))).unwrap();
                }
            }
        }
    }
    for node in &mut nodes {
        let me = node.id.name.to_string();
        let mut frames: BTreeMap<String, Vec<Bytes>> = BTreeMap::new();
        let mut datagrams = Vec::new();
        while datagrams.len() < 2 || frames.values().map(Vec::len).sum::<usize>() < 100 {
            let event = node.until("traffic", Some).await;
            if let Some((peer, bytes)) = datagram_from(event.clone()) {
                assert_eq!(bytes, format!("datagram of {peer}"));
                datagrams.push(peer);
            } else if let Some((peer, bytes)) = frame_from(event) {
                frames.entry(peer).or_default().push(bytes);
            }
        }
        for (peer, got) in frames {
            let want: Vec<_> = (0..50).map(|i| format!("frame {i} of {peer}")).collect();
            assert_eq!(got, want, "frames of {peer} at {me}");
        }
        let counters = node.link.counters();
        assert_eq!((counters.datagrams_in, counters.frames_in), (2, 100));
        assert_eq!((counters.datagrams_out, counters.frames_out), (2, 100));
        let (tenant, peer) = (&node.id.tenant, &node.link.peers()[0].identity.name.clone());
        let rtt = node.link.rtt(tenant, peer).unwrap();
        assert!(rtt > Duration::ZERO && rtt < Duration::from_secs(1), "{rtt:?}");
    }
}

#[tokio::test]
async fn neighbouring_versions_talk_and_distant_ones_are_told() {
    let world = World::new("acme");
    let mut arb = world.arbitrator("arb");
    let with = |alpn: &[u8]| Settings { alpns: vec![alpn.to_vec()], ..fast() };
    let mut old = Node::start(&world.member(Role::Site, "old"), with(b"tierce/1"));
    old.dial(&arb.id, &[arb.addr()]);
    let seen = |e| match e {
        LinkEvent::Up { alpn, .. } => Some(alpn),
        _ => None,
    };
    assert_eq!(old.until("Up", seen).await, "tierce/1");
    assert_eq!(arb.until("Up", seen).await, "tierce/1");
    let mut new = world.site("new");
    new.dial(&arb.id, &[arb.addr()]);
    assert_eq!(new.until("Up", seen).await, "tierce/2");
    arb.until_up(&new.id).await;
    let mut stray = Node::start(&world.member(Role::Site, "stray"), with(b"tierce/9"));
    stray.dial(&arb.id, &[arb.addr()]);
    stray.until_refused(Refusal::NoCommonVersion, tierce_link::RefusedBy::Peer).await;
    arb.until_refused(Refusal::NoCommonVersion, tierce_link::RefusedBy::Us).await;
}

#[tokio::test]
async fn two_sites_that_dial_each_other_at_once_settle_on_one_connection_and_never_flap() {
    for round in 0..12 {
        let world = World::new("acme");
        let (mut a, mut b) = (world.site("a"), world.site("b"));
        a.dial(&b.id, &[b.addr()]);
        b.dial(&a.id, &[a.addr()]);
        a.until_up(&b.id).await;
        b.until_up(&a.id).await;
        sleep(Duration::from_millis(700)).await;
        for node in [&mut a, &mut b] {
            let events = node.drain();
            assert!(
                !events.iter().any(|e| matches!(e, LinkEvent::Down { .. })),
                "round {round}, {}: {events:?}",
                node.id
            );
            assert_eq!(node.link.peers().len(), 1);
        }
        // The same one at both ends: what one sends on it, the other takes from it.
        let (peer_a, peer_b) = (&a.link.peers()[0], &b.link.peers()[0]);
        assert_eq!(peer_a.remote, b.addr());
        assert_eq!(peer_b.remote, a.addr());
        a.link.send_frame(&b.id.tenant, &b.id.name, Bytes::from_static(b"to b")).unwrap();
        b.link.send_frame(&a.id.tenant, &a.id.name, Bytes::from_static(b"to a")).unwrap();
        assert_eq!(b.until("frame", frame_from).await.1, "to b");
        assert_eq!(a.until("frame", frame_from).await.1, "to a");
        let ups = |n: &Node| n.link.counters().connections_up;
        assert!(ups(&a) <= 2 && ups(&b) <= 2, "round {round}: {} and {}", ups(&a), ups(&b));
    }
}

#[tokio::test]
async fn large_frames_pass_and_larger_than_the_bound_are_refused_at_the_sender() {
    let world = World::new("acme");
    let mut arb = world.arbitrator("arb");
    let mut site = world.site("north");
    site.dial(&arb.id, &[arb.addr()]);
    site.until_up(&arb.id).await;
    let (tenant, to) = (arb.id.tenant.clone(), arb.id.name.clone());
    for size in [0, 1, 1 << 20, 4 << 20] {
        let frame: Bytes = (0..size).map(|i| (i % 251) as u8).collect();
        site.link.send_frame(&tenant, &to, frame.clone()).unwrap();
        assert!(arb.until("frame", frame_from).await.1 == frame, "{size} bytes differ");
    }
    let too_large = Bytes::from(vec![0; 5 << 20]);
    assert_eq!(
        site.link.send_frame(&tenant, &to, too_large),
        Err(SendError::TooLarge { len: 5 << 20, limit: 4 << 20 })
    );
    let datagram = Bytes::from(vec![1; 1_100]);
    site.link.send_datagram(&tenant, &to, datagram.clone()).unwrap();
    assert_eq!(arb.until("datagram", datagram_from).await.1, datagram);
    assert!(matches!(
        site.link.send_datagram(&tenant, &to, Bytes::from(vec![1; 9_000])),
        Err(SendError::TooLarge { len: 9_000, .. })
    ));
    let nobody = name("nobody");
    assert_eq!(site.link.send_frame(&tenant, &nobody, Bytes::new()), Err(SendError::NotConnected));
    assert_eq!(
        site.link.send_datagram(&tenant, &nobody, Bytes::new()),
        Err(SendError::NotConnected)
    );
}

#[tokio::test]
async fn a_reader_that_does_not_read_makes_the_sender_wait_and_loses_no_frame() {
    let world = World::new("acme");
    let mut arb = world.arbitrator("arb");
    let mut site = world.site("north");
    site.dial(&arb.id, &[arb.addr()]);
    site.until_up(&arb.id).await;
    arb.until_up(&site.id).await;
    let mut accepted = 0u32;
    let deadline = Instant::now() + SOON;
    loop {
        let frame = Bytes::from([&accepted.to_be_bytes()[..], &[7; 8_000]].concat());
        match site.link.send_frame(&arb.id.tenant, &arb.id.name, frame) {
            Ok(()) => accepted += 1,
            // Full twice, some time apart: the reader is full too, not only the writer's queue.
            Err(SendError::Full) => {
                sleep(Duration::from_millis(300)).await;
                let one = Bytes::from_static(&[0; 4]);
                match site.link.send_frame(&arb.id.tenant, &arb.id.name, one) {
                    Err(SendError::Full) => break,
                    sent => {
                        sent.unwrap();
                        accepted += 1;
                    }
                }
            }
            Err(e) => panic!("{e}"),
        }
        assert!(Instant::now() < deadline, "the sender was never told to wait");
    }
    // The connection lives although nobody reads: keep-alives are the transport's.
    assert_eq!(site.link.peers().len(), 1);
    let mut got = 0;
    while got < accepted {
        arb.until("frame", frame_from).await;
        got += 1;
    }
    assert_eq!(site.link.counters().frames_lost, 0);
}

#[tokio::test]
async fn a_flood_of_datagrams_is_cut_to_the_allowance_and_counted() {
    let world = World::new("acme");
    let (link, events) = Link::bind(loopback(), fast()).unwrap();
    let quota = TenantQuota { datagrams_per_second: 100, datagram_burst: 20, max_connections: 8 };
    let info = link.add_tenant(&world.member(Role::Arbitrator, "arb"), quota).unwrap();
    let mut arb = Node { link, events, id: info.identity };
    let mut site = world.site("north");
    site.dial(&arb.id, &[arb.addr()]);
    site.until_up(&arb.id).await;
    arb.until_up(&site.id).await;
    for _ in 0..100 {
        for _ in 0..10 {
            let bytes = Bytes::from_static(&[0; 100]);
            site.link.send_datagram(&arb.id.tenant, &arb.id.name, bytes).unwrap();
        }
        sleep(Duration::from_millis(5)).await;
    }
    sleep(Duration::from_millis(100)).await;
    let counters = arb.link.counters();
    assert!(counters.datagrams_over_quota > 500, "{counters:?}");
    assert!((20..500).contains(&counters.datagrams_in), "{counters:?}");
    assert_eq!(arb.link.peers().len(), 1, "the connection is not punished");
    // By tenant, too, and for as long as the tenant is there.
    arb.link.reload_tenant(&world.tenant).unwrap();
    let of_tenant = arb.link.tenant_counters(&world.tenant).unwrap();
    assert_eq!(of_tenant.datagrams_over_quota, counters.datagrams_over_quota);
    assert_eq!(arb.link.tenant_counters(&World::new("other").tenant), None);
}

#[tokio::test]
async fn a_cut_is_noticed_without_the_idle_time_and_healed_within_a_second() {
    let world = World::new("acme");
    let arb = world.arbitrator("arb");
    let wire = Wire::to(arb.addr()).await;
    let mut settings = fast();
    settings.idle_timeout = Duration::from_secs(30);
    let mut site = Node::start(&world.member(Role::Site, "north"), settings.clone());
    site.dial(&arb.id, &[wire.addr]);
    site.until_up(&arb.id).await;
    wire.cut();
    let start = Instant::now();
    let reason = site
        .until("Down", |e| match e {
            LinkEvent::Down { reason, .. } => Some(reason),
            _ => None,
        })
        .await;
    let noticed = start.elapsed();
    assert_eq!(reason, DownReason::Silent);
    let bound = settings.keep_alive + settings.dead_after + Duration::from_millis(400);
    assert!(noticed < bound, "noticed after {noticed:?}");
    // Long enough for quinn's own back-off to have grown to seconds.
    sleep(Duration::from_secs(3)).await;
    wire.heal();
    let start = Instant::now();
    site.until_up(&arb.id).await;
    let healed = start.elapsed();
    assert!(healed < Duration::from_secs(1), "healed after {healed:?}");
    eprintln!("cut noticed after {noticed:?}, healed after {healed:?}");
}

#[tokio::test]
async fn who_only_accepts_notices_that_nobody_answers_him_any_more() {
    let world = World::new("acme");
    let patient = Settings { idle_timeout: Duration::from_secs(30), ..fast() };
    let mut arb = Node::start(&world.member(Role::Arbitrator, "arb"), patient.clone());
    let wire = Wire::to(arb.addr()).await;
    let site = Node::start(&world.member(Role::Site, "north"), patient.clone());
    site.dial(&arb.id, &[wire.addr]);
    arb.until_up(&site.id).await;
    // It has sent nothing that owes an answer, so it waits for none.
    sleep(patient.dead_after * 2).await;
    assert!(!arb.drain().iter().any(|e| matches!(e, LinkEvent::Down { .. })));
    wire.cut();
    let start = Instant::now();
    let (tenant, name) = (site.id.tenant.clone(), site.id.name.clone());
    arb.link.send_datagram(&tenant, &name, Bytes::from_static(b"anybody?")).unwrap();
    let reason = arb
        .until("Down", |e| match e {
            LinkEvent::Down { reason, .. } => Some(reason),
            _ => None,
        })
        .await;
    assert_eq!(reason, DownReason::Silent);
    let bound = patient.dead_after + Duration::from_millis(600);
    assert!(start.elapsed() < bound, "noticed after {:?}", start.elapsed());
}

#[tokio::test]
async fn a_peer_that_is_killed_and_restarts_on_its_port_is_back_within_a_second() {
    let world = World::new("acme");
    let dir = world.member(Role::Arbitrator, "arb");
    let arb = Victim::start(&dir, loopback());
    let (id, addr) = (arb.id.clone(), arb.addr());
    let mut site = world.site("north");
    site.dial(&id, &[addr]);
    site.until_up(&id).await;
    arb.kill();
    site.until("Down", |e| matches!(e, LinkEvent::Down { .. }).then_some(())).await;
    // Long enough for every back-off to have grown to its bound.
    sleep(Duration::from_millis(2_300)).await;
    let arb = Victim::start(&dir, addr);
    let start = Instant::now();
    site.until_up(&id).await;
    let took = start.elapsed();
    assert!(took < Duration::from_secs(1), "back after {took:?}");
    assert_eq!(arb.link.peers().len(), 1);
    eprintln!("restarted peer was back after {took:?}");
    arb.kill();
}

#[tokio::test]
async fn a_restart_quicker_than_any_timeout_replaces_the_old_connection() {
    let world = World::new("acme");
    let dir = world.member(Role::Site, "south");
    let mut north = world.site("north");
    let south = Victim::start(&dir, loopback());
    let (id, addr) = (south.id.clone(), south.addr());
    north.dial(&id, &[addr]);
    south.dial(&north.id, north.addr());
    north.until_up(&id).await;
    south.kill();
    // North still believes in the connection that it dialled itself, which is the preferred one.
    assert_eq!(north.link.peers().len(), 1);
    let mut south = Node::start_at(&dir, fast(), addr);
    south.dial(&north.id, &[north.addr()]);
    let start = Instant::now();
    south.until_up(&north.id).await;
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    // And it stays.
    sleep(Duration::from_millis(800)).await;
    assert_eq!(north.link.peers().len(), 1);
    north.drain();
    south.link.send_frame(&id.tenant, &north.id.name, Bytes::from_static(b"hi")).unwrap();
    assert_eq!(north.until("frame", frame_from).await.1, "hi");
}

#[tokio::test]
async fn a_dead_first_address_does_not_hide_a_live_second() {
    let world = World::new("acme");
    let arb = world.arbitrator("arb");
    // Bound, so that nobody else answers there, and silent.
    let dead = UdpSocket::bind(loopback()).await.unwrap();
    let mut site = world.site("north");
    let start = Instant::now();
    site.dial(&arb.id, &[dead.local_addr().unwrap(), arb.addr()]);
    site.until_up(&arb.id).await;
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    let status = &site.link.peers()[0];
    assert_eq!(status.remote, arb.addr());
}

#[tokio::test]
async fn a_peer_that_is_shutting_down_is_not_said_to_have_too_many_connections() {
    let world = World::new("acme");
    let arb = world.arbitrator("arb");
    let mut site = world.site("north");
    site.dial(&arb.id, &[arb.addr()]);
    site.until_up(&arb.id).await;
    let (link, addr) = (arb.link.clone(), arb.addr());
    let ending = tokio::spawn(async move { link.shutdown("maintenance").await });
    site.until("Down", |e| match e {
        LinkEvent::Down { reason, .. } => {
            assert_eq!(reason, DownReason::ClosedByPeer(Some(Refusal::Shutdown)));
            Some(())
        }
        _ => None,
    })
    .await;
    ending.await.unwrap();
    // The endpoint is there as long as its handle; the site dials it all that time.
    sleep(Duration::from_secs(2)).await;
    for event in site.drain() {
        if let LinkEvent::Refused { reason, .. } = event {
            assert!(matches!(reason, Refusal::Timeout | Refusal::Shutdown), "{reason:?}");
        }
    }
    // Who has the port next is found.
    drop(arb);
    eventually("the port is free", || std::net::UdpSocket::bind(addr).is_ok()).await;
    let mut next = Node::start_at(&world.path("arb"), fast(), addr);
    next.until_up(&site.id).await;
}

#[tokio::test]
async fn a_clean_shutdown_is_heard_at_once_and_a_removed_peer_is_left_alone() {
    let world = World::new("acme");
    let arb = world.arbitrator("arb");
    let (mut north, mut south) = (world.site("north"), world.site("south"));
    north.dial(&arb.id, &[arb.addr()]);
    south.dial(&arb.id, &[arb.addr()]);
    north.until_up(&arb.id).await;
    south.until_up(&arb.id).await;
    let down = |e| match e {
        LinkEvent::Down { reason, .. } => Some(reason),
        _ => None,
    };
    south.link.remove_peer(&arb.id.tenant, &arb.id.name);
    assert_eq!(south.until("Down", down).await, DownReason::Removed);
    let start = Instant::now();
    arb.link.shutdown("maintenance").await;
    let took = start.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(north.until("Down", down).await, DownReason::ClosedByPeer(Some(Refusal::Shutdown)));
    assert!(timeout(Duration::from_millis(300), south.events.recv()).await.is_err());
}
