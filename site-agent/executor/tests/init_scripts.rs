//! Init scripts: a stateful one, and the codes scripts use.
#![allow(clippy::unwrap_used)] // a test may

mod common;

use common::node;
use tierce_executor::{Action, Context, ResourceSpec, Status};

const STATEFUL: &str = r#"
echo "$1" >> $dir/calls
case $1 in
    start) touch $dir/up ;;
    stop) rm -f $dir/up ;;
    status) [ -e $dir/up ] || { echo "stateful is stopped"; exit 3; } ;;
    *) exit 2 ;;
esac
exit 0
"#;

#[tokio::test]
async fn a_stateful_script_lives_and_dies() {
    let node = node();
    node.init_script("stateful", STATEFUL);
    for class in ["lsb", "service"] {
        let spec = ResourceSpec::new("s", &format!("{class}:stateful")).unwrap();
        for (action, status) in [
            (Action::Monitor, Status::NotRunning),
            (Action::Start, Status::Ok),
            (Action::Monitor, Status::Ok),
            (Action::Start, Status::Ok),
            (Action::Stop, Status::Ok),
            (Action::Stop, Status::Ok),
            (Action::Monitor, Status::NotRunning),
        ] {
            let outcome = node.executor.run(&spec, action, &Context::default()).await;
            assert_eq!(outcome.status, status, "{class} {action}: {outcome:?}");
        }
    }
    let calls = std::fs::read_to_string(node.path("calls")).unwrap();
    assert!(calls.starts_with("status\nstart\nstatus\n"), "{calls}");
}

#[tokio::test]
async fn the_codes_of_status_and_of_actions_are_told_apart() {
    let node = node();
    node.init_script("codes", "exit $CODE");
    let spec = ResourceSpec::new("c", "lsb:codes").unwrap();
    for (action, code, status) in [
        (Action::Monitor, 1, Status::NotRunning),
        (Action::Monitor, 2, Status::NotRunning),
        (Action::Monitor, 3, Status::NotRunning),
        (Action::Monitor, 4, Status::Error),
        (Action::Start, 3, Status::Unimplemented),
        (Action::Start, 4, Status::InsufficientPermissions),
        (Action::Start, 5, Status::NotInstalled),
        (Action::Stop, 6, Status::NotConfigured),
        (Action::Stop, 150, Status::Error),
    ] {
        let mut context = Context::default();
        context.env.insert("CODE".into(), code.to_string());
        let outcome = node.executor.run(&spec, action, &context).await;
        assert_eq!(outcome.status, status, "{action} with {code}: {outcome:?}");
    }
}

#[tokio::test]
async fn what_init_scripts_do_not_have_is_unimplemented() {
    let node = node();
    node.init_script("plain", "exit 0");
    let spec = ResourceSpec::new("p", "lsb:plain").unwrap();
    for action in [Action::MetaData, Action::ValidateAll] {
        let outcome = node.executor.run(&spec, action, &Context::default()).await;
        assert_eq!(outcome.status, Status::Unimplemented, "{outcome:?}");
    }
    let missing = ResourceSpec::new("m", "lsb:missing").unwrap();
    let outcome = node.executor.run(&missing, Action::Start, &Context::default()).await;
    assert_eq!(outcome.status, Status::NotInstalled);
}
