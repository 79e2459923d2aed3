//! The graph for people: as `dot` reads it. What is required but can not run is red and dashed.

use std::collections::BTreeSet;

use crate::action::Task;
use crate::arena::ActIx;
use crate::cluster::Cluster;

impl Cluster<'_> {
    fn dot_name(&self, ix: ActIx) -> String {
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

    /// The dot text; with `all`, what is optional as well.
    pub(crate) fn graph_dot(&self, all: bool) -> String {
        let mut lines = BTreeSet::new();
        let shown = |ix: ActIx| {
            let a = &self.actions[ix];
            if self.in_graph(ix) {
                return Some("style=bold color=\"green\"");
            }
            let managed =
                a.rsc.is_none_or(|r| self.rscs[r].managed || !self.rscs[r].children.is_empty());
            if !a.optional && managed {
                return Some("style=dashed color=\"red\"");
            }
            all.then_some("style=dashed color=\"blue\"")
        };
        for ix in self.actions.keys() {
            let Some(style) = shown(ix) else { continue };
            let a = &self.actions[ix];
            let font = if a.pseudo { "orange" } else { "black" };
            let then = self.dot_name(ix);
            lines.insert(format!("\"{then}\" [ {style} fontcolor=\"{font}\"]"));
            for edge in &a.before {
                if edge.flags == 0 || shown(edge.other).is_none() {
                    continue;
                }
                let both = self.in_graph(ix) && self.in_graph(edge.other);
                let style = if both { "bold" } else { "dashed" };
                lines.insert(format!(
                    "\"{}\" -> \"{then}\" [ style = {style}]",
                    self.dot_name(edge.other)
                ));
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
}
