//! One arbitrator for a thousand tenants: how long its answers take when it has one core.
//!
//! The arbitrator is the real daemon on core 0, with its journals on a disk. On the other cores are
//! both sites of every tenant: real members of the core, real certificates, real QUIC, two
//! connections a tenant to the arbitrator; only their journals and the way between a tenant's two
//! sites are left out, since it is not they that are measured.
//!
//! Two thousand sites on one core wait for each other, which two thousand machines do not. So a few
//! tenants are in a process of their own that the others cannot hold up, and only their renewals are
//! timed, from sending to the promise. The arbitrator does not know who is in the sample.

mod load;
mod site;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use tierce_link::{Ca, Name, Role, Tenant};
use tierce_rig::net::{Net, Rule};
use tierce_rig::{Lines, Machine, Proc, Programs, directory, directory_in, until};

pub(crate) use load::{LoadArgs, load};

use crate::Run;
use crate::row::Table;

/// Until all have their sessions, and the load has run.
const PATIENCE: Duration = Duration::from_mins(7);
/// The core of the arbitrator; the load has the others.
const CORE: &str = "0";
const PORT: u16 = 9930;
/// Tenants whose renewals are timed.
const SAMPLED: usize = 40;
/// Seconds in which the sample's renewals are timed.
const WINDOW: u64 = 20;
/// The same for the others: it begins before the sample forms and ends after it.
const LOAD_WINDOW: u64 = 45;
/// Real-time priority of the sample.
const URGENT: &str = "10";

fn tenant(n: usize) -> String {
    format!("tenant-{n:04}")
}

