//! Nodes behind connections, bundles, unfencing, shutdown locks and old schemas, told by small clusters.

use tierce_cib::time::Moment;
use tierce_scheduler::Error;
use tierce_scheduler::simulate::{self, Outcome, Request};

const NOW: i64 = 1_700_000_000;

/// A cluster of two members, built up by what is special about it.
struct Cluster {
    schema: &'static str,
    options: String,
    resources: String,
    constraints: String,
    /// Attributes, histories; `None` is a member that has left without a word.
    members: [Option<(String, String)>; 2],
    /// Histories of nodes behind connections, by name.
    others: Vec<(&'static str, String)>,
}

fn pair(name: &str, value: &str) -> String {
    format!(r#"<nvpair id="{name}-{value}" name="{name}" value="{value}"/>"#)
}

impl Cluster {
    fn of(resources: &str) -> Self {
        let up = || Some((String::new(), String::new()));
        Self {
            schema: "pacemaker-3.9",
            options: String::new(),
            resources: resources.to_owned(),
            constraints: String::new(),
            members: [up(), up()],
            others: Vec::new(),
        }
    }

    fn without_fencing(mut self) -> Self {
        self.options += &pair("stonith-enabled", "false");
        self
    }

    fn history(mut self, member: usize, history: &str) -> Self {
        self.members[member - 1].as_mut().expect("the member is there").1 += history;
        self
    }

    fn attribute(mut self, member: usize, name: &str, value: &str) -> Self {
        self.members[member - 1].as_mut().expect("the member is there").0 += &pair(name, value);
        self
    }

    fn text(&self) -> String {
        let mut status = String::new();
        for (i, member) in self.members.iter().enumerate() {
            let n = i + 1;
            let (seen, process) =
                if member.is_some() { ("true", "online") } else { ("false", "offline") };
            let (attributes, history) = member.clone().unwrap_or_default();
            status.extend([format!(
                r#"<node_state id="{n}" uname="n{n}" in_ccm="{seen}" crmd="{process}" join="member" expected="member">
<transient_attributes id="{n}"><instance_attributes id="s{n}">{attributes}</instance_attributes></transient_attributes>
<lrm id="{n}"><lrm_resources>{history}</lrm_resources></lrm></node_state>"#
            )]);
        }
        for (name, history) in &self.others {
            status.extend([format!(
                r#"<node_state id="{name}" uname="{name}" remote_node="true" in_ccm="true"><lrm id="{name}"><lrm_resources>{history}</lrm_resources></lrm></node_state>"#
            )]);
        }
        format!(
            r#"<cib admin_epoch="0" epoch="1" num_updates="0" have-quorum="1" dc-uuid="1" validate-with="{}"><configuration><crm_config>
<cluster_property_set id="o">{}</cluster_property_set></crm_config><nodes><node id="1" uname="n1"/><node id="2" uname="n2"/></nodes>
<resources>{}</resources><constraints>{}</constraints></configuration><status>{status}</status></cib>"#,
            self.schema, self.options, self.resources, self.constraints
        )
    }

    fn try_run(&self) -> Result<Outcome, Error> {
        let words = ["-x", "-", "-S", "-O", "out"].map(str::to_owned);
        let request = Request::parse(words).expect("the options are known");
        let now = Moment::from_epoch(NOW, 0).expect("a moment");
        simulate::run(self.text(), &request, now)
    }

    fn run(&self) -> Story {
        let outcome = self.try_run().expect("it can be scheduled");
        let block = outcome.text.split("Executing Cluster Transition:").nth(1).unwrap_or("");
        let block = block.split("Revised Cluster Status:").next().unwrap_or("");
        let lines = block.lines().filter_map(|l| l.trim().strip_prefix("* "));
        let done = lines.map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        Story { done, outcome }
    }
}

/// What was done, in order.
struct Story {
    done: Vec<String>,
    outcome: Outcome,
}

impl Story {
    fn at(&self, what: &str) -> usize {
        self.done
            .iter()
            .position(|l| l == what)
            .unwrap_or_else(|| panic!("{what} is not in {:#?}", self.done))
    }

    fn in_order(&self, steps: &[&str]) {
        for two in steps.windows(2) {
            assert!(self.at(two[0]) < self.at(two[1]), "{two:?} in {:#?}", self.done);
        }
    }

    fn never(&self, what: &str) {
        assert!(!self.done.iter().any(|l| l.contains(what)), "{what} in {:#?}", self.done);
    }

    fn ends_with(&self, line: &str) {
        let end = self.outcome.text.split("Revised Cluster Status:").nth(1).unwrap_or("");
        assert!(end.contains(line), "{line} is not in {end}");
    }
}

fn resource(id: &str, class: &str, agent: &str, inside: &str) -> String {
    let provider = if class == "ocf" { r#" provider="pacemaker""# } else { "" };
    format!(r#"<primitive id="{id}" class="{class}"{provider} type="{agent}">{inside}</primitive>"#)
}

fn dummy(id: &str, inside: &str) -> String {
    resource(id, "ocf", "Dummy", inside)
}

fn meta(id: &str, name: &str, value: &str) -> String {
    format!(r#"<meta_attributes id="{id}-meta">{}</meta_attributes>"#, pair(name, value))
}

/// A history of one operation.
fn op(id: &str, class: &str, agent: &str, task: &str, rc: i32, wanted: i32) -> String {
    let provider = if class == "ocf" { r#" provider="pacemaker""# } else { "" };
    format!(
        r#"<lrm_resource id="{id}" class="{class}"{provider} type="{agent}"><lrm_rsc_op id="{id}_{task}_0" operation="{task}"
interval="0" call-id="1" rc-code="{rc}" op-status="0" transition-key="1:1:{wanted}:x"/></lrm_resource>"#
    )
}

fn started(id: &str) -> String {
    op(id, "ocf", "Dummy", "start", 0, 0)
}

fn stopped(id: &str) -> String {
    op(id, "ocf", "Dummy", "monitor", 7, 7)
}

/// What each member knows of a connection or other resource that is stopped there.
fn known(cluster: Cluster, id: &str, class: &str, agent: &str) -> Cluster {
    let history = op(id, class, agent, "monitor", 7, 7);
    cluster.history(1, &history).history(2, &history)
}

const ONLY_REMOTE: &str = r#"<rsc_location id="there" rsc="a" node="r" score="INFINITY"/>"#;

#[test]
fn what_runs_on_a_remote_node_waits_for_the_connection() {
    let resources = resource("r", "ocf", "remote", "") + &dummy("a", "");
    let mut cluster = Cluster::of(&resources).without_fencing();
    cluster.constraints = ONLY_REMOTE.to_owned();
    let cluster = known(known(cluster, "r", "ocf", "remote"), "a", "ocf", "Dummy");
    let story = cluster.run();
    story.in_order(&[
        "Resource action: r start on n1",
        "Resource action: a monitor on r",
        "Resource action: a start on r",
    ]);
    story.ends_with("RemoteOnline: [ r ]");
}

#[test]
fn a_connection_goes_down_after_what_runs_behind_it() {
    let resources =
        resource("r", "ocf", "remote", &meta("r", "target-role", "Stopped")) + &dummy("a", "");
    let mut cluster = Cluster::of(&resources)
        .without_fencing()
        .history(1, &op("r", "ocf", "remote", "start", 0, 0))
        .history(2, &op("r", "ocf", "remote", "monitor", 7, 7))
        .history(1, &stopped("a"))
        .history(2, &stopped("a"));
    cluster.others.push(("r", started("a")));
    let story = cluster.run();
    story.in_order(&["Resource action: a stop on r", "Resource action: r stop on n1"]);
}

#[test]
fn a_remote_node_that_can_not_be_reached_any_more_is_fenced_before_its_resources_move() {
    let resources = resource("f", "stonith", "fence_x", "")
        + &resource("r", "ocf", "remote", "")
        + &dummy("a", "");
    let mut cluster = known(Cluster::of(&resources), "f", "stonith", "fence_x")
        .history(1, &op("r", "ocf", "remote", "start", 1, 0))
        .history(2, &op("r", "ocf", "remote", "monitor", 7, 7))
        .history(1, &stopped("a"))
        .history(2, &stopped("a"));
    cluster.others.push(("r", started("a")));
    let story = cluster.run();
    story.in_order(&["Fencing r (reboot)", "Pseudo action: a_stop_0"]);
    let fence = story.at("Fencing r (reboot)");
    let start = story.done.iter().position(|l| l.starts_with("Resource action: a start on"));
    assert!(start.is_some_and(|s| fence < s), "{:#?}", story.done);
}

fn guest() -> String {
    dummy("vm", &meta("vm", "remote-node", "g")) + &dummy("a", "")
}

#[test]
fn a_guest_comes_up_as_container_then_connection_then_what_runs_there() {
    let mut cluster = Cluster::of(&guest()).without_fencing();
    cluster.constraints = ONLY_REMOTE.replace(r#"node="r""#, r#"node="g""#);
    let cluster = known(cluster, "vm", "ocf", "Dummy");
    let cluster = known(known(cluster, "g", "ocf", "remote"), "a", "ocf", "Dummy");
    let story = cluster.run();
    story.in_order(&[
        "Resource action: vm start on n1",
        "Resource action: g start on n1",
        "Resource action: a start on g",
    ]);
    // A guest that comes up has nothing on it.
    story.never("a monitor on g");
    story.ends_with("GuestOnline: [ g ]");
}

#[test]
fn a_guest_is_fenced_by_recovering_its_container() {
    let resources = resource("f", "stonith", "fence_x", "") + &guest();
    let failed = op("vm", "ocf", "Dummy", "start", 0, 0).replace(
        "</lrm_resource>",
        r#"<lrm_rsc_op id="vm_last_failure_0" operation="monitor" interval="10000" call-id="2" rc-code="1" op-status="0"
transition-key="1:1:0:x"/></lrm_resource>"#,
    );
    let mut cluster = known(Cluster::of(&resources), "f", "stonith", "fence_x")
        .history(1, &failed)
        .history(2, &stopped("vm"))
        .history(1, &op("g", "ocf", "remote", "start", 0, 0))
        .history(2, &op("g", "ocf", "remote", "monitor", 7, 7));
    let location = ONLY_REMOTE.replace(r#"node="r""#, r#"node="g""#);
    cluster.constraints = location;
    cluster = known(cluster, "a", "ocf", "Dummy");
    cluster.others.push(("g", started("a")));
    let story = cluster.run();
    story.in_order(&[
        "Resource action: g stop on n1",
        "Resource action: vm stop on n1",
        "Pseudo action: stonith-g-reboot on g",
        "Pseudo action: a_stop_0",
        "Resource action: a start on g",
    ]);
    story.never("a stop on g");
}

#[test]
fn what_is_in_a_container_follows_it() {
    let resources = dummy("box", "") + &dummy("a", &meta("a", "container", "box"));
    let mut cluster = Cluster::of(&resources).without_fencing();
    cluster.constraints = r#"<rsc_location id="h" rsc="box" node="n2" score="5"/>"#.to_owned();
    let story = known(cluster, "box", "ocf", "Dummy").run();
    story.in_order(&["Resource action: box start on n2", "Resource action: a start on n2"]);
    story.never("a monitor on");
}

fn bundle(more: &str) -> String {
    format!(
        r#"<bundle id="b"><docker image="i" replicas="2" {more}/><network control-port="9"/>{}</bundle>"#,
        dummy("a", "")
    )
}

#[test]
fn a_bundle_comes_up_from_the_outside_to_the_inside() {
    let story = Cluster::of(&bundle("")).without_fencing().run();
    story.in_order(&[
        "Resource action: b-docker-0 monitor on n2",
        "Resource action: b-docker-0 start on n1",
        "Resource action: b-0 monitor on n1",
        "Resource action: b-0 start on n1",
        "Resource action: a start on b-0",
        "Pseudo action: b_running_0",
    ]);
    // Where one replica may be, none starts before it is known whether another is there.
    story.in_order(&[
        "Resource action: b-docker-1 monitor on n1",
        "Resource action: b-docker-0 start on n1",
    ]);
    story.ends_with("* b-1\t(ocf:pacemaker:Dummy):\t Started n2");
}

#[test]
fn what_a_bundle_implies_does_not_leave_the_house() {
    let story = Cluster::of(&bundle("")).without_fencing().run();
    assert!(!story.outcome.output.contains("implied"));
    let configuration = story.outcome.output.split("<status").next().unwrap_or("");
    assert!(!configuration.contains("b-docker-0"));
}

#[test]
fn a_promotable_bundle_promotes_what_is_inside() {
    let resources = bundle(r#"promoted-max="1""#).replace("Dummy", "Stateful");
    let mut cluster = Cluster::of(&resources).without_fencing();
    cluster.constraints =
        r#"<rsc_location id="p" rsc="b" node="b-1" role="Promoted" score="10"/>"#.to_owned();
    let story = cluster.run();
    story.in_order(&["Resource action: a start on b-1", "Resource action: a promote on b-1"]);
    story.never("promote on b-0");
}

#[test]
fn a_bundle_without_a_way_inside_is_an_error() {
    let resources = bundle("").replace(r#"<network control-port="9"/>"#, "");
    let error = Cluster::of(&resources).try_run().expect_err("nothing can reach what is inside");
    assert!(error.to_string().contains("control-port"), "{error}");
}

fn unfencing() -> Cluster {
    let resources =
        resource("f", "stonith", "fence_x", &meta("f", "provides", "unfencing")) + &dummy("a", "");
    let cluster = Cluster {
        constraints: r#"<rsc_location id="h" rsc="a" node="n2" score="5"/>"#.to_owned(),
        ..Cluster::of(&resources)
    };
    known(cluster, "a", "ocf", "Dummy")
}

#[test]
fn a_node_is_let_in_before_anything_starts_there() {
    let story = unfencing().attribute(1, "#node-unfenced", "1").run();
    story.in_order(&["Fencing n2 (on)", "Resource action: a start on n2"]);
    story.in_order(&["Fencing n2 (on)", "Resource action: f monitor on n2"]);
    story.never("Fencing n1");
}

#[test]
fn a_device_that_changed_lets_a_node_in_again_around_a_restart() {
    let resources =
        resource("f", "stonith", "fence_x", &meta("f", "provides", "unfencing")) + &dummy("a", "");
    let mut cluster = known(Cluster::of(&resources), "f", "stonith", "fence_x")
        .attribute(1, "#node-unfenced", "1")
        .attribute(2, "#node-unfenced", "1")
        .attribute(1, "#digests-all", "f:fence_x:0123,")
        .history(1, &started("a"))
        .history(2, &stopped("a"));
    cluster.constraints = r#"<rsc_location id="h" rsc="a" node="n1" score="5"/>"#.to_owned();
    cluster.run().in_order(&[
        "Resource action: a stop on n1",
        "Fencing n1 (on)",
        "Resource action: a start on n1",
    ]);
}

fn locks(limit: &str, since: i64) -> Cluster {
    let mut cluster = Cluster::of(&dummy("a", "")).without_fencing();
    cluster.options += &(pair("shutdown-lock", "true") + &pair("shutdown-lock-limit", limit));
    let locked = op("a", "ocf", "Dummy", "stop", 0, 0)
        .replace("type=", &format!(r#"shutdown-lock="{since}" type="#));
    let mut cluster = cluster.history(1, &locked).history(2, &stopped("a"));
    // It was shut down in good order.
    cluster.options += &pair("symmetric-cluster", "true");
    cluster
}

/// The first member has left as it was asked to.
fn shut_down(text: &str) -> String {
    text.replacen(
        r#"uname="n1" in_ccm="true" crmd="online" join="member" expected="member""#,
        r#"uname="n1" in_ccm="false" crmd="offline" join="down" expected="down""#,
        1,
    )
}

fn run_text(text: String) -> Outcome {
    let words = ["-x", "-", "-S", "-G", "graph"].map(str::to_owned);
    let request = Request::parse(words).expect("the options are known");
    simulate::run(text, &request, Moment::from_epoch(NOW, 0).expect("a moment"))
        .expect("it can be scheduled")
}

#[test]
fn what_ran_on_a_node_that_was_shut_down_waits_for_it() {
    let outcome = run_text(shut_down(&locks("10min", NOW - 60).text()));
    assert!(outcome.text.contains("Stopped n1 (LOCKED)"), "{}", outcome.text);
    assert!(!outcome.text.contains("start on"), "{}", outcome.text);
    // One second after the lock ends there is something to decide.
    assert!(outcome.graph.contains(&format!(r#"recheck-by="{}""#, NOW - 60 + 601)));
}

#[test]
fn a_lock_that_is_over_is_forgotten() {
    let outcome = run_text(shut_down(&locks("10min", NOW - 6000).text()));
    assert!(outcome.text.contains("lrm_delete for a on n1"), "{}", outcome.text);
    assert!(outcome.text.contains("Started n2"), "{}", outcome.text);
}

#[test]
fn an_old_schema_is_raised_or_refused_by_line() {
    let mut cluster = Cluster::of(&dummy("a", "")).without_fencing();
    cluster.schema = "pacemaker-2.10";
    let story = cluster.run();
    story.at("Resource action: a start on n1");
    assert!(story.outcome.output.contains(r#"validate-with="pacemaker-3.0""#));

    cluster.resources = dummy(
        "a",
        r#"<operations><op id="s" name="start" interval="0" requires="nothing"/></operations>"#,
    );
    let error = cluster.try_run().expect_err("that operations have requires ended with 3.0");
    assert!(matches!(error, Error::TooOld { .. }), "{error}");
    assert!(error.to_string().contains("requires"), "{error}");

    cluster.schema = "pacemaker-9.0";
    let error = cluster.try_run().expect_err("nobody knows that schema");
    assert!(error.to_string().contains("pacemaker-9.0"), "{error}");
}
