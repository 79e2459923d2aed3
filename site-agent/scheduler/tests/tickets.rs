//! A ticket is lost, in the cases that Pacemaker's suite has no words for: docs/scheduler.md, "When a ticket is lost".

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use tierce_cib::time::Moment;
use tierce_cib::xml::Document;
use tierce_scheduler::simulate::{self, Request};
use tierce_scheduler::{Plan, Prepared, Release, Step, schedule};

/// The moment at which all is planned.
fn now() -> Moment {
    Moment::from_epoch(1_700_000_000, 0).expect("a moment")
}

/// A site of two nodes on which `a` and, by order after it, `b` run under ticket T; `other` is nobody's.
#[derive(Clone)]
struct Site {
    quorum: bool,
    options: Vec<(&'static str, &'static str)>,
    policy: &'static str,
    /// Further operations in the history: resource, task, return code, status; -1 is in flight.
    more: Vec<(&'static str, &'static str, i32, i32)>,
    device: bool,
    maintained: bool,
    /// Whether the node that runs all of it is there.
    there: bool,
}

impl Site {
    fn new() -> Self {
        Self {
            quorum: true,
            options: Vec::new(),
            policy: "stop",
            more: Vec::new(),
            device: true,
            maintained: false,
            there: true,
        }
    }

    fn option(mut self, name: &'static str, value: &'static str) -> Self {
        self.options.push((name, value));
        self
    }

    fn policy(mut self, policy: &'static str) -> Self {
        self.policy = policy;
        self
    }

    fn op(mut self, rsc: &'static str, task: &'static str, rc: i32, status: i32) -> Self {
        self.more.push((rsc, task, rc, status));
        self
    }

