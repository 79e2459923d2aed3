//! Elements of a configuration by their id, and what an `id-ref` stands for.
//!
//! A set, a rule or a pair may be given by reference to another one of the same kind anywhere in the
//! configuration. The status is left out: it is large, and nothing refers into it.

use crate::xml::{Document, Element};
use std::cell::OnceCell;
use std::collections::BTreeMap;

/// Elements by their id.
type Table<'a> = BTreeMap<&'a str, Vec<Element<'a>>>;

/// The elements of one document's configuration by id. The table is made when it is first asked:
/// many documents refer to nothing.
#[derive(Clone, Debug)]
pub struct Ids<'a> {
    doc: &'a Document,
    by_id: OnceCell<Table<'a>>,
}

/// How many references are followed from one to the next before it counts as a circle.
const MAX_HOPS: usize = 16;

impl<'a> Ids<'a> {
    /// Of everything but the status.
    pub fn of(doc: &'a Document) -> Ids<'a> {
        Ids { doc, by_id: OnceCell::new() }
    }

    fn table(&self) -> &Table<'a> {
        self.by_id.get_or_init(|| {
            let mut table = Table::new();
            let parts = self.doc.root().children().filter(|part| part.name() != "status");
            for element in parts.flat_map(|part| std::iter::once(part).chain(part.descendants())) {
                if let Some(id) = element.id() {
                    table.entry(id).or_default().push(element);
                }
            }
            table
        })
    }

    /// The first element of that id.
    pub fn get(&self, id: &str) -> Option<Element<'a>> {
        self.table().get(id)?.first().copied()
    }

    /// The first element of that name and id.
    pub fn named(&self, name: &str, id: &str) -> Option<Element<'a>> {
        self.table().get(id)?.iter().find(|element| element.name() == name).copied()
    }

    /// All elements of that id: more than one is an error of the configuration.
    pub fn all(&self, id: &str) -> &[Element<'a>] {
        self.table().get(id).map_or(&[], Vec::as_slice)
    }

    /// All ids with their elements, sorted by id.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &[Element<'a>])> + '_ {
        self.table().iter().map(|(id, elements)| (*id, elements.as_slice()))
    }

    /// The element itself, or what its `id-ref` stands for; nothing if that is missing or circular.
    pub fn resolve(&self, element: Element<'a>) -> Option<Element<'a>> {
        let mut at = element;
        for _ in 0..MAX_HOPS {
            match at.attr("id-ref") {
                None => return Some(at),
                Some(id) => at = self.named(at.name(), id)?,
            }
        }
        None
    }
}
