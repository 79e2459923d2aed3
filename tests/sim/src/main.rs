//! `tierce-sim`: seeds, many of them, and one of them in every detail.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use tierce_sim::plan::{KINDS, Plan, Setting, draw};
use tierce_sim::seed::{Failure, Shown, run};
use tierce_sim::shrink::shrink;
use tierce_sim::tail;

/// Whole members of Tierce on virtual time, under every fault, with every invariant asserted after
/// every event.
#[derive(Debug, Parser)]
#[command(
    name = "tierce-sim",
    version,
    after_help = "Exit codes: 0 nothing broke; 1 an invariant \
broke or a kind of fault was never done while a ticket was held; 2 wrong arguments."
)]
struct Args {
    /// One seed.
    #[arg(long, conflicts_with_all = ["seeds", "hours"])]
    seed: Option<u64>,
    /// Seeds A to B, B not included.
    #[arg(long, value_name = "A..B", value_parser = range, conflicts_with = "hours")]
    seeds: Option<Range<u64>>,
    /// Seeds from --from on, for so many hours.
    #[arg(long, value_name = "H")]
    hours: Option<f64>,
    /// First seed of --hours.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Faults in a plan; recoveries come on top.
    #[arg(long, default_value_t = 80)]
    faults: usize,
    /// Threads; each runs one seed at a time.
    #[arg(long)]
    jobs: Option<usize>,
    /// With --seed: writes one line for each transition to this file ("-": standard output).
    #[arg(long, value_name = "FILE", requires = "seed")]
    log: Option<PathBuf>,
    /// With --seed: ends the log at the first line that contains this text.
    #[arg(long, value_name = "TEXT", requires = "log")]
    until: Option<String>,
    /// With --seed: writes all that happened to members to this file, for `tierce trace replay`.
    #[arg(long, value_name = "FILE", requires = "seed", conflicts_with = "log")]
    events: Option<PathBuf>,
    /// Prints a failing plan as it is, without making it smaller.
    #[arg(long)]
    no_shrink: bool,
}

fn range(s: &str) -> Result<Range<u64>, String> {
    let (a, b) = s.split_once("..").ok_or("two numbers with .. between them, as in 1..1001")?;
    let number = |s: &str| s.trim().parse::<u64>().map_err(|e| format!("{s:?}: {e}"));
    let (a, b) = (number(a)?, number(b)?);
    if a < b { Ok(a..b) } else { Err(format!("{a}..{b} has no seed in it")) }
}

fn main() -> ExitCode {
    // A broken invariant is reported with its seed; the backtrace of the panic says nothing more.
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !tierce_sim::seed::expected() {
            usual(info);
        }
    }));
    match Args::parse().run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::from(2)
        }
    }
}

impl Args {
    fn run(&self) -> Result<bool> {
        if cfg!(panic = "abort") {
            bail!(
                "a build that aborts cannot tell what broke; `tests/run sim` makes the right one"
            );
        }
        if let Some(seed) = self.seed {
            return self.one(seed);
        }
        let (seeds, hours) = match (&self.seeds, self.hours) {
            (Some(r), _) => (r.clone(), None),
            (None, Some(h)) if h > 0.0 => {
                (self.from..u64::MAX, Some(Duration::from_secs_f64(h * 3600.0)))
            }
            (None, Some(_)) => bail!("--hours must be above zero"),
            (None, None) => (self.from..self.from + 100, None),
        };
        Ok(self.many(seeds, hours))
    }

    fn one(&self, seed: u64) -> Result<bool> {
        let plan = draw(seed, &Setting::of(seed), self.faults);
        let begun = Instant::now();
        let result = if let Some(path) = &self.events {
            recorded(seed, &plan, path)?
        } else if self.log.is_some() {
            logged(seed, &plan, self.log.as_ref(), self.until.as_deref())?
        } else {
            run(seed, &plan, false)
        };
        match result {
            Ok(shown) => {
                let took = begun.elapsed();
                println!("seed {seed}: nothing broke; {}", sum(&shown, took));
                Ok(true)
            }
            Err(f) => {
                self.report(seed, &plan, &f);
                Ok(false)
            }
        }
    }

