//! Why a resource is where it is: the parts of a score add up to the score that decided, in every case there is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tierce_cib::time::Moment;
use tierce_cib::values::{self, INFINITY, add_scores};
use tierce_cib::xml::Document;
use tierce_scheduler::{Fate, NodeReason, Plan, Why, schedule};

/// The moment at which all is planned.
fn now() -> Moment {
    Moment::from_epoch(1_700_000_000, 0).expect("a moment")
}

/// What the parts add up to. A wish of another takes no node away that is wanted: it leaves 1. What is inside of a container has no
/// choice.
fn sum(node: &NodeReason) -> i32 {
    node.parts.iter().fold(0, |sum, part| {
        let left = matches!(part.why, Why::Wanted { .. }) && part.after == 1;
        let set = part.why == Why::Inside;
        assert!(left || set || add_scores(sum, part.score) == part.after, "{node:?}");
        part.after
    })
}

/// Scores as `-s` prints them, by resource and node.
fn printed(plan: &Plan<'_>) -> BTreeMap<(String, String), i32> {
    let mut found = BTreeMap::new();
    for line in plan.scores().lines() {
        let Some((head, score)) = line.rsplit_once(": ") else { continue };
        let Some((head, node)) = head.split_once(" allocation score on ") else { continue };
        let Some((_, resource)) = head.split_once(": ") else { continue };
        let score = values::score(score).expect("a score is a number");
        found.insert((resource.to_owned(), node.to_owned()), score);
    }
    found
}

/// Every score that decided is the sum of its parts, and the one that `-s` prints.
fn check(plan: &Plan<'_>, name: &str) {
    let printed = printed(plan);
    let mut times: BTreeMap<&str, u32> = BTreeMap::new();
    for resource in plan.resources() {
        *times.entry(resource).or_default() += 1;
    }
    // What is left of an earlier resource may have the name of one that is configured: a name alone does not tell them apart.
    for (resource, _) in times.into_iter().filter(|(_, times)| *times == 1) {
        let explained = plan.explain(resource).expect("it is a resource of the plan");
        for node in &explained.nodes {
            let place = format!("{name}: {resource} on {}: {:?}", node.node, node.parts);
            assert_eq!(sum(node), node.score, "{place}");
            if let Some(shown) = printed.get(&(resource.to_owned(), node.node.clone())) {
                assert_eq!(*shown, node.score, "{place}");
            }
            if node.fate == Fate::Chosen {
                assert_eq!(explained.assigned.as_deref(), Some(node.node.as_str()), "{place}");
            }
        }
    }
}

fn cases() -> Option<PathBuf> {
    let named = std::env::var_os("TIERCE_SCHEDULER_CASES").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/scheduler-cases");
    named.or(Some(beside)).map(|p| p.join("xml")).filter(|p| p.is_dir())
}

#[test]
fn the_parts_of_every_score_in_the_shared_cases_add_up_to_it() {
    let Some(folder) = cases() else {
        eprintln!("no cases: set TIERCE_SCHEDULER_CASES to compare");
        return;
    };
    let mut count = 0;
    for file in std::fs::read_dir(folder).expect("the folder is readable") {
        let file = file.expect("the folder is readable").path();
        let text = std::fs::read_to_string(&file).expect("a case is readable");
        let mut doc = Document::parse(text).expect("a case is XML");
        if let Ok(plan) = schedule(&mut doc, now()) {
            check(&plan, &file.display().to_string());
            count += 1;
        }
    }
    assert!(count > 400, "only {count} cases could be planned");
}

/// Two nodes, and what is given.
fn cluster(resources: &str, constraints: &str, history: [&str; 2], tickets: &str) -> Document {
    let state = |n: usize, history: &str| {
        format!(
            r#"<node_state id="{n}" uname="n{n}" in_ccm="true" crmd="online" join="member" expected="member">
<lrm id="{n}"><lrm_resources>{history}</lrm_resources></lrm></node_state>"#
        )
    };
    let (one, two) = (state(1, history[0]), state(2, history[1]));
    Document::parse(format!(
        r#"<cib have-quorum="1" validate-with="pacemaker-3.9"><configuration><crm_config><cluster_property_set id="o">
<nvpair id="o-f" name="stonith-enabled" value="false"/></cluster_property_set></crm_config>
<nodes><node id="1" uname="n1"/><node id="2" uname="n2"/></nodes><resources>{resources}</resources>
<constraints>{constraints}</constraints>
<rsc_defaults><meta_attributes id="d"><nvpair id="d-s" name="resource-stickiness" value="7"/></meta_attributes></rsc_defaults>
</configuration><status>{one}{two}<tickets>{tickets}</tickets></status></cib>"#
    ))
    .expect("it is XML")
}

