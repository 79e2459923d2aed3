//! The real command plans, simulates and explains; and what it says of input that nobody should have to reckon with.

use std::time::Instant;

use super::support::tierce;
use tempfile::{TempDir, tempdir};

/// Two nodes; `web` and, with and after it, `db` run on n1 under ticket T.
fn cib(constraints: &str) -> String {
    let history = |rc: u8, task: &str| {
        let op = |id: &str| {
            format!(
                r#"<lrm_resource id="{id}" class="ocf" provider="pacemaker" type="Dummy"><lrm_rsc_op id="{id}_{task}_0" operation_key="{id}_{task}_0"
operation="{task}" interval="0" call-id="1" rc-code="{rc}" op-status="0" transition-key="1:1:{rc}:00000000-0000-0000-0000-000000000000"
transition-magic="0:{rc};1:1:{rc}:00000000-0000-0000-0000-000000000000"/></lrm_resource>"#
            )
        };
        op("web") + &op("db")
    };
    let (up, down) = (history(0, "start"), history(7, "monitor"));
    format!(
        r#"<cib validate-with="pacemaker-3.9" admin_epoch="0" epoch="7" num_updates="3" have-quorum="1" dc-uuid="1" execution-date="1700000000">
<configuration><crm_config><cluster_property_set id="o"><nvpair id="o-f" name="stonith-enabled" value="false"/></cluster_property_set></crm_config>
<nodes><node id="1" uname="n1"/><node id="2" uname="n2"/></nodes>
<resources><primitive id="web" class="ocf" provider="pacemaker" type="Dummy"/>
<primitive id="db" class="ocf" provider="pacemaker" type="Dummy"/></resources><constraints>
<rsc_ticket id="needs" rsc="web" ticket="T" loss-policy="stop"/>
<rsc_order id="after" first="web" then="db"/>
<rsc_colocation id="along" rsc="db" with-rsc="web" score="INFINITY"/>
{constraints}</constraints></configuration><status>
<node_state id="1" uname="n1" in_ccm="true" crmd="online" join="member" expected="member"><lrm id="1"><lrm_resources>{up}</lrm_resources></lrm></node_state>
<node_state id="2" uname="n2" in_ccm="true" crmd="online" join="member" expected="member"><lrm id="2"><lrm_resources>{down}</lrm_resources></lrm></node_state>
<tickets><ticket_state id="T" granted="true"/></tickets></status></cib>
"#
    )
}

struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempdir().unwrap())
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }
}

#[test]
fn a_plan_says_first_whether_anything_is_to_be_done() {
    let files = Files::new();
    let rest = files.file("rest.xml", &cib(""));
    assert!(tierce(&["plan", &rest, "--check"]).ok().out.starts_with("Nothing is to be done."));
    let away = r#"<rsc_location id="away" rsc="web" node="n1" score="-INFINITY"/>"#;
    let moved = files.file("moved.xml", &cib(away));
    let (dot, svg) = (files.path("g.dot"), files.path("g.svg"));
    let run = tierce(&["plan", &moved, "--dot", &dot, "--svg", &svg]).ok();
    assert!(run.out.contains("4 actions: move 2."), "{}", run.out);
    let step = |what: &str| run.out.find(what).unwrap_or_else(|| panic!("{what}: {}", run.out));
    assert!(step("stop db on n1") < step("stop web on n1"));
    assert!(step("start web on n2") < step("start db on n2"));
    assert!(std::fs::read_to_string(dot).unwrap().contains("digraph"));
    let drawn = tierce_cib::xml::Document::parse(std::fs::read_to_string(svg).unwrap()).unwrap();
    assert_eq!(drawn.root().name(), "svg");
    let checked = tierce(&["plan", &moved, "--check"]);
    assert_eq!(checked.code, 1);
    let json = tierce(&["plan", &moved, "-o", "json"]).ok().json();
    assert_eq!(json["changes"].as_array().unwrap().len(), 2);
    assert_eq!(json["steps"].as_array().unwrap().len(), 4);
}

