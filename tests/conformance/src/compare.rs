//! Two plans for the same CIB: do the same things happen, in the same order, with the same result?
//!
//! What is compared is neutral to how a scheduler works inside: the *acts* (resource, fencing and
//! cluster actions with their nodes; numbers of anonymous instances left out), the *order* between
//! them (the transitive closure through pseudo actions), and the *final* status after all succeeded.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::{Context as _, Result};
use tierce_cib::xml::{Document, Element};

use crate::tools::Answer;

/// What is said of one action: operation key, node, what else tells it from others.
pub(crate) type Act = (String, String, String);

/// In what two plans differ. Everything empty: they agree.
#[derive(Clone, Debug, Default)]
pub(crate) struct Difference {
    /// Acts of the peer that ours lacks.
    pub(crate) missing: Vec<Act>,
    /// Acts of ours that the peer's lacks.
    pub(crate) extra: Vec<Act>,
    /// Pairs ordered by the peer and not by us.
    pub(crate) unordered: Vec<(Act, Act)>,
    /// Pairs ordered by us and not by the peer.
    pub(crate) overordered: Vec<(Act, Act)>,
    /// Lines of the final status that only the peer has.
    pub(crate) status_missing: Vec<String>,
    /// Lines that only ours has.
    pub(crate) status_extra: Vec<String>,
}

/// The layers, the gravest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Layer {
    /// Other things happen.
    Acts,
    /// The same things in another order.
    Order,
    /// Another result.
    Final,
}

impl Difference {
    /// The gravest layer in which the two differ.
    pub(crate) fn layer(&self) -> Option<Layer> {
        if !self.missing.is_empty() || !self.extra.is_empty() {
            Some(Layer::Acts)
        } else if !self.unordered.is_empty() || !self.overordered.is_empty() {
            Some(Layer::Order)
        } else if !self.status_missing.is_empty() || !self.status_extra.is_empty() {
            Some(Layer::Final)
        } else {
            None
        }
    }

    /// What could cost exclusivity or data: a fence, a stop or an ordering that ours lacks, or a
    /// start that only ours has.
    pub(crate) fn is_unsafe(&self) -> bool {
        let key = |a: &Act, what: &str| a.0.contains(what);
        let stops = |a: &Act| key(a, "stonith") || key(a, "_stop_0") || key(a, "_demote_0");
        self.missing.iter().any(stops)
            || self.extra.iter().any(|a| key(a, "_start_0") || key(a, "_promote_0"))
            || self.unordered.iter().any(|(a, _)| stops(a))
    }

    /// For people.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut out = Vec::new();
        let mut add = |mark: &str, lines: Vec<String>| {
            out.extend(lines.into_iter().map(|l| format!("{mark} {l}")));
        };
        add("only the peer:", self.missing.iter().map(words).collect());
        add("only ours:", self.extra.iter().map(words).collect());
        add("ordered by the peer only:", self.unordered.iter().map(pair).collect());
        add("ordered by ours only:", self.overordered.iter().map(pair).collect());
        add("final, the peer:", self.status_missing.clone());
        add("final, ours:", self.status_extra.clone());
        out
    }
}

/// Compares two answers to the same question.
pub(crate) fn compare(peer: &Answer, ours: &Answer) -> Result<Difference> {
    let theirs = Plan::read(&peer.graph).context("the peer's graph")?;
    let own = Plan::read(&ours.graph).context("our graph")?;
    let (missing, extra) = difference(&theirs.acts, &own.acts);
    let mut out = Difference { missing, extra, ..Difference::default() };
    // Between what both do.
    let both = |(a, b): &&(Act, Act)| {
        [a, b].iter().all(|x| theirs.acts.contains_key(*x) && own.acts.contains_key(*x))
    };
    out.unordered = theirs.order.difference(&own.order).filter(both).cloned().collect();
    out.overordered = own.order.difference(&theirs.order).filter(both).cloned().collect();
    let lines = |a: &Answer| count(section(&a.text, "Revised Cluster Status:"));
    (out.status_missing, out.status_extra) = difference(&lines(peer), &lines(ours));
    Ok(out)
}

fn words((key, node, extra): &Act) -> String {
    format!("{key} {node} {extra}").trim().to_owned()
}

