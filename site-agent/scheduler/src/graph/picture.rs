//! The graph for people, as `dot` reads it and drawn as SVG.
//!
//! What is in the graph is green, what should be done and can not is red and dashed, what is optional blue and dashed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use tierce_cib::xml::escaped;

use crate::action::Task;
use crate::arena::ActIx;
use crate::cluster::Cluster;

/// How an action looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Happens,
    Blocked,
    Optional,
}

impl Look {
    fn style(self) -> &'static str {
        match self {
            Self::Happens => "style=bold color=\"green\"",
            Self::Blocked => "style=dashed color=\"red\"",
            Self::Optional => "style=dashed color=\"blue\"",
        }
    }
}

/// A text between quotes, as `dot` reads it.
fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

impl Cluster<'_> {
    /// An action and its node, as the graph names them.
    fn graph_name(&self, ix: ActIx) -> String {
        let a = &self.actions[ix];
        let node = match a.node {
            Some(n) => format!(" {}", self.nodes[n].name),
            None if a.rsc.is_some() && !a.pseudo => " <none>".to_owned(),
            None => String::new(),
        };
        match a.task {
            Task::Fence => {
                let op =
                    a.meta.iter().find(|(k, _)| k == "stonith_action").map_or("reboot", |(_, v)| v);
                format!("stonith '{op}'{node}")
            }
            Task::Cancel => format!("Cancel {}{node}", a.key),
            Task::Shutdown => format!("do_shutdown{node}"),
            _ => format!("{}{node}", a.key),
        }
    }

    fn look(&self, ix: ActIx, all: bool) -> Option<Look> {
        let a = &self.actions[ix];
        if self.in_graph(ix) {
            return Some(Look::Happens);
        }
        let managed =
            a.rsc.is_none_or(|r| self.rscs[r].managed || !self.rscs[r].children.is_empty());
        if !a.optional && managed {
            return Some(Look::Blocked);
        }
        all.then_some(Look::Optional)
    }

    /// The dot text; with `all`, what is optional as well.
    pub(crate) fn graph_dot(&self, all: bool) -> String {
        let mut lines = BTreeSet::new();
        for ix in self.actions.keys() {
            let Some(look) = self.look(ix, all) else { continue };
            let a = &self.actions[ix];
            let font = if a.pseudo { "orange" } else { "black" };
            let then = quoted(&self.graph_name(ix));
            lines.insert(format!("\"{then}\" [ {} fontcolor=\"{font}\"]", look.style()));
            for edge in &a.before {
                if edge.flags == 0 || self.look(edge.other, all).is_none() {
                    continue;
                }
                let both = self.in_graph(ix) && self.in_graph(edge.other);
                let style = if both { "bold" } else { "dashed" };
                let first = quoted(&self.graph_name(edge.other));
                lines.insert(format!("\"{first}\" -> \"{then}\" [ style = {style}]"));
            }
        }
        let mut out = String::from(" digraph \"g\" {\n");
        for line in lines {
            out.push_str(&line);
            out.push('\n');
        }
        out.push_str("}\n");
        out
    }

    /// The graph drawn: what comes first is on the left. Why an action happens, or can not, is its tool tip.
    pub(crate) fn graph_svg(&self) -> String {
        let shown: Vec<ActIx> =
            self.actions.keys().filter(|ix| self.look(*ix, false).is_some()).collect();
        let place: BTreeMap<ActIx, usize> =
            shown.iter().enumerate().map(|(i, ix)| (*ix, i)).collect();
        let mut before: Vec<Vec<usize>> = vec![Vec::new(); shown.len()];
        for (i, ix) in shown.iter().enumerate() {
            let edges = self.actions[*ix].before.iter().filter(|e| e.flags != 0);
            before[i].extend(edges.filter_map(|e| place.get(&e.other).copied()));
            before[i].sort_unstable();
            before[i].dedup();
        }
        let boxes: Vec<Drawn> = shown.iter().map(|ix| self.drawn(*ix)).collect();
        draw(&boxes, &before)
    }

    fn drawn(&self, ix: ActIx) -> Drawn {
        let a = &self.actions[ix];
        let look = self.look(ix, false).unwrap_or(Look::Optional);
        let class = match look {
            Look::Happens if a.pseudo => "pseudo",
            Look::Happens => "real",
            _ => "blocked",
        };
        Drawn { label: self.graph_name(ix), class, tip: a.reason.clone().unwrap_or_default() }
    }
}

/// One box.
struct Drawn {
    label: String,
    class: &'static str,
    tip: String,
}

const CHARACTER: usize = 7;
const HEIGHT: usize = 24;
const ROW: usize = 36;
const GAP: usize = 60;
const STYLE: &str = "text{font:12px monospace;fill:#111}rect{fill:#fff;stroke-width:1.5}\
.real rect{stroke:#1a7f37}.pseudo rect{stroke:#bf8700;stroke-dasharray:2 2}\
.blocked rect{stroke:#cf222e;stroke-dasharray:5 3}path{fill:none;stroke:#6e7781}";

