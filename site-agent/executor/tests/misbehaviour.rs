//! Agents that hang, flood, fork, hold on, or are not there.
#![allow(clippy::unwrap_used)] // a test may

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use common::{alive, eventually, node, node_with, within, zombies};
use tierce_executor::{Action, Context, Executor, ResourceSpec, Settings, Status, limits};

const SHORT: Duration = Duration::from_millis(400);

#[tokio::test]
async fn the_environment_is_made_and_not_inherited() {
    let node = node();
    let spec = node.agent("Env", "env; exit 0").with_param("ip", "192.0.2.7 with spaces");
    let mut context = Context { check_level: Some(10), ..Context::default() };
    context.env.insert("TIERCE_TICKET".into(), "web".into());
    context.env.insert("TIERCE_TERM".into(), "7".into());
    let outcome = node.executor.run(&spec, Action::Monitor, &context).await;
    assert_eq!((outcome.status, outcome.exit_code), (Status::Ok, Some(0)));
    let env: Vec<&str> = outcome.stdout.lines().collect();
    for expected in [
        "OCF_RESOURCE_INSTANCE=env",
        "OCF_RESOURCE_TYPE=Env",
        "OCF_RESOURCE_PROVIDER=test",
        "OCF_RESKEY_ip=192.0.2.7 with spaces",
        "OCF_RESKEY_CRM_meta_timeout=20000",
        "OCF_RESKEY_CRM_meta_interval=10000",
        "OCF_RESKEY_CRM_meta_name=monitor",
        "OCF_RESKEY_CRM_meta_on_node=node1",
        "OCF_CHECK_LEVEL=10",
        "OCF_RA_VERSION_MAJOR=1",
        "TIERCE_TICKET=web",
        "TIERCE_TERM=7",
        &format!("OCF_ROOT={}", node.path("ocf").display()),
        &format!("HA_RSCTMP={}", node.path("rsctmp").display()),
    ] {
        assert!(env.contains(&expected), "{expected} is not among {env:#?}");
    }
    assert!(!env.iter().any(|v| v.starts_with("CARGO")), "inherited: {env:#?}");
    let probe = Context { probe: true, ..Context::default() };
    let outcome = node.executor.run(&spec, Action::Monitor, &probe).await;
    assert!(outcome.stdout.contains("OCF_RESKEY_CRM_meta_interval=0\n"));
}

#[tokio::test]
async fn every_exit_code_has_its_meaning_and_a_crash_is_an_error() {
    let node = node();
    let spec =
        node.agent("Code", "[ $OCF_RESKEY_code = kill ] && kill -9 $$; exit $OCF_RESKEY_code");
    for (code, status) in [
        (0, Status::Ok),
        (1, Status::Error),
        (5, Status::NotInstalled),
        (7, Status::NotRunning),
        (8, Status::RunningPromoted),
        (190, Status::Degraded),
        (191, Status::DegradedPromoted),
        (42, Status::Error),
    ] {
        let spec = spec.clone().with_param("code", code.to_string());
        let outcome = node.executor.run(&spec, Action::Monitor, &Context::default()).await;
        assert_eq!((outcome.status, outcome.exit_code), (status, Some(code)));
    }
    let spec = spec.with_param("code", "kill");
    let outcome = node.executor.run(&spec, Action::Monitor, &Context::default()).await;
    assert_eq!((outcome.status, outcome.signal, outcome.exit_code), (Status::Error, Some(9), None));
}

