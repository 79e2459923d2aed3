//! One TCP connection's life as a BGP session, for the speaker and the collector alike.
//!
//! ```text
//! connected ─ our OPEN ─► OpenSent ─ their OPEN, our KEEPALIVE ─► OpenConfirm ─ KEEPALIVE ─►
//! Established ─ hold time without a message, error, NOTIFICATION, close ─► Closed
//! ```
//! No I/O, no clock: octets and time go in, [`Event`]s come out. A session that closed stays
//! closed; connecting again is the owner's business, with a new session.
//!
//! Invariants: every wait has a deadline ([`Session::deadline`] is `Some` until closed); exactly
//! one [`Event::Down`] ends a session; nothing follows it but [`Event::Close`].

use std::collections::VecDeque;
use std::fmt;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use netgauze_bgp_pkt::capabilities::BgpCapability;
use netgauze_bgp_pkt::open::BgpOpenMessage;
use netgauze_bgp_pkt::update::BgpUpdateMessage;
use netgauze_iana::address_family::AddressType;

use crate::limits::{MAX_HOLD, MIN_HOLD, OPEN_WAIT};
use crate::med::Asn;
use crate::wire::{self, Deframer, Notification, Received};

/// What to do about a peer whose OPEN offers graceful restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GracefulRestartPolicy {
    /// Record a finding and go on: without our own offer the peer may not keep our routes
    /// (RFC 4724 section 4.2), but a router that does all the same should be known.
    #[default]
    Report,
    /// Refuse a peer that offers it for a family that we announce. An offer without families
    /// (BIRD's and FRR's default, "aware") promises nothing and is reported only.
    Refuse,
}

/// One side's settings.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// Our number.
    pub local_as: Asn,
    /// Our identifier.
    pub router_id: Ipv4Addr,
    /// Hold time to offer; the lower of both sides' counts.
    pub hold_time: Duration,
    /// Numbers accepted from the peer; empty accepts any.
    pub peer_as: Vec<Asn>,
    /// What to do about graceful restart.
    pub graceful_restart: GracefulRestartPolicy,
    /// Decode UPDATEs. A speaker does not: what is not decoded cannot hurt.
    pub wants_routes: bool,
}

/// What the peer's OPEN said, and what was agreed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerOpen {
    /// Its number.
    pub asn: Asn,
    /// Its identifier.
    pub router_id: Ipv4Addr,
    /// The hold time agreed: it drops our routes this long after our last message.
    pub hold_time: Duration,
    /// It takes IPv4 unicast.
    pub ipv4: bool,
    /// It takes IPv6 unicast.
    pub ipv6: bool,
    /// It offered graceful restart or its long-lived variant.
    pub graceful_restart: bool,
}

/// Something about the peer that an operator should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The peer offers graceful restart (RFC 4724).
    GracefulRestart {
        /// For a family that we announce.
        our_families: bool,
        /// The restart time that it names.
        restart_time: Duration,
    },
    /// The peer offers long-lived graceful restart (RFC 9494).
    LongLivedGracefulRestart {
        /// For a family that we announce, with a stale time above zero.
        our_families: bool,
    },
    /// The peer does not take routes of the family that is to be announced.
    FamilyMissing {
        /// True for IPv6, false for IPv4.
        ipv6: bool,
    },
    /// An announcement with an older term than before was asked for and not sent.
    StaleTerm {
        /// The term asked for.
        asked: crate::med::Term,
        /// The newer term known.
        known: crate::med::Term,
    },
    /// More prefixes than [`crate::limits::MAX_PREFIXES`]; the last was not announced.
    TooManyPrefixes,
}

/// Why a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Down {
    /// The TCP connection ended or broke.
    Lost,
    /// No message within the hold time.
    HoldExpired,
    /// We refused what the peer sent or is.
    Refused(Notification),
    /// The peer ended the session.
    PeerEnded(Notification),
    /// We ended the session on purpose.
    Ended,
    /// The peer stopped taking octets (RFC 9687).
    SendStalled,
}

impl fmt::Display for Down {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost => f.write_str("connection lost"),
            Self::HoldExpired => f.write_str("peer silent for the hold time"),
            Self::Refused(why) => write!(f, "refused by us: {why}"),
            Self::PeerEnded(why) => write!(f, "ended by the peer: {why}"),
            Self::Ended => f.write_str("ended by us"),
            Self::SendStalled => f.write_str("peer takes no data"),
        }
    }
}

/// What a session wants done, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Send these octets.
    Send(Bytes),
    /// The session is established.
    Up(PeerOpen),
    /// A route update (only with [`SessionConfig::wants_routes`]).
    Update(Box<BgpUpdateMessage>),
    /// The peer asks for all routes again.
    Refresh,
    /// Something to know.
    Finding(Finding),
    /// The session has ended.
    Down(Down),
    /// Close the TCP connection, after what was sent.
    Close,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    OpenSent,
    OpenConfirm,
    Established,
    Closed,
}

