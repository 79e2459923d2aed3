//! Where what lies in a recording: one page of header, then slots of 64 bytes.
//!
//! A record begins at a slot's start and never wraps at the ring's end, so a reader that lost its
//! way finds the next record by looking at slot starts only. The checksum of a record is seeded
//! with a number drawn at each start: bytes that came from a peer and happen to lie at a slot's
//! start cannot pose as a record, and records of an earlier run cannot either. The header is there
//! twice, since without that number nothing else can be read.

use crc32c::{crc32c, crc32c_append};

use crate::limits::{MAX_PROCESS_BYTES, MAX_RECORD_BYTES};
use crate::sync::between;

pub(crate) const VERSION: u16 = 1;
/// Header page; the ring follows.
pub(crate) const HEADER_BYTES: usize = 4096;
/// Where the two copies of the header stand.
pub(crate) const HEADER_COPIES: [usize; 2] = [0, 2048];
/// A record begins at a multiple of this.
pub(crate) const SLOT: usize = 64;
/// Fixed part of a record.
pub(crate) const RECORD_HEADER: usize = 64;
/// What a record may carry.
pub(crate) const MAX_PAYLOAD: usize = MAX_RECORD_BYTES - RECORD_HEADER;

const MAGIC: &[u8; 8] = b"TIERCEFR";
const HEADER_COPY_BYTES: usize = 256;
const RECORD_MAGIC: u32 = 0x7254_4652;
const FLAG_CUT: u32 = 1;
const FLAG_HEARD: u32 = 2;
const BOOT_ID_BYTES: usize = 36;

/// What a recording says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) capacity: u64,
    pub(crate) run: u64,
    pub(crate) pid: u32,
    pub(crate) process: String,
    pub(crate) boot_id: String,
    pub(crate) started_wall_ns: u64,
}

/// Why a header was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BadHeader {
    /// Too short, other magic, or damaged.
    NotOurs,
    /// Ours, of another version.
    Version(u16),
}

impl Header {
    /// The seed of all record checksums of this run.
    pub(crate) fn seed(&self) -> u32 {
        (self.run ^ (self.run >> 32)) as u32
    }

    pub(crate) fn encode(&self) -> [u8; HEADER_COPY_BYTES] {
        let mut b = [0; HEADER_COPY_BYTES];
        put(&mut b, 4, MAGIC);
        put(&mut b, 12, &VERSION.to_le_bytes());
        put(&mut b, 16, &self.capacity.to_le_bytes());
        put(&mut b, 24, &self.run.to_le_bytes());
        put(&mut b, 32, &self.pid.to_le_bytes());
        let process = &self.process.as_bytes()[..self.process.len().min(MAX_PROCESS_BYTES)];
        b[36] = process.len() as u8;
        put(&mut b, 37, process);
        let boot = &self.boot_id.as_bytes()[..self.boot_id.len().min(BOOT_ID_BYTES)];
        put(&mut b, 104, boot);
        put(&mut b, 144, &self.started_wall_ns.to_le_bytes());
        let crc = crc32c(&b[4..]);
        put(&mut b, 0, &crc.to_le_bytes());
        b
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, BadHeader> {
        let b = bytes.get(..HEADER_COPY_BYTES).ok_or(BadHeader::NotOurs)?;
        if &b[4..12] != MAGIC || u32_at(b, 0) != crc32c(&b[4..]) {
            return Err(BadHeader::NotOurs);
        }
        let version = u16::from_le_bytes([b[12], b[13]]);
        if version != VERSION {
            return Err(BadHeader::Version(version));
        }
        let process = &b[37..37 + usize::from(b[36]).min(MAX_PROCESS_BYTES)];
        let boot = &b[104..104 + BOOT_ID_BYTES];
        Ok(Self {
            capacity: u64_at(b, 16),
            run: u64_at(b, 24),
            pid: u32_at(b, 32),
            process: String::from_utf8_lossy(process).into_owned(),
            boot_id: String::from_utf8_lossy(boot).trim_end_matches('\0').to_owned(),
            started_wall_ns: u64_at(b, 144),
        })
    }
}

/// The fixed part of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) sequence: u64,
    pub(crate) boot_ns: u64,
    pub(crate) wall_ns: u64,
    pub(crate) hlc: u64,
    pub(crate) heard: Option<Heard>,
    pub(crate) cut: bool,
}

/// A message received shortly before the record: the record may not sort before its sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) sender: Sender,
    pub(crate) stamp: u64,
}

/// The sender of a message: a checksum of its process name, which is short and enough to find it
/// among the recordings at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sender(pub(crate) u32);

impl Sender {
    /// The receiver was not told who sent.
    pub(crate) const UNKNOWN: Self = Self(0);

    pub(crate) fn of(process: &str) -> Self {
        if process.is_empty() { Self::UNKNOWN } else { Self(crc32c(process.as_bytes()).max(1)) }
    }
}

