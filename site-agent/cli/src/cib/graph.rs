//! `tierce cib graph`: resources and constraints for Graphviz.
//!
//! Boxes are primitives, frames are what holds them. An arrow is an order ("first, then"), a dotted
//! one an optional order; a dashed line is a colocation, red if they must not run together; tickets
//! are diamonds, and nodes that locations name are ellipses.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::json;
use tierce_cib::ids::Ids;
use tierce_cib::views::constraints::{Pair, Role, Says, Set, Subject, constraints, tagged};
use tierce_cib::views::resources::{Kind, Resource, resources};
use tierce_cib::xml::Document;

use super::Source;
use crate::Ctx;
use crate::codes::Exit;
use crate::failure::Failure;

pub(super) fn run(ctx: &Ctx, source: &Source) -> Result<Exit, Failure> {
    let (doc, _) = source.load()?;
    let dot = dot(&doc);
    if ctx.out.is_json() {
        ctx.out.json(&json!({ "dot": dot }))?;
    } else {
        ctx.out.text(&dot)?;
    }
    Ok(Exit::Ok)
}

/// The graph in Graphviz's language.
fn dot(doc: &Document) -> String {
    let ids = Ids::of(doc);
    let mut graph = Graph { ids: &ids, out: String::new(), said: BTreeSet::new() };
    graph.line("digraph cib {");
    graph.line("  compound=true; rankdir=LR; node [shape=box];");
    for resource in resources(doc, &ids) {
        graph.resource(&resource, 1);
    }
    for constraint in constraints(doc, &ids) {
        let id = constraint.element.id().unwrap_or("");
        graph.constraint(id, &constraint.says);
    }
    graph.line("}");
    graph.out
}

struct Graph<'g, 'a> {
    ids: &'g Ids<'a>,
    out: String,
    /// Nodes and tickets that were drawn.
    said: BTreeSet<String>,
}

/// A text between quotes, as Graphviz reads it.
fn quoted(text: &str) -> String {
    format!("\"{}\"", escaped(text))
}

fn escaped(text: &str) -> String {
    crate::words::plain(text).replace('\\', "\\\\").replace('"', "\\\"")
}

