//! `tierce demo`: the whole product on one machine in less than a minute, and a proof that it held.
//!
//! An operator who is to trust a thing with the question "who may write" wants to see it fail
//! first. The demo forms a real cluster out of real processes on loopback (two agents with their
//! guards, an arbitrator), puts a service under a ticket, and breaks one thing after the other
//! while a client writes numbered records. It needs no root, no network and no configuration.
//!
//! What it shows is judged and not narrated: every phase has a prediction that was made before the
//! fault, the outage is what the client measured, and *overlap*, the service at two sites at once,
//! is looked for by a witness that asks both sites all the time. The exit code is 0 only if
//! overlap was zero and every phase kept its prediction.
//!
//! | module | what it does |
//! |---|---|
//! | `lab` | directory, certificates, files, processes, and their end |
//! | `relay` | lines between the members that can be cut without root |
//! | `net` | relay, name server and route collector on their own thread |
//! | `service` | the service that moves, and its resource agent |
//! | `client` | the client and the witness |
//! | `program` | what is done, in which order: the demo, or a drill in its lab |
//! | `conduct` | the phases |
//! | `seed` | numbers that look random |
//! | `report` | what was found |
//! | `limits` | every bound |
//!
//! How it is judged and shown is in `crate::evidence`, for drills are judged and shown the same
//! way.
//!
//! Invariants:
//! - only processes that this demo started are ever signalled;
//! - ports are free ones and the directory is new: what an earlier demo left does not matter;
//! - whatever ends the demo ends its processes, SIGKILL included: the kernel tells the members, and
//!   a caretaker ends what is left.

mod client;
mod conduct;
mod lab;
mod limits;
mod net;
mod program;
mod relay;
mod report;
mod seed;
mod service;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::Args;
use tierce_ticket::timing::Profile;
use tokio::signal::unix::{SignalKind, signal};

pub(crate) use limits::ALLOWANCE_MS;
pub(crate) use program::{Fault, Program};
pub(crate) use service::{ServiceArgs, run as run_service};

use client::{Shared, Ways};
use conduct::Conductor;
use lab::{Lab, SERVICE_NAME, SITES, Trouble, trouble};
use net::Net;
use seed::Seed;

use crate::evidence::text;
use crate::evidence::timeline::{Kind, Show, Timeline};

const HELP: &str = "\
Two sites and an arbitrator as real processes on loopback: no root, no network, nothing left behind.
One node per site; two nodes per site come with a later version. A client writes a numbered record
every 10 ms to the service under the ticket, and a witness asks both sites all the time.

Phases: healthy, blip (no move), cut (failover), heal, planned move, arbitrator lost, agent killed,
agent frozen. Exit code 0 only if the service never ran twice and every phase kept its prediction;
1 if not (the directory is kept then), 130 when interrupted.";

/// Runs a cluster on this machine, breaks it in eight ways, and shows that it held.
#[derive(Args, Clone, Debug)]
#[command(after_help = HELP)]
pub(crate) struct DemoArgs {
    /// Fixes the timing of all faults and the order of the last three.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Lease times: metro-fast, lan, wan, cautious (all but the first take longer than a minute).
    #[arg(long, default_value = "metro-fast", value_parser = profile)]
    profile: Profile,
    /// Writes report.json and report.html there.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Keeps the demo's directory (files, logs, stores, recordings).
    #[arg(long)]
    keep: bool,
    /// Events and report as JSON, one object a line.
    #[arg(long)]
    json: bool,
    /// How many milliseconds a phase may be beyond its prediction: processes share this machine.
    #[arg(long, value_name = "MS", default_value_t = limits::ALLOWANCE_MS)]
    allowance: u64,
}

/// A profile by its word.
pub(crate) fn profile(word: &str) -> Result<Profile, String> {
    let words = Profile::ALL.map(Profile::word);
    let found = Profile::ALL.into_iter().find(|p| p.word() == word);
    found.ok_or_else(|| format!("choose one of {}", words.join(", ")))
}

/// Runs the demo; `json` as well as `--json` gives JSON.
pub(crate) fn run(args: &DemoArgs, json: bool) -> ExitCode {
    let seed = args.seed.unwrap_or_else(some_seed);
    execute(&Program {
        drill: false,
        faults: Program::all(seed),
        seed,
        profile: args.profile,
        report: args.report.clone(),
        keep: args.keep,
        allowance: args.allowance,
        show: if json || args.json { Show::Json } else { Show::Text },
    })
}

