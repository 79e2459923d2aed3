//! Large CIBs for timing, made by rule, the same text each time.
//!
//! Half of the primitives are in groups of five; of the others a quarter goes along with a group, a quarter follows one, and the
//! rest has a place that it likes. Every group likes a node, and every fourth needs one of four tickets. All has been
//! probed everywhere and runs where it likes to be, so that without an event there is nothing to do.

use std::fmt::Write as _;

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// All nodes have just come up: nothing is probed, nothing runs.
    Start,
    /// Nothing.
    Settled,
    /// The last node has left without a word.
    NodeLost,
    /// Ticket T0 is gone; what needs it stops.
    Revoked,
    /// Ticket T0 is gone; nodes that run what needs it are fenced.
    Fenced,
}

impl Event {
    /// All, with the quickest first.
    pub(crate) const ALL: [Self; 5] =
        [Self::Settled, Self::Revoked, Self::Fenced, Self::NodeLost, Self::Start];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Settled => "settled",
            Self::NodeLost => "node-lost",
            Self::Revoked => "ticket-revoked",
            Self::Fenced => "ticket-fence",
        }
    }
}

const MEMBERS: usize = 5;
/// MD5 of an operation without parameters, as histories have it, and of one that has only a timeout of 20 seconds.
const NO_PARAMETERS: &str = "f2317cad3d54cec5d7d7aa7d0bf35cf8";
const TIMEOUT_ONLY: &str = "4811cef7f7f94e3a35a70be7916cb2fd";
const DUMMY: &str = r#"class="ocf" provider="pacemaker" type="Dummy""#;
const DEVICE: &str = r#"class="stonith" type="fence_dummy""#;

