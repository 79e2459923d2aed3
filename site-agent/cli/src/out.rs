//! Where answers go: data to stdout, messages to stderr, JSON on request.

use std::ffi::OsString;
use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::ValueEnum;
use serde::Serialize;
use serde_json::{Value, json};
use tierce_wire::control::API_VERSION;

use crate::codes;
use crate::failure::Failure;

/// How answers look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    #[value(alias = "text")]
    Table,
    /// For people with wide screens.
    Wide,
    /// For programs.
    Json,
    /// Test cases for build servers (`drill report` only).
    Junit,
    /// A page to keep (`drill report` only).
    Html,
}

/// Whether an unreadable command line asks for JSON: its error is data then.
pub(crate) fn wants_json(args: &[OsString]) -> bool {
    let words: Vec<_> = args.iter().map(|a| a.to_string_lossy()).collect();
    words.iter().any(|w| matches!(w.as_ref(), "-ojson" | "-o=json" | "--output=json"))
        || words.windows(2).any(|p| matches!(p[0].as_ref(), "-o" | "--output") && p[1] == "json")
}

/// stdout and stderr with their manners.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Out {
    format: Format,
    colour: bool,
}

impl Out {
    /// Colour only on a terminal that wants it (<https://no-color.org>).
    pub(crate) fn new(format: Format) -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty())
            || std::env::var_os("TERM").is_some_and(|t| t == "dumb");
        Self { format, colour: !unwanted && std::io::stdout().is_terminal() }
    }

    pub(crate) fn format(self) -> Format {
        self.format
    }

    pub(crate) fn is_json(self) -> bool {
        self.format == Format::Json
    }

    pub(crate) fn is_wide(self) -> bool {
        self.format == Format::Wide
    }

    pub(crate) fn colour(self) -> bool {
        self.colour
    }

    /// Data, whatever its form. A reader that went away is no defect, and no success either.
    #[expect(clippy::unused_self, reason = "all data goes through one door")]
    pub(crate) fn text(self, text: &str) -> Result<(), Failure> {
        let mut stdout = std::io::stdout().lock();
        match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == ErrorKind::BrokenPipe => Err(Failure::closed_pipe()),
            Err(e) => Err(Failure::new(
                codes::ERROR,
                format!("stdout cannot be written: {e}"),
                "the answer is incomplete",
                "df, ls -l /proc/self/fd/1",
                "write to another place",
            )),
        }
    }

    /// One line of data.
    pub(crate) fn line(self, text: &str) -> Result<(), Failure> {
        self.text(&format!("{text}\n"))
    }

    /// A view as JSON, with the name of the format in it.
    pub(crate) fn json<T: Serialize>(self, view: &T) -> Result<(), Failure> {
        let value = versioned(view)?;
        self.text(&format!("{value:#}\n"))
    }

    /// The same on one line, for streams.
    pub(crate) fn json_line<T: Serialize>(self, view: &T) -> Result<(), Failure> {
        let value = versioned(view)?;
        self.text(&format!("{value}\n"))
    }

    /// The end of a command that failed.
    pub(crate) fn fail(self, failure: &Failure) -> ExitCode {
        if !failure.quiet {
            failure.tell();
            if self.is_json() {
                let _ = self.json(&*failure.view);
            }
        }
        ExitCode::from(failure.view.code)
    }
}

/// A view with `apiVersion` in it.
fn versioned<T: Serialize>(view: &T) -> Result<Value, Failure> {
    let value = serde_json::to_value(view).map_err(|e| {
        Failure::new(
            codes::ERROR,
            format!("the answer cannot be written as JSON: {e}"),
            "nothing was shown",
            "the same command with -o table",
            "report this as a defect",
        )
    })?;
    Ok(match value {
        Value::Object(mut map) => {
            map.insert("apiVersion".to_owned(), json!(API_VERSION));
            Value::Object(map)
        }
        other => json!({ "apiVersion": API_VERSION, "value": other }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_carries_the_name_of_its_format() {
        let view = Failure::new(113, "a", "b", "c", "d").view;
        let value = versioned(&view).unwrap();
        assert_eq!(value["apiVersion"], API_VERSION);
        assert_eq!(value["code"], 113);
    }

    #[test]
    fn json_is_recognised_on_a_line_that_cannot_be_read() {
        let line = |l: &str| l.split(' ').map(OsString::from).collect::<Vec<_>>();
        for yes in
            ["tierce -o json x", "tierce x --output=json", "tierce -ojson", "t --output json"]
        {
            assert!(wants_json(&line(yes)), "{yes}");
        }
        for no in ["tierce -o table json", "tierce json", "tierce -o"] {
            assert!(!wants_json(&line(no)), "{no}");
        }
    }
}
