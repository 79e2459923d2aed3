//! Frames on a stream: a length of four bytes, big endian, then that many bytes.
//!
//! The decoder is total and holds no more than one frame plus one chunk, whatever the peer claims:
//! a length beyond the bound is refused when it is read, and memory grows with the bytes that came,
//! not with the length that was promised.

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

/// Bytes before each frame.
pub const FRAME_HEADER_BYTES: usize = 4;

/// The peer claims a frame beyond the bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "frame of {claimed} bytes is beyond the bound of {limit}; the connection ends; \
     check that both members run compatible versions"
)]
pub struct FrameTooLarge {
    /// What the header said.
    pub claimed: usize,
    /// What is allowed.
    pub limit: usize,
}

/// The header of a frame of this many bytes.
pub fn frame_header(len: usize, limit: usize) -> Result<[u8; FRAME_HEADER_BYTES], FrameTooLarge> {
    match u32::try_from(len) {
        Ok(small) if len <= limit => Ok(small.to_be_bytes()),
        _ => Err(FrameTooLarge { claimed: len, limit }),
    }
}

/// Makes frames of a stream of bytes.
#[derive(Debug)]
pub struct FrameDecoder {
    buffer: BytesMut,
    limit: usize,
}

impl FrameDecoder {
    /// A decoder that refuses frames beyond `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { buffer: BytesMut::new(), limit }
    }

    /// Changes the bound for the frames to come.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Adds bytes as they came from the stream. Call [`Self::next_frame`] until it gives nothing
    /// before adding more: that is what keeps the buffer bounded.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.put_slice(bytes);
    }

    /// Takes the next whole frame, if there is one.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, FrameTooLarge> {
        let Some(header) = self.buffer.first_chunk::<FRAME_HEADER_BYTES>() else {
            return Ok(None);
        };
        let claimed = u32::from_be_bytes(*header) as usize;
        if claimed > self.limit {
            return Err(FrameTooLarge { claimed, limit: self.limit });
        }
        if self.buffer.len() < FRAME_HEADER_BYTES + claimed {
            return Ok(None);
        }
        let mut frame = self.buffer.split_to(FRAME_HEADER_BYTES + claimed);
        if self.buffer.is_empty() {
            // Do not hold the memory of a large frame for the life of an idle connection.
            self.buffer = BytesMut::new();
        }
        Ok(Some(frame.split_off(FRAME_HEADER_BYTES).freeze()))
    }

    /// Bytes held and not yet given out.
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(frames: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        for frame in frames {
            out.extend_from_slice(&frame_header(frame.len(), 1 << 20).unwrap());
            out.extend_from_slice(frame);
        }
        out
    }

    #[test]
    fn a_length_beyond_the_bound_is_refused_before_its_bytes_come() {
        let mut decoder = FrameDecoder::new(10);
        decoder.push(&[0, 0, 0, 11]);
        assert_eq!(decoder.next_frame(), Err(FrameTooLarge { claimed: 11, limit: 10 }));
        assert!(frame_header(11, 10).is_err());
        assert!(frame_header(10, 10).is_ok());
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in_however_they_are_cut(
            frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20),
            cut in 1usize..64,
        ) {
            let mut decoder = FrameDecoder::new(1 << 20);
            let mut got = Vec::new();
            for chunk in encode(&frames).chunks(cut) {
                decoder.push(chunk);
                while let Some(frame) = decoder.next_frame().unwrap() {
                    got.push(frame.to_vec());
                }
            }
            prop_assert_eq!(got, frames);
            prop_assert_eq!(decoder.buffered(), 0);
        }
    }
}
