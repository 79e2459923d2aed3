//! Sets of name-value pairs: which sets count, in which precedence, and what a name is worth at the end.
//!
//! Of several sets the one with the highest score comes first, and the first that has a name decides it (unless the caller
//! asks for the later to win). `id-ref` leads to a set or pair elsewhere; the table of ids is made once, when the
//! first reference is met.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::HashMap;

use tierce_cib::xml::{Document, Element};

use super::rules::{self, Scene};
use crate::words;

/// A map of names to values.
pub(crate) type Values<'a> = HashMap<Cow<'a, str>, Cow<'a, str>>;

/// The document with its references.
pub(crate) struct Source<'a> {
    doc: &'a Document,
    ids: OnceCell<HashMap<&'a str, Element<'a>>>,
}

impl<'a> Source<'a> {
    /// Nothing is looked at yet.
    pub(crate) fn new(doc: &'a Document) -> Self {
        Self { doc, ids: OnceCell::new() }
    }

    /// What an `id-ref` points at, or the element itself.
    pub(crate) fn resolve(&self, element: Element<'a>) -> Option<Element<'a>> {
        let Some(target) = element.attr("id-ref") else { return Some(element) };
        let ids = self.ids.get_or_init(|| {
            let mut map = HashMap::new();
            for e in self.doc.root().children_named("configuration").flat_map(Element::descendants)
            {
                if let Some(id) = e.attr("id") {
                    map.entry(id).or_insert(e);
                }
            }
            map
        });
        ids.get(target).copied()
    }

    /// The sets with one name beneath a holder, in the order of precedence.
    pub(crate) fn sets(
        &self,
        holder: Element<'a>,
        name: &'a str,
        first: Option<&str>,
    ) -> Vec<Element<'a>> {
        let mut sets: Vec<_> =
            holder.children_named(name).filter_map(|e| self.resolve(e)).collect();
        if sets.len() > 1 {
            let weight = |e: &Element<'a>| {
                if first.is_some() && e.id() == first {
                    i32::MAX
                } else {
                    e.attr("score").and_then(words::score).unwrap_or(0)
                }
            };
            sets.sort_by_key(|e| std::cmp::Reverse(weight(e)));
        }
        sets
    }

    /// Adds what the sets of a holder say to `into`; a name that is there stays.
    pub(crate) fn merge(
        &self,
        holder: Element<'a>,
        name: &'a str,
        scene: &Scene<'_>,
        into: &mut Values<'a>,
    ) {
        for set in self.sets(holder, name, None) {
            if rules::passes(set, scene) {
                self.pairs(set, |key, value| {
                    into.entry(Cow::Borrowed(key)).or_insert(Cow::Borrowed(value));
                });
            }
        }
    }

    /// Each pair of a set; legacy sets hold them in `attributes`.
    pub(crate) fn pairs(&self, set: Element<'a>, mut each: impl FnMut(&'a str, &'a str)) {
        let holder = set.child("attributes").unwrap_or(set);
        for raw in holder.children_named("nvpair") {
            let Some(pair) = self.resolve(raw) else { continue };
            let name = raw.attr("name").or_else(|| pair.attr("name"));
            // `#default` asks for what holds without the pair.
            if let (Some(name), Some(value)) =
                (name, pair.attr("value").filter(|v| *v != "#default"))
            {
                each(name, value);
            }
        }
    }
}
