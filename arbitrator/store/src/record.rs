//! Records and batches: what a caller stores, as bytes.
//!
//! Header, 24 bytes, little-endian: magic (4), CRC32C (4) over the rest of the header and the
//! payload, length (4), sequence number (8), kind (1), flags (1), zero (2). The last record of a
//! batch carries the commit mark; a batch without it never happened.

use crate::error::StoreError;
use crate::ids::Seq;
use crate::limits::{BATCH_MAX_BYTES, RECORD_MAX_BYTES};

pub(crate) const HEADER_BYTES: usize = 24;
const MAGIC: [u8; 4] = *b"Trec";
const FLAG_COMMIT: u8 = 1;
const FLAG_CHECKPOINT: u8 = 2;
/// Bytes of the header before the part that the checksum covers.
const COVERED_FROM: usize = 8;

/// A record to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordRef<'a> {
    /// What it is, to whoever stores it.
    pub kind: u8,
    /// Its bytes, at most [`RECORD_MAX_BYTES`].
    pub payload: &'a [u8],
}

/// A record that came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedRecord {
    /// What it is, to whoever stored it.
    pub kind: u8,
    /// Its bytes.
    pub payload: Vec<u8>,
}

impl OwnedRecord {
    /// The same record, borrowed.
    pub fn borrowed(&self) -> RecordRef<'_> {
        RecordRef { kind: self.kind, payload: &self.payload }
    }
}

/// A record as it stands in a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) seq: Seq,
    pub(crate) checkpoint: bool,
    pub(crate) record: OwnedRecord,
}

/// Bytes of a batch of these records before sealing, or why they are too large.
pub(crate) fn batch_bytes(records: &[RecordRef<'_>]) -> Result<usize, StoreError> {
    let mut total = 0_usize;
    for record in records {
        let size = record.payload.len();
        check(size <= RECORD_MAX_BYTES, "a record", size, RECORD_MAX_BYTES)?;
        total = total.saturating_add(HEADER_BYTES + size);
    }
    check(total <= BATCH_MAX_BYTES, "a batch", total, BATCH_MAX_BYTES)?;
    Ok(total)
}

fn check(ok: bool, what: &'static str, size: usize, limit: usize) -> Result<(), StoreError> {
    let (size, limit) = (size as u64, limit as u64);
    if ok { Ok(()) } else { Err(StoreError::TooLarge { what, size, limit }) }
}

/// Encodes one batch; the first record gets `first`, the last one the commit mark.
pub(crate) fn encode_batch(
    first: Seq,
    records: &[RecordRef<'_>],
    checkpoint: bool,
) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::with_capacity(batch_bytes(records)?);
    for (number, record) in records.iter().enumerate() {
        let mut flags = if checkpoint { FLAG_CHECKPOINT } else { 0 };
        if number + 1 == records.len() {
            flags |= FLAG_COMMIT;
        }
        let mut header = [0_u8; HEADER_BYTES];
        header[0..4].copy_from_slice(&MAGIC);
        header[8..12].copy_from_slice(&(record.payload.len() as u32).to_le_bytes());
        header[12..20].copy_from_slice(&first.plus(number as u64).0.to_le_bytes());
        header[20] = record.kind;
        header[21] = flags;
        let crc = crc_of(&header, record.payload);
        header[4..8].copy_from_slice(&crc.to_le_bytes());
        bytes.extend_from_slice(&header);
        bytes.extend_from_slice(record.payload);
    }
    Ok(bytes)
}

fn crc_of(header: &[u8; HEADER_BYTES], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&header[COVERED_FROM..]), payload)
}

/// Puts a batch together again from the data of its sectors, one after the other.
pub(crate) struct BatchDecoder {
    next: Seq,
    pending: Vec<u8>,
    taken: usize,
    records: Vec<Stored>,
}

impl BatchDecoder {
    pub(crate) fn new(first: Seq) -> BatchDecoder {
        BatchDecoder { next: first, pending: Vec::new(), taken: 0, records: Vec::new() }
    }

    /// Takes the data of the next sector. `Ok(true)` when the commit mark has been read.
    pub(crate) fn push(&mut self, data: &[u8]) -> Result<bool, &'static str> {
        self.taken += data.len();
        // One sector of slack: the last one is padded.
        if self.taken > BATCH_MAX_BYTES + data.len() {
            return Err("a batch without end");
        }
        self.pending.extend_from_slice(data);
        let mut at = 0;
        let complete = loop {
            match decode_record(&self.pending[at..], self.next)? {
                None => break false,
                Some((stored, commit, length)) => {
                    at += length;
                    self.records.push(stored);
                    self.next = self.next.plus(1);
                    if commit {
                        break true;
                    }
                }
            }
        };
        self.pending.drain(..at);
        if complete && self.pending.iter().any(|byte| *byte != 0) {
            return Err("bytes after the commit mark");
        }
        Ok(complete)
    }

    pub(crate) fn into_records(self) -> Vec<Stored> {
        self.records
    }
}

type Decoded = Option<(Stored, bool, usize)>;

