//! Queries as users of `cibadmin --xpath` write them.
//!
//! The part of XPath that configurations are asked with: `/cib/status`, `//primitive`, `*`,
//! `[@id='a']`, `[@id='a' and @type!='b']`, `[not(@id)]`, `[2]`, `[nvpair/@name='x']`, and a last
//! step `/@name` for the values of an attribute; several queries are joined by `|`. Anything else is
//! refused by name, never read as something similar.

use crate::xml::Element;
use std::collections::BTreeSet;

/// A query that is not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the query can not be read at {rest:?}: {what} (known: /a/b, //a, *, [@x='y'], [@x], and, or, \
     not(), [2], @x at the end, |)"
)]
pub struct QueryError {
    /// What of the query is left.
    pub rest: String,
    /// What is wrong there.
    pub what: &'static str,
}

/// What a query found.
#[derive(Clone, Debug, PartialEq)]
pub enum Found<'a> {
    /// An element.
    Element(Element<'a>),
    /// The value of an attribute.
    Value(&'a str),
}

/// A query that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    paths: Vec<Path>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Path {
    absolute: bool,
    steps: Vec<Step>,
    attribute: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    /// After `//`: at any depth.
    deep: bool,
    /// None is `*`.
    name: Option<String>,
    tests: Vec<Test>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    Position(usize),
    /// The path leads to something; with a value, to that value (or to another one).
    Path(Path, Option<(bool, String)>),
    And(Box<Test>, Box<Test>),
    Or(Box<Test>, Box<Test>),
    Not(Box<Test>),
}

/// The deepest nesting of a query's brackets.
const MAX_NESTING: usize = 16;

impl Query {
    /// Reads a query.
    pub fn parse(text: &str) -> Result<Query, QueryError> {
        let mut reader = Reader { rest: text.trim(), nesting: 0 };
        let mut paths = vec![reader.path()?];
        while reader.eat("|") {
            paths.push(reader.path()?);
        }
        if reader.rest.is_empty() {
            Ok(Query { paths })
        } else {
            Err(reader.error("not understood"))
        }
    }

    /// What it finds in a document, in the document's order for each part of the query.
    pub fn find<'a>(&self, root: Element<'a>) -> Vec<Found<'a>> {
        let mut all = Vec::new();
        for path in &self.paths {
            for element in path.elements(Start::Document(root)) {
                match &path.attribute {
                    None => all.push(Found::Element(element)),
                    Some(name) => all.extend(element.attr(name).map(Found::Value)),
                }
            }
        }
        all
    }
}

/// Where a path begins.
#[derive(Clone, Copy)]
enum Start<'a> {
    /// Above the root element.
    Document(Element<'a>),
    Element(Element<'a>),
}

impl Path {
    fn elements<'a>(&self, start: Start<'a>) -> Vec<Element<'a>> {
        let (mut now, mut first) = match start {
            Start::Document(root) => (vec![root], true),
            Start::Element(element) => (vec![element], false),
        };
        for step in &self.steps {
            let mut next = Vec::new();
            let mut seen = BTreeSet::new();
            for element in &now {
                step.from(*element, first, &mut next, &mut seen);
            }
            (now, first) = (next, false);
        }
        now
    }

    fn values<'a>(&self, element: Element<'a>) -> Vec<Option<&'a str>> {
        let found = self.elements(Start::Element(element));
        match &self.attribute {
            None => found.iter().map(|_| None).collect(),
            Some(name) => found.iter().filter_map(|element| element.attr(name)).map(Some).collect(),
        }
    }
}

