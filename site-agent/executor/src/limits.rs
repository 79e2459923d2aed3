//! Every bound of this crate, in one place.

use std::time::Duration;

/// Timeout of an action when nothing else is said; the value existing configurations assume.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(20);
/// Actions that may run at once, beside stops.
pub const DEFAULT_PARALLEL: usize = 8;
/// Most that may be asked for.
pub const MAX_PARALLEL: usize = 256;
/// Between TERM and KILL.
pub const TERM_GRACE: Duration = Duration::from_secs(1);
/// How long a killed process may take to disappear before the action is reported unkillable.
pub const KILL_WAIT: Duration = Duration::from_secs(5);
/// How long output is awaited after the agent's own process ended. A daemon it started may hold
/// the pipe for good, so this is short.
pub const DRAIN_WAIT: Duration = Duration::from_millis(50);
/// Tail kept of each of stdout and stderr.
pub const MAX_OUTPUT_BYTES: usize = 8 << 10;
/// Output kept when it is the answer: an agent's metadata.
pub const MAX_METADATA_BYTES: usize = 1 << 20;
/// XML nodes in an agent's metadata.
pub const MAX_METADATA_NODES: u32 = 100_000;
/// Longest resource id, agent or provider name.
pub const MAX_NAME_BYTES: usize = 255;
/// Parameters of one resource.
pub const MAX_PARAMETERS: usize = 1000;
/// Time to reach the system bus.
pub const BUS_CONNECT: Duration = Duration::from_secs(5);
/// Pause between two looks at a unit that is on its way to another state.
pub const UNIT_POLL: Duration = Duration::from_millis(100);
