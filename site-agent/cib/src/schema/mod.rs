//! Whether a CIB is what its schema says, and if not, all that is wrong, each with its line.
//!
//! The rules are data (`pacemaker.rules`): one text for the schemas pacemaker-3.0 to 3.10 and 4.0,
//! with what came and went between them. 3.10 is read as 3.9, and 4.0 without what its release took
//! away. A configuration of schema 1 or 2 is refused by name: what it meant has changed since.
//!
//! The check goes on after an error as if what is wrong was not there, and as if what is missing was:
//! one mistake is told once. The content of `status` is not checked here, as it is not by Pacemaker.

mod grammar;
mod pattern;
mod types;

use crate::words;
use crate::xml::{Document, Element};
use grammar::Grammar;
use pattern::{ANYTHING, Id, NEVER, Pattern};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::OnceLock;

/// A schema that a configuration may declare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Schema {
    major: u32,
    minor: u32,
}

/// Why a document has no schema that we check.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// The root is another element.
    #[error("the root element is <{0}>, not <cib>: this is no CIB")]
    NoCib(String),
    /// Nothing is declared.
    #[error("the <cib> has no validate-with: add validate-with=\"{}\"", Schema::NEWEST_3)]
    Undeclared,
    /// The check is turned off.
    #[error(
        "validate-with=\"none\" turns the check off: write validate-with=\"{}\"",
        Schema::NEWEST_3
    )]
    TurnedOff,
    /// An old schema.
    #[error(
        "schema {0} is not supported: upgrade the configuration first (tierce cib upgrade, or where \
         that does not do, cibadmin --upgrade on a cluster of Pacemaker 2.1)"
    )]
    TooOld(String),
    /// A schema that we do not know.
    #[error("schema {0} is not known: the newest that is read is {newest}", newest = Schema::NEWEST)]
    Unknown(String),
}

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration can not be taken.
    Error,
    /// It can be taken, but is likely not what was meant.
    Warning,
}

/// One thing that is wrong in a document.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Line of the element, from 1; 0 if it is not from a text.
    pub line: u32,
    /// The element with its id.
    pub element: String,
    /// What is wrong.
    pub what: String,
    /// What is allowed there, or what to do.
    pub allowed: String,
    /// How bad it is.
    pub severity: Severity,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let warning = if self.severity == Severity::Warning { "warning: " } else { "" };
        write!(f, "line {}: {warning}{}: {}", self.line, self.element, self.what)?;
        if !self.allowed.is_empty() {
            write!(f, " ({})", self.allowed)?;
        }
        Ok(())
    }
}

impl Problem {
    pub(crate) fn new(
        element: Element<'_>,
        what: impl Into<String>,
        allowed: impl Into<String>,
    ) -> Problem {
        Problem {
            line: element.line(),
            element: words::name_of(element),
            what: what.into(),
            allowed: allowed.into(),
            severity: Severity::Error,
        }
    }
}

impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pacemaker-{}.{}", self.major, self.minor)
    }
}

impl Schema {
    /// The oldest that is checked.
    pub const OLDEST: Schema = Schema { major: 3, minor: 0 };
    /// The newest of the 3 series.
    pub const NEWEST_3: Schema = Schema { major: 3, minor: 10 };
    /// The newest.
    pub const NEWEST: Schema = Schema { major: 4, minor: 0 };

    /// The schema of a name ("pacemaker-3.7").
    pub fn named(name: &str) -> Result<Schema, SchemaError> {
        let unknown = || SchemaError::Unknown(name.to_owned());
        let (major, minor) = name
            .strip_prefix("pacemaker-")
            .and_then(|version| version.split_once('.'))
            .ok_or_else(unknown)?;
        let number = |text: &str| text.parse::<u32>().map_err(|_| unknown());
        let schema = Schema { major: number(major)?, minor: number(minor)? };
        match (schema.major, schema.minor) {
            (0..=2, _) => Err(SchemaError::TooOld(name.to_owned())),
            (3, 0..=10) | (4, 0) => Ok(schema),
            _ => Err(unknown()),
        }
    }

    /// The schema that a document declares.
    pub fn declared(doc: &Document) -> Result<Schema, SchemaError> {
        let root = doc.root();
        if root.name() != "cib" {
            return Err(SchemaError::NoCib(root.name().to_owned()));
        }
        match root.attr("validate-with").map(str::trim) {
            None => Err(SchemaError::Undeclared),
            Some("none") => Err(SchemaError::TurnedOff),
            Some(name) => Schema::named(name),
        }
    }