impl<'a> Graph<'_, 'a> {
    fn line(&mut self, line: &str) {
        // Writing to a String can not fail.
        let _ = writeln!(self.out, "{line}");
    }

    fn resource(&mut self, resource: &Resource<'a>, depth: usize) {
        let indent = "  ".repeat(depth);
        let id = resource.id();
        if resource.kind == Kind::Primitive {
            let agent = resource.agent().unwrap_or_default();
            let label = format!("\"{}\\n{}\"", escaped(id), escaped(&agent));
            return self.line(&format!("{indent}{} [label={label}];", quoted(id)));
        }
        let frame = quoted(&format!("cluster_{id}"));
        self.line(&format!("{indent}subgraph {frame} {{ label={};", quoted(id)));
        let children = resource.children(self.ids);
        if children.is_empty() {
            self.line(&format!("{indent}  {} [label={}];", quoted(id), quoted("(empty)")));
        }
        for child in &children {
            self.resource(child, depth + 1);
        }
        self.line(&format!("{indent}}}"));
    }

    /// The boxes that stand for a resource, template or tag: its primitives.
    fn boxes(&self, id: &'a str) -> Vec<&'a str> {
        if let Some(members) = tagged(id, self.ids) {
            return members;
        }
        let element = self.ids.all(id).iter().find_map(|e| Resource::of(*e, self.ids));
        let Some(resource) = element else {
            return vec![id];
        };
        let mut found = Vec::new();
        let mut stack = vec![resource];
        while let Some(resource) = stack.pop() {
            let children = resource.children(self.ids);
            if children.is_empty() {
                found.push(resource.id());
            }
            stack.extend(children.into_iter().rev());
        }
        found
    }

    fn edge(&mut self, from: &str, to: &str, style: &str) {
        self.line(&format!("  {} -> {} [{style}];", quoted(from), quoted(to)));
    }

    fn constraint(&mut self, id: &str, says: &Says<'a>) {
        let label = format!("label={}", quoted(id));
        match says {
            Says::Order { of, kind } => {
                let dotted = if *kind == Some("Optional") { " style=dotted" } else { "" };
                self.pairs(of, &format!("{label}{dotted}"), true);
            }
            Says::Colocation { of, score } => {
                let apart = score.is_some_and(|score| score.starts_with('-'));
                let colour = if apart { " color=red" } else { "" };
                self.pairs(of, &format!("{label} style=dashed dir=none{colour}"), false);
            }
            Says::Location { of, node: Some(node), score, .. } => {
                let place = format!("node {node}");
                if self.said.insert(place.clone()) {
                    let (place, node) = (quoted(&place), quoted(node));
                    self.line(&format!("  {place} [shape=ellipse label={node}];"));
                }
                let score = quoted(score.unwrap_or(""));
                self.subject(of, &place, &format!("label={score} color=gray constraint=false"));
            }
            Says::Location { .. } => {}
            Says::Ticket { of, ticket, .. } => {
                let place = format!("ticket {ticket}");
                if self.said.insert(place.clone()) {
                    let (place, ticket) = (quoted(&place), quoted(ticket));
                    self.line(&format!("  {place} [shape=diamond label={ticket}];"));
                }
                self.subject(of, &place, &format!("{label} style=bold dir=back"));
            }
        }
    }

    fn subject(&mut self, of: &Subject<'a>, place: &str, style: &str) {
        let members: Vec<&'a str> = match of {
            Subject::One(Role { id, .. }) => self.boxes(id),
            Subject::Pattern(_) => Vec::new(),
            Subject::Sets(sets) => {
                sets.iter().flat_map(|set| &set.members).flat_map(|id| self.boxes(id)).collect()
            }
        };
        for member in members {
            self.edge(member, place, style);
        }
    }

    fn pairs(&mut self, of: &Pair<'a>, style: &str, ordered: bool) {
        match of {
            Pair::Two(one, other) => self.ends(one.id, other.id, style),
            Pair::Sets(sets) => self.sets(sets, style, ordered),
        }
    }

    /// One edge for two resources, however many primitives they have: from the last to the first.
    fn ends(&mut self, one: &'a str, other: &'a str, style: &str) {
        let (from, to) = (self.boxes(one), self.boxes(other));
        if let (Some(from), Some(to)) = (from.last(), to.first()) {
            self.edge(from, to, style);
        }
    }

    /// In a sequential set each follows the one before; from set to set all lead to all.
    fn sets(&mut self, sets: &[Set<'a>], style: &str, ordered: bool) {
        let mut before: Vec<&'a str> = Vec::new();
        for set in sets {
            let sequential = set.element.attr("sequential") != Some("false");
            if sequential {
                for pair in set.members.windows(2) {
                    self.ends(pair[0], pair[1], style);
                }
            }
            let firsts = if sequential { set.members.get(..1) } else { set.members.get(..) };
            for from in before {
                for to in firsts.unwrap_or_default() {
                    self.ends(from, to, style);
                }
            }
            before = match set.members.last() {
                Some(last) if sequential && ordered => vec![*last],
                _ => set.members.clone(),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_boxes_in_frames_and_constraints_are_edges() {
        let doc = Document::parse(
            "<cib><configuration><resources>
<primitive id='ip' class='ocf' provider='heartbeat' type='IPaddr2'/>
<group id='web'><primitive id='fs' class='lsb' type='f'/><primitive id='www' class='lsb' type='w'/></group>
</resources><constraints>
<rsc_order id='o' first='ip' then='web'/>
<rsc_colocation id='c' rsc='web' with-rsc='ip' score='-INFINITY'/>
<rsc_ticket id='t' rsc='web' ticket='T'/>
<rsc_location id='l' rsc='ip' node='n&quot;1' score='5'/>
</constraints></configuration></cib>",
        )
        .expect("it is well formed");
        let dot = dot(&doc);
        for part in [
            "subgraph \"cluster_web\"",
            "\"ip\" [label=\"ip\\nocf:heartbeat:IPaddr2\"];",
            "\"ip\" -> \"fs\" [label=\"o\"];",
            "\"www\" -> \"ip\" [label=\"c\" style=dashed dir=none color=red];",
            "\"fs\" -> \"ticket T\"",
            "\"node n\\\"1\" [shape=ellipse label=\"n\\\"1\"];",
        ] {
            assert!(dot.contains(part), "{part}\n{dot}");
        }
        assert_eq!(dot.matches('{').count(), dot.matches('}').count());
    }
}
