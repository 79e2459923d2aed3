//! Segments: a header block, then batches, then zeros.
//!
//! Reading one is where damage and a torn end are told apart. Batches follow each other block by
//! block, tagged with the number of their first record. After the last whole batch there may be:
//! - only zeros: a clean end;
//! - zeros and whole sectors with the tag of the *next* batch: what a power cut leaves of the one
//!   batch in flight. It was never acknowledged and is cut, but only in the live segment;
//! - anything else: a bad sector, another tag (a later batch, so this one was acknowledged), an
//!   impossible file size. That is damage and the whole store is refused.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::disk::{Packer, Unpacker, damaged, failed, read_up_to, settle, sync_dir, write_zeros};
use crate::error::StoreError;
use crate::ids::{Generation, SegmentNo, Seq, StoreId};
use crate::limits::{BLOCK_BYTES, FORMAT_VERSION, SECTOR_BYTES, SEGMENT_ALIGN_BYTES};
use crate::record::{BatchDecoder, Stored};
use crate::sector::{SECTORS_PER_BLOCK, Seal, Sector};

const MAGIC: &[u8; 8] = b"TIERCEsg";
const HEADER_DOMAIN: [u8; 8] = *b"segment\0";
const BATCH_DOMAIN: [u8; 8] = *b"batch\0\0\0";
const PREFIX: &str = "segment-";

/// Where a segment belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) store: StoreId,
    pub(crate) number: SegmentNo,
    pub(crate) first: Seq,
    pub(crate) generation: Generation,
}

pub(crate) fn path_of(dir: &Path, number: SegmentNo) -> PathBuf {
    dir.join(format!("{PREFIX}{:012}", number.0))
}

/// Numbers of the segments in a directory, ascending.
pub(crate) fn list(dir: &Path) -> Result<Vec<SegmentNo>, StoreError> {
    let read = |e| failed("listing", dir, e);
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(read)? {
        let name = entry.map_err(read)?.file_name();
        let digits = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        let digits = digits.filter(|d| d.len() >= 12 && d.bytes().all(|b| b.is_ascii_digit()));
        numbers.extend(digits.and_then(|d| d.parse().ok()).map(SegmentNo));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// The seal of the batches of one segment.
pub(crate) fn batch_seal(store: &StoreId, number: SegmentNo) -> Seal {
    Seal::new(BATCH_DOMAIN, Some(store), number.0)
}

/// Seals a batch for its place in a segment.
pub(crate) fn seal_batch(seal: Seal, offset: u64, first: Seq, bytes: &[u8]) -> Vec<u8> {
    assert!(offset.is_multiple_of(BLOCK_BYTES) && offset > 0, "a batch starts in its own block");
    seal.blocks(offset / SECTOR_BYTES as u64, first.0, bytes)
}

/// A segment that has just been made, durable with its directory entry.
pub(crate) struct Fresh {
    pub(crate) file: File,
    pub(crate) path: PathBuf,
    pub(crate) end: u64,
    pub(crate) size: u64,
}

/// Makes a segment that begins with `checkpoint` (an encoded batch, or nothing).
pub(crate) fn create(dir: &Path, header: &Header, checkpoint: &[u8]) -> Result<Fresh, StoreError> {
    let path = path_of(dir, header.number);
    let fields = Packer::default()
        .bytes(MAGIC)
        .u32(FORMAT_VERSION)
        .bytes(&header.store.0)
        .u64(header.number.0)
        .u64(header.first.0)
        .u32(header.generation.0);
    let head = Seal::new(HEADER_DOMAIN, None, 0).single(0, header.number.0, &fields.0);
    let seal = batch_seal(&header.store, header.number);
    let batch = seal_batch(seal, BLOCK_BYTES, header.first, checkpoint);
    let end = BLOCK_BYTES + batch.len() as u64;
    // Room for what follows, so that the first appends only overwrite.
    let size = (end + SEGMENT_ALIGN_BYTES / 2).next_multiple_of(SEGMENT_ALIGN_BYTES);

    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create_new(true).open(&path);
    let file = file.map_err(|e| failed("creating", &path, e))?;
    grow(&file, &path, 0, size)?;
    file.write_all_at(&head, 0).map_err(|e| failed("writing", &path, e))?;
    file.write_all_at(&batch, BLOCK_BYTES).map_err(|e| failed("writing", &path, e))?;
    file.sync_all().map_err(|e| failed("syncing", &path, e))?;
    sync_dir(dir)?;
    Ok(Fresh { file, path, end, size })
}

/// Lengthens a segment with zeros. The length is set first, in one step: whatever happens in
/// between, the size stays a multiple of the alignment, and any other size is a truncation.
pub(crate) fn grow(file: &File, path: &Path, from: u64, to: u64) -> Result<(), StoreError> {
    assert!(to.is_multiple_of(SEGMENT_ALIGN_BYTES) && to >= from);
    file.set_len(to).map_err(|e| failed("growing", path, e))?;
    write_zeros(file, path, from, to)
}

/// Opens a segment and checks its header and size.
pub(crate) fn open(
    dir: &Path,
    number: SegmentNo,
    store: &StoreId,
) -> Result<(Header, File, u64), StoreError> {
    let path = path_of(dir, number);
    let mut options = OpenOptions::new();
    let file = match options.read(true).write(true).open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(damaged(&path, 0, "it is missing"));
        }
        Err(e) => return Err(failed("opening", &path, e)),
    };
    let size = file.metadata().map_err(|e| failed("looking at", &path, e))?.len();
    if size == 0 || !size.is_multiple_of(SEGMENT_ALIGN_BYTES) {
        return Err(damaged(&path, size, "it is cut off: no segment ends here"));
    }
    let mut sector = [0; SECTOR_BYTES];
    match read_up_to(&file, &mut sector, 0) {
        Ok(SECTOR_BYTES) => {}
        Ok(_) => return Err(damaged(&path, 0, "its header is cut off")),
        Err(e) => return Err(failed("reading", &path, e)),
    }
    let Sector::Sealed { data, .. } = Seal::new(HEADER_DOMAIN, None, 0).read(0, &sector) else {
        return Err(damaged(&path, 0, "its header is not whole"));
    };
    let Some((version, header)) = decode_header(data) else {
        return Err(damaged(&path, 0, "its header is not one of a segment"));
    };
    if version != FORMAT_VERSION {
        return Err(damaged(&path, 0, format!("it has format {version}, unlike the store")));
    }
    if header.store != *store || header.number != number {
        let what = format!("it is segment {} of store {}", header.number, header.store);
        return Err(damaged(&path, 0, format!("{what}, but stands for {number} of {store}")));
    }
    Ok((header, file, size))
}

