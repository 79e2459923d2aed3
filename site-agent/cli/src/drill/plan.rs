//! `plan` (L0): what the loss of a site would do now. It asks and thinks; it touches nothing.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tierce_wire::control::{MemberView, StatusView, TicketView};

use super::preflight::successor;
use super::{finish, wrote};
use crate::Ctx;
use crate::client::Client;
use crate::codes::{self, Exit};
use crate::evidence::report::{DRILL, Loss, Report, Verdict};
use crate::evidence::timeline::{Show, Timeline};
use crate::failure::Failure;
use crate::status;

/// What is asked.
#[derive(Clone, Debug, Args)]
pub(crate) struct PlanArgs {
    /// The site that is lost [default: each in turn].
    #[arg(long, value_name = "SITE")]
    site: Option<String>,
    /// This ticket only.
    #[arg(long, value_name = "TICKET")]
    ticket: Option<String>,
    /// Writes report.json, report.html and junit.xml there.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
}

/// Does it.
pub(super) fn run(ctx: &Ctx, args: &PlanArgs) -> Result<Exit, Failure> {
    let timeline = Timeline::new(Show::Aside);
    let status = status::ask(&Client::new(ctx), false)?;
    let sites = sites(&status);
    for (word, name, known) in [
        ("site", &args.site, &sites),
        ("ticket", &args.ticket, &status.tickets.iter().map(|t| t.name.clone()).collect()),
    ] {
        if let Some(name) = name.as_ref().filter(|n| !known.contains(n)) {
            return Err(Failure::new(
                codes::NO_SUCH,
                format!("there is no {word} {name}"),
                "nothing was done",
                "tierce status",
                format!("one of: {}", known.join(", ")),
            ));
        }
    }
    let mut report = Report::begin(DRILL, "plan", 0);
    let lost = args.site.as_ref().map_or(sites.clone(), |s| vec![s.clone()]);
    for site in &lost {
        let held = status.tickets.iter().filter(|t| t.site.as_ref() == Some(site));
        let wanted = held.filter(|t| args.ticket.as_ref().is_none_or(|n| *n == t.name));
        report.losses.extend(wanted.map(|t| loss(&status, t, site)));
    }
    report.sites = sites;
    report.digest = Some(status.digest.clone());
    report.timing = status.timing.iter().map(|(k, v)| (k.clone(), v.clone().into())).collect();
    conclude(&mut report, &status, &lost);
    report.close(&timeline);
    "tierce drill run plan".clone_into(&mut report.again);
    wrote(&report, args.report.as_deref())?;
    finish(ctx, &report, args.report.as_deref())?;
    Ok(if report.passed() { Exit::Ok } else { Exit::Unwell(codes::ERROR) })
}

fn sites(status: &StatusView) -> Vec<String> {
    let sites = status.members.iter().filter(|m| m.role == "site");
    sites.map(|m| m.name.clone()).collect()
}

/// Verdict and sentence. Tickets that a person moves are no failure: that is their mode.
fn conclude(r: &mut Report, status: &StatusView, lost: &[String]) {
    let stays = |l: &&Loss| !l.unattended && is_auto(status, &l.ticket);
    let exposed: Vec<&str> = r.losses.iter().filter(stays).map(|l| l.ticket.as_str()).collect();
    let manual = r.losses.iter().filter(|l| !l.unattended).count() - exposed.len();
    let slowest = r.losses.iter().filter_map(|l| l.predicted_ms).max().unwrap_or(0);
    let without = lost.join(" or ");
    let by_hand = match manual {
        0 => String::new(),
        n => format!("; {n} more wait for a person, as their mode says"),
    };
    let moved = r.losses.iter().filter(|l| l.unattended).count();
    let (verdict, text) = if !exposed.is_empty() {
        let names = exposed.into_iter().take(3).collect::<Vec<_>>().join(", ");
        let text = format!("without {without} these are left without a site: {names}{by_hand}");
        (Verdict::Failed, text)
    } else if r.losses.is_empty() {
        (Verdict::Passed, format!("no ticket is held by {without}: its loss moves nothing"))
    } else {
        let text = format!(
            "without {without} every ticket of mode auto goes elsewhere by itself ({moved}), the \
             slowest after {slowest} ms at worst{by_hand}"
        );
        (Verdict::Passed, text)
    };
    r.summary = format!("{}: {text}", verdict.word());
    r.verdict = verdict;
}

fn is_auto(status: &StatusView, ticket: &str) -> bool {
    let mode = |t: &&TicketView| t.name == ticket && t.policy.mode.as_deref() == Some("auto");
    status.tickets.iter().any(|t| mode(&t))
}

/// A majority of all voters, without the lost one and those that are away already.
fn majority_without(status: &StatusView, lost: &str) -> Result<(), String> {
    let voters: Vec<&MemberView> =
        status.members.iter().filter(|m| m.standing == "voter").collect();
    let left = voters.iter().filter(|m| m.name != lost && m.connected).count();
    if left > voters.len() / 2 {
        return Ok(());
    }
    Err(format!("{left} of {} voters would be left, which is no majority", voters.len()))
}

