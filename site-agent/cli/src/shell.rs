//! Completions and manual pages, made from the words themselves.

use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::Ctx;
use crate::args::Cli;
use crate::codes::{self, Exit};
use crate::daemons;
use crate::failure::Failure;

/// Prints the completion of a shell.
pub(crate) fn completion(ctx: &Ctx, shell: Shell) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "tierce", &mut script);
    ctx.out.text(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Ok)
}

/// Prints the page of the command, or writes the pages of all commands.
pub(crate) fn man(ctx: &Ctx, dir: Option<&Path>) -> Result<Exit, Failure> {
    let failed = |e: std::io::Error| {
        let place = dir.map_or_else(|| "stdout".to_owned(), |d| d.display().to_string());
        Failure::new(
            codes::ERROR,
            format!("manual pages cannot be written to {place}: {e}"),
            "some pages may be missing",
            "ls -ld the folder; df",
            "name a folder that exists and may be written",
        )
    };
    match dir {
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut page).map_err(failed)?;
            ctx.out.text(&String::from_utf8_lossy(&page))?;
        }
        Some(dir) => {
            std::fs::create_dir_all(dir).map_err(failed)?;
            clap_mangen::generate_to(Cli::command(), dir).map_err(failed)?;
            // After the command's own, so that the daemons' full pages stand in the end.
            for daemon in daemons::commands() {
                clap_mangen::generate_to(daemon, dir).map_err(failed)?;
            }
            ctx.out.line(&format!("manual pages written to {}", dir.display()))?;
        }
    }
    Ok(Exit::Ok)
}
