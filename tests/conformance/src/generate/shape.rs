//! What there is: nodes and resources.

use super::Tier;
use crate::draw::Draw;

/// How a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// A member.
    Online,
    /// A member that may run nothing.
    Standby,
    /// A member that leaves as told.
    ShuttingDown,
    /// A member of the membership layer whose manager is gone.
    Headless,
    /// Gone without a word.
    Lost,
    /// Left as told.
    Left,
    /// Nothing was ever heard of it.
    Unseen,
    /// In maintenance.
    Maintenance,
}

impl State {
    pub(super) fn is_member(self) -> bool {
        !matches!(self, State::Headless | State::Lost | State::Left | State::Unseen)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) state: State,
    pub(super) attributes: Vec<(&'static str, String)>,
    pub(super) capacity: Option<usize>,
}

#[derive(Clone, Debug)]
pub(super) struct Resource {
    pub(super) id: String,
    pub(super) meta: Vec<(&'static str, String)>,
    pub(super) variant: Variant,
}

#[derive(Clone, Debug)]
pub(super) enum Variant {
    Primitive(Primitive),
    Group(Vec<Resource>),
    Clone(Box<Resource>),
}

#[derive(Clone, Debug)]
pub(super) struct Primitive {
    pub(super) fencing: bool,
    pub(super) stateful: bool,
    pub(super) template: Option<String>,
    pub(super) cpu: Option<usize>,
    pub(super) operations: Vec<Operation>,
}

#[derive(Clone, Debug)]
pub(super) struct Operation {
    pub(super) name: &'static str,
    pub(super) seconds: usize,
    pub(super) others: Vec<(&'static str, &'static str)>,
}

impl Operation {
    pub(super) fn interval(&self) -> String {
        if self.seconds == 0 { "0".to_owned() } else { format!("{}s", self.seconds) }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Cluster {
    pub(super) nodes: Vec<Node>,
    pub(super) resources: Vec<Resource>,
    pub(super) templates: Vec<String>,
    pub(super) tags: Vec<(String, Vec<String>)>,
}

impl Resource {
    pub(super) fn is_fencing(&self) -> bool {
        matches!(&self.variant, Variant::Primitive(p) if p.fencing)
    }
    pub(super) fn is_promotable(&self) -> bool {
        self.is("promotable")
    }
    pub(super) fn is_unique(&self) -> bool {
        self.is("globally-unique")
    }
    fn is(&self, meta: &str) -> bool {
        self.meta.iter().any(|(n, v)| *n == meta && v == "true")
    }
    pub(super) fn meta(&self, name: &str) -> Option<&str> {
        self.meta.iter().find(|(n, _)| *n == name).map(|(_, v)| v.as_str())
    }
    /// It, or what is in it.
    pub(super) fn primitives(&self) -> Vec<(&str, &Primitive)> {
        match &self.variant {
            Variant::Primitive(p) => vec![(&self.id, p)],
            Variant::Group(members) => members.iter().flat_map(Resource::primitives).collect(),
            Variant::Clone(inner) => inner.primitives(),
        }
    }
}

pub(super) fn draw(d: &mut Draw, tier: Tier) -> Cluster {
    let nodes = nodes(d, tier);
    let mut shaper = Shaper { d, tier, count: 0, templates: Vec::new(), nodes: nodes.len() };
    let mut resources = Vec::new();
    if shaper.d.percent(93) {
        resources.push(shaper.fencing());
    }
    for _ in 0..shaper.d.between(1, 6) {
        resources.push(shaper.resource());
    }
    let templates = shaper.templates;
    let mut tags = Vec::new();
    if tier.0 >= 3 && d.percent(10) {
        let of = resources.iter().filter(|r| !r.is_fencing() && d.percent(50));
        let of: Vec<String> = of.map(|r| r.id.clone()).collect();
        if !of.is_empty() {
            tags.push(("tag1".to_owned(), of));
        }
    }
    Cluster { nodes, resources, templates, tags }
}

fn nodes(d: &mut Draw, tier: Tier) -> Vec<Node> {
    let states = [
        (70, State::Online),
        (6, State::Standby),
        (4, State::ShuttingDown),
        (3, State::Headless),
        (8, State::Lost),
        (5, State::Left),
        (2, State::Unseen),
        (if tier.0 >= 3 { 2 } else { 0 }, State::Maintenance),
    ];
    let capacities = tier.0 >= 3 && d.percent(15);
    let count = d.between(1, 5);
    (1..=count)
        .map(|n| {
            // The first decides, and so is there.
            let state = if n == 1 { State::Online } else { d.weighted(&states) };
            let mut attributes = Vec::new();
            if d.percent(30) {
                attributes.push(("zone", d.one(&["east", "west"]).to_owned()));
            }
            if d.percent(10) {
                attributes.push(("load", d.between(0, 20).to_string()));
            }
            if tier.0 >= 3 && d.percent(8) {
                let health = d.one(&["red", "yellow", "green", "-10"]);
                attributes.push(("#health-disk", health.to_owned()));
            }
            match state {
                State::Standby => attributes.push(("standby", "on".to_owned())),
                State::Maintenance => attributes.push(("maintenance", "true".to_owned())),
                _ => {}
            }
            let capacity = capacities.then(|| d.between(1, 6));
            Node { id: n.to_string(), name: format!("node{n}"), state, attributes, capacity }
        })
        .collect()
}

struct Shaper<'a> {
    d: &'a mut Draw,
    tier: Tier,
    count: usize,
    templates: Vec<String>,
    nodes: usize,
}

impl Shaper<'_> {
    fn name(&mut self, kind: &str) -> String {
        self.count += 1;
        format!("{kind}{}", self.count)
    }

