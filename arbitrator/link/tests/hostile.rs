//! Garbage, floods and broken members: service goes on for the others.

#![allow(clippy::unwrap_used)] // a test that cannot go on says where

mod common;

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::*;
use tierce_link::{DownReason, LinkEvent, Refusal, RefusedBy, Role};
use tokio::time::sleep;

/// Small, fast, seeded: the test prints the seed.
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[tokio::test]
async fn garbage_and_oversized_datagrams_at_line_rate_do_not_stop_the_service() {
    let world = World::new("acme");
    let mut arb = world.arbitrator("arb");
    let mut site = world.site("north");
    site.dial(&arb.id, &[arb.addr()]);
    site.until_up(&arb.id).await;
    arb.until_up(&site.id).await;

    let seed = std::process::id().into();
    eprintln!("seed {seed}");
    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (stop_there, sent_there, target) = (stop.clone(), sent.clone(), arb.addr());
    let flood = std::thread::spawn(move || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (mut state, mut buffer): (u64, _) = (seed, vec![0u8; 65_000]);
        while !stop_there.load(Ordering::Relaxed) {
            for chunk in buffer[..2_048].chunks_mut(8) {
                chunk.copy_from_slice(&random(&mut state).to_le_bytes());
            }
            let len = match random(&mut state) % 10 {
                0 => 65_000,
                1 => 1,
                n => 20 + (n as usize * 150),
            };
            if random(&mut state).is_multiple_of(2) {
                // Looks like the first packet of a QUIC handshake.
                buffer[0] = 0xc0 | buffer[0] & 0x0f;
                buffer[1..5].copy_from_slice(&[0, 0, 0, 1]);
                buffer[5] %= 21;
            }
            if socket.send_to(&buffer[..len], target).is_ok() {
                sent_there.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let start = Instant::now();
    let mut answered = 0u32;
    while start.elapsed() < Duration::from_secs(3) {
        let frame = Bytes::from(answered.to_be_bytes().to_vec());
        site.link.send_frame(&arb.id.tenant, &arb.id.name, frame.clone()).unwrap();
        let got = arb
            .until("frame", |e| match e {
                LinkEvent::Frame { bytes, .. } => Some(bytes),
                LinkEvent::Down { reason, .. } => panic!("the connection fell: {reason:?}"),
                _ => None,
            })
            .await;
        assert_eq!(got, frame);
        answered += 1;
        sleep(Duration::from_millis(1)).await;
    }
    // A newcomer gets in, too.
    let mut late = world.site("late");
    late.dial(&arb.id, &[arb.addr()]);
    late.until_up(&arb.id).await;
    stop.store(true, Ordering::Relaxed);
    flood.join().unwrap();
    let sent = sent.load(Ordering::Relaxed);
    eprintln!("{sent} hostile datagrams in 3 s, {answered} frames went through meanwhile");
    assert!(sent > 10_000, "the flood was none: {sent}");
    assert!(answered > 50, "{answered} frames in 3 s");
}

/// A member with a good certificate and bad manners.
async fn rude(world: &World, arb: &Node, who: &str) -> (quinn::Endpoint, quinn::Connection) {
    let dir = world.member(Role::Site, who);
    let (endpoint, conn) =
        stranger(arb.addr(), &world.tenant.sni(), &dir, Some(&dir), b"tierce/2").await;
    (endpoint, conn.unwrap())
}

/// A greeting as version 1 of the protocol has it.
fn greeting() -> Vec<u8> {
    let mut hello = 36u32.to_be_bytes().to_vec();
    hello.extend(b"TRCE");
    for field in [77u64, 1, 0, 0] {
        hello.extend(field.to_be_bytes());
    }
    hello
}

#[tokio::test]
async fn a_member_that_greets_with_garbage_is_shown_the_door() {
    let world = World::new("acme");
    let mut arb = world.arbitrator("arb");
    for (i, bytes) in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0, 0, 0, 4, 1, 2, 3, 4], &[255; 600]].iter().enumerate()
    {
        let (_e, conn) = rude(&world, &arb, &format!("rude-{i}")).await;
        let mut stream = conn.open_uni().await.unwrap();
        stream.write_all(bytes).await.unwrap();
        conn.closed().await;
        arb.until_refused(Refusal::Garbage, RefusedBy::Us).await;
    }
}

#[tokio::test]
async fn a_member_that_promises_too_large_a_frame_or_ends_its_stream_is_dropped() {
    let world = World::new("acme");
    let mut arb = world.arbitrator("arb");
    for (who, ends) in [("huge", false), ("ender", true)] {
        let (_e, conn) = rude(&world, &arb, who).await;
        let mut stream = conn.open_uni().await.unwrap();
        stream.write_all(&greeting()).await.unwrap();
        arb.until_up(&world.id(Role::Site, who)).await;
        if ends {
            stream.finish().unwrap();
        } else {
            stream.write_all(&(5u32 << 20).to_be_bytes()).await.unwrap();
        }
        let reason = arb
            .until("Down", |e| match e {
                LinkEvent::Down { reason, .. } => Some(reason),
                _ => None,
            })
            .await;
        assert_eq!(reason, DownReason::Garbage, "{who}");
        conn.closed().await;
    }
}

#[tokio::test]
async fn a_member_that_never_greets_is_not_waited_for() {
    let world = World::new("acme");
    let mut arb = world.arbitrator("arb");
    let (_e, conn) = rude(&world, &arb, "mute").await;
    let start = Instant::now();
    arb.until("refusal", |e| match e {
        LinkEvent::Refused { reason: Refusal::Timeout, .. } => Some(()),
        LinkEvent::Up { peer, .. } => panic!("{peer} came up"),
        _ => None,
    })
    .await;
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    drop(conn);
}

#[tokio::test]
async fn a_tenant_cannot_have_more_connections_than_its_quota() {
    let world = World::new("acme");
    let (link, events) = tierce_link::Link::bind(loopback(), fast()).unwrap();
    let quota = tierce_link::TenantQuota { max_connections: 2, ..Default::default() };
    let info = link.add_tenant(&world.member(Role::Arbitrator, "arb"), quota).unwrap();
    let arb = Node { link, events, id: info.identity };
    let mut sites: Vec<_> = ["a", "b", "c"].map(|n| world.site(n)).into();
    for site in &mut sites[..2] {
        site.dial(&arb.id, &[arb.addr()]);
        site.until_up(&arb.id).await;
    }
    sites[2].dial(&arb.id, &[arb.addr()]);
    sites[2].until_refused(Refusal::TooManyConnections, RefusedBy::Peer).await;
    assert_eq!(arb.link.peers().len(), 2);
    // A place that becomes free is taken.
    drop(sites.remove(0));
    sites[1].until_up(&arb.id).await;
}
