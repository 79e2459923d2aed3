//! What tests ask of a cluster of processes, and what they wait for.

// Each test program uses its own part of this.
#![allow(dead_code)]

use std::time::{Duration, Instant};

use serde_json::Value;

use super::cluster::{Cluster, SITES};

/// Generous: what takes a second on an idle machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) fn text<'a>(reply: &'a Value, key: &str) -> &'a str {
    reply[key].as_str().unwrap_or_default()
}

/// The final answer of an ask, which must be of this kind.
pub(crate) fn must(cluster: &Cluster, site: &str, ask: &Value, kind: &str) -> Value {
    let reply = cluster.ask(site, ask);
    assert_eq!(text(&reply, "reply"), kind, "{ask} at {site}: {reply}\n{}", cluster.logs());
    reply
}

pub(crate) fn ticket(cluster: &Cluster, site: &str) -> Value {
    must(cluster, site, &serde_json::json!({"ask": "ticket", "name": "web"}), "ticket")
}

/// Waits until a status of `site` satisfies `good`.
pub(crate) fn until(
    cluster: &Cluster,
    site: &str,
    what: &str,
    good: impl Fn(&Value) -> bool,
) -> Value {
    let by = Instant::now() + SOON;
    loop {
        let status = cluster.ask(site, &serde_json::json!({"ask": "status", "linear": false}));
        cluster.never_both();
        if good(&status) {
            return status;
        }
        assert!(Instant::now() < by, "not reached: {what}; {status:#}\n{}", cluster.logs());
        std::thread::sleep(Duration::from_millis(50));
    }
}

pub(crate) fn quorate(status: &Value) -> bool {
    let sessions = |s: &Value| {
        s["members"].as_array().is_some_and(|all| {
            all.iter().filter(|m| m["role"] == "site").all(|m| m["session"].is_u64())
        })
    };
    status["quorate"] == true
        && sessions(status)
        && status["tickets"].as_array().is_some_and(|t| !t.is_empty())
}

pub(crate) fn holder(status: &Value) -> Option<&str> {
    status["tickets"][0]["site"].as_str()
}

/// A cluster of both sites, formed.
pub(crate) fn formed(change: impl Fn(&str, String) -> String) -> Cluster {
    let mut cluster = Cluster::new(change);
    for site in SITES {
        cluster.start(site);
    }
    for site in SITES {
        until(&cluster, site, "a cluster with both sessions and the file's ticket", quorate);
    }
    cluster
}

pub(crate) fn as_it_is(_: &str, text: String) -> String {
    text
}

pub(crate) fn grant(to: &str, wait_ms: u64) -> Value {
    serde_json::json!({"ask": "grant", "name": "web", "to": to, "wait_ms": wait_ms})
}

pub(crate) fn revoke() -> Value {
    serde_json::json!({"ask": "revoke", "name": "web", "note": "test", "wait_ms": 20_000})
}

pub(crate) fn move_to(to: &str) -> Value {
    serde_json::json!({"ask": "move", "name": "web", "to": to, "note": "test", "wait_ms": 20_000})
}