fn loss(status: &StatusView, t: &TicketView, lost: &str) -> Loss {
    let policy = |word: &Option<String>| word.clone().unwrap_or_default();
    let (mode, regrant) = (policy(&t.policy.mode), policy(&t.policy.regrant));
    let to = successor(t, &sites(status), Some(lost));
    let person = if let Err(why) = majority_without(status, lost) {
        Some(format!("{why}: what runs stops, and nothing is granted"))
    } else if regrant != "lapse" && !regrant.is_empty() {
        Some(format!("its policy asks for proof `{regrant}` that {lost} is down"))
    } else if let Some(hold) = &t.hold {
        let one = "no second move by itself within its window";
        let held = "it is held in place";
        Some(if hold == "one-move" { one } else { held }.to_owned())
    } else if mode != "auto" {
        Some(format!("its mode is {mode}"))
    } else if to.is_none() {
        let against = t.sites.iter().filter(|(s, _)| *s != lost);
        let why: Vec<String> = against.map(|(s, w)| format!("{s}: {w}")).collect();
        let none = "no other site is known to be able to hold it".to_owned();
        Some(if why.is_empty() { none } else { why.join("; ") })
    } else {
        None
    };
    let (site, ticket) = (lost.to_owned(), t.name.clone());
    if let Some(why) = person {
        return Loss { site, ticket, to, unattended: false, predicted_ms: None, why };
    }
    let start = to.as_ref().and_then(|s| t.starts.get(s)).and_then(|s| s.took_ms);
    let basis = match start {
        Some(start) => format!("its last start there took {start} ms"),
        None => "its start there is unknown and not in the prediction".to_owned(),
    };
    let worst = Duration::from_millis(status.worst_takeover_ms);
    let predicted = status.worst_takeover_ms + start.unwrap_or(0);
    let why = format!("T + 2 RTT + 2 fsync = {} ms; {basis}", worst.as_millis());
    Loss { site, ticket, to, unattended: true, predicted_ms: Some(predicted), why }
}

#[cfg(test)]
mod tests {
    use tierce_wire::control::StartView;

    use super::super::preflight::tests::good;
    use super::*;

    fn of(change: impl Fn(&mut StatusView, &mut TicketView)) -> Loss {
        let seen = good().seen.remove(0);
        let (mut status, mut ticket) = (seen.status, seen.ticket);
        ticket.policy.regrant = Some("lapse".to_owned());
        ticket.starts.insert("rome".to_owned(), StartView { term: 3, took_ms: Some(20) });
        change(&mut status, &mut ticket);
        loss(&status, &ticket, "paris")
    }

    #[test]
    fn a_ticket_in_mode_auto_goes_to_the_site_that_may_hold_it_with_its_time() {
        let l = of(|_, _| {});
        assert!(l.unattended && l.to.as_deref() == Some("rome"), "{l:?}");
        assert_eq!(l.predicted_ms, Some(1_022));
        let l = of(|_, t| t.starts.clear());
        assert!(l.predicted_ms == Some(1_002) && l.why.contains("unknown"), "{l:?}");
    }

    #[test]
    fn what_keeps_a_ticket_from_going_by_itself_is_said_and_nothing_is_predicted() {
        type Change = fn(&mut StatusView, &mut TicketView);
        let cases: [(&str, Change); 7] = [
            ("mode is manual", |_, t| t.policy.mode = Some("manual".to_owned())),
            ("proof `fenced`", |_, t| t.policy.regrant = Some("fenced".to_owned())),
            ("held in place", |_, t| t.hold = Some("operator".to_owned())),
            ("no second move", |_, t| t.hold = Some("one-move".to_owned())),
            ("rome: lag", |_, t| {
                t.sites.insert("rome".to_owned(), "lag".to_owned());
            }),
            ("no other site", |_, t| t.sites.clear()),
            ("no majority", |s, _| s.members[2].connected = false),
        ];
        for (word, change) in cases {
            let l = of(change);
            assert!(!l.unattended && l.predicted_ms.is_none(), "{word}: {l:?}");
            assert!(l.why.contains(word), "{word}: {l:?}");
        }
    }

    #[test]
    fn the_plan_fails_when_a_ticket_that_should_go_by_itself_would_stay() {
        let seen = good().seen.remove(0);
        let judged = |mode: &str, unattended: bool| {
            let mut status = seen.status.clone();
            let mut ticket = seen.ticket.clone();
            ticket.policy.mode = Some(mode.to_owned());
            status.tickets = vec![ticket];
            let mut r = Report::begin(DRILL, "plan", 0);
            let l = loss(&seen.status, &seen.ticket, "paris");
            r.losses = vec![Loss { unattended, ..l }];
            conclude(&mut r, &status, &["paris".to_owned()]);
            (r.verdict, r.summary)
        };
        assert_eq!(judged("auto", true).0, Verdict::Passed);
        assert_eq!(judged("auto", false).0, Verdict::Failed);
        let (verdict, summary) = judged("manual", false);
        assert!(verdict == Verdict::Passed && summary.contains("1 more wait"), "{summary}");
    }
}
