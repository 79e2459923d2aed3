//! What becomes of packets in one direction, and how many there were.

use std::time::Duration;

/// A look into a UDP payload: the bytes at an offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// Offset in the payload.
    pub at: usize,
    /// Bytes that must stand there.
    pub bytes: Vec<u8>,
}

/// What becomes of packets from one machine to another. By default they arrive at once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rule {
    /// Nothing arrives.
    pub cut: bool,
    /// Time on the way.
    pub delay: Duration,
    /// Further time on the way, evenly between nothing and this; it does not reorder.
    pub jitter: Duration,
    /// Probability that a packet is lost.
    pub loss: f64,
    /// Probability that a packet arrives twice; the copy arrives later by up to `reorder_by`.
    pub duplicate: f64,
    /// Probability that a packet is held back, so that later ones overtake it.
    pub reorder: f64,
    /// How long it is held back at most.
    pub reorder_by: Duration,
    /// Bytes a second that get through, one packet after another; nothing: as many as come. What
    /// would wait for longer than [`QUEUE`](crate::limits::QUEUE) is lost, as in a router.
    pub rate: Option<u32>,
    /// UDP datagrams that look so are lost.
    pub drop_if: Option<Look>,
}

impl Rule {
    /// Everything arrives after this time.
    pub fn delayed(delay: Duration) -> Self {
        Self { delay, ..Self::default() }
    }
}

/// A packet as it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Machine that sent it.
    pub from: usize,
    /// Machine that it was for.
    pub to: usize,
    /// All of it, IP header included.
    pub bytes: Box<[u8]>,
}

/// What went in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// IP packets that were sent.
    pub packets: u64,
    /// Their bytes, IP header included.
    pub bytes: u64,
    /// Packets of these that were lost, cut or found no room.
    pub dropped: u64,
    /// Packets that arrived once more.
    pub repeated: u64,
}

impl std::ops::Sub for Count {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            packets: self.packets - before.packets,
            bytes: self.bytes - before.bytes,
            dropped: self.dropped - before.dropped,
            repeated: self.repeated - before.repeated,
        }
    }
}

impl std::ops::Add for Count {
    type Output = Self;

    fn add(self, more: Self) -> Self {
        Self {
            packets: self.packets + more.packets,
            bytes: self.bytes + more.bytes,
            dropped: self.dropped + more.dropped,
            repeated: self.repeated + more.repeated,
        }
    }
}
