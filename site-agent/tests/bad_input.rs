//! What is wrong around an agent, as real processes: its store, its certificate, its file, its
//! handlers and its resources. Each says what is wrong and what to do; nothing of it moves a ticket
//! to where it must not be. (The list with its tests is in docs/specification.md.)

#[path = "agent/asking.rs"]
mod asking;
#[path = "agent/cluster.rs"]
mod cluster;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use asking::{SOON, as_it_is, formed, grant, move_to, must, quorate, revoke, text, ticket, until};
use cluster::{Cluster, SITES, may_run};
use serde_json::{Value, json};
use tierce_link::{Ca, Name, Role, Tenant};

fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(done.is_ok_and(|s| s.success()), "{} is not copied", from.display());
}

/// What this machine has noted of a store: files named by its identity, which its files contain.
fn notes_of(store: &Path) -> Vec<PathBuf> {
    let inside: Vec<Vec<u8>> =
        files_in(store).iter().map(|f| fs::read(f).expect("readable")).collect();
    let of_it = |note: &PathBuf| {
        let name = note.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let byte = |at: usize| u8::from_str_radix(name.get(at..at + 2)?, 16).ok();
        let id: Option<Vec<u8>> = (0..name.len()).step_by(2).map(byte).collect();
        id.is_some_and(|id| inside.iter().any(|f| f.windows(id.len()).any(|w| w == id)))
    };
    let places = ["/run/tierce/marks", "/dev/shm/tierce-0/marks"];
    let found: Vec<PathBuf> =
        places.iter().flat_map(|p| files_in(Path::new(p))).filter(of_it).collect();
    assert!(!found.is_empty(), "no note of {}", store.display());
    found
}

fn files_in(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect()
}

/// The newest segment of a store.
fn live_segment(store: &Path) -> PathBuf {
    let names = fs::read_dir(store).expect("a store").flatten().map(|e| e.path());
    let segments = names.filter(|p| p.to_string_lossy().contains("segment-"));
    segments.max().expect("a segment")
}

fn alarms(status: &Value) -> String {
    status["alarms"].to_string()
}

fn status(cluster: &Cluster, site: &str) -> Value {
    cluster.ask(site, &json!({"ask": "status", "linear": false}))
}

/// A member as a status shows it.
fn member(status: &Value, name: &str) -> Value {
    let all = status["members"].as_array().cloned().unwrap_or_default();
    all.into_iter().find(|m| m["name"] == name).unwrap_or_default()
}

/// Waits for words in an agent's log.
fn until_logged(cluster: &Cluster, site: &str, words: &str) {
    let by = Instant::now() + SOON;
    while !cluster.log(site).contains(words) {
        assert!(Instant::now() < by, "{site} never said {words:?}\n{}", cluster.logs());
        std::thread::sleep(Duration::from_millis(20));
    }
}

// --- stores ---------------------------------------------------------------------------------

type Spoil = fn(&Path, &Path);

