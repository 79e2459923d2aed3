//! The lines between the members, as a UDP relay that can be cut. No root, no kernel rules.
//!
//! The address of a member that stands in all files is a *front* here. A datagram that member `a`
//! sends to the front of `b` leaves towards `b` from a socket that belongs to the pair (a, b), so
//! that `b` sees one unchanging address per peer, answers to it, and the answer leaves the front
//! again towards `a`. A cut drops both directions at once, without a word: as a line does.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::net::UdpSocket;

use super::limits::DATAGRAM;

/// Members: two sites and an arbitrator.
pub(super) const MEMBERS: usize = 3;

#[derive(Default)]
struct Line {
    cut: AtomicBool,
    carried: AtomicU64,
    dropped: AtomicU64,
}

/// All lines.
pub(super) struct Relay {
    /// Where each member is reached.
    pub(super) fronts: [SocketAddr; MEMBERS],
    lines: Arc<[Line; MEMBERS]>,
}

/// The line between two members.
fn line(a: usize, b: usize) -> usize {
    a + b - 1
}

impl Relay {
    /// Starts it on the present runtime; `members`: where they listen.
    pub(super) async fn start(members: [SocketAddr; MEMBERS]) -> std::io::Result<Self> {
        let lines = Arc::new([Line::default(), Line::default(), Line::default()]);
        let mut fronts = members;
        for to in 0..MEMBERS {
            let front = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?);
            fronts[to] = front.local_addr()?;
            let mut backs: [Option<Arc<UdpSocket>>; MEMBERS] = [const { None }; MEMBERS];
            for from in (0..MEMBERS).filter(|from| *from != to) {
                let back = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?);
                back.connect(members[to]).await?;
                backs[from] = Some(back.clone());
                let (front, lines) = (front.clone(), lines.clone());
                tokio::spawn(async move {
                    answers(&back, &front, members[from], &lines[line(from, to)]).await;
                });
            }
            let lines = lines.clone();
            tokio::spawn(async move { questions(&front, &backs, &members, to, &lines).await });
        }
        Ok(Self { fronts, lines })
    }

    /// Cuts a member off from all others, or ends the cut.
    pub(super) fn set_cut(&self, member: usize, cut: bool) {
        for other in (0..MEMBERS).filter(|other| *other != member) {
            self.lines[line(member, other)].cut.store(cut, Ordering::SeqCst);
        }
    }

    /// Datagrams carried and dropped.
    pub(super) fn counts(&self) -> (u64, u64) {
        let sum = |of: fn(&Line) -> &AtomicU64| {
            self.lines.iter().map(|l| of(l).load(Ordering::Relaxed)).sum()
        };
        (sum(|l| &l.carried), sum(|l| &l.dropped))
    }
}

impl Line {
    /// Whether a datagram passes; counts it.
    fn passes(&self) -> bool {
        let cut = self.cut.load(Ordering::SeqCst);
        let count = if cut { &self.dropped } else { &self.carried };
        count.fetch_add(1, Ordering::Relaxed);
        !cut
    }
}

/// From those who dial member `to`.
async fn questions(
    front: &UdpSocket,
    backs: &[Option<Arc<UdpSocket>>; MEMBERS],
    members: &[SocketAddr; MEMBERS],
    to: usize,
    lines: &[Line; MEMBERS],
) {
    let mut buffer = vec![0; DATAGRAM];
    loop {
        // An error here is the echo of a datagram to a member that is down.
        let Ok((length, source)) = front.recv_from(&mut buffer).await else { continue };
        let Some(from) = members.iter().position(|m| *m == source) else { continue };
        if let Some(back) = &backs[from]
            && lines[line(from, to)].passes()
        {
            let _ = back.send(&buffer[..length]).await; // refused: that member is down
        }
    }
}

/// From the member that was dialled, back to who dialled.
async fn answers(back: &UdpSocket, front: &UdpSocket, to: SocketAddr, line: &Line) {
    let mut buffer = vec![0; DATAGRAM];
    loop {
        let Ok(length) = back.recv(&mut buffer).await else { continue };
        if line.passes() {
            let _ = front.send_to(&buffer[..length], to).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn a_line_carries_both_ways_until_it_is_cut_and_again_after() {
        let mut sockets = Vec::new();
        for _ in 0..MEMBERS {
            sockets.push(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        }
        let members = std::array::from_fn(|i| sockets[i].local_addr().unwrap());
        let relay = Relay::start(members).await.unwrap();
        let mut buffer = [0; 16];
        let hears = async |socket: &UdpSocket, buffer: &mut [u8]| {
            let heard = socket.recv_from(buffer);
            tokio::time::timeout(Duration::from_millis(300), heard).await.ok().map(Result::unwrap)
        };
        sockets[0].send_to(b"to b", relay.fronts[1]).await.unwrap();
        let (_, seen) = hears(&sockets[1], &mut buffer).await.unwrap();
        sockets[1].send_to(b"to a", seen).await.unwrap();
        let (_, from) = hears(&sockets[0], &mut buffer).await.unwrap();
        assert_eq!(from, relay.fronts[1], "the answer comes from where was asked");

        relay.set_cut(0, true);
        sockets[0].send_to(b"lost", relay.fronts[1]).await.unwrap();
        sockets[1].send_to(b"lost", seen).await.unwrap();
        assert!(hears(&sockets[1], &mut buffer).await.is_none());
        assert!(hears(&sockets[0], &mut buffer).await.is_none());
        // The others still hear each other.
        sockets[1].send_to(b"b to c", relay.fronts[2]).await.unwrap();
        assert!(hears(&sockets[2], &mut buffer).await.is_some());

        relay.set_cut(0, false);
        sockets[0].send_to(b"again", relay.fronts[1]).await.unwrap();
        let (_, again) = hears(&sockets[1], &mut buffer).await.unwrap();
        assert_eq!(again, seen, "a peer keeps its address");
        assert_eq!(relay.counts(), (4, 2));
    }
}
