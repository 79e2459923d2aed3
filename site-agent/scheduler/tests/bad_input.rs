//! Input that nobody should have to reckon with: an error that names the place, or a plan; never a panic, and soon.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tierce_cib::time::Moment;
use tierce_cib::xml::{Document, Element, NodeId};
use tierce_scheduler::simulate::{self, Request};
use tierce_scheduler::{Error, schedule};

/// The moment at which all is planned.
fn now() -> Moment {
    Moment::from_epoch(1_700_000_000, 0).expect("a moment")
}

/// What nothing may take longer than: a second on a machine of its own, with room for one that is shared.
const SOON: Duration = Duration::from_secs(4);

/// A row of numbers that looks random, the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % sides.max(1)
    }
}

fn cases() -> Vec<PathBuf> {
    let named = std::env::var_os("TIERCE_SCHEDULER_CASES").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/scheduler-cases");
    let folder = named.unwrap_or(beside).join("xml");
    let Ok(list) = std::fs::read_dir(folder) else {
        eprintln!("no cases: set TIERCE_SCHEDULER_CASES to try them");
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = list.map(|f| f.expect("the folder is readable").path()).collect();
    files.sort();
    files
}

/// Does something beside, so that what never ends is told by its name.
fn soon<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || tell.send(work()));
    match told.recv_timeout(SOON) {
        Ok(result) => result,
        Err(e) => panic!("{what}: {e}"),
    }
}

fn play(text: String) -> Result<simulate::Outcome, Error> {
    let words = ["-x", "-", "-S", "-s", "-A", "-c", "-U", "-G", "g", "-D", "d"].map(str::to_owned);
    let request = Request::parse(words).expect("the options are known");
    simulate::run(text, &request, now())
}

#[test]
fn every_case_cut_anywhere_is_an_error_with_its_line() {
    let mut dice = Dice(1);
    for file in cases() {
        let text = std::fs::read_to_string(&file).expect("a case is readable");
        for _ in 0..3 {
            let end = text.trim_end().len();
            let cut = text.floor_char_boundary(dice.roll(end - 1));
            let name = format!("{} cut at {cut}", file.display());
            let cut_off = text[..cut].to_owned();
            match soon(&name, move || play(cut_off)) {
                Err(error @ Error::Xml(_)) => {
                    assert!(error.to_string().contains("line "), "{name}: {error}");
                }
                other => panic!("{name}: {:?}", other.map(|o| o.text)),
            }
        }
    }
}

const GARBAGE: [&str; 14] = [
    "",
    "-1",
    "99999999999999999999999",
    "-INFINITY",
    "INFINITY",
    "NaN",
    "true",
    "\u{feff}\u{202e}ü",
    "a:b:c;d",
    "%s%n",
    "(((((",
    "P99999999999Y",
    "#uname",
    "2147483648s",
];

#[test]
fn garbage_in_any_attribute_is_a_plan_or_an_error_never_a_panic() {
    let mut dice = Dice(2);
    for file in cases() {
        let text = std::fs::read_to_string(&file).expect("a case is readable");
        for round in 0..3 {
            let mut doc = Document::parse(text.clone()).expect("a case is XML");
            let mut done = String::new();
            for _ in 0..=round * 4 {
                let all: Vec<NodeId> = doc.root().descendants().map(Element::node_id).collect();
                let node = all[dice.roll(all.len())];
                let names: Vec<String> =
                    doc.element(node).attrs().map(|(name, _)| name.to_owned()).collect();
                if !names.is_empty() {
                    let name = &names[dice.roll(names.len())];
                    // Another's value means something where it stands, and is worse than nonsense.
                    let other = doc.element(all[dice.roll(all.len())]);
                    let stolen = other.attrs().next().map(|(_, v)| v.to_owned());
                    let value = match dice.roll(3) {
                        0 => stolen.unwrap_or_default(),
                        _ => GARBAGE[dice.roll(GARBAGE.len())].to_owned(),
                    };
                    let element = doc.element(node);
                    let (line, kind) = (element.line(), element.name());
                    let _ = write!(done, " line {line} {kind} {name}={value:?}");
                    doc.set(node, name, &value);
                }
            }
            let name = format!("{} with{done}", file.display());
            let _ = soon(&name, move || play(doc.write()));
        }
    }
}

