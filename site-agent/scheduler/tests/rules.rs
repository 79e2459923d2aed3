//! The rules, told by small clusters: what is configured, what happened, and what is to be done.

use tierce_cib::time::Moment;
use tierce_cib::xml::Document;
use tierce_scheduler::simulate::{self, Request};
use tierce_scheduler::{Error, schedule};

fn now() -> Moment {
    Moment::from_epoch(1_700_000_000, 0).expect("a moment")
}

/// A cluster of two nodes; `lost` nodes have left it without a word.
fn cluster(
    options: &str,
    resources: &str,
    constraints: &str,
    status: [&str; 2],
    lost: &[&str],
) -> String {
    let mut text = format!(
        r#"<cib have-quorum="1" dc-uuid="1" validate-with="pacemaker-3.9"><configuration><crm_config>
<cluster_property_set id="o">{options}</cluster_property_set></crm_config>
<nodes><node id="1" uname="n1"/><node id="2" uname="n2"/></nodes>
<resources>{resources}</resources><constraints>{constraints}</constraints></configuration><status>"#
    );
    for (i, history) in status.iter().enumerate() {
        let name = format!("n{}", i + 1);
        let gone = lost.contains(&name.as_str());
        let (member, process) = if gone { ("false", "offline") } else { ("true", "online") };
        text.extend([format!(
            r#"<node_state id="{}" uname="{name}" in_ccm="{member}" crmd="{process}" join="member" expected="member">
<lrm id="{}"><lrm_resources>{history}</lrm_resources></lrm></node_state>"#,
            i + 1,
            i + 1
        )]);
    }
    text.push_str("</status></cib>");
    text
}

