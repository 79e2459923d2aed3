//! Names of elements and attributes, each kept once.
//!
//! A CIB has a hundred names and millions of uses. A tree keeps the look-up deterministic and safe
//! from chosen collisions; the parser rarely asks it, because after one name nearly always comes the
//! name that came there last time ([`Names::follow`]).

use std::collections::BTreeMap;

/// All names of a document.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    list: Vec<Box<str>>,
    index: BTreeMap<Box<str>, u32>,
    /// What came after each name when it last stood in a text.
    after: Vec<u32>,
}

impl Names {
    /// The number of a name, new or known.
    pub(super) fn intern(&mut self, name: &str) -> u32 {
        if let Some(known) = self.index.get(name) {
            return *known;
        }
        let number = self.list.len() as u32;
        self.list.push(name.into());
        self.index.insert(name.into(), number);
        number
    }

    /// The number of a known name that stands after the name `before` in a text.
    pub(super) fn follow(&mut self, before: u32, name: &str) -> Option<u32> {
        let guess = self.after.get(before as usize).copied();
        if let Some(guess) = guess
            && self.list.get(guess as usize).is_some_and(|known| &**known == name)
        {
            return Some(guess);
        }
        let known = self.index.get(name).copied()?;
        self.remember(before, known);
        Some(known)
    }

    /// The number for a new name that stands after the name `before` in a text.
    pub(super) fn learn(&mut self, before: u32, name: &str) -> u32 {
        let number = self.intern(name);
        self.remember(before, number);
        number
    }

    fn remember(&mut self, before: u32, number: u32) {
        if self.after.len() < self.list.len() {
            self.after.resize(self.list.len(), u32::MAX);
        }
        self.after[before as usize] = number;
    }

    /// What only reading needs is let go.
    pub(super) fn forget_order(&mut self) {
        self.after = Vec::new();
    }

    /// The name of a number.
    pub(super) fn text(&self, number: u32) -> &str {
        &self.list[number as usize]
    }

    /// The number of a name, if the document has it.
    pub(super) fn find(&self, name: &str) -> Option<u32> {
        self.index.get(name).copied()
    }
}