#[tokio::test]
async fn a_hanging_agent_that_ignores_term_dies_with_its_whole_group_within_the_bound() {
    let node = node();
    let spec = node.agent(
        "Hang",
        "trap '' TERM\necho $$ >> $dir/pids\nfor i in 1 2 3; do\n  (trap '' TERM; while :; do sleep \
         1; done) & echo $! >> $dir/pids\ndone\necho waiting >&2\nwhile :; do sleep 1; done",
    );
    let start = Instant::now();
    let outcome = node.executor.run(&spec, Action::Start, &within(SHORT)).await;
    assert!(outcome.timed_out && !outcome.unkillable, "{outcome:?}");
    assert_eq!((outcome.status, outcome.signal), (Status::Error, Some(9)));
    assert!(start.elapsed() < SHORT + limits::TERM_GRACE + Duration::from_secs(5), "{outcome}");
    assert_eq!(outcome.stderr, "waiting\n");
    let pids = node.pids("pids");
    assert_eq!(pids.len(), 4);
    for pid in pids {
        eventually("the whole group is gone", || !alive(pid)).await;
    }
    assert_eq!(zombies(), [] as [i32; 0]);
}

#[tokio::test]
async fn a_leader_that_obeys_term_does_not_save_its_children_that_ignore_it() {
    let node = node();
    let spec = node.agent(
        "Parent",
        "(trap '' TERM; while :; do sleep 1; done) & echo $! > $dir/pids\n\
         trap 'exit 0' TERM\nwhile :; do sleep 0.05; done",
    );
    let outcome = node.executor.run(&spec, Action::Stop, &within(SHORT)).await;
    assert!(outcome.timed_out, "{outcome:?}");
    assert_eq!(outcome.status, Status::Error, "exit 0 after TERM is no success");
    let child = node.pids("pids")[0];
    eventually("the child is gone", || !alive(child)).await;
}

#[tokio::test]
async fn a_daemon_that_holds_stdout_delays_nothing_and_lives_on() {
    let node = node();
    let spec = node.agent(
        "Daemon",
        "case $1 in start) setsid sleep 600 & echo $! > $dir/pids; echo started;; esac; exit 0",
    );
    let start = Instant::now();
    let outcome = node.executor.run(&spec, Action::Start, &Context::default()).await;
    assert!(start.elapsed() < Duration::from_secs(5), "{outcome:?}");
    assert_eq!((outcome.status, outcome.stdout.as_str()), (Status::Ok, "started\n"));
    assert!(outcome.output_held);
    let pid = node.pids("pids")[0];
    assert!(alive(pid), "what a start started must not be killed");
    let pid = nix::unistd::Pid::from_raw(pid);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
}

#[tokio::test]
async fn a_child_in_the_agents_own_group_survives_a_start_but_not_a_monitor() {
    let node = node();
    let spec = node.agent("Left", "sleep 600 & echo $! > $dir/pids; exit 0");
    assert!(node.executor.run(&spec, Action::Monitor, &Context::default()).await.is_ok());
    let left = node.pids("pids")[0];
    eventually("a monitor leaves nothing behind", || !alive(left)).await;
    assert!(node.executor.run(&spec, Action::Start, &Context::default()).await.is_ok());
    let left = node.pids("pids")[0];
    assert!(alive(left));
    let left = nix::unistd::Pid::from_raw(left);
    nix::sys::signal::kill(left, nix::sys::signal::Signal::SIGKILL).unwrap();
}

#[tokio::test]
async fn a_flood_of_output_neither_blocks_the_agent_nor_fills_the_memory() {
    let node = node();
    let spec = node.agent(
        "Flood",
        "head -c 30000000 /dev/zero | tr '\\0' x; echo; head -c 30000000 /dev/zero | tr '\\0' y >&2\n\
         echo last words; echo last error >&2; exit 0",
    );
    let outcome = node.executor.run(&spec, Action::Monitor, &Context::default()).await;
    assert_eq!(outcome.status, Status::Ok, "{:?}", outcome.reason);
    for (text, end) in [(&outcome.stdout, "x\nlast words\n"), (&outcome.stderr, "ylast error\n")] {
        assert_eq!(text.len(), limits::MAX_OUTPUT_BYTES);
        assert!(text.ends_with(end), "{}", &text[text.len() - 40..]);
    }
}

