//! What can go wrong with a fenced update, told apart by what the caller has to do next.

use std::net::{IpAddr, SocketAddr};

use hickory_proto::op::ResponseCode;

use crate::fence::{SiteName, Term};

/// Errors of this crate. Each says what happened, its effect, and the next step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DnsError {
    /// A newer term is already in the fence: this site is no longer the holder.
    #[error(
        "the name is already held by {site} with the newer term {term}; nothing was written; \
         stop serving and ask the ledger who holds the ticket"
    )]
    Superseded {
        /// Term found in the fence.
        term: Term,
        /// Site that wrote it.
        site: SiteName,
    },
    /// The same term was written by another site. A term has one holder, so this is an alarm.
    #[error(
        "term {term} of this name was already written by {site}; nothing was written; two sites \
         claim one term: stop serving and compare both sites' ticket state"
    )]
    TermTaken {
        /// The contested term.
        term: Term,
        /// Site that wrote it first.
        site: SiteName,
    },
    /// The fence name holds something that is not a fence of this version.
    #[error(
        "the fence record {name} is not readable ({why}); nothing was written; look at it with \
         `dig TXT {name}` and repair it by hand"
    )]
    FenceUnreadable {
        /// Owner name of the record.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// The update may or may not have been carried out.
    #[error(
        "the answer of {server} to an update was lost and could not be read back before the \
         deadline; the record may be old or new; repeat the same update, which is safe"
    )]
    Ambiguous {
        /// Name server asked.
        server: SocketAddr,
    },
    /// Attempts ran out while other writers kept winning; nothing of ours was written.
    #[error(
        "other writers won {attempts} times in a row; nothing was written; see who writes \
         the name besides the sites"
    )]
    Contended {
        /// Attempts made.
        attempts: u8,
    },
    /// The name server could not be reached; nothing was sent.
    #[error("{server} cannot be reached ({why}); nothing was written; check the path and repeat")]
    Unreachable {
        /// Name server asked.
        server: SocketAddr,
        /// The system's words.
        why: String,
    },
    /// Nothing usable came back in time.
    #[error("{server} gave no answer before the deadline; nothing is known; repeat")]
    NoAnswer {
        /// Name server asked.
        server: SocketAddr,
    },
    /// The name server answered with something that is not an answer to the question.
    #[error("{server} sent a wrong answer ({why}); it was ignored; check what listens there")]
    BadAnswer {
        /// Name server asked.
        server: SocketAddr,
        /// What is wrong with it.
        why: String,
    },
    /// The name server refused the operation.
    #[error("{server} refused with {code}; nothing was written; {}", next_step(*code))]
    Refused {
        /// Name server asked.
        server: SocketAddr,
        /// Its response code.
        code: ResponseCode,
    },
    /// The name server did not accept our signature.
    #[error("{server} did not accept the signature: {fault}; nothing was written; {}", fault.next_step())]
    Signature {
        /// Name server asked.
        server: SocketAddr,
        /// Which of the three faults it named.
        fault: TsigFault,
    },
    /// The answer's own signature is missing or wrong.
    #[error(
        "the answer of {server} is not signed with the key ({why}); it was not trusted and the \
         record may be old or new; check the key on both ends and repeat"
    )]
    AnswerUnsigned {
        /// Name server asked.
        server: SocketAddr,
        /// What is wrong with the signature.
        why: String,
    },
    /// The request itself makes no sense.
    #[error("{what}; nothing was sent; correct the configuration")]
    Invalid {
        /// What is wrong.
        what: String,
    },
    /// The embedded authority answers unsigned updates only from the same host.
    #[error(
        "{addr} is not a loopback address; the authority was not started; give it a key or bind \
         it to 127.0.0.1"
    )]
    NotLoopback {
        /// Address asked for.
        addr: IpAddr,
    },
    /// The embedded authority could not open its sockets.
    #[error("cannot listen on {addr} ({why}); the authority was not started; choose another port")]
    Listen {
        /// Address asked for.
        addr: SocketAddr,
        /// The system's words.
        why: String,
    },
}

/// Why a name server did not accept a signature (RFC 8945 section 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TsigFault {
    /// BADKEY: the server does not know the key's name or algorithm.
    UnknownKey,
    /// BADSIG: the key's secret differs.
    WrongSecret,
    /// BADTIME: the clocks differ by more than the fudge.
    ClockOutOfFudge,
    /// Any other TSIG error code.
    Other,
}

impl std::fmt::Display for TsigFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::UnknownKey => "it does not know the key (BADKEY)",
            Self::WrongSecret => "the secret differs (BADSIG)",
            Self::ClockOutOfFudge => "the clocks differ too much (BADTIME)",
            Self::Other => "an unusual TSIG error",
        })
    }
}

impl TsigFault {
    fn next_step(self) -> &'static str {
        match self {
            Self::UnknownKey => "compare the key's name and algorithm on both ends",
            Self::WrongSecret => "compare the key's secret on both ends",
            Self::ClockOutOfFudge => "set both clocks (chronyc tracking) and repeat",
            Self::Other => "look into the name server's log",
        }
    }
}

fn next_step(code: ResponseCode) -> &'static str {
    match code {
        ResponseCode::Refused => "allow this site to update the zone (allow-update, key)",
        ResponseCode::NotAuth => "ask the zone's primary, or check the zone's name",
        ResponseCode::NotZone => "the name is outside the zone: correct zone or name",
        ResponseCode::NotImp => "the server has no dynamic update: use the zone's primary",
        ResponseCode::ServFail => "look into the name server's log (read-only zone file?)",
        _ => "look into the name server's log",
    }
}
