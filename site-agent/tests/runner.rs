//! The runner with real agents of the distribution, a real guard and real processes.
//!
//! Lease times of the rig: T 3 s, W 300 ms, B 1 s. The test plays the holder: it gives orders and
//! leases, and looks at what runs.

#![allow(clippy::unwrap_used)] // all of it is test code

#[path = "runner/rig.rs"]
mod rig;

use std::time::{Duration, Instant};

use rig::{Place, Site, WEB, dummies, runtime, until};
use tierce_agent::runner::{RunnerEvent, RunnerOrder};
use tierce_ticket::holder::StopReason;
use tierce_ticket::ids::{SessionId, Term, TicketId};
use tierce_ticket::message::Readiness;

const NAMES: [&str; 3] = ["a", "b", "c"];

fn running(place: &Place) -> Vec<&'static str> {
    NAMES.into_iter().filter(|n| place.path(&format!("{n}.state")).exists()).collect()
}

#[test]
fn resources_start_in_order_behind_the_guard_and_stop_in_reverse() {
    let place = Place::new("record", &dummies(&NAMES));
    runtime().block_on(async {
        let mut site = place.start();
        site.keep_lease();
        site.run(7);
        site.started(7).await;
        assert_eq!(running(&place), NAMES);
        assert_eq!(site.history(), ["a: started", "b: started", "c: started"]);
        let run = site.view_until("the guard's line", |r| r.phase == "running").await;
        assert_eq!(run.protection, ["L0 agent timer", "L2 guard (record)"]);
        assert!(run.resources.iter().all(|r| r.state == "running"), "{run:?}");
        assert!(place.guard_events().is_empty() || !place.guard_events().contains("stop ticket"));

        site.stop(7, StopReason::Handover);
        site.stopped(7).await;
        assert_eq!(running(&place), [""; 0]);
        assert_eq!(site.history()[3..], ["c: stopped", "b: stopped", "a: stopped"]);
        site.runner.shutdown().await;
    });
    // Nothing is guarded: the guard ends with the agent.
    runtime().block_on(until("the guard's end", || place.guard_events().contains("end guarded=0")));
    assert_eq!(place.text("record"), "");
}

#[test]
fn a_killed_agent_leaves_the_stop_to_the_guard_in_time() {
    let place = Place::new("record", &dummies(&["a", "b"]));
    let first = runtime();
    let deadline = first.block_on(async {
        let mut site = place.start();
        site.run(7);
        site.started(7).await;
        site.lease();
        let deadline = rig::now() + Duration::from_millis(2_920);
        tokio::time::sleep(Duration::from_millis(300)).await;
        deadline
    });
    assert_eq!(running(&place), ["a", "b"]);
    drop(first); // every task and socket of the agent is gone
    runtime().block_on(until("the guard's stop", || running(&place).is_empty()));
    let left = deadline.since(rig::now());
    println!("stopped {left:?} before the deadline");
    assert!(left > Duration::ZERO, "stopped in time");
    runtime()
        .block_on(until("the word", || place.guard_events().contains("stopped ticket=4 term=7")));
    assert_eq!(place.text("record"), "", "no reset was needed");
}

#[test]
fn what_will_not_stop_is_reported_and_the_guard_takes_the_last_resort() {
    let ticket = "[[ticket]]\nname = \"web\"\n[[ticket.resource]]\nid = \"stubborn\"\n\
                  agent = \"lsb:stubborn\"\nmonitor-interval = \"0s\"\n";
    let mut place = Place::new("record", ticket);
    let body = "case $1 in start) touch DIR/runs;; stop) sleep 60;; \
                status) test -e DIR/runs || exit 3;; esac";
    place.script("stubborn", body);
    place.stop_command = Some(vec!["/bin/false".to_owned()]); // nor can anybody else
    runtime().block_on(async {
        let mut site = place.start();
        site.run(7);
        site.started(7).await;
        site.lease();
        tokio::time::sleep(Duration::from_millis(1_600)).await; // D − W − B
        site.stop(7, StopReason::LeaseEnding);
        let failed = |e: &RunnerEvent| matches!(e, RunnerEvent::StopFailed { ticket: WEB, .. });
        let event = site.until("the failed stop", failed).await;
        let RunnerEvent::StopFailed { why, .. } = event else { unreachable!("asked for") };
        assert!(why.contains("stubborn does not stop"), "{why}");
        until("the last resort", || place.text("record").contains("reset ticket=4 term=7")).await;
        let run = site.view_until("the phase", |r| r.phase == "stop-failed").await;
        assert_eq!(run.term, Term(7));
        // It is tried for ever, and confirmed when it is true.
        std::fs::remove_file(place.path("runs")).unwrap();
        site.stopped(7).await;
        // A last resort that was taken cannot be taken back: nothing starts behind it.
        site.keep_lease();
        site.run(8);
        let event = site.until("no", |e| matches!(e, RunnerEvent::StartFailed { .. })).await;
        assert!(
            format!("{event:?}").contains("the node guard does not take it (Busy)"),
            "{event:?}"
        );
        assert!(!place.path("runs").exists());
    });
}

