//! The planned move: what it costs beside stopping here and starting there.
//!
//! Ours is counted from the request at the control socket until the successor's runner tells that
//! all has started, less what both runners took from their orders until the stop and the start were
//! done. So finding the leader, deciding, writing and telling are counted. The stricter figure,
//! beside the actions' own processes, also counts what it takes to arm the guard and to start those
//! processes; it has no bar. booth has nothing to stop or start here: its figure is the whole time
//! from the request to revoke to the written grant.

use std::time::Duration;

use anyhow::Context as _;
use tierce_rig::Mono;
use tierce_rig::booth::{self, Booth, Op};
use tierce_rig::tierce::{Cluster, other};

use crate::Run;
use crate::row::{Table, ms};

const TICKET: &str = "web";
/// What the bar allows beyond three round trips and two fsync.
const ALLOWED_MS: f64 = 5.0;
/// The log has it by then.
const TOLD: Duration = Duration::from_secs(2);
/// booth refuses a grant while it has not heard of the revoke.
const GRANT_TRIES: usize = 200;

#[derive(Debug, Default)]
struct Times {
    beside: Vec<f64>,
    beside_processes: Vec<f64>,
    to_stop: Vec<f64>,
    between: Vec<f64>,
    stop: Vec<f64>,
    start: Vec<f64>,
    whole: Vec<f64>,
    answered: Vec<f64>,
}

pub(crate) fn run(run: &Run, table: &mut Table) -> anyhow::Result<()> {
    eprintln!("== move: {} runs", run.options.runs);
    let mut cluster = Cluster::start(run.one_ticket(TICKET))?;
    cluster.grant(TICKET, 0)?;
    let from = Mono::now();
    let mut times = Times::default();
    let mut random = run.random(32);
    for n in 0..run.options.runs {
        let done = once(&cluster, &mut times);
        done.with_context(|| format!("move {n}; files in {}", cluster.keep_files().display()))?;
        let (beside, to_stop, between) = (times.beside[n], times.to_stop[n], times.between[n]);
        eprintln!(
            "   tierce move {n}: {beside:.1} ms beside stop and start; {to_stop:.1} to the stop, \
             {between:.1} from there to the start"
        );
        std::thread::sleep(Duration::from_millis(100) + random.up_to(Duration::from_millis(300)));
    }
    let overlap = ms(cluster.overlap(TICKET, from));
    drop(cluster);
    let peer = if run.peer() { peer(run)? } else { vec![] };
    let facts = &run.facts;
    let bar = 3.0 * facts.rtt_ms + 2.0 * facts.fsync_ms + ALLOWED_MS;
    table.spread("move.beside-stop-and-start", &times.beside, &peer, Some(bar));
    table.spread("move.beside-processes", &times.beside_processes, &[], None);
    table.spread("move.request-to-stop", &times.to_stop, &[], None);
    table.spread("move.stopped-to-start", &times.between, &[], None);
    table.spread("move.stop", &times.stop, &[], None);
    table.spread("move.start", &times.start, &[], None);
    table.spread("move.whole", &times.whole, &peer, None);
    table.spread("move.answered", &times.answered, &[], None);
    table.row("move.overlap", "ms", overlap, None).bar(0.0).note("all runs together");
    Ok(())
}

fn once(cluster: &Cluster, times: &mut Times) -> anyhow::Result<()> {
    let holder = cluster.calm(TICKET)?;
    let successor = other(holder);
    let mut stops = cluster.watch_actions(holder);
    let mut starts = cluster.watch_actions(successor);
    let from = Mono::now();
    cluster.shift(TICKET, successor)?;
    let answered = Mono::now();
    let (_, stopping) = stops.first("stopped", TOLD).context("the runner told of no stop")?;
    let (done, starting) = starts.first("started", TOLD).context("nor of a start")?;
    times.beside.push(done.ms_since(from) - ms(stopping) - ms(starting));
    let action = |site: usize, start: bool| {
        let all = cluster.witness(site, TICKET).actions();
        all.into_iter().find(|a| a.start == start && a.began > from)
    };
    let stop = action(holder, false).context("the witness was not stopped")?;
    let start = action(successor, true).context("the witness was not started")?;
    times.to_stop.push(stop.began.ms_since(from));
    times.between.push(start.began.ms_since(stop.ended));
    times.beside_processes.push(stop.began.ms_since(from) + start.began.ms_since(stop.ended));
    times.stop.push(stop.ended.ms_since(stop.began));
    times.start.push(start.ended.ms_since(start.began));
    times.whole.push(start.ended.ms_since(from));
    times.answered.push(answered.ms_since(from));
    Ok(())
}

fn peer(run: &Run) -> anyhow::Result<Vec<f64>> {
    let mut booth = Booth::new(run.on_our_net(booth::Options::one_second(run.seed)))?;
    let mut random = run.random(33);
    booth.fresh()?;
    booth.grant(0, "t0")?;
    let mut holder = 0;
    let mut times = Vec::new();
    for n in 0..run.options.runs {
        std::thread::sleep(Duration::from_millis(300) + random.up_to(Duration::from_secs(1)));
        let successor = other(holder);
        let mut writes = booth.watch(successor);
        let from = Mono::now();
        booth.request(holder, Op::Revoke, "t0")?;
        for _ in 0..GRANT_TRIES {
            let answer = booth.request(successor, Op::Grant, "t0")?;
            if matches!(&*answer.result, "ok" | "Pend") {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let written = writes.first_grant(Duration::from_secs(30)).context("booth did not move")?;
        times.push(written.ended.ms_since(from));
        eprintln!("   booth move {n}: {:.1} ms", times[n]);
        holder = successor;
    }
    Ok(times)
}
