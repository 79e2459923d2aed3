//! Three members on loopback as real processes: two agents and an arbitrator. They form a cluster,
//! grant, move, lose the holder by SIGKILL, take over, come back, and leave in order.
//!
//! The resource is the `Dummy` agent of Debian's resource-agents, unmodified; its state file tells
//! where it runs, and at no look may it run at both sites. The arbitrator is a member of this test's
//! own process, in a thread of its own.

#[path = "agent/asking.rs"]
mod asking;
#[path = "agent/cluster.rs"]
mod cluster;

use std::time::{Duration, Instant};

use asking::{
    SOON, as_it_is, formed, grant, holder, move_to, must, quorate, revoke, text, ticket, until,
};
use cluster::{Cluster, SITES, may_run};
use serde_json::Value;

/// Tickets of the largest test. Debug builds hold the invariants of all tickets after every step, so
/// that many of them take their time.
const MANY: usize = if cfg!(debug_assertions) { 50 } else { 1_000 };

#[test]
fn a_cluster_forms_grants_moves_survives_the_holders_death_and_leaves_in_order() {
    if !may_run() {
        return;
    }
    let [paris, rome] = SITES;
    let mut cluster = Cluster::new(as_it_is);
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
    must(&cluster, rome, &revoke(), "done");
    let runs = SITES.map(|site| cluster.runs_at(site));
    assert_eq!(runs, [false, false], "released while it still ran\n{}", cluster.logs());

    // A holder that is told to end gives up first, and ends with 0.
    must(&cluster, rome, &grant(rome, 20_000), "done");
    assert_eq!(cluster.terminate(rome), Some(0), "{}", cluster.logs());
    assert!(!cluster.runs_at(rome));
    until(&cluster, paris, "the ticket given up went to the other site", |s| {
        holder(s) == Some(paris) && cluster.runs_at(paris)
    });
    assert_eq!(cluster.terminate(paris), Some(0), "{}", cluster.logs());
    cluster.never_both();
    eprintln!("last resorts: {:?}", SITES.map(|site| cluster.last_resort_of(site)));
}

