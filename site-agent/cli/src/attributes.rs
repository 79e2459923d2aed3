//! `tierce attributes`: facts of a site that tickets may require.

use clap::{Args, Subcommand};
use tierce_wire::control::Ask;

use crate::Ctx;
use crate::client::Client;
use crate::codes::Exit;
use crate::failure::Failure;
use crate::tickets::small;

/// Commands on attributes.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum AttributesCommand {
    /// Sets an attribute of a site.
    Set {
        #[command(flatten)]
        which: Which,
        /// Its value.
        value: String,
    },
    /// Removes an attribute of a site.
    Unset {
        #[command(flatten)]
        which: Which,
    },
}

/// Which attribute.
#[derive(Clone, Debug, Args)]
pub(crate) struct Which {
    /// The site.
    site: String,
    /// The attribute.
    name: String,
    /// Of this ticket at the site, not of the site itself.
    #[arg(long, value_name = "TICKET")]
    ticket: Option<String>,
}

/// Does what was asked.
pub(crate) fn run(ctx: &Ctx, command: AttributesCommand) -> Result<Exit, Failure> {
    let (Which { site, name, ticket }, value) = match command {
        AttributesCommand::Set { which, value } => (which, Some(value)),
        AttributesCommand::Unset { which } => (which, None),
    };
    let of = ticket.as_deref().map_or_else(|| site.clone(), |t| format!("{t} at {site}"));
    let what = match &value {
        Some(value) => format!("Attribute {name} of {of} becomes {value:?}. Go on?"),
        None => format!("Attribute {name} of {of} is removed. Go on?"),
    };
    let ask = Ask::SetAttribute { site, ticket, name, value };
    small(ctx, &Client::new(ctx), &what, ask)
}