#[tokio::test]
async fn an_endless_flood_still_ends_at_its_timeout() {
    let node = node();
    let spec = node.agent("Yes", "exec yes");
    let outcome = node.executor.run(&spec, Action::Monitor, &within(SHORT)).await;
    assert!(outcome.timed_out);
    assert!(outcome.duration < Duration::from_secs(5), "{:?}", outcome.duration);
    assert!(outcome.stdout.len() <= limits::MAX_OUTPUT_BYTES);
}

#[tokio::test]
async fn what_is_missing_or_not_executable_says_so() {
    let node = node();
    let missing = ResourceSpec::new("m", "ocf:test:Missing").unwrap();
    let outcome = node.executor.run(&missing, Action::Start, &Context::default()).await;
    assert_eq!(outcome.status, Status::NotInstalled, "{outcome}");
    assert!(outcome.reason.contains("resource.d/test/Missing"), "{outcome}");

    let spec = node.agent("Locked", "exit 0");
    let path = node.path("ocf/resource.d/test/Locked");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let outcome = node.executor.run(&spec, Action::Start, &Context::default()).await;
    assert_eq!(outcome.status, Status::InsufficientPermissions, "{outcome}");

    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(&path, "#!/no/such/interpreter\n").unwrap();
    let outcome = node.executor.run(&spec, Action::Start, &Context::default()).await;
    assert_eq!(outcome.status, Status::NotInstalled, "{outcome}");

    fs::write(&path, b"\x00\x01 not a program").unwrap();
    let outcome = node.executor.run(&spec, Action::Start, &Context::default()).await;
    assert_eq!(outcome.status, Status::Error, "{outcome}");

    let bad = spec.with_param("a=b", "c");
    let outcome = node.executor.run(&bad, Action::Start, &Context::default()).await;
    assert_eq!(outcome.status, Status::NotConfigured, "{outcome}");
    assert_eq!(zombies(), [] as [i32; 0]);
}

#[tokio::test]
async fn actions_of_one_resource_never_overlap_and_keep_their_order() {
    let node = node();
    let spec = node.agent(
        "Order",
        "mkdir $dir/lock || { echo overlap >> $dir/log; exit 1; }\nsleep 0.05\n\
         echo $OCF_RESKEY_n >> $dir/log; rmdir $dir/lock",
    );
    let runs = (0..8).map(|n| {
        let (executor, spec) = (node.executor.clone(), spec.clone().with_param("n", n.to_string()));
        async move { executor.run(&spec, Action::Start, &Context::default()).await }
    });
    let outcomes = futures_util::future::join_all(runs).await;
    assert!(outcomes.iter().all(tierce_executor::Outcome::is_ok), "{outcomes:?}");
    let log = fs::read_to_string(node.path("log")).unwrap();
    assert_eq!(log, "0\n1\n2\n3\n4\n5\n6\n7\n");
}

#[tokio::test]
async fn no_more_than_the_limit_run_at_once_but_a_stop_does_not_wait() {
    let node = node_with(|s| s.max_parallel = 2);
    let script = "[ $1 = stop ] && exit 0\nmkdir -p $dir/now; touch $dir/now/$$\n\
                  ls $dir/now | wc -l >> $dir/counts; sleep 0.4; rm $dir/now/$$";
    let specs: Vec<ResourceSpec> = (0..6).map(|n| node.agent(&format!("P{n}"), script)).collect();
    let context = Context::default();
    let starts = specs.iter().map(|s| node.executor.run(s, Action::Start, &context));
    let stop = async {
        let other = node.agent("Other", script);
        tokio::time::sleep(Duration::from_millis(100)).await;
        node.executor.run(&other, Action::Stop, &Context::default()).await;
        node.pids("counts").len()
    };
    let (outcomes, started_when_stopped) =
        futures_util::future::join(futures_util::future::join_all(starts), stop).await;
    assert!(outcomes.iter().all(tierce_executor::Outcome::is_ok), "{outcomes:?}");
    let counts = node.pids("counts");
    assert_eq!(counts.len(), 6);
    assert!(counts.iter().all(|n| *n <= 2), "{counts:?}");
    assert!(started_when_stopped < 6, "the stop waited for all the starts");
}

