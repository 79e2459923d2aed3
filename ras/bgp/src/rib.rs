//! Routes by peer (Adj-RIB-In) and the best of them.
//!
//! The choice is deliberately small: lowest MED, whatever the neighbouring AS
//! (`always-compare-med` in routers' words), then lowest peer identifier. It is what the routers
//! of a ticket's path are to be configured for, and nothing else can make a stale route win.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use ipnet::IpNet;
use netgauze_bgp_pkt::path_attribute::{MpReach, MpUnreach, PathAttributeValue};
use netgauze_bgp_pkt::update::BgpUpdateMessage;

use crate::limits::MAX_ROUTES_PER_PEER;
use crate::med::Med;
use crate::wire::Notification;

/// A peer, by its BGP identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub Ipv4Addr);

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A route from a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Who announced it.
    pub peer: PeerId,
    /// Where traffic goes.
    pub next_hop: IpAddr,
    /// Its metric; a route without one counts as the worst.
    pub med: Med,
    /// When it was learnt in this form.
    pub since: Instant,
}

/// The best route of a prefix changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteEvent {
    /// When.
    pub at: Instant,
    /// Which prefix.
    pub prefix: IpNet,
    /// The new best route; none when the last one went.
    pub best: Option<Route>,
}

/// Routes of all peers.
#[derive(Debug, Default)]
pub struct Rib {
    peers: BTreeMap<PeerId, BTreeMap<IpNet, Route>>,
}

impl Rib {
    /// The best route of a prefix.
    pub fn best(&self, prefix: &IpNet) -> Option<Route> {
        // Peers are visited by identifier, and the first of equals is kept.
        self.routes(prefix).min_by_key(|route| route.med)
    }

    /// All routes of a prefix, by peer.
    pub fn routes<'a>(&'a self, prefix: &'a IpNet) -> impl Iterator<Item = Route> + 'a {
        self.peers.values().filter_map(|routes| routes.get(prefix).copied())
    }

    /// How many routes a peer has here.
    pub fn count(&self, peer: PeerId) -> usize {
        self.peers.get(&peer).map_or(0, BTreeMap::len)
    }

    /// Takes in an UPDATE; an error is the NOTIFICATION to send, after which the session ends.
    pub fn update(
        &mut self,
        peer: PeerId,
        update: &BgpUpdateMessage,
        now: Instant,
    ) -> Result<Vec<RouteEvent>, Notification> {
        let change = Change::read(update)?;
        let known = self.peers.get(&peer).map_or(0, BTreeMap::len);
        if known + change.announced.len() > MAX_ROUTES_PER_PEER {
            return Err(Notification::new(Notification::MAX_PREFIXES, []));
        }
        let touched: Vec<IpNet> =
            change.withdrawn.iter().copied().chain(change.announced.iter().map(|a| a.0)).collect();
        let before: Vec<_> = touched.iter().map(|prefix| self.best(prefix)).collect();
        let routes = self.peers.entry(peer).or_default();
        for prefix in &change.withdrawn {
            routes.remove(prefix);
        }
        for (prefix, next_hop) in change.announced {
            let med = change.med;
            let same = routes.get(&prefix).filter(|r| r.med == med && r.next_hop == next_hop);
            let since = same.map_or(now, |route| route.since);
            routes.insert(prefix, Route { peer, next_hop, med, since });
        }
        Ok(self.events(touched, before, now))
    }

    /// Drops all routes of a peer, as the end of its session demands.
    pub fn drop_peer(&mut self, peer: PeerId, now: Instant) -> Vec<RouteEvent> {
        let touched: Vec<IpNet> =
            self.peers.get(&peer).into_iter().flat_map(BTreeMap::keys).copied().collect();
        let before = touched.iter().map(|prefix| self.best(prefix)).collect();
        self.peers.remove(&peer);
        self.events(touched, before, now)
    }

    fn events(
        &self,
        touched: Vec<IpNet>,
        before: Vec<Option<Route>>,
        at: Instant,
    ) -> Vec<RouteEvent> {
        let changed = |(prefix, before): (IpNet, Option<Route>)| {
            let best = self.best(&prefix);
            (best != before).then_some(RouteEvent { at, prefix, best })
        };
        touched.into_iter().zip(before).filter_map(changed).collect()
    }
}

/// An UPDATE, reduced to what counts here.
struct Change {
    withdrawn: Vec<IpNet>,
    announced: Vec<(IpNet, IpAddr)>,
    med: Med,
}