    fn fencing(&mut self) -> Resource {
        let operations = if self.d.percent(60) { vec![monitor(30)] } else { Vec::new() };
        let primitive =
            Primitive { fencing: true, stateful: false, template: None, cpu: None, operations };
        Resource {
            id: "fencer".to_owned(),
            meta: Vec::new(),
            variant: Variant::Primitive(primitive),
        }
    }

    fn resource(&mut self) -> Resource {
        let kinds = match self.tier.0 {
            1 => [(1, 'p'), (0, 'g'), (0, 'c'), (0, 'C'), (0, 'm')],
            2 => [(45, 'p'), (22, 'g'), (22, 'c'), (11, 'C'), (0, 'm')],
            _ => [(40, 'p'), (17, 'g'), (15, 'c'), (8, 'C'), (20, 'm')],
        };
        match self.d.weighted(&kinds) {
            'p' => self.primitive(false),
            'g' => self.group(),
            'c' => self.clone(false, false),
            'C' => self.clone(true, false),
            _ => {
                let group = self.d.percent(15);
                self.clone(group, true)
            }
        }
    }

    fn primitive(&mut self, stateful: bool) -> Resource {
        let id = self.name(if stateful { "state" } else { "prim" });
        let mut template = None;
        if !stateful && self.tier.0 >= 3 && self.d.percent(6) {
            if self.templates.is_empty() {
                self.templates.push("template1".to_owned());
            }
            template = Some(self.templates[0].clone());
        }
        let operations = if template.is_some() { Vec::new() } else { self.operations(stateful) };
        let cpu = (self.tier.0 >= 3 && self.d.percent(12)).then(|| self.d.between(1, 4));
        let meta = self.metas(true);
        let primitive = Primitive { fencing: false, stateful, template, cpu, operations };
        Resource { id, meta, variant: Variant::Primitive(primitive) }
    }

