//! Making a patch.

use super::Key;
use crate::canonical;
use crate::version::{NoVersion, Version};
use crate::xml::{Document, Element, Node, NodeId};
use std::collections::BTreeMap;

/// Why no patch can be made of two documents.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MakeError {
    /// One of them has no version.
    #[error(transparent)]
    Version(#[from] NoVersion),
    /// The roots are different elements.
    #[error("the root elements are <{0}> and <{1}>: both have to be the same element")]
    Roots(String, String),
    /// What differs can not be named by a path.
    #[error(
        "what differs directly in <{0}> can not be named by a path: give its elements ids, \
         or replace the whole document"
    )]
    Nameless(String),
}

/// The patch that makes `new` of `old`. It has no changes if they are equal.
pub fn make(old: &Document, new: &Document) -> Result<Document, MakeError> {
    let (from, to) = (old.root(), new.root());
    if Key::of(from) != Key::of(to) {
        return Err(MakeError::Roots(from.name().to_owned(), to.name().to_owned()));
    }
    let versions = [("source", Version::of(from)?), ("target", Version::of(to)?)];
    let Some(changes) = compare(from, to, &Key::of(from).step()) else {
        return Err(MakeError::Nameless(from.name().to_owned()));
    };
    let mut patch = Document::new("diff");
    let root = patch.root().node_id();
    patch.set(root, "format", "2");
    patch.set(root, "digest", &canonical::patch_digest(to));
    let version = patch.create(root, "version");
    for (name, numbers) in versions {
        let element = patch.create(version, name);
        for (name, number) in numbers.numbers() {
            patch.set(element, name, &number.to_string());
        }
    }
    for change in changes.deletions.iter().chain(&changes.others) {
        change.write(&mut patch, root);
    }
    Ok(patch)
}

/// The changes of one element and all that is in it.
#[derive(Default)]
struct Changes<'a> {
    deletions: Vec<Change<'a>>,
    others: Vec<Change<'a>>,
}

enum Change<'a> {
    /// An element, or the comment at a position.
    Delete {
        path: String,
        position: Option<usize>,
    },
    Modify {
        path: String,
        from: Element<'a>,
        to: Element<'a>,
    },
    Create {
        path: String,
        position: usize,
        node: Node<'a>,
    },
    Move {
        path: String,
        position: usize,
    },
}

impl Change<'_> {
    fn write(&self, patch: &mut Document, root: NodeId) {
        let change = patch.create(root, "change");
        let (operation, path, position) = match self {
            Change::Delete { path, position } => ("delete", path, *position),
            Change::Modify { path, .. } => ("modify", path, None),
            Change::Create { path, position, .. } => ("create", path, Some(*position)),
            Change::Move { path, position } => ("move", path, Some(*position)),
        };
        patch.set(change, "operation", operation);
        patch.set(change, "path", path);
        if let Some(position) = position {
            patch.set(change, "position", &position.to_string());
        }
        match self {
            Change::Create { node: Node::Element(element), .. } => {
                patch.copy(change, None, *element);
            }
            Change::Create { node: Node::Comment(_, text), .. } => {
                patch.create_comment(change, None, text);
            }
            Change::Modify { from, to, .. } => write_attributes(patch, change, *from, *to),
            _ => {}
        }
    }
}

fn write_attributes(patch: &mut Document, change: NodeId, from: Element<'_>, to: Element<'_>) {
    let list = patch.create(change, "change-list");
    let entry = |patch: &mut Document, name: &str, operation: &str| {
        let attr = patch.create(list, "change-attr");
        patch.set(attr, "name", name);
        patch.set(attr, "operation", operation);
        attr
    };
    for (name, _) in from.attrs().filter(|(name, _)| to.attr(name).is_none()) {
        entry(patch, name, "unset");
    }
    for (name, value) in to.attrs().filter(|(name, value)| from.attr(name) != Some(value)) {
        let attr = entry(patch, name, "set");
        patch.set(attr, "value", value);
    }
    let result = patch.create(change, "change-result");
    let element = patch.create(result, to.name());
    for (name, value) in to.attrs() {
        patch.set(element, name, value);
    }
}

/// What a child is for a patch.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Child {
    /// A path names it.
    Named(Key),
    /// No path names it; it is known by its content.
    Nameless(String),
}