impl Change {
    fn read(update: &BgpUpdateMessage) -> Result<Self, Notification> {
        let v4 = |net: &netgauze_bgp_pkt::nlri::Ipv4UnicastAddress| {
            IpNet::V4(net.network().address().trunc())
        };
        let v6 = |net: &netgauze_bgp_pkt::nlri::Ipv6UnicastAddress| {
            IpNet::V6(net.network().address().trunc())
        };
        let mut withdrawn: Vec<IpNet> = update.withdraw_routes().iter().map(v4).collect();
        let mut announced = Vec::new();
        let (mut med, mut next_hop) = (Med::WORST, None);
        let (mut origin, mut path) = (false, false);
        for attribute in update.path_attributes() {
            match attribute.value() {
                PathAttributeValue::Origin(_) => origin = true,
                PathAttributeValue::AsPath(_) => path = true,
                PathAttributeValue::NextHop(hop) => next_hop = Some(hop.next_hop()),
                PathAttributeValue::MultiExitDiscriminator(metric) => med = Med(metric.metric()),
                PathAttributeValue::MpReach(MpReach::Ipv6Unicast {
                    next_hop_global, nlri, ..
                }) => {
                    let hop = IpAddr::V6(*next_hop_global);
                    announced.extend(nlri.iter().map(|net| (v6(net), hop)));
                }
                PathAttributeValue::MpReach(MpReach::Ipv4Unicast { next_hop, nlri, .. }) => {
                    announced.extend(nlri.iter().map(|net| (v4(net), *next_hop)));
                }
                PathAttributeValue::MpUnreach(MpUnreach::Ipv6Unicast { nlri }) => {
                    withdrawn.extend(nlri.iter().map(v6));
                }
                PathAttributeValue::MpUnreach(MpUnreach::Ipv4Unicast { nlri }) => {
                    withdrawn.extend(nlri.iter().map(v4));
                }
                _ => {}
            }
        }
        if !update.nlri().is_empty() {
            // RFC 4271 section 6.3: code 3, subcode 3, the missing attribute's type.
            let hop = next_hop.ok_or_else(|| Notification::new((3, 3), [3]))?;
            announced.extend(update.nlri().iter().map(|net| (v4(net), IpAddr::V4(hop))));
        }
        let complete = origin && path;
        if !announced.is_empty() && !complete {
            return Err(Notification::new((3, 3), [if origin { 2 } else { 1 }]));
        }
        Ok(Self { withdrawn, announced, med })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::med::Asn;
    use crate::wire::{PathTemplate, decode_update, withdraw};

    fn peer(id: u8) -> PeerId {
        PeerId(Ipv4Addr::new(10, 0, 0, id))
    }

    fn prefix() -> IpNet {
        "192.0.2.10/32".parse().unwrap()
    }

    fn announce(med: u32) -> BgpUpdateMessage {
        let template = PathTemplate {
            local_as: Asn(65_001),
            internal: false,
            prepend: 0,
            next_hop_v4: Some(Ipv4Addr::LOCALHOST),
            next_hop_v6: None,
            communities: vec![],
            large_communities: vec![],
        };
        decode_update(&template.announce(Med(med), &[prefix()])[0]).unwrap()
    }

    #[test]
    fn the_lowest_metric_is_best_and_among_equals_the_lowest_peer() {
        let now = Instant::now();
        let mut rib = Rib::default();
        for (id, med) in [(3, 100), (1, 100), (2, 90)] {
            rib.update(peer(id), &announce(med), now).unwrap();
        }
        assert_eq!(rib.best(&prefix()).unwrap().peer, peer(2));
        rib.drop_peer(peer(2), now);
        assert_eq!(rib.best(&prefix()).unwrap().peer, peer(1));
    }

    #[test]
    fn an_event_is_told_only_when_the_best_route_changes() {
        let now = Instant::now();
        let mut rib = Rib::default();
        assert_eq!(rib.update(peer(1), &announce(100), now).unwrap().len(), 1);
        assert_eq!(rib.update(peer(1), &announce(100), now).unwrap(), []);
        assert_eq!(rib.update(peer(2), &announce(200), now).unwrap(), []);
        let gone = decode_update(&withdraw(&[prefix()])[0]).unwrap();
        assert_eq!(rib.update(peer(2), &gone, now).unwrap(), []);
        let events = rib.update(peer(1), &gone, now).unwrap();
        assert_eq!(events, [RouteEvent { at: now, prefix: prefix(), best: None }]);
    }
}
