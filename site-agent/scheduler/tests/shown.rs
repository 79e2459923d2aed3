//! What `-A`, `-c` and `-U` show, as the real crm_simulate does.

use tierce_cib::time::Moment;
use tierce_scheduler::simulate::{self, Request};

const CIB: &str = r#"<cib have-quorum="1" validate-with="pacemaker-3.9"><configuration><crm_config><cluster_property_set id="o">
<nvpair id="o-f" name="stonith-enabled" value="false"/><nvpair id="o-p" name="placement-strategy" value="utilization"/></cluster_property_set></crm_config>
<nodes><node id="1" uname="n1"><instance_attributes id="n1-a"><nvpair id="n1-x" name="rack" value="left"/><nvpair id="n1-s" name="standby" value="off"/></instance_attributes>
<utilization id="n1-u"><nvpair id="n1-m" name="memory" value="512"/><nvpair id="n1-c" name="cpu" value="2"/></utilization></node><node id="2" uname="n2"/></nodes>
<resources><primitive id="a" class="ocf" provider="pacemaker" type="Dummy"><meta_attributes id="a-m"><nvpair id="a-t" name="migration-threshold" value="3"/></meta_attributes>
<utilization id="a-u"><nvpair id="a-c" name="cpu" value="1"/></utilization></primitive></resources><constraints/></configuration><status>
<node_state id="1" uname="n1" in_ccm="true" crmd="online" join="member" expected="member"><transient_attributes id="1"><instance_attributes id="s-1">
<nvpair id="s-f" name="fail-count-a#monitor_10000" value="1"/><nvpair id="s-l" name="last-failure-a#monitor_10000" value="1666727868"/>
<nvpair id="s-p" name="pingd" value="7"/></instance_attributes></transient_attributes>
<lrm id="1"><lrm_resources><lrm_resource id="a" class="ocf" provider="pacemaker" type="Dummy"><lrm_rsc_op id="a_start_0" operation="start"
interval="0" call-id="1" rc-code="0" op-status="0" transition-key="1:1:0:x"/></lrm_resource></lrm_resources></lrm></node_state>
</status></cib>"#;

#[test]
fn attributes_failures_and_capacity_are_shown_when_they_are_asked_for() {
    let show = |options: &[&str]| {
        let words = ["-x", "-", "-R"].iter().chain(options).map(ToString::to_string);
        let request = Request::parse(words).expect("the options are known");
        let now = Moment::from_epoch(1_666_728_000, 0).expect("a moment");
        simulate::run(CIB.to_owned(), &request, now).expect("it is planned").text
    };
    let all = show(&["-A", "-c", "-U"]);
    for block in [
        "  * Node Attributes:\n    * Node: n1:\n      * pingd                           \t: 7         \n      * rack                            \t: left      \n\n",
        "  * Migration Summary:\n    * Node: n1:\n      * a: migration-threshold=3 fail-count=1 last-failure='Tue Oct 25 19:57:48 2022'\n",
        "Original: n1 capacity: cpu=2 memory=512\nOriginal: n2 capacity:\nRemaining: n1 capacity: cpu=1 memory=512\n",
    ] {
        assert!(all.contains(block), "{block}\n{all}");
    }
    let none = show(&[]);
    assert!(
        !none.contains("Attributes")
            && !none.contains("Summary:\n    *")
            && !none.contains("capacity"),
        "{none}"
    );
}
