//! The scheduler beside the real `crm_simulate`: CPU seconds and memory, both in the same run.
//!
//! Other work on the machine stretches wall time, so nothing here is wall time. Bars are parts of what the peer takes in this run.
//!
//! Reading order: `generate` (large clusters by rule) → `cost` (what a run cost) → the parts, here.

mod cost;
mod generate;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::ValueEnum;
use tierce_cib::time::Moment;
use tierce_cib::xml::Document;
use tierce_scheduler::{Prepared, schedule};

use crate::row::Table;
pub(crate) use cost::{CostArgs, tell};
use cost::{Tool, own};
use generate::{Event, cib};

/// The moment at which all is planned.
fn now() -> Moment {
    Moment::from_epoch(1_700_000_000, 0).expect("a moment")
}

const NODES: usize = 32;

/// Options of `scheduler`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Exit with 1 when a bar is missed.
    #[arg(long)]
    check: bool,
    /// Rows as JSON lines go here, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Only these parts.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Only these events of the large clusters: settled, ticket-revoked, ticket-fence, node-lost, start.
    #[arg(long, value_name = "EVENT", value_delimiter = ',')]
    events: Vec<String>,
    /// Without the peer, as if it were not installed.
    #[arg(long)]
    no_peer: bool,
    /// The shared cases [default: `TIERCE_SCHEDULER_CASES`, else beside the repository].
    #[arg(long, value_name = "FOLDER", env = "TIERCE_SCHEDULER_CASES")]
    cases: Option<PathBuf>,
}

/// Parts of `scheduler`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Every shared case, one process each.
    Suite,
    /// 32 nodes, 1,000 primitives.
    Large,
    /// 32 nodes, 5,000 primitives: the peer takes a minute and more for each.
    Huge,
    /// How the start of everything grows with the number of actions.
    Growth,
    /// One ticket changes in a cluster that was read before, as it does within an agent.
    Ticket,
}

/// What every part knows.
struct Run {
    options: Options,
    ours: Tool,
    peer: Option<Tool>,
    dir: tempfile::TempDir,
}

pub(crate) fn bench(options: &Options) -> anyhow::Result<bool> {
    let here = std::env::current_exe()?;
    let folder = here.parent().context("this program is in a folder")?;
    let ours = Tool(vec![folder.join("tierce").into(), "crm-simulate".into()]);
    let installed = std::process::Command::new("crm_simulate").arg("--version").output().is_ok();
    let peer = (installed && !options.no_peer).then(|| Tool(vec!["crm_simulate".into()]));
    if peer.is_none() {
        eprintln!("without the peer: crm_simulate is not installed, or --no-peer");
    }
    let run = Run { options: options.clone(), ours, peer, dir: tempfile::tempdir()? };
    let mut table = Table::beside("crm_simulate");
    for part in Part::value_variants() {
        if run.options.only.is_empty() || run.options.only.contains(part) {
            match part {
                Part::Suite => suite(&run, &mut table)?,
                Part::Large => clusters(&run, &mut table, "large", 1_000, 20.0)?,
                Part::Huge => clusters(&run, &mut table, "huge", 5_000, 40.0)?,
                Part::Growth => growth(&mut table)?,
                Part::Ticket => ticket(&mut table)?,
            }
        }
    }
    print!("{table}");
    if let Some(path) = &options.json {
        std::fs::write(path, table.lines()?).context("writing the rows")?;
    }
    Ok(!options.check || table.all_met())
}

/// Where the shared cases are.
fn cases(options: &Options) -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/scheduler-cases");
    let folder = options.cases.clone().unwrap_or(beside);
    folder.join("cases.tsv").is_file().then_some(folder)
}

fn suite(run: &Run, table: &mut Table) -> anyhow::Result<()> {
    let Some(folder) = cases(&run.options) else {
        println!("SKIPPED: suite: there are no shared cases; name them: TIERCE_SCHEDULER_CASES");
        return Ok(());
    };
    let list = std::fs::read_to_string(folder.join("cases.tsv"))?;
    let mut lines = list.lines().map(|l| l.split('\t').collect::<Vec<_>>());
    let head = lines.next().context("the table of cases has a head")?;
    let column = |name| head.iter().position(|c| *c == name).context("the table has this column");
    let (name, args) = (column("name")?, column("args")?);
    let (mut ours, mut theirs, mut count, mut all) = (0.0, 0.0, 0_usize, 0_usize);
    for line in lines {
        all += 1;
        let file = folder.join("xml").join(format!("{}.xml", line[name]));
        let mut more = vec!["-S"];
        more.extend(line.get(args).copied().unwrap_or("").split_whitespace());
        let one = run.ours.cost(&file, &more)?;
        let other = run.peer.as_ref().map(|p| p.cost(&file, &more)).transpose()?;
        // What one of the two refuses costs it nothing, and says nothing.
        if one.well && other.is_none_or(|o| o.well) {
            ours += one.cpu;
            theirs += other.map_or(0.0, |o| o.cpu);
            count += 1;
        }
        if all % 100 == 0 {
            eprintln!("  {all} cases");
        }
    }
    let theirs = run.peer.is_some().then_some(theirs);
    table
        .row("suite", "CPU s", ours, theirs)
        .bar(theirs.map(|t| t / 10.0))
        .note(format!("{count} of {all} cases: those that both answer; a process each"));
    Ok(())
}

