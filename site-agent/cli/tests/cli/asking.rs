//! The real command against a daemon that speaks the control socket.

use std::time::{Duration, Instant};

use super::support::{Act, Daemon, say, tierce, tierce_at};
use tempfile::tempdir;
use tierce_wire::control::{Ask, ErrorView, MemberView, PlanView, Reply, StatusView, TicketView};

fn status(verdict: &str) -> Reply {
    let ticket = TicketView {
        name: "web".to_owned(),
        state: "held".to_owned(),
        site: Some("paris".to_owned()),
        term: Some(42),
        since: "2026-01-02T03:04:05Z".to_owned(),
        until: "the lease ends in 800 ms unless it is renewed".to_owned(),
        because: "granted to paris".to_owned(),
        next: "nothing to do".to_owned(),
        protection: vec!["L0 agent timer".to_owned(), "L1 kernel gate".to_owned()],
        ..TicketView::default()
    };
    let member = MemberView {
        name: "rome\x1b[31m".to_owned(),
        role: "site".to_owned(),
        connected: true,
        ..MemberView::default()
    };
    Reply::Status(Box::new(StatusView {
        api_version: "tierce/v1".to_owned(),
        verdict: verdict.to_owned(),
        summary: format!("{verdict}: zurich cannot be reached"),
        next: "tierce sites list".to_owned(),
        tenant: "shop".to_owned(),
        member: "paris".to_owned(),
        members: vec![member],
        tickets: vec![ticket],
        ..StatusView::default()
    }))
}

fn done(text: &str) -> Reply {
    Reply::Done { text: text.to_owned(), term: Some(43), index: Some(99), took_ms: 120 }
}

fn progress(text: &str) -> Reply {
    Reply::Progress { text: text.to_owned() }
}

#[test]
fn status_begins_with_the_verdict_and_the_next_command_and_shows_each_state_line() {
    let dir = tempdir().unwrap();
    let d = Daemon::new(dir.path(), vec![vec![say(status("degraded"))]]);
    let run = tierce_at(&d.socket, &["status"]).ok();
    assert_eq!(d.asked(), Ask::Status { linear: false });
    let mut lines = run.out.lines();
    assert_eq!(lines.next(), Some("degraded: zurich cannot be reached"));
    assert_eq!(lines.next(), Some("next: tierce sites list"));
    let head = run.out.lines().find(|l| l.starts_with("TICKET ")).unwrap();
    for column in ["STATE", "SITE", "TERM", "SINCE", "UNTIL", "BECAUSE", "NEXT"] {
        assert!(head.contains(column), "{head}");
    }
    let row = run.out.lines().find(|l| l.starts_with("web ")).unwrap();
    for cell in ["held", "paris", "42", "2026-01-02 03:04:05Z (", "lease ends", "granted to"] {
        assert!(row.contains(cell), "{row}");
    }
    assert!(run.out.contains("web: L0 agent timer, L1 kernel gate"), "{}", run.out);
    assert!(!run.out.contains('\x1b'), "a name of a peer steers the terminal: {:?}", run.out);
}

#[test]
fn status_check_is_zero_only_when_all_is_well() {
    let dir = tempdir().unwrap();
    let script = ["ok", "degraded", "critical", "unknown"].map(|v| vec![say(status(v))]);
    let d = Daemon::new(dir.path(), script.into());
    for code in [0, 1, 1, 112] {
        let run = tierce_at(&d.socket, &["status", "--check"]);
        assert_eq!(run.code, code, "{run:#?}");
        assert_eq!(run.out.lines().count(), 2, "{run:#?}");
    }
}

#[test]
fn status_as_json_is_the_view_of_the_control_socket() {
    let dir = tempdir().unwrap();
    let d = Daemon::new(dir.path(), vec![vec![say(status("ok"))]]);
    let json = tierce_at(&d.socket, &["status", "-o", "json"]).ok().json();
    assert_eq!(json["verdict"], "ok");
    assert_eq!(json["tickets"][0]["term"], 42);
}