#[test]
fn a_simulation_tells_of_events_in_words_and_of_what_would_be_then() {
    let files = Files::new();
    let cib = files.file("cib.xml", &cib(""));
    let run = tierce(&["simulate", &cib, "--what-if", "ticket T revoked"]).ok();
    assert!(run.out.contains("Revoking ticket T"), "{}", run.out);
    assert!(
        run.out.contains("  web: stopped\n") && run.out.contains("  db: stopped\n"),
        "{}",
        run.out
    );
    let json = tierce(&["simulate", &cib, "--what-if", "node n1 down", "-o", "json"]).ok().json();
    let after = json["after"]["resources"].as_array().unwrap();
    assert!(after.iter().all(|r| r["nodes"][0] == "n2"), "{json:#}");
    let twice =
        ["simulate", &cib, "--what-if", "node n1 down", "--what-if", "web start on n2 fails"];
    let run = tierce(&twice);
    assert_eq!(run.code, 1);
    assert!(run.out.contains("A step failed"), "{}", run.out);
    let none = tierce(&["simulate", &cib, "--what-if", "node n1 burns"]).failed(64);
    assert!(none.err.contains("is no event"), "{}", none.err);
    tierce(&["simulate", &cib, "--what-if", "node n9 down"]).failed(78);
}

#[test]
fn an_explanation_names_scores_constraints_and_what_decided() {
    let files = Files::new();
    let here = r#"<rsc_location id="likes" rsc="web" node="n2" score="50"/>"#;
    let cib = files.file("cib.xml", &cib(here));
    let run = tierce(&["cib", "explain", "web", &cib]).ok();
    for part in [
        "web is started on n1; it is to be started on n2",
        "+50",
        "location constraint likes",
        "a lower score",
    ] {
        assert!(run.out.contains(part), "{part}: {}", run.out);
    }
    let one = tierce(&["cib", "explain", "db", &cib, "--node", "n1"]).ok();
    assert!(one.out.contains("colocation along") && !one.out.contains("  n2: "), "{}", one.out);
    let json = tierce(&["cib", "explain", "db", &cib, "-o", "json"]).ok().json();
    let nodes = json["explained"][0]["nodes"].as_array().unwrap();
    assert!(nodes[0]["parts"].as_array().unwrap().iter().any(|p| p["constraint"] == "along"));
    tierce(&["cib", "explain", "wed", &cib]).failed(105);
    tierce(&["cib", "explain", "web", &cib, "--node", "n9"]).failed(105);
}

#[test]
fn bad_input_is_an_error_with_its_line_and_soon() {
    let files = Files::new();
    let whole = cib("");
    let order = |id: &str, first: &str, then: &str| {
        format!("<rsc_order id=\"{id}\" first=\"{first}\" then=\"{then}\"/>\n")
    };
    let looped = cib(&order("back", "db", "web")).replace("start", "stop");
    let cases = [
        ("cut", whole[..whole.len() / 2].to_owned()),
        ("reference", whole.replace("first=\"web\"", "first=\"wed\"")),
        ("loop", looped),
        ("nested", "<a>".repeat(100_000_000 / 3)),
        ("attribute", whole.replace("score=\"INFINITY\"", "score=\"many\"")),
    ];
    for (name, text) in cases {
        let file = files.file(name, &text);
        let begun = Instant::now();
        let run = tierce(&["crm-simulate", "-x", &file, "-S"]).failed(78);
        assert!(run.err.contains("line "), "{name}: {}", run.err);
        // A second on a machine of its own; here others work as well.
        assert!(begun.elapsed().as_secs() < 5, "{name} took {:?}", begun.elapsed());
        assert_eq!(tierce(&["plan", &file]).code, 78, "{name}");
    }
}

#[test]
fn a_plan_names_the_ticket_that_something_stops_for() {
    let files = Files::new();
    let text = cib("").replace(r#"granted="true""#, r#"granted="false""#);
    let lost = files.file("lost.xml", &text);
    let out = tierce(&["plan", &lost]).ok().out;
    let line = |what: &str| out.lines().find(|l| l.contains(what)).unwrap_or_default().to_owned();
    assert!(
        line("Stop ").contains("ticket T is not granted to this site (constraint needs)"),
        "{out}"
    );
    assert!(line("stop web").contains("ticket T"), "{out}");
    // What people know from crm_simulate stays as it is.
    let same = tierce(&["crm-simulate", "-S", "-x", &lost]).ok().out;
    assert!(same.contains("due to node availability") && !same.contains("ticket T is"), "{same}");
}