#[test]
fn a_restarted_agent_renews_only_what_it_was_ordered_to_run() {
    let two = dummies(&["a"])
        + &dummies(&["b"])
            .replace("name = \"web\"", "name = \"db\"")
            .replace("b.state", "db.state");
    let place = Place::new("record", &two);
    let db = TicketId(5);
    let run_db = |site: &Site, term| {
        let name = "db".to_owned();
        site.runner.order(RunnerOrder::Run { ticket: db, name, term: Term(term) });
    };
    let first = runtime();
    first.block_on(async {
        let mut site = place.start();
        site.run(7);
        site.started(7).await;
        run_db(&site, 8);
        site.until("db", |e| matches!(e, RunnerEvent::Started { ticket: TicketId(5), .. })).await;
        site.lease();
        tokio::time::sleep(Duration::from_millis(100)).await;
    });
    drop(first);
    runtime().block_on(async {
        let mut site = place.start();
        site.keep_lease();
        site.run(7); // the same term, as after a session that was taken over
        site.started(7).await;
        until("the guard's stop of db", || place.guard_events().contains("stop ticket=5 term=8"))
            .await;
        until("its end", || !place.path("db.state").exists()).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(running(&place), ["a"]);
        assert!(!place.guard_events().contains("stop ticket=4"), "{}", place.guard_events());
    });
}

#[test]
fn the_last_resort_kill_reaches_daemons_that_no_stop_ends() {
    let ticket = "[[ticket]]\nname = \"web\"\n[[ticket.resource]]\nid = \"daemon\"\n\
                  agent = \"lsb:daemon\"\nmonitor-interval = \"0s\"\n";
    let mut place = Place::new("kill", ticket);
    let body = "case $1 in start) setsid sleep 1000 </dev/null >/dev/null 2>&1 & \
                echo $! >DIR/pid;; stop) exit 1;; \
                status) kill -0 $(cat DIR/pid 2>/dev/null) 2>/dev/null || exit 3;; esac";
    place.script("daemon", body);
    place.stop_command = Some(vec!["/bin/false".to_owned()]);
    let first = runtime();
    first.block_on(async {
        let mut site = place.start();
        site.run(7);
        site.started(7).await;
        let line = "L2 guard (kill)".to_owned();
        site.view_until("the guard's line", |r| r.protection.contains(&line)).await;
        site.lease();
        tokio::time::sleep(Duration::from_millis(500)).await;
    });
    let pid = place.text("pid").trim().to_owned();
    let alive = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    };
    assert!(alive(), "the daemon runs");
    drop(first);
    runtime().block_on(until("the daemon's end", || !alive()));
    assert!(place.guard_events().contains("killed ticket=4 groups="), "{}", place.guard_events());
}

#[test]
fn a_restarted_agent_adopts_what_runs_and_stops_what_nobody_orders() {
    let place = Place::new("record", &dummies(&["a", "b"]));
    let first = runtime();
    first.block_on(async {
        let mut site = place.start();
        site.run(7);
        site.started(7).await;
        site.lease();
    });
    drop(first);
    let born = || std::fs::metadata(place.path("a.state")).unwrap().modified().unwrap();
    let before = born();
    let second = runtime();
    second.block_on(async {
        let mut site = place.start();
        site.keep_lease();
        site.run(9);
        site.started(9).await;
        assert_eq!(site.history(), [""; 0], "adopted, not started");
        assert_eq!(born(), before);
        let run = site.view_until("armed", |r| r.protection.len() == 2).await;
        assert_eq!(run.term, Term(9));
    });
    drop(second);
    runtime().block_on(async {
        let mut site = place.start();
        site.keep_lease();
        let begun = Instant::now();
        let stopped = |e: &RunnerEvent| match e {
            RunnerEvent::Resource { resource, what, .. } => resource == "a" && what == "stopped",
            _ => false,
        };
        site.until("the end of the grace", stopped).await;
        println!("stopped {:?} after the start", begun.elapsed());
        assert!(begun.elapsed() > Duration::from_secs(1), "it had a while to be ordered");
        assert_eq!(running(&place), [""; 0]);
    });
}

