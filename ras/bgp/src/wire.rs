//! Between octets and messages: framing, and the few messages that this crate writes and reads.
//!
//! The netgauze codec encodes and decodes OPEN and UPDATE. Header, KEEPALIVE and NOTIFICATION are
//! handled here: a header error must become the NOTIFICATION that RFC 4271 section 6.1 names, and
//! what a speaker does not need to understand (a peer's UPDATEs) it does not decode at all.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use bytes::{Buf, Bytes, BytesMut};
use ipnet::IpNet;
use netgauze_bgp_pkt::BgpMessage;
use netgauze_bgp_pkt::capabilities::{
    BgpCapability, FourOctetAsCapability, MultiProtocolExtensionsCapability,
};
use netgauze_bgp_pkt::community::{Community, LargeCommunity};
use netgauze_bgp_pkt::nlri::{Ipv4Unicast, Ipv4UnicastAddress, Ipv6Unicast, Ipv6UnicastAddress};
use netgauze_bgp_pkt::open::{BgpOpenMessage, BgpOpenMessageParameter};
use netgauze_bgp_pkt::path_attribute::{
    As4PathSegment, AsPath, AsPathSegmentType, Communities, LargeCommunities, LocalPreference,
    MpReach, MpUnreach, MultiExitDiscriminator, NextHop, Origin, PathAttribute, PathAttributeValue,
};
use netgauze_bgp_pkt::update::BgpUpdateMessage;
use netgauze_bgp_pkt::wire::deserializer::BgpParsingContext;
use netgauze_iana::address_family::AddressType;
use netgauze_parse_utils::WritablePdu;
use netgauze_parse_utils::reader::SliceReader;
use netgauze_parse_utils::traits::ParseFromWithOneInput;

use crate::limits::{MAX_MESSAGE, PREFIXES_PER_UPDATE};
use crate::med::{Asn, Med};

/// Stands for a four-octet number where only two octets fit (RFC 6793 section 9).
const AS_TRANS: u16 = 23_456;

/// Octets of marker, length and type.
const HEADER: usize = 19;

/// A NOTIFICATION: the reason for which a session ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// Error code (RFC 4271 section 4.5).
    pub code: u8,
    /// Error subcode.
    pub subcode: u8,
    /// Data, as the subcode defines it.
    pub data: Vec<u8>,
}

impl Notification {
    /// Hold timer expired.
    pub const HOLD_EXPIRED: (u8, u8) = (4, 0);
    /// A message that the state machine does not expect in this state (RFC 6608).
    pub const UNEXPECTED: (u8, u8) = (5, 0);
    /// Too many prefixes (RFC 4486).
    pub const MAX_PREFIXES: (u8, u8) = (6, 1);
    /// Administrative shutdown (RFC 9003).
    pub const SHUTDOWN: (u8, u8) = (6, 2);
    /// Connection rejected by policy.
    pub const REJECTED: (u8, u8) = (6, 5);
    /// Replaced by another connection of the same peer.
    pub const COLLISION: (u8, u8) = (6, 7);

    /// A notification with data.
    pub fn new((code, subcode): (u8, u8), data: impl Into<Vec<u8>>) -> Self {
        Self { code, subcode, data: data.into() }
    }

    /// Administrative shutdown with a text (RFC 9003: one length octet, at most 128 octets here).
    pub fn shutdown(text: &str) -> Self {
        let mut end = text.len().min(128);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let mut data = vec![end as u8];
        data.extend_from_slice(&text.as_bytes()[..end]);
        Self::new(Self::SHUTDOWN, data)
    }

    /// The message's octets.
    pub fn encode(&self) -> Bytes {
        let data = &self.data[..self.data.len().min(MAX_MESSAGE - HEADER - 2)];
        message(3, &[&[self.code, self.subcode], data].concat())
    }

    fn decode(body: &[u8]) -> Self {
        // The header check made sure of two octets; total all the same.
        let octet = |at| body.get(at).copied().unwrap_or(0);
        Self { code: octet(0), subcode: octet(1), data: body.get(2..).unwrap_or(&[]).to_vec() }
    }
}

impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match (self.code, self.subcode) {
            (1, _) => "message header error",
            (2, 2) => "bad peer AS",
            (2, 3) => "bad BGP identifier",
            (2, 6) => "unacceptable hold time",
            (2, 7) => "unsupported capability",
            (2, _) => "OPEN error",
            (3, _) => "UPDATE error",
            (4, _) => "hold timer expired",
            (5, _) => "message out of turn",
            (6, 1) => "too many prefixes",
            (6, 2) => "administrative shutdown",
            (6, 5) => "connection rejected",
            (6, 7) => "another connection took over",
            (6, _) => "cease",
            _ => "unknown reason",
        };
        write!(f, "{name} ({}/{})", self.code, self.subcode)?;
        // RFC 9003: shutdown and reset carry a text for humans.
        if (self.code, self.subcode) == Notification::SHUTDOWN
            && let Some(text) = self.data.get(1..).filter(|text| !text.is_empty())
        {
            write!(f, ": {:?}", String::from_utf8_lossy(text))?;
        }
        Ok(())
    }
}

/// A message as received; UPDATEs are still octets.
#[derive(Debug, Clone, PartialEq)]
pub enum Received {
    /// OPEN.
    Open(Box<BgpOpenMessage>),
    /// UPDATE, not decoded; see [`decode_update`].
    Update(Bytes),
    /// NOTIFICATION.
    Notification(Notification),
    /// KEEPALIVE.
    Keepalive,
    /// ROUTE-REFRESH; what exactly is asked for does not matter, everything is sent again.
    Refresh,
}

/// Cuts a stream into messages.
#[derive(Debug, Default)]
pub struct Deframer {
    buffer: BytesMut,
}

impl Deframer {
    /// Adds octets. The caller takes out all messages before it adds more, which bounds the
    /// buffer to one message and one read.
    pub fn push(&mut self, octets: &[u8]) {
        self.buffer.extend_from_slice(octets);
    }

    /// The next whole message; an error is the NOTIFICATION to send.
    pub fn next_message(&mut self) -> Result<Option<Received>, Notification> {
        let Some(header) = self.buffer.get(..HEADER) else { return Ok(None) };
        if header[..16] != [0xff; 16] {
            return Err(Notification::new((1, 1), []));
        }
        let length = usize::from(u16::from_be_bytes([header[16], header[17]]));
        let kind = header[18];
        let allowed = match kind {
            1 => 29..=MAX_MESSAGE,
            2 | 5 => 23..=MAX_MESSAGE,
            3 => 21..=MAX_MESSAGE,
            4 => HEADER..=HEADER,
            _ => return Err(Notification::new((1, 3), [kind])),
        };
        if !allowed.contains(&length) {
            return Err(Notification::new((1, 2), &header[16..18]));
        }
        if self.buffer.len() < length {
            return Ok(None);
        }
        let whole = self.buffer.split_to(length).freeze();
        Ok(Some(match kind {
            1 => Received::Open(Box::new(decode_open(&whole)?)),
            2 => Received::Update(whole),
            3 => Received::Notification(Notification::decode(&whole[HEADER..])),
            4 => Received::Keepalive,
            _ => Received::Refresh,
        }))
    }
}

fn decode_open(whole: &[u8]) -> Result<BgpOpenMessage, Notification> {
    // An unsupported version must be named before anything else (RFC 4271 section 6.2).
    if whole.get(HEADER) != Some(&4) {
        return Err(Notification::new((2, 1), 4_u16.to_be_bytes()));
    }
    // A capability that cannot be read is ignored: RFC 5492 lets peers offer what they like.
    let mut context = context(true, false);
    match BgpMessage::parse(&mut SliceReader::new(whole), &mut context) {
        Ok(BgpMessage::Open(open)) => Ok(open),
        _ => Err(Notification::new((2, 0), [])),
    }
}

