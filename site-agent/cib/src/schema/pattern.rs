//! Content of elements as patterns, and what is left of a pattern after an attribute or a child.
//!
//! This is how RELAX NG is commonly checked: the derivative of a pattern by what was met is the
//! pattern for the rest. An element is complete when what is left may be empty. Patterns are interned
//! in an arena, so that equal ones are one, and a derivative by a child is computed once.

use super::types::Kind;
use std::collections::HashMap;

/// The number of a pattern in its arena.
pub(super) type Id = u32;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Pattern {
    Empty,
    /// Nothing matches: what was met is not allowed.
    Never,
    /// Whatever it be, unchecked.
    Anything,
    Attr {
        name: u32,
        kind: u32,
    },
    Child {
        name: u32,
        rule: u32,
    },
    Either(Id, Id),
    Then(Id, Id),
    /// Both, in any order and mixed.
    Mixed(Id, Id),
    OneOrMore(Id),
}

pub(super) const EMPTY: Id = 0;
pub(super) const NEVER: Id = 1;
pub(super) const ANYTHING: Id = 2;

/// Patterns with the names and types that they use.
#[derive(Clone, Debug)]
pub(super) struct Arena {
    patterns: Vec<Pattern>,
    nullable: Vec<bool>,
    index: HashMap<Pattern, Id>,
    names: Vec<String>,
    by_name: HashMap<String, u32>,
    pub(super) kinds: Vec<Kind>,
    by_child: HashMap<(Id, u32), Id>,
}

impl Arena {
    pub(super) fn new() -> Arena {
        let mut arena = Arena {
            patterns: Vec::new(),
            nullable: Vec::new(),
            index: HashMap::new(),
            names: Vec::new(),
            by_name: HashMap::new(),
            kinds: Vec::new(),
            by_child: HashMap::new(),
        };
        for pattern in [Pattern::Empty, Pattern::Never, Pattern::Anything] {
            arena.add(pattern);
        }
        arena
    }

    pub(super) fn name(&mut self, text: &str) -> u32 {
        if let Some(known) = self.by_name.get(text) {
            return *known;
        }
        let number = self.names.len() as u32;
        self.names.push(text.to_owned());
        self.by_name.insert(text.to_owned(), number);
        number
    }