fn option(name: &str, value: &str) -> String {
    format!(r#"<nvpair id="o-{name}" name="{name}" value="{value}"/>"#)
}

fn primitive(id: &str) -> String {
    format!(r#"<primitive id="{id}" class="ocf" provider="pacemaker" type="Dummy"/>"#)
}

/// A history: operation, return code, expected return code.
fn history(id: &str, ops: &[(&str, i32, i32)]) -> String {
    let mut text =
        format!(r#"<lrm_resource id="{id}" class="ocf" provider="pacemaker" type="Dummy">"#);
    for (call, (task, rc, wanted)) in ops.iter().enumerate() {
        text.extend([format!(
            r#"<lrm_rsc_op id="{id}_{task}_0" operation="{task}" interval="0" call-id="{}" rc-code="{rc}" op-status="0"
transition-key="1:1:{wanted}:x"/>"#,
            call + 1
        )]);
    }
    text.push_str("</lrm_resource>");
    text
}

fn runs(id: &str) -> String {
    history(id, &[("start", 0, 0)])
}

fn probed(id: &str) -> String {
    history(id, &[("monitor", 7, 7)])
}

/// The same history, of a fence device.
fn device(history: &str) -> String {
    history.replace(
        r#"class="ocf" provider="pacemaker" type="Dummy""#,
        r#"class="stonith" type="fence_x""#,
    )
}

fn simulate(cib: String, more: &[&str]) -> simulate::Outcome {
    let words = ["-x", "-", "-S"].iter().chain(more).map(ToString::to_string);
    let request = Request::parse(words).expect("the options are known");
    simulate::run(cib, &request, now()).expect("the cluster can be scheduled")
}

/// What is executed, in order.
fn executed(outcome: &simulate::Outcome) -> Vec<String> {
    let block = outcome.text.split("Executing Cluster Transition:").nth(1).unwrap_or("");
    let block = block.split("Revised Cluster Status:").next().unwrap_or("");
    let lines = block.lines().filter(|l| l.contains('*'));
    lines.map(|l| l.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")).collect()
}

fn position(list: &[String], what: &str) -> usize {
    list.iter().position(|l| l == what).unwrap_or_else(|| panic!("{what} is not in {list:#?}"))
}

fn no_fencing() -> String {
    option("stonith-enabled", "false")
}

#[test]
fn a_resource_is_probed_everywhere_before_it_is_started() {
    let outcome = simulate(cluster(&no_fencing(), &primitive("a"), "", ["", ""], &[]), &[]);
    let done = executed(&outcome);
    let start = position(&done, "Resource action: a start on n1");
    assert!(position(&done, "Resource action: a monitor on n1") < start);
    assert!(position(&done, "Resource action: a monitor on n2") < start);
    assert!(outcome.text.contains("a\t(ocf:pacemaker:Dummy):\t Started n1"));
}

#[test]
fn a_lost_node_is_fenced_before_its_resource_starts_elsewhere() {
    let resources =
        format!(r#"{}<primitive id="f" class="stonith" type="fence_x"/>"#, primitive("a"));
    let status = [&*(runs("a") + &device(&probed("f"))), &*(probed("a") + &device(&probed("f")))];
    let done = executed(&simulate(cluster("", &resources, "", status, &["n1"]), &[]));
    let fence = position(&done, "Fencing n1 (reboot)");
    assert!(fence < position(&done, "Pseudo action: a_stop_0"));
    assert!(fence < position(&done, "Resource action: a start on n2"));
}

#[test]
fn without_quorum_a_lost_node_is_neither_fenced_nor_is_anything_started() {
    let resources =
        format!(r#"{}<primitive id="f" class="stonith" type="fence_x"/>"#, primitive("a"));
    let status = [&*(runs("a") + &device(&probed("f"))), &*(probed("a") + &device(&probed("f")))];
    let cib = cluster("", &resources, "", status, &["n1"]);
    let done = executed(&simulate(cib, &["-q", "false"]));
    assert!(done.is_empty(), "{done:?}");
}

#[test]
fn a_missing_ticket_stops_what_depends_on_it_and_a_granted_one_starts_it() {
    let ticket = r#"<rsc_ticket id="t" rsc="a" ticket="T" loss-policy="stop"/>"#;
    let cib = || cluster(&no_fencing(), &primitive("a"), ticket, [&*runs("a"), &*probed("a")], &[]);
    assert_eq!(executed(&simulate(cib(), &[])), ["Resource action: a stop on n1"]);
    assert_eq!(executed(&simulate(cib(), &["--ticket-grant=T"])), Vec::<String>::new());
}

#[test]
fn a_deadman_ticket_fences_the_node_that_runs_what_depends_on_it() {
    let ticket = r#"<rsc_ticket id="t" rsc="a" ticket="T" loss-policy="fence"/>"#;
    let resources =
        format!(r#"{}<primitive id="f" class="stonith" type="fence_x"/>"#, primitive("a"));
    let status = [&*(probed("a") + &device(&runs("f"))), &*(runs("a") + &device(&probed("f")))];
    let outcome = simulate(cluster("", &resources, ticket, status, &[]), &[]);
    assert_eq!(executed(&outcome), ["Fencing n2 (reboot)", "Pseudo action: a_stop_0"]);
    assert!(outcome.text.contains("Fence (reboot) n2 'deadman ticket was lost'"));
}

#[test]
fn an_ordering_holds_in_both_directions() {
    let order = r#"<rsc_order id="x" first="a" then="b"/>"#;
    let resources = primitive("a") + &primitive("b");
    let up = cluster(&no_fencing(), &resources, order, ["", ""], &[]);
    let done = executed(&simulate(up, &[]));
    assert!(
        position(&done, "Resource action: a start on n1")
            < position(&done, "Resource action: b start on n2")
    );
    let both = [&*(runs("a") + &runs("b")), &*(probed("a") + &probed("b"))];
    let down = cluster(
        &(no_fencing() + &option("stop-all-resources", "true")),
        &resources,
        order,
        both,
        &[],
    );
    let done = executed(&simulate(down, &[]));
    assert_eq!(done, ["Resource action: b stop on n1", "Resource action: a stop on n1"]);
}

#[test]
fn what_must_be_together_goes_where_both_may_be() {
    let constraints = r#"<rsc_colocation id="c" rsc="b" with-rsc="a" score="INFINITY"/>
<rsc_location id="l" rsc="b" node="n1" score="-INFINITY"/>"#;
    let resources = primitive("a") + &primitive("b");
    let outcome = simulate(cluster(&no_fencing(), &resources, constraints, ["", ""], &[]), &[]);
    assert!(outcome.text.contains("a\t(ocf:pacemaker:Dummy):\t Started n2"), "{}", outcome.text);
    assert!(outcome.text.contains("b\t(ocf:pacemaker:Dummy):\t Started n2"), "{}", outcome.text);
}

#[test]
fn a_failed_stop_without_fencing_is_left_alone() {
    let failed = history("a", &[("start", 0, 0), ("stop", 1, 0)]);
    let outcome =
        simulate(cluster(&no_fencing(), &primitive("a"), "", [&*failed, &*probed("a")], &[]), &[]);
    assert_eq!(executed(&outcome), Vec::<String>::new());
    assert!(outcome.text.contains("FAILED n1 (blocked)"));
}

#[test]
fn members_of_a_group_start_in_order_and_the_operation_that_fails_ends_it() {
    let group = format!(r#"<group id="g">{}{}</group>"#, primitive("a"), primitive("b"));
    let cib = cluster(&no_fencing(), &group, "", ["", ""], &[]);
    let outcome = simulate(cib, &["-F", "a_start_0@n1=1"]);
    let done = executed(&outcome);
    assert!(outcome.failed);
    assert!(done.iter().any(|l| l == "Resource action: a start on n1"));
    assert!(!done.iter().any(|l| l.starts_with("Resource action: b start")));
}

#[test]
fn a_clone_runs_on_every_node_and_instances_stay_where_they_are() {
    let clone = format!(r#"<clone id="c">{}</clone>"#, primitive("a"));
    let outcome =
        simulate(cluster(&no_fencing(), &clone, "", [&*probed("a"), &*runs("a")], &[]), &[]);
    let done = executed(&outcome);
    assert!(done.contains(&"Resource action: a start on n1".to_owned()), "{done:?}");
    assert!(outcome.text.contains("* Started: [ n1 n2 ]"));
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let bundle = r#"<bundle id="b"><rkt image="i"/></bundle>"#;
    let mut doc = Document::parse(cluster("", bundle, "", ["", ""], &[])).expect("it is XML");
    let Err(error) = schedule(&mut doc, now()) else { panic!("a container of rkt was accepted") };
    assert!(matches!(error, Error::Unsupported { what: "rkt containers", .. }), "{error}");
}

/// A primitive whose sets of meta-attributes are given.
fn with_meta(sets: &str) -> String {
    format!(r#"<primitive id="a" class="ocf" provider="pacemaker" type="Dummy">{sets}</primitive>"#)
}

fn role(set: &str, rules: &str, role: &str) -> String {
    format!(
        r#"<meta_attributes id="{set}">{rules}<nvpair id="{set}-r" name="target-role" value="{role}"/></meta_attributes>"#
    )
}

fn starts_with(sets: &str, clock: Moment) -> bool {
    let cib = cluster(&no_fencing(), &with_meta(sets), "", [&*probed("a"), &*probed("a")], &[]);
    let request = Request::parse(["-x", "-", "-S"].map(str::to_owned)).expect("known options");
    let outcome = simulate::run(cib, &request, clock).expect("the cluster can be scheduled");
    executed(&outcome).contains(&"Resource action: a start on n1".to_owned())
}

#[test]
fn of_two_sets_that_weigh_the_same_the_last_counts() {
    let sets = [role("x", "", "Started"), role("y", "", "Stopped")];
    assert!(!starts_with(&sets.concat(), now()));
    let sets = [role("y", "", "Stopped"), role("x", "", "Started")];
    assert!(starts_with(&sets.concat(), now()));
}

#[test]
fn of_several_rules_of_a_set_one_that_holds_is_enough() {
    let rule = |id: &str, start: &str| {
        format!(
            r#"<rule id="{id}"><date_expression id="{id}-d" operation="gt" start="{start}"/></rule>"#
        )
    };
    let (past, future) = (rule("p", "2001-01-01"), rule("f", "2101-01-01"));
    assert!(!starts_with(&role("x", &(past + &future), "Stopped"), now()));
    assert!(starts_with(&role("x", &future, "Stopped"), now()));
}

#[test]
fn a_date_without_an_offset_is_local_time() {
    // 22:13:20 of 14 November 2023 in UTC: in local time, an hour to the east, 23:13:20.
    let rule = r#"<rule id="r"><date_expression id="d" operation="gt" start="2023-11-14 23:00:00"/></rule>"#;
    let east = Moment::from_epoch(now().epoch(), 3600).expect("a moment");
    assert!(starts_with(&role("x", rule, "Stopped"), now()));
    assert!(!starts_with(&role("x", rule, "Stopped"), east));
}

/// A primitive with the fence device that a cluster needs before it begins anything.
fn with_device(resources: &str) -> String {
    format!(r#"{resources}<primitive id="f" class="stonith" type="fence_x"/>"#)
}

fn no_device() -> String {
    device(&probed("f"))
}

#[test]
fn without_anything_to_fence_with_nothing_begins_and_nothing_moves() {
    let standby = |options: &str| {
        let ban = r#"<rsc_location id="l" rsc="b" node="n1" score="-INFINITY"/>"#;
        let status = [&*(probed("a") + &runs("b")), &*(probed("a") + &probed("b"))];
        let resources = primitive("a") + &primitive("b");
        executed(&simulate(cluster(options, &resources, ban, status, &[]), &[]))
    };
    assert_eq!(standby(""), Vec::<String>::new());
    assert!(standby(&no_fencing()).contains(&"Resource action: a start on n1".to_owned()));
    let watchdog = standby(&option("have-watchdog", "true"));
    assert!(watchdog.contains(&"Resource action: b start on n2".to_owned()), "{watchdog:?}");
}

#[test]
fn without_anything_to_fence_with_what_is_not_known_is_still_found_out() {
    let done = executed(&simulate(cluster("", &primitive("a"), "", ["", ""], &[]), &[]));
    assert_eq!(done, ["Resource action: a monitor on n1", "Resource action: a monitor on n2"]);
}

#[test]
fn a_lost_ticket_ends_what_needs_it_and_what_is_in_the_way_even_without_anything_to_fence_with() {
    let constraints = r#"<rsc_ticket id="t" rsc="a" ticket="T" loss-policy="stop"/>
<rsc_order id="x" first="a" then="b"/>"#;
    let resources = primitive("a") + &primitive("b") + &primitive("c");
    let status =
        [&*(runs("a") + &runs("b") + &runs("c")), &*(probed("a") + &probed("b") + &probed("c"))];
    let done = executed(&simulate(cluster("", &resources, constraints, status, &[]), &[]));
    assert_eq!(done, ["Resource action: b stop on n1", "Resource action: a stop on n1"]);
}

#[test]
fn a_fence_device_stops_with_all_resources() {
    let status = [&*device(&runs("f")), &*no_device()];
    let cib = cluster(&option("stop-all-resources", "true"), &with_device(""), "", status, &[]);
    assert_eq!(executed(&simulate(cib, &[])), ["Resource action: f stop on n1"]);
}

/// A history that ends with a start in flight.
fn starting(id: &str) -> String {
    let start = history(id, &[("start", 193, 0)]);
    start
        .replace(r#"op-status="0""#, r#"op-status="-1""#)
        .replace(r#"call-id="1""#, r#"call-id="-1""#)
}

#[test]
fn a_start_in_flight_is_asked_for_again_where_the_resource_stays_and_only_there() {
    let status = || [starting("a"), probed("a")];
    let run = |constraints: &str| {
        let [n1, n2] = status();
        let cib = cluster(&no_fencing(), &primitive("a"), constraints, [&n1, &n2], &[]);
        executed(&simulate(cib, &[]))
    };
    assert_eq!(run(""), ["Resource action: a start on n1"]);
    let away = run(r#"<rsc_location id="l" rsc="a" node="n1" score="-INFINITY"/>"#);
    assert_eq!(away, ["Resource action: a stop on n1", "Resource action: a start on n2"]);
}

#[test]
fn a_failure_that_is_ignored_bans_from_nowhere() {
    let op = r#"<operations><op id="s" name="stop" interval="0" on-fail="ignore"/></operations>"#;
    let resource = with_meta(op);
    let failed = history("a", &[("start", 0, 0), ("stop", 1, 0)]);
    let count = r#"</lrm_resources></lrm><transient_attributes id="1"><instance_attributes id="i">
<nvpair id="fc" name="fail-count-a#stop_0" value="INFINITY"/></instance_attributes></transient_attributes></node_state>"#;
    let cib = cluster(&no_fencing(), &resource, "", [&*failed, &*probed("a")], &[]);
    let cib = cib.replacen("</lrm_resources></lrm></node_state>", count, 1);
    assert_eq!(executed(&simulate(cib, &[])), ["Resource action: a start on n1"]);
}

#[test]
fn what_comes_up_asks_nothing_to_go_down_for_a_stop_that_comes_first() {
    let order = r#"<rsc_order id="x" first="a" first-action="stop" then="b" then-action="start"/>"#;
    let resources = primitive("a") + &primitive("b");
    let status = [&*(probed("a") + &runs("b")), &*(probed("a") + &probed("b"))];
    let stay = r#"<rsc_location id="l" rsc="b" node="n1" score="100"/>"#;
    let cib = cluster(&no_fencing(), &resources, &format!("{order}{stay}"), status, &[]);
    assert_eq!(executed(&simulate(cib, &[])), ["Resource action: a start on n1"]);
}

#[test]
fn a_device_on_a_lost_node_is_not_restarted_where_it_runs_as_well() {
    let status = [&*device(&runs("f")), &*device(&runs("f"))];
    let done = executed(&simulate(cluster("", &with_device(""), "", status, &["n2"]), &[]));
    assert_eq!(done, ["Fencing n2 (reboot)"]);
}

#[test]
fn what_fencing_ends_is_not_held_by_a_dependent_that_nobody_manages() {
    let order = r#"<rsc_order id="x" first="a" then="b"/>"#;
    let unmanaged = primitive("b").replace(
        "/>",
        r#"><meta_attributes id="m"><nvpair id="m-1" name="is-managed" value="false"/></meta_attributes></primitive>"#,
    );
    let status =
        [&*(runs("a") + &probed("b") + &no_device()), &*(probed("a") + &runs("b") + &no_device())];
    let resources = with_device(&(primitive("a") + &unmanaged));
    let done = executed(&simulate(cluster("", &resources, order, status, &["n1"]), &[]));
    assert!(
        position(&done, "Fencing n1 (reboot)") < position(&done, "Resource action: a start on n2"),
        "{done:?}"
    );
}

fn unmanaged(id: &str) -> String {
    primitive(id).replace(
        "/>",
        &format!(r#"><meta_attributes id="{id}-m"><nvpair id="{id}-m1" name="is-managed" value="false"/></meta_attributes></primitive>"#),
    )
}

/// A resource whose failed stop is to be left as it is, and a history in which it failed.
fn stuck(id: &str) -> (String, String) {
    let op = r#"<operations><op id="s" name="stop" interval="0" on-fail="block"/></operations>"#;
    let resource = format!(
        r#"<primitive id="{id}" class="ocf" provider="pacemaker" type="Dummy">{op}</primitive>"#
    );
    (resource, history(id, &[("start", 0, 0), ("stop", 1, 0)]))
}

#[test]
fn a_dependent_that_is_stuck_holds_a_stop_and_one_that_nobody_manages_does_not() {
    let constraints = r#"<rsc_order id="x" first="a" then="b"/>
<rsc_location id="l" rsc="a" node="n1" score="-INFINITY"/>"#;
    let run = |dependent: &str, its: &str| {
        let status = [&*(runs("a") + its), &*(probed("a") + &probed("b"))];
        let resources = primitive("a") + dependent;
        executed(&simulate(cluster(&no_fencing(), &resources, constraints, status, &[]), &[]))
    };
    let (resource, failed) = stuck("b");
    assert_eq!(run(&resource, &failed), Vec::<String>::new());
    let done = run(&unmanaged("b"), &runs("b"));
    assert_eq!(done, ["Resource action: a stop on n1", "Resource action: a start on n2"]);
}

#[test]
fn what_starts_after_a_stop_does_not_start_while_the_stop_is_stuck() {
    let order = r#"<rsc_order id="x" first="a" first-action="stop" then="b" then-action="start"/>"#;
    let (resource, failed) = stuck("a");
    let run = |its: &str| {
        let status = [&*(its.to_owned() + &probed("b")), &*(probed("a") + &probed("b"))];
        let resources = resource.clone() + &primitive("b");
        executed(&simulate(cluster(&no_fencing(), &resources, order, status, &[]), &[]))
    };
    assert_eq!(run(&failed), Vec::<String>::new());
    assert_eq!(run(&runs("a")), ["Resource action: b start on n2"]);
}

#[test]
fn a_dependent_without_influence_has_a_say_only_where_the_primary_is_to_begin() {
    let constraints = r#"<rsc_colocation id="c" rsc="b" with-rsc="a" score="100" influence="false"/>
<rsc_location id="l" rsc="b" node="n2" score="50"/>"#;
    let run = |primary: &str, dependent: &str| {
        let status = [&*(primary.to_owned() + dependent), &*(probed("a") + &probed("b"))];
        let resources = primitive("a") + &primitive("b");
        executed(&simulate(cluster(&no_fencing(), &resources, constraints, status, &[]), &[]))
    };
    assert_eq!(run(&runs("a"), &probed("b")), ["Resource action: b start on n1"]);
    let begun = run(&probed("a"), &runs("b"));
    assert!(begun.contains(&"Resource action: a start on n2".to_owned()), "{begun:?}");
}

#[test]
fn of_two_places_that_are_wanted_alike_a_resource_that_runs_in_both_keeps_the_first() {
    // Another resource makes the first node the fuller one.
    let constraints = r#"<rsc_location id="f" rsc="first" node="n1" score="INFINITY"/>
<rsc_location id="l1" rsc="a" node="n1" score="5"/><rsc_location id="l2" rsc="a" node="n2" score="5"/>"#;
    let resources = primitive("first") + &primitive("a");
    let status = [&*(runs("first") + &runs("a")), &*(probed("first") + &runs("a"))];
    let done =
        executed(&simulate(cluster(&no_fencing(), &resources, constraints, status, &[]), &[]));
    assert!(done.contains(&"Resource action: a start on n1".to_owned()), "{done:?}");
}

#[test]
fn a_start_in_flight_is_the_newest_of_its_history() {
    // The probe before it ran with other parameters: that is over.
    let before = history("a", &[("monitor", 7, 7)])
        .replace("/></lrm_resource>", r#" op-digest="0123456789abcdef0123456789abcdef"/>"#);
    let start = starting("a");
    let at = start.find("<lrm_rsc_op").expect("it has an operation");
    let its = before + &start[at..];
    let cib = cluster(&no_fencing(), &primitive("a"), "", [&*its, &*probed("a")], &[]);
    assert_eq!(executed(&simulate(cib, &[])), ["Resource action: a start on n1"]);
}

#[test]
fn of_several_stops_the_last_waits_for_the_fencing_of_where_it_runs_as_well() {
    let resources = with_device(&primitive("a"));
    let here = runs("a") + &no_device();
    let cib = cluster("", &resources, "", [&here, &here], &["n1"]);
    let done = executed(&simulate(cib, &[]));
    let stop = position(&done, "Resource action: a stop on n2");
    assert!(position(&done, "Fencing n1 (reboot)") < stop, "{done:?}");
}