    fn operations(&mut self, stateful: bool) -> Vec<Operation> {
        let d = &mut *self.d;
        let mut all = Vec::new();
        if d.percent(80) {
            let mut m = monitor(10);
            if d.percent(12) {
                let policy = d.one(&["ignore", "block", "stop", "restart", "standby", "fence"]);
                m.others.push(("on-fail", policy));
            }
            if stateful {
                m.others.push(("role", "Unpromoted"));
                let mut promoted = monitor(11);
                promoted.others.push(("role", "Promoted"));
                if d.percent(10) {
                    promoted.others.push(("on-fail", "demote"));
                }
                all.push(promoted);
            }
            all.push(m);
        }
        if d.percent(8) {
            let policy = d.one(&["block", "fence", "ignore"]);
            let others = vec![("timeout", "30s"), ("on-fail", policy)];
            all.push(Operation { name: "stop", seconds: 0, others });
        }
        if d.percent(8) {
            let policy = d.one(&["block", "restart", "stop"]);
            let others = vec![("timeout", "40s"), ("on-fail", policy)];
            all.push(Operation { name: "start", seconds: 0, others });
        }
        if d.percent(3) {
            let mut stopped = monitor(12);
            stopped.others.push(("role", "Stopped"));
            all.push(stopped);
        }
        all
    }

    /// What may be said of any resource.
    fn metas(&mut self, primitive: bool) -> Vec<(&'static str, String)> {
        let d = &mut *self.d;
        let mut rare: Vec<(u64, &'static str, &[&str])> = vec![
            (8, "target-role", &["Stopped", "Started"]),
            (4, "is-managed", &["false"]),
            (12, "resource-stickiness", &["0", "1", "100", "INFINITY", "-1"]),
            (8, "priority", &["1", "10", "-1"]),
        ];
        if primitive {
            rare.push((8, "migration-threshold", &["1", "3"]));
            rare.push((4, "requires", &["nothing", "quorum", "fencing"]));
            rare.push((3, "multiple-active", &["block", "stop_only", "stop_start"]));
            rare.push((3, "critical", &["false"]));
            if self.tier.0 >= 3 {
                rare.push((12, "allow-migrate", &["true"]));
                rare.push((3, "maintenance", &["true"]));
            }
        }
        let drawn = |(percent, name, values): &(u64, &'static str, &[&str])| {
            d.percent(*percent).then(|| (*name, d.one(values).to_owned()))
        };
        rare.iter().filter_map(drawn).collect()
    }

    fn group(&mut self) -> Resource {
        let id = self.name("group");
        let members = (0..self.d.between(1, 4)).map(|_| self.primitive(false)).collect();
        let meta = self.metas(false);
        Resource { id, meta, variant: Variant::Group(members) }
    }

    fn clone(&mut self, group: bool, promotable: bool) -> Resource {
        let id = self.name("clone");
        let inner = if group {
            let mut g = self.group();
            if promotable && let Variant::Group(members) = &mut g.variant {
                members.truncate(1);
                *members = vec![self.primitive(true)];
            }
            g
        } else {
            self.primitive(promotable)
        };
        let mut meta = self.metas(false);
        let d = &mut *self.d;
        if promotable {
            meta.push(("promotable", "true".to_owned()));
            if d.percent(10) {
                meta.push(("promoted-max", d.between(1, 2).to_string()));
            }
        }
        if d.percent(20) {
            meta.push(("clone-max", d.between(1, self.nodes + 1).to_string()));
        }
        if d.percent(35) {
            meta.push(("interleave", "true".to_owned()));
        }
        if d.percent(15) {
            meta.push(("ordered", "true".to_owned()));
        }
        if !promotable && !group && d.percent(12) {
            meta.push(("globally-unique", "true".to_owned()));
            if d.percent(50) {
                meta.push(("clone-node-max", "2".to_owned()));
            }
        }
        Resource { id, meta, variant: Variant::Clone(Box::new(inner)) }
    }
}

fn monitor(seconds: usize) -> Operation {
    Operation { name: "monitor", seconds, others: vec![("timeout", "20s")] }
}
