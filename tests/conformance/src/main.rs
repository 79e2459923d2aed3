//! The scheduler beside the real one: random CIBs, the same question to both.
//!
//! The cases of Pacemaker's own suite say what its developers thought of; this says what they did
//! not. A CIB is drawn from a seed, both programs plan and simulate it, and the plans are compared by
//! what happens, in which order, with which result. What they disagree on is made small and kept.
//! Known differences are told by name and counted apart; their reasons are in docs/scheduler.md. What was learnt
//! from a disagreement stays in `seen`, as small CIBs with what the peer does.
//!
//! Reading order: `generate` (a CIB) → `tools` (two answers) → `compare` → `known` → `shrink` → here; `seen`.

mod compare;
mod draw;
mod generate;
#[cfg(test)]
mod inside;
mod known;
mod seen;
mod shrink;
mod tools;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Parser;
use serde_json::json;

use compare::{Difference, Layer, compare};
use generate::Tier;
use known::Known;
use tools::{NoAnswer, Tool};

const SPEAK_EVERY: Duration = Duration::from_secs(5);

/// Random CIBs, planned by ours and by the real crm_simulate.
#[derive(Debug, Parser)]
#[command(
    name = "tierce-conformance",
    version,
    after_help = "Exit codes: 0 as often the same as asked for; 1 less often, or ours crashed or \
                  hung; 2 it could not be tried."
)]
struct Args {
    /// How many CIBs.
    #[arg(long, default_value_t = 1_000)]
    cases: u64,
    /// The first seed; the others follow it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Kinds of feature: 1 primitives, 2 with groups and clones, 3 with the rest that is drawn.
    #[arg(long, value_delimiter = ',', default_value = "1,2,3")]
    tiers: Vec<u8>,
    /// Of a hundred, how many must be the same.
    #[arg(long, default_value_t = 99.0)]
    bar: f64,
    /// Our command [default: `tierce crm-simulate`, beside this program].
    #[arg(long, num_args = 1.., value_terminator = ";")]
    ours: Option<Vec<std::ffi::OsString>>,
    /// The peer's command.
    #[arg(long, num_args = 1.., value_terminator = ";", default_value = "crm_simulate")]
    peer: Vec<std::ffi::OsString>,
    /// Keeps each disagreement here: the CIB, the smallest one found, and in what the plans differ.
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,
    /// Does not make disagreements small.
    #[arg(long)]
    no_shrink: bool,
    /// Prints the CIB of --seed (and the first of --tiers), and ends.
    #[arg(long)]
    show: bool,
    /// Asks the peer about each CIB (`NAME.xml`) in this folder, writes down what it does (`NAME.seen`),
    /// and ends.
    #[arg(long, value_name = "FOLDER")]
    see: Option<PathBuf>,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::from(2)
        }
    }
}

/// How one case ended.
enum Verdict {
    Same,
    Differs(Difference),
    /// They differ as docs/scheduler.md says.
    Known(Known),
    /// Ours says by name that it does not do this.
    Refused(String),
    /// Ours crashed or hung.
    Broken(String),
    /// The peer has no answer; nothing can be said of ours.
    Void(String),
}

struct Bench<'a> {
    args: &'a Args,
    peer: Tool,
    ours: Tool,
}

fn run(args: &Args) -> Result<bool> {
    anyhow::ensure!(!args.tiers.is_empty(), "no tier is left");
    for t in &args.tiers {
        anyhow::ensure!((1..=3).contains(t), "there is no tier {t}; there are 1, 2 and 3");
    }
    if args.show {
        println!("{}", generate::cib(args.seed, Tier(args.tiers[0])));
        return Ok(true);
    }
    if let Some(folder) = &args.see {
        return seen::record(&Tool::new(args.peer.clone()), folder).map(|()| true);
    }
    let ours = if let Some(words) = &args.ours {
        words.clone()
    } else {
        let here = std::env::current_exe()?;
        let dir = here.parent().context("this program is in a folder")?;
        vec![dir.join("tierce").into(), "crm-simulate".into()]
    };
    let bench = Bench { args, peer: Tool::new(args.peer.clone()), ours: Tool::new(ours) };
    if let Some(dir) = &args.keep {
        fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    }
    let tally = Mutex::new(Tally::default());
    let next = AtomicU64::new(args.seed);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..args.jobs.max(1))
            .map(|_| scope.spawn(|| bench.work(&next, &tally, begun)))
            .collect();
        workers.into_iter().try_for_each(|w| {
            w.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a thread of this program panicked")))
        })
    })?;
    let tally = tally.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    Ok(tally.report(args.bar, begun.elapsed()))
}

