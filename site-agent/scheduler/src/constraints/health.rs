//! Node health: attributes whose names begin with `#health` keep resources off a node, by the strategy chosen.

use tierce_cib::values::{self, INFINITY, add_scores};

use crate::arena::NodeIx;
use crate::cluster::Cluster;
use crate::model::Health;

/// Scores of the three colours and of a node as such.
struct Scores {
    base: i32,
    green: i32,
    yellow: i32,
    red: i32,
}

impl Cluster<'_> {
    fn health_scores(&self) -> Option<Scores> {
        let option = |name: &str, default: i32| {
            self.options.raw.get(name).and_then(values::score).unwrap_or(default)
        };
        let strategy = self.options.raw.get("node-health-strategy").unwrap_or("none");
        Some(match strategy {
            "migrate-on-red" => Scores { base: 0, green: 0, yellow: 0, red: -INFINITY },
            "only-green" => Scores { base: 0, green: 0, yellow: -INFINITY, red: -INFINITY },
            "progressive" | "custom" => Scores {
                base: option("node-health-base", 0),
                green: option("node-health-green", 0),
                yellow: option("node-health-yellow", 0),
                red: option("node-health-red", -INFINITY),
            },
            _ => return None,
        })
    }

    /// Notes the health of each node.
    pub(crate) fn judge_health(&mut self) {
        if self.health_scores().is_none() {
            return;
        }
        for node in self.nodes.keys() {
            let mut worst = Health::Green;
            for (name, value) in &self.nodes[node].attributes {
                if !name.starts_with("#health") {
                    continue;
                }
                let seen = match value.as_ref() {
                    "red" => Health::Red,
                    "yellow" => Health::Yellow,
                    "green" => Health::Green,
                    number => match values::score(number) {
                        Some(n) if n <= -INFINITY => Health::Red,
                        Some(_) => Health::Green,
                        None => Health::Yellow,
                    },
                };
                worst = worst.min(seen);
            }
            self.nodes[node].health = worst;
        }
    }

    /// Gives all resources the scores that follow, but for those that may be on unhealthy nodes.
    pub(crate) fn apply_health(&mut self) {
        let Some(scores) = self.health_scores() else { return };
        let nodes: Vec<(NodeIx, i32)> = self
            .nodes
            .keys()
            .map(|node| {
                let mut sum = scores.base;
                for (name, value) in &self.nodes[node].attributes {
                    if name.starts_with("#health") {
                        sum = add_scores(
                            sum,
                            match value.as_ref() {
                                "red" => scores.red,
                                "yellow" => scores.yellow,
                                "green" => scores.green,
                                number => values::score(number).unwrap_or(0),
                            },
                        );
                    }
                }
                (node, sum)
            })
            .filter(|(_, sum)| *sum != 0)
            .collect();
        for rsc in self.top.clone() {
            if values::is_true(self.rscs[rsc].meta.get("allow-unhealthy-nodes")) {
                continue;
            }
            for (node, sum) in &nodes {
                self.locate(rsc, *node, *sum, "node-health");
            }
        }
    }
}
