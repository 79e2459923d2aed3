//! Attribute sets: which value of a name counts.
//!
//! An element may have several sets of one kind (`instance_attributes`, `meta_attributes`,
//! `utilization`, `cluster_property_set`). A set counts if it has no rule or one of its rules holds.
//! Of those that count, the one with the highest `score` has the first word on a name; of sets with
//! the same score the *last* in the document; within one set the first pair. The set
//! `cib-bootstrap-options` comes before all others, whatever its score. A pair without a value, and
//! one with the value `#default`, is as if it was not there.

use crate::ids::Ids;
use crate::rules::Situation;
use crate::values;
use crate::xml::Element;

/// The cluster's own set of options, which comes before all others.
pub const BOOTSTRAP: &str = "cib-bootstrap-options";

/// Names and their values; each name once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pairs<'a> {
    pairs: Vec<(&'a str, &'a str)>,
}

impl<'a> Pairs<'a> {
    /// The pairs of an element's child sets of one kind that count in a situation.
    pub fn of(parent: Element<'a>, kind: &'a str, ids: &Ids<'a>, at: &Situation<'_>) -> Pairs<'a> {
        let mut pairs = Pairs::default();
        pairs.add(parent.children_named(kind), ids, at);
        pairs
    }

    /// Adds what sets say of names that have no value yet.
    pub fn add(
        &mut self,
        sets: impl Iterator<Item = Element<'a>>,
        ids: &Ids<'a>,
        at: &Situation<'_>,
    ) {
        for set in in_order(sets, ids) {
            if !holds(set, ids, at) {
                continue;
            }
            for (name, value) in pairs_of(set, ids) {
                self.add_one(name, value);
            }
        }
    }

    /// Adds a value for a name that has none yet.
    pub fn add_one(&mut self, name: &'a str, value: &'a str) {
        if self.get(name).is_none() {
            self.pairs.push((name, value));
        }
    }

    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.pairs.iter().find(|pair| pair.0 == name).map(|pair| pair.1)
    }

    /// All pairs, those of the sets with the first word first.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + '_ {
        self.pairs.iter().copied()
    }

    /// How many names have a value.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether no name has a value.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }
}

/// Sets with their references resolved, the one with the first word first.
pub fn in_order<'a>(sets: impl Iterator<Item = Element<'a>>, ids: &Ids<'a>) -> Vec<Element<'a>> {
    let mut ordered: Vec<(bool, i32, Element<'a>)> = sets
        .filter_map(|set| ids.resolve(set))
        .map(|set| {
            let score = set.attr("score").and_then(values::score).unwrap_or(0);
            (set.id() == Some(BOOTSTRAP), score, set)
        })
        .collect();
    // The sort is stable: what comes later goes first.
    ordered.reverse();
    ordered.sort_by_key(|(bootstrap, score, _)| std::cmp::Reverse((*bootstrap, *score)));
    ordered.into_iter().map(|(.., set)| set).collect()
}

/// Whether a set counts: it has no rule, or one that holds.
pub fn holds<'a>(set: Element<'a>, ids: &Ids<'a>, at: &Situation<'_>) -> bool {
    let mut rules = set.children_named("rule").peekable();
    rules.peek().is_none() || rules.any(|rule| at.holds(rule, ids))
}

/// The pairs of one set as they are written, references resolved; a name may come twice.
pub fn pairs_of<'a>(set: Element<'a>, ids: &Ids<'a>) -> impl Iterator<Item = (&'a str, &'a str)> {
    set.children_named("nvpair").filter_map(|pair| {
        let source = ids.resolve(pair)?;
        let name = pair.attr("name").or_else(|| source.attr("name"))?;
        let value = source.attr("value").filter(|value| *value != "#default")?;
        Some((name, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml::Document;

    fn pairs(sets: &str) -> String {
        let doc =
            Document::parse(format!("<cib><configuration><a>{sets}</a></configuration></cib>"))
                .unwrap();
        let ids = Ids::of(&doc);
        let parent = doc.root().descendants().nth(1).unwrap();
        let pairs = Pairs::of(parent, "s", &ids, &Situation::default());
        let words: Vec<String> =
            pairs.iter().map(|(name, value)| format!("{name}={value} ")).collect();
        words.concat()
    }

    fn set(id: &str, score: &str, pairs: &[(&str, &str)]) -> String {
        let pairs: Vec<String> = pairs
            .iter()
            .map(|(name, value)| {
                format!("<nvpair id='{id}-{name}' name='{name}' value='{value}'/>")
            })
            .collect();
        format!("<s id='{id}' score='{score}'>{}</s>", pairs.concat())
    }

    #[test]
    fn the_highest_score_has_the_first_word() {
        let text = set("x", "1", &[("a", "1")]) + &set("y", "-INFINITY", &[("a", "2"), ("b", "2")]);
        assert_eq!(pairs(&text), "a=1 b=2 ");
    }

    #[test]
    fn of_equal_scores_the_last_set_wins_and_in_a_set_the_first_pair() {
        let text = set("x", "0", &[("a", "1")]) + &set("y", "0", &[("a", "2"), ("a", "3")]);
        assert_eq!(pairs(&text), "a=2 ");
    }

    #[test]
    fn the_clusters_own_options_come_first() {
        let text = set(BOOTSTRAP, "-5", &[("a", "1")]) + &set("y", "INFINITY", &[("a", "2")]);
        assert_eq!(pairs(&text), "a=1 ");
    }

    #[test]
    fn references_are_followed_and_circles_are_not() {
        let text = set("x", "0", &[("a", "1")])
            + "<s id-ref='y'/><z>"
            + &set("y", "7", &[("a", "2"), ("b", "#default")])
            + "</z><s id='w'><nvpair id-ref='y-a' name='c'/><nvpair id-ref='y-a'/></s>";
        assert_eq!(pairs(&text), "a=2 c=2 ");
        assert_eq!(pairs("<s id='x' id-ref='x'/>"), "");
    }

    #[test]
    fn a_set_with_rules_needs_one_that_holds() {
        let none = "<rule id='r'><date_expression id='d' operation='gt' start='2000-001'/></rule>";
        let text = format!("<s id='x'>{none}<nvpair id='n' name='a' value='1'/></s>");
        assert_eq!(pairs(&text), "", "without a clock no date holds");
        let any = "<rule id='q'/>";
        let text = format!("<s id='x'>{none}{any}<nvpair id='n' name='a' value='1'/></s>");
        assert_eq!(pairs(&text), "a=1 ");
    }
}
