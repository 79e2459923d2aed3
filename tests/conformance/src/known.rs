//! Differences that are known, each with its reason in docs/scheduler.md.
//!
//! None is believed for what it looks like. For each there is a change of the CIB that takes away what it comes from and leaves
//! all else: only if the two agree on the changed CIB, and differed on the other, the difference is of that kind.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use tierce_cib::xml::{Document, Element, NodeId};

/// A kind of difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Known {
    /// Without anything to fence with the peer leaves running what has lost its ticket.
    TicketWithoutFencing,
    /// Of two orderings of one pair the peer keeps only one, the weaker or the stronger.
    OrderedTwice,
    /// An interleaved clone that must not be with another clone is kept from one of its instances only.
    InterleavedApart,
}

impl Known {
    /// All of them.
    pub(crate) const ALL: [Self; 3] =
        [Self::TicketWithoutFencing, Self::OrderedTwice, Self::InterleavedApart];

    /// Its name in the report and in docs/scheduler.md.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::TicketWithoutFencing => "ticket without fencing",
            Self::OrderedTwice => "ordered twice",
            Self::InterleavedApart => "interleaved apart",
        }
    }

    /// The CIB without what this difference comes from; nothing if it has nothing of it.
    pub(crate) fn without(self, text: &str) -> Result<Option<String>> {
        let mut document = Document::parse(text.to_owned())?;
        let touched = match self {
            Self::TicketWithoutFencing => grant_all(&mut document),
            Self::OrderedTwice => remove_all(&mut document, further_orders),
            Self::InterleavedApart => remove_all(&mut document, interleaved_apart),
        };
        Ok(touched.then(|| document.write()))
    }
}

fn remove_all(document: &mut Document, which: fn(&Document) -> Vec<NodeId>) -> bool {
    let gone = which(document);
    for id in &gone {
        document.remove(*id);
    }
    !gone.is_empty()
}

/// Where fencing is asked for and there is nothing to fence with: takes the needs for tickets away.
fn grant_all(document: &mut Document) -> bool {
    let option = |name: &str| {
        let pairs = document.root().descendants().filter(|e| e.name() == "nvpair");
        pairs.filter(|e| e.attr("name") == Some(name)).find_map(|e| e.attr("value"))
    };
    let devices = document.root().descendants().any(|e| e.attr("class") == Some("stonith"));
    if option("stonith-enabled") == Some("false") || option("have-watchdog").is_some() || devices {
        return false;
    }
    remove_all(document, |document| named(document, "rsc_ticket").map(Element::node_id).collect())
}

fn named<'d>(document: &'d Document, name: &'static str) -> impl Iterator<Item = Element<'d>> {
    document.root().descendants().filter(move |e| e.name() == name)
}

/// Of several orderings of one pair all but the first.
fn further_orders(document: &Document) -> Vec<NodeId> {
    let mut seen: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut further = Vec::new();
    for e in named(document, "rsc_order") {
        let (Some(first), Some(then)) = (e.attr("first"), e.attr("then")) else { continue };
        let mut pair = [first.to_owned(), then.to_owned()];
        pair.sort();
        let [a, b] = pair;
        let count = seen.entry((a, b)).or_default();
        *count += 1;
        if *count > 1 {
            further.push(e.node_id());
        }
    }
    further
}

/// What makes a clone interleaved that must not be with another one.
fn interleaved_apart(document: &Document) -> Vec<NodeId> {
    let clones: BTreeSet<&str> = named(document, "clone").filter_map(Element::id).collect();
    let apart: BTreeSet<&str> = named(document, "rsc_colocation")
        .filter(|c| c.attr("score") == Some("-INFINITY"))
        .filter(|c| c.attr("with-rsc").is_some_and(|primary| clones.contains(primary)))
        .filter_map(|c| c.attr("rsc"))
        .collect();
    named(document, "clone")
        .filter(|c| c.id().is_some_and(|id| apart.contains(id)))
        .flat_map(Element::descendants)
        .filter(|e| e.attr("name") == Some("interleave"))
        .map(Element::node_id)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cib(resources: &str, constraints: &str) -> String {
        format!(
            "<cib><configuration><resources>{resources}</resources><constraints>{constraints}</constraints></configuration></cib>"
        )
    }

    #[test]
    fn what_a_difference_does_not_come_from_is_left_alone() {
        let device = r#"<primitive id="f" class="stonith" type="x"/>"#;
        let ticket = r#"<rsc_ticket id="t" rsc="a" ticket="T"/>"#;
        let without = |kind: Known, text: &str| kind.without(text).unwrap();
        let changed = without(Known::TicketWithoutFencing, &cib("", ticket)).unwrap();
        assert!(!changed.contains("rsc_ticket"), "{changed}");
        assert_eq!(without(Known::TicketWithoutFencing, &cib(device, ticket)), None);
        assert_eq!(without(Known::TicketWithoutFencing, &cib("", "")), None);

        let order =
            |id: &str, then: &str| format!(r#"<rsc_order id="{id}" first="a" then="{then}"/>"#);
        let twice = order("one", "b") + &order("two", "b");
        let changed = without(Known::OrderedTwice, &cib("", &twice)).unwrap();
        assert!(changed.contains("one") && !changed.contains("two"), "{changed}");
        let clone = |id: &str| {
            format!(
                r#"<clone id="{id}"><meta_attributes id="{id}-m"><nvpair id="{id}-i" name="interleave" value="true"/></meta_attributes></clone>"#
            )
        };
        let both = clone("k") + &clone("l");
        let apart = r#"<rsc_colocation id="c" rsc="k" with-rsc="l" score="-INFINITY"/>"#;
        let changed = without(Known::InterleavedApart, &cib(&both, apart)).unwrap();
        assert!(!changed.contains("k-i") && changed.contains("l-i"), "{changed}");
        let together = apart.replace("-INF", "INF");
        assert_eq!(without(Known::InterleavedApart, &cib(&both, &together)), None);

        let once = order("one", "b") + &order("two", "c");
        assert_eq!(without(Known::OrderedTwice, &cib("", &once)), None);
    }
}