pub(crate) fn run(run: &Run, table: &mut Table) -> anyhow::Result<()> {
    let tenants = run.options.tenants;
    eprintln!("== tenants: {tenants} tenants of two sites, two renewals a second each");
    let pki = directory_in(Path::new("/dev/shm"), "pki-")?;
    certificates(pki.path(), tenants)?;
    let data = directory("tenants-")?;
    let programs = Programs::find()?;
    let net = Net::new(1, &Rule::default(), 0)?;
    let machine = Machine::new("zurich", &programs.path("tierce-rig-tool")?, net.space(0))?;
    let arbitrator = programs.path("tierce-arbitrator")?;
    for n in 0..tenants {
        let mut add = Command::new(&arbitrator);
        add.args(["tenant", "add", &tenant(n), "--member-dir"]);
        add.arg(pki.path().join(tenant(n)).join("arb")).arg("--data").arg(data.path().join("arb"));
        machine.run(add)?;
    }
    eprintln!("   {tenants} tenants added");

    let mut command = Command::new("taskset");
    command.args(["-c", CORE]).arg(&arbitrator).args(["run", "--user", "root", "--listen"]);
    command.arg(format!("127.0.0.1:{PORT}")).arg("--data").arg(data.path().join("arb"));
    command.env("RUNTIME_DIRECTORY", "/run/tierce");
    let log = data.path().join("arb.log");
    let daemon = machine.start("arbitrator", command, &log)?;
    let mut lines = Lines::of(&log);
    let ready = || lines.next_lines().iter().any(|l| l.contains("\"ready:")).then_some(());
    until(PATIENCE, ready).context("the arbitrator is not ready")?;

    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let others = if cores > 1 { format!("1-{}", cores - 1) } else { CORE.to_owned() };
    let sampled = SAMPLED.min(tenants);
    let begin = |name: &str, first: usize, count: usize, window: u64, urgent: bool| {
        let mut command = Command::new("taskset");
        command.args(["-c", &others]);
        if urgent {
            command.args(["chrt", "--fifo", URGENT]);
        }
        command.arg(std::env::current_exe()?).arg("tenant-load");
        command.args(["--first", &first.to_string(), "--tenants", &count.to_string()]);
        command.args(["--window", &window.to_string()]);
        command.arg("--arbitrator").arg(format!("127.0.0.1:{PORT}")).arg("--pki").arg(pki.path());
        let log = data.path().join(format!("{name}.log"));
        let process = machine.start(name, command, &log)?;
        anyhow::Ok(Half { name: name.to_owned(), process, lines: Lines::of(&log) })
    };
    let mut load = begin("load", sampled, tenants - sampled, LOAD_WINDOW, false)?;
    load.wait("begins")?;
    let mut sample = begin("sample", 0, sampled, WINDOW, true)?;
    sample.wait("begins")?;
    let cpu = || [daemon.cpu(), load.process.cpu(), sample.process.cpu()];
    let before = cpu();
    let seconds = sample.wait("closes")?["seconds"].as_f64().unwrap_or(1.0);
    let after = [daemon.cpu(), load.process.cpu(), sample.process.cpu()];
    let percent = |n: usize| 100.0 * (after[n] - before[n]).all().as_secs_f64() / seconds;
    let result = sample.wait("ends")?;
    let all = load.wait("ends")?;
    let rss = daemon.rss_kib() as f64 * 1024.0 / 1e6;
    let number = |key: &str| result[key].as_f64();
    eprintln!("   sample: {result}\n   load: {all}");
    let what = format!("{tenants} tenants, {} connections, one core", 2 * tenants);
    table.row("tenants.answer.p50", "ms", number("p50_ms"), None).note(&what);
    // Without all sessions it is another figure.
    let complete = [&result, &all].iter().all(|r| r["missing"] == 0);
    let p99 = number("p99_ms").filter(|_| complete);
    table.row("tenants.answer.p99", "ms", p99, None).bar(20.0).note(&what);
    table.row("tenants.answer.max", "ms", number("max_ms"), None);
    let lag = table.row("tenants.lag-of-the-sample.p99", "ms", number("lag_p99_ms"), None);
    lag.note("how late the sample was for its own work: part of every answer's time");
    let rate = |r: &Value| Some(r["answers"].as_f64()? / r["seconds"].as_f64()?);
    let answers = rate(&result).zip(rate(&all)).map(|(a, b)| a + b);
    table.row("tenants.answers", "1/s", answers, None).note("of both");
    let unanswered = |r: &Value| r["unanswered"].as_f64();
    table.row("tenants.unanswered", "renewals", unanswered(&result), None).note("slowest in p99");
    let row =
        table.row("tenants.answer-as-the-load-sees-it.p99", "ms", all["p99_ms"].as_f64(), None);
    row.note("its own queues included");
    let missing = result["missing"].as_f64().zip(all["missing"].as_f64()).map(|(a, b)| a + b);
    table.row("tenants.sessions-missing", "sessions", missing, None);
    table.row("tenants.rss", "MB", rss, None).bar(300.0);
    table.row("tenants.cpu", "% core", percent(0), None).note("of the one core");
    let loads = percent(1) + percent(2);
    table.row("tenants.cpu-of-the-load", "% core", loads, None).note("not the arbitrator's");
    Ok(())
}

/// A part of the load and what it says.
struct Half {
    name: String,
    process: Proc,
    lines: Lines,
}

impl Half {
    fn wait(&mut self, word: &str) -> anyhow::Result<Value> {
        let found = until(PATIENCE, || {
            self.lines.next_lines().into_iter().find_map(|line| {
                if !line.starts_with('{') {
                    eprintln!("   {}: {line}", self.name);
                    return None;
                }
                let value: Value = serde_json::from_str(&line).ok()?;
                (value["now"] == word).then_some(value)
            })
        });
        found.with_context(|| format!("the {} has not reached `{word}` in {PATIENCE:?}", self.name))
    }
}

/// An authority per tenant, with the arbitrator's and both sites' folders.
fn certificates(dir: &Path, tenants: usize) -> anyhow::Result<()> {
    for n in 0..tenants {
        let home = dir.join(tenant(n));
        let ca = Ca::init(&home.join("ca"), &Tenant::new(&tenant(n))?)?;
        ca.issue_to(Role::Arbitrator, &Name::new("arb")?, &home.join("arb"))?;
        for site in site::NAMES {
            ca.issue_to(Role::Site, &Name::new(site)?, &home.join(site))?;
        }
    }
    eprintln!("   {} certificates issued", 3 * tenants);
    Ok(())
}