#[test]
fn an_agent_whose_store_is_damaged_cut_off_or_anothers_does_not_start_and_says_what_to_do() {
    if !may_run() {
        return;
    }
    let [paris, rome] = SITES;
    let mut cluster = formed(as_it_is);
    for site in [paris, rome] {
        assert_eq!(cluster.terminate(site), Some(0), "{}", cluster.logs());
    }
    let (store, good) = (cluster.path("paris/store"), cluster.path("good"));
    copy(&store, &good);
    let spoils: [(&str, Spoil, &str, &str); 5] = [
        (
            "damaged",
            |store, _| {
                let path = live_segment(store);
                let mut bytes = fs::read(&path).expect("read");
                let end = bytes.len().min(65_536);
                bytes[..end].iter_mut().for_each(|b| *b ^= 0x5a);
                fs::write(path, bytes).expect("written");
            },
            "is damaged at byte",
            "re-admit the member",
        ),
        (
            "cut off",
            |store, _| {
                let file = fs::File::options().write(true).open(live_segment(store));
                let file = file.expect("opened");
                file.set_len(file.metadata().expect("known").len() / 2 + 1_000).expect("cut");
            },
            "cut off",
            "re-admit the member",
        ),
        (
            "without its segment",
            |store, _| fs::remove_file(live_segment(store)).expect("removed"),
            "it is missing",
            "re-admit the member",
        ),
        (
            "another site's",
            |store, other| {
                fs::remove_dir_all(store).expect("removed");
                copy(other, store);
            },
            "the store belongs to",
            "check tenant, member name and data directory",
        ),
        (
            "of a later release",
            |store, _| {
                for name in ["control.0", "control.1"] {
                    fs::write(store.join(name), later_control()).expect("written");
                }
            },
            "newer than",
            "run the release that wrote it",
        ),
    ];
    let other = cluster.path("rome/store");
    for (what, spoil, error, next) in spoils {
        fs::remove_dir_all(&store).expect("removed");
        copy(&good, &store);
        spoil(&store, &other);
        let (code, said) = cluster.run(&["run", "--foreground"], "paris.toml");
        let part = |name: &str| said.lines().find(|l| l.starts_with(name)).unwrap_or_default();
        assert_eq!(code, Some(1), "{what}: {said}");
        assert!(part("error: ").contains(error), "{what}: {said}");
        assert!(part("effect: ").contains("the agent was not started; "), "{what}: {said}");
        assert!(part("safer: ").contains(next), "{what}: {said}");
        assert!(!part("inspect: ").is_empty(), "{what}: {said}");
    }
    // With its own store it is back.
    fs::remove_dir_all(&store).expect("removed");
    copy(&good, &store);
    for site in [paris, rome] {
        cluster.start(site);
    }
    until(&cluster, paris, "the cluster with the good store", quorate);
}

/// A control file of another format version, with nothing but what all formats share.
fn later_control() -> Vec<u8> {
    let mut sector = b"TIERCEct".to_vec();
    sector.extend_from_slice(&2_u32.to_le_bytes());
    sector.resize(500, 0x33);
    sector.extend_from_slice(&7_u64.to_le_bytes());
    let mut covered = b"control\0".to_vec();
    covered.extend_from_slice(&[0; 16 + 8 + 8]);
    covered.extend_from_slice(&sector);
    sector.extend_from_slice(&crc32c::crc32c(&covered).to_le_bytes());
    sector
}

#[test]
fn an_older_copy_of_a_store_and_a_wiped_one_take_no_part_until_the_member_is_admitted() {
    if !may_run() {
        return;
    }
    let [paris, rome] = SITES;
    let mut cluster = formed(as_it_is);
    let (store, older) = (cluster.path("rome/store"), cluster.path("older"));
    assert_eq!(cluster.terminate(rome), Some(0), "{}", cluster.logs());
    copy(&store, &older);
    cluster.start(rome);
    until(&cluster, rome, "rome is back", quorate);
    must(&cluster, paris, &grant(paris, 20_000), "done");
    must(&cluster, paris, &revoke(), "done");
    assert_eq!(cluster.terminate(rome), Some(0), "{}", cluster.logs());

    // Restored from a backup: the machine has a note of what it wrote since (R5).
    fs::remove_dir_all(&store).expect("removed");
    copy(&older, &store);
    cluster.start(rome);
    assert_eq!(cluster.ended(rome), Some(1), "{}", cluster.logs());
    let log = cluster.log(rome);
    assert!(log.contains("is an older copy: it ends with record"), "{log}");
    assert!(log.contains("have the member re-admitted: tierce sites admit"), "{log}");

    // A reboot forgets the note. The copy is flawless by every local test, and found by its peers.
    fs::remove_dir_all(&store).expect("removed");
    copy(&older, &store);
    for note in notes_of(&store) {
        fs::remove_file(note).expect("forgotten");
    }
    cluster.start(rome);
    let out = until(&cluster, rome, "it finds out", |s| s["standing"] == "out");
    assert!(alarms(&out).contains("this store is an older copy"), "{out:#}");
    assert!(alarms(&out).contains("re-admit this member under a new store"), "{out:#}");
    let seen = until(&cluster, paris, "its peer says so", |s| alarms(s).contains("older copy"));
    assert!(alarms(&seen).contains("rome came with an older copy of its store"), "{seen:#}");
    let refused = cluster.ask(paris, &grant(rome, 2_000));
    assert_eq!(text(&refused, "reply"), "error", "{refused}");

    // Moved away: an empty store is a stranger.
    cluster.kill(rome);
    fs::remove_dir_all(&store).expect("removed");
    cluster.start(rome);
    let out =
        until(&cluster, rome, "a stranger", |s| alarms(s).contains("does not know this store"));
    assert!(alarms(&out).contains("next: tierce sites admit"), "{out:#}");
    let refused = cluster.ask(paris, &grant(rome, 2_000));
    assert_eq!(text(&refused, "reply"), "error", "{refused}");

    let admit = json!({"ask": "admit", "member": rome});
    must(&cluster, paris, &admit, "done");
    until(&cluster, rome, "it takes part again", |s| s["standing"] == "taking-part");
    until(&cluster, paris, "it has a session", quorate);
    must(&cluster, paris, &grant(rome, 20_000), "done");
    assert!(cluster.runs_at(rome));
    // Under a new number: the old one never votes again.
    let seen = status(&cluster, paris);
    assert!(member(&seen, rome)["number"].as_u64() > Some(3), "{seen:#}");
}

