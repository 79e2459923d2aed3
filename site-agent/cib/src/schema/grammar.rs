//! The rules as text (`pacemaker.rules`), read for one version of the schema.

use super::pattern::{ANYTHING, Arena, EMPTY, Id, NEVER, Pattern};
use super::types::Kind;
use std::collections::HashMap;

const RULES: &str = include_str!("pacemaker.rules");

/// The rules of one version.
#[derive(Clone, Debug)]
pub(super) struct Grammar {
    pub(super) arena: Arena,
    /// The content of each rule, by the number that a child pattern names.
    pub(super) rules: Vec<Id>,
    pub(super) root: u32,
}

/// Reads the rules of a minor version of the 3 series, or of 4.0 as 4000.
///
/// # Panics
/// If the rules are malformed: they are part of the program, and a test reads them all.
pub(super) fn grammar(version: u32) -> Grammar {
    let mut reader = Reader {
        version,
        arena: Arena::new(),
        kinds: HashMap::new(),
        sources: HashMap::new(),
        rules: Vec::new(),
        names: Vec::new(),
        numbers: HashMap::new(),
    };
    for (name, content) in definitions() {
        if let Some(name) = name.strip_prefix("type ") {
            let kind = reader.kind_of(&content);
            reader.arena.kinds.push(kind);
            reader.kinds.insert(name.to_owned(), reader.arena.kinds.len() as u32 - 1);
        } else {
            reader.sources.insert(name, content);
        }
    }
    let root = reader.rule("cib");
    // Reading a rule may name others, which are then read in their turn.
    let mut done = 0;
    while let Some(name) = reader.names.get(done).cloned() {
        let content = if name == "anything" { ANYTHING } else { reader.content(&name) };
        reader.rules.push(content);
        done += 1;
    }
    Grammar { arena: reader.arena, rules: reader.rules, root }
}

/// The definitions with their continuation lines.
fn definitions() -> Vec<(String, Vec<String>)> {
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    for line in RULES.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        if line.starts_with(' ') {
            let (_, content) = found.last_mut().expect("the first line begins a definition");
            content.extend(tokens(line));
        } else {
            let (name, content) = line.split_once('=').expect("a definition has a name");
            found.push((name.trim().to_owned(), tokens(content)));
        }
    }
    found
}

/// Splits at blanks and around brackets and bars; words in quotes stay together.
fn tokens(line: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut word = String::new();
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            _ if quoted => word.push(c),
            ' ' | '(' | '{' | '|' | ')' | '}' => {
                if !word.is_empty() {
                    tokens.push(std::mem::take(&mut word));
                }
                if c != ' ' {
                    tokens.push(c.to_string());
                }
            }
            // What follows a bracket or a word: how often, since when.
            '?' | '*' | '+' => {
                if !word.is_empty() {
                    tokens.push(std::mem::take(&mut word));
                }
                tokens.push(c.to_string());
            }
            '<' | '>' => {
                if !word.is_empty() {
                    tokens.push(std::mem::take(&mut word));
                }
                word.push(c);
            }
            _ => word.push(c),
        }
    }
    if !word.is_empty() {
        tokens.push(word);
    }
    tokens
}

struct Reader {
    version: u32,
    arena: Arena,
    kinds: HashMap<String, u32>,
    sources: HashMap<String, Vec<String>>,
    rules: Vec<Id>,
    names: Vec<String>,
    numbers: HashMap<String, u32>,
}

/// Where a reader is in the tokens of a definition.
struct Cursor<'t> {
    tokens: &'t [String],
    at: usize,
}

impl<'t> Cursor<'t> {
    fn peek(&self) -> Option<&'t str> {
        self.tokens.get(self.at).map(String::as_str)
    }

    fn take(&mut self) -> Option<&'t str> {
        let token = self.peek();
        self.at += 1;
        token
    }
}

impl Reader {
    /// The number of a rule by name.
    fn rule(&mut self, name: &str) -> u32 {
        if let Some(known) = self.numbers.get(name) {
            return *known;
        }
        let number = self.names.len() as u32;
        self.names.push(name.to_owned());
        self.numbers.insert(name.to_owned(), number);
        number
    }

