//! The network between the nodes: latency, loss, doubles, and cuts.

use std::collections::BTreeSet;

use crate::MS;
use crate::lots::Lots;

/// What becomes of messages.
#[derive(Clone, Debug)]
pub struct Weather {
    /// One-way latency, milliseconds: shortest and longest.
    pub delay_ms: (u64, u64),
    /// Messages of a hundred that take ten times as long.
    pub late_percent: u64,
    /// Datagrams of a hundred that are lost; of streams a tenth of that (a connection breaks).
    pub loss_percent: u64,
    /// Datagrams of a hundred that come twice.
    pub double_percent: u64,
    /// Pairs that cannot hear each other: (from, to).
    pub cut: BTreeSet<(usize, usize)>,
}

impl Weather {
    /// Fair weather at this latency.
    pub fn fair(delay_ms: (u64, u64)) -> Self {
        Self { delay_ms, late_percent: 0, loss_percent: 0, double_percent: 0, cut: BTreeSet::new() }
    }

    /// When the copies of a message arrive, nanoseconds from now; none when it is lost.
    pub fn send(
        &self,
        lots: &mut Lots,
        from: usize,
        to: usize,
        datagram: bool,
    ) -> impl Iterator<Item = u64> + use<> {
        let lost = self.cut.contains(&(from, to))
            || ((datagram || lots.percent(10)) && lots.percent(self.loss_percent));
        let copies = match (lost, lots.percent(self.double_percent)) {
            (true, _) => 0,
            (false, true) => 2,
            (false, false) => 1,
        };
        let mut arrivals = [0; 2];
        for a in &mut arrivals[..copies] {
            let (min, max) = self.delay_ms;
            *a = min * MS + lots.below((max - min) * MS + 1);
            if lots.percent(self.late_percent) {
                *a *= 10;
            }
        }
        arrivals.into_iter().take(copies)
    }

    /// Whether the two hear each other both ways.
    pub fn connects(&self, a: usize, b: usize) -> bool {
        !self.cut.contains(&(a, b)) && !self.cut.contains(&(b, a))
    }
}