// --- certificates ---------------------------------------------------------------------------

#[test]
fn a_site_with_another_authoritys_certificate_is_refused_and_both_say_why() {
    if !may_run() {
        return;
    }
    let [paris, rome] = SITES;
    let mut cluster = Cluster::new(as_it_is);
    let name = Name::new(rome).expect("a name");
    let other = Ca::init(&cluster.path("other"), &Tenant::new("test").expect("a name"));
    let pki = cluster.path("rome/pki");
    fs::remove_dir_all(&pki).expect("removed");
    other.expect("an authority").issue_to(Role::Site, &name, &pki).expect("a certificate");
    for site in SITES {
        cluster.start(site);
    }
    for site in [paris, rome] {
        until_logged(&cluster, site, "wrong-ca; join this member to the tenant's own authority");
    }
    // The third one is connected; the refused one never is.
    let status = until(&cluster, paris, "zurich", |s| member(s, "zurich")["connected"] == true);
    assert_eq!(member(&status, rome)["connected"], false, "{status:#}");
}

#[test]
fn a_site_with_an_ended_certificate_is_refused_both_say_why_and_it_raises_an_alarm() {
    if !may_run() {
        return;
    }
    let [paris, rome] = SITES;
    let mut cluster = Cluster::new(as_it_is);
    let ca = Ca::open(&cluster.path("ca")).expect("an authority");
    let brief = ca.with_certificate_life(Duration::from_secs(1));
    brief.rotate(&cluster.path("rome/pki")).expect("rotated");
    std::thread::sleep(Duration::from_millis(2_100));
    for site in SITES {
        cluster.start(site);
    }
    for site in [paris, rome] {
        until_logged(&cluster, site, "expired; check the wall clocks, then rotate");
    }
    let status = until(&cluster, rome, "an alarm", |s| alarms(s).contains("certificate"));
    assert!(alarms(&status).contains("was not renewed"), "{status:#}");
    assert!(alarms(&status).contains("next: tierce pki rotate"), "{status:#}");
    assert!(status["certificate_days"].as_f64() <= Some(0.0), "{status:#}");
    // Rotated where the authority is, it is let in; the agent takes it up at its next start.
    let ca = Ca::open(&cluster.path("ca")).expect("an authority");
    ca.rotate(&cluster.path("rome/pki")).expect("rotated");
    cluster.kill(rome);
    cluster.start(rome);
    until(&cluster, paris, "the cluster is founded", quorate);
}

// --- files ----------------------------------------------------------------------------------

