//! The ends of an agent.
//!
//! *In order*: tickets are stopped and released, the session is closed, within a bound; another site
//! can take over at once. *At once*: nothing is stopped here; the leases run out, and the guard stops
//! what runs before that. *Fatal*: the member cannot go on (its disk failed, say): what runs is
//! stopped here, because no lease will be renewed, and the guard stands behind it.

use std::process::ExitCode;
use std::time::Duration;

use tierce_ticket::holder::StopReason;
use tierce_ticket::member::Input;
use tierce_ticket::time::HolderTime;
use tokio::time::{Instant, sleep, timeout};

use super::{Agent, End};
use crate::limits::LEAVE_GRACE;
use crate::runner::{RunnerOrder, RunnerView};

/// How often it is looked whether everything has stopped.
const LOOK: Duration = Duration::from_millis(50);
/// The member's last write.
const MEMBER_ENDS: Duration = Duration::from_secs(2);

impl Agent {
    /// Gives all tickets up and closes the session.
    pub(super) fn begin_leaving(&mut self) {
        if self.leave_by.is_some() {
            return;
        }
        let budget = self.longest_stop();
        tracing::info!("leaving: tickets are released, for {budget:?} at the most");
        self.leave_by = Some(Instant::now() + budget);
        self.shared.state().leaving = true;
        self.report_readiness();
        self.give(Input::Leave);
        self.shared.tell_changed();
    }

    fn longest_stop(&self) -> Duration {
        let config = self.shared.config();
        let longest = config.policies().iter().map(|(_, p)| p.stop_budget).max();
        longest.unwrap_or_default().max(config.timing().stop_budget) + LEAVE_GRACE
    }

    /// Whether leaving has ended, well or by its bound.
    pub(super) async fn has_left(&self, by: Instant) -> Option<End> {
        let read = self
            .shared
            .member
            .read(|m, _| m.holder().is_none_or(|h| h.has_left() || h.session().is_none()));
        let left = read.await.unwrap_or(true);
        if left && !anything_runs(&self.shared.runner.view().await) {
            return Some(End::InOrder);
        }
        if Instant::now() < by {
            return None;
        }
        tracing::warn!("leaving took too long: what still runs is left to the node guard");
        Some(End::AtOnce { asked: false })
    }

    /// Ends all parts in their order.
    pub(super) async fn finish(mut self, end: End) -> ExitCode {
        self.tell_losses();
        let code = match end {
            End::InOrder | End::AtOnce { asked: true } => ExitCode::SUCCESS,
            End::AtOnce { asked: false } => ExitCode::FAILURE,
            End::Fatal(why) => {
                self.fatal(&why).await;
                ExitCode::FAILURE
            }
        };
        self.shared.runner.shutdown().await;
        let _ = timeout(MEMBER_ENDS, self.shared.member.shutdown()).await;
        self.shared.host.shutdown("the agent ends").await;
        let shared = self.shared.clone();
        let _ = tokio::task::spawn_blocking(move || shared.history.close()).await;
        let _ = std::fs::remove_file(self.shared.config().control_path());
        tracing::info!("the agent has ended");
        code
    }

    /// Stops what runs, as far as time allows, and keeps the recording.
    async fn fatal(&mut self, why: &str) {
        tracing::error!("the member cannot go on: {why}; what runs here is stopped");
        let dir = self.shared.config().data.join("dumps");
        let dumped = tokio::task::spawn_blocking(move || tierce_trace::dump("fatal", &dir));
        let timing = self.shared.config().timing();
        let now = tierce_member::now().holder;
        let by =
            self.deadline.minus(timing.watchdog_stretched()).minus(timing.stop_budget).max(now);
        let until = Instant::now() + self.longest_stop();
        self.stop_everything(by).await;
        while anything_runs(&self.shared.runner.view().await) && Instant::now() < until {
            self.runner_events.try_recv().ok(); // room for the runner to go on
            sleep(LOOK).await;
        }
        let _ = dumped.await;
    }

    async fn stop_everything(&mut self, by: HolderTime) {
        let view = self.shared.runner.view().await;
        let names = self.shared.state().names.clone();
        for (name, run) in view.tickets {
            let Some((ticket, _)) = names.iter().find(|(_, n)| **n == name) else { continue };
            let (ticket, term) = (*ticket, run.term);
            let why = StopReason::NotOurs;
            self.shared.runner.order(RunnerOrder::Stop { ticket, name, term, why, by });
        }
    }
}

fn anything_runs(view: &RunnerView) -> bool {
    let active = ["starting", "running", "stopping", "stop-failed", "frozen"];
    view.tickets.values().any(|t| active.contains(&t.phase.as_str()))
}
