//! `switch-over` (L4): a real move of a real ticket, there and back: scope, preflight, consent, and
//! the report. The course itself is in `course`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use tierce_wire::control::{Ask, PlanView, Reply};

use super::course::{Course, Ended};
use super::limits::{
    ALLOWANCE_MS, BASELINE, HOLD, LOOK_EVERY, MAX_HOLD, MAX_TARGETS, MIN_EVERY, OUTAGE_GRACE,
    PROBE_EVERY,
};
use super::preflight::{self, Scene, Seen};
use super::probe::Target;
use super::{finish, wrote};
use crate::Ctx;
use crate::approve::{self, unfit};
use crate::args::duration;
use crate::client::Client;
use crate::codes::{self, Exit};
use crate::evidence::phase::known_start;
use crate::evidence::report::{Check, DRILL, Report, Scope, Verdict};
use crate::evidence::text;
use crate::evidence::timeline::{Kind, Show, Timeline};
use crate::failure::Failure;
use crate::limits::WAIT;
use crate::status;
use crate::words::span;

/// What is drilled, and who looks.
#[derive(Clone, Debug, Args)]
pub(crate) struct CheckArgs {
    /// The ticket.
    #[arg(long, value_name = "TICKET")]
    pub(super) ticket: String,
    /// The other site [default: the most wanted one that may hold it].
    #[arg(long, value_name = "SITE")]
    pub(super) to: Option<String>,
    /// Control socket of another member, so that a site's own word is heard; may be repeated. For a
    /// machine elsewhere: ssh -L.
    #[arg(long = "observer", value_name = "PATH")]
    pub(super) observers: Vec<PathBuf>,
}

/// What a switch-over is told.
#[derive(Clone, Debug, Args)]
pub(crate) struct SwitchArgs {
    #[command(flatten)]
    pub(super) scope: CheckArgs,
    /// How long it stays at the other site.
    #[arg(long, value_name = "DURATION", value_parser = hold, default_value = HOLD)]
    pub(super) hold: Duration,
    /// How long it is watched before anything is done.
    #[arg(long, value_name = "DURATION", value_parser = hold, default_value = BASELINE)]
    pub(super) baseline: Duration,
    /// Asks the service itself: tcp://HOST:PORT or http://HOST:PORT/PATH; with SITE= before it, the
    /// site's own address. May be repeated.
    #[arg(long = "probe", value_name = "[SITE=]URL")]
    pub(super) probes: Vec<Target>,
    /// How often a probe asks.
    #[arg(long, value_name = "DURATION", value_parser = every, default_value = PROBE_EVERY)]
    pub(super) every: Duration,
    /// End it when the service is without an answer for this long [default: twice the predicted
    /// outage and 5 s; the deadline, when no start was ever told].
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(super) budget: Option<Duration>,
    /// End it when a move takes longer [default: 2m].
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(super) deadline: Option<Duration>,
    /// How many milliseconds an outage may be beyond its prediction.
    #[arg(long, value_name = "MS", default_value_t = ALLOWANCE_MS)]
    pub(super) allowance: u64,
    /// Writes report.json, report.html and junit.xml there.
    #[arg(long, value_name = "DIR")]
    pub(super) report: Option<PathBuf>,
}

impl SwitchArgs {
    pub(super) fn deadline(&self) -> Duration {
        self.deadline.unwrap_or(WAIT)
    }

    /// The service may be away for this long. Without a prediction only the step's deadline bounds
    /// it: a first start of a slow service is no fault.
    pub(super) fn budget(&self, predicted: Option<Duration>) -> Duration {
        let usual = predicted.map_or(self.deadline(), |p| p * 2 + OUTAGE_GRACE);
        self.budget.unwrap_or(usual)
    }

    /// Two looks: how late something is seen.
    pub(super) fn grain(&self) -> Duration {
        if self.probes.iter().any(|p| p.site.is_none()) { self.every * 2 } else { LOOK_EVERY * 2 }
    }
}

fn hold(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        d if d <= MAX_HOLD => Ok(d),
        _ => Err(format!("{} at the most", span(MAX_HOLD))),
    }
}

fn every(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        d if d >= MIN_EVERY => Ok(d),
        _ => Err(format!("{} at the least", span(MIN_EVERY))),
    }
}

// ----- looking -------------------------------------------------------------------------------

/// Asks everybody once.
fn look(ctx: &Ctx, args: &CheckArgs) -> Result<Scene, Failure> {
    let first = Client::new(ctx);
    let seen = ask_member(&first, &args.ticket)?;
    let linear = status::ask(&first, true).err().map(|e| e.view.error.clone());
    let mut scene =
        Scene { seen: vec![seen], blind: Vec::new(), linear, to: args.to.clone(), plan: None };
    for socket in args.observers.iter().filter(|s| *s != first.socket()) {
        match ask_member(&first.at(socket.clone()), &args.ticket) {
            Ok(seen) => scene.seen.push(seen),
            Err(e) => scene.blind.push((socket.clone(), e.view.error.clone())),
        }
    }
    if scene.to.is_none() && scene.holder().is_some() {
        scene.to = scene.successor();
    }
    if let (Some(to), Some(from)) = (scene.to.clone(), scene.holder()) {
        let client = first.at(scene.best_socket(from).to_owned());
        // A refusal of the question itself (no such site) is the preflight's to say.
        scene.plan = plan(&client, &args.ticket, &to).ok();
    }
    Ok(scene)
}