#[test]
fn a_stop_during_a_start_cancels_it() {
    let ticket = "[[ticket]]\nname = \"web\"\n[[ticket.resource]]\nid = \"slow\"\n\
                  agent = \"ocf:heartbeat:Delay\"\n\
                  params = { startdelay = \"30\", stopdelay = \"0\", mondelay = \"0\" }\n\
                  start-timeout = \"60s\"\n";
    let place = Place::new("record", ticket);
    runtime().block_on(async {
        let mut site = place.start();
        site.keep_lease();
        site.run(7);
        site.view_until("the start", |r| r.resources.iter().any(|r| r.state == "starting")).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let begun = Instant::now();
        site.stop(7, StopReason::Handover);
        site.stopped(7).await;
        println!("cancelled and stopped in {:?}", begun.elapsed());
        assert!(begun.elapsed() < Duration::from_secs(15));
        assert!(!site.seen.iter().any(|e| matches!(e, RunnerEvent::Started { .. })));
        assert!(site.seen.iter().all(|e| !matches!(e, RunnerEvent::StartFailed { .. })));
    });
}

#[test]
fn a_failed_monitor_restarts_and_the_last_failure_gives_the_ticket_up() {
    let tickets = dummies(&["a"]).replace("monitor-interval", "restarts = 1\nmonitor-interval");
    let place = Place::new("record", &tickets);
    runtime().block_on(async {
        let mut site = place.start();
        site.keep_lease();
        site.run(7);
        site.started(7).await;
        std::fs::remove_file(place.path("a.state")).unwrap();
        site.until(
            "the restart",
            |e| matches!(e, RunnerEvent::Resource { what, .. } if what == "stopped"),
        )
        .await;
        until("it runs again", || running(&place) == ["a"]).await;
        site.view_until("running", |r| r.resources[0].state == "running").await;
        std::fs::remove_file(place.path("a.state")).unwrap();
        let event = site.until("giving up", |e| matches!(e, RunnerEvent::StartFailed { .. })).await;
        let RunnerEvent::StartFailed { why, term, .. } = event else { unreachable!("asked for") };
        assert_eq!(term, Term(7));
        assert!(why.contains("monitor") && why.contains("failure 2"), "{why}");
        site.stop(7, StopReason::Handover);
        site.stopped(7).await;
    });
}

#[test]
fn lower_terms_and_repeated_orders_change_nothing() {
    let place = Place::new("record", &dummies(&["a"]));
    runtime().block_on(async {
        let mut site = place.start();
        site.keep_lease();
        site.run(7);
        site.started(7).await;
        site.run(7);
        site.run(6);
        site.stop(6, StopReason::NotOurs);
        let name = "web".to_owned();
        site.runner.order(RunnerOrder::Forget { ticket: WEB, name, term: Term(5) });
        tokio::time::sleep(Duration::from_millis(500)).await;
        let run = site.view_until("still running", |r| r.phase == "running").await;
        assert_eq!(run.term, Term(7));
        assert_eq!(running(&place), ["a"]);
        assert_eq!(site.history(), ["a: started"]);
    });
}

fn readiness(event: &RunnerEvent) -> Option<&Readiness> {
    match event {
        RunnerEvent::Readiness(r) => Some(r),
        _ => None,
    }
}

fn blocked(event: &RunnerEvent) -> &str {
    let found = readiness(event).and_then(|r| r.tickets.first());
    found.and_then(|(_, r)| r.blocked.as_deref()).unwrap_or_default()
}

fn know(site: &Site) {
    site.runner.order(RunnerOrder::Session(SessionId(3)));
    site.runner.order(RunnerOrder::KnownTickets(vec![(WEB, "web".to_owned())]));
}

