use super::*;
use crate::xml::Document;

fn holds_in(conditions: &str, at: &Situation<'_>) -> bool {
    let doc = Document::parse(format!("<rule id='r'>{conditions}</rule>")).unwrap();
    at.holds(doc.root(), &Ids::of(&doc))
}

fn at<'s>(now: &str) -> Situation<'s> {
    let zero = Moment::from_epoch(0, 0).unwrap();
    Situation { now: Moment::parse(now, zero), ..Situation::default() }
}

fn date(attributes: &str, inside: &str) -> bool {
    let text = format!("<date_expression id='d' {attributes}>{inside}</date_expression>");
    holds_in(&text, &at("2005-01-20 12:30:00Z"))
}

#[test]
fn a_range_includes_its_ends_and_the_others_do_not() {
    let now = "2005-01-20 12:30:00Z";
    assert!(!date(&format!("operation='gt' start='{now}'"), ""));
    assert!(date("operation='gt' start='2005-01-20 12:29:59Z'", ""));
    assert!(!date(&format!("operation='lt' end='{now}'"), ""));
    assert!(date("operation='lt' end='2005-01-20 12:30:01Z'", ""));
    assert!(date(&format!("operation='in_range' start='{now}' end='{now}'"), ""));
    assert!(date(&format!("start='{now}'"), ""), "in_range is the default");
    assert!(!date("operation='in_range' start='2005-02-01' end='2005-01-01'", ""));
    assert!(!date("operation='in_range'", ""));
}

#[test]
fn a_malformed_condition_never_holds() {
    for attributes in [
        "operation='gt' start='foo'",
        "operation='gt' end='2000-001'",
        "operation='in_range' start='foo' end='2006-001'",
        "operation='never' start='2000-001'",
    ] {
        assert!(!date(attributes, ""), "{attributes}");
    }
    assert!(!date("operation='date_spec'", "<date_spec hours='x'/>"));
    assert!(!date("operation='date_spec'", "<date_spec hours='-'/>"));
    assert!(!holds_in("<moon_expression/>", &at("2005-001")));
}

#[test]
fn a_duration_ends_a_range_unless_an_end_does() {
    assert!(date("start='2004-12-20 12:30:00Z'", "<duration months='1'/>"));
    assert!(!date("start='2004-12-20 12:29:59Z'", "<duration months='1'/>"));
    assert!(!date("start='2004-12-20' end='2004-12-25'", "<duration years='1'/>"));
    assert!(!date("start='2004-12-20'", "<duration minutes='x'/>"));
}

#[test]
fn a_date_spec_wants_all_its_fields() {
    let spec = |attributes: &str| {
        date("operation='date_spec' start='2030-001'", &format!("<date_spec {attributes}/>"))
    };
    for yes in [
        "",
        "hours='12'",
        "hours='11-12'",
        "hours='12-'",
        "hours='-12'",
        "weekdays='1-5'",
        "yeardays='20'",
        "weeks='3' weekyears='2005'",
        "months='1' monthdays='20'",
        "seconds='0'",
    ] {
        assert!(spec(yes), "{yes}");
    }
    for no in ["hours='13'", "hours='13-'", "hours='-11'", "hours='17-9'", "hours='12' months='2'"]
    {
        assert!(!spec(no), "{no}");
    }
}

#[test]
fn the_next_change_of_an_answer_is_noted() {
    let cases = [
        ("operation='gt' start='2005-01-20 12:30:00Z'", Some(1)),
        ("operation='lt' end='2005-01-20 13:00:00Z'", Some(1800)),
        ("start='2005-01-20 12:31:00Z'", Some(60)),
        ("start='2005-01-20 12:00:00Z' end='2005-01-20 12:31:00Z'", Some(61)),
        ("operation='gt' start='2005-01-20 12:00:00Z'", None),
    ];
    for (attributes, want) in cases {
        let next = Cell::new(None);
        let situation = Situation { next_change: Some(&next), ..at("2005-01-20 12:30:00Z") };
        holds_in(&format!("<date_expression id='d' {attributes}/>"), &situation);
        let base = situation.now.unwrap().epoch();
        assert_eq!(next.get().map(|at| at - base), want, "{attributes}");
    }
}

