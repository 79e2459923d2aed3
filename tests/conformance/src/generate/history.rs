//! Status: how nodes are, and what was done to each resource on each of them.

use std::fmt::Write as _;

use super::shape::{Cluster, Node, Primitive, Resource, State, Variant};
use crate::draw::Draw;

const CONTROLLER: &str = "11111111-2222-3333-4444-555555555555";
/// MD5 of the parameters: none, and none but the time-out of a recurring operation. What was run with
/// others than are configured would be restarted.
const NO_PARAMETERS: &str = "f2317cad3d54cec5d7d7aa7d0bf35cf8";
const TIMEOUT_ONLY: &str = "4811cef7f7f94e3a35a70be7916cb2fd";
const OTHER_PARAMETERS: &str = "0123456789abcdef0123456789abcdef";
/// A minute before the time of the CIB.
const EARLIER: u64 = 1_699_999_940;

/// What a resource is on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum There {
    Unprobed,
    Probed,
    Stopped,
    Started,
    Promoted,
    MonitorFailed,
    StartFailed,
    StopFailed,
    FoundRunning,
    StartPending,
}

pub(super) fn write(d: &mut Draw, cluster: &Cluster, out: &mut String) {
    let plan = places(d, cluster);
    for (n, node) in cluster.nodes.iter().enumerate() {
        if node.state != State::Unseen {
            let here: Vec<_> = plan.iter().map(|p| (p, p.there[n])).collect();
            node_state(node, &here, out);
        }
    }
}

/// One instance of a primitive, and what it is on each node.
struct Place<'a> {
    name: String,
    primitive: &'a Primitive,
    there: Vec<There>,
    changed: bool,
}

fn places<'a>(d: &mut Draw, cluster: &'a Cluster) -> Vec<Place<'a>> {
    let mut all = Vec::new();
    // A cluster that has just begun, one that is at rest, or one in between.
    let running = d.weighted(&[(25, 0), (60, 85), (15, 50)]);
    for r in &cluster.resources {
        resource(d, &cluster.nodes, r, running, &mut all);
    }
    all
}

fn resource<'a>(
    d: &mut Draw,
    nodes: &[Node],
    r: &'a Resource,
    running: u64,
    all: &mut Vec<Place<'a>>,
) {
    let runs = |d: &mut Draw| d.percent(running);
    if let Variant::Clone(inner) = &r.variant {
        if r.is_unique() {
            let each = r.meta("clone-node-max").map_or(1, |m| m.parse().unwrap_or(1));
            let count = r.meta("clone-max").map_or(nodes.len(), |m| m.parse().unwrap_or(1));
            for instance in 0..count {
                for (name, primitive) in inner.primitives() {
                    let at = (instance / each) % nodes.len();
                    let there = {
                        let at = runs(d).then_some(at);
                        at_one(d, nodes, at, running)
                    };
                    all.push(Place {
                        name: format!("{name}:{instance}"),
                        primitive,
                        there,
                        changed: d.percent(1),
                    });
                }
            }
            return;
        }
        let on: Vec<bool> = nodes.iter().map(|_| runs(d)).collect();
        let mut promoted = r.is_promotable().then(|| d.below(nodes.len()));
        for (name, primitive) in inner.primitives() {
            let mut there: Vec<There> =
                on.iter().map(|on| if *on { started(d) } else { idle(d, running) }).collect();
            if let Some(at) = promoted.take()
                && there[at] == There::Started
                && primitive.stateful
            {
                there[at] = There::Promoted;
            }
            all.push(Place { name: name.to_owned(), primitive, there, changed: d.percent(1) });
        }
        return;
    }
    let at = runs(d).then(|| d.below(nodes.len()));
    // The last members of a group may be behind.
    let mut behind = false;
    for (name, primitive) in r.primitives() {
        behind |= at.is_some() && d.percent(4);
        let mut there = at_one(d, nodes, at.filter(|_| !behind), running);
        if d.percent(2) {
            there[d.below(nodes.len())] = There::Started; // twice, perhaps
        }
        all.push(Place { name: name.to_owned(), primitive, there, changed: d.percent(1) });
    }
}

