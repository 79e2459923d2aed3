//! Three members on loopback as real processes: two agents and an arbitrator. They form a cluster,
//! grant, move, lose the holder by SIGKILL, take over, come back, and leave in order.
//!
//! The resource is the `Dummy` agent of Debian's resource-agents, unmodified; its state file tells
//! where it runs, and at no look may it run at both sites. The arbitrator is a member of this test's
//! own process, in a thread of its own.

mod agent {
    pub(crate) mod cluster;
}

use std::time::{Duration, Instant};

use agent::cluster::{Cluster, SITES, may_run};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(20);

fn text<'a>(reply: &'a Value, key: &str) -> &'a str {
    reply[key].as_str().unwrap_or_default()
}

/// The final answer of an ask, which must be of this kind.
fn must(cluster: &Cluster, site: &str, ask: &Value, kind: &str) -> Value {
    let reply = cluster.ask(site, ask);
    assert_eq!(text(&reply, "reply"), kind, "{ask} at {site}: {reply}\n{}", cluster.logs());
    reply
}

fn ticket(cluster: &Cluster, site: &str) -> Value {
    must(cluster, site, &serde_json::json!({"ask": "ticket", "name": "web"}), "ticket")
}

/// Waits until a status of `site` satisfies `good`.
fn until(cluster: &Cluster, site: &str, what: &str, good: impl Fn(&Value) -> bool) -> Value {
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

fn quorate(status: &Value) -> bool {
    let sessions = |s: &Value| {
        s["members"].as_array().is_some_and(|all| {
            all.iter().filter(|m| m["role"] == "site").all(|m| m["session"].is_u64())
        })
    };
    status["quorate"] == true
        && sessions(status)
        && status["tickets"].as_array().is_some_and(|t| !t.is_empty())
}

fn holder(status: &Value) -> Option<&str> {
    status["tickets"][0]["site"].as_str()
}

#[test]
fn a_cluster_forms_grants_moves_survives_the_holders_death_and_leaves_in_order() {
    if !may_run() {
        return;
    }
    let [paris, rome] = SITES;
    let mut cluster = Cluster::new();
    cluster.start(paris);
    // One of two sites and an arbitrator: nothing is known, and nothing is said to be free.
    let alone = until(&cluster, paris, "an answer", |s| s["reply"] == "status");
    assert_eq!((text(&alone, "verdict"), &alone["quorate"]), ("unknown", &Value::Bool(false)));
    let early = cluster.ask(paris, &grant(paris, 1_000));
    assert_eq!(early["code"], 106, "{early}");
    cluster.start(rome);
    for site in SITES {
        until(&cluster, site, "a cluster with both sessions and the file's ticket", quorate);
    }

    // Granted: done means that it runs.
    let asked = Instant::now();
    let done = must(&cluster, paris, &grant(paris, 20_000), "done");
    eprintln!(
        "grant to this site: {} ms ({} ms by the agent)",
        asked.elapsed().as_millis(),
        done["took_ms"]
    );
    assert!(cluster.runs_at(paris), "done was said before it ran");
    let first = done["term"].as_u64().expect("a grant has a term");
    let again = cluster.ask(paris, &grant(rome, 1_000));
    assert_eq!(again["code"], 113, "{again}");
    let view = ticket(&cluster, rome);
    assert_eq!((text(&view, "state"), text(&view, "site")), ("held", paris));

    // Planned, then moved: done at the old holder means that it runs at the new one.
    let plan = serde_json::json!({"ask": "plan", "name": "web", "to": rome});
    let plan = must(&cluster, paris, &plan, "plan");
    assert!(plan["refused"].is_null() && plan["steps"].as_array().unwrap().len() == 4, "{plan}");
    let asked = Instant::now();
    let done = must(&cluster, paris, &move_to(rome), "done");
    eprintln!(
        "planned move: {} ms; predicted outage {} ms",
        asked.elapsed().as_millis(),
        plan["outage_ms"]
    );
    assert!(cluster.runs_at(rome) && !cluster.runs_at(paris));
    let second = done["term"].as_u64().expect("a move has a term");
    assert!(second > first, "terms grow (R18)");

    // The holder's agent is killed: the other site takes over by itself.
    let killed = Instant::now();
    cluster.kill(rome);
    cluster.stop_resource_of_the_dead(rome);
    until(&cluster, paris, "takeover after SIGKILL", |s| {
        holder(s) == Some(paris) && cluster.runs_at(paris)
    });
    eprintln!("SIGKILL of the holder -> runs elsewhere: {} ms", killed.elapsed().as_millis());

    // It comes back as the other site, with its store, and takes part again.
    cluster.start(rome);
    until(&cluster, rome, "the dead site is back", quorate);
    let state = ticket(&cluster, rome);
    assert_eq!(text(&state, "site"), paris, "{state}");

    // The new holder's agent restarts within its lease: the ticket and its term stay.
    let before = ticket(&cluster, paris)["term"].clone();
    cluster.kill(paris);
    cluster.start(paris);
    until(&cluster, paris, "the holder's agent is back and its resources run", |s| {
        s["quorate"] == true && holder(s).is_some() && cluster.runs_at(holder(s).unwrap())
    });
    let after = ticket(&cluster, paris);
    eprintln!(
        "restart of the holder: {} term {} -> {} term {}",
        paris, before, after["site"], after["term"]
    );
    if after["site"] == paris {
        assert_eq!(after["term"], before, "the same grant was adopted");
    }

    // History knows all of it.
    let ask = serde_json::json!({"ask": "history", "name": "web", "limit": 100});
    let history = must(&cluster, paris, &ask, "history");
    let grants = history["decisions"].as_array().unwrap().iter();
    let grants = grants.filter(|d| text(d, "what").starts_with("granted to")).count();
    assert!(grants >= 3, "{history:#}");

    // Revoked: done means stopped and released.
    until(&cluster, paris, "a holder", |s| holder(s).is_some());
    let revoke =
        serde_json::json!({"ask": "revoke", "name": "web", "note": "test", "wait_ms": 20_000});
    must(&cluster, rome, &revoke, "done");
    assert!(!cluster.runs_at(paris) && !cluster.runs_at(rome));

    // A holder that is told to end gives up first, and ends with 0.
    must(&cluster, rome, &grant(rome, 20_000), "done");
    assert_eq!(cluster.terminate(rome), Some(0), "{}", cluster.logs());
    assert!(!cluster.runs_at(rome));
    until(&cluster, paris, "the ticket given up went to the other site", |s| {
        holder(s) == Some(paris) && cluster.runs_at(paris)
    });
    assert_eq!(cluster.terminate(paris), Some(0), "{}", cluster.logs());
    cluster.never_both();
}

fn grant(to: &str, wait_ms: u64) -> Value {
    serde_json::json!({"ask": "grant", "name": "web", "to": to, "wait_ms": wait_ms})
}

fn move_to(to: &str) -> Value {
    serde_json::json!({"ask": "move", "name": "web", "to": to, "note": "test", "wait_ms": 20_000})
}