/// Decodes the record at the start of `bytes`; `None` when more bytes are needed.
fn decode_record(bytes: &[u8], expected: Seq) -> Result<Decoded, &'static str> {
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let [m0, m1, m2, m3, c0, c1, c2, c3, l0, l1, l2, l3, rest @ ..] = *header;
    if [m0, m1, m2, m3] != MAGIC {
        return Err("a record without its mark");
    }
    let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    if length > RECORD_MAX_BYTES {
        return Err("a record over the bound");
    }
    let [s0, s1, s2, s3, s4, s5, s6, s7, kind, flags, zero0, zero1] = rest;
    if u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]) != expected.0 {
        return Err("a record out of sequence");
    }
    if flags & !(FLAG_COMMIT | FLAG_CHECKPOINT) != 0 || [zero0, zero1] != [0, 0] {
        return Err("a record with unknown flags");
    }
    let Some(payload) = bytes.get(HEADER_BYTES..HEADER_BYTES + length) else { return Ok(None) };
    if u32::from_le_bytes([c0, c1, c2, c3]) != crc_of(header, payload) {
        return Err("a record whose checksum is wrong");
    }
    let stored = Stored {
        seq: expected,
        checkpoint: flags & FLAG_CHECKPOINT != 0,
        record: OwnedRecord { kind, payload: payload.to_vec() },
    };
    Ok(Some((stored, flags & FLAG_COMMIT != 0, HEADER_BYTES + length)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tierce_tests::fuzz;

    fn sample() -> Vec<OwnedRecord> {
        [0, 1, 23, 24, 499, 500, 501, 3000]
            .iter()
            .map(|size| OwnedRecord { kind: (*size % 251) as u8, payload: vec![0xA5; *size] })
            .collect()
    }

    fn encoded(records: &[OwnedRecord]) -> Vec<u8> {
        let refs: Vec<_> = records.iter().map(OwnedRecord::borrowed).collect();
        encode_batch(Seq(5), &refs, false).unwrap()
    }

    #[test]
    fn a_batch_comes_back_in_order_from_pieces_of_any_size() {
        let bytes = encoded(&sample());
        for piece in [1, 7, 24, 500, 4096] {
            let mut decoder = BatchDecoder::new(Seq(5));
            let pieces = bytes.chunks(piece);
            let last = pieces.len() - 1;
            for (n, chunk) in pieces.enumerate() {
                assert_eq!(decoder.push(chunk), Ok(n == last), "piece {piece}, number {n}");
            }
            let back = decoder.into_records();
            assert_eq!(
                back.iter().map(|s| s.seq.0).collect::<Vec<_>>(),
                (5..13).collect::<Vec<_>>()
            );
            assert_eq!(back.into_iter().map(|s| s.record).collect::<Vec<_>>(), sample());
        }
    }

    #[test]
    fn no_prefix_of_a_batch_counts_as_a_batch() {
        let bytes = encoded(&sample());
        for cut in 0..bytes.len() {
            assert_eq!(BatchDecoder::new(Seq(5)).push(&bytes[..cut]), Ok(false), "cut at {cut}");
        }
    }

    #[test]
    fn no_flipped_bit_gives_a_different_batch() {
        let records = vec![OwnedRecord { kind: 9, payload: b"truth".to_vec() }];
        let bytes = encoded(&records);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            // A larger length only asks for more bytes; whatever else must be an error.
            assert!(BatchDecoder::new(Seq(5)).push(&flipped) != Ok(true), "bit {bit}");
        }
    }

    #[test]
    fn a_record_over_the_bound_is_refused_before_anything_is_written() {
        let payload = vec![0; RECORD_MAX_BYTES + 1];
        let refused = encode_batch(Seq(1), &[RecordRef { kind: 0, payload: &payload }], false);
        assert!(matches!(refused, Err(StoreError::TooLarge { what: "a record", .. })));
        let largest = RecordRef { kind: 0, payload: &payload[1..] };
        assert!(encode_batch(Seq(1), &[largest], false).is_ok());
        let refused = encode_batch(Seq(1), &[largest; 4], false);
        assert!(matches!(refused, Err(StoreError::TooLarge { what: "a batch", .. })));
    }

    /// Sectors as recovery hands them on: whatever they hold, no batch is made of anything else than
    /// what was written, and a batch that is made says so again.
    #[test]
    fn any_bytes_are_a_batch_or_an_error() {
        let one = vec![OwnedRecord { kind: 9, payload: b"truth".to_vec() }];
        let samples = vec![encoded(&sample()), encoded(&one)];
        bolero::check!().for_each(|bytes: &[u8]| {
            let piece = usize::from(bytes.first().copied().unwrap_or(0)) + 1;
            for input in fuzz::inputs(&samples, bytes) {
                let mut decoder = BatchDecoder::new(Seq(5));
                for chunk in input.chunks(piece) {
                    match decoder.push(chunk) {
                        Ok(false) => {}
                        Ok(true) => {
                            let stored = decoder.into_records();
                            let records: Vec<_> = stored.iter().map(|s| s.record.clone()).collect();
                            let checkpoint = stored.iter().all(|s| s.checkpoint);
                            let mixed = !checkpoint && stored.iter().any(|s| s.checkpoint);
                            let refs: Vec<_> = records.iter().map(OwnedRecord::borrowed).collect();
                            let again = encode_batch(Seq(5), &refs, checkpoint).unwrap();
                            // A mixture of marks, which nobody writes, has its marks in its bytes.
                            assert!(mixed || input.starts_with(&again), "another batch came out");
                            break;
                        }
                        Err(_) => break,
                    }
                }
            }
        });
    }
}
