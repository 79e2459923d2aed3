//! One arbitrator for a thousand tenants: how long its answers take when it has one core.
//!
//! The arbitrator is the real daemon on core 0, with its journals on a disk. Another process, on
//! the other cores, is both sites of every tenant: real members of the core, real certificates,
//! real QUIC, two connections a tenant to the arbitrator; only their journals and the way between a
//! tenant's two sites are left out, since it is not they that are measured. It times every renewal from sending to the promise; what it takes
//! to get at an answer itself is counted against the arbitrator.

mod load;
mod site;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use tierce_link::{Ca, Name, Role, Tenant};
use tierce_rig::net::{Net, Rule};
use tierce_rig::{Lines, Machine, Programs, directory, directory_in, until};

pub(crate) use load::{LoadArgs, load};

use crate::Run;
use crate::row::Table;

/// Until all have their sessions, and the load has run.
const PATIENCE: Duration = Duration::from_mins(7);
/// The core of the arbitrator; the load has the others.
const CORE: &str = "0";
const PORT: u16 = 9930;

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
    let mut command = Command::new("taskset");
    command.args(["-c", &others]).arg(std::env::current_exe()?).arg("tenant-load");
    command.args(["--tenants", &tenants.to_string(), "--arbitrator"]);
    command.arg(format!("127.0.0.1:{PORT}")).arg("--pki").arg(pki.path());
    let log = data.path().join("load.log");
    let load = machine.start("load", command, &log)?;
    let mut lines = Lines::of(&log);
    let mut wait = |word: &str| -> anyhow::Result<Value> {
        let found = until(PATIENCE, || {
            lines.next_lines().into_iter().find_map(|line| {
                if !line.starts_with('{') {
                    eprintln!("   load: {line}");
                    return None;
                }
                let value: Value = serde_json::from_str(&line).ok()?;
                (value["now"] == word).then_some(value)
            })
        });
        found.with_context(|| format!("the load has not reached `{word}` in {PATIENCE:?}"))
    };
    wait("begins")?;
    let before = daemon.cpu();
    let load_before = load.cpu();
    let seconds = wait("closes")?["seconds"].as_f64().unwrap_or(1.0);
    let percent = |d: Duration| 100.0 * d.as_secs_f64() / seconds;
    let arbitrator_cpu = percent((daemon.cpu() - before).all());
    let load_cpu = percent((load.cpu() - load_before).all());
    let result = wait("ends")?;
    let rss = daemon.rss_kib() as f64 * 1024.0 / 1e6;
    let number = |key: &str| result[key].as_f64();
    eprintln!("   load: {result}");
    let what = format!("{tenants} tenants, {} connections, one core", 2 * tenants);
    table.row("tenants.answer.p50", "ms", number("p50_ms"), None).note(&what);
    // Without all sessions it is another figure.
    let p99 = number("p99_ms").filter(|_| number("missing") == Some(0.0));
    table.row("tenants.answer.p99", "ms", p99, None).bar(20.0).note(&what);
    table.row("tenants.answer.max", "ms", number("max_ms"), None);
    let lag = table.row("tenants.lag-of-the-load.p99", "ms", number("lag_p99_ms"), None);
    lag.note("how late the load was for its own work: part of every answer's time");
    table.row("tenants.answers", "1/s", number("answers").map(|a| a / seconds), None);
    table.row("tenants.unanswered", "renewals", number("unanswered"), None).note("slowest in p99");
    table.row("tenants.sessions-missing", "sessions", number("missing"), None);
    table.row("tenants.rss", "MB", rss, None).bar(300.0);
    table.row("tenants.cpu", "% core", arbitrator_cpu, None).note("of the one core");
    table.row("tenants.cpu-of-the-load", "% core", load_cpu, None).note("not the arbitrator's");
    Ok(())
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