fn pair((first, then): &(Act, Act)) -> String {
    format!("{} before {}", words(first), words(then))
}

/// What is compared of one answer, as lines.
pub(crate) fn lines(answer: &Answer) -> Result<Vec<String>> {
    let plan = Plan::read(&answer.graph)?;
    let mut out = Vec::new();
    for (one, times) in &plan.acts {
        out.extend(vec![format!("does {}", words(one)); *times]);
    }
    out.extend(plan.order.iter().map(pair));
    out.extend(section(&answer.text, "Revised Cluster Status:").iter().map(|l| format!("then{l}")));
    Ok(out)
}

fn count<T: Ord>(all: impl IntoIterator<Item = T>) -> BTreeMap<T, usize> {
    let mut out = BTreeMap::new();
    for one in all {
        *out.entry(one).or_insert(0) += 1;
    }
    out
}

/// What the first has more of, and what the second.
fn difference<T: Ord + Clone>(a: &BTreeMap<T, usize>, b: &BTreeMap<T, usize>) -> (Vec<T>, Vec<T>) {
    let more = |a: &BTreeMap<T, usize>, b: &BTreeMap<T, usize>| {
        let left = |(one, n): (&T, &usize)| {
            let n = n.saturating_sub(*b.get(one).unwrap_or(&0));
            vec![one.clone(); n]
        };
        a.iter().flat_map(left).collect()
    };
    (more(a, b), more(b, a))
}

/// The lines of one part of the text, each with the line that it stands under.
fn section(text: &str, title: &str) -> Vec<String> {
    let mut above: Vec<(usize, String)> = Vec::new();
    let mut out = Vec::new();
    for line in text.lines().skip_while(|l| *l != title).skip(1) {
        if line.trim().is_empty() {
            continue;
        }
        let depth = line.len() - line.trim_start().len();
        let words: Vec<&str> = line.split_whitespace().collect();
        let words = words.join(" ");
        above.retain(|(d, _)| *d < depth);
        let parent = above.last().map_or("", |(_, l)| l.as_str());
        out.push(format!("{parent} / {words}"));
        above.push((depth, words));
    }
    out
}

struct Plan {
    acts: BTreeMap<Act, usize>,
    order: BTreeSet<(Act, Act)>,
}

impl Plan {
    fn read(text: &str) -> Result<Self> {
        let document = Document::parse(text.to_owned())?;
        let mut nodes: Vec<Step> = Vec::new();
        let mut index: HashMap<String, usize> = HashMap::new();
        for synapse in document.root().children_named("synapse") {
            let action = synapse.child("action_set").and_then(|s| s.children().next());
            let action = action.context("a synapse without an action")?;
            let id = action.id().context("an action without an id")?;
            index.insert(id.to_owned(), nodes.len());
            let before: Vec<String> = synapse
                .child("inputs")
                .into_iter()
                .flat_map(Element::children)
                .filter_map(|t| t.children().next().and_then(Element::id))
                .map(str::to_owned)
                .collect();
            nodes.push(Step { act: act(action), real: is_real(action), before });
        }
        let inputs: Vec<Vec<usize>> = nodes
            .iter()
            .map(|s| s.before.iter().filter_map(|id| index.get(id).copied()).collect())
            .collect();
        let earlier = closure(&inputs);
        let mut order = BTreeSet::new();
        for (n, step) in nodes.iter().enumerate().filter(|(_, s)| s.real) {
            for m in earlier[n].iter().filter(|m| nodes[**m].real) {
                order.insert((nodes[*m].act.clone(), step.act.clone()));
            }
        }
        let acts = count(nodes.into_iter().filter(|s| s.real).map(|s| s.act));
        Ok(Self { acts, order })
    }
}

struct Step {
    act: Act,
    real: bool,
    before: Vec<String>,
}

/// Everything that comes before each, directly or not. A cycle ends where it closes.
fn closure(inputs: &[Vec<usize>]) -> Vec<BTreeSet<usize>> {
    let mut all = vec![BTreeSet::new(); inputs.len()];
    for (n, earlier) in all.iter_mut().enumerate() {
        let mut open = inputs[n].clone();
        while let Some(m) = open.pop() {
            if earlier.insert(m) {
                open.extend(&inputs[m]);
            }
        }
    }
    all
}