/// Clusters of one size, after each event.
fn clusters(
    run: &Run,
    table: &mut Table,
    name: &str,
    primitives: usize,
    times: f64,
) -> anyhow::Result<()> {
    for event in Event::ALL {
        let word = event.word();
        if !run.options.events.is_empty() && !run.options.events.iter().any(|e| e == word) {
            continue;
        }
        let text = cib(NODES, primitives, event);
        let size = text.len() as f64;
        let file = run.dir.path().join(format!("{name}-{word}.xml"));
        std::fs::write(&file, &text)?;
        drop(text);
        eprintln!("  {NODES} x {primitives}, {word}: {:.1} MB", size / 1e6);
        let ours = run.ours.cost(&file, &["-R"])?;
        anyhow::ensure!(ours.well, "ours has no plan for {}", file.display());
        // Its start of everything is quadratic: beyond a thousand it takes longer than anybody waits.
        let waits = primitives <= 1_000 || event != Event::Start;
        let peer =
            run.peer.as_ref().filter(|_| waits).map(|p| p.cost(&file, &["-R"])).transpose()?;
        let theirs = peer.map(|p| p.cpu);
        table
            .row(format!("{name}.{word}.cpu"), "CPU s", ours.cpu, theirs)
            .bar(theirs.map(|t| t / times))
            .note(format!("{NODES} nodes, {primitives} primitives; bar: the peer's by {times}"));
        memory(table, &format!("{name}.{word}"), event, size, ours.memory, peer.map(|p| p.memory));
        std::fs::remove_file(&file)?;
    }
    Ok(())
}

/// Memory of a plan: of a cluster with a history by its XML. Where everything starts the XML is small, and the plan is what takes
/// memory: there it is the peer's that ours is held to.
fn memory(table: &mut Table, name: &str, event: Event, size: f64, ours: f64, peer: Option<f64>) {
    if event == Event::Start {
        let mb = |bytes: f64| bytes / 1e6;
        table
            .row(format!("{name}.memory"), "MB", mb(ours), peer.map(mb))
            .bar(peer.map(mb))
            .note("greatest memory; bar: the peer's");
        return;
    }
    let share = |bytes: f64| bytes / size;
    table
        .row(format!("{name}.memory"), "x XML", share(ours), peer.map(share))
        .bar(5.0)
        .note(format!("greatest memory over {:.1} MB of XML", size / 1e6));
}

/// A ticket is revoked and granted again in a cluster that was read before; the bar is a third of reading and planning it anew.
fn ticket(table: &mut Table) -> anyhow::Result<()> {
    for primitives in [1_000, 5_000] {
        let text = cib(NODES, primitives, Event::Settled);
        let (anew, doc) = own(|| Document::parse(text))?;
        let mut doc = doc?;
        let (pass, plan) = own(|| schedule(&mut doc, now()).map(|plan| plan.actions()))?;
        anyhow::ensure!(plan? == 0, "nothing is to be done in a settled cluster");
        let mut prepared = Prepared::read(&mut doc, now())?;
        let (mut least, mut actions) = (f64::INFINITY, 0);
        for granted in [false, true, false, true, false] {
            prepared.set_ticket("T0", granted, false);
            let (cpu, plan) = own(|| prepared.plan().map(|plan| plan.actions()))?;
            actions = plan?;
            least = least.min(cpu);
        }
        anyhow::ensure!(actions > 0, "a revoked ticket stops something");
        let full = anew + pass;
        table
            .row(format!("ticket.{NODES}x{primitives}"), "CPU s", least, None)
            .bar(full / 3.0)
            .note(format!("{actions} actions; the text read and planned anew: {full:.3} CPU s"));
    }
    Ok(())
}

/// The start of everything with more and more actions, on ten nodes.
fn growth(table: &mut Table) -> anyhow::Result<()> {
    let mut first = None;
    for primitives in [82, 164, 328, 656, 1_312] {
        let text = cib(10, primitives, Event::Start);
        let mut doc = Document::parse(text)?;
        let mut least = f64::INFINITY;
        let mut actions = 0;
        for _ in 0..5 {
            let (cpu, plan) = own(|| schedule(&mut doc, now()).map(|plan| plan.actions()))?;
            actions = plan?;
            least = least.min(cpu);
        }
        let each = least / actions as f64 * 1e6;
        let base = *first.get_or_insert(each);
        table
            .row(format!("growth.{actions}"), "us/action", each, None)
            .bar(base * 1.5)
            .note(format!("{:.2} of what an action costs among the fewest", each / base));
    }
    Ok(())
}
