//! Numbers that look random and are fixed by one (SplitMix64: public domain, eight lines).

/// The state; it begins as the seed.
#[derive(Clone, Debug)]
pub(super) struct Seed(pub(super) u64);

impl Seed {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Evenly between two numbers.
    pub(super) fn between(&mut self, low: f64, high: f64) -> f64 {
        let share = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        low + (high - low) * share
    }

    /// In another order.
    pub(super) fn shuffled<const N: usize>(&mut self, mut items: [usize; N]) -> [usize; N] {
        for last in (1..N).rev() {
            let at = (self.next() % (last as u64 + 1)) as usize;
            items.swap(last, at);
        }
        items
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_order_and_the_orders_differ() {
        let order = |seed| Seed(seed).shuffled([0, 1, 2]);
        let orders: std::collections::BTreeSet<_> = (0..100).map(order).collect();
        assert_eq!(orders.len(), 6, "every order comes up");
        assert_eq!(order(7), order(7));
        let mut seed = Seed(7);
        let within = |v: f64| (0.4..0.6).contains(&v);
        assert!((0..1_000).all(|_| within(seed.between(0.4, 0.6))));
    }
}
