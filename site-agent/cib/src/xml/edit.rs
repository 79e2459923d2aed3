//! Editing a document.
//!
//! Each edit marks the node and all that it stands in as no longer like the source; the way up stops
//! at the first that is marked already, so many edits in one place cost little.

use super::{Attr, Document, Element, IN_EXTRA, NONE, Node, NodeId, Record, flag};

impl Document {
    /// A new element as the last child of `parent`.
    pub fn create(&mut self, parent: NodeId, name: &str) -> NodeId {
        self.create_before(parent, None, name)
    }

    /// A new element as a child of `parent`, before its child `before` or as the last.
    pub fn create_before(&mut self, parent: NodeId, before: Option<NodeId>, name: &str) -> NodeId {
        let name = self.names.intern(name);
        self.insert(Record::created(name, NONE), parent, before)
    }

    /// A new comment as a child of `parent`. Two hyphens in a row can not stand in a comment and are
    /// written with a space between.
    pub fn create_comment(&mut self, parent: NodeId, before: Option<NodeId>, text: &str) -> NodeId {
        let mut text = text.to_owned();
        while text.contains("--") {
            text = text.replace("--", "- -");
        }
        if text.ends_with('-') {
            text.push(' ');
        }
        let mut record = Record::created(self.names.intern("#comment"), NONE);
        record.flags |= flag::COMMENT;
        let name = record.name;
        let id = self.insert(record, parent, before);
        let value = self.store(name, &text);
        self.append_attr(id.0, value);
        id
    }

    /// A copy of an element with all that is in it, as a child of `parent`.
    pub fn copy(&mut self, parent: NodeId, before: Option<NodeId>, what: Element<'_>) -> NodeId {
        let top = self.copy_tag(parent, before, what);
        let mut stack = vec![(what, top)];
        while let Some((from, to)) = stack.pop() {
            for node in from.nodes() {
                match node {
                    Node::Element(child) => {
                        let copy = self.copy_tag(to, None, child);
                        stack.push((child, copy));
                    }
                    Node::Comment(_, text) => {
                        self.create_comment(to, None, text);
                    }
                }
            }
        }
        top
    }

    fn copy_tag(&mut self, parent: NodeId, before: Option<NodeId>, what: Element<'_>) -> NodeId {
        let id = self.create_before(parent, before, what.name());
        for (name, value) in what.attrs() {
            let name = self.names.intern(name);
            let value = self.store(name, value);
            self.append_attr(id.0, value);
        }
        id
    }

    /// Sets an attribute: in its place if it is there, else after the others.
    pub fn set(&mut self, id: NodeId, attribute: &str, value: &str) {
        let name = self.names.intern(attribute);
        let start = self.record(id.0).attr_start as usize;
        let place = self.attrs_of(id.0).iter().position(|attr| attr.name & !IN_EXTRA == name);
        let Some(place) = place else {
            let attr = self.store(name, value);
            self.append_attr(id.0, attr);
            return self.touch_attributes(id.0);
        };
        let old = self.attrs[start + place];
        if self.attr_value(old) == value {
            return;
        }
        let range = old.start as usize..(old.start + old.len) as usize;
        if old.name & IN_EXTRA != 0 && old.len as usize == value.len() {
            self.extra.replace_range(range, value);
        } else {
            self.attrs[start + place] = self.store(name, value);
        }
        self.touch_attributes(id.0);
    }

    /// Takes an attribute away. Whether it was there.
    pub fn unset(&mut self, id: NodeId, attribute: &str) -> bool {
        let record = self.record(id.0);
        let start = record.attr_start as usize;
        let end = start + usize::from(record.attr_count);
        let found = self.attrs_of(id.0).iter().position(|a| self.attr_name(*a) == attribute);
        let Some(place) = found else {
            return false;
        };
        self.attrs.copy_within(start + place + 1..end, start + place);
        self.record_mut(id.0).attr_count -= 1;
        self.touch_attributes(id.0);
        true
    }

