//! Unmodified agents of Debian's resource-agents package.
#![allow(clippy::unwrap_used)] // a test may

mod common;

use std::process::Command;
use std::time::Duration;

use common::{Node, alive, node_with, real_agents, skip, within, zombies};
use tierce_executor::{Action, Context, ResourceSpec, Status};

fn debian_node() -> Node {
    node_with(|s| s.ocf_root = "/usr/lib/ocf".into())
}

async fn status(node: &Node, spec: &ResourceSpec, action: Action) -> Status {
    let outcome = node.executor.run(spec, action, &Context::default()).await;
    eprintln!("{} {action}: {outcome}", spec.id);
    outcome.status
}

async fn full_life(node: &Node, spec: &ResourceSpec) {
    assert_eq!(status(node, spec, Action::ValidateAll).await, Status::Ok);
    for _ in 0..2 {
        assert_eq!(status(node, spec, Action::Monitor).await, Status::NotRunning);
        assert_eq!(status(node, spec, Action::Stop).await, Status::Ok);
        assert_eq!(status(node, spec, Action::Start).await, Status::Ok);
        assert_eq!(status(node, spec, Action::Start).await, Status::Ok);
        assert_eq!(status(node, spec, Action::Monitor).await, Status::Ok);
        assert_eq!(status(node, spec, Action::Stop).await, Status::Ok);
    }
    assert_eq!(status(node, spec, Action::Monitor).await, Status::NotRunning);
    assert_eq!(zombies(), [] as [i32; 0]);
}

#[tokio::test]
async fn dummy_lives_and_dies() {
    if !real_agents() {
        return;
    }
    full_life(&debian_node(), &ResourceSpec::new("d", "ocf:heartbeat:Dummy").unwrap()).await;
}

#[tokio::test]
async fn two_nodes_on_one_machine_do_not_see_each_others_dummy() {
    if !real_agents() {
        return;
    }
    let (one, two) = (debian_node(), debian_node());
    let spec = ResourceSpec::new("d", "ocf:heartbeat:Dummy").unwrap();
    assert_eq!(status(&one, &spec, Action::Start).await, Status::Ok);
    assert_eq!(status(&one, &spec, Action::Monitor).await, Status::Ok);
    assert_eq!(status(&two, &spec, Action::Monitor).await, Status::NotRunning);
}

#[tokio::test]
async fn delay_lives_and_dies_and_is_ended_when_it_takes_too_long() {
    if !real_agents() {
        return;
    }
    let node = debian_node();
    let delay = |start: &str| {
        ResourceSpec::new("slow", "ocf:heartbeat:Delay")
            .unwrap()
            .with_param("startdelay", start)
            .with_param("stopdelay", "0")
            .with_param("mondelay", "0")
    };
    full_life(&node, &delay("1")).await;
    let outcome =
        node.executor.run(&delay("600"), Action::Start, &within(Duration::from_secs(1))).await;
    assert!(outcome.timed_out, "{outcome:?}");
    assert_eq!(outcome.status, Status::Error);
    assert!(outcome.duration < Duration::from_secs(10), "{outcome}");
    assert!(!any_process_with("OCF_RESKEY_startdelay=600"), "its sleep goes on");
}

fn any_process_with(variable: &str) -> bool {
    std::fs::read_dir("/proc").unwrap().filter_map(Result::ok).any(|e| {
        let environment = std::fs::read(e.path().join("environ")).unwrap_or_default();
        let pid = e.file_name().to_str().and_then(|n| n.parse().ok());
        pid.is_some_and(alive) && environment.split(|b| *b == 0).any(|v| v == variable.as_bytes())
    })
}

#[tokio::test]
async fn metadata_of_real_agents_is_read_whole() {
    if !real_agents() {
        return;
    }
    let node = debian_node();
    let dummy = ResourceSpec::new("d", "ocf:heartbeat:Dummy").unwrap();
    let metadata = node.executor.metadata(&dummy).await.unwrap();
    assert_eq!(metadata.name, "Dummy");
    assert_eq!(metadata.timeout("start"), Some(Duration::from_secs(20)));
    let address = ResourceSpec::new("ip", "ocf:heartbeat:IPaddr2").unwrap();
    let metadata = node.executor.metadata(&address).await.unwrap();
    assert!(metadata.parameters.iter().any(|p| p.name == "ip" && p.required));
    assert!(metadata.parameters.len() > 15, "longer than the usual limit of output");
    assert_eq!(metadata.timeouts().start, Duration::from_secs(20));
    let none = ResourceSpec::new("x", "ocf:heartbeat:NoSuchThing").unwrap();
    let error = node.executor.metadata(&none).await.unwrap_err().to_string();
    assert!(error.contains("ocf:heartbeat:NoSuchThing"), "{error}");
}

/// A network namespace with one interface; removed when dropped.
struct Namespace(String);

impl Namespace {
    fn new() -> Self {
        let this = Self(format!("tierce-exec-{}", std::process::id()));
        this.ip(&["netns", "add", &this.0]);
        this.ip(&["-n", &this.0, "link", "add", "site0", "type", "veth", "peer", "name", "peer0"]);
        for link in ["lo", "site0", "peer0"] {
            this.ip(&["-n", &this.0, "link", "set", link, "up"]);
        }
        this.ip(&["-n", &this.0, "address", "add", "192.0.2.1/24", "dev", "site0"]);
        this
    }

    fn ip(&self, args: &[&str]) -> String {
        let out = Command::new("ip").args(args).output().unwrap();
        let error = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "ip {args:?} for {}: {error}", self.0);
        String::from_utf8(out.stdout).unwrap()
    }

    fn addresses(&self) -> String {
        self.ip(&["-n", &self.0, "-o", "-4", "address", "show"])
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

#[tokio::test]
async fn ipaddr2_moves_an_address_inside_a_network_namespace() {
    if !real_agents() {
        return;
    }
    if !nix::unistd::geteuid().is_root() {
        return skip("network namespaces need root");
    }
    let namespace = Namespace::new();
    let node = node_with(|s| {
        s.ocf_root = "/usr/lib/ocf".into();
        s.enter_netns = Some(format!("/run/netns/{}", namespace.0).into());
    });
    let spec = ResourceSpec::new("vip", "ocf:heartbeat:IPaddr2")
        .unwrap()
        .with_param("ip", "192.0.2.77")
        .with_param("nic", "site0")
        .with_param("cidr_netmask", "24")
        .with_param("arp_count", "1");
    assert_eq!(status(&node, &spec, Action::Start).await, Status::Ok);
    assert!(namespace.addresses().contains("192.0.2.77/24"), "{}", namespace.addresses());
    let ours = Command::new("ip").args(["-o", "-4", "address", "show"]).output().unwrap();
    let ours = String::from_utf8_lossy(&ours.stdout).into_owned();
    assert!(!ours.contains("192.0.2.77"), "it must not appear outside: {ours}");
    assert_eq!(status(&node, &spec, Action::Stop).await, Status::Ok);
    assert!(!namespace.addresses().contains("192.0.2.77"));
    full_life(&node, &spec).await;
}

#[tokio::test]
async fn a_namespace_that_is_not_there_is_an_error_and_nothing_runs() {
    let node = node_with(|s| s.enter_netns = Some("/run/netns/tierce-no-such".into()));
    let spec = node.agent("Touch", "touch $dir/ran");
    let outcome = node.executor.run(&spec, Action::Start, &Context::default()).await;
    assert_eq!(outcome.status, Status::Error);
    assert!(outcome.reason.contains("tierce-no-such"), "{outcome}");
    assert!(!node.path("ran").exists());
}