    fn history(&self, node: usize) -> String {
        let mut text = String::new();
        for (id, agent) in [("a", OCF), ("b", OCF), ("other", OCF), ("f", DEVICE)] {
            if id == "f" && !self.device {
                continue;
            }
            let runs = if id == "f" { node == 2 } else { node == 1 };
            let _ = write!(text, r#"<lrm_resource id="{id}" {agent}>"#);
            let mut ops = vec![if runs { ("start", 0, 0) } else { ("monitor", 7, 0) }];
            if node == 1 {
                let own = self.more.iter().filter(|m| m.0 == id);
                ops.extend(own.map(|(_, task, rc, status)| (*task, *rc, *status)));
            }
            for (call, (task, rc, status)) in ops.into_iter().enumerate() {
                let wanted = if task == "monitor" { 7 } else { 0 };
                let call = if status == -1 { "-1".to_owned() } else { (call + 1).to_string() };
                let _ = write!(
                    text,
                    r#"<lrm_rsc_op id="{id}_{task}_0" operation="{task}" interval="0" call-id="{call}" rc-code="{rc}"
op-status="{status}" transition-key="1:1:{wanted}:x"/>"#
                );
            }
            text += "</lrm_resource>";
        }
        text
    }

    fn text(&self, granted: bool) -> String {
        let mut options = String::new();
        for (k, v) in &self.options {
            let _ = write!(options, r#"<nvpair id="o-{k}" name="{k}" value="{v}"/>"#);
        }
        let primitive = |id: &str| {
            let kept = if self.maintained && id != "other" {
                format!(
                    r#"<meta_attributes id="{id}-m"><nvpair id="{id}-x" name="maintenance" value="true"/></meta_attributes>"#
                )
            } else {
                String::new()
            };
            format!(r#"<primitive id="{id}" {OCF}>{kept}</primitive>"#)
        };
        let device =
            if self.device { format!(r#"<primitive id="f" {DEVICE}/>"#) } else { String::new() };
        let (member, process) = if self.there { ("true", "online") } else { ("false", "offline") };
        format!(
            r#"<cib have-quorum="{}" dc-uuid="2" validate-with="pacemaker-3.9" admin_epoch="0" epoch="1" num_updates="0"><configuration><crm_config>
<cluster_property_set id="o">{options}</cluster_property_set></crm_config>
<nodes><node id="1" uname="n1"/><node id="2" uname="n2"/></nodes>
<resources>{}{}{}{device}</resources><constraints>
<rsc_ticket id="ta" rsc="a" ticket="T" loss-policy="{}"/><rsc_ticket id="tb" rsc="b" ticket="T" loss-policy="{}"/>
<rsc_order id="x" first="a" then="b"/></constraints></configuration><status>
<node_state id="1" uname="n1" in_ccm="{member}" crmd="{process}" join="member" expected="member"><lrm id="1"><lrm_resources>{}</lrm_resources></lrm></node_state>
<node_state id="2" uname="n2" in_ccm="true" crmd="online" join="member" expected="member"><lrm id="2"><lrm_resources>{}</lrm_resources></lrm></node_state>
<tickets><ticket_state id="T" granted="{granted}" last-granted="1"/></tickets></status></cib>"#,
            u8::from(self.quorum),
            primitive("a"),
            primitive("b"),
            primitive("other"),
            self.policy,
            self.policy,
            self.history(1),
            self.history(2),
        )
    }

    /// What happens, in words, and what the loss comes to.
    fn lost(&self) -> (Vec<Step>, Release) {
        let mut doc = Document::parse(self.text(false)).expect("it is XML");
        let plan = schedule(&mut doc, now()).expect("it can be planned");
        (plan.steps(), plan.release("T"))
    }
}

const OCF: &str = r#"class="ocf" provider="pacemaker" type="Dummy""#;
const DEVICE: &str = r#"class="stonith" type="fence_x""#;

fn words(steps: &[Step]) -> Vec<&str> {
    steps.iter().map(|s| s.what.as_str()).collect()
}

fn released(steps: &[Step], release: &Release) -> Vec<String> {
    let wanted = steps.iter().filter(|s| release.steps.contains(&s.number));
    wanted.map(|s| s.what.clone()).collect()
}

fn remains(release: &Release) -> Vec<(&str, &str)> {
    release.remains.iter().map(|r| (r.resource.as_str(), r.why.as_str())).collect()
}

#[test]
fn at_rest_the_dependents_stop_in_their_order_and_nothing_remains() {
    let (steps, release) = Site::new().lost();
    assert_eq!(released(&steps, &release), ["stop b on n1", "stop a on n1"]);
    assert_eq!(remains(&release), []);
}

#[test]
fn without_quorum_the_dependents_stop_whatever_the_policy_for_quorum_is() {
    for policy in ["stop", "freeze", "ignore", "demote"] {
        let mut site = Site::new().option("no-quorum-policy", policy);
        site.quorum = false;
        let (steps, release) = site.lost();
        assert_eq!(released(&steps, &release), ["stop b on n1", "stop a on n1"], "{policy}");
        assert_eq!(remains(&release), [], "{policy}");
    }
}

#[test]
fn without_quorum_a_member_is_fenced_for_its_ticket_and_one_that_has_left_remains() {
    let mut site = Site::new().policy("fence");
    site.quorum = false;
    let (steps, release) = site.lost();
    let fenced = released(&steps, &release);
    assert!(fenced.contains(&"fence n1 (reboot)".to_owned()), "{fenced:?}");
    assert_eq!(remains(&release), []);
    site.there = false;
    let (steps, release) = site.lost();
    assert!(!words(&steps).iter().any(|w| w.starts_with("fence")), "{steps:#?}");
    let left: Vec<&str> = release.remains.iter().map(|r| r.resource.as_str()).collect();
    assert_eq!(left, ["a", "b"]);
}

#[test]
fn a_failed_stop_is_fenced_where_that_can_be_done() {
    let (steps, release) = Site::new().op("b", "stop", 1, 0).lost();
    let done = released(&steps, &release);
    let fence = done.iter().position(|w| w == "fence n1 (reboot)").expect("n1 is fenced");
    let stop = done.iter().position(|w| w == "stop a on n1").expect("a counts as stopped then");
    assert!(fence < stop, "{done:?}");
    assert_eq!(remains(&release), []);
}

#[test]
fn a_failed_stop_without_fencing_remains_and_is_named() {
    let (steps, release) =
        Site::new().option("fencing-enabled", "false").op("b", "stop", 1, 0).lost();
    assert!(!words(&steps).contains(&"stop b on n1"), "{steps:#?}");
    assert!(
        remains(&release).contains(&("b", "its stop failed, and it is blocked")),
        "{release:?}"
    );
}

#[test]
fn an_operation_in_flight_elsewhere_is_no_part_of_the_release() {
    let site = Site::new().op("other", "monitor", 193, -1);
    let (steps, release) = site.lost();
    assert_eq!(released(&steps, &release), ["stop b on n1", "stop a on n1"]);
    let first = steps.iter().find(|s| s.what == "stop b on n1").expect("it stops");
    assert_eq!(first.after, Vec::<usize>::new(), "nothing is waited for");
    assert_eq!(remains(&release), []);
}

#[test]
fn a_start_in_flight_under_the_ticket_is_followed_by_its_stop() {
    let (steps, release) = Site::new().op("b", "stop", 0, 0).op("b", "start", 193, -1).lost();
    assert_eq!(released(&steps, &release), ["stop b on n1", "stop a on n1"]);
    assert_eq!(remains(&release), []);
    assert!(!words(&steps).iter().any(|w| w.starts_with("start b")), "{steps:#?}");
}

#[test]
fn without_a_fencing_device_the_dependents_stop_all_the_same() {
    let mut site = Site::new();
    site.device = false;
    let (steps, release) = site.lost();
    assert_eq!(released(&steps, &release), ["stop b on n1", "stop a on n1"]);
    assert_eq!(remains(&release), []);
}

#[test]
fn what_is_in_maintenance_is_not_touched_and_is_named_as_what_remains() {
    let mut site = Site::new();
    site.maintained = true;
    let (steps, release) = site.lost();
    assert!(!words(&steps).iter().any(|w| w.starts_with("stop a") || w.starts_with("stop b")));
    assert_eq!(release.steps, Vec::<usize>::new());
    let why = "it is in maintenance";
    assert_eq!(remains(&release), [("a", why), ("b", why)]);
    let (_, release) = Site::new().option("maintenance-mode", "true").lost();
    assert_eq!(remains(&release), [("a", why), ("b", why)]);
}

#[test]
fn what_an_unmanaged_member_of_its_group_stands_on_is_named_as_what_remains() {
    let unmanaged = r#"<meta_attributes id="b-m"><nvpair id="b-x" name="is-managed" value="false"/></meta_attributes>"#;
    let (head, rest) = Site::new().text(false).split_once("<resources>").map(own).expect("both");
    let (_, tail) = rest.split_once("</constraints>").map(own).expect("constraints");
    let group = format!(
        r#"<group id="g"><primitive id="a" {OCF}/><primitive id="b" {OCF}>{unmanaged}</primitive></group>"#
    );
    let ticket = r#"<rsc_ticket id="tg" rsc="g" ticket="T" loss-policy="stop"/>"#;
    let text =
        format!("{head}<resources>{group}</resources><constraints>{ticket}</constraints>{tail}");
    let text = text
        .replace(r#"id="o">"#, r#"id="o"><nvpair id="n" name="stonith-enabled" value="false"/>"#);
    let mut doc = Document::parse(text).expect("it is XML");
    let plan = schedule(&mut doc, now()).expect("it can be planned");
    let release = plan.release("T");
    assert!(
        !words(&plan.steps()).iter().any(|w| w.starts_with("stop a") || w.starts_with("stop b"))
    );
    assert_eq!(release.steps, Vec::<usize>::new());
    let held = "it can not be stopped: node availability";
    assert_eq!(remains(&release), [("a", held), ("b", "it is not managed")]);
}

fn own((a, b): (&str, &str)) -> (String, String) {
    (a.to_owned(), b.to_owned())
}

#[test]
fn what_is_frozen_by_its_loss_policy_is_named_as_what_remains() {
    let (_, release) = Site::new().policy("freeze").lost();
    let why = "it is blocked, or frozen by its loss-policy";
    assert_eq!(remains(&release), [("a", why), ("b", why)]);
}

fn cases() -> Option<PathBuf> {
    let named = std::env::var_os("TIERCE_SCHEDULER_CASES").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/scheduler-cases");
    named.or(Some(beside)).map(|p| p.join("xml")).filter(|p| p.is_dir())
}

fn tickets(doc: &Document) -> Vec<String> {
    let mut found: Vec<String> = doc
        .root()
        .descendants()
        .filter(|e| e.name() == "rsc_ticket")
        .filter_map(|e| e.attr("ticket").map(str::to_owned))
        .collect();
    found.sort();
    found.dedup();
    found
}

/// Planning again after a change of a ticket gives the bytes that a pass over the changed CIB gives.
fn the_same_either_way(text: &str, name: &str) -> usize {
    let doc = Document::parse(text).expect("it is XML");
    let mut kept = doc.clone();
    let Ok(mut prepared) = Prepared::read(&mut kept, now()) else { return 0 };
    let mut count = 0;
    for ticket in tickets(&doc) {
        for (option, granted, standby) in [
            ("--ticket-revoke", Some(false), None),
            ("--ticket-grant", Some(true), None),
            ("--ticket-standby", None, Some(true)),
            ("--ticket-activate", None, Some(false)),
        ] {
            let state = doc
                .root()
                .descendants()
                .find(|e| e.name() == "ticket_state" && e.id() == Some(&ticket));
            let is = |word: &str| state.and_then(|s| s.attr(word)) == Some("true");
            let (was_granted, was_standby) = (is("granted"), is("standby"));
            let words = ["-x", "-", "-R", "-G", "graph", option, &ticket].map(str::to_owned);
            let request = Request::parse(words).expect("the options are known");
            let full = simulate::run(text.to_owned(), &request, now()).expect("it can be planned");
            prepared.set_ticket(
                &ticket,
                granted.unwrap_or(was_granted),
                standby.unwrap_or(was_standby),
            );
            // The moment of a CIB that names one is that one.
            if doc.root().attr("execution-date").is_none() {
                let plan = prepared.plan().expect("it can be planned");
                assert_eq!(plan.graph_xml(), full.graph, "{name}: {option} {ticket}");
                count += 1;
            }
            prepared.set_ticket(&ticket, was_granted, was_standby);
        }
    }
    count
}

#[test]
fn planning_again_after_a_change_of_a_ticket_is_a_pass_over_the_changed_cib() {
    let site = Site::new();
    assert_eq!(the_same_either_way(&site.text(true), "site"), 4);
    let Some(folder) = cases() else {
        eprintln!("no cases: set TIERCE_SCHEDULER_CASES to compare");
        return;
    };
    let mut count = 0;
    for file in std::fs::read_dir(folder).expect("the folder is readable") {
        let file = file.expect("the folder is readable").path();
        let text = std::fs::read_to_string(&file).expect("a case is readable");
        count += the_same_either_way(&text, &file.display().to_string());
    }
    assert!(count > 100, "only {count} changes were compared");
}

/// What a release may consist of: ends, and what is told of them. A start, a probe or a migration would keep a ticket longer than the
/// resource under it takes to stop.
fn only_ends(plan: &Plan<'_>, ticket: &str, name: &str) {
    let release = plan.release(ticket);
    for step in plan.steps().iter().filter(|s| release.steps.contains(&s.number)) {
        let ends = step.pseudo
            || matches!(
                step.task.as_str(),
                "stop" | "demote" | "stonith" | "notify" | "cancel" | "clear_failcount"
            );
        assert!(ends, "{name}: the release of {ticket} waits for: {}", step.what);
    }
}

#[test]
fn the_release_of_a_ticket_waits_for_nothing_but_ends() {
    let Some(folder) = cases() else {
        eprintln!("no cases: set TIERCE_SCHEDULER_CASES to compare");
        return;
    };
    for file in std::fs::read_dir(folder).expect("the folder is readable") {
        let file = file.expect("the folder is readable").path();
        let text = std::fs::read_to_string(&file).expect("a case is readable");
        let doc = Document::parse(text).expect("it is XML");
        let mut kept = doc.clone();
        let Ok(mut prepared) = Prepared::read(&mut kept, now()) else { continue };
        for ticket in tickets(&doc) {
            prepared.set_ticket(&ticket, false, false);
            let plan = prepared.plan().expect("it can be planned");
            only_ends(&plan, &ticket, &file.display().to_string());
        }
    }
}
