//! Questions before a change.
//!
//! On a terminal a person is asked; a script has decided already. What cannot be undone, or rests
//! on nothing but somebody's word, asks for the site's name to be typed, and a script must say
//! `--yes`.

use std::io::{BufRead, IsTerminal as _, Read as _, Write};

use tierce_wire::control::{Ask, PlanView, Reply};

use crate::Ctx;
use crate::client::Client;
use crate::codes;
use crate::failure::Failure;
use crate::limits::MAX_TYPED_BYTES;
use crate::tickets::plan_text;
use crate::words::plain;

/// Whether somebody sits there.
fn is_attended() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// An ordinary change, in one sentence.
pub(crate) fn ordinary(ctx: &Ctx, what: &str) -> Result<(), Failure> {
    if ctx.globals.yes || !is_attended() {
        return Ok(());
    }
    agree(what, &mut std::io::stdin().lock(), &mut std::io::stderr())
}

/// A change that has a plan: it is shown first.
pub(crate) fn planned(
    ctx: &Ctx,
    client: &Client,
    ticket: &str,
    to: Option<&str>,
) -> Result<(), Failure> {
    if ctx.globals.yes || !is_attended() {
        return Ok(());
    }
    let plan = plan(client, ticket, to)?;
    let _ = write!(std::io::stderr(), "{}", plan_text(&plan, false));
    if let Some(why) = &plan.refused {
        return Err(refused(ticket, why));
    }
    agree("Do it?", &mut std::io::stdin().lock(), &mut std::io::stderr())
}

/// A change that needs a name typed.
pub(crate) fn grave(ctx: &Ctx, what: &str, name: &str) -> Result<(), Failure> {
    if ctx.globals.yes {
        return Ok(());
    }
    if !is_attended() {
        return Err(Failure::new(
            codes::UNSAFE,
            format!("{what}: nobody is there to type the name {name}"),
            "nothing was changed",
            "tierce sites list",
            "run it on a terminal; a script that is sure says --yes",
        ));
    }
    typed(what, name, &mut std::io::stdin().lock(), &mut std::io::stderr())
}

/// The plan of a change.
pub(crate) fn plan(client: &Client, ticket: &str, to: Option<&str>) -> Result<PlanView, Failure> {
    let ask = Ask::Plan { name: ticket.to_owned(), to: to.map(str::to_owned) };
    match client.look(ask)? {
        Reply::Plan(plan) => Ok(*plan),
        _ => Err(unfit()),
    }
}

/// A daemon that answers another question than was asked.
pub(crate) fn unfit() -> Failure {
    Failure::new(
        codes::UNAVAILABLE,
        "the daemon gave an answer that does not fit the question",
        "nothing was changed",
        "tierce --version and the daemon's --version",
        "update the older of the two",
    )
}

fn refused(ticket: &str, why: &str) -> Failure {
    Failure::new(
        codes::NOT_NOW,
        format!("it would be refused: {why}"),
        "nothing was changed",
        format!("tierce tickets show {ticket}"),
        "remove the cause; --yes asks the daemon all the same",
    )
}

fn not_agreed() -> Failure {
    Failure::new(
        codes::ERROR,
        "it was not agreed to",
        "nothing was changed",
        "tierce status",
        "answer y, or type the name exactly",
    )
}

fn read(from: &mut dyn BufRead) -> String {
    let mut line = String::new();
    let read = from.take(MAX_TYPED_BYTES).read_line(&mut line);
    if read.is_err() { String::new() } else { line.trim().to_owned() }
}

fn agree(what: &str, from: &mut dyn BufRead, to: &mut dyn Write) -> Result<(), Failure> {
    let _ = write!(to, "{} [y/N] ", plain(what)).and_then(|()| to.flush());
    match read(from).to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(not_agreed()),
    }
}

fn typed(
    what: &str,
    name: &str,
    from: &mut dyn BufRead,
    to: &mut dyn Write,
) -> Result<(), Failure> {
    let _ =
        write!(to, "{}\ntype its name, {name}, to go on: ", plain(what)).and_then(|()| to.flush());
    if read(from) == name { Ok(()) } else { Err(not_agreed()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_yes_is_one() {
        let ask = |answer: &str| agree("Go?", &mut answer.as_bytes(), &mut Vec::new()).is_ok();
        assert!(ask("y\n") && ask("YES\n"));
        assert!(!ask("\n") && !ask("") && !ask("n\n") && !ask("yes please\n"));
    }

    #[test]
    fn a_grave_change_wants_the_very_name() {
        let mut shown = Vec::new();
        let mut ask = |answer: &str| {
            typed("rome is declared a disaster", "rome", &mut answer.as_bytes(), &mut shown).is_ok()
        };
        assert!(ask("rome\n"));
        assert!(!ask("paris\n") && !ask("y\n") && !ask(""));
        assert!(String::from_utf8(shown).unwrap().contains("type its name, rome"));
    }
}