fn decode_header(data: &[u8]) -> Option<(u32, Header)> {
    let mut fields = Unpacker(data);
    if fields.bytes(8)? != MAGIC {
        return None;
    }
    let version = fields.u32()?;
    let store = StoreId(fields.array()?);
    let number = SegmentNo(fields.u64()?);
    let first = Seq(fields.u64()?);
    let generation = Generation(fields.u32()?);
    Some((version, Header { store, number, first, generation }))
}

/// The end of a segment, as it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tail {
    /// Where the next batch goes.
    pub(crate) end: u64,
    /// Bytes from there to the end of what a torn batch left.
    pub(crate) torn: u64,
}

/// What comes next in a segment.
#[derive(Debug)]
pub(crate) enum Step {
    Batch(Vec<Stored>),
    End(Tail),
}

/// Reads a segment from its header on, once, in order.
pub(crate) struct Reader {
    file: BufReader<File>,
    path: PathBuf,
    seal: Seal,
    position: u64,
    sectors: u64,
    next: Seq,
    /// Where the batch after the last whole one begins.
    end: u64,
}

/// A sector without its borrow.
enum Found {
    Zero,
    Data(u64),
    Bad,
    EndOfFile,
}

impl Reader {
    pub(crate) fn open(
        dir: &Path,
        number: SegmentNo,
        store: &StoreId,
    ) -> Result<(Header, Reader), StoreError> {
        let (header, file, size) = open(dir, number, store)?;
        let path = path_of(dir, number);
        settle(&file, &path)?;
        let reader = Reader {
            file: BufReader::with_capacity(SEGMENT_ALIGN_BYTES as usize, file),
            seal: batch_seal(store, number),
            position: 0,
            sectors: size / SECTOR_BYTES as u64,
            next: header.first,
            end: BLOCK_BYTES,
            path,
        };
        Ok((header, reader.after_header()?))
    }

