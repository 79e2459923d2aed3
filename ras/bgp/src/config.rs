//! A speaker's settings, and the checks that find a mistake before a router does.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;

use crate::error::BgpError;
use crate::limits::{MAX_COMMUNITIES, MAX_HOLD, MAX_PREPEND, MIN_HOLD};
use crate::med::{Asn, Med, MedBase, Term};
use crate::session::{GracefulRestartPolicy, SessionConfig};
use crate::wire::PathTemplate;

/// One speaker's settings: one peer; several peers are several speakers.
#[derive(Debug, Clone)]
pub struct SpeakerConfig {
    /// The router.
    pub peer: SocketAddr,
    /// The router's number.
    pub peer_as: Asn,
    /// Source address, where the router insists on one.
    pub local_addr: Option<IpAddr>,
    /// Our number.
    pub local_as: Asn,
    /// Our identifier; differs between the sites.
    pub router_id: Ipv4Addr,
    /// Hold time to offer, 3 s to 65,535 s: the router-side dead man.
    pub hold_time: Duration,
    /// Next hop for IPv4 prefixes.
    pub next_hop_v4: Option<Ipv4Addr>,
    /// Next hop for IPv6 prefixes.
    pub next_hop_v6: Option<Ipv6Addr>,
    /// The term that maps to the worst MED; the same at all sites.
    pub med_base: MedBase,
    /// Communities, as 32-bit values (GRACEFUL_SHUTDOWN is 0xFFFF0000).
    pub communities: Vec<u32>,
    /// Large communities.
    pub large_communities: Vec<(u32, u32, u32)>,
    /// Additional copies of our number in the AS path.
    pub prepend: u8,
    /// What to do about a peer that offers graceful restart.
    pub graceful_restart: GracefulRestartPolicy,
}

impl SpeakerConfig {
    /// Settings with a hold time of 9 s and nothing optional.
    pub fn new(peer: SocketAddr, peer_as: Asn, local_as: Asn, router_id: Ipv4Addr) -> Self {
        Self {
            peer,
            peer_as,
            local_addr: None,
            local_as,
            router_id,
            hold_time: Duration::from_secs(9),
            next_hop_v4: None,
            next_hop_v6: None,
            med_base: MedBase(Term(0)),
            communities: Vec::new(),
            large_communities: Vec::new(),
            prepend: 0,
            graceful_restart: GracefulRestartPolicy::Report,
        }
    }

    /// Says what cannot work, before a router does.
    pub fn check(&self) -> Result<(), BgpError> {
        let invalid = |what: &str| Err(BgpError::Invalid { what: what.into() });
        if self.local_as.0 == 0 || self.peer_as.0 == 0 {
            return invalid("AS 0 is reserved");
        }
        if self.router_id.is_unspecified() {
            return invalid("the router id is 0.0.0.0");
        }
        if !(MIN_HOLD..=MAX_HOLD).contains(&self.hold_time) {
            return invalid("the hold time is outside 3 s to 65535 s");
        }
        let v4_cannot = |hop: Ipv4Addr| hop.is_unspecified() || hop.is_multicast();
        // Routers drop a mapped IPv4 address as a next hop without a word (BIRD does).
        let v6_cannot = |hop: Ipv6Addr| {
            hop.is_unspecified() || hop.is_multicast() || hop.to_ipv4_mapped().is_some()
        };
        if self.next_hop_v4.is_some_and(v4_cannot) || self.next_hop_v6.is_some_and(v6_cannot) {
            return invalid("a next hop is not a unicast address of its family");
        }
        if self.communities.len().max(self.large_communities.len()) > MAX_COMMUNITIES {
            return invalid("more than 32 communities");
        }
        if self.prepend > MAX_PREPEND {
            return invalid("more than 16 copies of the AS number");
        }
        Ok(())
    }

    /// The metric for a term on a prefix, or why the prefix cannot be announced with it.
    pub fn metric(&self, prefix: IpNet, term: Term) -> Result<Med, BgpError> {
        let bad = |why| Err(BgpError::BadPrefix { prefix, why });
        if prefix != prefix.trunc() {
            return bad("host bits are set");
        }
        let addr = prefix.addr();
        let broadcast = matches!(addr, IpAddr::V4(v4) if v4.is_broadcast());
        if addr.is_multicast() || broadcast || (addr.is_unspecified() && prefix.prefix_len() > 0) {
            return bad("not a unicast prefix");
        }
        let has_hop = match prefix {
            IpNet::V4(_) => self.next_hop_v4.is_some(),
            IpNet::V6(_) => self.next_hop_v6.is_some(),
        };
        if !has_hop {
            return Err(BgpError::NoNextHop { prefix });
        }
        self.med_base.med(term)
    }

    pub(crate) fn session(&self) -> SessionConfig {
        SessionConfig {
            local_as: self.local_as,
            router_id: self.router_id,
            hold_time: self.hold_time,
            peer_as: vec![self.peer_as],
            graceful_restart: self.graceful_restart,
            wants_routes: false,
        }
    }

    pub(crate) fn template(&self) -> PathTemplate {
        PathTemplate {
            local_as: self.local_as,
            internal: self.local_as == self.peer_as,
            prepend: self.prepend,
            next_hop_v4: self.next_hop_v4,
            next_hop_v6: self.next_hop_v6,
            communities: self.communities.clone(),
            large_communities: self.large_communities.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> SpeakerConfig {
        let peer = SocketAddr::from(([127, 0, 0, 1], 179));
        let mut config =
            SpeakerConfig::new(peer, Asn(65_000), Asn(65_001), Ipv4Addr::new(10, 0, 0, 1));
        config.next_hop_v4 = Some(Ipv4Addr::LOCALHOST);
        config
    }

    #[test]
    fn settings_that_cannot_work_are_refused_before_a_router_refuses_them() {
        config().check().unwrap();
        let refused = |change: fn(&mut SpeakerConfig)| {
            let mut config = config();
            change(&mut config);
            config.check().is_err()
        };
        assert!(refused(|config| config.local_as = Asn(0)));
        assert!(refused(|config| config.router_id = Ipv4Addr::UNSPECIFIED));
        assert!(refused(|config| config.hold_time = Duration::from_secs(2)));
        assert!(refused(|config| config.prepend = 17));
        assert!(refused(|config| config.communities = vec![0; 33]));
        let mapped = |config: &mut SpeakerConfig| {
            config.next_hop_v6 = Some(Ipv4Addr::LOCALHOST.to_ipv6_mapped());
        };
        assert!(refused(mapped));
    }

    #[test]
    fn prefixes_that_cannot_be_routed_are_refused() {
        let refused = |text: &str| config().metric(text.parse().unwrap(), Term(1)).unwrap_err();
        assert!(matches!(refused("192.0.2.1/24"), BgpError::BadPrefix { .. }));
        assert!(matches!(refused("224.0.0.1/32"), BgpError::BadPrefix { .. }));
        assert!(matches!(refused("255.255.255.255/32"), BgpError::BadPrefix { .. }));
        assert!(matches!(refused("2001:db8::1/128"), BgpError::NoNextHop { .. }));
    }
}
