//! What both race tests share: four sites writing one name, and the rules that must hold.

// Each test program uses its own part of this.
#![allow(dead_code)]
#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tierce_dns::{
    Applied, DnsError, FenceRecord, FencedUpdate, Key, Name, Nonce, RecordType, SiteName, Term,
    query,
};
use tokio::time::Instant;

pub(crate) fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

pub(crate) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

/// The address that site number `site` serves at; it tells afterwards whose record is there.
pub(crate) fn address_of(site: usize) -> IpAddr {
    IpAddr::from([192, 0, 2, u8::try_from(site).unwrap() + 1])
}

pub(crate) fn site_name(site: usize) -> SiteName {
    SiteName::new(format!("site-{site}")).unwrap()
}

pub(crate) fn claim(server: SocketAddr, site: usize, term: u64) -> FencedUpdate {
    FencedUpdate {
        server,
        zone: name("demo.test."),
        name: name("www.demo.test."),
        addrs: vec![address_of(site)],
        ttl: 1,
        term: Term(term),
        site: site_name(site),
        nonce: Nonce::random().unwrap(),
        tsig: None,
    }
}

pub(crate) fn signed(mut update: FencedUpdate, key: &Key) -> FencedUpdate {
    update.tsig = Some(key.clone());
    update
}

/// The fence as a client of the name server sees it.
pub(crate) async fn fence_at(server: SocketAddr) -> Option<FenceRecord> {
    let fence = name("_ticket.www.demo.test.");
    let answer = query(server, &fence, RecordType::TXT, soon()).await.unwrap();
    assert!(answer.authoritative);
    answer.texts().first().map(|text| text.parse().unwrap())
}

pub(crate) async fn addresses_at(server: SocketAddr) -> Vec<IpAddr> {
    query(server, &name("www.demo.test."), RecordType::A, soon()).await.unwrap().addresses()
}

/// Four sites write at once, `terms[i]` for site i. Checks what must hold whatever the order.
pub(crate) async fn race(server: SocketAddr, terms: [u64; 4], key: Option<&Key>) -> Vec<usize> {
    let tasks: Vec<_> = terms
        .into_iter()
        .enumerate()
        .map(|(site, term)| {
            let update = claim(server, site, term);
            let update = key.map_or(update.clone(), |key| signed(update, key));
            tokio::spawn(async move { update.apply(soon()).await })
        })
        .collect();
    let mut results: Vec<Result<Applied, DnsError>> = Vec::new();
    for task in tasks {
        results.push(task.await.unwrap());
    }
    let context = format!("terms {terms:?}, results {results:?}");
    let newest = terms.into_iter().max().unwrap();
    let fence = fence_at(server).await.expect("a fence is in place after a race");
    assert_eq!(fence.term, Term(newest), "a stale term was left in the fence: {context}");

    let winners: Vec<usize> = (0..4).filter(|&site| results[site].is_ok()).collect();
    for term in terms {
        let of_term = winners.iter().filter(|&&site| terms[site] == term).count();
        assert!(of_term <= 1, "two sites won term {term}: {context}");
        assert!(term < newest || of_term == 1, "nobody won the newest term: {context}");
    }
    for (site, result) in results.iter().enumerate() {
        match result {
            Ok(_) => {}
            Err(DnsError::Superseded { term, .. }) => assert!(term.0 > terms[site], "{context}"),
            Err(DnsError::TermTaken { term, .. }) => assert_eq!(term.0, terms[site], "{context}"),
            Err(other) => panic!("unexpected refusal {other}: {context}"),
        }
    }
    let holder = *winners.iter().find(|&&site| terms[site] == newest).unwrap();
    assert_eq!(fence.site, site_name(holder), "{context}");
    assert_eq!(addresses_at(server).await, [address_of(holder)], "{context}");
    winners
}