/// Slots a record with this payload takes, in bytes.
pub(crate) fn slotted(payload: usize) -> usize {
    (RECORD_HEADER + payload).next_multiple_of(SLOT)
}

/// Writes a record to the front of `room`, which is large enough.
pub(crate) fn write_record(room: &mut [u8], seed: u32, stamp: &Stamp, payload: &[u8]) {
    assert!(payload.len() <= MAX_PAYLOAD, "the encoder's buffer bounds the payload");
    let mut h = [0; RECORD_HEADER];
    put(&mut h, 4, &RECORD_MAGIC.to_le_bytes());
    put(&mut h, 8, &(payload.len() as u32).to_le_bytes());
    let mut flags = if stamp.cut { FLAG_CUT } else { 0 };
    if let Some(heard) = stamp.heard {
        flags |= FLAG_HEARD;
        put(&mut h, 48, &heard.stamp.to_le_bytes());
        put(&mut h, 56, &heard.sender.0.to_le_bytes());
    }
    put(&mut h, 12, &flags.to_le_bytes());
    put(&mut h, 16, &stamp.sequence.to_le_bytes());
    put(&mut h, 24, &stamp.boot_ns.to_le_bytes());
    put(&mut h, 32, &stamp.wall_ns.to_le_bytes());
    put(&mut h, 40, &stamp.hlc.to_le_bytes());
    let crc = crc32c_append(crc32c_append(seed, &h[4..]), payload);
    put(&mut h, 0, &crc.to_le_bytes());
    room[..RECORD_HEADER].copy_from_slice(&h);
    between();
    room[RECORD_HEADER..RECORD_HEADER + payload.len()].copy_from_slice(payload);
}

/// Makes a slot's start unreadable as a record.
pub(crate) fn clear_slot(slot: &mut [u8]) {
    slot[..8].fill(0);
}

/// What stands at a slot's start.
pub(crate) enum Found<'a> {
    /// A whole record.
    Record(Stamp, &'a [u8]),
    /// The beginning of a record whose rest is damaged, overwritten or missing.
    Torn,
    /// Something else.
    Nothing,
}

/// Looks at a slot's start. Total.
pub(crate) fn find_record(bytes: &[u8], seed: u32) -> Found<'_> {
    let Some(h) = bytes.get(..RECORD_HEADER) else {
        return Found::Nothing;
    };
    if u32_at(h, 4) != RECORD_MAGIC {
        return Found::Nothing;
    }
    let length = u32_at(h, 8) as usize;
    let Some(payload) = bytes.get(RECORD_HEADER..RECORD_HEADER.saturating_add(length)) else {
        return Found::Torn;
    };
    if length > MAX_PAYLOAD || u32_at(h, 0) != crc32c_append(crc32c_append(seed, &h[4..]), payload)
    {
        return Found::Torn;
    }
    let flags = u32_at(h, 12);
    let stamp = Stamp {
        sequence: u64_at(h, 16),
        boot_ns: u64_at(h, 24),
        wall_ns: u64_at(h, 32),
        hlc: u64_at(h, 40),
        heard: (flags & FLAG_HEARD != 0)
            .then(|| Heard { sender: Sender(u32_at(h, 56)), stamp: u64_at(h, 48) }),
        cut: flags & FLAG_CUT != 0,
    };
    Found::Record(stamp, payload)
}

fn put(to: &mut [u8], at: usize, bytes: &[u8]) {
    to[at..at + bytes.len()].copy_from_slice(bytes);
}

fn u32_at(b: &[u8], at: usize) -> u32 {
    let mut v = [0; 4];
    v.copy_from_slice(&b[at..at + 4]);
    u32::from_le_bytes(v)
}

fn u64_at(b: &[u8], at: usize) -> u64 {
    let mut v = [0; 8];
    v.copy_from_slice(&b[at..at + 8]);
    u64::from_le_bytes(v)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            capacity: 1 << 20,
            run: 0xdead_beef_0102_0304,
            pid: 7,
            process: "agent@paris".into(),
            boot_id: "0f1e2d3c-0000-1111-2222-333344445555".into(),
            started_wall_ns: 12,
        }
    }

    #[test]
    fn a_header_is_read_as_written_and_refused_with_any_bit_flipped() {
        let mut bytes = header().encode();
        assert_eq!(Header::decode(&bytes), Ok(header()));
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(&bytes), Err(BadHeader::NotOurs), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_record_of_another_run_does_not_pass_as_one_of_this() {
        let mut room = [0; 256];
        let stamp = Stamp { sequence: 1, boot_ns: 2, wall_ns: 3, hlc: 4, heard: None, cut: false };
        write_record(&mut room, 5, &stamp, b"\x01kpayload");
        assert!(matches!(find_record(&room, 5), Found::Record(s, p)
            if s == stamp && p == b"\x01kpayload"));
        assert!(matches!(find_record(&room, 6), Found::Torn));
    }
}