#[test]
fn sites_whose_files_differ_found_no_cluster_and_later_name_each_other_and_go_on() {
    if !may_run() {
        return;
    }
    let [paris, rome] = SITES;
    let (same, other) = ("one-move-per = \"0s\"", "one-move-per = \"1s\"");
    let mut cluster = Cluster::new(|site, text| match site {
        "rome" => text.replace(same, other),
        _ => text,
    });
    for site in SITES {
        cluster.start(site);
    }
    let named = |cluster: &Cluster| {
        for (here, there) in [(paris, rome), (rome, paris)] {
            let status = until(cluster, here, "the difference is named", |s| {
                member(s, there)["same_config"] == false
                    && alarms(s).contains(&format!("{there} has a different configuration file"))
            });
            assert!(alarms(&status).contains("tierce config diff"), "{status:#}");
        }
    };
    named(&cluster);
    assert_eq!(status(&cluster, paris)["standing"], "unformed", "founded on two files");

    cluster.kill(rome);
    cluster.edit(rome, other, same);
    cluster.start(rome);
    until(&cluster, paris, "founded on one file", quorate);
    // What differs later stops nothing: the ledger's policy counts.
    cluster.edit(rome, same, other);
    must(&cluster, rome, &json!({"ask": "reload"}), "done");
    named(&cluster);
    must(&cluster, paris, &grant(rome, 20_000), "done");
    must(&cluster, paris, &move_to(paris), "done");
}

#[test]
fn lease_times_that_cannot_be_safe_keep_the_agent_from_starting_and_their_numbers_are_shown() {
    let cluster = Cluster::new(|_, text| {
        let unsafe_ =
            "timing = { promise = \"1s\", watchdog = \"600ms\", stop-budget = \"500ms\" }";
        text.replace("profile = \"metro-fast\"", &format!("profile = \"metro-fast\"\n{unsafe_}"))
    });
    let (code, said) = cluster.run(&["run", "--foreground"], "paris.toml");
    assert_eq!(code, Some(78), "{said}");
    // B + W (1+rho) + wake-up against H, in numbers.
    for word in ["I2", "1126 ms", "960.198 ms", "raise the promise time T"] {
        assert!(said.contains(word), "{word} is not in {said}");
    }
    assert!(said.contains("effect: nothing was started"), "{said}");
    assert!(!cluster.path("paris/store").exists(), "something was made");
}

// --- handlers and resources -----------------------------------------------------------------

fn script(cluster: &Cluster, path: &str, body: &str) {
    let path = cluster.path(path);
    fs::create_dir_all(path.parent().expect("a directory")).expect("made");
    fs::write(&path, format!("#!/bin/sh\n{body}\n")).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
}

/// The directory of a site's file, as the file itself names it.
fn dir_in(text: &str) -> String {
    let line = text.lines().find_map(|l| l.strip_prefix("data = \"")).expect("a data directory");
    line.trim_end_matches('"').rsplit_once('/').expect("a path").0.to_owned()
}

#[test]
fn a_site_whose_handler_hangs_is_not_granted_anything_and_says_why() {
    if !may_run() {
        return;
    }
    let [paris, rome] = SITES;
    let mut cluster = Cluster::new(|site, text| match site {
        "rome" => {
            let gate = format!(
                "[[ticket.gate]]\nhandler = [\"{}/hang\"]\ntimeout = \"300ms\"\ninterval = \"400ms\"\n",
                dir_in(&text)
            );
            text + &gate
        }
        _ => text,
    });
    let calm = cluster.path("calm").display().to_string();
    let pids = cluster.path("pids").display().to_string();
    script(&cluster, "hang", &format!("[ -e {calm} ] && exit 0\necho $$ >>{pids}\nsleep 1000"));
    for site in SITES {
        cluster.start(site);
    }
    until(&cluster, paris, "the cluster", quorate);
    let why = |s: &Value| s["tickets"][0]["sites"][rome].as_str().unwrap_or_default().to_owned();
    let status = until(&cluster, paris, "the reason", |s| why(s).contains("still running"));
    assert!(why(&status).contains("hang was still running after 300ms"), "{status:#}");
    let refused = cluster.ask(paris, &grant(rome, 2_000));
    assert_eq!(refused["code"], 113, "{refused}");
    assert!(refused.to_string().contains("still running after 300ms"), "{refused}");
    // Nobody else waits for it, and nothing of it is left.
    must(&cluster, paris, &grant(paris, 20_000), "done");
    fs::write(&calm, "").expect("written");
    until(&cluster, paris, "rome may hold", |s| why(s).is_empty());
    must(&cluster, paris, &move_to(rome), "done");
    for pid in fs::read_to_string(&pids).expect("it was asked").lines() {
        let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        assert!(state.is_empty() || state.contains(") Z "), "handler {pid} still runs: {state}");
    }
}