/// The state of one session.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    stage: Stage,
    deframer: Deframer,
    peer: Option<PeerOpen>,
    hold_until: Instant,
    keepalive_at: Option<Instant>,
    events: VecDeque<Event>,
}

impl Session {
    /// A session over a connection that was just made; sends our OPEN.
    pub fn new(config: SessionConfig, now: Instant) -> Self {
        // Both ends of the clamp fit into two octets of seconds.
        let hold = config.hold_time.clamp(MIN_HOLD, MAX_HOLD).as_secs() as u16;
        let open = wire::open(config.local_as, hold, config.router_id);
        Self {
            config,
            stage: Stage::OpenSent,
            deframer: Deframer::default(),
            peer: None,
            hold_until: now + OPEN_WAIT,
            keepalive_at: None,
            events: VecDeque::from([Event::Send(open)]),
        }
    }

    /// Octets from the peer.
    pub fn received(&mut self, now: Instant, octets: &[u8]) {
        self.deframer.push(octets);
        while self.stage != Stage::Closed {
            match self.deframer.next_message() {
                Ok(Some(message)) => self.message(now, message),
                Ok(None) => return,
                Err(error) => self.refuse(error),
            }
        }
    }

    /// Time passed: expires the hold timer, sends KEEPALIVEs.
    pub fn tick(&mut self, now: Instant) {
        if self.stage == Stage::Closed {
            return;
        }
        if now >= self.hold_until {
            let notice = Notification::new(Notification::HOLD_EXPIRED, []);
            self.events.push_back(Event::Send(notice.encode()));
            self.end(Down::HoldExpired);
        } else if self.keepalive_at.is_some_and(|at| now >= at) {
            self.send_keepalive(now);
        }
    }

    /// The connection ended under the session.
    pub fn lost(&mut self) {
        self.end(Down::Lost);
    }

    /// The peer takes no octets.
    pub fn stalled(&mut self) {
        self.end(Down::SendStalled);
    }

    /// Ends the session from this side.
    pub fn cease(&mut self, notice: &Notification) {
        if self.stage != Stage::Closed {
            self.events.push_back(Event::Send(notice.encode()));
            self.end(Down::Ended);
        }
    }

    /// Ends the session because of what the peer sent or is.
    pub fn refuse(&mut self, notice: Notification) {
        if self.stage != Stage::Closed {
            self.events.push_back(Event::Send(notice.encode()));
            self.end(Down::Refused(notice));
        }
    }

    /// When [`Session::tick`] is due next.
    pub fn deadline(&self) -> Option<Instant> {
        let open = self.stage != Stage::Closed;
        open.then(|| self.keepalive_at.map_or(self.hold_until, |at| at.min(self.hold_until)))
    }

