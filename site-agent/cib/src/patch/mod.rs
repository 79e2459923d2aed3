//! Patchsets of format 2: the changes that make one CIB of another.
//!
//! A patch is a `diff` element with the versions before and after, the digest of the result, and
//! `change` elements: create, delete, modify, move. A change names its element by a path of names with
//! `[@id='…']`. Positions count elements and comments alike. Deletions and modifications are done in
//! the order of the patch; then all that moves is taken out, and what is created or moved is put in
//! in the order of the positions, so that each finds what stands before it already in place.
//!
//! What a path can not name (of several elements without id, which one?) is not changed by itself:
//! the nearest element around it that has a name is deleted and created anew. So `apply(make(a, b))`
//! gives b, and Pacemaker's own `crm_diff` gives the same from the same patch.

mod apply;
mod make;

pub use apply::{ApplyError, apply};
pub use make::{MakeError, make};

use crate::xml::Element;

/// How a path names an element within its parent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    name: String,
    id: Option<String>,
}

impl Key {
    fn of(element: Element<'_>) -> Key {
        Key { name: element.name().to_owned(), id: element.id().map(str::to_owned) }
    }

    fn step(&self) -> String {
        match &self.id {
            Some(id) => format!("/{}[@id='{id}']", self.name),
            None => format!("/{}", self.name),
        }
    }

    /// Whether this key, as a path has it, means an element: without an id, any of that name.
    fn means(&self, element: Element<'_>) -> bool {
        element.name() == self.name && self.id.as_deref().is_none_or(|id| element.id() == Some(id))
    }
}

#[cfg(test)]
mod tests;
