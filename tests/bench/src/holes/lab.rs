//! One run of a scenario, ours and the peer's, and what runs come to.

use std::time::Duration;

use anyhow::Context as _;
use tierce_rig::booth::Booth;
use tierce_rig::tierce::{self, Cluster, Lease, THIRD, other};
use tierce_rig::{Life, Mono, Random, Stop};

use super::list::{Hole, Pace, Peer};
use crate::fault::{pause, whole};
use crate::ground::Ground;
use crate::row::ms;

pub(crate) const TICKET: &str = "web";
/// booth's ticket.
pub(crate) const THEIR_TICKET: &str = "t0";

/// Tries of a run whose fault ended just before the other site would have taken over.
const TRIES: usize = 4;

/// What runs of a scenario come to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figure {
    /// The longest; nothing when a run could not be done.
    pub(crate) overlap: Option<Duration>,
    /// Milliseconds from the last moment at one site to the first one at the other; the smallest.
    pub(crate) gap: Option<f64>,
    /// What shows that it was done, by the run that counts; or why it was not.
    pub(crate) said: String,
}

impl Figure {
    fn add(&mut self, one: One) {
        self.gap = self.gap.into_iter().chain(one.gap).min_by(f64::total_cmp);
        if self.overlap.is_none_or(|longest| one.overlap >= longest) {
            (self.overlap, self.said) = (Some(one.overlap), one.said);
        }
    }
}

/// One run.
#[derive(Debug)]
struct One {
    overlap: Duration,
    gap: Option<f64>,
    said: String,
}

/// Milliseconds from the end of what ran at the old site to the first start at the new one after
/// `from`; negative when they met.
fn gap(old: &[Life], new: &[Life], from: Mono) -> Option<f64> {
    let first = new.iter().map(|l| l.from).filter(|f| *f > from).min()?;
    let last = old.iter().filter(|l| l.from < first).map(|l| l.to).max()?;
    Some(first.ms_since(last))
}

// ---- ours -------------------------------------------------------------------------------------

/// A cluster with what a scenario needs.
#[derive(Debug)]
pub(crate) struct Ours {
    pub(crate) cluster: Cluster,
    pub(crate) random: Random,
    /// Which run of the scenario.
    pub(crate) n: usize,
    /// Who held when the fault began, and when that was: a scenario that needs a preparation of its
    /// own sets them anew.
    pub(crate) holder: usize,
    pub(crate) since: Mono,
}

/// What all runs have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Common<'a> {
    pub(crate) ground: &'a Ground,
    /// Runs of each scenario.
    pub(crate) runs: usize,
    /// Whether our sites have their guards.
    pub(crate) guarded: bool,
}

pub(crate) fn ours(
    common: Common<'_>,
    pace: Pace,
    holes: impl Iterator<Item = &'static Hole>,
) -> Vec<(&'static str, Figure)> {
    let mut lab = None;
    let runs_of = |hole: &'static Hole| {
        let mut figure = Figure::default();
        for n in 0..common.runs {
            match one_of_ours(common, pace, &mut lab, hole, n) {
                Ok(one) => figure.add(one),
                Err(e) => {
                    eprintln!("error: tierce {} {n}: {}", hole.name, first_lines(&e));
                    figure = Figure { said: broken(&e), ..Figure::default() };
                    break;
                }
            }
        }
        (hole.name, figure)
    };
    holes.map(runs_of).collect()
}

/// One run in a cluster that is there, or in a new one: after a run that broke, nobody knows in what
/// state the old one is.
fn one_of_ours(
    common: Common<'_>,
    pace: Pace,
    lab: &mut Option<Ours>,
    hole: &'static Hole,
    n: usize,
) -> anyhow::Result<One> {
    let mut ours = match lab.take() {
        Some(lab) => lab,
        None => Ours::new(common, pace).context("making a cluster")?,
    };
    ours.n = n;
    let kept = |o: &mut Ours| format!("files in {}", o.cluster.keep_files().display());
    let mut found = None;
    for _ in 0..TRIES {
        found = ours.once(hole).with_context(|| kept(&mut ours))?;
        if found.is_some() {
            break;
        }
        eprintln!("   tierce {} {n}: not overtaken, so it shows nothing; once more", hole.name);
    }
    let never = || format!("it never ran at the other site in {TRIES} tries; {}", kept(&mut ours));
    let one = found.with_context(never)?;
    say("tierce", hole, n, &one);
    if !one.overlap.is_zero() {
        eprintln!("   OVERLAP; files are kept in {}", ours.cluster.keep_files().display());
    }
    *lab = Some(ours);
    Ok(one)
}

/// What happened, without the logs that some errors bring along.
fn first_lines(e: &anyhow::Error) -> String {
    let lines = e.chain().map(|e| e.to_string().lines().next().unwrap_or_default().to_owned());
    lines.collect::<Vec<_>>().join(": ")
}

/// The same for a table: the cause alone.
fn broken(e: &anyhow::Error) -> String {
    e.root_cause().to_string().lines().next().unwrap_or_default().to_owned()
}

fn say(product: &str, hole: &Hole, n: usize, one: &One) {
    let gap = one.gap.map_or("-".to_owned(), |g| format!("{g:.1} ms"));
    let (number, name) = (hole.number, hole.name);
    let overlap = ms(one.overlap);
    let said = &one.said;
    eprintln!("   {product} {number:>2} {name} {n}: overlap {overlap:.1} ms, gap {gap}  {said}");
}