impl Bench<'_> {
    fn work(&self, next: &AtomicU64, tally: &Mutex<Tally>, begun: Instant) -> Result<()> {
        let dir = tempfile::tempdir()?;
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= self.args.seed + self.args.cases {
                return Ok(());
            }
            let tier = self.args.tiers[(seed % self.args.tiers.len() as u64) as usize];
            let cib = generate::cib(seed, Tier(tier));
            let mut verdict = self.judge(&cib, dir.path())?;
            if let Verdict::Differs(_) = &verdict
                && let Some(known) = self.known(&cib, dir.path())?
            {
                verdict = Verdict::Known(known);
            }
            if let Verdict::Differs(d) = &verdict {
                self.keep(seed, tier, &cib, d, dir.path())?;
            }
            let mut tally = tally.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            tally.add(seed, tier, verdict);
            tally.speak(begun);
        }
    }

    fn judge(&self, cib: &str, dir: &Path) -> Result<Verdict> {
        let peer = match self.peer.ask(cib, dir, "peer")? {
            Ok(answer) => answer,
            Err(NoAnswer::Refused(why) | NoAnswer::Crashed(why)) => return Ok(Verdict::Void(why)),
            Err(NoAnswer::Hung) => return Ok(Verdict::Void("it hung".to_owned())),
        };
        Ok(match self.ours.ask(cib, dir, "ours")? {
            Ok(ours) => {
                let difference = compare(&peer, &ours)?;
                match difference.layer() {
                    None => Verdict::Same,
                    Some(_) => Verdict::Differs(difference),
                }
            }
            Err(NoAnswer::Refused(why)) => Verdict::Refused(why),
            Err(NoAnswer::Crashed(why)) => Verdict::Broken(why),
            Err(NoAnswer::Hung) => Verdict::Broken("it hung".to_owned()),
        })
    }

    /// Of which known kind a difference is: without what that comes from the two agree.
    fn known(&self, cib: &str, dir: &Path) -> Result<Option<Known>> {
        for known in Known::ALL {
            if let Some(changed) = known.without(cib)?
                && matches!(self.judge(&changed, dir)?, Verdict::Same)
            {
                return Ok(Some(known));
            }
        }
        Ok(None)
    }

    /// Makes it small and keeps it.
    fn keep(&self, seed: u64, tier: u8, cib: &str, d: &Difference, dir: &Path) -> Result<()> {
        let Some(keep) = &self.args.keep else { return Ok(()) };
        let layer = d.layer();
        let first = d.lines();
        let mut lines = vec![format!("seed {seed}, tier {tier}: {layer:?}")];
        lines.extend(first.iter().cloned());
        fs::write(keep.join(format!("{seed}.xml")), cib)?;
        if !self.args.no_shrink {
            let small = shrink::shrink(cib, |text| {
                let verdict = self.judge(text, dir)?;
                // The same disagreement, or a part of it.
                let part = |d: &Difference| d.lines().iter().any(|l| first.contains(l));
                Ok(matches!(verdict, Verdict::Differs(d) if d.layer() == layer && part(&d)))
            })?;
            if let Verdict::Differs(d) = self.judge(&small, dir)? {
                lines.push("made small:".to_owned());
                lines.extend(d.lines());
            }
            fs::write(keep.join(format!("{seed}-small.xml")), small)?;
        }
        fs::write(keep.join(format!("{seed}.txt")), lines.join("\n") + "\n")?;
        Ok(())
    }
}

#[derive(Default)]
struct Tally {
    tiers: BTreeMap<u8, Counts>,
    known: BTreeMap<&'static str, u64>,
    void: BTreeMap<String, u64>,
    refused: BTreeMap<String, u64>,
    broken: Vec<(u64, String)>,
    spoke: Duration,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    same: u64,
    known: u64,
    acts: u64,
    order: u64,
    last: u64,
    unsafely: u64,
    refused: u64,
    broken: u64,
}

