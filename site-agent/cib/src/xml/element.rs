//! Looking at a document.

use super::{Document, NONE, NodeId, Record, flag};

/// One element of a document.
#[derive(Clone, Copy)]
pub struct Element<'a> {
    doc: &'a Document,
    node: u32,
}

/// A child of an element: what counts in the positions of a patch.
#[derive(Clone, Copy, Debug)]
pub enum Node<'a> {
    /// An element.
    Element(Element<'a>),
    /// A comment: its number and its text.
    Comment(NodeId, &'a str),
}

impl<'a> Node<'a> {
    /// The node's number.
    pub fn node_id(self) -> NodeId {
        match self {
            Node::Element(element) => element.node_id(),
            Node::Comment(id, _) => id,
        }
    }

    /// The element, if it is one.
    pub fn element(self) -> Option<Element<'a>> {
        match self {
            Node::Element(element) => Some(element),
            Node::Comment(..) => None,
        }
    }
}

impl std::fmt::Debug for Element<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "<{}", self.name())?;
        self.attrs().try_for_each(|(name, value)| write!(f, " {name}={value:?}"))?;
        f.write_str(">")
    }
}

/// The same element of the same document in memory.
impl PartialEq for Element<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.node == other.node && std::ptr::eq(self.doc, other.doc)
    }
}

impl Eq for Element<'_> {}

impl<'a> Element<'a> {
    pub(super) fn at(doc: &'a Document, node: u32) -> Element<'a> {
        Element { doc, node }
    }

    fn record(self) -> &'a Record {
        self.doc.record(self.node)
    }

    /// The document that it is part of.
    pub fn document(self) -> &'a Document {
        self.doc
    }

    /// Its number in the document.
    pub fn node_id(self) -> NodeId {
        NodeId(self.node)
    }

    /// Its name.
    pub fn name(self) -> &'a str {
        self.doc.names.text(self.record().name)
    }

    /// The value of its attribute `id`.
    pub fn id(self) -> Option<&'a str> {
        self.attr("id")
    }

    /// The value of an attribute.
    pub fn attr(self, name: &str) -> Option<&'a str> {
        let doc = self.doc;
        let found = doc.attrs_of(self.node).iter().find(|attr| doc.attr_name(**attr) == name);
        found.map(|attr| doc.attr_value(*attr))
    }

    /// All attributes with their values, in the order of the text.
    pub fn attrs(self) -> impl Iterator<Item = (&'a str, &'a str)> + 'a {
        let doc = self.doc;
        let attrs = doc.attrs_of(self.node).iter();
        attrs.map(move |attr| (doc.attr_name(*attr), doc.attr_value(*attr)))
    }

    /// Its child elements.
    pub fn children(self) -> impl Iterator<Item = Element<'a>> + 'a {
        self.nodes().filter_map(Node::element)
    }

    /// Its child elements of that name.
    pub fn children_named(self, name: &'a str) -> impl Iterator<Item = Element<'a>> + 'a {
        let number = self.doc.names.find(name);
        self.children().filter(move |child| Some(child.record().name) == number)
    }

    /// Its first child element of that name.
    pub fn child(self, name: &str) -> Option<Element<'a>> {
        self.children().find(|child| child.name() == name)
    }

    /// Its children, comments among them.
    pub fn nodes(self) -> impl Iterator<Item = Node<'a>> + 'a {
        let doc = self.doc;
        let first = Some(self.record().first).filter(|node| *node != NONE);
        let chain = std::iter::successors(first, move |node| {
            Some(doc.record(*node).next).filter(|next| *next != NONE)
        });
        chain.map(move |node| doc.node(node))
    }

    /// The element that it stands in.
    pub fn parent(self) -> Option<Element<'a>> {
        let parent = self.record().parent;
        (parent != NONE).then(|| Element::at(self.doc, parent))
    }

    /// All elements below it (itself not among them), in document order.
    pub fn descendants(self) -> impl Iterator<Item = Element<'a>> + 'a {
        let (doc, top) = (self.doc, self.node);
        let mut at = top;
        std::iter::from_fn(move || {
            loop {
                at = after(doc, top, at)?;
                if !doc.record(at).has(flag::COMMENT) {
                    return Some(Element::at(doc, at));
                }
            }
        })
    }

    /// Line of its start tag in the source, from 1; 0 if it was created by an edit.
    pub fn line(self) -> u32 {
        let record = self.record();
        if record.has(flag::CREATED) { 0 } else { self.doc.line_at(record.start) }
    }

    /// Whether character data other than white space stands directly in it.
    pub fn has_text(self) -> bool {
        self.record().has(flag::TEXT)
    }
}

/// The node after `at` in document order, within `top`.
fn after(doc: &Document, top: u32, at: u32) -> Option<u32> {
    let record = doc.record(at);
    if record.first != NONE {
        return Some(record.first);
    }
    let mut up = at;
    while up != top {
        let record = doc.record(up);
        if record.next != NONE {
            return Some(record.next);
        }
        up = record.parent;
    }
    None
}

impl Document {
    pub(super) fn node(&self, node: u32) -> Node<'_> {
        if self.record(node).has(flag::COMMENT) {
            Node::Comment(NodeId(node), self.comment_text(node))
        } else {
            Node::Element(Element::at(self, node))
        }
    }

    /// The text of a comment: of the source, or (created) of its one nameless value.
    fn comment_text(&self, node: u32) -> &str {
        let record = self.record(node);
        if record.has(flag::CREATED) {
            self.attrs_of(node).first().map_or("", |attr| self.attr_value(*attr))
        } else {
            &self.source[record.start as usize + "<!--".len()..record.end as usize - "-->".len()]
        }
    }
}
