//! A disagreement made small: whatever can be left out, is.

use std::collections::BTreeSet;

use anyhow::Result;
use tierce_cib::xml::{Document, Element, NodeId};

/// More tries than this are not worth the time.
const TRIES: usize = 600;

/// The smallest CIB found of which `still` holds; it holds of `text`.
pub(crate) fn shrink(text: &str, mut still: impl FnMut(&str) -> Result<bool>) -> Result<String> {
    let mut best = text.to_owned();
    let mut tries = 0;
    loop {
        let mut smaller = false;
        let document = Document::parse(best.clone())?;
        let mut gone: BTreeSet<NodeId> = BTreeSet::new();
        let mut current = document.clone();
        for id in parts(&document) {
            // What stood in something that is gone is gone, too.
            let within = |e: Element<'_>| {
                std::iter::successors(Some(e), |e| e.parent()).any(|e| gone.contains(&e.node_id()))
            };
            if within(document.element(id)) {
                continue;
            }
            let mut without = current.clone();
            without.remove(id);
            drop_dangling(&mut without);
            tries += 1;
            if tries > TRIES {
                return Ok(current.write());
            }
            if still(&without.write())? {
                current = without;
                gone.insert(id);
                smaller = true;
            }
        }
        best = current.write();
        if !smaller {
            return Ok(best);
        }
    }
}

/// What may go, large before small: what stands higher comes first.
fn parts(document: &Document) -> Vec<NodeId> {
    let keep =
        ["cib", "configuration", "status", "crm_config", "nodes", "resources", "constraints"];
    let depth = |e: Element<'_>| std::iter::successors(e.parent(), |e| e.parent()).count();
    let mut all: Vec<_> = document
        .root()
        .descendants()
        .filter(|e| !keep.contains(&e.name()))
        .map(|e| (depth(e), e.node_id()))
        .collect();
    all.sort_unstable();
    all.into_iter().map(|(_, id)| id).collect()
}

/// Constraints, references and tags that name a resource that is not there any more.
fn drop_dangling(document: &mut Document) {
    let there: BTreeSet<String> = document
        .root()
        .descendants()
        .filter(|e| ["primitive", "group", "clone", "template", "tag"].contains(&e.name()))
        .filter_map(|e| e.id().map(str::to_owned))
        .collect();
    let dangles = |e: &Element<'_>| {
        let named = match e.name() {
            "rsc_location" | "rsc_ticket" => vec![e.attr("rsc")],
            "rsc_colocation" => vec![e.attr("rsc"), e.attr("with-rsc")],
            "rsc_order" => vec![e.attr("first"), e.attr("then")],
            "resource_ref" | "obj_ref" => vec![e.id()],
            // A history without its resource would be another story: that of an orphan.
            "lrm_resource" => vec![e.id().and_then(|id| id.split(':').next())],
            // A clone or group without anything in it is no resource.
            "clone" | "group" => {
                let inner = ["primitive", "group"];
                return !e.children().any(|c| inner.contains(&c.name()));
            }
            _ => return false,
        };
        named.into_iter().flatten().any(|n| !there.contains(n))
    };
    let which: Vec<NodeId> =
        document.root().descendants().filter(dangles).map(Element::node_id).collect();
    if !which.is_empty() {
        for id in which {
            document.remove(id);
        }
        drop_dangling(document);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_matter_goes_and_what_names_it_goes_with_it() {
        let text = r#"<cib><configuration><resources><primitive id="a"><operations><op id="m"/></operations></primitive><primitive id="b"/><primitive id="c"/></resources><constraints><rsc_order id="o" first="b" then="c"/></constraints></configuration><status/></cib>"#;
        let small = shrink(text, |t| Ok(t.contains(r#"<primitive id="a""#))).unwrap();
        assert_eq!(
            small,
            r#"<cib><configuration><resources><primitive id="a"></primitive></resources><constraints></constraints></configuration><status/></cib>"#
        );
    }
}
