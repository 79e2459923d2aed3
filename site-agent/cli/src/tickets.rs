//! `tierce tickets`: look at them, and ask for changes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};
use serde_json::json;
use tierce_wire::control::{Ask, PlanView, PolicyView, Reply, TicketView};

use crate::Ctx;
use crate::approve::{self, unfit};
use crate::args::{duration, pair};
use crate::client::Client;
use crate::codes::Exit;
use crate::failure::Failure;
use crate::limits::{HISTORY, WAIT};
use crate::status;
use crate::table::{Cell, Paint, Table};
use crate::words::{ms, plain, when};

/// How long to wait for the end of a change.
#[derive(Clone, Debug, Args)]
pub(crate) struct WaitArgs {
    /// Wait this long until it is done; then it goes on by itself and the exit code is 124
    /// [default: 2m].
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    wait: Option<Duration>,
}

impl WaitArgs {
    fn limit(&self) -> Duration {
        self.wait.unwrap_or(WAIT)
    }

    fn ms(&self) -> u64 {
        u64::try_from(self.limit().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Commands on tickets.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum TicketsCommand {
    /// All tickets.
    List,
    /// Everything known of one ticket.
    Show {
        /// The ticket.
        ticket: String,
    },
    /// Gives a free ticket to a site; done when its resources run there.
    Grant {
        /// The ticket.
        ticket: String,
        /// The site.
        #[arg(long, value_name = "SITE")]
        to: String,
        #[command(flatten)]
        wait: WaitArgs,
        /// Show the plan and change nothing.
        #[arg(long)]
        plan: bool,
    },
    /// Takes a ticket from its holder; done when its resources are stopped.
    Revoke {
        /// The ticket.
        ticket: String,
        /// Why, for the history.
        #[arg(long, value_name = "TEXT", default_value = "")]
        note: String,
        #[command(flatten)]
        wait: WaitArgs,
        /// Show the plan and change nothing.
        #[arg(long)]
        plan: bool,
    },
    /// Takes a ticket back from a holder that does not give it up: waits until its lease ends.
    TakeBack {
        /// The ticket.
        ticket: String,
        /// Why, for the history.
        #[arg(long, value_name = "TEXT", default_value = "")]
        note: String,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Moves a ticket to another site; done when its resources run there.
    Move {
        /// The ticket.
        ticket: String,
        /// The site.
        #[arg(long, value_name = "SITE")]
        to: String,
        /// Why, for the history.
        #[arg(long, value_name = "TEXT", default_value = "")]
        note: String,
        #[command(flatten)]
        wait: WaitArgs,
        /// Show the plan and change nothing.
        #[arg(long)]
        plan: bool,
    },
    /// Calls a handover off.
    CancelMove {
        /// The ticket.
        ticket: String,
        /// Why, for the history.
        #[arg(long, value_name = "TEXT", default_value = "")]
        note: String,
    },
    /// Keeps a ticket where it is: it does not move by itself.
    Hold {
        /// The ticket.
        ticket: String,
        /// Why, for the history.
        #[arg(long, value_name = "TEXT", default_value = "")]
        note: String,
    },
    /// Ends a hold.
    Resume {
        /// The ticket.
        ticket: String,
    },
    /// What a move or grant (with --to) or a revoke would do; changes nothing.
    Plan {
        /// The ticket.
        ticket: String,
        /// The site.
        #[arg(long, value_name = "SITE")]
        to: Option<String>,
    },
    /// Decisions, newest first.
    History {
        /// Of this ticket only.
        ticket: Option<String>,
        /// At the most so many.
        #[arg(long, value_name = "N", default_value_t = HISTORY)]
        limit: u32,
    },
    /// Makes a ticket, or changes its policy; what is left out stays.
    Set(SetArgs),
    /// Removes a free ticket.
    Remove {
        /// The ticket.
        ticket: String,
    },
}

/// A policy on the command line; the words are those of the site's file.
#[derive(Clone, Debug, Args)]
pub(crate) struct SetArgs {
    /// The ticket.
    ticket: String,
    /// Who decides: manual, observe, confirm, auto.
    #[arg(long, value_name = "WORD")]
    mode: Option<String>,
    /// What a grant after a loss needs: lapse, fenced, operator.
    #[arg(long, value_name = "WORD")]
    regrant: Option<String>,
    /// What happens when the lease ends: stop, fence, freeze.
    #[arg(long, value_name = "WORD")]
    loss_policy: Option<String>,
    /// Sites, most wanted first.
    #[arg(long, value_name = "SITE,SITE", value_delimiter = ',')]
    prefer: Option<Vec<String>>,
    /// No second automatic move within this time.
    #[arg(long, value_name = "DURATION")]
    one_move_per: Option<String>,
    /// An attribute that the site must have; may be repeated and replaces the present ones.
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    require: Option<Vec<(String, String)>>,
    /// Greatest replication lag.
    #[arg(long, value_name = "DURATION")]
    max_lag: Option<String>,
    /// Time to stop the resources in.
    #[arg(long, value_name = "DURATION")]
    stop_budget: Option<String>,
}

impl SetArgs {
    fn policy(&self) -> PolicyView {
        PolicyView {
            mode: self.mode.clone(),
            regrant: self.regrant.clone(),
            loss: self.loss_policy.clone(),
            prefer: self.prefer.clone(),
            one_move_per: self.one_move_per.clone(),
            require: self.require.clone().map(BTreeMap::from_iter),
            max_lag: self.max_lag.clone(),
            stop_budget: self.stop_budget.clone(),
        }
    }
}

/// Does what was asked.
pub(crate) fn run(ctx: &Ctx, command: TicketsCommand) -> Result<Exit, Failure> {
    use TicketsCommand as T;
    let client = Client::new(ctx);
    match command {
        T::List => list(ctx, &client),
        T::Show { ticket } => show(ctx, &client, ticket),
        T::Plan { ticket, to } => show_plan(ctx, &client, &ticket, to.as_deref()),
        T::History { ticket, limit } => history(ctx, &client, ticket, limit),
        T::Grant { ticket, to, plan: true, .. } | T::Move { ticket, to, plan: true, .. } => {
            show_plan(ctx, &client, &ticket, Some(&to))
        }
        T::Revoke { ticket, plan: true, .. } => show_plan(ctx, &client, &ticket, None),
        T::Grant { ticket, to, wait, .. } => {
            approve::planned(ctx, &client, &ticket, Some(&to))?;
            let ask = Ask::Grant { name: ticket, to, wait_ms: wait.ms() };
            change(ctx, &client, ask, wait.limit())
        }
        T::Move { ticket, to, note, wait, .. } => {
            approve::planned(ctx, &client, &ticket, Some(&to))?;
            let ask = Ask::Move { name: ticket, to, note, wait_ms: wait.ms() };
            change(ctx, &client, ask, wait.limit())
        }
        T::Revoke { ticket, note, wait, .. } => {
            approve::planned(ctx, &client, &ticket, None)?;
            let ask = Ask::Revoke { name: ticket, note, wait_ms: wait.ms() };
            change(ctx, &client, ask, wait.limit())
        }
        T::TakeBack { ticket, note, wait } => {
            let what = format!(
                "Ticket {ticket} is taken back: the voters let its lease run out, and its \
                 resources stop by then, however they are. Go on?"
            );
            approve::ordinary(ctx, &what)?;
            let ask = Ask::TakeBack { name: ticket, note, wait_ms: wait.ms() };
            change(ctx, &client, ask, wait.limit())
        }
        T::CancelMove { ticket, note } => {
            let what =
                format!("The handover of {ticket} is called off; its holder keeps it. Go on?");
            small(ctx, &client, &what, Ask::CancelMove { name: ticket, note })
        }
        T::Hold { ticket, note } => {
            let what = format!("{ticket} does not move by itself any more, until resumed. Go on?");
            small(ctx, &client, &what, Ask::Hold { name: ticket, note })
        }
        T::Resume { ticket } => {
            let what = format!("{ticket} moves by itself again, as its mode says. Go on?");
            small(ctx, &client, &what, Ask::Resume { name: ticket })
        }
        T::Set(args) => {
            let what = format!("The policy of {} is set at all sites. Go on?", args.ticket);
            let policy = args.policy();
            small(ctx, &client, &what, Ask::SetTicket { name: args.ticket, policy })
        }
        T::Remove { ticket } => {
            let what = format!("Ticket {ticket} is removed with its history of terms. Go on?");
            small(ctx, &client, &what, Ask::RemoveTicket { name: ticket })
        }
    }
}

/// A change that is done as soon as it is decided.
pub(crate) fn small(ctx: &Ctx, client: &Client, what: &str, ask: Ask) -> Result<Exit, Failure> {
    approve::ordinary(ctx, what)?;
    change(ctx, client, ask, Duration::ZERO)
}

/// Asks for a change, and says what was done.
pub(crate) fn change(
    ctx: &Ctx,
    client: &Client,
    ask: Ask,
    wait: Duration,
) -> Result<Exit, Failure> {
    let reply = client.change(ask, wait)?;
    if ctx.out.is_json() {
        ctx.out.json(&reply)?;
    } else if let Reply::Done { text, term, index, took_ms } = &reply {
        let term = term.map(|t| format!("term {t}, "));
        let index = index.map(|i| format!("decision {i}, "));
        let (term, index) = (term.unwrap_or_default(), index.unwrap_or_default());
        ctx.out.line(&format!("{} ({term}{index}took {})", plain(text), ms(*took_ms)))?;
    }
    Ok(Exit::Ok)
}

// ----- looking -------------------------------------------------------------------------------

fn list(ctx: &Ctx, client: &Client) -> Result<Exit, Failure> {
    let status = status::ask(client, false)?;
    if ctx.out.is_json() {
        ctx.out.json(&json!({ "tickets": status.tickets }))?;
    } else {
        let table = status::tickets(&status.tickets, ctx.out.is_wide(), SystemTime::now());
        ctx.out.text(&table.text(ctx.out.colour()))?;
    }
    Ok(Exit::Ok)
}

fn show(ctx: &Ctx, client: &Client, ticket: String) -> Result<Exit, Failure> {
    let Reply::Ticket(ticket) = client.look(Ask::Ticket { name: ticket })? else {
        return Err(unfit());
    };
    if ctx.out.is_json() {
        ctx.out.json(&ticket)?;
    } else {
        ctx.out.text(&ticket_text(&ticket, ctx.out.colour(), SystemTime::now()))?;
    }
    Ok(Exit::Ok)
}

fn show_plan(ctx: &Ctx, client: &Client, ticket: &str, to: Option<&str>) -> Result<Exit, Failure> {
    let plan = approve::plan(client, ticket, to)?;
    if ctx.out.is_json() {
        ctx.out.json(&plan)?;
    } else {
        ctx.out.text(&plan_text(&plan, ctx.out.colour()))?;
    }
    Ok(Exit::Ok)
}

fn history(ctx: &Ctx, client: &Client, name: Option<String>, limit: u32) -> Result<Exit, Failure> {
    let Reply::History { decisions } = client.look(Ask::History { name, limit })? else {
        return Err(unfit());
    };
    if ctx.out.is_json() {
        ctx.out.json(&json!({ "decisions": decisions }))?;
        return Ok(Exit::Ok);
    }
    let now = SystemTime::now();
    let mut table = Table::new(&["DECISION", "AT", "TICKET", "WHAT"]);
    for d in &decisions {
        let at = when(&d.at, now);
        table.row(vec![
            d.index.to_string().into(),
            at.into(),
            d.ticket.as_ref().into(),
            (&d.what).into(),
        ]);
    }
    ctx.out.text(&table.text(ctx.out.colour()))?;
    Ok(Exit::Ok)
}

fn ticket_text(t: &TicketView, colour: bool, now: SystemTime) -> String {
    let mut out = String::new();
    let mut say = |word: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(out, "{word:<12} {}", plain(value));
        }
    };
    say("ticket", &t.name);
    say("state", &t.state);
    say("site", t.site.as_deref().unwrap_or("none"));
    say("term", &t.term.map(|t| t.to_string()).unwrap_or_default());
    say("proof", t.proof.as_deref().unwrap_or_default());
    say("since", &when(&t.since, now));
    say("until", &t.until);
    say("because", &t.because);
    say("next", &t.next);
    say("blip budget", &format!("a cut below {} never moves it", ms(t.blip_budget_ms)));
    say("protection", &t.protection.join(", "));
    let p = &t.policy;
    let word = |w: &Option<String>| w.clone().unwrap_or_default();
    say("mode", &word(&p.mode));
    say("regrant", &word(&p.regrant));
    say("loss-policy", &word(&p.loss));
    say("prefer", &p.prefer.as_ref().map(|s| s.join(", ")).unwrap_or_default());
    say("one-move-per", &word(&p.one_move_per));
    let pairs = |m: &BTreeMap<String, String>| {
        m.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(", ")
    };
    say("require", &p.require.as_ref().map(pairs).unwrap_or_default());
    say("max-lag", &word(&p.max_lag));
    say("stop-budget", &word(&p.stop_budget));
    say("attributes", &pairs(&t.attributes));
    let mut sites = Table::new(&["SITE", "AGAINST A GRANT"]);
    for (site, why) in &t.sites {
        let why = match why.as_str() {
            "" => Cell::painted("nothing", Paint::Good),
            why => Cell::painted(why, Paint::Warn),
        };
        sites.row(vec![site.into(), why]);
    }
    let mut resources = Table::new(&["RESOURCE", "AGENT", "STATE", "FAILURES", "LAST"]);
    for r in &t.resources {
        let paint = match r.state.as_str() {
            "running" => Paint::Good,
            "failed" | "unknown" => Paint::Bad,
            _ => Paint::Plain,
        };
        let failures = (r.failures > 0).then_some(r.failures);
        let state = Cell::painted(&r.state, paint);
        resources.row(vec![
            (&r.id).into(),
            (&r.agent).into(),
            state,
            failures.into(),
            (&r.last).into(),
        ]);
    }
    for table in [sites, resources] {
        let text = table.text(colour);
        if !text.is_empty() {
            let _ = write!(out, "\n{text}");
        }
    }
    out
}

/// A plan as text.
pub(crate) fn plan_text(p: &PlanView, colour: bool) -> String {
    let (from, to) = (p.from.as_deref().unwrap_or("nobody"), p.to.as_deref().unwrap_or("nobody"));
    let mut out = plain(&format!("plan for {}: from {from} to {to}", p.ticket)) + "\n";
    let mut steps = Table::new(&["STEP", "SITE", "WHAT", "PREDICTED", "BASIS"]);
    for (n, s) in p.steps.iter().enumerate() {
        let predicted = ms(s.predicted_ms);
        let n = (n + 1).to_string();
        steps.row(vec![
            n.into(),
            (&s.site).into(),
            (&s.what).into(),
            predicted.into(),
            (&s.basis).into(),
        ]);
    }
    out.push_str(&steps.text(colour));
    let _ = writeln!(out, "outage: {}", ms(p.outage_ms));
    for (word, text) in [("could be lost", &p.loss_window), ("undo", &p.undo)] {
        if !text.is_empty() {
            let _ = writeln!(out, "{word}: {}", plain(text));
        }
    }
    if let Some(why) = &p.refused {
        let refused = Paint::Bad.put("refused now", colour);
        let _ = writeln!(out, "{refused}: {}", plain(why));
    }
    out
}
