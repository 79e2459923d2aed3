//! Bounds of the rig.

use std::time::Duration;

/// Machines of one network.
pub const MAX_MACHINES: usize = 7;
/// Packets on their way in one switch; what comes beyond is dropped and counted, as in a router.
pub const MAX_IN_FLIGHT: usize = 65_536;
/// Longest wait of a packet for its turn on a narrow line.
pub const QUEUE: Duration = Duration::from_millis(200);
/// Packets of one recording.
pub const MAX_RECORDED: usize = 4_096;
/// Longest packet: the machines' interfaces take 1,500 bytes.
pub const MAX_PACKET_BYTES: usize = 2_048;
/// Interface and switch names none of these longer.
pub const INTERFACE: &str = "rig0";
/// Packets that an interface holds for the switch.
pub const INTERFACE_QUEUE: u32 = 10_000;
/// Between two looks at a log or socket that is waited for. Figures come from stamps, never from
/// the moment of a look.
pub const LOOK: Duration = Duration::from_millis(4);
/// A daemon that does not answer for this long is broken.
pub const ANSWER: Duration = Duration::from_mins(1);
/// A cluster forms within this time, also beside other builds.
pub const FORM: Duration = Duration::from_mins(1);
/// The witness notes that it is alive this often.
pub const BEAT: Duration = Duration::from_millis(2);
/// Real-time priority of the switch: below booth's 99 and the guard's, above everybody else's.
pub const SWITCH_PRIORITY: i32 = 40;
/// Lines of a log shown beside an error.
pub const LOG_TAIL: usize = 40;
/// The processes of a machine without power are gone within this time; they cannot resist.
pub const GONE: Duration = Duration::from_secs(5);
