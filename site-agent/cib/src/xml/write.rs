//! Writing a document: the source where it is unchanged, spelled anew where it is not.
//!
//! A created element goes on a line of its own, indented like its siblings, or two blanks deeper
//! than its parent; in a text without line breaks between elements it gets none either.

use super::{Document, Element, NONE, Node, NodeId, flag};

/// An element whose content is being written.
struct Frame {
    node: u32,
    /// The child to write next.
    next: u32,
    /// What stands before each created child: a line break and blanks, or nothing.
    lead: Option<String>,
}

impl Document {
    /// The document as text. If nothing was edited, this is the text that was parsed.
    pub fn write(&self) -> String {
        let root = self.record(self.root);
        if !root.has(flag::DIRTY) {
            return (*self.source).clone();
        }
        let mut out = String::with_capacity(self.source.len() + self.extra.len() + 64);
        if root.has(flag::CREATED) {
            self.write_node(&mut out, self.root, Some(String::from("\n")));
            out.push('\n');
        } else {
            out.push_str(&self.source[..root.start as usize]);
            self.write_node(&mut out, self.root, Some(String::from("\n")));
            out.push_str(&self.source[root.end as usize..]);
        }
        out
    }

    /// One node with all that is in it, as it stands in [`Document::write`].
    pub(crate) fn write_one(&self, id: NodeId) -> String {
        let mut out = String::new();
        self.write_node(&mut out, id.0, self.indent_of(id.0));
        out
    }

    fn write_node(&self, out: &mut String, top: u32, lead: Option<String>) {
        let mut frames: Vec<Frame> = Vec::new();
        self.open(out, &mut frames, top, lead);
        while let Some(frame) = frames.last_mut() {
            let child = frame.next;
            if child == NONE {
                self.close(out, frame);
                frames.pop();
                continue;
            }
            let record = self.record(child);
            frame.next = record.next;
            let lead = frame.lead.clone();
            if record.has(flag::CREATED) {
                out.push_str(lead.as_deref().unwrap_or(""));
            } else {
                out.push_str(&self.source[record.lead as usize..record.start as usize]);
            }
            self.open(out, &mut frames, child, lead);
        }
    }

    /// Writes a node, or its start tag and a frame for what is in it.
    fn open(&self, out: &mut String, frames: &mut Vec<Frame>, node: u32, lead: Option<String>) {
        let record = self.record(node);
        if record.has(flag::COMMENT) {
            out.push_str("<!--");
            let Node::Comment(_, text) = self.node(node) else {
                return;
            };
            out.push_str(text);
            out.push_str("-->");
            return;
        }
        if !record.has(flag::DIRTY) {
            out.push_str(&self.source[record.start as usize..record.end as usize]);
            return;
        }
        let tail = self.source_tail(node);
        let empty = record.first == NONE && tail.is_none();
        self.start_tag(out, node, empty);
        if !empty {
            let lead = self.child_lead(node, lead);
            frames.push(Frame { node, next: record.first, lead });
        }
    }

    fn close(&self, out: &mut String, frame: &Frame) {
        if let Some(tail) = self.source_tail(frame.node) {
            out.push_str(tail);
            return;
        }
        // The end tag stands under the start tag.
        if let Some(lead) = &frame.lead {
            let shorter = lead.strip_suffix("  ").unwrap_or(lead);
            out.push_str(shorter);
        }
        out.push_str("</");
        out.push_str(self.names.text(self.record(frame.node).name));
        out.push('>');
    }

    /// From the last child's end to the end of the element, if it has an end tag in the source.
    fn source_tail(&self, node: u32) -> Option<&str> {
        let record = self.record(node);
        let tail = &self.source[record.tail as usize..record.end as usize];
        (!tail.is_empty()).then_some(tail)
    }

    fn start_tag(&self, out: &mut String, node: u32, empty: bool) {
        let record = self.record(node);
        if record.flags & (flag::CREATED | flag::ATTRIBUTES) == 0 {
            let tag = self.source_tag(node);
            match tag.strip_suffix("/>") {
                Some(open) if !empty => {
                    out.push_str(open.trim_end());
                    out.push('>');
                }
                _ => out.push_str(tag),
            }
            return;
        }
        out.push('<');
        out.push_str(self.names.text(record.name));
        for attr in self.attrs_of(node) {
            out.push(' ');
            out.push_str(self.attr_name(*attr));
            out.push_str("=\"");
            escape(out, self.attr_value(*attr));
            out.push('"');
        }
        out.push_str(if empty { "/>" } else { ">" });
    }

    /// The start tag in the source: up to the first `>` outside of quotes.
    fn source_tag(&self, node: u32) -> &str {
        let record = self.record(node);
        let text = &self.source[record.start as usize..record.end as usize];
        let mut quote = None;
        for (at, byte) in text.bytes().enumerate() {
            match (byte, quote) {
                (b'>', None) => return &text[..=at],
                (b'"' | b'\'', None) => quote = Some(byte),
                _ if Some(byte) == quote => quote = None,
                _ => {}
            }
        }
        text
    }

    /// What stands before a created child of `node`, whose own lead is `lead`.
    fn child_lead(&self, node: u32, lead: Option<String>) -> Option<String> {
        let mut child = self.record(node).first;
        while child != NONE {
            let record = self.record(child);
            if !record.has(flag::CREATED) {
                return break_of(&self.source[record.lead as usize..record.start as usize]);
            }
            child = record.next;
        }
        let record = self.record(node);
        let own = if record.has(flag::CREATED) || node == self.root {
            lead
        } else {
            break_of(&self.source[record.lead as usize..record.start as usize])
        };
        own.map(|own| own + "  ")
    }

    /// The lead of a node wherever it stands.
    fn indent_of(&self, node: u32) -> Option<String> {
        let mut path = vec![node];
        let mut up = self.record(node).parent;
        while up != NONE {
            path.push(up);
            up = self.record(up).parent;
        }
        let mut lead = Some(String::from("\n"));
        for node in path.into_iter().skip(1).rev() {
            lead = self.child_lead(node, lead);
        }
        lead
    }
}

impl Element<'_> {
    /// The element as text, as it stands in its document.
    pub fn write(self) -> String {
        self.document().write_one(self.node_id())
    }
}

/// The last line break of a gap with the blanks after it, if nothing else is in it.
fn break_of(gap: &str) -> Option<String> {
    let at = gap.rfind('\n')?;
    let blank = gap[at..].bytes().all(|byte| byte.is_ascii_whitespace());
    blank.then(|| gap[at..].to_owned())
}

/// A value as it stands between double quotes. Characters that XML can not carry at all are replaced.
pub fn escape(out: &mut String, value: &str) {
    let mut plain = 0;
    for (at, byte) in value.bytes().enumerate() {
        let written = match byte {
            b'&' => "&amp;",
            b'<' => "&lt;",
            b'>' => "&gt;",
            b'"' => "&quot;",
            b'\t' => "&#9;",
            b'\n' => "&#10;",
            b'\r' => "&#13;",
            0..=0x1f => "\u{fffd}",
            // U+FFFE and U+FFFF, three bytes each.
            0xef if value[at..].starts_with(['\u{fffe}', '\u{ffff}']) => "\u{fffd}",
            _ => continue,
        };
        out.push_str(&value[plain..at]);
        out.push_str(written);
        plain = at + if byte == 0xef { 3 } else { 1 };
    }
    out.push_str(&value[plain..]);
}

/// The same as a new text.
pub fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    escape(&mut out, value);
    out
}
