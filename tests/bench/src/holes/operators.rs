//! Holes 7 and 9: what operators do to it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use tierce_rig::booth::Op;
use tierce_rig::tierce::{Cluster, NAMES, THIRD, other};
use tierce_rig::{Mono, Proc, until};

use super::lab::{Ours, THEIR_TICKET, TICKET, Theirs};
use crate::fault::{WATCH, pause, whole};

/// A daemon that was started answers within this time.
const UP: Duration = Duration::from_secs(5);
/// The second grant comes so long after the first.
const SOON: Duration = Duration::from_millis(200);
/// What an operator's command waits for.
const WAIT: &str = "3s";
/// The longest answer that is printed.
const ANSWER_CHARS: usize = 90;

// ---- hole 7: ours -----------------------------------------------------------------------------

/// An operator's command at a site, on its way.
struct Asked {
    client: Proc,
    log: PathBuf,
}

impl Asked {
    fn new(cluster: &Cluster, site: usize, name: &str, words: &[&str]) -> anyhow::Result<Self> {
        let log = cluster.path(&format!("operator-{name}.log"));
        let _ = std::fs::remove_file(&log);
        let mut command = cluster.tierce()?;
        command.arg("--socket").arg(cluster.socket(site)).arg("--yes").args(words);
        command.args(["--wait", WAIT]);
        let client = cluster.machine(site).start("an operator", command, &log)?;
        Ok(Self { client, log })
    }

    /// Its exit code and the first words of its answer.
    fn answer(&mut self, within: Duration) -> anyhow::Result<String> {
        let status = until(within, || self.client.ended()).context("a command was not answered")?;
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let line = text.lines().find(|l| !l.trim().is_empty()).unwrap_or("nothing");
        let line: String = line.trim().chars().take(ANSWER_CHARS).collect();
        let code = status.code().context("a command was killed before it was answered")?;
        Ok(format!("exit {code}, \"{line}\""))
    }
}

/// The holder is cut off, and both others have been killed and started again.
fn two_without_memory(cluster: &mut Cluster, holder: usize) -> anyhow::Result<()> {
    cluster.net().isolate(holder);
    for member in [other(holder), THIRD] {
        cluster.kill_daemon(member);
        cluster.start_daemon(member)?;
    }
    let up = until(UP, || cluster.status(other(holder)));
    up.map(drop).context("the other site's daemon does not answer")
}

pub(crate) fn grant_repeated(o: &mut Ours, holder: usize) -> anyhow::Result<String> {
    let (cluster, to) = (&mut o.cluster, other(holder));
    two_without_memory(cluster, holder)?;
    let grant = ["tickets", "grant", TICKET, "--to", NAMES[to]];
    let first = Asked::new(cluster, to, "first", &grant)?;
    std::thread::sleep(SOON);
    // The first client is gone when the others ask.
    drop(first);
    let mut force = Asked::new(cluster, to, "force", &["tickets", "take-back", TICKET])?;
    std::thread::sleep(SOON);
    let mut second = Asked::new(cluster, to, "second", &grant)?;
    let answers = [second.answer(UP * 2)?, force.answer(UP * 2)?];
    // What was taken back stays free until somebody grants it, and is refused until it is free.
    let granted = until(UP * 2, || {
        let mut again = Asked::new(cluster, to, "again", &grant).ok()?;
        again.answer(UP).ok()?;
        (cluster.holder(to, TICKET) == Some(to)).then_some(())
    });
    granted.context("what was taken back could not be granted")?;
    std::thread::sleep(WATCH);
    Ok(format!("second grant: {}; taken back: {}", answers[0], answers[1]))
}

pub(crate) fn client_leaves(o: &mut Ours, holder: usize) -> anyhow::Result<String> {
    let (cluster, to) = (&mut o.cluster, other(holder));
    two_without_memory(cluster, holder)?;
    let grant = ["tickets", "grant", TICKET, "--to", NAMES[to]];
    let mut first = Asked::new(cluster, to, "first", &grant)?;
    std::thread::sleep(SOON);
    let waited = first.client.ended().is_none();
    drop(first);
    std::thread::sleep(WATCH);
    let when = if waited { "before it was answered" } else { "after a refusal" };
    Ok(format!("the client was gone {when}"))
}

// ---- hole 7: booth ----------------------------------------------------------------------------