/// The changes from one element to another of the same key; none if a part of them has no name.
fn compare<'a>(from: Element<'a>, to: Element<'a>, path: &str) -> Option<Changes<'a>> {
    let mut changes = Changes::default();
    // Most of a large CIB is equal: that is seen much faster than compared child by child.
    if same(from, to) {
        return Some(changes);
    }
    if !from.attrs().eq(to.attrs()) {
        changes.others.push(Change::Modify { path: path.to_owned(), from, to });
    }
    let (old, new) = children(from, to);
    // Children that are in both: their own changes, or that they are to be replaced.
    let by_key = |list: &[(Child, Node<'a>)]| -> BTreeMap<Key, Element<'a>> {
        let named = list.iter().filter_map(|(child, node)| match (child, node) {
            (Child::Named(key), Node::Element(element)) => Some((key.clone(), *element)),
            _ => None,
        });
        named.collect()
    };
    let (before, after) = (by_key(&old), by_key(&new));
    let mut replaced = Vec::new();
    let mut inside = Vec::new();
    for (child, _) in &new {
        let Child::Named(key) = child else {
            continue;
        };
        let (Some(one), Some(other)) = (before.get(key), after.get(key)) else {
            continue;
        };
        match compare(*one, *other, &format!("{path}{}", key.step())) {
            Some(changes) => inside.push(changes),
            None => replaced.push(key.clone()),
        }
    }
    let stays = |child: &Child| match child {
        Child::Named(key) => after.contains_key(key) && !replaced.contains(key),
        Child::Nameless(_) => true,
    };
    arrange(&old, &new, path, &stays, &mut changes)?;
    for mut more in inside {
        changes.deletions.append(&mut more.deletions);
        changes.others.append(&mut more.others);
    }
    Some(changes)
}

/// Whether two elements and all that is in them are equal.
fn same(one: Element<'_>, other: Element<'_>) -> bool {
    let mut pairs = vec![(one, other)];
    while let Some((one, other)) = pairs.pop() {
        if one.name() != other.name() || !one.attrs().eq(other.attrs()) {
            return false;
        }
        let mut others = other.nodes();
        for node in one.nodes() {
            match (node, others.next()) {
                (Node::Element(one), Some(Node::Element(other))) => pairs.push((one, other)),
                (Node::Comment(_, one), Some(Node::Comment(_, other))) if one == other => {}
                _ => return false,
            }
        }
        if others.next().is_some() {
            return false;
        }
    }
    true
}

type Children<'a> = Vec<(Child, Node<'a>)>;

/// The children of both, each as a path can name it in either.
fn children<'a>(from: Element<'a>, to: Element<'a>) -> (Children<'a>, Children<'a>) {
    let mut counts: BTreeMap<Key, (usize, usize)> = BTreeMap::new();
    let mut names: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for child in from.children() {
        counts.entry(Key::of(child)).or_default().0 += 1;
        names.entry(child.name()).or_default().0 += 1;
    }
    for child in to.children() {
        counts.entry(Key::of(child)).or_default().1 += 1;
        names.entry(child.name()).or_default().1 += 1;
    }
    let one = |count: Option<&(usize, usize)>| count.is_none_or(|(a, b)| *a <= 1 && *b <= 1);
    let classify = |node: Node<'a>| -> (Child, Node<'a>) {
        let child = match node {
            Node::Comment(_, text) => Child::Nameless(format!("<!--{text}-->")),
            Node::Element(element) => {
                let key = Key::of(element);
                // Without an id a path means the first of that name, so there may be only one; and
                // with one, no other may have both. A quote or slash in an id breaks the path.
                let alone = match &key.id {
                    None => one(names.get(element.name())) && !mixed(from, to, element.name()),
                    Some(id) => one(counts.get(&key)) && !id.contains(['\'', '/']),
                };
                if alone { Child::Named(key) } else { Child::Nameless(canonical::text(element)) }
            }
        };
        (child, node)
    };
    (from.nodes().map(classify).collect(), to.nodes().map(classify).collect())
}

/// Whether elements of a name are without id on one side and with one on the other.
fn mixed(from: Element<'_>, to: Element<'_>, name: &str) -> bool {
    let mut all = from.children().chain(to.children()).filter(|child| child.name() == name);
    let first = all.next().map(|child| child.id().is_some());
    all.any(|child| Some(child.id().is_some()) != first)
}

/// The deletions, creations and moves among the children of one element; none if one would have to
/// touch an element that no path names.
fn arrange<'a>(
    old: &Children<'a>,
    new: &Children<'a>,
    path: &str,
    stays: &dyn Fn(&Child) -> bool,
    changes: &mut Changes<'a>,
) -> Option<()> {
    let nameless = |list: &Children<'a>| -> Vec<Child> {
        let children = list.iter().map(|(child, _)| child);
        children.filter(|child| matches!(child, Child::Nameless(_))).cloned().collect()
    };
    let (before, after) = (nameless(old), nameless(new));
    let only_comments = old
        .iter()
        .all(|(child, node)| matches!(child, Child::Named(_)) || matches!(node, Node::Comment(..)));
    // First with what is nameless left where it is; if that does not do, with comments made anew.
    if before == after
        && let Some(mut found) = plan(old, new, path, stays)
    {
        changes.deletions.append(&mut found.deletions);
        changes.others.append(&mut found.others);
        return Some(());
    }
    if !only_comments {
        return None;
    }
    let named_stays = |child: &Child| matches!(child, Child::Named(_)) && stays(child);
    let mut found = plan(old, new, path, &named_stays)?;
    changes.deletions.append(&mut found.deletions);
    changes.others.append(&mut found.others);
    Some(())
}

/// Goes through the new children in order and puts each in its place among the old ones that stay.
fn plan<'a>(
    old: &Children<'a>,
    new: &Children<'a>,
    path: &str,
    stays: &dyn Fn(&Child) -> bool,
) -> Option<Changes<'a>> {
    let mut changes = Changes::default();
    let mut now: Vec<&Child> = Vec::new();
    for (child, _) in old {
        if stays(child) {
            now.push(child);
            continue;
        }
        changes.deletions.push(match child {
            Child::Named(key) => {
                Change::Delete { path: format!("{path}{}", key.step()), position: None }
            }
            Child::Nameless(_) => {
                Change::Delete { path: format!("{path}/comment"), position: Some(now.len()) }
            }
        });
    }
    let kept: std::collections::BTreeSet<&Child> = now.iter().copied().collect();
    for (position, (child, node)) in new.iter().enumerate() {
        if now.get(position) == Some(&child) {
            continue;
        }
        if kept.contains(child) && stays(child) {
            let Child::Named(key) = child else {
                return None;
            };
            let from = now.iter().skip(position).position(|other| *other == child)? + position;
            now.remove(from);
            let path = format!("{path}{}", key.step());
            changes.others.push(Change::Move { path, position });
        } else {
            changes.others.push(Change::Create { path: path.to_owned(), position, node: *node });
        }
        now.insert(position, child);
    }
    Some(changes)
}