#[test]
fn a_frozen_holder_is_stopped_by_its_guard_before_another_site_runs() {
    if !may_run() {
        return;
    }
    let [paris, rome] = SITES;
    let cluster = formed(as_it_is);
    must(&cluster, paris, &grant(rome, 20_000), "done");
    cluster.signal(rome, nix::sys::signal::Signal::SIGSTOP);
    let frozen = Instant::now();
    while !cluster.runs_at(paris) {
        cluster.never_both();
        assert!(frozen.elapsed() < SOON, "no takeover\n{}", cluster.logs());
        std::thread::sleep(Duration::from_millis(2));
    }
    eprintln!("SIGSTOP of the holder -> runs elsewhere: {} ms", frozen.elapsed().as_millis());
    std::thread::sleep(Duration::from_secs(3).saturating_sub(frozen.elapsed()));
    cluster.signal(rome, nix::sys::signal::Signal::SIGCONT);
    // It wakes up late, finds out, and lets it be.
    until(&cluster, rome, "the thawed agent sees the new holder", |s| {
        quorate(s) && holder(s) == Some(paris)
    });
    for _ in 0..100 {
        cluster.never_both();
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(cluster.runs_at(paris));
    // On a busy machine the guard may oversleep its own stop; then it would have reset the node.
    eprintln!("last resort: {:?}", cluster.last_resort_of(rome));
}

/// The handover is decided while the holder's agent is dead; the new one finds it at its first look,
/// and the resources of the old one still run.
#[test]
fn an_agent_that_comes_back_to_a_revoke_stops_what_runs_before_it_releases() {
    if !may_run() {
        return;
    }
    let [paris, rome] = SITES;
    // T = 6 s: there is time to come back within the lease.
    let mut cluster = formed(|_, text| text.replace("metro-fast", "lan"));
    must(&cluster, paris, &grant(paris, 20_000), "done");
    cluster.kill(paris);
    until(&cluster, rome, "another leader", |s| {
        s["quorate"] == true && s["leader"].as_str().is_some_and(|l| l != paris)
    });
    let (socket, request) = (cluster.path("rome/control.sock"), revoke());
    let asked = std::thread::spawn(move || cluster::ask_at(&socket, &request));
    cluster.start(paris);
    while !asked.is_finished() {
        cluster.never_both();
        std::thread::sleep(Duration::from_millis(1));
    }
    let still = cluster.runs_at(paris);
    let reply = asked.join().expect("asked");
    assert_eq!(text(&reply, "reply"), "done", "{reply}\n{}", cluster.logs());
    let ask = serde_json::json!({"ask": "history", "name": "web", "limit": 1});
    let last = must(&cluster, rome, &ask, "history")["decisions"][0]["what"].to_string();
    assert!(last.contains("released by paris"), "it did not come back in time: {last}");
    assert!(!still, "released while it still ran (R17)\n{}", cluster.logs());
}

#[test]
fn a_ticket_that_does_not_start_at_one_site_is_handed_to_the_other() {
    if !may_run() {
        return;
    }
    let [paris, rome] = SITES;
    let cluster = formed(|site, text| match site {
        "rome" => text.replace("rome.state", "nowhere/rome.state"),
        _ => text,
    });
    let reply = cluster.ask(paris, &grant(rome, 20_000));
    assert_eq!(text(&reply, "reply"), "error", "a start that failed was called done: {reply}");
    assert!([1, 113].contains(&reply["code"].as_u64().unwrap_or(0)), "{reply}");
    until(&cluster, paris, "it was handed over", |s| {
        holder(s) == Some(paris) && cluster.runs_at(paris)
    });
    let view = ticket(&cluster, paris);
    let against = view["sites"][rome].as_str().unwrap_or_default();
    assert!(against.contains("did not start"), "{view:#}");
    let alarms = cluster.ask(rome, &serde_json::json!({"ask": "status", "linear": true}));
    assert!(alarms["alarms"].to_string().contains("did not start here"), "{alarms:#}");
    // Nobody is sent there until the reason is gone.
    let refused = cluster.ask(paris, &move_to(rome));
    assert_eq!(refused["code"], 113, "{refused}");
}

#[test]
fn the_arbitrator_lost_the_sites_go_on_and_with_one_more_lost_nothing_is_known() {
    if !may_run() {
        return;
    }
    let [paris, rome] = SITES;
    let mut cluster = formed(as_it_is);
    must(&cluster, paris, &grant(paris, 20_000), "done");
    cluster.lose_arbitrator();
    until(&cluster, paris, "the loss is seen", |s| text(s, "verdict") == "degraded");
    must(&cluster, paris, &move_to(rome), "done");
    cluster.kill(paris);
    until(&cluster, rome, "no majority", |s| text(s, "verdict") == "unknown");
    let status = until(&cluster, rome, "the lease has ended", |s| {
        s["tickets"][0]["state"] == "unknown" && !cluster.runs_at(rome)
    });
    assert_eq!(status["tickets"][0]["site"], Value::Null, "{status}");
    let refused = cluster.ask(rome, &serde_json::json!({"ask": "status", "linear": true}));
    assert_eq!(refused["code"], 106, "{refused}");
    cluster.start(paris);
    until(&cluster, rome, "a majority again, and the holder goes on", |s| {
        s["quorate"] == true && holder(s).is_some_and(|h| cluster.runs_at(h))
    });
}

#[test]
fn the_agent_answers_for_its_file_its_lock_and_its_metrics() {
    use std::os::unix::fs::PermissionsExt;
    if !may_run() {
        return;
    }
    let [paris, rome] = SITES;
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().unwrap();
    let metrics = format!("profile = \"metro-fast\"\nmetrics = \"{port}\"");
    let cluster = formed(|site, text| match site {
        "paris" => text.replace("profile = \"metro-fast\"", &metrics),
        _ => text,
    });
    // A second agent on the same data never runs.
    let (code, said) = cluster.run(&["run"], "paris.toml");
    assert!(code == Some(1) && said.contains("another agent uses"), "{code:?} {said}");
    let mode = cluster.path("paris/control.sock").metadata().expect("a socket").permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);

    must(&cluster, paris, &grant(paris, 20_000), "done");
    let scraped = cluster::http(port, "/metrics");
    for line in [
        r#"tierce_ticket_held{tenant="test",ticket="web",site="paris"} 1"#,
        r#"tierce_ticket_state{tenant="test",ticket="web",state="held"} 1"#,
        "tierce_quorum 1",
        "tierce_cert_expiry_timestamp_seconds",
        "tierce_worst_case_rto_seconds",
        r#"tierce_link_rtt_seconds{tenant="test",member="rome"}"#,
        r#"tierce_renewals_total{tenant="test",member="zurich"}"#,
    ] {
        assert!(scraped.contains(line), "{line} is not in\n{scraped}");
    }
    assert!(cluster::http(port, "/readyz").starts_with("HTTP/1.1 200"));
    assert!(cluster::http(port, "/healthz").starts_with("HTTP/1.1 200"));

    // A reload takes over what may change, and refuses what belongs to the cluster.
    let reload = serde_json::json!({"ask": "reload"});
    cluster.edit(paris, "mode = \"auto\"", "mode = \"confirm\"");
    must(&cluster, paris, &reload, "done");
    until(&cluster, rome, "the policy is the cluster's", |s| {
        s["tickets"][0]["policy"]["mode"] == "confirm"
    });
    cluster.edit(paris, "profile = \"metro-fast\"", "profile = \"lan\"");
    let refused = cluster.ask(paris, &reload);
    assert!(refused["code"] == 78 && text(&refused, "error").contains("lease times"), "{refused}");
    cluster.edit(paris, "site = \"paris\"", "sitte = \"paris\"");
    let (code, said) = cluster.run(&["run"], "paris.toml");
    assert!(code == Some(78) && said.contains("did you mean `site`"), "{code:?} {said}");

    // What is no request is refused with the reason.
    let bad = cluster.ask(paris, &serde_json::json!({"ask": "tenant-list"}));
    assert_eq!(bad["code"], 64, "{bad}");
    let none = cluster.ask(paris, &serde_json::json!({"ask": "ticket", "name": "nothing"}));
    assert_eq!(none["code"], 105, "{none}");
}

