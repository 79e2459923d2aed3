//! Reads a recording, whatever state it is in.
//!
//! The file may be from a process that was killed while writing, from one that still writes, cut
//! short by a copy, or damaged. Every slot's start is looked at; a record whose checksum holds is
//! taken, everything else is stepped over. Nothing in the file is believed beyond its checksum.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use crate::encode::decode;
use crate::entry::Entry;
use crate::hlc::Hlc;
use crate::layout::{BadHeader, Found, HEADER_BYTES, HEADER_COPIES, Header, SLOT};
use crate::layout::{VERSION, find_record, slotted};
use crate::limits::MAX_RECORDER_BYTES;
use crate::{Error, Result};

/// The recording of one run of one process.
#[derive(Debug, Clone)]
pub struct Recording {
    /// Who recorded: "agent@paris".
    pub process: Arc<str>,
    /// Which run of it.
    pub run: u64,
    /// Its process id.
    pub pid: u32,
    /// Which boot of the machine.
    pub boot_id: String,
    /// When it started, nanoseconds since 1970.
    pub started_wall_ns: u64,
    /// The records, in the order they were made.
    pub entries: Vec<Entry>,
    /// Places that began like a record and were damaged or half overwritten. Up to two are
    /// normal after a kill: the record being written and the oldest, which it was overwriting.
    pub torn: u64,
    /// Missing numbers between the first and the last record: 0 unless the file is damaged.
    pub missing: u64,
}

impl Recording {
    /// Reads a ring or a dump. Fails only when the file cannot be read or is no recording.
    pub fn read(path: &Path) -> Result<Self> {
        let limit = (HEADER_BYTES + MAX_RECORDER_BYTES) as u64;
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|f| f.take(limit + 1).read_to_end(&mut bytes))
            .map_err(Error::io("reading", path))?;
        let refuse = |why: String| Error::NotARecording { path: path.to_owned(), why };
        if bytes.len() as u64 > limit {
            return Err(refuse(format!("larger than {limit} bytes")));
        }
        Self::parse(&bytes).map_err(|bad| {
            refuse(match bad {
                BadHeader::NotOurs => "has no intact header of a recording".to_owned(),
                BadHeader::Version(v) => format!("has version {v}, this program reads {VERSION}"),
            })
        })
    }

    fn parse(bytes: &[u8]) -> std::result::Result<Self, BadHeader> {
        let header = find_header(bytes)?;
        let process: Arc<str> = header.process.as_str().into();
        let mut entries = Vec::new();
        let mut torn = 0;
        // The ring may be shorter than the header says, when a copy was cut.
        let mut rest = bytes.get(HEADER_BYTES..).unwrap_or_default();
        let capacity = usize::try_from(header.capacity).unwrap_or(usize::MAX);
        rest = &rest[..rest.len().min(capacity)];
        while !rest.is_empty() {
            let mut step = SLOT;
            match find_record(rest, header.seed()) {
                Found::Record(stamp, payload) => {
                    step = slotted(payload.len());
                    let (kind, fields) = decode(payload);
                    entries.push(Entry {
                        process: process.clone(),
                        run: header.run,
                        sequence: stamp.sequence,
                        kind,
                        boot_ns: stamp.boot_ns,
                        wall_ns: stamp.wall_ns,
                        hlc: Hlc(stamp.hlc),
                        cut: stamp.cut,
                        fields,
                        heard: stamp.heard,
                    });
                }
                Found::Torn => torn += 1,
                Found::Nothing => {}
            }
            rest = &rest[step.min(rest.len())..];
        }
        entries.sort_by_key(|e| e.sequence);
        entries.dedup_by_key(|e| e.sequence);
        let missing = match (entries.first(), entries.last()) {
            (Some(first), Some(last)) => {
                (last.sequence - first.sequence).saturating_sub(entries.len() as u64 - 1)
            }
            _ => 0,
        };
        Ok(Self {
            process,
            run: header.run,
            pid: header.pid,
            boot_id: header.boot_id,
            started_wall_ns: header.started_wall_ns,
            entries,
            torn,
            missing,
        })
    }
}

fn find_header(bytes: &[u8]) -> std::result::Result<Header, BadHeader> {
    let [first, second] =
        HEADER_COPIES.map(|at| Header::decode(bytes.get(at..).unwrap_or_default()));
    // Another version is a better answer than "damaged".
    match (first, second) {
        (Ok(header), _) | (_, Ok(header)) => Ok(header),
        (Err(BadHeader::Version(v)), _) | (_, Err(BadHeader::Version(v))) => {
            Err(BadHeader::Version(v))
        }
        _ => Err(BadHeader::NotOurs),
    }
}