/// Decodes an UPDATE from a peer with four-octet AS numbers, strictly.
pub fn decode_update(whole: &[u8]) -> Result<BgpUpdateMessage, Notification> {
    let mut context = context(true, true);
    match BgpMessage::parse(&mut SliceReader::new(whole), &mut context) {
        Ok(BgpMessage::Update(update)) => Ok(update),
        _ => Err(Notification::new((3, 1), [])),
    }
}

fn context(asn4: bool, strict: bool) -> BgpParsingContext {
    use std::collections::HashMap;
    BgpParsingContext::new(asn4, HashMap::new(), HashMap::new(), strict, strict, strict, strict)
}

/// Our OPEN: four-octet AS, IPv4 and IPv6 unicast, route refresh. Never graceful restart.
pub fn open(asn: Asn, hold_secs: u16, router_id: Ipv4Addr) -> Bytes {
    let families = [AddressType::Ipv4Unicast, AddressType::Ipv6Unicast];
    let multi = |family| {
        BgpCapability::MultiProtocolExtensions(MultiProtocolExtensionsCapability::new(family))
    };
    let mut capabilities: Vec<_> = families.into_iter().map(multi).collect();
    capabilities.push(BgpCapability::RouteRefresh);
    capabilities.push(BgpCapability::FourOctetAs(FourOctetAsCapability::new(asn.0)));
    let two_octets = u16::try_from(asn.0).unwrap_or(AS_TRANS);
    let parameters = vec![BgpOpenMessageParameter::new_capabilities(capabilities)];
    encode(&BgpMessage::Open(BgpOpenMessage::new(two_octets, hold_secs, router_id, parameters)))
}

/// A KEEPALIVE.
pub fn keepalive() -> Bytes {
    message(4, &[])
}

/// Attributes that all routes of a speaker share.
#[derive(Debug, Clone)]
pub struct PathTemplate {
    /// Our number.
    pub local_as: Asn,
    /// The peer is in the same AS: no prepending, LOCAL_PREF instead.
    pub internal: bool,
    /// Additional copies of our number in the path.
    pub prepend: u8,
    /// Next hop for IPv4.
    pub next_hop_v4: Option<Ipv4Addr>,
    /// Next hop for IPv6.
    pub next_hop_v6: Option<Ipv6Addr>,
    /// Communities (RFC 1997), as 32-bit values.
    pub communities: Vec<u32>,
    /// Large communities (RFC 8092).
    pub large_communities: Vec<(u32, u32, u32)>,
}

impl PathTemplate {
    /// UPDATEs that announce `prefixes` with `med`; prefixes without a next hop are left out.
    pub fn announce(&self, med: Med, prefixes: &[IpNet]) -> Vec<Bytes> {
        let (v4, v6) = by_family(prefixes);
        let mut updates = Vec::new();
        if let Some(next_hop) = self.next_hop_v4 {
            for nlri in v4.chunks(PREFIXES_PER_UPDATE) {
                let hop = PathAttributeValue::NextHop(NextHop::new(next_hop));
                let attributes = self.attributes(med, [well_known(hop)]);
                updates.push(update(vec![], attributes, nlri.to_vec()));
            }
        }
        if let Some(next_hop_global) = self.next_hop_v6 {
            for nlri in v6.chunks(PREFIXES_PER_UPDATE) {
                let nlri = nlri.into();
                let reach = MpReach::Ipv6Unicast { next_hop_global, next_hop_local: None, nlri };
                let reach = long_optional(PathAttributeValue::MpReach(reach));
                updates.push(update(vec![], self.attributes(med, [reach]), vec![]));
            }
        }
        updates
    }