#[test]
fn many_tickets_are_made_from_the_file_and_the_agent_stays_small_and_quick() {
    if !may_run() {
        return;
    }
    let [paris, rome] = SITES;
    let many = |_: &str, text: String| {
        let more = (0..MANY).map(|n| format!("[[ticket]]\nname = \"t{n:04}\"\nmode = \"auto\"\n"));
        more.fold(text, |text, ticket| text + &ticket)
    };
    let begun = Instant::now();
    let mut cluster = formed(many);
    let all = |s: &Value| s["tickets"].as_array().is_some_and(|t| t.len() == MANY + 1);
    until(&cluster, rome, "all tickets are made", all);
    eprintln!("{MANY} tickets made {} ms after the start", begun.elapsed().as_millis());
    for n in 0..MANY {
        let ask = serde_json::json!({"ask": "grant", "name": format!("t{n:04}"), "to": rome, "wait_ms": 20_000});
        must(&cluster, rome, &ask, "done");
    }
    eprintln!(
        "{MANY} grants one after another: {} ms after the start",
        begun.elapsed().as_millis()
    );
    let asked = Instant::now();
    must(&cluster, rome, &serde_json::json!({"ask": "status", "linear": true}), "status");
    let status = asked.elapsed();
    let (cpu, rss) = cluster.cost(rome, Duration::from_secs(2));
    eprintln!("status: {} ms; RSS {rss} KiB; CPU at rest {cpu:.1} %", status.as_millis());
    assert!(status < Duration::from_secs(2), "{status:?}");
    assert!(rss < 64 * 1024, "{rss} KiB");
    // The site with a thousand tickets dies: all are granted elsewhere in one decision.
    let killed = Instant::now();
    cluster.kill(rome);
    until(&cluster, paris, "all tickets went to the other site", |s| {
        s["tickets"]
            .as_array()
            .is_some_and(|t| t.iter().filter(|t| t["site"] == paris).count() >= MANY)
    });
    eprintln!("SIGKILL of a holder of {MANY} -> all granted: {} ms", killed.elapsed().as_millis());
}