#[test]
fn without_a_daemon_the_error_has_four_parts_and_code_102_also_as_json() {
    let dir = tempdir().unwrap();
    let nowhere = dir.path().join("none.sock");
    let run = tierce_at(&nowhere, &["status"]).failed(102);
    assert_eq!(run.out, "");
    let run = tierce_at(&nowhere, &["-o", "json", "tickets", "grant", "web", "--to", "rome"]);
    let run = run.failed(102);
    assert_eq!(run.json()["code"], 102);
    // A socket whose daemon is gone is the same.
    let dead = dir.path().join("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    tierce_at(&dead, &["status"]).failed(102);
}

#[test]
fn a_grant_is_done_when_the_daemon_says_done_and_tells_what_it_waits_for() {
    let dir = tempdir().unwrap();
    let acts = vec![
        say(progress("web waits for rome; waiting for another 9 s at the most")),
        say(progress("web waits for rome; waiting for another 8 s at the most")),
        say(progress("its resources start; waiting for another 7 s at the most")),
        say(done("web runs at rome, term 43")),
    ];
    let d = Daemon::new(dir.path(), vec![acts]);
    let run =
        tierce_at(&d.socket, &["tickets", "grant", "web", "--to", "rome", "--wait", "10s"]).ok();
    let (name, to) = ("web".to_owned(), "rome".to_owned());
    assert_eq!(d.asked(), Ask::Grant { name, to, wait_ms: 10_000 });
    assert!(run.out.starts_with("web runs at rome, term 43 ("), "{run:#?}");
    // stderr has the waits; the same one is not repeated every second.
    assert_eq!(run.err.lines().count(), 2, "{run:#?}");
}

#[test]
fn a_move_ends_with_the_code_of_the_daemons_error_and_never_with_zero() {
    let dir = tempdir().unwrap();
    let error = |code| {
        let part = |s: &str| s.to_owned();
        let (error, effect) = (part("not finished"), part("it goes on"));
        let (inspect, safer) = (part("tierce tickets show web"), part("wait longer"));
        vec![say(Reply::Error(ErrorView { code, error, effect, inspect, safer }))]
    };
    let codes = [1, 64, 69, 75, 78, 105, 106, 107, 110, 112, 113, 124];
    let mut script: Vec<_> = codes.map(error).into();
    script.push(error(0));
    let d = Daemon::new(dir.path(), script);
    for code in codes.into_iter().map(i32::from).chain([1]) {
        let args = ["tickets", "move", "web", "--to", "rome", "--note", "works"];
        let run = tierce_at(&d.socket, &args).failed(code);
        assert!(run.out.is_empty(), "{run:#?}");
    }
    let ask = d.asked();
    assert!(matches!(ask, Ask::Move { ref note, .. } if note == "works"), "{ask:?}");
}

#[test]
fn a_change_whose_answer_is_lost_has_an_unknown_outcome() {
    let dir = tempdir().unwrap();
    let d = Daemon::new(
        dir.path(),
        vec![
            vec![],                                     // closed at once
            vec![say(progress("deciding"))],            // closed after it was accepted
            vec![Act::Raw("{\"reply\":\"done\",\"te")], // cut in the middle
            vec![Act::Raw("nonsense\n")],
            vec![say(status("ok"))], // an answer to another question
        ],
    );
    for _ in 0..5 {
        tierce_at(&d.socket, &["tickets", "revoke", "web"]).failed(112);
    }
}

#[test]
fn a_look_whose_answer_is_lost_is_unavailable() {
    let dir = tempdir().unwrap();
    let d = Daemon::new(dir.path(), vec![vec![], vec![say(done("what?"))]]);
    tierce_at(&d.socket, &["tickets", "list"]).failed(69);
    tierce_at(&d.socket, &["tickets", "list"]).failed(69);
}

#[test]
fn a_silent_daemon_is_given_up_within_the_timeout() {
    let dir = tempdir().unwrap();
    let pause = || vec![Act::Pause(Duration::from_mins(1))];
    let d = Daemon::new(dir.path(), vec![pause()]);
    let begun = Instant::now();
    tierce_at(&d.socket, &["--timeout", "1500ms", "status"]).failed(124);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let other = tempdir().unwrap();
    let d = Daemon::new(other.path(), vec![pause()]);
    let run = tierce_at(&d.socket, &["--timeout", "1500ms", "tickets", "hold", "web"]).failed(112);
    assert!(run.err.starts_with("waiting for the daemon"), "{run:#?}");
}

#[test]
fn a_plan_changes_nothing_and_shows_steps_outage_and_undo() {
    let dir = tempdir().unwrap();
    let plan = PlanView {
        ticket: "web".to_owned(),
        from: Some("paris".to_owned()),
        to: Some("rome".to_owned()),
        outage_ms: 1_500,
        undo: "tierce tickets move web --to paris".to_owned(),
        ..PlanView::default()
    };
    let d = Daemon::new(dir.path(), vec![vec![say(Reply::Plan(Box::new(plan)))]]);
    let run = tierce_at(&d.socket, &["tickets", "move", "web", "--to", "rome", "--plan"]).ok();
    assert!(matches!(d.asked(), Ask::Plan { to: Some(_), .. }));
    for part in ["from paris to rome", "outage: 1.5 s", "undo: tierce tickets move web --to paris"]
    {
        assert!(run.out.contains(part), "{run:#?}");
    }
}

#[test]
fn what_rests_on_somebodys_word_is_not_done_by_a_script_unless_it_says_yes() {
    let dir = tempdir().unwrap();
    let d = Daemon::new(dir.path(), vec![vec![say(done("rome is declared"))]]);
    for args in [
        &["sites", "declare", "rome", "disaster"][..],
        &["sites", "remove", "rome"],
        &["fence", "confirm", "rome", "--note", "burnt"],
    ] {
        tierce_at(&d.socket, args).failed(107);
    }
    tierce_at(&d.socket, &["sites", "declare", "rome", "disaster", "--yes"]).ok();
    // The first request that ever came is the one with --yes.
    let ask = d.asked();
    assert!(matches!(ask, Ask::DeclareSite { ref state, .. } if state == "disaster"), "{ask:?}");
}

#[test]
fn the_words_for_sites_and_attributes_reach_the_daemon() {
    let dir = tempdir().unwrap();
    let d = Daemon::new(dir.path(), (0..3).map(|_| vec![say(done("done"))]).collect());
    tierce_at(&d.socket, &["sites", "declare", "rome", "clear", "--note", "back"]).ok();
    let (site, state, note) = ("rome".to_owned(), "normal".to_owned(), "back".to_owned());
    assert_eq!(d.asked(), Ask::DeclareSite { site, state, note });
    tierce_at(&d.socket, &["attributes", "set", "rome", "rack", "b2"]).ok();
    let (site, name, value) = ("rome".to_owned(), "rack".to_owned(), Some("b2".to_owned()));
    assert_eq!(d.asked(), Ask::SetAttribute { site, ticket: None, name, value });
    let args = ["tickets", "set", "web", "--mode", "auto", "--prefer", "a,b", "--require", "x=y"];
    tierce_at(&d.socket, &args).ok();
    let Ask::SetTicket { policy, .. } = d.asked() else { panic!("another request") };
    assert_eq!(policy.prefer, Some(vec!["a".to_owned(), "b".to_owned()]));
    assert_eq!(policy.require.unwrap()["x"], "y");
}

#[test]
fn a_wrong_command_line_is_64_names_what_was_meant_and_is_json_when_asked() {
    let run = tierce(&["statsu"]).failed(64);
    assert!(run.err.contains("'status'"), "{run:#?}");
    tierce(&["tickets", "grant", "web"]).failed(64);
    tierce(&["tickets", "grant", "web", "--to", "a", "--wait", "10"]).failed(64);
    tierce(&[]).failed(64);
    let run = tierce(&["-o", "json", "tickets", "explode"]).failed(64);
    assert_eq!(run.json()["code"], 64);
    tierce(&["agent", "explode"]).failed(64);
    assert_eq!(tierce(&["arbitrator", "explode"]).code, 64);
    assert_eq!(tierce(&["guard", "--explode"]).code, 64);
}

#[test]
fn it_acts_as_each_daemon_by_word_and_by_name() {
    for (word, name) in [("agent", "tierce-agent"), ("arbitrator", "tierce-arbitrator")] {
        let run = tierce(&[word, "--help"]).ok();
        assert!(run.out.contains(name), "{run:#?}");
    }
    let run = tierce(&["guard", "--help"]).ok();
    assert!(run.out.contains("tierce-guard"), "{run:#?}");
    let dir = tempdir().unwrap();
    for name in ["tierce-agent", "tierce-arbitrator", "tierce-guard"] {
        let link = dir.path().join(name);
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_tierce"), &link).unwrap();
        let output = std::process::Command::new(&link).arg("--help").output().unwrap();
        let run = super::support::Run::of(&output, &[name]).ok();
        assert!(run.out.contains(name), "{run:#?}");
    }
}

#[test]
fn completions_and_manual_pages_cover_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let run = tierce(&["completion", shell]).ok();
        assert!(run.out.contains("take-back"), "{shell}");
    }
    let run = tierce(&["man"]).ok();
    assert!(run.out.contains(".TH tierce 1"), "{}", run.out.lines().take(5).collect::<String>());
    let dir = tempdir().unwrap();
    tierce(&["man", "--dir", dir.path().to_str().unwrap()]).ok();
    for page in [
        "tierce.1",
        "tierce-tickets-grant.1",
        "tierce-pki-invite.1",
        "tierce-agent-run.1",
        "tierce-arbitrator-tenant-add.1",
    ] {
        let text = std::fs::read_to_string(dir.path().join(page)).expect(page);
        assert!(text.contains(".TH"), "{page}");
    }
}

#[test]
fn advice_on_a_lease_names_a_profile_and_its_inequalities() {
    let run = tierce(&["advise", "lease", "--rtt", "2", "--jitter", "1"]).ok();
    assert!(run.out.starts_with("advice: profile = \"metro-fast\""), "{run:#?}");
    assert!(run.out.contains("I2  holds"), "{run:#?}");
    tierce(&["advise", "lease", "--rtt", "9000", "--jitter", "0"]).failed(113);
}
