//! An entry as a reader sees it, in JSON and as one aligned line.

use std::fmt::Write as _;
use std::sync::Arc;

use serde::ser::{Serialize, SerializeMap, Serializer};
use time::OffsetDateTime;

use crate::hlc::Hlc;
use crate::layout::Heard;

/// A recorded value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Yes or no.
    Bool(bool),
    /// An unsigned number.
    U64(u64),
    /// A signed number.
    I64(i64),
    /// A floating-point number.
    F64(f64),
    /// Text.
    Str(String),
    /// Raw bytes.
    Bytes(Vec<u8>),
}

impl Value {
    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        if let Self::Str(s) = self { Some(s) } else { None }
    }

    /// The number, if it is an unsigned one.
    pub fn as_u64(&self) -> Option<u64> {
        if let Self::U64(n) = self { Some(*n) } else { None }
    }

    /// For people: control characters are escaped, since values may come from a peer and must
    /// not steer a terminal.
    fn write_plain(&self, out: &mut String) {
        let _ = match self {
            Self::Bool(v) => write!(out, "{v}"),
            Self::U64(v) => write!(out, "{v}"),
            Self::I64(v) => write!(out, "{v}"),
            Self::F64(v) => write!(out, "{v}"),
            Self::Bytes(v) => write!(out, "{}", hex(v)),
            Self::Str(v) if v.is_empty() || v.contains([' ', '=', '"']) => {
                out.push('"');
                push_safe(out, v);
                out.push('"');
                Ok(())
            }
            Self::Str(v) => {
                push_safe(out, v);
                Ok(())
            }
        };
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Bool(v) => s.serialize_bool(*v),
            Self::U64(v) => s.serialize_u64(*v),
            Self::I64(v) => s.serialize_i64(*v),
            Self::F64(v) => s.serialize_f64(*v),
            Self::Str(v) => s.serialize_str(v),
            Self::Bytes(v) => s.serialize_str(&hex(v)),
        }
    }
}

/// One record of one process.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Who recorded it: "agent@paris".
    pub process: Arc<str>,
    /// Which run of that process: drawn anew at each start.
    pub run: u64,
    /// The number of the record in its run, from 0 without gaps.
    pub sequence: u64,
    /// What sort of record: "log" for log events, else the name given to `record`.
    pub kind: String,
    /// Nanoseconds since boot of that machine.
    pub boot_ns: u64,
    /// Nanoseconds since 1970 by that machine's wall clock.
    pub wall_ns: u64,
    /// Hybrid logical time.
    pub hlc: Hlc,
    /// Something did not fit and was cut.
    pub cut: bool,
    /// Names and values, in the order recorded.
    pub fields: Vec<(String, Value)>,
    /// The message received before it, which orders it after the sending.
    pub(crate) heard: Option<Heard>,
}

impl Entry {
    /// The first field of that name.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.fields.iter().find(|(k, _)| k == key).map(|(_, v)| v)
    }

    /// The wall time as RFC 3339 in UTC with microseconds.
    pub fn time(&self) -> String {
        utc(self.wall_ns)
    }

    /// One line; the process column is padded to `process_width` characters.
    pub fn line(&self, process_width: usize) -> String {
        let level = self.get("level").and_then(Value::as_str).unwrap_or("-");
        let subject = self.get("target").and_then(Value::as_str).unwrap_or(&self.kind);
        let mut out = format!("{} ", self.time());
        push_safe(&mut out, &self.process);
        for _ in self.process.chars().count()..process_width {
            out.push(' ');
        }
        out.push(' ');
        push_safe(&mut out, level);
        for _ in level.chars().count()..5 {
            out.push(' ');
        }
        out.push(' ');
        push_safe(&mut out, subject);
        if let Some(message) = self.get("message").and_then(Value::as_str) {
            out.push_str(": ");
            push_safe(&mut out, message);
        }
        for (key, value) in &self.fields {
            if !matches!(key.as_str(), "level" | "target" | "message") {
                out.push(' ');
                push_safe(&mut out, key);
                out.push('=');
                value.write_plain(&mut out);
            }
        }
        if self.cut {
            out.push_str(" …");
        }
        out
    }
}

impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        struct Fields<'a>(&'a [(String, Value)]);
        impl Serialize for Fields<'_> {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                let mut map = s.serialize_map(None)?;
                for (i, (key, value)) in self.0.iter().enumerate() {
                    // A JSON object has each name once: the first one is the event's own.
                    if !self.0[..i].iter().any(|(earlier, _)| earlier == key) {
                        map.serialize_entry(key, value)?;
                    }
                }
                map.end()
            }
        }
        let mut map = s.serialize_map(None)?;
        map.serialize_entry("time", &self.time())?;
        map.serialize_entry("process", &*self.process)?;
        map.serialize_entry("kind", &self.kind)?;
        map.serialize_entry("sequence", &self.sequence)?;
        map.serialize_entry("hlc", &self.hlc.to_string())?;
        map.serialize_entry("boot_ns", &self.boot_ns)?;
        map.serialize_entry("run", &format!("{:016x}", self.run))?;
        if self.cut {
            map.serialize_entry("cut", &true)?;
        }
        map.serialize_entry("fields", &Fields(&self.fields))?;
        map.end()
    }
}

/// Entries as text, one aligned line each.
pub fn render(entries: &[Entry]) -> String {
    let width = entries.iter().map(|e| e.process.chars().count()).max().unwrap_or(0);
    let mut out = String::new();
    for entry in entries {
        out.push_str(&entry.line(width));
        out.push('\n');
    }
    out
}

/// RFC 3339 in UTC with microseconds.
pub(crate) fn utc(wall_ns: u64) -> String {
    let Ok(t) = OffsetDateTime::from_unix_timestamp_nanos(wall_ns.into()) else {
        return format!("{wall_ns}ns");
    };
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z",
        t.year(),
        u8::from(t.month()),
        t.day(),
        t.hour(),
        t.minute(),
        t.second(),
        t.microsecond()
    )
}

fn push_safe(out: &mut String, text: &str) {
    for c in text.chars() {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, b| {
        let _ = write!(out, "{b:02x}");
        out
    })
}
