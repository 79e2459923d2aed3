//! `tierce status`: one sentence first, then members, tickets, what protects them, alarms.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::time::SystemTime;

use clap::Args;
use tierce_wire::control::{Ask, MemberView, Reply, StatusView, TicketView};

use crate::Ctx;
use crate::approve::unfit;
use crate::client::Client;
use crate::codes::{self, Exit};
use crate::failure::Failure;
use crate::limits::WATCH_EVERY;
use crate::table::{Cell, Paint, Table};
use crate::words::{ms, plain, when};

/// What `status` is told.
#[derive(Clone, Debug, Args)]
pub(crate) struct StatusArgs {
    /// Print the sentence only; the exit code is 0 only when all is well.
    #[arg(long)]
    check: bool,
    /// Look again every second.
    #[arg(short, long, conflicts_with = "check")]
    watch: bool,
    /// Answer only as new as the ledger: refused without a majority.
    #[arg(long)]
    linear: bool,
}

/// Does what `status` was told.
pub(crate) fn run(ctx: &Ctx, args: &StatusArgs) -> Result<Exit, Failure> {
    let client = Client::new(ctx);
    if args.watch {
        return watch(ctx, &client, args.linear);
    }
    let status = ask(&client, args.linear)?;
    if ctx.out.is_json() {
        ctx.out.json(&status)?;
    } else if args.check {
        ctx.out.text(&head(&status, ctx.out.colour()))?;
    } else {
        ctx.out.text(&text(&status, ctx, SystemTime::now()))?;
    }
    Ok(if args.check { check(&status) } else { Exit::Ok })
}

/// Asks for the status.
pub(crate) fn ask(client: &Client, linear: bool) -> Result<StatusView, Failure> {
    match client.look(Ask::Status { linear })? {
        Reply::Status(status) => Ok(*status),
        _ => Err(unfit()),
    }
}

fn check(status: &StatusView) -> Exit {
    match status.verdict.as_str() {
        "ok" => Exit::Ok,
        "degraded" | "critical" => Exit::Unwell(codes::ERROR),
        _ => Exit::Unwell(codes::OUTCOME_UNKNOWN),
    }
}

/// Until somebody ends it. A daemon that is away is part of what is watched.
fn watch(ctx: &Ctx, client: &Client, linear: bool) -> Result<Exit, Failure> {
    let clear = if std::io::stdout().is_terminal() { "\x1b[H\x1b[J" } else { "" };
    loop {
        match ask(client, linear) {
            Ok(status) if ctx.out.is_json() => ctx.out.json_line(&status)?,
            Ok(status) => {
                let text = text(&status, ctx, SystemTime::now());
                ctx.out.text(&format!("{clear}{text}\n"))?;
            }
            Err(failure) if ctx.out.is_json() => ctx.out.json_line(&*failure.view)?,
            Err(failure) => ctx.out.text(&format!("{clear}{}\n", failure.text()))?,
        }
        std::thread::sleep(WATCH_EVERY);
    }
}

// ----- the text ------------------------------------------------------------------------------

fn head(s: &StatusView, colour: bool) -> String {
    let paint = Paint::of_verdict(&s.verdict);
    let summary = plain(&s.summary);
    let sentence = match summary.strip_prefix(&s.verdict) {
        Some(rest) => format!("{}{rest}", paint.put(&s.verdict, colour)),
        None => format!("{}: {summary}", paint.put(&plain(&s.verdict), colour)),
    };
    let next = if s.next.is_empty() { "nothing to do" } else { &s.next };
    format!("{sentence}\nnext: {}\n", plain(next))
}

fn text(s: &StatusView, ctx: &Ctx, now: SystemTime) -> String {
    let (colour, wide) = (ctx.out.colour(), ctx.out.is_wide());
    let mut out = head(s, colour);
    let _ = writeln!(out, "\n{}", about(s));
    let mut section = |title: &str, body: &str| {
        if !body.is_empty() {
            let _ = write!(out, "\n{title}\n{body}");
        }
    };
    section("MEMBERS", &members(&s.members, wide).text(colour));
    section("TICKETS", &tickets(&s.tickets, wide, now).text(colour));
    section("PROTECTION HERE", &protection(&s.tickets));
    let mut alarms = Table::new(&["AT", "WHAT"]);
    for a in &s.alarms {
        alarms.row(vec![when(&a.at, now).into(), (&a.text).into()]);
    }
    section("ALARMS", &alarms.text(colour));
    if wide && !s.timing.is_empty() {
        let times: Vec<String> = s.timing.iter().map(|(k, v)| format!("{k} {v}")).collect();
        let _ = write!(out, "\nLEASE TIMES\n{}\n", plain(&times.join(", ")));
    }
    out
}

