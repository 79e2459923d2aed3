//! Speakers against the embedded collector, on loopback sockets.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use common::{
    BASE, ROUTER_AS, collector, established, next_hop, peer_id, prefix, site, soon, until,
};
use tierce_bgp::{
    Asn, BgpError, Collector, CollectorConfig, Down, Finding, GracefulRestartPolicy, IpNet, Med,
    Speaker, State, Term,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

const HOLD: Duration = Duration::from_secs(9);

#[tokio::test]
async fn an_announced_route_carries_the_term_as_its_metric_and_a_withdrawn_one_is_gone() {
    let collector = collector(HOLD).await;
    let speaker = Speaker::spawn(site(1, collector.local_addr())).unwrap();
    let six: IpNet = "2001:db8::10/128".parse().unwrap();
    speaker.announce(prefix(), Term(1_007)).unwrap();
    speaker.announce(six, Term(1_007)).unwrap();
    for prefix in [prefix(), six] {
        assert!(collector.wait_best(&prefix, soon(), |best| best.is_some()).await);
        let best = collector.best(&prefix).unwrap();
        assert_eq!((best.peer, best.med), (peer_id(1), Med(u32::MAX - 7)));
    }
    assert_eq!(collector.best(&prefix()).unwrap().next_hop, next_hop(1));
    let status = until(&speaker, |status| status.advertised.len() == 2).await;
    assert_eq!(status.state, State::Established);
    assert_eq!(collector.peers()[0].routes, 2);

    speaker.withdraw(prefix()).unwrap();
    assert!(collector.wait_best(&prefix(), soon(), |best| best.is_none()).await);
    assert!(collector.best(&six).is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_term_overrules_the_stale_route_without_any_withdrawal() {
    let collector = collector(HOLD).await;
    let sites = [1, 2].map(|n| Speaker::spawn(site(n, collector.local_addr())).unwrap());
    established(&sites[0]).await;
    established(&sites[1]).await;
    let mut took = Vec::new();
    for step in 0..40_u64 {
        let holder = usize::from(step % 2 == 1);
        let expected = peer_id(u8::try_from(holder).unwrap() + 1);
        let begun = Instant::now();
        sites[holder].announce(prefix(), Term(1_001 + step)).unwrap();
        let seen = |best: Option<tierce_bgp::Route>| best.is_some_and(|r| r.peer == expected);
        assert!(collector.wait_best(&prefix(), soon(), seen).await);
        took.push(begun.elapsed());
        assert_eq!(collector.routes(&prefix()).len(), if step == 0 { 1 } else { 2 });
    }
    took.sort();
    println!("override seen after: median {:?}, worst {:?}", took[20], took[39]);
    assert!(took[20] < Duration::from_millis(100), "median {:?}", took[20]);
}

#[tokio::test]
async fn when_the_speaker_dies_its_route_goes_at_once_and_the_other_site_takes_over() {
    let collector = collector(HOLD).await;
    let dying = Speaker::spawn(site(1, collector.local_addr())).unwrap();
    let standby = Speaker::spawn(site(2, collector.local_addr())).unwrap();
    standby.announce(prefix(), Term(1_001)).unwrap();
    assert!(collector.wait_best(&prefix(), soon(), |best| best.is_some()).await);
    dying.announce(prefix(), Term(1_002)).unwrap();
    let newest = |best: Option<tierce_bgp::Route>| best.is_some_and(|r| r.peer == peer_id(1));
    assert!(collector.wait_best(&prefix(), soon(), newest).await);

    let mut events = collector.events();
    let begun = std::time::Instant::now();
    dying.kill();
    let event = events.recv().await.unwrap();
    let took = event.at.duration_since(begun);
    println!("route gone {took:?} after the kill");
    assert_eq!(event.best.map(|route| route.peer), Some(peer_id(2)));
    assert!(took < Duration::from_millis(100), "{took:?}");
}

#[tokio::test]
async fn a_silent_peer_loses_its_route_when_the_hold_time_runs_out() {
    let collector = collector(Duration::from_secs(3)).await;
    // A relay between the two that goes silent without closing anything, as a dead host does.
    let relay = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let speaker = Speaker::spawn(site(1, relay.local_addr().unwrap())).unwrap();
    speaker.announce(prefix(), Term(1_001)).unwrap();
    let upstream = collector.local_addr();
    let (silence, silenced) = tokio::sync::oneshot::channel::<()>();
    tokio::spawn(async move {
        let (mut near, _) = relay.accept().await.unwrap();
        let mut far = TcpStream::connect(upstream).await.unwrap();
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut near, &mut far) => panic!("closed too early"),
            _ = silenced => {}
        }
        std::future::pending::<()>().await;
        drop((near, far));
    });
    assert!(collector.wait_best(&prefix(), soon(), |best| best.is_some()).await);
    assert_eq!(established(&speaker).await.peer.unwrap().hold_time, Duration::from_secs(3));

    let begun = Instant::now();
    silence.send(()).unwrap();
    assert!(collector.wait_best(&prefix(), soon(), |best| best.is_none()).await);
    let took = begun.elapsed();
    println!("route of the silent peer gone after {took:?}");
    assert!(took > Duration::from_millis(1_500) && took < Duration::from_secs(6), "{took:?}");
    // And the speaker notices by itself, too.
    let down = |status: &tierce_bgp::SpeakerStatus| status.last_down == Some(Down::HoldExpired);
    until(&speaker, down).await;
}

#[tokio::test]
async fn after_the_router_restarts_the_speaker_comes_back_and_announces_again() {
    let first = collector(HOLD).await;
    let addr = first.local_addr();
    let speaker = Speaker::spawn(site(1, addr)).unwrap();
    speaker.announce(prefix(), Term(1_001)).unwrap();
    assert!(first.wait_best(&prefix(), soon(), |best| best.is_some()).await);
    drop(first);
    until(&speaker, |status| status.state != State::Established).await;
    let config = CollectorConfig { listen: addr, ..CollectorConfig::loopback(ROUTER_AS, HOLD) };
    let second = loop {
        match Collector::bind(config.clone()).await {
            Ok(collector) => break collector.spawn(),
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    assert!(second.wait_best(&prefix(), soon(), |best| best.is_some()).await);
}

#[tokio::test]
async fn a_term_that_the_metric_cannot_carry_is_refused_before_anything_is_sent() {
    let collector = collector(HOLD).await;
    let speaker = Speaker::spawn(site(1, collector.local_addr())).unwrap();
    established(&speaker).await;
    let below = speaker.announce(prefix(), Term(999));
    assert_eq!(below, Err(BgpError::TermBelowBase { term: Term(999), base: BASE }));
    let term = Term(BASE.0 + (1 << 32));
    assert_eq!(
        speaker.announce(prefix(), term),
        Err(BgpError::TermBeyondRange { term, base: BASE })
    );
    speaker.announce(prefix(), Term(1_005)).unwrap();
    assert!(collector.wait_best(&prefix(), soon(), |best| best.is_some()).await);
    // An older term than before reaches the speaker, and stops there.
    speaker.announce(prefix(), Term(1_004)).unwrap();
    let stale = Finding::StaleTerm { asked: Term(1_004), known: Term(1_005) };
    until(&speaker, |status| status.findings.contains(&stale)).await;
    assert_eq!(collector.best(&prefix()).unwrap().med, Med(u32::MAX - 5));
}

#[tokio::test]
async fn a_wrong_as_number_is_refused_by_both_sides_with_its_name() {
    let config = CollectorConfig {
        accept_as: vec![Asn(65_001)],
        ..CollectorConfig::loopback(ROUTER_AS, HOLD)
    };
    let collector = Collector::bind(config).await.unwrap().spawn();
    let stranger = Speaker::spawn(site(9, collector.local_addr())).unwrap();
    let told = |status: &tierce_bgp::SpeakerStatus| matches!(&status.last_down, Some(Down::PeerEnded(n)) if (n.code, n.subcode) == (2, 2));
    until(&stranger, told).await;

    let mut wrong = site(1, collector.local_addr());
    wrong.peer_as = Asn(64_999);
    let misled = Speaker::spawn(wrong).unwrap();
    let refused = |status: &tierce_bgp::SpeakerStatus| matches!(&status.last_down, Some(Down::Refused(n)) if (n.code, n.subcode) == (2, 2));
    until(&misled, refused).await;
    assert!(collector.peers().is_empty());
}

#[tokio::test]
async fn a_second_connection_of_the_same_peer_takes_over_from_the_first() {
    let collector = collector(HOLD).await;
    let old = Speaker::spawn(site(1, collector.local_addr())).unwrap();
    old.announce(prefix(), Term(1_001)).unwrap();
    assert!(collector.wait_best(&prefix(), soon(), |best| best.is_some()).await);
    let new = Speaker::spawn(site(1, collector.local_addr())).unwrap();
    new.announce(prefix(), Term(1_002)).unwrap();
    let newer = |best: Option<tierce_bgp::Route>| best.is_some_and(|r| r.med.0 == u32::MAX - 2);
    assert!(collector.wait_best(&prefix(), soon(), newer).await);
    let told = |status: &tierce_bgp::SpeakerStatus| matches!(&status.last_down, Some(Down::PeerEnded(n)) if (n.code, n.subcode) == (6, 7));
    until(&old, told).await;
    old.kill();
}

#[tokio::test]
async fn an_orderly_shutdown_says_why_and_the_route_goes() {
    let collector = collector(HOLD).await;
    let speaker = Speaker::spawn(site(1, collector.local_addr())).unwrap();
    speaker.announce(prefix(), Term(1_001)).unwrap();
    assert!(collector.wait_best(&prefix(), soon(), |best| best.is_some()).await);
    speaker.shutdown("planned move").await;
    assert!(collector.wait_best(&prefix(), soon(), |best| best.is_none()).await);
}

#[tokio::test]
async fn the_collector_binds_to_loopback_only() {
    let listen = SocketAddr::from(([0, 0, 0, 0], 0));
    let config = CollectorConfig { listen, ..CollectorConfig::loopback(ROUTER_AS, HOLD) };
    assert!(matches!(Collector::bind(config).await, Err(BgpError::NotLoopback { .. })));
}

#[tokio::test]
async fn a_router_that_offers_graceful_restart_is_found_out() {
    // OPEN of AS 65000: four-octet AS, and graceful restart of 120 s for IPv4 unicast.
    let mut open = vec![0xff; 16];
    let capabilities = [65, 4, 0, 0, 0xfd, 0xe8, 64, 6, 0, 120, 0, 1, 1, 0x80];
    open.extend_from_slice(&[0, 29 + 2 + 14, 1, 4, 0xfd, 0xe8, 0, 9, 10, 0, 0, 254, 16, 2, 14]);
    open.extend_from_slice(&capabilities);
    for policy in [GracefulRestartPolicy::Report, GracefulRestartPolicy::Refuse] {
        let router = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let mut config = site(1, router.local_addr().unwrap());
        config.graceful_restart = policy;
        let speaker = Speaker::spawn(config).unwrap();
        let (mut peer, _) = router.accept().await.unwrap();
        peer.write_all(&open).await.unwrap();
        let restart_time = Duration::from_mins(2);
        let finding = Finding::GracefulRestart { our_families: true, restart_time };
        until(&speaker, |status| status.findings.contains(&finding)).await;
        if policy == GracefulRestartPolicy::Refuse {
            let refused = |status: &tierce_bgp::SpeakerStatus| {
                matches!(&status.last_down, Some(Down::Refused(_)))
            };
            until(&speaker, refused).await;
        } else {
            until(&speaker, |status| status.state == State::OpenConfirm).await;
        }
    }
}

#[tokio::test]
async fn garbage_from_a_router_ends_the_session_and_never_the_speaker() {
    let router = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let speaker = Speaker::spawn(site(1, router.local_addr().unwrap())).unwrap();
    for round in 0..4_u8 {
        let (mut peer, _) = router.accept().await.unwrap();
        let junk: Vec<u8> = (0..500_u16).map(|i| (i as u8).wrapping_mul(31) ^ round).collect();
        peer.write_all(&junk).await.unwrap();
        // Our OPEN, then the NOTIFICATION that names the fault, then the end.
        let mut said = Vec::new();
        let _ = peer.read_to_end(&mut said).await;
        assert!(said.len() > 29, "{said:?}");
    }
    let refused = |status: &tierce_bgp::SpeakerStatus| matches!(&status.last_down, Some(Down::Refused(n)) if n.code == 1);
    until(&speaker, refused).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_from_peers_leaves_the_collector_serving() {
    let collector = collector(HOLD).await;
    let addr = collector.local_addr();
    tokio::task::spawn_blocking(move || {
        for length in [0_usize, 1, 18, 19, 100, 5_000] {
            let mut peer = std::net::TcpStream::connect(addr).unwrap();
            peer.write_all(&vec![0xff; length]).unwrap();
            peer.shutdown(std::net::Shutdown::Write).unwrap();
            let _ = peer.read_to_end(&mut Vec::new());
        }
    })
    .await
    .unwrap();
    let speaker = Speaker::spawn(site(1, addr)).unwrap();
    speaker.announce(prefix(), Term(1_001)).unwrap();
    assert!(collector.wait_best(&prefix(), soon(), |best| best.is_some()).await);
}
