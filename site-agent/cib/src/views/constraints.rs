//! Constraints and tags: what each says, and of which resources.

use crate::ids::Ids;
use crate::xml::{Document, Element};

/// One constraint.
#[derive(Clone, Debug)]
pub struct Constraint<'a> {
    /// Its element.
    pub element: Element<'a>,
    /// What it says.
    pub says: Says<'a>,
}

/// What a constraint says.
#[derive(Clone, Debug)]
pub enum Says<'a> {
    /// Where resources may run.
    Location {
        /// Which ones: by id, by pattern or in sets.
        of: Subject<'a>,
        /// The node, unless rules choose.
        node: Option<&'a str>,
        /// The score for the node.
        score: Option<&'a str>,
        /// The rules.
        rules: Vec<Element<'a>>,
    },
    /// Where resources run together.
    Colocation {
        /// Who depends, and with whom.
        of: Pair<'a>,
        /// How strongly.
        score: Option<&'a str>,
    },
    /// In which order.
    Order {
        /// Who is first, and who then.
        of: Pair<'a>,
        /// Mandatory, Optional or Serialize.
        kind: Option<&'a str>,
    },
    /// What a ticket is needed for.
    Ticket {
        /// Which ones.
        of: Subject<'a>,
        /// The ticket.
        ticket: &'a str,
        /// What happens without it.
        loss_policy: Option<&'a str>,
    },
}

/// What a constraint is about.
#[derive(Clone, Debug)]
pub enum Subject<'a> {
    /// A resource, template or tag, in a role.
    One(Role<'a>),
    /// All whose id matches.
    Pattern(&'a str),
    /// Sets.
    Sets(Vec<Set<'a>>),
}

/// Two resources, or sets of them.
#[derive(Clone, Debug)]
pub enum Pair<'a> {
    /// For an order, first and then; for a colocation, the one that depends and the one it is with.
    Two(Role<'a>, Role<'a>),
    /// Sets.
    Sets(Vec<Set<'a>>),
}

/// A resource with the role or action that is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Role<'a> {
    /// The resource's id.
    pub id: &'a str,
    /// Its role, or what is done with it.
    pub role: Option<&'a str>,
}

/// A set of resources, its reference resolved.
#[derive(Clone, Debug)]
pub struct Set<'a> {
    /// Its element.
    pub element: Element<'a>,
    /// Its resources.
    pub members: Vec<&'a str>,
}

/// All constraints in the order of the text; what is not well formed is left out.
pub fn constraints<'a>(doc: &'a Document, ids: &Ids<'a>) -> Vec<Constraint<'a>> {
    let section = doc.root().child("configuration").and_then(|part| part.child("constraints"));
    let children = section.into_iter().flat_map(Element::children);
    children
        .filter_map(|element| says(element, ids).map(|says| Constraint { element, says }))
        .collect()
}

fn says<'a>(element: Element<'a>, ids: &Ids<'a>) -> Option<Says<'a>> {
    Some(match element.name() {
        "rsc_location" => Says::Location {
            of: subject(element, "role", ids)?,
            node: element.attr("node"),
            score: element.attr("score"),
            rules: element.children_named("rule").collect(),
        },
        "rsc_colocation" => Says::Colocation {
            of: pair(element, ("rsc", "rsc-role"), ("with-rsc", "with-rsc-role"), ids)?,
            score: element.attr("score"),
        },
        "rsc_order" => Says::Order {
            of: pair(element, ("first", "first-action"), ("then", "then-action"), ids)?,
            kind: element.attr("kind"),
        },
        "rsc_ticket" => Says::Ticket {
            of: subject(element, "rsc-role", ids)?,
            ticket: element.attr("ticket")?,
            loss_policy: element.attr("loss-policy"),
        },
        _ => return None,
    })
}

fn subject<'a>(element: Element<'a>, role: &str, ids: &Ids<'a>) -> Option<Subject<'a>> {
    if let Some(id) = element.attr("rsc") {
        return Some(Subject::One(Role { id, role: element.attr(role) }));
    }
    if let Some(pattern) = element.attr("rsc-pattern") {
        return Some(Subject::Pattern(pattern));
    }
    sets(element, ids).map(Subject::Sets)
}

fn pair<'a>(
    element: Element<'a>,
    one: (&str, &str),
    other: (&str, &str),
    ids: &Ids<'a>,
) -> Option<Pair<'a>> {
    let role =
        |(id, role): (&str, &str)| element.attr(id).map(|id| Role { id, role: element.attr(role) });
    match (role(one), role(other)) {
        (Some(one), Some(other)) => Some(Pair::Two(one, other)),
        _ => sets(element, ids).map(Pair::Sets),
    }
}

fn sets<'a>(element: Element<'a>, ids: &Ids<'a>) -> Option<Vec<Set<'a>>> {
    let sets: Vec<Set<'a>> = element
        .children_named("resource_set")
        .filter_map(|set| ids.resolve(set))
        .map(|element| {
            let members = element.children_named("resource_ref").filter_map(Element::id).collect();
            Set { element, members }
        })
        .collect();
    (!sets.is_empty()).then_some(sets)
}

/// What a tag stands for; nothing if there is no such tag.
pub fn tagged<'a>(tag: &str, ids: &Ids<'a>) -> Option<Vec<&'a str>> {
    let tag = ids.named("tag", tag)?;
    Some(tag.children_named("obj_ref").filter_map(Element::id).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constraints_say_what_they_are_about() {
        let doc = Document::parse(
            "<cib><configuration><constraints>
<rsc_location id='l' rsc-pattern='a.*' node='n' score='5'/>
<rsc_colocation id='c' rsc='a' with-rsc='b' with-rsc-role='Promoted' score='INFINITY'/>
<rsc_order id='o'><resource_set id='s'><resource_ref id='a'/><resource_ref id='b'/></resource_set>
<resource_set id-ref='s'/></rsc_order>
<rsc_ticket id='t' rsc='a' ticket='T' loss-policy='fence'/>
<rsc_ticket id='u'/></constraints>
<tags><tag id='x'><obj_ref id='a'/></tag></tags></configuration></cib>",
        )
        .unwrap();
        let ids = Ids::of(&doc);
        let all = constraints(&doc, &ids);
        assert_eq!(all.len(), 4);
        let Says::Order { of: Pair::Sets(sets), .. } = &all[2].says else {
            panic!("{:?}", all[2]);
        };
        assert_eq!(sets[1].members, ["a", "b"]);
        let Says::Colocation { of: Pair::Two(one, with), .. } = &all[1].says else {
            panic!("{:?}", all[1]);
        };
        assert_eq!((one.id, with.id, with.role), ("a", "b", Some("Promoted")));
        assert_eq!(tagged("x", &ids), Some(vec!["a"]));
    }
}