impl Step {
    /// What the step leads to from an element; `first` from above the root.
    fn from<'a>(
        &self,
        element: Element<'a>,
        first: bool,
        into: &mut Vec<Element<'a>>,
        seen: &mut BTreeSet<crate::xml::NodeId>,
    ) {
        // "//a" is any element's child a: positions are counted among the children of one element.
        let mut parents = Vec::new();
        if self.deep {
            parents.push(element);
            parents.extend(element.descendants());
        } else if !first {
            parents.push(element);
        }
        let fits =
            |child: &Element<'a>| self.name.as_deref().is_none_or(|name| child.name() == name);
        let mut groups: Vec<Vec<Element<'a>>> = Vec::new();
        if first && fits(&element) {
            groups.push(vec![element]);
        }
        groups.extend(parents.iter().map(|parent| parent.children().filter(fits).collect()));
        for mut group in groups {
            for test in &self.tests {
                let mut position = 0;
                group.retain(|element| {
                    position += 1;
                    test.holds(*element, position)
                });
            }
            into.extend(group.into_iter().filter(|element| seen.insert(element.node_id())));
        }
    }
}

impl Test {
    fn holds(&self, element: Element<'_>, position: usize) -> bool {
        match self {
            Test::Position(wanted) => position == *wanted,
            Test::Path(path, None) => !path.values(element).is_empty(),
            Test::Path(path, Some((equal, value))) => path
                .values(element)
                .into_iter()
                .any(|found| (found.unwrap_or("") == value.as_str()) == *equal),
            Test::And(a, b) => a.holds(element, position) && b.holds(element, position),
            Test::Or(a, b) => a.holds(element, position) || b.holds(element, position),
            Test::Not(test) => !test.holds(element, position),
        }
    }
}

struct Reader<'t> {
    rest: &'t str,
    nesting: usize,
}

