//! A datagram that nobody sent: booth believes what its header says, unless a key is configured.

use super::client::{BODY, HEADER, MAGIC, NAME, VERSION};
use crate::net::Net;

/// Nobody leads.
const NONE: u32 = u32::MAX;
/// Greater than any term of a short run.
const TERM: u32 = 100;

/// "I step down", as if a member had said it.
pub fn step_down(member: usize, ticket: &str) -> Vec<u8> {
    let word = |letters: &[u8; 4]| u32::from_be_bytes(*letters);
    let (vote, asked, why) = (word(b"VtFr"), word(b"RVot"), word(b"LocF"));
    let length = (HEADER + BODY) as u32;
    let header = [0, 0, 0, MAGIC, VERSION, number(member), length, vote, asked, 0, why, 0];
    let mut bytes: Vec<u8> = header.iter().flat_map(|n: &u32| n.to_be_bytes()).collect();
    let name = ticket.bytes().chain(std::iter::repeat(0)).take(NAME);
    bytes.extend(name);
    bytes.extend([NONE, TERM, 0].iter().flat_map(|n| n.to_be_bytes()));
    bytes
}

/// A member's number: CRC-32 of its address without the topmost bit.
fn number(member: usize) -> u32 {
    let crc = Net::address(member).octets().iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |c, _| (c >> 1) ^ (0xEDB8_8320 * (c & 1)))
    });
    !crc & (u32::MAX >> 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forged_datagram_is_as_long_as_a_true_one_and_has_its_words() {
        let bytes = step_down(0, "t0");
        assert_eq!(bytes.len(), 124);
        assert_eq!((&bytes[28..36], &bytes[40..44]), (&b"VtFrRVot"[..], &b"LocF"[..]));
        assert_eq!((&bytes[48..51], &bytes[112..116]), (&b"t0\0"[..], &[0xff; 4][..]));
    }

    #[test]
    fn members_have_the_numbers_that_their_addresses_give() {
        // zlib.crc32(bytes([10, 77, 0, 1])) & 0x7fffffff
        assert_eq!(number(0), 1_102_844_285);
    }
}