    /// Takes a node away with all that is in it.
    ///
    /// # Panics
    /// If it is the root element: a document has one.
    pub fn remove(&mut self, id: NodeId) {
        assert!(id.0 != self.root, "the root element can not be removed");
        let parent = self.record(id.0).parent;
        if parent != NONE {
            self.unlink(id.0);
            self.touch(parent);
        }
    }

    /// Puts a node with all that is in it elsewhere: into `parent`, before its child `before` or last.
    ///
    /// # Panics
    /// If `parent` is the node itself or stands in it.
    pub fn relocate(&mut self, id: NodeId, parent: NodeId, before: Option<NodeId>) {
        let mut up = parent.0;
        while up != NONE {
            assert!(up != id.0, "a node can not be put into itself");
            up = self.record(up).parent;
        }
        if before == Some(id) {
            return;
        }
        self.remove(id);
        self.link(id.0, parent.0, before.map_or(NONE, |node| node.0));
        self.touch(parent.0);
    }

    fn insert(&mut self, record: Record, parent: NodeId, before: Option<NodeId>) -> NodeId {
        let node = u32::try_from(self.nodes.len()).expect("a document has fewer than 2^32 nodes");
        self.nodes.push(record);
        self.link(node, parent.0, before.map_or(NONE, |node| node.0));
        self.touch(parent.0);
        NodeId(node)
    }

    fn link(&mut self, node: u32, parent: u32, before: u32) {
        let prev = if before == NONE {
            self.record(parent).last
        } else {
            assert!(self.record(before).parent == parent, "`before` is a child of the parent");
            self.record(before).prev
        };
        let record = self.record_mut(node);
        (record.parent, record.prev, record.next) = (parent, prev, before);
        *if prev == NONE {
            &mut self.record_mut(parent).first
        } else {
            &mut self.record_mut(prev).next
        } = node;
        *if before == NONE {
            &mut self.record_mut(parent).last
        } else {
            &mut self.record_mut(before).prev
        } = node;
    }

    fn unlink(&mut self, node: u32) {
        let Record { parent, prev, next, .. } = *self.record(node);
        *if prev == NONE {
            &mut self.record_mut(parent).first
        } else {
            &mut self.record_mut(prev).next
        } = next;
        *if next == NONE {
            &mut self.record_mut(parent).last
        } else {
            &mut self.record_mut(next).prev
        } = prev;
        let record = self.record_mut(node);
        (record.parent, record.prev, record.next) = (NONE, NONE, NONE);
    }

    /// Keeps a value that is not in the source.
    fn store(&mut self, name: u32, value: &str) -> Attr {
        let start = u32::try_from(self.extra.len()).expect("less than 4 GiB of values are set");
        self.extra.push_str(value);
        Attr { name: name | IN_EXTRA, start, len: value.len() as u32 }
    }

    /// Adds an attribute. Attributes of a node are one run of the arena: a run that does not end
    /// where the arena ends is first copied there.
    fn append_attr(&mut self, node: u32, attr: Attr) {
        let record = self.record(node);
        let start = record.attr_start as usize;
        let end = start + usize::from(record.attr_count);
        if end != self.attrs.len() {
            let moved = self.attrs.len();
            self.attrs.extend_from_within(start..end);
            self.record_mut(node).attr_start =
                u32::try_from(moved).expect("a document has fewer than 2^32 attributes");
        }
        self.attrs.push(attr);
        let record = self.record_mut(node);
        record.attr_count =
            record.attr_count.checked_add(1).expect("an element has fewer than 2^16 attributes");
    }

    fn touch_attributes(&mut self, node: u32) {
        self.record_mut(node).flags |= flag::ATTRIBUTES;
        self.touch(node);
    }

    fn touch(&mut self, node: u32) {
        let mut up = node;
        while up != NONE && !self.record(up).has(flag::DIRTY) {
            let record = self.record_mut(up);
            record.flags |= flag::DIRTY;
            up = record.parent;
        }
    }
}