    fn grammar(self) -> Grammar {
        static READ: OnceLock<std::sync::Mutex<BTreeMap<Schema, Grammar>>> = OnceLock::new();
        let read = READ.get_or_init(std::sync::Mutex::default);
        let mut read = read.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let make = || grammar::grammar(self.major * 1000 + self.minor);
        read.entry(self).or_insert_with(make).clone()
    }

    /// All that is wrong in a document by this schema.
    pub fn check(self, doc: &Document) -> Vec<Problem> {
        let mut check = Check {
            grammar: self.grammar(),
            ids: BTreeMap::new(),
            references: Vec::new(),
            problems: Vec::new(),
        };
        let root = doc.root();
        if root.name() == "cib" {
            let mut stack = vec![(root, check.grammar.root)];
            while let Some((element, rule)) = stack.pop() {
                check.element(element, rule, &mut stack);
            }
            check.references();
        } else {
            check.problem(root, "this is no CIB", "the root element is <cib>");
        }
        check.problems.sort();
        check.problems
    }
}

/// A configuration of schema 1.3 or 2 as one of schema 3.0.
///
/// Between 2.10 and 3.0 names changed, and schema 3.0 refuses each of the old ones where it had a
/// meaning. So what is valid by 3.0 as it stands means there what it meant before, and only the
/// declared schema is raised. What is not is left to Pacemaker's own upgrade, with the reasons.
pub fn upgrade(doc: &Document) -> Result<Document, Vec<Problem>> {
    let mut upgraded = doc.clone();
    let root = upgraded.root().node_id();
    upgraded.set(root, "validate-with", &Schema::OLDEST.to_string());
    let problems = Schema::OLDEST.check(&upgraded);
    if problems.is_empty() { Ok(upgraded) } else { Err(problems) }
}

struct Check<'a> {
    grammar: Grammar,
    /// Who has an id.
    ids: BTreeMap<&'a str, Element<'a>>,
    /// Which attributes name an id: element, attribute, id.
    references: Vec<(Element<'a>, u32, &'a str)>,
    problems: Vec<Problem>,
}

impl<'a> Check<'a> {
    fn problem(
        &mut self,
        element: Element<'_>,
        what: impl Into<String>,
        allowed: impl Into<String>,
    ) {
        self.problems.push(Problem::new(element, what, allowed));
    }