#[test]
fn a_hanging_handler_is_a_refusal_with_its_reason_and_leaves_nothing_behind() {
    let ticket = "[[ticket]]\nname = \"web\"\n[[ticket.gate]]\nhandler = [\"DIR/hang\"]\n\
                  timeout = \"300ms\"\ninterval = \"400ms\"\n";
    let mut place = Place::new("off", ticket);
    place.script("hang", "[ -e DIR/calm ] && exit 0\necho $$ >DIR/pid\nsleep 1000 & sleep 1000");
    runtime().block_on(async {
        let mut site = place.start();
        know(&site);
        let event = site.until("the refusal", |e| blocked(e).contains("still running")).await;
        assert!(blocked(&event).contains("hang was still running after 300ms"), "{event:?}");
        assert_eq!(readiness(&event).unwrap().session, SessionId(3));
        let group: i32 = place.text("pid").trim().parse().unwrap();
        let gone = || nix::sys::signal::killpg(nix::unistd::Pid::from_raw(group), None).is_err();
        std::fs::write(place.path("calm"), "").unwrap();
        site.until("the consent", |e| readiness(e).is_some_and(|r| r.tickets.is_empty())).await;
        until("the end of what it started", gone).await;
    });
}

#[test]
fn handlers_see_the_names_of_booth_and_ours_and_lag_is_read() {
    let ticket = "[[ticket]]\nname = \"web\"\nlag-command = [\"/bin/echo\", \"250ms\"]\n\
                  [[ticket.gate]]\nhandler = [\"DIR/ask\", \"word\"]\ninterval = \"200ms\"\n";
    let mut place = Place::new("off", ticket);
    place.script("ask", "env >DIR/env.new; echo \"ARG=$1\" >>DIR/env.new; mv DIR/env.new DIR/env");
    runtime().block_on(async {
        let mut site = place.start();
        know(&site);
        let lag = |e: &RunnerEvent| {
            let found = readiness(e).and_then(|r| r.tickets.first().cloned());
            found.is_some_and(|(_, r)| r.blocked.is_none() && r.lag.is_some())
        };
        let event = site.until("the lag", lag).await;
        let lag = readiness(&event).unwrap().tickets[0].1.lag;
        assert_eq!(lag, Some(Duration::from_millis(250)));
        let env = place.text("env");
        let config = format!("BOOTH_CONF_PATH={}", place.path("agent.toml").display());
        for line in [
            "BOOTH_TICKET=web",
            "BOOTH_LOCAL=paris",
            "BOOTH_TICKET_EXPIRES=0",
            "TIERCE_TICKET=web",
            "TIERCE_SITE=paris",
            "TIERCE_TERM=0",
            "ARG=word",
            &config,
        ] {
            assert!(env.lines().any(|l| l == line), "{line} is missing in {env}");
        }
        assert!(env.contains("BOOTH_CONF_NAME=") && !env.contains("CARGO"), "{env}");
        site.lease();
        site.run(8);
        site.started(8).await;
        until("the term", || place.text("env").contains("TIERCE_TERM=8")).await;
        let expires = place.text("env");
        let expires = expires.lines().find_map(|l| l.strip_prefix("BOOTH_TICKET_EXPIRES="));
        assert!(expires.unwrap().parse::<u64>().unwrap() > 1_700_000_000);
    });
}

