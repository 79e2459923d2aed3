//! Fields to bytes and back: key, type, value; nothing outside the bytes is needed to read them.
//!
//! Encoding goes into a buffer of fixed size and never fails: what does not fit is cut and the
//! record is marked. Decoding takes any bytes whatsoever and yields what is whole.
//!
//! A field is `key length (1) · key · type (1) · value`; integers are LEB128 (signed ones
//! zig-zag), floats 8 bytes, texts and bytes have a two-byte length in front. All little-endian.

use std::fmt::{self, Write as _};

use crate::entry::Value;
use crate::limits::{MAX_KEY_BYTES, MAX_KIND_BYTES, MAX_VALUE_BYTES};

const FALSE: u8 = 0;
const TRUE: u8 = 1;
const UNSIGNED: u8 = 2;
const SIGNED: u8 = 3;
const FLOAT: u8 = 4;
const TEXT: u8 = 5;
const BYTES: u8 = 6;

/// A value to record. Borrowed, so that recording allocates nothing.
#[derive(Clone, Copy)]
pub enum Field<'a> {
    /// Yes or no.
    Bool(bool),
    /// An unsigned number.
    U64(u64),
    /// A signed number.
    I64(i64),
    /// A floating-point number.
    F64(f64),
    /// Text.
    Str(&'a str),
    /// Raw bytes, shown in hexadecimal.
    Bytes(&'a [u8]),
    /// Text that is formatted into the record without an intermediate string.
    Display(&'a dyn fmt::Display),
    /// As `Display`, by the debug format.
    Debug(&'a dyn fmt::Debug),
}

impl fmt::Debug for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(v) => v.fmt(f),
            Self::U64(v) => v.fmt(f),
            Self::I64(v) => v.fmt(f),
            Self::F64(v) => v.fmt(f),
            Self::Str(v) => v.fmt(f),
            Self::Bytes(v) => v.fmt(f),
            Self::Display(v) => fmt::Display::fmt(v, f),
            Self::Debug(v) => v.fmt(f),
        }
    }
}

macro_rules! field_from {
    ($($from:ty => |$v:ident| $make:expr),* $(,)?) => {
        $(impl<'a> From<$from> for Field<'a> {
            fn from($v: $from) -> Self { $make }
        })*
    };
}
field_from! {
    bool => |v| Field::Bool(v),
    u8 => |v| Field::U64(v.into()),
    u16 => |v| Field::U64(v.into()),
    u32 => |v| Field::U64(v.into()),
    u64 => |v| Field::U64(v),
    usize => |v| Field::U64(v as u64),
    i32 => |v| Field::I64(v.into()),
    i64 => |v| Field::I64(v),
    f64 => |v| Field::F64(v),
    &'a str => |v| Field::Str(v),
    &'a String => |v| Field::Str(v),
    &'a [u8] => |v| Field::Bytes(v),
}

/// Writes one record's payload into a buffer of fixed size.
pub(crate) struct Encoder<'b> {
    buffer: &'b mut [u8],
    used: usize,
    cut: bool,
}

impl<'b> Encoder<'b> {
    /// For the fields of a span, which are copied into records later.
    pub(crate) fn fields_only(buffer: &'b mut [u8]) -> Self {
        Self { buffer, used: 0, cut: false }
    }

    /// For a whole payload: the kind comes first.
    pub(crate) fn new(buffer: &'b mut [u8], kind: &str) -> Self {
        let mut this = Self::fields_only(buffer);
        let kind = floor_char(kind, MAX_KIND_BYTES);
        this.put(&[kind.len() as u8]);
        this.put(kind.as_bytes());
        this
    }

    /// The bytes written, and whether something had to be cut.
    pub(crate) fn finish(self) -> (usize, bool) {
        (self.used, self.cut)
    }

    pub(crate) fn field(&mut self, key: &str, value: Field<'_>) {
        self.named("", key, value);
    }

    /// A field whose key has two parts, joined by a dot: span and field name.
    pub(crate) fn named(&mut self, scope: &str, key: &str, value: Field<'_>) {
        let start = self.used;
        if !(self.put_key(scope, key) && self.put_value(value)) {
            self.used = start;
            self.cut = true;
        }
    }

    /// Fields encoded before, as long as they fit as a whole.
    pub(crate) fn encoded(&mut self, fields: &[u8]) {
        if !self.put(fields) {
            self.cut = true;
        }
    }

    fn put_key(&mut self, scope: &str, key: &str) -> bool {
        let scope = floor_char(scope, MAX_KEY_BYTES / 2);
        let dot = usize::from(!scope.is_empty());
        let key = floor_char(key, MAX_KEY_BYTES - scope.len() - dot);
        self.put(&[(scope.len() + dot + key.len()) as u8])
            && self.put(scope.as_bytes())
            && self.put(&b"."[..dot])
            && self.put(key.as_bytes())
    }

    fn put_value(&mut self, value: Field<'_>) -> bool {
        match value {
            Field::Bool(v) => self.put(&[if v { TRUE } else { FALSE }]),
            Field::U64(v) => self.put(&[UNSIGNED]) && self.put_varint(v),
            Field::I64(v) => self.put(&[SIGNED]) && self.put_varint(zigzag(v)),
            Field::F64(v) => self.put(&[FLOAT]) && self.put(&v.to_le_bytes()),
            Field::Str(v) => self.put_text(|out| out.write_str(v)),
            Field::Display(v) => self.put_text(|out| write!(out, "{v}")),
            Field::Debug(v) => self.put_text(|out| write!(out, "{v:?}")),
            Field::Bytes(v) => {
                let room = self.buffer.len().saturating_sub(self.used + 3).min(MAX_VALUE_BYTES);
                let kept = &v[..v.len().min(room)];
                self.cut |= kept.len() < v.len();
                self.put(&[BYTES]) && self.put(&(kept.len() as u16).to_le_bytes()) && self.put(kept)
            }
        }
    }