/// Runs a program in a lab of its own.
pub(crate) fn execute(program: &Program) -> ExitCode {
    let timeline = Timeline::new(program.show);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime
        .map_err(trouble("a runtime"))
        .and_then(|runtime| runtime.block_on(perform(program, &timeline)));
    match done {
        Ok(code) => code,
        Err(why) => {
            let what = if program.drill { "the lab" } else { "the demo" };
            eprintln!("error: {what} could not be set up: {why}");
            eprintln!("effect: nothing was shown, and nothing is left running");
            eprintln!("inspect: the same with --keep, then the logs in its directory");
            eprintln!("safer: {what} touches nothing but its own directory and loopback");
            ExitCode::FAILURE
        }
    }
}

async fn perform(program: &Program, timeline: &Timeline) -> Result<ExitCode, Trouble> {
    let mut terminate = signal(SignalKind::terminate()).map_err(trouble("SIGTERM"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(trouble("SIGINT"))?;
    let mut hangup = signal(SignalKind::hangup()).map_err(trouble("SIGHUP"))?;
    // Made in advance: a minute later is no time to find that it cannot be written.
    if let Some(dir) = &program.report {
        std::fs::create_dir_all(dir).map_err(trouble("the directory of the report"))?;
    }
    let (mut conductor, watchers) = set_up(program, timeline).await?;
    let ended = tokio::select! {
        ended = conductor.run(&program.faults) => ended,
        _ = terminate.recv() => return Ok(interrupted(timeline)),
        _ = interrupt.recv() => return Ok(interrupted(timeline)),
        _ = hangup.recv() => return Ok(interrupted(timeline)),
    };
    if let Err(why) = &ended {
        timeline.say(Kind::Demo, format!("ended early: {why}"));
    }
    drop(watchers); // what is heard from here on is the end of the demo, and no finding
    let stopped_early = ended.err().map(|why| why.to_string());
    let passed = finish(program, &mut conductor, stopped_early)?;
    drop(conductor);
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn interrupted(timeline: &Timeline) -> ExitCode {
    timeline.say(Kind::Demo, "interrupted: everything is ended");
    ExitCode::from(crate::codes::INTERRUPTED)
}

/// A seed when none was given.
pub(crate) fn some_seed() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::from(now.subsec_nanos()) % 100_000
}

type Keeps = (tokio::sync::oneshot::Sender<()>, tokio::task::JoinHandle<()>);

async fn set_up(program: &Program, timeline: &Timeline) -> Result<(Conductor, Keeps), Trouble> {
    let seed = program.seed;
    let lab = Lab::new(program.keep)?;
    let net = Net::start(lab.listens).await?;
    let text = format!(
        "two sites (one node each) and an arbitrator on loopback; profile {}, seed {seed}",
        program.profile
    );
    timeline.say(Kind::Demo, text);
    if let Some(dir) = lab.kept() {
        timeline.say(Kind::Demo, format!("everything is kept in {}", dir.display()));
    }
    let routes = net.collector.events();
    let routes = net::watch_routes(routes, lab.services, timeline.clone());
    let routes = tokio::spawn(routes);
    let ways = Ways {
        sites: SITES.map(str::to_owned),
        services: lab.services,
        dns: net.dns,
        name: SERVICE_NAME.to_owned(),
        log: lab.path("client.log"),
    };
    let shared = Shared::default();
    let client = net::start_client(ways, shared.clone(), timeline.clone())?;
    let conductor = Conductor {
        lab,
        net,
        shared,
        timeline: timeline.clone(),
        profile: program.profile,
        allowance: Duration::from_millis(program.allowance),
        seed: Seed(seed),
        first_start: Duration::ZERO,
        phases: Vec::new(),
    };
    Ok((conductor, (client, routes)))
}

/// Judges, shows and writes. Whether it passed.
fn finish(
    program: &Program,
    conductor: &mut Conductor,
    stopped_early: Option<String>,
) -> Result<bool, Trouble> {
    let report = report::judged(conductor, program, stopped_early);
    let passed = report.passed();
    if !passed {
        conductor.lab.keep();
    }
    let mut text = match program.show {
        Show::Text => text::scorecard(&report),
        _ => report.line() + "\n",
    };
    if let Some(dir) = &program.report {
        report.write(dir).map_err(trouble("writing the report"))?;
    }
    if program.show == Show::Text {
        if let (false, Some(dir)) = (passed, conductor.lab.kept()) {
            let _ = writeln!(text, "kept for inspection: {}", dir.display());
        }
        if let Some(dir) = &program.report {
            let _ = writeln!(text, "report: {}", dir.join("report.html").display());
        }
    }
    Timeline::print(&text);
    Ok(passed)
}