fn peer_two_without_memory(t: &mut Theirs) -> anyhow::Result<()> {
    // Right after a renewal, so that most of the lease is left.
    t.booth.fresh()?;
    t.booth.grant(0, THEIR_TICKET)?;
    pause(300);
    t.booth.net().isolate(0);
    for member in [2, 1] {
        t.booth.kill_daemon(member);
    }
    t.booth.forget(1, THEIR_TICKET);
    for member in [2, 1] {
        t.booth.start_daemon(member)?;
    }
    let up = until(UP, || (!t.booth.list(1).is_empty()).then_some(()));
    up.context("the second site's daemon does not answer")?;
    std::thread::sleep(t.booth.options().timeout + Duration::from_millis(200));
    Ok(())
}

pub(crate) fn peer_grant_repeated(t: &mut Theirs) -> anyhow::Result<Duration> {
    peer_two_without_memory(t)?;
    let _first = t.booth.begin(1, Op::Grant, THEIR_TICKET)?;
    std::thread::sleep(t.booth.options().timeout / 5);
    let mut second = t.booth.begin(1, Op::Grant, THEIR_TICKET)?;
    let _answer = second.next_answer()?;
    std::thread::sleep(t.booth.options().expire + WATCH);
    Ok(t.overlap())
}

pub(crate) fn peer_client_leaves(t: &mut Theirs) -> anyhow::Result<Duration> {
    peer_two_without_memory(t)?;
    let asked = t.booth.begin(1, Op::Grant, THEIR_TICKET)?;
    std::thread::sleep(t.booth.options().timeout / 5);
    drop(asked);
    std::thread::sleep(t.booth.options().expire + WATCH);
    Ok(t.overlap())
}

// ---- hole 9 -----------------------------------------------------------------------------------

/// Lease times six times as long, and half as long.
const LONGER: &str = "profile = \"lan\"\n";
const SHORTER: &str = "profile = \"metro-fast\"\ntiming = { promise = \"500ms\", \
    watchdog = \"50ms\", stop-budget = \"100ms\", renew-every = \"50ms\", rtt-max = \"20ms\", \
    election = \"100ms\" }\n";
const UNITLESS: &str = "profile = \"metro-fast\"\ntiming = { promise = \"1\" }\n";

pub(crate) fn unequal_files(o: &mut Ours, holder: usize) -> anyhow::Result<String> {
    let (odd, times) = match o.n % 3 {
        0 => (holder, LONGER),
        1 => (other(holder), SHORTER),
        _ => (other(holder), LONGER),
    };
    let cluster = &mut o.cluster;
    let file = cluster.file(odd);
    let right = std::fs::read_to_string(&file).context("a site's file")?;
    let with = |times: &str| right.replace("profile = \"metro-fast\"\n", times);
    unitless_is_refused(cluster, &with(UNITLESS))?;

    std::fs::write(&file, with(times)).context("an odd file")?;
    cluster.restart_daemon(odd)?;
    let differs = |site: usize| {
        let status = cluster.status(site)?;
        status.members.iter().any(|m| m.same_config == Some(false)).then_some(status.summary)
    };
    let said = until(UP, || differs(other(odd))).context("nobody says that the files differ")?;
    cluster.formed()?;
    if odd == holder {
        // It gave up what it held when it was told to end.
        cluster.request_move(TICKET, holder)?;
    }
    pause(1_500);
    let holds = cluster.holder(other(odd), TICKET).context("nobody holds it")?;
    (o.holder, o.since) = (holds, Mono::now());
    cluster.net().isolate(holds);
    std::thread::sleep(WATCH);
    whole(cluster);
    std::fs::write(&file, &right).context("the right file")?;
    cluster.restart_daemon(odd)?;
    let starts = cluster.witness(odd, TICKET).lives().iter().filter(|l| l.from > o.since).count();
    Ok(format!("\"{said}\"; {starts} starts at the odd one since"))
}

/// A second or a millisecond? Nobody guesses.
fn unitless_is_refused(cluster: &Cluster, text: &str) -> anyhow::Result<()> {
    let file = cluster.path("unitless.toml");
    std::fs::write(&file, text).context("a file to be refused")?;
    let mut check = cluster.tierce()?;
    check.args(["config", "check"]).arg(&file);
    let out = check.output().context("tierce config check")?;
    anyhow::ensure!(!out.status.success(), "a time without a unit was taken");
    Ok(())
}

pub(crate) fn peer_unequal_files(t: &mut Theirs) -> anyhow::Result<Duration> {
    t.booth.fresh()?;
    t.booth.grant(0, THEIR_TICKET)?;
    pause(1_000);
    t.booth.net().isolate(0);
    std::thread::sleep(t.booth.options().expire + WATCH);
    Ok(t.overlap())
}