impl Counts {
    fn all(&self) -> u64 {
        self.same + self.known + self.acts + self.order + self.last + self.refused + self.broken
    }
    fn percent(&self) -> f64 {
        if self.all() == 0 {
            0.0
        } else {
            100.0 * (self.same + self.known) as f64 / self.all() as f64
        }
    }
    fn plus(&self, o: &Self) -> Self {
        Self {
            same: self.same + o.same,
            known: self.known + o.known,
            acts: self.acts + o.acts,
            order: self.order + o.order,
            last: self.last + o.last,
            unsafely: self.unsafely + o.unsafely,
            refused: self.refused + o.refused,
            broken: self.broken + o.broken,
        }
    }
}

impl Tally {
    fn add(&mut self, seed: u64, tier: u8, verdict: Verdict) {
        let c = self.tiers.entry(tier).or_default();
        match verdict {
            Verdict::Same => c.same += 1,
            Verdict::Known(known) => {
                c.known += 1;
                println!("seed {seed}, tier {tier}: known: {}", known.name());
                *self.known.entry(known.name()).or_default() += 1;
            }
            Verdict::Differs(d) => {
                c.unsafely += u64::from(d.is_unsafe());
                match d.layer() {
                    Some(Layer::Acts) => c.acts += 1,
                    Some(Layer::Order) => c.order += 1,
                    Some(Layer::Final) | None => c.last += 1,
                }
                println!("seed {seed}, tier {tier}: {}", d.lines().join("; "));
            }
            Verdict::Refused(why) => {
                c.refused += 1;
                *self.refused.entry(why).or_default() += 1;
            }
            Verdict::Broken(why) => {
                c.broken += 1;
                println!("seed {seed}, tier {tier}: OURS BROKE: {why}");
                self.broken.push((seed, why));
            }
            Verdict::Void(why) => *self.void.entry(why).or_default() += 1,
        }
    }

    fn speak(&mut self, begun: Instant) {
        let now = begun.elapsed();
        if now >= self.spoke + SPEAK_EVERY {
            self.spoke = now;
            let all = self.sum();
            eprintln!(
                "{} compared in {:.0} s, {:.2} % the same",
                all.all(),
                now.as_secs_f64(),
                all.percent()
            );
        }
    }

    fn sum(&self) -> Counts {
        self.tiers.values().fold(Counts::default(), |a, c| a.plus(c))
    }

    /// The table; whether it is good enough.
    fn report(&self, bar: f64, took: Duration) -> bool {
        println!(
            "tier  compared     same known  acts order final refused broken unsafe  agreement"
        );
        let sum = self.sum();
        let rows = self.tiers.iter().map(|(t, c)| (t.to_string(), *c));
        for (name, c) in rows.chain([("all".to_owned(), sum)]) {
            println!(
                "{name:<4} {:>9} {:>8} {:>5} {:>5} {:>5} {:>5} {:>7} {:>6} {:>6} {:>8.2} %",
                c.all(),
                c.same,
                c.known,
                c.acts,
                c.order,
                c.last,
                c.refused,
                c.broken,
                c.unsafely,
                c.percent()
            );
        }
        for (name, n) in &self.known {
            println!("known, {n} times: {name}");
        }
        for (what, of) in [("ours refused", &self.refused), ("the peer had no answer", &self.void)]
        {
            for (why, n) in of {
                println!("{what}, {n} times: {why}");
            }
        }
        // A peer that does not run has no answer to anything: that is no agreement.
        let void: u64 = self.void.values().sum();
        let answered = sum.all() > 0 && sum.all() >= 9 * void;
        if !answered {
            println!("the peer had no answer to {void} of {}: does it run?", sum.all() + void);
        }
        let ok = sum.percent() >= bar && self.broken.is_empty() && answered;
        println!(
            "{}",
            json!({
                "name": "scheduler.agreement", "unit": "%", "ours": sum.percent(), "bar": bar, "ok": ok,
                "compared": sum.all(), "known": sum.known, "unsafe": sum.unsafely, "seconds": took.as_secs_f64(),
            })
        );
        ok
    }
}
