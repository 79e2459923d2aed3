//! Whether what a configuration refers to is there, and is what may stand there.
//!
//! Pacemaker is silent about much of this: a constraint on a resource that does not exist is left
//! out, and a location on a misspelt node waits for a node that never comes. Here each is told with
//! its line and the nearest name. What may well be meant, because nodes come and go (a location that
//! names a node which is not listed), is a warning; the rest are errors.

use crate::ids::Ids;
use crate::schema::{Problem, Severity};
use crate::words;
use crate::xml::{Document, Element};
use std::collections::BTreeMap;

/// What a reference may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    /// A resource, a template that resources are made of, or a tag.
    Resource,
    Template,
    Role,
    /// Any element with an id.
    Anything,
    /// A node by name.
    Node,
}

/// Which attributes of which elements refer to what.
const REFERENCES: &[(&str, &str, Target)] = &[
    ("rsc_location", "rsc", Target::Resource),
    ("rsc_location", "node", Target::Node),
    ("rsc_colocation", "rsc", Target::Resource),
    ("rsc_colocation", "with-rsc", Target::Resource),
    ("rsc_order", "first", Target::Resource),
    ("rsc_order", "then", Target::Resource),
    ("rsc_ticket", "rsc", Target::Resource),
    ("resource_ref", "id", Target::Resource),
    ("primitive", "template", Target::Template),
    ("fencing-level", "target", Target::Node),
    ("role", "id", Target::Role),
    ("acl_permission", "reference", Target::Anything),
    ("obj_ref", "id", Target::Anything),
];

const RESOURCES: &[&str] = &["primitive", "group", "clone", "master", "bundle", "template", "tag"];

impl Target {
    fn takes(self, element: Element<'_>) -> bool {
        match self {
            Target::Resource => RESOURCES.contains(&element.name()),
            Target::Template => element.name() == "template",
            Target::Role => element.name() == "acl_role",
            Target::Anything | Target::Node => true,
        }
    }

    fn noun(self) -> &'static str {
        match self {
            Target::Resource => "resource, template or tag",
            Target::Template => "template",
            Target::Role => "acl_role",
            Target::Anything => "element",
            Target::Node => "node",
        }
    }
}

/// All references of a document that name nothing or the wrong thing, in the order of the text.
pub fn check(doc: &Document, ids: &Ids<'_>) -> Vec<Problem> {
    let Some(configuration) = doc.root().child("configuration") else {
        return Vec::new();
    };
    let mut check = Check { ids, nodes: node_names(configuration), problems: Vec::new() };
    for element in configuration.descendants() {
        for (name, attribute, target) in REFERENCES {
            if element.name() == *name
                && let Some(value) = element.attr(attribute)
            {
                check.reference(element, attribute, value, *target);
            }
        }
        if let Some(value) = element.attr("id-ref") {
            check.id_ref(element, value);
        }
        match element.name() {
            "fencing-level" => check.devices(element),
            "rsc_ticket" if element.attr("ticket").is_some_and(|name| name.trim().is_empty()) => {
                check.problem(element, "its ticket has no name".to_owned(), "name it".to_owned());
            }
            "nodes" => check.twins(element),
            _ => {}
        }
    }
    check.problems
}

/// The names that nodes have or may have: listed ones, remote ones, and those in containers.
fn node_names(configuration: Element<'_>) -> Vec<String> {
    let mut names = Vec::new();
    for element in configuration.descendants() {
        match element.name() {
            "node" => names.extend(element.attr("uname").map(str::to_owned)),
            "primitive" if element.attr("type") == Some("remote") => {
                names.extend(element.id().map(str::to_owned));
            }
            "nvpair" if element.attr("name") == Some("remote-node") => {
                names.extend(element.attr("value").map(str::to_owned));
            }
            "docker" | "podman" | "rkt" => {
                let bundle = element.parent().and_then(Element::id).unwrap_or("");
                // As many as a bundle can have is not known here; more than these is no name.
                let most = replicas(element);
                names.extend((0..most).map(|number| format!("{bundle}-{number}")));
            }
            _ => {}
        }
    }
    names
}