/// Something that is done to a machine, not only a mark in the graph.
fn is_real(action: Element<'_>) -> bool {
    action.name() != "pseudo_event" || action.attr("operation") == Some("stonith")
}

fn act(action: Element<'_>) -> Act {
    let attributes = action.child("attributes");
    let get = |name: &str| attributes.and_then(|a| a.attr(name)).unwrap_or_default();
    let mut key = action.attr("operation_key").unwrap_or_default().to_owned();
    let anonymous = get("CRM_meta_globally_unique") != "true"
        && attributes.is_some_and(|a| a.attr("CRM_meta_clone").is_some());
    if anonymous {
        key = without_instance(&key);
    }
    let more = match action.attr("operation").unwrap_or_default() {
        "notify" | "notified" => {
            format!("{} {}", get("CRM_meta_notify_type"), get("CRM_meta_notify_operation"))
        }
        "migrate_to" | "migrate_from" => {
            format!("{} -> {}", get("CRM_meta_migrate_source"), get("CRM_meta_migrate_target"))
        }
        "monitor" => format!("expects {}", get("CRM_meta_op_target_rc")),
        "cancel" => get("CRM_meta_interval").to_owned(),
        _ => String::new(),
    };
    (key, action.attr("on_node").unwrap_or_default().to_owned(), more)
}

/// `rsc:3_start_0` as `rsc_start_0`.
fn without_instance(key: &str) -> String {
    let mut out = String::new();
    let mut rest = key;
    while let Some((before, after)) = rest.split_once(':') {
        out.push_str(before);
        let digits = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        rest = &after[digits..];
        if digits == 0 || !(rest.is_empty() || rest.starts_with('_')) {
            out.push(':');
            rest = after;
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(triggers: &str) -> Answer {
        let graph = format!(
            r#"<transition_graph>
<synapse id="0"><action_set><rsc_op id="1" operation="stop" operation_key="a:0_stop_0" on_node="n1"><attributes CRM_meta_clone="0" CRM_meta_globally_unique="false"/></rsc_op></action_set><inputs/></synapse>
<synapse id="1"><action_set><pseudo_event id="2" operation="stopped" operation_key="c_stopped_0"/></action_set><inputs><trigger><rsc_op id="1"/></trigger></inputs></synapse>
<synapse id="2"><action_set><rsc_op id="3" operation="start" operation_key="a:1_start_0" on_node="n2"><attributes CRM_meta_clone="1"/></rsc_op></action_set><inputs>{triggers}</inputs></synapse>
</transition_graph>"#
        );
        let text = "Revised Cluster Status:\n  * Online: [ n1 ]\n".to_owned();
        Answer { graph, text }
    }

    #[test]
    fn an_order_through_a_pseudo_action_is_an_order() {
        let direct = graph(r#"<trigger><rsc_op id="1"/></trigger>"#);
        let through = graph(r#"<trigger><pseudo_event id="2"/></trigger>"#);
        let none = graph("");
        assert_eq!(compare(&direct, &through).unwrap().layer(), None);
        let d = compare(&direct, &none).unwrap();
        assert_eq!((d.layer(), d.is_unsafe()), (Some(Layer::Order), true), "{:?}", d.lines());
        let d = compare(&none, &direct).unwrap();
        assert_eq!((d.layer(), d.is_unsafe()), (Some(Layer::Order), false));
    }

    #[test]
    fn numbers_of_anonymous_instances_do_not_count() {
        assert_eq!(without_instance("a:12_start_0"), "a_start_0");
        assert_eq!(without_instance("a:12"), "a");
        assert_eq!(without_instance("a:b_start_0"), "a:b_start_0");
        assert_eq!(without_instance("a_start_0"), "a_start_0");
    }

    #[test]
    fn a_line_of_the_status_is_told_with_what_it_stands_under() {
        let text = "x\nRevised Cluster Status:\n  * Group: g:\n    * a  Started\n  * b\n";
        let lines = section(text, "Revised Cluster Status:");
        assert_eq!(lines, [" / * Group: g:", "* Group: g: / * a Started", " / * b"]);
    }
}
