//! Reading a text: one pass over its bytes, no recursion.

use super::limits::{MAX_ATTRIBUTES, MAX_BYTES, MAX_DEPTH};
use super::names::Names;
use super::{Attr, Document, IN_EXTRA, NONE, ParseError, Reason, Record, flag};
use std::sync::{Arc, OnceLock};

/// Reads a document.
pub(super) fn parse(mut text: String) -> Result<Document, ParseError> {
    if text.len() > MAX_BYTES {
        return Err(ParseError { line: 1, column: 1, reason: Reason::TooLong(text.len()) });
    }
    text.shrink_to_fit();
    let mut parser = Parser::new(&text);
    if let Err(reason) = parser.document() {
        return Err(locate(&text, parser.at, reason));
    }
    let Parser { extra, mut names, mut nodes, mut attrs, root, .. } = parser;
    names.forget_order();
    nodes.shrink_to_fit();
    attrs.shrink_to_fit();
    let (source, lines) = (Arc::new(text), OnceLock::new());
    Ok(Document { source, extra, names, nodes, attrs, root, lines })
}

/// The error with line and column of a place.
fn locate(text: &str, at: usize, reason: Reason) -> ParseError {
    let before = &text[..text.floor_char_boundary(at)];
    let line = before.matches('\n').count() as u32 + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() as u32 + 1;
    ParseError { line, column, reason }
}

/// What a byte means in an attribute's value.
const PLAIN: u8 = 0;
/// It has to be decoded: `&`, and white space other than the blank.
const DECODE: u8 = 1;
/// It ends the value or the document is wrong: quotes, `<`, control characters, and the first byte
/// of U+FFFE and U+FFFF.
const LOOK: u8 = 2;

const CLASS: [u8; 256] = {
    let mut class = [PLAIN; 256];
    let mut byte = 0;
    while byte < 0x20 {
        class[byte] = LOOK;
        byte += 1;
    }
    class[b'\t' as usize] = DECODE;
    class[b'\n' as usize] = DECODE;
    class[b'\r' as usize] = DECODE;
    class[b'&' as usize] = DECODE;
    class[b'<' as usize] = LOOK;
    class[b'"' as usize] = LOOK;
    class[b'\'' as usize] = LOOK;
    class[0xEF] = LOOK;
    class
};

struct Parser<'t> {
    text: &'t str,
    bytes: &'t [u8],
    at: usize,
    /// Where the last node ended: what a next one leads with begins here.
    lead: usize,
    /// The element that is open, or none.
    open: u32,
    depth: usize,
    /// The name that was read last, to guess the next.
    previous: u32,
    extra: String,
    names: Names,
    nodes: Vec<Record>,
    attrs: Vec<Attr>,
    root: u32,
}