fn replicas(container: Element<'_>) -> u32 {
    const MOST: u32 = 1000;
    let number = |name: &str| container.attr(name).and_then(|text| text.trim().parse::<u32>().ok());
    let default = number("promoted-max").or_else(|| number("masters")).filter(|n| *n > 0);
    number("replicas").or(default).unwrap_or(1).min(MOST)
}

struct Check<'i, 'a> {
    ids: &'i Ids<'a>,
    nodes: Vec<String>,
    problems: Vec<Problem>,
}

impl<'a> Check<'_, 'a> {
    fn problem(&mut self, element: Element<'_>, what: String, allowed: String) {
        self.problems.push(Problem::new(element, what, allowed));
    }

    fn reference(&mut self, element: Element<'_>, attribute: &str, value: &str, target: Target) {
        if target == Target::Node {
            // Names of nodes are compared without regard to case, as Pacemaker does.
            if !self.nodes.iter().any(|node| node.eq_ignore_ascii_case(value)) {
                let what = format!("{attribute}={value:?} names no node that is known");
                let near = words::nearest(value, self.nodes.iter().map(String::as_str));
                let allowed = near.map_or_else(
                    || "a node of this name may still come".to_owned(),
                    |near| format!("did you mean {near}?"),
                );
                let problem = Problem::new(element, what, allowed);
                self.problems.push(Problem { severity: Severity::Warning, ..problem });
            }
            return;
        }
        let named = self.ids.all(value);
        // An element that refers by its id attribute has that id itself.
        let fits =
            named.iter().any(|found| *found != element && !refers(*found) && target.takes(*found));
        if fits {
            return;
        }
        let other = named.iter().find(|found| **found != element && !refers(**found));
        let what = match other {
            Some(other) => format!(
                "{attribute}={value:?} names {} on line {}, which is no {}",
                words::name_of(*other),
                other.line(),
                target.noun()
            ),
            None => format!("{attribute}={value:?} names no {}", target.noun()),
        };
        let allowed = self.near(value, target);
        self.problem(element, what, allowed);
    }

    fn near(&self, value: &str, target: Target) -> String {
        let known = self.ids.iter().filter(|(_, found)| {
            found.iter().any(|element| !refers(*element) && target.takes(*element))
        });
        words::nearest(value, known.map(|(id, _)| id)).map_or_else(
            || format!("there is no {} of that id", target.noun()),
            |near| format!("did you mean {near}?"),
        )
    }

    /// An `id-ref` needs an element of the same name, and may not lead back to itself.
    fn id_ref(&mut self, element: Element<'_>, value: &str) {
        if self.ids.named(element.name(), value).is_none() {
            let what = format!("id-ref={value:?} names no <{}>", element.name());
            let same = self
                .ids
                .iter()
                .filter(|(_, found)| found.iter().any(|other| other.name() == element.name()));
            let allowed = words::nearest(value, same.map(|(id, _)| id)).map_or_else(
                || format!("give the id of another <{}>", element.name()),
                |near| format!("did you mean {near}?"),
            );
            return self.problem(element, what, allowed);
        }
        let circular = {
            let mut at = value;
            let mut hops = 0;
            loop {
                match self.ids.named(element.name(), at).and_then(|found| found.attr("id-ref")) {
                    Some(next) if hops < 16 => {
                        at = next;
                        hops += 1;
                    }
                    Some(_) => break true,
                    None => break false,
                }
            }
        };
        if circular {
            let what = format!("id-ref={value:?} leads back to itself");
            self.problem(element, what, "refer to an element that has the content".to_owned());
        }
    }

    /// The devices of a level are primitives of class stonith.
    fn devices(&mut self, level: Element<'_>) {
        for device in level.attr("devices").unwrap_or("").split(',').filter(|name| !name.is_empty())
        {
            let fences = |found: &Element<'a>| {
                found.name() == "primitive" && class_of(*found, self.ids) == Some("stonith")
            };
            if self.ids.all(device).iter().any(fences) {
                continue;
            }
            let what = match self.ids.named("primitive", device) {
                Some(_) => format!("devices: {device:?} is no fencing device (class stonith)"),
                None => format!("devices: {device:?} names no primitive"),
            };
            let known = self.ids.iter().filter(|(_, found)| found.iter().any(fences));
            let allowed = words::nearest(device, known.map(|(id, _)| id)).map_or_else(
                || "a level takes primitives of class stonith".to_owned(),
                |near| format!("did you mean {near}?"),
            );
            self.problem(level, what, allowed);
        }
    }

    /// No two nodes have one id or one name.
    fn twins(&mut self, nodes: Element<'_>) {
        for attribute in ["id", "uname"] {
            let mut seen = BTreeMap::new();
            for node in nodes.children_named("node") {
                let Some(value) = node.attr(attribute) else {
                    continue;
                };
                if let Some(first) = seen.insert(value.to_ascii_lowercase(), node.line()) {
                    let what =
                        format!("{attribute}={value:?} is also that of the node on line {first}");
                    self.problem(node, what, "each node has its own".to_owned());
                }
            }
        }
    }
}

