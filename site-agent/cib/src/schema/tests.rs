use super::*;

fn cib(validate: &str, resources: &str, constraints: &str) -> String {
    format!(
        "<cib validate-with='{validate}' admin_epoch='0' epoch='1' num_updates='0'>
<configuration><crm_config/><nodes/>
<resources>
{resources}
</resources>
<constraints>
{constraints}
</constraints></configuration><status><anything goes='1'>here</anything></status></cib>"
    )
}

fn problems(validate: &str, resources: &str, constraints: &str) -> Vec<String> {
    let doc = Document::parse(cib(validate, resources, constraints)).unwrap();
    let schema = Schema::declared(&doc).unwrap();
    schema.check(&doc).iter().map(ToString::to_string).collect()
}

const DUMMY: &str = "<primitive id='a' class='ocf' provider='pacemaker' type='Dummy'/>";

#[test]
fn the_rules_of_all_versions_are_read() {
    for minor in 0..=10 {
        assert!(problems(&format!("pacemaker-3.{minor}"), DUMMY, "").is_empty());
    }
    assert!(problems("pacemaker-4.0", DUMMY, "").is_empty());
}

#[test]
fn all_mistakes_are_told_with_line_and_what_is_allowed() {
    let found = problems(
        "pacemaker-3.7",
        "<primitive id='a' clas='ocf' provider='pacemaker' type='Dummy'/>
<group id='g'/>
<clone id='c'><primitive id='a' class='lsb' type='x'/><primitive id='b' class='lsb' type='x'/></clone>
<primitive id='7' class='ocf' provider='p' type='t'><operation/><operations>text</operations></primitive>",
        "<rsc_location id='l' rsc='a' node='n'/>
<rsc_order id='o' first='a' then='b' kind='mandatory'/>",
    );
    for part in [
        "line 4: <primitive id=\"a\">: unknown attribute clas (did you mean class?)",
        "line 4: <primitive id=\"a\">: attribute class is missing",
        "line 5: <group id=\"g\">: <primitive> is missing in it",
        "line 6: <primitive id=\"b\">: one <primitive> too many in <clone id=\"c\">",
        "line 6: <primitive id=\"a\">: id \"a\" is taken by",
        "line 7: <primitive id=\"7\">: id=\"7\" is not allowed",
        "line 7: <operation>: <operation> is not allowed in <primitive id=\"7\"> (did you mean operations?)",
        "line 7: <operations>: there is text in it",
        "line 10: <rsc_location id=\"l\">: attribute score is missing",
        "line 11: <rsc_order id=\"o\">: kind=\"mandatory\" is not allowed (allowed: Optional, Mandatory, Serialize)",
    ] {
        assert!(found.iter().any(|problem| problem.starts_with(part)), "{part}\n{found:#?}");
    }
}

#[test]
fn versions_differ_in_what_they_allow() {
    let bundle = "<bundle id='b'><podman image='i'/></bundle>";
    assert_eq!(problems("pacemaker-3.1", bundle, "").len(), 2);
    assert!(problems("pacemaker-3.2", bundle, "").is_empty());
    let master = "<master id='m'><primitive id='a' class='lsb' type='x'/></master>";
    assert!(problems("pacemaker-3.10", master, "").is_empty());
    assert!(!problems("pacemaker-4.0", master, "").is_empty());
    let role = "<rsc_ticket id='t' rsc='a' rsc-role='Promoted' ticket='T'/>";
    assert!(!problems("pacemaker-3.6", DUMMY, role).is_empty());
    assert!(problems("pacemaker-3.7", DUMMY, role).is_empty());
}

#[test]
fn other_schemas_are_refused_by_name() {
    let declared = |validate: &str| {
        let doc = Document::parse(cib(validate, "", "")).unwrap();
        Schema::declared(&doc).map_err(|error| error.to_string())
    };
    assert!(declared("pacemaker-2.10").unwrap_err().contains("tierce cib upgrade"));
    assert!(declared("pacemaker-5.0").unwrap_err().contains("pacemaker-4.0"));
    assert!(declared("none").unwrap_err().contains("turns the check off"));
    let doc = Document::parse("<cibb/>").unwrap();
    assert_eq!(Schema::declared(&doc), Err(SchemaError::NoCib("cibb".to_owned())));
}

#[test]
fn an_old_configuration_is_raised_if_nothing_in_it_has_another_name_now() {
    let raise = |resources: &str| {
        let doc = Document::parse(cib("pacemaker-2.10", resources, "")).unwrap();
        upgrade(&doc)
    };
    let upgraded = raise(DUMMY).unwrap();
    assert_eq!(Schema::declared(&upgraded), Ok(Schema::OLDEST));
    let old = "<primitive id='f' class='stonith' type='t'><instance_attributes id='i'>
        <nvpair id='n' name='pcmk_arg_map' value='x'/></instance_attributes></primitive>";
    let problems = raise(old).unwrap_err();
    assert!(problems[0].what.contains("pcmk_arg_map"), "{problems:?}");
}
