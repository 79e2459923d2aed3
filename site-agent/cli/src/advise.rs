//! `tierce advise`: lease times from what the network does, instead of from the belly.
//!
//! A lease time that is too short moves a service because of a pause; one that is too long leaves
//! it down. Both bounds follow from the slowest round trip that still counts as working.

use std::fmt::Write as _;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tierce_agent::config::explain_timing;
use tierce_ticket::timing::{Profile, Timing, show};

use crate::Ctx;
use crate::codes::{self, Exit};
use crate::failure::Failure;
use crate::table::{Cell, Paint, Table};
use crate::words::span;

/// Round trips vary: so many times the jitter above the mean still counts as working. For a normal
/// spread fewer than one in 30,000 is slower, and three in a row must be.
const JITTERS: u32 = 4;
/// Nobody measures more than this between sites on one planet.
const MAX_MS: u64 = 60_000;

/// What can be advised.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum AdviseCommand {
    /// Which profile fits, from the measured round trip to the slowest needed voter.
    Lease(LeaseArgs),
}

/// What was measured.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct LeaseArgs {
    /// Mean round trip in milliseconds.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(0..=MAX_MS))]
    rtt: u64,
    /// Its standard deviation in milliseconds.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(0..=MAX_MS))]
    jitter: u64,
}

/// Does what was asked.
pub(crate) fn run(ctx: &Ctx, command: &AdviseCommand) -> Result<Exit, Failure> {
    let AdviseCommand::Lease(args) = command;
    let needed = needed(args);
    let rows: Vec<(Profile, Result<Timing, String>)> =
        Profile::ALL.into_iter().map(|p| (p, fit(p, needed))).collect();
    let best = rows.iter().find_map(|(p, fit)| Some((*p, fit.as_ref().ok()?)));
    if ctx.out.is_json() {
        let profiles: Vec<Value> = rows
            .iter()
            .map(|(p, fit)| {
                let t = p.timing();
                json!({ "profile": p.word(), "fits": fit.is_ok(), "why": fit.as_ref().err(),
                        "promiseMs": t.promise.as_millis() as u64,
                        "blipBudgetMs": t.blip_budget(t.stop_budget).as_millis() as u64 })
            })
            .collect();
        ctx.out.json(&json!({
            "slowestRoundTripMs": needed.as_millis() as u64, "profiles": profiles,
            "advice": best.map(|(p, _)| p.word()),
        }))?;
    } else {
        ctx.out.text(&text(needed, &rows, best, ctx.out.colour()))?;
    }
    if best.is_some() {
        return Ok(Exit::Ok);
    }
    Err(Failure::new(
        codes::NOT_NOW,
        format!("no profile fits round trips of up to {}", span(needed)),
        "with any of them a slow network would look like a dead site",
        "the paths between the sites: ping, mtr",
        "repair the path, or set the times one by one and check them: tierce config check",
    ))
}

/// The slowest round trip that still counts as working.
fn needed(args: &LeaseArgs) -> Duration {
    Duration::from_millis(args.rtt + u64::from(JITTERS) * args.jitter)
}

/// The profile with that round trip, if it holds.
fn fit(profile: Profile, needed: Duration) -> Result<Timing, String> {
    let timing = profile.timing();
    if needed > timing.rtt_max {
        let (needed, most) = (show(needed), show(timing.rtt_max));
        return Err(format!("round trips of up to {needed} exceed its RTT_max = {most}"));
    }
    timing
        .check()
        .map(|()| timing)
        .map_err(|found| found.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
}

fn text(
    needed: Duration,
    rows: &[(Profile, Result<Timing, String>)],
    best: Option<(Profile, &Timing)>,
    colour: bool,
) -> String {
    let advice = match best {
        Some((p, _)) => format!("advice: profile = \"{p}\""),
        None => "advice: none of the profiles".to_owned(),
    };
    let mut out = format!(
        "{advice}; round trips of up to {} (mean and {JITTERS} times the jitter) must count as \
         working\n\n",
        span(needed)
    );
    let mut table =
        Table::new(&["PROFILE", "FITS", "T", "CUT THAT MOVES NOTHING", "TAKEOVER", "WHY NOT"]);
    for (p, fit) in rows {
        let t = p.timing();
        let fits = match fit {
            Ok(_) => Cell::painted("yes", Paint::Good),
            Err(_) => Cell::painted("no", Paint::Bad),
        };
        let (blip, worst) =
            (t.blip_budget(t.stop_budget), t.worst_takeover(needed, Duration::ZERO));
        table.row(vec![
            p.word().into(),
            fits,
            show(t.promise).into(),
            format!("below {}", span(blip)).into(),
            format!("within {}", span(worst)).into(),
            fit.as_ref().err().map_or("", String::as_str).into(),
        ]);
    }
    out.push_str(&table.text(colour));
    if let Some((p, timing)) = best {
        let _ = write!(out, "\nprofile {p}:\n{}", explain_timing(timing));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn best(rtt: u64, jitter: u64) -> Option<Profile> {
        let needed = needed(&LeaseArgs { rtt, jitter });
        Profile::ALL.into_iter().find(|p| fit(*p, needed).is_ok())
    }

    #[test]
    fn the_fastest_profile_that_bears_the_network_is_advised() {
        assert_eq!(best(2, 1), Some(Profile::MetroFast));
        assert_eq!(best(40, 10), Some(Profile::Lan));
        assert_eq!(best(200, 50), Some(Profile::Wan));
        assert_eq!(best(900, 200), Some(Profile::Cautious));
        assert_eq!(best(5_000, 0), None);
    }
}
