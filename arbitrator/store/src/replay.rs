//! All retained records, oldest first: to rebuild the index and for audit.
//!
//! Older segments are not read when a store is opened (recovery begins at the checkpoint), so this
//! is where damage in them is found. It is reported as damage and the replay ends.

use std::collections::VecDeque;
use std::path::PathBuf;

use crate::disk::damaged;
use crate::error::StoreError;
use crate::ids::{SegmentNo, Seq, StoreId};
use crate::record::{OwnedRecord, Stored};
use crate::segment::{Reader, Step, path_of};

/// A record with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retained {
    /// Its number.
    pub seq: Seq,
    /// True when it is part of a checkpoint: it repeats what earlier records led to.
    pub checkpoint: bool,
    /// The record.
    pub record: OwnedRecord,
}

impl From<Stored> for Retained {
    fn from(stored: Stored) -> Retained {
        let Stored { seq, checkpoint, record } = stored;
        Retained { seq, checkpoint, record }
    }
}

/// Iterator over the retained records; ends at the first error.
pub struct Replay {
    pub(crate) dir: PathBuf,
    pub(crate) store: StoreId,
    /// Segments still to be read, ascending; the last one is live.
    pub(crate) segments: VecDeque<SegmentNo>,
    /// The first record that is not there yet.
    pub(crate) until: Seq,
    pub(crate) current: Option<(SegmentNo, Reader)>,
    pub(crate) ready: VecDeque<Retained>,
    /// What the next segment must begin with.
    pub(crate) expected: Option<Seq>,
}

impl Replay {
    fn fetch(&mut self) -> Result<Option<Retained>, StoreError> {
        loop {
            if let Some(record) = self.ready.pop_front() {
                return Ok(Some(record));
            }
            let Some((number, reader)) = &mut self.current else {
                let Some(number) = self.segments.pop_front() else { return Ok(None) };
                let (header, reader) = Reader::open(&self.dir, number, &self.store)?;
                self.check_start(number, header.first)?;
                self.current = Some((number, reader));
                continue;
            };
            match reader.step()? {
                Step::Batch(records) => {
                    self.ready.extend(records.into_iter().map(Retained::from));
                }
                Step::End(tail) => {
                    let (number, next) = (*number, reader.next_seq());
                    let path = path_of(&self.dir, number);
                    if tail.torn > 0 {
                        return Err(damaged(&path, tail.end, "a batch is not whole"));
                    }
                    if self.segments.is_empty() && next != self.until {
                        let what =
                            format!("it ends before record {next}, not before {}", self.until);
                        return Err(damaged(&path, tail.end, what));
                    }
                    self.expected = Some(next);
                    self.current = None;
                }
            }
        }
    }

    fn check_start(&self, number: SegmentNo, first: Seq) -> Result<(), StoreError> {
        match self.expected {
            Some(expected) if expected != first => {
                let what = format!("it begins with record {first}, {expected} belongs here");
                Err(damaged(&path_of(&self.dir, number), 0, what))
            }
            _ => Ok(()),
        }
    }
}

impl Iterator for Replay {
    type Item = Result<Retained, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.fetch();
        if next.is_err() {
            self.segments.clear();
            self.current = None;
        }
        next.transpose()
    }
}