    fn attributes(
        &self,
        med: Med,
        more: impl IntoIterator<Item = Option<PathAttribute>>,
    ) -> Vec<PathAttribute> {
        let path = if self.internal {
            AsPath::as4_path_segments(vec![])
        } else {
            let copies = vec![self.local_as.0; usize::from(self.prepend) + 1];
            let sequence = As4PathSegment::new(AsPathSegmentType::AsSequence, copies);
            AsPath::as4_path_segments(vec![sequence])
        };
        let metric = MultiExitDiscriminator::new(med.0);
        let mut all = vec![
            well_known(PathAttributeValue::Origin(Origin::IGP)),
            well_known(PathAttributeValue::AsPath(path)),
            flags(true, false, false, PathAttributeValue::MultiExitDiscriminator(metric)),
        ];
        if self.internal {
            let preference = PathAttributeValue::LocalPreference(LocalPreference::new(100));
            all.push(well_known(preference));
        }
        if !self.communities.is_empty() {
            let list: Vec<_> = self.communities.iter().copied().map(Community::new).collect();
            let value = PathAttributeValue::Communities(Communities::new(list));
            all.push(flags(true, true, false, value));
        }
        if !self.large_communities.is_empty() {
            let large =
                |&(global, one, two): &(u32, u32, u32)| LargeCommunity::new(global, one, two);
            let list: Vec<_> = self.large_communities.iter().map(large).collect();
            let value = PathAttributeValue::LargeCommunities(LargeCommunities::new(list));
            all.push(flags(true, true, true, value));
        }
        all.extend(more);
        all.into_iter().flatten().collect()
    }
}

/// UPDATEs that withdraw `prefixes`.
pub fn withdraw(prefixes: &[IpNet]) -> Vec<Bytes> {
    let (v4, v6) = by_family(prefixes);
    let mut updates: Vec<_> =
        v4.chunks(PREFIXES_PER_UPDATE).map(|nlri| update(nlri.to_vec(), vec![], vec![])).collect();
    for nlri in v6.chunks(PREFIXES_PER_UPDATE) {
        let unreach = MpUnreach::Ipv6Unicast { nlri: nlri.into() };
        let attribute = long_optional(PathAttributeValue::MpUnreach(unreach));
        updates.push(update(vec![], attribute.into_iter().collect(), vec![]));
    }
    updates
}

fn by_family(prefixes: &[IpNet]) -> (Vec<Ipv4UnicastAddress>, Vec<Ipv6UnicastAddress>) {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for prefix in prefixes {
        // Multicast and broadcast were refused when the prefix was taken in.
        match prefix {
            IpNet::V4(net) => {
                let unicast = Ipv4Unicast::from_net(*net).ok();
                v4.extend(unicast.map(Ipv4UnicastAddress::new_no_path_id));
            }
            IpNet::V6(net) => {
                let unicast = Ipv6Unicast::from_net(*net).ok();
                v6.extend(unicast.map(|unicast| Ipv6UnicastAddress::new(None, unicast)));
            }
        }
    }
    (v4, v6)
}

fn update(
    withdrawn: Vec<Ipv4UnicastAddress>,
    attributes: Vec<PathAttribute>,
    nlri: Vec<Ipv4UnicastAddress>,
) -> Bytes {
    encode(&BgpMessage::Update(BgpUpdateMessage::new(withdrawn, attributes, nlri)))
}

fn well_known(value: PathAttributeValue) -> Option<PathAttribute> {
    flags(false, true, false, value)
}

fn long_optional(value: PathAttributeValue) -> Option<PathAttribute> {
    flags(true, false, true, value)
}

/// `None` only for flags that contradict the attribute, which the tests below rule out.
fn flags(
    optional: bool,
    transitive: bool,
    long: bool,
    value: PathAttributeValue,
) -> Option<PathAttribute> {
    let attribute = PathAttribute::from(optional, transitive, false, long, value);
    debug_assert!(attribute.is_ok());
    attribute.ok()
}

fn encode(whole: &BgpMessage) -> Bytes {
    let mut octets = Vec::with_capacity(whole.len());
    // Writing to memory fails only for what is too long, and every list here is bounded.
    whole.write(&mut octets).expect("bounded messages fit into 4,096 octets");
    assert!(octets.len() <= MAX_MESSAGE, "a message of {} octets", octets.len());
    octets.into()
}

