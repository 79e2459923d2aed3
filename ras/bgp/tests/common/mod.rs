//! Settings and waits that the BGP tests share.

// Each test program uses its own part of this.
#![allow(dead_code)]
#![allow(clippy::unwrap_used)]

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tierce_bgp::{
    Asn, Collector, CollectorConfig, CollectorHandle, IpNet, MedBase, PeerId, SpeakerConfig,
    SpeakerHandle, SpeakerStatus, State, Term,
};
use tokio::time::{Instant, timeout};

pub(crate) const ROUTER_AS: Asn = Asn(65_000);
pub(crate) const BASE: Term = Term(1_000);

pub(crate) fn prefix() -> IpNet {
    "192.0.2.10/32".parse().unwrap()
}

pub(crate) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

pub(crate) fn peer_id(site: u8) -> PeerId {
    PeerId(Ipv4Addr::new(10, 0, 0, site))
}

pub(crate) fn next_hop(site: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 51, 100, site)
}

/// A speaker of site number `site`, in an AS of its own.
pub(crate) fn site(site: u8, router: SocketAddr) -> SpeakerConfig {
    let mut config =
        SpeakerConfig::new(router, ROUTER_AS, Asn(65_000 + u32::from(site)), peer_id(site).0);
    config.next_hop_v4 = Some(next_hop(site));
    config.next_hop_v6 = Some(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, site.into()));
    config.med_base = MedBase(BASE);
    config
}

pub(crate) async fn collector(hold: Duration) -> CollectorHandle {
    let config = CollectorConfig::loopback(ROUTER_AS, hold);
    Collector::bind(config).await.unwrap().spawn()
}

pub(crate) async fn until(
    speaker: &SpeakerHandle,
    wanted: impl FnMut(&SpeakerStatus) -> bool,
) -> SpeakerStatus {
    let mut status = speaker.status();
    let found = timeout(Duration::from_secs(20), status.wait_for(wanted)).await;
    found.expect("the speaker gets there in time").unwrap().clone()
}

pub(crate) async fn established(speaker: &SpeakerHandle) -> SpeakerStatus {
    until(speaker, |status| status.state == State::Established).await
}
