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

    pub(crate) fn parse(bytes: &[u8]) -> std::result::Result<Self, BadHeader> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::Encoder;
    use crate::layout::{Sender, Stamp, write_record};
    use crate::{Field, merge, render};
    use tierce_tests::fuzz;

    fn header() -> Header {
        Header {
            capacity: 4096,
            run: 0xdead_beef,
            pid: 7,
            process: "agent@paris".into(),
            boot_id: "0f1e2d3c-0000-1111-2222-333344445555".into(),
            started_wall_ns: 12,
        }
    }

    fn payload() -> Vec<u8> {
        let mut buffer = [0; 512];
        let mut e = Encoder::new(&mut buffer, "log");
        e.field("level", "INFO".into());
        e.field("site", "Zürich \u{1b}[2J".into());
        e.field("max", u64::MAX.into());
        e.field("min", i64::MIN.into());
        e.field("raw", Field::Bytes(&[0, 255]));
        let (used, _) = e.finish();
        buffer[..used].to_vec()
    }

    /// A recording of these payloads, one after the other, each behind a good checksum.
    fn recording(payloads: &[&[u8]]) -> Vec<u8> {
        let mut file = vec![0; HEADER_BYTES];
        for at in HEADER_COPIES {
            let copy = header().encode();
            file[at..at + copy.len()].copy_from_slice(&copy);
        }
        for (n, payload) in (0..).zip(payloads) {
            let mut room = vec![0; slotted(payload.len())];
            let heard = crate::layout::Heard { sender: Sender::of("agent@rome"), stamp: n * 9 };
            let stamp = Stamp {
                sequence: n,
                boot_ns: n,
                wall_ns: u64::MAX - n,
                hlc: n * 10,
                heard: (n % 2 == 1).then_some(heard),
                cut: false,
            };
            write_record(&mut room, header().seed(), &stamp, payload);
            file.extend(room);
        }
        file
    }

    /// Whatever lies in the file or under a record's checksum, it is read, merged and shown; nothing
    /// that a peer wrote steers the reader's terminal.
    #[test]
    fn any_file_is_a_recording_or_refused_and_can_be_shown() {
        let payload = payload();
        let files = vec![recording(&[&payload, b"", &payload]), recording(&[])];
        let payloads = vec![payload];
        bolero::check!().for_each(|bytes: &[u8]| {
            let mut read = Vec::new();
            for file in fuzz::inputs(&files, bytes) {
                read.extend(Recording::parse(&file));
            }
            for payload in fuzz::inputs(&payloads, bytes) {
                let payload = &payload[..payload.len().min(crate::layout::MAX_PAYLOAD)];
                let good = Recording::parse(&recording(&[payload, payload])).unwrap();
                assert_eq!((good.entries.len(), good.torn, good.missing), (2, 0, 0));
                assert!(good.entries[0].fields.len() * 2 <= payload.len(), "two bytes a field");
                read.push(good);
            }
            let total: usize = read.iter().map(|r| r.entries.len()).sum();
            let merged = merge(&read);
            assert!(merged.len() <= total);
            let lines = render(&merged);
            assert!(!lines.chars().any(|c| c.is_control() && c != '\n'), "{lines:?}");
            serde_json::to_string(&merged).unwrap();
        });
    }
}
