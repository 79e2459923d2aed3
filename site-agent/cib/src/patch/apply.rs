//! Applying a patch.

use super::Key;
use crate::canonical;
use crate::version::{NoVersion, Version};
use crate::xml::{Document, Element, Node, NodeId, is_name};

/// Why a patch is not applied. The document is then as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The patch is in another format.
    #[error("a patch of format {0} is not supported: make one of format 2 (crm_diff since 2.1)")]
    Format(String),
    /// The patch begins at another version.
    #[error("the patch begins at version {expected}, the CIB has {found}: get the whole CIB")]
    Source {
        /// Where the patch begins.
        expected: Version,
        /// What the CIB has.
        found: Version,
    },
    /// A version is missing.
    #[error(transparent)]
    Version(#[from] NoVersion),
    /// A change is malformed.
    #[error("line {line}: {what}: the patch was cut or edited")]
    Malformed {
        /// Line of the change in the patch.
        line: u32,
        /// What is wrong with it.
        what: String,
    },
    /// A change names an element that is not there.
    #[error("line {line}: {path} is not in the CIB: the patch is for another CIB")]
    NotFound {
        /// Line of the change in the patch.
        line: u32,
        /// The path.
        path: String,
    },
    /// The result has another version than the patch says.
    #[error("the result has version {found}, the patch ends at {expected}: get the whole CIB")]
    Target {
        /// Where the patch ends.
        expected: Version,
        /// What the result has.
        found: Version,
    },
    /// The result has another digest than the patch says.
    #[error("the result has digest {found}, the patch says {expected}: get the whole CIB")]
    Digest {
        /// What the patch says.
        expected: String,
        /// What the result has.
        found: String,
    },
}

/// The CIB that a patch makes of another.
pub fn apply(doc: &Document, patch: &Document) -> Result<Document, ApplyError> {
    let root = patch.root();
    match (root.name(), root.attr("format")) {
        ("diff", Some("2")) => {}
        ("diff", format) => return Err(ApplyError::Format(format.unwrap_or("1").to_owned())),
        (name, _) => return Err(malformed(root, format!("<{name}> is no patch"))),
    }
    let version = root.child("version");
    if let Some(source) = version.and_then(|version| version.child("source")) {
        let (expected, found) = (Version::of(source)?, Version::of(doc.root())?);
        if expected != found {
            return Err(ApplyError::Source { expected, found });
        }
    }
    let mut result = doc.clone();
    change_all(&mut result, root)?;
    if let Some(target) = version.and_then(|version| version.child("target")) {
        let (expected, found) = (Version::of(target)?, Version::of(result.root())?);
        if expected != found {
            return Err(ApplyError::Target { expected, found });
        }
    }
    if let Some(expected) = root.attr("digest") {
        let found = canonical::patch_digest(result.root());
        if expected != found {
            return Err(ApplyError::Digest { expected: expected.to_owned(), found });
        }
    }
    Ok(result)
}

fn malformed(change: Element<'_>, what: impl Into<String>) -> ApplyError {
    ApplyError::Malformed { line: change.line(), what: what.into() }
}

/// What is put in its place once deletions and modifications are done.
enum Placed<'p> {
    Create { parent: NodeId, node: Node<'p> },
    Move { parent: NodeId, node: NodeId },
}

fn change_all(doc: &mut Document, patch: Element<'_>) -> Result<(), ApplyError> {
    let mut placed = Vec::new();
    for change in patch.children_named("change") {
        let path = change.attr("path").ok_or_else(|| malformed(change, "a change without path"))?;
        let position = match change.attr("position") {
            None => None,
            Some(text) => {
                let number = text.parse::<usize>();
                Some(number.map_err(|_| malformed(change, format!("position {text:?}")))?)
            }
        };
        let operation = change.attr("operation").unwrap_or("");
        let found = match find(doc, path, position) {
            Some(found) => found,
            // What is to go and is not there is gone already; Pacemaker takes it so, too.
            None if operation == "delete" && path.starts_with('/') => continue,
            None => {
                let (line, path) = (change.line(), path.to_owned());
                return Err(ApplyError::NotFound { line, path });
            }
        };
        match operation {
            "delete" => {
                if found == doc.root().node_id() {
                    return Err(malformed(change, "it deletes the root"));
                }
                doc.remove(found);
            }
            "modify" => modify(doc, found, change)?,
            "create" => {
                let node = change.nodes().next();
                let node = node.ok_or_else(|| malformed(change, "nothing to create"))?;
                placed
                    .push((position.unwrap_or(usize::MAX), Placed::Create { parent: found, node }));
            }
            "move" => {
                let parent = parent_of(doc, found)
                    .ok_or_else(|| malformed(change, "the root can not move"))?;
                let position =
                    position.ok_or_else(|| malformed(change, "a move without position"))?;
                placed.push((position, Placed::Move { parent, node: found }));
            }
            other => return Err(malformed(change, format!("operation {other:?}"))),
        }
    }
    // All that moves is taken out before the first is put in its place: positions are final ones.
    for (_, what) in &placed {
        if let Placed::Move { node, .. } = what {
            doc.remove(*node);
        }
    }
    placed.sort_by_key(|(position, _)| *position);
    for (position, what) in placed {
        place(doc, position, &what);
    }
    Ok(())
}