fn at_one(d: &mut Draw, nodes: &[Node], at: Option<usize>, running: u64) -> Vec<There> {
    let mut each: Vec<There> = nodes.iter().map(|_| idle(d, running)).collect();
    if let Some(at) = at {
        each[at] = started(d);
    }
    each
}

fn started(d: &mut Draw) -> There {
    d.weighted(&[
        (86, There::Started),
        (5, There::MonitorFailed),
        (2, There::StopFailed),
        (4, There::FoundRunning),
        (3, There::StartPending),
    ])
}

fn idle(d: &mut Draw, running: u64) -> There {
    if running == 0 && d.percent(60) {
        return There::Unprobed;
    }
    d.weighted(&[
        (8, There::Unprobed),
        (80, There::Probed),
        (9, There::Stopped),
        (3, There::StartFailed),
    ])
}

fn node_state(node: &Node, here: &[(&Place<'_>, There)], out: &mut String) {
    let Node { id, name, .. } = node;
    let (in_ccm, crmd, join, expected) = match node.state {
        State::Headless => ("true", "offline", "down", "member"),
        State::Lost => ("false", "offline", "down", "member"),
        State::Left => ("false", "offline", "down", "down"),
        _ => ("true", "online", "member", "member"),
    };
    let _ = write!(
        out,
        r#"<node_state id="{id}" uname="{name}" in_ccm="{in_ccm}" crmd="{crmd}" join="{join}" expected="{expected}">"#
    );
    let mut call = 0;
    let mut transient = Vec::new();
    if node.state == State::ShuttingDown {
        transient.push(("shutdown".to_owned(), "1699999990".to_owned()));
    }
    let _ = write!(out, r#"<lrm id="{id}"><lrm_resources>"#);
    for (Place { name: resource, primitive, changed, .. }, there) in here {
        if *there == There::Unprobed || node.state == State::Left && *there != There::Probed {
            continue;
        }
        let kind = if primitive.fencing {
            r#"class="stonith" type="fence_xvm""#
        } else if primitive.stateful {
            r#"class="ocf" provider="pacemaker" type="Stateful""#
        } else {
            r#"class="ocf" provider="pacemaker" type="Dummy""#
        };
        let _ = write!(out, r#"<lrm_resource id="{resource}" {kind}>"#);
        let (call, transient) = (&mut call, &mut transient);
        let mut log = Log { resource, node: name, call, out, transient, changed: *changed };
        log.of(primitive, *there);
        out.push_str("</lrm_resource>");
    }
    out.push_str("</lrm_resources></lrm>");
    if !transient.is_empty() {
        let _ = write!(
            out,
            r#"<transient_attributes id="{id}"><instance_attributes id="status-{id}">"#
        );
        for (n, v) in &transient {
            let word: String =
                n.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
            let _ = write!(out, r#"<nvpair id="status-{id}-{word}" name="{n}" value="{v}"/>"#);
        }
        out.push_str("</instance_attributes></transient_attributes>");
    }
    out.push_str("</node_state>");
}

/// Operations of one resource on one node.
struct Log<'a> {
    resource: &'a str,
    node: &'a str,
    call: &'a mut u32,
    out: &'a mut String,
    transient: &'a mut Vec<(String, String)>,
    /// Whether it was run with other parameters than are configured now.
    changed: bool,
}

impl Log<'_> {
    fn of(&mut self, p: &Primitive, there: There) {
        if there == There::FoundRunning {
            self.done("monitor", 0, 0, 7);
        } else if !p.fencing || there == There::Probed {
            self.done("monitor", 0, 7, 7);
        }
        match there {
            There::Unprobed | There::Probed | There::FoundRunning => return,
            There::StartFailed => {
                self.done("start", 0, 1, 0);
                self.done("stop", 0, 0, 0);
                return self.failed("start", 0, "INFINITY");
            }
            There::StartPending => return self.pending("start"),
            _ => self.done("start", 0, 0, 0),
        }
        if there == There::Stopped {
            return self.done("stop", 0, 0, 0);
        }
        let promoted = there == There::Promoted;
        if promoted {
            self.done("promote", 0, 0, 0);
        }
        for m in p.operations.iter().filter(|o| o.name == "monitor") {
            let role = m.others.iter().find(|(n, _)| *n == "role").map(|(_, v)| *v);
            let fits = match role {
                Some("Stopped") => false,
                Some("Promoted") => promoted,
                Some("Unpromoted") => !promoted,
                _ => true,
            };
            if fits {
                let rc = if promoted { 8 } else { 0 };
                self.done("monitor", m.seconds as u64 * 1_000, rc, rc);
            }
        }
        let recurring = p.operations.iter().find(|o| o.name == "monitor");
        match (there, recurring) {
            (There::MonitorFailed, Some(m)) if !p.stateful => {
                let interval = m.seconds as u64 * 1_000;
                self.entry(&Entry { task: "monitor", interval, rc: 7, target: 0, failed: true });
                self.failed("monitor", interval, "1");
            }
            (There::StopFailed, _) => {
                self.done("stop", 0, 1, 0);
                self.failed("stop", 0, "INFINITY");
            }
            _ => {}
        }
    }

    fn done(&mut self, task: &str, interval: u64, rc: u8, target: u8) {
        self.entry(&Entry { task, interval, rc, target, failed: false });
    }

    fn pending(&mut self, task: &str) {
        *self.call += 1;
        let (resource, node) = (self.resource, self.node);
        let _ = write!(
            self.out,
            r#"<lrm_rsc_op id="{resource}_last_0" operation_key="{resource}_{task}_0" operation="{task}" crm_feature_set="3.16.1" transition-key="{}:1:0:{CONTROLLER}" transition-magic="-1:193;{}:1:0:{CONTROLLER}" call-id="-1" rc-code="193" op-status="-1" interval="0" last-rc-change="{EARLIER}" op-digest="{NO_PARAMETERS}" on_node="{node}"/>"#,
            self.call, self.call
        );
    }

    fn failed(&mut self, task: &str, interval: u64, count: &str) {
        let of = self.resource.split(':').next().unwrap_or_default();
        self.transient.push((format!("fail-count-{of}#{task}_{interval}"), count.to_owned()));
        self.transient.push((format!("last-failure-{of}#{task}_{interval}"), EARLIER.to_string()));
    }

    fn entry(&mut self, e: &Entry<'_>) {
        *self.call += 1;
        let Entry { task, interval, rc, target, failed } = *e;
        let digest = match (interval, self.changed) {
            (0, false) => NO_PARAMETERS,
            (_, false) => TIMEOUT_ONLY,
            (_, true) => OTHER_PARAMETERS,
        };
        let (resource, node, call) = (self.resource, self.node, *self.call);
        let id = if failed {
            format!("{resource}_last_failure_0")
        } else {
            format!("{resource}_{task}_{interval}")
        };
        let _ = write!(
            self.out,
            r#"<lrm_rsc_op id="{id}" operation_key="{resource}_{task}_{interval}" operation="{task}" crm_feature_set="3.16.1" transition-key="{call}:1:{target}:{CONTROLLER}" transition-magic="0:{rc};{call}:1:{target}:{CONTROLLER}" call-id="{call}" rc-code="{rc}" op-status="0" interval="{interval}" last-rc-change="{EARLIER}" op-digest="{digest}" on_node="{node}"/>"#
        );
    }
}

struct Entry<'a> {
    task: &'a str,
    interval: u64,
    rc: u8,
    target: u8,
    failed: bool,
}