impl<'t> Parser<'t> {
    fn new(text: &'t str) -> Parser<'t> {
        let bytes = text.as_bytes();
        // Upper bounds, so that the arenas never move: no node without '<', no attribute without '='.
        let (mut nodes, mut attrs) = (0, 0);
        for byte in bytes {
            nodes += usize::from(*byte == b'<');
            attrs += usize::from(*byte == b'=');
        }
        Parser {
            text,
            bytes,
            at: 0,
            lead: 0,
            open: NONE,
            depth: 0,
            previous: 0,
            extra: String::new(),
            names: Names::default(),
            nodes: Vec::with_capacity(nodes),
            attrs: Vec::with_capacity(attrs),
            root: NONE,
        }
    }

    fn document(&mut self) -> Result<(), Reason> {
        if self.bytes.starts_with("\u{feff}".as_bytes()) {
            self.at = 3;
        }
        self.declaration()?;
        self.lead = self.at;
        while self.at < self.bytes.len() {
            self.characters()?;
            if self.at == self.bytes.len() {
                break;
            }
            let rest = &self.bytes[self.at + 1..];
            match rest.first() {
                Some(b'/') => self.end_tag()?,
                Some(b'!') if rest.starts_with(b"!--") => self.comment()?,
                Some(b'!') if rest.starts_with(b"![CDATA[") => self.cdata()?,
                Some(b'!') if rest.starts_with(b"!DOCTYPE") => return Err(Reason::Doctype),
                Some(b'!') => return Err(Reason::Expected("an element, a comment or CDATA")),
                Some(b'?') => self.instruction()?,
                _ => self.start_tag()?,
            }
        }
        if self.open != NONE {
            return Err(Reason::Ended(format!("<{}>", self.name_of(self.open))));
        }
        if self.root == NONE { Err(Reason::Empty) } else { Ok(()) }
    }

    /// `<?xml …?>`: only its encoding matters.
    fn declaration(&mut self) -> Result<(), Reason> {
        let rest = &self.text[self.at..];
        if !rest.starts_with("<?xml") || !rest[5..].starts_with([' ', '\t', '\r', '\n']) {
            return Ok(());
        }
        let Some(end) = rest.find("?>") else {
            return Err(Reason::Ended("the XML declaration".to_owned()));
        };
        let inside = &rest[5..end];
        if let Some(at) = inside.find("encoding") {
            let quoted = inside[at + 8..].trim_start().trim_start_matches('=').trim_start();
            let name: String =
                quoted.chars().skip(1).take_while(|c| !matches!(c, '"' | '\'')).collect();
            if !["utf-8", "utf8", "us-ascii", "ascii"].contains(&&*name.to_ascii_lowercase()) {
                return Err(Reason::Encoding(name));
            }
        }
        self.at += end + 2;
        Ok(())
    }

    /// Character data up to the next `<` or the end.
    fn characters(&mut self) -> Result<(), Reason> {
        let start = self.at;
        let mut text = false;
        while let Some(byte) = self.bytes.get(self.at) {
            match byte {
                b' ' | b'\n' | b'\t' | b'\r' => self.at += 1,
                b'<' => break,
                b'&' => {
                    text = true;
                    self.reference()?;
                }
                byte if CLASS[usize::from(*byte)] == PLAIN || matches!(byte, b'"' | b'\'') => {
                    text = true;
                    self.at += 1;
                }
                _ => {
                    text = true;
                    self.at += self.check_character()?;
                }
            }
        }
        if text && self.text[start..self.at].contains("]]>") {
            return Err(Reason::Expected("no ]]> outside of CDATA"));
        }
        self.note_text(text)
    }

    fn note_text(&mut self, text: bool) -> Result<(), Reason> {
        match self.nodes.get_mut(self.open as usize) {
            Some(record) if text => record.flags |= flag::TEXT,
            None if text => return Err(Reason::OutsideRoot),
            _ => {}
        }
        Ok(())
    }

    /// The length of the character here, if XML allows it.
    fn check_character(&self) -> Result<usize, Reason> {
        let character = self.text[self.at..].chars().next().unwrap_or('\0');
        let wrong = matches!(character, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}')
            || matches!(character, '\u{fffe}' | '\u{ffff}');
        if wrong {
            return Err(Reason::BadCharacter(u32::from(character)));
        }
        Ok(character.len_utf8())
    }

    /// The character that the reference here stands for; goes on behind it.
    fn reference(&mut self) -> Result<char, Reason> {
        let rest = &self.text[self.at + 1..];
        // The longest that means something is "#x10FFFF" with some zeros before the digits.
        let window = &rest[..rest.floor_char_boundary(rest.len().min(32))];
        let name = window.split_once(';').map(|(name, _)| name).ok_or(Reason::BareAmpersand)?;
        let character = match name {
            "lt" => '<',
            "gt" => '>',
            "amp" => '&',
            "quot" => '"',
            "apos" => '\'',
            _ => match name.strip_prefix('#') {
                Some(number) => numbered(number)
                    .ok_or_else(|| Reason::BadCharacterReference(number.to_owned()))?,
                None if is_name(name) => return Err(Reason::UnknownEntity(name.to_owned())),
                None => return Err(Reason::BareAmpersand),
            },
        };
        self.at += name.len() + 2;
        Ok(character)
    }

    fn comment(&mut self) -> Result<(), Reason> {
        let start = self.at;
        let inside = &self.text[start + 4..];
        let Some(length) = inside.find("--") else {
            return Err(Reason::Ended("a comment".to_owned()));
        };
        if !inside[length..].starts_with("-->") {
            self.at += 4 + length;
            return Err(Reason::Expected("no -- within a comment"));
        }
        self.check_all(start + 4 + length)?;
        self.at = start + 4 + length + 3;
        if self.open == NONE {
            return Ok(());
        }
        let name = self.names.intern("#comment");
        let mut record = self.begin(name, start, self.open);
        record.flags |= flag::COMMENT;
        record.end = self.at as u32;
        self.push(record);
        self.lead = self.at;
        Ok(())
    }

    /// Checks the characters from here to `end` and goes there.
    fn check_all(&mut self, end: usize) -> Result<(), Reason> {
        while self.at < end {
            match CLASS[usize::from(self.bytes[self.at])] {
                LOOK => self.at += self.check_character()?,
                _ => self.at += 1,
            }
        }
        Ok(())
    }

    fn cdata(&mut self) -> Result<(), Reason> {
        let start = self.at + "<![CDATA[".len();
        let Some(length) = self.text[start..].find("]]>") else {
            return Err(Reason::Ended("CDATA".to_owned()));
        };
        self.check_all(start + length)?;
        let text = !self.text[start..start + length].trim().is_empty();
        self.note_text(text || self.open == NONE)?;
        self.at = start + length + 3;
        Ok(())
    }

    /// A processing instruction: kept in the source, otherwise of no meaning.
    fn instruction(&mut self) -> Result<(), Reason> {
        let target = &self.text[self.at + 2..];
        let length = target.bytes().position(|byte| !is_name_byte(byte)).unwrap_or(target.len());
        if !is_name(&target[..length]) || target[..length].eq_ignore_ascii_case("xml") {
            return Err(Reason::Expected("the name of an instruction other than xml"));
        }
        let Some(end) = target.find("?>") else {
            return Err(Reason::Ended("a processing instruction".to_owned()));
        };
        let end = self.at + 2 + end;
        self.check_all(end)?;
        self.at = end + 2;
        Ok(())
    }

    fn start_tag(&mut self) -> Result<(), Reason> {
        let start = self.at;
        if self.open == NONE && self.root != NONE {
            return Err(Reason::OutsideRoot);
        }
        if self.depth == MAX_DEPTH {
            return Err(Reason::TooDeep);
        }
        self.at += 1;
        let name = self.name("the name of an element")?;
        let mut record = self.begin(name, start, self.open);
        let empty = self.attributes(&mut record)?;
        (record.tail, record.end) = (self.at as u32, self.at as u32);
        self.lead = self.at;
        let node = self.push(record);
        if self.root == NONE {
            self.root = node;
        }
        if !empty {
            self.open = node;
            self.depth += 1;
        }
        Ok(())
    }

    fn begin(&self, name: u32, start: usize, parent: u32) -> Record {
        let mut record = Record::created(name, parent);
        record.flags = 0;
        (record.lead, record.start) = (self.lead as u32, start as u32);
        record
    }

    fn push(&mut self, mut record: Record) -> u32 {
        let node = self.nodes.len() as u32;
        if let Some(parent) = self.nodes.get_mut(record.parent as usize) {
            record.prev = std::mem::replace(&mut parent.last, node);
            if record.prev == NONE {
                parent.first = node;
            }
        }
        if let Some(prev) = self.nodes.get_mut(record.prev as usize) {
            prev.next = node;
        }
        self.nodes.push(record);
        node
    }

    /// The attributes and the end of a start tag; whether the element is empty (`/>`).
    fn attributes(&mut self, record: &mut Record) -> Result<bool, Reason> {
        let first = self.attrs.len();
        record.attr_start = first as u32;
        loop {
            let spaced = self.space();
            match self.bytes.get(self.at) {
                Some(b'>') => {
                    self.at += 1;
                    return Ok(false);
                }
                Some(b'/') if self.bytes.get(self.at + 1) == Some(&b'>') => {
                    self.at += 2;
                    return Ok(true);
                }
                None => return Err(self.tag_ended(record)),
                Some(_) if !spaced => return Err(Reason::Expected("a blank, > or />")),
                Some(_) => {}
            }
            let begin = self.at;
            let name = self.name("an attribute, > or />")?;
            if self.attrs[first..].iter().any(|attr| attr.name & !IN_EXTRA == name) {
                self.at = begin;
                return Err(Reason::DuplicateAttribute(self.names.text(name).to_owned()));
            }
            if self.attrs.len() - first == MAX_ATTRIBUTES {
                return Err(Reason::TooManyAttributes(self.names.text(record.name).to_owned()));
            }
            self.space();
            if self.bytes.get(self.at) != Some(&b'=') {
                return Err(Reason::Expected("= after the name of an attribute"));
            }
            self.at += 1;
            self.space();
            let attr = self.value(name).map_err(|reason| match reason {
                Reason::Ended(_) => self.tag_ended(record),
                other => other,
            })?;
            self.attrs.push(attr);
            record.attr_count += 1;
        }
    }

    fn tag_ended(&self, record: &Record) -> Reason {
        Reason::Ended(format!("the tag <{}", self.names.text(record.name)))
    }

    /// A quoted value; goes on behind it.
    fn value(&mut self, name: u32) -> Result<Attr, Reason> {
        let quote = match self.bytes.get(self.at) {
            Some(quote @ (b'"' | b'\'')) => *quote,
            Some(_) => return Err(Reason::Expected("a quoted value")),
            None => return Err(Reason::Ended(String::new())),
        };
        self.at += 1;
        let start = self.at;
        let mut decode = false;
        loop {
            let Some(byte) = self.bytes.get(self.at) else {
                return Err(Reason::Ended(String::new()));
            };
            match CLASS[usize::from(*byte)] {
                PLAIN => self.at += 1,
                DECODE => {
                    decode = true;
                    self.at += 1;
                }
                _ if *byte == quote => break,
                _ if *byte == b'<' => return Err(Reason::Expected("&lt; instead of < in a value")),
                _ => self.at += self.check_character()?,
            }
        }
        let end = self.at;
        if decode {
            return self.decode(name, start, end);
        }
        self.at += 1;
        Ok(Attr { name, start: start as u32, len: (end - start) as u32 })
    }

    /// Decodes a value with references or line breaks into the extra text; goes on behind it.
    fn decode(&mut self, name: u32, start: usize, end: usize) -> Result<Attr, Reason> {
        let begin = self.extra.len();
        self.at = start;
        while self.at < end {
            let rest = &self.text[self.at..end];
            let plain = rest.find(['&', '\t', '\n', '\r']).unwrap_or(rest.len());
            self.extra.push_str(&rest[..plain]);
            self.at += plain;
            match self.bytes[self.at] {
                _ if self.at == end => {}
                b'&' => {
                    let character = self.reference()?;
                    self.extra.push(character);
                }
                b'\r' if self.bytes[self.at + 1] == b'\n' => self.at += 1,
                _ => {
                    self.extra.push(' ');
                    self.at += 1;
                }
            }
        }
        self.at = end + 1;
        let len = (self.extra.len() - begin) as u32;
        Ok(Attr { name: name | IN_EXTRA, start: begin as u32, len })
    }

    fn end_tag(&mut self) -> Result<(), Reason> {
        let start = self.at;
        let rest = &self.bytes[start + 2..];
        let Some(record) = self.nodes.get(self.open as usize) else {
            return Err(Reason::OutsideRoot);
        };
        let (parent, name, begun) = (record.parent, record.name, record.start as usize);
        let open = self.names.text(name).as_bytes();
        let ends = |byte: &u8| !is_name_byte(*byte);
        if !rest.starts_with(open) || !rest.get(open.len()).is_some_and(ends) {
            let length = rest.iter().position(ends).unwrap_or(rest.len());
            let line = self.text[..begun].matches('\n').count() as u32 + 1;
            return Err(Reason::WrongEndTag {
                open: self.names.text(name).to_owned(),
                line,
                found: String::from_utf8_lossy(&rest[..length]).into_owned(),
            });
        }
        self.at = start + 2 + open.len();
        self.space();
        if self.bytes.get(self.at) != Some(&b'>') {
            return Err(Reason::Expected("> at the end of a tag"));
        }
        self.at += 1;
        let record = &mut self.nodes[self.open as usize];
        (record.tail, record.end) = (self.lead as u32, self.at as u32);
        self.lead = self.at;
        self.open = parent;
        self.depth -= 1;
        Ok(())
    }

    fn name_of(&self, node: u32) -> &str {
        self.names.text(self.nodes[node as usize].name)
    }

    /// A name; goes on behind it.
    fn name(&mut self, what: &'static str) -> Result<u32, Reason> {
        let start = self.at;
        let length = self.bytes[start..].iter().position(|byte| !is_name_byte(*byte));
        let end = start + length.unwrap_or(self.bytes.len() - start);
        let name = &self.text[start..end];
        let number = self.names.follow(self.previous, name);
        let Some(number) =
            number.or_else(|| is_name(name).then(|| self.names.learn(self.previous, name)))
        else {
            return Err(Reason::Expected(what));
        };
        self.at = end;
        self.previous = number;
        Ok(number)
    }

    /// Skips white space; whether there was some.
    fn space(&mut self) -> bool {
        let start = self.at;
        while let Some(b' ' | b'\n' | b'\t' | b'\r') = self.bytes.get(self.at) {
            self.at += 1;
        }
        self.at > start
    }
}

/// The character of a number reference ("38", "x26").
fn numbered(number: &str) -> Option<char> {
    let (digits, radix) = match number.strip_prefix('x') {
        Some(hex) => (hex, 16),
        None => (number, 10),
    };
    // `from_str_radix` would take a sign.
    let all_digits = digits.bytes().all(|digit| char::from(digit).is_digit(radix));
    let value = u32::from_str_radix(digits, radix).ok().filter(|_| all_digits)?;
    let character = char::from_u32(value)?;
    let allowed = match character {
        '\t' | '\n' | '\r' => true,
        '\u{fffe}' | '\u{ffff}' => false,
        other => other >= ' ',
    };
    allowed.then_some(character)
}

/// Bytes that names are made of; whether their characters may be there is for [`is_name`] to say.
const NAME_BYTE: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let is = byte as u8;
        table[byte] =
            is.is_ascii_alphanumeric() || matches!(is, b'_' | b'-' | b'.' | b':') || is >= 0x80;
        byte += 1;
    }
    table
};

fn is_name_byte(byte: u8) -> bool {
    NAME_BYTE[usize::from(byte)]
}

/// Whether a text may be the name of an element or attribute.
pub fn is_name(text: &str) -> bool {
    let begins = |c: char| {
        c.is_ascii_alphabetic()
            || matches!(c, '_' | ':')
            || matches!(c, '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}' | '\u{f8}'..='\u{2ff}')
            || matches!(c, '\u{370}'..='\u{37d}' | '\u{37f}'..='\u{1fff}' | '\u{200c}' | '\u{200d}')
            || matches!(c, '\u{2070}'..='\u{218f}' | '\u{2c00}'..='\u{2fef}' | '\u{3001}'..='\u{d7ff}')
            || matches!(c, '\u{f900}'..='\u{fdcf}' | '\u{fdf0}'..='\u{fffd}' | '\u{10000}'..='\u{effff}')
    };
    let goes_on = |c: char| {
        begins(c)
            || c.is_ascii_digit()
            || matches!(c, '-' | '.' | '\u{b7}' | '\u{300}'..='\u{36f}' | '\u{203f}' | '\u{2040}')
    };
    text.starts_with(begins) && text.chars().all(goes_on)
}