fn primitive(id: &str) -> String {
    format!(r#"<primitive id="{id}" class="ocf" provider="pacemaker" type="Dummy"/>"#)
}

fn history(id: &str, task: &str, rc: i32) -> String {
    format!(
        r#"<lrm_resource id="{id}" class="ocf" provider="pacemaker" type="Dummy"><lrm_rsc_op id="{id}_{task}_0"
operation="{task}" interval="0" call-id="1" rc-code="{rc}" op-status="0" transition-key="1:1:{rc}:x"/></lrm_resource>"#
    )
}

#[test]
fn a_resource_that_stays_is_kept_by_stickiness_against_a_weaker_constraint() {
    let here = r#"<rsc_location id="there" rsc="a" node="n2" score="5"/>"#;
    let (up, down) = (history("a", "start", 0), history("a", "monitor", 7));
    let mut doc = cluster(&primitive("a"), here, [&up, &down], "");
    let why =
        schedule(&mut doc, now()).expect("it can be planned").explain("a").expect("it is there");
    assert_eq!(why.assigned.as_deref(), Some("n1"));
    assert_eq!(why.nodes[0].parts[0].why, Why::Stickiness);
    assert_eq!(why.nodes[1].parts[0].why, Why::Location { id: "there".into() });
    assert_eq!(why.nodes[1].fate, Fate::Lost("a lower score"));
}

#[test]
fn a_missing_ticket_is_named_with_its_constraint_and_the_action_with_the_order_that_asks_for_it() {
    let constraints = r#"<rsc_ticket id="needs" rsc="a" ticket="T" loss-policy="stop"/>
<rsc_order id="first" first="a" then="b"/>"#;
    let up = history("a", "start", 0) + &history("b", "start", 0);
    let down = history("a", "monitor", 7) + &history("b", "monitor", 7);
    let resources = primitive("a") + &primitive("b");
    let mut doc = cluster(&resources, constraints, [&up, &down], "");
    let plan = schedule(&mut doc, now()).expect("it can be planned");
    let a = plan.explain("a").expect("it is there");
    assert_eq!(a.assigned, None);
    let ticket = Why::Ticket { id: "needs".into(), ticket: "T".into(), standby: false };
    assert!(a.nodes.iter().all(|n| n.parts.iter().any(|p| p.why == ticket)), "{a:#?}");
    let b = plan.explain("b").expect("it is there");
    let stop = b.actions.iter().find(|x| x.key == "b_stop_0").expect("it stops");
    assert_eq!(stop.constraint.as_deref(), Some("first"));
    assert!(stop.by.as_deref().is_some_and(|by| by.starts_with("a_")), "{stop:?}");
}

#[test]
fn what_is_colocated_says_with_whom_and_by_which_constraint() {
    let constraints = r#"<rsc_colocation id="with" rsc="b" with-rsc="a" score="INFINITY"/>
<rsc_location id="l" rsc="a" node="n2" score="5"/>"#;
    let mut doc = cluster(&(primitive("a") + &primitive("b")), constraints, ["", ""], "");
    let why =
        schedule(&mut doc, now()).expect("it can be planned").explain("b").expect("it is there");
    assert_eq!(why.assigned.as_deref(), Some("n2"));
    let with = Why::With { id: "with".into(), resource: "a".into() };
    assert!(why.nodes[0].parts.iter().any(|p| p.why == with && p.score == -INFINITY), "{why:#?}");
    assert_eq!(why.nodes[0].fate, Fate::Banned);
}

#[test]
fn an_instance_says_why_it_is_not_promoted() {
    let clone = |constraints: &str| {
        let resources = format!(
            r#"<clone id="c"><meta_attributes id="c-m"><nvpair id="c-p" name="promotable" value="true"/></meta_attributes>{}</clone>"#,
            primitive("a")
        );
        cluster(
            &resources,
            constraints,
            ["", ""],
            r#"<ticket_state id="S" granted="true" standby="true"/>"#,
        )
    };
    let why = |mut doc: Document| {
        let plan = schedule(&mut doc, now()).expect("it can be planned");
        let all: Vec<_> = plan.parts("c").iter().filter_map(|p| plan.explain(p)).collect();
        all.iter().filter_map(|e| e.promotion.map(|(_, why)| why)).collect::<Vec<_>>()
    };
    assert_eq!(why(clone("")), ["not promoted: its promotion score is below zero"; 2]);
    let wish = r##"<rsc_location id="l" rsc="c"><rule id="r" role="Promoted" score="100"><expression id="e" attribute="#uname" operation="eq" value="n1"/></rule></rsc_location>"##;
    assert_eq!(
        why(clone(wish)),
        ["it is promoted", "not promoted: others come first, and they are enough"]
    );
    let ticket = format!(r#"{wish}<rsc_ticket id="t" rsc="c" rsc-role="Promoted" ticket="S"/>"#);
    assert!(
        why(clone(&ticket)).contains(&"not promoted: its ticket is not granted, or on standby")
    );
}
