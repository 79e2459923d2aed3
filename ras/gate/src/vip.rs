//! The service address on an interface, and telling the neighbours that it moved.
//!
//! The address gets a lifetime in the kernel, so it goes away by itself when the agent does. That
//! lifetime counts in whole seconds and ends late (IPv4 by up to a third of a second), so it is
//! rounded up and the gate leads: the address may linger, its traffic does not pass.
//!
//! Announcements are sent by the caller at [`ANNOUNCE_AT`] after opening; nothing here waits. They
//! go through a packet socket, past the gate: announce only while the gate is open.

use crate::nl::{ACK, CREATE, Family, REPLACE, REQUEST, Socket, attr};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;
use thiserror::Error;

/// When to announce, counted from the opening: the first may be lost, and switches may be slow.
pub const ANNOUNCE_AT: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_millis(100),
    Duration::from_millis(1100),
    Duration::from_millis(2100),
];

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const ARPHRD_ETHER: u16 = 1;
/// No duplicate address detection: the ticket says who has the address, and it must work at once.
const IFA_F_NODAD: u32 = 0x02;
/// No route to a whole network just because of a service address.
const IFA_F_NOPREFIXROUTE: u32 = 0x200;

/// Why an address could not be set or announced.
#[derive(Debug, Error)]
pub enum VipError {
    /// Not allowed in this network namespace.
    #[error(
        "not permitted to change addresses or send announcements; run with CAP_NET_ADMIN and CAP_NET_RAW"
    )]
    NotPermitted,
    /// No such interface.
    #[error("no interface {0:?}: the service address is not set; check the name with ip link")]
    NoInterface(String),
    /// Another failure of the kernel.
    #[error("{step}: {errno}")]
    Kernel {
        /// Which step.
        step: &'static str,
        /// What the kernel said.
        errno: Errno,
    },
}

fn at(step: &'static str) -> impl Fn(Errno) -> VipError {
    move |errno| match errno {
        Errno::EPERM | Errno::EACCES => VipError::NotPermitted,
        errno => VipError::Kernel { step, errno },
    }
}

/// An interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    index: u32,
    mac: Option<[u8; 6]>,
}

impl Link {
    /// Hardware address; `None` where there is no Ethernet, and nothing to announce.
    pub fn mac(&self) -> Option<[u8; 6]> {
        self.mac
    }
}

/// Sets and removes service addresses in the current network namespace.
#[derive(Debug)]
pub struct Vip {
    route: Socket,
    packet: Option<OwnedFd>,
}

impl Vip {
    /// Opens the sockets, so that nothing has to be opened when it matters.
    pub fn open() -> Result<Self, VipError> {
        let route = Socket::open(Family::Route).map_err(at("netlink socket"))?;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let packet = socket(AddressFamily::Packet, SockType::Raw, flags, None).ok();
        Ok(Self { route, packet })
    }

    /// Looks an interface up by name.
    pub fn link(&mut self, name: &str) -> Result<Link, VipError> {
        let missing = || VipError::NoInterface(name.to_owned());
        if name.is_empty() || name.len() > 15 || name.contains('\0') {
            return Err(missing());
        }
        let seq = self.route.next_seq();
        self.route.out.clear();
        self.route.out.begin(RTM_GETLINK, REQUEST | ACK, seq, &[0; 16]);
        self.route.out.text(3, name); // IFLA_IFNAME
        let mut found = None;
        let result = self.route.dump(seq, |message| {
            let Some(head) = message.body.first_chunk::<16>() else { return };
            if message.kind != RTM_NEWLINK {
                return;
            }
            let kind = u16::from_ne_bytes([head[2], head[3]]);
            let index = u32::from_ne_bytes([head[4], head[5], head[6], head[7]]);
            let mac = attr(&message.body[16..], 1).and_then(|mac| mac.try_into().ok());
            found = Some(Link { index, mac: mac.filter(|_| kind == ARPHRD_ETHER) });
        });
        match result {
            Ok(()) => found.ok_or_else(missing),
            Err(Errno::ENODEV) => Err(missing()),
            Err(errno) => Err(at("look up the interface")(errno)),
        }
    }

    /// Sets an address, or gives it a new lifetime: whole seconds, rounded up.
    pub fn add(
        &mut self,
        link: Link,
        address: IpAddr,
        prefix: u8,
        lifetime: Duration,
    ) -> Result<(), VipError> {
        let seconds = lifetime.as_millis().div_ceil(1000).clamp(1, u128::from(u32::MAX - 1)) as u32;
        self.address(RTM_NEWADDR, CREATE | REPLACE, link, address, prefix, Some(seconds))
            .map_err(at("set the address"))
    }

    /// Removes an address. Gone already is as good.
    pub fn delete(&mut self, link: Link, address: IpAddr, prefix: u8) -> Result<(), VipError> {
        match self.address(RTM_DELADDR, 0, link, address, prefix, None) {
            Ok(()) | Err(Errno::EADDRNOTAVAIL) => Ok(()),
            Err(errno) => Err(at("remove the address")(errno)),
        }
    }