fn about(s: &StatusView) -> String {
    let mut parts = Vec::new();
    if !s.tenant.is_empty() {
        parts.push(format!("tenant {}", s.tenant));
    }
    if !s.member.is_empty() {
        parts.push(format!("answered by {} ({}, {})", s.member, s.role, s.standing));
        let leader = s.leader.as_deref().unwrap_or("unknown");
        parts.push(format!("leader {leader}"));
        parts.push(if s.quorate { "majority reached" } else { "NO majority" }.to_owned());
        parts.push(format!("takeover within {} at worst", ms(s.worst_takeover_ms)));
    } else if !s.role.is_empty() {
        parts.push(format!("answered by an {}", s.role));
    }
    if let Some(days) = s.certificate_days {
        parts.push(format!("certificate ends in {:.0} days", days.floor()));
    }
    plain(&parts.join("; "))
}

/// The members' table.
pub(crate) fn members(members: &[MemberView], wide: bool) -> Table {
    let mut table = Table::new(&[
        "NAME",
        "ROLE",
        "STANDING",
        "LINK",
        "RTT",
        "SESSION",
        "DECLARED",
        "PROMISE",
        "CONFIG",
        "REFUSES",
        "ADDRESSES",
    ]);
    for m in members {
        let link = if m.connected {
            Cell::painted("up", Paint::Good)
        } else {
            Cell::painted("down", Paint::Bad)
        };
        let same = m.same_config.map(|same| if same { "same" } else { "DIFFERS" });
        let paint = if m.same_config == Some(false) { Paint::Warn } else { Paint::Plain };
        let addresses = if wide { m.addresses.join(" ") } else { String::new() };
        table.row(vec![
            (&m.name).into(),
            (&m.role).into(),
            (&m.standing).into(),
            link,
            m.rtt_ms.map(|rtt| format!("{rtt:.1} ms")).into(),
            m.session.into(),
            m.declared.as_ref().into(),
            m.promise_left_ms.map(ms).into(),
            Cell::painted(same.unwrap_or_default(), paint),
            m.refused.as_ref().into(),
            addresses.into(),
        ]);
    }
    table
}

/// The tickets' table.
pub(crate) fn tickets(tickets: &[TicketView], wide: bool, now: SystemTime) -> Table {
    let mut table = Table::new(&[
        "TICKET", "STATE", "SITE", "TERM", "MODE", "BLIP", "PROOF", "SINCE", "UNTIL", "BECAUSE",
        "NEXT",
    ]);
    for t in tickets {
        let only_wide = |cell: Cell| if wide { cell } else { "".into() };
        table.row(vec![
            (&t.name).into(),
            Cell::painted(&t.state, Paint::of_state(&t.state)),
            t.site.as_ref().into(),
            t.term.into(),
            only_wide(t.policy.mode.as_ref().into()),
            only_wide(ms(t.blip_budget_ms).into()),
            only_wide(t.proof.as_ref().into()),
            when(&t.since, now).into(),
            (&t.until).into(),
            (&t.because).into(),
            (&t.next).into(),
        ]);
    }
    table
}

/// Layers that protect the tickets here; tickets with the same ones share a line.
fn protection(tickets: &[TicketView]) -> String {
    let mut by_layers: BTreeMap<&[String], Vec<&str>> = BTreeMap::new();
    for t in tickets {
        by_layers.entry(&t.protection).or_default().push(&t.name);
    }
    let all = by_layers.len() == 1 && tickets.len() > 1;
    let mut out = String::new();
    for (layers, names) in by_layers {
        let names = if all { "all tickets".to_owned() } else { names.join(", ") };
        let layers = if layers.is_empty() { "none here".to_owned() } else { layers.join(", ") };
        let _ = writeln!(out, "{}: {}", plain(&names), plain(&layers));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(verdict: &str, summary: &str) -> StatusView {
        StatusView {
            verdict: verdict.to_owned(),
            summary: summary.to_owned(),
            next: "tierce sites list".to_owned(),
            ..StatusView::default()
        }
    }

    #[test]
    fn the_sentence_names_the_verdict_once() {
        let s = status("degraded", "degraded: rome cannot be reached");
        assert_eq!(head(&s, false), "degraded: rome cannot be reached\nnext: tierce sites list\n");
        let s = status("ok", "serving 3 tenants");
        assert!(head(&s, false).starts_with("ok: serving 3 tenants\n"));
        assert!(head(&s, true).starts_with("\x1b[32mok\x1b[0m: "));
    }

    #[test]
    fn only_ok_checks_as_well() {
        assert!(matches!(check(&status("ok", "")), Exit::Ok));
        assert!(matches!(check(&status("critical", "")), Exit::Unwell(codes::ERROR)));
        for odd in ["unknown", "", "fine"] {
            assert!(matches!(check(&status(odd, "")), Exit::Unwell(codes::OUTCOME_UNKNOWN)));
        }
    }

    #[test]
    fn equal_protection_is_said_once() {
        let ticket = |name: &str, layers: &[&str]| TicketView {
            name: name.to_owned(),
            protection: layers.iter().map(|l| (*l).to_owned()).collect(),
            ..TicketView::default()
        };
        let same = [ticket("a", &["L0 agent timer"]), ticket("b", &["L0 agent timer"])];
        assert_eq!(protection(&same), "all tickets: L0 agent timer\n");
        let differ = [ticket("a", &["L0"]), ticket("b", &[]), ticket("c", &["L0"])];
        assert_eq!(protection(&differ), "b: none here\na, c: L0\n");
    }
}