fn place(doc: &mut Document, position: usize, what: &Placed<'_>) {
    let at = |doc: &Document, parent: NodeId| {
        doc.element(parent).nodes().map(Node::node_id).nth(position)
    };
    match what {
        Placed::Create { parent, node: Node::Element(element) } => {
            let before = at(doc, *parent);
            doc.copy(*parent, before, *element);
        }
        Placed::Create { parent, node: Node::Comment(_, text) } => {
            let before = at(doc, *parent);
            doc.create_comment(*parent, before, text);
        }
        Placed::Move { parent, node } => {
            let before = at(doc, *parent);
            doc.relocate(*node, *parent, before);
        }
    }
}

fn parent_of(doc: &Document, node: NodeId) -> Option<NodeId> {
    doc.element(node).parent().map(Element::node_id)
}

/// Gives an element the attributes of the change's result, in that order; or, without a result, does
/// what its list says.
fn modify(doc: &mut Document, id: NodeId, change: Element<'_>) -> Result<(), ApplyError> {
    if let Some(result) = change.child("change-result").and_then(|result| result.children().next())
    {
        let old: Vec<String> = doc.element(id).attrs().map(|(name, _)| name.to_owned()).collect();
        if result.attrs().map(|(name, _)| name).eq(old.iter().map(String::as_str)) {
            result.attrs().for_each(|(name, value)| doc.set(id, name, value));
            return Ok(());
        }
        for name in old {
            doc.unset(id, &name);
        }
        result.attrs().for_each(|(name, value)| doc.set(id, name, value));
        return Ok(());
    }
    let list = change
        .child("change-list")
        .ok_or_else(|| malformed(change, "a modification without change-list"))?;
    for attr in list.children_named("change-attr") {
        let name = attr.attr("name").filter(|name| is_name(name));
        let name = name.ok_or_else(|| malformed(attr, "a change-attr without a name"))?;
        match (attr.attr("operation"), attr.attr("value")) {
            (Some("set"), Some(value)) => doc.set(id, name, value),
            (Some("unset"), _) => {
                doc.unset(id, name);
            }
            _ => return Err(malformed(attr, "a change-attr that neither sets nor unsets")),
        }
    }
    Ok(())
}

/// The node that a path names; a path that ends in `comment` names the comment at a position.
fn find(doc: &Document, path: &str, position: Option<usize>) -> Option<NodeId> {
    let mut steps = steps(path)?;
    let last = steps.last()?;
    let comment = last.name == "comment" && last.id.is_none() && position.is_some();
    if comment {
        steps.pop();
    }
    let mut at = doc.root();
    let (first, rest) = steps.split_first()?;
    if !first.means(at) {
        return None;
    }
    for step in rest {
        at = at.children().find(|child| step.means(*child))?;
    }
    if !comment {
        return Some(at.node_id());
    }
    let node = at.nodes().nth(position?)?;
    matches!(node, Node::Comment(..)).then(|| node.node_id())
}

/// The steps of "/cib/configuration/resources/primitive[@id='a']".
fn steps(path: &str) -> Option<Vec<Key>> {
    let mut steps = Vec::new();
    let mut rest = path;
    while let Some(step) = rest.strip_prefix('/') {
        let end = step.find(['/', '[']).unwrap_or(step.len());
        let name = step[..end].to_owned();
        rest = &step[end..];
        let mut id = None;
        if let Some(quoted) = rest.strip_prefix("[@id='") {
            let end = quoted.find("']")?;
            id = Some(quoted[..end].to_owned());
            rest = &quoted[end + "']".len()..];
        }
        steps.push(Key { name, id });
    }
    rest.is_empty().then_some(steps)
}
