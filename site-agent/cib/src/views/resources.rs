//! Resources: primitives with their templates, groups, clones, bundles.

use crate::ids::Ids;
use crate::xml::{Document, Element};

/// What kind of resource an element is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One agent.
    Primitive,
    /// Primitives that run in order on one node.
    Group,
    /// Copies on many nodes.
    Clone,
    /// Containers.
    Bundle,
}

/// One resource and what is in it.
#[derive(Clone, Copy, Debug)]
pub struct Resource<'a> {
    /// Its element.
    pub element: Element<'a>,
    /// Its kind.
    pub kind: Kind,
    /// The template that its primitive is made of.
    pub template: Option<Element<'a>>,
}

/// The top-level resources in the order of the text.
pub fn resources<'a>(doc: &'a Document, ids: &Ids<'a>) -> Vec<Resource<'a>> {
    let section = doc.root().child("configuration").and_then(|part| part.child("resources"));
    let children = section.into_iter().flat_map(Element::children);
    children.filter_map(|element| Resource::of(element, ids)).collect()
}

impl<'a> Resource<'a> {
    /// The resource that an element is.
    pub fn of(element: Element<'a>, ids: &Ids<'a>) -> Option<Resource<'a>> {
        let kind = match element.name() {
            "primitive" => Kind::Primitive,
            "group" => Kind::Group,
            "clone" | "master" => Kind::Clone,
            "bundle" => Kind::Bundle,
            _ => return None,
        };
        let template = element.attr("template").and_then(|id| ids.named("template", id));
        Some(Resource { element, kind, template })
    }

    /// Its id.
    pub fn id(&self) -> &'a str {
        self.element.id().unwrap_or("")
    }

    /// The resources in it.
    pub fn children(&self, ids: &Ids<'a>) -> Vec<Resource<'a>> {
        self.element.children().filter_map(|child| Resource::of(child, ids)).collect()
    }

    /// An attribute of the primitive or of its template: class, provider, type.
    pub fn attr(&self, name: &str) -> Option<&'a str> {
        let own = self.element.attr(name);
        own.or_else(|| self.template.and_then(|template| template.attr(name)))
    }

    /// The agent as it is commonly written: `ocf:heartbeat:IPaddr2`.
    pub fn agent(&self) -> Option<String> {
        let class = self.attr("class")?;
        let kind = self.attr("type")?;
        Some(match self.attr("provider") {
            Some(provider) => format!("{class}:{provider}:{kind}"),
            None => format!("{class}:{kind}"),
        })
    }

    /// The attribute sets of a kind: its own, then its template's. A template's sets have a word on a
    /// name only where the primitive's own have none, so they are to be added in this order.
    pub fn sets(&self, kind: &'a str) -> Vec<Vec<Element<'a>>> {
        let of = |element: Element<'a>| element.children_named(kind).collect::<Vec<_>>();
        let mut all = vec![of(self.element)];
        all.extend(self.template.map(of));
        all
    }

    /// The operations: its own, and those of its template that are not among them (by name and
    /// interval).
    pub fn operations(&self) -> Vec<Element<'a>> {
        let of = |element: Element<'a>| -> Vec<Element<'a>> {
            let lists = element.children_named("operations");
            lists.flat_map(|list| list.children_named("op")).collect()
        };
        let mut own = of(self.element);
        let same = |a: Element<'a>, b: Element<'a>| {
            let interval = |op: Element<'a>| {
                op.attr("interval").and_then(crate::values::duration_ms).unwrap_or(0)
            };
            a.attr("name") == b.attr("name") && interval(a) == interval(b)
        };
        for op in self.template.map(of).unwrap_or_default() {
            if !own.iter().any(|known| same(*known, op)) {
                own.push(op);
            }
        }
        own
    }

    /// Whether a clone is promotable: a meta-attribute, or the older element `master`.
    pub fn is_promotable(&self) -> bool {
        let meta = self.element.children_named("meta_attributes");
        let mut pairs = meta.flat_map(|set| set.children_named("nvpair"));
        self.element.name() == "master"
            || pairs.any(|pair| {
                pair.attr("name") == Some("promotable")
                    && pair.attr("value").and_then(crate::values::boolean) == Some(true)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_primitive_takes_from_its_template_what_it_does_not_say_itself() {
        let doc = Document::parse(
            "<cib><configuration><resources>
<template id='t' class='ocf' provider='heartbeat' type='IPaddr2'>
<meta_attributes id='tm'/><operations><op id='t1' name='monitor' interval='10s'/>
<op id='t2' name='start' interval='0'/></operations></template>
<clone id='c'><meta_attributes id='cm'><nvpair id='p' name='promotable' value='1'/></meta_attributes>
<primitive id='a' template='t'><operations><op id='a1' name='monitor' interval='10000ms'/>
</operations></primitive></clone></resources></configuration></cib>",
        )
        .unwrap();
        let ids = Ids::of(&doc);
        let all = resources(&doc, &ids);
        assert_eq!(all.len(), 1);
        assert!(all[0].is_promotable() && all[0].kind == Kind::Clone);
        let primitive = all[0].children(&ids)[0];
        assert_eq!(primitive.agent().as_deref(), Some("ocf:heartbeat:IPaddr2"));
        let operations: Vec<_> = primitive.operations().iter().filter_map(|op| op.id()).collect();
        assert_eq!(operations, ["a1", "t2"]);
        assert_eq!(primitive.sets("meta_attributes")[1].len(), 1);
    }
}