fn attribute(value: Option<&'static str>, expression: &str) -> bool {
    let node = |name: &str| value.filter(|_| name == "a");
    let meta = |name: &str| (name == "m").then_some("5");
    let situation = Situation { node: Some(&node), meta: Some(&meta), ..Situation::default() };
    holds_in(&format!("<expression id='e' attribute='a' {expression}/>"), &situation)
}

#[test]
fn values_are_compared_by_type() {
    for (value, expression) in [
        ("abc", "operation='eq' value='ABC'"),
        ("9", "operation='lt' value='10'"),
        ("10", "operation='lt' type='string' value='9'"),
        ("1.5", "operation='gt' value='1.25'"),
        ("1.5", "operation='gt' value='1'"),
        ("1.5", "operation='eq' type='integer' value='1.25'"),
        ("10x", "operation='eq' type='integer' value='10'"),
        ("1e1", "operation='eq' type='number' value='10'"),
        ("foo", "operation='gt' type='integer' value='10'"),
        ("1.10", "operation='gt' type='version' value='1.9'"),
        ("1.2", "operation='eq' type='version' value='1.2.0'"),
        ("1.2-1", "operation='lt' type='version' value='1.2'"),
        ("5", "operation='eq' value='m' value-source='meta'"),
        ("5", "operation='ne' value='q' value-source='meta'"),
        ("x", "operation='defined'"),
    ] {
        assert!(attribute(Some(value), expression), "{value} {expression}");
    }
    assert!(!attribute(Some("5"), "operation='eq'"));
    assert!(!attribute(Some("5"), "value='5'"), "an operation is needed");
}

#[test]
fn of_a_missing_attribute_only_ne_and_not_defined_hold() {
    for (holds, operation) in
        [(true, "ne"), (true, "not_defined"), (false, "eq"), (false, "lt"), (false, "gte")]
    {
        let expression = format!("operation='{operation}' value='1'");
        assert_eq!(attribute(None, &expression), holds, "{operation}");
    }
    let no_node = "<expression id='e' attribute='a' operation='ne' value='1'/>";
    assert!(!holds_in(no_node, &Situation::default()), "no node is no node without attributes");
}

#[test]
fn operations_and_agents_are_matched() {
    let agent = Agent { class: "ocf", provider: Some("heartbeat"), kind: "IPaddr2" };
    let operation = Operation { name: "monitor", interval_ms: 10_000 };
    let situation =
        Situation { agent: Some(agent), operation: Some(operation), ..Situation::default() };
    for (holds, text) in [
        (true, "<op_expression name='monitor'/>"),
        (true, "<op_expression name='monitor' interval='10s'/>"),
        (false, "<op_expression name='monitor' interval='11s'/>"),
        (false, "<op_expression interval='10s'/>"),
        (true, "<rsc_expression class='ocf' type='IPaddr2'/>"),
        (false, "<rsc_expression class='lsb'/>"),
        (true, "<rule boolean-op='or'><op_expression name='x'/><rsc_expression/></rule>"),
        (false, "<rule><op_expression name='x'/><rsc_expression/></rule>"),
    ] {
        assert_eq!(holds_in(text, &situation), holds, "{text}");
    }
}

#[test]
fn what_a_pattern_matched_is_filled_in() {
    let node = |name: &str| (name == "place-7").then_some("1");
    let captures = ["web-7", "7"];
    let situation = Situation { node: Some(&node), captures: &captures, ..Situation::default() };
    let text = "<expression id='e' attribute='place-%1' operation='defined'/>";
    assert!(holds_in(text, &situation));
    assert_eq!(situation.expand("%0/%2%x"), "web-7/%x");
}