/// A cluster of three nodes with as many primitives as asked for, and these constraints.
fn cluster(primitives: usize, constraints: &str) -> String {
    let mut text = String::from(
        r#"<cib have-quorum="1" validate-with="pacemaker-3.9"><configuration><crm_config><cluster_property_set id="o">
<nvpair id="o-f" name="stonith-enabled" value="false"/></cluster_property_set></crm_config>
<nodes><node id="1" uname="n1"/><node id="2" uname="n2"/><node id="3" uname="n3"/></nodes><resources>"#,
    );
    for i in 0..primitives {
        let _ =
            write!(text, r#"<primitive id="r{i}" class="ocf" provider="pacemaker" type="Dummy"/>"#);
    }
    let _ = write!(
        text,
        "</resources>\n<constraints>\n{constraints}</constraints></configuration><status>"
    );
    for n in 1..=3 {
        let _ = write!(
            text,
            r#"<node_state id="{n}" uname="n{n}" in_ccm="true" crmd="online" join="member" expected="member"/>"#
        );
    }
    text + "</status></cib>"
}

#[test]
fn orderings_that_wait_for_each_other_are_refused_with_their_lines() {
    let ring = |n: usize, more: &str| {
        let mut text = String::new();
        for i in 0..n {
            let _ = writeln!(
                text,
                "<rsc_order id=\"x{i}\" first=\"r{i}\" then=\"r{}\"{more}/>",
                (i + 1) % n
            );
        }
        cluster(n, &text)
    };
    for (n, more) in [(2, ""), (3, " kind=\"Optional\""), (3, " symmetrical=\"false\""), (500, "")]
    {
        let error =
            soon("a ring", move || play(ring(n, more))).expect_err("it is refused").to_string();
        assert!(error.contains("x0 (line 5)") && error.contains("x1 (line 6)"), "{error}");
    }
    // Those that must only not start at once do not wait for each other.
    assert!(play(ring(3, " kind=\"Serialize\"")).is_ok());
}

#[test]
fn colocations_in_a_ring_are_planned() {
    let mut text = String::new();
    for i in 0..200 {
        let with = (i + 1) % 200;
        let _ = writeln!(
            text,
            "<rsc_colocation id=\"c{i}\" rsc=\"r{i}\" with-rsc=\"r{with}\" score=\"INFINITY\"/>"
        );
    }
    let outcome = soon("a ring", move || play(cluster(200, &text))).expect("it is planned");
    let places: std::collections::BTreeSet<&str> = outcome
        .text
        .lines()
        .filter_map(|l| {
            l.split_once("Start      r")?.1.split_once('(')?.1.split_whitespace().next()
        })
        .collect();
    assert_eq!(places.len(), 1, "all are together: {places:?}");
}

#[test]
fn references_to_nothing_change_nothing() {
    let text = cluster(
        2,
        r#"<rsc_order id="x" first="none" then="r0"/><rsc_colocation id="c" rsc="r0" with-rsc="none" score="INFINITY"/>
<rsc_location id="l" rsc="none" node="n1" score="1"/><rsc_location id="m" rsc="r0" node="none" score="1"/>
<rsc_ticket id="t" rsc="none" ticket="T"/>"#,
    );
    let same = play(cluster(2, "")).expect("it is planned").graph;
    assert_eq!(play(text).expect("it is planned").graph, same);
}

#[test]
fn a_hundred_megabytes_of_nesting_end_at_the_limit_of_depth() {
    let text = "<a>".repeat(100_000_000 / 3);
    let error = soon("nesting", move || play(text)).expect_err("it is refused").to_string();
    assert!(error.contains("line 1") && error.contains("256"), "{error}");
}

#[test]
fn groups_that_name_each_other_by_reference_end() {
    let resources = r#"<tags><tag id="t"><obj_ref id="t"/><obj_ref id="u"/></tag><tag id="u"><obj_ref id="t"/></tag></tags>"#;
    let text = cluster(1, r#"<rsc_location id="l" rsc="t" node="n1" score="1"/>"#)
        .replace("</constraints>", &format!("</constraints>{resources}"));
    assert!(soon("tags", move || play(text)).is_ok());
}

#[test]
fn what_is_no_cib_is_said_to_be_none() {
    let mut doc = Document::parse("<html/>").expect("it is XML");
    let Err(error) = schedule(&mut doc, now()) else { panic!("it was planned") };
    assert!(error.to_string().contains("<html>"), "{error}");
}
