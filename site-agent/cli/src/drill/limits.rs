//! Every bound of the drills in one place.

use std::time::Duration;

/// Members are asked for the ticket this often: the grain of what is seen without a probe.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(20);
/// And for their status this often.
pub(super) const STATUS_EVERY: Duration = Duration::from_millis(250);
/// A question to a daemon that is no change.
pub(super) const ASK: Duration = Duration::from_secs(2);
/// A look that must be as new as the ledger: a decision takes 10 s at the most.
pub(super) const ASK_LINEAR: Duration = Duration::from_secs(12);
/// Beyond its deadline a step is given this long to say so itself.
pub(super) const STEP_GRACE: Duration = Duration::from_secs(5);
/// A probe of the service that has no answer after this long has none.
pub(super) const PROBE_WAIT: Duration = Duration::from_secs(1);
/// Probes of one target that are under way at once; more count as unanswered.
pub(super) const PROBES_AT_ONCE: usize = 32;
/// Probes and observers that may be named.
pub(super) const MAX_TARGETS: usize = 16;
/// Bytes of an HTTP answer that are looked at: its first line.
pub(super) const HTTP_HEAD: usize = 256;
/// Answers kept: an hour of two members. More are counted, not kept, and the drill is ended.
pub(super) const MAX_ANSWERS: usize = 400_000;
/// How it is before anything is done, unless told otherwise.
pub(super) const BASELINE: &str = "3s";
/// How long it stays at the other site, unless told otherwise.
pub(super) const HOLD: &str = "10s";
/// After a move the service is watched for this long, so that its outage has an end.
pub(super) const SETTLE: Duration = Duration::from_millis(500);
/// How many milliseconds later than predicted a phase may be, unless told otherwise.
pub(super) const ALLOWANCE_MS: u64 = 500;
/// The service may be without an answer for twice what was predicted, and this long.
pub(super) const OUTAGE_GRACE: Duration = Duration::from_secs(5);
/// A majority or a member that is away for this long is away; an election is shorter.
pub(super) const AWAY: Duration = Duration::from_secs(4);
/// What may end a drill is looked at this often.
pub(super) const GUARD_EVERY: Duration = Duration::from_millis(50);
/// The state is asked for this often on the way back.
pub(super) const BACK_EVERY: Duration = Duration::from_millis(100);
/// A certificate that ends sooner is renewed before anything is tried. It is renewed by itself
/// weeks earlier, so something is wrong then.
pub(super) const CERTIFICATE_DAYS: f64 = 7.0;
/// What is said of a grant's start comes a moment after it.
pub(super) const SEEN: Duration = Duration::from_secs(5);
/// Longest hold and baseline: what is seen meanwhile is kept.
pub(super) const MAX_HOLD: Duration = Duration::from_hours(1);
/// A probe asks this often, unless told otherwise.
pub(super) const PROBE_EVERY: &str = "100ms";
/// And not more often than this.
pub(super) const MIN_EVERY: Duration = Duration::from_millis(10);