    /// Skips the header sector; the rest of its block must be zero.
    fn after_header(mut self) -> Result<Reader, StoreError> {
        let mut sector = [0; SECTOR_BYTES];
        self.raw(&mut sector)?;
        self.expect_zeros_to_block_end()?;
        Ok(self)
    }

    /// The number of the record that would come next.
    pub(crate) fn next_seq(&self) -> Seq {
        self.next
    }

    /// The next batch, or the end.
    pub(crate) fn step(&mut self) -> Result<Step, StoreError> {
        self.end = self.position * SECTOR_BYTES as u64;
        let mut decoder = BatchDecoder::new(self.next);
        let mut data = [0; SECTOR_BYTES];
        loop {
            match self.sector(&mut data)? {
                Found::Data(tag) if tag == self.next.0 => {}
                Found::Data(tag) => return Err(self.gap(tag)),
                Found::Zero => return self.tail(1).map(Step::End),
                Found::EndOfFile => return self.tail(0).map(Step::End),
                Found::Bad => return Err(self.bad()),
            }
            let sealed = &data[..crate::limits::SECTOR_DATA_BYTES];
            if decoder.push(sealed).map_err(|what| self.here(what))? {
                break;
            }
        }
        self.expect_zeros_to_block_end()?;
        let records = decoder.into_records();
        self.next = self.next.plus(records.len() as u64);
        Ok(Step::Batch(records))
    }

    /// Everything from here on must be zero or belong to the one batch that was in flight.
    /// `zeros` is the number of zero sectors that were just read.
    fn tail(&mut self, zeros: u64) -> Result<Tail, StoreError> {
        let mut written = self.position - zeros;
        let mut data = [0; SECTOR_BYTES];
        let mut holes = zeros > 0;
        loop {
            match self.sector(&mut data)? {
                Found::Zero => holes = true,
                Found::Data(tag) if tag == self.next.0 => written = self.position,
                Found::Data(tag) => return Err(self.gap(tag)),
                Found::Bad => return Err(self.bad()),
                Found::EndOfFile => break,
            }
        }
        let torn = (written * SECTOR_BYTES as u64).saturating_sub(self.end);
        // Space is there before a batch is written into it, so a batch never runs out of the file.
        if torn > 0 && !holes {
            return Err(damaged(&self.path, self.end, "a batch is cut off by the end of the file"));
        }
        Ok(Tail { end: self.end, torn })
    }

    fn expect_zeros_to_block_end(&mut self) -> Result<(), StoreError> {
        let mut data = [0; SECTOR_BYTES];
        while !self.position.is_multiple_of(SECTORS_PER_BLOCK) {
            match self.sector(&mut data)? {
                Found::Zero => {}
                Found::Bad => return Err(self.bad()),
                _ => return Err(self.here("something follows a whole batch in its block")),
            }
        }
        Ok(())
    }

    fn sector(&mut self, data: &mut [u8; SECTOR_BYTES]) -> Result<Found, StoreError> {
        if self.position == self.sectors {
            return Ok(Found::EndOfFile);
        }
        let position = self.position;
        self.raw(data)?;
        Ok(match self.seal.read(position, data) {
            Sector::Zero => Found::Zero,
            Sector::Sealed { tag, .. } => Found::Data(tag),
            Sector::Bad => Found::Bad,
        })
    }

    fn raw(&mut self, data: &mut [u8; SECTOR_BYTES]) -> Result<(), StoreError> {
        self.file.read_exact(data).map_err(|e| failed("reading", &self.path, e))?;
        self.position += 1;
        Ok(())
    }

    /// Damage at the sector that was read last.
    fn here(&self, what: impl Into<String>) -> StoreError {
        damaged(&self.path, (self.position - 1) * SECTOR_BYTES as u64, what)
    }

    fn bad(&self) -> StoreError {
        self.here("a sector is neither whole nor unwritten")
    }

    fn gap(&self, tag: u64) -> StoreError {
        self.here(format!("record {tag} stands where record {} belongs", self.next))
    }
}