#[tokio::test]
async fn a_stop_interrupts_a_hanging_monitor_and_those_that_wait() {
    let node = node();
    let spec = node.agent("Mon", "[ $1 = stop ] && exit 0; touch $dir/monitoring; sleep 600");
    let monitor = || {
        let (executor, spec) = (node.executor.clone(), spec.clone());
        async move { executor.run(&spec, Action::Monitor, &Context::default()).await }
    };
    let monitors = tokio::spawn(futures_util::future::join(monitor(), monitor()));
    eventually("the monitor runs", || node.path("monitoring").exists()).await;
    let start = Instant::now();
    let stopped = node.executor.run(&spec, Action::Stop, &Context::default()).await;
    assert!(stopped.is_ok(), "{stopped}");
    assert!(start.elapsed() < Duration::from_secs(5));
    let (one, two) = monitors.await.unwrap();
    assert!(one.cancelled && two.cancelled, "{one:?} {two:?}");
    assert_ne!(one.status, Status::NotRunning, "an interrupted monitor knows nothing");
}

#[tokio::test]
async fn cancelling_ends_a_start_and_the_next_action_comes_after_its_end() {
    let node = node();
    let spec = node.agent(
        "Slow",
        "[ $1 = stop ] && exit 0\necho $$ > $dir/pids\ntrap 'sleep 0.3; exit 1' TERM\n\
         while :; do sleep 0.05; done",
    );
    let start = {
        let (executor, spec) = (node.executor.clone(), spec.clone());
        tokio::spawn(async move { executor.run(&spec, Action::Start, &Context::default()).await })
    };
    eventually("it runs", || !node.pids("pids").is_empty()).await;
    node.executor.cancel("slow");
    let stopped = node.executor.run(&spec, Action::Stop, &Context::default()).await;
    assert!(stopped.is_ok(), "what comes after a cancel is not cancelled: {stopped}");
    assert!(!alive(node.pids("pids")[0]), "the stop began while the start was still running");
    assert!(start.await.unwrap().cancelled);
}

#[tokio::test]
async fn dropping_the_future_ends_the_action_and_the_next_one_waits_for_that() {
    let node = node();
    let spec = node.agent("Drop", "[ $1 = stop ] && exit 0; echo $$ > $dir/pids; sleep 600");
    {
        let context = Context::default();
        let run = node.executor.run(&spec, Action::Start, &context);
        tokio::select! {
            _ = run => panic!("it cannot end"),
            () = eventually("it runs", || !node.pids("pids").is_empty()) => {}
        }
    }
    assert!(node.executor.run(&spec, Action::Stop, &Context::default()).await.is_ok());
    assert!(!alive(node.pids("pids")[0]));
    assert_eq!(zombies(), [] as [i32; 0]);
}

#[test]
fn a_runtime_that_ends_leaves_neither_the_agent_nor_a_zombie() {
    let node = node();
    let spec = node.agent("Gone", "echo $$ > $dir/pids; sleep 600");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (executor, spec) = (node.executor.clone(), spec.clone());
        tokio::spawn(async move { executor.run(&spec, Action::Start, &Context::default()).await });
        eventually("it runs", || !node.pids("pids").is_empty()).await;
    });
    drop(runtime);
    let pid = node.pids("pids")[0];
    let start = Instant::now();
    while alive(pid) || !zombies().is_empty() {
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", common::state(pid));
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn settings_out_of_bounds_are_refused() {
    for limit in [0, limits::MAX_PARALLEL + 1] {
        let mut settings = Settings::new("node1");
        settings.max_parallel = limit;
        assert!(Executor::new(settings).is_err());
    }
    assert!(Executor::new(Settings::new("")).is_err());
}
