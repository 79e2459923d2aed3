//! What the switch needs to know of a packet, and a probe through it.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use super::namespace::Namespace;
use super::rule::Look;
use crate::error::{Result, RigError};

/// Where an IPv4 packet goes; nothing for all others (neighbour discovery of IPv6, say).
pub(super) fn destination(packet: &[u8]) -> Option<Ipv4Addr> {
    let header = packet.get(..20)?;
    (header[0] >> 4 == 4).then(|| Ipv4Addr::new(header[16], header[17], header[18], header[19]))
}

/// Whether a packet is a UDP datagram that looks so.
pub(super) fn looks(packet: &[u8], look: &Look) -> bool {
    const UDP: u8 = 17;
    if packet.len() < 20 || packet[9] != UDP {
        return false;
    }
    let payload = usize::from(packet[0] & 15) * 4 + 8;
    let from = payload + look.at;
    packet.get(from..from + look.bytes.len()) == Some(look.bytes.as_slice())
}

/// UDP there and back, one after another.
pub(super) fn round_trips(
    from: &Namespace,
    to: &Namespace,
    address: Ipv4Addr,
    n: usize,
) -> Result<Vec<Duration>> {
    const PATIENCE: Duration = Duration::from_secs(1);
    let what = || RigError::system("a probe through the switch");
    let bind = |at: Ipv4Addr| {
        let socket = UdpSocket::bind((at, 0))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok::<_, std::io::Error>(socket)
    };
    let echo = to.with(|| bind(address))?.map_err(what())?;
    let probe = from.with(|| bind(Ipv4Addr::UNSPECIFIED))?.map_err(what())?;
    let target = echo.local_addr().map_err(what())?;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut bytes = [0; 16];
            for _ in 0..n {
                let Ok((len, peer)) = echo.recv_from(&mut bytes) else { return };
                let _ = echo.send_to(&bytes[..len], peer);
            }
        });
        let mut all = Vec::new();
        for number in 0..n {
            let sent = Instant::now();
            let mut bytes = [0; 16];
            probe.send_to(&(number as u64).to_be_bytes(), target).map_err(what())?;
            probe.recv_from(&mut bytes).map_err(what())?;
            all.push(sent.elapsed());
        }
        Ok(all)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(payload: &[u8]) -> Vec<u8> {
        let mut p = vec![0u8; 28];
        p[0] = 0x45;
        p[9] = 17;
        p[16..20].copy_from_slice(&[10, 77, 0, 2]);
        p.extend_from_slice(payload);
        p
    }

    #[test]
    fn only_whole_ipv4_headers_have_a_destination() {
        assert_eq!(destination(&datagram(b"x")), Some(Ipv4Addr::new(10, 77, 0, 2)));
        assert_eq!(destination(&[0x45; 19]), None);
        assert_eq!(destination(&[0x60; 40]), None);
    }

    #[test]
    fn a_look_finds_bytes_at_their_offset_and_nowhere_else() {
        let look = Look { at: 2, bytes: b"UpdE".to_vec() };
        assert!(looks(&datagram(b"..UpdE"), &look));
        assert!(!looks(&datagram(b".UpdE."), &look));
        assert!(!looks(&datagram(b"..Up"), &look));
        let mut tcp = datagram(b"..UpdE");
        tcp[9] = 6;
        assert!(!looks(&tcp, &look));
    }
}
