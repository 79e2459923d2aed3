//! From the protocol's refusals to what a client reads: four parts and an exit code.

use tierce_ticket::command::{Outcome, Refusal, RefusalCode};
use tierce_wire::control::{ErrorView, Reply};

/// Exit codes of the command line.
pub(crate) mod code {
    pub(crate) const ERROR: u8 = 1;
    pub(crate) const USAGE: u8 = 64;
    pub(crate) const UNAVAILABLE: u8 = 69;
    pub(crate) const RETRY: u8 = 75;
    pub(crate) const CONFIG: u8 = 78;
    pub(crate) const NO_SUCH: u8 = 105;
    pub(crate) const NO_QUORUM: u8 = 106;
    pub(crate) const UNSAFE: u8 = 107;
    pub(crate) const UNKNOWN: u8 = 112;
    pub(crate) const NOT_NOW: u8 = 113;
    pub(crate) const TIMEOUT: u8 = 124;
}

/// A request that failed; boxed, for answers are large and failures rare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure(pub(crate) Box<ErrorView>);

impl From<ErrorView> for Failure {
    fn from(view: ErrorView) -> Self {
        Self(Box::new(view))
    }
}

/// An error in its four parts.
pub(crate) fn error(
    code: u8,
    error: impl Into<String>,
    effect: impl Into<String>,
    inspect: impl Into<String>,
    safer: impl Into<String>,
) -> ErrorView {
    ErrorView {
        code,
        error: error.into(),
        effect: effect.into(),
        inspect: inspect.into(),
        safer: safer.into(),
    }
}

/// Where to look, by the ticket concerned.
pub(crate) fn inspect(ticket: Option<&str>) -> String {
    ticket.map_or_else(|| "tierce status".to_owned(), |t| format!("tierce tickets show {t}"))
}

/// A refusal: nothing has changed.
pub(crate) fn refused(r: &Refusal, ticket: Option<&str>) -> ErrorView {
    let code = match r.code {
        RefusalCode::NoQuorum => code::NO_QUORUM,
        RefusalCode::NoSuch => code::NO_SUCH,
        RefusalCode::NotNow => code::NOT_NOW,
        RefusalCode::Unsafe => code::UNSAFE,
        RefusalCode::Invalid => code::USAGE,
        RefusalCode::Busy => code::RETRY,
    };
    error(code, &r.what, "nothing has changed", inspect(ticket), &r.next)
}

/// The outcome of a command that is not done.
pub(crate) fn not_done(outcome: &Outcome, ticket: Option<&str>) -> Option<ErrorView> {
    match outcome {
        Outcome::Done { .. } => None,
        Outcome::Refused(r) => Some(refused(r, ticket)),
        Outcome::Unknown { why } => Some(error(
            code::UNKNOWN,
            format!("the outcome is unknown: {why}"),
            "it may or may not have been decided; nothing runs twice in either case",
            inspect(ticket),
            "look at the present state before you ask again",
        )),
    }
}

/// Bad input.
pub(crate) fn usage(what: impl Into<String>) -> Failure {
    let safer = "tierce help shows the words";
    Failure::from(error(code::USAGE, what, "nothing has changed", "tierce help", safer))
}

/// The member has ended.
pub(crate) fn ended() -> Failure {
    Failure::from(error(
        code::UNAVAILABLE,
        "the member of this agent has ended",
        "it takes no part; what depends on its tickets is stopped",
        "the agent's log",
        "restart the agent once the cause is known",
    ))
}

/// A final reply out of a result.
pub(crate) fn reply(result: Result<Reply, Failure>) -> Reply {
    result.unwrap_or_else(|e| Reply::Error(*e.0))
}

#[cfg(test)]
mod tests {
    use tierce_ticket::ids::LogIndex;

    use super::*;

    #[test]
    fn each_refusal_has_its_exit_code_and_never_zero() {
        let codes = [
            (RefusalCode::NoQuorum, 106),
            (RefusalCode::NoSuch, 105),
            (RefusalCode::NotNow, 113),
            (RefusalCode::Unsafe, 107),
            (RefusalCode::Invalid, 64),
            (RefusalCode::Busy, 75),
        ];
        for (of, expected) in codes {
            let r = Refusal { code: of, what: "w".to_owned(), next: "n".to_owned() };
            assert_eq!(refused(&r, Some("web")).code, expected);
        }
        let unknown = not_done(&Outcome::Unknown { why: "x".to_owned() }, None).unwrap();
        assert_eq!(unknown.code, 112);
        assert!(not_done(&Outcome::Done { index: LogIndex(1), term: None }, None).is_none());
    }
}
