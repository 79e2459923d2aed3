//! Holes 2 and 8: datagrams that are old, and datagrams that nobody sent.

use std::net::UdpSocket;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tierce_rig::net::{Net, Packet};
use tierce_rig::tierce::{NAMES, PORT, STRANGER, THIRD, other};
use tierce_rig::{Machine, Proc, Programs, Random, Witness, booth};

use super::lab::{Ours, THEIR_TICKET, TICKET, Theirs};
use crate::fault::{WATCH, pause};

/// Between two times that everything is sent again.
const AGAIN: Duration = Duration::from_millis(50);
/// Sizes of garbage: nothing, less than any header, and up to a whole packet.
const SIZES: [usize; 6] = [0, 1, 21, 48, 1_200, 1_400];

/// Plays packets to whom they were for, again and again; how many were taken.
fn play(net: &Net, tape: &[Packet], long: Duration, mut besides: impl FnMut()) -> usize {
    let begun = Instant::now();
    let mut taken = 0;
    while begun.elapsed() < long {
        taken += tape.iter().filter(|p| net.switch().inject(p.to, &p.bytes)).count();
        besides();
        std::thread::sleep(AGAIN);
    }
    taken
}

/// What went in half a second or more.
fn record(net: &Net, ms: u64) -> anyhow::Result<Vec<Packet>> {
    net.switch().record();
    pause(ms);
    let tape = net.switch().recorded();
    anyhow::ensure!(!tape.is_empty(), "nothing was sent that could be played again");
    Ok(tape)
}

// ---- hole 2 -----------------------------------------------------------------------------------

pub(crate) fn old_answers(o: &mut Ours, holder: usize) -> anyhow::Result<String> {
    let net = o.cluster.net();
    let mut tape = record(net, 500)?;
    tape.retain(|p| p.to == holder);
    let before = net.switch().count_all();
    net.switch().change(|from, _, rule| {
        rule.cut = from == holder;
        rule.duplicate = 0.5;
        rule.reorder = 0.5;
        rule.reorder_by = Duration::from_millis(200);
    });
    let played = play(net, &tape, WATCH, || {});
    let repeated = (net.switch().count_all() - before).repeated;
    anyhow::ensure!(played > 0 && repeated > 0, "nothing old arrived: {played}, {repeated}");
    Ok(format!("{played} old packets were played to the holder, {repeated} came twice"))
}

pub(crate) fn peer_old_answers(t: &mut Theirs) -> anyhow::Result<Duration> {
    t.held()?;
    let net = t.booth.net();
    // A renewal and more: it renews every half of its lease.
    let mut tape = record(net, 700)?;
    tape.retain(|p| p.to == 0);
    net.isolate(0);
    play(net, &tape, WATCH, || {});
    Ok(t.overlap())
}

// ---- hole 8 -----------------------------------------------------------------------------------

/// A machine that is no member's, with an agent that claims to be one.
struct Stranger {
    machine: Machine,
    agent: Option<Proc>,
    witness: Witness,
    socket: UdpSocket,
}

impl Stranger {
    /// With an authority of his own, under the tenant's name, and the second site's file.
    fn new(o: &Ours) -> anyhow::Result<Self> {
        let (cluster, place) = (&o.cluster, o.cluster.path("stranger"));
        let programs = Programs::find()?;
        let tool = programs.path("tierce-rig-tool")?;
        let machine = Machine::new("stranger", &tool, cluster.net().space(STRANGER))?;
        let _ = std::fs::remove_dir_all(&place);
        let (name, authority) = (NAMES[1], place.join("ca"));
        let mut init = cluster.tierce()?;
        init.args(["pki", "init", "--tenant", "rig", "--dir"]).arg(&authority);
        machine.run(init)?;
        let mut issue = cluster.tierce()?;
        issue.args(["pki", "issue", "--role", "site", "--name", name, "--ca"]).arg(&authority);
        issue.arg("--dir").arg(place.join("pki"));
        machine.run(issue)?;
        let text = std::fs::read_to_string(cluster.file(1)).context("a site's file")?;
        let data = |path: &std::path::Path| format!("data = \"{}\"", path.display());
        let text = text.replace(&data(&cluster.path(name)), &data(&place));
        let own = Witness::of(cluster.path(&format!("{TICKET}-stranger.witness")));
        let log = |w: &Witness| w.log().display().to_string();
        let text = text.replace(&log(&cluster.witness(1, TICKET)), &log(&own));
        let file = place.join("agent.toml");
        std::fs::write(&file, text).context("the stranger's file")?;
        let mut run = Command::new(programs.path("tierce-agent")?);
        run.args(["run", "--config"]).arg(&file);
        let agent = machine.start("a stranger's agent", run, &cluster.path("stranger.log"))?;
        let bound = cluster.net().space(STRANGER).with(|| UdpSocket::bind("0.0.0.0:0"))?;
        let socket = bound.context("a stranger's socket")?;
        Ok(Self { machine, agent: Some(agent), witness: own, socket })
    }

    /// Garbage to every member, some of it with the first byte of a handshake.
    fn garbage(&self, random: &mut Random) {
        for member in 0..=THIRD {
            for size in SIZES {
                let mut bytes: Vec<u8> = (0..size).map(|_| random.next_u64() as u8).collect();
                if random.chance(0.5)
                    && let Some(first) = bytes.first_mut()
                {
                    *first |= 0xc0;
                }
                // Lost or refused, as on any network.
                let _ = self.socket.send_to(&bytes, (Net::address(member), PORT));
            }
        }
    }
}

pub(crate) fn forged(o: &mut Ours, holder: usize) -> anyhow::Result<String> {
    let mut stranger = Stranger::new(o)?;
    let mut random = o.random.clone();
    let net = o.cluster.net();
    let tape = record(net, 500)?;
    let mut played =
        play(net, &tape, Duration::from_millis(1_500), || stranger.garbage(&mut random));
    for site in 0..THIRD {
        let holds = o.cluster.holder(site, TICKET);
        anyhow::ensure!(holds == Some(holder), "a stranger moved it: {site} says {holds:?}");
    }
    anyhow::ensure!(!o.cluster.witness(other(holder), TICKET).runs(), "a stranger started it");
    let arrived = |to| {
        let count = net.switch().count(STRANGER, to);
        count.packets - count.dropped
    };
    let garbage: u64 = (0..=THIRD).map(arrived).sum();
    net.isolate(holder);
    played += play(net, &tape, WATCH, || stranger.garbage(&mut random));
    anyhow::ensure!(played > 0 && garbage > 0, "nothing arrived: {played}, {garbage}");
    let tried = stranger.agent.as_mut().is_some_and(|a| a.ended().is_none());
    anyhow::ensure!(tried, "the stranger's agent ended by itself, and so tried nothing");
    anyhow::ensure!(stranger.witness.lives().is_empty(), "the service ran at the stranger's");
    stranger.agent = None;
    stranger.machine.power_off();
    Ok(format!("{played} old packets and {garbage} of the stranger's own arrived"))
}

pub(crate) fn peer_forged(t: &mut Theirs) -> anyhow::Result<Duration> {
    t.held()?;
    let space = t.booth.net().space(booth::STRANGER);
    let bound = space.with(|| UdpSocket::bind("0.0.0.0:0"))?;
    let forged = booth::step_down(0, THEIR_TICKET);
    bound?.send_to(&forged, (Net::address(1), booth::PORT)).context("the forged datagram")?;
    std::thread::sleep(WATCH);
    Ok(t.overlap())
}
