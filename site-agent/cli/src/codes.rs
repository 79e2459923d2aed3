//! Exit codes, as everywhere in Tierce (they follow Pacemaker's).

use std::process::ExitCode;

/// Something went wrong.
pub(crate) const ERROR: u8 = 1;
/// The command line is wrong.
pub(crate) const USAGE: u8 = 64;
/// Somebody who is needed does not answer.
pub(crate) const UNAVAILABLE: u8 = 69;
/// A file is wrong.
pub(crate) const CONFIG: u8 = 78;
/// No daemon at the control socket.
pub(crate) const NOT_CONNECTED: u8 = 102;
/// There is no such thing.
pub(crate) const NO_SUCH: u8 = 105;
/// Refused unless forced.
pub(crate) const UNSAFE: u8 = 107;
/// It is too late for it.
pub(crate) const EXPIRED: u8 = 110;
/// It may have been done or not.
pub(crate) const OUTCOME_UNKNOWN: u8 = 112;
/// Refused as things stand.
pub(crate) const NOT_NOW: u8 = 113;
/// Not in time.
pub(crate) const TIMEOUT: u8 = 124;
/// Ended by a signal: what shells expect (128 + SIGINT).
pub(crate) const INTERRUPTED: u8 = 130;

/// How a command ends that needs no error message.
#[derive(Debug)]
pub(crate) enum Exit {
    /// Done, or shown.
    Ok,
    /// Shown, and what was shown is not well (`status --check`).
    Unwell(u8),
    /// A daemon's own code.
    Daemon(ExitCode),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Ok => ExitCode::SUCCESS,
            Exit::Unwell(code) => ExitCode::from(never_zero(code)),
            Exit::Daemon(code) => code,
        }
    }
}

/// An error's exit code: whatever a daemon says, an error is no success.
pub(crate) fn never_zero(code: u8) -> u8 {
    if code == 0 { ERROR } else { code }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_never_ends_as_success() {
        assert_eq!(never_zero(0), ERROR);
        for code in 1..=u8::MAX {
            assert_eq!(never_zero(code), code);
        }
    }
}