/// Whether an element's attribute `id` refers to another element.
fn refers(element: Element<'_>) -> bool {
    matches!(element.name(), "resource_ref" | "obj_ref" | "role")
}

/// The class of a primitive, from its template if it has one.
fn class_of<'a>(primitive: Element<'a>, ids: &Ids<'a>) -> Option<&'a str> {
    let template = primitive.attr("template").and_then(|id| ids.named("template", id));
    template.unwrap_or(primitive).attr("class")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(resources: &str, rest: &str) -> Vec<String> {
        let text = format!(
            "<cib><configuration>
<nodes><node id='1' uname='alpha'/><node id='2' uname='Beta'/></nodes>
<resources>{resources}</resources>
{rest}
</configuration></cib>"
        );
        let doc = Document::parse(text).unwrap();
        check(&doc, &Ids::of(&doc)).iter().map(ToString::to_string).collect()
    }

    const WEB: &str = "<primitive id='web' class='lsb' type='x'/>";

    #[test]
    fn what_is_there_is_no_problem() {
        let found = problems(
            &format!(
                "{WEB}<primitive id='f' class='stonith' type='x'/>
<template id='t' class='stonith' type='y'/><primitive id='g' template='t'/>
<bundle id='box'><docker image='i' replicas='2'/></bundle>"
            ),
            "<constraints><rsc_location id='l' rsc='web' node='beta'/>
<rsc_location id='m' rsc='tag' node='box-1'/>
<rsc_order id='o'><resource_set id='s'><resource_ref id='web'/></resource_set>
<resource_set id-ref='s'/></rsc_order></constraints>
<fencing-topology><fencing-level id='v' target='alpha' devices='f,g'/></fencing-topology>
<tags><tag id='tag'><obj_ref id='web'/></tag></tags>",
        );
        assert_eq!(found, Vec::<String>::new());
    }

    #[test]
    fn what_is_not_there_is_told_with_the_nearest_name() {
        let cases = [
            (
                "<rsc_location id='l' rsc='wed' node='alpha'/>",
                "names no resource, template or tag (did you mean web?)",
            ),
            (
                "<rsc_location id='l' rsc='web' node='alfa'/>",
                "names no node that is known (did you mean alpha?)",
            ),
            ("<rsc_location id='l' rsc='l' node='alpha'/>", "names no resource"),
            (
                "<rsc_order id='o' first='web' then='p'/><nvpair id='p'/>",
                "then=\"p\" names <nvpair id=\"p\"> on line 4, which is no resource",
            ),
            ("<rsc_ticket id='t' rsc='web' ticket=' '/>", "has no name"),
            ("<resource_set id-ref='s'/>", "id-ref=\"s\" names no <resource_set>"),
            ("<rule id='a' id-ref='b'/><rule id='b' id-ref='a'/>", "leads back to itself"),
            ("<obj_ref id='web2'/>", "names no element (did you mean web?)"),
            ("<fencing-level id='v' target='alpha' devices='web'/>", "is no fencing device"),
            ("<fencing-level id='v' target='alpha' devices='x'/>", "names no primitive"),
            ("<acl_target id='a'><role id='r'/></acl_target>", "names no acl_role"),
            (
                "<nodes><node id='1' uname='x'/><node id='1' uname='y'/></nodes>",
                "is also that of the node on line 4",
            ),
        ];
        for (rest, want) in cases {
            let found = problems(WEB, rest);
            assert!(found.iter().any(|problem| problem.contains(want)), "{rest}: {found:?}");
            assert!(found.iter().all(|problem| problem.contains("line 4: ")), "{found:?}");
        }
    }
}
