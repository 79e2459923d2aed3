//! The real command on files: configurations, certificates, recordings. No daemon.

use std::path::Path;

use super::support::tierce;
use tempfile::tempdir;

const SOUND: &str = r#"tenant = "shop"
site = "paris"
data = "/var/lib/tierce"
listen = "0.0.0.0:7800"
profile = "metro-fast"

[[member]]
name = "paris"
role = "site"
addresses = ["paris.example:7800"]

[[member]]
name = "rome"
role = "site"
addresses = ["rome.example:7800"]

[[member]]
name = "zurich"
role = "arbitrator"
addresses = ["zurich.example:7801"]

[[ticket]]
name = "web"
mode = "auto"
prefer = ["paris", "rome"]
stop-budget = "300ms"

[[ticket.resource]]
id = "dummy"
agent = "ocf:heartbeat:Dummy"
params = { state = "/run/dummy" }
"#;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_sound_file_is_accepted_with_its_inequalities_in_words() {
    let dir = tempdir().unwrap();
    let file = dir.path().join("agent.toml");
    std::fs::write(&file, SOUND).unwrap();
    let run = tierce(&["config", "check", text(&file)]).ok();
    for rule in ["I1  holds", "I2  holds", "I3  holds", "I5  holds", "0 errors", "digest "] {
        assert!(run.out.contains(rule), "{rule}: {run:#?}");
    }
    let json = tierce(&["config", "check", "--config", text(&file), "-o", "json"]).ok().json();
    assert_eq!(json["sound"], true);
    let digest = tierce(&["config", "digest", text(&file)]).ok().out;
    assert_eq!(digest.trim(), json["digest"]);
    let shown = tierce(&["config", "show", text(&file)]).ok().out;
    // What is shown is a file that comes to the same.
    let again = dir.path().join("again.toml");
    std::fs::write(&again, shown).unwrap();
    assert_eq!(tierce(&["config", "digest", text(&again)]).ok().out, digest);
}

#[test]
fn an_unsound_file_is_78_with_every_finding_at_its_line() {
    let dir = tempdir().unwrap();
    let file = dir.path().join("agent.toml");
    let bad = SOUND
        .replace("mode = \"auto\"", "mode = \"atuo\"")
        .replace("site = \"paris\"", "site = \"oslo\"")
        .replace("profile = \"metro-fast\"", "timing = { promise = \"1s\" }");
    std::fs::write(&file, bad).unwrap();
    let run = tierce(&["config", "check", text(&file)]).failed(78);
    let at = |line: usize| format!("{}:{line}: error: ", text(&file));
    for (line, word) in [(2, "oslo"), (5, "I2"), (24, "did you mean `auto`?")] {
        let found = run.out.lines().any(|l| l.starts_with(&at(line)) && l.contains(word));
        assert!(found, "line {line}, {word}: {run:#?}");
    }
    assert!(run.out.contains("FAILS"), "{run:#?}");
    let run = tierce(&["config", "check", text(&file), "-o", "json"]).failed(78);
    assert_eq!(run.json()["sound"], false);
    assert_eq!(run.json()["error"]["code"], 78);
}

#[test]
fn an_unknown_key_is_78_with_its_line_and_the_word_that_was_meant() {
    let dir = tempdir().unwrap();
    let file = dir.path().join("agent.toml");
    std::fs::write(&file, SOUND.replace("prefer =", "prefered =")).unwrap();
    let run = tierce(&["config", "check", text(&file)]).failed(78);
    assert!(run.err.contains("line 25, column 1"), "{run:#?}");
    assert!(run.err.contains("did you mean `prefer`?"), "{run:#?}");
    tierce(&["config", "show", text(&file)]).failed(78);
    tierce(&["config", "check", text(&dir.path().join("none.toml"))]).failed(78);
}

