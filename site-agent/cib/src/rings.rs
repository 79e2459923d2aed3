//! Orderings that wait for each other in a ring: what they name can never be done together.
//!
//! Pacemaker takes such a configuration, and its transition ends when it comes to the ring; the scheduler here refuses
//! the plan then. So it is a warning, before anything is to be done. Every kind of ordering but `Serialize` counts:
//! an optional one is heeded when both are to be done. What a group, clone or bundle does begins before what is in it, and
//! ends after it; a symmetrical ordering goes backwards for what undoes it.

use std::collections::HashMap;

use petgraph::algo::kosaraju_scc;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::EdgeRef as _;

use crate::ids::Ids;
use crate::schema::{Problem, Severity};
use crate::values;
use crate::views::constraints::{Constraint, Pair, Says, Set, constraints, tagged};
use crate::views::resources::{Kind, Resource, resources};
use crate::words;
use crate::xml::{Document, Element};

/// Names that a warning holds at most.
const NAMES: usize = 8;

/// All rings, each told at its first ordering.
pub fn check<'a>(doc: &'a Document, ids: &Ids<'a>) -> Vec<Problem> {
    let mut waits = Waits::default();
    for resource in resources(doc, ids) {
        waits.nest(&resource, ids);
    }
    let all = constraints(doc, ids);
    for (at, constraint) in all.iter().enumerate() {
        waits.follow(at, constraint, ids);
    }
    let rings = waits.rings();
    rings
        .into_iter()
        .map(|ring| problem(&ring.iter().map(|at| all[*at].element).collect::<Vec<_>>()))
        .collect()
}

fn problem(ring: &[Element<'_>]) -> Problem {
    let named: Vec<String> = ring
        .iter()
        .skip(1)
        .take(NAMES)
        .map(|order| format!("{} (line {})", words::name_of(*order), order.line()))
        .collect();
    let more = if ring.len() > NAMES + 1 { ", …" } else { "" };
    let what = if named.is_empty() {
        "what it orders waits for itself".to_owned()
    } else {
        format!("with {}{more} it makes a ring: what they order waits for itself", named.join(", "))
    };
    let problem =
        Problem::new(ring[0], what, "take one ordering of the ring out, or turn it round");
    Problem { severity: Severity::Warning, ..problem }
}

/// Whether something begins or has been done.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Side {
    Begins,
    Done,
}

/// What is done to a resource.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Action {
    Start,
    Stop,
    Promote,
    Demote,
}

impl Action {
    const ALL: [Self; 4] = [Self::Start, Self::Stop, Self::Promote, Self::Demote];

    fn named(word: Option<&str>) -> Option<Self> {
        Some(match word {
            None | Some("start") => Self::Start,
            Some("stop") => Self::Stop,
            Some("promote") => Self::Promote,
            Some("demote") => Self::Demote,
            Some(_) => return None,
        })
    }

    fn inverse(self) -> Self {
        match self {
            Self::Start => Self::Stop,
            Self::Stop => Self::Start,
            Self::Promote => Self::Demote,
            Self::Demote => Self::Promote,
        }
    }

    /// Whether members of a group come to it from the first to the last.
    fn up(self) -> bool {
        matches!(self, Self::Start | Self::Promote)
    }
}

type Step<'a> = (&'a str, Action, Side);

/// What waits for what; an edge that an ordering asks for has its place among the constraints.
#[derive(Default)]
struct Waits<'a> {
    graph: DiGraph<(), Option<usize>>,
    steps: HashMap<Step<'a>, NodeIndex>,
}

impl<'a> Waits<'a> {
    fn step(&mut self, step: Step<'a>) -> NodeIndex {
        let graph = &mut self.graph;
        *self.steps.entry(step).or_insert_with(|| graph.add_node(()))
    }

    fn edge(&mut self, first: Step<'a>, then: Step<'a>) {
        let (first, then) = (self.step(first), self.step(then));
        self.graph.add_edge(first, then, None);
    }

