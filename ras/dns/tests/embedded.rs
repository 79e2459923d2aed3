//! The fenced update against the embedded authority, on loopback sockets.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{address_of, addresses_at, claim, fence_at, name, race, signed, site_name, soon};
use tierce_dns::{
    Authority, AuthorityHandle, DnsError, FenceRecord, Key, RData, Record, RecordType,
    ResponseCode, Term, query,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

async fn authority() -> AuthorityHandle {
    let authority = Authority::bind(loopback(), &name("demo.test."), &[]).await.unwrap();
    let handle = authority.handle();
    tokio::spawn(authority.serve(std::future::pending()));
    handle
}

fn fence_in(records: &[Record]) -> Option<FenceRecord> {
    records.iter().find_map(|record| match &record.data {
        RData::TXT(txt) => Some(String::from_utf8_lossy(&txt.txt_data[0]).parse().unwrap()),
        _ => None,
    })
}

#[tokio::test]
async fn the_first_holder_creates_fence_and_addresses_and_the_next_replaces_both() {
    let authority = authority().await;
    let server = authority.local_addr();
    let first = claim(server, 0, 7).apply(soon()).await.unwrap();
    assert_eq!((first.prior, first.attempts, first.read_back), (None, 1, false));

    let mut next = claim(server, 1, 8);
    next.addrs.push("2001:db8::1".parse().unwrap());
    let applied = next.apply(soon()).await.unwrap();
    assert_eq!(applied.prior.map(|fence| (fence.term, fence.site)), Some((Term(7), site_name(0))));
    assert_eq!(addresses_at(server).await, [address_of(1)]);
    let six = query(server, &name("WWW.demo.test."), RecordType::AAAA, soon()).await.unwrap();
    assert_eq!(six.addresses(), ["2001:db8::1".parse::<IpAddr>().unwrap()]);
    assert_eq!(authority.stats().updates, 2);
}

#[tokio::test]
async fn a_site_that_was_cut_off_cannot_write_over_the_newer_holder() {
    let authority = authority().await;
    let server = authority.local_addr();
    claim(server, 1, 8).apply(soon()).await.unwrap();
    let late = claim(server, 0, 7).apply(soon()).await;
    assert_eq!(late, Err(DnsError::Superseded { term: Term(8), site: site_name(1) }));
    let twin = claim(server, 0, 8).apply(soon()).await;
    assert_eq!(twin, Err(DnsError::TermTaken { term: Term(8), site: site_name(1) }));
    assert_eq!(addresses_at(server).await, [address_of(1)]);
}

#[tokio::test]
async fn the_holder_itself_may_write_again_and_a_repeated_update_is_recognised() {
    let authority = authority().await;
    let server = authority.local_addr();
    let update = claim(server, 0, 7);
    update.apply(soon()).await.unwrap();
    assert!(update.apply(soon()).await.unwrap().read_back);
    assert!(!claim(server, 0, 7).apply(soon()).await.unwrap().read_back);
}

#[tokio::test]
async fn a_name_is_never_emptied_and_nonsense_is_refused_before_anything_is_sent() {
    let server = authority().await.local_addr();
    let mut empty = claim(server, 0, 1);
    empty.addrs.clear();
    assert!(matches!(empty.apply(soon()).await, Err(DnsError::Invalid { .. })));
    let mut outside = claim(server, 0, 1);
    outside.name = name("www.example.org.");
    assert!(matches!(outside.apply(soon()).await, Err(DnsError::Invalid { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_thousand_four_way_races_each_term_has_one_winner_and_stale_never_wins() {
    let authority = authority().await;
    let server = authority.local_addr();

    // A watcher looks at the zone all the time: the fence's term may only grow.
    let done = Arc::new(AtomicBool::new(false));
    let watcher = std::thread::spawn({
        let (done, authority) = (Arc::clone(&done), authority.clone());
        move || {
            let (mut newest, mut seen) = (Term(0), HashSet::new());
            while !done.load(Ordering::Relaxed) {
                let Some(fence) = fence_in(&authority.snapshot()) else { continue };
                assert!(fence.term >= newest, "{} came after {newest}", fence.term);
                newest = fence.term;
                seen.insert(fence.term);
                std::thread::sleep(Duration::from_micros(200));
            }
            seen.len()
        }
    });

    let mut overtaken = 0;
    for round in 0..1_000_u64 {
        let base = 1 + round * 4;
        let terms = match round % 3 {
            0 => [base; 4],                            // two sites claim one term: an alarm
            1 => [base, base + 1, base + 2, base + 3], // stale sites race the newest
            _ => [base + 1, base, base + 1, base],     // both at once
        };
        let winners = race(server, terms, None).await;
        overtaken += usize::from(winners.len() > 1);
    }
    done.store(true, Ordering::Relaxed);
    let terms_seen = watcher.join().unwrap();
    let stats = authority.stats();
    println!("{stats:?}, {terms_seen} terms seen by the watcher, {overtaken} rounds overtaken");
    // The races must have been races: the server refused lost ones, and old terms were replaced.
    assert!(stats.updates_refused > 100, "hardly any race was lost at the server: {stats:?}");
    assert!(overtaken > 10, "no newer term ever replaced an older one within a round");
}

#[tokio::test]
async fn an_answer_lost_on_the_way_is_read_back_and_known_by_its_nonce() {
    let authority = authority().await;
    // A relay that passes the question and the update on, but cuts the update's answer off.
    let relay = TcpListener::bind(loopback()).await.unwrap();
    let relay_addr = relay.local_addr().unwrap();
    let upstream = authority.local_addr();
    tokio::spawn(async move {
        for connection in 0.. {
            let (mut client, _) = relay.accept().await.unwrap();
            let mut server = TcpStream::connect(upstream).await.unwrap();
            while let Ok(length) = client.read_u16().await {
                let mut request = vec![0; usize::from(length)];
                client.read_exact(&mut request).await.unwrap();
                server.write_all(&length.to_be_bytes()).await.unwrap();
                server.write_all(&request).await.unwrap();
                let length = server.read_u16().await.unwrap();
                let mut answer = vec![0; usize::from(length)];
                server.read_exact(&mut answer).await.unwrap();
                let is_update = (request[2] >> 3) & 0x0f == 5;
                if connection == 0 && is_update {
                    break; // Both connections close with the answer in hand.
                }
                client.write_all(&length.to_be_bytes()).await.unwrap();
                client.write_all(&answer).await.unwrap();
            }
        }
    });
    let applied = claim(relay_addr, 0, 5).apply(soon()).await.unwrap();
    assert!(applied.read_back);
    assert_eq!(applied.attempts, 2);
    assert_eq!(authority.stats().updates, 1);
}

#[tokio::test]
async fn an_update_whose_fate_is_unknown_is_called_ambiguous_and_not_failed() {
    let authority = authority().await;
    let front = TcpListener::bind(loopback()).await.unwrap();
    let addr = front.local_addr().unwrap();
    let upstream = authority.local_addr();
    // The server vanishes for good after taking the update.
    tokio::spawn(async move {
        let (mut client, _) = front.accept().await.unwrap();
        drop(front);
        let mut server = TcpStream::connect(upstream).await.unwrap();
        let length = client.read_u16().await.unwrap();
        let mut request = vec![0; usize::from(length)];
        client.read_exact(&mut request).await.unwrap();
        server.write_all(&length.to_be_bytes()).await.unwrap();
        server.write_all(&request).await.unwrap();
        let length = server.read_u16().await.unwrap();
        let mut answer = vec![0; usize::from(length)];
        server.read_exact(&mut answer).await.unwrap();
        client.write_all(&length.to_be_bytes()).await.unwrap();
        client.write_all(&answer).await.unwrap();
        let length = client.read_u16().await.unwrap();
        client.read_exact(&mut vec![0; usize::from(length)]).await.unwrap();
    });
    let outcome = claim(addr, 0, 5).apply(soon()).await;
    assert_eq!(outcome, Err(DnsError::Ambiguous { server: addr }));
}

#[tokio::test]
async fn an_unreachable_or_silent_server_is_reported_within_the_deadline() {
    let dead = TcpListener::bind(loopback()).await.unwrap().local_addr().unwrap();
    let outcome = claim(dead, 0, 1).apply(soon()).await;
    assert!(matches!(outcome, Err(DnsError::Unreachable { .. })), "{outcome:?}");

    let silent = TcpListener::bind(loopback()).await.unwrap();
    let begun = Instant::now();
    let update = claim(silent.local_addr().unwrap(), 0, 1);
    let outcome = update.apply(begun + Duration::from_millis(300)).await;
    assert!(matches!(outcome, Err(DnsError::NoAnswer { .. })), "{outcome:?}");
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_fence_written_by_hand_or_by_a_newer_version_is_never_overwritten() {
    let records = vec![Record::from_rdata(
        name("_ticket.www.demo.test."),
        1,
        RData::TXT(tierce_dns_txt("v=2 something=else")),
    )];
    let authority = Authority::bind(loopback(), &name("demo.test."), &records).await.unwrap();
    let handle = authority.handle();
    tokio::spawn(authority.serve(std::future::pending()));
    let before = handle.snapshot();
    let outcome = claim(handle.local_addr(), 0, u64::MAX).apply(soon()).await;
    assert!(matches!(outcome, Err(DnsError::FenceUnreadable { .. })), "{outcome:?}");
    assert_eq!(handle.snapshot(), before);
}

fn tierce_dns_txt(text: &str) -> hickory_proto::rr::rdata::TXT {
    hickory_proto::rr::rdata::TXT::new(vec![text.into()])
}

#[tokio::test]
async fn without_a_key_the_authority_binds_to_loopback_only() {
    let any = SocketAddr::from(([0, 0, 0, 0], 0));
    let outcome = Authority::bind(any, &name("demo.test."), &[]).await;
    assert!(matches!(outcome, Err(DnsError::NotLoopback { .. })));
}

#[tokio::test]
async fn with_a_key_unsigned_and_wrongly_signed_updates_are_refused_by_name() {
    let key = Key::new("site.", &[7; 32]).unwrap();
    let authority =
        Authority::bind_signed(loopback(), &name("demo.test."), &[], key.clone()).await.unwrap();
    let server = authority.local_addr();
    tokio::spawn(authority.serve(std::future::pending()));

    let unsigned = claim(server, 0, 1).apply(soon()).await;
    assert_eq!(unsigned, Err(DnsError::Refused { server, code: ResponseCode::Refused }));
    let wrong = Key::new("site.", &[8; 32]).unwrap();
    let outcome = signed(claim(server, 0, 1), &wrong).apply(soon()).await;
    let fault = tierce_dns::error::TsigFault::WrongSecret;
    assert_eq!(outcome, Err(DnsError::Signature { server, fault }));
    signed(claim(server, 0, 1), &key).apply(soon()).await.unwrap();
    assert_eq!(fence_at(server).await.unwrap().term, Term(1));
}

#[tokio::test]
async fn an_answer_too_long_for_udp_is_fetched_over_tcp() {
    let records: Vec<Record> = (0..100)
        .map(|i| {
            Record::from_rdata(
                name("many.demo.test."),
                1,
                RData::TXT(tierce_dns_txt(&format!("text number {i} with some length"))),
            )
        })
        .collect();
    let authority = Authority::bind(loopback(), &name("demo.test."), &records).await.unwrap();
    let server = authority.local_addr();
    tokio::spawn(authority.serve(std::future::pending()));
    let answer = query(server, &name("many.demo.test."), RecordType::TXT, soon()).await.unwrap();
    assert!(answer.over_tcp);
    assert_eq!(answer.texts().len(), 100);
}

#[tokio::test]
async fn serving_ends_when_it_is_told_to() {
    let authority = Authority::bind(loopback(), &name("demo.test."), &[]).await.unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let task = tokio::spawn(authority.serve(async move {
        let _ = stopped.await;
    }));
    stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(5), task).await.unwrap().unwrap();
}

/// Damaged requests over real sockets: the authority goes on answering.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_over_udp_and_tcp_leaves_the_authority_answering() {
    let authority = authority().await;
    let server = authority.local_addr();
    tokio::task::spawn_blocking(move || {
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        for length in 0..600_usize {
            let junk: Vec<u8> = (0..length).map(|i| (i * 31 + length * 7) as u8).collect();
            udp.send_to(&junk, server).unwrap();
        }
        for cut in [0_usize, 1, 2, 5, 11, 12, 40] {
            let mut tcp = std::net::TcpStream::connect(server).unwrap();
            tcp.write_all(&u16::try_from(cut).unwrap().to_be_bytes()).unwrap();
            tcp.write_all(&vec![0x2a; cut]).unwrap();
            tcp.shutdown(std::net::Shutdown::Write).unwrap();
            let _ = tcp.read_to_end(&mut Vec::new());
        }
    })
    .await
    .unwrap();
    claim(server, 0, 1).apply(soon()).await.unwrap();
}