fn ask_member(client: &Client, ticket: &str) -> Result<Seen, Failure> {
    let status = status::ask(client, false)?;
    match client.look(Ask::Ticket { name: ticket.to_owned() })? {
        Reply::Ticket(ticket) => {
            Ok(Seen { socket: client.socket().to_owned(), status, ticket: *ticket })
        }
        _ => Err(unfit()),
    }
}

fn plan(client: &Client, ticket: &str, to: &str) -> Result<PlanView, Failure> {
    approve::plan(client, ticket, Some(to))
}

/// The outage of a move with its reasons. Where the start is unknown, the last one at the other
/// site stands in; `grain`: how late it is seen.
pub(super) fn predict(
    plan: &PlanView,
    stand_in: Option<u64>,
    grain: Duration,
) -> (Duration, String) {
    let outage = Duration::from_millis(plan.outage_ms) + grain;
    let grain = grain.as_millis();
    let base = format!("the plan's outage {} ms and two looks ({grain} ms)", plan.outage_ms);
    match (known_start(plan), stand_in) {
        (Some(_), _) => (outage, base),
        (None, Some(ms)) => {
            let text = format!("{base}; a start {ms} ms, as at the other site: none was told here");
            (outage + Duration::from_millis(ms), text)
        }
        (None, None) => (outage, format!("{base}; the start is unknown and not in it")),
    }
}

// ----- commands ------------------------------------------------------------------------------

/// `tierce drill check`.
pub(super) fn check(ctx: &Ctx, args: &CheckArgs) -> Result<Exit, Failure> {
    limit(args.observers.len(), 0)?;
    let scene = look(ctx, args)?;
    let checks = preflight::checks(&scene);
    let passed = preflight::passed(&checks);
    if ctx.out.is_json() {
        let (from, to) = (scene.holder(), &scene.to);
        let outage = scene.plan.as_ref().map(|p| p.outage_ms);
        ctx.out.json(&json!({
            "ticket": args.ticket, "from": from, "to": to, "passed": passed, "checks": checks,
            "predicted_outage_ms": outage,
        }))?;
    } else {
        let mut out = String::new();
        text::checks(
            &mut out,
            &format!("switch-over of {}", args.ticket),
            &checks,
            ctx.out.colour(),
        );
        ctx.out.text(&out)?;
    }
    if passed {
        return Ok(Exit::Ok);
    }
    let failure = refusal(&args.ticket, &checks);
    failure.tell();
    Ok(Exit::Unwell(failure.view.code))
}

fn refusal(ticket: &str, checks: &[Check]) -> Failure {
    let bad: Vec<String> =
        checks.iter().filter(|c| !c.passed).map(|c| format!("{}: {}", c.name, c.reason)).collect();
    Failure::new(
        codes::NOT_NOW,
        format!("the drill is refused: {}", bad.join("; ")),
        "nothing was moved and nothing was changed",
        format!("tierce drill check --ticket {ticket}; tierce status"),
        "drill on a day on which every check passes",
    )
}

fn limit(observers: usize, probes: usize) -> Result<(), Failure> {
    if observers <= MAX_TARGETS && probes <= MAX_TARGETS {
        return Ok(());
    }
    Err(Failure::new(
        codes::USAGE,
        format!("more than {MAX_TARGETS} observers or probes"),
        "nothing was done",
        "tierce drill run switch-over --help",
        "name the few that matter",
    ))
}

/// `tierce drill run switch-over`.
pub(super) fn run(ctx: &Ctx, args: &SwitchArgs) -> Result<Exit, Failure> {
    limit(args.scope.observers.len(), args.probes.len())?;
    let scene = look(ctx, &args.scope)?;
    check_sites(&scene, args)?;
    let show = if ctx.out.is_json() { Show::Aside } else { Show::Text };
    let timeline = Timeline::new(show);
    let mut report = begin(&scene, args);
    // Made in advance: afterwards is no time to find that it cannot be written.
    wrote(&report, args.report.as_deref())?;
    if let Some(scope) = &report.scope {
        timeline.say(Kind::Drill, &scope.hypothesis);
    }
    report.preflight = preflight::checks(&scene);
    say(&report.preflight, &timeline);
    let (Some(home), Some(to), true) =
        (scene.holder().map(str::to_owned), scene.to.clone(), preflight::passed(&report.preflight))
    else {
        return refuse(ctx, args, report, &timeline);
    };
    let what = report.scope.as_ref().map_or("", |s| s.hypothesis.as_str());
    approve::ordinary(ctx, &format!("{what}. Do it?"))?;
    let ended = Course::run(args, &scene, &home, &to, &mut report, &timeline);
    let ended = ended.map_err(|e| {
        Failure::new(
            codes::ERROR,
            format!("the drill could not be set up: {e}"),
            "nothing was moved and nothing was changed",
            "ulimit -a",
            "try again",
        )
    })?;
    if let Ended::Refused = ended {
        return refuse(ctx, args, report, &timeline);
    }
    report.close(&timeline);
    wrote(&report, args.report.as_deref())?;
    finish(ctx, &report, args.report.as_deref())?;
    Ok(match ended {
        Ended::Passed => Exit::Ok,
        Ended::Failed => Exit::Unwell(codes::ERROR),
        Ended::Code(code) => Exit::Unwell(code),
        Ended::Refused => Exit::Unwell(codes::NOT_NOW),
    })
}

