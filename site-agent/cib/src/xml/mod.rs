//! XML documents that are read fast, edited in place and written back byte for byte.
//!
//! A CIB is edited by people: their comments, quotes and line breaks are theirs. So a document keeps
//! its source text, and an element remembers where in the text it stands. Writing copies the source
//! of everything that was not edited; only start tags with changed attributes and created elements
//! are spelled anew. A CIB is also large (a status of 32 nodes with 5,000 resources is 72 MiB): nodes
//! and attributes are flat arenas of fixed-size records, names are interned, and a value is a range
//! of the source unless it had to be decoded or was set later.
//!
//! Invariants:
//! - `parse(x).write() == x`, always.
//! - `parse(d.write())` has the elements, attributes and comments of `d`, whatever edits made `d`.
//! - A parser never recurses, follows no entity but the five of XML, and refuses a DOCTYPE: what a
//!   hostile text costs is bounded by its length times a constant ([`limits`]).
//! - Identifiers of nodes stay valid through every edit; a removed node is only unreachable.

mod edit;
mod element;
mod error;
pub mod limits;
mod names;
mod parse;
mod write;

use std::sync::{Arc, OnceLock};

pub use element::{Element, Node};
pub use error::{ParseError, Reason};
use names::Names;
pub use parse::is_name;
pub use write::{escape, escaped};

/// No node: the end of every chain of links.
const NONE: u32 = u32::MAX;

/// Which node of one document. Parsed nodes are numbered in document order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(u32);

impl NodeId {
    /// The node as an index: all nodes of a document are numbered from 0 without gaps.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What was done to a node since it was parsed, and what kind it is.
mod flag {
    /// A comment, not an element.
    pub(super) const COMMENT: u16 = 1;
    /// Made by an edit: nothing of it stands in the source.
    pub(super) const CREATED: u16 = 2;
    /// Its attributes are not those of the source.
    pub(super) const ATTRIBUTES: u16 = 4;
    /// Something in it or below it is not as in the source.
    pub(super) const DIRTY: u16 = 8;
    /// Character data other than white space stands directly in it.
    pub(super) const TEXT: u16 = 16;
}

/// One element or comment. All links are indices of the arena, all places are offsets of the source.
#[derive(Clone, Debug)]
struct Record {
    name: u32,
    parent: u32,
    first: u32,
    last: u32,
    prev: u32,
    next: u32,
    attr_start: u32,
    attr_count: u16,
    flags: u16,
    /// Where the white space (or text) before the node begins: the end of what stands before it.
    lead: u32,
    start: u32,
    /// Where its last child ends and the white space before its end tag begins.
    tail: u32,
    end: u32,
}

impl Record {
    fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }
}

/// One attribute. `name` carries [`IN_EXTRA`] when the value stands in the document's `extra` text.
#[derive(Clone, Copy, Debug)]
struct Attr {
    name: u32,
    start: u32,
    len: u32,
}

const IN_EXTRA: u32 = 1 << 31;

/// An XML document: its source text, and what was read of it or edited since.
#[derive(Clone, Debug)]
pub struct Document {
    source: Arc<String>,
    /// Values that are not in the source as they are: decoded ones and those that were set.
    extra: String,
    names: Names,
    nodes: Vec<Record>,
    attrs: Vec<Attr>,
    root: u32,
    /// Offsets of the source's line breaks; made when somebody first asks for a line.
    lines: OnceLock<Vec<u32>>,
}

impl Document {
    /// A document with one empty element.
    pub fn new(root_name: &str) -> Document {
        let mut names = Names::default();
        let name = names.intern(root_name);
        let mut root = Record::created(name, NONE);
        root.flags |= flag::DIRTY;
        Document {
            source: Arc::default(),
            extra: String::new(),
            names,
            nodes: vec![root],
            attrs: Vec::new(),
            root: 0,
            lines: OnceLock::new(),
        }
    }

    /// Reads a text with one root element.
    pub fn parse(text: impl Into<String>) -> Result<Document, ParseError> {
        parse::parse(text.into())
    }

    /// The root element.
    pub fn root(&self) -> Element<'_> {
        self.element(NodeId(self.root))
    }

    /// The element of that number.
    ///
    /// # Panics
    /// If the number is not of an element of this document.
    pub fn element(&self, id: NodeId) -> Element<'_> {
        assert!(!self.record(id.0).has(flag::COMMENT), "node {} is a comment", id.0);
        Element::at(self, id.0)
    }

    /// How many numbers were given to nodes so far, removed ones included.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// What the document takes on the heap, without the source text.
    pub fn index_bytes(&self) -> usize {
        self.nodes.capacity() * size_of::<Record>()
            + self.attrs.capacity() * size_of::<Attr>()
            + self.extra.capacity()
    }

    fn record(&self, node: u32) -> &Record {
        &self.nodes[node as usize]
    }

    fn record_mut(&mut self, node: u32) -> &mut Record {
        &mut self.nodes[node as usize]
    }

    fn attrs_of(&self, node: u32) -> &[Attr] {
        let record = self.record(node);
        let start = record.attr_start as usize;
        &self.attrs[start..start + usize::from(record.attr_count)]
    }

    fn attr_name(&self, attr: Attr) -> &str {
        self.names.text(attr.name & !IN_EXTRA)
    }

    fn attr_value(&self, attr: Attr) -> &str {
        let range = attr.start as usize..(attr.start + attr.len) as usize;
        if attr.name & IN_EXTRA == 0 { &self.source[range] } else { &self.extra[range] }
    }

    fn line_at(&self, offset: u32) -> u32 {
        let lines = self.lines.get_or_init(|| {
            self.source.bytes().zip(0u32..).filter(|(b, _)| *b == b'\n').map(|(_, at)| at).collect()
        });
        lines.partition_point(|at| *at < offset) as u32 + 1
    }
}

impl Record {
    fn created(name: u32, parent: u32) -> Record {
        Record {
            name,
            parent,
            first: NONE,
            last: NONE,
            prev: NONE,
            next: NONE,
            attr_start: 0,
            attr_count: 0,
            flags: flag::CREATED | flag::DIRTY,
            lead: 0,
            start: 0,
            tail: 0,
            end: 0,
        }
    }
}

#[cfg(test)]
mod tests;
