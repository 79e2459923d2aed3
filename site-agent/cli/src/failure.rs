//! Errors in four parts: what happened, what follows from it, how to look into it, the safer way.

use std::fmt::Write as _;
use std::io::Write as _;

use clap::error::ContextKind;
use tierce_wire::control::ErrorView;

use crate::codes;
use crate::words::plain;

/// Why a command ends without having done what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) view: Box<ErrorView>,
    /// Nobody is left to read it (stdout was closed): only the exit code speaks.
    pub(crate) quiet: bool,
}

impl From<ErrorView> for Failure {
    fn from(view: ErrorView) -> Self {
        let view = ErrorView { code: codes::never_zero(view.code), ..view };
        Self { view: Box::new(view), quiet: false }
    }
}

impl Failure {
    /// The four parts and the exit code.
    pub(crate) fn new(
        code: u8,
        error: impl Into<String>,
        effect: impl Into<String>,
        inspect: impl Into<String>,
        safer: impl Into<String>,
    ) -> Self {
        Self::from(ErrorView {
            code,
            error: error.into(),
            effect: effect.into(),
            inspect: inspect.into(),
            safer: safer.into(),
        })
    }

    /// Out of an error of a library: "what happened; what follows; what to do".
    pub(crate) fn sentence(code: u8, text: &str, inspect: &str) -> Self {
        let parts: Vec<&str> = text.split("; ").collect();
        let (error, effect, safer) = match parts.as_slice() {
            [error] => ((*error).to_owned(), "nothing was changed", "remove the cause".to_owned()),
            [error, safer] => ((*error).to_owned(), "nothing was changed", (*safer).to_owned()),
            [error, effect, safer @ ..] => ((*error).to_owned(), *effect, safer.join("; ")),
            [] => (String::new(), "", String::new()),
        };
        Self::new(code, error, effect, inspect, safer)
    }

    /// stdout was closed by its reader.
    pub(crate) fn closed_pipe() -> Self {
        let mut failure = Self::new(codes::ERROR, "stdout was closed", "", "", "");
        failure.quiet = true;
        failure
    }

    /// A command line that is none.
    pub(crate) fn usage(e: &clap::Error) -> Self {
        let text = e.render().to_string();
        let lines = || text.lines().map(str::trim);
        let error: Vec<&str> = lines().take_while(|l| !l.is_empty()).collect();
        let error = error.join(" ");
        let error = error.strip_prefix("error: ").unwrap_or(&error);
        let usage = lines().find_map(|l| l.strip_prefix("Usage: ")).unwrap_or("tierce");
        let command: Vec<&str> = usage
            .split(' ')
            .take_while(|w| w.starts_with(|c: char| c.is_ascii_lowercase()))
            .collect();
        let tips: Vec<&str> = lines().filter_map(|l| l.strip_prefix("tip: ")).collect();
        let safer = if tips.is_empty() { usage.to_owned() } else { tips.join("; ") };
        let bare = e.get(ContextKind::InvalidSubcommand).is_none() && error.starts_with("The ");
        let error = if bare { "a command is missing" } else { error };
        Self::new(
            codes::USAGE,
            error,
            "nothing was done",
            format!("{} --help", command.join(" ")),
            safer,
        )
    }

    /// Says it on stderr.
    pub(crate) fn tell(&self) {
        // Nothing is left to be done about a stderr that cannot be written.
        let _ = std::io::stderr().write_all(self.text().as_bytes());
    }

    /// The four lines.
    pub(crate) fn text(&self) -> String {
        let v = &self.view;
        let parts = [
            ("error", &v.error),
            ("effect", &v.effect),
            ("inspect", &v.inspect),
            ("safer", &v.safer),
        ];
        let mut out = String::new();
        for (word, text) in parts {
            let _ = writeln!(out, "{word}: {}", plain(text));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::Cli;

    fn usage(line: &str) -> Failure {
        let e = Cli::try_parse_from(line.split(' ')).expect_err("it was accepted");
        Failure::usage(&e)
    }

    #[test]
    fn an_error_has_its_four_parts_in_order_and_no_control_characters() {
        let f = Failure::new(113, "no\x1b[31m", "nothing", "tierce status", "wait");
        let text = f.text();
        let words: Vec<&str> = text.lines().filter_map(|l| Some(l.split_once(": ")?.0)).collect();
        assert_eq!(words, ["error", "effect", "inspect", "safer"]);
        assert!(!text.contains('\x1b'), "{text:?}");
    }

    #[test]
    fn a_daemon_that_calls_its_error_zero_is_not_believed() {
        let f = Failure::new(0, "odd", "", "", "");
        assert_eq!(f.view.code, codes::ERROR);
    }

    #[test]
    fn a_library_error_is_taken_apart_at_its_semicolons() {
        let f = Failure::sentence(1, "a: b; nothing was signed; do c; or d", "look");
        assert_eq!(f.view.error, "a: b");
        assert_eq!(f.view.effect, "nothing was signed");
        assert_eq!(f.view.safer, "do c; or d");
        let f = Failure::sentence(1, "a; do c", "look");
        assert_eq!(
            (f.view.effect.as_str(), f.view.safer.as_str()),
            ("nothing was changed", "do c")
        );
    }

    #[test]
    fn a_misspelt_command_is_usage_and_names_the_word_that_was_meant() {
        let f = usage("tierce statsu");
        assert_eq!(f.view.code, codes::USAGE);
        assert!(f.view.error.contains("statsu"), "{f:?}");
        assert!(f.view.safer.contains("'status'"), "{f:?}");
        assert_eq!(f.view.inspect, "tierce --help");
        let f = usage("tierce tickets grnat web");
        assert!(f.view.safer.contains("'grant'"), "{f:?}");
        assert_eq!(f.view.inspect, "tierce tickets --help");
    }

    #[test]
    fn a_misspelt_flag_and_a_missing_argument_are_usage_with_the_way_to_write_it() {
        let f = usage("tierce tickets grant web --too rome");
        assert_eq!(f.view.code, codes::USAGE);
        assert!(f.view.safer.contains("'--to'"), "{f:?}");
        let f = usage("tierce tickets grant web");
        assert!(f.view.error.contains("--to <SITE>"), "{f:?}");
        assert!(f.view.safer.starts_with("tierce tickets grant"), "{f:?}");
        assert_eq!(f.view.inspect, "tierce tickets grant --help");
    }

    #[test]
    fn a_line_without_a_command_is_usage() {
        let f = usage("tierce tickets");
        assert_eq!(f.view.code, codes::USAGE);
        assert!(!f.view.error.is_empty(), "{f:?}");
    }
}
