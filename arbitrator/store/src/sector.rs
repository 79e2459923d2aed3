//! Sectors: the unit in which a disk tears.
//!
//! A power cut in the middle of a write leaves each sector either as it was or as it should be,
//! in any mixture. To tell that from damage, each sector that we write carries its own checksum
//! and the number of the batch that it belongs to. Space is zeroed before it is used. So there are
//! exactly three findings: zero (never written), sealed (written whole), bad (no crash of a sound
//! disk does this). Without the seal a flipped bit in the last acknowledged batch would look like
//! the torn end of an unacknowledged one, and recovery would cut it away.
//!
//! The checksum also covers store, segment and position, so that a sector that strayed from
//! another store, segment or place is bad here.
//!
//! Layout: 500 bytes data, 8 bytes tag, 4 bytes CRC32C, little-endian. The tag is never 0, hence a
//! sealed sector is never all zero.

use crate::ids::StoreId;
use crate::limits::{BLOCK_BYTES, SECTOR_BYTES, SECTOR_DATA_BYTES};

const TAG_AT: usize = SECTOR_DATA_BYTES;
const CRC_AT: usize = SECTOR_DATA_BYTES + 8;

/// Sectors of a block.
pub(crate) const SECTORS_PER_BLOCK: u64 = BLOCK_BYTES / SECTOR_BYTES as u64;

static UNWRITTEN: [u8; SECTOR_BYTES] = [0; SECTOR_BYTES];

/// What a sector turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Sector<'a> {
    /// Never written.
    Zero,
    /// Written whole.
    Sealed { tag: u64, data: &'a [u8] },
    /// Neither.
    Bad,
}

/// The seal of one kind of sector in one place: a checksum that has already seen where it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seal(u32);

impl Seal {
    /// `domain` keeps kinds of files apart, `store` stores, `part` segments.
    pub(crate) fn new(domain: [u8; 8], store: Option<&StoreId>, part: u64) -> Seal {
        let crc = crc32c::crc32c(&domain);
        let crc = crc32c::crc32c_append(crc, store.map_or(&[0; 16], |id| &id.0));
        Seal(crc32c::crc32c_append(crc, &part.to_le_bytes()))
    }

    fn crc(self, position: u64, covered: &[u8]) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c_append(self.0, &position.to_le_bytes()), covered)
    }

    /// Seals `data` (at most 500 bytes) into `sector`, which must be zero.
    pub(crate) fn write(self, position: u64, tag: u64, data: &[u8], sector: &mut [u8]) {
        assert!(tag != 0, "a sealed sector must not be all zero");
        assert!(data.len() <= SECTOR_DATA_BYTES && sector.len() == SECTOR_BYTES);
        sector[..data.len()].copy_from_slice(data);
        sector[TAG_AT..CRC_AT].copy_from_slice(&tag.to_le_bytes());
        let crc = self.crc(position, &sector[..CRC_AT]);
        sector[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
    }

    /// Says what a sector is.
    pub(crate) fn read(self, position: u64, sector: &[u8; SECTOR_BYTES]) -> Sector<'_> {
        if *sector == UNWRITTEN {
            return Sector::Zero;
        }
        let (covered, crc) = sector.split_at(CRC_AT);
        let (data, tag) = covered.split_at(TAG_AT);
        let tag = tag.iter().rev().fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte));
        if crc != self.crc(position, covered).to_le_bytes() || tag == 0 {
            return Sector::Bad;
        }
        Sector::Sealed { tag, data }
    }

    /// One sealed sector, alone in a file or a block.
    pub(crate) fn single(self, position: u64, tag: u64, data: &[u8]) -> [u8; SECTOR_BYTES] {
        let mut sector = [0; SECTOR_BYTES];
        self.write(position, tag, data, &mut sector);
        sector
    }

    /// Seals a batch into as many blocks as it needs; the rest of the last block stays zero.
    pub(crate) fn blocks(self, first_position: u64, tag: u64, bytes: &[u8]) -> Vec<u8> {
        let sectors = bytes.len().div_ceil(SECTOR_DATA_BYTES);
        let size = (sectors * SECTOR_BYTES).next_multiple_of(BLOCK_BYTES as usize);
        let mut sealed = vec![0; size];
        let places = sealed.chunks_exact_mut(SECTOR_BYTES);
        for ((position, data), place) in
            (first_position..).zip(bytes.chunks(SECTOR_DATA_BYTES)).zip(places)
        {
            self.write(position, tag, data, place);
        }
        sealed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal() -> Seal {
        Seal::new(*b"unittest", Some(&StoreId([7; 16])), 3)
    }

    #[test]
    fn a_sealed_sector_gives_back_its_data_and_tag() {
        let sector = seal().single(9, 42, b"hello");
        let Sector::Sealed { tag, data } = seal().read(9, &sector) else { panic!("not sealed") };
        assert_eq!((tag, &data[..5]), (42, &b"hello"[..]));
        assert!(data[5..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn every_flipped_bit_makes_a_sector_bad() {
        let sector = seal().single(9, 42, b"hello");
        for bit in 0..SECTOR_BYTES * 8 {
            let mut flipped = sector;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(seal().read(9, &flipped), Sector::Bad, "bit {bit}");
        }
    }

    #[test]
    fn a_sector_is_bad_in_another_place_segment_store_or_kind_of_file() {
        let sector = seal().single(9, 42, b"hello");
        assert_eq!(seal().read(10, &sector), Sector::Bad);
        for other in [
            Seal::new(*b"unittest", Some(&StoreId([7; 16])), 4),
            Seal::new(*b"unittest", Some(&StoreId([8; 16])), 3),
            Seal::new(*b"unittesT", Some(&StoreId([7; 16])), 3),
        ] {
            assert_eq!(other.read(9, &sector), Sector::Bad);
        }
    }

    #[test]
    fn data_of_zeros_is_still_told_from_space_that_was_never_written() {
        let blocks = seal().blocks(8, 1, &[0; 1200]);
        assert_eq!(blocks.len() as u64, BLOCK_BYTES);
        let sector = |n: usize| -> [u8; SECTOR_BYTES] {
            blocks[n * SECTOR_BYTES..(n + 1) * SECTOR_BYTES].try_into().unwrap()
        };
        for n in 0..3 {
            assert!(matches!(seal().read(8 + n as u64, &sector(n)), Sector::Sealed { .. }));
        }
        assert_eq!(seal().read(11, &sector(3)), Sector::Zero);
    }
}