fn message(kind: u8, body: &[u8]) -> Bytes {
    let length = (HEADER + body.len()) as u16;
    let mut octets = BytesMut::with_capacity(usize::from(length));
    octets.extend_from_slice(&[0xff; 16]);
    octets.extend_from_slice(&length.to_be_bytes());
    octets.extend_from_slice(&[kind]);
    octets.extend_from_slice(body);
    debug_assert!(octets.has_remaining());
    octets.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template() -> PathTemplate {
        PathTemplate {
            local_as: Asn(4_200_000_001),
            internal: false,
            prepend: 16,
            next_hop_v4: Some(Ipv4Addr::LOCALHOST),
            next_hop_v6: Some(Ipv6Addr::LOCALHOST),
            communities: vec![0xffff_0000; 32],
            large_communities: vec![(1, 2, 3); 32],
        }
    }

    #[test]
    fn the_longest_updates_fit_into_a_message_and_are_read_back_whole() {
        let many = |i: u32| {
            let v4: IpNet =
                format!("10.{}.{}.{}/32", i >> 16, i >> 8 & 255, i & 255).parse().unwrap();
            let v6: IpNet = format!("2001:db8::{i:x}/128").parse().unwrap();
            [v4, v6]
        };
        let prefixes: Vec<IpNet> = (1..=400).flat_map(many).collect();
        let mut count = 0;
        for octets in template().announce(Med(7), &prefixes) {
            let update = decode_update(&octets).unwrap();
            count += update.nlri().len();
            for attribute in update.path_attributes() {
                if let PathAttributeValue::MpReach(MpReach::Ipv6Unicast { nlri, .. }) =
                    attribute.value()
                {
                    count += nlri.len();
                }
            }
        }
        assert_eq!(count, 800);
        for octets in withdraw(&prefixes) {
            decode_update(&octets).unwrap();
        }
    }

    #[test]
    fn our_open_never_offers_graceful_restart_in_any_form() {
        let mut deframer = Deframer::default();
        deframer.push(&open(Asn(4_200_000_001), 9, Ipv4Addr::LOCALHOST));
        let Ok(Some(Received::Open(open))) = deframer.next_message() else { panic!("not an OPEN") };
        assert_eq!(open.my_asn4(), 4_200_000_001);
        assert_eq!(open.my_as(), AS_TRANS);
        assert!(!open.capabilities().iter().any(|capability| matches!(
            capability,
            BgpCapability::GracefulRestartCapability(_)
                | BgpCapability::LongLivedGracefulRestart(_)
        )));
    }

    #[test]
    fn a_damaged_header_is_answered_with_the_notification_of_rfc_4271() {
        let cases = [
            ((3, 0), (1, 1)),
            ((17, 18), (1, 2)),
            ((17, 20), (1, 2)),
            ((16, 0xff), (1, 2)),
            ((18, 9), (1, 3)),
        ];
        for ((at, value), expected) in cases {
            let mut octets = keepalive().to_vec();
            octets[at] = value;
            let mut deframer = Deframer::default();
            deframer.push(&octets);
            let error = deframer.next_message().unwrap_err();
            assert_eq!((error.code, error.subcode), expected);
        }
    }

    #[test]
    fn messages_come_out_whole_however_the_stream_is_cut() {
        let stream = [keepalive(), Notification::shutdown("maintenance").encode(), keepalive()];
        let stream = stream.concat();
        for chunk in 1..stream.len() {
            let (mut deframer, mut seen) = (Deframer::default(), Vec::new());
            for part in stream.chunks(chunk) {
                deframer.push(part);
                while let Some(message) = deframer.next_message().unwrap() {
                    seen.push(message);
                }
            }
            assert_eq!(seen.len(), 3, "chunks of {chunk}");
            let Received::Notification(notice) = &seen[1] else { panic!("{seen:?}") };
            assert!(notice.to_string().contains("maintenance"));
        }
    }
}
