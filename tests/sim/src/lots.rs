//! Lots: the only source of chance.

/// splitmix64: small, and the same everywhere.
#[derive(Clone, Debug)]
pub struct Lots(pub u64);

impl Lots {
    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    /// A number below `n`; 0 when `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        if n == 0 { 0 } else { self.draw() % n }
    }
    /// True in `p` of 100 cases.
    pub fn percent(&mut self, p: u64) -> bool {
        self.below(100) < p
    }
}