/// A cluster of this size after an event.
pub(crate) fn cib(nodes: usize, primitives: usize, event: Event) -> String {
    let mut text = String::from(
        r#"<cib crm_feature_set="3.16.1" validate-with="pacemaker-3.9" epoch="10" num_updates="1" admin_epoch="0" have-quorum="1" dc-uuid="1" execution-date="1700000000"><configuration><crm_config><cluster_property_set id="o">
<nvpair id="o-fencing" name="stonith-enabled" value="true"/><nvpair id="o-quorum" name="no-quorum-policy" value="stop"/>
</cluster_property_set></crm_config><nodes>"#,
    );
    for n in 1..=nodes {
        put(&mut text, format_args!(r#"<node id="{n}" uname="n{n}"/>"#));
    }
    text.push_str("</nodes><resources>");
    let places = resources(&mut text, nodes, primitives, event);
    text.push_str(
        r#"<rsc_defaults><meta_attributes id="d"><nvpair id="d-s" name="resource-stickiness" value="1"/></meta_attributes></rsc_defaults></configuration><status>
"#,
    );
    for n in 1..=nodes {
        status(&mut text, n, n == nodes, &places, event);
    }
    text.push_str("<tickets>");
    for t in 0..4 {
        let granted = t > 0 || !matches!(event, Event::Revoked | Event::Fenced);
        put(
            &mut text,
            format_args!(
                r#"<ticket_state id="T{t}" granted="{granted}" last-granted="1690000000"/>"#
            ),
        );
    }
    text.push_str("</tickets></status></cib>\n");
    text
}

fn put(text: &mut String, words: std::fmt::Arguments<'_>) {
    text.write_fmt(words).expect("a text takes all");
    text.push('\n');
}

/// Resources and constraints. The node of each primitive.
fn resources(text: &mut String, nodes: usize, primitives: usize, event: Event) -> Vec<usize> {
    let half = primitives / 2;
    let groups = half.div_ceil(MEMBERS);
    let mut places: Vec<usize> = (0..half).map(|i| 1 + (i / MEMBERS) % nodes).collect();
    let mut constraints = String::new();
    put(text, format_args!(r#"<primitive id="fencer" {DEVICE}/>"#));
    for group in 0..groups {
        put(text, format_args!(r#"<group id="g{group}">"#));
        for i in (group * MEMBERS)..half.min((group + 1) * MEMBERS) {
            primitive(text, i);
        }
        put(text, format_args!("</group>"));
    }
    for i in half..primitives {
        primitive(text, i);
        let group = i % groups.max(1);
        let with = i % 4 == 0 && groups > 0;
        let place = 1 + if with { group } else { i } % nodes;
        places.push(place);
        let words = &mut constraints;
        if with {
            put(
                words,
                format_args!(
                    r#"<rsc_colocation id="c{i}" rsc="r{i}" with-rsc="g{group}" score="INFINITY"/>"#
                ),
            );
        }
        if i % 4 == 1 && groups > 0 {
            put(
                words,
                format_args!(
                    r#"<rsc_order id="x{i}" first="g{group}" then="r{i}" kind="Mandatory"/>"#
                ),
            );
        } else {
            put(
                words,
                format_args!(r#"<rsc_location id="p{i}" rsc="r{i}" node="n{place}" score="50"/>"#),
            );
        }
    }
    for group in 0..groups {
        let place = 1 + group % nodes;
        let words = &mut constraints;
        put(
            words,
            format_args!(
                r#"<rsc_location id="l{group}" rsc="g{group}" node="n{place}" score="100"/>"#
            ),
        );
        if group % 4 == 0 {
            let policy = if event == Event::Fenced { "fence" } else { "stop" };
            let ticket = (group / 4) % 4;
            put(
                words,
                format_args!(
                    r#"<rsc_ticket id="t{group}" rsc="g{group}" ticket="T{ticket}" loss-policy="{policy}"/>"#
                ),
            );
        }
    }
    put(text, format_args!("</resources><constraints>{constraints}</constraints>"));
    places
}

fn primitive(text: &mut String, i: usize) {
    put(
        text,
        format_args!(
            r#"<primitive id="r{i}" {DUMMY}><operations><op id="r{i}-m" name="monitor" interval="10s" timeout="20s"/></operations></primitive>"#
        ),
    );
}

/// What a node tells of itself.
fn status(text: &mut String, node: usize, last: bool, places: &[usize], event: Event) {
    let lost = last && event == Event::NodeLost;
    let (member, process, join) =
        if lost { ("false", "offline", "down") } else { ("true", "online", "member") };
    put(
        text,
        format_args!(
            r#"<node_state id="{node}" uname="n{node}" in_ccm="{member}" crmd="{process}" join="{join}" expected="member">"#
        ),
    );
    if event != Event::Start {
        put(text, format_args!(r#"<lrm id="{node}"><lrm_resources>"#));
        let mut history = History { text, node, call: 0 };
        history.resource("fencer", DEVICE, node == 1, false);
        for (i, place) in places.iter().enumerate() {
            history.resource(&format!("r{i}"), DUMMY, *place == node, true);
        }
        text.push_str("</lrm_resources></lrm>");
    }
    put(text, format_args!("</node_state>"));
}

struct History<'a> {
    text: &'a mut String,
    node: usize,
    call: u32,
}

impl History<'_> {
    fn resource(&mut self, id: &str, agent: &str, here: bool, monitored: bool) {
        put(self.text, format_args!(r#"<lrm_resource id="{id}" {agent}>"#));
        self.op(id, "monitor", 0, 7);
        if here {
            self.op(id, "start", 0, 0);
            if monitored {
                self.op(id, "monitor", 10_000, 0);
            }
        }
        put(self.text, format_args!("</lrm_resource>"));
    }

    fn op(&mut self, id: &str, task: &str, interval: u32, rc: i32) {
        self.call += 1;
        let (call, node) = (self.call, self.node);
        let digest = if interval > 0 { TIMEOUT_ONLY } else { NO_PARAMETERS };
        let key = format!("{call}:1:{rc}:00000000-0000-0000-0000-000000000000");
        put(
            self.text,
            format_args!(
                r#"<lrm_rsc_op id="{id}_{task}_{interval}" operation_key="{id}_{task}_{interval}" operation="{task}" crm_feature_set="3.16.1" transition-key="{key}" transition-magic="0:{rc};{key}" call-id="{call}" rc-code="{rc}" op-status="0" interval="{interval}" op-digest="{digest}" on_node="n{node}"/>"#
            ),
        );
    }
}