/// A probe for a site that does not exist would never be an overlap.
fn check_sites(scene: &Scene, args: &SwitchArgs) -> Result<(), Failure> {
    let sites = scene.sites();
    let odd = args.probes.iter().filter_map(|p| p.site.as_ref()).find(|s| !sites.contains(s));
    match odd {
        None => Ok(()),
        Some(site) => Err(Failure::new(
            codes::NO_SUCH,
            format!("there is no site {site} that a probe could speak for"),
            "nothing was done",
            "tierce sites list",
            format!("the sites are: {}", sites.join(", ")),
        )),
    }
}

fn begin(scene: &Scene, args: &SwitchArgs) -> Report {
    let mut report = Report::begin(DRILL, "switch-over", 4);
    let first = &scene.first().status;
    let ticket = args.scope.ticket.clone();
    let (from, to) = (scene.holder().unwrap_or("nobody"), scene.to.as_deref().unwrap_or("nobody"));
    let outage = scene.plan.as_ref().map(|plan| {
        let stand_in = scene.first().ticket.starts.get(from).and_then(|s| s.took_ms);
        predict(plan, stand_in, args.grain()).0
    });
    let (predicted, allowed) = match outage {
        Some(d) => (span(d), span(d + Duration::from_millis(args.allowance))),
        None => ("unknown".to_owned(), "unknown".to_owned()),
    };
    let hypothesis = format!(
        "hypothesis: ticket {ticket} goes from {from} to {to}, stays there for {} and comes back; \
         its service is away for {predicted} (allowed: {allowed}) each time and never runs twice",
        span(args.hold)
    );
    report.scope = Some(Scope { ticket, from: from.to_owned(), to: to.to_owned(), hypothesis });
    report.sites = scene.sites();
    report.digest = Some(first.digest.clone());
    report.timing = first.timing.iter().map(|(k, v)| (k.clone(), v.clone().into())).collect();
    for seen in &scene.seen {
        let name = format!("agent at {}", seen.status.member);
        report.versions.insert(name, seen.status.version.clone());
    }
    report.verdict = Verdict::Refused;
    "refused: not begun yet".clone_into(&mut report.summary);
    report.again = format!("tierce drill run switch-over --ticket {} --to {to}", args.scope.ticket);
    report
}

pub(super) fn say(checks: &[Check], timeline: &Timeline) {
    for c in checks {
        let mark = if c.passed { "ok" } else { "FAILED" };
        timeline.say(Kind::Check, format!("{mark}: {}: {}", c.name, c.reason));
    }
}

/// Nothing was touched. The report says so too.
fn refuse(
    ctx: &Ctx,
    args: &SwitchArgs,
    mut report: Report,
    timeline: &Timeline,
) -> Result<Exit, Failure> {
    let failure = refusal(&args.scope.ticket, &report.preflight);
    report.verdict = Verdict::Refused;
    report.summary.clone_from(&failure.view.error);
    report.close(timeline);
    wrote(&report, args.report.as_deref())?;
    if ctx.out.is_json() {
        ctx.out.json(&report)?;
    }
    failure.tell();
    Ok(Exit::Unwell(failure.view.code))
}

#[cfg(test)]
mod tests {
    use tierce_wire::control::PlanStep;

    use super::*;

    #[test]
    fn a_start_that_is_unknown_is_stood_in_for_or_said_to_be_missing() {
        let grain = Duration::from_millis(40);
        let step = |basis: &str| PlanStep {
            what: "start its resources".to_owned(),
            basis: basis.to_owned(),
            predicted_ms: 20,
            ..PlanStep::default()
        };
        let plan =
            |basis| PlanView { outage_ms: 50, steps: vec![step(basis)], ..PlanView::default() };
        let known = predict(&plan("the last start"), Some(9), grain);
        assert_eq!(known.0, Duration::from_millis(90));
        let unknown = plan("unknown: none was measured");
        let (d, why) = predict(&unknown, Some(9), grain);
        assert!(d == Duration::from_millis(99) && why.contains("as at the other site"), "{why}");
        assert!(predict(&unknown, None, grain).1.contains("not in it"));
    }

    #[test]
    fn a_hold_and_a_probe_have_their_bounds() {
        assert!(hold("1h").is_ok() && hold("2h").is_err());
        assert!(every("10ms").is_ok() && every("1ms").is_err());
    }
}