impl Reader<'_> {
    fn error(&self, what: &'static str) -> QueryError {
        QueryError { rest: self.rest.to_owned(), what }
    }

    /// Takes a token, and the blanks around it.
    fn eat(&mut self, token: &str) -> bool {
        let Some(rest) = self.rest.trim_start().strip_prefix(token) else {
            return false;
        };
        self.rest = rest.trim_start();
        true
    }

    fn name(&mut self) -> Result<String, QueryError> {
        let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        if end == 0 || !self.rest.starts_with(|c: char| c.is_alphabetic() || c == '_') {
            return Err(self.error("a name is expected"));
        }
        let name = self.rest[..end].to_owned();
        self.rest = &self.rest[end..];
        if self.rest.starts_with("::") || self.rest.starts_with('(') {
            return Err(self.error("axes and functions are not supported"));
        }
        Ok(name)
    }

    fn path(&mut self) -> Result<Path, QueryError> {
        let (mut steps, mut attribute) = (Vec::new(), None);
        let mut deep = self.eat("//");
        let absolute = deep || self.eat("/");
        loop {
            if self.eat("@") {
                if deep {
                    steps.push(Step { deep, name: None, tests: Vec::new() });
                }
                attribute = Some(self.name()?);
                break;
            }
            let name = if self.eat("*") { None } else { Some(self.name()?) };
            let mut tests = Vec::new();
            while self.eat("[") {
                tests.push(self.test()?);
                if !self.eat("]") {
                    return Err(self.error("] is expected"));
                }
            }
            steps.push(Step { deep, name, tests });
            deep = self.eat("//");
            if !deep && !self.eat("/") {
                break;
            }
        }
        Ok(Path { absolute, steps, attribute })
    }

    fn test(&mut self) -> Result<Test, QueryError> {
        self.nesting += 1;
        if self.nesting > MAX_NESTING {
            return Err(self.error("nested too deep"));
        }
        let mut test = self.conjunction()?;
        while self.word("or") {
            test = Test::Or(Box::new(test), Box::new(self.conjunction()?));
        }
        self.nesting -= 1;
        Ok(test)
    }

    fn conjunction(&mut self) -> Result<Test, QueryError> {
        let mut test = self.condition()?;
        while self.word("and") {
            test = Test::And(Box::new(test), Box::new(self.condition()?));
        }
        Ok(test)
    }

    fn word(&mut self, word: &str) -> bool {
        let Some(after) = self.rest.trim_start().strip_prefix(word) else {
            return false;
        };
        after.starts_with([' ', '(', '@', '\t']) && self.eat(word)
    }

    fn condition(&mut self) -> Result<Test, QueryError> {
        let digits = self.rest.bytes().take_while(u8::is_ascii_digit).count();
        if digits > 0 {
            let number = self.rest[..digits].parse().map_err(|_| self.error("too large"))?;
            self.rest = self.rest[digits..].trim_start();
            return Ok(Test::Position(number));
        }
        if self.eat("not(") {
            let test = self.test()?;
            return self.closed(Test::Not(Box::new(test)));
        }
        if self.eat("(") {
            let test = self.test()?;
            return self.closed(test);
        }
        let path = self.path()?;
        if path.absolute {
            return Err(self.error("a path in brackets begins at the element"));
        }
        let equal = if self.eat("!=") {
            false
        } else if self.eat("=") {
            true
        } else {
            return Ok(Test::Path(path, None));
        };
        if path.attribute.is_none() {
            return Err(self.error("only attributes have values"));
        }
        let quote = self.rest.chars().next().filter(|c| matches!(c, '\'' | '"'));
        let quote = quote.ok_or_else(|| self.error("a quoted value is expected"))?;
        let inside = &self.rest[1..];
        let end = inside.find(quote).ok_or_else(|| self.error("the quote is not closed"))?;
        let value = inside[..end].to_owned();
        self.rest = inside[end + 1..].trim_start();
        Ok(Test::Path(path, Some((equal, value))))
    }

    fn closed(&mut self, test: Test) -> Result<Test, QueryError> {
        if self.eat(")") { Ok(test) } else { Err(self.error(") is expected")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml::Document;

    const CIB: &str =
        "<cib><a id='1' x='p'><n name='k' value='v'/></a><a id='2' x='q'><n name='k'/>
        <b><a id='3'/></b></a><s/></cib>";

    fn ids(query: &str) -> String {
        let doc = Document::parse(CIB).unwrap();
        let found = Query::parse(query).unwrap_or_else(|error| panic!("{error}")).find(doc.root());
        let words: Vec<&str> = found
            .iter()
            .map(|found| match found {
                Found::Element(element) => element.id().unwrap_or(element.name()),
                Found::Value(value) => value,
            })
            .collect();
        words.join(" ")
    }

    #[test]
    fn queries_find_what_they_ask_for() {
        for (query, found) in [
            ("/cib", "cib"),
            ("/cib/a", "1 2"),
            ("//a", "1 2 3"),
            ("/cib//a[@id='3']", "3"),
            ("//a[@id=\"1\" or @x='q']", "1 2"),
            ("//a[@id!='1' and @x]", "2"),
            ("//a[not(@x)]/@id", "3"),
            ("/cib/a[2]", "2"),
            ("/cib/*[3]", "s"),
            ("//a[n/@value='v']", "1"),
            ("//a[b]", "2"),
            ("//a[b/a[@id='3']]", "2"),
            ("/a", ""),
            ("//s | //b", "s b"),
            (" //a [ @id = '1' ] / n ", "n"),
            ("cib/s", "s"),
            ("//@id", "1 2 3"),
        ] {
            assert_eq!(ids(query), found, "{query}");
        }
    }

    #[test]
    fn what_is_not_supported_is_refused() {
        for query in [
            "",
            "/",
            "//a[",
            "//a[@id='1]",
            "//a[@id=1]",
            "//a[position()=1]",
            "//a/parent::b",
            "//a[contains(@id,'1')]",
            "//a]",
            "//a/text()",
            "//a[n='x']",
            "//a/..",
            "//a[/b]",
        ] {
            assert!(Query::parse(query).is_err(), "{query}");
        }
        let deep = format!("//a{}{}", "[not(a".repeat(40), ")]".repeat(40));
        assert!(Query::parse(&deep).is_err());
    }
}