    /// A resource begins before it is done, and what is in it is done in between.
    fn nest(&mut self, resource: &Resource<'a>, ids: &Ids<'a>) {
        let id = resource.id();
        let mut inside = resource.children(ids);
        for child in &inside {
            self.nest(child, ids);
        }
        for action in Action::ALL {
            self.edge((id, action, Side::Begins), (id, action, Side::Done));
            for child in &inside {
                self.edge((id, action, Side::Begins), (child.id(), action, Side::Begins));
                self.edge((child.id(), action, Side::Done), (id, action, Side::Done));
            }
        }
        for (first, then) in [(Action::Start, Action::Promote), (Action::Demote, Action::Stop)] {
            self.edge((id, first, Side::Done), (id, then, Side::Begins));
        }
        if resource.kind != Kind::Group || !is_ordered(resource) {
            return;
        }
        for down in [false, true] {
            for pair in inside.windows(2) {
                for action in Action::ALL.into_iter().filter(|action| action.up() != down) {
                    let (first, then) = (pair[0].id(), pair[1].id());
                    self.edge((first, action, Side::Done), (then, action, Side::Begins));
                }
            }
            inside.reverse();
        }
    }

    fn follow(&mut self, at: usize, constraint: &Constraint<'a>, ids: &Ids<'a>) {
        let Says::Order { of, kind } = &constraint.says else { return };
        if *kind == Some("Serialize") {
            return;
        }
        let symmetrical = constraint.element.attr("symmetrical").and_then(values::boolean);
        let both = symmetrical.unwrap_or(true);
        match of {
            Pair::Two(first, then) => {
                let Some(does) = Action::named(first.role) else { return };
                let Some(next) = then.role.map_or(Some(does), |word| Action::named(Some(word)))
                else {
                    return;
                };
                self.order(at, both, (&expand(first.id, ids), does), (&expand(then.id, ids), next));
            }
            Pair::Sets(sets) => self.follow_sets(at, both, sets, ids),
        }
    }