#[test]
fn an_authority_invites_lists_issues_rotates_and_revokes() {
    let dir = tempdir().unwrap();
    let ca = dir.path().join("ca");
    let member = dir.path().join("paris");
    let (ca, member) = (text(&ca), text(&member));
    tierce(&["pki", "init", "--tenant", "shop", "--dir", ca]).ok();
    tierce(&["pki", "init", "--tenant", "shop", "--dir", ca]).failed(1);

    let address = "paris.example:7800";
    let invite = ["pki", "invite", "--ca", ca, "--role", "site", "--name", "rome", "--address"];
    let run = tierce(&[&invite[..], &[address, "--ttl", "1h"]].concat()).ok();
    // stdout is the string and nothing else.
    assert!(run.out.starts_with("tierce1-") && run.out.lines().count() == 1, "{run:#?}");
    tierce(&[&invite[..], &[address, "--ttl", "365d"]].concat()).failed(64);
    tierce(&[&invite[..], &["no-port"]].concat()).failed(64);

    tierce(&["pki", "issue", "--ca", ca, "--role", "site", "--name", "paris", "--dir", member])
        .ok();
    tierce(&["pki", "issue", "--ca", ca, "--role", "site", "--name", "Paris!", "--dir", member])
        .failed(64);
    tierce(&["pki", "issue", "--ca", ca, "--role", "boss", "--name", "a", "--dir", member])
        .failed(64);
    tierce(&["pki", "rotate", "--ca", ca, "--member-dir", member]).ok();

    let json = tierce(&["pki", "list", "--ca", ca, "-o", "json"]).ok().json();
    let states: Vec<&str> = json["certificates"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|c| c["state"].as_str())
        .collect();
    assert_eq!(states, ["replaced", "good"]);
    assert_eq!(json["invitations"][0]["state"], "open");
    let run = tierce(&["pki", "list", "--ca", ca]).ok();
    assert!(run.out.contains("rome") && run.out.contains("open"), "{run:#?}");
    let own = tierce(&["pki", "list", "--dir", member, "-o", "json"]).ok().json();
    assert_eq!(own["identity"], "tierce://shop/site/paris");

    let serial = json["certificates"][0]["serial"].as_str().unwrap();
    tierce(&["pki", "revoke", "--ca", ca, "--serial", serial]).ok();
    tierce(&["pki", "revoke", "--ca", ca, "--serial", serial]).failed(105);
    tierce(&["pki", "revoke", "--ca", ca, "--role", "site", "--name", "paris"]).ok();
    tierce(&["pki", "revoke", "--ca", ca]).failed(64);
}

#[test]
fn a_join_that_cannot_succeed_says_why_before_or_after_asking() {
    let dir = tempdir().unwrap();
    let ca = dir.path().join("ca");
    let to = dir.path().join("rome");
    tierce(&["pki", "init", "--tenant", "shop", "--dir", text(&ca)]).ok();
    tierce(&["pki", "join", "nonsense", "--dir", text(&to)]).failed(64);
    // A port that nobody listens on: taken once, and given up.
    let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let invite = |ttl: &str| {
        let args = ["pki", "invite", "--ca", text(&ca), "--role", "site", "--name", "rome"];
        tierce(&[&args[..], &["--address", &free, "--ttl", ttl]].concat()).ok().out
    };
    let short = invite("1s");
    std::thread::sleep(std::time::Duration::from_millis(2_100));
    tierce(&["pki", "join", short.trim(), "--dir", text(&to)]).failed(110);
    tierce(&["pki", "join", invite("1h").trim(), "--dir", text(&to)]).failed(69);
    assert!(!to.exists(), "a failed join left something behind");
}

#[test]
fn recordings_are_merged_and_what_is_none_is_told() {
    use tierce_trace::{Recorder, RecorderOptions};
    let dir = tempdir().unwrap();
    let paris = Recorder::create(RecorderOptions::new("agent@paris", dir.path())).unwrap();
    let rome = Recorder::create(RecorderOptions::new("agent@rome", dir.path())).unwrap();
    paris.record("test", &[("message", "first".into())]);
    rome.record("test", &[("message", "second".into())]);
    let run = tierce(&["trace", "show", text(dir.path())]).ok();
    let (first, second) = (run.out.find("first").unwrap(), run.out.find("second").unwrap());
    assert!(first < second && run.out.contains("agent@rome"), "{run:#?}");
    let run = tierce(&["trace", "show", text(dir.path()), "--json", "--last", "1"]).ok();
    let line: serde_json::Value = serde_json::from_str(run.out.trim()).unwrap();
    assert_eq!(line["fields"]["message"], "second", "{run:#?}");
    let none = dir.path().join("none.tfr");
    std::fs::write(&none, "no recording").unwrap();
    let run = tierce(&["trace", "show", text(&none), text(paris.path())]).failed(1);
    assert!(run.out.contains("first"), "the good one is not shown: {run:#?}");
    let empty = tempdir().unwrap();
    tierce(&["trace", "show", text(empty.path())]).failed(105);
}