    fn many(&self, seeds: Range<u64>, hours: Option<Duration>) -> bool {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let jobs = self.jobs.unwrap_or(cores).max(1);
        let next = AtomicU64::new(seeds.start);
        let failed = AtomicBool::new(false);
        let total = Mutex::new((Shown::default(), 0u64));
        let first_failure: Mutex<Option<(u64, Plan, Failure)>> = Mutex::new(None);
        let begun = Instant::now();
        let over = || hours.is_some_and(|h| begun.elapsed() >= h);
        std::thread::scope(|s| {
            for _ in 0..jobs {
                s.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= seeds.end || failed.load(Ordering::Relaxed) || over() {
                            break;
                        }
                        let plan = draw(seed, &Setting::of(seed), self.faults);
                        match run(seed, &plan, false) {
                            Ok(shown) => {
                                let mut t = total.lock().expect("no thread panics");
                                add(&mut t.0, &shown);
                                t.1 += 1;
                            }
                            Err(f) => {
                                failed.store(true, Ordering::Relaxed);
                                let mut first = first_failure.lock().expect("no thread panics");
                                first.get_or_insert((seed, plan, f));
                            }
                        }
                    }
                });
            }
            // One line every five seconds, for people who wait.
            while next.load(Ordering::Relaxed) < seeds.end.saturating_add(jobs as u64)
                && !failed.load(Ordering::Relaxed)
                && !over()
            {
                std::thread::sleep(Duration::from_millis(200));
                let t = total.lock().expect("no thread panics");
                if begun.elapsed().as_secs().is_multiple_of(5)
                    && begun.elapsed().subsec_millis() < 200
                {
                    eprintln!("{} seeds; {}", t.1, sum(&t.0, begun.elapsed()));
                }
            }
        });
        if let Some((seed, plan, f)) = first_failure.into_inner().expect("no thread panics") {
            self.report(seed, &plan, &f);
            return false;
        }
        let (shown, seeds) = total.into_inner().expect("no thread panics");
        println!("{seeds} seeds, nothing broke; {}", sum(&shown, begun.elapsed()));
        table(&shown, seeds)
    }

    fn report(&self, seed: u64, plan: &Plan, f: &Failure) {
        println!("seed {seed} at {:.3} s: {}", f.at_ns as f64 / 1e9, f.what);
        println!("reproduce: tests/run sim --seed {seed} --faults {}", self.faults);
        println!("look into: the same with --events FILE, then tierce trace replay FILE");
        let (plan, f) = if self.no_shrink {
            (plan.clone(), f.clone())
        } else {
            eprintln!("making the plan smaller ...");
            shrink(seed, plan, f)
        };
        println!("{} faults are enough:", plan.len());
        for (at, fault) in &plan {
            println!("  {at:>8} ms {fault:?}");
        }
        if let Err(f) = run(seed, &plan, true) {
            println!("the end of that run:\n{}\n{}", tail(&f.log), f.what);
        } else {
            println!("(it does not fail with a log: {})", f.what);
        }
    }
}

fn logged(
    seed: u64,
    plan: &Plan,
    to: Option<&PathBuf>,
    until: Option<&str>,
) -> Result<Result<Shown, Failure>> {
    let (result, log) = tierce_sim::seed::run_with_log(seed, plan);
    let lines = log.lines();
    let mut text = String::new();
    for line in lines {
        text.push_str(line);
        text.push('\n');
        if until.is_some_and(|u| line.contains(u)) {
            break;
        }
    }
    match to {
        Some(path) if path.as_os_str() != "-" => {
            std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
        }
        _ => std::io::stdout().write_all(text.as_bytes())?,
    }
    Ok(result)
}

fn recorded(seed: u64, plan: &Plan, path: &Path) -> Result<Result<Shown, Failure>> {
    let (result, events) = tierce_sim::seed::run_with_events(seed, plan);
    let file = File::create(path).with_context(|| format!("writing {}", path.display()))?;
    let mut to = BufWriter::new(file);
    for e in &events {
        serde_json::to_writer(&mut to, e).context("an event as JSON")?;
        to.write_all(b"\n")?;
    }
    to.flush()?;
    println!("{} events; next: tierce trace replay {}", events.len(), path.display());
    Ok(result)
}

fn add(total: &mut Shown, one: &Shown) {
    total.virtual_ns += one.virtual_ns;
    total.steps += one.steps;
    total.grants += one.grants;
    total.acknowledged += one.acknowledged;
    for (kind, (all, held)) in &one.faults {
        let t = total.faults.entry(kind).or_default();
        *t = (t.0 + all, t.1 + held);
    }
}

fn sum(shown: &Shown, took: Duration) -> String {
    let virtual_s = shown.virtual_ns as f64 / 1e9;
    format!(
        "{virtual_s:.0} s of virtual time in {:.1} s ({:.0} x), {} steps, {} grants, {} acknowledged decisions",
        took.as_secs_f64(),
        virtual_s / took.as_secs_f64(),
        shown.steps,
        shown.grants,
        shown.acknowledged,
    )
}

/// Prints what was done; false when a long run never did a kind of fault while a ticket was held.
fn table(shown: &Shown, seeds: u64) -> bool {
    let faults: &BTreeMap<&str, (u64, u64)> = &shown.faults;
    println!("{:<14} {:>8} {:>12}", "fault", "done", "while held");
    let mut never = Vec::new();
    for kind in KINDS {
        let (all, held) = faults.get(kind).copied().unwrap_or_default();
        println!("{kind:<14} {all:>8} {held:>12}");
        if held == 0 {
            never.push(kind);
        }
    }
    if seeds >= 200 && !never.is_empty() {
        println!(
            "never done while a ticket was held: {}; this run proves nothing about it",
            never.join(", ")
        );
        return false;
    }
    true
}