    /// Checks one element; its children that have rules go on the stack.
    fn element(&mut self, element: Element<'a>, rule: u32, stack: &mut Vec<(Element<'a>, u32)>) {
        let whole = self.grammar.rules[rule as usize];
        if whole == ANYTHING {
            return;
        }
        let left = self.attributes(element, whole);
        if element.has_text() {
            self.problem(element, "there is text in it", "only elements may be here");
        }
        self.children(element, whole, left, stack);
    }

    /// Checks the attributes; what is left of the content.
    fn attributes(&mut self, element: Element<'a>, whole: Id) -> Id {
        let mut left = whole;
        for (name, value) in element.attrs() {
            let Some(number) = self.grammar.arena.find(name) else {
                self.unknown_attribute(element, name, whole);
                continue;
            };
            let next = self.grammar.arena.after_attr(left, number, Some(value));
            if next != NEVER {
                self.note_id(element, left, number, value);
                left = next;
                continue;
            }
            let lenient = self.grammar.arena.after_attr(left, number, None);
            if lenient != NEVER {
                self.bad_value(element, left, number, value);
                left = lenient;
            } else if self.speaks_of_attribute(whole, number) {
                let what = format!("attribute {name} can not be together with the others here");
                self.problem(element, what, "remove it, or the others");
            } else {
                self.unknown_attribute(element, name, whole);
            }
        }
        let done = self.grammar.arena.without_attrs(left, false);
        if done != NEVER {
            return done;
        }
        let attrs = |needed: &String| needed.contains("attribute ");
        let missing: Vec<String> =
            self.grammar.arena.needed(left).into_iter().filter(attrs).collect();
        self.problem(element, format!("{} is missing", missing.join(", ")), "add it");
        self.grammar.arena.without_attrs(left, true)
    }

    fn speaks_of_attribute(&self, content: Id, number: u32) -> bool {
        let parts = self.grammar.arena.parts(content);
        parts.iter().any(|part| matches!(part, Pattern::Attr { name, .. } if *name == number))
    }

    fn unknown_attribute(&mut self, element: Element<'_>, name: &str, whole: Id) {
        let arena = &self.grammar.arena;
        let mut known: Vec<&str> = Vec::new();
        for part in arena.parts(whole) {
            if let Pattern::Attr { name, .. } = part
                && !known.contains(&arena.text(name))
            {
                known.push(arena.text(name));
            }
        }
        let allowed = words::suggest(name, &known)
            .unwrap_or_else(|| format!("known here: {}", words::list(&known)));
        self.problem(element, format!("unknown attribute {name}"), allowed);
    }

    fn bad_value(&mut self, element: Element<'_>, left: Id, number: u32, value: &str) {
        let arena = &self.grammar.arena;
        let mut allowed = Vec::new();
        for part in arena.parts(left) {
            if let Pattern::Attr { name, kind } = part
                && name == number
            {
                let described = arena.kinds[kind as usize].describe();
                if !allowed.contains(&described) {
                    allowed.push(described);
                }
            }
        }
        let what = format!("{}={value:?} is not allowed", arena.text(number));
        self.problem(element, what, format!("allowed: {}", allowed.join(", or ")));
    }

    /// Notes an id, and says so if another element has it; or notes a reference to one.
    fn note_id(&mut self, element: Element<'a>, left: Id, number: u32, value: &'a str) {
        let arena = &self.grammar.arena;
        let kind = arena.parts(left).into_iter().find_map(|part| match part {
            Pattern::Attr { name, kind } if name == number => Some(&arena.kinds[kind as usize]),
            _ => None,
        });
        let (is_id, is_reference) =
            (kind == Some(&types::Kind::Id), kind == Some(&types::Kind::IdRef));
        if is_reference {
            self.references.push((element, number, value.trim()));
        } else if is_id && let Some(other) = self.ids.insert(value.trim(), element) {
            let (other, line) = (words::name_of(other), other.line());
            let what = format!("id {value:?} is taken by {other} on line {line}");
            self.problem(element, what, "give it another id");
        }
    }

    /// Says which references name an id that no element has.
    fn references(&mut self) {
        for (element, number, value) in std::mem::take(&mut self.references) {
            if self.ids.contains_key(value) {
                continue;
            }
            let near = words::nearest(value, self.ids.keys().copied());
            let allowed = near.map_or_else(
                || "no element has that id".to_owned(),
                |near| format!("did you mean {near}?"),
            );
            let name = self.grammar.arena.text(number);
            let what = format!("{name}={value:?} names nothing in the configuration");
            self.problem(element, what, allowed);
        }
    }

    fn children(
        &mut self,
        element: Element<'a>,
        whole: Id,
        mut left: Id,
        stack: &mut Vec<(Element<'a>, u32)>,
    ) {
        let first = stack.len();
        for child in element.children() {
            let number = self.grammar.arena.find(child.name());
            let next = number.map_or(NEVER, |name| self.grammar.arena.after_child(left, name));
            if next == NEVER {
                self.unexpected_child(element, child, whole, left);
            } else {
                left = next;
            }
            if let Some(rule) = self.rule_of(whole, number) {
                stack.push((child, rule));
            }
        }
        // The first child is checked first: of two with one id, the second is in the wrong.
        stack[first..].reverse();
        if !self.grammar.arena.nullable(left) {
            let missing = self.grammar.arena.needed(left).join(", ");
            self.problem(element, format!("{missing} is missing in it"), "add it");
        }
    }

    /// The rule of a child by its name: within one element a name has one rule.
    fn rule_of(&self, whole: Id, number: Option<u32>) -> Option<u32> {
        let number = number?;
        self.grammar.arena.parts(whole).iter().find_map(|part| match part {
            Pattern::Child { name, rule } if *name == number => Some(*rule),
            _ => None,
        })
    }

    fn unexpected_child(&mut self, parent: Element<'_>, child: Element<'_>, whole: Id, left: Id) {
        let arena = &self.grammar.arena;
        let children = |content: Id| -> Vec<&str> {
            let mut names = Vec::new();
            for part in arena.parts(content) {
                if let Pattern::Child { name, .. } = part {
                    names.push(arena.text(name));
                }
            }
            names
        };
        let (ever, now) = (children(whole), children(left));
        let place = words::name_of(parent);
        let name = child.name();
        let (what, allowed) = if now.contains(&name) {
            (format!("it stands too late or too early in {place}"), "check the order".to_owned())
        } else if ever.contains(&name) {
            let rest = if now.is_empty() { "nothing more".to_owned() } else { words::list(&now) };
            (format!("one <{name}> too many in {place}"), format!("allowed yet: {rest}"))
        } else {
            let allowed = words::suggest(name, &ever).unwrap_or_else(|| {
                if ever.is_empty() {
                    "nothing may be in it".to_owned()
                } else {
                    format!("allowed in it: {}", words::list(&ever))
                }
            });
            (format!("<{name}> is not allowed in {place}"), allowed)
        };
        self.problem(child, what, allowed);
    }
}

#[cfg(test)]
mod tests;