    fn address(
        &mut self,
        kind: u16,
        flags: u16,
        link: Link,
        address: IpAddr,
        prefix: u8,
        seconds: Option<u32>,
    ) -> Result<(), Errno> {
        let v4;
        let v6;
        let (family, bytes): (u8, &[u8]) = match address {
            IpAddr::V4(address) => {
                v4 = address.octets();
                (2, &v4)
            }
            IpAddr::V6(address) => {
                v6 = address.octets();
                (10, &v6)
            }
        };
        let seq = self.route.next_seq();
        let out = &mut self.route.out;
        let mut head = [family, prefix, 0, 0, 0, 0, 0, 0];
        head[4..].copy_from_slice(&link.index.to_ne_bytes());
        out.clear();
        out.begin(kind, REQUEST | ACK | flags, seq, &head);
        out.attr(1, bytes); // IFA_ADDRESS
        out.attr(2, bytes); // IFA_LOCAL
        if let Some(seconds) = seconds {
            let mut times = [0u8; 16]; // preferred, valid, two stamps that the kernel fills
            times[..4].copy_from_slice(&seconds.to_ne_bytes());
            times[4..8].copy_from_slice(&seconds.to_ne_bytes());
            out.attr(6, &times); // IFA_CACHEINFO
            out.attr(8, &(IFA_F_NODAD | IFA_F_NOPREFIXROUTE).to_ne_bytes()); // IFA_FLAGS
        }
        // No envelope: the number before ours names nothing that is under way.
        self.route.transact(seq.wrapping_sub(1), seq, seq)
    }

    /// Tells all neighbours on the link where the address is now: gratuitous ARP as request and as
    /// reply (some listen to one only), or an unsolicited neighbour advertisement.
    pub fn announce(&self, link: Link, address: IpAddr) -> Result<(), VipError> {
        let Some(mac) = link.mac else { return Ok(()) }; // nobody to tell
        let Some(fd) = &self.packet else { return Err(VipError::NotPermitted) };
        let send = |frame: &[u8]| send_frame(fd, link, frame).map_err(at("announce"));
        match address {
            IpAddr::V4(address) => {
                send(&gratuitous_arp(mac, address, 1))?;
                send(&gratuitous_arp(mac, address, 2))
            }
            IpAddr::V6(address) => send(&neighbour_advertisement(mac, address)),
        }
    }
}

/// RFC 5227 section 3: sender and target are the announced address.
fn gratuitous_arp(mac: [u8; 6], address: Ipv4Addr, operation: u8) -> [u8; 42] {
    let mut frame = [0u8; 42];
    frame[..6].fill(0xff);
    frame[6..12].copy_from_slice(&mac);
    frame[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, operation]);
    frame[22..28].copy_from_slice(&mac);
    frame[28..32].copy_from_slice(&address.octets());
    frame[32..38].copy_from_slice(if operation == 2 { &[0xff; 6] } else { &[0; 6] });
    frame[38..42].copy_from_slice(&address.octets());
    frame
}

/// RFC 4861 section 7.2.6: unsolicited, override, to all nodes, with the link-layer address.
fn neighbour_advertisement(mac: [u8; 6], address: Ipv6Addr) -> [u8; 86] {
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let mut frame = [0u8; 86];
    frame[..6].copy_from_slice(&[0x33, 0x33, 0, 0, 0, 1]);
    frame[6..12].copy_from_slice(&mac);
    frame[12..14].copy_from_slice(&[0x86, 0xdd]);
    frame[14] = 0x60;
    frame[18..22].copy_from_slice(&[0, 32, 58, 255]); // length, ICMPv6, hop limit
    frame[22..38].copy_from_slice(&address.octets());
    frame[38..54].copy_from_slice(&all_nodes.octets());
    frame[54] = 136;
    frame[58] = 0x20; // override
    frame[62..78].copy_from_slice(&address.octets());
    frame[78..80].copy_from_slice(&[2, 1]); // target link-layer address, 8 bytes
    frame[80..86].copy_from_slice(&mac);
    let sum = checksum(&frame[22..54], &frame[54..86], 58);
    frame[56..58].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// The Internet checksum over pseudo header and message (RFC 8200 section 8.1).
fn checksum(addresses: &[u8], message: &[u8], next_header: u32) -> u16 {
    let words = addresses.chunks(2).chain(message.chunks(2));
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    let mut sum: u32 = words.map(word).sum::<u32>() + message.len() as u32 + next_header;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn send_frame(fd: &OwnedFd, link: Link, frame: &[u8]) -> Result<(), Errno> {
    // SAFETY: all zeroes is a valid sockaddr_ll.
    let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    to.sll_family = libc::AF_PACKET as u16;
    to.sll_ifindex = link.index.cast_signed();
    to.sll_halen = 6;
    to.sll_addr[..6].copy_from_slice(&frame[..6]);
    to.sll_protocol = u16::from_ne_bytes([frame[12], frame[13]]);
    // SAFETY: the frame is valid for its length and only read; `to` is a complete sockaddr_ll and
    // its size is given.
    let sent = unsafe {
        libc::sendto(
            fd.as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            libc::MSG_DONTWAIT,
            (&raw const to).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    Errno::result(sent).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announcement_carries_address_and_hardware_address_where_they_belong() {
        let mac = [2, 0, 0, 0, 0, 9];
        let arp = gratuitous_arp(mac, Ipv4Addr::new(192, 0, 2, 7), 1);
        assert_eq!(&arp[28..32], &[192, 0, 2, 7]);
        assert_eq!(&arp[38..42], &[192, 0, 2, 7]);
        assert_eq!(&arp[22..28], &mac);
    }

    #[test]
    fn the_checksum_of_an_advertisement_verifies() {
        let frame = neighbour_advertisement([2, 0, 0, 0, 0, 9], "2001:db8::7".parse().unwrap());
        assert_eq!(checksum(&frame[22..54], &frame[54..86], 58), 0);
        assert_ne!(&frame[56..58], &[0, 0]);
    }
}
