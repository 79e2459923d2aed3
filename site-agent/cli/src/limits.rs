//! Every bound of the command in one place.

use std::time::Duration;

/// A daemon that says nothing for this long is given up (`--timeout`). A decision of the ledger
/// takes 10 s at the most, and is announced every second.
pub(crate) const SILENCE: Duration = Duration::from_secs(15);
/// A change without a wait of its own ends within this time, however much a daemon talks.
pub(crate) const CHANGE: Duration = Duration::from_mins(1);
/// How long a grant, move or revoke is waited for (`--wait`): the slowest profile's lease and a
/// start within its default timeout.
pub(crate) const WAIT: Duration = Duration::from_mins(2);
/// The operator hears what is waited for after this long.
pub(crate) const SPEAK_AFTER: Duration = Duration::from_secs(1);
/// Where stderr is no terminal, a wait that goes on unchanged is repeated this often.
pub(crate) const REPEAT_PROGRESS: Duration = Duration::from_secs(10);
/// `status -w` looks this often.
pub(crate) const WATCH_EVERY: Duration = Duration::from_secs(1);
/// Decisions shown unless told otherwise.
pub(crate) const HISTORY: u32 = 50;
/// An invitation is good for this long unless told otherwise.
pub(crate) const INVITE_TTL: Duration = Duration::from_hours(24);
/// Longest life of an invitation.
pub(crate) const MAX_INVITE_TTL: Duration = Duration::from_hours(30 * 24);
/// `pki list` warns when a certificate in use ends within this time: a third of its 90 days.
pub(crate) const CERTIFICATE_WARN: Duration = Duration::from_hours(30 * 24);
/// Longest line that is read from a person or a pipe.
pub(crate) const MAX_TYPED_BYTES: u64 = 16 * 1024;
/// Recordings merged at once: each may have 256 MiB.
pub(crate) const MAX_RECORDINGS: usize = 64;

/// Longest line of a recording for `trace replay`: a state of the largest size, as JSON.
pub(crate) const MAX_EVENT_BYTES: u64 = 64 << 20;