#[test]
fn a_lost_guard_is_told_started_again_and_knows_every_ticket() {
    let place = Place::new("record", &dummies(&["a"]));
    runtime().block_on(async {
        let mut site = place.start();
        site.keep_lease();
        site.run(7);
        site.started(7).await;
        let mut client = tierce_guard::GuardClient::connect(&place.path("guard.sock")).unwrap();
        client.status().unwrap();
        let reply = loop {
            if let Some(reply) = client.wait(Duration::from_secs(5)).unwrap() {
                break reply;
            }
        };
        let tierce_guard::Reply::Status(status) = reply else { panic!("{reply:?}") };
        assert_eq!(status.armed, 1);
        let pid = nix::unistd::Pid::from_raw(status.pid.cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        let begun = Instant::now();
        site.until("the loss", |e| matches!(e, RunnerEvent::GuardLost(_))).await;
        site.until("the return", |e| matches!(e, RunnerEvent::GuardBack)).await;
        let line = "L2 guard (record)".to_owned();
        site.view_until("armed again", |r| r.protection.contains(&line)).await;
        println!("guarded again {:?} after the kill", begun.elapsed());
        assert_eq!(running(&place), ["a"]);
        assert_eq!(site.history(), ["a: started"], "what ran went on");
        site.stop(7, StopReason::Handover);
        site.stopped(7).await;
    });
}

#[test]
fn without_a_guard_nothing_is_started_and_off_says_so() {
    let place = Place::new("record", &dummies(&["a"]));
    let text = place.text("agent.toml").replace("tierce-guard\"", "no-such-guard\"");
    std::fs::write(place.path("agent.toml"), text).unwrap();
    runtime().block_on(async {
        let mut site = place.start();
        site.keep_lease();
        site.run(7);
        let lost = site.until("the loss", |e| matches!(e, RunnerEvent::GuardLost(_))).await;
        assert!(format!("{lost:?}").contains("cannot be started"), "{lost:?}");
        tokio::time::sleep(Duration::from_millis(500)).await;
        let run = site.view_until("waiting", |r| r.phase == "starting").await;
        assert!(run.protection.iter().any(|l| l.starts_with("no L2 guard: ")), "{run:?}");
        assert_eq!(running(&place), [""; 0]);
    });
    let place = Place::new("off", &dummies(&["a"]));
    runtime().block_on(async {
        let mut site = place.start();
        site.run(7);
        site.started(7).await;
        let run = site.view_until("running", |r| r.phase == "running").await;
        assert_eq!(run.protection, ["L0 agent timer", "no L2 guard: it is off"]);
    });
}

#[test]
fn frozen_tickets_run_on_loudly_and_fence_needs_a_guard() {
    let freeze =
        dummies(&["a"]).replace("name = \"web\"", "name = \"web\"\nloss-policy = \"freeze\"");
    let place = Place::new("record", &freeze);
    runtime().block_on(async {
        let mut site = place.start();
        site.run(7);
        site.started(7).await;
        site.stop(7, StopReason::LeaseEnding);
        site.until("the word", |e| matches!(e, RunnerEvent::Frozen { ticket: WEB, .. })).await;
        let run = site.view_until("frozen", |r| r.phase == "frozen").await;
        assert!(run.protection[0].starts_with("FROZEN"), "{run:?}");
        assert_eq!(running(&place), ["a"]);
        site.stop(7, StopReason::TakenBack);
        site.stopped(7).await;
        assert_eq!(running(&place), [""; 0]);
    });
    let fence =
        dummies(&["a"]).replace("name = \"web\"", "name = \"web\"\nloss-policy = \"fence\"");
    let place = Place::new("off", &fence);
    runtime().block_on(async {
        let mut site = place.start();
        site.run(7);
        let event = site.until("no", |e| matches!(e, RunnerEvent::StartFailed { .. })).await;
        assert!(format!("{event:?}").contains("loss-policy fence needs the node guard"));
        assert_eq!(running(&place), [""; 0]);
    });
}

#[test]
fn many_tickets_with_nothing_to_run_are_cheap_and_the_runner_stays_alive() {
    const MANY: u32 = 10_000;
    let rss = || {
        let text = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = text.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap()
    };
    let place = Place::new("off", "");
    runtime().block_on(async {
        let mut site = place.start();
        let name = |id: u32| format!("ticket-{id}");
        site.until("life", |e| matches!(e, RunnerEvent::Alive)).await;
        let before = rss();
        let begun = Instant::now();
        let known = (1..=MANY).map(|id| (TicketId(id), name(id))).collect();
        site.runner.order(RunnerOrder::KnownTickets(known));
        for id in 1..=MANY {
            let ticket = TicketId(id);
            site.runner.order(RunnerOrder::Run { ticket, name: name(id), term: Term(1) });
        }
        let last = |e: &RunnerEvent| {
            matches!(e, RunnerEvent::Started { ticket, .. } if *ticket == TicketId(MANY))
        };
        site.until("the last", last).await;
        let (took, grown) = (begun.elapsed(), rss() - before);
        println!("{MANY} tickets up in {took:?}, {grown} kB more");
        assert!(took < Duration::from_secs(5), "{took:?}");
        assert!(grown < 16 * 1024, "{grown} kB");
        let started = |e: &&RunnerEvent| matches!(e, RunnerEvent::Started { .. });
        assert_eq!(site.seen.iter().filter(started).count(), MANY as usize);
        assert_eq!(site.runner.view().await.bare, MANY);
        // R15: evidence at least every renewal period (200 ms), counted over two seconds.
        let (mut alive, begun) = (0, Instant::now());
        while begun.elapsed() < Duration::from_secs(2) {
            site.until("life", |e| matches!(e, RunnerEvent::Alive)).await;
            alive += 1;
        }
        assert!(alive >= 10, "{alive}");
    });
}
