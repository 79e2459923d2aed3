//! `tierce sites` and `tierce fence`: members, their declared states, and an operator's word.

use clap::{Subcommand, ValueEnum};
use serde_json::json;
use std::time::Duration;
use tierce_wire::control::Ask;

use crate::Ctx;
use crate::approve;
use crate::client::Client;
use crate::codes::{self, Exit};
use crate::failure::Failure;
use crate::status;
use crate::table::Table;
use crate::tickets::{change, small};

/// Commands on sites.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum SitesCommand {
    /// All members: link, session, promises, declared state.
    List,
    /// One member, and the tickets that it holds.
    Show {
        /// The member.
        name: String,
    },
    /// Declares the state of a site.
    Declare {
        /// The site.
        site: String,
        /// What it is in.
        #[arg(value_enum)]
        state: Declared,
        /// Why, for the history.
        #[arg(long, value_name = "TEXT", default_value = "")]
        note: String,
    },
    /// Admits a member that comes with a new store.
    Admit {
        /// The member.
        name: String,
    },
    /// Removes a voter for good.
    Remove {
        /// The member.
        name: String,
    },
}

/// What a site may be declared to be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Declared {
    /// It is given no tickets.
    Outage,
    /// It is lost.
    Disaster,
    /// It is cut off on purpose.
    Disconnect,
    /// Back to normal.
    Clear,
}

impl Declared {
    /// The word of the control socket.
    fn word(self) -> &'static str {
        match self {
            Declared::Outage => "outage",
            Declared::Disaster => "disaster",
            Declared::Disconnect => "disconnect",
            Declared::Clear => "normal",
        }
    }
}

/// An operator's word.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum FenceCommand {
    /// Confirms that a lost site is down: its tickets may be granted elsewhere.
    Confirm {
        /// The site.
        site: String,
        /// How you know, for the history.
        #[arg(long, value_name = "TEXT")]
        note: String,
    },
}

/// Does what was asked.
pub(crate) fn run(ctx: &Ctx, command: SitesCommand) -> Result<Exit, Failure> {
    let client = Client::new(ctx);
    match command {
        SitesCommand::List => list(ctx, &client, None),
        SitesCommand::Show { name } => list(ctx, &client, Some(&name)),
        SitesCommand::Declare { site, state, note } => {
            let word = state.word();
            let what = format!("{site} is declared: {word}");
            if state == Declared::Disaster {
                approve::grave(ctx, &what, &site)?;
            } else {
                approve::ordinary(ctx, &format!("{what}. Go on?"))?;
            }
            let ask = Ask::DeclareSite { site, state: word.to_owned(), note };
            change(ctx, &client, ask, Duration::ZERO)
        }
        SitesCommand::Admit { name } => {
            let what = format!("{name} is admitted with an empty store and votes again. Go on?");
            small(ctx, &client, &what, Ask::Admit { member: name })
        }
        SitesCommand::Remove { name } => {
            let what = format!("{name} loses its vote for good, and must join anew to come back");
            approve::grave(ctx, &what, &name)?;
            change(ctx, &client, Ask::RemoveMember { member: name }, Duration::ZERO)
        }
    }
}

/// Does what was asked.
pub(crate) fn fence(ctx: &Ctx, command: FenceCommand) -> Result<Exit, Failure> {
    let FenceCommand::Confirm { site, note } = command;
    let what = format!(
        "On your word {site} counts as down and its tickets start elsewhere; if it still runs, \
         both run"
    );
    approve::grave(ctx, &what, &site)?;
    change(ctx, &Client::new(ctx), Ask::ConfirmDown { site, note }, Duration::ZERO)
}

fn list(ctx: &Ctx, client: &Client, only: Option<&str>) -> Result<Exit, Failure> {
    let mut status = status::ask(client, false)?;
    if let Some(name) = only {
        status.members.retain(|m| m.name == name);
        status.tickets.retain(|t| t.site.as_deref() == Some(name));
        if status.members.is_empty() {
            return Err(Failure::new(
                codes::NO_SUCH,
                format!("there is no member {name}"),
                "nothing was changed",
                "tierce sites list",
                "use a name of that list",
            ));
        }
    }
    if ctx.out.is_json() {
        let view = match only {
            None => json!({ "members": status.members }),
            Some(_) => json!({ "members": status.members, "tickets": status.tickets }),
        };
        ctx.out.json(&view)?;
        return Ok(Exit::Ok);
    }
    let wide = ctx.out.is_wide() || only.is_some();
    let mut text = status::members(&status.members, wide).text(ctx.out.colour());
    if only.is_some() {
        let mut table = Table::new(&["HOLDS", "STATE", "TERM"]);
        for t in &status.tickets {
            table.row(vec![(&t.name).into(), (&t.state).into(), t.term.into()]);
        }
        text.push('\n');
        text.push_str(&table.text(ctx.out.colour()));
    }
    ctx.out.text(&text)?;
    Ok(Exit::Ok)
}