/// An agent as resource-agents has them, whose `stop` never ends.
fn stubborn(dir: &str) -> String {
    format!(
        r#"alive() {{ kill -0 "$(cat {dir}/daemon 2>/dev/null)" 2>/dev/null; }}
case $1 in
start) alive && exit 0; setsid sleep 1000 </dev/null >/dev/null 2>&1 & echo $! >{dir}/daemon;;
stop) alive || exit 0; sleep 1000;;
monitor|status) alive || exit 7;;
meta-data) cat <<'END'
<?xml version="1.0"?>
<resource-agent name="stubborn" version="1.0"><version>1.0</version>
<parameters/><actions><action name="start" timeout="20s"/><action name="stop" timeout="20s"/>
<action name="monitor" timeout="20s" interval="10s"/><action name="meta-data" timeout="5s"/></actions>
</resource-agent>
END
;;
esac"#
    )
}

#[test]
fn a_resource_that_does_not_stop_keeps_its_ticket_until_the_guard_has_ended_it_and_the_lease_is_over()
 {
    if !may_run() {
        return;
    }
    let [paris, rome] = SITES;
    // T = 6 s, B = 2 s: a busy machine loses no lease meanwhile.
    let mut cluster = Cluster::new(|site, text| match site {
        "rome" => {
            let dir = dir_in(&text);
            let text = text
                .replace("metro-fast", "lan")
                .replace("ocf:heartbeat:Dummy", "ocf:test:stubborn")
                .replace(&format!("params = {{ state = \"{dir}/rome.state\" }}\n"), "")
                .replace(&format!("record:{dir}/rome.record"), "kill");
            format!("ocf-root = \"{dir}/ocf\"\n{text}")
        }
        _ => text.replace("metro-fast", "lan"),
    });
    let root = cluster.path("").display().to_string();
    let root = root.trim_end_matches('/');
    script(&cluster, "ocf/resource.d/test/stubborn", &stubborn(root));
    for site in SITES {
        cluster.start(site);
    }
    until(&cluster, paris, "the cluster", quorate);
    let daemon = || {
        let pid = fs::read_to_string(cluster.path("daemon")).unwrap_or_default();
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    };
    must(&cluster, paris, &grant(rome, 20_000), "done");
    assert!(daemon(), "granted and does not run");

    // Asked to stop, it does not: nothing is released, whatever the command's patience.
    let mut asked = revoke();
    asked["wait_ms"] = 4_000.into();
    let refused = cluster.ask(paris, &asked);
    assert_eq!(text(&refused, "reply"), "error", "{refused}");
    let held = ticket(&cluster, paris);
    assert_eq!(text(&held, "site"), rome, "{held:#}");
    assert!(daemon(), "it was ended before its lease was over");
    until(&cluster, rome, "an alarm", |s| alarms(s).contains("stop"));

    // Taken back: the voters extend it no more, the guard ends it in time, then it expires.
    let socket = cluster.path("paris/control.sock");
    let ask = json!({"ask": "take-back", "name": "web", "note": "it hangs", "wait_ms": 30_000});
    let asked = std::thread::spawn(move || cluster::ask_at(&socket, &ask));
    let by = Instant::now() + SOON;
    while ticket(&cluster, paris)["site"] == rome {
        assert!(Instant::now() < by, "it never expires\n{}", cluster.logs());
    }
    assert!(!daemon(), "the ticket is free while it runs\n{}", cluster.logs());
    let events = fs::read_to_string(cluster.path("rome/guard.events")).unwrap_or_default();
    assert!(events.contains("killed ticket="), "{events}");
    let done = asked.join().expect("asked");
    assert_eq!(text(&done, "reply"), "done", "{done}\n{}", cluster.logs());
    must(&cluster, paris, &grant(paris, 20_000), "done");
    assert!(cluster.runs_at(paris) && !daemon());
    let ask = json!({"ask": "history", "name": "web", "limit": 20});
    let history = must(&cluster, paris, &ask, "history")["decisions"].to_string();
    // Once the guard has ended it, the agent may see that first and release, or the lease is over.
    let ends = ["expired", "lapsed", "released by rome"];
    assert!(ends.iter().any(|end| history.contains(end)), "{history}");
}
