//! Hole 10: votes that a restart forgets.

use std::time::Duration;

use tierce_rig::tierce::THIRD;

use super::lab::{Ours, Theirs};
use crate::fault::WATCH;

/// Times that the arbitrator is killed and started again.
const TIMES: usize = 4;
/// Longest time between two of them: the takeover of a lease of one second is among them.
const EVERY: Duration = Duration::from_millis(800);

pub(crate) fn arbitrator_forgets(o: &mut Ours, holder: usize) -> anyhow::Result<String> {
    o.cluster.net().isolate(holder);
    for _ in 0..TIMES {
        std::thread::sleep(o.random.up_to(EVERY));
        anyhow::ensure!(o.cluster.runs(THIRD), "the arbitrator did not come up again");
        o.cluster.kill_daemon(THIRD);
        o.cluster.start_daemon(THIRD)?;
    }
    std::thread::sleep(WATCH);
    Ok(format!("the arbitrator was killed {TIMES} times"))
}

pub(crate) fn peer_arbitrator_forgets(t: &mut Theirs) -> anyhow::Result<Duration> {
    t.held()?;
    t.booth.net().isolate(0);
    for _ in 0..TIMES {
        std::thread::sleep(t.random.up_to(EVERY));
        t.booth.kill_daemon(2);
        t.booth.start_daemon(2)?;
    }
    std::thread::sleep(WATCH);
    Ok(t.overlap())
}