    /// The next event, in order.
    pub fn poll(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Routes may be sent.
    pub fn is_established(&self) -> bool {
        self.stage == Stage::Established
    }

    /// The peer's OPEN was accepted, and its first KEEPALIVE is awaited.
    pub fn is_confirming(&self) -> bool {
        self.stage == Stage::OpenConfirm
    }

    /// What was agreed, from OpenConfirm on.
    pub fn peer(&self) -> Option<&PeerOpen> {
        self.peer.as_ref()
    }

    fn message(&mut self, now: Instant, message: Received) {
        match (self.stage, message) {
            (Stage::Closed, _) => {}
            (_, Received::Notification(notice)) => self.end(Down::PeerEnded(notice)),
            (Stage::OpenSent, Received::Open(open)) => self.open(now, &open),
            (Stage::OpenConfirm, Received::Keepalive) => {
                self.stage = Stage::Established;
                self.heard(now);
                if let Some(peer) = self.peer.clone() {
                    self.events.push_back(Event::Up(peer));
                }
            }
            (Stage::Established, Received::Keepalive) => self.heard(now),
            (Stage::Established, Received::Refresh) => {
                self.heard(now);
                self.events.push_back(Event::Refresh);
            }
            (Stage::Established, Received::Update(octets)) => {
                self.heard(now);
                if self.config.wants_routes {
                    match wire::decode_update(&octets) {
                        Ok(update) => self.events.push_back(Event::Update(Box::new(update))),
                        Err(error) => self.refuse(error),
                    }
                }
            }
            _ => self.refuse(Notification::new(Notification::UNEXPECTED, [])),
        }
    }

    /// RFC 4271 section 6.2, and what this product asks for beyond it.
    fn open(&mut self, now: Instant, open: &BgpOpenMessage) {
        let capabilities = open.capabilities();
        let four = capabilities.iter().find_map(|capability| match capability {
            BgpCapability::FourOctetAs(asn) => Some(Asn(asn.asn4())),
            _ => None,
        });
        let Some(asn) = four else {
            // RFC 5492 section 3: name the capability that is missing (code 65, 4 octets).
            let mut missing = vec![65, 4];
            missing.extend_from_slice(&self.config.local_as.0.to_be_bytes());
            return self.refuse(Notification::new((2, 7), missing));
        };
        if asn.0 == 0 || !(self.config.peer_as.is_empty() || self.config.peer_as.contains(&asn)) {
            return self.refuse(Notification::new((2, 2), []));
        }
        let router_id = open.bgp_id();
        let same_as = asn == self.config.local_as;
        if router_id.is_unspecified() || (same_as && router_id == self.config.router_id) {
            return self.refuse(Notification::new((2, 3), []));
        }
        let offered = Duration::from_secs(open.hold_time().into());
        if offered < MIN_HOLD {
            return self.refuse(Notification::new((2, 6), []));
        }
        let family = |wanted| {
            capabilities.iter().any(|capability| {
                matches!(capability, BgpCapability::MultiProtocolExtensions(family)
                    if family.address_type() == wanted)
            })
        };
        let any_family =
            capabilities.iter().any(|c| matches!(c, BgpCapability::MultiProtocolExtensions(_)));
        let findings: Vec<_> = capabilities.iter().filter_map(|c| restart_finding(c)).collect();
        let peer = PeerOpen {
            asn,
            router_id,
            hold_time: offered.min(self.config.hold_time.clamp(MIN_HOLD, MAX_HOLD)),
            // RFC 4760 section 8: without the capability, IPv4 unicast is meant.
            ipv4: !any_family || family(AddressType::Ipv4Unicast),
            ipv6: family(AddressType::Ipv6Unicast),
            graceful_restart: !findings.is_empty(),
        };
        let would_keep = findings.iter().any(keeps_our_routes);
        self.events.extend(findings.into_iter().map(Event::Finding));
        if would_keep && self.config.graceful_restart == GracefulRestartPolicy::Refuse {
            return self.refuse(Notification::new(Notification::REJECTED, []));
        }
        self.peer = Some(peer);
        self.stage = Stage::OpenConfirm;
        self.send_keepalive(now);
        self.heard(now);
    }

    fn hold_time(&self) -> Duration {
        self.peer.as_ref().map_or(OPEN_WAIT, |peer| peer.hold_time)
    }

    fn heard(&mut self, now: Instant) {
        self.hold_until = now + self.hold_time();
    }

    /// RFC 4271 section 4.4: a third of the hold time is a reasonable interval.
    fn send_keepalive(&mut self, now: Instant) {
        self.events.push_back(Event::Send(wire::keepalive()));
        self.keepalive_at = Some(now + self.hold_time() / 3);
    }

    fn end(&mut self, why: Down) {
        if self.stage != Stage::Closed {
            self.stage = Stage::Closed;
            self.events.push_back(Event::Down(why));
            self.events.push_back(Event::Close);
        }
    }
}

fn restart_finding(capability: &BgpCapability) -> Option<Finding> {
    let ours =
        |family: AddressType| matches!(family, AddressType::Ipv4Unicast | AddressType::Ipv6Unicast);
    match capability {
        BgpCapability::GracefulRestartCapability(offer) => Some(Finding::GracefulRestart {
            our_families: offer.address_families().iter().any(|f| ours(f.address_type())),
            restart_time: Duration::from_secs(offer.time().into()),
        }),
        // FRR lists every family here with a stale time of zero, which keeps nothing.
        BgpCapability::LongLivedGracefulRestart(offer) => Some(Finding::LongLivedGracefulRestart {
            our_families: offer
                .address_families()
                .iter()
                .any(|f| ours(f.address_type()) && f.stale_time() > 0),
        }),
        _ => None,
    }
}

fn keeps_our_routes(finding: &Finding) -> bool {
    matches!(
        finding,
        Finding::GracefulRestart { our_families: true, .. }
            | Finding::LongLivedGracefulRestart { our_families: true }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use netgauze_bgp_pkt::BgpMessage;
    use netgauze_bgp_pkt::capabilities::{
        FourOctetAsCapability, GracefulRestartAddressFamily, GracefulRestartCapability,
    };
    use netgauze_bgp_pkt::open::BgpOpenMessageParameter;
    use netgauze_parse_utils::WritablePdu;

    fn config(asn: u32, id: u8) -> SessionConfig {
        SessionConfig {
            local_as: Asn(asn),
            router_id: Ipv4Addr::new(10, 0, 0, id),
            hold_time: Duration::from_secs(9),
            peer_as: vec![],
            graceful_restart: GracefulRestartPolicy::Report,
            wants_routes: false,
        }
    }

    fn events(session: &mut Session) -> Vec<Event> {
        std::iter::from_fn(|| session.poll()).collect()
    }

    fn carry(from: &mut Session, to: &mut Session, now: Instant) -> Vec<Event> {
        let mut rest = Vec::new();
        for event in events(from) {
            match event {
                Event::Send(octets) => to.received(now, &octets),
                other => rest.push(other),
            }
        }
        rest
    }

    fn open_with(capabilities: Vec<BgpCapability>, hold: u16) -> Vec<u8> {
        let parameter = BgpOpenMessageParameter::new_capabilities(capabilities);
        let open = BgpOpenMessage::new(65_001, hold, Ipv4Addr::new(10, 0, 0, 9), vec![parameter]);
        let mut octets = Vec::new();
        BgpMessage::Open(open).write(&mut octets).unwrap();
        octets
    }

    fn asn(number: u32) -> BgpCapability {
        BgpCapability::FourOctetAs(FourOctetAsCapability::new(number))
    }

    #[test]
    fn two_sides_agree_on_the_lower_hold_time_and_come_up() {
        let now = Instant::now();
        let mut a = Session::new(config(65_001, 1), now);
        let mut b = Session::new(
            SessionConfig { hold_time: Duration::from_secs(3), ..config(65_002, 2) },
            now,
        );
        for _ in 0..3 {
            carry(&mut a, &mut b, now);
            carry(&mut b, &mut a, now);
        }
        assert!(a.is_established() && b.is_established());
        assert_eq!(a.peer().unwrap().hold_time, Duration::from_secs(3));
        assert!(a.peer().unwrap().ipv4 && a.peer().unwrap().ipv6);
        // Keepalives hold the session up, silence takes it down.
        a.tick(now + Duration::from_secs(1));
        assert!(matches!(events(&mut a)[..], [Event::Send(_)]));
        a.tick(now + Duration::from_secs(3));
        let fallen = events(&mut a);
        assert!(matches!(
            fallen[..],
            [Event::Send(_), Event::Down(Down::HoldExpired), Event::Close]
        ));
        assert_eq!(a.deadline(), None);
    }

    #[test]
    fn an_open_that_cannot_work_is_refused_with_its_own_code() {
        let wrong_as = SessionConfig { peer_as: vec![Asn(65_009)], ..config(65_002, 2) };
        let same_id = SessionConfig { local_as: Asn(65_001), ..config(0, 9) };
        let cases = [
            (wrong_as, open_with(vec![asn(65_001)], 9), (2, 2)),
            (same_id, open_with(vec![asn(65_001)], 9), (2, 3)),
            (config(65_002, 2), open_with(vec![asn(65_001)], 0), (2, 6)),
            (config(65_002, 2), open_with(vec![], 9), (2, 7)),
            (config(65_002, 2), wire::keepalive().to_vec(), Notification::UNEXPECTED),
        ];
        for (config, octets, code) in cases {
            let now = Instant::now();
            let mut session = Session::new(config, now);
            session.received(now, &octets);
            let down = events(&mut session).into_iter().find_map(|event| match event {
                Event::Down(Down::Refused(notice)) => Some((notice.code, notice.subcode)),
                _ => None,
            });
            assert_eq!(down, Some(code));
        }
    }

    #[test]
    fn a_peer_that_offers_graceful_restart_is_reported_or_refused() {
        let family = GracefulRestartAddressFamily::new(true, AddressType::Ipv4Unicast);
        let restart = GracefulRestartCapability::new(false, false, 120, vec![family]);
        let octets =
            open_with(vec![asn(65_001), BgpCapability::GracefulRestartCapability(restart)], 9);
        let now = Instant::now();
        let finding =
            Finding::GracefulRestart { our_families: true, restart_time: Duration::from_mins(2) };

        let mut lenient = Session::new(config(65_002, 2), now);
        lenient.received(now, &octets);
        assert!(lenient.is_confirming());
        assert!(events(&mut lenient).contains(&Event::Finding(finding)));

        let unwilling = || SessionConfig {
            graceful_restart: GracefulRestartPolicy::Refuse,
            ..config(65_002, 2)
        };
        let mut strict = Session::new(unwilling(), now);
        strict.received(now, &octets);
        let refused = |event: &Event| matches!(event, Event::Down(Down::Refused(_)));
        assert!(events(&mut strict).iter().any(refused));

        // Without a family the offer promises nothing: every BIRD and FRR makes it.
        let aware = GracefulRestartCapability::new(false, false, 120, vec![]);
        let octets =
            open_with(vec![asn(65_001), BgpCapability::GracefulRestartCapability(aware)], 9);
        let mut strict = Session::new(unwilling(), now);
        strict.received(now, &octets);
        assert!(strict.is_confirming());
    }
}