    fn put_text(&mut self, write: impl FnOnce(&mut TextInto<'_>) -> fmt::Result) -> bool {
        if !self.put(&[TEXT, 0, 0]) {
            return false;
        }
        let length_at = self.used - 2;
        let end = self.buffer.len().min(self.used + MAX_VALUE_BYTES);
        let mut out = TextInto { room: &mut self.buffer[self.used..end], used: 0 };
        // An error means "no more room", or a formatter that gave up: keep what there is.
        let cut = write(&mut out).is_err();
        let length = out.used;
        self.cut |= cut;
        self.used += length;
        self.buffer[length_at..length_at + 2].copy_from_slice(&(length as u16).to_le_bytes());
        true
    }

    fn put_varint(&mut self, mut value: u64) -> bool {
        let mut bytes = [0; 10];
        let mut n = 0;
        while value >= 0x80 {
            bytes[n] = value as u8 | 0x80;
            value >>= 7;
            n += 1;
        }
        bytes[n] = value as u8;
        self.put(&bytes[..=n])
    }

    fn put(&mut self, bytes: &[u8]) -> bool {
        let Some(room) = self.buffer.get_mut(self.used..self.used + bytes.len()) else {
            return false;
        };
        room.copy_from_slice(bytes);
        self.used += bytes.len();
        true
    }
}

/// Formats into what room there is, cutting between characters.
struct TextInto<'b> {
    room: &'b mut [u8],
    used: usize,
}

impl fmt::Write for TextInto<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let kept = floor_char(text, self.room.len() - self.used);
        self.room[self.used..self.used + kept.len()].copy_from_slice(kept.as_bytes());
        self.used += kept.len();
        if kept.len() == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

/// At most `limit` bytes of `text`, ending between characters.
fn floor_char(text: &str, limit: usize) -> &str {
    if text.len() <= limit {
        return text;
    }
    let mut end = limit;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn zigzag(v: i64) -> u64 {
    (v.wrapping_shl(1) ^ (v >> 63)).cast_unsigned()
}

fn unzigzag(v: u64) -> i64 {
    (v >> 1).cast_signed() ^ -((v & 1).cast_signed())
}

/// A payload as its kind and fields. Total: stops where the bytes stop making sense.
pub(crate) fn decode(payload: &[u8]) -> (String, Vec<(String, Value)>) {
    let mut input = Input(payload);
    let kind = input.short().map(text).unwrap_or_default();
    let mut fields = Vec::new();
    while let Some(field) = input.field() {
        fields.push(field);
    }
    (kind, fields)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(n)?;
        self.0 = tail;
        Some(head)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|b| b[0])
    }

    fn short(&mut self) -> Option<&'a [u8]> {
        let n = self.byte()?;
        self.take(n.into())
    }

    fn long(&mut self) -> Option<&'a [u8]> {
        let n = self.take(2)?;
        self.take(u16::from_le_bytes([n[0], n[1]]).into())
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn field(&mut self) -> Option<(String, Value)> {
        let key = text(self.short()?);
        let value = match self.byte()? {
            FALSE => Value::Bool(false),
            TRUE => Value::Bool(true),
            UNSIGNED => Value::U64(self.varint()?),
            SIGNED => Value::I64(unzigzag(self.varint()?)),
            FLOAT => Value::F64(f64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            TEXT => Value::Str(text(self.long()?)),
            BYTES => Value::Bytes(self.long()?.to_vec()),
            _ => return None,
        };
        Some((key, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_of_field_is_read_as_it_was_written() {
        let mut buffer = [0; 512];
        let mut e = Encoder::new(&mut buffer, "test");
        e.field("yes", true.into());
        e.field("max", u64::MAX.into());
        e.field("min", i64::MIN.into());
        e.field("pi", std::f64::consts::PI.into());
        e.field("site", "Zürich".into());
        e.field("raw", Field::Bytes(&[0, 255]));
        e.named("span", "shown", Field::Debug(&Some(1)));
        let (used, cut) = e.finish();
        assert!(!cut);
        let (kind, fields) = decode(&buffer[..used]);
        assert_eq!(kind, "test");
        let expected = [
            ("yes", Value::Bool(true)),
            ("max", Value::U64(u64::MAX)),
            ("min", Value::I64(i64::MIN)),
            ("pi", Value::F64(std::f64::consts::PI)),
            ("site", Value::Str("Zürich".into())),
            ("raw", Value::Bytes(vec![0, 255])),
            ("span.shown", Value::Str("Some(1)".into())),
        ];
        assert_eq!(fields, expected.map(|(k, v)| (k.to_owned(), v)));
    }

    #[test]
    fn what_does_not_fit_is_cut_between_characters_and_marked() {
        for size in 0..80 {
            let mut buffer = vec![0; size];
            let mut e = Encoder::new(&mut buffer, "k");
            e.field("text", Field::Str(&"ü".repeat(40)));
            e.field("bytes", Field::Bytes(&[7; 40]));
            let (used, cut) = e.finish();
            assert!(cut && used <= size);
            for (_, value) in decode(&buffer[..used]).1 {
                if let Value::Str(s) = value {
                    assert!(s.chars().all(|c| c == 'ü'), "cut inside a character: {s:?}");
                }
            }
        }
    }
}