/// A site that hears of another and of a stranger's cluster, as a recording: one event a line.
fn recording() -> Vec<String> {
    use tierce_ticket::configuration::Role;
    use tierce_ticket::durable::Age;
    use tierce_ticket::ids::{ClusterId, Incarnation, StoreId};
    use tierce_ticket::member::{Input, MemberSettings};
    use tierce_ticket::replay::{Event, Stage, What, fingerprint};
    use tierce_ticket::time::{HolderTime, Now, VoterTime};

    let settings = MemberSettings {
        name: "paris".parse().unwrap(),
        role: Role::Site,
        store: StoreId([1; 16]),
        age: Age { opened: 1, written: 0 },
        continued: false,
        boot: Incarnation([1; 16]),
        seed: 1,
        digest: [7; 16],
        plan: None,
        new_cluster: ClusterId([9; 16]),
    };
    let whats = [
        What::Start { settings, records: Vec::new() },
        What::Input(Input::PeerUp("rome".parse().unwrap())),
        What::Input(Input::PeerDown("rome".parse().unwrap())),
        What::End,
    ];
    let mut stage = Stage::default();
    let mut lines = Vec::new();
    for (n, what) in (1..).zip(whats) {
        let at_ns = n * 1_000_000_000;
        let now = Now {
            voter: VoterTime::from_nanos(at_ns),
            holder: HolderTime::from_nanos(at_ns),
            wall_ms: n,
        };
        let member = "paris".parse().unwrap();
        let mut event = Event { at_ns, member, now, what, effects: 0 };
        event.effects = fingerprint(&stage.play(&event).unwrap().effects);
        lines.push(serde_json::to_string(&event).unwrap());
    }
    lines
}

#[test]
fn a_recording_is_lived_through_again_and_stops_where_it_is_told_to() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("events");
    let mut lines = recording();
    std::fs::write(&file, lines.join("\n")).unwrap();
    let run = tierce(&["trace", "replay", text(&file), "--break", "PeerUp"]).ok();
    assert!(run.out.contains("-> to rome: Hello"), "{run:#?}");
    assert_eq!(run.out.matches("*** no cluster yet").count(), 1, "{run:#?}");
    assert!(run.out.ends_with("4 events, each with the recorded effects\n"), "{run:#?}");
    let run = tierce(&["trace", "replay", text(&file), "--break-at", "3", "--until", "3"]).ok();
    assert_eq!(run.out.matches("***").count(), 1, "{run:#?}");
    let run = tierce(&["trace", "replay", text(&file), "-o", "json"]).ok();
    let last: serde_json::Value = serde_json::from_str(run.out.lines().last().unwrap()).unwrap();
    assert_eq!(last["events"], 4, "{run:#?}");
    assert!(last["differs_from_line"].is_null(), "{run:#?}");

    // Another version would do something else: said, and no success.
    lines[1] = lines[1].replace("rome", "oslo");
    std::fs::write(&file, lines.join("\n")).unwrap();
    let run = tierce(&["trace", "replay", text(&file)]).failed(1);
    assert!(run.err.contains("the recorded one from line 2 on"), "{run:#?}");

    // Damaged, without its beginning, not there.
    std::fs::write(&file, format!("{}\n{{", lines[0])).unwrap();
    let run = tierce(&["trace", "replay", text(&file)]).failed(78);
    assert!(run.err.contains("line 2 of"), "{run:#?}");
    std::fs::write(&file, &lines[1]).unwrap();
    let run = tierce(&["trace", "replay", text(&file)]).failed(78);
    assert!(run.err.contains("lacks its beginning"), "{run:#?}");
    tierce(&["trace", "replay", text(&dir.path().join("none"))]).failed(105);
}