    fn content(&mut self, name: &str) -> Id {
        let tokens = self.sources.get(name).unwrap_or_else(|| panic!("no rule {name}")).clone();
        let mut cursor = Cursor { tokens: &tokens, at: 0 };
        let content = self.alternatives(&mut cursor);
        assert!(cursor.peek().is_none(), "rule {name} ends where it is written to end");
        content
    }

    fn kind_of(&self, tokens: &[String]) -> Kind {
        let (negative, mut rest) = match tokens.split_first() {
            Some((first, rest)) if first == "not" => (true, rest),
            _ => (false, tokens),
        };
        let mut words = Vec::new();
        while let Some((word, after)) = rest.split_first() {
            let limited = after.first().is_some_and(|next| next.starts_with(['<', '>']));
            if !limited || self.in_version(&after[0]) {
                words.push(word.clone());
            }
            rest = &after[usize::from(limited)..];
        }
        if negative { Kind::NoneOf(words) } else { Kind::OneOf(words) }
    }

    /// Whether ">=3.2" or "<4.0" holds.
    fn in_version(&self, limit: &str) -> bool {
        let number = limit.trim_start_matches(['<', '>', '=']);
        let (major, minor) = number.split_once('.').expect("a version has two numbers");
        let number = |text: &str| text.parse::<u32>().expect("a version is a number");
        let bound = number(major) * 1000 + number(minor);
        if limit.starts_with('<') { self.version < bound } else { self.version >= bound }
    }

    fn alternatives(&mut self, cursor: &mut Cursor<'_>) -> Id {
        let mut all = self.sequence(cursor, false);
        while cursor.peek() == Some("|") {
            cursor.take();
            let next = self.sequence(cursor, false);
            all = self.arena.either(all, next);
        }
        all
    }

    /// Items up to a bar or bracket, one after the other or mixed. An alternative of which nothing is
    /// of this version is none; elsewhere the items of other versions just fall away.
    fn sequence(&mut self, cursor: &mut Cursor<'_>, mixed: bool) -> Id {
        let (mut all, mut kept, mut left_out) = (EMPTY, 0, 0);
        while let Some(token) = cursor.peek() {
            if matches!(token, "|" | ")" | "}") {
                break;
            }
            let Some(item) = self.item(cursor) else {
                left_out += 1;
                continue;
            };
            kept += 1;
            all = if mixed { self.arena.mixed(all, item) } else { self.arena.then(all, item) };
        }
        if kept == 0 && left_out > 0 { NEVER } else { all }
    }

    /// One item, if it is of this version.
    fn item(&mut self, cursor: &mut Cursor<'_>) -> Option<Id> {
        let mut item = match cursor.take()? {
            "(" => {
                let inner = self.alternatives(cursor);
                cursor.take();
                inner
            }
            "{" => {
                let inner = self.sequence(cursor, true);
                cursor.take();
                inner
            }
            word => self.word(word),
        };
        if let Some(times @ ("?" | "*" | "+")) = cursor.peek() {
            cursor.take();
            if times != "?" {
                item = self.arena.one_or_more(item);
            }
            if times != "+" {
                item = self.arena.either(item, EMPTY);
            }
        }
        match cursor.peek().filter(|token| token.starts_with(['<', '>'])) {
            Some(limit) => {
                cursor.take();
                self.in_version(limit).then_some(item)
            }
            None => Some(item),
        }
    }

    fn word(&mut self, word: &str) -> Id {
        if let Some(piece) = word.strip_prefix('%') {
            return self.content(&format!("%{piece}"));
        }
        if let Some(attr) = word.strip_prefix('@') {
            let (name, kind) = attr.split_once(':').unwrap_or((attr, "text"));
            let kind = self.kind(kind);
            let name = self.arena.name(name);
            return self.arena.add(Pattern::Attr { name, kind });
        }
        let (name, rule) = word.split_once(':').unwrap_or((word, word));
        let rule = self.rule(rule);
        let name = self.arena.name(name);
        self.arena.add(Pattern::Child { name, rule })
    }

    fn kind(&mut self, name: &str) -> u32 {
        if let Some(known) = self.kinds.get(name) {
            return *known;
        }
        let kind = Kind::built_in(name).unwrap_or_else(|| panic!("no type {name}"));
        self.arena.kinds.push(kind);
        let number = self.arena.kinds.len() as u32 - 1;
        self.kinds.insert(name.to_owned(), number);
        number
    }
}
