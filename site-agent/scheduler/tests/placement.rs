//! Placement, told by small clusters: capacity, what belongs together, and instances of clones.

use std::fmt::Write as _;

use tierce_cib::time::Moment;
use tierce_scheduler::simulate::{self, Request};

/// A cluster at its beginning: nodes with their CPUs, resources, constraints.
struct Story {
    strategy: &'static str,
    cpus: Vec<u32>,
    resources: String,
    constraints: String,
    /// What was started where, by resource and number of the node.
    running: Vec<(&'static str, usize)>,
}

fn story(cpus: &[u32], resources: &[String], constraints: &[String]) -> Story {
    Story {
        strategy: "utilization",
        cpus: cpus.to_vec(),
        resources: resources.concat(),
        constraints: constraints.concat(),
        running: Vec::new(),
    }
}

impl Story {
    fn cib(&self) -> String {
        let pair =
            |id: &str, n: &str, v: &str| format!(r#"<nvpair id="{id}" name="{n}" value="{v}"/>"#);
        let mut nodes = String::new();
        let mut status = String::new();
        for (i, cpu) in self.cpus.iter().enumerate() {
            let n = i + 1;
            let cpu = pair(&format!("u{n}-cpu"), "cpu", &cpu.to_string());
            let _ = write!(
                nodes,
                r#"<node id="{n}" uname="n{n}"><utilization id="u{n}">{cpu}</utilization></node>"#
            );
            let _ = write!(
                status,
                r#"<node_state id="{n}" uname="n{n}" in_ccm="true" crmd="online" join="member" expected="member"><lrm id="{n}"><lrm_resources>"#
            );
            for (rsc, _) in self.running.iter().filter(|(_, at)| *at == n) {
                let _ = write!(
                    status,
                    r#"<lrm_resource id="{rsc}" class="ocf" provider="pacemaker" type="Dummy"><lrm_rsc_op id="{rsc}_start_0" operation="start" interval="0" call-id="1" rc-code="0" op-status="0" transition-key="1:1:0:x"/></lrm_resource>"#
                );
            }
            status.push_str("</lrm_resources></lrm></node_state>");
        }
        let options = pair("o1", "stonith-enabled", "false")
            + &pair("o2", "placement-strategy", self.strategy)
            + &pair("o3", "enable-startup-probes", "false");
        format!(
            r#"<cib have-quorum="1" dc-uuid="1" validate-with="pacemaker-3.9"><configuration><crm_config>
<cluster_property_set id="o">{options}</cluster_property_set></crm_config><nodes>{nodes}</nodes>
<resources>{}</resources><constraints>{}</constraints></configuration><status>{status}</status></cib>"#,
            self.resources, self.constraints
        )
    }

    fn text(&self) -> String {
        let words = ["-x", "-", "-S"].map(str::to_owned);
        let request = Request::parse(words).expect("the options are known");
        let now = Moment::from_epoch(1_700_000_000, 0).expect("it is in range");
        simulate::run(self.cib(), &request, now).expect("it can be scheduled").text
    }

    /// What starts, with the node, in the order of the summary.
    fn starts(&self) -> Vec<String> {
        let text = self.text();
        let block = text.split("Transition Summary:").nth(1).unwrap_or("");
        let block = block.split("Executing").next().unwrap_or("");
        let words = block.lines().filter_map(|l| {
            let w: Vec<&str> = l.split_whitespace().collect();
            (w.get(1) == Some(&"Start")).then(|| format!("{} {}", w[2], w[4]))
        });
        words.collect()
    }
}

fn primitive(id: &str, cpu: u32, meta: &str) -> String {
    format!(
        r#"<primitive id="{id}" class="ocf" provider="pacemaker" type="Dummy"><meta_attributes id="{id}-m">{meta}</meta_attributes><utilization id="{id}-u"><nvpair id="{id}-cpu" name="cpu" value="{cpu}"/></utilization></primitive>"#
    )
}

fn clone(id: &str, inner: &str, meta: &[(&str, &str)]) -> String {
    let mut pairs = String::new();
    for (n, v) in meta {
        let _ = write!(pairs, r#"<nvpair id="{id}-{n}" name="{n}" value="{v}"/>"#);
    }
    format!(
        r#"<clone id="{id}"><meta_attributes id="{id}-m">{pairs}</meta_attributes>{inner}</clone>"#
    )
}

fn with(one: &str, other: &str) -> String {
    format!(
        r#"<rsc_colocation id="c-{one}-{other}" rsc="{one}" with-rsc="{other}" score="INFINITY"/>"#
    )
}

fn prefer(rsc: &str, node: &str, score: &str) -> String {
    format!(r#"<rsc_location id="l-{rsc}-{node}" rsc="{rsc}" node="{node}" score="{score}"/>"#)
}

#[test]
fn what_belongs_together_goes_where_all_of_it_has_room() {
    let parts = [primitive("a", 1, ""), primitive("b", 2, ""), primitive("c", 4, "")];
    let chain = [with("b", "a"), with("c", "b")];
    assert_eq!(story(&[6, 7], &parts, &chain).starts(), ["a n2", "b n2", "c n2"]);
}

#[test]
fn where_nothing_has_room_for_all_the_roomiest_of_equals_takes_as_many_as_it_can() {
    let urgent = r#"<nvpair id="p" name="priority" value="1"/>"#;
    let parts = [primitive("a", 2, ""), primitive("b", 2, ""), primitive("c", 2, urgent)];
    let wishes = [with("b", "a"), with("c", "a")];
    assert_eq!(story(&[2, 4], &parts, &wishes).starts(), ["c n2", "a n2"]);
    // A node that is preferred is no equal.
    let wishes = [with("b", "a"), with("c", "a"), prefer("a", "n1", "1")];
    assert_eq!(story(&[2, 4], &parts, &wishes).starts(), ["a n1"]);
}

#[test]
fn a_clone_that_goes_along_needs_room_for_one_instance() {
    let one = [("clone-max", "1")];
    let parts = [
        clone("k", &primitive("a", 1, ""), &one),
        clone("l", &primitive("b", 2, ""), &one),
        primitive("f", 4, ""),
    ];
    let along = [with("l", "k"), with("f", "l")];
    // Room for k and l is asked for; what is with l may go with another instance of it.
    assert_eq!(story(&[3, 9], &parts, &along).starts(), ["a:0 n1", "b:0 n1"]);
    assert_eq!(story(&[2, 9], &parts, &along).starts(), ["a:0 n2", "b:0 n2", "f n2"]);
}

#[test]
fn what_a_node_does_not_count_it_does_not_have() {
    let memory = r#"<primitive id="m" class="ocf" provider="pacemaker" type="Dummy"><utilization id="m-u"><nvpair id="m-mem" name="memory" value="1"/></utilization></primitive>"#;
    assert!(story(&[4], &[memory.to_owned()], &[]).starts().is_empty());
}

#[test]
fn capacity_goes_first_to_what_scores_highest_and_to_what_it_is_with() {
    let parts = [primitive("a", 1, ""), primitive("b", 1, ""), primitive("c", 1, "")];
    let wishes = [prefer("b", "n1", "4"), prefer("a", "n1", "6"), with("c", "a")];
    assert_eq!(story(&[9, 9], &parts, &wishes).starts(), ["a n1", "c n1", "b n1"]);
    // The other way round nothing is inherited.
    let wishes = [prefer("b", "n1", "4"), prefer("c", "n1", "6"), with("c", "a")];
    assert_eq!(story(&[9, 9], &parts, &wishes).starts(), ["c n1", "b n1", "a n1"]);
}

#[test]
fn where_an_instance_happens_to_be_is_no_wish_of_its_clone() {
    let sticky = r#"<nvpair id="s" name="resource-stickiness" value="5"/>"#;
    let parts =
        [primitive("p", 1, ""), clone("k", &primitive("a", 1, sticky), &[("clone-max", "1")])];
    let mut it = story(&[9, 9], &parts, &[with("k", "p")]);
    it.running = vec![("a", 2)];
    assert_eq!(it.starts(), ["p n1"]);
    assert!(it.text().contains("Move"), "{}", it.text());
}

#[test]
fn instances_of_an_ordered_clone_start_one_after_the_other_whichever_run_already() {
    let k = clone("k", &primitive("a", 1, ""), &[("ordered", "true")]);
    let mut it = story(&[9, 9, 9], &[k], &[]);
    it.running = vec![("a", 2)];
    let request =
        Request::parse(["-x", "-", "-S", "-G", "graph"].map(str::to_owned)).expect("known");
    let now = Moment::from_epoch(1_700_000_000, 0).expect("in range");
    let graph = simulate::run(it.cib(), &request, now).expect("scheduled").graph;
    let doc = tierce_cib::xml::Document::parse(graph).expect("XML");
    let start = |node: &str| {
        doc.root()
            .descendants()
            .find(|e| {
                e.name() == "rsc_op"
                    && e.attr("operation") == Some("start")
                    && e.attr("on_node") == Some(node)
            })
            .and_then(tierce_cib::xml::Element::id)
            .expect("it starts there")
            .to_owned()
    };
    let (first, second) = (start("n1"), start("n3"));
    let synapse = doc
        .root()
        .children_named("synapse")
        .find(|s| {
            s.child("action_set").is_some_and(|a| a.children().any(|x| x.id() == Some(&second)))
        })
        .expect("it is in the graph");
    let waits = synapse.child("inputs").expect("inputs");
    assert!(waits.descendants().any(|e| e.id() == Some(&first)));
}

#[test]
fn of_stopped_instances_the_one_that_wants_a_node_most_chooses_first() {
    let meta = [("globally-unique", "true"), ("promotable", "true"), ("clone-max", "2")];
    let it = story(&[9, 9], &[clone("k", &primitive("a", 1, ""), &meta)], &[]);
    let score = |n: usize, name: &str, value: &str| {
        format!(r#"<nvpair id="t{n}-{value}" name="master-{name}" value="{value}"/>"#)
    };
    let scores = score(2, "a:0", "50") + &score(2, "a:1", "100");
    let told = format!(
        r#"<transient_attributes id="2"><instance_attributes id="t2">{scores}</instance_attributes></transient_attributes><lrm id="2">"#
    );
    let cib = it.cib().replace(r#"<lrm id="2">"#, &told);
    let request = Request::parse(["-x", "-", "-S"].map(str::to_owned)).expect("known");
    let now = Moment::from_epoch(1_700_000_000, 0).expect("in range");
    let text = simulate::run(cib, &request, now).expect("scheduled").text;
    assert!(text.contains("a:1\t(ocf:pacemaker:Dummy):\t Promoted n2"), "{text}");
    assert!(text.contains("a:0\t(ocf:pacemaker:Dummy):\t Unpromoted n1"), "{text}");
}

#[test]
fn an_instance_does_not_stay_where_its_clone_would_rather_not_be() {
    let sticky = r#"<nvpair id="s" name="resource-stickiness" value="200"/>"#;
    let k = clone("k", &primitive("a", 1, sticky), &[]);
    let mut it = story(&[9, 9], &[k], &[prefer("k", "n1", "-100")]);
    it.running = vec![("a", 1)];
    assert!(it.text().contains("* Started: [ n2 ]"), "{}", it.text());
}

#[test]
fn of_too_many_instances_it_is_the_last_that_goes() {
    let k = clone("k", &primitive("a", 1, ""), &[("clone-max", "1")]);
    let mut it = story(&[9, 9], &[k], &[prefer("k", "n2", "100")]);
    it.running = vec![("a", 1), ("a", 2)];
    let text = it.text();
    assert!(text.contains("Stop       a:1"), "{text}");
    assert!(text.contains("Move       a:0"), "{text}");
}

/// Two nodes, the second never heard of, and a device to fence it with.
fn with_a_stranger(managed: &str, options: &str) -> String {
    let device = format!(
        r#"<primitive id="f" class="stonith" type="fence_x"><meta_attributes id="f-m"><nvpair id="f-mm" name="is-managed" value="{managed}"/></meta_attributes></primitive>"#
    );
    story(&[1, 1], &[device], &[])
        .cib()
        .replace(r#"name="stonith-enabled" value="false""#, options)
        .replace(r#"<node_state id="2" uname="n2" in_ccm="true" crmd="online" join="member" expected="member"><lrm id="2"><lrm_resources></lrm_resources></lrm></node_state>"#, "")
}

fn simulated(cib: String) -> String {
    let request = Request::parse(["-x", "-", "-S"].map(str::to_owned)).expect("known");
    let now = Moment::from_epoch(1_700_000_000, 0).expect("in range");
    simulate::run(cib, &request, now).expect("scheduled").text
}

#[test]
fn nobody_is_fenced_while_nothing_is_managed() {
    let fencing = r#"name="stonith-enabled" value="true""#;
    assert!(simulated(with_a_stranger("true", fencing)).contains("Fencing n2"));
    assert!(!simulated(with_a_stranger("false", fencing)).contains("Fencing n2"));
    let maintained = r#"name="maintenance-mode" value="true""#;
    assert!(!simulated(with_a_stranger("true", maintained)).contains("Fencing n2"));
}

#[test]
fn in_maintenance_nothing_is_watched() {
    let rest = r#"<nvpair id="a-rest" name="maintenance" value="true"/>"#;
    let watched = primitive("a", 1, rest).replace(
        "</primitive>",
        r#"<operations><op id="a-mon" name="monitor" interval="10s"/></operations></primitive>"#,
    );
    let mut it = story(&[9], &[watched], &[]);
    it.running = vec![("a", 1)];
    let monitor = r#"<lrm_rsc_op id="a_monitor_10000" operation="monitor" interval="10000" call-id="2" rc-code="0" op-status="0" transition-key="2:1:0:x"/></lrm_resource>"#;
    let text = simulated(it.cib().replace("</lrm_resource>", monitor));
    assert!(text.contains("cancel=10000 on n1"), "{text}");
    assert!(!text.contains("stop on"), "{text}");
}

#[test]
fn in_an_asymmetric_cluster_a_node_counts_as_stopped_once_it_was_heard_of() {
    let k = clone("k", &primitive("a", 1, ""), &[("target-role", "Stopped")]);
    let cib = story(&[9, 9], &[k], &[]).cib().replace(
        r#"name="enable-startup-probes" value="false""#,
        r#"name="symmetric-cluster" value="false""#,
    );
    let text = simulated(cib);
    let (before, after) = text.split_once("Revised Cluster Status").expect("both");
    assert!(!before.contains("Stopped (disabled): ["), "{before}");
    assert!(after.contains("Stopped (disabled): [ n1 n2 ]"), "{after}");
}