    pub(super) fn find(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    pub(super) fn text(&self, name: u32) -> &str {
        &self.names[name as usize]
    }

    pub(super) fn add(&mut self, pattern: Pattern) -> Id {
        if let Some(known) = self.index.get(&pattern) {
            return *known;
        }
        let nullable = match pattern {
            Pattern::Empty | Pattern::Anything => true,
            Pattern::Never | Pattern::Attr { .. } | Pattern::Child { .. } => false,
            Pattern::Either(a, b) => self.nullable(a) || self.nullable(b),
            Pattern::Then(a, b) | Pattern::Mixed(a, b) => self.nullable(a) && self.nullable(b),
            Pattern::OneOrMore(a) => self.nullable(a),
        };
        let id = self.patterns.len() as Id;
        self.patterns.push(pattern);
        self.nullable.push(nullable);
        self.index.insert(pattern, id);
        id
    }

    pub(super) fn get(&self, id: Id) -> Pattern {
        self.patterns[id as usize]
    }

    pub(super) fn nullable(&self, id: Id) -> bool {
        self.nullable[id as usize]
    }

    pub(super) fn either(&mut self, a: Id, b: Id) -> Id {
        match (a, b) {
            (NEVER, other) | (other, NEVER) => other,
            _ if a == b => a,
            _ => self.add(Pattern::Either(a, b)),
        }
    }

    pub(super) fn then(&mut self, a: Id, b: Id) -> Id {
        match (a, b) {
            (NEVER, _) | (_, NEVER) => NEVER,
            (EMPTY, other) | (other, EMPTY) => other,
            _ => self.add(Pattern::Then(a, b)),
        }
    }

    pub(super) fn mixed(&mut self, a: Id, b: Id) -> Id {
        match (a, b) {
            (NEVER, _) | (_, NEVER) => NEVER,
            (EMPTY, other) | (other, EMPTY) => other,
            _ => self.add(Pattern::Mixed(a, b)),
        }
    }

    pub(super) fn one_or_more(&mut self, a: Id) -> Id {
        if a == NEVER || a == EMPTY { a } else { self.add(Pattern::OneOrMore(a)) }
    }

    /// What is left after an attribute; `value` none: whatever its value.
    pub(super) fn after_attr(&mut self, id: Id, name: u32, value: Option<&str>) -> Id {
        match self.get(id) {
            Pattern::Attr { name: own, kind } if own == name => {
                let fits = value.is_none_or(|value| self.kinds[kind as usize].allows(value));
                if fits { EMPTY } else { NEVER }
            }
            Pattern::Either(a, b) => {
                let (a, b) = (self.after_attr(a, name, value), self.after_attr(b, name, value));
                self.either(a, b)
            }
            Pattern::Then(a, b) => {
                let first = self.after_attr(a, name, value);
                let first = self.then(first, b);
                let second = self.after_attr(b, name, value);
                let second = self.then(a, second);
                self.either(first, second)
            }
            Pattern::Mixed(a, b) => {
                let first = self.after_attr(a, name, value);
                let first = self.mixed(first, b);
                let second = self.after_attr(b, name, value);
                let second = self.mixed(a, second);
                self.either(first, second)
            }
            Pattern::OneOrMore(a) => {
                let first = self.after_attr(a, name, value);
                let more = self.either(id, EMPTY);
                self.then(first, more)
            }
            Pattern::Anything => ANYTHING,
            _ => NEVER,
        }
    }

    /// What is left when no more attributes come. With `forgive`, those that are missing are taken as
    /// if they were there.
    pub(super) fn without_attrs(&mut self, id: Id, forgive: bool) -> Id {
        match self.get(id) {
            Pattern::Attr { .. } if forgive => EMPTY,
            Pattern::Attr { .. } => NEVER,
            Pattern::Either(a, b) => {
                let (a, b) = (self.without_attrs(a, forgive), self.without_attrs(b, forgive));
                self.either(a, b)
            }
            Pattern::Then(a, b) => {
                let (a, b) = (self.without_attrs(a, forgive), self.without_attrs(b, forgive));
                self.then(a, b)
            }
            Pattern::Mixed(a, b) => {
                let (a, b) = (self.without_attrs(a, forgive), self.without_attrs(b, forgive));
                self.mixed(a, b)
            }
            Pattern::OneOrMore(a) => {
                let a = self.without_attrs(a, forgive);
                self.one_or_more(a)
            }
            _ => id,
        }
    }

    /// What is left after a child.
    pub(super) fn after_child(&mut self, id: Id, name: u32) -> Id {
        if let Some(known) = self.by_child.get(&(id, name)) {
            return *known;
        }
        let left = match self.get(id) {
            Pattern::Child { name: own, .. } if own == name => EMPTY,
            Pattern::Either(a, b) => {
                let (a, b) = (self.after_child(a, name), self.after_child(b, name));
                self.either(a, b)
            }
            Pattern::Then(a, b) => {
                let first = self.after_child(a, name);
                let first = self.then(first, b);
                let second = if self.nullable(a) { self.after_child(b, name) } else { NEVER };
                self.either(first, second)
            }
            Pattern::Mixed(a, b) => {
                let first = self.after_child(a, name);
                let first = self.mixed(first, b);
                let second = self.after_child(b, name);
                let second = self.mixed(a, second);
                self.either(first, second)
            }
            Pattern::OneOrMore(a) => {
                let first = self.after_child(a, name);
                let more = self.either(id, EMPTY);
                self.then(first, more)
            }
            Pattern::Anything => ANYTHING,
            _ => NEVER,
        };
        self.by_child.insert((id, name), left);
        left
    }

    /// All attributes and children that a pattern speaks of.
    pub(super) fn parts(&self, id: Id) -> Vec<Pattern> {
        let (mut found, mut stack) = (Vec::new(), vec![id]);
        while let Some(id) = stack.pop() {
            match self.get(id) {
                Pattern::Either(a, b) | Pattern::Then(a, b) | Pattern::Mixed(a, b) => {
                    stack.extend([b, a]);
                }
                Pattern::OneOrMore(a) => stack.push(a),
                part @ (Pattern::Attr { .. } | Pattern::Child { .. }) if !found.contains(&part) => {
                    found.push(part);
                }
                _ => {}
            }
        }
        found
    }

    /// What has to be there yet, in words; alternatives are joined by "or".
    pub(super) fn needed(&self, id: Id) -> Vec<String> {
        match self.get(id) {
            Pattern::Attr { name, .. } => vec![format!("attribute {}", self.text(name))],
            Pattern::Child { name, .. } => vec![format!("<{}>", self.text(name))],
            Pattern::Then(a, b) | Pattern::Mixed(a, b) => {
                let mut both = self.needed(a);
                both.extend(self.needed(b));
                both.dedup();
                both
            }
            Pattern::Either(a, b) if !self.nullable(id) => {
                let (a, b) = (self.needed(a).join(" and "), self.needed(b).join(" and "));
                vec![if a == b { a } else { format!("{a} or {b}") }]
            }
            Pattern::OneOrMore(a) => self.needed(a),
            _ => Vec::new(),
        }
    }
}