impl Ours {
    fn new(common: Common<'_>, pace: Pace) -> anyhow::Result<Self> {
        let lease = match pace {
            Pace::Usual => Lease::METRO_FAST,
            Pace::Slow => Lease::TEN_SECONDS,
        };
        let options = tierce::Options {
            lease,
            disks: true,
            stranger: true,
            guarded: common.guarded,
            ..common.ground.one_ticket(TICKET)
        };
        let cluster = Cluster::start(options)?;
        cluster.grant(TICKET, 0)?;
        Ok(Self {
            cluster,
            random: common.ground.random(64 + pace as u64),
            n: 0,
            holder: 0,
            since: Mono::now(),
        })
    }

    /// Nothing when the other site did not take over: then nobody could have run twice.
    fn once(&mut self, hole: &Hole) -> anyhow::Result<Option<One>> {
        let holder = self.cluster.calm(TICKET).context("before the fault")?;
        std::thread::sleep(self.random.up_to(self.cluster.options().lease.promise / 4));
        let from = Mono::now();
        (self.holder, self.since) = (holder, from);
        let said = (hole.ours)(self, holder)?;
        self.heal()?;
        let again = self.cluster.calm(TICKET);
        let overlap = self.cluster.overlap(TICKET, from);
        if let Err(e) = again {
            return Err(e).with_context(|| format!("order did not come back; overlap {overlap:?}"));
        }
        let lives = self.cluster.lives(TICKET);
        let gap = gap(&lives[self.holder], &lives[other(self.holder)], self.since);
        Ok(gap.is_some().then_some(One { overlap, gap, said }))
    }

    /// Undoes every fault that may still be on.
    fn heal(&mut self) -> anyhow::Result<()> {
        whole(&self.cluster);
        for site in 0..THIRD {
            self.cluster.witness(site, TICKET).set_stop(Stop::AtOnce)?;
        }
        for member in 0..=THIRD {
            if let Some(disk) = self.cluster.disk(member) {
                disk.go_on();
                disk.empty()?;
            }
            if !self.cluster.runs(member) {
                self.cluster.start_daemon(member)?;
            }
        }
        Ok(())
    }
}

// ---- booth ------------------------------------------------------------------------------------

/// booth with what a scenario needs.
#[derive(Debug)]
pub(crate) struct Theirs {
    pub(crate) booth: Booth,
    pub(crate) random: Random,
}

pub(crate) fn peer(
    common: Common<'_>,
    holes: impl Iterator<Item = &'static Hole>,
) -> Vec<(&'static str, Figure)> {
    let (ground, mut all) = (common.ground, Vec::new());
    for hole in holes.filter(|_| ground.peer()) {
        let Peer::Do(options, scenario) = hole.peer else { continue };
        let mut figure = Figure::default();
        let done = (|| -> anyhow::Result<()> {
            let booth = Booth::new(ground.on_our_net(options(ground.seed)))?;
            let mut theirs = Theirs { booth, random: ground.random(65) };
            for n in 0..common.runs {
                let overlap = scenario(&mut theirs)?;
                let [a, b] = theirs.booth.held(THEIR_TICKET, Mono::now());
                let gap = gap(&a, &b, Mono(0));
                let never = || "its other site was not granted it".to_owned();
                let said = gap.map_or_else(never, |_| String::new());
                let one = One { overlap, gap, said };
                say("booth", hole, n, &one);
                figure.add(one);
            }
            Ok(())
        })();
        if let Err(e) = done {
            eprintln!("error: booth {}: {}", hole.name, first_lines(&e));
            figure = Figure { said: broken(&e), ..Figure::default() };
        }
        all.push((hole.name, figure));
    }
    all
}

impl Theirs {
    /// Everything anew; the first site holds, at any phase of its renewals.
    pub(crate) fn held(&mut self) -> anyhow::Result<()> {
        self.booth.fresh()?;
        self.booth.grant(0, THEIR_TICKET)?;
        pause(300);
        std::thread::sleep(self.random.up_to(self.booth.options().expire / 2));
        Ok(())
    }

    /// How long both sites have had it as granted, up to now.
    pub(crate) fn overlap(&self) -> Duration {
        self.booth.overlap(THEIR_TICKET, Mono::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn life(from: u64, to: u64) -> Life {
        Life { from: Mono(from * MS), to: Mono(to * MS) }
    }

    #[test]
    fn a_gap_is_from_the_old_sites_last_moment_to_the_new_sites_first_after_the_fault() {
        let old = [life(0, 10), life(20, 40), life(90, 95)];
        let new = [life(12, 18), life(45, 80)];
        assert_eq!(gap(&old, &new, Mono(30 * MS)), Some(5.0));
        assert_eq!(gap(&old, &new, Mono(50 * MS)), None, "it did not start there");
        assert_eq!(gap(&old, &[life(35, 80)], Mono(30 * MS)), Some(-5.0), "they met");
    }

    #[test]
    fn runs_come_to_the_longest_overlap_and_the_smallest_gap() {
        let mut figure = Figure::default();
        for (overlap, gap) in [(0, Some(7.0)), (3, None), (1, Some(4.0))] {
            let overlap = Duration::from_millis(overlap);
            figure.add(One { overlap, gap, said: String::new() });
        }
        assert_eq!(figure.overlap, Some(Duration::from_millis(3)));
        assert_eq!(figure.gap, Some(4.0));
    }
}