/// Draws boxes in columns by how much comes before them; within a column near to what they wait for.
fn draw(boxes: &[Drawn], before: &[Vec<usize>]) -> String {
    let column = columns(before);
    let count = column.iter().max().map_or(0, |c| c + 1);
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); count];
    for (i, c) in column.iter().enumerate() {
        members[*c].push(i);
    }
    let mut row = vec![0_usize; boxes.len()];
    for list in &mut members {
        // The middle of what a box waits for; columns to the left have their rows already.
        let middle = |i: &usize| {
            let sum: usize = before[*i].iter().map(|b| row[*b] * 16).sum();
            sum / before[*i].len().max(1)
        };
        list.sort_by_key(|i| (middle(i), boxes[*i].label.clone()));
        for (r, i) in list.iter().enumerate() {
            row[*i] = r;
        }
    }
    let width = |i: usize| boxes[i].label.chars().count() * CHARACTER + 12;
    let mut left = vec![0_usize; count];
    let mut x = 10;
    for (c, list) in members.iter().enumerate() {
        left[c] = x;
        x += list.iter().map(|i| width(*i)).max().unwrap_or(0) + GAP;
    }
    let height = members.iter().map(Vec::len).max().unwrap_or(0) * ROW + 20;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{x}\" height=\"{height}\" viewBox=\"0 0 {x} {height}\">\n\
         <style>{STYLE}</style>\n<rect width=\"100%\" height=\"100%\" stroke=\"none\"/>\n"
    );
    let top = |i: usize| 10 + row[i] * ROW;
    for (then, firsts) in before.iter().enumerate() {
        for first in reduced(firsts, before, &column) {
            let (x1, y1) = (left[column[first]] + width(first), top(first) + HEIGHT / 2);
            let (x2, y2) = (left[column[then]], top(then) + HEIGHT / 2);
            let bend = GAP / 2;
            let (a, b) = (x1 + bend, x2.saturating_sub(bend));
            // Writing to a String can not fail.
            let _ = writeln!(out, "<path d=\"M{x1} {y1}C{a} {y1} {b} {y2} {x2} {y2}\"/>");
        }
    }
    for (i, drawn) in boxes.iter().enumerate() {
        let (x, y, w) = (left[column[i]], top(i), width(i));
        let (class, label) = (drawn.class, escaped(&drawn.label));
        let _ = write!(out, "<g class=\"{class}\">");
        if !drawn.tip.is_empty() {
            let _ = write!(out, "<title>{}</title>", escaped(&drawn.tip));
        }
        let _ = writeln!(
            out,
            "<rect x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{HEIGHT}\" rx=\"4\"/><text x=\"{}\" y=\"{}\">{label}</text></g>",
            x + 6,
            y + 16
        );
    }
    out.push_str("</svg>\n");
    out
}

/// The column of each box: the longest way to it. What waits for itself (only what is blocked can) breaks off somewhere.
fn columns(before: &[Vec<usize>]) -> Vec<usize> {
    let mut column = vec![0; before.len()];
    let mut waits: Vec<usize> = before.iter().map(Vec::len).collect();
    let mut next: Vec<Vec<usize>> = vec![Vec::new(); before.len()];
    for (i, firsts) in before.iter().enumerate() {
        for first in firsts {
            next[*first].push(i);
        }
    }
    let mut ready: Vec<usize> = (0..before.len()).filter(|i| waits[*i] == 0).collect();
    let mut done = vec![false; before.len()];
    let mut look = 0;
    loop {
        while let Some(at) = ready.pop() {
            if std::mem::replace(&mut done[at], true) {
                continue;
            }
            for then in &next[at] {
                if !done[*then] {
                    column[*then] = column[*then].max(column[at] + 1);
                    waits[*then] -= 1;
                    if waits[*then] == 0 {
                        ready.push(*then);
                    }
                }
            }
        }
        while look < done.len() && done[look] {
            look += 1;
        }
        if look == done.len() {
            return column;
        }
        ready.push(look);
    }
}

/// Those of the firsts that no other of them stands behind directly: the rest of the arrows says nothing more.
fn reduced(firsts: &[usize], before: &[Vec<usize>], column: &[usize]) -> Vec<usize> {
    let behind = |first: &usize| {
        firsts.iter().any(|other| column[*other] > column[*first] && before[*other].contains(first))
    };
    firsts.iter().copied().filter(|first| !behind(first)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_stands_right_of_all_that_it_waits_for_and_what_waits_for_itself_ends() {
        assert_eq!(columns(&[vec![], vec![0], vec![0, 1], vec![]]), [0, 1, 2, 0]);
        let looped = columns(&[vec![1], vec![0], vec![1]]);
        assert_eq!(looped.len(), 3);
        assert_eq!(reduced(&[0, 1], &[vec![], vec![0], vec![0, 1]], &[0, 1, 2]), [1]);
    }

    #[test]
    fn a_drawing_is_xml_whatever_the_names_are() {
        let drawn = |label: &str| Drawn { label: label.into(), class: "real", tip: "<&>".into() };
        let svg = draw(&[drawn("a\"<b>_start_0 n&1"), drawn("c")], &[vec![], vec![0]]);
        let doc = tierce_cib::xml::Document::parse(svg).expect("it is XML");
        assert_eq!(doc.root().children_named("g").count(), 2);
        assert_eq!(doc.root().children_named("path").count(), 1);
    }
}