    fn follow_sets(&mut self, at: usize, both: bool, sets: &[Set<'a>], ids: &Ids<'a>) {
        let mut before: Option<(Vec<&'a str>, Action)> = None;
        for set in sets {
            let Some(action) = Action::named(set.element.attr("action")) else { return };
            let flag = |name: &str| set.element.attr(name).and_then(values::boolean);
            let members: Vec<&'a str> =
                set.members.iter().flat_map(|member| expand(member, ids)).collect();
            if flag("sequential").unwrap_or(true) {
                for pair in members.windows(2) {
                    self.order(at, both, (&pair[..1], action), (&pair[1..], action));
                }
            }
            if let Some((firsts, first)) = before {
                self.order(at, both, (&firsts, first), (&members, action));
            }
            // Where one of several is enough, nobody waits for a certain one.
            let all = flag("require-all").unwrap_or(true);
            before = all.then_some((members, action));
        }
    }

    fn order(
        &mut self,
        at: usize,
        both: bool,
        (firsts, does): (&[&'a str], Action),
        (thens, next): (&[&'a str], Action),
    ) {
        self.gate(at, (firsts, does), (thens, next));
        if both {
            self.gate(at, (thens, next.inverse()), (firsts, does.inverse()));
        }
    }

    /// All of the ones before any of the others: by a step between, for sets may be long.
    fn gate(
        &mut self,
        at: usize,
        (firsts, does): (&[&'a str], Action),
        (thens, next): (&[&'a str], Action),
    ) {
        let gate = self.graph.add_node(());
        for first in firsts {
            let first = self.step((first, does, Side::Done));
            self.graph.add_edge(first, gate, Some(at));
        }
        for then in thens {
            let then = self.step((then, next, Side::Begins));
            self.graph.add_edge(gate, then, Some(at));
        }
    }

    /// The constraints of each ring, each constraint once, and each set of constraints once: a ring of starts is one of
    /// stops as well.
    fn rings(&self) -> Vec<Vec<usize>> {
        let mut part = vec![0; self.graph.node_count()];
        let parts = kosaraju_scc(&self.graph);
        for (number, nodes) in parts.iter().enumerate() {
            for node in nodes {
                part[node.index()] = number;
            }
        }
        let mut rings = vec![Vec::new(); parts.len()];
        for edge in self.graph.edge_references() {
            let (first, then) = (part[edge.source().index()], part[edge.target().index()]);
            if let Some(at) = edge.weight()
                && first == then
            {
                rings[first].push(*at);
            }
        }
        for ring in &mut rings {
            ring.sort_unstable();
            ring.dedup();
        }
        rings.retain(|ring| !ring.is_empty());
        rings.sort();
        rings.dedup();
        rings
    }
}

fn is_ordered(group: &Resource<'_>) -> bool {
    let sets = group.element.children_named("meta_attributes");
    let mut pairs = sets.flat_map(|set| set.children_named("nvpair").collect::<Vec<_>>());
    let word = pairs.find(|pair| pair.attr("name") == Some("ordered"));
    word.and_then(|pair| pair.attr("value")).and_then(values::boolean).unwrap_or(true)
}

/// The resources that a name in a constraint stands for.
fn expand<'a>(id: &'a str, ids: &Ids<'a>) -> Vec<&'a str> {
    tagged(id, ids).unwrap_or_else(|| vec![id])
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESOURCES: &str = "<resources><primitive id='a'/><primitive id='b'/><primitive id='c'/>
        <group id='g'><primitive id='m'/><primitive id='n'/></group>
        <clone id='k'><group id='h'><primitive id='p'/></group></clone></resources>
        <tags><tag id='t'><obj_ref id='a'/><obj_ref id='b'/></tag></tags>";

    fn rings(orders: &str) -> Vec<String> {
        let text = format!(
            "<cib><configuration>{RESOURCES}<constraints>{orders}</constraints></configuration></cib>"
        );
        let doc = Document::parse(text).unwrap();
        check(&doc, &Ids::of(&doc)).iter().map(ToString::to_string).collect()
    }

    fn order(id: &str, first: &str, then: &str, more: &str) -> String {
        format!("\n<rsc_order id='{id}' first='{first}' then='{then}' {more}/>")
    }

    #[test]
    fn what_comes_to_an_end_is_no_ring() {
        let fine = [
            order("1", "a", "b", "") + &order("2", "b", "c", "") + &order("3", "a", "c", ""),
            order("1", "m", "a", "") + &order("2", "a", "n", ""),
            order("1", "g", "a", "") + &order("2", "a", "k", ""),
            order("1", "a", "b", "") + &order("2", "b", "a", "kind='Serialize'"),
            order("1", "a", "b", "symmetrical='false'")
                + &order(
                    "2",
                    "a",
                    "b",
                    "first-action='stop' then-action='stop' symmetrical='false'",
                ),
            order("1", "k", "a", "")
                + &order("2", "a", "k", "first-action='start' then-action='promote'"),
        ];
        for orders in fine {
            assert_eq!(rings(&orders), Vec::<String>::new(), "{orders}");
        }
    }

    #[test]
    fn a_ring_is_told_once_with_its_orderings_and_lines() {
        let stops = "first-action='stop' then-action='stop'";
        let wrong = [
            (order("1", "a", "b", "") + &order("2", "b", "a", "kind='Optional'"), 2),
            (order("1", "a", "b", "") + &order("2", "b", "c", "") + &order("3", "c", "a", ""), 3),
            (order("1", "g", "a", "") + &order("2", "a", "n", ""), 2),
            (order("1", "n", "a", "") + &order("2", "a", "m", ""), 2),
            (order("1", "p", "a", "") + &order("2", "a", "k", ""), 2),
            (order("1", "n", "m", ""), 1),
            (order("1", "a", "b", "") + &order("2", "a", "b", stops), 2),
            (order("1", "t", "c", "") + &order("2", "c", "b", ""), 2),
            (
                "\n<rsc_order id='1'><resource_set id='s'><resource_ref id='a'/><resource_ref id='b'/>\
                 </resource_set></rsc_order>"
                    .to_owned()
                    + &order("2", "b", "a", ""),
                2,
            ),
        ];
        for (orders, count) in wrong {
            let found = rings(&orders);
            assert_eq!(found.len(), 1, "{orders}: {found:?}");
            assert!(found[0].contains("warning: <rsc_order id=\"1\">"), "{found:?}");
            assert_eq!(found[0].matches("line ").count(), count, "{orders}: {found:?}");
        }
    }

    #[test]
    fn one_of_several_that_is_enough_makes_nobody_wait() {
        let set = "\n<rsc_order id='1'><resource_set id='s' sequential='false' require-all='false'>\
            <resource_ref id='a'/><resource_ref id='b'/></resource_set>\
            <resource_set id='u'><resource_ref id='c'/></resource_set></rsc_order>";
        assert_eq!(rings(&(set.to_owned() + &order("2", "c", "a", ""))), Vec::<String>::new());
    }
}
